//! Looks at everything that is stored: that each row's bytes are there and are those that were written, that counts
//! and places agree with the rows, and, with nobody else at work, that the index itself is whole. What is damaged is
//! named, and repaired where a copy of the store has it.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crypto::segment::{self, Cipher, SEGMENT, TAG};
use model::ProjectId;
use redb::{ReadTransaction, ReadableTable as _};

use crate::{
    Error,
    error::at,
    index::{self, LARGE, OBJECTS, PARTS, PIECES, SEGMENTS, UPLOADS, USAGE, VERSIONS},
    rows::{self, Data, ObjectRow, Piece, Place, Sealing, UploadRow, VersionRow},
    seal,
    store::{Inner, PURPOSE, Store},
    usage::{self, Usage},
    versions::{self, VersionId},
};

/// How to check.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// The directory of a copy of the store, such as a backup of it: what is damaged here and whole there is repaired.
    pub repair_from: Option<PathBuf>,
    /// Whether to rest as long as it works, because others use the store meanwhile.
    pub gentle: bool,
    /// Whether to check the index's own file too. Nothing else is answered meanwhile.
    pub index: bool,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Objects, older versions and parts of uploads that were looked at.
    pub rows: u64,
    /// Bytes that were read, as they are on disk.
    pub bytes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// What was looked at.
    pub looked_at: Progress,
    /// Rows whose bytes are sealed with a key that their customer keeps: that they are there was seen, no more.
    pub customers: u64,
    /// What is not as it was written.
    pub damaged: Vec<Damage>,
    /// Whether there is more damage than is listed.
    pub truncated: bool,
    /// What does not agree with the rows: counts, and tables of places. A sentence each.
    pub inconsistent: Vec<String>,
    /// Files of large objects that no row names: uploads that run, or what is left of those that failed. They go when
    /// the store is opened next.
    pub unnamed_files: u64,
    /// Whether the index's own file is whole; `None` if that was not asked for.
    pub index: Option<bool>,
}

impl Report {
    /// Whether all is as it should be, or was repaired.
    pub fn is_well(&self) -> bool {
        self.damaged.iter().all(|damage| damage.repaired) && self.inconsistent.is_empty() && self.index != Some(false)
    }
}

/// Bytes of an object that are not those that were written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// Whose it is.
    pub project: String,
    /// In which bucket.
    pub bucket: String,
    /// Its key; of an upload that is not complete, that of the object that it would be.
    pub key: String,
    /// Which version, if it is one; `null` as S3 names it.
    pub version: Option<String>,
    /// Of an upload that is not complete: its id, and the number of the part.
    pub part: Option<(String, u32)>,
    /// The first byte that cannot be had, and the one after the last, of the object or the part.
    pub bytes: (u64, u64),
    /// The file, within the store's directory.
    pub file: String,
    /// Whether it was repaired from the copy.
    pub repaired: bool,
}

impl Store {
    /// Checks everything; `progress` is told now and then. That something is damaged is no error.
    pub async fn check(
        &self,
        options: CheckOptions,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Report, Error> {
        let store = self.clone();
        // A thread of its own: it takes long, and is not to take a place from callers.
        let checked = tokio::task::spawn_blocking(move || {
            let index = options.index.then(|| store.0.index.check_integrity()).transpose()?;
            let mut check = Check::new(&store.0, options, progress)?;
            check.rows()?;
            check.agreement()?;
            check.report.index = index;
            Ok(check.report)
        });
        checked.await.map_err(|_| Error::Closed)?
    }
}

/// A check at work.
struct Check<'s, P> {
    inner: &'s Inner,
    options: CheckOptions,
    progress: P,
    told: Instant,
    index: ReadTransaction,
    report: Report,
    used: BTreeMap<u64, (u64, u64)>,
    large: HashSet<u128>,
    /// Keeps the files where they are that the index names.
    _pin: crate::garbage::Pin,
}

/// Which row a piece belongs to.
struct Owner<'o> {
    project: &'o str,
    bucket: &'o str,
    key: &'o [u8],
    version: Option<VersionId>,
    part: Option<(uuid::Uuid, u32)>,
    customer: bool,
}

impl<'s, P: FnMut(Progress)> Check<'s, P> {
    fn new(inner: &'s Inner, options: CheckOptions, progress: P) -> Result<Check<'s, P>, Error> {
        // The pin comes first, so that what the index names then cannot be gone.
        let pin = inner.garbage.pin();
        Ok(Check {
            inner,
            options,
            progress,
            told: Instant::now(),
            index: inner.index.read()?,
            report: Report::default(),
            used: BTreeMap::new(),
            large: HashSet::new(),
            _pin: pin,
        })
    }

    fn rows(&mut self) -> Result<(), Error> {
        for entry in self.index.open_table(OBJECTS)?.range_owned::<(&str, &str, &[u8])>(..)? {
            let (key, row) = entry?;
            let (project, bucket, key) = key.value();
            let owner = Owner { project, bucket, key, version: None, part: None, customer: false };
            match rows::decode::<ObjectRow>("an object", row.value()) {
                Ok(row) => self.object(owner, &row)?,
                Err(cause) => self.unreadable(&owner, &cause),
            }
        }
        for entry in self.index.open_table(VERSIONS)?.range_owned::<(&str, &str, &[u8], u64)>(..)? {
            let (key, row) = entry?;
            let (project, bucket, key, _) = key.value();
            let owner = Owner { project, bucket, key, version: None, part: None, customer: false };
            match versions::decode(row.value()) {
                Ok(VersionRow::Object(row)) => self.object(owner, &row)?,
                Ok(VersionRow::Marker(_)) => {}
                Err(cause) => self.unreadable(&owner, &cause),
            }
        }
        for entry in self.index.open_table(UPLOADS)?.range_owned::<(&str, &str, &[u8], u128)>(..)? {
            let (key, upload) = entry?;
            let (project, bucket, key, id) = key.value();
            let id = uuid::Uuid::from_u128(id);
            let owner = |part| Owner { project, bucket, key, version: None, part, customer: false };
            let upload = match rows::decode::<UploadRow>("an upload", upload.value()) {
                Ok(upload) => upload,
                Err(cause) => {
                    self.unreadable(&owner(None), &cause);
                    continue;
                }
            };
            let customer = matches!(upload.sealing, Sealing::Customer { .. });
            for (number, part) in index::parts(&self.index.open_table(PARTS)?, id, 0, usize::MAX)? {
                let owner = Owner { customer, ..owner(Some((id, number))) };
                self.looked_at();
                if let Some(piece) = &part.piece {
                    self.piece(&owner, 0, piece)?;
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, owner: Owner<'_>, row: &ObjectRow) -> Result<(), Error> {
        let customer = matches!(row.sealing, Sealing::Customer { .. });
        let owner = Owner { version: Some(row.id()), customer, ..owner };
        self.looked_at();
        self.report.customers += u64::from(customer);
        let pieces = match &row.data {
            Data::Empty => Vec::new(),
            Data::One(piece) => vec![(0, piece.clone())],
            Data::Many(id) => {
                let pieces = index::pieces(&self.index.open_table(PIECES)?, id.as_u128(), 0, u64::MAX)?;
                pieces.into_iter().map(|(start, row)| (start, row.piece)).collect()
            }
        };
        let mut end = 0;
        for (start, piece) in &pieces {
            if *start != end {
                self.damage(&owner, (end, *start), "index.redb", false);
            }
            end = start + piece.length;
            self.piece(&owner, *start, piece)?;
        }
        if end != row.size {
            self.damage(&owner, (end.min(row.size), row.size), "index.redb", false);
        }
        Ok(())
    }

    /// Reads and opens all of a piece, of which byte 0 is byte `start` of what it belongs to.
    fn piece(&mut self, owner: &Owner<'_>, start: u64, piece: &Piece) -> Result<(), Error> {
        let sealed = seal::sealed_length(piece.length);
        let (name, base) = match piece.place {
            Place::Large(id) => {
                self.large.insert(id.as_u128());
                (format!("large/{}", id.as_simple()), 0)
            }
            Place::Packed { segment, offset } => {
                let used = self.used.entry(segment).or_default();
                *used = (used.0 + sealed, used.1 + 1);
                (format!("packed/{segment:016x}"), offset)
            }
        };
        let path = self.inner.directory().join(&name);
        let file = match File::open(&path) {
            Ok(file) => Some(file),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
            Err(cause) => return Err(at(&path)(cause)),
        };
        if owner.customer {
            let length = file.map_or(Ok(0), |file| file.metadata().map(|found| found.len())).map_err(at(&path))?;
            if length < base + sealed {
                self.damage(owner, (start, start + piece.length), &name, false);
            }
            return Ok(());
        }
        let cipher = owner.project.parse::<ProjectId>().map_err(|_| ()).and_then(|project| {
            let key = self.inner.keys.unwrap(&project, PURPOSE, &piece.key).map_err(drop)?;
            Cipher::new(&key).map_err(drop)
        });
        let Ok(cipher) = cipher else {
            // Without its key nothing of it can be had.
            self.damage(owner, (start, start + piece.length), &name, false);
            return Ok(());
        };
        let count = segment::count(piece.length);
        let mut bad: Option<(u64, u64, bool)> = None;
        for number in 0..count {
            let begun = Instant::now();
            let last = number + 1 == count;
            let offset = base + segment::sealed_offset(number);
            let plain = if last { piece.length - number * SEGMENT as u64 } else { SEGMENT as u64 };
            let mut bytes = vec![0; usize::try_from(plain).unwrap_or(SEGMENT) + TAG];
            let opens = |file: &File, bytes: &mut [u8]| {
                file.read_exact_at(bytes, offset).is_ok() && cipher.open(number, last, bytes).is_ok()
            };
            let well = file.as_ref().is_some_and(|file| opens(file, &mut bytes));
            if !well {
                let repaired = match &self.options.repair_from {
                    Some(copy) => repair(&copy.join(&name), &path, offset, bytes.len(), opens)?,
                    None => false,
                };
                let from = start + number * SEGMENT as u64;
                match &mut bad {
                    Some((_, to, all)) if *to == from && *all == repaired => *to += plain,
                    other => {
                        if let Some((from, to, repaired)) = other.take() {
                            self.damage(owner, (from, to), &name, repaired);
                        }
                        *other = Some((from, from + plain, repaired));
                    }
                }
            }
            self.report.looked_at.bytes += plain + TAG as u64;
            self.rest(begun.elapsed());
        }
        if let Some((from, to, repaired)) = bad {
            self.damage(owner, (from, to), &name, repaired);
        }
        Ok(())
    }

    /// Whether counts and places are those of the rows, and which files no row names.
    fn agreement(&mut self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        let mut stated = BTreeMap::new();
        for entry in self.index.open_table(SEGMENTS)?.iter()? {
            let (id, used) = entry?;
            stated.insert(id.value(), used.value());
        }
        if stated != self.used {
            let differ = stated.iter().filter(|(id, used)| self.used.get(id) != Some(used)).count();
            let missing = self.used.keys().filter(|id| !stated.contains_key(id)).count();
            wrong.push(format!("the use of {} segment files is not that of the rows", differ + missing));
        }
        let mut named = HashSet::new();
        for entry in self.index.open_table(LARGE)?.iter()? {
            named.insert(entry?.0.value());
        }
        if named != self.large {
            let differ = named.symmetric_difference(&self.large).count();
            wrong.push(format!("{differ} large files are named by a table or by a row, and not by both"));
        }
        let mut counts = usage::recount(&self.index)?;
        for entry in self.index.open_table(USAGE)?.iter()? {
            let (key, row) = entry?;
            let (project, bucket) = key.value();
            let counted = counts.remove(&(project.to_owned(), bucket.to_owned())).unwrap_or_default();
            if Usage::of(row.value()) != counted {
                wrong.push(format!("the counts of the bucket {bucket} of {project} are not those of its rows"));
            }
        }
        for ((project, bucket), _) in counts.into_iter().filter(|(_, counted)| *counted != Usage::default()) {
            wrong.push(format!("there are no counts of the bucket {bucket} of {project}"));
        }
        self.report.inconsistent.extend(wrong);
        let directory = self.inner.directory().join("large");
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let name = entry.map_err(at(&directory))?.file_name();
            let id = name.to_str().and_then(|name| uuid::Uuid::try_parse(name).ok());
            self.report.unnamed_files += u64::from(id.is_none_or(|id| !named.contains(&id.as_u128())));
        }
        Ok(())
    }

    fn looked_at(&mut self) {
        self.report.looked_at.rows += 1;
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            (self.progress)(self.report.looked_at);
        }
    }

    fn rest(&self, worked: Duration) {
        if self.options.gentle {
            std::thread::sleep(worked.min(LONGEST_REST));
        }
    }

    fn unreadable(&mut self, owner: &Owner<'_>, cause: &Error) {
        let (project, bucket) = (owner.project, owner.bucket);
        let key = String::from_utf8_lossy(owner.key);
        self.report.inconsistent.push(format!("the row of {key} in the bucket {bucket} of {project}: {cause}"));
    }

    fn damage(&mut self, owner: &Owner<'_>, bytes: (u64, u64), file: &str, repaired: bool) {
        if self.report.damaged.len() >= MOST_LISTED {
            self.report.truncated = true;
            return;
        }
        self.report.damaged.push(Damage {
            project: owner.project.to_owned(),
            bucket: owner.bucket.to_owned(),
            key: String::from_utf8_lossy(owner.key).into_owned(),
            version: owner.version.map(|version| version.to_string()),
            part: owner.part.map(|(id, number)| (id.to_string(), number)),
            bytes,
            file: file.to_owned(),
            repaired,
        });
    }
}

/// Takes sealed bytes from a copy, if they open there, and writes them here durably.
fn repair(
    copy: &Path,
    path: &Path,
    offset: u64,
    length: usize,
    opens: impl Fn(&File, &mut [u8]) -> bool,
) -> Result<bool, Error> {
    let Ok(file) = File::open(copy) else { return Ok(false) };
    // Opened in place: what is written is read once more.
    if !opens(&file, &mut vec![0; length]) {
        return Ok(false);
    }
    let mut sealed = vec![0; length];
    if file.read_exact_at(&mut sealed, offset).is_err() {
        return Ok(false);
    }
    let ours = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let ours = ours.map_err(at(path))?;
    ours.write_all_at(&sealed, offset).and_then(|()| ours.sync_all()).map_err(at(path))?;
    Ok(opens(&ours, &mut sealed))
}

/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);
/// However slow a read was.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// The most damage that is listed.
const MOST_LISTED: usize = 10_000;
