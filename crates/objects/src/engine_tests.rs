//! The log, the committer and the opening of a store where something is damaged, gone or half done.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use audit::Audit;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use redb::ReadableTableMetadata as _;
use tokio_util::sync::CancellationToken;

use crate::{
    CheckOptions, Error, NewBucket, Store,
    clock::Clock,
    compact::Pace,
    crash::{keys, project, target},
    index::{Index, OBJECTS, OUTBOX, UPLOADS, Writing},
    lifecycle::{Expire, LifecycleRule},
    log::{HEADER, Log, OPENING, Position, Reader},
    put::{Condition, Writes},
    rows::{UploadRow, Versioning},
    seal::{self, Body},
    segments,
    store::Limits,
};

/// Batches of a log, one byte of notes each, in files of at most `most` bytes.
fn batches(directory: &Path, count: u8, most: u64) -> Position {
    let start = Position { segment: crate::log::NOWHERE, offset: 0, sequence: 1 };
    let mut log = Log::new(directory, 7, start, 0, most);
    for number in 0..count {
        log.begin().unwrap();
        log.append(&[number]).unwrap();
    }
    start
}

/// How many batches can be read, and whether more come behind them.
fn read(directory: &Path, start: Position) -> (u8, bool) {
    let mut reader = Reader::new(directory, 7, start).unwrap();
    let mut count = 0;
    while let Some(batch) = reader.next().unwrap() {
        assert_eq!(batch.notes(), [count]);
        count += 1;
    }
    (count, reader.goes_on().unwrap())
}

#[test]
fn damage_before_the_end_of_a_log_is_not_taken_for_its_end() {
    for most in [1, u64::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let start = batches(dir.path(), 3, most);
        assert_eq!(read(dir.path(), start), (3, false));
        let files = segments::ids(dir.path()).unwrap().len();
        assert_eq!(files, if most == 1 { 3 } else { 1 });
        // Batches are of one size: which one a byte is of, by its place.
        for number in 0..3_u8 {
            let (segment, first) = match most {
                1 => (u64::from(number), OPENING),
                _ => (0, OPENING + usize::from(number) * (HEADER + 1)),
            };
            let path = segments::path(dir.path(), segment);
            let whole = fs::read(&path).unwrap();
            for at in first..first + HEADER + 1 {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                fs::write(&path, &changed).unwrap();
                assert_eq!(read(dir.path(), start), (number, number < 2), "byte {at} of batch {number}, {most}");
            }
            if first == OPENING {
                for at in 0..OPENING {
                    let mut changed = whole.clone();
                    changed[at] ^= 1;
                    fs::write(&path, &changed).unwrap();
                    assert_eq!(read(dir.path(), start), (number, true), "byte {at} of the opening of {segment}");
                }
            }
            fs::write(&path, &whole).unwrap();
        }
        // What a crash cuts is the last.
        let path = segments::path(dir.path(), files as u64 - 1);
        let whole = fs::read(&path).unwrap();
        for length in whole.len() - HEADER..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(dir.path(), start), (2, false), "{length}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_damage_within_its_log_does_not_open_and_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let objects = dir.path().join("objects");
    open(dir.path()).await.close().await;
    // The log goes on, and the index does not know of it.
    let packed = objects.join("packed");
    let next = segments::ids(&packed).unwrap().into_iter().max().unwrap() + 1;
    let (index, mark) = Index::open(&objects.join("index.redb"), Clock::default(), |_, _, mark| Ok(mark)).unwrap();
    drop(index);
    let mut log = Log::new(&packed, mark.log, mark.position, next, u64::MAX);
    for _ in 0..3 {
        log.begin().unwrap();
        log.add(b"data");
        log.append(&[]).unwrap();
    }
    let path = segments::path(&packed, next);
    let whole = fs::read(&path).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let other = copy.path().join("packed");
    fs::create_dir(&other).unwrap();
    let in_copy = other.join(path.file_name().unwrap());
    let before = files(dir.path(), "packed");
    // In the first batch, in the second, and in the opening of the file.
    for (at, batch, byte) in
        [(OPENING + HEADER, 0, OPENING), (OPENING + HEADER + 4 + HEADER, 1, OPENING + HEADER + 4), (OPENING - 1, 0, 0)]
    {
        flip(&path, at as u64);
        let opened = Store::open(&objects, keys(dir.path())).await;
        let Err(Error::LogDamaged { batch: found, file, byte: from }) = &opened else { panic!("{opened:?}") };
        assert_eq!(*found, mark.position.sequence + batch);
        if byte > 0 {
            assert_eq!((file.as_str(), *from), (format!("packed/{next:016x}").as_str(), byte as u64));
        }
        assert_eq!(files(dir.path(), "packed"), before);
        // A copy that is damaged there, or ends before it, is of no use.
        for useless in [fs::read(&path).unwrap(), whole[..at].to_vec()] {
            fs::write(&in_copy, useless).unwrap();
            let opened = Store::open_to_check(&objects, keys(dir.path()), Some(copy.path())).await;
            assert!(matches!(opened, Err(Error::LogDamaged { .. })), "{opened:?}");
        }
        fs::write(&in_copy, &whole).unwrap();
        // The mark of the log is where it was, so that all is read again.
        let index = fs::read(objects.join("index.redb")).unwrap();
        let store = Store::open_to_check(&objects, keys(dir.path()), Some(copy.path())).await.unwrap();
        let report = store.check(CheckOptions::default(), |_| {}).await.unwrap();
        assert_eq!((report.repaired_log, report.is_well()), (1, true), "{report:?}");
        store.close().await;
        assert!(fs::read(&path).unwrap() == whole);
        drop(store);
        fs::write(objects.join("index.redb"), index).unwrap();
    }
    open(dir.path()).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_fails_in_its_middle_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let bucket = "half".parse().unwrap();
    let half = |writing: &mut Writing<'_>, _| {
        writing.buckets.insert((project().as_str(), "half"), br#"{"created":1}"#.as_slice())?;
        // As of the index, whose disk is full.
        Err::<(), _>(Error::Full)
    };
    assert!(matches!(store.commit(Body::Empty, half).await, Err(Error::Full)));
    assert_eq!(store.bucket(&project(), &bucket).await.unwrap(), None);
    put(&store, "full", &data(10)).await.unwrap();
    store.close().await;
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.bucket(&project(), &bucket).await.unwrap(), None);
    assert_eq!(get(&store, "full").await.unwrap(), data(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_upon_damage_is_taken_back_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for (key, size) in [("small", 1000), ("large", LARGE)] {
        put(&store, key, &data(size)).await.unwrap();
    }
    store.close().await;
    drop(store);
    let index = dir.path().join("objects/index.redb");
    let before = fs::read(&index).unwrap();
    let store = open(dir.path()).await;
    let damaged = |writing: &mut Writing<'_>, _| {
        for key in ["small", "large"] {
            assert!(writing.remove_current(target(key).name(), Versioning::Off)?.changed);
        }
        writing.buckets.insert((project().as_str(), "half"), br#"{"created":1}"#.as_slice())?;
        writing.buckets.remove((project().as_str(), "data"))?;
        writing.forget_counts(project().as_str(), "data")?;
        Err::<(), _>(Error::Damaged { what: "a row".to_owned() })
    };
    // While the first is synced the others gather, so that they share a transaction.
    let calls = (0..90).map(|number| {
        let store = &store;
        async move {
            match number % 3 {
                0 => assert!(matches!(store.commit(Body::Empty, damaged).await, Err(Error::Damaged { .. }))),
                _ => put(store, &number.to_string(), &data(50)).await.unwrap(),
            }
        }
    });
    futures::future::join_all(calls).await;
    for seen in ["as it is", "as the log has it"] {
        let store = match seen {
            "as it is" => store.clone(),
            _ => {
                store.close().await;
                fs::write(&index, &before).unwrap();
                open(dir.path()).await
            }
        };
        assert_eq!(store.bucket(&project(), &"half".parse().unwrap()).await.unwrap(), None);
        for (key, size) in [("small", 1000), ("large", LARGE), ("1", 50), ("89", 50)] {
            assert_eq!(get(&store, key).await.unwrap(), data(size), "{key} {seen}");
        }
        let report = store.check(CheckOptions::default(), |_| {}).await.unwrap();
        assert!(report.is_well() && report.unnamed_files == 0, "{report:?}");
        assert_eq!((report.looked_at.rows, report.looked_at.of_rows), (62, 62));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_goes_to_the_audit_log_as_it_is_and_keeps_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let audit = Audit::new(db::Db::open(&dir.path().join("audit.sqlite")).await.unwrap());
    let entry = audit::Entry::new(audit::Actor::operator(), "test.done", "thing");
    let insert = move |writing: &mut Writing<'_>, _| {
        for bytes in [b"\"cut".to_vec(), vec![0xFF, 0], crate::rows::encode(&entry)] {
            let number = writing.now();
            writing.outbox.insert(number, bytes.as_slice())?;
        }
        Ok(())
    };
    store.commit(Body::Empty, insert).await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    store.hand_over(&audit, stop).await;
    let rows = audit.list(&audit::Query { limit: 10, ..audit::Query::default() }).await.unwrap();
    let said: Vec<_> = rows.iter().rev().map(|row| (row.action.as_str(), row.detail.as_str())).collect();
    let unreadable = "store:UnreadableEntry";
    assert_eq!(said, [(unreadable, r#"{"text":"\"cut"}"#), (unreadable, r#"{"hex":"ff00"}"#), ("test.done", "{}")]);
    assert_eq!(store.0.index.read().unwrap().open_table(OUTBOX).unwrap().len().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_very_many_uploads_is_removed_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let begun = (0..2500).map(|number| store.begin_upload(target(&number.to_string()), UploadRow::default()));
    futures::stream::iter(begun).buffer_unordered(128).try_collect::<Vec<_>>().await.unwrap();
    let uploads = || store.0.index.read().unwrap().open_table(UPLOADS).unwrap().len().unwrap();
    assert_eq!(uploads(), 2500);
    let batches = async |store: Store| {
        store.close().await;
        drop(store);
        let path = dir.path().join("objects/index.redb");
        let (_, mark) = Index::open(&path, Clock::default(), |_, _, mark| Ok(mark)).unwrap();
        mark.position.sequence
    };
    put(&store, "key", &data(10)).await.unwrap();
    let refused = store.delete_bucket(&project(), &target("").bucket).await;
    assert!(matches!(refused, Err(Error::NotEmpty { .. })), "{refused:?}");
    assert_eq!(uploads(), 2500);
    store.delete_object(&project(), &target("").bucket, "key").await.unwrap();
    let before = batches(store).await;
    let store = Store::open(&dir.path().join("objects"), keys(dir.path())).await.unwrap();
    store.delete_bucket(&project(), &target("").bucket).await.unwrap();
    assert_eq!(store.0.index.read().unwrap().open_table(UPLOADS).unwrap().len().unwrap(), 0);
    assert_eq!(batches(store).await - before, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_index_is_gone_does_not_open_and_loses_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let sizes = [1000, LARGE];
    for size in sizes {
        put(&store, &size.to_string(), &data(size)).await.unwrap();
    }
    store.close().await;
    drop(store);
    let (index, kept) = (dir.path().join("objects/index.redb"), dir.path().join("kept"));
    fs::rename(&index, &kept).unwrap();
    let opened = Store::open(&dir.path().join("objects"), keys(dir.path())).await;
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    assert!(!index.exists());
    fs::rename(&kept, &index).unwrap();
    let store = open(dir.path()).await;
    for size in sizes {
        assert_eq!(get(&store, &size.to_string()).await.unwrap(), data(size));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_only_begun_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let objects = dir.path().join("objects");
    fs::create_dir_all(&objects).unwrap();
    // As a kill leaves it: redb sizes the file first and writes its magic number last.
    fs::write(objects.join("index.redb.new"), [0; 8192]).unwrap();
    let store = open(dir.path()).await;
    put(&store, "key", &data(10)).await.unwrap();
    store.close().await;
    drop(store);
    assert!(!objects.join("index.redb.new").exists());
    assert_eq!(get(&open(dir.path()).await, "key").await.unwrap(), data(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_file_that_is_gone_or_damaged_keeps_no_other_from_being_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let limits = |every| Limits { segment_file: 64 << 10, pace: Pace { every, rate: 1 << 30 }, ..Limits::default() };
    let objects = dir.path().join("objects");
    let store = Store::open_within(&objects, keys(dir.path()), limits(Duration::from_secs(3600))).await.unwrap();
    store.create_bucket(&project(), &target("").bucket, NewBucket::default()).await.unwrap();
    for number in 0..60 {
        put(&store, &number.to_string(), &data(20_000)).await.unwrap();
    }
    for number in (0..60).filter(|number| number % 4 != 0) {
        store.delete_object(&project(), &target("").bucket, &number.to_string()).await.unwrap();
    }
    store.close().await;
    drop(store);
    let mut before = files(dir.path(), "packed");
    before.sort();
    assert!(before.len() >= 12, "{before:?}");
    // The notes of the first file say nothing any more; the second is not there.
    let notes = {
        let mut header = [0; HEADER];
        OpenOptions::new().read(true).open(&before[0]).unwrap().read_exact_at(&mut header, OPENING as u64).unwrap();
        (OPENING + HEADER) as u64 + u64::from_le_bytes(header[16..24].try_into().unwrap())
    };
    OpenOptions::new().write(true).open(&before[0]).unwrap().write_all_at(&[0xFE; 4], notes + 1).unwrap();
    fs::remove_file(&before[1]).unwrap();
    let store = Store::open_within(&objects, keys(dir.path()), limits(Duration::from_millis(20))).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while before[2..].iter().filter(|path| path.exists()).count() > 2 || before[0].exists() {
        assert!(Instant::now() < deadline, "{:?}", files(dir.path(), "packed"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut damaged = 0;
    for number in (0..60).step_by(4) {
        match get(&store, &number.to_string()).await {
            Ok(body) => assert_eq!(body, data(20_000)),
            Err(Error::Damaged { .. }) => damaged += 1,
            Err(cause) => panic!("{cause:?}"),
        }
    }
    assert!((1..=2).contains(&damaged), "{damaged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_were_taken_away_remove_no_more_than_the_step_at_work() {
    const MANY: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let time = Arc::new(std::sync::atomic::AtomicU64::new(1_700_000_000_000_000));
    let limits = Limits { clock: Clock::at(Arc::clone(&time)), ..Limits::default() };
    let store = Store::open_within(&dir.path().join("objects"), keys(dir.path()), limits).await.unwrap();
    let bucket = target("").bucket;
    store.create_bucket(&project(), &bucket, NewBucket::default()).await.unwrap();
    let puts = (0..MANY).map(|number| {
        let store = &store;
        async move { put(store, &number.to_string(), b"").await.map(drop) }
    });
    futures::stream::iter(puts).buffer_unordered(128).try_collect::<()>().await.unwrap();
    let rule = LifecycleRule { enabled: true, expire: Some(Expire::Days(1)), ..LifecycleRule::default() };
    store.set_lifecycle(&project(), &bucket, Some(vec![rule])).await.unwrap();
    time.fetch_add(3 * 24 * 60 * 60 * 1_000_000, std::sync::atomic::Ordering::SeqCst);
    let audit = Audit::new(db::Db::open(&dir.path().join("audit.sqlite")).await.unwrap());
    let objects = || store.0.index.read().unwrap().open_table(OBJECTS).unwrap().len().unwrap();
    let taken_away = async {
        while objects() == MANY {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        store.set_lifecycle(&project(), &bucket, None).await.unwrap();
        objects()
    };
    let (walked, left) = tokio::join!(store.expire_all(&audit), taken_away);
    walked.unwrap();
    assert!(left > 500 && left - objects() <= 500, "{left} were left, and {} in the end", objects());
}

async fn open(dir: &Path) -> Store {
    let store = Store::open(&dir.join("objects"), keys(dir)).await.unwrap();
    match store.create_bucket(&project(), &target("").bucket, NewBucket::default()).await {
        Ok(()) | Err(Error::BucketExists { .. }) => store,
        Err(cause) => panic!("{cause:?}"),
    }
}

async fn put(store: &Store, key: &str, body: &[u8]) -> Result<(), Error> {
    let stream = futures::stream::iter([Ok(Bytes::copy_from_slice(body))]);
    let sealed = store.seal(&project(), stream, None, u64::MAX).await?;
    store.put(target(key), Writes::default(), sealed, Condition::default()).await.map(drop)
}

async fn get(store: &Store, key: &str) -> Result<Vec<u8>, Error> {
    let opened = store.open_object(&target(key), None).await?;
    let size = opened.row.size;
    let parts: Vec<Bytes> = store.source(opened, 0..size).await?.stream().await?.try_collect().await?;
    Ok(parts.concat())
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|number| (number * 31 % 253) as u8).collect()
}

fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.join("objects").join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

const LARGE: usize = seal::MEDIUM as usize + 1;
