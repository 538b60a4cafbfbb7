//! The object gate: S3 over HTTP. Every call passes here, with the rights of its key, and leaves an audit entry.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use audit::Audit;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use ipnet::IpNet;
use model::Region;
use prometheus_client::metrics::counter::Counter;
use s3s::{
    Body, S3Error, S3ErrorCode, S3Result,
    config::{S3Config, StaticConfigProvider},
    s3_error,
    service::S3ServiceBuilder,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::{
    Access, Store, Via,
    actions::parameter,
    browser,
    call::{Call, Session},
    crowd::{Crowd, Line, Places},
    guard, home,
    host::{Domains, Names},
    keystone,
    patience::{Fate, TimedBody, TimedWrites},
    presigned,
    protocols::Protocol,
    region,
    s3::post,
    sts, swift,
    verified::{self, Failed},
};

/// S3 over HTTP; a cheap handle.
#[derive(Clone)]
pub struct Gate(Arc<Ground>);

/// What a gate needs to know.
#[derive(Debug, Clone)]
pub struct GateConfig {
    /// The region of projects that have none.
    pub region: Region,
    /// Host names of the service, under which a bucket may stand as a subdomain.
    pub domains: Vec<String>,
    /// The regions of the service: projects of others are not served.
    pub regions: Vec<Region>,
    /// URLs by which clients reach the service, the usual one first: what the catalogue of Keystone names.
    pub public_urls: Vec<String>,
    /// Whether connections on the listener for everybody are of TLS.
    pub secure: bool,
    /// Proxies in front of that listener whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
}

pub(crate) struct Ground {
    pub store: Store,
    pub access: Arc<dyn Access>,
    pub audit: Audit,
    pub region: Region,
    pub regions: Vec<Region>,
    pub public_urls: Vec<String>,
    pub secure: bool,
    pub trusted_proxies: Vec<IpNet>,
    domains: Domains,
    config: Arc<StaticConfigProvider>,
    crowd: Crowd,
}

impl Gate {
    /// A gate to `store` for those whom `access` knows.
    pub fn new(store: Store, access: Arc<dyn Access>, audit: Audit, config: GateConfig) -> Gate {
        let mut limits = S3Config::default();
        limits.xml_max_body_size = MOST_XML;
        // Uploads by a browser's form would be held in memory, and are read before.
        limits.post_object_max_file_size = 0;
        Gate(Arc::new(Ground {
            store,
            access,
            audit,
            region: config.region,
            regions: config.regions,
            public_urls: config.public_urls,
            secure: config.secure,
            trusted_proxies: config.trusted_proxies,
            domains: Domains::new(&config.domains),
            config: Arc::new(StaticConfigProvider::new(Arc::new(limits))),
            crowd: Crowd::new(),
        }))
    }

    /// Serves one connection, HTTP/1.1 or HTTP/2, until it ends; after `stop` only the requests that are under way.
    pub async fn serve_connection<IO>(&self, io: IO, peer: SocketAddr, via: Via, stop: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let places = self.0.crowd.places(via);
        let line = Line::default();
        let (writes, dropped) = (line.clone(), line.end());
        let service = service_fn(move |request| {
            let (gate, places, line) = (self.clone(), Arc::clone(&places), line.clone());
            async move {
                // A task of its own: a call whose client goes away is finished, and in the audit log, all the same.
                let call = tokio::spawn(async move { gate.call(request, peer, via, (&places, &line)).await });
                Ok::<_, Infallible>(call.await.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR)))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_PATIENCE)
            .max_buf_size(HTTP1_BUFFER)
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(HTTP2_HEADERS)
            .keep_alive_interval(Some(HEADER_PATIENCE));
        let io = TokioIo::new(TimedWrites::new(io, writes, WRITE_PATIENCE));
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = dropped.cancelled() => {
                tracing::debug!(%peer, "a connection was dropped whose client took least of its answers");
                return;
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(LAST_PATIENCE, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(cause) = ended {
            tracing::debug!(%peer, %cause, "a connection to the object store ended early");
        }
    }

    /// One call, from request to answer.
    async fn call(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        via: Via,
        room: (&Arc<Places>, &Line),
    ) -> Response<Body> {
        let call = Arc::new(Call::new(Arc::clone(&self.0), peer, via, &request));
        let is_head = request.method() == Method::HEAD;
        let (fate, begun) = (Fate::default(), Instant::now());
        let mut response = match self.answer(&call, request, room, &fate).await {
            Ok(response) => response,
            Err(refusal) => refusal.to_http_response().unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST)),
        };
        let code = error_code(&response);
        // A failure of ours has words.
        let silent = code.as_deref() == Some("InternalError") && !has_words(&response);
        if silent && let Some(refusal) = fate.refusal(MOST_XML) {
            response = refusal.to_http_response().unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST));
        }
        let code = error_code(&response);
        if call.record(response.status(), code.as_deref()).await.is_err() {
            let refusal = S3Error::with_message(S3ErrorCode::ServiceUnavailable, "the call could not be recorded");
            response = refusal.to_http_response().unwrap_or_else(|_| plain(StatusCode::SERVICE_UNAVAILABLE));
        }
        if is_head && !response.status().is_success() {
            *response.body_mut() = Body::empty();
        }
        let metrics = self.0.store.metrics();
        metrics.answered(call.asked(), response.status(), begun.elapsed(), fate.received());
        let mut response = counted(home::told(response), metrics.sent());
        if let Ok(id) = HeaderValue::from_str(call.request_id()) {
            response.headers_mut().insert("x-amz-request-id", id);
        }
        response
    }

    /// The answer of a call that has got a place.
    async fn answer(
        &self,
        call: &Arc<Call>,
        request: Request<Incoming>,
        (places, line): (&Arc<Places>, &Line),
        fate: &Fate,
    ) -> S3Result<Response<Body>> {
        let turn = places.call().await?;
        if let Some(refusal) = refused(&request) {
            return Err(refusal);
        }
        let request = TimedBody::of(request, &turn, fate).map(Body::http_body_unsync);
        let (head, body) = self.spoken(call, request).await.into_parts();
        Ok(Response::from_parts(head, places.answer(body, line)))
    }

    /// The answer, in the protocol of the request.
    async fn spoken(&self, call: &Arc<Call>, request: Request<Body>) -> Response<Body> {
        match Protocol::of(&request, call.via(), &self.0.domains) {
            Protocol::S3 => self.page_or_s3(call, request).await,
            Protocol::Keystone => keystone::answer(call, request).await,
            Protocol::Swift => swift::answer(call, request).await,
            Protocol::SwiftInfo => swift::info(call),
            Protocol::Sts => {
                let response = match sts::prepared(request).await {
                    Ok(request) => self.s3(call, request).await,
                    Err(refusal) => refusal.to_http_response().unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST)),
                };
                let code = error_code(&response);
                sts::answered(call, response, code.as_deref())
            }
        }
    }

    /// S3, and what it has for browsers.
    async fn page_or_s3(&self, call: &Arc<Call>, request: Request<Body>) -> Response<Body> {
        let refused = |refusal: S3Error| refusal.to_http_response().unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST));
        if request.method() == Method::OPTIONS {
            return browser::preflight(call, &request, &self.0.domains).await.unwrap_or_else(refused);
        }
        let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).map(str::to_owned);
        let method = request.method().clone();
        let mut response = if post::is_form(&request) {
            post::answer(call, request, &self.0.domains).await.unwrap_or_else(refused)
        } else {
            self.verified(call, request).await.unwrap_or_else(refused)
        };
        if let Some(origin) = origin
            && let Some(headers) = browser::of_answer(call, &origin, &method).await
        {
            response.headers_mut().extend(headers);
        }
        response
    }

    /// S3, with the digests of documents that are sent.
    async fn verified(&self, call: &Arc<Call>, request: Request<Body>) -> S3Result<Response<Body>> {
        let failed = Failed::default();
        let (parts, body) = request.into_parts();
        let body = verified::filter(&parts.uri, &parts.headers, body, &failed)?;
        let response = self.s3(call, Request::from_parts(parts, body)).await;
        match failed.get() {
            // `s3s` takes the failure of a body that it reads whole for one of ours.
            Some(what) if response.status().is_server_error() => {
                Err(s3_error!(BadDigest, "the {what} that was sent is not that of the body"))
            }
            _ => Ok(response),
        }
    }

    async fn s3(&self, call: &Arc<Call>, request: Request<Body>) -> Response<Body> {
        // One service a call, of a few small boxes: so the key's grant is looked up once and goes with the call.
        let mut builder = S3ServiceBuilder::new(Session(Arc::clone(call)));
        builder.set_auth(Session(Arc::clone(call)));
        builder.set_access(Session(Arc::clone(call)));
        builder.set_route(sts::Route(Arc::clone(call)));
        builder.set_host(self.0.domains.clone());
        builder.set_validation(Names);
        builder.set_config(self.0.config.clone());
        let mut request = request;
        let (uri, headers) = (request.uri().clone(), request.headers_mut());
        presigned::hoist(&uri, headers);
        presigned::forgive(&uri, headers);
        let request = match guard::checked(request) {
            Ok(request) => region::lowered(&Session(Arc::clone(call)), request).await,
            Err(refusal) => Err(refusal),
        };
        let request = match request {
            Ok(request) => request,
            Err(refusal) => {
                return refusal.to_http_response().unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST));
            }
        };
        match builder.build().call(request).await {
            Ok(response) => guard::escaped(guard::partial(response)),
            Err(cause) => {
                tracing::error!(?cause, "a call to the object store failed");
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// The same answer, whose bytes are counted as they are sent.
fn counted(response: Response<Body>, sent: Counter) -> Response<Body> {
    response.map(|body| match body.bytes() {
        Some(bytes) => {
            sent.inc_by(bytes.len() as u64);
            body
        }
        None if body.is_end_stream() => body,
        None => Body::http_body_unsync(Counted { body, sent }),
    })
}

/// A body whose bytes are counted.
struct Counted {
    body: Body,
    sent: Counter,
}

impl http_body::Body for Counted {
    type Data = bytes::Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(data) = next.as_ref().and_then(|next| next.as_ref().ok()?.data_ref()) {
            self.sent.inc_by(data.len() as u64);
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// What is refused before anything of it is read.
fn refused<B>(request: &Request<B>) -> Option<S3Error> {
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let old_signature = header(header::AUTHORIZATION).is_some_and(|value| value.starts_with("AWS "))
        || ["AWSAccessKeyId", "Signature"].into_iter().any(|name| parameter(request.uri(), name).is_some());
    if old_signature {
        return Some(s3_error!(
            InvalidRequest,
            "the authorization mechanism is not supported; please use AWS4-HMAC-SHA256"
        ));
    }
    presigned::check(request.uri(), request.headers()).err()
}

/// The code of an error answer.
fn error_code(response: &Response<Body>) -> Option<String> {
    if response.status().is_success() {
        return None;
    }
    let body = response.body().bytes()?;
    let text = std::str::from_utf8(&body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

/// Whether an error says more than its code.
fn has_words(response: &Response<Body>) -> bool {
    let body = response.body().bytes().unwrap_or_default();
    std::str::from_utf8(&body).is_ok_and(|text| text.contains("<Message>"))
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Enough for the longest list of parts or of keys.
const MOST_XML: usize = 4 << 20;
const HTTP1_BUFFER: usize = 64 * 1024;
const HTTP2_STREAMS: u32 = 64;
const HTTP2_HEADERS: u32 = 32 * 1024;
const HEADER_PATIENCE: Duration = Duration::from_secs(60);
/// Readers such as S3A hold an answer open while they work on what they have of it.
const WRITE_PATIENCE: Duration = Duration::from_secs(300);
/// How long a request that is under way may go on after the stop.
const LAST_PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_signature_is_refused_however_it_is_written() {
        let code = |uri: &str, authorization: Option<&str>| {
            let mut request = Request::get(uri);
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            refused(&request.body(()).expect("a request")).map(|refusal| refusal.code().as_str().to_owned())
        };
        for old in ["AWSAccessKeyId=a&Signature=b&Expires=1", "AWSAccess%4beyId=a&Sign%61ture=b", "Signature=b"] {
            assert_eq!(code(&format!("/b/k?{old}"), None).as_deref(), Some("InvalidRequest"), "{old}");
        }
        assert_eq!(code("/b/k", Some("AWS a:b")).as_deref(), Some("InvalidRequest"));
        assert_eq!(code("/b/k?prefix=Signature&x-signature=1", None), None);
    }
}
