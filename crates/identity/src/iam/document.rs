//! Policies, resource groups and permissions groups as clients send them: read whole or refused, with the place that is
//! wrong. What a client wrote is kept as it wrote it (order, absent or empty), because clients read it back and compare.

pub use db::iam::Kind;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Actions, Condition, Pattern, UrnKind, pattern::PatternSet, urn};

/// Who may do what on what, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// URNs of identities; `*` at an end stands for many.
    pub identities: Vec<Pattern>,
    /// URNs of resources and resource groups; `*` at an end stands for many resources.
    pub resources: Vec<Pattern>,
    /// The actions.
    pub permissions: Permissions,
    /// URNs of permissions groups, each of which is judged by itself.
    pub permissions_groups: Vec<String>,
    /// When it applies; `None`: always.
    pub conditions: Option<Condition>,
    /// From when on it does not apply.
    pub expired_at: Option<Timestamp>,
}

/// Lists of actions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Permissions {
    /// What is allowed.
    pub allow: Vec<Pattern>,
    /// What is cut from `allow`, and from nothing else.
    pub except: Vec<Pattern>,
    /// What is denied, whatever else allows it.
    pub deny: Vec<Pattern>,
}

/// A named list of resources.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceGroup {
    /// URNs; `*` at an end stands for many.
    pub resources: Vec<Pattern>,
}

/// A document, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A policy.
    Policy(Policy),
    /// A resource group.
    ResourceGroup(ResourceGroup),
    /// A permissions group.
    PermissionsGroup(Permissions),
}

/// A document as it was given, and as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Its name, one of its kind in an account.
    pub name: String,
    /// What the client wrote, without what only the service writes and without `null`.
    pub given: Map<String, Value>,
    /// What it says.
    pub body: Body,
}

/// Where a document is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct InvalidDocument {
    /// Where, such as `permissions.allow[3].action`.
    pub place: String,
    /// What is wrong, or what would be right.
    pub problem: String,
}

impl Draft {
    /// Reads a document. Each action has to be one of `actions`, or a wildcard that stands for one of them at least.
    pub fn parse(kind: Kind, value: &Value, actions: &Actions) -> Result<Draft, InvalidDocument> {
        let fields: &[&str] = match kind {
            Kind::Policy => &POLICY,
            Kind::ResourceGroup => &RESOURCE_GROUP,
            Kind::PermissionsGroup => &PERMISSIONS_GROUP,
        };
        let known: Vec<&str> = fields.iter().chain(&WRITTEN_BY_SERVICE).copied().collect();
        let root = Place::root();
        let object = root.object(value, &known)?;
        let mut given = object.clone();
        given.retain(|field, value| fields.contains(&field.as_str()) && !value.is_null());
        let mut budget = MOST_ENTRIES;
        let body = match kind {
            Kind::Policy => Body::Policy(policy(&mut given, actions, &mut budget)?),
            Kind::ResourceGroup => {
                let resources = resources(&mut given, &[UrnKind::Resource], &mut budget)?;
                Body::ResourceGroup(ResourceGroup { resources })
            }
            Kind::PermissionsGroup => Body::PermissionsGroup(permissions(&mut given, actions, &mut budget)?),
        };
        Ok(Draft { name: name(&given)?, given, body })
    }

    /// Reads a document that was checked when it was stored: actions that are no more are no fault, nor are spellings.
    pub(super) fn stored(kind: Kind, text: &str) -> Option<Draft> {
        let mut value: Value = serde_json::from_str(text).ok()?;
        let identities = value.get_mut("identities").and_then(Value::as_array_mut).into_iter().flatten();
        identities.for_each(respell);
        let resources = value.get_mut("resources").and_then(Value::as_array_mut).into_iter().flatten();
        let urns = resources.filter_map(|resource| resource.get_mut("urn"));
        urns.filter(|urn| urn.as_str().is_some_and(|urn| urn.starts_with('*'))).for_each(respell);
        Draft::parse(kind, &value, &Actions::any()).ok()
    }
}

fn respell(urn: &mut Value) {
    if let Value::String(text) = urn {
        *text = urn::respelled(text);
    }
}

fn name(given: &Map<String, Value>) -> Result<String, InvalidDocument> {
    let root = Place::root();
    let at = root.field("name");
    let name = at.text(given.get("name"))?;
    let length = name.chars().count();
    if length == 0 || length > LONGEST_NAME || name.chars().any(char::is_control) || name.trim() != name {
        return Err(at.wrong(format!("1 to {LONGEST_NAME} characters, no control character, no space at an end")));
    }
    if name.starts_with("ovh-") {
        return Err(at.wrong("names that begin with `ovh-` are reserved"));
    }
    let at = root.field("description");
    if let Some(value) = given.get("description")
        && at.text(Some(value))?.chars().count() > LONGEST_DESCRIPTION
    {
        return Err(at.wrong(format!("at most {LONGEST_DESCRIPTION} characters")));
    }
    Ok(name.to_owned())
}

fn policy(given: &mut Map<String, Value>, actions: &Actions, budget: &mut usize) -> Result<Policy, InvalidDocument> {
    let root = Place::root();
    let at = root.field("identities");
    let mut identities = Vec::new();
    for (index, value) in at.counted(given.get("identities"), budget)?.iter().enumerate() {
        let at = at.index(index);
        identities.push(at.urn(at.text(Some(value))?, &[UrnKind::Identity])?);
    }
    let resources = resources(given, &[UrnKind::Resource, UrnKind::ResourceGroup], budget)?;
    let permissions = permissions(given, actions, budget)?;
    let at = root.field("permissionsGroups");
    let mut groups = Vec::new();
    if let Some(Value::Array(list)) = given.get_mut("permissionsGroups") {
        at.counted_length(list.len(), budget)?;
        for (index, value) in list.iter_mut().enumerate() {
            let at = at.index(index);
            let urn = at.only(value, "urn", &ENTRY)?;
            let pattern = at.urn(&urn, &[UrnKind::PermissionsGroup])?;
            if !pattern.is_exact() {
                return Err(at.wrong("a permissions group is named by its whole URN"));
            }
            groups.push(urn);
        }
    } else {
        at.list(given.get("permissionsGroups"), 0)?;
    }
    let at = root.field("conditions");
    let conditions = given.get("conditions").map(|value| Condition::parse(value, &at)).transpose()?;
    let at = root.field("expiredAt");
    let expired_at = match given.get("expiredAt") {
        None => None,
        Some(value) => {
            let read = at.text(Some(value))?.parse::<Timestamp>();
            Some(read.map_err(|_| at.wrong("a time with its offset, such as 2026-12-31T23:59:59Z"))?)
        }
    };
    Ok(Policy { identities, resources, permissions, permissions_groups: groups, conditions, expired_at })
}

/// The list `resources`: each `{urn}`, and what the service itself adds when it shows one, which is dropped.
fn resources(
    given: &mut Map<String, Value>,
    kinds: &[UrnKind],
    budget: &mut usize,
) -> Result<Vec<Pattern>, InvalidDocument> {
    let at = Place::root().field("resources");
    let Some(Value::Array(list)) = given.get_mut("resources") else {
        return at.list(given.get("resources"), 0).map(|_| Vec::new());
    };
    at.counted_length(list.len(), budget)?;
    let mut patterns = Vec::with_capacity(list.len());
    for (index, value) in list.iter_mut().enumerate() {
        let at = at.index(index);
        let name = at.only(value, "urn", &ENTRY)?;
        let pattern = at.field("urn").urn(&name, kinds)?;
        if pattern.as_str().starts_with(urn::RESOURCE_GROUP_PREFIX) && !pattern.is_exact() {
            return Err(at.field("urn").wrong("a resource group is named by its whole URN"));
        }
        patterns.push(pattern);
    }
    Ok(patterns)
}

fn permissions(
    given: &mut Map<String, Value>,
    actions: &Actions,
    budget: &mut usize,
) -> Result<Permissions, InvalidDocument> {
    let at = Place::root().field("permissions");
    let Some(value) = given.get_mut("permissions") else { return Ok(Permissions::default()) };
    at.object(value, &LISTS)?;
    if let Value::Object(lists) = value {
        lists.retain(|_, list| !list.is_null());
    }
    let mut read = LISTS.map(|list| action_list(value.get_mut(list), &at.field(list), actions, budget));
    let mut take = |index: usize| std::mem::replace(&mut read[index], Ok(Vec::new()));
    Ok(Permissions { allow: take(0)?, except: take(1)?, deny: take(2)? })
}

fn action_list(
    value: Option<&mut Value>,
    at: &Place,
    actions: &Actions,
    budget: &mut usize,
) -> Result<Vec<Pattern>, InvalidDocument> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let Value::Array(list) = value else { return Err(at.wrong("a list")) };
    at.counted_length(list.len(), budget)?;
    let mut patterns = Vec::with_capacity(list.len());
    for (index, value) in list.iter_mut().enumerate() {
        let at = at.index(index);
        let action = at.only(value, "action", &["action"])?;
        let at = at.field("action");
        if action.len() > LONGEST_ACTION {
            return Err(at.wrong(format!("at most {LONGEST_ACTION} bytes")));
        }
        let pattern = Pattern::parse(&action)
            .ok_or_else(|| at.wrong("`*` may stand once at the beginning and once at the end only"))?;
        if !actions.has(&pattern) {
            let problem = if pattern.is_exact() {
                format!("'{action}' is not an action of this service")
            } else {
                format!("'{action}' stands for no action of this service")
            };
            return Err(at.wrong(format!("{problem}; `GET /v2/iam/reference/action` lists them")));
        }
        patterns.push(pattern);
    }
    Ok(patterns)
}

/// A place in a document.
#[derive(Debug, Clone)]
pub(super) struct Place {
    path: String,
}

impl Place {
    pub(super) fn root() -> Place {
        Place { path: String::new() }
    }

    pub(super) fn field(&self, name: &str) -> Place {
        let dot = if self.path.is_empty() || name.starts_with('[') { "" } else { "." };
        Place { path: format!("{}{dot}{name}", self.path) }
    }

    pub(super) fn index(&self, index: usize) -> Place {
        Place { path: format!("{}[{index}]", self.path) }
    }

    pub(super) fn wrong(&self, problem: impl Into<String>) -> InvalidDocument {
        let place = if self.path.is_empty() { "body".to_owned() } else { self.path.clone() };
        InvalidDocument { place, problem: problem.into() }
    }

    /// An object with none but these fields.
    pub(super) fn object<'a>(
        &self,
        value: &'a Value,
        fields: &[&str],
    ) -> Result<&'a Map<String, Value>, InvalidDocument> {
        let Value::Object(object) = value else { return Err(self.wrong("an object")) };
        match object.keys().find(|field| !fields.contains(&field.as_str())) {
            Some(unknown) => {
                let cut: String = unknown.chars().take(80).collect();
                Err(self.field(&cut).wrong(format!("is not known here; known are {}", fields.join(", "))))
            }
            None => Ok(object),
        }
    }

    pub(super) fn text<'a>(&self, value: Option<&'a Value>) -> Result<&'a str, InvalidDocument> {
        value.and_then(Value::as_str).ok_or_else(|| self.wrong("a text"))
    }

    /// A list of at most so many; absent is empty.
    pub(super) fn list<'a>(&self, value: Option<&'a Value>, most: usize) -> Result<&'a [Value], InvalidDocument> {
        match value {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(list)) if list.len() > most => Err(self.wrong(format!("at most {most} of them"))),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong("a list")),
        }
    }

    fn counted<'a>(&self, value: Option<&'a Value>, budget: &mut usize) -> Result<&'a [Value], InvalidDocument> {
        let list = self.list(value, MOST_ENTRIES)?;
        self.counted_length(list.len(), budget)?;
        Ok(list)
    }

    fn counted_length(&self, length: usize, budget: &mut usize) -> Result<(), InvalidDocument> {
        *budget = budget.checked_sub(length).ok_or_else(|| {
            self.wrong(format!("the lists of a document have at most {MOST_ENTRIES} entries together"))
        })?;
        Ok(())
    }

    /// An object with this text; other fields, which have to be known, are dropped.
    fn only(&self, value: &mut Value, field: &str, known: &[&str]) -> Result<String, InvalidDocument> {
        self.object(value, known)?;
        let text = self.field(field).text(value.get(field))?.to_owned();
        if let Value::Object(object) = value {
            object.retain(|name, _| name == field);
        }
        Ok(text)
    }

    fn urn(&self, text: &str, kinds: &[UrnKind]) -> Result<Pattern, InvalidDocument> {
        urn::parse_pattern(text, kinds).map_err(|fault| {
            let cut: String = text.chars().take(80).collect();
            self.wrong(format!("'{cut}': {fault}"))
        })
    }
}

impl Permissions {
    pub(super) fn sets(&self) -> [PatternSet; 3] {
        [PatternSet::new(&self.allow), PatternSet::new(&self.except), PatternSet::new(&self.deny)]
    }
}

const POLICY: [&str; 8] =
    ["name", "description", "identities", "resources", "permissions", "permissionsGroups", "conditions", "expiredAt"];
const RESOURCE_GROUP: [&str; 2] = ["name", "resources"];
const PERMISSIONS_GROUP: [&str; 3] = ["name", "description", "permissions"];
/// What answers hold beside, so that a client may send back what it read.
const WRITTEN_BY_SERVICE: [&str; 6] = ["id", "urn", "owner", "readOnly", "createdAt", "updatedAt"];
const ENTRY: [&str; 9] = ["urn", "id", "name", "displayName", "owner", "type", "tags", "resource", "group"];
const LISTS: [&str; 3] = ["allow", "except", "deny"];
const MOST_ENTRIES: usize = 10_000;
const LONGEST_NAME: usize = 128;
const LONGEST_DESCRIPTION: usize = 1024;
const LONGEST_ACTION: usize = 256;
