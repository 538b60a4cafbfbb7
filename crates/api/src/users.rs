//! `/cloud/project/{p}/user`: users of a project and their S3 keys.

use identity::User;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
};

/// The users.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let users = call.api.identity.users(&call.project()?.id).await?;
    Reply::json(&users.iter().map(describe).collect::<Vec<_>>())
}

/// Makes a user.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize, Default)]
    struct Body {
        description: Option<String>,
    }
    let body = if call.body.is_empty() { Body::default() } else { call.json::<Option<Body>>()?.unwrap_or_default() };
    let description = body.description.unwrap_or_default();
    if description.chars().count() > 255 || description.chars().any(char::is_control) {
        return Err(ApiError::bad_field("description", "at most 255 characters, none of them a control character"));
    }
    let user = call.api.identity.create_user(&call.project()?.id, &description, &call.actor()).await?;
    Reply::json(&describe(&user))
}

/// One user.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe(&find(&call).await?))
}

/// Removes a user and its keys.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let user = find(&call).await?;
    call.api.identity.delete_user(&user.project, user.id, &call.actor()).await?;
    Reply::void()
}

/// The S3 keys of a user.
pub(crate) async fn keys(call: Call) -> Result<Reply, ApiError> {
    let user = find(&call).await?;
    let keys = call.api.identity.s3_keys(&user.project, Some(user.id)).await?;
    Reply::json(&keys.iter().map(|key| describe_key(&user, &key.access)).collect::<Vec<_>>())
}

/// Makes an S3 key of a user.
pub(crate) async fn create_key(call: Call) -> Result<Reply, ApiError> {
    let user = find(&call).await?;
    let key = call.api.identity.create_s3_key(&user.project, Some(user.id), &call.actor()).await?;
    let mut shown = describe_key(&user, &key.access);
    shown["secret"] = Value::String(key.secret.to_string());
    Reply::json(&shown)
}

/// One S3 key, without its secret.
pub(crate) async fn key(call: Call) -> Result<Reply, ApiError> {
    let (user, access) = find_key(&call).await?;
    Reply::json(&describe_key(&user, &access))
}

/// Removes an S3 key.
pub(crate) async fn delete_key(call: Call) -> Result<Reply, ApiError> {
    let (user, access) = find_key(&call).await?;
    call.api.identity.delete_s3_key(&user.project, &access, &call.actor()).await?;
    Reply::void()
}

/// The secret of an S3 key.
pub(crate) async fn key_secret(call: Call) -> Result<Reply, ApiError> {
    let (_, access) = find_key(&call).await?;
    let grant = call.api.identity.find_s3_key(&access).await?;
    let grant = grant.ok_or_else(|| ApiError::not_found("access", &access))?;
    Reply::json(&json!({ "secret": *grant.secret }))
}

async fn find(call: &Call) -> Result<User, ApiError> {
    let given = call.param("userId")?;
    let absent = || ApiError::not_found("userId", given);
    let id: i64 = given.parse().map_err(|_| absent())?;
    call.api.identity.user(&call.project()?.id, id).await?.ok_or_else(absent)
}

async fn find_key(call: &Call) -> Result<(User, String), ApiError> {
    let user = find(call).await?;
    let given = call.param("access")?;
    let keys = call.api.identity.s3_keys(&user.project, Some(user.id)).await?;
    let key = keys.into_iter().find(|key| key.access == given).ok_or_else(|| ApiError::not_found("access", given))?;
    Ok((user, key.access))
}

fn describe(user: &User) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "description": user.description,
        "creationDate": user.created,
        "openstackId": null,
        "roles": [],
        "status": "ok",
    })
}

fn describe_key(user: &User, access: &str) -> Value {
    json!({ "access": access, "tenantId": user.project, "userId": user.id.to_string() })
}
