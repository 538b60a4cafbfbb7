//! Which job starts next: the oldest of a project, projects in turn, what fits machine and quota. Pure: what waits and what
//! is used goes in, a choice comes out.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use db::jobs::Waiting;
use model::{JobId, ProjectId, Quota, Shortage, Usage};

/// What the scheduler does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Nothing until something changes.
    Wait,
    /// Starts this job.
    Start(&'a Waiting),
    /// Ends this job: the machine could not even hold it alone.
    Refuse(&'a Waiting),
}

/// Whose turn it is.
#[derive(Debug, Default, Clone)]
pub struct Turns {
    /// The project that was served last.
    last: Option<ProjectId>,
    /// Jobs that were passed over because the machine had no room for them.
    passed_over: HashMap<JobId, Passed>,
    /// The room that is kept for one of these.
    kept: Option<Kept>,
}

/// How often others came before a job.
#[derive(Debug, Default, Clone, Copy)]
struct Passed {
    times: u32,
    /// How often room was kept until its time was over.
    in_vain: u32,
}

impl Passed {
    /// How long all else has to wait for it, and it before that: longer each time that it was in vain, since jobs may take
    /// long, but not without a bound, since there are some that never end.
    fn rounds(self) -> u32 {
        self.in_vain.saturating_add(1).min(MOST_ROUNDS)
    }

    /// Whether room is to be kept for it.
    fn is_enough(self) -> bool {
        self.times >= PATIENCE * self.rounds()
    }
}

/// Room that is kept: nothing starts.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// What all jobs take.
    used: Usage,
    /// Since when they take that.
    since: Instant,
}

impl Turns {
    /// Chooses among the oldest waiting jobs of the projects, which come sorted by project. The next project in turn
    /// whose job fits is served. A job that its project's quota holds back lets others pass for as long as it takes: its
    /// own project's jobs make room for it, or a quota that is raised again. One that the machine has no room for is waited for once it was passed over
    /// too often: a large job must not wait for ever while small ones slip by. Nor may they for it, while what has its room
    /// does not end: once nothing has ended for some time, others pass again.
    pub fn choose<'a>(
        &mut self,
        heads: &'a [Waiting],
        used: &BTreeMap<ProjectId, Usage>,
        room: &Quota,
        now: Instant,
    ) -> Choice<'a> {
        let known: HashSet<JobId> = heads.iter().map(|job| job.id).collect();
        self.passed_over.retain(|id, _| known.contains(id));
        if let Some(job) = heads.iter().find(|job| !room.could_allow(&job.asked)) {
            return Choice::Refuse(job);
        }
        let total = used.values().fold(Usage::default(), |sum, one| sum + *one);
        let of = |project: &ProjectId| used.get(project).copied().unwrap_or_default();
        let of = &of;
        let first = match &self.last {
            Some(last) => heads.partition_point(|job| job.project <= *last),
            None => 0,
        };
        let in_turn = || {
            let turned = heads[first..].iter().chain(&heads[..first]);
            turned.filter(move |job| job.quota.allows(&of(&job.project), &job.asked))
        };
        let fits = |job: &&Waiting| room.allows(&total, &job.asked);
        let due: Vec<&Waiting> = in_turn().filter(|job| self.passed(job.id).is_enough()).collect();
        let chosen = match due.first().copied() {
            None => in_turn().find(fits),
            Some(job) if fits(&job) => Some(job),
            Some(_) => {
                let since = self.kept.filter(|kept| kept.used == total).map_or(now, |kept| kept.since);
                self.kept = Some(Kept { used: total, since });
                let rounds = due.iter().filter(|job| !fits(job)).map(|job| self.passed(job.id).rounds()).max();
                if now.duration_since(since) < KEPT * rounds.unwrap_or(1) {
                    return Choice::Wait;
                }
                for job in due.iter().filter(|job| !fits(job)) {
                    let in_vain = self.passed(job.id).in_vain.saturating_add(1);
                    self.passed_over.insert(job.id, Passed { times: 0, in_vain });
                }
                due.into_iter().find(fits).or_else(|| in_turn().find(fits))
            }
        };
        self.kept = None;
        let Some(chosen) = chosen else { return Choice::Wait };
        for job in in_turn().take_while(|job| job.id != chosen.id) {
            self.passed_over.entry(job.id).or_default().times += 1;
        }
        self.last = Some(chosen.project.clone());
        Choice::Start(chosen)
    }

    fn passed(&self, job: JobId) -> Passed {
        self.passed_over.get(&job).copied().unwrap_or_default()
    }
}

/// Of what a job asks for more than there can ever be, by the lower of the two bounds.
pub(crate) fn never_fits(asked: &Usage, quota: &Quota, room: &Quota) -> Vec<Shortage> {
    fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
    let both = Quota {
        jobs: None,
        cores: lower(quota.cores, room.cores),
        memory: lower(quota.memory, room.memory),
        storage: lower(quota.storage, room.storage),
    };
    both.shortages(&Usage::default(), asked)
}

/// How often a job that does not fit is passed over.
const PATIENCE: u32 = 16;
/// How long room is kept for it while nothing ends.
const KEPT: Duration = Duration::from_secs(600);
/// Both are longer after each time that this was in vain, up to so many times.
const MOST_ROUNDS: u32 = 6;

#[cfg(test)]
mod tests {
    use model::{Cores, MiB};
    use uuid::Uuid;

    use super::*;

    const ROOM: Quota =
        Quota { jobs: Some(4), cores: Some(Cores(8)), memory: Some(MiB(8192)), storage: Some(MiB(16384)) };

    fn waiting(number: u128, project: &str, cores: u32) -> Waiting {
        Waiting {
            id: JobId(Uuid::from_u128(number)),
            project: project.repeat(32).parse().expect("project"),
            asked: Usage { jobs: 1, cores: Cores(cores), memory: MiB(1024), storage: MiB(1024) },
            quota: Quota::default(),
        }
    }

    fn used(project: &str, jobs: u32, cores: u32, memory: u64, storage: u64) -> BTreeMap<ProjectId, Usage> {
        let usage = Usage { jobs, cores: Cores(cores), memory: MiB(memory), storage: MiB(storage) };
        BTreeMap::from([(project.repeat(32).parse().expect("project"), usage)])
    }

    /// The heads of queues, as the database gives them.
    fn heads(queues: &[Vec<Waiting>]) -> Vec<Waiting> {
        let mut found: Vec<Waiting> = queues.iter().filter_map(|queue| queue.first().cloned()).collect();
        found.sort_by(|one, other| one.project.cmp(&other.project));
        found
    }

    /// Serves from queues while room is endless; which projects in which order.
    fn serve(mut queues: Vec<Vec<Waiting>>) -> String {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let mut order = String::new();
        while let Choice::Start(job) = turns.choose(&heads(&queues), &BTreeMap::new(), &ROOM, now) {
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
    fn nothing_starts_beyond_the_machine_or_the_quota() {
        let free = waiting(1, "a", 3);
        let starts = |job: &Waiting, used: BTreeMap<ProjectId, Usage>| {
            let heads = [job.clone()];
            matches!(Turns::default().choose(&heads, &used, &ROOM, Instant::now()), Choice::Start(_))
        };
        assert!(starts(&free, used("b", 3, 5, 7168, 15360)));
        for full in [used("b", 4, 0, 0, 0), used("b", 3, 6, 0, 0), used("b", 3, 0, 7169, 0), used("b", 3, 0, 0, 15361)]
        {
            assert!(!starts(&free, full));
        }
        let quota = Quota { jobs: Some(1), cores: Some(Cores(4)), memory: None, storage: None };
        let bound = Waiting { quota, ..free };
        assert!(starts(&bound, used("b", 3, 5, 0, 0)), "what others take does not count for a quota");
        assert!(!starts(&bound, used("a", 1, 1, 0, 0)));
        assert!(!starts(&Waiting { quota: Quota { jobs: Some(0), ..quota }, ..bound }, BTreeMap::new()));
    }

    #[test]
    fn what_does_not_fit_lets_others_pass_but_not_for_ever() {
        let large = waiting(1, "a", 8);
        let (mut turns, now) = (Turns::default(), Instant::now());
        let taken = used("c", 1, 2, 1024, 0);
        others_pass(&mut turns, &large, &taken, PATIENCE, now);
        let heads = [large, waiting(999, "b", 1)];
        assert_eq!(turns.choose(&heads, &taken, &ROOM, now), Choice::Wait, "room is kept for it");
        assert_eq!(turns.choose(&heads, &BTreeMap::new(), &ROOM, now), Choice::Start(&heads[0]));
    }

    #[test]
    fn room_is_kept_while_jobs_end_and_some_time_longer_and_then_others_pass_again() {
        let large = waiting(1, "a", 6);
        let heads = [large.clone(), waiting(999, "b", 1)];
        let (mut turns, mut now) = (Turns::default(), Instant::now());
        let second = Duration::from_secs(1);
        let stream = used("c", 1, 4, 1024, 0);
        others_pass(&mut turns, &large, &stream, PATIENCE, now);
        // What ended meanwhile was small, and more may come.
        for cores in [7, 6, 5] {
            assert_eq!(turns.choose(&heads, &used("c", 2, cores, 2048, 0), &ROOM, now), Choice::Wait, "{cores}");
            now += KEPT - second;
        }
        for rounds in [1_u32, 2, 3, 4, 5, 6, 6, 6] {
            assert_eq!(turns.choose(&heads, &stream, &ROOM, now), Choice::Wait);
            now += KEPT * rounds - second;
            assert_eq!(turns.choose(&heads, &stream, &ROOM, now), Choice::Wait, "{rounds}");
            now += second;
            let next = PATIENCE * (rounds + 1).min(MOST_ROUNDS);
            others_pass(&mut turns, &large, &stream, next, now);
        }
        assert_eq!(turns.choose(&heads, &stream, &ROOM, now), Choice::Wait);
        assert_eq!(turns.choose(&heads, &BTreeMap::new(), &ROOM, now), Choice::Start(&heads[0]), "the stream ended");
    }

    #[test]
    fn a_large_job_that_never_fits_takes_no_room_from_one_that_does_once_others_have_ended() {
        let (largest, large) = (waiting(1, "a", 6), waiting(2, "b", 3));
        let heads = [largest, large, waiting(999, "c", 1)];
        let (mut turns, now) = (Turns::default(), Instant::now());
        let (full, stream) = (used("d", 2, 7, 1024, 0), used("d", 1, 4, 1024, 0));
        for _ in 0..PATIENCE {
            assert_eq!(turns.choose(&heads, &full, &ROOM, now), Choice::Start(&heads[2]));
        }
        assert_eq!(turns.choose(&heads, &stream, &ROOM, now), Choice::Wait, "room is kept for the first of both");
        assert_eq!(turns.choose(&heads, &stream, &ROOM, now + KEPT), Choice::Start(&heads[1]));
    }

    #[test]
    fn room_is_kept_as_long_as_the_one_needs_that_has_waited_in_vain_most_often() {
        let heads = [waiting(1, "a", 6), waiting(2, "b", 6), waiting(3, "c", 1)];
        let (mut turns, now) = (Turns::default(), Instant::now());
        turns.passed_over.insert(heads[0].id, Passed { times: PATIENCE, in_vain: 0 });
        turns.passed_over.insert(heads[1].id, Passed { times: 3 * PATIENCE, in_vain: 2 });
        let stream = used("d", 1, 4, 1024, 0);
        for rounds in 0..3 {
            assert_eq!(turns.choose(&heads, &stream, &ROOM, now + KEPT * rounds), Choice::Wait, "{rounds}");
        }
        assert_eq!(turns.choose(&heads, &stream, &ROOM, now + KEPT * 3), Choice::Start(&heads[2]));
    }

    /// So often another job starts while the large one waits.
    fn others_pass(turns: &mut Turns, large: &Waiting, used: &BTreeMap<ProjectId, Usage>, times: u32, now: Instant) {
        for number in 0..times {
            let heads = [large.clone(), waiting(100 + u128::from(number), "b", 1)];
            assert_eq!(turns.choose(&heads, used, &ROOM, now), Choice::Start(&heads[1]), "{number} of {times}");
        }
    }

    #[test]
    fn what_its_own_quota_holds_back_never_holds_back_another_project() {
        let quota = Quota { jobs: Some(1), ..Quota::default() };
        let held = Waiting { quota, ..waiting(1, "a", 1) };
        let (mut turns, taken, now) = (Turns::default(), used("a", 1, 1, 1024, 0), Instant::now());
        for number in 0..3 * PATIENCE {
            let heads = [held.clone(), waiting(100 + u128::from(number), "b", 1)];
            assert_eq!(turns.choose(&heads, &taken, &ROOM, now), Choice::Start(&heads[1]));
        }
    }

    #[test]
    fn what_the_machine_can_never_hold_is_refused_and_what_a_quota_cannot_waits() {
        let quota = Quota { cores: Some(Cores(1)), ..Quota::default() };
        let heads = [waiting(1, "a", 9), Waiting { quota, ..waiting(2, "b", 2) }, waiting(3, "c", 1)];
        for job in &heads[..2] {
            let short = never_fits(&job.asked, &job.quota, &ROOM);
            assert_eq!(short.iter().map(|one| one.of).collect::<Vec<_>>(), ["cores"]);
        }
        let (mut turns, none, now) = (Turns::default(), BTreeMap::new(), Instant::now());
        assert_eq!(turns.choose(&heads, &none, &ROOM, now), Choice::Refuse(&heads[0]));
        assert_eq!(turns.choose(&heads[1..], &none, &ROOM, now), Choice::Start(&heads[2]));
        assert_eq!(turns.choose(&heads[1..2], &none, &ROOM, now), Choice::Wait);
        assert_eq!(Turns::default().choose(&[], &none, &ROOM, now), Choice::Wait);
    }
}
