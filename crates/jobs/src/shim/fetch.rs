//! Brings the job's bucket into the driver's working directory, whole, as the old service did.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use futures::{StreamExt, stream};
use model::{BucketName, EndReason, MiB};

use super::{
    gate::{Gate, Listed, Refusal, next_piece},
    output::Output,
};

/// What is fetched, and where to.
pub struct Fetch<'a> {
    /// The gate with the job's own key.
    pub gate: &'a Gate,
    /// The job's bucket.
    pub bucket: &'a BucketName,
    /// The working directory; empty, and nobody else writes there yet.
    pub work: &'a Path,
    /// The driver's local storage.
    pub storage: MiB,
    /// Where to say what is left out.
    pub output: &'a Output,
}

/// What was fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Fetch<'_> {
    /// Fetches all objects. What goes wrong ends the attempt.
    pub async fn all(&self) -> Result<Fetched, EndReason> {
        let mut fetched = Fetched::default();
        let mut next = None;
        loop {
            let token = next.as_deref();
            let (page, following) =
                insist(|| self.gate.list(self.bucket, token)).await.map_err(|why| self.given_up(why))?;
            let mut wanted = Vec::with_capacity(page.len());
            for object in page {
                match place_of(&object.key) {
                    Some(Place::File(place)) => wanted.push((object, place)),
                    Some(Place::Directory(place)) => self.directory(&place).await?,
                    None => {
                        let key: String = object.key.escape_debug().take(200).collect();
                        self.output.say(format!("left out: '{key}' cannot be the name of a file")).await;
                    }
                }
            }
            fetched.bytes = wanted.iter().fold(fetched.bytes, |sum, (object, _)| sum.saturating_add(object.size));
            if fetched.bytes > self.room() {
                return Err(self.too_much());
            }
            let mut files = stream::iter(wanted)
                .map(|(object, place)| async move { self.file(&object, &place).await })
                .buffer_unordered(AT_ONCE);
            while let Some(outcome) = files.next().await {
                fetched.files += u64::from(outcome?);
            }
            next = following;
            if next.is_none() {
                return Ok(fetched);
            }
        }
    }

    /// Fetches one object; `false` where it is left out.
    async fn file(&self, object: &Listed, place: &Path) -> Result<bool, EndReason> {
        let path = self.work.join(place);
        match insist(|| self.try_file(object, &path)).await {
            Ok(()) => Ok(true),
            Err(Failure::Gate(Refusal::Absent(_))) => {
                self.output.say(format!("left out: '{}' was removed from the bucket meanwhile", object.key)).await;
                Ok(false)
            }
            Err(Failure::File(cause)) if matches!(cause.raw_os_error(), Some(FULL | OVER_QUOTA)) => {
                Err(self.too_much())
            }
            // A key `a` and a key `a/b`: a file cannot be a directory.
            Err(Failure::File(cause)) if is_conflict(&cause) => {
                self.output.say(format!("left out: '{}', another object's name is in its way", object.key)).await;
                Ok(false)
            }
            Err(Failure::File(cause)) => {
                let detail = format!("'{}' cannot be written to the working directory: {cause}", object.key);
                Err(EndReason::Platform { detail })
            }
            Err(Failure::Gate(why)) => Err(self.given_up(why)),
        }
    }

    async fn try_file(&self, object: &Listed, path: &Path) -> Result<(), Failure> {
        let mut body = self.gate.get(self.bucket, &object.key).await?;
        let mut file = create(self.work, path)?;
        let mut length = 0_u64;
        while let Some(piece) = next_piece(&mut body).await? {
            length += piece.len() as u64;
            // It may have been replaced by a longer one after the listing.
            if length > object.size && length > self.room() {
                return Err(Failure::File(std::io::Error::from_raw_os_error(FULL)));
            }
            // A few dozen KiB into the page cache; nothing else runs in this process yet that could wait for it.
            file.write_all(&piece)?;
        }
        Ok(())
    }

    async fn directory(&self, place: &Path) -> Result<(), EndReason> {
        match create_directory(self.work, &self.work.join(place)) {
            Ok(()) => Ok(()),
            Err(cause) if matches!(cause.raw_os_error(), Some(FULL | OVER_QUOTA)) => Err(self.too_much()),
            Err(cause) => {
                self.output.say(format!("left out: the directory '{}': {cause}", place.display())).await;
                Ok(())
            }
        }
    }

    /// The driver's storage, less what its file system and the job's own files need.
    fn room(&self) -> u64 {
        let bytes = self.storage.bytes();
        bytes - bytes / 16
    }

    fn too_much(&self) -> EndReason {
        EndReason::CannotStart {
            detail: format!(
                "the bucket {} does not fit into the driver's local storage of {}: give the driver more cores, or keep \
                 the code in a bucket of its own",
                self.bucket, self.storage
            ),
        }
    }

    fn given_up(&self, why: impl Into<Refusal>) -> EndReason {
        match why.into() {
            Refusal::Absent(_) => {
                EndReason::CannotStart { detail: format!("there is no bucket {} any more", self.bucket) }
            }
            why @ Refusal::Refused { .. } => {
                EndReason::CannotStart { detail: format!("the bucket {}: {why}", self.bucket) }
            }
            why => EndReason::Platform { detail: format!("the bucket {} cannot be fetched: {why}", self.bucket) },
        }
    }
}

/// Fetches one object of the platform's own into a file; SHA-256 of what came, at most `room` bytes.
pub async fn one(
    gate: &Gate,
    bucket: &BucketName,
    key: &str,
    path: &Path,
    room: u64,
) -> Result<[u8; SHA256_OUTPUT_LEN], EndReason> {
    let fetched = insist(|| async {
        let mut body = gate.get(bucket, key).await?;
        let mut file = File::create(path)?;
        let (mut sum, mut length) = (Context::new(&SHA256), 0_u64);
        while let Some(piece) = next_piece(&mut body).await? {
            length += piece.len() as u64;
            if length > room {
                return Err(Failure::File(std::io::Error::from_raw_os_error(FULL)));
            }
            sum.update(&piece);
            file.write_all(&piece)?;
        }
        let mut whole = [0; SHA256_OUTPUT_LEN];
        whole.copy_from_slice(sum.finish().as_ref());
        Ok(whole)
    });
    fetched.await.map_err(|why| match why {
        Failure::File(cause) if matches!(cause.raw_os_error(), Some(FULL | OVER_QUOTA)) => EndReason::CannotStart {
            detail: "the environment does not fit into the driver's local storage: give the driver more cores".into(),
        },
        Failure::File(cause) => EndReason::Platform { detail: format!("the environment cannot be written: {cause}") },
        Failure::Gate(why) => EndReason::Platform { detail: format!("the environment cannot be fetched: {why}") },
    })
}

#[derive(Debug)]
enum Failure {
    Gate(Refusal),
    File(std::io::Error),
}

impl From<Refusal> for Failure {
    fn from(why: Refusal) -> Failure {
        Failure::Gate(why)
    }
}

impl From<std::io::Error> for Failure {
    fn from(cause: std::io::Error) -> Failure {
        Failure::File(cause)
    }
}

/// What may be worth another try.
trait Passing {
    fn passes(&self) -> bool;
}

impl Passing for Refusal {
    fn passes(&self) -> bool {
        Refusal::passes(self)
    }
}

impl Passing for Failure {
    fn passes(&self) -> bool {
        matches!(self, Failure::Gate(why) if why.passes())
    }
}

/// Tries until it succeeds, or cannot, or has not for minutes.
async fn insist<T, E: Passing, F: Future<Output = Result<T, E>>>(mut work: impl FnMut() -> F) -> Result<T, E> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        match work().await {
            Err(why) if why.passes() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            outcome => return outcome,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Directory(PathBuf),
}

/// Where in the working directory an object belongs; `None` where its key is no name of a file there.
fn place_of(key: &str) -> Option<Place> {
    let (name, directory) = match key.strip_suffix('/') {
        Some(name) => (name, true),
        None => (key, false),
    };
    let fits =
        |part: &str| !part.is_empty() && part.len() <= 255 && part != "." && part != ".." && !part.contains('\0');
    if !name.split('/').all(fits) || name.split('/').count() > 64 {
        return None;
    }
    Some(if directory { Place::Directory(name.into()) } else { Place::File(name.into()) })
}

/// Where the file of an object is, relative to the working directory.
pub fn place_of_file(key: &str) -> Option<PathBuf> {
    match place_of(key) {
        Some(Place::File(place)) => Some(place),
        _ => None,
    }
}

/// A new file, or an emptied one, which the job's user may change. Its directories are made.
fn create(work: &Path, path: &Path) -> std::io::Result<File> {
    if let Some(parent) = path.parent() {
        create_directory(work, parent)?;
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o666);
    let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    // The umask does not decide: the job's user is another than ours.
    file.set_permissions(Permissions::from_mode(0o666))?;
    Ok(file)
}

fn create_directory(work: &Path, path: &Path) -> std::io::Result<()> {
    if path == work || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| parent.starts_with(work)) {
        create_directory(work, parent)?;
    }
    match DirBuilder::new().mode(0o777).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o777)),
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(cause) => Err(cause),
    }
}

fn is_conflict(cause: &std::io::Error) -> bool {
    use ErrorKind as K;
    matches!(cause.kind(), K::IsADirectory | K::NotADirectory | K::AlreadyExists | K::InvalidFilename)
}

const FULL: i32 = nix::errno::Errno::ENOSPC as i32;
const OVER_QUOTA: i32 = nix::errno::Errno::EDQUOT as i32;
/// Small files are many; each waits for an answer.
const AT_ONCE: usize = 4;
/// `serve` may be away for as long.
const PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_leaves_the_working_directory() {
        for key in ["../x", "a/../../x", "/etc/passwd", "a//b", "", "/", ".", "a/.", "..", "a\0b", &"x".repeat(256)] {
            assert_eq!(place_of(key), None, "{key}");
        }
        assert_eq!(place_of(&"a/".repeat(100)), None);
        assert_eq!(place_of("main.py"), Some(Place::File("main.py".into())));
        assert_eq!(place_of("data/..hidden/words.txt"), Some(Place::File("data/..hidden/words.txt".into())));
        assert_eq!(place_of("data/"), Some(Place::Directory("data".into())));
    }

    #[test]
    fn files_and_directories_are_the_jobs_to_change() {
        let work = tempfile::tempdir().expect("directory");
        let path = work.path().join("a/b/c.txt");
        create(work.path(), &path).expect("created").write_all(b"one").expect("written");
        create(work.path(), &path).expect("again").write_all(b"2").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"2", "a second try begins anew");
        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o666);
        assert_eq!(fs::metadata(work.path().join("a")).expect("directory").permissions().mode() & 0o777, 0o777);
        let conflict = create(work.path(), &path.join("d")).expect_err("a file is no directory");
        assert!(is_conflict(&conflict), "{conflict:?}");
        let conflict = create(work.path(), &work.path().join("a/b")).expect_err("a directory is no file");
        assert!(is_conflict(&conflict), "{conflict:?}");
    }
}
