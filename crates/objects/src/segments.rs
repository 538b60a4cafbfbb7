//! Segment files: small data, one after another, only ever appended to.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{Error, error::at};

/// The segment that is appended to. One thread has it.
#[derive(Debug)]
pub struct Segments {
    directory: PathBuf,
    current: Option<Current>,
    next: u64,
    most: u64,
}

#[derive(Debug)]
struct Current {
    id: u64,
    file: File,
    end: u64,
    durable: u64,
}

impl Segments {
    /// Appends to new files in `directory`, numbered from `next`, of about `most` bytes each.
    pub fn new(directory: &Path, next: u64, most: u64) -> Segments {
        Segments { directory: directory.to_owned(), current: None, next, most }
    }

    /// Appends; returns segment and offset. Not durable until [`Segments::sync`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(u64, u64), Error> {
        if self.current.as_ref().is_some_and(|current| current.end >= self.most) {
            // What was appended to it in this batch must not be forgotten by the sync of the next.
            self.sync()?;
            self.current = None;
        }
        if self.current.is_none() {
            self.current = Some(self.create()?);
        }
        let Some(current) = &mut self.current else { return Err(Error::NotWritten) };
        let path = path(&self.directory, current.id);
        let offset = current.end;
        // A failed write leaves no gap: the next one goes to the same place.
        current.file.write_all_at(bytes, offset).map_err(at(&path))?;
        current.end += bytes.len() as u64;
        Ok((current.id, offset))
    }

    /// Makes durable what was appended. After an error nothing is known of the file, so it is not written again.
    pub fn sync(&mut self) -> Result<(), Error> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.durable == current.end {
            return Ok(());
        }
        let path = path(&self.directory, current.id);
        match current.file.sync_data() {
            Ok(()) => {
                current.durable = current.end;
                Ok(())
            }
            Err(cause) => {
                self.current = None;
                Err(at(&path)(cause))
            }
        }
    }

    /// Whether the file of a segment of no use may go. The one that is appended to stays while it is short.
    pub fn retire(&mut self, id: u64) -> bool {
        match &self.current {
            Some(current) if current.id == id && current.end < self.most / 64 => false,
            Some(current) if current.id == id => {
                self.current = None;
                true
            }
            _ => true,
        }
    }

    fn create(&mut self) -> Result<Current, Error> {
        let id = self.next;
        let path = path(&self.directory, id);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
        self.next += 1;
        sync_directory(&self.directory)?;
        Ok(Current { id, file, end: 0, durable: 0 })
    }
}

/// The file of a segment.
pub fn path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:016x}"))
}

/// The ids of the segment files that there are.
pub fn ids(directory: &Path) -> Result<Vec<u64>, Error> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(directory).map_err(at(directory))? {
        let name = entry.map_err(at(directory))?.file_name();
        if let Some(id) = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Makes the names of the files in a directory durable.
pub fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}
