//! The engines: directories that root has installed. Their place may lie in the data directory, which is the service's,
//! so it is opened without following a link anywhere on the way, looked at, and mounted from what was opened.

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use model::{EngineVersion, SandboxId};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::{
    Config, Doing, Error,
    files::{names, own_dir},
};

/// Mounts an engine for a sandbox, read-only; an engine that others than root may change is refused.
pub fn mount_engine(config: &Config, id: SandboxId, version: &EngineVersion) -> Result<(), Error> {
    let engine = open(config, version)?;
    let (place, what) = (config.engine_of(id), format!("mounting Spark {version}"));
    own_dir(&place, 0o711, (0, 0)).doing(&what)?;
    let source = Path::new("/proc/self/fd").join(engine.as_raw_fd().to_string());
    let none = None::<&str>;
    mount(Some(&source), &place, none, MsFlags::MS_BIND, none).doing(&what)?;
    let closed = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, &place, none, closed, none).doing(what)
}

/// Lets go of a sandbox's engine; nothing where none is mounted.
pub fn unmount(config: &Config, id: SandboxId) -> Result<(), Error> {
    loop {
        match umount2(&config.engine_of(id), MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::ENOENT | Errno::EINVAL) => return Ok(()),
            Err(cause) => return Err(cause).doing("letting go of the engine"),
        }
    }
}

/// What is wrong with each engine that is there, for the operator; how many are as they have to be.
pub fn look(config: &Config) -> Result<usize, String> {
    let mut good = 0;
    for name in names(&config.engines) {
        let Some(version) = name.strip_prefix("spark-").and_then(|version| version.parse().ok()) else { continue };
        open(config, &version).map_err(|cause| cause.to_string())?;
        good += 1;
    }
    Ok(good)
}

/// Opens the directory of an engine, which root owns, as all that is in it two levels down: with the JARs, whatever else a
/// `chown` of directories alone would leave to others.
fn open(config: &Config, version: &EngineVersion) -> Result<OwnedFd, Error> {
    let all = open_dir(None, &config.engines)?;
    demand_root(all.as_fd(), &config.engines)?;
    let (name, path) = (format!("spark-{version}"), config.engine(version));
    let engine = match open_dir(Some(all.as_fd()), Path::new(&name)) {
        Err(Error::NotFound(_)) => {
            return Err(Error::NotFound(format!("engine {version} in {}", config.engines.display())));
        }
        opened => opened?,
    };
    demand_root(engine.as_fd(), &path)?;
    for (inside, file) in demand_root_in(engine.as_fd(), &path)? {
        if File::from(file.try_clone().doing("duplicating a descriptor")?).metadata().is_ok_and(|about| about.is_dir())
        {
            demand_root_in(file.as_fd(), &inside)?;
        }
    }
    Ok(engine)
}

/// What is directly in a directory, which root owns as well.
fn demand_root_in(dir: BorrowedFd<'_>, path: &Path) -> Result<Vec<(PathBuf, OwnedFd)>, Error> {
    let place = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    let mut all = Vec::new();
    for inside in names(&place) {
        let path = path.join(&inside);
        let file = openat2(dir, inside.as_str(), how(OFlag::O_PATH | OFlag::O_NOFOLLOW))
            .map_err(|cause| refusal(cause, &path))?;
        demand_root(file.as_fd(), &path)?;
        all.push((path, file));
    }
    Ok(all)
}

fn open_dir(parent: Option<BorrowedFd<'_>>, path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let opened = match parent {
        Some(parent) => openat2(parent, path, how(flags)),
        None => openat2(AT_FDCWD, path, how(flags)),
    };
    opened.map_err(|cause| refusal(cause, path))
}

fn how(flags: OFlag) -> OpenHow {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve)
}

fn refusal(cause: Errno, path: &Path) -> Error {
    let path: PathBuf = path.to_owned();
    match cause {
        Errno::ENOENT => Error::NotFound(path.display().to_string()),
        Errno::ELOOP => Error::Refused(format!(
            "a symbolic link is on the way to the engine {}: set `engines` to the directory itself",
            path.display()
        )),
        cause => Error::Failed { doing: format!("opening {}", path.display()), cause: cause.to_string() },
    }
}

/// Everybody's jobs run what is there: only root may change it.
fn demand_root(file: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    let about = file.try_clone_to_owned().map(File::from).and_then(|file| file.metadata());
    let about = about.doing(format!("looking at {}", path.display()))?;
    // The mode of a link says nothing; what it leads to is in the engine, or is not there for a container.
    let open = about.mode() & 0o022 != 0 && !about.is_symlink();
    match (about.uid(), open) {
        (0, false) => Ok(()),
        (0, true) => {
            Err(Error::Refused(format!("others than root may write to {}: `chmod -R go-w` mends that", path.display())))
        }
        (owner, _) => Err(Error::Refused(format!(
            "{} belongs to user {owner}, and an engine has to be root's: `casemate engine verify` as root, then `chown -R root:root` mends that",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, chown, symlink},
    };

    use super::*;
    use crate::ScratchEncryption;

    #[test]
    fn an_engine_that_others_may_change_or_lead_elsewhere_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let config = |engines: PathBuf| Config {
            data: dir.path().to_owned(),
            run: dir.path().to_owned(),
            engines,
            service_uid: 1,
            service_gid: 1,
            runtime: "runc".into(),
            java_home: "/usr".into(),
            uid_base: 1_000_000,
            scratch_encryption: ScratchEncryption::None,
            executable: "/proc/self/exe".into(),
        };
        let engines = dir.path().join("engines");
        let engine = engines.join("spark-3.5.9");
        fs::create_dir_all(engine.join("jars")).expect("directory");
        let version: EngineVersion = "3.5.9".parse().expect("a version");
        let opened =
            |engines: &Path| open(&config(engines.to_owned()), &version).map(drop).map_err(|why| why.to_string());
        let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        assert_eq!(opened(&engines), Ok(()));
        for place in [&engines, &engine, &engine.join("jars")] {
            mode(place, 0o775);
            let why = opened(&engines).expect_err("a group may write");
            assert!(why.contains(&format!("may write to {}", place.display())), "{why}");
            mode(place, 0o755);
            chown(place, Some(1), None).expect("owner");
            let why = opened(&engines).expect_err("another's");
            assert!(why.contains(&format!("{} belongs to user 1", place.display())), "{why}");
            chown(place, Some(0), None).expect("owner");
        }
        assert_eq!(look(&config(engines.clone())), Ok(1));

        // What the service could put in the place of either.
        let link = dir.path().join("link");
        symlink(&engines, &link).expect("link");
        let why = opened(&link).expect_err("a link");
        assert!(why.contains("a symbolic link is on the way"), "{why}");
        fs::rename(&engine, dir.path().join("elsewhere")).expect("moved");
        symlink(dir.path().join("elsewhere"), &engine).expect("link");
        assert!(opened(&engines).expect_err("a link").contains("a symbolic link is on the way"));
        fs::remove_file(&engine).expect("removed");
        assert!(opened(&engines).expect_err("none").contains("not found: engine 3.5.9"));
    }
}
