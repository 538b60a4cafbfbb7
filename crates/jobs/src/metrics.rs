//! What operators see of the jobs of all projects together. No names of projects, jobs or users.

use std::time::Duration;

use model::{Blame, EndReason, Usage};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{Error, Jobs, record};

/// One label, or more.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counts of this process, and what the last [`Jobs::measure`] found.
#[derive(Debug)]
pub struct Metrics {
    submitted: Counter,
    choice: Histogram,
    started: Counter,
    ended: Family<Labels<2>, Counter>,
    jobs: Family<Labels<1>, Gauge>,
    waiting: Family<Labels<1>, Gauge>,
    queue_age: Gauge,
    room_jobs: Family<Labels<1>, Gauge>,
    room_cores: Family<Labels<1>, Gauge>,
    room_memory: Family<Labels<1>, Gauge>,
    room_storage: Family<Labels<1>, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            submitted: Counter::default(),
            choice: Histogram::new(CHOICE_SECONDS),
            started: Counter::default(),
            ended: Family::default(),
            jobs: Family::default(),
            waiting: Family::default(),
            queue_age: Gauge::default(),
            room_jobs: Family::default(),
            room_cores: Family::default(),
            room_memory: Family::default(),
            room_storage: Family::default(),
        }
    }

    /// Adds them to a registry, which names the service.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("jobs_submitted", "Jobs that were accepted", self.submitted.clone());
        registry.register("jobs", "Jobs that have not ended, by status", self.jobs.clone());
        registry.register("jobs_waiting", "Jobs that wait, by what they wait for", self.waiting.clone());
        registry.register_with_unit(
            "job_queue_age",
            "How long the oldest job waits that could start if there were room",
            Unit::Seconds,
            self.queue_age.clone(),
        );
        registry.register_with_unit(
            "scheduler_choice",
            "How long the scheduler took to read what waits and to choose",
            Unit::Seconds,
            self.choice.clone(),
        );
        registry.register("attempts_started", "Attempts that were made", self.started.clone());
        registry.register("attempts_ended", "Attempts that ended, by cause and whose fault it is", self.ended.clone());
        registry.register("room_jobs", "Jobs that may stand at once, and that do", self.room_jobs.clone());
        registry.register("room_cores", "Cores for jobs, and those that are taken", self.room_cores.clone());
        let (memory, storage) = (self.room_memory.clone(), self.room_storage.clone());
        registry.register_with_unit("room_memory", "Memory for jobs, and what is taken", Unit::Bytes, memory);
        registry.register_with_unit("room_storage", "Local storage for jobs, and what is taken", Unit::Bytes, storage);
    }

    pub(crate) fn submitted(&self) {
        self.submitted.inc();
    }

    pub(crate) fn chosen(&self, took: Duration) {
        self.choice.observe(took.as_secs_f64());
    }

    pub(crate) fn attempt_started(&self) {
        self.started.inc();
    }

    /// An attempt ended; `None` is one that was given up before any user code.
    pub(crate) fn attempt_ended(&self, reason: Option<&EndReason>) {
        let (cause, fault) = match reason {
            None => ("voided", "platform"),
            Some(EndReason::Exited { return_code: 0 }) => ("completed", "none"),
            Some(EndReason::Cancelled) => ("cancelled", "none"),
            Some(EndReason::TtlPassed) => ("ttl_passed", "none"),
            Some(reason) => {
                let cause = match reason {
                    EndReason::Exited { .. } => "exited",
                    EndReason::Signalled { .. } => "signalled",
                    EndReason::OutOfMemory { .. } => "out_of_memory",
                    EndReason::OutOfDisk { .. } => "out_of_disk",
                    EndReason::CannotStart { .. } => "cannot_start",
                    EndReason::Withdrawn { .. } => "withdrawn",
                    EndReason::NotStarted { .. } => "not_started",
                    EndReason::Cancelled | EndReason::TtlPassed | EndReason::Platform { .. } => "platform",
                };
                let fault = match reason.blame() {
                    Blame::Job => "job",
                    Blame::Platform => "platform",
                };
                (cause, fault)
            }
        };
        self.ended.get_or_create(&[("cause", cause), ("fault", fault)]).inc();
    }
}

impl Jobs {
    /// What operators see of the jobs; call [`Jobs::measure`] before reading.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Reads what only the database knows.
    pub async fn measure(&self) -> Result<(), Error> {
        let (metrics, db, now) = (&self.inner.metrics, &self.inner.parts.db, record::now());
        let census = db::jobs::census(db, now).await?;
        let used = db::jobs::used(db).await?;
        let total = used.values().fold(Usage::default(), |sum, one| sum + *one);
        let room = self.room();
        for (status, count) in [
            ("PENDING", census.pending),
            ("SUBMITTED", census.submitted),
            ("RUNNING", census.running),
            ("CANCELLING", census.cancelling),
        ] {
            metrics.jobs.get_or_create(&[("status", status)]).set(gauge(count));
        }
        let (mut quota, mut machine) = (census.oversized, 0);
        for head in db::jobs::heads(db, now).await? {
            let ours = used.get(&head.project).copied().unwrap_or_default();
            if !head.quota.allows(&ours, &head.asked) {
                quota += 1;
            } else if !room.allows(&total, &head.asked) {
                machine += 1;
            }
        }
        let turn = census.pending.saturating_sub(census.paused + census.held + quota + machine);
        for (reason, count) in [
            ("quota", quota),
            ("machine", machine),
            ("retry", census.paused),
            ("run_after", census.held),
            ("turn", turn),
        ] {
            metrics.waiting.get_or_create(&[("reason", reason)]).set(gauge(count));
        }
        let age = census.oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs().max(0));
        metrics.queue_age.set(age);
        let set = |of: &Family<Labels<1>, Gauge>, most: Option<u64>, taken: u64| {
            if let Some(most) = most {
                of.get_or_create(&[("part", "total")]).set(gauge(most));
            }
            of.get_or_create(&[("part", "used")]).set(gauge(taken));
        };
        set(&metrics.room_jobs, room.jobs.map(u64::from), total.jobs.into());
        set(&metrics.room_cores, room.cores.map(|cores| cores.0.into()), total.cores.0.into());
        set(&metrics.room_memory, room.memory.map(|size| size.0.saturating_mul(MIB)), total.memory.0 * MIB);
        set(&metrics.room_storage, room.storage.map(|size| size.0.saturating_mul(MIB)), total.storage.0 * MIB);
        Ok(())
    }
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const MIB: u64 = 1024 * 1024;
const CHOICE_SECONDS: [f64; 8] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.01, 0.1, 1.0];
