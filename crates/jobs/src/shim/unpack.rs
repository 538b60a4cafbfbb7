//! Unpacks a gzipped tar archive (POSIX.1-2017 pax and ustar, GNU long names) that somebody else made. What is unpacked
//! stays below the target: names have no `..`, no file is written through a link, and links are made last.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Why an archive was not unpacked. What was unpacked until then stands.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is not a whole archive of this kind.
    #[error("is not a whole .tar.gz archive: {0}")]
    Broken(String),
    /// It has what no archive may bring.
    #[error("has the entry '{name}', which {why}")]
    Entry {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It has more than is unpacked.
    #[error("has more than {0}")]
    TooMuch(String),
    /// Something cannot be written.
    #[error("cannot be unpacked: '{}': {cause}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// Unpacks `archive` into the directory `target`, at most `room` bytes of files. All can be read by everybody, and
/// changed by this process's user alone; nothing else may write there meanwhile.
pub fn unpack(archive: impl Read, target: &Path, room: u64) -> Result<Unpacked, Refused> {
    let mut unpacking = Unpacking { target, room, done: Unpacked::default(), links: Vec::new() };
    let mut archive = Archive::new(MultiGzDecoder::new(archive));
    let mut next = Extended::default();
    // Raw: the extensions are read here, within bounds, and not by the library, which has none.
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => next.name = Some(gnu_name(&mut entry)?),
            EntryType::GNULongLink => next.link = Some(gnu_name(&mut entry)?),
            EntryType::XHeader => next.read_pax(&mut entry)?,
            EntryType::XGlobalHeader => {}
            _ => unpacking.entry(&mut entry, std::mem::take(&mut next))?,
        }
    }
    unpacking.finish()
}

/// What extension entries say of the entry after them.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extended {
    fn read_pax(&mut self, entry: &mut Entry<impl Read>) -> Result<(), Refused> {
        let bytes = bounded(entry)?;
        for record in PaxExtensions::new(&bytes) {
            let record = record.map_err(broken)?;
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                b"size" => return Err(Refused::TooMuch("8 GiB in one file".into())),
                _ => {}
            }
        }
        Ok(())
    }
}

struct Unpacking<'a> {
    target: &'a Path,
    room: u64,
    done: Unpacked,
    /// Symbolic links: where, and what they name.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &mut Entry<impl Read>, extended: Extended) -> Result<(), Refused> {
        let name = extended.name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let link = extended.link.or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned));
        let refuse = |why| Refused::Entry { name: shown(&name), why };
        self.done.entries += 1;
        if self.done.entries > MOST_ENTRIES {
            return Err(Refused::TooMuch(format!("{MOST_ENTRIES} entries")));
        }
        let Some(place) = place_of(&name).map_err(refuse)? else { return Ok(()) };
        let path = self.target.join(&place);
        let header = entry.header();
        match header.entry_type() {
            EntryType::Directory => self.directory(&place, refuse),
            EntryType::Regular | EntryType::Continuous => {
                let executable = header.mode().is_ok_and(|mode| mode & 0o100 != 0);
                self.done.bytes = self.done.bytes.saturating_add(entry.size());
                if self.done.bytes > self.room {
                    return Err(Refused::TooMuch(format!("{} bytes, for which there is room", self.room)));
                }
                self.parent(&place, refuse)?;
                let mut file = new_file(&path, if executable { 0o755 } else { 0o644 }).map_err(at(&path))?;
                let written = io::copy(entry, &mut file).map_err(|cause| match cause.kind() {
                    ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => broken(cause),
                    _ => at(&path)(cause),
                })?;
                match written == entry.size() {
                    true => Ok(()),
                    false => Err(broken("it ends within a file")),
                }
            }
            EntryType::Symlink => {
                let target = link.filter(|link| !link.is_empty()).ok_or_else(|| refuse("is a link to nothing"))?;
                self.links.push((place, PathBuf::from(std::ffi::OsStr::from_bytes(&target))));
                Ok(())
            }
            EntryType::Link => {
                let named = link.as_deref().map(place_of).transpose().map_err(refuse)?.flatten();
                let original = self.target.join(named.ok_or_else(|| refuse("is a link to nothing"))?);
                if !original.symlink_metadata().is_ok_and(|found| found.is_file()) {
                    return Err(refuse("is a hard link to what is no file before it"));
                }
                self.parent(&place, refuse)?;
                remove_file(&path).and_then(|()| fs::hard_link(&original, &path)).map_err(at(&path))
            }
            _ => Err(refuse("is no file, directory or link")),
        }
    }

    fn parent(&self, place: &Path, refuse: impl Fn(&'static str) -> Refused) -> Result<(), Refused> {
        place.parent().map_or(Ok(()), |parent| self.directory(parent, refuse))
    }

    /// Makes a directory and those above it, none of which may be a link.
    fn directory(&self, place: &Path, refuse: impl Fn(&'static str) -> Refused) -> Result<(), Refused> {
        let mut path = self.target.to_owned();
        for part in place.components() {
            path.push(part);
            match DirBuilder::new().mode(0o755).create(&path) {
                // The umask does not decide.
                Ok(()) => fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(at(&path))?,
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
                    if !path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                        return Err(refuse("goes through what is no directory"));
                    }
                }
                Err(cause) => return Err(at(&path)(cause)),
            }
        }
        Ok(())
    }

    /// Links may lead anywhere: who follows them is in the sandbox. So they are made when nothing is written any more.
    fn finish(self) -> Result<Unpacked, Refused> {
        for (place, target) in &self.links {
            let path = self.target.join(place);
            let refuse = |why| Refused::Entry { name: shown(place.as_os_str().as_bytes()), why };
            self.parent(place, refuse)?;
            remove_file(&path).and_then(|()| symlink(target, &path)).map_err(at(&path))?;
        }
        Ok(self.done)
    }
}

/// The place of a name below the target; `None` for the target itself.
fn place_of(name: &[u8]) -> Result<Option<PathBuf>, &'static str> {
    let mut place = PathBuf::new();
    if name.len() > LONGEST_NAME || name.contains(&0) {
        return Err("has no name that a file can have");
    }
    for part in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => place.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err("leads out of the archive");
            }
        }
    }
    if place.components().count() > DEEPEST {
        return Err("is nested too deeply");
    }
    Ok((!place.as_os_str().is_empty()).then_some(place))
}

/// A new file; one of that name is replaced, so that a hard link to it keeps what it has.
fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    remove_file(path)?;
    let file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// A name as GNU tar writes it: an entry of its own that ends with NUL.
fn gnu_name(entry: &mut Entry<impl Read>) -> Result<Vec<u8>, Refused> {
    let mut name = bounded(entry)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn bounded(entry: &mut Entry<impl Read>) -> Result<Vec<u8>, Refused> {
    if entry.size() > LONGEST_EXTENSION {
        return Err(Refused::TooMuch(format!("{LONGEST_EXTENSION} bytes in the header of an entry")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(broken)?;
    Ok(bytes)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().take(200).collect()
}

fn broken(cause: impl std::fmt::Display) -> Refused {
    Refused::Broken(cause.to_string())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Refused {
    let path = path.to_owned();
    move |cause| Refused::File { path, cause }
}

/// A conda environment of a data scientist has some ten thousand.
const MOST_ENTRIES: u64 = 500_000;
const LONGEST_NAME: usize = 4000;
const LONGEST_EXTENSION: u64 = 64 * 1024;
const DEEPEST: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, Header};

    use super::*;

    struct Made(Builder<Vec<u8>>);

    impl Made {
        fn new() -> Made {
            Made(Builder::new(Vec::new()))
        }

        /// An entry with its name written as it is, which the library would refuse.
        fn add(mut self, name: &str, kind: EntryType, link: &str, body: &[u8]) -> Made {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o4755);
            header.set_size(body.len() as u64);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            self.0.append(&header, body).expect("appended");
            self
        }

        fn file(self, name: &str, body: &[u8]) -> Made {
            self.add(name, EntryType::Regular, "", body)
        }

        fn gzip(self) -> Vec<u8> {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&self.0.into_inner().expect("archive")).expect("written");
            gzip.finish().expect("finished")
        }

        /// Unpacks it; what is beside the target must stay as it was.
        fn unpack(self) -> (Result<Unpacked, Refused>, tempfile::TempDir) {
            let dir = tempfile::tempdir().expect("directory");
            let target = dir.path().join("target");
            fs::create_dir(&target).expect("made");
            fs::write(dir.path().join("beside"), "as it was").expect("written");
            let outcome = unpack(&self.gzip()[..], &target, 1000);
            let beside: Vec<_> =
                fs::read_dir(dir.path()).expect("read").flatten().map(|entry| entry.file_name()).collect();
            assert_eq!(beside.len(), 2, "{beside:?}");
            assert_eq!(fs::read_to_string(dir.path().join("beside")).expect("read"), "as it was");
            (outcome, dir)
        }
    }

    #[test]
    fn files_directories_and_links_are_unpacked() {
        let long = "x/".repeat(60) + "end";
        let mut made = Made::new()
            .file("./bin/python", b"one")
            .add("bin/python3", EntryType::Symlink, "python", b"")
            .add("bin/system", EntryType::Symlink, "/usr/bin/python3", b"")
            .add("lib/copy", EntryType::Link, "bin/python", b"")
            .file("bin/python", b"two");
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o600);
        made.0.append_data(&mut header, &long, &b"long"[..]).expect("appended");
        let (outcome, dir) = made.unpack();
        assert_eq!(outcome.expect("unpacked"), Unpacked { entries: 6, bytes: 10 });
        let target = dir.path().join("target");
        let read = |name: &str| fs::read_to_string(target.join(name)).expect("a file");
        assert_eq!((read("bin/python3"), read("lib/copy"), read(&long)), ("two".into(), "one".into(), "long".into()));
        assert_eq!(fs::read_link(target.join("bin/system")).expect("link"), Path::new("/usr/bin/python3"));
        let mode = |name: &str| fs::metadata(target.join(name)).expect("there").permissions().mode() & 0o7777;
        assert_eq!((mode("bin/python"), mode(&long), mode("bin")), (0o755, 0o644, 0o755), "no bit of another's");
    }

    #[test]
    fn nothing_leaves_the_target() {
        let kinds = [
            Made::new().file("../beside", b"changed"),
            Made::new().file("a/../../beside", b"changed"),
            Made::new().file("/tmp/casemate-unpack", b"changed"),
            Made::new().add("link", EntryType::Symlink, "..", b"").add("link/new", EntryType::Symlink, "x", b""),
            Made::new().file("file", b"").file("file/new", b""),
            Made::new().add("link", EntryType::Link, "../beside", b"").file("link", b"changed"),
            Made::new().add("link", EntryType::Link, "absent", b""),
            Made::new().add("device", EntryType::Char, "", b""),
            Made::new().add("pipe", EntryType::Fifo, "", b""),
            Made::new().add("link", EntryType::Symlink, "", b""),
        ];
        for (number, made) in kinds.into_iter().enumerate() {
            let (outcome, _dir) = made.unpack();
            assert!(matches!(outcome, Err(Refused::Entry { .. } | Refused::File { .. })), "{number}: {outcome:?}");
        }
        // A link that stands when files are written is not followed: it is made after them.
        let (outcome, dir) =
            Made::new().add("link", EntryType::Symlink, "..", b"").file("link/beside", b"changed").unpack();
        assert!(outcome.is_err(), "{outcome:?}");
        assert_eq!(fs::read(dir.path().join("target/link/beside")).expect("a file"), b"changed");
    }

    #[test]
    fn what_is_broken_or_too_large_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let whole = Made::new().file("file", &[7; 900]).gzip();
        for broken in [&b"not an archive"[..], &whole[..whole.len() / 2], b""] {
            let outcome = unpack(broken, dir.path(), 1000);
            assert!(matches!(outcome, Err(Refused::Broken(_))), "{outcome:?}");
        }
        let (outcome, _dir) = Made::new().file("one", &[1; 600]).file("two", &[2; 600]).unpack();
        assert!(matches!(outcome, Err(Refused::TooMuch(_))), "{outcome:?}");
        let header = vec![b'x'; 65 * 1024];
        let (outcome, _dir) = Made::new().add("long", EntryType::GNULongName, "", &header).file("a", b"").unpack();
        assert!(matches!(outcome, Err(Refused::TooMuch(_))), "{outcome:?}");
    }
}
