//! `casemate audit`: the audit log, and how an operator or an auditor knows that it is whole.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use audit::{
    Query, Row,
    note::VerifierKey,
    prove::{Consistency, Inclusion},
    send,
    verify::{self, Finding, Report},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use db::Db;
use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;
use keys::Keys;
use serde_json::{Value, json};

use super::DataArgs;
use crate::{
    cli::{Global, Output, output},
    config::Config,
    failure::{Doing, Failure},
    privileges,
};

/// Verbs of the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List entries, newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Check that no entry was changed, removed, moved or put in; exit code 1 if one was, 2 if that cannot be told
    Verify {
        /// File of checkpoints that were kept elsewhere; also what a log server received
        #[arg(long, value_name = "FILE")]
        against: Vec<PathBuf>,
        /// The public key of the log, kept elsewhere; the one of the data directory when not given
        #[arg(long, value_name = "PUBLIC_KEY")]
        key: Option<VerifierKey>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Put rows of the database back as they were sealed; the service must not run
    Restore {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Print the newest signed checkpoint
    Checkpoint {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Print the public key that checkpoints are signed for
    Key {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Print a proof that an entry is in the log, or that the log of an old checkpoint is its beginning
    Prove {
        #[command(flatten)]
        what: ProveArgs,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Verify a proof with the public key alone, on any machine
    VerifyProof {
        /// File of the proof
        #[arg(value_name = "FILE")]
        proof: PathBuf,
        /// The public key of the log
        #[arg(long, value_name = "PUBLIC_KEY")]
        key: VerifierKey,
        /// File of the old checkpoint, where the proof is of that
        #[arg(long, value_name = "OLD_CHECKPOINT")]
        consistency: Option<PathBuf>,
    },
}

/// Which entries to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of this account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Of this request
    #[arg(long, value_name = "REQUEST")]
    request: Option<String>,
    /// Of this action
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Not before this time, such as 2026-11-25T08:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// With numbers below this one: the next page
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    data: DataArgs,
}

/// What to prove.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ProveArgs {
    /// Number of the entry
    #[arg(long, value_name = "NUMBER")]
    entry: Option<u64>,
    /// File of the old checkpoint
    #[arg(long, value_name = "OLD_CHECKPOINT")]
    consistency: Option<PathBuf>,
}

/// Runs one.
pub async fn audit(command: AuditCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::List(args) => list(args, global).await?,
        AuditCommand::Verify { against, key, data } => {
            // Whoever asks a program whether the log is whole must be able to tell "no" from "cannot say".
            return Ok(match verify(&against, key, &data, global).await {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(failure) => {
                    eprintln!("{failure}");
                    ExitCode::from(CANNOT_SAY)
                }
            });
        }
        AuditCommand::Restore { data } => restore(&data, global).await?,
        AuditCommand::Checkpoint { data } => {
            let place = Place::open(&data, global).await?;
            let (key, note) = (place.key()?, place.newest().await?);
            let said = key.open(note.as_bytes()).ok_or_else(|| {
                Failure::new("the newest checkpoint is not signed by the key of this log").help(VERIFY)
            })?;
            let value = json!({
                "size": said.size, "root": hex::encode(said.root), "time": said.time, "checkpoint": note,
            });
            place.close(global).await?;
            output::print(global.output, &value, || note.clone())?;
        }
        AuditCommand::Key { data } => {
            let place = Place::open(&data, global).await?;
            let key = place.key()?;
            place.close(global).await?;
            output::print(global.output, &json!({ "key": key.to_string(), "origin": key.origin() }), || {
                key.to_string()
            })?;
        }
        AuditCommand::Prove { what, data } => prove(&what, &data, global).await?,
        AuditCommand::VerifyProof { proof, key, consistency } => {
            verify_proof(&proof, &key, consistency.as_deref(), global.output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The log of a data directory.
struct Place {
    config: Config,
    db: Db,
    keys: Arc<Keys>,
}

impl Place {
    /// Opens what is there, and makes nothing.
    async fn open(data: &DataArgs, global: &Global) -> Result<Place, Failure> {
        let config = super::config(global, data)?;
        privileges::become_owner_of(&config.data)?;
        for name in ["db/casemate.sqlite", "keys/root.key"] {
            let path = config.data.join(name);
            if !path.try_exists().doing(format!("cannot use {}", path.display()))? {
                return Err(Failure::new(format!("there is no {}", path.display()))
                    .help("give the data directory by --data, or the configuration by --config"));
            }
        }
        let db = Db::open(&config.data.join("db/casemate.sqlite")).await.doing("cannot open the database")?;
        let keys = Arc::new(Keys::open(&config.data.join("keys")).doing("cannot open the keys")?);
        Ok(Place { config, db, keys })
    }

    fn directory(&self) -> PathBuf {
        self.config.data.join("audit")
    }

    fn key(&self) -> Result<VerifierKey, Failure> {
        if !self.keys.has_signing_key(audit::KEY) {
            return Err(Failure::new("the audit log has no key yet").help("the service makes it when it first runs"));
        }
        let key = self.keys.signing_key(audit::KEY).doing("cannot open the key of the audit log")?;
        Ok(VerifierKey::of(&key))
    }

    async fn newest(&self) -> Result<String, Failure> {
        let sealed = db::audit::sealed(&self.db).await.doing("cannot read the database")?;
        let note = sealed.map(|sealed| sealed.checkpoint).filter(|note| !note.is_empty());
        note.ok_or_else(|| {
            Failure::new("no entry is sealed yet").help("the service seals each within a second while it runs")
        })
    }

    /// Records that the command was given, after what it reads, and closes. What cannot be recorded is not shown.
    async fn close(self, global: &Global) -> Result<(), Failure> {
        super::record(&self.db, global).await?;
        self.db.close().await;
        Ok(())
    }
}

async fn list(args: ListArgs, global: &Global) -> Result<(), Failure> {
    let place = Place::open(&args.data, global).await?;
    let query = Query {
        account: args.account,
        request_id: args.request,
        action: args.action,
        from: args.from,
        to: args.to,
        before: args.before,
        limit: args.limit,
    };
    let rows = db::audit::list(&place.db, &query).await.doing("cannot read the audit log")?;
    place.close(global).await?;
    let shown: Vec<Value> = rows.iter().map(describe).collect();
    output::print(global.output, &Value::Array(shown), || {
        let cells = |row: &Row| {
            vec![
                row.id.to_string(),
                row.at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
                row.account.clone().unwrap_or_else(|| "-".to_owned()),
                row.identity.clone(),
                row.source_ip.clone().unwrap_or_else(|| "-".to_owned()),
                row.action.clone(),
                row.resource.clone(),
                row.decision.clone(),
                row.result.clone(),
            ]
        };
        let head = ["entry", "time (utc)", "account", "identity", "from", "action", "resource", "decision", "result"];
        let mut text = output::table(&head, &rows.iter().map(cells).collect::<Vec<_>>());
        if let Some(last) = rows.last().filter(|_| rows.len() == args.limit as usize) {
            text.push_str(&format!("the next page: --before {}\n", last.id));
        }
        text
    })
}

fn describe(row: &Row) -> Value {
    let detail = serde_json::from_str(&row.detail).unwrap_or_else(|_| Value::String(row.detail.clone()));
    json!({
        "entry": row.id, "at": row.at, "account": row.account, "identity": row.identity, "sourceIp": row.source_ip,
        "action": row.action, "resource": row.resource, "decision": row.decision, "result": row.result,
        "requestId": row.request_id, "detail": detail,
    })
}

/// Checks, says what it found, and whether all is whole.
async fn verify(
    against: &[PathBuf],
    key: Option<VerifierKey>,
    data: &DataArgs,
    global: &Global,
) -> Result<bool, Failure> {
    // Files of the caller are read as the caller.
    let against = against
        .iter()
        .map(|path| {
            let bytes = fs::read(path).doing(format!("cannot read {}", path.display()))?;
            Ok((path.display().to_string(), send::received(&bytes)))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let place = Place::open(data, global).await?;
    let had_key = place.keys.has_signing_key(audit::KEY);
    let key = match key {
        Some(key) => Some(key),
        None if had_key => Some(place.key()?),
        None => None,
    };
    let Some(key) = key else {
        let (newest, _) = db::audit::newest(&place.db).await.doing("cannot read the database")?;
        place.close(global).await?;
        let text = format!("{newest} entries in the database; none is sealed yet, since the service has never run");
        return Err(Failure::new("there is no sealed audit log").cause(text));
    };
    let report = verify::run(&place.db, &place.directory(), &key, &against).await;
    let report = report.map_err(|cause| Failure::new("the audit log cannot be checked").because(&cause))?;
    place.close(global).await?;
    let value = serde_json::to_value(&report).doing("cannot print the result")?;
    output::print(global.output, &value, || text(&report))?;
    Ok(report.whole)
}

/// Puts rows back that are not as they were sealed.
async fn restore(data: &DataArgs, global: &Global) -> Result<(), Failure> {
    let place = Place::open(data, global).await?;
    let restored = audit::restore::run(&place.db, &place.directory(), &place.key()?).await;
    let restored = restored.map_err(|cause| Failure::new("nothing was put back").because(&cause).help(VERIFY))?;
    place.close(global).await?;
    let value = json!({ "inserted": restored.inserted, "replaced": restored.replaced });
    output::print(global.output, &value, || {
        let (inserted, replaced) = (HumanCount(restored.inserted), HumanCount(restored.replaced));
        format!(
            "{inserted} entries that were missing are there again; {replaced} that were changed are as they were sealed"
        )
    })
}

/// What people read: a line for each thing that is wrong, then the sum.
fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.findings.iter().map(line).collect();
    if report.more > 0 {
        lines.push(format!("and {} more that are not listed", HumanCount(report.more)));
    }
    let (first, through) = (report.first.unwrap_or(0), report.through.unwrap_or(0));
    let signed = report.signed.map_or("never".to_owned(), |time| time.to_string());
    lines.push(format!("entries {first} to {through} are signed, {signed}; root {}", report.root));
    if report.removed > 0 {
        lines.push(format!("{} entries before were removed by retention", HumanCount(report.removed)));
    }
    if report.unsigned > 0 {
        lines.push(format!("{} entries in the database are not signed yet", HumanCount(report.unsigned)));
    }
    let unproved = match report.unproved {
        0 => String::new(),
        count => format!("; {} older than what is kept", HumanCount(count)),
    };
    lines.push(format!(
        "looked at {} files, {}, and {} checkpoints{unproved}: {}",
        HumanCount(report.segments),
        HumanBytes(report.bytes),
        HumanCount(report.checkpoints),
        if report.whole { "the log is whole" } else { "the log is NOT whole" }
    ));
    lines.join("\n")
}

fn line(finding: &Finding) -> String {
    let entries = match (finding.from, finding.through) {
        (Some(from), Some(through)) if from == through => format!("entry {from}: "),
        (Some(from), Some(through)) => format!("entries {from} to {through}: "),
        _ => String::new(),
    };
    let place = match (&finding.file, finding.offset) {
        (Some(file), Some(offset)) => format!(" ({file}, byte {offset})"),
        _ => String::new(),
    };
    let (wrong, at) = (finding.wrong.as_str(), finding.place.as_str());
    output::printable(&format!("{wrong:<10} {at:<12} {entries}{}{place}", finding.what))
}

async fn prove(what: &ProveArgs, data: &DataArgs, global: &Global) -> Result<(), Failure> {
    let old = what.consistency.as_deref().map(read_text).transpose()?;
    let place = Place::open(data, global).await?;
    let (key, note, directory) = (place.key()?, place.newest().await?, place.directory());
    place.close(global).await?;
    let path = |hashes: &[audit::merkle::Hash]| hashes.iter().map(|hash| STANDARD.encode(hash)).collect::<Vec<_>>();
    let failed = |cause: audit::prove::Error| Failure::new("there is no such proof").because(&cause);
    match (what.entry, old) {
        (Some(number), _) => {
            let proof = Inclusion::of(&directory, &key, &note, number).map_err(failed)?;
            let value = json!({
                "entry": number, "index": proof.index, "record": STANDARD.encode(&proof.record),
                "path": path(&proof.path), "checkpoint": proof.note,
            });
            output::print(global.output, &value, || proof.to_string())
        }
        (None, old) => {
            let proof = Consistency::of(&directory, &key, &old.unwrap_or_default(), &note).map_err(failed)?;
            let value = json!({ "old": proof.old, "path": path(&proof.path), "checkpoint": proof.note });
            output::print(global.output, &value, || proof.to_string())
        }
    }
}

fn verify_proof(proof: &Path, key: &VerifierKey, old: Option<&Path>, form: Output) -> Result<(), Failure> {
    let text = read_text(proof)?;
    let failed = |cause: audit::prove::Error| Failure::new("the proof is not good").because(&cause);
    match old {
        Some(old) => {
            let proof: Consistency = text.parse().map_err(failed)?;
            let (old, new) = proof.verify(key, &read_text(old)?).map_err(failed)?;
            let value = json!({ "old": old.size, "new": new.size, "root": hex::encode(new.root), "time": new.time });
            output::print(form, &value, || {
                format!("the log of {} entries is the beginning of the log of {} entries", old.size, new.size)
            })
        }
        None => {
            let proof: Inclusion = text.parse().map_err(failed)?;
            let (entry, checkpoint) = proof.verify(key).map_err(failed)?;
            let row = audit::row_of(&entry).ok_or_else(|| Failure::new("the entry of the proof cannot be shown"))?;
            let mut value = describe(&row);
            value["size"] = checkpoint.size.into();
            value["signed"] = checkpoint.time.to_string().into();
            output::print(form, &value, || {
                let sum = format!("entry {} is in the log of {} entries, signed", row.id, checkpoint.size);
                format!("{}\n{sum} {}", output::printable(&describe(&row).to_string()), checkpoint.time)
            })
        }
    }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format!("cannot read {}", path.display()))
}

const VERIFY: &str = "`casemate audit verify` says more";
/// The exit code of a check that could not be made.
const CANNOT_SAY: u8 = 2;
