//! Writes, copies and removes objects.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use model::{BucketName, ProjectId};

use crate::{
    Error,
    committer::nearly_full,
    digests::{Digested, Digests},
    index::{self, Writing},
    rows::{About, Algorithm, Data, ObjectRow, Piece, Place},
    seal::{Sealed, Sealer},
    store::{PURPOSE, Store, now},
};

/// Which object.
#[derive(Debug, Clone)]
pub struct Target {
    pub project: ProjectId,
    pub bucket: BucketName,
    pub key: String,
}

/// What must hold of the object that is there, for a write to happen.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    pub matches: Option<Tag>,
    pub none_matches: Option<Tag>,
}

/// An entity tag of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    Any,
    Is(String),
}

impl Condition {
    /// Whether a write may happen over `present`.
    pub fn check(&self, present: Option<&ObjectRow>) -> Result<(), Error> {
        let is = |tag: &Tag, row: &ObjectRow| match tag {
            Tag::Any => true,
            Tag::Is(etag) => *etag == row.etag,
        };
        match (&self.matches, present) {
            (Some(_), None) => return Err(Error::NoSuchKey),
            (Some(tag), Some(row)) if !is(tag, row) => return Err(Error::Precondition),
            _ => {}
        }
        match (&self.none_matches, present) {
            (Some(tag), Some(row)) if is(tag, row) => Err(Error::Precondition),
            _ => Ok(()),
        }
    }
}

/// How an object that was asked to be removed fared.
pub type Removed = Result<(), Error>;

impl Store {
    /// Reads a stream to its end, digests and seals it. Uses memory for two batches, however long the stream is.
    pub(crate) async fn seal<S>(
        &self,
        project: &ProjectId,
        stream: S,
        algorithm: Option<Algorithm>,
        most: u64,
    ) -> Result<(Sealed, Digested), Error>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send,
    {
        let project = project.clone();
        let mut work = Some(
            self.block(move |inner| {
                let key = inner.keys.data_key(&project, PURPOSE)?;
                Ok((Sealer::new(&inner.large, key)?, Digests::new(algorithm)))
            })
            .await?,
        );
        let mut running = None;
        let mut total = 0;
        let mut stream = std::pin::pin!(stream);
        loop {
            let mut batch = Vec::new();
            let mut ended = true;
            while let Some(bytes) = stream.next().await.transpose()? {
                total += bytes.len() as u64;
                if total > most {
                    return Err(Error::TooLarge { most });
                }
                batch.extend_from_slice(&bytes);
                if batch.len() >= BATCH {
                    ended = false;
                    break;
                }
            }
            // The batch before was sealed while this one came.
            if let Some(task) = running.take() {
                let task: tokio::task::JoinHandle<Result<(Sealer, Digests), Error>> = task;
                work = Some(task.await.map_err(|_| Error::NotWritten)??);
            }
            let Some((mut sealer, mut digests)) = work.take() else { return Err(Error::NotWritten) };
            if ended {
                return self
                    .block(move |_| {
                        digests.update(&batch);
                        sealer.push(&batch)?;
                        Ok((sealer.finish()?, digests.finish()))
                    })
                    .await;
            }
            let store = self.clone();
            running = Some(tokio::spawn(async move {
                store
                    .block(move |inner| {
                        if nearly_full(&inner.large, inner.kept_free) {
                            return Err(Error::Full);
                        }
                        digests.update(&batch);
                        sealer.push(&batch)?;
                        Ok((sealer, digests))
                    })
                    .await
            }));
        }
    }

    /// Makes sealed data an object, durably; what was there is replaced if `condition` allows it.
    pub(crate) async fn put(
        &self,
        target: Target,
        about: About,
        (sealed, digested): (Sealed, Digested),
        condition: Condition,
    ) -> Result<ObjectRow, Error> {
        let (length, key) = (sealed.length, sealed.key);
        let put = move |writing: &mut Writing<'_>, place: Option<Place>| {
            let Target { project, bucket, key: name } = &target;
            index::bucket(&writing.buckets, project, bucket)?;
            condition.check(index::object(&writing.objects, project, bucket, name)?.as_ref())?;
            let piece = place.map(|place| Piece { length, key, place });
            piece.as_ref().map_or(Ok(()), |piece| writing.hold(piece))?;
            let row = ObjectRow {
                size: length,
                etag: hex::encode(digested.md5),
                modified: now(),
                about,
                sum: digested.sum,
                data: piece.map_or(Data::Empty, Data::One),
                parts: 0,
                upload: None,
            };
            writing.put(project, bucket, name, &row)?;
            Ok(row)
        };
        self.0.committer.commit(sealed.body, put).await
    }

    /// Removes objects; those with an entity tag only if they have it. In one transaction.
    pub(crate) async fn remove(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        keys: Vec<(String, Condition)>,
    ) -> Result<Vec<Removed>, Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        let remove = move |writing: &mut Writing<'_>, _| {
            index::bucket(&writing.buckets, &project, &bucket)?;
            let mut results = Vec::with_capacity(keys.len());
            for (key, condition) in keys {
                let present = index::object(&writing.objects, &project, &bucket, &key)?;
                results.push(match condition.check(present.as_ref()) {
                    Ok(()) => writing.remove(&project, &bucket, &key).map(drop),
                    refused => refused,
                });
            }
            Ok(results)
        };
        self.0.committer.commit(crate::seal::Body::Empty, remove).await
    }
}

const BATCH: usize = 256 * 1024;
