//! Between S3's values and the store's.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, StatusCode};
use s3s::{
    S3Error, S3ErrorCode, S3Result, TrailingHeaders,
    dto::{
        Checksum, ChecksumType, ETag, ETagCondition, Metadata, ServerSideEncryption, Tag, TagSet, Timestamp,
        TimestampFormat,
    },
    s3_error,
};
use uuid::Uuid;

use crate::{
    call::Call,
    digests::Digested,
    put::{self, Condition, Target},
    rows::{About, Algorithm, Mode, ObjectRow, Sealing, Sum, Tags, Versioning},
    versions::VersionId,
};

/// A bucket's name, with or without its project, which was looked at when the call was admitted.
pub fn bucket_name(name: &str) -> S3Result<model::BucketName> {
    crate::host::name_of(name).parse().map_err(|cause: model::InvalidId| s3_error!(InvalidBucketName, "{cause}"))
}

/// An object of the call's project.
pub fn target(call: &Call, bucket: &str, key: &str) -> S3Result<Target> {
    if key.is_empty() {
        return Err(s3_error!(UserKeyMustBeSpecified, "a key has at least one byte"));
    }
    if key.len() > LONGEST_KEY {
        return Err(s3_error!(KeyTooLongError, "a key has at most {LONGEST_KEY} bytes"));
    }
    Ok(Target { project: call.project()?.clone(), bucket: bucket_name(bucket)?, key: key.to_owned() })
}

/// Which version is meant; `None` is the current one.
pub fn version(text: Option<&str>) -> S3Result<Option<VersionId>> {
    Ok(text.map(str::parse).transpose()?)
}

/// How a version is named in an answer: not at all, where the bucket never had versions.
pub fn version_of(call: &Call, row: &ObjectRow) -> Option<String> {
    named_version(call, row.id())
}

/// The same of any version.
pub fn named_version(call: &Call, id: VersionId) -> Option<String> {
    let versioning = call.settings().map(|bucket| bucket.versioning).unwrap_or_default();
    (versioning != Versioning::Off || id != VersionId::Null).then(|| id.to_string())
}

/// An upload's id; one of no such form is not there.
pub fn upload_id(text: &str) -> S3Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| crate::Error::NoSuchUpload.into())
}

/// Milliseconds of Unix time as S3's time.
pub fn time(milliseconds: i64) -> Timestamp {
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    Timestamp::from(SystemTime::UNIX_EPOCH + since)
}

/// The same to the second, as conditions and headers have it.
pub fn second(milliseconds: i64) -> Timestamp {
    time(milliseconds.div_euclid(1000) * 1000)
}

/// A time of a header, as a row holds it.
pub fn text_of(at: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    at.format(TimestampFormat::DateTime, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// A time that a row holds.
pub fn time_of(text: &str) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::DateTime, text).ok()
}

/// An entity tag as S3 writes it.
pub fn etag(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

/// The conditions of a write.
pub fn condition(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> Condition {
    let tag = |condition| match condition {
        ETagCondition::Any => put::Tag::Any,
        ETagCondition::ETag(etag) => put::Tag::Is(etag.into_value()),
    };
    Condition { matches: if_match.map(tag), none_matches: if_none_match.map(tag) }
}

/// What a writer says of an object.
#[derive(Default)]
pub struct Said {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<Timestamp>,
    pub metadata: Option<Metadata>,
}

impl Said {
    /// As a row holds it.
    pub fn about(self) -> S3Result<About> {
        let metadata: BTreeMap<String, String> = self.metadata.unwrap_or_default().into_iter().collect();
        if metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MOST_METADATA {
            return Err(s3_error!(MetadataTooLarge, "metadata has at most {MOST_METADATA} bytes"));
        }
        // The transfer's own encoding is not the object's.
        let content_encoding = self.content_encoding.map(|encodings| {
            let kept = encodings.split(',').map(str::trim).filter(|encoding| *encoding != "aws-chunked");
            kept.collect::<Vec<_>>().join(",")
        });
        Ok(About {
            content_type: self.content_type,
            cache_control: self.cache_control,
            content_disposition: self.content_disposition,
            content_encoding: content_encoding.filter(|encoding| !encoding.is_empty()),
            content_language: self.content_language,
            expires: self.expires.as_ref().and_then(text_of),
            metadata,
            ..About::default()
        })
    }
}

/// Metadata as S3 gives it back.
pub fn metadata(about: &About) -> Option<Metadata> {
    (!about.metadata.is_empty()).then(|| about.metadata.clone().into_iter().collect())
}

/// Fills the fields that say how data is sealed, which many of S3's structures have.
macro_rules! with_sealing {
    ($sealing:expr, $customer:expr, $output:expr) => {{
        let mut output = $output;
        let customer: Option<&$crate::sse::CustomerKey> = $customer;
        output.sse_customer_algorithm = customer.map(|_| ServerSideEncryption::AES256.to_owned());
        output.sse_customer_key_md5 = customer.map(|customer| customer.md5.clone());
        (output.server_side_encryption, output.ssekms_key_id) = $crate::s3::convert::sealing($sealing);
        output
    }};
}
pub(super) use with_sealing;

/// The customer's key of a request that has fields for one.
macro_rules! customer_key {
    ($call:expr, $input:expr) => {
        $crate::sse::CustomerKey::new(
            $input.sse_customer_algorithm.as_deref(),
            $input.sse_customer_key.as_deref(),
            $input.sse_customer_key_md5.as_deref(),
            $call.is_private(),
        )
    };
}
pub(super) use customer_key;

/// The same of the source of a copy.
macro_rules! source_key {
    ($call:expr, $input:expr) => {
        $crate::sse::CustomerKey::new(
            $input.copy_source_sse_customer_algorithm.as_deref(),
            $input.copy_source_sse_customer_key.as_deref(),
            $input.copy_source_sse_customer_key_md5.as_deref(),
            $call.is_private(),
        )
    };
}
pub(super) use source_key;

/// How data is sealed, and under which name of the key service.
pub fn sealing(sealing: &Sealing) -> (Option<ServerSideEncryption>, Option<String>) {
    match sealing {
        Sealing::Project => (Some(ServerSideEncryption::from_static(ServerSideEncryption::AES256)), None),
        Sealing::Kms { key } => {
            (Some(ServerSideEncryption::from_static(ServerSideEncryption::AWS_KMS)), Some(key.clone()))
        }
        Sealing::Customer { .. } => (None, None),
    }
}

/// A time in milliseconds of Unix time.
pub fn milliseconds(at: &Timestamp) -> Option<i64> {
    Some(text_of(at)?.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}

/// A mode of retention by its name.
pub fn mode(name: &str) -> S3Result<Mode> {
    match name {
        "GOVERNANCE" => Ok(Mode::Governance),
        "COMPLIANCE" => Ok(Mode::Compliance),
        _ => Err(s3_error!(MalformedXML, "the mode of a retention is GOVERNANCE or COMPLIANCE")),
    }
}

/// The name of a mode.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Governance => "GOVERNANCE",
        Mode::Compliance => "COMPLIANCE",
    }
}

/// Whether a hold is on, by its name.
pub fn hold(name: &str) -> S3Result<bool> {
    match name {
        "ON" => Ok(true),
        "OFF" => Ok(false),
        _ => Err(s3_error!(MalformedXML, "a legal hold is ON or OFF")),
    }
}

/// Tags as a document has them.
pub fn tags(set: TagSet) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for tag in set {
        let name = tag.key.ok_or_else(|| s3_error!(MalformedXML, "a tag has no key"))?;
        if tags.insert(name, tag.value.unwrap_or_default()).is_some() {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(tags)
}

/// Tags for a document.
pub fn tag_set(tags: Tags) -> TagSet {
    tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}

/// Digests that a sender says the data has.
#[derive(Default)]
pub struct Expected {
    md5: Option<[u8; 16]>,
    sum: Option<Sum>,
    /// The algorithm of a checksum that comes behind the data.
    trailer: Option<Algorithm>,
    /// The algorithm that was asked for, without a value.
    asked: Option<Algorithm>,
}

impl Expected {
    /// From the fields and headers of a request.
    pub fn new(md5: Option<&str>, sums: Checksum, asked: Option<&str>, headers: &HeaderMap) -> S3Result<Expected> {
        let md5 = match md5 {
            None => None,
            Some(text) => {
                let bytes = BASE64.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                Some(bytes.ok_or_else(|| s3_error!(InvalidDigest, "Content-MD5 is not 16 bytes in Base64"))?)
            }
        };
        let trailer = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).and_then(|names| {
            names.split(',').find_map(|name| Algorithm::parse(name.trim().strip_prefix("x-amz-checksum-")?))
        });
        let asked = match asked {
            None | Some("") => None,
            Some(name) => Some(
                Algorithm::parse(name).ok_or_else(|| s3_error!(InvalidRequest, "the checksum algorithm is unknown"))?,
            ),
        };
        Ok(Expected { md5, sum: sum_of(sums)?, trailer, asked })
    }

    /// Which checksum to make.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.sum.as_ref().map(|sum| sum.algorithm).or(self.trailer).or(self.asked)
    }

    /// Compares with what the data has, once it has been read to its end and the trailers are there.
    pub fn check(self, digested: &Digested, trailers: Option<&TrailingHeaders>) -> S3Result<()> {
        if self.md5.is_some_and(|md5| md5 != digested.md5) {
            return Err(crate::Error::BadDigest { what: "Content-MD5" }.into());
        }
        let sent = match (self.sum, self.trailer) {
            (Some(sum), _) => Some(sum),
            (None, Some(algorithm)) => {
                let name = format!("x-amz-checksum-{}", algorithm.name().to_ascii_lowercase());
                let value = trailers
                    .and_then(|trailers| trailers.read(|headers| headers.get(&name).cloned()).flatten())
                    .and_then(|value| value.to_str().ok().map(|value| value.trim().to_owned()))
                    .ok_or_else(|| malformed_trailer(&name))?;
                Some(Sum { algorithm, value })
            }
            (None, None) => None,
        };
        match sent {
            Some(sent) if digested.sum.as_ref() != Some(&sent) => {
                Err(crate::Error::BadDigest { what: sent.algorithm.name() }.into())
            }
            _ => Ok(()),
        }
    }
}

fn malformed_trailer(name: &str) -> S3Error {
    let words = format!("the trailer {name} that was announced did not come");
    let mut refusal = S3Error::with_message(S3ErrorCode::Custom("MalformedTrailerError".into()), words);
    refusal.set_status_code(StatusCode::BAD_REQUEST);
    refusal
}

/// The one checksum among the fields that S3 has for them.
pub fn sum_of(sums: Checksum) -> S3Result<Option<Sum>> {
    let mut found = [
        (Algorithm::Crc32, sums.checksum_crc32),
        (Algorithm::Crc32c, sums.checksum_crc32c),
        (Algorithm::Crc64Nvme, sums.checksum_crc64nvme),
        (Algorithm::Sha1, sums.checksum_sha1),
        (Algorithm::Sha256, sums.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(algorithm, value)| value.map(|value| Sum { algorithm, value }));
    let sum = found.next();
    if found.next().is_some() {
        return Err(s3_error!(InvalidRequest, "more than one checksum was sent"));
    }
    Ok(sum)
}

/// A checksum in the fields that S3 has for it.
pub fn checksum(sum: Option<&Sum>) -> Checksum {
    let mut fields = Checksum::default();
    if let Some(sum) = sum {
        let field = match sum.algorithm {
            Algorithm::Crc32 => &mut fields.checksum_crc32,
            Algorithm::Crc32c => &mut fields.checksum_crc32c,
            Algorithm::Crc64Nvme => &mut fields.checksum_crc64nvme,
            Algorithm::Sha1 => &mut fields.checksum_sha1,
            Algorithm::Sha256 => &mut fields.checksum_sha256,
        };
        *field = Some(sum.value.clone());
        let kind = if sum.is_composite() { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT };
        fields.checksum_type = Some(ChecksumType::from_static(kind));
    }
    fields
}

/// Fills the checksum fields that many of S3's structures have.
macro_rules! with_checksum {
    ($sum:expr, $output:expr) => {{
        let fields = $crate::s3::convert::checksum($sum);
        let mut output = $output;
        output.checksum_crc32 = fields.checksum_crc32;
        output.checksum_crc32c = fields.checksum_crc32c;
        output.checksum_crc64nvme = fields.checksum_crc64nvme;
        output.checksum_sha1 = fields.checksum_sha1;
        output.checksum_sha256 = fields.checksum_sha256;
        output
    }};
}
pub(super) use with_checksum;

/// The checksum fields that a request sent.
macro_rules! sent_checksum {
    ($input:expr) => {
        s3s::dto::Checksum {
            checksum_crc32: $input.checksum_crc32.take(),
            checksum_crc32c: $input.checksum_crc32c.take(),
            checksum_crc64nvme: $input.checksum_crc64nvme.take(),
            checksum_sha1: $input.checksum_sha1.take(),
            checksum_sha256: $input.checksum_sha256.take(),
            ..Default::default()
        }
    };
}
pub(super) use sent_checksum;

/// A number that S3 gives as signed.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count that S3 gives as signed; what is negative is refused.
pub fn count(name: &str, given: Option<i32>, most: usize) -> Result<usize, S3Error> {
    match given {
        None => Ok(most),
        Some(number) => usize::try_from(number)
            .map(|number| number.min(most))
            .map_err(|_| s3_error!(InvalidArgument, "{name} is negative")),
    }
}

/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 1024;
/// The most bytes of metadata.
const MOST_METADATA: usize = 2048;
