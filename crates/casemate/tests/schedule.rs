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

#[test]
fn a_schedule_is_changed_in_what_is_named_and_in_nothing_else() {
    let stack = Stack::start();
    let script = program("once.py");
    let script = script.to_str().expect("path");
    let made = stack.json(&[
        "schedule",
        "create",
        "--cron",
        "@yearly",
        "--ttl",
        "PT1H",
        "--executors",
        "2",
        "--paused",
        script,
        "a",
        "b, c",
    ]);
    let older = support::versions().swap_remove(0);
    let edit =
        |arguments: &[&str]| stack.run(&[&["schedule", "edit", "once.py", "--output", "json"], arguments].concat());
    let done = |arguments: &[&str]| -> Value {
        let output = edit(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", support::text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let parameter = |schedule: &Value, name: &str| {
        let all = schedule["job"]["engineParameters"].as_array().expect("parameters").clone();
        all.into_iter().find(|one| one["name"] == name).map(|mut one| one["value"].take())
    };
    let timed = done(&[
        "--cron",
        "30 4 * * *",
        "--timezone",
        "Europe/Paris",
        "--overlap",
        "queue",
        "--end",
        "2126-01-01T00:00:00Z",
    ]);
    assert_eq!(
        (&timed["cron"], &timed["timezone"], &timed["overlap"]),
        (&"30 4 * * *".into(), &"Europe/Paris".into(), &"queue".into())
    );
    assert_eq!((&timed["job"], &timed["enabled"]), (&made["job"], &false.into()));
    let other = done(&[
        "--set",
        &format!("engineVersion={older}"),
        "--set",
        "executor_num=3",
        "--unset",
        "ttl",
        "--end",
        "",
        "--",
        "--now",
        "x, y",
    ]);
    assert_eq!((&other["cron"], &other["endDate"]), (&timed["cron"], &Value::Null));
    assert_eq!((&other["job"]["engineVersion"], &other["job"]["ttl"]), (&older.as_str().into(), &Value::Null));
    assert_eq!(other["job"]["containerName"], made["job"]["containerName"]);
    assert_eq!(parameter(&other, "executor_num"), Some("3".into()));
    assert_eq!(parameter(&other, "arguments_json"), Some(r#"["--now","x, y"]"#.into()));
    assert_eq!(parameter(&done(&["--no-arguments"]), "arguments_json"), None);
    // Nothing is changed of what is wrong, or where nothing is named.
    for wrong in
        [&["--set", "executor_num=many", "--cron", "@daily"][..], &["--cron", "x"], &["--set", "colour=red"], &[]]
    {
        let output = edit(wrong);
        assert!(!output.status.success(), "{wrong:?}: {}", support::text(&output.stdout));
    }
    assert_eq!(stack.json(&["schedule", "show", "once.py"])["cron"], "30 4 * * *");
}
