//! Versions of objects.
//!
//! The current version of a key, if it is an object, is in [`OBJECTS`], so that lists of objects never wade through
//! anything else. All other versions, and every delete marker, are in [`VERSIONS`], newest first. The current version is
//! always the newest: if [`OBJECTS`] has no row of a key, the newest in [`VERSIONS`] is a delete marker, or there is none.
//!
//! A version's number is the time at which it was made, by the store's clock, in microseconds. What is written while
//! versioning is off or suspended is the version `null` of its key, which has a number too, for its place among the others.

use std::{fmt, str::FromStr};

use redb::{ReadTransaction, ReadableTable};

use crate::{
    Error,
    clock::milliseconds,
    index::{NULLS, OBJECTS, ObjectKey, VERSIONS, VersionKey, Writing, signed},
    lock,
    rows::{self, Marker, ObjectRow, VersionRow, Versioning},
};

/// Which version of an object a caller means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionId {
    /// The one that was written while versioning was off or suspended.
    Null,
    /// One that was written while versioning was on.
    Number(u64),
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionId::Null => f.write_str("null"),
            VersionId::Number(number) => write!(f, "{number:016x}"),
        }
    }
}

impl FromStr for VersionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<VersionId, Error> {
        if text == "null" {
            return Ok(VersionId::Null);
        }
        let is_ours = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_ours);
        number.map(VersionId::Number).ok_or(Error::InvalidVersion)
    }
}

impl ObjectRow {
    /// As callers know it.
    pub fn id(&self) -> VersionId {
        if self.null { VersionId::Null } else { VersionId::Number(self.version) }
    }
}

impl Marker {
    /// As callers know it.
    pub fn id(&self) -> VersionId {
        if self.null { VersionId::Null } else { VersionId::Number(self.version) }
    }
}

impl VersionRow {
    /// Its bytes; a marker has none.
    pub fn size(&self) -> u64 {
        match self {
            VersionRow::Object(row) => row.size,
            VersionRow::Marker(_) => 0,
        }
    }

    /// As callers know it.
    pub fn id(&self) -> VersionId {
        match self {
            VersionRow::Object(row) => row.id(),
            VersionRow::Marker(marker) => marker.id(),
        }
    }
}

/// A key of a bucket of a project.
pub type Name<'n> = (&'n str, &'n str, &'n [u8]);

/// What is at a key, or at a version of it.
#[derive(Debug, Clone)]
pub enum Found {
    Object(Box<ObjectRow>),
    Marker(Marker),
    None,
}

impl Found {
    /// The object, if it is one.
    pub fn object(self) -> Option<ObjectRow> {
        match self {
            Found::Object(row) => Some(*row),
            Found::Marker(_) | Found::None => None,
        }
    }

    /// Its number.
    pub fn version(&self) -> Option<u64> {
        match self {
            Found::Object(row) => Some(row.version),
            Found::Marker(marker) => Some(marker.version),
            Found::None => None,
        }
    }

    /// The object, or why there is none; `named` if a version was named.
    pub fn expect_object(self, named: bool) -> Result<ObjectRow, Error> {
        match self {
            Found::Object(row) => Ok(*row),
            Found::Marker(marker) => Err(Error::IsMarker { version: marker.id() }),
            Found::None if named => Err(Error::NoSuchVersion),
            Found::None => Err(Error::NoSuchKey),
        }
    }
}

impl From<VersionRow> for Found {
    fn from(row: VersionRow) -> Found {
        match row {
            VersionRow::Object(row) => Found::Object(row),
            VersionRow::Marker(marker) => Found::Marker(marker),
        }
    }
}

/// What a delete did.
#[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The delete marker that was made or removed.
    pub marker: Option<VersionId>,
    /// Whether a delete marker was removed.
    pub was_marker: bool,
    /// The version that was named, and is not there any more.
    pub version: Option<VersionId>,
    /// Whether anything was there to remove or to mark.
    pub changed: bool,
}

/// What a newer version of a key comes upon.
pub struct Present {
    versioning: Versioning,
    /// The current object; a delete marker is none.
    pub current: Option<ObjectRow>,
    /// A version `null` among the older ones, which the newer one takes the place of.
    replaced: Option<VersionRow>,
}

impl Present {
    /// Says whether a lock forbids that what is there is freed, at a time in milliseconds.
    pub fn check(&self, now: i64) -> Result<(), Error> {
        let freed = match (&self.current, &self.replaced) {
            (_, Some(VersionRow::Object(row))) => row,
            (Some(row), _) if row.null && self.versioning != Versioning::Enabled => row,
            _ => return Ok(()),
        };
        lock::check(freed, now, false)
    }
}

/// The tables in which versions are, for one who reads or one who writes.
pub struct Tables<'t, O, V, N> {
    pub objects: &'t O,
    pub versions: &'t V,
    pub nulls: &'t N,
}

impl<O, V, N> Tables<'_, O, V, N>
where
    O: ReadableTable<ObjectKey, &'static [u8]>,
    V: ReadableTable<VersionKey, &'static [u8]>,
    N: ReadableTable<ObjectKey, u64>,
{
    /// The current version of a key, or one that is named.
    pub fn find(&self, name: Name<'_>, version: Option<VersionId>) -> Result<Found, Error> {
        let current = object(self.objects, name)?;
        match version {
            None => match current {
                Some(row) => Ok(Found::Object(Box::new(row))),
                None => Ok(newest(self.versions, name)?.map_or(Found::None, Found::from)),
            },
            Some(id) => match current {
                Some(row) if row.id() == id => Ok(Found::Object(Box::new(row))),
                _ => Ok(self.older(name, id)?.map_or(Found::None, Found::from)),
            },
        }
    }

    /// A version that is not the current object.
    fn older(&self, name: Name<'_>, id: VersionId) -> Result<Option<VersionRow>, Error> {
        let number = match id {
            VersionId::Number(number) => number,
            VersionId::Null => match self.nulls.get(name)? {
                Some(number) => number.value(),
                None => return Ok(None),
            },
        };
        let row = self.versions.get(at(name, number))?.map(|row| decode(row.value())).transpose()?;
        Ok(row.filter(|row| row.id() == id))
    }
}

/// Finds the current version of a key, or one that is named, in what is committed.
pub fn find(index: &ReadTransaction, name: Name<'_>, version: Option<VersionId>) -> Result<Found, Error> {
    let (objects, versions) = (index.open_table(OBJECTS)?, index.open_table(VERSIONS)?);
    Tables { objects: &objects, versions: &versions, nulls: &index.open_table(NULLS)? }.find(name, version)
}

/// The current object of a key.
fn object(table: &impl ReadableTable<ObjectKey, &'static [u8]>, name: Name<'_>) -> Result<Option<ObjectRow>, Error> {
    table.get(name)?.map(|row| rows::decode("an object", row.value())).transpose()
}

/// The newest of the versions that are not the current object.
fn newest(
    table: &impl ReadableTable<VersionKey, &'static [u8]>,
    (project, bucket, key): Name<'_>,
) -> Result<Option<VersionRow>, Error> {
    let first = table.range((project, bucket, key, 0)..=(project, bucket, key, u64::MAX))?.next().transpose()?;
    first.map(|(_, row)| decode(row.value())).transpose()
}

/// Where a version stands in its table.
pub fn at((project, bucket, key): Name<'_>, version: u64) -> (&str, &str, &[u8], u64) {
    (project, bucket, key, u64::MAX - version)
}

/// A row of its table.
pub fn decode(bytes: &[u8]) -> Result<VersionRow, Error> {
    rows::decode("a version", bytes)
}

impl Writing<'_> {
    /// Finds the current version of a key, or one that is named.
    pub fn find(&self, name: Name<'_>, version: Option<VersionId>) -> Result<Found, Error> {
        Tables { objects: &self.objects, versions: &self.versions, nulls: &self.nulls }.find(name, version)
    }

    /// The one version that a key has; none if it has more.
    pub fn only_version(&self, name: Name<'_>) -> Result<Found, Error> {
        let (project, bucket, key) = name;
        let older = self.versions.range((project, bucket, key, 0)..=(project, bucket, key, u64::MAX))?;
        let older = older.take(2).map(|found| found.map(|_| ())).collect::<Result<Vec<()>, _>>()?.len();
        let current = usize::from(self.objects.get(name)?.is_some());
        if current + older == 1 { self.find(name, None) } else { Ok(Found::None) }
    }

    /// What a newer version of a key would come upon.
    pub fn present(&self, name: Name<'_>, versioning: Versioning) -> Result<Present, Error> {
        let current = object(&self.objects, name)?;
        let replaced = match (&current, versioning) {
            // Without versions, what is there is `null`, and there is nothing else.
            (_, Versioning::Off | Versioning::Enabled) => None,
            (Some(row), Versioning::Suspended) if row.null => None,
            (_, Versioning::Suspended) => match self.find(name, Some(VersionId::Null))? {
                Found::Object(row) => Some(VersionRow::Object(row)),
                Found::Marker(marker) => Some(VersionRow::Marker(marker)),
                Found::None => None,
            },
        };
        Ok(Present { versioning, current, replaced })
    }

    /// Writes an object as the newest version of its key, and returns it with its number and time. What it comes upon is
    /// kept or freed, as the bucket's versioning says; [`Present::check`] has been asked.
    pub fn put(&mut self, name: Name<'_>, mut row: ObjectRow, present: Present) -> Result<ObjectRow, Error> {
        row.version = self.now();
        row.modified = milliseconds(row.version);
        row.null = present.versioning != Versioning::Enabled;
        self.make_room(name, present)?;
        self.set_current(name, &row)?;
        Ok(row)
    }

    /// Removes the current object of a key. With versioning, a delete marker takes its place, and nothing is lost.
    pub fn remove_current(&mut self, name: Name<'_>, versioning: Versioning) -> Result<Removed, Error> {
        let present = self.present(name, versioning)?;
        let version = self.now();
        present.check(milliseconds(version))?;
        let mut removed = Removed { marker: None, was_marker: false, version: None, changed: true };
        if versioning == Versioning::Off {
            removed.changed = present.current.is_some();
            self.make_room(name, present)?;
            return Ok(removed);
        }
        let marker = Marker { version, null: versioning == Versioning::Suspended, modified: milliseconds(version) };
        self.make_room(name, present)?;
        self.set_older(name, &VersionRow::Marker(marker))?;
        removed.marker = Some(marker.id());
        Ok(removed)
    }

    /// Removes one version for good, unless it is locked. The newest of those that are left becomes the current one.
    pub fn remove_version(&mut self, name: Name<'_>, id: VersionId, bypass: bool) -> Result<Removed, Error> {
        let found = self.find(name, Some(id))?;
        let mut removed = Removed { marker: None, was_marker: false, version: Some(id), changed: true };
        match found {
            Found::None => removed.changed = false,
            Found::Marker(marker) => {
                removed.marker = Some(id);
                removed.was_marker = true;
                self.drop_older(name, &VersionRow::Marker(marker))?;
                self.promote(name)?;
            }
            Found::Object(row) => {
                lock::check(&row, milliseconds(self.now()), bypass)?;
                let current = object(&self.objects, name)?;
                if current.is_some_and(|current| current.version == row.version) {
                    self.drop_current(name, &row)?;
                    self.promote(name)?;
                } else {
                    self.drop_older(name, &VersionRow::Object(row))?;
                }
            }
        }
        Ok(removed)
    }

    /// Changes the row of a version that stays where it is.
    pub fn update(&mut self, name: Name<'_>, row: &ObjectRow) -> Result<(), Error> {
        let is_current = object(&self.objects, name)?.is_some_and(|current| current.version == row.version);
        if is_current {
            let bytes = rows::encode(row);
            self.objects.insert(name, bytes.as_slice())?;
        } else {
            let bytes = rows::encode(&VersionRow::Object(Box::new(row.clone())));
            self.versions.insert(at(name, row.version), bytes.as_slice())?;
        }
        Ok(())
    }

    /// Makes room for a newer version: the current object goes among the older ones, or is freed, as is any other version
    /// `null` where the newer one is one.
    fn make_room(&mut self, name: Name<'_>, present: Present) -> Result<(), Error> {
        if let Some(row) = &present.replaced {
            self.drop_older(name, row)?;
        }
        match present.current {
            Some(row) if row.null && present.versioning != Versioning::Enabled => self.drop_current(name, &row),
            Some(row) => {
                self.objects.remove(name)?;
                self.count(name.0, name.1, -1, negative(row.size))?;
                self.set_older(name, &VersionRow::Object(Box::new(row)))
            }
            None => Ok(()),
        }
    }

    fn set_current(&mut self, name: Name<'_>, row: &ObjectRow) -> Result<(), Error> {
        let bytes = rows::encode(row);
        self.objects.insert(name, bytes.as_slice())?;
        self.count(name.0, name.1, 1, signed(row.size))
    }

    fn drop_current(&mut self, name: Name<'_>, row: &ObjectRow) -> Result<(), Error> {
        self.objects.remove(name)?;
        self.count(name.0, name.1, -1, negative(row.size))?;
        self.free_data(row)
    }

    fn set_older(&mut self, name: Name<'_>, row: &VersionRow) -> Result<(), Error> {
        let bytes = rows::encode(row);
        self.versions.insert(at(name, row.version()), bytes.as_slice())?;
        self.count_older(name.0, name.1, 1, signed(row.size()));
        if row.is_null() {
            self.nulls.insert(name, row.version())?;
        }
        Ok(())
    }

    fn drop_older(&mut self, name: Name<'_>, row: &VersionRow) -> Result<(), Error> {
        self.versions.remove(at(name, row.version()))?;
        self.count_older(name.0, name.1, -1, negative(row.size()));
        if row.is_null() {
            self.nulls.remove(name)?;
        }
        match row {
            VersionRow::Object(row) => self.free_data(row),
            VersionRow::Marker(_) => Ok(()),
        }
    }

    /// Makes the newest of the older versions the current object, if there is no current one and it is an object.
    fn promote(&mut self, name: Name<'_>) -> Result<(), Error> {
        if self.objects.get(name)?.is_some() {
            return Ok(());
        }
        let Some(VersionRow::Object(row)) = newest(&self.versions, name)? else { return Ok(()) };
        self.versions.remove(at(name, row.version))?;
        self.count_older(name.0, name.1, -1, negative(row.size));
        if row.null {
            self.nulls.remove(name)?;
        }
        self.set_current(name, &row)
    }
}

fn negative(bytes: u64) -> i64 {
    -signed(bytes)
}
