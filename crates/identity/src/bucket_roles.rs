//! Roles on a bucket, as the old API grants them: statements of a user's policy.

use std::str::FromStr;

use model::BucketName;
use serde_json::{Value, json};

use crate::{PolicyError, S3Policy, random};

/// A role on a bucket or on objects of it: `cloud.storage.PolicyRoleEnum` in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketRole {
    /// Everything.
    Admin,
    /// Nothing, whatever else allows it.
    Deny,
    /// Reads and lists.
    ReadOnly,
    /// Reads, lists, writes and deletes.
    ReadWrite,
}

impl BucketRole {
    /// All of them.
    pub const ALL: [BucketRole; 4] = [BucketRole::Admin, BucketRole::Deny, BucketRole::ReadOnly, BucketRole::ReadWrite];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            BucketRole::Admin => "admin",
            BucketRole::Deny => "deny",
            BucketRole::ReadOnly => "readOnly",
            BucketRole::ReadWrite => "readWrite",
        }
    }
}

/// A word that is not a role on a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role on a bucket is one of admin, deny, readOnly, readWrite")]
pub struct NoBucketRole;

impl FromStr for BucketRole {
    type Err = NoBucketRole;
    fn from_str(text: &str) -> Result<Self, NoBucketRole> {
        BucketRole::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NoBucketRole)
    }
}

/// The statement of a role on a bucket (`object_key` empty), or on those of its objects that `object_key` names, `*`
/// and `?` allowed. Its `Sid` is that of bucket and key: another role for the same takes its place.
pub fn role_statement(bucket: &BucketName, object_key: &str, role: BucketRole) -> Value {
    let whole = object_key.is_empty();
    // What could be taken for a policy variable is a part of the key here.
    let key = if whole { "*".to_owned() } else { object_key.replace('$', "${$}") };
    let objects = format!("arn:aws:s3:::{bucket}/{key}");
    let resources = if whole { json!([format!("arn:aws:s3:::{bucket}"), objects]) } else { json!([objects]) };
    let mut actions: Vec<&str> = Vec::new();
    match role {
        BucketRole::Admin | BucketRole::Deny => actions.push("s3:*"),
        BucketRole::ReadOnly | BucketRole::ReadWrite => {
            actions.extend(READ);
            if role == BucketRole::ReadWrite {
                actions.extend(WRITE);
            }
            if whole {
                actions.extend(LIST);
            }
        }
    }
    let effect = if role == BucketRole::Deny { "Deny" } else { "Allow" };
    let name = random::sha256(&format!("{bucket}/{object_key}"));
    let sid = format!("Bucket{}", hex::encode(&name[..8]));
    json!({ "Sid": sid, "Effect": effect, "Action": actions, "Resource": resources })
}

/// A user's policy with a statement added to it, in the place of the one of the same `Sid`.
pub fn merge_statement(policy: Option<&str>, statement: Value) -> Result<String, PolicyError> {
    let mut statements = Vec::new();
    let mut whole = json!({});
    if let Some(text) = policy {
        // Read by the same rules as any: what follows relies on its form.
        S3Policy::parse_user(text)?;
        whole = serde_json::from_str(text).unwrap_or(whole);
        if whole["Version"] != VERSION && text.contains("${") {
            return Err(PolicyError {
                statement: None,
                field: "Version".to_owned(),
                problem: "is an old one, in which '${' is no variable".to_owned(),
                remedy: format!("a policy of version \"{VERSION}\", to which a role can be added"),
            });
        }
        match whole["Statement"].take() {
            Value::Array(list) => statements = list,
            one => statements.push(one),
        }
    }
    match statements.iter_mut().find(|old| old["Sid"] == statement["Sid"]) {
        Some(old) => *old = statement,
        None => statements.push(statement),
    }
    whole["Version"] = json!(VERSION);
    whole["Statement"] = Value::Array(statements);
    let text = whole.to_string();
    S3Policy::parse_user(&text)?;
    Ok(text)
}

/// The version whose escapes the statements of roles use.
const VERSION: &str = "2012-10-17";
const READ: [&str; 6] = [
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectTagging",
    "s3:GetObjectAttributes",
    "s3:GetObjectAcl",
    "s3:ListMultipartUploadParts",
];
const WRITE: [&str; 6] = [
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
    "s3:DeleteObject",
    "s3:DeleteObjectTagging",
    "s3:AbortMultipartUpload",
];
const LIST: [&str; 5] = [
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:ListBucketMultipartUploads",
    "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> BucketName {
        "data".parse().expect("a bucket")
    }

    #[test]
    fn each_role_is_a_statement_that_a_policy_can_have() {
        for role in BucketRole::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            for key in ["", "logs/*", "a b/\"c\"\\", "${aws:username}", "$", "\u{7f}é"] {
                let statement = role_statement(&bucket(), key, role);
                let text = merge_statement(None, statement).expect("a policy");
                S3Policy::parse_user(&text).expect("a policy");
            }
        }
        assert_eq!("owner".parse::<BucketRole>(), Err(NoBucketRole));
    }

    #[test]
    fn a_role_takes_the_place_of_the_one_on_the_same_objects_only() {
        let by_hand = r#"{"Version":"2012-10-17","Id":"mine","Statement":
            {"Sid":"mine","Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::${aws:username}"}}"#;
        let text = merge_statement(Some(by_hand), role_statement(&bucket(), "", BucketRole::ReadOnly)).expect("merged");
        let text = merge_statement(Some(&text), role_statement(&bucket(), "x", BucketRole::ReadOnly)).expect("merged");
        let text = merge_statement(Some(&text), role_statement(&bucket(), "", BucketRole::Deny)).expect("merged");
        let whole: Value = serde_json::from_str(&text).expect("JSON");
        let effects: Vec<&str> =
            whole["Statement"].as_array().expect("a list").iter().filter_map(|one| one["Effect"].as_str()).collect();
        assert_eq!((effects, &whole["Id"]), (vec!["Allow", "Deny", "Allow"], &json!("mine")));
    }

    #[test]
    fn a_policy_of_the_old_version_does_not_change_its_meaning() {
        let old = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::a/${aws:username}"}}"#;
        let wrong = merge_statement(Some(old), role_statement(&bucket(), "", BucketRole::Admin)).expect_err("refused");
        assert_eq!(wrong.field, "Version");
        let plain = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::a/b"}}"#;
        merge_statement(Some(plain), role_statement(&bucket(), "", BucketRole::Admin)).expect("merged");
    }
}
