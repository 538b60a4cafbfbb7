//! `/cloud/project/{serviceName}/dataProcessing/schedules`: jobs that come again by the clock. Not of the old service, after its
//! manner: ids, or by pagination headers whole schedules.

use identity::{Method, Resource};
use jobs::{ScheduleRequest, schedules::upcoming};
use model::{CatchUp, Faults, JobRequest, Overlap, Principal, Schedule, ScheduleId, ScheduleRun};
use serde_json::{Map, Value, json};

use crate::{
    ApiError, CANCEL, SUBMIT, jobs_routes, pagination,
    request::{Call, Reply},
};

/// The project's schedules, by name.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let schedules = call.api.jobs.schedules().list(&call.project()?.id).await?;
    match pagination::Wish::read(&call)? {
        None => Reply::json(&schedules.iter().map(|schedule| schedule.id).collect::<Vec<_>>()),
        Some(wish) => wish.reply(schedules.iter().map(describe).collect()),
    }
}

/// Makes a schedule, in the name of the caller.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    let body = body(&call)?;
    let (request, faults) = read(&body);
    if !faults.0.is_empty() {
        return Err(invalid(faults));
    }
    let key = jobs_routes::idempotency_key(&call.headers, &body)?;
    let cancels = request.overlap.as_deref() == Some(Overlap::CancelRunning.as_str());
    let owner = owner(&call, cancels).await?.ok_or(jobs::Error::NoPrincipal)?;
    let (project, by) = (&call.project()?.id, call.actor());
    let made = call.api.jobs.schedules().create(project, &request, &owner, key.as_ref(), &by, call.now).await;
    Reply::json(&shown(&made.map_err(refusal)?, &call))
}

/// One schedule, with its next times.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&shown(&find(&call).await?, &call))
}

/// Changes what is given; from then on it runs in the name of the caller, but for a mere pause.
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    let body = body(&call)?;
    let (request, faults) = read(&body);
    if !faults.0.is_empty() {
        return Err(invalid(faults));
    }
    let owner = match request.only_pauses() {
        true => None,
        false => {
            let cancels = match &request.overlap {
                Some(overlap) => overlap == Overlap::CancelRunning.as_str(),
                None => find(&call).await?.overlap == Overlap::CancelRunning,
            };
            owner(&call, cancels).await?
        }
    };
    let (project, id, by) = (&call.project()?.id, schedule_id(&call)?, call.actor());
    let changed = call.api.jobs.schedules().change(project, id, &request, owner.as_ref(), &by, call.now).await;
    Reply::json(&shown(&changed.map_err(refusal)?, &call))
}

/// Removes a schedule; its jobs stay.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = schedule_id(&call)?;
    call.api.jobs.schedules().delete(&call.project()?.id, id, &call.actor()).await?;
    Reply::void()
}

/// What came of its times, newest first; the newest hundred, or by pagination headers all that are kept.
pub(crate) async fn runs(call: Call) -> Result<Reply, ApiError> {
    let id = find(&call).await?.id;
    let schedules = call.api.jobs.schedules();
    match pagination::Wish::read(&call)? {
        None => Reply::json(&schedules.runs(id, NEWEST).await?.iter().map(describe_run).collect::<Vec<_>>()),
        Some(wish) => wish.reply(schedules.runs(id, MOST_RUNS).await?.iter().map(describe_run).collect()),
    }
}

fn schedule_id(call: &Call) -> Result<ScheduleId, ApiError> {
    let given = call.param("scheduleId")?;
    given.parse().map_err(|_| ApiError::not_found("scheduleId", given))
}

async fn find(call: &Call) -> Result<Schedule, ApiError> {
    let id = schedule_id(call)?;
    let found = call.api.jobs.schedules().find(&call.project()?.id, id).await?;
    found.ok_or_else(|| ApiError::not_found("scheduleId", &id.to_string()))
}

/// In whose name it is to run. Whoever asks must themselves be able to submit the job, and to cancel any where the schedule
/// `cancels`: by the rules of their credential, and by the decision for these actions.
async fn owner(call: &Call, cancels: bool) -> Result<Option<Principal>, ApiError> {
    let (caller, project) = (call.caller()?, &call.project()?.id);
    let jobs = format!("/cloud/project/{project}/dataProcessing/jobs");
    let needs = [(Method::Post, jobs.clone(), SUBMIT), (Method::Delete, format!("{jobs}/*"), CANCEL)];
    for (method, path, action) in needs.into_iter().take(if cancels { 2 } else { 1 }) {
        if !caller.may_call(method, &path) {
            return Err(ApiError::not_granted());
        }
        let resource = Resource::Project(project.clone());
        if !call.api.identity.authorize(caller, action, resource, call.now).await?.allowed {
            return Err(ApiError::forbidden(action));
        }
    }
    Ok(caller.principal())
}

fn body(call: &Call) -> Result<Map<String, Value>, ApiError> {
    match call.json::<Value>()? {
        Value::Object(body) => Ok(body),
        _ => Err(ApiError::bad_request("The body is a JSON object, the schedule")),
    }
}

/// Takes the body apart. What has another JSON type than it should is a fault of its field, not of the whole; `null` takes a bound
/// away.
fn read(body: &Map<String, Value>) -> (ScheduleRequest, Faults) {
    let mut faults = Faults::default();
    let is_known = |name: &str| FIELDS.contains(&name) || SHOWN_ONLY.contains(&name);
    for (name, value) in body.iter().filter(|(name, _)| !is_known(name.as_str())).take(MOST_UNKNOWN) {
        let known = FIELDS.join(", ");
        let rule = format!("no such field; known: {known}");
        faults.add(name, Some(&value.to_string()), "odp.schedule.unknownField", rule);
    }
    let mut wrong = |name: &str, value: &Value, rule: &str| {
        faults.add(name, Some(&value.to_string()), &format!("odp.schedule.{name}.invalid"), rule);
    };
    let mut text = |name: &str| match body.get(name) {
        None => None,
        Some(Value::Null) => matches!(name, "startDate" | "endDate").then(String::new),
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            wrong(name, other, "a JSON string");
            None
        }
    };
    let mut request = ScheduleRequest {
        name: text("name"),
        cron: text("cron"),
        zone: text("timezone"),
        catch_up: text("catchUp"),
        catch_up_limit: None,
        overlap: text("overlap"),
        starts: text("startDate"),
        ends: text("endDate"),
        enabled: None,
        job: None,
    };
    match body.get("catchUpLimit") {
        None | Some(Value::Null) => {}
        Some(value) => match value.as_i64() {
            Some(limit) => request.catch_up_limit = Some(limit),
            None => wrong("catchUpLimit", value, "a whole number"),
        },
    }
    match body.get("enabled") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(enabled)) => request.enabled = Some(*enabled),
        Some(other) => wrong("enabled", other, "true or false"),
    }
    match body.get("job") {
        None | Some(Value::Null) => {}
        Some(Value::Object(job)) => {
            let (job, more) = jobs_routes::read_request(job);
            faults.0.extend(more.0);
            request.job = Some(job);
        }
        Some(other) => wrong("job", other, "a JSON object, the job as it is submitted"),
    }
    (request, faults)
}

/// What went wrong; all that is not valid of a schedule is told as that.
fn refusal(error: jobs::Error) -> ApiError {
    match error {
        jobs::Error::Invalid(faults) => invalid(faults),
        other => other.into(),
    }
}

fn invalid(faults: Faults) -> ApiError {
    let message = format!("The schedule is not valid: {faults}");
    ApiError { message, ..faults.into() }
}

/// A schedule with its next times.
fn shown(schedule: &Schedule, call: &Call) -> Value {
    let mut shown = describe(schedule);
    shown["nextRuns"] = json!(upcoming(schedule, call.now, NEXT_RUNS));
    shown
}

fn describe(schedule: &Schedule) -> Value {
    json!({
        "id": schedule.id,
        "name": schedule.name,
        "cron": schedule.cron,
        "timezone": schedule.zone,
        "catchUp": schedule.catch_up.as_str(),
        "catchUpLimit": (schedule.catch_up > CatchUp::LATEST).then_some(schedule.catch_up.0),
        "overlap": schedule.overlap.as_str(),
        "startDate": schedule.starts,
        "endDate": schedule.ends,
        "enabled": schedule.enabled,
        "state": schedule.state(),
        "reason": schedule.stopped,
        "owner": schedule.owner.urn,
        "refusals": schedule.refusals,
        "nextRun": schedule.next_run,
        "creationDate": schedule.created,
        "lastUpdate": schedule.changed,
        "job": describe_request(&schedule.request),
    })
}

/// A job as it was asked for, so that it can be sent again.
fn describe_request(request: &JobRequest) -> Value {
    json!({
        "name": request.name,
        "region": request.region,
        "engine": request.engine,
        "engineVersion": request.engine_version,
        "containerName": request.container_name,
        "ttl": request.ttl,
        "engineParameters": request.parameters,
    })
}

fn describe_run(run: &ScheduleRun) -> Value {
    json!({
        "time": run.nominal,
        "until": run.until,
        "date": run.at,
        "outcome": run.outcome.as_str(),
        "jobId": run.outcome.job(),
        "reason": run.reason,
    })
}

const FIELDS: [&str; 11] = [
    "catchUp",
    "catchUpLimit",
    "clientToken",
    "cron",
    "enabled",
    "endDate",
    "job",
    "name",
    "overlap",
    "startDate",
    "timezone",
];
/// Fields of a schedule that clients may send along, for they send what they have read.
const SHOWN_ONLY: [&str; 9] =
    ["creationDate", "id", "lastUpdate", "nextRun", "nextRuns", "owner", "reason", "refusals", "state"];
const MOST_UNKNOWN: usize = 64;
const NEXT_RUNS: usize = 10;
const NEWEST: u32 = 100;
/// All that are kept, with what has not ended beyond these.
const MOST_RUNS: u32 = 2 * jobs::schedules::MOST_RUNS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_type_is_a_fault_of_its_field_beside_all_others() {
        let body = json!({
            "name": 1, "cron": null, "timezone": [], "catchUpLimit": 1.5, "enabled": "yes", "colour": "red",
            "job": { "containerName": 5 }, "state": "active",
        });
        let (_, faults) = read(body.as_object().expect("an object"));
        let mut fields: Vec<&str> = faults.0.iter().map(|fault| fault.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["catchUpLimit", "colour", "containerName", "enabled", "name", "timezone"]);
    }

    #[test]
    fn nothing_but_a_pause_is_a_pause() {
        let pauses = |body: Value| read(body.as_object().expect("an object")).0.only_pauses();
        assert!(pauses(json!({ "enabled": false })));
        for body in [json!({}), json!({ "enabled": true }), json!({ "enabled": false, "endDate": null })] {
            assert!(!pauses(body.clone()), "{body}");
        }
    }
}
