//! Each change of a job: read in the one write transaction, decided by the status machine, written with its audit entry.
//! An attempt that is not the job's newest any more changes nothing.

use audit::{Actor, Entry};
use db::{Tx, jobs as rows};
use jiff::Timestamp;
use model::{
    Attempt, AttemptNo, BucketName, EndReason, IllegalTransition, Job, JobEvent, JobId, JobStatus, ProjectId, SandboxId,
};
use serde_json::json;

use crate::{Error, Inner, control::End};

/// The present, as exact as it is stored.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Writes a new job.
pub(crate) async fn submitted(jobs: &Inner, job: &Job, by: &Actor) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    rows::insert(&mut tx, job).await?;
    jobs.parts.audit.record_in(&mut tx, &entry(job, None, by.clone())).await?;
    Ok(tx.commit().await?)
}

/// Makes the next attempt of a job that waits; `None` where it does not wait any more.
pub(crate) async fn attempt_made(jobs: &Inner, id: JobId, project: &ProjectId) -> Result<Option<SandboxId>, Error> {
    let log_key = jobs.parts.keys.data_key(project, LOG_KEY)?;
    let mut tx = jobs.parts.db.begin().await?;
    let Some(mut job) = rows::find_in(&mut tx, id).await?.filter(|job| job.status == JobStatus::Pending) else {
        return Ok(None);
    };
    let from = job.status;
    job.status = job.status.after(JobEvent::AttemptMade)?;
    job.attempt = job.attempt.saturating_add(1);
    let attempt = Attempt { job: id, number: AttemptNo(job.attempt), created: now(), started: None, ended: None };
    rows::insert_attempt(&mut tx, &attempt, &log_key.wrapped).await?;
    write(jobs, tx, &job, from, Actor::system()).await?;
    Ok(Some(SandboxId { job: id, attempt: attempt.number }))
}

/// The driver of an attempt was started.
pub(crate) async fn started(jobs: &Inner, id: SandboxId, at: Timestamp) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let Some(mut job) = current(&mut tx, id).await? else { return Ok(()) };
    if job.started.is_some() {
        return Ok(());
    }
    let from = job.status;
    job.status = job.status.after(JobEvent::DriverStarted)?;
    job.started = Some(at.max(job.created));
    rows::attempt_started(&mut tx, id, at).await?;
    write(jobs, tx, &job, from, Actor::system()).await
}

/// An attempt has ended, and its job with it.
pub(crate) async fn ended(jobs: &Inner, id: SandboxId, end: &End) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    rows::attempt_ended(&mut tx, id, end.ended).await?;
    let Some(mut job) = current(&mut tx, id).await? else { return Ok(tx.commit().await?) };
    let from = job.status;
    end_job(&mut job, end, &jobs.parts.config.log_address_base)?;
    if let Some(at) = end.started {
        rows::attempt_started(&mut tx, id, at).await?;
    }
    write(jobs, tx, &job, from, Actor::system()).await
}

/// An attempt that never started user code is given up: its job waits again, or ends where it was asked to stop or
/// has had enough attempts.
pub(crate) async fn voided(jobs: &Inner, id: SandboxId, why: &str) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let at = now();
    rows::attempt_ended(&mut tx, id, at).await?;
    let Some(mut job) = current(&mut tx, id).await? else { return Ok(tx.commit().await?) };
    let from = job.status;
    if from == JobStatus::Submitted && id.attempt.0 < MOST_ATTEMPTS {
        job.status = from.after(JobEvent::AttemptVoided)?;
    } else {
        let reason = EndReason::Platform { detail: format!("{why}, in {} attempts", id.attempt) };
        let end = End { reason, return_code: LOST, started: None, ended: at };
        end_job(&mut job, &end, &jobs.parts.config.log_address_base)?;
    }
    write(jobs, tx, &job, from, Actor::system()).await
}

/// A job that waits can never start; it ends.
pub(crate) async fn refused(jobs: &Inner, id: JobId, why: String) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let found = rows::find_in(&mut tx, id).await?;
    let Some(mut job) = found.filter(|job| job.status == JobStatus::Pending) else { return Ok(()) };
    let end = End { reason: EndReason::CannotStart { detail: why }, return_code: 1, started: None, ended: now() };
    end_job(&mut job, &end, &jobs.parts.config.log_address_base)?;
    write(jobs, tx, &job, JobStatus::Pending, Actor::system()).await
}

/// A caller asks a job to stop. The job as it is then; `None` where nothing changed.
pub(crate) async fn stop_asked(jobs: &Inner, project: &ProjectId, id: JobId, by: &Actor) -> Result<Option<Job>, Error> {
    let mut tx = jobs.parts.db.begin().await?;
    let found = rows::find_in(&mut tx, id).await?.filter(|job| job.project == *project);
    let mut job = found.ok_or(Error::NotFound)?;
    let from = job.status;
    if from.is_final() || from == JobStatus::Cancelling {
        return Ok(None);
    }
    job.status = from.after(JobEvent::StopAsked)?;
    if job.status.is_final() {
        let end = End { reason: EndReason::Cancelled, return_code: STOPPED, started: None, ended: now() };
        job.status = from;
        end_job(&mut job, &end, &jobs.parts.config.log_address_base)?;
    }
    write(jobs, tx, &job, from, by.clone()).await?;
    Ok(Some(job))
}

/// Nothing of an attempt stands any more.
pub(crate) async fn closed(jobs: &Inner, id: SandboxId) -> Result<(), Error> {
    let mut tx = jobs.parts.db.begin().await?;
    rows::attempt_closed(&mut tx, id, now()).await?;
    Ok(tx.commit().await?)
}

/// Where the logs of a job are once it has ended.
fn logs_address(base: &str, id: JobId) -> String {
    format!("{}/{}/{id}/", base.trim_end_matches('/'), BucketName::logs())
}

/// What an end makes of a job that has not ended. A job that did not complete never has the return code 0.
fn end_job(job: &mut Job, end: &End, base: &str) -> Result<(), IllegalTransition> {
    let status = match &end.reason {
        EndReason::Exited { return_code } => job.status.after(JobEvent::DriverEnded { return_code: *return_code })?,
        EndReason::Signalled { .. } | EndReason::OutOfMemory { .. } | EndReason::OutOfDisk { .. } => {
            job.status.after(JobEvent::DriverEnded { return_code: nonzero(end.return_code, LOST) })?
        }
        EndReason::CannotStart { .. } | EndReason::Platform { .. } => job.status.after(JobEvent::Lost)?,
        // The time to live passes in the shim: for the job that is to be asked to stop, and to have stopped.
        EndReason::Cancelled | EndReason::TtlPassed => match job.status.after(JobEvent::StopAsked)? {
            stopping if stopping.is_final() => stopping,
            stopping => stopping.after(JobEvent::Stopped)?,
        },
    };
    job.return_code = Some(match (status, &end.reason) {
        (JobStatus::Completed, _) => 0,
        // No code of a driver: it was not started, or nobody saw it end.
        (JobStatus::Terminated, EndReason::CannotStart { .. } | EndReason::Platform { .. }) => STOPPED,
        (JobStatus::Terminated, _) => nonzero(end.return_code, STOPPED),
        _ => nonzero(end.return_code, LOST),
    });
    job.reason = Some(match (&end.reason, status) {
        (EndReason::TtlPassed, _) => EndReason::TtlPassed,
        // Whatever it ended by: it was asked to stop before.
        (_, JobStatus::Terminated) => EndReason::Cancelled,
        (reason, _) => reason.clone(),
    });
    job.status = status;
    job.started = job.started.or(end.started.map(|at| at.max(job.created)));
    job.ended = Some(end.ended.max(job.started.unwrap_or(job.created)));
    job.logs_address = Some(logs_address(base, job.id));
    Ok(())
}

/// The job of an attempt, where the attempt is its newest and the job has not ended.
async fn current(tx: &mut Tx, id: SandboxId) -> Result<Option<Job>, Error> {
    let job = rows::find_in(tx, id.job).await?;
    Ok(job.filter(|job| job.attempt == id.attempt.0 && !job.status.is_final() && job.status != JobStatus::Pending))
}

async fn write(jobs: &Inner, mut tx: Tx, job: &Job, from: JobStatus, by: Actor) -> Result<(), Error> {
    rows::update(&mut tx, job).await?;
    jobs.parts.audit.record_in(&mut tx, &entry(job, Some(from), by)).await?;
    tx.commit().await?;
    tracing::info!(job = %job.id, attempt = job.attempt, %from, to = %job.status, "job changed");
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

fn nonzero(code: i32, otherwise: i32) -> i32 {
    if code == 0 { otherwise } else { code }
}

/// Purpose of the keys that logs are sealed with.
pub(crate) const LOG_KEY: &str = "log";
/// Return code of a job that the platform lost.
pub(crate) const LOST: i32 = 255;
/// Return code of what SIGTERM ended: 128 + 15.
const STOPPED: i32 = 143;
/// An attempt that cannot be started is made again, but not for ever.
const MOST_ATTEMPTS: u32 = 5;
const LONGEST_REASON: usize = 500;

#[cfg(test)]
mod tests {
    use model::{JobRequest, JobSpec, SpecRules};
    use uuid::Uuid;

    use super::*;

    fn job(status: JobStatus) -> Job {
        let rules = SpecRules {
            regions: vec!["GRA".parse().expect("region")],
            versions: vec!["3.5.9".parse().expect("version")],
        };
        let parameter = |name: &str, value: &str| model::EngineParameter { name: name.into(), value: value.into() };
        let request = JobRequest {
            container_name: Some("code".into()),
            parameters: vec![parameter("job_type", "python"), parameter("main_application_code", "main.py")],
            ..JobRequest::default()
        };
        Job {
            id: JobId(Uuid::now_v7()),
            project: "a".repeat(32).parse().expect("project"),
            spec: JobSpec::parse(&request, &rules).expect("valid"),
            status,
            created: now(),
            started: None,
            ended: None,
            return_code: None,
            reason: None,
            logs_address: None,
            attempt: 1,
        }
    }

    fn reasons() -> Vec<EndReason> {
        let detail = || "why".to_owned();
        vec![
            EndReason::Exited { return_code: 0 },
            EndReason::Exited { return_code: 7 },
            EndReason::Signalled { signal: 9 },
            EndReason::OutOfMemory { detail: detail() },
            EndReason::OutOfDisk { detail: detail() },
            EndReason::CannotStart { detail: detail() },
            EndReason::Cancelled,
            EndReason::TtlPassed,
            EndReason::Platform { detail: detail() },
        ]
    }

    #[test]
    fn every_attempt_that_ends_ends_its_job_and_only_a_completed_job_has_the_return_code_0() {
        for status in [JobStatus::Submitted, JobStatus::Running, JobStatus::Cancelling] {
            for reason in reasons() {
                for return_code in [0, 7] {
                    let mut job = job(status);
                    let end = End { reason: reason.clone(), return_code, started: Some(now()), ended: now() };
                    end_job(&mut job, &end, "http://127.0.0.1:9000/").expect("can end");
                    assert!(job.status.is_final(), "{status} {reason}");
                    assert_eq!(job.return_code == Some(0), job.status == JobStatus::Completed, "{status} {reason}");
                    assert_eq!(
                        job.status == JobStatus::Completed,
                        status != JobStatus::Cancelling && reason == reasons()[0]
                    );
                    assert_eq!(job.logs_address, Some(format!("http://127.0.0.1:9000/odp-logs/{}/", job.id)));
                    assert!(job.started <= job.ended && job.ended.is_some());
                }
            }
        }
    }

    #[test]
    fn a_cancelled_job_is_terminated_whatever_its_driver_returns() {
        for reason in reasons() {
            let mut job = job(JobStatus::Cancelling);
            end_job(&mut job, &End { reason, return_code: 0, started: None, ended: now() }, "").expect("can end");
            assert_eq!((job.status, job.return_code), (JobStatus::Terminated, Some(143)));
        }
    }
}
