//! The Java runtime of jobs.

use std::path::{Path, PathBuf};

/// The home of a Java 17 runtime: what `JAVA_HOME` names if it is one, else the first of `/usr/lib/jvm`.
pub fn find_home() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("JAVA_HOME").map(PathBuf::from).into_iter().collect();
    if let Ok(entries) = std::fs::read_dir("/usr/lib/jvm") {
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.sort();
        places.extend(found);
    }
    places.into_iter().filter_map(|place| place.canonicalize().ok()).find(|place| is_17(place))
}

fn is_17(home: &Path) -> bool {
    let release = std::fs::read_to_string(home.join("release")).unwrap_or_default();
    release.lines().any(|line| line.starts_with("JAVA_VERSION=\"17")) && home.join("bin/java").is_file()
}
