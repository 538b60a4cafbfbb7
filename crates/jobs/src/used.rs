//! Reading what a job used: from the spool of its newest attempt, and once that is gone from the bucket of logs.

use model::{AttemptNo, JobId, NodeName, ProjectId, SandboxId};

use crate::{
    Error, Inner,
    history::History,
    record::LOG_KEY,
    spool::{self, LONGEST_USED, read_used},
    surroundings::Beside as _,
};

/// What an attempt used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Which attempt.
    pub attempt: u32,
    /// What it used.
    pub history: History,
}

pub(crate) async fn read(jobs: &Inner, project: &ProjectId, id: JobId) -> Result<Option<Used>, Error> {
    let found = db::jobs::find_with_log(&jobs.parts.db, id).await?.filter(|(job, _)| job.project == *project);
    let (job, place) = found.ok_or(Error::NotFound)?;
    if job.attempt == 0 {
        return Ok(None);
    }
    let attempt = SandboxId { job: id, attempt: AttemptNo(job.attempt) };
    let of_attempt = |history| Used { attempt: job.attempt, history };
    if let Some(place) = place.filter(|place| place.spooled) {
        let key = jobs.parts.keys.unwrap(project, LOG_KEY, &place.wrapped_key)?;
        let dir = jobs.spool(place.sandbox);
        match tokio::task::spawn_blocking(move || read_used(&dir, &key)).await? {
            Ok(Some(history)) => return Ok(Some(of_attempt(history))),
            Ok(None) => {}
            // Its time came while it was read.
            Err(spool::Error::File { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    let key = object_of(attempt);
    let kept = jobs.parts.surroundings.read_log(project, &key, LONGEST_USED).await.beside("reading what a job used")?;
    // The bucket is the project's, and what stands there may be anything.
    let history = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).filter(History::is_whole);
    Ok(history.map(of_attempt))
}

/// The name of the object in the bucket of logs that tells what an attempt used.
pub(crate) fn object_of(id: SandboxId) -> String {
    format!("{}/{}/used.{}.json", id.job, NodeName::driver(), id.attempt)
}
