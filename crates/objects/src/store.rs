//! The store: its directory, and what other rooms ask of it.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use keys::Keys;
use model::{BucketName, ProjectId};
use redb::{ReadTransaction, ReadableTable as _};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    Error,
    clock::{Clock, milliseconds},
    committer::{Committer, Ground},
    error::at,
    garbage::Garbage,
    index::{self, BUCKETS, Index, LARGE, OBJECTS, SEGMENTS},
    list::{self, Entry, Query, VersionEntry, VersionQuery},
    put::{Removal, Target},
    rows::ObjectRow,
    segments::{self, Segments},
    versions::VersionId,
};

/// The object store of one directory; a cheap handle. What is written is durable when the call returns. Wait for
/// [`Store::close`] before the process ends, or do not: nothing that was acknowledged is lost.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub index: Arc<Index>,
    pub garbage: Arc<Garbage>,
    pub committer: Committer,
    pub keys: Arc<Keys>,
    pub large: PathBuf,
    pub packed: PathBuf,
    pub kept_free: u64,
    /// Bounds the threads that block on files and the index.
    blocking: Arc<Semaphore>,
}

/// Sizes by which the store decides.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// A segment file is closed once it has so many bytes.
    pub segment_file: u64,
    /// So many bytes of the disk are kept free, for the index and for the rest of the service.
    pub kept_free: u64,
    /// What time it is.
    pub clock: Clock,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { segment_file: 64 << 20, kept_free: 32 << 20, clock: Clock::default() }
    }
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
    /// Its version, where the bucket has versions.
    pub version: Option<VersionId>,
    /// Of what type its writer said it is.
    pub content_type: Option<String>,
}

/// Objects of a bucket, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<ObjectInfo>,
    /// Whether there are more.
    pub truncated: bool,
}

impl Store {
    /// Opens the store in `dir`, makes it if there is none, and removes what a crash left. One process at a time.
    pub async fn open(dir: &Path, keys: Arc<Keys>) -> Result<Store, Error> {
        Store::open_within(dir, keys, Limits::default()).await
    }

    /// With other limits than the usual.
    pub(crate) async fn open_within(dir: &Path, keys: Arc<Keys>, limits: Limits) -> Result<Store, Error> {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || open(&dir, keys, limits)).await.map_err(|_| Error::Closed)?
    }

    /// Finishes what was asked for and closes the files; later calls get [`Error::Closed`].
    pub async fn close(&self) {
        let inner = Arc::clone(&self.0);
        let closed = tokio::task::spawn_blocking(move || {
            inner.committer.close();
            inner.index.close();
        });
        // A panic in it was reported where it happened.
        let _ = closed.await;
    }

    /// What is known of an object; `None` if there is none.
    pub async fn head(&self, project: &ProjectId, bucket: &BucketName, key: &str) -> Result<Option<ObjectInfo>, Error> {
        let target = Target { project: project.clone(), bucket: bucket.clone(), key: key.to_owned() };
        Ok(self.find(&target, None).await?.object().map(|row| info(key.to_owned(), &row)))
    }

    /// Objects whose keys begin with `prefix` and come after `after`, at most `limit` of them.
    pub async fn list(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Listing, Error> {
        let query = Query {
            prefix: prefix.to_owned(),
            delimiter: None,
            after: after.map(str::to_owned),
            limit: (limit as usize).min(MOST_LISTED),
        };
        let (entries, truncated) = self.entries(project, bucket, query).await?;
        let objects = entries
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Object(key, row) => Some(info(key, &row)),
                Entry::Prefix(_) => None,
            })
            .collect();
        Ok(Listing { objects, truncated })
    }

    /// Removes an object; that there is none is no error. Where the bucket has versions, a delete marker takes its place.
    pub async fn delete_object(&self, project: &ProjectId, bucket: &BucketName, key: &str) -> Result<(), Error> {
        let removal = Removal { key: key.to_owned(), ..Removal::default() };
        self.remove(project, bucket, vec![removal]).await?.into_iter().try_for_each(|result| result.map(drop))
    }

    /// Entries of a bucket, and whether there are more.
    pub(crate) async fn entries(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        query: Query,
    ) -> Result<(Vec<Entry>, bool), Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        self.read(move |index| {
            index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)?;
            list::list(&index.open_table(OBJECTS)?, &project, &bucket, &query)
        })
        .await
    }

    /// Versions of a bucket, and whether there are more.
    pub(crate) async fn list_versions(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        query: VersionQuery,
    ) -> Result<(Vec<VersionEntry>, bool), Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        self.read(move |index| {
            index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)?;
            list::list_versions(index, &project, &bucket, &query)
        })
        .await
    }

    /// The time by the store's clock, which is never before the newest write, in milliseconds of Unix time.
    pub(crate) async fn clock(&self) -> Result<i64, Error> {
        self.block(|inner| {
            let newest = index::newest_time(&inner.index.read()?)?;
            Ok(milliseconds(inner.index.clock.microseconds().max(newest)))
        })
        .await
    }

    /// Reads the index on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.block(move |inner| read(&inner.index.read()?)).await
    }

    /// Runs what blocks, on one of a bounded number of threads; it ends even if the caller goes away.
    pub(crate) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.0.blocking).acquire_owned().await.map_err(|_| Error::Closed)?;
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&inner)
        });
        done.await.map_err(|_| Error::NotWritten)?
    }
}

fn open(dir: &Path, keys: Arc<Keys>, limits: Limits) -> Result<Store, Error> {
    let (large, packed) = (dir.join("large"), dir.join("packed"));
    for directory in [dir, &large, &packed] {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
    }
    let index = Index::open(&dir.join("index.redb"), limits.clock.clone())?;
    segments::sync_directory(dir)?;
    let next = clean(&index.read()?, &large, &packed)?;
    let index = Arc::new(index);
    let garbage = Arc::new(Garbage::default());
    let ground = Ground {
        index: Arc::clone(&index),
        garbage: Arc::clone(&garbage),
        segments: Segments::new(&packed, next, limits.segment_file),
        packed: packed.clone(),
        large: large.clone(),
        kept_free: limits.kept_free,
    };
    let committer = Committer::start(ground).map_err(at(dir))?;
    let blocking = Arc::new(Semaphore::new(THREADS));
    Ok(Store(Arc::new(Inner { index, garbage, committer, keys, large, packed, blocking, kept_free: limits.kept_free })))
}

/// Removes files that no row names: what a crash left of uploads and of deletes. Returns a number that no segment has.
fn clean(index: &ReadTransaction, large: &Path, packed: &Path) -> Result<u64, Error> {
    let named = index.open_table(LARGE)?;
    for entry in fs::read_dir(large).map_err(at(large))? {
        let path = entry.map_err(at(large))?.path();
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| Uuid::try_parse(name).ok());
        if let Some(id) = id
            && named.get(id.as_u128())?.is_none()
        {
            fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    let mut live = HashSet::new();
    for entry in index.open_table(SEGMENTS)?.iter()? {
        live.insert(entry?.0.value());
    }
    let ids = segments::ids(packed)?;
    for id in ids.iter().filter(|id| !live.contains(id)) {
        let path = segments::path(packed, *id);
        fs::remove_file(&path).map_err(at(&path))?;
    }
    Ok(ids.into_iter().chain(live).max().map_or(0, |id| id + 1))
}

/// What other rooms learn of an object.
fn info(key: String, row: &ObjectRow) -> ObjectInfo {
    ObjectInfo {
        key,
        size: row.size,
        etag: row.etag.clone(),
        modified: time(row.modified),
        version: Some(row.id()).filter(|id| *id != VersionId::Null),
        content_type: row.about.content_type.clone(),
    }
}

/// Now, in milliseconds of Unix time.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// The time that a row holds.
pub(crate) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What data keys of objects are bound to.
pub(crate) const PURPOSE: &str = "object";
/// The most entries of one answer.
pub(crate) const MOST_LISTED: usize = 1000;
const THREADS: usize = 16;
