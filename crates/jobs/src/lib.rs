//! Jobs: their life cycle, the scheduler, their logs, and the shim that keeps each alive. Decides what becomes of a
//! job and records it; knows neither the API nor SQL, and starts nothing but through the warden and a shim.
//! Start at [`Jobs::submit`] and [`Jobs::run`].
//!
//! | file | is about |
//! |---|---|
//! | `submit`, `idempotency` | what a job must be to be accepted; the same submit twice is one job |
//! | `scheduler`, `turns` | which job starts next |
//! | `quota`, `waiting` | what projects may take at once; why a job waits |
//! | `versions` | which engine versions jobs may ask for; withdrawals |
//! | `schedules` | jobs that come again by the clock; what owners of these are told of engine versions |
//! | `watch` | one attempt: sandbox, start, what its shim says, the end of all that |
//! | `environment` | packages of a job, of Python and of Maven: brought once, kept in its project's bucket |
//! | `warm` | runtimes that wait for their job |
//! | `record` | each change of a job, with its audit entry in the same transaction |
//! | `salvage` | the log of an attempt whose shim died |
//! | `reconcile` | what an earlier process left behind; spools that are old enough to go |
//! | `query`, `logs`, `used` | reading |
//! | `history` | what nodes used over time, in a bounded number of points |
//! | `metrics` | what operators see of all jobs together |
//! | `billing` | what jobs cost, and what is credited for those that the platform lost |
//! | `control`, `spool`, `shim` | the other process: its protocol, its files, itself |

mod billing;
pub mod control;
mod environment;
pub mod history;
mod idempotency;
mod logs;
mod metrics;
mod query;
mod quota;
mod reconcile;
mod record;
mod salvage;
mod scheduler;
pub mod schedules;
pub mod shim;
#[cfg(test)]
mod simulation;
pub mod spool;
mod submit;
mod surroundings;
mod turns;
mod used;
mod versions;
mod waiting;
mod warm;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use audit::{Actor, Audit};
use db::Db;
use engine::{Engines, Offer};
use jiff::Timestamp;
use keys::Keys;
use model::{
    Cores, Effect, Faults, IllegalTransition, Job, JobId, JobRequest, MiB, ProjectId, Quota, Region, SpecRules,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use billing::{
    Billing, Correction, Credit, Failure, InvalidCorrection, InvalidMonth, InvalidPrice, Line, Month, NewCorrection,
    Price, Statement,
};
pub use control::{JobKeys, S3Pair};
pub use environment::{Archive, Content, Environment, EnvironmentConfig};
pub use idempotency::{IdempotencyKey, InvalidKey};
pub use logs::Logs;
pub use metrics::Metrics;
pub use query::{Filter, FilterOp, JobField, ListQuery, Page};
pub use quota::Quotas;
pub use schedules::{ScheduleRequest, Schedules};
pub use spool::Query as LogQuery;
pub use surroundings::{BoxError, Permission, Surroundings};
pub use turns::{Choice, Turns};
pub use used::Used;
pub use versions::{InvalidWithdrawal, Versions};
pub use waiting::Standing;
pub use warm::{Kept, Shape};

/// The jobs of this service; a cheap handle.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

/// What jobs are made of.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// Where each change is recorded.
    pub audit: Audit,
    /// Keys of the projects; logs are sealed with keys that these wrap.
    pub keys: Arc<Keys>,
    /// What builds sandboxes.
    pub warden: warden::Client,
    /// What jobs run on.
    pub engines: Arc<Engines>,
    /// Rooms beside this one.
    pub surroundings: Arc<dyn Surroundings>,
    /// Limits and places.
    pub config: Config,
}

/// Limits and places.
#[derive(Debug, Clone)]
pub struct Config {
    /// Regions of this service. The first is that of projects that have none yet.
    pub regions: Vec<Region>,
    /// How many jobs have a sandbox at once.
    pub max_running: u32,
    /// Cores of all these together.
    pub cores: Cores,
    /// Memory of all these together.
    pub memory: MiB,
    /// Local storage of all these together: their volumes are made as large as they may get.
    pub storage: MiB,
    /// Runtimes that are kept waiting for jobs.
    pub warm: Vec<Kept>,
    /// How long the log of an ended job can be read here before it is in the bucket only.
    pub log_retention: Duration,
    /// Directory of the spools, `JOB/ATTEMPT` each.
    pub spool: PathBuf,
    /// Where the buckets of logs are reached, such as `https://s3.example.org`.
    pub log_address_base: String,
    /// Packages of jobs.
    pub environments: EnvironmentConfig,
}

impl Config {
    /// What all jobs may take together.
    fn room(&self) -> Quota {
        Quota {
            jobs: Some(self.max_running),
            cores: Some(self.cores),
            memory: Some(self.memory),
            storage: Some(self.storage),
        }
    }
}

impl Jobs {
    /// Over its parts. Nothing runs before [`Jobs::run`].
    pub fn new(parts: Parts) -> Jobs {
        let (wake, schedules_changed) = (Notify::new(), Notify::new());
        let (live, aside) = (watch::Live::default(), scheduler::Aside::default());
        let environments = environment::Makings::default();
        let (metrics, warm) = (Metrics::new(), warm::Warm::default());
        Jobs { inner: Arc::new(Inner { parts, wake, schedules_changed, live, aside, environments, metrics, warm }) }
    }

    /// Takes over what runs, schedules what waits and watches over it until `stop`. Jobs that run then go on.
    pub async fn run(&self, stop: CancellationToken) {
        if let Err(cause) = environment::clear(&self.inner.parts.config.environments.place) {
            tracing::error!(%cause, "no environment can be made");
        }
        tokio::join!(
            scheduler::run(&self.inner, &stop),
            schedules::run(&self.inner, &stop),
            schedules::tell(&self.inner, &stop),
            async {
                // What an earlier process kept waiting is an orphan, what this one keeps is not.
                reconcile::destroy_orphans(&self.inner, &stop).await;
                warm::keep(&self.inner, &stop).await;
            },
            reconcile::sweep_spools(&self.inner, &stop),
        );
    }

    /// Accepts a job, or says all that is wrong with it: [`Error::Invalid`].
    pub async fn submit(&self, project: &ProjectId, request: &JobRequest, by: &Actor) -> Result<Job, Error> {
        submit::submit(&self.inner, project, request, None, by).await
    }

    /// The same for a submit that the client names by a key: sent again within 24 hours, it gives the job that it made,
    /// as that is then. [`Error::KeyReused`] where the key named another request.
    pub async fn submit_once(
        &self,
        project: &ProjectId,
        request: &JobRequest,
        key: &IdempotencyKey,
        by: &Actor,
    ) -> Result<Job, Error> {
        submit::submit(&self.inner, project, request, Some(key), by).await
    }

    /// The job of that id in a project.
    pub async fn find(&self, project: &ProjectId, id: JobId) -> Result<Option<Job>, Error> {
        query::find(&self.inner, project, id).await
    }

    /// Ids of the jobs that all filters let through, newest first.
    pub async fn ids(&self, project: &ProjectId, filters: &[Filter]) -> Result<Vec<JobId>, Error> {
        query::ids(&self.inner, project, filters).await
    }

    /// A page of jobs, and how many there are in all.
    pub async fn list(&self, project: &ProjectId, query: &ListQuery) -> Result<Page, Error> {
        query::list(&self.inner, project, query).await
    }

    /// Asks a job to stop. Does nothing where it was asked already or has ended.
    pub async fn cancel(&self, project: &ProjectId, id: JobId, by: &Actor) -> Result<(), Error> {
        for effect in record::stop_asked(&self.inner, project, id, by).await? {
            match effect {
                Effect::Stop(_) => self.inner.live.stop(id),
                Effect::End { .. } => self.inner.wake.notify_one(),
                Effect::Build(_) | Effect::Remove(_) | Effect::Pause(_) => {}
            }
        }
        Ok(())
    }

    /// Why a job that has not ended stands where it does, until when at the most, and its place in the queue.
    pub async fn standing(&self, job: &Job) -> Result<Standing, Error> {
        waiting::standing(&self.inner, job).await
    }

    /// Jobs that come again by the clock.
    pub fn schedules(&self) -> Schedules {
        Schedules::new(Arc::clone(&self.inner))
    }

    /// What a project may take at once.
    pub fn quotas(&self) -> Quotas {
        Quotas::new(self.inner.parts.db.clone(), self.inner.parts.audit.clone())
    }

    /// What all jobs of this service may take together.
    pub fn room(&self) -> Quota {
        self.inner.parts.config.room()
    }

    /// Withdrawals of engine versions.
    pub fn versions(&self) -> Versions {
        Versions::new(self.inner.parts.db.clone(), self.inner.parts.audit.clone())
    }

    /// The engines that jobs may ask for at a time, and the others with the reason.
    pub async fn offer(&self, at: Timestamp) -> Result<Offer, Error> {
        versions::offer(&self.inner, at).await
    }

    /// What a specification of a project in `home` is checked against at a time.
    pub async fn rules(&self, home: &Region, at: Timestamp) -> Result<SpecRules, Error> {
        versions::rules(&self.inner, home.clone(), at).await
    }

    /// What jobs cost.
    pub fn billing(&self) -> Billing {
        Billing::new(self.inner.parts.db.clone(), self.inner.parts.audit.clone())
    }

    /// What a job used over time, in its newest attempt; `None` where nothing is known of that.
    pub async fn used_by(&self, project: &ProjectId, id: JobId) -> Result<Option<Used>, Error> {
        used::read(&self.inner, project, id).await
    }

    /// Lines of a job's log.
    pub async fn logs(&self, project: &ProjectId, id: JobId, query: &LogQuery) -> Result<Logs, Error> {
        logs::read(&self.inner, project, id, query).await
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("config", &self.inner.parts.config).finish_non_exhaustive()
    }
}

/// What all handles share.
struct Inner {
    parts: Parts,
    /// Wakes the scheduler: a job was submitted, or room became free.
    wake: Notify,
    /// Wakes who waits for the next time of all schedules.
    schedules_changed: Notify,
    live: watch::Live,
    aside: scheduler::Aside,
    environments: environment::Makings,
    metrics: Metrics,
    warm: warm::Warm,
}

/// Why something could not be done with jobs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is not valid.
    #[error("not valid: {0}")]
    Invalid(#[from] Faults),
    /// The key of a submit was used for another request within the last 24 hours.
    #[error("the idempotency key was used for another request within the last 24 hours")]
    KeyReused,
    /// There is no such job in the project.
    #[error("there is no such job")]
    NotFound,
    /// There is no such schedule in the project.
    #[error("there is no such schedule")]
    NoSchedule,
    /// The project has another schedule of that name.
    #[error("the project has a schedule '{0}' already")]
    ScheduleExists(String),
    /// The project has as many schedules as it may.
    #[error("a project has at most {} schedules", schedules::MOST_SCHEDULES)]
    TooManySchedules,
    /// Who asks for a schedule cannot be asked about later.
    #[error(
        "who logs in by single sign-on cannot own a schedule: nobody says later what they may; let a service account or a user of the account own it"
    )]
    NoPrincipal,
    /// Data processing is not switched on for the project.
    #[error("the project may not use data processing yet")]
    NotAuthorized,
    /// The database failed.
    #[error("the database of jobs failed")]
    Db(#[from] db::Error),
    /// The audit log failed.
    #[error("the change was not recorded")]
    Audit(#[from] audit::Error),
    /// A key could not be had.
    #[error("the key of a log could not be had")]
    Keys(#[from] keys::Error),
    /// The spool could not be read.
    #[error("the log could not be read")]
    Spool(#[from] spool::Error),
    /// A room beside this one failed.
    #[error("{doing} failed")]
    Beside {
        /// What was asked of it.
        doing: &'static str,
        /// Why it failed.
        source: BoxError,
    },
    /// The warden failed.
    #[error("the warden failed")]
    Warden(#[from] warden::Error),
    /// A shim failed.
    #[error("the shim of an attempt failed")]
    Shim(#[from] control::Error),
    /// Something happened to a job that cannot happen to it.
    #[error("a job took a wrong turn")]
    Illegal(#[from] IllegalTransition),
    /// There is no such project.
    #[error("there is no such project")]
    NoProject,
    /// A withdrawal that cannot be made or taken back.
    #[error(transparent)]
    Withdrawal(#[from] InvalidWithdrawal),
    /// A price that cannot be used.
    #[error(transparent)]
    Price(#[from] InvalidPrice),
    /// A correction that cannot be made.
    #[error(transparent)]
    Correction(#[from] InvalidCorrection),
    /// An amount of money is too large to be computed.
    #[error("an amount of money is too large to be computed")]
    Overflow,
    /// A blocking task ended badly.
    #[error("a task ended badly")]
    Task(#[from] tokio::task::JoinError),
}

/// The same of the times of schedules, which no ordinary job passes.
pub const SCHEDULE_FAULT_POINTS: &[&str] = &["schedule.asked", "schedule.committed"];

/// Names of such points on the way of a runtime that waits, and of a job that takes it: those of `serve`, then those of its
/// shim, which begin with `shim.`.
pub const WARM_FAULT_POINTS: &[&str] = &[
    "warm.sandbox.created",
    "warm.waits",
    "warm.taken",
    "warm.committed",
    "warm.start.prepared",
    "warm.start.sent",
    "shim.waits",
    "shim.line.ready",
    "shim.line.sent",
];

/// Names of the points between durable steps at which tests kill the process that reaches them: those of `serve`,
/// each of which an ordinary job passes, then those of a shim, which begin with `shim.`.
pub const FAULT_POINTS: &[&str] = &ALL_POINTS;

const ALL_POINTS: [&str; SERVE_POINTS.len() + shim::FAULT_POINTS.len()] = {
    let mut all = [""; SERVE_POINTS.len() + shim::FAULT_POINTS.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = match at < SERVE_POINTS.len() {
            true => SERVE_POINTS[at],
            false => shim::FAULT_POINTS[at - SERVE_POINTS.len()],
        };
        at += 1;
    }
    all
};

const SERVE_POINTS: [&str; 15] = [
    "job.submit.committed",
    "job.attempt.committed",
    "job.keys.opened",
    "job.sandbox.created",
    "job.gate.opened",
    "job.start.prepared",
    "job.start.sent",
    "job.running.seen",
    "job.running.committed",
    "job.end.seen",
    "job.end.committed",
    "job.gate.closed",
    "job.sandbox.destroyed",
    "job.keys.closed",
    "job.attempt.closed",
];
