//! Brings the log into the bucket `odp-logs`, under the names of the old service: long parts while the job runs, the
//! rest at its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::Key;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use model::{AttemptNo, BucketName, JobId, NodeName, SandboxId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Pieces, Refusal};
use crate::{
    spool::{Part, Reader, read_used},
    used,
};

/// What uploads the log of one attempt.
pub struct Uploads {
    /// The gate with the platform's key.
    pub gate: Gate,
    /// The log.
    pub reader: Reader,
    /// Whose log.
    pub id: SandboxId,
    /// What it and what the attempt used are sealed with.
    pub log_key: Key,
    /// Tells whether `serve` is there: while it is not, waiting for it counts for nothing.
    pub is_served: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What could not be uploaded, and why.
#[derive(Debug, thiserror::Error)]
#[error("{key} could not be written to odp-logs: {why}")]
pub struct NotUploaded {
    key: String,
    why: String,
}

impl Uploads {
    /// Uploads parts as they come; once `finished`, those that are left and the lines of the platform.
    pub async fn run(self, mut parts: mpsc::UnboundedReceiver<Part>, finished: CancellationToken) -> Vec<NotUploaded> {
        let mut failures = Vec::new();
        let mut active = FuturesUnordered::new();
        let mut finishing = false;
        while !(finishing && active.is_empty() && parts.is_empty()) {
            tokio::select! {
                Some(part) = parts.recv(), if active.len() < AT_ONCE => active.push(self.part(part).boxed()),
                Some(outcome) = active.next(), if !active.is_empty() => failures.extend(outcome.err()),
                () = finished.cancelled(), if !finishing => {
                    finishing = true;
                    active.push(self.platform().boxed());
                    active.push(self.used().boxed());
                }
            }
        }
        drop(active);
        failures
    }

    async fn part(&self, part: Part) -> Result<(), NotUploaded> {
        let key = log_key(self.id.job, &part);
        self.insist(key, part.bytes, |pieces| {
            let (reader, part) = (self.reader.clone(), part.clone());
            tokio::task::spawn_blocking(move || send_part(&reader, &part, &pieces));
        })
        .await
    }

    /// The making of the environment, and what else the platform has said.
    async fn platform(&self) -> Result<(), NotUploaded> {
        let key = platform_log_key(self.id);
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.platform()).await;
        let text = match read {
            Ok(Ok(text)) => Bytes::from(text),
            Ok(Err(cause)) => return Err(NotUploaded { key, why: cause.to_string() }),
            Err(cause) => return Err(NotUploaded { key, why: cause.to_string() }),
        };
        self.text(key, text).await
    }

    /// What the nodes used over time.
    async fn used(&self) -> Result<(), NotUploaded> {
        let key = used::object_of(self.id);
        let log_key = self.log_key.clone();
        let read = tokio::task::spawn_blocking(move || read_used(".".as_ref(), &log_key)).await;
        let text = match read {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(history))) => serde_json::to_vec(&history).map_err(|cause| cause.to_string()),
            Ok(Err(cause)) => Err(cause.to_string()),
            Err(cause) => Err(cause.to_string()),
        };
        match text {
            Ok(text) => self.text(key, Bytes::from(text)).await,
            Err(why) => Err(NotUploaded { key, why }),
        }
    }

    /// Puts an object of this text, unless it is empty.
    async fn text(&self, key: String, text: Bytes) -> Result<(), NotUploaded> {
        if text.is_empty() {
            return Ok(());
        }
        self.insist(key, text.len() as u64, |pieces| {
            // A channel that was just made has room.
            let _ = pieces.try_send(Ok(text.clone()));
        })
        .await
    }

    /// Puts an object whose bytes `feed` sends; again and again, as long as that makes sense.
    async fn insist(
        &self,
        key: String,
        bytes: u64,
        feed: impl Fn(mpsc::Sender<std::io::Result<Bytes>>),
    ) -> Result<(), NotUploaded> {
        let bucket = BucketName::logs();
        let mut pause = Duration::from_millis(100);
        let mut spent = Duration::ZERO;
        let mut refused = 0;
        loop {
            let begun = Instant::now();
            let (pieces, body) = mpsc::channel(PIECES);
            feed(pieces);
            let why = match self.gate.put(&bucket, &key, bytes, Pieces::new(body, bytes)).await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            tracing::warn!(key, %why, "a part of the log is not uploaded yet");
            refused += u32::from(matches!(why, Refusal::Refused { .. } | Refusal::Absent(_)));
            if refused >= MOST_REFUSALS || spent >= PATIENCE {
                return Err(NotUploaded { key, why: why.to_string() });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
            if (self.is_served)() {
                spent += begun.elapsed();
            }
        }
    }
}

/// The object that a part of a job's log is, in the bucket of logs (the old service's names).
pub(crate) fn log_key(job: JobId, part: &Part) -> String {
    format!("{job}/{}/spark.log.{}", part.node, part.first.0)
}

/// The object of what the platform has said of an attempt.
pub(crate) fn platform_log_key(id: SandboxId) -> String {
    key_of_attempt(id, "odp", "logs")
}

/// An object of an attempt beside its driver's log. That of the first has the name that clients know; a further one's must
/// not take its place.
pub(crate) fn key_of_attempt(id: SandboxId, name: &str, ending: &str) -> String {
    let (job, driver) = (id.job, NodeName::driver());
    match id.attempt {
        AttemptNo(0 | 1) => format!("{job}/{driver}/{name}.{ending}"),
        attempt => format!("{job}/{driver}/{name}.{attempt}.{ending}"),
    }
}

/// Reads a part and sends it; ends early where nobody takes it any more.
pub(crate) fn send_part(reader: &Reader, part: &Part, pieces: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut raw = match reader.raw(&part.node, part.first, part.last) {
        Ok(raw) => raw,
        Err(cause) => return drop(pieces.blocking_send(Err(std::io::Error::other(cause)))),
    };
    loop {
        let piece = match raw.next_piece() {
            Ok(Some(piece)) => Ok(Bytes::from(piece)),
            Ok(None) => return,
            Err(cause) => Err(std::io::Error::other(cause)),
        };
        let last = piece.is_err();
        if pieces.blocking_send(piece).is_err() || last {
            return;
        }
    }
}

/// Each holds a few hundred KiB.
const AT_ONCE: usize = 3;
const PIECES: usize = 2;
/// While `serve` is there, uploads are tried for so long.
const PATIENCE: Duration = Duration::from_secs(600);
/// A refusal does not pass by itself, but for those of a gate that is just being opened.
const MOST_REFUSALS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attempt_writes_over_what_was_said_of_another() {
        let job = JobId(uuid::Uuid::nil());
        let key = |attempt| platform_log_key(SandboxId { job, attempt: AttemptNo(attempt) });
        assert_eq!(
            [1, 2, 11].map(key),
            ["odp.logs", "odp.2.logs", "odp.11.logs"].map(|name| format!("{job}/driver/{name}"))
        );
    }
}
