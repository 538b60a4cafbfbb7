//! `casemate store`: looks after what the object store keeps, while the service does not run; and says who may what.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use audit::{Actor, Audit, Entry};
use clap::Subcommand;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use objects::{CheckOptions, Damage, Progress, Report, Store, Wrong};
use serde_json::json;

use super::{
    DataArgs,
    explain::{ExplainArgs, explain},
};
use crate::{
    cli::{Global, output},
    config::Config,
    failure::{Doing, Failure},
    privileges, serve, up,
};

/// Verbs of the object store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Check everything that is stored, and repair it from a copy; the service must be stopped
    Check {
        /// A copy of the store's directory, such as of a backup: what is damaged here and whole there is repaired
        #[arg(long, value_name = "DIR")]
        repair_from: Option<PathBuf>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Say why somebody may do something in the object store, or may not: each statement of each policy
    Explain(Box<ExplainArgs>),
}

/// Runs one.
pub async fn store(command: StoreCommand, global: &Global) -> Result<(), Failure> {
    match command {
        StoreCommand::Check { repair_from, data } => check(repair_from, &data, global).await,
        StoreCommand::Explain(args) => explain(&args, global).await,
    }
}

/// Checks, says what it found, and fails where not all is whole in the end.
async fn check(repair_from: Option<PathBuf>, data: &DataArgs, global: &Global) -> Result<(), Failure> {
    let config = super::config(global, data)?;
    privileges::become_owner_of(&config.data)?;
    let dir = config.data.join("objects");
    is_whole_place(&config, &dir)?;
    let copy = repair_from.map(|copy| copy_of_store(&copy, &dir)).transpose()?;
    let (db, audit, keys, _) = serve::open_identity(&config).await?;
    super::record(&db, global).await?;
    let mut opened = Store::open_to_check(&dir, Arc::clone(&keys), None).await;
    if let Some(copy) = &copy
        && matches!(opened, Ok(_) | Err(objects::Error::LogDamaged { .. }))
    {
        record(&audit, "begun", json!({ "from": copy.display().to_string() })).await?;
        if opened.is_err() {
            opened = Store::open_to_check(&dir, Arc::clone(&keys), Some(copy)).await;
        }
    }
    let store = opened.map_err(|cause| not_opened(&cause))?;
    let bar = output::watched().then(bar);
    let shown = bar.clone();
    let options = CheckOptions { repair_from: copy.clone(), gentle: false, index: true };
    let checked = store.check(options, move |progress| shown.iter().for_each(|bar| tell(bar, progress))).await;
    bar.iter().for_each(ProgressBar::finish_and_clear);
    let report = checked.map_err(|cause| Failure::new("the check did not get to its end").because(&cause))?;
    if copy.is_some() {
        let result = if report.is_well() { "whole" } else { "damaged" };
        let objects: Vec<&Damage> = report.damaged.iter().take(MOST_RECORDED).collect();
        let detail = json!({
            "repaired": report.repaired,
            "repairedLog": report.repaired_log,
            "left": report.unrepaired,
            "objects": objects,
        });
        record(&audit, result, detail).await?;
    }
    store.close().await;
    db.close().await;
    let mut value = serde_json::to_value(&report).doing("cannot print the result")?;
    value["whole"] = report.is_well().into();
    output::print(global.output, &value, || text(&report))?;
    verdict(&report, copy.is_some())
}

/// Looks whether there are a store and keys, because to open them makes what is not there.
fn is_whole_place(config: &Config, dir: &Path) -> Result<(), Failure> {
    let lacking = |what: &str, help: &str| {
        Err(Failure::new(format!("there is no {what} in {}", config.data.display())).help(help.to_owned()))
    };
    let is_there = |path: PathBuf| path.try_exists().doing(format!("cannot use {}", path.display()));
    if !is_there(dir.join("packed"))? && !is_there(dir.join("index.redb"))? {
        return lacking("object store", "give the data directory by --data, or the configuration by --config");
    }
    if !is_there(dir.join("index.redb"))? {
        return lacking("index of the object store", RESTORE);
    }
    if !is_there(config.data.join("keys"))? {
        return lacking("directory of keys", "without its keys nothing can be read: restore `keys` from a backup");
    }
    Ok(())
}

/// The directory in which a copy of the store's files is.
fn copy_of_store(given: &Path, dir: &Path) -> Result<PathBuf, Failure> {
    let what = format!("cannot repair from {}", given.display());
    let given = up::absolute(given)?;
    fs::metadata(&given).doing(&what)?;
    // A copy of the whole data directory is one too.
    let inside = given.join("objects");
    let copy = if inside.is_dir() { inside } else { given };
    let read = |kind: &str| match fs::read_dir(copy.join(kind)) {
        Ok(_) => Ok(true),
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(cause) => Err(cause),
    };
    let unreadable = |failure: Failure| failure.help("the user of the service must be able to read the copy");
    let is_copy = read("packed").doing(&what).map_err(unreadable)? | read("large").doing(&what).map_err(unreadable)?;
    if !is_copy {
        return Err(Failure::new(what)
            .cause("it has neither `packed` nor `large` in it")
            .help("give the copy of `objects` in the data directory"));
    }
    if fs::canonicalize(&copy).doing(&what)? == fs::canonicalize(dir).doing(&what)? {
        return Err(Failure::new(what).cause("it is the store itself"));
    }
    Ok(copy)
}

fn not_opened(cause: &objects::Error) -> Failure {
    match cause {
        objects::Error::InUse => Failure::new("the object store is in use: the service runs").help(
            "stop the service and call it again; while it runs, the service checks once a week by itself, \
             and says in its log what it found",
        ),
        objects::Error::LogDamaged { .. } => Failure::new("cannot open the object store")
            .because(cause)
            .help("give the copy by --repair-from; if that lacks it too, restore `objects` from a backup"),
        _ => Failure::new("cannot open the object store").because(cause).help(RESTORE),
    }
}

async fn record(audit: &Audit, result: &str, detail: serde_json::Value) -> Result<(), Failure> {
    let mut entry = Entry::new(Actor::operator(), "store:Repair", "store");
    entry.result = result.to_owned();
    entry.detail = detail;
    audit.record(entry).await.doing("a repair cannot be recorded in the audit log, and is not made without")
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template("{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn tell(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.of_bytes.max(progress.bytes));
    bar.set_position(progress.bytes);
    bar.set_message(format!("{} of {} objects", HumanCount(progress.rows), HumanCount(progress.of_rows)));
}

/// What people read: a line for each thing that is wrong, then the sum.
fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.damaged.iter().map(line).collect();
    lines.extend(report.inconsistent.iter().map(|what| format!("index     {}", output::printable(what))));
    if report.truncated {
        lines.push("there is more than is listed".to_owned());
    }
    lines.extend(report.unnamed.iter().map(|name| {
        let name = output::printable(name);
        format!("left      {name} is named by nothing; what is the store's own goes when the service starts next")
    }));
    if report.repaired_log > 0 {
        lines.push(format!("repaired  the log: {} of its batches and openings of files", report.repaired_log));
    }
    if report.customers > 0 {
        lines.push(format!(
            "{} are sealed with keys that their customers keep: that their bytes are there was seen, and no more can be",
            HumanCount(report.customers)
        ));
    }
    let (rows, bytes) = (HumanCount(report.looked_at.rows), HumanBytes(report.looked_at.bytes));
    let found = match (report.unrepaired, report.repaired) {
        _ if report.index == Some(false) => "the index is damaged".to_owned(),
        (0, 0) if report.is_well() => "all is whole".to_owned(),
        (0, repaired) if report.is_well() => format!("all is whole; damaged and repaired: {repaired}"),
        (0, 0) => "the index does not agree with itself".to_owned(),
        (damaged, repaired) => format!("damaged: {damaged}, repaired: {repaired}"),
    };
    lines.push(format!("looked at {rows} objects, versions and parts, {bytes}: {found}"));
    lines.join("\n")
}

fn line(damage: &Damage) -> String {
    let word = if damage.repaired { "repaired " } else { "damaged  " };
    let place = format!("s3://{}/{}", damage.bucket, damage.key);
    let version = damage.version.as_ref().filter(|version| *version != "null");
    let version = version.map_or(String::new(), |version| format!(" version {version}"));
    let part = match &damage.part {
        None => String::new(),
        Some((upload, 0)) => format!(" upload {upload}"),
        Some((upload, number)) => format!(" upload {upload} part {number}"),
    };
    let bytes = match damage.bytes {
        (from, to) if from == to => String::new(),
        (from, to) => format!(" bytes {from} to {}", to - 1),
    };
    let (project, file) = (&damage.project, &damage.file);
    let text = format!("{word} {place}{version}{part} of project {project}{bytes}: {} ({file})", damage.wrong);
    output::printable(&text)
}

/// A failure that says what to do, if not all is whole.
fn verdict(report: &Report, has_copy: bool) -> Result<(), Failure> {
    let of_index = report.index == Some(false)
        || !report.inconsistent.is_empty()
        || report.damaged.iter().any(|damage| damage.wrong == Wrong::Row);
    match (report.is_well(), of_index) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::new("the index of the object store is damaged").help(RESTORE)),
        (false, false) if !has_copy => Err(Failure::new("objects are damaged")
            .help("`casemate store check --repair-from DIR` repairs them from a copy of the store")),
        (false, false) => Err(Failure::new("objects are damaged, and the copy does not have them whole")
            .help("repair from another copy, or write these objects anew, or remove them")),
    }
}

const RESTORE: &str = "restore the directory `objects`, with its index, from a backup; what is wrong in the index \
                       cannot be repaired from a copy of data alone";
/// The most objects that an audit entry names.
const MOST_RECORDED: usize = 20;
