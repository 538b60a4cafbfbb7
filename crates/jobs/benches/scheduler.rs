//! Durable submits a second by 16 callers; the scheduler's decision with 10,000 waiting jobs, from the question to the database
//! to the choice; a submit with a million jobs in the database, at 500 a second. `CASEMATE_BENCH_JOBS` sets how many those are.
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "../../casemate/benches/report.rs"]
mod report;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use audit::{Actor, Audit};
use db::Db;
use engine::Engines;
use jiff::Timestamp;
use jobs::{BoxError, Choice, Config, JobKeys, Jobs, Parts, Permission, Surroundings, Turns};
use keys::Keys;
use model::{
    AccountId, BucketName, Cores, EngineParameter, Job, JobId, JobRequest, JobSpec, JobStatus, MiB, Principal,
    ProjectId, SandboxId, SpecRules,
};
use uuid::Uuid;

const PROJECTS: usize = 10;
const WAITING: usize = 10_000;
const CALLERS: usize = 16;
const SUBMITS: usize = 4_000;
/// Of one caller, for 500 a second of all.
const PACE: Duration = Duration::from_millis(32);
const DECISIONS: usize = 1_000;
const JOBS: usize = 1_000_000;
const AT_ONCE: usize = 20_000;

/// Every file is there; nothing is started.
struct Beside;

#[async_trait]
impl Surroundings for Beside {
    async fn object_size(&self, _: &ProjectId, _: &BucketName, _: &str) -> Result<Option<u64>, BoxError> {
        Ok(Some(1))
    }
    async fn read_object(&self, _: &ProjectId, _: &BucketName, _: &str, _: u64) -> Result<Option<Vec<u8>>, BoxError> {
        Err("no job starts here".into())
    }
    async fn object_sha256(&self, _: &ProjectId, _: &BucketName, _: &str) -> Result<Option<[u8; 32]>, BoxError> {
        Err("no job starts here".into())
    }
    async fn keep_object(&self, _: &ProjectId, _: &BucketName, _: &str, _: &std::path::Path) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    async fn ensure_log_bucket(&self, _: &ProjectId) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    async fn write_log(
        &self,
        _: &ProjectId,
        _: &str,
        _: u64,
        _: tokio::sync::mpsc::Receiver<std::io::Result<bytes::Bytes>>,
    ) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    async fn read_log(&self, _: &ProjectId, _: &str, _: u64) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(None)
    }
    async fn open_keys(&self, _: &ProjectId, _: SandboxId, _: &JobSpec) -> Result<JobKeys, BoxError> {
        Err("no job starts here".into())
    }
    async fn close_keys(&self, _: SandboxId) -> Result<(), BoxError> {
        Ok(())
    }
    fn open_gate(&self, _: SandboxId, _: std::net::TcpListener) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    fn close_gate(&self, _: SandboxId) {}
    async fn may_submit(&self, _: &Principal, _: &ProjectId, _: bool, _: Timestamp) -> Result<Permission, BoxError> {
        Ok(Permission::Allowed(String::new()))
    }
    async fn tell(&self, _: &mut db::Tx, _: &AccountId, _: &str, _: &str) -> Result<(), BoxError> {
        Ok(())
    }
}

fn main() {
    let many = std::env::var("CASEMATE_BENCH_JOBS").ok().map(|text| text.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        // Beside the build, which is on a disk where /tmp may not be.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let (jobs, db, projects) = open(dir.path()).await;
        // As the service does.
        tokio::spawn({
            let db = db.clone();
            async move { db.run_checkpoints(std::future::pending()).await }
        });

        let began = Instant::now();
        let mut times = submit(&jobs, &projects, Duration::ZERO).await;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let rate = SUBMITS as f64 / began.elapsed().as_secs_f64();
        report::at_least("durable submits", rate, 500.0, "/s");
        println!(
            "a submit by {CALLERS} callers as fast as they can: p99 {:.2} ms",
            report::percentile(&mut times, 0.99)
        );

        fill(&db, &projects, WAITING - SUBMITS, JobStatus::Pending).await;
        let mut times = Vec::with_capacity(DECISIONS);
        let mut turns = Turns::default();
        for _ in 0..DECISIONS {
            let began = Instant::now();
            let used = db::jobs::used(&db).await.expect("used");
            let heads = db::jobs::heads(&db, Timestamp::now()).await.expect("heads");
            assert!(matches!(turns.choose(&heads, &used, &jobs.room(), began), Choice::Start(_)));
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        report::at_most("decision with 10,000 waiting, p99", report::percentile(&mut times, 0.99), 1.0, " ms");

        let many = many.unwrap_or(JOBS);
        fill(&db, &projects, many, JobStatus::Completed).await;
        // The log of the database holds what was filled in, and is brought into it first.
        submit(&jobs, &projects, Duration::ZERO).await;
        let mut times = submit(&jobs, &projects, PACE).await;
        let name = format!("submit with {many} jobs at 500/s, p99");
        report::at_most(&name, report::percentile(&mut times, 0.99), 10.0, " ms");
    });
}

/// Submits by callers at once, each of which begins one every `pace`, or later where the one before has not ended; then its
/// time counts from when it should have begun. Milliseconds of each.
async fn submit(jobs: &Jobs, projects: &[ProjectId], pace: Duration) -> Vec<f64> {
    let callers = (0..CALLERS).map(|caller| {
        let (jobs, project) = (jobs.clone(), projects[caller % projects.len()].clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            let mut due = Instant::now();
            for _ in 0..SUBMITS / CALLERS {
                due += pace;
                tokio::time::sleep_until(due.into()).await;
                let began = if pace.is_zero() { Instant::now() } else { due };
                jobs.submit(&project, &request(), &Actor::system()).await.expect("submitted");
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            times
        })
    });
    let mut all = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        all.extend(caller.await.expect("a caller"));
    }
    all
}

fn request() -> JobRequest {
    let parameter = |name: &str, value: &str| EngineParameter { name: name.into(), value: value.into() };
    JobRequest {
        container_name: Some("code".into()),
        parameters: vec![parameter("job_type", "python"), parameter("main_application_code", "main.py")],
        ..JobRequest::default()
    }
}

/// Writes jobs as they stand after a life of each.
async fn fill(db: &Db, projects: &[ProjectId], number: usize, status: JobStatus) {
    let rules = SpecRules {
        regions: vec![region()],
        versions: vec!["3.5.9".parse().expect("a version")],
        ..SpecRules::default()
    };
    let spec = JobSpec::parse(&request(), &rules).expect("a specification");
    let mut left = number;
    while left > 0 {
        let mut tx = db.begin().await.expect("a transaction");
        for index in 0..left.min(AT_ONCE) {
            let now = Timestamp::now();
            let mut job = Job::new(JobId(Uuid::now_v7()), projects[index % projects.len()].clone(), spec.clone(), now);
            db::jobs::insert(&mut tx, &job).await.expect("a job");
            if status.is_final() {
                (job.status, job.ended, job.return_code) = (status, Some(now), Some(0));
                db::jobs::update(&mut tx, &job).await.expect("a job");
            }
        }
        tx.commit().await.expect("committed");
        left = left.saturating_sub(AT_ONCE);
    }
}

fn region() -> model::Region {
    "GRA".parse().expect("a region")
}

async fn open(dir: &Path) -> (Jobs, Db, Vec<ProjectId>) {
    let db = Db::open(&dir.join("casemate.sqlite")).await.expect("a database");
    let keys = Arc::new(Keys::open(&dir.join("keys")).expect("keys"));
    let account: AccountId = "ab1234-casemate".parse().expect("an account");
    let created = Timestamp::now();
    let mut tx = db.begin().await.expect("a transaction");
    let row = db::accounts::Account { id: account.clone(), email: String::new(), name: String::new(), created };
    db::accounts::insert(&mut tx, &row).await.expect("an account");
    let mut projects = Vec::new();
    for number in 0..PROJECTS {
        let id: ProjectId = format!("{number:032x}").parse().expect("a project");
        let (account, name) = (account.clone(), String::new());
        let row = db::accounts::Project { id: id.clone(), account, name, authorized: true, region: None, created };
        db::accounts::insert_project(&mut tx, &row).await.expect("a project");
        projects.push(id);
    }
    tx.commit().await.expect("committed");
    let home = dir.join("engines/spark-3.5.9");
    std::fs::create_dir_all(&home).expect("a directory");
    let manifest = serde_json::json!({"engine": {
        "version": "3.5.9", "scala": "2.12", "hadoop": "3.3.4", "description": "Spark", "available": "2025-01-01",
        "end_of_support": "2125-10-01", "end_of_life": "2126-01-01", "java_home": "/usr", "jars": [], "archives": false,
    }});
    std::fs::write(home.join("manifest.json"), manifest.to_string()).expect("a manifest");
    let jobs = Jobs::new(Parts {
        db: db.clone(),
        audit: Audit::new(db.clone()),
        keys,
        warden: warden::Client::new(&dir.join("no-warden.sock")),
        engines: Arc::new(Engines::open(&dir.join("engines")).expect("engines")),
        surroundings: Arc::new(Beside),
        config: Config {
            regions: vec![region()],
            max_running: 16,
            warm: Vec::new(),
            cores: Cores(64),
            memory: MiB::gib(256),
            storage: MiB::gib(4096),
            log_retention: Duration::from_secs(60),
            spool: dir.join("jobs"),
            log_address_base: "http://127.0.0.1:9000".into(),
            environments: jobs::EnvironmentConfig { pypi: None, maven: Vec::new(), place: dir.join("environments") },
        },
    });
    (jobs, db, projects)
}
