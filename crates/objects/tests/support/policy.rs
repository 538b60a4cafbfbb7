//! Policies enough to see what the gate asks, and that it does what it is told: effect, principal, action, resource, and
//! `StringEquals`, each with `*` at the end of a name only.

use objects::{Grant, Question, Verdict};
use serde_json::Value;

/// What a bucket's policy and the caller's say.
pub fn decide(caller: Option<&Grant>, own: Option<&str>, question: &Question<'_>) -> Verdict {
    let because = |allowed, reason: &str| Verdict { allowed, reason: reason.to_owned() };
    let bucket = question.bucket_policy.map(statements).unwrap_or_default();
    let matching: Vec<&Value> = bucket.iter().filter(|it| is_for(it, caller) && applies(it, question)).collect();
    if matching.iter().any(|it| it["Effect"] == "Deny") {
        return because(false, "the bucket's policy denies it");
    }
    let opens = |it: &&Value| it["Effect"] == "Allow" && (caller.is_some() || !question.public_blocked);
    if matching.iter().any(opens) {
        return because(true, "the bucket's policy allows it");
    }
    match (caller, own) {
        (Some(_), Some(own)) if statements(own).iter().any(|it| it["Effect"] == "Allow" && applies(it, question)) => {
            because(true, "the caller's policy allows it")
        }
        (Some(caller), None) if caller.plain => because(true, "the key may all"),
        _ => because(false, "nothing allows it"),
    }
}

/// Whether a text is a policy, and opens a bucket to everybody.
pub fn check(text: &str) -> Result<bool, String> {
    let policy: Value = serde_json::from_str(text).map_err(|cause| cause.to_string())?;
    let list = policy["Statement"].as_array().ok_or("there is no list of statements")?;
    Ok(list.iter().any(|it| it["Effect"] == "Allow" && it["Principal"] == "*" && it["Condition"].is_null()))
}

fn statements(policy: &str) -> Vec<Value> {
    let policy: Value = serde_json::from_str(policy).expect("a policy");
    policy["Statement"].as_array().expect("statements").clone()
}

fn is_for(statement: &Value, caller: Option<&Grant>) -> bool {
    statement["Principal"] == "*"
        || caller.is_some_and(|caller| texts(&statement["Principal"]["AWS"]).iter().any(|it| *it == caller.principal))
}

fn applies(statement: &Value, question: &Question<'_>) -> bool {
    let resource = match (question.bucket, question.key) {
        (Some(bucket), Some(key)) => format!("arn:aws:s3:::{bucket}/{key}"),
        (Some(bucket), None) => format!("arn:aws:s3:::{bucket}"),
        _ => "*".to_owned(),
    };
    let conditions = statement["Condition"]["StringEquals"].as_object().cloned().unwrap_or_default();
    texts(&statement["Action"]).iter().any(|it| like(it, question.action))
        && texts(&statement["Resource"]).iter().any(|it| like(it, &resource))
        && conditions.iter().all(|(key, wanted)| {
            let mut given = question.context.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
            given.any(|(_, value)| texts(wanted).contains(value))
        })
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn like(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}
