//! Submit latency of the jobs API with 10,000 jobs in the database: each submit is signed, checked against the
//! object store, audited and durable before its answer.
#![allow(missing_docs, reason = "a program, not a library")]

mod caller;
#[path = "report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use caller::Caller;
use reqwest::Method;
use support::{Stack, file};

const JOBS: usize = 10_000;
const MEASURED: usize = 2_000;

fn main() {
    // No job may start: the machine's cores belong to the measurement.
    let stack = Stack::with(0, &[]);
    let main = file(&stack.dir, "main.py", b"print('never run')\n");
    stack.put(&main, "code", "main.py");
    let caller = Caller::new(&stack);
    let url = format!("{}/cloud/project/{}/dataProcessing/jobs", caller.api, stack.profile("project"));
    let body = serde_json::json!({
        "containerName": "code", "engine": "spark", "name": "bench", "region": stack.profile("region"),
        "engineVersion": support::versions()[0],
        "engineParameters": [
            {"name": "job_type", "value": "python"},
            {"name": "main_application_code", "value": "main.py"},
        ],
    });
    let body = body.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        for number in 0..JOBS {
            caller.done(Method::POST, &url, &body).await;
            if number % 1000 == 999 {
                println!("{} jobs", number + 1);
            }
        }
        let mut latencies = Vec::with_capacity(MEASURED);
        for _ in 0..MEASURED {
            let started = Instant::now();
            caller.done(Method::POST, &url, &body).await;
            latencies.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        println!("submit p50 {:.2} ms", report::percentile(&mut latencies, 0.5));
        report::at_most("submit-p99", report::percentile(&mut latencies, 0.99), 10.0, " ms");
    });
}
