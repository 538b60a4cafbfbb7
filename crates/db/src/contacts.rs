//! Contacts of projects, and changes of them.

use jiff::Timestamp;
use model::{AccountId, ProjectId};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Db, Error, Tx,
    accounts::{self, Project},
    micros, parse, time,
};

/// The contacts of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contacts {
    /// Who may do everything.
    pub admin: AccountId,
    /// Who operates it.
    pub tech: AccountId,
    /// Who sees and pays its bills.
    pub billing: AccountId,
}

/// A change of contacts of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub id: i64,
    /// The project.
    pub project: ProjectId,
    /// Who asked for it.
    pub asking: AccountId,
    /// Who is the contact.
    pub from: AccountId,
    /// Who is to be it.
    pub to: AccountId,
    /// Of which kinds: names, a space between them.
    pub kinds: String,
    /// `validatingByCustomers`, `done`, `refused`, `expired` or `aborted`.
    pub state: String,
    /// SHA-256 of the token of who is the contact; `None` once it has agreed, and when the change has ended.
    pub from_token: Option<Vec<u8>>,
    /// SHA-256 of the token of who is to be it; `None` once it has agreed, and when the change has ended.
    pub to_token: Option<Vec<u8>>,
    /// When it was asked for.
    pub requested: Timestamp,
    /// Until when both have to agree.
    pub expires: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// The contacts of a project.
pub async fn find(db: &Db, project: &ProjectId) -> Result<Option<Contacts>, Error> {
    let row = sqlx::query("SELECT admin, tech, billing FROM project_contacts WHERE project = ?")
        .bind(project.as_str())
        .fetch_optional(db.readers())
        .await?;
    row.as_ref().map(contacts).transpose()
}

/// A project with its contacts.
pub async fn project(db: &Db, project: &ProjectId) -> Result<Option<(Project, Option<Contacts>)>, Error> {
    let row = sqlx::query(
        "SELECT p.id, p.account, p.name, p.authorized, p.created, p.region, c.admin, c.tech, c.billing
         FROM projects AS p LEFT JOIN project_contacts AS c ON c.project = p.id WHERE p.id = ?",
    )
    .bind(project.as_str())
    .fetch_optional(db.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let has_contacts = row.try_get::<Option<&str>, _>("admin")?.is_some();
    Ok(Some((accounts::project(&row)?, has_contacts.then(|| contacts(&row)).transpose()?)))
}

/// The contacts of a project, as this transaction sees them.
pub async fn find_in(tx: &mut Tx, project: &ProjectId) -> Result<Option<Contacts>, Error> {
    let row = sqlx::query("SELECT admin, tech, billing FROM project_contacts WHERE project = ?")
        .bind(project.as_str())
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(contacts).transpose()
}

/// Writes the contacts of a project.
pub async fn set(tx: &mut Tx, project: &ProjectId, contacts: &Contacts) -> Result<(), Error> {
    sqlx::query("UPDATE project_contacts SET admin = ?, tech = ?, billing = ? WHERE project = ?")
        .bind(contacts.admin.as_str())
        .bind(contacts.tech.as_str())
        .bind(contacts.billing.as_str())
        .bind(project.as_str())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The projects of which an account is a contact, of any kind, oldest first; each with its contacts.
pub async fn projects_of(db: &Db, account: &AccountId) -> Result<Vec<(ProjectId, Contacts)>, Error> {
    let rows = sqlx::query(
        "SELECT c.project, c.admin, c.tech, c.billing
         FROM project_contacts c JOIN projects p ON p.id = c.project
         WHERE c.admin = ?1 OR c.tech = ?1 OR c.billing = ?1 ORDER BY p.created, p.id",
    )
    .bind(account.as_str())
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(|row| Ok((parse("project_contacts.project", row.try_get("project")?)?, contacts(row)?))).collect()
}

/// Adds a change; its `id` is ignored, the new one is the answer.
pub async fn insert_change(tx: &mut Tx, change: &Change) -> Result<i64, Error> {
    let done = sqlx::query(
        "INSERT INTO contact_changes
         (project, asking, from_account, to_account, kinds, state, from_token, to_token, requested, expires, ended)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(change.project.as_str())
    .bind(change.asking.as_str())
    .bind(change.from.as_str())
    .bind(change.to.as_str())
    .bind(&change.kinds)
    .bind(&change.state)
    .bind(&change.from_token)
    .bind(&change.to_token)
    .bind(micros(change.requested))
    .bind(micros(change.expires))
    .bind(change.ended.map(micros))
    .execute(tx.connection())
    .await?;
    Ok(done.last_insert_rowid())
}

/// Writes what may change of a change: its state, its tokens, its end.
pub async fn update_change(tx: &mut Tx, change: &Change) -> Result<(), Error> {
    sqlx::query("UPDATE contact_changes SET state = ?, from_token = ?, to_token = ?, ended = ? WHERE id = ?")
        .bind(&change.state)
        .bind(&change.from_token)
        .bind(&change.to_token)
        .bind(change.ended.map(micros))
        .bind(change.id)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The changes that an account asked for or is a side of, oldest first.
pub async fn list_changes(db: &Db, account: &AccountId) -> Result<Vec<Change>, Error> {
    let rows = sqlx::query(
        "SELECT id, project, asking, from_account, to_account, kinds, state, from_token, to_token, requested, expires,
                ended
         FROM contact_changes WHERE asking = ?1 OR from_account = ?1 OR to_account = ?1 ORDER BY id",
    )
    .bind(account.as_str())
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(change).collect()
}

/// The change of that number.
pub async fn find_change(tx: &mut Tx, id: i64) -> Result<Option<Change>, Error> {
    let row = sqlx::query(
        "SELECT id, project, asking, from_account, to_account, kinds, state, from_token, to_token, requested, expires,
                ended
         FROM contact_changes WHERE id = ?",
    )
    .bind(id)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(change).transpose()
}

/// How many changes an account has asked for since a time.
pub async fn count_changes(tx: &mut Tx, asking: &AccountId, since: Timestamp) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM contact_changes WHERE asking = ? AND requested > ?")
        .bind(asking.as_str())
        .bind(micros(since))
        .fetch_one(tx.connection())
        .await?)
}

/// The changes of a project that wait for somebody, oldest first.
pub async fn waiting_changes(tx: &mut Tx, project: &ProjectId) -> Result<Vec<Change>, Error> {
    let rows = sqlx::query(
        "SELECT id, project, asking, from_account, to_account, kinds, state, from_token, to_token, requested, expires,
                ended
         FROM contact_changes WHERE project = ? AND state = 'validatingByCustomers' ORDER BY id",
    )
    .bind(project.as_str())
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(change).collect()
}

fn contacts(row: &SqliteRow) -> Result<Contacts, Error> {
    Ok(Contacts {
        admin: parse("project_contacts.admin", row.try_get("admin")?)?,
        tech: parse("project_contacts.tech", row.try_get("tech")?)?,
        billing: parse("project_contacts.billing", row.try_get("billing")?)?,
    })
}

fn change(row: &SqliteRow) -> Result<Change, Error> {
    let ended: Option<i64> = row.try_get("ended")?;
    Ok(Change {
        id: row.try_get("id")?,
        project: parse("contact_changes.project", row.try_get("project")?)?,
        asking: parse("contact_changes.asking", row.try_get("asking")?)?,
        from: parse("contact_changes.from_account", row.try_get("from_account")?)?,
        to: parse("contact_changes.to_account", row.try_get("to_account")?)?,
        kinds: row.try_get("kinds")?,
        state: row.try_get("state")?,
        from_token: row.try_get("from_token")?,
        to_token: row.try_get("to_token")?,
        requested: time("contact_changes.requested", row.try_get("requested")?)?,
        expires: time("contact_changes.expires", row.try_get("expires")?)?,
        ended: ended.map(|micros| time("contact_changes.ended", micros)).transpose()?,
    })
}
