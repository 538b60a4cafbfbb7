//! Statements of policies, read and checked whole.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>

use model::{BucketName, ProjectId};

use super::{
    PolicyError,
    actions::{self, Actions, Level},
    condition::Condition,
    json::Json,
    pattern::Pattern,
};

/// What a policy stands on, which says what its statements may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Bucket { project: &'a ProjectId, bucket: &'a BucketName },
    User,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) allow: bool,
    pub(super) principal: Principal,
    actions: Actions,
    not_actions: bool,
    resources: Vec<Pattern>,
    not_resources: bool,
    pub(super) conditions: Vec<Condition>,
}

/// Whom a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// The holder of the policy.
    Holder,
    /// These.
    These(Vec<Name>),
    /// All but these.
    AllBut(Vec<Name>),
}

/// A name of one or more callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// `*`: everybody, without a signature too.
    Everybody,
    /// The project, by its id or as its root.
    Project,
    /// `arn:aws:iam::PROJECT:user/NAME`.
    User(String),
    /// `arn:aws:iam::PROJECT:role/NAME`.
    Role(String),
    /// `arn:aws:sts::PROJECT:assumed-role/ROLE/SESSION`: role and session.
    Session(String, String),
}

impl Statement {
    pub(super) fn names_action(&self, number: usize) -> bool {
        self.actions.has(number) != self.not_actions
    }

    /// Whether it names the resource of this ARN.
    pub(super) fn names_resource(&self, arn: &str, variables: &impl super::pattern::Variables) -> bool {
        // What it is not about must be known in a statement that allows.
        let unresolved = self.not_resources && self.allow;
        self.resources.iter().any(|pattern| pattern.matches(arn, variables, unresolved)) != self.not_resources
    }

    pub(super) fn has_not_actions(&self) -> bool {
        self.not_actions
    }

    pub(super) fn has_not_resources(&self) -> bool {
        self.not_resources
    }
}

/// Reads the statements of a policy.
pub(super) fn read(whole: Json, place: Place<'_>) -> Result<Vec<Statement>, PolicyError> {
    let at = At { statement: None };
    let Json::Object(fields) = whole else {
        return Err(at.wrong("policy", format!("is {}", whole.kind()), "an object with Version and Statement"));
    };
    let (mut variables, mut statements) = (false, None);
    for (name, value) in fields {
        match name.as_str() {
            "Version" => match text(&at, "Version", &value)? {
                "2012-10-17" => variables = true,
                "2008-10-17" => {}
                other => {
                    return Err(at.wrong("Version", quoted(other, "is not a version"), "\"2012-10-17\""));
                }
            },
            "Id" => {
                text(&at, "Id", &value)?;
            }
            "Statement" => statements = Some(value),
            other => {
                let right = "Version, Id and Statement are the fields of a policy";
                return Err(at.wrong("policy", quoted(other, "is not a field"), right));
            }
        }
    }
    let list = match statements {
        Some(Json::List(list)) => list,
        Some(one @ Json::Object(_)) => vec![one],
        Some(other) => return Err(at.wrong("Statement", format!("is {}", other.kind()), "a list of objects")),
        None => return Err(at.wrong("Statement", "is missing".to_owned(), "a list of objects")),
    };
    // A user's policy without statements allows nothing: clients that remove a policy set that.
    let least = if matches!(place, Place::User) { 0 } else { 1 };
    if !(least..=MOST_STATEMENTS).contains(&list.len()) {
        let what = format!("has {} statements", list.len());
        return Err(at.wrong("Statement", what, &format!("{least} to {MOST_STATEMENTS}")));
    }
    let mut read: Vec<Statement> = Vec::with_capacity(list.len());
    for (number, value) in (1..).zip(list) {
        let statement = statement(number, value, variables, place)?;
        if let Some(sid) = &statement.sid
            && read.iter().any(|other| other.sid.as_ref() == Some(sid))
        {
            let at = At { statement: Some(name_of(number, Some(sid))) };
            return Err(at.wrong("Sid", quoted(sid, "stands at an earlier statement too"), "one of its own for each"));
        }
        read.push(statement);
    }
    Ok(read)
}

/// The name of a statement for people: its number, from 1, and its `Sid`.
pub(super) fn name_of(number: usize, sid: Option<&str>) -> String {
    match sid {
        Some(sid) => format!("{number} ({sid})"),
        None => number.to_string(),
    }
}

/// Where in a policy something is wrong.
struct At {
    statement: Option<String>,
}

impl At {
    fn wrong(&self, field: &str, problem: String, remedy: &str) -> PolicyError {
        PolicyError { statement: self.statement.clone(), field: field.to_owned(), problem, remedy: remedy.to_owned() }
    }
}

fn statement(number: usize, value: Json, variables: bool, place: Place<'_>) -> Result<Statement, PolicyError> {
    let mut at = At { statement: Some(name_of(number, None)) };
    let Json::Object(fields) = value else {
        return Err(at.wrong("Statement", format!("is {}", value.kind()), "an object"));
    };
    let mut parts = Fields::default();
    // First, so that errors can name it.
    if let Some((_, value)) = fields.iter().find(|(name, _)| name == "Sid") {
        let sid = text(&at, "Sid", value)?;
        if sid.len() > LONGEST_SID || !sid.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ') {
            return Err(at.wrong("Sid", "is too long or not of ASCII".to_owned(), "at most 128 letters and digits"));
        }
        // An empty one is as good as none.
        parts.sid = (!sid.is_empty()).then(|| sid.to_owned());
        at.statement = Some(name_of(number, parts.sid.as_deref()));
    }
    for (name, value) in fields {
        let slot = match name.as_str() {
            "Sid" => continue,
            "Effect" => &mut parts.effect,
            "Principal" => &mut parts.principal,
            "NotPrincipal" => &mut parts.not_principal,
            "Action" => &mut parts.action,
            "NotAction" => &mut parts.not_action,
            "Resource" => &mut parts.resource,
            "NotResource" => &mut parts.not_resource,
            "Condition" => &mut parts.condition,
            other => {
                let right = "Sid, Effect, Principal, NotPrincipal, Action, NotAction, Resource, NotResource, Condition";
                return Err(at.wrong("Statement", quoted(other, "is not a field"), right));
            }
        };
        *slot = Some(value);
    }
    let allow = match parts.effect.as_ref().map(|value| text(&at, "Effect", value)).transpose()? {
        Some("Allow") => true,
        Some("Deny") => false,
        Some(other) => return Err(at.wrong("Effect", quoted(other, "is not an effect"), "\"Allow\" or \"Deny\"")),
        None => return Err(at.wrong("Effect", "is missing".to_owned(), "\"Allow\" or \"Deny\"")),
    };
    let principal = principal(&at, parts.principal, parts.not_principal, allow, place)?;
    let (actions, not_actions, named) = read_actions(&at, parts.action, parts.not_action, place)?;
    let (resources, not_resources, texts) = read_resources(&at, parts.resource, parts.not_resource, variables, place)?;
    if let (Place::Bucket { bucket, .. }, false, false) = (place, not_actions, not_resources) {
        check_levels(&at, &named, &texts, bucket)?;
    }
    let conditions = parts.condition.map(|value| conditions(&at, value, variables)).transpose()?.unwrap_or_default();
    Ok(Statement { sid: parts.sid, allow, principal, actions, not_actions, resources, not_resources, conditions })
}

#[derive(Default)]
struct Fields {
    sid: Option<String>,
    effect: Option<Json>,
    principal: Option<Json>,
    not_principal: Option<Json>,
    action: Option<Json>,
    not_action: Option<Json>,
    resource: Option<Json>,
    not_resource: Option<Json>,
    condition: Option<Json>,
}

fn principal(
    at: &At,
    these: Option<Json>,
    all_but: Option<Json>,
    allow: bool,
    place: Place<'_>,
) -> Result<Principal, PolicyError> {
    let Place::Bucket { project, .. } = place else {
        let field = if these.is_some() { "Principal" } else { "NotPrincipal" };
        if these.is_some() || all_but.is_some() {
            let what = "is not for the policy of a user or a session".to_owned();
            return Err(at.wrong(field, what, "leave it out: the holder is meant"));
        }
        return Ok(Principal::Holder);
    };
    let (field, value, not) = match (these, all_but) {
        (Some(value), None) => ("Principal", value, false),
        (None, Some(value)) => ("NotPrincipal", value, true),
        (Some(_), Some(_)) => {
            let what = "stands beside Principal".to_owned();
            return Err(at.wrong("NotPrincipal", what, "one of the two"));
        }
        (None, None) => {
            return Err(at.wrong("Principal", "is missing".to_owned(), "\"*\" or {\"AWS\": [ARN, ...]}"));
        }
    };
    if not && allow {
        let what = "stands in a statement that allows".to_owned();
        return Err(at.wrong(field, what, "Principal with those who may; NotPrincipal is for Deny"));
    }
    let names = match value {
        Json::Text(text) if text == "*" => vec![Name::Everybody],
        Json::Object(kinds) => {
            let mut names = Vec::new();
            for (kind, value) in kinds {
                if kind != "AWS" {
                    let what = quoted(&kind, "is not a kind of principal of this store");
                    return Err(at.wrong(field, what, "{\"AWS\": [ARN, ...]}"));
                }
                for text in texts(at, field, value)? {
                    names.push(name(at, field, &text, project)?);
                }
            }
            names
        }
        other => {
            return Err(at.wrong(field, format!("is {}", other.kind()), "\"*\" or {\"AWS\": [ARN, ...]}"));
        }
    };
    if names.is_empty() {
        return Err(at.wrong(field, "names nobody".to_owned(), "at least one"));
    }
    Ok(if not { Principal::AllBut(names) } else { Principal::These(names) })
}

fn name(at: &At, field: &str, text: &str, project: &ProjectId) -> Result<Name, PolicyError> {
    let right = format!(
        "\"*\", \"{project}\", \"arn:aws:iam::{project}:root\", \"arn:aws:iam::{project}:user/NAME\", \
         \"arn:aws:iam::{project}:role/NAME\" or \"arn:aws:sts::{project}:assumed-role/ROLE/SESSION\""
    );
    let wrong = |what: &str| at.wrong(field, quoted(text, what), &right);
    if text == "*" {
        return Ok(Name::Everybody);
    }
    if text == project.as_str() {
        return Ok(Name::Project);
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let &["arn", "aws", service @ ("iam" | "sts"), "", owner, what] = parts.as_slice() else {
        return Err(wrong("is not a principal"));
    };
    if owner != project.as_str() {
        return Err(wrong("is of another project: a policy names principals of its own"));
    }
    let is_name = |name: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        !name.is_empty() && name.len() <= 128 && name.bytes().all(letter)
    };
    match (service, what.split('/').collect::<Vec<_>>().as_slice()) {
        ("iam", ["root"]) => Ok(Name::Project),
        ("iam", ["user", name]) if is_name(name) => Ok(Name::User((*name).to_owned())),
        ("iam", ["role", name]) if is_name(name) => Ok(Name::Role((*name).to_owned())),
        ("sts", ["assumed-role", role, session]) if is_name(role) && is_name(session) => {
            Ok(Name::Session((*role).to_owned(), (*session).to_owned()))
        }
        _ => Err(wrong("is not a principal; wildcards do not stand in ARNs of principals")),
    }
}

/// The actions, whether all but those are meant, and those that are named without a wildcard.
fn read_actions(
    at: &At,
    these: Option<Json>,
    all_but: Option<Json>,
    place: Place<'_>,
) -> Result<(Actions, bool, Vec<usize>), PolicyError> {
    let (field, value, not) = either(at, "Action", these, "NotAction", all_but, "\"s3:GetObject\" or a list of such")?;
    let (mut actions, mut named) = (Actions::default(), Vec::new());
    for text in texts(at, field, value)? {
        let lower = text.to_ascii_lowercase();
        let lower = if lower == "*" { "s3:*" } else { lower.as_str() };
        let pattern = Pattern::parse(lower, true, false).map_err(|(what, right)| at.wrong(field, what, &right))?;
        if !lower.starts_with("s3:") || actions.add(&pattern) == 0 {
            let right = match actions::nearest(lower) {
                Some(name) => format!("perhaps {name}"),
                None => "names such as s3:GetObject, or with wildcards s3:Get*".to_owned(),
            };
            return Err(at.wrong(field, quoted(&text, "is not an action of S3"), &right));
        }
        if let Some(number) = actions::number(lower) {
            if matches!(place, Place::Bucket { .. }) && actions::level(number) == Some(Level::Account) {
                let what = quoted(&text, "is not done on a bucket");
                return Err(at.wrong(field, what, "leave it out, or allow it in the policy of a user"));
            }
            named.push(number);
        }
    }
    Ok((actions, not, named))
}

type Resources = (Vec<Pattern>, bool, Vec<String>);

/// The resources, whether all but those are meant, and their texts.
fn read_resources(
    at: &At,
    these: Option<Json>,
    all_but: Option<Json>,
    variables: bool,
    place: Place<'_>,
) -> Result<Resources, PolicyError> {
    let right = match place {
        Place::Bucket { bucket, .. } => format!("\"{ARN}{bucket}\", \"{ARN}{bucket}/*\" or a list of such"),
        Place::User => format!("\"*\", \"{ARN}BUCKET\", \"{ARN}BUCKET/*\" or a list of such"),
    };
    let (field, value, not) = either(at, "Resource", these, "NotResource", all_but, &right)?;
    let (mut patterns, texts) = (Vec::new(), texts(at, field, value)?);
    for text in &texts {
        let name = text.strip_prefix(ARN);
        let good = match place {
            Place::User => text == "*" || name.is_some_and(|name| !name.is_empty()),
            Place::Bucket { bucket, .. } => name
                .and_then(|name| name.strip_prefix(bucket.as_str()))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        if !good {
            let what = match place {
                Place::Bucket { .. } => "is not of this bucket",
                Place::User => "is not a resource of S3",
            };
            return Err(at.wrong(field, quoted(text, what), &right));
        }
        let pattern = Pattern::parse(text, true, variables).map_err(|(what, right)| at.wrong(field, what, &right))?;
        patterns.push(pattern);
    }
    Ok((patterns, not, texts))
}

/// Each named action must be one that can be done on one of the resources: else the statement says less than its author
/// believes.
fn check_levels(at: &At, named: &[usize], resources: &[String], bucket: &BucketName) -> Result<(), PolicyError> {
    let objects = resources.iter().any(|text| text.len() > ARN.len() + bucket.as_str().len());
    let whole = resources.iter().any(|text| text.len() == ARN.len() + bucket.as_str().len());
    for &number in named {
        match actions::level(number) {
            Some(Level::Object) if !objects => {
                let what = "names no object, but an action is done on objects".to_owned();
                return Err(at.wrong("Resource", what, &format!("add \"{ARN}{bucket}/*\"")));
            }
            Some(Level::Bucket) if !whole => {
                let what = "does not name the bucket, but an action is done on it".to_owned();
                return Err(at.wrong("Resource", what, &format!("add \"{ARN}{bucket}\"")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn conditions(at: &At, value: Json, variables: bool) -> Result<Vec<Condition>, PolicyError> {
    let right = "{OPERATOR: {KEY: VALUE or [VALUE, ...]}}";
    let Json::Object(operators) = value else {
        return Err(at.wrong("Condition", format!("is {}", value.kind()), right));
    };
    let mut conditions = Vec::new();
    for (operator, keys) in operators {
        let Json::Object(keys) = keys else {
            let what = format!("{} is {}", quoted(&operator, ""), keys.kind());
            return Err(at.wrong("Condition", what, right));
        };
        if keys.is_empty() {
            return Err(at.wrong("Condition", quoted(&operator, "has no key"), right));
        }
        for (key, values) in keys {
            let values = match values {
                Json::List(list) => list,
                one => vec![one],
            };
            let mut texts = Vec::with_capacity(values.len());
            for value in values {
                texts.push(match value {
                    Json::Text(text) | Json::Number(text) => text,
                    Json::Bool(value) => value.to_string(),
                    other => {
                        let what = format!("a value of {} is {}", quoted(&key, ""), other.kind());
                        return Err(at.wrong("Condition", what, "a text"));
                    }
                });
            }
            let condition = Condition::parse(&operator, &key, &texts, variables)
                .map_err(|(what, right)| at.wrong("Condition", what, &right))?;
            conditions.push(condition);
        }
    }
    Ok(conditions)
}

/// That one of two fields which is there.
fn either<'a>(
    at: &At,
    field: &'a str,
    these: Option<Json>,
    not_field: &'a str,
    all_but: Option<Json>,
    right: &str,
) -> Result<(&'a str, Json, bool), PolicyError> {
    match (these, all_but) {
        (Some(value), None) => Ok((field, value, false)),
        (None, Some(value)) => Ok((not_field, value, true)),
        (Some(_), Some(_)) => Err(at.wrong(not_field, format!("stands beside {field}"), "one of the two")),
        (None, None) => Err(at.wrong(field, "is missing".to_owned(), right)),
    }
}

/// A text, or a list of texts with at least one in it.
fn texts(at: &At, field: &str, value: Json) -> Result<Vec<String>, PolicyError> {
    let list = match value {
        Json::List(list) => list,
        one => vec![one],
    };
    if list.is_empty() {
        return Err(at.wrong(field, "is an empty list".to_owned(), "at least one text"));
    }
    let mut texts = Vec::with_capacity(list.len());
    for value in list {
        match value {
            Json::Text(text) => texts.push(text),
            other => return Err(at.wrong(field, format!("has in it {}", other.kind()), "a text or a list of texts")),
        }
    }
    Ok(texts)
}

fn text<'a>(at: &At, field: &str, value: &'a Json) -> Result<&'a str, PolicyError> {
    match value {
        Json::Text(text) => Ok(text),
        other => Err(at.wrong(field, format!("is {}", other.kind()), "a text")),
    }
}

/// What a policy has, cut short, and what is wrong with it.
fn quoted(given: &str, what: &str) -> String {
    let cut: String = given.chars().take(120).collect();
    if what.is_empty() { format!("'{cut}'") } else { format!("'{cut}' {what}") }
}

/// What the ARN of each bucket and object begins with.
pub(super) const ARN: &str = "arn:aws:s3:::";
const MOST_STATEMENTS: usize = 200;
const LONGEST_SID: usize = 128;
