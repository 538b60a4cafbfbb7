//! Containers that are open to everybody: one statement of the bucket's policy, by which anybody may read its objects
//! (and not list them), and a public access block that lets it.

use identity::S3Policy;
use model::{BucketName, ProjectId};
use serde_json::{Value, json};

use crate::{ApiError, request::Call};

/// Whether everybody may do something with a container, by whichever policy it has.
pub(crate) async fn is_public(call: &Call, bucket: &BucketName) -> Result<bool, ApiError> {
    let project = &call.project()?.id;
    let policy = match call.api.objects.policy_for_everybody(project, bucket).await {
        // Removed since it was listed.
        Err(objects::Error::NoSuchBucket { .. }) => None,
        found => found?,
    };
    let Some(text) = policy else { return Ok(false) };
    // One that cannot be read any more opens nothing.
    Ok(call.api.identity.bucket_policy(project, bucket, &text).is_ok_and(|policy| policy.is_public()))
}

/// Opens a container.
pub(crate) async fn open(call: &Call, bucket: &BucketName) -> Result<(), ApiError> {
    let project = &call.project()?.id;
    let (of, within) = (project.clone(), bucket.clone());
    let change = move |policy: Option<&str>| opened(policy, &of, &within).map(Some);
    Ok(call.api.objects.change_policy(project, bucket, true, change).await?)
}

/// Closes a container: the statement is gone, and whatever else its policy says opens it to nobody without a key.
pub(crate) async fn close(call: &Call, bucket: &BucketName) -> Result<(), ApiError> {
    let change = |policy: Option<&str>| policy.map_or(Ok(None), closed);
    Ok(call.api.objects.change_policy(&call.project()?.id, bucket, false, change).await?)
}

/// Where everybody finds the objects of a container that is open. Names of buckets are a project's own; so it stands
/// before the name.
pub(crate) fn url(call: &Call, bucket: &BucketName) -> Result<String, ApiError> {
    Ok(format!("{}/{}:{bucket}/", call.api.config.objects_url.trim_end_matches('/'), call.project()?.id))
}

/// A bucket's policy with the statement.
fn opened(policy: Option<&str>, project: &ProjectId, bucket: &BucketName) -> Result<String, String> {
    let mut whole = policy.map_or_else(|| Ok(json!({ "Version": VERSION })), parsed)?;
    let mut statements = others(&mut whole);
    statements.push(json!({
        "Sid": SID,
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [format!("arn:aws:s3:::{bucket}/*")],
    }));
    whole["Statement"] = statements.into();
    let text = whole.to_string();
    S3Policy::parse_bucket(&text, project, bucket).map_err(|fault| fault.to_string())?;
    Ok(text)
}

/// A bucket's policy without the statement; none, if that was all.
fn closed(policy: &str) -> Result<Option<String>, String> {
    let mut whole = parsed(policy)?;
    let statements = others(&mut whole);
    if statements.is_empty() {
        return Ok(None);
    }
    whole["Statement"] = statements.into();
    Ok(Some(whole.to_string()))
}

fn parsed(policy: &str) -> Result<Value, String> {
    let whole: Value = serde_json::from_str(policy).map_err(|fault| format!("the policy of the bucket: {fault}"))?;
    if whole.is_object() { Ok(whole) } else { Err("the policy of the bucket is not an object".to_owned()) }
}

/// Takes the statements out, but for the one.
fn others(whole: &mut Value) -> Vec<Value> {
    let statements = match whole["Statement"].take() {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        one => vec![one],
    };
    statements.into_iter().filter(|statement| statement["Sid"] != SID).collect()
}

const VERSION: &str = "2012-10-17";
const SID: &str = "PublicContainer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_opened_once_and_closed_to_what_it_was() {
        let (project, bucket) = ("a".repeat(32).parse().expect("a project"), "data".parse().expect("a bucket"));
        let open = |policy: Option<&str>| opened(policy, &project, &bucket).expect("a policy");
        let text = open(None);
        assert_eq!(open(Some(&text)), text);
        assert!(S3Policy::parse_bucket(&text, &project, &bucket).expect("a policy").is_public());
        assert_eq!(closed(&text), Ok(None));
        let own = json!({"Version": VERSION, "Statement": {
            "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::data/*"}});
        let text = open(Some(&own.to_string()));
        let shut: Value = serde_json::from_str(&closed(&text).expect("closed").expect("a policy")).expect("JSON");
        assert_eq!(shut["Statement"], json!([own["Statement"]]));
    }
}
