//! A hostile job tries to get out of its sandbox, and must fail at each try (JOB-5).

mod support;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use support::{Stack, program, versions};

/// What the hostile job reported: name to (outcome, detail).
struct Report(BTreeMap<String, (String, String)>);

impl Report {
    fn read(log: &str) -> Report {
        let mut found = BTreeMap::new();
        for line in log.lines() {
            let Some((_, json)) = line.split_once("ESCAPE ") else { continue };
            let value: Value = serde_json::from_str(json).unwrap_or_else(|cause| panic!("{cause}: {line}"));
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            found.insert(text("name"), (text("outcome"), text("detail")));
        }
        Report(found)
    }

    fn is(&self, name: &str) -> &str {
        let (outcome, detail) = self.0.get(name).unwrap_or_else(|| panic!("no report of {name}"));
        assert_eq!(outcome, "is", "{name}");
        detail
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.is(name)).unwrap_or_else(|cause| panic!("{name}: {cause}: {}", self.is(name)))
    }

    fn refused(&self) -> Vec<&String> {
        self.0.iter().filter(|(_, (outcome, _))| outcome == "refused").map(|(name, _)| name).collect()
    }

    fn got(&self) -> BTreeMap<&String, &String> {
        self.0.iter().filter(|(_, (outcome, _))| outcome == "got").map(|(name, (_, detail))| (name, detail)).collect()
    }
}

#[test]
fn a_hostile_job_gets_nowhere() {
    let stack = Stack::start();
    gets_nowhere(&stack);
}

/// All that is true of a job that is started cold is true of one whose containers waited for it.
#[test]
fn a_hostile_job_gets_nowhere_in_a_runtime_that_waited_for_it() {
    let version = versions().pop().expect("a version");
    let stack = Stack::configured(&format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[[jobs.warm]]\nengine_version = '{version}'\n"
    ));
    stack.until_warm(1);
    let waits = stack.sandboxes();
    assert_eq!(waits.len(), 1, "{waits:?}");
    // No bucket, no key and no log of any project is there for it.
    assert!(!stack.dir.join("data/jobs").join(waits[0].replace(".1", "")).join("1/state.json").exists());
    gets_nowhere(&stack);
    let log = stack.log();
    assert!(
        log.contains(&format!("sandbox={}", waits[0])) && log.contains("an attempt takes a runtime that waits"),
        "{log}"
    );
    assert!(!log.contains("a container that waited is not used"), "{log}");
    assert!(!stack.sandboxes().contains(&waits[0]), "used once");
}

fn gets_nowhere(stack: &Stack) {
    let script = program("escape.py");
    let script = script.to_str().expect("path");
    // Another job runs beside it, whose things it must not see.
    let oldest = versions().swap_remove(0);
    let other = stack.submit(&[program("sleep.py").to_str().expect("path"), "--engine-version", &oldest]);
    stack.wait_status(&other, &["RUNNING"], Duration::from_secs(60));
    let data = stack.dir.join("data");
    let secrets = [
        data.to_string_lossy().into_owned(),
        data.join("db").to_string_lossy().into_owned(),
        data.join("keys").to_string_lossy().into_owned(),
        stack.text("config"),
        format!("{}/warden.sock", stack.text("config").trim_end_matches("/casemate.toml")),
        stack.dir.to_string_lossy().into_owned(),
    ];
    let version = versions().pop().expect("a version");
    let mut arguments = vec![script, "--engine-version", version.as_str()];
    arguments.extend(secrets.iter().map(String::as_str));
    let id = stack.submit(&arguments);
    let job = stack.wait(&id);
    let log = stack.logs(&id);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}");
    let report = Report::read(&log);

    // Nothing that it tried went through.
    assert!(report.got().is_empty(), "it got out: {:#?}", report.got());
    assert!(report.refused().len() > 55, "all was tried: {:?}", report.refused());

    // What it is: a user of its own range, without any capability, under seccomp.
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(report.is(&format!("status.{set}")), "0000000000000000", "{set}");
    }
    assert_eq!(report.is("status.NoNewPrivs"), "1");
    assert_eq!(report.is("status.Seccomp"), "2");
    assert_eq!(report.is("status.Groups").trim(), "");
    for map in ["uid_map", "gid_map"] {
        let numbers: Vec<u64> = report.is(map).split(' ').map(|number| number.parse().expect("number")).collect();
        assert_eq!(numbers.len(), 3, "one range: {numbers:?}");
        assert_eq!(numbers[0], 0);
        assert!(numbers[1] >= 700_000_000, "root inside is nobody outside: {numbers:?}");
        assert!(numbers[2] <= 65_536);
    }
    assert!(report.is("status.Uid").split('\t').all(|id| id != "0"), "not root inside either");

    // All seven namespaces differ from the host's.
    let namespaces = report.json("namespaces");
    for (name, link) in namespaces.as_object().expect("namespaces") {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace");
        assert_ne!(link.as_str(), own.to_str(), "{name}");
    }

    // Loopback only, no route, nobody else's processes, nothing of the host's environment.
    assert_eq!(report.json("interfaces"), serde_json::json!(["lo"]));
    assert_eq!(report.json("routes"), serde_json::json!([]));
    for process in report.json("processes").as_array().expect("processes") {
        let name = process.as_str().expect("name");
        assert!(name.contains("java") || name.contains("python"), "a process that is not the job's: {name}");
    }
    let environment = report.json("environment");
    let names: Vec<&String> = environment.as_object().expect("environment").keys().collect();
    for (name, value) in environment.as_object().expect("environment") {
        let value = value.as_str().expect("text");
        assert!(!name.contains("SECRET_ACCESS_KEY") && !value.contains(&stack.s3("secret_key")), "{name} in {names:?}");
    }
    assert!(!names.iter().any(|name| name.starts_with("CARGO") || name.starts_with("SUDO")), "{names:?}");

    // Every mount is read-only but the job's own storage and the kernel's own device and process trees.
    let mounts = report.json("mounts");
    for mount in mounts.as_array().expect("mounts") {
        let [place, options, kind] = [0, 1, 2].map(|index| mount[index].as_str().expect("text"));
        let own = ["/scratch", "/tmp", "/work", "/dev", "/dev/shm", "/dev/mqueue", "/dev/pts", "/proc"]
            .contains(&place)
            || place.starts_with("/proc/")
            || place.starts_with("/dev/");
        assert!(own || options.split(',').any(|option| option == "ro"), "{place} ({kind}) is writable: {options}");
        if place != "/" && kind == "ext4" {
            assert!(options.contains("nosuid") && options.contains("nodev"), "{place}: {options}");
        }
    }

    // The executor is a container of its own, as tightly held.
    let executor = report.json("executor");
    assert_eq!(executor["CapEff"], "0000000000000000");
    assert_eq!(executor["CapBnd"], "0000000000000000");
    assert_eq!(executor["NoNewPrivs"], "1");
    assert_eq!(executor["Seccomp"], "2");
    for name in ["pid", "mnt"] {
        assert_ne!(executor[name], namespaces[name], "the executor shares the driver's {name} namespace");
    }

    let output = stack.run(&["job", "cancel", &other]);
    assert!(output.status.success());
    stack.wait(&other);
}

#[test]
fn the_credentials_of_a_job_end_with_it_and_work_nowhere_else() {
    let stack = Stack::start();
    let script = support::file(
        &stack.dir,
        "leak.py",
        b"import glob\nfor name in glob.glob('/conf/*'):\n    print('FILE', name)\n    print(open(name, errors='replace').read())\n",
    );
    let id = stack.submit(&[script.to_str().expect("path")]);
    assert_eq!(stack.wait(&id)["status"], "COMPLETED");
    let log = stack.logs(&id);
    let value = |name: &str| {
        log.lines()
            .find_map(|line| {
                line.split_once(name)?
                    .1
                    .trim_start_matches([' ', '=', ':'])
                    .split_whitespace()
                    .next()
                    .map(str::to_owned)
            })
            .unwrap_or_else(|| panic!("no {name} in {log}"))
    };
    let (access, secret) = (value("aws_access_key_id"), value("aws_secret_access_key"));
    // Leaked to the outside, they open nothing there.
    let listed = std::process::Command::new(support::python())
        .args(["-c", "import boto3, sys\ns3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='GRA', aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3])\nprint(s3.list_buckets())"])
        .args([stack.text("s3"), access, secret])
        .output()
        .expect("python runs");
    assert!(!listed.status.success());
    assert!(support::text(&listed.stderr).contains("InvalidAccessKeyId"), "{}", support::text(&listed.stderr));
}

#[test]
fn a_job_reads_its_own_project_only_and_cannot_touch_its_logs() {
    let stack = Stack::start();
    let script = support::file(
        &stack.dir,
        "reach.py",
        br#"
import boto3, sys
from botocore.exceptions import ClientError
s3 = boto3.client("s3")
print("BUCKETS", sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"]))
for name, act in {
    "put": lambda: s3.put_object(Bucket="odp-logs", Key="forged", Body=b"x"),
    "delete": lambda: s3.delete_object(Bucket="odp-logs", Key="forged"),
    "drop": lambda: s3.delete_bucket(Bucket="odp-logs"),
    "foreign": lambda: s3.get_object(Bucket="somebody-elses", Key="x"),
}.items():
    try:
        act()
        print("REACH", name, "got")
    except ClientError as cause:
        print("REACH", name, cause.response["Error"]["Code"])
s3.put_object(Bucket="mine", Key="written", Body=b"by the job")
"#,
    );
    let made = stack.run(&["bucket", "create", "mine"]);
    assert!(made.status.success());
    // boto3 for the job: the job brings its own packages beside its main file.
    stack.put(&script, "reach", "reach.py");
    stack.put_python_packages(
        "reach",
        &["boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py"],
    );
    let id = stack.submit(&["s3://reach/reach.py"]);
    let job = stack.wait(&id);
    let log = stack.logs(&id);
    assert_eq!(job["status"], "COMPLETED", "{log}");
    for name in ["put", "delete", "drop"] {
        assert!(log.contains(&format!("REACH {name} AccessDenied")), "{name}: {log}");
    }
    assert!(log.contains("REACH foreign NoSuchBucket"), "{log}");
    assert_eq!(stack.get("mine", "written"), b"by the job");
}
