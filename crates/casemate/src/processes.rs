//! Entry points of the service's processes: what each needs before its room takes over.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, process::ExitCode};

use clap::Args;
use model::SandboxId;
use nix::sys::socket::{UnixAddr, getsockname};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Config, Service},
    failure::{Doing, Failure},
    faults, privileges, runtime, serve,
};

/// Arguments of `casemate serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// End when the process with this id ends, which must be the parent
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
}

/// Arguments of `casemate warden`.
#[derive(Debug, Args)]
pub struct WardenArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// End when the process with this id ends, which must be the parent
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
}

/// Arguments of `casemate shim`, which the warden gives.
#[derive(Debug, Args)]
pub struct ShimArgs {
    /// Job and attempt
    #[arg(long, value_name = "JOB.ATTEMPT")]
    sandbox: SandboxId,
    /// The driver's `/work` on this machine
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// The `/conf` of all containers on this machine
    #[arg(long, value_name = "DIR")]
    conf: PathBuf,
    /// The warden's socket
    #[arg(long, value_name = "SOCKET")]
    warden: PathBuf,
    /// User of the service; the owner of the control socket when not given
    #[arg(long, value_name = "UID")]
    service_uid: Option<u32>,
}

/// Runs the service until SIGTERM or SIGINT.
pub fn serve(args: ServeArgs, inherited: Vec<std::net::TcpListener>) -> Result<(), Failure> {
    let config = Config::read(args.config.as_deref())?;
    config.check()?;
    if privileges::is_root() {
        privileges::become_service(Service::of(&config)?)?;
    }
    if let Some(parent) = args.parent {
        privileges::end_with_parent(parent)?;
    }
    log_to_stderr();
    privileges::raise_file_limit();
    faults::arm();
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    runtime(workers)?.block_on(async {
        let stop = stop_signal()?;
        serve::run(config, inherited, stop).await
    })
}

/// Runs the warden until SIGTERM or SIGINT.
pub fn warden(args: WardenArgs) -> Result<(), Failure> {
    let config = Config::read(args.config.as_deref())?;
    if !privileges::is_root() {
        return Err(Failure::new("the warden builds sandboxes, and needs root for that"));
    }
    if let Some(parent) = args.parent {
        privileges::end_with_parent(parent)?;
    }
    log_to_stderr();
    let service = Service::of(&config)?;
    runtime(1)?.block_on(async {
        let stop = stop_signal()?;
        warden::run(config.warden(service)?, stop).await.doing("the warden cannot go on")
    })
}

/// Runs the shim of one sandbox until that is to end.
pub fn shim(args: ShimArgs) -> Result<ExitCode, Failure> {
    log_to_stderr();
    faults::arm();
    let service_uid = match args.service_uid {
        Some(uid) => uid,
        None => owner_of_control_socket().doing("this is not started by the warden")?,
    };
    jobs::shim::run(jobs::shim::Args {
        id: args.sandbox,
        work: args.work,
        conf: args.conf,
        warden: args.warden,
        service_uid,
    })
    .doing("the shim cannot go on")?;
    Ok(ExitCode::SUCCESS)
}

/// The warden gives the control socket's file to the user of the service.
fn owner_of_control_socket() -> std::io::Result<u32> {
    let address: UnixAddr = getsockname(CONTROL)?;
    let path = address.path().ok_or_else(|| std::io::Error::other("descriptor 3 is not a socket with a path"))?;
    Ok(std::fs::metadata(path)?.uid())
}

/// Logs of a process: one line an event, `CASEMATE_LOG` sets the level.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CASEMATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LEVELS));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Resolves at SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).doing("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).doing("cannot watch for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The number at which a shim has its control socket.
const CONTROL: i32 = 3;

/// `s3s` tells of each client's mistake as an error of ours; the object gate's audit entries tell of them already.
const LEVELS: &str = "info,s3s=off";
