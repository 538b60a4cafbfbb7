//! The provider of an account by OpenID Connect.

use audit::{Actor, Entry};
use jiff::Timestamp;
use model::AccountId;
use zeroize::Zeroizing;

use super::Fault;
use crate::{
    Error, Identity, ProviderKind,
    sso::{no_provider, resource},
};

/// A provider as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcProvider {
    /// What may be chosen.
    pub settings: OidcSettings,
    /// Whether we have a secret there.
    pub has_secret: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// What may be chosen of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcSettings {
    /// Its issuer identifier: an address of https, or of http on this machine.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// What is asked for; `openid` is among it.
    pub scopes: Vec<String>,
    /// The claim of the ID token that names a person.
    pub user_claim: String,
    /// The claim of the ID token that names the groups of a person.
    pub group_claim: String,
    /// Whether users of the account log in by the provider alone.
    pub disable_users: bool,
}

impl Default for OidcSettings {
    fn default() -> OidcSettings {
        OidcSettings {
            issuer: String::new(),
            client_id: String::new(),
            scopes: ["openid", "profile", "email"].map(str::to_owned).to_vec(),
            user_claim: "preferred_username".to_owned(),
            group_claim: "groups".to_owned(),
            disable_users: false,
        }
    }
}

/// What becomes of our secret at a provider.
pub enum ClientSecret {
    /// It stays what it is.
    Keep,
    /// This takes its place.
    Set(Zeroizing<String>),
    /// There is none: a public client, which has PKCE alone.
    Remove,
}

impl Identity {
    /// Gives an account its provider of single sign-on by OpenID Connect. An account has one. The provider is asked for its
    /// metadata; if it does not answer as it should, nothing is made ([`Error::Provider`]).
    pub async fn create_oidc_provider(
        &self,
        account: &AccountId,
        settings: OidcSettings,
        secret: ClientSecret,
        by: &Actor,
    ) -> Result<OidcProvider, Error> {
        check(&settings)?;
        let sealed_secret = self.sealed(account, secret, None)?;
        self.ask(&settings.issuer).await?;
        let row = row(account, &settings, sealed_secret);
        let mut tx = self.db.begin().await?;
        let provider =
            self.insert_provider(&mut tx, account, ProviderKind::Oidc, settings.disable_users, crate::now()).await?;
        db::oidc::put(&mut tx, &row).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.provider.created", &row, &provider, &[])).await?;
        tx.commit().await?;
        Ok(describe(row, &provider))
    }

    /// The provider of an account, if it is one by OpenID Connect.
    pub async fn oidc_provider(&self, account: &AccountId) -> Result<Option<OidcProvider>, Error> {
        let provider = db::sso::find(&self.db, account.as_str()).await?;
        let row = db::oidc::find(&self.db, account).await?;
        Ok(row.zip(provider).map(|(row, provider)| describe(row, &provider)))
    }

    /// Changes the provider of an account, ends the sessions of all for whom it vouched, and gives up log-ins that were
    /// begun. With another issuer the secret has to be given too: the old one is not sent to somebody else.
    pub async fn change_oidc_provider(
        &self,
        account: &AccountId,
        settings: OidcSettings,
        secret: ClientSecret,
        by: &Actor,
    ) -> Result<OidcProvider, Error> {
        check(&settings)?;
        let old = db::oidc::find(&self.db, account).await?.ok_or_else(|| no_provider(account))?;
        let is_elsewhere = old.issuer != settings.issuer;
        if is_elsewhere && old.sealed_secret.is_some() && matches!(secret, ClientSecret::Keep) {
            let rule = "needed with another issuer: the secret is not sent to somebody else (null: a public client)";
            return Err(Error::Invalid { field: "clientSecret", rule });
        }
        self.ask(&settings.issuer).await?;
        let mut tx = self.db.begin().await?;
        let mut provider = self.provider_in(&mut tx, account, ProviderKind::Oidc).await?;
        let now = db::oidc::find_in(&mut tx, account).await?.filter(|now| now.issuer == old.issuer);
        // Changed by another call meanwhile.
        let old = now.ok_or(Error::InUse { what: "the identity provider was changed meanwhile" })?;
        let row = row(account, &settings, self.sealed(account, secret, old.sealed_secret)?);
        (provider.disable_users, provider.updated) = (settings.disable_users, crate::now());
        db::sso::update(&mut tx, &provider).await?;
        db::oidc::put(&mut tx, &row).await?;
        let ended = self.end_what_rests_on_provider(&mut tx, account).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.provider.changed", &row, &provider, &ended)).await?;
        tx.commit().await?;
        Ok(describe(row, &provider))
    }

    /// Takes the provider of an account away, and ends the sessions of all for whom it vouched.
    pub async fn delete_oidc_provider(&self, account: &AccountId, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let provider = self.provider_in(&mut tx, account, ProviderKind::Oidc).await?;
        let row = db::oidc::find_in(&mut tx, account).await?.ok_or_else(|| no_provider(account))?;
        db::sso::delete(&mut tx, account).await?;
        let ended = self.end_what_rests_on_provider(&mut tx, account).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.provider.deleted", &row, &provider, &ended)).await?;
        Ok(tx.commit().await?)
    }

    /// Our secret at a provider.
    pub(super) fn secret_at(&self, row: &db::oidc::Provider) -> Result<Option<Zeroizing<String>>, Error> {
        let sealed = row.sealed_secret.as_deref();
        sealed.map(|sealed| self.open_of_account(&row.account, SECRET, sealed)).transpose()
    }

    async fn ask(&self, issuer: &str) -> Result<(), Error> {
        let asked = self.oidc.discover(issuer).await;
        asked.map_err(|fault: Fault| Error::Provider { field: "issuer", what: fault.told() })?;
        Ok(())
    }

    fn sealed(
        &self,
        account: &AccountId,
        secret: ClientSecret,
        old: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        match secret {
            ClientSecret::Keep => Ok(old),
            ClientSecret::Remove => Ok(None),
            ClientSecret::Set(secret) => {
                if secret.is_empty() || secret.len() > 1024 || secret.chars().any(char::is_control) {
                    let rule = "1 to 1024 bytes without control characters";
                    return Err(Error::Invalid { field: "clientSecret", rule });
                }
                self.seal_of_account(account, SECRET, &secret).map(Some)
            }
        }
    }
}

impl std::fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ClientSecret::Keep => "Keep",
            ClientSecret::Set(_) => "Set",
            ClientSecret::Remove => "Remove",
        })
    }
}

fn check(settings: &OidcSettings) -> Result<(), Error> {
    const TEXT: &str = "1 to 256 bytes without control characters";
    let good = |text: &str| !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control);
    for (field, text) in
        [("clientId", &settings.client_id), ("userClaim", &settings.user_claim), ("groupClaim", &settings.group_claim)]
    {
        if !good(text) {
            return Err(Error::Invalid { field, rule: TEXT });
        }
    }
    // <https://www.rfc-editor.org/rfc/rfc6749#section-3.3>
    let is_scope = |scope: &String| {
        !scope.is_empty()
            && scope.len() <= 256
            && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    let scopes = &settings.scopes;
    if scopes.len() > 20 || !scopes.iter().all(is_scope) || !scopes.iter().any(|scope| scope == "openid") {
        let rule = "at most 20, each of ASCII without space, quote and backslash; 'openid' is among them";
        return Err(Error::Invalid { field: "scopes", rule });
    }
    Ok(())
}

fn row(account: &AccountId, settings: &OidcSettings, sealed_secret: Option<Vec<u8>>) -> db::oidc::Provider {
    db::oidc::Provider {
        account: account.clone(),
        issuer: settings.issuer.clone(),
        client_id: settings.client_id.clone(),
        sealed_secret,
        scopes: settings.scopes.join(" "),
        user_claim: settings.user_claim.clone(),
        group_claim: settings.group_claim.clone(),
    }
}

fn describe(row: db::oidc::Provider, provider: &db::sso::Provider) -> OidcProvider {
    OidcProvider {
        settings: OidcSettings {
            issuer: row.issuer,
            client_id: row.client_id,
            scopes: row.scopes.split(' ').map(str::to_owned).collect(),
            user_claim: row.user_claim,
            group_claim: row.group_claim,
            disable_users: provider.disable_users,
        },
        has_secret: row.sealed_secret.is_some(),
        created: provider.created,
        updated: provider.updated,
    }
}

fn entry(by: &Actor, action: &str, row: &db::oidc::Provider, provider: &db::sso::Provider, ended: &[i64]) -> Entry {
    let mut entry = Entry::new(by.clone(), action, resource(&row.account));
    entry.detail = serde_json::json!({
        "kind": ProviderKind::Oidc.as_str(),
        "issuer": row.issuer,
        "clientId": row.client_id,
        "scopes": row.scopes,
        "userClaim": row.user_claim,
        "groupClaim": row.group_claim,
        "disableUsers": provider.disable_users,
        "sessionsEnded": ended,
    });
    entry
}

const SECRET: &str = "oidc.client.secret";
