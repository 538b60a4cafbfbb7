//! `casemate job`: submit, list, show, logs, metrics, cancel, wait.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Outcome, Output,
    client::{Client, encode},
    follow::{self, Waited, Wanted},
    output,
    storage::whole_seconds,
    submit::{self, SubmitArgs},
    usage,
};
use crate::failure::Failure;

/// Verbs of jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Submit a job
    Submit(Box<SubmitArgs>),
    /// List the jobs of the project, newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a job
    Show {
        /// The job's id
        #[arg(value_name = "JOB")]
        id: String,
    },
    /// Print the log of a job
    Logs(LogsArgs),
    /// Show what a job used: cores, memory, disk, network, tasks
    Metrics {
        /// The job's id
        #[arg(value_name = "JOB")]
        id: String,
    },
    /// Ask a job to stop
    Cancel {
        /// The job's id
        #[arg(value_name = "JOB")]
        id: String,
    },
    /// Wait for a job to end, and exit with its return code
    Wait {
        /// The job's id
        #[arg(value_name = "JOB")]
        id: String,
    },
}

/// Arguments of `job list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only jobs with one of these statuses, separated by commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

/// Arguments of `job logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: String,
    /// Go on until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Lines of this node: driver, executor-N, or all
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Lines from this time on: RFC 3339, or so long ago, such as now-2h
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
}

/// Runs one.
pub async fn run(command: JobCommand, client: &Client, output: Output) -> Outcome {
    match command {
        JobCommand::Submit(args) => return submit::submit(*args, client, output).await,
        JobCommand::List(args) => {
            let jobs = list(&args, client).await?;
            output::print(output, &Value::Array(jobs.clone()), || table(&jobs))?;
        }
        JobCommand::Show { id } => {
            let job = follow::find(client, &id).await?;
            output::print(output, &job, || describe(&job))?;
        }
        JobCommand::Logs(args) => {
            let wanted = Wanted { node: args.node, from: args.from };
            follow::logs(client, &args.id, wanted, args.follow, output).await?;
        }
        JobCommand::Metrics { id } => {
            let path = format!("{}/{}/metrics", client.jobs()?, encode(&id));
            let used = client.get(&path, &format!("cannot ask what job {id} used")).await?.body;
            output::print(output, &used, || usage::table(&used))?;
        }
        JobCommand::Cancel { id } => {
            client.delete(&format!("{}/{}", client.jobs()?, encode(&id)), &format!("cannot cancel job {id}")).await?;
            output::print(output, &json!({ "id": id }), || format!("job {id} is asked to stop"))?;
        }
        JobCommand::Wait { id } => {
            let waited = follow::wait(client, &id, false, output).await?;
            if let (Output::Json, Waited::Ended(job)) = (output, &waited) {
                output::print(output, job, String::new)?;
            }
            return Ok(waited.code());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All pages. A job that is submitted meanwhile moves the others on, so that one may come twice; it is shown once.
async fn list(args: &ListArgs, client: &Client) -> Result<Vec<Value>, Failure> {
    let most = args.limit.unwrap_or(usize::MAX);
    let mut filters = Vec::new();
    if !args.status.is_empty() {
        let words: Vec<String> = args.status.iter().map(|word| encode(&word.trim().to_uppercase())).collect();
        filters.push(format!("status:in={}", words.join(",")));
    }
    let mut jobs: Vec<Value> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for number in 1.. {
        let headers = [
            ("X-Pagination-Mode", "CachedObjectList-Pages".to_owned()),
            ("X-Pagination-Size", PAGE.to_string()),
            ("X-Pagination-Number", number.to_string()),
            ("X-Pagination-Sort", "creationDate".to_owned()),
            ("X-Pagination-Sort-Order", "DESC".to_owned()),
            ("X-Pagination-Filter", filters.join("&")),
        ];
        let answer =
            client.get_with(&client.jobs()?, &headers, super::client::PATIENCE, "cannot list the jobs").await?;
        let page = answer.body.as_array().cloned().unwrap_or_default();
        let total = answer.elements.unwrap_or(0);
        let last = page.len() < PAGE || number * PAGE as u64 >= total;
        jobs.extend(page.into_iter().filter(|job| known.insert(output::field(job, "id").to_owned())));
        if last || jobs.len() >= most {
            break;
        }
    }
    jobs.truncate(most);
    Ok(jobs)
}

fn table(jobs: &[Value]) -> String {
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|job| {
            let field = |name: &str| output::field(job, name).to_owned();
            let code = if job["endDate"].is_null() { "-".to_owned() } else { job["returnCode"].to_string() };
            vec![
                field("id"),
                field("name"),
                field("status"),
                code,
                field("engineVersion"),
                whole_seconds(&field("creationDate")),
                duration(job),
            ]
        })
        .collect();
    output::table(&["id", "name", "status", "code", "version", "created", "ran"], &rows)
}

/// How long a job ran, or has run.
pub fn duration(job: &Value) -> String {
    let time = |name: &str| job[name].as_str()?.parse::<jiff::Timestamp>().ok();
    let Some(started) = time("startDate") else { return "-".to_owned() };
    let seconds = time("endDate").unwrap_or_else(jiff::Timestamp::now).as_second() - started.as_second();
    match seconds.max(0) {
        short @ 0..60 => format!("{short} s"),
        middle @ 60..3600 => format!("{} min {} s", middle / 60, middle % 60),
        long => format!("{} h {} min", long / 3600, long % 3600 / 60),
    }
}

fn describe(job: &Value) -> String {
    let mut text = String::new();
    let mut line =
        |name: &str, value: &str| text.push_str(&format!("{:<28}{}\n", format!("{name}:"), output::printable(value)));
    let field = |name: &str| output::field(job, name);
    line("id", field("id"));
    line("name", field("name"));
    line("status", field("status"));
    if let Some(reason) = job["reason"].as_str() {
        line("reason", reason);
    }
    if let Some(place) = job["queuePosition"].as_u64() {
        line("place in the queue", &place.to_string());
    }
    if let Some(deadline) = job["deadline"].as_str() {
        line("until at the most", deadline);
    }
    if let Some(attempt) = job["attempt"].as_u64().filter(|attempt| *attempt > 1) {
        line("attempt", &attempt.to_string());
    }
    if !job["endDate"].is_null() {
        line("return code", &job["returnCode"].to_string());
    }
    line("created", field("creationDate"));
    line("started", field("startDate"));
    line("ended", field("endDate"));
    line("ran", &duration(job));
    line("engine", &format!("{} {}", field("engine"), field("engineVersion")));
    line("region", field("region"));
    line("bucket", field("containerName"));
    line("time to live", field("ttl"));
    for parameter in job["engineParameters"].as_array().into_iter().flatten() {
        line(&format!("  {}", output::field(parameter, "name")), output::field(parameter, "value"));
    }
    text
}

const PAGE: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_job_ran_is_told_in_two_units() {
        let ran = |end: &str| duration(&json!({ "startDate": "2024-05-01T12:00:00Z", "endDate": end }));
        assert_eq!(ran("2024-05-01T12:00:59.9Z"), "59 s");
        assert_eq!(ran("2024-05-01T12:02:05Z"), "2 min 5 s");
        assert_eq!(ran("2024-05-02T13:02:05Z"), "25 h 2 min");
        assert_eq!(duration(&json!({ "startDate": null })), "-");
    }
}
