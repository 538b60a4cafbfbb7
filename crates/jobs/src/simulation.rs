//! The state machine and the scheduler under a seeded random schedule: submits, cancels, crashes of `serve`, of shims and
//! of the machine, messages that are lost, doubled and late, a clock that jumps, quotas that change. The machine and the
//! scheduler are the real ones; around them is a world small enough to see all of, and in some worlds are jobs that never
//! end. Variants that are broken on purpose show that the invariants would see it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use db::jobs::Waiting;
use model::{
    AttemptNo, Cores, Effect, EndReason, JobId, JobStatus, Life, LifeEvent, MiB, ProjectId, Quota, Retry, RetryCause,
    SandboxId, Usage,
};
use uuid::Uuid;

use crate::turns::{Choice, Turns};

/// A defect that a simulation is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    /// An event of any attempt counts for the newest one.
    NoFencing,
    /// An attempt whose user code was started is made again as if it never was.
    VoidsWhatRan,
    /// The scheduler does not look at quotas.
    ForgetsQuotas,
    /// The number of retries is not kept.
    RetriesForEver,
    /// A job whose attempt was given up does not come back to its queue.
    LosesVoided,
    /// The scheduler begins with the first project each time.
    NoTurns,
    /// The wish to stop is forgotten once the program has ended well.
    ForgetsStop,
    /// The room of an attempt is free before it was removed.
    FreesRoomEarly,
    /// An attempt gives the retries back however short it ran.
    ForgivesAll,
    /// Room is kept for a large job for as long as that takes.
    KeepsForEver,
}

const DEFECTS: [Defect; 10] = [
    Defect::NoFencing,
    Defect::VoidsWhatRan,
    Defect::ForgetsQuotas,
    Defect::RetriesForEver,
    Defect::LosesVoided,
    Defect::NoTurns,
    Defect::ForgetsStop,
    Defect::FreesRoomEarly,
    Defect::ForgivesAll,
    Defect::KeepsForEver,
];

/// What a shim of the world has come to. It outlives `serve`, and dies with the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shim {
    Building,
    Runs,
    Ended(EndReason),
    /// Dead; whether user code may have been started.
    Dead {
        user_code: bool,
    },
}

struct Job {
    project: usize,
    asked: Usage,
    /// Its program never ends by itself.
    endless: bool,
    life: Life,
    not_before: u64,
    stop_asked: bool,
    ends: u32,
    /// Attempts that started user code, since the last one that ran long enough to give the retries back.
    ran: u32,
    /// Starts of other jobs while this one was first of its project and within its quota.
    passed: u32,
}

/// A random number generator (SplitMix64): the same seed gives the same schedule everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }
}

struct World {
    dice: Dice,
    is_quiet: bool,
    /// Whether some jobs never end, and some projects have jobs alone that fit beside these.
    has_streams: bool,
    defect: Defect,
    clock: u64,
    begun: Instant,
    /// How long all has been, by a clock that does not jump. Jobs that end do so at once by that.
    uptime: Duration,
    /// Since when nothing starts or ends though a job fits, and what stands since.
    idle: Option<(Usage, Duration)>,
    longest_idle: Duration,
    turns: Turns,
    projects: Vec<(ProjectId, Quota)>,
    jobs: HashMap<JobId, Job>,
    /// Jobs that have not ended.
    open: Vec<JobId>,
    /// Jobs that wait, by project, oldest first.
    queues: Vec<BTreeSet<JobId>>,
    shims: BTreeMap<SandboxId, Shim>,
    /// Events on their way to the machine.
    flight: Vec<(JobId, LifeEvent)>,
    submitted: u64,
    ended: u64,
    retried: u64,
}

const ROOM: Quota =
    Quota { jobs: Some(6), cores: Some(Cores(24)), memory: Some(MiB(32 * 1024)), storage: Some(MiB(400 * 1024)) };
const MOST_WAITING: usize = 60;
/// An attempt that ran so long gives the retries back, where the job asks for that.
const STABLE: Duration = Duration::from_secs(3600);
/// A job may be passed over 16 times before it is waited for, one such job of each project, and turns come between.
const MOST_PASSED: u32 = 16 * 5 + 5 * 5;
/// Where room is kept in vain, others pass up to six times as often.
const MOST_PASSED_BESIDE_STREAMS: u32 = 6 * MOST_PASSED;
/// Room is kept for an hour at the most while nothing ends.
const LONGEST_IDLE: Duration = Duration::from_secs(2 * 3600);
/// How far the clock goes at a time that does not jump.
const QUANTUM: Duration = Duration::from_secs(300);
/// Of 24 cores, two jobs without end of such a size leave room for one more.
const MOST_CORES_BESIDE_STREAMS: u32 = 8;

impl World {
    fn new(seed: u64, defect: Defect) -> World {
        let projects: Vec<(ProjectId, Quota)> = ["a", "b", "c", "d", "e"]
            .iter()
            .map(|digit| (digit.repeat(32).parse().expect("project"), Quota::default()))
            .collect();
        World {
            dice: Dice(seed),
            is_quiet: seed.is_multiple_of(2),
            has_streams: seed > 4,
            defect,
            clock: 1_000_000,
            begun: Instant::now(),
            uptime: Duration::ZERO,
            idle: None,
            longest_idle: Duration::ZERO,
            turns: Turns::default(),
            queues: vec![BTreeSet::new(); projects.len()],
            projects,
            jobs: HashMap::new(),
            open: Vec::new(),
            shims: BTreeMap::new(),
            flight: Vec::new(),
            submitted: 0,
            ended: 0,
            retried: 0,
        }
    }

    fn step(&mut self, calm: bool) -> Result<(), String> {
        let kind = self.dice.below(1000);
        // What makes the scheduler begin anew would hide who starves: half of the worlds see little of it.
        if (170..190).contains(&kind) && self.is_quiet && self.dice.below(100) > 0 {
            return Ok(());
        }
        match kind {
            0..150 if !calm => self.submit(),
            150..170 if !calm => return self.cancel(),
            170..174 if !calm => self.crash_of_serve(),
            174..176 if !calm => self.reboot(),
            176..186 if !calm => self.jump(),
            186..190 if !calm => self.change_quota(),
            190..200 if !calm => self.kill_shim(),
            200..400 => return self.schedule(),
            400..600 => return self.shim_goes_on(),
            600..760 => self.look(calm),
            760..900 => return self.deliver(),
            900..990 => self.remove(),
            _ => self.time_passes(calm),
        }
        Ok(())
    }

    fn time_passes(&mut self, calm: bool) {
        self.clock += 1 + self.dice.below(if calm { 600 } else { 30 });
        if self.shims.iter().all(|(id, shim)| *shim == Shim::Runs && self.jobs[&id.job].endless) {
            self.uptime += QUANTUM;
        }
    }

    fn submit(&mut self) {
        if self.queues.iter().map(BTreeSet::len).sum::<usize>() >= MOST_WAITING {
            return;
        }
        self.submitted += 1;
        let id = JobId(Uuid::from_u128(u128::from(self.submitted)));
        // Most come from one project.
        let project = if self.dice.below(2) == 0 { 0 } else { self.dice.index(self.projects.len()) };
        let mut cores = 1 + u32::try_from(self.dice.below(20)).expect("small");
        let streams = self.open.iter().filter(|id| self.jobs[*id].endless).count();
        let endless = self.has_streams && streams < 2 && self.dice.below(4) == 0;
        if self.has_streams && (endless || project < 2) {
            cores = cores.min(MOST_CORES_BESIDE_STREAMS);
        }
        let asked = Usage {
            jobs: 1,
            cores: Cores(cores),
            memory: MiB(u64::from(cores) * 1024),
            storage: MiB((u64::from(cores) * 9 - 1) * 1024),
        };
        let retry = (self.dice.below(3) == 0).then(|| Retry {
            attempts: 2,
            causes: vec![RetryCause::Platform, RetryCause::Failed],
            backoff: Duration::from_secs(10),
            reset: (self.dice.below(2) == 0).then_some(STABLE),
        });
        let life = Life::new(retry);
        let job = Job { project, asked, endless, life, not_before: 0, stop_asked: false, ends: 0, ran: 0, passed: 0 };
        self.jobs.insert(id, job);
        self.open.push(id);
        self.queues[project].insert(id);
    }

    fn any_open(&mut self) -> Option<JobId> {
        let len = self.open.len();
        (len > 0).then(|| self.open[self.dice.index(len)])
    }

    /// What never ends by itself is seldom ended otherwise.
    fn is_spared(&mut self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.endless) && self.dice.below(100) > 0
    }

    fn cancel(&mut self) -> Result<(), String> {
        let Some(id) = self.any_open() else { return Ok(()) };
        if self.is_spared(id) {
            return Ok(());
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.stop_asked = true;
        }
        self.take(id, &LifeEvent::StopAsked)
    }

    /// What `serve` had in memory is gone; what it committed is not.
    fn crash_of_serve(&mut self) {
        self.flight.clear();
        self.turns = Turns::default();
        self.idle = None;
        self.jobs.values_mut().filter(|job| !job.life.status.is_final()).for_each(|job| job.passed = 0);
    }

    fn reboot(&mut self) {
        self.crash_of_serve();
        self.shims.values_mut().for_each(die);
    }

    fn kill_shim(&mut self) {
        if let Some(id) = self.any_shim()
            && !self.is_spared(id.job)
        {
            self.shims.entry(id).and_modify(die);
        }
    }

    fn jump(&mut self) {
        let by = self.dice.below(7200);
        self.clock = if self.dice.below(2) == 0 { self.clock + by } else { self.clock.saturating_sub(by) };
    }

    fn change_quota(&mut self) {
        let project = self.dice.index(self.projects.len());
        // A project may be paused, and its quota be smaller than a job that waits.
        let jobs = Some(u32::try_from(self.dice.below(5)).expect("small"));
        let cores = Some(Cores(5 + u32::try_from(self.dice.below(25)).expect("small")));
        self.projects[project].1 = match self.dice.below(4) {
            0 => Quota::default(),
            _ => Quota { jobs, cores, ..Quota::default() },
        };
        // Who was held back by a quota until now was not passed over.
        self.jobs.values_mut().filter(|job| job.project == project).for_each(|job| job.passed = 0);
    }

    fn used(&self) -> BTreeMap<ProjectId, Usage> {
        let mut used: BTreeMap<ProjectId, Usage> = BTreeMap::new();
        for (id, shim) in &self.shims {
            let ends_early = self.defect == Defect::FreesRoomEarly && matches!(shim, Shim::Runs);
            if let Some(job) = self.jobs.get(&id.job).filter(|_| !ends_early) {
                let sum = used.entry(self.projects[job.project].0.clone()).or_default();
                *sum = *sum + job.asked;
            }
        }
        used
    }

    fn schedule(&mut self) -> Result<(), String> {
        let heads: Vec<Waiting> = self
            .queues
            .iter()
            .enumerate()
            .filter_map(|(project, queue)| {
                let (name, quota) = self.projects[project].clone();
                let quota = if self.defect == Defect::ForgetsQuotas { Quota::default() } else { quota };
                // As the database finds them: one that is larger than the whole quota keeps none behind it.
                let may_come = |job: &Job| job.not_before <= self.clock && quota.could_allow(&job.asked);
                let id = *queue.iter().find(|id| may_come(&self.jobs[*id]))?;
                Some(Waiting { id, project: name, asked: self.jobs[&id].asked, quota })
            })
            .collect();
        let used = self.used();
        if self.defect == Defect::NoTurns {
            self.turns = Turns::default();
        }
        // Nobody is to blame that it waits while what never ends has its room.
        let endless = self.endless();
        for head in heads.iter().filter(|head| !ROOM.allows(&endless, &head.asked)) {
            self.jobs.entry(head.id).and_modify(|job| job.passed = 0);
        }
        let now = if self.defect == Defect::KeepsForEver { self.begun } else { self.begun + self.uptime };
        let chosen = match self.turns.choose(&heads, &used, &ROOM, now) {
            Choice::Wait => return self.stand_idle(&heads, &used),
            Choice::Refuse(job) => return Err(format!("{} was refused, and could start", job.id)),
            Choice::Start(job) => job.id,
        };
        self.idle = None;
        self.check_room(chosen)?;
        // Who is not the first of its project was not passed over, and begins anew when it is.
        for id in self.open.iter().filter(|id| heads.iter().all(|head| head.id != **id)) {
            self.jobs.entry(*id).and_modify(|job| job.passed = 0);
        }
        let most = if self.has_streams { MOST_PASSED_BESIDE_STREAMS } else { MOST_PASSED };
        for head in heads.iter().filter(|head| head.id != chosen) {
            let ours = used.get(&head.project).copied().unwrap_or_default();
            if let Some(job) = self.jobs.get_mut(&head.id).filter(|_| head.quota.allows(&ours, &head.asked)) {
                job.passed += 1;
                if job.passed > most {
                    return Err(format!("{} starves: others came first {} times", head.id, job.passed));
                }
            }
        }
        self.take(chosen, &LifeEvent::RoomGiven)
    }

    /// What jobs take that stand and never end.
    fn endless(&self) -> Usage {
        let stand = self.shims.iter().filter(|(_, shim)| matches!(shim, Shim::Building | Shim::Runs));
        let jobs = stand.filter_map(|(id, _)| self.jobs.get(&id.job)).filter(|job| job.endless);
        jobs.fold(Usage::default(), |sum, job| sum + job.asked)
    }

    /// Nothing starts: not for long where a job fits.
    fn stand_idle(&mut self, heads: &[Waiting], used: &BTreeMap<ProjectId, Usage>) -> Result<(), String> {
        let total = used.values().fold(Usage::default(), |sum, one| sum + *one);
        let fits = heads.iter().find(|head| {
            let ours = used.get(&head.project).copied().unwrap_or_default();
            head.quota.allows(&ours, &head.asked) && ROOM.allows(&total, &head.asked)
        });
        let Some(head) = fits else {
            self.idle = None;
            return Ok(());
        };
        let since = self.idle.filter(|(stood, _)| *stood == total).map_or(self.uptime, |(_, since)| since);
        self.idle = Some((total, since));
        self.longest_idle = self.longest_idle.max(self.uptime - since);
        match self.uptime - since > LONGEST_IDLE {
            true => Err(format!("{} fits, nothing ends, and it does not start", head.id)),
            false => Ok(()),
        }
    }

    /// Counted anew, from what stands in the world.
    fn check_room(&self, chosen: JobId) -> Result<(), String> {
        let job = &self.jobs[&chosen];
        let (mut all, mut ours) = (job.asked, job.asked);
        for other in self.shims.keys().map(|id| &self.jobs[&id.job]) {
            all = all + other.asked;
            if other.project == job.project {
                ours = ours + other.asked;
            }
        }
        let quota = &self.projects[job.project].1;
        if !quota.allows(&ours, &Usage::default()) {
            return Err(format!("the quota {quota:?} is exceeded: {ours:?}"));
        }
        if !ROOM.allows(&all, &Usage::default()) {
            return Err(format!("the machine is full: {all:?}"));
        }
        Ok(())
    }

    fn any_shim(&mut self) -> Option<SandboxId> {
        let len = self.shims.len();
        (len > 0).then(|| self.dice.index(len)).and_then(|at| self.shims.keys().nth(at).copied())
    }

    fn shim_goes_on(&mut self) -> Result<(), String> {
        let Some(id) = self.any_shim() else { return Ok(()) };
        let others_run =
            self.shims.iter().any(|(other, shim)| other.job == id.job && *other != id && *shim == Shim::Runs);
        let ending = self.dice.below(8);
        let Some(shim) = self.shims.get_mut(&id) else { return Ok(()) };
        let Some(job) = self.jobs.get_mut(&id.job) else { return Err(format!("{id} belongs to no job")) };
        match shim {
            Shim::Building => {
                if job.life.attempt != id.attempt.0 {
                    // The machine sees to it that nothing of it goes on.
                    return Ok(());
                }
                *shim = Shim::Runs;
                job.ran += 1;
                let most = 1 + job.life.retry.as_ref().map_or(0, |retry| retry.attempts);
                if others_run || job.ran > most {
                    return Err(format!("user code of {id} ran {} times, at most {most} were asked for", job.ran));
                }
            }
            Shim::Runs if job.endless && job.life.status != JobStatus::Cancelling => {}
            Shim::Runs => {
                *shim = Shim::Ended(match (job.life.status, ending) {
                    (JobStatus::Cancelling, _) => EndReason::Cancelled,
                    (_, 0) => EndReason::Exited { return_code: 3 },
                    (_, 1) => EndReason::TtlPassed,
                    (_, 2) => EndReason::OutOfMemory { detail: "the driver".to_owned() },
                    (_, 3) => EndReason::Signalled { signal: 9 },
                    _ => EndReason::Exited { return_code: 0 },
                });
            }
            Shim::Ended(_) | Shim::Dead { .. } => {}
        }
        Ok(())
    }

    /// The watch over an attempt tells what it sees. The message may be lost, or come twice.
    fn look(&mut self, calm: bool) {
        let Some(id) = self.any_shim() else { return };
        let attempt = id.attempt.0;
        // The same of an attempt each time that it is told.
        let long = (id.job.0.as_u128() + u128::from(attempt)).is_multiple_of(3);
        let ran = if long { STABLE } else { STABLE / 2 };
        let over = |reason: EndReason, return_code| LifeEvent::AttemptEnded { attempt, reason, return_code, ran };
        let void = || LifeEvent::AttemptVoided { attempt, why: "its shim died".to_owned() };
        let stopping = self.jobs.get(&id.job).is_some_and(|job| job.life.status == JobStatus::Cancelling);
        // Else what is told of those that never end would be more than comes through.
        let is_told = self.jobs.get(&id.job).is_some_and(|job| job.endless && job.life.started);
        let event = match self.shims[&id].clone() {
            // It is stopped before it starts anything.
            Shim::Building if stopping => {
                self.shims.insert(id, Shim::Dead { user_code: false });
                void()
            }
            Shim::Building => return,
            Shim::Runs if is_told => return,
            Shim::Runs => LifeEvent::DriverStarted { attempt },
            Shim::Ended(reason) => over(reason, 0),
            Shim::Dead { user_code: true } if self.defect != Defect::VoidsWhatRan => {
                over(EndReason::Platform { detail: "its shim died".to_owned() }, 255)
            }
            Shim::Dead { .. } => void(),
        };
        let copies = match self.dice.below(10) {
            0 if !calm => 0,
            1 => 2,
            _ => 1,
        };
        self.flight.extend((0..copies).map(|_| (id.job, event.clone())));
    }

    fn deliver(&mut self) -> Result<(), String> {
        let len = self.flight.len();
        if len == 0 {
            return Ok(());
        }
        let at = self.dice.index(len);
        let (id, event) = self.flight.swap_remove(at);
        self.take(id, &event)
    }

    /// What stands of an attempt that is over is removed in its own time.
    fn remove(&mut self) {
        let Some(id) = self.any_shim() else { return };
        let over = self.jobs.get(&id.job).is_none_or(|job| {
            job.life.attempt != id.attempt.0 || job.life.status.is_final() || job.life.status == JobStatus::Pending
        });
        if over {
            self.shims.remove(&id);
        }
    }

    /// The one write transaction: the machine's decision and what follows from it.
    fn take(&mut self, id: JobId, event: &LifeEvent) -> Result<(), String> {
        let defect = self.defect;
        let Some(job) = self.jobs.get_mut(&id) else { return Err(format!("{id} is lost")) };
        let before = job.life.clone();
        let mut event = event.clone();
        if let (
            Defect::NoFencing,
            LifeEvent::DriverStarted { attempt }
            | LifeEvent::AttemptVoided { attempt, .. }
            | LifeEvent::AttemptEnded { attempt, .. },
        ) = (defect, &mut event)
        {
            *attempt = before.attempt;
        }
        let mut gives_back = false;
        if let LifeEvent::AttemptEnded { ran, .. } = &mut event {
            gives_back = before.retry.as_ref().and_then(|retry| retry.reset).is_some_and(|reset| *ran >= reset);
            if defect == Defect::ForgivesAll {
                *ran = STABLE;
            }
        }
        let (mut next, effects) = before.after(&event).map_err(|fault| format!("{id}: {fault}"))?;
        if defect == Defect::RetriesForEver {
            next.retried = 0;
        }
        if defect == Defect::ForgetsStop && before.status == JobStatus::Cancelling && next.status.is_final() {
            next.status = JobStatus::Completed;
        }
        job.life = next;
        let status = job.life.status;
        if before.status.is_final() && before != job.life {
            return Err(format!("{id} had ended, and changed to {status} by {event:?}"));
        }
        if job.stop_asked && status == JobStatus::Completed && before.status != JobStatus::Completed {
            return Err(format!("{id} was asked to stop, and completed"));
        }
        if status == JobStatus::Pending && before.status != JobStatus::Pending {
            if gives_back {
                job.ran = 1;
            }
            let lost = defect == Defect::LosesVoided && matches!(event, LifeEvent::AttemptVoided { .. });
            if !lost {
                self.queues[job.project].insert(id);
            }
        }
        if status != JobStatus::Pending {
            self.queues[job.project].remove(&id);
            job.passed = 0;
        }
        for effect in effects {
            match effect {
                Effect::Build(number) => {
                    let sandbox = SandboxId { job: id, attempt: AttemptNo(number) };
                    if self.shims.insert(sandbox, Shim::Building).is_some() {
                        return Err(format!("{sandbox} was made twice"));
                    }
                }
                Effect::Pause(pause) => {
                    job.not_before = self.clock + pause.as_secs();
                    self.retried += 1;
                }
                Effect::End { .. } => {
                    job.ends += 1;
                    self.ended += 1;
                    if job.ends > 1 {
                        return Err(format!("{id} ended {} times", job.ends));
                    }
                    self.open.retain(|open| *open != id);
                }
                Effect::Stop(_) | Effect::Remove(_) => {}
            }
        }
        // Everything is in one place: it waits, an attempt of it stands, or it has ended.
        let stands = self.shims.contains_key(&SandboxId { job: id, attempt: AttemptNo(self.jobs[&id].life.attempt) });
        match status {
            JobStatus::Submitted | JobStatus::Running | JobStatus::Cancelling if !stands => {
                Err(format!("{id} is {status}, and nothing of it stands"))
            }
            _ => Ok(()),
        }
    }

    /// No new jobs, no new trouble, no quotas and nothing without end any more: every job that was accepted ends.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.projects.iter_mut().for_each(|(_, quota)| *quota = Quota::default());
        self.jobs.values_mut().for_each(|job| (job.passed, job.endless) = (0, false));
        for _ in 0..400_000 {
            if self.open.is_empty() {
                return match self.ended == self.submitted {
                    true => Ok(()),
                    false => Err(format!("{} jobs were submitted, and {} ended", self.submitted, self.ended)),
                };
            }
            self.step(true)?;
        }
        Err(format!("{} jobs never end, such as {:?}", self.open.len(), self.jobs[&self.open[0]].life))
    }
}

fn die(shim: &mut Shim) {
    match shim {
        Shim::Building => *shim = Shim::Dead { user_code: false },
        Shim::Runs => *shim = Shim::Dead { user_code: true },
        Shim::Ended(_) | Shim::Dead { .. } => {}
    }
}

fn simulate(seed: u64, steps: u64, defect: Defect) -> Result<World, String> {
    let mut world = World::new(seed, defect);
    for step in 0..steps {
        world.step(false).map_err(|why| format!("seed {seed}, step {step}: {why}"))?;
    }
    world.come_to_rest().map_err(|why| format!("seed {seed}, at rest: {why}"))?;
    Ok(world)
}

#[test]
fn no_job_is_lost_or_doubled_and_no_quota_exceeded_in_a_million_steps() {
    let (mut submitted, mut retried) = (0, 0);
    for seed in 1..=4 {
        match simulate(seed, 250_000, Defect::None) {
            Ok(world) => {
                submitted += world.submitted;
                retried += world.retried;
            }
            Err(why) => panic!("{why}"),
        }
    }
    assert!(submitted > 10_000 && retried > 500, "the schedule was no test: {submitted} jobs, {retried} retries");
}

/// Worlds in which no crash of `serve` lets the scheduler begin anew before it has kept room in vain.
#[test]
fn what_fits_beside_jobs_without_end_starts_whatever_large_job_waits_for_them() {
    let mut longest = Duration::ZERO;
    for seed in [6, 8] {
        match simulate(seed, 125_000, Defect::None) {
            Ok(world) => longest = longest.max(world.longest_idle),
            Err(why) => panic!("{why}"),
        }
    }
    assert!(longest >= QUANTUM, "no room was kept in vain: {longest:?}");
}

#[test]
fn a_broken_machine_or_scheduler_is_caught() {
    for defect in DEFECTS {
        let caught = (1..=8).find_map(|seed| simulate(seed, 60_000, defect).err());
        assert!(caught.is_some(), "{defect:?} was not seen");
    }
}
