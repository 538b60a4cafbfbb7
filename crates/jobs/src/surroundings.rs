//! What jobs need of the rooms beside them, which they must not know.

use std::{io, path::Path};

use async_trait::async_trait;
use bytes::Bytes;
use db::Tx;
use jiff::Timestamp;
use model::{AccountId, BucketName, JobSpec, Principal, ProjectId, SandboxId};
use tokio::sync::mpsc::Receiver;

use crate::{Error, JobKeys};

/// The cause of a failure elsewhere.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Object storage and identities, as far as jobs need them. The binary joins the rooms.
#[async_trait]
pub trait Surroundings: Send + Sync + 'static {
    /// Size of an object; `None` where there is no such object or bucket.
    async fn object_size(&self, project: &ProjectId, bucket: &BucketName, key: &str) -> Result<Option<u64>, BoxError>;

    /// The bytes of an object of at most `most` bytes; `None` where there is no such object or bucket.
    async fn read_object(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, BoxError>;

    /// SHA-256 of the bytes of an object; `None` where there is none, or it is damaged.
    async fn object_sha256(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
    ) -> Result<Option<[u8; 32]>, BoxError>;

    /// Writes a file as an object of the platform's own; its bucket is made if there is none.
    async fn keep_object(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        file: &Path,
    ) -> Result<(), BoxError>;

    /// Makes the project's bucket of logs if there is none.
    async fn ensure_log_bucket(&self, project: &ProjectId) -> Result<(), BoxError>;

    /// Writes an object of `size` bytes into the project's bucket of logs; nothing where other than that many come.
    async fn write_log(
        &self,
        project: &ProjectId,
        key: &str,
        size: u64,
        pieces: Receiver<io::Result<Bytes>>,
    ) -> Result<(), BoxError>;

    /// An object of the bucket of logs; `None` where there is none, or it has more than `most` bytes.
    async fn read_log(&self, project: &ProjectId, key: &str, most: u64) -> Result<Option<Vec<u8>>, BoxError>;

    /// Makes the keys of a sandbox, for what of the storage the job may use; the same again where there are some.
    async fn open_keys(&self, project: &ProjectId, sandbox: SandboxId, spec: &JobSpec) -> Result<JobKeys, BoxError>;

    /// Removes the keys of a sandbox; does nothing where there are none.
    async fn close_keys(&self, sandbox: SandboxId) -> Result<(), BoxError>;

    /// Starts to accept on a sandbox's listener of the object gate; does nothing where it does already.
    fn open_gate(&self, sandbox: SandboxId, objects: std::net::TcpListener) -> Result<(), BoxError>;

    /// Ends that.
    fn close_gate(&self, sandbox: SandboxId);

    /// Whether somebody who is not there may submit jobs in a project at a time, and cancel those that run if `cancels`.
    async fn may_submit(
        &self,
        who: &Principal,
        project: &ProjectId,
        cancels: bool,
        at: Timestamp,
    ) -> Result<Permission, BoxError>;

    /// Tells an account something, with the transaction that it is about.
    async fn tell(&self, tx: &mut Tx, account: &AccountId, subject: &str, body: &str) -> Result<(), BoxError>;
}

/// Whether somebody may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// They may, for this reason.
    Allowed(String),
    /// They may not, for this reason.
    Refused(String),
    /// They are not there any more.
    Gone,
}

/// Says what was asked of a room beside this one when it fails.
pub(crate) trait Beside<T> {
    fn beside(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> Beside<T> for Result<T, BoxError> {
    fn beside(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Beside { doing, source })
    }
}
