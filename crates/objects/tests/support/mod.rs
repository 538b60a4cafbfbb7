//! A gate on loopback, over a store, keys and a database of its own in a temporary directory, and boto3 to call it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod policy;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use audit::Audit;
use jiff::Timestamp;
use keys::Keys;
use model::{AttemptNo, BucketName, JobId, ProjectId, SandboxId};
use objects::{
    Access, BoxError, Gate, GateConfig, Grant, LoggedIn, NotLoggedIn, PolicyKind, Question, Refusal, RoleWish, Scope,
    Store, TemporaryKey, Verdict, Via,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A running gate; everything of it goes when this is dropped.
pub struct Stack {
    pub dir: PathBuf,
    own: Option<tempfile::TempDir>,
    pub store: Store,
    pub audit: Audit,
    pub access: Arc<Table>,
    pub public: SocketAddr,
    pub sandbox: SocketAddr,
    pub stop: StopOnDrop,
}

/// Ends the listeners with the stack.
pub struct StopOnDrop(CancellationToken);

impl StopOnDrop {
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Stack {
    /// With the projects `a` and `b`.
    pub async fn start() -> Stack {
        let own = tempfile::tempdir().unwrap();
        let stack = Stack::start_in(own.path()).await;
        Stack { own: Some(own), ..stack }
    }

    /// The same, with proxies at these blocks of addresses that are believed.
    pub async fn behind(proxies: &[&str]) -> Stack {
        let own = tempfile::tempdir().unwrap();
        let proxies = proxies.iter().map(|block| block.parse().unwrap()).collect();
        let stack = Stack::over(own.path(), proxies).await;
        stack.hand_over();
        Stack { own: Some(own), ..stack }
    }

    /// In a directory that may have been used before, and stays.
    pub async fn start_in(dir: &Path) -> Stack {
        let stack = Stack::without_hand_over(dir).await;
        stack.hand_over();
        stack
    }

    /// The same, whose audit log does not get yet what was kept with changes.
    pub async fn without_hand_over(dir: &Path) -> Stack {
        Stack::over(dir, Vec::new()).await
    }

    async fn over(dir: &Path, trusted_proxies: Vec<ipnet::IpNet>) -> Stack {
        let dir = dir.to_owned();
        let keys = Arc::new(open_keys(&dir.join("keys")));
        let store = Store::open(&dir.join("objects"), keys).await.unwrap();
        let audit = Audit::new(db::Db::open(&dir.join("casemate.db")).await.unwrap());
        let config = GateConfig {
            region: "GRA".parse().unwrap(),
            domains: vec!["s3.localhost".to_owned()],
            regions: ["GRA", "SBG"].map(|region| region.parse().unwrap()).to_vec(),
            public_urls: Vec::new(),
            secure: false,
            trusted_proxies,
        };
        let access = Arc::<Table>::default();
        let gate = Gate::new(store.clone(), Arc::clone(&access) as Arc<dyn Access>, audit.clone(), config);
        let stop = CancellationToken::new();
        let public = listen(gate.clone(), Via::Public, stop.clone()).await;
        let sandbox = listen(gate, Via::Sandbox(sandbox(1)), stop.clone()).await;
        Stack { dir, own: None, store, audit, access, public, sandbox, stop: StopOnDrop(stop) }
    }

    /// From now on the audit log gets what was kept with changes.
    pub fn hand_over(&self) {
        let (of, to, ending) = (self.store.clone(), self.audit.clone(), self.stop.0.clone());
        tokio::spawn(async move { of.hand_over(&to, ending).await });
    }

    /// Runs a function of `tests/boto.py`; panics with what it says unless it ends well.
    pub async fn boto(&self, function: &str) {
        self.script("boto.py", function).await;
    }

    /// Runs a function of a script of `tests`; panics with what it says unless it ends well.
    pub async fn script(&self, script: &str, function: &str) {
        let output = self.python(script, function).await;
        assert!(
            output.status.success(),
            "{function}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    async fn python(&self, script: &str, function: &str) -> Output {
        let python = venv().join("bin/python");
        assert!(python.exists(), "{} is missing: it needs boto3 and awscli", python.display());
        let mut command = Command::new(python);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script))
            .args([function, &self.public.port().to_string(), &self.sandbox.port().to_string()])
            .env("PATH", format!("{}:{}", venv().join("bin").display(), std::env::var("PATH").unwrap()))
            .env("HOME", &self.dir)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn listen(gate: Gate, via: Via, stop: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(Ok((io, peer))) = stop.run_until_cancelled(listener.accept()).await {
            let (gate, stop) = (gate.clone(), stop.clone());
            tokio::spawn(async move { gate.serve_connection(io, peer, via, stop).await });
        }
    });
    address
}

/// The access keys, users and tokens of the tests.
#[derive(Default)]
pub struct Table {
    /// Tokens that were ended.
    ended: Mutex<Vec<String>>,
    /// The identities of grants that were used.
    used: Mutex<Vec<String>>,
    /// From where passwords were tried.
    tried: Mutex<Vec<Option<IpAddr>>>,
}

#[async_trait::async_trait]
impl Access for Table {
    async fn grant(&self, access_key: &str) -> Result<Option<Grant>, BoxError> {
        let (project, scope) = match access_key {
            "project-a" => (project('a'), Scope::Project),
            "project-b" => (project('b'), Scope::Project),
            "job-1" => (project('a'), Scope::Job(sandbox(1))),
            "job-2" => (project('a'), Scope::Job(sandbox(2))),
            "platform-1" => (project('a'), Scope::Platform(sandbox(1))),
            "user-a" | "reader-a" | "far-a" => (project('a'), Scope::Project),
            "temporary-a" | "temporary-b" => (project(access_key.chars().last().unwrap()), Scope::Project),
            "broken" => return Err("the database is away".into()),
            _ => return Ok(None),
        };
        Ok(Some(Grant {
            secret: format!("secret of {access_key}").into(),
            principal: format!("arn:aws:iam::{project}:user/{access_key}"),
            project,
            identity: format!("s3-key/{access_key}"),
            scope,
            session_token: access_key.starts_with("temporary").then(|| format!("token of {access_key}").into()),
            plain: policy_of(access_key).is_none(),
            asks_tags: policy_of(access_key).is_some(),
            holder: Arc::new(policy_of(access_key)),
        }))
    }

    fn used(&self, grant: &Grant) {
        self.used.lock().unwrap().push(grant.identity.clone());
    }

    async fn token(&self, token: &str) -> Result<Option<Grant>, BoxError> {
        Ok(self.describe(token).await?.map(|found| found.grant))
    }

    async fn log_in(&self, user: &str, password: &str, from: Option<IpAddr>) -> Result<LoggedIn, NotLoggedIn> {
        self.tried.lock().unwrap().push(from);
        if user == "hurried" {
            return Err(NotLoggedIn::TryLater { seconds: 7 });
        }
        self.user(user).filter(|_| password == format!("password of {user}")).ok_or(NotLoggedIn::Wrong)
    }

    async fn describe(&self, token: &str) -> Result<Option<LoggedIn>, BoxError> {
        let ended = self.ended.lock().unwrap().iter().any(|ended| ended == token);
        Ok(token.strip_prefix("token-of-").and_then(|user| self.user(user)).filter(|_| !ended))
    }

    async fn log_out(&self, token: &str, _: Option<IpAddr>) -> Result<(), BoxError> {
        self.ended.lock().unwrap().push(token.to_owned());
        Ok(())
    }

    async fn decide(&self, caller: Option<&Grant>, question: &Question<'_>) -> Verdict {
        let own = caller.and_then(|caller| caller.holder.downcast_ref::<Option<&'static str>>().copied().flatten());
        policy::decide(caller, own, question)
    }

    fn check_policy(&self, _: &ProjectId, _: &BucketName, text: &str) -> Result<PolicyKind, String> {
        Ok(PolicyKind { public: policy::check(text)? })
    }

    async fn assume_role(&self, caller: &Grant, wish: RoleWish<'_>) -> Result<TemporaryKey, Refusal> {
        match wish.role.rsplit_once('/') {
            Some((_, "project")) if wish.policy == Some("{") => Err(Refusal::MalformedPolicy("not JSON".to_owned())),
            Some((_, "project")) => self.session_token(caller, wish.seconds).await,
            Some(_) => Err(Refusal::Denied("the role is not the caller's".to_owned())),
            None => Err(Refusal::Invalid("RoleArn is not the ARN of a role".to_owned())),
        }
    }

    async fn session_token(&self, caller: &Grant, seconds: Option<u32>) -> Result<TemporaryKey, Refusal> {
        let access = format!("temporary-{}", &caller.project.as_str()[..1]);
        Ok(TemporaryKey {
            secret: format!("secret of {access}").into(),
            session_token: format!("token of {access}").into(),
            expires: Timestamp::now() + Duration::from_secs(seconds.unwrap_or(3600).into()),
            principal: format!("arn:aws:sts::{}:assumed-role/project/test", caller.project),
            access,
        })
    }
}

/// The policies of users: one may nothing by itself, one reads what is open, one is bound to an address and to TLS.
fn policy_of(access_key: &str) -> Option<&'static str> {
    match access_key {
        "user-a" => Some(r#"{"Statement": []}"#),
        "reader-a" => Some(
            r#"{"Statement": [
                {"Effect": "Allow", "Action": ["s3:GetObject", "s3:GetObjectVersion"], "Resource": "arn:aws:s3:::data/open/*"},
                {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::data",
                 "Condition": {"StringEquals": {"s3:prefix": "open/"}}},
                {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::data/tagged/*",
                 "Condition": {"StringEquals": {"s3:ExistingObjectTag/class": "open"}}},
                {"Effect": "Allow", "Action": ["s3:PutObject", "s3:DeleteObject"], "Resource": "arn:aws:s3:::data/own/*"}
            ]}"#,
        ),
        "far-a" => Some(
            r#"{"Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/*",
                "Condition": {"StringEquals": {"aws:SourceIp": "203.0.113.9", "aws:SecureTransport": "true"}}}]}"#,
        ),
        _ => None,
    }
}

impl Table {
    /// From where passwords were tried since this was asked last.
    pub fn tries(&self) -> Vec<Option<IpAddr>> {
        std::mem::take(&mut self.tried.lock().unwrap())
    }

    /// The identities of grants that were used since this was asked last.
    pub fn uses(&self) -> Vec<String> {
        std::mem::take(&mut self.used.lock().unwrap())
    }

    /// The users `user-a` and `user-b`, one of each project.
    fn user(&self, name: &str) -> Option<LoggedIn> {
        let of = match name {
            "user-a" => 'a',
            "user-b" => 'b',
            _ => return None,
        };
        Some(LoggedIn {
            token: format!("token-of-{name}").into(),
            expires: Timestamp::now() + Duration::from_secs(3600),
            grant: Grant {
                secret: String::new().into(),
                project: project(of),
                identity: format!("user/{name}"),
                principal: format!("arn:aws:iam::{}:user/{name}", project(of)),
                scope: Scope::Project,
                session_token: None,
                plain: true,
                asks_tags: false,
                holder: Arc::new(()),
            },
            user: i64::from(u32::from(of)),
            username: name.to_owned(),
            roles: vec!["objectstore_operator".to_owned()],
        })
    }
}

/// Keys of the projects `a` and `b`; made if they are not there.
pub fn open_keys(dir: &Path) -> Keys {
    let keys = Keys::open(dir).unwrap();
    let account = "account".parse().unwrap();
    if keys.create_account(&account).is_ok() {
        for name in ['a', 'b'] {
            keys.create_project(&project(name), &account).unwrap();
        }
    }
    keys
}

pub fn project(name: char) -> ProjectId {
    name.to_string().repeat(32).parse().unwrap()
}

pub fn bucket(name: &str) -> BucketName {
    name.parse().unwrap()
}

pub fn sandbox(number: u128) -> SandboxId {
    SandboxId { job: JobId(uuid::Uuid::from_u128(number)), attempt: AttemptNo(1) }
}

/// A presigned URL of a key in the bucket `data` of project `a`.
pub fn signed(address: SocketAddr, method: &str, key: &str) -> String {
    let base = format!("http://{address}");
    if method != "DELETE" {
        let hour = Duration::from_secs(3600);
        return objects::presign("project-a", "secret of project-a", "GRA", &base, method, "data", key, hour);
    }
    let bucket = rusty_s3::Bucket::new(base.parse().unwrap(), rusty_s3::UrlStyle::Path, "data", "gra").unwrap();
    let credentials = rusty_s3::Credentials::new("project-a", "secret of project-a");
    use rusty_s3::S3Action as _;
    bucket.delete_object(Some(&credentials), key).sign(Duration::from_secs(3600)).into()
}

fn venv() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/venv")
}
