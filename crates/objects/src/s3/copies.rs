//! Copies of objects.

use std::ops::Range;

use http::{HeaderMap, HeaderName, header};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    convert::{checksum, etag, source_key, target, time, version, version_of, with_checksum, with_sealing},
    given::given,
    objects::{MOST_BODY, Wishes, open},
};
use crate::{
    call::Call,
    decide::Wish,
    digests::Digested,
    notify::How,
    open::Opened,
    put::{Condition, Tag, Target},
    rows::{About, Algorithm},
    seal::Sealed,
    sse::CustomerKey,
    versions::VersionId,
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn copy_object(call: &Call, mut request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
    let condition = condition_of_target(&request.headers);
    let input = &mut request.input;
    let to = target(call, &input.bucket, &input.key)?;
    let changes_sealing = input.server_side_encryption.is_some() || input.sse_customer_algorithm.is_some();
    let from_key = source_key!(call, input)?;
    let (mut writes, wanted) = given!(call, input).writes(call)?;
    let replaces = directive(input.metadata_directive.as_ref().map(MetadataDirective::as_str), "metadata")?;
    let replaces_tags = directive(input.tagging_directive.as_ref().map(TaggingDirective::as_str), "tagging")?;
    expect_owner(call, input.expected_source_bucket_owner.as_deref())?;
    let (from, named) = source(call, &input.copy_source)?;
    let is_itself = from.bucket == to.bucket && from.key == to.key && named.is_none();
    if is_itself && !replaces && !changes_sealing {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
             metadata, storage class, website redirect location or encryption attributes."
        ));
    }
    super::buckets::exists(call, &input.bucket).await?;
    let opened = open_source(call, &from, named, from_key.as_ref()).await?;
    let wishes = Wishes {
        if_match: input.copy_source_if_match.take(),
        if_none_match: input.copy_source_if_none_match.take(),
        if_modified_since: input.copy_source_if_modified_since.take(),
        if_unmodified_since: input.copy_source_if_unmodified_since.take(),
    };
    wishes.check_copy(&opened.row)?;
    if opened.row.size > MOST_BODY {
        return Err(s3_error!(InvalidRequest, "objects of more than {MOST_BODY} bytes are copied in parts"));
    }
    if !replaces {
        writes.about = About { ..opened.row.about.clone() };
    }
    if !replaces_tags {
        writes.tags.clone_from(&opened.row.tags);
        if !writes.tags.is_empty() {
            let wish = Wish { bucket: Some(&from.bucket), key: Some(&from.key), version: named, ..Wish::default() };
            let action = if named.is_some() { "s3:GetObjectVersionTagging" } else { "s3:GetObjectTagging" };
            call.demand(&Wish { action, ..wish }).await?;
            let more = crate::decide::request_tags(&writes.tags);
            let wish = Wish { bucket: Some(&to.bucket), key: Some(&to.key), more: &more, ..Wish::default() };
            call.demand(&Wish { action: "s3:PutObjectTagging", ..wish }).await?;
        }
    }
    let asked = input.checksum_algorithm.as_ref().and_then(|name| Algorithm::parse(name.as_str()));
    let algorithm = asked.or(opened.row.sum.as_ref().map(|sum| sum.algorithm));
    let (range, source) = (0..opened.row.size, opened.row.id());
    let data = transfer(call, opened, range, algorithm).await?;
    writes.how = How::Copy;
    let row = call.store().put(to, writes, wanted.wrap(data)?, condition).await?;
    let result = with_checksum!(
        row.sum.as_ref(),
        CopyObjectResult {
            e_tag: Some(etag(&row.etag)),
            last_modified: Some(time(row.modified)),
            checksum_type: checksum(row.sum.as_ref()).checksum_type,
            ..Default::default()
        }
    );
    Ok(S3Response::new(with_sealing!(
        &row.sealing,
        wanted.customer.as_ref(),
        CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: of_source(source),
            version_id: version_of(call, &row),
            ..Default::default()
        }
    )))
}

/// Whether what the source has is replaced.
fn directive(text: Option<&str>, what: &str) -> S3Result<bool> {
    match text {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "the {what} directive is COPY or REPLACE")),
    }
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
    let reading = call.store().source(opened, range).await?.stream().await?;
    Ok(call.store().seal(project, reading, algorithm, MOST_BODY).await?)
}

/// The object that a copy is made of, one of the same project, and which version of it.
pub fn source(call: &Call, source: &CopySource) -> S3Result<(Target, Option<VersionId>)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            Ok((target(call, bucket, key)?, version(version_id.as_deref())?))
        }
        _ => Err(s3_error!(NotImplemented, "access points are not supported")),
    }
}

/// Opens what a copy is made of, if the caller may read it.
pub async fn open_source(
    call: &Call,
    from: &Target,
    named: Option<VersionId>,
    customer: Option<&CustomerKey>,
) -> S3Result<Opened> {
    call.is_in_scope("GetObject", Some(&from.bucket))?;
    let action = if named.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
    let wish = Wish { action, bucket: Some(&from.bucket), key: Some(&from.key), version: named, more: &[] };
    call.demand(&wish).await?;
    let text = named.map(|id| id.to_string());
    match open(call, from, text.as_deref(), customer).await {
        // A delete marker is no source, whichever way it was named.
        Err(refusal) if refusal.code() == &s3s::S3ErrorCode::MethodNotAllowed => Err(s3_error!(
            InvalidRequest,
            "The source of a copy request may not specifically refer to a delete marker by version id."
        )),
        opened => opened,
    }
}

/// The version that was copied, where it has a number.
pub fn of_source(id: VersionId) -> Option<String> {
    matches!(id, VersionId::Number(_)).then(|| id.to_string())
}

/// The owner of the source's bucket is the one that is expected.
pub fn expect_owner(call: &Call, owner: Option<&str>) -> S3Result<()> {
    match owner {
        Some(owner) if owner != call.project()?.as_str() => {
            Err(s3_error!(AccessDenied, "the source's bucket is not of the owner that is expected"))
        }
        _ => Ok(()),
    }
}
