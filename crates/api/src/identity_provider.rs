//! `/me/identity/provider`: the provider of single sign-on of the account, by SAML 2.0.

use identity::{SamlExtensions, SamlProvider, SamlSettings};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
    sso::may_choose_provider,
};

/// What may be chosen; what is absent stays as it is, or as it is by itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    metadata: Option<String>,
    user_attribute_name: Option<String>,
    group_attribute_name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    extensions: Option<Option<SamlExtensions>>,
    disable_users: Option<bool>,
    sign_requests: Option<bool>,
}

impl Body {
    fn over(self, mut settings: SamlSettings) -> (Option<String>, SamlSettings) {
        settings.user_attribute = self.user_attribute_name.unwrap_or(settings.user_attribute);
        settings.group_attribute = self.group_attribute_name.unwrap_or(settings.group_attribute);
        settings.extensions = self.extensions.unwrap_or(settings.extensions);
        settings.disable_users = self.disable_users.unwrap_or(settings.disable_users);
        settings.sign_requests = self.sign_requests.unwrap_or(settings.sign_requests);
        (self.metadata, settings)
    }
}

/// The provider.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe(&find(&call).await?))
}

/// Gives the account its provider.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    may_choose_provider(&call)?;
    let (metadata, settings) = call.json::<Body>()?.over(SamlSettings::default());
    let metadata = metadata.ok_or_else(|| ApiError::bad_field("metadata", "needed: XML, or an https address of it"))?;
    let account = &call.caller()?.account;
    let made = call.api.identity.create_saml_provider(account, &metadata, settings, &call.actor()).await?;
    Reply::json(&describe(&made))
}

/// Changes the provider; with `metadata`, which the old service had not here, what it says of itself too.
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    may_choose_provider(&call)?;
    let old = find(&call).await?;
    let (metadata, settings) = call.json::<Body>()?.over(old.settings);
    let account = &call.caller()?.account;
    call.api.identity.change_saml_provider(account, metadata.as_deref(), settings, &call.actor()).await?;
    Reply::void()
}

/// Takes the provider away.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    may_choose_provider(&call)?;
    call.api.identity.delete_saml_provider(&call.caller()?.account, &call.actor()).await?;
    Reply::void()
}

async fn find(call: &Call) -> Result<SamlProvider, ApiError> {
    let account = &call.caller()?.account;
    let found = call.api.identity.saml_provider(account).await?;
    found.ok_or_else(|| ApiError::not_found("identity provider", account.as_str()))
}

fn describe(provider: &SamlProvider) -> Value {
    let settings = &provider.settings;
    let certificates = provider.certificates.iter();
    json!({
        "creation": provider.created,
        "lastUpdate": provider.updated,
        "ssoServiceUrl": provider.service,
        "idpSigningCertificates": certificates
            .map(|one| json!({ "subject": one.subject, "expiration": one.expires }))
            .collect::<Vec<_>>(),
        "userAttributeName": settings.user_attribute,
        "groupAttributeName": settings.group_attribute,
        "extensions": settings.extensions,
        "disableUsers": settings.disable_users,
        "signRequests": settings.sign_requests,
    })
}

/// A field that may be null, which is another thing than to be absent.
fn given<'d, D: Deserializer<'d>>(field: D) -> Result<Option<Option<SamlExtensions>>, D::Error> {
    Option::deserialize(field).map(Some)
}
