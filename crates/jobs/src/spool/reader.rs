//! Reads the log of an attempt, whether its writer lives or not.

use std::{
    fs::{self, File},
    io::{BufReader, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crypto::{Key, segment::Cipher};
use jiff::Timestamp;
use model::{LogId, LogLine, NodeName};

use super::{
    Error, Part, Parts,
    frame::{self, FRAME_HEADER, HEADER, INNER_HEADER, Inner, Outer, PLATFORM},
};

/// Which lines to read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Lines with this id or a later one.
    pub from: Option<LogId>,
    /// Lines with a later id than this one.
    pub after: Option<LogId>,
    /// Lines of this node only; lines of the platform count as the driver's.
    pub node: Option<NodeName>,
    /// At most so many lines.
    pub max_lines: usize,
    /// At most so many bytes of content; one line is given even if it is longer.
    pub max_bytes: usize,
    /// The newest lines, as many as that and `max_bytes` allow, whatever `from` and `after` say; found from the end on.
    pub newest: bool,
}

impl Query {
    /// All lines.
    pub fn everything() -> Query {
        Query { max_lines: usize::MAX, max_bytes: usize::MAX, ..Query::default() }
    }
}

/// Whether a frame of the node `number` has lines of the node that is asked for.
fn is_of(node: Option<u32>, number: u32) -> bool {
    node.is_none_or(|node| node == number || (node == 0 && number == PLATFORM))
}

/// The log of one attempt.
#[derive(Debug, Clone)]
pub struct Reader {
    dir: PathBuf,
    key: Key,
}

impl Reader {
    /// The log in `dir`, sealed with `key`. A directory that does not exist has an empty log.
    pub fn open(dir: &Path, key: &Key) -> Reader {
        Reader { dir: dir.to_owned(), key: key.clone() }
    }

    /// The lines that `query` asks for, by id. What is being written at this moment may not be there yet; a reader
    /// goes on with `after` set to the last id that it got.
    pub fn read(&self, query: &Query) -> Result<Vec<LogLine>, Error> {
        if query.newest {
            return self.newest(query);
        }
        let after = query.after.map_or(0, |id| id.0.saturating_add(1));
        let wanted = LogId(query.from.map_or(0, |id| id.0).max(after));
        let node = query.node.as_ref().map(frame::number_of);
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        let mut frames = Frames::of(self, wanted)?;
        while let Some(opened) = frames.next(|outer| outer.last >= wanted && is_of(node, outer.node))? {
            let Inner { first, node, stream, .. } = opened.inner;
            for (id, line) in (first.0..).zip(frame::lines(opened.payload())).skip_while(|(id, _)| *id < wanted.0) {
                let full = found.len() >= query.max_lines || bytes.saturating_add(line.len()) > query.max_bytes;
                if full && (!found.is_empty() || query.max_lines == 0) {
                    return Ok(found);
                }
                bytes += line.len();
                let content = String::from_utf8_lossy(line).into_owned();
                found.push(LogLine { id: LogId(id), node: frame::node_of(node), stream, content });
            }
        }
        Ok(found)
    }

    /// Frames are opened from ever further before the end, until there are enough lines.
    fn newest(&self, query: &Query) -> Result<Vec<LogLine>, Error> {
        let mut earlier = self.segments()?;
        let (mut ends, mut frames) = (Vec::new(), FRAMES_FROM_THE_END);
        loop {
            while ends.len() <= frames
                && let Some(first) = earlier.pop()
            {
                let mut of_segment = self.ends(first, query.node.as_ref())?;
                of_segment.append(&mut ends);
                ends = of_segment;
            }
            let before = ends.len().checked_sub(frames + 1).map(|at| ends[at]);
            let all = Query { after: before, node: query.node.clone(), ..Query::everything() };
            let mut found = self.read(&all)?;
            let (mut lines, mut bytes) = (0, 0_usize);
            for line in found.iter().rev() {
                bytes = bytes.saturating_add(line.content.len());
                if lines >= query.max_lines || (bytes > query.max_bytes && lines > 0) {
                    break;
                }
                lines += 1;
            }
            if lines < found.len() || lines == query.max_lines || before.is_none() {
                return Ok(found.split_off(found.len() - lines));
            }
            frames *= 4;
        }
    }

    /// The last lines of the frames of a segment, oldest first, as far as that can be seen unopened.
    fn ends(&self, first: LogId, node: Option<&NodeName>) -> Result<Vec<LogId>, Error> {
        let node = node.map(frame::number_of);
        let mut frames = Frames { reader: self.clone(), rest: vec![first], segment: None };
        let mut ends = Vec::new();
        let look = |outer: &Outer| {
            if is_of(node, outer.node) {
                ends.push(outer.last);
            }
            false
        };
        frames.next(look)?;
        Ok(ends)
    }

    /// What a node wrote from line `first` to line `last`, byte by byte as it came: its two streams put together,
    /// nothing of the platform's.
    pub fn raw(&self, node: &NodeName, first: LogId, last: LogId) -> Result<Raw, Error> {
        Ok(Raw { frames: Frames::of(self, first)?, node: frame::number_of(node), first, last })
    }

    /// The parts that the nodes' logs are uploaded in, as their writer cut them: none is left open.
    pub fn parts(&self) -> Result<Vec<Part>, Error> {
        let (mut parts, mut whole) = (Parts::default(), Vec::new());
        let mut frames = Frames::of(self, LogId(0))?;
        while let Some(opened) = frames.next(|outer| outer.node != PLATFORM)? {
            let Inner { first, node, breaks, .. } = opened.inner;
            let last = LogId(first.0.saturating_add(frame::count(opened.payload())).saturating_sub(1));
            let bytes = opened.payload().len() as u64 + u64::from(breaks);
            whole.extend(parts.add(Part { node: frame::node_of(node), first, last, bytes }));
        }
        whole.extend(parts.rest());
        Ok(whole)
    }

    /// All lines of the platform, each with its time before it.
    pub fn platform(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let mut frames = Frames::of(self, LogId(0))?;
        while let Some(opened) = frames.next(|outer| outer.node == PLATFORM)? {
            for (id, line) in (opened.inner.first.0..).zip(frame::lines(opened.payload())) {
                let time = Timestamp::from_nanosecond(id.into()).unwrap_or(Timestamp::UNIX_EPOCH);
                text.extend_from_slice(format!("{time:.3} ").as_bytes());
                text.extend_from_slice(line);
                text.push(b'\n');
            }
        }
        Ok(text)
    }

    /// The id of the last line; `None` where there is none.
    pub fn last(&self) -> Result<Option<LogId>, Error> {
        // The newest segment may have no whole frame: its writer was killed.
        for first in self.segments()?.into_iter().rev() {
            let mut frames = Frames { reader: self.clone(), rest: vec![first], segment: None };
            // The first frame is opened, so that a wrong key is seen; of the others the outside is enough.
            let mut unopened = true;
            let mut last = None;
            let mut look = |outer: &Outer| {
                last = last.max(Some(outer.last));
                std::mem::take(&mut unopened)
            };
            while frames.next(&mut look)?.is_some() {}
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// First lines of the segments, oldest first.
    fn segments(&self) -> Result<Vec<LogId>, Error> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(Error::File { doing: "list", file: "the directory".into(), cause }),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|cause| Error::File { doing: "list", file: "the directory".into(), cause })?;
            found.extend(entry.file_name().to_str().and_then(frame::first_of));
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// The bytes of one node: see [`Reader::raw`].
pub struct Raw {
    frames: Frames,
    node: u32,
    first: LogId,
    last: LogId,
}

impl Raw {
    /// The next piece; `None` after the last.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let (node, first, last) = (self.node, self.first, self.last);
        let opened = self.frames.next(|outer| outer.node == node && outer.last >= first)?;
        Ok(opened.filter(|opened| opened.inner.first <= last).map(Opened::into_raw))
    }
}

/// A frame that was opened.
struct Opened {
    inner: Inner,
    /// Inner header, lines, tag.
    bytes: Vec<u8>,
    end: usize,
}

impl Opened {
    fn payload(&self) -> &[u8] {
        &self.bytes[INNER_HEADER..self.end]
    }

    fn into_raw(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes.drain(..INNER_HEADER);
        if self.inner.breaks {
            self.bytes.insert(0, b'\n');
        }
        self.bytes
    }
}

/// Walks over the frames of all segments from a line on.
struct Frames {
    reader: Reader,
    /// Segments to come, the next one last.
    rest: Vec<LogId>,
    segment: Option<Segment>,
}

struct Segment {
    name: String,
    file: BufReader<File>,
    cipher: Cipher,
    number: u64,
}

impl Frames {
    fn of(reader: &Reader, wanted: LogId) -> Result<Frames, Error> {
        let mut rest = reader.segments()?;
        // The last segment that begins at or before the line has it, if any has.
        let before = rest.partition_point(|first| *first <= wanted);
        rest.drain(..before.saturating_sub(1));
        rest.reverse();
        Ok(Frames { reader: reader.clone(), rest, segment: None })
    }

    /// The next frame that is wanted by what can be seen of it unopened.
    fn next(&mut self, mut wanted: impl FnMut(&Outer) -> bool) -> Result<Option<Opened>, Error> {
        loop {
            if self.segment.is_none() {
                let Some(first) = self.rest.pop() else { return Ok(None) };
                self.segment = self.open(first)?;
                continue;
            }
            match self.step(&mut wanted)? {
                Step::Opened(opened) => return Ok(Some(opened)),
                Step::Passed => {}
                Step::End => self.segment = None,
            }
        }
    }

    fn step(&mut self, wanted: &mut impl FnMut(&Outer) -> bool) -> Result<Step, Error> {
        let newest = self.rest.is_empty();
        let Some(segment) = &mut self.segment else { return Ok(Step::End) };
        let fault = |name: &str, cause| Error::File { doing: "read", file: name.to_owned(), cause };
        let damaged = |name: &str, why: &str| Error::Damaged { file: name.to_owned(), why: why.to_owned() };
        let mut header = [0; FRAME_HEADER];
        if !whole(segment.file.read_exact(&mut header)).map_err(|cause| fault(&segment.name, cause))? {
            return Ok(Step::End);
        }
        let outer = match Outer::read(&header) {
            Some(outer) => outer,
            // What a power cut left after the last durable frame.
            None if newest => return Ok(Step::End),
            None => return Err(damaged(&segment.name, "a frame of an impossible length")),
        };
        let number = segment.number;
        segment.number += 1;
        if !wanted(&outer) {
            segment.file.seek_relative(outer.sealed as i64).map_err(|cause| fault(&segment.name, cause))?;
            return Ok(Step::Passed);
        }
        let mut bytes = vec![0; outer.sealed];
        if !whole(segment.file.read_exact(&mut bytes)).map_err(|cause| fault(&segment.name, cause))? {
            return Ok(Step::End);
        }
        let end = match segment.cipher.open(number, false, &mut bytes) {
            Ok(opened) => opened.len(),
            // As above; but a first frame that does not open means another key.
            Err(_) if newest && number > 0 => return Ok(Step::End),
            Err(cause) => return Err(damaged(&segment.name, &cause.to_string())),
        };
        let inner = Inner::read(&bytes[..end])
            .filter(|inner| inner.node == outer.node)
            .filter(|inner| {
                inner.first.0.saturating_add(frame::count(&bytes[INNER_HEADER..end])) == outer.last.0.saturating_add(1)
            })
            .ok_or_else(|| damaged(&segment.name, "a frame that contradicts itself"))?;
        Ok(Step::Opened(Opened { inner, bytes, end }))
    }

    /// Opens a segment; `None` where its writer has not got as far as its first frame.
    fn open(&self, first: LogId) -> Result<Option<Segment>, Error> {
        let name = frame::name(first);
        let fault = |cause| Error::File { doing: "read", file: name.clone(), cause };
        // The shim's user made it: a link is not followed, a pipe is not waited for.
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(self.reader.dir.join(&name)).map_err(fault)?;
        let mut file = BufReader::with_capacity(READ, file);
        let mut header = [0; HEADER];
        if !whole(file.read_exact(&mut header)).map_err(fault)? {
            return Ok(None);
        }
        match frame::cipher(&self.reader.key, &header, first) {
            Some(cipher) => Ok(Some(Segment { name, file, cipher: cipher?, number: 0 })),
            None if self.rest.is_empty() => Ok(None),
            None => Err(Error::Damaged { file: name, why: "it is not a log segment".into() }),
        }
    }
}

enum Step {
    Opened(Opened),
    Passed,
    End,
}

/// Whether all was there to be read; `false` at the end of the file.
fn whole(read: std::io::Result<()>) -> std::io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(cause) => Err(cause),
    }
}

const READ: usize = 64 * 1024;
/// Frames that are opened first for the newest lines.
const FRAMES_FROM_THE_END: usize = 4;
