//! Deadlines for slow peers: a body whose next bytes do not come, an answer that nobody takes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use s3s::{S3Error, S3ErrorCode, s3_error};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, PollSemaphore, WaitForCancellationFutureOwned};

use crate::{
    access::BoxError,
    crowd::{Line, Seat, Turn},
};

/// The peer sent nothing for too long, or too little, or least of all where memory is scarce.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the body did not come in time")]
pub struct Stalled;

/// There was no place to go on in.
#[derive(Debug, thiserror::Error)]
#[error("too many calls are under way")]
pub struct Crowded;

/// What became of a body: a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Fate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    received: AtomicU64,
    end: AtomicU8,
}

impl Fate {
    /// What a failure of the service really was, where `s3s` read a body whole before the operation saw it, and took
    /// the body's failure for one of ours. `most` is how long such a body may be.
    pub fn refusal(&self, most: usize) -> Option<S3Error> {
        match self.0.end.load(Ordering::Acquire) {
            STALLED => Some(S3Error::with_message(S3ErrorCode::RequestTimeout, Stalled.to_string())),
            CROWDED => Some(S3Error::with_message(S3ErrorCode::SlowDown, Crowded.to_string())),
            CUT => Some(s3_error!(IncompleteBody, "the body did not arrive whole")),
            _ if self.0.received.load(Ordering::Acquire) > most as u64 => {
                Some(s3_error!(MaxMessageLengthExceeded, "the document has more than {most} bytes"))
            }
            _ => None,
        }
    }

    /// Bytes of the body that came.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Acquire)
    }

    fn ends(&self, how: u8) {
        self.0.end.store(how, Ordering::Release);
    }
}

/// A body whose bytes come in time, and are worked on in a place of the crowd. It ends with [`Stalled`] if a piece does
/// not come in time, or if all of them take longer than [`FLOOR`] allows.
pub struct TimedBody {
    body: Incoming,
    turn: Arc<Turn>,
    fate: Fate,
    deadline: Pin<Box<Sleep>>,
    /// Since when the sender, or else the crowd, is waited for.
    since: Option<Instant>,
    /// How long the sender was waited for before that.
    waited: Duration,
    received: u64,
    /// How much memory the call takes at most for what it has received.
    most_held: u64,
    /// How much had come when the sender last got on.
    mark: u64,
    seat: Option<(Seat, Pin<Box<WaitForCancellationFutureOwned>>)>,
    /// What came and waits for a place.
    next: Option<Option<Result<Frame<Bytes>, BoxError>>>,
    queue: Option<PollSemaphore>,
}

impl TimedBody {
    /// The body of a request of the call whose turn it is.
    pub fn of(request: Request<Incoming>, turn: &Arc<Turn>, fate: &Fate) -> Request<TimedBody> {
        let most_held = most_held(&request);
        request.map(|body| TimedBody {
            body,
            turn: Arc::clone(turn),
            fate: fate.clone(),
            deadline: Box::pin(sleep(PATIENCE)),
            since: None,
            waited: Duration::ZERO,
            received: 0,
            most_held,
            mark: 0,
            seat: None,
            next: None,
            queue: None,
        })
    }

    fn held(&self) -> u64 {
        // Buffers grow by doubling.
        (2 * self.received).min(self.most_held)
    }

    /// Counts what came.
    fn came(&mut self, next: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        match next {
            Some(Ok(frame)) => {
                let held = self.held();
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.fate.0.received.store(self.received, Ordering::Release);
                let further = self.received - self.mark >= STEP;
                if further {
                    self.mark = self.received;
                }
                if let Some((seat, _)) = &self.seat
                    && (further || self.held() != held)
                {
                    seat.update(self.held(), further);
                }
            }
            Some(Err(_)) => self.fate.ends(CUT),
            None => {}
        }
    }

    /// Waits for the sender; says whether that has been too long.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.turn.leave();
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let allowed = PATIENCE + Duration::from_secs(self.received / FLOOR);
            self.deadline.as_mut().reset(now + PATIENCE.min(allowed.saturating_sub(self.waited)));
        }
        if self.seat.is_none() && self.received > 0 {
            let end = CancellationToken::new();
            let ended = Box::pin(end.clone().cancelled_owned());
            self.seat = Some((self.turn.places().seat(self.held(), end), ended));
        }
        if let Some((_, ended)) = &mut self.seat
            && ended.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(());
        }
        self.deadline.as_mut().poll(context)
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.next.is_none() {
            let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(context) else {
                ready!(this.poll_patience(context));
                this.fate.ends(STALLED);
                return Poll::Ready(Some(Err(Stalled.into())));
            };
            this.came(next.as_ref());
            this.next = Some(next.map(|next| next.map_err(Into::into)));
        }
        // The end of a body needs a place too: what follows is work.
        if this.turn.poll_enter(&mut this.queue, context).is_pending() {
            if this.since.is_none() {
                let now = Instant::now();
                this.since = Some(now);
                this.deadline.as_mut().reset(now + PATIENCE);
            }
            ready!(this.deadline.as_mut().poll(context));
            this.fate.ends(CROWDED);
            return Poll::Ready(Some(Err(Crowded.into())));
        }
        this.since = None;
        Poll::Ready(this.next.take().flatten())
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How much memory a call takes at most for its body: one that stores it as it comes takes a few pieces, any other the
/// whole of it.
fn most_held<B>(request: &Request<B>) -> u64 {
    let stores = |name: &str| {
        ["partNumber", "uploadId", "x-id"].contains(&name) || name.to_ascii_lowercase().starts_with("x-amz-")
    };
    let query = request.uri().query().unwrap_or_default();
    let is_key = request.uri().path().trim_start_matches('/').contains('/');
    let streams = request.method() == Method::PUT
        && is_key
        && query.split('&').filter(|pair| !pair.is_empty()).all(|pair| stores(pair.split('=').next().unwrap_or(pair)));
    if streams { STREAMED } else { u64::MAX }
}

/// A connection that fails if the peer takes nothing of what is written for too long.
pub struct TimedWrites<IO> {
    io: IO,
    line: Line,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<IO> TimedWrites<IO> {
    /// Waits at most `patience` for each write, and tells `line` of it.
    pub fn new(io: IO, line: Line, patience: Duration) -> TimedWrites<IO> {
        TimedWrites { io, line, patience, deadline: Box::pin(sleep(patience)), waiting: false }
    }

    fn count(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            self.line.wrote(*bytes);
        }
    }

    fn check<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = false;
            return result;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for TimedWrites<IO> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, to)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for TimedWrites<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, bytes);
        self.count(&result);
        self.check(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.count(&result);
        self.check(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(context);
        self.check(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(context);
        self.check(result, context)
    }
}

/// For each piece of a body, and at first for all of them.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes a second that a sender has to send over the whole of a body, beyond the time that it has at first.
const FLOOR: u64 = 500;
/// A sender that has sent so many bytes more has got on.
const STEP: u64 = 64 << 10;
/// Two batches, what is being sealed, and what waits to be written.
const STREAMED: u64 = 1 << 20;

const STALLED: u8 = 1;
const CROWDED: u8 = 2;
const CUT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stores_a_body_as_it_comes_takes_little_for_it() {
        for (method, uri, streams) in [
            ("PUT", "/bucket/key", true),
            ("PUT", "/bucket/key?partNumber=1&uploadId=2", true),
            ("PUT", "/bucket/key?X-Amz-Signature=0&x-id=PutObject", true),
            ("PUT", "/bucket/key?tagging", false),
            ("PUT", "/bucket", false),
            ("POST", "/bucket/key", false),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
            assert_eq!(most_held(&request) == STREAMED, streams, "{method} {uri}");
        }
    }
}
