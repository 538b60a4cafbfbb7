//! Uploads in parts. Each part is stored on its own; completing makes an object that refers to them, without a copy.

use futures::StreamExt as _;
use model::{BucketName, ProjectId};
use redb::ReadableTable;
use uuid::Uuid;

use crate::{
    Error,
    clock::milliseconds,
    digests::{self, Digested, Digests},
    external::{self, External},
    index::{self, BUCKETS, PARTS, UPLOADS, UploadKey, Writing},
    list, lock,
    notify::How,
    put::{Condition, Target},
    rows::{self, Algorithm, Data, ObjectRow, PartRow, Piece, PieceRow, Place, Sum, UploadRow},
    seal::{Body, Sealed},
    settings,
    store::Store,
    versions::Found,
};

/// A part that its sender wants in the object.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub number: u32,
    pub etag: Option<String>,
    pub sum: Option<Sum>,
}

/// Which uploads to list.
#[derive(Debug, Clone, Default)]
pub struct UploadQuery {
    pub prefix: String,
    /// Keys that go on beyond it are rolled up into one entry.
    pub delimiter: Option<String>,
    /// Only what comes after this key; if it is a rolled-up prefix itself, only what is not in it.
    pub key_marker: Option<String>,
    /// With a key, what comes after this upload of it too.
    pub id_marker: Option<Uuid>,
    pub limit: usize,
}

/// An entry of a list of uploads.
#[derive(Debug, Clone)]
pub enum UploadEntry {
    Upload(Box<Listed>),
    /// Keys rolled up. Where a page ends with it, it is the next page's key marker, without an id.
    Prefix(String),
}

/// An upload in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    pub key: String,
    pub id: Uuid,
    pub row: UploadRow,
}

impl Store {
    /// Begins an upload.
    pub(crate) async fn begin_upload(&self, target: Target, mut row: UploadRow) -> Result<Uuid, Error> {
        settings::check_tags(&row.tags, settings::MOST_OBJECT_TAGS)?;
        let id = Uuid::now_v7();
        let begin = move |writing: &mut Writing<'_>, _| {
            let Target { project, bucket, key } = &target;
            let settings = index::bucket(&writing.buckets, project, bucket)?;
            if settings.external.is_some() {
                external::expect_nothing_more(&row.tags, row.retention.is_some() || row.hold, &row.sealing)?;
            }
            row.begun = milliseconds(writing.now());
            // What the object may not have is refused before its data is sent; its own locks begin when it is complete.
            lock::of_new(&settings, row.retention, row.hold, row.begun)?;
            let bytes = rows::encode(&row);
            let key = (project.as_str(), bucket.as_str(), key.as_bytes(), id.as_u128());
            writing.uploads.insert(key, bytes.as_slice())?;
            Ok(id)
        };
        self.commit(Body::Empty, begin).await
    }

    /// Finds an upload, or says that there is none.
    pub(crate) async fn upload(&self, target: &Target, id: Uuid) -> Result<UploadRow, Error> {
        let Target { project, bucket, key } = target.clone();
        self.read(move |index| {
            index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)?;
            index::upload(&index.open_table(UPLOADS)?, &project, &bucket, &key, id)
        })
        .await
    }

    /// Adds a part, or replaces the one of that number.
    pub(crate) async fn put_part(
        &self,
        target: Target,
        id: Uuid,
        number: u32,
        (sealed, digested): (Sealed, Digested),
    ) -> Result<PartRow, Error> {
        let Sealed { length, key, body } = sealed;
        let put = move |writing: &mut Writing<'_>, place: Option<Place>| {
            writing.upload(&target.project, &target.bucket, &target.key, id)?;
            let piece = place.map(|place| Piece { length, key, place });
            piece.as_ref().map_or(Ok(()), |piece| writing.hold(piece))?;
            let etag = hex::encode(digested.md5);
            let row = PartRow { size: length, etag, modified: milliseconds(writing.now()), sum: digested.sum, piece };
            let bytes = rows::encode(&row);
            let old = writing
                .parts
                .insert((id.as_u128(), number), bytes.as_slice())?
                .map(|old| rows::decode::<PartRow>("a part", old.value()))
                .transpose()?;
            let (project, bucket, _) = target.name();
            writing.count_parts(project, bucket, 1, index::signed(row.size));
            if let Some(old) = old {
                writing.count_parts(project, bucket, -1, -index::signed(old.size));
                old.piece.map_or(Ok(()), |piece| writing.free(&piece))?;
            }
            Ok(row)
        };
        self.commit(body, put).await
    }

    /// Makes an object of parts. Done again with the same id while that object is there, it answers the same.
    pub(crate) async fn complete_upload(
        &self,
        target: Target,
        id: Uuid,
        wanted: Vec<Wanted>,
        check: Check,
        condition: Condition,
    ) -> Result<ObjectRow, Error> {
        if let Some(external) = self.external(&target.project, &target.bucket)? {
            return self.complete_there(&external, target, id, wanted, check, condition).await;
        }
        let teller = self.teller();
        let told = teller.watch();
        let complete = move |writing: &mut Writing<'_>, _| {
            let Target { project, bucket, key } = &target;
            let settings = index::bucket(&writing.buckets, project, bucket)?;
            let present = writing.present(target.name(), settings.versioning)?;
            let upload = match (writing.upload(project, bucket, key, id), &present.current) {
                (Err(Error::NoSuchUpload), Some(row)) if row.upload == Some(id) => return Ok(row.clone()),
                (found, _) => found?,
            };
            condition.check(present.current.as_ref())?;
            let stored = index::parts(&writing.parts, id, 0, usize::MAX)?;
            let chosen = choose(&stored, &wanted)?;
            let mut row = object_of(&chosen, &upload, id)?;
            check.check(&row)?;
            let now = milliseconds(writing.now());
            (row.retention, row.hold) = lock::of_new(&settings, upload.retention, upload.hold, now)?;
            present.check(now)?;

            // All is well: from here on it changes.
            let data = Uuid::now_v7();
            let mut start = 0;
            let mut kept = std::collections::HashSet::new();
            for (number, part) in &chosen {
                kept.insert(*number);
                let Some(piece) = part.piece.clone() else { continue };
                let bytes = rows::encode(&PieceRow { part: *number, piece, sum: part.sum.clone() });
                writing.pieces.insert((data.as_u128(), start), bytes.as_slice())?;
                start += part.size;
            }
            if start > 0 {
                row.data = Data::Many(data);
            }
            for (number, part) in writing.take_upload(project, bucket, key.as_bytes(), id)? {
                if let Some(piece) = part.piece.filter(|_| !kept.contains(&number)) {
                    writing.free(&piece)?;
                }
            }
            let row = writing.put(target.name(), row, present)?;
            teller.created(writing, &settings, target.name(), &row, How::Parts)?;
            Ok(row)
        };
        let row = self.commit(Body::Empty, complete).await?;
        self.told(&told);
        Ok(row)
    }

    /// Sends the parts that are here to where the bucket lives, as one object, and removes them here. The object there says
    /// by which upload it was made: so the answer can be given again.
    async fn complete_there(
        &self,
        external: &External,
        target: Target,
        id: Uuid,
        wanted: Vec<Wanted>,
        check: Check,
        condition: Condition,
    ) -> Result<ObjectRow, Error> {
        let _alone = external.completing(id).await;
        let row = match self.send_parts(external, &target, id, &wanted, &check, condition).await {
            // It may have been sent before, and then it is what the condition finds.
            Err(cause @ (Error::NoSuchUpload | Error::Precondition)) => {
                match self.find_there(external, &target, None).await {
                    Ok(Found::Object(row)) if row.upload == Some(id) => *row,
                    // Nothing, another one, or one of somebody else.
                    Ok(_) | Err(Error::Invalid(_)) => return Err(cause),
                    Err(other) => return Err(other),
                }
            }
            sent => sent?,
        };
        self.end_upload(target, id).await?;
        Ok(row)
    }

    async fn send_parts(
        &self,
        external: &External,
        target: &Target,
        id: Uuid,
        wanted: &[Wanted],
        check: &Check,
        condition: Condition,
    ) -> Result<ObjectRow, Error> {
        let (upload, stored) = self.parts(target, id, 0, MOST_PARTS).await?;
        let chosen = choose(&stored, wanted)?;
        let row = object_of(&chosen, &upload, id)?;
        check.check(&row)?;
        let pieces = chosen.iter().filter_map(|(_, part)| part.piece.clone()).collect();
        let bytes = self.pieces_source(&target.project, pieces).stream().await?.boxed();
        self.send(external, target, row, condition, bytes).await
    }

    /// Removes an upload here whose object is elsewhere; that another call did so before is no error.
    async fn end_upload(&self, target: Target, id: Uuid) -> Result<(), Error> {
        match self.abort_upload(target, id).await {
            Err(Error::NoSuchUpload) => Ok(()),
            ended => ended,
        }
    }

    /// Ends an upload without an object.
    pub(crate) async fn abort_upload(&self, target: Target, id: Uuid) -> Result<(), Error> {
        let abort = move |writing: &mut Writing<'_>, _| {
            let Target { project, bucket, key } = &target;
            index::bucket(&writing.buckets, project, bucket)?;
            writing.upload(project, bucket, key, id)?;
            for (_, part) in writing.take_upload(project, bucket, key.as_bytes(), id)? {
                part.piece.map_or(Ok(()), |piece| writing.free(&piece))?;
            }
            Ok(())
        };
        self.commit(Body::Empty, abort).await
    }

    /// An upload and its parts with numbers above `after`; one more than `most`, if there is one.
    pub(crate) async fn parts(
        &self,
        target: &Target,
        id: Uuid,
        after: u32,
        most: usize,
    ) -> Result<(UploadRow, Vec<(u32, PartRow)>), Error> {
        let Target { project, bucket, key } = target.clone();
        self.read(move |index| {
            index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)?;
            let upload = index::upload(&index.open_table(UPLOADS)?, &project, &bucket, &key, id)?;
            Ok((upload, index::parts(&index.open_table(PARTS)?, id, after, most + 1)?))
        })
        .await
    }

    /// Uploads of a bucket by key and then by when they were begun, and whether there are more.
    pub(crate) async fn uploads(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        query: UploadQuery,
    ) -> Result<(Vec<UploadEntry>, bool), Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        self.read(move |index| {
            index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)?;
            list_uploads(&index.open_table(UPLOADS)?, &project, &bucket, &query)
        })
        .await
    }
}

/// Lists uploads; whether there are more.
fn list_uploads(
    table: &impl ReadableTable<UploadKey, &'static [u8]>,
    project: &ProjectId,
    bucket: &BucketName,
    query: &UploadQuery,
) -> Result<(Vec<UploadEntry>, bool), Error> {
    let (prefix, delimiter) = (query.prefix.as_str(), query.delimiter.as_deref());
    let mut entries = Vec::new();
    let mut from = match (query.key_marker.as_deref(), query.id_marker) {
        // Ids of uploads are never the highest number.
        (Some(key), Some(id)) if key >= prefix && !list::is_rolled_up(key, prefix, delimiter) => {
            Some((key.as_bytes().to_vec(), id.as_u128().saturating_add(1)))
        }
        (after, _) => list::start(prefix, delimiter, after).map(|key| (key, 0)),
    };
    loop {
        let Some((begin, id)) = from.take() else { return Ok((entries, false)) };
        for found in table.range((project.as_str(), bucket.as_str(), begin.as_slice(), id)..)? {
            let (entry, row) = found?;
            let (of, within, key, id) = entry.value();
            if of != project.as_str() || within != bucket.as_str() || !key.starts_with(prefix.as_bytes()) {
                return Ok((entries, false));
            }
            let key = std::str::from_utf8(key).map_err(|_| Error::Damaged { what: "a key".to_owned() })?;
            if entries.len() >= query.limit {
                return Ok((entries, true));
            }
            if let Some(common) = list::rolled_up(key, prefix, delimiter) {
                from = list::successor(common).map(|key| (key, 0));
                entries.push(UploadEntry::Prefix(common.to_owned()));
                break;
            }
            let row = rows::decode("an upload", row.value())?;
            let upload = Listed { key: key.to_owned(), id: Uuid::from_u128(id), row };
            entries.push(UploadEntry::Upload(Box::new(upload)));
        }
        if from.is_none() {
            return Ok((entries, false));
        }
    }
}

/// What the one who completes an upload says that the object must be.
#[derive(Debug, Clone, Default)]
pub struct Check {
    pub size: Option<u64>,
    pub sum: Option<Sum>,
}

impl Check {
    fn check(&self, row: &ObjectRow) -> Result<(), Error> {
        if self.size.is_some_and(|size| size != row.size) {
            return Err(Error::Invalid("the object's size is not the one that was sent".to_owned()));
        }
        match (&self.sum, &row.sum) {
            (Some(sent), Some(sum)) if sent != sum => Err(Error::BadDigest { what: sent.algorithm.name() }),
            _ => Ok(()),
        }
    }
}

/// The stored parts that are wanted, each the very one.
fn choose<'p>(stored: &'p [(u32, PartRow)], wanted: &[Wanted]) -> Result<Vec<(u32, &'p PartRow)>, Error> {
    if wanted.is_empty() {
        return Err(Error::Invalid("an upload is completed with at least one part".to_owned()));
    }
    let mut chosen: Vec<(u32, &PartRow)> = Vec::with_capacity(wanted.len());
    for want in wanted {
        if chosen.last().is_some_and(|(before, _)| *before >= want.number) {
            return Err(Error::InvalidPartOrder);
        }
        let missing = || Error::InvalidPart { number: want.number };
        let at = stored.binary_search_by_key(&want.number, |(number, _)| *number).map_err(|_| missing())?;
        let part = &stored[at].1;
        let same_sum = match (&want.sum, &part.sum) {
            (Some(sent), Some(sum)) => sent == sum,
            _ => true,
        };
        if want.etag.as_ref().is_some_and(|etag| *etag != part.etag) || !same_sum {
            return Err(missing());
        }
        chosen.push((want.number, part));
    }
    for (number, part) in &chosen[..chosen.len() - 1] {
        if part.size < LEAST_PART {
            return Err(Error::PartTooSmall { number: *number, size: part.size, least: LEAST_PART });
        }
    }
    Ok(chosen)
}

/// The object that parts make, but for where its bytes are.
fn object_of(parts: &[(u32, &PartRow)], upload: &UploadRow, id: Uuid) -> Result<ObjectRow, Error> {
    let mut md5 = Digests::new(None);
    for (number, part) in parts {
        md5.update(&hex::decode(&part.etag).map_err(|_| Error::InvalidPart { number: *number })?);
    }
    let size = parts.iter().map(|(_, part)| part.size).sum();
    if size > MOST_OBJECT {
        return Err(Error::TooLarge { most: MOST_OBJECT });
    }
    Ok(ObjectRow {
        size,
        etag: format!("{}-{}", hex::encode(md5.finish().md5), parts.len()),
        about: upload.about.clone(),
        sum: upload.algorithm.and_then(|algorithm| sum_of(algorithm, upload.full_object, parts)),
        data: Data::Empty,
        parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        upload: Some(id),
        tags: upload.tags.clone(),
        sealing: upload.sealing.clone(),
        ..ObjectRow::default()
    })
}

/// The checksum of the object, if each part has one.
fn sum_of(algorithm: Algorithm, full_object: bool, parts: &[(u32, &PartRow)]) -> Option<Sum> {
    let of = |part: &'_ PartRow| part.sum.clone().filter(|sum| sum.algorithm == algorithm);
    let sums: Vec<Sum> = parts.iter().map(|(_, part)| of(part)).collect::<Option<_>>()?;
    if full_object {
        let parts: Vec<(&Sum, u64)> = sums.iter().zip(parts).map(|(sum, (_, part))| (sum, part.size)).collect();
        digests::joined(algorithm, &parts)
    } else {
        digests::composite(algorithm, &sums.iter().collect::<Vec<_>>())
    }
}

/// The most parts of an upload.
const MOST_PARTS: usize = 10_000;
/// Each part but the last has at least so many bytes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
const LEAST_PART: u64 = 5 << 20;
/// The most that an object may hold, by the same page.
const MOST_OBJECT: u64 = 50 << 40;
