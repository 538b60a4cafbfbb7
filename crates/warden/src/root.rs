//! The root of every container: a few files of our own, and places where the host's read-only system directories and the
//! sandbox's own directories are mounted. Made once; nothing of the host's /etc, /home, /root, /var, /opt or /usr/local.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    Config, Doing, Error,
    files::{own_dir, write_whole},
};

/// A root that stands.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its directory.
    pub path: PathBuf,
    /// What every container has mounted read-only: place on the host, place inside.
    pub mounts: Vec<(PathBuf, PathBuf)>,
}

impl Root {
    /// Makes it, or brings it up to date: containers that run on it see a whole file at any moment.
    pub fn prepare(config: &Config) -> Result<Root, Error> {
        make(config).doing("making the root of containers")
    }
}

fn make(config: &Config) -> io::Result<Root> {
    let path = config.run.join("rootfs");
    own_dir(&path, 0o755, (0, 0))?;
    let mut mounts = vec![(PathBuf::from("/usr"), PathBuf::from("/usr"))];
    if Path::new("/usr/local").is_dir() {
        mounts.push((path.join("empty"), "/usr/local".into()));
    }
    for name in
        ["empty", "usr", "work", "scratch", "tmp", "conf", "opt/spark", "proc", "dev", "sys/fs/cgroup", "etc/ssl/certs"]
    {
        fs::create_dir_all(path.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => link(&target, &path.join(name))?,
            Err(_) if host.is_dir() => add(&path, &host, &mut mounts)?,
            Err(_) => {}
        }
    }
    for (name, content) in FILES {
        write_whole(&path.join("etc").join(name), content.as_bytes(), 0o644)?;
    }
    for name in ["ld.so.cache", "localtime"] {
        if let Ok(content) = fs::read(Path::new("/etc").join(name)) {
            write_whole(&path.join("etc").join(name), &content, 0o644)?;
        }
    }
    // What covers a file of the kernel's that is not for jobs: a file that nobody inside may open.
    write_whole(&path.join(MASK), b"", 0o000)?;
    for host in ["/etc/ssl/certs", "/etc/alternatives"].map(PathBuf::from).into_iter().chain(java_settings()) {
        if host.is_dir() {
            add(&path, &host, &mut mounts)?;
        }
    }
    if !config.java_home.starts_with("/usr") || config.java_home.starts_with("/usr/local") {
        // Below /usr/local it stands on the empty directory that covers the host's.
        let inside = config.java_home.strip_prefix("/usr/local").map_or_else(|_| path.clone(), |_| path.join("empty"));
        let rest = config
            .java_home
            .strip_prefix("/usr/local")
            .unwrap_or(config.java_home.strip_prefix("/").unwrap_or(Path::new("")));
        fs::create_dir_all(inside.join(rest))?;
        mounts.push((config.java_home.clone(), config.java_home.clone()));
    }
    Ok(Root { path, mounts })
}

fn add(root: &Path, host: &Path, mounts: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    fs::create_dir_all(root.join(host.strip_prefix("/").unwrap_or(host)))?;
    mounts.push((host.to_owned(), host.to_owned()));
    Ok(())
}

/// Where distributions put what a Java runtime needs beside its home.
fn java_settings() -> Vec<PathBuf> {
    let entries = fs::read_dir("/etc").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("java-"))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn link(target: &Path, place: &Path) -> io::Result<()> {
    if fs::read_link(place).is_ok_and(|found| found == target) {
        return Ok(());
    }
    crate::files::remove_file(place)?;
    symlink(target, place)
}

/// A file of the root that nobody inside may open.
pub const MASK: &str = ".masked";

const FILES: [(&str, &str); 5] = [
    (
        "passwd",
        "root:x:0:0:root:/:/usr/sbin/nologin\njob:x:1000:1000:job:/work:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    ),
    ("group", "root:x:0:\ntty:x:5:\njob:x:1000:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost driver executor\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n"),
    ("resolv.conf", ""),
];
