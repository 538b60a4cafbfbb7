//! The validation page and second factors, from outside: who gets in, and each way in which one does not (CTL-2, CTL-5).

mod support;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{Answer, Credentials, HERE, World, browser::Browser, encoded, form, get, refused};

const FIRST: &str = "a first long password";
const OWN: &str = "correct horse battery staple";
const TOTP: &str = "/1.0/me/accessRestriction/totp";
const U2F: &str = "/1.0/me/accessRestriction/u2f";
const BACKUP: &str = "/1.0/me/accessRestriction/backupCode";

/// An application that asks for a consumer key.
struct Asked {
    keys: Credentials,
    page: String,
}

async fn ask(world: &World) -> Asked {
    let body = json!({ "accessRules": [{ "method": "GET", "path": "/*" }, { "method": "POST", "path": "/*" },
        { "method": "DELETE", "path": "/*" }], "redirection": "https://app.example.org/back?a=b&c" });
    let request = http::Request::builder().method("POST").uri("/1.0/auth/credential").header("host", "api.example.org");
    let request =
        request.header("content-type", "application/json").header("x-ovh-application", &world.keys.application);
    let answer = world.send(request.body(body.to_string().into()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let page =
        answer.body["validationUrl"].as_str().expect("a URL").strip_prefix(support::BASE).expect("ours").to_owned();
    let consumer = answer.body["consumerKey"].as_str().expect("a key").to_owned();
    Asked { keys: Credentials { consumer, ..world.keys.clone() }, page }
}

async fn decide(world: &World, asked: &Asked, more: &[(&str, &str)]) -> Answer {
    let mut fields = vec![("days", "30")];
    if !more.iter().any(|(name, _)| *name == "decision") {
        fields.push(("decision", "grant"));
    }
    fields.extend(more);
    world.form(&format!("{}/login", asked.page), &fields).await
}

/// A user with a password of its own.
async fn user(world: &World, login: &str) -> String {
    let body = json!({ "login": login, "group": "ADMIN", "password": FIRST });
    world.done("POST", "/1.0/me/identity/user", &body).await;
    let link = world.identity.create_setup(&world.account, login, &audit::Actor::operator()).await.expect("a link");
    let fields = [("password", OWN), ("again", OWN)];
    assert_eq!(world.form(&format!("/1.0/auth/setup/{}", *link.token), &fields).await.status, StatusCode::OK);
    format!("{}/{login}", world.account)
}

/// The code of a secret so many steps from now, as an authenticator app makes it.
fn code(secret: &str, steps: i64) -> String {
    use aws_lc_rs::hmac;
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: String = secret.chars().map(|c| format!("{:05b}", alphabet.find(c).expect("Base32"))).collect();
    let byte = |at: usize| u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2).expect("bits");
    let key: Vec<u8> = (0..bits.len() / 8).map(byte).collect();
    let step = Timestamp::now().as_second() / 30 + steps;
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key), &step.to_be_bytes());
    let mac = mac.as_ref();
    let at = usize::from(mac[19] & 15);
    let word = u32::from_be_bytes([mac[at] & 127, mac[at + 1], mac[at + 2], mac[at + 3]]);
    format!("{:06}", word % 1_000_000)
}

/// Waits until the step of now has some time left, so that the code of the one before is good when it arrives.
async fn settle() {
    while Timestamp::now().as_second() % 30 > 20 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_person_grants_what_an_application_asks_for() {
    let world = World::new().await;
    let name = user(&world, "alice").await;
    let asked = ask(&world).await;
    let page = world.send(get(&asked.page)).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("GET /*") && page.text.contains("<form method=\"post\" action=\""), "{}", page.text);
    // One script, of this service, and nothing that asks for another.
    assert!(page.text.matches("<script").count() == 1 && !page.text.contains("javascript:"), "{}", page.text);
    assert!(page.text.contains("<script src=\"../security-key.js\" defer></script>"), "{}", page.text);
    let script = world.send(get("/1.0/auth/security-key.js")).await;
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert_eq!(
        policy,
        "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    refused(&world.call_as(&asked.keys, "GET", "/1.0/me", &Value::Null).await, 403, "INVALID_CREDENTIAL");

    let answer = decide(&world, &asked, &[("login", &name), ("password", OWN)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(answer.text.contains("href=\"https://app.example.org/back?a=b&amp;c\""), "{}", answer.text);
    let details = world.call_as(&asked.keys, "GET", "/1.0/auth/details", &Value::Null).await.body;
    assert_eq!((&details["method"], &details["user"]), (&json!("user"), &json!("alice")));
    assert_eq!(world.call_as(&asked.keys, "GET", "/1.0/me", &Value::Null).await.status, StatusCode::OK);
    let current = world.call_as(&asked.keys, "GET", "/1.0/auth/currentCredential", &Value::Null).await.body;
    assert!(current["expiration"].is_string(), "{current}");
    // The link is used up, for granting and for looking.
    assert_eq!(world.send(get(&asked.page)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(decide(&world, &asked, &[("login", &name), ("password", OWN)]).await.status, StatusCode::NOT_FOUND);

    let other = ask(&world).await;
    let fields = [("login", name.as_str()), ("password", OWN), ("decision", "refuse")];
    assert_eq!(decide(&world, &other, &fields).await.status, StatusCode::OK);
    refused(&world.call_as(&other.keys, "GET", "/1.0/me", &Value::Null).await, 403, "INVALID_CREDENTIAL");
    let log = world.whole_log().await;
    assert!(log.contains("LOGIN_SUCCESS") && log.contains("mfaType"), "{log}");
    assert!(!log.contains(OWN) && !log.contains(asked.page.rsplit('/').next().expect("a token")));
}

#[tokio::test]
async fn who_does_not_prove_a_log_in_hears_one_answer() {
    let world = World::new().await;
    let name = user(&world, "alice").await;
    let gone = user(&world, "bob").await;
    world.done("POST", "/1.0/me/identity/user/bob/disable", &Value::Null).await;
    let asked = ask(&world).await;
    // Each page asks passkeys for another challenge.
    let text = |answer: &Answer, name: &str| {
        let (before, rest) = answer.text.split_once(" data-options=\"").expect("a passkey can be used");
        let (_, after) = rest.split_once('"').expect("an attribute");
        format!("{before}{after}").replace(&format!("value=\"{name}\""), "")
    };
    let nobody = format!("{}/nobody", world.account);
    let wrong = decide(&world, &asked, &[("login", &name), ("password", "wrong")]).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN, "{}", wrong.text);
    for (login, password) in [
        (nobody.as_str(), OWN),
        ("cd5678-casemate/alice", OWN),
        ("alice", OWN),
        ("/", OWN),
        (gone.as_str(), OWN),
        (name.as_str(), FIRST),
        (name.as_str(), "Correct horse battery staple"),
    ] {
        let answer = decide(&world, &asked, &[("login", login), ("password", password)]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{login}: {}", answer.text);
        assert_eq!(text(&answer, login), text(&wrong, &name), "{login}");
    }
    // From an address that the account does not let in: the same.
    world.done("POST", "/1.0/me/accessRestriction/ip", &json!({ "ip": "198.51.100.0/24", "rule": "deny" })).await;
    let fields = format!("days=30&decision=grant&login={}&password={}", encoded(&name), encoded(OWN));
    let path = format!("{}/login", asked.page);
    let answer = world.send_from("198.51.100.1", form(&path, &fields)).await;
    assert_eq!((answer.status, text(&answer, &name)), (StatusCode::FORBIDDEN, text(&wrong, &name)));
    // Another site's page cannot decide, and nothing but a decision decides.
    for (header, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example.org")] {
        let mut request = form(&path, &fields);
        request.headers_mut().insert(header, value.parse().expect("a header"));
        assert_eq!(world.send(request).await.status, StatusCode::FORBIDDEN, "{header}");
    }
    for more in [[("decision", "maybe")], [("decision", "")]] {
        let more = [("login", name.as_str()), ("password", OWN), more[0]];
        assert_eq!(decide(&world, &asked, &more).await.status, StatusCode::BAD_REQUEST);
    }
    refused(&world.call_as(&asked.keys, "GET", "/1.0/me", &Value::Null).await, 403, "INVALID_CREDENTIAL");
    let log = world.whole_log().await;
    for reason in
        ["there is no such user", "the password is wrong", "the user is disabled", "does not let that address in"]
    {
        assert!(log.contains(reason), "{reason}");
    }
    assert!(!log.contains(OWN) && !log.contains(FIRST));
}

#[tokio::test]
async fn guessing_ends_for_who_guesses_and_not_for_whom_it_is_about() {
    let world = World::new().await;
    let name = user(&world, "alice").await;
    let asked = ask(&world).await;
    let path = format!("{}/login", asked.page);
    let fields =
        |password: &str| format!("days=1&decision=grant&login={}&password={}", encoded(&name), encoded(password));
    let mut last = StatusCode::OK;
    for _ in 0..11 {
        last = world.send_from("203.0.113.9", form(&path, &fields("wrong"))).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let right = world.send_from("203.0.113.9", form(&path, &fields(OWN))).await;
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS, "not even the right one");
    let elsewhere = world.send_from(HERE, form(&path, &fields(OWN))).await;
    assert_eq!(elsewhere.status, StatusCode::OK, "{}", elsewhere.text);
}

#[tokio::test]
async fn a_password_that_another_chose_is_changed_before_anything_else() {
    let world = World::new().await;
    let body = json!({ "login": "alice", "group": "ADMIN", "password": FIRST });
    world.done("POST", "/1.0/me/identity/user", &body).await;
    let name = format!("{}/alice", world.account);
    let asked = ask(&world).await;
    let before = world.key_of_user("alice").await;
    for (new, told) in [("", "has to be changed"), ("short", "12 characters"), (FIRST, "another than")] {
        let answer = decide(&world, &asked, &[("login", &name), ("password", FIRST), ("new_password", new)]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.text.contains(told) && answer.text.contains("name=\"new_password\""), "{new}: {}", answer.text);
    }
    assert_eq!(
        decide(&world, &asked, &[("login", &name), ("password", FIRST), ("new_password", OWN)]).await.status,
        StatusCode::OK
    );
    let alice = world.done("GET", "/1.0/me/identity/user/alice", &Value::Null).await;
    assert_eq!(alice["status"], "OK");
    // What was granted by the password that another knew has ended, as after a reset by a link; the one asked for now has not.
    refused(&world.call_as(&before, "GET", "/1.0/me", &Value::Null).await, 403, "INVALID_CREDENTIAL");
    let ended = world.identity.credentials(None).await.expect("listed").iter().map(|key| key.id).max().expect("a key");
    assert!(world.whole_log().await.contains(&format!("\\\"credentialsEnded\\\":[{ended}]")), "which is in the log");
    let again = ask(&world).await;
    let old = decide(&world, &again, &[("login", &name), ("password", FIRST)]).await;
    assert_eq!(old.status, StatusCode::FORBIDDEN);
    assert_eq!(decide(&world, &again, &[("login", &name), ("password", OWN)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn one_time_codes_are_good_once_and_backup_codes_in_their_place() {
    let world = World::new().await;
    let name = user(&world, "alice").await;
    let alice = world.key_of_user("alice").await;
    let call = async |method: &str, path: &str, body: Value| world.call_as(&alice, method, path, &body).await;
    let none = Value::Null;
    assert_eq!(call("GET", TOTP, none.clone()).await.body, json!([]));
    refused(&call("POST", BACKUP, none.clone()).await, 409, "CONFLICT");
    let made = call("POST", TOTP, none.clone()).await.body;
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(made["qrcodeHelper"].as_str().is_some_and(|text| text.starts_with("otpauth://totp/")), "{made}");
    let one = format!("{TOTP}/{}", made["id"]);
    assert_eq!(call("GET", &one, none.clone()).await.body["status"], "needCodeValidation");
    // Not validated: it is not asked for.
    let asked = ask(&world).await;
    assert_eq!(decide(&world, &asked, &[("login", &name), ("password", OWN)]).await.status, StatusCode::OK);
    for wrong in ["", &code(&secret, 10)] {
        refused(&call("POST", &format!("{one}/validate"), json!({ "code": wrong })).await, 403, "FORBIDDEN");
    }
    refused(&call("POST", &format!("{one}/enable"), json!({ "code": code(&secret, -1) })).await, 409, "CONFLICT");
    settle().await;
    let first = code(&secret, -1);
    assert_eq!(call("POST", &format!("{one}/validate"), json!({ "code": first })).await.status, StatusCode::OK);
    assert_eq!(call("GET", &one, none.clone()).await.body["status"], "enabled");
    refused(&call("DELETE", &one, none.clone()).await, 409, "CONFLICT");

    let asked = ask(&world).await;
    let log_in =
        async |code: &str| decide(&world, &asked, &[("login", &name), ("password", OWN), ("code", code)]).await;
    let without = log_in("").await;
    assert!(without.status == StatusCode::FORBIDDEN && without.text.contains("one-time code"), "{}", without.text);
    for replayed in [first.as_str(), "not a code"] {
        assert_eq!(log_in(replayed).await.status, StatusCode::FORBIDDEN, "{replayed}");
    }
    let wrong = decide(&world, &asked, &[("login", &name), ("password", "wrong"), ("code", &code(&secret, 0))]).await;
    assert!(wrong.status == StatusCode::FORBIDDEN && !wrong.text.contains("The code"), "{}", wrong.text);
    let granted = log_in(&code(&secret, 0)).await;
    assert_eq!(
        granted.status,
        StatusCode::OK,
        "a code that came with a wrong password is not used up: {}",
        granted.text
    );

    // Backup codes: good when one was validated, each once.
    let codes = call("POST", BACKUP, none.clone()).await.body["codes"].clone();
    let codes: Vec<String> = serde_json::from_value(codes).expect("texts");
    assert_eq!(codes.len(), 10);
    assert_eq!(call("GET", BACKUP, none.clone()).await.body["status"], "needCodeValidation");
    let asked = ask(&world).await;
    let log_in =
        async |code: &str| decide(&world, &asked, &[("login", &name), ("password", OWN), ("code", code)]).await;
    assert_eq!(log_in(&codes[0]).await.status, StatusCode::FORBIDDEN);
    let validated = call("POST", &format!("{BACKUP}/validate"), json!({ "code": codes[0] })).await;
    assert_eq!(validated.body, json!({ "remainingCodes": 9 }), "{validated:?}");
    refused(&call("POST", BACKUP, none.clone()).await, 409, "CONFLICT");
    refused(&call("DELETE", BACKUP, none.clone()).await, 409, "CONFLICT");
    assert_eq!(log_in(&codes[0]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(log_in(&codes[1].to_lowercase().replace('-', " ")).await.status, StatusCode::OK);
    let asked = ask(&world).await;
    assert_eq!(
        decide(&world, &asked, &[("login", &name), ("password", OWN), ("code", &codes[1])]).await.status,
        StatusCode::FORBIDDEN
    );
    let read = call("GET", BACKUP, none.clone()).await.body;
    assert_eq!((&read["remaining"], read["lastUsedDate"].is_string()), (&json!(8), true), "{read}");
    let disabled = call("POST", &format!("{BACKUP}/disable"), json!({ "code": codes[2] })).await;
    assert_eq!(disabled.status, StatusCode::OK);
    assert_eq!(
        decide(&world, &asked, &[("login", &name), ("password", OWN), ("code", &codes[3])]).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(call("DELETE", BACKUP, none.clone()).await.status, StatusCode::OK);

    // The step after, for the one of now was used.
    let disabled = call("POST", &format!("{one}/disable"), json!({ "code": code(&secret, 1) })).await;
    assert_eq!(disabled.status, StatusCode::OK, "{disabled:?}");
    assert_eq!(decide(&world, &asked, &[("login", &name), ("password", OWN)]).await.status, StatusCode::OK);
    assert_eq!(call("DELETE", &one, none.clone()).await.status, StatusCode::OK);
    assert_eq!(call("GET", TOTP, none).await.body, json!([]));
    let log = world.whole_log().await;
    assert!(log.contains("BACKUP_CODE") && log.contains("TOTP") && !log.contains(&secret));
    assert!(codes.iter().all(|code| !log.contains(code.as_str())));
}

#[tokio::test]
async fn second_factors_are_for_the_user_alone() {
    let world = World::new().await;
    user(&world, "alice").await;
    user(&world, "bob").await;
    let (alice, bob) = (world.key_of_user("alice").await, world.key_of_user("bob").await);
    let id = world.call_as(&alice, "POST", TOTP, &Value::Null).await.body["id"].clone();
    for (method, rest, body) in [
        ("GET", "", Value::Null),
        ("PUT", "", json!({ "description": "mine" })),
        ("DELETE", "", Value::Null),
        ("POST", "/validate", json!({ "code": "000000" })),
    ] {
        let answer = world.call_as(&bob, method, &format!("{TOTP}/{id}{rest}"), &body).await;
        refused(&answer, 404, "NOT_FOUND");
    }
    // Nor may the account itself, which has none of its own.
    refused(&world.call("GET", TOTP, &Value::Null).await, 403, "FORBIDDEN");
    refused(&world.call("POST", BACKUP, &Value::Null).await, 403, "FORBIDDEN");
    world
        .done("POST", "/1.0/me/identity/user", &json!({ "login": "eve", "group": "UNPRIVILEGED", "password": FIRST }))
        .await;
    let eve = world.key_of_user("eve").await;
    assert_eq!(world.call_as(&eve, "GET", TOTP, &Value::Null).await.status, StatusCode::OK, "no policy is asked");
}

/// The secret that a page shows for one-time codes, and what its form sends back.
fn enrolment(page: &Answer) -> (String, String) {
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    let mut codes = page.text.split("<code>").filter_map(|part| part.split("</code>").next());
    let secret = codes.find(|part| part.len() == 32).expect("a secret").to_owned();
    let (_, rest) = page.text.split_once("name=\"enrolment\" value=\"").expect("what the form sends back");
    (secret, rest.split('"').next().expect("a value").to_owned())
}

#[tokio::test]
async fn where_a_second_factor_is_compulsory_who_has_none_gets_one() {
    let world = World::new().await;
    let by = audit::Actor::operator();
    let name = user(&world, "alice").await;
    world.identity.require_second_factor(&world.account, true, &by).await.expect("required");
    let asked = ask(&world).await;
    let wrong = decide(&world, &asked, &[("login", &name), ("password", "wrong")]).await;
    assert!(!wrong.text.contains("secret"), "{}", wrong.text);
    let log_in = async |code: &str, form: &str| {
        let fields = [("login", name.as_str()), ("password", OWN), ("code", code), ("enrolment", form)];
        decide(&world, &asked, &fields).await
    };
    let (secret, form) = enrolment(&log_in("", "").await);
    assert_eq!(enrolment(&log_in("000000", &form).await), (secret.clone(), form.clone()), "a mistyped code");
    settle().await;
    let done = log_in(&code(&secret, -1), &form).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let asked = ask(&world).await;
    let without = decide(&world, &asked, &[("login", &name), ("password", OWN)]).await;
    assert!(without.status == StatusCode::FORBIDDEN && !without.text.contains(&secret), "{}", without.text);
    assert_eq!(
        decide(&world, &asked, &[("login", &name), ("password", OWN), ("code", &code(&secret, 0))]).await.status,
        StatusCode::OK
    );
    // Who lost it: the operator takes it away, and the log says so.
    world.identity.reset_second_factors(&world.account, "alice", &by).await.expect("reset");
    let asked = ask(&world).await;
    let enrol = decide(&world, &asked, &[("login", &name), ("password", OWN)]).await;
    assert!(enrol.text.contains("otpauth://") && !enrol.text.contains(&secret));
    assert!(world.whole_log().await.contains("account.user.secondFactors.reset"));
}

#[tokio::test]
async fn who_has_the_password_alone_learns_no_secret_that_another_goes_on_to_use() {
    let world = World::new().await;
    let by = audit::Actor::operator();
    let name = user(&world, "alice").await;
    world.identity.require_second_factor(&world.account, true, &by).await.expect("required");
    // With a stolen key as many generators as there may be, whose secrets its thief was shown.
    let stolen = world.key_of_user("alice").await;
    let mut made = Vec::new();
    for _ in 0..10 {
        made.push(world.call_as(&stolen, "POST", TOTP, &Value::Null).await.body);
    }
    let asked = ask(&world).await;
    let log_in = async |code: &str, form: &str| {
        let fields = [("login", name.as_str()), ("password", OWN), ("code", code), ("enrolment", form)];
        decide(&world, &asked, &fields).await
    };
    let (noted, his) = enrolment(&log_in("", "").await);
    let (secret, hers) = enrolment(&log_in("", "").await);
    assert!(noted != secret && his != hers);
    assert!(made.iter().all(|one| one["secret"] != json!(noted) && one["secret"] != json!(secret)), "{made:?}");
    settle().await;
    let thiefs = made[0]["secret"].as_str().expect("a secret");
    for wrong in [code(&noted, -1), code(thiefs, -1)] {
        assert_eq!(enrolment(&log_in(&wrong, &hers).await), (secret.clone(), hers.clone()));
    }
    for unknown in ["", "00", "not a form"] {
        let (fresh, _) = enrolment(&log_in(&code(&secret, -1), unknown).await);
        assert!(fresh != secret && fresh != noted, "of a form that is none of ours, {unknown}");
    }
    let done = log_in(&code(&secret, -1), &hers).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);

    // Nothing is left that another could make good.
    let left = world.call_as(&stolen, "GET", TOTP, &Value::Null).await.body;
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    let late = world
        .call_as(&stolen, "POST", &format!("{TOTP}/{}/validate", made[0]["id"]), &json!({ "code": code(thiefs, -1) }))
        .await;
    refused(&late, 404, "NOT_FOUND");
    let asked = ask(&world).await;
    let log_in = async |code: &str, form: &str| {
        let fields = [("login", name.as_str()), ("password", OWN), ("code", code), ("enrolment", form)];
        decide(&world, &asked, &fields).await
    };
    let late = log_in(&code(&noted, 0), &his).await;
    assert!(late.status == StatusCode::FORBIDDEN && !late.text.contains("otpauth://"), "{}", late.text);
    assert_eq!(log_in(&code(&secret, 0), "").await.status, StatusCode::OK);
    let log = world.whole_log().await;
    assert!(log.contains("account.user.totp.enabled") && log.contains("account.user.totp.deleted"));
    assert!([&noted, &secret, &his, &hers].iter().all(|one| !log.contains(one.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_registers_a_security_key_and_logs_in_by_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("http://localhost:{port}");
    let world = World::at(&url).await;
    let service = world.router.clone().into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let name = user(&world, "alice").await;
    let alice = world.key_of_user("alice").await;
    let browser = Browser::start().await;
    browser.add_authenticator().await;

    // The key is made in a page of the service, for what the API asked for.
    let asked = ask(&world).await;
    browser.open(&format!("{url}{}", asked.page)).await;
    let begun = world.call_as(&alice, "POST", U2F, &Value::Null).await.body;
    let made = browser
        .run(
            "const [begun, done] = arguments;
             const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON({
                 challenge: begun.challenge, rp: { id: begun.rpId, name: begun.rpName },
                 user: { id: begun.userId, name: begun.userName, displayName: begun.userDisplayName },
                 pubKeyCredParams: [-8, -7, -257].map((alg) => ({ type: 'public-key', alg })),
                 authenticatorSelection: { residentKey: 'preferred', userVerification: 'preferred' },
             });
             navigator.credentials.create({ publicKey }).then(
                 (made) => { const { rawId, response } = made.toJSON(); done({ rawId, ...response }); },
                 (fault) => done(String(fault)));",
            &begun,
        )
        .await;
    let one = format!("{U2F}/{}", begun["id"]);
    assert_eq!(world.call_as(&alice, "GET", &one, &Value::Null).await.body["status"], "needCodeValidation");
    let validated = world.call_as(&alice, "POST", &format!("{one}/validate"), &made).await;
    assert_eq!(validated.status, StatusCode::OK, "{validated:?} {made}");
    let again = world.call_as(&alice, "POST", &format!("{one}/validate"), &made).await;
    refused(&again, 409, "CONFLICT");

    // Beside the password.
    browser.open(&format!("{url}{}", asked.page)).await;
    for (field, text) in [("#login", name.as_str()), ("#password", OWN)] {
        browser.fill(field, text).await;
    }
    browser.click("button[value=grant]").await;
    browser.wait_for("Use your security key too").await;
    browser.fill("#password", OWN).await;
    browser.click("button[name=key]").await;
    browser.wait_for("The application has access now").await;
    assert_eq!(world.call_as(&asked.keys, "GET", "/1.0/me", &Value::Null).await.status, StatusCode::OK);

    // In its place.
    let asked = ask(&world).await;
    browser.open(&format!("{url}{}", asked.page)).await;
    browser.click("button[name=passkey]").await;
    browser.wait_for("The application has access now").await;
    let details = world.call_as(&asked.keys, "GET", "/1.0/auth/details", &Value::Null).await.body;
    assert_eq!(details["user"], "alice");

    // The browser itself asks no key for a page of another host.
    let asked = ask(&world).await;
    browser.open(&format!("http://127.0.0.1:{port}{}", asked.page)).await;
    browser.click("button[name=passkey]").await;
    browser.wait_for("gave no answer: SecurityError").await;

    // A key that is disabled and removed is good no more.
    refused(&world.call_as(&alice, "DELETE", &one, &Value::Null).await, 409, "CONFLICT");
    assert_eq!(world.call_as(&alice, "POST", &format!("{one}/disable"), &Value::Null).await.status, StatusCode::OK);
    assert_eq!(world.call_as(&alice, "DELETE", &one, &Value::Null).await.status, StatusCode::OK);
    browser.open(&format!("{url}{}", asked.page)).await;
    browser.click("button[name=passkey]").await;
    browser.wait_for("is not right, or may not be used from here").await;
    refused(&world.call_as(&asked.keys, "GET", "/1.0/me", &Value::Null).await, 403, "INVALID_CREDENTIAL");
    assert_eq!(world.call_as(&alice, "GET", U2F, &Value::Null).await.body, json!([]));
    let log = world.whole_log().await;
    assert!(log.contains("U2F") && log.contains("securityKey.deleted"));
    browser.stop().await;
    serving.abort();
}
