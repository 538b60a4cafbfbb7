//! What jobs take, and how much of it there may be at once: of a project, or of the machine (JOB-4).

use serde::{Deserialize, Serialize};

use crate::{Cores, MiB, Sizing};

/// What a job takes, or several together, while an attempt of each stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// How many they are.
    pub jobs: u32,
    /// Their cores.
    pub cores: Cores,
    /// Their memory, overheads included.
    pub memory: MiB,
    /// Their local storage: the size of their volumes, however little is written to them.
    pub storage: MiB,
}

impl Usage {
    /// What one job of this size takes.
    pub fn of(sizing: &Sizing) -> Usage {
        Usage { jobs: 1, cores: sizing.cores(), memory: sizing.memory(), storage: sizing.storage() }
    }
}

impl std::ops::Add for Usage {
    type Output = Usage;
    fn add(self, other: Usage) -> Usage {
        Usage {
            jobs: self.jobs.saturating_add(other.jobs),
            cores: self.cores + other.cores,
            memory: self.memory + other.memory,
            storage: self.storage + other.storage,
        }
    }
}

/// How much may be taken at once; what is `None` has no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Jobs with an attempt. 0 lets none start: they wait.
    pub jobs: Option<u32>,
    /// Cores.
    pub cores: Option<Cores>,
    /// Memory.
    pub memory: Option<MiB>,
    /// Local storage.
    pub storage: Option<MiB>,
}

/// Something that is not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// `jobs`, `cores`, `memory` or `storage`.
    pub of: &'static str,
    /// What is asked for, with its unit.
    pub asked: String,
    /// What is taken already.
    pub used: String,
    /// The bound.
    pub limit: String,
}

impl Shortage {
    /// An amount with what it is of, such as `8 cores` or `16 GiB of memory`.
    pub fn named(&self, amount: &str) -> String {
        match self.of {
            "memory" | "storage" => format!("{amount} of {}", self.of),
            counted => format!("{amount} {counted}"),
        }
    }
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} of {} in use, {} needed", self.of, self.used, self.limit, self.asked)
    }
}

impl Quota {
    /// Whether `asked` fits beside what is used.
    pub fn allows(&self, used: &Usage, asked: &Usage) -> bool {
        let all = *used + *asked;
        self.jobs.is_none_or(|limit| all.jobs <= limit)
            && self.cores.is_none_or(|limit| all.cores <= limit)
            && self.memory.is_none_or(|limit| all.memory <= limit)
            && self.storage.is_none_or(|limit| all.storage <= limit)
    }

    /// Whether a job of this size could start if nothing else were there. The number of jobs does not count: a quota
    /// of 0 jobs keeps a project waiting, it does not refuse.
    pub fn could_allow(&self, asked: &Usage) -> bool {
        Quota { jobs: None, ..*self }.allows(&Usage::default(), asked)
    }

    /// What is not enough for `asked` beside what is used; empty where [`Quota::allows`] says yes.
    pub fn shortages(&self, used: &Usage, asked: &Usage) -> Vec<Shortage> {
        let all = *used + *asked;
        let short = |of, is_over: bool, asked: &dyn ToString, used: &dyn ToString, limit: Option<String>| {
            let limit = limit.filter(|_| is_over)?;
            Some(Shortage { of, asked: asked.to_string(), used: used.to_string(), limit })
        };
        [
            short(
                "jobs",
                self.jobs.is_some_and(|limit| all.jobs > limit),
                &asked.jobs,
                &used.jobs,
                self.jobs.map(|limit| limit.to_string()),
            ),
            short(
                "cores",
                self.cores.is_some_and(|limit| all.cores > limit),
                &asked.cores,
                &used.cores,
                self.cores.map(|limit| limit.to_string()),
            ),
            short(
                "memory",
                self.memory.is_some_and(|limit| all.memory > limit),
                &asked.memory,
                &used.memory,
                self.memory.map(|limit| limit.to_string()),
            ),
            short(
                "storage",
                self.storage.is_some_and(|limit| all.storage > limit),
                &asked.storage,
                &used.storage,
                self.storage.map(|limit| limit.to_string()),
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota =
        Quota { jobs: Some(2), cores: Some(Cores(8)), memory: Some(MiB::gib(8)), storage: Some(MiB::gib(64)) };

    fn usage(jobs: u32, cores: u32, memory: u64, storage: u64) -> Usage {
        Usage { jobs, cores: Cores(cores), memory: MiB::gib(memory), storage: MiB::gib(storage) }
    }

    #[test]
    fn each_bound_counts_and_what_is_short_is_named() {
        let asked = usage(1, 4, 4, 32);
        assert!(QUOTA.allows(&usage(1, 4, 4, 32), &asked));
        for (used, of) in [
            (usage(2, 0, 0, 0), "jobs"),
            (usage(1, 5, 0, 0), "cores"),
            (usage(1, 0, 5, 0), "memory"),
            (usage(1, 0, 0, 33), "storage"),
        ] {
            assert!(!QUOTA.allows(&used, &asked), "{of}");
            assert_eq!(QUOTA.shortages(&used, &asked).iter().map(|one| one.of).collect::<Vec<_>>(), [of]);
            assert!(Quota::default().allows(&used, &asked), "no bound");
        }
        let text = QUOTA.shortages(&usage(1, 5, 0, 0), &asked)[0].to_string();
        assert_eq!(text, "cores: 5 of 8 in use, 4 needed");
        assert!(!QUOTA.allows(&usage(u32::MAX, u32::MAX, u64::MAX / 1024, 0), &asked), "sums do not wrap");
    }

    #[test]
    fn a_quota_of_no_jobs_waits_and_one_of_too_few_cores_never_allows() {
        assert!(Quota { jobs: Some(0), ..QUOTA }.could_allow(&usage(1, 8, 8, 64)));
        assert!(!QUOTA.could_allow(&usage(1, 9, 1, 1)));
    }
}
