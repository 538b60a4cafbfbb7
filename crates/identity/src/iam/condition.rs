//! When a policy applies: a tree of at most three levels, whose leaves compare what is known of a request.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::{civil::Weekday, tz::TimeZone};
use serde_json::Value;

use super::document::{InvalidDocument, Place};

/// When a policy applies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// All hold.
    And(Vec<Condition>),
    /// One holds at least.
    Or(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// All of these are so.
    Match(Vec<Leaf>),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// `resource.Tag(NAME)`: the resource has the tag with this value.
    Tag {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// `date(ZONE).WeekDay`, `date(ZONE).WeekDay.In`: it is one of these days there.
    WeekDay {
        /// The zone's name.
        zone: String,
        /// The days.
        days: Vec<Weekday>,
    },
    /// `request.IP`: the request comes from this address, or from this block of addresses.
    Ip(IpNet),
}

impl Condition {
    /// Reads a tree. An unknown key or operator is refused by its name.
    pub(super) fn parse(value: &Value, place: &Place) -> Result<Condition, InvalidDocument> {
        let mut values = 0;
        parse(value, place, 1, &mut values)
    }

    /// Every leaf.
    pub(super) fn leaves(&self) -> Vec<&Leaf> {
        match self {
            Condition::And(parts) | Condition::Or(parts) => parts.iter().flat_map(Condition::leaves).collect(),
            Condition::Not(part) => part.leaves(),
            Condition::Match(leaves) => leaves.iter().collect(),
        }
    }
}

fn parse(value: &Value, place: &Place, level: usize, count: &mut usize) -> Result<Condition, InvalidDocument> {
    let object = place.object(value, &["operator", "values", "conditions"])?;
    let at = place.field("operator");
    let operator = at.text(object.get("operator"))?;
    let values = place.field("values");
    let parts = place.field("conditions");
    if operator == "MATCH" {
        if !is_empty(object.get("conditions")) {
            return Err(parts.wrong("MATCH holds values, and no conditions"));
        }
        let Some(Value::Object(map)) = object.get("values").filter(|values| !is_empty(Some(*values))) else {
            return Err(values.wrong("MATCH holds at least one value, by its key"));
        };
        *count += map.len();
        if *count > MOST_VALUES {
            return Err(values.wrong(format!("a policy has at most {MOST_VALUES} values in its conditions")));
        }
        let sorted: BTreeMap<&String, &Value> = map.iter().collect();
        let leaves = sorted.into_iter().map(|(key, value)| {
            let at = values.field(&format!("[{}]", cut(key)));
            leaf(key, at.text(Some(value))?, &at)
        });
        return Ok(Condition::Match(leaves.collect::<Result<_, _>>()?));
    }
    if !matches!(operator, "AND" | "OR" | "NOT") {
        return Err(at.wrong(format!("'{}' is none of AND, OR, NOT, MATCH", cut(operator))));
    }
    if !is_empty(object.get("values")) {
        return Err(values.wrong(format!("{operator} holds conditions, and no values")));
    }
    if level >= DEEPEST {
        return Err(at.wrong(format!("conditions are at most {DEEPEST} levels deep, so here stands MATCH")));
    }
    let given = parts.list(object.get("conditions"), MOST_VALUES)?;
    let read = given.iter().enumerate().map(|(index, part)| parse(part, &parts.index(index), level + 1, count));
    let mut read = read.collect::<Result<Vec<Condition>, _>>()?;
    match (operator, read.len()) {
        ("NOT", 1) => Ok(Condition::Not(Box::new(read.swap_remove(0)))),
        ("NOT", _) => Err(parts.wrong("NOT holds one condition")),
        (_, 0) => Err(parts.wrong(format!("{operator} holds at least one condition"))),
        ("AND", _) => Ok(Condition::And(read)),
        _ => Ok(Condition::Or(read)),
    }
}

fn leaf(key: &str, value: &str, place: &Place) -> Result<Leaf, InvalidDocument> {
    if value.len() > LONGEST_VALUE {
        return Err(place.wrong(format!("at most {LONGEST_VALUE} bytes")));
    }
    if key == "request.IP" {
        let block = model::parse_block(value)
            .ok_or_else(|| place.wrong("an address, or a block of addresses such as 192.0.2.0/24"))?;
        return Ok(Leaf::Ip(block.trunc()));
    }
    if let Some(name) = key.strip_prefix("resource.Tag(").and_then(|rest| rest.strip_suffix(')')) {
        return Ok(Leaf::Tag { name: name.to_owned(), value: value.to_owned() });
    }
    if let Some((zone, field)) = key.strip_prefix("date(").and_then(|rest| rest.split_once(").")) {
        let days = match field {
            "WeekDay" => vec![day(value, place)?],
            "WeekDay.In" => value.split(',').map(|word| day(word, place)).collect::<Result<_, _>>()?,
            _ => return Err(unknown(key, place)),
        };
        // Only a name of the database: a POSIX rule would be taken too.
        let named = TimeZone::get(zone).ok().filter(|found| found.iana_name().is_some());
        if named.is_none() {
            return Err(place.wrong(format!("'{}' is not a time zone that this machine knows", cut(zone))));
        }
        return Ok(Leaf::WeekDay { zone: zone.to_owned(), days });
    }
    Err(unknown(key, place))
}

fn unknown(key: &str, place: &Place) -> InvalidDocument {
    place.wrong(format!(
        "the key '{}' is not known; known are resource.Tag(NAME), date(ZONE).WeekDay, date(ZONE).WeekDay.In, request.IP",
        cut(key)
    ))
}

fn day(word: &str, place: &Place) -> Result<Weekday, InvalidDocument> {
    let found = DAYS.iter().find(|(name, _)| *name == word).map(|(_, day)| *day);
    found.ok_or_else(|| place.wrong(format!("'{}' is not a day: monday to sunday, in lower case", cut(word))))
}

/// The word for a day.
pub(super) fn day_name(day: Weekday) -> &'static str {
    DAYS.iter().find(|(_, known)| *known == day).map_or("", |(name, _)| *name)
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

const DAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];
const DEEPEST: usize = 3;
const MOST_VALUES: usize = 256;
const LONGEST_VALUE: usize = 512;
