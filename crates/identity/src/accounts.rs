//! Accounts and projects.

pub use db::accounts::{Account, Project};

use audit::{Actor, Entry};
use model::{AccountId, ProjectId};

use crate::{Error, Identity, random};

impl Identity {
    /// Makes an account.
    pub async fn create_account(&self, id: &AccountId, email: &str, name: &str, by: &Actor) -> Result<Account, Error> {
        let account = Account { id: id.clone(), email: email.to_owned(), name: name.to_owned(), created: crate::now() };
        let mut tx = self.db.begin().await?;
        db::accounts::insert(&mut tx, &account).await.map_err(|fault| exists(fault, "account", id.as_str()))?;
        made(self.keys.create_account(id))?;
        self.audit.record_in(&mut tx, &Entry::new(by.clone(), "account.created", format!("account/{id}"))).await?;
        tx.commit().await?;
        Ok(account)
    }

    /// The account of that id.
    pub async fn account(&self, id: &AccountId) -> Result<Option<Account>, Error> {
        Ok(db::accounts::find(&self.db, id).await?)
    }

    /// All accounts, oldest first.
    pub async fn accounts(&self) -> Result<Vec<Account>, Error> {
        Ok(db::accounts::list(&self.db).await?)
    }

    /// Makes a project of an account, with data processing switched on.
    pub async fn create_project(&self, account: &AccountId, name: &str, by: &Actor) -> Result<Project, Error> {
        let text = random::hex::<16>()?;
        let id: ProjectId = text.parse().map_err(|_| Error::Damaged { what: "project id" })?;
        let project =
            Project { id, account: account.clone(), name: name.to_owned(), authorized: true, created: crate::now() };
        let mut tx = self.db.begin().await?;
        db::accounts::insert_project(&mut tx, &project)
            .await
            .map_err(|fault| dangling(fault, "account", account.as_str()))?;
        made(self.keys.create_project(&project.id, account))?;
        let entry = Entry::new(by.clone(), "project.created", format!("project/{}", project.id));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(project)
    }

    /// Switches data processing on for a project.
    pub async fn authorize_project(&self, id: &ProjectId, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::accounts::authorize_project(&mut tx, id).await? {
            return Err(Error::NotFound { kind: "project", id: id.to_string() });
        }
        let entry = Entry::new(by.clone(), "project.dataProcessing.authorized", format!("project/{id}"));
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// The project of that id.
    pub async fn project(&self, id: &ProjectId) -> Result<Option<Project>, Error> {
        Ok(db::accounts::find_project(&self.db, id).await?)
    }

    /// The projects of an account, or all, oldest first.
    pub async fn projects(&self, of: Option<&AccountId>) -> Result<Vec<Project>, Error> {
        Ok(db::accounts::list_projects(&self.db, of).await?)
    }
}

/// A key that is there without its row is left from a creation that a crash cut short; it is used now.
fn made(result: Result<(), keys::Error>) -> Result<(), Error> {
    match result {
        Ok(()) | Err(keys::Error::Exists { .. }) => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

pub(crate) fn exists(fault: db::Error, kind: &'static str, id: &str) -> Error {
    if fault.is_duplicate() { Error::Exists { kind, id: id.to_owned() } } else { fault.into() }
}

pub(crate) fn dangling(fault: db::Error, kind: &'static str, id: &str) -> Error {
    if fault.is_dangling() { Error::NotFound { kind, id: id.to_owned() } } else { fault.into() }
}
