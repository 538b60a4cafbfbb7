//! What jobs cost: prices, the runs that are billed, corrections. Amounts are decimal numbers as text; what they mean is
//! not decided here.

use jiff::Timestamp;
use model::{AttemptNo, Cores, EndReason, JobId, JobStatus, MiB, ProjectId};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, number, parse, time};

/// A row of the price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// From when it is in force.
    pub since: Timestamp,
    /// ISO 4217.
    pub currency: String,
    /// Of a core for a minute.
    pub core_minute: String,
    /// Of a GiB of memory for a minute.
    pub gib_minute: String,
}

/// An attempt whose user code was started, with what its job asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The job.
    pub job: JobId,
    /// The job's name.
    pub name: String,
    /// Where it runs.
    pub region: String,
    /// The attempt.
    pub attempt: AttemptNo,
    /// Cores of the whole job.
    pub cores: Cores,
    /// Memory of the whole job.
    pub memory: MiB,
    /// When its user code was started.
    pub started: Timestamp,
    /// When it ended; `None` while it runs.
    pub ended: Option<Timestamp>,
}

/// A job that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its newest attempt.
    pub attempt: u32,
    /// When it ended.
    pub ended: Timestamp,
    /// Why.
    pub reason: Option<EndReason>,
}

/// An amount that was added to a statement by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Its number.
    pub id: i64,
    /// The job that it is about, if any.
    pub job: Option<JobId>,
    /// How much; negative for a refund.
    pub amount: String,
    /// Why.
    pub why: String,
    /// When it was made.
    pub created: Timestamp,
}

/// The price list, oldest first.
pub async fn prices(db: &Db) -> Result<Vec<Price>, Error> {
    let rows = sqlx::query("SELECT since, currency, core_minute, gib_minute FROM prices ORDER BY since")
        .fetch_all(db.readers())
        .await?;
    rows.iter().map(price).collect()
}

/// The newest row of the price list, as this transaction sees it.
pub async fn last_price_in(tx: &mut Tx) -> Result<Option<Price>, Error> {
    let row = sqlx::query("SELECT since, currency, core_minute, gib_minute FROM prices ORDER BY since DESC LIMIT 1")
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(price).transpose()
}

/// Adds a row to the price list.
pub async fn insert_price(tx: &mut Tx, price: &Price, at: Timestamp) -> Result<(), Error> {
    sqlx::query("INSERT INTO prices (since, currency, core_minute, gib_minute, created) VALUES (?, ?, ?, ?, ?)")
        .bind(micros(price.since))
        .bind(&price.currency)
        .bind(&price.core_minute)
        .bind(&price.gib_minute)
        .bind(micros(at))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The runs of a project that took time between two moments, by job and attempt. `to` itself is not between them.
pub async fn runs(db: &Db, project: &ProjectId, from: Timestamp, to: Timestamp) -> Result<Vec<Run>, Error> {
    // Each part of the union has an index of its own: a project's past costs nothing.
    let rows = sqlx::query(
        "SELECT attempts.job, attempts.number, attempts.started, attempts.ended,
                jobs.name, jobs.region, jobs.cores, jobs.memory
         FROM (
             SELECT job, number FROM attempts WHERE started >= ?2 AND started < ?3
             UNION SELECT job, number FROM attempts
                 WHERE started IS NOT NULL AND ended IS NOT NULL AND ended >= ?2 AND started < ?3
             UNION SELECT job, number FROM attempts WHERE started IS NOT NULL AND ended IS NULL AND started < ?3
         ) AS run
         JOIN attempts ON attempts.job = run.job AND attempts.number = run.number
         JOIN jobs ON jobs.id = run.job
         WHERE jobs.project = ?1 ORDER BY attempts.job, attempts.number",
    )
    .bind(project.as_str())
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(db.readers())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Run {
                job: parse("attempts.job", row.try_get("job")?)?,
                name: row.try_get("name")?,
                region: row.try_get("region")?,
                attempt: AttemptNo(number("attempts.number", row.try_get("number")?)?),
                cores: Cores(number("jobs.cores", row.try_get("cores")?)?),
                memory: MiB(number("jobs.memory", row.try_get("memory")?)?),
                started: time("attempts.started", row.try_get("started")?)?,
                ended: row.try_get::<Option<i64>, _>("ended")?.map(|at| time("attempts.ended", at)).transpose()?,
            })
        })
        .collect()
}

/// The jobs of a project that failed between two moments, by their end. `to` itself is not between them.
pub async fn failed(db: &Db, project: &ProjectId, from: Timestamp, to: Timestamp) -> Result<Vec<Failed>, Error> {
    let rows = sqlx::query(
        "SELECT id, name, attempt, ended, reason FROM jobs
         WHERE project = ? AND status = ? AND ended >= ? AND ended < ? ORDER BY ended, id",
    )
    .bind(project.as_str())
    .bind(JobStatus::Failed.as_str())
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(db.readers())
    .await?;
    rows.iter()
        .map(|row| {
            let reason = row.try_get::<Option<&str>, _>("reason")?.map(serde_json::from_str).transpose();
            Ok(Failed {
                job: parse("jobs.id", row.try_get("id")?)?,
                name: row.try_get("name")?,
                attempt: number("jobs.attempt", row.try_get("attempt")?)?,
                ended: time("jobs.ended", row.try_get("ended")?)?,
                reason: reason.map_err(|_| Error::Damaged { column: "jobs.reason" })?,
            })
        })
        .collect()
}

/// When the first run of a project started.
pub async fn first_run(db: &Db, project: &ProjectId) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query(
        "SELECT MIN(attempts.started) AS first FROM jobs JOIN attempts ON attempts.job = jobs.id
         WHERE jobs.project = ? AND attempts.started IS NOT NULL",
    )
    .bind(project.as_str())
    .fetch_one(db.readers())
    .await?;
    row.try_get::<Option<i64>, _>("first")?.map(|at| time("attempts.started", at)).transpose()
}

/// The corrections of a project's month, by number.
pub async fn corrections(db: &Db, project: &ProjectId, month: &str) -> Result<Vec<Correction>, Error> {
    let rows = sqlx::query(
        "SELECT id, job, amount, why, created FROM corrections WHERE project = ? AND month = ? ORDER BY id",
    )
    .bind(project.as_str())
    .bind(month)
    .fetch_all(db.readers())
    .await?;
    rows.iter()
        .map(|row| {
            let job = row.try_get::<Option<&str>, _>("job")?.map(|job| parse("corrections.job", job)).transpose()?;
            Ok(Correction {
                id: row.try_get("id")?,
                job,
                amount: row.try_get("amount")?,
                why: row.try_get("why")?,
                created: time("corrections.created", row.try_get("created")?)?,
            })
        })
        .collect()
}

/// Adds a correction; its `id` is ignored, the new one is the answer.
pub async fn insert_correction(
    tx: &mut Tx,
    project: &ProjectId,
    month: &str,
    correction: &Correction,
) -> Result<i64, Error> {
    let done =
        sqlx::query("INSERT INTO corrections (project, month, job, amount, why, created) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(project.as_str())
            .bind(month)
            .bind(correction.job.map(|job| job.to_string()))
            .bind(&correction.amount)
            .bind(&correction.why)
            .bind(micros(correction.created))
            .execute(tx.connection())
            .await?;
    Ok(done.last_insert_rowid())
}

fn price(row: &SqliteRow) -> Result<Price, Error> {
    Ok(Price {
        since: time("prices.since", row.try_get("since")?)?,
        currency: row.try_get("currency")?,
        core_minute: row.try_get("core_minute")?,
        gib_minute: row.try_get("gib_minute")?,
    })
}
