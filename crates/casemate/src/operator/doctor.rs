//! `casemate doctor`: what this machine lacks to run jobs.

use std::process::ExitCode;

use clap::Args;
use engine::Engines;
use serde_json::{Value, json};

use super::{DataArgs, engines};
use crate::{
    cli::{Global, Output, output},
    config::{Config, Service},
    failure::Failure,
};

/// Arguments of `casemate doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// One thing that was looked at.
struct Finding {
    what: String,
    good: bool,
    needed: bool,
    found: String,
    help: Option<String>,
}

/// Looks, says, and fails where jobs cannot run.
pub fn doctor(args: DoctorArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = super::config(global, &args.data)?;
    let findings = look(&config);
    let shown: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "what": finding.what, "good": finding.good, "needed": finding.needed, "found": finding.found, "help": finding.help,
            })
        })
        .collect();
    output::print(global.output, &Value::Array(shown), || text(&findings))?;
    let lacking = findings.iter().filter(|finding| finding.needed && !finding.good).count();
    if global.output == Output::Text {
        match lacking {
            0 => output::line("jobs can run on this machine")?,
            1 => output::line("jobs cannot run on this machine: 1 thing is lacking")?,
            _ => output::line(&format!("jobs cannot run on this machine: {lacking} things are lacking"))?,
        }
    }
    Ok(if lacking == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match Service::of(config).and_then(|service| config.warden(service)) {
        Ok(config) => findings.extend(warden::doctor(&config).into_iter().map(|finding| Finding {
            what: finding.what.to_owned(),
            good: finding.good,
            needed: finding.needed,
            found: finding.found,
            help: finding.help,
        })),
        Err(failure) => findings.push(Finding {
            what: "configuration of the warden".to_owned(),
            good: false,
            needed: true,
            found: failure.what().to_owned(),
            help: failure.way_out().map(str::to_owned),
        }),
    }
    let place = config.engines();
    let offered = match Engines::open(&place) {
        Ok(engines) => {
            engines.offer(engines::today(), &[]).versions().iter().map(ToString::to_string).collect::<Vec<_>>()
        }
        Err(_) => Vec::new(),
    };
    findings.push(Finding {
        what: "engines".to_owned(),
        good: !offered.is_empty(),
        needed: true,
        found: match offered.is_empty() {
            true => format!("none in {}", place.display()),
            false => format!("Spark {} in {}", offered.join(", "), place.display()),
        },
        help: offered.is_empty().then(|| "`casemate engine install` installs them".to_owned()),
    });
    findings
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match (finding.good, finding.needed) {
            (true, _) => "good",
            (false, true) => "LACK",
            (false, false) => "warn",
        };
        text.push_str(&format!("{mark}  {}: {}\n", finding.what, finding.found));
        if let Some(help) = finding.help.as_ref().filter(|_| !finding.good) {
            text.push_str(&format!("      help: {help}\n"));
        }
    }
    text
}
