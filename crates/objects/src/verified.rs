//! Digests of bodies that say what to do, rather than being an object's data: `s3s` reads them whole and looks at no
//! digest, and a delete of the wrong keys cannot be undone.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, Uri};
use s3s::{Body, S3Result, dto::StreamingBlob, s3_error};

use crate::{
    access::BoxError,
    actions::names_settings,
    digests::Digests,
    rows::{Algorithm, Sum},
};

/// Which digest of a body was found to be another than was sent.
pub type Failed = Arc<OnceLock<&'static str>>;

/// The same body, which ends with an error if it has another digest than the headers say, and then `failed` says which.
pub fn filter(uri: &Uri, headers: &HeaderMap, body: Body, failed: &Failed) -> S3Result<Body> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let md5 = text("content-md5");
    let sum = ALGORITHMS.into_iter().find_map(|algorithm| {
        let value = text(&format!("x-amz-checksum-{}", algorithm.name().to_ascii_lowercase()))?;
        Some(Sum { algorithm, value: value.to_owned() })
    });
    let chunked = text("x-amz-content-sha256").is_some_and(|value| value.starts_with("STREAMING-"));
    if (md5.is_none() && sum.is_none()) || chunked || !names_settings(uri) {
        return Ok(body);
    }
    let invalid = || s3_error!(InvalidDigest, "Content-MD5 is not 16 bytes in Base64");
    let md5 = match md5 {
        None => None,
        Some(text) => {
            let bytes = BASE64.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            Some(bytes.ok_or_else(invalid)?)
        }
    };
    let digests = Some(Digests::new(sum.as_ref().map(|sum| sum.algorithm)));
    let verified = Verified { body, digests, md5, sum, failed: Arc::clone(failed) };
    Ok(Body::from(StreamingBlob::wrap(Shared(Mutex::new(verified)))))
}

struct Verified {
    body: Body,
    /// `None` at the end.
    digests: Option<Digests>,
    md5: Option<[u8; 16]>,
    sum: Option<Sum>,
    failed: Failed,
}

/// Why a body was not passed on to its end.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the {0} that was sent is not that of the body")]
    Digest(&'static str),
    #[error("{0}")]
    Body(BoxError),
}

impl Verified {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        match self.body.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                if let Some(digests) = &mut self.digests {
                    digests.update(&bytes);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(cause))) => Poll::Ready(Some(Err(Error::Body(cause)))),
            Poll::Ready(None) => Poll::Ready(self.end().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Compares, once.
    fn end(&mut self) -> Option<Error> {
        let found = self.digests.take()?.finish();
        let wrong = match (self.md5, &self.sum) {
            (Some(md5), _) if md5 != found.md5 => "Content-MD5",
            (_, Some(sum)) if found.sum.as_ref() != Some(sum) => sum.algorithm.name(),
            _ => return None,
        };
        // Set once: a body ends once.
        let _ = self.failed.set(wrong);
        Some(Error::Digest(wrong))
    }
}

/// A mutex that is never locked makes a stream `Sync`, which `s3s` asks for.
struct Shared(Mutex<Verified>);

impl Stream for Shared {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).poll_next(context)
    }
}

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];
