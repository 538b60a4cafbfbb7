//! Installing engines, by the ordinary clients of the registries that people already trust: `pip` for Spark, `mvn` for
//! the S3A connector. No address stands here, so a site's mirrors and proxies apply. Start at [`install`].

mod archive;
mod fetch;
mod layout;
mod manifest;
pub mod rehearsal;
mod tool;
mod waiting;

use std::path::{Path, PathBuf};

use jiff::{
    Span,
    civil::{Date, date},
};
use model::EngineVersion;

use crate::{
    Engines, Error, Installed,
    engines::{MANIFEST, home, order},
    file_error,
};

/// A release of Spark that this platform knows.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// Its version.
    pub version: &'static str,
    /// Since when the platform offers it.
    pub available: Date,
    /// SHA-256 of its source package, `pyspark-VERSION.tar.gz`.
    pub sum: &'static str,
    /// Version of Spark's module `spark-hadoop-cloud` that it gets: its own, or an earlier one of the same classes where
    /// its own was not published.
    pub cloud: &'static str,
}

/// The releases that the platform offers: the newest Spark 3.5, and the newest Spark 4 that runs on Java 17.
pub static CATALOGUE: [Release; 2] = [
    Release {
        version: "3.5.9",
        available: date(2026, 11, 24),
        sum: "ea27adc39ddac9413b8951e45aa748cbed6c785971b81386efc41938f6243d93",
        cloud: "3.5.8",
    },
    Release {
        version: "4.3.0",
        available: date(2026, 11, 24),
        sum: "e8c517948eff7088a7aa07449aa8eafa4a15a8d50319de2525a6fd26622476c6",
        cloud: "4.1.1",
    },
];

impl Release {
    /// Nine months after it came: its faults are not mended any more.
    pub fn end_of_support(&self) -> Date {
        end_of_support(self.available)
    }

    /// Twelve months after it came: it is not offered any more, unless there is none newer.
    pub fn end_of_life(&self) -> Date {
        end_of_life(self.available)
    }
}

fn end_of_support(available: Date) -> Date {
    available.saturating_add(Span::new().months(9))
}

fn end_of_life(available: Date) -> Date {
    available.saturating_add(Span::new().months(12))
}

/// Which engine is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    version: EngineVersion,
}

impl Wanted {
    /// `3.5`, `4`, or a full version such as `3.5.9`. A full version that the catalogue does not have is taken as it is:
    /// the registry may have a newer patch.
    pub fn parse(text: &str) -> Result<Wanted, Error> {
        let text = text.trim().trim_start_matches("spark-");
        let unknown = || Error::Unknown {
            given: text.chars().take(40).collect(),
            offered: format!("give one of {}, or the full version of another release", versions().join(", ")),
        };
        let given: EngineVersion = text.parse().map_err(|_| unknown())?;
        let parts = order(&given);
        let known = CATALOGUE.iter().filter_map(|release| release.version.parse::<EngineVersion>().ok());
        match known.filter(|version| order(version).starts_with(&parts)).max_by_key(order) {
            Some(version) => Ok(Wanted { version }),
            None if parts.len() == 3 && parts[0] >= 3 => Ok(Wanted { version: given }),
            None => Err(unknown()),
        }
    }

    /// Every release of the catalogue, oldest first.
    pub fn all() -> Vec<Wanted> {
        versions().into_iter().filter_map(|version| Wanted::parse(version).ok()).collect()
    }

    /// The version that it comes to.
    pub fn version(&self) -> &EngineVersion {
        &self.version
    }

    fn release(&self) -> Option<&'static Release> {
        CATALOGUE.iter().find(|release| release.version == self.version.as_str())
    }

    /// Which `spark-hadoop-cloud` goes with it: that of the catalogue's release of the same line, else its own.
    fn cloud(&self) -> String {
        let line = |version: &str| version.rsplit_once('.').map(|(line, _)| line.to_owned());
        let known = CATALOGUE.iter().find(|release| line(release.version) == line(self.version.as_str()));
        known.map_or_else(|| self.version.to_string(), |release| release.cloud.to_owned())
    }
}

fn versions() -> Vec<&'static str> {
    CATALOGUE.iter().map(|release| release.version).collect()
}

/// How to install.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory of files brought by hand: `pyspark-VERSION.tar.gz`, `hadoop-aws-VERSION.jar` with the JARs of its SDK,
    /// and `spark-hadoop-cloud_SCALA-VERSION.jar`. What is not there is fetched.
    pub from: Option<PathBuf>,
    /// The Java 17 runtime of jobs; found where it is not given.
    pub java_home: Option<PathBuf>,
    /// Today: from when a release that the catalogue does not have counts.
    pub today: Date,
}

impl Options {
    /// Everything fetched, Java found.
    pub fn new(today: Date) -> Options {
        Options { from: None, java_home: None, today }
    }
}

/// How far an install is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step begins.
    Step {
        /// Its number, from 1.
        number: u32,
        /// How many there are.
        of: u32,
        /// What is done, for people.
        what: String,
    },
    /// A program that is driven said something.
    Detail(String),
}

/// Installs an engine into `dir`, unless it is there already; one that an earlier Casemate installed gets what that did not
/// make, and nothing is fetched for it. What was fetched before an interruption is not fetched
/// again; the engine appears whole or not at all.
pub fn install(
    dir: &Path,
    what: &Wanted,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Installed, Error> {
    std::fs::create_dir_all(dir).map_err(file_error("create", dir))?;
    // The programs that are driven run in directories of their own.
    let dir = &dir.canonicalize().map_err(file_error("find", dir))?;
    let _turn = lock(dir)?;
    let version = what.version();
    let found = Engines::open(dir)?.find(version);
    if let Some(engine) = found {
        return match engine.can_wait() {
            true => Ok(engine),
            false => renew(dir, engine, progress),
        };
    }
    let java_home = options.java_home.clone().or_else(crate::find_java_home).ok_or_else(|| Error::Tool {
        doing: "looking for Java 17".into(),
        why: "there is none in /usr/lib/jvm: install the package openjdk-17-jre-headless, or name one".into(),
    })?;
    let mut step = 0;
    let mut begin = |what: String, progress: &mut dyn FnMut(Progress)| {
        step += 1;
        progress(Progress::Step { number: step, of: STEPS, what });
    };
    let downloads = dir.join(".downloads");
    std::fs::create_dir_all(&downloads).map_err(file_error("create", &downloads))?;

    begin(format!("fetching Spark {version} (pip)"), progress);
    let package = fetch::spark(&downloads, what, options, progress)?;
    begin("unpacking".into(), progress);
    let final_home = home(dir, version);
    let part = dir.join(format!("spark-{version}.part"));
    remove_tree(&part)?;
    layout::unpack(&package, &part, progress)?;
    let found = layout::Found::read(&part)?;
    begin(format!("fetching the S3A connector of Hadoop {} (mvn)", found.hadoop), progress);
    fetch::s3a(&downloads, &part, &found.hadoop, options, progress)?;
    fetch::cloud(&downloads, &part, &found.scala, what, options, progress)?;
    begin("compiling Python modules".into(), progress);
    layout::compile_python(&part, progress)?;
    let available = what.release().map_or(options.today, |release| release.available);
    let mut engine = Installed {
        version: version.clone(),
        description: format!(
            "Apache Spark {version}, Scala {}, Hadoop {}, Java 17, Python 3",
            found.scala, found.hadoop
        ),
        scala: found.scala,
        hadoop: found.hadoop,
        available,
        end_of_support: end_of_support(available),
        end_of_life: end_of_life(available),
        java_home,
        jars: Vec::new(),
        archives: false,
        executor_options: Vec::new(),
    };
    begin("compiling the program of waiting JVMs".into(), progress);
    waiting::compile(&part, &engine, progress)?;
    begin("making class-data archives (a short rehearsal of a job)".into(), progress);
    finish(&part, &mut engine, progress)?;
    begin("writing the manifest".into(), progress);
    seal(&part, &engine)?;
    std::fs::rename(&part, &final_home).map_err(file_error("move into place", &part))?;
    manifest::sync(dir)?;
    // Spark's package is half a gigabyte and stands unpacked beside this; `mvn` keeps what it fetched by itself.
    remove_tree(&downloads)?;
    Ok(engine)
}

/// Makes an engine whole that lacks what earlier versions of this program did not make, beside the old one, and puts it in its
/// place. Jobs that run on the old one fail on files that they have not opened: the caller asks first.
fn renew(dir: &Path, mut engine: Installed, progress: &mut dyn FnMut(Progress)) -> Result<Installed, Error> {
    let (old, part) = (home(dir, &engine.version), dir.join(format!("spark-{}.part", engine.version)));
    let what = format!("Spark {}: compiling the program of waiting JVMs, making class-data archives", engine.version);
    progress(Progress::Step { number: 1, of: 1, what });
    remove_tree(&part)?;
    layout::link(&old, &part, &[archive::PLACE, MANIFEST])?;
    waiting::compile(&part, &engine, progress)?;
    finish(&part, &mut engine, progress)?;
    seal(&part, &engine)?;
    let (here, flags) = (nix::fcntl::AT_FDCWD, nix::fcntl::RenameFlags::RENAME_EXCHANGE);
    nix::fcntl::renameat2(here, &part, here, &old, flags)
        .map_err(|cause| file_error("move into place", &part)(cause.into()))?;
    manifest::sync(dir)?;
    remove_tree(&part)?;
    Ok(engine)
}

/// What is made of the JARs that an engine has now: their order, and the archives.
fn finish(part: &Path, engine: &mut Installed, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    engine.jars = layout::class_path_order(part)?;
    // The rehearsal has no archive to go by.
    engine.archives = false;
    let seen = archive::make(part, engine, progress)?;
    engine.archives = seen.is_some();
    engine.executor_options = seen.unwrap_or_default();
    Ok(())
}

fn seal(part: &Path, engine: &Installed) -> Result<(), Error> {
    layout::permissions(part)?;
    manifest::write(part, engine)?;
    manifest::sync(part)
}

/// Removes an engine. Jobs that run on it keep their open files and fail on others: the caller asks first.
pub fn remove(dir: &Path, version: &EngineVersion) -> Result<(), Error> {
    let _turn = lock(dir)?;
    let home = home(dir, version);
    if !home.exists() {
        return Err(Error::NotInstalled(version.to_string()));
    }
    let part = dir.join(format!("spark-{version}.part"));
    remove_tree(&part)?;
    // Out of sight at once; then in pieces.
    std::fs::rename(&home, &part).map_err(file_error("move away", &home))?;
    remove_tree(&part)
}

/// Checks each file of an engine against its manifest.
pub fn verify(dir: &Path, version: &EngineVersion) -> Result<(), Error> {
    let home = home(dir, version);
    if !home.exists() {
        return Err(Error::NotInstalled(version.to_string()));
    }
    manifest::verify(&home)
}

/// One install at a time in a directory; held until the file is closed.
fn lock(dir: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, Error> {
    let path = dir.join(".lock");
    let file = std::fs::File::create(&path).map_err(file_error("create", &path))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive)
        .map_err(|(_, cause)| file_error("lock", &path)(cause.into()))
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(file_error("remove", path)(cause)),
        _ => Ok(()),
    }
}

const STEPS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_releases_means_its_newest() {
        for (text, version) in [("3.5", "3.5.9"), ("4", "4.3.0"), ("spark-3.5.9", "3.5.9"), ("4.1.4", "4.1.4")] {
            assert_eq!(Wanted::parse(text).expect("known").version().as_str(), version);
        }
        for text in ["", "2.4", "2.4.3", "latest", "../x", "5"] {
            assert!(Wanted::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_line_has_its_module_for_object_stores() {
        for (text, module) in
            [("3.5", "3.5.8"), ("3.5.1", "3.5.8"), ("4.3.0", "4.1.1"), ("4.3.7", "4.1.1"), ("4.0.2", "4.0.2")]
        {
            assert_eq!(Wanted::parse(text).expect("known").cloud(), module, "{text}");
        }
    }

    #[test]
    fn a_release_lives_nine_and_twelve_months() {
        let release = CATALOGUE[0];
        assert_eq!(release.end_of_support(), date(2027, 8, 24));
        assert_eq!(release.end_of_life(), date(2027, 11, 24));
    }

    #[test]
    fn what_is_not_installed_cannot_be_removed_or_verified() {
        let dir = tempfile::tempdir().expect("directory");
        let version = "3.5.9".parse().expect("a version");
        assert!(matches!(remove(dir.path(), &version), Err(Error::NotInstalled(_))));
        assert!(matches!(verify(dir.path(), &version), Err(Error::NotInstalled(_))));
    }
}
