//! Who a process is: root for the warden, the service user for all that touches the data directory.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use crate::{
    config::Service,
    failure::{Doing, Failure},
};

/// Whether this process is root.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Becomes the owner of the data directory for good, if this process is root; so that an operator's command never
/// leaves a file there that the service cannot read.
pub fn become_owner_of(data: &Path) -> Result<(), Failure> {
    if !is_root() {
        return Ok(());
    }
    let meta = fs::metadata(data)
        .doing(format!("cannot use the data directory {}", data.display()))
        .map_err(|failure| failure.help("`casemate up` makes it; or give --data or --config"))?;
    become_service(Service { uid: meta.uid(), gid: meta.gid() })
}

/// Becomes `service` for good, without any capability.
pub fn become_service(service: Service) -> Result<(), Failure> {
    if service.uid == 0 {
        return Ok(());
    }
    let what = format!("cannot become user {}", service.uid);
    let (uid, gid) = (Uid::from_raw(service.uid), Gid::from_raw(service.gid));
    setgroups(&[]).doing(&what)?;
    setresgid(gid, gid, gid).doing(&what)?;
    setresuid(uid, uid, uid).doing(&what)
}

/// Lets this process have as many open files as it can be given: each connection is one, and the limit that a process is
/// given at first is for those that use `select`.
pub fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(cause) = raised {
        tracing::warn!(%cause, "the limit of open files stays as it was");
    }
}

/// Asks the kernel to send SIGTERM to this process when its parent ends: for the parts that `up` starts.
pub fn end_with_parent(parent: u32) -> Result<(), Failure> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).doing("cannot ask to end with the parent")?;
    if nix::unistd::getppid().as_raw() != i32::try_from(parent).unwrap_or(-1) {
        return Err(Failure::new("the process that started this one has ended"));
    }
    Ok(())
}
