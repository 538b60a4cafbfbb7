//! Starts a sandbox's shim and finds it again. The shim is the one process of a sandbox that is not in a container: its
//! own user, no capability, in the sandbox's network.

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::Path,
};

use model::{NodeName, SandboxId};
use nix::unistd::Pid;

use crate::{
    Config, Doing, Error,
    config::Ids,
    files::{lock_file, lock_holder, make_dir, open_root, own_dir, remove_file, remove_tree_at},
    launch::Launch,
    namespaces::Network,
    volume,
};

/// Starts the shim; returns once its program runs.
pub fn start(config: &Config, groups: &[OwnedFd], id: SandboxId, ids: Ids, network: &Network) -> Result<Pid, Error> {
    let what = "starting the shim";
    let control = control_socket(config, id).doing(format!("{what}: its control socket"))?;
    let spool = make_spool(config, id, ids).doing(format!("{what}: the spool"))?;
    let program = fs::File::open(&config.executable).doing(format!("{what}: {}", config.executable.display()))?;
    let lock = lock_file(&lock_path(config, id)).doing(what)?;
    let driver = volume::directory(config, id, &NodeName::driver());
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let arguments = ["casemate", "shim", "--sandbox", &id.to_string(), "--work", &path(&driver.join("work")), "--conf"]
        .map(str::to_owned)
        .into_iter()
        .chain([path(&driver.join("conf")), "--warden".into(), path(&config.socket())])
        .collect();
    Launch {
        program: program.as_fd(),
        arguments,
        descriptors: vec![control.as_fd(), network.objects.as_fd(), network.pods.as_fd()],
        lock: lock.as_fd(),
        cgroups: groups,
        directory: Some(spool.as_fd()),
        network: Some(network.namespace.as_fd()),
        identity: Some((ids.shim_uid(), ids.shim_uid())),
    }
    .start()
    .doing(what)
}

/// The shim's process, while it lives.
pub fn find(config: &Config, id: SandboxId) -> Option<Pid> {
    lock_holder(&lock_path(config, id))
}

/// The object gate's listener, from the copy that the shim keeps.
pub fn objects_listener(shim: Pid) -> Result<TcpListener, Error> {
    copy_descriptor(shim, OBJECTS).map(TcpListener::from).doing("taking the object gate's listener back from the shim")
}

/// Removes the spool of a sandbox, and its job's directory if it was the last there.
pub fn remove_spool(config: &Config, id: SandboxId) -> Result<(), Error> {
    let remove = || -> io::Result<()> {
        let owner = (config.service_uid, config.service_gid);
        let jobs = make_dir(open_root(&config.data)?.as_fd(), JOBS, 0o700, owner)?;
        let job = make_dir(jobs.as_fd(), &id.job.to_string(), 0o700, owner)?;
        remove_tree_at(job.as_fd(), &id.attempt.to_string())?;
        match nix::unistd::unlinkat(&jobs, id.job.to_string().as_str(), nix::unistd::UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(nix::errno::Errno::ENOTEMPTY | nix::errno::Errno::EEXIST | nix::errno::Errno::ENOENT) => {
                Ok(())
            }
            Err(cause) => Err(cause.into()),
        }
    };
    remove().doing("removing a spool")
}

/// Removes what only the shim used.
pub fn clear(config: &Config, id: SandboxId) -> Result<(), Error> {
    remove_file(&config.shim_socket(id))
        .and_then(|()| remove_file(&lock_path(config, id)))
        .doing("removing the shim's control socket")
}

fn control_socket(config: &Config, id: SandboxId) -> io::Result<UnixListener> {
    let path = config.shim_socket(id);
    own_dir(&config.shims(), 0o711, (0, 0))?;
    remove_file(&path)?;
    let listener = UnixListener::bind(&path)?;
    std::os::unix::fs::chown(&path, Some(config.service_uid), Some(config.service_gid))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The spool: the shim writes it, the service reads it. Its path is the service's own, so no link in it is followed.
fn make_spool(config: &Config, id: SandboxId, ids: Ids) -> io::Result<OwnedFd> {
    let owner = (config.service_uid, config.service_gid);
    let jobs = make_dir(open_root(&config.data)?.as_fd(), JOBS, 0o700, owner)?;
    let job = make_dir(jobs.as_fd(), &id.job.to_string(), 0o700, owner)?;
    let spool = make_dir(job.as_fd(), &id.attempt.to_string(), 0o2750, (ids.shim_uid(), config.service_gid))?;
    // A second try may have got another range.
    crate::files::give(spool.as_fd(), 0o2750, (ids.shim_uid(), config.service_gid))?;
    Ok(spool)
}

fn lock_path(config: &Config, id: SandboxId) -> std::path::PathBuf {
    config.sandbox(id).join("shim.lock")
}

fn copy_descriptor(process: Pid, number: i32) -> io::Result<OwnedFd> {
    let pidfd = pidfd(process)?;
    // SAFETY: a system call with numbers; its result is checked before it is owned.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us, with close-on-exec set.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor of a process, which becomes readable at its end.
pub fn pidfd(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a system call with numbers; its result is checked before it is owned.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us, with close-on-exec set.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const JOBS: &str = "jobs";
/// The number at which the shim has the object gate's listener.
const OBJECTS: i32 = 4;
