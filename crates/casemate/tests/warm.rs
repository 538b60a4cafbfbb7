//! Runtimes that wait for their job: a job gives the same in one, its room is the jobs', none outlives its service, and
//! whatever is killed on the way, a job ends in a true state and nothing is used twice (what a hostile job finds in one is in
//! `isolation.rs`).

mod support;

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::Value;
use support::{Kills, Stack, file, jar, program, starts, text, versions, wait_for};

const LISTENERS: &str = "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n";
const TAKEN: &str = "an attempt takes a runtime that waits";
const NOT_USED: &str = "a container that waited is not used";

#[test]
fn a_job_gives_the_same_in_a_runtime_that_waited_and_its_own_options_hold() {
    let version = versions().swap_remove(0);
    let parameters = "parameters = { placement = 'single' }";
    let stack = Stack::configured(&format!("{LISTENERS}[[jobs.warm]]\nengine_version = '{version}'\n{parameters}\n"));
    let trivial = jar(&stack.dir, "Trivial", &version);
    stack.put(&trivial, "code", "trivial.jar");
    let options = file(&stack.dir, "options.conf", b"spark.driver.extraJavaOptions -Dmine=kept\n");
    stack.put(&options, "code", "options.conf");
    let program = b"import os, sys\nfrom pyspark.sql import SparkSession\n\
        spark = SparkSession.builder.getOrCreate()\n\
        print('COUNT', spark.range(100).selectExpr('id % 7 as k').groupBy('k').count().count())\n\
        print('MINE', spark._jvm.java.lang.System.getProperty('mine'))\n\
        print('S3', spark.sparkContext._jsc.hadoopConfiguration().get('fs.s3a.access.key') is not None)\n\
        print('FILES', sorted(os.listdir('/work')), sorted(name for name in os.listdir('/conf') if 'line' in name))\n\
        print('APPLICATION', spark.sparkContext.appName)\nsys.exit(3)\n";
    stack.put(&file(&stack.dir, "main.py", program), "code", "main.py");

    let submit = |options: &[&str], arguments: &[&str]| {
        let common = ["--engine-version", version.as_str(), "--placement", "single", "--name", "mine"];
        let id = stack.submit(&[options, &common, arguments].concat());
        let job = stack.wait(&id);
        (job, stack.logs(&id))
    };
    stack.until_warm(1);
    let (job, log) = submit(&["s3://code/trivial.jar", "--main-class", "Trivial"], &["a b", ""]);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
    assert!(log.contains("SUM 5050") && log.contains("ARGUMENTS a b|"), "{log}");
    assert!(!log.contains("ready"), "what it said before is nobody's log: {log}");

    stack.until_warm(2);
    let (job, log) = submit(&["s3://code/main.py"], &[]);
    assert_eq!((&job["status"], &job["returnCode"]), (&"FAILED".into(), &3.into()), "{job} {log}");
    for line in
        ["COUNT 7", "MINE None", "S3 True", "APPLICATION mine", "FILES ['main.py', 'options.conf', 'trivial.jar'] []"]
    {
        assert!(log.lines().any(|shown| shown.ends_with(line)), "{line} in {log}");
    }
    let service = stack.log();
    assert_eq!((service.matches(TAKEN).count(), service.matches(NOT_USED).count()), (2, 0), "{service}");

    // A JVM that waits has read its options; another is started in its place.
    stack.until_warm(3);
    let (_, log) = submit(&["s3://code/main.py", "--properties-file", "options.conf"], &[]);
    assert!(log.contains("MINE kept") && log.contains("COUNT 7") && log.contains("'trivial.jar'] []"), "{log}");
    assert_eq!(stack.log().matches(TAKEN).count(), 3);
}

#[test]
fn what_waits_gives_way_to_jobs_and_goes_with_its_service() {
    let versions = versions();
    let warm = format!("{LISTENERS}[jobs]\ncores = 2\n[[jobs.warm]]\nengine_version = '{}'\n", versions[1]);
    let stack = Stack::configured(&warm);
    stack.until_warm(1);
    let first = stack.sandboxes();
    assert_eq!(first.len(), 1, "{first:?}");

    let program = file(&stack.dir, "main.py", b"print('RAN')\n");
    let id = stack.submit(&[program.to_str().expect("path"), "--engine-version", &versions[0]]);
    let job = stack.wait(&id);
    assert_eq!(job["status"], "COMPLETED", "{job} {}", stack.logs(&id));
    assert!(!stack.sandboxes().contains(&first[0]), "the job had no other room");

    stack.until_warm(2);
    let second = stack.sandboxes();
    stack.kill("serve");
    stack.until_warm(3);
    wait_for("what waited for a service that was killed to be gone", Duration::from_secs(30), || {
        let now = stack.sandboxes();
        now.len() == 1 && now != second
    });
    for name in first.iter().chain(&second) {
        let spool = stack.dir.join("data/jobs").join(name.trim_end_matches(".1"));
        assert!(!spool.exists(), "{}", spool.display());
    }
}

#[test]
fn a_job_ends_right_and_once_when_serve_is_killed_on_the_way_of_its_runtime() {
    let points: Vec<&str> =
        jobs::WARM_FAULT_POINTS.iter().filter(|point| !point.starts_with("shim.")).copied().collect();
    let kills = Kills::at(&points);
    let stack = Stack::configured_with(&single(), &kills.environment());
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    // The first dies as it takes one, which then is nobody's; the second with one that is its own.
    for name in ["first", "second"] {
        stack.until_one_waits();
        let (job, log) = run(&stack, name);
        assert_eq!(job["status"], "COMPLETED", "{name}: {job} {log}\n{}", stack.log());
        assert_eq!(starts(&stack, name).len(), 1, "{name}: user code started once");
    }
    assert_eq!(kills.left(), Vec::<&str>::new(), "points that nothing has passed");
    stack.until_one_waits();
    nothing_was_used_twice(&stack, 1);
}

/// One that waits, its job and its removal pass all of them.
#[test]
fn a_job_ends_right_and_once_when_the_warden_is_killed_on_the_way_of_its_runtime() {
    let points: Vec<&str> = warden::FAULT_POINTS.iter().copied().filter(|point| point.starts_with("warden.")).collect();
    let kills = Kills::at(&points);
    let stack = Stack::configured_with(&single(), &kills.environment());
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    stack.until_one_waits();
    let (job, log) = run(&stack, "run");
    assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
    assert_eq!(starts(&stack, "run").len(), 1, "user code started once");
    wait_for("every point to be passed", Duration::from_secs(30), || kills.left().is_empty());
    stack.until_one_waits();
    nothing_was_used_twice(&stack, 1);
}

#[test]
fn a_job_ends_in_a_true_state_when_what_waits_for_it_is_killed() {
    let points: Vec<&str> =
        jobs::WARM_FAULT_POINTS.iter().filter(|point| point.starts_with("shim.")).copied().collect();
    let kills = Kills::at(&points);
    let stack = Stack::configured_with(&single(), &kills.environment());
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    let mut taken = 0;
    for round in 0..points.len() {
        stack.until_one_waits();
        let (name, before) = (format!("run-{round}"), kills.left());
        let (job, log) = run(&stack, &name);
        taken += 1;
        let after = kills.left();
        let hit: Vec<&&str> = before.iter().filter(|point| !after.contains(*point)).collect();
        let what = format!("{hit:?}: {job} {log}");
        let ran = starts(&stack, &name).len();
        assert!(ran <= 1, "{what}");
        match job["status"].as_str() {
            Some("COMPLETED") => assert!(ran == 1 && hit.is_empty(), "{what}"),
            // The shim had written down that it may have begun.
            Some("FAILED") => {
                assert_eq!((&job["fault"], job["returnCode"] == 0), (&Value::from("platform"), false), "{what}");
                assert!(!hit.is_empty(), "{what}");
            }
            _ => panic!("{what}"),
        }
    }
    assert_eq!(kills.left(), Vec::<&str>::new(), "points that no runtime has passed");
    // Of what waits each process in turn, and at once a job for it.
    for kind in [" shim --sandbox ", " monitor --bundle ", "org.apache.spark.casemate.Waiting"] {
        stack.until_one_waits();
        let name = kind.trim().split(' ').next().expect("a word").to_owned();
        let waits = stack.sandboxes().pop().expect("one that waits");
        let killed = processes(&waits).into_iter().find(|(_, command)| command.contains(kind));
        let (pid, _) = killed.unwrap_or_else(|| panic!("{kind} of {waits}"));
        support::kill(pid);
        wait_for("it to be dead", Duration::from_secs(5), || {
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            status.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
        });
        let (job, log) = run(&stack, &name);
        assert_eq!(job["status"], "COMPLETED", "{kind}: {job} {log}\n{}", stack.log());
        assert_eq!(starts(&stack, &name).len(), 1, "{kind}: user code started once");
    }
    stack.until_one_waits();
    nothing_was_used_twice(&stack, taken);
}

/// A service that keeps one for a job in a single container.
fn single() -> String {
    let version = versions().swap_remove(0);
    format!("{LISTENERS}[[jobs.warm]]\nengine_version = '{version}'\nparameters = {{ placement = 'single' }}\n")
}

/// Runs a job of that shape, which leaves a mark of each start under `name`.
fn run(stack: &Stack, name: &str) -> (Value, String) {
    let (script, version) = (program("once.py"), versions().swap_remove(0));
    let mut command =
        vec!["job", "submit", script.to_str().expect("path"), "--placement", "single", "--output", "json"];
    command.extend(["--engine-version", &version, "--idempotency-key", name, "starts", name, "1"]);
    let mut id = None;
    wait_for("a submit", Duration::from_secs(60), || {
        let job: Value = serde_json::from_slice(&stack.run(&command).stdout).unwrap_or_default();
        id = job["id"].as_str().map(str::to_owned);
        id.is_some()
    });
    let id = id.expect("an id");
    let job = stack.wait(&id);
    // It may be killed once more after the end is seen.
    wait_for("the service to answer", Duration::from_secs(30), || stack.run(&["job", "list"]).status.success());
    (job, stack.logs(&id))
}

/// Each runtime was of one attempt at the most, which the audit log names; at least so many were taken; and nothing stands but
/// the one that waits.
fn nothing_was_used_twice(stack: &Stack, least: usize) {
    let log = stack.log();
    let data = stack.dir.join("data");
    let listed = std::process::Command::new(support::CASEMATE)
        .args(["audit", "list", "--output", "json", "--limit", "1000", "--data"])
        .arg(&data)
        .output()
        .expect("casemate runs");
    let entries: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|cause| {
        panic!("{cause}: {} {}", text(&listed.stdout), text(&listed.stderr));
    });
    let named: Vec<&str> =
        entries.as_array().into_iter().flatten().filter_map(|entry| entry["detail"]["sandbox"].as_str()).collect();
    let once: BTreeSet<&&str> = named.iter().collect();
    assert_eq!(named.len(), once.len(), "{named:?}");
    let waited: BTreeSet<&str> = log
        .lines()
        .filter(|line| line.contains("a runtime waits for a job"))
        .filter_map(|line| line.split("sandbox=").nth(1)?.split(' ').next())
        .collect();
    let taken = named.iter().filter(|name| waited.contains(**name)).count();
    assert!(taken >= least, "{taken} of {waited:?} in {named:?}");
    wait_for("all but what waits to be gone", Duration::from_secs(30), || stack.sandboxes().len() == 1);
}

/// The processes of a sandbox with their command lines.
fn processes(sandbox: &str) -> Vec<(u64, String)> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    all.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let read = |name: &str| text(&fs::read(process.path().join(name)).unwrap_or_default()).replace('\0', " ");
        let command = read("cmdline");
        (read("cgroup").contains(sandbox) || command.contains(sandbox)).then_some((pid, command))
    })
    .collect()
}
