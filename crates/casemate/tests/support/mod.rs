//! A whole Casemate for a test: `casemate up` in directories of its own, with real engines and real containers.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The binary under test.
pub const CASEMATE: &str = env!("CARGO_BIN_EXE_casemate");

/// One stack at a time: the machine has few cores, and what one job gets of them another lacks.
static TURN: Mutex<()> = Mutex::new(());

/// The turn of a test that starts services; the next one's begins when it is dropped.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running `casemate up`. Dropping it stops it and checks that nothing is left behind.
pub struct Stack {
    child: Child,
    /// Directory of this stack: data, files of the test.
    pub dir: PathBuf,
    ready: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Stack {
    /// Starts one that runs at most four jobs at once.
    pub fn start() -> Stack {
        Stack::with(4, &[])
    }

    /// Starts one with a limit of running jobs and variables in its environment.
    pub fn with(max_running: u32, environment: &[(&str, &str)]) -> Stack {
        let limit = max_running.to_string();
        Stack::launch(environment, |_| {
            ["--api", "127.0.0.1:0", "--s3", "127.0.0.1:0", "--max-running", &limit].map(OsString::from).to_vec()
        })
    }

    /// Starts one with a configuration file of this text, which names the addresses of its listeners.
    pub fn configured(text: &str) -> Stack {
        Stack::configured_with(text, &[])
    }

    /// The same, with variables in its environment.
    pub fn configured_with(text: &str, environment: &[(&str, &str)]) -> Stack {
        Stack::launch(environment, |dir| vec!["--config".into(), file(dir, "casemate.toml", text.as_bytes()).into()])
    }

    fn launch(environment: &[(&str, &str)], arguments: impl FnOnce(&Path) -> Vec<OsString>) -> Stack {
        let turn = turn();
        let dir = tempfile::Builder::new().prefix("casemate-test-").tempdir_in("/var/tmp").expect("a directory").keep();
        // The service user must reach its data directory in it.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("mode");
        let ready = dir.join("ready.json");
        let log = fs::File::create(dir.join("up.log")).expect("log file");
        let child = Command::new(CASEMATE)
            .arg("up")
            .args(arguments(&dir))
            .arg("--data")
            .arg(dir.join("data"))
            .arg("--engines")
            .arg(engines())
            .arg("--ready-file")
            .arg(&ready)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn()
            .expect("casemate up starts");
        let mut stack = Stack { child, dir, ready, _turn: turn };
        wait_for("casemate up to be ready", Duration::from_secs(40), || {
            if let Ok(Some(status)) = stack.child.try_wait() {
                panic!("casemate up ended ({status}): {}", stack.log());
            }
            stack.ready.exists()
        });
        stack
    }

    /// What `up` and its parts have printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("up.log")).unwrap_or_default()
    }

    /// Waits until so many runtimes have come to wait for a job since the start.
    pub fn until_warm(&self, count: usize) {
        wait_for(&format!("{count} runtimes to wait for a job"), Duration::from_secs(180), || {
            self.log().matches("a runtime waits for a job").count() >= count
        });
    }

    /// Waits until nothing stands but one runtime that waits for a job.
    pub fn until_one_waits(&self) {
        wait_for("one runtime to wait for a job", Duration::from_secs(180), || {
            let (standing, log) = (self.sandboxes(), self.log());
            standing.len() == 1
                && log.lines().any(|line| line.contains("a runtime waits for a job") && line.contains(&standing[0]))
        });
    }

    /// Names of the sandboxes that stand.
    pub fn sandboxes(&self) -> Vec<String> {
        let run = PathBuf::from(self.text("config")).parent().expect("it is in the run directory").join("sandboxes");
        let entries = fs::read_dir(run).expect("sandboxes").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// A value of the ready file: `api`, `s3`, `client_config`, `serve_pid`, `warden_pid`.
    pub fn ready(&self, name: &str) -> Value {
        let text = fs::read_to_string(&self.ready).expect("ready file");
        serde_json::from_str::<Value>(&text).expect("JSON")[name].clone()
    }

    /// A text of the ready file.
    pub fn text(&self, name: &str) -> String {
        self.ready(name).as_str().expect("text").to_owned()
    }

    /// The client configuration that the first start wrote.
    pub fn client(&self) -> toml::Value {
        let text = fs::read_to_string(self.text("client_config")).expect("client configuration");
        toml::from_str(&text).expect("TOML")
    }

    /// A value of the default profile.
    pub fn profile(&self, name: &str) -> String {
        self.client()["profile"]["default"][name].as_str().expect("text").to_owned()
    }

    /// A value of the S3 access.
    pub fn s3(&self, name: &str) -> String {
        self.client()["s3"][name].as_str().expect("text").to_owned()
    }

    /// Tells a program where the service is, and gives it the keys of the first account.
    pub fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("ENDPOINT", format!("{}/1.0", self.text("api")))
            .env("APPLICATION_KEY", self.profile("application_key"))
            .env("APPLICATION_SECRET", self.profile("application_secret"))
            .env("CONSUMER_KEY", self.profile("consumer_key"))
            .env("PROJECT", self.profile("project"))
            .env("REGION", self.profile("region"))
            .env("S3", self.text("s3"))
            .env("ACCESS_KEY", self.s3("access_key"))
            .env("SECRET_KEY", self.s3("secret_key"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }

    /// A command of the client, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CASEMATE);
        command.args(arguments).env("CASEMATE_CONFIG", self.text("client_config")).stdin(Stdio::null());
        command
    }

    /// Runs a command of the client.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("casemate runs")
    }

    /// Runs a command of the client that must succeed, and reads the JSON that it prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output.stderr), self.log());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|cause| panic!("{arguments:?}: {cause}: {}", text(&output.stdout)))
    }

    /// Puts a file into a bucket, which is made when it does not exist.
    pub fn put(&self, file: &Path, bucket: &str, key: &str) {
        let made = self.run(&["bucket", "create", bucket]);
        assert!(made.status.success() || text(&made.stderr).contains("exists"), "{}", text(&made.stderr));
        let target = format!("s3://{bucket}/{key}");
        let put = self.run(&["object", "put", file.to_str().expect("path"), &target]);
        assert!(put.status.success(), "{}", text(&put.stderr));
    }

    /// Puts modules of the test's Python environment into a bucket, as a user does who brings his own.
    pub fn put_python_packages(&self, bucket: &str, modules: &[&str]) {
        let script = "import os, sys, boto3\n\
            s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='GRA', aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3])\n\
            base = os.path.dirname(os.path.dirname(boto3.__file__))\n\
            for module in sys.argv[5:]:\n\
            \x20   place = os.path.join(base, module)\n\
            \x20   files = [place] if os.path.isfile(place) else [os.path.join(at, name) for at, _, names in os.walk(place) for name in names]\n\
            \x20   for file in files:\n\
            \x20       parts = os.path.relpath(file, base).split(os.sep)\n\
            \x20       if '__pycache__' in parts or ('data' in parts and parts[0] == 'botocore' and len(parts) > 3 and parts[2] not in ('s3', 'sts', 'sso', 'sso-oidc', 'signin')): continue\n\
            \x20       s3.upload_file(file, sys.argv[4], '/'.join(parts))\n";
        let put = Command::new(python())
            .args(["-c", script, &self.text("s3"), &self.s3("access_key"), &self.s3("secret_key"), bucket])
            .args(modules)
            .output()
            .expect("python runs");
        assert!(put.status.success(), "{}", text(&put.stderr));
    }

    /// The bytes of an object.
    pub fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        let output = self.run(&["object", "get", &format!("s3://{bucket}/{key}"), "-"]);
        assert!(output.status.success(), "{bucket}/{key}: {}", text(&output.stderr));
        output.stdout
    }

    /// Keys of a bucket under a prefix.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let listed = self.json(&["object", "list", &format!("s3://{bucket}/{prefix}")]);
        let objects = listed.as_array().cloned().unwrap_or_default();
        objects.iter().map(|object| object["key"].as_str().expect("key").to_owned()).collect()
    }

    /// Submits and returns the id.
    pub fn submit(&self, arguments: &[&str]) -> String {
        let job = self.json(&[&["job", "submit"], arguments].concat());
        job["id"].as_str().unwrap_or_else(|| panic!("no id in {job}")).to_owned()
    }

    /// The job as the API shows it.
    pub fn job(&self, id: &str) -> Value {
        self.json(&["job", "show", id])
    }

    /// Waits until the job has one of the statuses.
    pub fn wait_status(&self, id: &str, statuses: &[&str], limit: Duration) -> Value {
        let mut last = Value::Null;
        wait_for(&format!("job {id} to be {statuses:?}"), limit, || {
            // Around a kill of `serve` a call may fail; the next one tells.
            let output = self.run(&["job", "show", id, "--output", "json"]);
            last = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            last["status"].as_str().is_some_and(|status| statuses.contains(&status))
        });
        last
    }

    /// Waits for the end of the job.
    pub fn wait(&self, id: &str) -> Value {
        self.wait_status(id, &["COMPLETED", "FAILED", "TERMINATED"], Duration::from_secs(180))
    }

    /// The driver's log so far, one line a line.
    pub fn logs(&self, id: &str) -> String {
        text(&self.run(&["job", "logs", id]).stdout)
    }

    /// Sends SIGKILL to a part, `serve` or `warden`, and waits until `up` has started it again.
    pub fn kill(&self, part: &str) {
        let name = format!("{part}_pid");
        let before = self.ready(&name);
        kill(before.as_u64().expect("pid"));
        wait_for(&format!("{part} to be started again"), Duration::from_secs(20), || {
            let text = fs::read_to_string(&self.ready).unwrap_or_default();
            serde_json::from_str::<Value>(&text).is_ok_and(|ready| ready[&name] != before && !ready[&name].is_null())
        });
    }

    /// Stops it in order and says what it left on the machine.
    pub fn stop(&mut self) -> Vec<String> {
        let run = PathBuf::from(self.text("config")).parent().expect("it is in the run directory").to_owned();
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id().cast_signed()),
            nix::sys::signal::Signal::SIGINT,
        );
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > Duration::from_secs(40) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return vec![format!("casemate up did not end by SIGINT: {}", self.log())];
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        leftovers(&self.dir, &run)
    }
}

/// Marks of the starts of user code that `once.py` left under a prefix.
pub fn starts(stack: &Stack, prefix: &str) -> BTreeSet<String> {
    let keys = stack.keys("starts", &format!("{prefix}/start-"));
    keys.iter().filter_map(|key| key.split('/').nth(1).map(str::to_owned)).collect()
}

/// Points at which a process of a stack is killed, once each, and the files that say where it was.
pub struct Kills {
    points: Vec<&'static str>,
    list: String,
    _dir: tempfile::TempDir,
    marker: PathBuf,
}

impl Kills {
    /// To be killed at these points.
    pub fn at(points: &[&'static str]) -> Kills {
        let dir = tempfile::tempdir().expect("a directory");
        // Shims have users of their own.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).expect("mode");
        Kills { points: points.to_vec(), list: points.join(","), marker: dir.path().join("killed"), _dir: dir }
    }

    /// What tells the processes of a stack.
    pub fn environment(&self) -> [(&str, &str); 2] {
        [("CASEMATE_KILL_AT", &self.list), ("CASEMATE_KILL_MARKER", self.marker.to_str().expect("path"))]
    }

    /// Points at which nobody was killed yet.
    pub fn left(&self) -> Vec<&'static str> {
        let marker = self.marker.to_str().expect("path");
        self.points.iter().copied().filter(|point| !Path::new(&format!("{marker}.{point}")).exists()).collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let left = self.stop();
        if std::thread::panicking() {
            eprintln!("--- casemate up ---\n{}", self.log());
            return;
        }
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What a stopped stack has left on the machine: mounts, loop devices, processes, cgroups, files. Its own are known by
/// its directory, and by the name of its run directory, which is in the paths of its sandboxes and cgroups.
pub fn leftovers(dir: &Path, run: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let instance = run.file_name().expect("the run directory has a name").to_string_lossy().into_owned();
    let place = dir.to_string_lossy().into_owned();
    let names = |text: &str| text.contains(&place) || text.contains(&instance);
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    found.extend(mounts.lines().filter(|line| names(line)).map(|line| format!("mount: {line}")));
    for device in fs::read_dir("/sys/block").expect("block devices").flatten() {
        let backing = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if names(&backing) {
            found.push(format!("loop device: {backing}"));
        }
    }
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if id == own || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let read = |name: &str| fs::read_to_string(process.path().join(name)).unwrap_or_default();
        // A zombie is not a process any more, only a name that its parent has not read.
        let zombie = read("status").contains("State:\tZ");
        let command = read("cmdline").replace('\0', " ");
        if !zombie && (names(&command) || names(&read("cgroup"))) {
            found.push(format!("process: {id} {command}"));
        }
    }
    find_cgroups(Path::new("/sys/fs/cgroup"), &instance, 0, &mut found);
    if run.exists() {
        found.push(format!("directory: {}", run.display()));
    }
    if let Ok(entries) = fs::read_dir(dir.join("data/scratch")) {
        found.extend(entries.flatten().map(|entry| format!("file: {}", entry.path().display())));
    }
    found
}

fn find_cgroups(dir: &Path, instance: &str, depth: u32, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(instance) {
            found.push(format!("cgroup: {}", path.display()));
        } else if depth < 4 {
            find_cgroups(&path, instance, depth + 1, found);
        }
    }
}

/// A process of a job, by the end of its control group's path (`/driver`, `/platform`) and words of its command line.
pub fn process(job: &str, group: &str, words: &str) -> Option<u64> {
    let found = fs::read_dir("/proc").expect("processes").flatten().find(|process| {
        let read = |name: &str| text(&fs::read(process.path().join(name)).unwrap_or_default()).replace('\0', " ");
        read("cgroup").lines().any(|line| line.contains(job) && line.ends_with(group))
            && read("cmdline").contains(words)
    });
    found.map(|process| process.file_name().to_string_lossy().parse().expect("pid"))
}

/// Polls until `done`, at most `limit`.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// SIGKILL.
pub fn kill(pid: u64) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
}

/// SIGKILL to a group of processes, which is named by its first.
pub fn kill_group(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("pid"));
    let _ = nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL);
}

/// Bytes as text, for messages.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program of `tests/programs`.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// The checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("checkout")
}

/// The engines that `make setup-test` installed. A test without them fails, it does not skip.
pub fn engines() -> PathBuf {
    let place = std::env::var_os("CASEMATE_ENGINES").map_or_else(|| checkout().join(".cache/engines"), PathBuf::from);
    assert!(place.is_dir(), "no engines in {}: run `make test`, which installs them", place.display());
    place
}

/// Installed versions, oldest first.
pub fn versions() -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(engines())
        .expect("engines")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("spark-").map(str::to_owned))
        .filter(|version| !version.contains("part") && version.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    found.sort();
    assert_eq!(found.len(), 2, "Spark 3.5 and Spark 4 side by side in {}", engines().display());
    found
}

/// Python with the packages of `scripts/requirements.txt`.
pub fn python() -> PathBuf {
    let python = checkout().join(".cache/venv/bin/python");
    assert!(python.exists(), "no {}: run `make test`, which makes it", python.display());
    python
}

/// Compiles a Java program of `tests/programs/java` against the engine's own JARs, into a JAR without a manifest entry.
pub fn jar(dir: &Path, class: &str, version: &str) -> PathBuf {
    let classes = dir.join(format!("classes-{class}"));
    fs::create_dir_all(&classes).expect("directory");
    let jars = engines().join(format!("spark-{version}/jars/*"));
    let compiled = Command::new("javac")
        .args(["--release", "17", "-cp"])
        .arg(jars)
        .arg("-d")
        .arg(&classes)
        .arg(program(&format!("java/{class}.java")))
        .output()
        .expect("javac runs");
    assert!(compiled.status.success(), "{}", text(&compiled.stderr));
    let jar = dir.join(format!("{class}.jar"));
    let packed = Command::new("jar").arg("cf").arg(&jar).arg("-C").arg(&classes).arg(".").output().expect("jar runs");
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    jar
}

/// Builds a Go program of the tests for a stack; where it is.
pub fn go(stack: &Stack, source: &Path) -> PathBuf {
    let program = stack.dir.join("go-program");
    let mut command = Command::new("go");
    let built = command.args(["build", "-o"]).arg(&program).arg(".").current_dir(source).output();
    let built = built.expect("go runs: `make setup-test` installs it");
    assert!(built.status.success(), "{}", text(&built.stderr));
    program
}

/// A port that nothing uses now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("address").port()
}

/// A certificate that signs itself, of names such as `DNS:s3.localhost`, for a day, and its key; the service's user reads
/// both.
pub fn certificate(dir: &Path, names: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=casemate test", "-addext", &format!("subjectAltName={names}"), "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl runs: `make setup-test` installs it");
    assert!(made.status.success(), "{}", text(&made.stderr));
    for (place, mode) in [(dir, 0o755), (&certificate, 0o644), (&key, 0o644)] {
        fs::set_permissions(place, fs::Permissions::from_mode(mode)).expect("mode");
    }
    (certificate, key)
}

/// Writes a file of the test.
pub fn file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::File::create(&path).and_then(|mut file| file.write_all(content)).expect("file");
    path
}
