//! Opens an object for reading: its row and its bytes as they were at one moment, whatever is written meanwhile.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use crypto::{Key, envelope};
use futures::TryStreamExt as _;
use model::{BucketName, ProjectId};
use redb::ReadTransaction;

use crate::{
    Error,
    external::External,
    garbage::Pin,
    index::{self, BUCKETS, PIECES},
    put::Target,
    read::{Ground, Source, Span},
    rows::{Data, ObjectRow, Sealing, Sum},
    store::{Inner, PURPOSE, Store},
    versions::{self, VersionId},
};

/// An object at one moment.
pub struct Opened {
    /// Its row.
    pub row: ObjectRow,
    /// The customer's key, if its data keys are wrapped by one.
    pub outer: Option<Key>,
    /// Where it is, if it is not here.
    pub there: Option<(Arc<External>, Target)>,
    project: ProjectId,
    index: ReadTransaction,
    pin: Pin,
}

impl Store {
    /// An object of at most `most` bytes, whole; `None` where there is none of that key, it has more, or only its writer has the
    /// key of it.
    pub async fn read_small(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let target = Target { project: project.clone(), bucket: bucket.clone(), key: key.to_owned() };
        let opened = match self.open_object(&target, None).await {
            Err(Error::NoSuchKey | Error::IsMarker { .. } | Error::NoSuchBucket { .. }) => return Ok(None),
            opened => opened?,
        };
        let size = opened.row.size;
        if size > most || matches!(opened.row.sealing, Sealing::Customer { .. }) {
            return Ok(None);
        }
        let parts: Vec<Bytes> = self.source(opened, 0..size).await?.stream().await?.try_collect().await?;
        Ok(Some(parts.concat()))
    }

    /// Opens the current version of an object, or one that is named, or says why it cannot be.
    pub(crate) async fn open_object(&self, target: &Target, version: Option<VersionId>) -> Result<Opened, Error> {
        let external = self.external(&target.project, &target.bucket)?;
        let there = match &external {
            Some(external) => Some(self.find_there(external, target, version).await?.expect_object(version.is_some())?),
            None => None,
        };
        let target = target.clone();
        self.glance(move |inner| {
            // The pin comes first, so that what the index names then cannot be gone.
            let pin = inner.garbage.pin();
            let index = inner.index.read()?;
            index::bucket(&index.open_table(BUCKETS)?, &target.project, &target.bucket)?;
            let row = match there {
                Some(row) => row,
                None => versions::find(&index, target.name(), version)?.expect_object(version.is_some())?,
            };
            let project = target.project.clone();
            Ok(Opened { row, outer: None, there: external.map(|external| (external, target)), project, index, pin })
        })
        .await
    }

    /// Which bytes of an object came as part `number`, counted from 1.
    pub(crate) async fn part_of(&self, opened: Opened, number: u32) -> Result<(Opened, Option<Range<u64>>), Error> {
        if opened.row.parts == 0 {
            let range = (number == 1).then_some(0..opened.row.size);
            return Ok((opened, range));
        }
        self.block(move |_| {
            let Data::Many(id) = opened.row.data else {
                // Of parts, and without a byte: it has one part, which is empty.
                return Ok((opened, (number == 1).then_some(0..0)));
            };
            let pieces = index::pieces(&opened.index.open_table(PIECES)?, id.as_u128(), 0, u64::MAX)?;
            // S3 counts the parts that there are, whatever their numbers were.
            let range = (number as usize)
                .checked_sub(1)
                .and_then(|at| pieces.get(at))
                .map(|(start, row)| *start..*start + row.piece.length);
            Ok((opened, range))
        })
        .await
    }

    /// The parts of an object that was uploaded in parts, with numbers as they were sent, from the one behind `after` on;
    /// one more than `most`, if there is one. Empty for an object that came whole.
    pub(crate) async fn parts_of(
        &self,
        opened: Opened,
        after: u32,
        most: usize,
    ) -> Result<(Opened, Vec<(u32, u64, Option<Sum>)>), Error> {
        self.block(move |_| {
            let Data::Many(id) = opened.row.data else { return Ok((opened, Vec::new())) };
            let pieces = index::pieces(&opened.index.open_table(PIECES)?, id.as_u128(), 0, u64::MAX)?;
            let parts = pieces.into_iter().map(|(_, row)| (row.part, row.piece.length, row.sum));
            Ok((opened, parts.filter(|(number, ..)| *number > after).take(most + 1).collect()))
        })
        .await
    }

    /// The bytes of a range, which must lie in the object.
    pub(crate) async fn source(&self, opened: Opened, range: Range<u64>) -> Result<Source, Error> {
        if let Some((external, target)) = &opened.there {
            return self.source_there(external, target, &opened.row, range).await;
        }
        let many = matches!(opened.row.data, Data::Many(_));
        let work = move |inner: &Inner| {
            let mut spans = match opened.row.data {
                Data::Empty => Vec::new(),
                Data::One(piece) => vec![Span { piece, bytes: range.clone() }],
                Data::Many(id) => {
                    let pieces = opened.index.open_table(PIECES)?;
                    index::pieces(&pieces, id.as_u128(), range.start, range.end)?
                        .into_iter()
                        .map(|(start, row)| {
                            let from = range.start.max(start) - start;
                            let to = range.end.min(start + row.piece.length).saturating_sub(start).max(from);
                            Span { piece: row.piece, bytes: from..to }
                        })
                        .collect()
                }
            };
            if matches!(opened.row.sealing, Sealing::Customer { .. }) && opened.outer.is_none() {
                return Err(Error::Invalid("the object is sealed with a key that its customer keeps".to_owned()));
            }
            if let Some(outer) = &opened.outer {
                for span in &mut spans {
                    span.piece.key = envelope::open(outer, PURPOSE.as_bytes(), &span.piece.key)?.to_vec();
                }
            }
            let found: u64 = spans.iter().map(|span| span.bytes.end - span.bytes.start).sum();
            if found != range.end - range.start {
                return Err(Error::Damaged { what: "an object's pieces".to_owned() });
            }
            let ground = Ground {
                project: opened.project,
                keys: inner.keys.clone(),
                shelf: Arc::clone(&inner.shelf),
                _pin: opened.pin,
            };
            Ok(Source::new(spans, ground))
        };
        // Of very many parts it is not short.
        if many { self.block(work).await } else { self.glance(work).await }
    }
}
