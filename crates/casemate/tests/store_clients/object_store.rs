//! The `object_store` crate, by which DataFusion, delta-rs, Lance and the like reach S3: its own suite, and what that
//! does not try.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Attribute, Attributes, BackoffConfig, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion, WriteMultipart,
    aws::{AmazonS3, AmazonS3Builder, Checksum, S3CopyIfNotExists},
    integration,
    path::Path,
    signer::Signer as _,
};

use crate::{
    site::{Site, bytes},
    support::text,
};

/// What it runs against S3 itself (`s3_test` of its `aws` module), but for tags.
#[test]
fn the_suite_of_object_store_passes() {
    let site = Site::plain();
    run(async {
        let store = bucket(&site, "suite").build().expect("a client");
        integration::put_get_delete_list(&store).await;
        integration::list_with_offset_exclusivity(&store).await;
        integration::get_opts(&store).await;
        integration::list_uses_directories_correctly(&store).await;
        integration::list_with_delimiter(&store).await;
        integration::rename_and_copy(&store).await;
        integration::copy_rename_nonexistent_object(&store).await;
        integration::get_nonexistent_object(&store, None).await.expect_err("it is not there");
        integration::stream_get(&store).await;
        integration::multipart(&store, &store).await;
        integration::multipart_with_opts(&store, &store).await;
        integration::multipart_put_part_out_of_order(&store, &store).await;
        integration::multipart_race_condition(&store, true).await;
        integration::multipart_out_of_order(&store).await;
        integration::put_get_attributes(&store).await;
        integration::list_paginated(&store, &store).await;
        integration::copy_if_not_exists(&store).await;
        integration::put_opts(&store, true).await;
    });
}

/// As its suite does: each way to say what a body is.
#[test]
fn the_suite_of_object_store_passes_with_each_kind_of_payload() {
    let site = Site::plain();
    run(async {
        let base = bucket(&site, "suite");
        for builder in [
            base.clone().with_unsigned_payload(true),
            base.clone().with_checksum_algorithm(Checksum::SHA256),
            base.with_checksum_algorithm(Checksum::CRC64NVME),
        ] {
            let store = builder.build().expect("a client");
            integration::put_get_delete_list(&store).await;
            integration::multipart(&store, &store).await;
            integration::put_opts(&store, true).await;
        }
    });
}

#[test]
fn object_store_writes_once_streams_lists_and_removes_many() {
    let site = Site::plain();
    run(async {
        let store = Arc::new(bucket(&site, "rust").build().expect("a client"));
        write_once(&store).await;
        large(&store).await;
        many(&store).await;
        about(&store).await;
        signed(&store).await;
    });
}

/// Writers that race for the next entry of a log, as table formats do: each entry is written by one.
async fn write_once(store: &Arc<AmazonS3>) {
    for entry in 0..4 {
        let path = Path::from(format!("log/{entry:020}.json"));
        let writers = (0..8).map(|writer: u32| {
            let (store, path) = (Arc::clone(store), path.clone());
            async move {
                let payload = PutPayload::from(writer.to_string());
                match store.put_opts(&path, payload, PutOptions::from(PutMode::Create)).await {
                    Ok(_) => Some(writer),
                    Err(Error::AlreadyExists { .. }) => None,
                    Err(other) => panic!("{other}"),
                }
            }
        });
        let winners: Vec<u32> = futures::future::join_all(writers).await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "entry {entry} was written by {winners:?}");
        let got = store.get(&path).await.expect("it is there").bytes().await.expect("bytes");
        assert_eq!(got, winners[0].to_string());
    }
    // A counter that many raise, each from what it has read, loses none.
    let path = Path::from("counter");
    store.put(&path, "0".into()).await.expect("put");
    let raisers = (0..4).map(|_| {
        let (store, path) = (Arc::clone(store), path.clone());
        async move {
            let mut left = 5;
            while left > 0 {
                let got = store.get(&path).await.expect("it is there");
                let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
                let number: u32 = text(&got.bytes().await.expect("bytes")).parse().expect("a number");
                let next = PutPayload::from((number + 1).to_string());
                match store.put_opts(&path, next, PutOptions::from(PutMode::Update(version))).await {
                    Ok(_) => left -= 1,
                    Err(Error::Precondition { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    });
    futures::future::join_all(raisers).await;
    assert_eq!(store.get(&path).await.expect("it is there").bytes().await.expect("bytes"), "20");
}

async fn large(store: &AmazonS3) {
    let path = Path::from("large");
    let body = bytes((65 << 20) + 9);
    let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await.expect("begun"), 8 << 20);
    for piece in body.chunks(1_000_003) {
        upload.wait_for_capacity(4).await.expect("parts are taken");
        upload.write(piece);
    }
    upload.finish().await.expect("completed");
    let whole = store.get(&path).await.expect("it is there").bytes().await.expect("bytes");
    assert!(whole == body, "the large object came back as something else");
    let edge = 8 << 20;
    let ranges = [0..10, 65_530..65_542, edge - 3..edge + 3, body.len() as u64 - 4..body.len() as u64];
    for (range, got) in ranges.iter().zip(store.get_ranges(&path, &ranges).await.expect("ranges")) {
        let (start, end) = (usize::try_from(range.start).expect("size"), usize::try_from(range.end).expect("size"));
        assert_eq!(got, body[start..end], "{range:?}");
    }
    // An upload that is given up leaves nothing.
    let path = Path::from("given-up");
    let mut upload = store.put_multipart(&path).await.expect("begun");
    upload.put_part(vec![1; 6 << 20].into()).await.expect("a part");
    upload.abort().await.expect("aborted");
    assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })));
}

async fn many(store: &AmazonS3) {
    let mut paths: Vec<Path> = (0..1100).map(|number| Path::from(format!("many/{}/{number}", number % 5))).collect();
    let puts = futures::stream::iter(paths.clone()).map(|path| async move { store.put(&path, "x".into()).await });
    puts.buffer_unordered(16).try_collect::<Vec<_>>().await.expect("all are written");
    let prefix = Path::from("many");
    let list = || async { store.list(Some(&prefix)).map_ok(|about| about.location).try_collect::<Vec<_>>().await };
    paths.sort();
    assert_eq!(list().await.expect("a list"), paths);
    let level = store.list_with_delimiter(Some(&prefix)).await.expect("a list");
    assert_eq!((level.common_prefixes.len(), level.objects.len()), (5, 0));
    let removed = store.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
    assert_eq!(removed.try_collect::<Vec<_>>().await.expect("all are removed").len(), 1100);
    assert_eq!(list().await.expect("a list"), []);
}

async fn about(store: &AmazonS3) {
    let path = Path::from("about");
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/plain; charset=utf-8"),
        (Attribute::CacheControl, "max-age=60"),
        (Attribute::ContentLanguage, "de"),
        (Attribute::Metadata("who".into()), "object_store"),
    ]);
    store.put_opts(&path, "x".into(), attributes.clone().into()).await.expect("put");
    let got = store.get(&path).await.expect("it is there");
    for (name, value) in &attributes {
        assert_eq!(got.attributes.get(name), Some(value), "{name:?}");
    }
}

async fn signed(store: &AmazonS3) {
    let path = Path::from("signed/a b+c%ü");
    let minute = std::time::Duration::from_secs(60);
    let client = reqwest::Client::new();
    let url = store.signed_url(http::Method::PUT, &path, minute).await.expect("a URL");
    let put = client.put(url).body("by a URL").send().await.expect("an answer");
    assert_eq!(put.status(), 200, "{}", put.text().await.expect("text"));
    assert_eq!(store.get(&path).await.expect("it is there").bytes().await.expect("bytes"), "by a URL");
    let url = store.signed_url(http::Method::GET, &path, minute).await.expect("a URL");
    let got = client.get(url.clone()).send().await.expect("an answer").text().await.expect("text");
    assert_eq!(got, "by a URL");
    let refused = client.delete(url).send().await.expect("an answer");
    assert_eq!(refused.status(), 403);
}

/// A client of a new bucket.
fn bucket(site: &Site, name: &str) -> AmazonS3Builder {
    let stack = &site.stack;
    let made = stack.run(&["bucket", "create", name]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    AmazonS3Builder::new()
        .with_endpoint(stack.text("s3"))
        .with_allow_http(true)
        .with_region(stack.profile("region"))
        .with_bucket_name(name)
        .with_access_key_id(stack.s3("access_key"))
        .with_secret_access_key(stack.s3("secret_key"))
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        // What fails is seen, and not tried again until it works.
        .with_retry(RetryConfig { max_retries: 0, backoff: BackoffConfig::default(), ..RetryConfig::default() })
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work);
}
