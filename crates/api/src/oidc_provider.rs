//! `/me/identity/provider/oidc`: the provider of single sign-on of the account, by OpenID Connect. The old service had SAML
//! alone; this is its neighbour.

use identity::{ClientSecret, OIDC_CALLBACK, OidcProvider, OidcSettings};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    ApiError,
    request::{Call, Reply},
    sso::may_choose_provider,
};

/// What may be chosen; what is absent stays as it is, or as it is by itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    issuer: Option<String>,
    client_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    client_secret: Option<Option<String>>,
    scopes: Option<Vec<String>>,
    user_claim: Option<String>,
    group_claim: Option<String>,
    disable_users: Option<bool>,
}

impl Body {
    fn over(self, mut settings: OidcSettings) -> (OidcSettings, ClientSecret) {
        settings.issuer = self.issuer.unwrap_or(settings.issuer);
        settings.client_id = self.client_id.unwrap_or(settings.client_id);
        settings.scopes = self.scopes.unwrap_or(settings.scopes);
        settings.user_claim = self.user_claim.unwrap_or(settings.user_claim);
        settings.group_claim = self.group_claim.unwrap_or(settings.group_claim);
        settings.disable_users = self.disable_users.unwrap_or(settings.disable_users);
        let secret = match self.client_secret {
            None => ClientSecret::Keep,
            Some(None) => ClientSecret::Remove,
            Some(Some(secret)) => ClientSecret::Set(Zeroizing::new(secret)),
        };
        (settings, secret)
    }
}

/// The provider.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe(&call, &find(&call).await?))
}

/// Gives the account its provider.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    may_choose_provider(&call)?;
    let (settings, secret) = call.json::<Body>()?.over(OidcSettings::default());
    let account = &call.caller()?.account;
    let made = call.api.identity.create_oidc_provider(account, settings, secret, &call.actor()).await?;
    Reply::json(&describe(&call, &made))
}

/// Changes the provider.
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    may_choose_provider(&call)?;
    let (settings, secret) = call.json::<Body>()?.over(find(&call).await?.settings);
    let account = &call.caller()?.account;
    call.api.identity.change_oidc_provider(account, settings, secret, &call.actor()).await?;
    Reply::void()
}

/// Takes the provider away.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    may_choose_provider(&call)?;
    call.api.identity.delete_oidc_provider(&call.caller()?.account, &call.actor()).await?;
    Reply::void()
}

async fn find(call: &Call) -> Result<OidcProvider, ApiError> {
    let account = &call.caller()?.account;
    let found = call.api.identity.oidc_provider(account).await?;
    found.ok_or_else(|| ApiError::not_found("identity provider", account.as_str()))
}

fn describe(call: &Call, provider: &OidcProvider) -> Value {
    let settings = &provider.settings;
    json!({
        "issuer": settings.issuer,
        "clientId": settings.client_id,
        "hasClientSecret": provider.has_secret,
        "scopes": settings.scopes,
        "userClaim": settings.user_claim,
        "groupClaim": settings.group_claim,
        "disableUsers": settings.disable_users,
        "redirectUri": format!("{}{OIDC_CALLBACK}", call.base_url.trim_end_matches('/')),
        "creation": provider.created,
        "lastUpdate": provider.updated,
    })
}

/// A field that may be null, which is another thing than to be absent.
fn given<'d, D: Deserializer<'d>>(field: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(field).map(Some)
}
