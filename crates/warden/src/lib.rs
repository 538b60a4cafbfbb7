//! The privileged part: builds sandboxes out of namespaces, cgroups, encrypted volumes and OCI containers, and takes
//! them down again without a trace. Trusts none of its callers; never reads the network, the database or user input
//! beyond its typed protocol. Start at [`run`] (the daemon) and [`Client`] (its callers).

mod bundle;
mod cgroup;
mod client;
mod config;
mod container;
mod daemon;
mod doctor;
mod files;
mod launch;
mod monitor;
mod namespaces;
mod protocol;
mod ranges;
mod root;
mod sandbox;
mod seccomp;
mod shim;
mod usage;
mod volume;

pub use client::Client;
pub use config::{Config, ScratchEncryption};
pub use daemon::{destroy_all, run};
pub use doctor::{Finding, doctor};
pub use monitor::monitor_main;
pub use protocol::{ContainerExit, ContainerIo, ContainerSpec, SandboxHandle, SandboxSpec, SandboxState, StopSignal};
pub use usage::{Meter, Reading};

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
