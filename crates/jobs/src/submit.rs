//! What a job must be to be accepted.

use audit::Actor;
use jiff::Timestamp;
use model::{Faults, Job, JobId, JobRequest, JobSpec, ProjectId, Usage};
use uuid::Uuid;

use crate::{Error, IdempotencyKey, Inner, idempotency::Named, record, surroundings::Beside as _, turns, versions};

/// Checks all of a request, writes the job, and wakes the scheduler. What was submitted by the same key before is given
/// back instead, whatever has become of its files.
pub(crate) async fn submit(
    jobs: &Inner,
    project: &ProjectId,
    request: &JobRequest,
    key: Option<&IdempotencyKey>,
    by: &Actor,
) -> Result<Job, Error> {
    let parts = &jobs.parts;
    let found = db::accounts::find_project(&parts.db, project).await?;
    if !found.is_some_and(|found| found.authorized) {
        return Err(Error::NotAuthorized);
    }
    let now = record::now();
    let named = key.map(|key| Named::new(key, request));
    if let Some(named) = &named
        && let Some(job) = named.earlier(jobs, project, now).await?
    {
        return Ok(job);
    }
    let spec = check(jobs, project, request, now).await?;
    let job = new_job(project, spec, now);
    if let Some(earlier) = record::submitted(jobs, &job, named.as_ref(), by).await? {
        return Ok(earlier);
    }
    fail::fail_point!("job.submit.committed");
    jobs.wake.notify_one();
    Ok(job)
}

/// The job that a request asks for, if it can be run; else all that is wrong with it.
pub(crate) async fn check(
    jobs: &Inner,
    project: &ProjectId,
    request: &JobRequest,
    now: Timestamp,
) -> Result<JobSpec, Error> {
    let spec = JobSpec::parse(request, &versions::rules(jobs, now).await?)?;
    let mut faults = Faults::default();
    check_files(jobs, project, &spec, &mut faults).await?;
    check_room(jobs, project, &spec, &mut faults).await?;
    check_packages(&spec, &mut faults);
    Ok(faults.or(spec)?)
}

pub(crate) fn new_job(project: &ProjectId, spec: JobSpec, now: Timestamp) -> Job {
    Job::new(JobId(Uuid::now_v7()), project.clone(), spec, now)
}

/// Files that the job cannot start without.
async fn check_files(jobs: &Inner, project: &ProjectId, spec: &JobSpec, faults: &mut Faults) -> Result<(), Error> {
    let main = spec.program.main_file();
    let named = [
        ("main_application_code", Some(main), "odp.mainApplicationCode.notFound"),
        ("properties_file", spec.properties_file.as_deref(), "odp.propertiesFile.notFound"),
    ];
    for (field, key, class) in named {
        let Some(key) = key else { continue };
        let size =
            jobs.parts.surroundings.object_size(project, &spec.bucket, key).await.beside("the look for a file")?;
        if size.is_none() {
            faults.add(field, Some(key), class, format!("there is no such object in the bucket {}", spec.bucket));
        }
    }
    Ok(())
}

/// A job that could never fit is refused here: it would wait for ever.
async fn check_room(jobs: &Inner, project: &ProjectId, spec: &JobSpec, faults: &mut Faults) -> Result<(), Error> {
    let asked = Usage::of(&spec.sizing);
    let quota = db::quotas::find(&jobs.parts.db, project).await?;
    // Of two bounds the lower one is told, for the other changes nothing.
    for shortage in turns::never_fits(&asked, &quota, &jobs.parts.config.room()) {
        let most = shortage.named(&shortage.limit);
        let message =
            format!("driver and executors together may have at most {most}: take fewer executors, or smaller nodes");
        faults.add(shortage.of, Some(&shortage.asked), "odp.project.notEnoughQuotas", message);
    }
    Ok(())
}

/// Packages cannot be fetched from inside a job, whose network is closed. The shim says the same of those that only the
/// properties file names.
fn check_packages(spec: &JobSpec, faults: &mut Faults) {
    if let Ok(Some(why)) = engine::spark::unsupported(spec, None) {
        faults.add("packages", Some(&spec.packages.join(",")), "odp.job.packages.unsupported", why);
    }
}
