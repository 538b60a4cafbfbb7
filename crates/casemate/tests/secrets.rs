//! Secrets never enter what is written: each kind is given to a whole service wherever one can be given, right and wrong,
//! and where none belongs; then the database, the audit log, every other file of the data directory, what the processes
//! print at the level `debug`, their arguments and environments, and answers of errors are searched for it, as it is, in
//! base64 and in hexadecimal digits.

#[path = "secrets/search.rs"]
mod search;
mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem::Finder;
use search::{CONTROL, CONTROL_OBJECT, Planted, Written, files};
use serde_json::Value;
use support::{CASEMATE, Stack, program, python, text, wait_for};

#[test]
fn no_secret_is_in_anything_that_is_written() {
    let elsewhere = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let secret_file = |name: &str, secret: &str| {
        let path = support::file(elsewhere.path(), name, secret.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        path.display().to_string()
    };
    let (external, webhook, token) =
        ("Zq-external-secret-4711-key", "Zq-webhook-secret-4711-word", "Zq-checkpoint-token-4711");
    // Nobody listens at the port 9: what is sent there fails, and is told of.
    let config = format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[sso]\nprivate_providers = true\n\
         [[external_s3]]\nname = 'far'\nendpoint = 'http://127.0.0.1:9'\naccess_key = 'planted'\nsecret_key_file = '{}'\nprojects = []\n\
         [[webhook]]\nname = 'hook'\nurl = 'https://127.0.0.1:9/hook'\nsecret_file = '{}'\n\
         [[audit.send_to]]\nkind = 'webhook'\nurl = 'https://127.0.0.1:9/hook?token={token}'\n",
        secret_file("external", external),
        secret_file("webhook", webhook),
    );
    let mut stack = Stack::configured_with(&config, &[("CASEMATE_LOG", "debug")]);
    let data = stack.dir.join("data");
    let operate = |arguments: &[&str]| {
        let output = Command::new(CASEMATE).args(arguments).arg("--data").arg(&data).output().expect("casemate runs");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let made = operate(&["user", "create", "alice", "--output", "json"]);
    let link = made["link"].as_str().expect("a link").to_owned();
    // The operator knows the address from the configuration, where the port is not.
    let path = link.split_once("/auth/setup/").expect("a link").1;
    let link = format!("{}/1.0/auth/setup/{path}", stack.text("api"));
    let key = operate(&["key", "create", "--output", "json"]);

    let mut command = Command::new(python());
    let output = stack.tell(command.arg(program("plant.py"))).env("SETUP", &link).output().expect("python runs");
    let found = search::said(&text(&output.stdout)).filter(|_| output.status.success());
    let (mut planted, answers) = found.unwrap_or_else(|| panic!("{}\n{}", text(&output.stderr), stack.log()));
    for (name, secret) in [("secret key elsewhere", external), ("webhook's secret", webhook), ("token of a URL", token)]
    {
        planted.push(Planted::new(name, secret));
    }
    for name in ["application_secret", "consumer_key"] {
        let secret = find(&key, name).unwrap_or_else(|| panic!("{name}: {key}"));
        planted.push(Planted::new(&format!("{name} of a command"), &secret));
    }
    assert!(planted.len() > 110, "{}", planted.len());
    wait_for("the log to be sealed", Duration::from_secs(30), || {
        segments(&data).iter().any(|(_, bytes)| Finder::new(CONTROL).find(bytes).is_some())
    });

    let processes = processes(&stack);
    let log = (String::from("what the processes print"), stack.log().into_bytes());
    let mut written = files(&data);
    written.extend(segments(&data));
    // The shown link of the first administrator stands in the terminal, and the keys of the first account in their file:
    // that is how they are handed over.
    let handed_over = fs::read(data.join("first-run.toml")).expect("the first keys");
    written.retain(|(name, _)| !name.ends_with("/first-run.toml"));
    // The search finds what is there.
    let control = Planted::new("control", CONTROL);
    for place in ["casemate.sqlite", "segments/"] {
        let found = written.iter().any(|(name, bytes)| name.contains(place) && control.is_in(bytes));
        assert!(found, "the control is not found in {place}");
    }
    let object = Planted::new("control", CONTROL_OBJECT);
    assert!(written.iter().any(|(name, bytes)| name.contains("/objects/") && object.is_in(bytes)), "in the store");
    assert!(Planted::new("control", "the service is ready").is_in(&log.1), "what is printed");
    assert!(
        processes.iter().any(|(_, bytes)| Planted::new("control", "CASEMATE_LOG=debug").is_in(bytes)),
        "environment"
    );
    assert!(processes.iter().any(|(_, bytes)| Planted::new("control", &data.display().to_string()).is_in(bytes)));
    assert!(answers.len() > 50, "{}", answers.len());
    let first = planted.iter().find(|one| one.name == "application secret").expect("a secret");
    assert!(first.is_in(&handed_over), "the file in which secrets are");
    for encoded in [STANDARD.encode("xwrong Zq-webhook-secret-4711-word!"), hex::encode("xZq-webhook-secret-4711-word")]
    {
        assert!(Planted::new("webhook", webhook).is_in(encoded.as_bytes()), "{encoded}");
    }

    let mut found = search::found(&planted, &written);
    found.extend(search::found(&planted, &processes));
    found.extend(search::found(&planted, &[log]));
    found.extend(search::found_in_answers(&planted, &answers));
    let ready = fs::read(stack.dir.join("ready.json")).expect("ready file");
    assert!(stack.stop().is_empty());
    fs::write(stack.dir.join("ready.json"), ready).expect("ready file");
    let mut after = files(&data);
    after.retain(|(name, _)| !name.ends_with("/first-run.toml"));
    found.extend(search::found(&planted, &after));
    found.extend(search::found(&planted, &[("what the processes printed".to_owned(), stack.log().into_bytes())]));
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{found:#?}");
}

fn segments(data: &Path) -> Vec<Written> {
    files(data).into_iter().filter(|(name, _)| name.contains("/audit/segments/")).collect()
}

/// Arguments and environments of the processes of the service.
fn processes(stack: &Stack) -> Vec<Written> {
    let place = stack.dir.display().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
        let arguments = read("cmdline");
        let of_service = ["serve_pid", "warden_pid"].iter().any(|name| {
            stack.ready(name).as_u64().is_some_and(|pid| process.file_name().to_string_lossy() == pid.to_string())
        });
        if of_service || Finder::new(place.as_bytes()).find(&arguments).is_some() {
            let name = process.file_name().to_string_lossy().into_owned();
            found.push((format!("the arguments of process {name}"), arguments));
            found.push((format!("the environment of process {name}"), read("environ")));
        }
    }
    assert!(found.len() >= 6, "{}", found.len());
    found
}

/// The text of this name, wherever it stands.
fn find(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::Object(fields) => match fields.get(name).and_then(Value::as_str) {
            Some(found) => Some(found.to_owned()),
            None => fields.values().find_map(|value| find(value, name)),
        },
        Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}
