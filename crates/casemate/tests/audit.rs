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
    // Each look is an entry itself, so that there is always one that is not signed yet.
    let newest = |action: &str| {
        let listed = good(&["list", "--limit", "1", "--action", action, "--output", "json"]);
        serde_json::from_str::<Value>(&listed).expect("JSON")[0]["entry"].as_u64()
    };
    // Entries of the object store come into the table some moments after their change.
    let mut put = None;
    wait_for("the entry of the object", Duration::from_secs(20), || {
        put = newest("s3:PutObject");
        put.is_some()
    });
    let put = put.expect("an entry");
    wait_for("all entries to be signed", Duration::from_secs(20), || {
        let (code, found) = report(&[]);
        assert_eq!((code, &found["whole"]), (Some(0), &true.into()), "{found}");
        found["through"].as_u64().is_some_and(|through| through >= put)
    });
    assert!(newest("operator.command") > Some(put), "commands that only read are in the log too");
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
    let put = newest("s3:PutObject").expect("an entry");
    wait_for("the rest to be signed", Duration::from_secs(20), || {
        report(&["--key", &key]).1["through"].as_u64().is_some_and(|through| through >= put)
    });
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
    sql(&database, &format!("DELETE FROM audit WHERE id = {}", before - 1));
    let restored: Value = serde_json::from_str(&good(&["restore", "--output", "json"])).expect("JSON");
    assert_eq!(restored, serde_json::json!({ "inserted": 1, "replaced": 1 }));
    assert_eq!(report(&[]).0, Some(0));
    let page = good(&["list", "--before", &(before + 1).to_string(), "--limit", "3", "--output", "json"]);
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!((&page[0], &page[1]["entry"]), (entry, &Value::from(before - 1)));
    let actions = good(&["list", "--limit", "9", "--output", "json"]);
    assert!(actions.contains("audit.displaced") && actions.contains("audit.restored"), "{actions}");

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

    // A log-in that never was, where no entry has its number: views and lists would show it.
    sql(
        &database,
        "INSERT INTO audit (id, at, identity, action, resource, decision, result, detail)
         VALUES (-1, 0, 'user/1', 'account.user.loggedIn', 'account/x', 'allowed', 'done', '{}')",
    );
    assert!(good(&["list", "--before", "1", "--output", "json"]).contains("account.user.loggedIn"));
    let (code, found) = report(&[]);
    let of_row = |finding: &Value| {
        let what = finding["what"].as_str().is_some_and(|what| what.contains("of the number -1,"));
        finding["place"] == "table" && finding["wrong"] == "forged" && finding["from"].is_null() && what
    };
    assert!(code == Some(1) && found["findings"].as_array().is_some_and(|all| all.iter().any(of_row)), "{found}");
    sql(&database, "DELETE FROM audit WHERE id = -1");
    assert_eq!(report(&[]).0, Some(0));

    // An entry that stands in the table and is in no view, since its index was made without it.
    assert!(entry["requestId"].is_string(), "{entry}");
    program(HIDE, &database, &["audit_of_request", &number]);
    let (code, found) = report(&[]);
    assert_eq!(code, Some(1), "{found}");
    named(&found, "indexes", &number);
    let (_, said, _) = audit(&["verify"]);
    assert!(said.contains(&format!("entry {number}: missing from index audit_of_request")), "{said}");
    program(REINDEX, &database, &[]);
    assert_eq!(report(&[]).0, Some(0));

    let empty = elsewhere.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    let output =
        Command::new(CASEMATE).args(["audit", "verify", "--data"]).arg(&empty).output().expect("casemate runs");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(&empty).expect("directory").count(), 0);
}

#[test]
fn checkpoints_in_a_bucket_with_object_lock_cannot_be_deleted_and_show_a_log_that_was_put_back() {
    let stack = Stack::configured("[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n");
    let (data, project) = (stack.dir.join("data"), stack.profile("project"));
    assert!(stack.run(&["bucket", "create", "unlocked"]).status.success());
    // The first start made the project that the next one is told of.
    let path = stack.text("config");
    let mut config: toml::Value = toml::from_str(&fs::read_to_string(&path).expect("a file")).expect("TOML");
    let target = |bucket: &str| {
        let text =
            format!("kind = 's3'\nproject = '{project}'\nbucket = '{bucket}'\nlock_days = 2\nevery_seconds = 1\n");
        toml::from_str::<toml::Value>(&text).expect("TOML")
    };
    config["audit"]["send_to"] = toml::Value::Array(vec![target("unlocked"), target("checkpoints")]);
    fs::write(&path, toml::to_string(&config).expect("TOML")).expect("written");
    stack.kill("serve");
    let newest = || {
        let listed = stack.run(&["object", "list", "s3://checkpoints/checkpoints/", "--output", "json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or(Value::Null);
        let key = listed.as_array().and_then(|keys| keys.last()).map(|key| key["key"].clone());
        key.and_then(|key| key.as_str().map(str::to_owned))
    };
    wait_for("a checkpoint in the bucket", Duration::from_secs(30), || newest().is_some());
    wait_for("the other bucket to be told of", Duration::from_secs(20), || {
        let log = stack.log();
        log.contains("a checkpoint of the audit log was not sent") && log.contains("bucket unlocked")
    });

    // The state of now, as somebody keeps it who wants to put it back later.
    let old = stack.dir.join("old");
    let serve =
        nix::unistd::Pid::from_raw(i32::try_from(stack.ready("serve_pid").as_i64().expect("pid")).expect("pid"));
    let signal = |signal| nix::sys::signal::kill(serve, signal).expect("a signal");
    signal(nix::sys::signal::Signal::SIGSTOP);
    fs::create_dir(&old).expect("a directory");
    for part in ["db", "audit", "keys"] {
        let copied = Command::new("cp").arg("-a").arg(data.join(part)).arg(&old).status().expect("cp runs");
        assert!(copied.success());
    }
    signal(nix::sys::signal::Signal::SIGCONT);
    let before = newest();
    let small = file(&stack.dir, "small", b"a few bytes");
    stack.put(&small, "kept", "small");
    wait_for("a newer checkpoint", Duration::from_secs(30), || newest() > before);
    let mut command = Command::new(python());
    let tried = stack.tell(command.args(["-c", DELETE_ALL])).output().expect("python runs");
    assert!(tried.status.success(), "{}", text(&tried.stderr));
    assert!(text(&tried.stdout).contains("none was deleted"), "{}", text(&tried.stdout));

    let kept = file(&stack.dir, "kept", &stack.get("checkpoints", &newest().expect("a key")));
    let verify = |data: &Path| {
        let mut command = Command::new(CASEMATE);
        let command =
            command.args(["audit", "verify", "--output", "json", "--against"]).arg(&kept).arg("--data").arg(data);
        let output = command.output().expect("casemate runs");
        let said = serde_json::from_slice::<Value>(&output.stdout);
        (output.status.code(), said.unwrap_or_else(|cause| panic!("{cause}: {}", text(&output.stderr))))
    };
    let (code, found) = verify(&data);
    assert_eq!((code, &found["whole"]), (Some(0), &true.into()), "{found}");
    let (code, found) = verify(&old);
    let of_old = found["findings"].as_array().expect("findings");
    assert!(code == Some(1) && of_old.iter().any(|finding| finding["place"] == "against"), "{found}");
}

/// Tries to remove each version of each object of the bucket, and the bucket.
const DELETE_ALL: &str = "
import os, boto3
from botocore.exceptions import ClientError
s3 = boto3.client('s3', endpoint_url=os.environ['S3'], region_name=os.environ['REGION'],
    aws_access_key_id=os.environ['ACCESS_KEY'], aws_secret_access_key=os.environ['SECRET_KEY'])
versions = s3.list_object_versions(Bucket='checkpoints')['Versions']
assert versions
for version in versions:
    lock = s3.get_object_retention(Bucket='checkpoints', Key=version['Key'], VersionId=version['VersionId'])['Retention']
    assert lock['Mode'] == 'COMPLIANCE', lock
    for change in (
        lambda: s3.delete_object(Bucket='checkpoints', Key=version['Key'], VersionId=version['VersionId'], BypassGovernanceRetention=True),
        lambda: s3.delete_bucket(Bucket='checkpoints'),
    ):
        try:
            change()
        except ClientError as fault:
            assert fault.response['Error']['Code'] in ('AccessDenied', 'BucketNotEmpty'), fault
        else:
            raise SystemExit('it was deleted')
print('none was deleted')
";

/// Does what the owner of the database can do: takes the triggers away, and puts them back.
fn sql(database: &Path, statement: &str) {
    program(SQL, database, &[statement]);
}

fn program(program: &str, database: &Path, arguments: &[&str]) {
    let mut command = Command::new(python());
    let output = command.args(["-c", program]).arg(database).args(arguments).output().expect("python runs");
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

/// Makes an index that leaves an entry out, under the definition that it had.
const HIDE: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
name, number = sys.argv[2], int(sys.argv[3])
sql, = database.execute('SELECT sql FROM sqlite_master WHERE name = ?', (name,)).fetchone()
database.execute(f'DROP INDEX {name}')
database.execute(f'{sql} AND id <> {number}')
database.execute('PRAGMA writable_schema = ON')
assert database.execute('UPDATE sqlite_master SET sql = ? WHERE name = ?', (sql, name)).rowcount == 1
database.close()
";

const REINDEX: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute('REINDEX audit')
database.close()
";
