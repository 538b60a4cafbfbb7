//! From where an account is reached.

use model::AccountId;
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{Db, Error, Tx};

/// What is said of an address block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// Its number.
    pub id: i64,
    /// The block; `None`: all addresses that no other one of the account is about.
    pub block: Option<String>,
    /// `accept` or `deny`.
    pub rule: String,
    /// Whether its use is told.
    pub warning: bool,
}

/// All of an account, by number.
pub async fn list(db: &Db, account: &AccountId) -> Result<Vec<Restriction>, Error> {
    of(db.readers(), account).await
}

/// All of an account, by number, as this transaction sees them.
pub async fn list_in(tx: &mut Tx, account: &AccountId) -> Result<Vec<Restriction>, Error> {
    of(tx.connection(), account).await
}

async fn of(executor: impl SqliteExecutor<'_>, account: &AccountId) -> Result<Vec<Restriction>, Error> {
    let rows = sqlx::query("SELECT id, block, rule, warning FROM ip_restrictions WHERE account = ? ORDER BY id")
        .bind(account.as_str())
        .fetch_all(executor)
        .await?;
    rows.iter().map(restriction).collect()
}

/// Adds one; its `id` is ignored, the new one is the answer.
pub async fn insert(tx: &mut Tx, account: &AccountId, restriction: &Restriction) -> Result<i64, Error> {
    let done = sqlx::query("INSERT INTO ip_restrictions (account, block, rule, warning) VALUES (?, ?, ?, ?)")
        .bind(account.as_str())
        .bind(&restriction.block)
        .bind(&restriction.rule)
        .bind(restriction.warning)
        .execute(tx.connection())
        .await?;
    Ok(done.last_insert_rowid())
}

/// Writes rule and warning of one of an account; whether it was there.
pub async fn update(tx: &mut Tx, account: &AccountId, restriction: &Restriction) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE ip_restrictions SET rule = ?, warning = ? WHERE account = ? AND id = ?")
        .bind(&restriction.rule)
        .bind(restriction.warning)
        .bind(account.as_str())
        .bind(restriction.id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes one of an account; whether it was there.
pub async fn delete(tx: &mut Tx, account: &AccountId, id: i64) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM ip_restrictions WHERE account = ? AND id = ?")
        .bind(account.as_str())
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes all of an account; how many there were.
pub async fn delete_all(tx: &mut Tx, account: &AccountId) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM ip_restrictions WHERE account = ?")
        .bind(account.as_str())
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}

fn restriction(row: &SqliteRow) -> Result<Restriction, Error> {
    Ok(Restriction {
        id: row.try_get("id")?,
        block: row.try_get("block")?,
        rule: row.try_get("rule")?,
        warning: row.try_get("warning")?,
    })
}
