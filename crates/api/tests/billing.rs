//! Usage and statements by the API: what they show is what ran, and nobody sees another's.

mod support;

use audit::{Actor, Audit};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use jobs::{Billing, Month, NewCorrection, Price};
use model::{Attempt, AttemptNo, EndReason, Job, JobId, JobRequest, JobSpec, JobStatus, SandboxId, SpecRules};
use serde_json::{Value, json};
use support::World;
use uuid::Uuid;

/// A job of this project that ran: it asked for 3 cores and 1.5 GiB.
async fn ran(world: &World, started: Timestamp, minutes: i64, status: JobStatus, reason: EndReason) -> JobId {
    let rules = SpecRules {
        regions: vec!["GRA".parse().expect("region")],
        versions: vec!["3.5.9".parse().expect("version")],
        ..SpecRules::default()
    };
    let parameters = [
        ("job_type", "python"),
        ("main_application_code", "a.py"),
        ("driver_cores", "1"),
        ("executor_cores", "2"),
        ("executor_num", "1"),
        ("driver_memory", "512"),
        ("driver_memory_overhead", "512"),
        ("executor_memory", "512"),
        ("executor_memory_overhead", "512"),
    ];
    let parameter =
        |(name, value): &(&str, &str)| model::EngineParameter { name: (*name).into(), value: (*value).into() };
    let request = JobRequest {
        name: Some("=n,\"1\"".into()),
        region: Some("GRA".into()),
        engine: Some("spark".into()),
        engine_version: Some("3.5.9".into()),
        container_name: Some("code".into()),
        parameters: parameters.iter().map(parameter).collect(),
        ..JobRequest::default()
    };
    let spec = JobSpec::parse(&request, &rules).expect("a specification");
    let ended = started + SignedDuration::from_mins(minutes);
    let id = JobId(Uuid::now_v7());
    let job = Job { attempt: 1, ..Job::new(id, world.project.clone(), spec, started) };
    let attempt = SandboxId { job: id, attempt: AttemptNo(1) };
    let mut tx = world.db.begin().await.expect("a transaction");
    db::jobs::insert(&mut tx, &job).await.expect("a job");
    let row = Attempt { job: id, number: AttemptNo(1), created: started, started: None, ended: None };
    db::jobs::insert_attempt(&mut tx, &row, b"key").await.expect("an attempt");
    db::jobs::attempt_started(&mut tx, attempt, started).await.expect("started");
    db::jobs::attempt_ended(&mut tx, attempt, ended, Some(&reason)).await.expect("ended");
    let return_code = Some(i32::from(status != JobStatus::Completed));
    let job = Job { status, started: Some(started), ended: Some(ended), return_code, reason: Some(reason), ..job };
    db::jobs::update(&mut tx, &job).await.expect("a job");
    tx.commit().await.expect("committed");
    id
}

fn billing(world: &World) -> Billing {
    Billing::new(world.db.clone(), Audit::new(world.db.clone()))
}

async fn priced(world: &World) {
    let since = "2026-01-01T00:00:00Z".parse().expect("a time");
    let price = Price::parse(since, "EUR", "0.01", "0.004").expect("a price");
    billing(world).set_price(&price, &Actor::operator()).await.expect("a price list");
}

#[tokio::test]
async fn a_statement_shows_each_minute_each_fault_and_each_correction() {
    let world = World::new().await;
    priced(&world).await;
    let start = "2026-02-10T08:00:00Z".parse().expect("a time");
    ran(&world, start, 10, JobStatus::Completed, EndReason::Exited { return_code: 0 }).await;
    let lost = EndReason::Platform { detail: "the shim was lost".into() };
    let lost = ran(&world, start, 60, JobStatus::Failed, lost).await;
    let own = ran(&world, start, 5, JobStatus::Failed, EndReason::Exited { return_code: 7 }).await;
    let month: Month = "2026-02".parse().expect("a month");
    let new = NewCorrection {
        project: world.project.clone(),
        month,
        job: Some(own),
        amount: "-0.05".into(),
        why: "goodwill".into(),
    };
    billing(&world).correct(&new, &Actor::operator()).await.expect("a correction");

    let shown = world.done("GET", &world.path("/dataProcessing/statements/2026-02"), &Value::Null).await;
    // 75 minutes of 3 cores and 2 GiB; an hour of it is given back.
    assert_eq!(shown["charged"], "2.85", "{shown}");
    assert_eq!(shown["credited"], "2.28");
    assert_eq!(shown["corrected"], "-0.05");
    assert_eq!((&shown["total"], &shown["payable"]), (&json!("0.52"), &json!("0.52")));
    assert_eq!(shown["corrections"][0]["reason"], "goodwill");
    let of = |job: JobId| {
        let failures = shown["failures"].as_array().expect("failures");
        failures.iter().find(|one| one["jobId"] == job.to_string()).cloned().expect("the job")
    };
    assert_eq!(of(lost)["fault"], "platform");
    assert_eq!(of(lost)["evidence"], "attempt 1: lost by the platform: the shim was lost");
    assert_eq!(of(lost)["credits"], json!([{ "attempt": 1, "minutes": 60, "amount": "2.280" }]));
    assert_eq!((&of(own)["fault"], &of(own)["credited"]), (&json!("job"), &json!("0")));

    let lines = world.done("GET", &world.path("/dataProcessing/statements/2026-02/lines"), &Value::Null).await;
    let minutes: Vec<_> = lines.as_array().expect("lines").iter().map(|line| line["minutes"].clone()).collect();
    assert_eq!(minutes, [10, 60, 5]);
    let usage = world.done("GET", &world.path("/usage/history/2026-02"), &Value::Null).await;
    assert_eq!(usage["resourcesUsage"][0]["totalPrice"], 2.85, "{usage}");
    assert_eq!(usage["resourcesUsage"][0]["resources"][0]["components"].as_array().map(Vec::len), Some(3));
    let job = world.done("GET", &world.path(&format!("/dataProcessing/jobs/{lost}")), &Value::Null).await;
    assert_eq!(job["fault"], "platform");
}

#[tokio::test]
async fn months_without_a_job_have_no_statement() {
    let world = World::new().await;
    for path in ["/dataProcessing/statements", "/usage/history"] {
        assert_eq!(world.done("GET", &world.path(path), &Value::Null).await, json!([]));
    }
    let start = Timestamp::now() - SignedDuration::from_hours(1);
    ran(&world, start, 1, JobStatus::Completed, EndReason::Exited { return_code: 0 }).await;
    let first = Month::of(start).to_string();
    let months = world.done("GET", &world.path("/dataProcessing/statements"), &Value::Null).await;
    assert_eq!(months.as_array().and_then(|months| months.last()), Some(&json!(first)));
    for month in ["1999-01", "2999-01", "nonsense", "2026-13", "%2e%2e"] {
        for path in ["/dataProcessing/statements/", "/usage/history/"] {
            let answer = world.call("GET", &world.path(&format!("{path}{month}")), &Value::Null).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
        }
    }
    let answer = world.call("GET", &world.path("/usage/history?from=yesterday"), &Value::Null).await;
    support::refused_field(&answer, "from");
    // An offset's '+' arrives as a space where a client does not encode it.
    for from in ["2999-01-01T00:00:00Z", "2999-01-01T00:00:00%2B01:00", "2999-01-01T00:00:00+01:00"] {
        let later = world.done("GET", &world.path(&format!("/usage/history?from={from}")), &Value::Null).await;
        assert_eq!(later, json!([]), "{from}");
    }
    let now = world.done("GET", &world.path("/usage/current"), &Value::Null).await;
    assert_eq!(now["period"]["from"], Month::of(Timestamp::now()).start().to_string());
}

#[tokio::test]
async fn a_month_with_a_correction_has_a_statement_though_nothing_ran() {
    let world = World::new().await;
    priced(&world).await;
    let correct = async |month: &str| {
        let (project, month) = (world.project.clone(), month.parse().expect("a month"));
        let new = NewCorrection { project, month, job: None, amount: "-1.5".into(), why: "goodwill".into() };
        billing(&world).correct(&new, &Actor::operator()).await.expect("a correction");
    };
    let months = async || world.done("GET", &world.path("/dataProcessing/statements"), &Value::Null).await;
    correct("2026-02").await;
    assert_eq!(months().await, json!(["2026-02"]));
    let start = Timestamp::now() - SignedDuration::from_hours(1);
    ran(&world, start, 1, JobStatus::Completed, EndReason::Exited { return_code: 0 }).await;
    correct("2026-01").await;
    // Twice is one month.
    correct("2026-01").await;
    let all = months().await;
    let all = all.as_array().expect("months");
    assert_eq!(all[all.len() - 2..], [json!("2026-02"), json!("2026-01")], "before the first run: {all:?}");
    for (month, corrected) in [("2026-02", "-1.5"), ("2026-01", "-3")] {
        let path = world.path(&format!("/dataProcessing/statements/{month}"));
        let shown = world.done("GET", &path, &Value::Null).await;
        assert_eq!((&shown["corrected"], &shown["total"]), (&json!(corrected), &json!(corrected)), "{shown}");
    }
    let answer = world.call("GET", &world.path("/dataProcessing/statements/2025-12"), &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
}

#[tokio::test]
async fn past_prices_and_corrections_stay_as_they_are() {
    let world = World::new().await;
    priced(&world).await;
    let by = Actor::operator();
    let set = async |since: &str, currency: &str| {
        let price = Price::parse(since.parse().expect("a time"), currency, "1", "1").expect("a price");
        billing(&world).set_price(&price, &by).await.map_err(|cause| cause.to_string())
    };
    assert!(set("2026-01-02T00:00:00Z", "EUR").await.expect_err("past").contains("has passed"));
    assert!(set("2025-01-01T00:00:00Z", "EUR").await.expect_err("not the last").contains("is there already"));
    assert!(set("2999-01-01T00:00:00Z", "USD").await.expect_err("another currency").contains("one currency"));
    set("2999-01-01T00:00:00Z", "EUR").await.expect("a price to come");
    let correct = async |amount: &str, why: &str, job: Option<JobId>| {
        let (project, month) = (world.project.clone(), "2026-02".parse().expect("a month"));
        let new = NewCorrection { project, month, job, amount: amount.into(), why: why.into() };
        billing(&world).correct(&new, &by).await
    };
    for (amount, why) in [("0", "x"), ("1e3", "x"), ("0.0000001", "x"), ("", "x"), ("1", ""), ("1", "a\nb")] {
        assert!(correct(amount, why, None).await.is_err(), "{amount} {why:?}");
    }
    let strange = correct("1", "x", Some(JobId(Uuid::now_v7()))).await;
    assert!(matches!(strange, Err(jobs::Error::NotFound)), "{strange:?}");
    correct("1.5", "x", None).await.expect("a correction");
    let log = world.whole_log().await;
    assert!(log.contains("billing.price.set") && log.contains("billing.corrected"), "{log}");
}
