//! Writes the log of an attempt.

use std::{
    collections::HashSet,
    fs::File,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crypto::{Key, segment::Cipher};
use model::{LogId, LogStream, NodeName};

use super::{
    Error, Reader,
    frame::{self, FRAME_HEADER, HEADER, INNER_HEADER, Inner, MAX_PAYLOAD, Outer},
    sync::Syncer,
};

/// The one writer of an attempt's log. What it was given is durable within a tenth of a second, and after
/// [`Writer::flush`].
pub struct Writer {
    dir: PathBuf,
    key: Key,
    clock: Box<dyn Fn() -> u64 + Send>,
    segment: Option<Segment>,
    /// Id of the last line.
    last: LogId,
    /// The second of the newest ids, and how much has ids of it.
    second: u64,
    in_second: u64,
    /// Nodes whose last frame was left without a line feed, with the stream that did so.
    unfinished: HashSet<(u32, bool)>,
    frame: Vec<u8>,
    sync: Syncer,
}

struct Segment {
    name: String,
    file: Arc<File>,
    cipher: Cipher,
    frames: u64,
    length: u64,
}

/// What became of lines that were given to a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Id of the first of them.
    pub first: LogId,
    /// Id of the last of them.
    pub last: LogId,
    /// How many bytes they add to the node's log where it is put together: see [`Reader::raw`].
    pub bytes: u64,
}

impl Writer {
    /// A writer of the log in `dir`, sealed with `key`. `clock` tells Unix nanoseconds; it may stand still or go back.
    /// A log that is there is gone on with, in a new segment.
    pub fn create(dir: &Path, key: &Key, clock: impl Fn() -> u64 + Send + 'static) -> Result<Writer, Error> {
        Ok(Writer {
            dir: dir.to_owned(),
            key: key.clone(),
            clock: Box::new(clock),
            segment: None,
            last: Reader::open(dir, key).last()?.unwrap_or(LogId(0)),
            second: 0,
            in_second: 0,
            unfinished: HashSet::new(),
            frame: Vec::new(),
            sync: Syncer::start(dir)?,
        })
    }

    /// Writes lines of one stream of a node, with their line feeds; only the last may lack one. Lines of the platform
    /// are the driver's, whatever `node` is. At most
    /// [`Writer::MOST`] bytes. Waits where the disk does not keep up. On an error nothing of it is in the log, and the
    /// same lines may be given again.
    pub fn append(&mut self, node: &NodeName, stream: LogStream, lines: &[u8]) -> Result<Written, Error> {
        let count = frame::count(lines);
        if count == 0 || lines.len() > Writer::MOST {
            let cause = std::io::ErrorKind::InvalidInput.into();
            return Err(Error::File { doing: "append to", file: "the log".into(), cause });
        }
        let first = self.next_id(lines.len() as u64 + count * BESIDE_A_LINE);
        let last = LogId(first.0.saturating_add(count - 1));
        let platform = stream == LogStream::Platform;
        let number = if platform { frame::PLATFORM } else { frame::number_of(node) };
        let breaks = !platform && self.unfinished.contains(&(number, stream != LogStream::Stderr));
        let written = Written { first, last, bytes: lines.len() as u64 + u64::from(breaks) };
        // On an error too: an id that may be on the disk is not given again.
        self.last = last;
        self.write(Inner { first, node: number, stream, breaks }, last, lines)?;
        if !platform {
            self.unfinished.remove(&(number, true));
            self.unfinished.remove(&(number, false));
            if lines.last() != Some(&b'\n') {
                self.unfinished.insert((number, stream == LogStream::Stderr));
            }
        }
        Ok(written)
    }

    /// Returns once all that was appended is durable, or says why it may not be.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.sync.flush()
    }

    /// Bytes that one call of [`Writer::append`] takes.
    pub const MOST: usize = MAX_PAYLOAD;

    /// The id of the first of some lines: the time, or a later one where that id is given or its second is full.
    fn next_id(&mut self, size: u64) -> LogId {
        let mut id = (self.clock)().max(self.last.0.saturating_add(1));
        if id / SECOND == self.second && self.in_second >= MOST_OF_A_SECOND {
            id = (self.second + 1).saturating_mul(SECOND);
        }
        if id / SECOND != self.second {
            (self.second, self.in_second) = (id / SECOND, 0);
        }
        self.in_second = self.in_second.saturating_add(size);
        LogId(id)
    }

    fn write(&mut self, inner: Inner, last: LogId, lines: &[u8]) -> Result<(), Error> {
        let mut segment = match self.segment.take().filter(|segment| segment.length < SEGMENT_LENGTH) {
            Some(segment) => segment,
            None => self.new_segment(inner.first)?,
        };
        let mut sealed = std::mem::take(&mut self.frame);
        sealed.clear();
        sealed.extend_from_slice(&inner.write());
        sealed.extend_from_slice(lines);
        segment.cipher.seal(segment.frames, false, &mut sealed)?;
        let outer = Outer { sealed: sealed.len(), last, node: inner.node };
        // One write: a reader sees all of a frame, or knows by its length that the rest is to come.
        sealed.splice(..0, outer.write());
        if let Err(cause) = segment.file.write_all_at(&sealed, segment.length) {
            // Whatever is on the disk of it now, its nonce is spent: the segment gets no more frames, and what
            // comes is sealed with another key.
            let _ = match segment.frames {
                0 => std::fs::remove_file(self.dir.join(&segment.name)),
                _ => segment.file.set_len(segment.length),
            };
            return Err(Error::File { doing: "write", file: segment.name, cause });
        }
        segment.frames += 1;
        segment.length += sealed.len() as u64;
        self.sync.written(&segment.file, sealed.len());
        self.frame = sealed;
        self.segment = Some(segment);
        Ok(())
    }

    fn new_segment(&self, first: LogId) -> Result<Segment, Error> {
        let name = frame::name(first);
        let header = frame::new_header()?;
        let cipher = frame::cipher(&self.key, &header, first).ok_or(crypto::Error::Malformed)??;
        let fault = |doing| {
            let file = name.clone();
            move |cause| Error::File { doing, file, cause }
        };
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(self.dir.join(&name))
            .map_err(fault("create"))?;
        if let Err(cause) = file.write_all_at(&header, 0) {
            let _ = std::fs::remove_file(self.dir.join(&name));
            return Err(fault("write")(cause));
        }
        Ok(Segment { name, file: Arc::new(file), cipher, frames: 0, length: HEADER as u64 })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("dir", &self.dir).field("last", &self.last).finish_non_exhaustive()
    }
}

const _: () = assert!(INNER_HEADER + FRAME_HEADER < 64);
/// A segment that has this length gets no more frames.
const SEGMENT_LENGTH: u64 = 8 * 1024 * 1024;
const SECOND: u64 = 1_000_000_000;
/// The old client asks for the log from a whole second on, so that all of a second has to fit into one answer. Where
/// more is written, ids run ahead of the time.
const MOST_OF_A_SECOND: u64 = 6 * 1024 * 1024;
/// What a line is in an answer beside its text.
const BESIDE_A_LINE: u64 = 64;
