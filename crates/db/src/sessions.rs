//! Sessions of the console.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: i64,
    /// The account.
    pub account: AccountId,
    /// The number of the user; `None`: one that a provider vouched for.
    pub person: Option<i64>,
    /// What the provider calls it.
    pub federated: Option<String>,
    /// A JSON list of its groups, of one that a provider vouched for.
    pub groups: Option<String>,
    /// By what it proved itself beside a password, in the audit log's word.
    pub factor: String,
    /// From where it was opened.
    pub source_ip: Option<String>,
    /// By which program.
    pub user_agent: String,
    /// When it was opened.
    pub created: Timestamp,
    /// When it was last used, to within the batch of its writing.
    pub last_use: Timestamp,
    /// When it ends in any case.
    pub expires: Timestamp,
}

/// Adds a session by the hash of its secret; its `id` is ignored, the new one is the answer.
pub async fn insert(tx: &mut Tx, session: &Session, hash: &[u8]) -> Result<i64, Error> {
    let done = sqlx::query(
        "INSERT INTO sessions
         (hash, account, person, federated, groups, factor, source_ip, user_agent, created, last_use, expires)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(hash)
    .bind(session.account.as_str())
    .bind(session.person)
    .bind(&session.federated)
    .bind(&session.groups)
    .bind(&session.factor)
    .bind(&session.source_ip)
    .bind(&session.user_agent)
    .bind(micros(session.created))
    .bind(micros(session.last_use))
    .bind(micros(session.expires))
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// The session whose secret has that hash.
pub async fn find(db: &Db, hash: &[u8]) -> Result<Option<Session>, Error> {
    let row = sqlx::query(
        "SELECT id, account, person, federated, groups, factor, source_ip, user_agent, created, last_use, expires
         FROM sessions WHERE hash = ?",
    )
    .bind(hash)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(session).transpose()
}

/// The session of that number.
pub async fn find_by_id(db: &Db, id: i64) -> Result<Option<Session>, Error> {
    let row = sqlx::query(
        "SELECT id, account, person, federated, groups, factor, source_ip, user_agent, created, last_use, expires
         FROM sessions WHERE id = ?",
    )
    .bind(id)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(session).transpose()
}

/// The sessions of an account, oldest first; those that ended by their time and were not yet removed too.
pub async fn list(db: &Db, account: &AccountId) -> Result<Vec<Session>, Error> {
    let rows = sqlx::query(
        "SELECT id, account, person, federated, groups, factor, source_ip, user_agent, created, last_use, expires
         FROM sessions WHERE account = ? ORDER BY id",
    )
    .bind(account.as_str())
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(session).collect()
}

/// Removes a session; whether it was there.
pub async fn delete(tx: &mut Tx, id: i64) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM sessions WHERE id = ?").bind(id).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the sessions of a user; their numbers.
pub async fn delete_of_person(tx: &mut Tx, person: i64) -> Result<Vec<i64>, Error> {
    let rows = sqlx::query("DELETE FROM sessions WHERE person = ? RETURNING id")
        .bind(person)
        .fetch_all(tx.connection())
        .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Removes the sessions of all of an account for whom a provider vouched; their numbers.
pub async fn delete_federated(tx: &mut Tx, account: &AccountId) -> Result<Vec<i64>, Error> {
    let rows = sqlx::query("DELETE FROM sessions WHERE account = ? AND federated IS NOT NULL RETURNING id")
        .bind(account.as_str())
        .fetch_all(tx.connection())
        .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Removes the oldest sessions of the holder of `session`, so that at most `keep` remain; their numbers.
pub async fn delete_oldest(tx: &mut Tx, session: &Session, keep: i64) -> Result<Vec<i64>, Error> {
    let rows = sqlx::query(
        "DELETE FROM sessions WHERE account = ?1 AND person IS ?2 AND federated IS ?3 AND id NOT IN
         (SELECT id FROM sessions WHERE account = ?1 AND person IS ?2 AND federated IS ?3 ORDER BY id DESC LIMIT ?4)
         RETURNING id",
    )
    .bind(session.account.as_str())
    .bind(session.person)
    .bind(&session.federated)
    .bind(keep)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Removes the sessions that ended by `now`, or were last used by `idle_since`; how many there were.
pub async fn delete_expired(tx: &mut Tx, now: Timestamp, idle_since: Timestamp) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM sessions WHERE expires <= ? OR last_use <= ?")
        .bind(micros(now))
        .bind(micros(idle_since))
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}

/// Writes when sessions were last used.
pub async fn touch(tx: &mut Tx, uses: &[(i64, Timestamp)]) -> Result<(), Error> {
    for (id, at) in uses {
        sqlx::query("UPDATE sessions SET last_use = max(last_use, ?) WHERE id = ?")
            .bind(micros(*at))
            .bind(id)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

fn session(row: &SqliteRow) -> Result<Session, Error> {
    Ok(Session {
        id: row.try_get("id")?,
        account: parse("sessions.account", row.try_get("account")?)?,
        person: row.try_get("person")?,
        federated: row.try_get("federated")?,
        groups: row.try_get("groups")?,
        factor: row.try_get("factor")?,
        source_ip: row.try_get("source_ip")?,
        user_agent: row.try_get("user_agent")?,
        created: time("sessions.created", row.try_get("created")?)?,
        last_use: time("sessions.last_use", row.try_get("last_use")?)?,
        expires: time("sessions.expires", row.try_get("expires")?)?,
    })
}
