//! `/cloud/project`: projects, their regions, and whether they may use data processing.

use identity::Project;
use model::Region;
use serde_json::{Value, json};

use crate::{
    ApiError, pagination,
    request::{Call, Reply},
};

/// The caller's projects: ids, or by pagination headers whole objects.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let projects = call.api.identity.projects(Some(&call.caller()?.account)).await?;
    match pagination::Wish::read(&call)? {
        None => Reply::json(&projects.iter().map(|project| &project.id).collect::<Vec<_>>()),
        Some(wish) => wish.reply(projects.iter().map(describe).collect()),
    }
}

/// One project.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe(call.project()?))
}

fn describe(project: &Project) -> Value {
    json!({
        "project_id": project.id,
        "projectName": project.name,
        "description": project.name,
        "status": "ok",
        "access": "full",
        "planCode": "project",
        "creationDate": project.created,
        "expiration": null,
        "orderId": null,
        "manualQuota": false,
        "unleash": true,
        "iam": {
            "id": project.id,
            "urn": format!("urn:v1:eu:resource:publicCloudProject:{}", project.id),
            "displayName": project.name,
            "tags": {},
        },
    })
}

/// Names of the regions.
pub(crate) async fn regions(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&call.api.config.regions)
}

/// One region.
pub(crate) async fn region(call: Call) -> Result<Reply, ApiError> {
    let region = find_region(&call)?;
    Reply::json(&json!({
        "name": region,
        "status": "UP",
        "type": "region",
        "continentCode": "EU",
        "datacenterLocation": region,
        "ipCountries": [],
        "services": [
            { "name": "storage", "status": "UP", "endpoint": call.api.config.objects_url },
            { "name": "dataProcessing", "status": "UP", "endpoint": call.base_url },
        ],
    }))
}

/// The region of the path.
pub(crate) fn find_region(call: &Call) -> Result<&Region, ApiError> {
    let given = call.param("regionName")?;
    let found = call.api.config.regions.iter().find(|region| region.as_str().eq_ignore_ascii_case(given));
    found.ok_or_else(|| ApiError::not_found("regionName", given))
}

/// Whether the project may use data processing.
pub(crate) async fn authorization(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&json!({ "authorized": call.project()?.authorized }))
}

/// Switches data processing on.
pub(crate) async fn authorize(call: Call) -> Result<Reply, ApiError> {
    call.api.identity.authorize_project(&call.project()?.id, &call.actor()).await?;
    Reply::void()
}
