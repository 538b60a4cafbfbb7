//! Secrets as they are stored: sealed by the key of the account or project that they belong to, for one place only.

use model::{AccountId, ProjectId};
use zeroize::Zeroizing;

use crate::{Error, Identity};

impl Identity {
    pub(crate) fn seal_of_account(&self, account: &AccountId, context: &str, secret: &str) -> Result<Vec<u8>, Error> {
        Ok(self.keys.seal_for_account(account, context, secret.as_bytes())?)
    }

    pub(crate) fn open_of_account(
        &self,
        account: &AccountId,
        context: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, Error> {
        text(self.keys.open_for_account(account, context, sealed)?)
    }

    pub(crate) fn seal_of_project(&self, project: &ProjectId, context: &str, secret: &str) -> Result<Vec<u8>, Error> {
        Ok(self.keys.seal(project, context, secret.as_bytes())?)
    }

    pub(crate) fn open_of_project(
        &self,
        project: &ProjectId,
        context: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, Error> {
        text(self.keys.open_sealed(project, context, sealed)?)
    }
}

fn text(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, Error> {
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::Damaged { what: "secret" })?;
    Ok(Zeroizing::new(text.to_owned()))
}
