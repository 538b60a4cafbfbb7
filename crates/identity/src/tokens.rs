//! Users of a project by password: a token for some hours, as Keystone and Swift want it.

use std::{net::IpAddr, sync::Arc, time::Instant};

use audit::{Actor, Entry};
use jiff::{SignedDuration, Timestamp};
use model::ProjectId;
use zeroize::Zeroizing;

use crate::{
    Error, Identity, S3Grant, Scope, User,
    cache::Known,
    random,
    s3::{read_holder, user_arn},
};

/// A new token: the only time that it is shown.
pub struct UserToken {
    /// The token: 64 hexadecimal digits.
    pub token: Zeroizing<String>,
    /// Whose it is, and in which project.
    pub user: User,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl std::fmt::Debug for UserToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserToken").field("user", &self.user).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Identity {
    /// Gives a user a token for its password; `None` if the two do not belong together, which takes the same time
    /// whether there is such a user or not. Too many wrong tries from an address: [`Error::TryLater`].
    pub async fn login_user(
        &self,
        username: &str,
        password: &str,
        from: Option<IpAddr>,
    ) -> Result<Option<UserToken>, Error> {
        if username.is_empty() || username.len() > LONGEST_NAME || password.is_empty() || password.len() > LONGEST {
            return Ok(None);
        }
        let attempt = self.passwords.admit(from, username, Instant::now())?;
        let (user, hash) = match db::project_users::find_by_name(&self.db, username).await? {
            Some((user, hash)) => (Some(user), hash),
            None => (None, None),
        };
        let right = self.passwords.verify(Zeroizing::new(password.to_owned()), hash).await?;
        let Some(user) = user.filter(|_| right) else { return Ok(None) };
        attempt.succeeded();
        let account = self.contacts(&user.project).await?.map(|contacts| contacts.admin);
        let by = Actor { account, identity: format!("user/{}", user.username), source_ip: from, request_id: None };
        let entry = Entry::new(by, "project.user.loggedIn", format!("project/{}/user/{}", user.project, user.id));
        // `None`: removed since its password was checked.
        self.insert_token(user, &entry).await
    }

    /// Gives a user of a project a token without its password: for one whose right to it was decided before.
    pub async fn make_user_token(&self, project: &ProjectId, id: i64, by: &Actor) -> Result<UserToken, Error> {
        let absent = || Error::NotFound { kind: "user", id: id.to_string() };
        let user = self.user(project, id).await?.ok_or_else(absent)?;
        let entry = Entry::new(by.clone(), "project.user.token.created", format!("project/{project}/user/{id}"));
        self.insert_token(user, &entry).await?.ok_or_else(absent)
    }

    /// Makes a token; `None` if the user is not there any more.
    async fn insert_token(&self, user: User, entry: &Entry) -> Result<Option<UserToken>, Error> {
        let token = random::hex::<32>()?;
        let issued = crate::now();
        let expires = issued + GOOD_FOR;
        let mut tx = self.db.begin().await?;
        db::user_tokens::delete_oldest(&mut tx, user.id, MOST - 1).await?;
        match db::user_tokens::insert(&mut tx, &random::sha256(&token), user.id, issued, expires).await {
            Ok(()) => {}
            Err(fault) if fault.is_dangling() => return Ok(None),
            Err(fault) => return Err(fault.into()),
        }
        self.audit.record_in(&mut tx, entry).await?;
        tx.commit().await?;
        Ok(Some(UserToken { token, user, issued, expires }))
    }

    /// What a token is good for; `None` if there is none such, or its time is over. From memory where it can be, as
    /// [`Identity::find_s3_key`].
    pub async fn find_user_token(&self, token: &str) -> Result<Option<Arc<S3Grant>>, Error> {
        if token.len() != 64 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let hash = random::sha256(token);
        let (name, read) = (cache_name(&hash), Instant::now());
        let grant = match self.cache.find(&name, read) {
            Known::Fresh(grant) => Some(grant),
            Known::Unknown(changes) => {
                let grant = match self.read_token(&hash).await? {
                    Some(grant) => Some(Arc::new(self.with_account_policies(grant).await?)),
                    None => None,
                };
                self.cache.keep(&name, grant.as_ref(), read, changes);
                grant
            }
        };
        let now = Timestamp::now();
        let grant = grant.filter(|grant| !grant.has_ended(now));
        if grant.is_some() {
            self.uses.note_user_token(&hash, now);
        }
        Ok(grant)
    }

    /// Ends a token; whether it was there.
    pub async fn revoke_user_token(&self, token: &str, by: &Actor) -> Result<bool, Error> {
        let hash = random::sha256(token);
        let Some((project, holder, _)) = db::user_tokens::find(&self.db, &hash).await? else { return Ok(false) };
        let mut tx = self.db.begin().await?;
        let there = db::user_tokens::delete(&mut tx, &hash).await?;
        let resource = format!("project/{project}/user/{}", holder.id);
        self.audit.record_in(&mut tx, &Entry::new(by.clone(), "project.user.token.revoked", resource)).await?;
        self.commit_grants(tx).await?;
        Ok(there)
    }

    async fn read_token(&self, hash: &[u8]) -> Result<Option<S3Grant>, Error> {
        let Some((project, holder, expires)) = db::user_tokens::find(&self.db, hash).await? else { return Ok(None) };
        let (identity, principal) = (format!("user/{}", holder.username), user_arn(&project, &holder.username));
        let (user, user_policy) = read_holder(Some(holder))?;
        Ok(Some(S3Grant {
            access: None,
            secret: Zeroizing::default(),
            project,
            identity,
            scope: Scope::Project,
            session_token: None,
            expires: Some(expires),
            principal,
            user,
            user_policy,
            session_policies: Vec::new(),
            account_policies: None,
        }))
    }
}

/// No access key is called so: those have no colon.
fn cache_name(hash: &[u8]) -> String {
    format!("token:{}", hex::encode(hash))
}

const GOOD_FOR: SignedDuration = SignedDuration::from_hours(12);
/// Tokens of a user: a new one takes the place of the oldest.
const MOST: i64 = 1000;
const LONGEST_NAME: usize = 255;
const LONGEST: usize = 1024;
