//! Single sign-on: providers that vouch for people of an account. What all kinds of providers share is here: that an account
//! has one, log-ins that are begun in a browser and answered there once, and what groups a person must be in.

mod oidc;
mod place;
mod saml;
mod state;

pub(crate) use oidc::Client as OidcClient;
pub use oidc::{ClientSecret, OIDC_CALLBACK, OidcAnswer, OidcProvider, OidcSettings};
pub(crate) use place::Reach;
#[cfg(fuzzing)]
pub use saml::saml_response;
pub use saml::{NAME_ID, RequestedAttribute, SamlExtensions, SamlProvider, SamlSettings, SigningCertificate};
pub use state::SSO_TIME;

use std::{net::IpAddr, sync::Arc};

use audit::{Actor, Entry};
use jiff::Timestamp;
use model::AccountId;
use zeroize::Zeroizing;

use crate::{Error, Identity, accounts::exists, sessions::federated_identity};

/// How a provider vouches for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenID Connect.
    Oidc,
    /// SAML 2.0.
    Saml,
}

impl ProviderKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            ProviderKind::Oidc => "OIDC",
            ProviderKind::Saml => "SAML",
        }
    }

    fn parse(word: &str) -> Result<ProviderKind, Error> {
        let known = [ProviderKind::Oidc, ProviderKind::Saml].into_iter().find(|kind| kind.as_str() == word);
        known.ok_or(Error::Damaged { what: "kind of an identity provider" })
    }
}

/// A log-in that was begun.
pub struct SsoBegun {
    /// Where the browser is sent.
    pub url: String,
    /// What its cookie holds, so that the answer is taken from this browser alone: 64 hexadecimal digits.
    pub browser: Zeroizing<String>,
    /// How the answer will come.
    pub kind: ProviderKind,
}

/// What came of the wish to begin a log-in.
#[derive(Debug)]
pub enum SsoStart {
    /// The browser goes on to the provider.
    Begun(SsoBegun),
    /// There is no such account, or it has no provider.
    NoProvider,
    /// The provider cannot be used now; why, for the person and its administrator.
    Refused(String),
}

/// Whom an answer came from.
#[derive(Debug, Clone, Copy)]
pub struct SsoVisitor<'a> {
    /// What the browser's cookie holds; empty if it has none.
    pub browser: &'a str,
    /// From where it came.
    pub from: Option<IpAddr>,
    /// By which program.
    pub user_agent: &'a str,
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SsoOutcome {
    /// The provider vouches for this person.
    In(FederatedPerson),
    /// Nobody is let in; why, for the person and its administrator.
    Refused(String),
}

/// A person that a provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedPerson {
    /// The account.
    pub account: AccountId,
    /// What the provider calls it.
    pub name: String,
    /// Its groups that the account has; one at least.
    pub groups: Vec<String>,
    /// Where in the console it goes on: a relative path.
    pub back: String,
    /// When its answer came: a provider that was changed after that vouches for nobody.
    pub since: Timestamp,
    /// Until when its session may last by the word of the provider, if it gave one.
    pub until: Option<Timestamp>,
}

/// What a provider said of a person, after all that proves it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assertion {
    /// What the provider calls it.
    pub name: String,
    /// The groups that it names, as it names them.
    pub groups: Vec<String>,
    /// Until when a session may last by its word, if it gave one.
    pub until: Option<Timestamp>,
}

impl Identity {
    /// The same, with providers of accounts in private networks and on this machine: without it, this service calls none
    /// there.
    pub fn with_private_providers(mut self) -> Identity {
        self.reach = Reach::Everywhere;
        self.oidc = Arc::new(OidcClient::new(self.reach));
        self
    }

    /// Begins a log-in at the provider of an account, whatever its kind. `base_url`: where browsers reach this service.
    /// `back`: the path of the console to go on at; another is taken for [`CONSOLE`]. `from`: where the browser is.
    pub async fn begin_sso(
        &self,
        account: &str,
        base_url: &str,
        back: &str,
        from: Option<IpAddr>,
    ) -> Result<SsoStart, Error> {
        let Ok(account) = account.parse::<AccountId>() else { return Ok(SsoStart::NoProvider) };
        let Some(provider) = db::sso::find(&self.db, account.as_str()).await? else { return Ok(SsoStart::NoProvider) };
        let back = state::checked_path(back);
        match ProviderKind::parse(&provider.kind)? {
            ProviderKind::Oidc => self.begin_oidc(&account, base_url, back, from).await,
            ProviderKind::Saml => self.begin_saml(&account, base_url, back, from).await,
        }
    }

    /// Lets users of an account log in by themselves again, whatever was chosen; whether they could not. For the operator.
    pub async fn enable_users(&self, account: &AccountId, by: &Actor) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let provider = db::sso::find_in(&mut tx, account).await?;
        let Some(mut provider) = provider.filter(|provider| provider.disable_users) else { return Ok(false) };
        (provider.disable_users, provider.updated) = (false, crate::now());
        db::sso::update(&mut tx, &provider).await?;
        let entry = Entry::new(by.clone(), "account.provider.usersEnabled", resource(account));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Whether users of an account log in by its provider alone.
    pub(crate) async fn are_users_disabled(&self, account: &AccountId) -> Result<bool, Error> {
        let provider = db::sso::find(&self.db, account.as_str()).await?;
        Ok(provider.is_some_and(|provider| provider.disable_users))
    }

    /// Gives an account its provider, in the transaction that writes what its kind has beside. A second one is
    /// [`Error::Exists`].
    pub(crate) async fn insert_provider(
        &self,
        tx: &mut db::Tx,
        account: &AccountId,
        kind: ProviderKind,
        disable_users: bool,
        now: Timestamp,
    ) -> Result<db::sso::Provider, Error> {
        let kind = kind.as_str().to_owned();
        let provider = db::sso::Provider { account: account.clone(), kind, disable_users, created: now, updated: now };
        let inserted = db::sso::insert(tx, &provider).await;
        inserted.map_err(|fault| exists(fault, "identity provider", account.as_str()))?;
        Ok(provider)
    }

    /// The provider of an account, if it is of that kind, in a transaction that is to change it.
    pub(crate) async fn provider_in(
        &self,
        tx: &mut db::Tx,
        account: &AccountId,
        kind: ProviderKind,
    ) -> Result<db::sso::Provider, Error> {
        let provider = db::sso::find_in(tx, account).await?.filter(|provider| provider.kind == kind.as_str());
        provider.ok_or_else(|| no_provider(account))
    }

    /// In the transaction that changes or removes a provider: log-ins that were begun at it as it was are given up, and the
    /// sessions of all for whom it vouched end. Their numbers, for the audit entry.
    pub(crate) async fn end_what_rests_on_provider(
        &self,
        tx: &mut db::Tx,
        account: &AccountId,
    ) -> Result<Vec<i64>, Error> {
        db::sso::delete_states(tx, account).await?;
        self.end_federated_sessions(tx, account).await
    }

    /// Whether a person that a provider vouches for may come in: by its groups and by where it is. Writes the audit entry,
    /// and leaves it to the caller to open the session.
    pub(crate) async fn admit_federated(
        &self,
        account: &AccountId,
        kind: ProviderKind,
        said: Assertion,
        back: &str,
        since: Timestamp,
        visitor: &SsoVisitor<'_>,
    ) -> Result<SsoOutcome, Error> {
        let groups = self.groups(account).await?.into_iter().map(|group| group.name);
        let groups: Vec<String> = groups.filter(|group| said.groups.contains(group)).collect();
        if groups.is_empty() {
            return self.refuse_federated(Some(account), kind, NOT_IN_GROUPS, visitor).await;
        }
        if !self.reached_from(account, visitor.from).await? {
            let why = "the account does not let that address in";
            return self.refuse_federated(Some(account), kind, why, visitor).await;
        }
        let by = Actor {
            account: Some(account.clone()),
            identity: federated_identity(&said.name),
            source_ip: visitor.from,
            request_id: None,
        };
        let mut entry = Entry::new(by, "account.user.loggedIn", resource(account));
        entry.detail = serde_json::json!({
            "type": "LOGIN_SUCCESS",
            "authDetails": { "userDetails": { "type": "PROVIDER", "user": said.name } },
            "loginSuccessDetails": { "mfaType": "UNKNOWN", "userAgent": cut(visitor.user_agent) },
            "kind": kind.as_str(),
            "groups": groups,
        });
        self.audit.record(entry).await?;
        Ok(SsoOutcome::In(FederatedPerson {
            account: account.clone(),
            name: said.name,
            groups,
            back: back.to_owned(),
            since,
            until: said.until,
        }))
    }

    /// Lets nobody in, and writes why into the audit log.
    pub(crate) async fn refuse_federated(
        &self,
        account: Option<&AccountId>,
        kind: ProviderKind,
        why: &str,
        visitor: &SsoVisitor<'_>,
    ) -> Result<SsoOutcome, Error> {
        let by = Actor { account: account.cloned(), ..Actor::anonymous(visitor.from) };
        let mut entry = Entry::new(by, "account.user.loginFailed", account.map_or("login".to_owned(), resource));
        entry.decision = audit::Decision::Refused;
        "refused".clone_into(&mut entry.result);
        entry.detail = serde_json::json!({
            "reason": why,
            "authDetails": { "userDetails": { "type": "PROVIDER", "user": null } },
            "kind": kind.as_str(),
            "userAgent": cut(visitor.user_agent),
        });
        self.audit.record(entry).await?;
        Ok(SsoOutcome::Refused(why.to_owned()))
    }
}

impl std::fmt::Debug for SsoBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SsoBegun").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The provider of an account, as the audit log names it.
pub(crate) fn resource(account: &AccountId) -> String {
    format!("account/{account}/provider")
}

pub(crate) fn no_provider(account: &AccountId) -> Error {
    Error::NotFound { kind: "identity provider", id: account.to_string() }
}

fn cut(user_agent: &str) -> String {
    user_agent.chars().take(256).collect()
}

/// Where the console begins.
pub const CONSOLE: &str = "/console";
/// What the old service says to one whose groups the account has not.
const NOT_IN_GROUPS: &str = "Not in valid groups";
