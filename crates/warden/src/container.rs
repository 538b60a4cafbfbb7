//! Containers of a sandbox: what its shim may ask for, and no more than the sandbox's sizing.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use model::{NodeName, NodeSize, SandboxId, Sizing};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, getrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use crate::{
    Doing, Error,
    bundle::{self, Surroundings},
    config::{Config, JOB_USER},
    files::{lock_file, lock_holder, names, own_dir, remove_tree, write_whole},
    launch::Launch,
    monitor::{Orders, RUNS, STARTED, Started},
    protocol::{ContainerIo, ContainerSpec, StopSignal},
    sandbox::{Record, Sandboxes, hold},
    shim::{self, pidfd},
    volume,
};

impl Sandboxes {
    /// Starts a node's container; returns once its program runs. One that was started already is left as it is.
    pub fn start_container(&self, caller: u32, spec: &ContainerSpec, io: ContainerIo) -> Result<(), Error> {
        // Before the lock, so that nobody can make locks of sandboxes that are not his.
        self.of_shim(spec.id, caller)?;
        let lock = self.lock_of(spec.id);
        let _held = hold(&lock);
        let record = self.of_shim(spec.id, caller)?;
        check(spec, &record)?;
        let bundle = self.config.bundle(spec.id, &spec.node);
        wait_for_outcome(&bundle)?;
        if bundle.join(STARTED).exists() {
            let known = fs::read(bundle.join(SPEC)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            // The caller did not hear the first answer: it stands.
            return match known.as_ref() == Some(spec) {
                true => Ok(()),
                false => Err(Error::Refused(format!("{} was started already, as something else", spec.node))),
            };
        }
        self.clear_container(spec.id, &spec.node)?;
        if !spec.node.is_driver() {
            self.make_room(spec, &record)?;
        }
        let started = self.start(spec, &record, io);
        if started.is_err() {
            let _ = self.clear_container(spec.id, &spec.node);
        }
        started
    }

    /// Signals a container's first process. Does nothing where it has ended.
    pub fn signal_container(
        &self,
        caller: u32,
        id: SandboxId,
        node: &NodeName,
        signal: StopSignal,
    ) -> Result<(), Error> {
        let record = self.of_shim(id, caller)?;
        let bundle = self.config.bundle(record.spec.id, node);
        let Some(monitor) = lock_holder(&bundle.join(LOCK)) else { return Ok(()) };
        let Some(init) = fs::read_to_string(bundle.join("pid")).ok().and_then(|text| text.trim().parse().ok()) else {
            return Ok(());
        };
        let init = Pid::from_raw(init);
        // The monitor is its parent until it has seen it end: so it is this very process that is signalled.
        if parent_of(init) != Some(monitor) {
            return Ok(());
        }
        let signal = match signal {
            StopSignal::Term => Signal::SIGTERM,
            StopSignal::Kill => Signal::SIGKILL,
        };
        match kill(init, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(cause) => Err(cause).doing(format!("signalling {node}")),
        }
    }

    /// Removes a container, killing it if it still runs, and its volume unless it is the driver's.
    pub fn remove_container(&self, caller: u32, id: SandboxId, node: &NodeName) -> Result<(), Error> {
        self.of_shim(id, caller)?;
        let lock = self.lock_of(id);
        let _held = hold(&lock);
        self.of_shim(id, caller)?;
        self.clear_container(id, node)
    }

    /// Removes what is left of all containers of a sandbox whose processes were killed; their volumes go with the others.
    pub(crate) fn clear_containers(&self, id: SandboxId) -> Result<(), Error> {
        for node in self.nodes(id) {
            let state = self.config.runtime_root().join(Config::container(id, &node));
            remove_tree(&state).doing(format!("removing the runtime's state of {node}"))?;
        }
        remove_tree(&self.config.bundles(id)).doing("removing the bundles")
    }

    fn clear_container(&self, id: SandboxId, node: &NodeName) -> Result<(), Error> {
        let what = format!("removing {node}");
        let bundle = self.config.bundle(id, node);
        if let Some(monitor) = lock_holder(&bundle.join(LOCK)) {
            // In order, so that it says on its pipe how the container ended.
            let _ = kill(monitor, Signal::SIGTERM);
            if !ends_within(monitor, MONITOR_PATIENCE) {
                let _ = kill(monitor, Signal::SIGKILL);
                ends_within(monitor, MONITOR_PATIENCE);
            }
            self.reap();
        }
        // What a monitor did not do, because it was killed itself.
        let group = self.config.container_cgroup(id, node);
        self.cgroups.kill(&group)?;
        remove_tree(&self.config.runtime_root().join(Config::container(id, node))).doing(&what)?;
        self.cgroups.remove(&group)?;
        if !node.is_driver() {
            volume::remove(&self.config, id, node)?;
        }
        remove_tree(&bundle).doing(what)
    }

    /// Refuses an executor beyond the sizing. Those that have ended, and that the shim forgot, make room.
    fn make_room(&self, spec: &ContainerSpec, record: &Record) -> Result<(), Error> {
        let most = record.spec.sizing.executors;
        let mut count = 0;
        for node in self.nodes(spec.id).iter().filter(|node| !node.is_driver()) {
            if lock_holder(&self.config.bundle(spec.id, node).join(LOCK)).is_some() {
                count += 1;
            } else {
                self.clear_container(spec.id, node)?;
            }
        }
        if count >= most {
            return Err(Error::Refused(format!("the sandbox has {count} executors, its sizing allows {most}")));
        }
        Ok(())
    }

    fn nodes(&self, id: SandboxId) -> Vec<NodeName> {
        names(&self.config.bundles(id)).iter().filter_map(|name| name.parse().ok()).collect()
    }

    fn start(&self, spec: &ContainerSpec, record: &Record, io: ContainerIo) -> Result<(), Error> {
        let (id, node, ids) = (spec.id, &spec.node, record.ids);
        let what = format!("starting {node}");
        let shim = shim::find(&self.config, id).ok_or_else(|| Error::Ended(id.to_string()))?;
        let bundle = self.config.bundle(id, node);
        own_dir(&bundle, 0o700, (0, 0)).doing(&what)?;
        write_json(&bundle.join(SPEC), spec).doing(&what)?;
        let volume = match node.is_driver() {
            true => volume::directory(&self.config, id, node),
            false => self.make_volume(id, ids, node, spec.storage)?,
        };
        let group = self.config.container_cgroup(id, node);
        let config = bundle::config(
            spec,
            &Surroundings {
                ids,
                root: &self.root,
                engine: &self.config.engine_of(id),
                volume: &volume,
                conf: &volume::directory(&self.config, id, &NodeName::driver()).join("conf"),
                network: format!("/proc/{shim}/ns/net").as_ref(),
                cgroup: &group,
                limits_swap: self.cgroups.limits_swap(),
                pure_v2: self.cgroups.pure_v2,
                open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard),
                oom_score: own_oom_score(),
            },
        );
        write_json(&bundle.join("config.json"), &config).doing(&what)?;
        let orders = Orders {
            runtime: self.config.runtime.clone(),
            runtime_root: self.config.runtime_root(),
            container: Config::container(id, node),
            volume,
            oom_file: self.cgroups.oom_file(&group),
            shim_uid: ids.shim_uid(),
            job_uid: ids.base + JOB_USER,
        };
        write_json(&bundle.join("monitor.json"), &orders).doing(&what)?;
        fail::fail_point!("warden.bundle.written");
        self.start_monitor(spec, &record.spec.sizing, io)
    }

    fn start_monitor(&self, spec: &ContainerSpec, sizing: &Sizing, io: ContainerIo) -> Result<(), Error> {
        let what = format!("starting {}", spec.node);
        let bundle = self.config.bundle(spec.id, &spec.node);
        let program =
            File::open(&self.config.executable).doing(format!("{what}: {}", self.config.executable.display()))?;
        let lock = lock_file(&bundle.join(LOCK)).doing(&what)?;
        let groups = self.join_platform(spec.id, sizing)?;
        let (reader, writer) = io::pipe().doing(&what)?;
        let status: OwnedFd = writer.into();
        let monitor = Launch {
            program: program.as_fd(),
            arguments: vec![
                "casemate".into(),
                "monitor".into(),
                "--bundle".into(),
                bundle.to_string_lossy().into_owned(),
            ],
            descriptors: vec![io.stdout.as_fd(), io.stderr.as_fd(), io.exit.as_fd(), status.as_fd()],
            lock: lock.as_fd(),
            cgroups: &groups,
            directory: None,
            network: None,
            identity: None,
        }
        .start()
        .doing(&what)?;
        self.remember(monitor);
        drop((io, status));
        fail::fail_point!("warden.monitor.started");
        let mut awaited = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        if poll(&mut awaited, milliseconds(START_PATIENCE)).is_ok_and(|ready| ready == 0) {
            let _ = kill(monitor, Signal::SIGKILL);
            return Err("the runtime neither starts it nor fails").doing(what);
        }
        let mut report = Vec::new();
        reader.take(MOST_REPORT).read_to_end(&mut report).doing(&what)?;
        match serde_json::from_slice(&report) {
            Ok(Started::Runs) => {
                fail::fail_point!("warden.container.started");
                Ok(())
            }
            Ok(Started::Failed(cause)) => Err(cause).doing(what),
            Err(_) => Err("its monitor ended").doing(what),
        }
    }
}

/// Waits for a monitor of before this warden that is still starting its container: stopping it now could be too late to
/// keep the program from running, and then it would run twice.
fn wait_for_outcome(bundle: &Path) -> Result<(), Error> {
    let began = Instant::now();
    while lock_holder(&bundle.join(LOCK)).is_some() && !bundle.join(RUNS).exists() {
        if began.elapsed() > START_PATIENCE {
            return Err("the container neither starts nor fails").doing("waiting for a start that is under way");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn check(spec: &ContainerSpec, record: &Record) -> Result<(), Error> {
    let sizing = &record.spec.sizing;
    let most: &NodeSize = if spec.node.is_driver() { &sizing.driver } else { &sizing.executor };
    if spec.cores > most.cores || spec.memory > most.total_memory() || spec.storage > most.storage() {
        return Err(Error::Refused(format!(
            "{} asks for {} cores, {} memory, {} storage; its sizing allows {}, {}, {}",
            spec.node,
            spec.cores.0,
            spec.memory,
            spec.storage,
            most.cores.0,
            most.total_memory(),
            most.storage()
        )));
    }
    if spec.cores.0 == 0 || spec.memory.0 < LEAST_MEMORY || spec.storage.0 < LEAST_STORAGE {
        return Err(Error::Refused(format!("{} asks for too little to run", spec.node)));
    }
    if spec.argv.first().is_none_or(String::is_empty) {
        return Err(Error::Refused("there is no program to run".into()));
    }
    let texts = spec.argv.iter().chain(spec.env.iter().flat_map(|(name, value)| [name, value])).chain([&spec.cwd]);
    if texts.into_iter().any(|text| text.contains('\0'))
        || spec.env.iter().any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return Err(Error::Refused("an argument or a variable is not one".into()));
    }
    let mut steps = spec.cwd.split('/');
    let below =
        steps.next() == Some("") && matches!(steps.next(), Some("work" | "scratch")) && !steps.any(|step| step == "..");
    match below {
        true => Ok(()),
        false => Err(Error::Refused(format!("the working directory {} is not below /work or /scratch", spec.cwd))),
    }
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec(value)?, 0o600)
}

fn ends_within(process: Pid, patience: Duration) -> bool {
    let Ok(handle) = pidfd(process) else { return true };
    poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], milliseconds(patience)).is_ok_and(|ready| ready > 0)
}

fn milliseconds(patience: Duration) -> PollTimeout {
    PollTimeout::from(u16::try_from(patience.as_millis()).unwrap_or(u16::MAX))
}

fn parent_of(process: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok()).map(Pid::from_raw)
}

fn own_oom_score() -> i32 {
    fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

const SPEC: &str = "spec.json";
const LOCK: &str = "lock";
const LEAST_MEMORY: u64 = 16;
const LEAST_STORAGE: u64 = 16;
const MONITOR_PATIENCE: Duration = Duration::from_secs(10);
const START_PATIENCE: Duration = Duration::from_secs(30);
const MOST_REPORT: u64 = 64 * 1024;
