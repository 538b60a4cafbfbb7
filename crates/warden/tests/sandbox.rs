//! Real sandboxes with real containers. Not by the usual harness, because this program is also the shim, the monitor and
//! the warden of its tests: the warden starts its own executable with those subcommands. Needs root, like the warden.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "sandbox/laws.rs"]
mod laws;
#[path = "sandbox/machine.rs"]
mod machine;
#[path = "sandbox/shim.rs"]
mod shim;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("shim") => return shim::main(),
        Some("monitor") => return warden::monitor_main(args.iter().skip(2).map(Into::into)),
        Some("warden") => return machine::warden_main(),
        Some("call") => return machine::call_main(),
        _ => {}
    }
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in laws::ALL {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().skip(1).find(|arg| !arg.starts_with('-')).cloned().unwrap_or_default();
    let mut failed = Vec::new();
    for (name, law) in laws::ALL.iter().filter(|(name, _)| name.contains(&filter)) {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(law));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", started.elapsed().as_millis());
        if outcome.is_err() {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}
