//! `/cloud/project/{p}/role` and `/cloud/project/{p}/user/{u}/role`: the roles that there are, and those of a user.

use std::collections::BTreeMap;

use identity::{USER_ROLES, User, UserRole};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
    users,
};

/// All roles, and by service what each includes.
pub(crate) async fn catalogue(_: Call) -> Result<Reply, ApiError> {
    let mut services: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for role in &USER_ROLES {
        for (service, right) in role.permissions.iter().filter_map(|permission| permission.split_once(':')) {
            services.entry(service).or_default().entry(right).or_default().push(role.name);
        }
    }
    let services: Vec<Value> = services
        .into_iter()
        .map(|(name, rights)| {
            let permissions: Vec<Value> =
                rights.into_iter().map(|(label, roles)| json!({ "label": label, "roles": roles })).collect();
            json!({ "name": name, "permissions": permissions })
        })
        .collect();
    Reply::json(&json!({ "roles": USER_ROLES.iter().map(describe).collect::<Vec<_>>(), "services": services }))
}

/// The roles of a user.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&of(&users::find(&call).await?))
}

/// One role of a user.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let user = users::find(&call).await?;
    Reply::json(&describe(held(&call, &user)?))
}

/// Gives a user a role more.
pub(crate) async fn add(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "roleId")]
        role: String,
    }
    let user = users::find(&call).await?;
    let body: Body = call.json()?;
    let role = known("roleId", &body.role)?;
    let user = call.api.identity.add_user_role(&user.project, user.id, role.name, &call.actor()).await?;
    Reply::json(&users::describe_with_password(&user, ""))
}

/// Gives a user these roles and no others.
pub(crate) async fn replace(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "rolesIds")]
        roles: Vec<String>,
    }
    let user = users::find(&call).await?;
    let body: Body = call.json()?;
    if body.roles.len() > USER_ROLES.len() {
        return Err(ApiError::bad_field("rolesIds", format!("at most {} of them", USER_ROLES.len())));
    }
    let roles = body.roles.iter().map(|id| known("rolesIds", id).map(|role| role.name.to_owned()));
    let roles = roles.collect::<Result<Vec<String>, ApiError>>()?;
    let user = call.api.identity.set_user_roles(&user.project, user.id, &roles, &call.actor()).await?;
    Reply::json(&users::describe_with_password(&user, ""))
}

/// Takes a role from a user. Without a role of the object store, none of its keys opens anything.
pub(crate) async fn remove(call: Call) -> Result<Reply, ApiError> {
    let user = users::find(&call).await?;
    let role = held(&call, &user)?;
    call.api.identity.remove_user_role(&user.project, user.id, role.name, &call.actor()).await?;
    Reply::void()
}

/// The roles that a user has, as they are shown.
pub(crate) fn of(user: &User) -> Vec<Value> {
    user.roles.iter().filter_map(|name| UserRole::find(name)).map(describe).collect()
}

/// The role of the path, if the user has it.
fn held(call: &Call, user: &User) -> Result<&'static UserRole, ApiError> {
    let given = call.param("roleId")?;
    let role = UserRole::find(given).filter(|role| user.roles.iter().any(|name| name == role.name));
    role.ok_or_else(|| ApiError::not_found("roleId", given))
}

fn known(field: &str, id: &str) -> Result<&'static UserRole, ApiError> {
    UserRole::find(id).ok_or_else(|| ApiError::bad_field(field, "ids of roles, as `GET .../role` lists them"))
}

fn describe(role: &UserRole) -> Value {
    json!({ "id": role.id, "name": role.name, "description": role.description, "permissions": role.permissions })
}
