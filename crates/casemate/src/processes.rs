//! Entry points of the service's processes: what each needs before its room takes over.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, process::ExitCode};

use clap::Args;
use model::SandboxId;
use nix::sys::socket::{UnixAddr, getsockname};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

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
    faults::arm();
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
    let wanted = EnvFilter::try_from_env("CASEMATE_LOG").unwrap_or_else(|_| EnvFilter::new(LEVELS));
    lines(wanted, std::io::stderr).init();
}

/// Writes events that are wanted and may be printed, one line each.
pub fn lines<W>(wanted: EnvFilter, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines = lines.with_filter(filter_fn(|event| may_be_printed(event.target(), *event.level())));
    tracing_subscriber::registry().with(wanted).with(lines)
}

/// Whether an event can hold no secret. What other crates say to their own authors holds what they are given: `s3s`
/// prints whole requests, with keys and signatures in their headers, and tells of each client's mistake as an error of ours.
fn may_be_printed(target: &str, level: Level) -> bool {
    let from = target.split("::").next().unwrap_or(target);
    OURS.contains(&from) || (level <= Level::INFO && from != "s3s")
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

const LEVELS: &str = "info";
/// Rooms, by the names that their events have.
const OURS: [&str; 13] = [
    "api", "audit", "casemate", "console", "crypto", "db", "engine", "identity", "jobs", "keys", "model", "objects",
    "warden",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_crates_say_of_what_they_are_given_is_not_printed_at_any_level() {
        for (target, level, printed) in [
            ("objects::gate", Level::TRACE, true),
            ("casemate", Level::DEBUG, true),
            ("s3s::service", Level::DEBUG, false),
            ("s3s::ops", Level::ERROR, false),
            ("hyper::proto", Level::DEBUG, false),
            ("sqlx::query", Level::WARN, true),
        ] {
            assert_eq!(may_be_printed(target, level), printed, "{target} {level}");
        }
    }
}
