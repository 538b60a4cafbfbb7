//! Object lock: which versions may not be removed, by whom, until when. Every way in which bytes of a version can go
//! passes [`check`]: deletes of any caller, overwrites, lifecycle rules.
//!
//! Rules of <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>. Time is the store's own, which is
//! never set back.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use crate::{
    Error,
    rows::{BucketRow, DefaultRetention, Mode, ObjectRow, Period, Retention},
    store::time,
};

/// Says why a version may not be removed at `now`, in milliseconds of Unix time. `bypass` lifts governance, and nothing
/// else; that the caller has the right to it was decided before.
pub fn check(row: &ObjectRow, now: i64, bypass: bool) -> Result<(), Error> {
    if row.hold {
        return Err(Error::Locked("it has a legal hold".to_owned()));
    }
    match row.retention {
        Some(retention) if retention.until > now && !(bypass && retention.mode == Mode::Governance) => {
            Err(kept(retention))
        }
        _ => Ok(()),
    }
}

/// Says why a version's retention may not become another, or none, at `now`. What still keeps it can be prolonged by
/// anyone; only governance can be weakened, with `bypass`.
pub fn check_change(
    present: Option<Retention>,
    wanted: Option<Retention>,
    now: i64,
    bypass: bool,
) -> Result<(), Error> {
    if let Some(wanted) = wanted {
        check_new(wanted, now)?;
    }
    let Some(present) = present.filter(|present| present.until > now) else { return Ok(()) };
    if bypass && present.mode == Mode::Governance {
        return Ok(());
    }
    match wanted {
        Some(wanted) if wanted.mode == present.mode && wanted.until >= present.until => Ok(()),
        _ => Err(kept(present)),
    }
}

/// Says why a version cannot be kept so.
pub fn check_new(wanted: Retention, now: i64) -> Result<(), Error> {
    if wanted.until <= now {
        return Err(Error::InvalidRetention("the date until which a version is kept is not in the future".to_owned()));
    }
    if wanted.until > now.saturating_add(i64::from(MOST_YEARS) * 366 * DAY) {
        return Err(Error::InvalidRetention(format!("a version is kept for at most {MOST_YEARS} years")));
    }
    Ok(())
}

/// The locks of a new version: what its writer wants, else what the bucket does by itself.
pub fn of_new(
    bucket: &BucketRow,
    wanted: Option<Retention>,
    hold: bool,
    now: i64,
) -> Result<(Option<Retention>, bool), Error> {
    let Some(settings) = &bucket.lock else {
        return if wanted.is_some() || hold { Err(Error::NoLock) } else { Ok((None, false)) };
    };
    if let Some(wanted) = wanted {
        check_new(wanted, now)?;
        return Ok((Some(wanted), hold));
    }
    Ok((settings.default.map(|default| Retention { mode: default.mode, until: end(default.period, now) }), hold))
}

/// Says why a bucket cannot keep versions so by itself.
pub fn check_default(default: DefaultRetention) -> Result<(), Error> {
    let (number, most, unit) = match default.period {
        Period::Days(days) => (days, MOST_DAYS, "days"),
        Period::Years(years) => (years, MOST_YEARS, "years"),
    };
    if number == 0 || number > most {
        return Err(Error::InvalidRetention(format!("versions are kept for 1 to {most} {unit}")));
    }
    Ok(())
}

/// When a time that begins now ends.
fn end(period: Period, now: i64) -> i64 {
    match period {
        Period::Days(days) => now.saturating_add(i64::from(days) * DAY),
        Period::Years(years) => {
            let later = TimeZone::UTC.to_datetime(time(now)).checked_add(i64::from(years).years());
            let later = later.and_then(|later| TimeZone::UTC.to_timestamp(later));
            later.unwrap_or(Timestamp::MAX).as_millisecond()
        }
    }
}

fn kept(retention: Retention) -> Error {
    let mode = match retention.mode {
        Mode::Governance => "governance",
        Mode::Compliance => "compliance",
    };
    Error::Locked(format!("{mode} keeps it until {}", time(retention.until)))
}

/// Of AWS.
const MOST_DAYS: u32 = 36_500;
/// Of AWS.
const MOST_YEARS: u32 = 100;
const DAY: i64 = 24 * 60 * 60 * 1000;
