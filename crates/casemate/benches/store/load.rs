//! The load: what each figure does to a store, and what is measured of it.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    stores::{BUCKET, Running, cpu_time},
    wire::{Connection, Signer},
};

/// What one figure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Writes new objects.
    Put,
    /// Reads whole objects, at random out of those that were written before.
    Get,
    /// Reads ranges of [`RANGE`] bytes at random places of such objects.
    Range,
    /// Lists the whole bucket, page by page.
    List,
}

impl Work {
    /// Whether it reads objects.
    pub fn reads(self) -> bool {
        matches!(self, Work::Get | Work::Range)
    }
}

/// One figure: a load with so many clients.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name, such as `get-4k-32`.
    pub name: &'static str,
    /// What it does.
    pub work: Work,
    /// Bytes of an object.
    pub size: usize,
    /// How many connections are busy at once.
    pub clients: usize,
    /// By how much ours must be faster than the best of theirs.
    pub bound: f64,
}

/// How long and how much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Time of one figure on one store in one round.
    pub window: Duration,
    /// Keys of the bucket that is listed.
    pub keys: u64,
}

/// What was measured of one figure on one store in one round.
#[derive(Debug, Clone, Default)]
pub struct Measure {
    /// What was done: requests, and for lists the keys that they told.
    pub operations: u64,
    /// Bytes of objects that went to or came from the store.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// How long each request took, in milliseconds.
    pub latencies: Vec<f64>,
    /// Time that the store's processes had a core.
    pub store_cpu: Duration,
    /// Time that the generator had a core.
    pub own_cpu: Duration,
}

impl Measure {
    /// Operations a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// Bytes a second, in units of 10^6.
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    pub fn megabytes(&self) -> f64 {
        self.bytes as f64 / self.seconds / 1e6
    }
}

/// The bytes of objects: noise, so that nothing can make them smaller, with the object's number in front, so that one
/// is not taken for another.
pub struct Content(Vec<u8>);

impl Content {
    /// Noise for objects of up to `most` bytes.
    pub fn new(most: usize) -> Content {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut noise = Vec::with_capacity(most + 8);
        while noise.len() < most {
            noise.extend_from_slice(&random.next().to_le_bytes());
        }
        Content(noise)
    }

    fn rest(&self, size: usize) -> &[u8] {
        &self.0[STAMP..size]
    }

    /// Whether `piece` is what object `number` has from `at` on.
    fn has(&self, number: u64, at: usize, piece: &[u8]) -> bool {
        let stamp = number.to_le_bytes();
        let stamped = STAMP.saturating_sub(at).min(piece.len());
        let (front, rest) = piece.split_at(stamped);
        let from = at + stamped;
        front == &stamp[at.min(STAMP)..at.min(STAMP) + stamped] && self.0.get(from..from + rest.len()) == Some(rest)
    }
}

/// One store under load: objects that figures read are written once, before the first that needs them.
pub struct Session<'a> {
    running: &'a Running,
    content: &'a Content,
    stop: &'a AtomicBool,
    loaded: u64,
    written: u64,
}

impl<'a> Session<'a> {
    /// A session with a store that has nothing yet. Sets in `stop` end it with an error.
    pub fn new(running: &'a Running, content: &'a Content, stop: &'a AtomicBool) -> Session<'a> {
        Session { running, content, stop, loaded: 0, written: FIRST_WRITTEN }
    }

    /// Runs one figure.
    pub fn measure(&mut self, figure: &Figure, extent: &Extent) -> Result<Measure, String> {
        match figure.work {
            Work::Put => self.put(figure, extent.window),
            Work::Get | Work::Range => self.get(figure, extent.window),
            Work::List => self.list(extent),
        }
    }

    fn put(&mut self, figure: &Figure, window: Duration) -> Result<Measure, String> {
        let signer = self.running.signer();
        let first = self.written;
        let clients = figure.clients as u64;
        let ready = READY_A_SECOND * (window + WARM).as_secs_f64() / figure.size.max(4096) as f64 * 4096.0;
        let ready = ready as u64 / clients + 2;
        let sign = |number| put_head(&signer, number, figure.size);
        let heads: Vec<Vec<Vec<u8>>> =
            (0..clients).map(|client| (0..ready).map(|turn| sign(first + client + turn * clients)).collect()).collect();
        let measure = self.drive(figure, window, |client, turn, connection| {
            let number = first + client as u64 + turn * clients;
            let signed;
            let head = match usize::try_from(turn).ok().and_then(|turn| heads[client].get(turn)) {
                Some(head) => head,
                None => {
                    signed = sign(number);
                    &signed
                }
            };
            let body = [&number.to_le_bytes()[..], self.content.rest(figure.size)];
            connection.call(head, &body, 200, |_| ())?;
            Ok(figure.size as u64)
        })?;
        let turns = measure.0.iter().copied().max().unwrap_or(0);
        self.written += turns * clients;
        self.read_back(figure, first, &measure.0)?;
        Ok(measure.1)
    }

    /// Reads some of what was written, to be sure that it was.
    fn read_back(&self, figure: &Figure, first: u64, turns: &[u64]) -> Result<(), String> {
        let signer = self.running.signer();
        let mut connection = Connection::new(self.running.address);
        let most = (READ_BACK / figure.size).clamp(1, 64);
        for (client, turns) in turns.iter().enumerate().take(most) {
            let Some(turn) = turns.checked_sub(1) else { continue };
            let number = first + client as u64 + turn * figure.clients as u64;
            self.check(&mut connection, &get_head(&signer, number, ""), 200, number, 0..figure.size)?;
        }
        Ok(())
    }

    fn get(&mut self, figure: &Figure, window: Duration) -> Result<Measure, String> {
        let objects = ((SET / figure.size) as u64).clamp(8, 2048);
        self.load(objects, figure.size)?;
        let signer = self.running.signer();
        let mut random = Random(figure.size as u64 | 1);
        let whole = figure.work == Work::Get;
        let requests: Vec<(u64, usize, Vec<u8>)> = (0..REQUESTS)
            .map(|_| {
                let number = random.below(objects);
                let at = if whole { 0 } else { random.below((figure.size - RANGE) as u64) as usize };
                let range = if whole { String::new() } else { format!("Range: bytes={at}-{}\r\n", at + RANGE - 1) };
                (number, at, get_head(&signer, number, &range))
            })
            .collect();
        let (status, length) = if whole { (200, figure.size) } else { (206, RANGE) };
        let measure = self.drive(figure, window, |client, turn, connection| {
            // Each client goes its own way through the requests.
            let index = (turn.wrapping_mul(2 * client as u64 + 1) + client as u64 * 977) as usize % requests.len();
            let (number, at, head) = &requests[index];
            if turn % COMPARED == 0 {
                self.check(connection, head, status, *number, *at..*at + length)?;
                return Ok(length as u64);
            }
            let received = connection.call(head, &[], status, |_| ())?;
            match received == length as u64 {
                true => Ok(received),
                false => Err(format!("{received} bytes instead of {length}")),
            }
        })?;
        Ok(measure.1)
    }

    /// Reads a range of an object and compares each byte.
    fn check(
        &self,
        connection: &mut Connection,
        head: &[u8],
        status: u16,
        number: u64,
        range: std::ops::Range<usize>,
    ) -> Result<(), String> {
        let (mut at, mut right) = (range.start, true);
        connection.call(head, &[], status, |piece| {
            right &= self.content.has(number, at, piece);
            at += piece.len();
        })?;
        match right && at == range.end {
            true => Ok(()),
            false => Err(format!("object {number} has other bytes than were written")),
        }
    }

    fn list(&mut self, extent: &Extent) -> Result<Measure, String> {
        self.load(extent.keys, STAMP)?;
        let mut connection = Connection::new(self.running.address);
        let mut measure = Measure::default();
        let cpu = self.cpu();
        let started = Instant::now();
        for pass in 0.. {
            if pass >= LEAST_LISTS && started.elapsed() > extent.window {
                break;
            }
            let mut found = 0;
            let mut last = String::new();
            let mut token = None;
            loop {
                self.interrupted()?;
                let page = self.page(&mut connection, token.as_deref(), &mut measure)?;
                // The order of UTF-8, as S3 promises; so none comes twice.
                for key in &page.keys {
                    if *key <= last {
                        return Err(format!("the key {key} is listed after {last}"));
                    }
                    last.clone_from(key);
                }
                found += page.keys.iter().filter(|key| key.starts_with("o/")).count() as u64;
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
            if found != extent.keys {
                return Err(format!("{found} keys are listed of {}", extent.keys));
            }
            measure.operations += found;
        }
        measure.seconds = started.elapsed().as_secs_f64();
        let (store, own) = self.cpu();
        (measure.store_cpu, measure.own_cpu) = (store.saturating_sub(cpu.0), own.saturating_sub(cpu.1));
        Ok(measure)
    }

    fn page(&self, connection: &mut Connection, token: Option<&str>, measure: &mut Measure) -> Result<Page, String> {
        // A pass over many keys may take longer than a signature is good for; a page does not.
        let signer = self.running.signer();
        let query = match token {
            None => "list-type=2&max-keys=1000".to_owned(),
            Some(token) => format!("continuation-token={}&list-type=2&max-keys=1000", encoded(token)),
        };
        let mut body = Vec::new();
        let head = signer.head("GET", &format!("/{BUCKET}"), &query, "");
        let started = Instant::now();
        connection.call(&head, &[], 200, |piece| body.extend_from_slice(piece))?;
        measure.latencies.push(started.elapsed().as_secs_f64() * 1000.0);
        Page::parse(&body)
    }

    /// Writes objects 0 to `objects`, unless they are there. Not timed.
    fn load(&mut self, objects: u64, size: usize) -> Result<(), String> {
        if self.loaded >= objects {
            return Ok(());
        }
        let clients = LOADERS.min(objects);
        let failed = std::thread::scope(|scope| {
            let loaders: Vec<_> = (0..clients)
                .map(|client| {
                    let session = &*self;
                    scope.spawn(move || -> Result<(), String> {
                        let mut connection = Connection::new(session.running.address);
                        let mut signer = (Instant::now(), session.running.signer());
                        for number in (client..objects).step_by(clients as usize) {
                            session.interrupted()?;
                            if signer.0.elapsed() > Duration::from_secs(300) {
                                signer = (Instant::now(), session.running.signer());
                            }
                            let body = [&number.to_le_bytes()[..], session.content.rest(size)];
                            connection.call(&put_head(&signer.1, number, size), &body, 200, |_| ())?;
                        }
                        Ok(())
                    })
                })
                .collect();
            loaders.into_iter().find_map(|loader| joined(loader.join()).err())
        });
        self.loaded = objects;
        // What the kernel still has to write of it is not the figure's.
        nix::unistd::sync();
        failed.map_or(Ok(()), Err)
    }

    /// Has each client do `call` again and again for `window`; before that, for a moment, without counting. Returns
    /// how many calls each client made, and what was measured.
    fn drive(
        &self,
        figure: &Figure,
        window: Duration,
        call: impl Fn(usize, u64, &mut Connection) -> Result<u64, String> + Sync,
    ) -> Result<(Vec<u64>, Measure), String> {
        // A large object warms by itself, and a client is not through with one in a moment.
        let warm = if figure.size > LARGE && figure.work != Work::Range { Duration::ZERO } else { WARM };
        let barrier = Barrier::new(figure.clients + 1);
        let failed = AtomicBool::new(false);
        let (results, cpu, started) = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..figure.clients)
                .map(|client| {
                    let (call, barrier, failed) = (&call, &barrier, &failed);
                    scope.spawn(move || {
                        let done = self.client(client, warm, window, barrier, failed, call);
                        if done.is_err() {
                            failed.store(true, Ordering::Relaxed);
                        }
                        done
                    })
                })
                .collect();
            barrier.wait();
            let started = Instant::now() + warm;
            std::thread::sleep(warm);
            let before = self.cpu();
            let results: Vec<_> = clients.into_iter().map(|client| joined(client.join())).collect();
            let after = self.cpu();
            (results, (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)), started)
        });
        let mut measure = Measure { store_cpu: cpu.0, own_cpu: cpu.1, ..Measure::default() };
        let mut turns = Vec::new();
        let mut ended = started;
        for done in results {
            let done = done?;
            turns.push(done.turns);
            measure.operations += done.latencies.len() as u64;
            measure.bytes += done.bytes;
            measure.latencies.extend(done.latencies);
            ended = ended.max(done.ended);
        }
        measure.seconds = ended.duration_since(started).as_secs_f64();
        if measure.operations == 0 {
            return Err(format!("{}: nothing was done in {window:?}", figure.name));
        }
        Ok((turns, measure))
    }

    fn client(
        &self,
        client: usize,
        warm: Duration,
        window: Duration,
        barrier: &Barrier,
        failed: &AtomicBool,
        call: &(impl Fn(usize, u64, &mut Connection) -> Result<u64, String> + Sync),
    ) -> Result<Client, String> {
        let mut connection = Connection::new(self.running.address);
        barrier.wait();
        let start = Instant::now() + warm;
        let end = start + window;
        let mut done = Client { turns: 0, bytes: 0, latencies: Vec::new(), ended: start };
        loop {
            let began = Instant::now();
            // Each client does something, however long that takes.
            if began >= end && !done.latencies.is_empty() {
                return Ok(done);
            }
            if failed.load(Ordering::Relaxed) {
                return Ok(done);
            }
            self.interrupted()?;
            let bytes = call(client, done.turns, &mut connection)?;
            done.turns += 1;
            if began >= start {
                done.ended = Instant::now();
                done.bytes += bytes;
                done.latencies.push(done.ended.duration_since(began).as_secs_f64() * 1000.0);
            }
        }
    }

    fn cpu(&self) -> (Duration, Duration) {
        (self.running.cpu_time(), cpu_time(std::process::id()))
    }

    fn interrupted(&self) -> Result<(), String> {
        if self.stop.load(Ordering::Relaxed) { Err("interrupted".to_owned()) } else { Ok(()) }
    }
}

/// What one client did.
struct Client {
    turns: u64,
    bytes: u64,
    latencies: Vec<f64>,
    ended: Instant,
}

/// One page of a listing.
struct Page {
    keys: Vec<String>,
    next: Option<String>,
}

impl Page {
    fn parse(body: &[u8]) -> Result<Page, String> {
        let text = std::str::from_utf8(body).map_err(|cause| format!("a list is not UTF-8: {cause}"))?;
        let mut keys = Vec::with_capacity(1000);
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("<Key>") {
            let (key, after) = after.split_once("</Key>").ok_or("a key in a list does not end")?;
            keys.push(unescaped(key));
            rest = after;
        }
        let element = |name: &str| {
            let (_, after) = text.split_once(&format!("<{name}>"))?;
            Some(unescaped(after.split_once(&format!("</{name}>"))?.0))
        };
        let next = match element("IsTruncated").as_deref() {
            Some("true") => Some(element("NextContinuationToken").ok_or("a list goes on, and does not say where")?),
            Some("false") => None,
            other => return Err(format!("IsTruncated is {other:?}")),
        };
        Ok(Page { keys, next })
    }
}

/// A small generator of numbers (xorshift64*): the same ones each time, for all stores.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Where an object is: a hundred to a directory, as people lay out their data.
fn path(number: u64) -> String {
    format!("/{BUCKET}/o/{:06}/{:02}", number / 100, number % 100)
}

fn put_head(signer: &Signer, number: u64, size: usize) -> Vec<u8> {
    signer.head("PUT", &path(number), "", &format!("Content-Length: {size}\r\n"))
}

fn get_head(signer: &Signer, number: u64, headers: &str) -> Vec<u8> {
    signer.head("GET", &path(number), "", headers)
}

/// A value of a query (RFC 3986, unreserved characters).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Text of an XML element. The stores write the five named characters, and quotes as numbers.
fn unescaped(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let quotes = text.replace("&#34;", "\"").replace("&quot;", "\"").replace("&#39;", "'").replace("&apos;", "'");
    quotes.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn joined<T>(result: std::thread::Result<Result<T, String>>) -> Result<T, String> {
    result.unwrap_or_else(|_| Err("a client of the benchmark panicked".to_owned()))
}

/// Bytes of a range.
pub const RANGE: usize = 64 * 1024;
/// Bytes of an object's number.
const STAMP: usize = 8;
/// Numbers of objects that figures write begin here; those that are read come before.
const FIRST_WRITTEN: u64 = 1_000_000;
/// Objects that are read have so many bytes together, so that all stores read them from memory.
const SET: usize = 512 << 20;
/// Requests for reading that are signed beforehand.
const REQUESTS: usize = 4096;
/// Writes of 4 KiB a second for which requests are signed beforehand; later ones are signed as they go.
const READY_A_SECOND: f64 = 15_000.0;
/// Each client compares every byte of one answer in so many; of the others, the length.
const COMPARED: u64 = 16;
/// At most so many bytes of what a figure wrote are read back.
const READ_BACK: usize = 256 << 20;
/// Above this an object takes its time.
const LARGE: usize = 8 << 20;
const WARM: Duration = Duration::from_millis(300);
const LOADERS: u64 = 32;
const LEAST_LISTS: u32 = 3;
