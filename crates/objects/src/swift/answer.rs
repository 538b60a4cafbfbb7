//! Answers in Swift's form.

use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use s3s::{Body, S3Error, S3ErrorCode, dto::StreamingBlob};
use zeroize::Zeroizing;

use crate::Error;

/// An answer, or why there is none of the kind that was asked for.
pub type Answer = Result<Response<Body>, Fault>;

/// What is answered in the place of what was asked for.
#[derive(Debug)]
pub struct Fault {
    pub status: StatusCode,
    /// What is wrong, for the caller.
    pub words: String,
    pub headers: Box<HeaderMap>,
}

impl Fault {
    /// With words of our own.
    pub fn new(status: StatusCode, words: impl Into<String>) -> Fault {
        Fault { status, words: words.into(), headers: Box::default() }
    }

    /// With one more header.
    pub fn with(mut self, name: HeaderName, value: &str) -> Fault {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// What was sent cannot be done.
    pub fn bad(words: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, words)
    }

    /// It is not there.
    pub fn not_found() -> Fault {
        Fault::new(StatusCode::NOT_FOUND, "The resource could not be found.")
    }

    /// It is not offered here. Silence would be taken for consent.
    pub fn not_offered(what: &str) -> Fault {
        Fault::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not supported."))
    }

    /// In the form of an answer.
    pub fn into_response(self) -> Response<Body> {
        let reason = self.status.canonical_reason().unwrap_or("Error");
        let mut response = if self.status == StatusCode::NOT_MODIFIED {
            empty(self.status)
        } else {
            let body = format!("<html><h1>{reason}</h1><p>{}</p></html>", escaped(&self.words));
            text(self.status, "text/html; charset=UTF-8", body)
        };
        response.headers_mut().extend(*self.headers);
        response
    }
}

impl From<S3Error> for Fault {
    fn from(error: S3Error) -> Fault {
        let status = match error.code() {
            S3ErrorCode::BadDigest => StatusCode::UNPROCESSABLE_ENTITY,
            S3ErrorCode::EntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            S3ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => error.status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        Fault::new(status, error.message().unwrap_or("The request could not be done.").to_owned())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::NoSuchBucket { .. } | Error::NoSuchKey | Error::NoSuchVersion | Error::IsMarker { .. } => {
                Fault::not_found()
            }
            other => S3Error::from(other).into(),
        }
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer of text.
pub fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Sets a header whose value is known to be one.
pub fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Bytes beyond ASCII go as they are: Swift's headers are UTF-8.
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A body of at most `most` bytes. It may hold secrets, and is wiped from memory.
pub async fn whole(body: Body, most: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut body = StreamingBlob::from(body).map_err(Error::Body);
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(more) = body.try_next().await? {
        if bytes.len() + more.len() > most {
            return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body has more than {most} bytes.")));
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

/// Text as XML and HTML have it. Characters that XML cannot have, however they are written, become a replacement.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push_str(&format!("&#{};", u32::from(character))),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}
