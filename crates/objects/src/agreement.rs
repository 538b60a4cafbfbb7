//! Whether the index agrees with itself: that each row can be read, that pieces make up their objects, that versions
//! stand in their order, and that what is counted and named in other tables is what the rows say. For a check; reads
//! no data.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};
use uuid::Uuid;

use crate::{
    Error,
    check::{self, Owner, Pace, Report, Wrong},
    index::{self, BUCKETS, DOCUMENTS, LARGE, NULLS, OBJECTS, PARTS, PIECES, SEGMENTS, UPLOADS, USAGE, VERSIONS},
    rows::{self, BucketRow, Data, Kind, ObjectRow, Piece, Place, UploadRow, VersionRow},
    seal,
    usage::{Counts, Usage},
    versions::{self, Name},
};

/// A look at one view of the index.
pub struct Agreement<'l> {
    index: &'l ReadTransaction,
    report: &'l mut Report,
    pace: &'l mut Pace,
    /// By the rows: bytes and pieces of segment files, large files, rows of pieces and of parts, versions `null`.
    used: BTreeMap<u64, (u64, u64)>,
    large: u64,
    pieces: u64,
    parts: u64,
    nulls: u64,
    counts: Counts,
    /// Whether a row could not be read, so that these sums say nothing.
    unreadable: bool,
    /// The bucket of the row before.
    bucket: Option<(String, String)>,
    /// Buckets of rows that are not there.
    missing: BTreeSet<(String, String)>,
}

impl<'l> Agreement<'l> {
    /// Of what `index` shows; tells `report`.
    pub fn new(index: &'l ReadTransaction, report: &'l mut Report, pace: &'l mut Pace) -> Agreement<'l> {
        Agreement {
            index,
            report,
            pace,
            used: BTreeMap::new(),
            large: 0,
            pieces: 0,
            parts: 0,
            nulls: 0,
            counts: Counts::new(),
            unreadable: false,
            bucket: None,
            missing: BTreeSet::new(),
        }
    }

    /// Looks at all rows. An error is one of the index's file.
    pub fn look(mut self) -> Result<(), Error> {
        self.buckets()?;
        self.objects()?;
        self.versions()?;
        self.uploads()?;
        if !self.unreadable {
            self.places()?;
            self.counts()?;
        }
        Ok(())
    }

    fn buckets(&mut self) -> Result<(), Error> {
        let documents = self.index.open_table(DOCUMENTS)?;
        for entry in self.index.open_table(BUCKETS)?.iter()? {
            let (key, row) = entry?;
            let (project, bucket) = key.value();
            let Ok(row) = rows::decode::<BucketRow>("a bucket", row.value()) else {
                self.report.inconsistency(format!("the row of the bucket {bucket} of {project} cannot be read"));
                continue;
            };
            for kind in Kind::ALL {
                if documents.get((project, bucket, kind.name()))?.is_some() != row.documents.contains(&kind) {
                    let kind = kind.name();
                    let what = format!("the bucket {bucket} of {project} and its document `{kind}` disagree");
                    self.report.inconsistency(what);
                }
            }
        }
        Ok(())
    }

    fn objects(&mut self) -> Result<(), Error> {
        for entry in self.index.open_table(OBJECTS)?.iter()? {
            let (key, row) = entry?;
            let name = key.value();
            self.in_bucket(name)?;
            match rows::decode::<ObjectRow>("an object", row.value()) {
                Ok(row) => {
                    self.add(name, Usage { objects: 1, bytes: row.size, ..Usage::default() });
                    self.object(name, &row)?;
                }
                Err(_) => self.unreadable(owner(name)),
            }
            self.pace.rest()?;
        }
        Ok(())
    }

    fn versions(&mut self) -> Result<(), Error> {
        let (objects, nulls) = (self.index.open_table(OBJECTS)?, self.index.open_table(NULLS)?);
        let mut before: Option<(String, String, Vec<u8>)> = None;
        for entry in self.index.open_table(VERSIONS)?.iter()? {
            let (key, row) = entry?;
            let (project, bucket, key, down) = key.value();
            let name = (project, bucket, key);
            self.in_bucket(name)?;
            let is_newest =
                before.as_ref().is_none_or(|(of, within, at)| (of.as_str(), within.as_str(), at.as_slice()) != name);
            before = Some((project.to_owned(), bucket.to_owned(), key.to_vec()));
            let Ok(row) = versions::decode(row.value()) else {
                self.unreadable(owner(name));
                continue;
            };
            self.add(name, Usage { older: 1, older_bytes: row.size(), ..Usage::default() });
            if row.version() != u64::MAX - down {
                self.disorder(name, "one has another number than its place says");
            }
            if is_newest {
                let current = objects.get(name)?;
                let current = current.and_then(|row| rows::decode::<ObjectRow>("an object", row.value()).ok());
                match (&current, &row) {
                    (Some(current), _) if current.version <= row.version() => {
                        self.disorder(name, "the current one is not the newest");
                    }
                    (None, VersionRow::Object(_)) if objects.get(name)?.is_none() => {
                        self.disorder(name, "the newest is an object, and not the current one");
                    }
                    _ => {}
                }
                if current.is_some_and(|current| current.null) && nulls.get(name)?.is_some() {
                    self.disorder(name, "there are two that are `null`");
                }
            }
            if row.is_null() {
                self.nulls += 1;
                if nulls.get(name)?.map(|number| number.value()) != Some(row.version()) {
                    self.disorder(name, "one that is `null` is not found as such");
                }
            }
            if let VersionRow::Object(row) = &row {
                self.object(name, row)?;
            }
            self.pace.rest()?;
        }
        if !self.unreadable && self.nulls != nulls.len()? {
            self.report.inconsistency("versions `null` are named that are not there".to_owned());
        }
        Ok(())
    }

    fn uploads(&mut self) -> Result<(), Error> {
        let table = self.index.open_table(PARTS)?;
        for entry in self.index.open_table(UPLOADS)?.iter()? {
            let (key, upload) = entry?;
            let (project, bucket, key, id) = key.value();
            let name = (project, bucket, key);
            self.in_bucket(name)?;
            let id = Uuid::from_u128(id);
            let upload = rows::decode::<UploadRow>("an upload", upload.value());
            let parts = match upload.and_then(|_| index::parts(&table, id, 0, usize::MAX)) {
                Err(Error::Damaged { .. }) => {
                    self.unreadable(Owner { part: Some((id, 0)), ..owner(name) });
                    continue;
                }
                result => result?,
            };
            for (number, part) in parts {
                self.parts += 1;
                self.add(name, Usage { parts: 1, part_bytes: part.size, ..Usage::default() });
                if part.piece.as_ref().map_or(0, |piece| piece.length) != part.size {
                    let owner = Owner { part: Some((id, number)), ..owner(name) };
                    self.report.damage(owner.damage(Wrong::Row, (0, part.size), INDEX, false));
                }
                if let Some(piece) = &part.piece {
                    self.hold(name, piece)?;
                }
            }
            self.pace.rest()?;
        }
        Ok(())
    }

    /// Looks whether pieces make up their object, and takes note of their places.
    fn object(&mut self, name: Name<'_>, row: &ObjectRow) -> Result<(), Error> {
        let owner = Owner { version: Some(row.id()), ..owner(name) };
        let pieces = match check::pieces(self.index, row) {
            Err(Error::Damaged { .. }) => {
                self.unreadable(owner);
                return Ok(());
            }
            result => result?,
        };
        if let Data::Many(_) = row.data {
            self.pieces += pieces.len() as u64;
        }
        let mut end = 0;
        for (start, piece) in &pieces {
            if *start != end {
                let (from, to) = (end.min(*start), end.max(*start));
                self.report.damage(owner.damage(Wrong::Row, (from, to), INDEX, false));
            }
            end = start.saturating_add(piece.length);
            self.hold(name, piece)?;
        }
        if end != row.size {
            self.report.damage(owner.damage(Wrong::Row, (end.min(row.size), end.max(row.size)), INDEX, false));
        }
        Ok(())
    }

    fn hold(&mut self, (project, bucket, key): Name<'_>, piece: &Piece) -> Result<(), Error> {
        match piece.place {
            Place::Packed { segment, .. } => {
                let used = self.used.entry(segment).or_default();
                *used = (used.0 + seal::sealed_length(piece.length), used.1 + 1);
            }
            Place::Large(id) => {
                self.large += 1;
                // What is not in it goes when the store is opened next.
                if self.index.open_table(LARGE)?.get(id.as_u128())?.is_none() {
                    let (key, id) = (String::from_utf8_lossy(key), id.as_simple());
                    let what = format!("the file large/{id} of {key} in the bucket {bucket} of {project} is not kept");
                    self.report.inconsistency(what);
                }
            }
        }
        Ok(())
    }

    /// Whether the tables of places are what the rows say.
    fn places(&mut self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        let stated = self.index.open_table(SEGMENTS)?;
        for entry in stated.iter()? {
            let (id, stated) = entry?;
            let (id, stated) = (id.value(), stated.value());
            let found = self.used.remove(&id).unwrap_or_default();
            if found != stated {
                wrong.push(format!(
                    "the file packed/{id:016x} has {} bytes in {} pieces of use, and not {} in {}",
                    found.0, found.1, stated.0, stated.1
                ));
            }
        }
        wrong.extend(self.used.keys().map(|id| format!("the file packed/{id:016x} is in use and not kept")));
        let named = self.index.open_table(LARGE)?.len()?;
        if named > self.large {
            wrong.push(format!("{} large files are kept that no row names", named - self.large));
        }
        let (pieces, parts) = (self.index.open_table(PIECES)?.len()?, self.index.open_table(PARTS)?.len()?);
        if pieces != self.pieces {
            wrong.push(format!("there are {pieces} rows of pieces, and objects have {}", self.pieces));
        }
        if parts != self.parts {
            wrong.push(format!("there are {parts} rows of parts, and uploads have {}", self.parts));
        }
        wrong.into_iter().for_each(|what| self.report.inconsistency(what));
        Ok(())
    }

    /// Whether buckets hold what is counted for them.
    fn counts(&mut self) -> Result<(), Error> {
        let mut counts = std::mem::take(&mut self.counts);
        for entry in self.index.open_table(USAGE)?.iter()? {
            let (key, row) = entry?;
            let (project, bucket) = key.value();
            let counted = counts.remove(&(project.to_owned(), bucket.to_owned())).unwrap_or_default();
            if Usage::of(row.value()) != counted {
                self.report
                    .inconsistency(format!("the counts of the bucket {bucket} of {project} are not those of its rows"));
            }
        }
        for ((project, bucket), counted) in counts {
            if counted != Usage::default() {
                self.report.inconsistency(format!("there are no counts of the bucket {bucket} of {project}"));
            }
        }
        Ok(())
    }

    /// Looks whether the bucket of a row is there, once for the rows of a bucket.
    fn in_bucket(&mut self, (project, bucket, _): Name<'_>) -> Result<(), Error> {
        if self.bucket.as_ref().is_some_and(|(of, name)| of == project && name == bucket) {
            return Ok(());
        }
        self.bucket = Some((project.to_owned(), bucket.to_owned()));
        let is_there = self.index.open_table(BUCKETS)?.get((project, bucket))?.is_some();
        if !is_there && self.missing.insert((project.to_owned(), bucket.to_owned())) {
            self.report.inconsistency(format!("there are objects of the bucket {bucket} of {project}, and no bucket"));
        }
        Ok(())
    }

    fn add(&mut self, (project, bucket, _): Name<'_>, more: Usage) {
        *self.counts.entry((project.to_owned(), bucket.to_owned())).or_default() += more;
    }

    fn unreadable(&mut self, owner: Owner) {
        self.unreadable = true;
        self.report.damage(owner.damage(Wrong::Row, (0, 0), INDEX, false));
    }

    fn disorder(&mut self, (project, bucket, key): Name<'_>, what: &str) {
        let key = String::from_utf8_lossy(key);
        self.report.inconsistency(format!("the versions of {key} in the bucket {bucket} of {project}: {what}"));
    }
}

fn owner((project, bucket, key): Name<'_>) -> Owner {
    Owner { project: project.to_owned(), bucket: bucket.to_owned(), key: key.to_vec(), version: None, part: None }
}

/// The file of all rows.
const INDEX: &str = "index.redb";
