//! Versions of engines: what a job may ask for now, and what the operator has withdrawn (JOB-2). A withdrawal holds for what
//! is not yet started.

use audit::{Actor, Entry};
use jiff::{Timestamp, tz::TimeZone};
use model::{EngineVersion, Region, SpecRules, Withdrawal};
use serde_json::json;

use crate::{Error, Inner, record};

/// Withdrawals of engine versions; a cheap handle on database and audit log. Works beside a service that runs.
#[derive(Debug, Clone)]
pub struct Versions {
    db: db::Db,
    audit: audit::Audit,
}

impl Versions {
    /// Over the database of jobs.
    pub fn new(db: db::Db, audit: audit::Audit) -> Versions {
        Versions { db, audit }
    }

    /// What is withdrawn, by version.
    pub async fn withdrawn(&self) -> Result<Vec<Withdrawal>, Error> {
        Ok(db::engines::withdrawals(&self.db).await?)
    }

    /// Withdraws a version: from then on no submit and no retry on it is accepted, and what waits for it ends. Jobs that run go
    /// on. [`Error::Withdrawal`] where it is withdrawn already, or the reason is none.
    pub async fn withdraw(&self, version: &EngineVersion, reason: &str, by: &Actor) -> Result<Withdrawal, Error> {
        let reason = reason.trim();
        let (length, control) = (reason.chars().count(), reason.chars().any(char::is_control));
        if !(1..=LONGEST_REASON).contains(&length) || control {
            return Err(Error::Withdrawal(InvalidWithdrawal::Reason));
        }
        let withdrawal = Withdrawal { version: version.clone(), reason: reason.to_owned(), at: record::now() };
        let mut tx = self.db.begin().await?;
        match db::engines::withdraw(&mut tx, &withdrawal).await {
            Err(cause) if cause.is_duplicate() => return Err(Error::Withdrawal(InvalidWithdrawal::Already)),
            done => done?,
        }
        let mut entry = entry("engine.withdrawn", version, by);
        entry.detail = json!({ "reason": withdrawal.reason });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(withdrawal)
    }

    /// Takes a withdrawal back. [`Error::Withdrawal`] where the version is not withdrawn.
    pub async fn restore(&self, version: &EngineVersion, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::engines::restore(&mut tx, version).await? {
            return Err(Error::Withdrawal(InvalidWithdrawal::Not));
        }
        self.audit.record_in(&mut tx, &entry("engine.restored", version, by)).await?;
        Ok(tx.commit().await?)
    }
}

/// Why a withdrawal cannot be made or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWithdrawal {
    /// It is withdrawn already.
    #[error("the version is withdrawn already")]
    Already,
    /// It is not withdrawn.
    #[error("the version is not withdrawn")]
    Not,
    /// No text that owners of jobs can be told.
    #[error("a reason has 1 to {LONGEST_REASON} characters, none of them a control character")]
    Reason,
}

/// What jobs of a project in `home` may ask for at a time.
pub(crate) async fn rules(jobs: &Inner, home: Region, at: Timestamp) -> Result<SpecRules, Error> {
    let offer = offer(jobs, at).await?;
    Ok(SpecRules { regions: vec![home], versions: offer.versions(), retired: offer.retired })
}

/// The engines at a time: those that jobs may ask for, and the others.
pub(crate) async fn offer(jobs: &Inner, at: Timestamp) -> Result<engine::Offer, Error> {
    let withdrawn = db::engines::withdrawals(&jobs.parts.db).await?;
    Ok(jobs.parts.engines.offer(at.to_zoned_datetime(TimeZone::UTC).date(), &withdrawn))
}

/// Ends what waits for a version that is withdrawn.
pub(crate) async fn end_withdrawn(jobs: &Inner) -> Result<(), Error> {
    loop {
        let waiting = db::engines::waiting_on_withdrawn(&jobs.parts.db, BATCH).await?;
        for id in &waiting {
            record::withdrawn(jobs, *id).await?;
        }
        if waiting.len() < BATCH as usize {
            return Ok(());
        }
    }
}

fn entry(action: &str, version: &EngineVersion, by: &Actor) -> Entry {
    Entry::new(by.clone(), action, format!("engine/spark-{version}"))
}

const LONGEST_REASON: usize = 300;
const BATCH: u32 = 100;
