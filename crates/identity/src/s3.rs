//! Users of a project and S3 access keys: those of people, and those of a sandbox.

pub use db::s3_keys::{Scope, User};

use audit::{Actor, Entry};
use db::s3_keys::S3Key;
use jiff::Timestamp;
use model::{ProjectId, SandboxId};
use zeroize::Zeroizing;

use crate::{Error, Identity, accounts::dangling, random};

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
}

/// What the object gate needs of a key: its secret to check signatures, and what it is good for.
#[derive(Debug)]
pub struct S3Grant {
    /// The secret key.
    pub secret: Zeroizing<String>,
    /// Whose buckets.
    pub project: ProjectId,
    /// The identity for the audit log.
    pub identity: String,
    /// What it is good for.
    pub scope: Scope,
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
    /// Makes a user of a project.
    pub async fn create_user(&self, project: &ProjectId, description: &str, by: &Actor) -> Result<User, Error> {
        let mut user = User {
            id: 0,
            project: project.clone(),
            username: format!("user-{}", random::hex::<6>()?.as_str()),
            description: description.to_owned(),
            created: Timestamp::now(),
        };
        if self.users(project).await?.len() >= MOST_USERS {
            return Err(Error::TooMany { what: "users of a project", limit: MOST_USERS });
        }
        let mut tx = self.db.begin().await?;
        user.id = db::s3_keys::insert_user(&mut tx, &user)
            .await
            .map_err(|fault| dangling(fault, "project", project.as_str()))?;
        let entry = Entry::new(by.clone(), "project.user.created", format!("project/{project}/user/{}", user.id));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// The users of a project, oldest first.
    pub async fn users(&self, project: &ProjectId) -> Result<Vec<User>, Error> {
        Ok(db::s3_keys::list_users(&self.db, project).await?)
    }

    /// A user of a project.
    pub async fn user(&self, project: &ProjectId, id: i64) -> Result<Option<User>, Error> {
        Ok(db::s3_keys::find_user(&self.db, project, id).await?)
    }

    /// Removes a user and its keys.
    pub async fn delete_user(&self, project: &ProjectId, id: i64, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::s3_keys::delete_user(&mut tx, project, id).await? {
            return Err(Error::NotFound { kind: "user", id: id.to_string() });
        }
        let entry = Entry::new(by.clone(), "project.user.deleted", format!("project/{project}/user/{id}"));
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

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
        if self.s3_keys(project, user).await?.len() >= MOST_KEYS {
            return Err(Error::TooMany { what: "access keys", limit: MOST_KEYS });
        }
        let (row, key) = self.new_key(project, user, Scope::Project)?;
        let mut tx = self.db.begin().await?;
        db::s3_keys::insert(&mut tx, &row).await.map_err(|fault| dangling(fault, "project", project.as_str()))?;
        let entry = Entry::new(by.clone(), "project.s3Key.created", format!("project/{project}/s3Key/{}", key.access));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// The access keys of a project, of one user or all, oldest first; sandboxes' keys are not among them.
    pub async fn s3_keys(&self, project: &ProjectId, user: Option<i64>) -> Result<Vec<S3KeyInfo>, Error> {
        let rows = db::s3_keys::list(&self.db, project, user).await?;
        let info =
            |row: S3Key| S3KeyInfo { access: row.access, project: row.project, user: row.user, created: row.created };
        Ok(rows.into_iter().map(info).collect())
    }

    /// Removes an access key of a project.
    pub async fn delete_s3_key(&self, project: &ProjectId, access: &str, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !db::s3_keys::delete(&mut tx, project, access).await? {
            return Err(Error::NotFound { kind: "access key", id: access.chars().take(80).collect() });
        }
        let entry = Entry::new(by.clone(), "project.s3Key.deleted", format!("project/{project}/s3Key/{access}"));
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// What an access key is good for, with its secret: for the object gate.
    pub async fn find_s3_key(&self, access: &str) -> Result<Option<S3Grant>, Error> {
        let Some(row) = db::s3_keys::find(&self.db, access).await? else { return Ok(None) };
        let identity = match row.scope {
            Scope::Project => format!("s3Key/{}", row.access),
            Scope::Job(sandbox) => format!("sandbox/{sandbox}"),
            Scope::Platform(sandbox) => format!("platform/{sandbox}"),
        };
        let secret = self.open_key(&row)?;
        Ok(Some(S3Grant { secret, project: row.project, identity, scope: row.scope }))
    }

    /// The keys of a sandbox; made if there are none, the same ones again else.
    pub async fn open_sandbox(&self, project: &ProjectId, sandbox: SandboxId) -> Result<SandboxKeys, Error> {
        let job = self.new_key(project, None, Scope::Job(sandbox))?;
        let platform = self.new_key(project, None, Scope::Platform(sandbox))?;
        let mut tx = self.db.begin().await?;
        let old = db::s3_keys::of_sandbox(&mut tx, sandbox).await?;
        if old.is_empty() {
            for (row, _) in [&job, &platform] {
                db::s3_keys::insert(&mut tx, row)
                    .await
                    .map_err(|fault| dangling(fault, "project", project.as_str()))?;
            }
            let entry = Entry::new(Actor::system(), "sandbox.keys.created", format!("sandbox/{sandbox}"));
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

    /// Removes the keys of a sandbox; nothing happens where there are none.
    pub async fn close_sandbox(&self, sandbox: SandboxId) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if db::s3_keys::delete_of_sandbox(&mut tx, sandbox).await? > 0 {
            let entry = Entry::new(Actor::system(), "sandbox.keys.removed", format!("sandbox/{sandbox}"));
            self.audit.record_in(&mut tx, &entry).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    fn new_key(&self, project: &ProjectId, user: Option<i64>, scope: Scope) -> Result<(S3Key, NewS3Key), Error> {
        let access = random::hex::<16>()?.to_string();
        let secret = random::hex::<16>()?;
        let sealed_secret = self.seal_of_project(project, &secret_context(&access), &secret)?;
        let created = Timestamp::now();
        let row = S3Key { access: access.clone(), project: project.clone(), user, scope, sealed_secret, created };
        Ok((row, NewS3Key { access, secret, user }))
    }

    fn same_key(&self, row: &S3Key) -> Result<NewS3Key, Error> {
        Ok(NewS3Key { access: row.access.clone(), secret: self.open_key(row)?, user: row.user })
    }

    fn open_key(&self, row: &S3Key) -> Result<Zeroizing<String>, Error> {
        self.open_of_project(&row.project, &secret_context(&row.access), &row.sealed_secret)
    }
}

/// A sealed secret opens only as the secret of its own access key.
fn secret_context(access: &str) -> String {
    format!("s3-key/{access}")
}

const MOST_USERS: usize = 1000;
const MOST_KEYS: usize = 1000;
