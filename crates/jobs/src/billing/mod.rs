//! What jobs cost (JOB-9) and what is given back for those that the platform lost (JOB-10).
//!
//! Each attempt is charged for each minute that it started between RUNNING and its end, for the cores and the memory that
//! its job asked for, at the price that was in force when the minute began. Nothing is stored of it: a statement is
//! computed from the attempts, so it cannot say anything else than they do. Money is decimal and exact; only what is paid
//! in the end is rounded, once.

mod month;
mod price;
mod statement;

use std::collections::BTreeSet;

use audit::{Actor, Entry};
use db::billing as rows;
use model::{JobId, ProjectId};
use rust_decimal::Decimal;
use serde_json::json;

pub use month::{InvalidMonth, Month};
pub use price::{InvalidPrice, Price};
pub use statement::{Correction, Credit, Failure, Line, Statement};

use crate::{Error, record::now};

/// What jobs cost; a cheap handle on database and audit log. Works beside a service that runs.
#[derive(Debug, Clone)]
pub struct Billing {
    db: db::Db,
    audit: audit::Audit,
}

/// An amount that is to be added to a statement.
#[derive(Debug, Clone)]
pub struct NewCorrection {
    /// Of which project.
    pub project: ProjectId,
    /// To which month.
    pub month: Month,
    /// The job that it is about, if any.
    pub job: Option<JobId>,
    /// How much: a decimal number with at most 6 decimals; negative for a refund.
    pub amount: String,
    /// Why, for who reads the statement.
    pub why: String,
}

impl Billing {
    /// Over the database of jobs.
    pub fn new(db: db::Db, audit: audit::Audit) -> Billing {
        Billing { db, audit }
    }

    /// The price list, oldest first.
    pub async fn prices(&self) -> Result<Vec<Price>, Error> {
        rows::prices(&self.db).await?.into_iter().map(Price::of_row).collect()
    }

    /// Adds a price, which is in force from a moment to come.
    pub async fn set_price(&self, price: &Price, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let now = now();
        if let Some(last) = rows::last_price_in(&mut tx).await? {
            if last.currency != price.currency {
                return Err(InvalidPrice::OtherCurrency(last.currency).into());
            }
            if last.since >= price.since {
                return Err(InvalidPrice::NotLast(last.since).into());
            }
            if price.since < now {
                return Err(InvalidPrice::Past(price.since).into());
            }
        }
        let row = price.row();
        rows::insert_price(&mut tx, &row, now).await?;
        let mut entry = Entry::new(by.clone(), "billing.price.set", format!("price/{}", price.since));
        entry.detail = json!({
            "since": row.since, "currency": row.currency, "coreMinute": row.core_minute, "gibMinute": row.gib_minute,
        });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// What a project owes for a month, as it stands now.
    pub async fn statement(&self, project: &ProjectId, month: Month) -> Result<Statement, Error> {
        let prices = self.prices().await?;
        let runs = rows::runs(&self.db, project, month.start(), month.end()).await?;
        let of_lost: BTreeSet<JobId> = runs.iter().filter(|run| statement::is_lost(run)).map(|run| run.job).collect();
        let mut lost = rows::ended_runs(&self.db, &of_lost.into_iter().collect::<Vec<_>>()).await?;
        lost.retain(statement::is_lost);
        let failed = rows::failed(&self.db, project, month.start(), month.end()).await?;
        let corrections = rows::corrections(&self.db, project, &month.to_string()).await?;
        Statement::of(month, now(), &prices, &runs, &lost, &failed, corrections)
    }

    /// The months from a project's first run to now, and those that have a correction, oldest first.
    pub async fn months(&self, project: &ProjectId) -> Result<BTreeSet<Month>, Error> {
        let first = rows::first_run(&self.db, project).await?.map(Month::of);
        let last = Month::of(now());
        let mut months: BTreeSet<Month> =
            std::iter::successors(first, |month| month.next()).take_while(|month| *month <= last).collect();
        for month in rows::corrected_months(&self.db, project).await? {
            let damaged = |_| db::Error::Damaged { column: "corrections.month" };
            months.insert(month.parse::<Month>().map_err(damaged)?);
        }
        Ok(months)
    }

    /// Whether a month is one of those.
    pub async fn has(&self, project: &ProjectId, month: Month) -> Result<bool, Error> {
        Ok(self.months(project).await?.contains(&month))
    }

    /// Adds an amount to a statement by hand; its number.
    pub async fn correct(&self, new: &NewCorrection, by: &Actor) -> Result<i64, Error> {
        let amount = Decimal::from_str_exact(&new.amount).ok().map(|amount| amount.normalize());
        let amount = amount.filter(|amount| !amount.is_zero() && amount.scale() <= 6 && amount.abs() < LARGEST.into());
        let amount = amount.ok_or(InvalidCorrection::Amount)?;
        let why = new.why.trim();
        if why.is_empty() || why.len() > LONGEST_WHY || why.chars().any(char::is_control) {
            return Err(InvalidCorrection::Why.into());
        }
        let mut tx = self.db.begin().await?;
        if let Some(job) = new.job {
            let found = db::jobs::find_in(&mut tx, job).await?;
            found.filter(|job| job.project == new.project).ok_or(Error::NotFound)?;
        }
        let row =
            rows::Correction { id: 0, job: new.job, amount: amount.to_string(), why: why.to_owned(), created: now() };
        let month = new.month.to_string();
        let id = match rows::insert_correction(&mut tx, &new.project, &month, &row).await {
            Err(cause) if cause.is_dangling() => return Err(Error::NoProject),
            other => other?,
        };
        let mut entry = Entry::new(by.clone(), "billing.corrected", format!("project/{}/month/{month}", new.project));
        entry.detail = json!({ "correction": id, "job": new.job, "amount": row.amount, "why": row.why });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(id)
    }
}

/// A correction that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCorrection {
    /// Not an amount.
    #[error("amount: a decimal number other than 0, below 1000000000, with at most 6 decimals")]
    Amount,
    /// Not a reason.
    #[error("why: 1 to 500 characters, on one line")]
    Why,
}

const LARGEST: u32 = 1_000_000_000;
const LONGEST_WHY: usize = 500;
