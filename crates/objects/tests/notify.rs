//! Events of buckets, sent to a receiver on loopback that checks what comes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod support;

use std::{
    collections::HashSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use objects::{NewBucket, Webhook};
use serde_json::Value;
use support::{Stack, bucket, project, signed};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "a secret of the receiver's";

/// A server that takes events.
struct Receiver {
    address: SocketAddr,
    /// Message and id of what was taken.
    taken: Arc<Mutex<Vec<(Value, String)>>>,
    /// Answer and path of what was not.
    refused: Arc<Mutex<Vec<(u16, String)>>>,
    /// What it answers.
    status: Arc<AtomicU16>,
    stop: CancellationToken,
}

impl Receiver {
    async fn start(address: Option<SocketAddr>) -> Receiver {
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(address).await.unwrap();
        let receiver = Receiver {
            address: listener.local_addr().unwrap(),
            taken: Arc::default(),
            refused: Arc::default(),
            status: Arc::new(AtomicU16::new(204)),
            stop: CancellationToken::new(),
        };
        let (taken, refused) = (Arc::clone(&receiver.taken), Arc::clone(&receiver.refused));
        let (status, stop) = (Arc::clone(&receiver.status), receiver.stop.child_token());
        tokio::spawn(async move {
            while let Some(Ok((io, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (taken, refused, status) = (Arc::clone(&taken), Arc::clone(&refused), Arc::clone(&status));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (taken, refused) = (Arc::clone(&taken), Arc::clone(&refused));
                    let status = status.load(Ordering::SeqCst);
                    async move {
                        if !(200..300).contains(&status) {
                            refused.lock().unwrap().push((status, request.uri().path().to_owned()));
                        }
                        Ok::<_, Infallible>(take(request, &taken, status).await)
                    }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let stop = stop.clone();
                tokio::spawn(async move {
                    let connection = builder.serve_connection(TokioIo::new(io), service);
                    stop.run_until_cancelled(connection).await
                });
            }
        });
        receiver
    }

    fn webhook(&self, name: &str) -> Webhook {
        Webhook {
            name: name.to_owned(),
            url: format!("http://{}/events?token=x", self.address).parse().unwrap(),
            secret: SECRET.to_owned().into(),
        }
    }

    /// The events, once there are so many.
    async fn wait(&self, count: usize) -> Vec<(Value, String)> {
        for _ in 0..400 {
            let taken = self.taken.lock().unwrap().clone();
            if taken.len() >= count {
                assert_eq!(taken.len(), count, "{taken:#?}");
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{count} events did not come: {:#?}", self.taken.lock().unwrap());
    }

    /// Waits until it has answered so.
    async fn refuses(&self, status: u16) {
        for _ in 0..400 {
            if self.refused.lock().unwrap().iter().any(|(answer, _)| *answer == status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing was answered {status}: {:#?}", self.refused.lock().unwrap());
    }
}

/// Takes an event; panics, and so closes the connection, if it is not as it must be.
async fn take(
    request: Request<Incoming>,
    taken: &Mutex<Vec<(Value, String)>>,
    status: u16,
) -> Response<Empty<bytes::Bytes>> {
    let status = StatusCode::from_u16(status).unwrap();
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/events"));
    let header = |name: &str| text(&parts.headers, name);
    assert_eq!(header("content-type"), "application/json");
    let signature = header("x-casemate-signature");
    let (time, sum) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert!((Timestamp::now().as_second() - time.parse::<i64>().unwrap()).abs() < 5);
    let own = crypto::digest::hmac_sha256(SECRET.as_bytes(), &[time.as_bytes(), b".", &body]);
    assert_eq!(sum, hex::encode(own));
    if status.is_success() {
        let message = serde_json::from_slice(&body).unwrap();
        taken.lock().unwrap().push((message, header("x-casemate-event-id")));
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    if status.is_redirection() {
        let location = format!("http://{}/elsewhere", parts.headers["host"].to_str().unwrap());
        response.headers_mut().insert("location", location.parse().unwrap());
    }
    response
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().unwrap().to_owned()
}

/// Sends the events of a stack to webhooks, until its end.
fn send(stack: &Stack, webhooks: Vec<Webhook>) -> CancellationToken {
    stack.store.attach_webhooks(webhooks).unwrap();
    let (store, audit, stop) = (stack.store.clone(), stack.audit.clone(), CancellationToken::new());
    let ending = stop.clone();
    tokio::spawn(async move { store.run_webhooks(&"GRA".parse().unwrap(), &audit, ending).await.unwrap() });
    stop
}

async fn put(stack: &Stack, key: &str) {
    let url = signed(stack.public, "PUT", key);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.put(url).body("content").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

fn keys(events: &[(Value, String)]) -> Vec<&str> {
    events.iter().map(|(event, _)| event["Records"][0]["s3"]["object"]["key"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_in_a_bucket_is_told_and_nothing_else() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(None).await;
    let _stop = send(&stack, vec![receiver.webhook("hook")]);
    stack.script("notify.py", "everything").await;
    let events = receiver.wait(10).await;
    let ids: HashSet<&str> = events.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids.len(), events.len());
    let mut told = Vec::new();
    let mut sequence = String::new();
    for (event, _) in &events {
        let record = &event["Records"][0];
        assert_eq!(event["Records"].as_array().unwrap().len(), 1);
        assert_eq!((&record["eventVersion"], &record["awsRegion"]), (&"2.1".into(), &"GRA".into()));
        assert_eq!(record["userIdentity"]["principalId"], "s3-key/project-a");
        assert_eq!(record["requestParameters"]["sourceIPAddress"], "127.0.0.1");
        assert_eq!(record["responseElements"]["x-amz-request-id"].as_str().unwrap().len(), 32);
        assert_eq!(record["s3"]["bucket"]["ownerIdentity"]["principalId"], "a".repeat(32));
        let next = record["s3"]["object"]["sequencer"].as_str().unwrap().to_owned();
        assert!(next > sequence, "{next} after {sequence}");
        sequence = next;
        let (bucket, object) = (&record["s3"]["bucket"]["name"], &record["s3"]["object"]);
        let place = format!("{}/{}", bucket.as_str().unwrap(), object["key"].as_str().unwrap());
        told.push((record["eventName"].as_str().unwrap(), place, object["size"].as_u64()));
        assert_eq!(object["versionId"].is_string(), bucket == "versions", "{object}");
        assert_eq!(record["s3"]["configurationId"], if bucket == "versions" { "of versions" } else { "all" });
    }
    let wanted = [
        ("ObjectCreated:Put", "told/in/a+b.txt", Some(7)),
        ("ObjectCreated:Copy", "told/in/copy.txt", Some(7)),
        ("ObjectCreated:CompleteMultipartUpload", "told/in/parts.txt", Some((5 << 20) + 4)),
        ("ObjectCreated:Post", "told/in/form.txt", Some(4)),
        ("ObjectRemoved:Delete", "told/in/a+b.txt", None),
        ("ObjectRemoved:Delete", "told/in/copy.txt", None),
        ("ObjectCreated:Put", "versions/key", Some(1)),
        ("ObjectRemoved:DeleteMarkerCreated", "versions/key", None),
        ("ObjectRemoved:Delete", "versions/key", None),
        ("ObjectRemoved:Delete", "versions/key", None),
    ];
    let wanted: Vec<_> = wanted.into_iter().map(|(name, place, size)| (name, place.to_owned(), size)).collect();
    assert_eq!(told, wanted);
    // As the object has it.
    let etag = events[0].0["Records"][0]["s3"]["object"]["eTag"].as_str().unwrap();
    assert_eq!(etag, "9a0364b9e99bb480dd25e1f0284c8555");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_that_cannot_be_are_refused_and_others_read_back() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(None).await;
    let _stop = send(&stack, vec![receiver.webhook("hook"), receiver.webhook("other")]);
    stack.script("notify.py", "configurations").await;
    assert!(receiver.taken.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_outlive_a_receiver_that_is_away_and_a_store_that_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (away, other) = (Receiver::start(None).await, Receiver::start(None).await);
    // Nobody listens there for now.
    away.stop.cancel();
    let webhooks = || vec![away.webhook("hook"), other.webhook("other")];
    let stack = Stack::start_in(dir.path()).await;
    let stop = send(&stack, webhooks());
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    stack.script("notify.py", "two_webhooks").await;
    put(&stack, "hook/1").await;
    put(&stack, "other/1").await;
    put(&stack, "hook/2").await;
    put(&stack, "other/2").await;
    // The one that is away does not hold up the other.
    assert_eq!(keys(&other.wait(2).await), ["other/1", "other/2"]);

    stop.cancel();
    stack.stop.cancel();
    stack.store.close().await;
    drop(stack);
    let stack = Stack::start_in(dir.path()).await;
    let _stop = send(&stack, webhooks());
    put(&stack, "hook/3").await;
    let back = Receiver::start(Some(away.address)).await;
    assert_eq!(keys(&back.wait(3).await), ["hook/1", "hook/2", "hook/3"]);
    // What was taken is not sent again: it would come before what is newer.
    put(&stack, "hook/4").await;
    put(&stack, "other/3").await;
    assert_eq!(keys(&back.wait(4).await), ["hook/1", "hook/2", "hook/3", "hook/4"]);
    assert_eq!(keys(&other.wait(3).await), ["other/1", "other/2", "other/3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_or_sent_elsewhere_comes_again() {
    let stack = Stack::start().await;
    let receiver = Receiver::start(None).await;
    let _stop = send(&stack, vec![receiver.webhook("hook"), receiver.webhook("other")]);
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    stack.script("notify.py", "two_webhooks").await;
    for status in [500, 307] {
        receiver.status.store(status, Ordering::SeqCst);
        put(&stack, &format!("hook/{status}")).await;
        receiver.refuses(status).await;
    }
    assert!(receiver.taken.lock().unwrap().is_empty());
    receiver.status.store(200, Ordering::SeqCst);
    let events = receiver.wait(2).await;
    let found: HashSet<&str> = keys(&events).into_iter().collect();
    assert_eq!(found, HashSet::from(["hook/500", "hook/307"]));
    let refused = receiver.refused.lock().unwrap();
    assert!(refused.iter().all(|(_, path)| path == "/events"), "what is sent elsewhere is not: {refused:?}");
}

/// The same where the environment names a proxy, which is not there.
#[test]
fn a_webhook_on_this_machine_is_not_called_by_a_proxy() {
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_event_that_is_refused_or_sent_elsewhere_comes_again"])
        .env("ALL_PROXY", "http://127.0.0.1:9")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&again.stderr));
}
