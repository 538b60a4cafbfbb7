//! The policy that holds a job to parts of its project's storage.

use model::{BucketName, StorageAccess};
use serde_json::json;

/// The session policy of a job: it reads the bucket of its code and what it was given besides, and writes what it was
/// given to write. The rules of the job's scope, such as those on logs, hold beside it.
pub fn job_policy(code: &BucketName, accesses: &[StorageAccess]) -> String {
    let code = StorageAccess { bucket: code.clone(), prefix: String::new(), write: false };
    let mut statements = vec![json!({ "Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*" })];
    let (mut buckets, mut readable, mut writable) = (Vec::new(), Vec::new(), Vec::new());
    for access in std::iter::once(&code).chain(accesses) {
        let bucket = format!("arn:aws:s3:::{}", access.bucket);
        let keys = format!("{bucket}/{}*", literal(&access.prefix));
        if access.write {
            writable.push(keys.clone());
        }
        readable.push(keys);
        let mut list = json!({ "Effect": "Allow", "Action": LISTS, "Resource": bucket });
        if !access.prefix.is_empty() {
            // Clients of file systems list the directory itself without its last slash.
            let directory = access.prefix.trim_end_matches('/');
            list["Condition"] = json!({
                "StringLike": { "s3:prefix": [format!("{}*", literal(&access.prefix)), literal(directory)] }
            });
        }
        statements.push(list);
        buckets.push(bucket);
    }
    statements.push(json!({ "Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": buckets }));
    statements.push(json!({ "Effect": "Allow", "Action": READS, "Resource": readable }));
    if !writable.is_empty() {
        statements.push(json!({ "Effect": "Allow", "Action": WRITES, "Resource": writable }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

/// A prefix in which no character stands for others.
fn literal(prefix: &str) -> String {
    prefix.replace('$', "${$}").replace('*', "${*}").replace('?', "${?}")
}

const LISTS: [&str; 3] = ["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"];
const READS: [&str; 4] = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging", "s3:GetObjectAttributes"];
const WRITES: [&str; 5] = [
    "s3:PutObject",
    "s3:PutObjectTagging",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{S3Grant, S3Policy, S3Question, Scope, decide_s3};

    #[test]
    fn a_job_reads_its_code_and_uses_what_it_was_given() {
        let project: model::ProjectId = "0123456789abcdef0123456789abcdef".parse().expect("a project");
        let accesses: Vec<StorageAccess> =
            ["ro:data/in*/", "rw:data/out/"].iter().map(|text| text.parse().expect("an access")).collect();
        let policy = job_policy(&"code".parse().expect("a bucket"), &accesses);
        let sandbox = model::SandboxId { job: model::JobId(uuid::Uuid::from_u128(1)), attempt: model::AttemptNo(1) };
        let grant = S3Grant {
            access: None,
            secret: Default::default(),
            project: project.clone(),
            identity: "sandbox/1".to_owned(),
            scope: Scope::Job(sandbox),
            session_token: None,
            expires: None,
            principal: format!("arn:aws:iam::{project}:root"),
            user: None,
            user_policy: None,
            session_policies: vec![Arc::new(S3Policy::parse_user(&policy).expect("a policy"))],
            account_policies: None,
        };
        let may = |action: &str, bucket: &str, key: Option<&str>, context: &[(&str, &str)]| {
            let question = S3Question {
                project: &project,
                action,
                bucket: Some(bucket),
                key,
                bucket_policy: None,
                context,
                public_blocked: true,
            };
            decide_s3(Some(&grant), &question, None).allowed
        };
        assert!(may("s3:GetObject", "code", Some("main.py"), &[]));
        assert!(!may("s3:PutObject", "code", Some("main.py"), &[]));
        assert!(may("s3:GetObject", "data", Some("in*/a"), &[]));
        assert!(!may("s3:GetObject", "data", Some("inner/a"), &[]), "a star in a prefix is a star");
        assert!(!may("s3:PutObject", "data", Some("in*/a"), &[]));
        assert!(may("s3:PutObject", "data", Some("out/a"), &[]));
        assert!(may("s3:DeleteObject", "data", Some("out/a"), &[]));
        assert!(!may("s3:GetObject", "data", Some("other"), &[]));
        assert!(!may("s3:GetObject", "else", Some("a"), &[]));
        assert!(may("s3:ListBucket", "data", None, &[("s3:prefix", "out/x")]));
        assert!(may("s3:ListBucket", "data", None, &[("s3:prefix", "out")]));
        assert!(!may("s3:ListBucket", "data", None, &[]), "the whole bucket");
        assert!(!may("s3:PutBucketPolicy", "data", None, &[]));
    }

    #[test]
    fn as_much_as_a_job_may_ask_for_is_a_policy_all_the_same() {
        let accesses: Vec<StorageAccess> =
            (0..16).map(|at| format!("rw:bucket-{at}/{}", "*".repeat(52)).parse().expect("an access")).collect();
        S3Policy::parse_user(&job_policy(&"code".parse().expect("a bucket"), &accesses)).expect("a policy");
    }
}
