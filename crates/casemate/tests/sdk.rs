//! Other people's clients, unmodified: the OVH SDKs of Python, Node and Go, the conversation of `ovh-spark-submit`,
//! boto3, the AWS CLI (JOB-1, OBJ-1, OBJ-3, CTL-5). S3A is in `jobs.rs`: each Spark job there uses it.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use support::{Stack, file, free_port, program, python, text};

#[test]
fn the_python_sdk_submits_polls_reads_logs_and_cancels() {
    let stack = Stack::start();
    let output = client(&stack, &mut python_program("ovh_python.py")).output().expect("python runs");
    succeeded(&output, "the Python SDK did everything", &stack);
}

#[test]
fn the_go_sdk_and_spark_submit_submit_poll_read_logs_and_cancel() {
    let stack = Stack::start();
    let binary = support::go(&stack, &program("sdk/go"));
    let output = client(&stack, Command::new(&binary).arg("jobs")).output().expect("it runs");
    succeeded(&output, "the Go SDK did everything", &stack);

    // The exit code of spark-submit is the job's return code, and its output the driver's.
    let output = client(&stack, Command::new(&binary).args(["spark-submit", "swift://sdk/lines.py", "4", "1", "3"]))
        .output()
        .expect("it runs");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Job status is : FAILED"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("odp-logs"), "the address of the logs: {}", text(&output.stderr));
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(lines, ["line 0", "line 1", "line 2", "line 3"], "all of the log, its last lines too");
    // What is refused is explained with class and details.
    let output = client(&stack, Command::new(&binary).args(["spark-submit", "swift://sdk/absent.py"]))
        .output()
        .expect("it runs");
    assert!(text(&output.stderr).contains("mainApplicationCode.notFound"), "{}", text(&output.stderr));
}

#[test]
fn the_go_sdk_manages_policies_as_terraform_does_and_the_operator_explains_them() {
    let stack = Stack::start();
    let mut program = Command::new(support::go(&stack, &program("sdk/go")));
    let output = client(&stack, program.arg("iam")).output().expect("it runs");
    succeeded(&output, "the Go SDK managed policies", &stack);
    let said = text(&output.stdout);
    let left: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).expect("its last line");
    let account = left["account"].as_str().expect("an account");
    let explain = |login: &str, action: &str, more: &[&str]| -> Value {
        let resource = format!("urn:v1:eu:resource:publicCloudProject:{}", stack.profile("project"));
        let identity = format!("urn:v1:eu:identity:user:{account}/{login}");
        let output = Command::new(support::CASEMATE)
            .args(["iam", "explain", "--output", "json", "--identity", &identity, "--action", action])
            .args(["--resource", &resource])
            .args(more)
            .arg("--data")
            .arg(stack.dir.join("data"))
            .output()
            .expect("casemate runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let told = explain("alice", "publicCloudProject:apiovh:get", &[]);
    assert_eq!((&told["allowed"], &told["deciding"][0]["policy"]), (&true.into(), &left["policy"]), "{told}");
    let told = explain("alice", "publicCloudProject:apiovh:user/delete", &[]);
    assert_eq!((&told["allowed"], &told["missed"][0]["policy"]), (&false.into(), &left["policy"]), "{told}");
    assert!(told["change"][0].as_str().is_some_and(|way| way.contains("`except`")), "{told}");
    assert_eq!(explain("bob", "publicCloudProject:apiovh:get", &[])["allowed"], false);
    let before = explain("alice", "publicCloudProject:apiovh:get", &["--at", "2020-01-01T00:00:00Z"]);
    assert_eq!(
        (&before["allowed"], &before["missed"]),
        (&false.into(), &Value::Array(Vec::new())),
        "there was none then"
    );
}

/// This SDK speaks HTTPS only and signs the URL without its port: so TLS, and that URL among the public ones.
#[test]
fn the_node_sdk_submits_polls_reads_logs_and_cancels_over_tls() {
    let keys = tempfile::Builder::new().prefix("casemate-sdk-").tempdir_in("/var/tmp").expect("a directory");
    let (certificate, key) = support::certificate(keys.path(), "IP:127.0.0.1");
    let port = free_port();
    let stack = Stack::configured(&format!(
        "[api]\nlisten = \"127.0.0.1:{port}\"\npublic_urls = [\"https://127.0.0.1:{port}\", \"https://127.0.0.1\"]\n\
         [api.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n[s3]\nlisten = \"127.0.0.1:0\"\n",
        certificate.display(),
        key.display(),
    ));
    let mut node = Command::new("node");
    node.arg(program("sdk/node/jobs.js"))
        .env("NODE_PATH", support::checkout().join(".cache/node/node_modules"))
        .env("NODE_EXTRA_CA_CERTS", &certificate);
    let output = client(&stack, &mut node).output().expect("node runs: `make setup-test` installs it");
    succeeded(&output, "the Node SDK did everything", &stack);
}

#[test]
fn boto3_does_what_applications_do() {
    let port = free_port();
    let stack = Stack::configured(&format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n[s3]\nlisten = \"127.0.0.1:{port}\"\n\
         public_urls = [\"http://127.0.0.1:{port}\", \"http://s3.localhost:{port}\"]\n"
    ));
    let mut command = python_program("s3.py");
    command
        .env("S3", stack.text("s3"))
        .env("S3_NAMED", format!("http://s3.localhost:{port}"))
        .env("REGION", stack.profile("region"))
        .env("ACCESS_KEY", stack.s3("access_key"))
        .env("SECRET_KEY", stack.s3("secret_key"));
    let output = command.output().expect("python runs");
    succeeded(&output, "boto3 did everything", &stack);
}

#[test]
fn users_that_the_python_sdk_makes_may_do_what_was_granted_and_no_more() {
    let stack = Stack::start();
    let mut command = python_program("storage_users.py");
    command
        .env("S3", stack.text("s3"))
        .env("ACCESS_KEY", stack.s3("access_key"))
        .env("SECRET_KEY", stack.s3("secret_key"));
    let output = client(&stack, &mut command).output().expect("python runs");
    succeeded(&output, "users may do what was granted", &stack);
    // Each call has the policy that decided in its entry.
    let listed = Command::new(support::CASEMATE)
        .args(["audit", "list", "--action", "s3:GetObject", "--limit", "1000", "--output", "json", "--data"])
        .arg(stack.dir.join("data"))
        .output()
        .expect("casemate runs");
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    for reason in ["IAM: allowed by policy 'iam of storage'", "IAM: denied by policy 'not there'"] {
        assert!(text(&listed.stdout).contains(reason), "{reason}: {}", text(&listed.stdout));
    }
    // The operator sees what was so before the policies were removed.
    let left: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap_or_default()).expect("JSON");
    let explain = |key: &str, more: &[&str]| {
        let resource = format!("{}/{key}", left["stored"].as_str().expect("a URN"));
        Command::new(support::CASEMATE)
            .args(["iam", "explain", "--output", "json", "--action", "storageS3:s3:GetObject", "--resource", &resource])
            .args(["--identity", left["identity"].as_str().expect("a URN")])
            .args(more)
            .arg("--data")
            .arg(stack.dir.join("data"))
            .output()
            .expect("casemate runs")
    };
    let at = ["--policy", "none", "--at", left["at"].as_str().expect("a time")];
    for (key, at, allowed, reason) in [
        ("iam/a", &at[..], true, "IAM: allowed by policy 'iam of storage'"),
        ("iam/no/a", &at[..], false, "IAM: denied by policy 'not there'"),
        ("iam/a", &at[..2], false, "no role of "),
    ] {
        let told = explain(key, at);
        assert!(told.status.success(), "{}", text(&told.stderr));
        let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(told["allowed"], allowed, "{told}");
        assert!(told["reason"].as_str().is_some_and(|words| words.starts_with(reason)), "{told}");
    }
    let busy = explain("iam/a", &[]);
    assert!(!busy.status.success() && text(&busy.stderr).contains("the service runs"), "{}", text(&busy.stderr));
}

/// A key that was disabled by the API is one that the operator can end all the same.
#[test]
fn the_operator_ends_a_key_that_is_disabled() {
    let stack = Stack::start();
    let code = "import os, ovh\n\
        ovh.client.ENDPOINTS['casemate'] = os.environ['ENDPOINT']\n\
        api = ovh.Client(endpoint='casemate', **{name: os.environ[name.upper()] for name in ('application_key', 'application_secret', 'consumer_key')})\n\
        users = '/cloud/project/' + os.environ['PROJECT'] + '/user'\n\
        keys = f\"{users}/{api.post(users)['id']}/s3Credentials\"\n\
        access = api.post(keys)['access']\n\
        api.post(f'{keys}/{access}/disable')\n\
        print(access)\n";
    let output = client(&stack, Command::new(python()).args(["-c", code])).output().expect("python runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let access = text(&output.stdout).trim().to_owned();
    let office = |verb: &[&str]| {
        let data = stack.dir.join("data");
        let output = Command::new(support::CASEMATE).arg("key").args(verb).arg("--data").arg(data).output();
        output.expect("casemate runs")
    };
    let status = || {
        let listed = office(&["list"]);
        let line = text(&listed.stdout).lines().find(|line| line.contains(&access)).map(str::to_owned);
        line.map(|line| if line.contains("disabled") { "disabled" } else { "validated" })
    };
    assert_eq!(status(), Some("disabled"));
    let revoked = office(&["revoke", &access]);
    assert!(revoked.status.success(), "{}", text(&revoked.stderr));
    assert_eq!(status(), None);
    let again = office(&["revoke", &access]);
    assert!(!again.status.success() && text(&again.stderr).contains("there is no key"), "{}", text(&again.stderr));
}

#[test]
fn the_aws_command_line_copies_lists_syncs_and_removes() {
    let stack = Stack::start();
    let small = file(&stack.dir, "small.txt", b"a small file\n");
    // Over 16 MiB: the command line uploads it in parts.
    let bytes: Vec<u8> = (0..17 * 1024 * 1024_u32).map(|number| number.to_le_bytes()[(number % 3) as usize]).collect();
    let large = file(&stack.dir, "large.bin", &bytes);
    let back = stack.dir.join("back");
    fs::create_dir(&back).expect("directory");
    let path = |place: &Path| place.to_str().expect("path").to_owned();

    aws(&stack, &["s3", "mb", "s3://cli"]);
    aws(&stack, &["s3", "cp", &path(&small), "s3://cli/in/small.txt"]);
    aws(&stack, &["s3", "cp", &path(&large), "s3://cli/in/large.bin"]);
    let listed = aws(&stack, &["s3", "ls", "--recursive", "s3://cli/"]);
    assert!(listed.contains("in/small.txt") && listed.contains(&bytes.len().to_string()), "{listed}");
    assert!(aws(&stack, &["s3", "ls", "s3://cli/"]).contains("PRE in/"));
    aws(&stack, &["s3", "cp", "s3://cli/in/large.bin", &path(&back.join("large.bin"))]);
    assert!(fs::read(back.join("large.bin")).expect("file") == bytes, "the same bytes come back");
    aws(&stack, &["s3", "mv", "s3://cli/in/small.txt", "s3://cli/out/small.txt"]);
    aws(&stack, &["s3", "sync", "s3://cli/out", &path(&back)]);
    assert_eq!(fs::read(back.join("small.txt")).expect("file"), b"a small file\n");
    let url = aws(&stack, &["s3", "presign", "s3://cli/out/small.txt", "--expires-in", "60"]);
    let fetch = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let fetched = Command::new(python()).args(["-c", fetch, url.trim()]).output().expect("python runs");
    assert_eq!(text(&fetched.stdout), "a small file\n", "{}", text(&fetched.stderr));
    let part = back.join("part");
    let range = ["s3api", "get-object", "--bucket", "cli", "--key", "in/large.bin", "--range", "bytes=65530-65545"];
    aws(&stack, &[&range[..], &[&path(&part)]].concat());
    assert_eq!(fs::read(part).expect("file"), bytes[65530..=65545]);
    let known = ["s3api", "put-object", "--bucket", "cli", "--key", "in/large.bin", "--if-none-match", "*"];
    let refused = aws_command(&stack, &known).output().expect("aws runs");
    assert!(text(&refused.stderr).contains("PreconditionFailed"), "{}", text(&refused.stderr));
    aws(&stack, &["s3", "rm", "--recursive", "s3://cli/"]);
    assert_eq!(aws(&stack, &["s3", "ls", "--recursive", "s3://cli/"]), "");
    aws(&stack, &["s3", "rb", "s3://cli"]);
}

#[test]
fn the_command_line_removes_a_bucket_with_all_its_versions() {
    let stack = Stack::start();
    let small = file(&stack.dir, "small.txt", b"a small file\n");
    aws(&stack, &["s3", "mb", "s3://kept"]);
    let on = ["--versioning-configuration", "Status=Enabled"];
    aws(&stack, &[&["s3api", "put-bucket-versioning", "--bucket", "kept"], &on[..]].concat());
    stack.put(&small, "kept", "a");
    stack.put(&small, "kept", "a");
    let removed = stack.run(&["object", "delete", "s3://kept/a"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    let refused = stack.run(&["bucket", "delete", "kept"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("not empty"), "{}", text(&refused.stderr));
    let removed = stack.run(&["bucket", "delete", "kept", "--recursive"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert_eq!(stack.json(&["bucket", "list"]).as_array().map(Vec::len), Some(0));
}

/// The environment that every SDK program reads, with a job's code in the bucket `sdk`.
fn client<'a>(stack: &Stack, command: &'a mut Command) -> &'a mut Command {
    let upload = "import os, boto3\n\
        s3 = boto3.client('s3', endpoint_url=os.environ['S3'], region_name=os.environ['REGION'], \
        aws_access_key_id=os.environ['ACCESS_KEY'], aws_secret_access_key=os.environ['SECRET_KEY'])\n\
        s3.create_bucket(Bucket='sdk')\n\
        s3.upload_file(os.environ['FILE'], 'sdk', 'lines.py')\n";
    let uploaded = Command::new(python())
        .args(["-c", upload])
        .env("S3", stack.text("s3"))
        .env("REGION", stack.profile("region"))
        .env("ACCESS_KEY", stack.s3("access_key"))
        .env("SECRET_KEY", stack.s3("secret_key"))
        .env("FILE", program("sdk/lines.py"))
        .output()
        .expect("python runs");
    let known = text(&uploaded.stderr).contains("BucketAlreadyOwnedByYou");
    assert!(uploaded.status.success() || known, "{}", text(&uploaded.stderr));
    let newest = support::versions().pop().expect("a version");
    stack.tell(command).env("BUCKET", "sdk").env("MAIN", "lines.py").env("VERSION", newest)
}

fn python_program(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(program("sdk").join(name));
    command
}

fn succeeded(output: &Output, word: &str, stack: &Stack) {
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains(word), "{said}{}\n{}", text(&output.stderr), stack.log());
}

fn aws_command(stack: &Stack, arguments: &[&str]) -> Command {
    let mut command = Command::new(python().with_file_name("aws"));
    command
        .args(arguments)
        .env("AWS_ENDPOINT_URL", stack.text("s3"))
        .env("AWS_DEFAULT_REGION", stack.profile("region"))
        .env("AWS_ACCESS_KEY_ID", stack.s3("access_key"))
        .env("AWS_SECRET_ACCESS_KEY", stack.s3("secret_key"))
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_MAX_ATTEMPTS", "1");
    command
}

fn aws(stack: &Stack, arguments: &[&str]) -> String {
    let output = aws_command(stack, arguments).output().expect("aws runs");
    assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output.stderr), stack.log());
    text(&output.stdout)
}
