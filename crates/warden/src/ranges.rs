//! Which range of host ids belongs to which sandbox, on the whole machine: several Casemates may run on it, and no two
//! sandboxes may share an id.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    Config, Doing, Error,
    config::{Ids, RANGE, SLOTS},
    files::{names, own_dir, remove_file, write_whole},
};

/// The claims of this machine: one file a range, named by its first id; it holds the path of the sandbox's directory.
/// A claim of a directory that is not there any more is void.
pub struct Ranges {
    place: PathBuf,
}

impl Ranges {
    /// Those of this machine.
    pub fn of_machine() -> Ranges {
        Ranges { place: MACHINE.into() }
    }

    /// Gives the sandbox of `directory`, which must exist, a range of its own.
    pub fn claim(&self, config: &Config, directory: &Path) -> Result<Ids, Error> {
        self.locked(|| {
            let mut taken = Vec::new();
            for (base, owner) in self.claims() {
                match owner.as_deref() {
                    Some(owner) if owner != directory && owner.exists() => taken.push(base),
                    _ => remove_file(&self.place.join(base.to_string()))?,
                }
            }
            let ids = (0..SLOTS)
                .map(|slot| Ids::of(config, slot))
                .find(|ids| taken.iter().all(|other| other.abs_diff(ids.base) >= RANGE))
                .ok_or_else(|| io::Error::other("all ranges are taken"))?;
            write_whole(&self.place.join(ids.base.to_string()), directory.as_os_str().as_encoded_bytes(), 0o600)?;
            Ok(ids)
        })
        .doing("claiming a range of user ids")
    }

    /// Takes back every range of the sandbox of `directory`.
    pub fn release(&self, directory: &Path) -> Result<(), Error> {
        if !self.place.exists() {
            return Ok(());
        }
        self.locked(|| {
            for (base, owner) in self.claims() {
                if owner.is_none_or(|owner| owner == directory) {
                    remove_file(&self.place.join(base.to_string()))?;
                }
            }
            Ok(())
        })
        .doing("releasing a range of user ids")
    }

    fn claims(&self) -> Vec<(u32, Option<PathBuf>)> {
        let owner = |name: &str| fs::read_to_string(self.place.join(name)).ok().map(PathBuf::from);
        names(&self.place).iter().filter_map(|name| Some((name.parse().ok()?, owner(name)))).collect()
    }

    fn locked<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        own_dir(&self.place, 0o700, (0, 0))?;
        let _lock = Flock::lock(File::open(&self.place)?, FlockArg::LockExclusive).map_err(|(_, cause)| cause)?;
        act()
    }
}

const MACHINE: &str = "/run/casemate-ranges";
