//! The life of a sandbox. What exists is what is on disk and in the kernel; the warden remembers nothing. Each verb can be
//! called again after it was cut off anywhere, and then ends as if it had not been.

use std::{
    collections::HashMap,
    fs,
    net::TcpListener,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{MiB, NodeName, SandboxId, Sizing};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    Config, Doing, Error,
    cgroup::{Cgroups, Limits},
    config::{Ids, JOB_USER},
    engines,
    files::{make_dir, names, open_root, own_dir, remove_tree, write_whole},
    namespaces::Network,
    protocol::{SandboxSpec, SandboxState},
    ranges::Ranges,
    root::Root,
    shim, volume,
};

/// The sandboxes of one run directory.
pub struct Sandboxes {
    pub(crate) config: Config,
    pub(crate) cgroups: Cgroups,
    pub(crate) root: Root,
    ranges: Ranges,
    /// One lock a sandbox, held by whoever changes it.
    locks: Mutex<HashMap<SandboxId, Arc<Mutex<()>>>>,
    /// Processes that this warden started, to be waited for.
    started: Mutex<Vec<Pid>>,
}

/// A sandbox as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub spec: SandboxSpec,
    pub ids: Ids,
    /// Whether it was whole once: its shim ran.
    pub complete: bool,
}

impl Sandboxes {
    /// Makes the places that all sandboxes share.
    pub fn open(config: Config) -> Result<Sandboxes, Error> {
        let cgroups = Cgroups::find()?;
        for place in [&config.sandboxes(), &config.shims()] {
            own_dir(place, 0o711, (0, 0)).doing(format!("making {}", place.display()))?;
        }
        own_dir(&config.runtime_root(), 0o700, (0, 0)).doing("making the runtime's directory")?;
        let root = Root::prepare(&config)?;
        let sandboxes = Sandboxes::over(config, cgroups, root);
        // Images outlive a machine that goes down, mounts do not.
        volume::remove_strays(&sandboxes.config, |id| sandboxes.config.sandbox(id).exists())?;
        Ok(sandboxes)
    }

    fn over(config: Config, cgroups: Cgroups, root: Root) -> Sandboxes {
        let ranges = Ranges::of_machine();
        Sandboxes { config, cgroups, root, ranges, locks: Mutex::default(), started: Mutex::default() }
    }

    /// Builds a sandbox, or finds the one that stands.
    pub fn create(&self, spec: &SandboxSpec) -> Result<(PathBuf, TcpListener), Error> {
        let lock = self.lock_of(spec.id);
        let _held = hold(&lock);
        let control = self.config.shim_socket(spec.id);
        match self.record(spec.id)? {
            Some(record) if record.complete => {
                if record.spec != *spec {
                    return Err(Error::Refused(format!("sandbox {} stands with another specification", spec.id)));
                }
                let shim = shim::find(&self.config, spec.id).ok_or_else(|| Error::Ended(spec.id.to_string()))?;
                return Ok((control, shim::objects_listener(shim)?));
            }
            // Of one that was only half built nothing has run yet: it is made anew.
            _ => self.strip(spec.id)?,
        }
        check(spec)?;
        let built = self.build(spec);
        if built.is_err() {
            // The caller hears the first cause; what cannot be cleared now is cleared by the next call.
            let _ = self.strip(spec.id).and_then(|()| self.forget(spec.id));
        }
        built.map(|objects| (control, objects))
    }

    fn build(&self, spec: &SandboxSpec) -> Result<TcpListener, Error> {
        let id = spec.id;
        let directory = self.config.sandbox(id);
        own_dir(&directory, 0o711, (0, 0)).doing("making the sandbox's directory")?;
        let ids = self.ranges.claim(&self.config, &directory)?;
        let mut record = Record { spec: spec.clone(), ids, complete: false };
        self.write(&record)?;
        fail::fail_point!("warden.sandbox.recorded");
        // The shim reaches its directories below here by its group; nobody else does.
        own_dir(&directory.join("volumes"), 0o710, (0, ids.shim_uid())).doing("making the place of volumes")?;
        own_dir(&self.config.bundles(id), 0o700, (0, 0)).doing("making the place of bundles")?;
        engines::mount_engine(&self.config, id, &spec.engine)?;
        fail::fail_point!("warden.engine.mounted");
        let network = Network::create()?;
        fail::fail_point!("warden.network.made");
        self.make_volume(id, ids, &NodeName::driver(), spec.sizing.driver.storage())?;
        fail::fail_point!("warden.volume.made");
        let groups = self.join_platform(id, &spec.sizing)?;
        let shim = shim::start(&self.config, &groups, id, ids, &network)?;
        self.remember(shim);
        fail::fail_point!("warden.shim.started");
        record.complete = true;
        self.write(&record)?;
        fail::fail_point!("warden.sandbox.complete");
        tracing::info!(sandbox = %id, range = ids.base, "sandbox made");
        Ok(network.objects)
    }

    /// The group of what is not in a container: the shim, monitors, and the runtime while it starts a container. A
    /// hostile driver can make them work; here is the most that it can make them take.
    pub(crate) fn join_platform(&self, id: SandboxId, sizing: &Sizing) -> Result<Vec<OwnedFd>, Error> {
        let nodes = 1 + sizing.executors;
        let limits = Limits {
            memory: MiB(PLATFORM_MEMORY + u64::from(nodes) * NODE_MEMORY),
            processes: PLATFORM_PROCESSES + nodes * NODE_PROCESSES,
        };
        self.cgroups.join(&format!("{}/platform", self.config.cgroup(id)), limits)
    }

    /// Makes the volume of a node with the directories that its container sees.
    pub(crate) fn make_volume(&self, id: SandboxId, ids: Ids, node: &NodeName, size: MiB) -> Result<PathBuf, Error> {
        let data = volume::create(&self.config, id, node, size)?;
        let (root, job, shim) = (ids.base, ids.base + JOB_USER, ids.shim_uid());
        let make = || -> std::io::Result<()> {
            let data = open_root(&data)?;
            make_dir(data.as_fd(), "scratch", 0o700, (job, job))?;
            make_dir(data.as_fd(), "tmp", 0o1777, (root, root))?;
            if node.is_driver() {
                // The shim puts the code here, and the job may change it.
                make_dir(data.as_fd(), "work", 0o777, (shim, shim))?;
                make_dir(data.as_fd(), "conf", 0o755, (shim, shim))?;
            } else {
                make_dir(data.as_fd(), "work", 0o755, (job, job))?;
            }
            Ok(())
        };
        make().doing(format!("making the directories of {node}"))?;
        Ok(data)
    }

    /// Kills all of a sandbox and removes everything of it but its spool.
    pub fn destroy(&self, id: SandboxId) -> Result<(), Error> {
        let lock = self.lock_of(id);
        let held = hold(&lock);
        self.strip(id)?;
        self.forget(id)?;
        drop(held);
        // Whoever waits for it has it from the map; where nobody does, only the map and this call have it.
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&lock) == 2 {
            locks.remove(&id);
        }
        Ok(())
    }

    /// Removes the spool of a sandbox that was destroyed.
    pub fn remove_spool(&self, id: SandboxId) -> Result<(), Error> {
        let lock = self.lock_of(id);
        let _held = hold(&lock);
        if self.config.sandbox(id).exists() {
            return Err(Error::Refused(format!("sandbox {id} was not destroyed")));
        }
        shim::remove_spool(&self.config, id)
    }

    /// All that were not destroyed. Of one whose shim is dead only the name is left.
    pub fn list(&self) -> Result<Vec<SandboxState>, Error> {
        let mut states = Vec::new();
        for id in self.ids() {
            let lock = self.lock_of(id);
            let mut shim_alive = shim::find(&self.config, id).is_some();
            // Who holds the lock is changing it, and clears up himself.
            if let Ok(_held) = lock.try_lock() {
                // What a later warden wrote and this one cannot read may well run.
                let complete = self.record(id).map_or(true, |record| record.is_some_and(|record| record.complete));
                shim_alive = shim::find(&self.config, id).is_some() && complete;
                if !shim_alive
                    && self.config.sandbox(id).exists()
                    && let Err(cause) = self.strip(id)
                {
                    // One that resists does not keep the others from being known.
                    tracing::error!(sandbox = %id, %cause, "what is left of a sandbox cannot be removed yet");
                }
            }
            states.push(SandboxState { id, shim_alive });
        }
        Ok(states)
    }

    /// The sandbox that a caller may act in: it stands, and the caller is its shim (or root).
    pub(crate) fn of_shim(&self, id: SandboxId, caller: u32) -> Result<Record, Error> {
        // The same answer whether it is another's or nobody's: a shim learns nothing of others.
        let none = || Error::Refused(format!("sandbox {id} is not of user {caller}"));
        let record = self.record(id)?.filter(|record| record.complete).ok_or_else(none)?;
        if caller == record.ids.shim_uid() || caller == 0 { Ok(record) } else { Err(none()) }
    }

    /// Kills all processes of a sandbox and removes what they used; its record stays, so that it is known to have been.
    fn strip(&self, id: SandboxId) -> Result<(), Error> {
        let group = self.config.cgroup(id);
        self.cgroups.kill(&group)?;
        // A process that was just started has its lock before its group only for an instant; the lock tells as well.
        if let Some(shim) = shim::find(&self.config, id) {
            let _ = kill(shim, Signal::SIGKILL);
        }
        fail::fail_point!("warden.processes.killed");
        self.clear_containers(id)?;
        engines::unmount(&self.config, id)?;
        fail::fail_point!("warden.containers.cleared");
        volume::remove_all(&self.config, id)?;
        fail::fail_point!("warden.volumes.removed");
        self.cgroups.remove(&group)?;
        fail::fail_point!("warden.groups.removed");
        shim::clear(&self.config, id)?;
        fail::fail_point!("warden.sandbox.stripped");
        Ok(())
    }

    fn forget(&self, id: SandboxId) -> Result<(), Error> {
        let directory = self.config.sandbox(id);
        let existed = directory.exists();
        self.ranges.release(&directory)?;
        fail::fail_point!("warden.range.released");
        remove_tree(&directory).doing("removing the sandbox's directory")?;
        if existed {
            tracing::info!(sandbox = %id, "sandbox removed");
        }
        Ok(())
    }

    /// What is written down of a sandbox; `None` where nothing is.
    fn record(&self, id: SandboxId) -> Result<Option<Record>, Error> {
        let what = || format!("reading what is written down of sandbox {id}");
        match fs::read(self.config.sandbox(id).join(RECORD)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).doing(what()),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause).doing(what()),
        }
    }

    fn write(&self, record: &Record) -> Result<(), Error> {
        let bytes = serde_json::to_vec(record).doing("writing the sandbox down")?;
        write_whole(&self.config.sandbox(record.spec.id).join(RECORD), &bytes, 0o600).doing("writing the sandbox down")
    }

    fn ids(&self) -> Vec<SandboxId> {
        let mut ids: Vec<SandboxId> =
            names(&self.config.sandboxes()).iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        ids
    }

    pub(crate) fn lock_of(&self, id: SandboxId) -> Arc<Mutex<()>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    /// A process of ours, which the daemon waits for so that it does not stay a zombie.
    pub(crate) fn remember(&self, pid: Pid) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
    }

    /// Waits for those of our processes that have ended.
    pub fn reap(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        let alive = |pid: &Pid| matches!(waitpid(*pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive));
        self.started.lock().unwrap_or_else(PoisonError::into_inner).retain(alive);
    }
}

/// Destroys every sandbox of a run directory and removes what they shared. Needs no daemon; there must be none.
pub fn destroy_all(config: &Config) -> Result<(), Error> {
    let cgroups = Cgroups::find()?;
    let root = Root { path: config.run.join("rootfs"), mounts: Vec::new() };
    let sandboxes = Sandboxes::over(config.clone(), cgroups, root);
    // Whatever the records say, nobody of this instance lives on.
    sandboxes.cgroups.kill(&config.cgroup_parent())?;
    let mut outcome = Ok(());
    for id in sandboxes.ids() {
        if let Err(cause) = sandboxes.destroy(id) {
            tracing::error!(sandbox = %id, %cause, "a sandbox could not be removed");
            outcome = Err(cause);
        }
    }
    outcome?;
    volume::remove_strays(config, |_| false)?;
    sandboxes.cgroups.remove(&config.cgroup_parent())?;
    for place in [config.runtime_root(), config.sandboxes(), config.shims(), config.run.join("rootfs"), config.socket()]
    {
        let gone = if place.is_dir() { remove_tree(&place) } else { crate::files::remove_file(&place) };
        gone.doing(format!("removing {}", place.display()))?;
    }
    Ok(())
}

fn check(spec: &SandboxSpec) -> Result<(), Error> {
    if spec.id.attempt.0 == 0 {
        // Its name would not read back: nobody would find what is left of it.
        return Err(Error::Refused("attempts are counted from 1".into()));
    }
    let sizing = &spec.sizing;
    let largest = sizing.driver.storage().max(sizing.executor.storage());
    let most = sizing.driver.total_memory().max(sizing.executor.total_memory());
    let cores = sizing.driver.cores.0.max(sizing.executor.cores.0);
    if sizing.executors > MOST_EXECUTORS || cores > MOST_CORES || most.0 > MOST_MEMORY || largest.0 > MOST_STORAGE {
        return Err(Error::Refused("the sizing is beyond what any job may have".into()));
    }
    Ok(())
}

pub(crate) fn hold(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// MiB for a shim, which needs some 16 beside the cache of what it writes, and for each node: a monitor has a few, the
/// runtime some 30 for a moment.
const PLATFORM_MEMORY: u64 = 192;
const NODE_MEMORY: u64 = 64;
/// A shim has some 40 threads at most, the runtime a dozen.
const PLATFORM_PROCESSES: u32 = 96;
const NODE_PROCESSES: u32 = 48;
const RECORD: &str = "sandbox.json";
const MOST_EXECUTORS: u32 = 64;
const MOST_CORES: u32 = 256;
/// 1 TiB each, in MiB: far above what the model allows, so that only nonsense is refused here.
const MOST_MEMORY: u64 = 1 << 20;
const MOST_STORAGE: u64 = 4 << 20;
