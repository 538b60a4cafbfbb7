//! Log-ins from their beginning to their end, over a real database, with a provider that signs what it is asked.

use std::{io::Read as _, sync::Arc};

use audit::{Actor, Audit};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use db::Db;
use flate2::read::DeflateDecoder;
use jiff::{SignedDuration, Timestamp};
use keys::Keys;
use model::AccountId;

use super::{
    answer::{ACS, Answer, IDP, NOW, REQUEST, US},
    signer::{Algorithm, Signer},
    xml::{self, DSIG, METADATA, PROTOCOL},
};
use crate::{
    Error, FederatedPerson, GroupRole, Identity, LogIn, LoggedIn, NAME_ID, NewPerson, RequestedAttribute, SSO_TIME,
    SamlExtensions, SamlSettings, SsoBegun, SsoOutcome, SsoStart, SsoVisitor,
};

const BASE: &str = "https://us.example";
const ACCOUNT: &str = "ab1-casemate";

struct World {
    _dir: tempfile::TempDir,
    identity: Identity,
    db: Db,
    account: AccountId,
    signer: Signer,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
        let identity = Identity::new(db.clone(), Audit::new(db.clone()), keys);
        let (by, account) = (Actor::operator(), ACCOUNT.parse::<AccountId>().expect("an account"));
        identity.create_account(&account, "", "", &by).await.expect("an account");
        for name in ["analysts", "writers"] {
            identity.create_group(&account, name, None, GroupRole::None, &by).await.expect("a group");
        }
        World { _dir: dir, identity, db, account, signer: Signer::new(Algorithm::P256) }
    }

    async fn provided(settings: SamlSettings) -> World {
        let world = World::new().await;
        let metadata = world.metadata("");
        let (account, by) = (&world.account, Actor::operator());
        world.identity.create_saml_provider(account, &metadata, settings, &by).await.expect("a provider");
        world
    }

    fn metadata(&self, attributes: &str) -> String {
        format!(
            "<md:EntityDescriptor xmlns:md=\"{METADATA}\" entityID=\"{IDP}\" {attributes}>\
             <md:IDPSSODescriptor protocolSupportEnumeration=\"{PROTOCOL}\"><md:KeyDescriptor>\
             <ds:KeyInfo xmlns:ds=\"{DSIG}\"><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data>\
             </ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService \
             Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"https://idp.example/sso\"/>\
             </md:IDPSSODescriptor></md:EntityDescriptor>",
            self.signer.certificate_text()
        )
    }

    async fn begin(&self) -> Begun {
        Begun::read(self.start().await)
    }

    async fn start(&self) -> SsoBegun {
        match self.identity.begin_sso(ACCOUNT, BASE, "/console/jobs", None).await.expect("begun") {
            SsoStart::Begun(begun) => begun,
            other => panic!("{other:?}"),
        }
    }

    async fn finish(&self, begun: &Begun, response: &str) -> SsoOutcome {
        self.finish_at(begun, response, Timestamp::now()).await
    }

    async fn finish_at(&self, begun: &Begun, response: &str, now: Timestamp) -> SsoOutcome {
        let from = Some("192.0.2.1".parse().expect("an address"));
        let visitor = SsoVisitor { browser: &begun.browser, from, user_agent: "a browser" };
        let outcome = self.identity.finish_saml(&begun.state, response, BASE, &visitor, now).await;
        outcome.expect("an outcome")
    }

    /// What the provider answers to that request now.
    fn answer(&self, begun: &Begun, answer: Answer) -> String {
        let id = answer.assertion_id.clone();
        STANDARD.encode(self.signer.sign(&timed(answer.response(), begun), &id))
    }

    async fn log(&self) -> Vec<audit::Row> {
        let query = audit::Query { limit: 1000, ..audit::Query::default() };
        Audit::new(self.db.clone()).list(&query).await.expect("the log")
    }
}

/// The times and the request of the fixed answer, moved to those of this log-in.
fn timed(text: String, begun: &Begun) -> String {
    let now = Timestamp::now();
    let at = |minutes: i64| format!("{:.0}", now + SignedDuration::from_mins(minutes));
    text.replace(NOW, &at(0))
        .replace("2026-01-01T12:05:00Z", &at(5))
        .replace("2026-01-01T11:59:00Z", &at(-1))
        .replace("2026-01-01T13:00:00Z", &at(60))
        .replace(REQUEST, &begun.request)
}

/// What a browser holds of a log-in that was begun.
struct Begun {
    state: String,
    browser: String,
    request: String,
}

impl Begun {
    fn read(begun: SsoBegun) -> Begun {
        let url = url::Url::parse(&begun.url).expect("a URL");
        assert_eq!(url.host_str(), Some("idp.example"));
        let field = |name| url.query_pairs().find(|(known, _)| known == name).expect("a field").1.into_owned();
        let deflated = STANDARD.decode(field("SAMLRequest")).expect("Base64");
        let mut text = String::new();
        DeflateDecoder::new(&deflated[..]).read_to_string(&mut text).expect("DEFLATE");
        let document = xml::parse(&text).expect("XML");
        let root = xml::root(&document, PROTOCOL, "AuthnRequest").expect("a request");
        assert_eq!(xml::attribute(&document, root, "AssertionConsumerServiceURL"), Some(ACS));
        assert!(text.contains(US), "{text}");
        let request = xml::attribute(&document, root, "ID").expect("an id").to_owned();
        Begun { state: field("RelayState"), browser: begun.browser.to_string(), request }
    }
}

fn refused(outcome: &SsoOutcome, why: &str) {
    assert!(matches!(outcome, SsoOutcome::Refused(said) if said.contains(why)), "{outcome:?}; {why}");
}

#[tokio::test]
async fn a_session_lasts_no_longer_than_the_provider_says() {
    let world = World::provided(SamlSettings::default()).await;
    let begun = world.begin().await;
    let end = format!("{:.0}", Timestamp::now() + SignedDuration::from_mins(20));
    let attribute = format!("<saml:AuthnStatement SessionNotOnOrAfter=\"{end}\" ");
    let answer = world.answer(&begun, Answer::default().with("<saml:AuthnStatement ", &attribute));
    let outcome = world.finish(&begun, &answer).await;
    let SsoOutcome::In(person) = outcome else { panic!("{outcome:?}") };
    let end: Timestamp = end.parse().expect("a time");
    assert_eq!(person.until, Some(end + SignedDuration::from_secs(60)), "the clocks may differ by a minute");
}

#[tokio::test]
async fn a_person_comes_in_once_for_a_log_in_that_its_browser_began() {
    let world = World::provided(SamlSettings::default()).await;
    let begun = world.begin().await;
    let answer = world.answer(&begun, Answer::default());
    let outcome = world.finish(&begun, &answer).await;
    let SsoOutcome::In(person) = outcome else { panic!("{outcome:?}") };
    let expected = FederatedPerson {
        account: world.account.clone(),
        name: "ada@example.org".to_owned(),
        groups: vec!["analysts".to_owned()],
        back: "/console/jobs".to_owned(),
        since: person.since,
        until: None,
    };
    assert_eq!(person, expected);
    refused(&world.finish(&begun, &answer).await, "not begun in this browser");
    let log = world.log().await;
    let entry = log.iter().find(|entry| entry.action == "account.user.loggedIn").expect("an entry");
    let detail: serde_json::Value = serde_json::from_str(&entry.detail).expect("JSON");
    let user = serde_json::json!({ "type": "PROVIDER", "user": "ada@example.org" });
    assert_eq!((&detail["type"], &detail["authDetails"]["userDetails"]), (&"LOGIN_SUCCESS".into(), &user));
    assert_eq!(entry.identity, "federated/ada@example.org");
    let failed = log.iter().find(|entry| entry.action == "account.user.loginFailed").expect("an entry");
    assert_eq!(failed.decision, "refused");
    for entry in &log {
        let text = format!("{entry:?}");
        for secret in [&begun.state, &begun.browser, &answer] {
            assert!(!text.contains(secret.as_str()), "a secret in the audit log: {}", entry.action);
        }
    }
}

#[tokio::test]
async fn an_answer_is_taken_from_the_browser_of_its_log_in_alone() {
    let world = World::provided(SamlSettings::default()).await;
    let (mine, theirs) = (world.begin().await, world.begin().await);
    let answer = world.answer(&theirs, Answer::default());
    // Their answer and state, in my browser: somebody wants me to be logged in as somebody else.
    let mixed = Begun { state: theirs.state.clone(), browser: mine.browser.clone(), request: String::new() };
    refused(&world.finish(&mixed, &answer).await, "not begun in this browser");
    // Their answer, my state: it answers another request.
    refused(&world.finish(&mine, &answer).await, "InResponseTo");
    let nobody = Begun { state: theirs.state.clone(), browser: String::new(), request: String::new() };
    refused(&world.finish(&nobody, &answer).await, "not begun in this browser");
    let unsolicited = Begun { state: "https://evil.example/".to_owned(), ..Begun::read_of(&mine) };
    refused(&world.finish(&unsolicited, &answer).await, "not begun in this browser");
    // None of it used theirs up.
    assert!(matches!(world.finish(&theirs, &answer).await, SsoOutcome::In(_)));
}

impl Begun {
    fn read_of(other: &Begun) -> Begun {
        Begun { state: other.state.clone(), browser: other.browser.clone(), request: other.request.clone() }
    }
}

#[tokio::test]
async fn of_two_answers_at_once_one_is_taken_and_an_assertion_is_good_for_one_log_in() {
    let world = World::provided(SamlSettings::default()).await;
    let begun = world.begin().await;
    let answer = world.answer(&begun, Answer::default());
    let (one, other) = tokio::join!(world.finish(&begun, &answer), world.finish(&begun, &answer));
    let came_in = [&one, &other].iter().filter(|outcome| matches!(outcome, SsoOutcome::In(_))).count();
    assert_eq!(came_in, 1, "{one:?} {other:?}");
    // The provider uses an id again.
    let second = world.begin().await;
    let answer = world.answer(&second, Answer::default());
    refused(&world.finish(&second, &answer).await, "used already");
    let third = world.begin().await;
    let answer = world.answer(&third, Answer { assertion_id: "_third".to_owned(), ..Answer::default() });
    assert!(matches!(world.finish(&third, &answer).await, SsoOutcome::In(_)));
}

#[tokio::test]
async fn a_log_in_that_takes_too_long_is_over() {
    let world = World::provided(SamlSettings::default()).await;
    let begun = world.begin().await;
    let answer = world.answer(&begun, Answer::default());
    let late = Timestamp::now() + SSO_TIME;
    refused(&world.finish_at(&begun, &answer, late).await, "more than ten minutes");
}

#[tokio::test]
async fn who_is_in_no_group_of_the_account_does_not_come_in() {
    let world = World::provided(SamlSettings::default()).await;
    for (number, group) in ["Analysts", "strangers", "", "analysts,writers"].into_iter().enumerate() {
        let begun = world.begin().await;
        let assertion_id = format!("_assertion{number}");
        let answer = Answer { group: group.to_owned(), assertion_id, ..Answer::default() };
        refused(&world.finish(&begun, &world.answer(&begun, answer)).await, "Not in valid groups");
    }
    let begun = world.begin().await;
    let two = "writers</saml:AttributeValue><saml:AttributeValue>Domain Users</saml:AttributeValue><saml:AttributeValue>analysts";
    let answer = Answer { group: two.to_owned(), assertion_id: "_two".to_owned(), ..Answer::default() };
    match world.finish(&begun, &world.answer(&begun, answer)).await {
        SsoOutcome::In(person) => assert_eq!(person.groups, ["analysts", "writers"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_person_is_named_by_the_attribute_that_was_chosen() {
    let email = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress";
    let statement = |name: &str, values: &[&str]| {
        let values: String =
            values.iter().map(|value| format!("<saml:AttributeValue>{value}</saml:AttributeValue>")).collect();
        format!(
            "<saml:AttributeStatement><saml:Attribute Name=\"{name}\">{values}</saml:Attribute></saml:AttributeStatement>"
        )
    };
    for (chosen, sent, values, expected) in [
        (email, email, &["ada@corp.example"][..], Some("ada@corp.example")),
        (email, email, &["ada@corp.example", "root@corp.example"], None),
        (email, "other", &["ada@corp.example"], None),
        (NAME_ID, email, &["ada@corp.example"], Some("ada@example.org")),
    ] {
        let settings = SamlSettings { user_attribute: chosen.to_owned(), ..SamlSettings::default() };
        let world = World::provided(settings).await;
        let begun = world.begin().await;
        let answer = Answer { in_assertion: statement(sent, values), ..Answer::default() };
        let outcome = world.finish(&begun, &world.answer(&begun, answer)).await;
        match (expected, &outcome) {
            (Some(name), SsoOutcome::In(person)) => assert_eq!(person.name, name),
            (None, outcome) => refused(outcome, chosen),
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_account_has_one_provider_whose_changes_give_up_what_was_begun() {
    let world = World::new().await;
    let by = Actor::operator();
    let (identity, account) = (&world.identity, &world.account);
    for name in [ACCOUNT, "no account"] {
        let start = identity.begin_sso(name, BASE, "", None).await.expect("read");
        assert!(matches!(start, SsoStart::NoProvider), "{name}");
    }
    assert!(identity.saml_metadata(account, BASE).await.expect("read").is_none());
    let metadata = world.metadata("");
    let extensions = SamlExtensions {
        requested_attributes: Some(vec![RequestedAttribute {
            is_required: true,
            name: "group".to_owned(),
            name_format: None,
            values: None,
        }]),
    };
    let settings = SamlSettings { extensions: Some(extensions), sign_requests: true, ..SamlSettings::default() };
    let made = identity.create_saml_provider(account, &metadata, settings.clone(), &by).await.expect("a provider");
    assert_eq!((made.entity.as_str(), made.service.as_str()), (IDP, "https://idp.example/sso"));
    assert_eq!(made.settings, settings);
    let again = identity.create_saml_provider(account, &metadata, settings.clone(), &by).await;
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    let shown = identity.saml_metadata(account, BASE).await.expect("read").expect("metadata");
    assert!(shown.contains("X509Certificate") && shown.contains("Name=\"group\""), "{shown}");
    let sent = world.start().await;
    assert!(sent.url.contains("&SigAlg=") && sent.url.contains("&Signature="), "{}", sent.url);

    let begun = Begun::read(sent);
    let newer = Signer::new(Algorithm::P256);
    let other = metadata.replace(&world.signer.certificate_text(), &newer.certificate_text());
    identity.change_saml_provider(account, Some(&other), SamlSettings::default(), &by).await.expect("changed");
    refused(&world.finish(&begun, &world.answer(&begun, Answer::default())).await, "not begun");
    let begun = world.begin().await;
    refused(&world.finish(&begun, &world.answer(&begun, Answer::default())).await, "none of the keys");
    let begun = world.begin().await;
    identity.delete_saml_provider(account, &by).await.expect("deleted");
    refused(&world.finish(&begun, &world.answer(&begun, Answer::default())).await, "not begun");
    assert!(matches!(identity.delete_saml_provider(account, &by).await, Err(Error::NotFound { .. })));
    for (text, said) in
        [("<a/>".to_owned(), "metadata"), (world.metadata("validUntil=\"2020-01-01T00:00:00Z\""), "metadata")]
    {
        let fault = identity.create_saml_provider(account, &text, SamlSettings::default(), &by).await;
        assert!(matches!(&fault, Err(Error::Invalid { field, .. }) if *field == said), "{fault:?}");
    }
    let actions: Vec<String> = world.log().await.into_iter().map(|entry| entry.action).collect();
    for action in ["account.provider.created", "account.provider.changed", "account.provider.deleted"] {
        assert!(actions.iter().any(|known| known == action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn users_log_in_by_the_provider_alone_where_that_was_chosen_until_the_operator_says_otherwise() {
    let world = World::provided(SamlSettings { disable_users: true, ..SamlSettings::default() }).await;
    let (identity, by) = (&world.identity, Actor::operator());
    let new = NewPerson { login: "root".to_owned(), group: "ADMIN".to_owned(), ..NewPerson::default() };
    identity.create_person(&world.account, new, &by).await.expect("a user");
    let link = identity.create_setup(&world.account, "root", &by).await.expect("a link");
    let password = "correct horse battery staple";
    identity.use_setup(&link.token, password.to_owned().into(), &by).await.expect("a password");
    let name = format!("{ACCOUNT}/root");
    let given = LogIn {
        name: &name,
        password,
        code: "",
        enrolment: "",
        assertion: None,
        new_password: "",
        from: None,
        user_agent: "",
    };
    assert!(matches!(identity.log_in(&given).await, Ok(LoggedIn::Refused)));
    assert!(identity.enable_users(&world.account, &by).await.expect("changed"));
    assert!(!identity.enable_users(&world.account, &by).await.expect("changed"));
    assert!(!matches!(identity.log_in(&given).await, Ok(LoggedIn::Refused)));
}
