//! Lists of objects, in both of S3's forms.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    buckets::owner,
    convert::{bucket_name, count, etag, signed, time, version},
};
use crate::{
    call::Call,
    list::{Entry, Query, VersionEntry, VersionQuery},
    rows::{ObjectRow, VersionRow},
    store::MOST_LISTED,
    versions::VersionId,
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn list_objects(call: &Call, request: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
    let input = request.input;
    let url = is_url(input.encoding_type.as_ref())?;
    let limit = count("max-keys", input.max_keys, MOST_LISTED)?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: input.marker.clone().filter(|marker| !marker.is_empty()),
        limit,
    };
    let page = page(call, &input.bucket, query, url, true).await?;
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoded(&input.prefix.unwrap_or_default(), url)),
        marker: Some(encoded(&input.marker.unwrap_or_default(), url)),
        max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        is_truncated: Some(page.last.is_some()),
        next_marker: page.last.map(|last| encoded(&last, url)),
        contents: Some(page.objects),
        common_prefixes: Some(page.prefixes),
        delimiter: input.delimiter.map(|delimiter| encoded(&delimiter, url)),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

pub async fn list_objects_v2(call: &Call, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
    let input = request.input;
    let url = is_url(input.encoding_type.as_ref())?;
    let limit = count("max-keys", input.max_keys, MOST_LISTED)?;
    let after = match &input.continuation_token {
        Some(token) => {
            let name = BASE64.decode(token).ok().and_then(|name| String::from_utf8(name).ok());
            Some(name.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of ours"))?)
        }
        None => input.start_after.clone().filter(|after| !after.is_empty()),
    };
    let prefix = input.prefix.clone().unwrap_or_default();
    let query = Query { prefix, delimiter: input.delimiter.clone(), after, limit };
    let page = page(call, &input.bucket, query, url, input.fetch_owner == Some(true)).await?;
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoded(&input.prefix.unwrap_or_default(), url)),
        max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        key_count: Some(i32::try_from(page.objects.len() + page.prefixes.len()).unwrap_or(i32::MAX)),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.last.is_some()),
        next_continuation_token: page.last.map(|last| BASE64.encode(last)),
        contents: Some(page.objects),
        common_prefixes: Some(page.prefixes),
        delimiter: input.delimiter.map(|delimiter| encoded(&delimiter, url)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|after| encoded(&after, url)),
        request_charged: None,
    }))
}

pub async fn list_object_versions(
    call: &Call,
    request: S3Request<ListObjectVersionsInput>,
) -> Answer<ListObjectVersionsOutput> {
    let input = request.input;
    let url = is_url(input.encoding_type.as_ref())?;
    let limit = count("max-keys", input.max_keys, MOST_LISTED)?;
    let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
    let version_marker = input.version_id_marker.clone().filter(|marker| !marker.is_empty());
    if version_marker.is_some() && key_marker.is_none() {
        return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
    }
    let query = VersionQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        key_marker,
        version_marker: version(version_marker.as_deref())?,
        limit,
    };
    let (project, bucket) = (call.project()?, bucket_name(&input.bucket)?);
    let (entries, more) = call.store().list_versions(project, &bucket, query).await?;
    // Nothing was asked for, so that nothing is missing.
    let more = more && limit > 0;
    let (next_key, next_version) = match entries.last().filter(|_| more) {
        Some(VersionEntry::Version { key, row, .. }) => {
            // The number says where to go on even if a version `null` is gone by then.
            (Some(encoded(key, url)), Some(VersionId::Number(row.version()).to_string()))
        }
        Some(VersionEntry::Prefix(prefix)) => (Some(encoded(prefix, url)), None),
        None => (None, None),
    };
    let owner = owner(call)?;
    let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            VersionEntry::Version { key, row: VersionRow::Object(row), is_latest } => {
                let sum = row.sum.as_ref();
                versions.push(ObjectVersion {
                    checksum_algorithm: sum.map(|sum| vec![ChecksumAlgorithm::from_static(sum.algorithm.name())]),
                    checksum_type: super::convert::checksum(sum).checksum_type,
                    e_tag: Some(etag(&row.etag)),
                    is_latest: Some(is_latest),
                    key: Some(encoded(&key, url)),
                    last_modified: Some(time(row.modified)),
                    owner: Some(owner.clone()),
                    restore_status: None,
                    size: Some(signed(row.size)),
                    storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
                    version_id: Some(row.id().to_string()),
                });
            }
            VersionEntry::Version { key, row: VersionRow::Marker(marker), is_latest } => {
                markers.push(DeleteMarkerEntry {
                    is_latest: Some(is_latest),
                    key: Some(encoded(&key, url)),
                    last_modified: Some(time(marker.modified)),
                    owner: Some(owner.clone()),
                    version_id: Some(marker.id().to_string()),
                });
            }
            VersionEntry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(encoded(&prefix, url)) }),
        }
    }
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: Some(prefixes),
        delete_markers: Some(markers),
        delimiter: input.delimiter.map(|delimiter| encoded(&delimiter, url)),
        encoding_type: input.encoding_type,
        is_truncated: Some(more),
        key_marker: Some(encoded(&input.key_marker.unwrap_or_default(), url)),
        max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        name: Some(bucket.to_string()),
        next_key_marker: next_key,
        next_version_id_marker: next_version,
        prefix: Some(encoded(&input.prefix.unwrap_or_default(), url)),
        request_charged: None,
        version_id_marker: input.version_id_marker,
        versions: Some(versions),
    }))
}

struct Page {
    objects: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    /// The last name of it, if more come after.
    last: Option<String>,
}

async fn page(call: &Call, bucket: &str, query: Query, url: bool, owners: bool) -> S3Result<Page> {
    let bucket = bucket_name(bucket)?;
    let project = call.project()?;
    let limit = query.limit;
    let (entries, more) = call.store().entries(project, &bucket, query).await?;
    // Nothing was asked for, so that nothing is missing.
    let more = more && limit > 0;
    let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), last: entries.last().filter(|_| more).map(name) };
    for entry in entries {
        match entry {
            Entry::Object(key, row) => {
                let owner = if owners { Some(owner(call)?) } else { None };
                page.objects.push(object(encoded(&key, url), &row, owner));
            }
            Entry::Prefix(prefix) => page.prefixes.push(CommonPrefix { prefix: Some(encoded(&prefix, url)) }),
        }
    }
    Ok(page)
}

fn name(entry: &Entry) -> String {
    entry.name().to_owned()
}

fn object(key: String, row: &ObjectRow, owner: Option<Owner>) -> Object {
    let sum = row.sum.as_ref();
    Object {
        checksum_algorithm: sum.map(|sum| vec![ChecksumAlgorithm::from_static(sum.algorithm.name())]),
        checksum_type: super::convert::checksum(sum).checksum_type,
        e_tag: Some(etag(&row.etag)),
        key: Some(key),
        last_modified: Some(time(row.modified)),
        owner,
        restore_status: None,
        size: Some(signed(row.size)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
    }
}

/// Whether names are to be encoded; there is one encoding.
pub fn is_url(encoding: Option<&EncodingType>) -> S3Result<bool> {
    match encoding.map(EncodingType::as_str) {
        None => Ok(false),
        Some(EncodingType::URL) => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "encoding-type is `url` or absent")),
    }
}

/// A name as a list has it: XML cannot hold all that a key can.
pub fn encoded(name: &str, url: bool) -> String {
    if !url {
        return name.to_owned();
    }
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
