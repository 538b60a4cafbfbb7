//! `/cloud/project`: projects, their regions, and whether they may use data processing.

use std::collections::{BTreeMap, HashMap};

use identity::{ContactKind, IamResource, Project, Resource, Urn};
use model::{AccountId, Region};
use serde_json::{Value, json};

use crate::{
    ApiError, pagination,
    request::{Call, Reply},
};

/// The projects of which the account is a contact that the caller may see: ids, or by pagination headers whole objects.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller()?;
    let mut projects = Vec::new();
    for project in call.api.identity.projects_of_contact(&caller.account, &ContactKind::ALL).await? {
        let resource = Resource::Project(project.id.clone());
        if call.api.identity.authorize(caller, "publicCloudProject:apiovh:get", resource, call.now).await?.allowed {
            projects.push(project);
        }
    }
    match pagination::Wish::read(&call)? {
        None => Reply::json(&projects.iter().map(|project| &project.id).collect::<Vec<_>>()),
        Some(wish) => wish.reply(describe_all(&call, &projects).await?),
    }
}

/// One project.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe_all(&call, std::slice::from_ref(call.project()?)).await?[0])
}

/// Projects, with what the policies of their administrative contacts know of them.
async fn describe_all(call: &Call, projects: &[Project]) -> Result<Vec<Value>, ApiError> {
    let mut by_owner: BTreeMap<AccountId, Vec<Urn>> = BTreeMap::new();
    for project in projects {
        if let Some(contacts) = call.api.identity.contacts(&project.id).await? {
            by_owner.entry(contacts.admin).or_default().push(Urn::project(&project.id));
        }
    }
    let mut known: HashMap<Urn, IamResource> = HashMap::new();
    for (owner, urns) in &by_owner {
        let urns: Vec<&str> = urns.iter().map(Urn::as_str).collect();
        let named = call.api.identity.iam_resources_named(owner, &urns).await?;
        known.extend(named.into_iter().map(|one| (one.urn.clone(), one)));
    }
    Ok(projects.iter().map(|project| describe(project, known.get(&Urn::project(&project.id)))).collect())
}

fn describe(project: &Project, iam: Option<&IamResource>) -> Value {
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
        "iam": iam.map(|iam| json!({
            "id": iam.id,
            "urn": iam.urn.as_str(),
            "displayName": iam.name,
            "tags": iam.tags,
        })),
    })
}

/// Names of the regions in which a project can have something: it has one.
pub(crate) async fn regions(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&[call.region()?])
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

/// The region of the path, which is that of the project.
pub(crate) fn find_region(call: &Call) -> Result<&Region, ApiError> {
    let given = call.param("regionName")?;
    call.region_named("regionName", given)?.ok_or_else(|| ApiError::not_found("regionName", given))
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
