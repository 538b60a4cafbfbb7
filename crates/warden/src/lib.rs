//! The privileged part: builds sandboxes out of namespaces, cgroups, encrypted volumes and OCI containers, and takes
//! them down again without a trace. Trusts none of its callers; never reads the network, the database or user input
//! beyond its typed protocol. Start at [`run`] (the daemon) and [`Client`] (its callers).

mod bundle;
mod cgroup;
mod client;
mod daemon;
mod doctor;
mod monitor;
mod namespaces;
mod protocol;
mod sandbox;
mod shim;
mod volume;

use std::path::PathBuf;

pub use client::Client;
pub use daemon::{destroy_all, run};
pub use doctor::{Finding, doctor};
pub use monitor::monitor_main;
pub use protocol::{ContainerExit, ContainerIo, ContainerSpec, SandboxHandle, SandboxSpec, SandboxState, StopSignal};

/// What the warden needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The run directory: sockets, mounts, namespaces.
    pub run: PathBuf,
    /// Directory of the engines, `spark-VERSION` each.
    pub engines: PathBuf,
    /// User of `serve`.
    pub service_uid: u32,
    /// Group of `serve`.
    pub service_gid: u32,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// The Java 17 runtime of jobs, mounted at the same place.
    pub java_home: PathBuf,
    /// First host user id of the ranges that sandboxes get.
    pub uid_base: u32,
    /// How scratch volumes are encrypted.
    pub scratch_encryption: ScratchEncryption,
    /// The program that offers the subcommands `shim` and `monitor`; this one by default.
    pub program: PathBuf,
}

impl Config {
    /// A configuration with the usual parts, over the two directories and the user of `serve`.
    pub fn new(data: PathBuf, run: PathBuf, service_uid: u32, service_gid: u32) -> Config {
        Config {
            engines: data.join("engines"),
            data,
            run,
            service_uid,
            service_gid,
            runtime: "/usr/sbin/runc".into(),
            java_home: "/usr/lib/jvm/java-17-openjdk-amd64".into(),
            uid_base: 700_000_000,
            scratch_encryption: ScratchEncryption::Fscrypt,
            program: std::fs::read_link("/proc/self/exe").unwrap_or_else(|_| "/proc/self/exe".into()),
        }
    }
}

/// How scratch volumes are encrypted. Never silently not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScratchEncryption {
    /// ext4's own encryption, with a random key that only the kernel has.
    Fscrypt,
    /// The operator knows that the disk below is encrypted.
    None,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is outside of what the caller may ask for.
    #[error("refused: {0}")]
    Refused(String),
    /// There is no such sandbox or container.
    #[error("not found: {0}")]
    NotFound(String),
    /// The sandbox's shim has ended; the sandbox can only be destroyed.
    #[error("the sandbox has ended: {0}")]
    Ended(String),
    /// A step on this machine failed.
    #[error("{doing}: {cause}")]
    Failed {
        /// What was tried.
        doing: String,
        /// Why it failed.
        cause: String,
    },
    /// The warden could not be reached, or did not keep to the protocol.
    #[error("the warden does not answer: {0}")]
    Connection(String),
}

/// Says what was tried when a step fails.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: std::fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|cause| Error::Failed { doing: what.into(), cause: cause.to_string() })
    }
}
