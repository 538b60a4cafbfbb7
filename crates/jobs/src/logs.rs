//! Reading the log of a job: from the spool of its newest attempt, whether its shim lives or not.

use jiff::Timestamp;
use model::{JobId, JobStatus, LogLine, ProjectId};

use crate::{
    Error, Inner, LogQuery,
    record::LOG_KEY,
    spool::{self, Reader},
};

/// Lines of a job's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logs {
    /// The lines by id. None once the spool is gone: then they are in the bucket.
    pub lines: Vec<LogLine>,
    /// Where all of the log is once the job has ended.
    pub address: Option<String>,
    /// When the job was started, or accepted where it was not started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

pub(crate) async fn read(jobs: &Inner, project: &ProjectId, id: JobId, query: &LogQuery) -> Result<Logs, Error> {
    let found = db::jobs::find_with_log(&jobs.parts.db, id).await?.filter(|(job, _)| job.project == *project);
    let (job, place) = found.ok_or(Error::NotFound)?;
    let started = job.started.unwrap_or(job.created);
    let mut logs = Logs { lines: Vec::new(), address: job.logs_address, started, ended: job.ended };
    if job.attempt == 0 || job.status == JobStatus::Pending {
        return Ok(logs);
    }
    let Some(place) = place.filter(|place| place.spooled) else { return Ok(logs) };
    let key = jobs.parts.keys.unwrap(project, LOG_KEY, &place.wrapped_key)?;
    let (dir, query) = (jobs.spool(place.sandbox), query.clone());
    logs.lines = match tokio::task::spawn_blocking(move || Reader::open(&dir, &key).read(&query)).await? {
        // Its time came while it was read.
        Err(spool::Error::File { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    Ok(logs)
}
