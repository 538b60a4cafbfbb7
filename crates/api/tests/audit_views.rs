//! What accounts see of the audit log: their own entries, those of others on what is theirs, and nothing else (CTL-7,
//! CTL-8).

mod support;

use std::collections::HashSet;

use serde_json::{Value, json};
use support::{Credentials, World, refused, refused_field};

const SELF: &str = "/1.0/me/api/logs/self";
const SERVICES: &str = "/1.0/me/api/logs/services";

/// All pages of a list, by the cursor.
async fn pages(world: &World, path: &str, size: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let headers = [("x-pagination-size", size), ("x-pagination-cursor", cursor.as_str())];
        let answer = world.get_with(path, &headers).await;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
        let page = answer.body.as_array().expect("a list").clone();
        assert!(page.len() <= size.parse().expect("a number"));
        all.extend(page);
        match answer.headers.get("x-pagination-cursor-next") {
            Some(next) => next.to_str().expect("text").clone_into(&mut cursor),
            None => return all,
        }
    }
}

/// Lets another account read the project's jobs, and its log if `log`.
async fn share(world: &World, log: bool) -> Credentials {
    let other = world.other_account("cd5678-casemate").await;
    let mut actions = vec![json!({ "action": "publicCloudProject:apiovh:dataProcessing/jobs/get" })];
    if log {
        actions.push(json!({ "action": "publicCloudProject:apiovh:logs/get" }));
    }
    let policy = json!({
        "name": "shared", "identities": ["urn:v1:eu:identity:account:cd5678-casemate"],
        "resources": [{ "urn": format!("urn:v1:eu:resource:publicCloudProject:{}", world.project) }],
        "permissions": { "allow": actions },
    });
    world.done("POST", "/v2/iam/policy", &policy).await;
    other
}

#[tokio::test]
async fn an_account_reads_its_own_calls_page_by_page_and_none_of_anybody_else() {
    let world = World::new().await;
    let other = world.other_account("cd5678-casemate").await;
    for _ in 0..7 {
        world.done("GET", "/1.0/me", &Value::Null).await;
        world.call_as(&other, "GET", "/1.0/me", &Value::Null).await;
    }
    let whole = world.done("GET", SELF, &Value::Null).await;
    let whole = whole.as_array().expect("a list");
    assert_eq!(whole.len(), 7, "changes and transitions are no calls");
    let paged = pages(&world, SELF, "2").await;
    assert_eq!(paged[paged.len() - 7..], whole[..], "pages lose nothing, whatever comes meanwhile");
    let mut sorted: Vec<i64> = whole.iter().map(|id| id.as_i64().expect("a number")).collect();
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(json!(sorted), json!(whole), "newest first");

    let one = world.done("GET", &format!("{SELF}/{}", whole[6]), &Value::Null).await;
    assert_eq!((&one["logId"], &one["method"], &one["path"]), (&whole[6], &json!("GET"), &json!("/1.0/me")));
    assert_eq!(
        (&one["route"], &one["account"], &one["ip"]),
        (&json!("/me"), &json!("ab1234-casemate"), &json!(support::HERE))
    );
    assert_eq!((&one["status"], &one["source"], &one["url"]), (&json!(200), &json!("api"), &json!("/1.0/me")));
    assert!(one["requestId"].is_string() && one["username"].is_string() && one["identities"].is_array());
    let date = one["date"].as_str().expect("a time");
    let within = world.done("GET", &format!("{SELF}?from={date}&to={date}"), &Value::Null).await;
    assert_eq!(within, json!([whole[6]]));
    let before = world.done("GET", &format!("{SELF}?to={date}"), &Value::Null).await;
    assert_eq!(before.as_array().map(Vec::len), Some(1));
    assert_eq!(world.done("GET", &format!("{SELF}?from=2999-01-01T00:00:00Z"), &Value::Null).await, json!([]));

    let theirs = world.call_as(&other, "GET", SELF, &Value::Null).await.body;
    let theirs: HashSet<i64> = theirs.as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
    assert_eq!(theirs.len(), 7);
    assert!(sorted.iter().all(|id| !theirs.contains(id)));
    for id in theirs.iter().map(ToString::to_string).chain(["0".into(), "-1".into(), "x".into(), u64::MAX.to_string()])
    {
        refused(&world.call("GET", &format!("{SELF}/{id}"), &Value::Null).await, 404, "NOT_FOUND");
        refused(&world.call("GET", &format!("{SERVICES}/{id}"), &Value::Null).await, 404, "NOT_FOUND");
    }
    for (query, field) in [("from=yesterday", "from"), ("to=2026-13-01T00:00:00Z", "to")] {
        refused_field(&world.call("GET", &format!("{SELF}?{query}"), &Value::Null).await, field);
    }
    for (header, name) in [("x-pagination-size", "X-Pagination-Size"), ("x-pagination-cursor", "X-Pagination-Cursor")] {
        for wrong in ["0", "1001", "x", "-", "1-x"] {
            refused_field(&world.get_with(SELF, &[(header, wrong)]).await, name);
        }
    }
}

#[tokio::test]
async fn calls_of_others_on_a_project_are_seen_by_its_owner_and_by_whom_policies_let() {
    let world = World::new().await;
    let other = share(&world, false).await;
    let jobs = world.path("/dataProcessing/jobs");
    world.done("GET", &jobs, &Value::Null).await;
    world.call_as(&other, "GET", &jobs, &Value::Null).await;
    world.call_as(&other, "GET", &world.path("/user"), &Value::Null).await;

    let seen = world.done("GET", SERVICES, &Value::Null).await;
    let seen = seen.as_array().expect("a list");
    assert_eq!(seen.len(), 2, "what was refused is seen too; own calls are in the other list");
    let mut shown = Vec::new();
    for id in seen {
        shown.push(world.done("GET", &format!("{SERVICES}/{id}"), &Value::Null).await);
        refused(&world.call("GET", &format!("{SELF}/{id}"), &Value::Null).await, 404, "NOT_FOUND");
    }
    assert!(shown.iter().all(|one| one["account"] == "cd5678-casemate"));
    assert_eq!((&shown[0]["status"], &shown[1]["status"]), (&json!(404), &json!(200)));
    assert_eq!(pages(&world, SERVICES, "1").await, *seen);

    // Who may not read the log of the project sees nothing of it.
    assert_eq!(world.call_as(&other, "GET", SERVICES, &Value::Null).await.body, json!([]));
    refused(&world.call_as(&other, "GET", &world.path("/logs"), &Value::Null).await, 404, "NOT_FOUND");
    let own = world.done("GET", SELF, &Value::Null).await;
    let own: Vec<i64> = own.as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
    for id in &own {
        refused(&world.call_as(&other, "GET", &format!("{SERVICES}/{id}"), &Value::Null).await, 404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn whoever_may_read_the_log_of_a_project_reads_it_by_every_way() {
    let world = World::new().await;
    let other = share(&world, true).await;
    let jobs = world.path("/dataProcessing/jobs");
    world.done("GET", &jobs, &Value::Null).await;
    let theirs = world.call_as(&other, "GET", SERVICES, &Value::Null).await.body;
    let last = theirs.as_array().and_then(|list| list.first()).expect("the owner's call").clone();
    let one = world.call_as(&other, "GET", &format!("{SERVICES}/{last}"), &Value::Null).await.body;
    assert_eq!((&one["path"], &one["account"]), (&json!(jobs), &json!("ab1234-casemate")));

    let body = world.submit_body(&[("main_application_code", "main.py")]);
    world.call("POST", &jobs, &body).await;
    world.done("POST", &world.path("/user"), &json!({ "description": "one" })).await;
    let lines = world.call_as(&other, "GET", &world.path("/logs"), &Value::Null).await.body;
    let lines = lines.as_array().expect("a list");
    let actions: Vec<&str> = lines.iter().filter_map(|line| line["action"].as_str()).collect();
    for wanted in ["publicCloudProject:apiovh:user/create", "project.user.created", "project.created"] {
        assert!(actions.contains(&wanted), "{wanted}: {actions:?}");
    }
    assert!(lines.iter().all(|line| line["message"].is_string() && line["timestamp"].is_i64()));
    assert!(
        lines.windows(2).all(|pair| pair[0]["timestamp"].as_i64() >= pair[1]["timestamp"].as_i64()),
        "newest first"
    );
    let paged = pages(&world, &world.path("/logs"), "3").await;
    assert_eq!(paged[paged.len() - lines.len()..], lines[..], "pages lose nothing");
}

#[tokio::test]
async fn log_ins_and_evaluations_have_the_fields_of_the_old_service() {
    let world = World::new().await;
    let made = json!({ "login": "alice", "group": "DEFAULT", "password": "a first long password" });
    world.done("POST", "/1.0/me/identity/user", &made).await;
    let link = world.identity.create_setup(&world.account, "alice", &audit::Actor::operator()).await.expect("a link");
    let fields = [("password", "correct horse battery staple"), ("again", "correct horse battery staple")];
    assert_eq!(world.form(&format!("/1.0/auth/setup/{}", *link.token), &fields).await.status.as_u16(), 200);
    let given = identity::LogIn {
        name: "ab1234-casemate/alice",
        password: "correct horse battery staple",
        code: "",
        enrolment: "",
        assertion: None,
        new_password: "",
        user_agent: "a browser",
        from: support::HERE.parse().ok(),
    };
    world.identity.log_in(&given).await.expect("in");
    let events = world.done("GET", "/1.0/me/logs/audit", &Value::Null).await;
    let login = &events[0];
    assert_eq!((&login["type"], &login["ip"]), (&json!("LOGIN_SUCCESS"), &json!(support::HERE)));
    assert_eq!(login["authDetails"], json!({ "userDetails": { "type": "USER", "user": "alice" } }));
    assert_eq!(login["loginSuccessDetails"], json!({ "mfaType": "NONE", "userAgent": "a browser" }));
    assert_eq!(
        (&events[1]["type"], &events[1]["userPasswordChangedDetails"]["user"]),
        (&json!("USER_PASSWORD_CHANGED"), &json!("alice"))
    );
    assert_eq!(events.as_array().map(Vec::len), Some(2), "wrong tries and other changes are not in this log");

    let other = share(&world, false).await;
    let jobs = world.path("/dataProcessing/jobs");
    world.call_as(&other, "GET", &jobs, &Value::Null).await;
    world.call_as(&other, "GET", &world.path("/user"), &Value::Null).await;
    let urn = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let asked = json!({ "actions": ["publicCloudProject:apiovh:dataProcessing/jobs/get", "publicCloudProject:apiovh:user/get"] });
    world.call_as(&other, "POST", &format!("/v2/iam/resource/{urn}/authorization/check"), &asked).await;

    let log = pages(&world, "/v2/iam/log", "2").await;
    let theirs: Vec<&Value> =
        log.iter().filter(|one| one["identities_array"][0] == "urn:v1:eu:identity:account:cd5678-casemate").collect();
    assert_eq!(theirs.len(), 3, "{log:?}");
    assert!(theirs.iter().all(|one| one["account"] == "ab1234-casemate" && one["resource"] == json!(urn)));
    let (get, user) = (&asked["actions"][0], &asked["actions"][1]);
    let arrays = |one: &Value| {
        [
            one["requested_actions_array"].clone(),
            one["authorized_actions_array"].clone(),
            one["unauthorized_actions_array"].clone(),
        ]
    };
    assert_eq!(arrays(theirs[0]), [json!([get, user]), json!([get]), json!([user])]);
    assert_eq!(arrays(theirs[1]), [json!([user]), json!([]), json!([user])]);
    assert_eq!(arrays(theirs[2]), [json!([get]), json!([get]), json!([])]);
    let own = world.call_as(&other, "GET", "/v2/iam/log", &Value::Null).await.body;
    assert!(own.as_array().expect("a list").iter().all(|one| one["account"] == "cd5678-casemate"), "{own}");
}

#[tokio::test]
async fn the_newest_lines_of_a_job_are_a_number_of_lines_and_nothing_else() {
    let world = World::new().await;
    let logs = world.path("/dataProcessing/jobs/01890a5d-ac96-774b-bcce-b302099a8057/logs");
    for wrong in ["0", "1001", "-1", "x", "1.5"] {
        refused_field(&world.call("GET", &format!("{logs}?last={wrong}"), &Value::Null).await, "last");
    }
    for other in ["from=now-2h", "after=7"] {
        refused_field(&world.call("GET", &format!("{logs}?last=10&{other}"), &Value::Null).await, "last");
    }
    for good in ["last=1", "last=1000", "last=10&node=all"] {
        refused(&world.call("GET", &format!("{logs}?{good}"), &Value::Null).await, 404, "NOT_FOUND");
    }
}
