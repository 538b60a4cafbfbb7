//! What of Spark's package an engine keeps, and where.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Progress,
    fetch::{artifact, names},
    tool,
};
use crate::{Error, file_error};

/// Unpacks a package into `home`: `bin`, `jars`, `python` with `pyspark` and `py4j`, `licenses`. Examples, data, the
/// cluster's own scripts and natives of other systems stay out.
pub(super) fn unpack(package: &Path, home: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let raw = home.join(".raw");
    fs::create_dir_all(&raw).map_err(file_error("create", &raw))?;
    let source = package.extension().is_some_and(|kind| kind == "gz");
    let (spark, pyspark) = if source {
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--no-same-owner", "--strip-components=1", "--file"])
            .arg(package)
            .arg("--directory")
            .arg(&raw);
        tool::run("unpacking Spark", &mut tar, progress)?;
        (raw.join("deps"), raw.join("pyspark"))
    } else {
        unzip(package, &raw, progress)?;
        (raw.join("pyspark"), raw.join("pyspark"))
    };
    let python = home.join("python");
    fs::create_dir_all(&python).map_err(file_error("create", &python))?;
    for part in ["jars", "bin", "licenses"] {
        if part == "jars" || spark.join(part).is_dir() {
            rename(&spark.join(part), &home.join(part))?;
        }
    }
    let library = if source { raw.join("lib") } else { raw.join("pyspark/python/lib") };
    let py4j = names(&library)?.into_iter().find(|name| name.starts_with("py4j-")).ok_or_else(|| Error::Tool {
        doing: "unpacking Spark".into(),
        why: format!("{} has no py4j", package.display()),
    })?;
    unzip(&library.join(py4j), &python, progress)?;
    rename(&pyspark, &python.join("pyspark"))?;
    for other in ["jars", "bin", "sbin", "licenses", "data", "examples", "python"] {
        super::remove_tree(&python.join("pyspark").join(other))?;
    }
    super::remove_tree(&raw)?;
    for name in names(&home.join("bin")).unwrap_or_default().iter().filter(|name| name.ends_with(".cmd")) {
        remove(&home.join("bin").join(name))?;
    }
    let foreign = |name: &&String| ["-osx-", "-windows-"].iter().any(|system| name.contains(system));
    for name in names(&home.join("jars"))?.iter().filter(foreign) {
        remove(&home.join("jars").join(name))?;
    }
    Ok(())
}

/// What the JARs of an engine tell.
pub(super) struct Found {
    pub(super) scala: String,
    pub(super) hadoop: String,
}

impl Found {
    pub(super) fn read(home: &Path) -> Result<Found, Error> {
        let jars = names(&home.join("jars"))?;
        let between = |start: &str, end: fn(char) -> bool| {
            jars.iter()
                .find_map(|name| name.strip_prefix(start))
                .map(|rest| rest.split(end).next().unwrap_or_default().to_owned())
        };
        let scala = between("spark-core_", |c| c == '-');
        let hadoop = between("hadoop-client-api-", |c| c.is_ascii_alphabetic())
            .map(|text| text.trim_end_matches('.').to_owned());
        match (scala, hadoop) {
            (Some(scala), Some(hadoop)) => Ok(Found { scala, hadoop }),
            _ => Err(Error::Tool {
                doing: "reading Spark's JARs".into(),
                why: "there is no spark-core or hadoop-client-api".into(),
            }),
        }
    }
}

/// The JARs in the order of the class path: first those that hold most of what a start looks for.
pub(super) fn class_path_order(home: &Path) -> Result<Vec<String>, Error> {
    let mut jars = names(&home.join("jars"))?;
    jars.retain(|name| name.ends_with(".jar"));
    let rank = |name: &String| {
        let artifact = artifact(name);
        FIRST.iter().position(|first| {
            artifact == *first || artifact.strip_prefix(first).is_some_and(|rest| rest.starts_with('_'))
        })
    };
    jars.sort_by_key(|name| (rank(name).unwrap_or(FIRST.len()), name.clone()));
    Ok(jars)
}

/// The engine is mounted read-only, so Python could never keep what it compiles: it is compiled here, by the interpreter
/// of the containers, and not compared with its source at each start.
pub(super) fn compile_python(home: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let mut python = Command::new("/usr/bin/python3");
    python
        .args(["-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-s"])
        .arg(home)
        .args(["-p", crate::spark::SPARK_HOME])
        .arg(home.join("python"));
    tool::run("compiling Python modules", &mut python, progress).map(drop)
}

/// The files of an engine once more in `part`, by hard links, without those of these names at its top.
pub(super) fn link(home: &Path, part: &Path, without: &[&str]) -> Result<(), Error> {
    for (path, kind) in walk(home)? {
        let Ok(below) = path.strip_prefix(home) else { continue };
        if without.iter().any(|name| below.starts_with(name)) {
            continue;
        }
        let place = part.join(below);
        match kind {
            Kind::Directory => fs::create_dir_all(&place).map_err(file_error("create", &place))?,
            Kind::File => fs::hard_link(&path, &place).map_err(file_error("link", &place))?,
        }
    }
    Ok(())
}

/// Everybody may read, nobody but the owner may write.
pub(super) fn permissions(home: &Path) -> Result<(), Error> {
    for (path, kind) in walk(home)? {
        let mode = if kind == Kind::Directory || path.starts_with(home.join("bin")) { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(file_error("set the mode of", &path))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Every directory and file from `home` on, itself included, sorted.
pub(super) fn walk(home: &Path) -> Result<Vec<(PathBuf, Kind)>, Error> {
    let mut found = Vec::new();
    let mut waiting = vec![home.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).map_err(file_error("read", &directory))?.flatten() {
            let kind = entry.file_type().map_err(file_error("read", &directory))?;
            match kind.is_dir() {
                true => waiting.push(entry.path()),
                false => found.push((entry.path(), Kind::File)),
            }
        }
        found.push((directory, Kind::Directory));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn unzip(package: &Path, target: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-m", "zipfile", "-e"]).arg(package).arg(target);
    tool::run("unpacking", &mut python, progress).map(drop)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(file_error("move", from))
}

fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(file_error("remove", path))
}

/// A class that no archive has is looked for from the front.
const FIRST: [&str; 18] = [
    "scala-library",
    "spark-core",
    "spark-catalyst",
    "spark-sql",
    "spark-sql-api",
    "spark-common-utils",
    "spark-kubernetes",
    "spark-network-common",
    "spark-unsafe",
    "hadoop-client-api",
    "hadoop-client-runtime",
    "jackson-databind",
    "jackson-core",
    "netty-common",
    "netty-buffer",
    "netty-transport",
    "log4j-core",
    "log4j-api",
];
