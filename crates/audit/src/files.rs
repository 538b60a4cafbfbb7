//! The files of the sealed log, as the one process has them that appends: segments, the tree, the checkpoints.
//! A file goes on where the database says that the log was sealed to. What stands beyond is of a process that was killed:
//! it is cut off, if the database still has all of its entries, and sealed again, which gives the same bytes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crypto::SigningKey;
use db::audit::{Raw, Sealed};
use jiff::Timestamp;

use crate::{
    merkle::{self, Hash},
    note::{self, Checkpoint, VerifierKey},
    record::{self, Frame, NOTHING},
    segments::{self, HEADER, Header},
    tree::Tree,
};

/// When a segment is closed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Once it has so many bytes.
    pub bytes: u64,
    /// Once its first entry is older than the next by so many nanoseconds.
    pub age: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 32 << 20, age: 24 * 3600 * 1_000_000_000 }
    }
}

/// Why the files cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error("the files of the audit log cannot be used")]
    Io(#[from] io::Error),
    /// They are not as they were left.
    #[error("the sealed audit log is not as it was left: {0}; `casemate audit verify` says more")]
    NotWhole(String),
    /// Another process seals.
    #[error("another process seals the audit log")]
    InUse,
}

/// The files, open to be appended to.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    key: Arc<SigningKey>,
    limits: Limits,
    tree: Tree,
    segment: Option<Segment>,
    checkpoints: File,
    state: Sealed,
    /// The hash of the newest record.
    leaf: Hash,
    buffer: Vec<u8>,
    /// Held as long as this process seals.
    _lock: File,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Bytes in it.
    length: u64,
    /// The time of its first entry.
    begun: i64,
}

impl Files {
    /// Takes the directory for this process, and makes what is not there.
    pub fn lock(directory: &Path) -> Result<File, Error> {
        for name in [directory, &directory.join(SEGMENTS), &directory.join(TREE)] {
            DirBuilder::new().recursive(true).mode(0o700).create(name)?;
        }
        let open =
            |name| OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join(name));
        open(READING)?;
        open(CHECKPOINTS)?;
        let lock = open(LOCK)?;
        segments::sync_directory(directory)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(fs::TryLockError::WouldBlock) => Err(Error::InUse),
            Err(fs::TryLockError::Error(cause)) => Err(cause.into()),
        }
    }

    /// Whether nothing was ever sealed there.
    pub fn is_empty(directory: &Path) -> io::Result<bool> {
        let checkpoints = fs::metadata(directory.join(CHECKPOINTS))?.len();
        Ok(checkpoints == 0 && segments::list(&directory.join(SEGMENTS))?.is_empty())
    }

    /// The whole frames beyond what is sealed, as far as each follows on the one before.
    pub fn beyond(directory: &Path, sealed: &Sealed) -> io::Result<Vec<Vec<u8>>> {
        let directory = directory.join(SEGMENTS);
        let (mut frames, mut previous) = (Vec::new(), hash_of(&sealed.leaf));
        for number in segments::list(&directory)? {
            let begin = match unsigned(sealed.segment) {
                sealed if number < sealed => continue,
                same if number == same => usize::try_from(sealed.length).unwrap_or(usize::MAX),
                _ => HEADER,
            };
            let bytes = fs::read(segments::path(&directory, number))?;
            let header = Header::parse(&bytes);
            if begin == HEADER && header.is_none_or(|header| header.number != number || header.previous != previous) {
                break;
            }
            let mut at = begin;
            while at < bytes.len() {
                let Frame::Whole(record) = record::frame(&bytes, at) else { return Ok(frames) };
                if record::previous(record) != previous {
                    return Ok(frames);
                }
                previous = merkle::leaf(record);
                frames.push(record.to_vec());
                at += record::FRAME + record.len();
            }
        }
        Ok(frames)
    }

    /// Opens them where they were sealed to, and cuts off what is beyond.
    pub fn open(
        directory: &Path,
        lock: File,
        key: Arc<SigningKey>,
        limits: Limits,
        state: Sealed,
    ) -> Result<Files, Error> {
        let not_whole = |what: String| Error::NotWhole(what);
        let size = unsigned(state.size);
        let tree = Tree::open(&directory.join(TREE), size).map_err(|cause| not_whole(cause.to_string()))?;
        let checkpoints = OpenOptions::new().read(true).write(true).open(directory.join(CHECKPOINTS))?;
        if size > 0 {
            let signed = VerifierKey::of(&key).open(state.checkpoint.as_bytes());
            let signed =
                signed.ok_or_else(|| not_whole("the newest checkpoint is not signed by our key".to_owned()))?;
            if (signed.size, signed.root) != (size, tree.root()?) {
                return Err(not_whole("the tree does not have the root of the newest checkpoint".to_owned()));
            }
            let mut found = vec![0; state.checkpoint.len()];
            let begin = unsigned(state.checkpoints).checked_sub(found.len() as u64);
            let read = begin.is_some_and(|begin| checkpoints.read_exact_at(&mut found, begin).is_ok());
            if !read || found != state.checkpoint.as_bytes() {
                return Err(not_whole("the newest checkpoint is not where it was written".to_owned()));
            }
        }
        let segment = Segment::open(directory, &state)?;
        checkpoints.set_len(unsigned(state.checkpoints))?;
        let leaf = hash_of(&state.leaf);
        let directory = directory.to_owned();
        Ok(Files { directory, key, limits, tree, segment, checkpoints, state, leaf, buffer: Vec::new(), _lock: lock })
    }

    /// Up to where the log is sealed, as the database is to keep it after [`Files::checkpoint`].
    pub fn state(&self) -> &Sealed {
        &self.state
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether entries were appended since the newest checkpoint.
    pub fn has_news(&self) -> bool {
        unsigned(self.state.size) != self.tree.size()
    }

    /// Appends entries, whose numbers rise, and makes them durable. After an error the files must be opened anew.
    pub fn append(&mut self, entries: &[Raw]) -> Result<(), Error> {
        let mut leaves = Vec::with_capacity(entries.len());
        for entry in entries {
            if self.segment.as_ref().is_none_or(|segment| self.is_full(segment, entry)) {
                self.write()?;
                self.begin(entry, self.tree.size() + leaves.len() as u64)?;
            }
            let begin = record::append(&mut self.buffer, &self.leaf, entry);
            self.leaf = merkle::leaf(&self.buffer[begin..]);
            leaves.push(self.leaf);
            self.state.through = entry.number;
        }
        self.write()?;
        self.tree.append(&leaves)?;
        fail::fail_point!("audit.tree.written");
        self.tree.sync()?;
        Ok(())
    }

    fn is_full(&self, segment: &Segment, next: &Raw) -> bool {
        segment.length + self.buffer.len() as u64 >= self.limits.bytes
            || next.at.saturating_sub(segment.begun) >= self.limits.age
    }

    /// Writes what is in the buffer, durably.
    fn write(&mut self) -> Result<(), Error> {
        let Some(segment) = self.segment.as_mut().filter(|_| !self.buffer.is_empty()) else { return Ok(()) };
        segment.file.write_all_at(&self.buffer, segment.length)?;
        fail::fail_point!("audit.segment.appended");
        segment.file.sync_data()?;
        fail::fail_point!("audit.segment.synced");
        segment.length += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        Ok(())
    }

    /// Begins a segment whose first entry is `entry`.
    fn begin(&mut self, entry: &Raw, leaf: u64) -> Result<(), Error> {
        let header = Header { leaf, number: unsigned(entry.number), previous: self.leaf };
        let directory = self.directory.join(SEGMENTS);
        let path = segments::path(&directory, header.number);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all_at(&header.bytes(), 0)?;
        file.sync_data()?;
        segments::sync_directory(&directory)?;
        fail::fail_point!("audit.segment.begun");
        self.segment = Some(Segment { file, length: HEADER as u64, begun: entry.at });
        self.state.segment = entry.number;
        Ok(())
    }

    /// Signs what there is, and makes that durable.
    pub fn checkpoint(&mut self, time: Timestamp) -> Result<Checkpoint, Error> {
        let previous = match self.state.checkpoint.is_empty() {
            true => NOTHING,
            false => note::hash(self.state.checkpoint.as_bytes()),
        };
        let checkpoint = Checkpoint { size: self.tree.size(), root: self.tree.root()?, time, previous };
        let note = note::sign(&self.key, &checkpoint);
        let end = unsigned(self.state.checkpoints);
        self.checkpoints.write_all_at(note.as_bytes(), end)?;
        fail::fail_point!("audit.checkpoint.written");
        self.checkpoints.sync_data()?;
        fail::fail_point!("audit.checkpoint.synced");
        self.state.checkpoints = signed(end + note.len() as u64);
        self.state.checkpoint = note;
        self.state.size = signed(checkpoint.size);
        self.state.leaf = self.leaf.to_vec();
        self.state.length = self.segment.as_ref().map_or(0, |segment| signed(segment.length));
        Ok(checkpoint)
    }

    /// The closed segments that retention may remove: those whose next begins before `time`, in Unix nanoseconds. Says
    /// which is the first entry that there is, and with which header the part begins that stays.
    pub fn older_than(&self, time: i64) -> Result<Option<(u64, Header)>, Error> {
        let directory = self.directory.join(SEGMENTS);
        let numbers = segments::list(&directory)?;
        let mut stays = None;
        for number in numbers.iter().skip(1) {
            let (header, begun) = beginning(&segments::path(&directory, *number))?;
            if begun.is_none_or(|begun| begun >= time) {
                break;
            }
            stays = Some(header);
        }
        // The newest too, once all of it is old: the entry that says so begins the next.
        if let Some(newest) = numbers.last()
            && beginning(&segments::path(&directory, *newest))?.1.is_some_and(|begun| begun < time)
            && last_time(&segments::path(&directory, *newest))?.is_some_and(|last| last < time)
        {
            let (leaf, number) = (self.tree.size(), unsigned(self.state.through) + 1);
            stays = Some(Header { leaf, number, previous: self.leaf });
        }
        Ok(numbers.first().copied().zip(stays))
    }

    /// Removes the segments all of whose entries have numbers up to `through`, oldest first.
    pub fn remove(&mut self, through: u64) -> Result<(), Error> {
        let directory = self.directory.join(SEGMENTS);
        for pair in segments::list(&directory)?.windows(2) {
            if pair[1] > through + 1 {
                break;
            }
            let (header, _) = beginning(&segments::path(&directory, pair[1]))?;
            fs::remove_file(segments::path(&directory, pair[0]))?;
            segments::sync_directory(&directory)?;
            fail::fail_point!("audit.segment.removed");
            self.tree.forget(header.leaf)?;
        }
        Ok(())
    }
}

impl Segment {
    /// The one that is appended to, cut to what is sealed of it, and none after it.
    fn open(directory: &Path, state: &Sealed) -> Result<Option<Segment>, Error> {
        let directory = directory.join(SEGMENTS);
        for number in segments::list(&directory)?.into_iter().rev() {
            if number <= unsigned(state.segment) {
                break;
            }
            fs::remove_file(segments::path(&directory, number))?;
            segments::sync_directory(&directory)?;
        }
        if state.segment == 0 {
            return Ok(None);
        }
        let path = segments::path(&directory, unsigned(state.segment));
        let not_whole = |what| Error::NotWhole(format!("{} {what}", path.display()));
        let (header, begun) = match beginning(&path) {
            Ok(beginning) => beginning,
            Err(cause) => return Err(not_whole(format!("cannot be read: {cause}"))),
        };
        let file = OpenOptions::new().write(true).open(&path)?;
        let length = file.metadata()?.len();
        let Some(begun) = begun.filter(|_| header.number == unsigned(state.segment)) else {
            return Err(not_whole("does not begin as it did".to_owned()));
        };
        if length < unsigned(state.length) {
            return Err(not_whole("is shorter than it was".to_owned()));
        }
        file.set_len(unsigned(state.length))?;
        Ok(Some(Segment { file, length: unsigned(state.length), begun }))
    }
}

/// The header of a segment, and the time of its first entry if it has one.
fn beginning(path: &Path) -> io::Result<(Header, Option<i64>)> {
    let mut bytes = Vec::with_capacity(BEGINNING);
    File::open(path)?.take(BEGINNING as u64).read_to_end(&mut bytes)?;
    let header = Header::parse(&bytes);
    let header = header.ok_or_else(|| io::Error::other(format!("{} has no header of a segment", path.display())))?;
    let record = bytes.get(HEADER + record::FRAME..).filter(|record| record.len() >= record::SHORTEST);
    Ok((header, record.map(record::at)))
}

/// The time of the last whole record of a segment.
fn last_time(path: &Path) -> io::Result<Option<i64>> {
    let bytes = fs::read(path)?;
    let (mut at, mut last) = (HEADER, None);
    while at < bytes.len()
        && let Frame::Whole(record) = record::frame(&bytes, at)
    {
        last = Some(record::at(record));
        at += record::FRAME + record.len();
    }
    Ok(last)
}

/// A number of the database, which has none below zero here.
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn hash_of(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap_or(NOTHING)
}

/// Directory of the segment files.
pub const SEGMENTS: &str = "segments";
/// Directory of the tree's files.
pub const TREE: &str = "tree";
/// All checkpoints, one behind the other.
pub const CHECKPOINTS: &str = "checkpoints";
/// Whoever reads all of the log holds it shared, so that nothing is removed meanwhile.
pub const READING: &str = "reading";
const LOCK: &str = "lock";
const BEGINNING: usize = HEADER + record::FRAME + record::SHORTEST;
/// Bytes of memory that are kept between two batches.
const KEPT: usize = 4 << 20;
