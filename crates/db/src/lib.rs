//! The only room with SQL: migrations, transactions, one file a resource with whole statements.
//! Knows rows; knows neither HTTP nor the rules of jobs. Start at [`Db::open`].
//!
//! SQLite in WAL mode with `synchronous=FULL`: what was committed survives a power loss. One connection writes
//! ([`Db::begin`], `BEGIN IMMEDIATE`), a few others read what was committed, so that readers never wait for a writer.

pub mod accounts;
pub mod audit;
pub mod billing;
pub mod contacts;
pub mod credentials;
pub mod engines;
pub mod iam;
pub mod idempotency;
pub mod ip_restrictions;
pub mod jobs;
pub mod live;
pub mod notifications;
pub mod oauth2;
pub mod oidc;
pub mod people;
pub mod project_users;
pub mod quotas;
mod readers;
pub mod s3_keys;
pub mod saml;
pub mod schedules;
pub mod second_factors;
pub mod sessions;
pub mod sso;
pub mod temporary_keys;
pub mod user_tokens;
mod wal;
pub mod webauthn;

use std::{path::Path, sync::Arc, time::Duration};

use readers::Readers;
use sqlx::{
    Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Notify;

/// The database; a cheap handle.
#[derive(Debug, Clone)]
pub struct Db {
    writer: SqlitePool,
    readers: Readers,
    /// For what brings the log into the file.
    checkpointer: SqlitePool,
    told: Arc<Told>,
}

/// Who is told of commits.
#[derive(Debug, Default)]
struct Told {
    /// After each.
    committed: Notify,
    /// After each with audit entries.
    audited: Notify,
}

impl Told {
    /// Tells of a commit.
    fn commit(&self, has_entries: bool) {
        self.committed.notify_one();
        if has_entries {
            self.audited.notify_one();
        }
    }
}

impl Db {
    /// Opens the database file at `path`, makes it if there is none, and brings it to the newest schema.
    pub async fn open(path: &Path) -> Result<Db, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What a long reader made the log grow to is given back once it can begin anew.
            .pragma("journal_size_limit", "67108864")
            .busy_timeout(BUSY);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            // It is a thread of this process: there is nothing to test before each use.
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await?;
        sqlx::migrate!("./migrations").run(&writer).await?;
        let readers = Readers::open(options.clone().pragma("query_only", "ON")).await?;
        let checkpointer = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        Ok(Db { writer, readers, checkpointer, told: Arc::default() })
    }

    /// Begins the one write transaction; waits until it is this caller's turn. Dropped without
    /// [`Tx::commit`], it leaves no trace.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let inner = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Tx { inner, has_entries: false, told: Arc::clone(&self.told) })
    }

    /// Resolves when audit entries were committed by this process since it last resolved. For one who waits.
    pub async fn audit_written(&self) {
        self.told.audited.notified().await;
    }

    /// Closes all connections, after those that are in use.
    pub async fn close(&self) {
        self.readers.close().await;
        self.checkpointer.close().await;
        self.writer.close().await;
    }

    /// The connection for writing, for a statement that is a transaction by itself.
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Tells who waits that audit entries were committed.
    pub(crate) fn has_entries(&self) {
        self.told.commit(true);
    }

    /// The connections for reading, for the resource files of this crate.
    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }
}

/// A write transaction, passed down as a value.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Sqlite>,
    /// Whether it holds audit entries.
    has_entries: bool,
    told: Arc<Told>,
}

impl Tx {
    /// Makes it durable.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.commit().await?;
        self.told.commit(self.has_entries);
        Ok(())
    }

    /// For `audit`: it holds entries now.
    pub(crate) fn holds_entries(&mut self) {
        self.has_entries = true;
    }

    /// The connection, for the resource files of this crate.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }
}

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("the database failed")]
    Sql(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored value is not what its column means.
    #[error("column {column} holds a value that it cannot hold")]
    Damaged {
        /// The column.
        column: &'static str,
    },
}

impl Error {
    /// Whether a row with the same unique value is already there.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Error::Sql(sqlx::Error::Database(cause)) if cause.is_unique_violation())
    }

    /// Whether a row that it points at is not there.
    pub fn is_dangling(&self) -> bool {
        matches!(self, Error::Sql(sqlx::Error::Database(cause)) if cause.is_foreign_key_violation())
    }
}

/// A time as the columns of [`accounts`] and [`credentials`] hold it.
pub(crate) fn micros(at: jiff::Timestamp) -> i64 {
    at.as_microsecond()
}

/// The time that such a column holds.
pub(crate) fn time(column: &'static str, micros: i64) -> Result<jiff::Timestamp, Error> {
    jiff::Timestamp::from_microsecond(micros).map_err(|_| Error::Damaged { column })
}

/// Texts as one value, for `IN (SELECT value FROM json_each(?))`.
pub(crate) fn json_list(texts: &[&str]) -> String {
    serde_json::Value::from(texts).to_string()
}

/// The number that a column holds, as a type that may be narrower.
pub(crate) fn number<T: TryFrom<i64>>(column: &'static str, stored: i64) -> Result<T, Error> {
    T::try_from(stored).map_err(|_| Error::Damaged { column })
}

/// A text column that parses to an id.
pub(crate) fn parse<T: std::str::FromStr>(column: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::Damaged { column })
}

/// Another process (an operator's command) may hold the write lock for a moment.
const BUSY: Duration = Duration::from_secs(10);
const ACQUIRE: Duration = Duration::from_secs(30);
