//! `/cloud/project/{p}/region/{r}/storage`: buckets, their objects, and presigned URLs to move bytes by. The bytes
//! themselves go through the object gate only.

use std::{collections::HashMap, time::Duration};

use identity::BucketRole;
use model::{BucketName, ProjectId};
use objects::{Bucket, NewBucket, ObjectInfo};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    ApiError, platform_users,
    project::find_region,
    request::{Call, Reply},
    users,
};

/// The buckets of a project, all of which are in its region.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    find_region(&call)?;
    let project = &call.project()?.id;
    let owners = Owners::read(&call).await?;
    let until = Instant::now() + COUNTING;
    let mut shown = Vec::new();
    for bucket in call.api.objects.buckets(project).await? {
        let size = measure(&call, project, &bucket.name, until).await?;
        shown.push(describe(&call, &bucket, &owners, size, &[])?);
    }
    Reply::json(&shown)
}

/// What a bucket is to be.
#[derive(Deserialize)]
struct Settings {
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

/// `cloud.storage.VersioningStatusEnum`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Disabled,
    Enabled,
    Suspended,
}

impl Settings {
    /// The status of versioning that is asked for, if one is. Every bucket is encrypted, so that this is all there is.
    fn status(&self) -> Result<Option<Status>, ApiError> {
        let algorithm = self.encryption.as_ref().and_then(|asked| asked.algorithm.as_deref());
        if algorithm.is_some_and(|algorithm| algorithm != "AES256") {
            return Err(ApiError::bad_field("encryption", "AES256: every object is encrypted"));
        }
        match self.versioning.as_ref().and_then(|asked| asked.status.as_deref()) {
            None => Ok(None),
            Some("disabled") => Ok(Some(Status::Disabled)),
            Some("enabled") => Ok(Some(Status::Enabled)),
            Some("suspended") => Ok(Some(Status::Suspended)),
            Some(_) => Err(ApiError::bad_field("versioning", "disabled, enabled or suspended")),
        }
    }
}

/// Makes a bucket. `ownerId` is a user of the project; it is shown with the bucket, and gives no right that the user's
/// roles and policy do not give.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        name: String,
        #[serde(rename = "ownerId")]
        owner: Option<i64>,
        #[serde(flatten)]
        settings: Settings,
    }
    find_region(&call)?;
    let body: Body = call.json()?;
    let name = bucket_name("name", &body.name)?;
    let status = body.settings.status()?;
    let project = &call.project()?.id;
    let owner = match body.owner {
        None => None,
        Some(id) => {
            let user = call.api.identity.user(project, id).await?;
            let user = user.ok_or_else(|| ApiError::bad_field("ownerId", "the id of a user of the project"))?;
            Some(format!("{BY_USER}{}", user.username))
        }
    };
    let wanted = NewBucket { owner, versioning: status == Some(Status::Enabled), lock: false };
    call.api.objects.create_bucket(project, &name, wanted).await?;
    if status == Some(Status::Suspended) {
        call.api.objects.set_versioning(project, &name, false).await?;
    }
    let bucket = call.api.objects.bucket(project, &name).await?.ok_or_else(|| absent(name.as_str()))?;
    Reply::json(&describe(&call, &bucket, &Owners::read(&call).await?, Some(Size::default()), &[])?)
}

/// Changes whether a bucket keeps versions. Once it did, that can be suspended and not be undone.
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    let settings: Settings = call.json()?;
    let project = &call.project()?.id;
    match settings.status()? {
        None => {}
        Some(Status::Disabled) if bucket.versioning.is_none() => {}
        Some(Status::Disabled) => {
            let rule = "enabled or suspended: the bucket keeps versions, which is not undone";
            return Err(ApiError::bad_field("versioning", rule));
        }
        Some(Status::Suspended) if bucket.lock => {
            return Err(ApiError::bad_field("versioning", "enabled: the bucket has object lock, which needs versions"));
        }
        Some(status) => {
            call.api.objects.set_versioning(project, &bucket.name, status == Status::Enabled).await?;
        }
    }
    let bucket = find(&call).await?;
    let size = measure(&call, project, &bucket.name, Instant::now() + COUNTING).await?;
    Reply::json(&describe(&call, &bucket, &Owners::read(&call).await?, size, &[])?)
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
    let prefix = key_of_query(&call, "prefix")?.unwrap_or_default();
    let marker = key_of_query(&call, "marker")?;
    let listing = call.api.objects.list(project, &bucket.name, prefix, marker, limit).await?;
    // A reader that goes on after a marker has seen the sums.
    let patience = if marker.is_none() { COUNTING } else { Duration::ZERO };
    let size = measure(&call, project, &bucket.name, Instant::now() + patience).await?;
    Reply::json(&describe(&call, &bucket, &Owners::read(&call).await?, size, &listing.objects)?)
}

/// Removes an empty bucket; with `recursive`, as of the older containers, one that is not.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    remove(&call, &bucket.name).await?;
    Reply::void()
}

/// Removes a bucket, and with `recursive` in the query every version of its objects first. What a lock keeps stays, and
/// so does the bucket.
pub(crate) async fn remove(call: &Call, bucket: &BucketName) -> Result<(), ApiError> {
    let project = &call.project()?.id;
    if flag(call, "recursive")? {
        let begun = Instant::now();
        while call.api.objects.empty_bucket(project, bucket).await? > 0 {
            if begun.elapsed() > EMPTYING {
                return Err(ApiError::unfinished("There are more objects than one call can remove; call again"));
            }
        }
    }
    Ok(call.api.objects.delete_bucket(project, bucket).await?)
}

/// Removes an object. Where the bucket keeps versions, it becomes an older one, which S3 can read and bring back.
pub(crate) async fn delete_object(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    let (project, key) = (&call.project()?.id, call.param("objectKey")?);
    if key.len() > LONGEST_KEY || call.api.objects.head(project, &bucket.name, key).await?.is_none() {
        return Err(ApiError::not_found("objectKey", key));
    }
    call.api.objects.delete_object(project, &bucket.name, key).await?;
    Reply::void()
}

/// Gives a user a role on a bucket, or on those of its objects that `objectKey` names, `*` and `?` allowed: a statement
/// of the user's policy, in the place of the one that it had for the same objects. A user without a policy gets one by
/// it, and so is narrowed: from then on it may do what this role gives, and no more.
pub(crate) async fn add_policy(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "roleName")]
        role: String,
        #[serde(rename = "objectKey")]
        key: Option<String>,
    }
    let bucket = find(&call).await?;
    let user = users::find(&call).await?;
    let body: Body = call.json()?;
    let role: BucketRole = body
        .role
        .parse()
        .map_err(|fault: identity::NoBucketRole| ApiError::bad_field("roleName", fault.to_string()))?;
    let key = body.key.unwrap_or_default();
    if key.len() > LONGEST_KEY || key.chars().any(char::is_control) {
        return Err(ApiError::bad_field("objectKey", "at most 1024 bytes, without a control character"));
    }
    let identity = &call.api.identity;
    identity.grant_bucket_role(&user.project, user.id, &bucket.name, &key, role, &call.actor()).await?;
    Reply::void()
}

/// A URL by which one object can be read, written or removed for a while without any key.
pub(crate) async fn presign(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        expire: i64,
        method: String,
        object: String,
        #[serde(rename = "storageClass")]
        class: Option<String>,
    }
    let bucket = find(&call).await?;
    let body: Body = call.json()?;
    let seconds = u64::try_from(body.expire).ok().filter(|seconds| (1..=LONGEST_EXPIRY).contains(seconds));
    let seconds = seconds
        .ok_or_else(|| ApiError::bad_field("expire", format!("a number of seconds from 1 to {LONGEST_EXPIRY}")))?;
    if !matches!(body.method.as_str(), "DELETE" | "GET" | "PUT") {
        return Err(ApiError::bad_field("method", "DELETE, GET or PUT"));
    }
    // There is one class, which is as fast as the other's name says.
    if body.class.is_some_and(|class| !matches!(class.as_str(), "HIGH_PERF" | "STANDARD")) {
        return Err(ApiError::bad_field("storageClass", "HIGH_PERF or STANDARD"));
    }
    let url = signed_url(&call, &bucket.name, &body.method, ("object", &body.object), seconds).await?;
    Reply::json(
        &json!({ "method": body.method, "url": url, "signedHeaders": { "host": host(&call.api.config.objects_url) } }),
    )
}

/// A URL that is good for so many seconds; `key` with the name of the field that it came in.
pub(crate) async fn signed_url(
    call: &Call,
    bucket: &BucketName,
    method: &str,
    (field, key): (&str, &str),
    seconds: u64,
) -> Result<String, ApiError> {
    if key.is_empty() || key.len() > LONGEST_KEY || key.contains('\0') {
        return Err(ApiError::bad_field(field, "a key of 1 to 1024 bytes, without a NUL"));
    }
    let signer = platform_users::signing_key(call).await?;
    let region = call.region()?;
    Ok(objects::presign(
        &signer.access,
        &signer.secret,
        region.as_str(),
        &call.api.config.objects_url,
        method,
        bucket.as_str(),
        key,
        Duration::from_secs(seconds),
    ))
}

/// The name of a bucket that a field holds.
pub(crate) fn bucket_name(field: &str, given: &str) -> Result<BucketName, ApiError> {
    given.parse().map_err(|fault: model::InvalidId| ApiError::bad_field(field, fault.to_string()))
}

/// A key, or what keys begin with, in the query.
pub(crate) fn key_of_query<'c>(call: &'c Call, name: &str) -> Result<Option<&'c str>, ApiError> {
    let given = call.query(name).filter(|text| !text.is_empty());
    match given {
        Some(text) if text.len() > LONGEST_KEY => Err(ApiError::bad_field(name, "at most 1024 bytes")),
        given => Ok(given),
    }
}

/// A yes or no of the query; no, if it is not there.
pub(crate) fn flag(call: &Call, name: &str) -> Result<bool, ApiError> {
    match call.query(name) {
        None | Some("" | "false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(ApiError::bad_field(name, "true or false")),
    }
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

/// The users of a project, by what a bucket says of its owner: the user itself, or one of its keys.
struct Owners(HashMap<String, i64>);

impl Owners {
    async fn read(call: &Call) -> Result<Owners, ApiError> {
        let project = &call.project()?.id;
        let users = call.api.identity.users(project).await?;
        let mut owners: HashMap<String, i64> =
            users.into_iter().map(|user| (format!("{BY_USER}{}", user.username), user.id)).collect();
        for key in call.api.identity.s3_keys(project, None).await? {
            if let Some(user) = key.user {
                owners.insert(format!("s3Key/{}", key.access), user);
            }
        }
        Ok(Owners(owners))
    }

    /// 0 where nobody is known: the project itself made it, or its owner is gone.
    fn id(&self, bucket: &Bucket) -> i64 {
        bucket.owner.as_ref().and_then(|owner| self.0.get(owner)).copied().unwrap_or(0)
    }
}

/// What a bucket holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    pub objects: u64,
    pub bytes: u64,
}

/// What a bucket holds now; nothing, if it is not there any more. `None` if it lives elsewhere and cannot be counted by
/// `until`.
pub(crate) async fn measure(
    call: &Call,
    project: &ProjectId,
    bucket: &BucketName,
    until: Instant,
) -> Result<Option<Size>, ApiError> {
    match call.api.objects.usage(project, bucket, until).await {
        Ok(usage) => Ok(usage.map(|usage| Size { objects: usage.objects, bytes: usage.bytes })),
        // Removed since it was listed.
        Err(objects::Error::NoSuchBucket { .. }) => Ok(Some(Size::default())),
        Err(cause) => Err(cause.into()),
    }
}

/// `cloud.StorageContainer`.
fn describe(
    call: &Call,
    bucket: &Bucket,
    owners: &Owners,
    size: Option<Size>,
    objects: &[ObjectInfo],
) -> Result<Value, ApiError> {
    let status = match bucket.versioning {
        None => "disabled",
        Some(true) => "enabled",
        Some(false) => "suspended",
    };
    Ok(json!({
        "name": bucket.name,
        "region": find_region(call)?,
        "createdAt": bucket.created,
        "ownerId": owners.id(bucket),
        "objectsCount": size.map(|size| size.objects),
        "objectsSize": size.map(|size| size.bytes),
        "objects": objects.iter().map(describe_object).collect::<Vec<_>>(),
        "virtualHost": virtual_host(&call.api.config.objects_url, &bucket.name),
        "encryption": { "sseAlgorithm": "AES256" },
        "versioning": { "status": status },
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

/// What stands before a user's name where a bucket says whose it is.
const BY_USER: &str = "user/";
/// The most objects of one answer.
pub(crate) const LARGEST_LISTING: u32 = 1_000;
const LONGEST_KEY: usize = 1_024;
/// For so long the objects of buckets that live elsewhere are counted.
pub(crate) const COUNTING: Duration = Duration::from_secs(10);
/// For so long a call goes on emptying a bucket; the gate ends it at 60 s.
const EMPTYING: Duration = Duration::from_secs(40);
/// Seven days, the bound of the S3 signature.
pub(crate) const LONGEST_EXPIRY: u64 = 604_800;
