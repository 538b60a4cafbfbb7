//! Regions at the API: every call that names one, with each kind of wrong one.

mod support;

use audit::Actor;
use model::{JobId, Region};
use serde_json::{Value, json};
use support::World;

/// The class of a refusal.
fn class(answer: &support::Answer) -> String {
    answer.body["class"].as_str().unwrap_or_default().to_owned()
}

/// A job that is to run in a region.
fn job(world: &World, region: &str) -> Value {
    let mut body = world.submit_body(&[("job_type", "python"), ("main_application_code", "a.py")]);
    body["region"] = json!(region);
    body
}

/// Calls that name a region: of a project at `base`. Where a bucket or a user is needed, `data` and `user`.
fn calls(base: &str, region: &str, user: i64) -> Vec<(&'static str, String, Value)> {
    let buckets = format!("{base}/region/{region}/storage");
    let data = format!("{buckets}/data");
    vec![
        ("GET", format!("{base}/region/{region}"), Value::Null),
        ("GET", buckets.clone(), Value::Null),
        ("POST", buckets, json!({ "name": "new" })),
        ("GET", data.clone(), Value::Null),
        ("PUT", data.clone(), json!({ "versioning": { "status": "enabled" } })),
        ("DELETE", data.clone(), Value::Null),
        ("DELETE", format!("{data}/object/key"), Value::Null),
        ("POST", format!("{data}/policy/{user}"), json!({ "roleName": "readOnly" })),
        ("POST", format!("{data}/presign"), json!({ "expire": 60, "method": "GET", "object": "key" })),
        ("POST", format!("{base}/storage"), json!({ "archive": false, "containerName": "old", "region": region })),
        ("GET", format!("{base}/user/{user}/configuration?region={region}"), Value::Null),
        ("GET", format!("{base}/user/{user}/rclone?region={region}"), Value::Null),
    ]
}

#[tokio::test]
async fn a_call_about_another_region_is_refused_and_told_the_right_one() {
    let world = World::new().await;
    let user = world.identity.create_user(&world.project, "u", &Actor::operator()).await.expect("a user").id;
    world.done("POST", &world.path("/region/GRA/storage"), &json!({ "name": "data" })).await;
    for (method, path, body) in calls(&world.path(""), "SBG", user) {
        let answer = world.call(method, &path, &body).await;
        assert_eq!(answer.status, 422, "{method} {path}: {}", answer.text);
        assert_eq!(class(&answer), "Client::UnprocessableEntity::odp.region.elsewhere", "{method} {path}");
        assert!(answer.text.contains("GRA"), "{method} {path}: {}", answer.text);
    }
    for (method, path, body) in calls(&world.path(""), "MARS", user) {
        let answer = world.call(method, &path, &body).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{method} {path}: {}", answer.text);
    }
    let names: Vec<Value> =
        world.objects.buckets(&world.project).await.expect("buckets").iter().map(|made| json!(made.name)).collect();
    assert_eq!(names, [json!("data")], "nothing was made or removed");
    for region in ["SBG", "MARS"] {
        let answer = world.call("POST", &world.path("/dataProcessing/jobs"), &job(&world, region)).await;
        assert_eq!(answer.status, 422, "{region}: {}", answer.text);
        assert!(class(&answer).ends_with("odp.job.region.unsupportedRegion"), "{region}: {}", answer.text);
        assert!(answer.text.contains("the project is in GRA"), "{region}: {}", answer.text);
    }
    let shown = world.call("GET", &world.path("/region"), &Value::Null).await;
    assert_eq!(shown.body, json!(["GRA"]));
    let quota = world.call("GET", &world.path("/quota"), &Value::Null).await;
    assert_eq!((quota.body.as_array().map(Vec::len), &quota.body[0]["region"]), (Some(1), &json!("GRA")));
}

#[tokio::test]
async fn a_project_is_where_it_was_made() {
    let world = World::new().await;
    let by = Actor::operator();
    let [there, far]: [Region; 2] = ["SBG", "BHS"].map(|name| name.parse().expect("a region"));
    let theirs = world.identity.create_project_in(&world.account, "theirs", Some(&there), &by).await.expect("made").id;
    let base = format!("/1.0/cloud/project/{theirs}");
    world.done("POST", &format!("{base}/region/sbg/storage"), &json!({ "name": "data" })).await;
    let shown = world.call("GET", &format!("{base}/region/SBG/storage"), &Value::Null).await;
    assert_eq!(shown.body[0]["region"], "SBG", "{}", shown.text);
    let refused = world.call("GET", &format!("{base}/region/GRA/storage"), &Value::Null).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("stay in SBG"), "{}", refused.text);

    // A region that another installation serves.
    let moved = world.identity.create_project_in(&world.account, "moved", Some(&far), &by).await.expect("made").id;
    let base = format!("/1.0/cloud/project/{moved}");
    for path in ["/region", "/region/GRA/storage", "/region/BHS/storage", "/quota", "/dataProcessing/capabilities"] {
        let answer = world.call("GET", &format!("{base}{path}"), &Value::Null).await;
        assert_eq!(answer.status, 422, "{path}: {}", answer.text);
        assert!(answer.text.contains("BHS"), "{path}: {}", answer.text);
    }
    let answer = world.call("POST", &format!("{base}/dataProcessing/jobs"), &job(&world, "BHS")).await;
    assert!(answer.status == 422 && answer.text.contains("BHS"), "{}", answer.text);

    // One without a region is given the first, once.
    let first: Region = "GRA".parse().expect("a region");
    assert_eq!(world.identity.settle_regions(&first, &by).await.expect("settled"), 1);
    assert_eq!(world.identity.settle_regions(&there, &by).await.expect("settled"), 0);
    assert_eq!(world.identity.region_of(&world.project).await.expect("read"), Some(first));
    assert_eq!(world.identity.region_of(&theirs).await.expect("read"), Some(there));
}

#[tokio::test]
async fn the_metrics_of_a_job_are_asked_for_in_words_that_are_checked() {
    let world = World::new().await;
    let job = JobId(uuid::Uuid::now_v7());
    let base = world.path(&format!("/dataProcessing/jobs/{job}/metrics"));
    for (query, field) in [
        ("?node=master", "node"),
        ("?node=executor-0", "node"),
        ("?from=yesterday", "from"),
        ("?to=now%2B1h", "to"),
        ("?from=now&to=now-1h", "to"),
    ] {
        let answer = world.call("GET", &format!("{base}{query}"), &Value::Null).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert!(answer.body["details"][field].is_string(), "{query}: {}", answer.text);
    }
    assert_eq!(world.call("GET", &base, &Value::Null).await.status, 404, "there is no such job");
}
