//! When a schedule comes: the five fields of cron, read on the clock of a time zone.
//!
//! `cronexpr` finds the next civil time that the fields name; what that is in the zone is decided here, for a clock that is
//! changed has hours that do not come, and hours that come twice:
//!
//! - Where the hour is a number, each civil time comes once a day: one in the hour that is left out comes right after it, and
//!   one in the hour that comes twice comes the first time.
//! - Where the hour begins with `*`, the clock that passes counts: what is left out is left out, and what comes twice comes
//!   twice. So every fifteen minutes stay every fifteen minutes.

use cronexpr::MakeTimestamp;
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

/// An expression in a time zone.
#[derive(Debug, Clone)]
pub(crate) struct Cron {
    /// In UTC, so that a civil time goes in and comes out.
    fields: cronexpr::Crontab,
    zone: TimeZone,
    /// Whether the clock that passes counts.
    elapsed: bool,
}

/// Why a text is no expression; one sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidCron(pub String);

impl Cron {
    /// Five fields (minute, hour, day of the month, month, day of the week), or a nickname such as `@daily`.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Cron, InvalidCron> {
        let words = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            nickname if nickname.starts_with('@') => {
                return Err(InvalidCron("the nicknames are @yearly, @monthly, @weekly, @daily and @hourly".to_owned()));
            }
            fields => fields,
        };
        let fields: Vec<&str> = words.split_ascii_whitespace().collect();
        if fields.len() != FIELDS || text.len() > LONGEST {
            return Err(InvalidCron(
                "five fields of cron (minute, hour, day of the month, month, day of the week), such as 30 2 * * 1-5, or a \
                 nickname such as @daily"
                    .to_owned(),
            ));
        }
        // By `cronexpr` no day of December is the last of its month or of its kind: such a time would be left out unseen.
        if [fields[2], fields[4]].iter().any(|field| field.split(',').any(is_last)) {
            return Err(InvalidCron(
                "the last day of a month (L) cannot be named; take 1 for the day after it".to_owned(),
            ));
        }
        let elapsed = fields[1].starts_with('*');
        // Of the lines of the fault, the last one says what is wrong, below the place.
        let parsed = cronexpr::parse_crontab(&format!("{} UTC", fields.join(" "))).map_err(|fault| {
            let told = fault.to_string();
            let told = told.lines().last().unwrap_or_default().trim_start_matches([' ', '^']);
            InvalidCron(format!("not the fields of cron: {}", told.chars().take(200).collect::<String>()))
        })?;
        Ok(Cron { fields: parsed, zone, elapsed })
    }

    /// The first time after `after`; `None` where there is none within four years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        if self.elapsed { self.next_by_elapsed(after) } else { self.next_by_civil(after) }
    }

    /// Each civil time that is named, where it stands on the clock of the zone.
    fn next_by_civil(&self, after: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(after);
        // Where the hour comes twice, times that came before `after` the first time are named again.
        for _ in 0..MOST_REPEATED {
            civil = self.next_civil(civil)?;
            let found = match self.zone.to_ambiguous_timestamp(civil).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok()?,
                AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok()?,
                // By the offset of before, the clock would stand somewhere after the change.
                AmbiguousOffset::Gap { before, .. } => {
                    let would_be = before.to_timestamp(civil).ok()?;
                    self.zone.preceding(would_be.checked_add(TICK).ok()?).next()?.timestamp()
                }
            };
            if found > after {
                return Some(found);
            }
        }
        None
    }

    /// Each time at which the clock of the zone shows what is named.
    fn next_by_elapsed(&self, after: Timestamp) -> Option<Timestamp> {
        let (mut at, mut civil) = (after, self.zone.to_datetime(after));
        for _ in 0..MOST_CHANGES {
            let offset = self.zone.to_offset(at);
            let found = offset.to_timestamp(self.next_civil(civil)?).ok()?;
            let Some(change) = self.zone.following(at).next().map(|change| change.timestamp()) else {
                return Some(found);
            };
            if found < change {
                return Some(found);
            }
            // From the change on the clock is another; its own minute may be named.
            at = change;
            civil = self.zone.to_datetime(change).checked_sub(TICK).ok()?;
        }
        None
    }

    /// The newest times from `from` on that are before `before`, at most `most`, oldest first. Looks back from `before` in
    /// growing steps, so that years of minutes are not gone through for a few of them.
    pub fn newest_before(&self, from: Timestamp, before: Timestamp, most: usize) -> Vec<Timestamp> {
        let mut found = Vec::new();
        if most == 0 {
            return found;
        }
        for step in LOOKS_BACK {
            let begin = before.checked_sub(step).map_or(from, |begin| begin.max(from));
            found.clear();
            // From a tick before, so that `begin` itself is found.
            let mut at = begin.checked_sub(TICK).unwrap_or(begin);
            while let Some(next) = self.next_after(at).filter(|next| *next < before) {
                found.push(next);
                at = next;
            }
            if found.len() >= most || begin == from {
                break;
            }
        }
        found.split_off(found.len().saturating_sub(most))
    }

    /// The next civil time after another that the fields name.
    fn next_civil(&self, after: DateTime) -> Option<DateTime> {
        // `cronexpr` looks four years ahead, and panics where the calendar ends before that.
        if after.year() > LAST_YEAR {
            return None;
        }
        let seconds = Offset::UTC.to_timestamp(after).ok()?.as_second();
        let found = self.fields.find_next(MakeTimestamp::from_second(seconds).ok()?).ok()?;
        Some(Offset::UTC.to_datetime(Timestamp::from_second(found.timestamp().as_second()).ok()?))
    }
}

/// Whether an item of a field means the last day, or the last one of a weekday.
fn is_last(item: &str) -> bool {
    let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    item.strip_suffix(['L', 'l'])
        .is_some_and(|day| day.len() <= 1 || days.iter().any(|name| day.eq_ignore_ascii_case(name)))
}

const FIELDS: usize = 5;
const LAST_YEAR: i16 = 9990;
const LONGEST: usize = 200;
const TICK: SignedDuration = SignedDuration::from_micros(1);
/// More times than an hour that comes twice can name, with room.
const MOST_REPEATED: u32 = 2_000;
/// More changes of a clock than there are in four years.
const MOST_CHANGES: u32 = 64;
const LOOKS_BACK: [SignedDuration; 4] = [
    SignedDuration::from_hours(2),
    SignedDuration::from_hours(2 * 24),
    SignedDuration::from_hours(60 * 24),
    SignedDuration::from_hours(10 * 366 * 24),
];

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn cron(text: &str, zone: &str) -> Cron {
        Cron::parse(text, TimeZone::get(zone).expect("a zone")).expect("an expression")
    }

    /// The next times, as the clock of the zone shows them, with its offset.
    fn next(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron = cron(text, zone);
        let mut at: Timestamp = after.parse().expect("a time");
        (0..count)
            .map(|_| {
                at = cron.next_after(at).expect("a time");
                at.to_zoned_datetime(cron.zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string()
            })
            .collect()
    }

    #[test]
    fn fields_mean_what_cron_means() {
        let utc = |text: &str, after: &str, count| -> Vec<String> {
            next(text, "UTC", after, count).iter().map(|time| time.trim_end_matches(" +00:00").to_owned()).collect()
        };
        let start = "2026-11-26T03:07:30Z";
        for (text, expected) in [
            ("* * * * *", ["2026-11-26 03:08", "2026-11-26 03:09"]),
            ("*/20 * * * *", ["2026-11-26 03:20", "2026-11-26 03:40"]),
            ("5,50 3 * * *", ["2026-11-26 03:50", "2026-11-27 03:05"]),
            ("0 9-11 * * mon-fri", ["2026-11-26 09:00", "2026-11-26 10:00"]),
            ("0 0 31 * *", ["2026-12-31 00:00", "2027-01-31 00:00"]),
            ("0 0 29 2 *", ["2028-02-29 00:00", "2032-02-29 00:00"]),
            // Day of the month or day of the week, where both are given.
            ("0 0 1 * 0", ["2026-11-29 00:00", "2026-12-01 00:00"]),
            ("0 0 * * 7", ["2026-11-29 00:00", "2026-12-06 00:00"]),
            ("@hourly", ["2026-11-26 04:00", "2026-11-26 05:00"]),
            ("@daily", ["2026-11-27 00:00", "2026-11-28 00:00"]),
            ("@weekly", ["2026-11-29 00:00", "2026-12-06 00:00"]),
            ("@monthly", ["2026-12-01 00:00", "2027-01-01 00:00"]),
            ("@yearly", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ] {
            assert_eq!(utc(text, start, 2), expected, "{text}");
        }
    }

    #[test]
    fn an_hour_that_is_left_out_comes_right_after_and_one_that_comes_twice_comes_once() {
        // Clocks in Paris: 2026-03-29 02:00 is 03:00, 2026-10-25 03:00 is 02:00; 2027-03-28 and 2027-10-31 the same.
        assert_eq!(
            next("30 2 * * *", "Europe/Paris", "2026-03-27T12:00:00Z", 3),
            ["2026-03-28 02:30 +01:00", "2026-03-29 03:00 +02:00", "2026-03-30 02:30 +02:00"]
        );
        assert_eq!(
            next("30 2 * * *", "Europe/Paris", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]
        );
        assert_eq!(
            next("0,30 2,3 28 3 *", "Europe/Paris", "2027-03-27T12:00:00Z", 3),
            ["2027-03-28 03:00 +02:00", "2027-03-28 03:30 +02:00", "2028-03-28 02:00 +02:00"],
            "all that is left out comes once"
        );
        // From within the second of the two hours, what came in the first does not come again.
        assert_eq!(next("*/30 2 * * *", "Europe/Paris", "2027-10-31T01:10:00Z", 1), ["2027-11-01 02:00 +01:00"]);
    }

    #[test]
    fn every_hour_follows_the_clock_that_passes() {
        assert_eq!(
            next("30 * * * *", "Europe/Paris", "2026-03-29T00:00:00Z", 3),
            ["2026-03-29 01:30 +01:00", "2026-03-29 03:30 +02:00", "2026-03-29 04:30 +02:00"]
        );
        assert_eq!(
            next("30 * * * *", "Europe/Paris", "2026-10-25T00:00:00Z", 3),
            ["2026-10-25 02:30 +02:00", "2026-10-25 02:30 +01:00", "2026-10-25 03:30 +01:00"]
        );
        assert_eq!(
            next("0 * * * *", "Europe/Paris", "2026-03-29T00:30:00Z", 2),
            ["2026-03-29 03:00 +02:00", "2026-03-29 04:00 +02:00"],
            "the minute of the change itself"
        );
        // A zone that changes by half an hour: Lord Howe, 2026-04-05 02:00 is 01:30.
        assert_eq!(
            next("0,45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:10:00Z", 4),
            [
                "2026-04-05 01:45 +11:00",
                "2026-04-05 01:45 +10:30",
                "2026-04-05 02:00 +10:30",
                "2026-04-05 02:45 +10:30"
            ]
        );
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_rule() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "a * * * *",
            "1-0 * * * *",
            "*/0 * * * *",
            "@reboot",
            "@every 5m",
            "* * * * * UTC",
            "é * * * *",
            "* * * * \0",
            "0 0 L * *",
            "0 0 1,l * *",
            "0 0 * * 5L",
            "0 0 * * friL",
        ] {
            let fault = Cron::parse(text, TimeZone::UTC).expect_err(text);
            assert!(!fault.0.contains('\n') && fault.0.len() < 300, "{text}: {fault}");
        }
        assert!(Cron::parse(&format!("{} * * * *", "1,".repeat(200)), TimeZone::UTC).is_err());
        assert_eq!(cron("0 0 30 2 *", "UTC").next_after(Timestamp::UNIX_EPOCH), None, "a day that never comes");
        let late = "9998-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(cron("* * * * *", "UTC").next_after(late), None, "the calendar ends");
    }

    #[test]
    fn the_newest_times_before_another_are_found_without_going_through_all() {
        let minutes = cron("* * * * *", "UTC");
        let (from, before) =
            ("2016-01-01T00:00:00Z".parse().expect("a time"), "2026-01-01T00:00:00Z".parse().expect("a time"));
        let told = |found: Vec<Timestamp>| found.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(minutes.newest_before(from, before, 2)), ["2025-12-31T23:58:00Z", "2025-12-31T23:59:00Z"]);
        assert_eq!(minutes.newest_before(from, before, 0), []);
        assert_eq!(minutes.newest_before(from, before, 300).len(), 300);
        let yearly = cron("@yearly", "UTC");
        assert_eq!(told(yearly.newest_before(from, before, 2)), ["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]);
        assert_eq!(yearly.newest_before(from, before, 100).len(), 10, "the first is one of them");
        assert_eq!(yearly.newest_before(before, from, 100), []);
    }

    fn field(most: u32, least: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => (least..=most).prop_map(|number| number.to_string()),
            1 => (2u32..=5).prop_map(|step| format!("*/{step}")),
            1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    fn names(field: &str, value: i8, most: u32, least: u32) -> bool {
        let value = u32::try_from(value).expect("small");
        field.split(',').any(|part| match part.split_once('/') {
            Some((_, step)) => (value - least).is_multiple_of(step.parse().expect("a step")),
            None if part == "*" => true,
            None => match part.split_once('-') {
                Some((a, b)) => (a.parse().expect("a")..=b.parse().expect("b")).contains(&value),
                None => part.parse::<u32>().expect("a number") == value,
            },
        }) && (least..=most).contains(&value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Each time is later than the one before, and the clock of the zone shows what the fields name: but for times right
        /// after an hour that was left out. Between two of them no minute is named.
        #[test]
        fn times_strictly_increase_and_each_is_named_by_the_fields(
            fields in (field(59, 0), field(23, 0), field(28, 1), field(12, 1)),
            zone in prop::sample::select(vec!["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
            start in 1_700_000_000i64..1_900_000_000,
        ) {
            let (minute, hour, day, month) = fields;
            let cron = cron(&format!("{minute} {hour} {day} {month} *"), zone);
            let shown = |at: Timestamp| {
                let civil = cron.zone.to_datetime(at);
                civil.second() == 0
                    && names(&minute, civil.minute(), 59, 0)
                    && names(&hour, civil.hour(), 23, 0)
                    && names(&day, civil.day(), 31, 1)
                    && names(&month, civil.month(), 12, 1)
            };
            let mut at = Timestamp::from_second(start).expect("a time");
            for _ in 0..6 {
                let next = cron.next_after(at).expect("within four years");
                prop_assert!(next > at);
                let after_gap = {
                    let before = next.checked_sub(TICK).expect("a time");
                    cron.zone.to_offset(before) < cron.zone.to_offset(next)
                };
                prop_assert!(shown(next) || (!cron.elapsed && after_gap), "{next}");
                if cron.elapsed {
                    // Minutes between, as far as a day.
                    let mut minute = at.as_second() / 60 * 60 + 60;
                    while minute < next.as_second().min(at.as_second() + 86_400) {
                        prop_assert!(!shown(Timestamp::from_second(minute).expect("a time")), "{minute}");
                        minute += 60;
                    }
                }
                at = next;
            }
        }
    }

    #[test]
    fn a_day_has_each_civil_time_once() {
        let cron = cron("15 2 * * *", "America/New_York");
        let mut at: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a time");
        let mut days = std::collections::BTreeSet::new();
        for _ in 0..365 {
            at = cron.next_after(at).expect("a time");
            assert!(days.insert(cron.zone.to_datetime(at).date()), "{at}");
        }
        assert_eq!(days.last(), Some(&date(2027, 1, 1)));
    }
}
