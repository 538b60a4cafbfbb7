//! What the warden is told at its start, and the places that follow from it.

use std::path::PathBuf;

use model::{EngineVersion, NodeName, SandboxId};
use serde::{Deserialize, Serialize};

/// How volumes are encrypted at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScratchEncryption {
    /// By the file system, with a random key per volume that only the kernel holds (fscrypt v2, AES-256-XTS).
    Fscrypt,
    /// Not at all: the operator says that what lies below is encrypted.
    None,
}

/// Configuration of the warden.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The run directory.
    pub run: PathBuf,
    /// Directory of the engines: `spark-VERSION` in it is mounted at `/opt/spark`.
    pub engines: PathBuf,
    /// User of `serve`, whose calls are obeyed.
    pub service_uid: u32,
    /// Its group, which may read the spools.
    pub service_gid: u32,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// The Java runtime of jobs, mounted at the same place.
    pub java_home: PathBuf,
    /// First host user id of the ranges.
    pub uid_base: u32,
    /// Encryption of volumes.
    pub scratch_encryption: ScratchEncryption,
    /// The program that has the subcommands `shim` and `monitor`: this one.
    pub executable: PathBuf,
}

impl Config {
    /// The warden's socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("warden.sock")
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.run.join("sandboxes")
    }

    pub(crate) fn sandbox(&self, id: SandboxId) -> PathBuf {
        self.sandboxes().join(id.to_string())
    }

    pub(crate) fn shims(&self) -> PathBuf {
        self.run.join("shims")
    }

    pub(crate) fn shim_socket(&self, id: SandboxId) -> PathBuf {
        self.shims().join(format!("{id}.sock"))
    }

    pub(crate) fn volume(&self, id: SandboxId, node: &NodeName) -> PathBuf {
        self.sandbox(id).join("volumes").join(node.as_str())
    }

    pub(crate) fn bundles(&self, id: SandboxId) -> PathBuf {
        self.sandbox(id).join("bundles")
    }

    pub(crate) fn bundle(&self, id: SandboxId, node: &NodeName) -> PathBuf {
        self.bundles(id).join(node.as_str())
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.data.join("scratch")
    }

    /// Where a sandbox's engine is mounted.
    pub(crate) fn engine_of(&self, id: SandboxId) -> PathBuf {
        self.sandbox(id).join("engine")
    }

    pub(crate) fn image(&self, id: SandboxId, node: &NodeName) -> PathBuf {
        self.images().join(id.to_string()).join(format!("{node}.img"))
    }

    pub(crate) fn engine(&self, version: &EngineVersion) -> PathBuf {
        self.engines.join(format!("spark-{version}"))
    }

    /// State directory of the OCI runtime: this warden's alone.
    pub(crate) fn runtime_root(&self) -> PathBuf {
        self.run.join("runtime")
    }

    /// This instance's control group, below the roots of the hierarchies: of its run directory, so no other's.
    pub(crate) fn cgroup_parent(&self) -> String {
        let path = self.run.to_string_lossy();
        let words: Vec<&str> =
            path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        format!("casemate-{}", words.join("-"))
    }

    /// A sandbox's control group.
    pub(crate) fn cgroup(&self, id: SandboxId) -> String {
        format!("{}/{id}", self.cgroup_parent())
    }

    /// A container's control group.
    pub(crate) fn container_cgroup(&self, id: SandboxId, node: &NodeName) -> String {
        format!("{}/{node}", self.cgroup(id))
    }

    /// A container's name, as the OCI runtime knows it.
    pub(crate) fn container(id: SandboxId, node: &NodeName) -> String {
        format!("{id}.{node}")
    }
}

/// Host ids that one sandbox has for itself.
pub(crate) const RANGE: u32 = 65_536;
/// Ids of a range that exist inside its containers; the rest is for the shim.
pub(crate) const MAPPED: u32 = 65_534;
/// How many ranges there are, so how many sandboxes there can be at once.
pub(crate) const SLOTS: u32 = 4_096;
/// The user of a job's processes, as they see it.
pub(crate) const JOB_USER: u32 = 1_000;

/// The ids of the sandbox in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    /// First host id of the range: root inside.
    pub base: u32,
}

impl Ids {
    pub fn of(config: &Config, slot: u32) -> Ids {
        Ids { base: config.uid_base + slot * RANGE }
    }

    /// The shim's user: in the range, but not mapped inside.
    pub fn shim_uid(self) -> u32 {
        self.base + RANGE - 1
    }

    /// Whether `uid` is that of the shim of some range.
    pub fn is_shim(config: &Config, uid: u32) -> bool {
        uid.checked_sub(config.uid_base).is_some_and(|offset| offset % RANGE == RANGE - 1 && offset / RANGE < SLOTS)
    }
}
