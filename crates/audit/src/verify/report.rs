//! What a check of the log found.

use serde::Serialize;

/// What is wrong with an entry, or with what vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// Its bytes are not those that were sealed, or an index does not have it as the table does.
    Changed,
    /// It is not there, and entries after it are.
    Missing,
    /// It is not there, nor is anything after it.
    CutOff,
    /// It stands at another place than where it was sealed.
    Reordered,
    /// It is there, and was never sealed so.
    Forged,
}

impl Wrong {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Wrong::Changed => "changed",
            Wrong::Missing => "missing",
            Wrong::CutOff => "cut off",
            Wrong::Reordered => "reordered",
            Wrong::Forged => "forged",
        }
    }
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The segment files, whose entries are sealed.
    Log,
    /// The files of the tree, which follow from the log.
    Tree,
    /// The file of checkpoints, or the newest of the database.
    Checkpoints,
    /// Checkpoints that were kept elsewhere.
    Against,
    /// The database's copy of the entries.
    Table,
    /// What views of that copy are read by.
    Indexes,
}

impl Place {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Log => "log",
            Place::Tree => "tree",
            Place::Checkpoints => "checkpoints",
            Place::Against => "against",
            Place::Table => "database",
            Place::Indexes => "indexes",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// The number of the first entry that it concerns, where it concerns entries.
    pub from: Option<u64>,
    /// The number of the last.
    pub through: Option<u64>,
    /// What.
    pub wrong: Wrong,
    /// In which file, below the directory of the log.
    pub file: Option<String>,
    /// At which byte of it.
    pub offset: Option<u64>,
    /// In words.
    pub what: String,
}

impl Finding {
    /// Of the entries from one number through another.
    pub fn entries(place: Place, wrong: Wrong, from: u64, through: u64, what: impl Into<String>) -> Finding {
        let (from, through) = (Some(from), Some(through));
        Finding { place, from, through, wrong, file: None, offset: None, what: what.into() }
    }

    /// Of something that is no entry.
    pub fn of(place: Place, wrong: Wrong, what: impl Into<String>) -> Finding {
        Finding { place, from: None, through: None, wrong, file: None, offset: None, what: what.into() }
    }

    /// Says where it stands.
    pub fn at(self, file: impl Into<String>, offset: u64) -> Finding {
        Finding { file: Some(file.into()), offset: Some(offset), ..self }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub whole: bool,
    /// Entries that are sealed and signed, retention's included.
    pub size: u64,
    /// The root of their tree, in hexadecimal digits.
    pub root: String,
    /// When the newest checkpoint was signed.
    pub signed: Option<jiff::Timestamp>,
    /// The number of the first entry that is kept.
    pub first: Option<u64>,
    /// The number of the last that is signed.
    pub through: Option<u64>,
    /// Entries that retention removed.
    pub removed: u64,
    /// Entries in the database that are not signed yet.
    pub unsigned: u64,
    /// Segment files that were read, and their bytes.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Checkpoints whose signature and root are right.
    pub checkpoints: u64,
    /// Checkpoints whose signature is right, and whose root cannot be computed any more, since retention removed what
    /// is below it.
    pub unproved: u64,
    /// What is wrong, in the order of place and number; the first of it, if there is very much.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
}
