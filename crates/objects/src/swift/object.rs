//! An object.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use s3s::{Body, dto::StreamingBlob};

use super::{
    MOST_BODY, Visit,
    answer::{Answer, Fault, empty, set},
    condition, decoded, header_text, large,
};
use crate::{
    Error,
    decide::request_tags,
    notify::How,
    put::{Condition, Removal, Tag, Target, Writes},
    rows::{About, ObjectRow},
};

/// Sends an object; for `HEAD`, only what is known of it.
pub async fn read(visit: &Visit<'_>, at: Target, parts: &Parts) -> Answer {
    let is_get = parts.method == Method::GET;
    visit.may(if is_get { "GetObject" } else { "HeadObject" }, Some(&at.bucket), Some(&at.key)).await?;
    let store = &visit.call.store();
    let opened = visit.open(&at).await?;
    condition::check(&parts.headers, &opened.row)?;
    if is_get && large::is_large(&opened.row) && visit.parameter("multipart-manifest").as_deref() == Some("get") {
        return Ok(large::manifest(&opened.row));
    }
    let row = opened.row.clone();
    let range = if is_get { condition::range(&parts.headers, &row)? } else { None };
    let mut response = if is_get {
        let wanted = range.clone().unwrap_or(0..row.size);
        let reading = store.source(opened, wanted).await?.stream().await?;
        Response::new(Body::from(StreamingBlob::wrap(reading)))
    } else {
        empty(StatusCode::OK)
    };
    let headers = response.headers_mut();
    describe(headers, &row);
    let length = range.as_ref().map_or(row.size, |range| range.end - range.start);
    set(headers, "content-length", &length.to_string());
    if let Some(range) = range {
        set(headers, "content-range", &format!("bytes {}-{}/{}", range.start, range.end - 1, row.size));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Writes an object of the body, or of what the headers or the query name in its place.
pub async fn write(visit: &Visit<'_>, at: Target, parts: &Parts, body: Body) -> Answer {
    if let Some(from) = header_text(&parts.headers, "x-copy-from") {
        let from = path(visit, from, header_text(&parts.headers, "x-copy-from-account"))?;
        if header_text(&parts.headers, "content-length").is_some_and(|length| length != "0") {
            return Err(Fault::bad("A copy has no body."));
        }
        return copy(visit, from, at, parts).await;
    }
    match visit.parameter("multipart-manifest").as_deref() {
        None => {}
        Some("put") => return large::write(visit, at, parts, body).await,
        Some(_) => return Err(Fault::bad("The parameter multipart-manifest is put, get or delete.")),
    }
    let about = about(&parts.headers)?;
    let wanted = wanted(&parts.headers)?;
    let condition = condition_of(&parts.headers)?;
    visit.may_as("PutObject", Some(&at.bucket), Some(&at.key), &creation(None)).await?;
    let has_length = parts.headers.contains_key(header::CONTENT_LENGTH)
        || parts.headers.contains_key(header::TRANSFER_ENCODING)
        || parts.version == Version::HTTP_2;
    if !has_length {
        return Err(Fault::new(StatusCode::LENGTH_REQUIRED, "Content-Length is missing."));
    }
    let too_large = || Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "Your request is too large.");
    let length = header_text(&parts.headers, "content-length").and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > MOST_BODY) {
        return Err(too_large());
    }
    // What cannot succeed is refused before its body is read; the write itself checks again.
    let store = &visit.call.store();
    condition.check(store.find(&at, None).await?.object().as_ref()).or_else(missing_is_failure)?;
    let body = StreamingBlob::from(body).map_err(Error::Body);
    let sealed = store.seal(&at.project, body, None, MOST_BODY).await?;
    if wanted.is_some_and(|wanted| wanted != hex::encode(sealed.1.md5)) {
        let words = "Unable to process the contained instructions: the ETag is not that of the data.";
        return Err(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, words));
    }
    let row = store.put(at, visit.writes(about), sealed, condition).await.or_else(missing_is_failure)?;
    Ok(created(&row))
}

/// Replaces the metadata of an object, as Swift does: what is not sent is gone, but for the type. It makes a copy, so that
/// what is kept of older versions, and what is locked, stays as it is.
pub async fn update(visit: &Visit<'_>, at: Target, parts: &Parts) -> Answer {
    let said = about(&parts.headers)?;
    let kind = header_text(&parts.headers, "content-type").filter(|kind| !kind.is_empty()).map(str::to_owned);
    visit.may_as("PutObject", Some(&at.bucket), Some(&at.key), &creation(None)).await?;
    visit.may_too("GetObject", &at.bucket, Some(&at.key)).await?;
    let opened = visit.open(&at).await?;
    let old = &opened.row;
    let about = About {
        content_type: kind.or_else(|| old.about.content_type.clone()),
        segments: old.about.segments.clone(),
        ..said
    };
    let condition = Condition { matches: Some(Tag::Is(old.etag.clone())), none_matches: None };
    if let Err(fault) = again(visit, opened, at, about, condition).await {
        return Err(match fault.status {
            StatusCode::PRECONDITION_FAILED => Fault::new(StatusCode::CONFLICT, "The object was replaced meanwhile."),
            _ => fault,
        });
    }
    Ok(empty(StatusCode::ACCEPTED))
}

/// Removes an object.
pub async fn delete(visit: &Visit<'_>, at: Target, parts: &Parts) -> Answer {
    visit.may("DeleteObject", Some(&at.bucket), Some(&at.key)).await?;
    let store = &visit.call.store();
    if visit.parameter("multipart-manifest").as_deref() == Some("delete") {
        return large::delete(visit, at, parts).await;
    }
    let removal = Removal { key: at.key, ..Removal::default() };
    for removed in store.remove(&at.project, &at.bucket, vec![removal]).await? {
        if !removed?.changed {
            return Err(Fault::not_found());
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Copies an object to where the header says.
pub async fn copy_to(visit: &Visit<'_>, from: Target, parts: &Parts) -> Answer {
    let to = header_text(&parts.headers, "destination")
        .ok_or_else(|| Fault::new(StatusCode::PRECONDITION_FAILED, "The header Destination is missing."))?;
    let to = path(visit, to, header_text(&parts.headers, "destination-account"))?;
    copy(visit, from, to, parts).await
}

async fn copy(visit: &Visit<'_>, from: Target, to: Target, parts: &Parts) -> Answer {
    if visit.parameter("multipart-manifest").is_some() {
        return Err(Fault::not_offered("Copying a manifest"));
    }
    let said = about(&parts.headers)?;
    let kind = header_text(&parts.headers, "content-type").filter(|kind| !kind.is_empty()).map(str::to_owned);
    let fresh = header_text(&parts.headers, "x-fresh-metadata").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let source = format!("{}/{}", from.bucket, from.key);
    visit.may_as("CopyObject", Some(&to.bucket), Some(&to.key), &creation(Some(&source))).await?;
    visit.may_too("GetObject", &from.bucket, Some(&from.key)).await?;
    let store = &visit.call.store();
    store.bucket_row(&to.project, &to.bucket).await?;
    let opened = visit.open(&from).await?;
    condition::check(&parts.headers, &opened.row).map_err(|fault| match fault.status {
        StatusCode::NOT_MODIFIED => Fault::new(StatusCode::PRECONDITION_FAILED, "A precondition was not met."),
        _ => fault,
    })?;
    // They go with the copy, and policies may ask for them.
    if !opened.row.tags.is_empty() {
        visit.may_too("GetObjectTagging", &from.bucket, Some(&from.key)).await?;
        visit.demand("PutObjectTagging", Some(&to.bucket), Some(&to.key), &request_tags(&opened.row.tags)).await?;
    }
    // What it is of has its segments still; the copy is an object of its own.
    let old = About { segments: Vec::new(), ..opened.row.about.clone() };
    let about = if fresh {
        About { content_type: kind.or(old.content_type), ..said }
    } else {
        let mut metadata = old.metadata;
        metadata.extend(said.metadata);
        About {
            content_type: kind.or(old.content_type),
            cache_control: said.cache_control.or(old.cache_control),
            content_disposition: said.content_disposition.or(old.content_disposition),
            content_encoding: said.content_encoding.or(old.content_encoding),
            content_language: said.content_language.or(old.content_language),
            metadata,
            ..old
        }
    };
    let modified = condition::http_date(opened.row.modified);
    let row = again(visit, opened, to, about, Condition::default()).await?;
    let mut response = created(&row);
    set(response.headers_mut(), "x-copied-from", &source);
    set(response.headers_mut(), "x-copied-from-account", &visit.place.account);
    set(response.headers_mut(), "x-copied-from-last-modified", &modified);
    Ok(response)
}

/// Reads stored bytes and writes them anew, under a key of their own.
async fn again(
    visit: &Visit<'_>,
    opened: crate::open::Opened,
    to: Target,
    about: About,
    condition: Condition,
) -> Result<ObjectRow, Fault> {
    let (size, tags) = (opened.row.size, opened.row.tags.clone());
    if size > MOST_BODY {
        let words = format!("Objects of more than {MOST_BODY} bytes cannot be copied.");
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, words));
    }
    let store = &visit.call.store();
    let reading = store.source(opened, 0..size).await?.stream().await?;
    let sealed = store.seal(&to.project, reading, None, MOST_BODY).await?;
    Ok(store.put(to, Writes { tags, how: How::Copy, ..visit.writes(about) }, sealed, condition).await?)
}

/// The condition keys of a call that makes an object, of another one or of its own body.
pub fn creation(source: Option<&str>) -> Vec<(String, String)> {
    let copied = source.map(|source| ("s3:x-amz-copy-source".to_owned(), source.to_owned()));
    [("s3:ObjectCreationOperation".to_owned(), "true".to_owned())].into_iter().chain(copied).collect()
}

/// An object that a header names, `[/]container/object` with percent signs; `account` can only be the call's own.
fn path(visit: &Visit<'_>, path: &str, account: Option<&str>) -> Result<Target, Fault> {
    if account.is_some_and(|account| account != visit.place.account) {
        return Err(super::denied());
    }
    let path = path.strip_prefix('/').unwrap_or(path);
    let wrong = || Fault::new(StatusCode::PRECONDITION_FAILED, "The path must be of the form container/object.");
    let (container, key) = path.split_once('/').filter(|(_, key)| !key.is_empty()).ok_or_else(wrong)?;
    visit.target(&decoded(container)?, &decoded(key)?)
}

/// The answer to a write.
pub fn created(row: &ObjectRow) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    set(response.headers_mut(), "etag", &row.etag);
    set(response.headers_mut(), "last-modified", &condition::http_date(row.modified));
    response
}

/// What is known of an object, as headers.
fn describe(headers: &mut HeaderMap, row: &ObjectRow) {
    set(headers, "content-type", kind_of(row));
    set(headers, "etag", &row.etag);
    set(headers, "last-modified", &condition::http_date(row.modified));
    set(headers, "x-timestamp", &stamp(row.modified));
    set(headers, "accept-ranges", "bytes");
    for (name, value) in [
        ("cache-control", &row.about.cache_control),
        ("content-disposition", &row.about.content_disposition),
        ("content-encoding", &row.about.content_encoding),
        ("content-language", &row.about.content_language),
    ] {
        if let Some(value) = value {
            set(headers, name, value);
        }
    }
    if large::is_large(row) {
        set(headers, "x-static-large-object", "True");
    }
    for (name, value) in &row.about.metadata {
        set_metadata(headers, "x-object-meta-", name, value);
    }
}

/// An item of metadata as a header.
pub fn set_metadata(headers: &mut HeaderMap, prefix: &str, name: &str, value: &str) {
    let name = HeaderName::from_bytes(format!("{prefix}{name}").as_bytes());
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
        headers.insert(name, value);
    }
}

/// The type of an object whose writer may not have said one.
pub fn kind_of(row: &ObjectRow) -> &str {
    row.about.content_type.as_deref().unwrap_or(DEFAULT_TYPE)
}

/// A time as Swift counts it: seconds of Unix time.
pub fn stamp(milliseconds: i64) -> String {
    format!("{}.{:03}00", milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000))
}

/// What the writer of an object says of it.
pub fn about(headers: &HeaderMap) -> Result<About, Fault> {
    for name in ["x-delete-at", "x-delete-after", "x-object-manifest", "x-symlink-target"] {
        if header_text(headers, name).is_some_and(|value| !value.trim().is_empty()) {
            return Err(Fault::not_offered(&format!("The header {name}")));
        }
    }
    let mut metadata = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("x-object-meta-") else { continue };
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Fault::bad("Metadata is UTF-8."))?.trim();
        if name.is_empty() || name.len() > LONGEST_NAME || value.len() > LONGEST_VALUE {
            let words = format!("Metadata has names of 1 to {LONGEST_NAME} bytes and values of up to {LONGEST_VALUE}.");
            return Err(Fault::bad(words));
        }
        metadata.insert(name.to_owned(), value.to_owned());
    }
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if metadata.len() > MOST_NAMES || bytes > MOST_METADATA {
        return Err(Fault::bad(format!(
            "There are at most {MOST_NAMES} items of metadata, of {MOST_METADATA} bytes in all."
        )));
    }
    let text = |name| match header_text(headers, name).filter(|value| !value.is_empty()) {
        Some(value) if value.len() > LONGEST_HEADER => Err(Fault::bad(format!("The header {name} is too long."))),
        value => Ok(value.map(str::to_owned)),
    };
    Ok(About {
        content_type: Some(text("content-type")?.unwrap_or_else(|| DEFAULT_TYPE.to_owned())),
        cache_control: text("cache-control")?,
        content_disposition: text("content-disposition")?,
        content_encoding: text("content-encoding")?,
        content_language: text("content-language")?,
        metadata,
        ..About::default()
    })
}

/// The entity tag that the data is to have.
fn wanted(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(tag) = header_text(headers, "etag") else { return Ok(None) };
    let tag = tag.trim().trim_matches('"').to_ascii_lowercase();
    if tag.is_empty() {
        return Ok(None);
    }
    let is_md5 = tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_md5
        .then_some(Some(tag))
        .ok_or_else(|| Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "The ETag is not an MD5 sum."))
}

/// The condition of a write. Swift knows but one: that there is nothing yet.
pub fn condition_of(headers: &HeaderMap) -> Result<Condition, Fault> {
    match header_text(headers, "if-none-match").map(str::trim) {
        None | Some("") => Ok(Condition::default()),
        Some("*") => Ok(Condition { matches: None, none_matches: Some(Tag::Any) }),
        Some(_) => Err(Fault::bad("If-None-Match can only be * here.")),
    }
}

/// Why a write did not happen, where its condition is the only reason to speak of an object that is not there.
fn missing_is_failure<T>(cause: Error) -> Result<T, Fault> {
    match cause {
        Error::NoSuchKey => Err(Error::Precondition.into()),
        cause => Err(cause.into()),
    }
}

const DEFAULT_TYPE: &str = "application/octet-stream";
/// Swift's limits (<https://docs.openstack.org/api-ref/object-store/#limits>).
const LONGEST_NAME: usize = 128;
const LONGEST_VALUE: usize = 256;
const MOST_NAMES: usize = 90;
const MOST_METADATA: usize = 4096;
/// So that a row of the index has a bound.
const LONGEST_HEADER: usize = 1024;
