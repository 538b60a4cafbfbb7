//! Listening sockets that a service manager opened for us, by the protocol of `sd_listen_fds(3)`: so a restart
//! of `serve` neither changes its ports nor loses a connection that waits.

use std::{
    net::TcpListener,
    os::fd::{FromRawFd, OwnedFd},
};

/// First inherited descriptor (`SD_LISTEN_FDS_START`).
pub const FIRST: i32 = 3;

/// Takes the inherited listeners, in order; none where no service manager passed any.
/// Must be called once, first of all, before anything else opens descriptors.
pub fn take() -> Vec<TcpListener> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    if number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) != Ok(std::process::id())) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, 16);
    (FIRST..FIRST + count)
        .filter(|fd| {
            nix::fcntl::fcntl(borrow(*fd), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).is_ok()
        })
        .map(|fd| {
            // SAFETY: the service manager gave us this descriptor, it is open (just checked), and nothing else
            // in this process owns it: this function runs once, before anything opens descriptors.
            let owned = unsafe { OwnedFd::from_raw_fd(fd) };
            TcpListener::from(owned)
        })
        .collect()
}

fn borrow(fd: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: only used for one fcntl call, which reports EBADF if the descriptor is not open.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}
