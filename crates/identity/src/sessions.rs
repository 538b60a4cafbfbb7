//! Sessions of the console: a person that logged in is known by a random secret, which its browser keeps in a cookie. The
//! database has its SHA-256 alone. A session ends when its person says so, when nobody used it for [`SESSION_IDLE`], at
//! [`SESSION_LONGEST`] in any case, and with what it rests on: the user's password, the user, the groups of one that a
//! provider vouched for.

use std::net::IpAddr;

use audit::{Actor, Entry};
use db::sessions::{self, Session};
use jiff::{SignedDuration, Timestamp};
use model::AccountId;
use zeroize::Zeroizing;

use crate::{
    AccessRule, Caller, Error, Factor, GroupRole, Identity, Proof, Refusal, Who,
    accounts::dangling,
    people::{changed_meanwhile, is_as_proved, person_identity},
    random,
    sso::no_provider,
};

/// How long a session may go without a use (OWASP ASVS 5.0, 7.3.1).
pub const SESSION_IDLE: SignedDuration = SignedDuration::from_mins(30);

/// How long a session is good in any case (OWASP ASVS 5.0, 7.3.2).
pub const SESSION_LONGEST: SignedDuration = SignedDuration::from_hours(12);

/// Who opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opener {
    /// A user of the account, which has logged in.
    User {
        /// Its number.
        id: i64,
        /// Its name.
        login: String,
        /// When the password was set that it has. If it was set anew after that, or the user was disabled, no session is
        /// opened.
        password_set: Timestamp,
    },
    /// A person that the account's provider of single sign-on vouches for.
    Federated {
        /// What the provider calls it.
        name: String,
        /// Its groups. Those that the account has not are left out at each use; one who is left with none is refused.
        groups: Vec<String>,
        /// When the provider's answer came. If the provider was changed or removed after that, no session is opened.
        since: Timestamp,
        /// Until when the session may last by the provider's word; `None`: it said nothing of that.
        until: Option<Timestamp>,
    },
}

/// A session that is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// The account.
    pub account: &'a AccountId,
    /// Who.
    pub who: &'a Opener,
    /// By what the user proved itself beside the password.
    pub factor: Option<Factor>,
    /// From where.
    pub from: Option<IpAddr>,
    /// By which program.
    pub user_agent: &'a str,
}

/// A new session: the only time that its secret is shown.
pub struct OpenSession {
    /// Its number.
    pub id: i64,
    /// What the cookie holds: 64 hexadecimal digits.
    pub secret: Zeroizing<String>,
    /// When it ends in any case.
    pub expires: Timestamp,
}

/// A session, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its number.
    pub id: i64,
    /// The account.
    pub account: AccountId,
    /// The number of the user; `None`: one that a provider vouched for.
    pub person: Option<i64>,
    /// What the provider calls it; `None`: a user.
    pub federated: Option<String>,
    /// By what it proved itself beside a password, in the audit log's word (`NONE`, `TOTP`, ...; `UNKNOWN`: the provider knows).
    pub factor: String,
    /// From where it was opened.
    pub source_ip: Option<String>,
    /// By which program.
    pub user_agent: String,
    /// When it was opened.
    pub created: Timestamp,
    /// When it was last used.
    pub last_use: Timestamp,
    /// When it ends if nobody uses it.
    pub ends: Timestamp,
}

impl Identity {
    /// Opens a session for one who has logged in. Of the sessions of one holder the 20 newest stay.
    pub async fn open_session(&self, new: &NewSession<'_>) -> Result<OpenSession, Error> {
        let secret = random::hex::<32>()?;
        let now = crate::now();
        let mut row = Session {
            id: 0,
            account: new.account.clone(),
            person: None,
            federated: None,
            groups: None,
            factor: new.factor.map_or("NONE", Factor::as_str).to_owned(),
            source_ip: new.from.map(|ip| ip.to_canonical().to_string()),
            user_agent: new.user_agent.chars().take(256).collect(),
            created: now,
            last_use: now,
            expires: now + SESSION_LONGEST,
        };
        let identity = match new.who {
            Opener::User { id, login, .. } => {
                row.person = Some(*id);
                person_identity(login)
            }
            Opener::Federated { name, groups, until, .. } => {
                row.expires = until.map_or(row.expires, |until| row.expires.min(until));
                row.federated = Some(name.clone());
                row.groups = Some(serde_json::to_string(groups).map_err(|_| damaged())?);
                "UNKNOWN".clone_into(&mut row.factor);
                federated_identity(name)
            }
        };
        let by = Actor { account: Some(row.account.clone()), identity, source_ip: new.from, request_id: None };
        let mut tx = self.db.begin().await?;
        match new.who {
            Opener::User { id, password_set, .. } => {
                if !is_as_proved(&mut tx, *id, *password_set).await? {
                    return Err(changed_meanwhile());
                }
            }
            Opener::Federated { since, .. } => {
                let provider = db::sso::find_in(&mut tx, new.account).await?;
                if provider.is_none_or(|provider| provider.updated > *since) {
                    return Err(no_provider(new.account));
                }
            }
        }
        let replaced = sessions::delete_oldest(&mut tx, &row, MOST_OF_HOLDER - 1).await?;
        row.id = sessions::insert(&mut tx, &row, &random::sha256(&secret))
            .await
            .map_err(|fault| dangling(fault, "user or account", row.account.as_str()))?;
        let mut entry = entry(by, "account.session.opened", &row);
        entry.detail = serde_json::json!({ "mfaType": row.factor, "userAgent": row.user_agent, "expires": row.expires,
            "sessionsEnded": replaced });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(OpenSession { id: row.id, secret, expires: row.expires })
    }

    /// Who holds the session of this secret, with the rights of now. The person itself acts, so no access rule binds it.
    /// Each refusal is in the audit log.
    pub async fn authenticate_session(
        &self,
        secret: &str,
        source_ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        // The secret is compared by its hash: how far two hashes agree tells nothing of the secret.
        let found = match secret.len() {
            64 => sessions::find(&self.db, &random::sha256(secret)).await.map_err(Error::from)?,
            _ => None,
        };
        let Some(mut row) = found else {
            return self.refuse_session(None, source_ip, "there is no such session", Refusal::InvalidSession).await;
        };
        row.last_use = row.last_use.max(self.uses.of_session(row.id).unwrap_or(row.last_use));
        if ends(&row) <= now {
            let mut tx = self.db.begin().await.map_err(Error::from)?;
            if sessions::delete(&mut tx, row.id).await.map_err(Error::from)? {
                let by = Actor { account: Some(row.account.clone()), ..Actor::anonymous(source_ip) };
                self.audit
                    .record_in(&mut tx, &entry(by, "account.session.expired", &row))
                    .await
                    .map_err(Error::from)?;
                tx.commit().await.map_err(Error::from)?;
            }
            return Err(Refusal::InvalidSession);
        }
        let who = match row.person {
            Some(person) => self.active_user(person).await?,
            None => self.federated_now(&row).await?,
        };
        let Some(who) = who else {
            let why = "its user is disabled, or none of its groups is left";
            return self.refuse_session(Some(&row), source_ip, why, Refusal::InvalidSession).await;
        };
        let caller = Caller {
            account: row.account.clone(),
            who,
            proof: Proof::Session { id: row.id },
            rules: AccessRule::everything(),
            expiration: Some(row.expires),
            source_ip,
        };
        if !self.reached_from(&row.account, source_ip).await? {
            let why = "the account does not let that address in";
            let refusal = Refusal::SourceIp { caller: Box::new(caller) };
            return self.refuse_session(Some(&row), source_ip, why, refusal).await;
        }
        self.uses.note_session(row.id, now);
        Ok(caller)
    }

    /// Ends a session; whether it was there.
    pub async fn end_session(&self, id: i64, by: &Actor) -> Result<bool, Error> {
        let Some(row) = sessions::find_by_id(&self.db, id).await? else { return Ok(false) };
        let mut tx = self.db.begin().await?;
        if !sessions::delete(&mut tx, id).await? {
            return Ok(false);
        }
        self.audit.record_in(&mut tx, &entry(by.clone(), "account.session.ended", &row)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Ends the session that a browser had before its person logs in anew, by the secret of its cookie. One that is good no
    /// more, or was none, is nothing to end.
    pub async fn end_session_before(
        &self,
        secret: Option<&str>,
        source_ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(secret) = secret else { return Ok(()) };
        if let Ok(old) = self.authenticate_session(secret, source_ip, now).await
            && let Proof::Session { id } = old.proof
        {
            self.end_session(id, &old.actor()).await?;
        }
        Ok(())
    }

    /// Ends the sessions of all of an account for whom a provider vouched, in the transaction of a change of the
    /// provider; their numbers, for its audit entry.
    pub async fn end_federated_sessions(&self, tx: &mut db::Tx, account: &AccountId) -> Result<Vec<i64>, Error> {
        Ok(sessions::delete_federated(tx, account).await?)
    }

    /// The sessions of an account that are good at `now`, oldest first.
    pub async fn sessions(&self, of: &AccountId, now: Timestamp) -> Result<Vec<SessionInfo>, Error> {
        let rows = sessions::list(&self.db, of).await?;
        let mut good: Vec<SessionInfo> = Vec::with_capacity(rows.len());
        for mut row in rows {
            row.last_use = row.last_use.max(self.uses.of_session(row.id).unwrap_or(row.last_use));
            let ends = ends(&row);
            if ends > now {
                good.push(info(row, ends));
            }
        }
        Ok(good)
    }

    /// One that a provider vouched for, with its groups and their roles as they are now.
    async fn federated_now(&self, row: &Session) -> Result<Option<Who>, Error> {
        let named: Vec<String> =
            serde_json::from_str(row.groups.as_deref().ok_or_else(damaged)?).map_err(|_| damaged())?;
        let mut groups = Vec::with_capacity(named.len());
        let mut role = GroupRole::None;
        for group in db::people::list_groups(&self.db, &row.account).await? {
            if named.contains(&group.name) {
                let of_group = GroupRole::parse(&group.role).ok_or(Error::Damaged { what: "role of a group" })?;
                role = role.stronger(of_group);
                groups.push(group.name);
            }
        }
        let name = row.federated.clone().ok_or_else(damaged)?;
        Ok((!groups.is_empty()).then_some(Who::Federated { name, groups, role }))
    }

    async fn refuse_session(
        &self,
        row: Option<&Session>,
        source_ip: Option<IpAddr>,
        why: &str,
        refusal: Refusal,
    ) -> Result<Caller, Refusal> {
        let by = Actor { account: row.map(|row| row.account.clone()), ..Actor::anonymous(source_ip) };
        let mut entry = match row {
            Some(row) => entry(by, "account.session.refused", row),
            None => Entry::new(by, "account.session.refused", "session"),
        };
        entry.decision = audit::Decision::Refused;
        "refused".clone_into(&mut entry.result);
        entry.detail = serde_json::json!({ "reason": why });
        self.audit.record(entry).await.map_err(Error::from)?;
        Err(refusal)
    }
}

impl std::fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSession").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The name of the cookie that holds a session's secret, where browsers reach the service by `base_url`. With the prefix,
/// browsers take it by HTTPS from this host alone, for all paths (RFC 6265bis, section 4.1.3.2); by plain HTTP, which is for
/// loopback addresses, they would not take it at all.
pub fn session_cookie_name(base_url: &str) -> &'static str {
    if is_https(base_url) { "__Host-casemate" } else { "casemate" }
}

/// What sets that cookie, as `Set-Cookie` has it; an empty secret takes it away.
pub fn session_cookie(base_url: &str, secret: &str) -> String {
    let name = session_cookie_name(base_url);
    let secure = if is_https(base_url) { "; Secure" } else { "" };
    let end = if secret.is_empty() { "; Max-Age=0" } else { "" };
    format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax{secure}{end}")
}

/// The value of a cookie in the `Cookie` headers of a request, of which HTTP/2 may have one a cookie (RFC 9113, section 8.2.3);
/// `None` where it is not there, or twice with different values, or where a header is no text.
pub fn cookie<'h>(lines: impl IntoIterator<Item = &'h [u8]>, name: &str) -> Option<&'h str> {
    let mut found = None;
    for line in lines {
        for pair in std::str::from_utf8(line).ok()?.split(';') {
            if let Some((known, value)) = pair.trim().split_once('=')
                && known == name
            {
                if found.is_some_and(|found| found != value) {
                    return None;
                }
                found = Some(value);
            }
        }
    }
    found
}

fn is_https(base_url: &str) -> bool {
    base_url.starts_with("https://")
}

/// One that a provider vouches for, as the audit log names it.
pub(crate) fn federated_identity(name: &str) -> String {
    format!("federated/{name}")
}

fn entry(by: Actor, action: &str, row: &Session) -> Entry {
    Entry::new(by, action, format!("account/{}/session/{}", row.account, row.id))
}

/// When a session ends if nobody uses it any more.
fn ends(row: &Session) -> Timestamp {
    row.expires.min(row.last_use + SESSION_IDLE)
}

fn info(row: Session, ends: Timestamp) -> SessionInfo {
    let Session { id, account, person, federated, factor, source_ip, user_agent, created, last_use, .. } = row;
    SessionInfo { id, account, person, federated, factor, source_ip, user_agent, created, last_use, ends }
}

fn damaged() -> Error {
    Error::Damaged { what: "session" }
}

const MOST_OF_HOLDER: i64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_comes_twice_is_none() {
        let found = |lines: &[&'static str], name| cookie(lines.iter().map(|line| line.as_bytes()), name);
        assert_eq!(found(&["a=1; casemate=x; b=2"], "casemate"), Some("x"));
        assert_eq!(found(&["a=1", "b=2", "casemate=x"], "casemate"), Some("x"), "in a header of its own");
        assert_eq!(found(&["casemate=x", "casemate=x"], "casemate"), Some("x"));
        assert_eq!(found(&["casemate=x; casemate=y"], "casemate"), None);
        assert_eq!(found(&["casemate=x", "casemate=y"], "casemate"), None);
        assert_eq!(found(&["xcasemate=x; casemate"], "casemate"), None);
        assert_eq!(found(&["casemate=x"], "__Host-casemate"), None);
        assert_eq!(found(&[], "casemate"), None);
        assert_eq!(cookie([&b"\xff"[..], &b"casemate=x"[..]], "casemate"), None);
    }

    #[test]
    fn the_cookie_is_bound_to_https_and_this_host_where_there_is_https() {
        let (by_https, by_http) = ("https://console.example.org", "http://localhost:8080");
        let text = session_cookie(by_https, "s");
        assert_eq!(text, "__Host-casemate=s; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(session_cookie(by_http, "s"), "casemate=s; Path=/; HttpOnly; SameSite=Lax");
        let text = session_cookie(by_https, "");
        assert_eq!(text, "__Host-casemate=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0");
        for url in [by_https, by_http] {
            assert!(session_cookie(url, "s").starts_with(&format!("{}=s;", session_cookie_name(url))));
        }
    }
}
