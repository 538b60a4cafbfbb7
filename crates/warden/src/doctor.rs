//! What this machine lacks to run jobs, and what to do about it. Tries rather than reads, where trying leaves no trace.

use std::{
    fs,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use model::{AttemptNo, Cores, JobId, MiB, NodeName, SandboxId};
use nix::sys::resource::{Resource, getrlimit};

use crate::{
    Config, Doing, Error, ScratchEncryption,
    bundle::{self, Surroundings},
    cgroup::Cgroups,
    config::Ids,
    engines,
    files::{own_dir, remove_tree, write_whole},
    namespaces::Network,
    protocol::ContainerSpec,
    root::Root,
    shim, volume,
};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is as it has to be.
    pub good: bool,
    /// Whether jobs cannot run without it.
    pub needed: bool,
    /// What was found.
    pub found: String,
    /// What to do about it, where it is not good.
    pub help: Option<String>,
}

/// Looks at everything that jobs need of the machine, the basic first. What needs root to be tried is said to be untried
/// where this process is not root.
pub fn doctor(config: &Config) -> Vec<Finding> {
    let root = nix::unistd::Uid::effective().is_root();
    let mut findings = vec![
        finding(
            "root",
            if root { Ok("yes".into()) } else { Err("no".into()) },
            "run the warden and this command as root",
        ),
        finding("kernel", kernel(), "Linux 5.10 or newer is needed"),
        finding("user namespaces", user_namespaces(), "set the sysctl user.max_user_namespaces to 10000 or so"),
        finding(
            "control groups",
            control_groups(),
            "mount cgroup2 at /sys/fs/cgroup, with the controllers memory, cpu and pids",
        ),
        finding("runtime", version(&config.runtime, "--version"), "install the package runc, or set warden.runtime"),
        finding("mkfs.ext4", version(Path::new("mkfs.ext4"), "-V"), "install the package e2fsprogs"),
        finding("loop devices", loop_devices(), "load the kernel module `loop`"),
        finding(
            "Java 17",
            java(&config.java_home),
            "install the package openjdk-17-jre-headless, or set warden.java_home",
        ),
        finding("python3", version(Path::new("/usr/bin/python3"), "--version"), "install the package python3"),
        finding(
            "owner of the engines",
            owner_of_engines(config),
            "as root: `casemate engine verify`, then `chown -R root:root` and `chmod -R go-w` on the directory of the engines",
        ),
        Finding {
            needed: false,
            ..finding(
                "nftables",
                version(Path::new("nft"), "--version"),
                "install the package nftables: jobs with an allow-list of addresses will need it",
            )
        },
    ];
    if root {
        let trial = Trial::new(config);
        let volume = trial.volume();
        findings.push(finding("local storage", volume, match config.scratch_encryption {
            ScratchEncryption::Fscrypt => {
                "a kernel with CONFIG_FS_ENCRYPTION; or, if the disk below is encrypted, set warden.scratch_encryption = \"none\""
            }
            ScratchEncryption::None => "the cause says what failed",
        }));
        findings.push(finding(
            "a container",
            trial.container(),
            "the cause is the runtime's; with control groups of both versions use runc",
        ));
    }
    findings
}

fn finding(what: &'static str, outcome: Result<String, String>, help: &str) -> Finding {
    let good = outcome.is_ok();
    let found = outcome.unwrap_or_else(|cause| cause);
    Finding { what, good, needed: true, found, help: (!good).then(|| help.to_owned()) }
}

fn kernel() -> Result<String, String> {
    let release =
        nix::sys::utsname::uname().map_err(|cause| cause.to_string())?.release().to_string_lossy().into_owned();
    let own = nix::unistd::getpid();
    match shim::pidfd(own) {
        Ok(_) => Ok(release),
        Err(cause) => Err(format!("{release}, which has no process descriptors: {cause}")),
    }
}

fn user_namespaces() -> Result<String, String> {
    let text = fs::read_to_string("/proc/sys/user/max_user_namespaces")
        .map_err(|cause| format!("the kernel has none: {cause}"))?;
    match text.trim().parse::<u64>() {
        Ok(most) if most > 0 => Ok(format!("at most {most}")),
        _ => Err(format!("at most {}", text.trim())),
    }
}

fn control_groups() -> Result<String, String> {
    let groups = Cgroups::find().map_err(|cause| cause.to_string())?;
    let missing = groups.missing_controllers();
    if !missing.is_empty() {
        return Err(format!("without {}", missing.join(", ")));
    }
    let layout = groups.layout();
    Ok(match groups.limits_swap() {
        true => layout.to_owned(),
        false => format!("{layout}; swap cannot be limited, so keep it off"),
    })
}

fn version(program: &Path, argument: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(argument).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    let output = command.output().map_err(|cause| format!("{}: {cause}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()),
        false => Err(format!("{} fails: {}", program.display(), String::from_utf8_lossy(&text).trim())),
    }
}

fn loop_devices() -> Result<String, String> {
    match fs::metadata("/dev/loop-control") {
        Ok(_) => Ok("yes".into()),
        Err(cause) => Err(format!("/dev/loop-control: {cause}")),
    }
}

fn java(home: &Path) -> Result<String, String> {
    let release = fs::read_to_string(home.join("release")).map_err(|cause| format!("{}: {cause}", home.display()))?;
    let version =
        release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=")).unwrap_or("unknown").trim_matches('"');
    match version.starts_with("17") && home.join("bin/java").is_file() {
        true => Ok(format!("{version} in {}", home.display())),
        false => Err(format!("{version} in {}", home.display())),
    }
}

fn owner_of_engines(config: &Config) -> Result<String, String> {
    if !config.engines.exists() {
        return Ok("none is installed".into());
    }
    engines::look(config).map(|count| format!("root, of {count}"))
}

/// A node's volume and a container, made as those of jobs are, in a place of their own.
struct Trial {
    config: Config,
    id: SandboxId,
}

impl Trial {
    fn new(config: &Config) -> Trial {
        let name = format!("casemate-doctor-{}", std::process::id());
        let (run, data) = (PathBuf::from("/run").join(&name), PathBuf::from("/var/tmp").join(&name));
        let id = SandboxId { job: JobId(uuid::Uuid::nil()), attempt: AttemptNo(1) };
        Trial { config: Config { run, data, ..config.clone() }, id }
    }

    fn volume(&self) -> Result<String, String> {
        self.cleaned(|| {
            volume::create(&self.config, self.id, &NodeName::driver(), MiB(SIZE))?;
            Ok(match self.config.scratch_encryption {
                ScratchEncryption::Fscrypt => "encrypted by fscrypt".into(),
                ScratchEncryption::None => "not encrypted, by configuration".into(),
            })
        })
    }

    fn container(&self) -> Result<String, String> {
        self.cleaned(|| {
            let node = NodeName::driver();
            let cgroups = Cgroups::find()?;
            let root = Root::prepare(&self.config)?;
            let network = Network::create()?;
            let bundle = self.config.bundle(self.id, &node);
            let ids = Ids::of(&self.config, 0);
            for name in ["work", "scratch", "tmp", "conf"] {
                fs::create_dir_all(bundle.join("volume").join(name)).doing("making a bundle")?;
            }
            let spec = ContainerSpec {
                id: self.id,
                node: node.clone(),
                argv: vec!["/usr/bin/true".into()],
                env: vec![("PATH".into(), "/usr/bin".into())],
                cwd: "/work".into(),
                cores: Cores(1),
                memory: MiB(SIZE),
                storage: MiB(SIZE),
            };
            let config = bundle::config(
                &spec,
                &Surroundings {
                    ids,
                    root: &root,
                    engine: &root.path.join("empty"),
                    volume: &bundle.join("volume"),
                    conf: &bundle.join("volume/conf"),
                    network: format!("/proc/{}/fd/{}", std::process::id(), network.namespace.as_raw_fd()).as_ref(),
                    cgroup: &self.config.container_cgroup(self.id, &node),
                    limits_swap: cgroups.limits_swap(),
                    pure_v2: cgroups.pure_v2,
                    open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard),
                    oom_score: 0,
                },
            );
            let bytes = serde_json::to_vec(&config).doing("writing a bundle")?;
            write_whole(&bundle.join("config.json"), &bytes, 0o600).doing("writing a bundle")?;
            let output = Command::new(&self.config.runtime)
                .arg("--root")
                .arg(self.config.runtime_root())
                .args(["run", "--bundle"])
                .arg(&bundle)
                .arg(Config::container(self.id, &node))
                .stdin(Stdio::null())
                .output()
                .doing("running the runtime")?;
            match output.status.success() {
                true => Ok("runs".into()),
                false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()).doing("running a container"),
            }
        })
    }

    /// Makes the places, does it, and removes all of it, whatever came of it.
    fn cleaned(&self, act: impl FnOnce() -> Result<String, Error>) -> Result<String, String> {
        // Anybody may write there: what stands there already is somebody else's, a link perhaps, and is left alone.
        let mine = fs::create_dir(&self.config.data).doing(format!("making {}", self.config.data.display()));
        mine.map_err(|cause| cause.to_string())?;
        let prepare = || -> std::io::Result<()> {
            for place in [&self.config.run, &self.config.data, &self.config.sandboxes()] {
                own_dir(place, 0o711, (0, 0))?;
            }
            fs::create_dir_all(self.config.bundle(self.id, &NodeName::driver()))
        };
        let outcome = prepare().doing("making a place to try").and_then(|()| act());
        let cleared = crate::destroy_all(&self.config);
        let removed =
            remove_tree(&self.config.run).and_then(|()| remove_tree(&self.config.data)).doing("removing the place");
        outcome.and_then(|found| cleared.and(removed).map(|()| found)).map_err(|cause| cause.to_string())
    }
}

/// Memory and disk of a trial, MiB.
const SIZE: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_what_to_do() {
        let config = Config {
            data: "/nowhere".into(),
            run: "/nowhere".into(),
            engines: "/nowhere".into(),
            service_uid: 1,
            service_gid: 1,
            runtime: "/nowhere/runc".into(),
            java_home: "/nowhere/java".into(),
            uid_base: 700_000_000,
            scratch_encryption: ScratchEncryption::Fscrypt,
            executable: "/proc/self/exe".into(),
        };
        let findings = doctor(&config);
        for what in ["runtime", "Java 17"] {
            let finding = findings.iter().find(|finding| finding.what == what).expect("looked at");
            assert!(!finding.good && finding.needed && finding.help.is_some(), "{finding:?}");
        }
        assert!(findings.iter().all(|finding| finding.good != finding.help.is_some()));
    }
}
