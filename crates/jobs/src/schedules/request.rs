//! What a schedule is asked to be, and the schedule that it comes to. All faults are found, not only the first.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use model::{CatchUp, Faults, JobRequest, Overlap, Principal, ProjectId, Schedule, ScheduleId};
use serde::Serialize;

use super::cron::Cron;

/// What a schedule is asked to be: texts, nothing checked. What is not given has its default in a new schedule and stays in
/// one that is changed; an empty text takes a bound away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScheduleRequest {
    /// `name`.
    pub name: Option<String>,
    /// `cron`.
    pub cron: Option<String>,
    /// `timezone`: UTC by default.
    pub zone: Option<String>,
    /// `catchUp`: `skip` by default, `latest` or `all`.
    pub catch_up: Option<String>,
    /// `catchUpLimit`: how many of the newest missed times `all` is at the most; 10 by default.
    pub catch_up_limit: Option<i64>,
    /// `overlap`: `skip` by default, `queue`, `cancel_running` or `allow`.
    pub overlap: Option<String>,
    /// `startDate`: no run before it.
    pub starts: Option<String>,
    /// `endDate`: no run after it.
    pub ends: Option<String>,
    /// `enabled`: yes by default.
    pub enabled: Option<bool>,
    /// `job`: as a submit has it.
    pub job: Option<JobRequest>,
}

impl ScheduleRequest {
    /// Whether it asks for nothing but a pause.
    pub fn only_pauses(&self) -> bool {
        *self == ScheduleRequest { enabled: Some(false), ..ScheduleRequest::default() }
    }

    /// SHA-256 of all of it.
    pub(super) fn digest(&self) -> [u8; 32] {
        let text = serde_json::to_vec(self).unwrap_or_default();
        crypto::digest::sha256(&[&text])
    }

    /// A new schedule; `None` where a fault leaves none.
    pub(super) fn new_schedule(
        &self,
        id: ScheduleId,
        project: &ProjectId,
        owner: &Principal,
        at: Timestamp,
        faults: &mut Faults,
    ) -> Option<Schedule> {
        for (field, is_there) in
            [("name", self.name.is_some()), ("cron", self.cron.is_some()), ("job", self.job.is_some())]
        {
            if !is_there {
                faults.add(field, None, &format!("odp.schedule.{field}.fieldMissing"), "it is missing");
            }
        }
        let empty = Schedule {
            id,
            project: project.clone(),
            name: String::new(),
            cron: String::new(),
            zone: "UTC".to_owned(),
            request: JobRequest::default(),
            catch_up: CatchUp::SKIP,
            overlap: Overlap::Skip,
            starts: None,
            ends: None,
            enabled: true,
            stopped: None,
            owner: owner.clone(),
            refusals: 0,
            created: at,
            changed: at,
            next_run: None,
        };
        let mut schedule = self.over(&empty, faults);
        self.cron.as_ref()?;
        schedule.next_run = self.first_run(&schedule, at, faults)?;
        Some(schedule)
    }

    /// A schedule as it is after this change; `last` is the newest of its times that something came of.
    pub(super) fn changed(
        &self,
        before: &Schedule,
        owner: &Principal,
        at: Timestamp,
        last: Option<Timestamp>,
        faults: &mut Faults,
    ) -> Option<Schedule> {
        let mut after = self.over(before, faults);
        after.changed = at;
        if self.only_pauses() {
            after.next_run = None;
            return Some(after);
        }
        after.owner = owner.clone();
        after.stopped = None;
        after.refusals = 0;
        let timing = |schedule: &Schedule| {
            (schedule.cron.clone(), schedule.zone.clone(), schedule.starts, schedule.ends, schedule.enabled)
        };
        let goes_on = before.next_run.is_some() && timing(before) == timing(&after);
        if !goes_on {
            after.next_run = self.first_run(&after, last.map_or(at, |last| last.max(at)), faults)?;
        }
        Some(after)
    }

    /// The first time after `at`; a schedule that would never run is a fault. `None` where its expression is one.
    fn first_run(&self, schedule: &Schedule, at: Timestamp, faults: &mut Faults) -> Option<Option<Timestamp>> {
        let cron = match cron(schedule) {
            Ok(cron) => cron,
            Err((field, why)) => {
                let given = if field == "cron" { &schedule.cron } else { &schedule.zone };
                faults.add(field, Some(given), &format!("odp.schedule.{field}.invalid"), why);
                return None;
            }
        };
        if !schedule.enabled {
            return Some(None);
        }
        let next = next_run(schedule, &cron, at);
        if next.is_none() {
            let message = match schedule.ends {
                Some(ends) => format!("it names no time before {ends}"),
                None => "it names no time of the next four years".to_owned(),
            };
            faults.add("cron", Some(&schedule.cron), "odp.schedule.cron.never", message);
        }
        Some(next)
    }

    /// What is given, over a schedule.
    fn over(&self, schedule: &Schedule, faults: &mut Faults) -> Schedule {
        let mut over = schedule.clone();
        if let Some(name) = &self.name {
            over.name = name.trim().to_owned();
            if !(1..=128).contains(&over.name.chars().count()) || over.name.chars().any(char::is_control) {
                let rule = "1 to 128 characters, none of them a control character";
                faults.add("name", Some(name), "odp.schedule.name.invalid", rule);
            }
        }
        if let Some(cron) = &self.cron {
            over.cron = cron.trim().to_owned();
        }
        if let Some(zone) = &self.zone {
            over.zone = zone.trim().to_owned();
        }
        over.catch_up = self.catch_up(schedule, faults);
        if let Some(word) = &self.overlap {
            match word.parse() {
                Ok(overlap) => over.overlap = overlap,
                Err(()) => {
                    let known = Overlap::ALL.map(Overlap::as_str).join(", ");
                    faults.add(
                        "overlap",
                        Some(word),
                        "odp.schedule.overlap.unsupportedValue",
                        format!("one of {known}"),
                    );
                }
            }
        }
        let mut bound = |name: &str, given: &Option<String>, bound: &mut Option<Timestamp>| match given.as_deref() {
            None => {}
            Some("") => *bound = None,
            Some(text) => match text.parse::<Timestamp>() {
                Ok(time) => *bound = Some(super::stored(time)),
                Err(_) => {
                    let rule = "a date with time, such as 2026-11-01T00:00:00Z";
                    faults.add(name, Some(text), &format!("odp.schedule.{name}.invalid"), rule);
                }
            },
        };
        bound("startDate", &self.starts, &mut over.starts);
        bound("endDate", &self.ends, &mut over.ends);
        if over.starts.zip(over.ends).is_some_and(|(starts, ends)| starts > ends) {
            faults.add("endDate", self.ends.as_deref(), "odp.schedule.endDate.invalid", "it is before startDate");
        }
        over.enabled = self.enabled.unwrap_or(schedule.enabled);
        if let Some(job) = &self.job {
            over.request = job.clone();
            if job.parameters.iter().any(|parameter| parameter.name == "run_after") {
                let rule = "a schedule's jobs run after times; `overlap` says what becomes of an earlier one";
                faults.add("run_after", None, "odp.schedule.runAfter.unsupported", rule);
            }
        }
        over
    }

    fn catch_up(&self, schedule: &Schedule, faults: &mut Faults) -> CatchUp {
        let given = self.catch_up_limit.map(|limit| limit.to_string());
        let all = match &self.catch_up {
            Some(word) => word == "all",
            None => schedule.catch_up > CatchUp::LATEST,
        };
        let limit = self.catch_up_limit.map_or(Some(DEFAULT_CATCH_UP), |limit| u32::try_from(limit).ok());
        let limit = limit.filter(|limit| (1..=MOST_CATCH_UP).contains(limit));
        if given.is_some() && (!all || limit.is_none()) {
            let rule = format!("a whole number from 1 to {MOST_CATCH_UP}, where catchUp is all");
            faults.add("catchUpLimit", given.as_deref(), "odp.schedule.catchUpLimit.invalid", rule);
        }
        match self.catch_up.as_deref() {
            Some("skip") => CatchUp::SKIP,
            Some("latest") => CatchUp::LATEST,
            Some("all") => CatchUp(limit.unwrap_or(DEFAULT_CATCH_UP)),
            Some(word) => {
                let rule = "one of skip, latest, all";
                faults.add("catchUp", Some(word), "odp.schedule.catchUp.unsupportedValue", rule);
                schedule.catch_up
            }
            None if given.is_some() && all => CatchUp(limit.unwrap_or(DEFAULT_CATCH_UP)),
            None => schedule.catch_up,
        }
    }
}

/// The expression of a schedule in its zone; else which of the two is wrong, and why.
pub(super) fn cron(schedule: &Schedule) -> Result<Cron, (&'static str, String)> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    let zone = &schedule.zone;
    let found = match (1..=64).contains(&zone.len()) && zone.chars().all(is_fine) {
        true => TimeZone::get(zone).ok(),
        false => None,
    };
    let zone =
        found.ok_or_else(|| ("timezone", "a time zone of the IANA database, such as Europe/Paris".to_owned()))?;
    Cron::parse(&schedule.cron, zone).map_err(|fault| ("cron", fault.0))
}

/// The first time of a schedule after `after`, within its bounds.
pub(super) fn next_run(schedule: &Schedule, cron: &Cron, after: Timestamp) -> Option<Timestamp> {
    // A time at the very start counts.
    let start = schedule.starts.and_then(|starts| starts.checked_sub(SignedDuration::from_micros(1)).ok());
    let next = cron.next_after(start.map_or(after, |start| start.max(after)))?;
    schedule.ends.is_none_or(|ends| next <= ends).then_some(next)
}

const DEFAULT_CATCH_UP: u32 = 10;
const MOST_CATCH_UP: u32 = 100;
