//! Idle resident memory of the service's processes, after a job has run and while one sleeps.
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{fs, time::Duration};

use support::{Stack, program};

fn main() {
    let stack = Stack::start();
    let sleeper = stack.submit(&[program("sleep.py").to_str().expect("path")]);
    stack.wait_status(&sleeper, &["RUNNING"], Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(10));
    report::at_most("serve-idle-memory", of_process(stack.ready("serve_pid").as_u64().expect("pid")), 64.0, " MiB");
    report::at_most("warden-idle-memory", of_process(stack.ready("warden_pid").as_u64().expect("pid")), 16.0, " MiB");
    for part in ["shim", "monitor"] {
        let largest = processes(part).into_iter().map(of_process).fold(0.0, f64::max);
        assert!(largest > 0.0, "no {part} runs");
        report::at_most(&format!("{part}-memory"), largest, 16.0, " MiB");
    }
    assert!(stack.run(&["job", "cancel", &sleeper]).status.success());
    stack.wait(&sleeper);
}

/// Ids of the processes that run this subcommand of the binary under test.
fn processes(subcommand: &str) -> Vec<u64> {
    fs::read_dir("/proc")
        .expect("processes")
        .flatten()
        .filter(|process| {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(subcommand.as_bytes())
        })
        .filter_map(|process| process.file_name().to_string_lossy().parse().ok())
        .collect()
}

/// Resident memory, MiB: `VmRSS`, shared pages of the program file included.
#[expect(clippy::cast_precision_loss, reason = "kibibytes of a process fit")]
fn of_process(pid: u64) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) as f64 / 1024.0
}
