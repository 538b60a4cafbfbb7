//! Schedules of jobs and what came of their times. When they come is not decided here.

use jiff::Timestamp;
use model::{
    AccountId, CatchUp, EngineVersion, JobId, Principal, ProjectId, RunOutcome, Schedule, ScheduleId, ScheduleRun,
};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, number, parse, time};

/// A schedule that was made by a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyed {
    /// The schedule, as it is now.
    pub schedule: Schedule,
    /// SHA-256 of what was asked for.
    pub digest: Vec<u8>,
}

/// A schedule whose owner is to be told something of the engine version that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: ProjectId,
    /// Whom to tell.
    pub account: AccountId,
}

/// Adds a schedule, with the key that its creation is named by; [`Error::is_duplicate`] where the project has one of that name
/// or key.
pub async fn insert(tx: &mut Tx, schedule: &Schedule, key: Option<(&str, &[u8])>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO schedules (id, project, name, cron, zone, request, version, catch_up, overlap, starts, ends, enabled,
             stopped, account, identity, person, refusals, created, changed, next_run, client_key, client_digest)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(schedule.id.to_string())
    .bind(schedule.project.as_str())
    .bind(&schedule.name)
    .bind(&schedule.cron)
    .bind(&schedule.zone)
    .bind(request(schedule)?)
    .bind(&schedule.request.engine_version)
    .bind(i64::from(schedule.catch_up.0))
    .bind(schedule.overlap.as_str())
    .bind(schedule.starts.map(micros))
    .bind(schedule.ends.map(micros))
    .bind(schedule.enabled)
    .bind(&schedule.stopped)
    .bind(schedule.owner.account.as_str())
    .bind(&schedule.owner.urn)
    .bind(schedule.owner.person)
    .bind(i64::from(schedule.refusals))
    .bind(micros(schedule.created))
    .bind(micros(schedule.changed))
    .bind(schedule.next_run.map(micros))
    .bind(key.map(|(key, _)| key))
    .bind(key.map(|(_, digest)| digest))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Writes all that can change of a schedule; [`Error::is_duplicate`] where the project has another one of that name.
pub async fn update(tx: &mut Tx, schedule: &Schedule) -> Result<(), Error> {
    sqlx::query(
        "UPDATE schedules SET name = ?2, cron = ?3, zone = ?4, request = ?5, version = ?6, catch_up = ?7, overlap = ?8,
             starts = ?9, ends = ?10, enabled = ?11, stopped = ?12, account = ?13, identity = ?14, person = ?15,
             refusals = ?16, changed = ?17, next_run = ?18
         WHERE id = ?1",
    )
    .bind(schedule.id.to_string())
    .bind(&schedule.name)
    .bind(&schedule.cron)
    .bind(&schedule.zone)
    .bind(request(schedule)?)
    .bind(&schedule.request.engine_version)
    .bind(i64::from(schedule.catch_up.0))
    .bind(schedule.overlap.as_str())
    .bind(schedule.starts.map(micros))
    .bind(schedule.ends.map(micros))
    .bind(schedule.enabled)
    .bind(&schedule.stopped)
    .bind(schedule.owner.account.as_str())
    .bind(&schedule.owner.urn)
    .bind(schedule.owner.person)
    .bind(i64::from(schedule.refusals))
    .bind(micros(schedule.changed))
    .bind(schedule.next_run.map(micros))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Removes a schedule with what came of its times; its jobs stay.
pub async fn delete(tx: &mut Tx, id: ScheduleId) -> Result<(), Error> {
    sqlx::query("DELETE FROM schedules WHERE id = ?").bind(id.to_string()).execute(tx.connection()).await?;
    Ok(())
}

/// The schedule of that id, whosever it is.
pub async fn find(db: &Db, id: ScheduleId) -> Result<Option<Schedule>, Error> {
    let row =
        sqlx::query("SELECT * FROM schedules WHERE id = ?").bind(id.to_string()).fetch_optional(db.readers()).await?;
    row.as_ref().map(schedule).transpose()
}

/// The same, as this transaction sees it.
pub async fn find_in(tx: &mut Tx, id: ScheduleId) -> Result<Option<Schedule>, Error> {
    let row = sqlx::query("SELECT * FROM schedules WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(schedule).transpose()
}

/// The schedule of a project that was made by a key since a time.
pub async fn find_keyed_in(
    tx: &mut Tx,
    project: &ProjectId,
    key: &str,
    since: Timestamp,
) -> Result<Option<Keyed>, Error> {
    let row = sqlx::query("SELECT * FROM schedules WHERE project = ? AND client_key = ? AND created > ?")
        .bind(project.as_str())
        .bind(key)
        .bind(micros(since))
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(|row| Ok(Keyed { schedule: schedule(row)?, digest: row.try_get("client_digest")? })).transpose()
}

/// Lets a key of a project name another schedule.
pub async fn forget_key(tx: &mut Tx, project: &ProjectId, key: &str) -> Result<(), Error> {
    sqlx::query("UPDATE schedules SET client_key = NULL, client_digest = NULL WHERE project = ? AND client_key = ?")
        .bind(project.as_str())
        .bind(key)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The schedules of a project, by name.
pub async fn list(db: &Db, project: &ProjectId) -> Result<Vec<Schedule>, Error> {
    let rows = sqlx::query("SELECT * FROM schedules WHERE project = ? ORDER BY name")
        .bind(project.as_str())
        .fetch_all(db.readers())
        .await?;
    rows.iter().map(schedule).collect()
}

/// How many schedules a project has.
pub async fn count_in(tx: &mut Tx, project: &ProjectId) -> Result<u64, Error> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM schedules WHERE project = ?")
        .bind(project.as_str())
        .fetch_one(tx.connection())
        .await?;
    number("schedules", row.try_get("total")?)
}

/// Schedules whose next run is not after `now`, in the order of their times, from behind a place on; at most `limit`.
pub async fn due(
    db: &Db,
    now: Timestamp,
    behind: Option<(Timestamp, ScheduleId)>,
    limit: u32,
) -> Result<Vec<Schedule>, Error> {
    let (at, id) = behind.map_or((i64::MIN, String::new()), |(at, id)| (micros(at), id.to_string()));
    let rows =
        sqlx::query(DUE).bind(micros(now)).bind(at).bind(id).bind(i64::from(limit)).fetch_all(db.readers()).await?;
    rows.iter().map(schedule).collect()
}

/// When the next of all schedules comes.
pub async fn next(db: &Db) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query(NEXT).fetch_one(db.readers()).await?;
    row.try_get::<Option<i64>, _>("next")?.map(|at| time("schedules.next_run", at)).transpose()
}

/// Adds what came of a time; [`Error::is_duplicate`] where that is written.
pub async fn insert_run(tx: &mut Tx, id: ScheduleId, run: &ScheduleRun) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO schedule_runs (schedule, nominal, until, at, outcome, job, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(micros(run.nominal))
    .bind(run.until.map(micros))
    .bind(micros(run.at))
    .bind(run.outcome.as_str())
    .bind(run.outcome.job().map(|job| job.to_string()))
    .bind(&run.reason)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Removes what came of the oldest times beyond the newest `most`; what became a job that has not ended stays.
pub async fn cut_runs(tx: &mut Tx, id: ScheduleId, most: u32) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM schedule_runs WHERE schedule = ?1
             AND nominal <= (SELECT nominal FROM schedule_runs WHERE schedule = ?1 ORDER BY nominal DESC LIMIT 1 OFFSET ?2)
             AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = schedule_runs.job AND jobs.ended IS NULL)",
    )
    .bind(id.to_string())
    .bind(i64::from(most))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The newest time that something is written of.
pub async fn last_run_in(tx: &mut Tx, id: ScheduleId) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query(
        "SELECT MAX(coalesce(until, nominal)) AS last FROM
             (SELECT nominal, until FROM schedule_runs WHERE schedule = ? ORDER BY nominal DESC LIMIT 1)",
    )
    .bind(id.to_string())
    .fetch_one(tx.connection())
    .await?;
    row.try_get::<Option<i64>, _>("last")?.map(|at| time("schedule_runs.nominal", at)).transpose()
}

/// Jobs of a schedule that have not ended, newest time first, at most `limit`.
pub async fn open_jobs(tx: &mut Tx, id: ScheduleId, limit: u32) -> Result<Vec<JobId>, Error> {
    let rows = sqlx::query(
        "SELECT jobs.id FROM schedule_runs JOIN jobs ON jobs.id = schedule_runs.job
         WHERE schedule_runs.schedule = ? AND jobs.ended IS NULL ORDER BY schedule_runs.nominal DESC LIMIT ?",
    )
    .bind(id.to_string())
    .bind(i64::from(limit))
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| parse("jobs.id", row.try_get("id")?)).collect()
}

/// The job of the newest earlier time of a job's schedule that has not ended; `None` also where a job is of no schedule.
pub async fn earlier_open_job(tx: &mut Tx, job: JobId) -> Result<Option<JobId>, Error> {
    let row = sqlx::query(
        "SELECT jobs.id FROM schedule_runs AS ours
         JOIN schedule_runs AS earlier ON earlier.schedule = ours.schedule AND earlier.nominal < ours.nominal
         JOIN jobs ON jobs.id = earlier.job
         WHERE ours.job = ? AND jobs.ended IS NULL ORDER BY earlier.nominal DESC LIMIT 1",
    )
    .bind(job.to_string())
    .fetch_optional(tx.connection())
    .await?;
    row.map(|row| parse("jobs.id", row.try_get("id")?)).transpose()
}

/// What came of the times of a schedule, newest first, at most `limit`.
pub async fn runs(db: &Db, id: ScheduleId, limit: u32) -> Result<Vec<ScheduleRun>, Error> {
    let rows = sqlx::query(
        "SELECT nominal, until, at, outcome, job, reason FROM schedule_runs WHERE schedule = ?
         ORDER BY nominal DESC LIMIT ?",
    )
    .bind(id.to_string())
    .bind(i64::from(limit))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(run).collect()
}

/// Schedules that go on, name a version and whose owners were not told of it on an occasion, in the order of their ids, from
/// behind one on; at most `limit`.
pub async fn untold(
    db: &Db,
    version: &EngineVersion,
    occasion: &str,
    behind: Option<ScheduleId>,
    limit: u32,
) -> Result<Vec<Untold>, Error> {
    let rows = sqlx::query(UNTOLD)
        .bind(version.as_str())
        .bind(occasion)
        .bind(behind.map_or_else(String::new, |id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(db.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Untold {
                schedule: parse("schedules.id", row.try_get("id")?)?,
                name: row.try_get("name")?,
                project: parse("schedules.project", row.try_get("project")?)?,
                account: parse("schedules.account", row.try_get("account")?)?,
            })
        })
        .collect()
}

/// Writes that the owner of a schedule was told of a version on an occasion; whether that was not written yet, and the
/// schedule is there and still that account's.
pub async fn told(
    tx: &mut Tx,
    id: ScheduleId,
    owner: &AccountId,
    version: &EngineVersion,
    occasion: &str,
    at: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT OR IGNORE INTO engine_notices (schedule, version, occasion, at)
         SELECT id, ?, ?, ? FROM schedules WHERE id = ? AND account = ?",
    )
    .bind(version.as_str())
    .bind(occasion)
    .bind(micros(at))
    .bind(id.to_string())
    .bind(owner.as_str())
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets what the owner of a schedule was told: another one was not.
pub async fn forget_told(tx: &mut Tx, id: ScheduleId) -> Result<(), Error> {
    sqlx::query("DELETE FROM engine_notices WHERE schedule = ?").bind(id.to_string()).execute(tx.connection()).await?;
    Ok(())
}

fn request(schedule: &Schedule) -> Result<String, Error> {
    serde_json::to_string(&schedule.request).map_err(|_| Error::Damaged { column: "schedules.request" })
}

fn schedule(row: &SqliteRow) -> Result<Schedule, Error> {
    let optional = |column: &'static str, name: &str| -> Result<Option<Timestamp>, Error> {
        row.try_get::<Option<i64>, _>(name)?.map(|at| time(column, at)).transpose()
    };
    Ok(Schedule {
        id: parse("schedules.id", row.try_get("id")?)?,
        project: parse("schedules.project", row.try_get("project")?)?,
        name: row.try_get("name")?,
        cron: row.try_get("cron")?,
        zone: row.try_get("zone")?,
        request: serde_json::from_str(row.try_get("request")?)
            .map_err(|_| Error::Damaged { column: "schedules.request" })?,
        catch_up: CatchUp(number("schedules.catch_up", row.try_get("catch_up")?)?),
        overlap: row
            .try_get::<&str, _>("overlap")?
            .parse()
            .map_err(|()| Error::Damaged { column: "schedules.overlap" })?,
        starts: optional("schedules.starts", "starts")?,
        ends: optional("schedules.ends", "ends")?,
        enabled: row.try_get("enabled")?,
        stopped: row.try_get("stopped")?,
        owner: Principal {
            account: parse("schedules.account", row.try_get("account")?)?,
            urn: row.try_get("identity")?,
            person: row.try_get("person")?,
        },
        refusals: number("schedules.refusals", row.try_get("refusals")?)?,
        created: time("schedules.created", row.try_get("created")?)?,
        changed: time("schedules.changed", row.try_get("changed")?)?,
        next_run: optional("schedules.next_run", "next_run")?,
    })
}

fn run(row: &SqliteRow) -> Result<ScheduleRun, Error> {
    let job = row.try_get::<Option<&str>, _>("job")?.map(|id| parse("schedule_runs.job", id)).transpose()?;
    Ok(ScheduleRun {
        nominal: time("schedule_runs.nominal", row.try_get("nominal")?)?,
        until: row.try_get::<Option<i64>, _>("until")?.map(|at| time("schedule_runs.until", at)).transpose()?,
        at: time("schedule_runs.at", row.try_get("at")?)?,
        outcome: RunOutcome::parse(row.try_get("outcome")?, job)
            .ok_or(Error::Damaged { column: "schedule_runs.outcome" })?,
        reason: row.try_get("reason")?,
    })
}

const DUE: &str =
    "SELECT * FROM schedules WHERE next_run <= ?1 AND (next_run, id) > (?2, ?3) ORDER BY next_run, id LIMIT ?4";
const NEXT: &str = "SELECT MIN(next_run) AS next FROM schedules WHERE next_run IS NOT NULL";
const UNTOLD: &str = "SELECT id, name, project, account FROM schedules
         WHERE version = ?1 AND next_run IS NOT NULL AND id > ?3
             AND NOT EXISTS (SELECT 1 FROM engine_notices AS told
                             WHERE told.schedule = schedules.id AND told.version = ?1 AND told.occasion = ?2)
         ORDER BY id LIMIT ?4";

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand schedules that wait cost nothing: what is asked again and again walks an index from where it begins.
    #[tokio::test]
    async fn what_is_asked_while_schedules_wait_goes_through_none_of_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        for (statement, index) in [
            (DUE, "schedules_by_next_run ((next_run,id)>"),
            (NEXT, "schedules_by_next_run"),
            (UNTOLD, "schedules_by_version (version=? AND id>?)"),
        ] {
            let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
                .fetch_all(db.readers())
                .await
                .expect("a plan");
            let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            assert!(
                plan.iter().all(|step| !step.contains("SCAN schedules") && !step.contains("TEMP B-TREE")),
                "{plan:?}"
            );
            assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:?}");
        }
        db.close().await;
    }
}
