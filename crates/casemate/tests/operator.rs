//! `casemate account`, `user` and `credential` on a data directory, by the real binary: what they say, exit codes, what
//! changes, and what the audit log has of it (CTL-1, CTL-3).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use db::Db;
use model::AccountId;
use serde_json::{Value, json};

const OURS: &str = "ab1234-casemate";

/// A data directory.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk { dir: tempfile::tempdir().expect("a directory") }
    }

    /// One with an account.
    fn with_account() -> Desk {
        let desk = Desk::new();
        desk.done(&["account", "create", OURS]);
        desk
    }

    fn data(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        run(&self.data(), arguments)
    }

    /// What a command that succeeds answers in JSON.
    fn done(&self, arguments: &[&str]) -> Value {
        let (code, said, errors) = self.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}");
        serde_json::from_str(&said).unwrap_or_else(|fault| panic!("{arguments:?}: {fault}: {said}"))
    }

    /// A command is refused with these lines, prints nothing else, and changes nothing.
    fn refused(&self, arguments: &[&str], errors: &str) {
        let before = self.entries().len();
        assert_eq!(self.run(arguments), (Some(1), String::new(), format!("{errors}\n")), "{arguments:?}");
        assert_eq!(self.entries().len(), before, "{arguments:?}");
    }

    /// A command line is not one.
    fn misused(&self, arguments: &[&str], why: &str) {
        let (code, said, errors) = self.run(arguments);
        assert_eq!((code, said.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(errors.contains(why), "{arguments:?}: {errors}");
    }

    /// The audit log, oldest first, without the entries that each command leaves of itself.
    fn entries(&self) -> Vec<Value> {
        let Value::Array(mut entries) = self.done(&["audit", "list", "--limit", "1000"]) else { panic!("a list") };
        let commands = entries.iter().filter(|entry| entry["action"] == "operator.command").count();
        assert!(commands > 0, "{entries:?}");
        entries.retain(|entry| entry["action"] != "operator.command");
        entries.reverse();
        entries
    }

    /// Action and resource of each entry after the first `skip`; all are the operator's.
    fn acts(&self, skip: usize) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let entries = self.entries().split_off(skip);
        for entry in &entries {
            assert_eq!((&entry["identity"], &entry["result"]), (&json!("operator"), &json!("done")), "{entry}");
        }
        entries.iter().map(|entry| (text(&entry["action"]), text(&entry["resource"]))).collect()
    }

    /// Works on the database itself.
    fn with_db<T>(&self, work: impl AsyncFnOnce(&Db, &AccountId) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let db = Db::open(&self.data().join("db/casemate.sqlite")).await.expect("the database");
            let done = work(&db, &OURS.parse().expect("an account")).await;
            db.close().await;
            done
        })
    }
}

fn run(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
    let output = command.args(arguments).arg("--data").arg(data).output().expect("casemate runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(action, resource)| ((*action).to_owned(), (*resource).to_owned())).collect()
}

/// The names of what is good now.
fn live(desk: &Desk) -> Vec<String> {
    let all = desk.done(&["credential", "list"]);
    let name = |one: &Value| one["credential"].as_str().expect("a name").to_owned();
    all.as_array().expect("a list").iter().map(name).collect()
}

#[test]
fn accounts_are_made_and_listed() {
    let desk = Desk::new();
    let absent = desk.data().join("absent");
    let (code, said, errors) = run(&absent, &["account", "list"]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(errors.starts_with(&format!("error: cannot use the data directory {}\n", absent.display())), "{errors}");
    assert!(!absent.exists(), "a directory that is not there is not made");
    assert_eq!(desk.done(&["account", "list"]), json!([]));
    desk.refused(
        &["user", "create", "alice"],
        "error: there is no account\nhelp: `casemate account create ACCOUNT` makes one",
    );

    let made = desk.done(&["account", "create", OURS, "--email", "a@example.org", "--name", "Ada"]);
    assert_eq!((&made["id"], &made["email"], &made["name"]), (&json!(OURS), &json!("a@example.org"), &json!("Ada")));
    assert_eq!(desk.done(&["account", "list"]), json!([made]), "what was told is what is kept");
    let (code, said, errors) = desk.run(&["account", "create", "second"]);
    assert_eq!((code, said.as_str(), errors.as_str()), (Some(0), "account second created\n", ""));
    let (_, table, _) = desk.run(&["account", "ls"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(rows[..2], [["ACCOUNT", "NAME", "EMAIL"], [OURS, "Ada", "a@example.org"]]);
    assert_eq!(rows.len(), 3);

    let exists = format!("error: cannot create account {OURS}\ncause: account '{OURS}' exists already");
    desk.refused(&["account", "create", OURS], &exists);
    desk.misused(&["account", "create", "AB"], "account 'AB' is not valid");
    desk.misused(&["account", "create"], "<ACCOUNT>");
    desk.refused(&["user", "create", "alice"], "error: there are several accounts\nhelp: name one by --account");
    assert_eq!(
        desk.acts(0),
        pairs(&[("account.created", &format!("account/{OURS}")), ("account.created", "account/second")])
    );
}

#[test]
fn second_factors_are_made_compulsory_and_address_rules_lifted_by_account() {
    let desk = Desk::with_account();
    let required = |desk: &Desk| {
        desk.with_db(async |db, account| db::second_factors::is_required(db, account).await.expect("read"))
    };
    for (flag, is, words) in [("--required", true, "need"), ("--optional", false, "may have")] {
        let said = desk.done(&["account", "second-factor", OURS, flag]);
        assert_eq!(said, json!({ "account": OURS, "secondFactorRequired": is }));
        assert_eq!(required(&desk), is);
        let (_, said, _) = desk.run(&["account", "second-factor", OURS, flag]);
        assert_eq!(said, format!("users of account {OURS} {words} a second factor\n"));
    }
    desk.misused(&["account", "second-factor", OURS], "--required");
    desk.misused(&["account", "second-factor", OURS, "--required", "--optional"], "cannot be used with");
    desk.refused(
        &["account", "second-factor", "nobody", "--required"],
        "error: cannot change account nobody\ncause: account 'nobody' does not exist",
    );
    assert!(!required(&desk));

    desk.with_db(async |db, account| {
        let mut tx = db.begin().await.expect("a transaction");
        for block in [Some("192.0.2.0/24".to_owned()), None] {
            let rule = db::ip_restrictions::Restriction { id: 0, block, rule: "deny".to_owned(), warning: false };
            db::ip_restrictions::insert(&mut tx, account, &rule).await.expect("a rule");
        }
        tx.commit().await.expect("committed");
    });
    desk.refused(
        &["account", "lift-ip-restrictions", "nobody"],
        "error: there is no account nobody\nhelp: `casemate account list` shows them",
    );
    for gone in [2, 0] {
        let said = desk.done(&["account", "lift-ip-restrictions", OURS]);
        assert_eq!(said, json!({ "account": OURS, "rulesRemoved": gone }));
    }
    let left = desk.with_db(async |db, account| db::ip_restrictions::list(db, account).await.expect("read"));
    assert_eq!(left, []);
    let account = format!("account/{OURS}");
    let (changed, lifted) = ("account.secondFactor.changed", "account.ipRestriction.lifted");
    let expected = [changed, changed, changed, changed, lifted, lifted].map(|action| (action, account.as_str()));
    assert_eq!(desk.acts(1), pairs(&expected));
    let details: Vec<Value> = desk.entries().into_iter().skip(1).map(|entry| entry["detail"].clone()).collect();
    assert_eq!(
        details,
        [
            json!({ "required": true }),
            json!({ "required": true }),
            json!({ "required": false }),
            json!({ "required": false }),
            json!({ "rules": 2 }),
            json!({ "rules": 0 }),
        ]
    );
}

#[test]
fn users_are_made_with_a_link_for_their_password_and_lose_second_factors() {
    let desk = Desk::with_account();
    let made = desk.done(&["user", "create", "alice", "--email", "alice@example.org"]);
    assert_eq!((&made["account"], &made["login"]), (&json!(OURS), &json!("alice")));
    let token = |made: &Value| {
        let (endpoint, token) = made["link"].as_str().expect("a link").rsplit_once('/').expect("a token");
        assert_eq!(endpoint, "http://127.0.0.1:8480/1.0/auth/setup");
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        token.to_owned()
    };
    let first = token(&made);
    let listed = desk.done(&["user", "list"]);
    let [alice] = &listed.as_array().expect("a list")[..] else { panic!("{listed}") };
    for (field, is) in [
        ("account", OURS),
        ("login", "alice"),
        ("group", "ADMIN"),
        ("status", "PASSWORD_CHANGE_REQUIRED"),
        ("email", "alice@example.org"),
        ("description", ""),
    ] {
        assert_eq!(alice[field], is, "{field}");
    }
    desk.done(&["account", "create", "second"]);
    desk.done(&["user", "create", "alice", "--account", "second", "--group", "UNPRIVILEGED"]);
    assert_eq!(desk.done(&["user", "list"]).as_array().map(Vec::len), Some(2));
    assert_eq!(desk.done(&["user", "ls", "--account", OURS]), json!([alice]));

    let links = live(&desk);
    let again = token(&desk.done(&["user", "setup-link", "alice", "--account", OURS]));
    assert_ne!(again, first);
    let now = live(&desk);
    assert_eq!((links.len(), now.len()), (2, 2), "a new link ends the one before it");
    assert!(now.iter().any(|name| !links.contains(name)));
    let (_, said, _) = desk.run(&["user", "setup-link", "alice", "--account", OURS]);
    let (words, link) = said.trim_end().split_once('\n').expect("two lines");
    assert!(words.starts_with("ab1234-casemate/alice sets a password at this address, once, until "), "{words}");
    let third = token(&json!({ "link": link }));

    desk.with_db(async |db, _| {
        let (person, _) = db::people::find(db, OURS, "alice").await.expect("read").expect("alice");
        let mut tx = db.begin().await.expect("a transaction");
        let totp = db::second_factors::Totp {
            id: 0,
            person: person.id,
            description: "phone".to_owned(),
            sealed_secret: vec![1],
            status: "enabled".to_owned(),
            created: person.created,
            last_use: None,
        };
        db::second_factors::insert_totp(&mut tx, &totp).await.expect("a generator");
        tx.commit().await.expect("committed");
    });
    let said = desk.done(&["user", "reset-second-factor", "alice", "--account", OURS]);
    assert_eq!(said, json!({ "account": OURS, "login": "alice" }));
    let left = desk.with_db(async |db, _| {
        let (person, _) = db::people::find(db, OURS, "alice").await.expect("read").expect("alice");
        db::second_factors::totps(db, person.id).await.expect("read")
    });
    assert_eq!(left.len(), 0);

    for (arguments, errors) in [
        (&["user", "create", "alice"][..], "error: cannot create user alice\ncause: user 'alice' exists already"),
        (
            &["user", "create", "bob", "--group", "NONE"],
            "error: cannot create user bob\ncause: group 'NONE' does not exist",
        ),
        (
            &["user", "create", "a b"],
            "error: cannot create user a b\ncause: login is not valid: 1 to 64 letters, digits and '.', '_', '-', '@', '+'",
        ),
        (
            &["user", "setup-link", "nobody"],
            "error: cannot make a link for user nobody\ncause: user 'nobody' does not exist",
        ),
        (
            &["user", "reset-second-factor", "nobody"],
            "error: cannot change user nobody\ncause: user 'nobody' does not exist",
        ),
    ] {
        desk.refused(&[arguments, &["--account", OURS]].concat(), errors);
    }
    let no_account = "error: there is no account nobody\nhelp: `casemate account list` shows them";
    for verb in [&["user", "list"][..], &["user", "create", "bob"], &["credential", "list"], &["project", "list"]] {
        desk.refused(&[verb, &["--account", "nobody"]].concat(), no_account);
    }
    desk.misused(&["user", "create"], "<LOGIN>");

    let alice = format!("account/{OURS}/user/alice");
    let (created, link) = ("account.user.created", "account.user.setup.created");
    let expected = [
        (created, alice.as_str()),
        (link, &alice),
        ("account.created", "account/second"),
        (created, "account/second/user/alice"),
        (link, "account/second/user/alice"),
        (link, &alice),
        (link, &alice),
        ("account.user.secondFactors.reset", &alice),
    ];
    assert_eq!(desk.acts(1), pairs(&expected));
    let log = Value::Array(desk.entries()).to_string();
    for secret in [first, again, third] {
        assert!(!log.contains(&secret), "a link is a secret");
    }
}

#[test]
fn all_that_is_good_is_listed_and_any_of_it_ended() {
    let desk = Desk::with_account();
    assert_eq!(desk.done(&["credential", "list"]), json!([]));
    desk.done(&["project", "create", "first"]);
    let key = desk.done(&["key", "create", "--name", "robot"]);
    desk.done(&["user", "create", "alice"]);
    desk.done(&["account", "create", "second"]);
    desk.done(&["user", "create", "bob", "--account", "second"]);
    let all = desk.done(&["credential", "list"]);
    let of = |name: &str| {
        let found: Vec<&Value> = all.as_array().expect("a list").iter().filter(|one| one["of"] == name).collect();
        let [one] = found[..] else { panic!("{all}") };
        (one["credential"].as_str().expect("a name").to_owned(), one.clone())
    };
    let ((alice, link), (bob, _)) = (of("alice"), of("bob"));
    assert_eq!((&link["account"], &link["lastUse"]), (&json!(OURS), &Value::Null));
    assert!(link["expires"].is_string());
    let number = format!("key:{}", key["credentialId"]);
    let mut ours = vec![number.clone(), alice.clone()];
    ours.sort();
    let mut listed = live(&desk);
    listed.retain(|name| *name != bob);
    listed.sort();
    assert_eq!(listed, ours);
    let only = desk.done(&["credential", "ls", "--account", "second"]);
    assert_eq!((only.as_array().map(Vec::len), &only[0]["credential"]), (Some(1), &json!(bob)));
    let (_, table, _) = desk.run(&["credential", "list"]);
    let words: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["CREDENTIAL", "ACCOUNT", "OF", "NAME", "CREATED", "ENDS", "LAST", "USE"]);
    assert!(
        table.contains("robot") && !table.contains(key["profile"]["default"]["consumer_key"].as_str().expect("a key"))
    );

    let before = desk.entries().len();
    assert_eq!(desk.done(&["credential", "revoke", &number]), json!({ "credential": number }));
    let (code, said, errors) = desk.run(&["credential", "revoke", &alice]);
    assert_eq!((code, said, errors.as_str()), (Some(0), format!("{alice} is no longer valid\n"), ""));
    assert_eq!(live(&desk), [bob]);
    for gone in
        [number.as_str(), &alice, "key:x", "key:99999999999999999999", "setup:00", "colour:1", "client:", "s3:x"]
    {
        let errors = format!(
            "error: cannot end {gone}\ncause: credential '{gone}' does not exist\n\
             help: `casemate credential list` shows what is good now"
        );
        desk.refused(&["credential", "revoke", gone], &errors);
    }
    desk.refused(
        &["credential", "revoke", "x"],
        "error: 'x' is not a credential\nhelp: `casemate credential list` shows them",
    );
    desk.misused(&["credential", "revoke"], "<CREDENTIAL>");
    let ended = format!("credential/{}", key["credentialId"]);
    let expected = [("credential.expired", ended.as_str()), ("credential.revoked", &alice.replace(':', "/"))];
    assert_eq!(desk.acts(before), pairs(&expected));
}

#[test]
fn an_engine_is_withdrawn_with_a_reason_and_restored() {
    let desk = Desk::with_account();
    for version in ["3.5.9", "4.3.0"] {
        let home = desk.data().join(format!("engines/spark-{version}"));
        std::fs::create_dir_all(&home).expect("a directory");
        let manifest = json!({ "engine": {
            "version": version, "scala": "2.13", "hadoop": "3.4.1", "description": "Spark", "available": "2026-01-01",
            "end_of_support": "2126-10-01", "end_of_life": "2127-01-01", "java_home": "/usr", "jars": [], "archives": false,
        }, "files": {} });
        std::fs::write(home.join("manifest.json"), manifest.to_string()).expect("a manifest");
    }
    let shown = || -> Vec<Value> {
        let list = desk.done(&["engine", "list"]);
        list.as_array().expect("a list").iter().map(|engine| engine["withdrawn"]["reason"].clone()).collect()
    };
    assert_eq!(shown(), [Value::Null, Value::Null]);
    desk.misused(&["engine", "withdraw", "3.5.9"], "--reason");
    let absent = desk.run(&["engine", "withdraw", "3.5.1", "--reason", "x"]);
    assert!(absent.0 == Some(1) && absent.2.starts_with("error: Spark 3.5.1 is not installed in "), "{absent:?}");
    let (code, said, errors) = desk.run(&["engine", "withdraw", "3.5.9", "--reason", "CVE-2026-1"]);
    assert_eq!(
        (code, said.as_str(), errors.as_str()),
        (Some(0), "Spark 3.5.9 is withdrawn; jobs are told to use 4.3.0\n", "")
    );
    assert_eq!(shown(), [json!("CVE-2026-1"), Value::Null]);
    desk.refused(
        &["engine", "withdraw", "3.5.9", "--reason", "again"],
        "error: cannot withdraw Spark 3.5.9\ncause: the version is withdrawn already",
    );
    desk.done(&["engine", "restore", "3.5.9"]);
    desk.refused(
        &["engine", "restore", "3.5.9"],
        "error: cannot take back the withdrawal of Spark 3.5.9\ncause: the version is not withdrawn",
    );
    assert_eq!(shown(), [Value::Null, Value::Null]);
    let actions: Vec<Value> = desk.entries().iter().map(|entry| entry["action"].clone()).collect();
    assert!(actions.ends_with(&[json!("engine.withdrawn"), json!("engine.restored")]), "{actions:?}");
}
