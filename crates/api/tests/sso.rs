//! Single sign-on from outside: the provider of an account, and what a browser is sent and given (CTL-3).

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::{StatusCode, header};
use identity::{NewPerson, NewSession, Opener, Refusal};
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{Answer, World, form, get, refused, refused_field};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const PROVIDER: &str = "/1.0/me/identity/provider/oidc";
const SECRET: &str = "the secret at the provider";

/// A provider that gives its metadata and nothing else; its issuer.
async fn provider() -> String {
    provider_with(|_| None).await
}

/// A provider that vouches for a person: for any code it gives these claims, signed. Its issuer, and the claims.
async fn vouching() -> (String, Arc<Mutex<Value>>) {
    let claims = Arc::new(Mutex::new(Value::Null));
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = key.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
    let keys = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one", "x": x, "y": y }] });
    let given = Arc::clone(&claims);
    let answer = move |request: &str| match request.split(' ').nth(1) {
        Some("/keys") => Some(keys.to_string()),
        Some("/token") => {
            let head = BASE64.encode(json!({ "alg": "ES256", "kid": "one" }).to_string());
            let signed = format!("{head}.{}", BASE64.encode(given.lock().expect("claims").to_string()));
            let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
            let token = format!("{signed}.{}", BASE64.encode(signature.as_ref()));
            Some(json!({ "token_type": "Bearer", "access_token": "x", "id_token": token }).to_string())
        }
        _ => None,
    };
    (provider_with(answer).await, claims)
}

/// A provider that gives its metadata, and what `answer` has for any other request.
async fn provider_with(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let issuer = format!("http://{}", listener.local_addr().expect("an address"));
    let metadata = json!({ "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys") });
    let metadata = metadata.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = whole(&mut stream).await;
            let is_known = request.starts_with("GET /.well-known/openid-configuration ");
            let body = if is_known { Some(metadata.clone()) } else { answer(&request) };
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    issuer
}

/// A request with its body, as far as it comes.
async fn whole(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    loop {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).await.unwrap_or(0);
        request.push_str(&String::from_utf8_lossy(&part[..length]));
        let is_whole = request.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok();
            body.len() >= head.lines().find_map(length).unwrap_or(0)
        });
        if is_whole || length == 0 {
            return request;
        }
    }
}

async fn begin(world: &World, fields: &[(&str, &str)]) -> Answer {
    world.form("/console/sso", fields).await
}

fn value<'a>(answer: &'a Answer, name: &header::HeaderName) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn an_account_has_one_provider_whose_secret_is_never_shown() {
    let world = World::new().await;
    let issuer = provider().await;
    refused(&world.call("GET", PROVIDER, &Value::Null).await, 404, "NOT_FOUND");
    let body = json!({ "issuer": issuer, "clientId": "casemate", "clientSecret": SECRET });
    let made = world.done("POST", PROVIDER, &body).await;
    let read = world.done("GET", PROVIDER, &Value::Null).await;
    assert_eq!(made, read);
    for (name, value) in [
        ("issuer", json!(issuer)),
        ("clientId", json!("casemate")),
        ("hasClientSecret", json!(true)),
        ("scopes", json!(["openid", "profile", "email"])),
        ("userClaim", json!("preferred_username")),
        ("groupClaim", json!("groups")),
        ("disableUsers", json!(false)),
        ("redirectUri", json!("https://api.example.org/console/sso/oidc/callback")),
    ] {
        assert_eq!(read[name], value, "{name}");
    }
    refused(&world.call("POST", PROVIDER, &body).await, 409, "CONFLICT");

    world.done("PUT", PROVIDER, &json!({ "groupClaim": "roles", "scopes": ["openid"] })).await;
    let changed = world.done("GET", PROVIDER, &Value::Null).await;
    assert_eq!((&changed["groupClaim"], &changed["scopes"]), (&json!("roles"), &json!(["openid"])));
    assert_eq!(changed["hasClientSecret"], true, "what is absent stays");
    world.done("PUT", PROVIDER, &json!({ "clientSecret": null })).await;
    assert_eq!(world.done("GET", PROVIDER, &Value::Null).await["hasClientSecret"], false);

    for (body, field) in [
        (json!({ "issuer": "http://192.0.2.1/realms/a" }), "issuer"),
        (json!({ "issuer": format!("{issuer}/other") }), "issuer"),
        (json!({ "clientId": "" }), "clientId"),
        (json!({ "clientSecret": "" }), "clientSecret"),
        (json!({ "scopes": [] }), "scopes"),
        (json!({ "userClaim": "" }), "userClaim"),
    ] {
        refused_field(&world.call("PUT", PROVIDER, &body).await, field);
    }
    assert_eq!(world.done("GET", PROVIDER, &Value::Null).await["groupClaim"], "roles", "nothing was changed");
    world.done("DELETE", PROVIDER, &Value::Null).await;
    refused(&world.call("DELETE", PROVIDER, &Value::Null).await, 404, "NOT_FOUND");
    assert!(!world.whole_log().await.contains(SECRET), "a secret is in the audit log");
}

#[tokio::test]
async fn who_is_no_administrator_cannot_say_who_vouches_for_people() {
    let world = World::new().await;
    let issuer = provider().await;
    let new = NewPerson { login: "eve".to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&world.account, new, &audit::Actor::operator()).await.expect("a user");
    let policy = json!({
        "name": "all", "identities": [format!("urn:v1:eu:identity:user:{}/eve", world.account)],
        "resources": [{ "urn": format!("urn:v1:eu:resource:account:{}", world.account) }],
        "permissions": { "allow": [{ "action": "account:*" }] },
    });
    world.done("POST", "/v2/iam/policy", &policy).await;
    let eve = world.key_of_user("eve").await;
    let body = json!({ "issuer": issuer, "clientId": "casemate" });
    assert_eq!(world.call_as(&eve, "POST", PROVIDER, &body).await.status, StatusCode::FORBIDDEN);
    world.done("POST", PROVIDER, &body).await;
    assert_eq!(world.call_as(&eve, "GET", PROVIDER, &Value::Null).await.status, StatusCode::OK);
    assert_eq!(world.call_as(&eve, "PUT", PROVIDER, &json!({})).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.call_as(&eve, "DELETE", PROVIDER, &Value::Null).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_browser_is_sent_on_by_a_page_of_ours_alone_and_is_known_by_its_cookie() {
    let world = World::new().await;
    let issuer = provider().await;
    let account = world.account.to_string();
    for unknown in [account.as_str(), "zz9999-casemate", "", "a/b/c", &"a".repeat(1000)] {
        let answer = begin(&world, &[("account", unknown)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{unknown}");
        assert!(answer.headers.get(header::SET_COOKIE).is_none());
    }
    world.done("POST", PROVIDER, &json!({ "issuer": issuer, "clientId": "casemate" })).await;
    for typed in [account.clone(), format!("{account}/idp"), format!(" {account} ")] {
        let answer = begin(&world, &[("account", &typed), ("back", "//evil.example/console")]).await;
        assert_eq!(answer.status, StatusCode::OK, "{typed}: {answer:?}");
        let onward = value(&answer, &header::REFRESH);
        assert!(onward.starts_with(&format!("0;url={issuer}/auth?response_type=code")), "{onward}");
        assert!(!onward.contains("evil"), "{onward}");
        let cookie = value(&answer, &header::SET_COOKIE);
        let (pair, attributes) = cookie.split_once(';').expect("attributes");
        assert_eq!(pair.len(), "__Host-casemate-sso=".len() + 64, "{cookie}");
        assert_eq!(attributes, " Max-Age=600; Path=/; HttpOnly; Secure; SameSite=Lax");
    }
    let mut foreign = form("/console/sso", &format!("account={account}"));
    foreign.headers_mut().insert("sec-fetch-site", header::HeaderValue::from_static("cross-site"));
    assert_eq!(world.send(foreign).await.status, StatusCode::FORBIDDEN);
    let page = world.send(get("/console/sso?account=%22%3E%3Cb%3E&back=%22%3E%3Cb%3E")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text.contains("<b>"), "{}", page.text);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_opens_no_session_and_is_not_in_the_log() {
    let world = World::new().await;
    let issuer = provider().await;
    world.done("POST", PROVIDER, &json!({ "issuer": issuer, "clientId": "casemate" })).await;
    let begun = begin(&world, &[("account", world.account.as_str())]).await;
    let onward: url::Url =
        value(&begun, &header::REFRESH).strip_prefix("0;url=").expect("onward").parse().expect("a URL");
    let state = onward.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    let cookie = value(&begun, &header::SET_COOKIE).split(';').next().expect("a pair").to_owned();
    let answer = async |query: &str, cookie: &str| {
        let mut request = get(&format!("/console/sso/oidc/callback?{query}"));
        request.headers_mut().insert("cookie", cookie.parse().expect("a value"));
        world.send(request).await
    };
    let good = format!("state={state}&code=a-code-that-is-good-once&session_state=x");
    for (query, cookie) in [
        ("", ""),
        (good.as_str(), ""),
        (good.as_str(), "casemate-sso=x; other=y"),
        (good.as_str(), "__Host-casemate-sso="),
        ("state=x&code=a-code-that-is-good-once", cookie.as_str()),
    ] {
        let page = answer(query, cookie).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{query} {cookie}: {page:?}");
        assert!(page.text.contains("not begun in this browser"), "{page:?}");
        assert!(
            !page
                .headers
                .get_all(header::SET_COOKIE)
                .iter()
                .any(|kept| kept.as_bytes().starts_with(b"__Host-casemate="))
        );
    }
    assert_eq!(answer(&format!("{good}&state=y"), &cookie).await.status, StatusCode::BAD_REQUEST);
    // The one that was begun: the provider gives nothing for the code, and says so.
    let page = answer(&good, &format!("a=b; {cookie}")).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.text.contains("the provider cannot be used"), "{page:?}");
    assert!(value(&page, &header::SET_COOKIE).starts_with("__Host-casemate-sso=; Max-Age=0;"));
    assert!(answer(&good, &cookie).await.text.contains("not begun"), "it was good once");
    let log = world.whole_log().await;
    for secret in ["a-code-that-is-good-once", state.as_str(), cookie.split_once('=').expect("a pair").1] {
        assert!(!log.contains(secret), "{secret} is in the audit log");
    }
    assert!(log.contains("account.user.loginFailed"));
}

#[tokio::test]
async fn a_log_in_ends_the_session_that_the_browser_had_in_however_many_headers_its_cookies_come() {
    let world = World::new().await;
    let (issuer, claims) = vouching().await;
    world.done("POST", PROVIDER, &json!({ "issuer": issuer, "clientId": "casemate" })).await;
    let new = NewPerson { login: "eve".to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
    world.identity.create_person(&world.account, new, &audit::Actor::operator()).await.expect("a user");
    let eve = world.identity.person(&world.account, "eve").await.expect("read").expect("there");
    let who = Opener::User { id: eve.id, login: eve.login, password_set: eve.password_updated };
    let new = NewSession { account: &world.account, who: &who, factor: None, from: None, user_agent: "a browser" };
    let old = world.identity.open_session(&new).await.expect("opened");

    let begun = begin(&world, &[("account", world.account.as_str())]).await;
    let onward: url::Url =
        value(&begun, &header::REFRESH).strip_prefix("0;url=").expect("onward").parse().expect("a URL");
    let query: HashMap<String, String> = onward.query_pairs().into_owned().collect();
    let now = Timestamp::now().as_second();
    *claims.lock().expect("claims") = json!({ "iss": issuer, "aud": "casemate", "sub": "0a1b", "iat": now,
        "exp": now + 300, "nonce": query["nonce"], "preferred_username": "alice", "groups": ["DEFAULT"] });
    let mut request = get(&format!("/console/sso/oidc/callback?state={}&code=x", query["state"]));
    let kept = value(&begun, &header::SET_COOKIE).split(';').next().expect("a pair").to_owned();
    // As browsers do by HTTP/2.
    for cookie in [format!("__Host-casemate={}", *old.secret), "other=y".to_owned(), kept] {
        request.headers_mut().append(header::COOKIE, cookie.parse().expect("a value"));
    }
    let answer = world.send(request).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    let mut set = answer.headers.get_all(header::SET_COOKIE).iter().map(|set| set.to_str().expect("text"));
    let session = set.find_map(|set| set.strip_prefix("__Host-casemate=")?.split(';').next()).expect("a session");
    let (identity, now) = (&world.identity, Timestamp::now());
    assert!(identity.authenticate_session(session, None, now).await.is_ok());
    let ended = identity.authenticate_session(&old.secret, None, now).await;
    assert!(matches!(ended, Err(Refusal::InvalidSession)), "{ended:?}");
    assert!(world.whole_log().await.contains("account.session.ended"));
}
