//! Job start against bare Spark, in one run on one machine: submit to COMPLETED of a trivial JAR, all isolation on. With a
//! driver and one executor against `spark-submit --master local-cluster[1,2,1024]` of the same JAR, and in one container
//! (`placement=single`) against `spark-submit --master local[2]`. Each round has a job that takes a runtime which waited
//! (`jobs.warm`), one that differs from that shape by 1 MiB and so starts cold, and the bare one. A round begins when a
//! runtime waits, so that making one disturbs none of the three.
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use support::{Stack, checkout, jar, text, versions};

const ROUNDS: usize = 7;

fn main() {
    for version in versions() {
        let bare = bare_spark(&version);
        for (name, placement, master, bound) in
            [("job-start", "cluster", "local-cluster[1,2,1024]", 0.6), ("job-start-single", "single", "local[2]", 0.4)]
        {
            let configuration = configuration(&version, placement);
            println!("{version} {placement} against spark-submit --master {master}; the service is configured by");
            configuration.lines().for_each(|line| println!("    {line}"));
            let stack = Stack::configured(&configuration);
            let jar = jar(&stack.dir, "Trivial", &version);
            stack.put(&jar, "bench", "trivial.jar");
            let (mut warm, mut cold, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
            let (mut to_warm, mut to_cold) = (Vec::new(), Vec::new());
            // The first round warms the page cache for all and is not counted.
            for round in 0..=ROUNDS {
                stack.until_one_waits();
                let a = casemate(&stack, &version, placement, OVERHEAD);
                stack.until_one_waits();
                let b = casemate(&stack, &version, placement, OVERHEAD + 1);
                let c = spark_submit(&bare, &jar, master);
                println!(
                    "{version} {placement} round {round}: warm {a:.2} s, cold {b:.2} s, spark-submit {c:.2} s, ratios {:.2} and {:.2}",
                    a / c,
                    b / c
                );
                if round > 0 {
                    for (list, figure) in
                        [(&mut warm, a), (&mut cold, b), (&mut theirs, c), (&mut to_warm, a / c), (&mut to_cold, b / c)]
                    {
                        list.push(figure);
                    }
                }
            }
            let log = stack.log();
            let taken = log.matches("an attempt takes a runtime that waits").count();
            assert_eq!(taken, ROUNDS + 1, "one a round: {log}");
            assert!(!log.contains("a container that waited is not used"), "{log}");
            println!(
                "{version} {placement} median: warm {:.2} s, cold {:.2} s, spark-submit {:.2} s",
                report::percentile(&mut warm, 0.5),
                report::percentile(&mut cold, 0.5),
                report::percentile(&mut theirs, 0.5)
            );
            report::at_most(&format!("{name}-{version}"), report::percentile(&mut to_warm, 0.5), bound, "x");
            report::at_most(&format!("{name}-cold-{version}"), report::percentile(&mut to_cold, 0.5), 1.0, "x");
        }
    }
}

/// Listeners, and a runtime that waits for the warm jobs of the bench.
fn configuration(version: &str, placement: &str) -> String {
    format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[[jobs.warm]]\nengine_version = '{version}'\n\
         parameters = {{ placement = '{placement}', driver_cores = '{}', executor_cores = '2', driver_memory_overhead = '{OVERHEAD}' }}\n",
        driver_cores()
    )
}

/// The bare driver may use every core of the machine, so this one may as well. In one container it has the executor's too.
fn driver_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(14))
}

fn casemate(stack: &Stack, version: &str, placement: &str, overhead: u32) -> f64 {
    let started = Instant::now();
    let (cores, overhead) = (driver_cores().to_string(), overhead.to_string());
    let id = stack.submit(&[
        "s3://bench/trivial.jar",
        "--main-class",
        "Trivial",
        "--engine-version",
        version,
        "--driver-cores",
        &cores,
        "--driver-memory-overhead",
        &overhead,
        "--executor-cores",
        "2",
        "--placement",
        placement,
    ]);
    let job = loop {
        let job = stack.job(&id);
        if matches!(job["status"].as_str(), Some("COMPLETED" | "FAILED" | "TERMINATED")) {
            break job;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(job["status"], "COMPLETED", "{job} {}", stack.logs(&id));
    assert!(stack.logs(&id).contains("SUM 5050"));
    seconds
}

fn spark_submit(home: &Path, jar: &Path, master: &str) -> f64 {
    let started = Instant::now();
    let output = Command::new(home.join("bin/spark-submit"))
        .args(["--master", master, "--conf", "spark.ui.enabled=false", "--class", "Trivial"])
        .arg(jar)
        .env("SPARK_HOME", home)
        .output()
        .expect("spark-submit runs");
    let seconds = started.elapsed().as_secs_f64();
    assert!(text(&output.stdout).contains("SUM 5050"), "{}{}", text(&output.stdout), text(&output.stderr));
    seconds
}

/// The package `pyspark` as `pip` installs it: the peer, untouched.
fn bare_spark(version: &str) -> PathBuf {
    let place = checkout().join(format!(".cache/bench/pyspark-{version}"));
    let home = place.join("pyspark");
    if !home.join("bin/spark-submit").exists() {
        println!("installing pyspark {version} to compare with");
        let status = Command::new(support::python())
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(&place)
            .arg(format!("pyspark=={version}"))
            .status()
            .expect("pip runs");
        assert!(status.success(), "pip could not install pyspark {version}");
    }
    home
}

/// MiB of memory beside the heap of the driver: the default.
const OVERHEAD: u32 = 384;
