//! Users, keys, policies, temporary keys and tokens over a real database and real keys.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use audit::{Actor, Audit};
use db::Db;
use identity::{BucketRole, Error, Identity, S3Grant, S3Question, Scope, USER_ROLES, decide_s3};
use jiff::{SignedDuration, Timestamp};
use keys::Keys;
use model::{AccountId, AttemptNo, BucketName, JobId, ProjectId, SandboxId};

struct World {
    dir: tempfile::TempDir,
    identity: Identity,
    project: ProjectId,
}

async fn open(data: &Path) -> Identity {
    let db = Db::open(&data.join("casemate.sqlite")).await.expect("a database");
    let keys = Arc::new(Keys::open(&data.join("keys")).expect("keys"));
    Identity::new(db.clone(), Audit::new(db), keys)
}

async fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let identity = open(dir.path()).await;
    let account: AccountId = "ab1234-casemate".parse().expect("an account");
    identity.create_account(&account, "a@example.org", "A", &by()).await.expect("an account");
    let project = identity.create_project(&account, "first", &by()).await.expect("a project").id;
    World { dir, identity, project }
}

fn by() -> Actor {
    Actor::operator()
}

fn bucket() -> BucketName {
    "data".parse().expect("a bucket")
}

impl World {
    /// A user and a key of it.
    async fn user(&self) -> (identity::User, String) {
        let user = self.identity.create_user(&self.project, "etl", &by()).await.expect("a user");
        let key = self.identity.create_s3_key(&self.project, Some(user.id), &by()).await.expect("a key");
        (user, key.access)
    }

    async fn grant(&self, access: &str) -> Arc<S3Grant> {
        self.identity.find_s3_key(access).await.expect("read").expect("there")
    }

    async fn is_gone(&self, access: &str) -> bool {
        self.identity.find_s3_key(access).await.expect("read").is_none()
    }

    async fn may(&self, access: &str, action: &str, key: &str) -> bool {
        may(&*self.grant(access).await, action, key)
    }
}

fn may(grant: &S3Grant, action: &str, key: &str) -> bool {
    let question = S3Question {
        project: &grant.project,
        action,
        bucket: Some("data"),
        key: (!key.is_empty()).then_some(key),
        bucket_policy: None,
        context: &[],
        public_blocked: false,
    };
    decide_s3(Some(grant), &question, None).allowed
}

const READS: &str = r#"{"Version":"2012-10-17","Statement":
    {"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":"*"}}"#;

#[tokio::test]
async fn a_key_is_disabled_enabled_rotated_and_deleted_at_once() {
    let world = world().await;
    let (identity, project) = (&world.identity, &world.project);
    let (user, old) = world.user().await;
    let secret = world.grant(&old).await.secret.clone();
    identity.disable_s3_key(project, &old, &by()).await.expect("disabled");
    assert!(world.is_gone(&old).await);
    assert_eq!(identity.s3_secret(project, &old).await.expect("a secret"), secret, "its secret can still be shown");
    assert!(!identity.s3_keys(project, Some(user.id)).await.expect("listed")[0].enabled);
    identity.enable_s3_key(project, &old, &by()).await.expect("enabled");
    assert_eq!(world.grant(&old).await.secret, secret);

    let new = identity.rotate_s3_key(project, &old, &by()).await.expect("rotated");
    assert_eq!(new.user, Some(user.id));
    assert!(new.access != old && new.secret != secret);
    assert!(
        !world.is_gone(&old).await && !world.is_gone(&new.access).await,
        "both are good until the old one is ended"
    );
    identity.delete_s3_key(project, &old, &by()).await.expect("deleted");
    assert!(world.is_gone(&old).await && !world.is_gone(&new.access).await);

    let foreign: ProjectId = "0".repeat(32).parse().expect("an id");
    for result in [
        identity.disable_s3_key(&foreign, &new.access, &by()).await,
        identity.delete_s3_key(&foreign, &new.access, &by()).await,
        identity.rotate_s3_key(&foreign, &new.access, &by()).await.map(drop),
        identity.s3_secret(&foreign, &new.access).await.map(drop),
        identity.enable_s3_key(project, &old, &by()).await,
    ] {
        assert!(matches!(result, Err(Error::NotFound { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn the_use_of_a_key_is_seen_at_once_and_written_later() {
    let world = world().await;
    let (_, access) = world.user().await;
    let shown = async |identity: &Identity| {
        let keys = identity.s3_keys(&world.project, None).await.expect("listed");
        keys.into_iter().find(|key| key.access == access).expect("there").last_used
    };
    assert_eq!(shown(&world.identity).await, None, "to look a key up is not to use it");
    let begun = Timestamp::now();
    world.identity.note_s3_use(&*world.grant(&access).await);
    assert!(shown(&world.identity).await.is_some_and(|at| at >= begun));
    world.identity.flush().await.expect("flushed");
    let again = open(world.dir.path()).await;
    assert!(shown(&again).await.is_some_and(|at| at >= begun - SignedDuration::from_millis(1)));
}

#[tokio::test]
async fn a_policy_holds_from_the_moment_that_it_is_set() {
    let world = world().await;
    let (identity, project) = (&world.identity, &world.project);
    let (user, access) = world.user().await;
    assert!(world.grant(&access).await.is_plain() && world.may(&access, "s3:PutObject", "k").await);
    assert_eq!(identity.user_policy(project, user.id).await.expect("read"), None);
    identity.set_user_policy(project, user.id, READS, &by()).await.expect("set");
    assert!(!world.grant(&access).await.is_plain());
    assert!(world.may(&access, "s3:GetObject", "k").await && !world.may(&access, "s3:PutObject", "k").await);
    assert_eq!(identity.user_policy(project, user.id).await.expect("read").as_deref(), Some(READS));

    let wrong = identity.set_user_policy(project, user.id, "{}", &by()).await;
    assert!(matches!(wrong, Err(Error::Policy(_))), "{wrong:?}");
    assert!(!world.may(&access, "s3:PutObject", "k").await, "a wrong one changes nothing");
    let absent = identity.set_user_policy(project, user.id + 1, READS, &by()).await;
    assert!(matches!(absent, Err(Error::NotFound { .. })));
    identity.delete_user_policy(project, user.id, &by()).await.expect("deleted");
    assert!(world.may(&access, "s3:PutObject", "k").await);
}

#[tokio::test]
async fn what_another_process_changes_is_seen_within_a_second() {
    let world = world().await;
    let (_, access) = world.user().await;
    world.grant(&access).await;
    let other = open(world.dir.path()).await;
    other.disable_s3_key(&world.project, &access, &by()).await.expect("disabled");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert!(world.is_gone(&access).await);
    other.enable_s3_key(&world.project, &access, &by()).await.expect("enabled");
    assert!(!world.is_gone(&access).await, "what is not there is not remembered");
}

#[tokio::test]
async fn a_user_without_a_role_of_storage_may_nothing_there() {
    let world = world().await;
    let (identity, project) = (&world.identity, &world.project);
    let (user, access) = world.user().await;
    assert_eq!(user.roles, ["objectstore_operator"]);
    let roles = [USER_ROLES[4].name.to_owned(), USER_ROLES[4].id.to_owned()];
    let changed = identity.set_user_roles(project, user.id, &roles, &by()).await.expect("changed");
    assert_eq!(changed.roles, ["authentication"], "by name or id, each once");
    assert!(!world.may(&access, "s3:GetObject", "k").await);
    identity.set_user_roles(project, user.id, &["administrator".to_owned()], &by()).await.expect("changed");
    assert!(world.may(&access, "s3:GetObject", "k").await);
    let wrong = identity.set_user_roles(project, user.id, &["king".to_owned()], &by()).await;
    assert!(matches!(wrong, Err(Error::NotFound { kind: "role", .. })));
}

#[tokio::test]
async fn roles_on_a_bucket_become_statements_of_the_users_policy() {
    let world = world().await;
    let (identity, project) = (&world.identity, &world.project);
    let (user, access) = world.user().await;
    let give = async |key: &str, role| {
        identity.grant_bucket_role(project, user.id, &bucket(), key, role, &by()).await.expect("granted");
    };
    give("", BucketRole::ReadOnly).await;
    give("mine/*", BucketRole::ReadWrite).await;
    for (action, key, allowed) in [
        ("s3:GetObject", "x", true),
        ("s3:ListBucket", "", true),
        ("s3:PutObject", "x", false),
        ("s3:PutObject", "mine/x", true),
        ("s3:DeleteObject", "mine/x", true),
        ("s3:DeleteBucket", "", false),
    ] {
        assert_eq!(world.may(&access, action, key).await, allowed, "{action} {key}");
    }
    give("", BucketRole::Admin).await;
    assert!(world.may(&access, "s3:DeleteBucket", "").await);
    give("mine/*", BucketRole::Deny).await;
    assert!(!world.may(&access, "s3:GetObject", "mine/x").await && world.may(&access, "s3:GetObject", "x").await);
}

#[tokio::test]
async fn a_temporary_key_is_narrowed_ends_and_ends_with_the_key_that_made_it() {
    let world = world().await;
    let (identity, project) = (&world.identity, &world.project);
    let (user, access) = world.user().await;
    let grant = world.grant(&access).await;
    let role = format!("arn:aws:iam::{project}:role/{}", user.username);
    let begun = Timestamp::now();
    let key = identity.assume_role(&grant, &role, "nightly", Some(READS), Some(900), &by()).await.expect("a key");
    let length = key.expires.duration_since(begun);
    assert!(length > SignedDuration::from_secs(899) && length < SignedDuration::from_secs(960), "{length:?}");
    assert_eq!(key.principal, format!("arn:aws:sts::{project}:assumed-role/{}/nightly", user.username));
    let temporary = world.grant(&key.access).await;
    assert_eq!(temporary.session_token.as_ref(), Some(&key.session_token));
    assert_eq!((&temporary.secret, temporary.expires), (&key.secret, Some(key.expires)));
    assert_eq!(temporary.identity, format!("session/{}/nightly", user.username));
    assert_eq!(temporary.caller_identity().user_id, format!("{}:nightly", user.id));
    assert!(may(&temporary, "s3:GetObject", "k") && !may(&temporary, "s3:PutObject", "k"));

    // One made by it has its bounds and those of its own.
    let only_a = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::data/a"}}"#;
    let next = identity.assume_role(&temporary, &role, "next", Some(only_a), None, &by()).await.expect("a key");
    assert_eq!(next.expires, key.expires, "it ends no later, though an hour is what it gets unasked");
    let next = world.grant(&next.access).await;
    for (action, key, allowed) in
        [("s3:GetObject", "a", true), ("s3:GetObject", "b", false), ("s3:PutObject", "a", false)]
    {
        assert_eq!(may(&next, action, key), allowed, "{action} {key}");
    }
    let refused = identity.session_token(&temporary, None, &by()).await;
    assert!(matches!(refused, Err(Error::AccessDenied { .. })), "{refused:?}");

    // The policy of its user holds for it, from the moment that it is set.
    identity.set_user_policy(project, user.id, only_a, &by()).await.expect("set");
    assert!(!world.may(&key.access, "s3:GetObject", "k").await);

    identity.disable_s3_key(project, &access, &by()).await.expect("disabled");
    assert!(world.is_gone(&key.access).await);
    for asking in [&grant, &temporary] {
        let refused = identity.assume_role(asking, &role, "late", None, None, &by()).await;
        assert!(matches!(refused, Err(Error::AccessDenied { .. })), "{refused:?}");
    }
    identity.enable_s3_key(project, &access, &by()).await.expect("enabled");
    assert!(!world.is_gone(&key.access).await);
    identity.delete_s3_key(project, &access, &by()).await.expect("deleted");
    assert!(world.is_gone(&key.access).await);
    let late = identity.session_token(&grant, None, &by()).await;
    assert!(matches!(late, Err(Error::AccessDenied { .. })), "by a grant that was looked up before: {late:?}");
}

#[tokio::test]
async fn a_session_token_has_the_rights_of_its_key() {
    let world = world().await;
    let (user, access) = world.user().await;
    let grant = world.grant(&access).await;
    let key = world.identity.session_token(&grant, None, &by()).await.expect("a key");
    let temporary = world.grant(&key.access).await;
    assert!(temporary.is_plain() && may(&temporary, "s3:PutObject", "k"));
    assert_eq!(temporary.principal, format!("arn:aws:iam::{}:user/{}", world.project, user.username));
    assert_eq!(world.identity.s3_keys(&world.project, None).await.expect("listed").len(), 1, "not among the lasting");

    let root = world.identity.create_s3_key(&world.project, None, &by()).await.expect("a key");
    let root = world.grant(&root.access).await;
    assert_eq!(root.principal, format!("arn:aws:iam::{}:root", world.project));
    let role = format!("arn:aws:iam::{}:role/project", world.project);
    let key = world.identity.assume_role(&root, &role, "ops", None, None, &by()).await.expect("a key");
    assert!(world.may(&key.access, "s3:PutObject", "k").await);
}

#[tokio::test]
async fn what_sts_is_asked_wrongly_it_refuses() {
    let world = world().await;
    let (identity, project) = (&world.identity, &world.project);
    let (user, access) = world.user().await;
    let grant = world.grant(&access).await;
    let role = format!("arn:aws:iam::{project}:role/{}", user.username);
    let foreign = format!("arn:aws:iam::{}:role/{}", "0".repeat(32), user.username);
    let others = format!("arn:aws:iam::{project}:role/project");
    for wrong in [foreign.as_str(), others.as_str(), "", "role"] {
        let refused = identity.assume_role(&grant, wrong, "name", None, None, &by()).await;
        assert!(matches!(refused, Err(Error::AccessDenied { .. })), "{wrong}: {refused:?}");
    }
    for (name, seconds) in [("x", None), ("a b", None), ("a/b", None), ("name", Some(899)), ("name", Some(43_201))] {
        let refused = identity.assume_role(&grant, &role, name, None, seconds, &by()).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{name} {seconds:?}: {refused:?}");
    }
    for seconds in [0, 129_601, u32::MAX] {
        let refused = identity.session_token(&grant, Some(seconds), &by()).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{seconds}: {refused:?}");
    }
    let long = READS.replace("GetObject", &format!("GetObject{}", "*".repeat(2_048)));
    for policy in ["", "[]", &long] {
        let refused = identity.assume_role(&grant, &role, "name", Some(policy), None, &by()).await;
        assert!(matches!(refused, Err(Error::Policy(_))), "{refused:?}");
    }
    // A chain of narrower keys has an end.
    let mut last = grant;
    for depth in 0.. {
        match identity.assume_role(&last, &role, "name", Some(READS), None, &by()).await {
            Ok(key) => last = world.grant(&key.access).await,
            Err(Error::TooMany { limit, .. }) => {
                assert_eq!(limit, depth);
                break;
            }
            Err(fault) => panic!("{fault}"),
        }
    }
}

#[tokio::test]
async fn what_has_ended_is_not_found_and_is_removed() {
    let world = world().await;
    let (_, access) = world.user().await;
    let grant = world.grant(&access).await;
    let key = world.identity.session_token(&grant, Some(900), &by()).await.expect("a key");
    let temporary = world.grant(&key.access).await;
    assert!(!temporary.has_ended(Timestamp::now()) && temporary.has_ended(key.expires));
    let removed = world.identity.remove_expired_s3_keys(Timestamp::now()).await.expect("removed");
    assert_eq!(removed, 0);
    // Its time over in the database, as another process would see it.
    let removed = world.identity.remove_expired_s3_keys(key.expires).await.expect("removed");
    assert_eq!(removed, 1);
    assert!(open(world.dir.path()).await.find_s3_key(&key.access).await.expect("read").is_none());
}

#[tokio::test]
async fn a_job_is_held_to_its_policy_and_so_are_the_keys_that_it_makes() {
    let world = world().await;
    let identity = &world.identity;
    let sandbox = SandboxId { job: JobId(uuid::Uuid::from_u128(7)), attempt: AttemptNo(1) };
    let keys = identity.open_sandbox(&world.project, sandbox, Some(READS)).await.expect("keys");
    let again = identity.open_sandbox(&world.project, sandbox, None).await.expect("keys");
    assert_eq!(keys.job.access, again.job.access);
    let job = world.grant(&keys.job.access).await;
    assert!(may(&job, "s3:GetObject", "k") && !may(&job, "s3:PutObject", "k"), "the first policy holds");
    assert!(world.grant(&keys.platform.access).await.is_plain(), "the logs are not bound by it");
    assert_eq!(job.principal, format!("arn:aws:sts::{}:assumed-role/job/{sandbox}", world.project));

    let role = format!("arn:aws:iam::{}:role/job", world.project);
    let key = identity.assume_role(&job, &role, "part", None, None, &by()).await.expect("a key");
    let part = world.grant(&key.access).await;
    assert_eq!((part.scope, &part.principal, &part.identity), (Scope::Job(sandbox), &job.principal, &job.identity));
    assert!(may(&part, "s3:GetObject", "k") && !may(&part, "s3:PutObject", "k"));
    let platform = world.grant(&keys.platform.access).await;
    let refused = identity.session_token(&platform, None, &by()).await;
    assert!(matches!(refused, Err(Error::AccessDenied { .. })));
    let wrong = identity.open_sandbox(&world.project, SandboxId { attempt: AttemptNo(2), ..sandbox }, Some("{}")).await;
    assert!(matches!(wrong, Err(Error::Policy(_))));

    identity.close_sandbox(sandbox).await.expect("closed");
    assert!(world.is_gone(&keys.job.access).await && world.is_gone(&key.access).await);
}

#[tokio::test]
async fn a_user_logs_in_by_password_for_a_token_that_ends() {
    let world = world().await;
    let (identity, project) = (&world.identity, &world.project);
    let from: Option<IpAddr> = Some("192.0.2.1".parse().expect("an address"));
    let made = identity.create_user_with_password(project, "swift", &[], &by()).await.expect("a user");
    let (user, password) = (&made.user, &made.password);
    let login = async |name: &str, password: &str| identity.login_user(name, password, from).await.expect("heard");

    let token = login(&user.username, password).await.expect("a token");
    assert_eq!((&token.user, token.token.len()), (user, 64));
    assert_eq!(token.expires.duration_since(token.issued), SignedDuration::from_hours(12));
    for (name, word) in
        [(&*user.username, "wrong"), ("user-000000000000", password), (&*user.username, ""), ("", password)]
    {
        assert!(login(name, word).await.is_none(), "{name}");
    }
    assert!(login(&user.username, &"x".repeat(100_000)).await.is_none());

    let grant = identity.find_user_token(&token.token).await.expect("read").expect("there");
    assert_eq!((&grant.project, &grant.identity), (project, &format!("user/{}", user.username)));
    assert!(grant.access.is_none() && grant.secret.is_empty() && may(&grant, "s3:PutObject", "k"));
    identity.set_user_policy(project, user.id, READS, &by()).await.expect("set");
    let grant = identity.find_user_token(&token.token).await.expect("read").expect("there");
    assert!(may(&grant, "s3:GetObject", "k") && !may(&grant, "s3:PutObject", "k"));
    let refused = identity.session_token(&grant, None, &by()).await;
    assert!(matches!(refused, Err(Error::AccessDenied { .. })), "a token is not a key");
    for wrong in ["", "x", &"0".repeat(64), &"é".repeat(32)] {
        assert!(identity.find_user_token(wrong).await.expect("read").is_none());
    }

    // The database alone does not let anybody in.
    let file = std::fs::read(world.dir.path().join("casemate.sqlite-wal")).expect("a database");
    for secret in [token.token.as_bytes(), password.as_bytes()] {
        assert!(memchr::memmem::find(&file, secret).is_none());
    }

    let other = login(&user.username, password).await.expect("a token");
    assert!(identity.revoke_user_token(&token.token, &by()).await.expect("revoked"));
    assert!(!identity.revoke_user_token(&token.token, &by()).await.expect("heard"));
    assert!(identity.find_user_token(&token.token).await.expect("read").is_none());
    assert!(identity.find_user_token(&other.token).await.expect("read").is_some());

    let new = identity.regenerate_password(project, user.id, &by()).await.expect("a password");
    assert!(identity.find_user_token(&other.token).await.expect("read").is_none(), "a new password ends all tokens");
    assert!(login(&user.username, password).await.is_none() && login(&user.username, &new).await.is_some());
}

#[tokio::test]
async fn guesses_are_bounded_from_one_address_and_lock_nobody_out_elsewhere() {
    let world = world().await;
    let made = world.identity.create_user_with_password(&world.project, "", &[], &by()).await.expect("a user");
    let login = async |word: &str, from: &str| {
        let from = Some(from.parse().expect("an address"));
        world.identity.login_user(&made.user.username, word, from).await
    };
    let mut heard = 0;
    while login("guess", "192.0.2.1").await.is_ok() {
        heard += 1;
        assert!(heard < 100, "guesses without end");
    }
    let refused = login(&made.password, "192.0.2.1").await;
    assert!(matches!(refused, Err(Error::TryLater { seconds: 1.. })), "{refused:?}");
    assert!(login(&made.password, "192.0.2.2").await.expect("heard").is_some());
}

#[tokio::test]
async fn a_user_of_before_has_no_password_and_none_lets_it_in() {
    let world = world().await;
    let (user, _) = world.user().await;
    for password in ["", "x", "NULL"] {
        assert!(world.identity.login_user(&user.username, password, None).await.expect("heard").is_none());
    }
    let password = world.identity.regenerate_password(&world.project, user.id, &by()).await.expect("a password");
    let token = world.identity.login_user(&user.username, &password, None).await.expect("heard").expect("a token");
    world.identity.delete_user(&world.project, user.id, &by()).await.expect("deleted");
    assert!(world.identity.find_user_token(&token.token).await.expect("read").is_none());
}

#[tokio::test]
async fn the_policy_of_a_bucket_is_read_once_for_each_text() {
    let world = world().await;
    let policy = |effect: &str| {
        format!(
            r#"{{"Statement":{{"Effect":"{effect}","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::data/*"}}}}"#
        )
    };
    let read = |text: &str| world.identity.bucket_policy(&world.project, &bucket(), text);
    let one = read(&policy("Allow")).expect("a policy");
    assert!(Arc::ptr_eq(&one, &read(&policy("Allow")).expect("a policy")) && one.is_public());
    assert!(!read(&policy("Deny")).expect("a policy").is_public());
    assert!(read("{}").is_err());
}
