//! Versions of engines that were withdrawn. What follows from that is not decided here.

use model::{EngineVersion, JobId, Withdrawal};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// All that are withdrawn, by version.
pub async fn withdrawals(db: &Db) -> Result<Vec<Withdrawal>, Error> {
    let rows = sqlx::query("SELECT version, reason, at FROM engine_withdrawals ORDER BY version")
        .fetch_all(db.readers())
        .await?;
    rows.iter().map(withdrawal).collect()
}

/// The withdrawal of a version, as this transaction sees it.
pub async fn withdrawal_in(tx: &mut Tx, version: &EngineVersion) -> Result<Option<Withdrawal>, Error> {
    let row = sqlx::query("SELECT version, reason, at FROM engine_withdrawals WHERE version = ?")
        .bind(version.as_str())
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(withdrawal).transpose()
}

/// Withdraws a version; [`Error::is_duplicate`] where it is withdrawn.
pub async fn withdraw(tx: &mut Tx, withdrawal: &Withdrawal) -> Result<(), Error> {
    sqlx::query("INSERT INTO engine_withdrawals (version, reason, at) VALUES (?, ?, ?)")
        .bind(withdrawal.version.as_str())
        .bind(&withdrawal.reason)
        .bind(micros(withdrawal.at))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Takes a withdrawal back; whether there was one.
pub async fn restore(tx: &mut Tx, version: &EngineVersion) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM engine_withdrawals WHERE version = ?")
        .bind(version.as_str())
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Jobs that wait and ask for a version that is withdrawn, at most `limit`.
pub async fn waiting_on_withdrawn(db: &Db, limit: u32) -> Result<Vec<JobId>, Error> {
    let rows = sqlx::query(
        "SELECT jobs.id FROM engine_withdrawals CROSS JOIN jobs
         WHERE jobs.version = engine_withdrawals.version AND jobs.status = 'PENDING' LIMIT ?",
    )
    .bind(i64::from(limit))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(|row| parse("jobs.id", row.try_get("id")?)).collect()
}

fn withdrawal(row: &SqliteRow) -> Result<Withdrawal, Error> {
    Ok(Withdrawal {
        version: parse("engine_withdrawals.version", row.try_get("version")?)?,
        reason: row.try_get("reason")?,
        at: time("engine_withdrawals.at", row.try_get("at")?)?,
    })
}
