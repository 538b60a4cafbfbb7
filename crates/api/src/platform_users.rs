//! Users of a project by which the service itself acts for it. Each is found by its description, which says what it is
//! for; removing it ends what was given out by it.

use identity::Identity;
use model::ProjectId;

use crate::{ApiError, request::Call};

/// Signs URLs.
pub(crate) const SIGNER: &str = "Signs the presigned URLs of the API";
/// Holds tokens.
pub(crate) const HOLDER: &str = "Holds the tokens that the API gives for the storage";
/// All of them; no caller can make a user of that description.
pub(crate) const PURPOSES: [&str; 2] = [SIGNER, HOLDER];

/// An access key, to sign with.
pub(crate) struct SigningKey {
    pub access: String,
    pub secret: String,
}

/// The user of the call's project that is for `purpose`, made if there is none.
pub(crate) async fn user(call: &Call, purpose: &str) -> Result<i64, ApiError> {
    let (identity, project) = (&call.api.identity, &call.project()?.id);
    if let Some(user) = find(identity, project, purpose).await? {
        return Ok(user);
    }
    // Of two calls that both find none, each makes one, and the later takes its own away again.
    let made = identity.create_user(project, purpose, &call.actor()).await?;
    let first = find(identity, project, purpose).await?.unwrap_or(made.id);
    if first != made.id {
        identity.delete_user(project, made.id, &call.actor()).await?;
    }
    Ok(first)
}

/// The key that the URLs of the call's project are signed with. No key that signed a URL is ever taken away here; one
/// that was disabled signs no more.
pub(crate) async fn signing_key(call: &Call) -> Result<SigningKey, ApiError> {
    let (identity, project) = (&call.api.identity, &call.project()?.id);
    for _ in 0..3 {
        let user = user(call, SIGNER).await?;
        let access = match first_key(identity, project, user).await? {
            Some(access) => access,
            None => {
                let made = identity.create_s3_key(project, Some(user), &call.actor()).await?;
                let first = first_key(identity, project, user).await?.unwrap_or_else(|| made.access.clone());
                if first != made.access {
                    identity.delete_s3_key(project, &made.access, &call.actor()).await?;
                }
                first
            }
        };
        // Gone again only if somebody removed or disabled it meanwhile.
        if let Some(grant) = identity.find_s3_key(&access).await? {
            return Ok(SigningKey { access, secret: grant.secret.to_string() });
        }
    }
    Err(ApiError::unavailable())
}

async fn find(identity: &Identity, project: &ProjectId, purpose: &str) -> Result<Option<i64>, ApiError> {
    let users = identity.users(project).await?;
    Ok(users.into_iter().find(|user| user.description == purpose).map(|user| user.id))
}

async fn first_key(identity: &Identity, project: &ProjectId, user: i64) -> Result<Option<String>, ApiError> {
    let keys = identity.s3_keys(project, Some(user)).await?;
    Ok(keys.into_iter().find(|key| key.enabled).map(|key| key.access))
}
