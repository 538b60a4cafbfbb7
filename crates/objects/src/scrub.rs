//! Looks at everything that is stored once a week while the service runs, so that damage is found while a copy may
//! still have what is lost. See [`crate::check`].

use std::time::Duration;

use audit::{Actor, Audit, Entry};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    check::{CheckOptions, Report},
    index::META,
    seal::Body,
    store::Store,
};

impl Store {
    /// Checks everything once a week, with few of the machine's means, until `stop`. What is damaged is in the
    /// service's log, and once a check in the audit log. When it was done last is kept in the store.
    pub async fn run_scrub(&self, audit: &Audit, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
            match self.scrub_if_due(audit, &stop).await {
                Ok(_) => {}
                Err(Error::Closed) => return,
                Err(cause) => tracing::error!(cause = ?cause, "what is stored could not be checked to the end"),
            }
        }
    }

    /// Checks if the last check is a week ago; what it found, if it did.
    pub(crate) async fn scrub_if_due(&self, audit: &Audit, stop: &CancellationToken) -> Result<Option<Report>, Error> {
        let is_due = self
            .block(|inner| {
                let last = inner.index.read()?.open_table(META)?.get(LAST)?.map_or(0, |last| last.value());
                Ok(inner.index.clock.microseconds().saturating_sub(last) >= WEEK)
            })
            .await?;
        if !is_due {
            return Ok(None);
        }
        let options = CheckOptions { gentle: true, ..CheckOptions::default() };
        let report = self.check_until(options, stop.clone(), |_| {}).await?;
        let (rows, bytes) = (report.looked_at.rows, report.looked_at.bytes);
        match report.is_well() {
            true => tracing::info!(rows, bytes, "what is stored was checked, and is whole"),
            false => self.found(audit, &report).await?,
        }
        let done = |writing: &mut crate::index::Writing<'_>, _| {
            let now = writing.now();
            writing.meta.insert(LAST, now)?;
            Ok(())
        };
        self.0.committer.commit(Body::Empty, done).await?;
        Ok(Some(report))
    }

    async fn found(&self, audit: &Audit, report: &Report) -> Result<(), Error> {
        for damage in report.damaged.iter().take(MOST_LOGGED) {
            tracing::error!(
                project = damage.project, bucket = damage.bucket, key = damage.key, version = damage.version,
                part = ?damage.part, from = damage.bytes.0, to = damage.bytes.1, file = damage.file,
                wrong = %damage.wrong, "an object is damaged"
            );
        }
        for what in report.inconsistent.iter().take(MOST_LOGGED) {
            tracing::error!(what, "the index of objects does not agree with itself");
        }
        let mut entry = Entry::new(Actor::system(), "store:Check", "store");
        entry.result = "damaged".to_owned();
        entry.detail = serde_json::json!({
            "damaged": report.unrepaired,
            "inconsistent": report.inconsistent.len(),
            "objects": report.damaged.iter().take(MOST_RECORDED).collect::<Vec<_>>(),
        });
        audit.record(entry).await.map_err(Error::Audit)
    }
}

/// How often it is looked whether a check is due.
const PAUSE: Duration = Duration::from_secs(60 * 60);
/// In microseconds.
const WEEK: u64 = 7 * 24 * 60 * 60 * 1_000_000;
/// The name of the time at which a check ended last, in microseconds of Unix time.
const LAST: &str = "scrubbed";
/// The most that is said of one check in the log of the service,
const MOST_LOGGED: usize = 1000;
/// and in the audit log.
const MOST_RECORDED: usize = 20;
