//! On whose behalf a handle of the store acts: who that is in a store elsewhere, and the audit entry that is kept with
//! what it changes.
//!
//! A change and the entry that tells of it are durable in one step, because the entry is written into the store's own
//! log with the change. From there it goes to the audit log, soon and exactly once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use audit::{Actor, Audit, Entry};
use redb::ReadableTable as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    external::As,
    index::{OUTBOX, Writing},
    rows,
    rows::Place,
    seal::Body,
    store::Store,
};

/// On whose behalf.
#[derive(Debug, Clone, Default)]
pub struct Behalf {
    /// Who acts in a store elsewhere.
    pub who: As,
    /// What is kept with the first change that is made.
    pub note: Option<Arc<Note>>,
    /// Who acts, as those are told who are told of changes; `None` is the service.
    pub by: Option<Arc<Actor>>,
}

/// An entry that goes with a change.
#[derive(Debug)]
pub struct Note {
    entry: Entry,
    kept: AtomicBool,
}

impl Note {
    /// What will be true once the change is made.
    pub fn new(entry: Entry) -> Note {
        Note { entry, kept: AtomicBool::new(false) }
    }

    /// The entry, if it is kept.
    pub fn kept(&self) -> Option<&Entry> {
        self.kept.load(Ordering::Acquire).then_some(&self.entry)
    }
}

/// Entries that wait for the audit log.
#[derive(Debug, Default)]
pub struct Outbox {
    /// About how many.
    waiting: AtomicUsize,
    more: Notify,
}

impl Store {
    /// The same store, on somebody's behalf.
    pub(crate) fn on_behalf(&self, behalf: Behalf) -> Store {
        Store(Arc::clone(&self.0), behalf)
    }

    /// Makes a change and returns when it is durable, with the entry that is to be kept with it.
    pub(crate) async fn commit<T: Send + 'static>(
        &self,
        body: Body,
        change: impl FnOnce(&mut Writing<'_>, Option<Place>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let outbox = &self.0.outbox;
        // While the audit log is away, no more are kept for it than can be: calls fail then, as they cannot be recorded.
        let room = outbox.waiting.load(Ordering::Relaxed) < MOST_WAITING;
        let note = self.1.note.as_ref().filter(|note| room && note.kept().is_none());
        let Some(note) = note else { return self.0.committer.commit(body, change).await };
        let entry = rows::encode(&note.entry);
        let changed = self
            .0
            .committer
            .commit(body, move |writing, place| {
                let value = change(writing, place)?;
                let number = writing.now();
                writing.outbox.insert(number, entry.as_slice())?;
                Ok(value)
            })
            .await?;
        note.kept.store(true, Ordering::Release);
        outbox.waiting.fetch_add(1, Ordering::Relaxed);
        outbox.more.notify_one();
        Ok(changed)
    }

    /// Hands entries to the audit log as they come, until `stop`; first those of before.
    pub async fn hand_over(&self, audit: &Audit, stop: CancellationToken) {
        loop {
            match self.hand_over_some(audit).await {
                Ok(0) => {
                    self.0.outbox.waiting.store(0, Ordering::Relaxed);
                    if stop.run_until_cancelled(self.0.outbox.more.notified()).await.is_none() {
                        break;
                    }
                    // Others come at the same time, and go in one step.
                    let _ = stop.run_until_cancelled(tokio::time::sleep(GATHERING)).await;
                }
                Ok(count) => {
                    let less = |waiting: usize| Some(waiting.saturating_sub(count));
                    let _ = self.0.outbox.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                }
                Err(Error::Closed) => return,
                Err(cause) => {
                    tracing::error!(cause = ?cause, "entries of the object store did not get into the audit log");
                    if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                        return;
                    }
                }
            }
        }
        // What came last.
        while self.hand_over_some(audit).await.is_ok_and(|count| count > 0) {}
    }

    async fn hand_over_some(&self, audit: &Audit) -> Result<usize, Error> {
        let entries = self
            .read(|index| {
                let mut entries: Vec<(u64, Entry)> = Vec::new();
                for row in index.open_table(OUTBOX)?.iter()?.take(AT_ONCE) {
                    let (number, entry) = row?;
                    let (number, bytes) = (number.value(), entry.value());
                    let entry = rows::decode("an entry for the audit log", bytes);
                    entries.push((number, entry.unwrap_or_else(|cause| unreadable(number, bytes, &cause))));
                }
                Ok(entries)
            })
            .await?;
        let Some((last, _)) = entries.last() else { return Ok(0) };
        let (last, count) = (*last, entries.len());
        audit.take_over(SOURCE, &entries).await.map_err(Error::Audit)?;
        let forget = move |writing: &mut Writing<'_>, _| {
            for (number, _) in &entries {
                writing.outbox.remove(*number)?;
            }
            Ok(())
        };
        fail::fail_point!("objects.outbox.taken", |_| Err(Error::NotWritten));
        self.0.committer.commit(Body::Empty, forget).await?;
        tracing::trace!(last, count, "entries went to the audit log");
        Ok(count)
    }
}

/// What goes to the audit log for an entry that cannot be read: its bytes. It would else keep all behind it from going.
fn unreadable(number: u64, bytes: &[u8], cause: &Error) -> Entry {
    tracing::error!(number, ?cause, "an entry for the audit log cannot be read, and goes there as it is");
    let mut entry = Entry::new(Actor::system(), "store:UnreadableEntry", format!("store/outbox/{number}"));
    entry.result = "damaged".to_owned();
    entry.detail = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::json!({ "text": text }),
        Err(_) => serde_json::json!({ "hex": hex::encode(bytes) }),
    };
    entry
}

/// The name of this room in the audit log.
const SOURCE: &str = "objects";
const AT_ONCE: usize = 1024;
const MOST_WAITING: usize = 100_000;
const GATHERING: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_secs(1);
