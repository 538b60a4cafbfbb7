//! `/cloud/project/{p}/storage`: the buckets once more, as the older containers. The id of a container is its name.

use identity::BucketRole;
use jiff::Timestamp;
use model::BucketName;
use objects::{Bucket, MOST_BUCKETS, NewBucket, ObjectInfo};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    ApiError,
    client_files::known_region,
    public,
    request::{Call, Reply},
    storage::{self, COUNTING, LARGEST_LISTING, LONGEST_EXPIRY, Size},
    users,
};

/// The containers; with `includeType` what each is for.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let with_type = storage::flag(&call, "includeType")?;
    let project = &call.project()?.id;
    let until = Instant::now() + COUNTING;
    let mut shown = Vec::new();
    for bucket in call.api.objects.buckets(project).await? {
        let size = storage::measure(&call, project, &bucket.name, until).await?;
        let kind = if with_type { Some(kind(public::is_public(&call, &bucket.name).await?)) } else { None };
        shown.push(describe(&call, &bucket, size, kind)?);
    }
    Reply::json(&shown)
}

/// Makes a container. There is no archive, whose objects would take hours to read.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        archive: Option<bool>,
        #[serde(rename = "containerName")]
        name: String,
        region: String,
    }
    let body: Body = call.json()?;
    let name = storage::bucket_name("containerName", &body.name)?;
    known_region(&call, &body.region)?;
    if body.archive == Some(true) {
        return Err(ApiError::bad_field("archive", "false: there are no archives"));
    }
    let project = &call.project()?.id;
    call.api.objects.create_bucket(project, &name, NewBucket::default()).await?;
    let bucket = call.api.objects.bucket(project, &name).await?.ok_or_else(|| absent(name.as_str()))?;
    Reply::json(&describe(&call, &bucket, Some(Size::default()), Some(kind(false)))?)
}

/// One container, with the first 1,000 of its objects under `prefix`, or with none if `noObjects` says so.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    let project = &call.project()?.id;
    let prefix = storage::key_of_query(&call, "prefix")?.unwrap_or_default();
    let objects = match storage::flag(&call, "noObjects")? {
        true => Vec::new(),
        false => call.api.objects.list(project, &bucket.name, prefix, None, LARGEST_LISTING).await?.objects,
    };
    let size = storage::measure(&call, project, &bucket.name, Instant::now() + COUNTING).await?;
    let is_public = public::is_public(&call, &bucket.name).await?;
    let mut shown = describe(&call, &bucket, size, Some(kind(is_public)))?;
    shown["cors"] = call.api.objects.cors_origins(project, &bucket.name).await?.into();
    shown["objects"] = objects.iter().map(describe_object).collect();
    shown["public"] = is_public.into();
    shown["staticUrl"] = public::url(&call, &bucket.name)?.into();
    Reply::json(&shown)
}

/// Opens the objects of a container to everybody (`public`), or closes it (`private`).
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "containerType")]
        kind: Option<String>,
    }
    let bucket = find(&call).await?;
    let body: Body = call.json()?;
    match body.kind.as_deref() {
        None => {}
        Some("private") => public::close(&call, &bucket.name).await?,
        Some("public") => public::open(&call, &bucket.name).await?,
        Some("static") => return Err(no_sites("containerType")),
        Some(_) => return Err(ApiError::bad_field("containerType", "private or public")),
    }
    Reply::void()
}

/// Removes an empty container; with `recursive` one that is not, with every version of its objects. What a lock keeps
/// stays, and so does the container; if the call fails midway, what was removed until then is gone.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    storage::remove(&call, &bucket.name).await?;
    Reply::void()
}

/// Lets web pages of an origin, such as `https://app.example.org`, at a container, as far as its policy lets who they
/// call for.
pub(crate) async fn allow_origin(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        origin: String,
    }
    let bucket = find(&call).await?;
    let body: Body = call.json()?;
    check_origin(&body.origin)?;
    call.api.objects.allow_origin(&call.project()?.id, &bucket.name, &body.origin).await?;
    Reply::void()
}

/// Lets web pages of an origin at a container no longer.
pub(crate) async fn disallow_origin(call: Call) -> Result<Reply, ApiError> {
    let bucket = find(&call).await?;
    let origin = call.query("origin").unwrap_or_default();
    check_origin(origin)?;
    if !call.api.objects.disallow_origin(&call.project()?.id, &bucket.name, origin).await? {
        return Err(ApiError::not_found("origin", origin));
    }
    Reply::void()
}

/// A URL by which everybody can read one object for a while, seven days at most.
pub(crate) async fn public_url(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "expirationDate")]
        end: String,
        #[serde(rename = "objectName")]
        object: String,
    }
    let bucket = find(&call).await?;
    let body: Body = call.json()?;
    let end: Option<Timestamp> = body.end.parse().ok();
    let seconds = end.map(|end| end.as_second() - call.now.as_second()).and_then(|left| u64::try_from(left).ok());
    let seconds = seconds
        .filter(|seconds| (1..=LONGEST_EXPIRY).contains(seconds))
        .ok_or_else(|| ApiError::bad_field("expirationDate", "a time by RFC 3339, a second to seven days from now"))?;
    let url = storage::signed_url(&call, &bucket.name, "GET", ("objectName", &body.object), seconds).await?;
    if call.api.objects.head(&call.project()?.id, &bucket.name, &body.object).await?.is_none() {
        return Err(ApiError::not_found("objectName", &body.object));
    }
    Reply::json(&json!({ "expirationDate": end, "getURL": url }))
}

/// Web sites are not served.
pub(crate) async fn make_static(call: Call) -> Result<Reply, ApiError> {
    find(&call).await?;
    Err(no_sites("static"))
}

/// Makes a user that may read the container (`read`), write it (`write`) or do both (`all`), and nothing else. Its
/// password is in this answer and in no other.
pub(crate) async fn create_user(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        description: Option<String>,
        right: String,
    }
    let bucket = find(&call).await?;
    let body: Body = call.json()?;
    let description = users::description(body.description)?;
    let role = |role| identity::role_statement(&bucket.name, "", role);
    let statement = match body.right.as_str() {
        "all" => role(BucketRole::ReadWrite),
        "read" => role(BucketRole::ReadOnly),
        "write" => without(role(BucketRole::ReadWrite), &role(BucketRole::ReadOnly)),
        _ => return Err(ApiError::bad_field("right", "all, read or write")),
    };
    let policy = identity::merge_statement(None, statement).map_err(identity::Error::from)?;
    let (identity, project, by) = (&call.api.identity, &call.project()?.id, call.actor());
    // It has the role of the object store only once its policy narrows it, whatever happens between.
    let made = identity.create_user_with_password(project, &description, &[BEFORE.to_owned()], &by).await?;
    identity.set_user_policy(project, made.user.id, &policy, &by).await?;
    let user = identity.set_user_roles(project, made.user.id, &[AFTER.to_owned()], &by).await?;
    Reply::json(&users::describe_with_password(&user, &made.password))
}

/// How many containers there are, and may be.
pub(crate) async fn quota(call: Call) -> Result<Reply, ApiError> {
    let buckets = call.api.objects.buckets(&call.project()?.id).await?.len();
    Reply::json(&json!({ "buckets": buckets, "maxBuckets": MOST_BUCKETS }))
}

/// The container of the path.
async fn find(call: &Call) -> Result<Bucket, ApiError> {
    let given = call.param("containerId")?;
    let name: BucketName = given.parse().map_err(|_| absent(given))?;
    call.api.objects.bucket(&call.project()?.id, &name).await?.ok_or_else(|| absent(given))
}

fn absent(name: &str) -> ApiError {
    ApiError::not_found("containerId", name)
}

fn no_sites(field: &str) -> ApiError {
    ApiError::bad_field(field, "not offered: web sites are not served from containers; a public one serves its objects")
}

/// Refuses what no browser would send as its origin (<https://www.rfc-editor.org/rfc/rfc6454#section-7>), but for one
/// `*` that stands for a part of it.
fn check_origin(given: &str) -> Result<(), ApiError> {
    let good = given == "*"
        || given.split_once("://").is_some_and(|(scheme, rest)| {
            given.len() <= LONGEST_ORIGIN
                && given.matches('*').count() <= 1
                && matches!(scheme, "http" | "https" | "*")
                && !rest.is_empty()
                && rest.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]*_".contains(c))
        });
    if good {
        return Ok(());
    }
    let rule =
        "'*', or http or https, a host and perhaps a port, such as https://app.example.org, with one '*' at most";
    Err(ApiError::bad_field("origin", rule))
}

/// A statement without the actions of another.
fn without(mut statement: Value, other: &Value) -> Value {
    let other = other["Action"].as_array().cloned().unwrap_or_default();
    if let Some(actions) = statement["Action"].as_array_mut() {
        actions.retain(|action| !other.contains(action));
    }
    statement
}

fn kind(is_public: bool) -> &'static str {
    if is_public { "public" } else { "private" }
}

/// `cloud.storage.Container`.
fn describe(call: &Call, bucket: &Bucket, size: Option<Size>, kind: Option<&str>) -> Result<Value, ApiError> {
    Ok(json!({
        "id": bucket.name,
        "name": bucket.name,
        "region": call.region()?,
        "archive": false,
        "containerType": kind,
        "storedBytes": size.map(|size| size.bytes),
        "storedObjects": size.map(|size| size.objects),
    }))
}

fn describe_object(object: &ObjectInfo) -> Value {
    json!({
        "name": object.key,
        "size": object.size,
        "contentType": object.content_type.as_deref().unwrap_or("application/octet-stream"),
        "lastModified": object.modified,
        "retrievalDelay": 0,
        "retrievalState": "unsealed",
    })
}

const LONGEST_ORIGIN: usize = 255;
/// A role that gives no right at the object store, and the one that does.
const BEFORE: &str = "authentication";
const AFTER: &str = "objectstore_operator";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in
            ["*", "https://app.example.org", "http://localhost:8080", "https://*.example.org", "http://[::1]:80"]
        {
            assert!(check_origin(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "app.example.org",
            "https://",
            "https://a/b",
            "https://a b",
            "https://*.*.org",
            "ftp://a",
            "https://a\n",
        ] {
            assert!(check_origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_may_write_may_not_read() {
        let bucket = "data".parse().expect("a bucket");
        let role = |role| identity::role_statement(&bucket, "", role);
        let write = without(role(BucketRole::ReadWrite), &role(BucketRole::ReadOnly));
        let actions = write["Action"].as_array().expect("a list");
        assert!(actions.contains(&json!("s3:PutObject")) && actions.contains(&json!("s3:DeleteObject")), "{actions:?}");
        assert!(!actions.contains(&json!("s3:GetObject")) && !actions.contains(&json!("s3:ListBucket")), "{actions:?}");
        identity::merge_statement(None, write).expect("a policy");
    }
}
