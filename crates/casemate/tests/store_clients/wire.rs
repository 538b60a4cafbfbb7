//! S3 by hand: requests as bytes on a socket, signed as Signature Version 4 says
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>), so that any part of one can
//! be made wrong.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use aws_lc_rs::{digest, hmac};

use crate::support::{Stack, text};

/// Whom to call, and with which keys.
#[derive(Clone)]
pub struct Store {
    /// Host and port.
    pub host: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
}

/// A request that is not signed yet. All is sent as it stands here.
#[derive(Clone)]
pub struct Call {
    pub method: String,
    /// Encoded, without the query.
    pub path: String,
    /// Encoded, without the question mark.
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What `x-amz-content-sha256` says; the hash of the body, if nothing.
    pub payload: Option<String>,
    /// How much the client's clock is ahead, in seconds.
    pub ahead: i64,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// How a request was signed; what chunks of its body are signed with.
pub struct Signed {
    pub call: Call,
    key: Vec<u8>,
    date: String,
    scope: String,
    pub signature: String,
}

impl Store {
    pub fn of(stack: &Stack) -> Store {
        Store {
            host: stack.text("s3").trim_start_matches("http://").to_owned(),
            region: stack.profile("region"),
            access_key: stack.s3("access_key"),
            secret_key: stack.s3("secret_key"),
        }
    }

    /// Signs by header, all headers that there are.
    pub fn sign(&self, call: Call) -> Signed {
        let mut call = call;
        let date = date(call.ahead);
        let payload = call.payload.clone().unwrap_or_else(|| sha256(&call.body));
        call.headers.insert(0, ("host".to_owned(), self.host.clone()));
        call.headers.push(("x-amz-date".to_owned(), date.clone()));
        call.headers.push(("x-amz-content-sha256".to_owned(), payload.clone()));
        let (scope, key) = self.key(&date);
        let mut names: Vec<String> = call.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        let signature = signature(&key, &date, &scope, &canonical(&call, &names, &payload));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.access_key,
            names.join(";")
        );
        call.headers.push(("authorization".to_owned(), value));
        Signed { call, key, date, scope, signature }
    }

    /// Signs by the query, good for `expires` as it stands.
    pub fn presign(&self, call: Call, expires: &str) -> Call {
        let mut call = call;
        let date = date(call.ahead);
        let (scope, key) = self.key(&date);
        call.headers.insert(0, ("host".to_owned(), self.host.clone()));
        let credential = format!("{}/{scope}", self.access_key).replace('/', "%2F");
        let and = if call.query.is_empty() { "" } else { "&" };
        call.query.push_str(&format!(
            "{and}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}\
             &X-Amz-Expires={expires}&X-Amz-SignedHeaders=host"
        ));
        let signature = signature(&key, &date, &scope, &canonical(&call, &["host".to_owned()], "UNSIGNED-PAYLOAD"));
        call.query.push_str(&format!("&X-Amz-Signature={signature}"));
        call
    }

    /// Signs and sends.
    pub fn call(&self, call: Call) -> Answer {
        self.send(&self.sign(call).call)
    }

    /// Sends as it stands, and reads the answer to its end.
    pub fn send(&self, call: &Call) -> Answer {
        self.send_bytes(&call.bytes())
    }

    /// Sends bytes, and reads the answer to its end.
    pub fn send_bytes(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A service that refuses what it has not read to its end closes, which shows as an error here; its answer is
        // what counts.
        let _ = stream.write_all(bytes);
        Answer::read(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).expect("the service listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// How many connections the service has that are not closed on its side.
    pub fn connections(&self) -> usize {
        let port: u16 = self.host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        let table = std::fs::read_to_string("/proc/net/tcp").expect("connections");
        let local = format!("0100007F:{port:04X}");
        let is_open = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            // ESTABLISHED and CLOSE_WAIT of `include/net/tcp_states.h`.
            fields.next() == Some(&local) && matches!(fields.nth(1), Some("01" | "08"))
        };
        table.lines().filter(is_open).count()
    }

    /// The scope, and the key for it.
    fn key(&self, date: &str) -> (String, Vec<u8>) {
        let day = &date[..8];
        let start = format!("AWS4{}", self.secret_key).into_bytes();
        let key = [day, &self.region, "s3", "aws4_request"].iter().fold(start, |key, part| mac(&key, part.as_bytes()));
        (format!("{day}/{}/s3/aws4_request", self.region), key)
    }
}

impl Call {
    pub fn new(method: &str, path: &str) -> Call {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Call {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            payload: None,
            ahead: 0,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        self
    }

    pub fn payload(mut self, payload: &str) -> Call {
        self.payload = Some(payload.to_owned());
        self
    }

    pub fn ahead(mut self, seconds: i64) -> Call {
        self.ahead = seconds;
        self
    }

    /// Another value of a header that is there already; or none at all.
    pub fn with(mut self, name: &str, value: Option<&str>) -> Call {
        self.headers.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// As it goes over the line. The length is that of the body, unless a header says another.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// All but the body.
    pub fn head(&self) -> String {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let mut head = format!("{} {}{query} HTTP/1.1\r\nconnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !has("content-length") && !has("transfer-encoding") && (!self.body.is_empty() || self.method != "GET") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head + "\r\n"
    }
}

impl Signed {
    /// A body in chunks, each signed from the one before.
    pub fn chunks(&self, chunks: &[&[u8]]) -> Vec<u8> {
        let mut previous = self.signature.clone();
        let mut body = Vec::new();
        for chunk in chunks {
            let lines = format!("{previous}\n{}\n{}", sha256(b""), sha256(chunk));
            let to_sign = format!("AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{lines}", self.date, self.scope);
            previous = hex::encode(mac(&self.key, to_sign.as_bytes()));
            body.extend_from_slice(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body
    }
}

impl Answer {
    /// Reads to the end of the stream.
    pub fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        // The end of a refused request may be a reset; what came before it is the answer.
        let _ = stream.read_to_end(&mut bytes);
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = text(&bytes[..split]);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = bytes.get(split + 4..).unwrap_or_default().to_vec();
        Answer { status, head, body }
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        self.between("<Code>", "</Code>")
    }

    /// What stands between two words of the body.
    pub fn between(&self, one: &str, other: &str) -> String {
        let body = text(&self.body);
        let found = body.split_once(one).and_then(|(_, rest)| rest.split_once(other));
        found.map(|(found, _)| found.to_owned()).unwrap_or_default()
    }
}

/// Cuts a connection: in order, or as a machine does that goes away.
pub fn cut(stream: TcpStream, in_order: bool) {
    if in_order {
        let _ = stream.shutdown(Shutdown::Both);
    } else {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).expect("an option");
    }
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(data: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, data))
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn signature(key: &[u8], date: &str, scope: &str, canonical: &str) -> String {
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
    hex::encode(mac(key, to_sign.as_bytes()))
}

fn canonical(call: &Call, names: &[String], payload: &str) -> String {
    let mut query: Vec<String> = call
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    query.sort();
    let headers: String = names
        .iter()
        .map(|name| {
            let mut values = call.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            let value = values.next().map_or("", |(_, value)| value);
            format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    let path = encoded(&call.path);
    format!("{}\n{path}\n{}\n{headers}\n{}\n{payload}", call.method, query.join("&"), names.join(";"))
}

/// A path in the one form that is signed: slashes as they are, all else that is reserved as a percent sign and digits.
fn encoded(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = more.get(..2).filter(|_| *first == b'%').and_then(|digits| hex::decode(digits).ok());
        decoded.push(digits.as_ref().map_or(*first, |byte| byte[0]));
        rest = if digits.is_some() { &more[2..] } else { more };
    }
    let mut path = String::new();
    for byte in decoded {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// Now, as a signature has it.
fn date(ahead: i64) -> String {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

const PATIENCE: Duration = Duration::from_secs(70);
