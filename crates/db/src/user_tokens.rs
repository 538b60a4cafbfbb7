//! Tokens that users of a project got for their passwords.

use jiff::Timestamp;
use model::ProjectId;
use sqlx::Row as _;

use crate::{Db, Error, Tx, micros, project_users::roles, s3_keys::Holder, time};

/// Adds a token by its hash.
pub async fn insert(tx: &mut Tx, hash: &[u8], user: i64, created: Timestamp, expires: Timestamp) -> Result<(), Error> {
    sqlx::query("INSERT INTO user_tokens (hash, user_id, created, expires) VALUES (?, ?, ?, ?)")
        .bind(hash)
        .bind(user)
        .bind(micros(created))
        .bind(micros(expires))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Whose token it is, and when it ends.
pub async fn find(db: &Db, hash: &[u8]) -> Result<Option<(ProjectId, Holder, Timestamp)>, Error> {
    let row = sqlx::query(
        "SELECT u.id, u.project, u.username, u.roles, u.policy, t.expires
         FROM user_tokens t JOIN project_users u ON u.id = t.user_id WHERE t.hash = ?",
    )
    .bind(hash)
    .fetch_optional(db.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let holder = Holder {
        id: row.try_get("id")?,
        username: row.try_get("username")?,
        roles: roles(row.try_get("roles")?),
        policy: row.try_get("policy")?,
    };
    Ok(Some((
        crate::parse("project_users.project", row.try_get("project")?)?,
        holder,
        time("user_tokens.expires", row.try_get("expires")?)?,
    )))
}

/// Notes when tokens were last used.
pub async fn touch(tx: &mut Tx, uses: &[(Vec<u8>, Timestamp)]) -> Result<(), Error> {
    for (hash, at) in uses {
        sqlx::query("UPDATE user_tokens SET last_use = max(coalesce(last_use, 0), ?) WHERE hash = ?")
            .bind(micros(*at))
            .bind(hash)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Removes a token; whether it was there.
pub async fn delete(tx: &mut Tx, hash: &[u8]) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM user_tokens WHERE hash = ?").bind(hash).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Removes all tokens of a user; how many there were.
pub async fn delete_of_user(tx: &mut Tx, user: i64) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM user_tokens WHERE user_id = ?").bind(user).execute(tx.connection()).await?;
    Ok(done.rows_affected())
}

/// Removes the oldest tokens of a user, so that at most `keep` remain.
pub async fn delete_oldest(tx: &mut Tx, user: i64, keep: i64) -> Result<u64, Error> {
    let done = sqlx::query(
        "DELETE FROM user_tokens WHERE user_id = ?1 AND hash NOT IN
         (SELECT hash FROM user_tokens WHERE user_id = ?1 ORDER BY created DESC, hash LIMIT ?2)",
    )
    .bind(user)
    .bind(keep)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Removes the tokens that ended by `now`; how many there were.
pub async fn delete_expired(tx: &mut Tx, now: Timestamp) -> Result<u64, Error> {
    let done =
        sqlx::query("DELETE FROM user_tokens WHERE expires <= ?").bind(micros(now)).execute(tx.connection()).await?;
    Ok(done.rows_affected())
}
