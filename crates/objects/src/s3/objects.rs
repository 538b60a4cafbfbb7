//! Writes and reads of objects.

use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::{
    S3Error, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{Range as RangeHeader, *},
    s3_error,
};

use super::{
    convert::{
        Expected, checksum, condition, count, customer_key, etag, metadata, mode_name, named_version, second,
        sent_checksum, signed, target, time, time_of, version, version_of, with_checksum, with_sealing,
    },
    given::given,
};
use crate::{
    Error,
    call::Call,
    decide::Wish,
    digests::Digested,
    lifecycle,
    open::Opened,
    put::Target,
    rows::{Algorithm, Kind, ObjectRow, VersionRow},
    seal::Sealed,
    sse::{self, CustomerKey},
    store::MOST_LISTED,
    versions::{Found, VersionId},
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn put_object(call: &Call, mut request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
    let input = &mut request.input;
    let target = target(call, &input.bucket, &input.key)?;
    if input.write_offset_bytes.is_some() {
        return Err(s3_error!(NotImplemented, "appended writes are not supported"));
    }
    let (writes, wanted) = given!(call, input).writes(call)?;
    let asked = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
    let expected = Expected::new(input.content_md5.as_deref(), sent_checksum!(input), asked, &request.headers)?;
    let condition = condition(input.if_match.take(), input.if_none_match.take());
    // What cannot succeed is refused before its body is read; the write itself checks again.
    condition.check(call.store().find(&target, None).await?.object().as_ref())?;

    let algorithm = expected.algorithm();
    let data = receive(call, &target, input.body.take(), input.content_length, algorithm).await?;
    expected.check(&data.1, request.trailing_headers.as_ref())?;
    let row = call.store().put(target.clone(), writes, wanted.wrap(data)?, condition).await?;
    Ok(S3Response::new(with_sealing!(
        &row.sealing,
        wanted.customer.as_ref(),
        with_checksum!(
            row.sum.as_ref(),
            PutObjectOutput {
                e_tag: Some(etag(&row.etag)),
                checksum_type: checksum(row.sum.as_ref()).checksum_type,
                expiration: expiration(call, &target, &row).await?,
                version_id: version_of(call, &row),
                ..Default::default()
            }
        )
    )))
}

/// Reads a body to its end and seals it.
pub async fn receive(
    call: &Call,
    target: &Target,
    body: Option<StreamingBlob>,
    length: Option<i64>,
    algorithm: Option<Algorithm>,
) -> S3Result<(Sealed, Digested)> {
    if length.and_then(|length| u64::try_from(length).ok()).is_some_and(|length| length > MOST_BODY) {
        return Err(Error::TooLarge { most: MOST_BODY }.into());
    }
    let empty = || futures::stream::empty().boxed();
    let body = body.map_or_else(empty, |body| body.map_err(Error::Body).boxed());
    let (sealed, digested) = call.store().seal(&target.project, body, algorithm, MOST_BODY).await?;
    if length.is_some_and(|length| length != signed(sealed.length)) {
        return Err(s3_error!(IncompleteBody, "the body has another length than was said"));
    }
    Ok((sealed, digested))
}

pub async fn post_object(_: &Call, _: S3Request<PostObjectInput>) -> Answer<PostObjectOutput> {
    // `s3s` would make a `PutObject` of it, from a body that it holds in memory. Forms are read before; see `post`.
    Err(s3_error!(NotImplemented, "that form is not one of an upload"))
}

pub async fn get_object(call: &Call, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
    let input = request.input;
    let customer = customer_key!(call, input)?;
    let target = target(call, &input.bucket, &input.key)?;
    let opened = open(call, &target, input.version_id.as_deref(), customer.as_ref()).await?;
    let wishes = Wishes {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    wishes.check(&opened.row)?;
    let (opened, range, is_part) = select(call, opened, input.range, input.part_number).await?;
    let row = opened.row.clone();
    let partial = range.is_some();
    let range = range.unwrap_or(0..row.size);
    let length = signed(range.end - range.start);
    let content_range = partial.then(|| content_range(&range, row.size));
    let reading = call.store().source(opened, range).await?.stream().await?;
    let about = row.about.clone();
    // A checksum is of the whole object, and means nothing for a part of it.
    let sum = row.sum.as_ref().filter(|_| !partial && input.checksum_mode.is_some());
    let shown = Shown::new(call, &target, &row).await?;
    Ok(S3Response::new(with_sealing!(
        &row.sealing,
        customer.as_ref(),
        with_checksum!(
            sum,
            GetObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                body: Some(StreamingBlob::wrap(reading)),
                cache_control: about.cache_control,
                checksum_type: checksum(sum).checksum_type,
                content_disposition: about.content_disposition,
                content_encoding: about.content_encoding,
                content_language: about.content_language,
                content_length: Some(length),
                content_range,
                content_type: Some(about.content_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned())),
                e_tag: Some(etag(&row.etag)),
                expiration: shown.expiration,
                expires: about.expires.as_deref().and_then(time_of),
                last_modified: Some(second(row.modified)),
                metadata: metadata(&row.about),
                object_lock_legal_hold_status: shown.hold.map(ObjectLockLegalHoldStatus::from_static),
                object_lock_mode: shown.mode.map(ObjectLockMode::from_static),
                object_lock_retain_until_date: shown.until,
                parts_count: parts_count(&row, is_part),
                tag_count: shown.tags,
                version_id: version_of(call, &row),
                ..Default::default()
            }
        )
    )))
}

pub async fn head_object(call: &Call, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
    let input = request.input;
    let customer = customer_key!(call, input)?;
    let target = target(call, &input.bucket, &input.key)?;
    let opened = open(call, &target, input.version_id.as_deref(), customer.as_ref()).await?;
    let wishes = Wishes {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    wishes.check(&opened.row)?;
    let (opened, range, is_part) = select(call, opened, input.range, input.part_number).await?;
    let row = opened.row;
    let content_range = range.as_ref().map(|range| content_range(range, row.size));
    let sum = row.sum.as_ref().filter(|_| range.is_none() && input.checksum_mode.is_some());
    let length = range.map_or(row.size, |range| range.end - range.start);
    let about = row.about.clone();
    let shown = Shown::new(call, &target, &row).await?;
    let mut headers = overrides([
        (header::CONTENT_TYPE, input.response_content_type),
        (header::CONTENT_LANGUAGE, input.response_content_language),
        (header::CACHE_CONTROL, input.response_cache_control),
        (header::CONTENT_DISPOSITION, input.response_content_disposition),
        (header::CONTENT_ENCODING, input.response_content_encoding),
    ])?;
    if let Some(tags) = shown.tags {
        headers.insert("x-amz-tagging-count", tags.into());
    }
    let output = with_sealing!(
        &row.sealing,
        customer.as_ref(),
        with_checksum!(
            sum,
            HeadObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                cache_control: about.cache_control,
                checksum_type: checksum(sum).checksum_type,
                content_disposition: about.content_disposition,
                content_encoding: about.content_encoding,
                content_language: about.content_language,
                content_length: Some(signed(length)),
                content_range,
                content_type: Some(about.content_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned())),
                e_tag: Some(etag(&row.etag)),
                expiration: shown.expiration,
                expires: input.response_expires.or_else(|| about.expires.as_deref().and_then(time_of)),
                last_modified: Some(second(row.modified)),
                metadata: metadata(&row.about),
                object_lock_legal_hold_status: shown.hold.map(ObjectLockLegalHoldStatus::from_static),
                object_lock_mode: shown.mode.map(ObjectLockMode::from_static),
                object_lock_retain_until_date: shown.until,
                parts_count: parts_count(&row, is_part),
                version_id: version_of(call, &row),
                ..Default::default()
            }
        )
    );
    Ok(S3Response::with_headers(output, headers))
}

/// Opens a version of an object, with the customer's key if it needs one.
pub async fn open(
    call: &Call,
    target: &Target,
    named: Option<&str>,
    customer: Option<&CustomerKey>,
) -> S3Result<Opened> {
    let id = version(named)?;
    let mut opened = match call.store().open_object(target, id).await {
        Ok(opened) => opened,
        Err(cause) => return Err(missing(call, target, id, cause).await),
    };
    opened.outer = sse::to_read(&opened.row.sealing, customer)?.cloned();
    Ok(opened)
}

/// Finds a version of an object.
pub async fn found(call: &Call, target: &Target, named: Option<&str>) -> S3Result<ObjectRow> {
    let id = version(named)?;
    match call.store().find(target, id).await.and_then(|found| Found::expect_object(found, id.is_some())) {
        Ok(row) => Ok(row),
        Err(cause) => Err(missing(call, target, id, cause).await),
    }
}

/// Says why an object cannot be read: a delete marker is there, or nothing, or it is not the caller's to know.
pub async fn missing(call: &Call, target: &Target, named: Option<VersionId>, cause: Error) -> S3Error {
    let Error::IsMarker { version } = cause else { return call.hide(cause, &target.bucket).await };
    let refusal = call.hide(Error::IsMarker { version }, &target.bucket).await;
    if refusal.code() != &S3ErrorCode::MethodNotAllowed {
        return refusal;
    }
    let mut refusal = match named {
        Some(_) => refusal,
        None => S3Error::from(Error::NoSuchKey),
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Some(Ok(id)) = named_version(call, version).map(HeaderValue::try_from) {
        headers.insert("x-amz-version-id", id);
    }
    if named.is_some() {
        headers.insert(header::ALLOW, HeaderValue::from_static("DELETE"));
    }
    refusal.set_headers(headers);
    refusal
}

/// What is shown of an object to those who may see it.
#[derive(Default)]
struct Shown {
    mode: Option<&'static str>,
    until: Option<Timestamp>,
    hold: Option<&'static str>,
    tags: Option<i32>,
    expiration: Option<String>,
}

impl Shown {
    async fn new(call: &Call, target: &Target, row: &ObjectRow) -> S3Result<Shown> {
        let mut shown = Shown { expiration: expiration(call, target, row).await?, ..Shown::default() };
        let wish = Wish { bucket: Some(&target.bucket), key: Some(&target.key), ..Wish::default() };
        if let Some(retention) = row.retention
            && call.may(&Wish { action: "s3:GetObjectRetention", ..wish }).await?
        {
            shown.mode = Some(mode_name(retention.mode));
            shown.until = Some(time(retention.until));
        }
        if row.hold && call.may(&Wish { action: "s3:GetObjectLegalHold", ..wish }).await? {
            shown.hold = Some(ObjectLockLegalHoldStatus::ON);
        }
        if !row.tags.is_empty() && call.may(&Wish { action: "s3:GetObjectTagging", ..wish }).await? {
            shown.tags = i32::try_from(row.tags.len()).ok();
        }
        Ok(shown)
    }
}

/// When a rule of the bucket will remove an object, as a header says it.
async fn expiration(call: &Call, target: &Target, row: &ObjectRow) -> S3Result<Option<String>> {
    if !call.settings().is_some_and(|bucket| bucket.documents.contains(&Kind::Lifecycle)) {
        return Ok(None);
    }
    let rules = call.store().lifecycle(&target.project, &target.bucket).await?.unwrap_or_default();
    let row = VersionRow::Object(Box::new(row.clone()));
    let end = lifecycle::end_of(&rules, &target.key, &row);
    Ok(end.map(|(end, rule)| {
        format!("expiry-date=\"{}\", rule-id=\"{}\"", http_date(end), super::listing::encoded(rule, true))
    }))
}

fn http_date(at: i64) -> String {
    let mut text = Vec::new();
    match second(at).format(TimestampFormat::HttpDate, &mut text) {
        Ok(()) => String::from_utf8(text).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// Headers that a request asks to be put in the place of the object's. For `GET`, `s3s` does it.
fn overrides<const N: usize>(wanted: [(HeaderName, Option<String>); N]) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        if let Some(value) = value {
            let value =
                HeaderValue::try_from(value).map_err(|_| s3_error!(InvalidArgument, "{name} is not a header"))?;
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

pub async fn get_object_attributes(
    call: &Call,
    request: S3Request<GetObjectAttributesInput>,
) -> Answer<GetObjectAttributesOutput> {
    let input = request.input;
    let customer = customer_key!(call, input)?;
    let target = target(call, &input.bucket, &input.key)?;
    let opened = open(call, &target, input.version_id.as_deref(), customer.as_ref()).await?;
    let row = opened.row.clone();
    // `s3s` leaves a list in one header as it is.
    let named: Vec<&str> = input
        .object_attributes
        .iter()
        .flat_map(|attributes| attributes.as_str().split(','))
        .map(str::trim)
        .filter(|attribute| !attribute.is_empty())
        .collect();
    if named.is_empty() || named.iter().any(|attribute| !ATTRIBUTES.contains(attribute)) {
        return Err(s3_error!(InvalidArgument, "Invalid attribute name specified."));
    }
    let wants = |name: &str| named.contains(&name);
    let mut object_parts = None;
    if wants("ObjectParts") && row.parts > 0 {
        let most = count("x-amz-max-parts", input.max_parts, MOST_LISTED)?;
        let after = u32::try_from(input.part_number_marker.unwrap_or(0))
            .map_err(|_| s3_error!(InvalidArgument, "x-amz-part-number-marker is negative"))?;
        let (_, mut parts) = call.store().parts_of(opened, after, most).await?;
        let more = parts.len() > most;
        parts.truncate(most);
        let last = parts.last().and_then(|(number, ..)| i32::try_from(*number).ok());
        let has_sums = parts.iter().any(|(.., sum)| sum.is_some());
        let parts = parts.into_iter().map(|(number, size, sum)| {
            with_checksum!(
                sum.as_ref(),
                ObjectPart { part_number: i32::try_from(number).ok(), size: Some(signed(size)), ..Default::default() }
            )
        });
        object_parts = Some(GetObjectAttributesParts {
            is_truncated: Some(more),
            max_parts: i32::try_from(most).ok(),
            next_part_number_marker: last,
            part_number_marker: i32::try_from(after).ok(),
            // S3 lists parts where they have checksums.
            parts: has_sums.then(|| parts.collect()),
            total_parts_count: i32::try_from(row.parts).ok(),
        });
    }
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum: (wants("Checksum") && row.sum.is_some()).then(|| checksum(row.sum.as_ref())),
        e_tag: wants("ETag").then(|| etag(&row.etag)),
        last_modified: Some(second(row.modified)),
        object_parts,
        object_size: wants("ObjectSize").then(|| signed(row.size)),
        storage_class: wants("StorageClass").then(|| StorageClass::from_static(StorageClass::STANDARD)),
        version_id: version_of(call, &row),
        ..Default::default()
    }))
}

/// The conditions of a read.
pub struct Wishes {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

impl Wishes {
    /// In the order of RFC 9110, section 13.2.2: a tag that is compared makes the time of its kind not be.
    fn check(&self, row: &ObjectRow) -> S3Result<()> {
        match self.outcome(row) {
            Outcome::Holds => Ok(()),
            Outcome::Fails => Err(Error::Precondition.into()),
            Outcome::NotModified => {
                let mut refusal = S3Error::new(S3ErrorCode::NotModified);
                let mut headers = HeaderMap::new();
                if let Ok(tag) = etag(&row.etag).to_http_header() {
                    headers.insert(header::ETAG, tag);
                }
                if let Ok(modified) = HeaderValue::try_from(http_date(row.modified)) {
                    headers.insert(header::LAST_MODIFIED, modified);
                }
                refusal.set_headers(headers);
                Err(refusal)
            }
        }
    }

    /// A copy knows no answer such as `304`.
    pub fn check_copy(&self, row: &ObjectRow) -> S3Result<()> {
        match self.outcome(row) {
            Outcome::Holds => Ok(()),
            Outcome::Fails | Outcome::NotModified => Err(Error::Precondition.into()),
        }
    }

    fn outcome(&self, row: &ObjectRow) -> Outcome {
        let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|tag| tag.value() == row.etag);
        let modified = second(row.modified);
        let expected = match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) => is(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !expected {
            return Outcome::Fails;
        }
        let news = match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) => !is(condition),
            (None, Some(since)) => modified > *since,
            (None, None) => true,
        };
        if news { Outcome::Holds } else { Outcome::NotModified }
    }
}

enum Outcome {
    Holds,
    Fails,
    NotModified,
}

/// The bytes that are asked for, `None` if all; and whether they are a part.
async fn select(
    call: &Call,
    opened: Opened,
    range: Option<RangeHeader>,
    part: Option<i32>,
) -> S3Result<(Opened, Option<Range<u64>>, bool)> {
    let size = opened.row.size;
    match (range, part) {
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "a range and a part number were sent")),
        (Some(range), None) => {
            let checked = range.check(size).ok().filter(|range| !range.is_empty());
            let range =
                checked.ok_or_else(|| s3_error!(InvalidRange, "the range is not in the object's {size} bytes"))?;
            Ok((opened, Some(range), false))
        }
        (None, Some(number)) => {
            let number = u32::try_from(number)
                .ok()
                .filter(|number| (1..=MOST_PARTS).contains(number))
                .ok_or_else(|| s3_error!(InvalidArgument, "part numbers are 1 to {MOST_PARTS}"))?;
            let (opened, range) = call.store().part_of(opened, number).await?;
            let range = range.ok_or_else(|| {
                let code = S3ErrorCode::Custom("InvalidPartNumber".into());
                let mut refusal = S3Error::with_message(code, format!("the object has no part {number}"));
                refusal.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
                refusal
            })?;
            // The one part of an empty object is no range of it.
            Ok((opened, Some(range).filter(|range| !range.is_empty()), true))
        }
        (None, None) => Ok((opened, None, false)),
    }
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

fn parts_count(row: &ObjectRow, is_part: bool) -> Option<i32> {
    (is_part && row.parts > 0).then(|| i32::try_from(row.parts).unwrap_or(i32::MAX))
}

/// The most bytes of one upload or part (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
pub const MOST_BODY: u64 = 5 << 30;
/// The most parts of an object.
pub const MOST_PARTS: u32 = 10_000;
const ATTRIBUTES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
const DEFAULT_TYPE: &str = "binary/octet-stream";
