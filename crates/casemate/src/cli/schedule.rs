//! `casemate schedule`: jobs that come again by the clock.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Outcome, Output,
    client::{Client, encode},
    output,
    storage::whole_seconds,
    submit::{self, JobArgs},
};
use crate::failure::Failure;

/// Verbs of schedules.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Submit a job again and again, at the times that cron names
    Create(Box<CreateArgs>),
    /// List the schedules of the project, by name
    #[command(visible_alias = "ls")]
    List,
    /// Show a schedule
    Show {
        /// Its name or id
        #[arg(value_name = "SCHEDULE")]
        schedule: String,
    },
    /// Let no further time of it come until it is resumed
    Pause {
        /// Its name or id
        #[arg(value_name = "SCHEDULE")]
        schedule: String,
    },
    /// Let its times come again, from now on, in your name
    Resume {
        /// Its name or id
        #[arg(value_name = "SCHEDULE")]
        schedule: String,
    },
    /// Remove a schedule; its jobs stay
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name or id
        #[arg(value_name = "SCHEDULE")]
        schedule: String,
    },
    /// Show what came of its times, newest first
    Runs {
        /// Its name or id
        #[arg(value_name = "SCHEDULE")]
        schedule: String,
    },
    /// Show its next times
    Next {
        /// Its name or id
        #[arg(value_name = "SCHEDULE")]
        schedule: String,
    },
}

/// Arguments of `schedule create`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CreateArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Minute, hour, day of the month, month and day of the week, such as '30 2 * * 1-5'; or @hourly, @daily, @weekly,
    /// @monthly, @yearly
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// Time zone of the IANA database that these are read in, such as Europe/Paris [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Name of the schedule; the job's when not given
    #[arg(long, value_name = "NAME")]
    schedule_name: Option<String>,
    /// Which times that were missed come late: skip (none), latest or all [default: skip]
    #[arg(long, value_name = "POLICY")]
    catch_up: Option<String>,
    /// How many of the newest missed times come late by --catch-up all, 1 to 100 [default: 10]
    #[arg(long, value_name = "NUMBER")]
    catch_up_limit: Option<i64>,
    /// What becomes of a time while an earlier job has not ended: skip, queue, cancel_running or allow [default: skip]
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// No run before this time, such as 2026-12-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// No run after this time
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
    /// Make it without letting its times come: `schedule resume` does
    #[arg(long)]
    paused: bool,
}

/// Runs one.
pub async fn run(command: ScheduleCommand, client: &Client, output: Output) -> Outcome {
    match command {
        ScheduleCommand::Create(args) => create(*args, client, output).await?,
        ScheduleCommand::List => {
            let schedules = list(client).await?;
            output::print(output, &Value::Array(schedules.clone()), || table(&schedules))?;
        }
        ScheduleCommand::Show { schedule } => {
            let schedule = find(client, &schedule).await?;
            output::print(output, &schedule, || describe(&schedule))?;
        }
        ScheduleCommand::Pause { schedule } => enable(client, &schedule, false, output).await?,
        ScheduleCommand::Resume { schedule } => enable(client, &schedule, true, output).await?,
        ScheduleCommand::Delete { schedule } => {
            let id = find_id(client, &schedule).await?;
            client.delete(&path(client, &id)?, &format!("cannot remove schedule {schedule}")).await?;
            output::print(output, &json!({ "id": id }), || format!("schedule {schedule} is removed"))?;
        }
        ScheduleCommand::Runs { schedule } => {
            let id = find_id(client, &schedule).await?;
            let what = format!("cannot read the runs of schedule {schedule}");
            let runs = client.get(&format!("{}/runs", path(client, &id)?), &what).await?.body;
            output::print(output, &runs, || table_of_runs(runs.as_array().map_or(&[][..], Vec::as_slice)))?;
        }
        ScheduleCommand::Next { schedule } => {
            let found = find(client, &schedule).await?;
            output::print(output, &found["nextRuns"], || times(&found))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs, client: &Client, output: Output) -> Result<(), Failure> {
    let code = submit::place_code(&args.job, client).await?;
    let job = submit::request(&args.job, &code, client);
    let body = json!({
        "name": args.schedule_name.as_ref().map_or_else(|| job["name"].clone(), |name| json!(name)),
        "cron": args.cron,
        "timezone": args.timezone,
        "catchUp": args.catch_up,
        "catchUpLimit": args.catch_up_limit,
        "overlap": args.overlap,
        "startDate": args.start,
        "endDate": args.end,
        "enabled": !args.paused,
        "job": job,
    });
    let key = submit::random_name("schedule")?;
    match client.post_once(&client.schedules()?, &body, &key, "cannot make the schedule").await {
        Ok(made) => output::print(output, &made.body, || describe(&made.body)),
        Err(failed) if failed.refused => {
            code.remove(client).await;
            Err(failed.failure)
        }
        // It may have been made all the same, and needs its code then.
        Err(failed) => Err(failed.failure.help("`casemate schedule list` shows whether it was made")),
    }
}

async fn enable(client: &Client, schedule: &str, enabled: bool, output: Output) -> Result<(), Failure> {
    let id = find_id(client, schedule).await?;
    let what = format!("cannot {} schedule {schedule}", if enabled { "resume" } else { "pause" });
    let changed = client.put(&path(client, &id)?, &json!({ "enabled": enabled }), &what).await?.body;
    output::print(output, &changed, || match enabled {
        true => format!("schedule {schedule} comes next at {}", output::field(&changed, "nextRun")),
        false => format!("schedule {schedule} is paused"),
    })
}

fn path(client: &Client, id: &str) -> Result<String, Failure> {
    Ok(format!("{}/{}", client.schedules()?, encode(id)))
}

async fn list(client: &Client) -> Result<Vec<Value>, Failure> {
    // A project has at most a hundred.
    let headers = [("X-Pagination-Mode", "CachedObjectList-Pages".to_owned()), ("X-Pagination-Size", PAGE.to_string())];
    let what = "cannot list the schedules";
    let answer = client.get_with(&client.schedules()?, &headers, super::client::PATIENCE, what).await?;
    Ok(answer.body.as_array().cloned().unwrap_or_default())
}

/// The id of a schedule that is named by it or by its name.
async fn find_id(client: &Client, schedule: &str) -> Result<String, Failure> {
    let all = list(client).await?;
    let by = |field: &str| all.iter().find(|one| output::field(one, field) == schedule);
    match by("id").or_else(|| by("name")) {
        Some(found) => Ok(output::field(found, "id").to_owned()),
        None => Err(Failure::new(format!("the project has no schedule {schedule}"))
            .help("`casemate schedule list` shows all of them")),
    }
}

async fn find(client: &Client, schedule: &str) -> Result<Value, Failure> {
    let id = find_id(client, schedule).await?;
    Ok(client.get(&path(client, &id)?, &format!("cannot read schedule {schedule}")).await?.body)
}

fn table(schedules: &[Value]) -> String {
    let rows: Vec<Vec<String>> = schedules
        .iter()
        .map(|schedule| {
            let field = |name: &str| output::field(schedule, name).to_owned();
            let next = whole_seconds(&field("nextRun"));
            vec![field("id"), field("name"), field("state"), field("cron"), field("timezone"), next]
        })
        .collect();
    output::table(&["id", "name", "state", "cron", "time zone", "next"], &rows)
}

fn table_of_runs(runs: &[Value]) -> String {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let field = |name: &str| output::field(run, name).to_owned();
            let time = match run["until"].as_str() {
                Some(until) => format!("{} to {}", whole_seconds(&field("time")), whole_seconds(until)),
                None => whole_seconds(&field("time")),
            };
            vec![time, field("outcome"), field("jobId"), field("reason")]
        })
        .collect();
    output::table(&["time", "outcome", "job", "reason"], &rows)
}

/// The next times, on the clock of the schedule's zone with its offset.
fn times(schedule: &Value) -> String {
    let zone = jiff::tz::TimeZone::get(output::field(schedule, "timezone")).unwrap_or(jiff::tz::TimeZone::UTC);
    let times: Vec<String> = schedule["nextRuns"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|time| time.as_str()?.parse::<jiff::Timestamp>().ok())
        .map(|time| format!("{}\n", time.to_zoned_datetime(zone.clone()).strftime("%a %Y-%m-%d %H:%M %:z")))
        .collect();
    match times.is_empty() {
        true => format!("no time comes: the schedule is {}", output::field(schedule, "state")),
        false => times.concat(),
    }
}

fn describe(schedule: &Value) -> String {
    let mut text = String::new();
    let mut line =
        |name: &str, value: &str| text.push_str(&format!("{:<28}{}\n", format!("{name}:"), output::printable(value)));
    let field = |name: &str| output::field(schedule, name);
    line("id", field("id"));
    line("name", field("name"));
    line("state", field("state"));
    if let Some(reason) = schedule["reason"].as_str() {
        line("reason", reason);
    }
    line("cron", field("cron"));
    line("time zone", field("timezone"));
    line("next", field("nextRun"));
    let catch_up = match schedule["catchUpLimit"].as_u64() {
        Some(limit) => format!("{}, the newest {limit}", field("catchUp")),
        None => field("catchUp").to_owned(),
    };
    line("missed times", &catch_up);
    line("earlier job", field("overlap"));
    line("not before", field("startDate"));
    line("not after", field("endDate"));
    line("owner", field("owner"));
    if let Some(refusals) = schedule["refusals"].as_u64().filter(|refusals| *refusals > 0) {
        line("refused in a row", &refusals.to_string());
    }
    line("created", field("creationDate"));
    line("changed", field("lastUpdate"));
    let job = &schedule["job"];
    for (name, of) in
        [("job", "name"), ("engine version", "engineVersion"), ("region", "region"), ("bucket", "containerName")]
    {
        line(name, output::field(job, of));
    }
    line("time to live", output::field(job, "ttl"));
    for parameter in job["engineParameters"].as_array().into_iter().flatten() {
        line(&format!("  {}", output::field(parameter, "name")), output::field(parameter, "value"));
    }
    text
}

const PAGE: usize = 250;
const AFTER_HELP: &str = "\
Options may stand before or after the file. What is not an option of this command goes to the program; behind `--` \
everything does. The job's code is brought to its bucket once, and read from there each time.

Examples:
  casemate schedule create --cron '30 2 * * *' --timezone Europe/Paris report.py
  casemate schedule create --cron @hourly --overlap queue s3://code/etl.jar --main-class com.example.Etl";
