//! The gate as such: what it records, what it bounds, how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use objects::NewBucket;
use support::{Stack, bucket, project, signed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

async fn exchange(stack: &Stack, head: &str, body: &[u8]) -> String {
    exchange_at(stack.public, head, body).await
}

async fn exchange_at(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(90), stream.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(stack: &Stack, method: &str, key: &str, more: &str) -> String {
    let url = signed(stack.public, method, key);
    let path = &url[format!("http://{}", stack.public).len()..];
    format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{more}\r\n", stack.public)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_leaves_an_audit_entry() {
    let stack = Stack::start().await;
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    let close = "connection: close\r\n";
    let put = exchange(&stack, &head(&stack, "PUT", "the key", &format!("{close}content-length: 2\r\n")), b"ok").await;
    assert!(put.starts_with("HTTP/1.1 200 "), "{put}");
    // It was kept with the object, and comes to the log soon.
    let last = newest(&stack, "s3:PutObject", "allowed").await;
    assert_eq!(last.identity, "s3-key/project-a");
    assert_eq!(last.action, "s3:PutObject");
    assert_eq!(last.resource, format!("project/{}/bucket/data/key/the key", project('a')));
    assert_eq!((last.decision.as_str(), last.result.as_str()), ("allowed", "200"));
    assert_eq!(last.source_ip.as_deref(), Some("127.0.0.1"));
    assert!(put.contains(&format!("x-amz-request-id: {}", last.request_id.unwrap())), "{put}");

    let refused = exchange(&stack, &format!("GET /data/key HTTP/1.1\r\nhost: x\r\n{close}\r\n"), b"").await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    let last = stack.audit.list(&query()).await.unwrap().remove(0);
    assert_eq!((last.identity.as_str(), last.action.as_str()), ("anonymous", "s3:GetObject"));
    assert_eq!((last.decision.as_str(), last.result.as_str()), ("refused", "403 AccessDenied"));

    let unknown = head(&stack, "GET", "key", close).replace("project-a", "somebody");
    assert!(exchange(&stack, &unknown, b"").await.contains("InvalidAccessKeyId"));
    let last = stack.audit.list(&query()).await.unwrap().remove(0);
    assert_eq!((last.decision.as_str(), last.result.as_str()), ("refused", "403 InvalidAccessKeyId"));

    // One who knows the name of a key, and not its secret, is not its holder.
    let forged = head(&stack, "GET", "key", close).replace("X-Amz-Expires=3600", "X-Amz-Expires=3601");
    stack.access.uses();
    assert!(exchange(&stack, &forged, b"").await.contains("SignatureDoesNotMatch"));
    let last = stack.audit.list(&query()).await.unwrap().remove(0);
    assert_eq!((last.identity.as_str(), last.decision.as_str()), ("anonymous", "refused"));
    assert!(last.detail.contains(r#""claimed":"s3-key/project-a""#), "{}", last.detail);
    assert!(last.resource.starts_with("project/unknown/"), "{}", last.resource);
    assert!(stack.access.uses().is_empty());
    exchange(&stack, &head(&stack, "GET", "key", close), b"").await;
    assert_eq!(stack.access.uses(), ["s3-key/project-a"]);

    // What policies said is kept with the call.
    let base = format!("http://{}", stack.public);
    let hour = Duration::from_secs(3600);
    let url = objects::presign("user-a", "secret of user-a", "GRA", &base, "GET", "data", "the key", hour);
    let denied = format!("GET {} HTTP/1.1\r\nhost: {}\r\n{close}\r\n", &url[base.len()..], stack.public);
    assert!(exchange(&stack, &denied, b"").await.contains("AccessDenied"));
    let last = stack.audit.list(&query()).await.unwrap().remove(0);
    assert_eq!((last.identity.as_str(), last.decision.as_str()), ("s3-key/user-a", "refused"));
    assert!(last.detail.contains("nothing allows it") && last.detail.contains("s3:GetObject"), "{}", last.detail);

    // Reads are written soon, not at once.
    exchange(&stack, &head(&stack, "GET", "the key", close), b"").await;
    newest(&stack, "s3:GetObject", "allowed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_entry_of_a_change_is_durable_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::without_hand_over(dir.path()).await;
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    let more = "connection: close\r\ncontent-length: 2\r\n";
    let swift = format!("/v1/AUTH_{}/data/swift", project('a'));
    let swift = format!("PUT {swift} HTTP/1.1\r\nhost: x\r\nx-auth-token: token-of-user-a\r\n{more}\r\n");
    for request in [head(&stack, "PUT", "s3", more), swift] {
        let answer = exchange(&stack, &request, b"ok").await;
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
    // Nobody wrote them to the log: they are in the store, with the objects.
    assert!(stack.audit.list(&query()).await.unwrap().is_empty());
    stack.hand_over();
    newest(&stack, "swift:PutObject", "allowed").await;
    let actions: Vec<String> = stack.audit.list(&query()).await.unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(actions, ["swift:PutObject", "s3:PutObject"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_tries_too_many_passwords_is_told_when_to_try_again() {
    let stack = Stack::start().await;
    let decisions = [("hurried", "429", "refused"), ("user-a", "201", "allowed"), ("nobody", "401", "refused")];
    for (user, status, decision) in decisions {
        let body = format!(
            r#"{{"auth": {{"identity": {{"methods": ["password"], "password": {{"user":
            {{"name": "{user}", "domain": {{"id": "default"}}, "password": "password of {user}"}}}}}}}}}}"#
        );
        let head = format!(
            "POST /v3/auth/tokens HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let answer = exchange(&stack, &head, body.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("retry-after: 7\r\n"), user == "hurried", "{answer}");
        let last = stack.audit.list(&query()).await.unwrap().remove(0);
        assert_eq!((last.decision.as_str(), last.result.as_str()), (decision, status), "{user}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_where_a_believed_proxy_says_and_nobody_else() {
    let (client, peer) = ("203.0.113.9", "127.0.0.1");
    let two_proxies = format!("x-forwarded-for: 198.51.100.1, {client}\r\nx-forwarded-for: {peer}\r\n");
    let cases = [
        (format!("x-forwarded-for: {client}\r\n"), client),
        (two_proxies, client),
        (format!("x-forwarded-for: {client}, nonsense\r\n"), peer),
        (String::new(), peer),
    ];
    for (proxies, is_believed) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let stack = Stack::behind(&[proxies]).await;
        for (said, expected) in &cases {
            for (listener, expected) in
                [(stack.public, if is_believed { *expected } else { peer }), (stack.sandbox, peer)]
            {
                let request = format!("GET /data/key HTTP/1.1\r\nhost: x\r\n{said}connection: close\r\n\r\n");
                let answer = exchange_at(listener, &request, b"").await;
                assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
                let last = stack.audit.list(&query()).await.unwrap().remove(0);
                assert_eq!(last.source_ip.as_deref(), Some(expected), "{proxies} {said} {}", last.detail);
            }
            let body = r#"{"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": "y"}}}}}"#;
            let head = format!("POST /v3/auth/tokens HTTP/1.1\r\nhost: x\r\n{said}connection: close\r\n");
            let head = format!("{head}content-length: {}\r\n\r\n", body.len());
            let answer = exchange(&stack, &head, body.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            let tried = if is_believed { *expected } else { peer };
            assert_eq!(stack.access.tries(), [Some(tried.parse::<IpAddr>().unwrap())], "{proxies} {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_see_the_address_and_the_scheme_that_a_believed_proxy_says() {
    for (proxies, is_believed) in [("127.0.0.1/32", true), ("10.0.0.0/8", false)] {
        let stack = Stack::behind(&[proxies]).await;
        stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
        let close = "connection: close\r\n";
        exchange(&stack, &head(&stack, "PUT", "key", &format!("{close}content-length: 2\r\n")), b"ok").await;
        let base = format!("http://{}", stack.public);
        let hour = Duration::from_secs(3600);
        let url = objects::presign("far-a", "secret of far-a", "GRA", &base, "GET", "data", "key", hour);
        let (path, there) = (&url[base.len()..], "x-forwarded-for: 203.0.113.9\r\n");
        for (said, may) in [
            (format!("{there}x-forwarded-proto: https\r\n"), is_believed),
            (format!("{there}x-forwarded-proto: https, http\r\n"), false),
            (format!("{there}x-forwarded-proto: http\r\n"), false),
            (there.to_owned(), false),
            ("x-forwarded-for: 203.0.113.8\r\nx-forwarded-proto: https\r\n".to_owned(), false),
            (String::new(), false),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{said}{close}\r\n", stack.public);
            let answer = exchange(&stack, &request, b"").await;
            let status = if may { "HTTP/1.1 200 " } else { "HTTP/1.1 403 " };
            assert!(answer.starts_with(status), "{proxies} {said} {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customers_key_is_refused_that_came_to_a_proxy_in_clear() {
    use rusty_s3::S3Action as _;

    let stack = Stack::behind(&["127.0.0.1/32"]).await;
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    let base = format!("http://{}", stack.public);
    let place = rusty_s3::Bucket::new(base.parse().unwrap(), rusty_s3::UrlStyle::Path, "data", "GRA").unwrap();
    let credentials = rusty_s3::Credentials::new("project-a", "secret of project-a");
    let mut put = place.put_object(Some(&credentials), "key");
    let mut headers = String::new();
    for (name, value) in ZEROS {
        put.headers_mut().insert(name, value);
        headers.push_str(&format!("{name}: {value}\r\n"));
    }
    let url = String::from(put.sign(Duration::from_secs(3600)));
    for (scheme, status) in [("https", "HTTP/1.1 200 "), ("http", "HTTP/1.1 400 ")] {
        let said = format!("x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: {scheme}\r\n");
        let request = format!("PUT {} HTTP/1.1\r\nhost: {}\r\n{headers}{said}", &url[base.len()..], stack.public);
        let request = format!("{request}connection: close\r\ncontent-length: 2\r\n\r\n");
        let answer = exchange(&stack, &request, b"ok").await;
        assert!(answer.starts_with(status), "{scheme}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_is_answered_and_let_go() {
    let stack = Stack::start().await;
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    let slow = exchange(&stack, &head(&stack, "PUT", "slow", "content-length: 1000000\r\n"), b"only this").await;
    assert!(slow.starts_with("HTTP/1.1 400 ") && slow.contains("RequestTimeout"), "{slow}");
    assert!(stack.store.head(&project('a'), &bucket("data"), "slow").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_input_is_an_error_of_ours() {
    let stack = Stack::start().await;
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    let close = "connection: close\r\n";
    for request in [
        head(&stack, "PUT", "k", &format!("{close}content-length: 99999999999999\r\n")),
        head(&stack, "PUT", "k", &format!("{close}content-length: 3\r\nif-match: nonsense\r\n")),
        head(&stack, "GET", "k", &format!("{close}range: bytes=9-1\r\n")),
        head(&stack, "GET", "k", &format!("{close}if-modified-since: yesterday\r\n")),
        head(&stack, "PUT", "k", &format!("{close}content-length: 3\r\nx-amz-copy-source: ///\r\n")),
        head(&stack, "PUT", "k", &format!("{close}content-length: 3\r\ncontent-md5: !\r\n")),
        head(&stack, "PUT", "k", &format!("{close}content-length: 3\r\nx-amz-trailer: x-amz-checksum-crc32\r\n")),
        format!("GET /%FF%FE?x=%FF HTTP/1.1\r\nhost: x\r\n{close}\r\n"),
        format!(
            "GET /data?X-Amz-Signature=1&X-Amz-Credential=a/b/GRA/s3/aws4_request HTTP/1.1\r\nhost: x\r\n{close}\r\n"
        ),
        format!("GET /data HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256 nonsense\r\n{close}\r\n"),
        format!(
            "POST /data HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data\r\ncontent-length: 3\r\n{close}\r\n"
        ),
        format!("BREW /data HTTP/1.1\r\nhost: x\r\n{close}\r\n"),
        "GET / HTTP/1.1\r\nhost: \r\nconnection: close\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(&stack, &request, b"abc").await;
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        let ours = status.starts_with('5') && status != "501";
        assert!(status.len() == 3 && !ours, "{request}\n{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_does_nothing_ends_at_the_stop() {
    let stack = Stack::start().await;
    let mut idle = TcpStream::connect(stack.public).await.unwrap();
    let mut kept = TcpStream::connect(stack.public).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 403");
    tokio::time::sleep(Duration::from_millis(100)).await;
    stack.stop.cancel();
    for stream in [&mut idle, &mut kept] {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_spoken_too() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let stack = Stack::start().await;
    stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await.unwrap();
    let io = TokioIo::new(TcpStream::connect(stack.public).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let body = vec![7; 1_000_000];
    for (method, sent) in [("PUT", body.clone()), ("GET", Vec::new())] {
        let request = http::Request::builder()
            .method(method)
            .uri(signed(stack.public, method, "key"))
            .body(Full::new(bytes::Bytes::from(sent)))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{answer:?}");
        let read = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), if method == "GET" { body.len() } else { 0 });
    }
}

/// The newest entry, once it is of this action.
async fn newest(stack: &Stack, action: &str, decision: &str) -> audit::Row {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let rows = stack.audit.list(&query()).await.unwrap();
        let last = rows.into_iter().next();
        if last.as_ref().is_some_and(|last| last.action == action && last.decision == decision) {
            return last.unwrap();
        }
        assert!(Instant::now() < deadline, "{last:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A customer's key of 32 zeros, with its MD5.
const ZEROS: [(&str, &str); 3] = [
    ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ("x-amz-server-side-encryption-customer-key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("x-amz-server-side-encryption-customer-key-md5", "cLyPS3KoaSFGi/joRB3OUQ=="),
];

fn query() -> audit::Query {
    audit::Query { limit: 5, ..audit::Query::default() }
}
