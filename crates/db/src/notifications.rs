//! Mailboxes of accounts.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, time};

/// What an account was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its number.
    pub id: i64,
    /// What it is about.
    pub subject: String,
    /// Its text, sealed.
    pub sealed_body: Vec<u8>,
    /// When it was written.
    pub created: Timestamp,
}

/// Adds one with no text yet, which [`set_body`] gives it; its number. The oldest beyond `most` of the account are gone.
pub async fn insert(
    tx: &mut Tx,
    account: &AccountId,
    subject: &str,
    created: Timestamp,
    most: i64,
) -> Result<i64, Error> {
    let done = sqlx::query("INSERT INTO notifications (account, subject, body, created) VALUES (?, ?, x'', ?)")
        .bind(account.as_str())
        .bind(subject)
        .bind(micros(created))
        .execute(tx.connection())
        .await?;
    sqlx::query(
        "DELETE FROM notifications WHERE account = ?1 AND id <=
         (SELECT id FROM notifications WHERE account = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(account.as_str())
    .bind(most)
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// Gives one its sealed text.
pub async fn set_body(tx: &mut Tx, id: i64, sealed: &[u8]) -> Result<(), Error> {
    sqlx::query("UPDATE notifications SET body = ? WHERE id = ?")
        .bind(sealed)
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Numbers of those of an account, oldest first.
pub async fn list(db: &Db, account: &AccountId) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT id FROM notifications WHERE account = ? ORDER BY id")
        .bind(account.as_str())
        .fetch_all(db.readers())
        .await?)
}

/// One of an account.
pub async fn find(db: &Db, account: &AccountId, id: i64) -> Result<Option<Notification>, Error> {
    let row = sqlx::query("SELECT id, subject, body, created FROM notifications WHERE account = ? AND id = ?")
        .bind(account.as_str())
        .bind(id)
        .fetch_optional(db.readers())
        .await?;
    row.as_ref().map(notification).transpose()
}

fn notification(row: &SqliteRow) -> Result<Notification, Error> {
    Ok(Notification {
        id: row.try_get("id")?,
        subject: row.try_get("subject")?,
        sealed_body: row.try_get("body")?,
        created: time("notifications.created", row.try_get("created")?)?,
    })
}
