//! The console from outside, over the real API: sessions, forms of other sites, hostile names, and that no page shows what
//! the API would not (CTL-4, CTL-8).

#[path = "../../api/tests/support/mod.rs"]
mod support;

mod site;

use std::net::SocketAddr;

use axum::body::Body;
use console::{Access, PAGES};
use http::{StatusCode, header};
use identity::{CredentialStatus, IpRule, SESSION_IDLE};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use site::{COOKIE, HOSTILE, PASSWORD, Site, location};
use support::{Answer, BASE, encoded};

/// A page without what passkeys are asked for, which is another in each.
fn without_challenge(page: &str) -> String {
    let (before, rest) = page.split_once(" data-options=\"").expect("a passkey can be used");
    format!("{before}{}", rest.split_once('"').expect("an attribute").1)
}

/// The one script that there is.
const SCRIPT: &str = "<script src=\"/1.0/auth/security-key.js\" defer></script>";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_registers_a_security_key_and_logs_in_by_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let url = format!("http://localhost:{}", listener.local_addr().expect("an address").port());
    let site = Site::at(&url).await;
    let service = site.world.router.clone().into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let name = format!("{}/root", site.world.account);
    let chromium = support::browser::Browser::start().await;
    chromium.add_authenticator().await;
    let submit = "main form[action='/console/login'] button:not([type=button])";
    let does = |what: &str| format!("form:has(input[value='{what}']) button");
    let log_out = "form[action='/console/logout'] button";

    chromium.open(&format!("{url}/console/login")).await;
    chromium.fill("#login", &name).await;
    chromium.fill("#password", PASSWORD).await;
    chromium.click(submit).await;
    chromium.wait_for("Log out").await;
    chromium.open(&format!("{url}/console/security")).await;
    chromium.click(&does("key-create")).await;
    chromium.wait_for("A new security key").await;
    chromium.click("button[name=register]").await;
    chromium.wait_for("Disable key").await;
    // An authenticator that holds a key of the user makes no second (WebAuthn Level 3, section 6.3.2, step 3).
    chromium.click(&does("key-create")).await;
    chromium.wait_for("A new security key").await;
    chromium.click("button[name=register]").await;
    chromium.wait_for("InvalidStateError").await;

    // Beside the password.
    chromium.click(log_out).await;
    chromium.wait_for("Log in with your organisation").await;
    chromium.fill("#login", &name).await;
    chromium.fill("#password", PASSWORD).await;
    chromium.click(submit).await;
    chromium.wait_for("Use your security key too").await;
    chromium.fill("#password", PASSWORD).await;
    chromium.click("button[name=key]").await;
    chromium.wait_for("Log out").await;

    // In its place.
    chromium.click(log_out).await;
    chromium.wait_for("Log in with a passkey").await;
    chromium.click("button[name=passkey]").await;
    chromium.wait_for("Log out").await;

    // One that was removed is good no more.
    chromium.open(&format!("{url}/console/security")).await;
    chromium.click(&does("key-disable")).await;
    chromium.wait_for("Enable key").await;
    chromium.click(&does("key-delete")).await;
    chromium.wait_for_other_than("Enable key").await;
    chromium.click(log_out).await;
    chromium.wait_for("Log in with a passkey").await;
    chromium.click("button[name=passkey]").await;
    chromium.wait_for("is not right, or may not be used from here").await;
    let log = site.world.whole_log().await;
    assert!(log.contains("\\\"mfaType\\\":\\\"U2F\\\""), "{log}");
    chromium.stop().await;
    serving.abort();
}

#[tokio::test]
async fn a_log_in_opens_a_session_and_only_a_form_of_it_ends_it() {
    let site = Site::new().await;
    let mut browser = site.browser();
    let answer = browser.get("/console/iam?cursor=a%20b").await;
    assert_eq!(
        (answer.status.as_u16(), location(&answer)),
        (303, "/console/login?next=%2Fconsole%2Fiam%3Fcursor%3Da%2520b")
    );
    // One answer for all that is wrong.
    let account = site.world.account.to_string();
    let mut answers = Vec::new();
    for (login, password) in [
        (format!("{account}/root"), "wrong"),
        (format!("{account}/nobody"), PASSWORD),
        ("zz9999-nowhere/root".to_owned(), PASSWORD),
        (String::new(), ""),
    ] {
        let answer = browser.post("/console/login", &[("login", &login), ("password", password)]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{login}");
        assert!(browser.cookie.is_none());
        answers.push(without_challenge(&answer.text).replace(&login, ""));
    }
    assert!(answers[..3].iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let answer = browser.log_in("root", "/console/iam").await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/console/iam"));
    let set = answer.headers[header::SET_COOKIE].to_str().expect("text");
    let (pair, attributes) = set.split_once(';').expect("attributes");
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax; Secure");
    assert!(pair.starts_with("__Host-casemate=") && pair.len() == "__Host-casemate=".len() + 64, "{pair}");
    let page = browser.get("/console").await;
    assert!(page.text.contains(&format!("{account}/root")) && page.text.contains("first"), "{}", page.text);

    assert_eq!(browser.get("/console/logout").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(browser.is_logged_in().await);
    let (token, cookie) = (browser.token().await, browser.cookie.clone());
    let answer = browser.post("/console/logout", &[("token", &token)]).await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/console/login"));
    assert!(browser.cookie.is_none());
    browser.cookie = cookie;
    assert!(!browser.is_logged_in().await, "the session itself is gone");
}

#[tokio::test]
async fn each_log_in_makes_another_session_and_ends_the_one_before() {
    let site = Site::new().await;
    let mut browser = site.browser();
    let planted = format!("{COOKIE}={}", "a".repeat(64));
    browser.cookie = Some(planted.clone());
    browser.log_in("root", "").await;
    let first = browser.cookie.clone().expect("a session");
    assert_ne!(first, planted);
    browser.log_in("root", "").await;
    assert_ne!(browser.cookie.as_deref(), Some(first.as_str()));
    assert!(browser.is_logged_in().await);
    browser.cookie = Some(first);
    assert!(!browser.is_logged_in().await);
    browser.cookie = Some(planted);
    assert!(!browser.is_logged_in().await);
}

#[tokio::test]
async fn a_form_shows_a_secret_of_its_own_to_who_needs_a_second_factor() {
    let site = Site::new().await;
    let world = &site.world;
    world.identity.require_second_factor(&world.account, true, &audit::Actor::operator()).await.expect("required");
    let name = format!("{}/root", world.account);
    let mut browser = site.browser();
    let mut log_in = async |code: &str, form: &str| {
        let fields = [("login", name.as_str()), ("password", PASSWORD), ("code", code), ("enrolment", form)];
        let answer = browser.post("/console/login", &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        let within = |before: &str, after: char| {
            let (_, rest) = answer.text.split_once(before).expect(before);
            rest.split(after).next().expect("a value").to_owned()
        };
        (within("?secret=", '&'), within("name=\"enrolment\" value=\"", '"'))
    };
    let (first, second) = (log_in("", "").await, log_in("", "").await);
    assert!(first.0 != second.0 && first.1 != second.1);
    assert_eq!(log_in("000000", &first.1).await, first, "a mistyped code");
}

#[tokio::test]
async fn a_log_in_goes_on_within_the_console_only() {
    let site = Site::new().await;
    for (next, to) in [
        ("/console/audit?view=decisions", "/console/audit?view=decisions"),
        ("https://evil.example/console", "/console"),
        ("//evil.example/console", "/console"),
        ("/console/../1.0/me", "/console"),
        ("/console\\..\\..\\evil", "/console"),
        ("/consolex", "/console"),
        ("/console\r\nset-cookie: a=b", "/console"),
    ] {
        let mut browser = site.browser();
        assert_eq!(location(&browser.log_in("root", next).await), to, "{next}");
        let form = browser.get(&format!("/console/login?next={}", encoded(next))).await;
        assert!(!form.text.contains("evil"), "{next}");
    }
}

#[tokio::test]
async fn a_form_that_is_not_one_of_the_session_changes_nothing() {
    let site = Site::new().await;
    let (mut browser, other) = (site.logged_in("root").await, site.logged_in("root").await);
    let (own, others) = (browser.token().await, other.token().await);
    assert_ne!(own, others);
    let before = site.world.identity.sessions(&site.world.account, Timestamp::now()).await.expect("listed").len();
    let (same, origin) = ("same-origin", BASE);
    for page in PAGES.iter().filter(|page| page.method == "POST") {
        let path = site.filled(page, "x", "x", "x");
        for (headers, why) in [
            (&[("sec-fetch-site", "cross-site")][..], "another site"),
            (&[("sec-fetch-site", "same-site")], "a host beside"),
            (&[("sec-fetch-site", "cross-site"), ("origin", origin)], "the site says so"),
            (&[("origin", "https://evil.example")], "another origin"),
            (&[("origin", "null")], "an origin that is hidden"),
            (&[("origin", "https://api.example.org.evil.example")], "a longer name"),
        ] {
            let answer = browser.post_with(&path, &[("token", &own), ("do", "totp-create")], headers).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page:?}, {why}");
            assert!(answer.text.contains("another site"), "{page:?}, {why}");
        }
        if page.access == Access::Open {
            continue;
        }
        for token in ["", &others, &own[..63], &own.to_uppercase()] {
            let fields = [("token", token), ("do", "totp-create"), ("decision", "refuse")];
            let answer = browser.post_with(&path, &fields, &[("sec-fetch-site", same), ("origin", origin)]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page:?} {token}");
            assert!(answer.text.contains("not one of this session"), "{page:?} {token}");
        }
        let nobody = site.browser().post_with(&path, &[("token", &own)], &[("sec-fetch-site", same)]).await;
        assert_eq!((nobody.status.as_u16(), location(&nobody)), (303, "/console/login"), "{page:?}");
    }
    let after = site.world.identity.sessions(&site.world.account, Timestamp::now()).await.expect("listed").len();
    assert_eq!(before, after);
    assert!(!site.world.whole_log().await.contains("totp.created"));
    // The same with the right token does what it says; browsers of before say neither site nor origin.
    let answer = browser.post_with("/console/security", &[("token", &own), ("do", "totp-create")], &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(site.world.whole_log().await.contains("totp.created"));
    let long = format!("token={}", "a".repeat(70_000));
    for (body, kind, status) in
        [("token=a&token=b", FORM, 400), ("token=a", "text/plain", 415), (long.as_str(), FORM, 413)]
    {
        let request = browser.request("POST", "/console/security").header("content-type", kind);
        let answer = site.world.send(request.body(Body::from(body.to_owned())).expect("a request")).await;
        assert_eq!(answer.status.as_u16(), status, "{}", &body[..15.min(body.len())]);
    }
}

#[tokio::test]
async fn a_session_ends_by_time_and_with_what_it_rests_on() {
    let site = Site::new().await;
    let (identity, account, by) = (&site.world.identity, &site.world.account, audit::Actor::operator());
    let browser = site.logged_in("root").await;
    let nearly = SESSION_IDLE - SignedDuration::from_mins(1);
    for _ in 0..24 {
        site.wait(nearly);
        assert!(browser.is_logged_in().await, "used within its time");
    }
    site.wait(nearly);
    assert!(!browser.is_logged_in().await, "12 hours are over");
    let browser = site.logged_in("root").await;
    *site.later.lock().expect("a clock") = SignedDuration::ZERO;
    assert!(browser.is_logged_in().await);
    site.wait(SESSION_IDLE + SignedDuration::from_mins(1));
    assert!(!browser.is_logged_in().await, "nobody used it");
    *site.later.lock().expect("a clock") = SignedDuration::ZERO;

    site.user("alice", "DEFAULT").await;
    let browser = site.logged_in("alice").await;
    identity.disable_person(account, "alice", &by).await.expect("disabled");
    assert!(!browser.is_logged_in().await, "disabled");
    assert_eq!(site.browser().log_in("alice", "").await.status, StatusCode::FORBIDDEN);
    identity.enable_person(account, "alice", &by).await.expect("enabled");
    let browser = site.logged_in("alice").await;
    site.set_password("alice", PASSWORD).await;
    assert!(!browser.is_logged_in().await, "another password");
    let (mut browser, other) = (site.logged_in("alice").await, site.logged_in("alice").await);
    let listed = identity.live_credentials(Some(account)).await.expect("listed");
    let newest = listed.iter().rfind(|live| live.kind == "console").expect("a session").id.clone();
    let token = browser.token().await;
    let fields = [("token", token.as_str()), ("do", "session-end"), ("id", newest.as_str())];
    let answer = browser.post("/console/security", &fields).await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/console/security"), "{answer:?}");
    assert!(!other.is_logged_in().await && browser.is_logged_in().await, "one of two was ended");
    // Who is no administrator ends no session of another.
    let mut root = site.logged_in("root").await;
    let listed = identity.live_credentials(Some(account)).await.expect("listed");
    let of_root = listed.iter().rfind(|live| live.kind == "console" && live.holder == "root").expect("a session");
    for (path, fields) in [
        ("/console/security", [("do", "session-end"), ("id", of_root.id.as_str()), ("kind", "")]),
        ("/console/credentials", [("do", "revoke"), ("id", of_root.id.as_str()), ("kind", "console")]),
    ] {
        let fields = [&[("token", token.as_str())][..], &fields].concat();
        assert!(browser.post(path, &fields).await.status.is_client_error(), "{path}");
    }
    assert!(root.is_logged_in().await);
    // An administrator does.
    let of_alice = listed.iter().rfind(|live| live.kind == "console" && live.holder == "alice").expect("a session");
    let token = root.token().await;
    let fields = [("token", token.as_str()), ("do", "revoke"), ("kind", "console"), ("id", of_alice.id.as_str())];
    assert_eq!(root.post("/console/credentials", &fields).await.status, StatusCode::SEE_OTHER);
    assert!(!browser.is_logged_in().await, "revoked");

    let block = "192.0.2.0/24".parse().expect("a block");
    let elsewhere = Some("203.0.113.1".parse().expect("an address"));
    identity.add_ip_restriction(account, block, IpRule::Deny, false, elsewhere, &by).await.expect("a rule");
    assert_eq!(root.get("/console").await.status, StatusCode::FORBIDDEN, "from that address");
    assert_eq!(site.browser().log_in("root", "").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_cookie_that_was_altered_is_none() {
    let site = Site::new().await;
    let mut browser = site.logged_in("root").await;
    let good = browser.cookie.clone().expect("a cookie");
    let at = good.len() - 64;
    let mut altered: Vec<String> = (at..good.len())
        .map(|place| {
            let digit = if good.as_bytes()[place] == b'0' { "1" } else { "0" };
            format!("{}{digit}{}", &good[..place], &good[place + 1..])
        })
        .collect();
    altered.extend([good[..at].to_owned(), good[..good.len() - 1].to_owned(), format!("{good}0")]);
    altered.extend([good.replace("__Host-", ""), format!("{good}; {COOKIE}=x"), format!("{COOKIE}='; --")]);
    for cookie in altered {
        browser.cookie = Some(cookie.clone());
        assert!(!browser.is_logged_in().await, "{cookie}");
    }
    browser.cookie = Some(good);
    assert!(browser.is_logged_in().await);
}

#[tokio::test]
async fn what_others_wrote_is_text_on_every_page_and_every_page_can_be_read_aloud() {
    let site = Site::new().await;
    let (world, by) = (&site.world, audit::Actor::operator());
    world.identity.create_project(&world.account, HOSTILE, &by).await.expect("a project");
    let job = site.job("nightly").await;
    let (token, _) = site.asked(HOSTILE).await;
    let rights = json!({
        "name": HOSTILE, "identities": [format!("urn:v1:eu:identity:user:{}/root", world.account)],
        "resources": [{ "urn": "urn:v1:eu:resource:*" }], "permissions": { "allow": [{ "action": "*" }] },
    });
    let made = world.done("POST", "/v2/iam/policy", &rights).await;
    let policy = made["id"].as_str().expect("an id");
    let mut browser = site.browser();
    browser.agent = HOSTILE.to_owned();
    browser.log_in("root", "").await;
    let names = "next page cursor node view identity action resource at source_ip request".split(' ');
    let query: Vec<String> = names.map(|name| format!("{name}={}", encoded(HOSTILE))).collect();
    let mut seen = 0;
    for page in PAGES.iter().filter(|page| page.method == "GET") {
        let path = site.filled(page, &job, policy, &token);
        for path in [path.clone(), format!("{path}?{}", query.join("&"))] {
            let answer = browser.get(&path).await;
            let text = answer.text.replace(SCRIPT, "");
            assert!(!text.contains("<script") && !text.contains("\"onload"), "{path}: {text}");
            seen += usize::from(answer.text.contains("&#60;script&#62;") || answer.text.contains("&lt;script&gt;"));
            assert!(!answer.status.is_server_error(), "{path}: {answer:?}");
            secured(&answer);
            if answer.headers[header::CONTENT_TYPE] != "text/css; charset=utf-8" {
                read_aloud(&path, &answer.text);
            }
        }
        let nothing = site.filled(page, HOSTILE_ID, HOSTILE_ID, HOSTILE_ID);
        let answer = browser.get(&nothing).await;
        let text = answer.text.replace(SCRIPT, "");
        assert!(!text.contains("<script") && !answer.status.is_server_error(), "{nothing}: {answer:?}");
    }
    assert!(seen >= 9, "only {seen} pages showed the name: the test looks at nothing");
    for path in ["/console/nowhere", "/console/", "/console/iam/policies/", "/console/login/x"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        secured(&answer);
    }
}

fn secured(answer: &Answer) {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.headers[name], value, "{answer:?}");
    }
    let policy = answer.headers["content-security-policy"].to_str().expect("text");
    assert!(
        policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
}

/// Language, one heading of the first level, a label for each field, ids that come once, no script in the page, no style.
fn read_aloud(path: &str, html: &str) {
    assert!(html.contains("<html lang=\"en\">") && html.contains("<main id=\"main\">"), "{path}");
    assert_eq!(html.matches("<h1>").count(), 1, "{path}");
    assert_eq!(html.matches("<table>").count(), html.matches("<caption>").count(), "{path}");
    for forbidden in ["style=", "onclick=", "<style", "javascript:"] {
        assert!(!html.contains(forbidden), "{path}: {forbidden}");
    }
    let mut ids: Vec<&str> =
        html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().expect("a value")).collect();
    for field in html.split("<input").chain(html.split("<select")).skip(1).filter(|field| field.starts_with(" id=\"")) {
        let id = field[5..].split('"').next().expect("a value");
        assert!(html.contains(&format!("<label for=\"{id}\">")), "{path}: {id} has no label");
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(all, ids.len(), "{path}: an id comes twice");
}

#[tokio::test]
async fn no_page_shows_what_no_policy_allows_and_each_leaves_its_decisions_in_the_log() {
    let site = Site::new().await;
    site.user("alice", "DEFAULT").await;
    let job = site.job("nightly").await;
    let (token, _) = site.asked("app").await;
    let rights = json!({
        "name": "kept", "identities": [format!("urn:v1:eu:identity:user:{}/root", site.world.account)],
        "resources": [{ "urn": "urn:v1:eu:resource:*" }], "permissions": { "allow": [{ "action": "*" }] },
    });
    let made = site.world.done("POST", "/v2/iam/policy", &rights).await;
    let policy = made["id"].as_str().expect("an id");
    let decided = async || {
        let query = audit::Query { limit: 100_000, ..audit::Query::default() };
        let rows = site.world.audit.list(&query).await.expect("rows");
        rows.iter().filter(|row| row.detail.contains("\"source\":\"manager\"") && row.decision != "none").count()
    };
    let (root, alice) = (site.logged_in("root").await, site.logged_in("alice").await);
    for page in PAGES.iter().filter(|page| page.method == "GET" && page.access == Access::Session) {
        let mut path = site.filled(page, &job, policy, &token);
        if page.path.ends_with("/explain") {
            path.push_str(&format!(
                "?identity=urn:v1:eu:identity:user:{0}/root&action=account:apiovh:me/get&resource=urn:v1:eu:resource:account:{0}",
                site.world.account
            ));
        }
        let before = decided().await;
        let answer = root.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{page:?}: {}", answer.text);
        let between = decided().await;
        assert!(between > before, "{page:?} was shown without a decision");
        let answer = alice.get(&path).await;
        assert!(decided().await > between, "{page:?} was refused without a decision");
        let personal = matches!(page.path, "/console" | "/console/security" | "/console/grant/{token}");
        assert_eq!(answer.status == StatusCode::OK, personal, "{page:?}: {answer:?}");
        for kept in ["first", "nightly", "kept", "LOGIN_SUCCESS"] {
            assert!(!answer.text.contains(kept), "{page:?} shows {kept}: {}", answer.text);
        }
        let nobody = site.browser().get(&path).await;
        assert_eq!(nobody.status, StatusCode::SEE_OTHER, "{page:?}");
    }
    // Nobody reaches the API by the cookie itself.
    let answer = root.get("/1.0/me").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_consumer_key_is_granted_or_refused_by_the_user_who_is_logged_in() {
    let site = Site::new().await;
    site.user("alice", "DEFAULT").await;
    let mut alice = site.logged_in("alice").await;
    let form = alice.token().await;
    for (decision, status) in [("grant", CredentialStatus::Validated), ("refuse", CredentialStatus::Refused)] {
        let (token, _) = site.asked("reporter").await;
        let path = format!("/console/grant/{token}");
        let page = alice.get(&path).await;
        assert!(page.text.contains("reporter") && page.text.contains("GET /*"), "{}", page.text);
        for fields in
            [&[("token", form.as_str()), ("decision", "?")][..], &[("token", form.as_str()), ("decision", "grant")]]
        {
            assert_eq!(alice.post(&path, fields).await.status, StatusCode::BAD_REQUEST);
        }
        let mut federated = site.federated().await;
        let answer = {
            let token = federated.token().await;
            federated.post(&path, &[("token", &token), ("decision", decision), ("days", "1")]).await
        };
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        assert!(answer.text.contains("granted by a user of the account"), "{}", answer.text);
        let fields = [("token", form.as_str()), ("decision", decision), ("days", "1")];
        let answer = alice.post(&path, &fields).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let all = site.world.identity.credentials(None).await.expect("listed");
        let last = all.iter().max_by_key(|credential| credential.id).expect("a credential");
        assert_eq!(last.status, status);
        if decision == "grant" {
            let alice = site.world.identity.person(&site.world.account, "alice").await.expect("read").expect("there");
            assert_eq!(last.person, Some(alice.id));
            let days = last.expiration.expect("an end").duration_since(Timestamp::now()).as_hours();
            assert!((23..=24).contains(&days), "{days}");
        }
        assert_eq!(alice.post(&path, &fields).await.status, StatusCode::NOT_FOUND, "once");
        assert_eq!(alice.get(&path).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(site.federated().await.get("/console/security").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_right_is_explained_now_and_by_request() {
    let site = Site::new().await;
    site.user("alice", "DEFAULT").await;
    let (account, root) = (&site.world.account, site.logged_in("root").await);
    let rights = json!({
        "name": "readers", "identities": [format!("urn:v1:eu:identity:user:{account}/alice")],
        "resources": [{ "urn": format!("urn:v1:eu:resource:account:{account}") }],
        "permissions": { "allow": [{ "action": "account:apiovh:me/get" }] },
    });
    site.world.done("POST", "/v2/iam/policy", &rights).await;
    let asked = |action: &str| {
        format!(
            "/console/iam/explain?identity=urn:v1:eu:identity:user:{account}/alice&action={action}&resource=urn:v1:eu:resource:account:{account}"
        )
    };
    let answer = root.get(&asked("account:apiovh:me/get")).await;
    assert!(
        answer.text.contains("Allowed: account:apiovh:me/get") && answer.text.contains("readers"),
        "{}",
        answer.text
    );
    let answer = root.get(&asked("account:apiovh:me/identity/user/get")).await;
    assert!(answer.text.contains("Denied:") && answer.text.contains("What would have to change"), "{}", answer.text);
    let refused =
        site.world.call_as(&site.world.key_of_user("alice").await, "GET", "/1.0/me/identity/user", &Value::Null).await;
    let request = refused.headers["x-ovh-queryid"].to_str().expect("text").to_owned();
    let answer = root.get(&format!("/console/iam/explain?request={request}")).await;
    assert!(answer.text.contains("Recorded then: refused"), "{}", answer.text);

    // What is another account's is not there, nor is what is wrong explained.
    let other = site.world.other_account("cd5678-casemate").await;
    let theirs = site.world.call_as(&other, "GET", "/1.0/me", &Value::Null).await;
    let request = theirs.headers["x-ovh-queryid"].to_str().expect("text").to_owned();
    for (body, status) in [
        (json!({ "requestId": request }), 404),
        (json!({ "requestId": "casemate.none" }), 404),
        (
            json!({ "identity": format!("urn:v1:eu:identity:user:{account}/alice"), "action": "account:apiovh:me/get",
            "resource": "urn:v1:eu:resource:account:cd5678-casemate" }),
            404,
        ),
        (
            json!({ "identity": "alice", "action": "account:apiovh:me/get",
            "resource": format!("urn:v1:eu:resource:account:{account}") }),
            400,
        ),
        (
            json!({ "identity": format!("urn:v1:eu:identity:user:{account}/alice"), "action": "vps:apiovh:reboot",
            "resource": format!("urn:v1:eu:resource:account:{account}") }),
            400,
        ),
        (json!({ "identity": "x" }), 400),
        (json!({ "colour": "red" }), 400),
    ] {
        let answer = site.world.call("POST", "/v2/iam/explain", &body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {answer:?}");
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const HOSTILE_ID: &str = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
