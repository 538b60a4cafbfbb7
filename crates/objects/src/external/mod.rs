//! Buckets whose objects live in an S3 service elsewhere. The bucket itself (its name, its settings, its policy) is
//! ours; the bytes of its objects are sealed on the way there and opened on the way back, so that the service that
//! keeps them cannot read them, nor give one for another.
//!
//! An object there is one sealed stream under a data key of its own, which stands, wrapped for its bucket and key, in
//! its metadata: a range is one request. An upload in parts is kept here until it is complete, and goes as a whole.

mod client;
mod place;
mod sealed;
mod sts;

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use keys::Keys;
use model::{BucketName, ProjectId, Region, SandboxId};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    Error,
    put::{Condition, Target},
    rows::{About, ObjectRow},
};
use client::Client;
pub use place::expect_nothing_more;

/// An S3 service that buckets can live in.
pub struct ExternalConfig {
    /// Its name in the configuration; buckets remember it.
    pub name: String,
    /// Its URL; buckets are addressed by path.
    pub endpoint: Url,
    /// The region that requests are signed for.
    pub region: String,
    /// The region of this service in which what it keeps counts as being: projects of others do not use it.
    pub located: Region,
    /// The access key of the service there.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Zeroizing<String>,
    /// Stands before the names of buckets there, which all who use that service share. A bucket is named
    /// `{prefix}{16 digits of the project's id}-{bucket}` there.
    pub bucket_prefix: String,
    /// Whose new buckets live there; `None` is every project.
    pub projects: Option<Vec<ProjectId>>,
    /// The role that jobs act by there (STS), each with credentials that are good for its project's buckets only;
    /// `None` where it has no STS: jobs then act by the service's own key, within what the gate lets them do.
    pub role: Option<String>,
    /// Certificates, in PEM, that are trusted beside the system's.
    pub authorities: Option<Vec<u8>>,
}

impl std::fmt::Debug for ExternalConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalConfig")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint.as_str())
            .field("bucket_prefix", &self.bucket_prefix)
            .finish_non_exhaustive()
    }
}

/// An S3 service elsewhere.
#[derive(Debug)]
pub struct External {
    config: ExternalConfig,
    client: Client,
    /// Credentials of jobs; each is made anew before it ends.
    sessions: Mutex<HashMap<SandboxId, sts::Session>>,
    /// Uploads in parts that are being completed.
    completing: Mutex<HashMap<Uuid, Weak<tokio::sync::Mutex<()>>>>,
}

/// Who acts there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum As {
    /// The service.
    #[default]
    Service,
    /// A job, by credentials of its own where there is STS.
    Job(SandboxId),
}

/// What is known of an object there.
#[derive(Debug, Clone)]
pub struct Info {
    /// Its bytes before they were sealed.
    pub size: u64,
    /// Its entity tag, which is not a digest of its bytes.
    pub etag: String,
    /// When it was written, in milliseconds of Unix time.
    pub modified: i64,
    /// What its writer said of it.
    pub about: About,
    /// The upload in parts that it was made by, if it was; a list does not have it.
    pub upload: Option<Uuid>,
}

/// An entry of a list.
#[derive(Debug, Clone)]
pub enum Listed {
    /// An object; a list does not have its headers.
    Object(String, Box<Info>),
    /// Keys rolled up.
    Prefix(String),
}

/// Which bytes to read.
#[derive(Debug, Clone)]
pub enum Bytewise {
    /// All.
    All,
    /// From the first to the last, which may lie behind the end.
    Range(RangeInclusive<u64>),
    /// So many from the end.
    Last(u64),
}

/// An object that is being read.
pub struct Reading {
    /// What is known of it.
    pub info: Info,
    /// Which of its bytes come, end excluded.
    pub range: std::ops::Range<u64>,
    /// The bytes; what is not authentic ends them with an error.
    pub bytes: BoxStream<'static, Result<Bytes, Error>>,
}

impl External {
    /// Prepares the client; nothing is sent.
    pub fn new(config: ExternalConfig) -> Result<External, Error> {
        let client = Client::new(&config)?;
        Ok(External { config, client, sessions: Mutex::default(), completing: Mutex::default() })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether new buckets of a project of this region live there.
    pub fn takes(&self, project: &ProjectId, home: Option<&Region>) -> bool {
        self.config.projects.as_ref().is_none_or(|projects| projects.contains(project))
            && home.is_none_or(|home| *home == self.config.located)
    }

    /// Writes an object as it is that the mode COMPLIANCE keeps until `until`, to a bucket of this name there.
    pub async fn put_locked(&self, bucket: &str, key: &str, bytes: &[u8], until: Timestamp) -> Result<(), Error> {
        self.client.put_locked(bucket, key, bytes, until).await
    }

    /// Makes a bucket there; that it is there already, and ours, is no error.
    pub async fn create_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        self.client.create_bucket(project, bucket).await
    }

    /// Removes a bucket there, unless it has objects.
    pub async fn delete_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        // Not each service refuses: SeaweedFS removes a bucket with all that is in it.
        let first = crate::list::Query { limit: 1, ..crate::list::Query::default() };
        match self.client.list(None, project, bucket, &first).await {
            Ok((entries, _)) if entries.is_empty() => {}
            Ok(_) => return Err(Error::NotEmpty { bucket: bucket.clone() }),
            // It is of an earlier try.
            Err(Error::NoSuchBucket { .. }) => return Ok(()),
            Err(cause) => return Err(cause),
        }
        self.client.delete_bucket(project, bucket).await
    }

    /// Writes the object that a row describes; its entity tag there, and when it was written, in milliseconds of Unix
    /// time. It is not there unless as many bytes came as the row says.
    pub async fn put(
        &self,
        who: As,
        keys: &Keys,
        target: &Target,
        row: &ObjectRow,
        condition: &Condition,
        bytes: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin,
    ) -> Result<(String, i64), Error> {
        let key = keys.data_key(&target.project, &purpose(target))?;
        let session = self.session(who, &target.project).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(BUFFERED);
        let feeding = sealed::feed(&key.key, bytes, row.size, sender);
        let sending = self.client.put(
            session.as_ref(),
            target,
            client::Object {
                about: &row.about,
                upload: row.upload,
                condition,
                wrapped: &key.wrapped,
                length: crypto::segment::sealed_length(row.size),
            },
            receiver,
        );
        let (fed, sent) = tokio::join!(feeding, sending);
        match fed {
            Ok(()) => sent,
            Err(sealed::Fault::Refused(cause)) => Err(cause),
            // The other side hung up: it knows why.
            Err(sealed::Fault::NoTaker) => {
                sent?;
                Err(Error::External("it did not take the whole object".to_owned()))
            }
        }
    }

    /// Waits until nobody else completes an upload in parts, and lets nobody else do so while the answer is kept: clients
    /// call again when the first call takes them too long.
    pub async fn completing(&self, upload: Uuid) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut completing = self.completing.lock().unwrap_or_else(PoisonError::into_inner);
            completing.retain(|_, turn| turn.strong_count() > 0);
            let known = completing.get(&upload).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                completing.insert(upload, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// What is known of an object; `None` if there is none.
    pub async fn head(&self, who: As, target: &Target) -> Result<Option<Info>, Error> {
        let session = self.session(who, &target.project).await?;
        Ok(self.client.head(session.as_ref(), target).await?.map(|found| found.info))
    }

    /// Opens an object for reading.
    pub async fn get(&self, who: As, keys: &Keys, target: &Target, wanted: Bytewise) -> Result<Reading, Error> {
        let session = self.session(who, &target.project).await?;
        let wanted = match wanted {
            Bytewise::All => None,
            Bytewise::Range(range) => Some(range),
            // Which segments those are depends on the size.
            Bytewise::Last(count) => {
                let found = self.client.head(session.as_ref(), target).await?;
                let size = found.ok_or(Error::NoSuchKey)?.info.size;
                if size == 0 || count == 0 {
                    return Err(Error::InvalidRange { size });
                }
                Some(size.saturating_sub(count)..=size - 1)
            }
        };
        let segments = wanted.as_ref().map(sealed::segments);
        let found = self.client.get(session.as_ref(), target, segments).await?;
        let size = found.info.size;
        let range = match wanted {
            None => 0..size,
            Some(range) if *range.start() < size => *range.start()..range.end().saturating_add(1).min(size),
            Some(_) => return Err(Error::InvalidRange { size }),
        };
        let key = keys.unwrap(&target.project, &purpose(target), &found.wrapped)?;
        let mut bytes = sealed::open(&key, found.body, size, range.clone())?;
        // What is not authentic from its first segment on is an error, and not the beginning of an answer.
        let first = bytes.try_next().await?;
        let bytes = futures::stream::iter(first.map(Ok)).chain(bytes).boxed();
        Ok(Reading { info: found.info, range, bytes })
    }

    /// Removes an object; that there is none is no error.
    pub async fn delete(&self, who: As, target: &Target) -> Result<(), Error> {
        let session = self.session(who, &target.project).await?;
        self.client.delete(session.as_ref(), target).await
    }

    /// Lists keys in order; whether there are more.
    pub async fn list(
        &self,
        who: As,
        project: &ProjectId,
        bucket: &BucketName,
        query: &crate::list::Query,
    ) -> Result<(Vec<Listed>, bool), Error> {
        let session = self.session(who, project).await?;
        self.client.list(session.as_ref(), project, bucket, query).await.map_err(|cause| match cause {
            // The bucket itself is ours, and there.
            Error::NoSuchBucket { .. } => Error::External("the bucket is gone there".to_owned()),
            cause => cause,
        })
    }

    /// Forgets the credentials of a job that has ended.
    pub fn close(&self, sandbox: SandboxId) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox);
    }

    /// The credentials to act by; `None` are the service's own.
    async fn session(&self, who: As, project: &ProjectId) -> Result<Option<rusty_s3::Credentials>, Error> {
        let (As::Job(sandbox), Some(role)) = (who, &self.config.role) else { return Ok(None) };
        let now = Timestamp::now();
        let known = {
            let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.get(&sandbox).filter(|session| session.is_good(now)).map(sts::Session::credentials)
        };
        if known.is_some() {
            return Ok(known);
        }
        let made = sts::assume_role(&self.client, role, sandbox, &self.client.buckets_of(project)).await?;
        let credentials = made.credentials();
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(sandbox, made);
        Ok(Some(credentials))
    }
}

/// What an object's data key is bound to, so that it opens at its own place only.
fn purpose(target: &Target) -> String {
    format!("external/{}/{}", target.bucket, target.key)
}

/// Sealed segments that wait for the network.
const BUFFERED: usize = 4;
