//! `/cloud/project/{p}/dataProcessing/jobs`: submit, list, show, cancel.

use http::HeaderMap;
use jobs::IdempotencyKey;
use model::{Blame, EndReason, EngineParameter, Faults, Job, JobId, JobRequest, JobSpec, JobStatus, SpecRules};
use serde_json::{Map, Value, json};

use crate::{
    ApiError, pagination,
    request::{Call, Reply},
};

/// The project's jobs: ids, or by pagination headers whole jobs.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let project = &call.project()?.id;
    let status = call.query("status").filter(|text| !text.is_empty()).map(pagination::status_filter).transpose()?;
    match pagination::Wish::read(&call)? {
        None => {
            let filters: Vec<jobs::Filter> = status.into_iter().collect();
            Reply::json(&call.api.jobs.ids(project, &filters).await?)
        }
        Some(wish) => {
            let mut query = wish.jobs()?;
            query.filters.extend(status);
            let page = call.api.jobs.list(project, &query).await?;
            wish.answer(&page.jobs.iter().map(describe).collect::<Vec<_>>(), page.total)
        }
    }
}

/// Takes a job.
pub(crate) async fn submit(call: Call) -> Result<Reply, ApiError> {
    let project = call.project()?;
    if !project.authorized {
        return Err(jobs::Error::NotAuthorized.into());
    }
    let Value::Object(body) = call.json::<Value>()? else {
        return Err(ApiError::bad_request("The body is a JSON object, the job to run"));
    };
    let (request, faults) = read_request(&body);
    if !faults.0.is_empty() {
        let rules = call.api.jobs.rules(call.region()?, call.now).await?;
        return Err(ApiError::from(with_faults_of_values(faults, &request, &rules)));
    }
    let job = match idempotency_key(&call.headers, &body)? {
        Some(key) => call.api.jobs.submit_once(&project.id, &request, &key, &call.actor()).await?,
        None => call.api.jobs.submit(&project.id, &request, &call.actor()).await?,
    };
    Reply::json(&describe(&job))
}

/// The key that the client names this submit by: the header of draft-ietf-httpapi-idempotency-key-header, whose value is
/// a quoted string, or the field `clientToken` for clients that cannot set headers. Without quotes it is taken too, as many
/// clients send it.
pub(crate) fn idempotency_key(
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let header = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default().trim();
            Some(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text))
        }
        (Some(_), Some(_)) => return Err(ApiError::bad_field(KEY_HEADER, "given more than once")),
    };
    let field = match body.get("clientToken") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err(ApiError::bad_field("clientToken", "a JSON string")),
    };
    let parse = |name: &str, text: Option<&str>| {
        text.map(|text| text.parse::<IdempotencyKey>().map_err(|fault| ApiError::bad_field(name, fault.to_string())))
            .transpose()
    };
    match (parse(KEY_HEADER, header)?, parse("clientToken", field)?) {
        (Some(header), Some(field)) if header != field => {
            Err(ApiError::bad_field("clientToken", "another than the header Idempotency-Key"))
        }
        (header, field) => Ok(header.or(field)),
    }
}

/// One job.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let id = job_id(&call)?;
    let job = call.api.jobs.find(&call.project()?.id, id).await?;
    let job = job.ok_or_else(|| ApiError::not_found("jobId", &id.to_string()))?;
    let standing = call.api.jobs.standing(&job).await?;
    let mut shown = describe(&job);
    shown["queuePosition"] = json!(standing.place);
    shown["deadline"] = json!(standing.deadline);
    if let Some(reason) = standing.reason {
        shown["reason"] = json!(reason);
    }
    Reply::json(&shown)
}

/// Asks a job to stop; nothing happens to one that has ended.
pub(crate) async fn cancel(call: Call) -> Result<Reply, ApiError> {
    let id = job_id(&call)?;
    call.api.jobs.cancel(&call.project()?.id, id, &call.actor()).await?;
    Reply::void()
}

/// The job of the path.
pub(crate) fn job_id(call: &Call) -> Result<JobId, ApiError> {
    let given = call.param("jobId")?;
    given.parse().map_err(|_| ApiError::not_found("jobId", given))
}

/// A job as the API shows it.
pub(crate) fn describe(job: &Job) -> Value {
    json!({
        "id": job.id,
        "name": job.spec.name,
        "region": job.spec.region,
        "engine": "spark",
        "engineVersion": job.spec.version,
        "engineParameters": job.spec.parameters,
        "containerName": job.spec.bucket,
        "creationDate": job.created,
        "startDate": job.started,
        "endDate": job.ended,
        "status": job.status,
        "placement": job.spec.placement,
        "ttl": job.spec.ttl,
        "returnCode": return_code(job),
        "notebook": null,
        "attempt": job.attempt,
        "reason": job.reason.as_ref().map(ToString::to_string),
        "fault": (job.status == JobStatus::Failed).then(|| job.reason.as_ref().map_or(Blame::Platform, EndReason::blame)),
    })
}

/// Clients end with this code as theirs: 0 while it is unknown, and never 0 for a job that ended and did not complete.
fn return_code(job: &Job) -> i32 {
    let code = job.return_code.unwrap_or(0);
    let failed = job.status.is_final() && job.status != JobStatus::Completed;
    if failed && code == 0 { 1 } else { code }
}

/// Takes the body apart. What has another JSON type than it should is a fault of its field, not of the whole.
pub(crate) fn read_request(body: &Map<String, Value>) -> (JobRequest, Faults) {
    let mut faults = Faults::default();
    let is_known = |name: &str| FIELDS.contains(&name) || SHOWN_ONLY.contains(&name);
    for (name, value) in body.iter().filter(|(name, _)| !is_known(name.as_str())).take(MOST_UNKNOWN) {
        let known = FIELDS.join(", ");
        faults.add(name, Some(&value.to_string()), "odp.job.unknownField", format!("no such field; known: {known}"));
    }
    let mut text = |name: &str| match body.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            faults.add(name, Some(&other.to_string()), &format!("odp.job.{name}.invalid"), "a JSON string");
            None
        }
    };
    let mut request = JobRequest {
        name: text("name"),
        region: text("region"),
        engine: text("engine"),
        engine_version: text("engineVersion"),
        container_name: text("containerName"),
        ttl: text("ttl"),
        parameters: Vec::new(),
    };
    match body.get("engineParameters") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            request.parameters =
                list.iter().take(MOST_PARAMETERS).filter_map(|item| read_parameter(item, &mut faults)).collect();
        }
        Some(other) => {
            let message = "a JSON list of objects, each with name and value";
            faults.add("engineParameters", Some(&other.to_string()), "odp.job.engineParameters.invalid", message);
        }
    }
    (request, faults)
}

fn read_parameter(item: &Value, faults: &mut Faults) -> Option<EngineParameter> {
    const CLASS: &str = "odp.job.engineParameters.invalid";
    let Some(Value::String(name)) = item.get("name") else {
        faults.add(
            "engineParameters",
            Some(&item.to_string()),
            CLASS,
            "each is an object with name and value, both JSON strings",
        );
        return None;
    };
    match item.get("value") {
        Some(Value::String(value)) => Some(EngineParameter { name: name.clone(), value: value.clone() }),
        None | Some(Value::Null) => {
            faults.add(name, None, CLASS, "its value is missing");
            None
        }
        Some(other) => {
            faults.add(name, Some(&other.to_string()), CLASS, "the value is a JSON string, in quotes");
            None
        }
    }
}

/// Adds what is wrong with the values, except of fields that have a fault already: those were left out.
fn with_faults_of_values(mut faults: Faults, request: &JobRequest, rules: &SpecRules) -> Faults {
    if let Err(more) = JobSpec::parse(request, rules) {
        let known: Vec<String> = faults.0.iter().map(|fault| fault.field.clone()).collect();
        let missing = known.iter().any(|field| field == "engineParameters");
        let consequence =
            |field: &str, value: Option<&str>| known.iter().any(|name| name == field) || (missing && value.is_none());
        faults.0.extend(more.0.into_iter().filter(|fault| !consequence(&fault.field, fault.value.as_deref())));
    }
    faults
}

const KEY_HEADER: &str = "idempotency-key";
const FIELDS: [&str; 8] =
    ["clientToken", "containerName", "engine", "engineParameters", "engineVersion", "name", "region", "ttl"];
/// Fields of a job that clients may send along, for they send the type that they read.
const SHOWN_ONLY: [&str; 13] = [
    "id",
    "status",
    "creationDate",
    "startDate",
    "endDate",
    "returnCode",
    "notebook",
    "reason",
    "fault",
    "placement",
    "attempt",
    "queuePosition",
    "deadline",
];
/// More than there may be, so that the bound is told by the room that sets it.
const MOST_PARAMETERS: usize = 100;
/// So many unknown fields are told; a body may have a hundred thousand.
const MOST_UNKNOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &Value) -> Vec<String> {
        let (request, faults) = read_request(body.as_object().expect("an object"));
        let rules = SpecRules {
            regions: vec!["GRA".parse().expect("a region")],
            versions: vec!["3.5.9".parse().expect("a version")],
            ..SpecRules::default()
        };
        if faults.0.is_empty() {
            return JobSpec::parse(&request, &rules)
                .err()
                .into_iter()
                .flat_map(|more| more.0)
                .map(|fault| fault.field)
                .collect();
        }
        with_faults_of_values(faults, &request, &rules).0.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_value_of_another_type_is_a_fault_of_its_field_beside_all_others() {
        let found = faults(&json!({
            "containerName": 5, "engineVersion": "2.4.3", "colour": "red",
            "engineParameters": [
                {"name": "job_type", "value": "python"},
                {"name": "main_application_code", "value": 7},
                {"name": "driver_cores", "value": 4},
                {"name": "executor_cores", "value": "17"},
            ],
        }));
        assert_eq!(
            found,
            ["colour", "containerName", "main_application_code", "driver_cores", "engineVersion", "executor_cores"]
        );
    }

    #[test]
    fn parameters_that_are_no_list_are_one_fault() {
        assert_eq!(faults(&json!({ "containerName": "code", "engineParameters": {} })), ["engineParameters"]);
        assert_eq!(faults(&json!({ "containerName": "code", "engineParameters": [1] })), ["engineParameters"]);
    }

    #[test]
    fn a_submit_is_named_by_header_or_field_and_never_by_two_names() {
        let read = |headers: &[&str], field: Value| {
            let mut sent = HeaderMap::new();
            for value in headers {
                sent.append(KEY_HEADER, value.parse().expect("a value"));
            }
            let body = json!({ "clientToken": field });
            let found = idempotency_key(&sent, body.as_object().expect("an object"));
            found.map(|key| key.map(|key| key.to_string())).map_err(|fault| fault.status.as_u16())
        };
        assert_eq!(read(&[], Value::Null), Ok(None));
        for (headers, field) in [(&["\"k-1\""][..], Value::Null), (&["k-1"], json!("k-1")), (&[], json!("k-1"))] {
            assert_eq!(read(headers, field), Ok(Some("k-1".to_owned())), "{headers:?}");
        }
        for (headers, field) in [
            (&["\"\""][..], Value::Null),
            (&["\"a b\""], Value::Null),
            (&["a", "a"], Value::Null),
            (&["a"], json!("b")),
            (&[], json!(5)),
            (&[], json!("")),
        ] {
            assert_eq!(read(headers, field), Err(400), "{headers:?}");
        }
    }

    #[test]
    fn a_job_as_it_was_read_can_be_sent_again() {
        let body = json!({
            "id": "x", "status": "FAILED", "returnCode": 1, "notebook": null, "reason": null, "fault": null, "attempt": 1,
            "queuePosition": null, "deadline": null, "creationDate": "x", "startDate": null,
            "endDate": null, "containerName": "code", "engine": "spark", "engineVersion": "3.5.9", "region": "GRA", "name": "n", "ttl": null,
            "engineParameters": [{"name": "job_type", "value": "python"}, {"name": "main_application_code", "value": "a.py"}],
        });
        assert_eq!(faults(&body), Vec::<String>::new());
    }
}
