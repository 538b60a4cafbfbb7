//! The client's commands. They talk to the jobs API only, so that they can do nothing that another client could not.

mod address;
pub mod arguments;
mod client;
mod follow;
mod job;
pub mod output;
mod profile;
mod schedule;
mod storage;
mod submit;
mod transfer;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};

pub use profile::{ClientFile, Profile, S3Access};

use crate::failure::Failure;
use client::Client;

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// How to print results
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORM")]
    pub output: Output,
    /// Profile of the client configuration
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "CASEMATE_PROFILE",
        hide_env_values = true,
        default_value = "default"
    )]
    pub profile: String,
    /// Configuration file: the client's for job, schedule, bucket and object, the server's for all other commands
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The command, such as `account list`, for the audit log: never its arguments, which may hold a secret.
    #[arg(skip)]
    pub command: String,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs: one JSON value
    Json,
}

/// Commands that talk to the jobs API.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Submit jobs and follow them
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Jobs that come again by the clock
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Buckets of the project
    #[command(subcommand)]
    Bucket(storage::BucketCommand),
    /// Objects in buckets
    #[command(subcommand)]
    Object(storage::ObjectCommand),
}

/// Runs one; what it returns is the exit code, a job's return code where the command waits for a job.
pub async fn run(command: ClientCommand, global: &Global) -> ExitCode {
    let done = async {
        let client = Client::new(profile::read(global.config.as_deref(), &global.profile)?)?;
        match command {
            ClientCommand::Job(command) => job::run(command, &client, global.output).await,
            ClientCommand::Schedule(command) => schedule::run(command, &client, global.output).await,
            ClientCommand::Bucket(command) => storage::bucket(command, &client, global.output).await,
            ClientCommand::Object(command) => storage::object(command, &client, global.output).await,
        }
    };
    match done.await {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// What a command ends with: an exit code, or why it could not do its work.
type Outcome = Result<ExitCode, Failure>;
