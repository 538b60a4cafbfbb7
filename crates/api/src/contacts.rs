//! Contacts of projects and changes of them, and the mailbox of the account.

use identity::{ContactChange, ContactKind, NewContacts, Resource, Urn, UrnKind};
use model::{AccountId, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
};

/// What the old service says of a service: its contacts. A project has no end and no renewal.
pub(crate) async fn service(call: Call) -> Result<Reply, ApiError> {
    let project = call.project()?;
    let contacts = call.api.identity.contacts(&project.id).await?.ok_or_else(ApiError::failed)?;
    Reply::json(&json!({
        "canDeleteAtExpiration": false,
        "contactAdmin": contacts.admin,
        "contactBilling": contacts.billing,
        "contactTech": contacts.tech,
        "creation": jiff::tz::TimeZone::UTC.to_datetime(project.created).date().to_string(),
        "domain": project.id,
        "engagedUpTo": null,
        "expiration": null,
        "possibleRenewPeriod": null,
        "renew": null,
        "renewalType": "manual",
        "serviceId": null,
        "status": "ok",
    }))
}

/// Asks for other contacts of a project; numbers of the changes.
pub(crate) async fn change(call: Call) -> Result<Reply, ApiError> {
    let projects = [call.project()?.id.clone()];
    ask(&call, &projects).await
}

/// Asks for other contacts of all projects of a resource group, which is how several services of one customer are one.
pub(crate) async fn change_of_group(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller()?;
    let group = call.param("groupId")?;
    let document = call.api.identity.iam_document(&caller.account, identity::IamKind::ResourceGroup, group).await?;
    let named = document.given.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut projects: Vec<ProjectId> = Vec::new();
    for entry in &named {
        let urn = Urn::parse(entry["urn"].as_str().unwrap_or_default()).ok();
        let urn = urn.filter(|urn| urn.kind() == UrnKind::Resource);
        let Some(Resource::Project(id)) = urn.as_ref().and_then(Resource::from_urn) else { continue };
        let resource = Resource::Project(id.clone());
        if !call.api.identity.authorize(caller, CHANGE, resource, call.now).await?.allowed {
            return Err(ApiError::forbidden(CHANGE).detail("resource", entry["urn"].as_str().unwrap_or_default()));
        }
        if !projects.contains(&id) {
            projects.push(id);
        }
    }
    ask(&call, &projects).await
}

async fn ask(call: &Call, projects: &[ProjectId]) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        contact_admin: Option<String>,
        contact_billing: Option<String>,
        contact_tech: Option<String>,
    }
    let body: Body = call.json()?;
    let account = |kind: ContactKind, given: Option<String>| -> Result<Option<AccountId>, ApiError> {
        let wrong = || ApiError::bad_field(kind.as_str(), "the id of an account of this service");
        given.map(|text| text.parse().map_err(|_| wrong())).transpose()
    };
    let new = NewContacts {
        admin: account(ContactKind::Admin, body.contact_admin)?,
        billing: account(ContactKind::Billing, body.contact_billing)?,
        tech: account(ContactKind::Tech, body.contact_tech)?,
    };
    let asking = &call.caller()?.account;
    Reply::json(&call.api.identity.change_contacts(projects, &new, asking, &call.actor()).await?)
}

/// Numbers of the changes that the account asked for or is a side of; by `askingAccount`, `toAccount` and `state`.
pub(crate) async fn changes(call: Call) -> Result<Reply, ApiError> {
    let all = call.api.identity.contact_changes(&call.caller()?.account).await?;
    let (asking, to, state) = (call.query("askingAccount"), call.query("toAccount"), call.query("state"));
    let ids: Vec<i64> = all
        .iter()
        .filter(|change| asking.is_none_or(|asking| change.asking.as_str() == asking))
        .filter(|change| to.is_none_or(|to| change.to.as_str() == to))
        .filter(|change| state.is_none_or(|state| change.state.as_str() == state))
        .map(|change| change.id)
        .collect();
    Reply::json(&ids)
}

/// One change.
pub(crate) async fn change_shown(call: Call) -> Result<Reply, ApiError> {
    let id = id(&call)?;
    let all = call.api.identity.contact_changes(&call.caller()?.account).await?;
    let found = all.iter().find(|change| change.id == id);
    Reply::json(&describe(found.ok_or_else(|| ApiError::not_found("id", &id.to_string()))?))
}

#[derive(Deserialize)]
struct TokenBody {
    token: String,
}

/// Agrees to a change.
pub(crate) async fn accept(call: Call) -> Result<Reply, ApiError> {
    let (id, TokenBody { token }) = (id(&call)?, call.json()?);
    call.api.identity.accept_contact_change(&call.caller()?.account, id, &token, &call.actor()).await?;
    Reply::void()
}

/// Refuses a change.
pub(crate) async fn refuse(call: Call) -> Result<Reply, ApiError> {
    let (id, TokenBody { token }) = (id(&call)?, call.json()?);
    call.api.identity.refuse_contact_change(&call.caller()?.account, id, &token, &call.actor()).await?;
    Reply::void()
}

/// Puts another token into the account's mailbox.
pub(crate) async fn resend(call: Call) -> Result<Reply, ApiError> {
    call.api.identity.resend_contact_change(&call.caller()?.account, id(&call)?, &call.actor()).await?;
    Reply::void()
}

/// Numbers of what the account was told.
pub(crate) async fn mails(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&call.api.identity.notifications(&call.caller()?.account).await?)
}

/// One of these.
pub(crate) async fn mail(call: Call) -> Result<Reply, ApiError> {
    let id = id(&call)?;
    let found = call.api.identity.notification(&call.caller()?.account, id).await?;
    let mail = found.ok_or_else(|| ApiError::not_found("id", &id.to_string()))?;
    Reply::json(&json!({ "id": mail.id, "subject": mail.subject, "date": mail.created, "body": *mail.body }))
}

fn id(call: &Call) -> Result<i64, ApiError> {
    let given = call.param("id")?;
    given.parse().map_err(|_| ApiError::not_found("id", given))
}

fn describe(change: &ContactChange) -> Value {
    json!({
        "id": change.id,
        "askingAccount": change.asking,
        "fromAccount": change.from,
        "toAccount": change.to,
        "contactTypes": change.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
        "serviceDomain": change.project,
        "state": change.state.as_str(),
        "dateRequest": change.requested,
        "dateDone": change.ended,
    })
}

const CHANGE: &str = "publicCloudProject:apiovh:changeContact";
