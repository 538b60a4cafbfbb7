//! Submit latency of the jobs API with 10,000 jobs in the database: each submit is signed, checked against the
//! object store, audited and durable before its answer.
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::{Stack, file};

const JOBS: usize = 10_000;
const MEASURED: usize = 2_000;

fn main() {
    // No job may start: the machine's cores belong to the measurement.
    let stack = Stack::with(0, &[]);
    let main = file(&stack.dir, "main.py", b"print('never run')\n");
    stack.put(&main, "code", "main.py");
    let client = Client::new(&stack);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        for number in 0..JOBS {
            client.submit().await;
            if number % 1000 == 999 {
                println!("{} jobs", number + 1);
            }
        }
        let mut latencies = Vec::with_capacity(MEASURED);
        for _ in 0..MEASURED {
            let started = Instant::now();
            client.submit().await;
            latencies.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        println!("submit p50 {:.2} ms", report::percentile(&mut latencies, 0.5));
        report::at_most("submit-p99", report::percentile(&mut latencies, 0.99), 10.0, " ms");
    });
}

struct Client {
    http: reqwest::Client,
    url: String,
    application: String,
    secret: String,
    consumer: String,
    body: String,
}

impl Client {
    fn new(stack: &Stack) -> Client {
        let body = serde_json::json!({
            "containerName": "code", "engine": "spark", "name": "bench", "region": stack.profile("region"),
            "engineVersion": support::versions()[0],
            "engineParameters": [
                {"name": "job_type", "value": "python"},
                {"name": "main_application_code", "value": "main.py"},
            ],
        });
        Client {
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("client"),
            url: format!("{}/1.0/cloud/project/{}/dataProcessing/jobs", stack.text("api"), stack.profile("project")),
            application: stack.profile("application_key"),
            secret: stack.profile("application_secret"),
            consumer: stack.profile("consumer_key"),
            body: body.to_string(),
        }
    }

    async fn submit(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let signed = format!("{}+{}+POST+{}+{}+{now}", self.secret, self.consumer, self.url, self.body);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes());
        let answer = self
            .http
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("X-Ovh-Application", &self.application)
            .header("X-Ovh-Consumer", &self.consumer)
            .header("X-Ovh-Timestamp", now.to_string())
            .header("X-Ovh-Signature", format!("$1${}", hex::encode(digest)))
            .body(self.body.clone())
            .send()
            .await
            .expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{status}: {text}");
    }
}
