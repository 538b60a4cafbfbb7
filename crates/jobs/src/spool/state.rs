//! The state of an attempt on disk: what `serve` believes when the shim is dead.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use model::SandboxId;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::control::{End, Phase};

/// What is known durably of an attempt. No state at all means that the shim never got its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The attempt.
    pub id: SandboxId,
    /// Its phase. `Ended` is written once the logs are uploaded.
    pub phase: Phase,
    /// Whether user code may have been started: durable before it is, so `false` proves that it never was.
    pub user_code: bool,
    /// How the driver ended, durable before the upload of the logs begins.
    pub outcome: Option<End>,
}

impl State {
    /// How the attempt ended, whether or not its logs were uploaded before the shim died.
    pub fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => self.outcome.as_ref(),
        }
    }
}

/// Writes the state so that after a crash either the old or the new one is there, whole.
pub fn write_state(dir: &Path, state: &State) -> Result<(), Error> {
    let fault = |doing| move |cause| Error::File { doing, file: NAME.into(), cause };
    let text = serde_json::to_vec(state).map_err(|cause| fault("encode")(cause.into()))?;
    let part = dir.join(PART);
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o640).open(&part).map_err(fault("create"))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(fault("write"))?;
    fs::rename(&part, dir.join(NAME)).map_err(fault("rename"))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fault("sync"))
}

/// The state in `dir`; `None` where none was ever written.
pub fn read_state(dir: &Path) -> Result<Option<State>, Error> {
    let fault = |cause| Error::File { doing: "read", file: NAME.into(), cause };
    // The shim's user made it: a link is not followed, a pipe is not waited for.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(dir.join(NAME)) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(fault(cause)),
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(fault)?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|cause| Error::Damaged { file: NAME.into(), why: cause.to_string() })
}

pub(super) const NAME: &str = "state.json";
const PART: &str = "state.json.part";
/// The shim's user writes the file; `serve` does not read more of it than a state has.
const LONGEST: u64 = 64 * 1024;
