//! Tells others of changes: a bucket can name webhooks of the service, to which its events are sent.
//!
//! An event is a row that is written in the transaction of the change that it tells of. So none is lost by a crash,
//! and none tells of a change that was not made. A task for each webhook sends them and removes what was taken: an
//! event arrives at least once. Start at [`Teller`], which writes, and [`Store::run_webhooks`], which sends.

mod config;
mod deliver;
mod event;
#[cfg(test)]
#[path = "tests.rs"]
mod store_tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use audit::Actor;
use redb::ReadableTable as _;
use tokio::sync::watch;
use url::{Host, Url};
use zeroize::Zeroizing;

pub use config::{Rule, check, read, to_s3};
pub use event::How;
use event::{EventRow, What};

use crate::{
    Error,
    index::{Writing, signed},
    rows::{self, BucketRow, Kind, ObjectRow},
    store::Store,
    versions::{Name, Removed, VersionId},
};

/// A place to which events are sent.
#[derive(Clone)]
pub struct Webhook {
    /// How buckets name it: 1 to 80 letters, digits, `-` and `_`.
    pub name: String,
    /// Where events are posted: `https`, or `http` with an address of loopback.
    pub url: Url,
    /// What signatures are made with: at least 16 bytes.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL can hold a token of the receiver's.
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Says why a name or a URL cannot be one of a webhook: [`Error::Invalid`].
    pub fn check(name: &str, url: &Url) -> Result<(), Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            return Err(Error::Invalid(format!(
                "the name of a webhook has 1 to {LONGEST_NAME} letters, digits, hyphens and underscores"
            )));
        }
        let loopback = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            _ => false,
        };
        if url.scheme() == "https" || (url.scheme() == "http" && loopback) {
            return Ok(());
        }
        Err(Error::Invalid(format!("the URL of webhook {name} is https://, or http:// with an address of loopback")))
    }
}

/// What the store knows of webhooks.
#[derive(Debug, Default)]
pub struct Notices {
    /// By name; none until they are attached.
    webhooks: OnceLock<BTreeMap<String, Webhook>>,
    /// Changes when there are more events.
    more: watch::Sender<()>,
}

impl Store {
    /// Says which webhooks there are. Once, before buckets name them. [`Error::Invalid`] if one of them cannot be, or two
    /// have the same name.
    pub fn attach_webhooks(&self, webhooks: Vec<Webhook>) -> Result<(), Error> {
        let mut named = BTreeMap::new();
        for webhook in webhooks {
            Webhook::check(&webhook.name, &webhook.url)?;
            if webhook.secret.len() < SHORTEST_SECRET {
                let name = &webhook.name;
                return Err(Error::Invalid(format!(
                    "the secret of webhook {name} has at least {SHORTEST_SECRET} characters"
                )));
            }
            if let Some(other) = named.insert(webhook.name.clone(), webhook) {
                return Err(Error::Invalid(format!("two webhooks are named {}", other.name)));
            }
        }
        let again = |_| Error::Invalid("webhooks are attached once".to_owned());
        self.0.notices.webhooks.set(named).map_err(again)
    }

    /// The webhook of a name.
    pub(crate) fn webhook(&self, name: &str) -> Option<&Webhook> {
        self.0.notices.webhooks.get()?.get(name)
    }

    /// One who tells of the changes of a call.
    pub(crate) fn teller(&self) -> Teller {
        Teller { by: self.1.by.clone(), told: Arc::default() }
    }

    /// Events may have been written: whoever sends them is told. Comes after the transaction.
    pub(crate) fn told(&self, told: &Told) {
        if told.0.load(Ordering::Relaxed) {
            self.0.notices.more.send_replace(());
        }
    }
}

/// Writes events of changes, in their transaction.
pub struct Teller {
    by: Option<Arc<Actor>>,
    told: Arc<AtomicBool>,
}

/// Whether a teller wrote anything.
pub struct Told(Arc<AtomicBool>);

impl Teller {
    /// What is to be looked at once the transaction is made; see [`Store::told`].
    pub fn watch(&self) -> Told {
        Told(Arc::clone(&self.told))
    }

    /// Tells of an object that was written.
    pub fn created(
        &self,
        writing: &mut Writing<'_>,
        bucket: &BucketRow,
        name: Name<'_>,
        row: &ObjectRow,
        how: How,
    ) -> Result<(), Error> {
        self.tell(writing, bucket, name, |event| {
            event.what = What::Created(how);
            event.size = Some(row.size);
            event.etag = Some(row.etag.clone());
            event.version = number(row.id());
        })
    }

    /// Tells of what was removed or hidden, if anything was; `expired` if by a rule of the bucket.
    pub fn removed(
        &self,
        writing: &mut Writing<'_>,
        bucket: &BucketRow,
        name: Name<'_>,
        removed: &Removed,
        expired: bool,
    ) -> Result<(), Error> {
        if !removed.changed {
            return Ok(());
        }
        let marked = removed.marker.is_some() && !removed.was_marker;
        self.tell(writing, bucket, name, |event| {
            event.what = match (expired, marked) {
                (false, false) => What::Deleted,
                (false, true) => What::Marked,
                (true, false) => What::Expired,
                (true, true) => What::ExpiredMarked,
            };
            event.version = removed.version.or(removed.marker).and_then(number);
        })
    }

    fn tell(
        &self,
        writing: &mut Writing<'_>,
        bucket: &BucketRow,
        name: Name<'_>,
        fill: impl FnOnce(&mut EventRow),
    ) -> Result<(), Error> {
        // Most buckets have none, which costs nothing.
        if !bucket.documents.contains(&Kind::Notification) {
            return Ok(());
        }
        let rules: Vec<Rule> = match writing.documents.get((name.0, name.1, Kind::Notification.name()))? {
            Some(document) => rows::decode("rules of notifications", document.value())?,
            None => return Ok(()),
        };
        let key = std::str::from_utf8(name.2).map_err(|_| Error::Damaged { what: "a key".to_owned() })?;
        let by = self.by.as_deref();
        let mut event = EventRow {
            what: What::Deleted,
            rule: String::new(),
            at: 0,
            project: name.0.to_owned(),
            bucket: name.1.to_owned(),
            key: key.to_owned(),
            size: None,
            etag: None,
            version: None,
            identity: by.map_or("system", |by| by.identity.as_str()).to_owned(),
            from: by.and_then(|by| by.source_ip),
            request: by.and_then(|by| by.request_id.clone()),
            sequence: writing.now(),
        };
        fill(&mut event);
        event.at = crate::clock::milliseconds(event.sequence);
        for rule in rules.iter().filter(|rule| rule.is_for(event.what, key)) {
            event.rule.clone_from(&rule.id);
            keep(writing, &rule.webhook, &event, MOST_WAITING)?;
            self.told.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Keeps an event for a webhook. Where `most` wait for it already, the oldest go.
fn keep(writing: &mut Writing<'_>, webhook: &str, event: &EventRow, most: u64) -> Result<(), Error> {
    if waiting(writing, webhook)? >= most {
        let oldest: Vec<u64> = {
            let range = writing.events.range((webhook, 0)..=(webhook, u64::MAX))?;
            range.take(AT_ONCE).map(|row| row.map(|(key, _)| key.value().1)).collect::<Result<_, _>>()?
        };
        let dropped = forget(writing, webhook, &oldest)?;
        tracing::error!(webhook, dropped, most, "too many events wait for a webhook: the oldest are dropped");
    }
    let number = writing.now();
    let row = rows::encode(event);
    writing.events.insert((webhook, number), row.as_slice())?;
    count(writing, webhook, 1)
}

/// Removes events of a webhook; how many were there.
fn forget(writing: &mut Writing<'_>, webhook: &str, numbers: &[u64]) -> Result<u64, Error> {
    let mut forgotten = 0;
    for number in numbers {
        forgotten += u64::from(writing.events.remove((webhook, *number))?.is_some());
    }
    count(writing, webhook, -signed(forgotten))?;
    Ok(forgotten)
}

/// How many events wait for a webhook.
fn waiting(writing: &Writing<'_>, webhook: &str) -> Result<u64, Error> {
    Ok(writing.meta.get(counter(webhook).as_str())?.map_or(0, |count| count.value()))
}

fn count(writing: &mut Writing<'_>, webhook: &str, more: i64) -> Result<(), Error> {
    let count = waiting(writing, webhook)?.saturating_add_signed(more);
    let name = counter(webhook);
    match count {
        0 => writing.meta.remove(name.as_str()).map(drop)?,
        count => writing.meta.insert(name.as_str(), count).map(drop)?,
    }
    Ok(())
}

/// Under what name the events that wait for a webhook are counted; no other number of the index has a colon in its name.
fn counter(webhook: &str) -> String {
    format!("events:{webhook}")
}

/// A version where the bucket has versions.
fn number(id: VersionId) -> Option<String> {
    matches!(id, VersionId::Number(_)).then(|| id.to_string())
}

/// As long as the name of a queue can be.
const LONGEST_NAME: usize = 80;
const SHORTEST_SECRET: usize = 16;
/// The most events that wait for one webhook.
const MOST_WAITING: u64 = 1_000_000;
/// The most that go in one transaction.
const AT_ONCE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_reached_by_tls_or_on_this_machine() {
        let check = |name: &str, url: &str| Webhook::check(name, &url.parse().expect("a URL"));
        for good in ["https://example.org/x", "http://127.0.0.1:9000/", "http://[::1]/"] {
            check("hook-1_A", good).expect("good");
        }
        for bad in ["http://example.org/", "http://localhost/", "http://10.0.0.1/", "ftp://127.0.0.1/", "file:///x"] {
            assert!(matches!(check("hook", bad), Err(Error::Invalid(_))), "{bad}");
        }
        for bad in ["", "a b", "a:b", "é", &"a".repeat(81)] {
            assert!(matches!(check(bad, "https://example.org/"), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn beyond_the_most_the_oldest_events_of_the_webhook_go_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = redb::Database::create(dir.path().join("index")).expect("a database");
        let transaction = database.begin_write().expect("a transaction");
        let mut writing = Writing::new(&transaction, &crate::clock::Clock::default(), None).expect("tables");
        let event = event::tests::event("key");
        keep(&mut writing, "other", &event, 3000).expect("kept");
        for _ in 0..3000 {
            keep(&mut writing, "hook", &event, 3000).expect("kept");
        }
        let first = |writing: &Writing<'_>| {
            let range = writing.events.range(("hook", 0)..=("hook", u64::MAX)).expect("rows");
            let numbers: Vec<u64> = range.map(|row| row.expect("a row").0.value().1).collect();
            (numbers[AT_ONCE], numbers[0], numbers.len())
        };
        let (after, oldest, count) = first(&writing);
        assert_eq!((count, waiting(&writing, "hook").expect("a count")), (3000, 3000));
        keep(&mut writing, "hook", &event, 3000).expect("kept");
        let (_, now_oldest, count) = first(&writing);
        assert!(now_oldest > oldest);
        assert_eq!((now_oldest, count, waiting(&writing, "hook").expect("a count")), (after, 2001, 2001));
        assert_eq!(waiting(&writing, "other").expect("a count"), 1);
    }
}
