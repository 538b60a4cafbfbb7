//! Checks that the log is whole: each record, the tree over them, each signed checkpoint, and the database's copy.
//! Reads only, works beside a process that seals, and needs nothing but the files and a public key.
//!
//! First the segments are held against the tree's file and each record against the next; then the tree is computed anew
//! and its root compared with each checkpoint; so an entry that is not named as wrong is one that was signed.
//! Start at [`run`].

mod report;
mod segment;

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use db::{
    Db,
    audit::{Fault, Raw, Sealed},
};

pub use report::{Finding, Place, Report, Wrong};
pub(crate) use segment::cut_of;

use crate::{
    files::{CHECKPOINTS, READING, SEGMENTS, TREE, unsigned},
    merkle::{self, Hash, Hashes, TILE},
    note::{self, Checkpoint, VerifierKey},
    record::{self, NOTHING},
    segments::{self, HEADER},
    tree::{self, Tree},
};
use segment::{CutSaid, Found, GONE_TO_THE_END, Part, Tail};

/// Why a log could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the audit log's database cannot be read")]
    Db(#[from] db::Error),
    /// A file failed.
    #[error("the files of the audit log cannot be read")]
    Io(#[from] io::Error),
}

/// Checks the log in `directory` and its copy in `db`, with notes that were kept elsewhere: for each a name for people
/// and its bytes. What it waits for is the disk; it takes all processors.
pub async fn run(db: &Db, directory: &Path, key: &VerifierKey, against: &[(String, Vec<u8>)]) -> Result<Report, Error> {
    let sealed = db::audit::sealed(db).await?;
    let mut check = Check::begin(&Subject { directory, key, sealed: sealed.as_ref(), against })?;
    loop {
        match db::audit::raw(db, check.wants_rows_after(), ROWS).await {
            Ok(rows) if rows.is_empty() => break,
            Ok(rows) => check.rows(&rows)?,
            Err(cause) => {
                check.unreadable(&cause);
                break;
            }
        }
    }
    // Within the check, which keeps retention from removing rows meanwhile.
    match db::audit::faults(db).await {
        Ok(faults) => check.faults(&faults),
        Err(cause) => {
            let what = format!("SQLite cannot check the table and its indexes: {cause}");
            check.faults(&[Fault { entry: None, what }]);
        }
    }
    Ok(check.finish(db::audit::newest(db).await?)?)
}

/// What is checked.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Directory of the log.
    pub directory: &'a Path,
    /// The public key that checkpoints are signed for.
    pub key: &'a VerifierKey,
    /// What the database says of the sealed log, read before the check begins.
    pub sealed: Option<&'a Sealed>,
    /// Notes that were kept elsewhere: a name for people, and the bytes.
    pub against: &'a [(String, Vec<u8>)],
}

/// A check whose files are read, and that goes on with the rows of the database.
#[derive(Debug)]
pub struct Check {
    report: Report,
    findings: Vec<Finding>,
    numbers: Numbers,
    tree: Computed,
    lost: Vec<u64>,
    /// Up to which number rows may be missing: retention lets them go before it removes their segments.
    cut: u64,
    tail: Vec<Tail>,
    /// The leaf whose row comes next, its hash before, and hashes of leaves that were read ahead.
    row: u64,
    previous: Hash,
    ahead: std::collections::VecDeque<Hash>,
    newest_row: u64,
    /// The last row that was looked at, whatever its number.
    after: Option<i64>,
    /// Rows below number 1: the first, the last, how many.
    below: Option<(i64, i64, u64)>,
    tail_at: usize,
    buffer: Vec<u8>,
    /// Held so that nothing is removed meanwhile.
    _reading: Option<File>,
}

impl Check {
    /// Checks the files. Fails only if they cannot be looked at.
    pub fn begin(subject: &Subject<'_>) -> io::Result<Check> {
        let reading = match File::open(subject.directory.join(READING)) {
            Ok(file) => {
                file.lock_shared()?;
                Some(file)
            }
            Err(_) => None,
        };
        let mut findings = Vec::new();
        let notes = Notes::read(subject, &mut findings)?;
        let size = notes.good.iter().map(|signed| signed.checkpoint.size).max().unwrap_or(0);
        let files = Tree::read_only(&subject.directory.join(TREE), size);
        let log = Log::read(subject, &files, size, &mut findings)?;

        if subject.sealed.is_none() && size > 0 {
            let what = "the database does not say up to where the log is sealed";
            findings.push(Finding::of(Place::Checkpoints, Wrong::Missing, what));
        }
        if size < log.first {
            let what = "no checkpoint is of as many entries as there are";
            findings.push(Finding::of(Place::Checkpoints, Wrong::CutOff, what));
        }
        let tree = Computed::new(files, size, log.first, log.corrected, &mut findings)?;
        let numbers = Numbers(log.numbers);
        let cut = log.cuts.iter().max_by_key(|cut| cut.size);
        judge_beginning(log.first, cut, &tree, &numbers, &mut findings)?;
        let (proved, unproved) = notes.prove(&tree, log.first, &numbers, &mut findings)?;

        let newest = notes.good.iter().max_by_key(|signed| signed.checkpoint.size);
        let report = Report {
            size,
            root: hex::encode(if size >= log.first { merkle::root(&tree, size)? } else { NOTHING }),
            signed: newest.map(|signed| signed.checkpoint.time),
            first: (size > log.first).then(|| numbers.of(log.first)),
            through: (size > log.first).then(|| numbers.of(size - 1)),
            removed: log.first,
            segments: log.segments,
            bytes: log.bytes,
            checkpoints: proved,
            unproved,
            ..Report::default()
        };
        let cut = cut.map_or(0, |cut| cut.through);
        let row = log.first.min(size);
        let previous = if row == 0 { NOTHING } else { tree.read(0, row - 1, 1)?[0] };
        Ok(Check {
            report,
            findings,
            numbers,
            tree,
            lost: log.lost,
            cut,
            tail: log.tail,
            row,
            previous,
            ahead: std::collections::VecDeque::new(),
            newest_row: 0,
            after: None,
            below: None,
            tail_at: 0,
            buffer: Vec::new(),
            _reading: reading,
        })
    }

    /// The number after which rows are wanted; all from the lowest on if `None`.
    pub fn wants_rows_after(&self) -> Option<i64> {
        self.after
    }

    /// Checks rows of the database, which come in the order of their numbers, all after [`Check::wants_rows_after`].
    pub fn rows(&mut self, rows: &[Raw]) -> io::Result<()> {
        for row in rows {
            self.after = Some(row.number);
            let number = unsigned(row.number);
            if number == 0 {
                let (first, _, count) = self.below.unwrap_or((row.number, row.number, 0));
                self.below = Some((first, row.number, count + 1));
                continue;
            }
            let before = self.newest_row.max(self.cut).max(self.report.through.unwrap_or(0));
            self.newest_row = number;
            self.skip_rows(number)?;
            match self.row < self.report.size {
                true if self.numbers.of(self.row) == number => {
                    let hash = self.next_hash()?;
                    let is_lost = self.lost.binary_search(&(self.row - 1)).is_ok() && hash == NOTHING;
                    if self.hash_of(row) != hash && !is_lost {
                        self.tell(Wrong::Changed, number, number, "its row is not what was sealed");
                    }
                    self.previous = hash;
                }
                // Rows go before their segments do: where a segment is gone, none is left that retention may still remove.
                true if number <= self.cut && self.report.first.is_some_and(|first| number < first) => {
                    self.forged_row(number, "retention removed it, and there is a row");
                }
                true => self.forged_row(number, "there is a row, and it was never sealed"),
                false => self.unsigned_row(row, number, before),
            }
        }
        Ok(())
    }

    /// What SQLite found in the table and its indexes.
    pub fn faults(&mut self, faults: &[Fault]) {
        for Fault { entry, what } in faults {
            let finding = match entry.map(unsigned) {
                Some(number @ 1..) => Finding::entries(Place::Indexes, Wrong::Changed, number, number, what),
                _ => Finding::of(Place::Indexes, Wrong::Changed, what),
            };
            self.findings.push(finding);
        }
    }

    /// Says that the rows after those that were checked cannot be read.
    pub fn unreadable(&mut self, cause: &db::Error) {
        let (from, through) = (self.newest_row.max(self.cut) + 1, self.report.through.unwrap_or(0));
        let what = format!("rows from here on cannot be read: {cause}");
        self.tell(Wrong::Changed, from, through.max(from), &what);
        self.row = self.report.size;
        self.tail.clear();
    }

    /// Tells of rows that should be before this number and are not.
    fn skip_rows(&mut self, number: u64) -> io::Result<()> {
        let mut missing: Option<(u64, u64)> = None;
        while self.row < self.report.size && self.numbers.of(self.row) < number {
            let this = self.numbers.of(self.row);
            if this > self.cut {
                missing = Some((missing.map_or(this, |(from, _)| from), this));
            }
            self.previous = self.next_hash()?;
        }
        if let Some((from, through)) = missing {
            let wrong = if number == u64::MAX { Wrong::CutOff } else { Wrong::Missing };
            self.tell(wrong, from, through, "it was sealed, and its row is not there");
        }
        Ok(())
    }

    /// A row beyond what is signed: if it is in the files already, it is there as it is here.
    fn unsigned_row(&mut self, row: &Raw, number: u64, before: u64) {
        self.report.unsigned += 1;
        if number > before + 1 {
            self.tell(Wrong::Missing, before + 1, number - 1, "its row is not there; it was not signed yet");
        }
        while self.tail.get(self.tail_at).is_some_and(|tail| tail.number < number) {
            let tail = self.tail[self.tail_at].clone();
            self.forged_tail(&tail);
            self.tail_at += 1;
        }
        let Some(tail) = self.tail.get(self.tail_at).filter(|tail| tail.number == number).cloned() else { return };
        self.tail_at += 1;
        self.previous = tail.previous;
        if self.hash_of(row) != tail.hash {
            self.forged_tail(&tail);
        }
    }

    /// Tells of a row that should not be there, together with those of the same kind right before it.
    fn forged_row(&mut self, number: u64, what: &str) {
        let last = self.findings.last_mut();
        match last.filter(|last| last.through == Some(number - 1) && last.what == what) {
            Some(last) => last.through = Some(number),
            None => self.tell(Wrong::Forged, number, number, what),
        }
    }

    fn forged_tail(&mut self, tail: &Tail) {
        let what = "stands behind what is signed, and the database does not have it so";
        let finding = Finding::entries(Place::Log, Wrong::Forged, tail.number, tail.number, what);
        self.findings.push(finding.at(format!("{SEGMENTS}/{}", segments::name(tail.segment)), tail.offset));
    }

    /// Says what is wrong. `newest` is what [`db::audit::newest`] says after the last row was read.
    pub fn finish(mut self, newest: (i64, i64)) -> io::Result<Report> {
        self.skip_rows(u64::MAX)?;
        if let Some((first, last, count)) = self.below {
            let what = match count {
                1 => format!("there is a row of the number {first}, and entries have numbers from 1 on"),
                _ => format!(
                    "there are {count} rows with numbers from {first} to {last}, and entries have them from 1 on"
                ),
            };
            self.findings.push(Finding::of(Place::Table, Wrong::Forged, what));
        }
        for tail in self.tail.split_off(self.tail_at.min(self.tail.len())) {
            self.forged_tail(&tail);
        }
        let (there, given) = (unsigned(newest.0).max(self.cut), unsigned(newest.1));
        let signed = self.report.through.unwrap_or(0);
        if given > there.max(signed) {
            self.tell(Wrong::CutOff, there.max(signed) + 1, given, "its row is not there; it was not signed yet");
        }
        self.findings.sort();
        self.findings.dedup();
        self.report.more = self.findings.len().saturating_sub(MOST) as u64;
        self.findings.truncate(MOST);
        self.report.whole = self.findings.is_empty();
        self.report.findings = self.findings;
        Ok(self.report)
    }

    fn hash_of(&mut self, row: &Raw) -> Hash {
        self.buffer.clear();
        let begin = record::append(&mut self.buffer, &self.previous, row);
        merkle::leaf(&self.buffer[begin..])
    }

    /// The hash of the leaf whose row comes next, which is then the one after.
    fn next_hash(&mut self) -> io::Result<Hash> {
        if self.ahead.is_empty() {
            let count = (self.report.size - self.row).min(AHEAD);
            self.ahead.extend(self.tree.read(0, self.row, usize::try_from(count).unwrap_or(0))?);
        }
        self.row += 1;
        Ok(self.ahead.pop_front().unwrap_or(NOTHING))
    }

    fn tell(&mut self, wrong: Wrong, from: u64, through: u64, what: &str) {
        self.findings.push(Finding::entries(Place::Table, wrong, from, through, what));
    }
}

/// A checkpoint whose signature is right.
struct Signed {
    place: Place,
    file: String,
    offset: u64,
    checkpoint: Checkpoint,
}

/// The checkpoints that there are.
struct Notes {
    good: Vec<Signed>,
}

impl Notes {
    fn read(subject: &Subject<'_>, findings: &mut Vec<Finding>) -> io::Result<Notes> {
        let bytes = match fs::read(subject.directory.join(CHECKPOINTS)) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut good = Vec::new();
        let own = opened(subject.key, Place::Checkpoints, CHECKPOINTS, &bytes, findings, &mut good);
        let mut previous = Some(NOTHING);
        for (offset, note, checkpoint) in &own {
            let follows = |previous| checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.previous == previous);
            if !previous.is_none_or(follows) {
                let what = "a checkpoint before this one is not there";
                let finding = Finding::of(Place::Checkpoints, Wrong::Missing, what);
                findings.push(finding.at(CHECKPOINTS, *offset as u64));
            }
            // What a damaged one was is not known.
            previous = checkpoint.as_ref().map(|_| note::hash(note));
        }
        let newest = subject.sealed.map_or("", |sealed| sealed.checkpoint.as_str());
        if let Some(checkpoint) = subject.key.open(newest.as_bytes()) {
            let end = subject.sealed.map_or(0, |sealed| unsigned(sealed.checkpoints));
            let is_there = own.iter().any(|(_, note, _)| *note == newest.as_bytes());
            let is_damaged = own.iter().any(|(offset, note, checkpoint)| {
                checkpoint.is_none() && (*offset + note.len()) as u64 >= end && (*offset as u64) < end
            });
            if !is_there && !is_damaged {
                let what =
                    format!("the newest checkpoint of the database, of {} entries, is not there", checkpoint.size);
                let finding = Finding::of(Place::Checkpoints, Wrong::CutOff, what);
                findings.push(finding.at(CHECKPOINTS, bytes.len() as u64));
            }
            if !is_there {
                good.push(Signed { place: Place::Checkpoints, file: "database".to_owned(), offset: 0, checkpoint });
            }
        } else if !newest.is_empty() {
            let what = "the newest checkpoint of the database is not as it was signed";
            findings.push(Finding::of(Place::Checkpoints, Wrong::Changed, what));
        } else if own.len() > 1 {
            // One may be written that the database does not know yet, and no more.
            let what = "the database does not have the newest checkpoint";
            findings.push(Finding::of(Place::Checkpoints, Wrong::Missing, what));
        }
        for (name, bytes) in subject.against {
            if opened(subject.key, Place::Against, name, bytes, findings, &mut good).is_empty() {
                findings.push(Finding::of(Place::Against, Wrong::Missing, format!("{name} has no checkpoint in it")));
            }
        }
        good.sort_by_key(|signed| signed.checkpoint.size);
        Ok(Notes { good })
    }

    /// Compares each with the root of the tree, and says how many are right, and how many cannot be compared any more.
    fn prove(
        &self,
        tree: &Computed,
        first: u64,
        numbers: &Numbers,
        findings: &mut Vec<Finding>,
    ) -> io::Result<(u64, u64)> {
        let provable = |signed: &&Signed| signed.checkpoint.size >= first && signed.checkpoint.size > 0;
        let signed: Vec<&Signed> = self.good.iter().filter(provable).collect();
        let roots = in_parallel(&signed, |signed| merkle::root(tree, signed.checkpoint.size));
        let (mut proved, mut sound, mut told) = (0, 0, false);
        for (signed, root) in signed.iter().zip(roots) {
            let size = signed.checkpoint.size;
            if root? == signed.checkpoint.root {
                (proved, sound) = (proved + 1, size);
                continue;
            }
            // What comes after the first that is not right is not right either, and says nothing more.
            if !told || signed.place == Place::Against {
                let what = format!("what there is is not what was signed as the first {size} entries");
                let from = numbers.of(sound.max(first).min(size - 1));
                let finding = Finding::entries(signed.place, Wrong::Forged, from, numbers.of(size - 1), what);
                findings.push(finding.at(&signed.file, signed.offset));
                told = true;
            }
        }
        let unproved = self.good.iter().filter(|signed| signed.checkpoint.size < first).count() as u64;
        Ok((proved, unproved))
    }
}

/// The notes of a file, each with where it begins and what it says if it is signed; all bad ones are told.
fn opened<'a>(
    key: &VerifierKey,
    place: Place,
    file: &str,
    bytes: &'a [u8],
    findings: &mut Vec<Finding>,
    good: &mut Vec<Signed>,
) -> Vec<(usize, &'a [u8], Option<Checkpoint>)> {
    let notes = note::split(bytes, key.origin());
    let opened = in_parallel(&notes, |(_, note)| key.open(note));
    let notes = notes.into_iter().zip(opened).map(|((offset, note), checkpoint)| (offset, note, checkpoint));
    let notes: Vec<_> = notes.collect();
    for (offset, _, checkpoint) in &notes {
        let offset = *offset as u64;
        match checkpoint.clone() {
            Some(checkpoint) => good.push(Signed { place, file: file.to_owned(), offset, checkpoint }),
            None => {
                let what = "is not a checkpoint that is signed with the key of this log";
                findings.push(Finding::of(place, Wrong::Changed, what).at(file, offset));
            }
        }
    }
    notes
}

/// What the segment files hold.
#[derive(Default)]
struct Log {
    /// The first leaf that is kept.
    first: u64,
    segments: u64,
    bytes: u64,
    corrected: HashMap<u64, Hash>,
    numbers: Vec<(u64, u64)>,
    cuts: Vec<CutSaid>,
    tail: Vec<Tail>,
    lost: Vec<u64>,
}

impl Log {
    fn read(subject: &Subject<'_>, tree: &Tree, size: u64, findings: &mut Vec<Finding>) -> io::Result<Log> {
        let directory = subject.directory.join(SEGMENTS);
        let numbers = segments::list(&directory)?;
        let parts = plan(&directory, &numbers, tree, size, subject.sealed)?;
        let read = in_parallel(&parts, |part| read_segment(&directory, part, tree));
        let first = parts.first().map_or(0, |part| part.leaves.start);
        let mut log = Log { first, segments: parts.len() as u64, ..Log::default() };
        let mut begins = Vec::new();
        for (part, read) in parts.iter().zip(read) {
            let (bytes, found) = read?;
            begins.extend(found.follows.map(|follows| (part, follows)));
            log.bytes += bytes;
            findings.extend(found.findings);
            log.corrected.extend(found.corrected);
            log.numbers.extend(found.numbers);
            log.cuts.extend(found.cuts);
            log.tail.extend(found.tail);
            log.lost.extend(found.lost);
        }
        for (part, (previous, number, offset)) in begins {
            let before = match part.leaves.start {
                0 => Some(NOTHING),
                leaf => log.corrected.get(&(leaf - 1)).copied().or_else(|| hash_in(tree, leaf - 1)),
            };
            if before.is_some_and(|before| before != previous) {
                let finding = Finding::entries(Place::Log, Wrong::Forged, number, number, segment::DOES_NOT_FOLLOW);
                findings.push(finding.at(format!("{SEGMENTS}/{}", segments::name(part.number)), offset));
            }
        }
        if parts.is_empty() && size > 0 {
            findings.push(Finding::entries(Place::Log, Wrong::CutOff, 1, size, GONE_TO_THE_END).at(SEGMENTS, 0));
            log.lost.extend(0..size);
        }
        log.numbers.sort_unstable();
        log.lost.sort_unstable();
        Ok(log)
    }
}

/// Which leaves are in which file.
fn plan(directory: &Path, numbers: &[u64], tree: &Tree, size: u64, sealed: Option<&Sealed>) -> io::Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::with_capacity(numbers.len());
    for number in numbers {
        let bytes = head(&segments::path(directory, *number))?;
        let guess = match parts.last() {
            Some(before) => before.leaves.start + (number - before.number),
            None => number - 1,
        };
        let header = segment::good_header(&bytes, *number, guess, |leaf| hash_in(tree, leaf));
        // Of a file whose header is damaged only the number is known; entries are numbered without gaps but for those
        // that were missing before they were sealed.
        let start = header.map_or(guess, |header| header.leaf);
        if let Some(before) = parts.last_mut() {
            before.last = header.map(|header| header.previous);
        }
        let (number, leaves, header) = (*number, start..start, header.is_some());
        parts.push(Part { number, leaves, header, last: None, is_last: false });
    }
    for at in 0..parts.len() {
        let next = parts.get(at + 1).map(|next| next.leaves.start);
        let part = &mut parts[at];
        // Leaves of a file that is missing between two are looked for in the one before.
        let end = next.unwrap_or(size);
        part.leaves.end = end.clamp(part.leaves.start, size.max(part.leaves.start));
        part.is_last = next.is_none() || part.leaves.end == size;
        if part.leaves.end != end {
            part.last = None;
        }
        if next.is_none() {
            part.last = sealed
                .filter(|sealed| unsigned(sealed.size) == size)
                .and_then(|sealed| <Hash>::try_from(sealed.leaf.as_slice()).ok());
        }
    }
    Ok(parts)
}

/// The hash of a leaf in the tree's file.
fn hash_in(tree: &Tree, leaf: u64) -> Option<Hash> {
    tree.read(0, leaf, 1).ok()?.first().copied()
}

/// The header of a file and its first record, or as much as there is.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut bytes)?;
    let length = bytes.get(HEADER + 4..).and_then(|rest| rest.first_chunk()).map(|length| u32::from_le_bytes(*length));
    let wanted = HEADER as u64 + record::FRAME as u64 + u64::from(length.unwrap_or(0));
    if wanted > HEAD && wanted <= fs::metadata(path)?.len() {
        bytes.clear();
        File::open(path)?.take(wanted).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn read_segment(directory: &Path, part: &Part, tree: &Tree) -> io::Result<(u64, Found)> {
    let bytes = fs::read(segments::path(directory, part.number))?;
    let count = usize::try_from(part.leaves.end - part.leaves.start).unwrap_or(0);
    // What the tree's file does not have it cannot vouch for.
    let hashes = tree.read(0, part.leaves.start, count).or_else(|_| {
        let there = (0..count).map_while(|at| tree.read(0, part.leaves.start + at as u64, 1).ok());
        Ok::<_, io::Error>(there.flatten().collect())
    })?;
    Ok((bytes.len() as u64, segment::read(part, &bytes, &hashes)))
}

/// If the log does not begin at its beginning, an entry of retention must say so, with the root of what is gone.
fn judge_beginning(
    first: u64,
    cut: Option<&CutSaid>,
    tree: &Computed,
    numbers: &Numbers,
    findings: &mut Vec<Finding>,
) -> io::Result<()> {
    if first == 0 {
        let number = if tree.size > 0 { numbers.of(0) } else { 1 };
        if number > 1 {
            let what = "was not in the database any more when the log was first sealed";
            findings.push(Finding::entries(Place::Log, Wrong::Missing, 1, number - 1, what));
        }
        return Ok(());
    }
    let said = cut.filter(|cut| cut.size >= first && cut.size <= tree.size);
    let is_right = match said {
        Some(cut) => merkle::root(tree, cut.size)? == cut.root,
        None => false,
    };
    if !is_right {
        let what = "is not there, and no entry says that retention removed it";
        findings.push(Finding::entries(Place::Log, Wrong::Missing, 1, numbers.of(first) - 1, what));
    }
    Ok(())
}

/// The tree as computed from the hashes of leaves that were found true.
#[derive(Debug)]
struct Computed {
    files: Tree,
    size: u64,
    corrected: HashMap<u64, Hash>,
    /// From level 1 on.
    levels: Vec<Vec<Hash>>,
}

impl Computed {
    /// Computes all levels; what retention removed is taken from the files, and proved by the roots.
    fn new(
        files: Tree,
        size: u64,
        first: u64,
        corrected: HashMap<u64, Hash>,
        findings: &mut Vec<Finding>,
    ) -> io::Result<Computed> {
        let mut tree = Computed { files, size, corrected, levels: Vec::new() };
        let removed = tree::first_kept(first) / TILE;
        for level in 1.. {
            let count = tree::count(size, level);
            if count == 0 {
                break;
            }
            let kept = if level == 1 { removed.min(count) } else { 0 };
            let mut hashes = tree.files.read(level, 0, usize::try_from(kept).unwrap_or(0)).unwrap_or_default();
            hashes.resize(usize::try_from(kept).unwrap_or(0), NOTHING);
            let tiles: Vec<u64> = (kept..count).collect();
            let computed = in_parallel(&tiles, |tile| {
                Ok::<_, io::Error>(merkle::fold(tree.read(level - 1, tile * TILE, TILE as usize)?))
            });
            for (tile, hash) in tiles.iter().zip(computed) {
                let hash = hash?;
                if tree.files.read(level, *tile, 1).ok().is_none_or(|there| there != [hash]) {
                    let what = "a hash of the tree is not that of the entries below it";
                    let finding = Finding::of(Place::Tree, Wrong::Changed, what);
                    findings.push(finding.at(format!("{TREE}/{level}"), tile * 32));
                }
                hashes.push(hash);
            }
            tree.levels.push(hashes);
        }
        Ok(tree)
    }
}

impl Hashes for Computed {
    fn read(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>> {
        let from = usize::try_from(first).unwrap_or(usize::MAX);
        if let Some(above) = level.checked_sub(1) {
            let hashes = self.levels.get(above as usize).and_then(|hashes| hashes.get(from..from.checked_add(count)?));
            return hashes.map(<[Hash]>::to_vec).ok_or_else(|| io::Error::other("the tree has no such hash"));
        }
        // What cannot be read is not what was signed, and is told of by the roots.
        let mut hashes = self.files.read(0, first, count).unwrap_or_else(|_| {
            let read = |leaf| self.files.read(0, leaf, 1).map_or(NOTHING, |hashes| hashes[0]);
            (first..first + count as u64).map(read).collect()
        });
        if !self.corrected.is_empty() {
            for (leaf, hash) in (first..).zip(&mut hashes) {
                *hash = self.corrected.get(&leaf).copied().unwrap_or(*hash);
            }
        }
        Ok(hashes)
    }
}

/// Which entry is which leaf: where numbers begin, and where they do not go on by one.
#[derive(Debug)]
struct Numbers(Vec<(u64, u64)>);

impl Numbers {
    /// The number of a leaf.
    fn of(&self, leaf: u64) -> u64 {
        let at = self.0.partition_point(|(from, _)| *from <= leaf);
        match at.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some((from, number)) => number + (leaf - from),
            None => leaf + 1,
        }
    }
}

/// Does the same with each of many things, on all processors, and keeps their order.
fn in_parallel<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(things.len());
    if threads <= 1 {
        return things.iter().map(work).collect();
    }
    let at_once = (things.len() / threads / 8).clamp(1, AT_ONCE);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(at_once, Ordering::Relaxed);
                    if from >= things.len() {
                        return;
                    }
                    let some = &things[from..things.len().min(from + at_once)];
                    let results: Vec<R> = some.iter().map(&work).collect();
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((from, results));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(from, _)| *from);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

/// The most findings that are listed.
const MOST: usize = 1000;
/// Rows that are read at once.
const ROWS: u32 = 4096;
/// Hashes that are read ahead for rows.
const AHEAD: u64 = 8192;
/// Bytes of a file that hold its header, and most first records.
const HEAD: u64 = 4096;
/// The most things that a thread takes at once.
const AT_ONCE: usize = 64;
