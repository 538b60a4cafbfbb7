//! Requests that are signed for a region in capitals, such as `GRA`.
//!
//! `s3s` verifies such a signature and refuses the region after. So it is verified here too, and the request signed
//! again for the region in lower case, with the same secret: `s3s` then verifies that one. A mistake here makes a
//! request fail, never pass, because both signatures must hold
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).

use http::{HeaderMap, HeaderValue, Request, Uri, header, request::Parts};
use s3s::{Body, S3Result, auth::S3Auth, s3_error};

use crate::{
    call::Session,
    chunks::{Chunks, Signers},
};

/// What a request is signed for: `KEY/DATE/REGION/SERVICE/aws4_request`.
#[derive(Clone)]
pub struct Credential {
    pub access_key: String,
    pub date: String,
    pub region: String,
    pub service: String,
}

/// A request as `s3s` takes it.
pub async fn lowered(session: &Session, request: Request<Body>) -> S3Result<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    let signed = Signed::of(&parts);
    if let Some(signed) = &signed {
        session.0.set_signed_region(&signed.credential.region);
    }
    let streaming = text(&parts.headers, "x-amz-content-sha256").filter(|value| value.starts_with("STREAMING-"));
    let with_trailer = streaming.is_some_and(|value| value.ends_with("-TRAILER"));
    let signed_chunks = streaming.is_some_and(|value| value.starts_with("STREAMING-AWS4-HMAC-SHA256"));
    let streaming = streaming.is_some();
    let foreign = signed.filter(|signed| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let region = &signed.credential.region;
        region.bytes().any(|byte| !plain(byte)) && region.to_ascii_lowercase().bytes().all(plain)
    });
    let signers = match foreign {
        Some(signed) => Some(signed.resign(session, &mut parts).await?),
        None if signed_chunks => signers(session, &parts).await?,
        None => None,
    };
    let body =
        if streaming { Chunks { signers: signers.filter(|_| signed_chunks), with_trailer }.filter(body) } else { body };
    Ok(Request::from_parts(parts, body))
}

/// Signers for chunks of a request that is not signed again. That the first signature is right is for `s3s` to verify.
async fn signers(session: &Session, parts: &Parts) -> S3Result<Option<Signers>> {
    let Some(signed) = Signed::of(parts) else { return Ok(None) };
    let secret = session.get_secret_key(&signed.credential.access_key).await?;
    let signer = || Signer::new(secret.expose(), &signed.credential, &signed.date);
    Ok(Some(Signers {
        old: signer(),
        new: signer(),
        old_previous: signed.signature.clone(),
        new_previous: signed.signature.clone(),
        again: false,
    }))
}

/// The signature of a request.
struct Signed {
    credential: Credential,
    date: String,
    headers: Vec<String>,
    signature: String,
    presigned: bool,
}

impl Signed {
    /// `None` if there is none, or not of a form that is known; `s3s` says what is wrong with it.
    fn of(parts: &Parts) -> Option<Signed> {
        if let Some(value) = text(&parts.headers, header::AUTHORIZATION.as_str()) {
            let fields = value.strip_prefix("AWS4-HMAC-SHA256")?;
            let field = |name: &str| {
                let found = fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
                found.map(str::to_owned)
            };
            return Some(Signed {
                credential: Credential::parse(&field("Credential")?)?,
                date: text(&parts.headers, "x-amz-date")?.to_owned(),
                headers: names(&field("SignedHeaders")?),
                signature: field("Signature")?,
                presigned: false,
            });
        }
        let query = parts.uri.query()?;
        let field = |name: &str| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        Some(Signed {
            credential: Credential::parse(&field("X-Amz-Credential")?)?,
            date: field("X-Amz-Date")?,
            headers: names(&field("X-Amz-SignedHeaders")?),
            signature: field("X-Amz-Signature")?,
            presigned: true,
        })
    }

    /// Verifies the signature and puts one for the region in lower case in its place.
    async fn resign(self, session: &Session, parts: &mut Parts) -> S3Result<Signers> {
        let secret = session.get_secret_key(&self.credential.access_key).await?;
        let old = Signer::new(secret.expose(), &self.credential, &self.date);
        let region = self.credential.region.to_ascii_lowercase();
        let lowered = Credential { region, ..self.credential.clone() };
        let new = Signer::new(secret.expose(), &lowered, &self.date);

        // Clients differ in how they encode what is a reserved character of a path; so does `s3s`.
        let raw = parts.uri.path().to_owned();
        let path = [encoded_path(&raw), raw]
            .into_iter()
            .find(|path| {
                let signature = old.sign(ALGORITHM, &[digest(&self.canonical(parts, path)).as_str()]);
                crypto::equal(signature.as_bytes(), self.signature.as_bytes())
            })
            .ok_or_else(|| s3_error!(SignatureDoesNotMatch, "the signature does not match"))?;
        if self.presigned {
            parts.uri = with_region(&parts.uri, &lowered)?;
        }
        let signature = new.sign(ALGORITHM, &[digest(&self.canonical(parts, &path)).as_str()]);
        if self.presigned {
            parts.uri = with_parameter(&parts.uri, "X-Amz-Signature", &signature)?;
        } else {
            let value = format!(
                "{ALGORITHM} Credential={}, SignedHeaders={}, Signature={signature}",
                lowered.text(),
                self.headers.join(";")
            );
            let value = HeaderValue::try_from(value).map_err(|_| s3_error!(AuthorizationHeaderMalformed))?;
            parts.headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Signers { old, new, old_previous: self.signature, new_previous: signature, again: true })
    }

    fn canonical(&self, parts: &Parts, path: &str) -> String {
        let mut query: Vec<(String, String)> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .filter(|(name, _)| name != "X-Amz-Signature")
                .map(|(name, value)| (encoded(&name, true), encoded(&value, true)))
                .collect();
        query.sort_by(|one, other| one.0.cmp(&other.0));
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = String::new();
        for name in &self.headers {
            let mut values: Vec<String> = parts
                .headers
                .get_all(name)
                .iter()
                .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
                .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            if values.is_empty() && name == "host" {
                // HTTP/2 has it elsewhere.
                values.extend(parts.uri.authority().map(ToString::to_string));
            }
            headers.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        let payload = match text(&parts.headers, "x-amz-content-sha256") {
            Some(payload) if !self.presigned => payload,
            _ => "UNSIGNED-PAYLOAD",
        };
        format!("{}\n{path}\n{}\n{headers}\n{}\n{payload}", parts.method, query.join("&"), self.headers.join(";"))
    }
}

/// Signs for one day, region and service.
pub struct Signer {
    key: [u8; 32],
    date: String,
    scope: String,
}

impl Signer {
    /// For what a credential names, at a time such as `20130524T000000Z`.
    pub fn new(secret: &str, credential: &Credential, date: &str) -> Signer {
        let start = zeroize::Zeroizing::new(format!("AWS4{secret}"));
        let key = [&credential.date, &credential.region, &credential.service]
            .into_iter()
            .fold(start.as_bytes().to_vec(), |key, part| {
                crypto::digest::hmac_sha256(&key, &[part.as_bytes()]).to_vec()
            });
        let scope = format!("{}/{}/{}/aws4_request", credential.date, credential.region, credential.service);
        Signer { key: crypto::digest::hmac_sha256(&key, &[b"aws4_request"]), date: date.to_owned(), scope }
    }

    /// The signature of lines below those that say what it is for.
    pub fn sign(&self, kind: &str, lines: &[&str]) -> String {
        let text = format!("{kind}\n{}\n{}\n{}", self.date, self.scope, lines.join("\n"));
        self.sign_text(&text)
    }

    /// The signature of a text alone, such as the policy of a form.
    pub fn sign_text(&self, text: &str) -> String {
        hex::encode(crypto::digest::hmac_sha256(&self.key, &[text.as_bytes()]))
    }
}

/// The headers of a form that is sent to STS at `endpoint`, with its signature; `None` if the URL has no host.
pub fn sign_sts(endpoint: &url::Url, region: &str, access_key: &str, secret: &str, form: &str) -> Option<HeaderMap> {
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let host = match (endpoint.host_str()?, endpoint.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let credential = Credential {
        access_key: access_key.to_owned(),
        date: date.get(..8)?.to_owned(),
        region: region.to_owned(),
        service: "sts".to_owned(),
    };
    let names = "content-type;host;x-amz-date";
    let canonical = format!(
        "POST\n{}\n\ncontent-type:{FORM}\nhost:{host}\nx-amz-date:{date}\n\n{names}\n{}",
        encoded_path(endpoint.path()),
        digest(form)
    );
    let signature = Signer::new(secret, &credential, &date).sign(ALGORITHM, &[digest(&canonical).as_str()]);
    let authorization =
        format!("{ALGORITHM} Credential={}, SignedHeaders={names}, Signature={signature}", credential.text());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
    headers.insert("x-amz-date", HeaderValue::try_from(date).ok()?);
    headers.insert(header::AUTHORIZATION, HeaderValue::try_from(authorization).ok()?);
    Some(headers)
}

impl Credential {
    /// `None` if the text is not of that form.
    pub fn parse(text: &str) -> Option<Credential> {
        // From the back: an access key may hold a slash.
        let mut fields = text.rsplitn(5, '/');
        let (end, service, region, date) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let access_key = fields.next()?;
        (end == "aws4_request").then(|| Credential {
            access_key: access_key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }

    fn text(&self) -> String {
        format!("{}/{}/{}/{}/aws4_request", self.access_key, self.date, self.region, self.service)
    }
}

/// The time of a signature, such as `20130524T000000Z`.
pub fn signing_time(text: &str) -> Option<jiff::Timestamp> {
    let time = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", text).and_then(|time| time.to_datetime()).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(time).ok()
}

/// SHA-256 as the signature has it.
pub fn digest(text: &str) -> String {
    hex::encode(crypto::digest::sha256(&[text.as_bytes()]))
}

fn names(list: &str) -> Vec<String> {
    let mut names: Vec<String> = list.split(';').map(str::to_ascii_lowercase).collect();
    names.sort_unstable();
    names
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn encoded_path(path: &str) -> String {
    // A plus sign in a path is one, so that what decodes forms is not asked.
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hexadecimal = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hexadecimal.and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => {
                decoded.extend(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    encoded(&String::from_utf8_lossy(&decoded), false)
}

fn encoded(text: &str, slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            b'/' if !slash => encoded.push('/'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn with_region(uri: &Uri, credential: &Credential) -> S3Result<Uri> {
    with_parameter(uri, "X-Amz-Credential", &credential.text())
}

fn with_parameter(uri: &Uri, name: &str, value: &str) -> S3Result<Uri> {
    let prefix = format!("{name}=");
    let query: Vec<String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| match pair.starts_with(&prefix) {
            true => format!("{prefix}{}", encoded(value, true)),
            false => pair.to_owned(),
        })
        .collect();
    let mut parts = uri.clone().into_parts();
    let path_and_query = format!("{}?{}", uri.path(), query.join("&"));
    parts.path_and_query = Some(path_and_query.parse().map_err(|_| s3_error!(InvalidURI))?);
    Uri::from_parts(parts).map_err(|_| s3_error!(InvalidURI))
}

const FORM: &str = "application/x-www-form-urlencoded";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_published_example() {
        // The example `GET Object` of
        // <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.
        let request = Request::get("/test.txt")
            .header("host", "examplebucket.s3.amazonaws.com")
            .header("range", "bytes=0-9")
            .header("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
            .header("x-amz-date", "20130524T000000Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                 SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
                 Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            )
            .body(())
            .expect("request");
        let (parts, ()) = request.into_parts();
        let signed = Signed::of(&parts).expect("a signature");
        let signer = Signer::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &signed.credential, &signed.date);
        let canonical = digest(&signed.canonical(&parts, &encoded_path(parts.uri.path())));
        assert_eq!(signer.sign(ALGORITHM, &[&canonical]), signed.signature);
    }
}
