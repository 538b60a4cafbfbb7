//! Runtimes that wait for their job: a job gives the same in one, its room is the jobs', and none outlives its service
//! (what a hostile job finds in one is in `isolation.rs`).

mod support;

use std::time::Duration;

use support::{Stack, file, jar, versions, wait_for};

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
