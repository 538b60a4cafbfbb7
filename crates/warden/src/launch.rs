//! Starts the processes that outlive the warden: a shim, a monitor. By hand, because they need descriptors at fixed
//! numbers, a namespace, a cgroup and a lock before their program runs, and nothing else of the warden's.

use std::{
    ffi::CString,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStringExt,
    },
};

use nix::unistd::Pid;

use crate::files::whole_file;

/// A process to start.
pub struct Launch<'a> {
    /// The program, by a descriptor: no directory on the way to it need be readable.
    pub program: BorrowedFd<'a>,
    /// Its arguments, the first being its name.
    pub arguments: Vec<String>,
    /// Descriptors that it gets at 3, 4 and so on.
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// The file whose lock it holds while it lives; gets the number after the last of `descriptors`.
    pub lock: BorrowedFd<'a>,
    /// Each `cgroup.procs` that it writes itself to.
    pub cgroups: &'a [OwnedFd],
    /// Working directory.
    pub directory: Option<BorrowedFd<'a>>,
    /// Network namespace.
    pub network: Option<BorrowedFd<'a>>,
    /// The user and group that it becomes for good, without any capability.
    pub identity: Option<(u32, u32)>,
}

impl Launch<'_> {
    /// Starts it; returns once its program runs.
    pub fn start(self) -> io::Result<Pid> {
        let arguments = c_strings(self.arguments.into_iter().map(String::into_bytes))?;
        let environment = c_strings(environment())?;
        let (argv, envp) = (pointers(&arguments), pointers(&environment));
        // All sources are moved out of the way of the numbers that the child gives out.
        let mut sources = Vec::new();
        for fd in self.descriptors.iter().chain([&self.lock]) {
            sources.push(high(*fd)?);
        }
        let null = high(std::fs::File::open("/dev/null")?.as_fd())?;
        let program = high(self.program)?;
        let cgroups = self.cgroups.iter().map(|list| high(list.as_fd())).collect::<io::Result<Vec<_>>>()?;
        let directory = self.directory.map(high).transpose()?;
        let network = self.network.map(high).transpose()?;
        let (reader, writer) = io::pipe()?;
        let failure = high(writer.as_fd())?;
        drop(writer);

        let child = Child {
            program: program.as_raw_fd(),
            argv: &argv,
            envp: &envp,
            sources: &sources,
            null: null.as_raw_fd(),
            cgroups: &cgroups,
            directory: directory.as_ref().map(AsRawFd::as_raw_fd),
            network: network.as_ref().map(AsRawFd::as_raw_fd),
            identity: self.identity,
            lock_source: self.lock.as_raw_fd(),
            lock: whole_file(libc::F_WRLCK),
        };
        // SAFETY: the child only makes system calls on values made before the fork (see `Child::run`).
        let pid = unsafe { libc::fork() };
        match pid {
            ..0 => return Err(io::Error::last_os_error()),
            0 => child.run(failure.as_raw_fd()),
            _ => {}
        }
        drop(failure);
        let mut report = Vec::new();
        let mut reader = reader;
        reader.read_to_end(&mut report)?;
        let pid = Pid::from_raw(pid);
        match <[u8; 4]>::try_from(report.as_slice()) {
            // The pipe was closed by the exec: the program runs.
            Err(_) => Ok(pid),
            Ok(errno) => {
                let _ = nix::sys::wait::waitpid(pid, None);
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
            }
        }
    }
}

/// What the child needs, all of it made before the fork.
struct Child<'a> {
    program: RawFd,
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    sources: &'a [OwnedFd],
    null: RawFd,
    cgroups: &'a [OwnedFd],
    directory: Option<RawFd>,
    network: Option<RawFd>,
    identity: Option<(u32, u32)>,
    lock_source: RawFd,
    lock: libc::flock,
}

impl Child<'_> {
    fn run(&self, failure: RawFd) -> ! {
        let errno = self.prepare_and_exec().to_ne_bytes();
        // SAFETY: four bytes of a local; then the child ends without running anything of the parent's.
        unsafe {
            libc::write(failure, errno.as_ptr().cast(), errno.len());
            libc::_exit(127)
        }
    }

    /// Returns only where a step failed, with its error number.
    fn prepare_and_exec(&self) -> i32 {
        let check = |result: i64| {
            if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(()) }
        };
        let steps = || -> Result<(), i32> {
            // SAFETY: system calls with numbers, and with pointers into what lives until the exec; no allocation, no
            // lock, as it has to be between fork and exec of a process with threads. Identities are changed by the
            // bare calls: those of libc would signal threads that this child does not have.
            unsafe {
                check(libc::setsid().into())?;
                for list in self.cgroups {
                    check(libc::write(list.as_raw_fd(), c"0".as_ptr().cast(), 1) as i64)?;
                }
                if let Some(directory) = self.directory {
                    check(libc::fchdir(directory).into())?;
                }
                if let Some(network) = self.network {
                    check(libc::setns(network, libc::CLONE_NEWNET).into())?;
                }
                // Keys may be in their memory.
                let nothing = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                check(libc::setrlimit(libc::RLIMIT_CORE, &raw const nothing).into())?;
                check(libc::dup2(self.null, 0).into())?;
                let mut target = FIRST;
                for source in self.sources {
                    check(libc::dup2(source.as_raw_fd(), target).into())?;
                    target += 1;
                }
                // Closing any descriptor of a file lets go of the process's locks of it, so all but one go before.
                // Numbers below `target` were just given to the program.
                if self.lock_source >= target {
                    libc::close(self.lock_source);
                }
                if let Some(copy) = self.sources.last().filter(|copy| copy.as_raw_fd() >= target) {
                    libc::close(copy.as_raw_fd());
                }
                check(libc::fcntl(target - 1, libc::F_SETLK, &raw const self.lock).into())?;
                // What others opened without the flag must not get in; kernels that lack the call have no such thing.
                libc::syscall(libc::SYS_close_range, target, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                if let Some((uid, gid)) = self.identity {
                    // What a driver sends is kept within bounds by the program; this is for where it errs.
                    let memory = libc::rlimit { rlim_cur: MOST_MEMORY, rlim_max: MOST_MEMORY };
                    check(libc::setrlimit(libc::RLIMIT_DATA, &raw const memory).into())?;
                    for capability in 0..=LAST_CAPABILITY {
                        libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
                    }
                    check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()))?;
                    check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
                    check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
                    check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
                }
                check(libc::syscall(
                    libc::SYS_execveat,
                    self.program,
                    c"".as_ptr(),
                    self.argv.as_ptr(),
                    self.envp.as_ptr(),
                    libc::AT_EMPTY_PATH,
                ))
            }
        };
        steps().err().unwrap_or(libc::EIO)
    }
}

/// Settings of ours and of the language runtime; nothing else of the warden's environment goes on.
fn environment() -> impl Iterator<Item = Vec<u8>> {
    let kept = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("CASEMATE_") || ["RUST_BACKTRACE", "RUST_LOG", "TZ", "LLVM_PROFILE_FILE"].contains(&&*name)
    });
    let pairs = kept.map(|(name, value)| [name.into_vec(), b"=".to_vec(), value.into_vec()].concat());
    std::iter::once(b"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_vec()).chain(pairs)
}

fn c_strings(texts: impl Iterator<Item = Vec<u8>>) -> io::Result<Vec<CString>> {
    texts.map(|text| CString::new(text).map_err(io::Error::from)).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// A copy with a number beyond those that a child gets.
fn high(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: a system call on an open descriptor; its result is checked before it is owned.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

const FIRST: i32 = 3;
const LAST_CAPABILITY: i32 = 63;
/// Bytes of its own that a shim may write to; it needs a few MiB.
const MOST_MEMORY: u64 = 1 << 30;
