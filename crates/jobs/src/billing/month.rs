//! A month of the calendar, in UTC: what a statement is about.

use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};

/// A month, such as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    first: Date,
}

/// A text that names no month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a month such as 2026-11")]
pub struct InvalidMonth;

impl Month {
    /// The month that a time is in.
    pub fn of(at: Timestamp) -> Month {
        Month { first: TimeZone::UTC.to_datetime(at).date().first_of_month() }
    }

    /// Its first moment.
    pub fn start(self) -> Timestamp {
        start(self.first)
    }

    /// The first moment of the next one.
    pub fn end(self) -> Timestamp {
        self.next().map_or(Timestamp::MAX, |next| start(next.first))
    }

    /// The month after it; `None` at the end of the calendar.
    pub fn next(self) -> Option<Month> {
        self.first.checked_add(1.month()).ok().map(|first| Month { first })
    }
}

fn start(day: Date) -> Timestamp {
    TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX)
}

impl std::str::FromStr for Month {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Month, InvalidMonth> {
        let form = text.len() == 7
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let first: Date = form.then(|| format!("{text}-01").parse().ok()).flatten().ok_or(InvalidMonth)?;
        Ok(Month { first })
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.first.year(), self.first.month())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let december: Month = "2026-12".parse().expect("a month");
        assert_eq!(december.start().to_string(), "2026-12-01T00:00:00Z");
        assert_eq!(december.end().to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(Month::of(december.end()), december.next().expect("a month"));
        assert_eq!(december.to_string(), "2026-12");
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for text in ["", "2026", "2026-13", "2026-00", "2026-1", "2026-11-01", "+026-11", "2026/11", "२०२६-11"]
        {
            assert_eq!(text.parse::<Month>(), Err(InvalidMonth), "{text}");
        }
    }
}
