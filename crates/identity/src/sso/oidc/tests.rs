//! Log-ins by OpenID Connect at a provider of our own over a real connection: what gets in, and each way in which an attacker
//! does not. The provider binds codes to PKCE as real ones do.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use audit::{Actor, Audit, Query, Row};
use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use db::Db;
use jiff::Timestamp;
use keys::Keys;
use model::AccountId;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;
use zeroize::Zeroizing;

use super::*;
use crate::{
    CONSOLE, Error, FederatedPerson, GroupRole, Identity, IpRule, LogIn, LoggedIn, NewPerson, NewSession, Opener,
    ProviderKind, SSO_TIME, SsoBegun, SsoOutcome, SsoStart, SsoVisitor, random, sso::Reach,
};

const CLIENT: &str = "casemate";
const SECRET: &str = "the secret of the client: 100%";
const BASE: &str = "https://casemate.example.org";

/// How the provider answers.
struct Script {
    /// What differs from its true metadata.
    metadata: Value,
    keys: Vec<Value>,
    /// By code: the challenge that the browser brought, and the token.
    grants: HashMap<String, (String, String)>,
    /// What the token endpoint answers in place of a token.
    instead: Option<Instead>,
    /// Where something was asked for.
    asked: Vec<String>,
    /// How the client proved who it is.
    proofs: Vec<&'static str>,
}

#[derive(Clone, Copy)]
enum Instead {
    Nothing,
    TenMebibytes,
    Redirect,
    Garbage,
}

/// A provider.
struct Provider {
    issuer: String,
    script: Arc<Mutex<Script>>,
    key: EcdsaKeyPair,
}

impl Provider {
    async fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let issuer = format!("http://{}/realms/a", listener.local_addr().expect("an address"));
        let key = new_key();
        let script = Script {
            metadata: json!({}),
            keys: vec![jwk(&key, "one")],
            grants: HashMap::new(),
            instead: None,
            asked: Vec::new(),
            proofs: Vec::new(),
        };
        let script = Arc::new(Mutex::new(script));
        let (shared, own) = (Arc::clone(&script), issuer.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared), own.clone()));
            }
        });
        Provider { issuer, script, key }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn asked(&self, what: &str) -> usize {
        self.with(|script| script.asked.iter().filter(|asked| *asked == what).count())
    }

    /// The claims of a good token for that log-in.
    fn claims(&self, begun: &Begun) -> Value {
        let now = Timestamp::now().as_second();
        json!({ "iss": self.issuer, "aud": CLIENT, "sub": "0a1b", "exp": now + 300, "iat": now, "nonce": begun.nonce,
                "preferred_username": "alice", "groups": ["DEFAULT", "/elsewhere"] })
    }

    /// A token of these claims, signed by the provider's key.
    fn signed(&self, claims: &Value) -> String {
        self.signed_with(&json!({ "alg": "ES256", "kid": "one", "typ": "JWT" }), claims)
    }

    fn signed_with(&self, header: &Value, claims: &Value) -> String {
        jws(header, claims, |bytes| es256(&self.key, bytes))
    }

    /// Lets a person log in at the provider: the code that the browser carries back.
    fn grant(&self, begun: &Begun, token: String) -> String {
        let code = random::hex::<16>().expect("random").to_string();
        self.with(|script| script.grants.insert(code.clone(), (begun.challenge.clone(), token)));
        code
    }
}

/// Answers one request.
async fn answer(mut stream: TcpStream, script: Arc<Mutex<Script>>, issuer: String) {
    let mut request = Vec::new();
    let whole = loop {
        let mut part = [0; 4096];
        let Ok(length) = stream.read(&mut part).await else { return };
        request.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let announced =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= announced.unwrap_or(0) {
            break text;
        }
    };
    let (head, body) = whole.split_once("\r\n\r\n").expect("whole");
    let path = head.split(' ').nth(1).expect("a path").to_owned();
    let place = path.strip_prefix("/realms/a").expect("of the realm").to_owned();
    let (status, answer) = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        script.asked.push(place.clone());
        match place.as_str() {
            "/.well-known/openid-configuration" => {
                let mut metadata = json!({
                    "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth?realm=a"),
                    "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
                    "code_challenge_methods_supported": ["plain", "S256"],
                });
                for (name, value) in script.metadata.as_object().expect("members") {
                    metadata[name] = value.clone();
                }
                ("200 OK", metadata.to_string().into_bytes())
            }
            "/keys" => ("200 OK", json!({ "keys": script.keys }).to_string().into_bytes()),
            "/token" => match script.instead {
                None => exchange(&mut script, head, body),
                Some(Instead::Nothing) => ("", Vec::new()),
                Some(Instead::TenMebibytes) => ("200 OK", vec![b' '; 10 << 20]),
                Some(Instead::Redirect) => ("302 Found\r\nLocation: /realms/a/keys", Vec::new()),
                Some(Instead::Garbage) => ("200 OK", b"<html>".to_vec()),
            },
            _ => ("404 Not Found", Vec::new()),
        }
    };
    if status.is_empty() {
        // Until the caller has enough of it.
        let _ = stream.read(&mut [0; 1]).await;
        return;
    }
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&answer).await;
}

/// A token for a code that is bound to this client, this verifier and this redirect URI, once.
fn exchange(script: &mut Script, head: &str, body: &str) -> (&'static str, Vec<u8>) {
    let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    // The header as `Authorization: Basic` of the form-encoded name and secret (RFC 6749, section 2.3.1).
    let basic = STANDARD.encode("casemate:the+secret+of+the+client%3A+100%25");
    let proof = match (given("client_id"), given("client_secret")) {
        ("", "") if head.contains(&format!("authorization: Basic {basic}")) => "basic",
        (CLIENT, SECRET) => "post",
        (CLIENT, "") => "none",
        _ => return ("401 Unauthorized", b"{\"error\":\"invalid_client\"}".to_vec()),
    };
    script.proofs.push(proof);
    let grant = script.grants.remove(given("code"));
    let challenge = BASE64.encode(random::sha256(given("code_verifier")));
    let is_right =
        given("grant_type") == "authorization_code" && given("redirect_uri") == format!("{BASE}{OIDC_CALLBACK}");
    match grant.filter(|(bound, _)| *bound == challenge && is_right) {
        Some((_, token)) => (
            "200 OK",
            json!({ "token_type": "Bearer", "access_token": "x", "id_token": token }).to_string().into_bytes(),
        ),
        None => ("400 Bad Request", b"{\"error\":\"invalid_grant\",\"error_description\":\"no\"}".to_vec()),
    }
}

fn new_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key")
}

fn jwk(key: &EcdsaKeyPair, name: &str) -> Value {
    let point = key.public_key().as_ref();
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": name,
            "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..]) })
}

fn es256(key: &EcdsaKeyPair, bytes: &[u8]) -> Vec<u8> {
    key.sign(&SystemRandom::new(), bytes).expect("signed").as_ref().to_vec()
}

fn jws(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = BASE64.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A service with an account.
struct World {
    _dir: tempfile::TempDir,
    identity: Identity,
    audit: Audit,
    account: AccountId,
    by: Actor,
}

/// A log-in as the browser knows it.
struct Begun {
    browser: String,
    state: String,
    nonce: String,
    challenge: String,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
        let audit = Audit::new(db.clone());
        let identity = Identity::new(db, audit.clone(), keys).with_private_providers();
        let (by, account) = (Actor::operator(), "ab1234-casemate".parse::<AccountId>().expect("an account"));
        identity.create_account(&account, "", "", &by).await.expect("an account");
        identity.create_group(&account, "boss", None, GroupRole::Admin, &by).await.expect("a group");
        World { _dir: dir, identity, audit, account, by }
    }

    async fn with_provider() -> (World, Provider) {
        let (world, provider) = (World::new().await, Provider::start().await);
        world.provide(settings(&provider)).await.expect("a provider");
        (world, provider)
    }

    async fn provide(&self, settings: OidcSettings) -> Result<OidcProvider, Error> {
        let secret = ClientSecret::Set(Zeroizing::new(SECRET.to_owned()));
        self.identity.create_oidc_provider(&self.account, settings, secret, &self.by).await
    }

    async fn begin(&self) -> Begun {
        self.begin_at(CONSOLE).await
    }

    async fn begin_at(&self, back: &str) -> Begun {
        let started = self.identity.begin_sso(self.account.as_str(), BASE, back, from()).await.expect("begun");
        let SsoStart::Begun(SsoBegun { url, browser, kind }) = started else { panic!("{started:?}") };
        assert_eq!(kind, ProviderKind::Oidc);
        let url: Url = url.parse().expect("a URL");
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("realm", "a"),
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("scope", "openid profile email"),
            ("code_challenge_method", "S256"),
            ("redirect_uri", &format!("{BASE}{OIDC_CALLBACK}")),
        ] {
            assert_eq!(query[name], value, "{url}");
        }
        Begun {
            browser: browser.to_string(),
            state: query["state"].clone(),
            nonce: query["nonce"].clone(),
            challenge: query["code_challenge"].clone(),
        }
    }

    async fn finish(&self, begun: &Begun, code: &str) -> SsoOutcome {
        let answer = OidcAnswer { state: &begun.state, code, ..OidcAnswer::default() };
        self.answer(&answer, &begun.browser, Timestamp::now()).await
    }

    async fn answer(&self, answer: &OidcAnswer<'_>, browser: &str, now: Timestamp) -> SsoOutcome {
        let visitor = SsoVisitor { browser, from: from(), user_agent: "a browser" };
        self.identity.finish_oidc(answer, &visitor, now).await.expect("an outcome")
    }

    /// A log-in with that token, which the provider gives for the right code.
    async fn with_token(&self, provider: &Provider, token: impl FnOnce(&Begun) -> String) -> SsoOutcome {
        let begun = self.begin().await;
        let code = provider.grant(&begun, token(&begun));
        self.finish(&begun, &code).await
    }

    /// A log-in with claims that differ from good ones.
    async fn with_claims(&self, provider: &Provider, change: impl FnOnce(&mut Value)) -> SsoOutcome {
        self.with_token(provider, |begun| {
            let mut claims = provider.claims(begun);
            change(&mut claims);
            provider.signed(&claims)
        })
        .await
    }

    async fn log(&self) -> Vec<Row> {
        self.audit.list(&Query { limit: 1000, ..Query::default() }).await.expect("rows")
    }
}

fn from() -> Option<IpAddr> {
    Some("192.0.2.7".parse().expect("an address"))
}

fn settings(provider: &Provider) -> OidcSettings {
    OidcSettings { issuer: provider.issuer.clone(), client_id: CLIENT.to_owned(), ..OidcSettings::default() }
}

fn person(outcome: SsoOutcome) -> FederatedPerson {
    match outcome {
        SsoOutcome::In(person) => person,
        SsoOutcome::Refused(why) => panic!("refused: {why}"),
    }
}

fn refused(outcome: SsoOutcome, why: &str) {
    match outcome {
        SsoOutcome::Refused(said) => assert!(said.contains(why), "'{said}' does not say '{why}'"),
        SsoOutcome::In(person) => panic!("{person:?} is in, where '{why}' was expected"),
    }
}

#[tokio::test]
async fn a_person_comes_in_once_with_the_groups_that_the_account_has() {
    let (world, provider) = World::with_provider().await;
    let begun = world.begin_at("/console/projects?page=2").await;
    let mut claims = provider.claims(&begun);
    claims["groups"] = json!(["boss", "DEFAULT", "of nobody"]);
    let code = provider.grant(&begun, provider.signed(&claims));
    let alice = person(world.finish(&begun, &code).await);
    assert_eq!((alice.name.as_str(), alice.back.as_str()), ("alice", "/console/projects?page=2"));
    assert_eq!(alice.groups, ["DEFAULT", "boss"]);
    let again = provider.grant(&begun, provider.signed(&provider.claims(&begun)));
    refused(world.finish(&begun, &again).await, "answered already");

    let log = world.log().await;
    let entry = log.iter().find(|entry| entry.action == "account.user.loggedIn").expect("an entry");
    let detail: Value = serde_json::from_str(&entry.detail).expect("JSON");
    assert_eq!(detail["type"], "LOGIN_SUCCESS");
    assert_eq!(detail["authDetails"]["userDetails"], json!({ "type": "PROVIDER", "user": "alice" }));
    assert!(log.iter().any(|entry| entry.action == "account.user.loginFailed"));
    // Nothing that proves anything is in the log.
    let whole = log.iter().map(|entry| entry.detail.as_str()).collect::<String>();
    for secret in [SECRET, &code, &begun.state, &begun.nonce, &begun.browser, &begun.challenge] {
        assert!(!whole.contains(secret), "{secret}");
    }
    // A provider that signs with RSA, and one group as a text.
    let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
    provider.with(|script| script.keys.push(rsa_jwk(&rsa, "rsa")));
    let outcome = world.with_token(&provider, |begun| {
        let mut claims = provider.claims(begun);
        claims["groups"] = json!("boss");
        jws(&json!({ "alg": "RS256", "kid": "rsa" }), &claims, |bytes| rs256(&rsa, bytes))
    });
    assert_eq!(person(outcome.await).groups, ["boss"]);
}

fn rsa_jwk(key: &RsaKeyPair, name: &str) -> Value {
    let public = key.public_key();
    let text = |bytes: &[u8]| BASE64.encode(bytes);
    json!({ "kty": "RSA", "kid": name, "n": text(public.modulus().big_endian_without_leading_zero()),
            "e": text(public.exponent().big_endian_without_leading_zero()) })
}

fn rs256(key: &RsaKeyPair, bytes: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).expect("signed");
    signature
}

#[tokio::test]
async fn a_log_in_ends_in_the_browser_in_which_it_was_begun_and_in_time() {
    let (world, provider) = World::with_provider().await;
    let (begun, other) = (world.begin().await, world.begin().await);
    let code = provider.grant(&begun, provider.signed(&provider.claims(&begun)));
    let answer = OidcAnswer { state: &begun.state, code: &code, ..OidcAnswer::default() };
    let now = Timestamp::now();
    for browser in ["", "x", &other.browser, &begun.state, &begun.browser[1..]] {
        refused(world.answer(&answer, browser, now).await, "not begun in this browser");
    }
    for state in ["", "x", &other.state, &begun.nonce, &begun.state.to_uppercase()] {
        if state != begun.state {
            refused(world.answer(&OidcAnswer { state, ..answer }, &begun.browser, now).await, "not begun");
        }
    }
    refused(world.answer(&answer, &begun.browser, now + SSO_TIME).await, "ten minutes");
    assert_eq!(provider.asked("/token"), 0, "nobody was asked for what is not ours");
    // What others tried took nothing from the person.
    person(world.finish(&begun, &code).await);

    // A code of another log-in, which an attacker lets the browser carry: it is bound to the verifier of that.
    let stolen = provider.grant(&other, provider.signed(&provider.claims(&other)));
    let victim = world.begin().await;
    refused(world.finish(&victim, &stolen).await, UNUSABLE);
    // And even if the provider forgot about PKCE, the nonce is another.
    let victim = world.begin().await;
    let token = provider.signed(&provider.claims(&other));
    let unbound = provider.grant(&victim, token);
    refused(world.finish(&victim, &unbound).await, "not made for this log-in");
}

#[tokio::test]
async fn claims_that_are_not_of_this_provider_for_us_and_for_now_are_refused() {
    let (world, provider) = World::with_provider().await;
    let now = Timestamp::now().as_second();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("iss", json!("https://evil.example"), "another issuer"),
        ("iss", json!([provider.issuer.clone(), "https://evil.example"]), "another issuer"),
        ("iss", json!(format!("{}/", provider.issuer)), "another issuer"),
        ("iss", Value::Null, "another issuer"),
        ("aud", json!("another"), "another client"),
        ("aud", json!(["another"]), "another client"),
        ("aud", json!([]), "another client"),
        ("aud", Value::Null, "another client"),
        ("aud", json!([CLIENT, "another"]), "several clients"),
        ("azp", json!("another"), "another client"),
        ("exp", json!(now - 61), "time is over"),
        ("exp", json!("tomorrow"), "until when"),
        ("exp", Value::Null, "until when"),
        ("iat", json!(now + 120), "later than now"),
        ("iat", Value::Null, "when it was made"),
        ("nbf", json!(now + 120), "later than now"),
        ("nbf", json!("now"), "later than now"),
        ("nonce", json!("another"), "this log-in"),
        ("nonce", Value::Null, "this log-in"),
        ("sub", Value::Null, "of whom"),
        ("sub", json!(""), "of whom"),
        ("preferred_username", Value::Null, "'preferred_username'"),
        ("preferred_username", json!(["alice"]), "'preferred_username'"),
        ("preferred_username", json!(""), "'preferred_username'"),
        ("preferred_username", json!("a\nb"), "'preferred_username'"),
        ("preferred_username", json!("a".repeat(257)), "'preferred_username'"),
        ("groups", json!({ "DEFAULT": true }), "'groups'"),
        ("groups", json!([1]), "'groups'"),
        ("groups", json!(vec!["DEFAULT"; 1001]), "'groups'"),
        ("groups", Value::Null, "Not in valid groups"),
        ("groups", json!([]), "Not in valid groups"),
        ("groups", json!(["/DEFAULT", "default", "DEFAULT "]), "Not in valid groups"),
    ];
    for (name, value, why) in cases {
        let outcome = world.with_claims(&provider, |claims| match &value {
            Value::Null => {
                claims.as_object_mut().expect("claims").remove(name);
            }
            value => claims[name] = value.clone(),
        });
        let outcome = outcome.await;
        let SsoOutcome::Refused(said) = outcome else { panic!("{name} {value} is in") };
        assert!(said.contains(why), "{name} {value}: {said}");
    }
    // The edges that are good: clocks that differ a little, several clients of which we are the one.
    person(world.with_claims(&provider, |claims| claims["exp"] = json!(now - 30)).await);
    person(world.with_claims(&provider, |claims| claims["iat"] = json!(now + 30)).await);
    person(
        world
            .with_claims(&provider, |claims| (claims["aud"], claims["azp"]) = (json!([CLIENT, "b"]), json!(CLIENT)))
            .await,
    );
}

/// How a token is forged from good claims.
struct Forgery<'f> {
    name: &'static str,
    /// What the refusal says.
    why: &'static str,
    forge: Box<dyn Fn(&Value) -> String + 'f>,
}

fn forgery<'f>(name: &'static str, why: &'static str, forge: impl Fn(&Value) -> String + 'f) -> Forgery<'f> {
    Forgery { name, why, forge: Box::new(forge) }
}

#[tokio::test]
async fn a_token_that_the_provider_did_not_sign_is_refused() {
    let (world, provider) = World::with_provider().await;
    let public = provider.key.public_key().as_ref().to_vec();
    let stranger = new_key();
    let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
    // A common secret among the keys makes nothing good.
    provider.with(|script| {
        script.keys.push(json!({ "kty": "oct", "kid": "secret", "k": BASE64.encode("secret"), "alg": "HS256" }));
        script.keys.push(json!({ "kty": "of tomorrow", "kid": "new" }));
        let mut encrypts = rsa_jwk(&rsa, "encrypts");
        encrypts["use"] = json!("enc");
        script.keys.push(encrypts);
    });
    let hs256 = |secret: &[u8], bytes: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), bytes);
    let forged = [
        forgery("none", "another algorithm", |claims| jws(&json!({ "alg": "none" }), claims, |_| Vec::new())),
        forgery("None", "another algorithm", |claims| {
            jws(&json!({ "alg": "nOnE", "kid": "one" }), claims, |_| Vec::new())
        }),
        forgery("HS256 by the public key", "another algorithm", |claims| {
            let header = json!({ "alg": "HS256", "kid": "one" });
            jws(&header, claims, |bytes| hs256(&public, bytes).as_ref().to_vec())
        }),
        forgery("HS256 by a key that is shown", "another algorithm", |claims| {
            let header = json!({ "alg": "HS256", "kid": "secret" });
            jws(&header, claims, |bytes| hs256(b"secret", bytes).as_ref().to_vec())
        }),
        forgery("HS256 by the secret of the client", "another algorithm", |claims| {
            jws(&json!({ "alg": "HS256" }), claims, |bytes| hs256(SECRET.as_bytes(), bytes).as_ref().to_vec())
        }),
        forgery("the key of a stranger", "signature is not right", |claims| {
            jws(&json!({ "alg": "ES256", "kid": "one" }), claims, |bytes| es256(&stranger, bytes))
        }),
        forgery("a key that the token brings along", "does not show", |claims| {
            let header = json!({ "alg": "ES256", "kid": "two", "jwk": jwk(&stranger, "two"),
                                 "jku": "https://evil.example/keys" });
            jws(&header, claims, |bytes| es256(&stranger, bytes))
        }),
        forgery("the algorithm of another kind of key", "does not show", |claims| {
            jws(&json!({ "alg": "RS256", "kid": "one" }), claims, |bytes| rs256(&rsa, bytes))
        }),
        forgery("a key that is for something else", "does not show", |claims| {
            jws(&json!({ "alg": "RS256", "kid": "encrypts" }), claims, |bytes| rs256(&rsa, bytes))
        }),
        forgery("extensions that must be understood", "extensions", |claims| {
            provider.signed_with(&json!({ "alg": "ES256", "kid": "one", "b64": false, "crit": ["b64"] }), claims)
        }),
        forgery("no token", "header cannot be read", |_| "x".to_owned()),
        forgery("an empty one", "header cannot be read", |_| "..".to_owned()),
        forgery("a long one", "64 KiB", |_| "a".repeat(65 * 1024)),
        forgery("a part more", "signature is not right", |claims| format!("{}.x", provider.signed(claims))),
    ];
    for Forgery { name, why, forge } in forged {
        match world.with_token(&provider, |begun| forge(&provider.claims(begun))).await {
            SsoOutcome::Refused(said) => assert!(said.contains(why), "{name}: {said}"),
            SsoOutcome::In(_) => panic!("{name} is in"),
        }
    }
    // Altered in each part: claims of another, and a signature of which a byte differs.
    let altered = world.with_token(&provider, |begun| {
        let mut claims = provider.claims(begun);
        let good = provider.signed(&claims);
        claims["groups"] = json!(["boss"]);
        let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
        parts[1] = BASE64.encode(claims.to_string());
        parts.join(".")
    });
    refused(altered.await, "signature is not right");
    for at in [0, 31, 32, 63] {
        let altered = world.with_token(&provider, |begun| {
            jws(&json!({ "alg": "ES256", "kid": "one" }), &provider.claims(begun), |bytes| {
                let mut signature = es256(&provider.key, bytes);
                signature[at] ^= 1;
                signature
            })
        });
        refused(altered.await, "signature is not right");
    }
    // Without a name of the key, the one that suits is taken; of two that do, none.
    let unnamed = |begun: &Begun| provider.signed_with(&json!({ "alg": "ES256" }), &provider.claims(begun));
    person(world.with_token(&provider, unnamed).await);
    provider.with(|script| script.keys.push(jwk(&stranger, "two")));
    let two = world.with_token(&provider, |begun| {
        jws(&json!({ "alg": "ES256", "kid": "two" }), &provider.claims(begun), |bytes| es256(&stranger, bytes))
    });
    refused(two.await, "does not show");
}

#[tokio::test]
async fn new_keys_are_fetched_when_they_are_needed_and_not_again_at_once() {
    let (world, provider) = World::with_provider().await;
    person(world.with_claims(&provider, |_| {}).await);
    person(world.with_claims(&provider, |_| {}).await);
    assert_eq!(provider.asked("/keys"), 1, "they are kept");
    let newer = new_key();
    provider.with(|script| script.keys.push(jwk(&newer, "two")));
    let by_newer = |begun: &Begun| {
        jws(&json!({ "alg": "ES256", "kid": "two" }), &provider.claims(begun), |bytes| es256(&newer, bytes))
    };
    person(world.with_token(&provider, by_newer).await);
    assert_eq!(provider.asked("/keys"), 2, "a key that was not known");
    for _ in 0..3 {
        let unknown = world.with_token(&provider, |begun| {
            jws(&json!({ "alg": "ES256", "kid": "three" }), &provider.claims(begun), |bytes| es256(&newer, bytes))
        });
        refused(unknown.await, "does not show");
    }
    assert_eq!(provider.asked("/keys"), 2, "tokens of unknown keys do not make us ask again and again");
    assert_eq!(provider.asked("/.well-known/openid-configuration"), 1);
}

#[tokio::test]
async fn an_answer_that_names_another_provider_is_refused() {
    let (world, provider) = World::with_provider().await;
    let begun = world.begin().await;
    let code = provider.grant(&begun, provider.signed(&provider.claims(&begun)));
    let answer =
        OidcAnswer { state: &begun.state, code: &code, issuer: "https://evil.example", ..OidcAnswer::default() };
    refused(world.answer(&answer, &begun.browser, Timestamp::now()).await, "another issuer");
    assert_eq!(provider.asked("/token"), 0, "the code goes to nobody");
    // One that always names itself (RFC 9207), and once did not.
    provider.with(|script| script.metadata = json!({ "authorization_response_iss_parameter_supported": true }));
    let (world, issuer) = (World::new().await, provider.issuer.clone());
    world.provide(settings(&provider)).await.expect("a provider");
    let begun = world.begin().await;
    let code = provider.grant(&begun, provider.signed(&provider.claims(&begun)));
    refused(world.finish(&begun, &code).await, "another issuer");
    let begun = world.begin().await;
    let code = provider.grant(&begun, provider.signed(&provider.claims(&begun)));
    let answer = OidcAnswer { state: &begun.state, code: &code, issuer: &issuer, ..OidcAnswer::default() };
    person(world.answer(&answer, &begun.browser, Timestamp::now()).await);
    // What a provider says in place of a code is told, as far as it is a word.
    let begun = world.begin().await;
    let answer =
        OidcAnswer { state: &begun.state, error: "access_denied<script>", issuer: &issuer, ..OidcAnswer::default() };
    refused(world.answer(&answer, &begun.browser, Timestamp::now()).await, "answered: access_deniedscript");
    for code in [String::new(), "a".repeat(5000)] {
        let begun = world.begin().await;
        let answer = OidcAnswer { state: &begun.state, code: &code, issuer: &issuer, ..OidcAnswer::default() };
        refused(world.answer(&answer, &begun.browser, Timestamp::now()).await, "a code of at most");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_as_it_should_costs_neither_time_nor_memory() {
    let (mut world, provider) = World::with_provider().await;
    world.identity.oidc = Arc::new(Client::patient(Reach::Everywhere, Duration::from_secs(2)));
    // One answer, whatever it is: who names a provider does not learn what stands at an address.
    for instead in [Instead::Nothing, Instead::TenMebibytes, Instead::Garbage, Instead::Redirect] {
        provider.with(|script| script.instead = Some(instead));
        let before = provider.asked("/keys");
        refused(world.with_claims(&provider, |_| {}).await, UNUSABLE);
        assert_eq!(provider.asked("/keys"), before, "a redirect is not followed");
    }
}

#[tokio::test]
async fn the_secret_is_given_in_the_way_that_the_provider_takes() {
    let provider = Provider::start().await;
    for methods in [json!(null), json!(["private_key_jwt", "client_secret_basic", "client_secret_post"])] {
        provider.with(|script| script.metadata = json!({ "token_endpoint_auth_methods_supported": methods }));
        let world = World::new().await;
        world.provide(settings(&provider)).await.expect("a provider");
        person(world.with_claims(&provider, |_| {}).await);
    }
    provider
        .with(|script| script.metadata = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] }));
    let world = World::new().await;
    world.provide(settings(&provider)).await.expect("a provider");
    person(world.with_claims(&provider, |_| {}).await);
    let (identity, account, by) = (&world.identity, &world.account, &world.by);
    identity.change_oidc_provider(account, settings(&provider), ClientSecret::Remove, by).await.expect("public");
    person(world.with_claims(&provider, |_| {}).await);
    let wrong = ClientSecret::Set(Zeroizing::new("wrong".to_owned()));
    identity.change_oidc_provider(account, settings(&provider), wrong, by).await.expect("changed");
    refused(world.with_claims(&provider, |_| {}).await, UNUSABLE);
    assert_eq!(provider.with(|script| script.proofs.clone()), ["basic", "basic", "post", "none"]);
}

#[tokio::test]
async fn a_provider_in_a_private_network_is_called_only_where_the_operator_allows_it() {
    let (mut world, provider) = World::with_provider().await;
    (world.identity.reach, world.identity.oidc) = (Reach::Public, Arc::default());
    let port = provider.issuer.split(':').nth(2).and_then(|rest| rest.split('/').next()).expect("a port");
    for issuer in [
        provider.issuer.clone(),
        format!("http://localhost:{port}/realms/a"),
        format!("https://127.0.0.1:{port}/realms/a"),
        format!("https://localhost:{port}/realms/a"),
        "https://10.0.0.1/realms/a".to_owned(),
        "https://[fd00::1]/realms/a".to_owned(),
    ] {
        let settings = OidcSettings { issuer: issuer.clone(), ..settings(&provider) };
        let fault = world.provide(settings).await.expect_err(&issuer);
        assert!(matches!(fault, Error::Provider { field: "issuer", .. }), "{issuer}: {fault:?}");
    }
    // One that was named while it was allowed.
    let begun = world.identity.begin_sso(world.account.as_str(), BASE, "", from()).await.expect("an outcome");
    assert!(matches!(begun, SsoStart::Refused(_)), "{begun:?}");
    assert_eq!(provider.asked("/.well-known/openid-configuration"), 1, "when it was made");
}

#[tokio::test]
async fn metadata_that_are_not_the_issuers_are_refused_whole() {
    let (world, provider) = (World::new().await, Provider::start().await);
    for metadata in [
        json!({ "issuer": "https://evil.example" }),
        json!({ "issuer": format!("{}/", provider.issuer) }),
        json!({ "authorization_endpoint": "javascript:alert(1)" }),
        json!({ "token_endpoint": "http://169.254.169.254/latest/meta-data" }),
        json!({ "jwks_uri": "file:///etc/passwd" }),
        json!({ "code_challenge_methods_supported": ["plain"] }),
        json!({ "token_endpoint": null }),
    ] {
        let wrong = metadata.to_string();
        provider.with(|script| script.metadata = metadata);
        let fault = world.provide(settings(&provider)).await.expect_err(&wrong);
        assert!(matches!(&fault, Error::Provider { field: "issuer", what } if what == UNUSABLE), "{wrong}: {fault:?}");
    }
    provider.with(|script| script.metadata = json!({}));
    let elsewhere = |issuer: &str| OidcSettings { issuer: issuer.to_owned(), ..settings(&provider) };
    for issuer in [
        "",
        "x",
        "http://idp.example.org/realms/a",
        "https://user:secret@idp.example.org",
        "http://127.0.0.1:1/realms/a?x=y",
        "file:///etc",
        "http://127.0.0.1:1/realms/a",
    ] {
        let fault = world.provide(elsewhere(issuer)).await.expect_err(issuer);
        assert!(matches!(fault, Error::Provider { .. }), "{issuer}: {fault:?}");
    }
    for (wrong, field) in [
        (OidcSettings { client_id: String::new(), ..settings(&provider) }, "clientId"),
        (OidcSettings { user_claim: "a\n".to_owned(), ..settings(&provider) }, "userClaim"),
        (OidcSettings { group_claim: "g".repeat(257), ..settings(&provider) }, "groupClaim"),
        (OidcSettings { scopes: vec!["profile".to_owned()], ..settings(&provider) }, "scopes"),
        (OidcSettings { scopes: vec!["openid".to_owned(), "a b".to_owned()], ..settings(&provider) }, "scopes"),
    ] {
        let fault = world.provide(wrong).await.expect_err(field);
        assert!(matches!(fault, Error::Invalid { field: said, .. } if said == field), "{fault:?}");
    }
    assert!(world.identity.oidc_provider(&world.account).await.expect("read").is_none(), "nothing was made");
}

#[tokio::test]
async fn sessions_and_log_ins_end_with_the_provider_as_it_was() {
    let (world, provider) = World::with_provider().await;
    let (identity, account, by) = (&world.identity, &world.account, &world.by);
    let second = world.provide(settings(&provider)).await.expect_err("a second");
    assert!(matches!(second, Error::Exists { kind: "identity provider", .. }), "{second:?}");

    let open = async |outcome| {
        let FederatedPerson { name, groups, since, until, .. } = person(outcome);
        let who = Opener::Federated { name, groups, since, until };
        let new = NewSession { account, who: &who, factor: None, from: from(), user_agent: "" };
        identity.open_session(&new).await.expect("a session").secret
    };
    let is_good = async |secret: &str| identity.authenticate_session(secret, from(), Timestamp::now()).await.is_ok();
    let session = open(world.with_claims(&provider, |_| {}).await).await;
    assert!(is_good(&session).await);
    let begun = world.begin().await;
    let code = provider.grant(&begun, provider.signed(&provider.claims(&begun)));
    let changed = OidcSettings { user_claim: "sub".to_owned(), ..settings(&provider) };
    identity.change_oidc_provider(account, changed.clone(), ClientSecret::Keep, by).await.expect("changed");
    assert!(!is_good(&session).await, "the provider was changed");
    refused(world.finish(&begun, &code).await, "not begun");
    let outcome = world.with_claims(&provider, |_| {}).await;
    assert_eq!(person(outcome.clone()).name, "0a1b", "the secret was kept, and the other claim counts");
    let session = open(outcome).await;

    // The secret is not sent to another issuer.
    let other = Provider::start().await;
    let moved = OidcSettings { issuer: other.issuer.clone(), ..changed.clone() };
    let fault = identity.change_oidc_provider(account, moved.clone(), ClientSecret::Keep, by).await.expect_err("kept");
    assert!(matches!(fault, Error::Invalid { field: "clientSecret", .. }), "{fault:?}");
    assert!(is_good(&session).await, "nothing was changed");
    let secret = ClientSecret::Set(Zeroizing::new(SECRET.to_owned()));
    identity.change_oidc_provider(account, moved, secret, by).await.expect("moved");
    assert!(!is_good(&session).await);
    let session = open(world.with_claims(&other, |_| {}).await).await;
    identity.delete_oidc_provider(account, by).await.expect("removed");
    assert!(!is_good(&session).await, "the provider is gone");
    assert!(identity.oidc_provider(account).await.expect("read").is_none());
    let started = identity.begin_sso(account.as_str(), BASE, "", from()).await.expect("asked");
    assert!(matches!(started, SsoStart::NoProvider));
    assert!(matches!(identity.delete_oidc_provider(account, by).await, Err(Error::NotFound { .. })));
    world.provide(settings(&provider)).await.expect("another one");
}

#[tokio::test]
async fn users_log_in_by_the_provider_alone_where_the_account_says_so() {
    let (world, provider) = (World::new().await, Provider::start().await);
    let (identity, account, by) = (&world.identity, &world.account, &world.by);
    let new = NewPerson { login: "eve".to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
    identity.create_person(account, new, by).await.expect("a user");
    let link = identity.create_setup(account, "eve", by).await.expect("a link");
    const PASSWORD: &str = "correct horse battery staple";
    identity.use_setup(&link.token, Zeroizing::new(PASSWORD.to_owned()), by).await.expect("set");
    let log_in = async || {
        let name = format!("{account}/eve");
        let given = LogIn {
            name: &name,
            password: PASSWORD,
            code: "",
            enrolment: "",
            assertion: None,
            new_password: "",
            from: from(),
            user_agent: "",
        };
        matches!(identity.log_in(&given).await.expect("an outcome"), LoggedIn::Done { .. })
    };
    world.provide(settings(&provider)).await.expect("a provider");
    assert!(log_in().await);
    let alone = OidcSettings { disable_users: true, ..settings(&provider) };
    identity.change_oidc_provider(account, alone, ClientSecret::Keep, by).await.expect("changed");
    assert!(!log_in().await);
    person(world.with_claims(&provider, |_| {}).await);
    assert!(identity.enable_users(account, by).await.expect("enabled"));
    assert!(!identity.enable_users(account, by).await.expect("enabled before"));
    assert!(log_in().await, "the operator let users in again");

    let block = "192.0.2.0/24".parse().expect("a block");
    let elsewhere = Some("203.0.113.1".parse().expect("an address"));
    identity.add_ip_restriction(account, block, IpRule::Deny, false, elsewhere, by).await.expect("a rule");
    refused(world.with_claims(&provider, |_| {}).await, "does not let that address in");
}

#[tokio::test]
async fn who_floods_the_service_with_log_ins_forgets_its_own_alone() {
    let (world, provider) = World::with_provider().await;
    let identity = &world.identity;
    let begin = async |from: &str| {
        let from = Some(from.parse().expect("an address"));
        let begun = identity.begin_sso(world.account.as_str(), BASE, "", from).await.expect("begun");
        let SsoStart::Begun(begun) = begun else { panic!("{begun:?}") };
        let url: Url = begun.url.parse().expect("a URL");
        let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
        (state, begun.browser)
    };
    let end = async |(state, browser): &(String, Zeroizing<String>)| {
        let answer = OidcAnswer { state, code: "x", ..OidcAnswer::default() };
        world.answer(&answer, browser, Timestamp::now()).await
    };
    let (patient, beside) = (begin("203.0.113.1").await, begin("2001:db8:0:1::1").await);
    // One /64 is one holder's.
    let (first, first_by_v6) = (begin("192.0.2.7").await, begin("2001:db8::1").await);
    for number in 2..52 {
        begin("192.0.2.7").await;
        begin(&format!("2001:db8::{number:x}")).await;
    }
    for gone in [&first, &first_by_v6] {
        refused(end(gone).await, "not begun");
    }
    for kept in [&patient, &beside] {
        refused(end(kept).await, UNUSABLE);
    }
    assert_eq!(provider.asked("/token"), 2);
}
