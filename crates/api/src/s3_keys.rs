//! `/cloud/project/{p}/user/{u}/s3Credentials`: the S3 access keys of a user. The old service has no route by which a key
//! can be disabled, enabled or rotated; those here follow its pattern.

use identity::{NewS3Key, S3KeyInfo, User};
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
    users,
};

/// The keys, oldest first.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let user = users::find(&call).await?;
    let keys = call.api.identity.s3_keys(&user.project, Some(user.id)).await?;
    Reply::json(&keys.iter().map(|key| describe(&user, key)).collect::<Vec<_>>())
}

/// Makes a key.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    let user = users::find(&call).await?;
    let key = call.api.identity.create_s3_key(&user.project, Some(user.id), &call.actor()).await?;
    Reply::json(&describe_new(&user, &key))
}

/// One key, without its secret.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let (user, key) = find(&call).await?;
    Reply::json(&describe(&user, &key))
}

/// Removes a key, and the temporary keys that it made.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let (user, key) = find(&call).await?;
    call.api.identity.delete_s3_key(&user.project, &key.access, &call.actor()).await?;
    Reply::void()
}

/// The secret of a key, disabled or not.
pub(crate) async fn secret(call: Call) -> Result<Reply, ApiError> {
    let (user, key) = find(&call).await?;
    let secret = call.api.identity.s3_secret(&user.project, &key.access).await?;
    Reply::json(&json!({ "secret": *secret }))
}

/// Has a key, and the temporary keys that it made, open nothing from now on, until it is enabled.
pub(crate) async fn disable(call: Call) -> Result<Reply, ApiError> {
    let (user, key) = find(&call).await?;
    call.api.identity.disable_s3_key(&user.project, &key.access, &call.actor()).await?;
    Reply::void()
}

/// Lets a disabled key be used again.
pub(crate) async fn enable(call: Call) -> Result<Reply, ApiError> {
    let (user, key) = find(&call).await?;
    call.api.identity.enable_s3_key(&user.project, &key.access, &call.actor()).await?;
    Reply::void()
}

/// Makes the key that is to take the place of this one, which stays good until it is disabled or deleted. Answers as
/// the making of a key.
pub(crate) async fn rotate(call: Call) -> Result<Reply, ApiError> {
    let (user, key) = find(&call).await?;
    let key = call.api.identity.rotate_s3_key(&user.project, &key.access, &call.actor()).await?;
    Reply::json(&describe_new(&user, &key))
}

async fn find(call: &Call) -> Result<(User, S3KeyInfo), ApiError> {
    let user = users::find(call).await?;
    let given = call.param("access")?;
    let keys = call.api.identity.s3_keys(&user.project, Some(user.id)).await?;
    let key = keys.into_iter().find(|key| key.access == given).ok_or_else(|| ApiError::not_found("access", given))?;
    Ok((user, key))
}

/// `cloud.user.S3Credentials`, and what the old service does not tell: whether it may be used, and since and until when
/// it was.
fn describe(user: &User, key: &S3KeyInfo) -> Value {
    json!({
        "access": key.access,
        "tenantId": user.project,
        "userId": user.id.to_string(),
        "enabled": key.enabled,
        "creationDate": key.created,
        "lastUse": key.last_used,
    })
}

fn describe_new(user: &User, key: &NewS3Key) -> Value {
    json!({
        "access": key.access,
        "tenantId": user.project,
        "userId": user.id.to_string(),
        "secret": *key.secret,
        "enabled": true,
    })
}
