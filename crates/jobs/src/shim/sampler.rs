//! Looks how much the nodes of the attempt use, and keeps that in the spool. What the kernel counts, nobody in the job can
//! change. What Spark counts comes from inside the job, as plain text over UDP on the job's loopback (Spark's sink for
//! Graphite): whatever is sent there may be the user's, so that little of it is read, and it is marked as the job's.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crypto::Key;
use engine::spark::REPORTS;
use model::NodeName;
use tokio::{net::UdpSocket, time::Instant};
use tokio_util::sync::CancellationToken;
use warden::{Meter, Reading};

use crate::{
    history::{History, WHOLE_JOB},
    spool::write_used,
};

/// A sampler that works.
pub struct Sampler {
    ending: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Sampler {
    /// Starts it; `work` is the driver's `/work` on the host. Whatever it cannot look at is left out.
    pub async fn start(key: Key, work: &Path) -> Sampler {
        let meter = Meter::of_own_sandbox()
            .inspect_err(|cause| tracing::warn!(%cause, "what the containers use cannot be seen"))
            .ok();
        // Before the driver runs, so that nobody in the job takes the place.
        let reports = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, REPORTS))
            .await
            .inspect_err(|cause| tracing::warn!(%cause, "what Spark counts cannot be heard"))
            .ok();
        let ending = CancellationToken::new();
        // A container that waited for the attempt has worked before it.
        let before =
            meter.iter().flat_map(|meter| meter.nodes().into_iter().map(|node| (node.clone(), meter.read(&node))));
        let (before, network) = (before.collect(), loopback().unwrap_or_default());
        let (history, told) = (History::new(), BTreeMap::new());
        let state = State { key, work: work.to_owned(), meter, reports, before, network, history, told };
        let task = tokio::spawn(state.run(ending.clone()));
        Sampler { ending, task }
    }

    /// Looks once more, and returns once all is durable.
    pub async fn finish(self) {
        self.ending.cancel();
        if tokio::time::timeout(LAST_PATIENCE, self.task).await.is_err() {
            tracing::warn!("what the attempt used may not be kept whole");
        }
    }
}

struct State {
    key: Key,
    work: PathBuf,
    meter: Option<Meter>,
    reports: Option<UdpSocket>,
    /// What containers had used when the attempt took them.
    before: BTreeMap<NodeName, Reading>,
    /// The same of the network.
    network: u64,
    history: History,
    /// The newest that Spark told of each node.
    told: BTreeMap<NodeName, BTreeMap<&'static str, u64>>,
}

impl State {
    async fn run(mut self, ending: CancellationToken) {
        let mut next = Instant::now() + self.period();
        let (mut listen_from, mut written) = (Instant::now(), Instant::now());
        while !ending.is_cancelled() {
            tokio::select! {
                () = ending.cancelled() => break,
                () = tokio::time::sleep_until(next) => {
                    self.sample();
                    next = Instant::now() + self.period();
                    if written.elapsed() >= WRITE_EVERY {
                        self.write(false).await;
                        written = Instant::now();
                    }
                }
                () = ready(self.reports.as_ref(), listen_from) => {
                    self.hear();
                    // Who sends without end is heard now and then, and costs no more.
                    listen_from = Instant::now() + LISTEN_EVERY;
                }
            }
        }
        self.hear();
        self.sample();
        self.write(true).await;
    }

    fn period(&self) -> Duration {
        Duration::from_millis(self.history.period)
    }

    /// A point of every node that has a container, or of which there is news.
    fn sample(&mut self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let mut nodes = self.meter.as_ref().map(Meter::nodes).unwrap_or_default();
        nodes.extend(self.told.keys().cloned());
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let mut seen = self.meter.as_ref().map(|meter| meter.read(&node)).unwrap_or_default();
            match self.before.get(&node) {
                // Its counts began anew: it is another container.
                Some(before) if seen.cpu < before.cpu => drop(self.before.remove(&node)),
                Some(before) => seen = less(&seen, before),
                None => {}
            }
            let told = self.told.remove(&node).unwrap_or_default();
            let readings = kernels(&seen, volume_used(&self.work, &node));
            if seen != Reading::default() || !told.is_empty() {
                self.history.add(node.as_str(), at, readings.chain(told));
            }
        }
        if let Some(bytes) = loopback() {
            self.history.add(WHOLE_JOB, at, [("network", bytes.saturating_sub(self.network))]);
        }
        self.history.settle();
    }

    /// Takes what was sent, a bounded number of lines, of nodes that have a container or had one: names that the job makes up
    /// would take the places of others.
    fn hear(&mut self) {
        let Some(reports) = &self.reports else { return };
        let standing = self.meter.as_ref().map(Meter::nodes).unwrap_or_default();
        let mut line = [0; LONGEST_LINE];
        for _ in 0..MOST_AT_ONCE {
            let Ok(length) = reports.try_recv(&mut line) else { return };
            let Some((node, name, value)) = read_line(&line[..length]) else { continue };
            if standing.contains(&node) || self.history.nodes.contains_key(node.as_str()) {
                self.told.entry(node).or_default().insert(name, value);
            }
        }
    }

    async fn write(&self, durable: bool) {
        let (key, history) = (self.key.clone(), self.history.clone());
        let written = tokio::task::spawn_blocking(move || write_used(".".as_ref(), &key, &history, durable)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => tracing::warn!(%cause, "what the attempt uses was not written"),
            Err(cause) => tracing::warn!(%cause, "what the attempt uses was not written"),
        }
    }
}

/// Waits until there is something to hear, and it is time to.
async fn ready(reports: Option<&UdpSocket>, from: Instant) {
    tokio::time::sleep_until(from).await;
    match reports {
        Some(reports) => drop(reports.readable().await),
        None => std::future::pending().await,
    }
}

/// What a container used since `before`; levels are as they are.
fn less(seen: &Reading, before: &Reading) -> Reading {
    let left = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then.unwrap_or_default()));
    Reading {
        cpu: left(seen.cpu, before.cpu),
        throttled: left(seen.throttled, before.throttled),
        disk_read: left(seen.disk_read, before.disk_read),
        disk_written: left(seen.disk_written, before.disk_written),
        ..*seen
    }
}

/// What the kernel says of a node.
fn kernels(seen: &Reading, volume: Option<u64>) -> impl Iterator<Item = (&'static str, u64)> {
    [
        ("cpuTime", seen.cpu),
        ("throttledTime", seen.throttled),
        ("memory", seen.memory),
        ("memoryPeak", seen.memory_peak),
        ("processes", seen.processes),
        ("diskRead", seen.disk_read),
        ("diskWritten", seen.disk_written),
        ("volumeUsed", volume),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// Bytes that a node's volume has in use. Volumes are beside each other; the driver's `/work` is in its own.
fn volume_used(work: &Path, node: &NodeName) -> Option<u64> {
    let data = work.parent()?;
    let volume = data.parent()?.parent()?.join(node.as_str()).join(data.file_name()?);
    let about = nix::sys::statvfs::statvfs(&volume).ok()?;
    Some((about.blocks().saturating_sub(about.blocks_free())).saturating_mul(about.fragment_size()))
}

/// Bytes that went over the job's network, which is loopback alone.
fn loopback() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/net/dev").ok()?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A line of Graphite's plain text protocol: `APP.NODE.executor.METRIC VALUE TIME`.
fn read_line(line: &[u8]) -> Option<(NodeName, &'static str, u64)> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (path, value) = (fields.next()?, fields.next()?);
    let path = path.strip_suffix(".count").unwrap_or(path);
    let (name, before) = TOLD.iter().find_map(|(suffix, name)| Some((*name, path.strip_suffix(suffix)?)))?;
    let id = before.rsplit('.').next()?;
    let node = match id {
        "driver" => NodeName::driver(),
        number => NodeName::executor(number.parse().ok().filter(|number| (1..1_000_000).contains(number))?),
    };
    let value = value.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)?;
    Some((node, name, value as u64))
}

/// What Spark's executors count (`ExecutorSource` of Spark 3.5 and 4), and how it is called here.
const TOLD: [(&str, &str); 12] = [
    (".executor.succeededTasks", "tasks"),
    (".executor.threadpool.activeTasks", "activeTasks"),
    (".executor.runTime", "runTime"),
    (".executor.jvmGCTime", "gcTime"),
    (".executor.shuffleTotalBytesRead", "shuffleRead"),
    (".executor.shuffleBytesWritten", "shuffleWritten"),
    (".executor.bytesRead", "inputBytes"),
    (".executor.recordsRead", "inputRecords"),
    (".executor.bytesWritten", "outputBytes"),
    (".executor.recordsWritten", "outputRecords"),
    (".executor.memoryBytesSpilled", "memorySpilled"),
    (".executor.diskBytesSpilled", "diskSpilled"),
];
const LONGEST_LINE: usize = 1024;
const MOST_AT_ONCE: usize = 512;
const LISTEN_EVERY: Duration = Duration::from_millis(200);
const WRITE_EVERY: Duration = Duration::from_secs(5);
const LAST_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use crate::history::{MEASURES, NodeHistory};

    use super::*;

    #[test]
    fn what_spark_says_is_read_and_all_else_is_passed_over() {
        let (driver, first) = (NodeName::driver(), NodeName::executor(1));
        for (line, expected) in [
            (
                "spark-1f.1.executor.shuffleBytesWritten.count 4096 1700000000\n",
                Some((first.clone(), "shuffleWritten", 4096)),
            ),
            ("local-17.driver.executor.jvmGCTime.count 12 1700000000\n", Some((driver.clone(), "gcTime", 12))),
            ("my.own.name.1.executor.threadpool.activeTasks 3 1\n", Some((first, "activeTasks", 3))),
            ("a.driver.executor.runTime.count 1.5E3 1\n", Some((driver, "runTime", 1500))),
            ("a.driver.jvm.heap.used 5 1\n", None),
            ("a.0.executor.runTime.count 5 1\n", None),
            ("a.99999999999.executor.runTime.count 5 1\n", None),
            ("a.../etc.executor.runTime 5 1\n", None),
            ("a.1.executor.runTime.count -5 1\n", None),
            ("a.1.executor.runTime.count NaN 1\n", None),
            ("a.1.executor.runTime.count inf 1\n", None),
            ("a.1.executor.runTime.count\n", None),
            ("", None),
            ("executor.runTime 1 1", None),
            ("\u{fffd} \u{fffd}", None),
        ] {
            assert_eq!(read_line(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(read_line(b"\xff.1.executor.runTime 1 1"), None);
        for (_, name) in TOLD {
            assert!(MEASURES.iter().any(|measure| measure.name == name), "{name}");
        }
    }

    #[tokio::test]
    async fn names_that_the_job_makes_up_take_no_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let reports = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        sender.connect(reports.local_addr().expect("bound")).expect("connected");
        let mut history = History::new();
        history.add("driver", 1, [("cpuTime", 1)]);
        history.add("executor-1", 1, [("cpuTime", 1)]);
        let (key, work) = (Key::random().expect("a key"), dir.path().join("driver/data/work"));
        let (before, told) = (BTreeMap::new(), BTreeMap::new());
        let mut state = State { key, work, meter: None, reports: Some(reports), before, network: 0, history, told };
        for number in (2..100).chain([1]) {
            let line = format!("app.{number}.executor.runTime.count {number} 1");
            sender.send(line.as_bytes()).expect("sent");
        }
        ready(state.reports.as_ref(), Instant::now()).await;
        state.hear();
        state.sample();
        let runs = |node: &NodeHistory| node.values.get("runTime").cloned();
        let found: Vec<_> = state.history.nodes.iter().map(|(name, node)| (name.as_str(), runs(node))).collect();
        let found: Vec<_> = found.into_iter().filter(|(name, _)| *name != WHOLE_JOB).collect();
        assert_eq!(found, [("driver", None), ("executor-1", Some(vec![None, Some(1)]))]);
    }

    #[test]
    fn what_a_container_used_while_it_waited_is_not_the_jobs() {
        let before =
            Reading { cpu: Some(5), throttled: None, memory: Some(7), disk_read: Some(9), ..Reading::default() };
        let seen = Reading { cpu: Some(8), throttled: Some(1), memory: Some(6), ..Reading::default() };
        let used = Reading { cpu: Some(3), throttled: Some(1), memory: Some(6), ..Reading::default() };
        assert_eq!(less(&seen, &before), used);
    }

    #[test]
    fn the_volume_of_a_node_is_beside_that_of_the_driver() {
        let dir = tempfile::tempdir().expect("a directory");
        for node in ["driver", "executor-1"] {
            std::fs::create_dir_all(dir.path().join(node).join("data/work")).expect("made");
        }
        let work = dir.path().join("driver/data/work");
        assert!(volume_used(&work, &NodeName::executor(1)).is_some());
        assert!(volume_used(&work, &NodeName::executor(2)).is_none());
    }
}
