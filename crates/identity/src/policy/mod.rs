//! Policies in the AWS language, for S3: read whole or refused, and decided by a pure function.
//! Start at [`S3Policy::parse_bucket`] and [`decide_s3`].

mod actions;
mod condition;
mod decide;
mod json;
mod pattern;
mod statement;
#[cfg(test)]
mod tests;

pub use actions::{is_s3_action, s3_action_named};
pub use condition::CONDITION_KEYS;
pub(crate) use decide::of_account;
pub use decide::{S3Question, S3Step, S3Verdict, decide_s3, explain_s3};

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use model::{BucketName, ProjectId};

use crate::Identity;
use statement::{Name, Place, Principal, Statement};

/// Whether a policy may use this condition key: one of [`CONDITION_KEYS`], with the name of a tag where that ends with
/// `/`.
pub fn is_condition_key(name: &str) -> bool {
    condition::is_key(name)
}

/// A policy in the AWS language, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct S3Policy {
    text: String,
    statements: Vec<Statement>,
}

/// Where a policy is wrong, how, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The statement: its number from 1, and its `Sid`; `None`: the policy as a whole.
    pub statement: Option<String>,
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(statement) = &self.statement {
            write!(f, "statement {statement}, ")?;
        }
        write!(f, "{}: {}; right is: {}", self.field, self.problem, self.remedy)
    }
}

impl std::error::Error for PolicyError {}

impl S3Policy {
    /// Reads the policy of a bucket: each statement names its principals, and resources of that bucket alone. At most
    /// 20 KiB.
    pub fn parse_bucket(text: &str, project: &ProjectId, bucket: &BucketName) -> Result<S3Policy, PolicyError> {
        parse(text, MOST_BYTES, Place::Bucket { project, bucket })
    }

    /// Reads the policy of a user, which names no principals, or that of a sandbox. At most 20 KiB.
    pub fn parse_user(text: &str) -> Result<S3Policy, PolicyError> {
        parse(text, MOST_BYTES, Place::User)
    }

    /// Reads the policy of a session (STS), which names no principals. At most 2,048 characters.
    pub fn parse_session(text: &str) -> Result<S3Policy, PolicyError> {
        if text.chars().count() > MOST_OF_SESSION {
            return Err(too_long(&format!("at most {MOST_OF_SESSION} characters")));
        }
        parse(text, MOST_BYTES, Place::User)
    }

    /// The policy as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it opens something to everybody: a statement allows principal `*` and no condition binds it to fixed
    /// callers or to a block of addresses that is not very wide.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html#access-control-block-public-access-policy-status>
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            let everybody = matches!(&statement.principal, Principal::These(names) if names.contains(&Name::Everybody));
            statement.allow && everybody && !statement.conditions.iter().any(condition::Condition::is_fixing)
        })
    }
}

fn parse(text: &str, most: usize, place: Place<'_>) -> Result<S3Policy, PolicyError> {
    if text.len() > most {
        return Err(too_long(&format!("at most {most} bytes")));
    }
    let whole: json::Json = serde_json::from_str(text).map_err(|cause| PolicyError {
        statement: None,
        field: "policy".to_owned(),
        problem: format!("is not JSON: {cause}"),
        remedy: "a JSON object with Version and Statement".to_owned(),
    })?;
    Ok(S3Policy { text: text.to_owned(), statements: statement::read(whole, place)? })
}

fn too_long(remedy: &str) -> PolicyError {
    PolicyError {
        statement: None,
        field: "policy".to_owned(),
        problem: "is too long".to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// Policies of buckets as they were last read, so that a call does not read them again.
#[derive(Debug, Default)]
pub(crate) struct BucketPolicies(Mutex<HashMap<(ProjectId, BucketName), Arc<S3Policy>>>);

impl Identity {
    /// Reads the policy of a bucket, from memory where the same text was read before.
    pub fn bucket_policy(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        text: &str,
    ) -> Result<Arc<S3Policy>, PolicyError> {
        let name = (project.clone(), bucket.clone());
        let policies = &self.bucket_policies.0;
        if let Some(known) = policies.lock().unwrap_or_else(PoisonError::into_inner).get(&name)
            && known.text == text
        {
            return Ok(Arc::clone(known));
        }
        let policy = Arc::new(S3Policy::parse_bucket(text, project, bucket)?);
        let mut policies = policies.lock().unwrap_or_else(PoisonError::into_inner);
        if policies.len() >= MOST_KEPT {
            policies.clear();
        }
        policies.insert(name, Arc::clone(&policy));
        Ok(policy)
    }
}

const MOST_BYTES: usize = 20 * 1024;
const MOST_OF_SESSION: usize = 2048;
const MOST_KEPT: usize = 1024;
