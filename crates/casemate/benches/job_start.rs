//! Job start against bare Spark, paired in one run: submit to COMPLETED of a trivial JAR with a driver and one
//! executor, all isolation on, against `spark-submit --master local-cluster[1,2,1024]` of the same JAR.
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

const PAIRS: usize = 7;

fn main() {
    let stack = Stack::start();
    for version in versions() {
        let bare = bare_spark(&version);
        let jar = jar(&stack.dir, "Trivial", &version);
        let bucket = format!("bench-{}", version.replace('.', "-"));
        stack.put(&jar, &bucket, "trivial.jar");
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        // The first pair warms the page cache for both and is not counted.
        for pair in 0..=PAIRS {
            let a = casemate(&stack, &bucket, &version);
            let b = spark_submit(&bare, &jar);
            println!("{version} pair {pair}: casemate {a:.2} s, spark-submit {b:.2} s, ratio {:.2}", a / b);
            if pair > 0 {
                ours.push(a);
                theirs.push(b);
                ratios.push(a / b);
            }
        }
        println!(
            "{version} median: casemate {:.2} s, spark-submit {:.2} s",
            report::percentile(&mut ours, 0.5),
            report::percentile(&mut theirs, 0.5)
        );
        report::at_most(&format!("job-start-{version}"), report::percentile(&mut ratios, 0.5), 1.0, "x");
    }
}

fn casemate(stack: &Stack, bucket: &str, version: &str) -> f64 {
    let started = Instant::now();
    // The bare driver may use every core of the machine, so this one may as well.
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(16)).to_string();
    let id = stack.submit(&[
        &format!("s3://{bucket}/trivial.jar"),
        "--main-class",
        "Trivial",
        "--engine-version",
        version,
        "--driver-cores",
        &cores,
        "--executor-cores",
        "2",
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

fn spark_submit(home: &Path, jar: &Path) -> f64 {
    let started = Instant::now();
    let output = Command::new(home.join("bin/spark-submit"))
        .args(["--master", "local-cluster[1,2,1024]", "--conf", "spark.ui.enabled=false", "--class", "Trivial"])
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
