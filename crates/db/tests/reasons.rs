//! Reasons of attempts that migration 0030 wrote wrong: 0037 puts those right that the audit log tells of, and touches no other.
#![allow(missing_docs, reason = "a test")]

mod support;

use db::Db;
use jiff::{SignedDuration, Timestamp};
use model::{Attempt, AttemptNo, EndReason, Job, JobId, JobStatus, ProjectId, SandboxId};
use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};
use support::{add_project, spec};
use uuid::Uuid;

const MIGRATION: &str = include_str!("../migrations/0037_reasons_of_attempts.sql");

#[tokio::test]
async fn an_attempt_before_a_cancelled_pause_has_its_own_reason_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("casemate.sqlite");
    let db = Db::open(&path).await.expect("a database");
    let project: ProjectId = "a".repeat(32).parse().expect("a project");
    let begun: Timestamp = "2026-11-20T00:00:00Z".parse().expect("a time");
    add_project(&db, &project, begun).await;

    let cancelled = EndReason::Cancelled;
    let lost = EndReason::Platform { detail: "the process that watched over it ended".to_owned() };
    let paused = Some("lost by the platform: the process that watched over it ended");
    let [all, exited] =
        [EndReason::OutOfDisk { detail: "driver: 1 GiB".to_owned() }, EndReason::Exited { return_code: -7 }];
    let (later, pause) = (SignedDuration::from_mins(10), SignedDuration::ZERO);
    // When the job ended after its attempt, whether it has a start, what its attempt has, what was told of it, what is right.
    let cases = [
        (later, false, &cancelled, paused, Some(lost.clone())),
        (later, false, &cancelled, Some("out of local storage: driver: 1 GiB"), Some(all)),
        (later, false, &cancelled, Some("the driver ended with return code -7"), Some(exited)),
        (later, false, &cancelled, None, None),
        // Written when it ended.
        (later, false, &lost, paused, Some(lost.clone())),
        // Cancelled while it ran.
        (pause, true, &cancelled, None, Some(cancelled.clone())),
    ];
    let mut jobs = Vec::new();
    for (after, has_start, reason, told, right) in cases {
        let ended = begun + SignedDuration::from_mins(5);
        let made = Job::new(JobId(Uuid::now_v7()), project.clone(), spec(), begun);
        let mut job = made.clone();
        job.attempt = 1;
        job.status = JobStatus::Terminated;
        job.started = has_start.then_some(begun);
        job.ended = Some(ended + after);
        job.reason = Some(cancelled.clone());
        let id = SandboxId { job: job.id, attempt: AttemptNo(1) };
        let attempt = Attempt { job: job.id, number: AttemptNo(1), created: begun, started: None, ended: None };
        let mut tx = db.begin().await.expect("a transaction");
        db::jobs::insert(&mut tx, &made).await.expect("a job");
        db::jobs::update(&mut tx, &job).await.expect("written");
        db::jobs::insert_attempt(&mut tx, &attempt, b"key").await.expect("an attempt");
        db::jobs::attempt_started(&mut tx, id, begun).await.expect("started");
        db::jobs::attempt_ended(&mut tx, id, ended, Some(reason)).await.expect("ended");
        for (action, told) in [("job.pending", told), ("job.terminated", Some("cancelled"))] {
            db::audit::append(&mut tx, &entry(&job, action, told)).await.expect("an entry");
        }
        tx.commit().await.expect("committed");
        jobs.push((job.id, right));
    }
    db.close().await;

    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.expect("a connection");
    for _ in 0..2 {
        sqlx::raw_sql(MIGRATION).execute(&mut connection).await.expect("migrated");
        for (number, (id, right)) in jobs.iter().enumerate() {
            let row = sqlx::query("SELECT reason FROM attempts WHERE job = ?").bind(id.to_string());
            let row = row.fetch_one(&mut connection).await.expect("an attempt");
            let reason =
                row.get::<Option<String>, _>("reason").map(|text| serde_json::from_str(&text).expect("a reason"));
            assert_eq!(reason, *right, "case {number}");
        }
    }
}

fn entry(job: &Job, action: &str, told: Option<&str>) -> db::audit::Row {
    db::audit::Row {
        id: 0,
        at: Timestamp::now(),
        account: None,
        identity: "system".to_owned(),
        source_ip: None,
        action: action.to_owned(),
        resource: format!("project/{}/job/{}", job.project, job.id),
        decision: "none".to_owned(),
        result: String::new(),
        request_id: None,
        detail: serde_json::json!({ "attempt": 1, "reason": told }).to_string(),
    }
}
