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
mod engines;
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

/// Names of the points between durable steps at which tests kill the process that reaches them: those of the warden, each
/// of which an ordinary sandbox passes, then those of a monitor, which begin with `monitor.`.
pub const FAULT_POINTS: &[&str] = &[
    "warden.sandbox.recorded",
    "warden.engine.mounted",
    "warden.network.made",
    "warden.volume.made",
    "warden.shim.started",
    "warden.sandbox.complete",
    "warden.bundle.written",
    "warden.monitor.started",
    "warden.container.started",
    "warden.processes.killed",
    "warden.containers.cleared",
    "warden.volumes.removed",
    "warden.groups.removed",
    "warden.sandbox.stripped",
    "warden.range.released",
    "monitor.container.created",
    "monitor.start.marked",
    "monitor.program.started",
    "monitor.runs.told",
    "monitor.end.seen",
    "monitor.end.told",
];

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

#[cfg(test)]
mod tests {
    #[test]
    fn every_fault_point_is_in_the_code_once() {
        let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("sources");
        let code: String =
            sources.flatten().map(|entry| std::fs::read_to_string(entry.path()).expect("source")).collect();
        let call = ["fail_point", "!(\""].concat();
        for point in super::FAULT_POINTS {
            assert_eq!(code.matches(&format!("{call}{point}\"")).count(), 1, "{point}");
        }
        assert_eq!(code.matches(&call).count(), super::FAULT_POINTS.len(), "every point is in the list");
    }
}
