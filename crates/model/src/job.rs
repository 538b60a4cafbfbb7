//! A job and its attempts, as recorded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AttemptNo, JobId, JobSpec, JobStatus, ProjectId};

/// A job as the service records it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub project: ProjectId,
    /// What was asked for.
    pub spec: JobSpec,
    /// Where it stands.
    pub status: JobStatus,
    /// When it was accepted.
    pub created: Timestamp,
    /// When its user code was started: in its newest attempt; once it has ended, in the last one that started any.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The driver's return code; never 0 for a job that did not complete.
    pub return_code: Option<i32>,
    /// Why it ended.
    pub reason: Option<EndReason>,
    /// Address of its logs in object storage, once it has ended.
    pub logs_address: Option<String>,
    /// The fencing number of its newest attempt; 0 before the first.
    pub attempt: u32,
    /// Since when it has its status.
    pub since: Timestamp,
    /// No attempt is made before this time: the pause before a retry.
    pub not_before: Timestamp,
    /// How often it was tried again because the user asked for that, since the attempt `forgotten`.
    pub retried: u32,
    /// Attempts up to this number do not count any more: a later one ran long enough.
    pub forgotten: u32,
}

impl Job {
    /// A job that was just accepted.
    pub fn new(id: JobId, project: ProjectId, spec: JobSpec, at: Timestamp) -> Job {
        Job {
            id,
            project,
            spec,
            status: JobStatus::Pending,
            created: at,
            started: None,
            ended: None,
            return_code: None,
            reason: None,
            logs_address: None,
            attempt: 0,
            since: at,
            not_before: at,
            retried: 0,
            forgotten: 0,
        }
    }
}

/// One attempt to run a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// Its fencing number.
    pub number: AttemptNo,
    /// When it was made.
    pub created: Timestamp,
    /// When its user code was started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Why a job ended; shown to the user and counted by the SLA rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum EndReason {
    /// The user's code ended by itself.
    Exited {
        /// Its return code.
        return_code: i32,
    },
    /// Killed by a signal that Casemate did not send.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// A node used more memory than its limit.
    OutOfMemory {
        /// Which node and which limit, for the user.
        detail: String,
    },
    /// A node filled its local storage.
    OutOfDisk {
        /// Which node and which limit, for the user.
        detail: String,
    },
    /// The main file or another part of the job could not be fetched or started: the user's to mend.
    CannotStart {
        /// What and why, for the user.
        detail: String,
    },
    /// A caller cancelled it.
    Cancelled,
    /// It ran longer than its time to live.
    TtlPassed,
    /// Its engine was withdrawn before it was started: the platform's to answer for.
    Withdrawn {
        /// Which version, and why.
        detail: String,
    },
    /// It waited, and the platform, which had accepted it, does not start it: the platform's to answer for.
    NotStarted {
        /// Why.
        detail: String,
    },
    /// The platform lost it: a shim, a sandbox, the machine.
    Platform {
        /// What was lost.
        detail: String,
    },
}

/// Whose fault it is that a job failed (JOB-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The job's own: its code, its size, its files.
    Job,
    /// The platform's.
    Platform,
}

impl EndReason {
    /// Whose fault it is where the job failed by it.
    pub fn blame(&self) -> Blame {
        match self {
            EndReason::Platform { .. } | EndReason::Withdrawn { .. } | EndReason::NotStarted { .. } => Blame::Platform,
            EndReason::Exited { .. }
            | EndReason::Signalled { .. }
            | EndReason::OutOfMemory { .. }
            | EndReason::OutOfDisk { .. }
            | EndReason::CannotStart { .. }
            | EndReason::Cancelled
            | EndReason::TtlPassed => Blame::Job,
        }
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EndReason::Exited { return_code } => write!(f, "the driver ended with return code {return_code}"),
            EndReason::Signalled { signal } => write!(f, "the driver was killed by signal {signal}"),
            EndReason::OutOfMemory { detail } => write!(f, "out of memory: {detail}"),
            EndReason::OutOfDisk { detail } => write!(f, "out of local storage: {detail}"),
            EndReason::CannotStart { detail } => write!(f, "cannot start: {detail}"),
            EndReason::Cancelled => f.write_str("cancelled"),
            EndReason::TtlPassed => f.write_str("its time to live passed"),
            EndReason::Withdrawn { detail } => write!(f, "its engine was withdrawn: {detail}"),
            EndReason::NotStarted { detail } => write!(f, "not started by the platform: {detail}"),
            EndReason::Platform { detail } => write!(f, "lost by the platform: {detail}"),
        }
    }
}
