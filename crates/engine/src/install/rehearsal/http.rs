//! As much of an HTTP/1.1 server as a rehearsal needs: a thread a connection, bodies of a known length.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::Host;
use crate::pods::{self, Answer};

/// One request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) upgrade: bool,
    pub(super) body: Vec<u8>,
}

/// Serves until `stop`; connections end with it.
pub(super) fn serve<F>(listener: &TcpListener, stop: &AtomicBool, answer: F)
where
    F: Fn(Request, &mut TcpStream) -> std::io::Result<()> + Sync,
{
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    std::thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let answer = &answer;
                    scope.spawn(move || connection(stream, stop, answer));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    });
}

fn connection<F>(mut stream: TcpStream, stop: &AtomicBool, answer: &F)
where
    F: Fn(Request, &mut TcpStream) -> std::io::Result<()>,
{
    let timeout = Some(Duration::from_millis(100));
    let Ok(reading) =
        stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(timeout)).and_then(|()| stream.try_clone())
    else {
        return;
    };
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(Patient { stream: reading, stop });
    while let Ok(Some(request)) = read(&mut reader, &mut stream) {
        if answer(request, &mut stream).is_err() {
            return;
        }
    }
}

/// Reads on after a timeout, until the rehearsal is over.
struct Patient<'a> {
    stream: TcpStream,
    stop: &'a AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(cause) if matches!(cause.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if self.stop.load(Ordering::Relaxed) {
                        return Ok(0);
                    }
                }
                other => return other,
            }
        }
    }
}

fn read(reader: &mut impl BufRead, writer: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request { method, target, upgrade: false, body: Vec::new() };
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "upgrade" => request.upgrade = true,
            "expect" => writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
            _ => {}
        }
    }
    if !chunked {
        reader.take(length).read_to_end(&mut request.body)?;
        return Ok(Some(request));
    }
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
        reader.take(size).read_to_end(&mut request.body)?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(Some(request));
        }
    }
}

/// A whole answer; `headers` each end in CRLF.
pub(super) fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}

impl Host {
    /// Answers a request to the pods API.
    pub(super) fn answer(&self, request: &Request, stream: &mut TcpStream) -> std::io::Result<()> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let asked =
            pods::Request { method: &request.method, path, query, upgrade: request.upgrade, body: &request.body };
        let answer = super::lock(&self.pods).handle(&asked);
        let status = match &answer {
            Answer::Reply(response) => response.status,
            Answer::Watch(_) => 200,
        };
        super::lock(&self.requests).push(format!("{} {} {status}", request.method, request.target));
        let watch = match answer {
            Answer::Reply(response) => {
                return reply(stream, response.status, "Content-Type: application/json\r\n", &response.body);
            }
            Answer::Watch(watch) => watch,
        };
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let mut cursor = watch.cursor;
        let mut heard = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let (lines, next) = super::lock(&self.pods).events_since(&watch, cursor);
            cursor = next;
            for line in lines {
                stream.write_all(&[format!("{:x}\r\n", line.len()).as_bytes(), &line, b"\r\n"].concat())?;
            }
            if heard.elapsed() > Duration::from_secs(1) {
                heard = Instant::now();
                stream.write_all(&[b"1\r\n", pods::HEARTBEAT, b"\r\n"].concat())?;
            }
            std::thread::sleep(super::TICK);
        }
        stream.write_all(b"0\r\n\r\n")
    }
}
