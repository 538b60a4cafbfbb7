//! Why a job that has not ended stands where it does: for its owner.

use jiff::Timestamp;
use model::{EndReason, Job, JobStatus, LONGEST_WAIT, Quota, Shortage, Usage};

use crate::{Error, Inner, record};

/// Why a job stands where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// One sentence without a full stop; `None` for a job that has ended: it has its own reason.
    pub reason: Option<String>,
    /// Its place among the waiting jobs of its project, from 1; `None` for one that does not wait.
    pub place: Option<u64>,
    /// Until when it stays so at the most.
    pub deadline: Option<Timestamp>,
}

pub(crate) async fn standing(jobs: &Inner, job: &Job) -> Result<Standing, Error> {
    let reason = match job.status {
        JobStatus::Pending => return waiting(jobs, job).await,
        JobStatus::Submitted => {
            Some("its sandbox is being built, its environment made and its code fetched".to_owned())
        }
        JobStatus::Running => Some("its program runs".to_owned()),
        JobStatus::Cancelling => Some("its program is asked to end, and its log brought into the bucket".to_owned()),
        JobStatus::Failed | JobStatus::Terminated | JobStatus::Completed | JobStatus::Unknown => None,
    };
    Ok(Standing { reason, place: None, deadline: job.deadline() })
}

async fn waiting(jobs: &Inner, job: &Job) -> Result<Standing, Error> {
    let db = &jobs.parts.db;
    if let Some(after) = job.spec.after
        && let Some(holder) = db::jobs::holder(db, job.id).await?
    {
        let reason = format!("it waits for job {holder} to be {}", after.ended.as_str());
        return Ok(Standing { reason: Some(reason), place: None, deadline: job.deadline() });
    }
    let ahead = db::jobs::ahead(db, &job.project, job.id).await?;
    let place = Some(ahead.before + 1);
    if jobs.aside.holds(&job.project) {
        let reason = Some("the key of its project cannot be opened; the operator is told why".to_owned());
        return Ok(Standing { reason, place, deadline: job.deadline() });
    }
    let project = (&ahead.quota, &ahead.of_project);
    let machine = (&jobs.parts.config.room(), &ahead.of_all);
    let reason = why(job, record::now(), ahead.before, project, machine);
    Ok(Standing { reason: Some(reason), place, deadline: job.deadline() })
}

/// What a job ends by that has waited for as long as one may.
pub(crate) async fn too_long(jobs: &Inner, job: &Job) -> Result<EndReason, Error> {
    let db = &jobs.parts.db;
    let days = LONGEST_WAIT.as_secs() / 86_400;
    let why = waiting(jobs, job).await?.reason.unwrap_or_default();
    let detail = format!("it has waited for {days} days: {why}");
    let ahead = db::jobs::ahead(db, &job.project, job.id).await?;
    // Behind others of its project, it is what holds the first of them.
    let heads = db::jobs::heads(db, record::now()).await?;
    let head = heads.into_iter().find(|head| head.project == job.project);
    let asked = head.map_or_else(|| Usage::of(&job.spec.sizing), |head| head.asked);
    Ok(match db::jobs::holder(db, job.id).await?.is_some() || own_jobs_hold(&asked, &ahead.quota, &ahead.of_project) {
        true => EndReason::CannotStart { detail },
        false => EndReason::NotStarted { detail },
    })
}

/// Whether other jobs of its project take the quota that a job needs. Where that is too small for the job alone, it was made
/// smaller since the job was accepted.
fn own_jobs_hold(asked: &Usage, quota: &Quota, ours: &Usage) -> bool {
    quota.allows(&Usage::default(), asked) && !quota.allows(ours, asked)
}

/// Why a job waits; `before` jobs of its project come first. Of several causes the nearest one.
fn why(job: &Job, now: Timestamp, before: u64, project: (&Quota, &Usage), machine: (&Quota, &Usage)) -> String {
    let asked = Usage::of(&job.spec.sizing);
    if job.not_before > now {
        let cause = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        return format!("it is tried again at {} because attempt {} ended{cause}", job.not_before, job.attempt);
    }
    let ((quota, ours), (room, total)) = (project, machine);
    let short = |whose: &str, shortages: Vec<Shortage>| {
        let all: Vec<String> = shortages.iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| format!("{whose} has no room for it now ({})", all.join("; ")))
    };
    let first = match before {
        0 => None,
        1 => Some("1 job of the project comes first".to_owned()),
        many => Some(format!("{many} jobs of the project come first")),
    };
    short("the project's quota", quota.shortages(ours, &asked))
        .or_else(|| short("the machine", room.shortages(total, &asked)))
        .map(|why| first.as_ref().map_or_else(|| why.clone(), |first| format!("{first}, and {why}")))
        .or(first)
        .unwrap_or_else(|| "it starts when it is its project's turn".to_owned())
}

#[cfg(test)]
mod tests {
    use model::Cores;

    use super::*;

    #[test]
    fn that_a_job_waits_for_its_quota_is_its_projects_doing_only_where_other_jobs_of_that_take_it() {
        let usage = |jobs, cores| Usage { jobs, cores: Cores(cores), ..Usage::default() };
        let quota = |jobs, cores| Quota { jobs, cores, ..Quota::default() };
        let asked = usage(1, 4);
        for (quota, ours, own) in [
            (quota(None, None), usage(3, 12), false),
            (quota(Some(2), Some(Cores(8))), usage(1, 4), false),
            (quota(Some(2), None), usage(2, 2), true),
            (quota(None, Some(Cores(8))), usage(1, 5), true),
            // Lowered to less than it asks for, and to none.
            (quota(None, Some(Cores(3))), usage(1, 1), false),
            (quota(Some(0), None), usage(1, 1), false),
        ] {
            assert_eq!(own_jobs_hold(&asked, &quota, &ours), own, "{quota:?} {ours:?}");
        }
    }
}
