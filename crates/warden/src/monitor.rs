//! The parent of one container (`casemate monitor`): starts it by the OCI runtime, waits for its end, says how it ended,
//! clears it away. It lives on when the warden dies, and takes its container with it when the shim dies, whose death
//! closes the reading end of the exit pipe. Plain threads of one: its memory is a container's overhead.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{cgroup::oom_kills, files, protocol::ContainerExit, shim::pidfd};

/// What a monitor is told, in the file `monitor.json` of its bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Orders {
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// Its state directory.
    pub runtime_root: PathBuf,
    /// The container's name.
    pub container: String,
    /// Where the container's volume is mounted.
    pub volume: PathBuf,
    /// Where the kernel counts its kills.
    pub oom_file: PathBuf,
    /// The shim's user, who made the output's pipes.
    pub shim_uid: u32,
    /// The user of the job's processes on the host.
    pub job_uid: u32,
}

/// What a monitor says once, as soon as the container runs or cannot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Started {
    /// It runs.
    Runs,
    /// It does not, and nothing is left of it.
    Failed(String),
}

/// Descriptors that the warden gives to a monitor, from 3 on; the lock is only held.
struct Inherited {
    stdout: File,
    stderr: File,
    exit: File,
    status: File,
    _lock: File,
}

/// Runs `casemate monitor`; `args` are those after the subcommand: `--bundle DIR`.
pub fn monitor_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let [flag, bundle] = args.as_slice() else { return usage() };
    if flag != "--bundle" {
        return usage();
    }
    match monitor(Path::new(bundle)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("monitor of {}: {cause}", Path::new(bundle).display());
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("error: `casemate monitor --bundle DIR` is for the warden to start");
    ExitCode::from(2)
}

fn monitor(bundle: &Path) -> io::Result<()> {
    let Inherited { stdout, stderr, mut exit, mut status, _lock } = inherit()?;
    let orders: Orders = serde_json::from_slice(&fs::read(bundle.join("monitor.json"))?)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    // SIGTERM is the warden's word to end the container now.
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        sigaction(
            Signal::SIGTERM,
            &SigAction::new(SigHandler::Handler(on_terminate), SaFlags::empty(), SigSet::empty()),
        )?
    };
    let container = match start(&orders, bundle, &stdout, &stderr) {
        Ok(container) => container,
        Err(cause) => {
            delete(&orders);
            return say(&mut status, &Started::Failed(cause.to_string()));
        }
    };
    drop((stdout, stderr));
    // A warden that died meanwhile asks again and finds the container.
    let _ = say(&mut status, &Started::Runs);
    drop(status);
    fail::fail_point!("monitor.runs.told");
    let end = container.wait(&orders, &exit)?;
    fail::fail_point!("monitor.end.seen");
    let _ = say(&mut exit, &end);
    drop(exit);
    fail::fail_point!("monitor.end.told");
    delete(&orders);
    Ok(())
}

fn inherit() -> io::Result<Inherited> {
    let take = |number: i32| -> io::Result<File> {
        // SAFETY: a system call on a number, which says EBADF where nothing is open there.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the warden opened this descriptor for this process, and nothing else in it owns it: this runs once.
        Ok(unsafe { File::from_raw_fd(number) })
    };
    Ok(Inherited { stdout: take(3)?, stderr: take(4)?, exit: take(5)?, status: take(6)?, _lock: take(7)? })
}

fn say<T: Serialize>(to: &mut File, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// A container whose program was started.
struct Container {
    init: Pid,
    handle: OwnedFd,
}

fn start(orders: &Orders, bundle: &Path, stdout: &File, stderr: &File) -> io::Result<Container> {
    for pipe in [stdout, stderr] {
        let about = pipe.metadata()?;
        // So that programs may open /dev/stdout. Never a file that the shim merely has open.
        if about.uid() == orders.shim_uid && about.mode() & libc::S_IFMT == libc::S_IFIFO {
            let _ = std::os::unix::fs::fchown(pipe, Some(orders.job_uid), None);
        }
    }
    let pid_file = bundle.join("pid");
    files::remove_file(&pid_file)?;
    let mut create = runtime(orders);
    create
        .arg("--log")
        .arg(bundle.join("runtime.log"))
        .arg("create")
        .arg("--bundle")
        .arg(bundle)
        .arg("--pid-file")
        .arg(&pid_file);
    create.arg(&orders.container).stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    if !create.status()?.success() {
        return Err(io::Error::other(last_error(bundle)));
    }
    let init = fs::read_to_string(&pid_file)?.trim().parse().map(Pid::from_raw).map_err(io::Error::other)?;
    let handle = pidfd(init)?;
    fail::fail_point!("monitor.container.created");
    close_gaps(init)?;
    // From here on the job's own program may run: nobody starts this container a second time.
    File::create(bundle.join(STARTED))?;
    fail::fail_point!("monitor.start.marked");
    let mut start = runtime(orders);
    start.arg("--log").arg(bundle.join("runtime.log")).arg("start").arg(&orders.container);
    if !start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
        files::remove_file(&bundle.join(STARTED))?;
        return Err(io::Error::other(last_error(bundle)));
    }
    fail::fail_point!("monitor.program.started");
    File::create(bundle.join(RUNS))?;
    Ok(Container { init, handle })
}

fn runtime(orders: &Orders) -> Command {
    let mut command = Command::new(&orders.runtime);
    command.arg("--root").arg(&orders.runtime_root).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn delete(orders: &Orders) {
    let _ = runtime(orders)
        .args(["delete", "--force", &orders.container])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn last_error(bundle: &Path) -> String {
    let log = fs::read_to_string(bundle.join("runtime.log")).unwrap_or_default();
    log.lines().rfind(|line| line.contains("error")).unwrap_or("the runtime failed without saying why").to_owned()
}

/// Closes what the runtime leaves open: covers files of /proc that are not for jobs. The runtime would cover them with /dev/null, which can be opened and
/// looks like an empty file; this cannot be opened. A child does it, which enters the container's mounts and ends there.
fn close_gaps(init: Pid) -> io::Result<()> {
    let mounts = File::open(format!("/proc/{init}/ns/mnt"))?;
    let mask = files::c_path(&Path::new("/").join(crate::root::MASK))?;
    let places = MASKED.map(|name| files::c_path(Path::new(name))).into_iter().collect::<io::Result<Vec<_>>>()?;
    // SAFETY: this process has one thread; the child makes system calls on values made before, then ends.
    match unsafe { libc::fork() } {
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: as above.
        0 => unsafe {
            if libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS) != 0 {
                libc::_exit(1);
            }
            let none = std::ptr::null();
            let closed =
                libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            for place in &places {
                // Not every kernel has each of them.
                if libc::mount(mask.as_ptr(), place.as_ptr(), none, libc::MS_BIND, none.cast()) != 0 {
                    if *libc::__errno_location() != libc::ENOENT {
                        libc::_exit(2);
                    }
                } else if libc::mount(none, place.as_ptr(), none, closed, none.cast()) != 0 {
                    libc::_exit(3);
                }
            }
            // With control groups of version 1 the runtime leaves the directory of the hierarchies writable.
            if libc::mount(none, c"/sys/fs/cgroup".as_ptr(), none, closed, none.cast()) != 0 {
                libc::_exit(4);
            }
            libc::_exit(0)
        },
        child => match waitpid(Pid::from_raw(child), None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => Err(io::Error::other(format!("closing the gaps of the container: {other:?}"))),
        },
    }
}

impl Container {
    /// Waits for the end of the container's first process, with which the kernel ends all others of it.
    fn wait(&self, orders: &Orders, exit: &File) -> io::Result<ContainerExit> {
        let mut storage_full = false;
        let mut unread = false;
        loop {
            let mut watched = vec![PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
            if !unread {
                watched.push(PollFd::new(exit.as_fd(), PollFlags::empty()));
            }
            match poll(&mut watched, PollTimeout::from(STORAGE_CHECK_MILLISECONDS)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(cause) => return Err(cause.into()),
            }
            unread |= watched.get(1).and_then(PollFd::any).unwrap_or(false);
            storage_full |= is_full(&orders.volume);
            if unread || TERMINATE.load(Ordering::Relaxed) {
                self.kill();
            }
            if let Some((code, signal)) = self.reap()? {
                return Ok(ContainerExit { code, signal, oom: oom_kills(&orders.oom_file) > 0, storage_full });
            }
        }
    }

    fn kill(&self) {
        // SAFETY: a system call with numbers; the handle is of this container's process, whatever its id means by now.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.handle.as_raw_fd(), libc::SIGKILL, 0, 0) };
    }

    /// Code or signal of the first process, if it has ended. Other children are the runtime's leavings.
    fn reap(&self) -> io::Result<Option<(Option<i32>, Option<i32>)>> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.init => return Ok(Some((Some(code), None))),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.init => {
                    return Ok(Some((None, Some(signal as i32))));
                }
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
    }
}

fn is_full(volume: &Path) -> bool {
    nix::sys::statvfs::statvfs(volume)
        .is_ok_and(|about| about.blocks_available() <= about.blocks() / 1000 || about.files_available() == 0)
}

extern "C" fn on_terminate(_: i32) {
    TERMINATE.store(true, Ordering::Relaxed);
}

static TERMINATE: AtomicBool = AtomicBool::new(false);

/// The file in a bundle that says that its program may have run.
pub(crate) const STARTED: &str = "started";
/// The file in a bundle that says that it did run.
pub(crate) const RUNS: &str = "runs";
const STORAGE_CHECK_MILLISECONDS: u16 = 1000;
const MASKED: [&str; 12] = [
    "/proc/kcore",
    "/proc/kallsyms",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/slabinfo",
    "/proc/timer_list",
];
