//! `/me/accessRestriction/u2f`: security keys and passkeys of the user who calls. They are for the user alone, as
//! [`crate::second_factors`] are.

use identity::{Attestation, FactorChange, SecurityKeyInfo};
use serde::Deserialize;
use serde_json::json;

use crate::{
    ApiError,
    request::{Call, Reply},
    second_factors::user,
};

/// Numbers of the keys, oldest first.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let keys = call.api.identity.security_keys(user(&call)?).await?;
    Reply::json(&keys.iter().map(|key| key.id).collect::<Vec<_>>())
}

/// Begins a key: what an authenticator is asked for to make it.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    let made = call.api.identity.create_security_key(user(&call)?, &call.actor()).await?;
    Reply::json(&json!({
        "id": made.id,
        "challenge": made.challenge,
        "rpId": made.party,
        "rpName": "Casemate",
        "userId": made.handle,
        "userName": made.user,
        "userDisplayName": made.user,
        "excludeCredentials": made.exclude_credentials(),
    }))
}

/// One key.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let key = find(&call).await?;
    Reply::json(&json!({
        "id": key.id,
        "description": key.description,
        "status": key.status,
        "creationDate": key.created,
        "lastUsedDate": key.last_use,
    }))
}

/// Sets the description of a key.
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        description: String,
    }
    let (key, body) = (find(&call).await?, call.json::<Body>()?);
    call.api.identity.describe_security_key(user(&call)?, key.id, &body.description, &call.actor()).await?;
    Reply::void()
}

/// Removes a key that is not enabled.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let key = find(&call).await?;
    call.api.identity.delete_security_key(user(&call)?, key.id, &call.actor()).await?;
    Reply::void()
}

/// Takes in what an authenticator made: the key is good from then on.
pub(crate) async fn validate(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        attestation_object: String,
        #[serde(rename = "clientDataJSON")]
        client_data: String,
        raw_id: String,
    }
    let (key, body) = (find(&call).await?, call.json::<Body>()?);
    let given = Attestation::new(&body.raw_id, &body.client_data, &body.attestation_object)
        .map_err(|fault| ApiError::from(identity::Error::Key(fault)))?;
    let identity = &call.api.identity;
    identity.validate_security_key(user(&call)?, key.id, &given, call.source_ip, &call.actor()).await?;
    Reply::void()
}

/// Makes a key good again.
pub(crate) async fn enable(call: Call) -> Result<Reply, ApiError> {
    change(call, FactorChange::Enable).await
}

/// Makes a key good no more.
pub(crate) async fn disable(call: Call) -> Result<Reply, ApiError> {
    change(call, FactorChange::Disable).await
}

async fn change(call: Call, change: FactorChange) -> Result<Reply, ApiError> {
    let key = find(&call).await?;
    call.api.identity.change_security_key(user(&call)?, key.id, change, &call.actor()).await?;
    Reply::void()
}

async fn find(call: &Call) -> Result<SecurityKeyInfo, ApiError> {
    let given = call.param("id")?;
    let keys = call.api.identity.security_keys(user(call)?).await?;
    let found = keys.into_iter().find(|key| key.id.to_string() == given);
    found.ok_or_else(|| ApiError::not_found("id", given))
}
