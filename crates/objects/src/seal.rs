//! Takes a stream of bytes, digests and seals it into one piece, in bounded memory: what is small stays in memory, to
//! be packed with others by the committer; what is not goes to a file of its own as it comes.

use std::{
    fs::{self, File, OpenOptions},
    io::{IoSlice, Write},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use crypto::segment::{self, Cipher, SEGMENT, TAG};
use futures::{Stream, StreamExt as _};
use keys::DataKey;
use model::ProjectId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::{
    Error,
    committer::nearly_full,
    digests::{Digested, Digests},
    error::at,
    faults::{self, fault},
    rows::Algorithm,
    store::{Inner, PURPOSE, Store},
};

/// Bytes that data of `length` bytes takes on disk.
pub fn sealed_length(length: u64) -> u64 {
    segment::sealed_length(length)
}

/// Data that is sealed, and not yet in the index.
#[derive(Debug)]
pub struct Sealed {
    /// Bytes before they were sealed.
    pub length: u64,
    /// The data key, wrapped.
    pub key: Vec<u8>,
    /// Where they are.
    pub body: Body,
}

/// Where sealed data waits for its row.
#[derive(Debug)]
pub enum Body {
    /// There is none.
    Empty,
    /// In memory, to be packed.
    Small(Packed),
    /// In a file, durable but for its name in the directory.
    Large(NewFile),
}

/// Sealed bytes in memory.
#[derive(Debug)]
pub struct Packed {
    pub bytes: Vec<u8>,
    /// The right to be there, if they are many.
    _room: Option<OwnedSemaphorePermit>,
}

impl Packed {
    /// Sealed bytes that are few.
    pub fn few(bytes: Vec<u8>) -> Packed {
        Packed { bytes, _room: None }
    }
}

/// A large file that no row names yet: removed when dropped, unless it is kept.
#[derive(Debug)]
pub struct NewFile {
    /// Which; its name is this id.
    pub id: Uuid,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// A row names it now, or may.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(cause) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %cause, "an abandoned file was not removed");
        }
    }
}

impl Store {
    /// Reads a stream to its end, digests and seals it. Uses memory for a few batches, however long the stream is.
    pub(crate) async fn seal<S>(
        &self,
        project: &ProjectId,
        stream: S,
        algorithm: Option<Algorithm>,
        most: u64,
    ) -> Result<(Sealed, Digested), Error>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send,
    {
        let mut intake = Intake::Begun { project: project.clone(), algorithm };
        let mut total = 0;
        let mut batch = Vec::new();
        let mut stream = std::pin::pin!(stream);
        while let Some(bytes) = stream.next().await.transpose()? {
            total += bytes.len() as u64;
            if total > most {
                return Err(Error::TooLarge { most });
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                // A full batch waits here until it is known not to be the last.
                if batch.len() == BATCH {
                    (intake, batch) = intake.step(self, batch).await?;
                }
                if batch.is_empty() {
                    // So much as is sure to come, and the tag behind it.
                    batch.reserve(rest.len().min(BATCH) + TAG);
                }
                let (taken, left) = rest.split_at(rest.len().min(BATCH - batch.len()));
                batch.extend_from_slice(taken);
                rest = left;
            }
        }
        let finish = |mut work: Work, batch: Vec<u8>| {
            work.digests.update(&batch);
            Ok((work.sealer.finish(batch)?, work.digests.finish()))
        };
        match intake {
            Intake::Begun { project, algorithm } => {
                let whole = move |inner: &Inner| finish(Work::new(inner, &project, algorithm)?, batch);
                // Short work is done where it is.
                if total <= SEGMENT as u64 { self.glance(whole).await } else { self.block(whole).await }
            }
            Intake::Running { digesting, sealing } => {
                let (digests, digested) = joined(digesting).await?;
                let (sealer, _) = sealing.wait().await?;
                let digesting = self.digest(digests, batch);
                let sealing = self.seal_batch(sealer, digested);
                let ((digests, last), (sealer, _)) = (joined(digesting).await?, joined(sealing).await?);
                self.block(move |_| Ok((sealer.finish(last)?, digests.finish()))).await
            }
        }
    }

    /// Digests a batch on a thread that may block.
    fn digest(&self, mut digests: Digests, batch: Vec<u8>) -> Stage<Digests> {
        self.stage(move |_| {
            digests.update(&batch);
            Ok((digests, batch))
        })
    }

    /// Seals a batch that is not the last, on a thread that may block; returns its memory, empty.
    fn seal_batch(&self, mut sealer: Sealer, mut batch: Vec<u8>) -> Stage<Sealer> {
        self.stage(move |inner| {
            if nearly_full(&inner.large, inner.kept_free) {
                return Err(Error::Full);
            }
            sealer.seal(&mut batch, false)?;
            batch.clear();
            Ok((sealer, batch))
        })
    }

    fn stage<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<(T, Vec<u8>), Error> + Send + 'static,
    ) -> Stage<T> {
        let store = self.clone();
        tokio::spawn(async move { store.block(work).await })
    }
}

/// Work on a batch: gives back who did it, and the batch.
type Stage<T> = JoinHandle<Result<(T, Vec<u8>), Error>>;

async fn joined<T>(stage: Stage<T>) -> Result<(T, Vec<u8>), Error> {
    stage.await.map_err(|_| Error::NotWritten)?
}

/// How far a stream was taken in.
enum Intake {
    /// Nothing of it was digested.
    Begun { project: ProjectId, algorithm: Option<Algorithm> },
    /// One batch is digested while the one before it is sealed, and the next one comes: digesting takes the longest,
    /// and waits for nothing.
    Running { digesting: Stage<Digests>, sealing: Sealing },
}

/// How far the batch before was sealed.
enum Sealing {
    /// There is none.
    Idle(Sealer),
    /// It is at work.
    Busy(Stage<Sealer>),
}

impl Intake {
    /// Moves all on by one batch, which is not the last; returns memory for the one after.
    async fn step(self, store: &Store, batch: Vec<u8>) -> Result<(Intake, Vec<u8>), Error> {
        match self {
            Intake::Begun { project, algorithm } => {
                let Work { sealer, digests } = store.glance(move |inner| Work::new(inner, &project, algorithm)).await?;
                let digesting = store.digest(digests, batch);
                Ok((Intake::Running { digesting, sealing: Sealing::Idle(sealer) }, Vec::new()))
            }
            Intake::Running { digesting, sealing } => {
                let (digests, digested) = joined(digesting).await?;
                let digesting = store.digest(digests, batch);
                let (sealer, empty) = sealing.wait().await?;
                let sealing = Sealing::Busy(store.seal_batch(sealer, digested));
                Ok((Intake::Running { digesting, sealing }, empty))
            }
        }
    }
}

impl Sealing {
    /// Waits for the batch that is sealed; returns its memory.
    async fn wait(self) -> Result<(Sealer, Vec<u8>), Error> {
        match self {
            Sealing::Idle(sealer) => Ok((sealer, Vec::new())),
            Sealing::Busy(stage) => joined(stage).await,
        }
    }
}

/// What is done with a stream.
struct Work {
    sealer: Sealer,
    digests: Digests,
}

impl Work {
    fn new(inner: &Inner, project: &ProjectId, algorithm: Option<Algorithm>) -> Result<Work, Error> {
        let key = inner.keys.data_key(project, PURPOSE)?;
        let sealer = Sealer::new(&inner.large, key, Arc::clone(&inner.memory))?;
        Ok(Work { sealer, digests: Digests::new(algorithm) })
    }
}

/// Seals batches, and writes them out once they are many.
struct Sealer {
    directory: PathBuf,
    cipher: Cipher,
    wrapped: Vec<u8>,
    number: u64,
    length: u64,
    out: Vec<u8>,
    memory: Arc<Semaphore>,
    room: Option<OwnedSemaphorePermit>,
    file: Option<Written>,
}

struct Written {
    file: File,
    name: NewFile,
    /// Bytes that were written, and how many of them the disk was told of.
    end: u64,
    told: u64,
}

impl Sealer {
    /// Under a key of this data alone; large files go to `directory`.
    fn new(directory: &Path, key: DataKey, memory: Arc<Semaphore>) -> Result<Sealer, Error> {
        Ok(Sealer {
            directory: directory.to_owned(),
            cipher: Cipher::new(&key.key)?,
            wrapped: key.wrapped,
            number: 0,
            length: 0,
            out: Vec::new(),
            memory,
            room: None,
            file: None,
        })
    }

    /// Seals the last batch, which may be of any length; a file is durable when this returns.
    fn finish(mut self, mut batch: Vec<u8>) -> Result<Sealed, Error> {
        if self.length == 0 && batch.is_empty() {
            return Ok(Sealed { length: 0, key: self.wrapped, body: Body::Empty });
        }
        if self.length == 0 && batch.len() <= SEGMENT {
            // As most are: sealed where it stands.
            let length = batch.len() as u64;
            self.cipher.seal(0, true, &mut batch)?;
            return Ok(Sealed { length, key: self.wrapped, body: Body::Small(Packed::few(batch)) });
        }
        self.seal(&mut batch, true)?;
        let body = match self.file {
            None => Body::Small(Packed { bytes: self.out, _room: self.room }),
            Some(Written { file, name, .. }) => {
                fault(faults::SYNC_LARGE).and_then(|()| file.sync_data()).map_err(at(&name.path))?;
                fail::fail_point!("objects.large.synced");
                Body::Large(name)
            }
        };
        Ok(Sealed { length: self.length, key: self.wrapped, body })
    }

    /// Seals a batch in place, segment by segment, and keeps or writes it. Each but the last is of whole segments.
    fn seal(&mut self, batch: &mut [u8], last: bool) -> Result<(), Error> {
        self.length += batch.len() as u64;
        let segments = batch.len().div_ceil(SEGMENT);
        let mut tags = Vec::with_capacity(segments);
        for (at, segment) in batch.chunks_mut(SEGMENT).enumerate() {
            tags.push(self.cipher.seal_apart(self.number, last && at + 1 == segments, segment)?);
            self.number += 1;
        }
        let pairs = batch.chunks(SEGMENT).zip(&tags);
        if self.file.is_none() && (self.length <= SMALL || self.may_stay()) {
            for (segment, tag) in pairs {
                self.out.extend_from_slice(segment);
                self.out.extend_from_slice(tag);
            }
            return Ok(());
        }
        let kept = std::mem::take(&mut self.out);
        self.room = None;
        let mut parts = Vec::with_capacity(1 + 2 * segments);
        parts.push(IoSlice::new(&kept));
        for (segment, tag) in pairs {
            parts.extend([IoSlice::new(segment), IoSlice::new(tag)]);
        }
        let written = match &mut self.file {
            Some(written) => written,
            none => none.insert(create(&self.directory)?),
        };
        written.write(&mut parts)
    }

    /// Whether data that is not small may stay in memory: where few do, to pack it costs less than a file.
    fn may_stay(&mut self) -> bool {
        if self.length > MEDIUM {
            return false;
        }
        if self.room.is_none() {
            self.room = Arc::clone(&self.memory).try_acquire_owned().ok();
        }
        self.room.is_some()
    }
}

impl Written {
    fn write(&mut self, mut parts: &mut [IoSlice<'_>]) -> Result<(), Error> {
        fault(faults::WRITE_LARGE).map_err(at(&self.name.path))?;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let count = match self.file.write_vectored(parts) {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result,
            }
            .map_err(at(&self.name.path))?;
            self.end += count as u64;
            IoSlice::advance_slices(&mut parts, count);
        }
        if self.end - self.told >= TOLD {
            self.tell();
        }
        Ok(())
    }

    /// Lets the disk begin with what was written, so that the sync at the end has less to wait for.
    fn tell(&mut self) {
        let (Ok(from), Ok(length)) = (i64::try_from(self.told), i64::try_from(self.end - self.told)) else { return };
        // SAFETY: the call takes numbers and a descriptor, which is open; it touches no memory of ours.
        let told = unsafe {
            let begin = nix::libc::SYNC_FILE_RANGE_WRITE;
            nix::libc::sync_file_range(self.file.as_raw_fd(), from, length, begin)
        };
        // It is a hint: what goes wrong is found by the sync.
        let _ = told;
        self.told = self.end;
    }
}

fn create(directory: &Path) -> Result<Written, Error> {
    let id = Uuid::now_v7();
    let path = directory.join(id.as_simple().to_string());
    let file = fault(faults::CREATE_LARGE)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
        .map_err(at(&path))?;
    Ok(Written { file, name: NewFile { id, path, kept: false }, end: 0, told: 0 })
}

/// The most bytes of data that is always packed with others into a segment file,
pub const SMALL: u64 = 4 * SEGMENT as u64;
/// and of data that is where there is room in memory.
pub const MEDIUM: u64 = 16 * SEGMENT as u64;
/// How many bytes are sealed and written at once.
const BATCH: usize = 4 * SEGMENT;
/// After so many bytes the disk is told to begin.
const TOLD: u64 = 8 << 20;
