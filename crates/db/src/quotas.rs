//! Quotas of projects. What follows from them is not decided here.

use jiff::Timestamp;
use model::{Cores, MiB, ProjectId, Quota};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros};

/// The quota of a project; no bounds where none was set.
pub async fn find(db: &Db, project: &ProjectId) -> Result<Quota, Error> {
    let row = sqlx::query("SELECT jobs, cores, memory, storage FROM project_quotas WHERE project = ?")
        .bind(project.as_str())
        .fetch_optional(db.readers())
        .await?;
    row.as_ref().map_or(Ok(Quota::default()), quota)
}

/// The same, as this transaction sees it.
pub async fn find_in(tx: &mut Tx, project: &ProjectId) -> Result<Quota, Error> {
    let row = sqlx::query("SELECT jobs, cores, memory, storage FROM project_quotas WHERE project = ?")
        .bind(project.as_str())
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map_or(Ok(Quota::default()), quota)
}

/// Sets the quota of a project; [`Error::is_dangling`] where there is no such project.
pub async fn set(tx: &mut Tx, project: &ProjectId, quota: &Quota, at: Timestamp) -> Result<(), Error> {
    let amount = |amount: Option<MiB>| {
        amount
            .map(|amount| i64::try_from(amount.0).map_err(|_| Error::Damaged { column: "project_quotas" }))
            .transpose()
    };
    sqlx::query(
        "INSERT INTO project_quotas (project, jobs, cores, memory, storage, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (project) DO UPDATE SET jobs = ?2, cores = ?3, memory = ?4, storage = ?5, changed = ?6",
    )
    .bind(project.as_str())
    .bind(quota.jobs.map(i64::from))
    .bind(quota.cores.map(|cores| i64::from(cores.0)))
    .bind(amount(quota.memory)?)
    .bind(amount(quota.storage)?)
    .bind(micros(at))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The columns `jobs`, `cores`, `memory` and `storage` of a row of quotas.
pub(crate) fn quota(row: &SqliteRow) -> Result<Quota, Error> {
    fn bound<T: TryFrom<i64>>(row: &SqliteRow, name: &str) -> Result<Option<T>, Error> {
        let stored = row.try_get::<Option<i64>, _>(name)?;
        stored.map(|stored| T::try_from(stored).map_err(|_| Error::Damaged { column: "project_quotas" })).transpose()
    }
    Ok(Quota {
        jobs: bound(row, "jobs")?,
        cores: bound(row, "cores")?.map(Cores),
        memory: bound(row, "memory")?.map(MiB),
        storage: bound(row, "storage")?.map(MiB),
    })
}
