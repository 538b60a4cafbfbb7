//! Looks at everything that is stored: that each row's bytes are there and are those that were written, that counts
//! and places agree with the rows, and, with nobody else at work, that the index itself is whole. What is damaged is
//! named, and repaired where a copy of the store has it.
//!
//! First the index is held against itself ([`crate::agreement`]), in one view of it. Then the bytes of all rows are
//! read and opened, a few rows a step, each step with a view of its own: so a check that takes hours keeps nothing
//! from being removed meanwhile, and takes memory for one step.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    ops::Bound,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crypto::segment::{self, Cipher, SEGMENT, TAG};
use keys::Keys;
use model::ProjectId;
use redb::{ReadTransaction, ReadableTable as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    agreement::Agreement,
    error::at,
    index::{self, OBJECTS, PARTS, PIECES, UPLOADS, USAGE, VERSIONS},
    rows::{self, Data, ObjectRow, Piece, Place, Sealing, UploadRow, VersionRow},
    seal, segments,
    store::{Inner, Limits, PURPOSE, Store},
    usage::Usage,
    versions::{self, VersionId},
};

/// How to check.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// The directory of a copy of the store, such as a backup of it: what is damaged here and whole there is repaired.
    pub repair_from: Option<PathBuf>,
    /// Whether to rest most of the time, because others use the store meanwhile.
    pub gentle: bool,
    /// Whether to check the index's own file too. Nothing else is answered meanwhile.
    pub index: bool,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Objects, older versions and parts of uploads that were looked at,
    pub rows: u64,
    /// of so many, by the counts of the buckets.
    pub of_rows: u64,
    /// Bytes of them, as they were before they were sealed,
    pub bytes: u64,
    /// of so many, by the counts of the buckets.
    pub of_bytes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was looked at.
    pub looked_at: Progress,
    /// Objects, older versions and parts that are sealed with a key that their customer keeps: that their bytes are
    /// there was seen, and no more can be.
    pub customers: u64,
    /// What is not as it was written: so much of it as is listed.
    pub damaged: Vec<Damage>,
    /// How much of that, listed or not, was not repaired.
    pub unrepaired: u64,
    /// How much was.
    pub repaired: u64,
    /// How much of the log was taken from the copy when the store was opened: openings of its files, and batches.
    pub repaired_log: u64,
    /// What in the index does not agree with its rows: orders, counts, places. A sentence each.
    pub inconsistent: Vec<String>,
    /// Whether there is more than is listed.
    pub truncated: bool,
    /// Files that no row names: large ones of uploads that run, or what is left of those that failed and of deletes.
    /// They go when the store is opened next.
    pub unnamed_files: u64,
    /// Some of their names, within the store's directory.
    pub unnamed: Vec<String>,
    /// Whether the index's own file is whole; `None` if that was not asked for.
    pub index: Option<bool>,
}

impl Report {
    /// Whether all is as it should be, or was repaired.
    pub fn is_well(&self) -> bool {
        self.unrepaired == 0 && self.inconsistent.is_empty() && self.index != Some(false)
    }

    pub(crate) fn damage(&mut self, damage: Damage) {
        match damage.repaired {
            true => self.repaired += 1,
            false => self.unrepaired += 1,
        }
        match self.damaged.len() < MOST_LISTED {
            true => self.damaged.push(damage),
            false => self.truncated = true,
        }
    }

    pub(crate) fn inconsistency(&mut self, what: String) {
        match self.inconsistent.len() < MOST_LISTED {
            true => self.inconsistent.push(what),
            false => self.truncated = true,
        }
    }
}

/// A part of an object that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Damage {
    /// Whose it is.
    pub project: String,
    /// In which bucket.
    pub bucket: String,
    /// Its key; of an upload that is not complete, that of the object that it would be.
    pub key: String,
    /// Which version, if that can be told; `null` as S3 names it.
    pub version: Option<String>,
    /// Of an upload that is not complete: its id, and the number of the part, or 0 where that cannot be told.
    pub part: Option<(String, u32)>,
    /// What is wrong.
    pub wrong: Wrong,
    /// The first byte that cannot be had, and the one after the last, of the object or the part.
    pub bytes: (u64, u64),
    /// The file, within the store's directory.
    pub file: String,
    /// Whether it was repaired from the copy.
    pub repaired: bool,
}

/// What is wrong with bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// Their file is not there.
    Missing,
    /// Their file ends before them.
    Cut,
    /// Their file, or the disk below it, does not let them be read.
    Unreadable,
    /// They are not those that were written under the object's key.
    Changed,
    /// The object's key cannot be had: it is damaged, or the project's was destroyed.
    Key,
    /// The row of the object, or of a piece of it, is not one, or the pieces do not make up the object.
    Row,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Missing => "the file is missing",
            Wrong::Cut => "the file ends before them",
            Wrong::Unreadable => "they cannot be read",
            Wrong::Changed => "they are not those that were written",
            Wrong::Key => "their key cannot be had",
            Wrong::Row => "the index does not say where they are",
        })
    }
}

impl Store {
    /// Opens the store in `dir` to be checked: it must be there, nothing is removed, and nothing runs in the
    /// background. That another process has it open is [`Error::InUse`]. Where the log is damaged before its end, that is
    /// [`Error::LogDamaged`], unless `copy`, the directory of a copy of the store, has it.
    pub async fn open_to_check(dir: &Path, keys: Arc<Keys>, copy: Option<&Path>) -> Result<Store, Error> {
        let index = dir.join("index.redb");
        // To open it would make one.
        fs::metadata(&index).map_err(at(&index))?;
        let limits = Limits { as_it_is: true, log_from: copy.map(Path::to_owned), ..Limits::default() };
        Store::open_within(dir, keys, limits).await.map_err(|cause| match cause {
            Error::Index(cause) if matches!(*cause, redb::Error::DatabaseAlreadyOpen) => Error::InUse,
            other => other,
        })
    }

    /// Checks everything; `progress` is told now and then. That something is damaged is no error.
    pub async fn check(
        &self,
        options: CheckOptions,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Report, Error> {
        self.check_until(options, CancellationToken::new(), progress).await
    }

    /// As [`Store::check`]; ends with [`Error::Closed`] at `stop`.
    pub(crate) async fn check_until(
        &self,
        options: CheckOptions,
        stop: CancellationToken,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Report, Error> {
        let inner = Arc::clone(&self.0);
        // A thread of its own: it takes long, and is not to take a place from callers.
        let checked = tokio::task::spawn_blocking(move || check(&inner, options, stop, progress)).await;
        // The index's library gives up in that way where pages are not what they were.
        checked.map_err(|_| Error::Damaged { what: "the index".to_owned() })?
    }
}

fn check(
    inner: &Inner,
    options: CheckOptions,
    stop: CancellationToken,
    progress: impl FnMut(Progress),
) -> Result<Report, Error> {
    let mut report = Report { repaired_log: inner.mended, ..Report::default() };
    if options.index {
        match inner.index.check_integrity() {
            Ok(whole) => report.index = Some(whole),
            Err(Error::Index(cause)) if matches!(*cause, redb::Error::Corrupted(_)) => {
                // Nothing that it says can be trusted, so there is nothing to hold the rest against.
                report.index = Some(false);
                report.inconsistency(format!("the index: {cause}"));
                return Ok(report);
            }
            Err(cause) => return Err(cause),
        }
    }
    let mut pace = Pace { gentle: options.gentle, stop, begun: Instant::now() };
    Agreement::new(&inner.index.read()?, &mut report, &mut pace).look()?;
    unnamed(inner, &mut report)?;
    let mut check = Check { inner, options, progress, told: Instant::now(), pace, report, buffer: Vec::new() };
    check.expect()?;
    let mut cursor = Cursor::Objects(None);
    while !matches!(cursor, Cursor::End) {
        // The pin comes first, so that what the index names then stays until it was read.
        let _pin = inner.garbage.pin();
        let (items, next) = gather(&inner.index.read()?, cursor)?;
        for item in &items {
            check.item(item)?;
        }
        cursor = next;
    }
    check.tell();
    Ok(check.report)
}

/// How hard a check works.
pub struct Pace {
    gentle: bool,
    stop: CancellationToken,
    begun: Instant,
}

impl Pace {
    /// Rests if that is due; an error if the check is to stop.
    pub fn rest(&mut self) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Closed);
        }
        let worked = self.begun.elapsed();
        if self.gentle && worked >= STRETCH {
            std::thread::sleep((3 * worked).min(LONGEST_REST));
            self.begun = Instant::now();
        }
        Ok(())
    }
}

/// A check of bytes at work.
struct Check<'i, P> {
    inner: &'i Inner,
    options: CheckOptions,
    progress: P,
    told: Instant,
    pace: Pace,
    report: Report,
    buffer: Vec<u8>,
}

/// Which row pieces belong to.
pub struct Owner {
    pub project: String,
    pub bucket: String,
    pub key: Vec<u8>,
    pub version: Option<VersionId>,
    pub part: Option<(Uuid, u32)>,
}

impl Owner {
    /// Says what of it is wrong.
    pub fn damage(&self, wrong: Wrong, bytes: (u64, u64), file: &str, repaired: bool) -> Damage {
        Damage {
            project: self.project.clone(),
            bucket: self.bucket.clone(),
            key: String::from_utf8_lossy(&self.key).into_owned(),
            version: self.version.map(|version| version.to_string()),
            part: self.part.map(|(id, number)| (id.to_string(), number)),
            wrong,
            bytes,
            file: file.to_owned(),
            repaired,
        }
    }
}

/// A row with bytes.
struct Item {
    owner: Owner,
    /// Whether its customer keeps the key.
    customer: bool,
    /// With the byte of the object at which each begins.
    pieces: Vec<(u64, Piece)>,
}

/// Bytes that cannot be had, one after another, for one reason.
struct Run {
    from: u64,
    to: u64,
    wrong: Wrong,
    repaired: bool,
}

impl<P: FnMut(Progress)> Check<'_, P> {
    /// Says how much there is to look at.
    fn expect(&mut self) -> Result<(), Error> {
        for entry in self.inner.index.read()?.open_table(USAGE)?.iter()? {
            let usage = Usage::of(entry?.1.value());
            let looked_at = &mut self.report.looked_at;
            looked_at.of_rows = looked_at.of_rows.saturating_add(usage.objects + usage.older + usage.parts);
            looked_at.of_bytes = looked_at.of_bytes.saturating_add(usage.bytes + usage.older_bytes + usage.part_bytes);
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<(), Error> {
        for (start, piece) in &item.pieces {
            match item.customer {
                true => self.presence(&item.owner, *start, piece)?,
                false => self.piece(&item.owner, *start, piece)?,
            }
        }
        self.report.customers += u64::from(item.customer);
        self.report.looked_at.rows += 1;
        self.tell_sometimes();
        self.pace.rest()
    }

    /// Looks whether bytes are there whose key is not.
    fn presence(&mut self, owner: &Owner, start: u64, piece: &Piece) -> Result<(), Error> {
        let (name, base) = place(piece);
        let end = base + seal::sealed_length(piece.length);
        let found = fs::metadata(self.inner.directory().join(&name));
        let wrong = match found {
            Ok(found) if found.len() >= end => None,
            Ok(found) => {
                let whole = found.len().saturating_sub(base) / (SEGMENT + TAG) as u64;
                Some((start + whole * SEGMENT as u64, Wrong::Cut))
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound => Some((start, Wrong::Missing)),
            Err(_) => Some((start, Wrong::Unreadable)),
        };
        if let Some((from, wrong)) = wrong {
            self.report.damage(owner.damage(wrong, (from, start + piece.length), &name, false));
        }
        self.report.looked_at.bytes += piece.length;
        Ok(())
    }

    /// Reads and opens all of a piece, of which byte 0 is byte `start` of what it belongs to.
    fn piece(&mut self, owner: &Owner, start: u64, piece: &Piece) -> Result<(), Error> {
        let (name, base) = place(piece);
        let cipher = match self.cipher(&owner.project, piece) {
            Ok(cipher) => cipher,
            // It is no matter of the object.
            Err(cause @ keys::Error::File { .. }) => return Err(cause.into()),
            Err(_) => {
                let bytes = (start, start + piece.length);
                self.report.damage(owner.damage(Wrong::Key, bytes, &name, false));
                self.report.looked_at.bytes += piece.length;
                return Ok(());
            }
        };
        let path = self.inner.directory().join(&name);
        let file = File::open(&path).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => Wrong::Missing,
            _ => Wrong::Unreadable,
        });
        let mut mender = self.options.repair_from.as_ref().map(|copy| Mender::new(copy.join(&name), path));
        let count = segment::count(piece.length);
        let mut run: Option<Run> = None;
        for number in 0..count {
            let last = number + 1 == count;
            let plain = if last { piece.length - number * SEGMENT as u64 } else { SEGMENT as u64 };
            let place = Part { cipher: &cipher, number, last, offset: base + segment::sealed_offset(number) };
            self.buffer.resize(usize::try_from(plain).unwrap_or(SEGMENT) + TAG, 0);
            let read = match &file {
                Ok(file) => place.read(file, &mut self.buffer),
                Err(wrong) => Err(*wrong),
            };
            if let Err(wrong) = read {
                let repaired = match &mut mender {
                    Some(mender) => mender.mend(&place, &mut self.buffer)?,
                    None => false,
                };
                let from = start + number * SEGMENT as u64;
                match &mut run {
                    Some(run) if run.to == from && run.wrong == wrong && run.repaired == repaired => run.to += plain,
                    other => {
                        let before = other.replace(Run { from, to: from + plain, wrong, repaired });
                        self.run(owner, &name, before);
                    }
                }
            }
            self.report.looked_at.bytes += plain;
            self.tell_sometimes();
            self.pace.rest()?;
        }
        // Before it is called repaired.
        mender.map_or(Ok(()), Mender::finish)?;
        self.run(owner, &name, run);
        Ok(())
    }

    fn run(&mut self, owner: &Owner, name: &str, run: Option<Run>) {
        if let Some(Run { from, to, wrong, repaired }) = run {
            self.report.damage(owner.damage(wrong, (from, to), name, repaired));
        }
    }

    fn cipher(&self, project: &str, piece: &Piece) -> Result<Cipher, keys::Error> {
        let missing = || keys::Error::Missing { owner: format!("project/{project}") };
        let project: ProjectId = project.parse().map_err(|_| missing())?;
        let key = self.inner.keys.unwrap(&project, PURPOSE, &piece.key)?;
        Cipher::new(&key).map_err(|_| missing())
    }

    fn tell_sometimes(&mut self) {
        if self.told.elapsed() >= TELL {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        (self.progress)(self.report.looked_at);
    }
}

/// The file of a piece, within the store's directory, and where it begins in it.
fn place(piece: &Piece) -> (String, u64) {
    match piece.place {
        Place::Large(id) => (format!("large/{}", id.as_simple()), 0),
        Place::Packed { segment, offset } => (format!("packed/{segment:016x}"), offset),
    }
}

/// A sealed segment of a piece, and where it is.
struct Part<'c> {
    cipher: &'c Cipher,
    number: u64,
    last: bool,
    offset: u64,
}

impl Part<'_> {
    /// Reads it, and says what is wrong with it.
    fn read(&self, file: &File, buffer: &mut [u8]) -> Result<(), Wrong> {
        file.read_exact_at(buffer, self.offset).map_err(|cause| match cause.kind() {
            ErrorKind::UnexpectedEof => Wrong::Cut,
            _ => Wrong::Unreadable,
        })?;
        self.cipher.open(self.number, self.last, buffer).map(drop).map_err(|_| Wrong::Changed)
    }
}

/// Repairs a piece from a copy of its file.
struct Mender {
    copy: PathBuf,
    path: PathBuf,
    open: Option<(File, File)>,
    is_new: bool,
}

impl Mender {
    fn new(copy: PathBuf, path: PathBuf) -> Mender {
        Mender { copy, path, open: None, is_new: false }
    }

    /// Takes a sealed segment from the copy, if it opens there, and writes it here; whether it opens here then.
    fn mend(&mut self, part: &Part<'_>, buffer: &mut [u8]) -> Result<bool, Error> {
        if self.open.is_none() {
            let copy = match File::open(&self.copy) {
                Ok(copy) => copy,
                Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(false),
                Err(cause) => return Err(at(&self.copy)(cause)),
            };
            // Nothing is made here for which there is nothing there.
            if part.read(&copy, buffer).is_err() {
                return Ok(false);
            }
            self.is_new = !self.path.exists();
            let mut ours = OpenOptions::new();
            ours.read(true).write(true).create(true).truncate(false).mode(0o600);
            self.open = Some((copy, ours.open(&self.path).map_err(at(&self.path))?));
        }
        let Some((copy, ours)) = &self.open else { return Ok(false) };
        let mut sealed = vec![0; buffer.len()];
        if copy.read_exact_at(&mut sealed, part.offset).is_err() {
            return Ok(false);
        }
        // What is written is what was opened, and not what is read another time.
        buffer.copy_from_slice(&sealed);
        if part.cipher.open(part.number, part.last, buffer).is_err() {
            return Ok(false);
        }
        ours.write_all_at(&sealed, part.offset).map_err(at(&self.path))?;
        Ok(part.read(ours, buffer).is_ok())
    }

    /// Makes what was written durable.
    fn finish(self) -> Result<(), Error> {
        let Some((_, ours)) = self.open else { return Ok(()) };
        ours.sync_all().map_err(at(&self.path))?;
        match self.path.parent() {
            Some(directory) if self.is_new => segments::sync_directory(directory),
            _ => Ok(()),
        }
    }
}

/// A key of a bucket of a project.
type Name = (String, String, Vec<u8>);

/// Behind which row a walk over all rows with bytes is.
enum Cursor {
    Objects(Option<Name>),
    Versions(Option<(Name, u64)>),
    Uploads(Option<(Name, u128)>),
    End,
}

/// The next few rows that have bytes. Those that cannot be read are left out: [`Agreement`] names them.
fn gather(index: &ReadTransaction, cursor: Cursor) -> Result<(Vec<Item>, Cursor), Error> {
    let mut items = Vec::new();
    let mut pieces = 0;
    match cursor {
        Cursor::Objects(after) => {
            let from = after.as_ref().map(|(project, bucket, key)| (project.as_str(), bucket.as_str(), key.as_slice()));
            let from = from.map_or(Bound::Unbounded, Bound::Excluded);
            for entry in index.open_table(OBJECTS)?.range((from, Bound::Unbounded))? {
                let (key, row) = entry?;
                let name = owned(key.value());
                if let Ok(row) = rows::decode::<ObjectRow>("an object", row.value()) {
                    push(index, &mut items, &mut pieces, &name, &row)?;
                }
                if pieces >= AT_ONCE {
                    return Ok((items, Cursor::Objects(Some(name))));
                }
            }
            Ok((items, Cursor::Versions(None)))
        }
        Cursor::Versions(after) => {
            let from = after
                .as_ref()
                .map(|((project, bucket, key), number)| (project.as_str(), bucket.as_str(), key.as_slice(), *number));
            let from = from.map_or(Bound::Unbounded, Bound::Excluded);
            for entry in index.open_table(VERSIONS)?.range((from, Bound::Unbounded))? {
                let (key, row) = entry?;
                let (project, bucket, key, number) = key.value();
                let name = owned((project, bucket, key));
                match versions::decode(row.value()) {
                    Ok(VersionRow::Object(row)) => push(index, &mut items, &mut pieces, &name, &row)?,
                    Ok(VersionRow::Marker(_)) | Err(_) => pieces += 1,
                }
                if pieces >= AT_ONCE {
                    return Ok((items, Cursor::Versions(Some((name, number)))));
                }
            }
            Ok((items, Cursor::Uploads(None)))
        }
        Cursor::Uploads(after) => {
            let from = after
                .as_ref()
                .map(|((project, bucket, key), id)| (project.as_str(), bucket.as_str(), key.as_slice(), *id));
            let from = from.map_or(Bound::Unbounded, Bound::Excluded);
            for entry in index.open_table(UPLOADS)?.range((from, Bound::Unbounded))? {
                let (key, upload) = entry?;
                let (project, bucket, key, id) = key.value();
                let name = owned((project, bucket, key));
                pieces += 1;
                if let Ok(upload) = rows::decode::<UploadRow>("an upload", upload.value()) {
                    let customer = matches!(upload.sealing, Sealing::Customer { .. });
                    let parts = match index::parts(&index.open_table(PARTS)?, Uuid::from_u128(id), 0, usize::MAX) {
                        Err(Error::Damaged { .. }) => Vec::new(),
                        result => result?,
                    };
                    for (number, part) in parts {
                        let (project, bucket, key) = name.clone();
                        let part_of = Some((Uuid::from_u128(id), number));
                        let owner = Owner { project, bucket, key, version: None, part: part_of };
                        let held = part.piece.into_iter().map(|piece| (0, piece)).collect();
                        items.push(Item { owner, customer, pieces: held });
                        pieces += 1;
                    }
                }
                if pieces >= AT_ONCE {
                    return Ok((items, Cursor::Uploads(Some((name, id)))));
                }
            }
            Ok((items, Cursor::End))
        }
        Cursor::End => Ok((items, Cursor::End)),
    }
}

fn owned((project, bucket, key): (&str, &str, &[u8])) -> Name {
    (project.to_owned(), bucket.to_owned(), key.to_vec())
}

fn push(
    index: &ReadTransaction,
    items: &mut Vec<Item>,
    count: &mut usize,
    (project, bucket, key): &Name,
    row: &ObjectRow,
) -> Result<(), Error> {
    let pieces = match pieces(index, row) {
        Err(Error::Damaged { .. }) => Vec::new(),
        result => result?,
    };
    *count += 1 + pieces.len();
    let owner = Owner {
        project: project.clone(),
        bucket: bucket.clone(),
        key: key.clone(),
        version: Some(row.id()),
        part: None,
    };
    items.push(Item { owner, customer: matches!(row.sealing, Sealing::Customer { .. }), pieces });
    Ok(())
}

/// The pieces of an object, with the byte at which each begins.
pub fn pieces(index: &ReadTransaction, row: &ObjectRow) -> Result<Vec<(u64, Piece)>, Error> {
    match &row.data {
        Data::Empty => Ok(Vec::new()),
        Data::One(piece) => Ok(vec![(0, piece.clone())]),
        Data::Many(id) => {
            let pieces = index::pieces(&index.open_table(PIECES)?, id.as_u128(), 0, u64::MAX)?;
            Ok(pieces.into_iter().map(|(start, row)| (start, row.piece)).collect())
        }
    }
}

/// Finds files that no row names. Segment files are looked at only where nobody writes, and those alone that the log
/// does not need: what else is of no use in them goes with the next checkpoint.
fn unnamed(inner: &Inner, report: &mut Report) -> Result<(), Error> {
    let index = inner.index.read()?;
    let large = index.open_table(index::LARGE)?;
    let packed = index.open_table(index::SEGMENTS)?;
    let log = index.open_table(index::LOG)?.get("segment")?.map_or(0, |segment| segment.value());
    let kinds: &[&str] = if inner.as_it_is { &["large", "packed"] } else { &["large"] };
    for kind in kinds {
        let directory = inner.directory().join(kind);
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let name = entry.map_err(at(&directory))?.file_name();
            let name = name.to_string_lossy();
            let is_named = match *kind {
                "large" => match Uuid::try_parse(&name) {
                    Ok(id) => large.get(id.as_u128())?.is_some(),
                    Err(_) => false,
                },
                _ => match u64::from_str_radix(&name, 16) {
                    // Without a log the number is above all.
                    Ok(id) => id >= log || packed.get(id)?.is_some(),
                    Err(_) => false,
                },
            };
            if !is_named {
                report.unnamed_files += 1;
                if report.unnamed.len() < MOST_LISTED {
                    report.unnamed.push(format!("{kind}/{name}"));
                }
            }
        }
    }
    Ok(())
}

/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);
/// A gentle check works for so long, then rests three times that,
const STRETCH: Duration = Duration::from_millis(20);
/// however slow a read was.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// Rows and pieces of one step.
const AT_ONCE: usize = 256;
/// The most of a kind that is listed.
const MOST_LISTED: usize = 10_000;
