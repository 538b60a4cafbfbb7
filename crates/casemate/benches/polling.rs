//! Processor time that `serve` takes while 1,000 clients ask each 2 s for the status of a job and for its log, as the old
//! ones do: from the second of the last line that they have seen. Jobs are in all states; those that run write ten lines a
//! second. Each call is signed, decided and audited.
#![allow(missing_docs, reason = "a program, not a library")]

mod caller;
#[path = "report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use caller::Caller;
use reqwest::Method;
use serde_json::json;
use support::{Stack, file, program};

const CLIENTS: usize = 1_000;
const PERIOD: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(60);
const RUNNING: u32 = 2;
const WAITING: usize = 100;
const ENDED: usize = 100;

fn main() {
    let stack = Stack::with(RUNNING, &[]);
    let tick = program("tick.py").to_str().expect("path").to_owned();
    let runs: Vec<String> = (0..RUNNING).map(|_| stack.submit(&[tick.as_str(), "--placement", "single"])).collect();
    for job in &runs {
        stack.wait_status(job, &["RUNNING"], Duration::from_secs(120));
    }
    stack.put(&file(&stack.dir, "main.py", b"print('never run')\n"), "code", "main.py");
    let caller = Arc::new(Caller::new(&stack));
    let jobs = format!("{}/cloud/project/{}/dataProcessing/jobs", caller.api, stack.profile("project"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let serve = stack.ready("serve_pid").as_u64().expect("pid");
    let (cores, rate) = runtime.block_on(async {
        let mut all = runs.clone();
        all.extend(others(&stack, &caller, &jobs).await);
        let calls = Arc::new(AtomicU64::new(0));
        let begin = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (caller, calls) = (Arc::clone(&caller), Arc::clone(&calls));
                let job = format!("{jobs}/{}", all[number % all.len()]);
                let first =
                    begin + PERIOD * u32::try_from(number).expect("small") / u32::try_from(CLIENTS).expect("small");
                tokio::spawn(poll(caller, job, first, calls))
            })
            .collect();
        // The first ones warm what is kept.
        tokio::time::sleep(5 * PERIOD).await;
        let (before, started, heard) = (processor_time(serve), Instant::now(), calls.load(Ordering::Relaxed));
        tokio::time::sleep(WINDOW).await;
        let (after, took) = (processor_time(serve), started.elapsed().as_secs_f64());
        let heard = u32::try_from(calls.load(Ordering::Relaxed) - heard).expect("fewer");
        for client in clients {
            assert!(!client.is_finished(), "a client was refused: {:?}", client.await.err());
            client.abort();
        }
        ((after - before) / took, f64::from(heard) / took)
    });
    println!("{:.3} ms of processor time a call", cores / rate * 1e3);
    report::at_least("calls of 1,000 clients", rate, 950.0, "/s");
    report::at_most("polling by 1,000 clients", cores, 0.5, " cores");
    for job in &runs {
        assert!(stack.run(&["job", "cancel", job]).status.success());
        stack.wait(job);
    }
}

/// Jobs that wait, and jobs that have ended.
async fn others(stack: &Stack, caller: &Caller, jobs: &str) -> Vec<String> {
    let body = json!({
        "containerName": "code", "engine": "spark", "name": "bench", "region": stack.profile("region"),
        "engineVersion": support::versions()[0],
        "engineParameters": [
            {"name": "job_type", "value": "python"},
            {"name": "main_application_code", "value": "main.py"},
        ],
    });
    let mut all = Vec::new();
    for number in 0..WAITING + ENDED {
        let job = caller.done(Method::POST, jobs, &body.to_string()).await;
        let id = job["id"].as_str().expect("an id").to_owned();
        if number < ENDED {
            caller.done(Method::DELETE, &format!("{jobs}/{id}"), "").await;
        }
        all.push(id);
    }
    all
}

/// One client, for ever.
async fn poll(caller: Arc<Caller>, job: String, first: Instant, calls: Arc<AtomicU64>) {
    let mut due = first;
    let mut from = String::new();
    loop {
        tokio::time::sleep_until(due.into()).await;
        due += PERIOD;
        let shown = caller.done(Method::GET, &job, "").await;
        assert!(shown["status"].is_string(), "{shown}");
        let logs = caller.done(Method::GET, &format!("{job}/logs?from={from}"), "").await;
        if let Some(last) = logs["logs"].as_array().and_then(|lines| lines.last()) {
            // To the second, without a zone.
            from = format!("{}.000", &last["timestamp"].as_str().expect("a time")[..19]);
        }
        calls.fetch_add(2, Ordering::Relaxed);
    }
}

/// User and system time of a process so far, in seconds (proc(5), `/proc/pid/stat`, fields 14 and 15).
fn processor_time(pid: u64) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, after_name) = stat.rsplit_once(')').expect("a name");
    let ticks: u32 =
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u32>().expect("ticks")).sum();
    f64::from(ticks) / TICKS
}

/// A second, in the unit that Linux tells times of processes in, on every architecture.
const TICKS: f64 = 100.0;
