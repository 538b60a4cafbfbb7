//! Swift's object API (<https://docs.openstack.org/api-ref/object-store/>) over the same buckets: a container is a
//! bucket, an object is the object of that key. Who calls has a token of [`crate::keystone`], and the rights that the
//! same call of S3 would need. What Swift has and S3 has not is answered 501. Start at [`answer()`].
//!
//! Names of containers are those of buckets. One exception: clients put segments of large objects into a container
//! `NAME_segments` of their own making, whose name no bucket can have; that is the bucket `NAME-segments`.

mod account;
mod answer;
mod condition;
mod container;
mod large;
mod listing;
mod object;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use model::{BucketName, ProjectId};
use s3s::{Body, S3Error, S3ErrorCode};

pub use answer::{empty, escaped, set, text, whole};

use crate::{
    actions::parameter,
    call::Call,
    decide::Wish,
    open::Opened,
    put::{Target, Writes},
    rows::About,
    sse,
};
use answer::{Answer, Fault};

/// The path below which it is: too short for the name of a bucket, so that nothing of S3 is there.
pub const ROOT: &str = "/v1";

/// Answers a call whose path begins with [`ROOT`].
pub async fn answer(call: &Arc<Call>, request: Request<Body>) -> Response<Body> {
    let mut response = match respond(call, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    };
    let id = format!("tx{}", call.request_id());
    set(response.headers_mut(), "x-trans-id", &id);
    set(response.headers_mut(), "x-openstack-request-id", &id);
    response
}

/// What there is to know without a token: which of Swift's parts are here.
pub fn info(call: &Call) -> Response<Body> {
    call.asks("swift", "GetInfo", (None, None), true);
    let info = serde_json::json!({
        "swift": {
            "version": "2.30.0",
            "account_listing_limit": listing::MOST,
            "container_listing_limit": listing::MOST,
            "max_file_size": MOST_BODY,
            "max_object_name_length": LONGEST_KEY,
            "max_container_name_length": 63,
            "policies": [{ "name": "default", "default": true }],
        },
        "slo": {
            "max_manifest_segments": large::MOST_SEGMENTS,
            "max_manifest_size": large::MOST_MANIFEST,
            "min_segment_size": 1,
        },
    });
    text(StatusCode::OK, "application/json; charset=UTF-8", info.to_string())
}

async fn respond(call: &Arc<Call>, request: Request<Body>) -> Answer {
    let place = Place::parse(request.uri().path())?;
    let visit = Visit::new(call, &request, place).await?;
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let Place { container, object, .. } = &visit.place;
    match (container, object) {
        (None, _) => match method {
            Method::GET | Method::HEAD => account::list(&visit, &parts).await,
            Method::POST | Method::PUT | Method::DELETE => Err(Fault::not_offered("Changing an account")),
            _ => Err(not_allowed("GET, HEAD")),
        },
        (Some(name), None) => {
            let bucket = bucket(name)?;
            match method {
                Method::GET | Method::HEAD => container::list(&visit, &bucket, &parts).await,
                Method::PUT => container::create(&visit, &bucket, &parts.headers).await,
                Method::POST => container::update(&visit, &bucket, &parts.headers).await,
                Method::DELETE => container::delete(&visit, &bucket).await,
                _ => Err(not_allowed("GET, HEAD, PUT, POST, DELETE")),
            }
        }
        (Some(name), Some(key)) => {
            let at = visit.target(name, key)?;
            match method {
                Method::GET | Method::HEAD => object::read(&visit, at, &parts).await,
                Method::PUT => object::write(&visit, at, &parts, body).await,
                Method::POST => object::update(&visit, at, &parts).await,
                Method::DELETE => object::delete(&visit, at, &parts).await,
                _ if method.as_str() == "COPY" => object::copy_to(&visit, at, &parts).await,
                _ => Err(not_allowed("GET, HEAD, PUT, POST, DELETE, COPY")),
            }
        }
    }
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    account: String,
    container: Option<String>,
    object: Option<String>,
}

impl Place {
    fn parse(path: &str) -> Result<Place, Fault> {
        let rest = path.strip_prefix("/v1/").ok_or_else(Fault::not_found)?;
        let mut segments = rest.splitn(3, '/').map(decoded);
        let account = segments.next().transpose()?.filter(|name| !name.is_empty()).ok_or_else(Fault::not_found)?;
        let container = segments.next().transpose()?.filter(|name| !name.is_empty());
        let object = segments.next().transpose()?.filter(|name| !name.is_empty());
        if container.is_none() && object.is_some() {
            return Err(Fault::not_found());
        }
        Ok(Place { account, container, object })
    }
}

/// A call whose caller is known.
struct Visit<'c> {
    call: &'c Call,
    project: ProjectId,
    place: Place,
    uri: Uri,
}

impl<'c> Visit<'c> {
    /// Finds out who calls: one with a token of this account's project.
    async fn new(call: &'c Call, request: &Request<Body>, place: Place) -> Result<Visit<'c>, Fault> {
        let unauthorized = || {
            let words = "This server could not verify that you are authorized to access the document you requested.";
            let realm = format!("Swift realm=\"{}\"", place.account.escape_default());
            Fault::new(StatusCode::UNAUTHORIZED, words).with(header::WWW_AUTHENTICATE, &realm)
        };
        let token = ["x-auth-token", "x-storage-token"].iter().find_map(|name| request.headers().get(*name));
        let token = token.and_then(|token| token.to_str().ok()).ok_or_else(unauthorized)?;
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(unauthorized());
        }
        let found = call.ground.access.token(token).await.map_err(|cause| {
            tracing::error!(%cause, "a token could not be looked up");
            Fault::new(StatusCode::SERVICE_UNAVAILABLE, "Tokens cannot be looked up.")
        })?;
        let grant = found.ok_or_else(unauthorized)?;
        let project = grant.project.clone();
        call.hold(grant).map_err(|_| unauthorized())?;
        let said =
            |(header, key): (&str, &str)| Some((key.to_owned(), header_text(request.headers(), header)?.to_owned()));
        call.set_scene(
            [("user-agent", "aws:UserAgent"), ("referer", "aws:Referer")].into_iter().filter_map(said).collect(),
        );
        let visit = Visit { call, project, place, uri: request.uri().clone() };
        if visit.place.account.strip_prefix(ACCOUNT) != Some(visit.project.as_str()) {
            let operation = request.method().as_str();
            call.asks("swift", operation, (visit.place.container.as_deref(), visit.place.object.as_deref()), false);
            return Err(denied());
        }
        call.home().await?;
        Ok(visit)
    }

    /// Asks whether the call may be done, which needs the rights that the operation of that name has in S3.
    async fn may(&self, operation: &str, bucket: Option<&BucketName>, key: Option<&str>) -> Result<(), Fault> {
        self.may_as(operation, bucket, key, &[]).await
    }

    /// The same, with condition keys that this call has.
    async fn may_as(
        &self,
        operation: &str,
        bucket: Option<&BucketName>,
        key: Option<&str>,
        more: &[(String, String)],
    ) -> Result<(), Fault> {
        let answer = self.demand(operation, bucket, key, more).await;
        self.call.asks("swift", operation, (bucket.map(BucketName::as_str), key), answer.is_ok());
        answer
    }

    /// The same of what a call touches beside what it is for: the source of a copy, the segments of an object.
    async fn may_too(&self, operation: &str, bucket: &BucketName, key: Option<&str>) -> Result<(), Fault> {
        self.demand(operation, Some(bucket), key, &[]).await
    }

    async fn demand(
        &self,
        operation: &str,
        bucket: Option<&BucketName>,
        key: Option<&str>,
        more: &[(String, String)],
    ) -> Result<(), Fault> {
        self.call.is_in_scope(operation, bucket).map_err(|_| denied())?;
        let action = format!("s3:{}", right(operation));
        let refused = |refusal: S3Error| match refusal.code() {
            S3ErrorCode::AccessDenied => denied(),
            _ => refusal.into(),
        };
        self.call.demand(&Wish { action: &action, bucket, key, version: None, more }).await.map_err(refused)
    }

    /// Opens an object, if it can be read without a key of the customer's.
    async fn open(&self, at: &Target) -> Result<Opened, Fault> {
        let opened = match self.call.store().open_object(at, None).await {
            Ok(opened) => opened,
            Err(cause) => {
                let refusal = self.call.hide(cause, &at.bucket).await;
                return Err(match refusal.code() {
                    S3ErrorCode::AccessDenied => denied(),
                    _ if refusal.status_code() == Some(StatusCode::NOT_FOUND) => Fault::not_found(),
                    _ => refusal.into(),
                });
            }
        };
        sse::to_read(&opened.row.sealing, None)?;
        Ok(opened)
    }

    /// What is written into the bucket that the call is on: sealed as that does by itself.
    fn writes(&self, about: About) -> Writes {
        let sealing = self.call.settings().map(|bucket| bucket.encryption.clone()).unwrap_or_default();
        Writes { about, sealing, ..Writes::default() }
    }

    /// An object of the call's project.
    fn target(&self, container: &str, key: &str) -> Result<Target, Fault> {
        let bucket = bucket(container)?;
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(Fault::bad(format!("Object names have 1 to {LONGEST_KEY} bytes.")));
        }
        Ok(Target { project: self.project.clone(), bucket, key: key.to_owned() })
    }

    /// The first value of a parameter of the query.
    fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.uri, name)
    }
}

/// The right that an operation needs, as policies name it.
fn right(operation: &str) -> &str {
    match operation {
        "ListBuckets" => "ListAllMyBuckets",
        "ListObjectsV2" | "HeadBucket" => "ListBucket",
        "HeadObject" => "GetObject",
        "CopyObject" => "PutObject",
        other => other,
    }
}

/// A container as a bucket.
fn bucket(name: &str) -> Result<BucketName, Fault> {
    let owned = name.strip_suffix(SEGMENTS).map(|of| format!("{of}-segments"));
    owned.as_deref().unwrap_or(name).parse().map_err(|cause: model::InvalidId| Fault::bad(cause.to_string()))
}

fn denied() -> Fault {
    Fault::new(StatusCode::FORBIDDEN, "Access was denied to this resource.")
}

fn not_allowed(allowed: &str) -> Fault {
    let words = "The method is not allowed for this resource.";
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, words).with(header::ALLOW, allowed)
}

/// A part of a path, or of a header that holds one.
fn decoded(text: &str) -> Result<String, Fault> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        let coded = after.get(..2).filter(|_| *first == b'%').and_then(|digits| hex::decode(digits).ok());
        match coded {
            Some(byte) => {
                bytes.extend(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| Fault::new(StatusCode::PRECONDITION_FAILED, "Names are UTF-8."))
}

/// A header as text.
fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value: &HeaderValue| std::str::from_utf8(value.as_bytes()).ok())
}

/// What stands before the project's id in the name of an account.
pub const ACCOUNT: &str = "AUTH_";
const SEGMENTS: &str = "_segments";
const LONGEST_TOKEN: usize = 512;
/// The most bytes of one upload; S3's limit and Swift's are the same.
const MOST_BODY: u64 = 5 << 30;
/// The most bytes of a key; S3's limit and Swift's are the same.
const LONGEST_KEY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_account_a_container_and_an_object() {
        let place = |path: &str| Place::parse(path).ok();
        let of = |account: &str, container: Option<&str>, object: Option<&str>| {
            Some(Place {
                account: account.to_owned(),
                container: container.map(str::to_owned),
                object: object.map(str::to_owned),
            })
        };
        assert_eq!(place("/v1/AUTH_a"), of("AUTH_a", None, None));
        assert_eq!(place("/v1/AUTH_a/"), of("AUTH_a", None, None));
        assert_eq!(place("/v1/AUTH_a/data"), of("AUTH_a", Some("data"), None));
        assert_eq!(place("/v1/AUTH_a/data/"), of("AUTH_a", Some("data"), None));
        assert_eq!(place("/v1/AUTH_a/data/a%2Fb//c+d/"), of("AUTH_a", Some("data"), Some("a/b//c+d/")));
        for wrong in ["/v1", "/v1/", "/v1//data", "/v1/AUTH_a//key", "/v10/AUTH_a", "/v1/AUTH_a/data/%ff"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn containers_are_buckets_and_those_of_segments_have_a_name_that_can_be_one() {
        assert_eq!(bucket("data").ok(), "data".parse().ok());
        assert_eq!(bucket("data_segments").ok(), "data-segments".parse().ok());
        for wrong in ["_segments", "Data", "a", "a_b", "a_segments_", "x_segments_segments"] {
            assert!(bucket(wrong).is_err(), "{wrong}");
        }
    }
}
