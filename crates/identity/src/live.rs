//! All that is good now, in one list, and one way to end any of it.

pub use db::live::Live;

use audit::{Actor, Entry};
use db::live;
use jiff::Timestamp;
use model::AccountId;

use crate::{CredentialStatus, Error, Identity, sessions::SESSION_IDLE};

impl Identity {
    /// What of an account, or all, is good now: consumer keys, service accounts and their tokens, access keys and
    /// temporary ones, tokens of users of a project, set-up links, sessions of the console.
    pub async fn live_credentials(&self, of: Option<&AccountId>) -> Result<Vec<Live>, Error> {
        Ok(live::list(&self.db, of, Timestamp::now(), SESSION_IDLE).await?)
    }

    /// Ends what is listed under this kind and id, at once, with all that was made by it: the keys that a key granted, the
    /// tokens of a service account, the temporary keys of an access key.
    pub async fn revoke(&self, kind: &str, id: &str, by: &Actor) -> Result<(), Error> {
        let absent = || Error::NotFound { kind: "credential", id: format!("{kind}:{id}").chars().take(80).collect() };
        match kind {
            "key" => {
                let number = id.parse().map_err(|_| absent())?;
                let found = self.credential(number).await?.ok_or_else(absent)?;
                if found.status_at(Timestamp::now()) != CredentialStatus::Validated {
                    return Err(absent());
                }
                self.expire_credential(number, by).await
            }
            "client" => {
                let (client, _) = db::oauth2::find(&self.db, id).await?.ok_or_else(absent)?;
                self.delete_client(&client.account, id, by).await
            }
            "console" => {
                let number = id.parse().map_err(|_| absent())?;
                if self.end_session(number, by).await? { Ok(()) } else { Err(absent()) }
            }
            "s3" => {
                let project = live::project_of_key(&self.db, id).await?.ok_or_else(absent)?;
                self.delete_s3_key(&project, id, by).await
            }
            _ => {
                let mut tx = self.db.begin().await?;
                let there = match (kind, beginning(id)) {
                    ("session", _) => live::delete_temporary_key(&mut tx, id).await?,
                    ("token", Some(hash)) => live::delete_tokens(&mut tx, &hash).await?,
                    ("user-token", Some(hash)) => live::delete_user_tokens(&mut tx, &hash).await?,
                    ("setup", Some(hash)) => live::delete_setups(&mut tx, &hash).await?,
                    _ => false,
                };
                if !there {
                    return Err(absent());
                }
                let entry = Entry::new(by.clone(), "credential.revoked", format!("{kind}/{id}"));
                self.audit.record_in(&mut tx, &entry).await?;
                self.commit_grants(tx).await
            }
        }
    }
}

/// The bytes of the id of what is known by its hash alone.
fn beginning(id: &str) -> Option<[u8; 8]> {
    hex::decode(id).ok()?.try_into().ok()
}
