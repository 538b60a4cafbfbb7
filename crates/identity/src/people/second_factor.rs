//! Second factors of users: generators of one-time codes, and backup codes for when those are lost. Each is good once it
//! was proved to be in the user's hands, and none is taken away from a user by whom it does not prove itself to.

use std::{net::IpAddr, time::Instant};

use audit::{Actor, Entry};
use db::second_factors::{self, Totp};
use jiff::{SignedDuration, Timestamp};
use model::AccountId;
use zeroize::Zeroizing;

pub use db::second_factors::BackupCodes;

use super::{Person, no_person, resource, totp};
use crate::{Error, Identity, random};

/// A generator of one-time codes, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotpInfo {
    /// Its number.
    pub id: i64,
    /// What it is.
    pub description: String,
    /// `needCodeValidation`, `enabled` or `disabled`.
    pub status: String,
    /// When it was made.
    pub created: Timestamp,
    /// When a code of it was last used.
    pub last_use: Option<Timestamp>,
}

/// A new generator: the only time that its secret is shown.
#[derive(Debug)]
pub struct NewTotp {
    /// Its number.
    pub id: i64,
    /// Its secret, in Base32.
    pub secret: Zeroizing<String>,
    /// What an authenticator app reads as a QR code.
    pub uri: Zeroizing<String>,
}

/// A generator that a user begins with at a log-in, as one form shows it. Nothing of it is stored before a code of it came
/// with that form.
#[derive(Debug)]
pub struct Enrolment {
    /// What the form sends back beside the code: the secret and its end, sealed. No other form has it.
    pub form: String,
    /// Its secret, in Base32.
    pub secret: Zeroizing<String>,
    /// What an authenticator app reads as a QR code.
    pub uri: Zeroizing<String>,
}

/// What a code was of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// A generator.
    Totp,
    /// The backup codes.
    BackupCode,
    /// A security key, or a passkey in the place of the password.
    SecurityKey,
}

impl Factor {
    /// The word of the audit log of the old service.
    pub fn as_str(self) -> &'static str {
        match self {
            Factor::Totp => "TOTP",
            Factor::BackupCode => "BACKUP_CODE",
            Factor::SecurityKey => "U2F",
        }
    }
}

/// What is done with a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorChange {
    /// It is proved for the first time, and good from then on.
    Validate,
    /// It is good again.
    Enable,
    /// It is good no more.
    Disable,
}

impl FactorChange {
    /// The status that it has to have, and the one that it has after.
    pub(super) fn statuses(self) -> (&'static str, &'static str) {
        match self {
            FactorChange::Validate => (PENDING, ENABLED),
            FactorChange::Enable => (DISABLED, ENABLED),
            FactorChange::Disable => (ENABLED, DISABLED),
        }
    }
}

impl Identity {
    /// The generators of a user, oldest first.
    pub async fn totps(&self, person: i64) -> Result<Vec<TotpInfo>, Error> {
        Ok(second_factors::totps(&self.db, person).await?.into_iter().map(info).collect())
    }

    /// Makes a generator of a user, which is good for nothing until it is validated.
    pub async fn create_totp(&self, person: i64, by: &Actor) -> Result<NewTotp, Error> {
        let person = self.person_of(person).await?;
        let secret = totp::new_secret()?;
        let sealed_secret = self.seal_of_account(&person.account, &secret_context(person.id), &secret)?;
        let mut row = Totp {
            id: 0,
            person: person.id,
            description: String::new(),
            sealed_secret,
            status: PENDING.to_owned(),
            created: crate::now(),
            last_use: None,
        };
        let mut tx = self.db.begin().await?;
        if second_factors::totps_in(&mut tx, person.id).await?.len() >= MOST_TOTPS {
            return Err(Error::TooMany { what: "generators of one-time codes of a user", limit: MOST_TOTPS });
        }
        row.id = second_factors::insert_totp(&mut tx, &row).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.user.totp.created", &person, row.id)).await?;
        tx.commit().await?;
        let uri = totp::uri(person.account.as_str(), &person.login, &secret);
        Ok(NewTotp { id: row.id, secret, uri })
    }

    /// Sets the description of a generator.
    pub async fn describe_totp(&self, person: i64, id: i64, description: &str, by: &Actor) -> Result<(), Error> {
        super::check_texts("", description)?;
        let person = self.person_of(person).await?;
        let mut tx = self.db.begin().await?;
        let mut row = find_totp(&mut tx, person.id, id).await?;
        description.clone_into(&mut row.description);
        second_factors::update_totp(&mut tx, &row).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.user.totp.changed", &person, id)).await?;
        Ok(tx.commit().await?)
    }

    /// Validates, enables or disables a generator by a code of it; a wrong or used one is [`Error::WrongCode`].
    pub async fn change_totp(
        &self,
        person: i64,
        id: i64,
        change: FactorChange,
        code: &str,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        let person = self.person_of(person).await?;
        let attempt = self.passwords.admit_code(from, person.id, Instant::now())?;
        let (before, after) = change.statuses();
        let mut tx = self.db.begin().await?;
        let mut row = find_totp(&mut tx, person.id, id).await?;
        if row.status != before {
            return Err(Error::InUse { what: "the generator of one-time codes is in another state" });
        }
        if !self.use_totp(&mut tx, &person.account, &row, code).await? {
            return Err(Error::WrongCode);
        }
        after.clone_into(&mut row.status);
        second_factors::update_totp(&mut tx, &row).await?;
        self.audit.record_in(&mut tx, &entry(by, &format!("account.user.totp.{after}"), &person, id)).await?;
        tx.commit().await?;
        attempt.succeeded();
        Ok(())
    }

    /// Removes a generator that is not enabled: one that is, is disabled before, by a code of it.
    pub async fn delete_totp(&self, person: i64, id: i64, by: &Actor) -> Result<(), Error> {
        let person = self.person_of(person).await?;
        let mut tx = self.db.begin().await?;
        let row = find_totp(&mut tx, person.id, id).await?;
        if row.status == ENABLED {
            return Err(Error::InUse { what: "a generator that is enabled is disabled before it is removed" });
        }
        second_factors::delete_totp(&mut tx, id).await?;
        self.audit.record_in(&mut tx, &entry(by, "account.user.totp.deleted", &person, id)).await?;
        Ok(tx.commit().await?)
    }

    /// The backup codes of a user; `None` if it was given none.
    pub async fn backup_codes(&self, person: i64) -> Result<Option<BackupCodes>, Error> {
        Ok(second_factors::backup_codes(&self.db, person).await?)
    }

    /// Gives a user ten new backup codes, which are shown this once; they are good when one was validated. Those that
    /// are enabled are disabled before, by one of them. Only for who has a generator or a security key that is enabled.
    pub async fn create_backup_codes(&self, person: i64, by: &Actor) -> Result<Vec<Zeroizing<String>>, Error> {
        let person = self.person_of(person).await?;
        let codes = (0..BACKUP_CODES).map(|_| new_backup_code()).collect::<Result<Vec<_>, Error>>()?;
        let hashes: Vec<Vec<u8>> = codes.iter().map(|code| random::sha256(&normal(code))).collect();
        let mut tx = self.db.begin().await?;
        let has_totp = second_factors::totps_in(&mut tx, person.id).await?.iter().any(|row| row.status == ENABLED);
        if !has_totp && !self.has_key(person.id).await? {
            return Err(Error::InUse { what: "backup codes are for who has one-time codes or a security key enabled" });
        }
        let old = second_factors::backup_codes_in(&mut tx, person.id).await?;
        if old.is_some_and(|old| old.status == ENABLED && old.remaining > 0) {
            return Err(Error::InUse { what: "the backup codes are enabled; disable them before there are others" });
        }
        second_factors::replace_backup_codes(&mut tx, person.id, &hashes, crate::now()).await?;
        let entry = Entry::new(by.clone(), "account.user.backupCodes.created", resource(&person));
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(codes)
    }

    /// Validates, enables or disables the backup codes of a user by one of them, which is used up by it. How many are left.
    pub async fn change_backup_codes(
        &self,
        person: i64,
        change: FactorChange,
        code: &str,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<i64, Error> {
        let person = self.person_of(person).await?;
        let attempt = self.passwords.admit_code(from, person.id, Instant::now())?;
        let (before, after) = change.statuses();
        let mut tx = self.db.begin().await?;
        let set = second_factors::backup_codes_in(&mut tx, person.id).await?.ok_or_else(no_backup_codes)?;
        if set.status != before {
            return Err(Error::InUse { what: "the backup codes are in another state" });
        }
        let hash = random::sha256(&normal(code));
        if !second_factors::use_backup_code(&mut tx, person.id, &hash, crate::now()).await? {
            return Err(Error::WrongCode);
        }
        second_factors::set_backup_status(&mut tx, person.id, after).await?;
        let action = format!("account.user.backupCodes.{after}");
        self.audit.record_in(&mut tx, &Entry::new(by.clone(), action, resource(&person))).await?;
        tx.commit().await?;
        attempt.succeeded();
        Ok(set.remaining - 1)
    }

    /// Removes backup codes that are not enabled: those that are, are disabled before, by one of them.
    pub async fn delete_backup_codes(&self, person: i64, by: &Actor) -> Result<(), Error> {
        let person = self.person_of(person).await?;
        let mut tx = self.db.begin().await?;
        let set = second_factors::backup_codes_in(&mut tx, person.id).await?.ok_or_else(no_backup_codes)?;
        if set.status == ENABLED && set.remaining > 0 {
            return Err(Error::InUse { what: "backup codes that are enabled are disabled before they are removed" });
        }
        second_factors::delete_backup_codes(&mut tx, person.id).await?;
        let entry = Entry::new(by.clone(), "account.user.backupCodes.deleted", resource(&person));
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// Takes all second factors from a user that lost them, and ends its sessions: for the operator.
    pub async fn reset_second_factors(&self, account: &AccountId, login: &str, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let person = self.person(account, login).await?.ok_or_else(|| no_person(login))?;
        for row in second_factors::totps_in(&mut tx, person.id).await? {
            second_factors::delete_totp(&mut tx, row.id).await?;
        }
        second_factors::delete_backup_codes(&mut tx, person.id).await?;
        let keys = db::webauthn::delete_all(&mut tx, person.id).await?;
        let ended = db::sessions::delete_of_person(&mut tx, person.id).await?;
        let mut entry = Entry::new(by.clone(), "account.user.secondFactors.reset", resource(&person));
        entry.detail = serde_json::json!({ "securityKeysRemoved": keys, "sessionsEnded": ended });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// Whether each user of an account needs a second factor to log in.
    pub async fn is_second_factor_required(&self, account: &AccountId) -> Result<bool, Error> {
        Ok(second_factors::is_required(&self.db, account).await?)
    }

    /// Sets that. Who has none yet gets one at the next log-in; what was granted before stays good.
    pub async fn require_second_factor(&self, account: &AccountId, required: bool, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !second_factors::set_required(&mut tx, account, required).await? {
            return Err(Error::NotFound { kind: "account", id: account.to_string() });
        }
        let mut entry = Entry::new(by.clone(), "account.secondFactor.changed", format!("account/{account}"));
        entry.detail = serde_json::json!({ "required": required });
        self.audit.record_in(&mut tx, &entry).await?;
        Ok(tx.commit().await?)
    }

    /// Uses up a code of a user's enabled second factors; of which it was.
    pub(super) async fn use_code(&self, tx: &mut db::Tx, person: &Person, code: &str) -> Result<Option<Factor>, Error> {
        for row in second_factors::totps_in(tx, person.id).await?.iter().filter(|row| row.status == ENABLED) {
            if self.use_totp(tx, &person.account, row, code).await? {
                return Ok(Some(Factor::Totp));
            }
        }
        let set = second_factors::backup_codes_in(tx, person.id).await?;
        if set.is_some_and(|set| set.status == ENABLED) {
            let hash = random::sha256(&normal(code));
            if second_factors::use_backup_code(tx, person.id, &hash, crate::now()).await? {
                return Ok(Some(Factor::BackupCode));
            }
        }
        Ok(None)
    }

    /// A generator for one form of a log-in, where an account makes a second factor compulsory and the user has none. Never
    /// one that was shown before: the password alone would give whoever has it the secret that its owner goes on to use.
    pub(super) fn new_enrolment(&self, person: &Person) -> Result<Enrolment, Error> {
        let secret = totp::new_secret()?;
        let end = crate::now() + ENROLMENT_TIME;
        let kept = Zeroizing::new(format!("{} {}", end.as_second(), *secret));
        let sealed = self.seal_of_account(&person.account, &enrolment_context(person.id), &kept)?;
        Ok(enrolment(person, hex::encode(sealed), secret))
    }

    /// What the form of that value showed to this user; `None` if its time is over at `now`, or it is no form of ours.
    pub(super) fn enrolment_of(&self, person: &Person, form: &str, now: Timestamp) -> Option<Enrolment> {
        let sealed = hex::decode(form).ok()?;
        let kept = self.open_of_account(&person.account, &enrolment_context(person.id), &sealed).ok()?;
        let (end, secret) = kept.split_once(' ')?;
        let is_over = end.parse::<i64>().ok()? <= now.as_second();
        (!is_over).then(|| enrolment(person, form.to_owned(), Zeroizing::new(secret.to_owned())))
    }

    /// Gives a user the generator that a form showed to it, by a code of it; whether the code is right, and no second factor
    /// was enabled meanwhile. Generators that wait to be validated go: others may know their secrets.
    pub(super) async fn enrol(
        &self,
        tx: &mut db::Tx,
        person: &Person,
        shown: &Enrolment,
        code: &str,
        by: &Actor,
    ) -> Result<bool, Error> {
        let now = crate::now();
        let Some(step) = totp::step_of(&shown.secret, &digits(code), now)? else { return Ok(false) };
        let rows = second_factors::totps_in(tx, person.id).await?;
        let keys = db::webauthn::list_in(tx, person.id).await?;
        if rows.iter().any(|row| row.status == ENABLED) || keys.iter().any(|key| key.status == ENABLED) {
            return Ok(false);
        }
        let (pending, disabled): (Vec<Totp>, Vec<Totp>) = rows.into_iter().partition(|row| row.status == PENDING);
        // Who has as many as there may be, all of them disabled, loses the oldest: else it would come in no more.
        let surplus = disabled.len().saturating_sub(MOST_TOTPS - 1);
        for row in pending.iter().chain(disabled.iter().take(surplus)) {
            second_factors::delete_totp(tx, row.id).await?;
            self.audit.record_in(tx, &entry(by, "account.user.totp.deleted", person, row.id)).await?;
        }
        let row = Totp {
            id: 0,
            person: person.id,
            description: String::new(),
            sealed_secret: self.seal_of_account(&person.account, &secret_context(person.id), &shown.secret)?,
            status: ENABLED.to_owned(),
            created: now,
            last_use: None,
        };
        let id = second_factors::insert_totp(tx, &row).await?;
        self.audit.record_in(tx, &entry(by, "account.user.totp.created", person, id)).await?;
        self.audit.record_in(tx, &entry(by, "account.user.totp.enabled", person, id)).await?;
        Ok(second_factors::use_totp(tx, id, step, now).await?)
    }

    async fn use_totp(&self, tx: &mut db::Tx, account: &AccountId, row: &Totp, code: &str) -> Result<bool, Error> {
        let secret = self.open_of_account(account, &secret_context(row.person), &row.sealed_secret)?;
        let now = crate::now();
        match totp::step_of(&secret, &digits(code), now)? {
            Some(step) => Ok(second_factors::use_totp(tx, row.id, step, now).await?),
            None => Ok(false),
        }
    }

    pub(super) async fn person_of(&self, id: i64) -> Result<Person, Error> {
        let found = db::people::find_by_id(&self.db, id).await?;
        found.map(|(person, _)| person).ok_or_else(|| no_person("of this call"))
    }
}

async fn find_totp(tx: &mut db::Tx, person: i64, id: i64) -> Result<Totp, Error> {
    let rows = second_factors::totps_in(tx, person).await?;
    rows.into_iter().find(|row| row.id == id).ok_or_else(|| Error::NotFound { kind: "id", id: id.to_string() })
}

fn info(row: Totp) -> TotpInfo {
    let Totp { id, description, status, created, last_use, .. } = row;
    TotpInfo { id, description, status, created, last_use }
}

fn enrolment(person: &Person, form: String, secret: Zeroizing<String>) -> Enrolment {
    let uri = totp::uri(person.account.as_str(), &person.login, &secret);
    Enrolment { form, secret, uri }
}

/// A one-time code without the spaces with which apps show it.
fn digits(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Four groups of four letters and digits: 80 random bits.
fn new_backup_code() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; 10]);
    crypto::random(&mut *bytes).map_err(|_| Error::NoRandom)?;
    let text = totp::base32(&*bytes);
    let groups: Vec<&str> = [0, 4, 8, 12].iter().map(|at| &text[*at..at + 4]).collect();
    Ok(Zeroizing::new(groups.join("-")))
}

/// A backup code as its hash is made, however a person writes it.
fn normal(code: &str) -> Zeroizing<String> {
    Zeroizing::new(code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).take(64).collect())
}

fn entry(by: &Actor, action: &str, person: &Person, id: i64) -> Entry {
    Entry::new(by.clone(), action, format!("{}/totp/{id}", resource(person)))
}

fn no_backup_codes() -> Error {
    Error::NotFound { kind: "backup codes", id: "of this user".to_owned() }
}

/// A sealed secret opens only as that of its own user.
fn secret_context(person: i64) -> String {
    format!("totp/{person}")
}

/// Nor does what a form sends back, which is no secret of a stored generator either.
fn enrolment_context(person: i64) -> String {
    format!("totp.enrolment/{person}")
}

/// So long a form with a new generator is good: an app for it may have to be found first.
const ENROLMENT_TIME: SignedDuration = SignedDuration::from_mins(30);
pub(super) const PENDING: &str = "needCodeValidation";
pub(super) const ENABLED: &str = "enabled";
const DISABLED: &str = "disabled";
const MOST_TOTPS: usize = 10;
const BACKUP_CODES: usize = 10;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use audit::Audit;
    use db::Db;
    use keys::Keys;

    use super::*;
    use crate::NewPerson;

    #[tokio::test]
    async fn a_generator_of_a_log_in_is_of_one_form_one_user_and_half_an_hour() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
        let identity = Identity::new(db.clone(), Audit::new(db), keys);
        let (by, account) = (Actor::operator(), "ab1234-casemate".parse::<AccountId>().expect("an account"));
        identity.create_account(&account, "", "", &by).await.expect("an account");
        let mut people = Vec::new();
        for login in ["alice", "bob"] {
            let new = NewPerson { login: login.to_owned(), group: "DEFAULT".to_owned(), ..NewPerson::default() };
            identity.create_person(&account, new, &by).await.expect("a user");
            people.push(identity.person(&account, login).await.expect("read").expect("there"));
        }
        let [alice, bob] = &people[..] else { panic!("two users") };
        let (one, other) = (identity.new_enrolment(alice).expect("one"), identity.new_enrolment(alice).expect("other"));
        assert!(one.secret != other.secret && one.form != other.form);
        assert!(!one.form.contains(&*one.secret) && one.uri.contains(&*one.secret));
        let now = crate::now();
        let secret = |person, form: &str, at| identity.enrolment_of(person, form, at).map(|shown| shown.secret);
        assert_eq!(secret(alice, &one.form, now), Some(one.secret));
        assert_eq!(secret(alice, &other.form, now), Some(other.secret));
        assert_eq!(secret(bob, &one.form, now), None);
        assert_eq!(secret(alice, &one.form, now + ENROLMENT_TIME), None);
        for unknown in ["", "00", "not a form", &one.form[2..]] {
            assert_eq!(secret(alice, unknown, now), None, "{unknown}");
        }
    }
}
