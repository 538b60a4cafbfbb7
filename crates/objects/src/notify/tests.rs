//! Events by rules of the bucket, and events that are too old, by a clock that the test moves.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use audit::Audit;
use bytes::Bytes;
use keys::Keys;
use model::{BucketName, ProjectId};
use redb::ReadableTable as _;

use super::{
    Rule,
    config::Destination,
    event::{EventRow, What},
};
use crate::{
    NewBucket, Store,
    clock::Clock,
    index::EVENTS,
    lifecycle::{Expire, LifecycleRule},
    put::{Condition, Target, Writes},
    rows::{self, Kind},
    store::Limits,
};

const START: u64 = 1_700_000_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1_000_000;

async fn events(store: &Store) -> Vec<EventRow> {
    let read = store.read(|index| {
        let table = index.open_table(EVENTS)?;
        table.iter()?.map(|row| rows::decode("an event", row?.1.value())).collect()
    });
    read.await.unwrap()
}

#[tokio::test]
async fn expiry_is_told_and_what_waited_for_a_day_is_dropped_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (project, bucket): (ProjectId, BucketName) = ("a".repeat(32).parse().unwrap(), "data".parse().unwrap());
    let keys = Keys::open(&dir.path().join("keys")).unwrap();
    let account = "account".parse().unwrap();
    keys.create_account(&account).unwrap();
    keys.create_project(&project, &account).unwrap();
    let clock = Arc::new(AtomicU64::new(START));
    let limits = Limits { clock: Clock::at(Arc::clone(&clock)), ..Limits::default() };
    let store = Store::open_within(&dir.path().join("objects"), Arc::new(keys), limits).await.unwrap();
    let audit = Audit::new(db::Db::open(&dir.path().join("audit.db")).await.unwrap());
    store.create_bucket(&project, &bucket, NewBucket { versioning: true, ..NewBucket::default() }).await.unwrap();
    let rule = Rule {
        id: "expired".to_owned(),
        destination: Destination::Queue,
        webhook: "gone".to_owned(),
        events: vec!["s3:LifecycleExpiration:*".to_owned()],
        prefix: None,
        suffix: None,
    };
    store.set_document(&project, &bucket, Kind::Notification, Some(rows::encode(&vec![rule]))).await.unwrap();
    let rule = LifecycleRule {
        id: "one".to_owned(),
        enabled: true,
        expire: Some(Expire::Days(1)),
        ..LifecycleRule::default()
    };
    store.set_lifecycle(&project, &bucket, Some(vec![rule])).await.unwrap();
    let stream = futures::stream::iter([Ok(Bytes::from_static(b"old"))]);
    let sealed = store.seal(&project, stream, None, u64::MAX).await.unwrap();
    let target = Target { project: project.clone(), bucket: bucket.clone(), key: "key".to_owned() };
    store.put(target, Writes::default(), sealed, Condition::default()).await.unwrap();
    // Not by a rule.
    assert_eq!(events(&store).await, []);

    clock.store(START + 3 * DAY, Ordering::SeqCst);
    store.expire_all(&audit).await.unwrap();
    let told = events(&store).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].what, told[0].key.as_str()), (What::ExpiredMarked, "key"));
    assert_eq!((told[0].identity.as_str(), told[0].from), ("system", None));
    assert!(told[0].version.is_some());

    // No webhook is configured that would take it.
    clock.store(START + 4 * DAY - 1_000_000, Ordering::SeqCst);
    store.drop_all_unclaimed(&audit).await.unwrap();
    assert_eq!(events(&store).await, told);
    clock.store(START + 4 * DAY + 1_000_000, Ordering::SeqCst);
    store.drop_all_unclaimed(&audit).await.unwrap();
    assert_eq!(events(&store).await, []);
    let entries = audit.list(&audit::Query { limit: 9, ..audit::Query::default() }).await.unwrap();
    let found = entries.iter().find(|entry| entry.action == "s3:NotificationDropped").unwrap();
    assert_eq!((found.resource.as_str(), found.result.as_str()), ("webhook/gone", "dropped"));
    assert_eq!(found.detail, r#"{"events":1}"#);
}
