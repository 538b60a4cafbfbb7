//! Which range of host ids belongs to which sandbox, on the whole machine: several Casemates may run on it, and no two
//! sandboxes may share an id.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
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

    /// Alone among all Casemates of the machine. The directory is there only while a range is claimed.
    fn locked<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _lock = loop {
            own_dir(&self.place, 0o700, (0, 0))?;
            let Ok(place) = File::open(&self.place) else { continue };
            let lock = Flock::lock(place, FlockArg::LockExclusive).map_err(|(_, cause)| cause)?;
            // Who held the lock before may have removed the directory: then it is another one that counts.
            if fs::metadata(&self.place).is_ok_and(|now| lock.metadata().is_ok_and(|held| held.ino() == now.ino())) {
                break lock;
            }
        };
        let outcome = act();
        // Fails while there are claims.
        let _ = fs::remove_dir(&self.place);
        outcome
    }
}

const MACHINE: &str = "/run/casemate-ranges";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScratchEncryption;

    #[test]
    fn a_range_belongs_to_one_directory_until_that_is_gone() {
        let dir = tempfile::tempdir().expect("directory");
        let ranges = Ranges { place: dir.path().join("ranges") };
        let config = |uid_base| Config {
            data: "/".into(),
            run: "/".into(),
            engines: "/".into(),
            service_uid: 1,
            service_gid: 1,
            runtime: "/".into(),
            java_home: "/".into(),
            uid_base,
            scratch_encryption: ScratchEncryption::None,
            executable: "/".into(),
        };
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for place in [&one, &two] {
            fs::create_dir(place).expect("directory");
        }
        let first = ranges.claim(&config(700_000_000), &one).expect("claim");
        let second = ranges.claim(&config(700_000_000), &two).expect("claim");
        assert_eq!(second.base, first.base + RANGE);
        // Another Casemate, whose ranges would overlap.
        let other = dir.path().join("other");
        fs::create_dir(&other).expect("directory");
        let third = ranges.claim(&config(700_000_001), &other).expect("claim");
        assert!(third.base >= second.base + RANGE);
        fs::remove_dir(&one).expect("removed");
        let again = dir.path().join("again");
        fs::create_dir(&again).expect("directory");
        assert_eq!(
            ranges.claim(&config(700_000_000), &again).expect("claim").base,
            first.base,
            "a void claim is taken over"
        );
        for place in [&two, &other, &again] {
            ranges.release(place).expect("release");
            ranges.release(place).expect("twice is the same");
        }
        assert!(!ranges.place.exists());
    }
}
