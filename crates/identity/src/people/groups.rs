//! Groups of users.

use audit::{Actor, Entry};
use model::AccountId;

use super::Group;
use crate::{
    Error, Identity,
    accounts::{dangling, exists},
};

/// What users of a group may do by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupRole {
    /// All that the account may.
    Admin,
    /// What policies allow.
    Regular,
    /// What policies allow.
    Unprivileged,
    /// What policies allow.
    None,
}

impl GroupRole {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupRole::Admin => "ADMIN",
            GroupRole::Regular => "REGULAR",
            GroupRole::Unprivileged => "UNPRIVILEGED",
            GroupRole::None => "NONE",
        }
    }

    /// The stronger of two: of who is in several groups.
    pub fn stronger(self, other: GroupRole) -> GroupRole {
        let strength = |role| match role {
            GroupRole::Admin => 3,
            GroupRole::Regular => 2,
            GroupRole::Unprivileged => 1,
            GroupRole::None => 0,
        };
        if strength(other) > strength(self) { other } else { self }
    }

    /// The role of that word.
    pub fn parse(word: &str) -> Option<GroupRole> {
        [GroupRole::Admin, GroupRole::Regular, GroupRole::Unprivileged, GroupRole::None]
            .into_iter()
            .find(|role| role.as_str() == word)
    }
}

/// What is to change of a group; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct GroupChange {
    /// What it is for; `Some(None)` takes the description away.
    pub description: Option<Option<String>>,
    /// What its users may do.
    pub role: Option<GroupRole>,
}

impl Identity {
    /// Makes a group of an account.
    pub async fn create_group(
        &self,
        account: &AccountId,
        name: &str,
        description: Option<&str>,
        role: GroupRole,
        by: &Actor,
    ) -> Result<Group, Error> {
        check_name(name)?;
        check_description(description)?;
        let now = crate::now();
        let group = Group {
            account: account.clone(),
            name: name.to_owned(),
            description: description.map(str::to_owned),
            role: role.as_str().to_owned(),
            built_in: false,
            created: now,
            updated: now,
        };
        let mut tx = self.db.begin().await?;
        if db::people::count_groups(&mut tx, account).await? >= MOST_GROUPS {
            return Err(Error::TooMany { what: "groups of an account", limit: MOST_GROUPS as usize });
        }
        db::people::insert_group(&mut tx, &group).await.map_err(|fault| {
            if fault.is_duplicate() {
                return exists(fault, "group", name);
            }
            dangling(fault, "account", account.as_str())
        })?;
        let mut entry = Entry::new(by.clone(), "account.group.created", resource(&group));
        entry.detail = serde_json::json!({ "role": group.role });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(group)
    }

    /// The groups of an account, by name.
    pub async fn groups(&self, account: &AccountId) -> Result<Vec<Group>, Error> {
        Ok(db::people::list_groups(&self.db, account).await?)
    }

    /// A group of an account.
    pub async fn group(&self, account: &AccountId, name: &str) -> Result<Option<Group>, Error> {
        Ok(db::people::find_group(&self.db, account, name).await?)
    }

    /// Changes a group. The role of one that was made with the account stays what it is.
    pub async fn change_group(
        &self,
        account: &AccountId,
        name: &str,
        change: GroupChange,
        by: &Actor,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let mut group = self.group(account, name).await?.ok_or_else(|| no_group(name))?;
        if let Some(description) = change.description {
            check_description(description.as_deref())?;
            group.description = description;
        }
        if let Some(role) = change.role {
            if group.built_in && role.as_str() != group.role {
                let rule = "that of a group which was made with the account does not change";
                return Err(Error::Invalid { field: "role", rule });
            }
            role.as_str().clone_into(&mut group.role);
        }
        group.updated = crate::now();
        db::people::update_group(&mut tx, &group).await?;
        let mut entry = Entry::new(by.clone(), "account.group.changed", resource(&group));
        entry.detail = serde_json::json!({ "role": group.role });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a group that has no users and was not made with the account.
    pub async fn delete_group(&self, account: &AccountId, name: &str, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let group = self.group(account, name).await?.ok_or_else(|| no_group(name))?;
        if group.built_in {
            return Err(Error::InUse { what: "the group was made with the account, and stays" });
        }
        match db::people::delete_group(&mut tx, account, name).await {
            Ok(_) => {}
            Err(fault) if fault.is_dangling() => return Err(Error::InUse { what: "the group has users" }),
            Err(fault) => return Err(fault.into()),
        }
        self.audit.record_in(&mut tx, &Entry::new(by.clone(), "account.group.deleted", resource(&group))).await?;
        Ok(tx.commit().await?)
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let good = !name.is_empty() && name.len() <= 255 && name.trim() == name && !name.chars().any(char::is_control);
    match good {
        true => Ok(()),
        false => {
            Err(Error::Invalid { field: "name", rule: "1 to 255 bytes, no space at its ends, no control characters" })
        }
    }
}

fn check_description(description: Option<&str>) -> Result<(), Error> {
    super::check_texts("", description.unwrap_or_default())
}

fn no_group(name: &str) -> Error {
    Error::NotFound { kind: "group", id: name.chars().take(80).collect() }
}

fn resource(group: &Group) -> String {
    format!("account/{}/group/{}", group.account, group.name)
}

const MOST_GROUPS: i64 = 1000;
