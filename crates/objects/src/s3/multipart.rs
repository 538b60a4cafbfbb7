//! Uploads in parts.

use s3s::{
    S3Request, S3Response, S3Result,
    dto::{Range as RangeHeader, *},
    s3_error,
};

use super::{
    buckets::owner,
    convert::{
        Expected, bucket_name, checksum, condition, count, customer_key, etag, sealing, sent_checksum, signed,
        source_key, sum_of, target, time, upload_id, version_of, with_checksum, with_sealing,
    },
    copies::{expect_owner, of_source, open_source, source, transfer},
    given::given,
    listing::{encoded, is_url},
    objects::{MOST_PARTS, Wishes, receive},
};
use crate::{
    call::Call,
    lifecycle,
    put::Target,
    rows::{Algorithm, Kind, Sum, UploadRow},
    sse,
    store::MOST_LISTED,
    uploads::{Check, UploadEntry, UploadQuery, Wanted},
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn create_multipart_upload(
    call: &Call,
    mut request: S3Request<CreateMultipartUploadInput>,
) -> Answer<CreateMultipartUploadOutput> {
    let input = &mut request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let (writes, wanted) = given!(call, input).writes(call)?;
    let algorithm = match input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str) {
        None => None,
        Some(name) => {
            Some(Algorithm::parse(name).ok_or_else(|| s3_error!(InvalidRequest, "the checksum algorithm is unknown"))?)
        }
    };
    let full_object = kind(algorithm, input.checksum_type.as_ref().map(ChecksumType::as_str))?;
    let row = UploadRow {
        about: writes.about,
        algorithm,
        full_object,
        tags: writes.tags,
        retention: writes.retention,
        hold: writes.hold == Some(true),
        sealing: writes.sealing,
        ..UploadRow::default()
    };
    let (abort_date, abort_rule_id) = end(call, &target).await?;
    let id = call.store().begin_upload(target, row).await?;
    Ok(S3Response::new(with_sealing!(
        &wanted.sealing,
        wanted.customer.as_ref(),
        CreateMultipartUploadOutput {
            abort_date,
            abort_rule_id,
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            upload_id: Some(id.as_simple().to_string()),
            checksum_algorithm: algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
            checksum_type: algorithm.map(|_| type_of(full_object)),
            ..Default::default()
        }
    )))
}

/// When a rule of the bucket will end an upload that begins now.
async fn end(call: &Call, target: &Target) -> S3Result<(Option<Timestamp>, Option<String>)> {
    if !call.settings().is_some_and(|bucket| bucket.documents.contains(&Kind::Lifecycle)) {
        return Ok((None, None));
    }
    let rules = call.store().lifecycle(&target.project, &target.bucket).await?.unwrap_or_default();
    let begun = UploadRow { begun: call.store().clock().await?, ..UploadRow::default() };
    let end = lifecycle::end_of_upload(&rules, &target.key, &begun);
    Ok(end.map_or((None, None), |(end, rule)| (Some(time(end)), Some(encoded(rule, true)))))
}

/// Whether the object's checksum is to be that of all its bytes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>).
fn kind(algorithm: Option<Algorithm>, kind: Option<&str>) -> S3Result<bool> {
    let is_hash = matches!(algorithm, Some(Algorithm::Sha1 | Algorithm::Sha256));
    match (algorithm, kind) {
        (_, None) => Ok(algorithm == Some(Algorithm::Crc64Nvme)),
        (None, Some(_)) => Err(s3_error!(InvalidRequest, "a checksum type was sent without an algorithm")),
        (Some(_), Some(ChecksumType::FULL_OBJECT)) if !is_hash => Ok(true),
        (Some(algorithm), Some(ChecksumType::COMPOSITE)) if algorithm != Algorithm::Crc64Nvme => Ok(false),
        (Some(algorithm), Some(kind)) => {
            Err(s3_error!(InvalidRequest, "a checksum of type {kind} is not made with {}", algorithm.name()))
        }
    }
}

fn type_of(full_object: bool) -> ChecksumType {
    ChecksumType::from_static(if full_object { ChecksumType::FULL_OBJECT } else { ChecksumType::COMPOSITE })
}

pub async fn upload_part(call: &Call, mut request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
    let input = &mut request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let customer = customer_key!(call, input)?;
    let number = part_number(input.part_number)?;
    let id = upload_id(&input.upload_id)?;
    let asked = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
    let expected = Expected::new(input.content_md5.as_deref(), sent_checksum!(input), asked, &request.headers)?;
    let upload = call.store().upload(&target, id).await?;
    let outer = sse::to_read(&upload.sealing, customer.as_ref())?;
    let algorithm = match (expected.algorithm(), upload.algorithm) {
        (Some(sent), Some(begun)) if sent != begun => {
            return Err(s3_error!(InvalidRequest, "the upload was begun with checksums of {}", begun.name()));
        }
        (sent, begun) => sent.or(begun),
    };
    let mut data = receive(call, &target, input.body.take(), input.content_length, algorithm).await?;
    expected.check(&data.1, request.trailing_headers.as_ref())?;
    if let Some(outer) = outer {
        data = sse::wrap(outer, data)?;
    }
    let row = call.store().put_part(target, id, number, data).await?;
    Ok(S3Response::new(with_sealing!(
        &upload.sealing,
        customer.as_ref(),
        with_checksum!(row.sum.as_ref(), UploadPartOutput { e_tag: Some(etag(&row.etag)), ..Default::default() })
    )))
}

pub async fn upload_part_copy(call: &Call, request: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
    let input = request.input;
    let to = target(call, &input.bucket, &input.key)?;
    let (customer, from_key) = (customer_key!(call, input)?, source_key!(call, input)?);
    let number = part_number(input.part_number)?;
    let id = upload_id(&input.upload_id)?;
    expect_owner(call, input.expected_source_bucket_owner.as_deref())?;
    let (from, named) = source(call, &input.copy_source)?;
    let upload = call.store().upload(&to, id).await?;
    let outer = sse::to_read(&upload.sealing, customer.as_ref())?;
    let opened = open_source(call, &from, named, from_key.as_ref()).await?;
    let wishes = Wishes {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    wishes.check_copy(&opened.row)?;
    let size = opened.row.size;
    let range = match input.copy_source_range.as_deref() {
        None => 0..size,
        Some(text) => match RangeHeader::parse(text) {
            // Both ends must be there, and in the object.
            Ok(RangeHeader::Int { first, last: Some(last) }) if last < size => first..last + 1,
            _ => return Err(s3_error!(InvalidArgument, "the range is not `bytes=FIRST-LAST` in {size} bytes")),
        },
    };
    let source = opened.row.id();
    let mut data = transfer(call, opened, range, upload.algorithm).await?;
    if let Some(outer) = outer {
        data = sse::wrap(outer, data)?;
    }
    let row = call.store().put_part(to, id, number, data).await?;
    let result = with_checksum!(
        row.sum.as_ref(),
        CopyPartResult { e_tag: Some(etag(&row.etag)), last_modified: Some(time(row.modified)), ..Default::default() }
    );
    Ok(S3Response::new(with_sealing!(
        &upload.sealing,
        customer.as_ref(),
        UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: of_source(source),
            ..Default::default()
        }
    )))
}

pub async fn complete_multipart_upload(
    call: &Call,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Answer<CompleteMultipartUploadOutput> {
    let mut input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let id = upload_id(&input.upload_id)?;
    let parts = input.multipart_upload.take().and_then(|upload| upload.parts).unwrap_or_default();
    if parts.is_empty() || parts.len() > MOST_PARTS as usize {
        return Err(s3_error!(MalformedXML, "an upload is completed with 1 to {MOST_PARTS} parts"));
    }
    let wanted = parts.into_iter().map(wanted).collect::<S3Result<Vec<Wanted>>>()?;
    let size = match input.mpu_object_size {
        None => None,
        Some(size) => {
            Some(u64::try_from(size).map_err(|_| s3_error!(InvalidArgument, "the object's size is negative"))?)
        }
    };
    let check = Check { size, sum: sum_of(sent_checksum!(input))?.map(|sum| of_parts(sum, wanted.len(), &input)) };
    let condition = condition(input.if_match.take(), input.if_none_match.take());
    let row = call.store().complete_upload(target, id, wanted, check, condition).await?;
    let (server_side_encryption, ssekms_key_id) = sealing(&row.sealing);
    Ok(S3Response::new(with_checksum!(
        row.sum.as_ref(),
        CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, encoded(&input.key, true))),
            bucket: Some(input.bucket),
            key: Some(input.key),
            checksum_type: checksum(row.sum.as_ref()).checksum_type,
            e_tag: Some(etag(&row.etag)),
            server_side_encryption,
            ssekms_key_id,
            version_id: version_of(call, &row),
            ..Default::default()
        }
    )))
}

/// A composite checksum may be sent without the number of parts behind it.
fn of_parts(sum: Sum, parts: usize, input: &CompleteMultipartUploadInput) -> Sum {
    let composite = input.checksum_type.as_ref().is_some_and(|kind| kind.as_str() == ChecksumType::COMPOSITE);
    let value = if composite && !sum.is_composite() { format!("{}-{parts}", sum.value) } else { sum.value };
    Sum { value, ..sum }
}

fn wanted(mut part: CompletedPart) -> S3Result<Wanted> {
    let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML, "a part has no number"))?;
    Ok(Wanted {
        number: part_number(number)?,
        etag: part.e_tag.take().map(ETag::into_value),
        sum: sum_of(sent_checksum!(part))?,
    })
}

pub async fn abort_multipart_upload(
    call: &Call,
    request: S3Request<AbortMultipartUploadInput>,
) -> Answer<AbortMultipartUploadOutput> {
    let input = request.input;
    let id = upload_id(&input.upload_id)?;
    call.store().abort_upload(target(call, &input.bucket, &input.key)?, id).await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub async fn list_parts(call: &Call, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let id = upload_id(&input.upload_id)?;
    let most = count("max-parts", input.max_parts, MOST_LISTED)?;
    let after = u32::try_from(input.part_number_marker.unwrap_or(0))
        .map_err(|_| s3_error!(InvalidArgument, "part-number-marker is negative"))?;
    let (upload, mut parts) = call.store().parts(&target, id, after, most).await?;
    let more = parts.len() > most && most > 0;
    parts.truncate(most);
    let next = parts.last().filter(|_| more).and_then(|(number, _)| i32::try_from(*number).ok());
    let owner = owner(call)?;
    let parts = parts.into_iter().map(|(number, row)| {
        with_checksum!(
            row.sum.as_ref(),
            Part {
                e_tag: Some(etag(&row.etag)),
                last_modified: Some(time(row.modified)),
                part_number: i32::try_from(number).ok(),
                size: Some(signed(row.size)),
                ..Default::default()
            }
        )
    });
    Ok(S3Response::new(ListPartsOutput {
        parts: Some(parts.collect()),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        checksum_algorithm: upload.algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: upload.algorithm.map(|_| type_of(upload.full_object)),
        initiator: Some(Initiator { display_name: owner.display_name.clone(), id: owner.id.clone() }),
        owner: Some(owner),
        is_truncated: Some(more),
        max_parts: i32::try_from(most).ok(),
        next_part_number_marker: next,
        part_number_marker: input.part_number_marker,
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    }))
}

pub async fn list_multipart_uploads(
    call: &Call,
    request: S3Request<ListMultipartUploadsInput>,
) -> Answer<ListMultipartUploadsOutput> {
    let input = request.input;
    let bucket = bucket_name(&input.bucket)?;
    let url = is_url(input.encoding_type.as_ref())?;
    let most = count("max-uploads", input.max_uploads, MOST_LISTED)?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let id = match input.upload_id_marker.as_deref().filter(|id| !id.is_empty()) {
        None => None,
        Some(text) => {
            let id = uuid::Uuid::try_parse(text);
            Some(id.map_err(|_| s3_error!(InvalidArgument, "upload-id-marker is not the id of an upload"))?)
        }
    };
    let query = UploadQuery {
        prefix: prefix.clone(),
        delimiter: input.delimiter.clone(),
        key_marker: input.key_marker.clone().filter(|key| !key.is_empty()),
        id_marker: id,
        limit: most,
    };
    let (found, more) = call.store().uploads(call.project()?, &bucket, query).await?;
    let more = more && most > 0;
    let (next_key, next_id) = match found.last().filter(|_| more) {
        Some(UploadEntry::Upload(last)) => (Some(encoded(&last.key, url)), Some(last.id.as_simple().to_string())),
        Some(UploadEntry::Prefix(last)) => (Some(encoded(last, url)), None),
        None => (None, None),
    };
    let owner = owner(call)?;
    let mut uploads = Vec::new();
    let mut prefixes: Vec<CommonPrefix> = Vec::new();
    for entry in found {
        let upload = match entry {
            UploadEntry::Upload(upload) => upload,
            UploadEntry::Prefix(prefix) => {
                prefixes.push(CommonPrefix { prefix: Some(encoded(&prefix, url)) });
                continue;
            }
        };
        let algorithm = upload.row.algorithm;
        uploads.push(MultipartUpload {
            checksum_algorithm: algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
            checksum_type: algorithm.map(|_| type_of(upload.row.full_object)),
            initiated: Some(time(upload.row.begun)),
            initiator: Some(Initiator { display_name: owner.display_name.clone(), id: owner.id.clone() }),
            key: Some(encoded(&upload.key, url)),
            owner: Some(owner.clone()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(upload.id.as_simple().to_string()),
        });
    }
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(prefixes),
        delimiter: input.delimiter.map(|delimiter| encoded(&delimiter, url)),
        encoding_type: input.encoding_type,
        is_truncated: Some(more),
        key_marker: input.key_marker,
        max_uploads: i32::try_from(most).ok(),
        next_key_marker: next_key,
        next_upload_id_marker: next_id,
        prefix: Some(encoded(&prefix, url)),
        upload_id_marker: input.upload_id_marker,
        uploads: Some(uploads),
        request_charged: None,
    }))
}

fn part_number(number: i32) -> S3Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=MOST_PARTS).contains(number))
        .ok_or_else(|| s3_error!(InvalidArgument, "part numbers are 1 to {MOST_PARTS}"))
}
