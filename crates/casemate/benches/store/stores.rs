//! The stores that are compared: how each is started in a directory of its own, as the people who use it start it,
//! and stopped again. One stands at a time.

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wire::{Connection, Signer};

/// A store that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Ours: encryption and audit on.
    Casemate,
    /// Ours, built with the cipher left out: what encryption costs is the difference.
    Unsealed,
    /// MinIO, one server on one directory.
    Minio,
    /// SeaweedFS, all of its parts in one server.
    Seaweedfs,
}

impl Kind {
    /// Its name in options and in what is printed.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Casemate => "casemate",
            Kind::Unsealed => "unsealed",
            Kind::Minio => "minio",
            Kind::Seaweedfs => "seaweedfs",
        }
    }

    /// Whether it is a store that a user would take instead of ours.
    pub fn is_theirs(self) -> bool {
        matches!(self, Kind::Minio | Kind::Seaweedfs)
    }

    /// What stands behind its answer to a write, for the reader of the figures. What is said of theirs was seen in
    /// the system calls that they make; `strace -f -e trace=fsync,fdatasync,openat` shows it.
    pub fn promise(self) -> &'static str {
        match self {
            Kind::Casemate => "syncs data, index and audit entry before it answers; encrypts",
            Kind::Unsealed => "as casemate, in a build whose cipher does nothing: for this comparison alone",
            Kind::Minio => "syncs the object's file before it answers, not its name; does not encrypt unless told to",
            Kind::Seaweedfs => {
                "answers before anything is synced, unless configured to; does not encrypt unless told to"
            }
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs(HashMap<&'static str, PathBuf>);

impl Programs {
    /// Finds those of `kinds`. One that is not there is an error that says how it is had.
    pub fn find(kinds: &[Kind], place: impl Fn(Kind) -> PathBuf) -> Result<Programs, String> {
        let mut found = HashMap::new();
        for kind in kinds {
            let program = place(*kind);
            if !program.is_file() {
                return Err(format!(
                    "{} is not at {}: `make bench-store` brings it, and `--stores` leaves it out",
                    kind.name(),
                    program.display()
                ));
            }
            found.insert(kind.name(), program);
        }
        // Both come out of one build directory.
        if let (Some(ours), Some(unsealed)) = (found.get("casemate"), found.get("unsealed"))
            && fs::read(ours).map_err(display)? == fs::read(unsealed).map_err(display)?
        {
            return Err(format!("{} and {} are the same program", ours.display(), unsealed.display()));
        }
        Ok(Programs(found))
    }

    fn of(&self, kind: Kind) -> &Path {
        &self.0[kind.name()]
    }

    /// What the program says of its version.
    pub fn version(&self, kind: Kind) -> String {
        let mut command = match kind {
            // Built from source it does not know its own; the toolchain that built it does.
            Kind::Minio => Command::new("go"),
            _ => Command::new(self.of(kind)),
        };
        match kind {
            Kind::Minio => command.args(["version", "-m"]).arg(self.of(kind)),
            Kind::Seaweedfs => command.arg("version"),
            Kind::Casemate | Kind::Unsealed => command.arg("--version"),
        };
        let output = command.output().map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&output);
        let line = match kind {
            Kind::Minio => text.lines().find_map(|line| line.trim().strip_prefix("mod\t")?.split('\t').nth(1)),
            _ => text.lines().next(),
        };
        line.unwrap_or("unknown").to_owned()
    }
}

/// A store that runs. Dropping it stops it and removes all that it kept.
pub struct Running {
    /// Which.
    pub kind: Kind,
    /// Where its S3 API is.
    pub address: SocketAddr,
    region: String,
    access_key: String,
    secret_key: String,
    child: Child,
    dir: PathBuf,
}

impl Running {
    /// Starts it below `base` and makes the bucket; returns when it takes requests.
    pub fn start(kind: Kind, programs: &Programs, base: &Path) -> Result<Running, String> {
        let dir = base.join(kind.name());
        fs::create_dir(&dir).map_err(|cause| format!("cannot make {}: {cause}", dir.display()))?;
        // Our service reads it as a user of its own.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(|cause| cause.to_string())?;
        let mut running = match kind {
            Kind::Casemate | Kind::Unsealed => casemate(kind, programs.of(kind), dir)?,
            Kind::Minio => minio(programs.of(kind), dir)?,
            Kind::Seaweedfs => seaweedfs(programs.of(kind), dir)?,
        };
        running.wait_for_bucket()?;
        Ok(running)
    }

    /// Signs for it from now on, for 15 minutes.
    pub fn signer(&self) -> Signer {
        Signer::new(self.address, &self.region, &self.access_key, &self.secret_key)
    }

    /// Resident memory at its peak, of all of its processes together, in bytes: `VmHWM`.
    pub fn peak_memory(&self) -> u64 {
        let kib = |pid: &u32| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
        };
        self.processes().iter().map(kib).sum::<u64>() * 1024
    }

    /// Time that its processes had a core so far.
    pub fn cpu_time(&self) -> Duration {
        self.processes().into_iter().map(cpu_time).sum()
    }

    /// The process that was started, and all that it started.
    fn processes(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?)))
            .collect();
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while at < found.len() {
            let of = found[at];
            found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
            at += 1;
        }
        found
    }

    /// Makes the bucket and puts an object into it, as soon as the store lets us.
    fn wait_for_bucket(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let mut connection = Connection::new(self.address);
        loop {
            self.check()?;
            let signer = self.signer();
            let bucket = signer.head("PUT", &format!("/{BUCKET}"), "", "Content-Length: 0\r\n");
            let object = signer.head("PUT", &format!("/{BUCKET}/first"), "", "Content-Length: 1\r\n");
            let made = match connection.call(&bucket, &[], 200, |_| ()) {
                // It was made before, and the object was not yet taken.
                Err(cause) if !cause.contains("BucketAlready") => Err(cause),
                _ => connection.call(&object, &[b"1"], 200, |_| ()),
            };
            match made {
                Ok(_) => return Ok(()),
                Err(cause) if started.elapsed() > START => {
                    return Err(format!("{} does not take an object: {cause}\n{}", self.kind.name(), self.log()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Whether it still runs.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended ({status}):\n{}", self.kind.name(), self.log())),
            Err(cause) => Err(cause.to_string()),
        }
    }

    /// The end of what it printed.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ours has sandboxes' places to clear away. Of theirs nothing is kept, and one of them takes long to end.
        let asked = if self.kind.is_theirs() { Signal::SIGKILL } else { Signal::SIGINT };
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), asked);
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > STOP {
                eprintln!("{} did not end when it was asked to, and is killed", self.kind.name());
                for process in self.processes() {
                    let _ = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
                }
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Err(cause) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} was not removed: {cause}", self.dir.display());
        }
    }
}

/// The real thing: `casemate up`, whose service runs as its own user; no job may start.
fn casemate(kind: Kind, program: &Path, dir: PathBuf) -> Result<Running, String> {
    let ready = dir.join("ready.json");
    let mut command = Command::new(program);
    command
        .args(["up", "--api", "127.0.0.1:0", "--s3", "127.0.0.1:0", "--max-running", "0", "--data"])
        .arg(dir.join("data"))
        .arg("--ready-file")
        .arg(&ready);
    let child = spawn(command, &dir)?;
    let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut running = Running {
        kind,
        address: unknown,
        region: String::new(),
        access_key: String::new(),
        secret_key: String::new(),
        child,
        dir,
    };
    let started = Instant::now();
    while !ready.exists() {
        running.check()?;
        if started.elapsed() > START {
            return Err(format!("casemate is not ready:\n{}", running.log()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let ready: serde_json::Value = read(&ready).and_then(|text| serde_json::from_str(&text).map_err(display))?;
    let client = ready["client_config"].as_str().ok_or("no client_config in the ready file")?;
    let client: toml::Value = read(Path::new(client)).and_then(|text| toml::from_str(&text).map_err(display))?;
    let s3 = |name: &str| -> Result<String, String> {
        let value = client.get("s3").and_then(|s3| s3.get(name)).and_then(toml::Value::as_str);
        Ok(value.ok_or_else(|| format!("no s3.{name} in the client configuration"))?.to_owned())
    };
    let address = s3("endpoint")?;
    running.address = address.trim_start_matches("http://").parse().map_err(display)?;
    running.region = s3("region")?;
    running.access_key = s3("access_key")?;
    running.secret_key = s3("secret_key")?;
    Ok(running)
}

/// One server, one directory. It syncs and keeps a checksum of everything, as it does by default.
fn minio(program: &Path, dir: PathBuf) -> Result<Running, String> {
    let [s3, console] = ports()?;
    let mut command = Command::new(program);
    command
        .arg("server")
        .arg(dir.join("data"))
        .args(["--address", &local(s3), "--console-address", &local(console)])
        .env("MINIO_ROOT_USER", ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        // It would look for newer versions of itself.
        .env("MINIO_UPDATE", "off")
        .env("HOME", &dir);
    Ok(theirs(Kind::Minio, s3, spawn(command, &dir)?, dir))
}

/// Master, volume server, filer and S3 in one server, as its documentation starts it for S3.
fn seaweedfs(program: &Path, dir: PathBuf) -> Result<Running, String> {
    let data = dir.join("data");
    fs::create_dir(&data).map_err(display)?;
    let identities = serde_json::json!({"identities": [{
        "name": "bench",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }]});
    let config = dir.join("s3.json");
    fs::write(&config, identities.to_string()).map_err(display)?;
    let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] = ports()?;
    let mut command = Command::new(program);
    command
        .arg("server")
        .args(["-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"])
        // Services that nobody here asks for, on ports that others may have.
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-dir={}", data.display()))
        .arg(format!("-s3.config={}", config.display()))
        .arg(format!("-s3.localSocket={}", dir.join("s3.sock").display()))
        .arg(format!("-filer.localSocket={}", dir.join("filer.sock").display()))
        .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_grpc}")])
        .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
        .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
        .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")])
        .env("HOME", &dir)
        .current_dir(&dir);
    Ok(theirs(Kind::Seaweedfs, s3, spawn(command, &dir)?, dir))
}

fn theirs(kind: Kind, port: u16, child: Child, dir: PathBuf) -> Running {
    Running {
        kind,
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        region: "us-east-1".to_owned(),
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        child,
        dir,
    }
}

fn spawn(mut command: Command, dir: &Path) -> Result<Child, String> {
    let log = fs::File::create(dir.join("log")).map_err(display)?;
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(display)?).stderr(log);
    // A Ctrl-C is for the benchmark, which stops the store.
    command.process_group(0);
    command.spawn().map_err(|cause| format!("cannot start {}: {cause}", command.get_program().display()))
}

/// Ports that are free now. Nothing else here takes ports, so that they are free a moment later too.
fn ports<const N: usize>() -> Result<[u16; N], String> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(display)?;
        *port = listener.local_addr().map_err(display)?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Time that a process had a core so far; of none, if it is gone.
pub fn cpu_time(pid: u32) -> Duration {
    let ticks = stat(pid).and_then(|fields| {
        // `utime` and `stime`, fields 14 and 15 of proc_pid_stat(5), here counted from the third.
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    });
    // A tick of this interface is 10 ms on every architecture that we run on.
    Duration::from_millis(ticks.unwrap_or(0) * 10)
}

/// The fields of `/proc/PID/stat` from the third on: those before hold the program's name, which may have spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))
}

fn display(cause: impl std::fmt::Display) -> String {
    cause.to_string()
}

/// The bucket that all figures use.
pub const BUCKET: &str = "bench";
const ACCESS_KEY: &str = "benchmark";
const SECRET_KEY: &str = "benchmark-secret";
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);
