//! What a project may take at once (JOB-4). A change holds for what is not yet started.

use std::collections::BTreeMap;

use audit::{Actor, Entry};
use model::{ProjectId, Quota, Usage};
use serde_json::json;

use crate::{Error, record::now};

/// Quotas of projects; a cheap handle on database and audit log. Works beside a service that runs.
#[derive(Debug, Clone)]
pub struct Quotas {
    db: db::Db,
    audit: audit::Audit,
}

impl Quotas {
    /// Over the database of jobs.
    pub fn new(db: db::Db, audit: audit::Audit) -> Quotas {
        Quotas { db, audit }
    }

    /// The quota of a project; no bounds where none was set.
    pub async fn find(&self, project: &ProjectId) -> Result<Quota, Error> {
        Ok(db::quotas::find(&self.db, project).await?)
    }

    /// What a project takes now.
    pub async fn used(&self, project: &ProjectId) -> Result<Usage, Error> {
        let used: BTreeMap<ProjectId, Usage> = db::jobs::used(&self.db).await?;
        Ok(used.get(project).copied().unwrap_or_default())
    }

    /// Changes the quota of a project by `change`, and gives it as it is then. Jobs that run go on; those that wait and
    /// are larger than all of it wait for another one. [`Error::NoProject`] where there is no such project.
    pub async fn change(
        &self,
        project: &ProjectId,
        change: impl FnOnce(Quota) -> Quota,
        by: &Actor,
    ) -> Result<Quota, Error> {
        let mut tx = self.db.begin().await?;
        let before = db::quotas::find_in(&mut tx, project).await?;
        let after = change(before);
        match db::quotas::set(&mut tx, project, &after, now()).await {
            Err(cause) if cause.is_dangling() => return Err(Error::NoProject),
            done => done?,
        }
        let mut entry = Entry::new(by.clone(), "quota.set", format!("project/{project}"));
        entry.detail = json!({ "before": before, "after": after });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(after)
    }
}
