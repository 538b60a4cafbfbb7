//! Log-ins of users: password, second factor, address. What is wrong is told to nobody who could learn from it: who does not
//! have the right password hears one answer, after the same time, whether there is such a user or not.

use std::{net::IpAddr, time::Instant};

use audit::{Actor, Entry};
use model::AccountId;
use zeroize::Zeroizing;

use super::{
    Assertion, Enrolment, KeyRequest, Person,
    challenges::Purpose,
    password, resource,
    second_factor::{ENABLED, Factor},
    setup::{is_as_proved, person_identity, words},
};
use crate::{Error, Identity, passwords::Try};

/// What a person gives to log in.
#[derive(Debug, Clone, Copy)]
pub struct LogIn<'a> {
    /// `ACCOUNT/LOGIN`.
    pub name: &'a str,
    /// The password.
    pub password: &'a str,
    /// A one-time code or a backup code; empty if none is given.
    pub code: &'a str,
    /// What a form that showed a new generator sends back ([`Enrolment::form`]); empty for any other form.
    pub enrolment: &'a str,
    /// What a security key says; `None` if none is given. It goes before a code.
    pub assertion: Option<&'a Assertion>,
    /// The password that takes the place of one that must be changed; empty if none is given.
    pub new_password: &'a str,
    /// From where.
    pub from: Option<IpAddr>,
    /// By which program.
    pub user_agent: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub enum LoggedIn {
    /// It is this user.
    Done {
        /// Who.
        person: Person,
        /// By what beside the password.
        factor: Option<Factor>,
    },
    /// It is nobody that may come in.
    Refused,
    /// The password is right, and a second factor is wanted too, or another one: a code, or one of these keys.
    CodeWanted(Option<KeyRequest>),
    /// The password is right, and has to be changed; why the new one that was given is not good.
    NewPasswordWanted(Option<&'static str>),
    /// The password is right, and the user begins with this generator: by a code of it, which comes with the form that shows
    /// it.
    Enrol(Enrolment),
}

impl LoggedIn {
    /// What is told to a person who is not in yet, by every page; empty for one who is. `tried`: whether a code or a key came
    /// with the password.
    pub fn told(&self, tried: bool) -> String {
        match self {
            LoggedIn::Done { .. } => String::new(),
            LoggedIn::Refused => "The login or the password is not right, or may not be used from here.".to_owned(),
            LoggedIn::CodeWanted(key) => match (tried, key.is_some()) {
                (false, false) => "Give a one-time code too, or a backup code.".to_owned(),
                (false, true) => "Use your security key too, or give a one-time code or a backup code.".to_owned(),
                (true, false) => "The code is not right, or was used already.".to_owned(),
                (true, true) => "The security key or the code is not right, or was used already.".to_owned(),
            },
            LoggedIn::NewPasswordWanted(rule) => {
                let rule = rule.map(|rule| format!(" It is not good enough: {rule}.")).unwrap_or_default();
                format!("Your password has to be changed now: give a new one.{rule}")
            }
            LoggedIn::Enrol(_) => "Give a one-time code of the secret below.".to_owned(),
        }
    }
}

impl Identity {
    /// Lets a user in, or says what is wanted. Too many wrong tries from an address: [`Error::TryLater`].
    pub async fn log_in(&self, given: &LogIn<'_>) -> Result<LoggedIn, Error> {
        let (account, login) = given.name.split_once('/').unwrap_or((given.name, ""));
        if [given.name, given.password, given.code, given.enrolment].iter().any(|text| text.len() > LONGEST) {
            return Ok(LoggedIn::Refused);
        }
        let attempt = self.passwords.admit(given.from, given.name, Instant::now())?;
        let (person, hash) = match db::people::find(&self.db, account, login).await? {
            Some((person, hash)) => (Some(person), hash),
            None => (None, None),
        };
        let right = self.passwords.verify(Zeroizing::new(given.password.to_owned()), hash).await?;
        let (person, why) = match person {
            None => (None, "there is no such user"),
            Some(person) if !right => (Some(person), "the password is wrong"),
            Some(person) if !person.enabled => (Some(person), "the user is disabled"),
            Some(person) if self.are_users_disabled(&person.account).await? => {
                (Some(person), "the account lets people in by its provider of single sign-on alone")
            }
            Some(person) if !self.reached_from(&person.account, given.from).await? => {
                (Some(person), "the account does not let that address in")
            }
            Some(person) => return self.admit_person(person, given, attempt).await,
        };
        self.audit.record(failed(given, person.as_ref().map(|person| &person.account), why)).await?;
        Ok(LoggedIn::Refused)
    }

    /// The rest of the way for one whose password is right.
    async fn admit_person(&self, mut person: Person, given: &LogIn<'_>, attempt: Try) -> Result<LoggedIn, Error> {
        let by = Actor {
            account: Some(person.account.clone()),
            identity: person_identity(&person.login),
            source_ip: given.from,
            request_id: None,
        };
        let mut new_hash = None;
        if person.change_password {
            let chosen = Zeroizing::new(given.new_password.to_owned());
            if chosen.is_empty() {
                attempt.succeeded();
                return Ok(LoggedIn::NewPasswordWanted(None));
            }
            if *chosen == given.password {
                return Ok(LoggedIn::NewPasswordWanted(Some("another than the one that it takes the place of")));
            }
            match password::check(&self.common_passwords, &chosen, &words(&person)) {
                Ok(()) => new_hash = Some(self.passwords.hash(chosen).await?),
                Err(Error::Invalid { rule, .. }) => return Ok(LoggedIn::NewPasswordWanted(Some(rule))),
                Err(fault) => return Err(fault),
            }
        }
        let has_totp = self.totps(person.id).await?.iter().any(|totp| totp.status == ENABLED);
        let has_factor = has_totp || self.has_key(person.id).await?;
        let mut enrolling = None;
        if !has_factor && self.is_second_factor_required(&person.account).await? {
            match self.enrolment_of(&person, given.enrolment, crate::now()) {
                Some(shown) if !given.code.is_empty() => enrolling = Some(shown),
                shown => {
                    attempt.succeeded();
                    return Ok(LoggedIn::Enrol(shown.map_or_else(|| self.new_enrolment(&person), Ok)?));
                }
            }
        }
        if has_factor && given.code.is_empty() && given.assertion.is_none() {
            attempt.succeeded();
            return Ok(LoggedIn::CodeWanted(self.key_request(person.id, given.from).await?));
        }
        let code_attempt = match has_factor || enrolling.is_some() {
            true => Some(self.passwords.admit_code(given.from, person.id, Instant::now())?),
            false => None,
        };
        let mut tx = self.db.begin().await?;
        if !is_as_proved(&mut tx, person.id, person.password_updated).await? {
            drop(tx);
            let why = "the user was disabled, or the password set anew, while it was checked";
            self.audit.record(failed(given, Some(&person.account), why)).await?;
            return Ok(LoggedIn::Refused);
        }
        let mut enrolled = None;
        if let Some(shown) = enrolling {
            if !self.enrol(&mut tx, &person, &shown, given.code, &by).await? {
                drop(tx);
                let why = "the code of the new generator is wrong, or a second factor was enabled meanwhile";
                self.audit.record(failed(given, Some(&person.account), why)).await?;
                return Ok(LoggedIn::Enrol(shown));
            }
            enrolled = Some(Factor::Totp);
        }
        let proved = match (has_factor, given.assertion) {
            (false, _) => Ok(enrolled),
            (true, Some(assertion)) => {
                let purpose = Purpose::SecondFactor { person: person.id };
                let used = self.use_key(&mut tx, &person, assertion, purpose).await?;
                used.map(Some).map_err(|fault| fault.to_string())
            }
            (true, None) => {
                let used = self.use_code(&mut tx, &person, given.code).await?;
                used.map(Some).ok_or_else(|| "the code is wrong or was used".to_owned())
            }
        };
        let factor = match proved {
            Ok(factor) => factor,
            Err(why) => {
                drop(tx);
                self.audit.record(failed(given, Some(&person.account), &why)).await?;
                return Ok(LoggedIn::CodeWanted(self.key_request(person.id, given.from).await?));
            }
        };
        if let Some(hash) = new_hash {
            let ended = db::credentials::expire_of_person(&mut tx, person.id, None).await?;
            person.password_updated = self.set_password(&mut tx, &person, &hash, &ended, by.clone()).await?;
            person.change_password = false;
        }
        self.audit.record_in(&mut tx, &succeeded(by, &person, factor, given)).await?;
        tx.commit().await?;
        attempt.succeeded();
        if let Some(attempt) = code_attempt {
            attempt.succeeded();
        }
        Ok(LoggedIn::Done { person, factor })
    }
}

/// What the audit log says of a log-in, with the words of the old service.
pub(super) fn succeeded(by: Actor, person: &Person, factor: Option<Factor>, given: &LogIn<'_>) -> Entry {
    let mut entry = Entry::new(by, "account.user.loggedIn", resource(person));
    entry.detail = serde_json::json!({
        "type": "LOGIN_SUCCESS",
        "authDetails": { "userDetails": { "type": "USER", "user": person.login } },
        "loginSuccessDetails": {
            "mfaType": factor.map_or("NONE", Factor::as_str),
            "userAgent": given.user_agent.chars().take(256).collect::<String>(),
        },
    });
    entry
}

pub(super) fn failed(given: &LogIn<'_>, account: Option<&AccountId>, why: &str) -> Entry {
    let by = Actor { account: account.cloned(), ..Actor::anonymous(given.from) };
    let name: String = given.name.chars().take(160).collect();
    // A person may have put the password where the name belongs.
    let resource = if account.is_some() { format!("login/{name}") } else { "login".to_owned() };
    let mut entry = Entry::new(by, "account.user.loginFailed", resource);
    entry.decision = audit::Decision::Refused;
    "refused".clone_into(&mut entry.result);
    entry.detail = serde_json::json!({ "reason": why });
    entry
}

const LONGEST: usize = 1024;
