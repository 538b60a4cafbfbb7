//! The OCI bundle of a container: what the runtime is told
//! (<https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md>). A pure function of the container's
//! specification and of where its sandbox stands.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    config::{Ids, JOB_USER, MAPPED},
    protocol::ContainerSpec,
    root::Root,
    seccomp,
};

/// Where a container's sandbox stands.
pub struct Surroundings<'a> {
    /// The sandbox's ids.
    pub ids: Ids,
    /// The root of all containers.
    pub root: &'a Root,
    /// The engine's directory.
    pub engine: &'a Path,
    /// Directory of the node's own volume.
    pub volume: &'a Path,
    /// The sandbox's configuration directory.
    pub conf: &'a Path,
    /// Path of the sandbox's network namespace.
    pub network: &'a Path,
    /// The container's control group, below the roots of the hierarchies.
    pub cgroup: &'a str,
    /// Whether the kernel can limit swap.
    pub limits_swap: bool,
    /// Whether the machine has control groups of version 2 alone.
    pub pure_v2: bool,
    /// Highest number of open files that may be set on this machine.
    pub open_files: u64,
    /// Out-of-memory score of the warden, which cannot be gone below.
    pub oom_score: i32,
}

/// The `config.json` of a container.
pub fn config(spec: &ContainerSpec, around: &Surroundings<'_>) -> Value {
    let env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let nothing: [&str; 0] = [];
    let open_files = around.open_files.min(MAX_OPEN_FILES);
    json!({
        "ociVersion": "1.0.2",
        "hostname": if spec.node.is_driver() { "driver" } else { "executor" },
        "root": { "path": around.root.path, "readonly": true },
        "process": {
            "terminal": false,
            "user": { "uid": JOB_USER, "gid": JOB_USER, "umask": 0o022 },
            "args": spec.argv,
            "env": env,
            "cwd": spec.cwd,
            "noNewPrivileges": true,
            "oomScoreAdj": around.oom_score.max(JOB_OOM_SCORE),
            "capabilities": {
                "bounding": nothing, "effective": nothing, "inheritable": nothing, "permitted": nothing, "ambient": nothing,
            },
            "rlimits": [
                { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
                { "type": "RLIMIT_NOFILE", "hard": open_files, "soft": open_files },
            ],
        },
        "mounts": mounts(spec, around),
        "linux": {
            "uidMappings": [{ "containerID": 0, "hostID": around.ids.base, "size": MAPPED }],
            "gidMappings": [{ "containerID": 0, "hostID": around.ids.base, "size": MAPPED }],
            "namespaces": [
                { "type": "user" }, { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "cgroup" }, { "type": "network", "path": around.network },
            ],
            "cgroupsPath": format!("/{}", around.cgroup),
            "resources": resources(spec, around),
            "rootfsPropagation": "private",
            "seccomp": seccomp::profile(),
            // Files of the kernel's are covered by the monitor, with one that cannot be opened (see `monitor`).
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn mounts(spec: &ContainerSpec, around: &Surroundings<'_>) -> Vec<Value> {
    let kernel = |place: &str, kind: &str, options: &[&str]| json!({ "destination": place, "type": kind, "source": kind, "options": options });
    let bind = |source: &Path, place: &Path, writable: bool| {
        let access = if writable { "rw" } else { "ro" };
        json!({ "destination": place, "type": "bind", "source": source, "options": ["bind", access, "nosuid", "nodev"] })
    };
    let shared_memory = format!("size={}m", spec.memory.0);
    let mut all = vec![
        kernel("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        kernel("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=64k"]),
        kernel("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        kernel("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shared_memory]),
        // A JVM sizes itself by the limits that it finds here.
        kernel("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    all.extend(around.root.mounts.iter().map(|(host, place)| bind(host, place, false)));
    all.push(bind(around.engine, Path::new("/opt/spark"), false));
    all.push(bind(around.conf, Path::new("/conf"), false));
    for name in ["work", "scratch", "tmp"] {
        all.push(bind(&around.volume.join(name), &Path::new("/").join(name), true));
    }
    all
}

fn resources(spec: &ContainerSpec, around: &Surroundings<'_>) -> Value {
    let mut memory = json!({ "limit": spec.memory.bytes() });
    if around.limits_swap {
        // Memory and swap together, so no swap.
        memory["swap"] = json!(spec.memory.bytes());
    }
    let mut resources = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "memory": memory,
        "cpu": { "period": CPU_PERIOD, "quota": u64::from(spec.cores.0) * CPU_PERIOD, "shares": u64::from(spec.cores.0) * 1024 },
        "pids": { "limit": MAX_PROCESSES },
    });
    if around.pure_v2 {
        // All of a node dies at once: a Spark process that lost a part of itself hangs.
        resources["unified"] = json!({ "memory.oom.group": "1" });
    }
    resources
}

const MAX_OPEN_FILES: u64 = 65_536;
/// Processes and threads; a busy executor has some hundreds. A driver and ten executors must not use up the ids of a
/// machine, which are 32,768 where nobody raised `kernel.pid_max`.
const MAX_PROCESSES: u32 = 2_048;
const CPU_PERIOD: u64 = 100_000;
/// Jobs go first when the machine is short of memory.
const JOB_OOM_SCORE: i32 = 500;

#[cfg(test)]
mod tests {
    use model::{AttemptNo, Cores, JobId, MiB, NodeName, SandboxId};

    use super::*;

    #[test]
    fn a_container_has_no_right_that_it_does_not_need() {
        let spec = ContainerSpec {
            id: SandboxId { job: JobId(uuid::Uuid::from_u128(1)), attempt: AttemptNo(1) },
            node: NodeName::driver(),
            argv: vec!["/bin/true".into()],
            env: vec![("A".into(), "b".into())],
            cwd: "/work".into(),
            cores: Cores(2),
            memory: MiB(512),
            storage: MiB(100),
        };
        let root = Root { path: "/r".into(), mounts: vec![("/usr".into(), "/usr".into())] };
        let around = Surroundings {
            ids: Ids { base: 700_000_000 },
            root: &root,
            engine: Path::new("/e"),
            volume: Path::new("/v"),
            conf: Path::new("/c"),
            network: Path::new("/n"),
            cgroup: "a/b",
            limits_swap: true,
            pure_v2: true,
            open_files: 1024,
            oom_score: 0,
        };
        let config = config(&spec, &around);
        for (set, capabilities) in config["process"]["capabilities"].as_object().expect("sets") {
            assert_eq!(capabilities.as_array().map(Vec::len), Some(0), "{set}");
        }
        assert_eq!(config["process"]["noNewPrivileges"], true);
        assert_eq!(config["root"]["readonly"], true);
        assert_eq!(config["linux"]["namespaces"].as_array().map(Vec::len), Some(7));
        assert_eq!(config["linux"]["resources"]["memory"]["limit"], 512 * 1024 * 1024);
        assert_eq!(config["linux"]["resources"]["memory"]["swap"], 512 * 1024 * 1024);
        assert_eq!(config["linux"]["resources"]["cpu"]["quota"], 200_000);
        let writable: Vec<&str> = config["mounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .filter(|mount| mount["options"].as_array().is_some_and(|options| options.contains(&json!("rw"))))
            .filter_map(|mount| mount["destination"].as_str())
            .collect();
        assert_eq!(writable, ["/work", "/scratch", "/tmp"]);
    }
}
