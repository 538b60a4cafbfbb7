//! The S3 store (signatures; bodies follow).
#![allow(missing_docs, unused_variables, clippy::todo, clippy::unused_async)]
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use keys::Keys;
use model::{BucketName, ProjectId, Region, SandboxId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone)]
pub struct Store(Arc<()>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    pub name: BucketName,
    pub created: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    pub size: u64,
    pub etag: String,
    pub modified: Timestamp,
    pub content_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub objects: Vec<ObjectInfo>,
    pub truncated: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no bucket {bucket}")]
    NoSuchBucket { bucket: BucketName },
    #[error("the bucket {bucket} exists already")]
    BucketExists { bucket: BucketName },
    #[error("the bucket {bucket} is not empty")]
    NotEmpty { bucket: BucketName },
}

impl Store {
    pub async fn open(dir: &Path, keys: Arc<Keys>) -> Result<Store, Error> {
        todo!()
    }
    pub async fn close(&self) {
        todo!()
    }
    pub async fn create_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        todo!()
    }
    pub async fn delete_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        todo!()
    }
    pub async fn buckets(&self, project: &ProjectId) -> Result<Vec<Bucket>, Error> {
        todo!()
    }
    pub async fn bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<Option<Bucket>, Error> {
        todo!()
    }
    pub async fn head(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
    ) -> Result<Option<ObjectInfo>, Error> {
        todo!()
    }
    pub async fn list(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Listing, Error> {
        todo!()
    }
    pub async fn delete_object(&self, project: &ProjectId, bucket: &BucketName, key: &str) -> Result<(), Error> {
        todo!()
    }
}

#[derive(Debug, Clone)]
pub struct GateConfig {
    pub region: Region,
    pub domains: Vec<String>,
}

#[derive(Clone)]
pub struct Gate(Arc<()>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Public,
    Sandbox(SandboxId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Project,
    Job(SandboxId),
    Platform(SandboxId),
}

pub struct Grant {
    pub secret: Zeroizing<String>,
    pub project: ProjectId,
    pub identity: String,
    pub scope: Scope,
}

#[async_trait]
pub trait Access: Send + Sync + 'static {
    async fn grant(&self, access_key: &str) -> Result<Option<Grant>, BoxError>;
}

impl Gate {
    pub fn new(store: Store, access: Arc<dyn Access>, audit: audit::Audit, config: GateConfig) -> Gate {
        todo!()
    }
    pub async fn serve_connection<IO>(&self, io: IO, peer: SocketAddr, via: Via, stop: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        todo!()
    }
}

pub fn presign(
    access: &str,
    secret: &str,
    region: &str,
    base_url: &str,
    method: &str,
    bucket: &str,
    key: &str,
    expires: Duration,
) -> String {
    todo!()
}
