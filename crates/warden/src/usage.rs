//! What the containers of a sandbox use, by the kernel's count, with control groups of both versions. For the sandbox's shim:
//! anybody may read these files, so that it needs no right and no call of the warden.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::NodeName;

/// Reads what the containers of one sandbox use.
#[derive(Debug, Clone)]
pub struct Meter {
    /// The sandbox's group, below the root of each hierarchy.
    group: PathBuf,
    version_2: Option<PathBuf>,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    blkio: Option<PathBuf>,
}

/// What a container uses. `None` is what this kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Processor time since its start, in microseconds.
    pub cpu: Option<u64>,
    /// Time in which it was kept from running by its processor quota, in microseconds.
    pub throttled: Option<u64>,
    /// Memory now, page cache included, in bytes.
    pub memory: Option<u64>,
    /// The most that it was, in bytes.
    pub memory_peak: Option<u64>,
    /// Processes and threads now.
    pub processes: Option<u64>,
    /// Bytes read from block devices since its start.
    pub disk_read: Option<u64>,
    /// Bytes written to block devices since its start.
    pub disk_written: Option<u64>,
}

impl Meter {
    /// Of the sandbox whose shim this process is.
    pub fn of_own_sandbox() -> io::Result<Meter> {
        let (mounts, groups) = (fs::read_to_string("/proc/self/mounts")?, fs::read_to_string("/proc/self/cgroup")?);
        Meter::of(&mounts, &groups).ok_or_else(|| io::Error::other("this process is in no control group of a sandbox"))
    }

    fn of(mounts: &str, groups: &str) -> Option<Meter> {
        let mut meter = Meter {
            group: own_group(groups)?,
            version_2: None,
            cpu: None,
            cpuacct: None,
            memory: None,
            pids: None,
            blkio: None,
        };
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(place), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let has = |controller: &str| kind == "cgroup" && options.split(',').any(|option| option == controller);
            if kind == "cgroup2" {
                meter.version_2 = Some(place.into());
            }
            for (controller, root) in [
                ("cpu", &mut meter.cpu),
                ("cpuacct", &mut meter.cpuacct),
                ("memory", &mut meter.memory),
                ("pids", &mut meter.pids),
                ("blkio", &mut meter.blkio),
            ] {
                if has(controller) {
                    *root = Some(place.into());
                }
            }
        }
        Some(meter)
    }

    /// The nodes that have a container now.
    pub fn nodes(&self) -> Vec<NodeName> {
        let Some(root) = self.memory.as_ref().or(self.version_2.as_ref()) else { return Vec::new() };
        let entries = fs::read_dir(root.join(&self.group)).into_iter().flatten().flatten();
        let mut nodes: Vec<NodeName> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        nodes.sort_unstable();
        nodes
    }

    /// What a node's container uses.
    pub fn read(&self, node: &NodeName) -> Reading {
        let file = |root: &Option<PathBuf>, name: &str| -> Option<String> {
            fs::read_to_string(root.as_ref()?.join(&self.group).join(node.as_str()).join(name)).ok()
        };
        let number = |root: &Option<PathBuf>, name: &str| file(root, name)?.trim().parse::<u64>().ok();
        let micros = |nanoseconds: u64| nanoseconds / 1000;
        // A controller is of one version or of the other.
        let of_2 = |mounted: &Option<PathBuf>| match mounted {
            Some(_) => None,
            None => self.version_2.clone(),
        };
        let (cpu_2, memory_2, pids_2, io_2) =
            (of_2(&self.cpu), of_2(&self.memory), of_2(&self.pids), of_2(&self.blkio));
        let of_cpu = file(&cpu_2, "cpu.stat");
        let of_cpu = of_cpu.as_deref();
        let of_io = file(&io_2, "io.stat").map(|text| (sum_of(&text, "rbytes="), sum_of(&text, "wbytes=")));
        let of_io = of_io.or_else(|| {
            let text = file(&self.blkio, "blkio.throttle.io_service_bytes")?;
            Some((sum_of(&text, "Read "), sum_of(&text, "Write ")))
        });
        let old_cpu = file(&self.cpu, "cpu.stat");
        Reading {
            cpu: of_cpu
                .and_then(|text| field(text, "usage_usec"))
                .or_else(|| number(&self.cpuacct, "cpuacct.usage").map(micros)),
            throttled: of_cpu
                .and_then(|text| field(text, "throttled_usec"))
                .or_else(|| field(old_cpu.as_deref()?, "throttled_time").map(micros)),
            memory: number(&memory_2, "memory.current").or_else(|| number(&self.memory, "memory.usage_in_bytes")),
            memory_peak: number(&memory_2, "memory.peak").or_else(|| number(&self.memory, "memory.max_usage_in_bytes")),
            processes: number(&pids_2, "pids.current").or_else(|| number(&self.pids, "pids.current")),
            disk_read: of_io.map(|(read, _)| read),
            disk_written: of_io.map(|(_, written)| written),
        }
    }
}

/// The sandbox's group: the one above that of this process.
fn own_group(groups: &str) -> Option<PathBuf> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let own = paths.filter_map(|path| path.trim_start_matches('/').strip_suffix("/platform")).next()?;
    Some(Path::new(own).to_owned())
}

/// The number behind a name that begins a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The sum of all numbers that stand behind a name, one a device.
fn sum_of(text: &str, name: &str) -> u64 {
    let numbers = text.lines().filter_map(|line| line.split_once(name)?.1.split(' ').next()?.parse::<u64>().ok());
    numbers.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let file = root.join(name);
            fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            fs::write(file, text).expect("written");
        }
    }

    #[test]
    fn both_versions_tell_the_same() {
        let expected = Reading {
            cpu: Some(1_500_000),
            throttled: Some(2_000),
            memory: Some(4096),
            memory_peak: Some(8192),
            processes: Some(7),
            disk_read: Some(30),
            disk_written: Some(5),
        };
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().display().to_string();
        write(
            dir.path(),
            &[
                ("two/c/s/driver/cpu.stat", "usage_usec 1500000\nuser_usec 1\nthrottled_usec 2000\n"),
                ("two/c/s/driver/memory.current", "4096\n"),
                ("two/c/s/driver/memory.peak", "8192\n"),
                ("two/c/s/driver/pids.current", "7\n"),
                ("two/c/s/driver/io.stat", "8:0 rbytes=10 wbytes=5 rios=1 wios=1\n8:16 rbytes=20 wbytes=0\n"),
                ("cpu/c/s/driver/cpu.stat", "nr_periods 3\nnr_throttled 1\nthrottled_time 2000000\n"),
                ("cpuacct/c/s/driver/cpuacct.usage", "1500000000\n"),
                ("memory/c/s/driver/memory.usage_in_bytes", "4096\n"),
                ("memory/c/s/driver/memory.max_usage_in_bytes", "8192\n"),
                ("memory/c/s/platform/tasks", ""),
                ("pids/c/s/driver/pids.current", "7\n"),
                (
                    "blkio/c/s/driver/blkio.throttle.io_service_bytes",
                    "8:0 Read 10\n8:0 Write 5\n8:16 Read 20\nTotal 35\n",
                ),
            ],
        );
        let second = Meter::of(&format!("cgroup2 {root}/two cgroup2 rw 0 0\n"), "0::/c/s/platform\n").expect("a meter");
        let mounts: String = ["cpu", "cpuacct", "memory", "pids", "blkio"]
            .iter()
            .map(|name| format!("cgroup {root}/{name} cgroup rw,relatime,{name} 0 0\n"))
            .collect();
        // Joined where processes are tracked alone.
        let hybrid = format!("{mounts}cgroup2 {root}/none cgroup2 rw 0 0\n");
        let first = Meter::of(&hybrid, "4:memory:/elsewhere\n0::/c/s/platform\n").expect("a meter");
        for meter in [second, first] {
            assert_eq!(meter.nodes(), [NodeName::driver()]);
            assert_eq!(meter.read(&NodeName::driver()), expected, "{meter:?}");
            assert_eq!(meter.read(&NodeName::executor(1)), Reading::default(), "it is not there");
        }
        assert!(Meter::of(&mounts, "4:memory:/user.slice\n0::/\n").is_none());
    }
}
