//! A job that runs after another one, by how that one ended (JOB-16).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{JobId, JobStatus};

/// What a job waits for beside its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The job whose end it waits for; of the same project.
    pub job: JobId,
    /// How that one has to end.
    pub ended: AfterEnd,
}

/// How a job has to end for another one to run after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterEnd {
    /// COMPLETED.
    Completed,
    /// FAILED or TERMINATED.
    Failed,
    /// However it ends.
    Ended,
}

impl AfterEnd {
    /// Every condition.
    pub const ALL: [AfterEnd; 3] = [AfterEnd::Completed, AfterEnd::Failed, AfterEnd::Ended];

    /// Whether a status fulfils it; `None` while that can still change.
    pub fn holds(self, status: JobStatus) -> Option<bool> {
        status.is_final().then_some(match self {
            AfterEnd::Completed => status == JobStatus::Completed,
            AfterEnd::Failed => status != JobStatus::Completed,
            AfterEnd::Ended => true,
        })
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            AfterEnd::Completed => "completed",
            AfterEnd::Failed => "failed",
            AfterEnd::Ended => "ended",
        }
    }
}

impl FromStr for AfterEnd {
    type Err = ();
    fn from_str(word: &str) -> Result<AfterEnd, ()> {
        AfterEnd::ALL.into_iter().find(|ended| ended.as_str() == word).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_open_until_the_end_and_then_one_of_two() {
        for status in JobStatus::ALL {
            let [completed, failed, ended] = AfterEnd::ALL.map(|condition| condition.holds(status));
            match status.is_final() {
                false => assert_eq!([completed, failed, ended], [None; 3], "{status}"),
                true => {
                    assert_eq!(ended, Some(true), "{status}");
                    assert_eq!(completed, failed.map(|failed| !failed), "{status}");
                }
            }
        }
        assert_eq!(AfterEnd::Completed.holds(JobStatus::Completed), Some(true));
    }
}
