//! Why the store did not do what was asked.

use std::path::{Path, PathBuf};

use model::BucketName;

use crate::{access::BoxError, versions::VersionId};

/// Why an operation failed. Nothing was changed, but for [`Error::Io`], [`Error::Index`] and [`Error::Closed`],
/// after which what was asked may or may not have been done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such bucket in the project.
    #[error("there is no bucket {bucket}")]
    NoSuchBucket {
        /// Which.
        bucket: BucketName,
    },
    /// The project has a bucket of that name.
    #[error("the bucket {bucket} exists already")]
    BucketExists {
        /// Which.
        bucket: BucketName,
    },
    /// The project has as many buckets as it can have.
    #[error("a project has at most {most} buckets")]
    TooManyBuckets {
        /// The most.
        most: usize,
    },
    /// A bucket with objects cannot be removed.
    #[error("the bucket {bucket} is not empty")]
    NotEmpty {
        /// Which.
        bucket: BucketName,
    },
    /// There is no such object.
    #[error("there is no object of that key")]
    NoSuchKey,
    /// There is no such version of the object.
    #[error("there is no version of that id")]
    NoSuchVersion,
    /// The version is a delete marker, which has no data and no settings.
    #[error("the version is a delete marker")]
    IsMarker {
        /// Which.
        version: VersionId,
    },
    /// The text is no id of a version.
    #[error("the version id is not one of this store")]
    InvalidVersion,
    /// A retention or a legal hold keeps the version from being removed, or from what would weaken it.
    #[error("the version is locked: {0}")]
    Locked(String),
    /// Locks are of buckets that were made with object lock, or got it.
    #[error("the bucket has no object lock")]
    NoLock,
    /// A retention that cannot be.
    #[error("{0}")]
    InvalidRetention(String),
    /// The bucket's settings do not allow the change.
    #[error("{0}")]
    BucketState(String),
    /// Tags that cannot be.
    #[error("{0}")]
    InvalidTag(String),
    /// A document of a bucket is larger than it may be.
    #[error("the document has more than {most} bytes")]
    DocumentTooLarge {
        /// The most.
        most: usize,
    },
    /// The upload was never begun, or was completed or aborted.
    #[error("there is no upload of that id")]
    NoSuchUpload,
    /// A part that completes an upload is not there, or is not the one that was named.
    #[error("part {number} was not found, or its entity tag is another")]
    InvalidPart {
        /// Its number.
        number: u32,
    },
    /// The parts do not ascend.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// A part other than the last is under the least size.
    #[error("part {number} has {size} bytes; each part but the last has at least {least}")]
    PartTooSmall {
        /// Its number.
        number: u32,
        /// Its size.
        size: u64,
        /// The least.
        least: u64,
    },
    /// The object is not as the condition of the request wants it.
    #[error("a condition of the request does not hold")]
    Precondition,
    /// Something that was sent is not possible.
    #[error("{0}")]
    Invalid(String),
    /// A digest or checksum that was sent is not that of the data.
    #[error("the {what} that was sent is not that of the data")]
    BadDigest {
        /// Which, such as `CRC32`.
        what: &'static str,
    },
    /// A body did not arrive whole.
    #[error("the body could not be read: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// More than one object or part may hold.
    #[error("more than {most} bytes")]
    TooLarge {
        /// The most.
        most: u64,
    },
    /// The disk has no room for more; reads and deletes go on.
    #[error("the store's disk is full")]
    Full,
    /// Stored bytes are not those that were written. They are never returned.
    #[error("the stored data of {what} is damaged")]
    Damaged {
        /// What.
        what: String,
    },
    /// The log is damaged before its end: what was changed behind that place was answered, and cannot be read.
    #[error(
        "the log of the object store is damaged at batch {batch}, before its end ({file} from byte {byte} on); nothing \
         was removed; `casemate store check --repair-from DIR` takes what is damaged from a copy of the store"
    )]
    LogDamaged {
        /// The number of the batch that cannot be read.
        batch: u64,
        /// The segment file, within the store's directory.
        file: String,
        /// Where in it.
        byte: u64,
    },
    /// The project's key cannot be had.
    #[error("the project's key cannot be used")]
    Keys(#[from] keys::Error),
    /// Data could not be sealed.
    #[error("the data cannot be sealed")]
    Crypto(#[from] crypto::Error),
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The index failed.
    #[error("the index of objects failed")]
    Index(#[source] Box<redb::Error>),
    /// The changes that shared a transaction with this one failed; why is in the service's log.
    #[error("the change could not be written")]
    NotWritten,
    /// The region of a project could not be told.
    #[error("the region of the project could not be told")]
    Home(#[source] BoxError),
    /// The data of this change could not be written; why is in the service's log.
    #[error("the data could not be written")]
    NotPlaced,
    /// A range lies behind the end of the object.
    #[error("the range is not in the object's {size} bytes")]
    InvalidRange {
        /// The object's size.
        size: u64,
    },
    /// Buckets that live in an S3 service elsewhere do not have it.
    #[error("a bucket that lives in an external object store has no {0}")]
    NotThere(&'static str),
    /// An entry did not get into the audit log.
    #[error("the audit log failed")]
    Audit(#[source] audit::Error),
    /// The S3 service elsewhere that keeps the bucket did not do it.
    #[error("the external object store failed: {0}")]
    External(String),
    /// Another process has the store open.
    #[error("the store is in use by another process")]
    InUse,
    /// The store is closed, or closing.
    #[error("the store is closed")]
    Closed,
}

/// Makes an I/O error say where it happened; a full disk is a case of its own.
pub(crate) fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::Full,
        _ => Error::Io { path: path.to_owned(), source },
    }
}

impl Error {
    /// Whether the index or the log failed, so that all that shared a transaction is lost.
    pub(crate) fn ends_transaction(&self) -> bool {
        matches!(self, Error::Full | Error::Io { .. } | Error::Index(_) | Error::NotWritten | Error::Closed)
    }

    /// Whether the store itself failed.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(
            self,
            Error::Full
                | Error::Damaged { .. }
                | Error::LogDamaged { .. }
                | Error::Keys(_)
                | Error::Crypto(_)
                | Error::Io { .. }
                | Error::Index(_)
                | Error::NotWritten
                | Error::Closed
        )
    }
}

macro_rules! from_redb {
    ($($kind:ident),*) => {
        $(impl From<redb::$kind> for Error {
            fn from(source: redb::$kind) -> Error {
                match redb::Error::from(source) {
                    redb::Error::Io(cause) if matches!(
                        cause.kind(),
                        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                    ) => Error::Full,
                    other => Error::Index(Box::new(other)),
                }
            }
        })*
    };
}
from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError);
