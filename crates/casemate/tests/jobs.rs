//! Jobs from submit to result, on real Spark in real containers (JOB-1, JOB-3, JOB-6, JOB-7, OBJ-1).

mod support;

use std::{fs, path::PathBuf, process::Command, time::Duration};

use jiff::Timestamp;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{Stack, file, jar, program, text, versions};

/// A stack with a bucket for tables.
fn with_tables() -> Stack {
    let stack = Stack::start();
    let made = stack.run(&["bucket", "create", "tables"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    stack
}

/// Submits a job that writes a table of 1,000 rows and reads it again.
fn write_table(stack: &Stack, version: &str, placement: &str) -> String {
    let program = program("table.py");
    let place = ["--engine-version", version, "--placement", placement];
    stack.submit(&[&[program.to_str().expect("path")], &place[..], &["tables", "1000"]].concat())
}

#[test]
fn python_and_java_jobs_run_on_each_engine_version() {
    let stack = with_tables();
    for version in versions() {
        let id = write_table(&stack, &version, "cluster");
        let jar = jar(&stack.dir, "Trivial", &version);
        let java = stack.submit(&[
            jar.to_str().expect("path"),
            "--main-class",
            "Trivial",
            "--engine-version",
            &version,
            "one",
            "two, three",
        ]);
        let job = stack.wait(&id);
        let log = stack.logs(&id);
        assert_eq!(job["status"], "COMPLETED", "{job} {log}");
        assert_eq!(job["returnCode"], 0);
        assert!(log.contains("ROWS 1000"), "{log}");
        assert!(log.contains("WEEKS [0, 1, 2, 3, 4, 5, 6]"), "{log}");
        assert!(log.contains(&format!("VERSION {version}")), "{log}");
        assert!(stack.keys("tables", "table/").iter().any(|key| key.ends_with(".parquet")));

        let job = stack.wait(&java);
        let log = stack.logs(&java);
        assert_eq!(job["status"], "COMPLETED", "{job} {log}");
        assert!(log.contains("SUM 5050"), "{log}");
        assert!(log.contains("ARGUMENTS one|two, three"), "an argument keeps its comma: {log}");

        // The complete logs of driver and executor are in object storage, under the old service's names.
        for node in ["driver", "executor-1"] {
            let keys = stack.keys("odp-logs", &format!("{java}/{node}/"));
            assert!(keys.iter().any(|key| key.contains("/spark.log.")), "{node}: {keys:?}");
        }
        let keys = stack.keys("odp-logs", &format!("{java}/driver/spark.log."));
        let stored: String = keys.iter().map(|key| text(&stack.get("odp-logs", key))).collect();
        assert!(stored.contains("SUM 5050"), "{stored}");
    }
}

#[test]
fn a_job_in_one_container_gives_the_same_results() {
    let stack = with_tables();
    for version in versions() {
        let id = write_table(&stack, &version, "auto");
        let job = stack.wait(&id);
        let log = stack.logs(&id);
        assert_eq!((&job["status"], &job["placement"]), (&"COMPLETED".into(), &"single".into()), "{job} {log}");
        assert!(log.contains("ROWS 1000") && log.contains("WEEKS [0, 1, 2, 3, 4, 5, 6]"), "{log}");
        assert!(stack.keys("tables", "table/").iter().any(|key| key.ends_with(".parquet")));
        let nodes = stack.keys("odp-logs", &format!("{id}/"));
        assert!(nodes.iter().all(|key| key.starts_with(&format!("{id}/driver/"))), "{nodes:?}");
    }
}

#[test]
fn wait_exits_with_the_return_code_of_the_job() {
    let stack = Stack::start();
    let output = stack.run(&["job", "submit", "--wait", program("exit_code.py").to_str().expect("path"), "7"]);
    assert_eq!(output.status.code(), Some(7), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("about to fail") || text(&output.stderr).contains("about to fail"));
    let listed = stack.json(&["job", "list", "--status", "FAILED"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["returnCode"], 7);
}

#[test]
fn a_job_that_outgrows_its_memory_or_disk_fails_and_says_why() {
    let stack = Stack::start();
    let memory = stack.submit(&[program("memory.py").to_str().expect("path")]);
    let disk = stack.submit(&[program("disk.py").to_str().expect("path")]);
    let job = stack.wait(&memory);
    let log = stack.logs(&memory);
    assert_eq!(job["status"], "FAILED", "{job}");
    assert_eq!(job["returnCode"], 137, "{job}");
    assert!(log.contains("out of memory"), "{log}");
    let job = stack.wait(&disk);
    let log = stack.logs(&disk);
    assert_eq!(job["status"], "FAILED", "{job}");
    assert_ne!(job["returnCode"], 0);
    assert!(log.contains("out of local storage"), "{log}");
}

#[test]
fn a_cancelled_job_is_terminated_and_a_ttl_ends_a_job() {
    let stack = Stack::start();
    let cancelled = stack.submit(&[program("sleep.py").to_str().expect("path")]);
    let bounded = stack.submit(&[program("sleep.py").to_str().expect("path"), "--ttl", "PT8S"]);
    stack.wait_status(&cancelled, &["RUNNING"], Duration::from_secs(60));
    for _ in 0..2 {
        let output = stack.run(&["job", "cancel", &cancelled]);
        assert!(output.status.success(), "cancel is idempotent: {}", text(&output.stderr));
    }
    for id in [&cancelled, &bounded] {
        let job = stack.wait(id);
        assert_eq!(job["status"], "TERMINATED", "{job}");
        assert_ne!(job["returnCode"], 0, "{job}");
    }
    assert!(stack.logs(&bounded).contains("time to live"), "{}", stack.logs(&bounded));
}

#[test]
fn a_gibibyte_of_output_loses_no_line() {
    let stack = Stack::start();
    let (lines, width) = (8 * 1024 * 1024_u64, 128_u64);
    let id = stack.submit(&[program("output.py").to_str().expect("path"), &lines.to_string(), &width.to_string()]);
    let serve = stack.ready("serve_pid").as_u64().expect("pid");
    let mut peak = 0;
    support::wait_for("the output to be written", Duration::from_secs(300), || {
        peak = peak.max(resident_mib(serve));
        // The service answers meanwhile, within the time that its client waits.
        let job = stack.job(&id);
        matches!(job["status"].as_str(), Some("COMPLETED" | "FAILED" | "TERMINATED"))
    });
    let job = stack.job(&id);
    assert_eq!(job["status"], "COMPLETED", "{job}");
    assert!(peak < 256, "serve used {peak} MiB");
    let mut keys = stack.keys("odp-logs", &format!("{id}/driver/spark.log."));
    keys.sort();
    assert!(keys.len() > 5, "rotated at 100 MiB: {keys:?}");
    let mut next = 0_u64;
    for key in keys {
        let bytes = stack.get("odp-logs", &key);
        assert!(bytes.len() <= 101 * 1024 * 1024, "{key} has {} bytes", bytes.len());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"xxxx")) {
            let line = text(line);
            assert!(line.contains(&format!("{next:010} ")), "line {next} is missing before {line:.80}");
            next += 1;
        }
    }
    assert_eq!(next, lines);
}

/// A disk that is full for a while empties no queue into FAILED.
#[test]
fn a_job_outlives_a_disk_that_has_no_room_for_its_sandbox() {
    let stack = Stack::start();
    let full = Full::over(stack.dir.join("data/scratch"));
    let id = stack.submit(&[program("exit_code.py").to_str().expect("path"), "0"]);
    support::wait_for("its sandbox to be tried again and again", Duration::from_secs(60), || {
        stack.log().matches("an attempt does not advance").count() >= 8
    });
    assert_eq!(stack.job(&id)["status"], "SUBMITTED", "{}", stack.log());
    drop(full);
    let job = stack.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"COMPLETED".into(), &1.into()), "{job}\n{}", stack.log());
}

/// An executor that does not end when it is asked to is the platform's to wait for.
#[test]
fn a_job_has_ended_when_its_driver_has_and_not_when_all_is_tidied() {
    let stack = Stack::start();
    assert!(stack.run(&["bucket", "create", "starts"]).status.success());
    let script = program("once.py");
    let id = stack.submit(&[script.to_str().expect("path"), "--placement", "cluster", "starts", "run", "600"]);
    support::wait_for("its first line", Duration::from_secs(120), || stack.logs(&id).contains("STEP "));
    let executor = support::process(&id, "/executor-1", "ExecutorBackend").expect("an executor");
    kill(Pid::from_raw(i32::try_from(executor).expect("pid")), Signal::SIGSTOP).expect("stopped");
    support::kill(support::process(&id, "/driver", "org.apache.spark.deploy.SparkSubmit").expect("a driver"));
    support::wait_for("the executor to be asked to end", Duration::from_secs(60), || is_asked_to_end(executor));
    let asked = Timestamp::now();
    let job = stack.wait(&id);
    let ended: Timestamp = job["endDate"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    assert!(ended <= asked, "{asked}: {job}");
}

/// Spark's own copying of a Python program's output ends with the JVM, read or not.
#[test]
fn the_last_words_of_a_python_program_are_heard_however_late_they_are_read() {
    let stack = Stack::start();
    let id = stack.submit(&[program("last_words.py").to_str().expect("path")]);
    let find = |group: &str, words: &str| {
        let mut found = None;
        support::wait_for(words, Duration::from_secs(90), || {
            found = support::process(&id, group, words);
            found.is_some()
        });
        found.expect("waited for")
    };
    let python = find("/driver", "python3 /work/last_words.py");
    let java = find("/driver", "org.apache.spark.deploy.SparkSubmit");
    let shim = find("/platform", " shim ");
    let signal = |sign: &str| {
        let sent = Command::new("kill").args([sign, &shim.to_string()]).status().expect("kill");
        assert!(sent.success());
    };
    signal("-STOP");
    fs::write(format!("/proc/{python}/root/tmp/go"), "").expect("the word to go on");
    let mut blocked = 0;
    support::wait_for("the program to end unheard or to wait", Duration::from_secs(60), || {
        let call = fs::read_to_string(format!("/proc/{python}/syscall")).unwrap_or_default();
        // `write` of its standard output.
        blocked = if ["1 0x1 ", "64 0x1 "].iter().any(|call_of| call.starts_with(call_of)) { blocked + 1 } else { 0 };
        blocked >= 10 || !PathBuf::from(format!("/proc/{java}/exe")).exists()
    });
    signal("-CONT");
    let job = stack.wait(&id);
    assert_eq!((&job["status"], &job["returnCode"]), (&"FAILED".into(), &3.into()), "{job}");
    let log = stack.logs(&id);
    let lines = log.lines().filter(|line| line.contains("a line of many")).count();
    assert!(lines == 3000 && log.contains("the last words"), "{lines} lines");
}

#[test]
fn what_is_wrong_with_a_submit_is_told_at_once_and_leaves_nothing() {
    let stack = Stack::start();
    let good = file(&stack.dir, "main.py", b"print('hello')\n");
    stack.put(&good, "code", "main.py");
    for (arguments, expected) in [
        (&["s3://code/absent.py"][..], "mainApplicationCode.notFound"),
        (&["s3://code/main.py", "--driver-cores", "17"], "driver_cores"),
        (&["s3://code/main.py", "--executor-memory", "99999"], "executor_memory"),
        (&["s3://code/main.py", "--ttl", "30H"], "ttl"),
        (&["s3://code/main.py", "--engine-version", "2.4.3"], "3.5"),
    ] {
        let output = stack.run(&[&["job", "submit"], arguments].concat());
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(stack.json(&["job", "list"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn files_beside_the_main_file_are_in_the_working_directory() {
    let stack = Stack::start();
    let main = file(
        &stack.dir,
        "main.py",
        b"import helper, os\nprint('BESIDE', helper.word(), open('data/words.txt').read().strip(), os.getcwd())\n",
    );
    let helper = file(&stack.dir, "helper.py", b"def word():\n    return 'helped'\n");
    let words = file(&stack.dir, "words.txt", b"some words\n");
    stack.put(&main, "code", "main.py");
    stack.put(&helper, "code", "helper.py");
    stack.put(&words, "code", "data/words.txt");
    let id = stack.submit(&["s3://code/main.py"]);
    assert_eq!(stack.wait(&id)["status"], "COMPLETED", "{}", stack.logs(&id));
    assert!(stack.logs(&id).contains("BESIDE helped some words /work"), "{}", stack.logs(&id));
}

#[test]
fn twenty_jobs_at_once_all_end_right_with_four_running() {
    let stack = Stack::with(4, &[]);
    let main = file(
        &stack.dir,
        "main.py",
        b"import sys, time\ntime.sleep(1)\nprint('number', sys.argv[1])\nsys.exit(int(sys.argv[1]) % 2)\n",
    );
    stack.put(&main, "code", "main.py");
    let ids: Vec<String> = (0..20).map(|number| stack.submit(&["s3://code/main.py", &number.to_string()])).collect();
    let mut most = 0;
    support::wait_for("all jobs to end", Duration::from_secs(400), || {
        let jobs = stack.json(&["job", "list"]);
        let count = |wanted: &[&str]| {
            jobs.as_array()
                .into_iter()
                .flatten()
                .filter(|job| wanted.iter().any(|status| job["status"] == **status))
                .count()
        };
        most = most.max(count(&["SUBMITTED", "RUNNING", "CANCELLING"]));
        count(&["COMPLETED", "FAILED", "TERMINATED"]) == 20
    });
    assert!((2..=4).contains(&most), "{most} jobs ran at once");
    for (number, id) in ids.iter().enumerate() {
        let job = stack.job(id);
        let expected = if number % 2 == 0 { ("COMPLETED", 0) } else { ("FAILED", 1) };
        assert_eq!((&job["status"], &job["returnCode"]), (&expected.0.into(), &expected.1.into()), "{job}");
        let read = stack.run(&["job", "logs", id]);
        assert!(text(&read.stdout).contains(&format!("number {number}")), "{number}: {read:?} {job}");
    }
}

/// A file system without room over a directory, until it is dropped.
struct Full(PathBuf);

impl Full {
    fn over(place: PathBuf) -> Full {
        fs::create_dir_all(&place).expect("a directory");
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=0700")).expect("mounted");
        Full(place)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Whether SIGTERM waits for a process that is stopped, or the process is gone.
fn is_asked_to_end(pid: u64) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let pending = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("ShdPnd:")?.trim(), 16).ok());
    pending.is_some_and(|signals| signals & (1_u64 << (Signal::SIGTERM as i32 - 1)) != 0)
}

/// Resident memory of a process, MiB.
fn resident_mib(pid: u64) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
