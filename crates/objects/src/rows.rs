//! Rows of the index, as JSON: a field that a later version adds is absent in older rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;

/// A bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BucketRow {
    /// When it was made, in milliseconds of Unix time.
    pub created: i64,
}

/// An object.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    #[serde(default)]
    pub parts: u32,
    /// The upload that made it, so that completing it again gets the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Uuid>,
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
}

/// Where an object's bytes are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Data {
    /// It has none.
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadRow {
    pub begun: i64,
    pub about: About,
    /// The checksum that its parts carry, and how they make the object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    #[serde(default)]
    pub full_object: bool,
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
