//! What of the time and the address of a request statements look at. Between two requests that are the same in this,
//! what the statements say is the same.

use std::{collections::BTreeSet, sync::OnceLock};

use ipnet::IpNet;
use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

use super::{Condition, Facts, Failed, Leaf, decide::Statement};

/// What statements look at.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// When statements end, in Unix microseconds, rising.
    ends: Vec<i64>,
    blocks: Vec<IpNet>,
    names: Vec<String>,
    /// Of these names; looked up when first asked for, for that reads the machine's time zones.
    zones: OnceLock<Vec<(String, TimeZone)>>,
}

/// How a request is, in what [`Watched`] looks at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// How many of the ends are past.
    past: usize,
    days: Vec<Weekday>,
    /// Of each block, whether the address is in it: a bit.
    within: Vec<u64>,
}

impl Watched {
    /// What these statements look at.
    pub(super) fn by<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Watched {
        let (mut ends, mut blocks, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for statement in statements {
            ends.extend(statement.expired_at.map(Timestamp::as_microsecond));
            for leaf in statement.conditions.as_deref().map(Condition::leaves).unwrap_or_default() {
                match leaf {
                    // Tags are those of the resource of the question, as long as the policies are the same.
                    Leaf::Tag { .. } => {}
                    Leaf::Ip(block) => drop(blocks.insert(*block)),
                    Leaf::WeekDay { zone, .. } => drop(names.insert(zone.clone())),
                }
            }
        }
        Watched {
            ends: ends.into_iter().collect(),
            blocks: blocks.into_iter().collect(),
            names: names.into_iter().collect(),
            zones: OnceLock::new(),
        }
    }

    /// The zones, with their names. One that the machine cannot read now is looked up again the next time.
    pub(super) fn zones(&self) -> Result<&[(String, TimeZone)], Failed> {
        if let Some(known) = self.zones.get() {
            return Ok(known);
        }
        let zone = |name: &String| TimeZone::get(name).map(|zone| (name.clone(), zone));
        let found = self.names.iter().map(zone).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|fault| Failed(fault.to_string()))?;
        Ok(self.zones.get_or_init(|| found))
    }

    /// How a request is. Without one of the zones that is not known, and nothing is an answer to it.
    pub(super) fn circumstances(&self, facts: &Facts) -> Result<Circumstances, Failed> {
        let now = facts.at.as_microsecond();
        let zones = self.zones()?;
        let mut within = vec![0; self.blocks.len().div_ceil(64)];
        if let Some(ip) = facts.source_ip.map(|ip| ip.to_canonical()) {
            for (number, block) in self.blocks.iter().enumerate() {
                within[number / 64] |= u64::from(block.contains(&ip)) << (number % 64);
            }
        }
        Ok(Circumstances {
            past: self.ends.partition_point(|end| *end <= now),
            days: zones.iter().map(|(_, zone)| week_day(facts.at, zone)).collect(),
            within,
        })
    }
}

/// The day of the week of a moment in a zone.
pub(super) fn week_day(at: Timestamp, zone: &TimeZone) -> Weekday {
    zone.to_datetime(at).weekday()
}
