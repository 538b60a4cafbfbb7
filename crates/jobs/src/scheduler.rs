//! Which job starts next: the oldest of a project, projects in turn, what fits. Woken by changes; never polls.

use std::{collections::HashMap, sync::Arc, time::Duration};

use db::jobs::{Taken, Waiting};
use model::{Cores, JobId, MiB, ProjectId, SandboxId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Error, Inner, record, watch};

/// Schedules and owns the tasks that watch over attempts, until `stop`.
pub(crate) async fn run(jobs: &Arc<Inner>, stop: &CancellationToken) {
    let limits = Limits::of(jobs);
    let mut turns = Turns::default();
    let mut watches = JoinSet::new();
    let mut resumed = false;
    while !stop.is_cancelled() {
        if !resumed {
            resumed = resume(jobs, &mut watches, stop).await;
        }
        let outcome = match resumed {
            true => fill(jobs, &limits, &mut turns, &mut watches, stop).await,
            false => Err(RETRY),
        };
        // What was left undone by a failure of the database is tried again without being woken.
        let again = async {
            match outcome {
                Ok(()) => std::future::pending().await,
                Err(after) => tokio::time::sleep(after).await,
            }
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
    limits: &Limits,
    turns: &mut Turns,
    watches: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), Duration> {
    while !stop.is_cancelled() {
        match start_one(jobs, limits, turns).await {
            Ok(Step::Nothing) => return Ok(()),
            Ok(Step::Changed) => {}
            Ok(Step::Begun(id)) => begin(jobs, id, watches, stop),
            Err(cause) => {
                tracing::error!(cause = %watch::chain(&cause), "no job can be started now");
                return Err(RETRY);
            }
        }
    }
    Ok(())
}

enum Step {
    Nothing,
    Changed,
    Begun(SandboxId),
}

async fn start_one(jobs: &Inner, limits: &Limits, turns: &mut Turns) -> Result<Step, Error> {
    let taken = db::jobs::taken(&jobs.parts.db).await?;
    if taken.attempts >= limits.attempts {
        return Ok(Step::Nothing);
    }
    let heads = db::jobs::heads(&jobs.parts.db).await?;
    match turns.choose(&heads, &taken, limits) {
        Choice::Wait => Ok(Step::Nothing),
        Choice::Refuse(job) => {
            let why = format!(
                "it asks for {} cores and {} of memory, and this service offers {} cores and {}",
                job.cores, job.memory, limits.cores, limits.memory
            );
            record::refused(jobs, job.id, why).await?;
            Ok(Step::Changed)
        }
        Choice::Start(job) => match record::attempt_made(jobs, job.id, &job.project).await {
            Ok(Some(id)) => {
                fail::fail_point!("job.attempt.committed");
                Ok(Step::Begun(id))
            }
            // It was cancelled in this moment.
            Ok(None) => Ok(Step::Changed),
            // A project without its key must not keep the others waiting. What may pass, such as a file that could
            // not be opened, is tried again.
            Err(Error::Keys(cause @ (keys::Error::Missing { .. } | keys::Error::Sealed { .. }))) => {
                tracing::error!(job = %job.id, cause = %watch::chain(&cause), "a job cannot have a log");
                record::refused(jobs, job.id, "the key of its project is not there".to_owned()).await?;
                Ok(Step::Changed)
            }
            Err(cause) => Err(cause),
        },
    }
}

/// What all attempts that stand may take together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    attempts: u32,
    cores: Cores,
    memory: MiB,
}

impl Limits {
    fn of(jobs: &Inner) -> Limits {
        let config = &jobs.parts.config;
        Limits { attempts: config.max_running, cores: config.cores, memory: config.memory }
    }

    /// Whether a job fits beside what is taken.
    fn fits(&self, job: &Waiting, taken: &Taken) -> bool {
        taken.attempts < self.attempts
            && taken.cores + job.cores <= self.cores
            && taken.memory + job.memory <= self.memory
    }
}

/// What the scheduler does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// Nothing until something changes.
    Wait,
    /// Starts this job.
    Start(&'a Waiting),
    /// Ends this job: it does not even fit alone.
    Refuse(&'a Waiting),
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// The project that was served last.
    last: Option<ProjectId>,
    /// How often a job was passed over because it did not fit.
    passed_over: HashMap<JobId, u32>,
}

impl Turns {
    /// Chooses among the oldest waiting jobs of the projects, which come sorted by project. The next project in turn
    /// whose job fits is served. A job that was passed over too often is waited for: a large job must not wait for
    /// ever while small ones slip by.
    pub(crate) fn choose<'a>(&mut self, heads: &'a [Waiting], taken: &Taken, limits: &Limits) -> Choice<'a> {
        self.passed_over.retain(|id, _| heads.iter().any(|job| job.id == *id));
        if let Some(job) = heads.iter().find(|job| !limits.fits(job, &Taken::default()) && limits.attempts > 0) {
            return Choice::Refuse(job);
        }
        let first = match &self.last {
            Some(last) => heads.partition_point(|job| job.project <= *last),
            None => 0,
        };
        let in_turn = || heads[first..].iter().chain(&heads[..first]);
        let waited_for = in_turn().find(|job| self.passed_over.get(&job.id).is_some_and(|times| *times >= PATIENCE));
        let chosen = match waited_for {
            Some(job) => Some(job).filter(|job| limits.fits(job, taken)),
            None => in_turn().find(|job| limits.fits(job, taken)),
        };
        let Some(chosen) = chosen else { return Choice::Wait };
        for job in in_turn().take_while(|job| job.id != chosen.id) {
            *self.passed_over.entry(job.id).or_default() += 1;
        }
        self.last = Some(chosen.project.clone());
        Choice::Start(chosen)
    }
}

/// How often a job that does not fit is passed over.
const PATIENCE: u32 = 16;
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LIMITS: Limits = Limits { attempts: 4, cores: Cores(8), memory: MiB(8192) };

    fn waiting(number: u128, project: &str, cores: u32) -> Waiting {
        Waiting {
            id: JobId(Uuid::from_u128(number)),
            project: project.repeat(32).parse().expect("project"),
            cores: Cores(cores),
            memory: MiB(1024),
        }
    }

    /// The heads of queues, as the database gives them.
    fn heads(queues: &[Vec<Waiting>]) -> Vec<Waiting> {
        let mut found: Vec<Waiting> = queues.iter().filter_map(|queue| queue.first().cloned()).collect();
        found.sort_by(|one, other| one.project.cmp(&other.project));
        found
    }

    /// Serves from queues while room is endless; which projects in which order.
    fn serve(mut queues: Vec<Vec<Waiting>>) -> String {
        let mut turns = Turns::default();
        let mut order = String::new();
        while let Choice::Start(job) = turns.choose(&heads(&queues), &Taken::default(), &LIMITS) {
            order.push_str(&job.project.as_str()[..1]);
            let id = job.id;
            for queue in &mut queues {
                queue.retain(|job| job.id != id);
            }
        }
        order
    }

    #[test]
    fn projects_take_turns_however_much_one_has_submitted() {
        let many = (0..5).map(|number| waiting(number, "a", 1)).collect();
        let few = vec![waiting(10, "b", 1), waiting(11, "b", 1)];
        let one = vec![waiting(20, "c", 1)];
        assert_eq!(serve(vec![many, few, one]), "abcabaaa");
    }

    #[test]
    fn nothing_starts_beyond_the_limits() {
        let one = [waiting(1, "a", 3)];
        let choose = |attempts, cores, memory| {
            let taken = Taken { attempts, cores: Cores(cores), memory: MiB(memory) };
            matches!(Turns::default().choose(&one, &taken, &LIMITS), Choice::Start(_))
        };
        assert!(choose(3, 5, 7168));
        assert!(!choose(4, 0, 0));
        assert!(!choose(3, 6, 0));
        assert!(!choose(3, 0, 7169));
        assert!(!choose(u32::MAX, u32::MAX, u64::MAX));
    }

    #[test]
    fn what_does_not_fit_lets_others_pass_but_not_for_ever() {
        let large = waiting(1, "a", 8);
        let mut turns = Turns::default();
        let taken = Taken { attempts: 1, cores: Cores(2), memory: MiB(1024) };
        for number in 0..PATIENCE {
            let heads = [large.clone(), waiting(100 + u128::from(number), "b", 1)];
            assert_eq!(turns.choose(&heads, &taken, &LIMITS), Choice::Start(&heads[1]));
        }
        let heads = [large, waiting(999, "b", 1)];
        assert_eq!(turns.choose(&heads, &taken, &LIMITS), Choice::Wait, "room is kept for it");
        assert_eq!(turns.choose(&heads, &Taken::default(), &LIMITS), Choice::Start(&heads[0]));
    }

    #[test]
    fn what_can_never_fit_is_refused_and_keeps_nobody_waiting() {
        let heads = [waiting(1, "a", 9), waiting(2, "b", 1)];
        let mut turns = Turns::default();
        assert_eq!(turns.choose(&heads, &Taken::default(), &LIMITS), Choice::Refuse(&heads[0]));
        assert_eq!(turns.choose(&heads[1..], &Taken::default(), &LIMITS), Choice::Start(&heads[1]));
        assert_eq!(turns.choose(&[], &Taken::default(), &LIMITS), Choice::Wait);
    }
}
