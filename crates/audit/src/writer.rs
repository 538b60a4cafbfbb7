//! Group commit: one task writes what many callers ask for, as many entries a transaction as are waiting.

use std::sync::Arc;

use db::{Db, audit::Row};
use tokio::sync::{mpsc, oneshot};

use crate::Error;

#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    row: Row,
    /// `None` if nobody waits for it.
    done: Option<oneshot::Sender<Result<(), Arc<db::Error>>>>,
}

impl Writer {
    pub(crate) fn start(db: Db) -> Writer {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(run(db, waiting));
        Writer { queue }
    }

    pub(crate) async fn write(&self, row: Row) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.queue.send(Waiting { row, done: Some(done) }).await.map_err(|_| Error::NotWritten)?;
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
        self.queue.send(Waiting { row, done: None }).await.map_err(|_| Error::NotWritten)
    }
}

/// Ends when the last sender is gone and all that waited is written.
async fn run(db: Db, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // While nobody waits, more are gathered: a commit costs the same for one as for many.
        let until = tokio::time::Instant::now() + GATHERING;
        while batch.len() < BATCH && batch.iter().all(|waiting| waiting.done.is_none()) {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(until, queue.recv_many(&mut batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        let result = write_all(&db, &batch).await.map_err(Arc::new);
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
    let mut tx = db.begin().await?;
    db::audit::append_all(&mut tx, &batch.iter().map(|waiting| &waiting.row).collect::<Vec<_>>()).await?;
    tx.commit().await
}

const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// How long an entry that nobody waits for may wait for others.
const GATHERING: std::time::Duration = std::time::Duration::from_millis(100);
