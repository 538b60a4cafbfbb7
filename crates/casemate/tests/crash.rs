//! `kill -9` of `serve` at each named point of a job's life, and of the warden: the job ends right, once (JOB-6).

mod support;

use std::{path::Path, time::Duration};

use support::{Stack, program};

/// Points between two durable steps of `serve`, in the order of a job's life. A new one is tried at once.
fn points() -> Vec<&'static str> {
    jobs::FAULT_POINTS.iter().copied().filter(|point| !point.starts_with("shim.")).collect()
}

#[test]
fn a_job_ends_right_and_once_when_serve_is_killed_at_any_point() {
    let points = points();
    assert!(points.len() >= 8, "{points:?}");
    for point in points {
        let marker = tempfile::NamedTempFile::new().expect("file").into_temp_path();
        std::fs::remove_file(&marker).expect("removed: its making is the sign");
        let place = marker.to_string_lossy().into_owned();
        let stack = Stack::with(4, &[("CASEMATE_KILL_AT", point), ("CASEMATE_KILL_MARKER", &place)]);
        assert!(stack.run(&["bucket", "create", "starts"]).status.success());
        // The reply may be lost in the kill; the job is then found in the list.
        let script = program("once.py");
        let submitted =
            stack.run(&["job", "submit", script.to_str().expect("path"), "starts", "run", "--output", "json"]);
        support::wait_for("a job", Duration::from_secs(30), || {
            let output = stack.run(&["job", "list", "--output", "json"]);
            serde_json::from_slice::<serde_json::Value>(&output.stdout)
                .is_ok_and(|list| list.as_array().is_some_and(|jobs| !jobs.is_empty()))
        });
        let list = stack.json(&["job", "list"]);
        assert_eq!(
            list.as_array().map(Vec::len),
            Some(1),
            "{point}: one submit, one job: {}",
            support::text(&submitted.stderr)
        );
        let id = list[0]["id"].as_str().expect("id").to_owned();
        let job = stack.wait(&id);
        // The last points are passed after the end is seen: the kill is still to come, and `serve` has to come back.
        support::wait_for(&format!("serve to be killed at {point}"), Duration::from_secs(30), || {
            Path::new(&place).exists()
        });
        support::wait_for("serve to answer again", Duration::from_secs(30), || {
            stack.run(&["job", "list"]).status.success()
        });
        let log = stack.logs(&id);
        assert_eq!(job["status"], "COMPLETED", "{point}: {job} {log}\n{}", stack.log());
        let starts: std::collections::BTreeSet<String> = stack
            .keys("starts", "run/start-")
            .iter()
            .filter_map(|key| key.split('/').nth(1).map(str::to_owned))
            .collect();
        assert_eq!(starts.len(), 1, "{point}: user code started once: {starts:?}");
        let logs = stack.keys("odp-logs", &format!("{id}/driver/spark.log."));
        assert_eq!(logs.len(), 1, "{point}: {logs:?}");
        drop(stack);
        let _ = std::fs::remove_file(&place);
    }
}

#[test]
fn a_job_ends_right_when_the_warden_is_killed() {
    let stack = Stack::start();
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    let script = program("once.py");
    let early = stack.submit(&[script.to_str().expect("path"), "starts", "early", "8"]);
    stack.kill("warden");
    stack.wait_status(&early, &["RUNNING", "COMPLETED"], Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(4));
    stack.kill("warden");
    let job = stack.wait(&early);
    assert_eq!(job["status"], "COMPLETED", "{job} {}", stack.logs(&early));
    // And the new warden does the next one's work.
    let late = stack.submit(&[script.to_str().expect("path"), "starts", "late", "1"]);
    let job = stack.wait(&late);
    assert_eq!(job["status"], "COMPLETED", "{job} {}", stack.logs(&late));
}

#[test]
fn a_job_goes_on_while_serve_is_killed_again_and_again() {
    let stack = Stack::start();
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    let script = program("once.py");
    let id = stack.submit(&[script.to_str().expect("path"), "starts", "run", "12"]);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(1800));
        stack.kill("serve");
    }
    let job = stack.wait(&id);
    let log = stack.logs(&id);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}");
    let steps: Vec<&str> = log.lines().filter_map(|line| line.split_once("STEP ").map(|(_, rest)| rest)).collect();
    let expected: Vec<String> = (0..12).map(|step| format!("{step} 4950")).collect();
    assert_eq!(steps, expected, "no line lost, none twice");
}

#[test]
fn a_killed_shim_ends_its_job_as_lost_by_the_platform() {
    let stack = Stack::start();
    let id = stack.submit(&[program("sleep.py").to_str().expect("path")]);
    stack.wait_status(&id, &["RUNNING"], Duration::from_secs(60));
    let shim = std::fs::read_dir("/proc")
        .expect("processes")
        .flatten()
        .find(|process| {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = support::text(&command);
            command.contains("\0shim\0") && command.contains(&id)
        })
        .expect("a shim");
    support::kill(shim.file_name().to_string_lossy().parse().expect("pid"));
    let job = stack.wait(&id);
    assert_eq!(job["status"], "FAILED", "{job}");
    assert_ne!(job["returnCode"], 0);
}
