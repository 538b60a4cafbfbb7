//! One call: whose key it is, whether it may, and the audit entry that it leaves.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use audit::{Actor, Decision, Entry};
use http::{HeaderValue, Request, StatusCode};
use ipnet::IpNet;
use model::ProjectId;
use s3s::{
    S3Error, S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};
use uuid::Uuid;

use crate::{
    Scope, Store, Verdict, Via,
    access::{Grant, is_read},
    behalf::{Behalf, Note},
    external::As,
    gate::Ground,
    rows::BucketRow,
};

/// A call, and what is found out about it on its way.
pub struct Call {
    pub ground: Arc<Ground>,
    source_ip: IpAddr,
    secure: bool,
    /// Whether a proxy that is believed says that it was not.
    said_plain: bool,
    via: Via,
    id: String,
    asked: String,
    /// The access key that the request names, and its grant: nobody's until the signature is verified.
    claimed: OnceLock<(String, Grant)>,
    /// Set when the caller was found to be who the request says.
    verified: OnceLock<()>,
    /// The region that the signature is for.
    pub signed_region: OnceLock<String>,
    /// Whose buckets a caller without a key means.
    visited: OnceLock<ProjectId>,
    target: OnceLock<Asked>,
    /// The condition keys that the request gives.
    scene: OnceLock<Vec<(String, String)>>,
    /// The settings of the bucket that the call is on, as they were when it was admitted.
    settings: OnceLock<BucketRow>,
    /// The store, on behalf of the caller.
    store: OnceLock<Store>,
    /// An action that was asked about, and what policies say.
    pub verdict: Mutex<Option<(String, Verdict)>>,
}

/// What is asked for, once that is known.
struct Asked {
    /// The protocol, as the audit log names it: `s3`, `sts`, `keystone` or `swift`.
    service: &'static str,
    operation: String,
    bucket: Option<String>,
    key: Option<String>,
    allowed: bool,
}

/// A call as `s3s` wants it: it finds the secret, decides, and does.
#[derive(Clone)]
pub struct Session(pub Arc<Call>);

impl Call {
    /// A call on a connection from `peer`, which may be a proxy that is believed.
    pub fn new<B>(ground: Arc<Ground>, peer: SocketAddr, via: Via, request: &Request<B>) -> Call {
        // In front of a job's own listener there is no proxy: what stands in the headers there is the job's word.
        let trusted: &[IpNet] = match via {
            Via::Public => &ground.trusted_proxies,
            Via::Sandbox(_) => &[],
        };
        let values = |name: &'static str| request.headers().get_all(name).iter().map(HeaderValue::as_bytes);
        let source_ip = model::source_ip(peer.ip(), trusted, values("x-forwarded-for"));
        let said = model::spoke_tls(peer.ip(), trusted, values("x-forwarded-proto"));
        let secure = said.unwrap_or(via == Via::Public && ground.secure);
        let asked = format!("{} {}", request.method(), request.uri().path());
        let id = Uuid::now_v7().as_simple().to_string();
        Call {
            ground,
            source_ip,
            secure,
            said_plain: said == Some(false),
            via,
            id,
            asked,
            claimed: OnceLock::new(),
            verified: OnceLock::new(),
            signed_region: OnceLock::new(),
            visited: OnceLock::new(),
            target: OnceLock::new(),
            scene: OnceLock::new(),
            settings: OnceLock::new(),
            store: OnceLock::new(),
            verdict: Mutex::default(),
        }
    }

    /// The id by which answer and audit entry name the call.
    pub fn request_id(&self) -> &str {
        &self.id
    }

    /// The project whose buckets the call is on. Known once it was allowed.
    pub fn project(&self) -> S3Result<&ProjectId> {
        let own = self.grant().map(|grant| &grant.project);
        own.or(self.visited.get()).ok_or_else(|| s3_error!(AccessDenied, "a signature is required"))
    }

    /// A caller without a key means the buckets of a project. Once a call.
    pub fn visit(&self, project: ProjectId) -> S3Result<()> {
        self.visited.set(project).map_err(|_| s3_error!(InvalidRequest, "a request is for one project"))
    }

    /// Whether the client's connection is one of TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether a proxy that is believed says that the client's connection is not one of TLS.
    pub fn is_said_plain(&self) -> bool {
        self.said_plain
    }

    /// Keeps the condition keys that the request gives. Once a call.
    pub fn set_scene(&self, scene: Vec<(String, String)>) {
        // Set once: a call is one request.
        let _ = self.scene.set(scene);
    }

    /// The condition keys that the request gives.
    pub fn scene(&self) -> &[(String, String)] {
        self.scene.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Keeps the settings of the bucket that the call is on. Once a call: of a copy, it is the target's.
    pub fn set_settings(&self, row: BucketRow) {
        // Set once: the first bucket is the one that the call is on.
        let _ = self.settings.set(row);
    }

    /// The settings of the bucket that the call is on, if there is one.
    pub fn settings(&self) -> Option<&BucketRow> {
        self.settings.get()
    }

    /// The bucket that is asked for, once that is known.
    pub fn bucket(&self) -> Option<&str> {
        self.target.get()?.bucket.as_deref()
    }

    /// The protocol and the operation, as far as they are known.
    pub fn asked(&self) -> (&'static str, Option<&str>) {
        match self.target.get() {
            Some(asked) => (asked.service, Some(&asked.operation)),
            None => ("unknown", None),
        }
    }

    /// From where the client calls.
    pub fn source_ip(&self) -> IpAddr {
        self.source_ip
    }

    /// Which way it came.
    pub fn via(&self) -> Via {
        self.via
    }

    /// What its key or token is good for; `None` until the caller was found to be its holder.
    pub fn grant(&self) -> Option<&Grant> {
        self.verified.get()?;
        self.claimed.get().map(|(_, grant)| grant)
    }

    /// The signature of the request was found to be of the key that it names. Only from now on the call has the rights
    /// of that key, and the audit log its name.
    pub fn verify(&self) {
        if let Some((_, grant)) = self.claimed.get()
            && self.verified.set(()).is_ok()
        {
            self.ground.access.used(grant);
        }
    }

    /// The call is one of a token's, if that is good where it came in. Once a call.
    pub fn hold(&self, grant: Grant) -> S3Result<()> {
        if !grant.scope.is_good(self.via) {
            return Err(s3_error!(AccessDenied, "the token is not good here"));
        }
        let again = |_| s3_error!(InvalidRequest, "a request has one token");
        self.claimed.set((String::new(), grant)).map_err(again)?;
        self.verify();
        Ok(())
    }

    /// Says what is asked for by another protocol than S3, for the audit log. Once a call.
    pub fn asks(
        &self,
        service: &'static str,
        operation: &str,
        (bucket, key): (Option<&str>, Option<&str>),
        allowed: bool,
    ) {
        let (bucket, key) = (bucket.map(str::to_owned), key.map(str::to_owned));
        // Set once: a call is one operation.
        let _ = self.target.set(Asked { service, operation: operation.to_owned(), bucket, key, allowed });
    }

    /// The store, on behalf of the caller: a change keeps the audit entry of the call with it.
    pub fn store(&self) -> &Store {
        self.store.get_or_init(|| {
            let who = match (self.via, self.grant()) {
                (Via::Sandbox(sandbox), Some(grant)) if matches!(grant.scope, Scope::Job(_)) => As::Job(sandbox),
                _ => As::Service,
            };
            let note = self.target.get().filter(|asked| asked.allowed).and_then(|asked| {
                let (.., status) =
                    *KEPT.iter().find(|(of, name, _)| (*of, *name) == (asked.service, &asked.operation))?;
                Some(Arc::new(Note::new(self.entry(status, None))))
            });
            self.ground.store.on_behalf(Behalf { who, note, by: Some(Arc::new(self.actor())) })
        })
    }

    /// Writes the audit entry: durably, unless the call only read. Nothing remains to be done where it was kept with
    /// what the call changed, and tells what came of it.
    pub async fn record(&self, status: StatusCode, code: Option<&str>) -> Result<(), audit::Error> {
        let entry = self.entry(status, code);
        let kept = self.store.get().and_then(|store| store.1.note.as_ref()?.kept());
        if kept.is_some_and(|kept| (&kept.result, kept.decision) == (&entry.result, entry.decision)) {
            return Ok(());
        }
        let refused = entry.decision == Decision::Refused;
        let asked = self.target.get();
        if !refused && asked.is_some_and(|asked| asked.service != "sts" && is_read(&asked.operation)) {
            self.ground.audit.note(entry).await
        } else {
            self.ground.audit.record(entry).await
        }
    }

    /// Who calls, as far as it is known.
    fn actor(&self) -> Actor {
        let mut actor = Actor::anonymous(Some(self.source_ip));
        if let Some(grant) = self.grant() {
            actor.identity.clone_from(&grant.identity);
        }
        actor.request_id = Some(self.id.clone());
        actor
    }

    /// The audit entry of the call, as far as it is known.
    fn entry(&self, status: StatusCode, code: Option<&str>) -> Entry {
        let asked = self.target.get();
        let action = match asked {
            Some(asked) => format!("{}:{}", asked.service, asked.operation),
            None => format!("s3:{}", self.asked.split(' ').next().unwrap_or_default()),
        };
        let mut entry = Entry::new(self.actor(), action, cut(&self.resource()));
        let refusals = [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
        let refused = refusals.contains(&status);
        entry.decision = match asked {
            Some(asked) if asked.allowed && !refused => Decision::Allowed,
            _ if refused => Decision::Refused,
            _ => Decision::None,
        };
        entry.result = match code {
            Some(code) => format!("{} {code}", status.as_u16()),
            None => status.as_u16().to_string(),
        };
        let mut detail = serde_json::Map::new();
        if let Via::Sandbox(sandbox) = self.via {
            detail.insert("via".to_owned(), format!("sandbox/{sandbox}").into());
        }
        if let Some((_, claimed)) = self.claimed.get().filter(|_| self.grant().is_none()) {
            detail.insert("claimed".to_owned(), claimed.identity.clone().into());
        }
        if let Some((action, verdict)) = self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            detail.insert("asked".to_owned(), action.into());
            detail.insert("reason".to_owned(), cut(&verdict.reason).into());
        }
        if !detail.is_empty() {
            entry.detail = detail.into();
        }
        entry
    }

    fn resource(&self) -> String {
        let mut resource = match self.project() {
            Ok(project) => format!("project/{project}"),
            Err(_) => "project/unknown".to_owned(),
        };
        match self.target.get() {
            Some(asked) => {
                for (kind, name) in [("bucket", &asked.bucket), ("key", &asked.key)] {
                    if let Some(name) = name {
                        resource.push_str(&format!("/{kind}/{name}"));
                    }
                }
            }
            None => {
                resource.push_str("/path");
                resource.push_str(self.asked.split_once(' ').map_or("", |(_, path)| path));
            }
        }
        resource
    }
}

#[async_trait::async_trait]
impl S3Auth for Session {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let unknown = || s3_error!(InvalidAccessKeyId, "the access key is not known here");
        if access_key.len() > LONGEST_ACCESS_KEY {
            return Err(unknown());
        }
        if let Some((of, grant)) = self.0.claimed.get() {
            return match of == access_key {
                true => Ok(SecretKey::from(grant.secret.as_str())),
                // A request with two signatures could be verified by one and answered by the rights of the other.
                false => Err(s3_error!(InvalidRequest, "a request is signed with one access key")),
            };
        }
        let found = self.0.ground.access.grant(access_key).await.map_err(|cause| {
            tracing::error!(%cause, "an access key could not be looked up");
            S3Error::with_message(s3s::S3ErrorCode::ServiceUnavailable, "access keys cannot be looked up")
        })?;
        let grant = found.filter(|grant| grant.scope.is_good(self.0.via)).ok_or_else(unknown)?;
        let secret = SecretKey::from(grant.secret.as_str());
        // Set once: a call has one key.
        let _ = self.0.claimed.set((access_key.to_owned(), grant));
        Ok(secret)
    }
}

#[async_trait::async_trait]
impl S3Access for Session {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name().to_owned();
        let bucket = context.s3_path().get_bucket_name().map(str::to_owned);
        let key = context.s3_path().get_object_key().map(str::to_owned);
        let signed = context.credentials().is_some();
        if signed {
            self.0.verify();
        }
        let place = (bucket.as_deref(), key.as_deref());
        let outcome = self.0.admit(&operation, place, signed, (context.uri(), context.headers())).await;
        let bucket = bucket.map(|bucket| crate::host::name_of(&bucket).to_owned());
        // Set once: a call is one operation.
        let _ = self.0.target.set(Asked { service: "s3", operation, bucket, key, allowed: outcome.is_ok() });
        outcome
    }
}

/// Operations on objects whose audit entry is kept with what they change, and the status that it tells of.
const KEPT: [(&str, &str, StatusCode); 11] = [
    ("s3", "PutObject", StatusCode::OK),
    ("s3", "CopyObject", StatusCode::OK),
    ("s3", "DeleteObject", StatusCode::NO_CONTENT),
    ("s3", "DeleteObjects", StatusCode::OK),
    ("s3", "CreateMultipartUpload", StatusCode::OK),
    ("s3", "UploadPart", StatusCode::OK),
    ("s3", "UploadPartCopy", StatusCode::OK),
    ("s3", "CompleteMultipartUpload", StatusCode::OK),
    ("s3", "AbortMultipartUpload", StatusCode::NO_CONTENT),
    ("swift", "PutObject", StatusCode::CREATED),
    ("swift", "DeleteObject", StatusCode::NO_CONTENT),
];

/// Cut at a character, so that a log line has a bound.
fn cut(text: &str) -> String {
    text.chars().take(LONGEST_RESOURCE).collect()
}

const LONGEST_ACCESS_KEY: usize = 128;
const LONGEST_RESOURCE: usize = 400;
