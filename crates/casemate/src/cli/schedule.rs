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
    /// Change a schedule: when it comes, its policies, its job; from then on it runs in your name
    Edit(Box<EditArgs>),
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

/// Arguments of `schedule edit`.
#[derive(Debug, Args)]
#[command(after_help = EDIT_HELP, override_usage = "casemate schedule edit [OPTIONS] <SCHEDULE> [-- <ARGUMENT>...]")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args([
    "cron", "timezone", "schedule_name", "catch_up", "catch_up_limit", "overlap", "start", "end", "set", "unset",
    "arguments", "no_arguments",
]))]
pub struct EditArgs {
    /// Its name or id
    #[arg(value_name = "SCHEDULE")]
    schedule: String,
    /// Other times, as `schedule create` takes them
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Another time zone of the IANA database
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Another name of the schedule
    #[arg(long, value_name = "NAME")]
    schedule_name: Option<String>,
    /// Which times that were missed come late: skip (none), latest or all
    #[arg(long, value_name = "POLICY")]
    catch_up: Option<String>,
    /// How many of the newest missed times come late by --catch-up all, 1 to 100
    #[arg(long, value_name = "NUMBER")]
    catch_up_limit: Option<i64>,
    /// What becomes of a time while an earlier job has not ended: skip, queue, cancel_running or allow
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// No run before this time; '' for no such bound
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// No run after this time; '' for no such bound
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
    /// A field or a parameter of the job, such as engineVersion=4.3.0 or executor_num=4; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// A field or a parameter of the job that is to have its default; may be given several times
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// Other arguments of the program, all of them, behind `--`
    #[arg(value_name = "ARGUMENT", last = true, conflicts_with = "no_arguments")]
    arguments: Vec<String>,
    /// No arguments of the program
    #[arg(long)]
    no_arguments: bool,
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("a name, '=' and a value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs one.
pub async fn run(command: ScheduleCommand, client: &Client, output: Output) -> Outcome {
    match command {
        ScheduleCommand::Create(args) => create(*args, client, output).await?,
        ScheduleCommand::Edit(args) => edit(&args, client, output).await?,
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

/// What is not named stays as it is. A job is given as a whole, so that all of it is checked again.
async fn edit(args: &EditArgs, client: &Client, output: Output) -> Result<(), Failure> {
    let found = find(client, &args.schedule).await?;
    let mut body = json!({});
    for (name, value) in [
        ("name", &args.schedule_name),
        ("cron", &args.cron),
        ("timezone", &args.timezone),
        ("catchUp", &args.catch_up),
        ("overlap", &args.overlap),
        ("startDate", &args.start),
        ("endDate", &args.end),
    ] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if let Some(limit) = args.catch_up_limit {
        body["catchUpLimit"] = json!(limit);
    }
    let mut changes: Vec<(&str, Option<String>)> = Vec::new();
    changes.extend(args.unset.iter().map(|name| (name.as_str(), None)));
    changes.extend(args.set.iter().map(|(name, value)| (name.as_str(), Some(value.clone()))));
    if args.no_arguments || !args.arguments.is_empty() {
        let given = (!args.arguments.is_empty()).then(|| json!(args.arguments).to_string());
        changes.extend([("arguments", None), ("arguments_json", given)]);
    }
    if !changes.is_empty() {
        body["job"] = job_with(&found["job"], &changes);
    }
    let id = output::field(&found, "id");
    let what = format!("cannot change schedule {}", args.schedule);
    let changed = client.put(&path(client, id)?, &body, &what).await?.body;
    output::print(output, &changed, || describe(&changed))
}

/// A job with other values of fields and parameters; `None` leaves one out. What the job has no field for is a parameter, and
/// the service says if it knows none of that name.
fn job_with(job: &Value, changes: &[(&str, Option<String>)]) -> Value {
    let mut job = job.clone();
    for (name, value) in changes {
        if *name != PARAMETERS && job.get(*name).is_some() {
            job[*name] = json!(value);
            continue;
        }
        let mut parameters = job[PARAMETERS].as_array().cloned().unwrap_or_default();
        let place = parameters.iter().position(|one| one["name"] == **name);
        match (place, value) {
            (Some(place), Some(value)) => parameters[place]["value"] = json!(value),
            (Some(place), None) => drop(parameters.remove(place)),
            (None, Some(value)) => parameters.push(json!({ "name": name, "value": value })),
            (None, None) => {}
        }
        job[PARAMETERS] = json!(parameters);
    }
    job
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
const PARAMETERS: &str = "engineParameters";
const EDIT_HELP: &str = "\
What is not named stays as it is. The fields of a job are name, region, engineVersion, containerName and ttl; all else is a \
parameter, such as main_application_code, executor_num or executor_memory (MiB). The job is checked as a submit is.

Examples:
  casemate schedule edit report.py --cron '0 4 * * *' --timezone Europe/Paris
  casemate schedule edit report.py --set engineVersion=4.3.0 --set executor_num=4 --unset ttl
  casemate schedule edit report.py -- --date yesterday";
const AFTER_HELP: &str = "\
Options may stand before or after the file. What is not an option of this command goes to the program; behind `--` \
everything does. The job's code is brought to its bucket once, and read from there each time.

Examples:
  casemate schedule create --cron '30 2 * * *' --timezone Europe/Paris report.py
  casemate schedule create --cron @hourly --overlap queue s3://code/etl.jar --main-class com.example.Etl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_keeps_what_is_not_named() {
        let job = json!({
            "name": "report", "engineVersion": "3.5.9", "ttl": "PT1H",
            "engineParameters": [{"name": "job_type", "value": "python"}, {"name": "arguments", "value": "a, b"}],
        });
        let some = |text: &str| Some(text.to_owned());
        let changes = [
            ("engineVersion", some("4.3.0")),
            ("ttl", None),
            ("executor_num", some("4")),
            ("arguments", None),
            ("arguments_json", some("[\"c\"]")),
            ("placement", None),
            ("engineParameters", some("no field to set")),
        ];
        let changed = json!({
            "name": "report", "engineVersion": "4.3.0", "ttl": null,
            "engineParameters": [
                {"name": "job_type", "value": "python"}, {"name": "executor_num", "value": "4"},
                {"name": "arguments_json", "value": "[\"c\"]"}, {"name": "engineParameters", "value": "no field to set"},
            ],
        });
        assert_eq!(job_with(&job, &changes), changed);
    }

    #[test]
    fn an_assignment_has_a_name() {
        assert_eq!(assignment("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(assignment("a="), Ok(("a".to_owned(), String::new())));
        assert!(assignment("a").is_err() && assignment("=a").is_err());
    }
}
