//! `casemate project quota`: what a project may take at once.

use std::str::FromStr;

use clap::{Args, Subcommand};
use jobs::Quotas;
use model::{Cores, MiB, ProjectId, Quota, Usage};
use serde_json::{Value, json};

use super::{DataArgs, Office};
use crate::{
    cli::{Global, output},
    failure::{Doing, Failure},
};

/// Verbs of quotas.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Show what a project may take at once, and what its jobs take now
    Show {
        /// Whose
        #[arg(value_name = "PROJECT")]
        project: ProjectId,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Change it, for jobs that have not started; a waiting job that is larger than all of it waits on
    Set {
        /// Whose
        #[arg(value_name = "PROJECT")]
        project: ProjectId,
        #[command(flatten)]
        bounds: Bounds,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Bounds to change; what is not named stays.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Bounds {
    /// Jobs that may run at once, or none; 0 keeps all of them waiting
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<Bound>,
    /// Cores, or none
    #[arg(long, value_name = "NUMBER")]
    cores: Option<Bound>,
    /// Memory in MiB, or none
    #[arg(long, value_name = "MIB")]
    memory: Option<Bound>,
    /// Local storage in MiB, or none
    #[arg(long, value_name = "MIB")]
    storage: Option<Bound>,
}

/// A bound; `None` is no bound.
#[derive(Debug, Clone, Copy)]
pub struct Bound(Option<u32>);

impl FromStr for Bound {
    type Err = String;
    fn from_str(text: &str) -> Result<Bound, String> {
        match text {
            "none" => Ok(Bound(None)),
            number => number
                .parse()
                .map(|number| Bound(Some(number)))
                .map_err(|_| format!("a whole number from 0 to {}, or none", u32::MAX)),
        }
    }
}

impl Bounds {
    fn change(&self, quota: Quota) -> Quota {
        let size = |bound: Bound| bound.0.map(|size| MiB(size.into()));
        Quota {
            jobs: self.jobs.map_or(quota.jobs, |bound| bound.0),
            cores: self.cores.map_or(quota.cores, |bound| bound.0.map(Cores)),
            memory: self.memory.map_or(quota.memory, size),
            storage: self.storage.map_or(quota.storage, size),
        }
    }
}

/// Runs one.
pub async fn quota(command: QuotaCommand, global: &Global) -> Result<(), Failure> {
    match command {
        QuotaCommand::Show { project, data } => {
            let office = Office::open(global, &data).await?;
            office.known_project(&project).await?;
            let quota = office.quotas().find(&project).await.doing("cannot read the quota")?;
            office.show(global, &project, &quota).await?;
            office.close().await
        }
        QuotaCommand::Set { project, bounds, data } => {
            let office = Office::open(global, &data).await?;
            office.known_project(&project).await?;
            let changed = office.quotas().change(&project, |quota| bounds.change(quota), &office.by).await;
            office.show(global, &project, &changed.doing("cannot change the quota")?).await?;
            office.close().await
        }
    }
}

impl Office {
    fn quotas(&self) -> Quotas {
        Quotas::new(self.db.clone(), audit::Audit::new(self.db.clone()))
    }

    async fn show(&self, global: &Global, project: &ProjectId, quota: &Quota) -> Result<(), Failure> {
        let used = self.quotas().used(project).await.doing("cannot read what is in use")?;
        output::print(global.output, &describe(project, quota, &used), || {
            let bound = |bound: Option<String>| bound.unwrap_or_else(|| "none".to_owned());
            let row = |of: &str, limit: Option<String>, used: String| vec![of.to_owned(), used, bound(limit)];
            output::table(
                &["of", "in use", "at most"],
                &[
                    row("jobs", quota.jobs.map(|jobs| jobs.to_string()), used.jobs.to_string()),
                    row("cores", quota.cores.map(|cores| cores.to_string()), used.cores.to_string()),
                    row("memory", quota.memory.map(|memory| memory.to_string()), used.memory.to_string()),
                    row("storage", quota.storage.map(|storage| storage.to_string()), used.storage.to_string()),
                ],
            )
        })
    }
}

fn describe(project: &ProjectId, quota: &Quota, used: &Usage) -> Value {
    json!({
        "project": project,
        "quota": quota,
        "used": { "jobs": used.jobs, "cores": used.cores, "memory": used.memory, "storage": used.storage },
    })
}
