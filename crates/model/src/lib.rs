//! Words that every room shares: ids, units, the job specification, states, log ids and faults of input.
//! Plain data, parsed once at the edge and valid from then on. No I/O, no clock, no HTTP.
//! Start at [`JobSpec::parse`].

mod after;
mod block;
mod causes;
mod fault;
mod ids;
mod job;
mod life;
mod log;
mod placement;
mod proxies;
mod quota;
mod retired;
mod retry;
mod schedule;
mod sizing;
mod spec;
mod status;
mod storage_access;
mod ttl;
mod units;

pub use after::{After, AfterEnd};
pub use block::parse_block;
pub use causes::{causes, chain};
pub use fault::{Fault, Faults};
pub use ids::{
    AccountId, AttemptNo, BucketName, EngineVersion, InvalidId, JobId, NodeName, ProjectId, Region, SandboxId,
};
pub use job::{Attempt, Blame, EndReason, Job};
pub use life::{Effect, FORCE_AFTER, LONGEST_START, LONGEST_UPLOAD, LONGEST_WAIT, LOST, Life, LifeEvent};
pub use log::{LogId, LogLine, LogStream};
pub use placement::Placement;
pub use proxies::{source_ip, spoke_tls};
pub use quota::{Quota, Shortage, Usage};
pub use retired::{Retired, RetiredBy, Withdrawal};
pub use retry::{Retry, RetryCause};
pub use schedule::{CatchUp, Overlap, Principal, RunOutcome, Schedule, ScheduleId, ScheduleRun};
pub use sizing::{NodeSize, Sizing};
pub use spec::{EngineParameter, JobRequest, JobSpec, PARAMETERS, Parameter, Program, SpecRules};
pub use status::{IllegalTransition, JobEvent, JobStatus};
pub use storage_access::{InvalidStorageAccess, StorageAccess};
pub use ttl::Ttl;
pub use units::{Cores, MiB};
