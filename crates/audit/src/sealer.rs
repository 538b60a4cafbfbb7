//! Seals the log: follows the table of entries, which is durable before anyone is answered, and copies it into segment
//! files and a Merkle tree, whose root it signs. At most a second behind; one process at a time.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto::SigningKey;
use db::{
    Db,
    audit::{Cut, Sealed},
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Actor, Entry,
    files::{self, Files, Limits, READING, unsigned},
    merkle, record,
};

/// What the sealer may be told.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long entries are kept; for ever if `None`. Whole segments go, so that one stays up to a day longer, and the
    /// newest segment stays.
    pub retention: Option<Duration>,
    /// When segments are closed.
    pub limits: Limits,
    /// What time it is.
    pub now: fn() -> Timestamp,
}

impl Default for Options {
    fn default() -> Options {
        Options { retention: None, limits: Limits::default(), now: Timestamp::now }
    }
}

/// Why the log was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the audit log's database failed")]
    Db(#[from] db::Error),
    /// The files failed, or are not as they were left.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The files hold an entry that the table does not.
    #[error("entry {0} is in the files of the audit log, and the database does not have it so")]
    Differs(u64),
    /// The task that writes files ended.
    #[error("the task that writes the files of the audit log ended")]
    Ended,
}

impl From<std::io::Error> for Error {
    fn from(cause: std::io::Error) -> Error {
        Error::Files(cause.into())
    }
}

/// Seals the log of one data directory.
#[derive(Debug)]
pub struct Sealer {
    db: Db,
    directory: PathBuf,
    key: Arc<SigningKey>,
    options: Options,
    files: Option<Files>,
    signed: Option<Instant>,
    retained: Option<Instant>,
    newest: watch::Sender<String>,
}

impl Sealer {
    /// Seals the log in `db` into `directory`, and signs with `key`. Nothing is touched before [`Sealer::round`].
    pub fn new(db: Db, directory: &Path, key: SigningKey, options: Options) -> Sealer {
        let (newest, _) = watch::channel(String::new());
        let (directory, key) = (directory.to_owned(), Arc::new(key));
        Sealer { db, directory, key, options, files: None, signed: None, retained: None, newest }
    }

    /// The newest checkpoint, as it comes: a whole note, empty before the first of this process.
    pub fn newest(&self) -> watch::Receiver<String> {
        self.newest.subscribe()
    }

    /// Seals until `stop`, and then what is left. What goes wrong is told and tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let stopping = stop.is_cancelled();
            let pause = match self.round().await {
                Ok(()) => PACE,
                Err(cause) => {
                    let below = std::error::Error::source(&cause).map(ToString::to_string).unwrap_or_default();
                    tracing::error!(%cause, below, "the audit log is not sealed; entries are kept in the database");
                    RETRY
                }
            };
            if stopping {
                break;
            }
            let woken = async {
                tokio::time::sleep(pause).await;
                // Commands of the operator write from processes of their own.
                let _ = tokio::time::timeout(ELSEWHERE, self.db.audit_written()).await;
            };
            stop.run_until_cancelled(woken).await;
        }
    }

    /// Seals all that is in the table, and removes what retention lets go.
    pub async fn round(&mut self) -> Result<(), Error> {
        let sealed = self.seal().await;
        let done = match sealed {
            Ok(()) if self.retained.is_none_or(|at| at.elapsed() >= RETENTION_PAUSE) => {
                self.retained = Some(Instant::now());
                self.retain().await
            }
            other => other,
        };
        if done.is_err() {
            // What was written of it is cut off when they are opened again.
            self.files = None;
        }
        done
    }

    /// As [`Sealer::round`], and looks now what retention lets go.
    #[cfg(test)]
    pub async fn round_with_retention(&mut self) -> Result<(), Error> {
        self.retained = None;
        self.round().await
    }

    /// As [`Sealer::round`], without retention.
    #[cfg(test)]
    pub async fn seal_now(&mut self) -> Result<(), Error> {
        self.seal().await
    }

    async fn seal(&mut self) -> Result<(), Error> {
        if self.files.is_none() {
            self.files = Some(self.open().await?);
        }
        loop {
            let entries = db::audit::raw(&self.db, Some(self.through()), BATCH).await?;
            let all = entries.len() < BATCH as usize;
            if !entries.is_empty() {
                self.with_files(move |files| files.append(&entries)).await?;
            }
            let due = self.signed.is_none_or(|at| at.elapsed() >= PACE);
            if (all || due) && self.files.as_ref().is_some_and(Files::has_news) {
                self.sign().await?;
            }
            if all {
                return Ok(());
            }
        }
    }

    /// Signs a checkpoint, and keeps in the database up to where the log is sealed.
    async fn sign(&mut self) -> Result<(), Error> {
        self.signed = Some(Instant::now());
        let now = (self.options.now)();
        let state = self
            .with_files(move |files| {
                files.checkpoint(now)?;
                Ok(files.state().clone())
            })
            .await?;
        let mut tx = self.db.begin().await?;
        db::audit::set_sealed(&mut tx, &state).await?;
        tx.commit().await?;
        fail::fail_point!("audit.sealed.committed");
        self.newest.send_replace(state.checkpoint);
        Ok(())
    }

    /// Opens the files where the database says that they end.
    async fn open(&self) -> Result<Files, Error> {
        let directory = self.directory.clone();
        let (lock, empty) = blocking(move || Ok((Files::lock(&directory)?, Files::is_empty(&directory)?))).await?;
        let state = match db::audit::sealed(&self.db).await? {
            Some(state) => state,
            None if empty => {
                let state = Sealed::default();
                let mut tx = self.db.begin().await?;
                db::audit::set_sealed(&mut tx, &state).await?;
                tx.commit().await?;
                state
            }
            None => {
                let what = "there are files, and the database knows nothing of them";
                return Err(files::Error::NotWhole(what.to_owned()).into());
            }
        };
        let (directory, before) = (self.directory.clone(), state.clone());
        let beyond = blocking(move || Ok(Files::beyond(&directory, &before)?)).await?;
        self.compare(&beyond, state.through).await?;
        let (directory, key, limits) = (self.directory.clone(), Arc::clone(&self.key), self.options.limits);
        blocking(move || Ok(Files::open(&directory, lock, key, limits, state)?)).await
    }

    /// Whether the table still has what the files hold beyond what is sealed.
    async fn compare(&self, beyond: &[Vec<u8>], mut through: i64) -> Result<(), Error> {
        for part in beyond.chunks(BATCH as usize) {
            let entries = db::audit::raw(&self.db, Some(through), u32::try_from(part.len()).unwrap_or(BATCH)).await?;
            for (at, record) in part.iter().enumerate() {
                if !entries.get(at).is_some_and(|entry| record::raw(record).as_ref() == Some(entry)) {
                    return Err(Error::Differs(record::number(record)));
                }
            }
            through = entries.last().map_or(through, |entry| entry.number);
        }
        Ok(())
    }

    /// Lets closed segments go that are older than entries are kept, and removes what was let go.
    async fn retain(&mut self) -> Result<(), Error> {
        let reading = File::open(self.directory.join(READING))?;
        match reading.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                self.retained = None;
                return Ok(());
            }
            Err(TryLockError::Error(cause)) => return Err(cause.into()),
        }
        if let Some(kept) = self.options.retention {
            self.let_go(kept).await?;
        }
        let Some(cut) = db::audit::cut(&self.db).await?.filter(|cut| cut.entry <= self.through()) else {
            return Ok(());
        };
        loop {
            let mut tx = self.db.begin().await?;
            let removed = db::audit::remove(&mut tx, cut.through, REMOVED_AT_ONCE).await?;
            tx.commit().await?;
            if removed < u64::from(REMOVED_AT_ONCE) {
                break;
            }
        }
        fail::fail_point!("audit.rows.removed");
        self.with_files(move |files| files.remove(unsigned(cut.through))).await
    }

    /// Says in the log which entries go, with the root at the place from which on they stay, and seals that.
    async fn let_go(&mut self, kept: Duration) -> Result<(), Error> {
        let now = (self.options.now)();
        let until = now.checked_sub(kept).unwrap_or(Timestamp::MIN).as_nanosecond();
        let until = i64::try_from(until).unwrap_or(i64::MIN);
        let found = self.with_files(move |files| {
            let Some((first, stays)) = files.older_than(until)? else { return Ok(None) };
            Ok(Some((first, stays, merkle::root(files.tree(), stays.leaf)?)))
        });
        let Some((first, stays, root)) = found.await? else { return Ok(()) };
        let through = stays.number - 1;
        if db::audit::cut(&self.db).await?.is_some_and(|cut| unsigned(cut.through) >= through) {
            return Ok(());
        }
        let mut entry = Entry::new(Actor::system(), CUT, "audit");
        entry.at = now;
        entry.detail = serde_json::json!({
            "from": first, "through": through, "size": stays.leaf, "root": STANDARD.encode(root),
        });
        let mut tx = self.db.begin().await?;
        let number = db::audit::append(&mut tx, &entry.row()).await?;
        let through = i64::try_from(through).unwrap_or(i64::MAX);
        db::audit::set_cut(&mut tx, Cut { through, entry: number }).await?;
        tx.commit().await?;
        fail::fail_point!("audit.cut.committed");
        self.seal().await
    }

    fn through(&self) -> i64 {
        self.files.as_ref().map_or(0, |files| files.state().through)
    }

    /// Works on the files where that may block.
    async fn with_files<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Files) -> Result<T, files::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut files = self.files.take().ok_or(Error::Ended)?;
        let (files, done) = blocking(move || {
            let done = work(&mut files);
            Ok((files, done))
        })
        .await?;
        self.files = Some(files);
        Ok(done?)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ended)?
}

/// The action of the entry that says what retention removed.
pub const CUT: &str = "audit.cut";
/// At most one checkpoint in this time.
const PACE: Duration = Duration::from_secs(1);
/// How long entries of other processes wait at most.
const ELSEWHERE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(10);
const RETENTION_PAUSE: Duration = Duration::from_secs(3600);
const BATCH: u32 = 4096;
const REMOVED_AT_ONCE: u32 = 4096;
