//! What is wrong with a request of S3 or STS before anybody looks at its signature, each with the code that S3 gives it;
//! and what `s3s` would refuse or write otherwise than S3 does.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use jiff::{SignedDuration, Timestamp};
use s3s::{Body, S3Result, s3_error};

use crate::{
    actions::parameter,
    region::{Credential, signing_time},
    sts,
};

/// Refuses what cannot be right, and puts the rest into the form that `s3s` knows. Nothing of it changes what a
/// signature is of.
pub fn checked<B>(mut request: Request<B>) -> S3Result<Request<B>> {
    let service = if sts::is_call(&request) { None } else { Some("s3") };
    check(request.method(), request.uri(), request.headers(), service, Timestamp::now())?;
    date(request.headers_mut())?;
    join(request.headers_mut())?;
    Ok(request)
}

/// An answer of a part of an object says so by its status, as in RFC 9110, section 15.3.7: that of `HEAD` too, for which
/// `s3s` knows one status only.
pub fn partial(mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::OK && response.headers().contains_key(header::CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// A document that XML can hold: a key may have a carriage return, which a parser would read as a line's end, and other
/// characters that stand in XML only by their number, as S3 has them.
pub fn escaped(response: Response<Body>) -> Response<Body> {
    let is_xml = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"xml"));
    let Some(bytes) = response.body().bytes().filter(|_| is_xml) else { return response };
    let is_odd = |byte: &u8| *byte < b' ' && !matches!(byte, b'\n' | b'\t');
    if !bytes.iter().any(is_odd) {
        return response;
    }
    let mut text = Vec::with_capacity(bytes.len() + 64);
    for byte in &bytes {
        match is_odd(byte) {
            true => text.extend_from_slice(format!("&#{byte};").as_bytes()),
            false => text.push(*byte),
        }
    }
    let (mut parts, _) = response.into_parts();
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        parts.headers.insert(header::CONTENT_LENGTH, text.len().into());
    }
    Response::from_parts(parts, Body::from(text))
}

/// `service` is what a request must be signed for; `None` if another room looks at that.
fn check(method: &Method, uri: &Uri, headers: &HeaderMap, service: Option<&str>, now: Timestamp) -> S3Result<()> {
    check_path(uri)?;
    let queried = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"];
    let in_query = queried.into_iter().any(|name| parameter(uri, name).is_some());
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
    match (authorizations.next(), authorizations.next()) {
        (Some(_), _) if in_query => {
            return Err(s3_error!(
                InvalidArgument,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                 parameter or the Authorization header should be specified"
            ));
        }
        (Some(_), Some(_)) => return Err(s3_error!(InvalidArgument, "there are two Authorization headers")),
        (Some(value), None) => check_header(value, headers, service)?,
        (None, _) if in_query => check_query(uri, service, now)?,
        (None, _) => {}
    }
    check_digests(method, headers)?;
    match parameter(uri, "partNumber").map(|number| number.parse::<u32>()) {
        None => Ok(()),
        Some(Ok(number)) if (1..=MOST_PARTS).contains(&number) => Ok(()),
        Some(_) => {
            Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and {MOST_PARTS}, inclusive"))
        }
    }
}

/// A path is text once its percent signs are decoded.
fn check_path(uri: &Uri) -> S3Result<()> {
    let invalid = || s3_error!(InvalidURI, "Couldn't parse the specified URI.");
    let mut decoded = Vec::with_capacity(uri.path().len());
    let mut rest = uri.path().as_bytes();
    while let [first, more @ ..] = rest {
        let (byte, more) = match (first, more) {
            (b'%', [high, low, more @ ..]) => (hex::decode([*high, *low]).map_err(|_| invalid())?[0], more),
            (b'%', _) => return Err(invalid()),
            (byte, more) => (*byte, more),
        };
        decoded.push(byte);
        rest = more;
    }
    std::str::from_utf8(&decoded).map(|_| ()).map_err(|_| invalid())
}

/// The signature in a header:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html>.
fn check_header(value: &HeaderValue, headers: &HeaderMap, service: Option<&str>) -> S3Result<()> {
    let malformed =
        |what: &str| s3_error!(AuthorizationHeaderMalformed, "The authorization header is malformed; {what}");
    let text = value.to_str().map_err(|_| malformed("it is not of ASCII characters."))?;
    let fields = match text.split_once(char::is_whitespace) {
        Some(("AWS4-HMAC-SHA256", fields)) => fields,
        _ if text.starts_with("AWS4-HMAC-SHA256") => {
            return Err(malformed(
                "the Credential is mis-formatted; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            ));
        }
        _ => return Err(s3_error!(InvalidArgument, "Unsupported Authorization Type")),
    };
    let field = |name: &str| {
        let found = fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        found.filter(|found| !found.is_empty()).ok_or_else(|| malformed(&format!("the field {name} is missing.")))
    };
    let (credential, names, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    check_credential(credential, service).map_err(|what| malformed(&what))?;
    if !is_digest(signature) {
        return Err(malformed("the Signature is not 64 hexadecimal digits."));
    }
    check_host(names)?;
    if !headers.contains_key(DATE) && !headers.contains_key(header::DATE) {
        return Err(s3_error!(AccessDenied, "AWS authentication requires a valid Date or x-amz-date header"));
    }
    Ok(())
}

/// The signature in a URL: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>.
fn check_query(uri: &Uri, service: Option<&str>, now: Timestamp) -> S3Result<()> {
    let wrong = |what: &str| s3_error!(AuthorizationQueryParametersError, "{what}");
    let field = |name: &str| {
        parameter(uri, name).ok_or_else(|| {
            wrong(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                 X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            )
        })
    };
    let (algorithm, credential, signature) =
        (field("X-Amz-Algorithm")?, field("X-Amz-Credential")?, field("X-Amz-Signature")?);
    let (date, names, expires) = (field("X-Amz-Date")?, field("X-Amz-SignedHeaders")?, field("X-Amz-Expires")?);
    if algorithm != "AWS4-HMAC-SHA256" {
        return Err(wrong("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    check_credential(&credential, service)
        .map_err(|what| wrong(&format!("Error parsing the X-Amz-Credential parameter; {what}")))?;
    if !is_digest(&signature) {
        return Err(wrong("X-Amz-Signature must be 64 hexadecimal digits"));
    }
    match expires.parse::<i64>() {
        Err(_) => return Err(wrong("X-Amz-Expires should be a number")),
        Ok(seconds) if seconds < 0 => return Err(wrong("X-Amz-Expires must be non-negative")),
        Ok(seconds) if seconds > LONGEST => {
            return Err(wrong("X-Amz-Expires must be less than a week (in seconds); that is, less than 604800"));
        }
        Ok(_) => {}
    }
    check_host(&names)?;
    let from = signing_time(&date)
        .ok_or_else(|| wrong("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))?;
    if from.duration_since(now) > SKEW {
        return Err(s3_error!(AccessDenied, "Request is not valid yet"));
    }
    Ok(())
}

fn check_credential(text: &str, service: Option<&str>) -> Result<(), String> {
    let credential = Credential::parse(text).filter(|credential| !credential.access_key.is_empty());
    let Some(credential) = credential else {
        let form = "expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".";
        return Err(format!("the Credential is mis-formatted; {form}"));
    };
    if credential.date.len() != 8 || !credential.date.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("incorrect date format. This date in the credential must be in the format \"yyyyMMdd\".".to_owned());
    }
    match service {
        Some(service) if credential.service != service => {
            Err(format!("incorrect service \"{}\". This endpoint belongs to \"{service}\".", credential.service))
        }
        _ => Ok(()),
    }
}

/// A signature that is good for any host could be used at another.
fn check_host(names: &str) -> S3Result<()> {
    match names.split(';').any(|name| name.eq_ignore_ascii_case("host")) {
        true => Ok(()),
        false => Err(s3_error!(AccessDenied, "There were headers present in the request which were not signed: host")),
    }
}

/// Digests of the body that cannot be ones.
fn check_digests(method: &Method, headers: &HeaderMap) -> S3Result<()> {
    let decoded = |value: &HeaderValue| BASE64.decode(value.as_bytes()).ok();
    if headers.get("content-md5").is_some_and(|value| decoded(value).is_none_or(|md5| md5.len() != 16)) {
        return Err(s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."));
    }
    for (name, size) in CHECKSUMS {
        let is_good = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            // The checksum of an upload that is completed may be one of its parts' checksums, with their number.
            let text = match text.split_once('-') {
                Some((sum, parts)) if method == Method::POST && parts.parse::<u32>().is_ok() => sum,
                _ => text,
            };
            BASE64.decode(text).is_ok_and(|sum| sum.len() == size)
        };
        if headers.get_all(name).iter().any(|value| !is_good(value)) {
            return Err(s3_error!(InvalidRequest, "Value for {name} header is invalid."));
        }
    }
    match headers.get("x-amz-content-sha256").map(|value| value.to_str().unwrap_or_default()) {
        None => Ok(()),
        Some(value) if is_digest(value) || value == "UNSIGNED-PAYLOAD" || STREAMS.contains(&value) => Ok(()),
        Some(_) => Err(s3_error!(
            InvalidArgument,
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, {}, or a valid sha256 value.",
            STREAMS.join(", ")
        )),
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Says when a request was signed where it has only the date that HTTP knows. Both forms of it are allowed.
fn date(headers: &mut HeaderMap) -> S3Result<()> {
    if headers.contains_key(DATE) || !headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    let Some(date) = headers.get(header::DATE) else { return Ok(()) };
    let text = date.to_str().unwrap_or_default();
    let time = match signing_time(text) {
        Some(time) => Some(time),
        None => jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp()),
    };
    let time =
        time.ok_or_else(|| s3_error!(AccessDenied, "AWS authentication requires a valid Date or x-amz-date header"))?;
    let value = HeaderValue::try_from(time.strftime("%Y%m%dT%H%M%SZ").to_string());
    headers.insert(DATE, value.map_err(|_| s3_error!(AccessDenied))?);
    Ok(())
}

/// Makes one header of several that are a list, as RFC 9110 (section 5.2) lets anybody do, and as the signature has them.
/// S3 does so with metadata too.
fn join(headers: &mut HeaderMap) -> S3Result<()> {
    let is_list = |name: &HeaderName| LISTS.contains(&name.as_str()) || name.as_str().starts_with("x-amz-meta-");
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| is_list(name) && headers.get_all(*name).iter().count() > 1).cloned().collect();
    for name in names {
        let values: Vec<&[u8]> = headers.get_all(&name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
        let joined = HeaderValue::from_bytes(&values.join(&b','));
        headers.insert(&name, joined.map_err(|_| s3_error!(InvalidArgument, "the header {name} cannot be read"))?);
    }
    Ok(())
}

const DATE: &str = "x-amz-date";
const LISTS: [&str; 3] = ["content-encoding", "content-language", "cache-control"];
const MOST_PARTS: u32 = 10_000;
/// Seconds that a URL can be good for.
const LONGEST: i64 = 604_800;
/// How much a signer's clock may be ahead.
const SKEW: SignedDuration = SignedDuration::from_mins(15);
/// Headers of checksums, and how many bytes one has.
const CHECKSUMS: [(&str, usize); 5] = [
    ("x-amz-checksum-crc32", 4),
    ("x-amz-checksum-crc32c", 4),
    ("x-amz-checksum-crc64nvme", 8),
    ("x-amz-checksum-sha1", 20),
    ("x-amz-checksum-sha256", 32),
];
/// Bodies in chunks. Those of ECDSA are known, and not supported.
const STREAMS: [&str; 5] = [
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
];

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";

    /// The code that a request is refused with; empty if it is not.
    fn code(method: &str, uri: &str, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let now = "2025-01-01T00:00:00Z".parse().expect("a time");
        match check(request.method(), request.uri(), request.headers(), Some("s3"), now) {
            Ok(()) => String::new(),
            Err(refusal) => refusal.code().as_str().to_owned(),
        }
    }

    #[test]
    fn an_authorization_header_has_all_its_fields() {
        let good = format!(
            "AWS4-HMAC-SHA256 Credential=key/20250101/gra/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
        );
        let with = |value: &str| code("GET", "/b/k", &[("authorization", value), (DATE, "20250101T000000Z")]);
        assert_eq!(with(&good), "");
        assert_eq!(with(&good.replace(", ", ",")), "");
        for (from, to) in [
            ("Credential=", "Other="),
            ("SignedHeaders=", "Other="),
            (SIGNATURE, ""),
            (SIGNATURE, "abc"),
            ("/s3/", "/ec2/"),
            ("/s3/aws4_request", ""),
            ("aws4_request", "aws5_request"),
            ("20250101/", "20250/"),
            ("key/", "/"),
            (" Credential", "Credential"),
        ] {
            assert_eq!(with(&good.replacen(from, to, 1)), "AuthorizationHeaderMalformed", "{from:?} {to:?}");
        }
        assert_eq!(with(&good.replace("host;", "")), "AccessDenied");
        assert_eq!(with("Bearer token"), "InvalidArgument");
        assert_eq!(code("GET", "/b/k", &[("authorization", &good)]), "AccessDenied", "no date");
        let twice = [("authorization", good.as_str()), ("authorization", good.as_str()), (DATE, "20250101T000000Z")];
        assert_eq!(code("GET", "/b/k", &twice), "InvalidArgument");
        let both = [("authorization", good.as_str()), (DATE, "20250101T000000Z")];
        assert_eq!(code("GET", "/b/k?X-Amz-Signature=0", &both), "InvalidArgument");
    }

    #[test]
    fn a_presigned_url_has_all_its_parameters() {
        let good = format!(
            "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=key%2F20250101%2Fgra%2Fs3%2Faws4_request\
             &X-Amz-Date=20250101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}"
        );
        let with = |from: &str, to: &str| code("GET", &good.replacen(from, to, 1), &[]);
        assert_eq!(with("", ""), "");
        assert_eq!(with("Expires=60", "Expires=604800"), "");
        assert_eq!(with("T000000Z", "T001400Z"), "");
        assert_eq!(with("T000000Z", "T002000Z"), "AccessDenied");
        assert_eq!(with("=host", "=x-amz-date"), "AccessDenied");
        for expires in ["604801", "99999999999999999999", "-1", "soon", ""] {
            let found = with("Expires=60", &format!("Expires={expires}"));
            assert_eq!(found, "AuthorizationQueryParametersError", "{expires:?}");
        }
        for name in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"] {
            assert_eq!(with(&format!("X-Amz-{name}"), "X-Other"), "AuthorizationQueryParametersError", "{name}");
        }
        for (from, to) in [("%2Fs3%2F", "%2Fec2%2F"), ("=AWS4", "=AWS9"), ("T000000Z", "+00:00"), (SIGNATURE, "0")] {
            assert_eq!(with(from, to), "AuthorizationQueryParametersError", "{from:?} {to:?}");
        }
    }

    #[test]
    fn digests_parts_and_paths_have_their_forms() {
        for (method, uri, name, value, expected) in [
            ("PUT", "/b/k", "content-md5", "AAAAAAAAAAAAAAAAAAAAAA==", ""),
            ("PUT", "/b/k", "content-md5", "", "InvalidDigest"),
            ("PUT", "/b/k", "content-md5", "bm8=", "InvalidDigest"),
            ("PUT", "/b/k", "x-amz-checksum-crc32", "AAAAAA==", ""),
            ("PUT", "/b/k", "x-amz-checksum-crc32", "AAAAAAA=", "InvalidRequest"),
            ("PUT", "/b/k", "x-amz-checksum-sha1", "?", "InvalidRequest"),
            ("PUT", "/b/k", "x-amz-checksum-crc32", "AAAAAA==-3", "InvalidRequest"),
            ("POST", "/b/k?uploadId=1", "x-amz-checksum-crc32", "AAAAAA==-3", ""),
            ("PUT", "/b/k", "x-amz-content-sha256", SIGNATURE, ""),
            ("PUT", "/b/k", "x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", ""),
            ("PUT", "/b/k", "x-amz-content-sha256", "abc", "InvalidArgument"),
            ("GET", "/b/k?partNumber=0", "x-a", "", "InvalidArgument"),
            ("GET", "/b/k?partNumber=10000", "x-a", "", ""),
            ("PUT", "/b/k?partNumber=10001", "x-a", "", "InvalidArgument"),
            ("GET", "/b/%C3%BC%2F%00", "x-a", "", ""),
            ("GET", "/b/%zz", "x-a", "", "InvalidURI"),
            ("GET", "/b/bad%", "x-a", "", "InvalidURI"),
            ("GET", "/b/bad%4", "x-a", "", "InvalidURI"),
            ("GET", "/b/%ff%fe", "x-a", "", "InvalidURI"),
        ] {
            assert_eq!(code(method, uri, &[(name, value)]), expected, "{method} {uri} {name} {value:?}");
        }
    }

    #[test]
    fn several_headers_of_a_list_are_one() {
        let request = Request::get("/")
            .header("content-encoding", "gzip")
            .header("content-encoding", " aws-chunked")
            .header("x-amz-meta-a", "Grüße")
            .header("x-amz-meta-a", "two")
            .header("x-amz-checksum-crc32", "AAAAAA==")
            .header("x-amz-checksum-crc32", "AAAAAA==");
        let request = checked(request.body(()).expect("a request")).expect("nothing is wrong");
        assert_eq!(request.headers().get_all("content-encoding").iter().collect::<Vec<_>>(), ["gzip,aws-chunked"]);
        assert_eq!(request.headers()["x-amz-meta-a"].as_bytes(), "Grüße,two".as_bytes());
        assert_eq!(request.headers().get_all("x-amz-checksum-crc32").iter().count(), 2);
    }

    #[test]
    fn the_date_of_http_says_when_a_request_was_signed() {
        for (date, expected) in [
            ("Tue, 15 Nov 1994 08:12:31 GMT", Some("19941115T081231Z")),
            ("19941115T081231Z", Some("19941115T081231Z")),
            ("today", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, HeaderValue::from_str(date).expect("a value"));
            super::date(&mut headers).expect("nothing is signed");
            assert!(!headers.contains_key(DATE));
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static("AWS4-HMAC-SHA256"));
            assert_eq!(super::date(&mut headers).is_ok(), expected.is_some());
            assert_eq!(headers.get(DATE).map(|date| date.to_str().expect("text")), expected);
        }
    }

    #[test]
    fn control_characters_stand_in_xml_by_their_numbers() {
        let respond = |kind: &'static str| {
            let mut response = Response::new(Body::from(b"<Key>a\r\x01\n</Key>".to_vec()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            escaped(response).body().bytes().expect("bytes")
        };
        assert_eq!(respond("application/xml"), "<Key>a&#13;&#1;\n</Key>");
        assert_eq!(respond("text/plain"), "<Key>a\r\x01\n</Key>");
    }
}
