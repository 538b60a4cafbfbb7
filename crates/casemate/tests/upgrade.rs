//! What a service manager does to the processes while jobs run: replaces the program and starts them again, stops
//! `serve`, loses the machine (JOB-6, JOB-11). `serve` and the warden run by themselves here, without `up`.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::MutexGuard,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use support::{CASEMATE, engines, file, free_port, leftovers, program, text, wait_for};

#[test]
fn a_running_job_outlives_another_program_for_serve_and_the_warden() {
    let mut machine = Machine::start(3);
    machine.client(&["bucket", "create", "starts"]);
    let script = program("once.py");
    let id = machine.submit(&[script.to_str().expect("path"), "starts", "run", "60"]);
    machine.wait(&id, &["RUNNING"]);
    let shim = machine.processes(&format!(" shim --sandbox {id}"));
    assert_eq!(shim.len(), 1, "{shim:?}");

    machine.replace_program();
    machine.stop_warden();
    machine.start_warden();
    // A call that is under way when `serve` is asked to stop gets its answer.
    let mut call = machine.begin_a_call();
    kill(pid(machine.serve.as_ref().expect("it runs")), Signal::SIGTERM).expect("asked");
    // It answers nobody new, and the one that it has heard half of.
    wait_for("serve to take no more calls", Duration::from_secs(5), || {
        TcpStream::connect(("127.0.0.1", machine.api)).is_err()
    });
    call.write_all(b"{}").expect("the rest of the call");
    let mut answer = String::new();
    call.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let status = machine.ended_serve();
    assert!(status.success(), "in order: {status}\n{}", machine.log());
    machine.start_serve();

    // The shim is the old program still, and those that speak with it are the new one.
    let program_of = |process: i32| fs::read_link(format!("/proc/{process}/exe")).expect("a program");
    assert!(program_of(shim[0]).to_string_lossy().ends_with(" (deleted)"), "{:?}", program_of(shim[0]));
    assert_eq!(program_of(pid(machine.warden.as_ref().expect("it runs")).as_raw()), machine.program());
    assert_eq!(machine.processes(&format!(" shim --sandbox {id}")), shim, "the same shim");
    let job = machine.wait(&id, &ENDS);
    let log = text(&machine.run(&["job", "logs", &id]).stdout);
    assert_eq!((&job["status"], &job["attempt"]), (&"COMPLETED".into(), &1.into()), "{job} {log}");
    let steps: Vec<&str> = log.lines().filter_map(|line| line.split_once("STEP ").map(|(_, rest)| rest)).collect();
    let expected: Vec<String> = (0..60).map(|step| format!("{step} 4950")).collect();
    assert_eq!(steps, expected, "no line lost, none twice");
    assert_eq!(machine.keys("odp-logs", &format!("{id}/driver/spark.log.")).len(), 1);

    let next = machine.submit(&[script.to_str().expect("path"), "--placement", "single", "starts", "next", "1"]);
    assert_eq!(machine.wait(&next, &ENDS)["status"], "COMPLETED", "{}", machine.log());
}

#[test]
fn a_time_to_live_ends_a_job_while_serve_is_stopped() {
    let mut machine = Machine::start(3);
    let sleep = program("sleep.py");
    // Longer than `serve` may take to stop.
    let id = machine.submit(&[sleep.to_str().expect("path"), "--placement", "single", "--ttl", "PT45S"]);
    machine.wait(&id, &["RUNNING"]);
    machine.stop_serve();
    let stopped = Timestamp::now();
    assert_eq!(machine.processes("org.apache.spark.deploy.SparkSubmit").len(), 1, "{}", machine.log());
    wait_for("the time to live to pass", Duration::from_secs(120), || !machine.state(&id)["outcome"].is_null());
    assert!(machine.processes("org.apache.spark.deploy.SparkSubmit").is_empty(), "{}", machine.log());
    let passed = Timestamp::now();
    machine.start_serve();
    let job = machine.wait(&id, &ENDS);
    let ended: Timestamp = job["endDate"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    assert!(stopped <= ended && ended <= passed, "while serve was stopped, {stopped} to {passed}: {job}");
    let told = (&job["status"], &job["reason"], &job["attempt"]);
    assert_eq!(told, (&"TERMINATED".into(), &"its time to live passed".into(), &1.into()), "{job}");
    assert_ne!(job["returnCode"], 0);
    let said = machine.keys("odp-logs", &format!("{id}/driver/"));
    assert!(!said.is_empty(), "the log is where the user looks for it");
}

#[test]
fn after_the_machine_went_down_what_ran_was_lost_by_the_platform_and_the_rest_goes_on() {
    let mut machine = Machine::start(2);
    machine.client(&["bucket", "create", "starts"]);
    let script = program("once.py");
    let submit = |name: &str, more: &[&str]| {
        let fixed = [script.to_str().expect("path"), "--placement", "single"];
        machine.submit(&[&fixed[..], more, &["starts", name, "120"]].concat())
    };
    let lost = submit("lost", &[]);
    let again = submit("again", &["--retries", "1", "--retry-backoff", "1"]);
    for id in [&lost, &again] {
        machine.wait(id, &["RUNNING"]);
        wait_for("its first line", Duration::from_secs(60), || {
            text(&machine.run(&["job", "logs", id]).stdout).contains("STEP ")
        });
    }
    let waits = machine.submit(&[script.to_str().expect("path"), "--placement", "single", "starts", "waits", "1"]);
    assert_eq!(machine.wait(&waits, &["PENDING"])["queuePosition"], 1);

    machine.go_down();
    // As where the shim had told of the start and not yet written it down.
    let mut state = machine.state(&lost);
    state["phase"] = "starting".into();
    fs::write(machine.state_file(&lost), state.to_string()).expect("written");
    let down = Timestamp::now();
    machine.start_warden();
    machine.start_serve();
    let job = machine.wait(&lost, &ENDS);
    let ended: Timestamp = job["endDate"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    assert!(ended <= down, "the time that the machine was off is not charged, {down}: {job}");
    let told = (&job["status"], &job["fault"], &job["attempt"]);
    assert_eq!(told, (&"FAILED".into(), &"platform".into(), &1.into()), "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.starts_with("lost by the platform: ")), "{job}");
    let log = machine.keys("odp-logs", &format!("{lost}/driver/spark.log."));
    assert_eq!(log.len(), 1, "what it had written is in the store: {log:?}");
    assert_eq!(machine.wait(&waits, &ENDS)["status"], "COMPLETED", "{}", machine.log());
    let job = machine.wait(&again, &["RUNNING"]);
    assert_eq!(job["attempt"], 2, "{job}");
    machine.client(&["job", "cancel", &again]);
    assert_eq!(machine.wait(&again, &ENDS)["status"], "TERMINATED");
    let image = machine.dir.join("data/scratch").join(format!("{lost}.1"));
    assert!(!image.exists(), "an image that outlived the machine is removed");
}

/// A machine that a service manager has started `serve` and the warden on. Dropping it stops them and looks for what
/// is left behind.
struct Machine {
    dir: PathBuf,
    run: PathBuf,
    api: u16,
    warden: Option<Child>,
    serve: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    fn start(max_running: u32) -> Machine {
        let turn = support::turn();
        let dir = tempfile::Builder::new().prefix("casemate-test-").tempdir_in("/var/tmp").expect("a directory").keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("mode");
        let run = PathBuf::from("/run").join(dir.file_name().expect("a name"));
        let (api, s3) = (free_port(), free_port());
        let text = format!(
            "data = '{}'\nrun = '{}'\nengines = '{}'\nuser = '{USER}'\n\
             [api]\nlisten = '127.0.0.1:{api}'\n[s3]\nlisten = '127.0.0.1:{s3}'\n[jobs]\nmax_running = {max_running}\n",
            dir.join("data").display(),
            run.display(),
            engines().display(),
        );
        let data = dir.join("data");
        fs::create_dir(&data).expect("a directory");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("mode");
        chown(&data, Some(USER), Some(USER)).expect("owner");
        file(&dir, "casemate.toml", text.as_bytes());
        fs::create_dir(dir.join("bin")).expect("a directory");
        let mut machine = Machine { dir, run, api, warden: None, serve: None, _turn: turn };
        machine.replace_program();
        let first = machine.part("first-run").status().expect("it runs");
        assert!(first.success(), "{}", machine.log());
        machine.start_warden();
        machine.start_serve();
        machine
    }

    /// Where the program is, whichever file that is now.
    fn program(&self) -> PathBuf {
        self.dir.join("bin/casemate")
    }

    /// Puts another file in the program's place, as a package manager does.
    fn replace_program(&self) {
        let new = self.dir.join("bin/casemate.new");
        fs::copy(CASEMATE, &new).expect("copied");
        fs::rename(new, self.program()).expect("in its place");
    }

    fn part(&self, name: &str) -> Command {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).expect("a log");
        let mut command = Command::new(self.program());
        command.args([name, "--config"]).arg(self.dir.join("casemate.toml")).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn start_warden(&mut self) {
        self.warden = Some(self.part("warden").spawn().expect("it starts"));
    }

    fn start_serve(&mut self) {
        self.serve = Some(self.part("serve").spawn().expect("it starts"));
        wait_for("serve to answer", Duration::from_secs(40), || self.run(&["job", "list"]).status.success());
    }

    fn stop_warden(&mut self) {
        let status = stopped(self.warden.take(), Signal::SIGTERM);
        assert!(status.success(), "{status}\n{}", self.log());
    }

    fn stop_serve(&mut self) {
        let status = stopped(self.serve.take(), Signal::SIGTERM);
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// The end of `serve`, which was asked to stop.
    fn ended_serve(&mut self) -> ExitStatus {
        ended(self.serve.take().expect("it ran"))
    }

    /// No process lives, and what was only in memory is gone: mounts, control groups, the run directory. Images on the
    /// disk stay.
    fn go_down(&mut self) {
        for part in [self.serve.take(), self.warden.take()] {
            stopped(part, Signal::SIGKILL);
        }
        let scratch = self.dir.join("data/scratch");
        let images: Vec<PathBuf> =
            fs::read_dir(&scratch).expect("images").flatten().map(|entry| entry.path()).collect();
        assert!(!images.is_empty());
        self.forget();
        for image in images {
            fs::create_dir_all(&image).expect("a directory");
            fs::write(image.join("driver.img"), [0; 4096]).expect("an image");
        }
    }

    /// Ends and removes what lives in memory.
    fn forget(&self) {
        let config = warden::Config {
            data: self.dir.join("data"),
            run: self.run.clone(),
            engines: engines(),
            service_uid: USER,
            service_gid: USER,
            runtime: "runc".into(),
            java_home: "/usr".into(),
            uid_base: 0,
            scratch_encryption: warden::ScratchEncryption::None,
            executable: CASEMATE.into(),
        };
        warden::destroy_all(&config).expect("destroyed");
        fs::remove_dir_all(&self.run).expect("removed");
    }

    /// A call of which all has come but the last two bytes.
    fn begin_a_call(&self) -> TcpStream {
        let mut call = TcpStream::connect(("127.0.0.1", self.api)).expect("it listens");
        call.set_read_timeout(Some(Duration::from_secs(20))).expect("a bound");
        let head = "POST /1.0/auth/credential HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Content-Length: 2\r\n\r\n";
        call.write_all(head.as_bytes()).expect("sent");
        // Heard, and not only in the kernel: whoever comes after it on a connection of his own has been answered.
        assert!(self.run(&["job", "list"]).status.success());
        call
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(CASEMATE);
        command.args(arguments).env("CASEMATE_CONFIG", self.dir.join("data/first-run.toml")).stdin(Stdio::null());
        command.output().expect("casemate runs")
    }

    fn client(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output.stderr), self.log());
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn submit(&self, arguments: &[&str]) -> String {
        let job = self.client(&[&["job", "submit"], arguments].concat());
        job["id"].as_str().unwrap_or_else(|| panic!("no id in {job}")).to_owned()
    }

    fn wait(&self, id: &str, statuses: &[&str]) -> Value {
        let mut last = Value::Null;
        wait_for(&format!("job {id} to be {statuses:?}"), Duration::from_secs(180), || {
            let output = self.run(&["job", "show", id, "--output", "json"]);
            last = serde_json::from_slice(&output.stdout).unwrap_or_default();
            last["status"].as_str().is_some_and(|status| statuses.contains(&status))
        });
        last
    }

    /// Where the shim of a job's first attempt writes down how that stands.
    fn state_file(&self, id: &str) -> PathBuf {
        self.dir.join("data/jobs").join(id).join("1/state.json")
    }

    fn state(&self, id: &str) -> Value {
        serde_json::from_slice(&fs::read(self.state_file(id)).expect("a state")).expect("JSON")
    }

    fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let listed = self.client(&["object", "list", &format!("s3://{bucket}/{prefix}")]);
        let keys = listed.as_array().into_iter().flatten().filter_map(|object| object["key"].as_str());
        keys.map(str::to_owned).collect()
    }

    /// Processes of this machine's sandboxes whose command line has these words.
    fn processes(&self, words: &str) -> Vec<i32> {
        let instance = self.run.file_name().expect("a name").to_string_lossy().into_owned();
        let found = fs::read_dir("/proc").expect("processes").flatten().filter(|process| {
            let read = |name: &str| text(&fs::read(process.path().join(name)).unwrap_or_default()).replace('\0', " ");
            read("cgroup").contains(&instance) && read("cmdline").contains(words)
        });
        found.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for part in [self.serve.take(), self.warden.take()] {
            if part.is_some() {
                stopped(part, Signal::SIGTERM);
            }
        }
        self.forget();
        if std::thread::panicking() {
            eprintln!("--- the machine ---\n{}", self.log());
            return;
        }
        let left = leftovers(&self.dir, &self.run);
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Sends a signal to a part and waits for its end.
fn stopped(part: Option<Child>, signal: Signal) -> ExitStatus {
    let child = part.expect("it runs");
    kill(pid(&child), signal).expect("signalled");
    ended(child)
}

fn ended(mut child: Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        match child.try_wait().expect("it can be waited for") {
            Some(status) => return status,
            None if began.elapsed() > LONGEST_STOP => {
                let _ = child.kill();
                panic!("it did not end within {LONGEST_STOP:?}");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A service manager waits longer than that before it uses force.
const LONGEST_STOP: Duration = Duration::from_secs(30);
const ENDS: [&str; 3] = ["COMPLETED", "FAILED", "TERMINATED"];
/// The user of the service: any that is not root.
const USER: u32 = 61_100;
