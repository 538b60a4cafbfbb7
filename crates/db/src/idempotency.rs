//! Keys that clients name their submits by.

use jiff::Timestamp;
use model::{JobId, ProjectId};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse};

/// What was submitted by a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The job.
    pub job: JobId,
    /// SHA-256 of what was asked for.
    pub digest: Vec<u8>,
}

/// What was submitted by a key of a project since a time.
pub async fn find(db: &Db, project: &ProjectId, key: &str, since: Timestamp) -> Result<Option<Submitted>, Error> {
    let row = sqlx::query("SELECT job, digest FROM idempotency_keys WHERE project = ? AND key = ? AND created > ?")
        .bind(project.as_str())
        .bind(key)
        .bind(micros(since))
        .fetch_optional(db.readers())
        .await?;
    row.as_ref().map(submitted).transpose()
}

/// The same, as this transaction sees it.
pub async fn find_in(
    tx: &mut Tx,
    project: &ProjectId,
    key: &str,
    since: Timestamp,
) -> Result<Option<Submitted>, Error> {
    let row = sqlx::query("SELECT job, digest FROM idempotency_keys WHERE project = ? AND key = ? AND created > ?")
        .bind(project.as_str())
        .bind(key)
        .bind(micros(since))
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(submitted).transpose()
}

/// Keeps a key with its job; replaces one of the same name whose time is over.
pub async fn insert(
    tx: &mut Tx,
    project: &ProjectId,
    key: &str,
    submitted: &Submitted,
    at: Timestamp,
) -> Result<(), Error> {
    sqlx::query("INSERT OR REPLACE INTO idempotency_keys (project, key, digest, job, created) VALUES (?, ?, ?, ?, ?)")
        .bind(project.as_str())
        .bind(key)
        .bind(&submitted.digest)
        .bind(submitted.job.to_string())
        .bind(micros(at))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Removes keys that are older than `before`, at most `limit`.
pub async fn remove_older(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM idempotency_keys WHERE (project, key) IN (
             SELECT project, key FROM idempotency_keys WHERE created <= ? ORDER BY created LIMIT ?
         )",
    )
    .bind(micros(before))
    .bind(i64::from(limit))
    .execute(tx.connection())
    .await?;
    Ok(())
}

fn submitted(row: &SqliteRow) -> Result<Submitted, Error> {
    Ok(Submitted { job: parse("idempotency_keys.job", row.try_get("job")?)?, digest: row.try_get("digest")? })
}
