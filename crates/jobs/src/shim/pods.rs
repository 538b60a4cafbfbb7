//! The pods API on its listener in the job's network: HTTP around [`engine::pods`]. Whoever speaks here is the job,
//! and is not believed; what it can take of this process is bounded.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use engine::pods::{Answer, Effect, HEARTBEAT, MAX_BODY, Pods, Request, Watch};
use futures::stream;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use model::Sizing;
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

type Body = BoxBody<Bytes, Infallible>;

/// The pods of the job, and who waits for news of them.
pub struct Host {
    pods: Mutex<State>,
    /// Counts changes, for the watches.
    changed: watch::Sender<u64>,
    /// There is something to do.
    wishes: Notify,
    /// Bodies that are held at once.
    bodies: Semaphore,
}

struct State {
    pods: Pods,
    effects: Vec<Effect>,
}

impl Host {
    /// No pods yet; executors within `sizing` may come.
    pub fn new(sizing: Sizing) -> Arc<Host> {
        Arc::new(Host {
            pods: Mutex::new(State { pods: Pods::new(sizing), effects: Vec::new() }),
            changed: watch::Sender::new(0),
            wishes: Notify::new(),
            bodies: Semaphore::new(BODIES),
        })
    }

    /// Waits until there is something to do, and takes it, in order. For one caller.
    pub async fn effects(&self) -> Vec<Effect> {
        loop {
            let taken = std::mem::take(&mut self.lock().effects);
            if !taken.is_empty() {
                return taken;
            }
            self.wishes.notified().await;
        }
    }

    /// The container of a pod runs.
    pub fn started(&self, pod: &str) {
        self.change(|pods| pods.started(pod));
    }

    /// The container of a pod has ended, or was never started.
    pub fn ended(&self, pod: &str, exit_code: i32, reason: Option<&str>) {
        self.change(|pods| pods.ended(pod, exit_code, reason));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Pods) -> T) -> T {
        let mut state = self.lock();
        let outcome = change(&mut state.pods);
        let new = state.pods.take_effects();
        let work = !new.is_empty();
        state.effects.extend(new);
        drop(state);
        if work {
            self.wishes.notify_one();
        }
        self.changed.send_modify(|count| *count += 1);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much is to be done that the driver has to wait before it wishes for more.
    fn is_overwhelmed(&self) -> bool {
        self.lock().effects.len() > MOST_EFFECTS
    }
}

/// Serves the pods API until `stop`, then ends its connections.
pub async fn serve(listener: TcpListener, host: Arc<Host>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = room.clone().acquire_owned().await.ok()?;
                Some((listener.accept().await, place))
            } => accepted,
        };
        let Some((accepted, place)) = accepted else { break };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (host, stop) = (host.clone(), stop.clone());
        connections.spawn(async move {
            let of_requests = stop.clone();
            let service = service_fn(move |request| answer(request, host.clone(), of_requests.clone()));
            let connection =
                http1::Builder::new().max_buf_size(64 * 1024).serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A connection that breaks is the driver's to make again.
                _ = connection => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn answer(
    request: http::Request<Incoming>,
    host: Arc<Host>,
    stop: CancellationToken,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let changes = head.method != http::Method::GET;
    if changes && host.is_overwhelmed() {
        return Ok(refuse(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "earlier requests are still being done"));
    }
    let read = async {
        // Its permit is held until the request is answered: the body lives as long.
        let permit = host.bodies.acquire().await.ok();
        (Limited::new(body, MAX_BODY).collect().await, permit)
    };
    let (body, _permit) = match tokio::time::timeout(PATIENCE, read).await {
        Ok((Ok(body), permit)) => (body.to_bytes(), permit),
        Ok((Err(_), _)) => {
            return Ok(refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                "the body is too long or broke off",
            ));
        }
        Err(_) => return Ok(refuse(StatusCode::REQUEST_TIMEOUT, "Timeout", "the body did not come in time")),
    };
    let request = Request {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        upgrade: head.headers.contains_key(header::UPGRADE),
        body: &body,
    };
    // What only reads must not wake the watches.
    let answer = match changes {
        true => host.change(|pods| pods.handle(&request)),
        false => host.lock().pods.handle(&request),
    };
    Ok(match answer {
        Answer::Reply(reply) => {
            respond(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK), Full::from(reply.body).boxed())
        }
        Answer::Watch(watch) => respond(StatusCode::OK, follow(host.clone(), watch, stop)),
    })
}

/// Events one a line, until the client leaves or the API stops; a heartbeat where there are none.
fn follow(host: Arc<Host>, watch: Watch, stop: CancellationToken) -> Body {
    let (changes, cursor) = (host.changed.subscribe(), watch.cursor);
    let events = stream::unfold((changes, cursor), move |(mut changes, mut cursor)| {
        let (host, watch, stop) = (host.clone(), watch.clone(), stop.clone());
        async move {
            loop {
                changes.mark_unchanged();
                let (lines, next) = host.lock().pods.events_since(&watch, cursor);
                cursor = next;
                if !lines.is_empty() {
                    let piece = Frame::data(Bytes::from(lines.concat()));
                    return Some((Ok::<_, Infallible>(piece), (changes, cursor)));
                }
                tokio::select! {
                    changed = changes.changed() => changed.ok()?,
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(QUIET) => {
                        return Some((Ok(Frame::data(Bytes::from_static(HEARTBEAT))), (changes, cursor)));
                    }
                }
            }
        }
    });
    BodyExt::boxed(StreamBody::new(Box::pin(events) as std::pin::Pin<Box<dyn futures::Stream<Item = _> + Send + Sync>>))
}

fn refuse(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    });
    respond(status, Full::from(body.to_string()).boxed())
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Spark keeps a handful; a job that opens more waits for itself.
const MOST_CONNECTIONS: usize = 32;
const BODIES: usize = 2;
const MOST_EFFECTS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a watch says nothing.
const QUIET: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use model::{Cores, MiB, NodeSize};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start() -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let size = NodeSize { cores: Cores(1), memory: MiB(1024), overhead: MiB(384) };
        let host = Host::new(Sizing { driver: size, executor: size, executors: 1 });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let (address, stop) = (listener.local_addr().expect("address"), CancellationToken::new());
        let task = tokio::spawn(serve(listener, host, stop.clone()));
        (address, stop, task)
    }

    #[tokio::test]
    async fn a_watch_with_upgrade_gets_503_and_one_without_stays_open_until_the_stop() {
        let (address, stop, task) = start().await;
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let path = "/api/v1/namespaces/default/pods?watch=true";
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.expect("answered");
        assert!(answer[..length].starts_with(b"HTTP/1.1 503"), "{}", String::from_utf8_lossy(&answer[..length]));

        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let length = stream.read(&mut answer).await.expect("answered");
        let text = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200") && text.contains("transfer-encoding: chunked"), "{text}");
        // Nothing happens, and its reader is woken all the same.
        let length = stream.read(&mut answer).await.expect("a heartbeat");
        assert_eq!(&answer[..length], b"1\r\n \r\n");
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), task).await.expect("it ends").expect("without a panic");
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused() {
        let (address, _stop, _task) = start().await;
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let head = format!(
            "POST /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            MAX_BODY + 1
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        // The refusal may come before all is sent.
        let _ = stream.write_all(&vec![b'x'; MAX_BODY + 1]).await;
        let mut answer = vec![0; 1024];
        let length = stream.read(&mut answer).await.expect("answered");
        assert!(answer[..length].starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer[..length]));
    }
}
