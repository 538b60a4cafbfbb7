//! The object store asks the policies of the project's account too: over a real database, every action of S3 (CTL-4).

use std::{collections::HashSet, sync::Arc};

use audit::{Actor, Audit};
use db::Db;
use identity::{
    Actions, IamKind, Identity, NewContacts, S3_ACTIONS, S3Grant, S3Policy, S3Question, S3Verdict, Urn, User,
    s3_action, storage_action,
};
use jiff::Timestamp;
use keys::Keys;
use model::{AccountId, AttemptNo, JobId, ProjectId, SandboxId};
use serde_json::{Value, json};

const NOW: &str = "2026-11-26T12:00:00Z";

struct World {
    identity: Identity,
    account: AccountId,
    project: ProjectId,
    user: User,
    access: String,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
    let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
    let identity = Identity::new(db.clone(), Audit::new(db), keys);
    let account: AccountId = "ab1234-casemate".parse().expect("an account");
    identity.create_account(&account, "a@example.org", "A", &by()).await.expect("an account");
    let project = identity.create_project(&account, "first", &by()).await.expect("a project").id;
    let user = identity.create_user(&project, "etl", &by()).await.expect("a user");
    let access = identity.create_s3_key(&project, Some(user.id), &by()).await.expect("a key").access;
    World { identity, account, project, user, access, _dir: dir }
}

fn by() -> Actor {
    Actor::operator()
}

fn list(field: &str, items: &[&str]) -> Value {
    items.iter().map(|item| json!({ field: item })).collect()
}

/// A call, and what there is beside the policies of the account.
struct Call<'a> {
    action: &'a str,
    bucket: &'a str,
    key: Option<&'a str>,
    bucket_policy: Option<&'a S3Policy>,
}

impl<'a> Call<'a> {
    fn question(&self, project: &'a ProjectId, context: &'a [(&'a str, &'a str)]) -> S3Question<'a> {
        S3Question {
            project,
            action: self.action,
            bucket: Some(self.bucket),
            key: self.key,
            bucket_policy: self.bucket_policy,
            context,
            public_blocked: true,
        }
    }
}

fn call<'a>(action: &'a str, bucket: &'a str, key: Option<&'a str>) -> Call<'a> {
    Call { action, bucket, key, bucket_policy: None }
}

impl World {
    fn urn(&self) -> String {
        Urn::project_user(&self.project, &self.user.username).to_string()
    }

    fn stored(&self, rest: &str) -> String {
        format!("{}{rest}", Urn::storage(&self.project, None, None))
    }

    async fn make(&self, account: &AccountId, kind: IamKind, body: Value) -> String {
        let names: Vec<String> = S3_ACTIONS.iter().map(|name| storage_action(&format!("s3:{name}"))).collect();
        let actions = Actions::new(names.iter().map(String::as_str));
        self.identity.create_iam(account, kind, &body, &actions, &by()).await.expect("made").id
    }

    /// A policy of the account for the user.
    async fn policy(&self, resources: &[String], fields: Value) -> String {
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        let mut body = json!({ "name": "p", "identities": [self.urn()], "resources": list("urn", &resources) });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        self.make(&self.account, IamKind::Policy, body).await
    }

    async fn remove(&self, policy: &str) {
        self.identity.delete_iam(&self.account, IamKind::Policy, policy, &by()).await.expect("removed");
    }

    async fn grant(&self) -> Arc<S3Grant> {
        self.identity.find_s3_key(&self.access).await.expect("read").expect("there")
    }

    async fn asked(&self, grant: &S3Grant, project: &ProjectId, call: &Call<'_>) -> S3Verdict {
        let context = [("aws:SourceIp", "192.0.2.7")];
        let question = call.question(project, &context);
        let at: Timestamp = NOW.parse().expect("a time");
        let verdict = self.identity.decide_s3(Some(grant), &question, at).await.expect("decided");
        let told = self.identity.explain_s3(Some(grant), &question, at).await.expect("explained");
        assert_eq!((verdict.allowed, &verdict.reason), (told.allowed, &told.reason), "an explanation is the decision");
        verdict
    }

    async fn verdict(&self, call: &Call<'_>) -> S3Verdict {
        self.asked(&*self.grant().await, &self.project, call).await
    }

    /// Those of all actions that the user may do there.
    async fn may(&self, bucket: &str, key: Option<&str>) -> HashSet<&'static str> {
        let grant = self.grant().await;
        let mut may = HashSet::new();
        for name in S3_ACTIONS {
            let action = format!("s3:{name}");
            let call = call(&action, bucket, key);
            let at = NOW.parse().expect("a time");
            let decided = self.identity.decide_s3(Some(&grant), &call.question(&self.project, &[]), at).await;
            if decided.expect("decided").allowed {
                may.insert(name);
            }
        }
        may
    }

    async fn set_roles(&self, roles: &[&str]) {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        self.identity.set_user_roles(&self.project, self.user.id, &roles, &by()).await.expect("set");
    }

    async fn set_user_policy(&self, statement: Value) {
        let text = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
        self.identity.set_user_policy(&self.project, self.user.id, &text, &by()).await.expect("set");
    }
}

fn all() -> HashSet<&'static str> {
    S3_ACTIONS.into_iter().collect()
}

fn without(left_out: &'static str) -> HashSet<&'static str> {
    S3_ACTIONS.into_iter().filter(|name| *name != left_out).collect()
}

#[tokio::test]
async fn every_action_is_allowed_and_denied_by_policies_of_the_account() {
    let world = world().await;
    let (none, in_x) = (HashSet::new(), Some("in/x"));
    let everything = json!({ "permissions": { "allow": [{ "action": "storageS3:*" }] } });

    // Without a policy that speaks all is as it is: nothing more is asked.
    assert!(world.grant().await.is_plain());
    assert_eq!(world.may("data", None).await, all(), "by its role");
    world.set_roles(&["authentication"]).await;
    assert_eq!(world.may("data", in_x).await, none, "no role includes the object store");
    let of_others = json!({
        "name": "others", "identities": [Urn::user(&world.account, "alice").as_str()],
        "resources": list("urn", &["*"]), "permissions": { "allow": [{ "action": "*" }] },
    });
    let others = world.make(&world.account, IamKind::Policy, of_others).await;
    assert!(world.grant().await.account_policies.is_none(), "it names nobody whom the object store knows");
    world.remove(&others).await;

    // Allowed by the account, whatever the roles: on a bucket, below a prefix, by a resource group.
    let bucket = world.policy(&[world.stored("/data"), world.stored("/data/*")], everything.clone()).await;
    for (bucket, key, may) in
        [("data", None, all()), ("data", in_x, all()), ("data2", None, none.clone()), ("data2", in_x, none.clone())]
    {
        assert_eq!(world.may(bucket, key).await, may, "{bucket} {key:?}");
    }
    let verdict = world.verdict(&call("s3:GetObject", "data", in_x)).await;
    assert_eq!(verdict.reason, "IAM: allowed by policy 'p'");
    world.remove(&bucket).await;
    assert_eq!(world.may("data", in_x).await, none, "a change is seen at once");
    let prefix = world.policy(&[world.stored("/data/in/*")], everything.clone()).await;
    for (bucket, key, may) in [
        ("data", in_x, all()),
        ("data", Some("in/"), all()),
        ("data", Some("inner"), none.clone()),
        ("data", None, none.clone()),
        ("other", in_x, none.clone()),
    ] {
        assert_eq!(world.may(bucket, key).await, may, "{bucket} {key:?}");
    }
    world.remove(&prefix).await;
    let group = json!({ "name": "g", "resources": list("urn", &[&world.stored("/data/in/*")]) });
    let group = world.make(&world.account, IamKind::ResourceGroup, group).await;
    let by_group = world.policy(&[format!("urn:v1:eu:resourceGroup:{group}")], everything.clone()).await;
    assert_eq!((world.may("data", in_x).await, world.may("data", Some("out")).await), (all(), none.clone()));
    world.remove(&by_group).await;

    for name in S3_ACTIONS {
        let action = storage_action(&format!("s3:{name}"));
        assert_eq!(s3_action(&action), Some(format!("s3:{name}").as_str()));
        let one = json!([{ "action": action }]);
        let everywhere = [world.stored("*")];
        // Its own `except` cuts from what it allows, and from nothing else.
        let except = json!({ "permissions": { "allow": [{ "action": "storageS3:*" }], "except": one } });
        let made = world.policy(&everywhere, except).await;
        assert_eq!(world.may("data", in_x).await, without(name), "except {name}");
        world.remove(&made).await;
        let made = world.policy(&everywhere, json!({ "permissions": { "allow": one } })).await;
        assert_eq!(world.may("data", in_x).await, HashSet::from([name]), "allow {name}");
        world.remove(&made).await;
    }

    // What is over is as if it was not there, at its very end too.
    for (end, may) in [(NOW, none.clone()), ("2026-11-26T12:00:01Z", all())] {
        let mut ending = everything.clone();
        ending["expiredAt"] = end.into();
        let made = world.policy(&[world.stored("*")], ending).await;
        assert_eq!(world.may("data", in_x).await, may, "{end}");
        world.remove(&made).await;
    }

    // Neither another project's bucket nor another account's policy.
    let open = world.policy(&["*".to_owned()], everything.clone()).await;
    let second = world.identity.create_project(&world.account, "second", &by()).await.expect("a project").id;
    let grant = world.grant().await;
    for name in S3_ACTIONS {
        let verdict = world.asked(&grant, &second, &call(&format!("s3:{name}"), "data", in_x)).await;
        assert!(!verdict.allowed && verdict.reason.contains("another project"), "{name}: {}", verdict.reason);
    }
    world.remove(&open).await;
    let stranger: AccountId = "cd5678-casemate".parse().expect("an account");
    world.identity.create_account(&stranger, "b@example.org", "B", &by()).await.expect("an account");
    let foreign = json!({
        "name": "foreign", "identities": [world.urn()], "resources": list("urn", &[&world.stored("*")]),
        "permissions": { "allow": [{ "action": "*" }] },
    });
    world.make(&stranger, IamKind::Policy, foreign).await;
    assert_eq!(world.may("data", in_x).await, none);
    // Until the project is theirs: from then on at once.
    let new = NewContacts { admin: Some(stranger.clone()), billing: None, tech: None };
    let asked = std::slice::from_ref(&world.project);
    let change = world.identity.change_contacts(asked, &new, &world.account, &by()).await.expect("asked for")[0];
    for side in [&world.account, &stranger] {
        let mails = world.identity.notifications(side).await.expect("mails");
        let newest = *mails.last().expect("a mail");
        let mail = world.identity.notification(side, newest).await.expect("read").expect("a mail");
        let token = mail.body.lines().find_map(|line| line.strip_prefix("Token: ")).expect("a token").to_owned();
        world.identity.accept_contact_change(side, change, &token, &by()).await.expect("accepted");
    }
    assert_eq!(world.may("data", in_x).await, all());
}

#[tokio::test]
async fn a_denial_in_either_language_wins_over_what_the_other_allows() {
    let world = world().await;
    let in_x = Some("in/x");
    let below = [world.stored("/data/in/*")];
    for name in S3_ACTIONS {
        let one = json!([{ "action": storage_action(&format!("s3:{name}")) }]);
        // Denied by the account: what a role, and a policy of the user, allow.
        let made = world.policy(&below, json!({ "permissions": { "deny": one } })).await;
        assert_eq!(world.may("data", in_x).await, without(name), "a role, and deny {name}");
        assert_eq!(world.may("data", Some("out")).await, all());
        world.remove(&made).await;
    }
    let deny = json!({ "permissions": { "deny": [{ "action": "storageS3:*" }] } });
    world.set_user_policy(json!([{ "Effect": "Allow", "Action": "s3:*", "Resource": "*" }])).await;
    let made = world.policy(&below, deny).await;
    let verdict = world.verdict(&call("s3:PutObject", "data", in_x)).await;
    assert_eq!((verdict.allowed, verdict.reason.as_str()), (false, "IAM: denied by policy 'p'"));
    assert_eq!(world.may("data", in_x).await, HashSet::new());
    world.remove(&made).await;
    // An `except` cuts from the policy's own `allow`: what the user's policy allows stays.
    let except = json!({ "allow": [{ "action": "storageS3:*" }], "except": [{ "action": "storageS3:*" }] });
    let made = world.policy(&below, json!({ "permissions": except })).await;
    assert_eq!(world.may("data", in_x).await, all());
    world.remove(&made).await;

    // Denied in the AWS language: what the account allows.
    world.policy(&[world.stored("*")], json!({ "permissions": { "allow": [{ "action": "storageS3:*" }] } })).await;
    for name in S3_ACTIONS {
        world.set_user_policy(json!([{ "Effect": "Deny", "Action": format!("s3:{name}"), "Resource": "*" }])).await;
        assert_eq!(world.may("data", in_x).await, without(name), "the user's policy denies {name}");
    }
    world.set_user_policy(json!([])).await;
    assert_eq!(world.may("data", in_x).await, all(), "one that allows nothing denies nothing");
    let text = json!({ "Statement": [
        { "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/in/*" },
    ] });
    let bucket = S3Policy::parse_bucket(&text.to_string(), &world.project, &"data".parse().expect("a bucket"));
    let bucket = bucket.expect("a policy");
    for (key, may) in [("in/x", false), ("out", true)] {
        let asked = Call { bucket_policy: Some(&bucket), ..call("s3:GetObject", "data", Some(key)) };
        assert_eq!(world.verdict(&asked).await.allowed, may, "the bucket's policy denies {key}");
    }
}

#[tokio::test]
async fn sessions_tokens_jobs_and_keys_of_the_project_are_named_and_none_gets_past_its_bounds() {
    let world = world().await;
    let identity = &world.identity;
    world.set_roles(&["authentication"]).await;
    world
        .policy(&[world.stored("*")], json!({ "permissions": { "allow": [{ "action": "storageS3:s3:Get*" }] } }))
        .await;
    let get = call("s3:GetObject", "data", Some("in/x"));
    let put = call("s3:PutObject", "data", Some("in/x"));

    // A session of the user has what the user has, and no more than its policy.
    let grant = world.grant().await;
    let role = format!("arn:aws:iam::{}:role/{}", world.project, world.user.username);
    let narrow = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/in/*"}}"#;
    let session = identity.assume_role(&grant, &role, "night", Some(narrow), None, &by()).await.expect("a session");
    let session = identity.find_s3_key(&session.access).await.expect("read").expect("there");
    assert_eq!(session.urn(), grant.urn(), "no session sheds what names its holder");
    assert!(world.asked(&session, &world.project, &get).await.allowed);
    let verdict = world.asked(&session, &world.project, &call("s3:GetObject", "data", Some("out"))).await;
    assert_eq!((verdict.allowed, verdict.reason.as_str()), (false, "the session's policy does not allow it"));
    let token = identity.make_user_token(&world.project, world.user.id, &by()).await.expect("a token");
    let token = identity.find_user_token(&token.token).await.expect("read").expect("there");
    assert!(world.asked(&token, &world.project, &get).await.allowed);
    assert!(!world.asked(&token, &world.project, &put).await.allowed);

    // A job and the key of the project may all by themselves, but for what a policy that names them denies.
    let sandbox = SandboxId { job: JobId(uuid::Uuid::from_u128(7)), attempt: AttemptNo(1) };
    let keys = identity.open_sandbox(&world.project, sandbox, Some(narrow)).await.expect("keys");
    let own = identity.create_s3_key(&world.project, None, &by()).await.expect("a key").access;
    let of = async |access: &str| identity.find_s3_key(access).await.expect("read").expect("there");
    let (job, platform, root) = (of(&keys.job.access).await, of(&keys.platform.access).await, of(&own).await);
    assert_eq!(job.urn(), Some(Urn::job(&world.project, &sandbox.job)));
    assert!(job.account_policies.is_none() && platform.account_policies.is_none() && root.is_plain());
    assert!(world.asked(&job, &world.project, &get).await.allowed);
    let everybody = json!({
        "name": "nobody reads", "identities": ["*"], "resources": list("urn", &[&world.stored("/data/*")]),
        "permissions": { "allow": [{ "action": "storageS3:s3:PutObject" }], "deny": [{ "action": "storageS3:s3:GetObject" }] },
    });
    world.make(&world.account, IamKind::Policy, everybody).await;
    for access in [&keys.job.access, &own, &world.access] {
        assert!(!world.asked(&*of(access).await, &world.project, &get).await.allowed);
    }
    let verdict = world.asked(&*of(&keys.job.access).await, &world.project, &put).await;
    assert_eq!(verdict.reason, "the session's policy does not allow it", "an allow opens nothing to a job");
    assert!(of(&keys.platform.access).await.is_plain(), "the service writes logs whatever policies say");
}

#[tokio::test]
async fn conditions_on_address_day_and_tags_of_the_project_hold_for_calls() {
    let world = world().await;
    world.set_roles(&["authentication"]).await;
    let get = call("s3:GetObject", "data", Some("in/x"));
    let matched = |key: &str, value: &str| json!({ "operator": "MATCH", "values": { key: value } });
    let project = Urn::project(&world.project).to_string();
    for (conditions, may) in [
        (matched("request.IP", "192.0.2.0/24"), true),
        (matched("request.IP", "198.51.100.0/24"), false),
        (matched("date(UTC).WeekDay", "thursday"), true),
        (matched("date(UTC).WeekDay", "friday"), false),
        (matched("resource.Tag(env)", "prod"), false),
    ] {
        let allow = json!([{ "action": "storageS3:*" }]);
        let fields = json!({ "permissions": { "allow": allow }, "conditions": conditions });
        let made = world.policy(&[world.stored("*")], fields).await;
        assert_eq!(world.verdict(&get).await.allowed, may, "{conditions}");
        if conditions["values"]["resource.Tag(env)"].is_string() {
            world.identity.set_iam_tag(&world.account, &project, "env", "prod", &by()).await.expect("tagged");
            assert!(world.verdict(&get).await.allowed, "the tags are those of the project");
        }
        world.remove(&made).await;
    }
}
