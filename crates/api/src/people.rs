//! `/me/identity/user` and `/me/identity/group`: users of the account and their groups.

use identity::{Group, GroupChange, GroupRole, NewPerson, Person, PersonChange, PersonStatus, group_urn, user_urn};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    ApiError,
    request::{Call, Reply},
};

/// Logins of the users, in order.
pub(crate) async fn users(call: Call) -> Result<Reply, ApiError> {
    let people = call.api.identity.people(Some(&call.caller()?.account)).await?;
    Reply::json(&people.iter().map(|person| &person.login).collect::<Vec<_>>())
}

/// Makes a user, whose password has to be changed at the first log-in.
pub(crate) async fn create_user(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        login: String,
        password: String,
        email: Option<String>,
        description: Option<String>,
        group: Option<String>,
    }
    let body: Body = call.json()?;
    let group = body.group.unwrap_or_else(|| "DEFAULT".to_owned());
    may_make_member(&call, &group).await?;
    let new = NewPerson {
        login: body.login,
        email: body.email.unwrap_or_default(),
        description: body.description.unwrap_or_default(),
        group,
        password: Some(Zeroizing::new(body.password)),
    };
    call.api.identity.create_person(&call.caller()?.account, new, &call.actor()).await?;
    Reply::void()
}

/// One user.
pub(crate) async fn user(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe_user(&find_user(&call).await?))
}

/// Changes a user: e-mail address, description, group. What the schema has as read-only is ignored.
pub(crate) async fn edit_user(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        email: Option<String>,
        description: Option<String>,
        group: Option<String>,
    }
    let person = changed_user(&call).await?;
    let Body { email, description, group } = call.json()?;
    if let Some(group) = group.as_ref().filter(|group| **group != person.group) {
        may_make_member(&call, group).await?;
    }
    let change = PersonChange { email, description, group };
    call.api.identity.change_person(&person.account, &person.login, change, &call.actor()).await?;
    Reply::void()
}

/// Removes a user, and ends the credentials that it granted.
pub(crate) async fn delete_user(call: Call) -> Result<Reply, ApiError> {
    let person = changed_user(&call).await?;
    call.api.identity.delete_person(&person.account, &person.login, &call.actor()).await?;
    Reply::void()
}

/// Lets a user log in again.
pub(crate) async fn enable_user(call: Call) -> Result<Reply, ApiError> {
    let person = changed_user(&call).await?;
    call.api.identity.enable_person(&person.account, &person.login, &call.actor()).await?;
    Reply::void()
}

/// Lets a user log in no more.
pub(crate) async fn disable_user(call: Call) -> Result<Reply, ApiError> {
    let person = changed_user(&call).await?;
    call.api.identity.disable_person(&person.account, &person.login, &call.actor()).await?;
    Reply::void()
}

/// Names of the groups, in order.
pub(crate) async fn groups(call: Call) -> Result<Reply, ApiError> {
    let groups = call.api.identity.groups(&call.caller()?.account).await?;
    Reply::json(&groups.iter().map(|group| &group.name).collect::<Vec<_>>())
}

/// Makes a group.
pub(crate) async fn create_group(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        name: String,
        description: Option<String>,
        role: Option<String>,
    }
    let body: Body = call.json()?;
    let role = body.role.as_deref().map_or(Ok(GroupRole::Regular), role_of)?;
    may_give(&call, role)?;
    let account = &call.caller()?.account;
    let description = body.description.as_deref();
    let made = call.api.identity.create_group(account, &body.name, description, role, &call.actor()).await?;
    Reply::json(&describe_group(&made))
}

/// One group.
pub(crate) async fn group(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe_group(&find_group(&call).await?))
}

/// Changes a group: description, role. What the schema has as read-only is ignored.
pub(crate) async fn edit_group(call: Call) -> Result<Reply, ApiError> {
    let group = changed_group(&call).await?;
    let body: Map<String, Value> = call.json()?;
    let description = match body.get("description") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone())),
        Some(_) => return Err(ApiError::bad_field("description", "a text or null")),
    };
    let role = match body.get("role") {
        None => None,
        Some(word) => Some(role_of(word.as_str().unwrap_or_default())?),
    };
    if let Some(role) = role.filter(|role| role.as_str() != group.role) {
        may_give(&call, role)?;
    }
    let change = GroupChange { description, role };
    call.api.identity.change_group(&group.account, &group.name, change, &call.actor()).await?;
    Reply::void()
}

/// Removes a group that has no users.
pub(crate) async fn delete_group(call: Call) -> Result<Reply, ApiError> {
    let group = changed_group(&call).await?;
    call.api.identity.delete_group(&group.account, &group.name, &call.actor()).await?;
    Reply::void()
}

async fn find_user(call: &Call) -> Result<Person, ApiError> {
    let login = call.param("user")?;
    let found = call.api.identity.person(&call.caller()?.account, login).await?;
    found.ok_or_else(|| ApiError::not_found("user", login))
}

async fn find_group(call: &Call) -> Result<Group, ApiError> {
    let name = call.param("group")?;
    let found = call.api.identity.group(&call.caller()?.account, name).await?;
    found.ok_or_else(|| ApiError::not_found("group", name))
}

/// The user that is to be changed. Who may change users does not get at administrators by it.
async fn changed_user(call: &Call) -> Result<Person, ApiError> {
    let person = find_user(call).await?;
    may_make_member(call, &person.group).await?;
    Ok(person)
}

/// The group that is to be changed; one of administrators by them alone.
async fn changed_group(call: &Call) -> Result<Group, ApiError> {
    let group = find_group(call).await?;
    may_give(call, role_of(&group.role)?)?;
    Ok(group)
}

/// Who may make users does not become an administrator by it.
async fn may_make_member(call: &Call, group: &str) -> Result<(), ApiError> {
    let found = call.api.identity.group(&call.caller()?.account, group).await?;
    let found = found.ok_or_else(|| ApiError::bad_field("group", "the name of a group of the account"))?;
    may_give(call, role_of(&found.role)?)
}

fn may_give(call: &Call, role: GroupRole) -> Result<(), ApiError> {
    match role == GroupRole::Admin && !call.caller()?.is_admin() {
        true => Err(ApiError::refused("Only who may do all that the account may can give that to others, or take it")),
        false => Ok(()),
    }
}

fn role_of(word: &str) -> Result<GroupRole, ApiError> {
    GroupRole::parse(word).ok_or_else(|| ApiError::bad_field("role", "one of ADMIN, REGULAR, UNPRIVILEGED, NONE"))
}

fn describe_user(person: &Person) -> Value {
    json!({
        "login": person.login,
        "email": person.email,
        "description": person.description,
        "group": person.group,
        "status": PersonStatus::of(person).as_str(),
        "creation": person.created,
        "lastUpdate": person.updated,
        "passwordLastUpdate": person.password_updated,
        "urn": user_urn(&person.account, &person.login),
    })
}

fn describe_group(group: &Group) -> Value {
    json!({
        "name": group.name,
        "description": group.description,
        "role": group.role,
        "defaultGroup": group.name == "DEFAULT",
        "creation": group.created,
        "lastUpdate": group.updated,
        "urn": group_urn(&group.account, &group.name),
    })
}
