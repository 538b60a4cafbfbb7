//! S3 access keys: of users of a project, of nobody, of sandboxes.

use jiff::Timestamp;
use model::{ProjectId, SandboxId};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, project_users::roles, time};

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The project's buckets.
    Project,
    /// The project's buckets, from inside one sandbox.
    Job(SandboxId),
    /// The platform's part of one sandbox: its logs.
    Platform(SandboxId),
}

/// An S3 access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Key {
    /// Its public half.
    pub access: String,
    /// Whose buckets.
    pub project: ProjectId,
    /// Its holder, where that is a user.
    pub user: Option<i64>,
    /// What it is good for.
    pub scope: Scope,
    /// Its secret half, sealed.
    pub sealed_secret: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it may be used.
    pub enabled: bool,
    /// When it was last used.
    pub last_used: Option<Timestamp>,
    /// What narrows it: a policy.
    pub session_policy: Option<String>,
}

/// The user that holds a key or a token, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub username: String,
    /// The names of its roles.
    pub roles: Vec<String>,
    /// Its policy.
    pub policy: Option<String>,
}

/// Adds a key.
pub async fn insert(tx: &mut Tx, key: &S3Key) -> Result<(), Error> {
    let (scope, sandbox) = match key.scope {
        Scope::Project => ("project", None),
        Scope::Job(sandbox) => ("job", Some(sandbox.to_string())),
        Scope::Platform(sandbox) => ("platform", Some(sandbox.to_string())),
    };
    sqlx::query(
        "INSERT INTO s3_keys (access, project, user_id, scope, sandbox, secret, created, enabled, session_policy)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&key.access)
    .bind(key.project.as_str())
    .bind(key.user)
    .bind(scope)
    .bind(sandbox)
    .bind(&key.sealed_secret)
    .bind(micros(key.created))
    .bind(key.enabled)
    .bind(&key.session_policy)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The key of that access key id, and its holder where that is a user.
pub async fn find(db: &Db, access: &str) -> Result<Option<(S3Key, Option<Holder>)>, Error> {
    let row = sqlx::query(
        "SELECT k.access, k.project, k.user_id, k.scope, k.sandbox, k.secret, k.created, k.enabled, k.last_used,
                k.session_policy, u.username, u.roles, u.policy
         FROM s3_keys k LEFT JOIN project_users u ON u.id = k.user_id WHERE k.access = ?",
    )
    .bind(access)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(|row| Ok((key(row)?, holder(row)?))).transpose()
}

/// The keys of a project that are not a sandbox's, of one user or all, oldest first.
pub async fn list(db: &Db, project: &ProjectId, user: Option<i64>) -> Result<Vec<S3Key>, Error> {
    let rows = sqlx::query(
        "SELECT access, project, user_id, scope, sandbox, secret, created, enabled, last_used, session_policy
         FROM s3_keys WHERE project = ?1 AND scope = 'project' AND (?2 IS NULL OR user_id = ?2)
         ORDER BY created, access",
    )
    .bind(project.as_str())
    .bind(user)
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(key).collect()
}

/// How many keys a project has that are not a sandbox's, of one user or all, as this transaction sees them.
pub async fn count(tx: &mut Tx, project: &ProjectId, user: Option<i64>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM s3_keys WHERE project = ?1 AND scope = 'project' AND (?2 IS NULL OR user_id = ?2)",
    )
    .bind(project.as_str())
    .bind(user)
    .fetch_one(tx.connection())
    .await?)
}

/// The keys of a sandbox, as this transaction sees them.
pub async fn of_sandbox(tx: &mut Tx, sandbox: SandboxId) -> Result<Vec<S3Key>, Error> {
    let rows = sqlx::query(
        "SELECT access, project, user_id, scope, sandbox, secret, created, enabled, last_used, session_policy
         FROM s3_keys WHERE sandbox = ?",
    )
    .bind(sandbox.to_string())
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(key).collect()
}

/// Lets a key of a project that is not a sandbox's be used, or not; whether there is such a key.
pub async fn set_enabled(tx: &mut Tx, project: &ProjectId, access: &str, enabled: bool) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE s3_keys SET enabled = ? WHERE project = ? AND access = ? AND scope = 'project'")
        .bind(enabled)
        .bind(project.as_str())
        .bind(access)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes when keys, temporary ones among them, were last used.
pub async fn touch(tx: &mut Tx, uses: &[(String, Timestamp)]) -> Result<(), Error> {
    for (access, at) in uses {
        sqlx::query("UPDATE s3_keys SET last_used = max(coalesce(last_used, 0), ?) WHERE access = ?")
            .bind(micros(*at))
            .bind(access)
            .execute(tx.connection())
            .await?;
        sqlx::query("UPDATE s3_temporary_keys SET last_use = max(coalesce(last_use, 0), ?) WHERE access = ?")
            .bind(micros(*at))
            .bind(access)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Removes a key of a project that is not a sandbox's, with the temporary keys that it made; whether it was there.
pub async fn delete(tx: &mut Tx, project: &ProjectId, access: &str) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM s3_keys WHERE project = ? AND access = ? AND scope = 'project'")
        .bind(project.as_str())
        .bind(access)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the keys of a sandbox, with the temporary keys that they made; how many there were.
pub async fn delete_of_sandbox(tx: &mut Tx, sandbox: SandboxId) -> Result<u64, Error> {
    let done =
        sqlx::query("DELETE FROM s3_keys WHERE sandbox = ?").bind(sandbox.to_string()).execute(tx.connection()).await?;
    Ok(done.rows_affected())
}

pub(crate) fn key(row: &SqliteRow) -> Result<S3Key, Error> {
    let sandbox = |row: &SqliteRow| -> Result<SandboxId, Error> {
        parse("s3_keys.sandbox", row.try_get::<Option<&str>, _>("sandbox")?.unwrap_or_default())
    };
    let scope = match row.try_get::<&str, _>("scope")? {
        "project" => Scope::Project,
        "job" => Scope::Job(sandbox(row)?),
        "platform" => Scope::Platform(sandbox(row)?),
        _ => return Err(Error::Damaged { column: "s3_keys.scope" }),
    };
    let last_used: Option<i64> = row.try_get("last_used")?;
    Ok(S3Key {
        access: row.try_get("access")?,
        project: parse("s3_keys.project", row.try_get("project")?)?,
        user: row.try_get("user_id")?,
        scope,
        sealed_secret: row.try_get("secret")?,
        created: time("s3_keys.created", row.try_get("created")?)?,
        enabled: row.try_get("enabled")?,
        last_used: last_used.map(|at| time("s3_keys.last_used", at)).transpose()?,
        session_policy: row.try_get("session_policy")?,
    })
}

/// The user beside a key, where there is one.
pub(crate) fn holder(row: &SqliteRow) -> Result<Option<Holder>, Error> {
    let Some(id) = row.try_get::<Option<i64>, _>("user_id")? else { return Ok(None) };
    Ok(Some(Holder {
        id,
        username: row.try_get("username")?,
        roles: roles(row.try_get("roles")?),
        policy: row.try_get("policy")?,
    }))
}
