//! Identifiers, one type a kind. Each parses once, at the edge.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} '{given}' is not valid: {rule}")]
pub struct InvalidId {
    /// The kind of identifier, such as `bucket name`.
    pub kind: &'static str,
    /// What was given, cut to 80 characters.
    pub given: String,
    /// What would be right.
    pub rule: &'static str,
}

fn invalid(kind: &'static str, given: &str, rule: &'static str) -> InvalidId {
    InvalidId { kind, given: given.chars().take(80).collect(), rule }
}

/// A job: UUID version 7, so that ids sort by creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != 36 {
            return Err(invalid("job id", text, "a UUID such as 0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c11"));
        }
        Uuid::try_parse(text)
            .map(JobId)
            .map_err(|_| invalid("job id", text, "a UUID such as 0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c11"))
    }
}

/// The fencing number of an attempt of a job, from 1. A higher number supersedes all lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNo(pub u32);

impl fmt::Display for AttemptNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One attempt of one job: what a sandbox is made for. Written `JOB.ATTEMPT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SandboxId {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: AttemptNo,
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.attempt)
    }
}

impl FromStr for SandboxId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let rule = "JOB.ATTEMPT, a UUID and a number from 1";
        let (job, attempt) = text.split_once('.').ok_or_else(|| invalid("sandbox id", text, rule))?;
        let job = job.parse()?;
        match attempt.parse::<u32>() {
            Ok(number) if number >= 1 && attempt == number.to_string() => {
                Ok(SandboxId { job, attempt: AttemptNo(number) })
            }
            _ => Err(invalid("sandbox id", text, rule)),
        }
    }
}

/// Makes a checked text identifier: one rule, one parser, serde through it.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(invalid($kind, text, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// An account, in the old service's form: `xx1111-ovh`, here `NAME-casemate` or any such handle.
    AccountId, "account", "3 to 64 of a-z, 0-9, '-', beginning with a letter",
    |text| (3..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
text_id!(
    /// A project (`serviceName` in the old API): 32 hexadecimal digits.
    ProjectId, "project id", "32 hexadecimal digits, lower case",
    |text| text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);
text_id!(
    /// A bucket, by the S3 naming rules
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>).
    BucketName, "bucket name", "3 to 63 of a-z, 0-9, '-' and '.', a letter or digit at each end, no '..', not an IP address",
    |text| (3..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains("..")
        && text.parse::<std::net::Ipv4Addr>().is_err()
);
text_id!(
    /// A version of an engine, such as `3.5.9`.
    EngineVersion, "engine version", "digits and dots, such as 3.5.9",
    |text| (1..=32).contains(&text.len())
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
);
text_id!(
    /// A region: a named place, such as `GRA`.
    Region, "region", "1 to 32 of letters, digits and '-'",
    |text| (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
);
text_id!(
    /// A node of a job: `driver` or `executor-N`. Names containers, logs and volumes.
    NodeName, "node name", "'driver' or 'executor-N' with N from 1",
    |text| text == "driver"
        || text.strip_prefix("executor-").is_some_and(|n| {
            n.len() <= 9 && n.parse::<u32>().is_ok_and(|number| number >= 1 && number.to_string() == n)
        })
);

impl BucketName {
    /// The bucket of every project that holds the logs of its jobs; the old service's name.
    pub fn logs() -> Self {
        Self("odp-logs".to_owned())
    }

    /// The bucket of every project that holds the environments of its jobs.
    pub fn environments() -> Self {
        Self("odp-environments".to_owned())
    }

    /// Whether this is the bucket of logs, which jobs may read only.
    pub fn is_logs(&self) -> bool {
        self.0 == "odp-logs"
    }
}

impl NodeName {
    /// The driver's node.
    pub fn driver() -> Self {
        Self("driver".to_owned())
    }

    /// The node of executor `number`, from 1.
    pub fn executor(number: u32) -> Self {
        Self(format!("executor-{}", number.max(1)))
    }

    /// Whether this is the driver's node.
    pub fn is_driver(&self) -> bool {
        self.0 == "driver"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_id_reads_back_as_written() {
        let id = SandboxId { job: JobId(Uuid::from_u128(7)), attempt: AttemptNo(3) };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "x.1", "00000000-0000-0000-0000-000000000007.0", "00000000-0000-0000-0000-000000000007.01"] {
            assert!(wrong.parse::<SandboxId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for wrong in ["..", "a/b", "driver/..", "executor-0", "executor-01", "executor--1", "Driver", ""] {
            assert!(wrong.parse::<NodeName>().is_err(), "{wrong}");
        }
        for wrong in ["ab", "A-bucket", "bucket_", "a..b", "192.168.1.1", "-ab", "ab-", "a/b"] {
            assert!(wrong.parse::<BucketName>().is_err(), "{wrong}");
        }
        for wrong in ["", "3..5", "../3", "3.5.9 ", "v3"] {
            assert!(wrong.parse::<EngineVersion>().is_err(), "{wrong}");
        }
    }
}
