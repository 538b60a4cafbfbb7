//! Key files: written whole or not at all, readable by their owner only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crypto::Key;
use zeroize::Zeroizing;

use crate::Error;

/// Makes the directory of keys if there is none.
pub fn make_directory(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))
}

/// The root key in `path`; made if there is none. Two processes that make it at once agree on one.
pub fn root_key(path: &Path) -> Result<Key, Error> {
    if !path.exists() {
        let key = Key::random().map_err(|source| Error::Sealed { owner: "root".to_owned(), source })?;
        match write_new(path, key.as_bytes(), 0o400) {
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    let mode = fs::metadata(path).map_err(failed(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    let bytes = read(path, "root")?;
    Key::from_bytes(&bytes).map_err(|source| Error::Sealed { owner: "root".to_owned(), source })
}

/// The bytes of a key file of `owner`.
pub fn read(path: &Path, owner: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize));
    let file = match File::open(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Err(Error::Missing { owner: owner.to_owned() }),
        other => other.map_err(failed(path))?,
    };
    file.take(MOST).read_to_end(&mut bytes).map_err(failed(path))?;
    Ok(bytes)
}

/// Writes a file by rename, so that a crash leaves the old state or the new one.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let part = part_of(path);
    write_part(&part, bytes, mode)?;
    fs::rename(&part, path).map_err(failed(path))?;
    sync_directory(path)
}

/// Writes a file that must not exist yet.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let part = part_of(path);
    write_part(&part, bytes, mode)?;
    // A hard link, unlike a rename, never replaces what is there.
    let linked = fs::hard_link(&part, path).map_err(failed(path));
    fs::remove_file(&part).map_err(failed(&part))?;
    linked?;
    sync_directory(path)
}

/// Overwrites and removes a file. On a disk that writes elsewhere the bytes may remain, wrapped: the key that
/// wraps them is then what protects them.
pub fn destroy(path: &Path) -> Result<(), Error> {
    match OpenOptions::new().write(true).open(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(path)(cause)),
        Ok(mut file) => {
            let length = usize::try_from(file.metadata().map_err(failed(path))?.len()).unwrap_or(0).min(MOST as usize);
            file.write_all(&vec![0; length]).and_then(|()| file.sync_all()).map_err(failed(path))?;
        }
    }
    fs::remove_file(path).map_err(failed(path))?;
    sync_directory(path)
}

fn write_part(part: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(part).map_err(failed(part))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed(part))
}

/// A name of this process's own: two may write at once.
fn part_of(path: &Path) -> std::path::PathBuf {
    path.with_extension(format!("part-{}", std::process::id()))
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    let Some(dir) = path.parent() else { return Ok(()) };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path: path.clone(), source }
}

const MOST: u64 = 4096;
