//! Joins rooms that do not know each other: what jobs need of the object store and of identities, and checkpoints of
//! the audit log that go into buckets. Holds no rule of its own.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use audit::send::{Elsewhere, Sent, Target};
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures::TryStreamExt as _;
use identity::Identity;
use jiff::{SignedDuration, Timestamp};
use jobs::{BoxError, JobKeys, Permission, S3Pair, Surroundings};
use model::{AccountId, BucketName, JobSpec, Principal, ProjectId, SandboxId};
use objects::{Gate, Homes, NewBucket, Store, Via};
use tokio::sync::mpsc::Receiver;
use tokio_util::{io::ReaderStream, sync::CancellationToken, task::TaskTracker};

use crate::{config::S3Target, failure::Failure, listener};

/// What jobs reach beside them.
pub struct Wiring {
    identity: Identity,
    store: Store,
    gate: Gate,
    stop: CancellationToken,
    open: Mutex<HashMap<SandboxId, CancellationToken>>,
    tasks: TaskTracker,
}

impl Wiring {
    /// Over the rooms; gates of sandboxes close at `stop`.
    pub fn new(identity: Identity, store: Store, gate: Gate, stop: CancellationToken) -> Wiring {
        Wiring { identity, store, gate, stop, open: Mutex::default(), tasks: TaskTracker::new() }
    }

    async fn ensure_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), BoxError> {
        match self.store.create_bucket(project, bucket, NewBucket::default()).await {
            Ok(()) | Err(objects::Error::BucketExists { .. }) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Waits until the gates of all sandboxes are closed, which they are after `stop`.
    pub async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[async_trait]
impl Surroundings for Wiring {
    async fn object_size(&self, project: &ProjectId, bucket: &BucketName, key: &str) -> Result<Option<u64>, BoxError> {
        match self.store.head(project, bucket, key).await {
            Ok(found) => Ok(found.map(|object| object.size)),
            Err(objects::Error::NoSuchBucket { .. }) => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    async fn read_object(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(self.store.whole(project, bucket, key, most).await?)
    }

    async fn object_sha256(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
    ) -> Result<Option<[u8; 32]>, BoxError> {
        let sum = async {
            let Some((_, mut pieces)) = self.store.bytes(project, bucket, key).await? else { return Ok(None) };
            let mut sum = Context::new(&SHA256);
            while let Some(piece) = pieces.try_next().await? {
                sum.update(&piece);
            }
            Ok::<_, objects::Error>(<[u8; 32]>::try_from(sum.finish().as_ref()).ok())
        };
        match sum.await {
            Err(objects::Error::Damaged { .. }) => Ok(None),
            outcome => Ok(outcome?),
        }
    }

    async fn keep_object(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        file: &Path,
    ) -> Result<(), BoxError> {
        self.ensure_bucket(project, bucket).await?;
        let body = tokio::fs::File::open(file).await?;
        let size = body.metadata().await?.len();
        Ok(self.store.write_own(project, bucket, key, size, ReaderStream::with_capacity(body, PIECE)).await?)
    }

    async fn ensure_log_bucket(&self, project: &ProjectId) -> Result<(), BoxError> {
        self.ensure_bucket(project, &BucketName::logs()).await
    }

    async fn write_log(
        &self,
        project: &ProjectId,
        key: &str,
        size: u64,
        pieces: Receiver<io::Result<Bytes>>,
    ) -> Result<(), BoxError> {
        let pieces = futures::stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        Ok(self.store.write_own(project, &BucketName::logs(), key, size, pieces).await?)
    }
    async fn read_log(&self, project: &ProjectId, key: &str, most: u64) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(self.store.read_small(project, &BucketName::logs(), key, most).await?)
    }

    async fn open_keys(&self, project: &ProjectId, sandbox: SandboxId, spec: &JobSpec) -> Result<JobKeys, BoxError> {
        let policy = spec.storage_access.as_deref().map(|accesses| identity::job_policy(&spec.bucket, accesses));
        let keys = self.identity.open_sandbox(project, sandbox, policy.as_deref()).await?;
        let pair = |key: identity::NewS3Key| S3Pair { access: key.access, secret: key.secret };
        Ok(JobKeys { job: pair(keys.job), platform: pair(keys.platform) })
    }

    async fn close_keys(&self, sandbox: SandboxId) -> Result<(), BoxError> {
        Ok(self.identity.close_sandbox(sandbox).await?)
    }

    fn open_gate(&self, sandbox: SandboxId, objects: std::net::TcpListener) -> Result<(), BoxError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&sandbox).is_some_and(|gate| !gate.is_cancelled()) {
            return Ok(());
        }
        objects.set_nonblocking(true)?;
        let stop = self.stop.child_token();
        open.insert(sandbox, stop.clone());
        let (gate, ended) = (self.gate.clone(), stop.clone());
        self.tasks.spawn(async move {
            let serve = move |stream, peer, stop| {
                let gate = gate.clone();
                async move { gate.serve_connection(stream, peer, Via::Sandbox(sandbox), stop).await }
            };
            if let Err(cause) = listener::accept(objects, None, stop, serve).await {
                tracing::error!(%sandbox, %cause, "the object gate of a sandbox cannot be opened");
            }
            // So that a gate that failed can be opened again.
            ended.cancel();
        });
        Ok(())
    }

    fn close_gate(&self, sandbox: SandboxId) {
        if let Some(gate) = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox) {
            gate.cancel();
        }
    }

    async fn may_submit(
        &self,
        who: &Principal,
        project: &ProjectId,
        cancels: bool,
        at: Timestamp,
    ) -> Result<Permission, BoxError> {
        if cancels
            && let Some(refused) = self.identity.may(who, api::CANCEL, project, at).await?.filter(|may| !may.allowed)
        {
            return Ok(Permission::Refused(refused.reason));
        }
        Ok(match self.identity.may(who, api::SUBMIT, project, at).await? {
            None => Permission::Gone,
            Some(decision) if decision.allowed => Permission::Allowed(decision.reason),
            Some(decision) => Permission::Refused(decision.reason),
        })
    }

    async fn tell(&self, tx: &mut db::Tx, account: &AccountId, subject: &str, body: &str) -> Result<(), BoxError> {
        self.identity.notify_in(tx, account, subject, body).await?;
        Ok(())
    }
}

/// Tells the object store the regions of projects.
pub fn homes(identity: &Identity) -> Homes {
    let identity = identity.clone();
    Homes(Arc::new(move |project| {
        let identity = identity.clone();
        Box::pin(async move { Ok(identity.region_of(&project).await?) })
    }))
}

/// Of a file that becomes an object, read at once.
const PIECE: usize = 256 * 1024;

/// A bucket as a place for checkpoints: each is an object, named by how many entries it is of, so that names sort by
/// size.
pub fn checkpoints_to(store: Store, settings: &S3Target) -> Result<Target, Failure> {
    let to = Arc::new(settings.archive()?);
    let (name, lock) = (to.to_string(), SignedDuration::from_hours(i64::from(settings.lock_days) * 24));
    let send = move |Sent { size, note }: Sent| -> futures::future::BoxFuture<'static, io::Result<()>> {
        let (store, to) = (store.clone(), Arc::clone(&to));
        Box::pin(async move {
            let until = Timestamp::now().checked_add(lock).unwrap_or(Timestamp::MAX);
            let key = format!("checkpoints/{size:020}");
            store.archive(&to, &key, note.as_bytes(), until).await.map_err(io::Error::other)
        })
    };
    let every = Duration::from_secs(settings.every_seconds.into());
    Ok(Target::Elsewhere(Elsewhere { name, every, send: Arc::new(send) }))
}
