//! `casemate engine`: what is installed, and how it comes and goes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use engine::{
    Engines, Installed,
    install::{self, Options, Progress, Wanted},
};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use jobs::Versions;
use model::{EngineVersion, Withdrawal};
use serde_json::{Value, json};

use super::{DataArgs, Office};
use crate::{
    cli::{Global, output},
    config::{Config, Service},
    failure::{Doing, Failure},
    privileges, up,
};

/// Verbs of engines.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// List the installed engines
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Install engines by pip and mvn, or what those that are there lack
    Install {
        /// Versions such as 3.5, 4 or 3.5.9; all that Casemate knows when none is given
        #[arg(value_name = "VERSION", value_parser = parse_wanted)]
        versions: Vec<Wanted>,
        /// Directory of files that were brought by hand; what is not there is fetched
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Remove an engine; jobs that run on it fail
    #[command(visible_alias = "rm")]
    Remove {
        /// Its version
        #[arg(value_name = "VERSION")]
        version: EngineVersion,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Take no new job and no retry on a version from now on; jobs that wait for it end, those that run go on
    Withdraw {
        /// Its version
        #[arg(value_name = "VERSION")]
        version: EngineVersion,
        /// Why, for the owners of jobs
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Take a withdrawal back
    Restore {
        /// Its version
        #[arg(value_name = "VERSION")]
        version: EngineVersion,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Check the files of the installed engines against their sums
    Verify {
        /// Its version; all when none is given
        #[arg(value_name = "VERSION")]
        version: Option<EngineVersion>,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Where the engines are.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Directory of the engines; the configuration's when not given
    #[arg(long, value_name = "DIR")]
    engines: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs one.
pub async fn engine(command: EngineCommand, global: &Global) -> Result<(), Failure> {
    match command {
        EngineCommand::List { place } => {
            let dir = directory(&place, global)?.0;
            let engines =
                if dir.exists() { Engines::open(&dir).doing("cannot read the engines")?.list() } else { Vec::new() };
            let withdrawn = withdrawn(global, &place).await?;
            let shown = engines.iter().map(|engine| with_withdrawal(engine, &withdrawn)).collect();
            output::print(global.output, &Value::Array(shown), || table(&engines, &withdrawn, &dir))
        }
        EngineCommand::Install { versions, from, place } => {
            let (dir, config) = directory(&place, global)?;
            let own_place = dir.starts_with(&config.data);
            let wanted = if versions.is_empty() { Wanted::all() } else { versions };
            if own_place && privileges::is_root() {
                up::make_data_directory(&config.data, Service::of(&config)?)?;
            }
            let options = Options { from, java_home: config.warden.java_home.clone(), today: today() };
            // It drives other programs for minutes, and waits for them.
            let installed = tokio::task::spawn_blocking(move || install_all(&dir, &wanted, &options)).await;
            let installed = installed.doing("the install ended badly")??;
            let shown = installed.iter().map(describe).collect();
            output::print(global.output, &Value::Array(shown), || {
                let line = |engine: &Installed| format!("Spark {} is installed\n", engine.version);
                installed.iter().map(line).collect()
            })
        }
        EngineCommand::Remove { version, place } => {
            let dir = directory(&place, global)?.0;
            install::remove(&dir, &version).doing(format!("cannot remove Spark {version}"))?;
            output::print(global.output, &json!({ "version": version }), || format!("Spark {version} is removed"))
        }
        EngineCommand::Withdraw { version, reason, place } => {
            let dir = directory(&place, global)?.0;
            let engines = Engines::open(&dir).doing("cannot read the engines")?;
            if engines.find(&version).is_none() {
                return Err(Failure::new(format!("Spark {version} is not installed in {}", dir.display()))
                    .help("`casemate engine list` shows what is installed"));
            }
            let office = Office::open(global, &place.data).await?;
            let done = office.versions().withdraw(&version, &reason, &office.by).await;
            let withdrawal = done.doing(format!("cannot withdraw Spark {version}"))?;
            let all = office.versions().withdrawn().await.doing("cannot read the withdrawals")?;
            output::print(global.output, &json!(withdrawal), || {
                let offer = engines.offer(today(), &all);
                match offer.instead_of(&version) {
                    Some(other) => format!("Spark {version} is withdrawn; jobs are told to use {other}"),
                    None => format!("Spark {version} is withdrawn; no version is offered now"),
                }
            })?;
            office.close().await
        }
        EngineCommand::Restore { version, place } => {
            let office = Office::open(global, &place.data).await?;
            let done = office.versions().restore(&version, &office.by).await;
            done.doing(format!("cannot take back the withdrawal of Spark {version}"))?;
            output::print(global.output, &json!({ "version": version }), || {
                format!("Spark {version} is not withdrawn any more")
            })?;
            office.close().await
        }
        EngineCommand::Verify { version, place } => {
            let dir = directory(&place, global)?.0;
            let versions = match version {
                Some(version) => vec![version],
                None => Engines::open(&dir)
                    .doing("cannot read the engines")?
                    .list()
                    .into_iter()
                    .map(|engine| engine.version)
                    .collect(),
            };
            for version in &versions {
                install::verify(&dir, version).doing(format!("Spark {version} is not as it was installed")).map_err(
                    |failure| {
                        failure.help(format!(
                            "`casemate engine remove {version}`, then `casemate engine install {version}`"
                        ))
                    },
                )?;
            }
            output::print(global.output, &json!({ "verified": versions }), || {
                versions.iter().map(|version| format!("Spark {version}: every file is as it was installed\n")).collect()
            })
        }
    }
}

impl Office {
    fn versions(&self) -> Versions {
        Versions::new(self.db.clone(), audit::Audit::new(self.db.clone()))
    }
}

/// What is withdrawn in the data directory; nothing where there is none yet, or none that this user may look into.
async fn withdrawn(global: &Global, place: &PlaceArgs) -> Result<Vec<Withdrawal>, Failure> {
    let config = super::config(global, &place.data)?;
    if !config.data.join("db/casemate.sqlite").exists() {
        return Ok(Vec::new());
    }
    let office = Office::open(global, &place.data).await?;
    let withdrawn = office.versions().withdrawn().await.doing("cannot read the withdrawals")?;
    office.close().await?;
    Ok(withdrawn)
}

/// The directory, and the configuration that it comes from.
fn directory(place: &PlaceArgs, global: &Global) -> Result<(PathBuf, Config), Failure> {
    let config = super::config(global, &place.data)?;
    let dir = match &place.engines {
        Some(dir) => up::absolute(dir)?,
        None => config.engines(),
    };
    Ok((dir, config))
}

fn install_all(dir: &std::path::Path, wanted: &[Wanted], options: &Options) -> Result<Vec<Installed>, Failure> {
    let mut installed = Vec::new();
    for what in wanted {
        let version = what.version();
        let mut shown = Shown::new(&format!("Spark {version}"));
        let done = install::install(dir, what, options, &mut |progress| shown.tell(progress));
        shown.end();
        installed.push(done.doing(format!("cannot install Spark {version}")).map_err(|failure| {
            failure.help("call it again: what was fetched is not fetched again; `--from DIR` takes files that were brought by hand")
        })?);
    }
    Ok(installed)
}

/// Steps on standard error: one line that moves on a terminal, a line a step elsewhere.
struct Shown {
    name: String,
    bar: Option<ProgressBar>,
    step: String,
}

impl Shown {
    fn new(name: &str) -> Shown {
        let bar = output::watched().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            match ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Shown { name: name.to_owned(), bar, step: String::new() }
    }

    fn tell(&mut self, progress: Progress) {
        let text = match progress {
            Progress::Step { number, of, what } => {
                self.step = format!("{}: {number}/{of} {what}", self.name);
                if self.bar.is_none() {
                    eprintln!("{}", self.step);
                }
                self.step.clone()
            }
            Progress::Detail(text) => format!("{} · {}", self.step, output::printable(text.trim())),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(engine: &Installed) -> Value {
    json!({
        "engine": "spark",
        "version": engine.version,
        "scala": engine.scala,
        "hadoop": engine.hadoop,
        "description": engine.description,
        "available": engine.available.to_string(),
        "endOfSupport": engine.end_of_support.to_string(),
        "endOfLife": engine.end_of_life.to_string(),
    })
}

fn with_withdrawal(engine: &Installed, withdrawn: &[Withdrawal]) -> Value {
    let mut shown = describe(engine);
    shown["withdrawn"] = json!(withdrawn.iter().find(|one| one.version == engine.version));
    shown
}

fn table(engines: &[Installed], withdrawn: &[Withdrawal], dir: &std::path::Path) -> String {
    if engines.is_empty() {
        return format!("no engine is installed in {}; `casemate engine install` installs them", dir.display());
    }
    let row = |engine: &Installed| {
        let dates = [engine.available, engine.end_of_support, engine.end_of_life].map(|date: Date| date.to_string());
        let reason = withdrawn.iter().find(|one| one.version == engine.version).map(|one| one.reason.clone());
        let head = vec![format!("Spark {}", engine.version), engine.scala.clone(), engine.hadoop.clone()];
        [head, dates.to_vec(), vec![reason.unwrap_or_else(|| "-".to_owned())]].concat()
    };
    let rows: Vec<Vec<String>> = engines.iter().map(row).collect();
    output::table(&["engine", "scala", "hadoop", "available", "support ends", "life ends", "withdrawn"], &rows)
}

fn parse_wanted(text: &str) -> Result<Wanted, String> {
    Wanted::parse(text).map_err(|fault| fault.to_string())
}

pub(super) fn today() -> Date {
    Timestamp::now().to_zoned_datetime(TimeZone::UTC).date()
}
