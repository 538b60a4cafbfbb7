//! `kill -9` of `serve`, the warden, shims and monitors at each named point of a job's life: the job ends right, once
//! (JOB-6). At random times: `chaos.rs`.

mod support;

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, time::Duration};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::Value;
use support::{Kills, Stack, program, starts};

/// Points between two durable steps of `serve`, in the order of a job's life. A new one is tried at once.
fn points() -> Vec<&'static str> {
    jobs::FAULT_POINTS.iter().copied().filter(|point| !point.starts_with("shim.")).collect()
}

#[test]
fn a_job_ends_right_and_once_when_serve_is_killed_at_any_point() {
    let points = points();
    assert!(points.len() >= 8, "{points:?}");
    for point in points {
        let kills = Kills::at(&[point]);
        let stack = Stack::with(4, &kills.environment());
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
            kills.left().is_empty()
        });
        support::wait_for("serve to answer again", Duration::from_secs(30), || {
            stack.run(&["job", "list"]).status.success()
        });
        let log = stack.logs(&id);
        assert_eq!(job["status"], "COMPLETED", "{point}: {job} {log}\n{}", stack.log());
        let starts = starts(&stack, "run");
        assert_eq!(starts.len(), 1, "{point}: user code started once: {starts:?}");
        let logs = stack.keys("odp-logs", &format!("{id}/driver/spark.log."));
        assert_eq!(logs.len(), 1, "{point}: {logs:?}");
    }
}

/// One job and its removal pass all of them: the warden dies at each, and each time the next one goes on. There are two
/// containers, since one whose start the warden did not live to see is found, and not started again.
#[test]
fn a_job_ends_right_and_once_when_the_warden_is_killed_at_every_point() {
    let points: Vec<&str> = warden::FAULT_POINTS.iter().copied().filter(|point| point.starts_with("warden.")).collect();
    let kills = Kills::at(&points);
    let stack = Stack::with(4, &kills.environment());
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    let script = program("once.py");
    let id = stack.submit(&[script.to_str().expect("path"), "starts", "run"]);
    let job = stack.wait(&id);
    assert_eq!(job["status"], "COMPLETED", "{job} {}\n{}", stack.logs(&id), stack.log());
    assert_eq!(starts(&stack, "run").len(), 1, "{job}");
    // The last points are in the removal of what stood, which comes after the end.
    support::wait_for("the removal of what stood", Duration::from_secs(30), || {
        stack.log().contains(&format!("sandbox removed sandbox={id}.1"))
    });
    assert_eq!(kills.left(), Vec::<&str>::new(), "points that the warden has not passed");
}

/// Each job loses its shim or its monitor at the next point that nobody has died at yet.
#[test]
fn a_job_whose_shim_or_monitor_is_killed_at_any_point_ends_as_it_did() {
    let monitors = warden::FAULT_POINTS.iter().filter(|point| point.starts_with("monitor."));
    let shims = jobs::FAULT_POINTS.iter().filter(|point| point.starts_with("shim."));
    let points: Vec<&str> = monitors.chain(shims).copied().collect();
    let kills = Kills::at(&points);
    let stack = Stack::with(4, &kills.environment());
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    let script = program("once.py");
    for round in 0..=points.len() {
        let before = kills.left();
        let name = format!("run-{round}");
        let id = stack.submit(&[script.to_str().expect("path"), "--placement", "single", "starts", &name, "1"]);
        let job = stack.wait(&id);
        let after = kills.left();
        let hit: Vec<&&str> = before.iter().filter(|point| !after.contains(*point)).collect();
        let what = format!("{hit:?}: {job} {}", stack.logs(&id));
        let ran = starts(&stack, &name).len();
        assert!(ran <= 1, "{what}");
        let logs = stack.keys("odp-logs", &format!("{id}/driver/spark.log."));
        assert!(
            ran == 0 || logs.len() == 1,
            "its log is in the store, whoever died before it was there: {logs:?} {what}"
        );
        match job["status"].as_str() {
            Some("COMPLETED") => {
                assert_eq!(ran, 1, "{what}");
                // What was killed had told the end, or had not begun anything.
                let harmless = ["shim.start.durable", "shim.ended", "shim.log", "shim.end", "monitor.end.told"];
                assert!(hit.iter().all(|point| harmless.iter().any(|begin| point.starts_with(begin))), "{what}");
            }
            Some("FAILED") => {
                assert_eq!((&job["fault"], job["returnCode"] == 0), (&Value::from("platform"), false), "{what}");
                assert!(!hit.is_empty(), "{what}");
            }
            _ => panic!("{what}"),
        }
        if hit.is_empty() {
            break;
        }
    }
    assert_eq!(kills.left(), Vec::<&str>::new(), "points that no job has passed");
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

/// A death more, and not the end of all that runs.
#[test]
fn a_warden_that_dies_as_it_is_started_again_is_started_once_more() {
    let stack = Stack::start();
    let config = PathBuf::from(stack.text("config"));
    let good = config.with_extension("good");
    fs::rename(&config, &good).expect("put aside");
    mkfifo(&config, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    let before = stack.ready("warden_pid");
    support::kill(before.as_u64().expect("pid"));
    // Opened once the next warden reads its configuration, and only that one gets this.
    let mut pipe = None;
    support::wait_for("the next warden", Duration::from_secs(30), || {
        pipe = fs::File::options().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&config).ok();
        pipe.is_some()
    });
    let mut pipe = pipe.expect("a reader");
    fs::rename(&good, &config).expect("in its place");
    pipe.write_all(b"no configuration").expect("written");
    drop(pipe);
    let deaths = || stack.log().matches("the warden ended (").count();
    support::wait_for("a warden that answers", Duration::from_secs(30), || {
        let now = stack.ready("warden_pid");
        deaths() >= 2 && !now.is_null() && now != before
    });
    assert_eq!(deaths(), 2, "{}", stack.log());
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
    support::kill(support::process(&id, "/platform", " shim ").expect("a shim"));
    let job = stack.wait(&id);
    assert_eq!(job["status"], "FAILED", "{job}");
    assert_ne!(job["returnCode"], 0);
}

/// The shim dies before the log is in the bucket, and `serve` once it has brought it there: the next one ends the attempt,
/// and records the log with that.
#[test]
fn a_log_that_is_uploaded_for_a_dead_shim_is_recorded_once_though_serve_is_killed_after_it() {
    let kills = Kills::at(&["shim.log.durable", "job.end.seen"]);
    let stack = Stack::with(1, &kills.environment());
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    let script = program("once.py");
    let id = stack.submit(&[script.to_str().expect("path"), "--placement", "single", "starts", "run", "1"]);
    support::wait_for("shim and serve to be killed", Duration::from_secs(120), || kills.left().is_empty());
    support::wait_for("serve to answer again", Duration::from_secs(30), || {
        stack.run(&["job", "list"]).status.success()
    });
    let job = stack.wait(&id);
    // The shim writes beside that how the driver ended, and may have died before it was written.
    assert!(["COMPLETED", "FAILED"].iter().any(|status| job["status"] == *status), "{job} {}", stack.logs(&id));
    assert_eq!(stack.keys("odp-logs", &format!("{id}/driver/spark.log.")).len(), 1);
    let listed = std::process::Command::new(support::CASEMATE)
        .args(["audit", "list", "--action", "job.log.uploaded", "--output", "json", "--data"])
        .arg(stack.dir.join("data"))
        .output()
        .expect("casemate runs");
    let entries: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let [entry] = entries.as_array().expect("a list").as_slice() else { panic!("one entry: {entries}") };
    assert!(entry["resource"].as_str().is_some_and(|resource| resource.ends_with(&id)), "{entry}");
    assert!(entry["detail"]["files"].as_u64().is_some_and(|files| files >= 1), "{entry}");
}
