//! The log: segment files, only ever appended to, that hold the data of small objects and, with it, what each batch
//! changed in the index. One append and one sync make a batch durable; the index itself is made durable now and then.
//!
//! A segment file begins with an opening (64 bytes): a magic number, the log's random id, the number of the file,
//! where the log before it ended (file and offset), the number of its first batch, and a checksum. Batches follow,
//! each at once: a header (40 bytes), sealed data, notes ([`crate::logged`]). The header's checksum is over the log's
//! id, the place of the batch, its number, its lengths, and all of its bytes, so that neither a torn batch nor one of
//! another time or place is taken for one. Numbers of batches rise by one.
//!
//! A batch that could not be made durable may be whole on the disk all the same. So its file is never appended to
//! again: a new file is begun, whose opening says where the log ended before the failure. Who reads the log goes on
//! in the newest file that claims to follow the place where he is, and looks at what stands at that place only if
//! there is none. All integers are little endian.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use s3s::crypto::{Checksum as _, Crc64Nvme};

use crate::{
    Error,
    error::at,
    faults::{self, fault},
    segments,
};

/// A place in the log: the end of all batches before `sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which file; `NOWHERE` before the first.
    pub segment: u64,
    /// The byte in it that comes next.
    pub offset: u64,
    /// The number of the batch that comes next.
    pub sequence: u64,
}

/// Before the first file of a log.
pub const NOWHERE: u64 = u64::MAX;

/// Where a process of the crash test writes up to where its log is durable, so that it is known when it was killed.
#[cfg(test)]
pub static DURABLE: std::sync::OnceLock<File> = std::sync::OnceLock::new();

#[cfg(test)]
fn note_durable(end: Position) {
    if let Some(file) = DURABLE.get() {
        let bytes = [end.segment.to_le_bytes(), end.offset.to_le_bytes()].concat();
        let _ = file.write_all_at(&bytes, 0);
    }
}

/// The end of the log, where it grows. One thread has it.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    id: u128,
    end: Position,
    /// The file that is appended to; its number is that of `end`.
    file: Option<File>,
    /// The number of the next file.
    next: u64,
    /// A file is closed once it has so many bytes.
    most: u64,
    buffer: Vec<u8>,
    data: usize,
    /// Files that were closed and not yet looked at by the checkpoint.
    closed: Vec<u64>,
}

impl Log {
    /// Goes on at `end`, in a new file.
    pub fn new(directory: &Path, id: u128, end: Position, next: u64, most: u64) -> Log {
        Log {
            directory: directory.to_owned(),
            id,
            end,
            file: None,
            next,
            most,
            buffer: Vec::new(),
            data: 0,
            closed: Vec::new(),
        }
    }

    /// Where it ends.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The number that the next file gets.
    pub fn next_segment(&self) -> u64 {
        self.next
    }

    /// Whether `segment` is the file that is appended to.
    pub fn appends_to(&self, segment: u64) -> bool {
        self.file.is_some() && self.end.segment == segment
    }

    /// Files that were closed since this was asked last.
    pub fn take_closed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.closed)
    }

    /// Begins a batch: makes a new file if that is due.
    pub fn begin(&mut self) -> Result<(), Error> {
        if self.file.is_some() && self.end.offset >= self.most {
            self.leave();
        }
        if self.file.is_none() {
            self.open()?;
        }
        self.buffer.clear();
        self.buffer.resize(HEADER, 0);
        self.data = 0;
        Ok(())
    }

    /// Where data would stand that is added next.
    pub fn place(&self) -> (u64, u64) {
        (self.end.segment, self.end.offset + self.buffer.len() as u64)
    }

    /// Adds data to the batch.
    pub fn add(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
        self.data += data.len();
    }

    /// Ends the batch with its notes, and makes it durable. After an error it is not in the log, and no later batch
    /// comes behind it.
    pub fn append(&mut self, notes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(notes);
        let (sequence, data, notes) = (self.end.sequence, self.data as u64, notes.len() as u64);
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&BATCH);
        for number in [sequence, data, notes] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(self.id, self.end.segment, self.end.offset, &header, &self.buffer[HEADER..]);
        header.extend_from_slice(&sum.to_le_bytes());
        self.buffer[..HEADER].copy_from_slice(&header);
        let result = self.write();
        match &result {
            Ok(()) => {
                self.end.offset += self.buffer.len() as u64;
                self.end.sequence += 1;
                #[cfg(test)]
                note_durable(self.end);
            }
            Err(_) => self.abandon(),
        }
        self.buffer.truncate(0);
        self.buffer.shrink_to(KEPT);
        result
    }

    fn write(&self) -> Result<(), Error> {
        let path = segments::path(&self.directory, self.end.segment);
        let file = self.file.as_ref().ok_or(Error::NotWritten)?;
        if let Err(cause) = fault(faults::SHORT_WRITE) {
            let half = &self.buffer[..self.buffer.len() / 2];
            file.write_all_at(half, self.end.offset).map_err(at(&path))?;
            return Err(at(&path)(cause));
        }
        fault(faults::WRITE_LOG).and_then(|()| file.write_all_at(&self.buffer, self.end.offset)).map_err(at(&path))?;
        fail::fail_point!("objects.log.appended");
        file.sync_data().and_then(|()| fault(faults::SYNC_LOG)).map_err(at(&path))?;
        fail::fail_point!("objects.log.synced");
        Ok(())
    }

    /// Leaves the file, whose end is not known to be what it should. If a new one can be begun now, what failed is
    /// out of the log for certain; else it is once the next batch could be written.
    fn abandon(&mut self) {
        self.leave();
        if let Err(cause) = self.open() {
            tracing::error!(cause = ?cause, "a new segment file cannot be begun");
        }
    }

    /// Ends the file; the next batch goes to a new one.
    pub fn leave(&mut self) {
        if self.file.take().is_some() {
            self.closed.push(self.end.segment);
        }
    }

    /// Begins a new file, durably.
    fn open(&mut self) -> Result<(), Error> {
        let segment = self.next;
        let path = segments::path(&self.directory, segment);
        self.next += 1;
        let result = self.create(segment, &path);
        match result {
            Ok(file) => {
                self.file = Some(file);
                self.end = Position { segment, offset: OPENING as u64, ..self.end };
                Ok(())
            }
            Err(cause) => {
                // What there is of it may be found as a file that follows the present end; it would say the same.
                self.closed.push(segment);
                Err(cause)
            }
        }
    }

    fn create(&self, segment: u64, path: &Path) -> Result<File, Error> {
        let opening = Opening { segment, after: self.end };
        fault(faults::CREATE_SEGMENT).map_err(at(path))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))?;
        file.write_all_at(&opening.bytes(self.id), 0).and_then(|()| file.sync_data()).map_err(at(path))?;
        segments::sync_directory(&self.directory)?;
        fail::fail_point!("objects.segment.begun");
        Ok(file)
    }
}

/// How a segment file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    segment: u64,
    after: Position,
}

impl Opening {
    fn bytes(self, log: u128) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(OPENING);
        bytes.extend_from_slice(&SEGMENT_FILE);
        bytes.extend_from_slice(&log.to_le_bytes());
        for number in [self.segment, self.after.segment, self.after.offset, self.after.sequence] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let mut sum = Crc64Nvme::new();
        sum.update(&bytes);
        bytes.extend_from_slice(sum.finalize().as_ref());
        bytes
    }

    fn parse(log: u128, bytes: &[u8]) -> Option<Opening> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let after = Position { segment: number(32)?, offset: number(40)?, sequence: number(48)? };
        let opening = Opening { segment: number(24)?, after };
        (opening.bytes(log) == bytes).then_some(opening)
    }
}

/// The files of a log, to be read from some place on.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    id: u128,
    at: Position,
    /// Openings of the files that have one of this log and may be needed, oldest first.
    openings: Vec<Opening>,
    open: Option<(u64, File, u64)>,
    /// Files of which batches were read.
    read: BTreeSet<u64>,
}

/// A batch of the log.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    data: usize,
}

impl Batch {
    /// Its notes.
    pub fn notes(&self) -> &[u8] {
        &self.bytes[self.data..]
    }
}

impl Reader {
    /// Reads the log `id` from `at` on.
    pub fn new(directory: &Path, id: u128, at: Position) -> Result<Reader, Error> {
        let mut openings = Vec::new();
        let mut ids = segments::ids(directory)?;
        ids.sort_unstable();
        for segment in ids {
            let path = segments::path(directory, segment);
            let mut bytes = [0; OPENING];
            match File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, 0)) {
                Ok(()) => {}
                Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => continue,
                Err(cause) => return Err(crate::error::at(&path)(cause)),
            }
            // There are very many of before.
            let is_needed = |opening: &Opening| opening.after.sequence >= at.sequence || segment == at.segment;
            let opening = Opening::parse(id, &bytes).filter(|opening| opening.segment == segment);
            openings.extend(opening.filter(is_needed));
        }
        Ok(Reader { directory: directory.to_owned(), id, at, openings, open: None, read: BTreeSet::new() })
    }

    /// Up to where it was read.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The next batch; `None` where the log ends.
    pub fn next(&mut self) -> Result<Option<Batch>, Error> {
        loop {
            // The newest, because those before it were begun and given up.
            match self.openings.iter().rev().find(|opening| opening.after == self.at) {
                Some(opening) => {
                    self.at = Position { segment: opening.segment, offset: OPENING as u64, ..self.at };
                }
                None => return self.batch(),
            }
        }
    }

    /// Makes what was read durable. A process that was killed between a write and its sync leaves batches that can be
    /// read, and that are gone if the power fails: nothing may be built on them before.
    pub fn sync(&self) -> Result<(), Error> {
        for segment in &self.read {
            let path = segments::path(&self.directory, *segment);
            let synced = File::open(&path).and_then(|file| file.sync_data()).and_then(|()| fault(faults::SYNC_LOG));
            synced.map_err(at(&path))?;
        }
        Ok(())
    }

    /// Whether something of the log comes behind the place up to where it can be read. A batch is written once the one
    /// before it is durable; so that place is not the end, then, but damage.
    pub fn goes_on(&self) -> Result<bool, Error> {
        let Position { segment, offset, sequence } = self.at;
        if self.openings.iter().any(|opening| opening.after.sequence > sequence) {
            return Ok(true);
        }
        if self.openings.iter().all(|opening| opening.segment != segment) {
            return Ok(false);
        }
        let path = segments::path(&self.directory, segment);
        let mut rest = Vec::new();
        let mut file = File::open(&path).map_err(at(&path))?;
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_to_end(&mut rest)).map_err(at(&path))?;
        let is_later = |start: usize| {
            let (header, bytes) = rest[start..].split_first_chunk()?;
            let header = Header::parse(header).filter(|header| header.sequence > sequence)?;
            let length = usize::try_from(header.data.checked_add(header.notes)?).ok()?;
            let sum = checksum(self.id, segment, offset + start as u64, &header.bytes, bytes.get(..length)?);
            (sum == header.sum).then_some(())
        };
        Ok(memchr::memmem::find_iter(&rest, &BATCH).any(|start| is_later(start).is_some()))
    }

    fn batch(&mut self) -> Result<Option<Batch>, Error> {
        let Position { segment, offset, sequence } = self.at;
        if self.openings.iter().all(|opening| opening.segment != segment) {
            return Ok(None);
        }
        let path = segments::path(&self.directory, segment);
        if self.open.as_ref().is_none_or(|(open, ..)| *open != segment) {
            let file = File::open(&path).map_err(at(&path))?;
            let length = file.metadata().map_err(at(&path))?.len();
            self.open = Some((segment, file, length));
        }
        let Some((_, file, length)) = &self.open else { return Ok(None) };
        let left = length.saturating_sub(offset);
        let mut header = [0; HEADER];
        if left < HEADER as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut header, offset).map_err(at(&path))?;
        let Some(header) = Header::parse(&header) else { return Ok(None) };
        let wanted = header.data.checked_add(header.notes).filter(|wanted| *wanted <= left - HEADER as u64);
        let Some(wanted) = wanted.and_then(|wanted| usize::try_from(wanted).ok()) else { return Ok(None) };
        if header.sequence != sequence {
            return Ok(None);
        }
        let mut bytes = vec![0; wanted];
        file.read_exact_at(&mut bytes, offset + HEADER as u64).map_err(at(&path))?;
        if checksum(self.id, segment, offset, &header.bytes, &bytes) != header.sum {
            return Ok(None);
        }
        self.read.insert(segment);
        self.at = Position { segment, offset: offset + (HEADER + wanted) as u64, sequence: sequence + 1 };
        // It is at most as long as the bytes, which fit.
        let data = usize::try_from(header.data).unwrap_or(wanted);
        Ok(Some(Batch { bytes, data }))
    }
}

/// Bytes of data in a segment file, without its notes, and those notes; for a file of before there was a log, all of
/// its bytes and no notes. Goes by the headers alone, so that it is quick.
pub fn survey(directory: &Path, segment: u64, mut notes: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<u64, Error> {
    let path = segments::path(directory, segment);
    let file = File::open(&path).map_err(at(&path))?;
    let length = file.metadata().map_err(at(&path))?.len();
    let mut magic = [0; SEGMENT_FILE.len()];
    if length < OPENING as u64 || file.read_exact_at(&mut magic, 0).is_err() || magic != SEGMENT_FILE {
        return Ok(length);
    }
    let (mut offset, mut data) = (OPENING as u64, 0);
    while length - offset >= HEADER as u64 {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, offset).map_err(at(&path))?;
        let Some(header) = Header::parse(&header) else { break };
        offset += HEADER as u64;
        let Some(end) = header.data.checked_add(header.notes).and_then(|wanted| offset.checked_add(wanted)) else {
            break;
        };
        if end > length {
            break;
        }
        let mut bytes = vec![0; usize::try_from(header.notes).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset + header.data).map_err(at(&path))?;
        notes(&bytes)?;
        data += header.data;
        offset = end;
    }
    Ok(data)
}

/// The header of a batch.
struct Header {
    bytes: [u8; HEADER - 8],
    sequence: u64,
    data: u64,
    notes: u64,
    sum: u64,
}

impl Header {
    fn parse(header: &[u8; HEADER]) -> Option<Header> {
        let number = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
        let bytes = header[..HEADER - 8].try_into().ok()?;
        (header[..8] == BATCH).then_some(())?;
        Some(Header { bytes, sequence: number(8)?, data: number(16)?, notes: number(24)?, sum: number(32)? })
    }
}

fn checksum(log: u128, segment: u64, offset: u64, header: &[u8], bytes: &[u8]) -> u64 {
    let mut sum = Crc64Nvme::new();
    sum.update(&log.to_le_bytes());
    sum.update(&segment.to_le_bytes());
    sum.update(&offset.to_le_bytes());
    sum.update(header);
    sum.update(bytes);
    let mut number = [0; 8];
    number.copy_from_slice(sum.finalize().as_ref());
    u64::from_le_bytes(number)
}

const SEGMENT_FILE: [u8; 8] = *b"CMSEG\0\0\x02";
const BATCH: [u8; 8] = *b"CMBAT\0\0\x02";
/// Bytes before the first batch of a file.
pub const OPENING: usize = 64;
/// Bytes before the data of a batch.
pub const HEADER: usize = 40;
/// Bytes of memory that are kept between two batches.
const KEPT: usize = 1 << 20;
