//! Segment files: `segments/NUMBER`, named by the number of their first entry, in 16 digits. A file begins with a header
//! (56 bytes): a magic number, the place of its first record in the tree, that number, and the hash of the record before
//! it. Frames of records follow ([`crate::record`]). All integers are little endian.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::merkle::Hash;

/// How a segment file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which leaf of the tree its first record is, from 0.
    pub leaf: u64,
    /// The number of its first entry.
    pub number: u64,
    /// The hash of the record before; zero for the first of the log.
    pub previous: Hash,
}

/// Bytes of a header.
pub const HEADER: usize = 56;

impl Header {
    /// As it stands in the file.
    pub fn bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &self.leaf.to_le_bytes(), &self.number.to_le_bytes(), &self.previous].concat()
    }

    /// The header at the beginning of a file; `None` if there is none.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (leaf, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let previous = *rest.first_chunk()?;
        Some(Header { leaf: u64::from_le_bytes(*leaf), number: u64::from_le_bytes(*number), previous })
    }
}

/// The file whose first entry has this number.
pub fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(name(number))
}

/// Its name.
pub fn name(number: u64) -> String {
    format!("{number:016}")
}

/// The numbers that the files are named by, rising; none if there is no directory.
pub fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        let number =
            file.to_str().and_then(|text| text.parse().ok()).filter(|number| *number > 0 && *file == *name(*number));
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

const MAGIC: [u8; 8] = *b"CMAUDIT\x01";
