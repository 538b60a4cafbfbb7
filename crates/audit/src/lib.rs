//! The one place that writes audit entries: who, what, on what, from where, what was decided, what came of it.
//! Never changes or removes one. Start at [`Audit::new`].
//!
//! A change and its entry share a transaction ([`Audit::record_in`]). What changes nothing (a read, a refusal)
//! goes through [`Audit::record`], which commits the entries of many callers at once and answers when they are durable.
//! A room whose changes are in another place than the log keeps their entries there in the same step, and hands them
//! over after ([`Audit::take_over`]).
//!
//! So that no entry is changed, removed, put in or moved unseen, a [`Sealer`] copies the log into files: records that
//! name the one before, a Merkle tree over them, and signed checkpoints ([`note`]) that can be sent elsewhere ([`send`]).
//! [`verify`] finds what is not as it was sealed; [`prove`] convinces others of an entry; [`restore`] puts the table back. [`FAULT_POINTS`] stand between
//! what a crash can part.

#[cfg(test)]
mod crash;
mod entry;
mod files;
#[cfg(test)]
mod log_tests;
pub mod merkle;
mod metrics;
pub mod note;
pub mod prove;
mod record;
pub mod restore;
mod sealer;
mod segments;
pub mod send;
#[cfg(test)]
mod tamper;
mod tree;
pub mod verify;
mod writer;

pub use db::audit::{Query, Row, Span, View};
pub use entry::{Actor, Decision, Entry};
pub use files::Limits;
pub use metrics::Metrics;
pub use record::raw as entry_of;
pub use sealer::{CUT, Error as SealError, Options, Sealer};

use std::sync::Arc;

use db::{Db, Tx};
use writer::{Haste, Writer};

/// The audit log; a cheap handle.
#[derive(Debug, Clone)]
pub struct Audit {
    db: Db,
    writer: Writer,
    metrics: Arc<Metrics>,
}

impl Audit {
    /// The log kept in `db`. Needs a Tokio runtime; its writer ends when the last handle is dropped.
    pub fn new(db: Db) -> Audit {
        Audit { writer: Writer::start(db.clone()), db, metrics: Arc::default() }
    }

    /// Writes an entry into the transaction of the change that it tells of.
    pub async fn record_in(&self, tx: &mut Tx, entry: &Entry) -> Result<(), Error> {
        db::audit::append(tx, &entry.row()).await?;
        self.metrics.count(entry);
        Ok(())
    }

    /// Writes an entry together with those of other callers; returns when it is durable.
    pub async fn record(&self, entry: Entry) -> Result<(), Error> {
        self.metrics.count(&entry);
        self.writer.write(entry.row(), Haste::Now).await
    }

    /// As [`Audit::record`], for what changes nothing: where entries come one behind the other it is some milliseconds later,
    /// so that many share a commit.
    pub async fn record_read(&self, entry: Entry) -> Result<(), Error> {
        self.metrics.count(&entry);
        self.writer.write(entry.row(), Haste::Paced).await
    }

    /// Hands an entry over to be written soon, and returns without waiting until it is durable: for what changes
    /// nothing and is not refused. Waits while very many are queued, so none is dropped.
    pub async fn note(&self, entry: Entry) -> Result<(), Error> {
        self.metrics.count(&entry);
        self.writer.enqueue(entry.row()).await
    }

    /// Takes over entries that a room kept in the same durable step as the changes that they tell of. Each has its
    /// number in that room, rising; those that are in the log already are left out, so that a room may hand them over
    /// again after a crash. Returns when all are durable.
    pub async fn take_over(&self, source: &str, entries: &[(u64, Entry)]) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let through = u64::try_from(db::audit::through(&mut tx, source).await?).unwrap_or(0);
        let new = entries.iter().filter(|(number, _)| *number > through);
        let rows: Vec<Row> = new.clone().map(|(_, entry)| entry.row()).collect();
        new.clone().for_each(|(_, entry)| self.metrics.count(entry));
        let Some(last) = new.map(|(number, _)| *number).max() else { return Ok(()) };
        db::audit::append_all(&mut tx, &rows.iter().collect::<Vec<_>>()).await?;
        db::audit::set_through(&mut tx, source, i64::try_from(last).unwrap_or(i64::MAX)).await?;
        Ok(tx.commit().await?)
    }

    /// What operators see of the log; call [`Metrics::measure`] before reading.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Reads entries, newest first.
    pub async fn list(&self, query: &Query) -> Result<Vec<Row>, Error> {
        Ok(db::audit::list(&self.db, query).await?)
    }

    /// The newest entries of some views, newest first, at most `limit`: by time, then by number. A reader that goes on
    /// with the time and number of the last one as the end of its span misses none.
    pub async fn seen(&self, views: &[View], span: Span, limit: u32) -> Result<Vec<Row>, Error> {
        let most = limit as usize;
        let (mut newest, mut within) = (Vec::new(), span);
        for view in views {
            newest.extend(db::audit::seen(&self.db, view, within, limit).await?);
            newest.sort_unstable_by(|one, other| other.cmp(one));
            newest.truncate(most);
            if let Some((at, _)) = newest.last().filter(|_| newest.len() == most) {
                within.from = *at;
            }
        }
        let numbers: Vec<i64> = newest.into_iter().map(|(_, number)| number).collect();
        let mut rows = db::audit::rows(&self.db, &numbers).await?;
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.at, row.id)));
        Ok(rows)
    }

    /// The accounts that called on a resource, or asked what they may do on it; by their ids.
    pub async fn askers(&self, resource: &str) -> Result<Vec<String>, Error> {
        Ok(db::audit::askers(&self.db, resource).await?)
    }

    /// One entry; `None` if there is none of that number.
    pub async fn entry(&self, number: i64) -> Result<Option<Row>, Error> {
        Ok(db::audit::rows(&self.db, &[number]).await?.pop())
    }
}

/// Why an entry was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the audit log's database failed")]
    Db(#[from] db::Error),
    /// The transaction that held the entry with others failed; why is in the service's log.
    #[error("the audit entry was not written")]
    NotWritten,
}

/// The purpose of the key that checkpoints are signed with, among the keys of the service.
pub const KEY: &str = "audit";

/// An entry of a proof as the database gives entries; `None` if it holds what no entry can.
pub fn row_of(raw: &db::audit::Raw) -> Option<Row> {
    let at = jiff::Timestamp::from_nanosecond(i128::from(raw.at)).ok()?;
    let text = |at: usize| raw.texts[at].as_ref().map(|text| String::from_utf8_lossy(text).into_owned());
    Some(Row {
        id: raw.number,
        at,
        account: text(0),
        identity: text(1)?,
        source_ip: text(2),
        action: text(3)?,
        resource: text(4)?,
        decision: text(5)?,
        result: text(6)?,
        request_id: text(7),
        detail: text(8)?,
    })
}

/// Places between two durable steps, at which the crash test kills the process.
pub const FAULT_POINTS: &[&str] = &[
    "audit.segment.begun",
    "audit.segment.appended",
    "audit.segment.synced",
    "audit.tree.written",
    "audit.checkpoint.written",
    "audit.checkpoint.synced",
    "audit.sealed.committed",
    "audit.cut.committed",
    "audit.rows.removed",
    "audit.segment.removed",
];

#[cfg(test)]
mod tests {
    use super::*;

    async fn log() -> (tempfile::TempDir, Audit) {
        let dir = tempfile::tempdir().expect("a directory");
        let audit = Audit::new(Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database"));
        (dir, audit)
    }

    fn entry(number: u64) -> Entry {
        let mut entry = Entry::new(Actor::operator(), "test.done", format!("thing/{number}"));
        entry.detail = serde_json::json!({ "text": "with \"quotes\", a \u{0} and ünïcode" });
        entry
    }

    async fn resources(audit: &Audit) -> Vec<String> {
        let rows = audit.list(&Query { limit: 100, ..Query::default() }).await.expect("rows");
        rows.into_iter().rev().map(|row| row.resource).collect()
    }

    #[tokio::test]
    async fn reads_share_commits_and_each_is_durable_when_it_is_told() {
        let (_dir, audit) = log().await;
        audit.record_read(entry(0)).await.expect("recorded");
        let reads = (1..=64).map(|number| {
            let audit = audit.clone();
            async move {
                audit.record_read(entry(number)).await.expect("recorded");
                assert!(resources(&audit).await.contains(&format!("thing/{number}")));
            }
        });
        futures::future::join_all(reads).await;
        assert_eq!(resources(&audit).await.len(), 65);
    }

    #[tokio::test]
    async fn entries_that_are_handed_over_twice_are_in_the_log_once() {
        let (_dir, audit) = log().await;
        let entries: Vec<(u64, Entry)> = (1..=3).map(|number| (number, entry(number))).collect();
        audit.take_over("store", &entries[..2]).await.expect("taken over");
        audit.take_over("store", &entries).await.expect("taken over");
        audit.take_over("store", &entries).await.expect("nothing new");
        assert_eq!(resources(&audit).await, ["thing/1", "thing/2", "thing/3"]);
        audit.take_over("another", &entries[..1]).await.expect("numbers of another source are its own");
        assert_eq!(resources(&audit).await.len(), 4);
    }

    #[tokio::test]
    async fn an_entry_comes_back_as_it_was_written_whichever_way_it_went() {
        let (_dir, audit) = log().await;
        audit.record(entry(1)).await.expect("recorded");
        audit.note(entry(2)).await.expect("noted");
        audit.take_over("store", &[(1, entry(3))]).await.expect("taken over");
        audit.record_read(entry(4)).await.expect("recorded");
        // Each waits for the one before to be durable.
        let rows = audit.list(&Query { limit: 10, ..Query::default() }).await.expect("rows");
        assert_eq!(rows.len(), 4);
        for row in rows {
            assert_eq!(row.detail, entry(0).detail.to_string());
            assert_eq!((row.account, row.source_ip, row.identity.as_str()), (None, None, "operator"));
        }
    }
}
