//! Uploads by a browser's form (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>). `s3s` would hold
//! the file in memory; so forms are read here, in a few segments, and the file goes to the store as it comes.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use jiff::{Timestamp, ToSpan as _};
use s3s::{
    Body, S3Error, S3ErrorCode, S3Result,
    auth::S3Auth as _,
    dto::{Checksum, TimestampFormat},
    s3_error, xml,
};

use super::{
    convert::{Expected, Said, bucket_name, sealing, target, version_of},
    given::{Given, metadata},
    listing::encoded,
    objects::MOST_BODY,
};
use crate::{
    Error, browser,
    call::{Call, Session},
    form::{Form, Head},
    host::Domains,
    notify::How,
    post_policy::Policy,
    put::{Condition, Writes},
    region::{Credential, Signer, signing_time},
    rows::{ObjectRow, Tags},
    sse::CustomerKey,
};

/// Whether a request is a form.
pub fn is_form<B>(request: &Request<B>) -> bool {
    // By its bytes: `s3s` takes parameters beyond ASCII, and would read the form itself.
    let is_form = |kind: &HeaderValue| {
        let name = kind.as_bytes().trim_ascii_start().get(..FORM.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(FORM))
    };
    request.method() == http::Method::POST && request.headers().get(header::CONTENT_TYPE).is_some_and(is_form)
}

/// Reads a form and stores its file.
pub async fn answer(call: &Arc<Call>, request: Request<Body>, domains: &Domains) -> S3Result<Response<Body>> {
    let (bucket, path) = browser::address(&request, domains)?;
    if bucket.is_empty() || !path.is_empty() {
        return Err(s3_error!(MethodNotAllowed, "a form is sent to a bucket"));
    }
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut form = Form::new(kind, body)?;
    let (mut fields, file) = fields(&mut form).await?;
    let key = expanded_key(&mut fields, &file)?;
    let name = bucket_name(&bucket)?;
    if fields.insert("bucket".to_owned(), name.to_string()).is_some_and(|sent| sent != name.as_str()) {
        return Err(s3_error!(InvalidArgument, "the field `bucket` is not the bucket that the form is sent to"));
    }
    let policy = signed_policy(call, &fields).await?;
    let headers = as_headers(&parts.headers, &fields)?;
    let admitted =
        call.admit("PostObject", (Some(&bucket), Some(&key)), policy.is_some(), (&parts.uri, &headers)).await;
    call.asks("s3", "PostObject", (Some(name.as_str()), Some(&key)), admitted.is_ok());
    admitted?;
    let length = policy.map_or(Ok(0..=MOST_BODY), |policy| policy.check(&fields, Timestamp::now()))?;

    let target = target(call, name.as_str(), &key)?;
    let (writes, wanted) = given(call, &fields)?.writes(call)?;
    let field = |name: &str| fields.get(name).cloned();
    let sums = Checksum {
        checksum_crc32: field("x-amz-checksum-crc32"),
        checksum_crc32c: field("x-amz-checksum-crc32c"),
        checksum_crc64nvme: field("x-amz-checksum-crc64nvme"),
        checksum_sha1: field("x-amz-checksum-sha1"),
        checksum_sha256: field("x-amz-checksum-sha256"),
        ..Default::default()
    };
    let asked = field("x-amz-checksum-algorithm");
    let md5 = field("content-md5");
    let expected = Expected::new(md5.as_deref(), sums, asked.as_deref(), &HeaderMap::new())?;
    let most = MOST_BODY.min(*length.end());
    let store = &call.store();
    let data = store.seal(&target.project, form.data(), expected.algorithm(), most).await?;
    if data.0.length < *length.start() {
        return Err(s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed object size."));
    }
    expected.check(&data.1, None)?;
    let writes = Writes { how: How::Post, ..writes };
    let row = store.put(target, writes, wanted.wrap(data)?, Condition::default()).await?;
    done(call, &fields, &key, &row)
}

/// The fields before the file, by their names in lower case, and the head of the file.
async fn fields(form: &mut Form) -> S3Result<(BTreeMap<String, String>, Head)> {
    let mut fields = BTreeMap::new();
    while let Some(head) = form.next().await? {
        if head.name == "file" {
            return Ok((fields, head));
        }
        let text = form.text().await?;
        if let Some(twice) = fields.insert(head.name.clone(), text).map(|_| head.name) {
            return Err(s3_error!(InvalidArgument, "the form has the field `{twice}` twice"));
        }
    }
    let code = S3ErrorCode::Custom("IncorrectNumberOfFilesInPostRequest".into());
    let mut refusal = S3Error::with_message(code, "POST requires exactly one file upload per request.");
    refusal.set_status_code(StatusCode::BAD_REQUEST);
    Err(refusal)
}

/// The key, in which `${filename}` is the file's name where it comes from, without directories.
fn expanded_key(fields: &mut BTreeMap<String, String>, file: &Head) -> S3Result<String> {
    let key = fields.get_mut("key").ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields."
        )
    })?;
    let name = file.filename.as_deref().unwrap_or_default();
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    *key = key.replace("${filename}", name);
    Ok(key.clone())
}

/// The policy of a form, with its signature verified; `None` if it has neither.
async fn signed_policy(call: &Arc<Call>, fields: &BTreeMap<String, String>) -> S3Result<Option<Policy>> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    if field("awsaccesskeyid").is_some() || field("signature").is_some() {
        return Err(s3_error!(
            InvalidRequest,
            "the authorization mechanism is not supported; please use AWS4-HMAC-SHA256"
        ));
    }
    let Some(policy) = field("policy") else {
        return match field("x-amz-signature") {
            None => Ok(None),
            Some(_) => Err(missing("policy")),
        };
    };
    let signature = field("x-amz-signature").ok_or_else(|| missing("X-Amz-Signature"))?;
    let credential = field("x-amz-credential").ok_or_else(|| missing("X-Amz-Credential"))?;
    let date = field("x-amz-date").ok_or_else(|| missing("X-Amz-Date"))?;
    if field("x-amz-algorithm").ok_or_else(|| missing("X-Amz-Algorithm"))? != "AWS4-HMAC-SHA256" {
        return Err(s3_error!(InvalidRequest, "X-Amz-Algorithm is AWS4-HMAC-SHA256"));
    }
    let malformed = || s3_error!(AuthorizationHeaderMalformed, "X-Amz-Credential or X-Amz-Date is not of its form");
    let credential = Credential::parse(credential).filter(|it| it.service == "s3").ok_or_else(malformed)?;
    let signed = signing_time(date).ok_or_else(malformed)?;
    if !date.starts_with(&credential.date) {
        return Err(s3_error!(SignatureDoesNotMatch, "the credential is not of the day of X-Amz-Date"));
    }
    let now = Timestamp::now();
    let (oldest, newest) = (now.saturating_sub((7 * 24).hours()), now.saturating_add(15.minutes()));
    if oldest.is_ok_and(|oldest| signed < oldest) || newest.is_ok_and(|newest| signed > newest) {
        return Err(s3_error!(RequestTimeTooSkewed, "X-Amz-Date is more than a week ago, or in the future"));
    }
    let secret = Session(Arc::clone(call)).get_secret_key(&credential.access_key).await?;
    let expected = Signer::new(secret.expose(), &credential, date).sign_text(policy);
    if !crypto::equal(expected.as_bytes(), signature.as_bytes()) {
        return Err(s3_error!(SignatureDoesNotMatch, "the signature of the policy does not match"));
    }
    call.verify();
    call.set_signed_region(&credential.region);
    Policy::parse(policy).map(Some)
}

/// Fields as the headers that say the same, for what decides by headers.
fn as_headers(sent: &HeaderMap, fields: &BTreeMap<String, String>) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for name in [header::USER_AGENT, header::REFERER] {
        if let Some(value) = sent.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if let Some(acl) = fields.get("acl") {
        headers.insert("x-amz-acl", value("acl", acl)?);
    }
    for (name, text) in fields.iter().filter(|(name, _)| name.starts_with("x-amz-")) {
        let value = value(name, text)?;
        let name = HeaderName::try_from(name).map_err(|_| s3_error!(InvalidArgument, "`{name}` is not a field"))?;
        headers.insert(name, value);
    }
    if let Some(tags) = fields.get("tagging") {
        headers.insert("x-amz-tagging", value("tagging", &tags_of(tags)?)?);
    }
    Ok(headers)
}

fn value(name: &str, text: &str) -> S3Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| s3_error!(InvalidArgument, "the field `{name}` has a character that it cannot have"))
}

/// Tags, which a form has as XML, as a header has them.
fn tags_of(text: &str) -> S3Result<String> {
    let tagging = xml::Deserialize::deserialize(&mut xml::Deserializer::new(text.as_bytes()));
    let tagging: s3s::dto::Tagging =
        tagging.map_err(|_| s3_error!(MalformedXML, "the field `tagging` is not Tagging"))?;
    let tags: Tags = super::convert::tags(tagging.tag_set)?;
    Ok(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(tags).finish())
}

fn given(call: &Call, fields: &BTreeMap<String, String>) -> S3Result<Given> {
    let field = |name: &str| fields.get(name).cloned();
    let time = |name: &str, format: TimestampFormat| {
        let invalid = || s3_error!(InvalidArgument, "the field `{name}` is not a time");
        field(name).map(|text| s3s::dto::Timestamp::parse(format, &text).map_err(|_| invalid())).transpose()
    };
    let customer = |what: &str| field(&format!("x-amz-server-side-encryption-customer-{what}"));
    let own =
        fields.iter().filter_map(|(name, text)| Some((name.strip_prefix("x-amz-meta-")?.to_owned(), text.clone())));
    Ok(Given {
        said: Said {
            content_type: field("content-type"),
            cache_control: field("cache-control"),
            content_disposition: field("content-disposition"),
            content_encoding: field("content-encoding"),
            content_language: field("content-language"),
            expires: time("expires", TimestampFormat::HttpDate)?,
            metadata: metadata(own),
        },
        acl: field("acl"),
        grants: fields.keys().any(|name| name.starts_with("x-amz-grant-")),
        tagging: field("tagging").as_deref().map(tags_of).transpose()?,
        lock_mode: field("x-amz-object-lock-mode"),
        lock_until: time("x-amz-object-lock-retain-until-date", TimestampFormat::DateTime)?,
        hold: field("x-amz-object-lock-legal-hold"),
        algorithm: field("x-amz-server-side-encryption"),
        kms_key: field("x-amz-server-side-encryption-aws-kms-key-id"),
        kms_context: field("x-amz-server-side-encryption-context").is_some(),
        customer: CustomerKey::new(
            customer("algorithm").as_deref(),
            customer("key").as_deref(),
            customer("key-md5").as_deref(),
            call.is_private(),
        )?,
        storage_class: field("x-amz-storage-class"),
        redirect: field("x-amz-website-redirect-location").is_some(),
    })
}

/// The answer that the form asks for.
fn done(call: &Call, fields: &BTreeMap<String, String>, key: &str, row: &ObjectRow) -> S3Result<Response<Body>> {
    let bucket = fields.get("bucket").cloned().unwrap_or_default();
    let (etag, location) = (format!("\"{}\"", row.etag), format!("/{bucket}/{}", encoded(key, true)));
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ETAG, value("etag", &etag)?);
    if let Some(version) = version_of(call, row) {
        headers.insert("x-amz-version-id", value("version", &version)?);
    }
    let (algorithm, kms_key) = sealing(&row.sealing);
    if let Some(algorithm) = algorithm {
        headers.insert("x-amz-server-side-encryption", value("algorithm", algorithm.as_str())?);
    }
    if let Some(key) = kms_key {
        headers.insert("x-amz-server-side-encryption-aws-kms-key-id", value("key", &key)?);
    }
    let redirect = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
    // What is no address of a page is as if it were not there, as S3 has it.
    let page = redirect.and_then(|text| text.parse::<url::Url>().ok());
    if let Some(mut page) = page.filter(|page| ["http", "https"].contains(&page.scheme()) && page.has_host()) {
        page.query_pairs_mut().append_pair("bucket", &bucket).append_pair("key", key).append_pair("etag", &etag);
        headers.insert(header::LOCATION, value("success_action_redirect", page.as_str())?);
        *response.status_mut() = StatusCode::SEE_OTHER;
        return Ok(response);
    }
    headers.insert(header::LOCATION, value("location", &location)?);
    *response.status_mut() = match fields.get("success_action_status").map(String::as_str) {
        Some("200") => StatusCode::OK,
        Some("201") => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    };
    if response.status() == StatusCode::CREATED {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        *response.body_mut() = Body::from(document(&location, &bucket, key, &etag)?);
    }
    Ok(response)
}

fn document(location: &str, bucket: &str, key: &str, etag: &str) -> S3Result<String> {
    let mut text = Vec::new();
    let mut serializer = xml::Serializer::new(&mut text);
    let written = serializer.decl().and_then(|()| {
        serializer.element("PostResponse", |serializer| {
            for (name, value) in [("Location", location), ("Bucket", bucket), ("Key", key), ("ETag", etag)] {
                serializer.content(name, value)?;
            }
            Ok(())
        })
    });
    let invalid = || S3Error::from(Error::Invalid("the answer cannot be written as XML".to_owned()));
    written.map_err(|_| invalid())?;
    String::from_utf8(text).map_err(|_| invalid())
}

fn missing(field: &'static str) -> S3Error {
    s3_error!(
        InvalidArgument,
        "Bucket POST must contain a field named '{field}'. If it is specified, please check the order of the fields."
    )
}

const FORM: &[u8] = b"multipart/form-data";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_one_whatever_its_boundary_is_of() {
        for (method, kind, expected) in [
            ("POST", &b"multipart/form-data; boundary=a"[..], true),
            ("POST", b" Multipart/Form-Data; boundary=a", true),
            ("POST", "multipart/form-data; boundary=\"\u{e9}\"".as_bytes(), true),
            ("POST", b"multipart/form-data; boundary=\xff", true),
            ("PUT", b"multipart/form-data; boundary=a", false),
            ("POST", b"multipart/mixed; boundary=a", false),
            ("POST", b"", false),
        ] {
            let request = Request::builder().method(method).header(header::CONTENT_TYPE, kind).body(());
            assert_eq!(is_form(&request.expect("a request")), expected, "{method} {kind:?}");
        }
    }
}
