//! Lists of objects, in both of S3's forms.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    buckets::owner,
    convert::{bucket_name, count, etag, signed, time},
};
use crate::{
    call::Call,
    list::{Entry, Query},
    rows::ObjectRow,
    store::MOST_LISTED,
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
    let (entries, more) = call.ground.store.entries(project, &bucket, query).await?;
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
