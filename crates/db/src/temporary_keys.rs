//! S3 access keys that end by themselves.

use jiff::Timestamp;
use sqlx::Row as _;

use crate::{
    Db, Error, Tx, micros,
    s3_keys::{Holder, S3Key, holder, key},
    time,
};

/// A temporary key. Whose it is and what it is good for, its parent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryKey {
    /// Its public half.
    pub access: String,
    /// The access key that it was made by.
    pub parent: String,
    /// Name of the role and of the session, where it is of a role.
    pub role: Option<(String, String)>,
    /// Policies, all of which must allow: a JSON list of texts.
    pub policies: String,
    /// Its secret half, sealed.
    pub sealed_secret: Vec<u8>,
    /// What it must be sent with, sealed.
    pub sealed_token: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// Adds a temporary key.
pub async fn insert(tx: &mut Tx, key: &TemporaryKey) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO s3_temporary_keys (access, parent, role, session, policies, secret, token, created, expires)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&key.access)
    .bind(&key.parent)
    .bind(key.role.as_ref().map(|(role, _)| role))
    .bind(key.role.as_ref().map(|(_, session)| session))
    .bind(&key.policies)
    .bind(&key.sealed_secret)
    .bind(&key.sealed_token)
    .bind(micros(key.created))
    .bind(micros(key.expires))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The temporary key of that access key id, the key that it was made by, and that one's holder.
pub async fn find(db: &Db, access: &str) -> Result<Option<(TemporaryKey, S3Key, Option<Holder>)>, Error> {
    let row = sqlx::query(
        "SELECT k.access, k.project, k.user_id, k.scope, k.sandbox, k.secret, k.created, k.enabled, k.last_used,
                k.session_policy, u.username, u.roles, u.policy,
                t.role, t.session, t.policies, t.secret AS t_secret, t.token, t.created AS t_created, t.expires
         FROM s3_temporary_keys t JOIN s3_keys k ON k.access = t.parent LEFT JOIN project_users u ON u.id = k.user_id
         WHERE t.access = ?",
    )
    .bind(access)
    .fetch_optional(db.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let parent = key(&row)?;
    let role: Option<String> = row.try_get("role")?;
    let session: Option<String> = row.try_get("session")?;
    let temporary = TemporaryKey {
        access: access.to_owned(),
        parent: parent.access.clone(),
        role: role.zip(session),
        policies: row.try_get("policies")?,
        sealed_secret: row.try_get("t_secret")?,
        sealed_token: row.try_get("token")?,
        created: time("s3_temporary_keys.created", row.try_get("t_created")?)?,
        expires: time("s3_temporary_keys.expires", row.try_get("expires")?)?,
    };
    Ok(Some((temporary, parent, holder(&row)?)))
}

/// How many keys that have not ended by `now` were made by one key, as this transaction sees them.
pub async fn count_of(tx: &mut Tx, parent: &str, now: Timestamp) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM s3_temporary_keys WHERE parent = ? AND expires > ?")
        .bind(parent)
        .bind(micros(now))
        .fetch_one(tx.connection())
        .await?)
}

/// Removes the keys that ended by `now`; how many there were.
pub async fn delete_expired(tx: &mut Tx, now: Timestamp) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM s3_temporary_keys WHERE expires <= ?")
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}
