//! Objects that the service itself writes into a project's bucket, and reads there, past the gate: the caller leaves the
//! audit entry.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use model::{BucketName, ProjectId};

use crate::{
    Error,
    put::{Condition, Target, Writes},
    read::Reading,
    store::Store,
};

impl Store {
    /// Writes an object of `size` bytes. A body of another length is an error: then nothing is written.
    pub async fn write_own(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        size: u64,
        body: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(), Error> {
        let body = body.map(|piece| piece.map_err(|cause| Error::Body(cause.into())));
        let (sealed, digested) = self.seal(project, body, None, size).await?;
        if sealed.length != size {
            let cause = format!("{} bytes of {size} came", sealed.length);
            return Err(Error::Body(cause.into()));
        }
        let target = Target { project: project.clone(), bucket: bucket.clone(), key: key.to_owned() };
        self.put(target, Writes::default(), (sealed, digested), Condition::default()).await.map(drop)
    }

    /// The bytes of an object as a stream of pieces, and how many they are; `None` where there is no such object or
    /// bucket.
    pub async fn bytes(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
    ) -> Result<Option<(u64, Reading)>, Error> {
        let target = Target { project: project.clone(), bucket: bucket.clone(), key: key.to_owned() };
        let opened = match self.open_object(&target, None).await {
            Ok(opened) => opened,
            Err(Error::NoSuchBucket { .. } | Error::NoSuchKey | Error::IsMarker { .. }) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let size = opened.row.size;
        Ok(Some((size, self.source(opened, 0..size).await?.stream().await?)))
    }

    /// The same, whole, of an object of at most `most` bytes.
    pub async fn whole(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self.bytes(project, bucket, key).await? {
            None => Ok(None),
            Some((size, _)) if size > most => Err(Error::TooLarge { most }),
            Some((_, reading)) => {
                let pieces: Vec<Bytes> = reading.try_collect().await?;
                Ok(Some(pieces.concat()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::{
        NewBucket,
        crash::{keys, project},
    };

    #[tokio::test]
    async fn an_object_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("objects"), keys(dir.path())).await.expect("a store");
        let bucket = BucketName::logs();
        let pieces = || stream::iter(["one\n", "two\n"]).map(|piece| Ok(Bytes::from(piece)));
        let nowhere = store.write_own(&project(), &bucket, "log", 8, pieces()).await;
        assert!(matches!(nowhere, Err(Error::NoSuchBucket { .. })), "{nowhere:?}");
        store.create_bucket(&project(), &bucket, NewBucket::default()).await.expect("a bucket");
        for size in [7, 9] {
            store.write_own(&project(), &bucket, "log", size, pieces()).await.expect_err("another length");
        }
        let broken = stream::iter([Ok(Bytes::from("one\ntwo\n")), Err(io::ErrorKind::UnexpectedEof.into())]);
        store.write_own(&project(), &bucket, "log", 8, broken).await.expect_err("it broke");
        assert_eq!(store.head(&project(), &bucket, "log").await.expect("asked"), None);
        store.write_own(&project(), &bucket, "log", 8, pieces()).await.expect("written");
        let found = store.head(&project(), &bucket, "log").await.expect("asked").expect("there");
        assert_eq!(found.size, 8);
        let whole = store.whole(&project(), &bucket, "log", 8).await.expect("read");
        assert_eq!(whole.as_deref(), Some(&b"one\ntwo\n"[..]));
        let refused = store.whole(&project(), &bucket, "log", 7).await;
        assert!(matches!(refused, Err(Error::TooLarge { most: 7 })), "{refused:?}");
        assert_eq!(store.whole(&project(), &bucket, "none", 8).await.expect("asked"), None);
        let none: BucketName = "none".parse().expect("a name");
        assert_eq!(store.whole(&project(), &none, "log", 8).await.expect("asked"), None);
    }
}
