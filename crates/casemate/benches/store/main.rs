//! The object store against those that a user would take instead, paired in one run: each store is started alone, in
//! turns, for every group of figures. Ours is the real thing, `casemate up` with encryption and audit on; theirs run
//! as their documentation starts them, without encryption. All are reached over plain HTTP on loopback, with the same
//! signed requests, by the same generator, and keep their data on the same disk.
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "../report.rs"]
mod report;

mod load;
mod outcome;
mod stores;
mod wire;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Parser;

use crate::{
    load::{Content, Extent, Figure, Session, Work},
    outcome::Outcome,
    stores::{Kind, Programs, Running},
};

/// The object store against those that a user would take instead.
#[derive(Debug, Parser)]
struct Options {
    /// One short round, and a tenth of the keys: shows about where the figures are
    #[arg(long)]
    quick: bool,
    /// Figures to take, by the beginning of their names
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Stores to compare
    #[arg(long, value_delimiter = ',', value_name = "STORES", default_value = "casemate,unsealed,minio,seaweedfs")]
    stores: Vec<Kind>,
    /// Rounds of each group of figures
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds of each figure in a round
    #[arg(long)]
    seconds: Option<f64>,
    /// Keys of the bucket that is listed
    #[arg(long)]
    keys: Option<u64>,
    /// What to print
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// A file for the JSON, beside what is printed
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Directory for the stores' data, on the disk that is to be measured
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Another program than the one that was built
    #[arg(long, value_name = "FILE")]
    casemate: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let stop = Arc::new(AtomicBool::new(false));
    match heed_signals(&stop).and_then(|()| run(&options, &stop)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("error: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, stop: &AtomicBool) -> Result<(), String> {
    let groups = chosen(&options.only)?;
    let programs = Programs::find(&options.stores, |kind| place(kind, options))?;
    let base = tempfile::Builder::new().prefix("casemate-bench-").tempdir_in(&options.dir).map_err(display)?;
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).map_err(display)?;
    let largest = groups.iter().flat_map(|group| group.figures.iter()).map(|figure| figure.size).max().unwrap_or(0);
    let content = Content::new(largest.max(load::RANGE));
    let outcome = Outcome::new(&options.stores, &programs);
    let mut run = Run { programs, base: base.path(), content, stop, outcome };
    for group in &groups {
        let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { group.rounds }).max(1);
        let seconds = options.seconds.unwrap_or(if options.quick { 1.0 } else { group.seconds });
        let window = Duration::try_from_secs_f64(seconds).map_err(display)?;
        let keys = options.keys.unwrap_or(if options.quick { QUICK_KEYS } else { KEYS });
        for round in 0..rounds {
            // There and back, so that none is always the one that comes first.
            let mut order = options.stores.clone();
            if round % 2 == 1 {
                order.reverse();
            }
            for kind in order {
                run.session(kind, &group.figures, &Extent { window, keys })?;
            }
        }
    }
    let json = run.outcome.json();
    if let Some(file) = &options.file {
        std::fs::write(file, format!("{json:#}\n")).map_err(|cause| format!("{}: {cause}", file.display()))?;
    }
    match options.output {
        Output::Table => run.outcome.print(),
        Output::Json => println!("{json:#}"),
    }
    Ok(())
}

/// A run, and what it has found so far.
struct Run<'a> {
    programs: Programs,
    base: &'a Path,
    content: Content,
    stop: &'a AtomicBool,
    outcome: Outcome,
}

impl Run<'_> {
    /// One store, from its start to its end, with those of the figures that are asked of it.
    fn session(&mut self, kind: Kind, figures: &[Figure], extent: &Extent) -> Result<(), String> {
        // What encryption costs is asked of reads.
        let figures: Vec<&Figure> =
            figures.iter().filter(|figure| kind != Kind::Unsealed || figure.work.reads()).collect();
        if figures.is_empty() {
            return Ok(());
        }
        // What the one before left for the kernel to write is not this one's.
        nix::unistd::sync();
        let mut running = Running::start(kind, &self.programs, self.base)?;
        let mut session = Session::new(&running, &self.content, self.stop);
        for figure in figures {
            nix::unistd::sync();
            let measure = session.measure(figure, extent).map_err(|cause| {
                format!("{} on {}: {cause}\nthe store's log:\n{}", figure.name, kind.name(), running.log())
            })?;
            let (name, rate, megabytes) = (kind.name(), measure.rate(), measure.megabytes());
            eprintln!("{:>12} {name:<10} {rate:>10.0}/s {megabytes:>8.1} MB/s", figure.name);
            self.outcome.add(figure, kind, measure);
        }
        self.outcome.add_memory(kind, running.peak_memory());
        running.check()
    }
}

/// Figures that one start of a store serves.
struct Group {
    figures: Vec<Figure>,
    rounds: u32,
    seconds: f64,
}

/// The figures whose names begin as one of `only`; all of them if that is empty.
fn chosen(only: &[String]) -> Result<Vec<Group>, String> {
    let wanted = |figure: &Figure| only.is_empty() || only.iter().any(|name| figure.name.starts_with(name.as_str()));
    let mut groups = groups();
    if let Some(unknown) =
        only.iter().find(|name| !groups.iter().flat_map(|group| &group.figures).any(|f| f.name.starts_with(*name)))
    {
        let names: Vec<_> = groups.iter().flat_map(|group| &group.figures).map(|figure| figure.name).collect();
        return Err(format!("there is no figure {unknown}; there are {}", names.join(", ")));
    }
    for group in &mut groups {
        group.figures.retain(wanted);
    }
    groups.retain(|group| !group.figures.is_empty());
    Ok(groups)
}

fn groups() -> Vec<Group> {
    use Work::{Get, List, Put, Range};
    let figure = |name, work, size, clients, bound| Figure { name, work, size, clients, bound };
    // Reading comes first: all stores have the same objects then, whatever they wrote how fast before.
    let small = vec![
        figure("get-4k-1", Get, 4 << 10, 1, 1.5),
        figure("get-4k-32", Get, 4 << 10, 32, 1.5),
        figure("put-4k-1", Put, 4 << 10, 1, 1.5),
        figure("put-4k-32", Put, 4 << 10, 32, 1.5),
    ];
    let medium = vec![
        figure("get-1m-1", Get, 1 << 20, 1, 1.0),
        figure("get-1m-32", Get, 1 << 20, 32, 1.0),
        figure("put-1m-1", Put, 1 << 20, 1, 1.0),
        figure("put-1m-32", Put, 1 << 20, 32, 1.0),
    ];
    let large = vec![
        figure("get-64m-1", Get, 64 << 20, 1, 1.0),
        figure("get-64m-32", Get, 64 << 20, 32, 1.0),
        figure("range-64k-1", Range, 64 << 20, 1, 1.0),
        figure("range-64k-32", Range, 64 << 20, 32, 1.0),
        figure("put-64m-1", Put, 64 << 20, 1, 1.0),
        figure("put-64m-32", Put, 64 << 20, 32, 1.0),
    ];
    vec![
        Group { figures: small, rounds: 3, seconds: 2.0 },
        Group { figures: medium, rounds: 2, seconds: 2.0 },
        Group { figures: large, rounds: 2, seconds: 3.0 },
        // What takes its time is the loading, which is not timed.
        Group { figures: vec![figure("list", List, 0, 1, 1.0)], rounds: 1, seconds: 3.0 },
    ]
}

fn place(kind: Kind, options: &Options) -> PathBuf {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bench");
    match kind {
        Kind::Casemate => options.casemate.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_casemate").into()),
        Kind::Unsealed => cache.join("bin/casemate-unsealed"),
        Kind::Minio => cache.join("bin/minio"),
        Kind::Seaweedfs => cache.join("seaweedfs/bin/weed"),
    }
}

/// The first signal ends the run in order: the store that stands is stopped, and its data removed.
fn heed_signals(stop: &Arc<AtomicBool>) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(display)?;
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
            stop.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        });
    });
    Ok(())
}

fn display(cause: impl std::fmt::Display) -> String {
    cause.to_string()
}

const KEYS: u64 = 100_000;
const QUICK_KEYS: u64 = 10_000;
