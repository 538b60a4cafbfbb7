//! Service accounts from outside: their life, their tokens, and each way in which a token can be wrong (CTL-5).

mod support;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use support::{Answer, World, encoded, form, refused, refused_field};

const CLIENTS: &str = "/1.0/me/api/oauth2/client";
const TOKEN: &str = "/1.0/auth/oauth2/token";

async fn client(world: &World) -> (String, String) {
    let body = json!({ "name": "ci", "description": "d", "flow": "CLIENT_CREDENTIALS", "callbackUrls": [] });
    let made = world.done("POST", CLIENTS, &body).await;
    let text = |field: &str| made[field].as_str().expect("a text").to_owned();
    (text("clientId"), text("clientSecret"))
}

async fn ask(world: &World, id: &str, secret: &str) -> Answer {
    let fields = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret), ("scope", "all")];
    world.form(TOKEN, &fields).await
}

async fn token(world: &World, id: &str, secret: &str) -> String {
    let answer = ask(world, id, secret).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.body["access_token"].as_str().expect("a token").to_owned()
}

async fn call(world: &World, method: &str, path: &str, authorization: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("host", "api.example.org");
    let request = request.header("authorization", authorization).body(Body::empty()).expect("a request");
    world.send(request).await
}

fn invalid_client(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    assert_eq!(answer.body["error"], "invalid_client");
    assert!(answer.headers["www-authenticate"].to_str().expect("text").starts_with("Basic "));
}

fn invalid_token(answer: &Answer) {
    refused(answer, 401, "INVALID_CREDENTIAL");
    assert_eq!(answer.body["class"], "Client::Unauthorized");
    let scheme = answer.headers["www-authenticate"].to_str().expect("text");
    assert!(scheme.starts_with("Bearer ") && scheme.contains("invalid_token"), "{scheme}");
}

#[tokio::test]
async fn a_service_account_lives_as_the_old_service_says() {
    let world = World::new().await;
    assert_eq!(world.done("GET", CLIENTS, &Value::Null).await, json!([]));
    let (id, secret) = client(&world).await;
    assert_eq!((id.len(), secret.len()), (16, 32));
    assert_eq!(world.done("GET", CLIENTS, &Value::Null).await, json!([id]));
    let one = format!("{CLIENTS}/{id}");
    let read = world.done("GET", &one, &Value::Null).await;
    assert_eq!(read["identity"], format!("urn:v1:eu:identity:credential:{}/oauth2-{id}", world.account));
    let mut fields: Vec<&String> = read.as_object().expect("an object").keys().collect();
    fields.sort();
    assert_eq!(fields, ["callbackUrls", "clientId", "createdAt", "description", "flow", "identity", "name"]);
    let mut changed = read.clone();
    changed["name"] = json!("other");
    changed["clientId"] = json!("x");
    world.done("PUT", &one, &changed).await;
    let again = world.done("GET", &one, &Value::Null).await;
    assert_eq!((&again["name"], &again["clientId"], &again["description"]), (&json!("other"), &json!(id), &json!("d")));
    for (field, body) in [
        ("flow", json!({ "name": "x", "flow": "AUTHORIZATION_CODE", "callbackUrls": ["https://a.example.org"] })),
        ("flow", json!({ "name": "x", "flow": "PASSWORD" })),
        ("name", json!({ "name": "", "flow": "CLIENT_CREDENTIALS" })),
        ("callbackUrls", json!({ "name": "x", "flow": "CLIENT_CREDENTIALS", "callbackUrls": ["javascript:x"] })),
    ] {
        refused_field(&world.call("POST", CLIENTS, &body).await, field);
    }
    world.done("DELETE", &one, &Value::Null).await;
    refused(&world.call("GET", &one, &Value::Null).await, 404, "NOT_FOUND");
    assert!(!world.whole_log().await.contains(&secret), "a secret is in the audit log");
}

#[tokio::test]
async fn a_token_is_given_for_id_and_secret_in_each_form_that_clients_have() {
    let world = World::new().await;
    let (id, secret) = client(&world).await;
    let answer = ask(&world, &id, &secret).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let body = &answer.body;
    assert_eq!(
        (&body["token_type"], &body["expires_in"], &body["scope"]),
        (&json!("Bearer"), &json!(3599), &json!("all"))
    );
    assert_eq!(answer.headers["cache-control"], "no-store");
    for path in ["/auth/oauth2/token", "/v1/auth/oauth2/token"] {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"));
        let mut request = form(path, "grant_type=client_credentials");
        request.headers_mut().insert("authorization", format!("Basic {basic}").parse().expect("a header"));
        let answer = world.send(request).await;
        assert!(answer.body["access_token"].is_string(), "{path}: {answer:?}");
    }
    // Who asks: one answer for what is not there and what is not right.
    let (other, _) = client(&world).await;
    let wrong = "0".repeat(32);
    for (id, secret) in [
        (id.as_str(), wrong.as_str()),
        (id.as_str(), ""),
        (other.as_str(), secret.as_str()),
        ("unknown", secret.as_str()),
        ("", secret.as_str()),
    ] {
        let answer = ask(&world, id, secret).await;
        invalid_client(&answer);
        assert_eq!(answer.text, ask(&world, "another", "x").await.text, "one answer for all");
    }
    let log = world.whole_log().await;
    assert!(log.contains("the secret is wrong") && log.contains("there is no such service account"), "{log}");
    for (text, error) in [
        (String::new(), "invalid_request"),
        (format!("grant_type=password&client_id={id}"), "unsupported_grant_type"),
        (format!("grant_type=client_credentials&client_id={id}&client_id={id}"), "invalid_request"),
        (
            format!("grant_type=client_credentials&client_id={id}&client_secret={}&scope=some", encoded(&secret)),
            "invalid_scope",
        ),
    ] {
        let answer = world.send(form(TOKEN, &text)).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (StatusCode::BAD_REQUEST, Some(error)), "{text}");
    }
    world.done("DELETE", &format!("{CLIENTS}/{id}"), &Value::Null).await;
    invalid_client(&ask(&world, &id, &secret).await);
}

#[tokio::test]
async fn a_token_is_its_service_account_which_may_nothing_until_a_policy_says_so() {
    let world = World::new().await;
    let (id, secret) = client(&world).await;
    let token = token(&world, &id, &secret).await;
    let bearer = format!("Bearer {token}");
    assert_eq!(call(&world, "GET", "/1.0/cloud/project", &bearer).await.body, json!([]), "it sees none");
    for path in ["/1.0/me", CLIENTS, &world.path("")] {
        let answer = call(&world, "GET", path, &bearer).await;
        refused(&answer, 403, "FORBIDDEN");
        assert_eq!(answer.body["message"], "User not granted for this request", "{path}");
        assert_eq!(answer.body["class"], "Client::Forbidden");
    }
    let details = call(&world, "GET", "/1.0/auth/details", &bearer).await.body;
    assert_eq!(details["method"], "oauth2_client_credentials");
    assert_eq!(details["identities"], json!([format!("urn:v1:eu:identity:credential:{}/oauth2-{id}", world.account)]));
    refused(&call(&world, "GET", "/1.0/auth/currentCredential", &bearer).await, 404, "NOT_FOUND");

    let altered = format!("Bearer {}{}", &token[..63], if token.ends_with('0') { '1' } else { '0' });
    for wrong in
        ["Bearer", "Bearer ", "Bearer x", &altered, &format!("Bearer {secret}"), &format!("Bearer {token}{token}")]
    {
        let answer = call(&world, "GET", "/1.0/auth/details", wrong).await;
        match wrong.contains(' ') {
            true => invalid_token(&answer),
            false => refused(&answer, 403, "INVALID_KEY"),
        }
    }
    // A token beside a signature does not help the signature.
    let mut request = support::signed(&world.keys, "GET", "/1.0/me", "", 0);
    request.headers_mut().insert("authorization", bearer.parse().expect("a header"));
    refused(&world.send(request).await, 403, "INVALID_CREDENTIAL");

    let log = world.whole_log().await;
    assert!(log.contains(&format!("oauth2/{id}")) && !log.contains(&token) && !log.contains(&secret));
    // It ends by its own log-out, and by the end of its service account.
    let other = self::token(&world, &id, &secret).await;
    assert_eq!(call(&world, "POST", "/1.0/auth/logout", &bearer).await.status, StatusCode::OK);
    invalid_token(&call(&world, "GET", "/1.0/auth/details", &bearer).await);
    let other = format!("Bearer {other}");
    assert_eq!(call(&world, "GET", "/1.0/auth/details", &other).await.status, StatusCode::OK);
    world.done("DELETE", &format!("{CLIENTS}/{id}"), &Value::Null).await;
    invalid_token(&call(&world, "GET", "/1.0/auth/details", &other).await);
}

#[tokio::test]
async fn a_token_ends_with_its_hour() {
    let world = World::new().await;
    let (id, secret) = client(&world).await;
    let token = token(&world, &id, &secret).await;
    let (now, second) = (jiff::Timestamp::now(), jiff::SignedDuration::from_secs(1));
    let hour = jiff::SignedDuration::from_hours(1);
    assert!(world.identity.authenticate_token(&token, None, now + hour - second * 60).await.is_ok());
    let late = world.identity.authenticate_token(&token, None, now + hour + second).await;
    assert!(matches!(late, Err(identity::Refusal::InvalidToken)), "{late:?}");
    let gone = world.identity.remove_expired_s3_keys(now + hour + second).await.expect("removed");
    assert_eq!(gone, 1);
    assert!(world.identity.authenticate_token(&token, None, now).await.is_err());
}

#[tokio::test]
async fn a_service_account_of_another_account_does_not_exist() {
    let world = World::new().await;
    let by = audit::Actor::operator();
    let other = "cd5678-casemate".parse().expect("an account");
    world.identity.create_account(&other, "", "", &by).await.expect("an account");
    let text = identity::ClientText { name: "theirs".to_owned(), ..identity::ClientText::default() };
    let theirs = world.identity.create_client(&other, text, &by).await.expect("made").client.id;
    for (method, body) in [("GET", Value::Null), ("PUT", json!({ "name": "mine" })), ("DELETE", Value::Null)] {
        refused(&world.call(method, &format!("{CLIENTS}/{theirs}"), &body).await, 404, "NOT_FOUND");
    }
    assert_eq!(world.identity.client(&other, &theirs).await.expect("read").expect("there").name, "theirs");
}
