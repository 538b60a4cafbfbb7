//! Packages of jobs, of Python by what the job's bucket says, of Maven by the coordinates that the job names: brought once,
//! kept in the project's bucket `odp-environments`, checked at each use. Start at [`ready`].
//!
//! An environment is found by the SHA-256 of what it is made from. Its lock names every package with version, address and
//! SHA-256, and the SHA-256 of the archive of all; a seal of the project's key says that this service wrote the lock.
//! Whatever does not fit is made anew.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use audit::{Actor, Entry};
use aws_lc_rs::digest::{self, SHA256};
use engine::environment::{
    Form, LONGEST_FILE, Request, maven,
    resolve::{self, Failure, Made, Making, Package},
};
use flate2::{Compression, write::GzEncoder};
use model::{AttemptNo, BucketName, EndReason, Job, JobSpec, Program, ProjectId, SandboxId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Error, Inner, shim::key_of_attempt, surroundings::Beside as _};

/// Where packages come from, and where environments are made.
#[derive(Debug, Clone)]
pub struct EnvironmentConfig {
    /// Address of the index of Python packages (PEP 503); none where the operator allows none.
    pub pypi: Option<String>,
    /// Addresses of the Maven repositories that jobs may use, the first one without being named; none where the operator
    /// allows none.
    pub maven: Vec<String>,
    /// A directory of this service's own, emptied at each start.
    pub place: PathBuf,
}

/// What a shim needs to know of the packages of its job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// What was left out and why, for the log.
    pub notes: Vec<String>,
    /// What is unpacked, at most one of each content; nothing where there is nothing beside the engine.
    pub archives: Vec<Archive>,
}

/// The archive of an environment, in the project's bucket of environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// What is in it.
    pub content: Content,
    /// Its key.
    pub key: String,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Modules of Python.
    Modules,
    /// JARs.
    Jars,
}

impl Content {
    /// Where below `/conf` it is unpacked.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Content::Modules => engine::spark::PACKAGES,
            Content::Jars => engine::spark::JARS,
        }
    }
}

impl Environment {
    /// Whether a shim needs to know nothing of it.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Environment::default()
    }
}

/// Why there is no environment.
pub(crate) enum NotReady {
    /// The job ends by this.
    Ends(EndReason),
    /// It may be there another time.
    Error(Error),
}

impl From<Error> for NotReady {
    fn from(error: Error) -> NotReady {
        NotReady::Error(error)
    }
}

/// The environments that are being made: whoever needs the same waits.
#[derive(Debug, Default)]
pub(crate) struct Makings {
    turns: Mutex<HashMap<(ProjectId, String), Weak<Turn>>>,
}

type Turn = tokio::sync::Mutex<()>;

impl Makings {
    fn turn(&self, project: &ProjectId, id: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let place = (project.clone(), id.to_owned());
        if let Some(turn) = turns.get(&place).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(place, Arc::downgrade(&turn));
        turn
    }
}

/// The form of the file that a job names, if it names one that is not a packed environment.
pub(crate) fn named_form(spec: &JobSpec) -> Option<Form> {
    spec.environment.as_deref().and_then(Form::of)
}

/// Empties the place where environments are made.
pub(crate) fn clear(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    DirBuilder::new().recursive(true).mode(0o700).create(place)
}

/// The packages of a job, which are brought where they are not there yet.
pub(crate) async fn ready(jobs: &Inner, job: &Job) -> Result<Environment, NotReady> {
    let mut environment = Environment::default();
    modules(jobs, job, &mut environment).await?;
    jars(jobs, job, &mut environment).await?;
    Ok(environment)
}

async fn modules(jobs: &Inner, job: &Job, environment: &mut Environment) -> Result<(), NotReady> {
    let Some((key, form)) = find_file(jobs, job).await? else { return Ok(()) };
    let what = format!("the environment '{key}'");
    let cannot = |why: String| NotReady::Ends(EndReason::CannotStart { detail: format!("{what}: {why}") });
    let Some(index) = jobs.parts.config.environments.pypi.clone() else {
        if job.spec.environment.is_some() {
            return Err(cannot(NO_INDEX.into()));
        }
        environment.notes.push(format!("'{key}' was not installed: {NO_INDEX}"));
        return Ok(());
    };
    let surroundings = &jobs.parts.surroundings;
    let size = surroundings.object_size(&job.project, &job.spec.bucket, &key).await.beside("the look for a file")?;
    if size.is_some_and(|size| size > LONGEST_FILE as u64) {
        return Err(cannot(format!("it has more than {LONGEST_FILE} bytes")));
    }
    let bytes = surroundings.read_object(&job.project, &job.spec.bucket, &key, LONGEST_FILE as u64);
    let Some(bytes) = bytes.await.beside("reading what an environment is made from")? else {
        return Err(cannot(format!("it is not in the bucket {} any more", job.spec.bucket)));
    };
    let mut request = Request::parse(form, &bytes).map_err(|fault| cannot(fault.to_string()))?;
    let python = tokio::task::spawn_blocking(resolve::python_version).await.map_err(Error::from)?;
    let python = python.map_err(|why| ends(&what, why))?;
    request.check_python(&python).map_err(|fault| cannot(fault.to_string()))?;
    environment.notes.append(&mut request.notes);
    if request.requirements.is_empty() {
        return Ok(());
    }
    let made_from = MadeFrom::Python {
        python,
        machine: std::env::consts::ARCH.to_owned(),
        index: index.clone(),
        requirements: request.requirements.clone(),
    };
    let wanted = Wanted { what, log: "environment", content: Content::Modules, made_from };
    obtain(jobs, job, wanted, environment, move |making| resolve::resolve(&request, &index, making)).await
}

async fn jars(jobs: &Inner, job: &Job, environment: &mut Environment) -> Result<(), NotReady> {
    let spec = &job.spec;
    if spec.packages.is_empty() {
        return Ok(());
    }
    let what = "the packages".to_owned();
    let cannot = |why: String| NotReady::Ends(EndReason::CannotStart { detail: format!("{what}: {why}") });
    // What was allowed when the job was submitted may not be so any more.
    let allowed = &jobs.parts.config.environments.maven;
    if allowed.is_empty() {
        return Err(cannot(NO_REPOSITORY.into()));
    }
    let repositories = repositories(allowed, &spec.repositories)
        .map_err(|other| cannot(format!("the repository {other} is not one that this service allows")))?;
    let Some(engine) = jobs.parts.engines.find(&spec.version) else { return Err(Error::NotFound.into()) };
    let made_from = MadeFrom::Maven {
        engine: engine.version.to_string(),
        repositories: repositories.clone(),
        packages: spec.packages.clone(),
    };
    let home = jobs.parts.engines.home(&spec.version);
    let wish = maven::Wish { packages: spec.packages.clone(), repositories, engine, home };
    let wanted = Wanted { what, log: "packages", content: Content::Jars, made_from };
    obtain(jobs, job, wanted, environment, move |making| maven::resolve(&wish, making)).await
}

/// The repositories of a job, of those that are allowed: the first one, then those that it names; or one that is not
/// allowed.
pub(crate) fn repositories(allowed: &[String], named: &[String]) -> Result<Vec<String>, String> {
    let same = |one: &str, other: &str| one.trim_end_matches('/') == other.trim_end_matches('/');
    let mut repositories: Vec<String> = allowed.first().cloned().into_iter().collect();
    for name in named {
        let known = allowed.iter().find(|known| same(known, name)).ok_or_else(|| name.clone())?;
        if !repositories.contains(known) {
            repositories.push(known.clone());
        }
    }
    Ok(repositories)
}

/// Packages that a job needs.
struct Wanted {
    /// How they are called before a colon.
    what: String,
    /// Name of the log of their making, without its ending.
    log: &'static str,
    content: Content,
    made_from: MadeFrom,
}

/// Takes what is kept, or has it made by `resolve`.
async fn obtain(
    jobs: &Inner,
    job: &Job,
    wanted: Wanted,
    environment: &mut Environment,
    resolve: impl FnOnce(&Making) -> Result<Made, Failure> + Send + 'static,
) -> Result<(), NotReady> {
    let id = wanted.made_from.id();
    let turn = jobs.environments.turn(&job.project, &id);
    let _turn = turn.lock().await;
    let (what, content) = (wanted.what.clone(), wanted.content);
    let (lock, from) = match kept(jobs, &job.project, &id).await? {
        Some(lock) => (lock, "kept"),
        None => (make(jobs, job, wanted, &id, resolve).await.map_err(|why| why.of(&what))?, "made"),
    };
    environment.notes.push(format!("{what} ({from}): {}", shown(&lock.packages)));
    environment.archives.push(Archive { content, key: archive_key(&id), sha256: lock.archive });
    Ok(())
}

/// The file that a Python job's environment is made from: the one that it names, else one beside its main file.
async fn find_file(jobs: &Inner, job: &Job) -> Result<Option<(String, Form)>, Error> {
    let spec = &job.spec;
    let Program::Python { file } = &spec.program else { return Ok(None) };
    if let Some(key) = &spec.environment {
        return Ok(Form::of(key).map(|form| (key.clone(), form)));
    }
    let directory = file.rfind('/').map_or("", |end| &file[..=end]);
    for (name, form) in [("environment.yml", Form::Conda), ("requirements.txt", Form::Requirements)] {
        let key = format!("{directory}{name}");
        let size = jobs.parts.surroundings.object_size(&job.project, &spec.bucket, &key).await;
        if size.beside("the look for a file")?.is_some() {
            return Ok(Some((key, form)));
        }
    }
    Ok(None)
}

/// All that decides what an environment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MadeFrom {
    Python {
        python: String,
        machine: String,
        index: String,
        requirements: Vec<String>,
    },
    /// The engine's version says which artefacts it has itself.
    Maven {
        engine: String,
        repositories: Vec<String>,
        packages: Vec<String>,
    },
}

impl MadeFrom {
    /// SHA-256 over every part with its length, hex. How many parts a list has is one of them.
    fn id(&self) -> String {
        let mut sum = digest::Context::new(&SHA256);
        let mut add = |part: &str| {
            sum.update(&(part.len() as u64).to_be_bytes());
            sum.update(part.as_bytes());
        };
        match self {
            MadeFrom::Python { python, machine, index, requirements } => {
                let parts = ["python", python, machine, index].into_iter();
                parts.chain(requirements.iter().map(String::as_str)).for_each(&mut add);
            }
            MadeFrom::Maven { engine, repositories, packages } => {
                let count = repositories.len().to_string();
                let lists = repositories.iter().chain(packages).map(String::as_str);
                ["maven", engine, &count].into_iter().chain(lists).for_each(&mut add);
            }
        }
        hex::encode(sum.finish())
    }
}

/// What an environment was made from and what it came to, as it is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lock {
    made_from: MadeFrom,
    packages: Vec<Package>,
    /// SHA-256 of the archive, hex.
    archive: String,
}

/// The lock of an environment that is kept and whole.
async fn kept(jobs: &Inner, project: &ProjectId, id: &str) -> Result<Option<Lock>, Error> {
    let (parts, bucket) = (&jobs.parts, BucketName::environments());
    let Some(text) = read(jobs, project, &lock_key(id), LONGEST_LOCK).await else { return Ok(None) };
    let Some(seal) = read(jobs, project, &seal_key(id), LONGEST_SEAL).await else { return Ok(None) };
    let sealed = parts.keys.open_sealed(project, &seal_place(id), &seal);
    if !sealed.is_ok_and(|sum| sum[..] == *digest::digest(&SHA256, &text).as_ref()) {
        tracing::warn!(%project, id, "the lock of an environment is not this service's: it is made anew");
        return Ok(None);
    }
    let Ok(lock) = serde_json::from_slice::<Lock>(&text) else { return Ok(None) };
    let sum = parts.surroundings.object_sha256(project, &bucket, &archive_key(id)).await;
    let sum = sum.beside("checking an environment")?.map(hex::encode);
    if sum.as_ref() != Some(&lock.archive) {
        tracing::warn!(%project, id, "an environment is not as it was made: it is made anew");
        return Ok(None);
    }
    Ok(Some(lock))
}

/// An object of an environment; what is too long or damaged is none of ours.
async fn read(jobs: &Inner, project: &ProjectId, key: &str, most: u64) -> Option<Vec<u8>> {
    let read = jobs.parts.surroundings.read_object(project, &BucketName::environments(), key, most).await;
    read.inspect_err(|cause| tracing::warn!(%project, key, %cause, "an environment is made anew")).ok().flatten()
}

/// Why an environment was not made.
enum NotMade {
    Failure(Failure),
    Error(Error),
}

impl NotMade {
    fn of(self, what: &str) -> NotReady {
        match self {
            NotMade::Failure(why) => ends(what, why),
            NotMade::Error(error) => NotReady::Error(error),
        }
    }
}

impl From<Error> for NotMade {
    fn from(error: Error) -> NotMade {
        NotMade::Error(error)
    }
}

fn ends(what: &str, why: Failure) -> NotReady {
    let detail = format!("{what}: {why}");
    NotReady::Ends(match why {
        Failure::Asked(_) => EndReason::CannotStart { detail },
        Failure::Unable(_) => EndReason::Platform { detail },
    })
}

/// Makes an environment and keeps it: archive, lock, then the seal, without which it is none.
async fn make(
    jobs: &Inner,
    job: &Job,
    wanted: Wanted,
    id: &str,
    resolve: impl FnOnce(&Making) -> Result<Made, Failure> + Send + 'static,
) -> Result<Lock, NotMade> {
    let parts = &jobs.parts;
    let unable = |cause: io::Error| NotMade::Failure(Failure::Unable(format!("it cannot be made here: {cause}")));
    let place = Arc::new(Place::new(&parts.config.environments.place).map_err(unable)?);
    let abandoned = Abandon(Arc::default());
    let work = {
        let (place, abandoned) = (Arc::clone(&place), Arc::clone(&abandoned.0));
        tokio::task::spawn_blocking(move || {
            let making =
                Making { place: &place.0, limit: LONGEST_MAKING, most_bytes: MOST_BYTES, abandoned: &abandoned };
            let made = resolve(&making)?;
            let sum = pack(&made.tree, &place.0.join(ARCHIVE));
            let sum = sum.map_err(|cause| Failure::Unable(format!("it cannot be packed: {cause}")))?;
            Ok::<_, Failure>((made.packages, sum))
        })
    };
    let outcome = work.await.map_err(Error::from)?;
    let log = place.0.join("log");
    if log.exists() {
        parts.surroundings.ensure_log_bucket(&job.project).await.beside("making the bucket of logs")?;
        let attempt = SandboxId { job: job.id, attempt: AttemptNo(job.attempt) };
        let key = key_of_attempt(attempt, wanted.log, "log");
        let kept = parts.surroundings.keep_object(&job.project, &BucketName::logs(), &key, &log).await;
        kept.beside("keeping the log of an environment")?;
    }
    let (packages, archive) = outcome.map_err(NotMade::Failure)?;
    let lock = Lock { made_from: wanted.made_from, packages, archive };
    let text = serde_json::to_vec_pretty(&lock).map_err(|cause| unable(cause.into()))?;
    let seal =
        parts.keys.seal(&job.project, &seal_place(id), digest::digest(&SHA256, &text).as_ref()).map_err(Error::from)?;
    for (name, bytes) in [(LOCK, &text), (SEAL, &seal)] {
        fs::write(place.0.join(name), bytes).map_err(unable)?;
    }
    let bucket = BucketName::environments();
    for (name, key) in [(ARCHIVE, archive_key(id)), (LOCK, lock_key(id)), (SEAL, seal_key(id))] {
        let kept = parts.surroundings.keep_object(&job.project, &bucket, &key, &place.0.join(name)).await;
        kept.beside("keeping an environment")?;
    }
    let mut entry =
        Entry::new(Actor::system(), "environment.made", format!("project/{}/environment/{id}", job.project));
    entry.detail = json!({ "job": job.id, "archive": lock.archive, "packages": lock.packages.len() });
    parts.audit.record(entry).await.map_err(Error::from)?;
    Ok(lock)
}

/// Says that nobody waits any more once it is dropped.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A directory that goes once nobody needs it.
struct Place(PathBuf);

impl Place {
    fn new(within: &Path) -> io::Result<Place> {
        let place = within.join(uuid::Uuid::now_v7().to_string());
        DirBuilder::new().mode(0o700).create(&place)?;
        Ok(Place(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir_all(&self.0) {
            tracing::warn!(place = %self.0.display(), %cause, "what an environment was made in cannot be removed");
        }
    }
}

/// Packs a directory, the same bytes for the same files; their SHA-256, hex.
fn pack(tree: &Path, archive: &Path) -> io::Result<String> {
    let file = Summed { file: File::create(archive)?, sum: digest::Context::new(&SHA256) };
    let mut builder = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    builder.mode(tar::HeaderMode::Deterministic);
    builder.follow_symlinks(false);
    add(&mut builder, tree, Path::new(""))?;
    let Summed { file, sum } = builder.into_inner()?.finish()?;
    file.sync_all()?;
    Ok(hex::encode(sum.finish()))
}

fn add(builder: &mut tar::Builder<impl Write>, tree: &Path, below: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(tree.join(below))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => add(builder, tree, &name)?,
            false => builder.append_path_with_name(entry.path(), &name)?,
        }
    }
    Ok(())
}

struct Summed {
    file: File,
    sum: digest::Context,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn shown(packages: &[Package]) -> String {
    packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect::<Vec<_>>().join(", ")
}

fn archive_key(id: &str) -> String {
    format!("{id}/{ARCHIVE}")
}

fn lock_key(id: &str) -> String {
    format!("{id}/{LOCK}")
}

fn seal_key(id: &str) -> String {
    format!("{id}/{SEAL}")
}

fn seal_place(id: &str) -> String {
    format!("environment {id}")
}

/// Why there are no packages where the operator allows no repository.
pub(crate) const NO_REPOSITORY: &str = "packages are not fetched, this service allows no Maven repository: put their JARs into \
    the job's bucket and name them in spark.jars of the properties file, or build one JAR that holds them";
/// Why nothing is installed where the operator allows no index.
pub(crate) const NO_INDEX: &str = "this service has no index of Python packages: bring a packed environment (.tar.gz)";
const ARCHIVE: &str = "packages.tar.gz";
const LOCK: &str = "lock.json";
const SEAL: &str = "seal";
const LONGEST_LOCK: u64 = 4 * 1024 * 1024;
const LONGEST_SEAL: u64 = 4096;
const LONGEST_MAKING: Duration = Duration::from_secs(600);
/// Wheels and what is unpacked of them stand beside each other for a while.
const MOST_BYTES: u64 = 6 * 1024 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_the_same_archive() {
        let dir = tempfile::tempdir().expect("directory");
        let mut sums = Vec::new();
        for names in [["a", "b"], ["b", "a"]] {
            let tree = dir.path().join(names.concat());
            for name in names {
                fs::create_dir_all(tree.join(name)).expect("made");
                fs::write(tree.join(name).join("file.py"), name).expect("written");
            }
            sums.push(pack(&tree, &dir.path().join("archive")).expect("packed"));
        }
        assert_eq!(sums[0], sums[1]);
        let whole = fs::read(dir.path().join("archive")).expect("read");
        assert_eq!(sums[0], hex::encode(digest::digest(&SHA256, &whole)));
    }

    #[test]
    fn an_environment_is_named_by_all_that_decides_it() {
        let made = |requirements: &[&str], python: &str| {
            let requirements = requirements.iter().map(|line| (*line).to_owned()).collect();
            MadeFrom::Python { python: python.into(), machine: "m".into(), index: "i".into(), requirements }.id()
        };
        let all =
            [made(&["a", "b"], "3.11"), made(&["ab"], "3.11"), made(&["b", "a"], "3.11"), made(&["a", "b"], "3.12")];
        for (number, one) in all.iter().enumerate() {
            assert!(all[..number].iter().all(|other| other != one), "{number}");
        }
        assert_eq!(all[0], made(&["a", "b"], "3.11"));
        let maven = |repositories: &[&str], packages: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let (repositories, packages) = (owned(repositories), owned(packages));
            MadeFrom::Maven { engine: "3.5.9".into(), repositories, packages }.id()
        };
        assert_ne!(maven(&["a"], &["b", "c"]), maven(&["a", "b"], &["c"]));
    }

    #[test]
    fn repositories_are_those_that_are_allowed() {
        let allowed = ["https://one.example/m2".to_owned(), "https://two.example/".to_owned()];
        let of = |named: &[&str]| {
            let named: Vec<String> = named.iter().map(|text| (*text).to_owned()).collect();
            repositories(&allowed, &named)
        };
        assert_eq!(of(&[]).expect("the first"), allowed[..1]);
        let both = of(&["https://two.example", "https://one.example/m2/", "https://two.example/"]);
        assert_eq!(both.expect("both, once"), allowed);
        for other in ["https://two.example.org", "https://one.example", "https://one.example/m2/more"] {
            assert_eq!(of(&[other]), Err(other.to_owned()));
        }
    }
}
