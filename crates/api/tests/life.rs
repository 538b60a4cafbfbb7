//! What the API says of jobs that wait, of quotas, and of submits that come twice.
#![allow(missing_docs, reason = "a test")]

mod support;

use audit::Actor;
use jiff::Timestamp;
use model::{Cores, EngineParameter, Job, JobId, JobRequest, JobSpec, MiB, Quota, SpecRules};
use serde_json::{Value, json};
use support::{World, refused, signed};
use uuid::Uuid;

/// A job that waits, written as it would be once it was accepted.
async fn waits(world: &World) -> JobId {
    let rules = SpecRules {
        regions: vec!["GRA".parse().expect("a region")],
        versions: vec!["3.5.9".parse().expect("a version")],
        ..SpecRules::default()
    };
    let parameters = [("job_type", "python"), ("main_application_code", "main.py")]
        .map(|(name, value)| EngineParameter { name: name.into(), value: value.into() })
        .to_vec();
    let request = JobRequest { container_name: Some("code".into()), parameters, ..JobRequest::default() };
    let (id, now) = (JobId(Uuid::now_v7()), Timestamp::now());
    let spec = JobSpec::parse(&request, &rules).expect("a specification");
    let job = Job::new(id, world.project.clone(), spec, now);
    let mut tx = world.db.begin().await.expect("a transaction");
    db::jobs::insert(&mut tx, &job).await.expect("a job");
    tx.commit().await.expect("committed");
    id
}

#[tokio::test]
async fn a_waiting_job_says_why_its_place_and_until_when() {
    let world = World::new().await;
    let (first, second) = (waits(&world).await, waits(&world).await);
    let show =
        async |id: JobId| world.done("GET", &world.path(&format!("/dataProcessing/jobs/{id}")), &Value::Null).await;
    let shown = show(first).await;
    assert_eq!(
        (&shown["status"], &shown["queuePosition"], &shown["attempt"]),
        (&json!("PENDING"), &json!(1), &json!(0))
    );
    assert_eq!(shown["reason"], "it starts when it is its project's turn");
    let deadline: Timestamp = shown["deadline"].as_str().expect("a deadline").parse().expect("a time");
    assert!(deadline > Timestamp::now());
    let shown = show(second).await;
    assert_eq!((&shown["queuePosition"], &shown["reason"]), (&json!(2), &json!("1 job of the project comes first")));
    world.done("DELETE", &world.path(&format!("/dataProcessing/jobs/{second}")), &Value::Null).await;
    let shown = show(second).await;
    let fields = ["status", "reason", "queuePosition", "deadline"].map(|name| shown[name].clone());
    assert_eq!(fields, [json!("TERMINATED"), json!("cancelled"), Value::Null, Value::Null]);
}

#[tokio::test]
async fn the_quota_is_shown_as_the_schema_says() {
    let world = World::new().await;
    let path = world.path("/quota");
    let shown = world.done("GET", &path, &Value::Null).await;
    assert_eq!(shown[0]["region"], "GRA");
    assert_eq!(shown[0]["instance"]["maxCores"], 1000, "without a quota, what the service has");
    assert_eq!(shown[0]["instance"]["usedCores"], 0);
    let quotas = jobs::Quotas::new(world.db.clone(), world.audit.clone());
    let quota = Quota { jobs: Some(3), cores: Some(Cores(8)), memory: Some(MiB(4096)), storage: Some(MiB::gib(90)) };
    quotas.change(&world.project, |_| quota, &Actor::operator()).await.expect("changed");
    let shown = world.done("GET", &path, &Value::Null).await;
    let instance = &shown[0]["instance"];
    let most = ["maxInstances", "maxCores", "maxRam"].map(|name| instance[name].clone());
    assert_eq!(most, [json!(3), json!(8), json!(4096)]);
    assert_eq!(shown[0]["volume"]["maxGigabytes"], 90);
}

#[tokio::test]
async fn a_key_that_named_another_submit_is_refused() {
    let world = World::new().await;
    let job = waits(&world).await;
    let mut tx = world.db.begin().await.expect("a transaction");
    let earlier = db::idempotency::Submitted { job, digest: vec![0; 32] };
    db::idempotency::insert(&mut tx, &world.project, "k-1", &earlier, Timestamp::now()).await.expect("kept");
    tx.commit().await.expect("committed");
    let body = world.submit_body(&[("job_type", "python"), ("main_application_code", "main.py")]).to_string();
    let send = async |key: &str| {
        let path = world.path("/dataProcessing/jobs");
        let mut request = signed(&world.keys, "POST", &path, &body, Timestamp::now().as_second());
        request.headers_mut().insert("idempotency-key", key.parse().expect("a value"));
        world.send(request).await
    };
    let answer = send("\"k-1\"").await;
    refused(&answer, 422, "UNPROCESSABLE_ENTITY");
    assert_eq!(answer.body["class"], "Client::UnprocessableEntity::odp.job.idempotencyKey.reused");
    let answer = send("\"another\"").await;
    assert_eq!(answer.body["class"], "Client::UnprocessableEntity::odp.mainApplicationCode.notFound");
    refused(&send("two words").await, 400, "BAD_REQUEST");
}
