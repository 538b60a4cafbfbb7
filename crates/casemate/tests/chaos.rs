//! `kill -9` of whatever runs, at random times, while jobs come and go: every job ends in a true state, and what it left
//! in the store agrees with that (JOB-6). `CASEMATE_CHAOS_SEED` gives a run the choices of an earlier one; what was under
//! way at each kill, it cannot give back.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use support::{CASEMATE, Stack, program, text, versions, wait_for};

#[test]
fn every_job_ends_in_a_true_state_whatever_is_killed() {
    let seed = std::env::var("CASEMATE_CHAOS_SEED").map_or_else(
        |_| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs(),
        |text| text.parse().expect("CASEMATE_CHAOS_SEED is a number"),
    );
    println!("CASEMATE_CHAOS_SEED={seed}");
    let mut chaos = Chaos::begin(seed);
    for round in 0..KILLS {
        // None is made to wait while jobs do; then the kill comes when one may just be taken.
        let rested = round % REST_EVERY == REST_EVERY - 1;
        if rested {
            wait_for("every job to end", Duration::from_secs(600), || chaos.open().is_empty());
            chaos.stack.until_one_waits();
        }
        chaos.submit();
        chaos.cancel_one_in(20);
        let least = if rested { 0 } else { 2_000 };
        std::thread::sleep(Duration::from_millis(least + chaos.dice.below(2 * least + 300)));
        let victim = chaos.kill();
        println!("{round} {} of {}", victim.kind, victim.sandbox.as_deref().unwrap_or("all"));
        chaos.killed.push(victim);
    }
    chaos.come_to_rest();
    let mut wrong = chaos.wrong();
    wrong.extend(chaos.wrong_in_the_books());
    assert!(wrong.is_empty(), "CASEMATE_CHAOS_SEED={seed}: {wrong:#?}");
    chaos.was_a_test();
}

/// What was killed, and of which sandbox.
struct Victim {
    kind: &'static str,
    sandbox: Option<String>,
}

/// A job that was asked for.
struct Asked {
    id: String,
    retries: usize,
    cancelled: bool,
}

struct Chaos {
    stack: Stack,
    /// The name of the run directory, which is in the paths of all processes of this stack.
    instance: String,
    dice: Dice,
    asked: BTreeMap<String, Asked>,
    killed: Vec<Victim>,
    /// The jobs as the service shows them, once all have ended.
    shown: BTreeMap<String, Value>,
}

impl Chaos {
    fn begin(seed: u64) -> Chaos {
        let stack = Stack::configured(&configuration());
        let run = fs::canonicalize(stack.text("config")).expect("a path");
        let instance = run.parent().and_then(|run| run.file_name()).expect("a name").to_string_lossy().into_owned();
        assert!(stack.run(&["bucket", "create", BUCKET]).status.success());
        stack.put(&program("unique.py"), "code", "unique.py");
        let data = stack.dir.join("data");
        let price = ["--since", "2026-01-01T00:00:00Z", "--core-minute", "0.01", "--gib-minute", "0.002"];
        let set = operator(&[&["billing", "price", "set"], &price[..]].concat(), &data);
        assert!(set.status.success(), "{}", text(&set.stderr));
        Chaos { stack, instance, dice: Dice(seed), asked: BTreeMap::new(), killed: Vec::new(), shown: BTreeMap::new() }
    }

    /// Tops up the jobs that have not ended.
    fn submit(&mut self) {
        let versions = versions();
        while self.open().len() < OPEN {
            let number = self.asked.len();
            let name = format!("job-{number:03}");
            let key = format!("{name}-{}", std::process::id());
            let version = &versions[self.dice.index(versions.len())];
            let steps = (1 + self.dice.below(8)).to_string();
            let retries = if self.dice.below(4) == 0 { 2 } else { 0 };
            let placement = if self.dice.below(4) == 0 { "cluster" } else { "single" };
            let mut arguments = vec!["job", "submit", "s3://code/unique.py", "--engine-version", version];
            arguments.extend(["--name", &name, "--placement", placement, "--idempotency-key", &key]);
            arguments.extend(["--output", "json"]);
            if retries > 0 {
                arguments.extend(["--retries", "2", "--retry-on", "platform,failed", "--retry-backoff", "1"]);
            }
            arguments.extend([BUCKET, &name, &steps]);
            let mut id = None;
            // Of a service that may just be starting again: the same submit until there is an answer.
            wait_for("a submit", Duration::from_secs(60), || {
                let output = self.stack.run(&arguments);
                let job: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                id = job["id"].as_str().map(str::to_owned);
                id.is_some()
            });
            self.asked.insert(name, Asked { id: id.expect("an id"), retries, cancelled: false });
        }
    }

    /// Names of jobs that the service does not say to have ended.
    fn open(&self) -> Vec<String> {
        let mut listed = Value::Null;
        wait_for("the list of jobs", Duration::from_secs(60), || {
            let output = self.stack.run(&["job", "list", "--output", "json"]);
            listed = serde_json::from_slice(&output.stdout).unwrap_or_default();
            listed.is_array()
        });
        let ended: BTreeSet<&str> = listed
            .as_array()
            .into_iter()
            .flatten()
            .filter(|job| job["status"].as_str().is_some_and(|status| ENDS.contains(&status)))
            .filter_map(|job| job["id"].as_str())
            .collect();
        self.asked.iter().filter(|(_, job)| !ended.contains(&*job.id)).map(|(name, _)| name.clone()).collect()
    }

    fn cancel_one_in(&mut self, rounds: u64) {
        let open = self.open();
        if open.is_empty() || self.dice.below(rounds) > 0 {
            return;
        }
        let name = &open[self.dice.index(open.len())];
        let job = self.asked.get_mut(name).expect("asked for");
        // Where the answer was lost, it may have been heard.
        let _ = self.stack.run(&["job", "cancel", &job.id]);
        job.cancelled = true;
    }

    /// Kills a process that the dice choose: first of which kind, then which of those.
    fn kill(&mut self) -> Victim {
        loop {
            let kind = KINDS[self.dice.index(KINDS.len())];
            let mut living = self.living(kind);
            living.sort();
            if living.is_empty() {
                // So that a kind that is not there does not make this spin.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            let (sandbox, pid) = living.swap_remove(self.dice.index(living.len()));
            let pid = nix::unistd::Pid::from_raw(pid);
            // It may have ended by itself since: then another one.
            if nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok() {
                return Victim { kind, sandbox };
            }
        }
    }

    /// Processes of this stack of a kind, each with its sandbox: of a job, or one that waits for a job.
    fn living(&self, kind: &str) -> Vec<(Option<String>, i32)> {
        if let "serve" | "warden" = kind {
            let pid = self.stack.ready(&format!("{kind}_pid"));
            return pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).map(|pid| (None, pid)).into_iter().collect();
        }
        let made = words(&self.stack.log(), "sandbox made", "sandbox=");
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").expect("processes").flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let read = |name: &str| text(&fs::read(process.path().join(name)).unwrap_or_default()).replace('\0', " ");
            let (command, cgroup) = (read("cmdline"), read("cgroup"));
            if !cgroup.contains(&self.instance) {
                continue;
            }
            // Not every hierarchy has the groups of sandboxes.
            let mut ours = cgroup.lines().filter(|line| line.contains(&self.instance));
            let node = ours.find_map(|line| line.rsplit_once('/')).map_or("", |(_, node)| node);
            let is = match kind {
                "shim" => command.contains(" shim --sandbox "),
                "monitor" => command.contains(" monitor --bundle "),
                "driver" => node == "driver" && command.contains("java"),
                _ => node.starts_with("executor-") && command.contains("java"),
            };
            let sandbox = made.iter().find(|name| cgroup.contains(*name));
            if is && sandbox.is_some() {
                found.push((sandbox.cloned(), pid));
            }
        }
        found
    }

    /// Waits until every job has ended.
    fn come_to_rest(&mut self) {
        wait_for("every job to end", Duration::from_secs(600), || self.open().is_empty());
        for (name, job) in &self.asked {
            self.shown.insert(name.clone(), self.stack.job(&job.id));
        }
    }

    /// What the service says of jobs that is not so.
    fn wrong(&self) -> Vec<String> {
        let log = self.stack.log();
        let taken: BTreeMap<String, String> =
            words(&log, TAKEN, "sandbox=").into_iter().zip(words(&log, TAKEN, "id=")).collect();
        let mut marks: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut wrong = Vec::new();
        for key in self.stack.keys(BUCKET, "") {
            let (name, mark) = key.split_once('/').expect("a name and a mark");
            let found = marks.entry(name.to_owned()).or_default();
            match mark.rsplit_once('.') {
                Some((_, "started")) => found.0 += 1,
                Some((_, "done")) => found.1 += 1,
                // A write that was cut off leaves nothing under any name.
                _ => wrong.push(format!("{key}: of no job")),
            }
        }
        wrong
            .extend(marks.keys().filter(|name| !self.asked.contains_key(*name)).map(|name| format!("{name}: unknown")));
        for (name, asked) in &self.asked {
            let job = &self.shown[name];
            let (started, done) = marks.get(name).copied().unwrap_or_default();
            let killed: BTreeSet<&str> = self
                .killed
                .iter()
                .filter(|victim| {
                    let sandbox = victim.sandbox.as_deref().unwrap_or_default();
                    taken.get(sandbox).map_or(sandbox, String::as_str).starts_with(&asked.id)
                })
                .map(|victim| victim.kind)
                .collect();
            let mut say = |why: &str| {
                wrong.push(format!("{why}: {started} starts, {done} ends, killed {killed:?}: {job}"));
            };
            let attempts = job["attempt"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
            if started > 1 + asked.retries || started > attempts || done > started {
                say("user code ran more often than was asked for");
            }
            if job["startDate"].is_null() && started > 0 {
                say("it never ran, and left something");
            }
            let (reason, fault) = (job["reason"].as_str().unwrap_or_default(), job["fault"].as_str());
            let code = job["returnCode"].as_i64().unwrap_or_default();
            match job["status"].as_str().unwrap_or_default() {
                "COMPLETED" if done == 0 || code != 0 => say("it did not do what it says"),
                "COMPLETED" if done > 1 && attempts < 2 => say("it ended twice"),
                "COMPLETED" => {}
                "TERMINATED" if !asked.cancelled => say("nobody cancelled it"),
                "TERMINATED" => {}
                "FAILED" if code == 0 => say("a failure with the return code 0"),
                "FAILED" => {
                    let shows = |kinds: &[&str]| kinds.iter().any(|kind| killed.contains(kind));
                    let (blame, cause) = match reason {
                        _ if reason.starts_with("lost by the platform: ") => ("platform", shows(&["shim", "monitor"])),
                        _ if reason.ends_with("killed by signal 9") => ("job", shows(&["driver"])),
                        _ if reason.contains("ended with return code") => ("job", shows(&["driver", "executor"])),
                        _ => ("", false),
                    };
                    if !cause || fault != Some(blame) {
                        say("the reason is not what happened");
                    }
                }
                _ => say("it has not ended"),
            }
            // What the driver printed is in the store, whoever was killed before it was brought there.
            let ran = job["startDate"].is_string();
            let printed = ran && !text(&self.stack.run(&["job", "logs", &asked.id]).stdout).is_empty();
            let kept = self.stack.keys("odp-logs", &format!("{}/driver/", asked.id));
            if printed && kept.is_empty() {
                say("its log is not in the store");
            }
        }
        wrong
    }

    /// What is wrong with the audit log and the statement of the month.
    fn wrong_in_the_books(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let data = self.stack.dir.join("data");
        let verified = operator(&["audit", "verify", "--output", "json"], &data);
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap_or_default();
        if report["whole"] != true {
            wrong.push(format!("the audit log: {report} {}", text(&verified.stderr)));
        }
        let project = self.stack.profile("project");
        let stated = operator(&["billing", "statement", &project, "--output", "json"], &data);
        let statement: Value = serde_json::from_slice(&stated.stdout).unwrap_or_default();
        let lines = statement["lines"].as_array().cloned().unwrap_or_default();
        let sum: i64 = lines.iter().map(|line| millionths(&line["amount"])).sum();
        if lines.is_empty() || sum != millionths(&statement["charged"]) {
            wrong.push(format!(
                "lines of {sum} millionths, charged {}: {}",
                statement["charged"],
                text(&stated.stderr)
            ));
        }
        let billed: BTreeSet<&str> = lines.iter().filter_map(|line| line["job"].as_str()).collect();
        for job in self.shown.values() {
            let is_billed = billed.contains(job["id"].as_str().expect("an id"));
            if (job["status"] == "COMPLETED" && !is_billed) || (is_billed && job["startDate"].is_null()) {
                wrong.push(format!("completed and is not in the statement, or never ran and is: {job}"));
            }
        }
        wrong
    }

    /// Whether there was enough of everything for the rest to mean something.
    fn was_a_test(&self) {
        let ended = |status: &str| self.shown.values().filter(|job| job["status"] == status).count();
        let counts: BTreeMap<&str, usize> =
            ENDS.iter().map(|status| (*status, ended(status))).filter(|(_, count)| *count > 0).collect();
        let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
        for victim in &self.killed {
            *killed.entry(victim.kind).or_default() += 1;
        }
        println!("{} jobs {counts:?}, killed {killed:?}", self.shown.len());
        assert!(ended("COMPLETED") >= 10 && ended("FAILED") >= 5, "{counts:?}");
        assert!(KINDS.iter().all(|kind| killed.contains_key(kind)), "{killed:?}");
        let taken = words(&self.stack.log(), TAKEN, "sandbox=").len();
        println!("{taken} runtimes that waited were taken");
        assert!(taken > 0);
    }
}

/// At most so many jobs at once, and a runtime that waits for those of one shape.
fn configuration() -> String {
    format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[jobs]\nmax_running = {AT_ONCE}\n[[jobs.warm]]\n\
         engine_version = '{}'\nparameters = {{ placement = 'single' }}\n",
        versions()[0]
    )
}

/// What stands behind `name` in each line of a log that has `mark`.
fn words(log: &str, mark: &str, name: &str) -> Vec<String> {
    let name = format!(" {name}");
    let lines = log.lines().filter(|line| line.contains(mark));
    lines.filter_map(|line| line.split(&name).nth(1)?.split(' ').next().map(str::to_owned)).collect()
}

/// An operator's command on a data directory.
fn operator(arguments: &[&str], data: &std::path::Path) -> Output {
    Command::new(CASEMATE).args(arguments).arg("--data").arg(data).output().expect("casemate runs")
}

/// An amount of money with at most six decimals, as JSON shows it.
fn millionths(amount: &Value) -> i64 {
    let shown = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    let (whole, rest) = shown.split_once('.').unwrap_or((&shown, ""));
    let padded = format!("{whole}{rest:0<6}");
    assert!(rest.len() <= 6, "{amount} has more than six decimals");
    padded.parse().unwrap_or_else(|cause| panic!("{amount}: {cause}"))
}

/// SplitMix64: the same seed makes the same choices everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }
}

const BUCKET: &str = "marks";
const TAKEN: &str = "an attempt takes a runtime that waits";
const KILLS: usize = 100;
/// After so many kills the jobs have rest until a runtime waits.
const REST_EVERY: usize = 10;
/// Jobs that run at once; a few more wait.
const AT_ONCE: u32 = 3;
const OPEN: usize = 5;
/// Of those that cost no job its life there are more, so that jobs also come to their end.
const KINDS: [&str; 10] =
    ["serve", "serve", "serve", "warden", "warden", "warden", "shim", "monitor", "driver", "executor"];
const ENDS: [&str; 3] = ["COMPLETED", "FAILED", "TERMINATED"];
