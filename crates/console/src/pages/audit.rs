//! What the audit log has of the account: log-ins and new passwords, and what its policies were asked.

use serde_json::Value;

use crate::{
    view::{Cell, Outcome, Part, Stop, Table, View},
    visit::{Visit, encoded, text},
};

/// A page of it, newest first.
pub(crate) async fn page(visit: Visit) -> Result<Outcome, Stop> {
    let view = if visit.query("view") == DECISIONS { DECISIONS } else { EVENTS };
    let path = if view == DECISIONS { "/v2/iam/log" } else { "/1.0/me/logs/audit" };
    let headers = [("x-pagination-size", "50"), ("x-pagination-cursor", visit.query("cursor"))];
    let answer = visit.api("GET", path, &headers, None).await?;
    let next = answer.headers.get(NEXT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let rows = answer.done()?;
    let rows = rows.as_array().into_iter().flatten();
    let table = match view {
        DECISIONS => Table {
            caption: "What policies were asked, newest first".to_owned(),
            head: vec!["At", "From", "Identities", "Resource", "Allowed", "Refused", "Reason", "Request"],
            rows: rows.map(decision).collect(),
            empty: "There is none.",
        },
        _ => Table {
            caption: "Log-ins and new passwords, newest first".to_owned(),
            head: vec!["At", "What", "User", "From", "Second factor", "Program"],
            rows: rows.map(event).collect(),
            empty: "There is none.",
        },
    };
    let link = |view: &str, text: &str| (format!("/console/audit?view={view}"), text.to_owned());
    let views = vec![link(EVENTS, "Log-ins and new passwords"), link(DECISIONS, "What policies were asked")];
    let next = next.map(|next| (format!("/console/audit?view={view}&cursor={}", encoded(&next)), "Older".to_owned()));
    let parts = vec![Part::Links(views), Part::Table(table), Part::Links(next.into_iter().collect())];
    Ok(View::new("Audit log", parts).into())
}

fn event(row: &Value) -> Vec<Cell> {
    let log_in = &row["loginSuccessDetails"];
    let cells = [
        &row["createdAt"],
        &row["type"],
        &row["authDetails"]["userDetails"]["user"],
        &row["ip"],
        &log_in["mfaType"],
        &log_in["userAgent"],
    ];
    cells.map(|value| Cell::Text(text(value))).into()
}

fn decision(row: &Value) -> Vec<Cell> {
    let request = text(&row["request_id"]);
    let names = [
        "created_at",
        "client_ip",
        "identities_array",
        "resource",
        "authorized_actions_array",
        "unauthorized_actions_array",
        "reason",
    ];
    let mut cells: Vec<Cell> = names.map(|name| Cell::Text(text(&row[name]))).into();
    cells.push(Cell::Link { to: format!("/console/iam/explain?request={}", encoded(&request)), text: request });
    cells
}

const EVENTS: &str = "events";
const DECISIONS: &str = "decisions";
const NEXT: &str = "x-pagination-cursor-next";
