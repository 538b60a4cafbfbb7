//! The shim of one attempt.

use std::path::PathBuf;

use model::SandboxId;

/// What the warden tells a shim on its command line; the descriptors 3, 4 and 5 are the listeners of the control
/// socket, the object gate and the pods API, and the current directory is the spool.
#[derive(Debug, Clone)]
pub struct Args {
    /// Job and attempt.
    pub id: SandboxId,
    /// The driver's `/work` on the host.
    pub work: PathBuf,
    /// The `/conf` of all containers on the host.
    pub conf: PathBuf,
    /// The warden's socket.
    pub warden: PathBuf,
    /// The user of `serve`, the only one that the control socket hears.
    pub service_uid: u32,
}

/// Why a shim could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process was not started as a shim is.
    #[error("not started by the warden: {0}")]
    Inherited(String),
    /// The runtime could not be built.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Names of the fault points of a shim.
pub const FAULT_POINTS: &[&str] = &[];

/// Runs the shim until its sandbox is to end.
pub fn run(args: Args) -> Result<(), Error> {
    let _ = args;
    todo!()
}
