//! `/auth`: the time, and the life of a consumer key.

use identity::{AccessRule, Caller, Credential, CredentialRequest, Proof, Who};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
};

/// The time in Unix seconds, as a bare number: clients set their clocks by it.
pub(crate) async fn time(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&call.now.as_second())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialBody {
    #[serde(default)]
    access_rules: Vec<RuleBody>,
    redirection: Option<String>,
    #[serde(default, rename = "allowedIPs")]
    allowed_ips: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RuleBody {
    method: String,
    path: String,
}

/// Asks for a consumer key, which a person has to validate.
pub(crate) async fn request_credential(call: Call) -> Result<Reply, ApiError> {
    let key = call.header("x-ovh-application");
    let identity = &call.api.identity;
    let application = match key {
        Some(key) => identity.application_by_key(key).await?,
        None => None,
    };
    let application = application.ok_or(identity::Refusal::InvalidKey)?;
    let body: CredentialBody = call.json()?;
    let request = read_request(body)?;
    let pending = identity.request_credential(&application, &request, &call.actor()).await?;
    Reply::json(&json!({
        "consumerKey": *pending.consumer_key,
        "state": "pendingValidation",
        "validationUrl": format!("{}/1.0/auth/validate/{}", call.base_url, *pending.token),
    }))
}

fn read_request(body: CredentialBody) -> Result<CredentialRequest, ApiError> {
    if body.access_rules.is_empty() || body.access_rules.len() > MOST_RULES {
        return Err(ApiError::bad_field("accessRules", "a list of 1 to 200 rules, each with method and path"));
    }
    let rules = body
        .access_rules
        .iter()
        .map(|rule| AccessRule::parse(&rule.method, &rule.path))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|fault| ApiError::bad_field("accessRules", fault.to_string()))?;
    let allowed_ips = parse_blocks(&body.allowed_ips.unwrap_or_default())?;
    let redirection = body.redirection.filter(|text| !text.is_empty());
    if let Some(text) = &redirection {
        let good = text.len() <= 2048 && (text.starts_with("https://") || text.starts_with("http://"));
        if !good || url::Url::parse(text).is_err() {
            return Err(ApiError::bad_field("redirection", "a URL of http or https, at most 2048 characters"));
        }
    }
    Ok(CredentialRequest { rules, allowed_ips, redirection })
}

/// The addresses that a credential may be used from.
pub(crate) fn parse_blocks(given: &[String]) -> Result<Vec<IpNet>, ApiError> {
    if given.len() > MOST_RULES {
        return Err(ApiError::bad_field("allowedIPs", "at most 200 address blocks"));
    }
    given.iter().map(|text| parse_block("allowedIPs", text)).collect()
}

/// An address or a block of them, as a client writes it in a field.
pub(crate) fn parse_block(field: &str, text: &str) -> Result<IpNet, ApiError> {
    model::parse_block(text).ok_or_else(|| {
        let cut: String = text.chars().take(80).collect();
        ApiError::bad_field(field, format!("'{cut}' is not an address or a block such as 192.0.2.0/24"))
    })
}

/// The credential that the call was signed with.
pub(crate) async fn current_credential(call: Call) -> Result<Reply, ApiError> {
    let Proof::ConsumerKey { credential: id, .. } = call.caller()?.proof else {
        return Err(ApiError::not_found("credentialId", "of this call"));
    };
    let credential = call.api.identity.credential(id).await?;
    let credential = credential.ok_or_else(|| ApiError::not_found("credentialId", &id.to_string()))?;
    Reply::json(&describe(&credential, call.now))
}

/// A credential as the API shows it.
pub(crate) fn describe(credential: &Credential, now: Timestamp) -> Value {
    let blocks = credential.allowed_ips.as_ref();
    json!({
        "credentialId": credential.id,
        "applicationId": credential.application,
        "status": credential.status_at(now).as_str(),
        "rules": credential.rules,
        "allowedIPs": blocks.map(|blocks| blocks.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "creation": credential.created,
        "expiration": credential.expiration,
        "lastUse": credential.last_use,
        "ovhSupport": false,
    })
}

/// Who the caller is.
pub(crate) async fn details(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller()?;
    let Caller { account, who, rules, .. } = caller;
    let (method, user, roles) = match who {
        Who::Account => ("account", None, Vec::new()),
        Who::User { login, role, .. } => ("user", Some(login), vec![role.as_str()]),
        Who::Client { .. } => ("oauth2_client_credentials", None, Vec::new()),
        Who::Federated { name, role, .. } => ("provider", Some(name), vec![role.as_str()]),
    };
    Reply::json(&json!({
        "account": account,
        "allowedRoutes": rules,
        "description": null,
        "identities": caller.identities(),
        "method": method,
        "roles": roles,
        "user": user,
    }))
}

/// Ends the credential that the call was signed with.
pub(crate) async fn logout(call: Call) -> Result<Reply, ApiError> {
    match &call.caller()?.proof {
        Proof::ConsumerKey { credential, .. } => {
            call.api.identity.expire_credential(*credential, &call.actor()).await?;
        }
        Proof::Token { hash } => {
            call.api.identity.revoke_token(hash, &call.actor()).await?;
        }
        Proof::Session { id } => {
            call.api.identity.end_session(*id, &call.actor()).await?;
        }
    }
    Reply::void()
}

/// Grants a pending credential by one that is valid already, and may itself do all that is asked for.
pub(crate) async fn validate(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize, Default)]
    struct Body {
        expiration: Option<Timestamp>,
    }
    let body = if call.body.is_empty() { Body::default() } else { call.json::<Option<Body>>()?.unwrap_or_default() };
    let caller = call.caller()?;
    let id = call.api.identity.validate_by(call.param("token")?, caller, body.expiration, &call.actor()).await?;
    let credential = call.api.identity.credential(id).await?;
    let credential = credential.ok_or_else(|| ApiError::not_found("credentialId", &id.to_string()))?;
    Reply::json(&describe(&credential, call.now))
}

/// What the application of a pending credential asks for.
pub(crate) async fn asked_for(call: Call) -> Result<Reply, ApiError> {
    let pending = call.api.identity.pending(call.param("token")?).await?.ok_or_else(no_pending)?;
    let applications = call.api.identity.applications(None).await?;
    let application = applications.into_iter().find(|one| one.id == pending.application);
    let mut shown = describe(&pending, call.now);
    shown["applicationName"] = application.map(|one| one.name).into();
    shown["redirection"] = pending.redirection.into();
    Reply::json(&shown)
}

/// Grants a pending credential for the user whose session it is: as by the page of validation, where a password stands
/// for the session.
pub(crate) async fn grant(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize, Default)]
    struct Body {
        expiration: Option<Timestamp>,
    }
    let body = if call.body.is_empty() { Body::default() } else { call.json::<Option<Body>>()?.unwrap_or_default() };
    let person = person_of_session(&call).await?;
    let id = call.api.identity.validate_as(call.param("token")?, &person, body.expiration, &call.actor()).await?;
    let credential = call.api.identity.credential(id).await?;
    let credential = credential.ok_or_else(|| ApiError::not_found("credentialId", &id.to_string()))?;
    Reply::json(&describe(&credential, call.now))
}

/// Refuses a pending credential.
pub(crate) async fn refuse(call: Call) -> Result<Reply, ApiError> {
    let person = person_of_session(&call).await?;
    call.api.identity.refuse_as(call.param("token")?, &person, &call.actor()).await?;
    Reply::void()
}

/// The user of the account who is logged in. A key that a provider's word granted would be good after the provider took it
/// back; a credential grants by its own route, no more than it has itself.
async fn person_of_session(call: &Call) -> Result<identity::Person, ApiError> {
    let caller = call.caller()?;
    match (&caller.proof, &caller.who) {
        (Proof::Session { .. }, Who::User { login, .. }) => {
            let person = call.api.identity.person(&caller.account, login).await?;
            person.ok_or_else(|| ApiError::not_found("user", login))
        }
        (Proof::Session { .. }, _) => Err(ApiError::refused(
            "A consumer key is granted by a user of the account, who can be disabled here; you are logged in by your \
             organisation's provider",
        )),
        _ => Err(ApiError::refused(
            "This is for sessions of the console; a credential grants another by POST /auth/validate/{token}",
        )),
    }
}

/// One answer for a token that never was, was used, or is too old.
fn no_pending() -> ApiError {
    ApiError::not_found("pending credential", "of this token")
}

const MOST_RULES: usize = 200;
