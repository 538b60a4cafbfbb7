//! Conditions of statements: operators, keys, values.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use jiff::Timestamp;

use super::pattern::{NoVariables, Pattern, Variables};

/// The condition keys that policies may use: a gate gives their values where a call has any. A name that ends with `/`
/// is followed by that of a tag. Names are the same whatever their case. Those of the caller (`aws:username`,
/// `aws:userid`, `aws:Principal*`) and of the project (`*:ResourceAccount`) a gate need not give; `aws:EpochTime`
/// follows from `aws:CurrentTime`.
pub const CONDITION_KEYS: [&str; 44] = [
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:ResourceAccount",
    "aws:SecureTransport",
    "aws:SourceIp",
    "aws:UserAgent",
    "aws:userid",
    "aws:username",
    "s3:ExistingObjectTag/",
    "s3:ObjectCreationOperation",
    "s3:RequestObjectTag/",
    "s3:RequestObjectTagKeys",
    "s3:ResourceAccount",
    "s3:VersionId",
    "s3:authType",
    "s3:delimiter",
    "s3:if-match",
    "s3:if-none-match",
    "s3:max-keys",
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-remaining-retention-days",
    "s3:object-lock-retain-until-date",
    "s3:prefix",
    "s3:signatureAge",
    "s3:signatureversion",
    "s3:x-amz-acl",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class",
];

/// Whether a policy may use this condition key.
pub(super) fn is_key(name: &str) -> bool {
    CONDITION_KEYS.iter().any(|known| match known.strip_suffix('/') {
        Some(prefix) => name
            .split_once('/')
            .is_some_and(|(before, tag)| before.eq_ignore_ascii_case(prefix) && !tag.is_empty() && tag.len() <= 512),
        None => known.eq_ignore_ascii_case(name),
    })
}

/// One operator on one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    /// As it is written, for explanations.
    pub(super) operator: String,
    pub(super) key: String,
    kind: Kind,
    negated: bool,
    of_set: Option<OfSet>,
    if_exists: bool,
    values: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    TextIgnoringCase,
    TextLike,
    Number(Test),
    Date(Test),
    Bool,
    Ip,
    Arn,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How a key with several values is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfSet {
    Any,
    All,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(Pattern),
    /// The six parts of an ARN; one alone is `*`.
    Arn(Vec<Pattern>),
    Number(f64),
    Date(Timestamp),
    Bool(bool),
    Network(IpNet),
}

/// Values of condition keys of a call.
pub(super) trait Keys: Variables {
    /// All values of a key.
    fn values(&self, key: &str) -> Vec<Cow<'_, str>>;
}

impl Condition {
    /// Reads operator, key and values; what is wrong, and what would be right.
    pub(super) fn parse(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Condition, (String, String)> {
        let (kind, negated, of_set, if_exists) = read_operator(operator).ok_or_else(|| {
            let shown: String = operator.chars().take(80).collect();
            (format!("'{shown}' is not an operator"), format!("one of {}", OPERATORS.map(|(name, ..)| name).join(", ")))
        })?;
        if !is_key(key) {
            let shown: String = key.chars().take(80).collect();
            return Err((
                format!("'{shown}' is not a condition key of this store"),
                format!("one of {}", CONDITION_KEYS.join(", ")),
            ));
        }
        if values.is_empty() {
            return Err((format!("{key} has no value"), "at least one".to_owned()));
        }
        let values = values
            .iter()
            .map(|text| read_value(kind, text, variables))
            .collect::<Result<Vec<Value>, (String, String)>>()?;
        Ok(Condition { operator: operator.to_owned(), key: key.to_owned(), kind, negated, of_set, if_exists, values })
    }

    /// Whether it holds. `allow`: in a statement that allows, where what is not known must not help.
    pub(super) fn holds(&self, keys: &impl Keys, allow: bool) -> bool {
        let given = keys.values(&self.key);
        if self.kind == Kind::Null {
            return self.values.contains(&Value::Bool(given.is_empty()));
        }
        if given.is_empty() {
            // Of a key that is not there: `ForAllValues` holds of nothing, a negation holds, the rest does not.
            return self.if_exists
                || match self.of_set {
                    Some(OfSet::All) => true,
                    Some(OfSet::Any) => false,
                    None => self.negated,
                };
        }
        // Where a variable has no value, a negation must not hold in a statement that allows.
        let unresolved = self.negated && allow;
        let mut one = given.iter().map(|given| {
            let found = self.values.iter().any(|value| matches(self.kind, value, given, keys, unresolved));
            found != self.negated
        });
        match (self.of_set, self.negated) {
            (Some(OfSet::Any), _) | (None, false) => one.any(|holds| holds),
            (Some(OfSet::All), _) | (None, true) => one.all(|holds| holds),
        }
    }

    /// Whether it binds a statement to fixed, known callers or addresses, so that the statement is not public.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html#access-control-block-public-access-policy-status>
    pub(super) fn is_fixing(&self) -> bool {
        if self.negated || self.if_exists || self.of_set == Some(OfSet::All) {
            return false;
        }
        let key = |name: &str| self.key.eq_ignore_ascii_case(name);
        if key("aws:SourceIp") {
            return self.values.iter().all(|value| matches!(value, Value::Network(network) if is_narrow(network)));
        }
        let of_caller = ["aws:PrincipalArn", "aws:PrincipalAccount", "aws:userid", "aws:username"];
        of_caller.into_iter().any(key)
            && matches!(self.kind, Kind::Text | Kind::TextIgnoringCase | Kind::TextLike | Kind::Arn)
            && self.values.iter().all(|value| match value {
                // That is how one without a signature is called.
                Value::Text(pattern) => {
                    pattern.is_fixed() && !pattern.equals_ignoring_case(ANONYMOUS, &NoVariables, false)
                }
                Value::Arn(parts) => parts.iter().all(Pattern::is_fixed),
                _ => false,
            })
    }
}

/// `aws:userid` of a caller without a signature.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Not wider than /8 (IPv4) or /32 (IPv6), or private.
fn is_narrow(network: &IpNet) -> bool {
    match network {
        IpNet::V4(block) => block.prefix_len() >= 8,
        IpNet::V6(block) => block.prefix_len() >= 32 || (block.prefix_len() >= 7 && block.network().is_unique_local()),
    }
}

/// What the name of an operator means: its kind, negated or not, how sets are read, and whether only of what exists.
fn read_operator(text: &str) -> Option<(Kind, bool, Option<OfSet>, bool)> {
    let (of_set, rest) = match text.split_once(':') {
        Some(("ForAnyValue", rest)) => (Some(OfSet::Any), rest),
        Some(("ForAllValues", rest)) => (Some(OfSet::All), rest),
        Some(_) => return None,
        None => (None, text),
    };
    let (rest, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |rest| (rest, true));
    let (_, kind, negated) = OPERATORS.into_iter().find(|(name, ..)| *name == rest)?;
    // `Null` asks whether the key exists: with a set or `IfExists` it would ask nothing.
    (kind != Kind::Null || (of_set.is_none() && !if_exists)).then_some((kind, negated, of_set, if_exists))
}

fn read_value(kind: Kind, text: &str, variables: bool) -> Result<Value, (String, String)> {
    let shown: String = text.chars().take(80).collect();
    let wrong = |what: &str, right: &str| (format!("'{shown}' is not {what}"), right.to_owned());
    match kind {
        Kind::Text | Kind::TextIgnoringCase => Pattern::parse(text, false, variables).map(Value::Text),
        Kind::TextLike => Pattern::parse(text, true, variables).map(Value::Text),
        Kind::Arn => {
            let parts = arn_parts(text);
            if text != "*" && (parts.len() != 6 || parts[0] != "arn") {
                return Err(wrong(
                    "an ARN",
                    "six parts with ':' between them, the first of them 'arn', wildcards in each",
                ));
            }
            let parts =
                parts.into_iter().map(|part| Pattern::parse(part, true, variables)).collect::<Result<_, _>>()?;
            Ok(Value::Arn(parts))
        }
        Kind::Number(_) => number(text).map(Value::Number).ok_or_else(|| wrong("a number", "digits, such as 100")),
        Kind::Date(_) => date(text)
            .map(Value::Date)
            .ok_or_else(|| wrong("a time", "2026-01-31T00:00:00Z, 2026-01-31 or seconds since 1970")),
        Kind::Bool | Kind::Null => {
            truth(text).map(Value::Bool).ok_or_else(|| wrong("true or false", "\"true\" or \"false\""))
        }
        Kind::Ip => model::parse_block(text)
            .map(Value::Network)
            .ok_or_else(|| wrong("an address or a block of them", "192.0.2.0/24, 192.0.2.7 or 2001:db8::/32")),
    }
}

/// Whether a value of the call is one of the policy. One that cannot be read as what the operator compares is not.
fn matches(kind: Kind, value: &Value, given: &str, variables: &impl Variables, unresolved: bool) -> bool {
    match (kind, value) {
        (Kind::TextIgnoringCase, Value::Text(pattern)) => pattern.equals_ignoring_case(given, variables, unresolved),
        (_, Value::Text(pattern)) => pattern.matches(given, variables, unresolved),
        (_, Value::Arn(parts)) => {
            if parts.len() == 1 {
                return parts[0].matches(given, variables, unresolved);
            }
            let given = arn_parts(given);
            given.len() == parts.len()
                && parts.iter().zip(given).all(|(part, given)| part.matches(given, variables, unresolved))
        }
        (Kind::Number(test), Value::Number(value)) => {
            number(given).is_some_and(|given| given.partial_cmp(value).is_some_and(|order| test.holds(order)))
        }
        (Kind::Date(test), Value::Date(value)) => date(given).is_some_and(|given| test.holds(given.cmp(value))),
        (_, Value::Bool(value)) => truth(given) == Some(*value),
        (_, Value::Network(network)) => {
            given.parse::<IpAddr>().is_ok_and(|given| network.contains(&given.to_canonical()))
        }
        _ => false,
    }
}

impl Test {
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Test::Equal => order.is_eq(),
            Test::Less => order.is_lt(),
            Test::LessOrEqual => order.is_le(),
            Test::Greater => order.is_gt(),
            Test::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// The parts of an ARN: the first five end at a colon, which in a variable's name does not count.
fn arn_parts(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut in_variable) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if at > 0 && text.as_bytes()[at - 1] == b'$' => in_variable = true,
            b'}' => in_variable = false,
            b':' if !in_variable && parts.len() < 5 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && text.len() <= 30 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

/// A time: RFC 3339, a day, or seconds since 1970.
pub(super) fn date(text: &str) -> Option<Timestamp> {
    if text.len() > 40 {
        return None;
    }
    // Four digits could be meant as a year.
    if !text.is_empty() && text.len() != 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_second(text.parse().ok()?).ok();
    }
    text.parse::<Timestamp>().ok().or_else(|| {
        // A time without its zone is not a day.
        (text.len() == 10).then(|| format!("{text}T00:00:00Z").parse().ok()).flatten()
    })
}

fn truth(text: &str) -> Option<bool> {
    match text {
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Name, kind, negated.
const OPERATORS: [(&str, Kind, bool); 26] = [
    ("StringEquals", Kind::Text, false),
    ("StringNotEquals", Kind::Text, true),
    ("StringEqualsIgnoreCase", Kind::TextIgnoringCase, false),
    ("StringNotEqualsIgnoreCase", Kind::TextIgnoringCase, true),
    ("StringLike", Kind::TextLike, false),
    ("StringNotLike", Kind::TextLike, true),
    ("NumericEquals", Kind::Number(Test::Equal), false),
    ("NumericNotEquals", Kind::Number(Test::Equal), true),
    ("NumericLessThan", Kind::Number(Test::Less), false),
    ("NumericLessThanEquals", Kind::Number(Test::LessOrEqual), false),
    ("NumericGreaterThan", Kind::Number(Test::Greater), false),
    ("NumericGreaterThanEquals", Kind::Number(Test::GreaterOrEqual), false),
    ("DateEquals", Kind::Date(Test::Equal), false),
    ("DateNotEquals", Kind::Date(Test::Equal), true),
    ("DateLessThan", Kind::Date(Test::Less), false),
    ("DateLessThanEquals", Kind::Date(Test::LessOrEqual), false),
    ("DateGreaterThan", Kind::Date(Test::Greater), false),
    ("DateGreaterThanEquals", Kind::Date(Test::GreaterOrEqual), false),
    ("Bool", Kind::Bool, false),
    ("IpAddress", Kind::Ip, false),
    ("NotIpAddress", Kind::Ip, true),
    ("ArnEquals", Kind::Arn, false),
    ("ArnLike", Kind::Arn, false),
    ("ArnNotEquals", Kind::Arn, true),
    ("ArnNotLike", Kind::Arn, true),
    ("Null", Kind::Null, false),
];
