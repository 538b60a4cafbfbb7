//! Runtimes that are started before their job is there: a sandbox with its containers and JVMs, in the shapes that the
//! operator named. Each is for one attempt. Until it is taken nothing of a project is in it, it is nobody's quota and on
//! nobody's bill, and it goes where a job needs its room. What is taken is bound to the attempt in the transaction that makes
//! the attempt; a sandbox that no attempt stands for is destroyed by the next process as any orphan is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use db::jobs::Waiting;
use engine::Installed;
use model::{AttemptNo, EngineVersion, JobId, JobSpec, Placement, ProjectId, Quota, Region, SandboxId, Sizing, Usage};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error, Inner,
    control::{Client, Wait},
    record,
    scheduler::Aside,
    versions, watch,
};

/// What a runtime is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its engine.
    pub version: EngineVersion,
    /// Where its parts run.
    pub placement: Placement,
    /// How large they are.
    pub sizing: Sizing,
    /// The region that its requests to the object store are signed for.
    pub region: Region,
}

impl Shape {
    /// What a job needs.
    pub fn of(spec: &JobSpec) -> Shape {
        let JobSpec { version, placement, sizing, region, .. } = spec;
        Shape { version: version.clone(), placement: *placement, sizing: *sizing, region: region.clone() }
    }

    /// What it takes of the machine: it is no job yet.
    fn usage(&self) -> Usage {
        Usage { jobs: 0, ..Usage::of(&self.sizing) }
    }
}

/// How many runtimes of a shape are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Their shape.
    pub shape: Shape,
    /// How many.
    pub count: u32,
}

/// The runtimes that wait.
#[derive(Debug, Default)]
pub(crate) struct Warm {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Idle>,
    making: Option<Making>,
    /// Sandboxes that are to be destroyed: their time is over, or they were taken for an attempt that was not made.
    spent: Vec<SandboxId>,
    /// When the last job was started: the next ones have the machine for a while.
    begun: Option<Instant>,
}

#[derive(Debug)]
struct Idle {
    id: SandboxId,
    shape: Shape,
    since: Instant,
}

#[derive(Debug)]
struct Making {
    id: SandboxId,
    shape: Shape,
    give_way: CancellationToken,
}

/// A runtime that was taken for an attempt. Dropped without [`Taken::keep`], it is destroyed: it is never idle again.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    warm: &'a Warm,
    id: Option<SandboxId>,
}

impl Taken<'_> {
    /// Its sandbox.
    pub(crate) fn id(&self) -> Option<SandboxId> {
        self.id
    }

    /// The attempt that it was taken for stands.
    pub(crate) fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.warm.lock().spent.push(id);
            self.warm.changed.notify_one();
        }
    }
}

impl Warm {
    /// Takes the runtime of a shape that has waited longest; one of none where there is no such.
    pub(crate) fn take(&self, shape: &Shape) -> Taken<'_> {
        let mut state = self.lock();
        let found = state.idle.iter().position(|idle| idle.shape == *shape);
        let id = found.map(|index| state.idle.remove(index).id);
        Taken { warm: self, id }
    }

    /// A job is being started.
    pub(crate) fn job_begins(&self) {
        self.lock().begun = Some(Instant::now());
        self.changed.notify_one();
    }

    /// Destroys runtimes until `asked` fits into the room beside `used` and those that are left.
    pub(crate) async fn make_room(&self, jobs: &Inner, used: &Usage, asked: &Usage, room: &Quota) -> Result<(), Error> {
        loop {
            let id = {
                let mut state = self.lock();
                if room.allows(&(*used + state.usage()), asked) {
                    return Ok(());
                }
                match state.idle.pop() {
                    Some(idle) => idle.id,
                    None => {
                        // What is half made goes by itself, a moment later.
                        if let Some(making) = &state.making {
                            making.give_way.cancel();
                        }
                        return Ok(());
                    }
                }
            };
            self.lock().spent.push(id);
            self.destroy(jobs, id).await?;
        }
    }

    /// Destroys what is spent, with its spool: no line of any job is in that. Where an attempt stands for it after all, its
    /// transaction came through and only the answer was lost: then it is that attempt's.
    async fn destroy(&self, jobs: &Inner, id: SandboxId) -> Result<(), Error> {
        if db::jobs::stands(&jobs.parts.db, id).await? {
            self.lock().spent.retain(|other| *other != id);
            return Ok(());
        }
        jobs.parts.warden.destroy_sandbox(id).await?;
        jobs.parts.warden.remove_spool(id).await?;
        self.lock().spent.retain(|other| *other != id);
        tracing::info!(sandbox = %id, "a runtime that waited is destroyed");
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What those that wait, and the one that is being made, take.
    fn usage(&self) -> Usage {
        let shapes = self.idle.iter().map(|idle| &idle.shape).chain(self.making.iter().map(|making| &making.shape));
        shapes.fold(Usage::default(), |sum, shape| sum + shape.usage())
    }

    fn count(&self, shape: &Shape) -> usize {
        self.idle.iter().filter(|idle| idle.shape == *shape).count()
    }
}

/// Keeps as many as the configuration asks for and the machine has room for, until `stop`; then none is left.
pub(crate) async fn keep(jobs: &Inner, stop: &CancellationToken) {
    if jobs.parts.config.warm.is_empty() {
        return;
    }
    for kept in &jobs.parts.config.warm {
        let version = &kept.shape.version;
        if !jobs.parts.engines.find(version).is_some_and(|engine| engine.can_wait()) {
            tracing::warn!(%version, "no runtime can wait on this engine: `casemate engine install` makes what it lacks");
        }
    }
    let mut retry = SHORTEST_RETRY;
    while !stop.is_cancelled() {
        let outcome = tokio::select! {
            () = stop.cancelled() => break,
            outcome = tend(jobs) => outcome,
        };
        let pause = match outcome {
            Ok(()) => {
                retry = SHORTEST_RETRY;
                LOOK_AGAIN
            }
            Err(cause) => {
                tracing::warn!(cause = %watch::chain(&cause), "no runtime can be kept waiting now");
                let pause = retry;
                retry = (retry * 2).min(LONGEST_RETRY);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = jobs.warm.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    let left: Vec<SandboxId> = {
        let mut state = jobs.warm.lock();
        let mut left = std::mem::take(&mut state.spent);
        left.extend(state.idle.drain(..).map(|idle| idle.id));
        left.extend(state.making.take().map(|making| making.id));
        left
    };
    for id in left {
        if let Err(cause) = jobs.warm.destroy(jobs, id).await {
            // The next process finds it and destroys it.
            tracing::warn!(sandbox = %id, cause = %watch::chain(&cause), "a runtime that waited still stands");
        }
    }
}

/// Destroys what is spent, then makes what lacks, one after the other.
async fn tend(jobs: &Inner) -> Result<(), Error> {
    loop {
        let standing: HashMap<SandboxId, bool> =
            jobs.parts.warden.list_sandboxes().await?.into_iter().map(|found| (found.id, found.shim_alive)).collect();
        let offer = versions::offer(jobs, record::now()).await?;
        let offered: Vec<EngineVersion> =
            offer.engines.into_iter().filter(Installed::can_wait).map(|engine| engine.version).collect();
        let spent = {
            let mut state = jobs.warm.lock();
            let fresh = |idle: &Idle| {
                idle.since.elapsed() < LONGEST_IDLE
                    && standing.get(&idle.id).copied().unwrap_or(false)
                    && offered.contains(&idle.shape.version)
            };
            let (idle, old) = std::mem::take(&mut state.idle).into_iter().partition(fresh);
            state.idle = idle;
            state.spent.extend(old.into_iter().map(|idle: Idle| idle.id));
            state.spent.clone()
        };
        for id in spent {
            jobs.warm.destroy(jobs, id).await?;
        }
        let Some(making) = next(jobs, &offered).await? else { return Ok(()) };
        make(jobs, making).await?;
    }
}

/// What to make next, if the machine has room and rest for it.
async fn next(jobs: &Inner, offered: &[EngineVersion]) -> Result<Option<Making>, Error> {
    let parts = &jobs.parts;
    let by_project = db::jobs::used(&parts.db).await?;
    let used = by_project.values().fold(Usage::default(), |sum, one| sum + *one);
    let heads = db::jobs::heads(&parts.db, record::now()).await?;
    let waits = is_waited_for(&heads, &by_project, &jobs.aside);
    let mut state = jobs.warm.lock();
    if waits || state.begun.is_some_and(|at| at.elapsed() < QUIET) {
        return Ok(None);
    }
    let lacks = |kept: &&Kept| {
        state.count(&kept.shape) < kept.count as usize
            && offered.contains(&kept.shape.version)
            && parts.config.room().allows(&(used + state.usage()), &kept.shape.usage())
    };
    let Some(shape) = parts.config.warm.iter().find(lacks).map(|kept| kept.shape.clone()) else { return Ok(None) };
    let id = SandboxId { job: JobId(Uuid::now_v7()), attempt: AttemptNo(1) };
    let making = || Making { id, shape: shape.clone(), give_way: CancellationToken::new() };
    let made = making();
    state.making = Some(Making { give_way: made.give_way.clone(), ..making() });
    Ok(Some(made))
}

/// Whether a job waits for the machine: one that its own project's quota or key holds back does not.
fn is_waited_for(heads: &[Waiting], used: &BTreeMap<ProjectId, Usage>, aside: &Aside) -> bool {
    heads.iter().any(|job| {
        let ours = used.get(&job.project).copied().unwrap_or_default();
        !aside.holds(&job.project) && job.quota.allows(&ours, &job.asked)
    })
}

async fn make(jobs: &Inner, making: Making) -> Result<(), Error> {
    let Making { id, shape, give_way } = making;
    let outcome = tokio::select! {
        () = give_way.cancelled() => Ok(false),
        outcome = build(jobs, id, &shape) => outcome.map(|()| true),
    };
    {
        let mut state = jobs.warm.lock();
        state.making = None;
        match outcome {
            Ok(true) => state.idle.push(Idle { id, shape: shape.clone(), since: Instant::now() }),
            Ok(false) | Err(_) => state.spent.push(id),
        }
    }
    if outcome? {
        tracing::info!(sandbox = %id, version = %shape.version, placement = shape.placement.as_str(), "a runtime waits for a job");
        return Ok(());
    }
    jobs.warm.destroy(jobs, id).await
}

async fn build(jobs: &Inner, id: SandboxId, shape: &Shape) -> Result<(), Error> {
    let parts = &jobs.parts;
    let Some(engine) = parts.engines.find(&shape.version) else { return Err(Error::NotFound) };
    let spec = warden::SandboxSpec { id, engine: shape.version.clone(), sizing: shape.sizing };
    // Its object gate stays closed: nobody accepts on that listener before an attempt has the sandbox.
    let handle = parts.warden.create_sandbox(&spec).await?;
    fail::fail_point!("warm.sandbox.created");
    let client = Client::connect(&handle.control).await?;
    let Shape { placement, sizing, region, .. } = shape.clone();
    client.wait(&Wait { engine, placement, sizing, region }).await?;
    fail::fail_point!("warm.waits");
    Ok(())
}

/// How long one waits at the most: what it holds in memory is as old as that.
const LONGEST_IDLE: Duration = Duration::from_secs(3600);
/// A job that was just started has the machine for so long.
const QUIET: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use model::{Cores, MiB, NodeSize};

    use super::*;

    fn shape(cores: u32) -> Shape {
        let node = NodeSize { cores: Cores(cores), memory: MiB(1024), overhead: MiB(384) };
        let sizing = Sizing { driver: node, executor: node, executors: 1 };
        let (version, region) = ("3.5.9".parse().expect("a version"), "GRA".parse().expect("a region"));
        Shape { version, placement: Placement::Cluster, sizing, region }
    }

    fn idle(warm: &Warm, number: u128, cores: u32) -> SandboxId {
        let id = SandboxId { job: JobId(Uuid::from_u128(number)), attempt: AttemptNo(1) };
        warm.lock().idle.push(Idle { id, shape: shape(cores), since: Instant::now() });
        id
    }

    #[test]
    fn a_job_whose_own_project_holds_it_back_keeps_nobody_from_a_runtime_that_waits() {
        let project = |digit: &str| digit.repeat(32).parse::<ProjectId>().expect("a project");
        let waiting = |digit: &str, quota| {
            let (id, asked) = (JobId(Uuid::from_u128(1)), shape(1).usage());
            Waiting { id, project: project(digit), asked, quota }
        };
        let one = Quota { cores: Some(Cores(2)), ..Quota::default() };
        let used = BTreeMap::from([(project("b"), shape(1).usage())]);
        let heads = [waiting("a", Quota::default()), waiting("b", one)];
        let aside = Aside::default();
        assert!(is_waited_for(&heads, &used, &aside));
        assert!(!is_waited_for(&heads[1..], &used, &aside), "its quota");
        aside.put(&project("a"));
        assert!(!is_waited_for(&heads, &used, &aside), "its key");
    }

    #[tokio::test]
    async fn one_is_taken_once_by_its_shape_and_oldest_first() {
        let warm = Warm::default();
        let (first, second, other) = (idle(&warm, 1, 1), idle(&warm, 2, 1), idle(&warm, 3, 2));
        assert_eq!(warm.lock().usage().cores, Cores(8));
        assert_eq!(warm.lock().usage().jobs, 0, "it is no job");
        for expected in [Some(first), Some(second), None] {
            let taken = warm.take(&shape(1));
            assert_eq!(taken.id(), expected);
            taken.keep();
        }
        let single = Shape { placement: Placement::Single, ..shape(2) };
        assert_eq!(warm.take(&single).id(), None, "another placement");
        let newer = Shape { version: "4.3.0".parse().expect("a version"), ..shape(2) };
        assert_eq!(warm.take(&newer).id(), None, "another engine");
        let elsewhere = Shape { region: "SBG".parse().expect("a region"), ..shape(2) };
        assert_eq!(warm.take(&elsewhere).id(), None, "another region");
        assert_eq!(warm.lock().count(&shape(2)), 1);
        assert!(warm.lock().spent.is_empty());
        drop(warm.take(&shape(2)));
        assert_eq!(warm.lock().spent, [other], "taken for nothing, it is destroyed and not idle again");
        assert_eq!(warm.take(&shape(2)).id(), None);
    }
}
