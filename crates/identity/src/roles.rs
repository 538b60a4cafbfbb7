//! Roles of users of a project: the old service's, of which a few include the object store.

/// A role that a user of a project can have.
#[derive(Debug, PartialEq, Eq)]
pub struct UserRole {
    /// Its id, 32 hexadecimal digits: `roleId` in the API.
    pub id: &'static str,
    /// Its name: `cloud.user.RoleEnum` in the API.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// What it includes, as `service:right`.
    pub permissions: &'static [&'static str],
    /// Whether it includes the project's buckets.
    pub storage: bool,
}

impl UserRole {
    /// The role of that name or id.
    pub fn find(name_or_id: &str) -> Option<&'static UserRole> {
        USER_ROLES.iter().find(|role| role.name == name_or_id || role.id == name_or_id)
    }
}

/// Whether one of these roles, by name, includes the project's buckets.
pub(crate) fn include_storage(roles: &[String]) -> bool {
    roles.iter().any(|name| UserRole::find(name).is_some_and(|role| role.storage))
}

/// The role of a user that was made without one.
pub(crate) const DEFAULT_ROLE: &str = "objectstore_operator";

/// All roles. The names are the old service's; only those with [`UserRole::storage`] give rights here, the others are
/// kept for clients that ask for them.
pub const USER_ROLES: [UserRole; 13] = [
    role("9c1f6f0f3f5f4a7c8d3b2f7f6f1f5a01", "admin", "Administrator of all services", &["*:*"], true),
    role("2b7d3f8e1a6c4d5f9e0b8a7c6d5e4f02", "administrator", "Administrator", &["*:*"], true),
    role("5e4a1c9b7d2f4e6a8b3c0d9f1e7a6b03", "ai_training_operator", "AI training operator", &["ai:write"], false),
    role("7f3b5d1e9c8a4f2b6d0e4a8c2b9f1d04", "ai_training_read", "AI training reader", &["ai:read"], false),
    role("1d8c6e4f2b0a4c9d7e5f3b1a9c8d6e05", "authentication", "Authentication", &["identity:token"], false),
    role("8a2e0c4d6f1b4e3a9c7d5b3f1e0a2c06", "backup_operator", "Backup operator", &["backup:write"], false),
    role("3c9f7b5d1e8a4d0c6b2f4e9a7d1c5b07", "compute_operator", "Compute operator", &["compute:write"], false),
    role("6d0a8e2c4b9f4a5d1c3e7f5b9d2a0e08", "image_operator", "Image operator", &["image:write"], false),
    role(
        "4f1e9d7c5a3b4b8f0d6a2c8e4f1b9d09",
        "infrastructure_supervisor",
        "Infrastructure supervisor",
        &["*:read"],
        false,
    ),
    role("0b5c3a1f9e7d4c6b8a4f2d0e6c8b4a10", "network_operator", "Network operator", &["network:write"], false),
    role(
        "e7d9b1c3f5a04e2d9b6c8f0a3d5e7b11",
        "network_security_operator",
        "Network security operator",
        &["network:read", "firewall:write"],
        false,
    ),
    role(
        "a6f8d0b2e4c74f1e8c5a7d9b1f3e5c12",
        "objectstore_operator",
        "Object store operator",
        &["objectstore:write"],
        true,
    ),
    role("c4b6a8f0d2e54a3c9f7b1e5d3a8c6f13", "volume_operator", "Volume operator", &["volume:write"], false),
];

const fn role(
    id: &'static str,
    name: &'static str,
    description: &'static str,
    permissions: &'static [&'static str],
    storage: bool,
) -> UserRole {
    UserRole { id, name, description, permissions, storage }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_role_has_an_id_of_its_own_and_is_found_by_name_and_id() {
        let ids: HashSet<&str> = USER_ROLES.iter().map(|role| role.id).collect();
        assert_eq!(ids.len(), USER_ROLES.len());
        for role in &USER_ROLES {
            assert!(role.id.len() == 32 && role.id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", role.id);
            assert_eq!(UserRole::find(role.id), Some(role));
            assert_eq!(UserRole::find(role.name), Some(role));
        }
        assert_eq!(UserRole::find(""), None);
    }

    #[test]
    fn only_roles_of_storage_include_buckets() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        for (roles, storage) in [
            (&[][..], false),
            (&["authentication"][..], false),
            (&["unheard_of"][..], false),
            (&["network_operator", "objectstore_operator"][..], true),
            (&["administrator"][..], true),
            (&["admin"][..], true),
        ] {
            assert_eq!(include_storage(&names(roles)), storage, "{roles:?}");
        }
    }
}
