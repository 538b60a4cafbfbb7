//! Users of an account and their groups: people who log in with a login and a password, and act as themselves.
//!
//! A user of a group whose role is `ADMIN` may do all that the account may; what any other may do, policies say.

mod challenges;
mod groups;
mod login;
mod password;
mod second_factor;
mod security_keys;
mod setup;
mod totp;
mod webauthn;

pub(crate) use challenges::Challenges;
pub use db::people::{Group, Person};
pub use groups::{GroupChange, GroupRole};
pub use login::{LogIn, LoggedIn};
pub(crate) use password::CommonPasswords;
pub use second_factor::{BackupCodes, Enrolment, Factor, FactorChange, NewTotp, TotpInfo};
pub use security_keys::{KeyRequest, NewSecurityKey, SecurityKeyInfo};
pub use setup::{Setup, SetupLink};
pub(crate) use setup::{changed_meanwhile, is_as_proved, person_identity};
pub use webauthn::{Assertion, Attestation, KeyFault, RelyingParty};

use audit::{Actor, Entry};
use model::AccountId;
use zeroize::Zeroizing;

use crate::{
    Error, Identity, Urn,
    accounts::{dangling, exists},
};

/// Where a user stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonStatus {
    /// It may log in.
    Ok,
    /// It may not log in, and what it granted has ended.
    Disabled,
    /// It has to choose a password before anything else.
    PasswordChangeRequired,
}

impl PersonStatus {
    /// Where that user stands.
    pub fn of(person: &Person) -> PersonStatus {
        match (person.enabled, person.change_password) {
            (false, _) => PersonStatus::Disabled,
            (true, true) => PersonStatus::PasswordChangeRequired,
            (true, false) => PersonStatus::Ok,
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            PersonStatus::Ok => "OK",
            PersonStatus::Disabled => "DISABLED",
            PersonStatus::PasswordChangeRequired => "PASSWORD_CHANGE_REQUIRED",
        }
    }
}

/// A user that is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewPerson {
    /// Its name: 1 to 64 letters, digits and `.`, `_`, `-`, `@`, `+`.
    pub login: String,
    /// Where it is reached.
    pub email: String,
    /// What it is for.
    pub description: String,
    /// Its group, which must be there.
    pub group: String,
    /// Its first password, which it has to change; without one it gets in by a set-up link only.
    pub password: Option<Zeroizing<String>>,
}

/// What is to change of a user; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct PersonChange {
    /// Where it is reached.
    pub email: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its group.
    pub group: Option<String>,
}

impl Identity {
    /// Makes a user of an account.
    pub async fn create_person(&self, account: &AccountId, new: NewPerson, by: &Actor) -> Result<Person, Error> {
        check_login(&new.login)?;
        check_texts(&new.email, &new.description)?;
        let hash = match new.password {
            Some(password) => {
                password::check(&self.common_passwords, &password, &[&new.login, &new.email, account.as_str()])?;
                Some(self.passwords.hash(password).await?)
            }
            None => None,
        };
        let now = crate::now();
        let mut person = Person {
            id: 0,
            account: account.clone(),
            login: new.login,
            email: new.email,
            description: new.description,
            group: new.group,
            enabled: true,
            change_password: true,
            created: now,
            updated: now,
            password_updated: now,
        };
        let mut tx = self.db.begin().await?;
        if db::people::count(&mut tx, account).await? >= MOST_PEOPLE {
            return Err(Error::TooMany { what: "users of an account", limit: MOST_PEOPLE as usize });
        }
        person.id = db::people::insert(&mut tx, &person, hash.as_deref()).await.map_err(|fault| {
            if fault.is_duplicate() {
                return exists(fault, "user", &person.login);
            }
            dangling(fault, "group", &person.group)
        })?;
        let mut entry = Entry::new(by.clone(), "account.user.created", resource(&person));
        entry.detail = serde_json::json!({ "group": person.group });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(person)
    }

    /// The users of an account, or all, by account and login.
    pub async fn people(&self, of: Option<&AccountId>) -> Result<Vec<Person>, Error> {
        Ok(db::people::list(&self.db, of).await?)
    }

    /// A user of an account.
    pub async fn person(&self, account: &AccountId, login: &str) -> Result<Option<Person>, Error> {
        Ok(db::people::find(&self.db, account.as_str(), login).await?.map(|(person, _)| person))
    }

    /// Changes a user.
    pub async fn change_person(
        &self,
        account: &AccountId,
        login: &str,
        change: PersonChange,
        by: &Actor,
    ) -> Result<(), Error> {
        self.write_person(account, login, "account.user.changed", by, |person| {
            person.email = change.email.unwrap_or_else(|| person.email.clone());
            person.description = change.description.unwrap_or_else(|| person.description.clone());
            person.group = change.group.unwrap_or_else(|| person.group.clone());
        })
        .await
    }

    /// Lets a user log in again.
    pub async fn enable_person(&self, account: &AccountId, login: &str, by: &Actor) -> Result<(), Error> {
        self.write_person(account, login, "account.user.enabled", by, |person| person.enabled = true).await
    }

    /// Lets a user log in no more until it is enabled, and ends its sessions and the credentials that it granted, for good.
    pub async fn disable_person(&self, account: &AccountId, login: &str, by: &Actor) -> Result<(), Error> {
        self.write_person(account, login, "account.user.disabled", by, |person| person.enabled = false).await
    }

    async fn write_person(
        &self,
        account: &AccountId,
        login: &str,
        action: &str,
        by: &Actor,
        change: impl FnOnce(&mut Person) + Send,
    ) -> Result<(), Error> {
        // Nobody else writes until this ends, so that no change between is lost.
        let mut tx = self.db.begin().await?;
        let mut person = self.person(account, login).await?.ok_or_else(|| no_person(login))?;
        change(&mut person);
        check_texts(&person.email, &person.description)?;
        person.updated = crate::now();
        db::people::update(&mut tx, &person).await.map_err(|fault| dangling(fault, "group", &person.group))?;
        let ended = match person.enabled {
            true => Vec::new(),
            false => db::credentials::expire_of_person(&mut tx, person.id, None).await?,
        };
        let sessions = match person.enabled {
            true => Vec::new(),
            false => db::sessions::delete_of_person(&mut tx, person.id).await?,
        };
        let mut entry = Entry::new(by.clone(), action, resource(&person));
        entry.detail =
            serde_json::json!({ "group": person.group, "credentialsEnded": ended, "sessionsEnded": sessions });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a user, and ends its sessions and the credentials that it granted.
    pub async fn delete_person(&self, account: &AccountId, login: &str, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let person = self.person(account, login).await?.ok_or_else(|| no_person(login))?;
        let ended = db::credentials::expire_of_person(&mut tx, person.id, None).await?;
        let sessions = db::sessions::delete_of_person(&mut tx, person.id).await?;
        db::people::delete(&mut tx, person.id).await?;
        let mut entry = Entry::new(by.clone(), "account.user.deleted", resource(&person));
        entry.detail = serde_json::json!({ "credentialsEnded": ended, "sessionsEnded": sessions });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }
}

/// The URN of a user.
pub fn user_urn(account: &AccountId, login: &str) -> String {
    Urn::user(account, login).to_string()
}

/// The URN of a group.
pub fn group_urn(account: &AccountId, name: &str) -> String {
    Urn::group(account, name).to_string()
}

fn check_login(login: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    if login.is_empty() || login.len() > 64 || !login.chars().all(good) {
        let rule = "1 to 64 letters, digits and '.', '_', '-', '@', '+'";
        return Err(Error::Invalid { field: "login", rule });
    }
    Ok(())
}

fn check_texts(email: &str, description: &str) -> Result<(), Error> {
    // What an address is, only its mail server can tell: <https://www.rfc-editor.org/rfc/rfc5321#section-2.3.11>.
    let is_address = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    let is_plain = !email.chars().any(|c| c.is_control() || c.is_whitespace()) && email.len() <= 254;
    if !(email.is_empty() || is_address && is_plain) {
        return Err(Error::Invalid { field: "email", rule: "an e-mail address of at most 254 characters" });
    }
    if description.len() > 1024 || description.chars().any(|c| c.is_control() && c != '\n') {
        return Err(Error::Invalid { field: "description", rule: "at most 1024 bytes, no control characters" });
    }
    Ok(())
}

fn no_person(login: &str) -> Error {
    Error::NotFound { kind: "user", id: login.chars().take(80).collect() }
}

fn resource(person: &Person) -> String {
    format!("account/{}/user/{}", person.account, person.login)
}

const MOST_PEOPLE: i64 = 10_000;
