//! Rows of the index, as JSON: a field that a later version adds is absent in older rows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;

/// A bucket. Every call reads it, so that it is small: documents of a bucket stand in a table of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    /// When it was made, in milliseconds of Unix time.
    pub created: i64,
    /// Whose it is, as the one who made it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether a write keeps what was there.
    #[serde(default)]
    pub versioning: Versioning,
    /// Whether versions can be locked; once so, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockSettings>,
    /// How objects are sealed whose writer does not say.
    #[serde(default)]
    pub encryption: Sealing,
    /// What keeps it from the public.
    #[serde(default)]
    pub public_block: PublicBlock,
    /// The name of the S3 service elsewhere in which its objects are; `None`: they are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
    /// Who owns objects that others write.
    #[serde(default)]
    pub ownership: Ownership,
    /// Which documents it has.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub documents: BTreeSet<Kind>,
}

/// Whether a bucket keeps what a write or a delete replaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// It does not, and never did.
    #[default]
    Off,
    /// Each write makes a version, each delete a marker.
    Enabled,
    /// Old versions stay; a write makes or replaces the version `null`.
    Suspended,
}

/// Object lock of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSettings {
    /// For how long a new version is kept whose writer does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<DefaultRetention>,
}

/// For how long a new version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRetention {
    pub mode: Mode,
    pub period: Period,
}

/// A time from a write on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Period {
    /// Of 24 hours each.
    Days(u32),
    /// Of the calendar, in UTC.
    Years(u32),
}

/// How hard a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Those with a right of its own may lift it.
    Governance,
    /// Nobody may.
    Compliance,
}

/// Until when a version cannot be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    pub mode: Mode,
    /// In milliseconds of Unix time.
    pub until: i64,
}

/// How an object's data key is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sealing {
    /// Wrapped by the project's key.
    #[default]
    Project,
    /// Wrapped by the project's key, under a name of the key service.
    Kms {
        /// The name of the key.
        key: String,
    },
    /// Wrapped by a key that the customer keeps, and that by the project's.
    Customer {
        /// Random, in hexadecimal.
        salt: String,
        /// Of the customer's key under the salt, so that another key is found out; in hexadecimal.
        check: String,
    },
}

impl Sealing {
    pub fn is_project(&self) -> bool {
        *self == Sealing::Project
    }
}

/// What keeps a bucket from the public, whatever its policy says. All is on unless it was switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublicBlock {
    /// New access lists that are public are refused.
    pub block_acls: bool,
    /// Access lists that are public mean nothing.
    pub ignore_acls: bool,
    /// A policy that is public is refused.
    pub block_policy: bool,
    /// A policy that is public means nothing to others.
    pub restrict: bool,
}

impl Default for PublicBlock {
    fn default() -> PublicBlock {
        PublicBlock { block_acls: true, ignore_acls: true, block_policy: true, restrict: true }
    }
}

/// Who owns objects that others write into a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// The bucket's owner; access lists mean nothing.
    #[default]
    BucketOwnerEnforced,
    /// The bucket's owner, if the writer says so.
    BucketOwnerPreferred,
    /// The writer.
    ObjectWriter,
}

/// The documents that a bucket can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Who may what, in the AWS language.
    Policy,
    /// Which web origins may call.
    Cors,
    /// What is removed when; see [`crate::lifecycle`].
    Lifecycle,
    /// Whom to tell of changes.
    Notification,
    /// Tags of the bucket.
    Tagging,
    /// Metadata that Swift has for it as a container.
    Container,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Policy, Kind::Cors, Kind::Lifecycle, Kind::Notification, Kind::Tagging, Kind::Container];

    /// Its name in the index.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Policy => "policy",
            Kind::Cors => "cors",
            Kind::Lifecycle => "lifecycle",
            Kind::Notification => "notification",
            Kind::Tagging => "tagging",
            Kind::Container => "container",
        }
    }
}

/// Names and values that a caller gives to an object or a bucket.
pub type Tags = BTreeMap<String, String>;

/// An object, or a version of one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ObjectRow {
    /// Bytes of it.
    pub size: u64,
    /// Entity tag, without quotes.
    pub etag: String,
    /// When it was written, in milliseconds of Unix time.
    pub modified: i64,
    /// What its writer said of it.
    pub about: About,
    /// A checksum over it that was verified when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<Sum>,
    /// Where its bytes are.
    pub data: Data,
    /// How many parts it was uploaded in; 0 if whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parts: u32,
    /// The upload that made it, so that completing it again gets the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Uuid>,
    /// Its number: higher than that of any version before; see [`crate::versions`].
    #[serde(default)]
    pub version: u64,
    /// Whether it was written while versioning was off or suspended. Each key has at most one such version.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub null: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Until when it cannot be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether it cannot be removed until this is lifted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// How its data key is kept.
    #[serde(default, skip_serializing_if = "Sealing::is_project")]
    pub sealing: Sealing,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// A version that says that the object was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Its number.
    pub version: u64,
    /// As of an object.
    #[serde(default)]
    pub null: bool,
    /// When it was made, in milliseconds of Unix time.
    pub modified: i64,
}

/// A version that is not the current object of its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum VersionRow {
    Object(Box<ObjectRow>),
    Marker(Marker),
}

impl VersionRow {
    /// Its number.
    pub fn version(&self) -> u64 {
        match self {
            VersionRow::Object(row) => row.version,
            VersionRow::Marker(marker) => marker.version,
        }
    }

    /// When it was made, in milliseconds of Unix time.
    pub fn modified(&self) -> i64 {
        match self {
            VersionRow::Object(row) => row.modified,
            VersionRow::Marker(marker) => marker.modified,
        }
    }

    /// Whether it is the version `null`.
    pub fn is_null(&self) -> bool {
        match self {
            VersionRow::Object(row) => row.null,
            VersionRow::Marker(marker) => marker.null,
        }
    }
}

/// Headers and metadata that are given back as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// As RFC 3339 writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The objects whose bytes were copied into it, where it was made of such by Swift.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
}

/// An object, or a part of one, that was copied into a large one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// `/container/object`, as they were named.
    pub path: String,
    /// Its entity tag then.
    pub etag: String,
    /// Bytes that were taken.
    pub size: u64,
}

/// Where an object's bytes are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub enum Data {
    /// It has none.
    #[default]
    Empty,
    /// In one piece.
    One(Piece),
    /// In pieces, which have rows of their own under this id.
    Many(Uuid),
}

/// Bytes under one data key, in one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Piece {
    /// Bytes, before they were sealed.
    pub length: u64,
    /// The data key, wrapped by the project's key.
    #[serde(with = "base64_bytes")]
    pub key: Vec<u8>,
    /// Where.
    pub place: Place,
}

/// Where sealed bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In a file of their own.
    Large(Uuid),
    /// In a segment file, from an offset on.
    Packed { segment: u64, offset: u64 },
}

/// An upload in parts, between its beginning and its end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UploadRow {
    /// When it was begun, in milliseconds of Unix time; the store says.
    pub begun: i64,
    pub about: About,
    /// The checksum that its parts carry, and how they make the object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    #[serde(default)]
    pub full_object: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Of the object that it will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Of the object that it will be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    #[serde(default, skip_serializing_if = "Sealing::is_project")]
    pub sealing: Sealing,
}

/// A part of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartRow {
    pub size: u64,
    pub etag: String,
    pub modified: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<Sum>,
    /// `None` if it is empty.
    pub piece: Option<Piece>,
}

/// A row of the pieces of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PieceRow {
    /// The part that it came as.
    pub part: u32,
    pub piece: Piece,
    /// The part's checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<Sum>,
}

/// The algorithms of checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// A checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub algorithm: Algorithm,
    /// Base64, with `-N` behind it where it is one of N parts' checksums.
    pub value: String,
}

impl Sum {
    /// Whether it is a checksum of the parts' checksums.
    pub fn is_composite(&self) -> bool {
        self.value.contains('-')
    }
}

/// A row's bytes.
pub fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    // These types have string keys and no failing serializer of their own.
    serde_json::to_vec(row).unwrap_or_default()
}

/// A row of its bytes.
pub fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|_| Error::Damaged { what: format!("a row of {what}") })
}

mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}
