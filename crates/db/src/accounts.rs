//! Accounts and projects.

use jiff::Timestamp;
use model::{AccountId, ProjectId, Region};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, json_list, micros, parse, time};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its handle.
    pub id: AccountId,
    /// Where its owner is reached.
    pub email: String,
    /// Its owner's name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A project of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id, `serviceName` in the API.
    pub id: ProjectId,
    /// Whose it is.
    pub account: AccountId,
    /// Its name, for people.
    pub name: String,
    /// Whether it may use data processing.
    pub authorized: bool,
    /// Where its data are kept and its jobs run; `None` is the first region of the service, until that has started.
    pub region: Option<Region>,
    /// When it was made.
    pub created: Timestamp,
}

impl Project {
    /// Its region, in a service that has these.
    pub fn region_among<'r>(&'r self, regions: &'r [Region]) -> Option<&'r Region> {
        self.region.as_ref().or_else(|| regions.first())
    }
}

/// Adds an account.
pub async fn insert(tx: &mut Tx, account: &Account) -> Result<(), Error> {
    sqlx::query("INSERT INTO accounts (id, email, name, created) VALUES (?, ?, ?, ?)")
        .bind(account.id.as_str())
        .bind(&account.email)
        .bind(&account.name)
        .bind(micros(account.created))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The account of that id.
pub async fn find(db: &Db, id: &AccountId) -> Result<Option<Account>, Error> {
    let row = sqlx::query("SELECT id, email, name, created FROM accounts WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(db.readers())
        .await?;
    row.as_ref().map(account).transpose()
}

/// All accounts, oldest first.
pub async fn list(db: &Db) -> Result<Vec<Account>, Error> {
    let rows = sqlx::query("SELECT id, email, name, created FROM accounts ORDER BY created, id")
        .fetch_all(db.readers())
        .await?;
    rows.iter().map(account).collect()
}

/// Adds a project.
pub async fn insert_project(tx: &mut Tx, project: &Project) -> Result<(), Error> {
    sqlx::query("INSERT INTO projects (id, account, name, authorized, created, region) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(project.id.as_str())
        .bind(project.account.as_str())
        .bind(&project.name)
        .bind(project.authorized)
        .bind(micros(project.created))
        .bind(project.region.as_ref().map(Region::as_str))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Switches data processing on for a project; whether there is such a project.
pub async fn authorize_project(tx: &mut Tx, id: &ProjectId) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE projects SET authorized = 1 WHERE id = ?")
        .bind(id.as_str())
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Gives the projects that have no region one; how many there were.
pub async fn settle_regions(tx: &mut Tx, region: &Region) -> Result<u64, Error> {
    let done = sqlx::query("UPDATE projects SET region = ? WHERE region IS NULL")
        .bind(region.as_str())
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}

/// The project of that id.
pub async fn find_project(db: &Db, id: &ProjectId) -> Result<Option<Project>, Error> {
    let row = sqlx::query("SELECT id, account, name, authorized, created, region FROM projects WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(db.readers())
        .await?;
    row.as_ref().map(project).transpose()
}

/// The projects of an account, or all, oldest first.
pub async fn list_projects(db: &Db, of: Option<&AccountId>) -> Result<Vec<Project>, Error> {
    let rows = sqlx::query(
        "SELECT id, account, name, authorized, created, region FROM projects
         WHERE ?1 IS NULL OR account = ?1 ORDER BY created, id",
    )
    .bind(of.map(AccountId::as_str))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(project).collect()
}

/// The projects that have one of these ids and of which an account is the administrative contact.
pub async fn projects_named(db: &Db, account: &AccountId, ids: &[&str]) -> Result<Vec<Project>, Error> {
    let rows = sqlx::query(
        "SELECT id, account, name, authorized, created, region FROM projects
         WHERE id IN (SELECT project FROM project_contacts WHERE admin = ?) AND id IN (SELECT value FROM json_each(?))",
    )
    .bind(account.as_str())
    .bind(json_list(ids))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(project).collect()
}

fn account(row: &SqliteRow) -> Result<Account, Error> {
    Ok(Account {
        id: parse("accounts.id", row.try_get("id")?)?,
        email: row.try_get("email")?,
        name: row.try_get("name")?,
        created: time("accounts.created", row.try_get("created")?)?,
    })
}

/// The columns of [`Project`].
pub(crate) fn project(row: &SqliteRow) -> Result<Project, Error> {
    Ok(Project {
        id: parse("projects.id", row.try_get("id")?)?,
        account: parse("projects.account", row.try_get("account")?)?,
        name: row.try_get("name")?,
        authorized: row.try_get("authorized")?,
        region: row
            .try_get::<Option<String>, _>("region")?
            .as_deref()
            .map(|text| parse("projects.region", text))
            .transpose()?,
        created: time("projects.created", row.try_get("created")?)?,
    })
}
