//! The same submit sent twice is one job: keys that clients name their submits by, kept for a day
//! (draft-ietf-httpapi-idempotency-key-header).

use std::{fmt, str::FromStr, time::Duration};

use db::{
    Tx,
    idempotency::{self as rows, Submitted},
};
use jiff::Timestamp;
use model::{Job, JobId, JobRequest, ProjectId};

use crate::{Error, Inner};

/// A key that a client names a submit by; its own within a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// A text that is no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("1 to 255 printable ASCII characters without spaces, quotes and backslashes, such as a UUID")]
pub struct InvalidKey;

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<IdempotencyKey, InvalidKey> {
        let is_fine = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        match (1..=255).contains(&text.len()) && text.bytes().all(is_fine) {
            true => Ok(IdempotencyKey(text.to_owned())),
            false => Err(InvalidKey),
        }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A submit that is named by a key.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    key: &'a IdempotencyKey,
    digest: [u8; 32],
}

impl<'a> Named<'a> {
    pub(crate) fn new(key: &'a IdempotencyKey, request: &JobRequest) -> Named<'a> {
        Named { key, digest: digest(request) }
    }

    /// The job that was submitted by the key already, as it is now.
    pub(crate) async fn earlier(
        &self,
        jobs: &Inner,
        project: &ProjectId,
        now: Timestamp,
    ) -> Result<Option<Job>, Error> {
        match rows::find(&jobs.parts.db, project, &self.key.0, oldest(now)).await? {
            None => Ok(None),
            Some(found) => Ok(db::jobs::find(&jobs.parts.db, self.same(&found)?).await?),
        }
    }

    /// The job that was submitted by the key already, where there is one; else keeps the key with `job`, in the
    /// transaction that writes the job.
    pub(crate) async fn claim(&self, tx: &mut Tx, job: &Job) -> Result<Option<Job>, Error> {
        let before = oldest(job.created);
        if let Some(found) = rows::find_in(tx, &job.project, &self.key.0, before).await? {
            return Ok(db::jobs::find_in(tx, self.same(&found)?).await?);
        }
        rows::remove_older(tx, before, BATCH).await?;
        let submitted = Submitted { job: job.id, digest: self.digest.to_vec() };
        rows::insert(tx, &job.project, &self.key.0, &submitted, job.created).await?;
        Ok(None)
    }

    /// The job of the key, which must have been used for the same request.
    fn same(&self, found: &Submitted) -> Result<JobId, Error> {
        match found.digest == self.digest {
            true => Ok(found.job),
            false => Err(Error::KeyReused),
        }
    }
}

/// All of a request, each part with its length before it: no two requests have the same text.
fn digest(request: &JobRequest) -> [u8; 32] {
    let JobRequest { name, region, engine, engine_version, container_name, ttl, parameters } = request;
    let mut text = Vec::new();
    for part in [name, region, engine, engine_version, container_name, ttl] {
        text.push(u8::from(part.is_some()));
        push(&mut text, part.as_deref().unwrap_or_default());
    }
    for parameter in parameters {
        push(&mut text, &parameter.name);
        push(&mut text, &parameter.value);
    }
    crypto::digest::sha256(&[text.as_slice()])
}

fn push(text: &mut Vec<u8>, part: &str) {
    text.extend((part.len() as u64).to_be_bytes());
    text.extend(part.as_bytes());
}

fn oldest(now: Timestamp) -> Timestamp {
    now.checked_sub(KEPT).unwrap_or(Timestamp::MIN)
}

const KEPT: Duration = Duration::from_secs(24 * 3600);
/// So many old keys go with each new one: more than come, so that they do not pile up.
const BATCH: u32 = 16;

#[cfg(test)]
mod tests {
    use model::EngineParameter;

    use super::*;

    #[test]
    fn every_part_of_a_request_counts() {
        let parameter = |name: &str, value: &str| EngineParameter { name: name.into(), value: value.into() };
        let one = JobRequest { name: Some("ab".into()), ..JobRequest::default() };
        let others = [
            JobRequest::default(),
            JobRequest { region: Some("ab".into()), ..JobRequest::default() },
            JobRequest { name: Some("a".into()), region: Some("b".into()), ..JobRequest::default() },
            JobRequest { region: Some(String::new()), ..one.clone() },
            JobRequest { parameters: vec![parameter("a", "bc")], ..one.clone() },
            JobRequest { parameters: vec![parameter("ab", "c")], ..one.clone() },
        ];
        let mut all: Vec<[u8; 32]> = others.iter().chain([&one]).map(digest).collect();
        assert_eq!(digest(&one.clone()), digest(&one));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
    }

    #[test]
    fn a_key_is_a_short_word() {
        for wrong in ["", "a b", "a\"b", "a\\b", "a\nb", "é", &"x".repeat(256)] {
            assert!(wrong.parse::<IdempotencyKey>().is_err(), "{wrong}");
        }
        assert!("8e03978e-40d5-43dd-bc93-6894a57f9324".parse::<IdempotencyKey>().is_ok());
    }
}
