//! Casemate, one binary: the service's processes, the operator's commands and the client.
//! Holds the command line, the configuration and the wiring of processes; every rule lives in another room.

mod access;
mod cli;
mod config;
mod failure;
mod faults;
mod inherited;
mod listener;
mod metrics;
mod operator;
mod privileges;
mod processes;
mod serve;
mod up;
mod wiring;

use std::{ffi::OsString, process::ExitCode};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::failure::Failure;

/// Casemate: secure data processing on your own machines.
#[derive(Debug, Parser)]
#[command(name = "casemate", version, about, disable_help_subcommand = true)]
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
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    // The parent of one container has to stay small, and its arguments are the warden's own.
    if arguments.get(1).is_some_and(|word| word == "monitor") {
        faults::arm();
        return warden::monitor_main(arguments.split_off(2));
    }
    let matches = Cli::command().get_matches_from(cli::arguments::settle(arguments, &Cli::command()));
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|fault| fault.exit());
    cli.global.command = command_of(&matches);
    let outcome = match cli.command {
        Command::Up(args) => runtime(1).and_then(|runtime| runtime.block_on(up::up(args))).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => processes::serve(args, inherited).map(|()| ExitCode::SUCCESS),
        Command::Warden(args) => processes::warden(args).map(|()| ExitCode::SUCCESS),
        Command::Shim(args) => processes::shim(args),
        Command::FirstRun(args) => {
            runtime(1).and_then(|runtime| runtime.block_on(operator::first_run(args))).map(|()| ExitCode::SUCCESS)
        }
        Command::Doctor(args) => operator::doctor(args, &cli.global),
        Command::Operator(command) => {
            runtime(1).and_then(|runtime| runtime.block_on(operator::run(command, &cli.global)))
        }
        Command::Client(command) => runtime(1).map(|runtime| runtime.block_on(cli::run(command, &cli.global))),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        ExitCode::FAILURE
    })
}

/// The words of a command, without its arguments.
fn command_of(matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let mut rest = matches.subcommand();
    while let Some((word, below)) = rest {
        words.push(word);
        rest = below.subcommand();
    }
    words.join(" ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_option_twice() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        let mut text = String::new();
        describe(&Cli::command().term_width(100), "", &mut text);
        insta::assert_snapshot!("help", text);
    }

    /// The help of a command and of all below it that are shown.
    fn describe(command: &clap::Command, before: &str, text: &mut String) {
        let name = format!("{before}{}", command.get_name());
        text.push_str(&format!("# {name}\n{}\n", command.clone().bin_name(&name).render_help()));
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            describe(&below.clone().term_width(100), &format!("{name} "), text);
        }
    }

    #[test]
    fn a_command_is_named_without_its_arguments() {
        for (line, named) in [
            ("casemate audit list --account secret", "audit list"),
            ("casemate --config a.toml user ls --account secret", "user list"),
            ("casemate key validate secret", "key validate"),
            ("casemate doctor", "doctor"),
        ] {
            assert_eq!(command_of(&Cli::command().get_matches_from(line.split(' '))), named, "{line}");
        }
    }

    #[test]
    fn the_configuration_of_a_part_is_its_own_wherever_it_stands() {
        for line in [
            "casemate serve --config a.toml",
            "casemate first-run --config a.toml --parent 1",
            "casemate --config a.toml key list",
        ] {
            let cli = Cli::parse_from(line.split(' '));
            assert_eq!(cli.global.config.as_deref(), Some(std::path::Path::new("a.toml")), "{line}");
        }
    }
}
