//! What is done at each submit, and by the scheduler at each decision, costs the same with a million jobs in the database:
//! SQLite goes by an index in each statement, and through all of nothing but what is small.
#![allow(missing_docs, reason = "a test")]

mod support;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use db::{Db, idempotency::Submitted};
use jiff::Timestamp;
use model::{Attempt, AttemptNo, EndReason, Job, JobId, ProjectId, SandboxId};
use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};
use support::{add_project, spec};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use uuid::Uuid;

#[tokio::test]
async fn a_submit_and_a_decision_go_through_no_table() {
    let heard = Heard::default();
    tracing::subscriber::set_global_default(heard.clone()).expect("the only one");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("casemate.sqlite");
    let db = Db::open(&path).await.expect("a database");
    let project: ProjectId = "a".repeat(32).parse().expect("a project");
    let now = Timestamp::now();
    add_project(&db, &project, now).await;
    heard.statements.lock().expect("no panic").clear();

    submit_and_decide(&db, &project, now).await;

    let statements = heard.statements.lock().expect("no panic").clone();
    let has_plan = |text: &&String| ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|word| text.starts_with(word));
    assert!(statements.iter().filter(has_plan).count() > 20, "the statements were not heard: {statements:#?}");
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.expect("a connection");
    for statement in statements.iter().filter(has_plan) {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let steps = sqlx::query(explain).fetch_all(&mut connection).await.expect("a plan");
        for step in steps.iter().map(|row| row.get::<String, _>("detail")) {
            let goes_through_all = step.starts_with("SCAN") && !SMALL.iter().any(|small| step.starts_with(small));
            assert!(!goes_through_all, "{step}: {statement}");
        }
    }
}

/// What is as small as there are projects, or as there is room on the machine; rows that are one, and a list that was given.
const SMALL: [&str; 6] = [
    "SCAN projects",
    "SCAN attempts USING INDEX attempts_that_stand",
    "SCAN CONSTANT ROW",
    "SCAN (subquery",
    "SCAN standing",
    "SCAN json_each",
];

/// Each call of this crate on the way of a submit, of a decision, and of an attempt from its start to its end.
async fn submit_and_decide(db: &Db, project: &ProjectId, now: Timestamp) {
    let job = Job::new(JobId(Uuid::now_v7()), project.clone(), spec(), now);
    let next = Job { id: JobId(Uuid::now_v7()), ..job.clone() };
    db::accounts::find_project(db, project).await.expect("read");
    db::quotas::find(db, project).await.expect("read");
    db::idempotency::find(db, project, "key", now).await.expect("read");
    let mut tx = db.begin().await.expect("a transaction");
    db::jobs::insert(&mut tx, &job).await.expect("a job");
    db::jobs::insert(&mut tx, &next).await.expect("a job");
    db::idempotency::find_in(&mut tx, project, "key", now).await.expect("read");
    db::idempotency::remove_older(&mut tx, now, 16).await.expect("removed");
    let submitted = Submitted { job: job.id, digest: vec![0; 32] };
    db::idempotency::insert(&mut tx, project, "key", &submitted, now).await.expect("kept");
    db::jobs::held(&mut tx, project).await.expect("counted");
    db::jobs::wait_for(&mut tx, next.id, job.id).await.expect("held");
    tx.commit().await.expect("committed");

    db::jobs::used(db).await.expect("read");
    db::jobs::standing(db).await.expect("read");
    assert_eq!(db::jobs::heads(db, now).await.expect("read").len(), 1);
    db::jobs::next_not_before(db, now).await.expect("read");
    db::jobs::waiting_since(db, now, 100).await.expect("read");
    assert_eq!(db::jobs::holder(db, next.id).await.expect("read"), Some(job.id));
    let ahead = db::jobs::ahead(db, project, job.id).await.expect("read");
    assert_eq!((ahead.before, ahead.of_all), (0, model::Usage::default()));

    let attempt = Attempt { job: job.id, number: AttemptNo(1), created: now, started: None, ended: None };
    let id = SandboxId { job: job.id, attempt: AttemptNo(1) };
    let mut tx = db.begin().await.expect("a transaction");
    db::jobs::find_in(&mut tx, job.id).await.expect("read");
    db::jobs::insert_attempt(&mut tx, &attempt, b"key").await.expect("an attempt");
    db::jobs::attempt_started(&mut tx, id, now).await.expect("started");
    db::jobs::attempt_ended(&mut tx, id, now, Some(&EndReason::Cancelled)).await.expect("ended");
    db::jobs::attempt_closed(&mut tx, id, now).await.expect("closed");
    db::jobs::update(&mut tx, &job).await.expect("written");
    assert_eq!(db::jobs::followers(&mut tx, job.id).await.expect("read").len(), 1);
    assert_eq!(db::schedules::earlier_open_job(&mut tx, next.id).await.expect("read"), None, "of no schedule");
    db::jobs::release(&mut tx, next.id, now).await.expect("released");
    tx.commit().await.expect("committed");
    db::jobs::find(db, job.id).await.expect("read");
    db::jobs::find_attempt(db, id).await.expect("read");
    db::jobs::stands(db, id).await.expect("read");
    db::jobs::log_place(db, id).await.expect("read");
    let (found, place) = db::jobs::find_with_log(db, job.id).await.expect("read").expect("a job");
    assert_eq!((found.id, place), (job.id, None), "of no attempt yet");
    let (found, contacts) = db::contacts::project(db, project).await.expect("read").expect("a project");
    assert_eq!(contacts.map(|contacts| contacts.admin), Some(found.account));
    assert_eq!(db::credentials::of_call(db, "nobody", b"'s").await.expect("read"), (None, None));
    db::jobs::spooled(db, now, 100).await.expect("read");
}

/// Keeps each statement that sqlx says it has run.
#[derive(Debug, Clone, Default)]
struct Heard {
    statements: Arc<Mutex<BTreeSet<String>>>,
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }
    fn event(&self, event: &Event<'_>) {
        let mut statement = Statement::default();
        event.record(&mut statement);
        // Of a short statement the summary is all of it.
        let text = if statement.text.trim().is_empty() { statement.summary } else { statement.text };
        self.statements.lock().expect("no panic").insert(text.trim().to_owned());
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Statement {
    summary: String,
    text: String,
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.text),
            _ => {}
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
