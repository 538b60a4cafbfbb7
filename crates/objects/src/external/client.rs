//! The calls to the S3 service elsewhere.

use std::{ops::RangeInclusive, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use model::{BucketName, ProjectId};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions};
use tokio::sync::mpsc::{Receiver, channel};
use url::Url;
use uuid::Uuid;

use super::{
    ExternalConfig, Info, Listed,
    sealed::{Sealed, plain_length},
};
use crate::{
    Error,
    digests::Digests,
    list::Query,
    put::{Condition, Tag, Target},
    rows::About,
};

/// Calls with the service's key, or a job's.
#[derive(Debug)]
pub struct Client {
    pub http: reqwest::Client,
    /// For requests with a body that takes its time: `http` would end them, since its patience begins with the request.
    writes: reqwest::Client,
    pub endpoint: Url,
    pub region: String,
    prefix: String,
    pub own: Credentials,
}

/// What is written.
pub struct Object<'a> {
    pub about: &'a About,
    /// The upload in parts that it is made by.
    pub upload: Option<Uuid>,
    pub condition: &'a Condition,
    /// The data key, wrapped.
    pub wrapped: &'a [u8],
    /// Sealed bytes.
    pub length: u64,
}

/// What was found.
pub struct Found {
    pub info: Info,
    pub wrapped: Vec<u8>,
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

impl Client {
    pub fn new(config: &ExternalConfig) -> Result<Client, Error> {
        let authorities = match &config.authorities {
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?,
            None => Vec::new(),
        };
        let http = || {
            let http = reqwest::Client::builder()
                .connect_timeout(CONNECT_PATIENCE)
                .redirect(reqwest::redirect::Policy::none());
            authorities.iter().cloned().fold(http, reqwest::ClientBuilder::add_root_certificate)
        };
        Ok(Client {
            http: http().read_timeout(READ_PATIENCE).build().map_err(failed)?,
            writes: http().build().map_err(failed)?,
            endpoint: config.endpoint.clone(),
            region: config.region.clone(),
            prefix: config.bucket_prefix.clone(),
            own: Credentials::new(config.access_key.clone(), config.secret_key.as_str()),
        })
    }

    /// What the names of a project's buckets there begin with.
    pub fn buckets_of(&self, project: &ProjectId) -> String {
        let project = project.as_str();
        format!("{}{}-", self.prefix, project.get(..PROJECT_DIGITS).unwrap_or(project))
    }

    fn bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<Bucket, Error> {
        let name = format!("{}{bucket}", self.buckets_of(project));
        if name.len() > LONGEST_NAME {
            let most = LONGEST_NAME - (name.len() - bucket.as_str().len());
            return Err(Error::Invalid(format!("a bucket of this project has a name of at most {most} characters")));
        }
        Bucket::new(self.endpoint.clone(), UrlStyle::Path, name, self.region.clone())
            .map_err(|cause| Error::External(cause.to_string()))
    }

    pub async fn create_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        let there = self.bucket(project, bucket)?;
        let url = there.create_bucket(&self.own).sign(GOOD_FOR);
        // A region other than the protocol's first is named in the body.
        let body = match self.region.as_str() {
            "us-east-1" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        let answer = self.http.put(url).body(body).send().await.map_err(failed)?;
        match refusal(answer).await {
            Ok(_) => Ok(()),
            // The name holds the project's id: it is of an earlier try.
            Err(Refused { code, .. }) if code == "BucketAlreadyOwnedByYou" => Ok(()),
            Err(refused) => Err(refused.into()),
        }
    }

    pub async fn delete_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        let there = self.bucket(project, bucket)?;
        let answer = self.http.delete(there.delete_bucket(&self.own).sign(GOOD_FOR)).send().await.map_err(failed)?;
        match refusal(answer).await {
            Ok(_) => Ok(()),
            Err(Refused { code, .. }) if code == "NoSuchBucket" => Ok(()),
            Err(Refused { code, .. }) if code == "BucketNotEmpty" => Err(Error::NotEmpty { bucket: bucket.clone() }),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Writes an object from a stream of sealed bytes; its entity tag and when it was written.
    pub async fn put(
        &self,
        by: Option<&Credentials>,
        target: &Target,
        object: Object<'_>,
        bytes: Receiver<Sealed>,
    ) -> Result<(String, i64), Error> {
        let bucket = self.bucket(&target.project, &target.bucket)?;
        let by = Some(by.unwrap_or(&self.own));
        let etag = if object.length <= ONE_REQUEST {
            let mut headers = headers_of(&object)?;
            conditions(&mut headers, object.condition)?;
            let mut action = bucket.put_object(by, &target.key);
            sign_headers(&mut action, &headers);
            let request = self
                .writes
                .put(action.sign(GOOD_FOR))
                .timeout(patience(object.length))
                .headers(headers)
                .header(header::CONTENT_LENGTH, object.length)
                .body(body(bytes));
            let answer = refusal(request.send().await.map_err(failed)?).await?;
            etag_of(answer.headers())
        } else {
            self.put_in_parts(by, &bucket, target, &object, bytes).await?
        };
        Ok((etag, crate::store::now()))
    }

    async fn put_in_parts(
        &self,
        by: Option<&Credentials>,
        bucket: &Bucket,
        target: &Target,
        object: &Object<'_>,
        bytes: Receiver<Sealed>,
    ) -> Result<String, Error> {
        let headers = headers_of(object)?;
        let mut action = bucket.create_multipart_upload(by, &target.key);
        sign_headers(&mut action, &headers);
        let request = self.http.post(action.sign(GOOD_FOR)).headers(headers);
        let answer = refusal(request.send().await.map_err(failed)?).await?;
        let text = bounded_text(answer).await?;
        let upload = actions::CreateMultipartUpload::parse_response(&text).map_err(malformed)?;
        let result = self.parts(by, bucket, target, object, upload.upload_id(), bytes).await;
        if result.is_err() {
            let url = bucket.abort_multipart_upload(by, &target.key, upload.upload_id()).sign(GOOD_FOR);
            if let Err(cause) = self.http.delete(url).send().await {
                tracing::warn!(%cause, "an upload to the external object store was not aborted");
            }
        }
        result
    }

    async fn parts(
        &self,
        by: Option<&Credentials>,
        bucket: &Bucket,
        target: &Target,
        object: &Object<'_>,
        upload: &str,
        mut bytes: Receiver<Sealed>,
    ) -> Result<String, Error> {
        let size = ONE_REQUEST.max(object.length.div_ceil(MOST_PARTS));
        let mut etags = Vec::new();
        let mut left = object.length;
        let mut kept = Bytes::new();
        while left > 0 {
            let length = left.min(size);
            left -= length;
            let number = u16::try_from(etags.len() + 1).map_err(|_| Error::External("too many parts".to_owned()))?;
            let url = bucket.upload_part(by, &target.key, number, upload).sign(GOOD_FOR);
            let (to, part) = channel::<Sealed>(1);
            let request = self.writes.put(url).timeout(patience(length));
            let request = request.header(header::CONTENT_LENGTH, length).body(body(part)).send();
            let forward = async {
                let mut wanted = length;
                while wanted > 0 {
                    if kept.is_empty() {
                        kept = match bytes.recv().await {
                            Some(Ok(more)) => more,
                            // Breaks this request off as well.
                            other => {
                                drop(to.send(Err(std::io::Error::other("the object was given up"))).await);
                                drop(other);
                                return;
                            }
                        };
                    }
                    let now = kept.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
                    let piece = kept.split_to(now);
                    wanted -= now as u64;
                    if to.send(Ok(piece)).await.is_err() {
                        return;
                    }
                }
                drop(to);
            };
            let (answer, ()) = tokio::join!(request, forward);
            etags.push(etag_there(refusal(answer.map_err(failed)?).await?.headers()).to_owned());
        }
        let mut headers = HeaderMap::new();
        conditions(&mut headers, object.condition)?;
        let mut action = bucket.complete_multipart_upload(by, &target.key, upload, etags.iter().map(String::as_str));
        sign_headers(&mut action, &headers);
        let url = action.sign(GOOD_FOR);
        let answer = self.http.post(url).headers(headers).body(action.body()).send().await.map_err(failed)?;
        let text = bounded_text(refusal(answer).await?).await?;
        let done = actions::CompleteMultipartUploadResponse::parse(&text).map_err(malformed)?;
        Ok(plain_etag(done.etag()))
    }

    /// Writes an object as it is, locked, to a bucket by its name there.
    pub async fn put_locked(&self, bucket: &str, key: &str, bytes: &[u8], until: Timestamp) -> Result<(), Error> {
        let bucket = Bucket::new(self.endpoint.clone(), UrlStyle::Path, bucket.to_owned(), self.region.clone());
        let bucket = bucket.map_err(|cause| Error::External(cause.to_string()))?;
        let mut digests = Digests::new(None);
        digests.update(bytes);
        let headers = [
            ("content-type", "text/plain; charset=utf-8".to_owned()),
            // S3 takes no lock without a digest of the body.
            ("content-md5", BASE64.encode(digests.finish().md5)),
            ("x-amz-object-lock-mode", "COMPLIANCE".to_owned()),
            ("x-amz-object-lock-retain-until-date", until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ];
        let headers = headers.into_iter().map(|(name, value)| {
            let value = HeaderValue::from_str(&value).map_err(|_| Error::Invalid("a header cannot be sent".to_owned()));
            Ok((HeaderName::from_static(name), value?))
        });
        let headers = headers.collect::<Result<HeaderMap, Error>>()?;
        let mut action = bucket.put_object(Some(&self.own), key);
        sign_headers(&mut action, &headers);
        let request = self.writes.put(action.sign(GOOD_FOR)).timeout(patience(bytes.len() as u64));
        let answer = request.headers(headers).body(bytes.to_vec()).send().await.map_err(failed)?;
        refusal(answer).await?;
        Ok(())
    }

    pub async fn head(&self, by: Option<&Credentials>, target: &Target) -> Result<Option<Found>, Error> {
        let bucket = self.bucket(&target.project, &target.bucket)?;
        let url = bucket.head_object(Some(by.unwrap_or(&self.own)), &target.key).sign(GOOD_FOR);
        let answer = self.http.head(url).send().await.map_err(failed)?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            _ => {
                let answer = refusal(answer).await?;
                let size = number(answer.headers(), header::CONTENT_LENGTH);
                Ok(Some(found(answer, size)?))
            }
        }
    }

    /// Reads an object, or the bytes `sealed` of its sealed stream and what follows them to the end if it is shorter.
    pub async fn get(
        &self,
        by: Option<&Credentials>,
        target: &Target,
        sealed: Option<RangeInclusive<u64>>,
    ) -> Result<Found, Error> {
        let bucket = self.bucket(&target.project, &target.bucket)?;
        let url = bucket.get_object(Some(by.unwrap_or(&self.own)), &target.key).sign(GOOD_FOR);
        let mut request = self.http.get(url);
        if let Some(sealed) = &sealed {
            request = request.header(header::RANGE, format!("bytes={}-{}", sealed.start(), sealed.end()));
        }
        let answer = match refusal(request.send().await.map_err(failed)?).await {
            Ok(answer) => answer,
            Err(refused) if refused.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                let size = self.head(by, target).await?.ok_or(Error::NoSuchKey)?.info.size;
                return Err(Error::InvalidRange { size });
            }
            Err(refused) => return Err(refused.into()),
        };
        let size = match (&sealed, answer.status()) {
            (Some(_), StatusCode::PARTIAL_CONTENT) => {
                let whole = answer.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                whole.and_then(|range| range.rsplit_once('/')).and_then(|(_, size)| size.parse().ok())
            }
            (None, StatusCode::OK) => number(answer.headers(), header::CONTENT_LENGTH),
            _ => None,
        };
        found(answer, size)
    }

    pub async fn delete(&self, by: Option<&Credentials>, target: &Target) -> Result<(), Error> {
        let bucket = self.bucket(&target.project, &target.bucket)?;
        let url = bucket.delete_object(Some(by.unwrap_or(&self.own)), &target.key).sign(GOOD_FOR);
        let answer = self.http.delete(url).send().await.map_err(failed)?;
        match refusal(answer).await {
            Ok(_) => Ok(()),
            Err(refused) if refused.code == "NoSuchKey" => Ok(()),
            Err(refused) => Err(refused.into()),
        }
    }

    pub async fn list(
        &self,
        by: Option<&Credentials>,
        project: &ProjectId,
        bucket: &BucketName,
        query: &Query,
    ) -> Result<(Vec<Listed>, bool), Error> {
        let there = self.bucket(project, bucket)?;
        let mut action = there.list_objects_v2(Some(by.unwrap_or(&self.own)));
        action.with_prefix(query.prefix.as_str());
        action.with_max_keys(query.limit);
        if let Some(delimiter) = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()) {
            action.with_delimiter(delimiter);
        }
        if let Some(after) = &query.after {
            // Behind all keys that are rolled up into it.
            let rolled_up = query.delimiter.as_deref().is_some_and(|delimiter| {
                !delimiter.is_empty() && after.len() > query.prefix.len() && after.ends_with(delimiter)
            });
            let after = if rolled_up { format!("{after}{}", char::MAX) } else { after.clone() };
            action.with_start_after(after);
        }
        let answer = self.http.get(action.sign(GOOD_FOR)).send().await.map_err(failed)?;
        let answer = match refusal(answer).await {
            Err(refused) if refused.code == "NoSuchBucket" => {
                return Err(Error::NoSuchBucket { bucket: bucket.clone() });
            }
            answer => answer?,
        };
        let text = bounded_text(answer).await?;
        let page = actions::ListObjectsV2::parse_response(&text).map_err(malformed)?;
        let more = page.next_continuation_token.is_some();
        let mut entries: Vec<(String, Listed)> = Vec::new();
        for object in page.contents {
            let sealed = object.size.unwrap_or(0);
            let modified = object.last_modified.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
            let info = Info {
                size: plain_length(sealed).unwrap_or(sealed),
                etag: plain_etag(object.etag.as_deref().unwrap_or_default()),
                modified: modified.map_or(0, |at| at.as_millisecond()),
                about: About::default(),
                upload: None,
            };
            entries.push((object.key.clone(), Listed::Object(object.key, Box::new(info))));
        }
        for prefix in page.common_prefixes {
            entries.push((prefix.prefix.clone(), Listed::Prefix(prefix.prefix)));
        }
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        Ok((entries.into_iter().map(|(_, entry)| entry).collect(), more))
    }
}

/// An answer that says no.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    /// S3's code; empty where there was no body.
    pub code: String,
}

impl From<Refused> for Error {
    fn from(Refused { status, code }: Refused) -> Error {
        match (status, code.as_str()) {
            (StatusCode::PRECONDITION_FAILED, _) => Error::Precondition,
            (StatusCode::CONFLICT, "ConditionalRequestConflict") => Error::Precondition,
            (_, "NoSuchBucket") => Error::External("the bucket is gone there".to_owned()),
            (StatusCode::NOT_FOUND, _) => Error::NoSuchKey,
            (status, "") => Error::External(format!("it answered {status}")),
            (status, code) => Error::External(format!("it answered {status} {code}")),
        }
    }
}

/// An answer that says yes, or what it says else.
pub async fn refusal(answer: reqwest::Response) -> Result<reqwest::Response, Refused> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = bounded_text(answer).await.unwrap_or_default();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.filter(|code| code.len() < 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Err(Refused { status, code: code.unwrap_or_default().to_owned() })
}

/// A body that is text, of a bounded length.
pub async fn bounded_text(answer: reqwest::Response) -> Result<String, Error> {
    let mut text = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(bytes) = stream.try_next().await.map_err(failed)? {
        if text.len() + bytes.len() > MOST_TEXT {
            return Err(Error::External("its answer is too long".to_owned()));
        }
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).map_err(|_| Error::External("its answer is not UTF-8".to_owned()))
}

fn found(answer: reqwest::Response, sealed: Option<u64>) -> Result<Found, Error> {
    let headers = answer.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // To try it again would not help.
    let foreign = || Error::Invalid("the object in the external store was not written by this service".to_owned());
    let wrapped = text(KEY).and_then(|key| BASE64.decode(key).ok()).ok_or_else(foreign)?;
    let size = sealed.and_then(plain_length).ok_or_else(foreign)?;
    let modified = text("last-modified").and_then(|at| jiff::fmt::rfc2822::parse(&at).ok());
    let metadata = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        (!name.starts_with(OURS)).then(|| Some((name.to_owned(), value.to_str().ok()?.to_owned())))?
    });
    let about = About {
        content_type: text("content-type"),
        cache_control: text("cache-control"),
        content_disposition: text("content-disposition"),
        content_encoding: text("content-encoding"),
        content_language: text("content-language"),
        expires: text(EXPIRES),
        metadata: metadata.collect(),
        ..About::default()
    };
    let info = Info {
        size,
        etag: etag_of(headers),
        modified: modified.map_or(0, |at| at.timestamp().as_millisecond()),
        about,
        upload: text(UPLOAD).and_then(|id| Uuid::try_parse(&id).ok()),
    };
    Ok(Found { info, wrapped, body: answer.bytes_stream().map_err(failed).boxed() })
}

fn headers_of(object: &Object<'_>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let about = object.about;
    if about.metadata.keys().any(|name| name.starts_with(OURS)) {
        let words = format!("names of metadata that begin with {OURS} are the service's own in this bucket");
        return Err(Error::Invalid(words));
    }
    let named = [
        ("content-type", &about.content_type),
        ("cache-control", &about.cache_control),
        ("content-disposition", &about.content_disposition),
        ("content-encoding", &about.content_encoding),
        ("content-language", &about.content_language),
        (EXPIRES, &about.expires),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    let metadata = about.metadata.iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value.clone()));
    let ours = [(KEY.to_owned(), BASE64.encode(object.wrapped))];
    let upload = object.upload.map(|id| (UPLOAD.to_owned(), id.as_simple().to_string()));
    for (name, value) in named.chain(metadata).chain(ours).chain(upload) {
        let bad = || Error::Invalid(format!("{name} cannot be sent to the external object store as a header"));
        let value = HeaderValue::try_from(value).map_err(|_| bad())?;
        headers.insert(HeaderName::try_from(name.as_str()).map_err(|_| bad())?, value);
    }
    Ok(headers)
}

fn conditions(headers: &mut HeaderMap, condition: &Condition) -> Result<(), Error> {
    for (name, tag) in [(header::IF_MATCH, &condition.matches), (header::IF_NONE_MATCH, &condition.none_matches)] {
        let Some(tag) = tag else { continue };
        let value = match tag {
            Tag::Any => "*".to_owned(),
            Tag::Is(etag) => format!("\"{}\"", etag.strip_suffix(SEALED).unwrap_or(etag)),
        };
        let value =
            HeaderValue::try_from(value).map_err(|_| Error::Invalid("the entity tag is malformed".to_owned()))?;
        headers.insert(name, value);
    }
    Ok(())
}

fn sign_headers<'a>(action: &mut impl S3Action<'a>, headers: &HeaderMap) {
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            action.headers_mut().insert(name.as_str().to_owned(), value.to_owned());
        }
    }
}

fn body(bytes: Receiver<Sealed>) -> reqwest::Body {
    let stream = futures::stream::unfold(bytes, |mut bytes| async { Some((bytes.recv().await?, bytes)) });
    reqwest::Body::wrap_stream(stream)
}

/// How long a request may take that sends so many bytes.
fn patience(length: u64) -> Duration {
    READ_PATIENCE + Duration::from_secs(length / SLOWEST)
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn etag_of(headers: &HeaderMap) -> String {
    plain_etag(etag_there(headers))
}

/// An entity tag as the service there knows it.
fn etag_there(headers: &HeaderMap) -> &str {
    let etag = headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    etag.unwrap_or_default().trim_matches('"')
}

/// An entity tag there as we give it: marked, because clients take 32 digits for the MD5 of the data.
fn plain_etag(etag: &str) -> String {
    format!("{}{SEALED}", etag.trim_matches('"'))
}

pub fn failed(cause: reqwest::Error) -> Error {
    // Its words could hold the URL, which is signed.
    let cause = cause.without_url();
    let mut words = cause.to_string();
    let mut source = std::error::Error::source(&cause);
    while let Some(deeper) = source {
        words.push_str(&format!(": {deeper}"));
        source = deeper.source();
    }
    Error::External(words)
}

fn malformed(cause: impl std::fmt::Display) -> Error {
    Error::External(format!("its answer is malformed: {cause}"))
}

/// What the names of metadata begin with that are not a caller's.
const OURS: &str = "casemate-";
/// The header that holds an object's data key.
const KEY: &str = "x-amz-meta-casemate-key";
/// `Expires` in the form that a row has.
const EXPIRES: &str = "x-amz-meta-casemate-expires";
/// The header that holds the id of the upload in parts that an object was made by.
const UPLOAD: &str = "x-amz-meta-casemate-upload";
const SEALED: &str = "-sealed";
const GOOD_FOR: Duration = Duration::from_secs(3600);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const READ_PATIENCE: Duration = Duration::from_secs(120);
/// Bytes a second below which a line is as good as cut.
const SLOWEST: u64 = 64 << 10;
/// Sealed bytes up to which an object goes in one request.
const ONE_REQUEST: u64 = 64 << 20;
const MOST_PARTS: u64 = 9_000;
const MOST_TEXT: usize = 8 << 20;
const LONGEST_NAME: usize = 63;
const PROJECT_DIGITS: usize = 16;
