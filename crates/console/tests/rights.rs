//! The tables of rights of the console: each page with each kind of session that is not good, with each way in which policies
//! can speak, and with each kind of contact. Which actions a page needs is read from the audit log, what they are from the
//! routes of the API (CTL-4, CTL-5, CTL-8).

#[path = "../../api/tests/support/mod.rs"]
mod support;

mod site;

use std::collections::BTreeSet;

use api::{Access as Reach, ROUTES};
use audit::Row;
use console::{Access, PAGES, Page};
use http::StatusCode;
use identity::{CredentialStatus, NewPerson, Part, SESSION_IDLE, SESSION_LONGEST};
use jiff::SignedDuration;
use model::AccountId;
use serde_json::{Value, json};
use site::{Browser, COOKIE, Site, location};
use support::{Answer, World};

/// A site with something on every page, each thing with a name that no other has.
struct Stage {
    site: Site,
    job: String,
    policy: String,
}

/// How a page is asked for.
struct Ask {
    page: &'static Page,
    path: String,
    fields: Vec<(&'static str, String)>,
}

/// What came of it.
struct Seen {
    answer: Answer,
    /// What the API was asked for it, newest first.
    decided: Vec<Decided>,
}

/// A call of the API, as the audit log has it.
#[derive(Debug)]
struct Decided {
    action: String,
    /// Who may come to its route.
    reach: Reach,
    allowed: bool,
}

impl Decided {
    fn read(row: &Row) -> Decided {
        let detail: Value = serde_json::from_str(&row.detail).expect("JSON");
        let is_it = |route: &&api::Route| detail["route"] == route.path && detail["method"] == route.method.as_str();
        let route = ROUTES.iter().find(is_it).unwrap_or_else(|| panic!("no route: {row:?}"));
        Decided { action: row.action.clone(), reach: route.access, allowed: row.decision == "allowed" }
    }

    /// Whether policies and contacts are asked.
    fn is_judged(&self) -> bool {
        self.reach == Reach::Granted
    }
}

impl Stage {
    async fn new() -> Stage {
        let site = Site::new().await;
        site.logged_in("root").await;
        let job = site.job("nightly").await;
        let rights = json!({
            "name": "kept", "identities": [format!("urn:v1:eu:identity:user:{}/root", site.world.account)],
            "resources": [{ "urn": "urn:v1:eu:resource:*" }], "permissions": { "allow": [{ "action": "*" }] },
        });
        let made = site.world.done("POST", "/v2/iam/policy", &rights).await;
        let policy = made["id"].as_str().expect("an id").to_owned();
        Stage { site, job, policy }
    }

    /// The way to a page on which there is something: for a form, something that it changes.
    async fn ask(&self, page: &'static Page) -> Ask {
        let account = &self.site.world.account;
        let token = match page.path.contains("{token}") {
            true => self.site.asked("app").await.0,
            false => String::new(),
        };
        let mut path = self.site.filled(page, &self.job, &self.policy, &token);
        if page.path == "/console/iam/explain" {
            path.push_str(&format!(
                "?identity=urn:v1:eu:identity:user:{account}/root&action=account:apiovh:me/get&resource=urn:v1:eu:resource:account:{account}"
            ));
        }
        let fields = match (page.method, page.path) {
            ("GET", _) | (_, "/console/logout") => Vec::new(),
            (_, "/console/security") => vec![("do", "key-create".to_owned())],
            (_, "/console/credentials") => {
                self.site.world.key(&[("GET", "/me")]).await;
                vec![
                    ("do", "revoke".to_owned()),
                    ("kind", "key".to_owned()),
                    ("id", self.newest_key().await.to_string()),
                ]
            }
            (_, "/console/grant/{token}") => vec![("decision", "refuse".to_owned())],
            _ => panic!("a form that this test does not know: {page:?}"),
        };
        Ask { page, path, fields }
    }

    async fn newest_key(&self) -> i64 {
        let all = self.site.world.identity.credentials(None).await.expect("listed");
        all.iter().map(|credential| credential.id).max().expect("a key")
    }

    async fn visit(&self, browser: &mut Browser<'_>, ask: &Ask) -> Seen {
        let token = if ask.page.method == "POST" { browser.token().await } else { String::new() };
        let before = newest(&self.site.world).await;
        let answer = send(browser, ask, &token).await;
        let rows = since(&self.site.world, before).await;
        let asked = rows.iter().filter(|row| row.detail.contains("\"source\":\"manager\"") && row.decision != "none");
        let decided = asked.map(Decided::read).collect();
        Seen { answer, decided }
    }

    /// Whether the key that the form of an ask would end is good.
    async fn is_key_good(&self, ask: &Ask) -> bool {
        let id = ask.fields.iter().find(|(name, _)| *name == "id").expect("a key").1.parse().expect("a number");
        let key = self.site.world.identity.credential(id).await.expect("read").expect("there");
        key.status == CredentialStatus::Validated
    }

    /// Another account with a user who may there do everything.
    async fn neighbour(&self, id: &str) -> AccountId {
        let by = audit::Actor::operator();
        let account: AccountId = id.parse().expect("an account");
        self.site.world.identity.create_account(&account, "", "", &by).await.expect("an account");
        let new = NewPerson { login: "boss".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
        self.site.world.identity.create_person(&account, new, &by).await.expect("a user");
        account
    }
}

async fn send(browser: &mut Browser<'_>, ask: &Ask, token: &str) -> Answer {
    if ask.page.method == "GET" {
        return browser.get(&ask.path).await;
    }
    let mut fields = vec![("token", token)];
    fields.extend(ask.fields.iter().map(|(name, value)| (*name, value.as_str())));
    browser.post(&ask.path, &fields).await
}

async fn newest(world: &World) -> i64 {
    let query = audit::Query { limit: 1, ..audit::Query::default() };
    world.audit.list(&query).await.expect("rows")[0].id
}

async fn since(world: &World, before: i64) -> Vec<Row> {
    let query = audit::Query { limit: 1_000, ..audit::Query::default() };
    let rows = world.audit.list(&query).await.expect("rows");
    rows.into_iter().filter(|row| row.id > before).collect()
}

fn shown(answer: &Answer) -> BTreeSet<&'static str> {
    MARKS.into_iter().filter(|mark| answer.text.contains(mark)).collect()
}

#[tokio::test]
async fn every_page_sends_every_session_that_is_not_good_to_the_log_in_and_does_nothing() {
    let stage = Stage::new().await;
    let (site, by) = (&stage.site, audit::Actor::operator());
    let (identity, account) = (&site.world.identity, &site.world.account);
    site.user("alice", "DEFAULT").await;
    for page in PAGES.iter().filter(|page| page.access == Access::Session) {
        for way in [
            "none",
            "unknown",
            "altered",
            "of the other cookie",
            "idle",
            "over",
            "ended",
            "of a disabled user",
            "of a removed user",
            "of another password",
            "of a provider that is gone",
        ] {
            let ask = stage.ask(page).await;
            let mut browser = match way {
                "over" => site.busy_session().await,
                "of a removed user" => {
                    let login = "passing".to_owned();
                    let new = NewPerson { login, group: "DEFAULT".to_owned(), ..NewPerson::default() };
                    identity.create_person(account, new, &by).await.expect("a user");
                    site.session_of(account, "passing").await
                }
                "of a disabled user" | "of another password" => site.session_of(account, "alice").await,
                "of a provider that is gone" => site.federated().await,
                _ => site.session_of(account, "root").await,
            };
            let good = browser.cookie.clone().expect("a cookie");
            let token = browser.token().await;
            match way {
                "none" => browser.cookie = None,
                "unknown" => browser.cookie = Some(format!("{COOKIE}={}", "0".repeat(64))),
                "altered" => {
                    let last = if good.ends_with('0') { "1" } else { "0" };
                    browser.cookie = Some(format!("{}{last}", &good[..good.len() - 1]));
                }
                "of the other cookie" => browser.cookie = Some(good.replace("__Host-", "")),
                "idle" => site.wait(SESSION_IDLE + SignedDuration::from_secs(1)),
                "over" => site.wait(SESSION_LONGEST),
                "ended" => {
                    let all = identity.live_credentials(Some(account)).await.expect("listed");
                    let newest = all.iter().filter(|live| live.kind == "console");
                    let newest = newest.filter_map(|live| live.id.parse().ok()).max().expect("a session");
                    assert!(identity.end_session(newest, &by).await.expect("ended"));
                }
                "of a disabled user" => identity.disable_person(account, "alice", &by).await.expect("disabled"),
                "of a removed user" => identity.delete_person(account, "passing", &by).await.expect("removed"),
                "of another password" => site.set_password("alice", site::PASSWORD).await,
                "of a provider that is gone" => {
                    let mut tx = site.world.db.begin().await.expect("a transaction");
                    identity.end_federated_sessions(&mut tx, account).await.expect("ended");
                    tx.commit().await.expect("committed");
                }
                _ => unreachable!("each way is above"),
            }
            let before = newest(&site.world).await;
            let answer = send(&mut browser, &ask, &token).await;
            let next = match page.method {
                "GET" => format!("?next={}", ask.path.bytes().map(encoded).collect::<String>()),
                _ => String::new(),
            };
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{page:?}, {way}: {answer:?}");
            assert_eq!(location(&answer), format!("/console/login{next}"), "{page:?}, {way}");
            assert!(answer.text.is_empty(), "{page:?}, {way}");
            let rows = since(&site.world, before).await;
            let actions: Vec<&str> = rows.iter().map(|row| row.action.as_str()).collect();
            let expected: &[&str] = match way {
                // No cookie of that name is a session that is tried.
                "none" | "of the other cookie" => &[],
                "idle" | "over" => &["account.session.expired"],
                _ => &["account.session.refused"],
            };
            assert_eq!(actions, expected, "{page:?}, {way}");
            *site.later.lock().expect("a clock") = SignedDuration::ZERO;
            if way == "of a disabled user" {
                identity.enable_person(account, "alice", &by).await.expect("enabled");
            }
        }
    }
}

#[tokio::test]
async fn every_page_shows_and_does_what_policies_allow_and_no_more() {
    let stage = Stage::new().await;
    let (site, account) = (&stage.site, &stage.site.world.account);
    site.user("alice", "DEFAULT").await;
    let rights = |ways: Value| {
        json!({
            "name": "matrix", "identities": [format!("urn:v1:eu:identity:user:{account}/alice")],
            "resources": [{ "urn": "urn:v1:eu:resource:*" }],
            "permissions": ways["permissions"], "expiredAt": ways["expiredAt"],
        })
    };
    let made = site.world.done("POST", "/v2/iam/policy", &rights(json!({ "permissions": {} }))).await;
    let policy = format!("/v2/iam/policy/{}", made["id"].as_str().expect("an id"));
    let mut judged = BTreeSet::new();
    for page in PAGES.iter().filter(|page| page.access == Access::Session && page.path != "/console/logout") {
        let ask = stage.ask(page).await;
        let of_root = stage.visit(&mut site.session_of(account, "root").await, &ask).await;
        let done = of_root.answer.status;
        assert!(done == StatusCode::OK || done == StatusCode::SEE_OTHER, "{page:?}: {:?}", of_root.answer);
        assert!(!of_root.decided.is_empty(), "{page:?} was shown without a decision");
        let is_list = of_root.decided.iter().any(|one| one.reach == Reach::Filtered);
        let asked = of_root.decided.iter().filter(|one| one.is_judged());
        let asked: BTreeSet<&str> = asked.map(|one| one.action.as_str()).collect();
        judged.extend(asked.iter().map(|action| (*action).to_owned()));
        // A list shows what may be seen one by one.
        let needed = asked.iter().copied().chain(is_list.then_some("publicCloudProject:apiovh:get"));
        let theirs: Value = needed.map(|action| json!({ "action": action })).collect();
        let all = json!([{ "action": "*" }]);
        for (way, may, ways) in [
            ("nothing allows", false, json!({ "permissions": {} })),
            ("they are excepted", false, json!({ "permissions": { "allow": all, "except": theirs } })),
            ("they are allowed", true, json!({ "permissions": { "allow": theirs } })),
            ("all is allowed", true, json!({ "permissions": { "allow": all } })),
            ("they are denied", false, json!({ "permissions": { "allow": all, "deny": theirs } })),
            ("it expired", false, json!({ "permissions": { "allow": all }, "expiredAt": "2020-01-01T00:00:00Z" })),
        ] {
            site.world.done("PUT", &policy, &rights(ways)).await;
            let ask = stage.ask(page).await;
            let seen = stage.visit(&mut site.session_of(account, "alice").await, &ask).await;
            let what = format!("{page:?}, {way}: {:?} {:?}", seen.answer, seen.decided);
            let is_own = asked.is_empty() && !is_list;
            if may || is_own {
                assert_eq!(seen.answer.status, done, "{what}");
                assert_eq!(shown(&seen.answer), shown(&of_root.answer), "{what}");
                assert!(seen.decided.iter().all(|one| one.allowed), "{what}");
                continue;
            }
            assert!(shown(&seen.answer).is_empty(), "{what}");
            assert!(seen.decided.iter().all(|one| one.allowed != one.is_judged()), "{what}");
            assert_eq!(seen.answer.status, if is_list { done } else { StatusCode::FORBIDDEN }, "{what}");
            if page.method == "POST" {
                assert!(stage.is_key_good(&ask).await, "{what}");
            }
        }
        for action in asked {
            let ways = json!({ "permissions": { "allow": all, "except": [{ "action": action }] } });
            site.world.done("PUT", &policy, &rights(ways)).await;
            let ask = stage.ask(page).await;
            let seen = stage.visit(&mut site.session_of(account, "alice").await, &ask).await;
            let what = format!("{page:?} without {action}: {:?}", seen.answer);
            assert!(seen.decided.iter().any(|one| one.action == action && !one.allowed), "{what}");
            assert!(seen.answer.text.contains(&format!("unauthorizedActionsByIAM: {action}")), "{what}");
        }
    }
    assert!(judged.len() >= 9, "only {judged:?}: the test looks at nothing");
}

#[tokio::test]
async fn every_page_of_a_project_is_for_the_contacts_whose_part_it_is_and_no_other_page_is_for_other_accounts() {
    let stage = Stage::new().await;
    let (site, world) = (&stage.site, &stage.site.world);
    let (admin, tech) = (stage.neighbour("gh3456-casemate").await, stage.neighbour("cd5678-casemate").await);
    let (billing, stranger) = (stage.neighbour("ef9012-casemate").await, stage.neighbour("ij7890-casemate").await);
    let contacts = db::contacts::Contacts { admin: admin.clone(), tech: tech.clone(), billing: billing.clone() };
    let mut tx = world.db.begin().await.expect("begun");
    db::contacts::set(&mut tx, &world.project, &contacts).await.expect("written");
    tx.commit().await.expect("committed");
    let nothing: &[Part] = &[];
    let all: &[Part] = &[Part::Presence, Part::Operation, Part::Billing, Part::Administration];
    let mut refused = 0;
    for (who, account, login, parts) in [
        ("the administrative contact", &admin, "boss", all),
        ("the technical contact", &tech, "boss", &[Part::Presence, Part::Operation][..]),
        ("the billing contact", &billing, "boss", &[Part::Presence, Part::Billing][..]),
        ("the owner who is no contact", &world.account, "root", nothing),
        ("a stranger", &stranger, "boss", nothing),
    ] {
        for page in PAGES.iter().filter(|page| page.access == Access::Session && page.path != "/console/logout") {
            let ask = stage.ask(page).await;
            let seen = stage.visit(&mut site.session_of(account, login).await, &ask).await;
            let (status, what) = (seen.answer.status, format!("{page:?}, {who}: {:?} {:?}", seen.answer, seen.decided));
            if page.path.contains("{project}") {
                assert!(!seen.decided.is_empty(), "{what}");
                for Decided { action, allowed, .. } in &seen.decided {
                    assert_eq!(*allowed, parts.contains(&Part::of_action(action)), "{action}: {what}");
                    if !allowed && !parts.is_empty() {
                        refused += 1;
                        assert!(seen.answer.text.contains(&format!("unauthorizedActionsByIAM: {action}")), "{what}");
                    }
                }
                let first = seen.decided.last().expect("a decision").allowed;
                let expected = match (parts.is_empty(), first) {
                    (true, _) => StatusCode::NOT_FOUND,
                    (false, true) => StatusCode::OK,
                    (false, false) => StatusCode::FORBIDDEN,
                };
                assert_eq!(status, expected, "{what}");
                assert_eq!(shown(&seen.answer).is_empty(), expected != StatusCode::OK, "{what}");
                continue;
            }
            if *account == world.account {
                continue;
            }
            // What is the owner's account's, and not the project's, is there for none of them.
            let marks = shown(&seen.answer);
            let sees_project = page.path == "/console" && !parts.is_empty();
            assert_eq!(marks, if sees_project { BTreeSet::from([">first<"]) } else { BTreeSet::new() }, "{what}");
            let is_named = ["/console/iam/policies/{policy}", "/console/iam/explain"].contains(&page.path)
                || (page.method, page.path) == ("POST", "/console/credentials");
            match is_named {
                true => assert_eq!(status, StatusCode::NOT_FOUND, "{what}"),
                false => assert!(status == StatusCode::OK || status == StatusCode::SEE_OTHER, "{what}"),
            }
            if (page.method, page.path) == ("POST", "/console/credentials") {
                assert!(stage.is_key_good(&ask).await, "{what}");
            }
        }
    }
    assert!(refused > 0, "nothing was refused by its part: the test looks at nothing");
}

/// A byte as the console encodes it in an address.
fn encoded(byte: u8) -> String {
    let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// Names of things of the account as pages show them: its project in a list and alone, its job, its policy, a log-in.
const MARKS: [&str; 5] = [">first<", "Project first", "nightly", "kept", "LOGIN_SUCCESS"];
