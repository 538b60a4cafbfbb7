//! Passwords, tokens, temporary keys and policies of users on a whole service, by the clients that people have:
//! python-swiftclient, keystoneauth, boto3, and the Go library of `ovh-spark-submit` (OBJ-3, OBJ-6).

mod support;

use std::process::Command;

use support::{Stack, program, python, text};

#[test]
fn a_users_password_opens_the_projects_containers() {
    holds("a_users_password_opens_the_projects_containers");
}

#[test]
fn a_user_may_by_swift_what_it_may_by_s3() {
    holds("a_user_may_by_swift_what_it_may_by_s3");
}

#[test]
fn temporary_keys_are_narrowed_and_end() {
    holds("temporary_keys_are_narrowed_and_end");
}

/// What `ovh-spark-submit --upload` does: the files are there for a job.
#[test]
fn the_go_library_uploads_as_spark_submit_does() {
    let stack = Stack::start();
    let binary = support::go(&stack, &program("swift/go"));
    let made = stack.tell(Command::new(python()).args(["-c", MAKE_USER])).output().expect("python runs");
    assert!(made.status.success(), "{}\n{}", text(&made.stderr), stack.log());
    let said = text(&made.stdout);
    let (user, password) = said.trim().split_once(' ').expect("a user and a password");
    let mut command = Command::new(&binary);
    let output = stack
        .tell(&mut command)
        .env("AUTH_URL", format!("{}/v3", stack.text("s3")))
        .env("SWIFT_USER", user)
        .env("SWIFT_PASSWORD", password)
        .env("BUCKET", "uploaded")
        .env("FILE", program("sdk/lines.py"))
        .output()
        .expect("it runs");
    assert!(
        output.status.success() && text(&output.stdout).contains("the Go library did everything"),
        "{}{}\n{}",
        text(&output.stdout),
        text(&output.stderr),
        stack.log()
    );
    assert_eq!(stack.get("uploaded", "lines.py"), std::fs::read(program("sdk/lines.py")).expect("the file"));
}

/// Runs a function of `programs/swift/users.py` on a service of its own.
fn holds(function: &str) {
    let stack = Stack::start();
    let mut command = Command::new(python());
    let output = stack.tell(command.arg(program("swift/users.py")).arg(function)).output().expect("python runs");
    let said = text(&output.stdout);
    let held = output.status.success() && said.contains("all of it holds");
    assert!(held, "{said}{}\n{}", text(&output.stderr), stack.log());
}

const MAKE_USER: &str = "
import os, ovh
ovh.client.ENDPOINTS['casemate'] = os.environ['ENDPOINT']
keys = {name: os.environ[name.upper()] for name in ('application_key', 'application_secret', 'consumer_key')}
user = ovh.Client(endpoint='casemate', **keys).post(f\"/cloud/project/{os.environ['PROJECT']}/user\", role='objectstore_operator')
print(user['username'], user['password'])
";
