//! Applications and consumer credentials: from the request of a key to its end.

use std::{net::IpAddr, time::Duration};

use audit::{Actor, Entry};
use ipnet::IpNet;
use jiff::Timestamp;
use model::AccountId;
use zeroize::Zeroizing;

use crate::{
    AccessRule, Caller, Error, Identity, Person, Proof,
    accounts::dangling,
    passwords,
    people::{changed_meanwhile, is_as_proved, person_identity},
    random,
};

/// An application, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub account: AccountId,
    /// Its public key: 16 hexadecimal digits.
    pub key: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    sealed_secret: Vec<u8>,
}

/// A new application: the only time that its secret is shown.
#[derive(Debug)]
pub struct NewApplication {
    /// The application.
    pub application: Application,
    /// Its secret: 32 hexadecimal digits.
    pub secret: Zeroizing<String>,
}

/// Where a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialStatus {
    /// Asked for; a person has to validate it.
    PendingValidation,
    /// Usable.
    Validated,
    /// A person refused it.
    Refused,
    /// Its time is over, or its holder ended it.
    Expired,
}

impl CredentialStatus {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            CredentialStatus::PendingValidation => "pendingValidation",
            CredentialStatus::Validated => "validated",
            CredentialStatus::Refused => "refused",
            CredentialStatus::Expired => "expired",
        }
    }
}

/// A consumer credential, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its number.
    pub id: i64,
    /// The application that it was granted to.
    pub application: i64,
    /// The account that granted it.
    pub account: Option<AccountId>,
    /// The number of the user of the account that granted it; `None`: the account itself.
    pub person: Option<i64>,
    /// Where it stands, as stored; [`Credential::status_at`] counts its expiry in.
    pub status: CredentialStatus,
    /// What it may call.
    pub rules: Vec<AccessRule>,
    /// From where it may be used; `None`: from everywhere.
    pub allowed_ips: Option<Vec<IpNet>>,
    /// Where a person goes after validation.
    pub redirection: Option<String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ends.
    pub expiration: Option<Timestamp>,
    /// When it was last used.
    pub last_use: Option<Timestamp>,
}

impl Credential {
    /// Where it stands now.
    pub fn status_at(&self, now: Timestamp) -> CredentialStatus {
        match self.status {
            CredentialStatus::Validated if self.expiration.is_some_and(|end| end <= now) => CredentialStatus::Expired,
            CredentialStatus::PendingValidation if too_old(self.created, now) => CredentialStatus::Expired,
            status => status,
        }
    }

    /// Whether it may be used from this address. One that is bound to addresses may not be used from an unknown one.
    pub fn allows(&self, source_ip: Option<IpAddr>) -> bool {
        match (&self.allowed_ips, source_ip) {
            (None, _) => true,
            (Some(blocks), Some(ip)) => blocks.iter().any(|block| block.contains(&ip.to_canonical())),
            (Some(_), None) => false,
        }
    }
}

/// What a new credential is to be good for.
#[derive(Debug, Clone, Default)]
pub struct CredentialRequest {
    /// What it may call.
    pub rules: Vec<AccessRule>,
    /// From where; empty: from everywhere.
    pub allowed_ips: Vec<IpNet>,
    /// Where a person goes after validation.
    pub redirection: Option<String>,
}

/// A credential that a person has to validate.
#[derive(Debug)]
pub struct PendingCredential {
    /// The consumer key: 32 hexadecimal digits, shown once.
    pub consumer_key: Zeroizing<String>,
    /// The one-time token of its validation page.
    pub token: Zeroizing<String>,
}

/// A credential made by the operator: usable at once.
#[derive(Debug)]
pub struct NewCredential {
    /// Its number.
    pub id: i64,
    /// The consumer key: 32 hexadecimal digits, shown once.
    pub consumer_key: Zeroizing<String>,
}

impl Identity {
    /// Makes an application of an account.
    pub async fn create_application(
        &self,
        account: &AccountId,
        name: &str,
        description: &str,
        by: &Actor,
    ) -> Result<NewApplication, Error> {
        if self.account(account).await?.is_none() {
            return Err(Error::NotFound { kind: "account", id: account.to_string() });
        }
        let key = random::hex::<8>()?.to_string();
        let secret = random::hex::<16>()?;
        let sealed_secret = self.seal_of_account(account, &secret_context(&key), &secret)?;
        let mut row = db::credentials::Application {
            id: 0,
            account: account.clone(),
            key,
            sealed_secret,
            name: name.to_owned(),
            description: description.to_owned(),
            created: Timestamp::now(),
        };
        let mut tx = self.db.begin().await?;
        row.id = db::credentials::insert_application(&mut tx, &row)
            .await
            .map_err(|fault| dangling(fault, "account", account.as_str()))?;
        let entry = Entry::new(by.clone(), "application.created", format!("account/{account}/application/{}", row.id));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(NewApplication { application: row.into(), secret })
    }

    /// The applications of an account, or all, oldest first.
    pub async fn applications(&self, of: Option<&AccountId>) -> Result<Vec<Application>, Error> {
        let rows = db::credentials::list_applications(&self.db, of).await?;
        Ok(rows.into_iter().map(Application::from).collect())
    }

    /// The application of that public key.
    pub async fn application_by_key(&self, key: &str) -> Result<Option<Application>, Error> {
        Ok(db::credentials::application_by_key(&self.db, key).await?.map(Application::from))
    }

    /// Removes an application of an account, and with it every credential that was granted to it; what those granted ends.
    pub async fn delete_application(&self, account: &AccountId, id: i64, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let ended = db::credentials::delete_application(&mut tx, account, id).await?;
        let ended = ended.ok_or_else(|| Error::NotFound { kind: "applicationId", id: id.to_string() })?;
        let mut entry = Entry::new(by.clone(), "application.deleted", format!("account/{account}/application/{id}"));
        entry.detail = serde_json::json!({ "credentialsEnded": ended });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) fn application_secret(&self, application: &Application) -> Result<Zeroizing<String>, Error> {
        let context = secret_context(&application.key);
        self.open_of_account(&application.account, &context, &application.sealed_secret)
    }

    /// Asks for a credential; a person has to validate it before it can be used. Anybody may ask who knows the public key of
    /// the application, so many requests push out others of the same source, and never refuse those of another one.
    pub async fn request_credential(
        &self,
        application: &Application,
        request: &CredentialRequest,
        by: &Actor,
    ) -> Result<PendingCredential, Error> {
        let token = random::hex::<32>()?;
        let (id, consumer_key) = self.insert(application, None, request, None, Some(&token), by).await?;
        tracing::info!(credential = id, application = application.id, "a credential waits to be validated");
        Ok(PendingCredential { consumer_key, token })
    }

    /// Makes a credential that is usable at once: for the operator.
    pub async fn create_credential(
        &self,
        application: &Application,
        request: &CredentialRequest,
        expiration: Option<Timestamp>,
        by: &Actor,
    ) -> Result<NewCredential, Error> {
        let account = Some(&application.account);
        let (id, consumer_key) = self.insert(application, account, request, expiration, None, by).await?;
        Ok(NewCredential { id, consumer_key })
    }

    async fn insert(
        &self,
        application: &Application,
        account: Option<&AccountId>,
        request: &CredentialRequest,
        expiration: Option<Timestamp>,
        token: Option<&str>,
        by: &Actor,
    ) -> Result<(i64, Zeroizing<String>), Error> {
        let (consumer_key, now) = (random::hex::<16>()?, Timestamp::now());
        let status = match account {
            Some(_) => CredentialStatus::Validated,
            None => CredentialStatus::PendingValidation,
        };
        let row = db::credentials::Credential {
            id: 0,
            application: application.id,
            account: account.cloned(),
            person: None,
            key_hash: random::sha256(&consumer_key),
            token_hash: token.map(random::sha256),
            status: status.as_str().to_owned(),
            rules: to_json(&request.rules, "access rules")?,
            allowed_ips: blocks_to_json(&request.allowed_ips)?,
            redirection: request.redirection.clone(),
            created: now,
            expiration,
            last_use: None,
        };
        let (source, before) = (passwords::source(by.source_ip), now - PENDING_FOR);
        let mut tx = self.db.begin().await?;
        let dropped = match status {
            CredentialStatus::PendingValidation => {
                let (of_source, most) = (MOST_PENDING_OF_SOURCE, MOST_PENDING);
                db::credentials::make_room(&mut tx, application.id, &source, before, of_source, most).await?
            }
            _ => Vec::new(),
        };
        let id = db::credentials::insert(&mut tx, &row, &source).await?;
        let mut entry = Entry::new(by.clone(), "credential.created", format!("credential/{id}"));
        status.as_str().clone_into(&mut entry.result);
        if !dropped.is_empty() {
            entry.detail = serde_json::json!({ "pendingDropped": dropped });
        }
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok((id, consumer_key))
    }

    /// The pending credential of a validation token.
    pub async fn pending(&self, token: &str) -> Result<Option<Credential>, Error> {
        let Some(row) = db::credentials::by_token(&self.db, &random::sha256(token)).await? else { return Ok(None) };
        let credential = read(row)?;
        let pending = credential.status_at(Timestamp::now()) == CredentialStatus::PendingValidation;
        Ok(pending.then_some(credential))
    }

    /// Grants the credential of a token, as the operator: for `account`, or else the application's own, and there for the
    /// user of that login, or else for the account itself.
    pub async fn validate(
        &self,
        token: &str,
        account: Option<&AccountId>,
        login: Option<&str>,
        expiration: Option<Timestamp>,
        by: &Actor,
    ) -> Result<i64, Error> {
        let pending = self.pending(token).await?.ok_or_else(no_pending)?;
        let account = match account {
            Some(account) => account.clone(),
            None => {
                self.applications(None)
                    .await?
                    .into_iter()
                    .find(|application| application.id == pending.application)
                    .ok_or(Error::Damaged { what: "application of a credential" })?
                    .account
            }
        };
        let person = match login {
            Some(login) => {
                let found = self.person(&account, login).await?;
                Some(found.ok_or_else(|| Error::NotFound { kind: "user", id: login.to_owned() })?.id)
            }
            None => None,
        };
        self.grant(pending, account, person, Granter::Operator, expiration, by).await
    }

    /// Grants the credential of a token for a user who logged in for it.
    pub async fn validate_as(
        &self,
        token: &str,
        person: &Person,
        expiration: Option<Timestamp>,
        by: &Actor,
    ) -> Result<i64, Error> {
        let pending = self.pending(token).await?.ok_or_else(no_pending)?;
        let by = as_person(person, by);
        self.grant(pending, person.account.clone(), Some(person.id), Granter::Person(person), expiration, &by).await
    }

    /// Refuses the credential of a token for a user who logged in for it.
    pub async fn refuse_as(&self, token: &str, person: &Person, by: &Actor) -> Result<i64, Error> {
        self.refuse(token, &as_person(person, by)).await
    }

    /// Grants the credential of a token by one that is already valid. It gets no more than that one has: no wider
    /// rule, no later end, no other address; and it ends with that one.
    pub async fn validate_by(
        &self,
        token: &str,
        caller: &Caller,
        expiration: Option<Timestamp>,
        by: &Actor,
    ) -> Result<i64, Error> {
        let mut pending = self.pending(token).await?.ok_or_else(no_pending)?;
        for rule in &pending.rules {
            if !caller.rules.iter().any(|own| own.covers(rule)) {
                return Err(Error::Exceeds { what: format!("{} {}", rule.method.as_str(), rule.path) });
            }
        }
        // What a service account grants would be good longer than its own token.
        let Proof::ConsumerKey { credential, .. } = caller.proof else {
            return Err(Error::AccessDenied { what: "a consumer key is granted by a consumer key only".to_owned() });
        };
        let own = self.credential(credential).await?.ok_or_else(no_pending)?;
        pending.allowed_ips = match (own.allowed_ips.clone(), pending.allowed_ips) {
            (Some(own), Some(asked)) => {
                if let Some(block) = asked.iter().find(|block| !own.iter().any(|mine| mine.contains(*block))) {
                    return Err(Error::Exceeds { what: format!("the address block {block}") });
                }
                Some(asked)
            }
            (own, asked) => asked.or(own),
        };
        let expiration = match (caller.expiration, expiration) {
            (Some(own), Some(asked)) => Some(own.min(asked)),
            (own, asked) => asked.or(own),
        };
        self.grant(pending, caller.account.clone(), own.person, Granter::Key(&own), expiration, by).await
    }

    async fn grant(
        &self,
        pending: Credential,
        account: AccountId,
        person: Option<i64>,
        granter: Granter<'_>,
        expiration: Option<Timestamp>,
        by: &Actor,
    ) -> Result<i64, Error> {
        let granted_by = match granter {
            Granter::Key(own) => Some(own.id),
            Granter::Operator | Granter::Person(_) => None,
        };
        let grant = db::credentials::Grant {
            person,
            allowed_ips: blocks_to_json(pending.allowed_ips.as_deref().unwrap_or_default())?,
            expiration,
            account: account.clone(),
            granted_by,
        };
        let mut tx = self.db.begin().await?;
        match granter {
            Granter::Operator => {}
            Granter::Person(person) => {
                if !is_as_proved(&mut tx, person.id, person.password_updated).await? {
                    return Err(changed_meanwhile());
                }
            }
            Granter::Key(own) => {
                let addresses = blocks_to_json(own.allowed_ips.as_deref().unwrap_or_default())?;
                if !db::credentials::is_good(&mut tx, own.id, addresses.as_deref(), Timestamp::now()).await? {
                    let what = "the consumer key that grants has ended, or is bound to other addresses now".to_owned();
                    return Err(Error::AccessDenied { what });
                }
            }
        }
        let granted = db::credentials::grant(&mut tx, pending.id, &grant)
            .await
            .map_err(|fault| dangling(fault, "account", account.as_str()))?;
        if !granted {
            return Err(no_pending());
        }
        let mut entry = Entry::new(by.clone(), "credential.validated", format!("credential/{}", pending.id));
        if let Some(granter) = granted_by {
            entry.detail = serde_json::json!({ "grantedBy": granter });
        }
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(pending.id)
    }

    /// Refuses the credential of a token.
    pub async fn refuse(&self, token: &str, by: &Actor) -> Result<i64, Error> {
        let pending = self.pending(token).await?.ok_or_else(no_pending)?;
        let mut tx = self.db.begin().await?;
        if !db::credentials::refuse(&mut tx, pending.id).await? {
            return Err(no_pending());
        }
        let entry = Entry::new(by.clone(), "credential.refused", format!("credential/{}", pending.id));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(pending.id)
    }

    /// Ends a credential with all that it granted; nothing happens to one that has ended. Where its time is over, so is the
    /// time of what it granted, which gets no later end.
    pub async fn expire_credential(&self, id: i64, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if let Some(granted) = db::credentials::expire(&mut tx, id).await? {
            let mut entry = Entry::new(by.clone(), "credential.expired", format!("credential/{id}"));
            entry.detail = serde_json::json!({ "credentialsEnded": granted });
            self.audit.record_in(&mut tx, &entry).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Binds a credential to these addresses; none: it may be used from everywhere. What it granted stays bound as it is.
    /// What would refuse `here`, the address of a call that is signed by the credential itself, changes nothing
    /// ([`Error::LocksOut`]).
    pub async fn set_allowed_ips(
        &self,
        id: i64,
        allowed_ips: &[IpNet],
        here: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        if let Some(here) = here.map(|here| here.to_canonical())
            && !(allowed_ips.is_empty() || allowed_ips.iter().any(|block| block.contains(&here)))
        {
            return Err(Error::LocksOut { address: here.to_string() });
        }
        let blocks = blocks_to_json(allowed_ips)?;
        let mut tx = self.db.begin().await?;
        if !db::credentials::set_allowed_ips(&mut tx, id, blocks.as_deref()).await? {
            return Err(Error::InUse { what: "the credential has ended, or is not validated yet" });
        }
        let mut entry = Entry::new(by.clone(), "credential.changed", format!("credential/{id}"));
        entry.detail =
            serde_json::json!({ "allowedIPs": allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>() });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// The credential of that number.
    pub async fn credential(&self, id: i64) -> Result<Option<Credential>, Error> {
        let row = db::credentials::find(&self.db, id).await?;
        row.map(|row| self.read_with_use(row)).transpose()
    }

    /// The credentials that an account granted, or all, oldest first.
    pub async fn credentials(&self, of: Option<&AccountId>) -> Result<Vec<Credential>, Error> {
        let rows = db::credentials::list(&self.db, of).await?;
        rows.into_iter().map(|row| self.read_with_use(row)).collect()
    }

    fn read_with_use(&self, row: db::credentials::Credential) -> Result<Credential, Error> {
        let mut credential = read(row)?;
        credential.last_use = credential.last_use.max(self.uses.of(credential.id));
        Ok(credential)
    }
}

impl From<db::credentials::Application> for Application {
    fn from(row: db::credentials::Application) -> Application {
        Application {
            id: row.id,
            account: row.account,
            key: row.key,
            name: row.name,
            description: row.description,
            created: row.created,
            sealed_secret: row.sealed_secret,
        }
    }
}

pub(crate) fn read(row: db::credentials::Credential) -> Result<Credential, Error> {
    use CredentialStatus as S;
    let status = [S::PendingValidation, S::Validated, S::Refused, S::Expired]
        .into_iter()
        .find(|status| status.as_str() == row.status)
        .ok_or(Error::Damaged { what: "credential status" })?;
    let allowed_ips = match row.allowed_ips {
        None => None,
        Some(text) => Some(
            serde_json::from_str::<Vec<String>>(&text)
                .ok()
                .and_then(|blocks| blocks.iter().map(|block| block.parse().ok()).collect())
                .ok_or(Error::Damaged { what: "allowed addresses" })?,
        ),
    };
    Ok(Credential {
        id: row.id,
        application: row.application,
        account: row.account,
        person: row.person,
        status,
        rules: serde_json::from_str(&row.rules).map_err(|_| Error::Damaged { what: "access rules" })?,
        allowed_ips,
        redirection: row.redirection,
        created: row.created,
        expiration: row.expiration,
        last_use: row.last_use,
    })
}

fn as_person(person: &Person, by: &Actor) -> Actor {
    Actor { account: Some(person.account.clone()), identity: person_identity(&person.login), ..by.clone() }
}

fn blocks_to_json(blocks: &[IpNet]) -> Result<Option<String>, Error> {
    let texts: Vec<String> = blocks.iter().map(ToString::to_string).collect();
    if texts.is_empty() { Ok(None) } else { to_json(&texts, "allowed addresses").map(Some) }
}

fn to_json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| Error::Damaged { what })
}

fn too_old(created: Timestamp, now: Timestamp) -> bool {
    now.duration_since(created) > jiff::SignedDuration::try_from(PENDING_FOR).unwrap_or(jiff::SignedDuration::MAX)
}

/// Who grants a credential, as it was when it proved itself for this.
enum Granter<'a> {
    Operator,
    Person(&'a Person),
    Key(&'a Credential),
}

/// One answer for a token that never was, was used, or is too old.
fn no_pending() -> Error {
    Error::NotFound { kind: "pending credential", id: "of this token".to_owned() }
}

/// A sealed secret opens only as the secret of its own application.
fn secret_context(key: &str) -> String {
    format!("application/{key}")
}

/// Of one application, from one source.
const MOST_PENDING_OF_SOURCE: i64 = 20;
/// Of one application.
const MOST_PENDING: i64 = 200;
const PENDING_FOR: Duration = Duration::from_secs(24 * 3600);
