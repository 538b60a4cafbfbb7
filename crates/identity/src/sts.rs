//! Temporary keys, narrower or shorter than the key that asks for them (STS).
//! <https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html>

use audit::{Actor, Entry};
use db::temporary_keys;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::{
    Error, Identity, S3Grant, S3Policy, Scope, random,
    s3::{TEMPORARY, role_arn, secret_context, token_context},
};

/// A key that ends by itself; also with the key that asked for it.
pub struct TemporaryKey {
    /// The access key id.
    pub access: String,
    /// The secret key.
    pub secret: Zeroizing<String>,
    /// What it must be sent with, each time.
    pub session_token: Zeroizing<String>,
    /// When it ends.
    pub expires: Timestamp,
    /// Its holder as policies name it, an ARN.
    pub principal: String,
}

/// Who a key is, as STS `GetCallerIdentity` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// `Arn`.
    pub arn: String,
    /// `UserId`: `aws:userid` in policies.
    pub user_id: String,
    /// `Account`: the project.
    pub account: String,
}

impl S3Grant {
    /// Who it is, as STS `GetCallerIdentity` answers.
    pub fn caller_identity(&self) -> CallerIdentity {
        CallerIdentity { arn: self.principal.clone(), user_id: self.user_id(), account: self.project.to_string() }
    }

    /// `aws:userid`: the user's number or else the project; of a session, with its name after a colon.
    pub(crate) fn user_id(&self) -> String {
        let base = match &self.user {
            Some(user) => user.id.to_string(),
            None => self.project.to_string(),
        };
        match self.role_session() {
            Some((_, session)) => format!("{base}:{session}"),
            None => base,
        }
    }

    /// Role and session, where it is a session of a role.
    pub(crate) fn role_session(&self) -> Option<(&str, &str)> {
        let (_, rest) = self.principal.split_once(":assumed-role/")?;
        rest.split_once('/')
    }
}

impl Identity {
    /// A temporary key for a session of a role: `arn:aws:iam::PROJECT:role/USERNAME` for a key of that user,
    /// `.../role/project` for a key of nobody, `.../role/job` for that of a job. `session_policy` narrows it, 2,048
    /// characters at most; it also has the bounds of the key that asks, and ends no later. `seconds`: 900 to 43,200, if
    /// none 3,600.
    pub async fn assume_role(
        &self,
        grant: &S3Grant,
        role: &str,
        session_name: &str,
        session_policy: Option<&str>,
        seconds: Option<u32>,
        by: &Actor,
    ) -> Result<TemporaryKey, Error> {
        if !is_session_name(session_name) {
            let rule = "RoleSessionName is 2 to 64 letters, digits or any of _+=,.@-";
            return Err(Error::Invalid { field: "RoleSessionName", rule });
        }
        let seconds = duration(seconds, LONGEST_ROLE, "DurationSeconds is 900 to 43200")?;
        let name = match (&grant.user, grant.scope) {
            (Some(user), _) => user.name.as_str(),
            (None, Scope::Project) => PROJECT_ROLE,
            (None, Scope::Job(_) | Scope::Platform(_)) => JOB_ROLE,
        };
        if role != role_arn(&grant.project, name) {
            let what = format!("this key may assume {} only", role_arn(&grant.project, name));
            return Err(Error::AccessDenied { what });
        }
        if let Some(text) = session_policy {
            S3Policy::parse_session(text)?;
        }
        let session = Some((name.to_owned(), session_name.to_owned()));
        self.temporary_key(grant, session, session_policy, seconds, "sts.assumeRole", by).await
    }

    /// A temporary key with the rights of the key that asks, which must not itself be temporary. `seconds`: 900 to
    /// 129,600, if none 3,600.
    pub async fn session_token(
        &self,
        grant: &S3Grant,
        seconds: Option<u32>,
        by: &Actor,
    ) -> Result<TemporaryKey, Error> {
        if grant.session_token.is_some() {
            let what = "a temporary key cannot ask for a session token".to_owned();
            return Err(Error::AccessDenied { what });
        }
        let seconds = duration(seconds, LONGEST_SESSION, "DurationSeconds is 900 to 129600")?;
        self.temporary_key(grant, None, None, seconds, "sts.getSessionToken", by).await
    }

    async fn temporary_key(
        &self,
        grant: &S3Grant,
        role: Option<(String, String)>,
        session_policy: Option<&str>,
        seconds: u32,
        action: &str,
        by: &Actor,
    ) -> Result<TemporaryKey, Error> {
        let denied = |what: &str| Error::AccessDenied { what: what.to_owned() };
        let asked_by =
            grant.access.as_deref().ok_or_else(|| denied("only an access key can ask for a temporary key"))?;
        if matches!(grant.scope, Scope::Platform(_)) {
            return Err(denied("the key of the platform cannot ask for a temporary key"));
        }
        // What the asking key is now, not what it was when the gate looked.
        let now = crate::now();
        let asking = self.read_grant(asked_by).await?.filter(|asking| !asking.has_ended(now));
        let asking = asking.ok_or_else(|| denied("the key has ended"))?;
        let (parent, mut texts) = if grant.session_token.is_some() {
            let (row, _, _) =
                temporary_keys::find(&self.db, asked_by).await?.ok_or_else(|| denied("the key has ended"))?;
            let texts: Vec<String> = serde_json::from_str(&row.policies)
                .map_err(|_| Error::Damaged { what: "policies of a temporary key" })?;
            (row.parent, texts)
        } else {
            (asked_by.to_owned(), Vec::new())
        };
        texts.extend(session_policy.map(str::to_owned));
        if texts.len() > MOST_POLICIES {
            return Err(Error::TooMany { what: "session policies of a key", limit: MOST_POLICIES });
        }
        let access = format!("{TEMPORARY}{}", random::hex::<14>()?.to_uppercase());
        let (secret, token) = (random::hex::<20>()?, random::hex::<32>()?);
        let expires = now + SignedDuration::from_secs(i64::from(seconds));
        // Or a key of fifteen minutes could be had anew for ever.
        let expires = asking.expires.map_or(expires, |end| end.min(expires));
        let policies = serde_json::to_string(&texts).map_err(|_| Error::Damaged { what: "session policy" })?;
        let row = temporary_keys::TemporaryKey {
            access: access.clone(),
            parent: parent.clone(),
            policies,
            sealed_secret: self.seal_of_project(&grant.project, &secret_context(&access), &secret)?,
            sealed_token: self.seal_of_project(&grant.project, &token_context(&access), &token)?,
            created: now,
            expires,
            role,
        };
        let mut entry = Entry::new(by.clone(), action, format!("project/{}/s3Key/{access}", grant.project));
        entry.detail = serde_json::json!({
            "by": grant.identity, "session": row.role.as_ref().map(|(_, session)| session),
            "policy": session_policy, "seconds": seconds,
        });
        let mut tx = self.db.begin().await?;
        if temporary_keys::count_of(&mut tx, &parent, now).await? >= MOST_OF_A_KEY {
            let limit = usize::try_from(MOST_OF_A_KEY).unwrap_or(usize::MAX);
            return Err(Error::TooMany { what: "temporary keys of a key", limit });
        }
        temporary_keys::insert(&mut tx, &row)
            .await
            .map_err(|fault| if fault.is_dangling() { denied("the key has ended") } else { fault.into() })?;
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        let made = self.find_s3_key(&access).await?.ok_or_else(|| denied("the key has ended"))?;
        Ok(TemporaryKey {
            access,
            secret,
            session_token: token,
            expires: row.expires,
            principal: made.principal.clone(),
        })
    }

    /// Removes temporary keys, tokens and sessions whose time is over; how many there were. Call it from time to time: they are
    /// no longer good before it, too.
    pub async fn remove_expired_s3_keys(&self, now: Timestamp) -> Result<u64, Error> {
        let mut tx = self.db.begin().await?;
        let keys = temporary_keys::delete_expired(&mut tx, now).await?;
        let tokens = db::user_tokens::delete_expired(&mut tx, now).await?;
        let of_clients = db::oauth2::delete_expired_tokens(&mut tx, now).await?;
        let sessions = db::sessions::delete_expired(&mut tx, now, now - crate::sessions::SESSION_IDLE).await?;
        tx.commit().await?;
        Ok(keys + tokens + of_clients + sessions)
    }
}

impl std::fmt::Debug for TemporaryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporaryKey")
            .field("access", &self.access)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

fn duration(seconds: Option<u32>, longest: u32, rule: &'static str) -> Result<u32, Error> {
    let seconds = seconds.unwrap_or(DEFAULT);
    if !(SHORTEST..=longest).contains(&seconds) {
        return Err(Error::Invalid { field: "DurationSeconds", rule });
    }
    Ok(seconds)
}

fn is_session_name(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

/// The role of keys of nobody.
const PROJECT_ROLE: &str = "project";
/// The role of jobs.
const JOB_ROLE: &str = "job";
const SHORTEST: u32 = 900;
const DEFAULT: u32 = 3600;
const LONGEST_ROLE: u32 = 43_200;
const LONGEST_SESSION: u32 = 129_600;
/// Each assumption of a role by a temporary key adds at most one.
const MOST_POLICIES: usize = 8;
const MOST_OF_A_KEY: i64 = 10_000;
