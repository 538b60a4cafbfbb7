//! When credentials and access keys were last used: kept in memory, written a few seconds later, many at once.

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
    unwritten: Arc<Mutex<Unwritten>>,
}

#[derive(Debug, Default)]
struct Unwritten {
    credentials: HashMap<i64, Timestamp>,
    keys: HashMap<String, Timestamp>,
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
        self.lock().credentials.insert(credential, at);
    }

    /// The last use that is not yet written.
    pub(crate) fn of(&self, credential: i64) -> Option<Timestamp> {
        self.lock().credentials.get(&credential).copied()
    }

    /// Notes the use of an access key: the first since the last writing is near enough, and costs a look only.
    pub(crate) fn note_key(&self, access: &str, at: Timestamp) {
        let mut unwritten = self.lock();
        if !unwritten.keys.contains_key(access) {
            unwritten.keys.insert(access.to_owned(), at);
        }
    }

    /// The last use of an access key that is not yet written.
    pub(crate) fn of_key(&self, access: &str) -> Option<Timestamp> {
        self.lock().keys.get(access).copied()
    }

    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let (credentials, keys) = {
            let unwritten = self.lock();
            let credentials: Vec<(i64, Timestamp)> = unwritten.credentials.iter().map(|(id, at)| (*id, *at)).collect();
            let keys: Vec<(String, Timestamp)> = unwritten.keys.iter().map(|(id, at)| (id.clone(), *at)).collect();
            (credentials, keys)
        };
        if credentials.is_empty() && keys.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        db::credentials::touch(&mut tx, &credentials).await?;
        db::s3_keys::touch(&mut tx, &keys).await?;
        tx.commit().await?;
        let mut unwritten = self.lock();
        for (id, at) in credentials {
            // What was used again meanwhile stays for the next time.
            if unwritten.credentials.get(&id) == Some(&at) {
                unwritten.credentials.remove(&id);
            }
        }
        for (access, _) in keys {
            unwritten.keys.remove(&access);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PERIOD: Duration = Duration::from_secs(5);
