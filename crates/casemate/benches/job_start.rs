//! Job start against bare Spark, paired in one run: submit to COMPLETED of a trivial JAR, all isolation on. With a driver
//! and one executor against `spark-submit --master local-cluster[1,2,1024]` of the same JAR, and in one container
//! (`placement=single`) against `spark-submit --master local[2]`. The service keeps one runtime of the job's shape waiting
//! (`jobs.warm`); the clock of either side starts when one waits, so that making the next disturbs neither. `COLD=1` measures
//! without such runtimes.
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
    let cold = std::env::var_os("COLD").is_some();
    for version in versions() {
        let bare = bare_spark(&version);
        for (name, placement, master, bound) in
            [("job-start", "cluster", "local-cluster[1,2,1024]", 0.6), ("job-start-single", "single", "local[2]", 0.4)]
        {
            let stack = Stack::configured(&configuration(&version, placement, cold));
            let jar = jar(&stack.dir, "Trivial", &version);
            stack.put(&jar, "bench", "trivial.jar");
            let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            // The first pair warms the page cache for both and is not counted.
            for pair in 0..=PAIRS {
                let rest = |made: usize| {
                    if !cold {
                        stack.until_warm(made)
                    }
                };
                rest(pair + 1);
                let a = casemate(&stack, &version, placement);
                rest(pair + 2);
                let b = spark_submit(&bare, &jar, master);
                println!(
                    "{version} {placement} pair {pair}: casemate {a:.2} s, spark-submit {b:.2} s, ratio {:.2}",
                    a / b
                );
                if pair > 0 {
                    ours.push(a);
                    theirs.push(b);
                    ratios.push(a / b);
                }
            }
            let log = stack.log();
            let taken = log.matches("an attempt takes a runtime that waits").count();
            assert_eq!(taken, if cold { 0 } else { PAIRS + 1 }, "{log}");
            assert!(!log.contains("a container that waited is not used"), "{log}");
            println!(
                "{version} {placement} median: casemate {:.2} s, spark-submit {:.2} s; {}",
                report::percentile(&mut ours, 0.5),
                report::percentile(&mut theirs, 0.5),
                if cold { "no runtime waits" } else { "one runtime of the shape waits" }
            );
            let name = if cold { format!("{name}-cold") } else { name.to_owned() };
            report::at_most(&format!("{name}-{version}"), report::percentile(&mut ratios, 0.5), bound, "x");
        }
    }
}

/// Listeners, and a runtime that waits for the job of the bench.
fn configuration(version: &str, placement: &str, cold: bool) -> String {
    let listeners = "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n";
    if cold {
        return listeners.to_owned();
    }
    format!(
        "{listeners}[[jobs.warm]]\nengine_version = '{version}'\n\
         parameters = {{ placement = '{placement}', driver_cores = '{}', executor_cores = '2' }}\n",
        driver_cores()
    )
}

/// The bare driver may use every core of the machine, so this one may as well. In one container it has the executor's too.
fn driver_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(14))
}

fn casemate(stack: &Stack, version: &str, placement: &str) -> f64 {
    let started = Instant::now();
    let cores = driver_cores().to_string();
    let id = stack.submit(&[
        "s3://bench/trivial.jar",
        "--main-class",
        "Trivial",
        "--engine-version",
        version,
        "--driver-cores",
        &cores,
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
