//! The wire between the warden and its callers: a length, a JSON message of a bounded size, descriptors beside it.

use std::{
    io::{IoSlice, IoSliceMut, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use model::{Cores, EngineVersion, MiB, NodeName, SandboxId, Sizing};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Error;

/// A sandbox to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxSpec {
    /// Job and attempt.
    pub id: SandboxId,
    /// The engine that its containers see at `/opt/spark`.
    pub engine: EngineVersion,
    /// The most that its containers may have.
    pub sizing: Sizing,
}

/// A sandbox that stands.
#[derive(Debug)]
pub struct SandboxHandle {
    /// The shim's control socket.
    pub control: PathBuf,
    /// The object gate's listener, 127.0.0.1:9000 inside the job's network.
    pub objects: std::net::TcpListener,
}

/// One sandbox of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// Job and attempt.
    pub id: SandboxId,
    /// Whether its shim lives. Where it does not, nothing is left of the sandbox but its name and its spool.
    pub shim_alive: bool,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Its sandbox.
    pub id: SandboxId,
    /// Its node: one container each.
    pub node: NodeName,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory: below `/work` or `/scratch`.
    pub cwd: String,
    /// Processor quota.
    pub cores: Cores,
    /// Memory limit, swap included.
    pub memory: MiB,
    /// Size of the node's volume.
    pub storage: MiB,
}

/// Where a container's output and exit go: the writing ends.
#[derive(Debug)]
pub struct ContainerIo {
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// Gets one line of JSON, a [`ContainerExit`], then is closed.
    pub exit: OwnedFd,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// Signal, if it was killed.
    pub signal: Option<i32>,
    /// Whether the kernel killed something in it for want of memory.
    pub oom: bool,
    /// Whether its volume was full at some moment.
    pub storage_full: bool,
}

/// A signal for a container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    CreateSandbox(SandboxSpec),
    DestroySandbox(SandboxId),
    ListSandboxes,
    RemoveSpool(SandboxId),
    StartContainer(ContainerSpec),
    SignalContainer(SandboxId, NodeName, StopSignal),
    RemoveContainer(SandboxId, NodeName),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Created { control: PathBuf },
    Sandboxes(Vec<SandboxState>),
    Refused(String),
    NotFound(String),
    Ended(String),
    Failed { doing: String, cause: String },
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        match error {
            Error::Refused(why) => Reply::Refused(why),
            Error::NotFound(what) => Reply::NotFound(what),
            Error::Ended(what) => Reply::Ended(what),
            Error::Failed { doing, cause } => Reply::Failed { doing, cause },
            Error::Connection(why) => Reply::Failed { doing: "connection".into(), cause: why },
        }
    }
}

/// Sends one message; the descriptors travel with its length.
pub(crate) fn send<T: Serialize>(stream: &mut UnixStream, message: &T, fds: &[RawFd]) -> Result<(), Error> {
    let body = serde_json::to_vec(message).map_err(connection)?;
    if body.len() > MAX_MESSAGE {
        return Err(Error::Refused(format!("the message has {} bytes, the bound is {MAX_MESSAGE}", body.len())));
    }
    let length = u32::try_from(body.len()).map_err(connection)?.to_le_bytes();
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&length)], control, MsgFlags::MSG_NOSIGNAL, None)
        .map_err(connection)?;
    stream.write_all(&length[sent..]).and_then(|()| stream.write_all(&body)).map_err(connection)
}

/// Receives one message and its descriptors; `None` where the peer has closed.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> Result<Option<(T, Vec<OwnedFd>)>, Error> {
    let mut length = [0_u8; 4];
    let mut fds = Vec::new();
    let got = {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut parts = [IoSliceMut::new(&mut length)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .map_err(connection)?;
        for control in message.cmsgs().map_err(connection)? {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
                fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        message.bytes
    };
    if got == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[got..]).map_err(connection)?;
    let size = u32::from_le_bytes(length) as usize;
    if size > MAX_MESSAGE {
        return Err(Error::Refused(format!("a message of {size} bytes, the bound is {MAX_MESSAGE}")));
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).map_err(connection)?;
    let message = serde_json::from_slice(&body).map_err(|cause| Error::Refused(format!("not a message: {cause}")))?;
    Ok(Some((message, fds)))
}

pub(crate) fn connection(cause: impl std::fmt::Display) -> Error {
    Error::Connection(cause.to_string())
}

/// More than a driver's arguments and environment need.
pub(crate) const MAX_MESSAGE: usize = 512 * 1024;
const MAX_FDS: usize = 4;
