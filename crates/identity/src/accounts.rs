//! Accounts and projects.

pub use db::accounts::{Account, Project};

use std::{collections::HashMap, sync::PoisonError};

use audit::{Actor, Entry};
use model::{AccountId, ProjectId, Region};
use serde_json::json;

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

    /// Makes a project of an account in the first region of the service, with data processing switched on.
    pub async fn create_project(&self, account: &AccountId, name: &str, by: &Actor) -> Result<Project, Error> {
        self.create_project_in(account, name, None, by).await
    }

    /// The same in a region, which does not change after; `None` is the first of the service, from its next start on.
    pub async fn create_project_in(
        &self,
        account: &AccountId,
        name: &str,
        region: Option<&Region>,
        by: &Actor,
    ) -> Result<Project, Error> {
        let text = random::hex::<16>()?;
        let id: ProjectId = text.parse().map_err(|_| Error::Damaged { what: "project id" })?;
        let project = Project {
            id,
            account: account.clone(),
            name: name.to_owned(),
            authorized: true,
            region: region.cloned(),
            created: crate::now(),
        };
        let mut tx = self.db.begin().await?;
        db::accounts::insert_project(&mut tx, &project)
            .await
            .map_err(|fault| dangling(fault, "account", account.as_str()))?;
        made(self.keys.create_project(&project.id, account))?;
        let mut entry = Entry::new(by.clone(), "project.created", format!("project/{}", project.id));
        entry.detail = json!({ "region": project.region });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(project)
    }

    /// Gives projects of before projects had a region this one. Returns how many there were.
    pub async fn settle_regions(&self, first: &Region, by: &Actor) -> Result<u64, Error> {
        let mut tx = self.db.begin().await?;
        let settled = db::accounts::settle_regions(&mut tx, first).await?;
        if settled > 0 {
            let mut entry = Entry::new(by.clone(), "project.regions.settled", format!("region/{first}"));
            entry.detail = json!({ "projects": settled });
            self.audit.record_in(&mut tx, &entry).await?;
        }
        tx.commit().await?;
        Ok(settled)
    }

    /// The region of a project, which is asked for at each call of the object store; `None` where there is no such
    /// project, or it has none yet.
    pub async fn region_of(&self, id: &ProjectId) -> Result<Option<Region>, Error> {
        let known = |regions: &HashMap<ProjectId, Region>| regions.get(id).cloned();
        if let Some(region) = known(&self.regions.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(region));
        }
        let found = self.project(id).await?.and_then(|project| project.region);
        if let Some(region) = &found {
            // It does not change: what is known once stays true.
            self.regions.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), region.clone());
        }
        Ok(found)
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
