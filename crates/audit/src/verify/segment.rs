//! One segment file, held against the hashes of the tree.
//!
//! Three things say which hash a record has: its bytes, the tree's file, and the record after it, which names it. What
//! two of them say is taken for true, and proved or refuted by the signed root later; so that the one that was changed
//! is named, and the rest is still checked.

use crate::{
    files::{SEGMENTS, TREE},
    merkle::{self, Hash},
    record::{self, Frame, NOTHING},
    sealer::CUT,
    segments::{self, HEADER, Header},
    verify::report::{Finding, Place, Wrong},
};

/// What is known of a segment before it is read.
#[derive(Debug)]
pub struct Part {
    /// The number that the file is named by.
    pub number: u64,
    /// The leaves that are in it, as far as they are signed.
    pub leaves: std::ops::Range<u64>,
    /// Whether its header is as it should be.
    pub header: bool,
    /// What the file after it says that the last hash of this one is.
    pub last: Option<Hash>,
    /// Whether the log ends in it.
    pub is_last: bool,
}

/// What was found in it.
#[derive(Debug, Default)]
pub struct Found {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Leaves whose hash is another than the tree's file says, or that are not in it.
    pub corrected: Vec<(u64, Hash)>,
    /// Where the numbers of entries do not go on from the leaf before: leaf and number.
    pub numbers: Vec<(u64, u64)>,
    /// What entries of retention say that was removed: leaves below the size, and the root there.
    pub cuts: Vec<CutSaid>,
    /// Records beyond what is signed.
    pub tail: Vec<Tail>,
    /// What the first record says that the hash before it is, if that record is what was sealed: number and place.
    pub follows: Option<(Hash, u64, u64)>,
    /// Leaves that are in no file.
    pub lost: Vec<u64>,
}

/// What an entry of retention says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutSaid {
    /// The last number that was removed.
    pub through: u64,
    /// Leaves that were removed.
    pub size: u64,
    /// The root of those.
    pub root: Hash,
}

/// A record that is not signed yet.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Its entry's number.
    pub number: u64,
    /// The hash before it.
    pub previous: Hash,
    /// Its hash.
    pub hash: Hash,
    /// Its file.
    pub segment: u64,
    /// Where it begins.
    pub offset: u64,
}

/// A record that was found at the place of a leaf.
#[derive(Debug, Clone, Copy)]
struct Record {
    hash: Hash,
    previous: Hash,
    number: u64,
    offset: u64,
    /// Whether the tree says that it belongs there.
    known: bool,
    moved: bool,
}

/// Reads the segment `bytes`; `tree` holds the hashes of its leaves, as far as the tree's file has them.
pub fn read(part: &Part, bytes: &[u8], tree: &[Hash]) -> Found {
    let mut reader = Reader {
        part,
        bytes,
        tree,
        records: vec![None; usize::try_from(part.leaves.end - part.leaves.start).unwrap_or(0)],
        holes: Vec::new(),
        expected: 0,
        last_number: part.number - 1,
        found: Found::default(),
        claims: Vec::new(),
    };
    reader.read();
    reader.judge()
}

struct Reader<'a> {
    part: &'a Part,
    bytes: &'a [u8],
    tree: &'a [Hash],
    /// By leaf, from the first of the segment.
    records: Vec<Option<Record>>,
    /// Bytes that are no record: where they begin, and for which leaves they stand.
    holes: Vec<(u64, std::ops::Range<usize>)>,
    /// The leaf that comes next.
    expected: usize,
    last_number: u64,
    found: Found,
    claims: Vec<(usize, CutSaid)>,
}

impl Reader<'_> {
    fn read(&mut self) {
        let mut at = HEADER;
        while at < self.bytes.len() {
            if self.expected >= self.records.len() {
                return self.read_tail(at);
            }
            match record::frame(self.bytes, at) {
                Frame::Whole(record) if self.place(record, at) => at += record::FRAME + record.len(),
                frame => match (self.next_known(at + 1), frame) {
                    (Some((next, leaf)), _) => {
                        self.holes.push((at as u64, self.expected..leaf));
                        at = next;
                    }
                    // The file ends within it.
                    (None, Frame::Torn) => return,
                    (None, _) => return self.holes.push((at as u64, self.expected..self.records.len())),
                },
            }
        }
    }

    /// Finds the leaf of a record; says no if what follows is no record, so that its length is not to be believed.
    fn place(&mut self, record: &[u8], at: usize) -> bool {
        let (hash, number) = (merkle::leaf(record), record::number(record));
        let found =
            Record { hash, previous: record::previous(record), number, offset: at as u64, known: true, moved: false };
        match self.leaf_of(&hash, number) {
            Some(leaf) if self.records[leaf].is_some_and(|there| there.known) => {
                self.forged(&found, "stands there a second time");
            }
            Some(leaf) => {
                // What took its place was put in.
                if let Some(other) = self.records[leaf].take() {
                    self.forged(&other, "was never sealed");
                }
                // One that came too early is told by what follows on it.
                let next = match leaf > self.expected {
                    true => self.hash_at(at + record::FRAME + record.len()),
                    false => None,
                };
                let follows = |leaf: usize| next.is_some() && self.tree.get(leaf) == next.as_ref();
                let (stays, swapped) = (follows(self.expected), follows(self.expected + 1));
                let moved = leaf < self.expected || stays || swapped;
                self.records[leaf] = Some(Record { moved, ..found });
                if swapped && !stays {
                    self.expected += 1;
                    self.last_number += 1;
                } else if !moved {
                    self.expected = leaf + 1;
                    self.last_number = number;
                }
                self.claims.extend(cut_of(record).map(|cut| (leaf, cut)));
            }
            None => {
                let next = at + record::FRAME + record.len();
                if next < self.bytes.len() && record::frame(self.bytes, next) == Frame::Other {
                    return false;
                }
                self.records[self.expected] = Some(Record { known: false, ..found });
                self.expected += 1;
                // Its own number may be what was changed; where no tree vouches for it, the next is held against it.
                self.last_number = if self.tree.is_empty() { number } else { self.last_number + 1 };
            }
        }
        true
    }

    /// The leaf that the tree has this hash for: the next, or where the number says.
    fn leaf_of(&self, hash: &Hash, number: u64) -> Option<usize> {
        if self.tree.get(self.expected) == Some(hash) {
            return Some(self.expected);
        }
        let away = i64::try_from(i128::from(number) - i128::from(self.last_number) - 1).ok()?;
        let leaf = self.expected.checked_add_signed(isize::try_from(away).ok()?)?;
        (leaf < self.records.len() && self.tree.get(leaf) == Some(hash)).then_some(leaf)
    }

    /// The hash of the record that stands at a place.
    fn hash_at(&self, at: usize) -> Option<Hash> {
        match (at < self.bytes.len()).then(|| record::frame(self.bytes, at))? {
            Frame::Whole(record) => Some(merkle::leaf(record)),
            _ => None,
        }
    }

    /// The next place with a record that the tree knows, and its leaf.
    fn next_known(&self, from: usize) -> Option<(usize, usize)> {
        let rest = self.bytes.get(from..)?;
        let marks = rest.windows(record::MARK.len()).enumerate().filter(|(_, window)| *window == record::MARK);
        marks.map(|(at, _)| from + at).find_map(|at| match record::frame(self.bytes, at) {
            Frame::Whole(record) => {
                let leaf = self.leaf_of(&merkle::leaf(record), record::number(record))?;
                Some((at, leaf)).filter(|_| leaf >= self.expected)
            }
            _ => None,
        })
    }

    /// Records beyond the last that is signed.
    fn read_tail(&mut self, mut at: usize) {
        while at < self.bytes.len() {
            let Frame::Whole(record) = record::frame(self.bytes, at) else { return };
            let (previous, number) = (record::previous(record), record::number(record));
            let (hash, segment) = (merkle::leaf(record), self.part.number);
            self.found.tail.push(Tail { number, previous, hash, segment, offset: at as u64 });
            at += record::FRAME + record.len();
        }
    }

    fn forged(&mut self, record: &Record, what: &str) {
        let finding = Finding::entries(Place::Log, Wrong::Forged, record.number, record.number, what);
        self.found.findings.push(finding.at(self.file(), record.offset));
    }

    fn file(&self) -> String {
        format!("{SEGMENTS}/{}", segments::name(self.part.number))
    }

    /// Decides for each leaf which hash is its own, and says what does not agree with that.
    fn judge(mut self) -> Found {
        let file = self.file();
        let finding = |place, wrong, from, through, what: &str, offset| {
            let file = if place == Place::Tree { format!("{TREE}/0") } else { file.clone() };
            Finding::entries(place, wrong, from, through, what).at(file, offset)
        };
        let after = self.offsets_after();
        let mut findings = std::mem::take(&mut self.found.findings);
        if !self.part.header {
            let (number, what) = (self.part.number, "the header of the segment is not as it was written");
            findings.push(finding(Place::Log, Wrong::Changed, number, number, what, 0));
        }
        let (mut before, mut number, mut gone_from) = (None, self.part.number - 1, None);
        for at in 0..self.records.len() {
            let leaf = self.part.leaves.start + at as u64;
            let (record, tree) = (self.records[at], self.tree.get(at).copied());
            let hash = self.hash_of(at);
            let is_true = record.is_some_and(|record| record.hash == hash);
            if tree != Some(hash) {
                self.found.corrected.push((leaf, hash));
            }
            let expected = number + 1;
            number = match record {
                Some(record) if is_true && record.number > number => record.number,
                _ => expected,
            };
            if at == 0 || number != expected {
                self.found.numbers.push((leaf, number));
            }
            if tree.is_some_and(|tree| tree != hash) {
                let what = "the hash of the entry in the tree is not that of what was sealed";
                findings.push(finding(Place::Tree, Wrong::Changed, number, number, what, leaf * 32));
            }
            let mut tell = |wrong, what, offset| {
                findings.push(finding(Place::Log, wrong, number, number, what, offset));
            };
            match record {
                Some(Record { offset, .. }) if !is_true => {
                    tell(Wrong::Changed, "its bytes are not those that were sealed", offset);
                }
                Some(record) => {
                    if record.number != number {
                        tell(Wrong::Forged, "its number does not follow on the one before", record.offset);
                    } else if record.moved {
                        tell(Wrong::Reordered, "does not stand where it was sealed", record.offset);
                    }
                    if before.is_some_and(|before| before != record.previous) {
                        tell(Wrong::Forged, DOES_NOT_FOLLOW, record.offset);
                    }
                    if at == 0 {
                        self.found.follows = Some((record.previous, number, record.offset));
                    }
                    if number > expected && at > 0 {
                        let what = "was not in the database any more when the entry after it was sealed";
                        findings.push(finding(Place::Log, Wrong::Missing, expected, number - 1, what, record.offset));
                    }
                    let cut = self.claims.iter().find(|(leaf, _)| *leaf == at);
                    self.found.cuts.extend(cut.map(|(_, cut)| cut.clone()));
                }
                None => {
                    self.found.lost.push(leaf);
                    let from = *gone_from.get_or_insert(number);
                    let (wrong, what, offset) = self.gone(at, &after);
                    // One finding for all that are gone side by side in the same way.
                    let goes_on = self.records.get(at + 1).is_some_and(Option::is_none);
                    if !goes_on || self.gone(at + 1, &after) != (wrong, what, offset) {
                        findings.push(finding(Place::Log, wrong, from, number, what, offset));
                        gone_from = None;
                    }
                }
            }
            before = Some(hash);
        }
        Found { findings, ..self.found }
    }

    /// The hash of a leaf, as most of those say that know it.
    fn hash_of(&self, at: usize) -> Hash {
        let own = self.records[at].map(|record| record.hash);
        let named = match self.records.get(at + 1) {
            Some(next) => next.map(|next| next.previous),
            None => self.part.last,
        };
        match (own, self.tree.get(at).copied()) {
            (Some(own), Some(_)) if named == Some(own) => own,
            (_, Some(tree)) => tree,
            (own, None) => own.or(named).unwrap_or(NOTHING),
        }
    }

    /// For each leaf, where the next record stands that is in its place.
    fn offsets_after(&self) -> Vec<Option<u64>> {
        let mut next = None;
        let mut offsets: Vec<Option<u64>> = Vec::with_capacity(self.records.len());
        for record in self.records.iter().rev() {
            next = record.filter(|record| !record.moved).map(|record| record.offset).or(next);
            offsets.push(next);
        }
        offsets.reverse();
        offsets
    }

    /// In which way a leaf without a record is gone, and where.
    fn gone(&self, at: usize, after: &[Option<u64>]) -> (Wrong, &'static str, u64) {
        if let Some((offset, _)) = self.holes.iter().find(|(_, leaves)| leaves.contains(&at)) {
            return (Wrong::Changed, "its bytes are not those that were sealed", *offset);
        }
        match after.get(at).copied().flatten() {
            Some(offset) => (Wrong::Missing, "is not there", offset),
            None if self.part.is_last => (Wrong::CutOff, GONE_TO_THE_END, self.bytes.len() as u64),
            None => (Wrong::Missing, "is not there", self.bytes.len() as u64),
        }
    }
}

/// What an entry of retention says; `None` for any other, and if it is not of its form.
pub fn cut_of(record: &[u8]) -> Option<CutSaid> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let texts = record::texts(record).filter(|texts| texts[ACTION] == Some(CUT.as_bytes()))?;
    let detail: serde_json::Value = serde_json::from_slice(texts[DETAIL]?).ok()?;
    let root = STANDARD.decode(detail["root"].as_str()?).ok()?.try_into().ok()?;
    Some(CutSaid { through: detail["through"].as_u64()?, size: detail["size"].as_u64()?, root })
}

/// The header of a file, if it is one for this number and its hash is that of the record before.
pub fn good_header(bytes: &[u8], number: u64, guess: u64, tree: impl Fn(u64) -> Option<Hash>) -> Option<Header> {
    let header = Header::parse(bytes).filter(|header| header.number == number)?;
    let by_tree = match header.leaf.checked_sub(1) {
        None => Some(NOTHING),
        Some(before) => tree(before),
    };
    let by_record = match bytes.len() > HEADER {
        true => match record::frame(bytes, HEADER) {
            Frame::Whole(record) => Some(record::previous(record)),
            _ => None,
        },
        false => None,
    };
    let agrees = by_tree == Some(header.previous) || header.leaf == guess && by_record == Some(header.previous);
    agrees.then_some(header)
}

/// What is said of entries at the end of the log.
pub const GONE_TO_THE_END: &str = "is not there, nor is what came after it";
/// What is said of an entry that names another than the one before it.
pub const DOES_NOT_FOLLOW: &str = "does not follow on the entry before it";
/// Where the action stands among the texts of an entry.
const ACTION: usize = 3;
const DETAIL: usize = 8;
