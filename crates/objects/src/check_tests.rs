//! The check against a store of every kind of object, of which something is damaged on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use audit::{Audit, Query};
use bytes::Bytes;
use crypto::{Key, segment};
use keys::Keys;
use model::{BucketName, ProjectId};
use redb::{Database, ReadableTable as _, WriteTransaction};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    CheckOptions, Damage, Error, NewBucket, Progress, Report, Store, Wrong,
    check::pieces,
    clock::Clock,
    index::{BUCKETS, DOCUMENTS, LARGE, META, NULLS, OBJECTS, PARTS, PIECES, SEGMENTS, UPLOADS, USAGE, VERSIONS},
    put::{Condition, Removal, Target, Writes},
    rows::{self, ObjectRow, PartRow, Piece, Place, Sealing, UploadRow, VersionRow},
    seal, sse,
    store::Limits,
    uploads::{Check, Wanted},
    versions,
};

/// A store with a bucket without and one with versions.
struct World {
    dir: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    store: Store,
}

/// What an object, a version or a part is called in a report.
type Called = (String, String, Option<String>, Option<u32>);

/// A piece of one, where it is, and whether its key is the customer's.
#[derive(Debug, Clone)]
struct Stored {
    called: Called,
    start: u64,
    piece: Piece,
    customer: bool,
}

impl World {
    /// With all kinds of objects in it.
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(&dir.path().join("keys")).unwrap();
        let account = "account".parse().unwrap();
        keys.create_account(&account).unwrap();
        keys.create_project(&project(), &account).unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let store = open(dir.path(), &clock).await.unwrap();
        let world = World { dir, clock, store };
        let versioned = NewBucket { versioning: true, ..NewBucket::default() };
        world.store.create_bucket(&project(), &bucket("plain"), NewBucket::default()).await.unwrap();
        world.store.create_bucket(&project(), &bucket("kept"), versioned).await.unwrap();
        for (within, key, size) in [
            ("plain", "empty", 0),
            ("plain", "tiny", 1),
            ("plain", "small", 3000),
            ("plain", "medium", 200_000),
            ("plain", "large", BIG + 400_000),
            ("kept", "twice", 5000),
            ("kept", "twice", BIG + 70_000),
            ("kept", "gone", 40_000),
        ] {
            world.put(within, key, size, None).await;
        }
        let removal = Removal { key: "gone".to_owned(), ..Removal::default() };
        world.store.remove(&project(), &bucket("kept"), vec![removal]).await.unwrap().remove(0).unwrap();
        world.put("plain", "theirs", 9000, Some(Key::random().unwrap())).await;
        world.put("plain", "theirs, large", BIG + 9000, Some(Key::random().unwrap())).await;

        let id = world.store.begin_upload(target("plain", "parts"), UploadRow::default()).await.unwrap();
        let mut wanted = Vec::new();
        for (number, size) in [(1, 5 << 20), (2, 5 << 20), (5, 300)] {
            let row = world.part("parts", id, number, size).await;
            wanted.push(Wanted { number, etag: Some(row.etag), sum: None });
        }
        let complete =
            world.store.complete_upload(target("plain", "parts"), id, wanted, Check::default(), Condition::default());
        complete.await.unwrap();
        let id = world.store.begin_upload(target("plain", "unfinished"), UploadRow::default()).await.unwrap();
        world.part("unfinished", id, 3, 100_000).await;
        world.part("unfinished", id, 4, BIG + 1).await;
        world
    }

    async fn put(&self, within: &str, key: &str, size: usize, customer: Option<Key>) -> ObjectRow {
        let stream = futures::stream::iter([Ok(Bytes::from(data(size)))]);
        let mut sealed = self.store.seal(&project(), stream, None, u64::MAX).await.unwrap();
        let mut writes = Writes::default();
        if let Some(customer) = customer {
            sealed = sse::wrap(&customer, sealed).unwrap();
            writes.sealing = Sealing::Customer { salt: "00".repeat(16), check: "00".repeat(32) };
        }
        self.store.put(target(within, key), writes, sealed, Condition::default()).await.unwrap()
    }

    async fn part(&self, key: &str, id: Uuid, number: u32, size: usize) -> PartRow {
        let stream = futures::stream::iter([Ok(Bytes::from(data(size)))]);
        let sealed = self.store.seal(&project(), stream, None, u64::MAX).await.unwrap();
        self.store.put_part(target("plain", key), id, number, sealed).await.unwrap()
    }

    async fn check(&self) -> Report {
        self.store.check(CheckOptions { index: true, ..CheckOptions::default() }, |_| {}).await.unwrap()
    }

    async fn repair(&self, copy: &Path) -> Report {
        let options = CheckOptions { repair_from: Some(copy.to_owned()), ..CheckOptions::default() };
        self.store.check(options, |_| {}).await.unwrap()
    }

    /// Everything that has bytes, and where.
    fn stored(&self) -> Vec<Stored> {
        let index = self.store.0.index.read().unwrap();
        let mut stored = Vec::new();
        let mut add = |within: &str, key: &[u8], row: &ObjectRow| {
            let customer = matches!(row.sealing, Sealing::Customer { .. });
            let key = String::from_utf8(key.to_vec()).unwrap();
            for (start, piece) in pieces(&index, row).unwrap() {
                let called = (within.to_owned(), key.clone(), Some(row.id().to_string()), None);
                stored.push(Stored { called, start, piece, customer });
            }
        };
        for entry in index.open_table(OBJECTS).unwrap().iter().unwrap() {
            let (key, row) = entry.unwrap();
            add(key.value().1, key.value().2, &rows::decode("an object", row.value()).unwrap());
        }
        for entry in index.open_table(VERSIONS).unwrap().iter().unwrap() {
            let (key, row) = entry.unwrap();
            if let VersionRow::Object(row) = versions::decode(row.value()).unwrap() {
                add(key.value().1, key.value().2, &row);
            }
        }
        for entry in index.open_table(PARTS).unwrap().iter().unwrap() {
            let (key, row) = entry.unwrap();
            let called = ("plain".to_owned(), "unfinished".to_owned(), None, Some(key.value().1));
            let piece = rows::decode::<PartRow>("a part", row.value()).unwrap().piece.unwrap();
            stored.push(Stored { called, start: 0, piece, customer: false });
        }
        stored
    }

    fn path(&self, piece: &Piece) -> (PathBuf, u64) {
        let objects = self.objects();
        match piece.place {
            Place::Large(id) => (objects.join("large").join(id.as_simple().to_string()), 0),
            Place::Packed { segment, offset } => (objects.join("packed").join(format!("{segment:016x}")), offset),
        }
    }

    fn objects(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    /// A copy of the files of data.
    fn copy(&self) -> PathBuf {
        let copy = self.dir.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        for (name, bytes) in self.files() {
            let path = copy.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        copy
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for kind in ["packed", "large"] {
            for file in fs::read_dir(self.objects().join(kind)).unwrap() {
                let file = file.unwrap();
                files.insert(format!("{kind}/{}", file.file_name().to_str().unwrap()), fs::read(file.path()).unwrap());
            }
        }
        files
    }

    /// Closes the store, changes its index, and opens it to be checked.
    async fn hurt_index(self, hurt: impl FnOnce(&WriteTransaction)) -> World {
        self.store.close().await;
        let World { dir, clock, store } = self;
        drop(store);
        let database = Database::open(dir.path().join("objects/index.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        hurt(&transaction);
        transaction.commit().unwrap();
        drop(database);
        let store = Store::open_to_check(&dir.path().join("objects"), keys(dir.path()), None).await.unwrap();
        World { dir, clock, store }
    }
}

fn project() -> ProjectId {
    "a".repeat(32).parse().unwrap()
}

fn bucket(name: &str) -> BucketName {
    name.parse().unwrap()
}

fn target(within: &str, key: &str) -> Target {
    Target { project: project(), bucket: bucket(within), key: key.to_owned() }
}

fn keys(dir: &Path) -> Arc<Keys> {
    Arc::new(Keys::open(&dir.join("keys")).unwrap())
}

async fn open(dir: &Path, clock: &Arc<AtomicU64>) -> Result<Store, Error> {
    let limits = Limits { segment_file: 256 << 10, clock: Clock::at(Arc::clone(clock)), ..Limits::default() };
    Store::open_within(&dir.join("objects"), keys(dir), limits).await
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|number| (number * 31 % 253) as u8).collect()
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Another number each time, below `most`.
fn random(most: u64) -> u64 {
    let mut bytes = [0; 8];
    crypto::random(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % most
}

fn called(damage: &Damage) -> Called {
    let part = damage.part.as_ref().map(|(_, number)| *number);
    (damage.bucket.clone(), damage.key.clone(), damage.version.clone(), part)
}

/// The segment of a piece in which a sealed byte is, as bytes of the object.
fn bytes_of(stored: &Stored, at: u64) -> (u64, u64) {
    let number = at / (segment::SEGMENT + segment::TAG) as u64;
    let from = number * segment::SEGMENT as u64;
    (stored.start + from, stored.start + (from + segment::SEGMENT as u64).min(stored.piece.length))
}

const BIG: usize = seal::MEDIUM as usize + 1;
/// In microseconds of Unix time.
const START: u64 = 1_700_000_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_in_a_store_that_is_whole() {
    let world = World::new().await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = {
        let told = Arc::clone(&told);
        move |progress: Progress| told.lock().unwrap().push(progress)
    };
    let report = world.store.check(CheckOptions { index: true, ..CheckOptions::default() }, tell).await.unwrap();
    assert!(report.is_well() && report.damaged.is_empty() && report.unnamed_files == 0, "{report:?}");
    assert_eq!((report.index, report.customers, report.repaired), (Some(true), 2, 0));
    let Progress { rows, of_rows, bytes, of_bytes } = report.looked_at;
    // Five plain, two of customers, one of parts, three with versions, two parts; the marker has no bytes, and counts.
    assert_eq!((rows, of_rows), (13, 14));
    assert!(bytes == of_bytes && bytes > 13 << 20, "{bytes} of {of_bytes}");
    assert_eq!(told.lock().unwrap().last(), Some(&report.looked_at), "the end is told");
    let gentle = CheckOptions { gentle: true, ..CheckOptions::default() };
    let gentle = world.store.check(gentle, |_| {}).await.unwrap();
    assert_eq!(gentle, Report { index: None, ..report });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_found_wherever_it_is_and_nothing_else_is_named() {
    let world = World::new().await;
    let stored = world.stored();
    assert_eq!(stored.len(), 14, "{stored:?}");
    for stored in &stored {
        let (path, base) = world.path(&stored.piece);
        let length = seal::sealed_length(stored.piece.length);
        for at in [0, length - 1, random(length), random(length)] {
            flip(&path, base + at);
            let report = world.store.check(CheckOptions::default(), |_| {}).await.unwrap();
            flip(&path, base + at);
            if stored.customer {
                // Nobody can see it but who has the key.
                assert!(report.is_well() && report.customers == 2, "{report:?}");
                continue;
            }
            assert!(!report.is_well() && report.unrepaired == 1, "{stored:?} at {at}: {report:?}");
            let [damage] = &report.damaged[..] else { panic!("{stored:?} at {at}: {report:?}") };
            assert_eq!(called(damage), stored.called);
            assert_eq!((damage.wrong, damage.bytes), (Wrong::Changed, bytes_of(stored, at)), "{stored:?} at {at}");
            assert!(path.ends_with(&damage.file) && !damage.repaired && report.inconsistent.is_empty());
        }
    }
    assert!(world.check().await.damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_everywhere_is_repaired_from_a_copy_and_whole_after() {
    let world = World::new().await;
    let copy = world.copy();
    let whole = world.files();
    let stored: Vec<Stored> = world.stored().into_iter().filter(|stored| !stored.customer).collect();
    for stored in &stored {
        let (path, base) = world.path(&stored.piece);
        flip(&path, base + random(seal::sealed_length(stored.piece.length)));
    }
    let found = world.check().await;
    let named: BTreeSet<Called> = found.damaged.iter().map(called).collect();
    assert_eq!(named, stored.iter().map(|stored| stored.called.clone()).collect());
    let report = world.repair(&copy).await;
    assert!(report.is_well() && report.repaired == found.unrepaired && report.unrepaired == 0, "{report:?}");
    assert_eq!(report.damaged.iter().map(called).collect::<BTreeSet<_>>(), named);
    let after = world.check().await;
    assert!(after.is_well() && after.damaged.is_empty(), "{after:?}");
    assert!(world.files() == whole, "each byte is what it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_whole_repairs_nothing_and_nothing_whole_is_touched() {
    let world = World::new().await;
    let copy = world.copy();
    // Every byte of it is another: what is taken from it would be seen.
    for (name, bytes) in world.files() {
        fs::write(copy.join(name), bytes.iter().map(|byte| byte ^ 0x55).collect::<Vec<u8>>()).unwrap();
    }
    let whole = world.files();
    let report = world.repair(&copy).await;
    assert!(report.is_well() && report.repaired == 0, "{report:?}");
    assert!(world.files() == whole);
    let large = world.stored().into_iter().find(|stored| stored.called.1 == "large").unwrap();
    let (path, _) = world.path(&large.piece);
    flip(&path, 5);
    let hurt = world.files();
    for copy in [copy, world.objects(), world.dir.path().join("nowhere")] {
        let report = world.repair(&copy).await;
        assert_eq!((report.unrepaired, report.repaired, report.is_well()), (1, 0, false), "{report:?}");
        assert!(world.files() == hurt, "{}", copy.display());
    }
    fs::remove_file(&path).unwrap();
    world.repair(&world.dir.path().join("copy")).await;
    assert!(!path.exists(), "no empty file is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_lost_or_cut_are_found_and_come_back_from_a_copy() {
    let world = World::new().await;
    let copy = world.copy();
    let stored = world.stored();
    for (name, bytes) in world.files() {
        let path = world.objects().join(&name);
        let inside: Vec<&Stored> = stored.iter().filter(|stored| world.path(&stored.piece).0 == path).collect();
        if inside.is_empty() {
            continue;
        }
        fs::remove_file(&path).unwrap();
        let report = world.check().await;
        let named: BTreeSet<Called> = report.damaged.iter().map(called).collect();
        assert_eq!(named, inside.iter().map(|stored| stored.called.clone()).collect(), "{name}");
        assert!(report.damaged.iter().all(|damage| damage.wrong == Wrong::Missing && damage.file == name));

        // The last byte of what ends last is cut off.
        let end = |stored: &&&Stored| world.path(&stored.piece).1 + seal::sealed_length(stored.piece.length);
        let last = inside.iter().max_by_key(end).unwrap();
        let cut = usize::try_from(end(&last)).unwrap() - 1;
        fs::write(&path, &bytes[..cut]).unwrap();
        let report = world.check().await;
        let [damage] = &report.damaged[..] else { panic!("{name}: {report:?}") };
        assert_eq!((called(damage), damage.wrong), (last.called.clone(), Wrong::Cut), "{name}");
        let at = seal::sealed_length(last.piece.length) - 1;
        assert_eq!(damage.bytes, bytes_of(last, at), "{name}");

        fs::remove_file(&path).unwrap();
        let report = world.repair(&copy).await;
        let left = report.damaged.iter().filter(|damage| !damage.repaired).count();
        let theirs = inside.iter().filter(|stored| stored.customer).count();
        assert!(left <= theirs, "all but those under a customer's key: {report:?}");
        fs::write(&path, &bytes).unwrap();
    }
    assert!(world.check().await.is_well());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_named_stays_for_a_check_and_goes_at_the_next_start() {
    let world = World::new().await;
    world.store.close().await;
    let World { dir, clock, store } = world;
    drop(store);
    let objects = dir.path().join("objects");
    let orphans = [format!("large/{}", Uuid::now_v7().as_simple()), "packed/0000000000000000".to_owned()];
    // The first segment file of a log that was emptied, as a crash leaves it, would have this name.
    assert!(objects.join(&orphans[1]).exists(), "it is there, and in use");
    fs::write(objects.join(&orphans[0]), b"x").unwrap();
    let stranger = objects.join("large/notes.txt");
    fs::write(&stranger, b"x").unwrap();
    let store = Store::open_to_check(&objects, keys(dir.path()), None).await.unwrap();
    let report = store.check(CheckOptions::default(), |_| {}).await.unwrap();
    let mut unnamed = report.unnamed.clone();
    unnamed.sort();
    assert_eq!(unnamed, [orphans[0].clone(), "large/notes.txt".to_owned()]);
    assert!(report.is_well() && report.unnamed_files == 2, "{report:?}");
    assert!(objects.join(&orphans[0]).exists(), "a check removes nothing");
    // While it is open, nobody else has it.
    assert!(matches!(Store::open_to_check(&objects, keys(dir.path()), None).await, Err(Error::InUse)));
    store.close().await;
    drop(store);
    let store = open(dir.path(), &clock).await.unwrap();
    assert!(!objects.join(&orphans[0]).exists() && stranger.exists());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_file_that_nothing_names_is_an_orphan() {
    let world = World::new().await;
    let objects = world.objects();
    world.store.close().await;
    let World { dir, store, .. } = world;
    drop(store);
    // Numbers of files rise by one; all that the log needs are at its end. One of them loses all that is in it.
    let database = Database::open(objects.join("index.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let first = transaction.open_table(SEGMENTS).unwrap().first().unwrap().unwrap().0.value();
    transaction.open_table(SEGMENTS).unwrap().remove(first).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = Store::open_to_check(&objects, keys(dir.path()), None).await.unwrap();
    let report = store.check(CheckOptions::default(), |_| {}).await.unwrap();
    let name = format!("packed/{first:016x}");
    assert_eq!((report.unnamed.as_slice(), report.unnamed_files), ([name.clone()].as_slice(), 1));
    // Rows name it all the same: that is what is wrong, and it is still there.
    assert_eq!(report.inconsistent, [format!("the file {name} is in use and not kept")]);
    assert!(!report.is_well() && report.damaged.is_empty() && objects.join(&name).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_places_that_are_not_those_of_the_rows_are_found() {
    let (of, p) = ("a".repeat(32), project());
    type Hurt = Box<dyn FnOnce(&WriteTransaction)>;
    let cases: Vec<(Hurt, String)> = vec![
        (
            Box::new(|write: &WriteTransaction| {
                let mut table = write.open_table(USAGE).unwrap();
                let (p, b) = ("a".repeat(32), "plain");
                let mut row = table.get((p.as_str(), b)).unwrap().unwrap().value();
                row.1 += 1;
                table.insert((p.as_str(), b), row).unwrap();
            }),
            format!("the counts of the bucket plain of {of} are not those of its rows"),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                write.open_table(USAGE).unwrap().remove(("a".repeat(32).as_str(), "kept")).unwrap();
            }),
            format!("there are no counts of the bucket kept of {of}"),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                write.open_table(SEGMENTS).unwrap().insert(99, (7, 1)).unwrap();
            }),
            "the file packed/0000000000000063 has 0 bytes in 0 pieces of use, and not 7 in 1".to_owned(),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                write.open_table(LARGE).unwrap().insert(7, ()).unwrap();
            }),
            "1 large files are kept that no row names".to_owned(),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                write.open_table(PIECES).unwrap().insert((7, 0), b"{}".as_slice()).unwrap();
            }),
            "there are 4 rows of pieces, and objects have 3".to_owned(),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                write.open_table(PARTS).unwrap().insert((7, 1), b"{}".as_slice()).unwrap();
            }),
            "there are 3 rows of parts, and uploads have 2".to_owned(),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                let key = ("a".repeat(32), b"nothing".as_slice());
                write.open_table(NULLS).unwrap().insert((key.0.as_str(), "kept", key.1), 5).unwrap();
            }),
            "versions `null` are named that are not there".to_owned(),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                write.open_table(BUCKETS).unwrap().remove(("a".repeat(32).as_str(), "kept")).unwrap();
            }),
            format!("there are objects of the bucket kept of {of}, and no bucket"),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                let project = "a".repeat(32);
                write
                    .open_table(DOCUMENTS)
                    .unwrap()
                    .insert((project.as_str(), "kept", "cors"), b"".as_slice())
                    .unwrap();
            }),
            format!("the bucket kept of {of} and its document `cors` disagree"),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                // The delete marker of a key is lost, so that what it hides is the newest.
                let mut table = write.open_table(VERSIONS).unwrap();
                let project = "a".repeat(32);
                let from = (project.as_str(), "kept", b"gone".as_slice(), 0);
                let first = table.range(from..).unwrap().next().unwrap().unwrap().0.value().3;
                table.remove((project.as_str(), "kept", b"gone".as_slice(), first)).unwrap();
                let mut usage = write.open_table(USAGE).unwrap();
                let mut row = usage.get((project.as_str(), "kept")).unwrap().unwrap().value();
                row.2 -= 1;
                usage.insert((project.as_str(), "kept"), row).unwrap();
            }),
            format!("the versions of gone in the bucket kept of {p}: the newest is an object, and not the current one"),
        ),
        (
            Box::new(|write: &WriteTransaction| {
                // The current object is older than what it replaced.
                let mut table = write.open_table(OBJECTS).unwrap();
                let project = "a".repeat(32);
                let name = (project.as_str(), "kept", b"twice".as_slice());
                let mut row: ObjectRow = rows::decode("an object", table.get(name).unwrap().unwrap().value()).unwrap();
                row.version = 1;
                table.insert(name, rows::encode(&row).as_slice()).unwrap();
            }),
            format!("the versions of twice in the bucket kept of {p}: the current one is not the newest"),
        ),
    ];
    for (hurt, expected) in cases {
        let world = World::new().await.hurt_index(hurt).await;
        let report = world.check().await;
        assert_eq!(report.inconsistent, [expected]);
        assert!(!report.is_well() && report.damaged.is_empty(), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_named_and_the_rest_is_checked_all_the_same() {
    let world = World::new().await;
    let rows = world.check().await.looked_at.rows;
    let world = world
        .hurt_index(|write| {
            let project = "a".repeat(32);
            let mut objects = write.open_table(OBJECTS).unwrap();
            objects.insert((project.as_str(), "plain", b"small".as_slice()), b"{\"size\":".as_slice()).unwrap();
            let name = (project.as_str(), "plain", b"medium".as_slice());
            let mut row: ObjectRow = rows::decode("an object", objects.get(name).unwrap().unwrap().value()).unwrap();
            row.size += 5;
            objects.insert(name, rows::encode(&row).as_slice()).unwrap();
            let mut pieces = write.open_table(PIECES).unwrap();
            let second = pieces.iter().unwrap().nth(1).unwrap().unwrap().0.value();
            pieces.remove(second).unwrap();
            let mut uploads = write.open_table(UPLOADS).unwrap();
            let (project, bucket, key, id) = {
                let upload = uploads.first().unwrap().unwrap();
                let (project, bucket, key, id) = upload.0.value();
                (project.to_owned(), bucket.to_owned(), key.to_vec(), id)
            };
            uploads.insert((project.as_str(), bucket.as_str(), key.as_slice(), id), b"".as_slice()).unwrap();
        })
        .await;
    let report = world.check().await;
    let mut named: Vec<(&str, (u64, u64))> =
        report.damaged.iter().map(|damage| (damage.key.as_str(), damage.bytes)).collect();
    named.sort_unstable();
    let part = 5 << 20;
    let expected =
        [("medium", (200_000, 200_005)), ("parts", (part, 2 * part)), ("small", (0, 0)), ("unfinished", (0, 0))];
    assert_eq!(named, expected);
    assert!(report.damaged.iter().all(|damage| damage.wrong == Wrong::Row && damage.file == "index.redb"));
    assert!(!report.is_well() && report.inconsistent.is_empty(), "sums say nothing then: {report:?}");
    assert_eq!(report.looked_at.rows, rows - 3);
    // Data that is damaged besides is found too.
    let tiny = world.stored_of("tiny");
    let (path, base) = world.path(&tiny);
    flip(&path, base);
    assert!(world.check().await.damaged.iter().any(|damage| damage.key == "tiny" && damage.wrong == Wrong::Changed));
}

impl World {
    /// The only piece of an object, where not all rows can be read.
    fn stored_of(&self, key: &str) -> Piece {
        let index = self.store.0.index.read().unwrap();
        let row = index.open_table(OBJECTS).unwrap();
        let row = row.get((project().as_str(), "plain", key.as_bytes())).unwrap().unwrap();
        pieces(&index, &rows::decode("an object", row.value()).unwrap()).unwrap().remove(0).1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_gone_is_said_to_be() {
    let world = World::new().await;
    keys(world.dir.path()).destroy(&project()).unwrap();
    world.store.close().await;
    let World { dir, store, .. } = world;
    drop(store);
    let store = Store::open_to_check(&dir.path().join("objects"), keys(dir.path()), None).await.unwrap();
    let report = store.check(CheckOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.unrepaired, 12, "each piece but those of customers: {report:?}");
    assert!(report.damaged.iter().all(|damage| damage.wrong == Wrong::Key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_the_index_is_never_taken_for_a_whole_one() {
    let world = World::new().await;
    let etag = world.put("plain", "marked", 77, None).await.etag;
    world.store.close().await;
    let World { dir, store, .. } = world;
    drop(store);
    let path = dir.path().join("objects/index.redb");
    let bytes = fs::read(&path).unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, etag.as_bytes()).collect();
    assert!(!places.is_empty(), "the row is there");
    let mut changed = bytes.clone();
    // Still JSON, and still a row: only the file's own sums tell.
    places.iter().for_each(|at| changed[*at] = if changed[*at] == b'0' { b'1' } else { b'0' });
    fs::write(&path, &changed).unwrap();
    let said = match Store::open_to_check(&dir.path().join("objects"), keys(dir.path()), None).await {
        Err(_) => false,
        Ok(store) => {
            let options = CheckOptions { index: true, ..CheckOptions::default() };
            store.check(options, |_| {}).await.is_ok_and(|report| report.is_well())
        }
    };
    assert!(!said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_makes_no_store_where_there_is_none() {
    let world = World::new().await;
    let nowhere = world.dir.path().join("nowhere");
    let opened = Store::open_to_check(&nowhere, keys(world.dir.path()), None).await;
    assert!(matches!(opened, Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    assert!(!nowhere.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_checks_once_a_week_and_records_what_it_finds_once() {
    let world = World::new().await;
    let database = db::Db::open(&world.dir.path().join("audit.sqlite")).await.unwrap();
    let audit = Audit::new(database);
    let stop = CancellationToken::new();
    let scrub = || world.store.scrub_if_due(&audit, &stop);
    let recorded = async || audit.list(&Query { limit: 100, ..Query::default() }).await.unwrap().len();
    assert!(scrub().await.unwrap().is_some_and(|report| report.is_well()));
    assert!(scrub().await.unwrap().is_none(), "not again so soon");
    assert_eq!(recorded().await, 0, "nothing to say");
    let small = world.stored().into_iter().find(|stored| stored.called.1 == "small").unwrap();
    let (path, base) = world.path(&small.piece);
    flip(&path, base);
    world.clock.fetch_add(Duration::from_secs(7 * 24 * 60 * 60 + 1).as_micros() as u64, Ordering::SeqCst);
    assert_eq!(scrub().await.unwrap().map(|report| report.unrepaired), Some(1));
    assert!(scrub().await.unwrap().is_none());
    assert_eq!(recorded().await, 1);
    let entry = &audit.list(&Query { limit: 1, ..Query::default() }).await.unwrap()[0];
    assert_eq!((entry.action.as_str(), entry.result.as_str()), ("store:Check", "damaged"));
    // When it was done last survives a start.
    let last = world.store.0.index.read().unwrap().open_table(META).unwrap().get("scrubbed").unwrap().unwrap().value();
    assert!(last > START);
    stop.cancel();
    world.clock.fetch_add(Duration::from_secs(8 * 24 * 60 * 60).as_micros() as u64, Ordering::SeqCst);
    assert!(matches!(scrub().await, Err(Error::Closed)), "it ends with the service");
}
