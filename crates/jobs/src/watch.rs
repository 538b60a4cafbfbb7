//! One attempt from the building of its sandbox to the end of it. [`Attempt::advance`] looks at what there is and goes
//! on from there, so that it does not matter which process came how far before: each step is either done or can be
//! done again.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use audit::Entry;
use futures::StreamExt as _;
use model::{Blame, EndReason, FORCE_AFTER, Job, JobId, JobStatus, LONGEST_UPLOAD, SandboxId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use model::chain;

use crate::{
    Environment, Error, Inner, JobKeys,
    control::{self, Client, End, Phase, Start, StopReason},
    environment::{self, NotReady},
    record, salvage,
    spool::{self, State, read_state},
    surroundings::Beside as _,
};

/// Watches over an attempt until nothing of it stands, or until `stop`.
pub(crate) async fn watch(jobs: Arc<Inner>, seat: Seat, stop: CancellationToken) {
    let id = seat.id;
    let asked = seat.asked.clone();
    let mut attempt =
        Attempt { jobs: &jobs, id, sandbox: id, asked, deadline: None, failing: None, uploads: 0, uploaded: None };
    let mut pause = SHORTEST_PAUSE;
    loop {
        let outcome = tokio::select! {
            // Dropping what is under way is no worse than being killed in it.
            () = stop.cancelled() => return,
            outcome = attempt.advance() => outcome,
        };
        match outcome {
            Ok(Outcome::Closed) => break,
            Ok(Outcome::Again) => pause = SHORTEST_PAUSE,
            Err(cause) => {
                tracing::warn!(%id, cause = %chain(&cause), "an attempt does not advance; trying again");
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
    drop(seat);
    jobs.wake.notify_one();
}

enum Outcome {
    /// Nothing of the attempt stands any more.
    Closed,
    /// Something has changed; look again.
    Again,
}

struct Attempt<'a> {
    jobs: &'a Inner,
    id: SandboxId,
    /// Its sandbox: of its own name, or one that waited for it.
    sandbox: SandboxId,
    /// Cancelled when a caller asks the job to stop.
    asked: CancellationToken,
    /// When an attempt that was asked to stop is stopped by force.
    deadline: Option<Instant>,
    /// Since when building the sandbox has failed.
    failing: Option<Instant>,
    /// How often uploading what a dead shim left of the log has failed.
    uploads: u32,
    /// What to record of that upload with the attempt's end.
    uploaded: Option<Entry>,
}

impl Attempt<'_> {
    async fn advance(&mut self) -> Result<Outcome, Error> {
        let parts = &self.jobs.parts;
        let job = db::jobs::find(&parts.db, self.id.job).await?.ok_or(Error::NotFound)?;
        let attempt = db::jobs::find_attempt(&parts.db, self.id).await?.ok_or(Error::NotFound)?;
        self.sandbox = db::jobs::sandbox_of(&parts.db, self.id).await?;
        if attempt.ended.is_some() || job.status.is_final() || job.attempt != self.id.attempt.0 {
            return self.close().await;
        }
        let stopping = job.status == JobStatus::Cancelling;
        if stopping && self.is_overdue().await? {
            return self.lose(&job, "it did not stop when asked").await;
        }
        if job.status == JobStatus::Submitted && job.deadline().is_some_and(|deadline| record::now() >= deadline) {
            return self.give_up_start(&job).await;
        }
        match self.state().await? {
            Some(state) if matches!(state.phase, Phase::Ended(_)) => return self.end_by(&state).await,
            // It was started. Only its own shim may go on with it: another would start its code a second time.
            Some(state) if !matches!(state.phase, Phase::Waiting) => {
                if let Phase::Running { started } = state.phase {
                    // Also where its shim is not heard.
                    record::started(self.jobs, self.id, started).await?;
                }
                let standing = parts.warden.list_sandboxes().await?;
                if !standing.iter().any(|found| found.id == self.sandbox && found.shim_alive) {
                    return self.take_up_dead(&job).await;
                }
            }
            _ if stopping => return self.void("it was cancelled before it was started").await,
            _ if parts.engines.find(&job.spec.version).is_none() => {
                if !self.never_starts().await? {
                    return Ok(Outcome::Again);
                }
                let detail = format!("Spark {} is not installed any more", job.spec.version);
                return self.end(&self.end_now(EndReason::Platform { detail }, model::LOST)).await;
            }
            _ => {}
        }
        self.enter(&job).await
    }

    /// Builds the sandbox, or finds it again, and listens to its shim.
    async fn enter(&mut self, job: &Job) -> Result<Outcome, Error> {
        let parts = &self.jobs.parts;
        let keys = async {
            let keys = parts.surroundings.open_keys(&job.project, self.id, &job.spec).await;
            let keys = keys.beside("making keys of an attempt")?;
            fail::fail_point!("job.keys.opened");
            parts.surroundings.ensure_log_bucket(&job.project).await.beside("making the bucket of logs")?;
            Ok::<_, Error>(keys)
        };
        let spec = warden::SandboxSpec { id: self.sandbox, engine: job.spec.version.clone(), sizing: job.spec.sizing };
        let (keys, sandbox) = tokio::join!(keys, parts.warden.create_sandbox(&spec));
        let keys = keys?;
        let handle = match sandbox {
            Ok(handle) => handle,
            Err(warden::Error::Ended(_)) => return self.take_up_dead(job).await,
            Err(cause @ warden::Error::Connection(_)) => return Err(cause.into()),
            Err(cause) => return self.build_failed(cause).await,
        };
        self.failing = None;
        fail::fail_point!("job.sandbox.created");
        parts.surroundings.open_gate(self.id, handle.objects).beside("opening the object gate")?;
        fail::fail_point!("job.gate.opened");
        let client = match Client::connect(&handle.control).await {
            // It was started by another Casemate. What it has begun, it brings to an end that its state file tells; what
            // it has not begun, a shim of now does.
            Err(cause @ control::Error::Version { .. }) => match self.state().await? {
                Some(_) => return Err(cause.into()),
                None => return self.void(&cause.to_string()).await,
            },
            client => client?,
        };
        self.follow(job, &client, keys).await
    }

    /// Does what the shim's phases ask for until it has ended or is not heard any more.
    async fn follow(&mut self, job: &Job, client: &Client, keys: JobKeys) -> Result<Outcome, Error> {
        // The stream keeps a phase that is half read while something else happens.
        let phases = futures::stream::unfold(client.watch().await?, |mut watch| async move {
            let next = watch.next().await;
            Some((next, watch))
        });
        tokio::pin!(phases);
        let asked = self.asked.clone();
        let mut reminder = tokio::time::interval(REMIND_EVERY);
        reminder.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = job.status == JobStatus::Cancelling;
        let left = job.deadline().and_then(|at| Duration::try_from(at.duration_since(record::now())).ok());
        let mut starting = job.status == JobStatus::Submitted;
        let start_by = tokio::time::sleep(left.unwrap_or_default());
        tokio::pin!(start_by);
        loop {
            tokio::select! {
                phase = phases.next() => match phase {
                    None | Some(Err(_)) => return Ok(Outcome::Again),
                    Some(Ok(Phase::Waiting)) if asked.is_cancelled() => return Ok(Outcome::Again),
                    Some(Ok(Phase::Waiting)) => {
                        let environment = tokio::select! {
                            () = asked.cancelled() => return Ok(Outcome::Again),
                            () = start_by.as_mut(), if starting => return Ok(Outcome::Again),
                            environment = environment::ready(self.jobs, job) => environment,
                        };
                        match environment {
                            Ok(environment) => self.start(job, client, &keys, environment).await?,
                            Err(NotReady::Error(cause)) => return Err(cause),
                            // Nothing was handed to the shim, so no user code was started.
                            Err(NotReady::Ends(reason)) => {
                                let code = if reason.blame() == Blame::Platform { model::LOST } else { 1 };
                                return self.end(&self.end_now(reason, code)).await;
                            }
                        }
                    }
                    Some(Ok(Phase::Starting)) => {}
                    Some(Ok(Phase::Running { started })) => {
                        starting = false;
                        fail::fail_point!("job.running.seen");
                        record::started(self.jobs, self.id, started).await?;
                        fail::fail_point!("job.running.committed");
                    }
                    Some(Ok(Phase::Ended(end))) => return self.end(&end).await,
                },
                () = asked.cancelled(), if !stopping => {
                    stopping = true;
                    reminder.reset_immediately();
                }
                () = start_by.as_mut(), if starting => return Ok(Outcome::Again),
                _ = reminder.tick(), if stopping => {
                    if self.is_overdue().await? {
                        return Ok(Outcome::Again);
                    }
                    client.stop(StopReason::Cancelled).await?;
                }
            }
        }
    }

    /// Hands the attempt to its shim. From here on, only the shim decides whether user code is started.
    async fn start(&self, job: &Job, client: &Client, keys: &JobKeys, environment: Environment) -> Result<(), Error> {
        let parts = &self.jobs.parts;
        let Some(engine) = parts.engines.find(&job.spec.version) else { return Err(Error::NotFound) };
        let place = db::jobs::log_place(&parts.db, self.id).await?.ok_or(Error::NotFound)?;
        // That of the project, for which the gate wants its requests to be signed.
        let project = db::accounts::find_project(&parts.db, &job.project).await?.ok_or(Error::NoProject)?;
        let region = project.region_among(&parts.config.regions).unwrap_or(&job.spec.region).clone();
        let start = Start {
            id: self.id,
            sandbox: Some(self.sandbox).filter(|sandbox| *sandbox != self.id),
            project: job.project.clone(),
            spec: job.spec.clone(),
            engine,
            keys: keys.clone(),
            log_key: parts.keys.unwrap(&job.project, record::LOG_KEY, &place.wrapped_key)?,
            region,
            environment,
        };
        let waited = start.sandbox.is_some();
        fail::fail_point!("job.start.prepared");
        if waited {
            fail::fail_point!("warm.start.prepared");
        }
        client.start(&start).await?;
        fail::fail_point!("job.start.sent");
        if waited {
            fail::fail_point!("warm.start.sent");
        }
        Ok(())
    }

    /// The shim is dead: what it left tells how the attempt ended.
    async fn take_up_dead(&mut self, job: &Job) -> Result<Outcome, Error> {
        match self.state().await? {
            Some(state) if state.end().is_some() => {
                self.save_log(job, &state).await?;
                self.end_by(&state).await
            }
            Some(state) if state.user_code => self.lose(job, "the process that watched over it ended").await,
            _ => self.void("the sandbox ended before the job was started").await,
        }
    }

    /// Whether an attempt that was asked to stop has had its time. One whose driver has ended brings its log into the
    /// bucket, which takes longer and is not cut off.
    async fn is_overdue(&mut self) -> Result<bool, Error> {
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + FORCE_AFTER);
        if Instant::now() < deadline {
            return Ok(false);
        }
        let uploads = self.state().await?.is_some_and(|state| state.end().is_some());
        Ok(!uploads || Instant::now() >= deadline + LONGEST_UPLOAD)
    }

    /// Stops the attempt by force, then takes what it left for its end.
    async fn lose(&mut self, job: &Job, why: &str) -> Result<Outcome, Error> {
        // First nothing of it may run any more, then it may be said to have ended.
        self.jobs.parts.surroundings.close_gate(self.id);
        self.jobs.parts.warden.destroy_sandbox(self.sandbox).await?;
        let state = self.state().await?;
        if let Some(state) = &state {
            self.save_log(job, state).await?;
        }
        if let Some(state) = state.as_ref().filter(|state| state.end().is_some()) {
            return self.end_by(state).await;
        }
        tracing::error!(id = %self.id, why, "an attempt was lost");
        let mut end = self.end_now(EndReason::Platform { detail: why.to_owned() }, model::LOST);
        end.started = match state.map(|state| state.phase) {
            Some(Phase::Running { started }) => Some(started),
            // The shim tells of a start before it has written it down.
            _ => db::jobs::find_attempt(&self.jobs.parts.db, self.id).await?.and_then(|attempt| attempt.started),
        };
        // It may have been dead for long: a machine that was off is not charged for.
        let spool = self.jobs.spool(self.sandbox);
        let sign = tokio::task::spawn_blocking(move || spool::last_sign(&spool)).await?;
        if let (Some(started), Some(sign)) = (end.started, sign) {
            end.ended = sign.max(started).min(end.ended);
        }
        self.end(&end).await
    }

    /// Brings what a dead shim left of the log to where its user looks for it, before the end is told. A store that does
    /// not take it is asked again, but does not keep the job from its end: the spool has the log for its time.
    async fn save_log(&mut self, job: &Job, state: &State) -> Result<(), Error> {
        if matches!(state.phase, Phase::Ended(_)) {
            // The shim has.
            return Ok(());
        }
        match salvage::upload(self.jobs, job, self.id).await {
            Err(cause) if self.uploads >= MOST_UPLOADS => {
                tracing::error!(id = %self.id, cause = %chain(&cause), "the log of an attempt is not uploaded");
                Ok(())
            }
            Err(cause) => {
                self.uploads += 1;
                Err(cause)
            }
            Ok(uploaded) => {
                self.uploaded = uploaded;
                Ok(())
            }
        }
    }

    /// The attempt did not come to run in its time. Made again where it provably never started user code.
    async fn give_up_start(&mut self, job: &Job) -> Result<Outcome, Error> {
        let why = "its sandbox was not built and its code not fetched within an hour";
        match self.never_starts().await? {
            true => self.voided(why).await,
            false => self.lose(job, why).await,
        }
    }

    /// The sandbox was not built. That is tried again for some time, then by another attempt.
    async fn build_failed(&mut self, cause: warden::Error) -> Result<Outcome, Error> {
        let since = *self.failing.get_or_insert_with(Instant::now);
        // What runs is not killed because it cannot be reached; its state file will tell of its end.
        if since.elapsed() < LONGEST_BUILDING || self.state().await?.is_some_and(|state| state.user_code) {
            return Err(cause.into());
        }
        self.void(&format!("its sandbox cannot be built: {cause}")).await
    }

    /// Gives up an attempt that was not started; looks again where it was after all.
    async fn void(&self, why: &str) -> Result<Outcome, Error> {
        match self.never_starts().await? {
            true => self.voided(why).await,
            false => Ok(Outcome::Again),
        }
    }

    /// Gives up an attempt of which nothing starts any more.
    async fn voided(&self, why: &str) -> Result<Outcome, Error> {
        record::voided(self.jobs, self.id, why).await?;
        self.close().await
    }

    /// Sees to it that nothing of the attempt can start any more, and says whether nothing has. Where its sandbox cannot be
    /// removed now it is enough that the shim in it is dead, for nobody builds it again; what is left takes its room.
    async fn never_starts(&self) -> Result<bool, Error> {
        let parts = &self.jobs.parts;
        parts.surroundings.close_gate(self.id);
        if let Err(cause) = parts.warden.destroy_sandbox(self.sandbox).await {
            let standing = parts.warden.list_sandboxes().await?;
            if standing.iter().any(|found| found.id == self.sandbox && found.shim_alive) {
                return Err(cause.into());
            }
        }
        Ok(self.state().await?.is_none_or(|state| !state.user_code && state.end().is_none()))
    }

    async fn end_by(&self, state: &State) -> Result<Outcome, Error> {
        match state.end() {
            Some(end) => self.end(end).await,
            None => Ok(Outcome::Again),
        }
    }

    async fn end(&self, end: &End) -> Result<Outcome, Error> {
        fail::fail_point!("job.end.seen");
        record::ended(self.jobs, self.id, end, self.uploaded.as_ref()).await?;
        fail::fail_point!("job.end.committed");
        self.close().await
    }

    /// Removes all that stands of an attempt that has ended; only then does it take no room.
    async fn close(&self) -> Result<Outcome, Error> {
        let parts = &self.jobs.parts;
        parts.surroundings.close_gate(self.id);
        fail::fail_point!("job.gate.closed");
        parts.warden.destroy_sandbox(self.sandbox).await?;
        fail::fail_point!("job.sandbox.destroyed");
        parts.surroundings.close_keys(self.id).await.beside("removing the keys of an attempt")?;
        fail::fail_point!("job.keys.closed");
        record::closed(self.jobs, self.id).await?;
        fail::fail_point!("job.attempt.closed");
        Ok(Outcome::Closed)
    }

    /// What the shim has written of the attempt; `None` where it was never started.
    async fn state(&self) -> Result<Option<State>, Error> {
        let dir = self.jobs.spool(self.sandbox);
        match tokio::task::spawn_blocking(move || read_state(&dir)).await? {
            // Another attempt's state in this place would be somebody's doing, and proves nothing of this one.
            // Before it was told its attempt, a shim knows the name of its sandbox alone, which no other attempt has.
            Ok(state) if state.as_ref().is_none_or(|state| [self.id, self.sandbox].contains(&state.id)) => Ok(state),
            // What cannot be read proves nothing either: user code may have been started.
            unreadable => {
                let cause = unreadable.err().map_or_else(|| "of another attempt".to_owned(), |cause| chain(&cause));
                tracing::error!(id = %self.id, cause, "the state of an attempt cannot be read");
                Ok(Some(State { id: self.id, phase: Phase::Starting, user_code: true, outcome: None }))
            }
        }
    }

    fn end_now(&self, reason: EndReason, return_code: i32) -> End {
        End { reason, return_code, started: None, ended: record::now() }
    }
}

impl Inner {
    /// Where the shim of a sandbox writes its log and its state.
    pub(crate) fn spool(&self, id: SandboxId) -> PathBuf {
        self.parts.config.spool.join(id.job.to_string()).join(id.attempt.to_string())
    }
}

/// The attempts that are watched over by this process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Live {
    seats: Arc<Mutex<HashMap<SandboxId, CancellationToken>>>,
}

impl Live {
    /// A place for the one task that watches over an attempt; `None` where there is one.
    pub(crate) fn enter(&self, id: SandboxId) -> Option<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.contains_key(&id) {
            return None;
        }
        let asked = CancellationToken::new();
        seats.insert(id, asked.clone());
        Some(Seat { id, asked, live: self.clone() })
    }

    /// Tells the task that watches over a job's attempt that the job was asked to stop.
    pub(crate) fn stop(&self, job: JobId) {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.iter().filter(|(id, _)| id.job == job).for_each(|(_, asked)| asked.cancel());
    }
}

/// The place of the one task that watches over an attempt, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    id: SandboxId,
    asked: CancellationToken,
    live: Live,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.live.seats.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

const REMIND_EVERY: Duration = Duration::from_secs(5);
/// Such as the machine being out of something for a while. Far below the time that an attempt has to start in.
const LONGEST_BUILDING: Duration = Duration::from_secs(300);
const MOST_UPLOADS: u32 = 6;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
