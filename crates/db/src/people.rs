//! Users of an account, their groups, and the one-time tokens by which they set a password.

use jiff::Timestamp;
use model::AccountId;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, parse, time};

/// A user of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Its number.
    pub id: i64,
    /// The account.
    pub account: AccountId,
    /// Its name, one in the account.
    pub login: String,
    /// Where it is reached.
    pub email: String,
    /// What it is for.
    pub description: String,
    /// Its group.
    pub group: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// Whether it must choose another password at its next log-in.
    pub change_password: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// When its password was last set.
    pub password_updated: Timestamp,
}

/// A group of users of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The account.
    pub account: AccountId,
    /// Its name, one in the account.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// `ADMIN`, `REGULAR`, `UNPRIVILEGED` or `NONE`.
    pub role: String,
    /// Whether it was made with the account, and stays as long as that.
    pub built_in: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// Adds a user with the hash of its password, if it has one; its `id` is ignored, the new one is the answer.
pub async fn insert(tx: &mut Tx, person: &Person, password: Option<&str>) -> Result<i64, Error> {
    let done = sqlx::query(
        "INSERT INTO people
         (account, login, email, description, group_name, password, enabled, change_password, created, updated,
          password_updated)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(person.account.as_str())
    .bind(&person.login)
    .bind(&person.email)
    .bind(&person.description)
    .bind(&person.group)
    .bind(password)
    .bind(person.enabled)
    .bind(person.change_password)
    .bind(micros(person.created))
    .bind(micros(person.updated))
    .bind(micros(person.password_updated))
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// How many users an account has, as this transaction sees them.
pub async fn count(tx: &mut Tx, account: &AccountId) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM people WHERE account = ?")
        .bind(account.as_str())
        .fetch_one(tx.connection())
        .await?)
}

/// The users of an account, or all, by account and login.
pub async fn list(db: &Db, of: Option<&AccountId>) -> Result<Vec<Person>, Error> {
    let rows = sqlx::query(
        "SELECT id, account, login, email, description, group_name, enabled, change_password, created, updated,
                password_updated
         FROM people WHERE ?1 IS NULL OR account = ?1 ORDER BY account, login",
    )
    .bind(of.map(AccountId::as_str))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(person).collect()
}

/// The user of that login, with the hash of its password if it has one.
pub async fn find(db: &Db, account: &str, login: &str) -> Result<Option<(Person, Option<String>)>, Error> {
    let row = sqlx::query(
        "SELECT id, account, login, email, description, group_name, enabled, change_password, created, updated,
                password_updated, password
         FROM people WHERE account = ? AND login = ?",
    )
    .bind(account)
    .bind(login)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(|row| Ok((person(row)?, row.try_get("password")?))).transpose()
}

/// The user of that number, and the role of its group.
pub async fn find_by_id(db: &Db, id: i64) -> Result<Option<(Person, String)>, Error> {
    let row = sqlx::query(
        "SELECT p.id, p.account, p.login, p.email, p.description, p.group_name, p.enabled, p.change_password, p.created,
                p.updated, p.password_updated, g.role
         FROM people p JOIN people_groups g ON g.account = p.account AND g.name = p.group_name WHERE p.id = ?",
    )
    .bind(id)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(|row| Ok((person(row)?, row.try_get("role")?))).transpose()
}

/// Writes what may change of a user: e-mail address, description, group, whether it is enabled, and when that was.
pub async fn update(tx: &mut Tx, person: &Person) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE people SET email = ?, description = ?, group_name = ?, enabled = ?, updated = ? WHERE id = ?",
    )
    .bind(&person.email)
    .bind(&person.description)
    .bind(&person.group)
    .bind(person.enabled)
    .bind(micros(person.updated))
    .bind(person.id)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Sets the hash of a password that the user chose itself, at `now`; whether there is such a user.
pub async fn set_password(tx: &mut Tx, id: i64, hash: &str, now: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE people SET password = ?1, change_password = 0, password_updated = ?2, updated = ?2 WHERE id = ?3",
    )
    .bind(hash)
    .bind(micros(now))
    .bind(id)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// When the password of a user was set, as this transaction sees it; `None`: there is no such user, or it is disabled.
pub async fn password_set_in(tx: &mut Tx, id: i64) -> Result<Option<Timestamp>, Error> {
    let at: Option<i64> = sqlx::query_scalar("SELECT password_updated FROM people WHERE id = ? AND enabled = 1")
        .bind(id)
        .fetch_optional(tx.connection())
        .await?;
    at.map(|at| time("people.password_updated", at)).transpose()
}

/// Removes a user; whether it was there. Its credentials are ended by [`crate::credentials::expire_of_person`].
pub async fn delete(tx: &mut Tx, id: i64) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM people WHERE id = ?").bind(id).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Gives a user a one-time token, by its hash; an older one of that user is gone.
pub async fn insert_setup(tx: &mut Tx, hash: &[u8], person: i64, expires: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO people_setups (hash, person, expires) VALUES (?, ?, ?)
         ON CONFLICT (person) DO UPDATE SET hash = excluded.hash, expires = excluded.expires",
    )
    .bind(hash)
    .bind(person)
    .bind(micros(expires))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Whose one-time token it is, if it is good at `now`.
pub async fn find_setup(db: &Db, hash: &[u8], now: Timestamp) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT person FROM people_setups WHERE hash = ? AND expires > ?")
        .bind(hash)
        .bind(micros(now))
        .fetch_optional(db.readers())
        .await?)
}

/// Uses up a one-time token; whether it was there.
pub async fn delete_setup(tx: &mut Tx, hash: &[u8]) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM people_setups WHERE hash = ?").bind(hash).execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// Adds a group.
pub async fn insert_group(tx: &mut Tx, group: &Group) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO people_groups (account, name, description, role, built_in, created, updated)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(group.account.as_str())
    .bind(&group.name)
    .bind(&group.description)
    .bind(&group.role)
    .bind(group.built_in)
    .bind(micros(group.created))
    .bind(micros(group.updated))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// How many groups an account has, as this transaction sees them.
pub async fn count_groups(tx: &mut Tx, account: &AccountId) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM people_groups WHERE account = ?")
        .bind(account.as_str())
        .fetch_one(tx.connection())
        .await?)
}

/// The groups of an account, by name.
pub async fn list_groups(db: &Db, account: &AccountId) -> Result<Vec<Group>, Error> {
    let rows = sqlx::query(
        "SELECT account, name, description, role, built_in, created, updated FROM people_groups
         WHERE account = ? ORDER BY name",
    )
    .bind(account.as_str())
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(group).collect()
}

/// The group of that name.
pub async fn find_group(db: &Db, account: &AccountId, name: &str) -> Result<Option<Group>, Error> {
    let row = sqlx::query(
        "SELECT account, name, description, role, built_in, created, updated FROM people_groups
         WHERE account = ? AND name = ?",
    )
    .bind(account.as_str())
    .bind(name)
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(group).transpose()
}

/// Writes what may change of a group: its description and role.
pub async fn update_group(tx: &mut Tx, group: &Group) -> Result<bool, Error> {
    let done =
        sqlx::query("UPDATE people_groups SET description = ?, role = ?, updated = ? WHERE account = ? AND name = ?")
            .bind(&group.description)
            .bind(&group.role)
            .bind(micros(group.updated))
            .bind(group.account.as_str())
            .bind(&group.name)
            .execute(tx.connection())
            .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a group that was not made with the account; whether it was there. One with users is not removed
/// ([`Error::is_dangling`]).
pub async fn delete_group(tx: &mut Tx, account: &AccountId, name: &str) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM people_groups WHERE account = ? AND name = ? AND built_in = 0")
        .bind(account.as_str())
        .bind(name)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

fn person(row: &SqliteRow) -> Result<Person, Error> {
    Ok(Person {
        id: row.try_get("id")?,
        account: parse("people.account", row.try_get("account")?)?,
        login: row.try_get("login")?,
        email: row.try_get("email")?,
        description: row.try_get("description")?,
        group: row.try_get("group_name")?,
        enabled: row.try_get("enabled")?,
        change_password: row.try_get("change_password")?,
        created: time("people.created", row.try_get("created")?)?,
        updated: time("people.updated", row.try_get("updated")?)?,
        password_updated: time("people.password_updated", row.try_get("password_updated")?)?,
    })
}

fn group(row: &SqliteRow) -> Result<Group, Error> {
    Ok(Group {
        account: parse("people_groups.account", row.try_get("account")?)?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        role: row.try_get("role")?,
        built_in: row.try_get("built_in")?,
        created: time("people_groups.created", row.try_get("created")?)?,
        updated: time("people_groups.updated", row.try_get("updated")?)?,
    })
}
