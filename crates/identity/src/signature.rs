//! The signature of the old API: SHA-1 over secret, key, method, URL, body and time.
//! <https://help.ovhcloud.com/csm/en-gb-api-getting-started-ovhcloud-api>

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;

use crate::{Caller, CredentialStatus, Error, GroupRole, Identity, Proof, Who, credentials, random};

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
    /// The credential may not be used from this address.
    #[error("This credential may not be used from your address")]
    SourceIp,
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
        let application = self.application_by_key(application_key).await?.ok_or(Refusal::InvalidKey)?;
        let stored = db::credentials::by_key(&self.db, &random::sha256(consumer))
            .await
            .map_err(Error::from)?
            .filter(|stored| stored.application == application.id)
            .ok_or(Refusal::InvalidCredential)?;
        if !within_window(timestamp, now) {
            return Err(Refusal::Timestamp);
        }
        let secret = self.application_secret(&application)?;
        if !verify(request, &secret, consumer, timestamp, signature) {
            return Err(Refusal::Signature);
        }
        let credential = credentials::read(stored)?;
        match (credential.status_at(now), &credential.account) {
            (CredentialStatus::Validated, Some(account)) => {
                let who = match credential.person {
                    Some(person) => self.active_user(person).await?.ok_or(Refusal::InvalidCredential)?,
                    None => Who::Account,
                };
                if !credential.allows(request.source_ip) || !self.reached_from(account, request.source_ip).await? {
                    return Err(Refusal::SourceIp);
                }
                self.uses.note(credential.id, now);
                Ok(Caller {
                    account: account.clone(),
                    who,
                    proof: Proof::ConsumerKey { credential: credential.id, application: application.id },
                    rules: credential.rules,
                    expiration: credential.expiration,
                    source_ip: request.source_ip,
                })
            }
            (CredentialStatus::PendingValidation, _) => Err(Refusal::PendingCredential),
            _ => Err(Refusal::InvalidCredential),
        }
    }
}

impl Identity {
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
    use super::*;

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
