//! Versions of an engine that may not be chosen any more (JOB-2).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::EngineVersion;

/// A version that the operator has withdrawn, such as one with a known hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// The version.
    pub version: EngineVersion,
    /// Why, for the owners of jobs.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// A version that is installed and may not be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The version.
    pub version: EngineVersion,
    /// Why not.
    pub cause: RetiredBy,
    /// Why not and which version to use, one sentence without a full stop.
    pub why: String,
}

/// Why a version may not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetiredBy {
    /// The day of its end of life has come, and there is a newer one.
    EndOfLife,
    /// The operator has withdrawn it.
    Withdrawal,
    /// Its first day has not come.
    NotYet,
}

impl RetiredBy {
    /// The end of the error class of a submit that names it.
    pub fn class(self) -> &'static str {
        match self {
            RetiredBy::EndOfLife => "odp.job.engineVersion.endOfLife",
            RetiredBy::Withdrawal => "odp.job.engineVersion.withdrawn",
            RetiredBy::NotYet => "odp.job.engineVersion.notYetAvailable",
        }
    }
}
