//! Versions, locks, settings and lifecycle rules against models.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use keys::Keys;
use model::BucketName;
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    Error, NewBucket, Store, VersionId,
    clock::Clock,
    crash::{project, target},
    lifecycle::{Due, Expire, Filter, LifecycleRule, Look, Noncurrent, Plan, Walk, check_rules},
    list::{VersionEntry, VersionQuery},
    lock,
    put::{Condition, Removal, Tag, Writes},
    rows::{
        self, BucketRow, DefaultRetention, Kind, LockSettings, Mode, ObjectRow, Period, Retention, Sealing, Tags,
        UploadRow, VersionRow, Versioning,
    },
    store::Limits,
    uploads::{Check, UploadEntry, UploadQuery, Wanted},
    versions::{Found, Removed},
};

fn bucket() -> BucketName {
    "data".parse().unwrap()
}

/// A store with a clock that the test moves, and a bucket.
struct World {
    dir: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    store: Store,
}

impl World {
    async fn new(wanted: NewBucket) -> World {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(u64::try_from(START).unwrap() * 1000));
        let store = open(dir.path(), &clock).await;
        store.create_bucket(&project(), &bucket(), wanted).await.unwrap();
        World { dir, clock, store }
    }

    async fn locked() -> World {
        World::new(NewBucket { lock: true, ..NewBucket::default() }).await
    }

    async fn versioned() -> World {
        World::new(NewBucket { versioning: true, ..NewBucket::default() }).await
    }

    async fn reopen(self) -> World {
        self.store.close().await;
        drop(self.store);
        World { store: open(self.dir.path(), &self.clock).await, dir: self.dir, clock: self.clock }
    }

    /// Sets the system's clock, in milliseconds.
    fn set_clock(&self, milliseconds: i64) {
        self.clock.store(u64::try_from(milliseconds).unwrap() * 1000, Ordering::SeqCst);
    }

    async fn put(&self, key: &str, body: &[u8]) -> ObjectRow {
        self.write(key, body, Writes::default()).await.unwrap()
    }

    async fn write(&self, key: &str, body: &[u8], writes: Writes) -> Result<ObjectRow, Error> {
        let stream = futures::stream::iter([Ok(Bytes::copy_from_slice(body))]);
        let sealed = self.store.seal(&project(), stream, None, u64::MAX).await?;
        self.store.put(target(key), writes, sealed, Condition::default()).await
    }

    async fn get(&self, key: &str, version: Option<VersionId>) -> Result<Vec<u8>, Error> {
        let opened = self.store.open_object(&target(key), version).await?;
        let range = 0..opened.row.size;
        let parts: Vec<Bytes> = self.store.source(opened, range).await?.stream().await?.try_collect().await?;
        Ok(parts.concat())
    }

    async fn remove(&self, key: &str, version: Option<VersionId>, bypass: bool) -> Result<Removed, Error> {
        let removal = Removal { key: key.to_owned(), version, bypass_governance: bypass, ..Removal::default() };
        self.store.remove(&project(), &bucket(), vec![removal]).await?.remove(0)
    }

    async fn set_versioning(&self, versioning: Versioning) -> Result<BucketRow, Error> {
        self.change(move |row| row.versioning = versioning).await
    }

    async fn change(&self, change: impl FnOnce(&mut BucketRow) + Send + 'static) -> Result<BucketRow, Error> {
        let change = |row: &mut BucketRow| {
            change(row);
            Ok(())
        };
        self.store.change_bucket(&project(), &bucket(), change).await
    }

    /// Every version and prefix, page by page, each of its own length.
    async fn versions(&self, query: VersionQuery, mut limits: impl Iterator<Item = usize>) -> Vec<VersionEntry> {
        let (mut query, mut all) = (query, Vec::new());
        loop {
            query.limit = limits.next().unwrap();
            let (page, more) = self.store.list_versions(&project(), &bucket(), query.clone()).await.unwrap();
            assert!(if more { page.len() == query.limit } else { page.len() <= query.limit });
            (query.key_marker, query.version_marker) = match page.last() {
                Some(VersionEntry::Version { key, row, .. }) => {
                    (Some(key.clone()), Some(VersionId::Number(row.version())))
                }
                Some(VersionEntry::Prefix(prefix)) => (Some(prefix.clone()), None),
                None => (None, None),
            };
            all.extend(page);
            if !more {
                return all;
            }
        }
    }

    /// Keys and ids of all versions, with a star at the latest, and an exclamation mark at markers.
    async fn outline(&self) -> Vec<String> {
        let outline = |entry| match entry {
            VersionEntry::Version { key, row, is_latest } => {
                let id = if row.is_null() { "null" } else { "id" };
                let marker = if matches!(row, VersionRow::Marker(_)) { "!" } else { "" };
                format!("{key} {id}{marker}{}", if is_latest { "*" } else { "" })
            }
            VersionEntry::Prefix(prefix) => prefix,
        };
        self.versions(VersionQuery::default(), std::iter::repeat(1000)).await.into_iter().map(outline).collect()
    }

    /// What the rules let go at a time, in steps of `budget` rows; done, and counted.
    async fn expire(&self, rules: &[LifecycleRule], now: i64, budget: usize) -> (usize, usize) {
        check_rules(rules).unwrap();
        let look = Look { project: project(), bucket: bucket(), rules: Arc::from(rules), now, budget };
        let (mut walk, mut removed, mut locked) = (Some(Walk::start()), 0, 0);
        while let Some(place) = walk {
            let Plan { due, next } = self.store.due(look.clone(), place).await.unwrap();
            assert!(due.len() <= budget, "a step is bounded");
            let outcome = self.store.expire(&project(), &bucket(), due).await.unwrap();
            removed += outcome.removed;
            locked += outcome.locked;
            walk = next;
        }
        (removed, locked)
    }
}

async fn open(dir: &Path, clock: &Arc<AtomicU64>) -> Store {
    let keys = Keys::open(&dir.join("keys")).unwrap();
    let account = "account".parse().unwrap();
    if keys.create_account(&account).is_ok() {
        keys.create_project(&project(), &account).unwrap();
    }
    let limits = Limits { clock: Clock::at(Arc::clone(clock)), ..Limits::default() };
    Store::open_within(&dir.join("objects"), Arc::new(keys), limits).await.unwrap()
}

fn keep(mode: Mode, until: i64) -> Option<Retention> {
    Some(Retention { mode, until })
}

// ---- Versions

#[tokio::test(flavor = "multi_thread")]
async fn a_write_keeps_what_was_there_and_a_delete_hides_it() {
    let world = World::versioned().await;
    let first = world.put("key", b"first").await;
    let second = world.put("key", b"second").await;
    assert!(second.version > first.version && second.id() != first.id());
    let removed = world.remove("key", None, false).await.unwrap();
    let marker = removed.marker.unwrap();
    assert_eq!((removed.was_marker, removed.version), (false, None));
    assert_eq!(world.outline().await, ["key id!*", "key id", "key id"]);

    assert!(matches!(world.get("key", None).await, Err(Error::IsMarker { version }) if version == marker));
    assert!(matches!(world.get("key", Some(marker)).await, Err(Error::IsMarker { .. })));
    assert_eq!(world.get("key", Some(first.id())).await.unwrap(), b"first");
    assert_eq!(world.get("key", Some(second.id())).await.unwrap(), b"second");
    assert!(matches!(world.get("key", Some(VersionId::Null)).await, Err(Error::NoSuchVersion)));
    assert!(matches!(world.get("key", Some(VersionId::Number(1))).await, Err(Error::NoSuchVersion)));
    assert!(matches!(world.get("other", None).await, Err(Error::NoSuchKey)));
    assert!(world.store.list(&project(), &bucket(), "", None, 10).await.unwrap().objects.is_empty());

    // A bucket with nothing but a marker is not empty.
    let undone = world.remove("key", Some(marker), false).await.unwrap();
    assert!(undone.was_marker && undone.marker == Some(marker) && undone.version == Some(marker));
    assert_eq!(world.get("key", None).await.unwrap(), b"second");
    world.remove("key", Some(second.id()), false).await.unwrap();
    assert_eq!(world.get("key", None).await.unwrap(), b"first");
    world.remove("key", None, false).await.unwrap();
    world.remove("key", Some(first.id()), false).await.unwrap();
    assert_eq!(world.outline().await, ["key id!*"]);
    assert!(matches!(world.store.delete_bucket(&project(), &bucket()).await, Err(Error::NotEmpty { .. })));
    let VersionEntry::Version { row, .. } =
        world.versions(VersionQuery::default(), std::iter::repeat(9)).await.remove(0)
    else {
        panic!("a version")
    };
    world.remove("key", Some(row.id()), false).await.unwrap();
    world.store.delete_bucket(&project(), &bucket()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_at_most_one_version_null() {
    let world = World::new(NewBucket::default()).await;
    assert_eq!(world.put("key", b"off").await.id(), VersionId::Null);
    world.put("key", b"off again").await;
    assert_eq!(world.outline().await, ["key null*"]);
    world.set_versioning(Versioning::Enabled).await.unwrap();
    world.put("key", b"on").await;
    assert_eq!(world.outline().await, ["key id*", "key null"]);
    assert_eq!(world.get("key", Some(VersionId::Null)).await.unwrap(), b"off again");
    world.set_versioning(Versioning::Suspended).await.unwrap();
    world.put("key", b"suspended").await;
    assert_eq!(world.outline().await, ["key null*", "key id"]);
    assert_eq!(world.get("key", Some(VersionId::Null)).await.unwrap(), b"suspended");
    let removed = world.remove("key", None, false).await.unwrap();
    assert_eq!(removed.marker, Some(VersionId::Null));
    assert_eq!(world.outline().await, ["key null!*", "key id"]);
    world.remove("key", None, false).await.unwrap();
    assert_eq!(world.outline().await, ["key null!*", "key id"], "one marker in the place of the other");
    world.set_versioning(Versioning::Enabled).await.unwrap();
    world.put("key", b"on again").await;
    world.remove("key", Some(VersionId::Null), false).await.unwrap();
    assert_eq!(world.outline().await, ["key id*", "key id"]);
    assert!(matches!(world.set_versioning(Versioning::Off).await, Err(Error::BucketState(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_what_is_not_there_is_no_error_and_says_so() {
    let world = World::new(NewBucket::default()).await;
    assert!(!world.remove("key", None, false).await.unwrap().changed);
    assert!(!world.remove("key", Some(VersionId::Number(7)), false).await.unwrap().changed);
    world.put("key", b"x").await;
    assert!(world.remove("key", Some(VersionId::Null), false).await.unwrap().changed);
    assert!(matches!(world.get("key", None).await, Err(Error::NoSuchKey)));
    world.set_versioning(Versioning::Enabled).await.unwrap();
    assert!(world.remove("key", None, false).await.unwrap().marker.is_some(), "a marker is made for any key");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_look_at_the_current_version_and_a_marker_is_none() {
    let world = World::versioned().await;
    let row = world.put("key", b"first").await;
    let is = |etag: &str| Condition { matches: Some(Tag::Is(etag.to_owned())), none_matches: None };
    let absent = Condition { matches: None, none_matches: Some(Tag::Any) };
    let write = async |condition: Condition| {
        let sealed = world.store.seal(&project(), futures::stream::iter([]), None, 1).await.unwrap();
        world.store.put(target("key"), Writes::default(), sealed, condition).await
    };
    assert!(matches!(write(absent.clone()).await, Err(Error::Precondition)));
    assert!(matches!(write(is("other")).await, Err(Error::Precondition)));
    let removal = |condition: Condition| vec![Removal { key: "key".to_owned(), condition, ..Removal::default() }];
    let refused = world.store.remove(&project(), &bucket(), removal(is("other"))).await.unwrap().remove(0);
    assert!(matches!(refused, Err(Error::Precondition)));
    world.store.remove(&project(), &bucket(), removal(is(&row.etag))).await.unwrap().remove(0).unwrap();
    assert!(matches!(write(is(&row.etag)).await, Err(Error::NoSuchKey)));
    write(absent).await.unwrap();
    assert_eq!(world.outline().await, ["key id*", "key id!", "key id"]);
}

#[test]
fn ids_of_versions_are_read_as_they_are_written_and_nothing_else_is() {
    for id in [VersionId::Null, VersionId::Number(0), VersionId::Number(u64::MAX), VersionId::Number(0xa1)] {
        assert_eq!(id.to_string().parse::<VersionId>().unwrap(), id);
    }
    let wrong = ["", "NULL", "1", "00000000000000A1", "+0000000000000a1", "00000000000000a1 ", "00000000000000a11"];
    for text in wrong {
        assert!(matches!(text.parse::<VersionId>(), Err(Error::InvalidVersion)), "{text:?}");
    }
}

#[test]
fn rows_of_before_are_the_version_null_in_a_bucket_that_is_closed_to_the_public() {
    let row = br#"{"size":1,"etag":"e","modified":5,"about":{},"data":"Empty","parts":0}"#;
    let row: ObjectRow = rows::decode("an object", row).unwrap();
    assert_eq!((row.id(), row.version, row.hold, row.sealing), (VersionId::Null, 0, false, Sealing::Project));
    let bucket: BucketRow = rows::decode("a bucket", br#"{"created":5}"#).unwrap();
    assert_eq!(bucket, BucketRow { created: 5, ..BucketRow::default() });
    let block = bucket.public_block;
    assert!(block.block_acls && block.ignore_acls && block.block_policy && block.restrict);
}

#[tokio::test(flavor = "multi_thread")]
async fn space_of_versions_comes_back_when_they_go_and_not_before() {
    let world = World::versioned().await;
    let large = vec![7; (1 << 20) + 1];
    let files = || std::fs::read_dir(world.dir.path().join("objects/large")).unwrap().count();
    let ids = [world.put("key", &large).await.id(), world.put("key", &large).await.id()];
    world.remove("key", None, false).await.unwrap();
    assert_eq!(files(), 2);
    for id in ids {
        world.remove("key", Some(id), false).await.unwrap();
    }
    // They go behind the answer.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while files() > 0 && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(files(), 0);
}

// ---- Locks

#[test]
fn each_lock_forbids_what_it_should_and_nothing_else() {
    let now = START;
    let row = |retention, hold| ObjectRow { retention, hold, ..ObjectRow::default() };
    let may = |retention, hold, bypass| lock::check(&row(retention, hold), now, bypass).is_ok();
    for bypass in [false, true] {
        assert!(may(None, false, bypass));
        assert!(!may(None, true, bypass), "a hold has no end and no way around");
        assert!(!may(keep(Mode::Compliance, now + 1), false, bypass));
        assert_eq!(may(keep(Mode::Governance, now + 1), false, bypass), bypass);
        assert!(may(keep(Mode::Compliance, now), false, bypass), "its time has come");
        assert!(may(keep(Mode::Governance, now), false, bypass));
        assert!(!may(keep(Mode::Governance, now - 1), true, bypass));
    }
}

#[test]
fn a_retention_grows_and_only_governance_can_be_weakened_by_those_who_may() {
    use Mode::{Compliance, Governance};
    let now = START;
    let may = |from, to, bypass| lock::check_change(from, to, now, bypass).is_ok();
    let (near, far) = (now + HOUR, now + 2 * HOUR);
    for bypass in [false, true] {
        assert!(may(None, keep(Governance, near), bypass) && may(None, keep(Compliance, near), bypass));
        for mode in [Governance, Compliance] {
            assert!(may(keep(mode, near), keep(mode, far), bypass), "longer");
            assert!(may(keep(mode, near), keep(mode, near), bypass), "the same");
            assert!(may(keep(mode, now - 1), None, bypass), "over");
            assert!(may(keep(mode, now - 1), keep(Governance, near), bypass), "over");
            assert!(!may(None, keep(mode, now), bypass), "a past date");
        }
        assert!(!may(keep(Compliance, far), keep(Compliance, near), bypass));
        assert!(!may(keep(Compliance, near), keep(Governance, far), bypass));
        assert!(!may(keep(Compliance, near), None, bypass));
        assert_eq!(may(keep(Governance, far), keep(Governance, near), bypass), bypass);
        assert_eq!(may(keep(Governance, near), keep(Compliance, far), bypass), bypass);
        assert_eq!(may(keep(Governance, near), None, bypass), bypass);
    }
    assert!(!may(None, keep(Governance, i64::MAX), true), "for ever is a legal hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_stays_whoever_asks() {
    let world = World::locked().await;
    let until = START + HOUR;
    let compliance = Writes { retention: keep(Mode::Compliance, until), ..Writes::default() };
    let row = world.write("key", b"kept", compliance).await.unwrap();
    let id = Some(row.id());
    for bypass in [false, true] {
        assert!(matches!(world.remove("key", id, bypass).await, Err(Error::Locked(_))));
        let none = world.store.set_retention(target("key"), id, None, bypass).await;
        assert!(matches!(none, Err(Error::Locked(_))));
    }
    // A marker may hide it; the version stays.
    world.remove("key", None, false).await.unwrap();
    assert_eq!(world.get("key", id).await.unwrap(), b"kept");
    assert!(matches!(world.store.delete_bucket(&project(), &bucket()).await, Err(Error::NotEmpty { .. })));
    // No rule removes it, however old it is by somebody's clock.
    let rule = LifecycleRule {
        enabled: true,
        noncurrent: Some(Noncurrent { days: 1, keep: 0 }),
        expire: Some(Expire::Days(1)),
        ..LifecycleRule::default()
    };
    assert_eq!(world.expire(&[rule], START + 1000 * DAY, 10).await, (0, 1));
    // Its settings cannot be changed so that it could go.
    assert!(matches!(world.set_versioning(Versioning::Suspended).await, Err(Error::BucketState(_))));
    assert!(matches!(world.change(|row| row.lock = None).await, Err(Error::BucketState(_))));
    world.set_clock(until + 1);
    world.remove("key", id, false).await.unwrap();

    let held = world.write("key", b"held", Writes { hold: Some(true), ..Writes::default() }).await.unwrap();
    assert!(matches!(world.remove("key", Some(held.id()), true).await, Err(Error::Locked(_))));
    world.store.set_hold(target("key"), None, false).await.unwrap();
    world.remove("key", Some(held.id()), false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_null_that_is_locked_is_not_written_over() {
    // A bucket gets its lock when it has versions already, and one of them is `null`.
    let world = World::new(NewBucket::default()).await;
    world.put("key", b"null").await;
    assert!(matches!(world.change(|row| row.lock = Some(LockSettings::default())).await, Err(Error::BucketState(_))));
    let hold = Writes { hold: Some(true), ..Writes::default() };
    assert!(matches!(world.write("key", b"", hold).await, Err(Error::NoLock)));
    world.set_versioning(Versioning::Suspended).await.unwrap();
    assert!(matches!(world.store.set_hold(target("key"), None, true).await, Err(Error::NoLock)));
    world.set_versioning(Versioning::Enabled).await.unwrap();
    world.change(|row| row.lock = Some(LockSettings::default())).await.unwrap();
    world.store.set_hold(target("key"), None, true).await.unwrap();
    world.put("key", b"newer").await;
    assert!(matches!(world.remove("key", Some(VersionId::Null), true).await, Err(Error::Locked(_))));
    assert_eq!(world.get("key", Some(VersionId::Null)).await.unwrap(), b"null");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_locks_new_versions_by_itself_unless_their_writer_says() {
    let world = World::locked().await;
    let set = async |mode, period| {
        let settings = LockSettings { default: Some(DefaultRetention { mode, period }) };
        world.change(move |row| row.lock = Some(settings)).await
    };
    for period in [Period::Days(0), Period::Years(0), Period::Days(36_501), Period::Years(101)] {
        assert!(matches!(set(Mode::Governance, period).await, Err(Error::InvalidRetention(_))), "{period:?}");
    }
    set(Mode::Governance, Period::Days(2)).await.unwrap();
    assert_eq!(world.put("key", b"").await.retention, keep(Mode::Governance, START + 2 * DAY));
    set(Mode::Compliance, Period::Years(1)).await.unwrap();
    // 2024 has a day more.
    assert_eq!(world.put("key", b"").await.retention, keep(Mode::Compliance, START + 366 * DAY));
    let own = Writes { retention: keep(Mode::Governance, START + HOUR), ..Writes::default() };
    assert_eq!(world.write("key", b"", own).await.unwrap().retention, keep(Mode::Governance, START + HOUR));

    // An upload in parts is locked from when it is complete.
    let id = world.store.begin_upload(target("parts"), UploadRow::default()).await.unwrap();
    let sealed = world.store.seal(&project(), futures::stream::iter([]), None, 1).await.unwrap();
    let part = world.store.put_part(target("parts"), id, 1, sealed).await.unwrap();
    world.set_clock(START + DAY);
    let wanted = vec![Wanted { number: 1, etag: Some(part.etag), sum: None }];
    let complete = world.store.complete_upload(target("parts"), id, wanted, Check::default(), Condition::default());
    let row = complete.await.unwrap();
    assert_eq!(row.retention, keep(Mode::Compliance, START + 367 * DAY));
    let opened = world.store.open_object(&target("parts"), None).await.unwrap();
    assert_eq!(world.store.part_of(opened, 1).await.unwrap().1, Some(0..0), "an empty object has its one part");
    let past = UploadRow { retention: keep(Mode::Governance, START), ..UploadRow::default() };
    assert!(matches!(world.store.begin_upload(target("x"), past).await, Err(Error::InvalidRetention(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_changes_nothing() {
    let world = World::locked().await;
    world.set_clock(START + 100 * HOUR);
    let writes = Writes { retention: keep(Mode::Governance, START + 101 * HOUR), ..Writes::default() };
    let first = world.write("key", b"first", writes).await.unwrap();
    world.set_clock(START);
    let second = world.put("key", b"second").await;
    assert!(second.version > first.version && second.modified >= first.modified);
    // A date that is past by the store's time is not taken, though the system thinks it is to come.
    let past = Writes { retention: keep(Mode::Governance, START + 99 * HOUR), ..Writes::default() };
    assert!(matches!(world.write("key", b"", past).await, Err(Error::InvalidRetention(_))));

    // The same after a restart: the newest time is kept with what was written.
    let world = world.reopen().await;
    let third = world.put("key", b"third").await;
    assert!(third.version > second.version);
    assert!(world.store.clock().await.unwrap() >= START + 100 * HOUR);
    assert_eq!(world.get("key", None).await.unwrap(), b"third");
    world.set_clock(START + 102 * HOUR);
    world.remove("key", Some(first.id()), false).await.unwrap();
    assert_eq!(world.outline().await, ["key id*", "key id"]);
}

// ---- Settings

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_bounded_and_go_with_their_bucket() {
    let world = World::new(NewBucket { owner: Some("user/7".to_owned()), ..NewBucket::default() }).await;
    let set = async |kind, document| world.store.set_document(&project(), &bucket(), kind, document).await;
    let get = async |kind| world.store.document(&project(), &bucket(), kind).await.unwrap();
    set(Kind::Policy, Some(b"policy".to_vec())).await.unwrap();
    set(Kind::Cors, Some(vec![b'c'; 64 << 10])).await.unwrap();
    assert!(matches!(set(Kind::Cors, Some(vec![0; (64 << 10) + 1])).await, Err(Error::DocumentTooLarge { .. })));
    let has = async || world.store.bucket_row(&project(), &bucket()).await.unwrap().documents;
    assert_eq!(has().await, BTreeSet::from([Kind::Policy, Kind::Cors]));
    assert_eq!(get(Kind::Policy).await.as_deref(), Some(b"policy".as_slice()));
    set(Kind::Cors, None).await.unwrap();
    assert_eq!((get(Kind::Cors).await, has().await), (None, BTreeSet::from([Kind::Policy])));
    let known = world.store.bucket(&project(), &bucket()).await.unwrap().unwrap();
    assert_eq!((known.owner.as_deref(), known.versioning, known.lock), (Some("user/7"), None, false));
    assert!(world.change(|row| row.owner = None).await.is_err(), "a setting does not give a bucket away");
    let key = Sealing::Customer { salt: String::new(), check: String::new() };
    assert!(world.change(|row| row.encryption = key).await.is_err());

    world.store.delete_bucket(&project(), &bucket()).await.unwrap();
    assert!(matches!(set(Kind::Policy, None).await, Err(Error::NoSuchBucket { .. })));
    world.store.create_bucket(&project(), &bucket(), NewBucket::default()).await.unwrap();
    assert_eq!(get(Kind::Policy).await, None, "nothing of the one of before");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_of_a_version_and_bounded() {
    let world = World::versioned().await;
    let tags = |number: usize| -> Tags { (0..number).map(|at| (format!("t{at}"), String::new())).collect() };
    let first = world.write("key", b"", Writes { tags: tags(10), ..Writes::default() }).await.unwrap();
    assert!(matches!(
        world.write("key", b"", Writes { tags: tags(11), ..Writes::default() }).await,
        Err(Error::InvalidTag(_))
    ));
    let second = world.put("key", b"").await;
    world.store.set_tags(target("key"), None, tags(2)).await.unwrap();
    let found = async |id| world.store.find(&target("key"), Some(id)).await.unwrap().object().unwrap().tags;
    assert_eq!((found(first.id()).await.len(), found(second.id()).await.len()), (10, 2));
    world.store.set_tags(target("key"), Some(first.id()), Tags::new()).await.unwrap();
    assert_eq!((found(first.id()).await.len(), found(second.id()).await.len()), (0, 2));
    for (name, value) in [("", String::new()), (&"n".repeat(129), String::new()), ("n", "v".repeat(257))] {
        let wrong = Tags::from([(name.to_owned(), value)]);
        assert!(matches!(world.store.set_tags(target("key"), None, wrong).await, Err(Error::InvalidTag(_))));
    }
    // Characters are counted, not bytes.
    let wide = Tags::from([("\u{e9}".repeat(128), "\u{e9}".repeat(256))]);
    world.store.set_tags(target("key"), None, wide).await.unwrap();
    world.remove("key", None, false).await.unwrap();
    assert!(matches!(world.store.set_tags(target("key"), None, tags(1)).await, Err(Error::IsMarker { .. })));
    let gone = world.store.set_tags(target("key"), Some(VersionId::Number(1)), tags(1)).await;
    assert!(matches!(gone, Err(Error::NoSuchVersion)));
    assert!(matches!(world.store.set_tags(target("none"), None, tags(1)).await, Err(Error::NoSuchKey)));
}

// ---- Lifecycle

fn rule() -> LifecycleRule {
    LifecycleRule { enabled: true, ..LifecycleRule::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_expire_by_prefix_tag_size_age_and_date() {
    for budget in [1, 2, 100] {
        let world = World::new(NewBucket::default()).await;
        let tags = Tags::from([("keep".to_owned(), "no".to_owned())]);
        world.put("logs/a", &[0; 10]).await;
        world.put("logs/b", &[0; 100]).await;
        world.write("logs/c", &[0; 10], Writes { tags: tags.clone(), ..Writes::default() }).await.unwrap();
        world.put("other", &[0; 10]).await;
        let filter = |filter: Filter| Filter { prefix: "logs/".to_owned(), ..filter };
        let days =
            |number, rest: Filter| LifecycleRule { expire: Some(Expire::Days(number)), filter: filter(rest), ..rule() };
        // Begun in the middle of a day, two days end at the midnight behind them.
        let end = START + 3 * DAY - START % DAY;
        let tagged = days(2, Filter { tags, ..Filter::default() });
        assert_eq!(world.expire(std::slice::from_ref(&tagged), end - 1, budget).await, (0, 0));
        let off = LifecycleRule { enabled: false, ..tagged.clone() };
        assert_eq!(world.expire(&[off], end, budget).await, (0, 0));
        assert_eq!(world.expire(&[tagged], end, budget).await, (1, 0));
        assert_eq!(world.outline().await, ["logs/a null*", "logs/b null*", "other null*"]);
        let large = days(2, Filter { above: Some(10), below: Some(101), ..Filter::default() });
        assert_eq!(world.expire(&[large], end, budget).await, (1, 0));
        assert_eq!(world.outline().await, ["logs/a null*", "other null*"]);
        let date = LifecycleRule { expire: Some(Expire::Date(end)), ..rule() };
        assert_eq!(world.expire(std::slice::from_ref(&date), end - 1, budget).await, (0, 0));
        assert_eq!(world.expire(&[date], end, budget).await, (2, 0));
        assert!(world.outline().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_versions_go_by_when_a_newer_one_came_and_some_are_kept() {
    for budget in [1, 3, 100] {
        let world = World::versioned().await;
        for day in 0..5 {
            world.set_clock(START + day * DAY);
            world.put("key", &[0; 3]).await;
        }
        world.put("last", b"").await;
        let older = |days, keep| LifecycleRule { noncurrent: Some(Noncurrent { days, keep }), ..rule() };
        // The newest became old on the fourth day.
        let end = |day: i64| START + (day + 1) * DAY - START % DAY;
        assert_eq!(world.expire(&[older(10, 0)], end(10), budget).await, (0, 0));
        assert_eq!(world.expire(&[older(10, 3)], end(14), budget).await, (1, 0), "three are kept");
        assert_eq!(world.expire(&[older(10, 0)], end(12), budget).await, (1, 0), "one is of age");
        assert_eq!(world.expire(&[older(10, 0)], end(100), budget).await, (2, 0));
        assert_eq!(world.outline().await, ["key id*", "last id*"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_expires_leaves_a_marker_which_goes_when_it_hides_nothing() {
    let world = World::versioned().await;
    world.put("key", b"").await;
    world.remove("bare", None, false).await.unwrap();
    let all =
        LifecycleRule { expire: Some(Expire::Days(1)), noncurrent: Some(Noncurrent { days: 1, keep: 0 }), ..rule() };
    let markers = LifecycleRule { lone_markers: true, ..rule() };
    assert_eq!(world.expire(std::slice::from_ref(&markers), START, 1).await, (1, 0));
    assert_eq!(world.outline().await, ["key id*"]);
    assert_eq!(world.expire(std::slice::from_ref(&all), START + 2 * DAY, 1).await, (1, 0));
    assert_eq!(world.outline().await, ["key id!*", "key id"]);
    assert_eq!(world.expire(&[markers], START + 2 * DAY, 1).await, (0, 0), "it hides a version");
    world.set_clock(START + 2 * DAY);
    assert_eq!(world.expire(std::slice::from_ref(&all), START + 4 * DAY, 1).await, (1, 0));
    assert_eq!(world.outline().await, ["key id!*"]);
    assert_eq!(world.expire(&[all], START + 4 * DAY, 1).await, (1, 0));
    assert!(world.outline().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_plan_was_made_stays() {
    let world = World::versioned().await;
    let first = world.put("key", b"first").await;
    let look = |rule| Look {
        project: project(),
        bucket: bucket(),
        rules: Arc::from([rule]),
        now: START + 9 * DAY,
        budget: 10,
    };
    let expire = LifecycleRule { expire: Some(Expire::Days(1)), ..rule() };
    let plan = world.store.due(look(expire), Walk::start()).await.unwrap();
    assert_eq!(plan.due, [Due::Current { key: "key".to_owned(), version: first.version }]);
    let second = world.put("key", b"second").await;
    assert_eq!(world.store.expire(&project(), &bucket(), plan.due).await.unwrap().removed, 0);

    // The first becomes the current one between plan and deed.
    let older = LifecycleRule { noncurrent: Some(Noncurrent { days: 1, keep: 0 }), ..rule() };
    let plan = world.store.due(look(older), Walk::start()).await.unwrap();
    assert_eq!(plan.due.len(), 1);
    world.remove("key", Some(second.id()), false).await.unwrap();
    assert_eq!(world.store.expire(&project(), &bucket(), plan.due).await.unwrap().removed, 0);
    assert_eq!(world.get("key", None).await.unwrap(), b"first");
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_uploads_expire_and_the_background_keeps_to_the_rules_and_says_so() {
    let world = World::new(NewBucket::default()).await;
    let begin = async |key| world.store.begin_upload(target(key), UploadRow::default()).await.unwrap();
    for key in ["logs/a", "logs/b", "logs/b", "other"] {
        let id = begin(key).await;
        let stream = futures::stream::iter([Ok(Bytes::from(vec![1; (1 << 20) + 1]))]);
        let sealed = world.store.seal(&project(), stream, None, u64::MAX).await.unwrap();
        world.store.put_part(target(key), id, 1, sealed).await.unwrap();
    }
    let filter = Filter { prefix: "logs/".to_owned(), ..Filter::default() };
    let rule = LifecycleRule { id: "uploads".to_owned(), abort_uploads: Some(1), filter, ..rule() };
    for budget in [1, 2] {
        assert_eq!(world.expire(std::slice::from_ref(&rule), START, budget).await, (0, 0));
    }
    world.store.set_lifecycle(&project(), &bucket(), Some(vec![rule.clone()])).await.unwrap();
    assert_eq!(world.store.lifecycle(&project(), &bucket()).await.unwrap(), Some(vec![rule]));
    world.set_clock(START + 3 * DAY);
    let audit = audit::Audit::new(db::Db::open(&world.dir.path().join("audit.db")).await.unwrap());
    world.store.expire_all(&audit).await.unwrap();
    let query = UploadQuery { limit: 9, ..UploadQuery::default() };
    assert_eq!(world.store.uploads(&project(), &bucket(), query).await.unwrap().0.len(), 1);
    let files = || std::fs::read_dir(world.dir.path().join("objects/large")).unwrap().count();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while files() > 1 && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(files(), 1);
    let entries = audit.list(&audit::Query { limit: 9, ..audit::Query::default() }).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].action.as_str(), entries[0].identity.as_str()), ("s3:LifecycleExpiration", "system"));
    let detail: serde_json::Value = serde_json::from_str(&entries[0].detail).unwrap();
    assert_eq!((&detail["uploads"], &detail["from"]), (&3.into(), &"logs/a".into()));
}

#[test]
fn rules_that_cannot_be_are_refused() {
    let good = LifecycleRule { expire: Some(Expire::Days(1)), ..rule() };
    check_rules(std::slice::from_ref(&good)).unwrap();
    let tags = Filter { tags: Tags::from([("a".to_owned(), String::new())]), ..Filter::default() };
    let wrong = [
        rule(),
        LifecycleRule { id: "x".repeat(256), ..good.clone() },
        LifecycleRule { expire: Some(Expire::Days(0)), ..rule() },
        LifecycleRule { expire: Some(Expire::Date(1)), ..rule() },
        LifecycleRule { lone_markers: true, ..good.clone() },
        LifecycleRule { abort_uploads: Some(0), ..rule() },
        LifecycleRule { abort_uploads: Some(1), filter: tags.clone(), ..rule() },
        LifecycleRule { lone_markers: true, filter: tags, ..rule() },
        LifecycleRule { noncurrent: Some(Noncurrent { days: 0, keep: 1 }), ..rule() },
        LifecycleRule { noncurrent: Some(Noncurrent { days: 1, keep: 101 }), ..rule() },
        LifecycleRule { filter: Filter { above: Some(9), below: Some(9), ..Filter::default() }, ..good.clone() },
    ];
    for rule in wrong {
        assert!(matches!(check_rules(std::slice::from_ref(&rule)), Err(Error::Invalid(_))), "{rule:?}");
    }
    assert!(check_rules(&[]).is_err());
    assert!(check_rules(&[good.clone(), good]).is_err(), "two of a name");
}

// ---- Against models

/// What one may do to a bucket.
#[derive(Debug, Clone)]
enum Step {
    Put {
        key: usize,
        keep: Option<(bool, i64)>,
        hold: bool,
    },
    Delete {
        key: usize,
    },
    DeleteVersion {
        key: usize,
        which: prop::sample::Index,
        bypass: bool,
    },
    DeleteNull {
        key: usize,
        bypass: bool,
    },
    Retain {
        key: usize,
        which: prop::sample::Index,
        keep: Option<(bool, i64)>,
        bypass: bool,
    },
    Hold {
        key: usize,
        which: prop::sample::Index,
        hold: bool,
    },
    Versioning(Versioning),
    /// Hours by which the system's clock moves.
    Clock(i64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..NAMES.len();
    let which = any::<prop::sample::Index>;
    let keep = || prop::option::weighted(0.3, (any::<bool>(), -2..8_i64));
    let versioning = prop_oneof![
        1 => Just(Versioning::Off),
        4 => Just(Versioning::Enabled),
        2 => Just(Versioning::Suspended)
    ];
    let step = prop_oneof![
        8 => (key.clone(), keep(), prop::bool::weighted(0.1)).prop_map(|(key, keep, hold)| Step::Put { key, keep, hold }),
        4 => key.clone().prop_map(|key| Step::Delete { key }),
        5 => (key.clone(), which(), any::<bool>())
            .prop_map(|(key, which, bypass)| Step::DeleteVersion { key, which, bypass }),
        2 => (key.clone(), any::<bool>()).prop_map(|(key, bypass)| Step::DeleteNull { key, bypass }),
        2 => (key.clone(), which(), keep(), any::<bool>())
            .prop_map(|(key, which, keep, bypass)| Step::Retain { key, which, keep, bypass }),
        2 => (key, which(), any::<bool>()).prop_map(|(key, which, hold)| Step::Hold { key, which, hold }),
        2 => versioning.prop_map(Step::Versioning),
        3 => (-6..6_i64).prop_map(Step::Clock),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

/// A version as it should be.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    id: VersionId,
    /// `None` is a delete marker.
    body: Option<Vec<u8>>,
    retention: Option<Retention>,
    hold: bool,
}

impl Expected {
    fn is_locked(&self, now: i64, bypass: bool) -> bool {
        let governance = |retention: Retention| retention.mode == Mode::Governance && bypass;
        self.hold || self.retention.is_some_and(|retention| retention.until > now && !governance(retention))
    }
}

/// A bucket as it should be: the versions of each key, the newest first.
struct Model {
    versioning: Versioning,
    lock: bool,
    /// The system's clock.
    system: i64,
    /// The most that it ever was.
    highest: i64,
    /// The time of the newest write.
    written: i64,
    now: i64,
    keys: BTreeMap<String, Vec<Expected>>,
}

impl Model {
    /// Removes the version `null`, if no lock keeps it.
    fn drop_null(&mut self, key: &str, bypass: bool) -> bool {
        let now = self.now;
        let versions = self.keys.entry(key.to_owned()).or_default();
        if versions.iter().any(|version| version.id == VersionId::Null && version.is_locked(now, bypass)) {
            return false;
        }
        versions.retain(|version| version.id != VersionId::Null);
        true
    }

    fn plain(&self) -> Vec<(String, Vec<u8>)> {
        let current = |(key, versions): (&String, &Vec<Expected>)| Some((key.clone(), versions.first()?.body.clone()?));
        self.keys.iter().filter_map(current).collect()
    }
}

/// The steps, on a store and on its model, which must agree after each.
async fn play(lock: bool, steps: &[Step], limits: &[usize], prefix: &str, delimiter: Option<&str>) {
    let mut world = World::new(NewBucket { lock, ..NewBucket::default() }).await;
    let mut model = Model {
        versioning: if lock { Versioning::Enabled } else { Versioning::Off },
        lock,
        system: START,
        highest: START,
        written: START,
        now: START,
        keys: NAMES.iter().map(|name| ((*name).to_owned(), Vec::new())).collect(),
    };
    let mut newest = 0;
    for (number, step) in steps.iter().enumerate() {
        let retention = |keep: Option<(bool, i64)>, now: i64| {
            keep.map(|(hard, hours)| Retention {
                mode: if hard { Mode::Compliance } else { Mode::Governance },
                until: now + hours * HOUR + HOUR / 2,
            })
        };
        // Time goes on with the system's clock and by what is written, and never back behind that.
        let now = world.store.clock().await.unwrap();
        assert!(now >= model.system.max(model.written) && now < model.highest + 1000);
        model.now = now;
        match step.clone() {
            Step::Put { key, keep, hold } => {
                let (key, body) = (NAMES[key], format!("{number}").into_bytes());
                let retention = retention(keep, now);
                let writes = Writes { retention, hold: Some(hold), ..Writes::default() };
                let result = world.write(key, &body, writes).await;
                if (retention.is_some() || hold) && !model.lock {
                    assert!(matches!(result, Err(Error::NoLock)));
                } else if retention.is_some_and(|retention| retention.until <= now) {
                    assert!(matches!(result, Err(Error::InvalidRetention(_))));
                } else if model.versioning != Versioning::Enabled && !model.drop_null(key, false) {
                    assert!(matches!(result, Err(Error::Locked(_))));
                } else {
                    let row = result.unwrap();
                    assert!(row.version > newest && row.modified >= now);
                    newest = row.version;
                    model.written = row.modified;
                    assert_eq!(row.id() == VersionId::Null, model.versioning != Versioning::Enabled);
                    let version = Expected { id: row.id(), body: Some(body), retention, hold };
                    model.keys.get_mut(key).unwrap().insert(0, version);
                }
            }
            Step::Delete { key } => {
                let key = NAMES[key];
                let result = world.remove(key, None, false).await;
                if model.versioning != Versioning::Enabled && !model.drop_null(key, false) {
                    assert!(matches!(result, Err(Error::Locked(_))));
                } else {
                    let marker = result.unwrap().marker;
                    assert_eq!(marker.is_some(), model.versioning != Versioning::Off);
                    if let Some(id) = marker {
                        assert_eq!(id == VersionId::Null, model.versioning == Versioning::Suspended);
                        let version = Expected { id, body: None, retention: None, hold: false };
                        model.keys.get_mut(key).unwrap().insert(0, version);
                    }
                }
            }
            Step::DeleteVersion { key, which, bypass } => {
                let versions = model.keys.get_mut(NAMES[key]).unwrap();
                if versions.is_empty() {
                    continue;
                }
                let at = which.index(versions.len());
                let result = world.remove(NAMES[key], Some(versions[at].id), bypass).await;
                if versions[at].is_locked(now, bypass) {
                    assert!(matches!(result, Err(Error::Locked(_))));
                } else {
                    assert_eq!(result.unwrap().was_marker, versions.remove(at).body.is_none());
                }
            }
            Step::DeleteNull { key, bypass } => {
                let result = world.remove(NAMES[key], Some(VersionId::Null), bypass).await;
                assert_eq!(result.is_ok(), model.drop_null(NAMES[key], bypass));
            }
            Step::Retain { key, which, keep, bypass } => {
                let versions = model.keys.get_mut(NAMES[key]).unwrap();
                if versions.is_empty() {
                    continue;
                }
                let at = which.index(versions.len());
                let (version, wanted) = (&mut versions[at], retention(keep, now));
                let present = version.retention.filter(|present| present.until > now);
                let result = world.store.set_retention(target(NAMES[key]), Some(version.id), wanted, bypass).await;
                let weaker = present.is_some_and(|present| {
                    wanted.is_none_or(|wanted| wanted.mode != present.mode || wanted.until < present.until)
                });
                if version.body.is_none() {
                    assert!(matches!(result, Err(Error::IsMarker { .. })));
                } else if !model.lock {
                    assert!(matches!(result, Err(Error::NoLock)));
                } else if wanted.is_some_and(|wanted| wanted.until <= now) {
                    assert!(matches!(result, Err(Error::InvalidRetention(_))));
                } else if weaker && !(bypass && present.is_some_and(|present| present.mode == Mode::Governance)) {
                    assert!(matches!(result, Err(Error::Locked(_))));
                } else {
                    result.unwrap();
                    version.retention = wanted;
                }
            }
            Step::Hold { key, which, hold } => {
                let versions = model.keys.get_mut(NAMES[key]).unwrap();
                if versions.is_empty() {
                    continue;
                }
                let at = which.index(versions.len());
                let result = world.store.set_hold(target(NAMES[key]), Some(versions[at].id), hold).await;
                assert_eq!(result.is_ok(), model.lock && versions[at].body.is_some());
                versions[at].hold = if result.is_ok() { hold } else { versions[at].hold };
            }
            Step::Versioning(versioning) => {
                let result = world.set_versioning(versioning).await;
                let may = match versioning {
                    Versioning::Off => model.versioning == Versioning::Off,
                    Versioning::Enabled => true,
                    Versioning::Suspended => !model.lock,
                };
                assert_eq!(result.is_ok(), may);
                if may {
                    model.versioning = versioning;
                }
            }
            Step::Clock(hours) => {
                model.system = (model.system + hours * HOUR).max(HOUR);
                model.highest = model.highest.max(model.system);
                world.set_clock(model.system);
            }
            Step::Reopen => world = world.reopen().await,
        }
        compare(&world, &model, limits, prefix, delimiter).await;
    }
}

async fn compare(world: &World, model: &Model, limits: &[usize], prefix: &str, delimiter: Option<&str>) {
    for (key, versions) in &model.keys {
        for expected in versions {
            let found = world.store.find(&target(key), Some(expected.id)).await.unwrap();
            match (found, &expected.body) {
                (Found::Object(row), Some(body)) => {
                    assert_eq!((row.retention, row.hold), (expected.retention, expected.hold));
                    assert_eq!(world.get(key, Some(expected.id)).await.unwrap(), *body);
                }
                (Found::Marker(marker), None) => assert_eq!(marker.id(), expected.id),
                (found, _) => panic!("{key} {expected:?}: {found:?}"),
            }
        }
        let current = world.store.find(&target(key), None).await.unwrap();
        let id = match current {
            Found::Object(row) => Some(row.id()),
            Found::Marker(marker) => Some(marker.id()),
            Found::None => None,
        };
        assert_eq!(id, versions.first().map(|version| version.id), "{key}");
    }

    let plain = world.store.list(&project(), &bucket(), "", None, 1000).await.unwrap();
    let keys: Vec<String> = plain.objects.into_iter().map(|object| object.key).collect();
    assert_eq!(keys, model.plain().into_iter().map(|(key, _)| key).collect::<Vec<_>>());

    // Versions, rolled up, page by page.
    let query =
        VersionQuery { prefix: prefix.to_owned(), delimiter: delimiter.map(str::to_owned), ..VersionQuery::default() };
    let found = world.versions(query, limits.iter().copied().cycle()).await;
    let found: Vec<_> = found
        .into_iter()
        .map(|entry| match entry {
            VersionEntry::Version { key, row, is_latest } => {
                (key, Some((row.id(), matches!(row, VersionRow::Marker(_)), is_latest)))
            }
            VersionEntry::Prefix(prefix) => (prefix, None),
        })
        .collect();
    let mut expected = Vec::new();
    for (key, versions) in model.keys.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let cut = delimiter.and_then(|delimiter| Some(key[prefix.len()..].find(delimiter)? + delimiter.len()));
        for (number, version) in versions.iter().enumerate() {
            let entry = match cut {
                Some(cut) => (key[..prefix.len() + cut].to_owned(), None),
                None => (key.clone(), Some((version.id, version.body.is_none(), number == 0))),
            };
            if cut.is_none() || expected.last() != Some(&entry) {
                expected.push(entry);
            }
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn versions_and_locks_are_those_of_the_model_whatever_is_done() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let law = (
        any::<bool>(),
        steps(),
        prop::collection::vec(1..5_usize, 1..4),
        prop::sample::select(vec!["", "a", "a/", "b"]),
        prop::option::of(prop::sample::select(vec!["/", "b", "//"])),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(32));
    runner
        .run(&law, |(lock, steps, limits, prefix, delimiter)| {
            runtime.block_on(play(lock, &steps, &limits, prefix, delimiter));
            Ok(())
        })
        .unwrap();
}

#[test]
fn lists_of_uploads_are_those_of_a_sorted_map() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let law = (
        prop::collection::vec("[ab/\u{e9}]{1,4}", 0..12),
        "[ab/]{0,2}",
        prop::option::of(prop::sample::select(vec!["/", "a", "//"])),
        1..5_usize,
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    runner
        .run(&law, |(keys, prefix, delimiter, limit)| {
            runtime.block_on(async {
                let world = World::new(NewBucket::default()).await;
                let mut uploads = BTreeSet::new();
                for key in keys {
                    let id = world.store.begin_upload(target(&key), UploadRow::default()).await.unwrap();
                    uploads.insert((key, id));
                }
                let mut expected: Vec<(String, Option<Uuid>)> = Vec::new();
                for (key, id) in uploads.into_iter().filter(|(key, _)| key.starts_with(&prefix)) {
                    let cut = delimiter.and_then(|end| Some(key[prefix.len()..].find(end)? + end.len()));
                    let entry = match cut {
                        Some(cut) => (key[..prefix.len() + cut].to_owned(), None),
                        None => (key, Some(id)),
                    };
                    if entry.1.is_some() || expected.last() != Some(&entry) {
                        expected.push(entry);
                    }
                }
                let mut query =
                    UploadQuery { prefix, delimiter: delimiter.map(str::to_owned), limit, ..UploadQuery::default() };
                let mut found: Vec<(String, Option<Uuid>)> = Vec::new();
                loop {
                    let (page, more) = world.store.uploads(&project(), &bucket(), query.clone()).await.unwrap();
                    assert!(if more { page.len() == limit } else { page.len() <= limit });
                    found.extend(page.into_iter().map(|entry| match entry {
                        UploadEntry::Upload(upload) => (upload.key, Some(upload.id)),
                        UploadEntry::Prefix(prefix) => (prefix, None),
                    }));
                    if !more {
                        break;
                    }
                    let (key, id) = found.last().unwrap().clone();
                    (query.key_marker, query.id_marker) = (Some(key), id);
                }
                assert_eq!(found, expected);
            });
            Ok(())
        })
        .unwrap();
}

/// Noon of a day of 2024, in milliseconds of Unix time.
const START: i64 = 1_704_110_400_000;
const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;
const NAMES: [&str; 7] = ["a", "a/", "a/b", "a/b/c", "ab", "b", "b/\u{e9}"];
