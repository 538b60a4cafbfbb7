//! What operators see of the service, read by somebody else's parser, and what users see of their jobs (JOB-8).

mod support;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::Value;
use support::{Stack, checkout, file, free_port, program, python, text, versions};

const TOKEN: &str = "0123456789abcdef-of-the-metrics";

#[test]
fn the_endpoint_has_what_its_table_says_and_a_job_tells_what_it_used() {
    let elsewhere = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let token = file(elsewhere.path(), "token", TOKEN.as_bytes());
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("mode");
    let port = free_port();
    let stack = Stack::configured(&format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n\
         [metrics]\nlisten = '127.0.0.1:{port}'\ntoken_file = '{}'\n",
        token.display()
    ));
    assert!(stack.run(&["bucket", "create", "tables"]).status.success(), "{}", stack.log());
    for version in versions() {
        for placement in ["cluster", "single"] {
            tells_what_it_used(&stack, &version, placement);
        }
    }

    let mut command = Command::new(python());
    command.arg(program("scrape.py")).args([&format!("http://127.0.0.1:{port}/metrics"), TOKEN]);
    let output = stack.tell(&mut command).output().expect("python runs");
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), stack.log());
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = found.as_object().expect("an object");
    let documented = documented();
    let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, documented.iter().map(|(name, _)| name.as_str()).collect(), "docs/metrics.md and the endpoint");
    for (name, labels) in &documented {
        let has: BTreeSet<&str> = found[name][0].as_array().expect("labels").iter().filter_map(Value::as_str).collect();
        assert_eq!(has, labels.iter().map(String::as_str).collect(), "{name}");
    }
    let value = |name: &str| found[name][1].as_f64().expect("a number");
    assert_eq!(value("casemate_attempts_started_total"), 4.0);
    assert_eq!(value("casemate_attempts_ended_total"), 4.0);
    assert_eq!(value("casemate_jobs_submitted_total"), 4.0);
    assert!(value("casemate_store_transfer_bytes_total") > 1e5 && value("casemate_database_bytes") > 1e5);
}

fn tells_what_it_used(stack: &Stack, version: &str, placement: &str) {
    let table = program("table.py");
    let id = stack.submit(&[
        table.to_str().expect("path"),
        "--engine-version",
        version,
        "--placement",
        placement,
        "tables",
        "1000",
    ]);
    let job = stack.wait(&id);
    assert_eq!(job["status"], "COMPLETED", "{job} {}", stack.logs(&id));
    let used = stack.json(&["job", "metrics", &id]);
    assert_eq!((&used["attempt"], &used["truncated"]), (&1.into(), &false.into()), "{used}");
    let worker = if placement == "single" { "driver" } else { "executor-1" };
    let values = |node: &str, name: &str| -> Vec<f64> {
        let node = used["nodes"].as_array().expect("nodes").iter().find(|found| found["node"] == node);
        let node = node.unwrap_or_else(|| panic!("{version} {placement}: no {name} of {worker}: {used}"));
        let series = node["series"].as_array().expect("series").iter().find(|found| found["name"] == name);
        let series = series.unwrap_or_else(|| panic!("{version} {placement}: no {name}: {used}"));
        let values = series["values"].as_array().expect("values");
        assert_eq!(values.len(), node["times"].as_array().expect("times").len(), "{name}");
        values.iter().filter_map(Value::as_f64).collect()
    };
    let newest = |node: &str, name: &str| *values(node, name).last().unwrap_or_else(|| panic!("{node} {name}: {used}"));
    for node in ["driver", worker] {
        assert!(newest(node, "cpuTime") > 1e5, "{node} {used}");
        assert!(newest(node, "memoryPeak") >= newest(node, "memory"), "{node} {used}");
        // The last look may come when its processes have ended.
        assert!(values(node, "processes").iter().any(|processes| *processes > 1.0), "{node} {used}");
        assert!(newest(node, "cores") >= 0.0, "{node} {used}");
    }
    assert!(newest("driver", "volumeUsed") > 0.0 && newest("job", "network") > 1e4, "{used}");
    for (name, least) in
        [("tasks", 2.0), ("shuffleWritten", 1.0), ("shuffleRead", 1.0), ("runTime", 1.0), ("gcTime", 0.0)]
    {
        assert!(newest(worker, name) >= least, "{version} {placement} {name}: {used}");
    }
    let shown = text(&stack.run(&["job", "metrics", &id]).stdout);
    assert!(shown.contains(worker) && shown.contains("MiB"), "{shown}");

    // Kept with the log, and told the same once the spool is gone.
    assert_eq!(stack.keys("odp-logs", &format!("{id}/driver/used.")), [format!("{id}/driver/used.1.json")]);
    fs::remove_file(stack.dir.join(format!("data/jobs/{id}/1/used"))).expect("it was in the spool");
    assert_eq!(stack.json(&["job", "metrics", &id]), used, "from the bucket");
}

/// The names and labels of the table of operators' metrics.
fn documented() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(checkout().join("docs/metrics.md")).expect("docs/metrics.md");
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = text.lines().filter(|line| line.starts_with("| `casemate_"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1);
        let name = quoted(cells.next().expect("a name")).swap_remove(0);
        (name, quoted(cells.next().expect("labels")))
    })
    .collect()
}
