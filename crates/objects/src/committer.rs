//! Group commit: one thread applies the changes of many callers, as many a transaction as are waiting.
//!
//! The order that makes an acknowledged write survive: the changes are made in a transaction of the index that nobody
//! sees; data and changes of all are appended to the log, and one sync makes them durable; the transaction is
//! committed in memory, so that all see it; each caller is answered. Now and then a checkpoint makes the index itself
//! durable. What fails a check changes nothing and does not disturb the others.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    Error,
    garbage::{Dead, Garbage},
    index::{Index, SEGMENTS, Writing},
    log::Log,
    logged::Redo,
    replay,
    rows::Place,
    seal::{Body, NewFile},
    segments::{self, OpenFiles},
};

/// The thread that writes; ends when this is dropped, after what was asked of it before.
#[derive(Debug)]
pub struct Committer {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    /// Bounds the queue.
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread works on.
#[derive(Debug)]
pub struct Ground {
    pub index: Arc<Index>,
    pub garbage: Arc<Garbage>,
    pub log: Log,
    pub open_files: Arc<OpenFiles>,
    /// Directory of segment files.
    pub packed: PathBuf,
    /// Directory of large files.
    pub large: PathBuf,
    /// See [`nearly_full`].
    pub kept_free: u64,
    /// Room for deletes on a full disk.
    pub reserve: Reserve,
    /// So many bytes of log are followed by a checkpoint.
    pub checkpoint: u64,
    pub pending: Pending,
}

/// What the next checkpoint has to do.
#[derive(Debug, Default)]
pub struct Pending {
    /// Bytes of log.
    bytes: u64,
    /// When the first and the last change was made that is not durable in the index.
    times: Option<(Instant, Instant)>,
    /// Segment files that may be of no use.
    segments: BTreeSet<u64>,
}

/// A change, with the bytes that it packs.
struct Job {
    small: Vec<u8>,
    file: Option<NewFile>,
    apply: Apply,
    /// Whether it may take room that is kept free.
    in_reserve: bool,
    _room: OwnedSemaphorePermit,
}

/// Checks, then changes; returns what answers the caller once the transaction's fate is known.
type Apply = Box<dyn FnOnce(&mut Writing<'_>, Result<Option<Place>, Error>) -> Result<Answer, Error> + Send>;
type Answer = (bool, Box<dyn FnOnce(Result<(), Error>) + Send>);

impl Committer {
    /// Starts the thread.
    pub fn start(ground: Ground) -> std::io::Result<Committer> {
        let (queue, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new().name("objects-commit".to_owned()).spawn(move || run(ground, jobs))?;
        Ok(Committer {
            queue: Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(QUEUE)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Applies a change and returns when it is durable. `change` gets the place of `body`, and must check all before
    /// it changes anything, because what it changed stays if it fails. Goes on if the caller goes away.
    pub async fn commit<T: Send + 'static>(
        &self,
        body: Body,
        change: impl FnOnce(&mut Writing<'_>, Option<Place>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.ask(body, change, false).await
    }

    /// As [`Committer::commit`], for what gives more room than it takes: it may take half of what is kept free.
    pub async fn commit_in_reserve<T: Send + 'static>(
        &self,
        body: Body,
        change: impl FnOnce(&mut Writing<'_>, Option<Place>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.ask(body, change, true).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        body: Body,
        change: impl FnOnce(&mut Writing<'_>, Option<Place>) -> Result<T, Error> + Send + 'static,
        in_reserve: bool,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let apply: Apply = Box::new(move |writing, place| {
            let result = match place.map(|place| change(writing, place)) {
                // The transaction cannot go on: its tables failed, and may hold a part of the change.
                Ok(Err(cause)) if cause.is_internal() => {
                    let _ = done.send(Err(if matches!(cause, Error::Full) { Error::Full } else { Error::NotWritten }));
                    return Err(cause);
                }
                Ok(result) => result,
                // There is no place for it; nothing was changed.
                Err(refused) => Err(refused),
            };
            Ok((
                result.is_ok(),
                // A caller that went away is served all the same.
                Box::new(move |fate| drop(done.send(result.and_then(|value| fate.map(|()| value))))),
            ))
        });
        let (small, file) = match body {
            Body::Empty => (Vec::new(), None),
            Body::Small(packed) => (packed.bytes, None),
            Body::Large(file) => (Vec::new(), Some(file)),
        };
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Error::Closed)?;
        let job = Job { small, file, apply, in_reserve, _room: room };
        let sent = match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(queue) => queue.send(job).map_err(|_| Error::Closed),
            None => Err(Error::Closed),
        };
        sent?;
        answer.await.unwrap_or(Err(Error::NotWritten))
    }

    /// Lets the thread end after what was asked of it, and waits for that. Blocks.
    pub fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic in it was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(mut ground: Ground, jobs: mpsc::Receiver<Job>) {
    loop {
        let first = match ground.pending.wait() {
            None => jobs.recv().ok(),
            Some(wait) => match jobs.recv_timeout(wait) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Disconnected) => None,
                Err(RecvTimeoutError::Timeout) => {
                    ground.make_durable();
                    continue;
                }
            },
        };
        let Some(first) = first else { break };
        let mut bytes = first.small.len();
        let mut batch = vec![first];
        while batch.len() < MOST_JOBS && bytes < MOST_BYTES {
            let Ok(job) = jobs.try_recv() else { break };
            bytes += job.small.len();
            batch.push(job);
        }
        ground.commit(batch);
        if ground.pending.is_due(ground.checkpoint) {
            ground.make_durable();
        }
    }
    if ground.pending.times.is_some() {
        ground.make_durable();
    }
}

impl Pending {
    /// How long a checkpoint may wait for another change; `None` if there is nothing to do.
    fn wait(&self) -> Option<Duration> {
        let (first, last) = self.times?;
        let due = (last + QUIET).min(first + LONGEST);
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn is_due(&self, most: u64) -> bool {
        self.bytes >= most || self.times.is_some_and(|(first, _)| first.elapsed() >= LONGEST)
    }

    fn changed(&mut self, bytes: u64) {
        let now = Instant::now();
        self.bytes += bytes;
        self.times = Some((self.times.map_or(now, |(first, _)| first), now));
    }
}

/// Why a batch was not committed.
enum Failure {
    /// The log could not be written; the index is well.
    Log(Error),
    Index(Error),
}

impl From<Error> for Failure {
    fn from(cause: Error) -> Failure {
        Failure::Index(cause)
    }
}

impl From<redb::CommitError> for Failure {
    fn from(cause: redb::CommitError) -> Failure {
        Failure::Index(cause.into())
    }
}

impl From<redb::StorageError> for Failure {
    fn from(cause: redb::StorageError) -> Failure {
        Failure::Index(cause.into())
    }
}

type Answers = Vec<Box<dyn FnOnce(Result<(), Error>) + Send>>;

/// What of a batch is of use, and what is not any more.
#[derive(Default)]
struct Outcome {
    /// Large files that rows name now.
    files: Vec<NewFile>,
    answers: Answers,
    freed: Vec<uuid::Uuid>,
    dead: Vec<u64>,
}

impl Ground {
    fn commit(&mut self, batch: Vec<Job>) {
        if self.index.is_failed() {
            self.reopen();
        }
        let before = self.log.end();
        let mut outcome = Outcome::default();
        let result = self.write(batch, &mut outcome);
        let durable = self.log.end().sequence != before.sequence;
        let result = match result {
            Ok(()) => Ok(()),
            Err(Failure::Log(cause)) => {
                tracing::error!(cause = ?cause, "the log of the object store cannot be written");
                Err(cause)
            }
            Err(Failure::Index(cause)) => {
                tracing::error!(cause = ?cause, "a transaction of the object store failed");
                let failed = matches!(cause, Error::Index(_) | Error::Full);
                // What is in the log is made again from it.
                match !failed || self.reopen() {
                    true if durable => Ok(()),
                    _ => Err(cause),
                }
            }
        };
        // Those of a failed transaction stay too, because it may yet be found in the log; what is of no use then is
        // removed when the store is opened next.
        outcome.files.into_iter().for_each(NewFile::keep);
        for answer in outcome.answers {
            answer(match &result {
                Ok(()) => Ok(()),
                Err(Error::Full) => Err(Error::Full),
                Err(_) => Err(Error::NotWritten),
            });
        }
        if result.is_ok() && durable {
            let name = |id: uuid::Uuid| self.large.join(id.as_simple().to_string());
            self.garbage.discard(outcome.freed.into_iter().map(|id| Dead::file(name(id))).collect());
            self.pending.segments.extend(outcome.dead);
        }
    }

    fn write(&mut self, batch: Vec<Job>, outcome: &mut Outcome) -> Result<(), Failure> {
        let free = free(&self.packed);
        self.reserve.keep(free);
        let full = |in_reserve| {
            let kept = if in_reserve { self.kept_free / 2 } else { self.kept_free };
            free.is_some_and(|free| free < kept)
        };
        let redo = Redo::default();
        let transaction = self.index.write()?;
        {
            let mut writing = Writing::new(&transaction, &self.index.clock, Some(&redo))?;
            let begun = self.log.begin().map_err(|cause| {
                tracing::error!(cause = ?cause, "a segment file cannot be begun");
                matches!(cause, Error::Full)
            });
            for Job { small, file, apply, in_reserve, .. } in batch {
                let brings_data = !small.is_empty() || file.is_some();
                let place = match begun {
                    Err(full) => Err(if full { Error::Full } else { Error::NotPlaced }),
                    Ok(()) if brings_data && full(in_reserve) => Err(Error::Full),
                    Ok(()) if small.is_empty() => Ok(file.as_ref().map(|file| Place::Large(file.id))),
                    Ok(()) => {
                        let (segment, offset) = self.log.place();
                        Ok(Some(Place::Packed { segment, offset }))
                    }
                };
                let (applied, answer) = apply(&mut writing, place)?;
                if applied {
                    outcome.files.extend(file);
                    self.log.add(&small);
                }
                outcome.answers.push(answer);
            }
            if redo.is_empty() {
                // All were refused, or asked for what is so already.
                drop(writing);
                transaction.abort()?;
                return Ok(());
            }
            writing.finish()?;
            if writing.added_large {
                segments::sync_directory(&self.large).map_err(Failure::Log)?;
            }
            outcome.freed = std::mem::take(&mut writing.freed);
            outcome.dead = std::mem::take(&mut writing.dead);
        }
        let before = self.log.end();
        self.log.append(&redo.take()).map_err(Failure::Log)?;
        let after = self.log.end();
        self.pending.changed(after.offset.saturating_sub(before.offset));
        transaction.commit()?;
        fail::fail_point!("objects.index.committed");
        Ok(())
    }

    /// Opens the index again, and brings it to the end of the log; whether that went well.
    fn reopen(&self) -> bool {
        let end = self.log.end();
        let again = self
            .index
            .reopen(|database, clock, mark| replay::replay(database, clock, &self.packed, mark, Some(end)).map(drop));
        if let Err(cause) = &again {
            tracing::error!(cause = ?cause, "the index of objects cannot be opened again");
        }
        again.is_ok()
    }

    /// Makes the index durable, and removes segment files that neither it nor a replay needs.
    fn make_durable(&mut self) {
        // If it fails it is tried again after a while.
        let now = Instant::now();
        self.pending.times = Some((now, now));
        if let Err(cause) = self.try_make_durable() {
            tracing::error!(cause = ?cause, "the index of objects could not be made durable");
            self.reopen();
            return;
        }
        self.pending.bytes = 0;
        self.pending.times = None;
    }

    fn try_make_durable(&mut self) -> Result<(), Error> {
        self.index.checkpoint(self.log.end(), self.log.next_segment())?;
        self.pending.segments.extend(self.log.take_closed());
        let used = self.index.read()?.open_table(SEGMENTS)?;
        let mut dead = Vec::new();
        let mut kept = BTreeSet::new();
        for segment in std::mem::take(&mut self.pending.segments) {
            if self.log.appends_to(segment) {
                kept.insert(segment);
            } else if redb::ReadableTable::get(&used, segment)?.is_none() {
                let path = segments::path(&self.packed, segment);
                dead.push(Dead::segment(path, segment, Arc::clone(&self.open_files)));
            }
        }
        self.pending.segments = kept;
        self.garbage.discard(dead);
        Ok(())
    }
}

/// A file that only takes room: where the disk is full it is removed, so that deletes have a place in the log.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    size: u64,
    is_there: bool,
}

impl Reserve {
    /// In the file `path`.
    pub fn new(path: PathBuf, size: u64) -> Reserve {
        let is_there = fs::metadata(&path).is_ok_and(|found| found.len() == size);
        let mut reserve = Reserve { path, size, is_there };
        let free = reserve.path.parent().and_then(free);
        reserve.keep(free);
        reserve
    }

    fn keep(&mut self, free: Option<u64>) {
        let Some(free) = free else { return };
        if self.is_there && free < self.size / 2 {
            if let Err(cause) = fs::remove_file(&self.path) {
                tracing::warn!(%cause, "the room for deletes could not be given up");
            }
            self.is_there = false;
        } else if !self.is_there && free > 8 * self.size {
            let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path);
            let length = i64::try_from(self.size).unwrap_or(0);
            let taken = made.and_then(|file| Ok(nix::fcntl::posix_fallocate(&file, 0, length)?));
            if let Err(cause) = &taken {
                tracing::warn!(%cause, "no room can be kept for deletes");
            }
            // What failed is not tried with each batch.
            self.is_there = true;
        }
    }
}

/// Whether so little room is left that it is kept for the index, which deletes need too.
pub fn nearly_full(directory: &Path, kept_free: u64) -> bool {
    free(directory).is_some_and(|free| free < kept_free)
}

/// Bytes of a directory's disk that are free; `None` if the system does not say.
fn free(directory: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(directory).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

const QUEUE: usize = 256;
const MOST_JOBS: usize = 256;
const MOST_BYTES: usize = 8 << 20;
/// A checkpoint waits until nothing was changed for so long,
const QUIET: Duration = Duration::from_secs(1);
/// but not longer than so.
const LONGEST: Duration = Duration::from_secs(10);
