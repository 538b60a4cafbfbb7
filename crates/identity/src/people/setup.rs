//! Set-up links: how a person gets its first password, or another when it has lost the old one. Nobody else ever knows it.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use audit::{Actor, Entry};
use jiff::{SignedDuration, Timestamp};
use model::AccountId;
use zeroize::Zeroizing;

use super::{Person, no_person, password, resource};
use crate::{Error, Identity, random};

/// A new one-time token: the only time that it is shown.
#[derive(Debug)]
pub struct SetupLink {
    /// The token: 64 hexadecimal digits.
    pub token: Zeroizing<String>,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// Whose password a one-time token sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The account.
    pub account: AccountId,
    /// The login.
    pub login: String,
}

impl Identity {
    /// Makes a one-time token by which a user sets a password within 24 hours; one of before is good no more.
    pub async fn create_setup(&self, account: &AccountId, login: &str, by: &Actor) -> Result<SetupLink, Error> {
        let token = random::hex::<32>()?;
        let expires = crate::now() + GOOD_FOR;
        let mut tx = self.db.begin().await?;
        let person = self.person(account, login).await?.ok_or_else(|| no_person(login))?;
        db::people::insert_setup(&mut tx, &random::sha256(&token), person.id, expires).await?;
        let entry = Entry::new(by.clone(), "account.user.setup.created", resource(&person));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(SetupLink { token, expires })
    }

    /// Whose password a one-time token sets; `None` if there is none such, it was used, or its time is over.
    pub async fn find_setup(&self, token: &str) -> Result<Option<Setup>, Error> {
        let person = self.person_of_setup(token).await?;
        Ok(person.map(|person| Setup { account: person.account, login: person.login }))
    }

    /// Sets the password of a token's user, uses up the token, and ends what the user granted before: who lost a password
    /// may have lost it to somebody.
    pub async fn use_setup(&self, token: &str, chosen: Zeroizing<String>, by: &Actor) -> Result<Setup, Error> {
        let gone = || Error::NotFound { kind: "set-up link", id: "of this token".to_owned() };
        let person = self.person_of_setup(token).await?.ok_or_else(gone)?;
        password::check(&self.common_passwords, &chosen, &words(&person))?;
        let hash = self.passwords.hash(chosen).await?;
        let mut tx = self.db.begin().await?;
        // Of two that come at once, the second finds it used.
        if !db::people::delete_setup(&mut tx, &random::sha256(token)).await? {
            return Err(gone());
        }
        let ended = db::credentials::expire_of_person(&mut tx, person.id, None).await?;
        let by =
            Actor { account: Some(person.account.clone()), identity: person_identity(&person.login), ..by.clone() };
        self.set_password(&mut tx, &person, &hash, &ended, by).await?;
        tx.commit().await?;
        Ok(Setup { account: person.account, login: person.login })
    }

    /// Sets the hash of a password that a user chose, and ends its sessions: who opened them may have known the old one.
    /// `credentials` were ended with it, for the audit log. When it was set.
    pub(super) async fn set_password(
        &self,
        tx: &mut db::Tx,
        person: &Person,
        hash: &str,
        credentials: &[i64],
        by: Actor,
    ) -> Result<Timestamp, Error> {
        // Later than the one before whatever the clock says, for it is what tells two passwords apart.
        let now = crate::now().max(person.password_updated + SignedDuration::from_micros(1));
        db::people::set_password(tx, person.id, hash, now).await?;
        let ended = db::sessions::delete_of_person(tx, person.id).await?;
        let mut entry = password_changed(by, person, &ended);
        entry.detail["credentialsEnded"] = serde_json::json!(credentials);
        self.audit.record_in(tx, &entry).await?;
        Ok(now)
    }

    /// Changes the password of a user who gives the one that it has, and ends what it granted, but the credential `keep` by
    /// which it asks. Wrong ones are counted as those of log-ins are ([`Error::TryLater`]).
    #[allow(clippy::too_many_arguments)]
    pub async fn change_password(
        &self,
        account: &AccountId,
        login: &str,
        current: Zeroizing<String>,
        chosen: Zeroizing<String>,
        keep: Option<i64>,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        let attempt = self.passwords.admit(from, &format!("{account}/{login}"), Instant::now())?;
        let found = db::people::find(&self.db, account.as_str(), login).await?;
        let (person, hash) = found.ok_or_else(|| no_person(login))?;
        let same = *current == *chosen;
        if !self.passwords.verify(current, hash).await? {
            let mut entry = Entry::new(by.clone(), "account.user.password.changeFailed", resource(&person));
            entry.decision = audit::Decision::Refused;
            "refused".clone_into(&mut entry.result);
            self.audit.record(entry).await?;
            return Err(Error::AccessDenied { what: "the current password is another".to_owned() });
        }
        attempt.succeeded();
        if same {
            return Err(Error::Invalid {
                field: "newPassword",
                rule: "another than the one that it takes the place of",
            });
        }
        password::check(&self.common_passwords, &chosen, &words(&person)).map_err(|fault| match fault {
            Error::Invalid { rule, .. } => Error::Invalid { field: "newPassword", rule },
            other => other,
        })?;
        let hash = self.passwords.hash(chosen).await?;
        let mut tx = self.db.begin().await?;
        if !is_as_proved(&mut tx, person.id, person.password_updated).await? {
            return Err(changed_meanwhile());
        }
        let ended = db::credentials::expire_of_person(&mut tx, person.id, keep).await?;
        self.set_password(&mut tx, &person, &hash, &ended, by.clone()).await?;
        Ok(tx.commit().await?)
    }

    async fn person_of_setup(&self, token: &str) -> Result<Option<Person>, Error> {
        if token.len() != 64 {
            return Ok(None);
        }
        let found = db::people::find_setup(&self.db, &random::sha256(token), Timestamp::now()).await?;
        let Some(id) = found else { return Ok(None) };
        Ok(db::people::find_by_id(&self.db, id).await?.map(|(person, _)| person))
    }
}

/// A user as the audit log names it.
pub(crate) fn person_identity(login: &str) -> String {
    format!("person/{login}")
}

/// Whether a user is enabled still and its password the one that was set at `since`: what was proved before a reset, or before
/// the user was disabled, opens nothing any more.
pub(crate) async fn is_as_proved(tx: &mut db::Tx, person: i64, since: Timestamp) -> Result<bool, Error> {
    Ok(db::people::password_set_in(tx, person).await? == Some(since))
}

/// Why nothing is opened by what was proved before that.
pub(crate) fn changed_meanwhile() -> Error {
    Error::AccessDenied { what: "the user was disabled meanwhile, or its password set anew".to_owned() }
}

/// What a password may not be made of.
pub(crate) fn words(person: &Person) -> [&str; 3] {
    [&person.login, &person.email, person.account.as_str()]
}

/// What the audit log says of a new password, with the words of the old service.
fn password_changed(by: Actor, person: &Person, sessions: &[i64]) -> Entry {
    let mut entry = Entry::new(by, "account.user.password.changed", resource(person));
    entry.detail = serde_json::json!({
        "type": "USER_PASSWORD_CHANGED",
        "userPasswordChangedDetails": { "user": person.login },
        "sessionsEnded": sessions,
    });
    entry
}

const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
