//! Identities over a real database and real keys.

use std::{path::Path, sync::Arc};

use audit::{Actor, Audit};
use db::Db;
use identity::{
    AccessRule, Application, CredentialRequest, CredentialStatus, Error, Identity, Method, NewApplication, Refusal,
    Resource, Scope, SignedRequest,
};
use jiff::Timestamp;
use keys::Keys;
use model::{AccountId, AttemptNo, JobId, ProjectId, SandboxId};
use zeroize::Zeroizing;

struct World {
    dir: tempfile::TempDir,
    identity: Identity,
    account: AccountId,
    project: ProjectId,
    application: NewApplication,
}

async fn open(data: &Path, keys: &Path) -> Identity {
    let db = Db::open(&data.join("casemate.sqlite")).await.expect("a database");
    let keys = Arc::new(Keys::open(keys).expect("keys"));
    Identity::new(db.clone(), Audit::new(db), keys)
}

async fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let identity = open(dir.path(), &dir.path().join("keys")).await;
    let by = Actor::operator();
    let account: AccountId = "ab1234-casemate".parse().expect("an account");
    identity.create_account(&account, "a@example.org", "A", &by).await.expect("an account");
    let project = identity.create_project(&account, "first", &by).await.expect("a project").id;
    let application = identity.create_application(&account, "app", "", &by).await.expect("an application");
    World { dir, identity, account, project, application }
}

fn sign(secret: &str, consumer: &str, method: &str, url: &str, body: &str, at: i64) -> String {
    let text = format!("{secret}+{consumer}+{method}+{url}+{body}+{at}");
    format!("$1${}", crypto::digest::sha1_hex(&[text.as_bytes()]))
}

async fn call(
    world: &World,
    secret: &str,
    consumer: &str,
    at: i64,
    ip: Option<&str>,
) -> Result<identity::Caller, Refusal> {
    let url = "https://api.example.org/1.0/me".to_owned();
    let request = SignedRequest {
        application: Some(&world.application.application.key),
        consumer: Some(consumer),
        timestamp: Some(&at.to_string()),
        signature: Some(&sign(secret, consumer, "GET", &url, "", at)),
        method: "GET",
        urls: &["http://127.0.0.1/1.0/me".to_owned(), url.clone()],
        body: b"",
        source_ip: ip.map(|ip| ip.parse().expect("an address")),
    };
    world.identity.authenticate(&request, Timestamp::now()).await
}

fn everything() -> CredentialRequest {
    CredentialRequest { rules: AccessRule::everything(), ..CredentialRequest::default() }
}

#[tokio::test]
async fn a_signed_call_is_its_account_and_anything_else_is_refused() {
    let world = world().await;
    let application = &world.application.application;
    let (secret, now) = (world.application.secret.as_str(), Timestamp::now().as_second());
    assert_eq!((application.key.len(), secret.len()), (16, 32));
    let key =
        world.identity.create_credential(application, &everything(), None, &Actor::operator()).await.expect("a key");
    let consumer = key.consumer_key.as_str();
    assert_eq!(consumer.len(), 32);

    let caller = call(&world, secret, consumer, now, None).await.expect("a caller");
    assert_eq!(caller.account, world.account);
    assert!(matches!(call(&world, "wrong", consumer, now, None).await, Err(Refusal::Signature)));
    assert!(matches!(call(&world, secret, "wrong", now, None).await, Err(Refusal::InvalidCredential)));
    assert!(matches!(call(&world, secret, consumer, now - 60, None).await, Err(Refusal::Timestamp)));
    assert!(matches!(call(&world, secret, consumer, now + 60, None).await, Err(Refusal::Timestamp)));

    // The time of use is known at once, and in the database after a flush.
    let used = world.identity.credential(key.id).await.expect("a credential").expect("there");
    assert!(used.last_use.is_some());
    world.identity.flush().await.expect("flushed");
    let again = open(world.dir.path(), &world.dir.path().join("keys")).await;
    assert!(again.credential(key.id).await.expect("a credential").expect("there").last_use.is_some());

    // Another application's consumer key is none of this one's.
    let other = world.identity.create_application(&world.account, "other", "", &Actor::operator()).await.expect("made");
    let foreign = world
        .identity
        .create_credential(&other.application, &everything(), None, &Actor::operator())
        .await
        .expect("a key");
    assert!(matches!(call(&world, secret, &foreign.consumer_key, now, None).await, Err(Refusal::InvalidCredential)));

    world.identity.expire_credential(key.id, &Actor::operator()).await.expect("ended");
    assert!(matches!(call(&world, secret, consumer, now, None).await, Err(Refusal::InvalidCredential)));
}

#[tokio::test]
async fn a_copied_database_alone_cannot_sign() {
    let world = world().await;
    let application = &world.application.application;
    let key =
        world.identity.create_credential(application, &everything(), None, &Actor::operator()).await.expect("a key");
    let pending =
        world.identity.request_credential(application, &everything(), &Actor::operator()).await.expect("asked");
    let s3 = world.identity.create_s3_key(&world.project, None, &Actor::operator()).await.expect("a key");

    // Everything that is in the database's files, the write-ahead log included, holds none of the secrets.
    let mut files = Vec::new();
    for entry in std::fs::read_dir(world.dir.path()).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            files.extend(std::fs::read(path).expect("read"));
        }
    }
    assert!(files.windows(16).any(|part| part == application.key.as_bytes()), "the database was looked at");
    for secret in [&world.application.secret, &key.consumer_key, &pending.token, &pending.consumer_key, &s3.secret] {
        assert!(!files.windows(secret.len()).any(|part| part == secret.as_bytes()), "a secret in clear");
        let raw = hex::decode(secret.as_str()).expect("hex");
        assert!(!files.windows(raw.len()).any(|part| part == raw), "a secret in clear");
    }

    // With keys of its own, a copy opens no secret: not even its thief's service can check a signature.
    let stolen = tempfile::tempdir().expect("a directory");
    for name in ["casemate.sqlite", "casemate.sqlite-wal"] {
        let from = world.dir.path().join(name);
        if from.exists() {
            std::fs::copy(from, stolen.path().join(name)).expect("copied");
        }
    }
    let thief = open(stolen.path(), &stolen.path().join("keys")).await;
    assert!(thief.application_by_key(&application.key).await.expect("read").is_some());
    assert!(matches!(thief.find_s3_key(&s3.access).await, Err(Error::Keys(_))));
}

#[tokio::test]
async fn a_credential_waits_until_somebody_who_may_grants_it() {
    let world = world().await;
    let (identity, application) = (&world.identity, &world.application.application);
    let (secret, now, by) = (world.application.secret.as_str(), Timestamp::now().as_second(), Actor::operator());
    let pending = identity.request_credential(application, &everything(), &by).await.expect("asked");
    assert!(matches!(call(&world, secret, &pending.consumer_key, now, None).await, Err(Refusal::PendingCredential)));
    identity.validate(&pending.token, None, None, None, &by).await.expect("granted");
    let caller = call(&world, secret, &pending.consumer_key, now, None).await.expect("a caller");
    assert!(
        matches!(identity.validate(&pending.token, None, None, None, &by).await, Err(Error::NotFound { .. })),
        "once only"
    );

    // A narrow credential grants no wider one, and no longer one.
    let narrow = CredentialRequest {
        rules: vec![AccessRule::parse("GET", "/cloud/*").expect("a rule")],
        allowed_ips: vec!["192.0.2.0/24".parse().expect("a block")],
        redirection: None,
    };
    let end = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let key = identity.create_credential(application, &narrow, Some(end), &by).await.expect("a key");
    let narrow_caller = call(&world, secret, &key.consumer_key, now, Some("192.0.2.9")).await.expect("a caller");
    let wide = identity.request_credential(application, &everything(), &by).await.expect("asked");
    let refused = identity.validate_by(&wide.token, &narrow_caller, None, &by).await;
    assert!(matches!(refused, Err(Error::Exceeds { .. })), "{refused:?}");
    let narrower = CredentialRequest {
        rules: vec![AccessRule::parse("GET", "/cloud/project/*").expect("a rule")],
        ..CredentialRequest::default()
    };
    let asked = identity.request_credential(application, &narrower, &by).await.expect("asked");
    let id = identity.validate_by(&asked.token, &narrow_caller, None, &by).await.expect("granted");
    let granted = identity.credential(id).await.expect("read").expect("there");
    assert_eq!(granted.expiration.map(Timestamp::as_second), Some(end.as_second()));
    assert_eq!(granted.allowed_ips, Some(narrow.allowed_ips.clone()));
    identity.validate_by(&wide.token, &caller, None, &by).await.expect("one that has everything grants everything");

    // Nothing by a key that was revoked, or bound to other addresses, after its call was let in.
    let late = identity.request_credential(application, &narrower, &by).await.expect("asked");
    for change in ["end", "addresses"] {
        let key = identity.create_credential(application, &everything(), None, &by).await.expect("a key");
        let caller = call(&world, secret, &key.consumer_key, now, Some("192.0.2.9")).await.expect("a caller");
        match change {
            "end" => identity.expire_credential(key.id, &by).await.expect("ended"),
            _ => identity.set_allowed_ips(key.id, &narrow.allowed_ips, None, &by).await.expect("bound"),
        }
        let refused = identity.validate_by(&late.token, &caller, None, &by).await;
        let bound = identity.credential(key.id).await.expect("read").expect("there").allowed_ips;
        match change {
            "end" => assert!(matches!(refused, Err(Error::AccessDenied { .. })), "{refused:?}"),
            _ => {
                let granted = identity.credential(refused.expect("granted")).await.expect("read").expect("there");
                assert_eq!(granted.allowed_ips, bound, "what is granted has them too");
            }
        }
    }

    let refused = identity.request_credential(application, &everything(), &by).await.expect("asked");
    let id = identity.refuse(&refused.token, &by).await.expect("refused");
    let status = identity.credential(id).await.expect("read").expect("there").status;
    assert_eq!(status, CredentialStatus::Refused);
    assert!(matches!(call(&world, secret, &refused.consumer_key, now, None).await, Err(Refusal::InvalidCredential)));
}

#[tokio::test]
async fn who_asks_for_many_keys_pushes_out_requests_of_its_own() {
    let world = world().await;
    let (identity, application) = (&world.identity, &world.application.application);
    let by = Actor::operator();
    let other = identity.create_application(&world.account, "other", "", &by).await.expect("made").application;
    let ask_for = async |application: &Application, ip: &str| {
        let by = Actor::anonymous(Some(ip.parse().expect("an address")));
        identity.request_credential(application, &everything(), &by).await.expect("asked").token
    };
    let ask = async |ip: &str| ask_for(application, ip).await;
    let waits = async |token: &Zeroizing<String>| identity.pending(token).await.expect("read").is_some();

    let (mine, of_other) = (ask("192.0.2.1").await, ask_for(&other, "203.0.113.9").await);
    let mut flood = Vec::new();
    for _ in 0..21 {
        flood.push(ask("203.0.113.9").await);
    }
    assert!(!waits(&flood[0]).await && waits(&flood[1]).await, "the oldest of that address goes, and no more");
    assert!(waits(&mine).await && waits(&of_other).await, "another address, another application");

    // A /64 is one source.
    let first = ask("2001:db8::1").await;
    for number in 1..=20 {
        ask(&format!("2001:db8::{number:x}:1")).await;
    }
    assert!(!waits(&first).await);

    // Where the application is full, those who have most make room.
    for number in 0..10 {
        for _ in 0..20 {
            ask(&format!("198.51.100.{number}")).await;
        }
    }
    let all = identity.credentials(None).await.expect("listed");
    let of_application = all.iter().filter(|one| one.application == application.id);
    assert_eq!(of_application.filter(|one| one.status == CredentialStatus::PendingValidation).count(), 200);
    assert!(waits(&mine).await && waits(&of_other).await);
    identity.validate(&mine, None, None, None, &by).await.expect("granted");
}

#[tokio::test]
async fn a_credential_ends_and_is_bound_to_its_addresses() {
    let world = world().await;
    let (secret, now, by) = (world.application.secret.as_str(), Timestamp::now().as_second(), Actor::operator());
    let past = Some(Timestamp::now() - jiff::SignedDuration::from_secs(1));
    let application = &world.application.application;
    let key = world.identity.create_credential(application, &everything(), past, &by).await.expect("a key");
    assert!(matches!(call(&world, secret, &key.consumer_key, now, None).await, Err(Refusal::InvalidCredential)));

    let bound = CredentialRequest { allowed_ips: vec!["192.0.2.0/24".parse().expect("a block")], ..everything() };
    let key = world.identity.create_credential(application, &bound, None, &by).await.expect("a key");
    for (ip, allowed) in
        [(Some("192.0.2.77"), true), (Some("::ffff:192.0.2.77"), true), (Some("198.51.100.1"), false), (None, false)]
    {
        let caller = call(&world, secret, &key.consumer_key, now, ip).await;
        assert_eq!(caller.is_ok(), allowed, "{ip:?}");
        assert!(allowed || matches!(caller, Err(Refusal::SourceIp { caller }) if caller.account == world.account));
    }
}

#[tokio::test]
async fn what_no_rule_allows_is_denied() {
    let world = world().await;
    let by = Actor::operator();
    let other: AccountId = "other-casemate".parse().expect("an account");
    world.identity.create_account(&other, "b@example.org", "B", &by).await.expect("an account");
    let foreign = world.identity.create_project(&other, "theirs", &by).await.expect("a project").id;
    let unknown: ProjectId = "0".repeat(32).parse().expect("an id");
    let narrow = CredentialRequest {
        rules: vec![AccessRule::parse("GET", "/me").expect("a rule")],
        ..CredentialRequest::default()
    };
    let key =
        world.identity.create_credential(&world.application.application, &narrow, None, &by).await.expect("a key");
    let now = Timestamp::now().as_second();
    let caller = call(&world, &world.application.secret, &key.consumer_key, now, None).await.expect("a caller");
    assert!(caller.may_call(Method::Get, "/me"));
    assert!(!caller.may_call(Method::Post, "/me") && !caller.may_call(Method::Get, "/cloud/project"));
    for (resource, allowed) in [
        (Resource::Account(world.account.clone()), true),
        (Resource::Account(other), false),
        (Resource::Project(world.project.clone()), true),
        (Resource::Project(foreign), false),
        (Resource::Project(unknown), false),
    ] {
        let decision =
            world.identity.authorize(&caller, "any:action", resource, Timestamp::now()).await.expect("decided");
        assert_eq!(decision.allowed, allowed, "{decision:?}");
    }
}

#[tokio::test]
async fn the_keys_of_a_sandbox_are_its_own_and_end_with_it() {
    let world = world().await;
    let identity = &world.identity;
    let sandbox = SandboxId { job: JobId(uuid_of(7)), attempt: AttemptNo(1) };
    let keys = identity.open_sandbox(&world.project, sandbox, None).await.expect("keys");
    let again = identity.open_sandbox(&world.project, sandbox, None).await.expect("keys");
    assert_eq!((&keys.job.access, &keys.job.secret), (&again.job.access, &again.job.secret));
    assert_eq!((&keys.platform.access, &keys.platform.secret), (&again.platform.access, &again.platform.secret));
    let grant = identity.find_s3_key(&keys.job.access).await.expect("read").expect("there");
    assert_eq!((grant.scope, &grant.project), (Scope::Job(sandbox), &world.project));
    let grant = identity.find_s3_key(&keys.platform.access).await.expect("read").expect("there");
    assert_eq!(grant.scope, Scope::Platform(sandbox));
    assert!(identity.s3_keys(&world.project, None).await.expect("listed").is_empty(), "not shown to people");
    let deleted = identity.delete_s3_key(&world.project, &keys.job.access, &Actor::operator()).await;
    assert!(matches!(deleted, Err(Error::NotFound { .. })), "not theirs to delete");
    identity.close_sandbox(sandbox).await.expect("closed");
    identity.close_sandbox(sandbox).await.expect("closed twice");
    assert!(identity.find_s3_key(&keys.job.access).await.expect("read").is_none());
}

#[tokio::test]
async fn a_user_takes_its_keys_along() {
    let world = world().await;
    let (identity, by) = (&world.identity, Actor::operator());
    let user = identity.create_user(&world.project, "etl", &by).await.expect("a user");
    let key = identity.create_s3_key(&world.project, Some(user.id), &by).await.expect("a key");
    assert_eq!(identity.s3_keys(&world.project, Some(user.id)).await.expect("listed").len(), 1);
    assert_eq!(identity.find_s3_key(&key.access).await.expect("read").expect("there").secret, key.secret);
    identity.delete_user(&world.project, user.id, &by).await.expect("removed");
    assert!(identity.find_s3_key(&key.access).await.expect("read").is_none());
    let exists = identity.create_account(&world.account, "", "", &by).await;
    assert!(matches!(exists, Err(Error::Exists { .. })));
}

fn uuid_of(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}
