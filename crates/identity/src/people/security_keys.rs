//! Security keys and passkeys of users. Each key goes beside the password, and one that verifies its user by a PIN or the
//! like, and keeps who that is, goes in its place too. A key is good once it was proved to be in the user's hands.

use std::{net::IpAddr, time::Instant};

use audit::{Actor, Entry};
use db::webauthn::{self, SecurityKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    LogIn, LoggedIn, Person,
    challenges::{GOOD_FOR, Purpose},
    login::{failed, succeeded},
    person_identity, resource,
    second_factor::{ENABLED, Factor, FactorChange, PENDING},
    webauthn::{Assertion, Attestation, KeyFault, RelyingParty, text},
};
use crate::{Error, Identity};

/// A security key, without what its authenticator said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityKeyInfo {
    /// Its number.
    pub id: i64,
    /// What it is.
    pub description: String,
    /// `needCodeValidation`, `enabled` or `disabled`.
    pub status: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub last_use: Option<Timestamp>,
}

/// What an authenticator is asked for to make a key.
#[derive(Debug, Clone)]
pub struct NewSecurityKey {
    /// The number of the key, which is good for nothing until it is validated.
    pub id: i64,
    /// The challenge, in Base64 for URLs; good once, for five minutes.
    pub challenge: String,
    /// The host that the key is made for.
    pub party: String,
    /// What the authenticator knows the user by, in Base64 for URLs: random.
    pub handle: String,
    /// `ACCOUNT/LOGIN`.
    pub user: String,
    /// The keys that the user has, in Base64 for URLs: an authenticator that holds one makes no second.
    pub excluded: Vec<String>,
}

impl NewSecurityKey {
    /// The member `excludeCredentials` of `PublicKeyCredentialCreationOptionsJSON` (WebAuthn Level 3, section 5.1.8).
    pub fn exclude_credentials(&self) -> Value {
        descriptors(&self.excluded)
    }
}

/// What authenticators are asked for to prove a key.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// The challenge, in Base64 for URLs; good once, for five minutes.
    pub challenge: String,
    /// The host that the key was made for.
    pub party: String,
    /// The keys that are asked for, in Base64 for URLs; none: whichever the user has here.
    pub allowed: Vec<String>,
    /// Whether the key has to verify its user.
    pub verify: bool,
}

impl KeyRequest {
    /// The JSON that `PublicKeyCredential.parseRequestOptionsFromJSON()` reads (WebAuthn Level 3, section 5.1).
    pub fn options(&self) -> Value {
        json!({
            "challenge": self.challenge,
            "rpId": self.party,
            "allowCredentials": descriptors(&self.allowed),
            "userVerification": if self.verify { "required" } else { "preferred" },
            "timeout": GOOD_FOR.as_millis() as u64,
        })
    }
}

/// Keys as browsers name them.
fn descriptors(ids: &[String]) -> Value {
    ids.iter().map(|id| json!({ "type": "public-key", "id": id })).collect()
}

impl Identity {
    /// The same, with security keys for the service at these addresses. Where no browser would make a key for any of them,
    /// there are none.
    pub fn with_public_urls(mut self, public_urls: &[String]) -> Identity {
        self.relying_party = RelyingParty::of(public_urls).map(Into::into);
        self
    }

    /// The keys of a user, oldest first.
    pub async fn security_keys(&self, person: i64) -> Result<Vec<SecurityKeyInfo>, Error> {
        let rows = webauthn::list(&self.db, person).await?;
        let info = |SecurityKey { id, description, status, created, last_use, .. }| SecurityKeyInfo {
            id,
            description,
            status,
            created,
            last_use,
        };
        Ok(rows.into_iter().map(info).collect())
    }

    /// Begins a key of a user: an authenticator makes it, and [`Identity::validate_security_key`] takes it in.
    pub async fn create_security_key(&self, person: i64, by: &Actor) -> Result<NewSecurityKey, Error> {
        let party = self.party()?;
        let person = self.person_of(person).await?;
        let mut new_handle = [0; 32];
        crypto::random(&mut new_handle).map_err(|_| Error::NoRandom)?;
        let mut tx = self.db.begin().await?;
        let known = webauthn::list_in(&mut tx, person.id).await?;
        if known.len() >= MOST_KEYS {
            return Err(Error::TooMany { what: "security keys of a user", limit: MOST_KEYS });
        }
        let id = webauthn::insert(&mut tx, person.id, PENDING, crate::now()).await?;
        let handle = webauthn::handle_or(&mut tx, person.id, &new_handle).await?;
        let purpose = Purpose::Register { person: person.id, key: id };
        let challenge = self.challenges.issue(purpose, by.source_ip, Instant::now())?;
        self.audit.record_in(&mut tx, &entry(by, "account.user.securityKey.created", &person, id)).await?;
        tx.commit().await?;
        Ok(NewSecurityKey {
            id,
            challenge: text(&challenge),
            party: party.id().to_owned(),
            handle: text(&handle),
            user: format!("{}/{}", person.account, person.login),
            excluded: known.into_iter().filter_map(|key| Some(text(&key.credential?.id))).collect(),
        })
    }

    /// Takes in the key that an authenticator made.
    pub async fn validate_security_key(
        &self,
        person: i64,
        id: i64,
        given: &Attestation,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        let party = self.party()?;
        let person = self.person_of(person).await?;
        let attempt = self.passwords.admit_code(from, person.id, Instant::now())?;
        let mut tx = self.db.begin().await?;
        let mut key = find(&mut tx, person.id, id).await?;
        if key.status != PENDING {
            return Err(Error::InUse { what: "the security key is validated already" });
        }
        let purpose = self.challenges.take(&given.client()?.challenge()?, Instant::now());
        if purpose != Some(Purpose::Register { person: person.id, key: id }) {
            return Err(KeyFault::Challenge.into());
        }
        key.credential = Some(given.check(party)?);
        ENABLED.clone_into(&mut key.status);
        webauthn::update(&mut tx, &key).await.map_err(|fault| match fault.is_duplicate() {
            true => Error::InUse { what: "the security key is registered already" },
            false => fault.into(),
        })?;
        self.audit.record_in(&mut tx, &entry(by, "account.user.securityKey.enabled", &person, id)).await?;
        tx.commit().await?;
        attempt.succeeded();
        Ok(())
    }

    /// Sets the description of a key.
    pub async fn describe_security_key(
        &self,
        person: i64,
        id: i64,
        description: &str,
        by: &Actor,
    ) -> Result<(), Error> {
        super::check_texts("", description)?;
        let person = self.person_of(person).await?;
        let mut tx = self.db.begin().await?;
        let mut key = find(&mut tx, person.id, id).await?;
        description.clone_into(&mut key.description);
        webauthn::update(&mut tx, &key).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.user.securityKey.changed", &person, id)).await?;
        Ok(tx.commit().await?)
    }

    /// Makes a key good no more, or good again; the first time is [`Identity::validate_security_key`] alone.
    pub async fn change_security_key(
        &self,
        person: i64,
        id: i64,
        change: FactorChange,
        by: &Actor,
    ) -> Result<(), Error> {
        let person = self.person_of(person).await?;
        let (before, after) = change.statuses();
        let mut tx = self.db.begin().await?;
        let mut key = find(&mut tx, person.id, id).await?;
        if key.status != before || key.credential.is_none() {
            return Err(Error::InUse { what: "the security key is in another state" });
        }
        after.clone_into(&mut key.status);
        webauthn::update(&mut tx, &key).await?;
        let action = format!("account.user.securityKey.{after}");
        self.audit.record_in(&mut tx, &entry(by, &action, &person, id)).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a key that is not enabled: one that is, is disabled before.
    pub async fn delete_security_key(&self, person: i64, id: i64, by: &Actor) -> Result<(), Error> {
        let person = self.person_of(person).await?;
        let mut tx = self.db.begin().await?;
        if find(&mut tx, person.id, id).await?.status == ENABLED {
            return Err(Error::InUse { what: "a security key that is enabled is disabled before it is removed" });
        }
        webauthn::delete(&mut tx, id).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.user.securityKey.deleted", &person, id)).await?;
        Ok(tx.commit().await?)
    }

    /// What to ask authenticators for at a log-in without a password. It is the same whoever asks: it names no user.
    pub fn passkey_request(&self, from: Option<IpAddr>) -> Result<KeyRequest, Error> {
        let party = self.party()?;
        let challenge = self.challenges.issue(Purpose::Passkey, from, Instant::now())?;
        Ok(KeyRequest { challenge: text(&challenge), party: party.id().to_owned(), allowed: Vec::new(), verify: true })
    }

    /// Lets in the user whose passkey this is, without a password. [`LoggedIn::NewPasswordWanted`]: the user has to
    /// log in by the password first, since another chose it. Too many tries from an address: [`Error::TryLater`].
    pub async fn log_in_by_passkey(
        &self,
        given: &Assertion,
        from: Option<IpAddr>,
        user_agent: &str,
    ) -> Result<LoggedIn, Error> {
        let attempt = self.passwords.admit(from, "passkey", Instant::now())?;
        let outcome = self.try_passkey(given, from, user_agent).await?;
        if !matches!(outcome, LoggedIn::Refused) {
            attempt.succeeded();
        }
        Ok(outcome)
    }

    async fn try_passkey(&self, given: &Assertion, from: Option<IpAddr>, user_agent: &str) -> Result<LoggedIn, Error> {
        let owner = webauthn::person_of_credential(&self.db, &given.credential).await?;
        let person = match owner {
            Some(id) => db::people::find_by_id(&self.db, id).await?.map(|(person, _)| person),
            None => None,
        };
        let name = person.as_ref().map(|person| format!("{}/{}", person.account, person.login)).unwrap_or_default();
        let log_in = LogIn {
            name: &name,
            password: "",
            code: "",
            enrolment: "",
            assertion: Some(given),
            new_password: "",
            from,
            user_agent,
        };
        let account = person.as_ref().map(|person| person.account.clone());
        let why = match person {
            // The challenge goes all the same: what was tried once is not tried again.
            None => self.take(given, Purpose::Passkey).err().unwrap_or(KeyFault::Unknown).to_string(),
            Some(person) if !person.enabled => "the user is disabled".to_owned(),
            Some(person) if self.are_users_disabled(&person.account).await? => {
                "the account lets people in by its provider of single sign-on alone".to_owned()
            }
            Some(person) if !self.reached_from(&person.account, from).await? => {
                "the account does not let that address in".to_owned()
            }
            Some(person) => {
                let mut tx = self.db.begin().await?;
                match self.use_key(&mut tx, &person, given, Purpose::Passkey).await? {
                    Ok(_) if person.change_password => return Ok(LoggedIn::NewPasswordWanted(None)),
                    Ok(factor) => {
                        let by = Actor {
                            account: Some(person.account.clone()),
                            identity: person_identity(&person.login),
                            source_ip: from,
                            request_id: None,
                        };
                        let entry = succeeded(by, &person, Some(factor), &log_in);
                        self.audit.record_in(&mut tx, &entry).await?;
                        tx.commit().await?;
                        return Ok(LoggedIn::Done { person, factor: Some(factor) });
                    }
                    Err(fault) => fault.to_string(),
                }
            }
        };
        self.audit.record(failed(&log_in, account.as_ref(), &why)).await?;
        Ok(LoggedIn::Refused)
    }

    /// What to ask a user's authenticators for beside the password; `None` if it has no key that is good.
    pub(super) async fn key_request(&self, person: i64, from: Option<IpAddr>) -> Result<Option<KeyRequest>, Error> {
        let Some(party) = &self.relying_party else { return Ok(None) };
        let keys = webauthn::list(&self.db, person).await?;
        let enabled = keys.into_iter().filter(|key| key.status == ENABLED).filter_map(|key| key.credential);
        let allowed: Vec<String> = enabled.map(|stored| text(&stored.id)).collect();
        if allowed.is_empty() {
            return Ok(None);
        }
        // Where there are too many challenges, a code still helps.
        let challenge = match self.challenges.issue(Purpose::SecondFactor { person }, from, Instant::now()) {
            Ok(challenge) => challenge,
            Err(Error::TryLater { .. }) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        Ok(Some(KeyRequest { challenge: text(&challenge), party: party.id().to_owned(), allowed, verify: false }))
    }

    /// Whether a user has a key that is good.
    pub(super) async fn has_key(&self, person: i64) -> Result<bool, Error> {
        Ok(webauthn::list(&self.db, person).await?.iter().any(|key| key.status == ENABLED))
    }

    /// Uses a key of a user: the challenge goes in any case, the counter only if all holds.
    pub(super) async fn use_key(
        &self,
        tx: &mut db::Tx,
        person: &Person,
        given: &Assertion,
        purpose: Purpose,
    ) -> Result<Result<Factor, KeyFault>, Error> {
        let Ok(party) = self.party() else { return Ok(Err(KeyFault::Unknown)) };
        if let Err(fault) = self.take(given, purpose) {
            return Ok(Err(fault));
        }
        let handle = webauthn::handle(tx, person.id).await?;
        let is_passkey = purpose == Purpose::Passkey;
        // A key that goes in the place of a name has to say whose it is (WebAuthn Level 3, section 7.2, step 6).
        let is_user = match (&given.user_handle, &handle) {
            (Some(given), Some(handle)) => given == handle,
            (Some(_), None) => false,
            (None, _) => !is_passkey,
        };
        let keys = webauthn::list_in(tx, person.id).await?;
        let mut enabled = keys.into_iter().filter(|key| key.status == ENABLED);
        let found = enabled.find_map(|key| Some(key.id).zip(key.credential.filter(|one| one.id == given.credential)));
        let Some((id, stored)) = found.filter(|_| is_user) else { return Ok(Err(KeyFault::Unknown)) };
        match given.check(party, &stored, is_passkey) {
            Ok(sign_count) => {
                webauthn::used(tx, id, sign_count, crate::now()).await?;
                Ok(Ok(Factor::SecurityKey))
            }
            // The key is not disabled by it: who has a copy and the password could so rid the user of the second factor.
            Err(fault) => Ok(Err(fault)),
        }
    }

    fn take(&self, given: &Assertion, purpose: Purpose) -> Result<(), KeyFault> {
        let challenge = given.client()?.challenge()?;
        match self.challenges.take(&challenge, Instant::now()) == Some(purpose) {
            true => Ok(()),
            false => Err(KeyFault::Challenge),
        }
    }

    fn party(&self) -> Result<&RelyingParty, Error> {
        let none = "security keys need a public address with a host name and HTTPS, which this service has not";
        self.relying_party.as_deref().ok_or(Error::InUse { what: none })
    }
}

async fn find(tx: &mut db::Tx, person: i64, id: i64) -> Result<SecurityKey, Error> {
    let keys = webauthn::list_in(tx, person).await?;
    keys.into_iter().find(|key| key.id == id).ok_or_else(|| Error::NotFound { kind: "id", id: id.to_string() })
}

fn entry(by: &Actor, action: &str, person: &Person, id: i64) -> Entry {
    Entry::new(by.clone(), action, format!("{}/securityKey/{id}", resource(person)))
}

const MOST_KEYS: usize = 10;
