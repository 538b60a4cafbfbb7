//! Identities as the object gate asks for them: joins the two rooms, and holds no rule of its own.

use std::{any::Any, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use audit::Actor;
use identity::{Identity, S3Grant, S3Question};
use jiff::Timestamp;
use model::{BucketName, ProjectId};
use objects::{
    Access, BoxError, Grant, LoggedIn, NotLoggedIn, PolicyKind, Question, Refusal, RoleWish, Scope, TemporaryKey,
    Verdict,
};
use zeroize::Zeroizing;

/// What keys, tokens and policies say.
pub struct KeyAccess(pub Identity);

#[async_trait]
impl Access for KeyAccess {
    async fn grant(&self, access_key: &str) -> Result<Option<Grant>, BoxError> {
        Ok(self.0.find_s3_key(access_key).await?.map(grant_of))
    }

    fn used(&self, grant: &Grant) {
        if let Some(grant) = holder(grant) {
            self.0.note_s3_use(grant);
        }
    }

    async fn token(&self, token: &str) -> Result<Option<Grant>, BoxError> {
        Ok(self.0.find_user_token(token).await?.map(grant_of))
    }

    async fn log_in(&self, user: &str, password: &str, from: Option<IpAddr>) -> Result<LoggedIn, NotLoggedIn> {
        let made = self.0.login_user(user, password, from).await.map_err(|cause| match cause {
            identity::Error::TryLater { seconds } => NotLoggedIn::TryLater { seconds },
            cause => NotLoggedIn::Failed(cause.into()),
        })?;
        let made = made.ok_or(NotLoggedIn::Wrong)?;
        self.describe(&made.token).await.map_err(NotLoggedIn::Failed)?.ok_or(NotLoggedIn::Wrong)
    }

    async fn describe(&self, token: &str) -> Result<Option<LoggedIn>, BoxError> {
        let Some(grant) = self.0.find_user_token(token).await? else { return Ok(None) };
        let (Some(holder), Some(expires)) = (grant.user.clone(), grant.expires) else { return Ok(None) };
        let Some(user) = self.0.user(&grant.project, holder.id).await? else { return Ok(None) };
        Ok(Some(LoggedIn {
            token: Zeroizing::new(token.to_owned()),
            expires,
            grant: grant_of(grant),
            user: user.id,
            username: user.username,
            roles: user.roles,
        }))
    }

    async fn log_out(&self, token: &str, from: Option<IpAddr>) -> Result<(), BoxError> {
        let identity = self.0.find_user_token(token).await?.map(|grant| grant.identity.clone());
        let by = Actor { source_ip: from, identity: identity.unwrap_or_default(), ..Actor::system() };
        self.0.revoke_user_token(token, &by).await?;
        Ok(())
    }

    async fn decide(&self, caller: Option<&Grant>, question: &Question<'_>) -> Verdict {
        let refused = |reason: &str| Verdict { allowed: false, reason: reason.to_owned() };
        let caller = match caller.map(holder) {
            Some(None) => return refused("the key is not of this service"),
            Some(Some(grant)) => Some(grant),
            None => None,
        };
        let policy = match (question.bucket, question.bucket_policy) {
            (Some(bucket), Some(text)) => {
                let read = bucket.parse::<BucketName>().ok();
                let read = read.and_then(|bucket| self.0.bucket_policy(question.project, &bucket, text).ok());
                match read {
                    Some(policy) => Some(policy),
                    // It was checked when it was set; what cannot be read any more opens nothing.
                    None => return refused("the bucket's policy cannot be read"),
                }
            }
            _ => None,
        };
        let question = S3Question {
            project: question.project,
            action: question.action,
            bucket: question.bucket,
            key: question.key,
            bucket_policy: policy.as_deref(),
            context: question.context,
            public_blocked: question.public_blocked,
        };
        match self.0.decide_s3(caller, &question, Timestamp::now()).await {
            Ok(verdict) => Verdict { allowed: verdict.allowed, reason: verdict.reason },
            Err(cause) => {
                tracing::error!(?cause, "a call to the object store could not be decided");
                refused("the account's policies cannot be evaluated")
            }
        }
    }

    fn check_policy(&self, project: &ProjectId, bucket: &BucketName, text: &str) -> Result<PolicyKind, String> {
        let policy = identity::S3Policy::parse_bucket(text, project, bucket).map_err(|cause| cause.to_string())?;
        Ok(PolicyKind { public: policy.is_public() })
    }

    async fn assume_role(&self, caller: &Grant, wish: RoleWish<'_>) -> Result<TemporaryKey, Refusal> {
        let grant = holder(caller).ok_or_else(|| Refusal::Denied("the key is not of this service".to_owned()))?;
        let by = actor(caller);
        let made = self.0.assume_role(grant, wish.role, wish.session, wish.policy, wish.seconds, &by).await;
        made.map(temporary).map_err(refusal)
    }

    async fn session_token(&self, caller: &Grant, seconds: Option<u32>) -> Result<TemporaryKey, Refusal> {
        let grant = holder(caller).ok_or_else(|| Refusal::Denied("the key is not of this service".to_owned()))?;
        self.0.session_token(grant, seconds, &actor(caller)).await.map(temporary).map_err(refusal)
    }
}

fn grant_of(grant: Arc<S3Grant>) -> Grant {
    Grant {
        secret: grant.secret.clone(),
        project: grant.project.clone(),
        identity: grant.identity.clone(),
        principal: grant.principal.clone(),
        scope: match grant.scope {
            identity::Scope::Project => Scope::Project,
            identity::Scope::Job(sandbox) => Scope::Job(sandbox),
            identity::Scope::Platform(sandbox) => Scope::Platform(sandbox),
        },
        session_token: grant.session_token.clone(),
        plain: grant.is_plain(),
        asks_tags: grant.asks_tags(),
        holder: grant as Arc<dyn Any + Send + Sync>,
    }
}

fn holder(grant: &Grant) -> Option<&S3Grant> {
    grant.holder.downcast_ref()
}

fn actor(caller: &Grant) -> Actor {
    Actor { identity: caller.identity.clone(), ..Actor::system() }
}

fn temporary(made: identity::TemporaryKey) -> TemporaryKey {
    TemporaryKey {
        access: made.access,
        secret: made.secret,
        session_token: made.session_token,
        expires: made.expires,
        principal: made.principal,
    }
}

fn refusal(cause: identity::Error) -> Refusal {
    match cause {
        identity::Error::AccessDenied { .. } => Refusal::Denied(cause.to_string()),
        identity::Error::Policy(cause) => Refusal::MalformedPolicy(cause.to_string()),
        identity::Error::Invalid { .. } | identity::Error::TooMany { .. } => Refusal::Invalid(cause.to_string()),
        cause => Refusal::Failed(cause.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// The names of actions that stand in the sources of a directory as texts.
    fn named(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                named(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let texts = text.split('"').filter(|text| identity::is_s3_action(text));
                found.extend(texts.filter_map(|text| text.strip_prefix("s3:")).map(str::to_owned));
            }
        }
    }

    /// A new operation of the object store has to be one that policies of accounts can name.
    #[test]
    fn policies_of_accounts_can_name_each_action_that_the_object_store_asks_about() {
        let mut asked = BTreeSet::new();
        named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../objects/src"), &mut asked);
        let listed: BTreeSet<String> = identity::S3_ACTIONS.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(asked, listed);
    }
}
