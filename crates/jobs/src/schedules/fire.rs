//! The times of schedules as they come. A time becomes a job, its place in the list of runs, the schedule's next time and the
//! audit entries in one transaction: whichever moment the process is killed at, it comes once.

use std::{sync::Arc, time::Duration};

use audit::Decision;
use db::{Tx, schedules as rows};
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use model::{After, AfterEnd, Effect, JobId, JobSpec, Overlap, RunOutcome, Schedule, ScheduleRun};
use tokio_util::sync::CancellationToken;

use super::{actor, cron::Cron, request, write_run};
use crate::{Error, Inner, Permission, record, submit, surroundings::Beside as _, watch};

/// Waits for the next time of all schedules and does what is due, until `stop`.
pub(crate) async fn run(jobs: &Arc<Inner>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let rest = match come_due(jobs, record::now()).await {
            Ok(()) => rest(jobs).await,
            // What failed was told where it did.
            Err(_) => RETRY,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = jobs.schedules_changed.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// How long until the next time; not for ever, since a clock may be set.
async fn rest(jobs: &Inner) -> Duration {
    match rows::next(&jobs.parts.db).await {
        Ok(Some(at)) => Duration::try_from(at.duration_since(record::now())).unwrap_or_default().min(LOOK_AGAIN),
        Ok(None) => LOOK_AGAIN,
        Err(_) => RETRY,
    }
}

/// Does all that is due at `now`. A schedule that fails keeps no other one waiting.
pub(crate) async fn come_due(jobs: &Inner, now: Timestamp) -> Result<(), Error> {
    let (mut behind, mut outcome) = (None, Ok(()));
    loop {
        let page = rows::due(&jobs.parts.db, now, behind, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        behind = page.last().and_then(|schedule| Some((schedule.next_run?, schedule.id)));
        // Side by side: one whose files are in a store elsewhere that does not answer must not keep the others from their time.
        let each = page.into_iter().map(|schedule| async move { (schedule.id, all_of(jobs, schedule, now).await) });
        let mut each = stream::iter(each).buffer_unordered(AT_ONCE);
        while let Some((id, done)) = each.next().await {
            if let Err(cause) = done {
                tracing::error!(schedule = %id, cause = %watch::chain(&cause), "a schedule cannot submit its job now");
                outcome = Err(cause);
            }
        }
        if is_last {
            return outcome;
        }
    }
}

/// Does what is due of one schedule, in the order of its times.
async fn all_of(jobs: &Inner, mut schedule: Schedule, now: Timestamp) -> Result<(), Error> {
    while let Some(nominal) = schedule.next_run.filter(|nominal| *nominal <= now) {
        let done = match request::cron(&schedule) {
            Err((_, why)) => stop(jobs, &schedule, nominal, &format!("its times cannot be told: {why}"), now).await?,
            Ok(cron) => match left_out(&schedule, &cron, nominal, now) {
                Some(missed) => write_missed(jobs, &schedule, nominal, missed, now).await?,
                None => come(jobs, &schedule, &cron, nominal, now).await?,
            },
        };
        match done {
            Some(next) => schedule = next,
            // It was changed in this moment: as it is now.
            None => match rows::find(&jobs.parts.db, schedule.id).await? {
                Some(now) => schedule = now,
                None => return Ok(()),
            },
        }
    }
    Ok(())
}

/// Times that are left out because they were missed.
struct Missed {
    /// The last of them.
    until: Timestamp,
    /// The first that comes after all.
    next: Option<Timestamp>,
}

/// Which times from `nominal` on are left out; `None` where it is to come.
fn left_out(schedule: &Schedule, cron: &Cron, nominal: Timestamp, now: Timestamp) -> Option<Missed> {
    let cutoff = now.checked_sub(GRACE).ok()?;
    if nominal >= cutoff {
        return None;
    }
    let end = schedule.ends.and_then(|ends| ends.checked_add(SignedDuration::from_micros(1)).ok());
    let before = end.map_or(cutoff, |end| end.min(cutoff));
    let kept = cron.newest_before(nominal, before, usize::try_from(schedule.catch_up.0).unwrap_or(usize::MAX));
    match kept.first() {
        Some(first) if *first == nominal => None,
        first => {
            let until = cron.newest_before(nominal, first.copied().unwrap_or(before), 1).pop().unwrap_or(nominal);
            let next = first.copied().or_else(|| request::next_run(schedule, cron, until));
            Some(Missed { until, next })
        }
    }
}

async fn write_missed(
    jobs: &Inner,
    schedule: &Schedule,
    nominal: Timestamp,
    missed: Missed,
    now: Timestamp,
) -> Result<Option<Schedule>, Error> {
    let mut tx = jobs.parts.db.begin().await?;
    if !is_unchanged(&mut tx, schedule).await? {
        return Ok(None);
    }
    let next = Schedule { next_run: missed.next, ..schedule.clone() };
    let minutes = GRACE.as_secs() / 60;
    let run = ScheduleRun {
        nominal,
        until: (missed.until > nominal).then_some(missed.until),
        at: now,
        outcome: RunOutcome::Missed,
        reason: Some(format!("no job could be submitted within {minutes} minutes, as while the service is down")),
    };
    write_run(jobs, &mut tx, &next, &run, Decision::None, None).await?;
    tx.commit().await?;
    Ok(Some(next))
}

/// What is to become of a time.
enum Verdict {
    /// This job; and why its owner may.
    Submit(Box<JobSpec>, String),
    /// Nothing; the next time is tried again.
    Refuse(String, Decision),
    /// Nothing, and no further time.
    Stop(String),
}

/// Lets a time come: asks, then writes what came of it. `None` where the schedule was changed meanwhile.
async fn come(
    jobs: &Inner,
    schedule: &Schedule,
    cron: &Cron,
    nominal: Timestamp,
    now: Timestamp,
) -> Result<Option<Schedule>, Error> {
    let verdict = tokio::time::timeout(ASK_PATIENCE, ask(jobs, schedule, now)).await;
    let late = |_| Error::Beside { doing: ASKING, source: "it was not answered in time".into() };
    let verdict = verdict.map_err(late)??;
    fail::fail_point!("schedule.asked");
    let (spec, why) = match verdict {
        Verdict::Submit(spec, why) => (spec, why),
        Verdict::Refuse(why, decision) => {
            return refuse(jobs, schedule, cron, nominal, (&why, decision), now).await;
        }
        Verdict::Stop(why) => return stop(jobs, schedule, nominal, &why, now).await,
    };
    let mut tx = jobs.parts.db.begin().await?;
    if !is_unchanged(&mut tx, schedule).await? {
        return Ok(None);
    }
    let mut next = Schedule { next_run: request::next_run(schedule, cron, nominal), ..schedule.clone() };
    let (outcome, reason, stopped) = match beside(jobs, &mut tx, schedule).await? {
        Beside::Skip(why) => (RunOutcome::Skipped, Some(why), Vec::new()),
        Beside::After(earlier, stopped) => {
            let after = earlier.map(|job| After { job, ended: AfterEnd::Ended });
            let job = submit::new_job(&schedule.project, JobSpec { after, ..*spec }, now);
            match record::submitted_in(jobs, &mut tx, &job, None, &actor(schedule)).await {
                Ok(_) => {}
                // As where too many jobs of the project wait for another one: nothing of this is written.
                Err(Error::Invalid(faults)) => {
                    drop(tx);
                    return refuse(jobs, schedule, cron, nominal, (&faults.to_string(), Decision::Allowed), now).await;
                }
                Err(cause) => return Err(cause),
            }
            next.refusals = 0;
            (RunOutcome::Submitted(job.id), None, stopped)
        }
    };
    let run = ScheduleRun { nominal, until: None, at: now, outcome, reason };
    write_run(jobs, &mut tx, &next, &run, Decision::Allowed, Some(&why)).await?;
    tx.commit().await?;
    if matches!(run.outcome, RunOutcome::Submitted(_)) {
        jobs.metrics.submitted();
    }
    fail::fail_point!("schedule.committed");
    for job in stopped {
        jobs.live.stop(job);
    }
    jobs.wake.notify_one();
    Ok(Some(next))
}

/// Whether the owner may still submit, and whether the job would be accepted.
async fn ask(jobs: &Inner, schedule: &Schedule, now: Timestamp) -> Result<Verdict, Error> {
    let parts = &jobs.parts;
    let cancels = schedule.overlap == Overlap::CancelRunning;
    let asked = parts.surroundings.may_submit(&schedule.owner, &schedule.project, cancels, now).await;
    let why = match asked.beside("asking whether a job may be submitted")? {
        Permission::Allowed(why) => why,
        Permission::Refused(why) => {
            let why = format!("its owner {} may not submit jobs: {why}", schedule.owner.urn);
            return Ok(Verdict::Refuse(why, Decision::Refused));
        }
        Permission::Gone => {
            return Ok(Verdict::Stop(format!(
                "its owner {} is not there any more, or is disabled",
                schedule.owner.urn
            )));
        }
    };
    let project = db::accounts::find_project(&parts.db, &schedule.project).await?;
    let Some(project) = project.filter(|project| project.authorized) else {
        return Ok(Verdict::Refuse(Error::NotAuthorized.to_string(), Decision::Allowed));
    };
    match submit::check(jobs, &project, &schedule.request, now).await {
        Ok(spec) => Ok(Verdict::Submit(Box::new(spec), why)),
        Err(Error::Invalid(faults)) => Ok(Verdict::Refuse(faults.to_string(), Decision::Allowed)),
        Err(cause) => Err(cause),
    }
}

/// What becomes of a time for the sake of earlier jobs.
enum Beside {
    /// It is left out, for this reason.
    Skip(String),
    /// Its job waits for the end of this one, if any; these were asked to stop.
    After(Option<JobId>, Vec<JobId>),
}

async fn beside(jobs: &Inner, tx: &mut Tx, schedule: &Schedule) -> Result<Beside, Error> {
    let open = rows::open_jobs(tx, schedule.id, MOST_OPEN).await?;
    let Some(newest) = open.first().copied() else { return Ok(Beside::After(None, Vec::new())) };
    match schedule.overlap {
        Overlap::Allow => Ok(Beside::After(None, Vec::new())),
        Overlap::Skip => Ok(Beside::Skip(format!("job {newest} of an earlier time has not ended"))),
        Overlap::Queue if open.len() >= MOST_OPEN as usize => {
            Ok(Beside::Skip(format!("{MOST_OPEN} jobs of earlier times have not ended")))
        }
        Overlap::Queue => Ok(Beside::After(Some(newest), Vec::new())),
        Overlap::CancelRunning => {
            let mut stopped = Vec::new();
            for job in open {
                let effects = record::stop_asked_in(jobs, tx, &schedule.project, job, &actor(schedule)).await?;
                if effects.iter().any(|effect| matches!(effect, Effect::Stop(_))) {
                    stopped.push(job);
                }
            }
            // What waited has ended by that; what runs takes a while.
            let open = rows::open_jobs(tx, schedule.id, 1).await?;
            Ok(Beside::After(open.first().copied(), stopped))
        }
    }
}

/// Writes that a time was refused. Its owner is told of the first in a row.
async fn refuse(
    jobs: &Inner,
    schedule: &Schedule,
    cron: &Cron,
    nominal: Timestamp,
    (why, decision): (&str, Decision),
    now: Timestamp,
) -> Result<Option<Schedule>, Error> {
    let next = Schedule {
        next_run: request::next_run(schedule, cron, nominal),
        refusals: schedule.refusals.saturating_add(1),
        ..schedule.clone()
    };
    let goes_on = match next.next_run {
        Some(_) => "It is tried again at each of its times. You are told once, until a job is accepted again.",
        None => "That was its last time.",
    };
    let told = (next.refusals == 1).then_some(goes_on);
    write_refusal(jobs, schedule, &next, nominal, (why, decision), told, now).await
}

/// Writes that a time was refused, and that no further one comes before somebody enables the schedule.
async fn stop(
    jobs: &Inner,
    schedule: &Schedule,
    nominal: Timestamp,
    why: &str,
    now: Timestamp,
) -> Result<Option<Schedule>, Error> {
    let next = Schedule { next_run: None, stopped: Some(cut(why)), ..schedule.clone() };
    let told = "It is stopped. Whoever enables it again is its owner from then on.";
    write_refusal(jobs, schedule, &next, nominal, (why, Decision::Refused), Some(told), now).await
}

async fn write_refusal(
    jobs: &Inner,
    schedule: &Schedule,
    next: &Schedule,
    nominal: Timestamp,
    (why, decision): (&str, Decision),
    told: Option<&str>,
    now: Timestamp,
) -> Result<Option<Schedule>, Error> {
    let mut tx = jobs.parts.db.begin().await?;
    if !is_unchanged(&mut tx, schedule).await? {
        return Ok(None);
    }
    let run = ScheduleRun { nominal, until: None, at: now, outcome: RunOutcome::Refused, reason: Some(cut(why)) };
    write_run(jobs, &mut tx, next, &run, decision, None).await?;
    if let Some(told) = told {
        let subject = format!("Schedule {}: no job was submitted", schedule.name);
        let body = format!(
            "The schedule {} ({}) of project {} submitted no job for {nominal}.\n\nReason: {}\n\n{told}\n",
            schedule.name,
            schedule.id,
            schedule.project,
            cut(why)
        );
        let account = &schedule.owner.account;
        jobs.parts
            .surroundings
            .tell(&mut tx, account, &subject, &body)
            .await
            .beside("telling the owner of a schedule")?;
    }
    tx.commit().await?;
    Ok(Some(next.clone()))
}

/// Whether a schedule is what it was when it was read.
async fn is_unchanged(tx: &mut Tx, schedule: &Schedule) -> Result<bool, Error> {
    Ok(rows::find_in(tx, schedule.id).await?.as_ref() == Some(schedule))
}

fn cut(reason: &str) -> String {
    reason.chars().take(LONGEST_REASON).collect()
}

/// A time that is late by more was missed.
const GRACE: SignedDuration = SignedDuration::from_mins(5);
/// Jobs of one schedule that have not ended, where each waits for the one before.
const MOST_OPEN: u32 = 100;
const PAGE: u32 = 100;
const AT_ONCE: usize = 16;
const ASKING: &str = "asking for rights and files of a schedule";
const ASK_PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const LONGEST_REASON: usize = 1000;
