//! `casemate audit` over a whole service: the log is sealed while it runs, checkpoints go elsewhere, proofs hold without
//! it, and what somebody with the rights of the database does to an entry is named (CTL-7).

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use support::{CASEMATE, Stack, file, python, text, wait_for};

#[test]
fn an_auditor_finds_the_log_whole_proves_an_entry_and_sees_each_change() {
    let elsewhere = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    let kept = elsewhere.path().join("checkpoints");
    let mut stack = Stack::configured(&format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[[audit.send_to]]\nkind = 'file'\npath = '{}'\n",
        kept.display()
    ));
    let data = stack.dir.join("data");
    let audit = |arguments: &[&str]| {
        let mut command = Command::new(CASEMATE);
        command.arg("audit").args(arguments);
        if arguments[0] != "verify-proof" {
            command.arg("--data").arg(&data);
        }
        let output = command.output().expect("casemate runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let good = |arguments: &[&str]| {
        let (code, said, errors) = audit(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}{errors}");
        said
    };
    let report = |arguments: &[&str]| {
        let (code, said, errors) = audit(&[&["verify", "--output", "json"], arguments].concat());
        (code, serde_json::from_str::<Value>(&said).unwrap_or_else(|cause| panic!("{cause}: {said}{errors}")))
    };

    // While the service runs: all is signed soon, whichever process wrote it.
    let small = file(&stack.dir, "small", b"a few bytes");
    stack.put(&small, "kept", "small");
    wait_for("all entries to be signed", Duration::from_secs(20), || {
        let (code, found) = report(&[]);
        assert_eq!((code, &found["whole"]), (Some(0), &true.into()), "{found}");
        found["unsigned"] == 0 && found["size"].as_u64().is_some_and(|size| size > 3)
    });
    let key = good(&["key"]).trim().to_owned();
    let old = file(&stack.dir, "old", good(&["checkpoint"]).as_bytes());
    let old = old.to_str().expect("path");

    let listed = good(&["list", "--action", "objects:PutObject", "--output", "json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let all: Value = serde_json::from_str(&good(&["list", "--output", "json"])).expect("JSON");
    let all = all.as_array().expect("entries");
    let entry = all.iter().find(|entry| entry["resource"].as_str().is_some_and(|what| what.contains("kept")));
    let entry = entry.unwrap_or_else(|| panic!("{all:?} {listed}"));
    let number = entry["entry"].to_string();
    let page: Value =
        serde_json::from_str(&good(&["list", "--before", &number, "--limit", "2", "--output", "json"])).expect("JSON");
    let before = entry["entry"].as_u64().expect("a number");
    assert_eq!([&page[0]["entry"], &page[1]["entry"]], [&Value::from(before - 1), &Value::from(before - 2)]);

    let proof = file(&stack.dir, "proof", good(&["prove", "--entry", &number]).as_bytes());
    let proved = good(&["verify-proof", proof.to_str().expect("path"), "--key", &key, "--output", "json"]);
    let proved: Value = serde_json::from_str(&proved).expect("JSON");
    assert_eq!((&proved["entry"], &proved["resource"]), (&entry["entry"], &entry["resource"]));
    stack.put(&small, "kept", "again");
    stack.kill("serve");
    stack.put(&small, "kept", "after");
    wait_for("the rest to be signed", Duration::from_secs(20), || report(&["--key", &key]).1["unsigned"] == 0);
    let consistent = file(&stack.dir, "consistent", good(&["prove", "--consistency", old]).as_bytes());
    let consistent = consistent.to_str().expect("path");
    good(&["verify-proof", consistent, "--key", &key, "--consistency", old]);
    let (code, _, errors) = audit(&["verify-proof", consistent, "--key", &key, "--consistency", consistent]);
    assert!(code == Some(1) && errors.contains("is not a checkpoint"), "{errors}");

    // And after its end, against what was kept elsewhere.
    let ready = fs::read(stack.dir.join("ready.json")).expect("ready file");
    assert!(stack.stop().is_empty());
    // For the look at the machine when the test ends.
    fs::write(stack.dir.join("ready.json"), ready).expect("ready file");
    let kept = kept.to_str().expect("path");
    let (code, found) = report(&["--against", kept, "--against", old, "--key", &key]);
    assert_eq!(
        (code, &found["findings"], &found["unsigned"]),
        (Some(0), &Value::Array(Vec::new()), &0.into()),
        "{found}"
    );

    let named = |found: &Value, place: &str, number: &str| {
        let number: u64 = number.parse().expect("a number");
        let holds =
            |finding: &Value| finding["place"] == place && finding["from"] == number && finding["through"] == number;
        assert!(found["findings"].as_array().is_some_and(|list| list.iter().any(holds)), "{number}: {found}");
    };
    let database = data.join("db/casemate.sqlite");
    sql(&database, &format!("UPDATE audit SET result = 'forged' WHERE id = {number}"));
    let (code, found) = report(&[]);
    assert_eq!(code, Some(1), "{found}");
    named(&found, "table", &number);
    let (_, said, _) = audit(&["verify"]);
    assert!(said.contains(&format!("changed    database     entry {number}: ")), "{said}");
    assert!(said.contains("the log is NOT whole"), "{said}");
    sql(
        &database,
        &format!("UPDATE audit SET result = '{}' WHERE id = {number}", entry["result"].as_str().expect("text")),
    );
    assert_eq!(report(&[]).0, Some(0));

    let segment = only_file(&data.join("audit/segments"));
    let whole = fs::read(&segment).expect("a segment");
    let mut changed = whole.clone();
    *changed.last_mut().expect("a byte") ^= 1;
    fs::write(&segment, &changed).expect("written");
    let (code, found) = report(&[]);
    assert_eq!(code, Some(1), "{found}");
    named(&found, "log", &found["through"].to_string());
    fs::write(&segment, whole).expect("written");
    assert_eq!(report(&[]).0, Some(0));

    let empty = elsewhere.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    let output =
        Command::new(CASEMATE).args(["audit", "verify", "--data"]).arg(&empty).output().expect("casemate runs");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(&empty).expect("directory").count(), 0);
}

/// Does what the owner of the database can do: takes the triggers away, and puts them back.
fn sql(database: &Path, statement: &str) {
    let output = Command::new(python()).args(["-c", SQL]).arg(database).arg(statement).output().expect("python runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn only_file(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).expect("directory").map(|file| file.expect("file").path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    file.clone()
}

const SQL: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
triggers = database.execute(\"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'\").fetchall()
for name, _ in triggers:
    database.execute(f'DROP TRIGGER {name}')
assert database.execute(sys.argv[2]).rowcount == 1
for _, sql in triggers:
    database.execute(sql)
database.commit()
";
