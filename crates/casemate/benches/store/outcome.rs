//! What was found: for each figure ours, theirs, and how many times the best of theirs ours is.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::{
    load::{Figure, Measure, Work},
    report,
    stores::{Kind, Programs},
};

/// All measures of a run.
pub struct Outcome {
    kinds: Vec<Kind>,
    versions: HashMap<&'static str, String>,
    figures: Vec<(Figure, HashMap<&'static str, Vec<Measure>>)>,
    memory: HashMap<&'static str, u64>,
    load: String,
}

/// A figure of one store, all rounds together.
struct Summary {
    rate: f64,
    megabytes: f64,
    p50: f64,
    p99: f64,
    store_cpu: f64,
    own_cpu: f64,
}

/// What a figure must reach.
struct Target {
    name: String,
    ratio: f64,
    bound: f64,
}

impl Outcome {
    /// Of these stores.
    pub fn new(kinds: &[Kind], programs: &Programs) -> Outcome {
        let versions = kinds.iter().map(|kind| (kind.name(), programs.version(*kind))).collect();
        // What else runs on the machine disturbs the figures, the pairs of them less.
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("unknown").to_owned();
        Outcome { kinds: kinds.to_vec(), versions, figures: Vec::new(), memory: HashMap::new(), load }
    }

    /// One more round of a figure.
    pub fn add(&mut self, figure: &Figure, kind: Kind, measure: Measure) {
        let known = self.figures.iter().position(|(known, _)| known.name == figure.name);
        let at = known.unwrap_or_else(|| {
            self.figures.push((*figure, HashMap::new()));
            self.figures.len() - 1
        });
        self.figures[at].1.entry(kind.name()).or_default().push(measure);
    }

    /// The peak of a store's memory in one start; the highest of all counts.
    pub fn add_memory(&mut self, kind: Kind, bytes: u64) {
        let most = self.memory.entry(kind.name()).or_default();
        *most = bytes.max(*most);
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let stores = self.kinds.iter().map(|kind| {
            let store = json!({
                "version": self.versions[kind.name()],
                "writes": kind.promise(),
                "peak_memory_bytes": self.memory.get(kind.name()),
            });
            (kind.name().to_owned(), store)
        });
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|(figure, measures)| {
                let stores = self.kinds.iter().filter_map(|kind| {
                    let measures = measures.get(kind.name())?;
                    let summary = Summary::of(measures);
                    let store = json!({
                        "operations_per_second": rounded(summary.rate),
                        "megabytes_per_second": rounded(summary.megabytes),
                        "p50_milliseconds": rounded(summary.p50),
                        "p99_milliseconds": rounded(summary.p99),
                        "store_cpu_microseconds_per_operation": rounded(summary.store_cpu),
                        "generator_cpu_microseconds_per_operation": rounded(summary.own_cpu),
                        "rounds": measures.iter().map(|measure| rounded(measure.rate())).collect::<Vec<_>>(),
                    });
                    Some((kind.name().to_owned(), store))
                });
                json!({
                    "name": figure.name,
                    "clients": figure.clients,
                    "object_bytes": figure.size,
                    "stores": stores.collect::<serde_json::Map<_, _>>(),
                })
            })
            .collect();
        let targets: Vec<Value> = self
            .targets()
            .iter()
            .map(|target| {
                json!({
                    "name": target.name,
                    "ratio": rounded(target.ratio),
                    "bound": target.bound,
                    "met": target.ratio >= target.bound,
                })
            })
            .collect();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        json!({ "cores": cores, "load_before": self.load, "stores": stores.collect::<serde_json::Map<_, _>>(), "figures": figures, "targets": targets })
    }

    /// Everything, for people.
    pub fn print(&self) {
        println!();
        println!("load of the machine before: {}", self.load);
        for kind in &self.kinds {
            println!("{:<11} {}", kind.name(), self.versions[kind.name()]);
            println!("{:<11} {}", "", kind.promise());
        }
        println!();
        print!("{:<13} {:<6}", "", "");
        self.kinds.iter().for_each(|kind| print!("{:>11}", kind.name()));
        println!("{:>9}{:>7}", "ratio", "bound");
        let targets = self.targets();
        for (figure, measures) in &self.figures {
            let by_bytes = figure.size >= BY_BYTES && figure.work != Work::Range;
            let unit = match figure.work {
                Work::List => "keys/s",
                _ if by_bytes => "MB/s",
                _ => "ops/s",
            };
            print!("{:<13} {unit:<6}", figure.name);
            for kind in &self.kinds {
                let summary = measures.get(kind.name()).map(|measures| Summary::of(measures));
                match summary {
                    Some(summary) => print!("{:>11.0}", if by_bytes { summary.megabytes } else { summary.rate }),
                    None => print!("{:>11}", "-"),
                }
            }
            print_target(&targets, figure.name);
        }
        print!("{:<13} {:<6}", MEMORY, "MiB");
        self.kinds.iter().for_each(|kind| print!("{:>11.0}", self.mebibytes(*kind)));
        print_target(&targets, MEMORY);
        println!();
        println!(
            "latency of requests; CPU time of the store and of the generator for an operation (of a list: for a key)"
        );
        println!("{:<13} {:<11}{:>11}{:>11}{:>12}{:>14}", "", "", "p50 ms", "p99 ms", "store us", "generator us");
        for (figure, measures) in &self.figures {
            for kind in &self.kinds {
                let Some(summary) = measures.get(kind.name()).map(|measures| Summary::of(measures)) else { continue };
                let Summary { p50, p99, store_cpu, own_cpu, .. } = summary;
                println!(
                    "{:<13} {:<11}{p50:>11.2}{p99:>11.2}{store_cpu:>12.0}{own_cpu:>14.0}",
                    figure.name,
                    kind.name()
                );
            }
        }
        println!();
        for target in &targets {
            report::at_least(&target.name, target.ratio, target.bound, "x");
        }
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let theirs: Vec<Kind> = self.kinds.iter().copied().filter(|kind| kind.is_theirs()).collect();
        for (figure, measures) in &self.figures {
            // The best of theirs is the one that ours beats by least.
            let ratio = theirs.iter().filter_map(|kind| ratio(measures, Kind::Casemate, *kind)).reduce(f64::min);
            let target = |ratio| Target { name: figure.name.to_owned(), ratio, bound: figure.bound };
            targets.extend(ratio.map(target));
        }
        for (figure, measures) in &self.figures {
            if figure.work.reads()
                && let Some(ratio) = ratio(measures, Kind::Casemate, Kind::Unsealed)
            {
                targets.push(Target { name: format!("{}-sealed", figure.name), ratio, bound: SEALED });
            }
        }
        let least = theirs.iter().map(|kind| self.mebibytes(*kind)).reduce(f64::min);
        if let Some(least) = least
            && self.memory.contains_key(Kind::Casemate.name())
        {
            // Less is better here.
            targets.push(Target { name: MEMORY.to_owned(), ratio: least / self.mebibytes(Kind::Casemate), bound: 1.0 });
        }
        targets
    }

    #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
    fn mebibytes(&self, kind: Kind) -> f64 {
        self.memory.get(kind.name()).map_or(f64::NAN, |bytes| *bytes as f64 / f64::from(1 << 20))
    }
}

impl Summary {
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    fn of(measures: &[Measure]) -> Summary {
        let median = |of: &dyn Fn(&Measure) -> f64| {
            let mut values: Vec<f64> = measures.iter().map(of).collect();
            middle(&mut values)
        };
        let each = |measure: &Measure, time: std::time::Duration| time.as_secs_f64() * 1e6 / measure.operations as f64;
        let mut latencies: Vec<f64> = measures.iter().flat_map(|measure| measure.latencies.iter().copied()).collect();
        Summary {
            rate: median(&Measure::rate),
            megabytes: median(&Measure::megabytes),
            p50: report::percentile(&mut latencies, 0.5),
            p99: report::percentile(&mut latencies, 0.99),
            store_cpu: median(&|measure| each(measure, measure.store_cpu)),
            own_cpu: median(&|measure| each(measure, measure.own_cpu)),
        }
    }
}

/// How many times as fast `one` was as `other`: the median of the rounds, each with its pair.
fn ratio(measures: &HashMap<&'static str, Vec<Measure>>, one: Kind, other: Kind) -> Option<f64> {
    let (one, other) = (measures.get(one.name())?, measures.get(other.name())?);
    let mut ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one.rate() / other.rate()).collect();
    (!ratios.is_empty()).then(|| middle(&mut ratios))
}

/// The median; of an even number, the mean of the two in the middle.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let (half, odd) = (values.len() / 2, values.len() % 2 == 1);
    if odd { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

fn print_target(targets: &[Target], name: &str) {
    match targets.iter().find(|target| target.name == name) {
        Some(target) => {
            let verdict = if target.ratio >= target.bound { "met" } else { "missed" };
            println!("{:>9.2}{:>7.2}  {verdict}", target.ratio, target.bound);
        }
        None => println!(),
    }
}

/// Three places are more than a benchmark has.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

const MEMORY: &str = "memory";
/// From this size on, bytes a second say more than operations.
const BY_BYTES: usize = 1 << 20;
/// Reading with encryption loses at most 10 % of the speed without.
const SEALED: f64 = 0.9;
