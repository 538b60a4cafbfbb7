//! The connections that read. A pool of sqlx asks a connection whether it is there before and after each statement, which
//! for SQLite, whose connections are threads of this process, makes three waits and wake-ups of one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    ConnectOptions as _, Connection as _, Describe, Either, Error, Execute, Executor, SqlStr, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A few connections; a cheap handle. Each statement has one for itself; a caller waits until one is free.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: SqliteConnectOptions,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<SqliteConnection>>,
}

/// A connection for one statement.
struct Lent {
    /// There until it is dropped.
    connection: Option<SqliteConnection>,
    readers: Readers,
    _place: OwnedSemaphorePermit,
}

impl Readers {
    /// Opens one connection; the others when they are needed.
    pub(crate) async fn open(options: SqliteConnectOptions) -> Result<Readers, Error> {
        let first = options.connect().await?;
        let inner = Inner { options, places: Arc::new(Semaphore::new(MOST)), idle: Mutex::new(vec![first]) };
        Ok(Readers { inner: Arc::new(inner) })
    }

    /// Closes all, after those that are in use.
    pub(crate) async fn close(&self) {
        // As many places as there are: nobody has one, and nobody gets one after.
        let all = self.inner.places.acquire_many(u32::try_from(MOST).unwrap_or(u32::MAX)).await;
        self.inner.places.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            if let Err(cause) = connection.close().await {
                tracing::warn!(%cause, "a connection to the database was not closed well");
            }
        }
    }

    async fn lend(&self) -> Result<Lent, Error> {
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.inner.places).acquire_owned()).await;
        let place = place.map_err(|_| Error::PoolTimedOut)?.map_err(|_| Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.inner.options.connect().await?,
        };
        Ok(Lent { connection: Some(connection), readers: self.clone(), _place: place })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.connection.as_mut().ok_or(Error::WorkerCrashed)
    }

    /// What a statement has come to. A connection whose thread has died is not lent again.
    fn done<T>(mut self, result: Result<T, Error>) -> Result<T, Error> {
        if matches!(result, Err(Error::WorkerCrashed)) {
            self.connection = None;
        }
        result
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A statement whose caller went away before its end is reset by the thread of the connection, before the next.
        if let Some(connection) = self.connection.take() {
            self.readers.idle().push(connection);
        }
    }
}

impl<'c> Executor<'c> for &'_ Readers {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let readers = self.clone();
        // All at once, so that the connection is free while the caller looks at them: who reads much asks for pages.
        let rows = async move {
            let mut lent = readers.lend().await?;
            let rows: Result<Vec<_>, Error> = lent.connection()?.fetch_many(query).try_collect().await;
            lent.done(rows)
        };
        rows.map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<SqliteRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let readers = self.clone();
        Box::pin(async move {
            let mut lent = readers.lend().await?;
            let row = lent.connection()?.fetch_optional(query).await;
            lent.done(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<SqliteStatement, Error>>
    where
        'c: 'e,
    {
        let readers = self.clone();
        Box::pin(async move {
            let mut lent = readers.lend().await?;
            let statement = lent.connection()?.prepare_with(sql, parameters).await;
            lent.done(statement)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Sqlite>, Error>>
    where
        'c: 'e,
    {
        let readers = self.clone();
        Box::pin(async move {
            let mut lent = readers.lend().await?;
            let described = lent.connection()?.describe(sql).await;
            lent.done(described)
        })
    }
}

const MOST: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_statement_whose_caller_goes_away_leaves_a_connection_that_reads_on() {
        let readers = Readers::open(SqliteConnectOptions::new().in_memory(true)).await.expect("a connection");
        let endless =
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n";
        for _ in 0..4 * MOST {
            let mut rows = std::pin::pin!(sqlx::query(endless).fetch_all(&readers));
            let began = futures::poll!(rows.as_mut());
            assert!(began.is_pending());
        }
        let all = (0..100).map(|number: i64| {
            let readers = readers.clone();
            tokio::spawn(async move { sqlx::query_scalar::<_, i64>("SELECT ?").bind(number).fetch_one(&readers).await })
        });
        for (number, one) in (0..).zip(all.collect::<Vec<_>>()) {
            assert_eq!(one.await.expect("ended").expect("a number"), number);
        }
        let free = readers.idle().len();
        assert!((1..=MOST).contains(&free), "{free}");
    }

    #[tokio::test]
    async fn after_the_close_nothing_is_read() {
        let readers = Readers::open(SqliteConnectOptions::new().in_memory(true)).await.expect("a connection");
        readers.close().await;
        let refused = sqlx::query("SELECT 1").fetch_one(&readers).await;
        assert!(matches!(refused, Err(Error::PoolClosed)), "{refused:?}");
        readers.close().await;
    }
}
