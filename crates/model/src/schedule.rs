//! Jobs that come again by the clock, as recorded (JOB-16).

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AccountId, InvalidId, JobId, JobRequest, ProjectId};

/// A schedule: UUID version 7, so that ids sort by creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(pub Uuid);

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for ScheduleId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<ScheduleId, InvalidId> {
        let id = text.parse::<JobId>().map_err(|fault| InvalidId { kind: "schedule id", ..fault })?;
        Ok(ScheduleId(id.0))
    }
}

/// In whose name something is done later, when nobody calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account.
    pub account: AccountId,
    /// The URN that policies name them by: the account's own, a user's or a service account's.
    pub urn: String,
    /// The number of the user, which a later user of the same name does not have.
    pub person: Option<i64>,
}

/// A schedule as the service records it.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub project: ProjectId,
    /// Its name, one of a kind in the project.
    pub name: String,
    /// When it comes: five fields or a nickname, as given.
    pub cron: String,
    /// The IANA time zone that the fields are read in.
    pub zone: String,
    /// The job to submit each time.
    pub request: JobRequest,
    /// What becomes of times that were missed.
    pub catch_up: CatchUp,
    /// What becomes of a time that comes while an earlier job has not ended.
    pub overlap: Overlap,
    /// No run before this time.
    pub starts: Option<Timestamp>,
    /// No run after this time.
    pub ends: Option<Timestamp>,
    /// Whether its owner wants it to run.
    pub enabled: bool,
    /// Why the service does not go on with it, until somebody enables it again.
    pub stopped: Option<String>,
    /// In whose name its jobs are submitted: who made or changed it last.
    pub owner: Principal,
    /// How many of its runs in a row were refused.
    pub refusals: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed last, other than by a run.
    pub changed: Timestamp,
    /// When it comes next.
    pub next_run: Option<Timestamp>,
}

impl Schedule {
    /// Whether it goes on, in one word: `active`, `paused` by its owner, `stopped` by the service, or `over`: no further time is
    /// within its bounds.
    pub fn state(&self) -> &'static str {
        match (self.next_run, &self.stopped, self.enabled) {
            (Some(_), _, _) => "active",
            (None, Some(_), _) => "stopped",
            (None, None, false) => "paused",
            (None, None, true) => "over",
        }
    }
}

/// What becomes of times that were missed: the service was down, or could not submit in time.
/// So many of the newest come late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatchUp(pub u32);

impl CatchUp {
    /// They are left out.
    pub const SKIP: CatchUp = CatchUp(0);
    /// The newest of them runs.
    pub const LATEST: CatchUp = CatchUp(1);

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            0 => "skip",
            1 => "latest",
            _ => "all",
        }
    }
}

/// What becomes of a time that comes while a job of an earlier one has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is left out.
    Skip,
    /// Its job waits for the end of the earlier one.
    Queue,
    /// The earlier one is cancelled, and its job waits for that end.
    CancelRunning,
    /// Both run.
    Allow,
}

impl Overlap {
    /// Every policy.
    pub const ALL: [Overlap; 4] = [Overlap::Skip, Overlap::Queue, Overlap::CancelRunning, Overlap::Allow];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::CancelRunning => "cancel_running",
            Overlap::Allow => "allow",
        }
    }
}

impl FromStr for Overlap {
    type Err = ();
    fn from_str(word: &str) -> Result<Overlap, ()> {
        Overlap::ALL.into_iter().find(|policy| policy.as_str() == word).ok_or(())
    }
}

/// What came of one time of a schedule, or of several that were missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRun {
    /// The time that it was to be, not the one when it was.
    pub nominal: Timestamp,
    /// The last of several times that were missed.
    pub until: Option<Timestamp>,
    /// When that was written.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: RunOutcome,
    /// Why, where no job came of it.
    pub reason: Option<String>,
}

/// What came of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// A job was submitted.
    Submitted(JobId),
    /// An earlier job had not ended.
    Skipped,
    /// Nobody was there to submit it in time.
    Missed,
    /// The job could not be accepted, or its owner might not submit it.
    Refused,
}

impl RunOutcome {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            RunOutcome::Submitted(_) => "submitted",
            RunOutcome::Skipped => "skipped",
            RunOutcome::Missed => "missed",
            RunOutcome::Refused => "refused",
        }
    }

    /// The job that it became.
    pub fn job(self) -> Option<JobId> {
        match self {
            RunOutcome::Submitted(job) => Some(job),
            RunOutcome::Skipped | RunOutcome::Missed | RunOutcome::Refused => None,
        }
    }

    /// The outcome of a word and its job; `None` where the two do not belong together.
    pub fn parse(word: &str, job: Option<JobId>) -> Option<RunOutcome> {
        let with_job = job.map(RunOutcome::Submitted);
        let all = [RunOutcome::Skipped, RunOutcome::Missed, RunOutcome::Refused];
        match with_job {
            Some(outcome) => (outcome.as_str() == word).then_some(outcome),
            None => all.into_iter().find(|outcome| outcome.as_str() == word),
        }
    }
}
