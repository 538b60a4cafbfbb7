//! Time to live of a job: how long it may be RUNNING before it is TERMINATED.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::InvalidId;

/// An ISO 8601 duration (RFC 3339, appendix A) such as `PT30H`, kept as given and as seconds.
/// Calendar units are counted as days of 24 hours; years and months are refused, their length is not fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ttl {
    text: String,
    seconds: u64,
}

impl Ttl {
    /// How long.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// As the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Ttl {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fault = || InvalidId {
            kind: "duration",
            given: text.chars().take(80).collect(),
            rule: "an ISO 8601 duration of weeks, days, hours, minutes and seconds, such as PT30H, from 1 s to 365 days",
        };
        if !text.starts_with('P') || text.len() > 64 {
            return Err(fault());
        }
        let span: jiff::Span = text.parse().map_err(|_| fault())?;
        if span.get_years() != 0 || span.get_months() != 0 {
            return Err(fault());
        }
        let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
        let whole = span
            .get_seconds()
            .checked_add(span.get_minutes().checked_mul(60).ok_or_else(fault)?)
            .and_then(|sum| sum.checked_add(i64::from(span.get_hours()).checked_mul(3600)?))
            .and_then(|sum| sum.checked_add(days.checked_mul(86_400)?))
            .ok_or_else(fault)?;
        let seconds = u64::try_from(whole).map_err(|_| fault())?;
        if !(1..=LONGEST_SECONDS).contains(&seconds) {
            return Err(fault());
        }
        Ok(Ttl { text: text.to_owned(), seconds })
    }
}

impl TryFrom<String> for Ttl {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Ttl> for String {
    fn from(ttl: Ttl) -> String {
        ttl.text
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const LONGEST_SECONDS: u64 = 365 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_the_sum_of_its_parts() {
        for (text, seconds) in [("PT30H", 108_000), ("P1DT1H1M1S", 90_061), ("P2W", 1_209_600), ("PT90S", 90)] {
            assert_eq!(text.parse::<Ttl>().map(|ttl| ttl.duration().as_secs()), Ok(seconds), "{text}");
        }
        for wrong in ["", "30H", "PT", "PT0S", "-PT1H", "P1Y", "P1M", "PT1H ", "P400D", "1h", "PT99999999999999999999H"]
        {
            assert!(wrong.parse::<Ttl>().is_err(), "{wrong}");
        }
    }
}
