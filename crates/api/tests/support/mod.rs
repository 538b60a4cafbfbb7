//! The API over real rooms in a directory of its own. Only the warden is not there, so that jobs wait.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod browser;

use std::{path::Path, sync::Arc, time::Duration};

use api::{ApiState, Config, router};
use async_trait::async_trait;
use audit::{Actor, Audit};
use axum::{Router, body::Body, extract::ConnectInfo};
use db::Db;
use engine::Engines;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use identity::{AccessRule, CredentialRequest, Identity};
use jiff::Timestamp;
use jobs::{BoxError, JobKeys, Jobs, Parts, Permission, Surroundings};
use keys::Keys;
use model::{AccountId, BucketName, Cores, MiB, Principal, ProjectId, SandboxId};
use objects::Store;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// What jobs see of the object store and of identities; no job starts here, so the rest is never asked for.
struct Beside(Store, Identity);

#[async_trait]
impl Surroundings for Beside {
    async fn object_size(&self, project: &ProjectId, bucket: &BucketName, key: &str) -> Result<Option<u64>, BoxError> {
        match self.0.head(project, bucket, key).await {
            Ok(found) => Ok(found.map(|object| object.size)),
            Err(objects::Error::NoSuchBucket { .. }) => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }
    async fn read_object(&self, _: &ProjectId, _: &BucketName, _: &str, _: u64) -> Result<Option<Vec<u8>>, BoxError> {
        Err("no job starts here".into())
    }
    async fn object_sha256(&self, _: &ProjectId, _: &BucketName, _: &str) -> Result<Option<[u8; 32]>, BoxError> {
        Err("no job starts here".into())
    }
    async fn keep_object(&self, _: &ProjectId, _: &BucketName, _: &str, _: &std::path::Path) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    async fn ensure_log_bucket(&self, _project: &ProjectId) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    async fn write_log(
        &self,
        _project: &ProjectId,
        _key: &str,
        _size: u64,
        _pieces: tokio::sync::mpsc::Receiver<std::io::Result<bytes::Bytes>>,
    ) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    async fn read_log(&self, project: &ProjectId, key: &str, most: u64) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(self.0.read_small(project, &BucketName::logs(), key, most).await?)
    }
    async fn open_keys(
        &self,
        _project: &ProjectId,
        _sandbox: SandboxId,
        _spec: &model::JobSpec,
    ) -> Result<JobKeys, BoxError> {
        Err("no job starts here".into())
    }
    async fn close_keys(&self, _sandbox: SandboxId) -> Result<(), BoxError> {
        Ok(())
    }
    fn open_gate(&self, _sandbox: SandboxId, _objects: std::net::TcpListener) -> Result<(), BoxError> {
        Err("no job starts here".into())
    }
    fn close_gate(&self, _sandbox: SandboxId) {}
    async fn may_submit(
        &self,
        who: &Principal,
        project: &ProjectId,
        cancels: bool,
        at: Timestamp,
    ) -> Result<Permission, BoxError> {
        if cancels && let Some(refused) = self.1.may(who, api::CANCEL, project, at).await?.filter(|may| !may.allowed) {
            return Ok(Permission::Refused(refused.reason));
        }
        Ok(match self.1.may(who, api::SUBMIT, project, at).await? {
            None => Permission::Gone,
            Some(decision) if decision.allowed => Permission::Allowed(decision.reason),
            Some(decision) => Permission::Refused(decision.reason),
        })
    }
    async fn tell(&self, tx: &mut db::Tx, account: &AccountId, subject: &str, body: &str) -> Result<(), BoxError> {
        self.1.notify_in(tx, account, subject, body).await?;
        Ok(())
    }
}

/// A running API with one account, one project and keys.
pub struct World {
    _dir: tempfile::TempDir,
    pub router: Router,
    pub jobs: Jobs,
    pub db: Db,
    pub identity: Identity,
    pub objects: Store,
    pub audit: Audit,
    pub account: AccountId,
    pub project: ProjectId,
    pub keys: Credentials,
}

/// What a client signs with.
#[derive(Clone)]
pub struct Credentials {
    pub application: String,
    pub secret: String,
    pub consumer: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl World {
    pub async fn new() -> World {
        World::at(BASE).await
    }

    /// The same, with security keys for the service at this address.
    pub async fn at(url: &str) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        let db = Db::open(&path.join("casemate.sqlite")).await.expect("a database");
        let audit = Audit::new(db.clone());
        let room = Arc::new(Keys::open(&path.join("keys")).expect("keys"));
        let identity = Identity::new(db.clone(), audit.clone(), Arc::clone(&room)).with_public_urls(&[url.into()]);
        let identity = identity.with_private_providers();
        let store = Store::open(&path.join("objects"), Arc::clone(&room)).await.expect("a store");
        for version in ["3.5.9", "4.1.4"] {
            engine(path, version);
        }
        let engines = Arc::new(Engines::open(&path.join("engines")).expect("engines"));
        let regions = ["GRA", "SBG"].map(|name| name.parse().expect("a region")).to_vec();
        let jobs = Jobs::new(Parts {
            db: db.clone(),
            audit: audit.clone(),
            keys: room,
            warden: warden::Client::new(&path.join("no-warden.sock")),
            engines: Arc::clone(&engines),
            surroundings: Arc::new(Beside(store.clone(), identity.clone())),
            config: jobs::Config {
                regions: regions.clone(),
                max_running: 1,
                warm: Vec::new(),
                cores: Cores(1000),
                memory: MiB::gib(1000),
                storage: MiB::gib(100_000),
                log_retention: Duration::from_secs(3600),
                spool: path.join("jobs"),
                log_address_base: "http://127.0.0.1:9000".into(),
                environments: jobs::EnvironmentConfig {
                    pypi: None,
                    maven: Vec::new(),
                    place: path.join("environments"),
                },
            },
        });
        let config = Config { public_urls: vec![BASE.into(), url.into()], regions, ..Config::default() };
        let state = ApiState {
            identity: identity.clone(),
            jobs: jobs.clone(),
            objects: store.clone(),
            audit: audit.clone(),
            engines,
            config: Arc::new(config),
        };
        let account: AccountId = "ab1234-casemate".parse().expect("an account");
        let by = Actor::operator();
        identity.create_account(&account, "a@example.org", "A", &by).await.expect("an account");
        let project = identity.create_project(&account, "first", &by).await.expect("a project").id;
        let keys = credentials(&identity, &account, AccessRule::everything()).await;
        World { _dir: dir, router: router(state), jobs, db, identity, objects: store, audit, account, project, keys }
    }

    /// A credential of this account with these rules.
    pub async fn key(&self, rules: &[(&str, &str)]) -> Credentials {
        let rules = rules.iter().map(|(method, path)| AccessRule::parse(method, path).expect("a rule")).collect();
        credentials(&self.identity, &self.account, rules).await
    }

    /// A credential that a user of this account granted, with every access rule.
    pub async fn key_of_user(&self, login: &str) -> Credentials {
        self.key_of_user_of(&self.account, login).await
    }

    /// A credential that a user of an account granted, with every access rule.
    pub async fn key_of_user_of(&self, account: &AccountId, login: &str) -> Credentials {
        let by = Actor::operator();
        let made = self.identity.create_application(account, "app", "", &by).await.expect("an application");
        let request = CredentialRequest { rules: AccessRule::everything(), ..CredentialRequest::default() };
        let pending = self.identity.request_credential(&made.application, &request, &by).await.expect("asked");
        self.identity.validate(&pending.token, None, Some(login), None, &by).await.expect("granted");
        Credentials {
            application: made.application.key.clone(),
            secret: made.secret.to_string(),
            consumer: pending.consumer_key.to_string(),
        }
    }

    /// A signed call of somebody else than the account.
    pub async fn call_as(&self, keys: &Credentials, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(signed(keys, method, path, &body, Timestamp::now().as_second())).await
    }

    /// Sends a form, as a browser does, unsigned.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.send(form(path, &text.join("&"))).await
    }

    /// All that the audit log says, as one text.
    pub async fn whole_log(&self) -> String {
        let query = audit::Query { limit: 10_000, ..audit::Query::default() };
        format!("{:?}", self.audit.list(&query).await.expect("rows"))
    }

    /// A path below this project.
    pub fn path(&self, rest: &str) -> String {
        format!("/1.0/cloud/project/{}{rest}", self.project)
    }

    /// A signed call.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(signed(&self.keys, method, path, &body, Timestamp::now().as_second())).await
    }

    /// Another account, and a credential of it.
    pub async fn other_account(&self, id: &str) -> Credentials {
        let account: AccountId = id.parse().expect("an account");
        self.identity.create_account(&account, "", "", &Actor::operator()).await.expect("an account");
        credentials(&self.identity, &account, AccessRule::everything()).await
    }

    /// A signed call that must succeed; its body.
    pub async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {answer:?}");
        answer.body
    }

    /// Reads, signed, with more headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = signed(&self.keys, "GET", path, "", Timestamp::now().as_second());
        for (name, value) in headers {
            request.headers_mut().insert(
                http::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value.parse().expect("a value"),
            );
        }
        self.send(request).await
    }

    /// Any request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        self.send_from(HERE, request).await
    }

    /// Any request, from that address.
    pub async fn send_from(&self, address: &str, mut request: Request<Body>) -> Answer {
        let peer = std::net::SocketAddr::new(address.parse().expect("an address"), 4711);
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, body, text }
    }

    /// What a client sends to submit a job with these parameters.
    pub fn submit_body(&self, parameters: &[(&str, &str)]) -> Value {
        let parameters: Vec<Value> =
            parameters.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        json!({
            "containerName": "code", "engine": "spark", "engineVersion": "3.5.9", "name": "n", "region": "GRA",
            "engineParameters": parameters,
        })
    }
}

/// An error of the form that clients read, with this status and code.
pub fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.body["errorCode"], code, "{answer:?}");
    // go-ovh reads exactly this form: texts, and a map of texts.
    let details = answer.body["details"].as_object().expect("details");
    assert!(details.values().all(Value::is_string), "{details:?}");
    assert!(answer.body["httpCode"].as_str().is_some_and(|text| text.starts_with(&status.to_string())));
    assert!(answer.headers.contains_key("x-ovh-queryid"));
}

/// One that names this field in its details.
pub fn refused_field(answer: &Answer, field: &str) {
    refused(answer, 400, "BAD_REQUEST");
    assert!(answer.body["details"][field].is_string(), "{field}: {answer:?}");
}

async fn credentials(identity: &Identity, account: &AccountId, rules: Vec<AccessRule>) -> Credentials {
    let by = Actor::operator();
    let application = identity.create_application(account, "app", "", &by).await.expect("an application");
    let request = CredentialRequest { rules, ..CredentialRequest::default() };
    let made = identity.create_credential(&application.application, &request, None, &by).await.expect("a credential");
    Credentials {
        application: application.application.key.clone(),
        secret: application.secret.to_string(),
        consumer: made.consumer_key.to_string(),
    }
}

/// The request by which a browser sends a form of its own page.
pub fn form(path: &str, text: &str) -> Request<Body> {
    Request::builder()
        .method("POST")
        .uri(path)
        .header("host", "api.example.org")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .header("origin", "null")
        .body(Body::from(text.to_owned()))
        .expect("a request")
}

/// An unsigned request to read.
pub fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", "api.example.org").body(Body::empty()).expect("a request")
}

/// Text as forms have it.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A request signed as the SDKs do.
pub fn signed(keys: &Credentials, method: &str, path: &str, body: &str, at: i64) -> Request<Body> {
    let text = format!("{}+{}+{method}+{BASE}{path}+{body}+{at}", keys.secret, keys.consumer);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.example.org")
        .header("content-type", "application/json")
        .header("x-ovh-application", &keys.application)
        .header("x-ovh-consumer", &keys.consumer)
        .header("x-ovh-timestamp", at.to_string())
        .header("x-ovh-signature", format!("$1${}", hex::encode(digest)))
        .body(Body::from(body.to_owned()))
        .expect("a request")
}

/// An engine as far as it can be listed: its manifest.
fn engine(dir: &Path, version: &str) {
    let home = dir.join(format!("engines/spark-{version}"));
    std::fs::create_dir_all(&home).expect("a directory");
    let manifest = json!({
        "engine": {
            "version": version, "scala": "2.12", "hadoop": "3.3.4", "description": "Spark", "available": "2024-01-01",
            "end_of_support": "2124-10-01", "end_of_life": "2125-01-01", "java_home": "/usr", "jars": [], "archives": false,
        },
        "files": {},
    });
    std::fs::write(home.join("manifest.json"), manifest.to_string()).expect("a manifest");
}

/// From where calls come.
pub const HERE: &str = "192.0.2.7";
pub const BASE: &str = "https://api.example.org";
