//! Reads stored data: only the sealed segments that a range touches, a few at a time.

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use crypto::segment::{self, Cipher, SEGMENT, TAG};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use keys::Keys;
use model::ProjectId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

use crate::{
    Error,
    error::at,
    garbage::Pin,
    rows::{Piece, Place},
    segments::OpenFiles,
    store::{Glances, PURPOSE},
};

/// Bytes to read of one piece.
#[derive(Debug)]
pub struct Span {
    pub piece: Piece,
    pub bytes: Range<u64>,
}

/// Bytes of an object, read in order.
pub struct Source {
    /// What comes from elsewhere, in the place of all that follows.
    there: Option<BoxStream<'static, Result<Bytes, Error>>>,
    spans: VecDeque<Span>,
    open: Option<(Arc<File>, Cipher)>,
    /// What is read and opened, and was not taken.
    ready: VecDeque<Bytes>,
    place: Ground,
    /// Counts it among those that read.
    _one: Option<Reader>,
}

/// What a source needs to know of the store; the pin keeps the files where they are.
pub struct Ground {
    pub project: ProjectId,
    pub keys: Arc<Keys>,
    pub shelf: Arc<Shelf>,
    pub _pin: Pin,
}

/// What readers share: open files, memory, and the right to read ahead.
#[derive(Debug)]
pub struct Shelf {
    large: PathBuf,
    files: Arc<OpenFiles>,
    glances: Arc<Glances>,
    ahead: Arc<Semaphore>,
    /// How many there are.
    readers: AtomicUsize,
    /// Memory of reads that ended, for those to come.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Shelf {
    /// Of the files of a store.
    pub fn new(large: PathBuf, files: Arc<OpenFiles>, glances: Arc<Glances>) -> Shelf {
        let ahead = Arc::new(Semaphore::new(MOST_AHEAD));
        Shelf { large, files, glances, ahead, readers: AtomicUsize::new(0), buffers: Mutex::default() }
    }

    /// Segments that are read at once: few if very many read, so that the memory that slow ones hold is bounded.
    fn at_once(&self) -> u64 {
        if self.readers.load(Ordering::Relaxed) > MANY_READERS { 1 } else { AT_ONCE }
    }

    fn buffer(self: &Arc<Shelf>, size: usize) -> Buffer {
        let kept = match size > SMALL_READ {
            true => self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop(),
            false => None,
        };
        let mut bytes = kept.unwrap_or_default();
        bytes.resize(size, 0);
        Buffer { bytes, shelf: Arc::clone(self) }
    }
}

struct Reader(Arc<Shelf>);

impl Reader {
    fn new(shelf: &Arc<Shelf>) -> Reader {
        shelf.readers.fetch_add(1, Ordering::Relaxed);
        Reader(Arc::clone(shelf))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory that goes back to the shelf once nobody needs what is in it.
struct Buffer {
    bytes: Vec<u8>,
    shelf: Arc<Shelf>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() > SMALL_READ {
            let mut buffers = self.shelf.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            if buffers.len() < MOST_BUFFERS {
                buffers.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

impl Source {
    /// The bytes of `spans`, one after another.
    pub fn new(spans: Vec<Span>, place: Ground) -> Source {
        let spans = spans.into_iter().filter(|span| !span.bytes.is_empty()).collect();
        Source { there: None, spans, open: None, ready: VecDeque::new(), place, _one: None }
    }

    /// Bytes that come from elsewhere.
    pub fn of_elsewhere(bytes: BoxStream<'static, Result<Bytes, Error>>, place: Ground) -> Source {
        Source { there: Some(bytes), ..Source::new(Vec::new(), place) }
    }

    /// Whether it is read in one go of little work.
    fn is_short(&self) -> bool {
        match self.spans.front() {
            None => true,
            Some(span) => self.spans.len() == 1 && span.bytes.end - span.bytes.start <= SMALL_READ as u64,
        }
    }

    /// Reads and opens the next segments.
    fn fill(&mut self) -> Result<(), Error> {
        let Some(span) = self.spans.front_mut() else { return Ok(()) };
        let shelf = &self.place.shelf;
        let (name, base) = match span.piece.place {
            Place::Large(id) => (id.as_simple().to_string(), 0),
            Place::Packed { segment, offset } => (format!("{segment:016x}"), offset),
        };
        let damaged = || Error::Damaged { what: format!("{name} at {base}") };
        let wrong = |cause: std::io::Error| match cause.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof => damaged(),
            _ => at(&PathBuf::from(&name))(cause),
        };
        let (file, cipher) = match &mut self.open {
            Some(open) => open,
            None => {
                let file = match span.piece.place {
                    Place::Large(_) => File::open(shelf.large.join(&name)).map(Arc::new),
                    Place::Packed { segment, .. } => shelf.files.get(segment),
                };
                let key = self.place.keys.unwrap(&self.place.project, PURPOSE, &span.piece.key)?;
                self.open.insert((file.map_err(wrong)?, Cipher::new(&key)?))
            }
        };
        let (length, count) = (span.piece.length, segment::count(span.piece.length));
        let first = span.bytes.start / SEGMENT as u64;
        let after = (span.bytes.end.div_ceil(SEGMENT as u64)).min(first + shelf.at_once());
        let sealed_end = if after == count { segment::sealed_length(length) } else { segment::sealed_offset(after) };
        let sealed_start = segment::sealed_offset(first);
        let size = usize::try_from(sealed_end.saturating_sub(sealed_start)).map_err(|_| damaged())?;
        let mut buffer = shelf.buffer(size);
        file.read_exact_at(&mut buffer.bytes, base + sealed_start).map_err(wrong)?;
        let mut opened = Vec::new();
        for (number, sealed) in (first..after).zip(buffer.bytes.chunks_mut(SEGMENT + TAG)) {
            opened.push(cipher.open(number, number + 1 == count, sealed).map_err(|_| damaged())?.len());
        }
        // Each is taken from where it was opened: the bytes are not copied again.
        let bytes = Bytes::from_owner(buffer);
        let mut start = first * SEGMENT as u64;
        for (number, length) in opened.into_iter().enumerate() {
            let at = number * (SEGMENT + TAG);
            let from = usize::try_from(span.bytes.start.saturating_sub(start)).map_err(|_| damaged())?.min(length);
            let to = usize::try_from(span.bytes.end.saturating_sub(start)).map_err(|_| damaged())?.min(length);
            if from < to {
                self.ready.push_back(bytes.slice(at + from..at + to));
            }
            start += length as u64;
        }
        let read: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
        let end = span.bytes.end.min(after * SEGMENT as u64);
        if read != end - span.bytes.start {
            self.ready.clear();
            return Err(damaged());
        }
        span.bytes.start = end;
        if span.bytes.is_empty() {
            self.open = None;
            self.spans.pop_front();
        }
        Ok(())
    }

    /// As a stream whose first bytes are read already, so that what cannot be read at all is an error before any
    /// answer is given.
    pub async fn stream(mut self) -> Result<Reading, Error> {
        if let Some(bytes) = self.there {
            return Ok(Reading(Mutex::new(bytes)));
        }
        let glances = Arc::clone(&self.place.shelf.glances);
        if self.is_short() && glances.are_quick() {
            let begun = Instant::now();
            self.fill()?;
            glances.took(begun.elapsed());
            return Ok(Reading(Mutex::new(futures::stream::iter(self.ready.into_iter().map(Ok)).boxed())));
        }
        self._one = Some(Reader::new(&self.place.shelf));
        let (source, filled) = read_on(self).await?;
        filled?;
        let rest = futures::stream::try_unfold(Step::Filled(source), |step| async move {
            let mut source = match step {
                Step::Filled(source) => source,
                Step::Running(running, _permit) => {
                    let (source, filled) = running.await.map_err(|_| Error::Closed)?;
                    filled?;
                    source
                }
                Step::Waiting(source) => {
                    let (source, filled) = read_on(source).await?;
                    filled?;
                    source
                }
            };
            let ready = std::mem::take(&mut source.ready);
            if ready.is_empty() {
                return Ok::<_, Error>(None);
            }
            let step = match Arc::clone(&source.place.shelf.ahead).try_acquire_owned() {
                _ if source.spans.is_empty() => Step::Filled(source),
                Ok(permit) => Step::Running(tokio::task::spawn_blocking(move || fill(source)), permit),
                Err(_) => Step::Waiting(source),
            };
            Ok(Some((futures::stream::iter(ready.into_iter().map(Ok)), step)))
        });
        Ok(Reading(Mutex::new(rest.try_flatten().boxed())))
    }
}

/// A source between two takes.
enum Step {
    /// It was read from.
    Filled(Source),
    /// It is read from while what was read before is sent.
    Running(JoinHandle<(Source, Result<(), Error>)>, OwnedSemaphorePermit),
    /// It is read from once more is wanted.
    Waiting(Source),
}

fn fill(mut source: Source) -> (Source, Result<(), Error>) {
    let filled = source.fill();
    (source, filled)
}

async fn read_on(source: Source) -> Result<(Source, Result<(), Error>), Error> {
    tokio::task::spawn_blocking(move || fill(source)).await.map_err(|_| Error::Closed)
}

/// Bytes of an object as a stream; what is damaged ends it with an error.
pub struct Reading(Mutex<BoxStream<'static, Result<Bytes, Error>>>);

impl Stream for Reading {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The mutex is never locked: it makes the stream `Sync`, which `s3s` asks for.
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}

/// Segments that are read at once.
const AT_ONCE: u64 = 4;
/// Bytes that are read where they are asked for.
const SMALL_READ: usize = SEGMENT;
/// Reads that may be done ahead at once.
const MOST_AHEAD: usize = 32;
/// Above so many readers each reads less at once.
const MANY_READERS: usize = 64;
/// The most buffers that wait for a reader.
const MOST_BUFFERS: usize = 16;
