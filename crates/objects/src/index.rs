//! The index: which objects there are, and where their bytes are. One redb file, a transaction a batch of changes.
//!
//! Names of buckets, keys of objects, metadata, entity tags and checksums are in it in clear, in a file of mode 0600;
//! the bytes of objects are not, and data keys only wrapped.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use model::{BucketName, ProjectId};
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use uuid::Uuid;

use crate::{
    Error,
    clock::Clock,
    error::at,
    faults::{self, fault},
    log::{NOWHERE, Position},
    logged::{Logged, Note, Redo},
    rows::{self, BucketRow, Data, ObjectRow, PartRow, Piece, PieceRow, Place, UploadRow},
    seal,
    usage::{self, Usage},
};

pub type ObjectKey = (&'static str, &'static str, &'static [u8]);
pub type VersionKey = (&'static str, &'static str, &'static [u8], u64);
pub type UploadKey = (&'static str, &'static str, &'static [u8], u128);
pub type UsageRow = (u64, u64, u64, u64, u64, u64);

/// Declares the tables, each with its number in the log, which no other table ever had, and [`Writing`] over them.
macro_rules! tables {
    ($($(#[$about:meta])* $name:ident, $field:ident = $number:literal: $key:ty => $value:ty;)*) => {
        $($(#[$about])* pub const $name: TableDefinition<$key, $value> = TableDefinition::new(stringify!($field));)*

        /// The tables of a batch, and what it frees.
        pub struct Writing<'t> {
            $($(#[$about])* pub $field: Logged<'t, $key, $value>,)*
            clock: Clock,
            /// The newest time that was given out, in microseconds of Unix time, and what the index says of it.
            newest: u64,
            noted: u64,
            /// Changes of what is of use in segment files: bytes and pieces.
            used: BTreeMap<u64, (i64, i64)>,
            counts: HashMap<(String, String), Usage<i64>>,
            /// Large files that are of no use once this is committed.
            pub freed: Vec<Uuid>,
            /// Segments in which nothing is of use once this is committed.
            pub dead: Vec<u64>,
            /// Whether large files were added, whose names in their directory must be durable too.
            pub added_large: bool,
        }

        impl<'t> Writing<'t> {
            /// Over a transaction. What changes is noted in `redo`.
            pub fn new(
                transaction: &'t WriteTransaction,
                clock: &Clock,
                redo: Option<&'t Redo>,
            ) -> Result<Writing<'t>, Error> {
                let mut writing = Writing {
                    $($field: Logged::new(transaction, $name, $number, redo),)*
                    clock: clock.clone(),
                    newest: 0,
                    noted: 0,
                    used: BTreeMap::new(),
                    counts: HashMap::new(),
                    freed: Vec::new(),
                    dead: Vec::new(),
                    added_large: false,
                };
                writing.noted = writing.meta.get("clock")?.map_or(0, |newest| newest.value());
                writing.newest = writing.noted;
                Ok(writing)
            }

            /// Makes a change of the log again.
            pub fn restore(&mut self, note: Note<'_>) -> Result<(), Error> {
                match note.table {
                    $($number => self.$field.restore(note)?,)*
                    other => return Err(Error::Damaged { what: format!("a batch of the log, of table {other},") }),
                }
                Ok(())
            }
        }

        /// The numbers of tables in the log.
        pub mod tables {
            $(#[allow(dead_code, reason = "few are asked for by name")] pub const $name: u8 = $number;)*
        }

        fn create_tables(transaction: &WriteTransaction) -> Result<(), Error> {
            $(transaction.open_table($name)?;)*
            Ok(())
        }
    };
}

tables! {
    /// Of a bucket: project and name.
    BUCKETS, buckets = 1: (&'static str, &'static str) => &'static [u8];
    /// Of an object: project, bucket, key; keys as bytes, so that their order is that of S3.
    OBJECTS, objects = 2: ObjectKey => &'static [u8];
    /// Of a piece of an object in many: the id of its data, and at which byte of the object it begins.
    PIECES, pieces = 3: (u128, u64) => &'static [u8];
    /// Of an upload: project, bucket, key, id.
    UPLOADS, uploads = 4: UploadKey => &'static [u8];
    /// Of a part: upload and number.
    PARTS, parts = 5: (u128, u32) => &'static [u8];
    /// Of a segment file: how many of its bytes, and how many pieces in it, are of use.
    SEGMENTS, segments = 6: u64 => (u64, u64);
    /// Large files that are of use; any other is an orphan.
    LARGE, large = 7: u128 => ();
    /// Single numbers, by name.
    META, meta = 8: &'static str => u64;
    /// Of a version that is not a key's current object: project, bucket, key, and its number counted down from the
    /// highest, so that the newest comes first. See [`crate::versions`].
    VERSIONS, versions = 9: VersionKey => &'static [u8];
    /// The number of a key's version `null`, if that is in [`VERSIONS`].
    NULLS, nulls = 10: ObjectKey => u64;
    /// Of a document of a bucket: project, bucket, kind.
    DOCUMENTS, documents = 11: (&'static str, &'static str, &'static str) => &'static [u8];
    /// What a bucket holds: see [`Usage::row`].
    USAGE, usage = 12: (&'static str, &'static str) => UsageRow;
    /// An entry for the audit log that it may not have yet: by a number that rises.
    OUTBOX, outbox = 13: u64 => &'static [u8];
    /// An event that waits for a webhook: the webhook's name, and a number that rises. See [`crate::notify`].
    EVENTS, events = 14: (&'static str, u64) => &'static [u8];
}

/// Where the log of what is not yet in the index begins. Not in the log itself.
pub const LOG: TableDefinition<&str, u64> = TableDefinition::new("log");

/// The open index.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    /// What time it is.
    pub clock: Clock,
    /// Whether some bucket lives elsewhere.
    external: AtomicBool,
    database: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// It failed, and could not be opened again.
    Failed,
    /// The store was closed.
    Closed,
}

fn any_external(database: &Database) -> Result<bool, Error> {
    for entry in database.begin_read()?.open_table(BUCKETS)?.iter()? {
        if rows::decode::<BucketRow>("a bucket", entry?.1.value())?.external.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is durable in the index of the log.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Which log: a random number, made with the store.
    pub log: u128,
    /// From where on the log is not in the index.
    pub position: Position,
    /// A number that no segment file had before.
    pub next_segment: u64,
}

impl Index {
    /// Opens the index in `path`, makes it if there is none, and lets `replay` bring it to the end of the log before
    /// anybody sees it.
    pub fn open<T>(
        path: &Path,
        clock: Clock,
        replay: impl FnOnce(&Database, &Clock, Mark) -> Result<T, Error>,
    ) -> Result<(Index, T), Error> {
        let database = open(path)?;
        prepare(&database)?;
        let replayed = replay(&database, &clock, mark(&database)?)?;
        let external = AtomicBool::new(any_external(&database)?);
        Ok((Index { path: path.to_owned(), clock, external, database: RwLock::new(State::Open(database)) }, replayed))
    }

    /// Whether some bucket lives, or lived, elsewhere.
    pub fn has_external(&self) -> bool {
        self.external.load(Ordering::Acquire)
    }

    /// Takes note of a bucket that lives elsewhere.
    pub fn note_external(&self) {
        self.external.store(true, Ordering::Release);
    }

    /// A view of what is committed.
    pub fn read(&self) -> Result<ReadTransaction, Error> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => Ok(database.begin_read()?),
            State::Failed => Err(Error::NotWritten),
            State::Closed => Err(Error::Closed),
        }
    }

    /// The transaction of one batch of changes. It is seen once it is committed; the log makes it durable.
    pub fn write(&self) -> Result<WriteTransaction, Error> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => begin(database),
            State::Failed => Err(Error::NotWritten),
            State::Closed => Err(Error::Closed),
        }
    }

    /// Whether it failed and is to be opened again.
    pub fn is_failed(&self) -> bool {
        matches!(&*self.database.read().unwrap_or_else(PoisonError::into_inner), State::Failed)
    }

    /// After an I/O error redb answers nothing until it is opened again. What was not durable in it is lost then, and
    /// comes back by `replay`.
    pub fn reopen(&self, replay: impl FnOnce(&Database, &Clock, Mark) -> Result<(), Error>) -> Result<(), Error> {
        let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Closed) {
            return Err(Error::Closed);
        }
        // The old one is closed first.
        drop(std::mem::replace(&mut *state, State::Failed));
        let database = open(&self.path)?;
        replay(&database, &self.clock, mark(&database)?)?;
        *state = State::Open(database);
        Ok(())
    }

    /// Makes all that was committed durable, and notes that the log before `position` is not needed any more.
    pub fn checkpoint(&self, position: Position, next_segment: u64) -> Result<(), Error> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => checkpoint(database, position, next_segment),
            State::Failed => Err(Error::NotWritten),
            State::Closed => Err(Error::Closed),
        }
    }

    /// Whether the file is as it was written, down to its pages. Makes what is repairable whole. Waits a while for
    /// those that read or write, and lets nobody else in meanwhile.
    pub fn check_integrity(&self) -> Result<bool, Error> {
        let begun = Instant::now();
        loop {
            let checked = match &mut *self.database.write().unwrap_or_else(PoisonError::into_inner) {
                State::Open(database) => database.check_integrity(),
                State::Failed => return Err(Error::NotWritten),
                State::Closed => return Err(Error::Closed),
            };
            match checked {
                Err(redb::DatabaseError::TransactionInProgress) if begun.elapsed() < LONGEST_WAIT => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                checked => return Ok(checked?),
            }
        }
    }

    /// Closes the file; nothing is answered after.
    pub fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = State::Closed;
    }
}

/// As [`Index::checkpoint`].
pub fn checkpoint(database: &Database, position: Position, next_segment: u64) -> Result<(), Error> {
    fault(faults::CHECKPOINT).map_err(redb::StorageError::Io)?;
    let mut transaction = database.begin_write()?;
    // What it costs is paid in the background; what it saves is a walk of the whole index after a crash.
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(LOG)?;
        table.insert("segment", position.segment)?;
        table.insert("offset", position.offset)?;
        table.insert("sequence", position.sequence)?;
        table.insert("next", next_segment)?;
    }
    transaction.commit()?;
    fail::fail_point!("objects.index.durable");
    Ok(())
}

/// A transaction that the log makes durable.
pub fn begin(database: &Database) -> Result<WriteTransaction, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::None).map_err(|cause| redb::StorageError::Corrupted(cause.to_string()))?;
    Ok(transaction)
}

/// Whether there is an index in `path`.
pub fn is_there(path: &Path) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len() > 0),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(at(path)(cause)),
    }
}

/// Makes an index in `path`, with nothing in it. A kill leaves none, or a whole one: a file that redb only began is none,
/// and could not be opened again.
pub fn make(path: &Path) -> Result<(), Error> {
    let new = path.with_extension("redb.new");
    match fs::remove_file(&new) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(at(&new)(cause)),
        _ => {}
    }
    drop(open(&new)?);
    match fs::hard_link(&new, path) {
        // Another process was quicker; which of the two may have it is found out next.
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => return Err(at(path)(cause)),
        _ => {}
    }
    fs::remove_file(&new).map_err(at(&new))
}

fn open(path: &Path) -> Result<Database, Error> {
    // redb would make it readable by all.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(at(path))?;
    Ok(Database::builder().set_cache_size(CACHE).create(path)?)
}

/// Makes what is missing in the index; one of the format before this is brought to it.
fn prepare(database: &Database) -> Result<(), Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    create_tables(&transaction)?;
    let format = transaction.open_table(META)?.get("format")?.map(|value| value.value());
    match format {
        // A table that this format did not have at first is made.
        Some(FORMAT) => return Ok(transaction.commit()?),
        None => {}
        // It had no log and no counts. Its segment files are read as they are, and never appended to.
        Some(BEFORE_LOG) => usage::count_all(&transaction)?,
        Some(other) => return Err(Error::Damaged { what: format!("an index of format {other}") }),
    }
    {
        transaction.open_table(META)?.insert("format", FORMAT)?;
        let mut id = [0; 16];
        crypto::random(&mut id)?;
        let mut log = transaction.open_table(LOG)?;
        let (high, low) = Uuid::from_bytes(id).as_u64_pair();
        for (name, number) in [("id", high), ("id.low", low), ("segment", NOWHERE), ("sequence", 1)] {
            log.insert(name, number)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// A number above those of all segment files that the index names.
pub fn after_segments(database: &Database) -> Result<u64, Error> {
    Ok(database.begin_read()?.open_table(SEGMENTS)?.last()?.map_or(0, |(id, _)| id.value() + 1))
}

fn mark(database: &Database) -> Result<Mark, Error> {
    let table = database.begin_read()?.open_table(LOG)?;
    let number = |name: &str| Ok::<u64, Error>(table.get(name)?.map_or(0, |number| number.value()));
    let log = Uuid::from_u64_pair(number("id")?, number("id.low")?).as_u128();
    let position = Position { segment: number("segment")?, offset: number("offset")?, sequence: number("sequence")? };
    Ok(Mark { log, position, next_segment: number("next")? })
}

/// The newest time that was given out, in microseconds of Unix time.
pub fn newest_time(index: &ReadTransaction) -> Result<u64, Error> {
    Ok(index.open_table(META)?.get("clock")?.map_or(0, |newest| newest.value()))
}

/// Finds a bucket, or says that there is none.
pub fn bucket(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    project: &ProjectId,
    bucket: &BucketName,
) -> Result<BucketRow, Error> {
    match table.get((project.as_str(), bucket.as_str()))? {
        Some(row) => rows::decode("a bucket", row.value()),
        None => Err(Error::NoSuchBucket { bucket: bucket.clone() }),
    }
}

impl Writing<'_> {
    /// Counts a piece's place as in use.
    pub fn hold(&mut self, piece: &Piece) -> Result<(), Error> {
        match piece.place {
            Place::Large(id) => {
                self.large.insert(id.as_u128(), ())?;
                self.added_large = true;
            }
            Place::Packed { segment, .. } => self.use_more(segment, piece.length, 1),
        }
        Ok(())
    }

    /// Counts a piece's place as free.
    pub fn free(&mut self, piece: &Piece) -> Result<(), Error> {
        match piece.place {
            Place::Large(id) => {
                self.large.remove(id.as_u128())?;
                self.freed.push(id);
            }
            Place::Packed { segment, .. } => self.use_more(segment, piece.length, -1),
        }
        Ok(())
    }

    /// The time, in microseconds of Unix time: higher than any that this store ever gave out, whatever was done to the
    /// system's clock. Numbers of versions are such times.
    pub fn now(&mut self) -> u64 {
        self.newest = self.clock.microseconds().max(self.newest + 1);
        self.newest
    }

    fn use_more(&mut self, segment: u64, length: u64, pieces: i64) {
        let used = self.used.entry(segment).or_default();
        used.0 += pieces * signed(seal::sealed_length(length));
        used.1 += pieces;
    }

    /// Counts current objects of a bucket, and their bytes.
    pub fn count(&mut self, project: &str, bucket: &str, objects: i64, bytes: i64) -> Result<(), Error> {
        self.counted(project, bucket, Usage { objects, bytes, ..Usage::default() });
        Ok(())
    }

    /// Counts versions that are not current objects, and their bytes.
    pub fn count_older(&mut self, project: &str, bucket: &str, older: i64, older_bytes: i64) {
        self.counted(project, bucket, Usage { older, older_bytes, ..Usage::default() });
    }

    /// Counts parts of uploads that are not complete, and their bytes.
    pub fn count_parts(&mut self, project: &str, bucket: &str, parts: i64, part_bytes: i64) {
        self.counted(project, bucket, Usage { parts, part_bytes, ..Usage::default() });
    }

    fn counted(&mut self, project: &str, bucket: &str, more: Usage<i64>) {
        *self.counts.entry((project.to_owned(), bucket.to_owned())).or_default() += more;
    }

    /// Forgets what a bucket held that is removed.
    pub fn forget_counts(&mut self, project: &str, bucket: &str) -> Result<(), Error> {
        self.counts.remove(&(project.to_owned(), bucket.to_owned()));
        self.usage.remove((project, bucket))?;
        Ok(())
    }

    /// Writes the sums of the batch. Comes after its last change.
    pub fn finish(&mut self) -> Result<(), Error> {
        if self.newest != self.noted {
            self.meta.insert("clock", self.newest)?;
        }
        for (segment, (bytes, pieces)) in std::mem::take(&mut self.used) {
            let before = self.segments.get(segment)?.map_or((0, 0), |used| used.value());
            let after = (before.0.saturating_add_signed(bytes), before.1.saturating_add_signed(pieces));
            if after.1 == 0 {
                self.segments.remove(segment)?;
                self.dead.push(segment);
            } else if after != before {
                self.segments.insert(segment, after)?;
            }
        }
        for ((project, bucket), more) in std::mem::take(&mut self.counts) {
            let key = (project.as_str(), bucket.as_str());
            let before = self.usage.get(key)?.map_or_else(Usage::default, |row| Usage::of(row.value()));
            self.usage.insert(key, before.plus(more).row())?;
        }
        Ok(())
    }

    /// Frees what an object's bytes take.
    pub fn free_data(&mut self, row: &ObjectRow) -> Result<(), Error> {
        match &row.data {
            Data::Empty => Ok(()),
            Data::One(piece) => self.free(piece),
            Data::Many(id) => {
                let id = id.as_u128();
                let old = pieces(&self.pieces, id, 0, u64::MAX)?;
                for (start, row) in &old {
                    self.pieces.remove((id, *start))?;
                    self.free(&row.piece)?;
                }
                Ok(())
            }
        }
    }

    /// Finds an upload, or says that there is none.
    pub fn upload(&self, project: &ProjectId, bucket: &BucketName, key: &str, id: Uuid) -> Result<UploadRow, Error> {
        upload(&self.uploads, project, bucket, key, id)
    }

    /// Removes an upload, and returns its parts, whose places are still held.
    pub fn take_upload(
        &mut self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &[u8],
        id: Uuid,
    ) -> Result<Vec<(u32, PartRow)>, Error> {
        self.uploads.remove((project.as_str(), bucket.as_str(), key, id.as_u128()))?;
        let parts = parts(&self.parts, id, 0, u32::MAX as usize)?;
        for (number, part) in &parts {
            self.parts.remove((id.as_u128(), *number))?;
            self.count_parts(project.as_str(), bucket.as_str(), -1, -signed(part.size));
        }
        Ok(parts)
    }
}

/// Finds an upload, or says that there is none.
pub fn upload(
    table: &impl ReadableTable<UploadKey, &'static [u8]>,
    project: &ProjectId,
    bucket: &BucketName,
    key: &str,
    id: Uuid,
) -> Result<UploadRow, Error> {
    match table.get((project.as_str(), bucket.as_str(), key.as_bytes(), id.as_u128()))? {
        Some(row) => rows::decode("an upload", row.value()),
        None => Err(Error::NoSuchUpload),
    }
}

/// Parts of an upload with numbers above `after`, `most` of them.
pub fn parts(
    table: &impl ReadableTable<(u128, u32), &'static [u8]>,
    upload: Uuid,
    after: u32,
    most: usize,
) -> Result<Vec<(u32, PartRow)>, Error> {
    let upload = upload.as_u128();
    let from = (upload, after.saturating_add(1));
    let mut found = Vec::new();
    for entry in table.range(from..=(upload, u32::MAX))?.take(most) {
        let (key, row) = entry?;
        found.push((key.value().1, rows::decode("a part", row.value())?));
    }
    Ok(found)
}

/// The pieces that hold bytes `from..to` of data in many pieces, with where each begins.
pub fn pieces(
    table: &impl ReadableTable<(u128, u64), &'static [u8]>,
    id: u128,
    from: u64,
    to: u64,
) -> Result<Vec<(u64, PieceRow)>, Error> {
    let first = table.range((id, 0)..=(id, from))?.next_back().transpose()?.map_or(0, |(key, _)| key.value().1);
    let mut found = Vec::new();
    for entry in table.range((id, first)..=(id, to))? {
        let (key, row) = entry?;
        if key.value().1 < to {
            found.push((key.value().1, rows::decode("a piece", row.value())?));
        }
    }
    Ok(found)
}

/// A count of bytes as a change.
pub fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

const FORMAT: u64 = 2;
const BEFORE_LOG: u64 = 1;
/// For those that read or write, before the index is checked.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The most that is kept of the index in memory; it grows with use.
const CACHE: usize = 24 << 20;
