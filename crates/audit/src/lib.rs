//! The one place that writes audit entries: who, what, on what, from where, what was decided, what came of it.
//! Never changes or removes one. Start at [`Audit::new`].
//!
//! A change and its entry share a transaction ([`Audit::record_in`]). What changes nothing (a read, a refusal)
//! goes through [`Audit::record`], which commits the entries of many callers at once and answers when they are durable.

mod entry;
mod writer;

pub use db::audit::{Query, Row};
pub use entry::{Actor, Decision, Entry};

use db::{Db, Tx};
use writer::Writer;

/// The audit log; a cheap handle.
#[derive(Debug, Clone)]
pub struct Audit {
    db: Db,
    writer: Writer,
}

impl Audit {
    /// The log kept in `db`. Needs a Tokio runtime; its writer ends when the last handle is dropped.
    pub fn new(db: Db) -> Audit {
        Audit { writer: Writer::start(db.clone()), db }
    }

    /// Writes an entry into the transaction of the change that it tells of.
    pub async fn record_in(&self, tx: &mut Tx, entry: &Entry) -> Result<(), Error> {
        db::audit::append(tx, &entry.row()).await?;
        Ok(())
    }

    /// Writes an entry together with those of other callers; returns when it is durable.
    pub async fn record(&self, entry: Entry) -> Result<(), Error> {
        self.writer.write(entry.row()).await
    }

    /// Hands an entry over to be written soon, and returns without waiting until it is durable: for what changes
    /// nothing and is not refused. Waits while very many are queued, so none is dropped.
    pub async fn note(&self, entry: Entry) -> Result<(), Error> {
        self.writer.enqueue(entry.row()).await
    }

    /// Reads entries, newest first.
    pub async fn list(&self, query: &Query) -> Result<Vec<Row>, Error> {
        Ok(db::audit::list(&self.db, query).await?)
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
