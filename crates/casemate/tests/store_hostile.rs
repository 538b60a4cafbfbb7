//! Input that no client sends by itself, against a running service: what is refused has the code that S3 gives it, nothing
//! of it is stored, and others are served meanwhile. Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

#[path = "store_clients/wire.rs"]
mod wire;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use support::{Stack, text, wait_for};
use wire::{Answer, Call, Store, cut, sha256};

/// What was refused, and why that is wrong: all of a table is tried before it fails.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, what: &str, answer: &Answer, status: u16, code: &str) {
        if answer.status != status || answer.code() != code {
            let head = answer.head.lines().next().unwrap_or("no answer");
            let message = answer.between("<Message>", "</Message>");
            self.0.push(format!("{what}: expected {status} {code}, got {head:?} {} {message}", answer.code()));
        }
    }

    fn holds(&mut self, what: &str, holds: bool) {
        if !holds {
            self.0.push(what.to_owned());
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "\n{}", self.0.join("\n"));
        }
    }
}

fn start() -> (Stack, Store) {
    let stack = Stack::start();
    let store = Store::of(&stack);
    assert_eq!(store.call(Call::new("PUT", "/data")).status, 200);
    (stack, store)
}

#[test]
fn wrong_passwords_of_one_client_of_a_proxy_are_held_against_none_of_its_others() {
    let stack = Stack::configured(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\ntrusted_proxies = ['127.0.0.1/32']\n",
    );
    let store = Store::of(&stack);
    let status = |from: &str, number: u32| {
        let user = format!(r#"{{"id": "nobody-{number}", "password": "wrong"}}"#);
        let body =
            format!(r#"{{"auth": {{"identity": {{"methods": ["password"], "password": {{"user": {user}}}}}}}}}"#);
        let call = Call::new("POST", "/v3/auth/tokens").header("host", &store.host).header("x-forwarded-for", from);
        store.send(&call.body(body)).status
    };
    assert!((0..200).any(|number| status("203.0.113.9", number) == 429), "one client may not try for ever");
    assert_eq!(status("203.0.113.9, 203.0.113.10", 0), 401, "what a client says of itself is not its address");
}

#[test]
fn malformed_documents_are_refused_and_cost_nothing() {
    let (stack, store) = start();
    store.call(Call::new("PUT", "/data/kept").body("x"));
    let upload = begin(&store, "/data/upload");
    let bomb = |name: &str| {
        let mut text = format!("<?xml version=\"1.0\"?><!DOCTYPE {name} [<!ENTITY a0 \"aaaaaaaaaa\">");
        for level in 1..12 {
            text.push_str(&format!("<!ENTITY a{level} \"{}\">", format!("&a{};", level - 1).repeat(10)));
        }
        text + "]>"
    };
    let deep = "<Delete>".repeat(100_000);
    let key = "<Object><Key>kept</Key></Object>";
    let documents: Vec<(&str, Vec<u8>)> = vec![
        ("no document", b"not XML".to_vec()),
        ("an open element", b"<Delete><Object><Key>kept".to_vec()),
        ("elements that cross", b"<Delete><Object><Key>kept</Object></Key></Delete>".to_vec()),
        ("another root", format!("<Remove>{key}</Remove>").into_bytes()),
        ("no object", b"<Delete></Delete>".to_vec()),
        ("no key", b"<Delete><Object></Object></Delete>".to_vec()),
        ("two keys", b"<Delete><Object><Key>kept</Key><Key>kept</Key></Object></Delete>".to_vec()),
        ("bytes that are no text", b"<Delete><Object><Key>\xff\xfe</Key></Object></Delete>".to_vec()),
        ("an unknown entity", b"<Delete><Object><Key>&what;</Key></Object></Delete>".to_vec()),
        ("an entity bomb", format!("{}<Delete><Object><Key>&a11;</Key></Object></Delete>", bomb("Delete")).into_bytes()),
        (
            "an entity of a file",
            b"<!DOCTYPE Delete [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><Delete><Object><Key>&f;</Key></Object></Delete>"
                .to_vec(),
        ),
        ("100,000 levels", deep.into_bytes()),
        ("a second document", format!("<Delete>{key}</Delete><Delete>{key}</Delete>").into_bytes()),
        ("1,001 objects", format!("<Delete>{}</Delete>", key.repeat(1001)).into_bytes()),
    ];
    let before = resident(&stack);
    let mut faults = Faults::default();
    for (what, document) in &documents {
        let answer = store.call(Call::new("POST", "/data?delete").body(document.clone()));
        faults.check(&format!("delete, {what}"), &answer, 400, "MalformedXML");
    }
    for (what, document) in documents.iter().filter(|(what, _)| !what.contains("objects")) {
        let document = text(document).replace("Delete", "CompleteMultipartUpload").replace("Object>", "Part>");
        let answer = store.call(Call::new("POST", &format!("/data/upload?uploadId={upload}")).body(document));
        faults.check(&format!("complete, {what}"), &answer, 400, "MalformedXML");
    }
    for document in ["<CreateBucketConfiguration><Location", "<Other/>"] {
        let answer = store.call(Call::new("PUT", "/another").body(document));
        faults.check(&format!("create, {document}"), &answer, 400, "MalformedXML");
    }
    let answer = store.call(Call::new("POST", "/data?delete").body(vec![b' '; 6 << 20]));
    faults.check("6 MiB of space", &answer, 400, "MaxMessageLengthExceeded");
    faults.holds("what a refused document named was removed", store.call(Call::new("GET", "/data/kept")).status == 200);
    faults.holds("a bucket came of a refused document", store.call(Call::new("HEAD", "/another")).status == 404);
    let grown = resident(&stack).saturating_sub(before);
    faults.holds(&format!("serve grew by {} MiB", grown >> 10), grown < 64 << 10);
}

#[test]
fn names_and_headers_have_bounds_and_lead_nowhere_else() {
    let (stack, store) = start();
    let mut faults = Faults::default();
    let put = |key: &str| store.call(Call::new("PUT", &format!("/data/{key}")).body("x"));
    faults.check("1,024 bytes of key", &put(&"k".repeat(1024)), 200, "");
    faults.check("1,025 bytes of key", &put(&"k".repeat(1025)), 400, "KeyTooLongError");
    faults.check("513 letters of two bytes", &put(&"%C3%BC".repeat(513)), 400, "KeyTooLongError");
    faults.check("60,000 bytes of key", &put(&"k".repeat(60_000)), 400, "KeyTooLongError");
    // Keys are names, not paths.
    let odd = ["..%2F..%2Fetc%2Fpasswd", "%2e%2e/%2e%2e/x", "a/../b", "../up", "./here", "%2Froot", "a//b"];
    for key in odd {
        faults.check(key, &put(key), 200, "");
        let got = store.call(Call::new("GET", &format!("/data/{key}")));
        faults.holds(&format!("{key} came back as {} {:?}", got.status, text(&got.body)), got.body == b"x");
    }
    let mut keys: Vec<String> = stack.keys("data", "").into_iter().filter(|key| key.len() < 1024).collect();
    let mut expected = ["../../etc/passwd", "../../x", "a/../b", "../up", "./here", "/root", "a//b"].map(str::to_owned);
    keys.sort();
    expected.sort();
    faults.holds(&format!("listed {keys:?}"), keys == expected);
    for key in ["%zz", "bad%", "%ff%fe"] {
        faults.check(key, &put(key), 400, "InvalidURI");
    }
    for bucket in
        ["..", "%2e%2e", "..%2f..%2fetc", "a..b", "ab", "Upper", "under_score", "192.168.0.1", &"b".repeat(64)]
    {
        let answer = store.call(Call::new("PUT", &format!("/{bucket}")));
        faults.check(&format!("the bucket {bucket}"), &answer, 400, "InvalidBucketName");
    }
    let metadata = |size: usize| Call::new("PUT", "/data/about").header("x-amz-meta-a", &"m".repeat(size)).body("x");
    faults.check("2,047 bytes of metadata", &store.call(metadata(2047)), 200, "");
    faults.check("2,048 bytes and its name", &store.call(metadata(2048)), 400, "MetadataTooLarge");
    let large = store.call(Call::new("GET", "/data/about").header("x-large", &"h".repeat(200_000)));
    faults.holds(&format!("200,000 bytes of header: {}", large.head), [400, 431].contains(&large.status));
    let mut many = Call::new("GET", "/data/about");
    for number in 0..2000 {
        many = many.header(&format!("x-many-{number}"), "1");
    }
    let many = store.call(many);
    faults.holds(&format!("2,000 headers: {}", many.head), [400, 431].contains(&many.status));
    for (what, call, code) in [
        ("a negative count", Call::new("GET", "/data?max-keys=-1"), "InvalidArgument"),
        ("a count that is none", Call::new("GET", "/data?max-keys=many"), "InvalidArgument"),
        ("an encoding of lists", Call::new("GET", "/data?encoding-type=rot13"), "InvalidArgument"),
        ("a continuation", Call::new("GET", "/data?continuation-token=%2A&list-type=2"), "InvalidArgument"),
        ("a part number of 0", Call::new("GET", "/data/about?partNumber=0"), "InvalidArgument"),
    ] {
        faults.check(what, &store.call(call), 400, code);
    }
}

#[test]
fn parts_are_numbered_ordered_and_large_enough() {
    let (_stack, store) = start();
    let mut faults = Faults::default();
    let upload = begin(&store, "/data/key");
    let part = |number: &str, body: &[u8]| {
        store.call(Call::new("PUT", &format!("/data/key?partNumber={number}&uploadId={upload}")).body(body))
    };
    for number in ["0", "10001", "-1", "one", "99999999999", "1.5", ""] {
        faults.check(&format!("part {number:?}"), &part(number, b"x"), 400, "InvalidArgument");
    }
    let (one, two) = (tag(&part("1", &[1; 1000])), tag(&part("2", &[2; 1000])));
    let last = tag(&part("10000", b"last"));
    let complete = |parts: &[(&str, &str)]| {
        let parts: String = parts
            .iter()
            .map(|(number, tag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"))
            .collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        store.call(Call::new("POST", &format!("/data/key?uploadId={upload}")).body(document))
    };
    faults.check("descending", &complete(&[("2", &two), ("1", &one)]), 400, "InvalidPartOrder");
    faults.check("twice the same", &complete(&[("1", &one), ("1", &one)]), 400, "InvalidPartOrder");
    faults.check("a part that is not there", &complete(&[("1", &one), ("3", &two)]), 400, "InvalidPart");
    faults.check("another tag", &complete(&[("1", &two)]), 400, "InvalidPart");
    faults.check("a number out of bounds", &complete(&[("0", &one)]), 400, "InvalidArgument");
    faults.check("a small part that is not the last", &complete(&[("1", &one), ("2", &two)]), 400, "EntityTooSmall");
    faults.check("no part", &complete(&[]), 400, "MalformedXML");
    for id in ["none", "..%2F..%2Fx", "%00", &"u".repeat(5000), "00000000000000000000000000000000"] {
        let answer = store.call(Call::new("PUT", &format!("/data/key?partNumber=1&uploadId={id}")).body("x"));
        faults.check(&format!("the upload {:.20}", id), &answer, 404, "NoSuchUpload");
    }
    let other = store.call(Call::new("PUT", &format!("/data/other?partNumber=1&uploadId={upload}")).body("x"));
    faults.check("the upload of another key", &other, 404, "NoSuchUpload");
    faults.holds("an object before its upload is complete", store.call(Call::new("HEAD", "/data/key")).status == 404);
    faults.check("the last part alone", &complete(&[("10000", &last)]), 200, "");
    faults.holds("the object is the part", store.call(Call::new("GET", "/data/key")).body == b"last");
}

#[test]
fn bodies_that_are_not_what_they_say_are_not_stored() {
    let (_stack, store) = start();
    let mut faults = Faults::default();
    let upload = begin(&store, "/data/upload");
    let places = ["/data/wrong".to_owned(), format!("/data/upload?partNumber=1&uploadId={upload}")];
    for place in &places {
        let put = || Call::new("PUT", place).body("the body");
        faults.check(
            "another MD5",
            &store.call(put().header("content-md5", &BASE64.encode([0; 16]))),
            400,
            "BadDigest",
        );
        for md5 in ["!", "bm8=", ""] {
            let answer = store.call(put().header("content-md5", md5));
            faults.check(&format!("the MD5 {md5:?}"), &answer, 400, "InvalidDigest");
        }
        for (name, size) in [("crc32", 4), ("crc32c", 4), ("crc64nvme", 8), ("sha1", 20), ("sha256", 32)] {
            let header = format!("x-amz-checksum-{name}");
            let answer = store.call(put().header(&header, &BASE64.encode(vec![0; size])));
            faults.check(&format!("another {name}"), &answer, 400, "BadDigest");
            let answer = store.call(put().header(&header, &BASE64.encode(vec![0; size + 1])));
            faults.check(&format!("a {name} that is none"), &answer, 400, "InvalidRequest");
        }
        let two = put().header("x-amz-checksum-crc32", "AAAAAA==").header("x-amz-checksum-crc32c", "AAAAAA==");
        faults.check("two checksums", &store.call(two), 400, "InvalidRequest");
        let hash = put().payload(&sha256(b"another body"));
        faults.check("another SHA-256", &store.call(hash), 400, "XAmzContentSHA256Mismatch");
        faults.check("no SHA-256", &store.call(put().payload("abc")), 400, "InvalidArgument");

        let trailer = |body: &str, length: usize| {
            let call = Call::new("PUT", place)
                .header("content-encoding", "aws-chunked")
                .header("x-amz-decoded-content-length", &length.to_string())
                .header("x-amz-trailer", "x-amz-checksum-crc32")
                .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
            let mut signed = store.sign(call).call;
            signed.body = body.as_bytes().to_vec();
            store.send(&signed)
        };
        // The CRC-32 of `123456789` is published: 0xcbf43926.
        let right = "9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n";
        faults.check("another trailer", &trailer(&right.replace("y/Q5Jg", "y/Q5Jw"), 9), 400, "BadDigest");
        faults.check("no trailer", &trailer("9\r\n123456789\r\n0\r\n\r\n", 9), 400, "MalformedTrailerError");
        faults.check("less than was said", &trailer(right, 10), 400, "IncompleteBody");
        faults.check("more than was said", &trailer(right, 8), 400, "IncompleteBody");
        faults.check("no last chunk", &trailer("9\r\n123456789\r\n", 9), 400, "IncompleteBody");
        for size in ["ffffffffffffffffff", "-1", "x", "7fffffffffffffff"] {
            let answer = trailer(&format!("{size}\r\n123456789\r\n0\r\n\r\n"), 9);
            faults.holds(&format!("a chunk of {size}: {}", answer.head), answer.status == 400);
        }
        faults.check("the right trailer", &trailer(right, 9), 200, "");
        store.call(Call::new("DELETE", "/data/wrong"));
    }
    let put = |length: &str| {
        store.sign(Call::new("PUT", "/data/wrong").payload("UNSIGNED-PAYLOAD").header("content-length", length)).call
    };
    faults.check("6 TiB", &store.send(&put("6597069766656")), 400, "EntityTooLarge");
    for length in ["-5", "five", "99999999999999999999999"] {
        let answer = store.send(&put(length));
        faults.holds(&format!("a length of {length}: {}", answer.head), answer.status == 400);
    }
    // Two lengths would let one request hide another.
    let mut both = store.sign(Call::new("PUT", "/data/wrong").payload("UNSIGNED-PAYLOAD")).call;
    both.headers.push(("content-length".to_owned(), "4".to_owned()));
    both.headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
    both.body = b"0\r\n\r\nGET /data HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    let answer = store.send(&both);
    let answers = 1 + text(&answer.body).matches("HTTP/1.1 ").count();
    faults.holds(&format!("a length and chunks gave {answers} answers"), answers == 1);
    store.call(Call::new("DELETE", "/data/wrong"));
    faults.holds(
        "something is stored",
        store.call(Call::new("GET", "/data?list-type=2")).between("<KeyCount>", "</KeyCount>") == "0",
    );
    faults.check(
        "a bucket that is not there",
        &store.call(Call::new("PUT", "/none-such/key").body("x")),
        404,
        "NoSuchBucket",
    );
}

#[test]
fn what_is_cut_off_leaves_nothing_half_written() {
    let (_stack, store) = start();
    let mut faults = Faults::default();
    store.call(Call::new("PUT", "/data/old").body("old"));
    let upload = begin(&store, "/data/upload");
    let part = format!("/data/upload?partNumber=1&uploadId={upload}");
    let tag = tag(&store.call(Call::new("PUT", &format!("/data/upload?partNumber=2&uploadId={upload}")).body("two")));
    let body = vec![7; 3 << 20];
    for in_order in [true, false] {
        for place in ["/data/new", "/data/old", &part] {
            // In the middle of the head, of the first segment, and one byte before the end.
            let bytes = store.sign(Call::new("PUT", place).body(body.clone())).call.bytes();
            for at in [100, bytes.len() - body.len() + 1000, bytes.len() - (1 << 20), bytes.len() - 1] {
                send_and_cut(&store, &bytes[..at], in_order);
            }
            let call = Call::new("PUT", place)
                .header("x-amz-decoded-content-length", "131072")
                .payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
            let signed = store.sign(call);
            let mut call = signed.call.clone();
            call.body = signed.chunks(&[&body[..65536], &body[..65536], b""]);
            let bytes = call.bytes();
            send_and_cut(&store, &bytes[..bytes.len() - 100], in_order);
            send_and_cut(&store, &bytes[..bytes.len() - 70_000], in_order);
        }
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
        );
        let bytes =
            store.sign(Call::new("POST", &format!("/data/upload?uploadId={upload}")).body(document)).call.bytes();
        send_and_cut(&store, &bytes[..bytes.len() - 10], in_order);
        let removal =
            store.sign(Call::new("POST", "/data?delete").body("<Delete><Object><Key>old</Key></Object></Delete>"));
        let bytes = removal.call.bytes();
        send_and_cut(&store, &bytes[..bytes.len() - 10], in_order);
    }
    quiet(&store);
    faults.check("a new key", &store.call(Call::new("GET", "/data/new")), 404, "NoSuchKey");
    faults.holds("the old object is another", store.call(Call::new("GET", "/data/old")).body == b"old");
    faults.holds("the upload is complete", store.call(Call::new("HEAD", "/data/upload")).status == 404);
    let parts = store.call(Call::new("GET", &format!("/data/upload?uploadId={upload}")));
    let listed = text(&parts.body);
    faults.holds(
        &format!("parts: {listed}"),
        listed.matches("<PartNumber>").count() == 1 && listed.contains("<PartNumber>2<"),
    );
    let listed = text(&store.call(Call::new("GET", "/data?list-type=2")).body);
    faults.holds(&format!("keys: {listed}"), listed.matches("<Key>").count() == 1);

    // A whole request whose client does not wait for the answer is done or not, and never in between.
    let bytes = store.sign(Call::new("PUT", "/data/unheard").body(body.clone())).call.bytes();
    send_and_cut(&store, &bytes, true);
    quiet(&store);
    let unheard = store.call(Call::new("GET", "/data/unheard"));
    faults.holds("an object that nobody heard of", unheard.status == 404 || unheard.body == body);

    // Readers that go away in the middle do not disturb others.
    store.call(Call::new("PUT", "/data/large").body(vec![9; 16 << 20]));
    for number in 0..40 {
        let mut stream = store.connect();
        stream.write_all(&store.sign(Call::new("GET", "/data/large")).call.bytes()).expect("it sends");
        stream.read_exact(&mut [0; 70_000]).expect("it reads");
        cut(stream, number % 2 == 0);
    }
    let whole = store.call(Call::new("GET", "/data/large"));
    faults
        .holds("the large object is another", whole.body.len() == 16 << 20 && whole.body.iter().all(|byte| *byte == 9));
}

#[test]
fn signatures_are_good_for_what_they_are_of() {
    let (_stack, store) = start();
    let mut faults = Faults::default();
    store.call(Call::new("PUT", "/data/key").body("body"));
    store.call(Call::new("PUT", "/data/secret").body("secret"));
    for (ahead, good) in
        [(-16 * 60, false), (16 * 60, false), (-86_400 * 400, false), (-14 * 60, true), (14 * 60, true)]
    {
        let answer = store.call(Call::new("GET", "/data/key").ahead(ahead));
        match good {
            true => faults.check(&format!("{ahead} s ahead"), &answer, 200, ""),
            false => faults.check(&format!("{ahead} s ahead"), &answer, 403, "RequestTimeTooSkewed"),
        }
    }
    let good = store.sign(Call::new("GET", "/data/key?partNumber=1").header("x-amz-meta-m", "1")).call;
    faults.check("as it was signed", &store.send(&good), 206, "");
    let mut other = |what: &str, change: &dyn Fn(&mut Call)| {
        let mut call = good.clone();
        change(&mut call);
        faults.check(what, &store.send(&call), 403, "SignatureDoesNotMatch");
    };
    other("another path", &|call| call.path = "/data/secret".to_owned());
    other("another form of the path", &|call| call.path = "/data//key".to_owned());
    other("another method", &|call| call.method = "DELETE".to_owned());
    other("another parameter", &|call| call.query = "partNumber=2".to_owned());
    other("one parameter more", &|call| call.query.push_str("&response-content-type=text%2Fhtml"));
    other("no parameter", &|call| call.query.clear());
    other("another header", &|call| *call = call.clone().with("x-amz-meta-m", Some("2")));
    other("no header", &|call| *call = call.clone().with("x-amz-meta-m", None));
    other("another host", &|call| *call = call.clone().with("host", Some("s3.example.org")));
    other("another payload", &|call| *call = call.clone().with("x-amz-content-sha256", Some("UNSIGNED-PAYLOAD")));
    let authorization = good.headers.iter().find(|(name, _)| name == "authorization").expect("it is signed").1.clone();
    let with = |value: &str| store.send(&good.clone().with("authorization", Some(value)));
    let flipped = format!(
        "{}{}",
        &authorization[..authorization.len() - 1],
        if authorization.ends_with('0') { '1' } else { '0' }
    );
    faults.check("another signature", &with(&flipped), 403, "SignatureDoesNotMatch");
    faults.check(
        "an empty signature",
        &with(authorization.split("Signature=").next().unwrap()),
        400,
        "AuthorizationHeaderMalformed",
    );
    let unknown = authorization.replace(&store.access_key, "AKIAUNKNOWN");
    faults.check("an unknown key", &with(&unknown), 403, "InvalidAccessKeyId");
    for (what, value) in [
        ("no credential", authorization.replace("Credential", "Other")),
        ("another service", authorization.replace("/s3/", "/ec2/")),
        ("another end", authorization.replace("aws4_request", "aws5_request")),
        ("a short credential", authorization.replace("/s3/aws4_request", "")),
        ("no signed headers", authorization.replace("SignedHeaders", "Other")),
    ] {
        faults.check(what, &with(&value), 400, "AuthorizationHeaderMalformed");
    }
    // A header that says what to do must be under the signature.
    let mut put = store.sign(Call::new("PUT", "/data/put").body("x")).call;
    put.headers.push(("x-amz-meta-added".to_owned(), "later".to_owned()));
    faults.check("a header that is not signed", &store.send(&put), 403, "AccessDenied");
    let mut copy = store.sign(Call::new("PUT", "/data/put")).call;
    copy.headers.push(("x-amz-copy-source".to_owned(), "/data/secret".to_owned()));
    faults.check("a copy that is not signed", &store.send(&copy), 403, "AccessDenied");
    faults.holds("something was written", store.call(Call::new("HEAD", "/data/put")).status == 404);
    let mut call = Call::new("GET", "/data/key");
    call.headers.push(("host".to_owned(), store.host.clone()));
    faults.check("no signature", &store.send(&call), 403, "AccessDenied");
    let dateless = good.clone().with("x-amz-date", None);
    faults.check("no date", &store.send(&dateless), 403, "AccessDenied");
    let mut both = store.presign(Call::new("GET", "/data/key"), "60");
    both.headers.push(("authorization".to_owned(), authorization));
    faults.check("two signatures", &store.send(&both), 400, "InvalidArgument");
}

#[test]
fn each_chunk_of_a_signed_body_is_the_one_that_was_signed() {
    let (_stack, store) = start();
    let mut faults = Faults::default();
    let (one, two) = (vec![1; 70_000], vec![2; 70_000]);
    let send = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let call = Call::new("PUT", "/data/chunks")
            .header("x-amz-decoded-content-length", "140000")
            .payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        let signed = store.sign(call);
        let mut call = signed.call.clone();
        call.body = change(signed.chunks(&[&one, &two, b""]));
        store.send(&call)
    };
    let at = |body: &[u8], word: &[u8], from: usize| {
        from + body[from..].windows(word.len()).position(|at| at == word).unwrap()
    };
    faults.check(
        "a byte of data",
        &send(&|mut body| {
            body[300] ^= 1;
            body
        }),
        403,
        "SignatureDoesNotMatch",
    );
    faults.check(
        "a byte of the last data",
        &send(&|mut body| {
            let end = body.len() - 100;
            body[end] ^= 1;
            body
        }),
        403,
        "SignatureDoesNotMatch",
    );
    let signature = |mut body: Vec<u8>| {
        let at = at(&body, b"chunk-signature=", 0) + 16;
        body[at] = if body[at] == b'0' { b'1' } else { b'0' };
        body
    };
    faults.check("a signature", &send(&signature), 403, "SignatureDoesNotMatch");
    let swapped = |body: Vec<u8>| {
        let second = at(&body, b"11170;", 10);
        let third = at(&body, b"0;chunk-signature=", second + 70_000);
        [&body[second..third], &body[..second], &body[third..]].concat()
    };
    faults.check("chunks in another order", &send(&swapped), 403, "SignatureDoesNotMatch");
    let dropped = |body: Vec<u8>| {
        let second = at(&body, b"11170;", 10);
        let third = at(&body, b"0;chunk-signature=", second + 70_000);
        [&body[..second], &body[third..]].concat()
    };
    faults.check("a chunk less", &send(&dropped), 403, "SignatureDoesNotMatch");
    let unsigned = |body: Vec<u8>| {
        let end = at(&body, b"\r\n", 0);
        [b"11170", &body[end..]].concat()
    };
    faults.check("a chunk without a signature", &send(&unsigned), 400, "InvalidRequest");
    let endless = |body: Vec<u8>| {
        let third = body.len() - 86;
        body[..third].to_vec()
    };
    faults.check("no last chunk", &send(&endless), 400, "IncompleteBody");
    faults.holds("something was written", store.call(Call::new("HEAD", "/data/chunks")).status == 404);
    faults.check("as it was signed", &send(&|body| body), 200, "");
    faults.holds("the body", store.call(Call::new("GET", "/data/chunks")).body == [one.clone(), two.clone()].concat());
}

#[test]
fn presigned_urls_are_good_for_their_purpose_and_time() {
    let (_stack, store) = start();
    let mut faults = Faults::default();
    store.call(Call::new("PUT", "/data/key").body("body"));
    let get = |expires: &str, ahead: i64| store.presign(Call::new("GET", "/data/key").ahead(ahead), expires);
    faults.check("good", &store.send(&get("60", 0)), 200, "");
    faults.check("seven days", &store.send(&get("604800", 0)), 200, "");
    faults.check("signed five days ago for seven", &store.send(&get("604800", -5 * 86_400)), 200, "");
    faults.check("expired", &store.send(&get("60", -61)), 403, "AccessDenied");
    faults.check("expired days ago", &store.send(&get("604800", -604_900)), 403, "AccessDenied");
    faults.check("not good yet", &store.send(&get("60", 20 * 60)), 403, "AccessDenied");
    for expires in ["604801", "99999999999999999999", "-1", "soon", ""] {
        let answer = store.send(&get(expires, 0));
        faults.check(&format!("expires {expires:?}"), &answer, 400, "AuthorizationQueryParametersError");
    }
    let good = get("60", 0);
    let changed = |from: &str, to: &str| Call { query: good.query.replace(from, to), ..good.clone() };
    faults.check(
        "a longer life",
        &store.send(&changed("X-Amz-Expires=60", "X-Amz-Expires=6000")),
        403,
        "SignatureDoesNotMatch",
    );
    let more = Call { query: format!("{}&versionId=null", good.query), ..good.clone() };
    faults.check("a parameter more", &store.send(&more), 403, "SignatureDoesNotMatch");
    faults.check(
        "another key",
        &store.send(&Call { path: "/data/other".to_owned(), ..good.clone() }),
        403,
        "SignatureDoesNotMatch",
    );
    for method in ["PUT", "DELETE", "POST"] {
        faults.check(
            method,
            &store.send(&Call { method: method.to_owned(), ..good.clone() }),
            403,
            "SignatureDoesNotMatch",
        );
    }
    for name in ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"] {
        let answer = store.send(&changed(name, "X-Other"));
        faults.check(&format!("without {name}"), &answer, 400, "AuthorizationQueryParametersError");
    }
    faults.check(
        "another service",
        &store.send(&changed("%2Fs3%2F", "%2Fec2%2F")),
        400,
        "AuthorizationQueryParametersError",
    );
    // Who may put an object may not make it a copy of another, or say anything else that the signer did not.
    store.call(Call::new("PUT", "/data/secret").body("secret"));
    for (name, value) in [("x-amz-copy-source", "/data/secret"), ("x-amz-meta-added", "later")] {
        let put = store.presign(Call::new("PUT", "/data/put"), "60").header(name, value);
        faults.check(&format!("{name} that is not signed"), &store.send(&put), 403, "AccessDenied");
    }
    faults.holds("something was written", store.call(Call::new("HEAD", "/data/put")).status == 404);
    let unknown = changed(&store.access_key, "AKIAUNKNOWN");
    faults.check("an unknown key", &store.send(&unknown), 403, "InvalidAccessKeyId");
}

/// 2,000 clients that begin and never end: heads, bodies without a right to send any, answers that nobody takes.
#[test]
fn slow_clients_cost_little_and_keep_nobody_waiting() {
    let (stack, store) = start();
    let mut faults = Faults::default();
    store.call(Call::new("PUT", "/data/large").body(vec![9; 16 << 20]));
    let refused =
        Call::new("PUT", "/data/refused").header("host", &store.host).header("content-length", "1000000").head();
    let list = Call::new("POST", "/data?delete").header("host", &store.host).header("content-length", "1000000").head();
    let mut slow = Slow::new(&stack, &store);
    for number in 0..2000 {
        let bytes = match number % 4 {
            0 => b"GET /data HTTP/1.1\r\nhost: x\r\nx-slow: ".to_vec(),
            1 => [refused.as_bytes(), b"only this"].concat(),
            2 => [list.as_bytes(), b"<Delete>"].concat(),
            _ => store.sign(Call::new("GET", "/data/large")).call.bytes(),
        };
        slow.joins(&bytes).expect("it sends");
    }
    for number in 0..10 {
        slow.meanwhile(|| {
            let key = format!("/data/served/{number}");
            faults.check("a client that waits for them", &store.call(Call::new("PUT", &key).body("x")), 200, "");
            faults.check("a client that waits for them", &store.call(Call::new("GET", &key)), 200, "");
        });
    }
    slow.end(&mut faults, Duration::from_secs(5), 512);
}

/// Clients with keys that send their bodies a byte at a time do not shut out others.
#[test]
fn slow_writers_do_not_shut_out_others() {
    let (stack, store) = start();
    let mut faults = Faults::default();
    let mut slow = Slow::new(&stack, &store);
    for number in 0..300 {
        let call = Call::new("PUT", &format!("/data/slow/{number}"))
            .header("content-length", "9000000")
            .payload("UNSIGNED-PAYLOAD");
        slow.joins(&[store.sign(call).call.bytes(), vec![0; 1000]].concat()).expect("it sends");
    }
    slow.meanwhile(|| {
        faults.check("another client", &store.call(Call::new("PUT", "/data/served").body("x")), 200, "");
    });
    slow.end(&mut faults, Duration::from_secs(5), 512);
    let listed = text(&store.call(Call::new("GET", "/data?list-type=2")).body);
    faults.holds("something half-written is listed", !listed.contains("slow/"));
}

/// Nor do those that ask for much and take none of it.
#[test]
fn slow_readers_do_not_shut_out_others() {
    let (stack, store) = start();
    let mut faults = Faults::default();
    let body = vec![9; 16 << 20];
    store.call(Call::new("PUT", "/data/large").body(body.clone()));
    let mut slow = Slow::new(&stack, &store);
    for _ in 0..700 {
        slow.joins(&store.sign(Call::new("GET", "/data/large")).call.bytes()).expect("it sends");
    }
    slow.meanwhile(|| {
        let served = store.call(Call::new("GET", "/data/large"));
        faults.check("another client", &served, 200, "");
        faults.holds("another client got other bytes", served.status != 200 || served.body == body);
    });
    slow.end(&mut faults, Duration::from_secs(10), 768);
}

/// Ten thousand clients with keys, each with much under way: half of them sent some of a body, half take no answer. What
/// they hold has a bound; beyond it those are dropped that get on least, and others are served meanwhile.
#[test]
fn ten_thousand_slow_clients_hold_what_they_may_and_no_more() {
    let (stack, store) = start();
    let mut faults = Faults::default();
    let body = vec![9; 16 << 20];
    store.call(Call::new("PUT", "/data/large").body(body.clone()));
    let reads = store.sign(Call::new("GET", "/data/large")).call.bytes();
    let writes = Call::new("PUT", "/data/slow").header("content-length", "9000000").payload("UNSIGNED-PAYLOAD");
    let writes = [store.sign(writes).call.bytes(), vec![0; 100_000]].concat();
    let mut slow = Slow::new(&stack, &store);
    for number in 0..10_000 {
        // One that is dropped at once has done its part.
        let _ = slow.joins(if number % 2 == 0 { &reads } else { &writes });
        if number % 1000 == 999 {
            slow.meanwhile(|| {
                faults.check("a writer among them", &store.call(Call::new("PUT", "/data/served").body("x")), 200, "");
                let served = store.call(Call::new("GET", "/data/large"));
                faults.check("a reader among them", &served, 200, "");
                faults.holds("a reader among them got other bytes", served.body == body);
            });
        }
    }
    slow.end(&mut faults, Duration::from_secs(10), 1536);
    let listed = text(&store.call(Call::new("GET", "/data?list-type=2")).body);
    faults.holds("something half-written is listed", !listed.contains("slow"));
}

/// Clients that begin and do not end, and what others notice of them.
struct Slow<'a> {
    stack: &'a Stack,
    store: &'a Store,
    clients: Vec<TcpStream>,
    /// Memory of `serve` before them, in KiB.
    before: u64,
    /// By how much it grew at most.
    grown: u64,
    /// For how long others waited at most.
    waited: Duration,
}

impl Slow<'_> {
    fn new<'a>(stack: &'a Stack, store: &'a Store) -> Slow<'a> {
        raise_file_limit();
        Slow { stack, store, clients: Vec::new(), before: resident(stack), grown: 0, waited: Duration::ZERO }
    }

    /// One more, which sends these bytes and keeps its connection.
    fn joins(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut client = self.store.connect();
        let sent = client.write_all(bytes);
        self.clients.push(client);
        sent
    }

    /// What others do among them.
    fn meanwhile(&mut self, others: impl FnOnce()) {
        let started = Instant::now();
        others();
        self.waited = self.waited.max(started.elapsed());
        self.grown = self.grown.max(resident(self.stack).saturating_sub(self.before));
    }

    /// Others waited less than `patience`, and `serve` grew by less than so many MiB. Then they go, and with their
    /// connections what was under way on them.
    fn end(self, faults: &mut Faults, patience: Duration, most: u64) {
        faults.holds(&format!("another client waited {:?}", self.waited), self.waited < patience);
        faults.holds(&format!("serve grew by {} MiB", self.grown >> 10), self.grown < most << 10);
        drop(self.clients);
        quiet(self.store);
    }
}

/// Waits until the service has ended each connection of the test.
fn quiet(store: &Store) {
    wait_for("the service to end its connections", Duration::from_secs(60), || store.connections() == 0);
}

/// Begins an upload in parts; its id.
fn begin(store: &Store, path: &str) -> String {
    let begun = store.call(Call::new("POST", &format!("{path}?uploads")));
    let id = begun.between("<UploadId>", "</UploadId>");
    assert!(!id.is_empty(), "{begun:?}");
    id
}

/// The entity tag that an answer gave, as XML has it.
fn tag(answer: &Answer) -> String {
    let line = answer.head.lines().find(|line| line.to_ascii_lowercase().starts_with("etag:"));
    line.unwrap_or_else(|| panic!("{answer:?}"))[5..].trim().replace('"', "&quot;")
}

fn send_and_cut(store: &Store, bytes: &[u8], in_order: bool) {
    let mut stream = store.connect();
    stream.write_all(bytes).expect("it sends");
    if !in_order {
        // A reset drops what has not been sent yet, and all of it should have come.
        std::thread::sleep(Duration::from_millis(20));
    }
    cut(stream, in_order);
}

/// Resident memory of `serve`, in KiB.
fn resident(stack: &Stack) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", stack.ready("serve_pid"))).expect("serve runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// As many files as this process may have: each client is one.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).expect("the limit is raised");
}
