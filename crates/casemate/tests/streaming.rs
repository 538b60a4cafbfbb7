//! What Spark keeps on the store and must find again: checkpoints of streams, output of the S3A committers, tables with
//! several writers (JOB-11, OBJ-1, OBJ-4).

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use support::{Stack, checkout, engines, file, kill, python, text, versions, wait_for};

#[test]
fn a_stream_resumes_exactly_after_kill_9_of_driver_serve_and_both_on_spark_3() {
    a_stream_resumes_exactly(&versions()[0], None);
}

/// With the checkpoint manager that needs no rename.
#[test]
fn a_stream_resumes_exactly_after_kill_9_of_driver_serve_and_both_on_spark_4() {
    a_stream_resumes_exactly(&versions()[1], Some("checkpoint.properties"));
}

fn a_stream_resumes_exactly(version: &str, properties: Option<&str>) {
    let stack = Stack::start();
    // Each value is in two files, so that a batch needs what an earlier one has kept.
    for number in 0..FILES {
        let lines: String = (number * HALF..(number + 2) * HALF).map(|value| format!("{value:06}\n")).collect();
        let input = file(&stack.dir, "lines.txt", lines.as_bytes());
        stack.put(&input, "stream", &format!("in/{number:02}.txt"));
    }
    let program = beside("resume.py");
    let properties: Option<String> = properties.map(|name| beside(name).to_string_lossy().into_owned());
    let submit = |more: &[&str]| {
        let mut arguments = vec![program.to_str().expect("path"), "--engine-version", version];
        arguments.extend(properties.iter().flat_map(|file| ["--properties-file", file]));
        arguments.extend(more);
        arguments.push("stream");
        stack.submit(&arguments)
    };

    let first = submit(&[]);
    batches(&stack, 2);
    kill(driver(&first));
    let job = ended(&stack, &first);
    assert_eq!((&job["status"], &job["returnCode"]), (&"FAILED".into(), &137.into()), "{job}");

    // From here on it is tried again by itself, as a stream is that is to run for months.
    let again = ["--retries", "2", "--retry-on", "platform,failed", "--retry-backoff", "1", "--retry-reset", "3600"];
    let second = submit(&again);
    batches(&stack, 4);
    stack.kill("serve");
    // It goes on as if nothing had been.
    batches(&stack, 6);
    assert_eq!(stack.wait_status(&second, &["RUNNING"], Duration::from_secs(20))["status"], "RUNNING");
    let victim = driver(&second);
    let serve = stack.ready("serve_pid");
    kill(serve.as_u64().expect("pid"));
    kill(victim);
    // What the platform loses is tried again as well: the next attempt, once it has done something.
    wait_for("the second attempt to run", LIMIT, || {
        let shown = stack.run(&["job", "show", &second, "--output", "json"]);
        let job: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        job["attempt"] == 2 && job["status"] == "RUNNING"
    });
    let before = numbered(&stack, "checkpoint/commits/").len();
    batches(&stack, before + 1);
    kill(shim(&format!("{second}.2")));
    let job = ended(&stack, &second);
    let log = stack.logs(&second);
    assert_eq!((&job["status"], &job["attempt"]), (&"COMPLETED".into(), &3.into()), "{job} {log}");
    assert!(log.contains(&format!("ROWS {}", (FILES + 1) * HALF)), "what Spark reads: {log}");
    let ran: Vec<u64> = log.lines().filter_map(|line| line.split_once("BATCH ")?.1.trim().parse().ok()).collect();
    assert!(ran.first().is_some_and(|batch| *batch > before as u64), "it went on, and did not begin again: {ran:?}");
    let kept: Vec<u64> = numbered(&stack, "checkpoint/commits/").into_keys().collect();
    // A file that the source had noted when its driver was killed comes with the next in one batch: as many as files, or
    // fewer.
    assert_eq!(kept, (0..kept.len() as u64).collect::<Vec<u64>>(), "batch upon batch");
    assert_eq!(kept.last(), ran.last());
    // No attempt has written over the log of another.
    let said = ["odp.logs", "odp.2.logs", "odp.3.logs"]
        .map(|name| text(&stack.get("odp-logs", &format!("{second}/driver/{name}"))));
    assert!(said.iter().all(|said| said.contains("fetched ")), "{said:#?}");
    assert_eq!(said.each_ref().map(|said| said.contains("return code 0")), [false, false, true], "{said:#?}");
    let written = stack.keys("odp-logs", &format!("{second}/driver/spark.log."));
    assert!(written.len() >= 3, "{written:?}");

    let mut found: Vec<String> = Vec::new();
    for key in sink_files(&stack) {
        found.extend(text(&stack.get("stream", &key)).lines().map(str::to_owned));
    }
    found.sort();
    let expected: Vec<String> = (0..(FILES + 1) * HALF).map(|value| format!("{value:06}")).collect();
    assert_eq!(found, expected, "each row once, none twice, none lost");
}

#[test]
fn the_magic_committer_shows_a_table_whole_or_not_at_all() {
    let stack = Stack::start();
    assert!(stack.run(&["bucket", "create", "tables"]).status.success());
    let program = beside("magic.py");
    let properties = beside("magic.properties");
    let submit = |version: &str, table: &str, more: &[&str]| {
        let place = format!("s3a://tables/{table}");
        let fixed = [
            program.to_str().expect("path"),
            "--engine-version",
            version,
            "--properties-file",
            properties.to_str().expect("path"),
            &place,
            ROWS,
        ];
        stack.submit(&[&fixed[..], more].concat())
    };
    // One is ended while it writes: its uploads are there, and not one of its rows.
    let version = &versions()[0];
    let killed = submit(version, version, &["stay"]);
    wait_for("a task to be committed", LIMIT, || {
        !stack.keys("tables", &format!("{version}/__magic")).iter().all(|key| !key.ends_with(".pendingset"))
    });
    assert!(!uploads(&stack).is_empty(), "uploads that wait for the job's commit");
    kill(driver(&killed));
    assert_eq!(ended(&stack, &killed)["status"], "FAILED");
    let seen: Vec<String> = rows_of(&stack, version);
    assert!(seen.is_empty(), "nothing of it is to be seen: {seen:?}");

    let jobs: Vec<(String, String)> =
        versions().into_iter().map(|version| (submit(&version, &version, &[]), version)).collect();
    for (id, version) in jobs {
        let job = ended(&stack, &id);
        let log = stack.logs(&id);
        assert_eq!(job["status"], "COMPLETED", "{job} {log}");
        assert!(log.contains(&format!("ROWS {ROWS} {ROWS}")), "{log}");
        let said: Value =
            serde_json::from_slice(&stack.get("tables", &format!("{version}/_SUCCESS"))).expect("a manifest in JSON");
        assert_eq!(said["committer"], "magic", "{said}");
        let named: BTreeSet<String> = said["filenames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.trim_start_matches('/').to_owned()))
            .collect();
        let there: BTreeSet<String> = rows_of(&stack, &version).into_iter().collect();
        assert_eq!(named, there, "what the manifest names is what there is");
        assert_eq!(there.len(), 2);
        assert!(stack.keys("tables", &format!("{version}/__magic")).is_empty());
    }
    assert_eq!(uploads(&stack), Vec::<String>::new(), "no upload is left, of the ended job neither");
}

#[test]
fn two_jobs_append_to_one_table_and_every_commit_counts() {
    let version = &versions()[0];
    let stack = Stack::start();
    assert!(stack.run(&["bucket", "create", "lake"]).status.success());
    stack.put(&beside("append.py"), "lake-code", "append.py");
    stack.put(&beside("lake.properties"), "lake-code", "lake.properties");
    for name in ["delta-spark", "delta-storage"] {
        stack.put(&delta(name), "lake-code", &format!("{name}.jar"));
    }
    stack.put(&log_store(&stack.dir, version), "lake-code", "log-store.jar");
    let submit = |arguments: &[&str]| {
        let fixed = ["s3://lake-code/append.py", "--engine-version", version, "--properties-file", "lake.properties"];
        stack.submit(&[&fixed[..], arguments].concat())
    };
    // Eleven versions: Delta writes a checkpoint of its own at the tenth.
    let (commits, rows) = (5, 50);
    let numbers = [commits.to_string(), rows.to_string()];
    let jobs = ["0", "1"].map(|writer| submit(&[writer, "2", "lake", &numbers[0], &numbers[1]]));
    let mut lost = 0;
    let mut seen = String::new();
    for id in &jobs {
        let job = ended(&stack, id);
        let log = stack.logs(id);
        assert_eq!(job["status"], "COMPLETED", "{job} {log}");
        lost += log.matches("LOST ").count();
        seen.push_str(&log);
    }
    assert!(lost > 0, "the writers met: a version that one had is refused to the other");

    let mut said = BTreeSet::new();
    let mut added = 0;
    let log = stack.keys("lake", "table/_delta_log/0");
    let log: Vec<&String> = log.iter().filter(|key| key.ends_with(".json")).collect();
    let expected: Vec<String> =
        (0..=2 * commits).map(|version| format!("table/_delta_log/{version:020}.json")).collect();
    assert!(log.iter().copied().eq(&expected), "each version once: {log:?}");
    for key in log {
        let content = text(&stack.get("lake", key));
        for action in content.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
            if let Some(words) = action["commitInfo"]["userMetadata"].as_str() {
                assert!(said.insert(words.to_owned()), "{words} was committed twice");
            }
            if let Some(stats) = action["add"]["stats"].as_str() {
                let stats: Value = serde_json::from_str(stats).expect("JSON");
                added += stats["numRecords"].as_u64().expect("a number");
            }
        }
    }
    let mut wanted: BTreeSet<String> =
        (0..2).flat_map(|writer| (0..commits).map(move |commit| format!("{writer}-{commit}"))).collect();
    wanted.insert("made".into());
    assert_eq!(said, wanted, "every commit of both");
    assert_eq!(added, 2 * commits * rows);
    let all = 2 * commits * rows;
    assert!(seen.contains(&format!("ROWS {all} DISTINCT {all} COMMITS {}", 2 * commits + 1)), "{seen}");
}

/// Waits for the end of a job.
fn ended(stack: &Stack, id: &str) -> Value {
    stack.wait_status(id, &["COMPLETED", "FAILED", "TERMINATED"], LIMIT)
}

/// Waits until the stream has committed so many batches.
fn batches(stack: &Stack, count: usize) {
    wait_for(&format!("{count} batches"), LIMIT, || {
        // Around a kill of `serve` a call may fail; the next one tells.
        let listed = stack.run(&["object", "list", "s3://stream/checkpoint/commits/", "--output", "json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let keys = listed.as_array().into_iter().flatten().filter_map(|object| object["key"].as_str());
        keys.filter_map(number).collect::<BTreeSet<u64>>().len() >= count
    });
}

/// The files of a metadata log by their numbers: no temporary ones, no sums.
fn numbered(stack: &Stack, prefix: &str) -> BTreeMap<u64, String> {
    stack.keys("stream", prefix).into_iter().filter_map(|key| Some((number(&key)?, key))).collect()
}

fn number(key: &str) -> Option<u64> {
    let name = key.rsplit('/').next()?;
    name.strip_suffix(".compact").unwrap_or(name).parse().ok()
}

/// Keys of what the exactly-once sink says it wrote: its log from the newest compaction on. What a killed batch left
/// beside them does not count.
fn sink_files(stack: &Stack) -> BTreeSet<String> {
    let log = numbered(stack, "out/_spark_metadata/");
    let start = log.iter().filter(|(_, key)| key.ends_with(".compact")).map(|(number, _)| *number).max().unwrap_or(0);
    let mut files = BTreeSet::new();
    for key in log.range(start..).map(|(_, key)| key) {
        for entry in text(&stack.get("stream", key)).lines().skip(1) {
            let entry: Value = serde_json::from_str(entry).expect("JSON");
            assert_eq!(entry["action"], "add", "{entry}");
            let path = entry["path"].as_str().expect("a path").strip_prefix("s3a://stream/").expect("of the bucket");
            assert!(files.insert(path.to_owned()), "{path} is named twice");
        }
    }
    files
}

/// Keys of the Parquet files that readers of a table see.
fn rows_of(stack: &Stack, table: &str) -> Vec<String> {
    let mut keys = stack.keys("tables", &format!("{table}/"));
    keys.retain(|key| key.ends_with(".parquet") && !key.contains("/__magic"));
    keys
}

/// Uploads of the bucket that were neither completed nor given up.
fn uploads(stack: &Stack) -> Vec<String> {
    let script = "import sys, boto3\n\
        s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='GRA', aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3])\n\
        for page in s3.get_paginator('list_multipart_uploads').paginate(Bucket='tables'):\n\
        \x20   for upload in page.get('Uploads', []): print(upload['Key'])\n";
    let output = Command::new(python())
        .args(["-c", script, &stack.text("s3"), &stack.s3("access_key"), &stack.s3("secret_key")])
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The driver's JVM, as the machine sees it.
fn driver(job: &str) -> u64 {
    support::process(job, "/driver", "org.apache.spark.deploy.SparkSubmit").expect("a driver")
}

/// The shim of an attempt.
fn shim(attempt: &str) -> u64 {
    support::process(attempt, "/platform", " shim ").expect("a shim")
}

/// A file that the tests here give to a job.
fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streaming").join(name)
}

/// A JAR of Delta that `make setup-test` fetched.
fn delta(name: &str) -> PathBuf {
    let place = checkout().join(".cache/delta").join(format!("{name}.jar"));
    assert!(place.is_file(), "no {}: run `make test`, which fetches it", place.display());
    place
}

/// The log store of this test, compiled against the engine and Delta.
fn log_store(dir: &Path, version: &str) -> PathBuf {
    let classes = dir.join("classes");
    fs::create_dir_all(&classes).expect("directory");
    let jars = engines().join(format!("spark-{version}/jars/*"));
    let compiled = Command::new("javac")
        .args(["--release", "17", "-cp"])
        .arg(format!("{}:{}", jars.display(), delta("delta-storage").display()))
        .arg("-d")
        .arg(&classes)
        .arg(beside("ConditionalLogStore.java"))
        .output()
        .expect("javac runs");
    assert!(compiled.status.success(), "{}", text(&compiled.stderr));
    let jar = dir.join("log-store.jar");
    let packed = Command::new("jar").arg("cf").arg(&jar).arg("-C").arg(&classes).arg(".").output().expect("jar runs");
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    jar
}

/// How long something may take at most that takes a few seconds.
const LIMIT: Duration = Duration::from_secs(300);
/// Input files, one a batch.
const FILES: u64 = 13;
/// How many values a file shares with the next.
const HALF: u64 = 25;
/// Rows of a table that is large enough for uploads in parts.
const ROWS: &str = "200000";
