//! `/cloud/project/{p}/region/{r}/storage`: buckets, their objects, and presigned URLs to move bytes by. The bytes
//! themselves go through the object gate only.

use std::time::Duration;

use identity::Identity;
use model::{BucketName, ProjectId};
use objects::{Bucket, NewBucket, ObjectInfo};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    project::find_region,
    request::{Call, Reply},
};

/// The buckets, in the form of the older containers.
pub(crate) async fn containers(call: Call) -> Result<Reply, ApiError> {
    let project = &call.project()?.id;
    let mut shown = Vec::new();
    for bucket in call.api.objects.buckets(project).await? {
        let size = measure(&call, project, &bucket.name).await?;
        shown.push(json!({
            "id": bucket.name,
            "name": bucket.name,
            "region": call.api.config.regions.first(),
            "archive": false,
            "containerType": "private",
            "storedBytes": size.bytes,
            "storedObjects": size.objects,
        }));
    }
    Reply::json(&shown)
}

/// The buckets of a region; there is one store, which every region shows.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    find_region(&call)?;
    let project = &call.project()?.id;
    let mut shown = Vec::new();
    for bucket in call.api.objects.buckets(project).await? {
        let size = measure(&call, project, &bucket.name).await?;
        shown.push(describe(&call, &bucket, size, &[])?);
    }
    Reply::json(&shown)
}

/// Makes a bucket.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        name: String,
        encryption: Option<Encryption>,
        versioning: Option<Versioning>,
    }
    #[derive(Deserialize)]
    struct Encryption {
        #[serde(rename = "sseAlgorithm")]
        algorithm: Option<String>,
    }
    #[derive(Deserialize)]
    struct Versioning {
        status: Option<String>,
    }
    find_region(&call)?;
    let body: Body = call.json()?;
    let name: BucketName =
        body.name.parse().map_err(|fault: model::InvalidId| ApiError::bad_field("name", fault.to_string()))?;
    if body.encryption.and_then(|asked| asked.algorithm).is_some_and(|algorithm| algorithm != "AES256") {
        return Err(ApiError::bad_field("encryption", "AES256: every object is encrypted"));
    }
    if body.versioning.and_then(|asked| asked.status).is_some_and(|status| status != "disabled") {
        return Err(ApiError::bad_field("versioning", "disabled: versions of objects are not kept"));
    }
    let project = &call.project()?.id;
    call.api.objects.create_bucket(project, &name, NewBucket::default()).await?;
    let bucket = call.api.objects.bucket(project, &name).await?.ok_or_else(|| absent(name.as_str()))?;
    Reply::json(&describe(&call, &bucket, Size::default(), &[])?)
}

/// One bucket, with its objects: at most `limit`, after `marker`, under `prefix`.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    let project = &call.project()?.id;
    let limit = match call.query("limit").filter(|text| !text.is_empty()) {
        None => LARGEST_LISTING,
        Some(text) => {
            let limit = text.parse::<u32>().ok().filter(|limit| (1..=LARGEST_LISTING).contains(limit));
            limit.ok_or_else(|| ApiError::bad_field("limit", format!("a whole number from 1 to {LARGEST_LISTING}")))?
        }
    };
    let prefix = call.query("prefix").unwrap_or_default();
    let marker = call.query("marker").filter(|text| !text.is_empty());
    if prefix.len() > LONGEST_KEY || marker.is_some_and(|marker| marker.len() > LONGEST_KEY) {
        return Err(ApiError::bad_request("A key has at most 1024 bytes"));
    }
    let listing = call.api.objects.list(project, &bucket.name, prefix, marker, limit).await?;
    // A reader that goes on after a marker has seen the sums.
    let size = match marker {
        None => measure(&call, project, &bucket.name).await?,
        Some(_) => Size::of(&listing.objects),
    };
    Reply::json(&describe(&call, &bucket, size, &listing.objects)?)
}

/// Removes an empty bucket.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    call.api.objects.delete_bucket(&call.project()?.id, &bucket.name).await?;
    Reply::void()
}

/// Removes an object.
pub(crate) async fn delete_object(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    let (project, key) = (&call.project()?.id, call.param("objectKey")?);
    if key.len() > LONGEST_KEY || call.api.objects.head(project, &bucket.name, key).await?.is_none() {
        return Err(ApiError::not_found("objectKey", key));
    }
    call.api.objects.delete_object(project, &bucket.name, key).await?;
    Reply::void()
}

/// A URL by which one object can be read or written for a while without any key.
pub(crate) async fn presign(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        expire: i64,
        method: String,
        object: String,
    }
    let bucket = find(&call).await?;
    let body: Body = call.json()?;
    let seconds = u64::try_from(body.expire).ok().filter(|seconds| (1..=LONGEST_EXPIRY).contains(seconds));
    let seconds = seconds
        .ok_or_else(|| ApiError::bad_field("expire", format!("a number of seconds from 1 to {LONGEST_EXPIRY}")))?;
    if !matches!(body.method.as_str(), "GET" | "PUT") {
        return Err(ApiError::bad_field("method", "GET or PUT"));
    }
    if body.object.is_empty() || body.object.len() > LONGEST_KEY || body.object.contains('\0') {
        return Err(ApiError::bad_field("object", "a key of 1 to 1024 bytes, without a NUL"));
    }
    let key = signing_key(&call.api.identity, &call.project()?.id, &call).await?;
    let region = call.api.config.regions.first().ok_or_else(ApiError::failed)?;
    let url = objects::presign(
        &key.access,
        &key.secret,
        region.as_str(),
        &call.api.config.objects_url,
        &body.method,
        bucket.name.as_str(),
        &body.object,
        Duration::from_secs(seconds),
    );
    Reply::json(
        &json!({ "method": body.method, "url": url, "signedHeaders": { "host": host(&call.api.config.objects_url) } }),
    )
}

struct SigningKey {
    access: String,
    secret: String,
}

/// The key that a project's URLs are signed with: one a project, of a user whose description says what it is for.
/// Removing that user ends all the URLs that were given out.
async fn signing_key(identity: &Identity, project: &ProjectId, call: &Call) -> Result<SigningKey, ApiError> {
    // Of two calls that both find none, each makes one, and the later takes its own away again. No key that signed a
    // URL is ever taken away here.
    for _ in 0..3 {
        let user = match signing_user(identity, project).await? {
            Some(user) => user,
            None => {
                let made = identity.create_user(project, SIGNER, &call.actor()).await?;
                let first = signing_user(identity, project).await?.unwrap_or(made.id);
                if first != made.id {
                    identity.delete_user(project, made.id, &call.actor()).await?;
                }
                first
            }
        };
        let access = match identity.s3_keys(project, Some(user)).await?.into_iter().next() {
            Some(key) => key.access,
            None => {
                let made = identity.create_s3_key(project, Some(user), &call.actor()).await?;
                let first = identity.s3_keys(project, Some(user)).await?.into_iter().next();
                let first = first.map_or_else(|| made.access.clone(), |key| key.access);
                if first != made.access {
                    identity.delete_s3_key(project, &made.access, &call.actor()).await?;
                }
                first
            }
        };
        // Gone again only if somebody removed it meanwhile.
        if let Some(grant) = identity.find_s3_key(&access).await? {
            return Ok(SigningKey { access, secret: grant.secret.to_string() });
        }
    }
    Err(ApiError::unavailable())
}

async fn signing_user(identity: &Identity, project: &ProjectId) -> Result<Option<i64>, ApiError> {
    let users = identity.users(project).await?;
    Ok(users.into_iter().find(|user| user.description == SIGNER).map(|user| user.id))
}

/// The bucket of the path.
async fn find(call: &Call) -> Result<Bucket, ApiError> {
    find_region(call)?;
    let given = call.param("name")?;
    let name: BucketName = given.parse().map_err(|_| absent(given))?;
    call.api.objects.bucket(&call.project()?.id, &name).await?.ok_or_else(|| absent(given))
}

fn absent(name: &str) -> ApiError {
    ApiError::not_found("name", name)
}

/// What a bucket holds.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    objects: u64,
    bytes: u64,
}

impl Size {
    fn of(objects: &[ObjectInfo]) -> Size {
        Size { objects: objects.len() as u64, bytes: objects.iter().map(|object| object.size).sum() }
    }
}

async fn measure(call: &Call, project: &ProjectId, bucket: &BucketName) -> Result<Size, ApiError> {
    let mut total = Size::default();
    let mut after: Option<String> = None;
    loop {
        let listing = match call.api.objects.list(project, bucket, "", after.as_deref(), LARGEST_LISTING).await {
            // Removed since it was listed.
            Err(objects::Error::NoSuchBucket { .. }) => return Ok(total),
            listing => listing?,
        };
        let page = Size::of(&listing.objects);
        total = Size { objects: total.objects + page.objects, bytes: total.bytes + page.bytes };
        match listing.objects.into_iter().next_back() {
            Some(last) if listing.truncated => after = Some(last.key),
            _ => return Ok(total),
        }
    }
}

fn describe(call: &Call, bucket: &Bucket, size: Size, objects: &[ObjectInfo]) -> Result<Value, ApiError> {
    let region = match call.param("regionName") {
        Ok(_) => find_region(call)?,
        Err(_) => call.api.config.regions.first().ok_or_else(ApiError::failed)?,
    };
    Ok(json!({
        "name": bucket.name,
        "region": region,
        "createdAt": bucket.created,
        "ownerId": 0,
        "objectsCount": size.objects,
        "objectsSize": size.bytes,
        "objects": objects.iter().map(describe_object).collect::<Vec<_>>(),
        "virtualHost": virtual_host(&call.api.config.objects_url, &bucket.name),
        "encryption": { "sseAlgorithm": "AES256" },
        "versioning": { "status": "disabled" },
    }))
}

fn describe_object(object: &ObjectInfo) -> Value {
    json!({
        "key": object.key,
        "size": object.size,
        "etag": object.etag,
        "lastModified": object.modified,
        "storageClass": "STANDARD",
    })
}

fn virtual_host(base: &str, bucket: &BucketName) -> String {
    match base.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{bucket}.{rest}/"),
        None => format!("{base}/{bucket}"),
    }
}

fn host(base: &str) -> &str {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Says in the list of users what this one is for.
const SIGNER: &str = "Signs the presigned URLs of the API";
const LARGEST_LISTING: u32 = 1_000;
const LONGEST_KEY: usize = 1_024;
/// Seven days, the bound of the S3 signature.
const LONGEST_EXPIRY: u64 = 604_800;
