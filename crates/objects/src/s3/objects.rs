//! Operations on objects.

use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use s3s::{
    S3Error, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{Range as RangeHeader, *},
    s3_error,
};

use super::{
    buckets::exists,
    convert::{
        Expected, Said, bucket_name, checksum, condition, etag, metadata, no_version, refuse_unsupported, sealed,
        second, sent_checksum, signed, target, time, time_of, with_checksum,
    },
};
use crate::{
    Error,
    call::Call,
    digests::Digested,
    open::Opened,
    put::{Condition, Removal, Tag, Target, Writes},
    rows::{About, Algorithm, ObjectRow},
    seal::Sealed,
    versions::Removed,
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn put_object(call: &Call, mut request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
    let input = &mut request.input;
    let target = target(call, &input.bucket, &input.key)?;
    refuse_unsupported(
        input.acl.as_ref().map(ObjectCannedACL::as_str),
        input.server_side_encryption.as_ref(),
        input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some(),
        input.object_lock_mode.is_some() || input.object_lock_legal_hold_status.is_some(),
        input.tagging.as_deref(),
    )?;
    if input.website_redirect_location.is_some() || input.write_offset_bytes.is_some_and(|offset| offset != 0) {
        return Err(s3_error!(NotImplemented, "redirects and appended writes are not supported"));
    }
    let about = Said {
        content_type: input.content_type.take(),
        cache_control: input.cache_control.take(),
        content_disposition: input.content_disposition.take(),
        content_encoding: input.content_encoding.take(),
        content_language: input.content_language.take(),
        expires: input.expires.take(),
        metadata: input.metadata.take(),
    }
    .about()?;
    let asked = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
    let expected = Expected::new(input.content_md5.as_deref(), sent_checksum!(input), asked, &request.headers)?;
    let condition = condition(input.if_match.take(), input.if_none_match.take());
    // What cannot succeed is refused before its body is read; the write itself checks again.
    condition.check(call.ground.store.find(&target, None).await?.object().as_ref())?;

    let algorithm = expected.algorithm();
    let (sealed_data, digested) = receive(call, &target, input.body.take(), input.content_length, algorithm).await?;
    expected.check(&digested, request.trailing_headers.as_ref())?;
    let row = call
        .ground
        .store
        .put(target, Writes { about, ..Writes::default() }, (sealed_data, digested), condition)
        .await?;
    Ok(S3Response::new(with_checksum!(
        row.sum.as_ref(),
        PutObjectOutput {
            e_tag: Some(etag(&row.etag)),
            checksum_type: checksum(row.sum.as_ref()).checksum_type,
            server_side_encryption: sealed(),
            ..Default::default()
        }
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
    let (sealed, digested) = call.ground.store.seal(&target.project, body, algorithm, MOST_BODY).await?;
    if length.is_some_and(|length| length != signed(sealed.length)) {
        return Err(s3_error!(IncompleteBody, "the body has another length than was said"));
    }
    Ok((sealed, digested))
}

pub async fn post_object(_: &Call, _: S3Request<PostObjectInput>) -> Answer<PostObjectOutput> {
    // `s3s` would make a `PutObject` of it, from a body that it holds in memory.
    Err(s3_error!(NotImplemented, "uploads by form are not supported"))
}

pub async fn get_object(call: &Call, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
    let input = request.input;
    no_version(input.version_id.as_deref())?;
    let opened = call.ground.store.open_object(&target(call, &input.bucket, &input.key)?, None).await?;
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
    let reading = call.ground.store.source(opened, range).await?.stream().await?;
    let about = row.about.clone();
    // A checksum is of the whole object, and means nothing for a part of it.
    let sum = row.sum.as_ref().filter(|_| !partial && input.checksum_mode.is_some());
    Ok(S3Response::new(with_checksum!(
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
            expires: about.expires.as_deref().and_then(time_of),
            last_modified: Some(second(row.modified)),
            metadata: metadata(&row.about),
            parts_count: parts_count(&row, is_part),
            server_side_encryption: sealed(),
            ..Default::default()
        }
    )))
}

pub async fn head_object(call: &Call, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
    let input = request.input;
    no_version(input.version_id.as_deref())?;
    let opened = call.ground.store.open_object(&target(call, &input.bucket, &input.key)?, None).await?;
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
    let headers = overrides([
        (header::CONTENT_TYPE, input.response_content_type),
        (header::CONTENT_LANGUAGE, input.response_content_language),
        (header::CACHE_CONTROL, input.response_cache_control),
        (header::CONTENT_DISPOSITION, input.response_content_disposition),
        (header::CONTENT_ENCODING, input.response_content_encoding),
    ])?;
    let output = with_checksum!(
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
            expires: input.response_expires.or_else(|| about.expires.as_deref().and_then(time_of)),
            last_modified: Some(second(row.modified)),
            metadata: metadata(&row.about),
            parts_count: parts_count(&row, is_part),
            server_side_encryption: sealed(),
            ..Default::default()
        }
    );
    Ok(S3Response::with_headers(output, headers))
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
    no_version(input.version_id.as_deref())?;
    let target = target(call, &input.bucket, &input.key)?;
    let row = call.ground.store.find(&target, None).await?.expect_object(false)?;
    // `s3s` leaves a list in one header as it is.
    let wants = |name: &str| {
        let mut attributes = input.object_attributes.iter().flat_map(|attributes| attributes.as_str().split(','));
        attributes.any(|attribute| attribute.trim() == name)
    };
    let parts = GetObjectAttributesParts { total_parts_count: i32::try_from(row.parts).ok(), ..Default::default() };
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum: (wants("Checksum") && row.sum.is_some()).then(|| checksum(row.sum.as_ref())),
        e_tag: wants("ETag").then(|| etag(&row.etag)),
        last_modified: Some(second(row.modified)),
        object_parts: (wants("ObjectParts") && row.parts > 0).then_some(parts),
        object_size: wants("ObjectSize").then(|| signed(row.size)),
        storage_class: wants("StorageClass").then(|| StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    }))
}

pub async fn get_object_tagging(
    call: &Call,
    request: S3Request<GetObjectTaggingInput>,
) -> Answer<GetObjectTaggingOutput> {
    let input = request.input;
    no_version(input.version_id.as_deref())?;
    let target = target(call, &input.bucket, &input.key)?;
    call.ground.store.find(&target, None).await?.expect_object(false)?;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: Vec::new(), version_id: None }))
}

pub async fn delete_object(call: &Call, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
    let input = request.input;
    no_version(input.version_id.as_deref())?;
    let target = target(call, &input.bucket, &input.key)?;
    let condition = condition(input.if_match, None);
    let removal = Removal { key: target.key, condition, ..Removal::default() };
    let results = call.ground.store.remove(&target.project, &target.bucket, vec![removal]).await?;
    results.into_iter().collect::<Result<Vec<Removed>, Error>>()?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub async fn delete_objects(call: &Call, request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
    let input = request.input;
    let bucket = bucket_name(&input.bucket)?;
    let objects = input.delete.objects;
    if objects.is_empty() || objects.len() > MOST_DELETED {
        return Err(s3_error!(MalformedXML, "1 to {MOST_DELETED} objects are deleted at once"));
    }
    let mut errors = Vec::new();
    let mut keys = Vec::new();
    for object in objects {
        match no_version(object.version_id.as_deref()) {
            Ok(()) => keys.push(Removal {
                key: object.key,
                condition: condition(object.e_tag.map(ETagCondition::ETag), None),
                ..Removal::default()
            }),
            Err(cause) => errors.push(failure(object.key, &cause)),
        }
    }
    let names: Vec<String> = keys.iter().map(|removal| removal.key.clone()).collect();
    let results = call.ground.store.remove(call.project()?, &bucket, keys).await?;
    let mut deleted = Vec::new();
    for (key, result) in names.into_iter().zip(results) {
        match result {
            Ok(_) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
            Err(cause) => errors.push(failure(key, &cause.into())),
        }
    }
    let quiet = input.delete.quiet == Some(true);
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        request_charged: None,
    }))
}

fn failure(key: String, cause: &S3Error) -> s3s::dto::Error {
    s3s::dto::Error {
        code: Some(cause.code().as_str().to_owned()),
        key: Some(key),
        message: cause.message().map(str::to_owned),
        version_id: None,
    }
}

pub async fn copy_object(call: &Call, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
    let condition = condition_of_target(&request.headers);
    let input = request.input;
    let to = target(call, &input.bucket, &input.key)?;
    refuse_unsupported(
        input.acl.as_ref().map(ObjectCannedACL::as_str),
        input.server_side_encryption.as_ref(),
        input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some(),
        input.object_lock_mode.is_some() || input.object_lock_legal_hold_status.is_some(),
        input.tagging.as_deref(),
    )?;
    let from = source(call, &input.copy_source)?;
    let replaces = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => return Err(s3_error!(InvalidArgument, "the metadata directive is COPY or REPLACE")),
    };
    if !replaces && from.bucket == to.bucket && from.key == to.key {
        return Err(s3_error!(InvalidRequest, "an object is copied onto itself to replace its metadata only"));
    }
    exists(call, &input.bucket).await?;
    let opened = call.ground.store.open_object(&from, None).await?;
    let wishes = Wishes {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    wishes.check_copy(&opened.row)?;
    if opened.row.size > MOST_BODY {
        return Err(s3_error!(InvalidRequest, "objects of more than {MOST_BODY} bytes are copied in parts"));
    }
    let about = if replaces {
        Said {
            content_type: input.content_type,
            cache_control: input.cache_control,
            content_disposition: input.content_disposition,
            content_encoding: input.content_encoding,
            content_language: input.content_language,
            expires: input.expires,
            metadata: input.metadata,
        }
        .about()?
    } else {
        About { ..opened.row.about.clone() }
    };
    let asked = input.checksum_algorithm.as_ref().and_then(|name| Algorithm::parse(name.as_str()));
    let algorithm = asked.or(opened.row.sum.as_ref().map(|sum| sum.algorithm));
    let range = 0..opened.row.size;
    let sealed_data = transfer(call, opened, range, algorithm).await?;
    let row = call.ground.store.put(to, Writes { about, ..Writes::default() }, sealed_data, condition).await?;
    let result = with_checksum!(
        row.sum.as_ref(),
        CopyObjectResult {
            e_tag: Some(etag(&row.etag)),
            last_modified: Some(time(row.modified)),
            checksum_type: checksum(row.sum.as_ref()).checksum_type,
            ..Default::default()
        }
    );
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        server_side_encryption: sealed(),
        ..Default::default()
    }))
}

/// The conditions on what a copy replaces, which `s3s` has no fields for.
fn condition_of_target(headers: &HeaderMap) -> Condition {
    let tag = |name: HeaderName| {
        let value = headers.get(name)?.to_str().ok()?.trim();
        Some(if value == "*" { Tag::Any } else { Tag::Is(value.trim_matches('"').to_owned()) })
    };
    Condition { matches: tag(header::IF_MATCH), none_matches: tag(header::IF_NONE_MATCH) }
}

/// Reads stored bytes and seals them anew, under a key of their own.
pub async fn transfer(
    call: &Call,
    opened: Opened,
    range: Range<u64>,
    algorithm: Option<Algorithm>,
) -> S3Result<(Sealed, Digested)> {
    let project = call.project()?;
    let reading = call.ground.store.source(opened, range).await?.stream().await?;
    Ok(call.ground.store.seal(project, reading, algorithm, MOST_BODY).await?)
}

/// The object that a copy is made of: one of the same project.
pub fn source(call: &Call, source: &CopySource) -> S3Result<Target> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            no_version(version_id.as_deref())?;
            target(call, bucket, key)
        }
        _ => Err(s3_error!(NotImplemented, "access points are not supported")),
    }
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
                let mut modified = Vec::new();
                if second(row.modified).format(TimestampFormat::HttpDate, &mut modified).is_ok()
                    && let Ok(modified) = HeaderValue::from_bytes(&modified)
                {
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
            let number = u32::try_from(number).unwrap_or(0);
            let (opened, range) = call.ground.store.part_of(opened, number).await?;
            let range = range.ok_or_else(|| {
                let code = S3ErrorCode::Custom("InvalidPartNumber".into());
                let mut refusal = S3Error::with_message(code, format!("the object has no part {number}"));
                refusal.set_status_code(http::StatusCode::RANGE_NOT_SATISFIABLE);
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
const MOST_DELETED: usize = 1000;
const DEFAULT_TYPE: &str = "binary/octet-stream";
