//! What a job must be to be accepted.

use audit::Actor;
use db::accounts::Project;
use jiff::Timestamp;
use model::{Faults, Job, JobId, JobRequest, JobSpec, ProjectId, Region, Usage};
use uuid::Uuid;

use crate::{
    Error, IdempotencyKey, Inner, environment, idempotency::Named, record, surroundings::Beside as _, turns, versions,
};

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
    let found = found.filter(|found| found.authorized).ok_or(Error::NotAuthorized)?;
    let now = record::now();
    let named = key.map(|key| Named::new(key, request));
    if let Some(named) = &named
        && let Some(job) = named.earlier(jobs, project, now).await?
    {
        return Ok(job);
    }
    let spec = check(jobs, &found, request, now).await?;
    let job = new_job(project, spec, now);
    if let Some(earlier) = record::submitted(jobs, &job, named.as_ref(), by).await? {
        return Ok(earlier);
    }
    jobs.metrics.submitted();
    fail::fail_point!("job.submit.committed");
    jobs.wake.notify_one();
    Ok(job)
}

/// The job that a request asks for, if it can be run; else all that is wrong with it.
pub(crate) async fn check(
    jobs: &Inner,
    project: &Project,
    request: &JobRequest,
    now: Timestamp,
) -> Result<JobSpec, Error> {
    let spec = JobSpec::parse(request, &versions::rules(jobs, home(jobs, project)?, now).await?)?;
    let mut faults = Faults::default();
    check_files(jobs, &project.id, &spec, &mut faults).await?;
    check_room(jobs, &project.id, &spec, &mut faults).await?;
    check_packages(jobs, &spec, &mut faults);
    check_environment(jobs, &spec, &mut faults);
    Ok(faults.or(spec)?)
}

/// The one region in which a project's jobs run, if that is one of this service.
fn home(jobs: &Inner, project: &Project) -> Result<Region, Faults> {
    let served = &jobs.parts.config.regions;
    let mut faults = Faults::default();
    let home = project.region_among(served);
    if let Some(home) = home.filter(|home| !served.contains(home)) {
        let message = format!("the project is in {home}, which this service does not serve: submit it there");
        faults.add("region", Some(home.as_str()), "odp.job.region.unsupportedRegion", message);
    }
    faults.or(home.cloned())?.ok_or_else(Faults::default)
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
        ("environment", spec.environment.as_deref(), "odp.environment.notFound"),
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

/// Where there is no index nothing is installed.
fn check_environment(jobs: &Inner, spec: &JobSpec, faults: &mut Faults) {
    if environment::named_form(spec).is_some() && jobs.parts.config.environments.pypi.is_none() {
        faults.add(
            "environment",
            spec.environment.as_deref(),
            "odp.job.environment.unsupported",
            environment::NO_INDEX,
        );
    }
}

/// Packages come from the repositories that the operator allows, and from no other.
fn check_packages(jobs: &Inner, spec: &JobSpec, faults: &mut Faults) {
    let allowed = &jobs.parts.config.environments.maven;
    if allowed.is_empty() {
        if !spec.packages.is_empty() {
            let given = spec.packages.join(",");
            faults.add("packages", Some(&given), "odp.job.packages.unsupported", environment::NO_REPOSITORY);
        }
    } else if let Err(other) = environment::repositories(allowed, &spec.repositories) {
        let message = format!("not one of those that this service allows: {}", allowed.join(", "));
        faults.add("repositories", Some(&other), "odp.job.repositories.notAllowed", message);
    }
}
