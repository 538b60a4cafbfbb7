//! Control groups of both kinds: version 2 alone, version 1, and the two side by side. The OCI runtime makes the groups
//! of containers and sets their limits; here is what it does not do: a group for a sandbox's other processes, killing
//! all of a sandbox at once, what the kernel killed for want of memory, and removal.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use model::MiB;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Doing, Error};

/// The most that the processes of a group may have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory, swap included where the kernel can limit it.
    pub memory: MiB,
    /// Processes and threads.
    pub processes: u32,
}

/// The hierarchies of this machine.
#[derive(Debug, Clone)]
pub struct Cgroups {
    /// The hierarchy that every process of a sandbox is in.
    tracking: PathBuf,
    /// The one with the memory controller.
    memory: PathBuf,
    /// The one with the pids controller, where it is of version 1.
    pids: Option<PathBuf>,
    /// All of them.
    all: Vec<PathBuf>,
    /// Version 2 alone.
    pub pure_v2: bool,
}

impl Cgroups {
    /// Reads which hierarchies are mounted.
    pub fn find() -> Result<Cgroups, Error> {
        let mounts = fs::read_to_string("/proc/self/mounts").doing("reading the mounts")?;
        Cgroups::of(&mounts).ok_or_else(|| Error::Failed {
            doing: "looking for control groups".into(),
            cause: "neither a cgroup2 nor a cgroup memory hierarchy is mounted".into(),
        })
    }

    fn of(mounts: &str) -> Option<Cgroups> {
        let (mut second, mut memory, mut pids, mut all) = (None, None, None, Vec::new());
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(place), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            match kind {
                "cgroup2" => second = Some(PathBuf::from(place)),
                "cgroup" => {
                    let has = |name: &str| options.split(',').any(|option| option == name);
                    for (name, found) in [("memory", &mut memory), ("pids", &mut pids)] {
                        if has(name) {
                            *found = Some(PathBuf::from(place));
                        }
                    }
                }
                _ => continue,
            }
            all.push(PathBuf::from(place));
        }
        let tracking = second.clone().or_else(|| memory.clone())?;
        Some(Cgroups { tracking, pure_v2: memory.is_none(), memory: memory.or(second)?, pids, all })
    }

    /// Makes the group `path` where processes are tracked and where they are limited, and opens its lists of processes
    /// for a new one to join all of them.
    pub fn join(&self, path: &str, limits: Limits) -> Result<Vec<OwnedFd>, Error> {
        let make = || -> io::Result<Vec<OwnedFd>> {
            if self.pure_v2 {
                self.hand_down(path)?;
            }
            let mut lists = Vec::new();
            for place in self.places(path) {
                fs::create_dir_all(&place)?;
                lists.push(fs::OpenOptions::new().write(true).open(place.join("cgroup.procs"))?.into());
            }
            for (file, value, needed) in self.settings(path, limits) {
                if needed || file.exists() {
                    fs::write(file, value)?;
                }
            }
            Ok(lists)
        };
        make().doing(format!("making the control group {path}"))
    }

    /// Where the group `path` is, each place once.
    fn places(&self, path: &str) -> Vec<PathBuf> {
        let mut roots = vec![&self.tracking];
        for root in [Some(&self.memory), self.pids.as_ref()].into_iter().flatten() {
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        roots.into_iter().map(|root| root.join(path)).collect()
    }

    /// What is written where to limit a group, and whether each file has to be there.
    fn settings(&self, path: &str, limits: Limits) -> Vec<(PathBuf, String, bool)> {
        let memory = self.memory.join(path);
        let bytes = limits.memory.bytes().to_string();
        let pids = self.pids.as_ref().unwrap_or(&self.tracking).join(path).join("pids.max");
        let mut all = match self.pure_v2 {
            true => vec![(memory.join("memory.max"), bytes, true), (memory.join("memory.swap.max"), "0".into(), false)],
            // In this order: memory and swap together are never less than memory alone.
            false => vec![
                (memory.join("memory.limit_in_bytes"), bytes.clone(), true),
                (memory.join("memory.memsw.limit_in_bytes"), bytes, false),
            ],
        };
        all.push((pids, limits.processes.to_string(), self.pids.is_some() || self.pure_v2));
        all
    }

    /// Lets the groups on the way to `path` hand down the controllers that limit it, as the OCI runtime does for those of
    /// containers.
    fn hand_down(&self, path: &str) -> io::Result<()> {
        let mut place = self.tracking.clone();
        for step in path.split('/') {
            fs::write(place.join("cgroup.subtree_control"), "+memory +pids")?;
            place.push(step);
            match fs::create_dir(&place) {
                Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
                _ => {}
            }
        }
        Ok(())
    }

    /// Kills every process in `path` and below, and waits until they are gone.
    pub fn kill(&self, path: &str) -> Result<(), Error> {
        let place = self.tracking.join(path);
        let started = Instant::now();
        while populated(&place) {
            // One write since Linux 5.14; before that one signal a process, again until no new one is found.
            if fs::write(place.join("cgroup.kill"), "1").is_err() {
                for pid in processes(&place) {
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
            if started.elapsed() > PATIENCE {
                return Err(failed(path, "its processes do not die"));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Removes the groups `path` and all below it, in every hierarchy.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        for root in &self.all {
            let started = Instant::now();
            while let Err(cause) = remove_below(&root.join(path)) {
                // The kernel lets go of a dead process's group a moment after its death.
                if started.elapsed() > PATIENCE {
                    return Err(failed(path, &cause.to_string()));
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// The file that counts the kernel's kills for want of memory in `path`.
    pub fn oom_file(&self, path: &str) -> PathBuf {
        self.memory.join(path).join(if self.pure_v2 { "memory.events" } else { "memory.oom_control" })
    }

    /// What this machine has, for people.
    pub fn layout(&self) -> &'static str {
        match (self.pure_v2, self.tracking == self.memory) {
            (true, _) => "version 2",
            (false, true) => "version 1",
            (false, false) => "versions 1 and 2",
        }
    }

    /// Controllers that limits need and the machine lacks.
    pub fn missing_controllers(&self) -> Vec<&'static str> {
        let second = fs::read_to_string(self.tracking.join("cgroup.controllers")).unwrap_or_default();
        let first =
            |name: &str| self.all.iter().any(|root| root.to_string_lossy().rsplit(['/', ',']).any(|part| part == name));
        let there = |name: &str| second.split_whitespace().any(|found| found == name) || (!self.pure_v2 && first(name));
        ["memory", "cpu", "pids"].into_iter().filter(|name| !there(name)).collect()
    }

    /// Whether swap can be limited: asked of the kernel, since a limit that it lacks is an error to the runtime.
    pub fn limits_swap(&self) -> bool {
        match self.pure_v2 {
            // The root itself has neither limit; any group with the one must have the other.
            true => children(&self.memory)
                .iter()
                .find(|group| group.join("memory.max").exists())
                .map_or_else(|| Path::new("/proc/swaps").exists(), |group| group.join("memory.swap.max").exists()),
            false => self.memory.join("memory.memsw.limit_in_bytes").exists(),
        }
    }
}

/// Kills for want of memory that an `oom_file` tells of.
pub fn oom_kills(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

fn failed(path: &str, cause: &str) -> Error {
    Error::Failed { doing: format!("clearing the control group {path}"), cause: cause.to_owned() }
}

fn populated(place: &Path) -> bool {
    !processes(place).is_empty()
}

fn processes(place: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw);
    own.chain(children(place).iter().flat_map(|child| processes(child))).collect()
}

fn children(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_below(place: &Path) -> io::Result<()> {
    for child in children(place) {
        remove_below(&child)?;
    }
    match fs::remove_dir(place) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_of_hierarchies_is_understood() {
        let pure = Cgroups::of("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n").expect("version 2");
        assert!(pure.pure_v2);
        assert_eq!(pure.oom_file("a/b"), Path::new("/sys/fs/cgroup/a/b/memory.events"));
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let hybrid = Cgroups::of(hybrid).expect("hybrid");
        assert!(!hybrid.pure_v2);
        assert_eq!(hybrid.tracking, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(hybrid.oom_file("a"), Path::new("/sys/fs/cgroup/memory/a/memory.oom_control"));
        assert_eq!(hybrid.all.len(), 3);
        let first = Cgroups::of("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n").expect("version 1");
        assert_eq!(first.tracking, Path::new("/sys/fs/cgroup/memory"));
        assert!(Cgroups::of("tmpfs / tmpfs rw 0 0\n").is_none());
    }

    #[test]
    fn a_group_is_limited_in_every_layout() {
        let limits = Limits { memory: MiB(2), processes: 7 };
        let shown = |mounts: &str| {
            let groups = Cgroups::of(mounts).expect("hierarchies");
            let settings = groups.settings("a/b", limits);
            let lines = settings.iter().map(|(file, value, needed)| format!("{} {value} {needed}", file.display()));
            (groups.places("a/b"), lines.collect::<Vec<_>>())
        };
        let (places, settings) = shown("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert_eq!(places, [Path::new("/sys/fs/cgroup/a/b")]);
        assert_eq!(
            settings,
            [
                "/sys/fs/cgroup/a/b/memory.max 2097152 true",
                "/sys/fs/cgroup/a/b/memory.swap.max 0 false",
                "/sys/fs/cgroup/a/b/pids.max 7 true"
            ]
        );
        let (places, settings) = shown(
            "cgroup /c/memory cgroup rw,memory 0 0\ncgroup /c/pids cgroup rw,pids 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n",
        );
        assert_eq!(places, ["/c/unified/a/b", "/c/memory/a/b", "/c/pids/a/b"].map(Path::new));
        assert_eq!(
            settings,
            [
                "/c/memory/a/b/memory.limit_in_bytes 2097152 true",
                "/c/memory/a/b/memory.memsw.limit_in_bytes 2097152 false",
                "/c/pids/a/b/pids.max 7 true"
            ]
        );
        let (places, _) = shown("cgroup /c/memory cgroup rw,memory 0 0\n");
        assert_eq!(places, [Path::new("/c/memory/a/b")]);
    }
}
