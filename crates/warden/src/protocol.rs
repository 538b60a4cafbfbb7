//! The wire between the warden and its callers: a word, a JSON message of a bounded size, descriptors beside it. The
//! word, little endian, is the length of the message and in its highest byte the [`VERSION`] of what is said. A shim may
//! be older than the warden that it calls; the rule for a change: docs/upgrade.md.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use model::{Cores, EngineVersion, MiB, NodeName, SandboxId, Sizing};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
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
    /// Whether its shim lives. Where it does not, nothing is left of the sandbox but its name and its spool, or what
    /// cannot be removed yet: destroying it says so.
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
    let length = (u32::try_from(body.len()).map_err(connection)? | VERSION << VERSION_SHIFT).to_le_bytes();
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&length)], control, MsgFlags::MSG_NOSIGNAL, None)
        .map_err(connection)?;
    stream.write_all(&length[sent..]).and_then(|()| stream.write_all(&body)).map_err(connection)
}

/// Answers a message that was not read to its end, then reads on until the peer has sent all, as far as `patience` and the
/// longest message allow: a peer whose writing fails might not look for the answer.
pub(crate) fn refuse(stream: &mut UnixStream, why: String, patience: Duration) -> Result<(), Error> {
    let started = Instant::now();
    send(stream, &Reply::Refused(why), &[])?;
    stream.shutdown(Shutdown::Write).map_err(connection)?;
    let (mut rest, mut unread) = ([0; 8 * 1024], 1_usize << VERSION_SHIFT);
    while unread > 0 && started.elapsed() < patience {
        match stream.read(&mut rest) {
            Ok(0) => break,
            Ok(length) => unread = unread.saturating_sub(length),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(connection(cause)),
        }
    }
    Ok(())
}

/// Receives one message and its descriptors; `None` where the peer has closed.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> Result<Option<(T, Vec<OwnedFd>)>, Error> {
    let mut length = [0_u8; 4];
    let (got, fds) = receive_part(stream, &mut length)?;
    if got == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[got..]).map_err(connection)?;
    let word = u32::from_le_bytes(length);
    let (version, size) = (word >> VERSION_SHIFT, (word & ((1 << VERSION_SHIFT) - 1)) as usize);
    if version != VERSION {
        return Err(Error::Refused(format!(
            "version {version} of the warden's protocol, and this process speaks version {VERSION}"
        )));
    }
    if size > MAX_MESSAGE {
        return Err(Error::Refused(format!("a message of {size} bytes, the bound is {MAX_MESSAGE}")));
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).map_err(connection)?;
    let message = serde_json::from_slice(&body).map_err(|cause| Error::Refused(format!("not a message: {cause}")))?;
    Ok(Some((message, fds)))
}

/// Reads what has come, at most as much as `bytes` holds, and the descriptors beside it. By hand: where more of them
/// come than there is room for, the kernel has made some already, and they must be closed, or a caller uses up all of
/// ours.
fn receive_part(stream: &UnixStream, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Error> {
    // A header and four descriptors.
    let mut space = [0_u64; 4];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is numbers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&space);
    // SAFETY: the call writes to what `message` points at, within the lengths that it says; all of that outlives it.
    let got = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let got = usize::try_from(got).map_err(|_| connection(io::Error::last_os_error()))?;
    let mut fds = Vec::new();
    // SAFETY: the headers are those that the kernel wrote into `space`, walked over as libc says; descriptors are read
    // whatever their alignment is. The kernel has just made them for us; nobody else owns them.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(&raw const message);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_SOCKET && (*control).cmsg_type == libc::SCM_RIGHTS {
                let length = (*control).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let first = libc::CMSG_DATA(control).cast::<RawFd>();
                for index in 0..length / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(first.add(index).read_unaligned()));
                }
            }
            control = libc::CMSG_NXTHDR(&raw const message, control);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Error::Refused("more descriptors than any call takes".into()));
    }
    Ok((got, fds))
}

pub(crate) fn connection(cause: impl std::fmt::Display) -> Error {
    Error::Connection(cause.to_string())
}

/// The version of this protocol. It grows with each change that a process of before would not understand.
pub(crate) const VERSION: u32 = 1;
const VERSION_SHIFT: u32 = 24;
/// More than a driver's arguments and environment need.
pub(crate) const MAX_MESSAGE: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_another_version_is_refused_and_says_so() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
        let body = br#""ListSandboxes""#;
        let word = (u32::try_from(body.len()).expect("short") | (VERSION + 1) << VERSION_SHIFT).to_le_bytes();
        theirs.write_all(&[&word[..], body].concat()).expect("sent");
        let refused = receive::<Request>(&mut ours).expect_err("another version");
        assert_eq!(
            refused.to_string(),
            "refused: version 2 of the warden's protocol, and this process speaks version 1"
        );
    }

    #[test]
    fn who_is_refused_before_its_message_was_read_can_send_it_all_and_is_told_why() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
        let refusing = std::thread::spawn(move || {
            let Err(Error::Refused(why)) = receive::<Request>(&mut ours) else { panic!("it was not refused") };
            refuse(&mut ours, why, Duration::from_secs(60))
        });
        // More than the socket takes in unread, of another version.
        let body = vec![b' '; 8 * 1024 * 1024];
        let word = (u32::try_from(body.len()).expect("fits") | (VERSION + 1) << VERSION_SHIFT).to_le_bytes();
        theirs.write_all(&word).and_then(|()| theirs.write_all(&body)).expect("all was sent");
        theirs.shutdown(Shutdown::Write).expect("still connected");
        match receive::<Reply>(&mut theirs) {
            Ok(Some((Reply::Refused(why), _))) => assert!(why.starts_with("version 2 "), "{why}"),
            other => panic!("{other:?}"),
        }
        refusing.join().expect("no panic").expect("answered");
    }

    #[test]
    fn descriptors_come_with_their_message_and_too_many_are_closed() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
        for (count, fits) in [(0, true), (1, true), (4, true), (6, false)] {
            let (mut reader, writer) = io::pipe().expect("a pipe");
            send(&mut theirs, &Request::ListSandboxes, &vec![writer.as_raw_fd(); count]).expect("sent");
            drop(writer);
            match receive::<Request>(&mut ours) {
                Ok(Some((Request::ListSandboxes, fds))) => assert!(fits && fds.len() == count, "{count}"),
                other => assert!(!fits && matches!(other, Err(Error::Refused(_))), "{count}: {other:?}"),
            }
            assert_eq!(reader.read(&mut [0; 1]).expect("read"), 0, "nobody holds the other end any more");
        }
    }
}
