//! What the nodes of a job used over time: points at equal distances, a bounded number of them however long a job runs.
//! When there are too many, each two become one: of a count the later, of a level the higher.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// The unit of its numbers.
    pub unit: &'static str,
    /// Whether it only rises.
    pub kind: Kind,
    /// Who says so.
    pub source: Source,
}

/// What the numbers of a measure are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All since the node's start.
    Counter,
    /// A level; the highest since the point before.
    Gauge,
}

/// Who tells the numbers of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel: the job cannot change what it says.
    Platform,
    /// Spark, inside the job: its code can.
    Job,
}

/// All that is measured.
pub const MEASURES: [Measure; 21] = {
    use {Kind::*, Source::*};
    const fn of(name: &'static str, unit: &'static str, kind: Kind, source: Source) -> Measure {
        Measure { name, unit, kind, source }
    }
    [
        of("cpuTime", "microseconds", Counter, Platform),
        of("throttledTime", "microseconds", Counter, Platform),
        of("memory", "bytes", Gauge, Platform),
        of("memoryPeak", "bytes", Gauge, Platform),
        of("processes", "processes", Gauge, Platform),
        of("diskRead", "bytes", Counter, Platform),
        of("diskWritten", "bytes", Counter, Platform),
        of("volumeUsed", "bytes", Gauge, Platform),
        of("network", "bytes", Counter, Platform),
        of("tasks", "tasks", Counter, Job),
        of("activeTasks", "tasks", Gauge, Job),
        of("runTime", "milliseconds", Counter, Job),
        of("gcTime", "milliseconds", Counter, Job),
        of("shuffleRead", "bytes", Counter, Job),
        of("shuffleWritten", "bytes", Counter, Job),
        of("inputBytes", "bytes", Counter, Job),
        of("inputRecords", "records", Counter, Job),
        of("outputBytes", "bytes", Counter, Job),
        of("outputRecords", "records", Counter, Job),
        of("memorySpilled", "bytes", Counter, Job),
        of("diskSpilled", "bytes", Counter, Job),
    ]
};

/// The node of what is of the whole job: its network.
pub const WHOLE_JOB: &str = "job";

/// What an attempt used over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Milliseconds from a point to the next.
    pub period: u64,
    /// Whether there were more nodes than are kept.
    pub truncated: bool,
    /// What each node used: `driver`, `executor-N`, and [`WHOLE_JOB`].
    pub nodes: BTreeMap<String, NodeHistory>,
}

/// What a node used over time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHistory {
    /// When each point was taken, in Unix milliseconds, rising.
    pub times: Vec<i64>,
    /// The numbers of each measure by its name, one a point; none where it was not told.
    pub values: BTreeMap<String, Vec<Option<u64>>>,
}

impl History {
    /// Without a point.
    pub fn new() -> History {
        History { period: FIRST_PERIOD, truncated: false, nodes: BTreeMap::new() }
    }

    /// Adds a point of a node. What is no measure is left out.
    pub fn add(&mut self, node: &str, at: i64, readings: impl IntoIterator<Item = (&'static str, u64)>) {
        if !self.nodes.contains_key(node) && self.nodes.len() >= MOST_NODES {
            self.truncated = true;
            return;
        }
        let of_node = self.nodes.entry(node.to_owned()).or_default();
        if of_node.times.last().is_some_and(|last| *last >= at) {
            // The clock went back.
            return;
        }
        let before = of_node.times.len();
        of_node.times.push(at);
        for (name, value) in readings {
            let Some(measure) = MEASURES.iter().find(|measure| measure.name == name) else { continue };
            let column = of_node.values.entry(measure.name.to_owned()).or_insert_with(|| vec![None; before]);
            column.truncate(before);
            column.push(Some(value));
        }
        for column in of_node.values.values_mut() {
            column.resize(before + 1, None);
        }
    }

    /// Call it when all nodes have their points of a moment: makes room for more where that is needed.
    pub fn settle(&mut self) {
        let cells = |history: &History| -> usize {
            history.nodes.values().map(|node| node.times.len() * (node.values.len() + 1)).sum()
        };
        while self.nodes.values().any(|node| node.times.len() > MOST_POINTS) || cells(self) > MOST_CELLS {
            if self.nodes.values().all(|node| node.times.len() < 2) {
                return;
            }
            self.period = self.period.saturating_mul(2);
            self.nodes.values_mut().for_each(NodeHistory::halve);
        }
    }

    /// Whether it is of a form that [`History::add`] makes: what is read from a bucket may be anybody's.
    pub fn is_whole(&self) -> bool {
        self.nodes.len() <= MOST_NODES
            && self.nodes.values().all(|node| {
                node.times.len() <= MOST_POINTS + 1
                    && node.values.len() <= MEASURES.len()
                    && node.values.values().all(|column| column.len() == node.times.len())
                    && node.times.windows(2).all(|pair| pair[0] < pair[1])
            })
    }
}

impl Default for History {
    fn default() -> History {
        History::new()
    }
}

impl NodeHistory {
    /// The newest number of a measure.
    pub fn newest(&self, name: &str) -> Option<u64> {
        self.values.get(name)?.iter().rev().find_map(|value| *value)
    }

    fn halve(&mut self) {
        self.times = self.times.chunks(2).filter_map(|pair| pair.last().copied()).collect();
        for (name, column) in &mut self.values {
            let kind = MEASURES.iter().find(|measure| measure.name == name).map(|measure| measure.kind);
            let joined = |pair: &[Option<u64>]| match kind {
                Some(Kind::Gauge) => pair.iter().copied().flatten().max(),
                _ => pair.iter().rev().find_map(|value| *value),
            };
            *column = column.chunks(2).map(joined).collect();
        }
    }
}

/// Milliseconds between the points of a job that has just begun.
const FIRST_PERIOD: u64 = 1_000;
/// Points of a node.
pub const MOST_POINTS: usize = 1_000;
/// Numbers of all nodes together: a MiB of them, for they are kept in the shim.
const MOST_CELLS: usize = 65_536;
const MOST_NODES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stream_of_weeks_keeps_its_sums_and_its_peaks_in_a_bounded_number_of_points() {
        let mut history = History::new();
        let (mut at, mut total) = (0, 0);
        for point in 0..20_000_u64 {
            at += i64::try_from(history.period).expect("a number");
            total += point % 7;
            let peak = if point == 777 { 1_000_000 } else { point % 100 };
            history.add("driver", at, [("cpuTime", total), ("memory", peak), ("no such thing", 1)]);
            history.settle();
            assert!(history.is_whole());
        }
        let driver = &history.nodes["driver"];
        assert!(history.period > 1_000 * 10 && driver.times.len() <= MOST_POINTS);
        assert_eq!(driver.newest("cpuTime"), Some(total));
        assert_eq!(driver.values["memory"].iter().flatten().max(), Some(&1_000_000));
        assert_eq!(driver.values.len(), 2);
    }

    proptest! {
        #[test]
        fn whatever_nodes_come_and_go_all_stays_bounded(
            points in prop::collection::vec((0_u32..100, 0_usize..21, any::<u64>()), 0..400)
        ) {
            let mut history = History::new();
            for (at, (node, measure, value)) in points.into_iter().enumerate() {
                let node = format!("executor-{node}");
                history.add(&node, i64::try_from(at).expect("a number"), [(MEASURES[measure].name, value)]);
                history.settle();
            }
            prop_assert!(history.is_whole());
            let text = serde_json::to_vec(&history).expect("text");
            prop_assert_eq!(serde_json::from_slice::<History>(&text).expect("a history"), history);
        }
    }

    #[test]
    fn many_nodes_share_the_room() {
        let mut history = History::new();
        for at in 0..900 {
            for node in 0..70 {
                let all = MEASURES.iter().map(|measure| (measure.name, at));
                history.add(&format!("executor-{node}"), i64::try_from(at).expect("a number"), all);
            }
            history.settle();
        }
        assert!(history.truncated && history.is_whole());
        let cells: usize = history.nodes.values().map(|node| node.times.len() * 22).sum();
        assert!(cells <= MOST_CELLS, "{cells}");
    }
}
