//! Files in directories that others own: never through a symbolic link, never half-written. And locks that say which
//! process lives.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{OpenOptionsExt, PermissionsExt},
        },
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{Gid, Pid, Uid, UnlinkatFlags, fchown, unlinkat},
};

/// Opens a directory that the operator named: the way there is trusted.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(path)?.into())
}

/// Opens the directory `name` in `parent`. A symbolic link is an error: who may write to `parent` may have made it.
pub fn open_dir(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    open_at(parent, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

/// Opens `name` in `parent` with `flags`, never through a symbolic link.
pub fn open_at(parent: BorrowedFd<'_>, name: &str, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is a C string that outlives the call; the result is checked before it is owned.
    let fd = unsafe { libc::openat(parent.as_raw_fd(), name.as_ptr(), flags, mode) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the directory `name` in `parent` unless it is there, and gives a new one its owner and mode.
pub fn make_dir(parent: BorrowedFd<'_>, name: &str, mode: u32, owner: (u32, u32)) -> io::Result<OwnedFd> {
    let path = CString::new(name)?;
    // SAFETY: the name is a C string that outlives the call.
    let made = unsafe { libc::mkdirat(parent.as_raw_fd(), path.as_ptr(), 0o700) } == 0;
    if !made && io::Error::last_os_error().kind() != io::ErrorKind::AlreadyExists {
        return Err(io::Error::last_os_error());
    }
    let dir = open_dir(parent, name)?;
    if made {
        give(dir.as_fd(), mode, owner)?;
    }
    Ok(dir)
}

/// Sets owner, then mode (a change of owner clears the set-group bit).
pub fn give(file: BorrowedFd<'_>, mode: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    File::from(file.try_clone_to_owned()?).set_permissions(fs::Permissions::from_mode(mode))
}

/// Makes a directory of ours at `path` with exactly this mode and owner; the way there is trusted.
pub fn own_dir(path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
        _ => {}
    }
    give(open_root(path)?.as_fd(), mode, owner)
}

/// Writes a file that is whole whenever it is there. Its directory is ours.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    fs::rename(&part, path)
}

/// Removes the directory `name` in `parent` with all that is in it; nothing where it is not there. Follows no links.
///
/// What lies in a directory below is lifted out of it first: however deep somebody nested directories, neither the stack
/// nor the number of open descriptors grows.
pub fn remove_tree_at(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let top = match open_dir(parent, name) {
        Ok(top) => top,
        Err(cause) => return absent_is_fine(Err(cause)),
    };
    let mut lifted = 0_u64;
    empty(top.as_fd(), &mut |entry| {
        let below = openat(&top, entry, OFlag::O_RDONLY | NO_LINK, Mode::empty())?;
        empty(below.as_fd(), &mut |inner| {
            loop {
                lifted += 1;
                match renameat(&below, inner, &top, format!("lifted-{lifted}").as_str()) {
                    // A name that is taken.
                    Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::EISDIR | Errno::ENOTDIR) => {}
                    done => return Ok(done?),
                }
            }
        })?;
        Ok(unlinkat(&top, entry, UnlinkatFlags::RemoveDir)?)
    })?;
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

/// Takes everything out of a directory: unlinks what is not a directory, and hands on what is.
fn empty(dir: BorrowedFd<'_>, directory: &mut dyn FnMut(&OsStr) -> io::Result<()>) -> io::Result<()> {
    let place = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    loop {
        let some: Vec<_> = fs::read_dir(&place)?.take(AT_ONCE).collect::<Result<_, _>>()?;
        if some.is_empty() {
            return Ok(());
        }
        for entry in some {
            let name = entry.file_name();
            match unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
                Err(Errno::EISDIR | Errno::EPERM) => directory(&name)?,
                done => done?,
            }
        }
    }
}

/// Removes a directory with all that is in it; nothing where it is not there.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(path))
}

/// Removes a file; nothing where it is not there.
pub fn remove_file(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Names in a directory; none where it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The file whose lock says that a process lives: the process takes it before it runs its program and keeps it by an
/// open descriptor to its end (see `launch`), so neither a reused process id nor a killed warden can deceive.
pub fn lock_file(path: &Path) -> io::Result<OwnedFd> {
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(file.into())
}

/// The process that holds the lock of `path`.
pub fn lock_holder(path: &Path) -> Option<Pid> {
    let file = File::open(path).ok()?;
    let mut lock = whole_file(libc::F_WRLCK);
    // SAFETY: `lock` is a `flock` that outlives the call, which F_GETLK writes to.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
    (asked == 0 && i32::from(lock.l_type) != libc::F_UNLCK && lock.l_pid > 0).then(|| Pid::from_raw(lock.l_pid))
}

/// A lock over a whole file.
pub fn whole_file(kind: i32) -> libc::flock {
    // SAFETY: `flock` is plain numbers, for which zero is valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(kind).unwrap_or_default();
    lock.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
    lock
}

/// A path for the kernel.
pub fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

const NO_LINK: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Entries of a directory that are in memory at once.
const AT_ONCE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let dir = tempfile::tempdir().expect("directory");
        let root = open_root(dir.path()).expect("opens");
        let mut at = make_dir(root.as_fd(), "deep", 0o700, (0, 0)).expect("directory");
        for depth in 0..5_000 {
            open_at(at.as_fd(), "file", libc::O_CREAT | libc::O_WRONLY, 0o600).expect("file");
            // A name that lifting would take.
            at = make_dir(at.as_fd(), if depth % 2 == 0 { "lifted-1" } else { "d" }, 0o700, (0, 0)).expect("directory");
        }
        remove_tree_at(root.as_fd(), "deep").expect("removed");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_link_in_anothers_directory_is_not_followed() {
        let dir = tempfile::tempdir().expect("directory");
        fs::create_dir(dir.path().join("target")).expect("directory");
        fs::write(dir.path().join("target/kept"), b"x").expect("file");
        std::os::unix::fs::symlink(dir.path().join("target"), dir.path().join("link")).expect("link");
        let root = open_root(dir.path()).expect("opens");
        assert!(open_dir(root.as_fd(), "link").is_err());
        assert!(make_dir(root.as_fd(), "link", 0o700, (0, 0)).is_err());
        let _ = remove_tree_at(root.as_fd(), "link");
        assert!(dir.path().join("target/kept").exists());
        remove_tree_at(root.as_fd(), "target").expect("removed");
        remove_tree_at(root.as_fd(), "target").expect("twice is the same");
        assert!(!dir.path().join("target").exists());
    }

    #[test]
    fn a_lock_that_nobody_holds_has_no_holder() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("lock");
        assert_eq!(lock_holder(&path), None);
        let _file = lock_file(&path).expect("file");
        assert_eq!(lock_holder(&path), None);
    }
}
