//! Makes an environment from wheels of an index, by the system's pip: the Python that runs it is the one that jobs have, so
//! that versions, tags and markers are judged as the job would. Wheels only: nothing of a package is run.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::Request;

/// Where to make an environment, and within what bounds.
pub struct Making<'a> {
    /// A directory of this environment's own, empty.
    pub place: &'a Path,
    /// The longest that it may take.
    pub limit: Duration,
    /// Bytes that it may have, with what is on the way there.
    pub most_bytes: u64,
    /// Set when nobody waits for it any more.
    pub abandoned: &'a AtomicBool,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Every package of it, by name.
    pub packages: Vec<Package>,
    /// The directory of modules, or of JARs.
    pub tree: PathBuf,
}

/// One package, as the index gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its wheel came from; of a JAR its package URL (ECMA-427).
    pub url: String,
    /// SHA-256 of the wheel or JAR, hex.
    pub sha256: String,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The job asks for what there is not.
    #[error("{0}")]
    Asked(String),
    /// The index, a repository or this machine could not do it.
    #[error("{0}")]
    Unable(String),
}

/// The version of the Python that jobs have, such as `3.11`.
pub fn python_version() -> Result<String, Failure> {
    let unable = |why: String| Failure::Unable(format!("{PYTHON} does not say its version: {why}"));
    let script = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new(PYTHON).args(["-I", "-c", script]).env_clear().stdin(Stdio::null()).output();
    let output = output.map_err(|cause| unable(cause.to_string()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(unable(output.status.to_string())),
    }
}

/// Installs what is asked for, from an index (PEP 503). What pip says goes to the file `log` in `making.place`, whatever
/// comes of it.
pub fn resolve(request: &Request, index: &str, making: &Making) -> Result<Made, Failure> {
    let place = making.place;
    let unable = |cause: std::io::Error| Failure::Unable(format!("{}: {cause}", place.display()));
    let (tree, report, list) = (place.join("python"), place.join("report.json"), place.join("requirements.txt"));
    for directory in [&tree, &place.join("tmp")] {
        fs::create_dir(directory).map_err(unable)?;
    }
    fs::write(&list, request.requirements.join("\n") + "\n").map_err(unable)?;
    // A package may ask for another by its address, and that one may have to be built, `--only-binary` or not: pip would
    // run its code, in a process of its own. It gets none.
    if nix::unistd::geteuid().is_root() {
        return Err(Failure::Unable("the service runs as root, whom the limit of processes does not bind".into()));
    }
    let mut pip = Command::new("/usr/bin/prlimit");
    pip.args(["--nproc=0:0", PYTHON]);
    pip.args([
        "-I",
        "-m",
        "pip",
        "--isolated",
        "--no-input",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--no-color",
    ]);
    pip.args([
        "--timeout",
        "30",
        "--retries",
        "2",
        "install",
        "--only-binary=:all:",
        "--no-compile",
        "--progress-bar=off",
    ]);
    pip.args(["--no-warn-conflicts", "--index-url", index, "--target"]).arg(&tree);
    pip.arg("--report").arg(&report).arg("--requirement").arg(&list);
    pip.env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", place)
        .env("TMPDIR", place.join("tmp"));
    // The operator's own way out.
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE"]
    {
        if let Some(value) = std::env::var_os(name) {
            pip.env(name, value);
        }
    }
    let ended = run(&mut pip, "pip", making)?;
    let said = fs::read(place.join("log")).map_err(unable)?;
    let said = String::from_utf8_lossy(&said);
    if !ended {
        return Err(failure(&said));
    }
    let packages = read_report(&report)?;
    if size_of(place) > making.most_bytes {
        return Err(too_large(making));
    }
    Ok(Made { packages, tree })
}

/// Runs a resolver within its bounds, with its output in the file `log`; whether it ended well.
pub(super) fn run(command: &mut Command, name: &str, making: &Making) -> Result<bool, Failure> {
    let unable = |cause: std::io::Error| Failure::Unable(format!("{name} cannot be started: {cause}"));
    let log = fs::File::create(making.place.join("log")).map_err(unable)?;
    let second = log.try_clone().map_err(unable)?;
    command.current_dir(making.place).stdin(Stdio::null()).stdout(log).stderr(second).process_group(0);
    let mut child = command.spawn().map_err(unable)?;
    let begun = Instant::now();
    let why = loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => {}
            Err(cause) => break Failure::Unable(format!("{name} is not heard of: {cause}")),
        }
        if making.abandoned.load(Ordering::Relaxed) {
            break Failure::Unable("nobody waits for it any more".into());
        }
        if begun.elapsed() > making.limit {
            break Failure::Unable(format!("{name} was not done within {} s", making.limit.as_secs()));
        }
        if size_of(making.place) > making.most_bytes {
            break too_large(making);
        }
        std::thread::sleep(LOOK_EVERY);
    };
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.wait();
    Err(why)
}

pub(super) fn too_large(making: &Making) -> Failure {
    Failure::Asked(format!("there are more than {} bytes", making.most_bytes))
}

/// Whose fault it is, by what pip said.
fn failure(said: &str) -> Failure {
    let builds = ["BlockingIOError", "Resource temporarily unavailable"];
    if builds.iter().any(|sign| said.contains(sign)) {
        return Failure::Asked(
            "one of the packages, or one that they need, has no wheel and would have to be built; such packages are brought in a \
             packed environment"
                .into(),
        );
    }
    let away =
        ["Retrying (Retry(", "Could not fetch URL", "Connection broken", "ReadTimeoutError", "No module named pip"];
    let errors: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("ERROR: ")).collect();
    let last = errors.last().copied().or(said.lines().last()).unwrap_or("pip said nothing");
    if away.iter().any(|sign| said.contains(sign)) {
        return Failure::Unable(format!("the package index cannot be used: {}", cut(last)));
    }
    match errors.iter().find_map(|line| line.strip_prefix("No matching distribution found for ")) {
        Some(package) => Failure::Asked(format!(
            "the index has no wheel of {} for the Python of jobs, or no such package or version; packages that have to be built are \
             brought in a packed environment",
            cut(package)
        )),
        None => Failure::Asked(cut(&errors.join("; ")).to_owned()),
    }
}

/// What pip reports to have installed (<https://pip.pypa.io/en/stable/reference/installation-report/>).
fn read_report(path: &Path) -> Result<Vec<Package>, Failure> {
    #[derive(Deserialize)]
    struct Report {
        install: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        metadata: Metadata,
        download_info: Download,
        #[serde(default)]
        is_direct: bool,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
        version: String,
    }
    #[derive(Deserialize)]
    struct Download {
        url: String,
        archive_info: Archive,
    }
    #[derive(Deserialize)]
    struct Archive {
        hash: Option<String>,
        #[serde(default)]
        hashes: std::collections::BTreeMap<String, String>,
    }
    let unable = |why: String| Failure::Unable(format!("pip's report cannot be read: {why}"));
    let text = fs::read(path).map_err(|cause| unable(cause.to_string()))?;
    let report: Report = serde_json::from_slice(&text).map_err(|cause| unable(cause.to_string()))?;
    let mut packages = Vec::new();
    for Item { metadata, download_info: Download { url, archive_info }, is_direct } in report.install {
        if is_direct {
            let why = format!(
                "{} is asked for by its address, and packages come from the service's own index",
                metadata.name
            );
            return Err(Failure::Asked(why));
        }
        let Archive { hash, mut hashes } = archive_info;
        let old = hash.and_then(|hash| hash.strip_prefix("sha256=").map(str::to_owned));
        let sha256 = hashes.remove("sha256").or(old);
        let sha256 = sha256.ok_or_else(|| unable(format!("it has no SHA-256 of {}", metadata.name)))?;
        packages.push(Package { name: metadata.name, version: metadata.version, url: without_user(&url), sha256 });
    }
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(packages)
}

/// An address without a name and password in it.
fn without_user(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, rest))) if !user.contains('/') => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

/// Bytes of all files below a directory; what goes away meanwhile counts for nothing.
pub(super) fn size_of(place: &Path) -> u64 {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            _ => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}

pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_SAID)]
}

/// The Python of every container.
const PYTHON: &str = "/usr/bin/python3";
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LONGEST_SAID: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is() {
        let absent = "Looking in indexes: http://127.0.0.1:1/simple\n\
            ERROR: Could not find a version that satisfies the requirement nosuch==1 (from versions: none)\n\
            ERROR: No matching distribution found for nosuch==1\n";
        let Failure::Asked(why) = failure(absent) else { panic!("the job's") };
        assert!(why.contains("no wheel of nosuch==1"), "{why}");
        let away = "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken\n";
        let Failure::Unable(why) = failure(&format!("{away}{absent}")) else { panic!("the platform's") };
        assert!(why.starts_with("the package index cannot be used"), "{why}");
        let conflict = "ERROR: Cannot install a and b because these package versions have conflicting dependencies.\n\
            ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/\n";
        assert!(matches!(failure(conflict), Failure::Asked(why) if why.starts_with("Cannot install a and b")));
        assert!(matches!(failure("/usr/bin/python3: No module named pip\n"), Failure::Unable(_)));
    }

    #[test]
    fn what_pip_reports() {
        let dir = tempfile::tempdir().expect("directory");
        let report = dir.path().join("report.json");
        // Of pip 23.0 and of pip 24: the older one has `hash` alone.
        let text = r#"{"version": "1", "install": [
            {"metadata": {"name": "b", "version": "1"}, "download_info": {"url": "https://u:p@index/b.whl", "archive_info": {"hash": "sha256=02"}}},
            {"metadata": {"name": "a", "version": "2"}, "download_info": {"url": "https://index/a.whl", "archive_info": {"hashes": {"sha256": "01"}}}}
        ]}"#;
        fs::write(&report, text).expect("written");
        let packages = read_report(&report).expect("read");
        let shown: Vec<String> =
            packages.iter().map(|one| format!("{} {} {}", one.name, one.url, one.sha256)).collect();
        assert_eq!(shown, ["a https://index/a.whl 01", "b https://index/b.whl 02"]);
        fs::write(
            &report,
            text.replace(r#"{"metadata": {"name": "b""#, r#"{"is_direct": true, "metadata": {"name": "b""#),
        )
        .expect("written");
        assert!(
            matches!(read_report(&report), Err(Failure::Asked(why)) if why.starts_with("b is asked for by its address"))
        );
        fs::write(&report, text.replace("sha256=02", "md5=02")).expect("written");
        assert!(read_report(&report).is_err_and(|why| why.to_string().contains("no SHA-256 of b")));
    }
}
