//! Users of a project: made with roles and a password, given policies.

pub use db::project_users::User;

use audit::{Actor, Entry};
use model::{BucketName, ProjectId};
use zeroize::Zeroizing;

use crate::{
    BucketRole, Error, Identity, S3Policy, UserRole, accounts::dangling, bucket_roles, passwords, random,
    roles::DEFAULT_ROLE,
};

/// A new user: the only time that its password is shown.
#[derive(Debug)]
pub struct NewUser {
    /// The user.
    pub user: User,
    /// Its password: 32 letters and digits.
    pub password: Zeroizing<String>,
}

impl Identity {
    /// Makes a user of a project, with the role of the object store and without a password.
    pub async fn create_user(&self, project: &ProjectId, description: &str, by: &Actor) -> Result<User, Error> {
        self.insert_user(project, description, &[], None, by).await
    }

    /// Makes a user of a project with a password. `roles`: names or ids of [`crate::USER_ROLES`]; if none, that of the
    /// object store.
    pub async fn create_user_with_password(
        &self,
        project: &ProjectId,
        description: &str,
        roles: &[String],
        by: &Actor,
    ) -> Result<NewUser, Error> {
        let password = passwords::generate()?;
        let hash = self.passwords.hash(password.clone()).await?;
        let user = self.insert_user(project, description, roles, Some(&hash), by).await?;
        Ok(NewUser { user, password })
    }

    async fn insert_user(
        &self,
        project: &ProjectId,
        description: &str,
        roles: &[String],
        password: Option<&str>,
        by: &Actor,
    ) -> Result<User, Error> {
        let mut roles = role_names(roles)?;
        if roles.is_empty() {
            roles.push(DEFAULT_ROLE.to_owned());
        }
        let mut user = User {
            id: 0,
            project: project.clone(),
            username: format!("user-{}", random::hex::<6>()?.as_str()),
            description: description.to_owned(),
            roles,
            created: crate::now(),
        };
        let mut tx = self.db.begin().await?;
        if db::project_users::count(&mut tx, project).await? >= MOST_USERS {
            return Err(Error::TooMany { what: "users of a project", limit: MOST_USERS as usize });
        }
        user.id = db::project_users::insert(&mut tx, &user, password)
            .await
            .map_err(|fault| dangling(fault, "project", project.as_str()))?;
        let mut entry = Entry::new(by.clone(), "project.user.created", resource(project, user.id));
        entry.detail = serde_json::json!({ "username": user.username, "roles": user.roles });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// The users of a project, oldest first.
    pub async fn users(&self, project: &ProjectId) -> Result<Vec<User>, Error> {
        Ok(db::project_users::list(&self.db, project).await?)
    }

    /// A user of a project.
    pub async fn user(&self, project: &ProjectId, id: i64) -> Result<Option<User>, Error> {
        Ok(db::project_users::find(&self.db, project, id).await?)
    }

    /// Removes a user, with its keys, temporary keys and tokens.
    pub async fn delete_user(&self, project: &ProjectId, id: i64, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::project_users::delete(&mut tx, project, id).await? {
            return Err(no_user(id));
        }
        self.audit.record_in(&mut tx, &Entry::new(by.clone(), "project.user.deleted", resource(project, id))).await?;
        self.commit_grants(tx).await
    }

    /// Sets the roles of a user: names or ids of [`crate::USER_ROLES`], none allowed.
    pub async fn set_user_roles(
        &self,
        project: &ProjectId,
        id: i64,
        roles: &[String],
        by: &Actor,
    ) -> Result<User, Error> {
        self.change_user_roles(project, id, |_| roles.to_vec(), by).await
    }

    /// Gives a user a role more, by its name or id; nothing changes where it has it.
    pub async fn add_user_role(&self, project: &ProjectId, id: i64, role: &str, by: &Actor) -> Result<User, Error> {
        let add = |mut roles: Vec<String>| {
            roles.push(role.to_owned());
            roles
        };
        self.change_user_roles(project, id, add, by).await
    }

    /// Takes a role from a user, by its name; nothing changes where it has it not.
    pub async fn remove_user_role(&self, project: &ProjectId, id: i64, role: &str, by: &Actor) -> Result<User, Error> {
        let remove = |mut roles: Vec<String>| {
            roles.retain(|name| name != role);
            roles
        };
        self.change_user_roles(project, id, remove, by).await
    }

    async fn change_user_roles(
        &self,
        project: &ProjectId,
        id: i64,
        change: impl FnOnce(Vec<String>) -> Vec<String> + Send,
        by: &Actor,
    ) -> Result<User, Error> {
        // Nobody else writes until this ends, so that no change between is lost.
        let mut tx = self.db.begin().await?;
        let before = self.user(project, id).await?.ok_or_else(|| no_user(id))?;
        let roles = role_names(&change(before.roles))?;
        if !db::project_users::set_roles(&mut tx, project, id, &roles).await? {
            return Err(no_user(id));
        }
        let mut entry = Entry::new(by.clone(), "project.user.roles.changed", resource(project, id));
        entry.detail = serde_json::json!({ "roles": roles });
        self.audit.record_in(&mut tx, &entry).await?;
        self.commit_grants(tx).await?;
        self.user(project, id).await?.ok_or_else(|| no_user(id))
    }

    /// The policy of a user, as it was set; `None` if it has none, and so may do what its roles include.
    pub async fn user_policy(&self, project: &ProjectId, id: i64) -> Result<Option<String>, Error> {
        db::project_users::policy(&self.db, project, id).await?.ok_or_else(|| no_user(id))
    }

    /// Sets the policy of a user: from then on it may do only what that, or a bucket's policy, allows.
    pub async fn set_user_policy(&self, project: &ProjectId, id: i64, text: &str, by: &Actor) -> Result<(), Error> {
        S3Policy::parse_user(text)?;
        let mut tx = self.db.begin().await?;
        if !db::project_users::set_policy(&mut tx, project, id, Some(text)).await? {
            return Err(no_user(id));
        }
        let mut entry = Entry::new(by.clone(), "project.user.policy.set", resource(project, id));
        entry.detail = serde_json::json!({ "policy": text });
        self.audit.record_in(&mut tx, &entry).await?;
        self.commit_grants(tx).await
    }

    /// Removes the policy of a user; nothing happens where it has none.
    pub async fn delete_user_policy(&self, project: &ProjectId, id: i64, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::project_users::set_policy(&mut tx, project, id, None).await? {
            return Err(no_user(id));
        }
        self.audit
            .record_in(&mut tx, &Entry::new(by.clone(), "project.user.policy.deleted", resource(project, id)))
            .await?;
        self.commit_grants(tx).await
    }

    /// Gives a user a role on a bucket, or on objects of it: a statement of its policy, which takes the place of the
    /// one that it had for the same objects. `object_key`: empty for the whole bucket, else a key, `*` and `?` allowed.
    pub async fn grant_bucket_role(
        &self,
        project: &ProjectId,
        id: i64,
        bucket: &BucketName,
        object_key: &str,
        role: BucketRole,
        by: &Actor,
    ) -> Result<(), Error> {
        let statement = bucket_roles::role_statement(bucket, object_key, role);
        let mut tx = self.db.begin().await?;
        let old = db::project_users::policy_in(&mut tx, project, id).await?.ok_or_else(|| no_user(id))?;
        let text = bucket_roles::merge_statement(old.as_deref(), statement)?;
        db::project_users::set_policy(&mut tx, project, id, Some(&text)).await?;
        let mut entry = Entry::new(by.clone(), "project.user.policy.set", resource(project, id));
        entry.detail = serde_json::json!({ "policy": text });
        self.audit.record_in(&mut tx, &entry).await?;
        self.commit_grants(tx).await
    }

    /// Gives a user a new password, which is shown this once, and ends all its tokens.
    pub async fn regenerate_password(
        &self,
        project: &ProjectId,
        id: i64,
        by: &Actor,
    ) -> Result<Zeroizing<String>, Error> {
        let password = passwords::generate()?;
        let hash = self.passwords.hash(password.clone()).await?;
        let mut tx = self.db.begin().await?;
        if !db::project_users::set_password(&mut tx, project, id, &hash).await? {
            return Err(no_user(id));
        }
        db::user_tokens::delete_of_user(&mut tx, id).await?;
        self.audit
            .record_in(&mut tx, &Entry::new(by.clone(), "project.user.password.changed", resource(project, id)))
            .await?;
        self.commit_grants(tx).await?;
        Ok(password)
    }
}

/// The names of these roles, each once.
fn role_names(names_or_ids: &[String]) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for given in names_or_ids {
        let role = UserRole::find(given)
            .ok_or_else(|| Error::NotFound { kind: "role", id: given.chars().take(80).collect() })?;
        if !names.iter().any(|name| name == role.name) {
            names.push(role.name.to_owned());
        }
    }
    Ok(names)
}

fn no_user(id: i64) -> Error {
    Error::NotFound { kind: "user", id: id.to_string() }
}

fn resource(project: &ProjectId, id: i64) -> String {
    format!("project/{project}/user/{id}")
}

const MOST_USERS: i64 = 1000;
