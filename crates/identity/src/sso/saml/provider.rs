//! The SAML provider of an account, and what happens with it when a person logs in.

use audit::{Actor, Entry};
use jiff::Timestamp;
use model::AccountId;

use super::{
    Refused, RequestedAttribute,
    fetch::{fetch, not_there},
    metadata::Metadata,
    request::{self, OurPlaces, RequestKey},
    response::{self, Expected, SKEW, Vouched},
};
use crate::{
    Error, Identity, ProviderKind,
    sso::{Reach, no_provider, resource},
};

/// A provider as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamlProvider {
    /// Its entity id.
    pub entity: String,
    /// Where browsers are sent.
    pub service: String,
    /// The certificates with which it may sign.
    pub certificates: Vec<SigningCertificate>,
    /// Until when its metadata may be used, if it says so.
    pub valid_until: Option<Timestamp>,
    /// What may be chosen.
    pub settings: SamlSettings,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// A certificate with which a provider may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningCertificate {
    /// Whose it says that it is (RFC 4514).
    pub subject: String,
    /// Until when it is good by its own word. Nothing is refused for it: the metadata says which keys are trusted.
    pub expires: Timestamp,
}

/// What may be chosen of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamlSettings {
    /// The attribute that names a person; [`NAME_ID`]: the name of the assertion's subject.
    pub user_attribute: String,
    /// The attribute that names the groups of a person.
    pub group_attribute: String,
    /// Further wishes.
    pub extensions: Option<SamlExtensions>,
    /// Whether users of the account log in by the provider alone.
    pub disable_users: bool,
    /// Whether requests are signed. They always are for a provider that wants it.
    pub sign_requests: bool,
}

/// Further wishes: what the old service has in `auth.ProviderExtensions`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SamlExtensions {
    /// Attributes that our metadata asks for.
    #[serde(default)]
    pub requested_attributes: Option<Vec<RequestedAttribute>>,
}

impl Default for SamlSettings {
    fn default() -> SamlSettings {
        SamlSettings {
            user_attribute: UPN.to_owned(),
            group_attribute: GROUP.to_owned(),
            extensions: None,
            disable_users: false,
            sign_requests: false,
        }
    }
}

/// Whom a provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// What the provider calls it.
    pub name: String,
    /// The groups that it names, as it names them.
    pub groups: Vec<String>,
    /// The id of the assertion.
    pub assertion: String,
    /// Until when the assertion could be used again.
    pub until: Timestamp,
    /// Until when its session may last, if the provider says so.
    pub session_until: Option<Timestamp>,
}

impl Identity {
    /// Gives an account its provider of single sign-on by SAML, described by its metadata: XML, or an address where it
    /// stands. An account has one.
    pub async fn create_saml_provider(
        &self,
        account: &AccountId,
        metadata: &str,
        settings: SamlSettings,
        by: &Actor,
    ) -> Result<SamlProvider, Error> {
        let extensions = check(&settings)?;
        let (read, metadata) = given(metadata, self.reach).await?;
        // A key of RSA takes some tenths of a second to find.
        let key = tokio::task::spawn_blocking(RequestKey::generate).await.map_err(|_| Error::NoRandom)??;
        let now = crate::now();
        let row = db::saml::Provider {
            account: account.clone(),
            metadata,
            user_attribute: settings.user_attribute,
            group_attribute: settings.group_attribute,
            extensions,
            sign_requests: settings.sign_requests,
            sealed_key: self.keys.seal_for_account(account, KEY, &key.private)?,
            certificate: key.certificate,
        };
        let mut tx = self.db.begin().await?;
        let shared = self.insert_provider(&mut tx, account, ProviderKind::Saml, settings.disable_users, now).await?;
        db::saml::insert(&mut tx, &row).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.provider.created", &shared, &row, &read)).await?;
        tx.commit().await?;
        describe(shared, row, read)
    }

    /// The provider of an account.
    pub async fn saml_provider(&self, account: &AccountId) -> Result<Option<SamlProvider>, Error> {
        let Some(shared) = db::sso::find(&self.db, account.as_str()).await? else { return Ok(None) };
        let Some(row) = db::saml::find(&self.db, account).await? else { return Ok(None) };
        let read = stored(&row)?;
        describe(shared, row, read).map(Some)
    }

    /// Changes the provider of an account; with `metadata`, what it says of itself too.
    pub async fn change_saml_provider(
        &self,
        account: &AccountId,
        metadata: Option<&str>,
        settings: SamlSettings,
        by: &Actor,
    ) -> Result<SamlProvider, Error> {
        let extensions = check(&settings)?;
        let newer = match metadata {
            Some(metadata) => Some(given(metadata, self.reach).await?),
            None => None,
        };
        let mut tx = self.db.begin().await?;
        let mut shared = self.provider_in(&mut tx, account, ProviderKind::Saml).await?;
        let mut row = db::saml::find_in(&mut tx, account).await?.ok_or_else(|| no_provider(account))?;
        let read = match newer {
            Some((read, text)) => {
                row.metadata = text;
                read
            }
            None => stored(&row)?,
        };
        row.user_attribute = settings.user_attribute;
        row.group_attribute = settings.group_attribute;
        row.extensions = extensions;
        row.sign_requests = settings.sign_requests;
        (shared.disable_users, shared.updated) = (settings.disable_users, crate::now());
        db::sso::update(&mut tx, &shared).await?;
        db::saml::update(&mut tx, &row).await?;
        let mut entry = entry(by, "account.provider.changed", &shared, &row, &read);
        entry.detail["sessionsEnded"] = self.end_what_rests_on_provider(&mut tx, account).await?.into();
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        describe(shared, row, read)
    }

    /// Takes the provider of an account away.
    pub async fn delete_saml_provider(&self, account: &AccountId, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let shared = self.provider_in(&mut tx, account, ProviderKind::Saml).await?;
        let row = db::saml::find_in(&mut tx, account).await?.ok_or_else(|| no_provider(account))?;
        let mut entry = entry(by, "account.provider.deleted", &shared, &row, &stored(&row)?);
        entry.detail["sessionsEnded"] = self.end_what_rests_on_provider(&mut tx, account).await?.into();
        db::sso::delete(&mut tx, account).await?;
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// Our metadata for the provider of an account, if it has one. `base_url`: where browsers reach this service.
    pub async fn saml_metadata(&self, account: &AccountId, base_url: &str) -> Result<Option<String>, Error> {
        let Some(row) = db::saml::find(&self.db, account).await? else { return Ok(None) };
        let is_signed = row.sign_requests || stored(&row)?.wants_signed_requests;
        let wanted = extensions(&row)?.and_then(|extensions| extensions.requested_attributes).unwrap_or_default();
        let certificate = is_signed.then_some(row.certificate.as_slice());
        Ok(Some(request::our_metadata(&places(base_url, account), certificate, &wanted)))
    }

    /// Whom the answer to a request vouches for. `encoded`: the form field `SAMLResponse`. Nothing is used up by it.
    pub(super) async fn read_saml(
        &self,
        account: &AccountId,
        base_url: &str,
        request: &str,
        encoded: &str,
        now: Timestamp,
    ) -> Result<Result<Subject, Refused>, Error> {
        let row = db::saml::find(&self.db, account).await?.ok_or_else(|| no_provider(account))?;
        let read = stored(&row)?;
        if let Some(until) = read.valid_until.filter(|until| *until <= now) {
            return Ok(Err(Refused::Metadata(until)));
        }
        let us = places(base_url, account);
        let (encoded, request) = (encoded.to_owned(), request.to_owned());
        let reading = tokio::task::spawn_blocking(move || {
            let expected = Expected {
                issuer: &read.entity,
                certificates: &read.certificates,
                audience: &us.entity,
                recipient: &us.consumer,
                request: &request,
                now,
            };
            response::read(&encoded, &expected).and_then(|vouched| subject(vouched, &row))
        });
        reading.await.map_err(|_| Error::Damaged { what: "answer of an identity provider" })
    }
}

/// What an assertion says of a person, by the attributes that were chosen.
fn subject(vouched: Vouched, row: &db::saml::Provider) -> Result<Subject, Refused> {
    let Vouched { id, until, session_until, name, mut attributes } = vouched;
    let groups = attributes.remove(&row.group_attribute).unwrap_or_default();
    let named = attributes.remove(&row.user_attribute);
    let name = match named.as_deref() {
        Some([one]) => one.clone(),
        // The default is what ADFS calls a person; other providers name it in the subject.
        None if row.user_attribute == UPN || row.user_attribute == NAME_ID => name,
        _ => return Err(Refused::NoName(row.user_attribute.clone())),
    };
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(Refused::Shape("the name of its subject is longer than 256 bytes, or has control characters"));
    }
    // The skew of the clocks is time in which it is good too.
    let later = |end: Timestamp| end.checked_add(SKEW).unwrap_or(Timestamp::MAX);
    let (until, session_until) = (later(until), session_until.map(later));
    Ok(Subject { name, groups, assertion: id, until, session_until })
}

/// The metadata that was given, or what stands at the address that was: read, and as text.
async fn given(metadata: &str, reach: Reach) -> Result<(Metadata, String), Error> {
    let metadata = metadata.trim_start_matches('\u{feff}').trim();
    if metadata.starts_with('<') {
        return Ok((read_metadata(metadata, crate::now())?, metadata.to_owned()));
    }
    let text = fetch(metadata, reach).await?;
    let read = read_metadata(&text, crate::now()).map_err(|fault| not_there(&fault))?;
    Ok((read, text))
}

fn read_metadata(text: &str, now: Timestamp) -> Result<Metadata, Error> {
    let read = Metadata::parse(text).map_err(|rule| Error::Invalid { field: "metadata", rule })?;
    match read.valid_until {
        Some(until) if until <= now => Err(Error::Invalid { field: "metadata", rule: "metadata that is valid still" }),
        _ => Ok(read),
    }
}

pub(super) fn stored(row: &db::saml::Provider) -> Result<Metadata, Error> {
    Metadata::parse(&row.metadata).map_err(|_| Error::Damaged { what: "metadata of an identity provider" })
}

fn extensions(row: &db::saml::Provider) -> Result<Option<SamlExtensions>, Error> {
    let read = row.extensions.as_deref().map(serde_json::from_str).transpose();
    read.map_err(|_| Error::Damaged { what: "extensions of an identity provider" })
}

/// That settings are possible; the extensions as they are stored.
fn check(settings: &SamlSettings) -> Result<Option<String>, Error> {
    let good = |text: &str| !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
    const TEXT: &str = "1 to 256 bytes without control characters";
    if !good(&settings.user_attribute) {
        return Err(Error::Invalid { field: "userAttributeName", rule: TEXT });
    }
    if !good(&settings.group_attribute) {
        return Err(Error::Invalid { field: "groupAttributeName", rule: TEXT });
    }
    let Some(extensions) = &settings.extensions else { return Ok(None) };
    let requested = extensions.requested_attributes.iter().flatten();
    let all_good = requested.clone().all(|one| {
        let values = one.values.iter().flatten();
        good(&one.name)
            && one.name_format.as_deref().is_none_or(good)
            && values.clone().count() <= MOST_ATTRIBUTES
            && values.clone().all(|value| good(value))
    });
    if !all_good || requested.count() > MOST_ATTRIBUTES {
        let rule =
            "at most 50 requested attributes with at most 50 values, each of 1 to 256 bytes without control characters";
        return Err(Error::Invalid { field: "extensions", rule });
    }
    let text = serde_json::to_string(extensions);
    text.map(Some).map_err(|_| Error::Invalid { field: "extensions", rule: "what JSON can hold" })
}

fn describe(shared: db::sso::Provider, row: db::saml::Provider, read: Metadata) -> Result<SamlProvider, Error> {
    let extensions = extensions(&row)?;
    let certificates = read.certificates.into_iter();
    Ok(SamlProvider {
        entity: read.entity,
        service: read.service.to_string(),
        certificates: certificates
            .map(|one| SigningCertificate { subject: one.subject, expires: one.expires })
            .collect(),
        valid_until: read.valid_until,
        settings: SamlSettings {
            user_attribute: row.user_attribute,
            group_attribute: row.group_attribute,
            extensions,
            disable_users: shared.disable_users,
            sign_requests: row.sign_requests,
        },
        created: shared.created,
        updated: shared.updated,
    })
}

/// What we are called by the provider of an account, and where its answers come to.
pub(super) fn places(base_url: &str, account: &AccountId) -> OurPlaces {
    let base_url = base_url.trim_end_matches('/');
    OurPlaces {
        entity: format!("{base_url}/console/sso/saml/metadata/{account}"),
        consumer: format!("{base_url}/console/sso/saml/acs"),
    }
}

fn entry(by: &Actor, action: &str, shared: &db::sso::Provider, row: &db::saml::Provider, read: &Metadata) -> Entry {
    let mut entry = Entry::new(by.clone(), action, resource(&row.account));
    entry.detail = serde_json::json!({
        "kind": shared.kind,
        "entityId": read.entity,
        "ssoServiceUrl": read.service,
        "certificates": read.certificates.iter().map(|one| &one.subject).collect::<Vec<_>>(),
        "userAttributeName": row.user_attribute,
        "groupAttributeName": row.group_attribute,
        "disableUsers": shared.disable_users,
        "signRequests": row.sign_requests,
    });
    entry
}

/// The attribute of ADFS that names a person.
const UPN: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn";
/// The attribute that names groups where nothing else is chosen.
const GROUP: &str = "http://schemas.xmlsoap.org/claims/Group";
/// In place of an attribute: the name of the assertion's subject.
pub const NAME_ID: &str = "NameID";
pub(super) const KEY: &str = "saml.request.key";
const LONGEST_NAME: usize = 256;
const MOST_ATTRIBUTES: usize = 50;
