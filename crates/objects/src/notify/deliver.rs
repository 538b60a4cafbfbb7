//! Sends events to webhooks.
//!
//! A task for each webhook, so that a slow one does not hold up others. It sends one event at a time, in order. Where
//! the receiver cannot be reached, it waits and tries that event again. An event that is refused is put aside and tried
//! again later, so that the others go on; from there on the order is not kept.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use audit::{Actor, Audit, Entry};
use http::header;
use jiff::Timestamp;
use model::Region;
use tokio_util::sync::CancellationToken;

use super::{AT_ONCE, Webhook, event::EventRow, forget};
use crate::{
    Error,
    index::{EVENTS, Writing},
    rows,
    seal::Body,
    store::Store,
};

impl Store {
    /// Sends events to webhooks as they come, until `stop`; first those of before. `region` is the one that they are
    /// said to be of. What could not be sent for a day is dropped, which is in the service's log and in the audit log.
    /// [`Error::Invalid`] if there can be no HTTP client.
    pub async fn run_webhooks(&self, region: &Region, audit: &Audit, stop: CancellationToken) -> Result<(), Error> {
        let webhooks = self.0.notices.webhooks.get().into_iter().flat_map(BTreeMap::values);
        let senders = webhooks.map(|webhook| {
            let sender = Sender {
                store: self.clone(),
                audit: audit.clone(),
                http: client(webhook)?,
                webhook: webhook.clone(),
                region: region.to_string(),
                tried: 0,
                aside: BTreeMap::new(),
                failures: 0,
                taken: Vec::new(),
            };
            Ok(sender.run(stop.clone()))
        });
        let senders = senders.collect::<Result<Vec<_>, Error>>()?;
        futures::join!(futures::future::join_all(senders), self.drop_unclaimed(audit, &stop));
        Ok(())
    }

    /// Drops old events of webhooks that are not configured any more, now and then.
    async fn drop_unclaimed(&self, audit: &Audit, stop: &CancellationToken) {
        loop {
            match self.drop_all_unclaimed(audit).await {
                Ok(()) => {}
                Err(Error::Closed) => return,
                Err(cause) => tracing::error!(cause = ?cause, "events that nobody takes were not dropped"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(UNCLAIMED_PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// One look at what nobody takes.
    pub(super) async fn drop_all_unclaimed(&self, audit: &Audit) -> Result<(), Error> {
        let named = self.read(|index| {
            let table = index.open_table(EVENTS)?;
            let mut names: Vec<String> = Vec::new();
            loop {
                let last = names.last().map_or("", String::as_str);
                let Some(row) = table.range((last, u64::MAX)..)?.next() else { return Ok(names) };
                let name = row?.0.value().0.to_owned();
                names.push(name);
            }
        });
        for name in named.await? {
            if self.webhook(&name).is_none() {
                self.drop_old_events(audit, &name).await?;
            }
        }
        Ok(())
    }

    /// Drops what has waited for a webhook for longer than a day.
    async fn drop_old_events(&self, audit: &Audit, webhook: &str) -> Result<(), Error> {
        let age = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        let now = u64::try_from(self.clock().await?).unwrap_or(0).saturating_mul(1000);
        let before = now.saturating_sub(age);
        self.drop_events(audit, webhook, before).await
    }

    /// Drops what was written for a webhook before a time, in microseconds of the store's clock.
    async fn drop_events(&self, audit: &Audit, webhook: &str, before: u64) -> Result<(), Error> {
        loop {
            let name = webhook.to_owned();
            let old: Vec<u64> = self
                .read(move |index| {
                    let table = index.open_table(EVENTS)?;
                    let rows = table.range((name.as_str(), 0)..(name.as_str(), before))?.take(AT_ONCE);
                    Ok(rows.map(|row| row.map(|(key, _)| key.value().1)).collect::<Result<_, _>>()?)
                })
                .await?;
            if old.is_empty() {
                return Ok(());
            }
            let dropped = old.len();
            tracing::error!(webhook, dropped, "events could not be sent to a webhook for a day, and are dropped");
            let mut entry = Entry::new(Actor::system(), "s3:NotificationDropped", format!("webhook/{webhook}"));
            entry.result = "dropped".to_owned();
            entry.detail = serde_json::json!({ "events": dropped });
            audit.record(entry).await.map_err(Error::Audit)?;
            self.forget_events(webhook, old).await?;
        }
    }

    async fn forget_events(&self, webhook: &str, numbers: Vec<u64>) -> Result<(), Error> {
        let webhook = webhook.to_owned();
        let remove = move |writing: &mut Writing<'_>, _| forget(writing, &webhook, &numbers).map(drop);
        self.0.committer.commit(Body::Empty, remove).await
    }
}

/// Sends to one webhook.
struct Sender {
    store: Store,
    audit: Audit,
    http: reqwest::Client,
    webhook: Webhook,
    region: String,
    /// Events with numbers up to this were tried: they are gone, or put aside.
    tried: u64,
    /// Events that were refused.
    aside: BTreeMap<u64, Aside>,
    /// How many tries failed one after another.
    failures: u32,
    /// Events that were taken, and are not removed yet.
    taken: Vec<u64>,
}

/// An event that was refused.
struct Aside {
    tries: u32,
    /// When it is tried again.
    due: Instant,
}

/// What comes after a round.
enum Next {
    /// Another one.
    Round,
    /// Another one when there are more events, or after a time.
    Wait(Duration),
    /// Another one after a time, for something failed.
    Pause(Duration),
}

/// What became of an event.
enum Fate {
    Taken,
    /// The receiver said no.
    Refused(http::StatusCode),
    /// There is no receiver, or it does not answer.
    Away(reqwest::Error),
}

impl Sender {
    async fn run(mut self, stop: CancellationToken) {
        let mut more = self.store.0.notices.more.subscribe();
        loop {
            // What comes from here on is another round's.
            more.mark_unchanged();
            let next = match stop.run_until_cancelled(self.round()).await {
                None => break,
                Some(Ok(next)) => next,
                Some(Err(Error::Closed)) => return,
                Some(Err(cause)) => {
                    tracing::error!(webhook = self.webhook.name, cause = ?cause, "events of a webhook cannot be used");
                    Next::Pause(SHORTEST_PAUSE)
                }
            };
            let waited = match next {
                Next::Round => continue,
                Next::Wait(time) => {
                    stop.run_until_cancelled(tokio::time::timeout(time, more.changed())).await.map(drop)
                }
                Next::Pause(time) => stop.run_until_cancelled(tokio::time::sleep(time)).await,
            };
            if waited.is_none() {
                break;
            }
        }
        // What was taken just before need not be sent again.
        if let Err(cause) = self.forget_taken().await {
            tracing::warn!(webhook = self.webhook.name, cause = ?cause, "events that were taken will be sent again");
        }
    }

    /// Sends some events: one that was put aside and is due, or else those that come next.
    async fn round(&mut self) -> Result<Next, Error> {
        self.forget_taken().await?;
        let now = Instant::now();
        let due = self.aside.iter().find(|(_, aside)| aside.due <= now).map(|(number, _)| *number);
        let events = match due {
            Some(number) => self.events(number, number, 1).await?,
            None => self.events(self.tried.saturating_add(1), u64::MAX, ROUND).await?,
        };
        if let (Some(number), true) = (due, events.is_empty()) {
            // It was dropped.
            self.aside.remove(&number);
            return Ok(Next::Round);
        }
        if events.is_empty() {
            let next = self.aside.values().map(|aside| aside.due.saturating_duration_since(now)).min();
            return Ok(Next::Wait(next.map_or(LOOK, |next| next.min(LOOK))));
        }
        for (number, event) in events {
            match self.send(number, &event).await {
                Fate::Taken => {
                    self.taken.push(number);
                    self.aside.remove(&number);
                    self.failures = 0;
                    self.tried = self.tried.max(number);
                }
                Fate::Refused(status) => {
                    let tries = self.aside.get(&number).map_or(0, |aside| aside.tries) + 1;
                    tracing::warn!(webhook = self.webhook.name, %status, tries, "a webhook refused an event");
                    if self.aside.contains_key(&number) || self.aside.len() < MOST_ASIDE {
                        self.aside.insert(number, Aside { tries, due: Instant::now() + pause(tries) });
                        self.tried = self.tried.max(number);
                    }
                    return self.failed().await;
                }
                Fate::Away(cause) => {
                    // Without its URL, which can hold a token of the receiver's.
                    let cause = cause.without_url();
                    tracing::warn!(webhook = self.webhook.name, cause = ?cause, "a webhook cannot be reached");
                    return self.failed().await;
                }
            }
        }
        Ok(Next::Round)
    }

    async fn failed(&mut self) -> Result<Next, Error> {
        self.failures = self.failures.saturating_add(1);
        self.forget_taken().await?;
        self.store.drop_old_events(&self.audit, &self.webhook.name).await?;
        Ok(Next::Pause(pause(self.failures)))
    }

    async fn forget_taken(&mut self) -> Result<(), Error> {
        if self.taken.is_empty() {
            return Ok(());
        }
        self.store.forget_events(&self.webhook.name, self.taken.clone()).await?;
        self.taken.clear();
        Ok(())
    }

    /// Events with numbers from one to another, `most` of them. One that cannot be read ends them with an error.
    async fn events(&self, from: u64, to: u64, most: usize) -> Result<Vec<(u64, EventRow)>, Error> {
        let name = self.webhook.name.clone();
        self.store
            .read(move |index| {
                let mut events = Vec::new();
                let table = index.open_table(EVENTS)?;
                for row in table.range((name.as_str(), from)..=(name.as_str(), to))?.take(most) {
                    let (key, event) = row?;
                    events.push((key.value().1, rows::decode("an event", event.value())?));
                }
                Ok(events)
            })
            .await
    }

    async fn send(&self, number: u64, event: &EventRow) -> Fate {
        let home = match event.project.parse() {
            Ok(project) => self.store.home(&project).await.ok().flatten(),
            Err(_) => None,
        };
        let body = event.message(home.as_ref().map_or(&self.region, |home| home.as_str())).to_string();
        let time = Timestamp::now().as_second();
        let request = self
            .http
            .post(self.webhook.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-casemate-event-id", format!("{number:016x}"))
            .header("x-casemate-signature", signature(&self.webhook.secret, time, &body))
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Fate::Taken,
            Ok(answer) => Fate::Refused(answer.status()),
            Err(cause) => Fate::Away(cause),
        }
    }
}

/// What a webhook is called with. One without TLS is on this machine, and is not called by a proxy of the environment,
/// which would read what is sent.
fn client(webhook: &Webhook) -> Result<reqwest::Client, Error> {
    let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
    let http = if webhook.url.scheme() == "http" { http.no_proxy() } else { http };
    http.build().map_err(|cause| Error::Invalid(format!("webhooks cannot be called: {cause}")))
}

/// Says that a body is of this service and of a time, in seconds of Unix time.
fn signature(secret: &str, time: i64, body: &str) -> String {
    let sum = crypto::digest::hmac_sha256(secret.as_bytes(), &[time.to_string().as_bytes(), b".", body.as_bytes()]);
    format!("t={time},v1={}", hex::encode(sum))
}

/// How long is waited after so many failures.
fn pause(failures: u32) -> Duration {
    let doubled = SHORTEST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

/// How long a receiver has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// For how long it is tried to send an event.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Who waits for events looks for them by itself, too, for a caller can be gone before it told of one.
const LOOK: Duration = Duration::from_secs(5);
const UNCLAIMED_PAUSE: Duration = Duration::from_secs(10 * 60);
/// Events of one round, which are removed together.
const ROUND: usize = 32;
/// The most that are put aside; when there are more, the receiver is as good as away.
const MOST_ASIDE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_second_to_five_minutes() {
        let seconds: Vec<u64> = (1..=10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_signature_is_over_the_time_and_the_body() {
        let by_hand = crypto::digest::hmac_sha256(b"secret of sixteen", &[b"12.{}"]);
        assert_eq!(signature("secret of sixteen", 12, "{}"), format!("t=12,v1={}", hex::encode(by_hand)));
    }
}
