//! Jobs and attempts. What may become of a job is not decided here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{Attempt, AttemptNo, Cores, EndReason, Job, JobId, JobStatus, MiB, ProjectId, Quota, SandboxId, Usage};
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use crate::{Db, Error, Tx, micros, number, parse, quotas, time};

/// A job that waits, as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The job.
    pub id: JobId,
    /// Whose it is.
    pub project: ProjectId,
    /// What the whole job asks for.
    pub asked: Usage,
    /// What its project may take at once.
    pub quota: Quota,
}

/// What is needed to read the log of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// Its key, wrapped.
    pub wrapped_key: Vec<u8>,
    /// Whether its segments are still on this machine.
    pub spooled: bool,
    /// The sandbox whose spool they are in.
    pub sandbox: SandboxId,
}

/// A column that jobs can be filtered and sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The job's id.
    Id,
    /// Its name.
    Name,
    /// Its status.
    Status,
    /// When it was accepted.
    Created,
    /// When its user code was started.
    Started,
    /// When it ended.
    Ended,
    /// Its engine's version.
    Version,
    /// Its region.
    Region,
    /// The bucket of its code.
    Bucket,
}

/// A value to compare a column with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a column that holds text.
    Text(String),
    /// Of a column that holds a time.
    Time(Timestamp),
}

/// A condition on a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It is the value.
    Is(Column, Value),
    /// It is not the value; nothing is not a value.
    IsNot(Column, Value),
    /// It matches the pattern, where `*` stands for any text; letters of either case match.
    Like(Column, String),
    /// It does not match the pattern.
    NotLike(Column, String),
    /// It comes after the value.
    Above(Column, Value),
    /// It comes before the value.
    Below(Column, Value),
    /// It is the value or comes after it.
    AtLeast(Column, Value),
    /// It is the value or comes before it.
    AtMost(Column, Value),
    /// It is one of the values.
    OneOf(Column, Vec<Value>),
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// All of these hold.
    pub conditions: Vec<Condition>,
    /// Sorted by this column, then by id.
    pub sort: Column,
    /// Whether the last comes first.
    pub descending: bool,
    /// How many to skip.
    pub offset: u64,
    /// At most so many.
    pub limit: u32,
}

/// Adds a job.
pub async fn insert(tx: &mut Tx, job: &Job) -> Result<(), Error> {
    let spec = serde_json::to_string(&job.spec).map_err(|_| Error::Damaged { column: "jobs.spec" })?;
    sqlx::query(
        "INSERT INTO jobs (id, project, name, region, version, bucket, cores, memory, storage, spec, status, created,
             attempt, since, not_before, retried, forgotten)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(job.id.to_string())
    .bind(job.project.as_str())
    .bind(&job.spec.name)
    .bind(job.spec.region.as_str())
    .bind(job.spec.version.as_str())
    .bind(job.spec.bucket.as_str())
    .bind(i64::from(job.spec.sizing.cores().0))
    .bind(integer("jobs.memory", job.spec.sizing.memory().0)?)
    .bind(integer("jobs.storage", job.spec.sizing.storage().0)?)
    .bind(spec)
    .bind(job.status.as_str())
    .bind(micros(job.created))
    .bind(i64::from(job.attempt))
    .bind(micros(job.since))
    .bind(micros(job.not_before))
    .bind(i64::from(job.retried))
    .bind(i64::from(job.forgotten))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Writes what can change of a job: all but what was asked for.
pub async fn update(tx: &mut Tx, job: &Job) -> Result<(), Error> {
    let reason = job.reason.as_ref().map(serde_json::to_string).transpose();
    sqlx::query(
        "UPDATE jobs SET status = ?2, started = ?3, ended = ?4, return_code = ?5, reason = ?6, logs_address = ?7,
             attempt = ?8, since = ?9, not_before = ?10, retried = ?11, forgotten = ?12
         WHERE id = ?1",
    )
    .bind(job.id.to_string())
    .bind(job.status.as_str())
    .bind(job.started.map(micros))
    .bind(job.ended.map(micros))
    .bind(job.return_code.map(i64::from))
    .bind(reason.map_err(|_| Error::Damaged { column: "jobs.reason" })?)
    .bind(&job.logs_address)
    .bind(i64::from(job.attempt))
    .bind(micros(job.since))
    .bind(micros(job.not_before))
    .bind(i64::from(job.retried))
    .bind(i64::from(job.forgotten))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The job of that id, whosever it is.
pub async fn find(db: &Db, id: JobId) -> Result<Option<Job>, Error> {
    let row = sqlx::query(
        "SELECT id, project, spec, status, created, started, ended, return_code, reason, logs_address, attempt,
             since, not_before, retried, forgotten
         FROM jobs WHERE id = ?",
    )
    .bind(id.to_string())
    .fetch_optional(db.readers())
    .await?;
    row.as_ref().map(job).transpose()
}

/// The job of that id, and the place of the log of its newest attempt.
pub async fn find_with_log(db: &Db, id: JobId) -> Result<Option<(Job, Option<LogPlace>)>, Error> {
    let row = sqlx::query(
        "SELECT jobs.id, jobs.project, spec, status, jobs.created, jobs.started, jobs.ended, return_code, jobs.reason,
             logs_address, attempt, since, not_before, retried, forgotten,
             log_key, spool_removed IS NULL AS spooled, sandbox
         FROM jobs LEFT JOIN attempts ON attempts.job = jobs.id AND attempts.number = jobs.attempt
         WHERE jobs.id = ?",
    )
    .bind(id.to_string())
    .fetch_optional(db.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let job = job(&row)?;
    let attempt = SandboxId { job: id, attempt: AttemptNo(job.attempt) };
    let has_log = row.try_get::<Option<&[u8]>, _>("log_key")?.is_some();
    let place = has_log.then(|| place(&row, attempt)).transpose()?;
    Ok(Some((job, place)))
}

/// The job of that id, as this transaction sees it.
pub async fn find_in(tx: &mut Tx, id: JobId) -> Result<Option<Job>, Error> {
    let row = sqlx::query(
        "SELECT id, project, spec, status, created, started, ended, return_code, reason, logs_address, attempt,
             since, not_before, retried, forgotten
         FROM jobs WHERE id = ?",
    )
    .bind(id.to_string())
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(job).transpose()
}

/// Ids of a project's jobs for which all conditions hold, newest first, at most `limit`.
pub async fn ids(db: &Db, project: &ProjectId, conditions: &[Condition], limit: u32) -> Result<Vec<JobId>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT id FROM jobs WHERE project = ");
    query.push_bind(project.as_str());
    filter(&mut query, conditions);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    let rows = query.build().fetch_all(db.readers()).await?;
    rows.iter().map(|row| parse("jobs.id", row.try_get("id")?)).collect()
}

/// How many of a project's jobs the conditions hold for.
pub async fn count(db: &Db, project: &ProjectId, conditions: &[Condition]) -> Result<u64, Error> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT COUNT(*) AS total FROM jobs WHERE project = ");
    query.push_bind(project.as_str());
    filter(&mut query, conditions);
    let total: i64 = query.build().fetch_one(db.readers()).await?.try_get("total")?;
    u64::try_from(total).map_err(|_| Error::Damaged { column: "jobs" })
}

/// A page of a project's jobs.
pub async fn list(db: &Db, project: &ProjectId, selection: &Selection) -> Result<Vec<Job>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT id, project, spec, status, created, started, ended, return_code, reason, logs_address, attempt,
             since, not_before, retried, forgotten
         FROM jobs WHERE project = ",
    );
    query.push_bind(project.as_str());
    filter(&mut query, &selection.conditions);
    let direction = if selection.descending { " DESC" } else { " ASC" };
    query.push(" ORDER BY ");
    // Ids are in the order of creation, and have the index.
    if !matches!(selection.sort, Column::Id | Column::Created) {
        query.push(selection.sort.name()).push(direction).push(", ");
    }
    query.push("id").push(direction);
    query.push(" LIMIT ").push_bind(i64::from(selection.limit));
    query.push(" OFFSET ").push_bind(i64::try_from(selection.offset).unwrap_or(i64::MAX));
    let rows = query.build().fetch_all(db.readers()).await?;
    rows.iter().map(job).collect()
}

/// The oldest job of each project that waits and may start at `now`, by project. One that is larger than the whole quota
/// of its project waits for another quota, and keeps none behind it.
pub async fn heads(db: &Db, now: Timestamp) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query(
        "SELECT head.id, head.project, head.cores AS asked_cores, head.memory AS asked_memory,
                head.storage AS asked_storage, quota.jobs, quota.cores, quota.memory, quota.storage
         FROM projects LEFT JOIN project_quotas AS quota ON quota.project = projects.id JOIN jobs AS head ON head.id = (
             SELECT waiting.id FROM jobs AS waiting INDEXED BY jobs_that_wait
             WHERE waiting.project = projects.id AND waiting.status = 'PENDING' AND waiting.not_before <= ?
               AND waiting.after IS NULL
               AND (quota.cores IS NULL OR waiting.cores <= quota.cores)
               AND (quota.memory IS NULL OR waiting.memory <= quota.memory)
               AND (quota.storage IS NULL OR waiting.storage <= quota.storage)
             ORDER BY waiting.id LIMIT 1
         )
         ORDER BY head.project",
    )
    .bind(micros(now))
    .fetch_all(db.readers())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                id: parse("jobs.id", row.try_get("id")?)?,
                project: parse("jobs.project", row.try_get("project")?)?,
                asked: Usage {
                    jobs: 1,
                    cores: Cores(number("jobs.cores", row.try_get("asked_cores")?)?),
                    memory: MiB(number("jobs.memory", row.try_get("asked_memory")?)?),
                    storage: MiB(number("jobs.storage", row.try_get("asked_storage")?)?),
                },
                quota: crate::quotas::quota(row)?,
            })
        })
        .collect()
}

/// How many jobs have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// That wait for room, for a time or for another job.
    pub pending: u64,
    /// Of these, that are tried again later.
    pub paused: u64,
    /// Of these, that wait for the end of another one.
    pub held: u64,
    /// Of these, that could start but are larger than the whole quota of their project.
    pub oversized: u64,
    /// Whose sandbox is being built.
    pub submitted: u64,
    /// That run.
    pub running: u64,
    /// That are asked to end.
    pub cancelling: u64,
    /// When the oldest of those that could start was accepted.
    pub oldest: Option<Timestamp>,
}

/// Counts jobs that have not ended, by indexes of these alone, so that those that have cost nothing.
pub async fn census(db: &Db, now: Timestamp) -> Result<Census, Error> {
    let waiting = sqlx::query(
        "SELECT COUNT(*), COALESCE(SUM(not_before > ?1 AND after IS NULL), 0), COALESCE(SUM(after IS NOT NULL), 0),
                MIN(CASE WHEN after IS NULL AND not_before <= ?1 THEN created END)
         FROM jobs WHERE status = 'PENDING'",
    )
    .bind(micros(now))
    .fetch_one(db.readers())
    .await?;
    let mut census = Census {
        pending: number("jobs", waiting.try_get(0)?)?,
        paused: number("jobs.not_before", waiting.try_get(1)?)?,
        held: number("jobs.after", waiting.try_get(2)?)?,
        oldest: waiting.try_get::<Option<i64>, _>(3)?.map(|at| time("jobs.created", at)).transpose()?,
        ..Census::default()
    };
    let oversized = sqlx::query(
        "SELECT COUNT(*) FROM jobs JOIN project_quotas AS quota ON quota.project = jobs.project
         WHERE jobs.status = 'PENDING' AND jobs.after IS NULL AND jobs.not_before <= ?
           AND (jobs.cores > quota.cores OR jobs.memory > quota.memory OR jobs.storage > quota.storage)",
    )
    .bind(micros(now))
    .fetch_one(db.readers())
    .await?;
    census.oversized = number("jobs", oversized.try_get(0)?)?;
    let standing = sqlx::query(
        "SELECT jobs.status, COUNT(DISTINCT jobs.id) FROM attempts JOIN jobs ON jobs.id = attempts.job
         WHERE attempts.closed IS NULL GROUP BY jobs.status",
    )
    .fetch_all(db.readers())
    .await?;
    for row in &standing {
        let count = number("jobs", row.try_get(1)?)?;
        match row.try_get(0)? {
            "SUBMITTED" => census.submitted = count,
            "RUNNING" => census.running = count,
            "CANCELLING" => census.cancelling = count,
            // It waits again, or has ended, and its last sandbox is being removed.
            _ => {}
        }
    }
    Ok(census)
}

/// What the attempts that still stand take, by project.
pub async fn used(db: &Db) -> Result<BTreeMap<ProjectId, Usage>, Error> {
    let rows = sqlx::query(
        "SELECT jobs.project, COUNT(*) AS jobs, SUM(jobs.cores) AS cores, SUM(jobs.memory) AS memory,
                SUM(jobs.storage) AS storage
         FROM attempts JOIN jobs ON jobs.id = attempts.job WHERE attempts.closed IS NULL GROUP BY jobs.project",
    )
    .fetch_all(db.readers())
    .await?;
    rows.iter()
        .map(|row| {
            let used = usage(row, ["jobs", "cores", "memory", "storage"])?;
            Ok((parse("jobs.project", row.try_get("project")?)?, used))
        })
        .collect()
}

/// Makes a job wait for the end of another one.
pub async fn wait_for(tx: &mut Tx, id: JobId, other: JobId) -> Result<(), Error> {
    sqlx::query("UPDATE jobs SET after = ? WHERE id = ?")
        .bind(other.to_string())
        .bind(id.to_string())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Lets a job wait for room only, from a time on.
pub async fn release(tx: &mut Tx, id: JobId, at: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE jobs SET after = NULL, since = ? WHERE id = ?")
        .bind(micros(at))
        .bind(id.to_string())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Jobs that wait for the end of this one, oldest first.
pub async fn followers(tx: &mut Tx, id: JobId) -> Result<Vec<Job>, Error> {
    let rows = sqlx::query(
        "SELECT id, project, spec, status, created, started, ended, return_code, reason, logs_address, attempt,
             since, not_before, retried, forgotten
         FROM jobs WHERE after = ? AND status = 'PENDING' ORDER BY id",
    )
    .bind(id.to_string())
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(job).collect()
}

/// How many jobs of a project wait for the end of another one.
pub async fn held(tx: &mut Tx, project: &ProjectId) -> Result<u64, Error> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS total FROM jobs WHERE project = ? AND after IS NOT NULL AND status = 'PENDING'",
    )
    .bind(project.as_str())
    .fetch_one(tx.connection())
    .await?;
    number("jobs", row.try_get("total")?)
}

/// The job whose end a job waits for, if it does.
pub async fn holder(db: &Db, id: JobId) -> Result<Option<JobId>, Error> {
    let row = sqlx::query("SELECT after FROM jobs WHERE id = ? AND after IS NOT NULL AND status = 'PENDING'")
        .bind(id.to_string())
        .fetch_optional(db.readers())
        .await?;
    row.map(|row| parse("jobs.after", row.try_get("after")?)).transpose()
}

/// What a waiting job of a project waits behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// How many jobs of the project wait and are older.
    pub before: u64,
    /// What the project may take; no bounds where none was set.
    pub quota: Quota,
    /// What stands of the project's jobs.
    pub of_project: Usage,
    /// What stands of all jobs.
    pub of_all: Usage,
}

/// What a waiting job of a project waits behind.
pub async fn ahead(db: &Db, project: &ProjectId, id: JobId) -> Result<Ahead, Error> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM jobs INDEXED BY jobs_that_wait
                 WHERE project = ?1 AND status = 'PENDING' AND after IS NULL AND id < ?2) AS before,
             quotas.jobs, quotas.cores, quotas.memory, quotas.storage, standing.*
         FROM (SELECT COUNT(*) AS all_jobs, COALESCE(SUM(jobs.cores), 0) AS all_cores,
                   COALESCE(SUM(jobs.memory), 0) AS all_memory,
                   COALESCE(SUM(jobs.storage), 0) AS all_storage,
                   COUNT(*) FILTER (WHERE jobs.project = ?1) AS our_jobs,
                   COALESCE(SUM(jobs.cores) FILTER (WHERE jobs.project = ?1), 0) AS our_cores,
                   COALESCE(SUM(jobs.memory) FILTER (WHERE jobs.project = ?1), 0) AS our_memory,
                   COALESCE(SUM(jobs.storage) FILTER (WHERE jobs.project = ?1), 0) AS our_storage
               FROM attempts JOIN jobs ON jobs.id = attempts.job WHERE attempts.closed IS NULL) AS standing
             LEFT JOIN project_quotas AS quotas ON quotas.project = ?1",
    )
    .bind(project.as_str())
    .bind(id.to_string())
    .fetch_one(db.readers())
    .await?;
    Ok(Ahead {
        before: number("jobs", row.try_get("before")?)?,
        quota: quotas::quota(&row)?,
        of_project: usage(&row, ["our_jobs", "our_cores", "our_memory", "our_storage"])?,
        of_all: usage(&row, ["all_jobs", "all_cores", "all_memory", "all_storage"])?,
    })
}

/// When the next of the jobs that pause before a retry may start; `None` where none does after `now`.
pub async fn next_not_before(db: &Db, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query("SELECT MIN(not_before) AS next FROM jobs WHERE status = 'PENDING' AND not_before > ?")
        .bind(micros(now))
        .fetch_one(db.readers())
        .await?;
    row.try_get::<Option<i64>, _>("next")?.map(|at| time("jobs.not_before", at)).transpose()
}

/// Jobs that have waited since before a time, oldest first, at most `limit`.
pub async fn waiting_since(db: &Db, before: Timestamp, limit: u32) -> Result<Vec<JobId>, Error> {
    let rows = sqlx::query(
        "SELECT id FROM jobs WHERE status = 'PENDING' AND not_before < ?1 AND since < ?1 ORDER BY not_before LIMIT ?2",
    )
    .bind(micros(before))
    .bind(i64::from(limit))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(|row| parse("jobs.id", row.try_get("id")?)).collect()
}

/// Adds an attempt with the wrapped key of its log.
pub async fn insert_attempt(tx: &mut Tx, attempt: &Attempt, wrapped_log_key: &[u8]) -> Result<(), Error> {
    let statement = "INSERT INTO attempts (job, number, log_key, created, project)
         VALUES (?1, ?2, ?3, ?4, (SELECT project FROM jobs WHERE id = ?1))";
    sqlx::query(statement)
        .bind(attempt.job.to_string())
        .bind(i64::from(attempt.number.0))
        .bind(wrapped_log_key)
        .bind(micros(attempt.created))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Gives an attempt a sandbox that was made before it.
pub async fn take_sandbox(tx: &mut Tx, id: SandboxId, sandbox: SandboxId) -> Result<(), Error> {
    sqlx::query("UPDATE attempts SET sandbox = ?3 WHERE job = ?1 AND number = ?2")
        .bind(id.job.to_string())
        .bind(i64::from(id.attempt.0))
        .bind(sandbox.to_string())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// The sandbox of an attempt: one that was made before it, or else that of its own name.
pub async fn sandbox_of(db: &Db, id: SandboxId) -> Result<SandboxId, Error> {
    let row = sqlx::query("SELECT sandbox FROM attempts WHERE job = ? AND number = ?")
        .bind(id.job.to_string())
        .bind(i64::from(id.attempt.0))
        .fetch_optional(db.readers())
        .await?;
    row.map_or(Ok(id), |row| sandbox_or(&row, id))
}

fn sandbox_or(row: &SqliteRow, attempt: SandboxId) -> Result<SandboxId, Error> {
    let taken: Option<&str> = row.try_get("sandbox")?;
    taken.map_or(Ok(attempt), |text| parse("attempts.sandbox", text))
}

/// Whether an attempt was ever made for the sandbox; an attempt's own name counts.
pub async fn is_of_attempt(db: &Db, sandbox: SandboxId) -> Result<bool, Error> {
    let row = sqlx::query(
        "SELECT 1 FROM attempts WHERE job = ?1 AND number = ?2 UNION ALL SELECT 1 FROM attempts WHERE sandbox = ?3 LIMIT 1",
    )
    .bind(sandbox.job.to_string())
    .bind(i64::from(sandbox.attempt.0))
    .bind(sandbox.to_string())
    .fetch_optional(db.readers())
    .await?;
    Ok(row.is_some())
}

/// The attempt of that sandbox.
pub async fn find_attempt(db: &Db, id: SandboxId) -> Result<Option<Attempt>, Error> {
    let row = sqlx::query("SELECT job, number, created, started, ended FROM attempts WHERE job = ? AND number = ?")
        .bind(id.job.to_string())
        .bind(i64::from(id.attempt.0))
        .fetch_optional(db.readers())
        .await?;
    row.as_ref().map(attempt).transpose()
}

/// Writes when an attempt's user code was started.
pub async fn attempt_started(tx: &mut Tx, id: SandboxId, at: Timestamp) -> Result<(), Error> {
    let statement = "UPDATE attempts SET started = ?3 WHERE job = ?1 AND number = ?2 AND started IS NULL";
    write_time(tx, statement, id, at).await
}

/// Gives a job that ended between two attempts the start of the last one whose user code was started, if any was.
pub async fn started_by_attempts(tx: &mut Tx, id: JobId) -> Result<(), Error> {
    sqlx::query(
        "UPDATE jobs SET started = (SELECT MAX(jobs.created, MAX(attempts.started)) FROM attempts WHERE job = jobs.id)
         WHERE id = ? AND started IS NULL",
    )
    .bind(id.to_string())
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Writes when and why an attempt ended; the first time counts.
pub async fn attempt_ended(tx: &mut Tx, id: SandboxId, at: Timestamp, reason: Option<&EndReason>) -> Result<(), Error> {
    let reason = reason.map(serde_json::to_string).transpose();
    sqlx::query("UPDATE attempts SET ended = ?3, reason = ?4 WHERE job = ?1 AND number = ?2 AND ended IS NULL")
        .bind(id.job.to_string())
        .bind(i64::from(id.attempt.0))
        .bind(micros(at))
        .bind(reason.map_err(|_| Error::Damaged { column: "attempts.reason" })?)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Writes when nothing of an attempt stood any more; it takes no room from then on.
pub async fn attempt_closed(tx: &mut Tx, id: SandboxId, at: Timestamp) -> Result<(), Error> {
    let statement = "UPDATE attempts SET closed = ?3 WHERE job = ?1 AND number = ?2 AND closed IS NULL";
    write_time(tx, statement, id, at).await
}

/// The attempts that still stand, oldest first.
pub async fn standing(db: &Db) -> Result<Vec<SandboxId>, Error> {
    let rows = sqlx::query("SELECT job, number FROM attempts WHERE closed IS NULL ORDER BY job, number")
        .fetch_all(db.readers())
        .await?;
    rows.iter().map(sandbox).collect()
}

/// Whether an attempt still stands for a sandbox: one of its name without another sandbox, or one that took it.
pub async fn stands(db: &Db, id: SandboxId) -> Result<bool, Error> {
    let row = sqlx::query(
        "SELECT 1 FROM attempts WHERE job = ?1 AND number = ?2 AND sandbox IS NULL AND closed IS NULL
         UNION ALL SELECT 1 FROM attempts WHERE sandbox = ?3 AND closed IS NULL LIMIT 1",
    )
    .bind(id.job.to_string())
    .bind(i64::from(id.attempt.0))
    .bind(id.to_string())
    .fetch_optional(db.readers())
    .await?;
    Ok(row.is_some())
}

/// What is needed to read the log of an attempt.
pub async fn log_place(db: &Db, id: SandboxId) -> Result<Option<LogPlace>, Error> {
    let row = sqlx::query(
        "SELECT log_key, spool_removed IS NULL AS spooled, sandbox FROM attempts WHERE job = ? AND number = ?",
    )
    .bind(id.job.to_string())
    .bind(i64::from(id.attempt.0))
    .fetch_optional(db.readers())
    .await?;
    row.map(|row| place(&row, id)).transpose()
}

fn place(row: &SqliteRow, attempt: SandboxId) -> Result<LogPlace, Error> {
    Ok(LogPlace {
        wrapped_key: row.try_get("log_key")?,
        spooled: row.try_get("spooled")?,
        sandbox: sandbox_or(row, attempt)?,
    })
}

/// Attempts that were closed before a time and whose segments are still on this machine, oldest first.
pub async fn spooled(db: &Db, closed_before: Timestamp, limit: u32) -> Result<Vec<SandboxId>, Error> {
    let rows = sqlx::query(
        "SELECT job, number FROM attempts
         WHERE closed IS NOT NULL AND spool_removed IS NULL AND closed < ? ORDER BY closed LIMIT ?",
    )
    .bind(micros(closed_before))
    .bind(i64::from(limit))
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(sandbox).collect()
}

/// Writes when the segments of an attempt were removed.
pub async fn spool_removed(tx: &mut Tx, id: SandboxId, at: Timestamp) -> Result<(), Error> {
    write_time(tx, "UPDATE attempts SET spool_removed = ?3 WHERE job = ?1 AND number = ?2", id, at).await
}

/// Runs a statement on an attempt: its job is ?1, its number ?2, the time ?3.
async fn write_time(tx: &mut Tx, statement: &'static str, id: SandboxId, at: Timestamp) -> Result<(), Error> {
    sqlx::query(statement)
        .bind(id.job.to_string())
        .bind(i64::from(id.attempt.0))
        .bind(micros(at))
        .execute(tx.connection())
        .await?;
    Ok(())
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Column::Id => "id",
            Column::Name => "name",
            Column::Status => "status",
            Column::Created => "created",
            Column::Started => "started",
            Column::Ended => "ended",
            Column::Version => "version",
            Column::Region => "region",
            Column::Bucket => "bucket",
        }
    }
}

/// Adds the conditions. Names of columns and operators are this file's own; values are bound.
fn filter(query: &mut QueryBuilder<Sqlite>, conditions: &[Condition]) {
    for condition in conditions {
        query.push(" AND ");
        match condition {
            Condition::Is(column, value) => compare(query, *column, " = ", value),
            Condition::IsNot(column, value) => compare(query, *column, " IS NOT ", value),
            Condition::Above(column, value) => compare(query, *column, " > ", value),
            Condition::Below(column, value) => compare(query, *column, " < ", value),
            Condition::AtLeast(column, value) => compare(query, *column, " >= ", value),
            Condition::AtMost(column, value) => compare(query, *column, " <= ", value),
            Condition::Like(column, text) => {
                query.push(column.name()).push(" LIKE ").push_bind(pattern(text)).push(" ESCAPE '\\'");
            }
            Condition::NotLike(column, text) => {
                query.push("(").push(column.name()).push(" IS NULL OR ").push(column.name()).push(" NOT LIKE ");
                query.push_bind(pattern(text)).push(" ESCAPE '\\')");
            }
            Condition::OneOf(column, values) => {
                query.push(column.name()).push(" IN (");
                for (index, value) in values.iter().enumerate() {
                    query.push(if index > 0 { ", " } else { "" });
                    bind(query, value);
                }
                query.push(")");
            }
        }
    }
}

fn compare(query: &mut QueryBuilder<Sqlite>, column: Column, operator: &'static str, value: &Value) {
    query.push(column.name()).push(operator);
    bind(query, value);
}

fn bind(query: &mut QueryBuilder<Sqlite>, value: &Value) {
    match value {
        Value::Text(text) => query.push_bind(text.clone()),
        Value::Time(at) => query.push_bind(micros(*at)),
    };
}

/// A pattern of `LIKE`, where only `*` has a meaning of its own.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '*' => pattern.push('%'),
            '%' | '_' | '\\' => pattern.extend(['\\', letter]),
            other => pattern.push(other),
        }
    }
    pattern
}

fn job(row: &SqliteRow) -> Result<Job, Error> {
    let optional = |column: &'static str, name: &str| -> Result<Option<Timestamp>, Error> {
        row.try_get::<Option<i64>, _>(name)?.map(|at| time(column, at)).transpose()
    };
    let spec = serde_json::from_str(row.try_get("spec")?).map_err(|_| Error::Damaged { column: "jobs.spec" })?;
    let status = JobStatus::parse(row.try_get("status")?).ok_or(Error::Damaged { column: "jobs.status" })?;
    let reason = row.try_get::<Option<&str>, _>("reason")?.map(serde_json::from_str).transpose();
    let return_code = row.try_get::<Option<i64>, _>("return_code")?.map(i32::try_from).transpose();
    Ok(Job {
        id: parse("jobs.id", row.try_get("id")?)?,
        project: parse("jobs.project", row.try_get("project")?)?,
        spec,
        status,
        created: time("jobs.created", row.try_get("created")?)?,
        started: optional("jobs.started", "started")?,
        ended: optional("jobs.ended", "ended")?,
        return_code: return_code.map_err(|_| Error::Damaged { column: "jobs.return_code" })?,
        reason: reason.map_err(|_| Error::Damaged { column: "jobs.reason" })?,
        logs_address: row.try_get("logs_address")?,
        attempt: number("jobs.attempt", row.try_get("attempt")?)?,
        since: time("jobs.since", row.try_get("since")?)?,
        not_before: time("jobs.not_before", row.try_get("not_before")?)?,
        retried: number("jobs.retried", row.try_get("retried")?)?,
        forgotten: number("jobs.forgotten", row.try_get("forgotten")?)?,
    })
}

/// What is used, from columns of these names: jobs, cores, memory, storage.
fn usage(row: &SqliteRow, [jobs, cores, memory, storage]: [&str; 4]) -> Result<Usage, Error> {
    Ok(Usage {
        jobs: number("attempts", row.try_get(jobs)?)?,
        cores: Cores(number("jobs.cores", row.try_get(cores)?)?),
        memory: MiB(number("jobs.memory", row.try_get(memory)?)?),
        storage: MiB(number("jobs.storage", row.try_get(storage)?)?),
    })
}

fn attempt(row: &SqliteRow) -> Result<Attempt, Error> {
    let optional = |column: &'static str, name: &str| -> Result<Option<Timestamp>, Error> {
        row.try_get::<Option<i64>, _>(name)?.map(|at| time(column, at)).transpose()
    };
    Ok(Attempt {
        job: parse("attempts.job", row.try_get("job")?)?,
        number: AttemptNo(number("attempts.number", row.try_get("number")?)?),
        created: time("attempts.created", row.try_get("created")?)?,
        started: optional("attempts.started", "started")?,
        ended: optional("attempts.ended", "ended")?,
    })
}

fn sandbox(row: &SqliteRow) -> Result<SandboxId, Error> {
    Ok(SandboxId {
        job: parse("attempts.job", row.try_get("job")?)?,
        attempt: AttemptNo(number("attempts.number", row.try_get("number")?)?),
    })
}

fn integer(column: &'static str, number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::Damaged { column })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_star_stands_for_any_text() {
        assert_eq!(pattern("a*b"), "a%b");
        assert_eq!(pattern(r"100%_\"), r"100\%\_\\");
    }
}
