//! A container: a bucket.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, Method, StatusCode, request::Parts};
use model::{BucketName, ProjectId};
use tokio::time::Instant;

use super::{
    Visit,
    answer::{Answer, Fault, empty, set},
    header_text,
    listing::{List, Wanted, list_time},
    object::{kind_of, stamp},
};
use crate::{
    Error, NewBucket, Store,
    list::{Entry, Query},
    rows::Kind,
    store::MOST_LISTED,
};

/// Lists the objects; for `HEAD`, only what the container is.
pub async fn list(visit: &Visit<'_>, bucket: &BucketName, parts: &Parts) -> Answer {
    let wanted = Wanted::new(visit, parts)?;
    let is_list = parts.method == Method::GET;
    let mut keys = vec![("s3:max-keys".to_owned(), wanted.limit.to_string())];
    keys.extend(
        Some(&wanted.prefix).filter(|text| !text.is_empty()).map(|text| ("s3:prefix".to_owned(), text.clone())),
    );
    keys.extend(wanted.delimiter.as_ref().map(|text| ("s3:delimiter".to_owned(), text.clone())));
    let (operation, keys) = if is_list { ("ListObjectsV2", keys.as_slice()) } else { ("HeadBucket", [].as_slice()) };
    visit.may_as(operation, Some(bucket), None, keys).await?;
    let store = &visit.call.store();
    let row = store.bucket_row(&visit.project, bucket).await?;
    let mut response = match is_list {
        true => entries(visit, bucket, wanted).await?.into_response(),
        false => empty(StatusCode::NO_CONTENT),
    };
    // A reader of many pages does not have all counted for each of them.
    let patience = if is_list { Duration::ZERO } else { COUNTING };
    let usage = store.usage(&visit.project, bucket, Instant::now() + patience).await?;
    let headers = response.headers_mut();
    if let Some(usage) = usage {
        set(headers, "x-container-object-count", &usage.objects.to_string());
        set(headers, "x-container-bytes-used", &usage.bytes.to_string());
    }
    set(headers, "x-timestamp", &stamp(row.created));
    set(headers, "x-storage-policy", "default");
    set(headers, "accept-ranges", "bytes");
    for (name, value) in metadata(store, &visit.project, bucket).await? {
        super::object::set_metadata(headers, "x-container-meta-", &name, &value);
    }
    Ok(response)
}

/// The part of the list that is wanted, read a page at a time, so that no more rows than that are in memory at once.
async fn entries(visit: &Visit<'_>, bucket: &BucketName, wanted: Wanted) -> Result<List, Fault> {
    let store = &visit.call.store();
    let mut list = List::new(wanted.form, "container", bucket.as_str());
    let (mut after, mut left) = (wanted.marker, wanted.limit);
    while left > 0 {
        let query = Query {
            prefix: wanted.prefix.clone(),
            delimiter: wanted.delimiter.clone(),
            after: after.take(),
            limit: left.min(MOST_LISTED),
        };
        let (entries, more) = store.entries(&visit.project, bucket, query).await?;
        for entry in &entries {
            if wanted.end.as_deref().is_some_and(|end| entry.name() >= end) {
                return Ok(list);
            }
            match entry {
                Entry::Prefix(_) if wanted.objects_only => continue,
                Entry::Prefix(prefix) => list.push("subdir", prefix, &[]),
                Entry::Object(key, row) => {
                    let fields = [
                        ("hash", row.etag.as_str().into()),
                        ("bytes", row.size.into()),
                        ("content_type", kind_of(row).into()),
                        ("last_modified", list_time(row.modified).into()),
                    ];
                    list.push("object", key, &fields);
                }
            }
            left = left.saturating_sub(1);
        }
        after = entries.last().map(|last| last.name().to_owned());
        if !more {
            break;
        }
    }
    Ok(list)
}

/// Makes a container; where there is one, only its metadata changes.
pub async fn create(visit: &Visit<'_>, bucket: &BucketName, headers: &HeaderMap) -> Answer {
    refuse_unsupported(headers)?;
    visit.may("CreateBucket", Some(bucket), None).await?;
    let store = &visit.call.store();
    let owner = visit.call.grant().map(|grant| grant.identity.clone());
    let made = store.create_bucket(&visit.project, bucket, NewBucket { owner, ..NewBucket::default() }).await;
    let status = match made {
        Ok(()) => StatusCode::CREATED,
        Err(Error::BucketExists { .. }) => StatusCode::ACCEPTED,
        Err(cause) => return Err(cause.into()),
    };
    change_metadata(visit, bucket, headers).await?;
    Ok(empty(status))
}

/// Changes the metadata of a container.
pub async fn update(visit: &Visit<'_>, bucket: &BucketName, headers: &HeaderMap) -> Answer {
    refuse_unsupported(headers)?;
    visit.may("PutBucketTagging", Some(bucket), None).await?;
    visit.call.store().bucket_row(&visit.project, bucket).await?;
    change_metadata(visit, bucket, headers).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Removes a container that has nothing in it.
pub async fn delete(visit: &Visit<'_>, bucket: &BucketName) -> Answer {
    visit.may("DeleteBucket", Some(bucket), None).await?;
    match visit.call.store().delete_bucket(&visit.project, bucket).await {
        Ok(()) => Ok(empty(StatusCode::NO_CONTENT)),
        Err(Error::NotEmpty { .. }) => {
            let words = "There was a conflict when trying to complete your request.";
            Err(Fault::new(StatusCode::CONFLICT, words))
        }
        Err(cause) => Err(cause.into()),
    }
}

/// Refuses what would change who may read, or what is kept: silence would be taken for consent.
fn refuse_unsupported(headers: &HeaderMap) -> Result<(), Fault> {
    for name in [
        "x-container-read",
        "x-container-write",
        "x-container-sync-to",
        "x-container-sync-key",
        "x-versions-location",
        "x-history-location",
        "x-versions-enabled",
    ] {
        if header_text(headers, name).is_some_and(|value| !value.trim().is_empty()) {
            return Err(Fault::not_offered(&format!("The header {name}")));
        }
    }
    let policy = header_text(headers, "x-storage-policy");
    if policy.is_some_and(|policy| !policy.is_empty() && !policy.eq_ignore_ascii_case("default")) {
        return Err(Fault::bad("There is no such storage policy."));
    }
    // These would make things public, or limit them, once anyone acted on them.
    let special =
        ["access-control-allow-origin", "temp-url-key", "temp-url-key-2", "quota-bytes", "quota-count", "web-index"];
    for name in special {
        if header_text(headers, &format!("x-container-meta-{name}")).is_some_and(|value| !value.trim().is_empty()) {
            return Err(Fault::not_offered(&format!("The header x-container-meta-{name}")));
        }
    }
    Ok(())
}

/// The metadata of a container.
async fn metadata(store: &Store, project: &ProjectId, bucket: &BucketName) -> Result<BTreeMap<String, String>, Error> {
    let document = store.document(project, bucket, Kind::Container).await?;
    let Some(document) = document else { return Ok(BTreeMap::new()) };
    serde_json::from_slice(&document).map_err(|_| Error::Damaged { what: "a container's metadata".to_owned() })
}

/// Sets the metadata that the request has, and removes that which it has empty or asks to be removed.
async fn change_metadata(visit: &Visit<'_>, bucket: &BucketName, headers: &HeaderMap) -> Result<(), Fault> {
    let mut changes = BTreeMap::new();
    for (name, value) in headers {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Fault::bad("Metadata is UTF-8."))?.trim();
        if let Some(name) = name.as_str().strip_prefix("x-remove-container-meta-") {
            changes.insert(name.to_owned(), String::new());
        } else if let Some(name) = name.as_str().strip_prefix("x-container-meta-").filter(|name| !name.is_empty()) {
            changes.insert(name.to_owned(), value.to_owned());
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    visit.may_too("PutBucketTagging", bucket, None).await?;
    let store = &visit.call.store();
    let mut metadata = metadata(store, &visit.project, bucket).await?;
    metadata.extend(changes);
    metadata.retain(|_, value| !value.is_empty());
    if metadata.len() > MOST_NAMES
        || metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MOST_METADATA
    {
        return Err(Fault::bad(format!(
            "A container has at most {MOST_NAMES} items of metadata, of {MOST_METADATA} bytes in all."
        )));
    }
    let document = serde_json::to_vec(&metadata).map_err(|_| Fault::bad("The metadata cannot be kept."))?;
    let document = Some(document).filter(|_| !metadata.is_empty());
    Ok(store.set_document(&visit.project, bucket, Kind::Container, document).await?)
}

/// For so long the objects of containers that live elsewhere are counted.
pub const COUNTING: Duration = Duration::from_secs(10);
/// Swift's limits (<https://docs.openstack.org/api-ref/object-store/#limits>).
const MOST_NAMES: usize = 90;
const MOST_METADATA: usize = 4096;
