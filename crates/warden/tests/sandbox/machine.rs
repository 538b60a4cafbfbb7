//! A warden of a test's own, in directories of its own, as a process of its own that can be killed.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use model::{AttemptNo, Cores, JobId, MiB, NodeName, NodeSize, SandboxId, Sizing};
use serde_json::{Value, json};
use warden::{Client, Config, ContainerSpec, SandboxHandle, SandboxSpec, ScratchEncryption};

pub const SERVICE: u32 = 61_234;
pub const ENGINE: &str = "3.5.9";

/// A warden, its directories, and what it must leave behind: nothing.
pub struct Machine {
    pub dir: PathBuf,
    pub config: Config,
    pub warden: Child,
}

impl Machine {
    pub fn start() -> Machine {
        assert!(nix::unistd::Uid::effective().is_root(), "this test builds sandboxes and needs root");
        let dir = tempfile::Builder::new().prefix("casemate-test-warden-").tempdir_in("/var/tmp").unwrap().keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let data = dir.join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&data, Some(SERVICE), Some(SERVICE)).unwrap();
        let engine = dir.join(format!("engines/spark-{ENGINE}"));
        fs::create_dir_all(engine.join("jars")).unwrap();
        fs::write(engine.join("RELEASE"), "an engine\n").unwrap();
        let config = config(&dir);
        let warden = spawn_warden(&dir);
        let machine = Machine { dir, config, warden };
        machine.wait_for_warden();
        machine
    }

    pub fn wait_for_warden(&self) {
        let started = Instant::now();
        while block(Client::connect(&self.config.run.join("warden.sock"))).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "the warden does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL, and another one.
    pub fn restart_warden(&mut self) {
        self.warden.kill().unwrap();
        self.warden.wait().unwrap();
        self.warden = spawn_warden(&self.dir);
        self.wait_for_warden();
    }

    pub fn client(&self) -> Client {
        Client::new(&self.config.run.join("warden.sock"))
    }

    pub fn create(&self, id: SandboxId) -> (SandboxHandle, Control) {
        let handle = block(self.client().create_sandbox(&spec(id))).unwrap();
        let control = Control::connect(&handle.control);
        (handle, control)
    }

    pub fn destroy(&self, id: SandboxId) {
        block(self.client().destroy_sandbox(id)).unwrap();
    }

    /// Calls as another user, in a process of its own; says what came of it.
    pub fn call_as(&self, uid: u32, what: &str) -> String {
        let mut command = Command::new("/proc/self/exe");
        command.args(["call", what]).arg(self.config.run.join("warden.sock"));
        let output = command.uid(uid).gid(uid).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The name of this machine's control groups.
    fn group(&self) -> String {
        let name = self.dir.to_string_lossy().replace('/', "-");
        format!("casemate{name}-run")
    }

    /// What is left of this machine's sandboxes anywhere.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let place = self.dir.to_string_lossy().into_owned();
        for line in fs::read_to_string("/proc/mounts").unwrap().lines().filter(|line| line.contains(&place)) {
            found.push(format!("mount {line}"));
        }
        for device in fs::read_dir("/sys/block").unwrap().flatten() {
            let backing = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            if backing.contains(&place) {
                found.push(format!("loop {backing}"));
            }
        }
        // Other Casemates may run on this machine: ours are in groups of our name, or have our directory in their command.
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| fs::read_to_string(process.path().join(name)).unwrap_or_default();
            let (group, command) = (read("cgroup"), read("cmdline"));
            let ours = group.contains(&self.group()) || (command.contains(&place) && command.contains("\0monitor\0"));
            if ours && !read("status").contains("State:\tZ") {
                found.push(format!("process {}", command.replace('\0', " ")));
            }
        }
        cgroups(Path::new("/sys/fs/cgroup"), &self.group(), 0, &mut found);
        for scratch in fs::read_dir(self.dir.join("data/scratch")).into_iter().flatten().flatten() {
            found.push(format!("image {}", scratch.path().display()));
        }
        for claim in fs::read_dir("/run/casemate-ranges").into_iter().flatten().flatten() {
            if fs::read_to_string(claim.path()).unwrap_or_default().contains(&place) {
                found.push(format!("range {}", claim.path().display()));
            }
        }
        found
    }
}

fn cgroups(dir: &Path, name: &str, depth: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        let path = entry.path().to_string_lossy().into_owned();
        if path.contains(name) && path.contains('.') {
            found.push(format!("cgroup {path}"));
        } else if depth < 4 {
            cgroups(&entry.path(), name, depth + 1, found);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.warden.kill();
        let _ = self.warden.wait();
        let cleared = warden::destroy_all(&self.config);
        if std::thread::panicking() {
            return;
        }
        cleared.unwrap();
        assert_eq!(self.leftovers(), Vec::<String>::new());
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// The line to a shim.
pub struct Control {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Control {
    pub fn connect(path: &Path) -> Control {
        let writer = UnixStream::connect(path).unwrap();
        Control { reader: BufReader::new(writer.try_clone().unwrap()), writer }
    }

    pub fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.writer, "{command}").unwrap();
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|cause| panic!("{cause}: {line:?} to {command}"))
    }

    pub fn start(&mut self, spec: &ContainerSpec) {
        let reply = self.ask(&json!({ "do": "start", "spec": spec }));
        assert_eq!(reply["error"], Value::Null);
    }

    pub fn refused(&mut self, spec: &ContainerSpec) -> String {
        let reply = self.ask(&json!({ "do": "start", "spec": spec }));
        reply["error"].as_str().unwrap_or_else(|| panic!("it was not refused")).to_owned()
    }

    pub fn wait(&mut self, node: &NodeName) -> Value {
        self.ask(&json!({ "do": "wait", "node": node }))
    }

    /// Runs a Python program to its end.
    pub fn python(&mut self, spec: &ContainerSpec, program: &str) -> Value {
        let mut spec = spec.clone();
        spec.argv = vec!["/usr/bin/python3".into(), "-c".into(), program.into()];
        self.start(&spec);
        self.wait(&spec.node)
    }
}

pub fn new_id() -> SandboxId {
    SandboxId { job: JobId(uuid::Uuid::now_v7()), attempt: AttemptNo(1) }
}

pub fn spec(id: SandboxId) -> SandboxSpec {
    let size = NodeSize { cores: Cores(1), memory: MiB(256), overhead: MiB(64) };
    SandboxSpec { id, engine: ENGINE.parse().unwrap(), sizing: Sizing { driver: size, executor: size, executors: 2 } }
}

pub fn container(id: SandboxId, node: NodeName) -> ContainerSpec {
    ContainerSpec {
        id,
        node,
        argv: vec!["/bin/true".into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/scratch".into())],
        cwd: "/work".into(),
        cores: Cores(1),
        memory: MiB(256),
        storage: MiB(64),
    }
}

pub fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn config(dir: &Path) -> Config {
    Config {
        data: dir.join("data"),
        run: dir.join("run"),
        engines: dir.join("engines"),
        service_uid: SERVICE,
        service_gid: SERVICE,
        runtime: "/usr/sbin/runc".into(),
        java_home: fs::canonicalize("/usr/lib/jvm/java-17-openjdk-amd64").unwrap_or_else(|_| "/usr/lib/jvm".into()),
        uid_base: 850_000_000,
        scratch_encryption: ScratchEncryption::Fscrypt,
        executable: "/proc/self/exe".into(),
    }
}

fn spawn_warden(dir: &Path) -> Child {
    Command::new("/proc/self/exe").args(["warden"]).arg(dir).stdin(Stdio::null()).spawn().unwrap()
}

pub fn warden_main() -> ExitCode {
    let dir = PathBuf::from(std::env::args().nth(2).unwrap());
    match block(warden::run(config(&dir), std::future::pending())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}

/// One call of the user that this process runs as.
pub fn call_main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let client = Client::new(args[3].as_ref());
    let outcome = match args[2].as_str() {
        "list" => block(client.list_sandboxes()).map(|list| format!("{}", list.len())),
        "create" => block(client.create_sandbox(&spec(new_id()))).map(|_| "made".to_owned()),
        id => block(client.remove_container(id.parse().unwrap(), &NodeName::driver())).map(|()| "removed".to_owned()),
    };
    println!("{}", outcome.unwrap_or_else(|cause| cause.to_string()));
    ExitCode::SUCCESS
}
