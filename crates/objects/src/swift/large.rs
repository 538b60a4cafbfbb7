//! Static large objects: a manifest names segments, which are objects, and the object is what they are together.
//!
//! The bytes of the segments are copied into the object, so that it is one like any other, for S3 too, and stays whole
//! whatever becomes of its segments. Which they were is remembered, for clients remove them with it.

use futures::{StreamExt as _, TryStreamExt as _};
use http::{Response, StatusCode, request::Parts};
use s3s::Body;
use serde::Deserialize;

use super::{
    Visit,
    answer::{Answer, Fault, set, text, whole},
    condition, object,
};
use crate::{
    Error,
    digests::Digests,
    put::{Removal, Target},
    rows::{About, ObjectRow, Segment},
    sse,
    versions::Found,
};

/// A segment as a manifest names it
/// (<https://docs.openstack.org/swift/latest/overview_large_objects.html>).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    size_bytes: Option<u64>,
    #[serde(default)]
    range: Option<String>,
}

/// Bytes of an object that was found.
#[derive(Clone)]
struct Source {
    target: Target,
    version: u64,
    bytes: std::ops::Range<u64>,
}

/// Whether clients must know that an object came in parts: its entity tag may be no digest of its bytes, or there are
/// segments of it.
pub fn is_large(row: &ObjectRow) -> bool {
    row.parts > 0 || !row.about.segments.is_empty()
}

/// The manifest of an object; empty if it came in parts in another way.
pub fn manifest(row: &ObjectRow) -> Response<Body> {
    let modified = super::listing::list_time(row.modified);
    let entries = row.about.segments.iter().map(|segment| {
        serde_json::json!({
            "name": segment.path,
            "hash": segment.etag,
            "bytes": segment.size,
            "last_modified": modified,
            "content_type": "application/octet-stream",
        })
    });
    let body = serde_json::Value::from(entries.collect::<Vec<_>>()).to_string();
    let mut response = text(StatusCode::OK, "application/json; charset=utf-8", body);
    set(response.headers_mut(), "etag", &row.etag);
    set(response.headers_mut(), "x-static-large-object", "True");
    set(response.headers_mut(), "last-modified", &condition::http_date(row.modified));
    response
}

/// Makes an object of the segments that the body names.
pub async fn write(visit: &Visit<'_>, at: Target, parts: &Parts, body: Body) -> Answer {
    if visit.parameter("heartbeat").is_some() {
        return Err(Fault::not_offered("The parameter heartbeat"));
    }
    let said = object::about(&parts.headers)?;
    let condition = object::condition_of(&parts.headers)?;
    visit.may_as("PutObject", Some(&at.bucket), Some(&at.key), &object::creation(None)).await?;
    let store = &visit.call.store();
    store.bucket_row(&at.project, &at.bucket).await?;
    let entries = read(body).await?;
    let (segments, sources) = find(visit, entries).await?;
    let wanted = super::header_text(&parts.headers, "etag").map(|tag| tag.trim_matches('"').to_ascii_lowercase());
    if wanted.is_some_and(|wanted| wanted != etag_of(&segments)) {
        let words = "Unable to process the contained instructions: the ETag is not that of the segments.";
        return Err(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, words));
    }
    let of = crate::Store::clone(store);
    let bytes = futures::stream::iter(sources)
        .then(move |source| {
            let store = of.clone();
            async move {
                let opened = store.open_object(&source.target, None).await?;
                if opened.row.version != source.version {
                    return Err(Error::Invalid("A segment was replaced meanwhile.".to_owned()));
                }
                store.source(opened, source.bytes).await?.stream().await
            }
        })
        .try_flatten();
    let sealed = store.seal(&at.project, bytes, None, MOST_OBJECT).await?;
    let about = About { segments, ..said };
    let row = store.put(at, visit.writes(about), sealed, condition).await?;
    Ok(object::created(&row))
}

/// Removes an object and its segments, each if the caller may.
pub async fn delete(visit: &Visit<'_>, at: Target, parts: &Parts) -> Answer {
    let store = &visit.call.store();
    let Found::Object(row) = store.find(&at, None).await? else { return Err(Fault::not_found()) };
    condition::check(&parts.headers, &row)?;
    let mut targets = Vec::with_capacity(row.about.segments.len() + 1);
    for segment in &row.about.segments {
        let target = target(visit, &segment.path)?;
        visit.may_too("DeleteObject", &target.bucket, Some(&target.key)).await?;
        targets.push(target);
    }
    // The object goes last, so that what remains after a failure can be removed by asking again.
    targets.push(at);
    let (mut deleted, mut missing) = (0_u32, 0_u32);
    for target in targets {
        let removal = Removal { key: target.key, ..Removal::default() };
        match store.remove(&target.project, &target.bucket, vec![removal]).await {
            Err(Error::NoSuchBucket { .. }) => missing += 1,
            Err(cause) => return Err(cause.into()),
            Ok(results) => {
                for removed in results {
                    if removed?.changed { deleted += 1 } else { missing += 1 }
                }
            }
        }
    }
    let report = serde_json::json!({
        "Number Deleted": deleted,
        "Number Not Found": missing,
        "Response Status": "200 OK",
        "Response Body": "",
        "Errors": [],
    });
    Ok(text(StatusCode::OK, "application/json", report.to_string()))
}

/// The manifest that a body holds.
async fn read(body: Body) -> Result<Vec<Entry>, Fault> {
    let bytes = whole(body, MOST_MANIFEST).await?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&bytes).map_err(|cause| Fault::bad(format!("The manifest is not valid: {cause}.")))?;
    if entries.is_empty() || entries.len() > MOST_SEGMENTS {
        return Err(Fault::bad(format!("A manifest has 1 to {MOST_SEGMENTS} segments.")));
    }
    Ok(entries)
}

/// Finds the segments, each the very one. All that are wrong are told at once.
async fn find(visit: &Visit<'_>, entries: Vec<Entry>) -> Result<(Vec<Segment>, Vec<Source>), Fault> {
    let store = &visit.call.store();
    let (mut segments, mut sources, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let target = target(visit, &entry.path)?;
        visit.may_too("GetObject", &target.bucket, Some(&target.key)).await?;
        let found = match store.find(&target, None).await {
            Err(Error::NoSuchBucket { .. }) => None,
            found => found?.object(),
        };
        let Some(row) = found else {
            wrong.push(format!("{}, 404 Not Found", entry.path));
            continue;
        };
        let etag = entry.etag.as_deref().map(|tag| tag.trim_matches('"').to_ascii_lowercase());
        sse::to_read(&row.sealing, None)?;
        if etag.is_some_and(|etag| etag != row.etag) {
            wrong.push(format!("{}, Etag Mismatch", entry.path));
        } else if entry.size_bytes.is_some_and(|size| size != row.size) {
            wrong.push(format!("{}, Size Mismatch", entry.path));
        } else if let Some(bytes) = range(entry.range.as_deref(), row.size) {
            // Clients take off the first character, which is to be a slash.
            let path = format!("/{}", entry.path.trim_start_matches('/'));
            segments.push(Segment { path, etag: row.etag.clone(), size: bytes.end - bytes.start });
            sources.push(Source { target, version: row.version, bytes });
        } else {
            wrong.push(format!("{}, Unsatisfiable Range", entry.path));
        }
    }
    if wrong.is_empty() {
        return Ok((segments, sources));
    }
    Err(Fault::bad(format!("Errors:\n{}", wrong.join("\n"))))
}

/// The bytes of a segment that are meant: `FIRST-LAST`, `FIRST-`, `-COUNT`, or all that there are.
fn range(text: Option<&str>, size: u64) -> Option<std::ops::Range<u64>> {
    let range = match text.map(|text| text.split_once('-')) {
        None => 0..size,
        Some(Some(("", count))) => size.saturating_sub(count.parse().ok()?)..size,
        Some(Some((first, ""))) => first.parse().ok()?..size,
        Some(Some((first, last))) => first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?.min(size),
        Some(None) => return None,
    };
    (!range.is_empty()).then_some(range)
}

/// What a path of a manifest names: `/container/object`, not encoded.
fn target(visit: &Visit<'_>, path: &str) -> Result<Target, Fault> {
    let named = path.trim_start_matches('/').split_once('/');
    let (container, key) = named.ok_or_else(|| Fault::bad("A segment is named by /container/object."))?;
    visit.target(container, key)
}

/// The entity tag that Swift gives a manifest: the digest of those of its segments.
fn etag_of(segments: &[Segment]) -> String {
    let mut md5 = Digests::new(None);
    for segment in segments {
        md5.update(segment.etag.as_bytes());
    }
    hex::encode(md5.finish().md5)
}

/// Swift's usual limit.
pub const MOST_SEGMENTS: usize = 1000;
/// Swift's usual limit is 8 MiB, for names that are longer than a key can be.
pub const MOST_MANIFEST: usize = 2 << 20;
/// The most that an object may hold; as for one that S3 makes of parts.
const MOST_OBJECT: u64 = 50 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_a_segment_is_in_it() {
        for (text, expected) in [
            (None, Some(0..10)),
            (Some("0-3"), Some(0..4)),
            (Some("3-"), Some(3..10)),
            (Some("-3"), Some(7..10)),
            (Some("-99"), Some(0..10)),
            (Some("5-99"), Some(5..10)),
            (Some("10-"), None),
            (Some("-"), None),
            (Some("5"), None),
            (Some("5-4"), None),
            (Some("0-18446744073709551615"), None),
        ] {
            assert_eq!(range(text, 10), expected, "{text:?}");
        }
        assert_eq!(range(None, 0), None);
    }
}
