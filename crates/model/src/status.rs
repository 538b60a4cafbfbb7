//! The status machine of a job: one pure function from status and event to status.

use serde::{Deserialize, Serialize};

/// Where a job stands; the old service's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// Never stored; what an older client may send.
    Unknown,
    /// Accepted; waits for room.
    Pending,
    /// An attempt was made; its sandbox is being built.
    Submitted,
    /// User code was started.
    Running,
    /// Asked to stop; not yet stopped.
    Cancelling,
    /// Ended with a return code other than 0, or never started, or lost.
    Failed,
    /// Ended by cancel or by its time to live.
    Terminated,
    /// The user's code ended by itself with the return code 0.
    Completed,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// The scheduler made an attempt.
    AttemptMade,
    /// The driver process was started.
    DriverStarted,
    /// A caller, or the time to live, asks it to stop.
    StopAsked,
    /// The attempt provably never started user code, and goes back to wait.
    AttemptVoided,
    /// The driver ended by itself with this return code.
    DriverEnded {
        /// The driver's return code.
        return_code: i32,
    },
    /// What was asked to stop has stopped.
    Stopped,
    /// The job could not be started, or was lost.
    Lost,
}

/// An event that cannot happen to a job in this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from} cannot take {event:?}")]
pub struct IllegalTransition {
    /// Where the job stood.
    pub from: JobStatus,
    /// What was to happen.
    pub event: JobEvent,
}

impl JobStatus {
    /// Every status that is stored, in the order of a life.
    pub const ALL: [JobStatus; 7] = [
        JobStatus::Pending,
        JobStatus::Submitted,
        JobStatus::Running,
        JobStatus::Cancelling,
        JobStatus::Failed,
        JobStatus::Terminated,
        JobStatus::Completed,
    ];

    /// The status after `event`.
    pub fn after(self, event: JobEvent) -> Result<JobStatus, IllegalTransition> {
        use JobEvent as E;
        use JobStatus as S;
        match (self, event) {
            (S::Pending, E::AttemptMade) => Ok(S::Submitted),
            (S::Pending, E::StopAsked) => Ok(S::Terminated),
            (S::Submitted, E::DriverStarted) => Ok(S::Running),
            (S::Submitted, E::AttemptVoided) => Ok(S::Pending),
            (S::Submitted | S::Running, E::StopAsked) => Ok(S::Cancelling),
            // Stopping is idempotent, and a start that was under way may still be reported.
            (S::Cancelling, E::StopAsked | E::DriverStarted) => Ok(S::Cancelling),
            // Whatever it returned: it was asked to stop before it ended.
            (S::Cancelling, E::Stopped | E::DriverEnded { .. } | E::Lost | E::AttemptVoided) => Ok(S::Terminated),
            (S::Submitted | S::Running, E::DriverEnded { return_code: 0 }) => Ok(S::Completed),
            (S::Submitted | S::Running, E::DriverEnded { .. }) => Ok(S::Failed),
            (S::Pending | S::Submitted | S::Running, E::Lost) => Ok(S::Failed),
            (from, event) => Err(IllegalTransition { from, event }),
        }
    }

    /// Whether no event can change it any more.
    pub fn is_final(self) -> bool {
        matches!(self, JobStatus::Failed | JobStatus::Terminated | JobStatus::Completed)
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Unknown => "UNKNOWN",
            JobStatus::Pending => "PENDING",
            JobStatus::Submitted => "SUBMITTED",
            JobStatus::Running => "RUNNING",
            JobStatus::Cancelling => "CANCELLING",
            JobStatus::Failed => "FAILED",
            JobStatus::Terminated => "TERMINATED",
            JobStatus::Completed => "COMPLETED",
        }
    }

    /// The status of that word.
    pub fn parse(word: &str) -> Option<JobStatus> {
        JobStatus::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [JobEvent; 8] = [
        JobEvent::AttemptMade,
        JobEvent::DriverStarted,
        JobEvent::StopAsked,
        JobEvent::AttemptVoided,
        JobEvent::DriverEnded { return_code: 0 },
        JobEvent::DriverEnded { return_code: 1 },
        JobEvent::Stopped,
        JobEvent::Lost,
    ];

    #[test]
    fn a_final_status_never_changes() {
        for status in JobStatus::ALL.into_iter().filter(|status| status.is_final()) {
            for event in EVENTS {
                assert!(status.after(event).is_err(), "{status} {event:?}");
            }
        }
    }

    #[test]
    fn a_job_asked_to_stop_never_completes_and_always_can_end() {
        let mut ends = 0;
        for event in EVENTS {
            if let Ok(next) = JobStatus::Cancelling.after(event) {
                assert!(matches!(next, JobStatus::Cancelling | JobStatus::Terminated), "{event:?}");
                ends += usize::from(next.is_final());
            }
        }
        assert!(ends > 0);
    }

    #[test]
    fn every_status_that_is_not_final_can_be_asked_to_stop() {
        for status in JobStatus::ALL.into_iter().filter(|status| !status.is_final()) {
            assert!(status.after(JobEvent::StopAsked).is_ok(), "{status}");
        }
    }
}
