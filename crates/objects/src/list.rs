//! Lists keys in order, by prefix and delimiter, with a bounded number of index look-ups an entry.

use model::{BucketName, ProjectId};
use std::iter::Peekable;

use redb::{ReadTransaction, ReadableTable};

use crate::{
    Error,
    index::{OBJECTS, ObjectKey, VERSIONS, VersionKey},
    rows::{self, ObjectRow, VersionRow},
    versions::{self, Found, Name, VersionId},
};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub prefix: String,
    /// Keys that go on beyond it are rolled up into one entry.
    pub delimiter: Option<String>,
    /// Only keys after this one; if it is a rolled-up prefix itself, only what is not in it.
    pub after: Option<String>,
    pub limit: usize,
}

/// An entry of a list.
#[derive(Debug, Clone)]
pub enum Entry {
    Object(String, Box<ObjectRow>),
    /// Keys rolled up.
    Prefix(String),
}

impl Entry {
    /// Its key, or its prefix.
    pub fn name(&self) -> &str {
        match self {
            Entry::Object(key, _) => key,
            Entry::Prefix(prefix) => prefix,
        }
    }
}

/// Lists; whether there is more.
pub fn list(
    table: &impl ReadableTable<ObjectKey, &'static [u8]>,
    project: &ProjectId,
    bucket: &BucketName,
    query: &Query,
) -> Result<(Vec<Entry>, bool), Error> {
    let mut entries = Vec::new();
    let delimiter = query.delimiter.as_deref();
    let mut from = start(&query.prefix, delimiter, query.after.as_deref());
    loop {
        let Some(begin) = from.take() else { return Ok((entries, false)) };
        for found in table.range((project.as_str(), bucket.as_str(), begin.as_slice())..)? {
            let (key, row) = found?;
            let (of, within, key) = key.value();
            if of != project.as_str() || within != bucket.as_str() || !key.starts_with(query.prefix.as_bytes()) {
                return Ok((entries, false));
            }
            let key = std::str::from_utf8(key).map_err(|_| Error::Damaged { what: "a key".to_owned() })?;
            if entries.len() >= query.limit {
                return Ok((entries, true));
            }
            match rolled_up(key, &query.prefix, delimiter) {
                Some(prefix) => {
                    from = successor(prefix);
                    entries.push(Entry::Prefix(prefix.to_owned()));
                    break;
                }
                None => {
                    let row = rows::decode("an object", row.value())?;
                    entries.push(Entry::Object(key.to_owned(), Box::new(row)));
                }
            }
        }
        if from.is_none() {
            return Ok((entries, false));
        }
    }
}

/// The prefix that a key is rolled up into, if it is.
pub fn rolled_up<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.get(prefix.len()..)?;
    rest.find(delimiter).map(|at| &key[..prefix.len() + at + delimiter.len()])
}

/// The first key that can be in a list, after `after`; `None` if none can.
pub fn start(prefix: &str, delimiter: Option<&str>, after: Option<&str>) -> Option<Vec<u8>> {
    let Some(after) = after.filter(|after| after.as_bytes() >= prefix.as_bytes()) else {
        return Some(prefix.as_bytes().to_vec());
    };
    if is_rolled_up(after, prefix, delimiter) {
        return successor(after);
    }
    // Nothing lies between a key and the same with a zero byte behind it.
    let mut next = after.as_bytes().to_vec();
    next.push(0);
    Some(next)
}

/// Whether `name` is a prefix that keys are rolled up into.
pub fn is_rolled_up(name: &str, prefix: &str, delimiter: Option<&str>) -> bool {
    name.starts_with(prefix) && rolled_up(name, prefix, delimiter) == Some(name)
}

/// The least bytes above all that begin with `prefix`. UTF-8 has no byte 0xFF, so the last byte can be counted up.
pub fn successor(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    let last = bytes.last_mut()?;
    *last += 1;
    Some(bytes)
}

/// Which versions to list.
#[derive(Debug, Clone, Default)]
pub struct VersionQuery {
    pub prefix: String,
    /// Keys that go on beyond it are rolled up into one entry.
    pub delimiter: Option<String>,
    /// Only what comes after this key; if it is a rolled-up prefix itself, only what is not in it.
    pub key_marker: Option<String>,
    /// With a key, what is older than this version of it too. The number of a version `null` is taken as well, and
    /// better: it says where to go on when that version is gone.
    pub version_marker: Option<VersionId>,
    pub limit: usize,
}

/// An entry of a list of versions.
#[derive(Debug, Clone)]
pub enum VersionEntry {
    Version {
        key: String,
        row: VersionRow,
        /// Whether it is what a read without a version finds.
        is_latest: bool,
    },
    /// Keys rolled up. Where a page ends with it, it is the next page's key marker, without a version.
    Prefix(String),
}

/// Lists versions by key, the newest of each first; whether there are more.
pub fn list_versions(
    index: &ReadTransaction,
    project: &ProjectId,
    bucket: &BucketName,
    query: &VersionQuery,
) -> Result<(Vec<VersionEntry>, bool), Error> {
    let (prefix, delimiter) = (query.prefix.as_str(), query.delimiter.as_deref());
    let mut entries = Vec::new();
    let mut from = match (query.key_marker.as_deref(), query.version_marker) {
        (Some(key), Some(id)) if key >= prefix && !is_rolled_up(key, prefix, delimiter) => {
            Some(behind(index, (project.as_str(), bucket.as_str(), key.as_bytes()), id)?)
        }
        (after, _) => start(prefix, delimiter, after).map(Place::before),
    };
    loop {
        let Some(place) = from.take() else { return Ok((entries, false)) };
        for found in Versions::new(index, project, bucket, &place)? {
            let (key, row, is_latest) = found?;
            if !key.starts_with(prefix) {
                return Ok((entries, false));
            }
            if entries.len() >= query.limit {
                return Ok((entries, true));
            }
            if let Some(common) = rolled_up(&key, prefix, delimiter) {
                from = successor(common).map(Place::before);
                entries.push(VersionEntry::Prefix(common.to_owned()));
                break;
            }
            entries.push(VersionEntry::Version { key, row, is_latest });
        }
        if from.is_none() {
            return Ok((entries, false));
        }
    }
}

/// The place behind a version of a key.
fn behind(index: &ReadTransaction, name: Name<'_>, id: VersionId) -> Result<Place, Error> {
    let newer = match id {
        VersionId::Number(number) => Some(number),
        VersionId::Null => match versions::find(index, name, Some(id))? {
            Found::Object(row) => Some(row.version),
            Found::Marker(marker) => Some(marker.version),
            // Where it was is not known; nothing of the key is left out.
            Found::None => None,
        },
    };
    Ok(Place { key: name.2.to_vec(), newer })
}

/// A place among the versions of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub key: Vec<u8>,
    /// Behind the version of that number; else before all of the key.
    pub newer: Option<u64>,
}

impl Place {
    /// Before all versions of a key.
    pub fn before(key: Vec<u8>) -> Place {
        Place { key, newer: None }
    }
}

/// All versions of a bucket from a place on, by key, the newest of each first, with whether each is the latest.
pub struct Versions {
    current: Peekable<redb::Range<'static, ObjectKey, &'static [u8]>>,
    older: Peekable<redb::Range<'static, VersionKey, &'static [u8]>>,
    /// The key of which a version was seen.
    seen: Option<Vec<u8>>,
    project: String,
    bucket: String,
}

impl Versions {
    /// From a place on.
    pub fn new(
        index: &ReadTransaction,
        project: &ProjectId,
        bucket: &BucketName,
        place: &Place,
    ) -> Result<Versions, Error> {
        let (of, within, key) = (project.as_str(), bucket.as_str(), place.key.as_slice());
        let (objects, versions) = (index.open_table(OBJECTS)?, index.open_table(VERSIONS)?);
        let (mut current, mut seen) = (objects.range((of, within, key)..)?.peekable(), None);
        let mut first = 0;
        if let Some(newer) = place.newer {
            // Behind a version, what comes is the latest only if nothing newer is there any more.
            first = (u64::MAX - newer).saturating_add(1);
            let present = current.next_if(|found| found.as_ref().is_ok_and(|(at, _)| at.value() == (of, within, key)));
            let object = present.transpose()?.map(|(_, row)| rows::decode::<ObjectRow>("an object", row.value()));
            let object = object.transpose()?;
            if object.as_ref().is_some_and(|row| row.version < newer) {
                current = objects.range((of, within, key)..)?.peekable();
            } else if object.is_some()
                || versions.range((of, within, key, 0)..(of, within, key, first))?.next().transpose()?.is_some()
            {
                seen = Some(place.key.clone());
            }
        }
        let older = versions.range((of, within, key, first)..)?.peekable();
        Ok(Versions { current, older, seen, project: of.to_owned(), bucket: within.to_owned() })
    }

    fn step(&mut self) -> Result<Option<(String, VersionRow, bool)>, Error> {
        // An error is taken as it comes.
        if let Some(failed) = self.current.next_if(Result::is_err) {
            failed?;
        }
        if let Some(failed) = self.older.next_if(Result::is_err) {
            failed?;
        }
        let ours = |project: &str, bucket: &str, key: &[u8]| {
            (project == self.project && bucket == self.bucket).then(|| key.to_vec())
        };
        let object = self.current.peek().and_then(|found| found.as_ref().ok()).and_then(|(at, _)| {
            let (project, bucket, key) = at.value();
            ours(project, bucket, key)
        });
        let version = self.older.peek().and_then(|found| found.as_ref().ok()).and_then(|(at, _)| {
            let (project, bucket, key, _) = at.value();
            ours(project, bucket, key)
        });
        let (key, row) = match (object, version) {
            (None, None) => return Ok(None),
            // The current object is newer than all others.
            (Some(object), version) if version.as_ref().is_none_or(|version| object <= *version) => {
                let Some((_, row)) = self.current.next().transpose()? else { return Ok(None) };
                (object, VersionRow::Object(Box::new(rows::decode("an object", row.value())?)))
            }
            (_, Some(version)) => {
                let Some((_, row)) = self.older.next().transpose()? else { return Ok(None) };
                (version, versions::decode(row.value())?)
            }
            (Some(_), None) => return Ok(None),
        };
        let is_latest = self.seen.as_ref() != Some(&key);
        let name = std::str::from_utf8(&key).map_err(|_| Error::Damaged { what: "a key".to_owned() })?.to_owned();
        self.seen = Some(key);
        Ok(Some((name, row, is_latest)))
    }
}

impl Iterator for Versions {
    type Item = Result<(String, VersionRow, bool), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
