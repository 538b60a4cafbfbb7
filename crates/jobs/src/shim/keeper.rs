//! Keeps the state of the attempt on disk, one change after the other.

use std::{path::PathBuf, time::Duration};

use tokio::sync::Mutex;

use crate::spool::{Error, State, write_state};

/// The state, and where it is kept.
pub struct Keeper {
    dir: PathBuf,
    state: Mutex<State>,
}

impl Keeper {
    /// Keeps `state` in `dir`; nothing is written yet.
    pub fn new(dir: PathBuf, state: State) -> Keeper {
        Keeper { dir, state: Mutex::new(state) }
    }

    /// Changes the state; returns once that is durable. Changes become durable in the order of the calls.
    pub async fn save(&self, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        change(&mut state);
        let (dir, copy) = (self.dir.clone(), state.clone());
        tokio::task::spawn_blocking(move || write_state(&dir, &copy)).await.unwrap_or_else(|cause| {
            let cause = std::io::Error::other(cause);
            Err(Error::File { doing: "write", file: "the state".into(), cause })
        })
    }

    /// The same for what has happened and cannot be taken back: tries for a while, as until a full disk has room.
    pub async fn insist(&self, change: impl FnOnce(&mut State)) {
        let mut outcome = self.save(change).await;
        for _ in 0..TRIES {
            let Err(cause) = outcome else { return };
            tracing::error!(%cause, "the state of the attempt is not durable yet");
            tokio::time::sleep(Duration::from_secs(1)).await;
            outcome = self.save(|_| {}).await;
        }
    }
}

const TRIES: usize = 120;
