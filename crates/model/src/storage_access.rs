//! What of its project's storage a job may use (OBJ-3, JOB-5).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::BucketName;

/// Keys of a bucket that a job may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageAccess {
    /// The bucket.
    pub bucket: BucketName,
    /// What the keys begin with; empty for all.
    pub prefix: String,
    /// Whether the job may write and remove them too.
    pub write: bool,
}

/// A text is no such access.
#[derive(Debug, thiserror::Error)]
#[error("such as ro:BUCKET/PREFIX or rw:BUCKET/PREFIX, separated by commas")]
pub struct InvalidStorageAccess;

impl FromStr for StorageAccess {
    type Err = InvalidStorageAccess;

    /// `ro:BUCKET/PREFIX` or `rw:BUCKET/PREFIX`, the prefix being optional.
    fn from_str(text: &str) -> Result<StorageAccess, InvalidStorageAccess> {
        let (write, place) = match text.split_once(':') {
            Some(("ro", place)) => (false, place),
            Some(("rw", place)) => (true, place),
            _ => return Err(InvalidStorageAccess),
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if prefix.len() > LONGEST_KEY || prefix.chars().any(char::is_control) {
            return Err(InvalidStorageAccess);
        }
        let bucket = bucket.parse().map_err(|_| InvalidStorageAccess)?;
        Ok(StorageAccess { bucket, prefix: prefix.to_owned(), write })
    }
}

impl fmt::Display for StorageAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = if self.write { "rw" } else { "ro" };
        write!(f, "{right}:{}/{}", self.bucket, self.prefix)
    }
}

const LONGEST_KEY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_and_written_alike() {
        for (text, shown) in [("ro:data", "ro:data/"), ("rw:data/out/", "rw:data/out/"), ("ro:data/a:b", "ro:data/a:b")]
        {
            assert_eq!(text.parse::<StorageAccess>().expect("valid").to_string(), shown);
        }
        for text in ["data", "wo:data", "ro:", "ro:Not_A_Bucket/x", "ro:data/a\nb"] {
            assert!(text.parse::<StorageAccess>().is_err(), "{text:?}");
        }
    }
}
