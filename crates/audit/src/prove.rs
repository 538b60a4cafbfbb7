//! Proofs for people who do not trust the service: that an entry is in the log, and that the log of a checkpoint is the
//! beginning of the log of a later one. Both can be verified with a public key alone.

use std::{fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use db::audit::Raw;

use crate::{
    files::{SEGMENTS, TREE},
    merkle::{self, Hash},
    note::{Checkpoint, VerifierKey},
    record::{self, Frame},
    segments::{self, HEADER, Header},
    tree::Tree,
};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The entry is not in the log.
    #[error("entry {0} is not in the sealed log: it was never written, is not signed yet, or retention removed it")]
    NoEntry(u64),
    /// A note is not one of this log.
    #[error("{0} is not a checkpoint that is signed with the key of this log")]
    NotSigned(String),
    /// A checkpoint of more than there is.
    #[error("the old checkpoint is of {old} entries, and the newest of {new}")]
    Later {
        /// Entries of the old.
        old: u64,
        /// Entries of the newest.
        new: u64,
    },
    /// The files do not give a proof that holds.
    #[error("what is in the files does not prove it: the log is not whole; `casemate audit verify` says more")]
    NotWhole,
    /// A text is not a proof.
    #[error("this is not a proof: {0}")]
    Malformed(&'static str),
    /// The proof does not hold.
    #[error("the proof does not hold: the entry is not in the log of this checkpoint")]
    DoesNotHold,
    /// A file could not be read.
    #[error("the files of the audit log cannot be read")]
    Io(#[from] io::Error),
}

/// That an entry is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The entry's record, whose hash is that of the leaf.
    pub record: Vec<u8>,
    /// Which leaf it is, from 0.
    pub index: u64,
    /// Hashes from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The checkpoint's note.
    pub note: String,
}

impl Inclusion {
    /// Proves that entry `number` is in the log of the checkpoint in `note`.
    pub fn of(directory: &Path, key: &VerifierKey, note: &str, number: u64) -> Result<Inclusion, Error> {
        let checkpoint = open(key, note, "the newest checkpoint")?;
        let (index, record) = find(&directory.join(SEGMENTS), number)?.ok_or(Error::NoEntry(number))?;
        if index >= checkpoint.size {
            return Err(Error::NoEntry(number));
        }
        let tree = Tree::read_only(&directory.join(TREE), checkpoint.size);
        let path = merkle::inclusion(&tree, index, checkpoint.size).map_err(|_| Error::NotWhole)?;
        let proof = Inclusion { record, index, path, note: note.to_owned() };
        proof.verify(key).map_err(|_| Error::NotWhole)?;
        Ok(proof)
    }

    /// Verifies it, and says what the entry and the checkpoint are.
    pub fn verify(&self, key: &VerifierKey) -> Result<(Raw, Checkpoint), Error> {
        let checkpoint = open(key, &self.note, "the note of the proof")?;
        let leaf = merkle::leaf(&self.record);
        if !merkle::proves_inclusion(&leaf, self.index, checkpoint.size, &self.path, &checkpoint.root) {
            return Err(Error::DoesNotHold);
        }
        Ok((record::raw(&self.record).ok_or(Error::Malformed("its entry cannot be read"))?, checkpoint))
    }
}

impl std::fmt::Display for Inclusion {
    /// As C2SP tlog-proof writes it, with the record as the extra data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{TLOG_PROOF}\nextra {}\nindex {}\n", STANDARD.encode(&self.record), self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.note)
    }
}

impl std::str::FromStr for Inclusion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Inclusion, Error> {
        let (head, note) = text.split_once("\n\n").ok_or(Error::Malformed("it has no checkpoint"))?;
        let mut lines = head.lines();
        if lines.next() != Some(TLOG_PROOF) {
            return Err(Error::Malformed("it does not begin as C2SP tlog-proof does"));
        }
        let extra = lines.next().and_then(|line| STANDARD.decode(line.strip_prefix("extra ")?).ok());
        let record = extra.ok_or(Error::Malformed("its second line has no entry"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")?.parse().ok());
        let index = index.ok_or(Error::Malformed("its third line has no index"))?;
        Ok(Inclusion { record, index, path: hashes(lines)?, note: note.to_owned() })
    }
}

/// That the log of a checkpoint is the beginning of the log of a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// Entries of the older checkpoint.
    pub old: u64,
    /// The proof of RFC 9162, section 2.1.4.
    pub path: Vec<Hash>,
    /// The note of the newer checkpoint.
    pub note: String,
}

impl Consistency {
    /// Proves it for the checkpoints in two notes.
    pub fn of(directory: &Path, key: &VerifierKey, old: &str, note: &str) -> Result<Consistency, Error> {
        let older = open(key, old, "the old checkpoint")?;
        let newer = open(key, note, "the newest checkpoint")?;
        if older.size > newer.size {
            return Err(Error::Later { old: older.size, new: newer.size });
        }
        let tree = Tree::read_only(&directory.join(TREE), newer.size);
        let path = match older.size {
            0 => Vec::new(),
            old => merkle::consistency(&tree, old, newer.size).map_err(|_| Error::NotWhole)?,
        };
        let proof = Consistency { old: older.size, path, note: note.to_owned() };
        proof.verify(key, old).map_err(|_| Error::NotWhole)?;
        Ok(proof)
    }

    /// Verifies it for the older checkpoint in a note.
    pub fn verify(&self, key: &VerifierKey, old: &str) -> Result<(Checkpoint, Checkpoint), Error> {
        let older = open(key, old, "the old checkpoint")?;
        let newer = open(key, &self.note, "the note of the proof")?;
        let (old, new) = (older.size, newer.size);
        // Every log begins with nothing.
        let is_proved = old == self.old
            && (old == 0 && self.path.is_empty()
                || merkle::proves_consistency(old, &older.root, new, &newer.root, &self.path));
        if is_proved { Ok((older, newer)) } else { Err(Error::DoesNotHold) }
    }
}

impl std::fmt::Display for Consistency {
    /// As C2SP tlog-witness sends it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.note)
    }
}

impl std::str::FromStr for Consistency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Consistency, Error> {
        let (head, note) = text.split_once("\n\n").ok_or(Error::Malformed("it has no checkpoint"))?;
        let mut lines = head.lines();
        let old = lines.next().and_then(|line| line.strip_prefix("old ")?.parse().ok());
        let old = old.ok_or(Error::Malformed("its first line has no size"))?;
        Ok(Consistency { old, path: hashes(lines)?, note: note.to_owned() })
    }
}

fn hashes<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Hash>, Error> {
    let hashes = lines.map(|line| STANDARD.decode(line).ok()?.try_into().ok()).collect::<Option<_>>();
    hashes.ok_or(Error::Malformed("a line of it is not a hash"))
}

fn open(key: &VerifierKey, note: &str, what: &str) -> Result<Checkpoint, Error> {
    key.open(note.as_bytes()).ok_or_else(|| Error::NotSigned(what.to_owned()))
}

/// The leaf and the record of an entry.
fn find(directory: &Path, number: u64) -> Result<Option<(u64, Vec<u8>)>, Error> {
    let Some(segment) = segments::list(directory)?.into_iter().rfind(|first| *first <= number) else { return Ok(None) };
    let bytes = fs::read(segments::path(directory, segment))?;
    let mut leaf = Header::parse(&bytes).ok_or(Error::NotWhole)?.leaf;
    let mut at = HEADER;
    while at < bytes.len() {
        let Frame::Whole(found) = record::frame(&bytes, at) else { break };
        if record::number(found) == number {
            return Ok(Some((leaf, found.to_vec())));
        }
        leaf += 1;
        at += record::FRAME + found.len();
    }
    Ok(None)
}

const TLOG_PROOF: &str = "c2sp.org/tlog-proof@v1";
