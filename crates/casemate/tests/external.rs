//! Buckets that live in another S3 service: SeaweedFS, started by the test, or another project of this service where
//! jobs are to have temporary keys of their own (OBJ-1, OBJ-3).

mod support;

#[path = "external/weed.rs"]
mod weed;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use support::{Stack, program, python, text, wait_for};
use weed::{ACCESS_KEY, SECRET_KEY, Weed};

#[test]
fn a_bucket_elsewhere_does_what_one_here_does() {
    let weed = Weed::start();
    let stack = Stack::start();
    attach_weed(&stack, &weed);
    let laws = ["buckets", "objects", "large", "ranges", "parts", "lists", "copies", "conditions", "signed"];
    holds(&stack, &weed, &laws);
    holds(&stack, &weed, &["not_there", "swift", "end", "sizes"]);
}

#[test]
fn what_lies_there_cannot_be_read_changed_or_exchanged() {
    let weed = Weed::start();
    let stack = Stack::start();
    attach_weed(&stack, &weed);
    holds(&stack, &weed, &["unreadable", "changed", "exchanged", "foreign"]);
}

#[test]
fn a_service_that_refuses_or_is_down_is_said_and_harms_nothing_else() {
    let mut weed = Weed::start();
    let stack = Stack::start();
    attach_weed(&stack, &weed);
    holds(&stack, &weed, &["survivor", "works"]);

    // A key that is not the one there.
    let secret = stack.dir.join("secret-key");
    fs::write(&secret, "not the secret key").expect("written");
    restart(&stack);
    holds(&stack, &weed, &["fails"]);
    fs::write(&secret, SECRET_KEY).expect("written");
    restart(&stack);
    holds(&stack, &weed, &["works"]);

    // Nobody there.
    weed.stop();
    holds(&stack, &weed, &["fails"]);
    weed.start_again();
    // It answers before its volumes are found again.
    wait_for("weed to give and take objects", Duration::from_secs(60), || gives_and_takes(&weed, &stack));
    holds(&stack, &weed, &["works"]);
    let log = stack.log();
    assert!(log.contains("the external object store failed"), "{log}");
    for secret in [SECRET_KEY, "not the secret key", "X-Amz-Signature"] {
        assert!(!log.contains(secret), "the log holds {secret}: {log}");
    }
}

#[test]
fn a_job_works_in_a_bucket_elsewhere() {
    let weed = Weed::start();
    let stack = Stack::start();
    configure(&stack, &weed.entry(&stack.dir));
    assert!(stack.run(&["bucket", "create", "tables"]).status.success());
    let id = stack.submit(&[program("table.py").to_str().expect("path"), "tables", "1000"]);
    let job = stack.wait(&id);
    let log = stack.logs(&id);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
    assert!(log.contains("ROWS 1000") && log.contains("WEEKS [0, 1, 2, 3, 4, 5, 6]"), "{log}");
    assert!(stack.keys("tables", "table/").iter().any(|key| key.ends_with(".parquet")));
    let keys = stack.keys("odp-logs", &format!("{id}/driver/spark.log."));
    let stored: String = keys.iter().map(|key| text(&stack.get("odp-logs", key))).collect();
    assert!(stored.contains("ROWS 1000"), "{stored}");
    // All of that is there, and nothing in the embedded store.
    let there = there(&weed, &stack);
    assert!(there.iter().any(|name| name.contains("-tables/table/") && name.ends_with(".parquet")), "{there:?}");
    assert!(there.iter().any(|name| name.contains(&format!("-odp-logs/{id}/driver/spark.log."))), "{there:?}");
    assert!(there.iter().any(|name| name.ends_with("/table.py")), "the job's code: {there:?}");
}

/// The other service is this one's own listener, with the key of another project.
#[test]
fn a_job_acts_there_by_temporary_keys_of_its_own() {
    let stack = Stack::start();
    let config = stack.text("config");
    let operator = |arguments: &[&str]| -> Value {
        let output = stack.run(&[arguments, &["--config", &config, "--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let keeper = operator(&["project", "create", "Keeper of buckets"]);
    let keeper = keeper["id"].as_str().expect("id").to_owned();
    let key = operator(&["key", "create", "--project", &keeper, "--s3"]);
    let of_key = |name: &str| key["s3"][name].as_str().expect("text").to_owned();
    let (access, secret) = (of_key("access_key"), of_key("secret_key"));
    let principal = Command::new(python())
        .args(["-c", WHO, &stack.text("s3"), &stack.profile("region"), &access, &secret])
        .output()
        .expect("python runs");
    assert!(principal.status.success(), "{}", text(&principal.stderr));
    let role = text(&principal.stdout).trim().replace(":user/", ":role/");
    let user = role.rsplit_once('/').expect("a role").1.to_owned();
    let project = stack.profile("project");
    let file = support::file(&stack.dir, "secret-key", secret.as_bytes());
    configure(
        &stack,
        &format!(
            "name = \"keeper\"\nendpoint = \"{}\"\nregion = \"{}\"\naccess_key = \"{access}\"\n\
             secret_key_file = \"{}\"\nbucket_prefix = \"kept-\"\nprojects = [\"{project}\"]\nrole = \"{role}\"\n",
            stack.text("s3"),
            stack.profile("region"),
            file.display(),
        ),
    );
    assert!(stack.run(&["bucket", "create", "tables"]).status.success(), "{}", stack.log());
    let id = stack.submit(&[program("table.py").to_str().expect("path"), "tables", "1000"]);
    let job = stack.wait(&id);
    let log = stack.logs(&id);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
    assert!(log.contains("ROWS 1000"), "{log}");

    // Who did what at the keeper, as its audit log has it.
    let prefix = format!("kept-{}-", &project[..16]);
    let entries = audit(&stack);
    let kept: Vec<&[String; 4]> = entries.iter().filter(|entry| entry[2].contains(&prefix)).collect();
    let by = |identity: &str, action: &str, what: &str| {
        let found = |entry: &&[String; 4]| {
            entry[0].starts_with(identity) && entry[1] == action && entry[2].contains(what) && entry[3] == "allowed"
        };
        kept.iter().copied().any(|entry| found(&entry))
    };
    let session = format!("session/{user}/");
    let tables = format!("{prefix}tables");
    assert!(by(&session, "s3:PutObject", &tables), "the job writes by its own keys: {kept:#?}");
    assert!(by(&session, "s3:GetObject", &tables), "the job reads by its own keys: {kept:#?}");
    assert!(by("", "s3:CreateBucket", &tables), "{kept:#?}");
    assert!(!by(&session, "s3:CreateBucket", ""), "the service makes buckets itself: {kept:#?}");
    let sessions: Vec<&&[String; 4]> = kept.iter().filter(|entry| entry[0].starts_with(&session)).collect();
    assert!(sessions.iter().all(|entry| entry[0].contains(&id)), "a session is named by its job: {sessions:#?}");

    // What the job's keys are narrowed to.
    let asked: Vec<&[String; 4]> = entries.iter().filter(|entry| entry[1] == "sts.assumeRole").collect();
    assert!(!asked.is_empty(), "{entries:#?}");
    let policies = Command::new(python()).args(["-c", POLICIES]).arg(database(&stack)).output().expect("python runs");
    let policies = text(&policies.stdout);
    assert!(!policies.is_empty() && policies.lines().all(|policy| policy.contains(&prefix)), "{policies}");
}

#[test]
fn an_upload_in_parts_outlives_a_kill_between_its_end_and_its_sending() {
    let weed = Weed::start();
    let stack = Stack::start();
    attach_weed(&stack, &weed);
    let python = |code: &str, more: &[&str]| -> Output {
        let mut command = Command::new(python());
        tell(&stack, &weed, command.args(["-c", code]).args(more)).output().expect("python runs")
    };
    let begun = python(BEGIN, &[]);
    assert!(begun.status.success(), "{}\n{}", text(&begun.stderr), stack.log());
    let begun = text(&begun.stdout);
    let words: Vec<&str> = begun.split_whitespace().collect();

    // The service there takes the connection and does nothing; there the service here dies.
    weed.freeze();
    let completing = std::thread::scope(|scope| {
        let completing = scope.spawn(|| python(COMPLETE, &words));
        wait_for("the upload to be on its way", Duration::from_secs(20), || weed.has_a_connection());
        std::thread::sleep(Duration::from_secs(1));
        stack.kill("serve");
        completing.join().expect("it ends")
    });
    assert!(!completing.status.success(), "no answer came: {}", text(&completing.stdout));
    weed.thaw();
    answers(&stack);
    let again = python(COMPLETE, &words);
    assert!(
        again.status.success() && text(&again.stdout).contains("it is whole"),
        "{}{}\n{}",
        text(&again.stdout),
        text(&again.stderr),
        stack.log()
    );
}

/// A bucket `near` in the embedded store; what is made afterwards lives there.
fn attach_weed(stack: &Stack, weed: &Weed) {
    assert!(stack.run(&["bucket", "create", "near"]).status.success(), "{}", stack.log());
    configure(stack, &weed.entry(&stack.dir));
}

/// Adds an `[[external_s3]]` to the configuration that `serve` reads at its start, and starts it again.
fn configure(stack: &Stack, entry: &str) {
    let config = stack.text("config");
    let before = fs::read_to_string(&config).expect("the configuration");
    let (head, tail) = before.split_once("external_s3 = []\n").expect("none is configured");
    fs::write(&config, format!("{head}{tail}\n[[external_s3]]\n{entry}")).expect("written");
    restart(stack);
}

fn restart(stack: &Stack) {
    stack.kill("serve");
    answers(stack);
}

fn answers(stack: &Stack) {
    wait_for("serve to answer again", Duration::from_secs(30), || stack.run(&["bucket", "list"]).status.success());
}

/// Runs functions of `programs/external/buckets.py`.
fn holds(stack: &Stack, weed: &Weed, laws: &[&str]) {
    let mut command = Command::new(python());
    command.arg(program("external/buckets.py")).args(laws);
    let output = tell(stack, weed, &mut command).output().expect("python runs");
    let said = text(&output.stdout);
    let held = output.status.success() && said.contains("all of it holds");
    assert!(held, "{said}{}\n{}", text(&output.stderr), stack.log());
}

fn tell<'a>(stack: &Stack, weed: &Weed, command: &'a mut Command) -> &'a mut Command {
    stack
        .tell(command)
        .env("THERE", weed.url())
        .env("THERE_ACCESS_KEY", ACCESS_KEY)
        .env("THERE_SECRET_KEY", SECRET_KEY)
        .env("THERE_PREFIX", weed::PREFIX)
}

/// `BUCKET/KEY` of all that is there.
fn there(weed: &Weed, stack: &Stack) -> Vec<String> {
    let mut command = Command::new(python());
    let output = tell(stack, weed, command.args(["-c", ALL_THERE])).output().expect("python runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// Whether the service there, asked by its own key, gives what it has and takes more.
fn gives_and_takes(weed: &Weed, stack: &Stack) -> bool {
    let mut command = Command::new(python());
    let output = tell(stack, weed, command.args(["-c", GIVES_AND_TAKES])).output().expect("python runs");
    output.status.success()
}

/// Identity, action, resource and decision of all entries.
fn audit(stack: &Stack) -> Vec<[String; 4]> {
    let output = Command::new(python()).args(["-c", AUDIT]).arg(database(stack)).output().expect("python runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn database(stack: &Stack) -> std::path::PathBuf {
    Path::new(&stack.dir).join("data/db/casemate.sqlite")
}

const WHO: &str = "
import boto3, sys
url, region, access, secret = sys.argv[1:]
sts = boto3.client('sts', endpoint_url=url, region_name=region, aws_access_key_id=access, aws_secret_access_key=secret)
print(sts.get_caller_identity()['Arn'])
";

const AUDIT: &str = "
import json, sqlite3, sys
rows = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True).execute('SELECT identity, action, resource, decision FROM audit ORDER BY id')
print(json.dumps([list(row) for row in rows]))
";

const POLICIES: &str = "
import json, sqlite3, sys
rows = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True).execute(\"SELECT detail FROM audit WHERE action = 'sts.assumeRole'\")
for (detail,) in rows:
    print(json.loads(detail)['policy'])
";

const ALL_THERE: &str = "
import boto3, os
s3 = boto3.client('s3', endpoint_url=os.environ['THERE'], region_name='us-east-1', aws_access_key_id=os.environ['THERE_ACCESS_KEY'], aws_secret_access_key=os.environ['THERE_SECRET_KEY'])
for bucket in s3.list_buckets()['Buckets']:
    for page in s3.get_paginator('list_objects_v2').paginate(Bucket=bucket['Name']):
        for item in page.get('Contents', []):
            print(f\"{bucket['Name']}/{item['Key']}\")
";

const GIVES_AND_TAKES: &str = "
import boto3, os
s3 = boto3.client('s3', endpoint_url=os.environ['THERE'], region_name='us-east-1', aws_access_key_id=os.environ['THERE_ACCESS_KEY'], aws_secret_access_key=os.environ['THERE_SECRET_KEY'])
for bucket in s3.list_buckets()['Buckets']:
    for item in s3.list_objects_v2(Bucket=bucket['Name']).get('Contents', []):
        s3.get_object(Bucket=bucket['Name'], Key=item['Key'])['Body'].read()
    s3.put_object(Bucket=bucket['Name'], Key='a try', Body=b'1')
    s3.delete_object(Bucket=bucket['Name'], Key='a try')
";

const BEGIN: &str = "
import boto3, os
s3 = boto3.client('s3', endpoint_url=os.environ['S3'], region_name=os.environ['REGION'], aws_access_key_id=os.environ['ACCESS_KEY'], aws_secret_access_key=os.environ['SECRET_KEY'])
s3.create_bucket(Bucket='far')
upload = s3.create_multipart_upload(Bucket='far', Key='parts')['UploadId']
etags = [s3.upload_part(Bucket='far', Key='parts', UploadId=upload, PartNumber=at, Body=bytes([at]) * (20 << 20))['ETag'] for at in (1, 2)]
print(upload, *etags)
";

const COMPLETE: &str = "
import boto3, os, sys
from botocore.config import Config
s3 = boto3.client('s3', endpoint_url=os.environ['S3'], region_name=os.environ['REGION'], aws_access_key_id=os.environ['ACCESS_KEY'], aws_secret_access_key=os.environ['SECRET_KEY'], config=Config(retries={'total_max_attempts': 1}))
upload = {'Bucket': 'far', 'Key': 'parts', 'UploadId': sys.argv[1]}
assert len(s3.list_parts(**upload)['Parts']) == 2
s3.complete_multipart_upload(**upload, MultipartUpload={'Parts': [{'PartNumber': at, 'ETag': etag} for at, etag in enumerate(sys.argv[2:], 1)]})
assert s3.get_object(Bucket='far', Key='parts')['Body'].read() == bytes([1]) * (20 << 20) + bytes([2]) * (20 << 20)
assert 'Uploads' not in s3.list_multipart_uploads(Bucket='far')
print('it is whole')
";
