//! The network of a sandbox: a namespace with nothing but loopback, and the two listeners that come to the job there.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sched::{CloneFlags, unshare};

use crate::{Doing, Error};

/// A network namespace, held by its descriptor alone: it goes when the last process, socket and descriptor of it goes.
pub struct Network {
    /// The namespace.
    pub namespace: OwnedFd,
    /// The object gate's listener.
    pub objects: TcpListener,
    /// The pods API's listener.
    pub pods: TcpListener,
}

impl Network {
    /// Makes it.
    pub fn create() -> Result<Network, Error> {
        // A thread of its own enters the new namespace and ends there: the warden never leaves its own.
        std::thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(enter_and_listen)
            .and_then(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended"))))
            .doing("making the network of a sandbox")
    }
}

fn enter_and_listen() -> io::Result<Network> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()?;
    Ok(Network {
        namespace: std::fs::File::open("/proc/thread-self/ns/net")?.into(),
        objects: TcpListener::bind((Ipv4Addr::LOCALHOST, OBJECTS_PORT))?,
        pods: TcpListener::bind((Ipv4Addr::LOCALHOST, PODS_PORT))?,
    })
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: `ifreq` is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *target = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(i16::MAX);
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The object gate, as a job sees it.
const OBJECTS_PORT: u16 = 9000;
/// The pods API, as a job sees it.
const PODS_PORT: u16 = 9001;
