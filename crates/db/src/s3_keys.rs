//! Users of a project and S3 access keys.

use jiff::Timestamp;
use model::{ProjectId, SandboxId};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// A user of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: i64,
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub username: String,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
}

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
}

/// Adds a user; its `id` is ignored, the new one is the answer.
pub async fn insert_user(tx: &mut Tx, user: &User) -> Result<i64, Error> {
    let done = sqlx::query("INSERT INTO project_users (project, username, description, created) VALUES (?, ?, ?, ?)")
        .bind(user.project.as_str())
        .bind(&user.username)
        .bind(&user.description)
        .bind(micros(user.created))
        .execute(tx.connection())
        .await?;
    Ok(done.last_insert_rowid())
}

/// The users of a project, oldest first.
pub async fn list_users(db: &Db, project: &ProjectId) -> Result<Vec<User>, Error> {
    let rows = sqlx::query(
        "SELECT id, project, username, description, created FROM project_users WHERE project = ? ORDER BY id",
    )
    .bind(project.as_str())
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(user).collect()
}

/// The user of that number in a project.
pub async fn find_user(db: &Db, project: &ProjectId, id: i64) -> Result<Option<User>, Error> {
    let row = sqlx::query(
        "SELECT id, project, username, description, created FROM project_users WHERE project = ? AND id = ?",
    )
    .bind(project.as_str())
    .bind(id)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(user).transpose()
}

/// Removes a user and its keys; whether it was there.
pub async fn delete_user(tx: &mut Tx, project: &ProjectId, id: i64) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM project_users WHERE project = ? AND id = ?")
        .bind(project.as_str())
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Adds a key.
pub async fn insert(tx: &mut Tx, key: &S3Key) -> Result<(), Error> {
    let (scope, sandbox) = match key.scope {
        Scope::Project => ("project", None),
        Scope::Job(sandbox) => ("job", Some(sandbox.to_string())),
        Scope::Platform(sandbox) => ("platform", Some(sandbox.to_string())),
    };
    sqlx::query(
        "INSERT INTO s3_keys (access, project, user_id, scope, sandbox, secret, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&key.access)
    .bind(key.project.as_str())
    .bind(key.user)
    .bind(scope)
    .bind(sandbox)
    .bind(&key.sealed_secret)
    .bind(micros(key.created))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The key of that access key id.
pub async fn find(db: &Db, access: &str) -> Result<Option<S3Key>, Error> {
    let row =
        sqlx::query("SELECT access, project, user_id, scope, sandbox, secret, created FROM s3_keys WHERE access = ?")
            .bind(access)
            .fetch_optional(db.readers())
            .await?;
    row.as_ref().map(key).transpose()
}

/// The keys of a project that are not a sandbox's, of one user or all, oldest first.
pub async fn list(db: &Db, project: &ProjectId, user: Option<i64>) -> Result<Vec<S3Key>, Error> {
    let rows = sqlx::query(
        "SELECT access, project, user_id, scope, sandbox, secret, created FROM s3_keys
         WHERE project = ?1 AND scope = 'project' AND (?2 IS NULL OR user_id = ?2) ORDER BY created, access",
    )
    .bind(project.as_str())
    .bind(user)
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(key).collect()
}

/// The keys of a sandbox, as this transaction sees them.
pub async fn of_sandbox(tx: &mut Tx, sandbox: SandboxId) -> Result<Vec<S3Key>, Error> {
    let rows =
        sqlx::query("SELECT access, project, user_id, scope, sandbox, secret, created FROM s3_keys WHERE sandbox = ?")
            .bind(sandbox.to_string())
            .fetch_all(tx.connection())
            .await?;
    rows.iter().map(key).collect()
}

/// Removes a key of a project that is not a sandbox's; whether it was there.
pub async fn delete(tx: &mut Tx, project: &ProjectId, access: &str) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM s3_keys WHERE project = ? AND access = ? AND scope = 'project'")
        .bind(project.as_str())
        .bind(access)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the keys of a sandbox; how many there were.
pub async fn delete_of_sandbox(tx: &mut Tx, sandbox: SandboxId) -> Result<u64, Error> {
    let done =
        sqlx::query("DELETE FROM s3_keys WHERE sandbox = ?").bind(sandbox.to_string()).execute(tx.connection()).await?;
    Ok(done.rows_affected())
}

fn user(row: &SqliteRow) -> Result<User, Error> {
    Ok(User {
        id: row.try_get("id")?,
        project: parse("project_users.project", row.try_get("project")?)?,
        username: row.try_get("username")?,
        description: row.try_get("description")?,
        created: time("project_users.created", row.try_get("created")?)?,
    })
}

fn key(row: &SqliteRow) -> Result<S3Key, Error> {
    let sandbox = |row: &SqliteRow| -> Result<SandboxId, Error> {
        parse("s3_keys.sandbox", row.try_get::<Option<&str>, _>("sandbox")?.unwrap_or_default())
    };
    let scope = match row.try_get::<&str, _>("scope")? {
        "project" => Scope::Project,
        "job" => Scope::Job(sandbox(row)?),
        "platform" => Scope::Platform(sandbox(row)?),
        _ => return Err(Error::Damaged { column: "s3_keys.scope" }),
    };
    Ok(S3Key {
        access: row.try_get("access")?,
        project: parse("s3_keys.project", row.try_get("project")?)?,
        user: row.try_get("user_id")?,
        scope,
        sealed_secret: row.try_get("secret")?,
        created: time("s3_keys.created", row.try_get("created")?)?,
    })
}
