//! The engines of a directory, as their manifests tell.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use jiff::{civil::Date, tz::TimeZone};
use model::{EngineVersion, Retired, RetiredBy, Withdrawal};
use serde::{Deserialize, Serialize};

use crate::{Error, file_error};

/// The installed engines of one directory. Scanned again whenever the directory has changed.
#[derive(Debug)]
pub struct Engines {
    dir: PathBuf,
    seen: Mutex<Seen>,
}

/// What a job may choose, and what it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Those available, not withdrawn and not past their end of life, oldest version first; the newest that is available
    /// and not withdrawn is never past it.
    pub engines: Vec<Installed>,
    /// The other installed ones, each with the version to use instead.
    pub retired: Vec<Retired>,
}

impl Offer {
    /// The versions that are offered, oldest first.
    pub fn versions(&self) -> Vec<EngineVersion> {
        self.engines.iter().map(|engine| engine.version.clone()).collect()
    }

    /// Which of them to use instead of a version: the next newer one, else the newest.
    pub fn instead_of(&self, version: &EngineVersion) -> Option<&EngineVersion> {
        let newer = self.engines.iter().find(|engine| order(&engine.version) > order(version));
        newer.or(self.engines.last()).map(|engine| &engine.version)
    }
}

/// What the last scan saw, and what it found.
#[derive(Debug, Default)]
struct Seen {
    directories: Vec<(String, SystemTime)>,
    engines: Vec<Installed>,
}

/// One installed engine. Part of the manifest, so its names are a format on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Its version.
    pub version: EngineVersion,
    /// Binary version of Scala that it is built for, such as `2.12`.
    pub scala: String,
    /// Version of Hadoop that it ships, and of its S3A connector.
    pub hadoop: String,
    /// One line for people.
    pub description: String,
    /// Since when this platform offers it.
    pub available: Date,
    /// Nine months later: faults are not mended any more.
    pub end_of_support: Date,
    /// Twelve months later: it is not offered any more, unless there is none newer.
    pub end_of_life: Date,
    /// The Java runtime that its class-data archives fit.
    pub java_home: PathBuf,
    /// JARs of its class path, in the order that the archives were made with.
    pub jars: Vec<String>,
    /// Whether there are class-data archives.
    pub archives: bool,
    /// Options that this Spark asks for an executor's JVM where the user asks for none, as the install saw them. Empty where
    /// that is not known: its JVMs then cannot wait for their job.
    #[serde(default)]
    pub executor_options: Vec<String>,
}

impl Installed {
    /// Whether its JVMs can wait for their job: the install made the program for that.
    pub fn can_wait(&self) -> bool {
        self.jars.iter().any(|jar| jar == WAITING_JAR)
    }
}

impl Engines {
    /// Opens a directory of engines; one that does not exist yet has none.
    pub fn open(dir: &Path) -> Result<Engines, Error> {
        let engines = Engines { dir: dir.to_owned(), seen: Mutex::default() };
        engines.scan()?;
        Ok(engines)
    }

    /// All of them, oldest version first. A directory that cannot be read any more has the engines that it had.
    pub fn list(&self) -> Vec<Installed> {
        self.scan().unwrap_or_else(|_| self.seen.lock().unwrap_or_else(PoisonError::into_inner).engines.clone())
    }

    /// The engine of a version.
    pub fn find(&self, version: &EngineVersion) -> Option<Installed> {
        self.list().into_iter().find(|engine| engine.version == *version)
    }

    /// What a job may choose on that day, without what is withdrawn.
    pub fn offer(&self, today: Date, withdrawn: &[Withdrawal]) -> Offer {
        offer(self.list(), today, withdrawn)
    }

    /// The directory of a version, whether it is installed or not.
    pub fn home(&self, version: &EngineVersion) -> PathBuf {
        home(&self.dir, version)
    }

    fn scan(&self) -> Result<Vec<Installed>, Error> {
        let directories = directories(&self.dir)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.directories != directories {
            let mut engines = Vec::with_capacity(directories.len());
            for (name, _) in &directories {
                // A directory without a manifest of ours is not an engine; the others still are.
                engines.extend(read(&self.dir.join(name)));
            }
            engines.sort_by_key(|engine| order(&engine.version));
            *seen = Seen { directories, engines };
        }
        Ok(seen.engines.clone())
    }
}

pub(crate) fn home(dir: &Path, version: &EngineVersion) -> PathBuf {
    dir.join(format!("spark-{version}"))
}

fn offer(engines: Vec<Installed>, today: Date, withdrawn: &[Withdrawal]) -> Offer {
    let reason = |engine: &Installed| withdrawn.iter().find(|one| one.version == engine.version);
    let usable = |engine: &&Installed| engine.available <= today && reason(engine).is_none();
    let newest = engines.iter().filter(usable).map(|engine| order(&engine.version)).max();
    let (offered, others): (Vec<Installed>, Vec<Installed>) = engines
        .into_iter()
        .partition(|engine| usable(&engine) && (today < engine.end_of_life || Some(order(&engine.version)) == newest));
    let mut offer = Offer { engines: offered, retired: Vec::new() };
    offer.retired = others
        .into_iter()
        .map(|engine| {
            let (cause, why) = match reason(&engine) {
                Some(withdrawal) => {
                    let day = withdrawal.at.to_zoned_datetime(TimeZone::UTC).date();
                    (RetiredBy::Withdrawal, format!("it was withdrawn on {day}: {}", withdrawal.reason))
                }
                None if engine.available > today => {
                    (RetiredBy::NotYet, format!("it is available from {}", engine.available))
                }
                None => (RetiredBy::EndOfLife, format!("its life ended on {}", engine.end_of_life)),
            };
            let why = match offer.instead_of(&engine.version) {
                Some(version) => format!("{why}; use {version}"),
                None => format!("{why}; no version is offered now"),
            };
            Retired { version: engine.version, cause, why }
        })
        .collect();
    offer
}

/// Versions sort by their numbers: 3.10 comes after 3.9.
pub(crate) fn order(version: &EngineVersion) -> Vec<u64> {
    version.as_str().split('.').map(|part| part.parse().unwrap_or(u64::MAX)).collect()
}

fn directories(dir: &Path) -> Result<Vec<(String, SystemTime)>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(file_error("read", dir)(cause)),
    };
    let mut found: Vec<(String, SystemTime)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("spark-")?.parse::<EngineVersion>().ok()?;
            Some((name, entry.metadata().ok()?.modified().ok()?))
        })
        .collect();
    found.sort();
    Ok(found)
}

fn read(home: &Path) -> Option<Installed> {
    #[derive(Deserialize)]
    struct Head {
        engine: Installed,
    }
    let text = std::fs::read(home.join(MANIFEST)).ok()?;
    let head: Head = serde_json::from_slice(&text).ok()?;
    (home.file_name()?.to_str()? == format!("spark-{}", head.engine.version)).then_some(head.engine)
}

/// The file of an engine that tells what it is and the sums of its files.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The program of JVMs that wait, among the JARs of an engine. Its name sorts it behind what Spark itself looks for first.
pub(crate) const WAITING_JAR: &str = "casemate-waiting.jar";

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    pub(crate) fn engine(version: &str, available: Date) -> Installed {
        crate::spark::tests::engine(version, available)
    }

    fn versions(engines: &[Installed], today: Date) -> Vec<String> {
        offer(engines.to_vec(), today, &[]).versions().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_withdrawn_version_is_not_offered_and_the_next_newer_one_is_named() {
        let engines =
            [engine("3.5.9", date(2026, 1, 1)), engine("4.1.4", date(2026, 2, 1)), engine("4.3.0", date(2026, 6, 1))];
        let withdrawal = |version: &str| Withdrawal {
            version: version.parse().expect("a version"),
            reason: "CVE-2026-1".to_owned(),
            at: "2026-06-02T10:00:00Z".parse().expect("a time"),
        };
        let told = |today: Date, withdrawn: &[&str]| {
            let withdrawn: Vec<Withdrawal> = withdrawn.iter().map(|version| withdrawal(version)).collect();
            let offer = offer(engines.to_vec(), today, &withdrawn);
            let retired: Vec<String> =
                offer.retired.iter().map(|one| format!("{}: {}", one.version, one.why)).collect();
            let offered: Vec<String> = offer.versions().iter().map(ToString::to_string).collect();
            format!("{} | {}", offered.join(" "), retired.join("; "))
        };
        assert_eq!(
            told(date(2026, 6, 3), &["3.5.9"]),
            "4.1.4 4.3.0 | 3.5.9: it was withdrawn on 2026-06-02: CVE-2026-1; use 4.1.4"
        );
        assert_eq!(
            told(date(2026, 6, 3), &["4.3.0"]),
            "3.5.9 4.1.4 | 4.3.0: it was withdrawn on 2026-06-02: CVE-2026-1; use 4.1.4"
        );
        assert_eq!(told(date(2026, 5, 3), &[]), "3.5.9 4.1.4 | 4.3.0: it is available from 2026-06-01; use 4.1.4");
        assert_eq!(told(date(2027, 1, 1), &[]), "4.1.4 4.3.0 | 3.5.9: its life ended on 2027-01-01; use 4.1.4");
        let all = told(date(2027, 7, 1), &["4.3.0", "4.1.4", "3.5.9"]);
        assert!(all.starts_with(" | ") && all.contains("no version is offered now"), "{all}");
        // The newest that can be used lives on.
        assert!(told(date(2027, 7, 1), &["4.3.0"]).starts_with("4.1.4 | "));
    }

    #[test]
    fn past_its_end_of_life_a_version_is_offered_only_while_none_is_newer() {
        let engines = [engine("3.5.9", date(2026, 1, 1)), engine("3.5.10", date(2026, 6, 1))];
        assert_eq!(versions(&engines, date(2025, 12, 31)), [""; 0]);
        assert_eq!(versions(&engines, date(2026, 5, 1)), ["3.5.9"]);
        assert_eq!(versions(&engines, date(2026, 7, 1)), ["3.5.9", "3.5.10"]);
        assert_eq!(versions(&engines, date(2027, 1, 1)), ["3.5.10"]);
        assert_eq!(versions(&engines, date(2030, 1, 1)), ["3.5.10"]);
    }

    #[test]
    fn an_engine_is_seen_as_soon_as_it_is_in_the_directory() {
        let dir = tempfile::tempdir().expect("directory");
        let engines = Engines::open(&dir.path().join("engines")).expect("none yet");
        assert!(engines.list().is_empty());
        let one = engine("3.5.9", date(2026, 1, 1));
        for name in ["spark-3.5.9", "spark-3.5.8", "spark-4.0.0.part"] {
            let home = dir.path().join("engines").join(name);
            std::fs::create_dir_all(&home).expect("directory");
            let text = serde_json::json!({ "engine": one, "files": {} }).to_string();
            std::fs::write(home.join(MANIFEST), text).expect("manifest");
        }
        assert_eq!(
            engines.list(),
            std::slice::from_ref(&one),
            "a name that the manifest does not bear out is no engine"
        );
        assert_eq!(engines.find(&one.version), Some(one));
    }
}
