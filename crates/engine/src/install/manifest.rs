//! The sums of an engine's files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::layout::{Kind, walk};
use crate::{Error, Installed, engines::MANIFEST, file_error};

#[derive(Serialize, Deserialize)]
struct Manifest {
    engine: Installed,
    /// SHA-256 of each file by its path below the engine's directory.
    files: BTreeMap<String, String>,
}

/// Writes the manifest of what is in `home` now.
pub(super) fn write(home: &Path, engine: &Installed) -> Result<(), Error> {
    let manifest = Manifest { engine: engine.clone(), files: sums(home)? };
    let path = home.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|cause| wrong(&path, &cause))?;
    std::fs::write(&path, text).map_err(file_error("write", &path))
}

/// Compares what is there with what the manifest says: changed, missing and strange files.
pub(super) fn verify(home: &Path) -> Result<(), Error> {
    let path = home.join(MANIFEST);
    let text = std::fs::read(&path).map_err(file_error("read", &path))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|cause| wrong(&path, &cause))?;
    let found = sums(home)?;
    let mut faults = Vec::new();
    for (name, sum) in &manifest.files {
        match found.get(name) {
            None => faults.push(format!("{name} is missing")),
            Some(other) if other != sum => faults.push(format!("{name} was changed")),
            Some(_) => {}
        }
    }
    faults.extend(
        found.keys().filter(|name| !manifest.files.contains_key(*name)).map(|name| format!("{name} is strange")),
    );
    if faults.is_empty() { Ok(()) } else { Err(Error::Damaged(faults)) }
}

/// The SHA-256 of a file, hexadecimal.
pub(super) fn sum(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(file_error("open", path))?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece).map_err(file_error("read", path))? {
            0 => return Ok(hex::encode(context.finish())),
            length => context.update(&piece[..length]),
        }
    }
}

/// Everything below reaches the disk before this returns.
pub(super) fn sync(dir: &Path) -> Result<(), Error> {
    let file = File::open(dir).map_err(file_error("open", dir))?;
    nix::unistd::syncfs(&file).map_err(|cause| file_error("write to disk", dir)(cause.into()))
}

fn sums(home: &Path) -> Result<BTreeMap<String, String>, Error> {
    let files: Vec<PathBuf> =
        walk(home)?.into_iter().filter(|(_, kind)| *kind == Kind::File).map(|(path, _)| path).collect();
    let mut sums = BTreeMap::new();
    for path in files.iter().filter(|path| **path != home.join(MANIFEST)) {
        let name = path.strip_prefix(home).unwrap_or(path).to_string_lossy().into_owned();
        sums.insert(name, sum(path)?);
    }
    Ok(sums)
}

fn wrong(path: &Path, cause: &serde_json::Error) -> Error {
    Error::Manifest { path: path.to_owned(), why: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_added_or_lost_is_found() {
        let dir = tempfile::tempdir().expect("directory");
        let home = dir.path();
        std::fs::create_dir(home.join("jars")).expect("directory");
        for name in ["jars/a.jar", "jars/b.jar"] {
            std::fs::write(home.join(name), name).expect("file");
        }
        let engine = crate::spark::tests::engine("3.5.9", jiff::civil::date(2026, 1, 1));
        write(home, &engine).expect("written");
        verify(home).expect("as written");
        std::fs::write(home.join("jars/a.jar"), "other").expect("file");
        std::fs::remove_file(home.join("jars/b.jar")).expect("removed");
        std::fs::write(home.join("jars/c.jar"), "new").expect("file");
        let Err(Error::Damaged(faults)) = verify(home) else { panic!("found nothing") };
        assert_eq!(faults, ["jars/a.jar was changed", "jars/b.jar is missing", "jars/c.jar is strange"]);
    }
}
