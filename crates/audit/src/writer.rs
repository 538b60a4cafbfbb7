//! Group commit: one task writes what many callers ask for, as many entries a transaction as are waiting.

use std::{sync::Arc, time::Duration};

use db::{Db, audit::Row};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::Error;

#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    row: Row,
    /// `None` if nobody waits for it.
    done: Option<oneshot::Sender<Result<(), Arc<db::Error>>>>,
    haste: Haste,
}

/// How soon an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Haste {
    /// At once.
    Now,
    /// Not before [`PACE`] has passed since the last commit or [`ENOUGH`] are there, so that many share the next.
    Paced,
    /// When something else is, or within [`GATHERING`].
    Soon,
}

impl Writer {
    pub(crate) fn start(db: Db) -> Writer {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(run(db, waiting));
        Writer { queue }
    }

    /// Returns once it is durable.
    pub(crate) async fn write(&self, row: Row, haste: Haste) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.queue.send(Waiting { row, done: Some(done), haste }).await.map_err(|_| Error::NotWritten)?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => {
                tracing::error!(%cause, "an audit entry was not written");
                Err(Error::NotWritten)
            }
            Err(_) => Err(Error::NotWritten),
        }
    }

    /// Returns once it is queued.
    pub(crate) async fn enqueue(&self, row: Row) -> Result<(), Error> {
        self.queue.send(Waiting { row, done: None, haste: Haste::Soon }).await.map_err(|_| Error::NotWritten)
    }
}

/// Ends when the last sender is gone and all that waited is written.
async fn run(db: Db, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch: Vec<Waiting> = Vec::with_capacity(BATCH);
    let mut committed: Option<Instant> = None;
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // More are gathered as long as all can wait: a commit costs nearly the same for one as for many.
        let begun = Instant::now();
        while batch.len() < BATCH {
            let until = match batch.iter().map(|waiting| waiting.haste).min() {
                Some(Haste::Paced) if batch.len() >= ENOUGH => break,
                Some(Haste::Paced) => committed.map_or(begun, |committed| committed + PACE).min(begun + PACE),
                Some(Haste::Soon) => begun + GATHERING,
                Some(Haste::Now) | None => break,
            };
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(until, queue.recv_many(&mut batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        let result = write_all(&db, &batch).await.map_err(Arc::new);
        committed = Some(Instant::now());
        for waiting in batch.drain(..) {
            match (waiting.done, &result) {
                // A caller that went away is written all the same.
                (Some(done), _) => drop(done.send(result.clone())),
                (None, Err(cause)) => tracing::error!(%cause, "an audit entry was not written"),
                (None, Ok(())) => {}
            }
        }
    }
}

async fn write_all(db: &Db, batch: &[Waiting]) -> Result<(), db::Error> {
    db::audit::append_now(db, &batch.iter().map(|waiting| &waiting.row).collect::<Vec<_>>()).await
}

const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// So many paced entries are worth a commit at once.
const ENOUGH: usize = 8;
/// How long an entry that nobody waits for may wait for others.
const GATHERING: Duration = Duration::from_millis(100);
/// Between two commits that nothing but paced entries asks for.
const PACE: Duration = Duration::from_millis(1);
