//! Sessions of the console over a real database: when they end, by what, and what a copy of the database tells.

use std::{net::IpAddr, sync::Arc};

use audit::{Actor, Audit, Query};
use db::Db;
use identity::{
    AccessRule, Caller, CredentialRequest, Error, Factor, GroupRole, Identity, IpRule, NewPerson, NewSession,
    OpenSession, Opener, Proof, Refusal, SESSION_IDLE, SESSION_LONGEST, Who,
};
use jiff::{SignedDuration, Timestamp};
use keys::Keys;
use model::AccountId;
use zeroize::Zeroizing;

struct World {
    dir: tempfile::TempDir,
    identity: Identity,
    audit: Audit,
    account: AccountId,
    by: Actor,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
        let audit = Audit::new(db.clone());
        let identity = Identity::new(db.clone(), audit.clone(), keys);
        let (by, account) = (Actor::operator(), "ab1234-casemate".parse::<AccountId>().expect("an account"));
        identity.create_account(&account, "", "", &by).await.expect("an account");
        let mut tx = db.begin().await.expect("a transaction");
        let (kind, at) = ("OIDC".to_owned(), Timestamp::now());
        let provider =
            db::sso::Provider { account: account.clone(), kind, disable_users: false, created: at, updated: at };
        db::sso::insert(&mut tx, &provider).await.expect("a provider");
        tx.commit().await.expect("committed");
        let new = NewPerson { login: "eve".to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
        identity.create_person(&account, new, &by).await.expect("a user");
        World { dir, identity, audit, account, by }
    }

    async fn open(&self) -> OpenSession {
        self.open_as(&self.eve().await).await
    }

    /// The user as one who logged in now.
    async fn eve(&self) -> Opener {
        let person = self.identity.person(&self.account, "eve").await.expect("read").expect("there");
        Opener::User { id: person.id, login: person.login, password_set: person.password_updated }
    }

    async fn open_federated(&self, groups: &[&str]) -> OpenSession {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let (name, since) = ("eve".to_owned(), Timestamp::now());
        self.open_as(&Opener::Federated { name, groups, since, until: None }).await
    }

    async fn open_as(&self, who: &Opener) -> OpenSession {
        let new = NewSession {
            account: &self.account,
            who,
            factor: Some(Factor::Totp),
            from: ip("192.0.2.7"),
            user_agent: "t",
        };
        self.identity.open_session(&new).await.expect("opened")
    }

    async fn used(&self, session: &OpenSession, at: Timestamp) -> Result<Caller, Refusal> {
        self.identity.authenticate_session(&session.secret, ip("192.0.2.7"), at).await
    }

    async fn actions(&self) -> Vec<String> {
        let rows = self.audit.list(&Query { limit: 100, ..Query::default() }).await.expect("rows");
        rows.into_iter().map(|row| row.action).collect()
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

fn ended(result: &Result<Caller, Refusal>) -> bool {
    matches!(result, Err(Refusal::InvalidSession))
}

#[tokio::test]
async fn a_session_is_good_while_it_is_used_and_not_after_its_longest_time() {
    let world = World::new().await;
    let second = SignedDuration::from_secs(1);
    let session = world.open().await;
    let begun = session.expires - SESSION_LONGEST;
    let mut at = begun;
    while at < session.expires {
        let caller = world.used(&session, at).await.expect("good");
        assert_eq!(caller.proof, Proof::Session { id: session.id });
        assert!(matches!(caller.who, Who::User { ref login, .. } if login == "eve"), "{caller:?}");
        at += SESSION_IDLE - second;
    }
    assert!(ended(&world.used(&session, session.expires).await), "however much it is used");
    assert!(ended(&world.used(&session, begun).await), "it is gone, not only late");

    let idle = world.open().await;
    // In the microseconds that the database keeps.
    let at = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("a time");
    world.used(&idle, at).await.expect("good");
    // The time of the last use is not lost by its writing.
    world.identity.flush().await.expect("written");
    assert_eq!(world.identity.sessions(&world.account, at).await.expect("listed")[0].ends, at + SESSION_IDLE);
    assert!(world.identity.sessions(&world.account, at + SESSION_IDLE).await.expect("listed").is_empty());
    world.used(&idle, at + SESSION_IDLE - second).await.expect("good");
    assert!(ended(&world.used(&idle, at + SESSION_IDLE - second + SESSION_IDLE).await));
    let actions = world.actions().await;
    assert_eq!(actions.iter().filter(|action| *action == "account.session.expired").count(), 2, "{actions:?}");
}

#[tokio::test]
async fn sessions_end_with_what_they_rest_on() {
    let world = World::new().await;
    let (identity, account, by, now) = (&world.identity, &world.account, &world.by, Timestamp::now());

    let session = world.open().await;
    identity.disable_person(account, "eve", by).await.expect("disabled");
    assert!(ended(&world.used(&session, now).await), "disabled");
    identity.enable_person(account, "eve", by).await.expect("enabled");
    assert!(ended(&world.used(&session, now).await), "enabled again, but the session is gone");

    let session = world.open().await;
    let link = identity.create_setup(account, "eve", by).await.expect("a link");
    world.used(&session, now).await.expect("nothing has changed yet");
    identity.use_setup(&link.token, Zeroizing::new("correct horse battery staple".to_owned()), by).await.expect("set");
    assert!(ended(&world.used(&session, now).await), "another password");

    let session = world.open().await;
    identity.reset_second_factors(account, "eve", by).await.expect("reset");
    assert!(ended(&world.used(&session, now).await), "second factors were lost");

    let (one, other) = (world.open().await, world.open().await);
    assert!(identity.end_session(one.id, by).await.expect("ended"));
    assert!(!identity.end_session(one.id, by).await.expect("ended before"));
    assert!(ended(&world.used(&one, now).await), "ended");
    world.used(&other, now).await.expect("another stays");
    let listed = identity.live_credentials(Some(account)).await.expect("listed");
    let live = listed.iter().find(|live| live.kind == "console").expect("listed");
    assert_eq!((live.holder.as_str(), live.id.clone()), ("eve", other.id.to_string()));
    identity.revoke("console", &live.id, by).await.expect("revoked");
    assert!(ended(&world.used(&other, now).await), "revoked");
    assert!(matches!(identity.revoke("console", &live.id, by).await, Err(Error::NotFound { .. })));

    let session = world.open().await;
    identity.delete_person(account, "eve", by).await.expect("removed");
    assert!(ended(&world.used(&session, now).await), "removed");
    let actions = world.actions().await;
    for action in ["account.session.opened", "account.session.ended", "account.session.refused"] {
        assert!(actions.iter().any(|done| done == action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn a_session_has_the_rights_of_now_and_passes_the_rules_of_the_account() {
    let world = World::new().await;
    let (identity, account, by, now) = (&world.identity, &world.account, &world.by, Timestamp::now());
    identity.create_group(account, "boss", None, GroupRole::Admin, by).await.expect("a group");
    let session = world.open_federated(&["boss", "DEFAULT", "gone"]).await;
    let caller = world.used(&session, now).await.expect("good");
    assert!(caller.is_admin());
    let groups =
        [format!("urn:v1:eu:identity:group:{account}/DEFAULT"), format!("urn:v1:eu:identity:group:{account}/boss")];
    assert_eq!(caller.identities(), groups, "never the user of that name");
    assert_eq!(caller.actor().identity, "federated/eve");
    identity.delete_group(account, "boss", by).await.expect("removed");
    assert!(!world.used(&session, now).await.expect("good").is_admin(), "rights of now");
    // A provider that was changed after its answer came vouches for nobody.
    let since = Timestamp::now() - SignedDuration::from_hours(1);
    let (name, groups) = ("eve".to_owned(), vec!["ADMIN".to_owned()]);
    let who = Opener::Federated { name, groups, since, until: None };
    let new = NewSession { account, who: &who, factor: None, from: None, user_agent: "t" };
    assert!(identity.open_session(&new).await.is_err());
    // The provider may say that it is to end before its longest time, and not that it is to last longer.
    let by_provider = async |until: Timestamp| {
        let (name, groups, since) = ("eve".to_owned(), vec!["DEFAULT".to_owned()], Timestamp::now());
        world.open_as(&Opener::Federated { name, groups, since, until: Some(until) }).await
    };
    let (soon, second) = (now + SignedDuration::from_mins(5), SignedDuration::from_secs(1));
    let session = by_provider(soon).await;
    assert_eq!(session.expires, soon);
    world.used(&session, soon - second).await.expect("good to its end");
    assert!(ended(&world.used(&session, soon).await), "not a moment longer");
    let late = now + SESSION_LONGEST * 2;
    assert!(by_provider(late).await.expires < late);
    let nobody = world.open_federated(&["gone"]).await;
    assert!(ended(&world.used(&nobody, now).await));

    let session = world.open().await;
    let block = "192.0.2.0/24".parse().expect("a block");
    identity.add_ip_restriction(account, block, IpRule::Deny, false, ip("203.0.113.1"), by).await.expect("a rule");
    assert!(matches!(world.used(&session, now).await, Err(Refusal::SourceIp { .. })));
    identity.authenticate_session(&session.secret, ip("203.0.113.1"), now).await.expect("from elsewhere");
}

#[tokio::test]
async fn what_was_proved_by_a_password_that_was_reset_meanwhile_opens_nothing() {
    let world = World::new().await;
    let (identity, account, by) = (&world.identity, &world.account, &world.by);
    let (who, person) = (world.eve().await, identity.person(account, "eve").await.expect("read").expect("there"));
    let application = identity.create_application(account, "app", "", by).await.expect("an application").application;
    let request = CredentialRequest { rules: AccessRule::everything(), ..CredentialRequest::default() };
    let pending = identity.request_credential(&application, &request, by).await.expect("asked");
    let link = identity.create_setup(account, "eve", by).await.expect("a link");
    let chosen = Zeroizing::new("correct horse battery staple".to_owned());
    identity.use_setup(&link.token, chosen, by).await.expect("a password");

    let new = NewSession { account, who: &who, factor: None, from: None, user_agent: "t" };
    assert!(matches!(identity.open_session(&new).await, Err(Error::AccessDenied { .. })));
    let granted = identity.validate_as(&pending.token, &person, None, by).await;
    assert!(matches!(granted, Err(Error::AccessDenied { .. })), "{granted:?}");
    assert!(identity.sessions(account, Timestamp::now()).await.expect("listed").is_empty());
    assert!(identity.pending(&pending.token).await.expect("read").is_some(), "nothing was decided");
    // By the new one, both are; but not by one who was disabled meanwhile, and not when it is enabled again.
    let who = world.eve().await;
    identity.disable_person(account, "eve", by).await.expect("disabled");
    let new = NewSession { account, who: &who, factor: None, from: None, user_agent: "t" };
    assert!(matches!(identity.open_session(&new).await, Err(Error::AccessDenied { .. })));
    identity.enable_person(account, "eve", by).await.expect("enabled");
    assert!(identity.sessions(account, Timestamp::now()).await.expect("listed").is_empty());
    world.open().await;
    let person = identity.person(account, "eve").await.expect("read").expect("there");
    identity.validate_as(&pending.token, &person, None, by).await.expect("granted");
}

#[tokio::test]
async fn an_altered_secret_is_none_and_the_database_has_no_secret() {
    let world = World::new().await;
    let now = Timestamp::now();
    let session = world.open().await;
    assert_eq!(session.secret.len(), 64);
    assert_ne!(world.open().await.secret, session.secret);
    for at in 0..session.secret.len() {
        let mut altered = session.secret.as_bytes().to_vec();
        altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
        let altered = String::from_utf8(altered).expect("text");
        let used = world.identity.authenticate_session(&altered, ip("192.0.2.7"), now).await;
        assert!(ended(&used), "{at}");
    }
    let long = "a".repeat(100_000);
    for wrong in
        ["", "x", &session.secret[..63], &session.secret.to_uppercase(), &format!("{}0", *session.secret), &long]
    {
        if wrong != session.secret.as_str() {
            assert!(ended(&world.identity.authenticate_session(wrong, None, now).await), "{}", wrong.len());
        }
    }
    world.used(&session, now).await.expect("the right one is good");
    for file in std::fs::read_dir(world.dir.path()).expect("listed").flatten().filter(|file| file.path().is_file()) {
        let bytes = std::fs::read(file.path()).expect("read");
        let found = bytes.windows(64).any(|part| part == session.secret.as_bytes());
        assert!(!found, "a secret in clear");
    }
    assert!(!format!("{session:?}").contains(session.secret.as_str()));
}

#[tokio::test]
async fn one_holder_has_twenty_sessions_and_old_ones_are_swept() {
    let world = World::new().await;
    let now = Timestamp::now();
    let first = world.open().await;
    let federated = world.open_federated(&["DEFAULT"]).await;
    for _ in 0..20 {
        world.open().await;
    }
    assert!(ended(&world.used(&first, now).await));
    world.used(&federated, now).await.expect("of another holder");
    assert_eq!(world.identity.sessions(&world.account, now).await.expect("listed").len(), 21);
    world.identity.flush().await.expect("written");
    assert_eq!(world.identity.remove_expired_s3_keys(now).await.expect("swept"), 0);
    assert_eq!(world.identity.remove_expired_s3_keys(now + SESSION_IDLE * 2).await.expect("swept"), 21);
}
