//! Operations of the store on buckets that live elsewhere.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use crypto::segment::{Cipher, SEGMENT, TAG};
use futures::{StreamExt as _, stream::BoxStream};
use model::{BucketName, ProjectId};
use uuid::Uuid;

use super::{Bytewise, External, ExternalConfig, Info, Listed};
use crate::{
    Error,
    digests::Digested,
    index::{self, BUCKETS},
    list::{Entry, Query},
    put::{Condition, Removal, Target, Writes},
    read::{Ground, Source, Span},
    rows::{Data, ObjectRow, Piece, Place, Sealing, Tags},
    seal::{Body, Sealed},
    store::{PURPOSE, Store},
    versions::{Found, Removed, VersionId},
};

/// What remains of the data here until all of it has been sent.
pub type Kept = Option<crate::seal::NewFile>;

impl Store {
    /// Lets buckets live in S3 services elsewhere. Once, before the first call.
    pub fn attach(&self, externals: Vec<ExternalConfig>) -> Result<(), Error> {
        let externals = externals.into_iter().map(|config| External::new(config).map(Arc::new));
        let externals = externals.collect::<Result<Vec<_>, Error>>()?;
        self.0.externals.set(externals).map_err(|_| Error::Invalid("external stores are attached once".to_owned()))
    }

    /// Where a project's new buckets live, if not here.
    pub(crate) async fn takes(&self, project: &ProjectId) -> Result<Option<Arc<External>>, Error> {
        let Some(externals) = self.0.externals.get().filter(|externals| !externals.is_empty()) else { return Ok(None) };
        let home = self.home(project).await?;
        Ok(externals.iter().find(|external| external.takes(project, home.as_ref())).cloned())
    }

    /// Where the objects of a bucket are, if not here.
    pub(crate) fn external(&self, project: &ProjectId, bucket: &BucketName) -> Result<Option<Arc<External>>, Error> {
        if !self.0.index.has_external() {
            return Ok(None);
        }
        let index = self.0.index.read()?;
        let row = match index::bucket(&index.open_table(BUCKETS)?, project, bucket) {
            // Whoever asked finds out.
            Err(Error::NoSuchBucket { .. }) => return Ok(None),
            row => row?,
        };
        let Some(name) = row.external else { return Ok(None) };
        self.external_named(&name).map(Some)
    }

    /// The service elsewhere of this name.
    pub(crate) fn external_named(&self, name: &str) -> Result<Arc<External>, Error> {
        let found = self.0.externals.get().into_iter().flatten().find(|external| external.name() == name);
        let missing = || Error::External(format!("the configuration names no external_s3 '{name}' any more"));
        found.map(Arc::clone).ok_or_else(missing)
    }

    pub(crate) async fn put_there(
        &self,
        external: &External,
        target: Target,
        writes: Writes,
        (sealed, digested): (Sealed, Digested),
        condition: Condition,
    ) -> Result<ObjectRow, Error> {
        let Writes { about, tags, retention, hold, sealing, how: _ } = writes;
        expect_nothing_more(&tags, retention.is_some() || hold == Some(true), &sealing)?;
        let row = ObjectRow {
            size: sealed.length,
            etag: hex::encode(digested.md5),
            about,
            sum: digested.sum,
            ..ObjectRow::default()
        };
        let (bytes, kept) = self.opened(&target.project, sealed).await?;
        let row = self.send(external, &target, row, condition, bytes).await?;
        drop(kept);
        Ok(row)
    }

    /// Sends an object that is whole and checked.
    pub(crate) async fn send(
        &self,
        external: &External,
        target: &Target,
        row: ObjectRow,
        condition: Condition,
        bytes: BoxStream<'static, Result<Bytes, Error>>,
    ) -> Result<ObjectRow, Error> {
        if condition.matches.is_some() || condition.none_matches.is_some() {
            // The service there is asked as well; this one is for those that do not know conditions.
            let present = external.head(self.1.who, target).await?.map(row_of);
            condition.check(present.as_ref())?;
        }
        let sent = external.put(self.1.who, &self.0.keys, target, &row, &condition, bytes).await?;
        let (etag, modified) = sent;
        Ok(ObjectRow { etag, modified, null: true, ..row })
    }

    pub(crate) async fn find_there(
        &self,
        external: &External,
        target: &Target,
        version: Option<VersionId>,
    ) -> Result<Found, Error> {
        match version {
            Some(VersionId::Number(_)) => Ok(Found::None),
            None | Some(VersionId::Null) => Ok(match external.head(self.1.who, target).await? {
                Some(info) => Found::Object(Box::new(row_of(info))),
                None => Found::None,
            }),
        }
    }

    pub(crate) async fn source_there(
        &self,
        external: &External,
        target: &Target,
        row: &ObjectRow,
        range: Range<u64>,
    ) -> Result<Source, Error> {
        let wanted = match range.end.checked_sub(1) {
            Some(last) if range.start <= last && range != (0..row.size) => Bytewise::Range(range.start..=last),
            _ => Bytewise::All,
        };
        let reading = external.get(self.1.who, &self.0.keys, target, wanted).await?;
        if reading.info.etag != row.etag || reading.range != range {
            return Err(Error::External("the object was replaced while it was opened".to_owned()));
        }
        Ok(Source::of_elsewhere(reading.bytes, self.ground(&target.project)))
    }

    pub(crate) async fn entries_there(
        &self,
        external: &External,
        project: &ProjectId,
        bucket: &BucketName,
        query: &Query,
    ) -> Result<(Vec<Entry>, bool), Error> {
        let (listed, more) = external.list(self.1.who, project, bucket, query).await?;
        let entries = listed.into_iter().map(|entry| match entry {
            Listed::Object(key, info) => Entry::Object(key, Box::new(row_of(*info))),
            Listed::Prefix(prefix) => Entry::Prefix(prefix),
        });
        Ok((entries.collect(), more))
    }

    pub(crate) async fn remove_there(
        &self,
        external: &External,
        project: &ProjectId,
        bucket: &BucketName,
        removals: Vec<Removal>,
    ) -> Result<Vec<Result<Removed, Error>>, Error> {
        let results = futures::stream::iter(removals).map(|removal| async move {
            let target = Target { project: project.clone(), bucket: bucket.clone(), key: removal.key };
            if let Some(VersionId::Number(_)) = removal.version {
                return Ok(Removed { version: removal.version, ..Removed::default() });
            }
            if removal.condition.matches.is_some() || removal.condition.none_matches.is_some() {
                let present = external.head(self.1.who, &target).await?.map(row_of);
                removal.condition.check(present.as_ref())?;
            }
            external.delete(self.1.who, &target).await?;
            Ok(Removed { version: removal.version, changed: true, ..Removed::default() })
        });
        Ok(results.buffered(REMOVED_AT_ONCE).collect().await)
    }

    /// The bytes of data that was sealed and has no row, and the file that they are in.
    async fn opened(
        &self,
        project: &ProjectId,
        sealed: Sealed,
    ) -> Result<(BoxStream<'static, Result<Bytes, Error>>, Kept), Error> {
        let Sealed { length, key, body } = sealed;
        match body {
            Body::Empty => Ok((futures::stream::empty().boxed(), None)),
            Body::Small(packed) => {
                let cipher = Cipher::new(&self.0.keys.unwrap(project, PURPOSE, &key)?)?;
                let mut bytes = packed.bytes;
                let count = bytes.len().div_ceil(SEGMENT + TAG);
                let mut plain = Vec::with_capacity(bytes.len());
                for (number, segment) in bytes.chunks_mut(SEGMENT + TAG).enumerate() {
                    plain.extend_from_slice(cipher.open(number as u64, number + 1 == count, segment)?);
                }
                Ok((futures::stream::iter([Ok(Bytes::from(plain))]).boxed(), None))
            }
            Body::Large(file) => {
                let piece = Piece { length, key, place: Place::Large(file.id) };
                let source = self.pieces_source(project, vec![piece]);
                Ok((source.stream().await?.boxed(), Some(file)))
            }
        }
    }

    /// The bytes of pieces, one after another.
    pub(crate) fn pieces_source(&self, project: &ProjectId, pieces: Vec<Piece>) -> Source {
        let spans = pieces.into_iter().map(|piece| {
            let bytes = 0..piece.length;
            Span { piece, bytes }
        });
        Source::new(spans.collect(), self.ground(project))
    }

    fn ground(&self, project: &ProjectId) -> Ground {
        Ground {
            project: project.clone(),
            keys: Arc::clone(&self.0.keys),
            shelf: Arc::clone(&self.0.shelf),
            _pin: self.0.garbage.pin(),
        }
    }
}

/// Refuses what objects elsewhere cannot have.
pub fn expect_nothing_more(tags: &Tags, is_locked: bool, sealing: &Sealing) -> Result<(), Error> {
    if !tags.is_empty() || is_locked {
        return Err(Error::NotThere("tags and locks of objects"));
    }
    if !sealing.is_project() {
        return Err(Error::NotThere("other keys than the project's"));
    }
    Ok(())
}

/// What is known of an object elsewhere as a row of one here.
fn row_of(info: Info) -> ObjectRow {
    ObjectRow {
        size: info.size,
        etag: info.etag,
        modified: info.modified,
        about: info.about,
        upload: info.upload,
        data: if info.size == 0 { Data::Empty } else { Data::Many(Uuid::nil()) },
        null: true,
        ..ObjectRow::default()
    }
}

const REMOVED_AT_ONCE: usize = 16;
