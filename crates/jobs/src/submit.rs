//! What a job must be to be accepted.

use audit::Actor;
use jiff::{Timestamp, tz::TimeZone};
use model::{Faults, Job, JobId, JobRequest, JobSpec, JobStatus, ProjectId, SpecRules};
use uuid::Uuid;

use crate::{Config, Error, Inner, record, surroundings::Beside as _};

/// Checks all of a request, writes the job, and wakes the scheduler.
pub(crate) async fn submit(jobs: &Inner, project: &ProjectId, request: &JobRequest, by: &Actor) -> Result<Job, Error> {
    let parts = &jobs.parts;
    let found = db::accounts::find_project(&parts.db, project).await?;
    if !found.is_some_and(|found| found.authorized) {
        return Err(Error::NotAuthorized);
    }
    let now = record::now();
    let rules = SpecRules {
        regions: parts.config.regions.clone(),
        versions: parts.engines.offered(now.to_zoned_datetime(TimeZone::UTC).date()),
    };
    let spec = JobSpec::parse(request, &rules)?;
    let mut faults = Faults::default();
    check_files(jobs, project, &spec, &mut faults).await?;
    check_room(&spec, &parts.config, &mut faults);
    check_packages(&spec, &mut faults);
    let spec = faults.or(spec)?;
    let job = new_job(project, spec, now);
    record::submitted(jobs, &job, by).await?;
    fail::fail_point!("job.submit.committed");
    jobs.wake.notify_one();
    Ok(job)
}

fn new_job(project: &ProjectId, spec: JobSpec, now: Timestamp) -> Job {
    Job {
        id: JobId(Uuid::now_v7()),
        project: project.clone(),
        spec,
        status: JobStatus::Pending,
        created: now,
        started: None,
        ended: None,
        return_code: None,
        reason: None,
        logs_address: None,
        attempt: 0,
    }
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
fn check_room(spec: &JobSpec, config: &Config, faults: &mut Faults) {
    let (cores, memory) = (spec.sizing.cores(), spec.sizing.memory());
    let class = "odp.project.notEnoughQuotas";
    let advice = "take fewer executors, or smaller nodes";
    if cores > config.cores {
        let message = format!("driver and executors together may have at most {} cores: {advice}", config.cores);
        faults.add("cores", Some(&cores.to_string()), class, message);
    }
    if memory > config.memory {
        let message = format!("driver and executors together may have at most {} of memory: {advice}", config.memory);
        faults.add("memory", Some(&memory.to_string()), class, message);
    }
}

/// Packages cannot be fetched from inside a job, whose network is closed. The shim says the same of those that only the
/// properties file names.
fn check_packages(spec: &JobSpec, faults: &mut Faults) {
    if let Ok(Some(why)) = engine::spark::unsupported(spec, None) {
        faults.add("packages", Some(&spec.packages.join(",")), "odp.job.packages.unsupported", why);
    }
}
