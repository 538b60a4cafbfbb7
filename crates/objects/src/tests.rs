//! The store against models and damage. The gate's tests are in `tests/`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::Path,
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use proptest::prelude::*;
use redb::ReadableDatabase as _;

use crate::{
    Error, NewBucket, Store,
    crash::{keys, project, target},
    index::{self, OBJECTS},
    list::{self, Query},
    put::{Condition, Writes},
    rows::{self, Data, ObjectRow, Piece, Place},
    seal,
    store::Limits,
    uploads::{Check, Wanted},
};

async fn open(dir: &Path) -> Store {
    let limits = Limits { segment_file: 1 << 20, ..Limits::default() };
    let store = Store::open_within(&dir.join("objects"), keys(dir), limits).await.unwrap();
    match store.create_bucket(&project(), &target("").bucket, NewBucket::default()).await {
        Ok(()) | Err(Error::BucketExists { .. }) => store,
        Err(cause) => panic!("{cause}"),
    }
}

async fn put(store: &Store, key: &str, body: &[u8]) -> Result<ObjectRow, Error> {
    let chunks = body.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
    let sealed = store.seal(&project(), futures::stream::iter(chunks), None, u64::MAX).await?;
    store.put(target(key), Writes::default(), sealed, Condition::default()).await
}

async fn get(store: &Store, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Vec<u8>, Error> {
    let opened = store.open_object(&target(key), None).await?;
    let range = range.unwrap_or(0..opened.row.size);
    let reading = store.source(opened, range).await?.stream().await?;
    let parts: Vec<Bytes> = reading.try_collect().await?;
    Ok(parts.concat())
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|number| (number * 31 % 253) as u8).collect()
}

/// Waits until so many files of a kind are left: what is of no use goes after its removal was answered.
async fn left(dir: &Path, kind: &str, most: usize) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while files(dir, kind).len() > most {
        assert!(std::time::Instant::now() < deadline, "{most} of {:?}", files(dir, kind));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn files(dir: &Path, kind: &str) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir.join("objects").join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

const LARGE: usize = seal::MEDIUM as usize + 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_not_closed_opens_with_all_that_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let sizes = [0, 1, 65_536, 65_537, LARGE - 1, LARGE, 1_000_000];
    for size in sizes {
        put(&store, &size.to_string(), &data(size)).await.unwrap();
    }
    drop(store);
    let store = open(dir.path()).await;
    for size in sizes {
        assert_eq!(get(&store, &size.to_string(), None).await.unwrap(), data(size), "{size}");
    }
    assert!(
        matches!(Store::open(&dir.path().join("objects"), keys(dir.path())).await, Err(Error::Index(_))),
        "one process"
    );
    store.close().await;
    assert!(matches!(get(&store, "0", None).await, Err(Error::Closed)));
    assert!(matches!(put(&store, "0", b"").await, Err(Error::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_before_there_was_a_log_opens_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path());
    let key = keys.data_key(&project(), crate::store::PURPOSE).unwrap();
    let mut sealed = data(5000);
    crypto::segment::Cipher::new(&key.key).unwrap().seal(0, true, &mut sealed).unwrap();
    let packed = dir.path().join("objects/packed");
    fs::create_dir_all(&packed).unwrap();
    fs::write(packed.join("0000000000000007"), [vec![9; 100], sealed].concat()).unwrap();
    let database = redb::Database::create(dir.path().join("objects/index.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let place = Place::Packed { segment: 7, offset: 100 };
        let piece = Piece { length: 5000, key: key.wrapped, place };
        let row = rows::encode(&ObjectRow { size: 5000, data: Data::One(piece), null: true, ..ObjectRow::default() });
        let project = project();
        let mut objects = write.open_table(OBJECTS).unwrap();
        objects.insert((project.as_str(), "data", b"old".as_slice()), row.as_slice()).unwrap();
        let mut buckets = write.open_table(index::BUCKETS).unwrap();
        buckets.insert((project.as_str(), "data"), br#"{"created":1}"#.as_slice()).unwrap();
        write.open_table(index::SEGMENTS).unwrap().insert(7, (5016, 1)).unwrap();
        write.open_table(index::META).unwrap().insert("format", 1).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    for round in 0..2 {
        let store = open(dir.path()).await;
        assert_eq!(get(&store, "old", None).await.unwrap(), data(5000));
        put(&store, "new", &data(round)).await.unwrap();
        let now = tokio::time::Instant::now();
        let usage = store.usage(&project(), &target("").bucket, now).await.unwrap().unwrap();
        assert_eq!((usage.objects, usage.bytes), (2, 5000 + round as u64));
        assert!(store.check(crate::CheckOptions::default(), |_| {}).await.unwrap().is_well());
        if round == 1 {
            store.delete_object(&project(), &target("").bucket, "old").await.unwrap();
            assert!(fs::exists(packed.join("0000000000000007")).unwrap(), "until the index is durable");
        }
        store.close().await;
    }
    assert!(!fs::exists(packed.join("0000000000000007")).unwrap(), "{:?}", files(dir.path(), "packed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_object_is_on_disk_in_clear_and_files_are_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let secret = b"a sentence that nobody else may read, ".repeat(20_000);
    put(&store, "small", &secret[..1000]).await.unwrap();
    put(&store, "large", &secret).await.unwrap();
    let index = dir.path().join("objects/index.redb");
    for file in files(dir.path(), "large").into_iter().chain(files(dir.path(), "packed")).chain([index]) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(20).any(|part| part == &secret[..20]), "{}", file.display());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_an_error_and_never_data() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for (kind, size) in [("packed", 200_000), ("large", LARGE + 400_000)] {
        put(&store, kind, &data(size)).await.unwrap();
        let path = files(dir.path(), kind).remove(0);
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let opened = store.open_object(&target(kind), None).await.unwrap();
        let Data::One(Piece { place, length, .. }) = opened.row.data else { panic!("one piece") };
        let start = if let Place::Packed { offset, .. } = place { offset } else { 0 };
        let end = start + seal::sealed_length(length);
        for at in [start, start + length / 2, end - 1] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let found = get(&store, kind, None).await;
            assert!(matches!(found, Err(Error::Damaged { .. })), "{kind} at {at}");
            file.write_all_at(&byte, at).unwrap();
        }
        assert_eq!(get(&store, kind, None).await.unwrap(), data(size));
        // A range that does not touch the damage is not hurt by it.
        file.write_all_at(&[0; 4], end - 4).unwrap();
        assert_eq!(get(&store, kind, Some(5..100)).await.unwrap(), data(size)[5..100]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_file_whose_tail_is_lost_hurts_only_what_was_in_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, "first", &data(1000)).await.unwrap();
    put(&store, "second", &data(2000)).await.unwrap();
    let opened = store.open_object(&target("second"), None).await.unwrap();
    let Data::One(Piece { place: Place::Packed { offset, .. }, .. }) = opened.row.data else { panic!("packed") };
    drop(opened);
    // The index is made durable, so that the log is not read again.
    store.close().await;
    drop(store);
    let path = files(dir.path(), "packed").remove(0);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(offset + 1990).unwrap();
    let store = open(dir.path()).await;
    assert_eq!(get(&store, "first", None).await.unwrap(), data(1000));
    assert!(matches!(get(&store, "second", None).await, Err(Error::Damaged { .. })));
    put(&store, "second", &data(2000)).await.unwrap();
    put(&store, "third", &data(3000)).await.unwrap();
    for (key, size) in [("first", 1000), ("second", 2000), ("third", 3000)] {
        assert_eq!(get(&store, key, None).await.unwrap(), data(size));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn space_comes_back_once_nobody_reads_and_orphans_go_when_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, "key", &data(LARGE)).await.unwrap();
    let opened = store.open_object(&target("key"), None).await.unwrap();
    put(&store, "key", &data(2 * LARGE)).await.unwrap();
    assert_eq!(files(dir.path(), "large").len(), 2, "somebody may still read the first");
    let reading = store.source(opened, 0..LARGE as u64).await.unwrap().stream().await.unwrap();
    let read: Vec<Bytes> = reading.try_collect().await.unwrap();
    assert_eq!(read.concat(), data(LARGE));
    put(&store, "key", &data(3 * LARGE)).await.unwrap();
    left(dir.path(), "large", 1).await;

    // Segments of 1 MiB: what is wholly dead is removed.
    for number in 0..40 {
        put(&store, &format!("small/{number}"), &data(100_000)).await.unwrap();
    }
    assert!(files(dir.path(), "packed").len() >= 3);
    for number in 0..40 {
        store.delete_object(&project(), &target("").bucket, &format!("small/{number}")).await.unwrap();
    }
    left(dir.path(), "packed", 1).await;

    // An upload that is given up leaves nothing; neither does one that a crash cut off.
    let failing = futures::stream::iter([Ok(Bytes::from(data(2 * LARGE))), Err(Error::Body("gone".into()))]);
    assert!(store.seal(&project(), failing, None, u64::MAX).await.is_err());
    left(dir.path(), "large", 1).await;
    store.close().await;
    fs::write(dir.path().join("objects/large").join(uuid::Uuid::now_v7().as_simple().to_string()), b"x").unwrap();
    fs::write(dir.path().join("objects/packed/00000000000000ff"), b"x").unwrap();
    let store = open(dir.path()).await;
    assert_eq!(files(dir.path(), "large").len(), 1);
    assert!(!dir.path().join("objects/packed/00000000000000ff").exists());
    assert_eq!(get(&store, "key", None).await.unwrap(), data(3 * LARGE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_while_reads_and_deletes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, "small", &data(10)).await.unwrap();
    put(&store, "large", &data(LARGE)).await.unwrap();
    drop(store);
    let full = Limits { kept_free: u64::MAX, ..Limits::default() };
    let store = Store::open_within(&dir.path().join("objects"), keys(dir.path()), full).await.unwrap();
    for size in [10, LARGE, 10 * LARGE] {
        assert!(matches!(put(&store, "more", &data(size)).await, Err(Error::Full)), "{size}");
    }
    assert_eq!(get(&store, "small", None).await.unwrap(), data(10));
    assert_eq!(get(&store, "large", None).await.unwrap(), data(LARGE));
    store.delete_object(&project(), &target("").bucket, "large").await.unwrap();
    assert!(matches!(get(&store, "large", None).await, Err(Error::NoSuchKey)));
    left(dir.path(), "large", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_parts_reads_like_one_and_frees_what_is_not_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let id = store.begin_upload(target("key"), rows::UploadRow::default()).await.unwrap();
    let bodies = [data(5 << 20), data(6 << 20), data(300)];
    let mut wanted = Vec::new();
    for (number, body) in (1..).zip(&bodies) {
        let stream = futures::stream::iter([Ok(Bytes::copy_from_slice(body))]);
        let sealed = store.seal(&project(), stream, None, u64::MAX).await.unwrap();
        let row = store.put_part(target("key"), id, number * 3, sealed).await.unwrap();
        wanted.push(Wanted { number: number * 3, etag: Some(row.etag), sum: None });
    }
    let unwanted = futures::stream::iter([Ok(Bytes::from(data(LARGE)))]);
    let sealed = store.seal(&project(), unwanted, None, u64::MAX).await.unwrap();
    store.put_part(target("key"), id, 4, sealed).await.unwrap();
    assert_eq!(files(dir.path(), "large").len(), 3);
    store.complete_upload(target("key"), id, wanted, Check::default(), Condition::default()).await.unwrap();
    left(dir.path(), "large", 2).await;
    let whole = bodies.concat();
    assert_eq!(get(&store, "key", None).await.unwrap(), whole);
    let border = 5 << 20;
    for range in [0..1, border - 1..border + 1, border..border, 100..whole.len() - 1, whole.len() - 1..whole.len()] {
        let found = get(&store, "key", Some(range.start as u64..range.end as u64)).await.unwrap();
        assert_eq!(found, whole[range.clone()], "{range:?}");
    }
    store.delete_object(&project(), &target("").bucket, "key").await.unwrap();
    left(dir.path(), "large", 0).await;
    store.delete_bucket(&project(), &target("").bucket).await.unwrap();
}

#[test]
fn ranges_are_those_of_the_bytes_that_were_written() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = runtime.block_on(open(dir.path()));
    let sizes = prop_oneof![0..10_usize, 65_500..65_600_usize, 131_000..131_100_usize, 0..600_000_usize];
    let law = (sizes, any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    runner
        .run(&law, |(size, one, other)| {
            let body = data(size);
            let (one, other) = (one.index(size + 1), other.index(size + 1));
            let range = one.min(other)..one.max(other);
            let found = runtime.block_on(async {
                put(&store, "key", &body).await.unwrap();
                get(&store, "key", Some(range.start as u64..range.end as u64)).await.unwrap()
            });
            prop_assert_eq!(&found, &body[range]);
            Ok(())
        })
        .unwrap();
}

/// A list as it should be: every key, or what it is rolled up into, once and in order.
fn model(keys: &BTreeSet<String>, query: &Query) -> (Vec<String>, bool) {
    let mut names: BTreeMap<String, ()> = BTreeMap::new();
    for key in keys.iter().filter(|key| key.starts_with(&query.prefix)) {
        let rest = &key[query.prefix.len()..];
        let name = match query.delimiter.as_deref().and_then(|delimiter| Some((rest.find(delimiter)?, delimiter))) {
            Some((at, delimiter)) => key[..query.prefix.len() + at + delimiter.len()].to_owned(),
            None => key.clone(),
        };
        let after = query.after.as_deref().unwrap_or_default();
        let rolled_up = name.len() < key.len() || query.delimiter.as_deref().is_some_and(|end| name.ends_with(end));
        if (query.after.is_none() || key.as_str() > after) && !(rolled_up && name == after) {
            names.insert(name, ());
        }
    }
    let all: Vec<String> = names.into_keys().collect();
    let more = all.len() > query.limit;
    (all.into_iter().take(query.limit).collect(), more)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn lists_are_those_of_a_sorted_map(
        keys in prop::collection::btree_set("[ab/\u{e9}\u{10ffff}]{1,6}", 0..40),
        prefix in "[ab/]{0,2}",
        delimiter in prop::option::of(prop_oneof![Just("/".to_owned()), Just("a".to_owned()), Just("//".to_owned())]),
        after in prop::option::of("[ab/\u{e9}]{1,4}"),
        limit in 1..12_usize,
    ) {
        let database = redb::Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let write = database.begin_write().unwrap();
        {
            let row = rows::encode(&ObjectRow::default());
            let mut table = write.open_table(OBJECTS).unwrap();
            let (before, ours, behind) = ("0".repeat(32), "a".repeat(32), "b".repeat(32));
            for (project, bucket) in [(&before, "data"), (&ours, "dat"), (&ours, "data1"), (&behind, "data")] {
                table.insert((project.as_str(), bucket, b"a".as_slice()), row.as_slice()).unwrap();
            }
            for key in &keys {
                table.insert((ours.as_str(), "data", key.as_bytes()), row.as_slice()).unwrap();
            }
        }
        write.commit().unwrap();
        let table = database.begin_read().unwrap().open_table(OBJECTS).unwrap();
        let query = Query { prefix, delimiter, after, limit };
        let list = |query: &Query| {
            let (entries, more) = list::list(&table, &project(), &"data".parse().unwrap(), query).unwrap();
            (entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>(), more)
        };
        let first = list(&query);
        prop_assert_eq!(&first, &model(&keys, &query));

        // Page by page, each from where the one before ended, it is the same list.
        let whole = model(&keys, &Query { limit: usize::MAX, ..query.clone() }).0;
        let (mut paged, mut page) = (first.0.clone(), first);
        while page.1 {
            page = list(&Query { after: page.0.last().cloned(), ..query.clone() });
            paged.extend(page.0.iter().cloned());
        }
        prop_assert_eq!(paged, whole);
    }
}
