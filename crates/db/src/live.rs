//! All that somebody can prove who they are by, in one list.

use jiff::{SignedDuration, Timestamp};
use model::{AccountId, ProjectId};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// Something that is good now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// `key`, `client`, `token`, `s3`, `session`, `console`, `user-token` or `setup`.
    pub kind: String,
    /// Its number or public id; of what is known by a hash alone, the first 16 hexadecimal digits of that.
    pub id: String,
    /// Whose it is.
    pub account: AccountId,
    /// Who in the account: a user, a service account, a user of a project; empty: the account or the project itself.
    pub holder: String,
    /// What it is called, or is in.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was last used, to within the batch of its writing.
    pub last_use: Option<Timestamp>,
}

/// What of an account, or all, is good at `now`, by kind, oldest first. Keys of sandboxes are not among it: they end with
/// their sandbox. A session of the console that is not used for `idle` ends by that.
pub async fn list(db: &Db, of: Option<&AccountId>, now: Timestamp, idle: SignedDuration) -> Result<Vec<Live>, Error> {
    let rows = sqlx::query(
        "SELECT * FROM (
             SELECT 'key' AS kind, CAST(c.id AS TEXT) AS id, c.account, coalesce(p.login, '') AS holder, a.name AS name,
                    c.created, c.expiration AS expires, c.last_use
             FROM credentials c JOIN applications a ON a.id = c.application LEFT JOIN people p ON p.id = c.person
             WHERE c.status = 'validated' AND (c.person IS NULL OR p.enabled = 1)
         UNION ALL
             SELECT 'client', id, account, '', name, created, NULL, last_use FROM oauth2_clients
         UNION ALL
             SELECT 'token', lower(hex(substr(t.hash, 1, 8))), c.account, c.id, c.name, t.created, t.expires, t.last_use
             FROM oauth2_tokens t JOIN oauth2_clients c ON c.id = t.client
         UNION ALL
             SELECT 's3', k.access, o.admin, coalesce(u.username, ''), k.project, k.created, NULL, k.last_used
             FROM s3_keys k JOIN project_contacts o ON o.project = k.project LEFT JOIN project_users u ON u.id = k.user_id
             WHERE k.scope = 'project' AND k.enabled = 1
         UNION ALL
             SELECT 'session', t.access, o.admin, coalesce(u.username, ''), k.project, t.created, t.expires, t.last_use
             FROM s3_temporary_keys t JOIN s3_keys k ON k.access = t.parent
             JOIN project_contacts o ON o.project = k.project
             LEFT JOIN project_users u ON u.id = k.user_id
             WHERE k.scope = 'project' AND k.enabled = 1
         UNION ALL
             SELECT 'user-token', lower(hex(substr(t.hash, 1, 8))), o.admin, u.username, u.project, t.created, t.expires,
                    t.last_use
             FROM user_tokens t JOIN project_users u ON u.id = t.user_id JOIN project_contacts o ON o.project = u.project
         UNION ALL
             SELECT 'setup', lower(hex(substr(s.hash, 1, 8))), p.account, p.login, '', p.created, s.expires, NULL
             FROM people_setups s JOIN people p ON p.id = s.person
         UNION ALL
             SELECT 'console', CAST(s.id AS TEXT), s.account, coalesce(p.login, s.federated), s.user_agent, s.created,
                    min(s.expires, s.last_use + ?3), s.last_use
             FROM sessions s LEFT JOIN people p ON p.id = s.person
         )
         WHERE (?1 IS NULL OR account = ?1) AND (expires IS NULL OR expires > ?2) ORDER BY kind, created, id",
    )
    .bind(of.map(AccountId::as_str))
    .bind(micros(now))
    .bind(i64::try_from(idle.as_micros()).unwrap_or(i64::MAX))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(live).collect()
}

/// The project of an access key that is not a sandbox's.
pub async fn project_of_key(db: &Db, access: &str) -> Result<Option<ProjectId>, Error> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT project FROM s3_keys WHERE access = ? AND scope = 'project'")
            .bind(access)
            .fetch_optional(db.readers())
            .await?;
    found.map(|project| parse("s3_keys.project", &project)).transpose()
}

/// Removes a temporary key; whether it was there.
pub async fn delete_temporary_key(tx: &mut Tx, access: &str) -> Result<bool, Error> {
    let done =
        sqlx::query("DELETE FROM s3_temporary_keys WHERE access = ?").bind(access).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the access tokens of service accounts whose hash begins so; whether there were any.
pub async fn delete_tokens(tx: &mut Tx, beginning: &[u8; 8]) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM oauth2_tokens WHERE substr(hash, 1, 8) = ?")
        .bind(&beginning[..])
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the tokens of users of a project whose hash begins so; whether there were any.
pub async fn delete_user_tokens(tx: &mut Tx, beginning: &[u8; 8]) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM user_tokens WHERE substr(hash, 1, 8) = ?")
        .bind(&beginning[..])
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the set-up links whose hash begins so; whether there were any.
pub async fn delete_setups(tx: &mut Tx, beginning: &[u8; 8]) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM people_setups WHERE substr(hash, 1, 8) = ?")
        .bind(&beginning[..])
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

fn live(row: &SqliteRow) -> Result<Live, Error> {
    let maybe = |column, micros: Option<i64>| micros.map(|micros| time(column, micros)).transpose();
    Ok(Live {
        kind: row.try_get("kind")?,
        id: row.try_get("id")?,
        account: parse("live.account", row.try_get("account")?)?,
        holder: row.try_get("holder")?,
        name: row.try_get("name")?,
        created: time("live.created", row.try_get("created")?)?,
        expires: maybe("live.expires", row.try_get("expires")?)?,
        last_use: maybe("live.last_use", row.try_get("last_use")?)?,
    })
}
