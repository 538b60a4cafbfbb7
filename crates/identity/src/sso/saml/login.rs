//! Log-ins by SAML: begun here, answered by the provider through the browser in which they were begun, once.

use std::net::IpAddr;

use jiff::Timestamp;
use model::AccountId;

use super::{
    Refused,
    provider::{self, Subject},
    request,
};
use crate::{
    Error, Identity, ProviderKind, SsoBegun, SsoOutcome, SsoStart, SsoVisitor, random,
    sso::{Assertion, state::NOT_BEGUN},
};

/// What a log-in keeps until it is answered.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    /// The id of the request.
    request: String,
    /// The path of the console to go on at.
    back: String,
}

impl Identity {
    /// Begins a log-in at the provider of an account, which is one of SAML. `back`: a path that was checked.
    pub(crate) async fn begin_saml(
        &self,
        account: &AccountId,
        base_url: &str,
        back: &str,
        from: Option<IpAddr>,
    ) -> Result<SsoStart, Error> {
        let Some(row) = db::saml::find(&self.db, account).await? else { return Ok(SsoStart::NoProvider) };
        let read = provider::stored(&row)?;
        if let Some(until) = read.valid_until.filter(|until| *until <= crate::now()) {
            return Ok(SsoStart::Refused(Refused::Metadata(until).to_string()));
        }
        let (us, id, state) = (provider::places(base_url, account), request::new_id()?, random::hex::<32>()?);
        let kept =
            serde_json::to_string(&Kept { request: id.clone(), back: back.to_owned() }).map_err(|_| damaged())?;
        let key = match row.sign_requests || read.wants_signed_requests {
            true => Some(self.keys.open_for_account(account, provider::KEY, &row.sealed_key)?),
            false => None,
        };
        let relay_state = state.clone();
        // A signature by RSA takes milliseconds, in which other calls would wait.
        let signing = tokio::task::spawn_blocking(move || {
            let key = key.as_ref().map(|key| key.as_slice());
            request::redirect(&read.service, &id, &us, &relay_state, key, crate::now())
        });
        let url = signing.await.map_err(|_| damaged())??;
        let browser = self.keep_sso_state(account, ProviderKind::Saml, &state, &kept, from).await?;
        Ok(SsoStart::Begun(SsoBegun { url, browser, kind: ProviderKind::Saml }))
    }

    /// Takes the answer of a provider at `now`. Whatever it says, the log-in that it answers is over. `state`: the form field
    /// `RelayState`; `response`: `SAMLResponse`; `base_url`: where browsers reach this service.
    pub async fn finish_saml(
        &self,
        state: &str,
        response: &str,
        base_url: &str,
        visitor: &SsoVisitor<'_>,
        now: Timestamp,
    ) -> Result<SsoOutcome, Error> {
        let kind = ProviderKind::Saml;
        let Some((account, kept)) = self.take_sso_state(kind, state, visitor.browser, now).await? else {
            return self.refuse_federated(None, kind, NOT_BEGUN, visitor).await;
        };
        let kept: Kept = serde_json::from_str(&kept).map_err(|_| damaged())?;
        let Subject { name, groups, assertion, until, session_until } =
            match self.read_saml(&account, base_url, &kept.request, response, now).await? {
                Ok(subject) => subject,
                Err(refused) => {
                    return self.refuse_federated(Some(&account), kind, &refused.to_string(), visitor).await;
                }
            };
        let mut tx = self.db.begin().await?;
        let is_new = db::saml::use_assertion(&mut tx, &account, &assertion, until, now).await?;
        tx.commit().await?;
        if !is_new {
            return self.refuse_federated(Some(&account), kind, "the answer was used already", visitor).await;
        }
        self.admit_federated(&account, kind, Assertion { name, groups, until: session_until }, &kept.back, now, visitor)
            .await
    }
}

fn damaged() -> Error {
    Error::Damaged { what: "log-in that was begun" }
}
