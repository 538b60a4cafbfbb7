//! What an account sees of the audit log, in the words of the old service: calls that it made, calls of others on its
//! projects, log-ins and new passwords, what its policies were asked, and what became of a project.
//!
//! Every list is newest first and in pages: `X-Pagination-Size` rows, and where there are more the cursor of the next
//! page in `X-Pagination-Cursor-Next`. `from` and `to` are times, both included.

use audit::{Row, Span, View};
use http::{HeaderName, HeaderValue};
use identity::{ContactKind, Resource, Urn};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    ApiError,
    pagination::page_size,
    request::{Call, Reply},
};

/// Numbers of the calls of the account itself: those of its users and service accounts too.
pub(crate) async fn calls(call: Call) -> Result<Reply, ApiError> {
    let view = View::CallsOf(call.caller()?.account.to_string());
    Page::read(&call)?.reply(&call, &[view], |row| row.id.into()).await
}

/// One call of the account itself.
pub(crate) async fn one_call(call: Call) -> Result<Reply, ApiError> {
    let row = found(&call).await?;
    match row.account.as_deref() == Some(call.caller()?.account.as_str()) {
        true => Reply::json(&describe_call(&row)),
        false => Err(absent(&call)?),
    }
}

/// Numbers of the calls of other accounts on projects whose log the caller may read.
pub(crate) async fn service_calls(call: Call) -> Result<Reply, ApiError> {
    let page = Page::read(&call)?;
    let (own, mut views) = (call.caller()?.account.to_string(), Vec::new());
    for project in call.api.identity.projects(None).await? {
        let resource = Resource::Project(project.id);
        if may_read(&call, resource.clone()).await? {
            let resource = resource.to_string();
            let askers = call.api.audit.askers(&resource).await.map_err(|cause| ApiError::internal(&cause))?;
            let others = askers.into_iter().filter(|account| *account != own);
            views.extend(others.map(|by| View::CallsOn { resource: resource.clone(), by }));
        }
    }
    page.reply(&call, &views, |row| row.id.into()).await
}

/// One call of another account on a project whose log the caller may read.
pub(crate) async fn one_service_call(call: Call) -> Result<Reply, ApiError> {
    let row = found(&call).await?;
    let on = Urn::parse(&row.resource).ok().and_then(|urn| Resource::from_urn(&urn));
    let of_another =
        row.account.as_deref().is_some_and(|by| call.caller.as_ref().is_some_and(|own| own.account.as_str() != by));
    match on {
        Some(on @ Resource::Project(_)) if of_another && may_read(&call, on.clone()).await? => {
            Reply::json(&describe_call(&row))
        }
        _ => Err(absent(&call)?),
    }
}

/// Log-ins and new passwords of the account.
pub(crate) async fn security(call: Call) -> Result<Reply, ApiError> {
    let view = View::SecurityOf(call.caller()?.account.to_string());
    Page::read(&call)?.reply(&call, &[view], describe_security).await
}

/// What the policies of the account were asked, by whomever, and what they answered.
pub(crate) async fn evaluations(call: Call) -> Result<Reply, ApiError> {
    let page = Page::read(&call)?;
    let account = &call.caller()?.account;
    let mut resources = vec![Urn::account(account).to_string()];
    let projects = call.api.identity.projects_of_contact(account, &[ContactKind::Admin]).await?;
    resources.extend(projects.iter().map(|project| Urn::project(&project.id).to_string()));
    let mut views = Vec::new();
    for resource in resources {
        let askers = call.api.audit.askers(&resource).await.map_err(|cause| ApiError::internal(&cause))?;
        views.extend(askers.into_iter().map(|by| View::AskedOf { resource: resource.clone(), by }));
    }
    let account = account.to_string();
    page.reply(&call, &views, move |row| describe_evaluation(row, &account)).await
}

/// What became of a project, newest first: calls of the API on it, changes, transitions of its jobs.
pub(crate) async fn of_project(call: Call) -> Result<Reply, ApiError> {
    let page = Page::read(&call)?;
    let project = &call.project()?.id;
    let resource = Urn::project(project).to_string();
    let askers = call.api.audit.askers(&resource).await.map_err(|cause| ApiError::internal(&cause))?;
    let mut views: Vec<View> = askers.into_iter().map(|by| View::CallsOn { resource: resource.clone(), by }).collect();
    views.push(View::OfProject(project.to_string()));
    page.reply(&call, &views, describe_line).await
}

/// Whether the caller may read what happens on a resource.
async fn may_read(call: &Call, resource: Resource) -> Result<bool, ApiError> {
    Ok(call.api.identity.authorize(call.caller()?, READ_LOG, resource, call.now).await?.allowed)
}

/// The call of the API that the path names, whosever it is.
async fn found(call: &Call) -> Result<Row, ApiError> {
    let Some(number) = call.param("logId")?.parse().ok() else { return Err(absent(call)?) };
    let row = call.api.audit.entry(number).await.map_err(|cause| ApiError::internal(&cause))?;
    row.filter(|row| row.action.contains(":apiovh:")).map_or_else(|| Err(absent(call)?), Ok)
}

fn absent(call: &Call) -> Result<ApiError, ApiError> {
    Ok(ApiError::not_found("logId", call.param("logId")?))
}

/// A call: the fields of the old service's `api.Log`, then those of its log of activity.
fn describe_call(row: &Row) -> Value {
    let detail = detail(row);
    let path = detail["path"].as_str().unwrap_or_default();
    let url = match detail["query"].as_str() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    json!({
        "logId": row.id,
        "date": row.at,
        "ip": row.source_ip,
        "method": detail["method"],
        "path": detail["path"],
        "route": detail["route"],
        "account": row.account,
        "action": row.action,
        "resource": row.resource,
        "result": row.result,
        "requestId": row.request_id,
        "status": row.result.parse::<u16>().ok(),
        "url": url,
        "userAgent": detail["userAgent"],
        "username": row.identity,
        "identities": detail["identities"],
        "source": detail["source"].as_str().unwrap_or("api"),
    })
}

/// A security event: `audit.Log` of the old service.
fn describe_security(row: &Row) -> Value {
    let detail = detail(row);
    json!({
        "createdAt": row.at,
        "ip": row.source_ip,
        "type": detail["type"],
        "authDetails": detail["authDetails"],
        "loginSuccessDetails": detail["loginSuccessDetails"],
        "userPasswordChangedDetails": detail["userPasswordChangedDetails"],
    })
}

/// An evaluation: the fields of the old service's log of access policies, with what it is found by.
fn describe_evaluation(row: &Row, account: &str) -> Value {
    let detail = detail(row);
    let list = |name: &str| detail[name].as_array().cloned().unwrap_or_default();
    let (requested, authorized, unauthorized) = if row.action == CHECKED {
        (list("requestedActions"), list("authorizedActions"), list("unauthorizedActions"))
    } else {
        let asked = vec![Value::from(row.action.as_str())];
        match row.decision == audit::Decision::Allowed.as_str() {
            true => (asked.clone(), asked, Vec::new()),
            false => (asked.clone(), Vec::new(), asked),
        }
    };
    json!({
        "id": row.id,
        "created_at": row.at,
        "account": account,
        "client_ip": row.source_ip,
        "request_id": row.request_id,
        "identities_array": list("identities"),
        "requested_actions_array": requested,
        "resource": row.resource,
        "authorized_actions_array": authorized,
        "unauthorized_actions_array": unauthorized,
        "reason": detail["reason"],
    })
}

/// A line of a service's log: the fields that the old service's logs of databases have, then those of the entry.
fn describe_line(row: &Row) -> Value {
    let message = format!("{} {} {} {}", row.identity, row.action, row.resource, row.result);
    json!({
        "timestamp": row.at.as_second(),
        "message": message,
        "id": row.id,
        "date": row.at,
        "account": row.account,
        "identity": row.identity,
        "ip": row.source_ip,
        "action": row.action,
        "resource": row.resource,
        "result": row.result,
        "requestId": row.request_id,
    })
}

fn detail(row: &Row) -> Value {
    serde_json::from_str(&row.detail).unwrap_or_default()
}

/// Which page of a list is asked for.
struct Page {
    span: Span,
    size: u32,
}

impl Page {
    fn read(call: &Call) -> Result<Page, ApiError> {
        let size = page_size(call, LARGEST_PAGE)?;
        let mut span = Span::WHOLE;
        if let Some(from) = call.time("from")? {
            span.from = nanos(from);
        }
        if let Some(to) = call.time("to")? {
            span.to = nanos(to);
        }
        if let Some(text) = call.header("x-pagination-cursor").map(str::trim).filter(|text| !text.is_empty()) {
            let numbers = text.split_once('-').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
            let wrong = || ApiError::bad_field("X-Pagination-Cursor", "the X-Pagination-Cursor-Next of a page");
            let (at, before): (i64, i64) = numbers.ok_or_else(wrong)?;
            if at <= span.to {
                (span.to, span.before) = (at, before);
            }
        }
        Ok(Page { span, size })
    }

    async fn reply(&self, call: &Call, views: &[View], describe: impl Fn(&Row) -> Value) -> Result<Reply, ApiError> {
        let rows = call.api.audit.seen(views, self.span, self.size + 1).await;
        let mut rows = rows.map_err(|cause| ApiError::internal(&cause))?;
        let has_more = rows.len() > self.size as usize;
        rows.truncate(self.size as usize);
        let reply = Reply::json(&rows.iter().map(describe).collect::<Vec<_>>())?;
        let Some(last) = rows.last().filter(|_| has_more) else { return Ok(reply) };
        let cursor = format!("{}-{}", last.at.as_nanosecond(), last.id);
        let cursor = HeaderValue::from_str(&cursor).map_err(|fault| ApiError::internal(&fault))?;
        Ok(reply.with_header(HeaderName::from_static("x-pagination-cursor-next"), cursor))
    }
}

/// A time in Unix nanoseconds; one that is beyond them is the last or the first.
fn nanos(time: Timestamp) -> i64 {
    let beyond = if time > Timestamp::UNIX_EPOCH { i64::MAX } else { i64::MIN };
    i64::try_from(time.as_nanosecond()).unwrap_or(beyond)
}

/// The action of reading what happens in a project.
const READ_LOG: &str = "publicCloudProject:apiovh:logs/get";
/// The action of an entry about an authorization check.
const CHECKED: &str = "iam.authorization.checked";
const LARGEST_PAGE: u32 = 1000;
