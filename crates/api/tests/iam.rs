//! `/v2/iam` from outside: documents as clients write them, paging, tags, checks, and what refuses them (CTL-4).

mod support;

use api::{Access, ROUTES};
use http::StatusCode;
use serde_json::{Value, json};
use support::{World, refused, refused_field};

const ALICE: &str = "urn:v1:eu:identity:user:ab1234-casemate/alice";

fn policy(name: &str) -> Value {
    json!({
        "name": name, "identities": [ALICE],
        "resources": [{ "urn": "urn:v1:eu:resource:publicCloudProject:*" }],
        "permissions": { "allow": [{ "action": "publicCloudProject:apiovh:*" }], "except": null, "deny": null },
        "permissionsGroups": null,
    })
}

/// A path with a URN in it, as the SDKs encode one.
fn with_urn(path: &str, urn: &str) -> String {
    path.replace("{}", &urn.replace('%', "%25").replace('/', "%2F"))
}

#[tokio::test]
async fn a_policy_comes_back_as_it_was_written_and_is_changed_whole() {
    let world = World::new().await;
    let project = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let group =
        world.done("POST", "/v2/iam/resourceGroup", &json!({ "name": "all", "resources": [{ "urn": project }] })).await;
    let permissions = json!({ "name": "read", "description": "", "permissions": { "allow": [{ "action": "*get" }] } });
    let permissions = world.done("POST", "/v2/iam/permissionsGroup", &permissions).await;
    let mut sent = policy("first");
    sent["description"] = "what it is for".into();
    sent["resources"] = json!([{ "urn": group["urn"] }, { "urn": project }, { "urn": "urn:v1:eu:resource:vps:*" }]);
    sent["permissionsGroups"] = json!([{ "urn": permissions["urn"] }]);
    sent["expiredAt"] = "2099-12-31T23:59:59+02:00".into();
    sent["conditions"] = json!({ "operator": "OR", "conditions": [
        { "operator": "MATCH", "values": { "date(Europe/Paris).WeekDay.In": "monday,friday" } },
        { "operator": "NOT", "conditions": [{ "operator": "MATCH", "values": { "request.IP": "192.0.2.0/24" } }] },
    ] });
    let made = world.done("POST", "/v2/iam/policy", &sent).await;
    let path = format!("/v2/iam/policy/{}", made["id"].as_str().expect("an id"));
    assert_eq!(world.done("GET", &path, &Value::Null).await, made);
    for field in ["name", "description", "identities", "conditions", "expiredAt", "permissionsGroups"] {
        assert_eq!(made[field], sent[field], "{field}");
    }
    assert_eq!(made["permissions"], json!({ "allow": [{ "action": "publicCloudProject:apiovh:*" }] }));
    assert_eq!(made["resources"][0]["group"]["name"], "all");
    assert_eq!(made["resources"][1]["resource"]["displayName"], "first");
    assert_eq!(made["resources"][2], json!({ "urn": "urn:v1:eu:resource:vps:*" }));
    assert_eq!(
        (&made["owner"], &made["readOnly"], &made["updatedAt"]),
        (&json!("ab1234-casemate"), &json!(false), &Value::Null)
    );
    // What was read is sent back with a change, as SDKs do.
    let mut changed = made.clone();
    changed["name"] = "second".into();
    changed["permissions"]["deny"] = json!([]);
    let answer = world.done("PUT", &path, &changed).await;
    assert_eq!((&answer["name"], &answer["permissions"]["deny"]), (&json!("second"), &json!([])));
    assert!(answer["updatedAt"].is_string() && answer["createdAt"] == made["createdAt"]);
    refused(&world.call("POST", "/v2/iam/policy", &policy("second")).await, 409, "CONFLICT");
    // Groups that are named stay; what names nothing goes.
    let group_path = format!("/v2/iam/resourceGroup/{}", group["id"].as_str().expect("an id"));
    let permissions_path = with_urn("/v2/iam/permissionsGroup/{}", permissions["urn"].as_str().expect("a URN"));
    refused(&world.call("DELETE", &group_path, &Value::Null).await, 409, "CONFLICT");
    refused(&world.call("DELETE", &permissions_path, &Value::Null).await, 409, "CONFLICT");
    let edited = world.done("PUT", &group_path, &json!({ "name": "none", "resources": null })).await;
    assert_eq!(edited, Value::Null);
    let shown = world.done("GET", &format!("{group_path}?details=true"), &Value::Null).await;
    assert_eq!((&shown["name"], shown.get("resources")), (&json!("none"), None));
    for path in [&path, &group_path, &permissions_path] {
        world.done("DELETE", path, &Value::Null).await;
        refused(&world.call("GET", path, &Value::Null).await, 404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_whole_and_its_place_is_named() {
    let world = World::new().await;
    let with = |field: &str, value: Value| {
        let mut policy = policy("p");
        policy[field] = value;
        policy
    };
    let unknown = "urn:v1:eu:resourceGroup:0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c11";
    for (body, place) in [
        (with("permissions", json!({ "allow": [{ "action": "vps:apiovh:reboot" }] })), "permissions.allow[0].action"),
        (
            with("permissions", json!({ "allow": [{ "action": "account:apiovh:auth/time/get" }] })),
            "permissions.allow[0].action",
        ),
        (with("name", json!("ovh-mine")), "name"),
        (with("resources", json!([{ "urn": unknown }])), "resources[0].urn"),
        (
            with("permissionsGroups", json!([{ "urn": "urn:v1:eu:permissionsGroup:ovh:controlPanelAccess" }])),
            "permissionsGroups[0].urn",
        ),
        (
            with("conditions", json!({ "operator": "MATCH", "values": { "request.Agent": "x" } })),
            "conditions.values[request.Agent]",
        ),
        (with("colour", json!("red")), "colour"),
        (with("identities", json!([ALICE, "urn:v1:eu:identity:user:alice"])), "identities[1]"),
        (with("resources", json!([{ "urn": "urn:v1:eu:resource:publicCloudProject:a*b" }])), "resources[0].urn"),
        (with("resources", json!([{ "urn": "urn:v2:eu:resource:vps:x" }])), "resources[0].urn"),
        (
            with("resources", json!([{ "urn": format!("urn:v1:eu:resource:vps:{}", "x".repeat(600)) }])),
            "resources[0].urn",
        ),
        (with("conditions", nots(60)), "conditions.conditions[0].conditions[0].operator"),
        (with("identities", json!(vec![ALICE; 10_001])), "identities"),
    ] {
        refused_field(&world.call("POST", "/v2/iam/policy", &body).await, place);
    }
    // What is deeper than JSON is read here is refused before it is followed.
    let deep = with("conditions", json!("DEEP")).to_string().replace("\"DEEP\"", &"{\"conditions\":[".repeat(5_000));
    let answer = world
        .send(support::signed(&world.keys, "POST", "/v2/iam/policy", &deep, jiff::Timestamp::now().as_second()))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(world.done("GET", "/v2/iam/policy", &Value::Null).await, json!([]));
    // Groups hold no groups, so that there is no cycle.
    let group = json!({ "name": "g", "resources": [{ "urn": unknown }] });
    refused_field(&world.call("POST", "/v2/iam/resourceGroup", &group).await, "resources[0].urn");
    let group = json!({ "name": "g", "permissions": { "allow": [{ "action": "*" }] }, "permissionsGroups": [] });
    refused_field(&world.call("POST", "/v2/iam/permissionsGroup", &group).await, "permissionsGroups");
    for (path, field) in [("/v2/iam/policy", "X-Pagination-Size"), ("/v2/iam/resource", "X-Pagination-Cursor")] {
        refused_field(&world.get_with(path, &[(field, "zero")]).await, field);
    }
}

/// `NOT` of `NOT` of ...
fn nots(depth: usize) -> Value {
    let matched = json!({ "operator": "MATCH", "values": { "request.IP": "192.0.2.1" } });
    (0..depth).fold(matched, |inner, _| json!({ "operator": "NOT", "conditions": [inner] }))
}

#[tokio::test]
async fn the_rules_of_an_account_are_bounded_together() {
    let world = World::new().await;
    let group = json!({ "name": "read", "permissions": { "allow": [{ "action": "*get" }] } });
    let group = world.done("POST", "/v2/iam/permissionsGroup", &group).await;
    let naming = |name: &str, groups: usize| {
        let mut policy = policy(name);
        policy["permissionsGroups"] = json!(vec![json!({ "urn": group["urn"] }); groups]);
        policy
    };
    let first = world.done("POST", "/v2/iam/policy", &naming("first", 9_990)).await;
    refused(&world.call("POST", "/v2/iam/policy", &naming("second", 9)).await, 429, "TOO_MANY_REQUESTS");
    assert_eq!(world.done("GET", "/v2/iam/policy", &Value::Null).await.as_array().map(Vec::len), Some(1));
    let second = world.done("POST", "/v2/iam/policy", &naming("second", 8)).await;
    let path = format!("/v2/iam/policy/{}", second["id"].as_str().expect("an id"));
    refused(&world.call("PUT", &path, &naming("second", 9)).await, 429, "TOO_MANY_REQUESTS");
    assert_eq!(world.done("GET", &path, &Value::Null).await, second, "nothing of it is changed");
    let path = format!("/v2/iam/policy/{}", first["id"].as_str().expect("an id"));
    world.done("PUT", &path, &naming("first", 9_989)).await;
    let path = format!("/v2/iam/policy/{}", second["id"].as_str().expect("an id"));
    world.done("PUT", &path, &naming("second", 9)).await;
}

#[tokio::test]
async fn lists_go_page_by_page_and_hold_each_thing_once() {
    let world = World::new().await;
    for number in 0..7 {
        world.done("POST", "/v2/iam/policy", &policy(&format!("policy {number}"))).await;
    }
    for (path, whole) in [("/v2/iam/policy", 7), ("/v2/iam/reference/action", 0)] {
        let all = world.get_with(path, &[]).await;
        assert!(!all.headers.contains_key("x-pagination-cursor-next"));
        let all = all.body.as_array().expect("a list").clone();
        assert!(whole == 0 || all.len() == whole);
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let headers = [("X-Pagination-Size", "3"), ("X-Pagination-Cursor", cursor.as_str())];
            let page = world.get_with(path, &headers).await;
            assert_eq!(page.status, StatusCode::OK, "{page:?}");
            found.extend(page.body.as_array().expect("a list").iter().cloned());
            match page.headers.get("x-pagination-cursor-next") {
                Some(next) => cursor = next.to_str().expect("text").to_owned(),
                None => break,
            }
        }
        assert_eq!(found, all);
    }
}

#[tokio::test]
async fn the_reference_lists_hold_the_action_of_every_route_that_asks_for_a_decision() {
    let world = World::new().await;
    let all = world.done("GET", "/v2/iam/reference/action", &Value::Null).await;
    let listed: Vec<&str> = all.as_array().into_iter().flatten().filter_map(|row| row["action"].as_str()).collect();
    for route in ROUTES.iter().filter(|route| route.access != Access::Filtered) {
        assert_eq!(listed.contains(&route.action), route.access == Access::Granted, "{route:?}");
    }
    let jobs = all
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["action"] == "publicCloudProject:apiovh:dataProcessing/jobs/create");
    assert_eq!(jobs.expect("an action")["categories"], json!(["CREATE"]));
    let types = world.done("GET", "/v2/iam/reference/resource/type", &Value::Null).await;
    assert_eq!(types, json!(["account", "publicCloudProject", "storageS3"]));
    let some = world.done("GET", "/v2/iam/reference/action?resourceType=account", &Value::Null).await;
    assert!(some.as_array().into_iter().flatten().all(|row| row["resourceType"] == "account"));
}

#[tokio::test]
async fn rights_in_the_object_store_are_listed_named_explained_and_checked() {
    let world = World::new().await;
    let user = json!({ "description": "etl", "role": "authentication" });
    let user = world.done("POST", &world.path("/user"), &user).await;
    let name = user["username"].as_str().expect("a name");
    let who = format!("urn:v1:eu:identity:publicCloudUser:{}/{name}", world.project);
    let stored = format!("urn:v1:eu:resource:storageS3:{}", world.project);
    let get = "storageS3:s3:GetObject";
    let listed = world.done("GET", "/v2/iam/reference/action?resourceType=storageS3", &Value::Null).await;
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), identity::S3_ACTIONS.len());
    assert!(listed.iter().any(|row| row["action"] == get && row["categories"] == json!(["READ"])), "{listed:?}");

    let mut sent = policy("reads");
    sent["identities"] = json!([who]);
    sent["resources"] = json!([{ "urn": format!("{stored}/data/in/*") }]);
    sent["permissions"] = json!({ "allow": [{ "action": "storageS3:s3:HeadObject" }] });
    refused_field(&world.call("POST", "/v2/iam/policy", &sent).await, "permissions.allow[0].action");
    sent["permissions"] = json!({ "allow": [{ "action": get }] });
    let made = world.done("POST", "/v2/iam/policy", &sent).await;
    world
        .done("POST", &world.path("/storage"), &json!({ "archive": false, "containerName": "open", "region": "GRA" }))
        .await;
    world.done("PUT", &world.path("/storage/open"), &json!({ "containerType": "public" })).await;

    let root = format!("urn:v1:eu:identity:publicCloudProject:{}", world.project);
    let account = "urn:v1:eu:identity:account:ab1234-casemate".to_owned();
    let body = |who: &str, action: &str, at: &str| json!({ "identity": who, "action": action, "resource": format!("{stored}{at}") });
    for (who, action, at, allowed, reason) in [
        (&who, get, "/data/in/a%20b", true, "IAM: allowed by policy 'reads'"),
        (&who, get, "/data/out", false, "no role of"),
        (&who, "storageS3:s3:PutObject", "/data/in/a", false, "no role of"),
        (&who, "storageS3:s3:ListAllMyBuckets", "", false, "no role of"),
        (&root, "storageS3:s3:PutObject", "/data/in/a", true, "a key of the project itself"),
        (&account, get, "/data/in/a", false, "the object store knows users of projects"),
        (&who, "publicCloudProject:apiovh:get", "/data/in/a", false, "is not an action of the object store"),
    ] {
        let told = world.done("POST", "/v2/iam/explain", &body(who, action, at)).await;
        assert_eq!(told["allowed"], allowed, "{told}");
        assert!(told["reason"].as_str().is_some_and(|words| words.contains(reason)), "{reason}: {told}");
        let wanted = json!([{ "resourceURNs": [format!("{stored}{at}")], "actions": [action], "identity": who }]);
        let checked = world.done("POST", "/v2/iam/authorization/check", &wanted).await;
        let expected = if allowed { json!([action]) } else { json!([]) };
        assert_eq!(checked[0]["authorizedActions"], expected, "a check and an explanation are one decision: {told}");
    }
    // What the API does is for those that it knows, whatever a policy for everybody says.
    let project = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let mut all = policy("all");
    all["identities"] = json!(["*"]);
    all["resources"] = json!([{ "urn": project }]);
    all["permissions"] = json!({ "allow": [{ "action": "publicCloudProject:apiovh:get" }] });
    world.done("POST", "/v2/iam/policy", &all).await;
    for who in [&who, &root] {
        let asked = json!({ "identity": who, "action": "publicCloudProject:apiovh:get", "resource": project });
        let told = world.done("POST", "/v2/iam/explain", &asked).await;
        assert_eq!(told["allowed"], false, "{told}");
        assert!(told["reason"].as_str().is_some_and(|words| words.contains("the API knows accounts")), "{told}");
        let wanted =
            json!([{ "resourceURNs": [project], "actions": ["publicCloudProject:apiovh:get"], "identity": who }]);
        let checked = world.done("POST", "/v2/iam/authorization/check", &wanted).await;
        assert_eq!(checked[0]["authorizedActions"], json!([]), "{checked}");
    }
    let told = world.done("POST", "/v2/iam/explain", &body(&who, get, "/data/in/a")).await;
    assert_eq!((&told["deciding"][0]["policy"], told.get("steps")), (&made["id"], None), "{told}");
    let told = world.done("POST", "/v2/iam/explain", &body(&who, get, "/data/out")).await;
    assert!(told["missed"][0]["because"].as_str().is_some_and(|words| words.contains("`resources`")), "{told}");
    // The policy of a bucket is read where it is.
    let told = world.done("POST", "/v2/iam/explain", &body(&who, get, "/open/page")).await;
    assert_eq!(told["steps"][0]["statement"], "1 (PublicContainer)", "{told}");
    let job = format!("urn:v1:eu:identity:publicCloudJob:{}/0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c11", world.project);
    let absent = format!("urn:v1:eu:identity:publicCloudUser:{}/user-0", world.project);
    for nobody in [&job, &absent] {
        refused_field(&world.call("POST", "/v2/iam/explain", &body(nobody, get, "/data/in/a")).await, "identity");
    }
    // Who calls the API is nobody to the object store; and what is another account's is not there.
    let own = json!({ "actions": [get] });
    let place = with_urn("/v2/iam/resource/{}/authorization/check", &format!("{stored}/data/in/a"));
    assert_eq!(world.done("POST", &place, &own).await["authorizedActions"], json!([]));
    let other = world.other_account("cd5678-casemate").await;
    let answer = world.call_as(&other, "POST", "/v2/iam/explain", &body(&who, get, "/data/in/a")).await;
    refused(&answer, 404, "NOT_FOUND");
    let wanted = json!([{ "resourceURNs": [format!("{stored}/data/in/a")], "actions": [get], "identity": who }]);
    refused_field(&world.call_as(&other, "POST", "/v2/iam/authorization/check", &wanted).await, "[0].identity");
    // Nor is it told who there is in another project.
    let theirs = "cd5678-casemate".parse().expect("an account");
    let theirs =
        world.identity.create_project(&theirs, "theirs", &audit::Actor::operator()).await.expect("a project").id;
    let mut said = Vec::new();
    let no_project = format!("urn:v1:eu:identity:publicCloudProject:{}", "0".repeat(32));
    for nobody in [&who, &absent, &root, &no_project, &job] {
        let asked = json!({
            "identity": nobody, "action": "storageS3:s3:ListAllMyBuckets", "at": "2026-01-01T00:00:00Z",
            "resource": format!("urn:v1:eu:resource:storageS3:{theirs}"),
        });
        let told = world.call_as(&other, "POST", "/v2/iam/explain", &asked).await;
        assert!(told.status == StatusCode::OK && told.body["allowed"] == false, "{told:?}");
        said.push(told.text.replace(nobody.as_str(), "WHO"));
    }
    assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
}

#[tokio::test]
async fn tags_of_resources_are_set_read_and_refused() {
    let world = World::new().await;
    let urn = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let path = with_urn("/v2/iam/resource/{}", &urn);
    world.done("PUT", &path, &json!({ "tags": { "env": "prod", "team": "a" } })).await;
    world.done("PUT", &path, &json!({ "tags": { "env": "test" } })).await;
    world.done("POST", &format!("{path}/tag"), &json!({ "key": "owner", "value": "x@example.org" })).await;
    let shown = world.done("GET", &path, &Value::Null).await;
    assert_eq!(shown["tags"], json!({ "env": "test", "owner": "x@example.org" }));
    let project = world.done("GET", &world.path(""), &Value::Null).await;
    assert_eq!((&project["iam"]["tags"], &project["iam"]["id"]), (&shown["tags"], &shown["id"]));
    world.done("DELETE", &format!("{path}/tag/owner"), &Value::Null).await;
    refused(&world.call("DELETE", &format!("{path}/tag/owner"), &Value::Null).await, 404, "NOT_FOUND");
    refused_field(&world.call("PUT", &path, &json!({ "tags": { "ovh:x": "y" } })).await, "tags[ovh:x]");
    refused_field(
        &world.call("POST", &format!("{path}/tag"), &json!({ "key": "a b", "value": "" })).await,
        "tags[a b]",
    );
    let listed = world.done("GET", "/v2/iam/resource?resourceType=publicCloudProject", &Value::Null).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let foreign =
        with_urn("/v2/iam/resource/{}", "urn:v1:eu:resource:publicCloudProject:00000000000000000000000000000000");
    refused(&world.call("GET", &foreign, &Value::Null).await, 404, "NOT_FOUND");
    refused(&world.call("PUT", &foreign, &json!({ "tags": {} })).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn a_check_answers_for_each_action_on_each_resource() {
    let world = World::new().await;
    let own = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let foreign = "urn:v1:eu:resource:publicCloudProject:00000000000000000000000000000000";
    let actions = json!(["publicCloudProject:apiovh:get", "publicCloudProject:apiovh:dataProcessing/jobs/create"]);
    let one = world
        .done("POST", &with_urn("/v2/iam/resource/{}/authorization/check", &own), &json!({ "actions": actions }))
        .await;
    assert_eq!(one, json!({ "authorizedActions": actions, "unauthorizedActions": [] }));
    let body = json!([{ "resourceURNs": [own, foreign, "urn:v1:eu:resource:vps:a"], "actions": actions }]);
    let many = world.done("POST", "/v2/iam/authorization/check", &body).await;
    let may: Vec<&Value> = many.as_array().into_iter().flatten().map(|row| &row["authorizedActions"]).collect();
    assert_eq!(may, [&actions, &json!([]), &json!([])]);
    refused_field(
        &world
            .call("POST", "/v2/iam/authorization/check", &json!([{ "resourceURNs": [own], "actions": ["x:y"] }]))
            .await,
        "[0].actions[0]",
    );
    refused_field(
        &world.call("POST", "/v2/iam/authorization/check", &json!([{ "resourceURNs": ["x"], "actions": [] }])).await,
        "[0].resourceURNs[0]",
    );
}

/// Another account acts here as every identity that is not the owner does: by policies alone.
#[tokio::test]
async fn who_is_not_the_owner_may_what_a_policy_says_and_no_more() {
    let world = World::new().await;
    let guest = world.other_account("cd5678-casemate").await;
    let (path, jobs) = (world.path(""), world.path("/dataProcessing/jobs"));
    let call = |method: &'static str, path: String| {
        let (world, guest) = (&world, &guest);
        async move { world.call_as(guest, method, &path, &Value::Null).await }
    };
    refused(&call("GET", path.clone()).await, 404, "NOT_FOUND");
    let mut sent = policy("guests");
    sent["identities"] = json!(["urn:v1:eu:identity:account:cd5678-casemate"]);
    sent["permissions"] = json!({ "allow": [{ "action": "publicCloudProject:apiovh:get" }, { "action": "publicCloudProject:apiovh:dataProcessing/jobs/*" }] });
    let made = world.done("POST", "/v2/iam/policy", &sent).await;
    let policy_path = format!("/v2/iam/policy/{}", made["id"].as_str().expect("an id"));
    assert_eq!(call("GET", path.clone()).await.status, StatusCode::OK);
    let answer = call("GET", jobs.clone()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let id = answer.headers["x-ovh-queryid"].to_str().expect("text").to_owned();
    let query = audit::Query { request_id: Some(id), limit: 10, ..audit::Query::default() };
    let detail: Value = serde_json::from_str(&world.audit.list(&query).await.expect("rows")[0].detail).expect("JSON");
    assert_eq!(detail["reason"], "allowed by policy 'guests'");
    assert_eq!(detail["identities"], sent["identities"]);
    refused(&call("GET", world.path("/user")).await, 404, "NOT_FOUND");
    sent["permissions"]["deny"] = json!([{ "action": "*jobs/get" }]);
    world.done("PUT", &policy_path, &sent).await;
    refused(&call("GET", jobs.clone()).await, 404, "NOT_FOUND");
    assert_eq!(call("GET", path.clone()).await.status, StatusCode::OK);
    sent["expiredAt"] = "2020-01-01T00:00:00Z".into();
    world.done("PUT", &policy_path, &sent).await;
    refused(&call("GET", path.clone()).await, 404, "NOT_FOUND");
    sent["expiredAt"] = Value::Null;
    sent["conditions"] =
        json!({ "operator": "MATCH", "values": { "request.IP": "192.0.2.7", "resource.Tag(env)": "prod" } });
    world.done("PUT", &policy_path, &sent).await;
    refused(&call("GET", path.clone()).await, 404, "NOT_FOUND");
    let urn = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    world.done("PUT", &with_urn("/v2/iam/resource/{}", &urn), &json!({ "tags": { "env": "prod" } })).await;
    assert_eq!(call("GET", path.clone()).await.status, StatusCode::OK);
    world.done("DELETE", &policy_path, &Value::Null).await;
    refused(&call("GET", path).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn users_and_their_groups_may_what_policies_say_and_are_listed_what_they_may_see() {
    let world = World::new().await;
    let user = json!({
        "login": "alice", "email": "a@example.org", "description": "", "group": "ops team", "password": "correct horse battery",
    });
    world.done("POST", "/1.0/me/identity/group", &json!({ "name": "ops team", "role": "NONE" })).await;
    world.done("POST", "/1.0/me/identity/user", &user).await;
    let alice = world.key_of_user("alice").await;
    let call = |method: &'static str, path: String, body: Value| {
        let (world, alice) = (&world, &alice);
        async move { world.call_as(alice, method, &path, &body).await }
    };
    let project = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let jobs = world.path("/dataProcessing/jobs");
    let check = with_urn("/v2/iam/resource/{}/authorization/check", &project);
    let asked = json!({ "actions": ["publicCloudProject:apiovh:get", "publicCloudProject:apiovh:user/create"] });
    let projects = "/1.0/cloud/project".to_owned();
    assert_eq!(call("GET", projects.clone(), Value::Null).await.body, json!([]));
    refused(&call("GET", jobs.clone(), Value::Null).await, 403, "FORBIDDEN");
    assert_eq!(call("POST", check.clone(), asked.clone()).await.body["authorizedActions"], json!([]));
    refused(&call("POST", "/v2/iam/policy".to_owned(), policy("mine")).await, 403, "FORBIDDEN");

    let mut sent = policy("ops");
    sent["identities"] = json!(["urn:v1:eu:identity:group:ab1234-casemate/ops%20team"]);
    sent["permissions"]["except"] = json!([{ "action": "publicCloudProject:apiovh:user/*" }]);
    world.done("POST", "/v2/iam/policy", &sent).await;
    assert_eq!(call("GET", projects.clone(), Value::Null).await.body, json!([world.project]));
    assert_eq!(call("GET", jobs.clone(), Value::Null).await.status, StatusCode::OK);
    let rights = call("POST", check, asked).await.body;
    assert_eq!(rights["authorizedActions"], json!(["publicCloudProject:apiovh:get"]));
    assert_eq!(rights["unauthorizedActions"], json!(["publicCloudProject:apiovh:user/create"]));
    let answer = call("POST", world.path("/user"), json!({})).await;
    refused(&answer, 403, "FORBIDDEN");
    assert_eq!(answer.body["details"]["unauthorizedActionsByIAM"], "publicCloudProject:apiovh:user/create");

    let mut no = policy("not alice");
    no["permissions"] = json!({ "deny": [{ "action": "publicCloudProject:apiovh:dataProcessing/*" }] });
    world.done("POST", "/v2/iam/policy", &no).await;
    refused(&call("GET", jobs, Value::Null).await, 403, "FORBIDDEN");
    // Who moves to the group of administrators may do all that the account may.
    world.done("PUT", "/1.0/me/identity/user/alice", &json!({ "group": "ADMIN" })).await;
    assert_eq!(call("GET", world.path("/user"), Value::Null).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_may_manage_users_does_not_get_at_administrators_by_it() {
    let world = World::new().await;
    let password = "correct horse battery";
    for (login, group) in [("root", "ADMIN"), ("helper", "DEFAULT"), ("guest", "UNPRIVILEGED")] {
        let user = json!({ "login": login, "group": group, "password": password });
        world.done("POST", "/1.0/me/identity/user", &user).await;
    }
    world.done("POST", "/1.0/me/identity/group", &json!({ "name": "bosses", "role": "ADMIN" })).await;
    let mut sent = policy("help desk");
    sent["identities"] = json!(["urn:v1:eu:identity:user:ab1234-casemate/helper"]);
    sent["resources"] = json!([{ "urn": "urn:v1:eu:resource:account:ab1234-casemate" }]);
    sent["permissions"] = json!({ "allow": [{ "action": "account:apiovh:me/identity/*" }] });
    world.done("POST", "/v2/iam/policy", &sent).await;
    let helper = world.key_of_user("helper").await;
    let (root, guest) = ("/1.0/me/identity/user/root", "/1.0/me/identity/user/guest");
    for (method, path, body) in [
        ("PUT", root.to_owned(), json!({ "email": "helper@example.org" })),
        ("PUT", root.to_owned(), json!({ "group": "DEFAULT" })),
        ("POST", format!("{root}/disable"), Value::Null),
        ("POST", format!("{root}/enable"), Value::Null),
        ("DELETE", root.to_owned(), Value::Null),
        ("PUT", guest.to_owned(), json!({ "group": "ADMIN" })),
        ("PUT", "/1.0/me/identity/group/bosses".to_owned(), json!({ "role": "NONE" })),
        ("DELETE", "/1.0/me/identity/group/bosses".to_owned(), Value::Null),
    ] {
        let answer = world.call_as(&helper, method, &path, &body).await;
        refused(&answer, 403, "FORBIDDEN");
        let why = "Only who may do all that the account may can give that to others, or take it";
        assert_eq!(answer.body["message"], why, "{method} {path}");
    }
    let kept = world.done("GET", root, &Value::Null).await;
    assert_eq!((&kept["group"], &kept["email"]), (&json!("ADMIN"), &json!("")));
    for (method, path) in [("POST", format!("{guest}/disable")), ("DELETE", guest.to_owned())] {
        let answer = world.call_as(&helper, method, &path, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {answer:?}");
    }
    let kept = world.done("GET", "/1.0/me/identity/group/bosses", &Value::Null).await;
    assert_eq!(kept["role"], "ADMIN");
}

#[tokio::test]
async fn who_may_change_policies_asks_for_the_rights_of_any_identity_on_what_the_account_administers() {
    let world = World::new().await;
    let other = world.other_account("cd5678-casemate").await;
    let user = json!({ "login": "alice", "group": "DEFAULT", "password": "correct horse battery" });
    world.done("POST", "/1.0/me/identity/user", &user).await;
    let alice = world.key_of_user("alice").await;
    let mut sent = policy("ops");
    sent["identities"] = json!(["urn:v1:eu:identity:group:ab1234-casemate/DEFAULT"]);
    sent["permissions"] = json!({ "allow": [{ "action": "publicCloudProject:apiovh:get" }] });
    world.done("POST", "/v2/iam/policy", &sent).await;
    let own = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let foreign = "urn:v1:eu:resource:account:cd5678-casemate";
    let (get, me) = ("publicCloudProject:apiovh:get", "account:apiovh:me/get");
    let path = "/v2/iam/authorization/check";
    let ask = |identity: &str, resource: &str, action: &str| json!([{ "resourceURNs": [resource], "actions": [action], "identity": identity }]);
    for (identity, resource, action, may) in [
        (ALICE, own.as_str(), get, true),
        (ALICE, own.as_str(), "publicCloudProject:apiovh:user/create", false),
        ("urn:v1:eu:identity:group:ab1234-casemate/DEFAULT", own.as_str(), get, true),
        ("urn:v1:eu:identity:group:ab1234-casemate/UNPRIVILEGED", own.as_str(), get, false),
        ("urn:v1:eu:identity:account:ab1234-casemate", own.as_str(), get, true),
        ("urn:v1:eu:identity:account:cd5678-casemate", own.as_str(), get, false),
        // What another account may on what is its own is not told.
        ("urn:v1:eu:identity:account:cd5678-casemate", foreign, me, false),
    ] {
        let answer = world.done("POST", path, &ask(identity, resource, action)).await;
        let expected = if may { json!([action]) } else { json!([]) };
        assert_eq!(answer[0]["authorizedActions"], expected, "{identity} {resource} {action}");
    }
    for wrong in ["x", own.as_str(), "urn:v1:eu:identity:user:ab1234-casemate/nobody"] {
        refused_field(&world.call("POST", path, &ask(wrong, &own, get)).await, "[0].identity");
    }
    refused(&world.call_as(&alice, "POST", path, &ask(ALICE, &own, get)).await, 403, "FORBIDDEN");
    let one = with_urn("/v2/iam/resource/{}/authorization/check", &own);
    let answer = world.done("POST", &one, &json!({ "actions": [get], "identity": ALICE })).await;
    assert_eq!(answer["authorizedActions"], json!([get]));
    let of_other = world.call_as(&other, "POST", path, &ask(ALICE, &own, get)).await;
    assert_eq!(of_other.body[0]["authorizedActions"], json!([]), "only on what one administers");
    let log = world.whole_log().await;
    assert!(log.contains("iam.authorization.checked") && log.contains("askedBy"));
}
