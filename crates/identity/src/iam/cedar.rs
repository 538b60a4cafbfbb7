//! Statements in Cedar. Each policy becomes a `permit` and a `forbid` of its own permissions, and one of each for every
//! permissions group that it names. Each says the whole rule (who, what, on what, when), so that a set of them decides
//! the same with and without the index before it.
//!
//! The principal is the identity that calls; its parents are its other identities and those wildcards of the account's
//! policies that stand for one of them. The resource's parents are the resource groups that it is in, its tags are
//! Cedar's. The context holds `action` and `resource` as texts, `now` in Unix microseconds, `weekdays` by zone, and `ip`
//! where the address is known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, RestrictedExpression,
};
use ipnet::IpNet;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    Condition, Effect, Facts, Leaf, Pattern,
    condition::day_name,
    decide::{Failed, Statement},
    pattern::PatternSet,
    urn::RESOURCE_GROUP_PREFIX,
};

/// A statement as a Cedar policy of that id. It is built as a tree, so that no text of a client is ever parsed as Cedar.
pub(super) fn policy(id: &str, statement: &Statement) -> Result<Policy, Failed> {
    let mut parts = vec![
        any(&statement.identities, "principal", IDENTITY, |pattern| {
            is_in("principal", vec![entity(WILDCARD, pattern.as_str())])
        }),
        any(&statement.resources, "resource", RESOURCE, |pattern| like("resource", pattern)),
    ];
    let [allow, except, deny] = &*statement.permissions;
    match statement.effect {
        Effect::Allow => {
            parts.push(action(allow));
            if !except.is_empty() {
                parts.push(not(action(except)));
            }
        }
        Effect::Deny => parts.push(action(deny)),
    }
    if let Some(end) = statement.expired_at {
        parts.push(json!({ "<": { "left": context("now"), "right": { "Value": end.as_microsecond() } } }));
    }
    parts.extend(statement.conditions.as_deref().map(condition));
    let effect = match statement.effect {
        Effect::Allow => "permit",
        Effect::Deny => "forbid",
    };
    let all = json!({ "op": "All" });
    let tree = json!({
        "effect": effect,
        "principal": all,
        "action": all,
        "resource": all,
        "conditions": [{ "kind": "when", "body": joined("&&", parts) }],
    });
    Policy::from_json(Some(PolicyId::new(id)), tree).map_err(|fault| Failed(fault.to_string()))
}

/// Names of types, parsed once.
#[derive(Debug)]
pub(super) struct Types {
    identity: EntityTypeName,
    wildcard: EntityTypeName,
    resource: EntityTypeName,
    group: EntityTypeName,
    /// Statements compare the action as a text.
    pub(super) action: EntityUid,
}

impl Types {
    pub(super) fn new() -> Result<Types, Failed> {
        let name = |name: &str| name.parse::<EntityTypeName>().map_err(|fault| Failed(fault.to_string()));
        Ok(Types {
            identity: name(IDENTITY)?,
            wildcard: name(WILDCARD)?,
            resource: name(RESOURCE)?,
            group: name(GROUP)?,
            action: uid(&name("Action")?, "call"),
        })
    }

    pub(super) fn principal(&self, identities: &[&str]) -> EntityUid {
        uid(&self.identity, identities.first().copied().unwrap_or_default())
    }

    pub(super) fn resource(&self, urn: &str) -> EntityUid {
        uid(&self.resource, urn)
    }

    /// The principal and the resource, with what they are in.
    pub(super) fn entities(
        &self,
        identities: &[&str],
        wildcards: &[&Pattern],
        resource: &str,
        groups: &[&str],
        tags: Option<&BTreeMap<String, String>>,
    ) -> Result<Entities, Failed> {
        let mut parents: HashSet<EntityUid> = identities.iter().skip(1).map(|name| uid(&self.identity, name)).collect();
        parents.extend(wildcards.iter().map(|pattern| uid(&self.wildcard, pattern.as_str())));
        let principal = self.principal(identities);
        parents.remove(&principal);
        let principal = Entity::new_no_attrs(principal, parents);
        let tags = tags.into_iter().flatten();
        let resource = Entity::new_with_tags(
            self.resource(resource),
            [],
            groups.iter().map(|group| uid(&self.group, group)),
            tags.map(|(name, value)| (name.clone(), RestrictedExpression::new_string(value.clone()))),
        )
        .map_err(|fault| Failed(fault.to_string()))?;
        Entities::from_entities([principal, resource], None).map_err(|fault| Failed(fault.to_string()))
    }
}

/// What a request is, in the words of the statements; days of these zones only.
pub(super) fn request_context<'a>(
    action: &str,
    resource: &str,
    facts: &Facts,
    zones: impl IntoIterator<Item = (&'a String, &'a TimeZone)>,
) -> Result<Context, Failed> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let mut pairs = vec![
        ("action".to_owned(), text(action)),
        ("resource".to_owned(), text(resource)),
        ("now".to_owned(), RestrictedExpression::new_long(facts.at.as_microsecond())),
    ];
    let days: Vec<(String, RestrictedExpression)> =
        zones.into_iter().map(|(name, zone)| (name.clone(), text(week_day(facts.at, zone)))).collect();
    if !days.is_empty() {
        let record = RestrictedExpression::new_record(days).map_err(|fault| Failed(fault.to_string()))?;
        pairs.push(("weekdays".to_owned(), record));
    }
    if let Some(ip) = facts.source_ip {
        pairs.push(("ip".to_owned(), RestrictedExpression::new_ip(ip.to_canonical().to_string())));
    }
    Context::from_pairs(pairs).map_err(|fault| Failed(fault.to_string()))
}

/// The zones that statements ask for.
pub(super) fn zones<'a>(
    statements: impl IntoIterator<Item = &'a Statement>,
) -> Result<HashMap<String, TimeZone>, Failed> {
    let mut names = BTreeSet::new();
    for leaf in
        statements.into_iter().filter_map(|statement| statement.conditions.as_deref()).flat_map(Condition::leaves)
    {
        if let Leaf::WeekDay { zone, .. } = leaf {
            names.insert(zone);
        }
    }
    let zone = |name: &String| TimeZone::get(name).map(|zone| (name.clone(), zone));
    names
        .into_iter()
        .map(zone)
        .collect::<Result<HashMap<_, _>, jiff::Error>>()
        .map_err(|fault| Failed(fault.to_string()))
}

/// The day of the week of a moment in a zone.
pub(super) fn week_day(at: Timestamp, zone: &TimeZone) -> &'static str {
    day_name(zone.to_datetime(at).weekday())
}

fn condition(condition: &Condition) -> Value {
    match condition {
        Condition::And(parts) => joined("&&", parts.iter().map(self::condition).collect()),
        Condition::Or(parts) => joined("||", parts.iter().map(self::condition).collect()),
        Condition::Not(part) => not(self::condition(part)),
        Condition::Match(leaves) => joined("&&", leaves.iter().map(leaf).collect()),
    }
}

fn leaf(leaf: &Leaf) -> Value {
    let both = |left: Value, right: Value| json!({ "&&": { "left": left, "right": right } });
    let resource = json!({ "Var": "resource" });
    match leaf {
        Leaf::Tag { name, value } => {
            let name = json!({ "left": resource, "right": { "Value": name } });
            both(
                json!({ "hasTag": name }),
                json!({ "==": { "left": { "getTag": name }, "right": { "Value": value } } }),
            )
        }
        Leaf::WeekDay { zone, days } => {
            let days: Vec<Value> = days.iter().map(|day| json!({ "Value": day_name(*day) })).collect();
            let today = json!({ ".": { "left": context("weekdays"), "attr": zone } });
            json!({ "contains": { "left": { "Set": days }, "right": today } })
        }
        Leaf::Ip(block) => both(
            json!({ "has": { "left": { "Var": "context" }, "attr": "ip" } }),
            json!({ "isInRange": [context("ip"), { "ip": [{ "Value": range(block) }] }] }),
        ),
    }
}

fn range(block: &IpNet) -> String {
    format!("{}/{}", block.network(), block.prefix_len())
}

/// Whether a thing is one of a set: by `in` for those that are named whole, by `open` for each wildcard.
fn any(set: &PatternSet, variable: &str, kind: &str, open: impl Fn(&Pattern) -> Value) -> Value {
    let mut parts: Vec<Value> = set.open.iter().map(open).collect();
    if !set.exact.is_empty() {
        let named = |urn: &String| entity(if urn.starts_with(RESOURCE_GROUP_PREFIX) { GROUP } else { kind }, urn);
        parts.push(is_in(variable, set.exact.iter().map(named).collect()));
    }
    joined("||", parts)
}

fn action(set: &PatternSet) -> Value {
    let mut parts: Vec<Value> = set.open.iter().map(|pattern| like("action", pattern)).collect();
    if !set.exact.is_empty() {
        let names: Vec<Value> = set.exact.iter().map(|name| json!({ "Value": name })).collect();
        parts.push(json!({ "contains": { "left": { "Set": names }, "right": context("action") } }));
    }
    joined("||", parts)
}

/// Joined as a balanced tree: a long list must not be a deep one. Nothing joined is false.
fn joined(operator: &str, mut parts: Vec<Value>) -> Value {
    if parts.is_empty() {
        return json!({ "Value": false });
    }
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => json!({ operator: { "left": left, "right": right } }),
                None => left,
            });
        }
        parts = pairs;
    }
    parts.swap_remove(0)
}

fn not(part: Value) -> Value {
    json!({ "!": { "arg": part } })
}

fn context(field: &str) -> Value {
    json!({ ".": { "left": { "Var": "context" }, "attr": field } })
}

fn is_in(variable: &str, entities: Vec<Value>) -> Value {
    json!({ "in": { "left": { "Var": variable }, "right": { "Set": entities } } })
}

fn like(field: &str, pattern: &Pattern) -> Value {
    let mut parts = Vec::new();
    if pattern.begins_open() {
        parts.push(json!("Wildcard"));
    }
    if !pattern.fixed().is_empty() {
        parts.push(json!({ "Literal": pattern.fixed() }));
    }
    if pattern.ends_open() {
        parts.push(json!("Wildcard"));
    }
    json!({ "like": { "left": context(field), "pattern": parts } })
}

fn entity(kind: &str, id: &str) -> Value {
    json!({ "Value": { "__entity": { "type": kind, "id": id } } })
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

const IDENTITY: &str = "Identity";
const WILDCARD: &str = "IdentityWildcard";
const RESOURCE: &str = "Resource";
const GROUP: &str = "ResourceGroup";
