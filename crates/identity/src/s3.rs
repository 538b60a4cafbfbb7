//! S3 access keys: those of people, and those of a sandbox; and what each is good for.

pub use db::s3_keys::Scope;

use std::{sync::Arc, time::Instant};

use audit::{Actor, Entry};
use db::{
    Tx,
    s3_keys::{Holder, S3Key},
    temporary_keys,
};
use jiff::Timestamp;
use model::{ProjectId, SandboxId};
use zeroize::Zeroizing;

use crate::{Error, Iam, Identity, S3Policy, accounts::dangling, cache::Known, random, roles};

/// A new S3 access key: its secret can be asked for again by the project.
#[derive(Debug)]
pub struct NewS3Key {
    /// The access key id: 32 hexadecimal digits.
    pub access: String,
    /// The secret key: 32 hexadecimal digits.
    pub secret: Zeroizing<String>,
    /// Its holder, where that is a user.
    pub user: Option<i64>,
}

/// An S3 access key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3KeyInfo {
    /// The access key id.
    pub access: String,
    /// The project.
    pub project: ProjectId,
    /// Its holder, where that is a user.
    pub user: Option<i64>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it may be used.
    pub enabled: bool,
    /// When it was last used, some seconds late; `None`: never.
    pub last_used: Option<Timestamp>,
}

/// What an access key (permanent, temporary, of a sandbox) or a token is good for.
pub struct S3Grant {
    /// The access key id; `None` for a token.
    pub access: Option<String>,
    /// The secret key, to check signatures; empty for a token.
    pub secret: Zeroizing<String>,
    /// Whose buckets.
    pub project: ProjectId,
    /// For the audit log: `s3Key/ACCESS`, `user/NAME`, `session/ROLE/NAME`, `sandbox/ID`, `platform/ID`.
    pub identity: String,
    /// What in the project it is for.
    pub scope: Scope,
    /// What a temporary key must be sent with, each time. Compare it in constant time.
    pub session_token: Option<Zeroizing<String>>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// The holder as policies name it, an ARN.
    pub principal: String,
    /// The user that holds it; `None`: nobody, as it were the root of the project, or a sandbox.
    pub user: Option<GrantUser>,
    /// The policy of the user.
    pub user_policy: Option<Arc<S3Policy>>,
    /// What narrows it: allowed is only what each of these allows too.
    pub session_policies: Vec<Arc<S3Policy>>,
    /// The policies of the project's account (IAM), if one may speak of the holder in the object store.
    pub account_policies: Option<Arc<Iam>>,
}

/// The user behind a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantUser {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether its roles include the object store; else it may do nothing there.
    pub storage: bool,
}

impl S3Grant {
    /// Nothing but the scope bounds it: a gate need not ask for a decision where the bucket has no policy either.
    pub fn is_plain(&self) -> bool {
        self.account_policies.is_none()
            && self.user_policy.is_none()
            && self.session_policies.is_empty()
            && self.user.as_ref().is_none_or(|user| user.storage)
    }

    /// Whether a policy that goes with it may ask for the tags that an object has.
    pub fn asks_tags(&self) -> bool {
        self.user_policy.is_some() || !self.session_policies.is_empty()
    }

    /// Whether it has ended by `now`.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

impl std::fmt::Debug for S3Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Grant")
            .field("project", &self.project)
            .field("identity", &self.identity)
            .field("scope", &self.scope)
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The two keys of a sandbox.
#[derive(Debug)]
pub struct SandboxKeys {
    /// For the user's code.
    pub job: NewS3Key,
    /// For the platform: uploads the logs.
    pub platform: NewS3Key,
}

impl Identity {
    /// Makes an S3 access key of a project, held by one of its users or by nobody.
    pub async fn create_s3_key(&self, project: &ProjectId, user: Option<i64>, by: &Actor) -> Result<NewS3Key, Error> {
        if self.project(project).await?.is_none() {
            return Err(Error::NotFound { kind: "project", id: project.to_string() });
        }
        if let Some(id) = user
            && self.user(project, id).await?.is_none()
        {
            return Err(Error::NotFound { kind: "user", id: id.to_string() });
        }
        let entry = |key: &NewS3Key| {
            Entry::new(by.clone(), "project.s3Key.created", format!("project/{project}/s3Key/{}", key.access))
        };
        self.insert_key(project, user, entry).await
    }

    /// Makes a key for the holder of `access`. The old one stays good until it is disabled or deleted.
    pub async fn rotate_s3_key(&self, project: &ProjectId, access: &str, by: &Actor) -> Result<NewS3Key, Error> {
        let old = self.key_of(project, access).await?;
        let entry = |key: &NewS3Key| {
            let mut entry =
                Entry::new(by.clone(), "project.s3Key.rotated", format!("project/{project}/s3Key/{}", key.access));
            entry.detail = serde_json::json!({ "takesThePlaceOf": old.access });
            entry
        };
        self.insert_key(project, old.user, entry).await
    }

    async fn insert_key(
        &self,
        project: &ProjectId,
        user: Option<i64>,
        entry: impl FnOnce(&NewS3Key) -> Entry,
    ) -> Result<NewS3Key, Error> {
        let (row, key) = self.new_key(project, user, Scope::Project, None)?;
        let mut tx = self.db.begin().await?;
        if db::s3_keys::count(&mut tx, project, user).await? >= MOST_KEYS {
            return Err(Error::TooMany { what: "access keys", limit: MOST_KEYS as usize });
        }
        db::s3_keys::insert(&mut tx, &row).await.map_err(|fault| dangling(fault, "project", project.as_str()))?;
        self.audit.record_in(&mut tx, &entry(&key)).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// The access keys of a project, of one user or all, oldest first; sandboxes' keys are not among them.
    pub async fn s3_keys(&self, project: &ProjectId, user: Option<i64>) -> Result<Vec<S3KeyInfo>, Error> {
        let rows = db::s3_keys::list(&self.db, project, user).await?;
        let info = |row: S3Key| S3KeyInfo {
            last_used: row.last_used.max(self.uses.of_key(&row.access)),
            access: row.access,
            project: row.project,
            user: row.user,
            created: row.created,
            enabled: row.enabled,
        };
        Ok(rows.into_iter().map(info).collect())
    }

    /// The secret of an access key of a project, which may be disabled.
    pub async fn s3_secret(&self, project: &ProjectId, access: &str) -> Result<Zeroizing<String>, Error> {
        let row = self.key_of(project, access).await?;
        self.open_key(&row)
    }

    /// Lets an access key of a project be used again.
    pub async fn enable_s3_key(&self, project: &ProjectId, access: &str, by: &Actor) -> Result<(), Error> {
        self.switch_key(project, access, true, by).await
    }

    /// Lets an access key of a project, and the temporary keys that it made, no longer be used until it is enabled.
    pub async fn disable_s3_key(&self, project: &ProjectId, access: &str, by: &Actor) -> Result<(), Error> {
        self.switch_key(project, access, false, by).await
    }

    async fn switch_key(&self, project: &ProjectId, access: &str, on: bool, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::s3_keys::set_enabled(&mut tx, project, access, on).await? {
            return Err(no_key(access));
        }
        let action = if on { "project.s3Key.enabled" } else { "project.s3Key.disabled" };
        let entry = Entry::new(by.clone(), action, format!("project/{project}/s3Key/{access}"));
        self.audit.record_in(&mut tx, &entry).await?;
        self.commit_grants(tx).await
    }

    /// Removes an access key of a project, and the temporary keys that it made.
    pub async fn delete_s3_key(&self, project: &ProjectId, access: &str, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::s3_keys::delete(&mut tx, project, access).await? {
            return Err(no_key(access));
        }
        let entry = Entry::new(by.clone(), "project.s3Key.deleted", format!("project/{project}/s3Key/{access}"));
        self.audit.record_in(&mut tx, &entry).await?;
        self.commit_grants(tx).await
    }

    /// What an access key is good for, with its secret: for the object gate. `None` if there is no such key, if it is
    /// disabled, or if its time is over. From memory where it can be: a change by this process is seen at once, one by
    /// another process within a second.
    pub async fn find_s3_key(&self, access: &str) -> Result<Option<Arc<S3Grant>>, Error> {
        if access.is_empty() || access.len() > LONGEST_ACCESS || !access.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        let read = Instant::now();
        let grant = match self.cache.find(access, read) {
            Known::Fresh(grant) => Some(grant),
            Known::Unknown(changes) => {
                let grant = match self.read_grant(access).await? {
                    Some(grant) => Some(Arc::new(self.with_account_policies(grant).await?)),
                    None => None,
                };
                self.cache.keep(access, grant.as_ref(), read, changes);
                grant
            }
        };
        Ok(grant.filter(|grant| !grant.has_ended(Timestamp::now())))
    }

    /// What the user of that name, of whichever project, may do: for explanations. `None` if there is no such user.
    pub async fn grant_of_user(&self, username: &str) -> Result<Option<S3Grant>, Error> {
        let Some((user, _)) = db::project_users::find_by_name(&self.db, username).await? else { return Ok(None) };
        let policy = db::project_users::policy(&self.db, &user.project, user.id).await?.flatten();
        let (identity, principal) = (format!("user/{}", user.username), user_arn(&user.project, &user.username));
        let holder = Holder { id: user.id, username: user.username, roles: user.roles, policy };
        let (holder, user_policy) = read_holder(Some(holder))?;
        let grant = S3Grant {
            access: None,
            secret: Zeroizing::default(),
            project: user.project,
            identity,
            scope: Scope::Project,
            session_token: None,
            expires: None,
            principal,
            user: holder,
            user_policy,
            session_policies: Vec::new(),
            account_policies: None,
        };
        Ok(Some(self.with_account_policies(grant).await?))
    }

    /// What a key of the project itself, which is of none of its users, may do: for explanations. `None` if there is no
    /// such project.
    pub async fn grant_of_project(&self, project: &ProjectId) -> Result<Option<S3Grant>, Error> {
        if self.project(project).await?.is_none() {
            return Ok(None);
        }
        let grant = S3Grant {
            access: None,
            secret: Zeroizing::default(),
            project: project.clone(),
            identity: format!("project/{project}"),
            scope: Scope::Project,
            session_token: None,
            expires: None,
            principal: root_arn(project),
            user: None,
            user_policy: None,
            session_policies: Vec::new(),
            account_policies: None,
        };
        Ok(Some(self.with_account_policies(grant).await?))
    }

    /// Notes that a key was used just now, once its signature was found right. Costs no query; written some seconds
    /// later.
    pub fn note_s3_use(&self, grant: &S3Grant) {
        if let Some(access) = &grant.access
            && grant.scope == Scope::Project
        {
            self.uses.note_key(access, Timestamp::now());
        }
    }

    /// What the database says of an access key; its time may be over.
    pub(crate) async fn read_grant(&self, access: &str) -> Result<Option<S3Grant>, Error> {
        if access.starts_with(TEMPORARY) {
            return match temporary_keys::find(&self.db, access).await? {
                Some((temporary, parent, holder)) if parent.enabled => {
                    self.temporary_grant(temporary, parent, holder).map(Some)
                }
                _ => Ok(None),
            };
        }
        match db::s3_keys::find(&self.db, access).await? {
            Some((row, holder)) if row.enabled => self.key_grant(row, holder).map(Some),
            _ => Ok(None),
        }
    }

    fn key_grant(&self, row: S3Key, holder: Option<Holder>) -> Result<S3Grant, Error> {
        let project = &row.project;
        let (identity, principal) = match (row.scope, &holder) {
            (Scope::Project, Some(holder)) => (format!("s3Key/{}", row.access), user_arn(project, &holder.username)),
            (Scope::Project, None) => (format!("s3Key/{}", row.access), root_arn(project)),
            (Scope::Job(sandbox), _) => {
                (format!("sandbox/{sandbox}"), session_arn(project, "job", &sandbox.to_string()))
            }
            (Scope::Platform(sandbox), _) => {
                (format!("platform/{sandbox}"), session_arn(project, "platform", &sandbox.to_string()))
            }
        };
        let session_policies = row.session_policy.as_deref().map(stored_session).transpose()?.into_iter().collect();
        let (user, user_policy) = read_holder(holder)?;
        Ok(S3Grant {
            secret: self.open_key(&row)?,
            access: Some(row.access),
            project: row.project,
            identity,
            scope: row.scope,
            session_token: None,
            expires: None,
            principal,
            user,
            user_policy,
            session_policies,
            account_policies: None,
        })
    }

    fn temporary_grant(
        &self,
        row: temporary_keys::TemporaryKey,
        parent: S3Key,
        holder: Option<Holder>,
    ) -> Result<S3Grant, Error> {
        let secret = self.open_of_project(&parent.project, &secret_context(&row.access), &row.sealed_secret)?;
        let token = self.open_of_project(&parent.project, &token_context(&row.access), &row.sealed_token)?;
        let texts: Vec<String> =
            serde_json::from_str(&row.policies).map_err(|_| Error::Damaged { what: "policies of a temporary key" })?;
        let mut grant = self.key_grant(parent, holder)?;
        // Those of the parent narrow as well.
        for text in &texts {
            grant.session_policies.push(stored_session(text)?);
        }
        // A job remains that job, whatever session it opens: it is what policies and the audit log name.
        if grant.scope == Scope::Project {
            match &row.role {
                Some((role, session)) => {
                    grant.identity = format!("session/{role}/{session}");
                    grant.principal = session_arn(&grant.project, role, session);
                }
                None => grant.identity = format!("s3Key/{}", row.access),
            }
        }
        Ok(S3Grant {
            access: Some(row.access),
            secret,
            session_token: Some(token),
            expires: Some(row.expires),
            ..grant
        })
    }

    /// The keys of a sandbox; made if there are none, the same ones again else. A session policy narrows what the job
    /// may do: it is the one that the keys were made with.
    pub async fn open_sandbox(
        &self,
        project: &ProjectId,
        sandbox: SandboxId,
        session_policy: Option<&str>,
    ) -> Result<SandboxKeys, Error> {
        if let Some(text) = session_policy {
            S3Policy::parse_user(text)?;
        }
        let job = self.new_key(project, None, Scope::Job(sandbox), session_policy)?;
        let platform = self.new_key(project, None, Scope::Platform(sandbox), None)?;
        let mut tx = self.db.begin().await?;
        let old = db::s3_keys::of_sandbox(&mut tx, sandbox).await?;
        if old.is_empty() {
            for (row, _) in [&job, &platform] {
                db::s3_keys::insert(&mut tx, row)
                    .await
                    .map_err(|fault| dangling(fault, "project", project.as_str()))?;
            }
            let mut entry = Entry::new(Actor::system(), "sandbox.keys.created", format!("sandbox/{sandbox}"));
            if let Some(text) = session_policy {
                entry.detail = serde_json::json!({ "policy": text });
            }
            self.audit.record_in(&mut tx, &entry).await?;
            tx.commit().await?;
            return Ok(SandboxKeys { job: job.1, platform: platform.1 });
        }
        drop(tx);
        let find = |scope: Scope| {
            old.iter()
                .find(|row| row.scope == scope && row.project == *project)
                .ok_or(Error::Damaged { what: "keys of a sandbox" })
        };
        let (job, platform) = (find(Scope::Job(sandbox))?, find(Scope::Platform(sandbox))?);
        Ok(SandboxKeys { job: self.same_key(job)?, platform: self.same_key(platform)? })
    }

    /// Removes the keys of a sandbox, and the temporary keys that they made; nothing happens where there are none.
    pub async fn close_sandbox(&self, sandbox: SandboxId) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if db::s3_keys::delete_of_sandbox(&mut tx, sandbox).await? > 0 {
            let entry = Entry::new(Actor::system(), "sandbox.keys.removed", format!("sandbox/{sandbox}"));
            self.audit.record_in(&mut tx, &entry).await?;
            self.commit_grants(tx).await?;
        }
        Ok(())
    }

    /// Commits a change of what somebody may do, and forgets what was known.
    pub(crate) async fn commit_grants(&self, tx: Tx) -> Result<(), Error> {
        let result = tx.commit().await;
        // After a failed commit too: whether it took place is not known.
        self.cache.changed();
        Ok(result?)
    }

    /// The row of an access key of a project that is not a sandbox's.
    async fn key_of(&self, project: &ProjectId, access: &str) -> Result<S3Key, Error> {
        match db::s3_keys::find(&self.db, access).await? {
            Some((row, _)) if row.project == *project && row.scope == Scope::Project => Ok(row),
            _ => Err(no_key(access)),
        }
    }

    fn new_key(
        &self,
        project: &ProjectId,
        user: Option<i64>,
        scope: Scope,
        session_policy: Option<&str>,
    ) -> Result<(S3Key, NewS3Key), Error> {
        let access = random::hex::<16>()?.to_string();
        let secret = random::hex::<16>()?;
        let row = S3Key {
            access: access.clone(),
            project: project.clone(),
            user,
            scope,
            sealed_secret: self.seal_of_project(project, &secret_context(&access), &secret)?,
            created: Timestamp::now(),
            enabled: true,
            last_used: None,
            session_policy: session_policy.map(str::to_owned),
        };
        Ok((row, NewS3Key { access, secret, user }))
    }

    fn same_key(&self, row: &S3Key) -> Result<NewS3Key, Error> {
        Ok(NewS3Key { access: row.access.clone(), secret: self.open_key(row)?, user: row.user })
    }

    fn open_key(&self, row: &S3Key) -> Result<Zeroizing<String>, Error> {
        self.open_of_project(&row.project, &secret_context(&row.access), &row.sealed_secret)
    }
}

/// The user and its policy, read. A policy that can no longer be read allows nothing: it is an error.
pub(crate) fn read_holder(holder: Option<Holder>) -> Result<(Option<GrantUser>, Option<Arc<S3Policy>>), Error> {
    let Some(holder) = holder else { return Ok((None, None)) };
    let policy = match &holder.policy {
        Some(text) => {
            let policy = S3Policy::parse_user(text).map_err(|_| Error::Damaged { what: "policy of a user" })?;
            Some(Arc::new(policy))
        }
        None => None,
    };
    let storage = roles::include_storage(&holder.roles);
    Ok((Some(GrantUser { id: holder.id, name: holder.username, storage }), policy))
}

fn stored_session(text: &str) -> Result<Arc<S3Policy>, Error> {
    S3Policy::parse_user(text).map(Arc::new).map_err(|_| Error::Damaged { what: "session policy of a key" })
}

/// The ARN of a key of nobody.
pub(crate) fn root_arn(project: &ProjectId) -> String {
    format!("arn:aws:iam::{project}:root")
}

/// The ARN of a user.
pub(crate) fn user_arn(project: &ProjectId, username: &str) -> String {
    format!("arn:aws:iam::{project}:user/{username}")
}

/// The ARN of a role.
pub(crate) fn role_arn(project: &ProjectId, role: &str) -> String {
    format!("arn:aws:iam::{project}:role/{role}")
}

/// The ARN of a session of a role.
fn session_arn(project: &ProjectId, role: &str, session: &str) -> String {
    format!("arn:aws:sts::{project}:assumed-role/{role}/{session}")
}

/// A sealed secret opens only as the secret of its own access key.
pub(crate) fn secret_context(access: &str) -> String {
    format!("s3-key/{access}")
}

/// A sealed token opens only as the token of its own access key.
pub(crate) fn token_context(access: &str) -> String {
    format!("s3-token/{access}")
}

fn no_key(access: &str) -> Error {
    Error::NotFound { kind: "access key", id: access.chars().take(80).collect() }
}

/// What the ids of temporary keys begin with; those of others are lower case.
pub(crate) const TEMPORARY: &str = "ASIA";
const LONGEST_ACCESS: usize = 128;
const MOST_KEYS: i64 = 1000;
