//! The store: its directory, and what other rooms ask of it.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use keys::Keys;
use model::{BucketName, ProjectId};
use redb::{ReadTransaction, ReadableTable as _};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    Error,
    behalf::{Behalf, Outbox},
    clock::{Clock, milliseconds},
    committer::{Committer, Ground, Pending, Reserve},
    compact::{self, Pace},
    error::at,
    external::External,
    garbage::Garbage,
    home::Homes,
    index::{self, BUCKETS, Index, LARGE, OBJECTS, SEGMENTS},
    list::{self, Entry, Query, VersionEntry, VersionQuery},
    log::Log,
    metrics::Metrics,
    notify::Notices,
    put::{Removal, Target},
    read::Shelf,
    replay,
    rows::ObjectRow,
    segments::{self, OpenFiles},
    versions::VersionId,
};

/// The object store of one directory; a cheap handle. What is written is durable when the call returns. Wait for
/// [`Store::close`] before the process ends, or do not: nothing that was acknowledged is lost.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) Arc<Inner>, pub(crate) Behalf);

#[derive(Debug)]
pub(crate) struct Inner {
    pub index: Arc<Index>,
    pub garbage: Arc<Garbage>,
    pub committer: Committer,
    pub keys: Arc<Keys>,
    pub large: PathBuf,
    pub packed: PathBuf,
    pub kept_free: u64,
    /// Segment files that are open for reading.
    pub open_files: Arc<OpenFiles>,
    /// What readers share.
    pub shelf: Arc<Shelf>,
    /// How many bodies may wait in memory that are more than small.
    pub memory: Arc<Semaphore>,
    /// Whether short work is done where it is asked for.
    pub glances: Arc<Glances>,
    /// Bounds the threads that block on files and the index.
    blocking: Arc<Semaphore>,
    /// Where buckets live that do not live here.
    pub externals: OnceLock<Vec<Arc<External>>>,
    /// Where projects are.
    pub homes: OnceLock<Homes>,
    /// What operators see.
    pub metrics: Metrics,
    /// Entries for the audit log that it does not have yet.
    pub outbox: Outbox,
    /// Who is told of changes.
    pub notices: Notices,
    /// See [`Limits::as_it_is`].
    pub as_it_is: bool,
    /// How much of the log was taken from a copy.
    pub mended: u64,
}

impl Inner {
    /// The store's directory.
    pub fn directory(&self) -> &Path {
        // Both directories were made in it.
        self.large.parent().unwrap_or(&self.large)
    }
}

/// Sizes by which the store decides.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// A segment file is closed once it has so many bytes.
    pub segment_file: u64,
    /// So many bytes of the disk are kept free, for the index and for the rest of the service.
    pub kept_free: u64,
    /// So many bytes of log are followed by a checkpoint: what a start after a crash has to read.
    pub checkpoint: u64,
    /// How space is given back.
    pub pace: Pace,
    /// What time it is.
    pub clock: Clock,
    /// Nothing is removed when it is opened, or in the background: it is to be looked at.
    pub as_it_is: bool,
    /// The directory of a copy of the store, which what is damaged of the log is taken from.
    pub log_from: Option<PathBuf>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            segment_file: 64 << 20,
            kept_free: 32 << 20,
            checkpoint: 64 << 20,
            pace: Pace { every: Duration::from_secs(30), rate: 16 << 20 },
            clock: Clock::default(),
            as_it_is: false,
            log_from: None,
        }
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
        let pace = limits.pace;
        let opened = tokio::task::spawn_blocking(move || open(&dir, keys, limits)).await;
        let store = opened.map_err(|_| Error::Closed)??;
        if !store.0.as_it_is {
            compact::start(&store.0, pace);
        }
        Ok(store)
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
        if let Some(external) = self.external(project, bucket)? {
            return self.entries_there(&external, project, bucket, &query).await;
        }
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
        if self.external(project, bucket)?.is_some() {
            return Err(Error::NotThere("versions"));
        }
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

    /// Does what is short where it is asked for: a look into the index, which is mostly in memory, or a read of a few
    /// kilobytes, which costs less than to hand it to another thread. Where that was slow lately, because the disk had
    /// to be asked, it goes to the threads that may block.
    pub(crate) async fn glance<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if !self.0.glances.are_quick() {
            return self.block(work).await;
        }
        let begun = Instant::now();
        let result = work(&self.0);
        self.0.glances.took(begun.elapsed());
        result
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

/// How long short work took lately.
#[derive(Debug)]
pub(crate) struct Glances {
    begun: Instant,
    /// Until when, in microseconds since `begun`, they are not trusted.
    slow_until: AtomicU64,
}

impl Default for Glances {
    fn default() -> Glances {
        Glances { begun: Instant::now(), slow_until: AtomicU64::new(0) }
    }
}

impl Glances {
    /// Whether short work may be done where it is asked for.
    pub fn are_quick(&self) -> bool {
        self.now() >= self.slow_until.load(Ordering::Relaxed)
    }

    /// Takes note of how long some took.
    pub fn took(&self, time: Duration) {
        if time > SLOW {
            self.slow_until.store(self.now() + micros(SLOW_FOR), Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        micros(self.begun.elapsed())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn open(dir: &Path, keys: Arc<Keys>, limits: Limits) -> Result<Store, Error> {
    let (large, packed) = (dir.join("large"), dir.join("packed"));
    for directory in [dir, &large, &packed] {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
    }
    let path = dir.join("index.redb");
    if !index::is_there(&path)? {
        let is_empty =
            |directory: &Path| fs::read_dir(directory).map_err(at(directory)).map(|mut files| files.next().is_none());
        if !is_empty(&large)? || !is_empty(&packed)? {
            // It was made before they were. A new one would name none of them, and they would all be removed.
            let what = "the index (index.redb is not there, and files of objects are)".to_owned();
            return Err(Error::Damaged { what });
        }
        index::make(&path)?;
    }
    let copy = limits.log_from.as_ref().map(|copy| copy.join("packed"));
    let (index, (log, next)) = Index::open(&path, limits.clock.clone(), |database, clock, mark| {
        let replayed = replay::replay(database, clock, &packed, mark, None, copy.as_deref())?;
        let newest = segments::ids(&packed)?.into_iter().max().map_or(0, |id| id + 1);
        let next = mark.next_segment.max(newest).max(index::after_segments(database)?);
        if replayed.end != mark.position || next != mark.next_segment {
            // Before any file goes that says how the log went on.
            index::checkpoint(database, replayed.end, next)?;
        }
        Ok((replayed, next))
    })?;
    segments::sync_directory(dir)?;
    if !limits.as_it_is {
        clean(&index.read()?, &large, &packed)?;
    }
    let index = Arc::new(index);
    let garbage = Arc::new(Garbage::default());
    let open_files = Arc::new(OpenFiles::new(&packed));
    let ground = Ground {
        index: Arc::clone(&index),
        garbage: Arc::clone(&garbage),
        log: Log::new(&packed, log.log, log.end, next, limits.segment_file),
        open_files: Arc::clone(&open_files),
        packed: packed.clone(),
        large: large.clone(),
        kept_free: limits.kept_free,
        reserve: Reserve::new(dir.join("reserve"), limits.kept_free.min(MOST_RESERVE)),
        checkpoint: limits.checkpoint,
        pending: Pending::default(),
    };
    let committer = Committer::start(ground).map_err(at(dir))?;
    let blocking = Arc::new(Semaphore::new(THREADS));
    let kept_free = limits.kept_free;
    let glances = Arc::new(Glances::default());
    let shelf = Arc::new(Shelf::new(large.clone(), Arc::clone(&open_files), Arc::clone(&glances)));
    let memory = Arc::new(Semaphore::new(MOST_IN_MEMORY));
    let (externals, outbox) = (OnceLock::new(), Outbox::default());
    let inner = Inner {
        index,
        garbage,
        committer,
        keys,
        large,
        packed,
        kept_free,
        open_files,
        shelf,
        memory,
        glances,
        blocking,
        externals,
        homes: OnceLock::new(),
        metrics: Metrics::new(),
        outbox,
        notices: Notices::default(),
        as_it_is: limits.as_it_is,
        mended: log.mended,
    };
    Ok(Store(Arc::new(inner), Behalf::default()))
}

/// Removes files that no row names: what a crash left of uploads and of deletes.
fn clean(index: &ReadTransaction, large: &Path, packed: &Path) -> Result<(), Error> {
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
    for id in segments::ids(packed)?.into_iter().filter(|id| !live.contains(id)) {
        let path = segments::path(packed, id);
        fs::remove_file(&path).map_err(at(&path))?;
    }
    Ok(())
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
/// Work that takes longer than this waited for the disk,
const SLOW: Duration = Duration::from_millis(2);
/// and for so long after it others are not let wait for it.
const SLOW_FOR: Duration = Duration::from_millis(100);
/// Bodies of up to a megabyte that wait in memory, because to pack them costs fewer syncs than a file for each.
const MOST_IN_MEMORY: usize = 32;
/// The most that is kept for deletes on a full disk.
const MOST_RESERVE: u64 = 16 << 20;
