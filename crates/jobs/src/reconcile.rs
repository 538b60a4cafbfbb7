//! What an earlier process left: sandboxes of nobody, and spools that are old enough to go. Attempts that stand are
//! taken up by the scheduler.

use std::{path::Path, time::Duration};

use model::SandboxId;
use tokio_util::sync::CancellationToken;

use crate::{Error, Inner, record, spool::read_state, surroundings::Beside as _, watch};

/// Destroys sandboxes that no attempt of the database stands for: once, as soon as the warden answers.
pub(crate) async fn destroy_orphans(jobs: &Inner, stop: &CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = look_for_orphans(jobs) => outcome,
        };
        match outcome {
            Ok(()) => return,
            Err(cause) => tracing::warn!(cause = %watch::chain(&cause), "sandboxes cannot be checked; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

async fn look_for_orphans(jobs: &Inner) -> Result<(), Error> {
    for sandbox in jobs.parts.warden.list_sandboxes().await? {
        // An attempt is in the database before its sandbox is built, so that what is not there now is nobody's.
        if !db::jobs::stands(&jobs.parts.db, sandbox.id).await? {
            tracing::warn!(id = %sandbox.id, "destroying a sandbox that belongs to no attempt");
            jobs.parts.surroundings.close_gate(sandbox.id);
            jobs.parts.warden.destroy_sandbox(sandbox.id).await?;
            jobs.parts.surroundings.close_keys(sandbox.id).await.beside("removing the keys of an attempt")?;
        }
    }
    // Of sandboxes that waited for a job and went with the machine or with the service, spools are left that nothing was
    // written to.
    let dir = jobs.parts.config.spool.clone();
    for id in tokio::task::spawn_blocking(move || unused_spools(&dir)).await? {
        if !db::jobs::is_of_attempt(&jobs.parts.db, id).await? {
            jobs.parts.warden.remove_spool(id).await?;
        }
    }
    Ok(())
}

/// Spools without a state. One that cannot be looked into is none of these.
fn unused_spools(dir: &Path) -> Vec<SandboxId> {
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for job in names(dir) {
        for attempt in names(&dir.join(&job)) {
            let id = format!("{job}.{attempt}").parse::<SandboxId>();
            if let Ok(id) = id
                && matches!(read_state(&dir.join(&job).join(&attempt)), Ok(None))
            {
                found.push(id);
            }
        }
    }
    found
}

/// Removes spools whose time is over, some at a time.
pub(crate) async fn sweep_spools(jobs: &Inner, stop: &CancellationToken) {
    let retention = jobs.parts.config.log_retention;
    let mut clock = tokio::time::interval((retention / 2).clamp(SHORTEST_SWEEP, LONGEST_SWEEP));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = clock.tick() => {}
        }
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = sweep(jobs, retention) => outcome,
        };
        if let Err(cause) = outcome {
            tracing::warn!(cause = %watch::chain(&cause), "old spools cannot be removed; trying again later");
        }
    }
}

async fn sweep(jobs: &Inner, retention: Duration) -> Result<(), Error> {
    let Ok(before) = record::now().checked_sub(retention) else { return Ok(()) };
    loop {
        let old = db::jobs::spooled(&jobs.parts.db, before, BATCH).await?;
        let mut outcome = Ok(());
        for id in &old {
            // One that cannot be removed does not keep the others.
            if let Err(cause) = remove(jobs, *id).await {
                outcome = Err(cause);
            }
        }
        outcome?;
        if old.len() < BATCH as usize {
            return Ok(());
        }
    }
}

async fn remove(jobs: &Inner, id: SandboxId) -> Result<(), Error> {
    let sandbox = db::jobs::sandbox_of(&jobs.parts.db, id).await?;
    match jobs.parts.warden.remove_spool(sandbox).await {
        Ok(()) | Err(warden::Error::NotFound(_)) => {}
        Err(cause) => return Err(cause.into()),
    }
    let mut tx = jobs.parts.db.begin().await?;
    db::jobs::spool_removed(&mut tx, id, record::now()).await?;
    Ok(tx.commit().await?)
}

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);
const LONGEST_SWEEP: Duration = Duration::from_secs(60);
const BATCH: u32 = 100;
