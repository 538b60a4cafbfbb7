//! What jobs cost: prices, the runs that are billed, corrections. Amounts are decimal numbers as text; what they mean is
//! not decided here.

use jiff::Timestamp;
use model::{AttemptNo, Cores, EndReason, JobId, MiB, ProjectId};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, json_list, micros, number, parse, time};

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
    /// Why it ended. Not known of some that ended before this was written down.
    pub reason: Option<EndReason>,
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
    let rows =
        sqlx::query(RUNS).bind(project.as_str()).bind(micros(from)).bind(micros(to)).fetch_all(db.readers()).await?;
    rows.iter().map(run).collect()
}

/// All runs of these jobs that have ended, by job and attempt.
pub async fn ended_runs(db: &Db, jobs: &[JobId]) -> Result<Vec<Run>, Error> {
    let ids: Vec<String> = jobs.iter().map(ToString::to_string).collect();
    let rows = sqlx::query(ENDED_RUNS)
        .bind(json_list(&ids.iter().map(String::as_str).collect::<Vec<_>>()))
        .fetch_all(db.readers())
        .await?;
    rows.iter().map(run).collect()
}

/// The jobs of a project that failed between two moments, by their end. `to` itself is not between them.
pub async fn failed(db: &Db, project: &ProjectId, from: Timestamp, to: Timestamp) -> Result<Vec<Failed>, Error> {
    let rows =
        sqlx::query(FAILED).bind(project.as_str()).bind(micros(from)).bind(micros(to)).fetch_all(db.readers()).await?;
    rows.iter()
        .map(|row| {
            Ok(Failed {
                job: parse("jobs.id", row.try_get("id")?)?,
                name: row.try_get("name")?,
                attempt: number("jobs.attempt", row.try_get("attempt")?)?,
                ended: time("jobs.ended", row.try_get("ended")?)?,
                reason: reason(row, "jobs.reason")?,
            })
        })
        .collect()
}

/// When the first run of a project started.
pub async fn first_run(db: &Db, project: &ProjectId) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query(FIRST_RUN).bind(project.as_str()).fetch_one(db.readers()).await?;
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

/// The months of a project that have corrections.
pub async fn corrected_months(db: &Db, project: &ProjectId) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(CORRECTED_MONTHS).bind(project.as_str()).fetch_all(db.readers()).await?)
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

fn run(row: &SqliteRow) -> Result<Run, Error> {
    Ok(Run {
        job: parse("attempts.job", row.try_get("job")?)?,
        name: row.try_get("name")?,
        region: row.try_get("region")?,
        attempt: AttemptNo(number("attempts.number", row.try_get("number")?)?),
        cores: Cores(number("jobs.cores", row.try_get("cores")?)?),
        memory: MiB(number("jobs.memory", row.try_get("memory")?)?),
        started: time("attempts.started", row.try_get("started")?)?,
        ended: row.try_get::<Option<i64>, _>("ended")?.map(|at| time("attempts.ended", at)).transpose()?,
        reason: reason(row, "attempts.reason")?,
    })
}

fn reason(row: &SqliteRow, column: &'static str) -> Result<Option<EndReason>, Error> {
    let reason = row.try_get::<Option<&str>, _>("reason")?.map(serde_json::from_str).transpose();
    reason.map_err(|_| Error::Damaged { column })
}

fn price(row: &SqliteRow) -> Result<Price, Error> {
    Ok(Price {
        since: time("prices.since", row.try_get("since")?)?,
        currency: row.try_get("currency")?,
        core_minute: row.try_get("core_minute")?,
        gib_minute: row.try_get("gib_minute")?,
    })
}

// Each part of the union has an index of its own, so that a month costs what ran in it: what started in it, what was begun
// before and ended in a later month than it was begun in (an index that holds such runs alone), and what still runs.
const RUNS: &str = "SELECT attempts.job, attempts.number, attempts.started, attempts.ended, attempts.reason,
        jobs.name, jobs.region, jobs.cores, jobs.memory
     FROM (
         SELECT job, number FROM attempts WHERE project = ?1 AND started >= ?2 AND started < ?3
         UNION SELECT job, number FROM attempts INDEXED BY attempts_over_months
             WHERE project = ?1 AND started IS NOT NULL AND ended IS NOT NULL
               AND strftime('%Y-%m', started / 1000000, 'unixepoch') <> strftime('%Y-%m', ended / 1000000, 'unixepoch')
               AND ended >= ?2 AND started < ?3
         UNION SELECT job, number FROM attempts
             WHERE project = ?1 AND started IS NOT NULL AND ended IS NULL AND started < ?3
     ) AS run
     JOIN attempts ON attempts.job = run.job AND attempts.number = run.number
     JOIN jobs ON jobs.id = run.job
     ORDER BY attempts.job, attempts.number";
const ENDED_RUNS: &str = "SELECT attempts.job, attempts.number, attempts.started, attempts.ended, attempts.reason,
        jobs.name, jobs.region, jobs.cores, jobs.memory
     FROM json_each(?1) AS wanted JOIN attempts ON attempts.job = wanted.value JOIN jobs ON jobs.id = attempts.job
     WHERE attempts.started IS NOT NULL AND attempts.ended IS NOT NULL
     ORDER BY attempts.job, attempts.number";
const FAILED: &str = "SELECT id, name, attempt, ended, reason FROM jobs
     WHERE project = ? AND status = 'FAILED' AND ended >= ? AND ended < ? ORDER BY ended, id";
const FIRST_RUN: &str = "SELECT MIN(started) AS first FROM attempts WHERE project = ? AND started IS NOT NULL";
const CORRECTED_MONTHS: &str = "SELECT DISTINCT month FROM corrections WHERE project = ?";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_month_is_read_by_indexes_and_no_past_or_later_one_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        for (statement, indexes) in [
            (RUNS, &["attempts_of_project_by_start", "attempts_over_months", "attempts_of_project_that_run"][..]),
            (ENDED_RUNS, &["sqlite_autoindex_attempts_1"][..]),
            (FAILED, &["jobs_that_failed"][..]),
            (FIRST_RUN, &["attempts_of_project_by_start"][..]),
            (CORRECTED_MONTHS, &["corrections_of_month"][..]),
        ] {
            let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let rows = sqlx::query(explained).fetch_all(db.readers()).await.expect("a plan");
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            for index in indexes {
                let used = plan.iter().any(|step| {
                    step.contains(&format!("USING INDEX {index} ("))
                        || step.contains(&format!("USING COVERING INDEX {index} ("))
                });
                assert!(used, "{index}: {plan:#?}");
            }
            let scans = |step: &&String| step.starts_with("SCAN") && !step.contains("run") && !step.contains("wanted");
            assert_eq!(plan.iter().find(scans), None, "{plan:#?}");
        }
    }
}
