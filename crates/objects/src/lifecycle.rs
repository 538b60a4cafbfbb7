//! Removes what a bucket's rules say is no longer wanted: objects, older versions, delete markers, unfinished uploads.
//!
//! A walk goes over a bucket in steps. Each step looks at a bounded number of rows and makes a plan of what is due; the
//! plan is written to the audit log, and then done in one change, which looks again whether each thing is still what it
//! was. What a lock keeps is left where it is, as by any other caller.
//!
//! Rules of <https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html>; nothing moves to another
//! storage class, for there is one.

use std::{collections::HashSet, sync::Arc, time::Duration};

use audit::{Actor, Audit, Entry};
use model::{BucketName, ProjectId};
use redb::{ReadTransaction, ReadableTable as _};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    index::{self, BUCKETS, UPLOADS, Writing},
    list::{Place, Versions},
    notify::Teller,
    rows::{self, BucketRow, Kind, Tags, UploadRow, VersionRow},
    seal::Body,
    store::Store,
    versions::{Found, VersionId},
};

/// A rule of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleRule {
    /// Its name, which no other rule of the bucket has.
    pub id: String,
    pub enabled: bool,
    /// What it is for.
    pub filter: Filter,
    /// Whether the prefix stood in the rule itself, as the first form of rules had it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare_prefix: bool,
    /// When current objects go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<Expire>,
    /// Whether delete markers go that have nothing to hide any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lone_markers: bool,
    /// When older versions go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noncurrent: Option<Noncurrent>,
    /// So many days after they were begun, uploads go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_uploads: Option<u32>,
}

/// Which objects a rule is for: those that are all of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// What their keys begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Tags that they have.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// They have more bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<u64>,
    /// They have fewer bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<u64>,
}

/// When current objects go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expire {
    /// So many days after they were written.
    Days(u32),
    /// From a midnight on, in milliseconds of Unix time.
    Date(i64),
}

/// When older versions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noncurrent {
    /// So many days after a newer one was written.
    pub days: u32,
    /// So many of the newest of them stay all the same.
    #[serde(default)]
    pub keep: u32,
}

impl LifecycleRule {
    /// Whether it is for a version of a key. A delete marker has neither tags nor size.
    fn is_for(&self, key: &str, row: &VersionRow) -> bool {
        let filter = &self.filter;
        if !self.enabled || !key.starts_with(&filter.prefix) {
            return false;
        }
        match row {
            VersionRow::Object(row) => {
                filter.tags.iter().all(|(name, value)| row.tags.get(name) == Some(value))
                    && filter.above.is_none_or(|above| row.size > above)
                    && filter.below.is_none_or(|below| row.size < below)
            }
            VersionRow::Marker(_) => filter.tags.is_empty() && filter.above.is_none() && filter.below.is_none(),
        }
    }

    /// When a current object of this rule goes that was written at a time.
    fn end(&self, written: i64) -> Option<i64> {
        self.expire.map(|expire| match expire {
            Expire::Days(days) => after(written, days),
            Expire::Date(date) => date,
        })
    }
}

/// Says why rules cannot be.
pub fn check_rules(rules: &[LifecycleRule]) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Invalid(why));
    if rules.is_empty() || rules.len() > MOST_RULES {
        return refuse(format!("there are 1 to {MOST_RULES} rules"));
    }
    let mut names = HashSet::new();
    for rule in rules {
        if rule.id.chars().count() > LONGEST_NAME {
            return refuse(format!("the id of a rule has at most {LONGEST_NAME} characters"));
        }
        if !names.insert(rule.id.as_str()) {
            return refuse("two rules have the same id".to_owned());
        }
        if rule.expire.is_none() && !rule.lone_markers && rule.noncurrent.is_none() && rule.abort_uploads.is_none() {
            return refuse("a rule does something".to_owned());
        }
        let days = [
            rule.abort_uploads,
            rule.noncurrent.map(|noncurrent| noncurrent.days),
            match rule.expire {
                Some(Expire::Days(days)) => Some(days),
                _ => None,
            },
        ];
        if days.into_iter().flatten().any(|days| days == 0) {
            return refuse("days are counted from 1".to_owned());
        }
        if rule.noncurrent.is_some_and(|noncurrent| noncurrent.keep > MOST_KEPT) {
            return refuse(format!("at most {MOST_KEPT} older versions are kept"));
        }
        if matches!(rule.expire, Some(Expire::Date(date)) if date < 0 || date % DAY != 0) {
            return refuse("the date of a rule is a midnight, UTC".to_owned());
        }
        if rule.expire.is_some() && rule.lone_markers {
            return refuse(
                "a rule that lets objects expire removes delete markers too, and need not say so".to_owned(),
            );
        }
        let (filter, sized) = (&rule.filter, rule.filter.above.is_some() || rule.filter.below.is_some());
        if (rule.abort_uploads.is_some() || rule.lone_markers) && (!filter.tags.is_empty() || sized) {
            return refuse("uploads and delete markers have neither tags nor size to choose by".to_owned());
        }
        if filter.above.zip(filter.below).is_some_and(|(above, below)| above >= below) {
            return refuse("the least size of a rule is below the greatest".to_owned());
        }
        crate::settings::check_tags(&filter.tags, crate::settings::MOST_OBJECT_TAGS)?;
    }
    Ok(())
}

/// When a current object will go, in milliseconds of Unix time, and by which rule; `None` if it stays.
pub fn end_of<'r>(rules: &'r [LifecycleRule], key: &str, row: &VersionRow) -> Option<(i64, &'r str)> {
    let VersionRow::Object(object) = row else { return None };
    let ends = rules.iter().filter(|rule| rule.is_for(key, row));
    ends.filter_map(|rule| Some((rule.end(object.modified)?, rule.id.as_str()))).min()
}

/// When an upload will go, in milliseconds of Unix time, and by which rule; `None` if it stays.
pub fn end_of_upload<'r>(rules: &'r [LifecycleRule], key: &str, upload: &UploadRow) -> Option<(i64, &'r str)> {
    let ends = rules.iter().filter(|rule| rule.enabled && key.starts_with(&rule.filter.prefix));
    ends.filter_map(|rule| Some((after(upload.begun, rule.abort_uploads?), rule.id.as_str()))).min()
}

/// The midnight, UTC, that is at least so many days after a time.
fn after(from: i64, days: u32) -> i64 {
    let end = from.saturating_add(i64::from(days) * DAY);
    end.saturating_add((DAY - end.rem_euclid(DAY)) % DAY)
}

/// Where a walk over a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walk {
    /// Among the versions.
    Versions(Place, Passed),
    /// Among the uploads, behind one of them.
    Uploads(Vec<u8>, u128),
}

impl Walk {
    /// From the beginning.
    pub fn start() -> Walk {
        Walk::Versions(Place::before(Vec::new()), Passed::default())
    }
}

/// What was passed of the key at which a walk is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    key: Vec<u8>,
    /// When the version before was made.
    newer: i64,
    /// How many older objects were passed.
    older: u32,
}

/// What a walk looks for.
#[derive(Debug, Clone)]
pub struct Look {
    pub project: ProjectId,
    pub bucket: BucketName,
    pub rules: Arc<[LifecycleRule]>,
    /// When it is, in milliseconds of Unix time.
    pub now: i64,
    /// At how many rows a step looks.
    pub budget: usize,
}

/// What is to be removed, and where the walk goes on; `None` if it is at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub due: Vec<Due>,
    pub next: Option<Walk>,
}

/// A thing that a rule says is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// The current object of a key, if it is still that version.
    Current { key: String, version: u64 },
    /// A version that is not the current one, if that is still so.
    Older { key: String, id: VersionId, version: u64 },
    /// A delete marker, if it is still the only version.
    Marker { key: String, id: VersionId, version: u64 },
    /// An upload.
    Upload { key: String, id: Uuid },
}

impl Due {
    fn key(&self) -> &str {
        match self {
            Due::Current { key, .. } | Due::Older { key, .. } | Due::Marker { key, .. } | Due::Upload { key, .. } => {
                key
            }
        }
    }
}

/// What a plan came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was removed, or hidden by a delete marker.
    pub removed: usize,
    /// What a lock keeps.
    pub locked: usize,
}

impl Store {
    /// The rules of a bucket; `None` if it has none.
    pub(crate) async fn lifecycle(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
    ) -> Result<Option<Vec<LifecycleRule>>, Error> {
        let document = self.document(project, bucket, Kind::Lifecycle).await?;
        document.map(|document| rows::decode("lifecycle rules", &document)).transpose()
    }

    /// Gives a bucket rules, in the place of those that it has; none takes them away.
    pub(crate) async fn set_lifecycle(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        rules: Option<Vec<LifecycleRule>>,
    ) -> Result<(), Error> {
        rules.as_deref().map_or(Ok(()), check_rules)?;
        let document = rules.map(|rules| rows::encode(&rules));
        self.set_document(project, bucket, Kind::Lifecycle, document).await
    }

    /// Looks for what is due, from where a walk is on.
    pub(crate) async fn due(&self, look: Look, walk: Walk) -> Result<Plan, Error> {
        self.read(move |index| match walk {
            Walk::Versions(place, passed) => look.at_versions(index, place, passed),
            Walk::Uploads(key, id) => look.at_uploads(index, &key, id),
        })
        .await
    }

    /// Removes what is due and still what it was, and that no lock keeps. In one transaction.
    pub(crate) async fn expire(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        due: Vec<Due>,
    ) -> Result<Outcome, Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        let teller = self.teller();
        let told = teller.watch();
        let expire = move |writing: &mut Writing<'_>, _| {
            let row = index::bucket(&writing.buckets, &project, &bucket)?;
            let mut outcome = Outcome::default();
            for due in &due {
                match remove(writing, (&project, &bucket), &row, due, &teller) {
                    Ok(true) => outcome.removed += 1,
                    Ok(false) => {}
                    Err(Error::Locked(_)) => outcome.locked += 1,
                    Err(cause) => return Err(cause),
                }
            }
            Ok(outcome)
        };
        let outcome = self.commit(Body::Empty, expire).await?;
        self.told(&told);
        Ok(outcome)
    }

    /// Keeps to the rules of all buckets, once an hour, until `stop`. What it removes is in the audit log before it goes.
    pub async fn run_background(&self, audit: Audit, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
            match stop.run_until_cancelled(self.expire_all(&audit)).await {
                Some(Ok(())) => {}
                Some(Err(Error::Closed)) | None => return,
                Some(Err(cause)) => tracing::error!(cause = ?cause, "lifecycle rules were not kept to the end"),
            }
        }
    }

    /// Keeps to the rules of all buckets.
    pub(crate) async fn expire_all(&self, audit: &Audit) -> Result<(), Error> {
        let ruled = self
            .read(|index| {
                let mut ruled = Vec::new();
                for entry in index.open_table(BUCKETS)?.iter()? {
                    let (key, row) = entry?;
                    let row: BucketRow = rows::decode("a bucket", row.value())?;
                    let names = (key.value().0.parse::<ProjectId>(), key.value().1.parse::<BucketName>());
                    if row.documents.contains(&Kind::Lifecycle)
                        && let (Ok(project), Ok(bucket)) = names
                    {
                        ruled.push((project, bucket));
                    }
                }
                Ok(ruled)
            })
            .await?;
        for (project, bucket) in ruled {
            match self.expire_bucket(audit, &project, &bucket).await {
                Err(cause) if !matches!(cause, Error::Closed) => {
                    // One bucket's trouble is not the others'.
                    tracing::error!(%project, %bucket, cause = ?cause, "lifecycle rules were not kept");
                }
                result => result?,
            }
        }
        Ok(())
    }

    async fn expire_bucket(&self, audit: &Audit, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        let now = self.clock().await?;
        let mut walk = Some(Walk::start());
        while let Some(place) = walk {
            let begun = tokio::time::Instant::now();
            // Each step asks: rules that were taken away remove nothing more, however long the walk is.
            let rules = match self.lifecycle(project, bucket).await {
                Ok(Some(rules)) => Arc::<[LifecycleRule]>::from(rules),
                Ok(None) | Err(Error::NoSuchBucket { .. }) => return Ok(()),
                Err(cause) => return Err(cause),
            };
            let look = Look { project: project.clone(), bucket: bucket.clone(), rules, now, budget: BUDGET };
            let plan = self.due(look, place).await?;
            if !plan.due.is_empty() {
                let entry = entry(project, bucket, &plan.due);
                audit.record(entry).await.map_err(|cause| {
                    tracing::error!(%cause, "what lifecycle rules remove cannot be recorded, and stays");
                    Error::NotWritten
                })?;
                self.expire(project, bucket, plan.due).await?;
            }
            walk = plan.next;
            // Most of the time is for the callers.
            tokio::time::sleep(begun.elapsed() * 3).await;
        }
        Ok(())
    }
}

impl Look {
    fn at_versions(&self, index: &ReadTransaction, mut place: Place, mut passed: Passed) -> Result<Plan, Error> {
        index::bucket(&index.open_table(BUCKETS)?, &self.project, &self.bucket)?;
        let mut due = Vec::new();
        let mut versions = Versions::new(index, &self.project, &self.bucket, &place)?.peekable();
        for _ in 0..self.budget.max(1) {
            let Some((key, row, is_latest)) = versions.next().transpose()? else {
                return Ok(Plan { due, next: Some(Walk::Uploads(Vec::new(), 0)) });
            };
            if passed.key != key.as_bytes() {
                passed = Passed { key: key.as_bytes().to_vec(), newer: i64::MAX, older: 0 };
            }
            place = Place { key: passed.key.clone(), newer: Some(row.version()) };
            let (id, version, modified) = (row.id(), row.version(), row.modified());
            let mut fitting = self.rules.iter().filter(|rule| rule.is_for(&key, &row));
            match &row {
                VersionRow::Object(_) if is_latest => {
                    if fitting.any(|rule| rule.end(modified).is_some_and(|end| end <= self.now)) {
                        due.push(Due::Current { key, version });
                    }
                }
                VersionRow::Marker(_) if is_latest => {
                    let is_alone = match versions.peek() {
                        Some(Ok((next, ..))) => *next != key,
                        Some(Err(_)) => false,
                        None => true,
                    };
                    let goes = |rule: &LifecycleRule| {
                        rule.lone_markers || rule.end(modified).is_some_and(|end| end <= self.now)
                    };
                    if is_alone && fitting.any(goes) {
                        due.push(Due::Marker { key, id, version });
                    }
                }
                VersionRow::Object(_) | VersionRow::Marker(_) => {
                    let (newer, older) = (passed.newer, passed.older);
                    let goes =
                        |noncurrent: Noncurrent| older >= noncurrent.keep && after(newer, noncurrent.days) <= self.now;
                    if fitting.any(|rule| rule.noncurrent.is_some_and(goes)) {
                        due.push(Due::Older { key, id, version });
                    }
                    passed.older += u32::from(matches!(row, VersionRow::Object(_)));
                }
            }
            passed.newer = modified;
        }
        Ok(Plan { due, next: Some(Walk::Versions(place, passed)) })
    }

    fn at_uploads(&self, index: &ReadTransaction, key: &[u8], id: u128) -> Result<Plan, Error> {
        if self.rules.iter().all(|rule| rule.abort_uploads.is_none()) {
            return Ok(Plan::default());
        }
        let mut due = Vec::new();
        let table = index.open_table(UPLOADS)?;
        let from = (self.project.as_str(), self.bucket.as_str(), key, id.saturating_add(1));
        for (looked, entry) in table.range(from..)?.enumerate() {
            let (entry, row) = entry?;
            let (of, within, key, id) = entry.value();
            if of != self.project.as_str() || within != self.bucket.as_str() {
                break;
            }
            let name = std::str::from_utf8(key).map_err(|_| Error::Damaged { what: "a key".to_owned() })?;
            let row: UploadRow = rows::decode("an upload", row.value())?;
            if end_of_upload(&self.rules, name, &row).is_some_and(|(end, _)| end <= self.now) {
                due.push(Due::Upload { key: name.to_owned(), id: Uuid::from_u128(id) });
            }
            if looked + 1 >= self.budget {
                return Ok(Plan { due, next: Some(Walk::Uploads(key.to_vec(), id)) });
            }
        }
        Ok(Plan { due, next: None })
    }
}

/// Removes one thing, if it is still what it was; whether it was.
fn remove(
    writing: &mut Writing<'_>,
    (project, bucket): (&ProjectId, &BucketName),
    row: &BucketRow,
    due: &Due,
    teller: &Teller,
) -> Result<bool, Error> {
    let name = (project.as_str(), bucket.as_str(), due.key().as_bytes());
    let removed = match due {
        Due::Current { version, .. } => match writing.find(name, None)? {
            Found::Object(object) if object.version == *version => writing.remove_current(name, row.versioning)?,
            _ => return Ok(false),
        },
        Due::Older { id, version, .. } => {
            let is_current = writing.find(name, None)?.version() == Some(*version);
            if is_current || writing.find(name, Some(*id))?.version() != Some(*version) {
                return Ok(false);
            }
            writing.remove_version(name, *id, false)?
        }
        Due::Marker { id, version, .. } => {
            let only = writing.only_version(name)?;
            if !matches!(only, Found::Marker(marker) if marker.version == *version) {
                return Ok(false);
            }
            writing.remove_version(name, *id, false)?
        }
        Due::Upload { key, id } => {
            match writing.upload(project, bucket, key, *id) {
                Ok(_) => {}
                Err(Error::NoSuchUpload) => return Ok(false),
                Err(cause) => return Err(cause),
            }
            for (_, part) in writing.take_upload(project, bucket, key.as_bytes(), *id)? {
                part.piece.map_or(Ok(()), |piece| writing.free(&piece))?;
            }
            return Ok(true);
        }
    };
    teller.removed(writing, row, name, &removed, true)?;
    Ok(removed.changed)
}

/// What the audit log says of a plan.
fn entry(project: &ProjectId, bucket: &BucketName, due: &[Due]) -> Entry {
    let resource = format!("project/{project}/bucket/{bucket}");
    let mut entry = Entry::new(Actor::system(), "s3:LifecycleExpiration", resource);
    let count = |is: fn(&Due) -> bool| due.iter().filter(|due| is(due)).count();
    entry.result = "due".to_owned();
    entry.detail = serde_json::json!({
        "objects": count(|due| matches!(due, Due::Current { .. })),
        "versions": count(|due| matches!(due, Due::Older { .. })),
        "markers": count(|due| matches!(due, Due::Marker { .. })),
        "uploads": count(|due| matches!(due, Due::Upload { .. })),
        "from": due.first().map(Due::key),
        "to": due.last().map(Due::key),
    });
    entry
}

/// Of AWS.
const MOST_RULES: usize = 1000;
/// Of AWS.
const LONGEST_NAME: usize = 255;
/// Of AWS.
const MOST_KEPT: u32 = 100;
/// Rows of one step.
const BUDGET: usize = 500;
const PAUSE: Duration = Duration::from_secs(60 * 60);
const DAY: i64 = 24 * 60 * 60 * 1000;
