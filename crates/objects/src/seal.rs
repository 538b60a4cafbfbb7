//! Seals a stream of bytes into one piece, in bounded memory: what is small stays in memory, to be packed with others
//! by the committer; what is not goes to a file of its own as it comes.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crypto::segment::{self, Cipher, SEGMENT};
use keys::DataKey;
use uuid::Uuid;

use crate::{Error, error::at};

/// Bytes that data of `length` bytes takes on disk.
pub fn sealed_length(length: u64) -> u64 {
    segment::sealed_length(length)
}

/// Data that is sealed, and not yet in the index.
#[derive(Debug)]
pub struct Sealed {
    /// Bytes before they were sealed.
    pub length: u64,
    /// The data key, wrapped.
    pub key: Vec<u8>,
    /// Where they are.
    pub body: Body,
}

/// Where sealed data waits for its row.
#[derive(Debug)]
pub enum Body {
    /// There is none.
    Empty,
    /// In memory, to be packed.
    Small(Vec<u8>),
    /// In a file, durable but for its name in the directory.
    Large(NewFile),
}

/// A large file that no row names yet: removed when dropped, unless it is kept.
#[derive(Debug)]
pub struct NewFile {
    /// Which; its name is this id.
    pub id: Uuid,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// A row names it now, or may.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(cause) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %cause, "an abandoned file was not removed");
        }
    }
}

/// Takes bytes, seals them, and writes them out once they are many.
pub struct Sealer {
    directory: PathBuf,
    cipher: Cipher,
    wrapped: Vec<u8>,
    number: u64,
    length: u64,
    pending: Vec<u8>,
    out: Vec<u8>,
    file: Option<(File, NewFile)>,
}

impl Sealer {
    /// Under a key of this data alone; large files go to `directory`.
    pub fn new(directory: &Path, key: DataKey) -> Result<Sealer, Error> {
        Ok(Sealer {
            directory: directory.to_owned(),
            cipher: Cipher::new(&key.key)?,
            wrapped: key.wrapped,
            number: 0,
            length: 0,
            pending: Vec::new(),
            out: Vec::new(),
            file: None,
        })
    }

    /// Takes more bytes.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            // A full segment waits here until it is known not to be the last.
            if self.pending.len() == SEGMENT {
                self.seal(false)?;
            }
            let taken = bytes.len().min(SEGMENT - self.pending.len());
            self.pending.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Seals the last segment; a file is durable when this returns.
    pub fn finish(mut self) -> Result<Sealed, Error> {
        if self.length == 0 {
            return Ok(Sealed { length: 0, key: self.wrapped, body: Body::Empty });
        }
        self.seal(true)?;
        let body = match self.file.take() {
            None => Body::Small(self.out),
            Some((mut file, name)) => {
                file.write_all(&self.out).and_then(|()| file.sync_data()).map_err(at(&name.path))?;
                Body::Large(name)
            }
        };
        Ok(Sealed { length: self.length, key: self.wrapped, body })
    }

    fn seal(&mut self, last: bool) -> Result<(), Error> {
        self.cipher.seal(self.number, last, &mut self.pending)?;
        self.number += 1;
        self.out.append(&mut self.pending);
        if self.length > SMALL {
            if self.file.is_none() {
                self.file = Some(create(&self.directory)?);
            }
            if let Some((file, name)) = &mut self.file
                && self.out.len() >= WRITE
            {
                file.write_all(&self.out).map_err(at(&name.path))?;
                self.out.clear();
            }
        }
        Ok(())
    }
}

fn create(directory: &Path) -> Result<(File, NewFile), Error> {
    let id = Uuid::now_v7();
    let path = directory.join(id.as_simple().to_string());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
    Ok((file, NewFile { id, path, kept: false }))
}

/// The most bytes of data that is packed with others into a segment file.
pub const SMALL: u64 = 4 * SEGMENT as u64;
/// How many bytes are written at once.
const WRITE: usize = 4 * SEGMENT;
