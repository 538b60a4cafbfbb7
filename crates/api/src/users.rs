//! `/cloud/project/{p}/user`: users of a project, their passwords and policies.

use identity::{USER_ROLES, User, UserRole};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    platform_users::PURPOSES,
    request::{Call, Reply},
    roles,
};

/// The users, oldest first.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let users = call.api.identity.users(&call.project()?.id).await?;
    Reply::json(&users.iter().map(describe).collect::<Vec<_>>())
}

/// Makes a user with `role` and `roles`; with that of the object store if none is named. Its password is in this answer
/// and in no other.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize, Default)]
    struct Body {
        description: Option<String>,
        role: Option<String>,
        roles: Option<Vec<String>>,
    }
    let body = if call.body.is_empty() { Body::default() } else { call.json::<Option<Body>>()?.unwrap_or_default() };
    let description = description(body.description)?;
    let mut wanted = body.roles.unwrap_or_default();
    if wanted.len() > USER_ROLES.len() {
        return Err(ApiError::bad_field("roles", format!("at most {} of them", USER_ROLES.len())));
    }
    for role in &wanted {
        check_role("roles", role)?;
    }
    if let Some(role) = body.role {
        check_role("role", &role)?;
        wanted.push(role);
    }
    let identity = &call.api.identity;
    let made = identity.create_user_with_password(&call.project()?.id, &description, &wanted, &call.actor()).await?;
    Reply::json(&describe_with_password(&made.user, &made.password))
}

/// One user.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe(&find(&call).await?))
}

/// Removes a user, with its keys and tokens.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let user = find(&call).await?;
    call.api.identity.delete_user(&user.project, user.id, &call.actor()).await?;
    Reply::void()
}

/// Gives a user a new password, which is in this answer and in no other; the old one and all tokens end.
pub(crate) async fn regenerate_password(call: Call) -> Result<Reply, ApiError> {
    let user = find(&call).await?;
    let password = call.api.identity.regenerate_password(&user.project, user.id, &call.actor()).await?;
    Reply::json(&describe_with_password(&user, &password))
}

/// The policy of a user as it was set; empty if it has none.
pub(crate) async fn policy(call: Call) -> Result<Reply, ApiError> {
    let user = find(&call).await?;
    let policy = call.api.identity.user_policy(&user.project, user.id).await?;
    Reply::json(&json!({ "policy": policy.unwrap_or_default() }))
}

/// Sets the policy of a user, in the AWS language, at most 20 KiB: from then on the user may do what that or the policy
/// of a bucket allows, and no more; with `"Statement": []` nothing. An empty text takes the policy away: the user may
/// again do all that its roles include.
pub(crate) async fn set_policy(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        policy: String,
    }
    let user = find(&call).await?;
    let body: Body = call.json()?;
    let identity = &call.api.identity;
    if body.policy.is_empty() {
        identity.delete_user_policy(&user.project, user.id, &call.actor()).await?;
    } else {
        identity.set_user_policy(&user.project, user.id, &body.policy, &call.actor()).await?;
    }
    Reply::void()
}

/// The user of the path.
pub(crate) async fn find(call: &Call) -> Result<User, ApiError> {
    let given = call.param("userId")?;
    let absent = || ApiError::not_found("userId", given);
    let id: i64 = given.parse().map_err(|_| absent())?;
    call.api.identity.user(&call.project()?.id, id).await?.ok_or_else(absent)
}

/// A description that a caller may give to a user.
pub(crate) fn description(given: Option<String>) -> Result<String, ApiError> {
    let text = given.unwrap_or_default();
    if text.chars().count() > LONGEST_DESCRIPTION || text.chars().any(char::is_control) {
        return Err(ApiError::bad_field("description", "at most 255 characters, none of them a control character"));
    }
    if PURPOSES.contains(&text.as_str()) {
        return Err(ApiError::bad_field("description", "any but that of a user of the service itself"));
    }
    Ok(text)
}

fn check_role(field: &str, given: &str) -> Result<(), ApiError> {
    match UserRole::find(given) {
        Some(_) => Ok(()),
        None => {
            let names: Vec<&str> = USER_ROLES.iter().map(|role| role.name).collect();
            Err(ApiError::bad_field(field, format!("one of {}", names.join(", "))))
        }
    }
}

/// `cloud.user.User`; its `openstackId` is how Keystone calls it here.
pub(crate) fn describe(user: &User) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "description": user.description,
        "creationDate": user.created,
        "openstackId": user.username,
        "roles": roles::of(user),
        "status": "ok",
    })
}

/// `cloud.user.UserDetail`; an empty password is one that nobody knows any more.
pub(crate) fn describe_with_password(user: &User, password: &str) -> Value {
    let mut shown = describe(user);
    shown["password"] = password.into();
    shown
}

const LONGEST_DESCRIPTION: usize = 255;
