//! Each change of a job: read in the one write transaction, decided by the state machine ([`model::Life::after`]), written
//! with its audit entry. An attempt that is not the job's newest any more changes nothing.

use std::time::Duration;

use audit::{Actor, Entry};
use db::{Tx, jobs as rows};
use jiff::Timestamp;
use model::{
    After, Attempt, AttemptNo, BucketName, Effect, EndReason, Faults, IllegalTransition, Job, JobId, JobStatus,
    LifeEvent, ProjectId, SandboxId, Withdrawal,
};
use serde_json::json;

use crate::{Error, Inner, Shape, control::End, idempotency::Named};

/// The present, as exact as it is stored.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Writes a new job with the key that names its submit. Where that key named one in this moment, that one; then nothing
/// is written.
pub(crate) async fn submitted(
    jobs: &Inner,
    job: &Job,
    named: Option<&Named<'_>>,
    by: &Actor,
) -> Result<Option<Job>, Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let earlier = submitted_in(jobs, &mut tx, job, named, by).await?;
    if earlier.is_none() {
        tx.commit().await?;
    }
    Ok(earlier)
}

/// The same in a transaction, which must not be committed where there is an earlier one.
pub(crate) async fn submitted_in(
    jobs: &Inner,
    tx: &mut Tx,
    job: &Job,
    named: Option<&Named<'_>>,
    by: &Actor,
) -> Result<Option<Job>, Error> {
    rows::insert(tx, job).await?;
    if let Some(named) = named
        && let Some(earlier) = named.claim(tx, job).await?
    {
        return Ok(Some(earlier));
    }
    if let Some(after) = &job.spec.after {
        wait_for(tx, job, after).await?;
    }
    jobs.parts.audit.record_in(tx, &entry(job, None, by.clone())).await?;
    Ok(None)
}

/// Holds a new job until another one of its project has ended, or says why it can never run after that.
async fn wait_for(tx: &mut Tx, job: &Job, after: &After) -> Result<(), Error> {
    let other = rows::find_in(tx, after.job).await?.filter(|other| other.project == job.project && other.id != job.id);
    let invalid = "odp.job.runAfter.invalid";
    let (class, fault) = match other.map(|other| (other.status, after.ended.holds(other.status))) {
        None => (invalid, "there is no such job in the project".to_owned()),
        Some((_, None)) if rows::held(tx, &job.project).await? < MOST_HELD => {
            return Ok(rows::wait_for(tx, job.id, after.job).await?);
        }
        Some((_, None)) => {
            ("odp.job.runAfter.tooMany", format!("{MOST_HELD} jobs of the project wait for another one already"))
        }
        Some((_, Some(true))) => return Ok(()),
        Some((status, Some(false))) => {
            (invalid, format!("that job is {status}, and was to be {}", after.ended.as_str()))
        }
    };
    let mut faults = Faults::default();
    faults.add("run_after", Some(&after.job.to_string()), class, fault);
    Err(faults.into())
}

/// Makes the next attempt of a job that waits; `None` where it does not wait any more. One whose engine was withdrawn ends.
pub(crate) async fn attempt_made(jobs: &Inner, id: JobId, project: &ProjectId) -> Result<Option<SandboxId>, Error> {
    let log_key = jobs.parts.keys.data_key(project, LOG_KEY)?;
    let mut tx = jobs.parts.db.begin().await?;
    let Some(mut job) = rows::find_in(&mut tx, id).await?.filter(|job| job.status == JobStatus::Pending) else {
        return Ok(None);
    };
    let (from, at) = (job.status, now());
    if let Some(withdrawal) = db::engines::withdrawal_in(&mut tx, &job.spec.version).await? {
        advance(jobs, &mut job, &withdrawn_by(&withdrawal), at)?;
        write(jobs, tx, &job, from, Actor::system()).await?;
        return Ok(None);
    }
    advance(jobs, &mut job, &LifeEvent::RoomGiven, at)?;
    let attempt = Attempt { job: id, number: AttemptNo(job.attempt), created: at, started: None, ended: None };
    rows::insert_attempt(&mut tx, &attempt, &log_key.wrapped).await?;
    let id = SandboxId { job: id, attempt: attempt.number };
    let taken = jobs.warm.take(&Shape::of(&job.spec));
    let waited = taken.id();
    if let Some(sandbox) = waited {
        rows::take_sandbox(&mut tx, id, sandbox).await?;
        fail::fail_point!("warm.taken");
        tracing::info!(%id, %sandbox, "an attempt takes a runtime that waits");
    }
    let mut made = entry(&job, Some(from), Actor::system());
    made.detail["sandbox"] = json!(waited.unwrap_or(id).to_string());
    write_as(jobs, &mut tx, &job, from, &made).await?;
    tx.commit().await?;
    taken.keep();
    if waited.is_some() {
        fail::fail_point!("warm.committed");
    }
    Ok(Some(id))
}

/// The driver of an attempt was started.
pub(crate) async fn started(jobs: &Inner, id: SandboxId, at: Timestamp) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let Some(mut job) = rows::find_in(&mut tx, id.job).await? else { return Ok(()) };
    let (from, before) = (job.status, job.life());
    advance(jobs, &mut job, &LifeEvent::DriverStarted { attempt: id.attempt.0 }, at)?;
    if job.life() == before {
        return Ok(());
    }
    rows::attempt_started(&mut tx, id, at).await?;
    write(jobs, tx, &job, from, Actor::system()).await
}

/// An attempt has ended: its job with it, or the job waits for another one. `uploaded` is recorded with it.
pub(crate) async fn ended(jobs: &Inner, id: SandboxId, end: &End, uploaded: Option<&Entry>) -> Result<(), Error> {
    let ran = end.started.and_then(|started| Duration::try_from(end.ended.duration_since(started)).ok());
    let event = LifeEvent::AttemptEnded {
        attempt: id.attempt.0,
        reason: end.reason.clone(),
        return_code: end.return_code,
        ran: ran.unwrap_or_default(),
    };
    attempt_over(jobs, id, &event, end.started, end.ended, uploaded).await
}

/// An attempt that never started user code is given up: its job waits again, or ends where it was asked to stop or
/// has had enough attempts.
pub(crate) async fn voided(jobs: &Inner, id: SandboxId, why: &str) -> Result<(), Error> {
    let event = LifeEvent::AttemptVoided { attempt: id.attempt.0, why: why.to_owned() };
    attempt_over(jobs, id, &event, None, now(), None).await
}

async fn attempt_over(
    jobs: &Inner,
    id: SandboxId,
    event: &LifeEvent,
    started: Option<Timestamp>,
    ended: Timestamp,
    uploaded: Option<&Entry>,
) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let Some(mut job) = rows::find_in(&mut tx, id.job).await? else { return Ok(()) };
    let (from, before) = (job.status, job.life());
    let is_newest = job.attempt == id.attempt.0;
    advance(jobs, &mut job, event, ended)?;
    let is_changed = job.life() != before;
    let ends_job = is_changed && is_newest && job.status.is_final();
    if let Some(at) = started {
        rows::attempt_started(&mut tx, id, at).await?;
    }
    // Of a job that was asked to stop that is the cause, whatever became of its program.
    let reason = job.reason.clone().filter(|_| ends_job).or_else(|| cause(event));
    rows::attempt_ended(&mut tx, id, ended, reason.as_ref()).await?;
    if let Some(uploaded) = uploaded {
        jobs.parts.audit.record_in(&mut tx, uploaded).await?;
    }
    if !is_changed {
        return Ok(tx.commit().await?);
    }
    if ends_job {
        job.started = job.started.or(started.map(|at| at.max(job.created)));
        job.ended = job.ended.max(job.started);
    }
    write(jobs, tx, &job, from, Actor::system()).await?;
    jobs.metrics.attempt_ended(match event {
        LifeEvent::AttemptEnded { reason, .. } => Some(reason),
        _ => None,
    });
    Ok(())
}

/// A job that waits will not start; it ends.
pub(crate) async fn refused(jobs: &Inner, id: JobId, reason: EndReason) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let found = rows::find_in(&mut tx, id).await?;
    let Some(mut job) = found.filter(|job| job.status == JobStatus::Pending) else { return Ok(()) };
    advance(jobs, &mut job, &LifeEvent::Refused { reason }, now())?;
    write(jobs, tx, &job, JobStatus::Pending, Actor::system()).await
}

/// A job that waits ends if its engine was withdrawn.
pub(crate) async fn withdrawn(jobs: &Inner, id: JobId) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let found = rows::find_in(&mut tx, id).await?;
    let Some(mut job) = found.filter(|job| job.status == JobStatus::Pending) else { return Ok(()) };
    let Some(withdrawal) = db::engines::withdrawal_in(&mut tx, &job.spec.version).await? else { return Ok(()) };
    advance(jobs, &mut job, &withdrawn_by(&withdrawal), now())?;
    write(jobs, tx, &job, JobStatus::Pending, Actor::system()).await
}

fn withdrawn_by(withdrawal: &Withdrawal) -> LifeEvent {
    let detail = format!("Spark {}: {}", withdrawal.version, withdrawal.reason);
    LifeEvent::Refused { reason: EndReason::Withdrawn { detail } }
}

/// A caller asks a job to stop. What is to be done then; nothing where it was asked before or has ended.
pub(crate) async fn stop_asked(jobs: &Inner, project: &ProjectId, id: JobId, by: &Actor) -> Result<Vec<Effect>, Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let effects = stop_asked_in(jobs, &mut tx, project, id, by).await?;
    tx.commit().await?;
    Ok(effects)
}

/// The same in a transaction.
pub(crate) async fn stop_asked_in(
    jobs: &Inner,
    tx: &mut Tx,
    project: &ProjectId,
    id: JobId,
    by: &Actor,
) -> Result<Vec<Effect>, Error> {
    let found = rows::find_in(tx, id).await?.filter(|job| job.project == *project);
    let mut job = found.ok_or(Error::NotFound)?;
    let from = job.status;
    let effects = advance(jobs, &mut job, &LifeEvent::StopAsked, now())?;
    if job.status != from {
        write_in(jobs, tx, &job, from, by.clone()).await?;
    }
    Ok(effects)
}

/// Nothing of an attempt stands any more.
pub(crate) async fn closed(jobs: &Inner, id: SandboxId) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    rows::attempt_closed(&mut tx, id, now()).await?;
    Ok(tx.commit().await?)
}

/// Takes a job through an event: what the machine decides, as the columns hold it.
fn advance(jobs: &Inner, job: &mut Job, event: &LifeEvent, at: Timestamp) -> Result<Vec<Effect>, IllegalTransition> {
    let (next, effects) = job.life().after(event)?;
    if next.status != job.status {
        job.since = at.max(job.created);
    }
    job.status = next.status;
    job.attempt = next.attempt;
    job.retried = next.retried;
    job.forgotten = next.forgotten;
    if next.started && job.started.is_none() {
        job.started = Some(at.max(job.created));
    }
    if matches!(event, LifeEvent::RoomGiven) {
        // What the last attempt ended by was told while the job waited for this one.
        job.reason = None;
    }
    for effect in &effects {
        match effect {
            Effect::Pause(pause) => {
                job.not_before = at.checked_add(*pause).unwrap_or(at);
                job.started = None;
                job.reason = cause(event);
            }
            Effect::End { reason, return_code } => {
                job.reason = Some(reason.clone());
                job.return_code = Some(*return_code);
                job.ended = Some(at.max(job.started.unwrap_or(job.created)));
                job.logs_address = Some(logs_address(&jobs.parts.config.log_address_base, job.id));
            }
            Effect::Build(_) | Effect::Stop(_) | Effect::Remove(_) => {}
        }
    }
    Ok(effects)
}

/// What an attempt ended by.
fn cause(event: &LifeEvent) -> Option<EndReason> {
    match event {
        LifeEvent::AttemptEnded { reason, .. } => Some(reason.clone()),
        LifeEvent::AttemptVoided { why, .. } => Some(EndReason::Platform { detail: why.clone() }),
        LifeEvent::RoomGiven | LifeEvent::DriverStarted { .. } | LifeEvent::StopAsked | LifeEvent::Refused { .. } => {
            None
        }
    }
}

/// Where the logs of a job are once it has ended.
fn logs_address(base: &str, id: JobId) -> String {
    format!("{}/{}/{id}/", base.trim_end_matches('/'), BucketName::logs())
}

async fn write(jobs: &Inner, mut tx: Tx, job: &Job, from: JobStatus, by: Actor) -> Result<(), Error> {
    write_in(jobs, &mut tx, job, from, by).await?;
    Ok(tx.commit().await?)
}

async fn write_in(jobs: &Inner, tx: &mut Tx, job: &Job, from: JobStatus, by: Actor) -> Result<(), Error> {
    write_as(jobs, tx, job, from, &entry(job, Some(from), by)).await
}

async fn write_as(jobs: &Inner, tx: &mut Tx, job: &Job, from: JobStatus, entry: &Entry) -> Result<(), Error> {
    rows::update(tx, job).await?;
    jobs.parts.audit.record_in(tx, entry).await?;
    if job.status.is_final() {
        if job.started.is_none() && job.attempt > 0 {
            // What has ended and has no start never ran.
            rows::started_by_attempts(tx, job.id).await?;
        }
        settle_followers(jobs, tx, job).await?;
    }
    tracing::info!(job = %job.id, attempt = job.attempt, %from, to = %job.status, "job changed");
    Ok(())
}

/// Lets those run that wait for the end of a job, or ends them where it ended in another way than they need; then those
/// that wait for these. One of a schedule runs only once no job of an earlier time is left: this one may have ended before
/// the one that it waited for itself, or beside another one.
async fn settle_followers(jobs: &Inner, tx: &mut Tx, ended: &Job) -> Result<(), Error> {
    let mut settled = vec![(ended.id, ended.status)];
    while let Some((id, status)) = settled.pop() {
        for mut job in rows::followers(tx, id).await? {
            let Some(after) = job.spec.after else { continue };
            rows::release(tx, job.id, now()).await?;
            if after.ended.holds(status) == Some(true) {
                if let Some(earlier) = db::schedules::earlier_open_job(tx, job.id).await? {
                    rows::wait_for(tx, job.id, earlier).await?;
                }
                continue;
            }
            let from = job.status;
            let detail = format!("job {id} is {status}, and was to be {} before this one", after.ended.as_str());
            advance(jobs, &mut job, &LifeEvent::Refused { reason: EndReason::CannotStart { detail } }, now())?;
            rows::update(tx, &job).await?;
            jobs.parts.audit.record_in(tx, &entry(&job, Some(from), Actor::system())).await?;
            settled.push((job.id, job.status));
        }
    }
    Ok(())
}

/// A transition, for the audit log.
fn entry(job: &Job, from: Option<JobStatus>, by: Actor) -> Entry {
    let word = job.status.as_str();
    let mut entry =
        Entry::new(by, format!("job.{}", word.to_ascii_lowercase()), format!("project/{}/job/{}", job.project, job.id));
    entry.result = word.to_owned();
    let reason: Option<String> =
        job.reason.as_ref().map(|reason| reason.to_string().chars().take(LONGEST_REASON).collect());
    entry.detail = json!({
        "from": from.map(JobStatus::as_str),
        "attempt": job.attempt,
        "returnCode": job.return_code,
        "reason": reason,
    });
    entry
}

/// How many jobs of a project may wait for another one: all of them may have to be settled by the end of one job, in one
/// transaction.
const MOST_HELD: u64 = 1000;
/// Purpose of the keys that logs are sealed with.
pub(crate) const LOG_KEY: &str = "log";
const LONGEST_REASON: usize = 500;
