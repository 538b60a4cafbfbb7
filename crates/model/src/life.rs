//! The life of a job: one pure function from a life and an event to the next life and what is to be done about it.
//! [`JobStatus::after`] says which status may follow which; here are attempts, their fencing, retries and ends.

use std::time::Duration;

use jiff::Timestamp;

use crate::{EndReason, IllegalTransition, Job, JobEvent, JobStatus, Retry, RetryCause};

/// What of a job decides what may become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it stands.
    pub status: JobStatus,
    /// The fencing number of its newest attempt; 0 before the first.
    pub attempt: u32,
    /// Whether the driver of that attempt was started.
    pub started: bool,
    /// How often it was tried again because the user asked for that, since the attempt `forgotten`.
    pub retried: u32,
    /// Attempts up to this number do not count any more: a later one ran long enough ([`Retry::reset`]).
    pub forgotten: u32,
    /// What was asked for in that case.
    pub retry: Option<Retry>,
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeEvent {
    /// The scheduler gives it room.
    RoomGiven,
    /// The driver of an attempt was started.
    DriverStarted {
        /// Which attempt.
        attempt: u32,
    },
    /// A caller asks it to stop.
    StopAsked,
    /// An attempt is over, and provably never started user code through no fault of the job.
    AttemptVoided {
        /// Which attempt.
        attempt: u32,
        /// What happened.
        why: String,
    },
    /// An attempt is over.
    AttemptEnded {
        /// Which attempt.
        attempt: u32,
        /// Why.
        reason: EndReason,
        /// The return code that its shim gives.
        return_code: i32,
        /// How long its user code ran.
        ran: Duration,
    },
    /// It waits and will not start, and is not tried again; changes nothing where it does not wait.
    Refused {
        /// Why: one of [`EndReason::CannotStart`], [`EndReason::Withdrawn`] and [`EndReason::NotStarted`].
        reason: EndReason,
    },
}

/// What is to be done because of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Build the attempt of this number.
    Build(u32),
    /// Tell the shim of this attempt to end, until it has.
    Stop(u32),
    /// Remove what stands of this attempt; it takes room until then.
    Remove(u32),
    /// Wait so long before the next attempt.
    Pause(Duration),
    /// The job has ended.
    End {
        /// Why.
        reason: EndReason,
        /// The return code to show: 0 for a job that completed, and only then.
        return_code: i32,
    },
}

impl Life {
    /// The life of a job that was just accepted.
    pub fn new(retry: Option<Retry>) -> Life {
        Life { status: JobStatus::Pending, attempt: 0, started: false, retried: 0, forgotten: 0, retry }
    }

    /// What becomes of it. An event of an attempt that is not its newest, or of a job that has ended, changes nothing:
    /// it came late or twice. What then still stands of the attempt is removed.
    pub fn after(&self, event: &LifeEvent) -> Result<(Life, Vec<Effect>), IllegalTransition> {
        let mut next = self.clone();
        let effects = match event {
            LifeEvent::RoomGiven => {
                next.status = self.status.after(JobEvent::AttemptMade)?;
                next.attempt = self.attempt.saturating_add(1);
                next.started = false;
                vec![Effect::Build(next.attempt)]
            }
            LifeEvent::DriverStarted { attempt } if self.is_current(*attempt) && !self.started => {
                next.status = self.status.after(JobEvent::DriverStarted)?;
                next.started = true;
                Vec::new()
            }
            LifeEvent::DriverStarted { .. } => Vec::new(),
            LifeEvent::StopAsked if self.status.is_final() => Vec::new(),
            LifeEvent::StopAsked => {
                next.status = self.status.after(JobEvent::StopAsked)?;
                match next.status.is_final() {
                    true => vec![Effect::End { reason: EndReason::Cancelled, return_code: STOPPED }],
                    false => vec![Effect::Stop(self.attempt)],
                }
            }
            LifeEvent::AttemptVoided { attempt, .. } | LifeEvent::AttemptEnded { attempt, .. }
                if !self.is_current(*attempt) =>
            {
                vec![Effect::Remove(*attempt)]
            }
            LifeEvent::AttemptVoided { attempt, why } => {
                let voided = self.attempt.saturating_sub(self.forgotten).saturating_sub(self.retried);
                if self.status == JobStatus::Submitted && voided < MOST_VOID {
                    next.status = self.status.after(JobEvent::AttemptVoided)?;
                    vec![Effect::Remove(*attempt)]
                } else {
                    // From here on it is one more loss, with the pause that the user gave for such.
                    let reason = EndReason::Platform { detail: format!("{why}, in {attempt} attempts") };
                    vec![next.again_or_end(&reason, LOST)?, Effect::Remove(*attempt)]
                }
            }
            LifeEvent::AttemptEnded { attempt, reason, return_code, ran } => {
                if self.retry.as_ref().is_some_and(|retry| retry.gives_back(*ran)) {
                    next.retried = 0;
                    next.forgotten = attempt.saturating_sub(1);
                }
                vec![next.again_or_end(reason, *return_code)?, Effect::Remove(*attempt)]
            }
            LifeEvent::Refused { .. } if self.status != JobStatus::Pending => Vec::new(),
            LifeEvent::Refused { reason } => vec![next.end(reason, 1)?],
        };
        Ok((next, effects))
    }

    /// Whether an attempt is the one that the job is in.
    fn is_current(&self, attempt: u32) -> bool {
        self.attempt == attempt && !self.status.is_final() && self.status != JobStatus::Pending
    }

    /// The pause before another attempt, where the user asked for one in this case; else the end.
    fn again_or_end(&mut self, reason: &EndReason, return_code: i32) -> Result<Effect, IllegalTransition> {
        let Some(pause) = self.pause_before_next(reason) else { return self.end(reason, return_code) };
        self.status = JobStatus::Pending;
        self.retried = self.retried.saturating_add(1);
        self.started = false;
        Ok(Effect::Pause(pause))
    }

    /// How long to wait before another attempt, where the user asked for one in this case.
    fn pause_before_next(&self, reason: &EndReason) -> Option<Duration> {
        let retry = self.retry.as_ref()?;
        let wanted = RetryCause::of(reason).is_some_and(|cause| retry.causes.contains(&cause));
        (wanted && self.status != JobStatus::Cancelling && self.retried < retry.attempts)
            .then(|| retry.pause(self.retried))
    }

    /// Ends by this reason. A job that did not complete never has the return code 0.
    fn end(&mut self, reason: &EndReason, return_code: i32) -> Result<Effect, IllegalTransition> {
        let status = match reason {
            EndReason::Exited { return_code } => {
                self.status.after(JobEvent::DriverEnded { return_code: *return_code })?
            }
            EndReason::Signalled { .. } | EndReason::OutOfMemory { .. } | EndReason::OutOfDisk { .. } => {
                self.status.after(JobEvent::DriverEnded { return_code: nonzero(return_code, LOST) })?
            }
            EndReason::CannotStart { .. }
            | EndReason::Withdrawn { .. }
            | EndReason::NotStarted { .. }
            | EndReason::Platform { .. } => self.status.after(JobEvent::Lost)?,
            // The time to live passes in the shim: for the job that is to be asked to stop, and to have stopped.
            EndReason::Cancelled | EndReason::TtlPassed => match self.status.after(JobEvent::StopAsked)? {
                stopping if stopping.is_final() => stopping,
                stopping => stopping.after(JobEvent::Stopped)?,
            },
        };
        let return_code = match (status, reason) {
            (JobStatus::Completed, _) => 0,
            // No code of a driver: it was not started, or nobody saw it end.
            (JobStatus::Terminated, EndReason::CannotStart { .. } | EndReason::Platform { .. }) => STOPPED,
            (JobStatus::Terminated, _) => nonzero(return_code, STOPPED),
            _ => nonzero(return_code, LOST),
        };
        let reason = match (reason, status) {
            (EndReason::TtlPassed, _) => EndReason::TtlPassed,
            // Whatever it ended by: it was asked to stop before.
            (_, JobStatus::Terminated) => EndReason::Cancelled,
            (reason, _) => reason.clone(),
        };
        self.status = status;
        Ok(Effect::End { reason, return_code })
    }
}

impl Job {
    /// What decides what may become of it.
    pub fn life(&self) -> Life {
        Life {
            status: self.status,
            attempt: self.attempt,
            started: self.started.is_some(),
            retried: self.retried,
            forgotten: self.forgotten,
            retry: self.spec.retry.clone(),
        }
    }

    /// Until when it stays in its status at the most; `None` for one that has ended, and for one that runs without a
    /// time to live: nobody set a bound.
    pub fn deadline(&self) -> Option<Timestamp> {
        let most = match self.status {
            JobStatus::Pending => LONGEST_WAIT,
            JobStatus::Submitted => LONGEST_START,
            JobStatus::Running => self.spec.ttl.as_ref()?.duration(),
            JobStatus::Cancelling => LONGEST_STOP,
            JobStatus::Failed | JobStatus::Terminated | JobStatus::Completed | JobStatus::Unknown => return None,
        };
        self.since.max(self.not_before).checked_add(most).ok()
    }
}

fn nonzero(code: i32, otherwise: i32) -> i32 {
    if code == 0 { otherwise } else { code }
}

/// An attempt that cannot be started is made again, but not for ever.
const MOST_VOID: u32 = 5;
/// Return code of a job that the platform lost.
pub const LOST: i32 = 255;
/// Return code of what SIGTERM ended: 128 + 15.
const STOPPED: i32 = 143;
/// A job that had no room for so long is given up.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30 * 86_400);
/// How long the building of a sandbox and the fetching of the code may take.
pub const LONGEST_START: Duration = Duration::from_secs(3600);
/// A shim gives its driver some time to end by itself; then `serve` ends both.
pub const FORCE_AFTER: Duration = Duration::from_secs(40);
/// Longer than a shim tries to upload what is left of a log.
pub const LONGEST_UPLOAD: Duration = Duration::from_secs(660);
/// From the wish to stop to the end, at the most, while `serve` and the warden are up.
const LONGEST_STOP: Duration = Duration::from_secs(FORCE_AFTER.as_secs() + LONGEST_UPLOAD.as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    /// Every life that there can be, as far as it matters: all statuses, before and after a start, with and without retries left.
    fn lives() -> Vec<Life> {
        let retry = Retry {
            attempts: 2,
            causes: RetryCause::ALL.to_vec(),
            backoff: Duration::from_secs(10),
            reset: Some(STABLE),
        };
        let mut all = Vec::new();
        for status in JobStatus::ALL {
            for attempt in [0, 1, 2, 5, u32::MAX] {
                for started in [false, true] {
                    let possible = match status {
                        JobStatus::Pending => !started,
                        JobStatus::Submitted => !started && attempt > 0,
                        JobStatus::Running => started && attempt > 0,
                        _ => attempt > 0 || !started,
                    };
                    if !possible {
                        continue;
                    }
                    for retried in [0, 2] {
                        for retry in [None, Some(retry.clone())] {
                            all.push(Life { status, attempt, started, retried, forgotten: 0, retry });
                        }
                    }
                }
            }
        }
        all
    }

    fn reasons() -> Vec<EndReason> {
        let detail = || "why".to_owned();
        vec![
            EndReason::Exited { return_code: 0 },
            EndReason::Exited { return_code: 7 },
            EndReason::Signalled { signal: 9 },
            EndReason::OutOfMemory { detail: detail() },
            EndReason::OutOfDisk { detail: detail() },
            EndReason::CannotStart { detail: detail() },
            EndReason::Withdrawn { detail: detail() },
            EndReason::NotStarted { detail: detail() },
            EndReason::Cancelled,
            EndReason::TtlPassed,
            EndReason::Platform { detail: detail() },
        ]
    }

    fn events(life: &Life) -> Vec<LifeEvent> {
        let mut all = vec![LifeEvent::RoomGiven, LifeEvent::StopAsked];
        let detail = || "too large".to_owned();
        for reason in [
            EndReason::CannotStart { detail: detail() },
            EndReason::Withdrawn { detail: detail() },
            EndReason::NotStarted { detail: detail() },
        ] {
            all.push(LifeEvent::Refused { reason });
        }
        for attempt in [life.attempt, life.attempt.wrapping_sub(1)] {
            all.push(LifeEvent::DriverStarted { attempt });
            all.push(LifeEvent::AttemptVoided { attempt, why: "gone".to_owned() });
            for reason in reasons() {
                for (return_code, ran) in [(0, Duration::ZERO), (7, Duration::ZERO), (7, STABLE)] {
                    all.push(LifeEvent::AttemptEnded { attempt, reason: reason.clone(), return_code, ran });
                }
            }
        }
        all
    }

    /// What holds of every step from every life by every event.
    #[test]
    fn every_life_and_every_event_keep_the_laws() {
        let mut steps = 0;
        for life in lives() {
            for event in events(&life) {
                let Ok((next, effects)) = life.after(&event) else {
                    assert!(
                        matches!(event, LifeEvent::RoomGiven),
                        "only room comes from ourselves: {life:?} {event:?}"
                    );
                    continue;
                };
                steps += 1;
                let what = || format!("{life:?} {event:?} -> {next:?} {effects:?}");
                let ends = effects.iter().filter(|effect| matches!(effect, Effect::End { .. })).count();
                assert_eq!(
                    ends == 1,
                    next.status.is_final() && !life.status.is_final(),
                    "one end, told once: {}",
                    what()
                );
                if life.status.is_final() {
                    assert_eq!(next, life, "a final status never changes: {}", what());
                }
                for effect in &effects {
                    if let Effect::End { reason, return_code } = effect {
                        assert_eq!(*return_code == 0, next.status == JobStatus::Completed, "{}", what());
                        if life.status == JobStatus::Cancelling {
                            assert_eq!(next.status, JobStatus::Terminated, "{}", what());
                            assert!(matches!(reason, EndReason::Cancelled | EndReason::TtlPassed), "{}", what());
                        }
                    }
                }
                assert!(next.attempt == life.attempt || matches!(event, LifeEvent::RoomGiven), "{}", what());
                let builds = effects.iter().any(|effect| matches!(effect, Effect::Build(_)));
                assert!(!builds || life.status == JobStatus::Pending, "no attempt beside another: {}", what());
                let stale = match &event {
                    LifeEvent::DriverStarted { attempt }
                    | LifeEvent::AttemptVoided { attempt, .. }
                    | LifeEvent::AttemptEnded { attempt, .. } => *attempt != life.attempt,
                    _ => false,
                };
                assert!(!stale || next == life, "an old attempt changes nothing: {}", what());
                // Back to wait after user code only by the user's own wish, and never after a wish to stop.
                if life.status == JobStatus::Running && next.status == JobStatus::Pending {
                    let long = matches!(&event, LifeEvent::AttemptEnded { ran, .. } if *ran >= STABLE);
                    let counted = if long { 1 } else { life.retried + 1 };
                    assert!(life.retry.is_some() && next.retried == counted, "{}", what());
                }
                assert!(life.status != JobStatus::Cancelling || next.status != JobStatus::Pending, "{}", what());
                // The same message twice is one message.
                if !matches!(event, LifeEvent::RoomGiven) {
                    let (again, effects) = next.after(&event).expect("a doubled message is heard");
                    let repeated = matches!(event, LifeEvent::StopAsked) || again == next;
                    assert!(repeated, "{} -> {again:?}", what());
                    assert!(!effects.iter().any(|effect| matches!(effect, Effect::End { .. })), "{}", what());
                }
            }
        }
        assert!(steps > 2_000, "{steps}");
    }

    #[test]
    fn attempts_that_cannot_start_are_made_again_five_times_and_then_as_often_as_was_asked_for() {
        let retry = |cause| Retry { attempts: 2, causes: vec![cause], backoff: Duration::from_secs(10), reset: None };
        for (retry, made, pauses) in [
            (None, 5, vec![]),
            (Some(retry(RetryCause::Failed)), 5, vec![]),
            (Some(retry(RetryCause::Platform)), 7, vec![(5, 10), (6, 20)]),
        ] {
            let (mut life, mut paused) = (Life::new(retry), Vec::new());
            while life.status == JobStatus::Pending {
                life = life.after(&LifeEvent::RoomGiven).expect("waits").0;
                let attempt = life.attempt;
                let (next, effects) =
                    life.after(&LifeEvent::AttemptVoided { attempt, why: "no sandbox".into() }).expect("was made");
                paused.extend(effects.iter().filter_map(|effect| match effect {
                    Effect::Pause(pause) => Some((attempt, pause.as_secs())),
                    _ => None,
                }));
                life = next;
            }
            assert_eq!((life.status, life.attempt, paused), (JobStatus::Failed, made, pauses));
        }
    }

    #[test]
    fn only_named_causes_are_tried_again_and_not_for_ever() {
        let retry = Retry {
            attempts: 2,
            causes: vec![RetryCause::Platform],
            backoff: Duration::from_secs(10),
            reset: Some(STABLE),
        };
        let mut life = Life::new(Some(retry));
        let short = Duration::from_secs(5);
        let mut pauses = Vec::new();
        for attempt in 1..=3 {
            life = life.after(&LifeEvent::RoomGiven).expect("waits").0;
            life = life.after(&LifeEvent::DriverStarted { attempt }).expect("built").0;
            let (next, effects) = life.after(&lost(attempt, short)).expect("runs");
            pauses.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Pause(pause) => Some(pause.as_secs()),
                _ => None,
            }));
            life = next;
        }
        assert_eq!((life.status, life.attempt, pauses), (JobStatus::Failed, 3, vec![10, 20]));
        let other = Life { status: JobStatus::Running, attempt: 1, started: true, retried: 0, ..life };
        let exited = LifeEvent::AttemptEnded {
            attempt: 1,
            reason: EndReason::Exited { return_code: 1 },
            return_code: 1,
            ran: short,
        };
        assert_eq!(other.after(&exited).expect("runs").0.status, JobStatus::Failed);
    }

    #[test]
    fn what_waits_and_is_not_started_by_the_platform_ends_and_is_not_tried_again() {
        let retry =
            Retry { attempts: 2, causes: RetryCause::ALL.to_vec(), backoff: Duration::from_secs(10), reset: None };
        let reason = EndReason::NotStarted { detail: "the machine is smaller now".to_owned() };
        for attempt in [0, 1] {
            let waits = Life { attempt, ..Life::new(Some(retry.clone())) };
            let (next, effects) = waits.after(&LifeEvent::Refused { reason: reason.clone() }).expect("waits");
            assert_eq!(next.status, JobStatus::Failed);
            assert_eq!(effects, [Effect::End { reason: reason.clone(), return_code: 1 }]);
        }
    }

    /// A stream that is lost now and then over months goes on; one that cannot stay up ends.
    #[test]
    fn an_attempt_that_ran_long_enough_gives_the_retries_back() {
        let lives_through = |reset: Option<Duration>, runs: &[Duration]| {
            let retry =
                Retry { attempts: 2, causes: vec![RetryCause::Platform], backoff: Duration::from_secs(10), reset };
            let mut life = Life::new(Some(retry));
            let mut pauses = Vec::new();
            for (attempt, ran) in (1..).zip(runs) {
                life = life.after(&LifeEvent::RoomGiven).expect("waits").0;
                life = life.after(&LifeEvent::DriverStarted { attempt }).expect("built").0;
                let (next, effects) = life.after(&lost(attempt, *ran)).expect("runs");
                pauses.extend(effects.into_iter().filter_map(|effect| match effect {
                    Effect::Pause(pause) => Some(pause.as_secs()),
                    _ => None,
                }));
                life = next;
            }
            (life, pauses)
        };
        let (short, long) = (STABLE - Duration::from_secs(1), STABLE);
        let (life, pauses) = lives_through(Some(STABLE), &[short, short, long, short, long, long, short]);
        assert_eq!((life.status, life.retried, pauses), (JobStatus::Pending, 2, vec![10, 20, 10, 20, 10, 10, 20]));
        let (life, _) = lives_through(Some(STABLE), &[long, short, short]);
        assert_eq!(life.status, JobStatus::Failed, "two in a row, no more");
        let (life, _) = lives_through(None, &[long, long, long]);
        assert_eq!(life.status, JobStatus::Failed, "nobody asked for it");
        // However many attempts there were, five that never start user code are as many as at the beginning; after them comes
        // the one retry that is left.
        let (mut life, _) = lives_through(Some(STABLE), &[long; 20]);
        for attempt in 21..=26 {
            life = life.after(&LifeEvent::RoomGiven).expect("waits").0;
            let void = LifeEvent::AttemptVoided { attempt, why: "the machine".to_owned() };
            life = life.after(&void).expect("submitted").0;
            let expected = if attempt < 26 { JobStatus::Pending } else { JobStatus::Failed };
            assert_eq!(life.status, expected, "{attempt}");
        }
    }

    fn lost(attempt: u32, ran: Duration) -> LifeEvent {
        LifeEvent::AttemptEnded {
            attempt,
            reason: EndReason::Platform { detail: "the shim".into() },
            return_code: LOST,
            ran,
        }
    }

    const STABLE: Duration = Duration::from_secs(3600);
}
