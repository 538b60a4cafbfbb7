//! Messages over a Unix stream: four bytes of length, that many bytes of JSON, descriptors by SCM_RIGHTS with the
//! length. Both directions are bounded.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::{Serialize, de::DeserializeOwned};

/// Sends one message.
pub fn send<T: Serialize>(stream: &mut UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MOST);
    let header = length.ok_or_else(|| io::Error::other("the message is too long"))?.to_be_bytes();
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage] = if raw.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(&header)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent != header.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    stream.write_all(&body)
}

/// Receives one message, with at most `most_fds` descriptors; `None` where the other side closed in between.
pub fn receive<T: DeserializeOwned>(stream: &mut UnixStream, most_fds: usize) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut header = [0; 4];
    let mut space = nix::cmsg_space!([RawFd; MOST_FDS]);
    let mut fds = Vec::new();
    let got = {
        let mut parts = [IoSliceMut::new(&mut header)];
        let received =
            recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for this process; nothing else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        received.bytes
    };
    if got == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[got..])?;
    let length = u32::from_be_bytes(header);
    if length > MOST || fds.len() > most_fds {
        return Err(io::Error::other("a message beyond its bounds"));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}

/// Longest body: an executor's environment is the longest that there is.
const MOST: u32 = 1024 * 1024;
const MOST_FDS: usize = 4;
