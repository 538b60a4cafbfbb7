//! `casemate billing`: the price list, statements, corrections.

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use jobs::{Billing, Failure as FailedJob, Line, Month, NewCorrection, Price, Statement};
use model::{JobId, ProjectId};
use serde_json::{Value, json};

use super::{DataArgs, Office, accounts::DAY};
use crate::{
    cli::{Global, output},
    failure::{Doing, Failure},
};

/// Verbs of billing.
#[derive(Debug, Subcommand)]
pub enum BillingCommand {
    /// What minutes cost
    #[command(subcommand)]
    Price(PriceCommand),
    /// Show what a project owes for a month, line by line
    Statement {
        /// Whose
        #[arg(value_name = "PROJECT")]
        project: ProjectId,
        /// Which month, such as 2026-11; the running one when not given
        #[arg(long, value_name = "MONTH")]
        month: Option<Month>,
        /// Print the lines, credits and corrections as a table for other programs
        #[arg(long, value_enum, value_name = "FORMAT")]
        format: Option<Format>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Add an amount to a statement by hand
    Correct {
        /// Whose statement
        #[arg(value_name = "PROJECT")]
        project: ProjectId,
        /// Of which month, such as 2026-11
        #[arg(long, value_name = "MONTH")]
        month: Month,
        /// How much; negative for a refund
        #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
        amount: String,
        /// Why, for who reads the statement
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The job that it is about
        #[arg(long, value_name = "JOB")]
        job: Option<JobId>,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Verbs of prices.
#[derive(Debug, Subcommand)]
pub enum PriceCommand {
    /// List the prices, with the dates from which they are in force
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Add a price that is in force from a time to come; the first one may be in force already
    Set {
        /// From when, such as 2027-01-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Timestamp,
        /// Currency (ISO 4217)
        #[arg(long, value_name = "CODE", default_value = "EUR")]
        currency: String,
        /// Of one core for one minute
        #[arg(long, value_name = "AMOUNT")]
        core_minute: String,
        /// Of one GiB of memory for one minute
        #[arg(long, value_name = "AMOUNT")]
        gib_minute: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Forms of a statement for other programs.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// Comma separated values (RFC 4180)
    Csv,
}

/// Runs one.
pub async fn billing(command: BillingCommand, global: &Global) -> Result<(), Failure> {
    match command {
        BillingCommand::Price(PriceCommand::List { data }) => {
            let office = Office::open(global, &data).await?;
            let prices = office.billing().prices().await.doing("cannot read the price list")?;
            output::print(global.output, &Value::Array(prices.iter().map(describe_price).collect()), || {
                let row = |price: &Price| {
                    let amounts = [price.core_minute, price.gib_minute].map(|amount| amount.to_string());
                    [vec![price.since.to_string(), price.currency.clone()], amounts.to_vec()].concat()
                };
                output::table(
                    &["since", "currency", "core minute", "GiB minute"],
                    &prices.iter().map(row).collect::<Vec<_>>(),
                )
            })?;
            office.close().await
        }
        BillingCommand::Price(PriceCommand::Set { since, currency, core_minute, gib_minute, data }) => {
            let price = Price::parse(since, &currency, &core_minute, &gib_minute).doing("this is no price")?;
            let office = Office::open(global, &data).await?;
            office.billing().set_price(&price, &office.by).await.doing("cannot set the price")?;
            output::print(global.output, &describe_price(&price), || format!("in force from {since}"))?;
            office.close().await
        }
        BillingCommand::Statement { project, month, format, data } => {
            let office = Office::open(global, &data).await?;
            office.known_project(&project).await?;
            let month = month.unwrap_or_else(|| Month::of(Timestamp::now()));
            let statement = office.billing().statement(&project, month).await.doing("cannot compute the statement")?;
            match format {
                Some(Format::Csv) => output::line(csv(&statement)?.trim_end())?,
                None => output::print(global.output, &describe(&project, &statement), || people(&project, &statement))?,
            }
            office.close().await
        }
        BillingCommand::Correct { project, month, amount, reason, job, data } => {
            let office = Office::open(global, &data).await?;
            office.known_project(&project).await?;
            let new = NewCorrection { project, month, job, amount, why: reason };
            let id = office.billing().correct(&new, &office.by).await.doing("cannot correct the statement")?;
            output::print(global.output, &json!({ "correction": id }), || format!("correction {id} of {month}"))?;
            office.close().await
        }
    }
}

impl Office {
    fn billing(&self) -> Billing {
        Billing::new(self.db.clone(), audit::Audit::new(self.db.clone()))
    }

    pub(super) async fn known_project(&self, id: &ProjectId) -> Result<(), Failure> {
        match self.identity.project(id).await.doing("cannot look for the project")? {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!("there is no project {id}")).help("`casemate project list` shows them")),
        }
    }
}

fn describe_price(price: &Price) -> Value {
    json!({
        "since": price.since,
        "currency": price.currency,
        "coreMinute": price.core_minute,
        "gibMinute": price.gib_minute,
    })
}

fn describe(project: &ProjectId, statement: &Statement) -> Value {
    let line = |line: &Line| {
        json!({
            "job": line.job, "name": line.name, "region": line.region, "attempt": line.attempt,
            "cores": line.cores, "memory": line.memory, "from": line.from, "minutes": line.minutes, "running": line.runs,
            "price": line.price.as_ref().map(describe_price), "amount": line.amount,
        })
    };
    let failure = |failure: &FailedJob| {
        json!({
            "job": failure.job, "name": failure.name, "attempt": failure.attempt, "ended": failure.ended, "fault": failure.blame,
            "evidence": failure.evidence, "credited": failure.credited,
            "credits": failure.credits.iter().map(|credit| json!({
                "attempt": credit.attempt, "minutes": credit.minutes, "amount": credit.amount,
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "project": project,
        "month": statement.month.to_string(),
        "currency": statement.currency,
        "lines": statement.lines.iter().map(line).collect::<Vec<_>>(),
        "failures": statement.failures.iter().map(failure).collect::<Vec<_>>(),
        "corrections": statement.corrections.iter().map(|one| json!({
            "id": one.id, "job": one.job, "amount": one.amount, "reason": one.why, "created": one.created,
        })).collect::<Vec<_>>(),
        "charged": statement.charged,
        "credited": statement.credited,
        "corrected": statement.corrected,
        "total": statement.total,
        "payable": statement.payable(),
    })
}

fn people(project: &ProjectId, statement: &Statement) -> String {
    let currency = statement.currency.as_deref().unwrap_or("(no price is set)");
    let rows: Vec<Vec<String>> = statement.lines.iter().map(|line| row(line).to_vec()).collect();
    let mut text = format!("{} of project {project}, in {currency}\n\n", statement.month);
    text.push_str(&output::table(&LINE, &rows));
    for failure in &statement.failures {
        let minutes: u64 = failure.credits.iter().map(|credit| credit.minutes).sum();
        text.push_str(&format!(
            "\njob {}, {}: {}\n  credited: {} ({minutes} minutes)\n",
            failure.job,
            failure.ended.strftime(DAY),
            output::printable(&failure.evidence),
            failure.credited
        ));
    }
    for correction in &statement.corrections {
        text.push_str(&format!("\ncorrection {}: {} ({})\n", correction.id, correction.amount, correction.why));
    }
    text.push_str(&format!(
        "\ncharged {}, credited {}, corrected {}: total {}, to pay {}\n",
        statement.charged,
        statement.credited,
        statement.corrected,
        statement.total,
        statement.payable()
    ));
    text
}

const LINE: [&str; 11] =
    ["job", "name", "region", "attempt", "cores", "MiB", "from", "minutes", "core minute", "GiB minute", "amount"];

fn row(line: &Line) -> [String; 11] {
    let price = |amount: fn(&Price) -> String| line.price.as_ref().map_or("-".to_owned(), amount);
    [
        line.job.to_string(),
        line.name.clone(),
        line.region.clone(),
        line.attempt.to_string(),
        line.cores.0.to_string(),
        line.memory.0.to_string(),
        line.from.to_string(),
        line.minutes.to_string(),
        price(|price| price.core_minute.to_string()),
        price(|price| price.gib_minute.to_string()),
        line.amount.to_string(),
    ]
}

/// All that the total is made of, a row each: the sum of the last column is the total.
fn csv(statement: &Statement) -> Result<String, Failure> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let head = ["kind"].into_iter().chain(LINE);
    let write = |writer: &mut csv::Writer<Vec<u8>>, row: &[String]| {
        writer.write_record(row).doing("cannot write the statement")
    };
    write(&mut writer, &head.map(|name| name.replace(' ', "_").to_lowercase()).collect::<Vec<_>>())?;
    let empty = || vec![String::new(); LINE.len()];
    let mut records = Vec::new();
    for line in &statement.lines {
        records.push(("charge", row(line).to_vec()));
    }
    for failure in &statement.failures {
        for credit in &failure.credits {
            let mut record = empty();
            record[0] = failure.job.to_string();
            record[1].clone_from(&failure.name);
            record[3] = credit.attempt.to_string();
            record[7] = credit.minutes.to_string();
            record[10] = (-credit.amount).to_string();
            records.push(("credit", record));
        }
    }
    for correction in &statement.corrections {
        let mut record = empty();
        record[0] = correction.job.map(|job| job.to_string()).unwrap_or_default();
        record[1].clone_from(&correction.why);
        record[6] = correction.created.to_string();
        record[10] = correction.amount.to_string();
        records.push(("correction", record));
    }
    for (kind, record) in records {
        write(&mut writer, &[vec![kind.to_owned()], record].concat())?;
    }
    let bytes = writer.into_inner().doing("cannot write the statement")?;
    String::from_utf8(bytes).doing("cannot write the statement")
}
