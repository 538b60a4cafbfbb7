//! When credentials and access keys were last used: kept in memory, written a few seconds later, many at once.

use std::{
    collections::HashMap,
    hash::Hash,
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
    clients: HashMap<String, Timestamp>,
    tokens: HashMap<Vec<u8>, Timestamp>,
    user_tokens: HashMap<Vec<u8>, Timestamp>,
    sessions: HashMap<i64, Timestamp>,
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

    /// Notes that a service account got a token.
    pub(crate) fn note_client(&self, id: &str, at: Timestamp) {
        self.lock().clients.insert(id.to_owned(), at);
    }

    /// When a service account last got a token, if that is not yet written.
    pub(crate) fn of_client(&self, id: &str) -> Option<Timestamp> {
        self.lock().clients.get(id).copied()
    }

    /// Notes the use of an access token, by its hash.
    pub(crate) fn note_token(&self, hash: &[u8], at: Timestamp) {
        self.lock().tokens.insert(hash.to_owned(), at);
    }

    /// Notes the use of a token of a user of a project, by its hash.
    pub(crate) fn note_user_token(&self, hash: &[u8], at: Timestamp) {
        self.lock().user_tokens.insert(hash.to_owned(), at);
    }

    /// Notes the use of a session of the console.
    pub(crate) fn note_session(&self, id: i64, at: Timestamp) {
        let mut unwritten = self.lock();
        let last = unwritten.sessions.entry(id).or_insert(at);
        *last = at.max(*last);
    }

    /// The last use of a session that is not yet written.
    pub(crate) fn of_session(&self, id: i64) -> Option<Timestamp> {
        self.lock().sessions.get(&id).copied()
    }

    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let (credentials, keys, clients, tokens, user_tokens, sessions) = {
            let unwritten = self.lock();
            (
                listed(&unwritten.credentials),
                listed(&unwritten.keys),
                listed(&unwritten.clients),
                listed(&unwritten.tokens),
                listed(&unwritten.user_tokens),
                listed(&unwritten.sessions),
            )
        };
        let nothing = credentials.is_empty() && keys.is_empty() && clients.is_empty() && tokens.is_empty();
        if nothing && user_tokens.is_empty() && sessions.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        db::credentials::touch(&mut tx, &credentials).await?;
        db::s3_keys::touch(&mut tx, &keys).await?;
        db::oauth2::touch(&mut tx, &clients, &tokens).await?;
        db::user_tokens::touch(&mut tx, &user_tokens).await?;
        db::sessions::touch(&mut tx, &sessions).await?;
        tx.commit().await?;
        let mut unwritten = self.lock();
        forget(&mut unwritten.credentials, &credentials);
        forget(&mut unwritten.clients, &clients);
        forget(&mut unwritten.tokens, &tokens);
        forget(&mut unwritten.user_tokens, &user_tokens);
        forget(&mut unwritten.sessions, &sessions);
        for (access, _) in keys {
            unwritten.keys.remove(&access);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listed<K: Clone>(uses: &HashMap<K, Timestamp>) -> Vec<(K, Timestamp)> {
    uses.iter().map(|(name, at)| (name.clone(), *at)).collect()
}

/// What was used again meanwhile stays for the next time.
fn forget<K: Eq + Hash>(uses: &mut HashMap<K, Timestamp>, written: &[(K, Timestamp)]) {
    for (name, at) in written {
        if uses.get(name) == Some(at) {
            uses.remove(name);
        }
    }
}

const PERIOD: Duration = Duration::from_secs(5);
