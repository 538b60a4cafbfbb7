//! Bringing the write-ahead log into the database file beside the commits, not within one of them.
//!
//! SQLite does this by itself in the commit that makes the log longer than some pages: that caller then waits for a write
//! and an fsync of all that changed since (<https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files>). Here
//! a connection of its own does it, while others commit. The log begins anew only where nothing is left in it, which under
//! load never happens by chance: where it is long, writers wait once for the little that is left.

use std::time::Duration;

use sqlx::{Row as _, SqlitePool};

use crate::{Db, Error};

impl Db {
    /// Keeps the log short until `stop`, however much is committed. From now on this process's commits do it themselves
    /// only where the log has grown far longer than this leaves it.
    pub async fn run_checkpoints(&self, stop: impl Future<Output = ()>) {
        let run = async {
            if let Err(cause) = self.set_automatic(FALLBACK).await {
                tracing::warn!(%cause, "commits bring the log of the database into it themselves");
                return;
            }
            loop {
                self.told.committed.notified().await;
                tokio::time::sleep(PAUSE).await;
                if let Err(cause) = self.checkpoint().await {
                    tracing::warn!(%cause, "the log of the database could not be brought into it");
                }
            }
        };
        tokio::select! {
            () = run => {}
            () = stop => {}
        }
    }

    async fn set_automatic(&self, pages: u32) -> Result<(), Error> {
        let mut writer = self.writer.acquire().await?;
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA wal_autocheckpoint = {pages}"))).execute(&mut *writer).await?;
        Ok(())
    }

    async fn checkpoint(&self) -> Result<(), Error> {
        if passive(&self.checkpointer).await? < LONG {
            return Ok(());
        }
        // Nobody writes while this stands, so that all of the log is brought in, and the next writer begins it anew.
        let tx = self.begin().await?;
        passive(&self.checkpointer).await?;
        tx.inner.rollback().await?;
        Ok(())
    }
}

/// Brings in what no reader keeps it from; the length of the log, in pages.
async fn passive(pool: &SqlitePool) -> Result<i64, Error> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(pool).await?;
    Ok(row.try_get(1)?)
}

/// Between a commit and the checkpoint that follows it; commits meanwhile share it.
const PAUSE: Duration = Duration::from_millis(250);
/// Pages from which the log is begun anew: 32 MiB.
const LONG: i64 = 8192;
/// Pages from which a commit does it after all: 256 MiB.
const FALLBACK: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits of 64 KiB each, one behind the other; the longest that the log was, in bytes.
    async fn longest_log(db: &Db, path: &std::path::Path, commits: u32) -> u64 {
        let mut longest = 0;
        for number in 0..commits {
            let mut tx = db.begin().await.expect("done");
            sqlx::query("INSERT INTO filler (number, bytes) VALUES (?, zeroblob(65536))")
                .bind(number)
                .execute(tx.connection())
                .await
                .expect("done");
            tx.commit().await.expect("done");
            longest = longest.max(std::fs::metadata(path).expect("done").len());
        }
        longest
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_log_stays_short_under_commits_without_a_pause_and_nothing_is_lost() {
        let dir = tempfile::tempdir().expect("done");
        let file = dir.path().join("casemate.sqlite");
        let log = dir.path().join("casemate.sqlite-wal");
        let db = Db::open(&file).await.expect("done");
        sqlx::query("CREATE TABLE filler (number INTEGER PRIMARY KEY, bytes BLOB) STRICT")
            .execute(&db.writer)
            .await
            .expect("done");
        db.set_automatic(0).await.expect("done");
        let without = longest_log(&db, &log, 2000).await;
        assert!(without > 120 << 20, "nothing else keeps it short: {without}");
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&db.writer).await.expect("done");
        sqlx::query("DELETE FROM filler").execute(&db.writer).await.expect("done");
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&db.writer).await.expect("done");

        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn({
            let db = db.clone();
            async move { db.run_checkpoints(async { drop(ended.await) }).await }
        });
        tokio::task::yield_now().await;
        let with = longest_log(&db, &log, 6000).await;
        assert!(with < 192 << 20, "{with}");
        drop(end);
        running.await.expect("done");
        db.close().await;
        let db = Db::open(&file).await.expect("done");
        let rows: i64 = sqlx::query("SELECT COUNT(*) FROM filler")
            .fetch_one(db.readers())
            .await
            .expect("done")
            .try_get(0)
            .expect("done");
        assert_eq!(rows, 6000);
    }
}
