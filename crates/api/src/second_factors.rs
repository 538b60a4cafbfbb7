//! `/me/accessRestriction/totp` and `/backupCode`: the second factors of the user who calls. They are for the user alone:
//! nobody else may see or change them, and no policy is asked.

use identity::{BackupCodes, FactorChange, TotpInfo, Who};
use serde::Deserialize;
use serde_json::json;

use crate::{
    ApiError,
    request::{Call, Reply},
};

#[derive(Deserialize)]
struct Code {
    code: String,
}

/// Numbers of the generators of one-time codes, oldest first.
pub(crate) async fn totps(call: Call) -> Result<Reply, ApiError> {
    let totps = call.api.identity.totps(user(&call)?).await?;
    Reply::json(&totps.iter().map(|totp| totp.id).collect::<Vec<_>>())
}

/// Makes a generator. Its secret is in this answer and in no other.
pub(crate) async fn create_totp(call: Call) -> Result<Reply, ApiError> {
    let made = call.api.identity.create_totp(user(&call)?, &call.actor()).await?;
    Reply::json(&json!({ "id": made.id, "secret": *made.secret, "qrcodeHelper": *made.uri }))
}

/// One generator.
pub(crate) async fn totp(call: Call) -> Result<Reply, ApiError> {
    let totp = find(&call).await?;
    Reply::json(&json!({
        "id": totp.id,
        "description": totp.description,
        "status": totp.status,
        "creationDate": totp.created,
        "lastUsedDate": totp.last_use,
    }))
}

/// Sets the description of a generator.
pub(crate) async fn edit_totp(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        description: String,
    }
    let (totp, body) = (find(&call).await?, call.json::<Body>()?);
    call.api.identity.describe_totp(user(&call)?, totp.id, &body.description, &call.actor()).await?;
    Reply::void()
}

/// Removes a generator that is not enabled.
pub(crate) async fn delete_totp(call: Call) -> Result<Reply, ApiError> {
    let totp = find(&call).await?;
    call.api.identity.delete_totp(user(&call)?, totp.id, &call.actor()).await?;
    Reply::void()
}

/// Makes a generator good for the first time.
pub(crate) async fn validate_totp(call: Call) -> Result<Reply, ApiError> {
    change_totp(call, FactorChange::Validate).await
}

/// Makes a generator good again.
pub(crate) async fn enable_totp(call: Call) -> Result<Reply, ApiError> {
    change_totp(call, FactorChange::Enable).await
}

/// Makes a generator good no more.
pub(crate) async fn disable_totp(call: Call) -> Result<Reply, ApiError> {
    change_totp(call, FactorChange::Disable).await
}

async fn change_totp(call: Call, change: FactorChange) -> Result<Reply, ApiError> {
    let (totp, Code { code }) = (find(&call).await?, call.json()?);
    let identity = &call.api.identity;
    identity.change_totp(user(&call)?, totp.id, change, &code, call.source_ip, &call.actor()).await?;
    Reply::void()
}

/// The backup codes: how many are left, not which.
pub(crate) async fn backup_codes(call: Call) -> Result<Reply, ApiError> {
    let BackupCodes { status, remaining, created, last_use } = call
        .api
        .identity
        .backup_codes(user(&call)?)
        .await?
        .ok_or_else(|| ApiError::not_found("backup codes", "of this user"))?;
    Reply::json(&json!({
        "status": status,
        "remaining": remaining,
        "creationDate": created,
        "lastUsedDate": last_use,
    }))
}

/// Makes new backup codes. They are in this answer and in no other.
pub(crate) async fn create_backup_codes(call: Call) -> Result<Reply, ApiError> {
    let codes = call.api.identity.create_backup_codes(user(&call)?, &call.actor()).await?;
    Reply::json(&json!({ "codes": codes.iter().map(|code| code.as_str()).collect::<Vec<_>>() }))
}

/// Removes backup codes that are not enabled.
pub(crate) async fn delete_backup_codes(call: Call) -> Result<Reply, ApiError> {
    call.api.identity.delete_backup_codes(user(&call)?, &call.actor()).await?;
    Reply::void()
}

/// Makes the backup codes good for the first time.
pub(crate) async fn validate_backup_codes(call: Call) -> Result<Reply, ApiError> {
    let remaining = change_backup_codes(&call, FactorChange::Validate).await?;
    Reply::json(&json!({ "remainingCodes": remaining }))
}

/// Makes the backup codes good again.
pub(crate) async fn enable_backup_codes(call: Call) -> Result<Reply, ApiError> {
    change_backup_codes(&call, FactorChange::Enable).await?;
    Reply::void()
}

/// Makes the backup codes good no more.
pub(crate) async fn disable_backup_codes(call: Call) -> Result<Reply, ApiError> {
    change_backup_codes(&call, FactorChange::Disable).await?;
    Reply::void()
}

async fn change_backup_codes(call: &Call, change: FactorChange) -> Result<i64, ApiError> {
    let Code { code } = call.json()?;
    let identity = &call.api.identity;
    Ok(identity.change_backup_codes(user(call)?, change, &code, call.source_ip, &call.actor()).await?)
}

/// The user who calls. The account itself has no password, and so nothing to put beside it.
pub(crate) fn user(call: &Call) -> Result<i64, ApiError> {
    match &call.caller()?.who {
        Who::User { id, .. } => Ok(*id),
        _ => Err(ApiError::refused("Only a user of the account has second factors; call as one")),
    }
}

async fn find(call: &Call) -> Result<TotpInfo, ApiError> {
    let given = call.param("id")?;
    let totps = call.api.identity.totps(user(call)?).await?;
    let found = totps.into_iter().find(|totp| totp.id.to_string() == given);
    found.ok_or_else(|| ApiError::not_found("id", given))
}
