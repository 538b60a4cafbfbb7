//! From where an account is reached, from outside: each kind of credential, and who would lock itself out (CTL-6).

mod support;

use axum::body::Body;
use http::{Request, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{HERE, World, refused, refused_field, signed};

const RULES: &str = "/1.0/me/accessRestriction/ip";
const DEFAULT: &str = "/1.0/me/accessRestriction/ipDefaultRule";

fn rule(ip: &str, rule: &str) -> Value {
    json!({ "ip": ip, "rule": rule, "warning": false })
}

#[tokio::test]
async fn rules_live_as_the_old_service_says() {
    let world = World::new().await;
    assert_eq!(world.done("GET", RULES, &Value::Null).await, json!([]));
    assert_eq!(world.done("GET", DEFAULT, &Value::Null).await, json!({ "rule": "accept", "warning": false }));
    assert_eq!(world.done("POST", RULES, &rule("198.51.100.7/24", "deny")).await, Value::Null);
    world.done("POST", RULES, &rule("2001:db8::1", "accept")).await;
    refused(&world.call("POST", RULES, &rule("198.51.100.0/24", "accept")).await, 409, "CONFLICT");
    let ids = world.done("GET", RULES, &Value::Null).await;
    let one = format!("{RULES}/{}", ids[0]);
    let read = world.done("GET", &one, &Value::Null).await;
    assert_eq!(read, json!({ "id": ids[0], "ip": "198.51.100.0/24", "rule": "deny", "warning": false }));
    assert_eq!(world.done("GET", &format!("{RULES}/{}", ids[1]), &Value::Null).await["ip"], "2001:db8::1/128");
    world.done("PUT", &one, &json!({ "rule": "accept", "warning": true, "ip": "0.0.0.0/0" })).await;
    let read = world.done("GET", &one, &Value::Null).await;
    assert_eq!(read, json!({ "id": ids[0], "ip": "198.51.100.0/24", "rule": "accept", "warning": true }));
    world.done("DELETE", &one, &Value::Null).await;
    refused(&world.call("GET", &one, &Value::Null).await, 404, "NOT_FOUND");
    for (field, body) in [
        ("ip", rule("somewhere", "deny")),
        ("ip", rule("192.0.2.0/33", "deny")),
        ("rule", rule("198.51.100.0/24", "maybe")),
    ] {
        refused_field(&world.call("POST", RULES, &body).await, field);
    }
    refused_field(&world.call("PUT", DEFAULT, &json!({ "rule": "" })).await, "rule");
    // What is written as IPv4-mapped is the IPv4 block, and is shown as that.
    world.done("POST", RULES, &rule("::ffff:203.0.113.0/120", "deny")).await;
    refused(&world.call("POST", RULES, &rule("203.0.113.0/24", "deny")).await, 409, "CONFLICT");
    let ids = world.done("GET", RULES, &Value::Null).await;
    assert_eq!(world.done("GET", &format!("{RULES}/{}", ids[1]), &Value::Null).await["ip"], "203.0.113.0/24");
}

#[tokio::test]
async fn who_would_lock_itself_out_is_told_and_nothing_changes() {
    let world = World::new().await;
    let own = format!("{HERE}/32");
    for body in [rule(HERE, "deny"), rule("192.0.2.0/24", "deny"), rule("0.0.0.0/0", "deny")] {
        let answer = world.call("POST", RULES, &body).await;
        refused(&answer, 409, "CONFLICT");
        assert!(answer.body["message"].as_str().is_some_and(|text| text.contains(HERE)), "{answer:?}");
    }
    refused(&world.call("PUT", DEFAULT, &json!({ "rule": "deny" })).await, 409, "CONFLICT");
    assert_eq!(world.done("GET", RULES, &Value::Null).await, json!([]));
    assert_eq!(world.done("GET", DEFAULT, &Value::Null).await["rule"], "accept");
    // With the own address let in, the rest may go; then that rule may neither go nor change.
    world.done("POST", RULES, &rule(&own, "accept")).await;
    world.done("PUT", DEFAULT, &json!({ "rule": "deny", "warning": false })).await;
    let one = format!("{RULES}/{}", world.done("GET", RULES, &Value::Null).await[0]);
    refused(&world.call("DELETE", &one, &Value::Null).await, 409, "CONFLICT");
    refused(&world.call("PUT", &one, &json!({ "rule": "deny" })).await, 409, "CONFLICT");
    assert_eq!(world.done("GET", &one, &Value::Null).await["rule"], "accept");
}

#[tokio::test]
async fn no_credential_of_the_account_is_good_from_a_forbidden_address() {
    let world = World::new().await;
    let body = json!({ "name": "ci", "flow": "CLIENT_CREDENTIALS" });
    let client = world.done("POST", "/1.0/me/api/oauth2/client", &body).await;
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", client["clientId"].as_str().expect("an id")),
        ("client_secret", client["clientSecret"].as_str().expect("a secret")),
    ];
    let made = world.form("/auth/oauth2/token", &fields).await;
    let bearer = format!("Bearer {}", made.body["access_token"].as_str().expect("a token"));
    let user = json!({ "login": "root", "group": "ADMIN", "password": "correct horse battery staple" });
    world.done("POST", "/1.0/me/identity/user", &user).await;
    let of_user = world.key_of_user("root").await;
    world.done("POST", RULES, &rule("198.51.100.0/24", "deny")).await;

    let signed =
        |keys: &support::Credentials| signed(keys, "GET", "/1.0/auth/details", "", Timestamp::now().as_second());
    let by_token = || {
        let request = Request::builder().uri("/1.0/auth/details").header("authorization", &bearer);
        request.body(Body::empty()).expect("a request")
    };
    for (address, good) in
        [("198.51.100.9", false), ("::ffff:198.51.100.9", false), (HERE, true), ("203.0.113.1", true)]
    {
        for request in [signed(&world.keys), signed(&of_user), by_token()] {
            let answer = world.send_from(address, request).await;
            match good {
                true => assert_eq!(answer.status, StatusCode::OK, "{address}: {answer:?}"),
                false => refused(&answer, 403, "FORBIDDEN"),
            }
        }
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = world.send_from(address, support::form("/auth/oauth2/token", &text.join("&"))).await;
        assert_eq!(answer.status, if good { StatusCode::OK } else { StatusCode::UNAUTHORIZED }, "{address}");
    }
    // The right secret from a forbidden address is in the log of the account: it may be in the wrong hands.
    let query = audit::Query {
        account: Some(world.account.to_string()),
        action: Some("account.serviceAccount.loginFailed".to_owned()),
        limit: 10,
        ..audit::Query::default()
    };
    let rows = world.audit.list(&query).await.expect("rows");
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in rows {
        assert_eq!((row.decision.as_str(), row.source_ip.as_deref()), ("refused", Some("198.51.100.9")));
        assert_eq!(row.resource, format!("account/{}/oauth2/{}", world.account, fields[1].1));
        assert!(row.detail.contains("does not let that address in"), "{}", row.detail);
    }
    // The operator lifts it.
    assert_eq!(
        world.identity.lift_ip_restrictions(&world.account, &audit::Actor::operator()).await.expect("lifted"),
        1
    );
    assert_eq!(world.send_from("198.51.100.9", signed(&world.keys)).await.status, StatusCode::OK);
}
