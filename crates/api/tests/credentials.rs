//! All that is good, in one list, and the end of each kind of it (CTL-5).

mod support;

use axum::body::Body;
use http::{Request, StatusCode};
use identity::{ClientText, Error, Live, NewPerson};
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{BASE, Credentials, World, refused, refused_field, signed};

async fn listed(world: &World, kind: &str) -> Vec<Live> {
    let all = world.identity.live_credentials(Some(&world.account)).await.expect("listed");
    all.into_iter().filter(|live| live.kind == kind).collect()
}

#[tokio::test]
async fn each_kind_is_listed_with_its_last_use_and_ends_at_once() {
    let world = World::new().await;
    let (identity, by) = (&world.identity, audit::Actor::operator());
    let new = NewPerson { login: "root".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
    identity.create_person(&world.account, new, &by).await.expect("a user");
    let link = identity.create_setup(&world.account, "root", &by).await.expect("a link");
    let of_user = world.key_of_user("root").await;
    let text = ClientText { name: "ci".to_owned(), ..ClientText::default() };
    let client = identity.create_client(&world.account, text, &by).await.expect("a client");
    let token = identity.issue_token(&client.client.id, &client.secret, None).await.expect("asked").expect("a token");
    let user = identity.create_user_with_password(&world.project, "d", &[], &by).await.expect("a user");
    let key = identity.create_s3_key(&world.project, Some(user.user.id), &by).await.expect("a key");
    let grant = identity.find_s3_key(&key.access).await.expect("read").expect("there");
    let session = identity.session_token(&grant, Some(900), &by).await.expect("a session");
    let user_token = identity.make_user_token(&world.project, user.user.id, &by).await.expect("a token");

    // Each is used, and then listed with that.
    let own = || signed(&world.keys, "GET", "/1.0/auth/details", "", Timestamp::now().as_second());
    let users = || signed(&of_user, "GET", "/1.0/auth/details", "", Timestamp::now().as_second());
    let by_token = || {
        let request = Request::builder().uri("/1.0/auth/details");
        request.header("authorization", format!("Bearer {}", *token.token)).body(Body::empty()).expect("a request")
    };
    for request in [own(), users(), by_token()] {
        assert_eq!(world.send(request).await.status, StatusCode::OK);
    }
    identity.note_s3_use(&grant);
    let of_session = identity.find_s3_key(&session.access).await.expect("read").expect("there");
    identity.note_s3_use(&of_session);
    assert!(identity.find_user_token(&user_token.token).await.expect("read").is_some());
    identity.flush().await.expect("written");
    let all = identity.live_credentials(None).await.expect("listed");
    let kinds: Vec<&str> = all.iter().map(|live| live.kind.as_str()).collect();
    assert_eq!(kinds, ["client", "key", "key", "s3", "session", "setup", "token", "user-token"]);
    for live in &all {
        assert_eq!(live.account, world.account);
        assert_eq!(live.last_use.is_some(), live.kind != "setup", "{live:?}");
        let ends = matches!(live.kind.as_str(), "session" | "setup" | "token" | "user-token");
        assert_eq!(live.expires.is_some(), ends, "{live:?}");
    }
    let secrets = [&client.secret, &token.token, &key.secret, &user_token.token, &link.token];
    let shown = format!("{all:?}");
    assert!(secrets.iter().all(|secret| !shown.contains(secret.as_str())), "{shown}");
    let other = "cd5678-casemate".parse().expect("an account");
    assert!(identity.live_credentials(Some(&other)).await.expect("listed").is_empty());

    // The dependent ones first: the end of what made them would be theirs too.
    for kind in ["user-token", "token", "session", "s3", "client", "setup"] {
        let one = listed(&world, kind).await.pop().expect("listed");
        identity.revoke(kind, &one.id, &by).await.unwrap_or_else(|fault| panic!("{kind}: {fault}"));
        assert!(listed(&world, kind).await.is_empty(), "{kind}");
        let again = identity.revoke(kind, &one.id, &by).await;
        assert!(matches!(again, Err(Error::NotFound { .. })), "{kind}: {again:?}");
    }
    assert!(identity.find_user_token(&user_token.token).await.expect("read").is_none());
    assert!(identity.find_s3_key(&session.access).await.expect("read").is_none());
    assert!(identity.find_s3_key(&key.access).await.expect("read").is_none());
    assert_eq!(world.send(by_token()).await.status, StatusCode::UNAUTHORIZED);
    assert!(identity.issue_token(&client.client.id, &client.secret, None).await.expect("asked").is_none());
    assert!(identity.find_setup(&link.token).await.expect("read").is_none());
    let of_root = listed(&world, "key").await.into_iter().find(|live| live.holder == "root").expect("listed");
    identity.revoke("key", &of_root.id, &by).await.expect("ended");
    assert_eq!(world.send(users()).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.send(own()).await.status, StatusCode::OK, "another stays");
    for (kind, id) in [("key", "x"), ("key", "999"), ("token", "zz"), ("token", ""), ("nothing", "1"), ("s3", "")] {
        assert!(matches!(identity.revoke(kind, id, &by).await, Err(Error::NotFound { .. })), "{kind}:{id}");
    }
    assert!(world.whole_log().await.contains("credential.revoked"));
    assert_eq!(world.call("GET", "/1.0/me", &Value::Null).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_list_is_in_the_api_and_nobody_ends_what_is_anothers() {
    let world = World::new().await;
    let other = world.other_account("cd5678-casemate").await;
    let spare = world.key(&[("GET", "/auth/*")]).await;
    let current = world.call_as(&spare, "GET", "/1.0/auth/currentCredential", &Value::Null).await;
    let path = format!("/1.0/me/api/live/key/{}", current.body["credentialId"]);
    let live = world.done("GET", "/1.0/me/api/live", &Value::Null).await;
    let ids: Vec<&Value> = live.as_array().expect("a list").iter().map(|one| &one["id"]).collect();
    assert!(ids.contains(&&Value::from(current.body["credentialId"].to_string())), "{live}");
    let theirs = world.call_as(&other, "GET", "/1.0/me/api/live", &Value::Null).await;
    assert_eq!(theirs.body.as_array().map(Vec::len), Some(1), "{theirs:?}");
    refused(&world.call_as(&other, "DELETE", &path, &Value::Null).await, 404, "NOT_FOUND");
    let wrong_kind = path.replace("/key/", "/token/");
    refused(&world.call("DELETE", &wrong_kind, &Value::Null).await, 404, "NOT_FOUND");
    world.done("DELETE", &path, &Value::Null).await;
    let ended = world.call_as(&spare, "GET", "/1.0/auth/currentCredential", &Value::Null).await;
    refused(&ended, 403, "INVALID_CREDENTIAL");
    refused(&world.call("DELETE", &path, &Value::Null).await, 404, "NOT_FOUND");
    // Sessions are of users who log in, and only they grant by them.
    assert_eq!(world.done("GET", "/1.0/me/api/session", &Value::Null).await, json!([]));
    refused(&world.call("DELETE", "/1.0/me/api/session/1", &Value::Null).await, 404, "NOT_FOUND");
    let asked = world.identity.applications(Some(&world.account)).await.expect("listed").remove(0);
    let request = identity::CredentialRequest { rules: identity::AccessRule::everything(), ..Default::default() };
    let pending = world.identity.request_credential(&asked, &request, &audit::Actor::operator()).await.expect("asked");
    for what in ["grant", "refuse"] {
        let path = format!("/1.0/auth/validate/{}/{what}", *pending.token);
        refused(&world.call("POST", &path, &Value::Null).await, 403, "FORBIDDEN");
    }
    assert!(world.identity.pending(&pending.token).await.expect("read").is_some());
}

/// A key of an application that another key grants, and its number.
async fn granted_by(world: &World, granter: &Credentials, application: &Credentials) -> (Credentials, i64) {
    let rules = json!([{ "method": "GET", "path": "/*" }, { "method": "POST", "path": "/*" }]);
    let asked = world.call_as(application, "POST", "/1.0/auth/credential", &json!({ "accessRules": rules })).await.body;
    let page = asked["validationUrl"].as_str().expect("a URL").strip_prefix(BASE).expect("ours");
    let granted = world.call_as(granter, "POST", page, &Value::Null).await;
    assert_eq!(granted.status, StatusCode::OK, "{granted:?}");
    let consumer = asked["consumerKey"].as_str().expect("a key").to_owned();
    (Credentials { consumer, ..application.clone() }, granted.body["credentialId"].as_i64().expect("a number"))
}

#[tokio::test]
async fn a_key_ends_with_the_one_that_granted_it_however_that_ends() {
    let world = World::new().await;
    let (identity, by, none) = (&world.identity, audit::Actor::operator(), Value::Null);
    let new = NewPerson { login: "root".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
    identity.create_person(&world.account, new, &by).await.expect("a user");
    let root = identity.person(&world.account, "root").await.expect("read").expect("there");
    let current = async |keys: &Credentials| world.call_as(keys, "GET", "/1.0/auth/currentCredential", &none).await;
    for way in ["live", "credential", "logout", "operator", "application"] {
        let (first, other) = (world.key_of_user("root").await, world.key_of_user("root").await);
        let (second, b) = granted_by(&world, &first, &first).await;
        let (third, c) = granted_by(&world, &second, &other).await;
        let application = identity.application_by_key(&other.application).await.expect("read").expect("there");
        let request = identity::CredentialRequest { rules: identity::AccessRule::everything(), ..Default::default() };
        let pending = identity.request_credential(&application, &request, &by).await.expect("asked");
        identity.validate_as(&pending.token, &root, None, &by).await.expect("granted");
        let sibling = Credentials { consumer: pending.consumer_key.to_string(), ..other.clone() };
        for key in [&first, &second, &third, &sibling] {
            assert_eq!(current(key).await.status, StatusCode::OK, "{way}");
        }
        let own = current(&first).await.body;
        let a = own["credentialId"].as_i64().expect("a number");

        match way {
            "live" => drop(world.done("DELETE", &format!("/1.0/me/api/live/key/{a}"), &none).await),
            "credential" => drop(world.done("DELETE", &format!("/1.0/me/api/credential/{a}"), &none).await),
            "logout" => {
                let out = world.call_as(&first, "POST", "/1.0/auth/logout", &none).await;
                assert_eq!(out.status, StatusCode::OK, "{out:?}");
            }
            "operator" => identity.revoke("key", &a.to_string(), &by).await.expect("ended"),
            _ => {
                let path = format!("/1.0/me/api/application/{}", own["applicationId"]);
                world.done("DELETE", &path, &none).await;
            }
        }

        let (code, action, named) = match way {
            "application" => ("INVALID_KEY", "application.deleted", vec![a, b, c]),
            _ => ("INVALID_CREDENTIAL", "credential.expired", vec![b, c]),
        };
        refused(&current(&first).await, 403, code);
        refused(&current(&second).await, 403, code);
        refused(&current(&third).await, 403, "INVALID_CREDENTIAL");
        assert_eq!(current(&sibling).await.status, StatusCode::OK, "{way}: a person granted it");
        assert_eq!(current(&other).await.status, StatusCode::OK, "{way}");
        let details = async |action: &str| {
            let query = audit::Query { action: Some(action.to_owned()), limit: 5, ..audit::Query::default() };
            let rows = world.audit.list(&query).await.expect("rows");
            let read = |row: &audit::Row| serde_json::from_str::<Value>(&row.detail).expect("JSON");
            rows.iter().map(|row| (row.resource.clone(), read(row))).collect::<Vec<_>>()
        };
        let (_, detail) = details(action).await.remove(0);
        let mut ended: Vec<i64> = serde_json::from_value(detail["credentialsEnded"].clone()).expect("numbers");
        ended.sort_unstable();
        assert_eq!(ended, named, "{way}");
        let told = details("credential.validated").await;
        for (granted, granter) in [(b, a), (c, b)] {
            let entry = told.iter().find(|(resource, _)| *resource == format!("credential/{granted}"));
            assert_eq!(entry.expect("an entry").1["grantedBy"], granter, "{way}");
        }
    }
}

#[tokio::test]
async fn an_application_goes_with_its_keys_and_a_key_is_bound_to_other_addresses() {
    let world = World::new().await;
    let key = world.key(&[("GET", "/*"), ("PUT", "/*")]).await;
    let own = world.call_as(&key, "GET", "/1.0/auth/currentCredential", &Value::Null).await.body;
    let path = format!("/1.0/me/api/credential/{}", own["credentialId"]);
    let application = world.done("GET", &format!("{path}/application"), &Value::Null).await;
    assert_eq!((&application["applicationId"], &application["status"]), (&own["applicationId"], &json!("active")));
    assert_eq!(application["applicationKey"], json!(key.application));

    // One does not lock oneself out; another may be bound to wherever.
    let mut sent = own.clone();
    sent["allowedIPs"] = json!(["198.51.100.0/24"]);
    refused(&world.call_as(&key, "PUT", &path, &sent).await, 409, "CONFLICT");
    refused_field(&world.call("PUT", &path, &json!({ "allowedIPs": ["x"] })).await, "allowedIPs");
    assert_eq!(world.call_as(&key, "GET", "/1.0/me", &Value::Null).await.status, StatusCode::OK);
    world.done("PUT", &path, &sent).await;
    refused(&world.call_as(&key, "GET", "/1.0/me", &Value::Null).await, 403, "FORBIDDEN");
    assert_eq!(world.done("GET", &path, &Value::Null).await["allowedIPs"], sent["allowedIPs"]);
    world.done("PUT", &path, &json!({ "allowedIPs": null })).await;
    assert_eq!(world.call_as(&key, "GET", "/1.0/me", &Value::Null).await.status, StatusCode::OK);

    let application = format!("/1.0/me/api/application/{}", own["applicationId"]);
    let other = world.other_account("cd5678-casemate").await;
    refused(&world.call_as(&other, "DELETE", &application, &Value::Null).await, 404, "NOT_FOUND");
    refused(&world.call_as(&other, "PUT", &path, &json!({ "allowedIPs": null })).await, 404, "NOT_FOUND");
    world.done("DELETE", &application, &Value::Null).await;
    refused(&world.call_as(&key, "GET", "/1.0/me", &Value::Null).await, 403, "INVALID_KEY");
    refused(&world.call("DELETE", &application, &Value::Null).await, 404, "NOT_FOUND");
    refused(&world.call("GET", &path, &Value::Null).await, 404, "NOT_FOUND");
    assert!(world.whole_log().await.contains("application.deleted"));
}

#[tokio::test]
async fn a_user_changes_its_password_by_the_one_it_has_and_keeps_the_key_it_asks_by() {
    let world = World::new().await;
    let (first, second) = ("correct horse battery staple", "eleven blue whales sing");
    let by = audit::Actor::operator();
    let new = NewPerson { login: "alice".to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&world.account, new, &by).await.expect("a user");
    let link = world.identity.create_setup(&world.account, "alice", &by).await.expect("a link");
    world.identity.use_setup(&link.token, first.to_owned().into(), &by).await.expect("set");
    let (asking, another) = (world.key_of_user("alice").await, world.key_of_user("alice").await);
    let path = "/1.0/me/changePassword";
    let body = |current: &str, new: &str| json!({ "currentPassword": current, "newPassword": new });
    refused(&world.call_as(&asking, "POST", path, &body("wrong", second)).await, 403, "FORBIDDEN");
    refused(&world.call("POST", path, &body(first, second)).await, 403, "FORBIDDEN");
    for bad in [first, "short", "passwordpassword"] {
        refused_field(&world.call_as(&asking, "POST", path, &body(first, bad)).await, "newPassword");
    }
    assert_eq!(world.call_as(&another, "GET", "/1.0/cloud/project", &Value::Null).await.status, StatusCode::OK);
    assert_eq!(world.call_as(&asking, "POST", path, &body(first, second)).await.status, StatusCode::OK);
    refused(&world.call_as(&asking, "POST", path, &body(first, second)).await, 403, "FORBIDDEN");
    let gone = world.call_as(&another, "GET", "/1.0/cloud/project", &Value::Null).await;
    refused(&gone, 403, "INVALID_CREDENTIAL");
    let log = world.whole_log().await;
    assert!(log.contains("USER_PASSWORD_CHANGED") && !log.contains(first) && !log.contains(second));
}
