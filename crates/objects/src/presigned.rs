//! What a signature covers, beyond what `s3s` looks at: bounds of presigned URLs, headers that were added to a signed
//! request, and headers that a presigned URL carries in its query.

use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use s3s::{
    S3Error, S3ErrorCode, S3Result,
    dto::{Range, Timestamp, TimestampFormat},
    s3_error,
};

use crate::{actions::parameter, digests::Digests, rows::Algorithm};

/// Says what is wrong with a signed request. Headers that S3 gives a meaning to must be signed: else whoever has a
/// presigned URL could make a copy of another object out of an upload, by a header.
pub fn check(uri: &Uri, headers: &HeaderMap) -> S3Result<()> {
    if parameter(uri, "X-Amz-Signature").is_some() {
        check_expiry(uri)?;
    }
    let signed = signed_headers(uri, headers);
    let Some(signed) = signed else { return Ok(()) };
    let is_signed = |name: &HeaderName| signed.split(';').any(|signed| signed.eq_ignore_ascii_case(name.as_str()));
    let added = headers
        .keys()
        .find(|name| name.as_str().starts_with("x-amz-") && !HARMLESS.contains(&name.as_str()) && !is_signed(name));
    match added {
        Some(name) => {
            Err(s3_error!(AccessDenied, "There were headers present in the request which were not signed: {name}"))
        }
        None => Ok(()),
    }
}

fn check_expiry(uri: &Uri) -> S3Result<()> {
    let expires = parameter(uri, "X-Amz-Expires").unwrap_or_default();
    match expires.parse::<u64>() {
        Ok(seconds) if LIFETIME.contains(&seconds) => Ok(()),
        _ => {
            let code = S3ErrorCode::Custom("AuthorizationQueryParametersError".into());
            let why = format!("X-Amz-Expires is a number of seconds from 1 to {}", LIFETIME.end());
            let mut refusal = S3Error::with_message(code, why);
            refusal.set_status_code(http::StatusCode::BAD_REQUEST);
            Err(refusal)
        }
    }
}

/// Puts the headers that a presigned URL carries in its query, as SDKs make it, where headers are. The signature of the
/// URL covers them. A header of that name that was sent is signed too, and stays.
pub fn hoist(uri: &Uri, headers: &mut HeaderMap) {
    if parameter(uri, "X-Amz-Signature").is_none() {
        return;
    }
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let name = name.to_ascii_lowercase();
        let is_other = !name.starts_with("x-amz-") || OF_SIGNATURE.contains(&name.as_str());
        if is_other || headers.contains_key(&name) || is_sum_of_nothing(&name, &value) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
}

/// Whether it is the checksum of no bytes. SDKs that add a checksum to each upload put that one into a URL, before there
/// is anything to upload; it says nothing of what is uploaded by the URL, and S3 does not look at it
/// (<https://github.com/localstack/localstack/issues/12169>).
fn is_sum_of_nothing(name: &str, value: &str) -> bool {
    let algorithm = name.strip_prefix("x-amz-checksum-").and_then(Algorithm::parse);
    let sum = algorithm.and_then(|algorithm| Digests::new(Some(algorithm)).finish().sum);
    sum.is_some_and(|sum| sum.value == value)
}

/// Takes away headers of a read that are not of their form: RFC 9110 has them ignored, and `s3s` would refuse the request.
/// One that is signed stays, and is refused.
pub fn forgive(uri: &Uri, headers: &mut HeaderMap) {
    let signed = signed_headers(uri, headers).unwrap_or_default();
    for name in [header::RANGE, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE] {
        let is_good = |text: &str| match name == header::RANGE {
            true => Range::parse(text).is_ok(),
            false => Timestamp::parse(TimestampFormat::HttpDate, text).is_ok(),
        };
        let good = headers.get(&name).is_none_or(|value| value.to_str().is_ok_and(is_good));
        if !good && !signed.split(';').any(|signed| signed.eq_ignore_ascii_case(name.as_str())) {
            headers.remove(&name);
        }
    }
}

/// The names of the headers that a signature covers; `None` if there is none.
fn signed_headers(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    match parameter(uri, "X-Amz-Signature") {
        Some(_) => parameter(uri, "X-Amz-SignedHeaders"),
        None => headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once("SignedHeaders="))
            .map(|(_, rest)| rest.split(',').next().unwrap_or_default().trim().to_owned()),
    }
}

/// Version 4 of the signature allows seven days
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>).
const LIFETIME: RangeInclusive<u64> = 1..=7 * 24 * 3600;

/// They are in what is signed by other ways, or mean nothing.
const HARMLESS: [&str; 4] = ["x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-user-agent"];

const OF_SIGNATURE: [&str; 9] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-user-agent",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn url(more: &str) -> Uri {
        format!("/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl&X-Amz-Signature=0{more}").parse().expect("a URL")
    }

    fn with(name: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static("value"));
        headers
    }

    #[test]
    fn a_presigned_url_lives_a_second_to_a_week() {
        for (expires, good) in
            [("1", true), ("604800", true), ("0", false), ("604801", false), ("-1", false), ("", false)]
        {
            let url = url(&format!("&X-Amz-Expires={expires}"));
            assert_eq!(check(&url, &HeaderMap::new()).is_ok(), good, "{expires}");
        }
        assert!(check(&url(""), &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_header_that_was_not_signed_is_not_obeyed() {
        let url = url("&X-Amz-Expires=60");
        assert!(check(&url, &with("x-amz-acl")).is_ok());
        assert!(check(&url, &with("content-type")).is_ok());
        assert!(check(&url, &with("x-amz-copy-source")).is_err());
        let mut headers = with("x-amz-tagging");
        assert!(check(&"/b/k".parse().expect("a path"), &headers).is_ok(), "nothing is signed");
        let signature = "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=0";
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(signature));
        assert!(check(&"/b/k".parse().expect("a path"), &headers).is_err());
    }

    #[test]
    fn headers_in_the_query_are_headers() {
        let url = url("&X-Amz-Tagging=a%3Db&x-amz-acl=private&x-amz-content-sha256=UNSIGNED-PAYLOAD&other=1");
        let mut headers = with("x-amz-acl");
        hoist(&url, &mut headers);
        assert_eq!(headers["x-amz-tagging"], "a=b");
        assert_eq!(headers["x-amz-acl"], "value");
        assert_eq!(headers.len(), 2);
        let sums = "&x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-checksum-crc32c=yZRlqg%3D%3D";
        let mut headers = HeaderMap::new();
        hoist(&super::tests::url(sums), &mut headers);
        assert_eq!((headers.len(), headers["x-amz-checksum-crc32c"].as_bytes()), (1, &b"yZRlqg=="[..]));
        let mut headers = HeaderMap::new();
        hoist(&"/b/k?x-amz-acl=private".parse().expect("a path"), &mut headers);
        assert!(headers.is_empty(), "nothing is signed");
    }
}
