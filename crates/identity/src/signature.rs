//! The signature of the old API: SHA-1 over secret, key, method, URL, body and time.
//! <https://help.ovhcloud.com/csm/en-gb-api-getting-started-ovhcloud-api>

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::{Application, Caller, CredentialStatus, Error, GroupRole, Identity, Proof, Who, credentials, random};

/// How far a request's time may be from ours, each way.
pub const WINDOW: Duration = Duration::from_secs(30);

/// What of a request its signature is about. Headers as they came, if they came.
#[derive(Debug, Clone)]
pub struct SignedRequest<'a> {
    /// `X-Ovh-Application`.
    pub application: Option<&'a str>,
    /// `X-Ovh-Consumer`.
    pub consumer: Option<&'a str>,
    /// `X-Ovh-Timestamp`.
    pub timestamp: Option<&'a str>,
    /// `X-Ovh-Signature`.
    pub signature: Option<&'a str>,
    /// The method's word.
    pub method: &'a str,
    /// The URLs, one of which the client saw: each public address of the service with the request's path and query.
    pub urls: &'a [String],
    /// The body's bytes.
    pub body: &'a [u8],
    /// From where it came.
    pub source_ip: Option<IpAddr>,
}

/// Why a caller is not believed. The words are for the caller and tell nothing of other people's keys.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No application key, or one that nobody has.
    #[error("This application key is invalid")]
    InvalidKey,
    /// No credential was sent.
    #[error("You must login first")]
    NoCredential,
    /// A consumer key that nobody has, or not with this application, or not any more.
    #[error("This credential is not valid")]
    InvalidCredential,
    /// An access token that nobody has, or not any more.
    #[error("This access token is not valid")]
    InvalidToken,
    /// A consumer key that waits to be validated.
    #[error("This credential is not validated yet: open its validationUrl")]
    PendingCredential,
    /// A time that is not one, or outside of the window.
    #[error("The timestamp of the request is more than {} s away from the server's time (GET /auth/time)", WINDOW.as_secs())]
    Timestamp,
    /// The signature is another.
    #[error("Invalid signature")]
    Signature,
    /// The credential is right, and may not be used from this address.
    #[error("This credential may not be used from your address")]
    SourceIp {
        /// Whose it is, for the audit log.
        caller: Box<Caller>,
    },
    /// There is no such session, or its time is over.
    #[error("This session has ended")]
    InvalidSession,
    /// The service failed.
    #[error(transparent)]
    Internal(#[from] Error),
}

impl Identity {
    /// Who signed this request. Rules of the credential are asked for later, by [`Caller::may_call`].
    pub async fn authenticate(&self, request: &SignedRequest<'_>, now: Timestamp) -> Result<Caller, Refusal> {
        let application_key = request.application.ok_or(Refusal::InvalidKey)?;
        let (Some(consumer), Some(timestamp), Some(signature)) =
            (request.consumer, request.timestamp, request.signature)
        else {
            self.application_by_key(application_key).await?.ok_or(Refusal::InvalidKey)?;
            return Err(Refusal::NoCredential);
        };
        let found = db::credentials::of_call(&self.db, application_key, &random::sha256(consumer)).await;
        let (application, stored) = found.map_err(Error::from)?;
        let application = application.map(Application::from);
        // The signature is computed in any case, so that no time tells which keys there are.
        let right = match self.secret_of(application.as_ref()).await? {
            Some(secret) => verify(request, &secret, consumer, timestamp, signature),
            None => false,
        };
        let application = application.ok_or(Refusal::InvalidKey)?;
        let stored = stored.filter(|stored| stored.application == application.id).ok_or(Refusal::InvalidCredential)?;
        if !within_window(timestamp, now) {
            return Err(Refusal::Timestamp);
        }
        if !right {
            return Err(Refusal::Signature);
        }
        let credential = credentials::read(stored)?;
        match (credential.status_at(now), &credential.account) {
            (CredentialStatus::Validated, Some(account)) => {
                let who = match credential.person {
                    Some(person) => self.active_user(person).await?.ok_or(Refusal::InvalidCredential)?,
                    None => Who::Account,
                };
                let reached =
                    credential.allows(request.source_ip) && self.reached_from(account, request.source_ip).await?;
                let caller = Caller {
                    account: account.clone(),
                    who,
                    proof: Proof::ConsumerKey { credential: credential.id, application: application.id },
                    rules: credential.rules,
                    expiration: credential.expiration,
                    source_ip: request.source_ip,
                };
                if !reached {
                    return Err(Refusal::SourceIp { caller: Box::new(caller) });
                }
                self.uses.note(credential.id, now);
                Ok(caller)
            }
            (CredentialStatus::PendingValidation, _) => Err(Refusal::PendingCredential),
            _ => Err(Refusal::InvalidCredential),
        }
    }
}

impl Identity {
    /// The secret of an application, or of another one where there is none; `None` where there is none at all.
    async fn secret_of(&self, application: Option<&Application>) -> Result<Option<Zeroizing<String>>, Error> {
        if let Some(application) = application {
            return self.application_secret(application).map(Some);
        }
        let other = db::credentials::any_application(&self.db).await?.map(Application::from);
        other.map(|other| self.application_secret(&other)).transpose()
    }

    /// The user of that number as a caller; `None` if it is gone or disabled.
    pub(crate) async fn active_user(&self, id: i64) -> Result<Option<Who>, Error> {
        let Some((person, role)) = db::people::find_by_id(&self.db, id).await? else { return Ok(None) };
        let role = GroupRole::parse(&role).ok_or(Error::Damaged { what: "role of a group" })?;
        let user = Who::User { id, login: person.login, group: person.group, role };
        Ok(person.enabled.then_some(user))
    }
}

pub(crate) fn within_window(timestamp: &str, now: Timestamp) -> bool {
    let digits = !timestamp.is_empty() && timestamp.len() <= 12 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    digits && timestamp.parse::<i64>().is_ok_and(|seconds| seconds.abs_diff(now.as_second()) <= WINDOW.as_secs())
}

/// Compares with the signature over each URL, all of them, in constant time each.
pub(crate) fn verify(
    request: &SignedRequest<'_>,
    secret: &str,
    consumer: &str,
    timestamp: &str,
    signature: &str,
) -> bool {
    request.urls.iter().take(MOST_URLS).fold(false, |found, url| {
        let right = sign(secret, consumer, request.method, url, request.body, timestamp);
        found | crypto::equal(right.as_bytes(), signature.as_bytes())
    })
}

pub(crate) fn sign(secret: &str, consumer: &str, method: &str, url: &str, body: &[u8], timestamp: &str) -> String {
    #[cfg(test)]
    tests::SIGNED.with(|signed| signed.set(signed.get() + 1));
    let plus = b"+".as_slice();
    let parts = [
        secret.as_bytes(),
        plus,
        consumer.as_bytes(),
        plus,
        method.as_bytes(),
        plus,
        url.as_bytes(),
        plus,
        body,
        plus,
        timestamp.as_bytes(),
    ];
    format!("$1${}", crypto::digest::sha1_hex(&parts))
}

const MOST_URLS: usize = 32;

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use audit::{Actor, Audit};
    use keys::Keys;

    use super::*;
    use crate::{AccessRule, CredentialRequest};

    thread_local! {
        /// How many signatures this thread computed.
        pub(super) static SIGNED: Cell<u32> = const { Cell::new(0) };
    }

    #[tokio::test]
    async fn whatever_is_wrong_with_a_signature_the_same_work_is_done() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = db::Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let keys = Arc::new(Keys::open(&dir.path().join("keys")).expect("keys"));
        let identity = Identity::new(db.clone(), Audit::new(db), keys);
        let (by, account) = (Actor::operator(), "ab1234-casemate".parse().expect("an account"));
        identity.create_account(&account, "", "", &by).await.expect("an account");
        let made = identity.create_application(&account, "app", "", &by).await.expect("an application");
        let asked = CredentialRequest { rules: AccessRule::everything(), ..CredentialRequest::default() };
        let key = identity.create_credential(&made.application, &asked, None, &by).await.expect("a key");
        let (application, consumer) = (made.application.key.as_str(), key.consumer_key.as_str());
        let urls = ["https://api.example.org/1.0/me".to_owned(), "http://127.0.0.1/1.0/me".to_owned()];
        let now = Timestamp::now();
        let (seconds, old) = (now.as_second().to_string(), (now.as_second() - 60).to_string());
        let right = sign(&made.secret, consumer, "GET", &urls[0], b"", &seconds);
        for (application, consumer, timestamp, signature, good) in [
            (application, consumer, seconds.as_str(), right.as_str(), true),
            (application, consumer, seconds.as_str(), "$1$0", false),
            (application, consumer, old.as_str(), right.as_str(), false),
            (application, "nobody's", seconds.as_str(), right.as_str(), false),
            ("nobody's", consumer, seconds.as_str(), right.as_str(), false),
            ("nobody's", "nobody's", "x", "", false),
        ] {
            let request = SignedRequest {
                application: Some(application),
                consumer: Some(consumer),
                timestamp: Some(timestamp),
                signature: Some(signature),
                method: "GET",
                urls: &urls,
                body: b"",
                source_ip: None,
            };
            let before = SIGNED.with(Cell::get);
            let answer = identity.authenticate(&request, now).await;
            assert_eq!(answer.is_ok(), good, "{answer:?}");
            assert_eq!(SIGNED.with(Cell::get) - before, 2, "one for each URL: {answer:?}");
        }
    }

    #[test]
    fn the_signature_is_that_of_python_hashlib() {
        let body = br#"{"name":"caf\u00e9"}"#;
        assert_eq!(
            sign("s3cr3t", "ck", "POST", "https://api.example.org/1.0/cloud/project?a=b%20c", body, "1700000000"),
            "$1$129ff9f6ecc1405bfdf34456376bb82865dd791c",
        );
    }

    #[test]
    fn the_window_is_thirty_seconds_each_way() {
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        for (text, good) in [
            ("1700000000", true),
            ("1700000030", true),
            ("1699999970", true),
            ("1700000031", false),
            ("1699999969", false),
            ("", false),
            ("-1700000000", false),
            ("1700000000.0", false),
            ("99999999999999999999", false),
        ] {
            assert_eq!(within_window(text, now), good, "{text}");
        }
    }
}
