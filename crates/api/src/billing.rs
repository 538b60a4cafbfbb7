//! `/cloud/project/{serviceName}/usage` as the old service showed what a project used, and statements with every line of
//! them. Numbers of the former are JSON numbers, as the old schema has them; amounts of the latter are decimal text, exact.

use std::collections::BTreeMap;

use jobs::{Correction, Credit, Failure, Line, Month, Statement};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde_json::{Value, json};

use crate::{
    ApiError, pagination,
    request::{Call, Reply},
};

/// What the running month has used so far.
pub(crate) async fn current(call: Call) -> Result<Reply, ApiError> {
    let month = Month::of(call.now);
    Reply::json(&usage(&call, month, None).await?)
}

/// The months that there are statements of, newest first, within `from` and `to`.
pub(crate) async fn history(call: Call) -> Result<Reply, ApiError> {
    let (from, to) = (call.time("from")?, call.time("to")?);
    let months = call.api.jobs.billing().months(&call.project()?.id).await?;
    let wanted = months
        .into_iter()
        .rev()
        .filter(|month| from.is_none_or(|from| month.end() > from) && to.is_none_or(|to| month.start() < to));
    let shown: Vec<Value> = wanted
        .map(|month| {
            json!({ "id": month.to_string(), "lastUpdate": call.now.min(month.end()), "period": period(month) })
        })
        .collect();
    Reply::json(&shown)
}

/// What one month used.
pub(crate) async fn history_detail(call: Call) -> Result<Reply, ApiError> {
    let month = month(&call, "usageId").await?;
    Reply::json(&usage(&call, month, Some(month.to_string())).await?)
}

/// The months that there are statements of, newest first.
pub(crate) async fn statements(call: Call) -> Result<Reply, ApiError> {
    let months = call.api.jobs.billing().months(&call.project()?.id).await?;
    Reply::json(&months.iter().rev().map(ToString::to_string).collect::<Vec<_>>())
}

/// The statement of a month: its sums, its failures with what is credited for them, its corrections.
pub(crate) async fn statement(call: Call) -> Result<Reply, ApiError> {
    let month = month(&call, "month").await?;
    let statement = call.api.jobs.billing().statement(&call.project()?.id, month).await?;
    Reply::json(&json!({
        "month": statement.month.to_string(),
        "period": period(month),
        "currency": statement.currency,
        "lines": statement.lines.len(),
        "charged": statement.charged,
        "credited": statement.credited,
        "corrected": statement.corrected,
        "total": statement.total,
        "payable": statement.payable(),
        "failures": statement.failures.iter().map(describe_failure).collect::<Vec<_>>(),
        "corrections": statement.corrections.iter().map(describe_correction).collect::<Vec<_>>(),
    }))
}

/// The lines of a statement, by pagination headers; all of them without.
pub(crate) async fn lines(call: Call) -> Result<Reply, ApiError> {
    let month = month(&call, "month").await?;
    let statement = call.api.jobs.billing().statement(&call.project()?.id, month).await?;
    let lines: Vec<Value> = statement.lines.iter().map(describe_line).collect();
    match pagination::Wish::read(&call)? {
        None => Reply::json(&lines),
        Some(wish) => wish.reply(lines),
    }
}

async fn month(call: &Call, parameter: &str) -> Result<Month, ApiError> {
    let given = call.param(parameter)?;
    let month = given.parse().map_err(|_| ApiError::not_found(parameter, given))?;
    match call.api.jobs.billing().has(&call.project()?.id, month).await? {
        true => Ok(month),
        false => Err(ApiError::not_found(parameter, given)),
    }
}

fn period(month: Month) -> Value {
    json!({ "from": month.start(), "to": month.end() })
}

/// What was used, in the form of the old service: minutes of cores and of memory, by region.
async fn usage(call: &Call, month: Month, id: Option<String>) -> Result<Value, ApiError> {
    let statement = call.api.jobs.billing().statement(&call.project()?.id, month).await?;
    let mut shown = json!({
        "lastUpdate": call.now.min(month.end()),
        "period": period(month),
        "hourlyUsage": null,
        "monthlyUsage": null,
        "resourcesUsage": resources(&statement),
    });
    if let (Some(id), Some(fields)) = (id, shown.as_object_mut()) {
        fields.insert("id".to_owned(), id.into());
    }
    Ok(shown)
}

fn resources(statement: &Statement) -> Value {
    let mut regions: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for line in &statement.lines {
        regions.entry(&line.region).or_default().push(json!({
            "name": format!("job {}, attempt {}", line.job, line.attempt),
            "quantity": { "unit": "Minute", "value": line.minutes },
            "totalPrice": number(line.amount),
        }));
    }
    let resources: Vec<Value> =
        regions.into_iter().map(|(region, components)| json!({ "region": region, "components": components })).collect();
    json!([{ "type": "dataProcessing", "resources": resources, "totalPrice": number(statement.charged) }])
}

fn number(amount: Decimal) -> Option<f64> {
    amount.to_f64()
}

fn describe_line(line: &Line) -> Value {
    json!({
        "jobId": line.job,
        "name": line.name,
        "region": line.region,
        "attempt": line.attempt,
        "cores": line.cores,
        "memory": line.memory,
        "from": line.from,
        "minutes": line.minutes,
        "running": line.runs,
        "coreMinute": line.price.as_ref().map(|price| price.core_minute),
        "gibMinute": line.price.as_ref().map(|price| price.gib_minute),
        "priceSince": line.price.as_ref().map(|price| price.since),
        "amount": line.amount,
    })
}

fn describe_failure(failure: &Failure) -> Value {
    let part =
        |credit: &Credit| json!({ "attempt": credit.attempt, "minutes": credit.minutes, "amount": credit.amount });
    json!({
        "jobId": failure.job,
        "name": failure.name,
        "attempt": failure.attempt,
        "endDate": failure.ended,
        "fault": failure.blame,
        "evidence": failure.evidence,
        "credits": failure.credits.iter().map(part).collect::<Vec<_>>(),
        "credited": failure.credited,
    })
}

fn describe_correction(correction: &Correction) -> Value {
    json!({
        "id": correction.id,
        "jobId": correction.job,
        "amount": correction.amount,
        "reason": correction.why,
        "date": correction.created,
    })
}
