//! The API from outside: every route of the table, and each way in which a call can be wrong (JOB-1, JOB-3, CTL-5).

mod support;

use std::collections::BTreeSet;

use api::{Access, ROUTES};
use axum::body::Body;
use http::{Request, StatusCode};
use identity::{AccessRule, ClientText, CredentialRequest, NewPerson, Part};
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{Credentials, World, refused, signed};

/// A route's path with something in each parameter.
fn filled(world: &World, path: &str) -> String {
    let filled = path
        .replace("{serviceName}", world.project.as_str())
        .replace("{regionName}", "GRA")
        .replace("{jobId}", "0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c11")
        .replace("{scheduleId}", "0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c12")
        .replace("{month}", "2026-02")
        .replace("{usageId}", "2026-02")
        .replace("{name}", "no-such-bucket")
        .replace("{containerId}", "no-such-container")
        .replace("{objectKey}", "no%2Fsuch%2Fkey")
        .replace("{resourceURN}", &format!("urn:v1:eu:resource:publicCloudProject:{}", world.project))
        .replace("{account}", "ab0000-nobody")
        .replace("{permissionsGroupURN}", "urn:v1:eu:permissionsGroup:ab1234-casemate:x");
    let filled = [
        "{token}",
        "{applicationId}",
        "{credentialId}",
        "{logId}",
        "{userId}",
        "{access}",
        "{roleId}",
        "{policyId}",
        "{groupId}",
        "{key}",
        "{user}",
        "{group}",
        "{clientId}",
        "{month}",
        "{sessionId}",
        "{kind}",
        "{id}",
    ]
    .iter()
    .fold(filled, |path, name| path.replace(name, "999999"));
    assert!(!filled.contains('{'), "a parameter that this test does not know: {path}");
    let is_whole = ["/v2/", "/console/"].iter().any(|start| filled.starts_with(start));
    if is_whole { filled } else { format!("/1.0{filled}") }
}

#[tokio::test]
async fn every_route_refuses_who_does_not_sign_and_fails_for_nobody() {
    let world = World::new().await;
    let narrow = world.key(&[("GET", "/nothing")]).await;
    for route in ROUTES {
        let (method, path) = (route.method.as_str(), filled(&world, route.path));
        let bare = Request::builder().method(method).uri(&path).body(Body::empty()).expect("a request");
        let answer = world.send(bare).await;
        match route.access {
            Access::Open => assert!(!answer.status.is_server_error(), "{route:?}: {answer:?}"),
            Access::Own | Access::Personal | Access::Granted | Access::Filtered => refused(&answer, 403, "INVALID_KEY"),
        }
        let now = Timestamp::now().as_second();
        if !matches!(route.access, Access::Open | Access::Own) {
            let answer = world.send(signed(&narrow, method, &path, "", now)).await;
            refused(&answer, 403, "NOT_GRANTED_CALL");
        }
        // Whatever is sent to whatever is not there: an answer of the client's fault, or none at fault.
        for body in ["", "{}", "[]", "null", "{", "\"x\"", "{\"name\":{}}"] {
            if route.path == "/auth/logout" {
                continue;
            }
            let answer = world.send(signed(&world.keys, method, &path, body, now)).await;
            assert!(!answer.status.is_server_error(), "{route:?} {body}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_not_signed_right_is_refused_with_the_class_that_clients_know() {
    let world = World::new().await;
    let (keys, now) = (world.keys.clone(), Timestamp::now().as_second());
    let get = |keys: &support::Credentials, at| signed(keys, "GET", "/1.0/me", "", at);
    assert_eq!(world.send(get(&keys, now)).await.status, StatusCode::OK);
    let v1 = signed(&keys, "GET", "/v1/me", "", now);
    assert_eq!(world.send(v1).await.status, StatusCode::OK);

    let wrong = support::Credentials { secret: "wrong".into(), ..keys.clone() };
    refused(&world.send(get(&wrong, now)).await, 403, "INVALID_CREDENTIAL");
    let unknown = support::Credentials { application: "unknown".into(), ..keys.clone() };
    refused(&world.send(get(&unknown, now)).await, 403, "INVALID_KEY");
    let unknown = support::Credentials { consumer: "unknown".into(), ..keys.clone() };
    refused(&world.send(get(&unknown, now)).await, 403, "INVALID_CREDENTIAL");
    for at in [now - 31, now + 32, 0] {
        refused(&world.send(get(&keys, at)).await, 403, "INVALID_CREDENTIAL");
    }
    let mut unsigned = get(&keys, now);
    unsigned.headers_mut().remove("x-ovh-signature");
    refused(&world.send(unsigned).await, 403, "NOT_CREDENTIAL");
    // The signature is about the address, the method and the body.
    let mut moved = get(&keys, now);
    *moved.uri_mut() = "/1.0/cloud/project".parse().expect("a path");
    refused(&world.send(moved).await, 403, "INVALID_CREDENTIAL");
    let mut changed = signed(&keys, "POST", "/1.0/cloud/project/x/dataProcessing/jobs", "{}", now);
    *changed.body_mut() = Body::from("[]");
    refused(&world.send(changed).await, 403, "INVALID_CREDENTIAL");
}

#[tokio::test]
async fn what_is_not_the_callers_does_not_exist() {
    let world = World::new().await;
    let none = Value::Null;
    let foreign = {
        let other = "cd5678-casemate".parse().expect("an account");
        let by = audit::Actor::operator();
        world.identity.create_account(&other, "", "", &by).await.expect("an account");
        world.identity.create_project(&other, "theirs", &by).await.expect("a project").id
    };
    for project in [foreign.as_str(), "00000000000000000000000000000000", "x", ".."] {
        let answer = world.call("GET", &format!("/1.0/cloud/project/{project}/dataProcessing/jobs"), &none).await;
        refused(&answer, 404, "NOT_FOUND");
    }
    for job in ["0193a5c2-7f60-7bd2-9d5c-3b1f0a8e4c11", "x", "%00"] {
        for (method, rest) in [("GET", ""), ("DELETE", ""), ("GET", "/logs")] {
            let path = world.path(&format!("/dataProcessing/jobs/{job}{rest}"));
            let answer = world.call(method, &path, &none).await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{method} {path}: {answer:?}");
        }
    }
    refused(&world.call("GET", "/1.0/no/such/route", &none).await, 404, "INVALID_URL");
    let answer = world.call("PUT", "/1.0/me", &none).await;
    refused(&answer, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(answer.headers["allow"], "GET");
}

#[tokio::test]
async fn a_body_that_is_too_large_or_not_json_is_refused() {
    let world = World::new().await;
    let path = world.path("/dataProcessing/jobs");
    let now = Timestamp::now().as_second();
    let large = "x".repeat(1024 * 1024 + 1);
    refused(&world.send(signed(&world.keys, "POST", &path, &large, now)).await, 413, "PAYLOAD_TOO_LARGE");
    for body in ["", "{", "[1]", "\"text\"", "{\"name\": }", "\u{feff}{}"] {
        refused(&world.send(signed(&world.keys, "POST", &path, body, now)).await, 400, "BAD_REQUEST");
    }
    let mut form = signed(&world.keys, "POST", &path, "a=b", now);
    form.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().expect("a type"));
    refused(&world.send(form).await, 415, "UNSUPPORTED_MEDIA_TYPE");
    let long = world.path(&format!("/dataProcessing/jobs?from={}", "x".repeat(9000)));
    refused(&world.call("GET", &long, &Value::Null).await, 414, "URI_TOO_LONG");
    refused(
        &world.call("GET", &world.path("/dataProcessing/jobs?status=x&status=y"), &Value::Null).await,
        400,
        "BAD_REQUEST",
    );
}

#[tokio::test]
async fn every_fault_of_a_job_is_told_at_once_under_its_field() {
    let world = World::new().await;
    let path = world.path("/dataProcessing/jobs");
    let body = world.submit_body(&[
        ("job_type", "java"),
        ("main_application_code", "a.jar"),
        ("driver_cores", "17"),
        ("executor_memory", "99999"),
        ("colour", "red"),
        ("driver_cores", "2"),
    ]);
    let answer = world.call("POST", &path, &body).await;
    refused(&answer, 422, "UNPROCESSABLE_ENTITY");
    for field in ["main_class_name", "driver_cores", "executor_memory", "colour"] {
        assert!(answer.body["details"][field].is_string(), "{field}: {}", answer.body);
    }
    let class = answer.body["class"].as_str().expect("a class");
    assert!(class.starts_with("Client::UnprocessableEntity::odp.job."), "{class}");
    // A number where clients send text is a fault of that field.
    let mut body = world.submit_body(&[("job_type", "python"), ("main_application_code", "a.py")]);
    body["engineParameters"][1]["value"] = json!(5);
    body["ttl"] = json!("30H");
    let answer = world.call("POST", &path, &body).await;
    refused(&answer, 422, "UNPROCESSABLE_ENTITY");
    let fields: Vec<&String> = answer.body["details"].as_object().expect("details").keys().collect();
    assert_eq!(fields, ["main_application_code", "ttl"]);
    // A main file that is not there.
    let body = world.submit_body(&[("job_type", "python"), ("main_application_code", "absent.py")]);
    let answer = world.call("POST", &path, &body).await;
    refused(&answer, 422, "UNPROCESSABLE_ENTITY");
    assert_eq!(answer.body["class"], "Client::UnprocessableEntity::odp.mainApplicationCode.notFound");
    // The old client's default version: which ones there are is said.
    let mut body = world.submit_body(&[("job_type", "python"), ("main_application_code", "absent.py")]);
    body["engineVersion"] = json!("2.4.3");
    let answer = world.call("POST", &path, &body).await;
    assert_eq!(answer.body["class"], "Client::UnprocessableEntity::odp.job.engineVersion.unsupportedValue");
    assert!(answer.body["message"].as_str().is_some_and(|text| text.contains("3.5.9, 4.1.4")), "{}", answer.body);
    let listed = world.call("GET", &path, &Value::Null).await;
    assert_eq!(listed.body, json!([]), "nothing of them is kept");
}

#[tokio::test]
async fn capabilities_name_what_a_job_can_be() {
    let world = World::new().await;
    let answer = world.call("GET", &world.path("/dataProcessing/capabilities"), &Value::Null).await;
    let spark = &answer.body[0];
    assert_eq!(spark["name"], "spark");
    let versions: Vec<&Value> =
        spark["availableVersions"].as_array().into_iter().flatten().map(|version| &version["name"]).collect();
    assert_eq!(versions, ["3.5.9", "4.1.4"]);
    assert_eq!(spark["availableVersions"][0]["endOfLife"], "2125-01-01");
    let cores =
        spark["parameters"].as_array().into_iter().flatten().find(|parameter| parameter["name"] == "driver_cores");
    assert_eq!(cores.expect("a parameter")["validator"], json!({ "min": 1, "max": 16, "regex": null }));
    assert!(spark["templates"].as_array().is_some_and(|templates| !templates.is_empty()));
}

#[tokio::test]
async fn buckets_come_and_go_by_the_api() {
    let world = World::new().await;
    let buckets = world.path("/region/GRA/storage");
    let made = world.call("POST", &buckets, &json!({ "name": "code", "ownerId": null })).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    assert_eq!(made.body["name"], "code");
    assert_eq!(made.body["virtualHost"], "http://code.127.0.0.1:9000/");
    refused(&world.call("POST", &buckets, &json!({ "name": "code" })).await, 409, "CONFLICT");
    for wrong in [
        json!({ "name": "Not_A_Bucket" }),
        json!({}),
        json!({ "name": 5 }),
        json!({ "name": "x1" }),
        json!({ "name": "plain", "encryption": { "sseAlgorithm": "plaintext" } }),
        json!({ "name": "kept", "versioning": { "status": "always" } }),
        json!({ "name": "owned", "ownerId": 999_999 }),
    ] {
        refused(&world.call("POST", &buckets, &wrong).await, 400, "BAD_REQUEST");
    }
    refused(&world.call("GET", &world.path("/region/MARS/storage"), &Value::Null).await, 404, "NOT_FOUND");
    let listed = world.call("GET", &buckets, &Value::Null).await;
    assert_eq!(listed.body[0]["objectsCount"], 0);
    let containers = world.call("GET", &world.path("/storage"), &Value::Null).await;
    assert_eq!(containers.body[0]["storedBytes"], 0);
    let object = format!("{buckets}/code/object/a%2Fb");
    refused(&world.call("DELETE", &object, &Value::Null).await, 404, "NOT_FOUND");
    assert_eq!(world.call("DELETE", &format!("{buckets}/code"), &Value::Null).await.status, StatusCode::OK);
    refused(&world.call("DELETE", &format!("{buckets}/code"), &Value::Null).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn presigned_urls_are_signed_with_a_key_that_is_used_again() {
    let world = World::new().await;
    let buckets = world.path("/region/GRA/storage");
    world.call("POST", &buckets, &json!({ "name": "code" })).await;
    let path = format!("{buckets}/code/presign");
    let body = json!({ "expire": 60, "method": "PUT", "object": "a/b c.py" });
    let answers = futures::future::join_all((0..8).map(|_| world.call("POST", &path, &body))).await;
    let access: BTreeSet<String> = answers
        .iter()
        .map(|answer| {
            let url = answer.body["url"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
            assert!(url.starts_with("http://127.0.0.1:9000/code/a/b%20c.py?"), "{url}");
            let url = url::Url::parse(url).expect("a URL");
            let credential =
                url.query_pairs().find(|(name, _)| name == "X-Amz-Credential").expect("a credential").1.into_owned();
            credential.split('/').next().unwrap_or_default().to_owned()
        })
        .collect();
    let kept = || async {
        let keys = world.identity.s3_keys(&world.project, None).await.expect("keys");
        keys.into_iter().map(|key| key.access).collect::<BTreeSet<String>>()
    };
    let first = kept().await;
    assert!(access.is_subset(&first), "no URL is signed with a key that is gone: {access:?} {first:?}");
    assert!(first.len() <= 2, "{first:?}");
    assert_eq!(world.call("POST", &path, &body).await.body["method"], "PUT");
    assert_eq!(kept().await, first, "a later call makes none");
    assert_eq!(world.identity.users(&world.project).await.expect("users").len(), 1);
    for wrong in [
        json!({ "expire": 0, "method": "GET", "object": "a" }),
        json!({ "expire": 604_801, "method": "GET", "object": "a" }),
        json!({ "expire": 60, "method": "HEAD", "object": "a" }),
        json!({ "expire": 60, "method": "GET", "object": "" }),
        json!({ "expire": "60", "method": "GET", "object": "a" }),
    ] {
        refused(&world.call("POST", &path, &wrong).await, 400, "BAD_REQUEST");
    }
    refused(&world.call("POST", &format!("{buckets}/absent/presign"), &body).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn lists_page_by_the_headers_of_the_old_console() {
    let world = World::new().await;
    let by = audit::Actor::operator();
    for name in ["second", "third"] {
        world.identity.create_project(&world.account, name, &by).await.expect("a project");
    }
    let ids = world.get_with("/1.0/cloud/project", &[]).await;
    assert_eq!(ids.body.as_array().map(Vec::len), Some(3));
    assert!(ids.body[0].is_string() && !ids.headers.contains_key("x-pagination-elements"));
    let headers = [
        ("X-Pagination-Mode", "CachedObjectList-Pages"),
        ("X-Pagination-Size", "1"),
        ("X-Pagination-Number", "2"),
        ("X-Pagination-Sort", "projectName"),
        ("X-Pagination-Sort-Order", "DESC"),
    ];
    let page = world.get_with("/1.0/cloud/project", &headers).await;
    assert_eq!(page.headers["x-pagination-elements"], "3");
    assert_eq!(page.body[0]["projectName"], "second");
    let jobs = world.path("/dataProcessing/jobs");
    let page = world.get_with(&jobs, &[("X-Pagination-Mode", "CachedObjectList-Pages")]).await;
    assert_eq!(
        (page.body.as_array().map(Vec::len), page.headers["x-pagination-elements"].as_bytes()),
        (Some(0), &b"0"[..])
    );
    for (name, value) in
        [("X-Pagination-Sort", "colour"), ("X-Pagination-Filter", "colour:eq=red"), ("X-Pagination-Size", "0")]
    {
        let answer = world.get_with(&jobs, &[("X-Pagination-Mode", "CachedObjectList-Pages"), (name, value)]).await;
        refused(&answer, 400, "BAD_REQUEST");
    }
    refused(&world.get_with(&jobs, &[("X-Pagination-Mode", "Other")]).await, 400, "BAD_REQUEST");
    refused(&world.get_with(&world.path("/dataProcessing/jobs?status=SLEEPING"), &[]).await, 400, "BAD_REQUEST");
}

#[tokio::test]
async fn every_call_is_in_the_audit_log_with_its_decision() {
    let world = World::new().await;
    let answer = world.call("GET", &world.path("/dataProcessing/jobs"), &Value::Null).await;
    let id = answer.headers["x-ovh-queryid"].to_str().expect("text").to_owned();
    let query = audit::Query { request_id: Some(id), limit: 10, ..audit::Query::default() };
    let rows = world.audit.list(&query).await.expect("rows");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].action, "publicCloudProject:apiovh:dataProcessing/jobs/get");
    assert_eq!((rows[0].decision.as_str(), rows[0].result.as_str()), ("allowed", "200"));
    assert_eq!(rows[0].source_ip.as_deref(), Some("192.0.2.7"));
    assert_eq!(rows[0].account.as_deref(), Some(world.account.as_str()));
    let foreign = world.call("GET", "/1.0/cloud/project/00000000000000000000000000000000", &Value::Null).await;
    let id = foreign.headers["x-ovh-queryid"].to_str().expect("text").to_owned();
    let query = audit::Query { request_id: Some(id), limit: 10, ..audit::Query::default() };
    let rows = world.audit.list(&query).await.expect("rows");
    assert_eq!((rows[0].decision.as_str(), rows[0].result.as_str()), ("refused", "404"));
}

/// The table of rights: each route that asks for a decision, and each way in which policies can speak.
#[tokio::test]
async fn every_route_that_asks_for_a_decision_obeys_policies() {
    let world = World::new().await;
    let user = json!({
        "login": "alice", "email": "a@example.org", "description": "", "group": "DEFAULT", "password": "correct horse battery",
    });
    world.done("POST", "/1.0/me/identity/user", &user).await;
    let alice = world.key_of_user("alice").await;
    let rights = |policy: Value| {
        json!({
            "name": "matrix", "identities": [format!("urn:v1:eu:identity:user:{}/alice", world.account)],
            "resources": [{ "urn": "urn:v1:eu:resource:*" }], "permissions": policy["permissions"], "expiredAt": policy["expiredAt"],
        })
    };
    let made = world.done("POST", "/v2/iam/policy", &rights(json!({ "permissions": {} }))).await;
    let policy = format!("/v2/iam/policy/{}", made["id"].as_str().expect("an id"));
    for route in ROUTES.iter().filter(|route| route.access == Access::Granted) {
        let (method, path) = (route.method.as_str(), filled(&world, route.path));
        let action = json!([{ "action": route.action }]);
        let all = json!([{ "action": "*" }]);
        for (way, may, rights_of_it) in [
            ("nothing allows", false, json!({ "permissions": {} })),
            ("another allows", false, json!({ "permissions": { "allow": all, "except": action } })),
            ("it is allowed", true, json!({ "permissions": { "allow": action } })),
            ("all is allowed", true, json!({ "permissions": { "allow": all } })),
            ("it is denied", false, json!({ "permissions": { "allow": all, "deny": action } })),
            ("it expired", false, json!({ "permissions": { "allow": all }, "expiredAt": "2020-01-01T00:00:00Z" })),
        ] {
            world.done("PUT", &policy, &rights(rights_of_it)).await;
            let answer = world.call_as(&alice, method, &path, &json!({})).await;
            let refused = answer.body["details"]["unauthorizedActionsByIAM"] == route.action;
            assert_eq!(!refused, may, "{route:?}, {way}: {answer:?}");
            assert!(may || answer.status == StatusCode::FORBIDDEN, "{route:?}, {way}: {answer:?}");
        }
    }
}

/// The table of contacts: each route of a project and each kind of contact, by the rule of docs/accounts.md.
#[tokio::test]
async fn every_route_of_a_project_is_for_the_contacts_whose_part_it_is() {
    let world = World::new().await;
    let (tech, billing) = (world.other_account("cd5678-casemate").await, world.other_account("ef9012-casemate").await);
    let (admin, stranger) =
        (world.other_account("gh3456-casemate").await, world.other_account("ij7890-casemate").await);
    let id = |text: &str| text.parse().expect("an account");
    let contacts = db::contacts::Contacts {
        admin: id("gh3456-casemate"),
        tech: id("cd5678-casemate"),
        billing: id("ef9012-casemate"),
    };
    let mut tx = world.db.begin().await.expect("begun");
    db::contacts::set(&mut tx, &world.project, &contacts).await.expect("written");
    tx.commit().await.expect("committed");
    let mut seen = std::collections::BTreeSet::new();
    for route in ROUTES.iter().filter(|route| route.path.starts_with("/cloud/project/{serviceName}")) {
        let part = route.part().expect("a part");
        seen.insert(format!("{part:?}"));
        let (method, path) = (route.method.as_str(), filled(&world, route.path));
        for (who, keys, may) in [
            ("administrative", &admin, true),
            ("technical", &tech, matches!(part, Part::Presence | Part::Operation)),
            ("billing", &billing, matches!(part, Part::Presence | Part::Billing)),
        ] {
            let answer = world.call_as(keys, method, &path, &json!({})).await;
            let refused = answer.body["details"]["unauthorizedActionsByIAM"] == route.action;
            assert_eq!(!refused, may, "{route:?}, {part:?}, {who}: {answer:?}");
            assert!(may || answer.status == StatusCode::FORBIDDEN, "{route:?}, {who}: {answer:?}");
        }
        // For the owner who gave all contacts away, and for everybody else, the project is not there.
        for keys in [&world.keys, &stranger] {
            let answer = world.call_as(keys, method, &path, &json!({})).await;
            refused(&answer, 404, "NOT_FOUND");
            let message = answer.body["message"].as_str().expect("a text");
            assert!(message.contains(&format!("serviceName = {}", world.project)), "{route:?}: {message}");
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["Administration", "Billing", "Operation", "Presence"]);
}

/// The table of credentials: each route that is not open, and each way in which a credential can be bad.
#[tokio::test]
async fn every_route_refuses_every_kind_of_bad_credential_with_its_class_and_an_audit_entry() {
    let world = World::new().await;
    let by = audit::Actor::operator();
    let other = world.other_account("cd5678-casemate").await;
    let made = world.identity.application_by_key(&world.keys.application).await.expect("read").expect("there");
    let with = |consumer: &str| Credentials { consumer: consumer.to_owned(), ..world.keys.clone() };
    let asked = CredentialRequest { rules: AccessRule::everything(), ..CredentialRequest::default() };
    let past = Some(Timestamp::now() - jiff::SignedDuration::from_secs(1));
    let expired = world.identity.create_credential(&made, &asked, past, &by).await.expect("a key");
    let revoked = world.identity.create_credential(&made, &asked, None, &by).await.expect("a key");
    world.identity.expire_credential(revoked.id, &by).await.expect("ended");
    let elsewhere =
        CredentialRequest { allowed_ips: vec!["198.51.100.0/24".parse().expect("a block")], ..asked.clone() };
    let elsewhere = world.identity.create_credential(&made, &elsewhere, None, &by).await.expect("a key");
    let (expired, revoked, elsewhere) =
        (with(&expired.consumer_key), with(&revoked.consumer_key), with(&elsewhere.consumer_key));
    let foreign = with(&other.consumer);
    let text = ClientText { name: "ci".to_owned(), ..ClientText::default() };
    let client = world.identity.create_client(&world.account, text, &by).await.expect("a service account");
    let token = async |client: &identity::NewClient| {
        let issued = world.identity.issue_token(&client.client.id, &client.secret, None).await.expect("asked");
        format!("Bearer {}", *issued.expect("a token").token)
    };
    let good = token(&client).await;
    let altered_token = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let revoked_token = token(&client).await;
    let digest = |token: &str| {
        let token = token.strip_prefix("Bearer ").expect("a token");
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref().to_vec()
    };
    assert!(world.identity.revoke_token(&digest(&revoked_token), &by).await.expect("revoked"));
    let gone = ClientText { name: "gone".to_owned(), ..ClientText::default() };
    let gone = world.identity.create_client(&world.account, gone, &by).await.expect("a service account");
    let orphan_token = token(&gone).await;
    world.identity.delete_client(&world.account, &gone.client.id, &by).await.expect("removed");
    let expired_token = format!("Bearer {}", "e".repeat(64));
    let now = Timestamp::now();
    let row = db::oauth2::Token {
        hash: digest(&expired_token),
        client: client.client.id.clone(),
        created: now - jiff::SignedDuration::from_hours(1),
        expires: now - jiff::SignedDuration::from_secs(1),
        last_use: None,
    };
    let mut tx = world.db.begin().await.expect("begun");
    db::oauth2::insert_token(&mut tx, &row).await.expect("a token");
    tx.commit().await.expect("committed");
    let details = Request::builder().uri("/1.0/auth/details").header("authorization", &good);
    let details = world.send(details.body(Body::empty()).expect("a request")).await;
    assert_eq!(details.status, StatusCode::OK, "one that is good is let in: {details:?}");
    let user = NewPerson { login: "gone".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&world.account, user, &by).await.expect("a user");
    let disabled = world.key_of_user("gone").await;
    world.identity.disable_person(&world.account, "gone", &by).await.expect("disabled");
    let altered = |keys: &Credentials, part: fn(&mut Credentials)| {
        let mut keys = keys.clone();
        part(&mut keys);
        keys
    };
    let nobody = altered(&world.keys, |keys| keys.application = "0".repeat(16));
    let no_consumer = altered(&world.keys, |keys| keys.consumer = "0".repeat(32));
    let no_secret = altered(&world.keys, |keys| keys.secret = "0".repeat(32));
    let header = |mut request: Request<Body>, name: &'static str, value: &str| {
        request.headers_mut().insert(name, value.parse().expect("a value"));
        request
    };
    for route in ROUTES.iter().filter(|route| route.access != Access::Open) {
        let (method, path) = (route.method.as_str(), filled(&world, route.path));
        let now = Timestamp::now().as_second();
        let sent = |keys: &Credentials, at: i64| signed(keys, method, &path, "", at);
        let bare = || Request::builder().method(method).uri(&path).body(Body::empty()).expect("a request");
        let zeros = format!("Bearer {}", "0".repeat(64));
        for (way, request, status, code) in [
            ("none", bare(), 403, "INVALID_KEY"),
            ("a malformed token", header(bare(), "authorization", "Bearer x"), 401, "INVALID_CREDENTIAL"),
            ("nobody's token", header(bare(), "authorization", &zeros), 401, "INVALID_CREDENTIAL"),
            ("an altered token", header(bare(), "authorization", &altered_token), 401, "INVALID_CREDENTIAL"),
            ("a revoked token", header(bare(), "authorization", &revoked_token), 401, "INVALID_CREDENTIAL"),
            ("an expired token", header(bare(), "authorization", &expired_token), 401, "INVALID_CREDENTIAL"),
            ("a token of nobody any more", header(bare(), "authorization", &orphan_token), 401, "INVALID_CREDENTIAL"),
            ("another scheme", header(bare(), "authorization", "Basic eDp5"), 403, "INVALID_KEY"),
            ("nobody's application", sent(&nobody, now), 403, "INVALID_KEY"),
            ("nobody's consumer key", sent(&no_consumer, now), 403, "INVALID_CREDENTIAL"),
            ("another secret", sent(&no_secret, now), 403, "INVALID_CREDENTIAL"),
            ("another application's key", sent(&foreign, now), 403, "INVALID_CREDENTIAL"),
            ("an expired key", sent(&expired, now), 403, "INVALID_CREDENTIAL"),
            ("a revoked key", sent(&revoked, now), 403, "INVALID_CREDENTIAL"),
            ("a key of a disabled user", sent(&disabled, now), 403, "INVALID_CREDENTIAL"),
            ("a replay", sent(&world.keys, now - 3600), 403, "INVALID_CREDENTIAL"),
            ("a time to come", sent(&world.keys, now + 3600), 403, "INVALID_CREDENTIAL"),
            ("a malformed time", header(sent(&world.keys, now), "x-ovh-timestamp", "now"), 403, "INVALID_CREDENTIAL"),
            ("another signature", header(sent(&world.keys, now), "x-ovh-signature", "$1$0"), 403, "INVALID_CREDENTIAL"),
            ("another address", sent(&elsewhere, now), 403, "FORBIDDEN"),
        ] {
            let answer = world.send(request).await;
            assert_eq!((answer.status.as_u16(), &answer.body["errorCode"]), (status, &json!(code)), "{route:?}, {way}");
            assert!(!answer.text.contains(world.account.as_str()), "{route:?}, {way}: {}", answer.text);
            let id = answer.headers["x-ovh-queryid"].to_str().expect("text").to_owned();
            let query = audit::Query { request_id: Some(id), limit: 10, ..audit::Query::default() };
            let rows = world.audit.list(&query).await.expect("rows");
            assert_eq!(rows.len(), 1, "{route:?}, {way}");
            assert_eq!((rows[0].decision.as_str(), rows[0].action.as_str()), ("refused", route.action), "{way}");
            // Whose it was is known only of a credential that is right.
            let account = (way == "another address").then(|| world.account.to_string());
            assert_eq!(rows[0].account, account, "{route:?}, {way}");
        }
    }
}
