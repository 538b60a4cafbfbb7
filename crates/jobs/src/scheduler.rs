//! Starts jobs as [`Turns`] chooses them, and owns the tasks that watch over their attempts. Woken by changes, and by time
//! where only time can bring a change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use model::{EndReason, LONGEST_WAIT, ProjectId, Quota, SandboxId, Usage};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Inner, record,
    turns::{self, Choice, Turns},
    versions, waiting, watch,
};

/// Schedules and owns the tasks that watch over attempts, until `stop`.
pub(crate) async fn run(jobs: &Arc<Inner>, stop: &CancellationToken) {
    let room = jobs.parts.config.room();
    let mut turns = Turns::default();
    let mut watches = JoinSet::new();
    let mut resumed = false;
    while !stop.is_cancelled() {
        if !resumed {
            resumed = resume(jobs, &mut watches, stop).await;
        }
        let outcome = match resumed {
            true => fill(jobs, &room, &mut turns, &mut watches, stop).await,
            false => Err(RETRY),
        };
        // What was left undone by a failure of the database is tried again without being woken, as are pauses that end.
        let again = async {
            tokio::time::sleep(match outcome {
                Ok(()) => rest(jobs).await,
                Err(after) => after,
            })
            .await;
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = jobs.wake.notified() => {}
            () = again => {}
            Some(ended) = watches.join_next() => if let Err(cause) = ended && cause.is_panic() {
                tracing::error!(%cause, "the watch over an attempt failed; it is taken up again");
                resumed = false;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    while watches.join_next().await.is_some() {}
}

/// Takes up every attempt that stands and is not watched.
async fn resume(jobs: &Arc<Inner>, watches: &mut JoinSet<()>, stop: &CancellationToken) -> bool {
    match db::jobs::standing(&jobs.parts.db).await {
        Ok(standing) => {
            for id in standing {
                begin(jobs, id, watches, stop);
            }
            true
        }
        Err(cause) => {
            tracing::error!(cause = %watch::chain(&cause), "attempts cannot be read");
            false
        }
    }
}

fn begin(jobs: &Arc<Inner>, id: SandboxId, watches: &mut JoinSet<()>, stop: &CancellationToken) {
    if let Some(seat) = jobs.live.enter(id) {
        watches.spawn(watch::watch(Arc::clone(jobs), seat, stop.clone()));
    }
}

/// Starts what fits; the error is when to try again.
async fn fill(
    jobs: &Arc<Inner>,
    room: &Quota,
    turns: &mut Turns,
    watches: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), Duration> {
    if let Err(cause) = versions::end_withdrawn(jobs).await {
        tracing::error!(cause = %watch::chain(&cause), "jobs whose engine was withdrawn are not ended");
        return Err(RETRY);
    }
    while !stop.is_cancelled() {
        match start_one(jobs, room, turns).await {
            Ok(Step::Nothing) => break,
            Ok(Step::Changed) => {}
            Ok(Step::Begun(id)) => begin(jobs, id, watches, stop),
            Err(cause) => {
                tracing::error!(cause = %watch::chain(&cause), "no job can be started now");
                return Err(RETRY);
            }
        }
    }
    // What could start now has, however long it waited.
    if let Err(cause) = give_up(jobs).await {
        tracing::error!(cause = %watch::chain(&cause), "jobs that waited too long are not ended");
        return Err(RETRY);
    }
    Ok(())
}

enum Step {
    Nothing,
    Changed,
    Begun(SandboxId),
}

async fn start_one(jobs: &Inner, room: &Quota, turns: &mut Turns) -> Result<Step, Error> {
    let begun = Instant::now();
    let used = db::jobs::used(&jobs.parts.db).await?;
    let total = used.values().fold(Usage::default(), |sum, one| sum + *one);
    if room.jobs.is_some_and(|most| total.jobs >= most) {
        return Ok(Step::Nothing);
    }
    let mut heads = db::jobs::heads(&jobs.parts.db, record::now()).await?;
    heads.retain(|head| !jobs.aside.holds(&head.project));
    let choice = turns.choose(&heads, &used, room, begun);
    jobs.metrics.chosen(begun.elapsed());
    match choice {
        Choice::Wait => Ok(Step::Nothing),
        Choice::Refuse(job) => {
            let short: Vec<String> = turns::never_fits(&job.asked, &Quota::default(), room)
                .iter()
                .map(|short| {
                    format!(
                        "it asks for {}, and may have at most {}",
                        short.named(&short.asked),
                        short.named(&short.limit)
                    )
                })
                .collect();
            // It was smaller than the machine when it was accepted.
            record::refused(jobs, job.id, EndReason::NotStarted { detail: short.join("; ") }).await?;
            Ok(Step::Changed)
        }
        Choice::Start(job) => match make_attempt(jobs, job, &total, room).await {
            Ok(Some(id)) => {
                jobs.metrics.attempt_started();
                fail::fail_point!("job.attempt.committed");
                Ok(Step::Begun(id))
            }
            // It was cancelled in this moment.
            Ok(None) => Ok(Step::Changed),
            Err(Error::Keys(cause @ keys::Error::Missing { .. })) => {
                tracing::error!(job = %job.id, cause = %watch::chain(&cause), "a job cannot have a log");
                let detail = "the key of its project is not there".to_owned();
                record::refused(jobs, job.id, EndReason::NotStarted { detail }).await?;
                Ok(Step::Changed)
            }
            // That passes, or the operator puts the right key there: the job waits for it, and the others do not.
            Err(Error::Keys(cause)) => {
                tracing::error!(project = %job.project, cause = %watch::chain(&cause), "the jobs of a project wait for its key");
                jobs.aside.put(&job.project);
                Ok(Step::Changed)
            }
            Err(cause) => Err(cause),
        },
    }
}

/// Makes the next attempt of a job. What only waits for jobs makes room for it, unless the attempt takes that.
async fn make_attempt(
    jobs: &Inner,
    job: &db::jobs::Waiting,
    used: &Usage,
    room: &Quota,
) -> Result<Option<SandboxId>, Error> {
    let begun = record::attempt_made(jobs, job.id, &job.project).await?;
    if begun.is_some() {
        jobs.warm.job_begins();
        if let Err(cause) = jobs.warm.make_room(jobs, used, &job.asked, room).await {
            // The attempt stands. What did not go yet goes later.
            tracing::warn!(cause = %watch::chain(&cause), "a runtime that waits still stands");
        }
    }
    Ok(begun)
}

/// Projects whose key could not be opened a moment ago: none of their jobs starts until that is tried again.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    until: Mutex<HashMap<ProjectId, Instant>>,
}

impl Aside {
    /// Whether the project's jobs are held back now.
    pub(crate) fn holds(&self, project: &ProjectId) -> bool {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, until| *until > Instant::now());
        until.contains_key(project)
    }

    /// Its key could not be opened in this moment.
    pub(crate) fn put(&self, project: &ProjectId) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.insert(project.clone(), Instant::now() + LOOK_AGAIN);
    }
}

/// Ends what waited longer than a job may.
async fn give_up(jobs: &Inner) -> Result<(), Error> {
    let Ok(before) = record::now().checked_sub(LONGEST_WAIT) else { return Ok(()) };
    for id in db::jobs::waiting_since(&jobs.parts.db, before, BATCH).await? {
        if let Some(job) = db::jobs::find(&jobs.parts.db, id).await? {
            record::refused(jobs, id, waiting::too_long(jobs, &job).await?).await?;
        }
    }
    Ok(())
}

/// How long until something may start without anything being told: a pause before a retry ends, or a quota was changed
/// by an operator's command, which is another process.
async fn rest(jobs: &Inner) -> Duration {
    let now = record::now();
    match db::jobs::next_not_before(&jobs.parts.db, now).await {
        Ok(Some(at)) => Duration::try_from(at.duration_since(now)).unwrap_or(RETRY).clamp(SHORTEST_REST, LOOK_AGAIN),
        _ => LOOK_AGAIN,
    }
}

const RETRY: Duration = Duration::from_secs(1);
const SHORTEST_REST: Duration = Duration::from_millis(10);
/// How soon a changed quota and a withdrawn engine are seen.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const BATCH: u32 = 100;
