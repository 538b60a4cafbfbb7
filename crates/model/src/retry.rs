//! When a job is tried again after an attempt that may have started its code: only by the user's wish (JOB-16).

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::EndReason;

/// What the user wants done when an attempt ends badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// How many more attempts there may be.
    pub attempts: u32,
    /// After which causes.
    pub causes: Vec<RetryCause>,
    /// How long to wait before the second attempt; twice as long before each further one, up to an hour.
    pub backoff: Duration,
    /// An attempt that ran so long gives the retries back that were used before it; `None`: they stay used.
    pub reset: Option<Duration>,
}

impl Retry {
    /// How long to wait after `retried` retries.
    pub fn pause(&self, retried: u32) -> Duration {
        self.backoff.saturating_mul(1_u32.checked_shl(retried).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
    }

    /// Whether an attempt that ran so long gives the retries back.
    pub fn gives_back(&self, ran: Duration) -> bool {
        self.reset.is_some_and(|reset| ran >= reset)
    }
}

/// A cause that a job may be tried again after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryCause {
    /// The platform lost the attempt.
    Platform,
    /// The program ended with a return code other than 0, or by a signal.
    Failed,
    /// A node used more memory than it has.
    OutOfMemory,
    /// A node filled its local storage.
    OutOfDisk,
}

impl RetryCause {
    /// Every cause.
    pub const ALL: [RetryCause; 4] =
        [RetryCause::Platform, RetryCause::Failed, RetryCause::OutOfMemory, RetryCause::OutOfDisk];

    /// The cause that an end is of, if it is one to try again after.
    pub fn of(reason: &EndReason) -> Option<RetryCause> {
        match reason {
            EndReason::Exited { return_code: 0 } => None,
            EndReason::Exited { .. } | EndReason::Signalled { .. } => Some(RetryCause::Failed),
            EndReason::OutOfMemory { .. } => Some(RetryCause::OutOfMemory),
            EndReason::OutOfDisk { .. } => Some(RetryCause::OutOfDisk),
            EndReason::Platform { .. } => Some(RetryCause::Platform),
            EndReason::CannotStart { .. }
            | EndReason::Cancelled
            | EndReason::TtlPassed
            | EndReason::Withdrawn { .. }
            | EndReason::NotStarted { .. } => None,
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            RetryCause::Platform => "platform",
            RetryCause::Failed => "failed",
            RetryCause::OutOfMemory => "out_of_memory",
            RetryCause::OutOfDisk => "out_of_disk",
        }
    }
}

impl FromStr for RetryCause {
    type Err = ();
    fn from_str(word: &str) -> Result<RetryCause, ()> {
        RetryCause::ALL.into_iter().find(|cause| cause.as_str() == word).ok_or(())
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let retry = Retry { attempts: 99, causes: Vec::new(), backoff: Duration::from_secs(60), reset: None };
        let pauses: Vec<u64> = [0, 1, 5, 6, 40, u32::MAX].map(|retried| retry.pause(retried).as_secs()).to_vec();
        assert_eq!(pauses, [60, 120, 1920, 3600, 3600, 3600]);
    }
}
