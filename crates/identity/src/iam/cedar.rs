//! Statements in Cedar. Each policy becomes a `permit` and a `forbid` of its own permissions, and one of each for every
//! permissions group that it names. Each says the whole rule (who, what, on what, when), so that a set of them decides
//! the same with and without the index before it.
//!
//! The principal is the identity that calls; its parents are its other identities and those wildcards of the account's
//! policies that stand for one of them. The resource's parents are the resource groups that it is in, its tags are
//! Cedar's. The context holds `action` and `resource` as texts, `now` in Unix microseconds, `weekdays` by zone, and `ip`
//! where the address is known.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, RestrictedExpression,
    pst::{
        self, ActionConstraint, BinaryOp, Clause, EntityType, EntityUID, Expr, Literal, Name, NonEmpty, PatternElem,
        PrincipalConstraint, ResourceConstraint, StaticPolicy, Template, UnaryOp, Var,
    },
};
use jiff::tz::TimeZone;

use super::{
    Condition, Effect, Facts, Leaf, Pattern,
    circumstances::week_day,
    condition::day_name,
    decide::{Failed, Statement},
    pattern::PatternSet,
    urn::RESOURCE_GROUP_PREFIX,
};

/// A statement as a Cedar policy, by the statement's number. It is built as a tree, so that no text of a client is ever
/// parsed as Cedar.
pub(super) fn policy(number: usize, statement: &Statement, types: &Types) -> Result<Policy, Failed> {
    let words = &types.words;
    let mut parts = vec![
        any(
            &statement.identities,
            Var::Principal,
            |pattern| is_in(Var::Principal, entity(&words.wildcard, pattern.as_str())),
            |urn| entity(&words.identity, urn),
        ),
        any(
            &statement.resources,
            Var::Resource,
            |pattern| like("resource", pattern),
            |urn| entity(if urn.starts_with(RESOURCE_GROUP_PREFIX) { &words.group } else { &words.resource }, urn),
        ),
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
        parts.push(binary(BinaryOp::Less, context("now"), literal(Literal::Long(end.as_microsecond()))));
    }
    parts.extend(statement.conditions.as_deref().map(condition));
    let effect = match statement.effect {
        Effect::Allow => pst::Effect::Permit,
        Effect::Deny => pst::Effect::Forbid,
    };
    let (principal, action, resource) = (PrincipalConstraint::Any, ActionConstraint::Any, ResourceConstraint::Any);
    let body = Template::new(number.to_string().as_str(), effect, principal, action, resource);
    let body = body.try_with_clauses([Clause::When(joined(BinaryOp::And, parts))]);
    let body = body.map_err(|fault| Failed(fault.to_string()))?;
    let policy = StaticPolicy::try_from(body).map_err(|fault| Failed(fault.to_string()))?;
    Policy::from_pst(pst::Policy::Static(policy)).map_err(|fault| Failed(fault.to_string()))
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
    words: Words,
}

/// The same names, for trees.
#[derive(Debug)]
struct Words {
    identity: EntityType,
    wildcard: EntityType,
    resource: EntityType,
    group: EntityType,
}

impl Types {
    pub(super) fn new() -> Result<Types, Failed> {
        let word = |name: &str| Name::unqualified(name).map(EntityType).map_err(|fault| Failed(fault.to_string()));
        let name = |name: &str| name.parse::<EntityTypeName>().map_err(|fault| Failed(fault.to_string()));
        Ok(Types {
            identity: name(IDENTITY)?,
            wildcard: name(WILDCARD)?,
            resource: name(RESOURCE)?,
            group: name(GROUP)?,
            action: uid(&name("Action")?, "call"),
            words: Words {
                identity: word(IDENTITY)?,
                wildcard: word(WILDCARD)?,
                resource: word(RESOURCE)?,
                group: word(GROUP)?,
            },
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
        wildcards: &HashSet<&Pattern>,
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
pub(super) fn request_context(
    action: &str,
    resource: &str,
    facts: &Facts,
    zones: &[(String, TimeZone)],
) -> Result<Context, Failed> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let mut pairs = vec![
        ("action".to_owned(), text(action)),
        ("resource".to_owned(), text(resource)),
        ("now".to_owned(), RestrictedExpression::new_long(facts.at.as_microsecond())),
    ];
    let days: Vec<(String, RestrictedExpression)> =
        zones.iter().map(|(name, zone)| (name.clone(), text(day_name(week_day(facts.at, zone))))).collect();
    if !days.is_empty() {
        let record = RestrictedExpression::new_record(days).map_err(|fault| Failed(fault.to_string()))?;
        pairs.push(("weekdays".to_owned(), record));
    }
    if let Some(ip) = facts.source_ip {
        pairs.push(("ip".to_owned(), RestrictedExpression::new_ip(ip.to_canonical().to_string())));
    }
    Context::from_pairs(pairs).map_err(|fault| Failed(fault.to_string()))
}

fn condition(condition: &Condition) -> Tree {
    match condition {
        Condition::And(parts) => joined(BinaryOp::And, parts.iter().map(self::condition).collect()),
        Condition::Or(parts) => joined(BinaryOp::Or, parts.iter().map(self::condition).collect()),
        Condition::Not(part) => not(self::condition(part)),
        Condition::Match(leaves) => joined(BinaryOp::And, leaves.iter().map(leaf).collect()),
    }
}

fn leaf(leaf: &Leaf) -> Tree {
    let resource = || Arc::new(Expr::Var(Var::Resource));
    let both = |left: Tree, right: Tree| binary(BinaryOp::And, left, right);
    match leaf {
        Leaf::Tag { name, value } => both(
            binary(BinaryOp::HasTag, resource(), text(name)),
            binary(BinaryOp::Eq, binary(BinaryOp::GetTag, resource(), text(name)), text(value)),
        ),
        Leaf::WeekDay { zone, days } => {
            let today = Arc::new(Expr::GetAttr { expr: context("weekdays"), attr: zone.as_str().into() });
            one_of(&today, days.iter().map(|day| day_name(*day)))
        }
        Leaf::Ip(block) => {
            let range = format!("{}/{}", block.network(), block.prefix_len());
            let range = Arc::new(Expr::UnaryOp { op: UnaryOp::Ip, expr: text(&range) });
            let attrs = NonEmpty::new("ip".into());
            let known = Arc::new(Expr::HasAttr { expr: Arc::new(Expr::Var(Var::Context)), attrs });
            both(known, binary(BinaryOp::IsInRange, context("ip"), range))
        }
    }
}

/// Whether a thing is one of a set: by `in` for each that is named whole, by `open` for each wildcard.
fn any(set: &PatternSet, variable: Var, open: impl Fn(&Pattern) -> Tree, named: impl Fn(&str) -> Tree) -> Tree {
    let mut parts: Vec<Tree> = set.open.iter().map(open).collect();
    parts.extend(set.exact.iter().map(|urn| is_in(variable.clone(), named(urn))));
    joined(BinaryOp::Or, parts)
}

fn action(set: &PatternSet) -> Tree {
    let mut parts: Vec<Tree> = set.open.iter().map(|pattern| like("action", pattern)).collect();
    if !set.exact.is_empty() {
        parts.push(one_of(&context("action"), set.exact.iter().map(String::as_str)));
    }
    joined(BinaryOp::Or, parts)
}

/// Whether a value is one of these texts. A set of Cedar is built anew each time that it is looked at.
fn one_of<'a>(value: &Tree, texts: impl Iterator<Item = &'a str>) -> Tree {
    joined(BinaryOp::Or, texts.map(|one| binary(BinaryOp::Eq, Arc::clone(value), text(one))).collect())
}

/// Joined as a balanced tree: a long list must not be a deep one. Nothing joined is false.
fn joined(operator: BinaryOp, mut parts: Vec<Tree>) -> Tree {
    if parts.is_empty() {
        return literal(Literal::Bool(false));
    }
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary(operator, left, right),
                None => left,
            });
        }
        parts = pairs;
    }
    parts.swap_remove(0)
}

fn binary(op: BinaryOp, left: Tree, right: Tree) -> Tree {
    Arc::new(Expr::BinaryOp { op, left, right })
}

fn not(expr: Tree) -> Tree {
    Arc::new(Expr::UnaryOp { op: UnaryOp::Not, expr })
}

fn literal(literal: Literal) -> Tree {
    Arc::new(Expr::Literal(literal))
}

fn text(text: &str) -> Tree {
    literal(Literal::String(text.into()))
}

fn context(field: &str) -> Tree {
    Arc::new(Expr::GetAttr { expr: Arc::new(Expr::Var(Var::Context)), attr: field.into() })
}

fn is_in(variable: Var, entity: Tree) -> Tree {
    binary(BinaryOp::In, Arc::new(Expr::Var(variable)), entity)
}

fn like(field: &str, pattern: &Pattern) -> Tree {
    let star = |open: bool| open.then_some(PatternElem::Wildcard);
    let fixed = pattern.fixed().chars().map(PatternElem::Char);
    let pattern = star(pattern.begins_open()).into_iter().chain(fixed).chain(star(pattern.ends_open())).collect();
    Arc::new(Expr::Like { expr: context(field), pattern })
}

fn entity(kind: &EntityType, id: &str) -> Tree {
    literal(Literal::EntityUID(EntityUID { ty: kind.clone(), eid: id.into() }))
}

type Tree = Arc<Expr>;

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

const IDENTITY: &str = "Identity";
const WILDCARD: &str = "IdentityWildcard";
const RESOURCE: &str = "Resource";
const GROUP: &str = "ResourceGroup";
