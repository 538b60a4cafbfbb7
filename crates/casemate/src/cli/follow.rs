//! Follows a job: its status for the person who waits, its log line by line, and its end.

use std::{process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{
    Output,
    client::{Client, encode},
    output,
};
use crate::failure::{Doing, Failure};

/// Which lines of a log.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `driver`, `executor-N` or `all`; the driver's where none is named.
    pub node: Option<String>,
    /// From this time on, as the API takes it.
    pub from: Option<String>,
}

/// Reads a log in pages; none of its lines is read twice or left out.
pub struct Log<'a> {
    client: &'a Client,
    path: String,
    wanted: Wanted,
    after: Option<u64>,
    /// Where all of it is in object storage, once the job has ended.
    pub address: Option<String>,
}

impl<'a> Log<'a> {
    /// The log of a job.
    pub fn new(client: &'a Client, id: &str, wanted: Wanted) -> Result<Log<'a>, Failure> {
        let path = format!("{}/{}/logs", client.jobs()?, encode(id));
        Ok(Log { client, path, wanted, after: None, address: None })
    }

    /// The next lines; none where there are none yet, or none any more.
    pub async fn next(&mut self) -> Result<Vec<Value>, Failure> {
        let mut query = Vec::new();
        if let Some(node) = &self.wanted.node {
            query.push(format!("node={}", encode(node)));
        }
        match (self.after, &self.wanted.from) {
            (Some(after), _) => query.push(format!("after={after}")),
            (None, Some(from)) => query.push(format!("from={}", encode(from))),
            (None, None) => query.push("after=0".to_owned()),
        }
        let path = format!("{}?{}", self.path, query.join("&"));
        let answer = self.client.get_with(&path, &[], PATIENCE, "cannot read the log").await?;
        self.address = answer.body["logsAddress"].as_str().map(str::to_owned);
        let lines = answer.body["logs"].as_array().cloned().unwrap_or_default();
        self.after = lines.last().and_then(|line| line["id"].as_u64()).or(self.after);
        Ok(lines)
    }
}

/// Prints a log: what there is, or with `follow` until the job has ended.
pub async fn logs(client: &Client, id: &str, wanted: Wanted, follow: bool, output: Output) -> Result<(), Failure> {
    let mut log = Log::new(client, id, wanted)?;
    let mut printed = false;
    loop {
        // Asked before the lines are read: what is read after the end is all there is.
        let ended = !follow || is_final(&find(client, id).await?);
        loop {
            let lines = log.next().await?;
            if lines.is_empty() {
                break;
            }
            printed = true;
            print_lines(&lines, output)?;
        }
        if ended {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if let (false, Some(address)) = (printed, &log.address) {
        eprintln!("the log is in object storage only: {}", output::printable(address));
    }
    Ok(())
}

/// Waits until a job has ended, showing its status, and its log where `with_log`. Ctrl-C leaves the job alone.
pub async fn wait(client: &Client, id: &str, with_log: bool, output: Output) -> Result<Waited, Failure> {
    tokio::select! {
        job = watch(client, id, with_log, output) => job.map(Waited::Ended),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.doing("cannot watch for Ctrl-C")?;
            eprintln!("\njob {id} goes on; `casemate job wait {id}` waits for it again, `casemate job cancel {id}` ends it");
            Ok(Waited::Interrupted)
        }
    }
}

/// How waiting came to its end.
pub enum Waited {
    /// The job ended; here it is.
    Ended(Value),
    /// The person went away.
    Interrupted,
}

impl Waited {
    /// The exit code: the job's return code, and never success for a job that did not complete.
    pub fn code(&self) -> ExitCode {
        match self {
            Waited::Interrupted => ExitCode::from(130),
            Waited::Ended(job) => ExitCode::from(exit_code(job)),
        }
    }
}

fn exit_code(job: &Value) -> u8 {
    let code = job["returnCode"].as_i64().unwrap_or(1);
    match (job["status"].as_str(), u8::try_from(code & 0xff)) {
        (Some("COMPLETED"), Ok(code)) => code,
        (_, Ok(code)) if code != 0 => code,
        _ => 1,
    }
}

async fn watch(client: &Client, id: &str, with_log: bool, output: Output) -> Result<Value, Failure> {
    let mut log = Log::new(client, id, Wanted::default())?;
    let mut shown = Shown::new();
    loop {
        let job = find(client, id).await?;
        shown.status(output::field(&job, "status"));
        loop {
            let lines = if with_log { log.next().await? } else { Vec::new() };
            if lines.is_empty() {
                break;
            }
            shown.aside(|| print_lines(&lines, output))?;
        }
        if is_final(&job) {
            shown.end(&job);
            return Ok(job);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The status on standard error: a line that moves on a terminal, a line a change elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    last: String,
}

impl Shown {
    fn new() -> Shown {
        let bar = output::watched().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            match ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Shown { bar, last: String::new() }
    }

    fn status(&mut self, status: &str) {
        if status == self.last {
            return;
        }
        self.last = output::printable(status);
        match &self.bar {
            Some(bar) => bar.set_message(self.last.clone()),
            None => eprintln!("{}", self.last),
        }
    }

    fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn end(&self, job: &Value) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let reason =
            job["reason"].as_str().map(|reason| format!(": {}", output::printable(reason))).unwrap_or_default();
        let status = output::printable(output::field(job, "status"));
        eprintln!("job {} {status}, ran {}{reason}", output::field(job, "id"), super::job::duration(job));
    }
}

/// One job.
pub async fn find(client: &Client, id: &str) -> Result<Value, Failure> {
    let path = format!("{}/{}", client.jobs()?, encode(id));
    Ok(client.get_with(&path, &[], PATIENCE, &format!("cannot read job {id}")).await?.body)
}

fn is_final(job: &Value) -> bool {
    matches!(job["status"].as_str(), Some("COMPLETED" | "FAILED" | "TERMINATED"))
}

fn print_lines(lines: &[Value], output: Output) -> Result<(), Failure> {
    let mut text = String::new();
    for line in lines {
        if output == Output::Json {
            text.push_str(&line.to_string());
        } else {
            if let Some(node) = line["node"].as_str() {
                text.push_str(node);
                text.push_str("  ");
            }
            text.push_str(line["content"].as_str().unwrap_or_default());
        }
        text.push('\n');
    }
    // The last line feed is the printer's; an empty line at the end stays one.
    text.pop();
    output::line(&text)
}

const PAUSE: Duration = Duration::from_millis(400);
/// A service that is started again is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_completed_job_ends_in_success() {
        for (status, code, expected) in [
            ("COMPLETED", 0, 0),
            ("FAILED", 7, 7),
            ("FAILED", 0, 1),
            ("FAILED", 256, 1),
            ("TERMINATED", 143, 143),
            ("FAILED", -1, 255),
        ] {
            assert_eq!(exit_code(&json!({ "status": status, "returnCode": code })), expected, "{status} {code}");
        }
    }
}
