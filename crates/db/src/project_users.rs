//! Users of a project: their roles, policies and passwords.

use jiff::Timestamp;
use model::ProjectId;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// A user of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: i64,
    /// The project.
    pub project: ProjectId,
    /// Its name, one over all projects.
    pub username: String,
    /// What it is for.
    pub description: String,
    /// The names of its roles.
    pub roles: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// Adds a user, with the hash of its password if it has one; its `id` is ignored, the new one is the answer.
pub async fn insert(tx: &mut Tx, user: &User, password: Option<&str>) -> Result<i64, Error> {
    let done = sqlx::query(
        "INSERT INTO project_users (project, username, description, roles, password, created)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(user.project.as_str())
    .bind(&user.username)
    .bind(&user.description)
    .bind(user.roles.join(" "))
    .bind(password)
    .bind(micros(user.created))
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// The users of a project, oldest first.
pub async fn list(db: &Db, project: &ProjectId) -> Result<Vec<User>, Error> {
    let rows = sqlx::query(
        "SELECT id, project, username, description, roles, created FROM project_users WHERE project = ? ORDER BY id",
    )
    .bind(project.as_str())
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(user).collect()
}

/// The user of that number in a project.
pub async fn find(db: &Db, project: &ProjectId, id: i64) -> Result<Option<User>, Error> {
    let row = sqlx::query(
        "SELECT id, project, username, description, roles, created FROM project_users WHERE project = ? AND id = ?",
    )
    .bind(project.as_str())
    .bind(id)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(user).transpose()
}

/// The user of that name, in whichever project, with the hash of its password if it has one.
pub async fn find_by_name(db: &Db, username: &str) -> Result<Option<(User, Option<String>)>, Error> {
    let row = sqlx::query(
        "SELECT id, project, username, description, roles, created, password FROM project_users WHERE username = ?",
    )
    .bind(username)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(|row| Ok((user(row)?, row.try_get("password")?))).transpose()
}

/// How many users a project has, as this transaction sees them.
pub async fn count(tx: &mut Tx, project: &ProjectId) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM project_users WHERE project = ?")
        .bind(project.as_str())
        .fetch_one(tx.connection())
        .await?)
}

/// The policy of a user: `None` if there is no such user, `Some(None)` if it has none.
pub async fn policy(db: &Db, project: &ProjectId, id: i64) -> Result<Option<Option<String>>, Error> {
    Ok(sqlx::query_scalar("SELECT policy FROM project_users WHERE project = ? AND id = ?")
        .bind(project.as_str())
        .bind(id)
        .fetch_optional(db.readers())
        .await?)
}

/// The policy of a user, as this transaction sees it.
pub async fn policy_in(tx: &mut Tx, project: &ProjectId, id: i64) -> Result<Option<Option<String>>, Error> {
    Ok(sqlx::query_scalar("SELECT policy FROM project_users WHERE project = ? AND id = ?")
        .bind(project.as_str())
        .bind(id)
        .fetch_optional(tx.connection())
        .await?)
}

/// Sets or removes the policy of a user; whether there is such a user.
pub async fn set_policy(tx: &mut Tx, project: &ProjectId, id: i64, policy: Option<&str>) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE project_users SET policy = ? WHERE project = ? AND id = ?")
        .bind(policy)
        .bind(project.as_str())
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Sets the roles of a user; whether there is such a user.
pub async fn set_roles(tx: &mut Tx, project: &ProjectId, id: i64, roles: &[String]) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE project_users SET roles = ? WHERE project = ? AND id = ?")
        .bind(roles.join(" "))
        .bind(project.as_str())
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Sets the hash of the password of a user; whether there is such a user.
pub async fn set_password(tx: &mut Tx, project: &ProjectId, id: i64, hash: &str) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE project_users SET password = ? WHERE project = ? AND id = ?")
        .bind(hash)
        .bind(project.as_str())
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a user with its keys and tokens; whether it was there.
pub async fn delete(tx: &mut Tx, project: &ProjectId, id: i64) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM project_users WHERE project = ? AND id = ?")
        .bind(project.as_str())
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

fn user(row: &SqliteRow) -> Result<User, Error> {
    Ok(User {
        id: row.try_get("id")?,
        project: parse("project_users.project", row.try_get("project")?)?,
        username: row.try_get("username")?,
        description: row.try_get("description")?,
        roles: roles(row.try_get("roles")?),
        created: time("project_users.created", row.try_get("created")?)?,
    })
}

/// The names in the column of roles.
pub(crate) fn roles(column: &str) -> Vec<String> {
    column.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::SqlitePool;

    use super::*;

    #[tokio::test]
    async fn users_and_keys_of_before_keep_their_rights() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db.sqlite");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let old = SqlitePool::connect_with(options).await.expect("a database");
        let mut migrator = sqlx::migrate!("./migrations");
        let first: Vec<_> = migrator.migrations.iter().filter(|one| one.version <= 3).cloned().collect();
        migrator.migrations = Cow::Owned(first);
        migrator.run(&old).await.expect("the old schema");
        let id = "a".repeat(32);
        for statement in [
            "INSERT INTO accounts VALUES ('ab1234-casemate', '', '', 0)",
            "INSERT INTO projects VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'ab1234-casemate', '', 1, 0)",
            "INSERT INTO project_users VALUES (7, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'user-1', '', 0)",
            "INSERT INTO s3_keys VALUES ('k', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 7, 'project', NULL, x'00', 0)",
        ] {
            sqlx::query(statement).execute(&old).await.expect("a row");
        }
        old.close().await;

        let db = Db::open(&path).await.expect("the new schema");
        let project: ProjectId = id.parse().expect("a project");
        let (key, holder) = crate::s3_keys::find(&db, "k").await.expect("read").expect("there");
        assert!(key.enabled && key.last_used.is_none() && key.session_policy.is_none());
        let holder = holder.expect("its user");
        assert_eq!((holder.roles, holder.policy), (vec!["objectstore_operator".to_owned()], None));
        let (_, password) = find_by_name(&db, "user-1").await.expect("read").expect("there");
        assert_eq!(password, None);
        assert_eq!(policy(&db, &project, 7).await.expect("read"), Some(None));
    }
}
