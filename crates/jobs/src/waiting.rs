//! Why a job that has not ended stands where it does: for its owner.

use jiff::Timestamp;
use model::{Job, JobStatus, Quota, Shortage, Usage};

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
        && db::jobs::is_held(db, job.id).await?
    {
        let reason = format!("it waits for job {} to be {}", after.job, after.ended.as_str());
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
