//! The index: which objects there are, and where their bytes are. One redb file, a transaction a batch of changes.
//!
//! Names of buckets, keys of objects, metadata, entity tags and checksums are in it in clear, in a file of mode 0600;
//! the bytes of objects are not, and data keys only wrapped.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use model::{BucketName, ProjectId};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use uuid::Uuid;

use crate::{
    Error,
    clock::Clock,
    error::at,
    rows::{self, BucketRow, Data, ObjectRow, PartRow, Piece, PieceRow, Place, UploadRow},
    seal,
};

/// Of a bucket: project and name.
pub const BUCKETS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("buckets");
/// Of an object: project, bucket, key; keys as bytes, so that their order is that of S3.
pub const OBJECTS: TableDefinition<ObjectKey, &[u8]> = TableDefinition::new("objects");
/// Of a version that is not a key's current object: project, bucket, key, and its number counted down from the
/// highest, so that the newest comes first. See [`crate::versions`].
pub const VERSIONS: TableDefinition<VersionKey, &[u8]> = TableDefinition::new("versions");
/// The number of a key's version `null`, if that is in [`VERSIONS`].
pub const NULLS: TableDefinition<ObjectKey, u64> = TableDefinition::new("nulls");
/// Of a document of a bucket: project, bucket, kind.
pub const DOCUMENTS: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("documents");
/// Of a piece of an object in many: the id of its data, and at which byte of the object it begins.
pub const PIECES: TableDefinition<(u128, u64), &[u8]> = TableDefinition::new("pieces");
/// Of an upload: project, bucket, key, id.
pub const UPLOADS: TableDefinition<UploadKey, &[u8]> = TableDefinition::new("uploads");
/// Of a part: upload and number.
pub const PARTS: TableDefinition<(u128, u32), &[u8]> = TableDefinition::new("parts");
/// Of a segment file: how many of its bytes, and how many pieces in it, are of use.
pub const SEGMENTS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("segments");
/// Large files that are of use; any other is an orphan.
pub const LARGE: TableDefinition<u128, ()> = TableDefinition::new("large");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

pub type ObjectKey = (&'static str, &'static str, &'static [u8]);
pub type VersionKey = (&'static str, &'static str, &'static [u8], u64);
pub type UploadKey = (&'static str, &'static str, &'static [u8], u128);

/// The open index.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    /// What time it is.
    pub clock: Clock,
    /// `None` while it is opened again after an I/O error, and after the store was closed.
    database: RwLock<Option<Database>>,
}

impl Index {
    /// Opens the index in `path`; makes it if there is none.
    pub fn open(path: &Path, clock: Clock) -> Result<Index, Error> {
        let database = open(path)?;
        let transaction = database.begin_write()?;
        {
            transaction.open_table(BUCKETS)?;
            transaction.open_table(OBJECTS)?;
            transaction.open_table(VERSIONS)?;
            transaction.open_table(NULLS)?;
            transaction.open_table(DOCUMENTS)?;
            transaction.open_table(PIECES)?;
            transaction.open_table(UPLOADS)?;
            transaction.open_table(PARTS)?;
            transaction.open_table(SEGMENTS)?;
            transaction.open_table(LARGE)?;
            let mut meta = transaction.open_table(META)?;
            let format = meta.get("format")?.map(|value| value.value());
            match format {
                None => drop(meta.insert("format", FORMAT)?),
                Some(FORMAT) => {}
                Some(other) => return Err(Error::Damaged { what: format!("an index of format {other}") }),
            }
        }
        transaction.commit()?;
        Ok(Index { path: path.to_owned(), clock, database: RwLock::new(Some(database)) })
    }

    /// A view of what is committed.
    pub fn read(&self) -> Result<ReadTransaction, Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or(Error::Closed)?.begin_read()?)
    }

    /// The transaction of one batch of changes.
    pub fn write(&self) -> Result<WriteTransaction, Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or(Error::Closed)?.begin_write()?)
    }

    /// After an I/O error redb answers nothing until it is opened again.
    pub fn reopen(&self) -> Result<(), Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        *database = Some(open(&self.path)?);
        Ok(())
    }

    /// Closes the file; nothing is answered after.
    pub fn close(&self) {
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn open(path: &Path) -> Result<Database, Error> {
    // redb would make it readable by all.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(at(path))?;
    Ok(Database::builder().set_cache_size(CACHE).create(path)?)
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

/// The tables of a batch, and what it frees.
pub struct Writing<'t> {
    pub buckets: Table<'t, (&'static str, &'static str), &'static [u8]>,
    pub objects: Table<'t, ObjectKey, &'static [u8]>,
    pub versions: Table<'t, VersionKey, &'static [u8]>,
    pub nulls: Table<'t, ObjectKey, u64>,
    pub documents: Table<'t, (&'static str, &'static str, &'static str), &'static [u8]>,
    pub pieces: Table<'t, (u128, u64), &'static [u8]>,
    pub uploads: Table<'t, UploadKey, &'static [u8]>,
    pub parts: Table<'t, (u128, u32), &'static [u8]>,
    segments: Table<'t, u64, (u64, u64)>,
    large: Table<'t, u128, ()>,
    meta: Table<'t, &'static str, u64>,
    clock: Clock,
    /// The newest time that was given out, in microseconds of Unix time.
    newest: u64,
    /// Large files that are of no use once this is committed.
    pub freed: Vec<Uuid>,
    /// Segments in which nothing is of use once this is committed.
    pub dead: Vec<u64>,
    /// Whether large files were added, whose names in their directory must be durable too.
    pub added_large: bool,
}

impl<'t> Writing<'t> {
    /// Over a transaction.
    pub fn new(transaction: &'t WriteTransaction, clock: &Clock) -> Result<Writing<'t>, Error> {
        let meta = transaction.open_table(META)?;
        let newest = meta.get("clock")?.map_or(0, |newest| newest.value());
        Ok(Writing {
            buckets: transaction.open_table(BUCKETS)?,
            objects: transaction.open_table(OBJECTS)?,
            versions: transaction.open_table(VERSIONS)?,
            nulls: transaction.open_table(NULLS)?,
            documents: transaction.open_table(DOCUMENTS)?,
            pieces: transaction.open_table(PIECES)?,
            uploads: transaction.open_table(UPLOADS)?,
            parts: transaction.open_table(PARTS)?,
            segments: transaction.open_table(SEGMENTS)?,
            large: transaction.open_table(LARGE)?,
            meta,
            clock: clock.clone(),
            newest,
            freed: Vec::new(),
            dead: Vec::new(),
            added_large: false,
        })
    }

    /// Counts a piece's place as in use.
    pub fn hold(&mut self, piece: &Piece) -> Result<(), Error> {
        match piece.place {
            Place::Large(id) => {
                self.large.insert(id.as_u128(), ())?;
                self.added_large = true;
            }
            Place::Packed { segment, .. } => {
                let (bytes, count) = self.segments.get(segment)?.map_or((0, 0), |live| live.value());
                self.segments.insert(segment, (bytes + seal::sealed_length(piece.length), count + 1))?;
                self.dead.retain(|dead| *dead != segment);
            }
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
            Place::Packed { segment, .. } => {
                let (bytes, count) = self.segments.get(segment)?.map_or((0, 0), |live| live.value());
                if count <= 1 {
                    self.segments.remove(segment)?;
                    self.dead.push(segment);
                } else {
                    let left = bytes.saturating_sub(seal::sealed_length(piece.length));
                    self.segments.insert(segment, (left, count - 1))?;
                }
            }
        }
        Ok(())
    }

    /// The time, in microseconds of Unix time: higher than any that this store ever gave out, whatever was done to the
    /// system's clock. Numbers of versions are such times.
    pub fn now(&mut self) -> u64 {
        self.newest = self.clock.microseconds().max(self.newest + 1);
        self.newest
    }

    /// Keeps the newest time that was given out. Comes after the last change of a batch.
    pub fn keep_time(&mut self) -> Result<(), Error> {
        if self.meta.get("clock")?.is_none_or(|kept| kept.value() < self.newest) {
            self.meta.insert("clock", self.newest)?;
        }
        Ok(())
    }

    /// Counts current objects and their bytes.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the counters' table comes with the engine")]
    pub fn count(&mut self, _project: &str, _bucket: &str, _objects: i64, _bytes: i64) -> Result<(), Error> {
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
        for (number, _) in &parts {
            self.parts.remove((id.as_u128(), *number))?;
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

const FORMAT: u64 = 1;
/// Kept small: `serve` as a whole idles in 64 MiB.
const CACHE: usize = 8 << 20;
