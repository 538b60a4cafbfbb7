//! What an attempt used, in its spool: one file, sealed, written anew now and then.
//!
//! The file: `CMUSE`, version, two zero bytes, 16 bytes of salt, then JSON that is sealed as one segment. Its key is derived
//! from the attempt's log key and the salt, which is another one each time, so that no key seals two texts.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crypto::{Key, digest, segment::Cipher};

use super::Error;
use crate::history::History;

/// Writes it so that after a crash of this process the old or the new one is there, whole; after one of the machine too
/// where it is to be `durable`.
pub fn write_used(dir: &Path, key: &Key, history: &History, durable: bool) -> Result<(), Error> {
    let fault = |doing| move |cause| Error::File { doing, file: NAME.into(), cause };
    let mut sealed = serde_json::to_vec(history).map_err(|cause| fault("encode")(cause.into()))?;
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    crypto::random(&mut header[8..])?;
    cipher(key, &header[8..])?.seal(0, true, &mut sealed)?;
    let part = dir.join(PART);
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o640).open(&part).map_err(fault("create"))?;
    file.write_all(&header).and_then(|()| file.write_all(&sealed)).map_err(fault("write"))?;
    if durable {
        file.sync_all().map_err(fault("sync"))?;
    }
    fs::rename(&part, dir.join(NAME)).map_err(fault("rename"))?;
    match durable {
        true => File::open(dir).and_then(|dir| dir.sync_all()).map_err(fault("sync")),
        false => Ok(()),
    }
}

/// What an attempt used; `None` where nothing was ever written.
pub fn read_used(dir: &Path, key: &Key) -> Result<Option<History>, Error> {
    let fault = |cause| Error::File { doing: "read", file: NAME.into(), cause };
    let damaged = |why: &str| Error::Damaged { file: NAME.into(), why: why.to_owned() };
    // The shim's user made it: a link is not followed, a pipe is not waited for.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(dir.join(NAME)) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(fault(cause)),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(fault)?;
    let (header, sealed) = bytes.split_at_mut_checked(HEADER).ok_or_else(|| damaged("it is too short"))?;
    let salt = header.strip_prefix(&MAGIC).ok_or_else(|| damaged("it begins as another file"))?;
    let text = cipher(key, salt)?.open(0, true, sealed).map_err(|_| damaged("it does not open"))?;
    let history: History = serde_json::from_slice(text).map_err(|cause| damaged(&cause.to_string()))?;
    match history.is_whole() {
        true => Ok(Some(history)),
        false => Err(damaged("its points do not fit together")),
    }
}

fn cipher(key: &Key, salt: &[u8]) -> Result<Cipher, crypto::Error> {
    let derived = digest::hmac_sha256(key.as_bytes(), &[b"casemate attempt usage", salt]);
    Key::from_bytes(&zeroize::Zeroizing::new(derived)[..]).and_then(|key| Cipher::new(&key))
}

pub(super) const NAME: &str = "used";
const PART: &str = "used.part";
const MAGIC: [u8; 8] = *b"CMUSE\x01\0\0";
const HEADER: usize = MAGIC.len() + 16;
/// More than a history has: 64 Ki numbers of 20 digits, and their names.
pub const LONGEST: u64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_nothing_else_is_taken_for_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (key, other) = (Key::random().expect("a key"), Key::random().expect("a key"));
        assert_eq!(read_used(dir.path(), &key).expect("nothing"), None);
        let mut history = History::new();
        for at in 0..100 {
            history.add("driver", at, [("memory", u64::MAX)]);
        }
        for durable in [false, true] {
            write_used(dir.path(), &key, &history, durable).expect("written");
            assert_eq!(read_used(dir.path(), &key).expect("read"), Some(history.clone()));
            assert!(matches!(read_used(dir.path(), &other), Err(Error::Damaged { .. })));
        }
        let file = dir.path().join(NAME);
        let good = fs::read(&file).expect("read");
        assert!(!good.windows(6).any(|part| part == b"driver"), "it is sealed");
        for at in [0, 9, HEADER, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).expect("written");
            assert!(matches!(read_used(dir.path(), &key), Err(Error::Damaged { .. })), "byte {at}");
        }
        for length in [0, 7, HEADER, good.len() - 1] {
            fs::write(&file, &good[..length]).expect("written");
            assert!(matches!(read_used(dir.path(), &key), Err(Error::Damaged { .. })), "length {length}");
        }
    }
}
