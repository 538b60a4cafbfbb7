//! Group commit: one thread applies the changes of many callers, as many a transaction as are waiting.
//!
//! The order that makes an acknowledged write survive: the data of all is durable, then the index, in one
//! transaction, then each caller is answered. What fails a check changes nothing and does not disturb the others.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Error,
    garbage::Garbage,
    index::{Index, Writing},
    rows::Place,
    seal::NewFile,
    segments::{self, Segments},
};

/// The thread that writes; ends when this is dropped, after what was asked of it before.
#[derive(Debug)]
pub struct Committer {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread works on.
#[derive(Debug)]
pub struct Ground {
    pub index: Arc<Index>,
    pub garbage: Arc<Garbage>,
    pub segments: Segments,
    /// Directory of segment files.
    pub packed: PathBuf,
    /// Directory of large files.
    pub large: PathBuf,
    /// See [`nearly_full`].
    pub kept_free: u64,
}

/// A change, with the bytes that it packs.
struct Job {
    small: Vec<u8>,
    file: Option<NewFile>,
    apply: Apply,
}

/// Checks, then changes; returns what answers the caller once the transaction's fate is known.
type Apply = Box<dyn FnOnce(&mut Writing<'_>, Result<Option<Place>, Error>) -> Result<Answer, Error> + Send>;
type Answer = (bool, Box<dyn FnOnce(Result<(), Error>) + Send>);

impl Committer {
    /// Starts the thread.
    pub fn start(ground: Ground) -> std::io::Result<Committer> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("objects-commit".to_owned()).spawn(move || run(ground, jobs))?;
        Ok(Committer { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    /// Applies a change and returns when it is durable. `change` gets the place of `body`, and must check all before
    /// it changes anything, because what it changed stays if it fails. Goes on if the caller goes away.
    pub async fn commit<T: Send + 'static>(
        &self,
        body: crate::seal::Body,
        change: impl FnOnce(&mut Writing<'_>, Option<Place>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let apply: Apply = Box::new(move |writing, place| {
            let result = place.and_then(|place| change(writing, place));
            match result {
                // The transaction cannot go on: its tables failed.
                Err(cause) if cause.is_internal() && !matches!(cause, Error::Full) => {
                    let _ = done.send(Err(Error::NotWritten));
                    Err(cause)
                }
                result => Ok((
                    result.is_ok(),
                    // A caller that went away is served all the same.
                    Box::new(move |fate| drop(done.send(result.and_then(|value| fate.map(|()| value))))),
                )),
            }
        });
        let (small, file) = match body {
            crate::seal::Body::Empty => (Vec::new(), None),
            crate::seal::Body::Small(bytes) => (bytes, None),
            crate::seal::Body::Large(file) => (Vec::new(), Some(file)),
        };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or(Error::Closed)?.send(Job { small, file, apply }).await.map_err(|_| Error::Closed)?;
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

fn run(mut ground: Ground, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut bytes = first.small.len();
        let mut batch = vec![first];
        while batch.len() < MOST_JOBS && bytes < MOST_BYTES {
            let Ok(job) = jobs.try_recv() else { break };
            bytes += job.small.len();
            batch.push(job);
        }
        commit(&mut ground, batch);
    }
}

fn commit(ground: &mut Ground, batch: Vec<Job>) {
    let mut files = Vec::new();
    let mut answers = Vec::new();
    let result = write(ground, batch, &mut files, &mut answers);
    if let Err(cause) = &result {
        tracing::error!(cause = ?cause, "a transaction of the object store failed");
        if matches!(cause, Error::Index(_) | Error::Full)
            && let Err(cause) = ground.index.reopen()
        {
            tracing::error!(cause = ?cause, "the index of objects cannot be opened again");
        }
    }
    // Those of a failed transaction stay too, because it may yet be found committed; what is of no use then is removed
    // when the store is opened next.
    files.into_iter().for_each(NewFile::keep);
    for answer in answers {
        answer(match &result {
            Ok(()) => Ok(()),
            Err(Error::Full) => Err(Error::Full),
            Err(_) => Err(Error::NotWritten),
        });
    }
}

type Answers = Vec<Box<dyn FnOnce(Result<(), Error>) + Send>>;

fn write(ground: &mut Ground, batch: Vec<Job>, files: &mut Vec<NewFile>, answers: &mut Answers) -> Result<(), Error> {
    // First the data of all.
    let full = nearly_full(&ground.packed, ground.kept_free);
    let mut placed = Vec::with_capacity(batch.len());
    for job in batch {
        let brings_data = !job.small.is_empty() || job.file.is_some();
        let place = if brings_data && full {
            Err(Error::Full)
        } else if job.small.is_empty() {
            Ok(job.file.as_ref().map(|file| Place::Large(file.id)))
        } else {
            ground.segments.append(&job.small).map(|(segment, offset)| Some(Place::Packed { segment, offset }))
        };
        placed.push((place, job.file, job.apply));
    }
    if let Err(cause) = ground.segments.sync() {
        // Only those that packed data are hurt.
        tracing::error!(cause = ?cause, "a segment file cannot be made durable");
        for (place, ..) in &mut placed {
            if matches!(place, Ok(Some(Place::Packed { .. }))) {
                *place = Err(Error::NotPlaced);
            }
        }
    }
    fail::fail_point!("objects.data.synced");

    // Then the index.
    let transaction = ground.index.write()?;
    let (freed, dead) = {
        let mut writing = Writing::new(&transaction, &ground.index.clock)?;
        for (place, file, apply) in placed {
            // A place that could not be had is a fault of this change, not of the transaction.
            let place = place.map_err(|cause| {
                if matches!(cause, Error::Full) {
                    return cause;
                }
                tracing::error!(cause = ?cause, "the data of an object was not written");
                Error::NotPlaced
            });
            let (applied, answer) = apply(&mut writing, place)?;
            if applied {
                files.extend(file);
            }
            answers.push(answer);
        }
        writing.keep_time()?;
        if writing.added_large {
            segments::sync_directory(&ground.large)?;
        }
        (writing.freed, writing.dead)
    };
    transaction.commit()?;
    fail::fail_point!("objects.index.committed");

    // Then what is of no use any more.
    let mut garbage: Vec<PathBuf> = freed.into_iter().map(|id| ground.large.join(id.as_simple().to_string())).collect();
    for segment in dead {
        if ground.segments.retire(segment) {
            garbage.push(segments::path(&ground.packed, segment));
        }
    }
    ground.garbage.discard(garbage);
    Ok(())
}

/// Whether so little room is left that it is kept for the index, which deletes need too.
pub fn nearly_full(directory: &std::path::Path, kept_free: u64) -> bool {
    nix::sys::statvfs::statvfs(directory)
        .is_ok_and(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()) < kept_free)
}

const QUEUE: usize = 256;
const MOST_JOBS: usize = 256;
const MOST_BYTES: usize = 8 << 20;
