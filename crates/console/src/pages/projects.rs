//! Projects, their jobs, and the newest lines of a job's log.

use serde_json::Value;

use super::home::Pages;
use crate::{
    view::{Cell, Field, Form, Outcome, Part, Stop, Table, View},
    visit::{Visit, encoded, facts, text},
};

/// A project, and the newest lines of what happened in it.
pub(crate) async fn page(visit: Visit) -> Result<Outcome, Stop> {
    let project = encoded(visit.param("project"));
    let shown = visit.read(&format!("/1.0/cloud/project/{project}")).await?;
    let links = vec![
        (format!("/console/projects/{project}/jobs"), "Jobs".to_owned()),
        (format!("/console/projects/{project}/schedules"), "Schedules".to_owned()),
    ];
    let known = facts(
        &shown,
        &[("Id", "project_id"), ("Name", "projectName"), ("Status", "status"), ("Created", "creationDate")],
    );
    let mut parts = vec![Part::Facts(known), Part::Links(links)];
    let size = LINES.to_string();
    let log = visit
        .api("GET", &format!("/1.0/cloud/project/{project}/logs"), &[("x-pagination-size", size.as_str())], None)
        .await?;
    match log.done() {
        Ok(lines) => {
            let names = ["date", "identity", "ip", "action", "resource", "result", "requestId"];
            let rows = lines.as_array().into_iter().flatten();
            parts.push(Part::Table(Table {
                caption: format!("What happened, newest first, at most {LINES} lines"),
                head: vec!["At", "Who", "From", "Action", "On", "Result", "Request"],
                rows: rows.map(|line| names.map(|name| Cell::Text(text(&line[name]))).into()).collect(),
                empty: "Nothing happened.",
            }));
        }
        // A caller that may see the project and not its log.
        Err(stop) => parts.extend(stop.sentences.into_iter().map(Part::Alert)),
    }
    Ok(View::new(format!("Project {}", text(&shown["projectName"])), parts).into())
}

/// The jobs of a project, newest first.
pub(crate) async fn jobs(visit: Visit) -> Result<Outcome, Stop> {
    let project = encoded(visit.param("project"));
    let page = Pages::of(&visit);
    let path = format!("/1.0/cloud/project/{project}/dataProcessing/jobs");
    let answer = visit.api("GET", &path, &page.headers(), None).await?;
    let total = answer.number("x-pagination-total").unwrap_or(1);
    let rows = answer.done()?;
    let here = format!("/console/projects/{project}/jobs");
    let rows = rows.as_array().into_iter().flatten().map(|job| {
        let id = text(&job["id"]);
        let mut cells = vec![Cell::Link { to: format!("{here}/{}", encoded(&id)), text: id }];
        let names = ["name", "status", "engineVersion", "creationDate", "startDate", "endDate", "reason"];
        cells.extend(names.map(|name| Cell::Text(text(&job[name]))));
        cells
    });
    let table = Table {
        caption: "Jobs, newest first".to_owned(),
        head: vec!["Job", "Name", "Status", "Spark", "Submitted", "Started", "Ended", "Reason"],
        rows: rows.collect(),
        empty: "There is no job.",
    };
    let back = Part::Links(vec![(format!("/console/projects/{project}"), "The project".to_owned())]);
    Ok(View::new("Jobs", vec![back, Part::Table(table), page.links(&here, total)]).into())
}

/// The schedules of a project, by name.
pub(crate) async fn schedules(visit: Visit) -> Result<Outcome, Stop> {
    let project = encoded(visit.param("project"));
    let path = format!("/1.0/cloud/project/{project}/dataProcessing/schedules");
    let headers = [("x-pagination-mode", "CachedObjectList-Pages"), ("x-pagination-size", "250")];
    let schedules = visit.api("GET", &path, &headers, None).await?.done()?;
    let here = format!("/console/projects/{project}/schedules");
    let rows = schedules.as_array().into_iter().flatten().map(|schedule| {
        let to = format!("{here}/{}", encoded(&text(&schedule["id"])));
        let mut cells = vec![Cell::Link { to, text: text(&schedule["name"]) }];
        cells.extend(["state", "cron", "timezone", "nextRun", "owner"].map(|name| Cell::Text(text(&schedule[name]))));
        cells
    });
    let table = Table {
        caption: "Schedules, by name".to_owned(),
        head: vec!["Name", "State", "Times", "Time zone", "Next", "Owner"],
        rows: rows.collect(),
        empty: "There is no schedule.",
    };
    let back = Part::Links(vec![(format!("/console/projects/{project}"), "The project".to_owned())]);
    Ok(View::new("Schedules", vec![back, Part::Table(table)]).into())
}

/// A schedule, and what came of its newest times.
pub(crate) async fn schedule(visit: Visit) -> Result<Outcome, Stop> {
    let (project, id) = (encoded(visit.param("project")), encoded(visit.param("schedule")));
    let api = format!("/1.0/cloud/project/{project}/dataProcessing/schedules/{id}");
    let schedule = visit.read(&api).await?;
    let known = [
        ("Id", "id"),
        ("Name", "name"),
        ("State", "state"),
        ("Reason", "reason"),
        ("Times", "cron"),
        ("Time zone", "timezone"),
        ("Next", "nextRun"),
        ("Missed times", "catchUp"),
        ("Earlier job", "overlap"),
        ("Not before", "startDate"),
        ("Not after", "endDate"),
        ("Owner", "owner"),
        ("Refused in a row", "refusals"),
        ("Created", "creationDate"),
        ("Changed", "lastUpdate"),
    ];
    let job = [("Job", "name"), ("Version", "engineVersion"), ("Container", "containerName"), ("Time to live", "ttl")];
    let facts = [facts(&schedule, &known), facts(&schedule["job"], &job)].concat();
    let mut parts = vec![Part::Facts(facts), Part::Table(parameters(&schedule["job"]))];
    match visit.api("GET", &format!("{api}/runs"), &[], None).await?.done() {
        Ok(runs) => {
            let rows = runs.as_array().into_iter().flatten().map(|run| {
                let job = text(&run["jobId"]);
                let link = match run["jobId"].is_string() {
                    true => Cell::Link { to: format!("/console/projects/{project}/jobs/{}", encoded(&job)), text: job },
                    false => Cell::Text(job),
                };
                let of = |name: &str| Cell::Text(text(&run[name]));
                vec![of("time"), of("until"), of("outcome"), link, of("reason")]
            });
            parts.push(Part::Table(Table {
                caption: "What came of its times, newest first".to_owned(),
                head: vec!["Time", "Until", "Outcome", "Job", "Reason"],
                rows: rows.collect(),
                empty: "No time has come.",
            }));
        }
        // A caller that may see the schedule and not what came of it.
        Err(stop) => parts.extend(stop.sentences.into_iter().map(Part::Alert)),
    }
    let all = format!("/console/projects/{project}/schedules");
    parts.push(Part::Links(vec![(all, "All schedules of the project".to_owned())]));
    Ok(View::new(format!("Schedule {}", text(&schedule["name"])), parts).into())
}

/// A job with the newest lines of its log.
pub(crate) async fn job(visit: Visit) -> Result<Outcome, Stop> {
    let (project, id) = (encoded(visit.param("project")), encoded(visit.param("job")));
    let api = format!("/1.0/cloud/project/{project}/dataProcessing/jobs/{id}");
    let job = visit.read(&api).await?;
    let node = match visit.query("node") {
        "" => "all",
        node => node,
    };
    let mut parts = vec![
        Part::Facts(facts(
            &job,
            &[
                ("Id", "id"),
                ("Name", "name"),
                ("Status", "status"),
                ("Reason", "reason"),
                ("Return code", "returnCode"),
                ("Region", "region"),
                ("Engine", "engine"),
                ("Version", "engineVersion"),
                ("Container", "containerName"),
                ("Submitted", "creationDate"),
                ("Started", "startDate"),
                ("Ended", "endDate"),
                ("Time to live", "ttl"),
            ],
        )),
        Part::Table(parameters(&job)),
    ];
    let answer = visit.api("GET", &format!("{api}/logs?last={LINES}&node={}", encoded(node)), &[], None).await?;
    match answer.done() {
        Ok(log) => {
            let mut lines = String::new();
            for line in log["logs"].as_array().into_iter().flatten() {
                let from = line["node"].as_str().map(|node| format!(" {node}")).unwrap_or_default();
                lines.push_str(&format!(
                    "{}{from} {}\n",
                    text(&line["timestamp"]),
                    line["content"].as_str().unwrap_or_default()
                ));
            }
            parts.push(Part::Heading(format!("Newest lines of the log, at most {LINES}")));
            match lines.is_empty() {
                true => parts.push(Part::Text("There is no line.".to_owned())),
                false => parts.push(Part::Lines { label: "Log of the job".to_owned(), text: lines }),
            }
            if let Some(address) = log["logsAddress"].as_str() {
                parts.push(Part::Text(format!("The whole log is at {address}")));
            }
        }
        // A caller that may see the job and not its log, or a node that is none.
        Err(stop) => parts.extend(stop.sentences.into_iter().map(Part::Alert)),
    }
    let field = Field { value: node.to_owned(), ..Field::text("node", "Lines of (driver, executor-N or all)") };
    parts.push(Part::Form(Form {
        method: "get",
        action: format!("/console/projects/{project}/jobs/{id}"),
        hidden: Vec::new(),
        fields: vec![field],
        keys: Vec::new(),
        buttons: vec![("", "", "Show".to_owned())],
    }));
    parts.push(Part::Links(vec![(format!("/console/projects/{project}/jobs"), "All jobs of the project".to_owned())]));
    Ok(View::new(format!("Job {}", text(&job["name"])), parts).into())
}

fn parameters(job: &Value) -> Table {
    let rows = job["engineParameters"].as_array().into_iter().flatten();
    Table {
        caption: "Parameters".to_owned(),
        head: vec!["Name", "Value"],
        rows: rows.map(|one| vec![Cell::Text(text(&one["name"])), Cell::Text(text(&one["value"]))]).collect(),
        empty: "There is none.",
    }
}

const LINES: u32 = 1000;
