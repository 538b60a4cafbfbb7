//! Contacts of projects: how they change, and what their users may (CTL-1).

mod support;

use db::contacts::{Change, Contacts};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{Credentials, World, refused, refused_field};

const CHANGES: &str = "/1.0/me/task/contactChange";
const MAILS: &str = "/1.0/me/notification/email/history";

/// The token in the newest mail of an account.
async fn newest_token(world: &World, keys: &Credentials) -> String {
    let ids = world.call_as(keys, "GET", MAILS, &Value::Null).await.body;
    let id = ids.as_array().and_then(|ids| ids.last()).expect("a mail").clone();
    let mail = world.call_as(keys, "GET", &format!("{MAILS}/{id}"), &Value::Null).await.body;
    assert_eq!((&mail["id"], mail["date"].is_string()), (&id, true));
    let body = mail["body"].as_str().expect("a text");
    let line = body.lines().find_map(|line| line.strip_prefix("Token: ")).expect("a token");
    line.to_owned()
}

async fn state(world: &World, keys: &Credentials, id: &Value) -> Value {
    world.call_as(keys, "GET", &format!("{CHANGES}/{id}"), &Value::Null).await.body["state"].clone()
}

#[tokio::test]
async fn a_contact_changes_when_both_sides_agree_each_with_its_own_token() {
    let world = World::new().await;
    let (tech, other) = (world.other_account("cd5678-casemate").await, world.other_account("ef9012-casemate").await);
    let change = world.path("/changeContact");
    refused_field(&world.call("POST", &change, &json!({ "contactTech": "zz0000-casemate" })).await, "contactTech");
    assert_eq!(world.done("POST", &change, &json!({ "contactTech": world.account })).await, json!([]));
    refused(
        &world.call_as(&tech, "POST", &change, &json!({ "contactTech": "cd5678-casemate" })).await,
        404,
        "NOT_FOUND",
    );
    let asked = json!({ "contactTech": "cd5678-casemate", "contactBilling": "cd5678-casemate" });
    let ids = world.done("POST", &change, &asked).await;
    let id = &ids[0];
    assert_eq!(ids.as_array().map(Vec::len), Some(1), "one change for one pair of accounts");
    let shown = world.done("GET", &format!("{CHANGES}/{id}"), &Value::Null).await;
    assert_eq!(shown["contactTypes"], json!(["contactBilling", "contactTech"]));
    assert_eq!((&shown["fromAccount"], &shown["toAccount"]), (&json!("ab1234-casemate"), &json!("cd5678-casemate")));
    assert_eq!((&shown["state"], &shown["dateDone"]), (&json!("validatingByCustomers"), &Value::Null));
    let (of_from, of_to) = (newest_token(&world, &world.keys).await, newest_token(&world, &tech).await);
    let (accept, refuse) = (format!("{CHANGES}/{id}/accept"), format!("{CHANGES}/{id}/refuse"));
    for (keys, token) in [(&world.keys, &of_to), (&tech, &of_from), (&tech, &String::new())] {
        for path in [&accept, &refuse] {
            refused(&world.call_as(keys, "POST", path, &json!({ "token": token })).await, 403, "FORBIDDEN");
        }
    }
    refused(&world.call_as(&other, "POST", &accept, &json!({ "token": of_to })).await, 404, "NOT_FOUND");
    refused(&world.call_as(&other, "GET", &format!("{CHANGES}/{id}"), &Value::Null).await, 404, "NOT_FOUND");

    // A token that was sent again takes the place of the one before.
    let again = format!("{CHANGES}/{id}/resendEmail");
    assert_eq!(world.call_as(&tech, "POST", &again, &Value::Null).await.status, StatusCode::OK);
    refused(&world.call_as(&tech, "POST", &accept, &json!({ "token": of_to })).await, 403, "FORBIDDEN");
    let of_to = newest_token(&world, &tech).await;
    assert_eq!(world.call_as(&tech, "POST", &accept, &json!({ "token": of_to })).await.status, StatusCode::OK);
    refused(&world.call_as(&tech, "POST", &accept, &json!({ "token": of_to })).await, 403, "FORBIDDEN");
    refused(&world.call_as(&tech, "POST", &again, &Value::Null).await, 409, "CONFLICT");
    assert_eq!(state(&world, &tech, id).await, "validatingByCustomers");
    refused(&world.call_as(&tech, "GET", &world.path(""), &Value::Null).await, 404, "NOT_FOUND");
    world.done("POST", &accept, &json!({ "token": of_from })).await;
    assert_eq!(state(&world, &tech, id).await, "done");
    refused(&world.call("POST", &accept, &json!({ "token": of_from })).await, 409, "CONFLICT");
    let service = world.call_as(&tech, "GET", &world.path("/serviceInfos"), &Value::Null).await.body;
    let contacts = (&service["contactAdmin"], &service["contactTech"], &service["contactBilling"]);
    assert_eq!(contacts, (&json!("ab1234-casemate"), &json!("cd5678-casemate"), &json!("cd5678-casemate")));
    let listed = world.call_as(&tech, "GET", "/1.0/cloud/project", &Value::Null).await.body;
    assert_eq!(listed, json!([world.project]));
    let log = world.whole_log().await;
    assert!(log.contains("project.contacts.changeEnded") && !log.contains(&of_to) && !log.contains(&of_from));
}

#[tokio::test]
async fn a_change_is_refused_by_either_side_aborted_by_a_later_one_and_ends_after_its_time() {
    let world = World::new().await;
    let tech = world.other_account("cd5678-casemate").await;
    let change = world.path("/changeContact");
    let ask = || async { world.done("POST", &change, &json!({ "contactTech": "cd5678-casemate" })).await[0].clone() };
    let first = ask().await;
    let of_first = newest_token(&world, &tech).await;
    let second = ask().await;
    assert_eq!(state(&world, &tech, &first).await, "aborted");
    let body = json!({ "token": of_first });
    refused(&world.call_as(&tech, "POST", &format!("{CHANGES}/{first}/accept"), &body).await, 409, "CONFLICT");
    refused(&world.call_as(&tech, "POST", &format!("{CHANGES}/{second}/accept"), &body).await, 403, "FORBIDDEN");
    let body = json!({ "token": newest_token(&world, &tech).await });
    let refuse = format!("{CHANGES}/{second}/refuse");
    assert_eq!(world.call_as(&tech, "POST", &refuse, &body).await.status, StatusCode::OK);
    let ended = world.done("GET", &format!("{CHANGES}/{second}"), &Value::Null).await;
    assert!(ended["state"] == "refused" && ended["dateDone"].is_string(), "{ended}");
    let refused_ones = world.done("GET", &format!("{CHANGES}?state=refused"), &Value::Null).await;
    assert_eq!(refused_ones, json!([second]));

    // A new administrative contact wants nothing of what the one before asked for.
    let third = ask().await;
    let admin = world.done("POST", &change, &json!({ "contactAdmin": "cd5678-casemate" })).await[0].clone();
    for keys in [&world.keys, &tech] {
        let body = json!({ "token": newest_token(&world, keys).await });
        let accepted = world.call_as(keys, "POST", &format!("{CHANGES}/{admin}/accept"), &body).await;
        assert_eq!(accepted.status, StatusCode::OK, "{accepted:?}");
    }
    assert_eq!(
        (state(&world, &tech, &admin).await, state(&world, &tech, &third).await),
        (json!("done"), json!("aborted"))
    );

    let token = "f".repeat(64);
    let (now, week) = (Timestamp::now(), SignedDuration::from_hours(7 * 24));
    let old = Change {
        id: 0,
        project: world.project.clone(),
        asking: world.account.clone(),
        from: world.account.clone(),
        to: "cd5678-casemate".parse().expect("an account"),
        kinds: "contactTech".to_owned(),
        state: "validatingByCustomers".to_owned(),
        from_token: None,
        to_token: Some(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref().to_vec()),
        requested: now - week,
        expires: now,
        ended: None,
    };
    let mut tx = world.db.begin().await.expect("begun");
    let id = json!(db::contacts::insert_change(&mut tx, &old).await.expect("written"));
    tx.commit().await.expect("committed");
    assert_eq!(state(&world, &tech, &id).await, "expired");
    let late = world.call_as(&tech, "POST", &format!("{CHANGES}/{id}/accept"), &json!({ "token": token })).await;
    refused(&late, 409, "CONFLICT");
    let service = world.done("GET", &world.path("/serviceInfos"), &Value::Null).await;
    assert_eq!(service["contactTech"], json!("ab1234-casemate"));
}

#[tokio::test]
async fn all_projects_of_a_resource_group_change_their_contacts_by_one_call_or_none_does() {
    let world = World::new().await;
    let tech = world.other_account("cd5678-casemate").await;
    let by = audit::Actor::operator();
    let second = world.identity.create_project(&world.account, "second", &by).await.expect("a project").id;
    let foreign: model::AccountId = "cd5678-casemate".parse().expect("an account");
    let foreign = world.identity.create_project(&foreign, "foreign", &by).await.expect("a project").id;
    let urn = |id: &model::ProjectId| json!({ "urn": format!("urn:v1:eu:resource:publicCloudProject:{id}") });
    let group = json!({ "name": "shop", "resources": [urn(&world.project), urn(&second)] });
    let group = world.done("POST", "/v2/iam/resourceGroup", &group).await;
    let path = format!("/v2/iam/resourceGroup/{}", group["id"].as_str().expect("an id"));
    let change = format!("{path}/changeContact");
    let ids = world.done("POST", &change, &json!({ "contactBilling": "cd5678-casemate" })).await;
    assert_eq!(ids.as_array().map(Vec::len), Some(2));
    assert_eq!(world.call_as(&tech, "GET", CHANGES, &Value::Null).await.body, ids);
    let with_foreign = json!({ "name": "shop", "resources": [urn(&world.project), urn(&foreign)] });
    world.done("PUT", &path, &with_foreign).await;
    refused(&world.call("POST", &change, &json!({ "contactTech": "cd5678-casemate" })).await, 403, "FORBIDDEN");
    assert_eq!(world.call_as(&tech, "GET", CHANGES, &Value::Null).await.body, ids, "none was asked for");
}

#[tokio::test]
async fn users_of_a_contact_may_of_its_part_what_its_policies_allow_and_the_project_does_not_deny() {
    let world = World::new().await;
    let tech = world.other_account("cd5678-casemate").await;
    let account: model::AccountId = "cd5678-casemate".parse().expect("an account");
    let new = identity::NewPerson { login: "bob".to_owned(), group: "DEFAULT".to_owned(), ..Default::default() };
    world.identity.create_person(&account, new, &audit::Actor::operator()).await.expect("a user");
    let bob = world.key_of_user_of(&account, "bob").await;
    let contacts = Contacts { admin: world.account.clone(), tech: account.clone(), billing: world.account.clone() };
    let mut tx = world.db.begin().await.expect("begun");
    db::contacts::set(&mut tx, &world.project, &contacts).await.expect("written");
    tx.commit().await.expect("committed");
    let (jobs, usage) = (world.path("/dataProcessing/jobs"), world.path("/usage/current"));
    refused(&world.call_as(&bob, "GET", &jobs, &Value::Null).await, 403, "FORBIDDEN");
    let (by, project) = ("urn:v1:eu:identity:user:cd5678-casemate/bob", &world.project);
    let project = format!("urn:v1:eu:resource:publicCloudProject:{project}");
    let explain = async |keys: &Credentials, identity: &str, action: &str| {
        let action = format!("publicCloudProject:apiovh:{action}/get");
        let body = json!({ "identity": identity, "action": action, "resource": project });
        world.call_as(keys, "POST", "/v2/iam/explain", &body).await
    };
    let told = async |keys: &Credentials| {
        let answer = explain(keys, by, "dataProcessing/jobs").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let names = answer.body["deciding"].as_array().expect("a list").iter().map(|one| one["name"].to_string());
        (answer.body["allowed"] == true, names.collect::<Vec<_>>(), answer.body["change"].to_string())
    };
    // Nothing speaks: each account hears what the other could say.
    let (allowed, names, change) = told(&tech).await;
    assert!(!allowed && names.is_empty() && change.contains("a policy of ab1234-casemate"), "{change}");
    let (allowed, names, change) = told(&world.keys).await;
    assert!(!allowed && names.is_empty() && change.contains("a policy of cd5678-casemate"), "{change}");
    let policy = |name: &str, permissions: Value| {
        json!({
            "name": name, "identities": ["urn:v1:eu:identity:user:cd5678-casemate/bob"],
            "resources": [{ "urn": format!("urn:v1:eu:resource:publicCloudProject:{}", world.project) }],
            "permissions": permissions,
        })
    };
    let all = json!({ "allow": [{ "action": "*" }] });
    let made = world.call_as(&tech, "POST", "/v2/iam/policy", &policy("all", all)).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    assert_eq!(world.call_as(&bob, "GET", &jobs, &Value::Null).await.status, StatusCode::OK);
    refused(&world.call_as(&bob, "GET", &usage, &Value::Null).await, 403, "FORBIDDEN");
    // Its own policies decide, and are told to its own account.
    let (allowed, names, _) = told(&tech).await;
    assert!(allowed && names == ["\"all\""], "{names:?}");
    let (allowed, names, change) = told(&world.keys).await;
    assert!(allowed && names.is_empty() && change.contains("told to that account alone"), "{names:?} {change}");
    let whole = explain(&world.keys, by, "dataProcessing/jobs").await.text;
    assert!(!whole.contains("\"all\""), "{whole}");
    let facts = identity::Facts { at: Timestamp::now(), source_ip: None };
    let jobs_get = "publicCloudProject:apiovh:dataProcessing/jobs/get";
    let asked = world.identity.asked(by, &[], jobs_get, &project, facts, None).await.expect("asked");
    let of_operator = world.identity.explain(&asked, None, &identity::BucketRules::default()).await.expect("explained");
    assert_eq!(of_operator.deciding.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["all"]);
    // Beyond its part its policies say nothing.
    assert_eq!(explain(&tech, by, "usage/current").await.body["allowed"], false);
    // The account itself does its part without a policy, and no more.
    for (action, may) in [("dataProcessing/jobs", true), ("usage/current", false), ("logs", false)] {
        let answer = explain(&tech, "urn:v1:eu:identity:account:cd5678-casemate", action).await;
        assert_eq!(answer.body["allowed"], may, "{action}: {answer:?}");
    }
    // A contact hears of its own people alone, a stranger of nobody.
    let stranger = world.other_account("ef9012-casemate").await;
    let of_admin = "urn:v1:eu:identity:account:ab1234-casemate";
    for (keys, whom) in [(&tech, of_admin), (&stranger, by), (&stranger, "urn:v1:eu:identity:account:ef9012-casemate")]
    {
        refused(&explain(keys, whom, "dataProcessing/jobs").await, 404, "NOT_FOUND");
    }
    // Of a call on the object store the administrative contact alone hears what decided.
    let resource = format!("project/{}/bucket/code", world.project);
    let mut entry = audit::Entry::new(audit::Actor::system(), "s3:ListBucket", resource);
    entry.decision = audit::Decision::Refused;
    entry.request_id = Some("of-the-store".to_owned());
    entry.detail = json!({ "reason": "IAM: denied by policy 'theirs'" });
    world.audit.record(entry).await.expect("recorded");
    let by_id = json!({ "requestId": "of-the-store" });
    for keys in [&tech, &stranger] {
        refused(&world.call_as(keys, "POST", "/v2/iam/explain", &by_id).await, 404, "NOT_FOUND");
    }
    let heard = world.call_as(&world.keys, "POST", "/v2/iam/explain", &by_id).await;
    assert!(heard.status == StatusCode::BAD_REQUEST && heard.text.contains("'theirs'"), "{heard:?}");
    let no = json!({ "deny": [{ "action": "*jobs/get" }] });
    world.done("POST", "/v2/iam/policy", &policy("not bob", no)).await;
    refused(&world.call_as(&bob, "GET", &jobs, &Value::Null).await, 403, "FORBIDDEN");
    let (allowed, names, _) = told(&world.keys).await;
    assert!(!allowed && names == ["\"not bob\""], "{names:?}");
    let (allowed, names, change) = told(&tech).await;
    assert!(!allowed && names.is_empty() && change.contains("policies of ab1234-casemate decide"), "{change}");
    assert_eq!(world.call_as(&bob, "GET", &world.path("/user"), &Value::Null).await.status, StatusCode::OK);
}

#[tokio::test]
async fn whether_another_account_has_a_user_or_a_group_and_of_which_role_is_not_told() {
    let world = World::new().await;
    let theirs = world.other_account("cd5678-casemate").await;
    let account: model::AccountId = "cd5678-casemate".parse().expect("an account");
    for (login, group) in [("alice", "ADMIN"), ("bob", "DEFAULT")] {
        let new = identity::NewPerson { login: login.to_owned(), group: group.to_owned(), ..Default::default() };
        world.identity.create_person(&account, new, &audit::Actor::operator()).await.expect("a user");
    }
    let contacts = Contacts { admin: world.account.clone(), tech: account.clone(), billing: account };
    let mut tx = world.db.begin().await.expect("begun");
    db::contacts::set(&mut tx, &world.project, &contacts).await.expect("written");
    tx.commit().await.expect("committed");
    let own = "urn:v1:eu:resource:account:ab1234-casemate".to_owned();
    let project = format!("urn:v1:eu:resource:publicCloudProject:{}", world.project);
    let jobs = "publicCloudProject:apiovh:dataProcessing/jobs/get";
    let at = Timestamp::now().to_string();
    let explain = async |keys: &Credentials, resource: &str, action: &str, who: &str, groups: &[String]| {
        let body = json!({ "identity": who, "groups": groups, "action": action, "resource": resource, "at": at });
        let answer = world.call_as(keys, "POST", "/v2/iam/explain", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer
    };
    let urn = |kind: &str, name: &str| format!("urn:v1:eu:identity:{kind}:cd5678-casemate/{name}");
    for (resource, action) in [(&own, "account:apiovh:me/get"), (&project, jobs)] {
        let mut said = Vec::new();
        for login in ["alice", "bob", "nobody"] {
            let who = urn("user", login);
            said.push(explain(&world.keys, resource, action, &who, &[]).await.text.replace(&who, "WHO"));
        }
        assert!(!said[0].contains(":group:") && said.iter().all(|text| *text == said[0]), "{said:?}");
        let (mut said, mut of_users) = (Vec::new(), Vec::new());
        for name in ["ADMIN", "DEFAULT", "missing"] {
            let group = urn("group", name);
            said.push(explain(&world.keys, resource, action, &group, &[]).await.text.replace(&group, "WHO"));
            let told = explain(&world.keys, resource, action, &urn("user", "bob"), std::slice::from_ref(&group)).await;
            of_users.push(told.text.replace(&group, "GROUP"));
        }
        assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
        assert!(of_users.iter().all(|text| *text == of_users[0]), "{of_users:?}");
    }
    // That it could be is said, and the account itself hears all.
    let told = explain(&world.keys, &project, jobs, &urn("user", "nobody"), &[]).await.body;
    let change = told["change"].to_string();
    assert!(told["allowed"] == false && change.contains("role ADMIN of cd5678-casemate"), "{change}");
    let told = explain(&theirs, &project, jobs, &urn("user", "alice"), &[]).await.body;
    assert_eq!((&told["allowed"], &told["identities"][1]), (&json!(true), &json!(urn("group", "ADMIN"))));
    let facts = identity::Facts { at: Timestamp::now(), source_ip: None };
    let asked = world.identity.asked(&urn("user", "alice"), &[], jobs, &project, facts, None).await.expect("asked");
    assert_eq!(asked.identities[1], urn("group", "ADMIN"), "the operator hears of all");
}
