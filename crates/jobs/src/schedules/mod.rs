//! Jobs that come again by the clock (JOB-16). What is asked for is checked as a submit is, when it is asked for and again at
//! each run, and so are the rights of whoever asked: nothing that they may not do themselves is done in their name.

mod cron;
mod fire;
mod notices;
mod request;

use std::sync::Arc;

use audit::{Actor, Decision, Entry};
use db::{Tx, schedules as rows};
use jiff::{SignedDuration, Timestamp};
use model::{Faults, Principal, ProjectId, Schedule, ScheduleId, ScheduleRun};
use serde_json::json;
use uuid::Uuid;

use crate::{Error, IdempotencyKey, Inner, submit};

pub(crate) use fire::run;
pub(crate) use notices::run as tell;
pub use request::ScheduleRequest;

/// Schedules of projects; a cheap handle.
#[derive(Clone)]
pub struct Schedules {
    inner: Arc<Inner>,
}

impl Schedules {
    pub(crate) fn new(inner: Arc<Inner>) -> Schedules {
        Schedules { inner }
    }

    /// Makes a schedule in the name of `owner`, or says all that is wrong with it: [`Error::Invalid`]. One that was made by the
    /// same key within 24 hours is given back.
    pub async fn create(
        &self,
        project: &ProjectId,
        request: &ScheduleRequest,
        owner: &Principal,
        key: Option<&IdempotencyKey>,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Schedule, Error> {
        let at = stored(at);
        let mut faults = self.faults_of_job(project, request, at).await?;
        let id = ScheduleId(Uuid::now_v7());
        let made = request.new_schedule(id, project, owner, at, &mut faults);
        let digest = request.digest();
        let mut tx = self.inner.parts.db.begin().await?;
        if let Some(key) = key {
            let since = at.checked_sub(KEY_KEPT).unwrap_or(Timestamp::MIN);
            match rows::find_keyed_in(&mut tx, project, &key.to_string(), since).await? {
                Some(earlier) if earlier.digest == digest => return Ok(earlier.schedule),
                Some(_) => return Err(Error::KeyReused),
                None => rows::forget_key(&mut tx, project, &key.to_string()).await?,
            }
        }
        let schedule = match made {
            Some(schedule) => faults.or(schedule)?,
            None => return Err(faults.into()),
        };
        if rows::count_in(&mut tx, project).await? >= MOST_SCHEDULES {
            return Err(Error::TooManySchedules);
        }
        let key = key.map(ToString::to_string);
        named(rows::insert(&mut tx, &schedule, key.as_deref().map(|key| (key, &digest[..]))).await, &schedule)?;
        self.inner.parts.audit.record_in(&mut tx, &entry(&schedule, "created", by)).await?;
        tx.commit().await?;
        self.inner.schedules_changed.notify_one();
        Ok(schedule)
    }

    /// Changes what is asked for; what is not asked for stays. From then on it runs in the name of `owner`, but for a change
    /// that only pauses it: [`Error::NoPrincipal`] where there is none. One that goes on again does so from `at` on.
    pub async fn change(
        &self,
        project: &ProjectId,
        id: ScheduleId,
        request: &ScheduleRequest,
        owner: Option<&Principal>,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Schedule, Error> {
        let at = stored(at);
        let mut faults = match &request.job {
            Some(_) => self.faults_of_job(project, request, at).await?,
            None => Faults::default(),
        };
        let mut tx = self.inner.parts.db.begin().await?;
        let found = rows::find_in(&mut tx, id).await?.filter(|schedule| schedule.project == *project);
        let before = found.ok_or(Error::NoSchedule)?;
        let last = rows::last_run_in(&mut tx, id).await?;
        let owner = match (request.only_pauses(), owner) {
            (true, _) => before.owner.clone(),
            (false, Some(owner)) => owner.clone(),
            (false, None) => return Err(Error::NoPrincipal),
        };
        let changed = request.changed(&before, &owner, at, last, &mut faults);
        let after = match changed {
            Some(schedule) => faults.or(schedule)?,
            None => return Err(faults.into()),
        };
        named(rows::update(&mut tx, &after).await, &after)?;
        if after.owner.account != before.owner.account {
            rows::forget_told(&mut tx, id).await?;
        }
        let mut entry = entry(&after, "changed", by);
        entry.detail["changed"] = json!(differences(&before, &after));
        self.inner.parts.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        self.inner.schedules_changed.notify_one();
        Ok(after)
    }

    /// Removes a schedule. Jobs that it submitted stay as they are.
    pub async fn delete(&self, project: &ProjectId, id: ScheduleId, by: &Actor) -> Result<(), Error> {
        let mut tx = self.inner.parts.db.begin().await?;
        let found = rows::find_in(&mut tx, id).await?.filter(|schedule| schedule.project == *project);
        let schedule = found.ok_or(Error::NoSchedule)?;
        rows::delete(&mut tx, id).await?;
        self.inner.parts.audit.record_in(&mut tx, &entry(&schedule, "deleted", by)).await?;
        Ok(tx.commit().await?)
    }

    /// The schedule of that id in a project.
    pub async fn find(&self, project: &ProjectId, id: ScheduleId) -> Result<Option<Schedule>, Error> {
        Ok(rows::find(&self.inner.parts.db, id).await?.filter(|schedule| schedule.project == *project))
    }

    /// The schedules of a project, by name.
    pub async fn list(&self, project: &ProjectId) -> Result<Vec<Schedule>, Error> {
        Ok(rows::list(&self.inner.parts.db, project).await?)
    }

    /// What came of its times, newest first, at most `limit`. The newest [`MOST_RUNS`] are kept.
    pub async fn runs(&self, id: ScheduleId, limit: u32) -> Result<Vec<ScheduleRun>, Error> {
        Ok(rows::runs(&self.inner.parts.db, id, limit).await?)
    }

    /// Submits what is due at `at`, as [`crate::Jobs::run`] does when the time comes.
    pub async fn come_due(&self, at: Timestamp) -> Result<(), Error> {
        fire::come_due(&self.inner, stored(at)).await
    }

    /// Tells owners what they are to know of engine versions at `at`, each once, as [`crate::Jobs::run`] does.
    pub async fn tell_owners(&self, at: Timestamp) -> Result<(), Error> {
        let occasions = notices::occasions(&self.inner, stored(at)).await?;
        notices::tell(&self.inner, &occasions, stored(at)).await
    }

    /// What is wrong with the job that is asked for, as a submit would say it now.
    async fn faults_of_job(
        &self,
        project: &ProjectId,
        request: &ScheduleRequest,
        at: Timestamp,
    ) -> Result<Faults, Error> {
        let parts = &self.inner.parts;
        let found = db::accounts::find_project(&parts.db, project).await?;
        let found = found.filter(|found| found.authorized).ok_or(Error::NotAuthorized)?;
        match &request.job {
            None => Ok(Faults::default()),
            Some(job) => match submit::check(&self.inner, &found, job, at).await {
                Ok(_) => Ok(Faults::default()),
                Err(Error::Invalid(faults)) => Ok(faults),
                Err(cause) => Err(cause),
            },
        }
    }
}

impl std::fmt::Debug for Schedules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedules").finish_non_exhaustive()
    }
}

/// The next times of a schedule after `at`, at most `count`; none where it does not go on.
pub fn upcoming(schedule: &Schedule, at: Timestamp, count: usize) -> Vec<Timestamp> {
    let Ok(cron) = request::cron(schedule) else { return Vec::new() };
    let mut next = schedule.next_run.filter(|next| *next > at);
    if next.is_none() && schedule.next_run.is_some() {
        next = request::next_run(schedule, &cron, at);
    }
    let mut times = Vec::new();
    while let Some(time) = next.filter(|_| times.len() < count) {
        times.push(time);
        next = request::next_run(schedule, &cron, time);
    }
    times
}

/// A name that another schedule of the project has.
fn named(done: Result<(), db::Error>, schedule: &Schedule) -> Result<(), Error> {
    match done {
        Err(cause) if cause.is_duplicate() => Err(Error::ScheduleExists(schedule.name.clone())),
        done => Ok(done?),
    }
}

/// A time, as exact as it is stored.
fn stored(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// A change of a schedule, for the audit log.
fn entry(schedule: &Schedule, what: &str, by: &Actor) -> Entry {
    let mut entry = Entry::new(by.clone(), format!("schedule.{what}"), resource(schedule));
    entry.detail = json!({
        "cron": schedule.cron,
        "timezone": schedule.zone,
        "enabled": schedule.enabled,
        "owner": schedule.owner.urn,
        "nextRun": schedule.next_run,
    });
    entry
}

/// The fields that two states of a schedule differ in, by their names in the API.
fn differences(before: &Schedule, after: &Schedule) -> Vec<&'static str> {
    let all = [
        ("name", before.name != after.name),
        ("cron", before.cron != after.cron),
        ("timezone", before.zone != after.zone),
        ("catchUp", before.catch_up.as_str() != after.catch_up.as_str()),
        ("catchUpLimit", before.catch_up != after.catch_up),
        ("overlap", before.overlap != after.overlap),
        ("startDate", before.starts != after.starts),
        ("endDate", before.ends != after.ends),
        ("enabled", before.enabled != after.enabled),
        ("job", before.request != after.request),
        ("owner", before.owner != after.owner),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// What came of a time, for the audit log: the service did it, in the name of its owner.
fn run_entry(schedule: &Schedule, run: &ScheduleRun, decision: Decision, why: Option<&str>) -> Entry {
    let mut entry = Entry::new(actor(schedule), format!("schedule.{}", run.outcome.as_str()), resource(schedule));
    entry.decision = decision;
    entry.detail = json!({
        "time": run.nominal,
        "until": run.until,
        "job": run.outcome.job(),
        "owner": schedule.owner.urn,
        "reason": run.reason.as_deref().or(why),
        "nextRun": schedule.next_run,
    });
    entry
}

/// Who submits the jobs of a schedule, for the audit log.
fn actor(schedule: &Schedule) -> Actor {
    Actor {
        account: Some(schedule.owner.account.clone()),
        identity: format!("schedule/{}", schedule.id),
        source_ip: None,
        request_id: None,
    }
}

fn resource(schedule: &Schedule) -> String {
    format!("project/{}/schedule/{}", schedule.project, schedule.id)
}

/// Writes what came of a time, with its audit entry, and the schedule as it is then.
async fn write_run(
    jobs: &Inner,
    tx: &mut Tx,
    schedule: &Schedule,
    run: &ScheduleRun,
    decision: Decision,
    why: Option<&str>,
) -> Result<(), Error> {
    rows::insert_run(tx, schedule.id, run).await?;
    rows::cut_runs(tx, schedule.id, MOST_RUNS).await?;
    rows::update(tx, schedule).await?;
    jobs.parts.audit.record_in(tx, &run_entry(schedule, run, decision, why)).await?;
    Ok(())
}

/// Schedules that a project may have.
pub const MOST_SCHEDULES: u64 = 100;
/// How many times of a schedule are kept that something came of.
pub const MOST_RUNS: u32 = 1000;
/// As that of a submit's key.
const KEY_KEPT: SignedDuration = SignedDuration::from_hours(24);
