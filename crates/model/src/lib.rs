//! Words that every room shares: ids, units, the job specification, states, log ids and faults of input.
//! Plain data, parsed once at the edge and valid from then on. No I/O, no clock, no HTTP.
//! Start at [`JobSpec::parse`].

mod fault;
mod ids;
mod job;
mod log;
mod sizing;
mod spec;
mod status;
mod storage_access;
mod ttl;
mod units;

pub use fault::{Fault, Faults};
pub use ids::{
    AccountId, AttemptNo, BucketName, EngineVersion, InvalidId, JobId, NodeName, ProjectId, Region, SandboxId,
};
pub use job::{Attempt, Blame, EndReason, Job};
pub use log::{LogId, LogLine, LogStream};
pub use sizing::{NodeSize, Sizing};
pub use spec::{EngineParameter, JobRequest, JobSpec, PARAMETERS, Parameter, Program, SpecRules};
pub use status::{IllegalTransition, JobEvent, JobStatus};
pub use storage_access::{InvalidStorageAccess, StorageAccess};
pub use ttl::Ttl;
pub use units::{Cores, MiB};
