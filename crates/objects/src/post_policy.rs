//! The policy of a browser's upload: what the one who signed it lets the form say
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>).

use std::{collections::BTreeMap, ops::RangeInclusive};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use s3s::{S3Error, S3Result, s3_error};
use serde::Deserialize;
use serde_json::Value;

/// A policy.
#[derive(Debug)]
pub struct Policy {
    expiration: Timestamp,
    conditions: Vec<Condition>,
}

#[derive(Debug)]
enum Condition {
    Equals { field: String, value: String },
    StartsWith { field: String, prefix: String },
    Length(RangeInclusive<u64>),
}

impl Policy {
    /// Reads the field `policy` of a form.
    pub fn parse(field: &str) -> S3Result<Policy> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document {
            expiration: String,
            conditions: Vec<Value>,
        }
        let bytes = BASE64.decode(field).map_err(|_| invalid("it is not Base64"))?;
        let document: Document = serde_json::from_slice(&bytes).map_err(|cause| invalid(&cause.to_string()))?;
        let expiration = document.expiration.parse().map_err(|_| invalid("its expiration is not an ISO 8601 time"))?;
        let mut conditions = Vec::with_capacity(document.conditions.len());
        for condition in document.conditions {
            conditions.extend(Condition::parse(condition)?);
        }
        Ok(Policy { expiration, conditions })
    }

    /// Says what of a form's fields, whose names are in lower case, is not as the policy wants it, at `now`; returns
    /// how many bytes the file may have.
    pub fn check(&self, fields: &BTreeMap<String, String>, now: Timestamp) -> S3Result<RangeInclusive<u64>> {
        if self.expiration <= now {
            return Err(refused("Policy expired."));
        }
        let value = |field: &str| fields.get(field).map(String::as_str).unwrap_or_default();
        let mut length = 0..=u64::MAX;
        for condition in &self.conditions {
            let holds = match condition {
                Condition::Equals { field, value: wanted } => value(field) == wanted,
                // A list of types is one of several values.
                Condition::StartsWith { field, prefix } if field == "content-type" => {
                    value(field).split(',').all(|one| one.trim_start().starts_with(prefix))
                }
                Condition::StartsWith { field, prefix } => value(field).starts_with(prefix),
                Condition::Length(range) => {
                    length = *length.start().max(range.start())..=*length.end().min(range.end());
                    true
                }
            };
            if !holds {
                return Err(refused(&format!("Policy Condition failed: {}", condition.text())));
            }
        }
        let extra = fields.keys().find(|name| !is_free(name) && !self.conditions.iter().any(|it| it.names(name)));
        match extra {
            Some(name) => Err(refused(&format!("Extra input fields: {name}"))),
            None => Ok(length),
        }
    }
}

impl Condition {
    /// One of an array such as `["eq", "$key", "x"]`, or as many as an object such as `{"key": "x"}` has fields.
    fn parse(value: Value) -> S3Result<Vec<Condition>> {
        let unknown = || invalid("a condition is not of a known form");
        match value {
            Value::Object(object) => object
                .into_iter()
                .map(|(field, value)| {
                    let value = value.as_str().map(str::to_owned).ok_or_else(unknown)?;
                    Ok(Condition::Equals { field: field.to_ascii_lowercase(), value })
                })
                .collect(),
            Value::Array(array) => match array.as_slice() {
                [Value::String(kind), least, most] if kind.eq_ignore_ascii_case("content-length-range") => {
                    // Some send numbers as text.
                    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
                    match (number(least), number(most)) {
                        (Some(least), Some(most)) if least <= most => Ok(vec![Condition::Length(least..=most)]),
                        _ => Err(invalid("content-length-range is not of two numbers, the lower first")),
                    }
                }
                [Value::String(kind), Value::String(field), Value::String(value)] => {
                    let field = field.strip_prefix('$').ok_or_else(|| invalid("a field is named `$NAME`"))?;
                    let (field, value) = (field.to_ascii_lowercase(), value.clone());
                    match kind.to_ascii_lowercase().as_str() {
                        "eq" => Ok(vec![Condition::Equals { field, value }]),
                        "starts-with" => Ok(vec![Condition::StartsWith { field, prefix: value }]),
                        _ => Err(unknown()),
                    }
                }
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    fn names(&self, name: &str) -> bool {
        match self {
            Condition::Equals { field, .. } | Condition::StartsWith { field, .. } => field == name,
            Condition::Length(_) => false,
        }
    }

    /// As the policy has it.
    fn text(&self) -> String {
        match self {
            Condition::Equals { field, value } => format!("[\"eq\", \"${field}\", \"{value}\"]"),
            Condition::StartsWith { field, prefix } => format!("[\"starts-with\", \"${field}\", \"{prefix}\"]"),
            Condition::Length(range) => format!("[\"content-length-range\", {}, {}]", range.start(), range.end()),
        }
    }
}

/// Fields that need no condition.
fn is_free(name: &str) -> bool {
    // The bucket is of the address, and not free: who signs for one bucket does not sign for the others.
    ["x-amz-signature", "file", "policy"].contains(&name) || name.starts_with("x-ignore-")
}

fn invalid(why: &str) -> S3Error {
    s3_error!(InvalidPolicyDocument, "Invalid Policy: {why}")
}

fn refused(why: &str) -> S3Error {
    s3_error!(AccessDenied, "Invalid according to Policy: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(conditions: &str) -> S3Result<Policy> {
        let text = format!("{{\"expiration\": \"2030-01-01T12:00:00.000Z\", \"conditions\": {conditions}}}");
        Policy::parse(&BASE64.encode(text))
    }

    fn check(conditions: &str, fields: &[(&str, &str)]) -> Result<RangeInclusive<u64>, String> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let now = "2029-12-31T23:59:59Z".parse().expect("a time");
        let refusal = |cause: S3Error| format!("{} {}", cause.code().as_str(), cause.message().unwrap_or_default());
        policy(conditions).and_then(|policy| policy.check(&fields, now)).map_err(refusal)
    }

    #[test]
    fn each_kind_of_condition_holds_or_refuses() {
        let conditions = r#"[{"Bucket": "data"}, ["starts-with", "$key", "user/"], ["eq", "$acl", "private"],
            ["starts-with", "$Content-Type", "image/"], ["content-length-range", 1, 100],
            ["content-length-range", "0", "50"], ["starts-with", "$x-amz-meta-any", ""]]"#;
        let good = [
            ("bucket", "data"),
            ("key", "user/a"),
            ("acl", "private"),
            ("content-type", "image/png, image/gif"),
            ("policy", "..."),
            ("x-amz-signature", "..."),
            ("x-ignore-me", "..."),
        ];
        assert_eq!(check(conditions, &good), Ok(1..=50));
        for (at, wrong) in [(0, "other"), (1, "users"), (2, "public-read"), (3, "image/png,text/html")] {
            let mut fields = good;
            fields[at].1 = wrong;
            let refusal = check(conditions, &fields).expect_err("refused");
            assert!(
                refusal.starts_with("AccessDenied Invalid according to Policy: Policy Condition failed"),
                "{refusal}"
            );
        }
        let mut more = good.to_vec();
        more.push(("x-amz-meta-other", "1"));
        let refusal = check(conditions, &more).expect_err("refused");
        assert_eq!(refusal, "AccessDenied Invalid according to Policy: Extra input fields: x-amz-meta-other");
        assert!(check(conditions, &good[1..]).is_err(), "a field that a condition names is missing");
        let refusal = check(r#"[["starts-with", "$key", ""]]"#, &good[..2]).expect_err("of any bucket");
        assert_eq!(refusal, "AccessDenied Invalid according to Policy: Extra input fields: bucket");
    }

    #[test]
    fn a_policy_ends_when_it_says() {
        let policy = policy("[]").expect("a policy");
        let at = |time: &str| policy.check(&BTreeMap::new(), time.parse().expect("a time"));
        assert!(at("2030-01-01T11:59:59Z").is_ok());
        assert_eq!(at("2030-01-01T12:00:00Z").expect_err("expired").code(), &s3s::S3ErrorCode::AccessDenied);
    }

    #[test]
    fn what_is_no_policy_is_refused_whole() {
        for conditions in [
            r#"[["eq", "key", "x"]]"#,
            r#"[["like", "$key", "x"]]"#,
            r#"[["eq", "$key"]]"#,
            r#"[["content-length-range", 2, 1]]"#,
            r#"[["content-length-range", -1, 1]]"#,
            r#"[{"key": 1}]"#,
            r#"["key"]"#,
            r#"{}"#,
            r#"[], "more": 1"#,
        ] {
            let refusal = policy(conditions).expect_err(conditions);
            assert_eq!(refusal.code(), &s3s::S3ErrorCode::InvalidPolicyDocument, "{conditions}");
        }
        assert!(Policy::parse("not base64!").is_err());
    }
}
