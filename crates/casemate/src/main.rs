//! Casemate, one binary: the service's processes, the operator's commands and the client.
//! Holds the command line, the configuration and the wiring of processes; every rule lives in another room.

mod cli;
mod config;
mod faults;
mod failure;
mod inherited;
mod listener;
mod operator;
mod privileges;
mod processes;
mod serve;
mod up;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Casemate: secure data processing on your own machines.
#[derive(Debug, Parser)]
#[command(name = "casemate", version, about, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in this terminal: warden and service; Ctrl-C stops and cleans
    Up(up::UpArgs),
    /// Run the service: jobs API, object store, scheduler
    Serve(processes::ServeArgs),
    /// Run the warden, which builds sandboxes; needs root
    Warden(processes::WardenArgs),
    /// Run the shim of one sandbox; the warden starts it
    #[command(hide = true)]
    Shim(processes::ShimArgs),
    /// Watch one container; the warden starts it
    #[command(hide = true)]
    Monitor(processes::MonitorArgs),
    /// Make the first account, project and keys of a data directory; `up` calls it
    #[command(hide = true)]
    FirstRun(operator::FirstRunArgs),
    /// Say what this machine lacks to run jobs
    Doctor(operator::DoctorArgs),
    #[command(flatten)]
    Operator(operator::OperatorCommand),
    #[command(flatten)]
    Client(cli::ClientCommand),
}

fn main() -> ExitCode {
    // Before anything else opens a descriptor.
    let inherited = inherited::take();
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Up(args) => runtime(1).and_then(|runtime| runtime.block_on(up::up(args))).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => processes::serve(args, inherited).map(|()| ExitCode::SUCCESS),
        Command::Warden(args) => processes::warden(args).map(|()| ExitCode::SUCCESS),
        Command::Shim(args) => processes::shim(args),
        Command::Monitor(args) => Ok(processes::monitor(args)),
        Command::FirstRun(args) => runtime(1).and_then(|runtime| runtime.block_on(operator::first_run(args))).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => operator::doctor(args, &cli.global),
        Command::Operator(command) => {
            runtime(1).and_then(|runtime| runtime.block_on(operator::run(command, &cli.global))).map(|()| ExitCode::SUCCESS)
        }
        Command::Client(command) => runtime(1).map(|runtime| runtime.block_on(cli::run(command, &cli.global))),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        ExitCode::FAILURE
    })
}

/// A runtime with so many workers; one worker means this thread alone.
fn runtime(workers: usize) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|cause| Failure::new("cannot start the runtime").cause(cause))
}
