//! Log-ins by OpenID Connect: begun here, answered by the provider through the browser in which they were begun, once.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use model::AccountId;
use serde::{Deserialize, Serialize};

use super::{
    Fault,
    client::{Exchange, word},
    token::{self, Expected, SignedBy},
};
use crate::{
    Error, Identity, ProviderKind, SsoBegun, SsoOutcome, SsoStart, SsoVisitor, random,
    sso::{Assertion, no_provider, state::NOT_BEGUN},
};

/// What came back from a provider: the parameters of its answer, empty where there are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct OidcAnswer<'a> {
    /// `state`.
    pub state: &'a str,
    /// `code`.
    pub code: &'a str,
    /// `error`.
    pub error: &'a str,
    /// `iss` (RFC 9207).
    pub issuer: &'a str,
}

/// What is kept of a log-in that was begun, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    nonce: String,
    verifier: String,
    redirect: String,
    back: String,
}

impl Identity {
    pub(crate) async fn begin_oidc(
        &self,
        account: &AccountId,
        base_url: &str,
        back: &str,
        from: Option<IpAddr>,
    ) -> Result<SsoStart, Error> {
        let row = db::oidc::find(&self.db, account).await?.ok_or_else(|| no_provider(account))?;
        let metadata = match self.oidc.metadata(&row.issuer).await {
            Ok(metadata) => metadata,
            Err(fault) => {
                let visitor = SsoVisitor { browser: "", from, user_agent: "" };
                let why = fault.told();
                self.refuse_federated(Some(account), ProviderKind::Oidc, &why, &visitor).await?;
                return Ok(SsoStart::Refused(why));
            }
        };
        let state = random::hex::<32>()?;
        let kept = Kept {
            nonce: random::hex::<32>()?.to_string(),
            verifier: random::hex::<32>()?.to_string(),
            redirect: format!("{}{OIDC_CALLBACK}", base_url.trim_end_matches('/')),
            back: back.to_owned(),
        };
        let data = serde_json::to_string(&kept).map_err(|_| Error::Damaged { what: "log-in" })?;
        let browser = self.keep_sso_state(account, ProviderKind::Oidc, &state, &data, from).await?;
        let mut url = metadata.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &row.client_id)
            .append_pair("redirect_uri", &kept.redirect)
            .append_pair("scope", &row.scopes)
            .append_pair("state", &state)
            .append_pair("nonce", &kept.nonce)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(random::sha256(&kept.verifier)))
            .append_pair("code_challenge_method", "S256");
        Ok(SsoStart::Begun(SsoBegun { url: url.into(), browser, kind: ProviderKind::Oidc }))
    }

    /// Takes the answer of a provider at `now`. Whatever it says, the log-in that it answers is over; but only the browser in
    /// which that was begun can end it.
    pub async fn finish_oidc(
        &self,
        answer: &OidcAnswer<'_>,
        visitor: &SsoVisitor<'_>,
        now: Timestamp,
    ) -> Result<SsoOutcome, Error> {
        const KIND: ProviderKind = ProviderKind::Oidc;
        let Some((account, data)) = self.take_sso_state(KIND, answer.state, visitor.browser, now).await? else {
            return self.refuse_federated(None, KIND, NOT_BEGUN, visitor).await;
        };
        let kept: Kept = serde_json::from_str(&data).map_err(|_| Error::Damaged { what: "log-in" })?;
        let Some(row) = db::oidc::find(&self.db, &account).await? else {
            return self.refuse_federated(Some(&account), KIND, NOT_BEGUN, visitor).await;
        };
        match self.read_answer(&row, &kept, answer, now).await? {
            Ok(said) => self.admit_federated(&account, KIND, said, &kept.back, now, visitor).await,
            Err(fault) => self.refuse_federated(Some(&account), KIND, &fault.told(), visitor).await,
        }
    }

    async fn read_answer(
        &self,
        row: &db::oidc::Provider,
        kept: &Kept,
        answer: &OidcAnswer<'_>,
        now: Timestamp,
    ) -> Result<Result<Assertion, Fault>, Error> {
        let secret = self.secret_at(row)?;
        let exchange = Exchange {
            client_id: &row.client_id,
            secret: secret.as_ref().map(|secret| secret.as_str()),
            code: answer.code,
            verifier: &kept.verifier,
            redirect: &kept.redirect,
        };
        Ok(self.said(row, kept, answer, &exchange, now).await)
    }

    async fn said(
        &self,
        row: &db::oidc::Provider,
        kept: &Kept,
        answer: &OidcAnswer<'_>,
        exchange: &Exchange<'_>,
        now: Timestamp,
    ) -> Result<Assertion, Fault> {
        let metadata = self.oidc.metadata(&row.issuer).await?;
        let is_named = !answer.issuer.is_empty();
        if (is_named && answer.issuer != row.issuer) || (metadata.names_itself && !is_named) {
            return Err(Fault::MixedUp);
        }
        if !answer.error.is_empty() {
            return Err(Fault::Answered(word(answer.error)));
        }
        if answer.code.is_empty() || answer.code.len() > LONGEST_CODE {
            return Err(Fault::NoCode);
        }
        let token = self.oidc.id_token(&metadata, exchange).await?;
        let by = SignedBy::read(&token)?;
        let keys = self.oidc.keys(&row.issuer, &metadata, |key| by.suits(key)).await?;
        let expected = Expected {
            issuer: &row.issuer,
            client_id: &row.client_id,
            nonce_hash: &random::sha256(&kept.nonce),
            user_claim: &row.user_claim,
            group_claim: &row.group_claim,
            now,
        };
        token::read(&token, &by, &keys, &expected)
    }
}

/// Where answers come to, below the address of the service: a provider has to know it as our redirect URI.
pub const OIDC_CALLBACK: &str = "/console/sso/oidc/callback";
const LONGEST_CODE: usize = 4096;
