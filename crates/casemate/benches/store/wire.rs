//! S3 over HTTP/1.1 with as little work of our own as can be, since the generator shares the machine's cores with the
//! store: one blocking connection a client, requests that are signed before the clock runs, answers that are checked
//! as they come and never held.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use aws_lc_rs::{digest, hmac};

/// Signs requests for one store: Signature Version 4 in the `Authorization` header, without the payload.
pub struct Signer {
    access_key: String,
    host: String,
    scope: String,
    time: String,
    key: hmac::Key,
}

impl Signer {
    /// For a store at `address`. What it signs is good for 15 minutes, as the clock of the signature is that of now.
    pub fn new(address: SocketAddr, region: &str, access_key: &str, secret_key: &str) -> Signer {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let key = [date, region, "s3", "aws4_request"]
            .iter()
            .fold(format!("AWS4{secret_key}").into_bytes(), |key, part| mac(&key, part.as_bytes()));
        Signer {
            access_key: access_key.to_owned(),
            host: address.to_string(),
            scope: format!("{date}/{region}/s3/aws4_request"),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            time,
        }
    }

    /// The head of a request. `path` and `query` are encoded already, and the parameters are in the order of their
    /// names; `headers` are whole lines, not signed.
    pub fn head(&self, method: &str, path: &str, query: &str, headers: &str) -> Vec<u8> {
        let Signer { access_key, host, scope, time, key } = self;
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{time}\n\n{SIGNED}\n{PAYLOAD}"
        );
        let canonical = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let signature =
            hex::encode(hmac::sign(key, format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}").as_bytes()));
        let mark = if query.is_empty() { "" } else { "?" };
        format!(
            "{method} {path}{mark}{query} HTTP/1.1\r\nHost: {host}\r\nX-Amz-Date: {time}\r\n\
             X-Amz-Content-Sha256: {PAYLOAD}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={access_key}/{scope}, \
             SignedHeaders={SIGNED}, Signature={signature}\r\n{headers}\r\n"
        )
        .into_bytes()
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// A connection that is kept alive; it is made again when the store has closed it after an answer.
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Box<[u8]>,
    /// What of the buffer was received and not yet used.
    unused: std::ops::Range<usize>,
}

impl Connection {
    /// To a store; connects with the first request.
    pub fn new(address: SocketAddr) -> Connection {
        Connection { address, stream: None, buffer: vec![0; BUFFER].into_boxed_slice(), unused: 0..0 }
    }

    /// Sends a request and gives the bytes of the answer's body, piece by piece, to `take`. Returns how many there
    /// were. An answer with another status than `status` is an error with the beginning of its body.
    pub fn call(
        &mut self,
        head: &[u8],
        body: &[&[u8]],
        status: u16,
        mut take: impl FnMut(&[u8]),
    ) -> Result<u64, String> {
        let (method, _) = split(head, b" ");
        let sent = self.send(head, body).map_err(|cause| format!("the request was not sent: {cause}"));
        let answer = match sent {
            Ok(()) => self.answer(method == b"HEAD", status, &mut take),
            // A store that refuses a body answers before it has read it, and closes.
            Err(cause) => self.answer(false, status, &mut take).and(Err(cause)),
        };
        if answer.is_err() {
            self.stream = None;
        }
        let (_, target) = split(head, b" ");
        answer.map_err(|cause| {
            let target = String::from_utf8_lossy(split(target, b" ").0).into_owned();
            format!("{} {target}: {cause}", String::from_utf8_lossy(method))
        })
    }

    fn send(&mut self, head: &[u8], body: &[&[u8]]) -> io::Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                self.unused = 0..0;
                none.insert(stream)
            }
        };
        let mut slices: Vec<IoSlice<'_>> =
            std::iter::once(head).chain(body.iter().copied()).map(IoSlice::new).collect();
        let mut slices = slices.as_mut_slice();
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match stream.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    fn answer(&mut self, bodiless: bool, status: u16, take: &mut dyn FnMut(&[u8])) -> Result<u64, String> {
        let head = self.head().map_err(|cause| format!("no answer: {cause}"))?;
        let mut refusal = Vec::new();
        let mut collect = |piece: &[u8]| {
            let room = MOST_SHOWN.saturating_sub(refusal.len());
            refusal.extend_from_slice(&piece[..piece.len().min(room)]);
        };
        let expected = head.status == status;
        let take: &mut dyn FnMut(&[u8]) = if expected { take } else { &mut collect };
        let length = match (bodiless, head.length) {
            (true, _) => Ok(0),
            (_, Length::Known(length)) => self.body(length, take).map(|()| length),
            (_, Length::Chunked) => self.chunks(take),
        };
        if head.closes {
            self.stream = None;
        }
        let length = length.map_err(|cause| format!("the body of the answer: {cause}"))?;
        match expected {
            true => Ok(length),
            false => Err(format!("status {}: {}", head.status, String::from_utf8_lossy(&refusal))),
        }
    }

    fn head(&mut self) -> io::Result<Head> {
        loop {
            let received = &self.buffer[self.unused.clone()];
            if let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
                let head = Head::parse(&received[..end]).ok_or_else(|| malformed("the head of the answer"))?;
                self.unused.start += end + 4;
                return Ok(head);
            }
            self.receive()?;
        }
    }

    /// A body of known length.
    fn body(&mut self, length: u64, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.unused.is_empty() {
                self.receive()?;
            }
            let many = self.unused.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&self.buffer[self.unused.start..self.unused.start + many]);
            self.unused.start += many;
            left -= many as u64;
        }
        Ok(())
    }

    /// A body in chunks (RFC 9112, section 7.1).
    fn chunks(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
        let mut whole = 0;
        loop {
            let line = self.line()?;
            let size = line.split(|byte| *byte == b';').next().and_then(|size| std::str::from_utf8(size).ok());
            let size = size
                .and_then(|size| u64::from_str_radix(size.trim(), 16).ok())
                .ok_or_else(|| malformed("the size of a chunk"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(whole);
            }
            self.body(size, take)?;
            whole += size;
            if !self.line()?.is_empty() {
                return Err(malformed("the end of a chunk"));
            }
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let received = &self.buffer[self.unused.clone()];
            if let Some(end) = memchr::memmem::find(received, b"\r\n") {
                let line = received[..end].to_vec();
                self.unused.start += end + 2;
                return Ok(line);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        if self.unused.is_empty() {
            self.unused = 0..0;
        } else if self.unused.end == self.buffer.len() {
            if self.unused.start == 0 {
                return Err(malformed("a line that does not end"));
            }
            self.buffer.copy_within(self.unused.clone(), 0);
            self.unused = 0..self.unused.len();
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match stream.read(&mut self.buffer[self.unused.end..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(many) => {
                self.unused.end += many;
                Ok(())
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(cause) => Err(cause),
        }
    }
}

/// What of the head of an answer matters.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    length: Length,
    closes: bool,
}

#[derive(Debug, PartialEq)]
enum Length {
    Known(u64),
    Chunked,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Head> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let (version, rest) = lines.next()?.split_once(' ')?;
        let status: u16 = rest.get(..3)?.parse().ok()?;
        let (mut length, mut closes) = (None, version == "HTTP/1.0");
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(Length::Known(value.parse().ok()?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                length = Some(Length::Chunked);
            } else if name.eq_ignore_ascii_case("connection") {
                closes |= value.eq_ignore_ascii_case("close");
            }
        }
        // Without a length only an answer that has no body can be read on a connection that is kept.
        let length = length.or_else(|| (status == 204).then_some(Length::Known(0)))?;
        Some(Head { status, length, closes })
    }
}

/// Before and after the first `mark`.
fn split<'a>(bytes: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    memchr::memmem::find(bytes, mark).map_or((bytes, &[]), |at| (&bytes[..at], &bytes[at + mark.len()..]))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not understood: {what}"))
}

const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";
/// How long one read or write may wait.
const PATIENCE: Duration = Duration::from_secs(120);
const BUFFER: usize = 256 * 1024;
/// The most of a refusal that is shown.
const MOST_SHOWN: usize = 400;
