//! When credentials were last used: kept in memory, written a few seconds later, many at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use db::Db;
use jiff::Timestamp;

use crate::Error;

#[derive(Debug, Clone)]
pub(crate) struct LastUse {
    db: Db,
    unwritten: Arc<Mutex<HashMap<i64, Timestamp>>>,
}

impl LastUse {
    /// Starts the writer; it ends when the last handle is dropped.
    pub(crate) fn start(db: Db) -> LastUse {
        let uses = LastUse { db: db.clone(), unwritten: Arc::default() };
        let weak = Arc::downgrade(&uses.unwritten);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let Some(unwritten) = weak.upgrade() else { return };
                let uses = LastUse { db: db.clone(), unwritten };
                if let Err(cause) = uses.flush().await {
                    tracing::warn!(%cause, "times of last use were not written; they are tried again");
                }
            }
        });
        uses
    }

    pub(crate) fn note(&self, credential: i64, at: Timestamp) {
        self.lock().insert(credential, at);
    }

    /// The last use that is not yet written.
    pub(crate) fn of(&self, credential: i64) -> Option<Timestamp> {
        self.lock().get(&credential).copied()
    }

    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let uses: Vec<(i64, Timestamp)> = self.lock().iter().map(|(id, at)| (*id, *at)).collect();
        if uses.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        db::credentials::touch(&mut tx, &uses).await?;
        tx.commit().await?;
        let mut unwritten = self.lock();
        for (id, at) in uses {
            // What was used again meanwhile stays for the next time.
            if unwritten.get(&id) == Some(&at) {
                unwritten.remove(&id);
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Timestamp>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PERIOD: Duration = Duration::from_secs(5);
