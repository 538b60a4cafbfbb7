//! Bounds what is under way at once, so that one who calls too often waits and nobody else does: each way in has places
//! and memory of its own.
//!
//! A place is for work: a call holds one while the service computes, or uses the disk, and gives it back while it waits
//! for its client. So clients that are slow, however many, keep nobody from a place. What they keep is memory: pieces of
//! bodies that have come, pieces of answers that are not taken. That is counted, and where it becomes scarce, those are
//! dropped that have got on least. What else a connection costs is small, and bounded by the number of connections.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use model::SandboxId;
use s3s::{Body, S3Result, s3_error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, PollSemaphore};

use crate::{Via, access::BoxError};

/// The places of all ways in.
#[derive(Debug)]
pub struct Crowd {
    public: Arc<Places>,
    sandboxes: Mutex<HashMap<SandboxId, Weak<Places>>>,
}

/// The places and the memory of one way in.
#[derive(Debug)]
pub struct Places {
    calls: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    ledger: Mutex<Ledger>,
}

impl Crowd {
    /// With all places free.
    pub fn new() -> Crowd {
        Crowd { public: Arc::new(Places::new(PUBLIC)), sandboxes: Mutex::default() }
    }

    /// The places of a way in. Those of a sandbox last as long as somebody holds them.
    pub fn places(&self, via: Via) -> Arc<Places> {
        let Via::Sandbox(id) = via else { return Arc::clone(&self.public) };
        let mut sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = sandboxes.get(&id).and_then(Weak::upgrade) {
            return places;
        }
        sandboxes.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Places::new(SANDBOX));
        sandboxes.insert(id, Arc::downgrade(&places));
        places
    }
}

impl Places {
    fn new(room: Room) -> Places {
        Places {
            calls: Arc::new(Semaphore::new(room.calls)),
            reads: Arc::new(Semaphore::new(room.reads)),
            ledger: Mutex::new(Ledger::new(room.memory)),
        }
    }

    /// A place for a call; its body is not read before.
    pub async fn call(self: &Arc<Self>) -> S3Result<Arc<Turn>> {
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.calls).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Arc::new(Turn { places: Arc::clone(self), place: Mutex::new(Some(place)) })),
            Ok(Err(_)) | Err(_) => Err(s3_error!(SlowDown, "too many calls are under way")),
        }
    }

    /// The same body, which takes a place for each piece that it reads, and whose memory is counted until the pieces
    /// have been written to `line`.
    pub fn answer(self: &Arc<Self>, body: Body, line: &Line) -> Body {
        let held = match body.bytes() {
            Some(bytes) if bytes.len() < SMALL => return body,
            Some(bytes) => bytes.len() as u64,
            None if body.is_end_stream() => return body,
            None => body.size_hint().exact().unwrap_or(PIECE).min(PIECE),
        };
        Body::http_body_unsync(Placed {
            body,
            reads: PollSemaphore::new(Arc::clone(&self.reads)),
            place: None,
            piece: 0,
            seat: Some(self.seat(held, line.end())),
            line: line.clone(),
        })
    }

    /// Counts `held` bytes of memory. `end` is cancelled if they must be given back.
    pub fn seat(self: &Arc<Self>, held: u64, end: CancellationToken) -> Seat {
        let number = self.ledger().sit(held, end, Instant::now());
        Seat { places: Arc::clone(self), number }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place, which is given back while the call waits for its client.
#[derive(Debug)]
pub struct Turn {
    places: Arc<Places>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Turn {
    /// Gives the place back.
    pub fn leave(&self) {
        drop(self.place().take());
    }

    /// Takes a place again, once there is one. `queue` is where the call stands, empty at first.
    pub fn poll_enter(&self, queue: &mut Option<PollSemaphore>, context: &mut Context<'_>) -> Poll<()> {
        if self.place().is_some() {
            return Poll::Ready(());
        }
        let queue = queue.get_or_insert_with(|| PollSemaphore::new(Arc::clone(&self.places.calls)));
        // The semaphore is never closed.
        *self.place() = ready!(queue.poll_acquire(context));
        Poll::Ready(())
    }

    /// Where the call's memory is counted.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    fn place(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that is counted until this is dropped.
#[derive(Debug)]
pub struct Seat {
    places: Arc<Places>,
    number: u64,
}

impl Seat {
    /// Now it is `held` bytes; `further` says that the client has got on.
    pub fn update(&self, held: u64, further: bool) {
        self.places.ledger().update(self.number, held, further, Instant::now());
    }

    /// The client has got on.
    fn further(&self) {
        let mut ledger = self.places.ledger();
        if let Some(held) = ledger.seats.get(&self.number).map(|seat| seat.held) {
            ledger.update(self.number, held, true, Instant::now());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.ledger().leave(self.number);
    }
}

/// Who holds how much memory, and since when he has not got on.
#[derive(Debug)]
struct Ledger {
    most: u64,
    total: u64,
    next: u64,
    seats: HashMap<u64, Counted>,
    /// The same, of those that can be dropped, by when they last got on.
    order: BTreeSet<(Instant, u64)>,
}

#[derive(Debug)]
struct Counted {
    held: u64,
    since: Instant,
    end: CancellationToken,
}

impl Ledger {
    fn new(most: u64) -> Ledger {
        Ledger { most, total: 0, next: 0, seats: HashMap::new(), order: BTreeSet::new() }
    }

    fn sit(&mut self, held: u64, end: CancellationToken, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.seats.insert(number, Counted { held, since: now, end });
        self.order.insert((now, number));
        self.total += held;
        self.settle(now);
        number
    }

    fn update(&mut self, number: u64, held: u64, further: bool, now: Instant) {
        // What was dropped stays so.
        let Some(seat) = self.seats.get_mut(&number).filter(|seat| !seat.end.is_cancelled()) else { return };
        self.total = self.total - seat.held + held;
        seat.held = held;
        if further && self.order.remove(&(seat.since, number)) {
            seat.since = now;
            self.order.insert((now, number));
        }
        self.settle(now);
    }

    fn leave(&mut self, number: u64) {
        if let Some(seat) = self.seats.remove(&number) {
            self.total -= seat.held;
            self.order.remove(&(seat.since, number));
        }
    }

    /// Drops who has got on least, while there is too much. Those that do get on are dropped only where there would be
    /// twice as much as there may be. What is dropped counts as given back: its task does it at once.
    fn settle(&mut self, now: Instant) {
        while self.total > self.most {
            let Some((since, number)) = self.order.first().copied() else { return };
            if now.saturating_duration_since(since) < GRACE && self.total <= 2 * self.most {
                return;
            }
            self.order.remove(&(since, number));
            if let Some(seat) = self.seats.get_mut(&number) {
                self.total -= seat.held;
                seat.held = 0;
                seat.end.cancel();
            }
        }
    }
}

/// What the answers on a connection hold: a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<LineState>);

#[derive(Debug, Default)]
struct LineState {
    end: CancellationToken,
    /// Answers whose last piece is on its way: how many bytes are to be written until it is gone.
    tails: Mutex<VecDeque<(u64, Seat)>>,
    has_tails: AtomicBool,
}

impl Line {
    /// Cancelled when the connection is to be dropped.
    pub fn end(&self) -> CancellationToken {
        self.0.end.clone()
    }

    /// So many bytes were written.
    pub fn wrote(&self, bytes: usize) {
        if bytes == 0 || !self.0.has_tails.load(Ordering::Acquire) {
            return;
        }
        let mut bytes = bytes as u64;
        let mut gone = Vec::new();
        let mut tails = self.tails();
        while let Some((left, _)) = tails.front_mut() {
            if *left > bytes {
                *left -= bytes;
                break;
            }
            bytes -= *left;
            gone.extend(tails.pop_front());
        }
        self.0.has_tails.store(!tails.is_empty(), Ordering::Release);
    }

    fn keep(&self, bytes: u64, seat: Seat) {
        let mut tails = self.tails();
        tails.push_back((bytes, seat));
        self.0.has_tails.store(true, Ordering::Release);
    }

    fn tails(&self) -> MutexGuard<'_, VecDeque<(u64, Seat)>> {
        self.0.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Placed {
    body: Body,
    reads: PollSemaphore,
    place: Option<OwnedSemaphorePermit>,
    /// Bytes of the piece that was handed over last.
    piece: u64,
    seat: Option<Seat>,
    line: Line,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.place.is_none() {
            this.place = ready!(this.reads.poll_acquire(context));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        this.place = None;
        if let Some(Ok(frame)) = &frame {
            this.piece = frame.data_ref().map_or(0, |data| data.len() as u64);
            if let Some(seat) = &this.seat {
                seat.further();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take().filter(|_| self.piece > 0) {
            self.line.keep(self.piece, seat);
        }
    }
}

/// How much there is for one way in.
struct Room {
    /// Calls that are worked on.
    calls: usize,
    /// Pieces of answers that are read from the disk.
    reads: usize,
    /// Bytes that are held for clients; while all of them get on, it may be twice as much.
    memory: u64,
}

const PUBLIC: Room = Room { calls: 96, reads: 128, memory: 256 << 20 };
const SANDBOX: Room = Room { calls: 32, reads: 64, memory: 96 << 20 };
const PATIENCE: Duration = Duration::from_secs(30);
/// Who has got on within this time is not slow.
const GRACE: Duration = Duration::from_secs(1);
/// The most that an answer reads at once.
const PIECE: u64 = 256 << 10;
/// Answers of fewer bytes are not counted.
const SMALL: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use model::{AttemptNo, JobId};

    use super::*;

    fn sandbox(number: u128) -> Via {
        Via::Sandbox(SandboxId { job: JobId(uuid::Uuid::from_u128(number)), attempt: AttemptNo(1) })
    }

    #[tokio::test]
    async fn one_who_fills_all_places_waits_and_nobody_else_does() {
        let crowd = Crowd::new();
        let mut taken = Vec::new();
        let ours = crowd.places(sandbox(1));
        for _ in 0..SANDBOX.calls {
            taken.push(ours.call().await.expect("a place"));
        }
        let next = crowd.places(sandbox(1));
        let mut waiting = std::pin::pin!(next.call());
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
        assert!(crowd.places(sandbox(2)).call().await.is_ok());
        assert!(crowd.places(Via::Public).call().await.is_ok());
        // One that waits for its client is not in the way.
        taken[0].leave();
        let turn = waiting.await.expect("a place");
        let mut queue = None;
        let mut back = std::pin::pin!(std::future::poll_fn(|context| taken[0].poll_enter(&mut queue, context)));
        assert!(tokio::time::timeout(Duration::from_millis(50), back.as_mut()).await.is_err());
        drop(turn);
        back.await;
    }

    #[test]
    fn where_memory_is_scarce_who_got_on_least_is_dropped() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut ledger = Ledger::new(100);
        let ends: Vec<CancellationToken> = (0..4).map(|_| CancellationToken::new()).collect();
        let gone = || ends.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        let seats: Vec<u64> = (0..3).map(|number| ledger.sit(30, ends[number].clone(), at(0))).collect();
        ledger.update(seats[0], 30, true, at(10));
        ledger.update(seats[1], 30, false, at(10));
        ledger.update(seats[2], 30, true, at(11));
        assert_eq!(gone(), [false; 4], "it is not scarce");
        ledger.sit(30, ends[3].clone(), at(11));
        assert_eq!(gone(), [false, true, false, false]);
        assert_eq!(ledger.total, 90);
        // It does not come back, and its leaving is not counted again.
        ledger.update(seats[1], 0, true, at(11));
        ledger.leave(seats[1]);
        assert_eq!((ledger.total, ledger.order.len()), (90, 3));
    }

    #[test]
    fn who_gets_on_is_dropped_only_beyond_twice_the_memory() {
        let now = Instant::now();
        let mut ledger = Ledger::new(100);
        let ends: Vec<CancellationToken> = (0..3).map(|_| CancellationToken::new()).collect();
        let first = ledger.sit(90, ends[0].clone(), now);
        ledger.sit(90, ends[1].clone(), now);
        assert!(!ends[0].is_cancelled());
        ledger.sit(90, ends[2].clone(), now);
        assert_eq!(ends.iter().filter(|end| end.is_cancelled()).count(), 1);
        assert!(ledger.total <= 200, "{}", ledger.total);
        ledger.leave(first);
        assert_eq!(ledger.seats.len(), 2);
    }

    #[tokio::test]
    async fn the_last_piece_of_an_answer_counts_until_it_is_written() {
        use futures::StreamExt as _;
        let places = Arc::new(Places::new(SANDBOX));
        let line = Line::default();
        let mut body = places.answer(Body::from(vec![7; 20_000]), &line);
        assert_eq!(places.ledger().total, 20_000);
        assert_eq!(body.next().await.expect("a piece").expect("bytes").len(), 20_000);
        drop(body);
        line.wrote(19_999);
        assert_eq!(places.ledger().total, 20_000);
        line.wrote(1000);
        assert_eq!(places.ledger().total, 0);
    }
}
