//! What users of an account prove themselves by beside their password: TOTP and backup codes.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, time};

/// A generator of one-time codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totp {
    /// Its number.
    pub id: i64,
    /// The user.
    pub person: i64,
    /// What it is.
    pub description: String,
    /// Its secret, sealed.
    pub sealed_secret: Vec<u8>,
    /// `needCodeValidation`, `enabled` or `disabled`.
    pub status: String,
    /// When it was made.
    pub created: Timestamp,
    /// When a code of it was last used.
    pub last_use: Option<Timestamp>,
}

/// The backup codes of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupCodes {
    /// `needCodeValidation`, `enabled` or `disabled`.
    pub status: String,
    /// How many are left.
    pub remaining: i64,
    /// When they were made.
    pub created: Timestamp,
    /// When one was last used.
    pub last_use: Option<Timestamp>,
}

/// Whether each user of an account needs a second factor to log in.
pub async fn is_required(db: &Db, account: &AccountId) -> Result<bool, Error> {
    let found: Option<bool> = sqlx::query_scalar("SELECT second_factor FROM accounts WHERE id = ?")
        .bind(account.as_str())
        .fetch_optional(db.readers())
        .await?;
    Ok(found.unwrap_or(false))
}

/// Sets whether each user of an account needs a second factor to log in; whether there is such an account.
pub async fn set_required(tx: &mut Tx, account: &AccountId, required: bool) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE accounts SET second_factor = ? WHERE id = ?")
        .bind(required)
        .bind(account.as_str())
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Adds a generator; its `id` is ignored, the new one is the answer.
pub async fn insert_totp(tx: &mut Tx, totp: &Totp) -> Result<i64, Error> {
    let done = sqlx::query(
        "INSERT INTO totps (person, description, secret, status, last_step, created) VALUES (?, ?, ?, ?, 0, ?)",
    )
    .bind(totp.person)
    .bind(&totp.description)
    .bind(&totp.sealed_secret)
    .bind(&totp.status)
    .bind(micros(totp.created))
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// The generators of a user, oldest first.
pub async fn totps(db: &Db, person: i64) -> Result<Vec<Totp>, Error> {
    totps_of(db.readers(), person).await
}

/// The generators of a user, oldest first, as this transaction sees them.
pub async fn totps_in(tx: &mut Tx, person: i64) -> Result<Vec<Totp>, Error> {
    totps_of(tx.connection(), person).await
}

async fn totps_of(executor: impl SqliteExecutor<'_>, person: i64) -> Result<Vec<Totp>, Error> {
    let rows = sqlx::query(
        "SELECT id, person, description, secret, status, created, last_use FROM totps WHERE person = ? ORDER BY id",
    )
    .bind(person)
    .fetch_all(executor)
    .await?;
    rows.iter().map(totp).collect()
}

/// Uses up the code of a time step, and all of before; whether it was good still.
pub async fn use_totp(tx: &mut Tx, id: i64, step: i64, now: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE totps SET last_step = ?1, last_use = ?2 WHERE id = ?3 AND last_step < ?1")
        .bind(step)
        .bind(micros(now))
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Writes status and description of a generator.
pub async fn update_totp(tx: &mut Tx, totp: &Totp) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE totps SET status = ?, description = ? WHERE id = ?")
        .bind(&totp.status)
        .bind(&totp.description)
        .bind(totp.id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a generator; whether it was there.
pub async fn delete_totp(tx: &mut Tx, id: i64) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM totps WHERE id = ?").bind(id).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Gives a user new backup codes, by their hashes; those of before are gone.
pub async fn replace_backup_codes(tx: &mut Tx, person: i64, hashes: &[Vec<u8>], now: Timestamp) -> Result<(), Error> {
    delete_backup_codes(tx, person).await?;
    sqlx::query("INSERT INTO backup_code_sets (person, status, created) VALUES (?, 'needCodeValidation', ?)")
        .bind(person)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    for hash in hashes {
        sqlx::query("INSERT INTO backup_codes (hash, person) VALUES (?, ?)")
            .bind(hash)
            .bind(person)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// The backup codes of a user; `None` if it was given none.
pub async fn backup_codes(db: &Db, person: i64) -> Result<Option<BackupCodes>, Error> {
    backup_codes_of(db.readers(), person).await
}

/// The backup codes of a user, as this transaction sees them.
pub async fn backup_codes_in(tx: &mut Tx, person: i64) -> Result<Option<BackupCodes>, Error> {
    backup_codes_of(tx.connection(), person).await
}

async fn backup_codes_of(executor: impl SqliteExecutor<'_>, person: i64) -> Result<Option<BackupCodes>, Error> {
    let row = sqlx::query(
        "SELECT s.status, s.created, s.last_use, (SELECT COUNT(*) FROM backup_codes c WHERE c.person = s.person) AS remaining
         FROM backup_code_sets s WHERE s.person = ?",
    )
    .bind(person)
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(BackupCodes {
        status: row.try_get("status")?,
        remaining: row.try_get("remaining")?,
        created: time("backup_code_sets.created", row.try_get("created")?)?,
        last_use: last_use(&row, "backup_code_sets.last_use")?,
    }))
}

/// Uses up a backup code of a user; whether it was there.
pub async fn use_backup_code(tx: &mut Tx, person: i64, hash: &[u8], now: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM backup_codes WHERE person = ? AND hash = ?")
        .bind(person)
        .bind(hash)
        .execute(tx.connection())
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE backup_code_sets SET last_use = ? WHERE person = ?")
        .bind(micros(now))
        .bind(person)
        .execute(tx.connection())
        .await?;
    Ok(true)
}

/// Sets the status of the backup codes of a user; whether it has any.
pub async fn set_backup_status(tx: &mut Tx, person: i64, status: &str) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE backup_code_sets SET status = ? WHERE person = ?")
        .bind(status)
        .bind(person)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the backup codes of a user; whether it had any.
pub async fn delete_backup_codes(tx: &mut Tx, person: i64) -> Result<bool, Error> {
    let done =
        sqlx::query("DELETE FROM backup_code_sets WHERE person = ?").bind(person).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

fn totp(row: &SqliteRow) -> Result<Totp, Error> {
    Ok(Totp {
        id: row.try_get("id")?,
        person: row.try_get("person")?,
        description: row.try_get("description")?,
        sealed_secret: row.try_get("secret")?,
        status: row.try_get("status")?,
        created: time("totps.created", row.try_get("created")?)?,
        last_use: last_use(row, "totps.last_use")?,
    })
}

pub(crate) fn last_use(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, Error> {
    let micros: Option<i64> = row.try_get("last_use")?;
    micros.map(|micros| time(column, micros)).transpose()
}
