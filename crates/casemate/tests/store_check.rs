//! `casemate store check` on the data of a whole service: what it says, its exit codes, and the audit entries of a
//! repair (OBJ-4, OBJ-5).

mod support;

use std::{fs, os::unix::fs::FileExt as _, path::Path, process::Command};

use serde_json::Value;
use support::{CASEMATE, Stack, text};

#[test]
fn an_operator_finds_what_is_damaged_and_repairs_it_from_a_copy() {
    let mut stack = Stack::start();
    let (small, large) = (stack.dir.join("small"), stack.dir.join("large"));
    fs::write(&small, b"a few bytes").expect("a file");
    fs::write(&large, vec![7; 3 << 20]).expect("a file");
    stack.put(&small, "kept", "small");
    stack.put(&large, "kept", "large");
    let data = stack.dir.join("data");
    let check = |more: &[&str]| {
        let data = data.to_str().expect("path");
        let arguments = [&["store", "check", "--data", data, "--output", "json"], more].concat();
        let output = Command::new(CASEMATE).args(arguments).output().expect("casemate runs");
        let said = serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), said, text(&output.stderr))
    };

    let (code, said, errors) = check(&[]);
    assert_eq!((code, said), (Some(1), Value::Null));
    assert!(errors.contains("error: the object store is in use: the service runs\nhelp: stop the service"), "{errors}");
    let ready = fs::read(stack.dir.join("ready.json")).expect("ready file");
    assert!(stack.stop().is_empty());
    // For the look at the machine when the test ends.
    fs::write(stack.dir.join("ready.json"), ready).expect("ready file");

    let (code, said, errors) = check(&[]);
    assert_eq!((code, errors.as_str(), &said["whole"], &said["index"]), (Some(0), "", &true.into(), &true.into()));
    let copy = stack.dir.join("copy");
    let copied = Command::new("cp").arg("-a").args([data.join("objects"), copy.clone()]).status();
    assert!(copied.expect("cp runs").success());

    let file = only_file(&data.join("objects/large"));
    let opened = fs::OpenOptions::new().write(true).open(&file).expect("the file of the large object");
    opened.write_all_at(b"other bytes", 2 << 20).expect("written");
    let (code, said, errors) = check(&[]);
    assert_eq!((code, &said["whole"], &said["unrepaired"]), (Some(1), &false.into(), &1.into()), "{errors}");
    let damage = &said["damaged"][0];
    let words = |name: &str| damage[name].as_str().unwrap_or_default();
    assert_eq!([words("bucket"), words("key"), words("wrong")], ["kept", "large", "changed"]);
    assert!(errors.contains("error: objects are damaged\nhelp: `casemate store check --repair-from DIR`"), "{errors}");

    for (wrong, why) in [(stack.dir.as_path(), "neither `packed` nor `large`"), (&data, "it is the store itself")] {
        let (code, _, errors) = check(&["--repair-from", wrong.to_str().expect("path")]);
        assert!(code == Some(1) && errors.contains(why), "{errors}");
    }
    let (code, said, errors) = check(&["--repair-from", copy.to_str().expect("path")]);
    assert_eq!((code, &said["whole"], &said["repaired"]), (Some(0), &true.into(), &1.into()), "{errors}");
    let (code, said, errors) = check(&[]);
    assert_eq!((code, &said["damaged"]), (Some(0), &Value::Array(Vec::new())), "{errors}");
    assert_eq!(repairs(&data), ["begun", "whole"]);

    // Where there is no store, none is made.
    let empty = stack.dir.join("empty");
    fs::create_dir(&empty).expect("a directory");
    let output = Command::new(CASEMATE).args(["store", "check", "--data"]).arg(&empty).output().expect("casemate runs");
    let errors = text(&output.stderr);
    assert!(!output.status.success() && errors.contains("there is no object store in"), "{errors}");
    assert_eq!(fs::read_dir(&empty).expect("directory").count(), 0);
}

fn only_file(dir: &Path) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(dir).expect("directory").map(|file| file.expect("file").path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    file.clone()
}

/// Results of the repairs in the audit log, oldest first.
fn repairs(data: &Path) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let db = db::Db::open(&data.join("db/casemate.sqlite")).await.expect("the database");
        let query = db::audit::Query { limit: 50, ..db::audit::Query::default() };
        let rows = db::audit::list(&db, &query).await.expect("entries");
        rows.into_iter().rev().filter(|row| row.action == "store:Repair").map(|row| row.result).collect()
    })
}
