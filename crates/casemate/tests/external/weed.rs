//! A SeaweedFS of the test's own, on loopback.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::support::{checkout, file, wait_for};

/// The access key of Casemate there.
pub const ACCESS_KEY: &str = "THEREACCESSKEY";
/// Its secret.
pub const SECRET_KEY: &str = "the-secret-key-of-there";
/// Stands before the names of buckets there.
pub const PREFIX: &str = "cm-";

/// Dropping it ends it.
pub struct Weed {
    child: Child,
    dir: tempfile::TempDir,
    /// Of S3, master, volume server and filer, each with that of its gRPC.
    ports: [u16; 8],
}

impl Weed {
    /// Master, volume server, filer and S3 in one process, as its documentation starts it for S3.
    pub fn start() -> Weed {
        let dir = tempfile::Builder::new().prefix("casemate-weed-").tempdir_in("/var/tmp").expect("a directory");
        fs::create_dir(dir.path().join("data")).expect("a directory");
        let identities = serde_json::json!({"identities": [{
            "name": "casemate",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]});
        file(dir.path(), "s3.json", identities.to_string().as_bytes());
        let listeners: [TcpListener; 8] =
            std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
        let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("address").port());
        drop(listeners);
        let weed = Weed { child: spawn(dir.path(), ports), dir, ports };
        weed.answers();
        weed
    }

    /// The `[[external_s3]]` of it; the secret key is put into a file of `dir`.
    pub fn entry(&self, dir: &Path) -> String {
        let secret = file(dir, "secret-key", SECRET_KEY.as_bytes());
        format!(
            "name = \"weed\"\nendpoint = \"{}\"\naccess_key = \"{ACCESS_KEY}\"\nsecret_key_file = \"{}\"\n\
             bucket_prefix = \"{PREFIX}\"\n",
            self.url(),
            secret.display()
        )
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Ends it in order: what it has is there at its next start.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        wait_for("weed to end", Duration::from_secs(30), || matches!(self.child.try_wait(), Ok(Some(_))));
    }

    pub fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), self.ports);
        self.answers();
    }

    /// Its kernel takes connections, and it does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Whether somebody has sent what it has not read.
    pub fn has_a_connection(&self) -> bool {
        let table = fs::read_to_string("/proc/net/tcp").expect("connections");
        let local = format!("0100007F:{:04X}", self.ports[0]);
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let is_here = fields.next() == Some(&local);
            // Transmit and receive queue, in hexadecimal.
            let waiting = fields.nth(2).and_then(|queues| queues.split_once(':'));
            is_here && waiting.is_some_and(|(_, received)| u64::from_str_radix(received, 16).is_ok_and(|n| n > 10_000))
        })
    }

    fn answers(&self) {
        let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let refused = || {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports[0]))?;
            connection.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer.starts_with("HTTP/1.1 403"))
        };
        wait_for("weed to answer", Duration::from_secs(60), || {
            // It refuses who has no key; before it is ready it says so otherwise.
            refused().unwrap_or(false) && log().contains("the cluster has 1 filer")
        });
    }

    fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).expect("a signal");
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc]: [u16; 8]) -> Child {
    let program = checkout().join(".cache/venv/bin/weed");
    let log = fs::File::create(dir.join("log")).expect("log file");
    Command::new(&program)
        .arg("server")
        .args(["-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-volume.max=100"])
        // Buckets have volumes of their own, small enough for a test's disk.
        .args(["-master.volumeSizeLimitMB=256", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-dir={}", dir.join("data").display()))
        .arg(format!("-s3.config={}", dir.join("s3.json").display()))
        .arg(format!("-s3.localSocket={}", dir.join("s3.sock").display()))
        .arg(format!("-filer.localSocket={}", dir.join("filer.sock").display()))
        .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_grpc}")])
        .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
        .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
        .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")])
        .env("HOME", dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log file"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|cause| panic!("{}: {cause}: run `make setup-test`, which installs it", program.display()))
}
