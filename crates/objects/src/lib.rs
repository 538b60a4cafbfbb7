//! The S3 store: buckets and objects of projects, sealed with their keys, and the gate by which S3 clients reach
//! them. Knows projects, buckets and access keys; knows nothing of jobs. Start at [`Store::open`] and [`Gate::new`].
//!
//! On disk: `packed/` holds segment files, only ever appended to, which are the store's log: the data of small objects
//! one after another, and with it what each change did to the index. `index.redb` says which objects there are and where
//! their bytes are; `large/` holds a file for each larger object. Names of files are ids of ours, never a caller's text.
//! Each object and part has a data key of its own, wrapped by the project's key, and is sealed in segments of 64 KiB, so
//! that a range is read without the rest. Index and log hold keys and metadata of objects in clear, in files that only
//! the service may read.
//!
//! A write is answered when its batch of the log is durable, which is one sync for all that wait. The index is made
//! durable now and then; what it lacks after a crash is made again from the log when the store is opened. What a crash
//! leaves of writes that were not answered is data that no row names, which is removed then too.

mod access;
mod actions;
mod agreement;
mod archive;
mod behalf;
mod browser;
mod call;
mod check;
#[cfg(test)]
mod check_tests;
mod chunks;
mod clock;
mod committer;
mod compact;
mod containers;
mod cors;
#[cfg(test)]
mod crash;
mod crowd;
mod decide;
mod digests;
#[cfg(test)]
mod engine_tests;
mod error;
mod external;
mod faults;
mod form;
#[cfg(fuzzing)]
pub mod fuzzing;
mod garbage;
mod gate;
mod guard;
mod home;
mod host;
mod index;
mod keystone;
mod lifecycle;
mod list;
mod lock;
mod log;
mod logged;
mod metrics;
mod notify;
mod open;
mod own;
mod patience;
mod post_policy;
#[cfg(test)]
mod power_tests;
mod presign;
mod presigned;
mod protocols;
mod put;
mod read;
mod region;
mod replay;
mod rows;
mod s3;
mod scrub;
mod seal;
mod segments;
mod settings;
mod sse;
mod store;
mod sts;
mod swift;
#[cfg(test)]
mod tests;
mod uploads;
mod usage;
mod verified;
mod versions;
#[cfg(test)]
mod versions_tests;

pub use access::{
    Access, BoxError, Grant, LoggedIn, NotLoggedIn, PolicyKind, Question, Refusal, RoleWish, Scope, TemporaryKey,
    Verdict, Via,
};
pub use archive::Archive;
pub use check::{CheckOptions, Damage, Progress, Report, Wrong};
pub use error::Error;
pub use external::{External, ExternalConfig};
pub use gate::{Gate, GateConfig};
pub use home::Homes;
pub use keystone::DOMAIN_NAME;
pub use metrics::Metrics;
pub use notify::Webhook;
pub use presign::presign;
pub use protocols::{keystone_url, swift_url};
pub use settings::{Bucket, MOST_BUCKETS, NewBucket};
pub use store::{Listing, ObjectInfo, Store};
pub use usage::Usage;
pub use versions::VersionId;

/// The fault points of this room, which stand between its durable steps.
pub const FAULT_POINTS: &[&str] = &[
    "objects.segment.begun",
    "objects.directory.synced",
    "objects.large.synced",
    "objects.log.appended",
    "objects.log.synced",
    "objects.log.replayed",
    "objects.index.committed",
    "objects.index.durable",
    "objects.compaction.moved",
    "objects.segment.removed",
];
