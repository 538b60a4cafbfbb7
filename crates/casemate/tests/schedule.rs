//! Schedules over a whole service: a time becomes a real job, once, also when `serve` is killed between asking and writing, and
//! right after writing (JOB-16).

mod support;

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::Value;
use support::{Stack, program, wait_for};

/// What came of the times of a schedule, newest first.
fn runs(stack: &Stack, schedule: &str) -> Vec<Value> {
    let output = stack.run(&["schedule", "runs", schedule, "--output", "json"]);
    serde_json::from_slice::<Value>(&output.stdout).ok().and_then(|runs| runs.as_array().cloned()).unwrap_or_default()
}

#[test]
fn a_time_becomes_one_job_when_serve_is_killed_at_any_point() {
    for point in jobs::SCHEDULE_FAULT_POINTS {
        let marker = tempfile::NamedTempFile::new().expect("file").into_temp_path();
        std::fs::remove_file(&marker).expect("removed: its making is the sign");
        let place = marker.to_string_lossy().into_owned();
        let stack = Stack::with(4, &[("CASEMATE_KILL_AT", point), ("CASEMATE_KILL_MARKER", &place)]);
        assert!(stack.run(&["bucket", "create", "starts"]).status.success());
        let script = program("once.py");
        let script = script.to_str().expect("path");
        let made = stack.json(&[
            "schedule",
            "create",
            "--cron",
            "* * * * *",
            "--placement",
            "single",
            "--schedule-name",
            "each minute",
            script,
            "starts",
            "run",
            "1",
        ]);
        assert_eq!(made["state"], "active", "{made}");
        let sign = format!("{place}.{point}");
        wait_for(&format!("serve to be killed at {point}"), Duration::from_secs(90), || Path::new(&sign).exists());
        wait_for("a run", Duration::from_secs(60), || !runs(&stack, "each minute").is_empty());
        let paused = stack.run(&["schedule", "pause", "each minute"]);
        assert!(paused.status.success(), "{}", support::text(&paused.stderr));

        // Each time that came has one run, and each run one job that ran once.
        let found = runs(&stack, "each minute");
        let times: BTreeSet<&str> = found.iter().filter_map(|run| run["time"].as_str()).collect();
        assert_eq!(times.len(), found.len(), "{point}: {found:?}");
        assert!(times.contains(made["nextRun"].as_str().expect("a time")), "{point}: none lost: {found:?}");
        let submitted: BTreeSet<String> =
            found.iter().filter_map(|run| run["jobId"].as_str().map(str::to_owned)).collect();
        let listed = stack.json(&["job", "list"]);
        let listed: BTreeSet<String> =
            listed.as_array().expect("jobs").iter().map(|job| job["id"].as_str().expect("id").to_owned()).collect();
        assert_eq!(submitted, listed, "{point}: none doubled: {found:?}");
        assert!(!submitted.is_empty(), "{point}: {found:?}");
        for id in &submitted {
            let job = stack.wait(id);
            assert_eq!(job["status"], "COMPLETED", "{point}: {job} {}", stack.logs(id));
        }
        let starts: BTreeSet<String> = stack
            .keys("starts", "run/start-")
            .iter()
            .filter_map(|key| key.split('/').nth(1).map(str::to_owned))
            .collect();
        assert_eq!(starts.len(), submitted.len(), "{point}: user code started once a job: {starts:?}");
        drop(stack);
        let _ = std::fs::remove_file(&sign);
    }
}
