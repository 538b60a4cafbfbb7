//! Jobs that come again by the clock: what a schedule may be, what comes of its times, in whose name, and what its owner is told.
#![allow(missing_docs, reason = "a test")]

mod support;

use audit::Actor;
use http::StatusCode;
use identity::NewPerson;
use jiff::{SignedDuration, Timestamp};
use model::{EngineVersion, JobId, JobStatus, ScheduleId};
use objects::Archive;
use serde_json::{Value, json};
use support::{Credentials, World, refused, refused_field, signed};

const ALICE: &str = "urn:v1:eu:identity:user:ab1234-casemate/alice";
const MAILS: &str = "/1.0/me/notification/email/history";

/// A world whose project may run jobs, and has the code of one.
async fn world() -> World {
    let world = World::new().await;
    world.done("POST", &world.path("/dataProcessing/authorization"), &Value::Null).await;
    let code = Archive::Here { project: world.project.clone(), bucket: "code".parse().expect("a bucket") };
    let until = Timestamp::now() + SignedDuration::from_secs(1);
    world.objects.archive(&code, "main.py", b"print('hello')\n", until).await.expect("an object");
    world
}

fn job(world: &World) -> Value {
    world.submit_body(&[("job_type", "python"), ("main_application_code", "main.py")])
}

/// A schedule of each minute, with other fields.
fn each_minute(world: &World, fields: &Value) -> Value {
    let mut body = json!({ "name": "each minute", "cron": "* * * * *", "job": job(world) });
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

fn path(world: &World, id: &Value) -> String {
    world.path(&format!("/dataProcessing/schedules/{}", id.as_str().expect("an id")))
}

async fn create(world: &World, body: &Value) -> Value {
    world.done("POST", &world.path("/dataProcessing/schedules"), body).await
}

async fn show(world: &World, made: &Value) -> Value {
    world.done("GET", &path(world, &made["id"]), &Value::Null).await
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().expect("a time")
}

/// Lets all come that is due at a time.
async fn at(world: &World, time: Timestamp) {
    world.jobs.schedules().come_due(time).await.expect("done");
}

/// What came of its times, newest first: the outcome, and why.
async fn runs(world: &World, made: &Value) -> Vec<(String, Option<String>)> {
    let found = world.done("GET", &format!("{}/runs", path(world, &made["id"])), &Value::Null).await;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    found
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| (text(&run["outcome"]).expect("an outcome"), text(&run["reason"])))
        .collect()
}

async fn jobs(world: &World) -> Vec<model::Job> {
    let ids = world.jobs.ids(&world.project, &[]).await.expect("jobs");
    let mut found = Vec::new();
    for id in ids {
        found.push(world.jobs.find(&world.project, id).await.expect("read").expect("there"));
    }
    found
}

/// Subjects and texts of what the account was told.
async fn mails(world: &World) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for id in world.done("GET", MAILS, &Value::Null).await.as_array().expect("a list") {
        let mail = world.done("GET", &format!("{MAILS}/{id}"), &Value::Null).await;
        let text = |name: &str| mail[name].as_str().expect("a text").to_owned();
        found.push((text("subject"), text("body")));
    }
    found
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

#[tokio::test]
async fn a_schedule_comes_back_as_it_was_asked_for_and_can_be_sent_again() {
    let world = world().await;
    let sent = json!({
        "name": "nightly", "cron": "30 2 * * 1-5", "timezone": "Europe/Paris", "catchUp": "all", "catchUpLimit": 7,
        "overlap": "queue", "startDate": "2026-12-01T00:00:00Z", "endDate": "2126-12-01T00:00:00Z", "enabled": true,
        "job": job(&world),
    });
    let made = create(&world, &sent).await;
    for (field, value) in sent.as_object().expect("an object") {
        if field != "job" {
            assert_eq!(made[field], *value, "{field}");
        }
    }
    assert_eq!(made["job"]["engineParameters"], sent["job"]["engineParameters"]);
    assert_eq!(
        (&made["state"], &made["owner"]),
        (&json!("active"), &json!("urn:v1:eu:identity:account:ab1234-casemate"))
    );
    let next = made["nextRuns"].as_array().expect("times");
    assert_eq!((next.len(), &next[0]), (10, &made["nextRun"]));
    assert!(time(&made["nextRun"]) >= time(&sent["startDate"]));

    let shown = show(&world, &made).await;
    let again = world.done("PUT", &path(&world, &made["id"]), &shown).await;
    assert_eq!(again["nextRun"], made["nextRun"]);
    let list = world.path("/dataProcessing/schedules");
    assert_eq!(world.done("GET", &list, &Value::Null).await, json!([made["id"]]));
    let pages = world.get_with(&list, &[("x-pagination-mode", "CachedObjectList-Pages")]).await;
    assert_eq!(
        (&pages.body[0]["name"], &pages.headers["x-pagination-elements"]),
        (&json!("nightly"), &"1".parse().expect("a value"))
    );
    refused(&world.call("POST", &list, &sent).await, 409, "CONFLICT");

    let changed = world.done("PUT", &path(&world, &made["id"]), &json!({ "startDate": null, "timezone": "UTC" })).await;
    assert_eq!((&changed["startDate"], &changed["cron"]), (&Value::Null, &made["cron"]));
    assert_ne!(changed["nextRun"], made["nextRun"]);
    world.done("DELETE", &path(&world, &made["id"]), &Value::Null).await;
    refused(&world.call("GET", &path(&world, &made["id"]), &Value::Null).await, 404, "NOT_FOUND");
    refused(&world.call("DELETE", &path(&world, &made["id"]), &Value::Null).await, 404, "NOT_FOUND");
    let log = world.whole_log().await;
    for action in ["schedule.created", "schedule.changed", "schedule.deleted"] {
        assert!(log.contains(action), "{action}");
    }
    let query = audit::Query { action: Some("schedule.changed".to_owned()), limit: 10, ..audit::Query::default() };
    let changes: Vec<Value> = world.audit.list(&query).await.expect("entries").iter().map(changed_fields).collect();
    assert_eq!(changes, [json!(["timezone", "startDate"]), json!([])], "the newest first");
}

fn changed_fields(entry: &audit::Row) -> Value {
    serde_json::from_str::<Value>(&entry.detail).expect("JSON")["changed"].clone()
}

#[tokio::test]
async fn all_that_is_wrong_with_a_schedule_is_told_at_once() {
    let world = world().await;
    let mut wrong = job(&world);
    wrong["engineVersion"] = "2.4.3".into();
    wrong["engineParameters"][1]["value"] = "absent.py".into();
    let list = world.path("/dataProcessing/schedules");
    let body = json!({
        "name": "", "cron": "61 * * * *", "timezone": "UTC", "catchUp": "never", "overlap": "x", "startDate": "soon",
        "job": wrong,
    });
    let answer = world.call("POST", &list, &body).await;
    refused(&answer, 422, "UNPROCESSABLE_ENTITY");
    let details = answer.body["details"].as_object().expect("details");
    for field in ["name", "cron", "catchUp", "overlap", "startDate", "engineVersion"] {
        assert!(details.contains_key(field), "{field}: {details:?}");
    }
    for (body, field) in [
        (json!({}), "cron"),
        (each_minute(&world, &json!({ "timezone": "Mars/Olympus" })), "timezone"),
        (each_minute(&world, &json!({ "timezone": "../../etc/passwd" })), "timezone"),
        (each_minute(&world, &json!({ "cron": "0 0 30 2 *" })), "cron"),
        (each_minute(&world, &json!({ "endDate": "2020-01-01T00:00:00Z" })), "cron"),
        (each_minute(&world, &json!({ "catchUpLimit": 5 })), "catchUpLimit"),
        (each_minute(&world, &json!({ "catchUp": "all", "catchUpLimit": 101 })), "catchUpLimit"),
        (
            each_minute(&world, &json!({ "startDate": "2030-01-02T00:00:00Z", "endDate": "2030-01-01T00:00:00Z" })),
            "endDate",
        ),
        (
            each_minute(
                &world,
                &json!({ "job": { "containerName": "code", "engineParameters": [
            { "name": "run_after", "value": "0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c11" }] } }),
            ),
            "run_after",
        ),
    ] {
        let answer = world.call("POST", &list, &body).await;
        refused(&answer, 422, "UNPROCESSABLE_ENTITY");
        assert!(answer.body["details"][field].is_string(), "{field}: {answer:?}");
    }
    refused(&world.call("POST", &list, &json!([])).await, 400, "BAD_REQUEST");
    assert_eq!(world.done("GET", &list, &Value::Null).await, json!([]));
}

#[tokio::test]
async fn a_creation_that_is_sent_again_by_its_key_makes_one_schedule() {
    let world = world().await;
    let list = world.path("/dataProcessing/schedules");
    let sent = each_minute(&world, &json!({ "clientToken": "one" }));
    let made = create(&world, &sent).await;
    assert_eq!(create(&world, &sent).await["id"], made["id"]);
    let other = each_minute(&world, &json!({ "clientToken": "one", "name": "other" }));
    let answer = world.call("POST", &list, &other).await;
    refused(&answer, 422, "UNPROCESSABLE_ENTITY");
    assert_eq!(answer.body["class"], "Client::UnprocessableEntity::odp.job.idempotencyKey.reused");
    assert_eq!(world.done("GET", &list, &Value::Null).await, json!([made["id"]]));
    let key = each_minute(&world, &json!({ "clientToken": "a b" }));
    refused_field(&world.call("POST", &list, &key).await, "clientToken");
}

#[tokio::test]
async fn each_time_becomes_one_job_however_often_it_is_looked_at() {
    let world = world().await;
    let made = create(&world, &each_minute(&world, &json!({ "overlap": "allow" }))).await;
    let first = time(&made["nextRun"]);
    at(&world, first - SignedDuration::from_secs(1)).await;
    assert_eq!(jobs(&world).await.len(), 0, "not before its time");
    for _ in 0..3 {
        at(&world, first).await;
    }
    assert_eq!(jobs(&world).await.len(), 1);
    // Two processes at once: one of them comes first.
    let (one, other) = (world.jobs.schedules(), world.jobs.schedules());
    let (one, other) = tokio::join!(one.come_due(first + MINUTE), other.come_due(first + MINUTE));
    assert!(one.is_ok() && other.is_ok());
    at(&world, first + MINUTE * 2).await;
    let found = jobs(&world).await;
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|job| job.status == JobStatus::Pending && job.spec.name == "n"));
    assert_eq!(runs(&world, &made).await, vec![("submitted".to_owned(), None); 3]);
    let shown = show(&world, &made).await;
    assert_eq!(time(&shown["nextRun"]), first + MINUTE * 3);
    let log = world.whole_log().await;
    let actor = format!("schedule/{}", made["id"].as_str().expect("an id"));
    assert!(log.contains(&actor) && log.contains("schedule.submitted"));

    world.done("PUT", &path(&world, &made["id"]), &json!({ "enabled": false })).await;
    at(&world, first + MINUTE * 5).await;
    assert_eq!(jobs(&world).await.len(), 3);
    let shown = show(&world, &made).await;
    assert_eq!((&shown["state"], &shown["nextRun"], &shown["nextRuns"]), (&json!("paused"), &Value::Null, &json!([])));
    let resumed = world.done("PUT", &path(&world, &made["id"]), &json!({ "enabled": true })).await;
    assert!(time(&resumed["nextRun"]) > first + MINUTE * 2, "no time comes a second time, whatever the clock says");
}

#[tokio::test]
async fn what_becomes_of_a_time_while_an_earlier_job_has_not_ended_is_chosen() {
    let world = world().await;
    let by = |policy: &str| each_minute(&world, &json!({ "name": policy, "overlap": policy }));
    for policy in ["skip", "queue", "cancel_running"] {
        let made = create(&world, &by(policy)).await;
        let first = time(&made["nextRun"]);
        let before = jobs(&world).await.len();
        at(&world, first).await;
        let earlier = jobs(&world).await[0].clone();
        at(&world, first + MINUTE).await;
        let now = jobs(&world).await;
        let outcomes = runs(&world, &made).await;
        match policy {
            "skip" => {
                assert_eq!(now.len(), before + 1);
                let why = format!("job {} of an earlier time has not ended", earlier.id);
                assert_eq!(outcomes[0], ("skipped".to_owned(), Some(why)));
                world.jobs.cancel(&world.project, earlier.id, &Actor::operator()).await.expect("cancelled");
                at(&world, first + MINUTE * 2).await;
                assert_eq!(jobs(&world).await.len(), before + 2);
            }
            "queue" => {
                assert_eq!(now.len(), before + 2);
                assert_eq!(now[0].spec.after.map(|after| after.job), Some(earlier.id));
                at(&world, first + MINUTE * 2).await;
                let last = jobs(&world).await[0].clone();
                assert_eq!(last.spec.after.map(|after| after.job), Some(now[0].id), "one after the other");
            }
            _ => {
                assert_eq!(now.len(), before + 2);
                let ended = world.jobs.find(&world.project, earlier.id).await.expect("read").expect("there");
                assert_eq!(ended.status, JobStatus::Terminated);
                assert_eq!(
                    (now[0].status, now[0].spec.after),
                    (JobStatus::Pending, None),
                    "nothing is left to wait for"
                );
            }
        }
        world.done("DELETE", &path(&world, &made["id"]), &Value::Null).await;
    }
}

#[tokio::test]
async fn what_becomes_of_missed_times_is_chosen() {
    let world = world().await;
    for (policy, limit, expected) in [("skip", None, 0), ("latest", None, 1), ("all", Some(3), 3)] {
        let fields = json!({ "name": policy, "overlap": "allow", "catchUp": policy, "catchUpLimit": limit, "cron": "*/10 * * * *" });
        let made = create(&world, &each_minute(&world, &fields)).await;
        let (first, before) = (time(&made["nextRun"]), jobs(&world).await.len());
        // A day later, two minutes after a time that is not missed yet.
        let now = first + SignedDuration::from_hours(24) + MINUTE * 2;
        at(&world, now).await;
        assert_eq!(jobs(&world).await.len() - before, expected + 1, "{policy}");
        let found = world.done("GET", &format!("{}/runs", path(&world, &made["id"])), &Value::Null).await;
        let missed = found.as_array().expect("a list").last().expect("one").clone();
        assert_eq!((&missed["outcome"], time(&missed["time"])), (&json!("missed"), first), "{policy}");
        let until =
            first + SignedDuration::from_hours(24) - MINUTE * 10 * (1 + i32::try_from(expected).expect("small"));
        assert_eq!(time(&missed["until"]), until, "{policy}");
        assert!(missed["reason"].as_str().is_some_and(|why| why.contains("within 5 minutes")));
        at(&world, now).await;
        assert_eq!(jobs(&world).await.len() - before, expected + 1, "{policy}: once");
        assert_eq!(time(&show(&world, &made).await["nextRun"]), first + SignedDuration::from_hours(24) + MINUTE * 10);
    }
}

#[tokio::test]
async fn a_schedule_ends_with_its_bounds() {
    let world = world().await;
    let now = Timestamp::now();
    let fields = json!({ "overlap": "allow", "startDate": (now + MINUTE * 10).to_string(), "endDate": (now + MINUTE * 12).to_string() });
    let made = create(&world, &each_minute(&world, &fields)).await;
    assert!(time(&made["nextRun"]) >= now + MINUTE * 10);
    assert_eq!(made["nextRuns"].as_array().map(Vec::len), Some(2));
    at(&world, now + MINUTE * 13).await;
    assert_eq!(jobs(&world).await.len(), 2);
    let shown = show(&world, &made).await;
    assert_eq!((&shown["state"], &shown["nextRun"]), (&json!("over"), &Value::Null));
    at(&world, now + MINUTE * 60).await;
    assert_eq!(jobs(&world).await.len(), 2);
}

/// A user of the account who may what its policy says.
async fn alice(world: &World, actions: &[&str]) -> Credentials {
    let new = NewPerson { login: "alice".to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&world.account, new, &Actor::operator()).await.expect("a user");
    let allow: Vec<Value> = actions.iter().map(|action| json!({ "action": action })).collect();
    let policy = json!({
        "name": "alice", "identities": [ALICE], "resources": [{ "urn": "urn:v1:eu:resource:publicCloudProject:*" }],
        "permissions": { "allow": allow },
    });
    world.done("POST", "/v2/iam/policy", &policy).await;
    world.key_of_user("alice").await
}

#[tokio::test]
async fn nobody_schedules_what_they_may_not_submit() {
    let world = world().await;
    let list = world.path("/dataProcessing/schedules");
    let keys = alice(&world, &["*schedules/*"]).await;
    let answer = world.call_as(&keys, "POST", &list, &each_minute(&world, &json!({}))).await;
    refused(&answer, 403, "FORBIDDEN");
    assert_eq!(answer.body["details"]["unauthorizedActionsByIAM"], api::SUBMIT);
    let narrow = world.key(&[("POST", &format!("/cloud/project/{}/dataProcessing/schedules", world.project))]).await;
    refused(&world.call_as(&narrow, "POST", &list, &each_minute(&world, &json!({}))).await, 403, "NOT_GRANTED_CALL");
    // Nor do they change what another one's rights let run; they may stop it.
    let made = create(&world, &each_minute(&world, &json!({}))).await;
    let path = path(&world, &made["id"]);
    refused(&world.call_as(&keys, "PUT", &path, &json!({ "cron": "@daily" })).await, 403, "FORBIDDEN");
    let paused = world.call_as(&keys, "PUT", &path, &json!({ "enabled": false })).await;
    assert_eq!((paused.status, &paused.body["owner"]), (StatusCode::OK, &made["owner"]), "{paused:?}");
    refused(&world.call_as(&keys, "PUT", &path, &json!({ "enabled": true })).await, 403, "FORBIDDEN");
}

#[tokio::test]
async fn nobody_cancels_by_a_schedule_what_they_may_not_cancel() {
    let world = world().await;
    let list = world.path("/dataProcessing/schedules");
    let keys = alice(&world, &["*schedules/*", api::SUBMIT]).await;
    let cancels = each_minute(&world, &json!({ "name": "cancels", "overlap": "cancel_running" }));
    let answer = world.call_as(&keys, "POST", &list, &cancels).await;
    refused(&answer, 403, "FORBIDDEN");
    assert_eq!(answer.body["details"]["unauthorizedActionsByIAM"], api::CANCEL);
    let made = create(&world, &cancels).await;
    // It would be hers then, and cancel in her name.
    let change = world.call_as(&keys, "PUT", &path(&world, &made["id"]), &json!({ "cron": "@daily" })).await;
    refused(&change, 403, "FORBIDDEN");
    let tamed = json!({ "cron": "@daily", "overlap": "skip" });
    let change = world.call_as(&keys, "PUT", &path(&world, &made["id"]), &tamed).await;
    assert_eq!((change.status, &change.body["owner"]), (StatusCode::OK, &json!(ALICE)), "{change:?}");
    let back = world.call_as(&keys, "PUT", &path(&world, &made["id"]), &json!({ "overlap": "cancel_running" })).await;
    refused(&back, 403, "FORBIDDEN");
    let posts = format!("/cloud/project/{}/dataProcessing/*", world.project);
    let narrow = world.key(&[("POST", &posts)]).await;
    refused(&world.call_as(&narrow, "POST", &list, &cancels).await, 403, "NOT_GRANTED_CALL");
}

#[tokio::test]
async fn its_owner_is_asked_about_at_each_time_and_told_once_of_refusals() {
    let world = world().await;
    let keys = alice(&world, &["*dataProcessing*"]).await;
    let list = world.path("/dataProcessing/schedules");
    let made = world.call_as(&keys, "POST", &list, &each_minute(&world, &json!({ "overlap": "allow" }))).await.body;
    assert_eq!(made["owner"], ALICE);
    let first = time(&made["nextRun"]);
    at(&world, first).await;
    assert_eq!(jobs(&world).await.len(), 1);

    let policy = world.done("GET", "/v2/iam/policy", &Value::Null).await;
    let of_alice = policy.as_array().expect("policies").iter().find(|policy| policy["name"] == "alice").expect("hers");
    world.done("DELETE", &format!("/v2/iam/policy/{}", of_alice["id"].as_str().expect("an id")), &Value::Null).await;
    for minute in 1..=3 {
        at(&world, first + MINUTE * minute).await;
    }
    assert_eq!(jobs(&world).await.len(), 1);
    let found = runs(&world, &made).await;
    assert_eq!(found.len(), 4);
    for (outcome, why) in &found[..3] {
        assert_eq!(outcome, "refused");
        assert!(why.as_ref().is_some_and(|why| why.contains("may not submit jobs")), "{why:?}");
    }
    let shown = show(&world, &made).await;
    assert_eq!((&shown["refusals"], &shown["state"]), (&json!(3), &json!("active")));
    let told = mails(&world).await;
    assert_eq!(told.len(), 1, "once: {told:?}");
    assert!(
        told[0].0 == "Schedule each minute: no job was submitted" && told[0].1.contains("may not submit jobs"),
        "{told:?}"
    );

    // Who is gone is not asked about again, even if another one of that name comes.
    world.identity.delete_person(&world.account, "alice", &Actor::operator()).await.expect("deleted");
    at(&world, first + MINUTE * 4).await;
    let shown = show(&world, &made).await;
    assert_eq!((&shown["state"], &shown["nextRun"]), (&json!("stopped"), &Value::Null));
    assert!(shown["reason"].as_str().is_some_and(|why| why.contains("is not there any more")), "{shown}");
    assert_eq!(mails(&world).await.len(), 2);
    at(&world, first + MINUTE * 5).await;
    assert_eq!(runs(&world, &made).await.len(), 5);

    // Whoever enables it is its owner.
    let resumed = world.done("PUT", &path(&world, &made["id"]), &json!({ "enabled": true })).await;
    assert_eq!(
        (&resumed["state"], &resumed["reason"], &resumed["refusals"]),
        (&json!("active"), &Value::Null, &json!(0))
    );
    assert_eq!(resumed["owner"], "urn:v1:eu:identity:account:ab1234-casemate");
    at(&world, time(&resumed["nextRun"])).await;
    assert_eq!(jobs(&world).await.len(), 2);
}

#[tokio::test]
async fn a_user_of_the_same_name_does_not_inherit_a_schedule() {
    let world = world().await;
    let keys = alice(&world, &["*dataProcessing*"]).await;
    let list = world.path("/dataProcessing/schedules");
    let made = world.call_as(&keys, "POST", &list, &each_minute(&world, &json!({}))).await.body;
    world.identity.delete_person(&world.account, "alice", &Actor::operator()).await.expect("deleted");
    let new = NewPerson { login: "alice".to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&world.account, new, &Actor::operator()).await.expect("a user");
    at(&world, time(&made["nextRun"])).await;
    assert_eq!(jobs(&world).await.len(), 0);
    assert_eq!(show(&world, &made).await["state"], "stopped");
}

#[tokio::test]
async fn a_job_that_is_not_accepted_any_more_is_a_run_with_its_reason() {
    let world = world().await;
    let made = create(&world, &each_minute(&world, &json!({ "overlap": "allow" }))).await;
    let version: EngineVersion = "3.5.9".parse().expect("a version");
    let by = Actor::operator();
    world.jobs.versions().withdraw(&version, "CVE-2026-1", &by).await.expect("withdrawn");
    let first = time(&made["nextRun"]);
    at(&world, first).await;
    let (outcome, why) = runs(&world, &made).await.swap_remove(0);
    assert_eq!(outcome, "refused");
    assert!(why.is_some_and(|why| why.contains("CVE-2026-1; use 4.1.4")));
    world.jobs.versions().restore(&version, &by).await.expect("restored");
    at(&world, first + MINUTE).await;
    assert_eq!(show(&world, &made).await["refusals"], 0);
    assert_eq!(jobs(&world).await.len(), 1);
    // And what is retired is shown where engines are.
    world.jobs.versions().withdraw(&version, "CVE-2026-2", &by).await.expect("withdrawn");
    let shown = world.done("GET", &world.path("/dataProcessing/capabilities"), &Value::Null).await;
    let names = |list: &Value| -> Vec<Value> {
        list.as_array().expect("a list").iter().map(|one| one["name"].clone()).collect()
    };
    assert_eq!(names(&shown[0]["availableVersions"]), [json!("4.1.4")]);
    assert_eq!(names(&shown[0]["retiredVersions"]), [json!("3.5.9")]);
    assert_eq!(shown[0]["availableVersions"][0]["availableFrom"], "2024-01-01");
}

#[tokio::test]
async fn a_time_whose_job_may_not_wait_for_an_earlier_one_is_a_run_with_its_reason() {
    let world = world().await;
    let made = create(&world, &each_minute(&world, &json!({ "overlap": "queue" }))).await;
    let first = time(&made["nextRun"]);
    at(&world, first).await;
    // As many jobs of the project wait for another one as may.
    let earlier = jobs(&world).await.swap_remove(0);
    let mut tx = world.db.begin().await.expect("a transaction");
    for _ in 0..1000 {
        let held = model::Job { id: JobId(uuid::Uuid::now_v7()), ..earlier.clone() };
        db::jobs::insert(&mut tx, &held).await.expect("a job");
        db::jobs::wait_for(&mut tx, held.id, earlier.id).await.expect("held");
    }
    tx.commit().await.expect("committed");
    at(&world, first + MINUTE).await;
    let (outcome, why) = runs(&world, &made).await.swap_remove(0);
    assert_eq!(outcome, "refused");
    assert!(why.is_some_and(|why| why.contains("wait for another one already")));
    assert_eq!(time(&show(&world, &made).await["nextRun"]), first + MINUTE * 2);
}

#[tokio::test]
async fn owners_are_told_of_the_end_of_a_version_and_of_its_withdrawal_each_once() {
    let world = world().await;
    create(&world, &each_minute(&world, &json!({ "name": "names it" }))).await;
    let mut newest = job(&world);
    newest["engineVersion"] = Value::Null;
    create(&world, &each_minute(&world, &json!({ "name": "takes the newest", "job": newest }))).await;
    let tell = async |day: &str| {
        let at: Timestamp = format!("{day}T12:00:00Z").parse().expect("a time");
        for _ in 0..2 {
            world.jobs.schedules().tell_owners(at).await.expect("told");
        }
        mails(&world).await
    };
    // The life of the engines of this world ends on 2125-01-01.
    assert_eq!(tell("2124-10-02").await.len(), 0, "91 days before");
    let told = tell("2124-10-03").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "The life of Spark 3.5.9 ends on 2125-01-01");
    assert!(
        told[0].1.contains("names it") && told[0].1.contains("Spark 4.1.4") && !told[0].1.contains("takes the newest")
    );
    assert_eq!(tell("2124-11-30").await.len(), 1);
    // The service was down on the day of the second notice: only the third is told.
    assert_eq!(tell("2124-12-26").await.len(), 2);
    assert_eq!(tell("2124-12-31").await.len(), 2);
    create(&world, &each_minute(&world, &json!({ "name": "made later" }))).await;
    let told = tell("2124-12-31").await;
    assert!(told.len() == 3 && told[2].1.contains("made later") && !told[2].1.contains("names it"), "{told:?}");

    let version: EngineVersion = "3.5.9".parse().expect("a version");
    let by = Actor::operator();
    for (reason, count) in [("CVE-2026-1", 4), ("CVE-2026-2", 5)] {
        world.jobs.versions().withdraw(&version, reason, &by).await.expect("withdrawn");
        let told = tell("2124-12-31").await;
        assert_eq!(told.len(), count);
        let (subject, body) = told.last().expect("one");
        assert!(
            subject == "Spark 3.5.9 is withdrawn" && body.contains(reason) && body.contains("made later"),
            "{body}"
        );
        world.jobs.versions().restore(&version, &by).await.expect("restored");
    }
}

#[tokio::test]
async fn a_project_has_a_hundred_schedules_and_no_more() {
    let world = world().await;
    let list = world.path("/dataProcessing/schedules");
    for number in 0..100 {
        create(&world, &each_minute(&world, &json!({ "name": format!("{number}"), "enabled": false }))).await;
    }
    refused(&world.call("POST", &list, &each_minute(&world, &json!({}))).await, 429, "TOO_MANY_REQUESTS");
    let now = Timestamp::now().as_second();
    let page = signed(&world.keys, "GET", &list, "", now);
    assert_eq!(world.send(page).await.body.as_array().map(Vec::len), Some(100));
}

#[tokio::test]
async fn what_is_another_projects_does_not_exist() {
    let world = world().await;
    let made = create(&world, &each_minute(&world, &json!({}))).await;
    let by = Actor::operator();
    let other = world.identity.create_project(&world.account, "second", &by).await.expect("a project").id;
    let id = made["id"].as_str().expect("an id");
    for (method, rest) in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/runs")] {
        let path = format!("/1.0/cloud/project/{other}/dataProcessing/schedules/{id}{rest}");
        let answer = world.call(method, &path, &json!({ "enabled": false })).await;
        assert!(answer.status.is_client_error(), "{method} {path}: {answer:?}");
    }
    let id: ScheduleId = id.parse().expect("an id");
    assert!(world.jobs.schedules().find(&world.project, id).await.expect("read").is_some());
    assert!("x".parse::<ScheduleId>().is_err() && id.to_string().parse::<JobId>().is_ok());
}
