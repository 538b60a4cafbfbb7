//! The object gate as the shim reaches it: list, get and put through the loopback of the job's own network. While
//! `serve` is away, connections wait in the listener's backlog; what breaks is tried again by the caller.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use model::{BucketName, Region};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions::ListObjectsV2};
use tokio::sync::mpsc;

use crate::control::S3Pair;

/// The gate, for the holder of one key.
#[derive(Clone)]
pub struct Gate {
    client: Client<HttpConnector, BoxBody<Bytes, std::io::Error>>,
    credentials: Credentials,
    region: String,
}

/// Why the gate did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such object or bucket.
    #[error("{0} does not exist")]
    Absent(String),
    /// It answered that it will not.
    #[error("the object store refuses: {status} {body}")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// The beginning of its body.
        body: String,
    },
    /// It answered that it cannot now.
    #[error("the object store cannot answer: {status} {body}")]
    Unable {
        /// The status of the answer.
        status: StatusCode,
        /// The beginning of its body.
        body: String,
    },
    /// It did not answer, or broke off.
    #[error("the object store is not reached: {0}")]
    Away(String),
}

impl Refusal {
    /// Whether asking again can help.
    pub fn passes(&self) -> bool {
        matches!(self, Refusal::Unable { .. } | Refusal::Away(_))
    }
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length.
    pub size: u64,
}

/// A page of a listing, and where the next one begins.
pub type ListedPage = (Vec<Listed>, Option<String>);

impl Gate {
    /// The gate for `pair`, requests signed for `region`.
    pub fn new(pair: &S3Pair, region: &Region) -> Gate {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(4)
            .http1_max_buf_size(64 * 1024)
            .build(connector);
        let credentials = Credentials::new(pair.access.clone(), pair.secret.to_string());
        Gate { client, credentials, region: region.as_str().to_owned() }
    }

    /// A page of the objects of a bucket.
    pub async fn list(&self, bucket: &BucketName, continued: Option<&str>) -> Result<ListedPage, Refusal> {
        let place = self.bucket(bucket)?;
        let mut action = place.list_objects_v2(Some(&self.credentials));
        action.with_max_keys(PAGE);
        if let Some(token) = continued {
            action.with_continuation_token(token.to_owned());
        }
        let what = format!("the bucket {bucket}");
        let answer = self.send(Method::GET, &action.sign(GOOD_FOR), empty(), None, ANSWER).await?;
        let answer = accepted(answer, &what).await?;
        let body = tokio::time::timeout(ANSWER, Limited::new(answer.into_body(), MOST_LIST).collect())
            .await
            .map_err(|_| Refusal::Away("it broke off".into()))?
            .map_err(|cause| Refusal::Away(cause.to_string()))?
            .to_bytes();
        let text = std::str::from_utf8(&body).map_err(|cause| Refusal::Away(format!("not a listing: {cause}")))?;
        let listing =
            ListObjectsV2::parse_response(text).map_err(|cause| Refusal::Away(format!("not a listing: {cause}")))?;
        let next = listing.next_continuation_token;
        let objects = listing.contents.into_iter();
        Ok((objects.map(|one| Listed { key: one.key, size: one.size.unwrap_or(0) }).collect(), next))
    }

    /// The bytes of an object. Read them with [`next_piece`].
    pub async fn get(&self, bucket: &BucketName, key: &str) -> Result<Incoming, Refusal> {
        let place = self.bucket(bucket)?;
        let url = place.get_object(Some(&self.credentials), key).sign(GOOD_FOR);
        let answer = self.send(Method::GET, &url, empty(), None, ANSWER).await?;
        Ok(accepted(answer, &format!("{bucket}/{key}")).await?.into_body())
    }

    /// Writes an object of `length` bytes.
    pub async fn put(&self, bucket: &BucketName, key: &str, length: u64, body: Pieces) -> Result<(), Refusal> {
        let place = self.bucket(bucket)?;
        let url = place.put_object(Some(&self.credentials), key).sign(GOOD_FOR);
        // A store that takes less than a mebibyte a second is as good as away.
        let patience = ANSWER + Duration::from_secs(length >> 20);
        let answer = self.send(Method::PUT, &url, body.boxed(), Some(length), patience).await?;
        accepted(answer, &format!("{bucket}/{key}")).await.map(drop)
    }

    fn bucket(&self, name: &BucketName) -> Result<Bucket, Refusal> {
        let fault = |cause: &dyn std::fmt::Display| Refusal::Away(format!("{name} has no address: {cause}"));
        let base = GATE.parse().map_err(|cause| fault(&cause))?;
        Bucket::new(base, UrlStyle::Path, name.to_string(), self.region.clone()).map_err(|cause| fault(&cause))
    }

    async fn send(
        &self,
        method: Method,
        url: &url::Url,
        body: BoxBody<Bytes, std::io::Error>,
        length: Option<u64>,
        patience: Duration,
    ) -> Result<Response<Incoming>, Refusal> {
        let uri: Uri = url.as_str().parse().map_err(|cause| Refusal::Away(format!("no address: {cause}")))?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length).header(header::CONTENT_TYPE, "text/plain");
        }
        let request = request.body(body).map_err(|cause| Refusal::Away(cause.to_string()))?;
        match tokio::time::timeout(patience, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            // Not its address: it has the signature in it.
            Ok(Err(cause)) => {
                let source = std::error::Error::source(&cause).map_or(String::new(), |source| format!(": {source}"));
                Err(Refusal::Away(format!("{cause}{source}")))
            }
            Err(_) => Err(Refusal::Away(format!("no answer within {} s", patience.as_secs()))),
        }
    }
}

/// The next bytes of a body; `None` at its end.
pub async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    loop {
        match tokio::time::timeout(ANSWER, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(piece) => return Ok(Some(piece)),
                // Trailers.
                Err(_) => continue,
            },
            Ok(Some(Err(cause))) => return Err(Refusal::Away(cause.to_string())),
            Ok(None) => return Ok(None),
            Err(_) => return Err(Refusal::Away("it broke off".into())),
        }
    }
}

/// A body whose pieces come from elsewhere, of a length that is known.
pub struct Pieces {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    left: u64,
}

impl Pieces {
    /// The body of `length` bytes that come by `pieces`.
    pub fn new(pieces: mpsc::Receiver<std::io::Result<Bytes>>, length: u64) -> Pieces {
        Pieces { pieces, left: length }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(Ok(piece)) if piece.len() as u64 <= self.left => {
                self.left -= piece.len() as u64;
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(cause)) => Some(Err(cause)),
            Some(Ok(_)) => Some(Err(std::io::Error::other("more bytes than were said"))),
            None => Some(Err(std::io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn empty() -> BoxBody<Bytes, std::io::Error> {
    Full::default().map_err(|never| match never {}).boxed()
}

async fn accepted(answer: Response<Incoming>, what: &str) -> Result<Response<Incoming>, Refusal> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status == StatusCode::NOT_FOUND {
        return Err(Refusal::Absent(what.to_owned()));
    }
    let body = tokio::time::timeout(ANSWER, Limited::new(answer.into_body(), MOST_REFUSAL).collect()).await;
    let body = match body {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).chars().take(300).collect(),
        _ => String::new(),
    };
    let later = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT);
    Err(if later { Refusal::Unable { status, body } } else { Refusal::Refused { status, body } })
}

/// The object gate, as everything in the job's network reaches it.
pub const GATE: &str = "http://127.0.0.1:9000";
const PAGE: usize = 500;
/// Keys have at most 1024 bytes, three times that when encoded.
const MOST_LIST: usize = 4 * 1024 * 1024;
const MOST_REFUSAL: usize = 16 * 1024;
/// How long a signature is good: longer than a connection waits in the backlog.
const GOOD_FOR: Duration = Duration::from_secs(3600);
/// How long an answer, or the next piece of one, may take: as long as `serve` may take to start again, and some.
const ANSWER: Duration = Duration::from_secs(90);
