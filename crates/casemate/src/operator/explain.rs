//! `casemate store explain`: why somebody may do something in the object store, or may not.

use std::{fs, path::Path, sync::Arc};

use clap::Args;
use identity::{BucketRules, S3Grant, S3Policy, S3Question, S3Verdict, Scope, is_condition_key, s3_action_named};
use jiff::Timestamp;
use model::{BucketName, ProjectId};
use objects::Store;
use serde_json::{Value, json};

use super::{DataArgs, Office};
use crate::{
    cli::{Global, output},
    failure::{Doing, Failure},
    serve,
};

/// Arguments of `store explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Who: an access key id, the name of a user, or `anonymous` for a call without a signature
    #[arg(long, value_name = "WHO")]
    identity: String,
    /// What: an action as policies name it, such as s3:GetObject
    #[arg(long, value_name = "ACTION", value_parser = parse_action)]
    action: String,
    /// On which bucket
    #[arg(long, value_name = "BUCKET")]
    bucket: Option<BucketName>,
    /// On which key of the bucket
    #[arg(long, value_name = "KEY", requires = "bucket")]
    key: Option<String>,
    /// Project of the bucket; that of the identity when not given
    #[arg(long, value_name = "PROJECT")]
    project: Option<ProjectId>,
    /// The policy of the bucket, or `none`; when not given it is read from the store, for which the service must be stopped
    #[arg(long, value_name = "FILE")]
    policy: Option<String>,
    /// A condition key and its value, such as aws:SourceIp=192.0.2.7; may be given several times
    #[arg(long = "condition", value_name = "KEY=VALUE", value_parser = parse_condition)]
    conditions: Vec<(String, String)>,
    #[command(flatten)]
    data: DataArgs,
}

/// What the bucket adds to the decision.
#[derive(Debug, Default)]
pub struct OfBucket {
    policy: Option<String>,
    public_blocked: bool,
}

impl OfBucket {
    /// As `given` (a file, or `none`), else as the store has it.
    pub async fn read(
        office: &Office,
        project: &ProjectId,
        bucket: Option<&BucketName>,
        given: Option<&str>,
    ) -> Result<OfBucket, Failure> {
        match (given, bucket) {
            (None, Some(bucket)) => of_store(office, project, bucket).await,
            (None, None) | (Some("none"), _) => Ok(OfBucket::default()),
            (Some(file), _) => Ok(OfBucket { policy: Some(read(Path::new(file))?), public_blocked: false }),
        }
    }

    /// With the policy read.
    pub fn rules(&self, project: &ProjectId, bucket: Option<&BucketName>) -> Result<BucketRules, Failure> {
        let policy = match (&self.policy, bucket) {
            (Some(text), Some(bucket)) => {
                let read = S3Policy::parse_bucket(text, project, bucket);
                Some(Arc::new(read.doing(format!("cannot use the policy of bucket {bucket}"))?))
            }
            (Some(_), None) => return Err(Failure::new("a policy is of a bucket").help("name it by --bucket")),
            (None, _) => None,
        };
        Ok(BucketRules { policy, public_blocked: self.public_blocked })
    }
}

/// Decides as the object gate would, and says of each statement whether it applies and why.
pub async fn explain(args: &ExplainArgs, global: &Global) -> Result<(), Failure> {
    let office = Office::open(global, &args.data).await?;
    let caller = caller(&office, &args.identity).await?;
    let project = match (&args.project, &caller) {
        (Some(project), _) => project.clone(),
        (None, Some(caller)) => caller.project.clone(),
        (None, None) => {
            return Err(Failure::new("one without a signature has no project").help("name the bucket's by --project"));
        }
    };
    let of_bucket = OfBucket::read(&office, &project, args.bucket.as_ref(), args.policy.as_deref()).await?;
    let verdict = decide(&office, args, caller.as_deref(), &project, &of_bucket).await?;
    output::print(global.output, &shown(args, caller.as_deref(), &project, &verdict), || {
        let scope = caller.as_deref().and_then(|caller| scope_of(caller.scope));
        let note =
            scope.map_or(String::new(), |scope| format!("\nbeside policies, {scope} has the bounds of its scope"));
        verdict.to_string().lines().map(output::printable).collect::<Vec<_>>().join("\n") + &note
    })?;
    office.close().await
}

/// Whose rights are asked about; `None` is everybody's.
async fn caller(office: &Office, who: &str) -> Result<Option<Arc<S3Grant>>, Failure> {
    if who == "anonymous" {
        return Ok(None);
    }
    let what = format!("cannot look up {who}");
    if let Some(grant) = office.identity.find_s3_key(who).await.doing(&what)? {
        return Ok(Some(grant));
    }
    match office.identity.grant_of_user(who).await.doing(&what)? {
        Some(grant) => Ok(Some(Arc::new(grant))),
        None => Err(Failure::new(format!("there is no access key {who} that is good, and no user of that name"))
            .help("`casemate key list` shows the keys; one that is disabled or has ended may do nothing")),
    }
}

/// What the store knows of the bucket.
async fn of_store(office: &Office, project: &ProjectId, bucket: &BucketName) -> Result<OfBucket, Failure> {
    let what = format!("cannot read the policy of bucket {bucket}");
    let dir = office.config.data.join("objects");
    let keys = serve::open_keys(&office.config)?;
    let store = match Store::open_to_check(&dir, keys, None).await {
        Ok(store) => store,
        Err(objects::Error::InUse) => {
            return Err(Failure::new(what).cause("the object store is in use: the service runs").help(
                "give the bucket's policy by --policy FILE, or `--policy none` where it has none, or stop the service",
            ));
        }
        Err(cause) => return Err(Failure::new(what).cause(cause)),
    };
    let found = store.bucket_policy(project, bucket);
    store.close().await;
    let (policy, public_blocked) = found.doing(what)?;
    Ok(OfBucket { policy, public_blocked })
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).doing(format!("cannot read {}", file.display()))
}

async fn decide(
    office: &Office,
    args: &ExplainArgs,
    caller: Option<&S3Grant>,
    project: &ProjectId,
    of_bucket: &OfBucket,
) -> Result<S3Verdict, Failure> {
    let rules = of_bucket.rules(project, args.bucket.as_ref())?;
    let at = Timestamp::now();
    let now = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut context: Vec<(&str, &str)> =
        args.conditions.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if !context.iter().any(|(key, _)| key.eq_ignore_ascii_case("aws:CurrentTime")) {
        context.push(("aws:CurrentTime", &now));
    }
    let question = S3Question {
        project,
        action: &args.action,
        bucket: args.bucket.as_ref().map(BucketName::as_str),
        key: args.key.as_deref(),
        bucket_policy: rules.policy.as_deref(),
        context: &context,
        public_blocked: rules.public_blocked,
    };
    office.identity.explain_s3(caller, &question, at).await.doing("the account's policies cannot be evaluated")
}

/// The decision for programs.
fn shown(args: &ExplainArgs, caller: Option<&S3Grant>, project: &ProjectId, verdict: &S3Verdict) -> Value {
    let steps: Vec<Value> = verdict
        .trace
        .iter()
        .map(|step| {
            json!({
                "policy": step.policy,
                "statement": step.statement,
                "effect": if step.allow { "Allow" } else { "Deny" },
                "applies": step.matched,
                "because": step.because,
            })
        })
        .collect();
    json!({
        "allowed": verdict.allowed,
        "reason": verdict.reason,
        "principal": caller.map(|caller| &caller.principal),
        "scope": caller.and_then(|caller| scope_of(caller.scope)),
        "action": args.action,
        "project": project,
        "bucket": args.bucket,
        "key": args.key,
        "steps": steps,
    })
}

/// Whose scope bounds it beside policies; `None`: nobody's.
fn scope_of(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::Project => None,
        Scope::Job(_) => Some("a job"),
        Scope::Platform(_) => Some("the platform of a job"),
    }
}

fn parse_action(text: &str) -> Result<String, String> {
    let wrong = "an action of S3, such as s3:GetObject; a HEAD is s3:GetObject, a list is s3:ListBucket";
    s3_action_named(text).ok_or_else(|| wrong.to_owned())
}

fn parse_condition(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| is_condition_key(key));
    let (key, value) =
        pair.ok_or("a condition key and its value, such as aws:SourceIp=192.0.2.7 or s3:prefix=data/")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Config;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn args(words: &[&str]) -> ExplainArgs {
        Line::try_parse_from([&["explain"], words].concat()).expect("arguments").args
    }

    #[tokio::test]
    async fn a_decision_is_explained_for_a_key_a_user_and_everybody() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config { data: dir.path().to_owned(), ..Config::default() };
        let keys = serve::open_keys(&config).expect("keys");
        let store = Store::open(&dir.path().join("objects"), keys).await.expect("a store");
        let office = Office::over(config).await.expect("an office");
        let (identity, by) = (&office.identity, &office.by);
        let account = "ab1234-casemate".parse().expect("an account");
        identity.create_account(&account, "a@example.org", "A", by).await.expect("an account");
        let project = identity.create_project(&account, "first", by).await.expect("a project").id;
        let user = identity.create_user(&project, "etl", by).await.expect("a user");
        let access = identity.create_s3_key(&project, Some(user.id), by).await.expect("a key").access;
        let own = r#"{"Version":"2012-10-17","Statement":
            {"Sid":"Lists","Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::data",
             "Condition":{"StringLike":{"s3:prefix":"in/*"}}}}"#;
        identity.set_user_policy(&project, user.id, own, by).await.expect("set");

        let asked = async |words: &[&str], of_bucket: &OfBucket| {
            let args = args(words);
            let caller = caller(&office, &args.identity).await.expect("looked up");
            let verdict = decide(&office, &args, caller.as_deref(), &project, of_bucket).await.expect("decided");
            shown(&args, caller.as_deref(), &project, &verdict)
        };
        let nothing = OfBucket::default();
        let list = ["--action", "s3:ListBucket", "--bucket", "data", "--condition"];
        for (who, prefix, allowed) in [(&access, "s3:prefix=in/x", true), (&user.username, "s3:prefix=out/", false)] {
            let said = asked(&[&["--identity", who][..], &list, &[prefix]].concat(), &nothing).await;
            assert_eq!((&said["allowed"], &said["steps"][0]["applies"]), (&allowed.into(), &allowed.into()), "{said}");
            assert_eq!(said["steps"][0]["statement"], "1 (Lists)");
            assert_eq!(said["principal"], format!("arn:aws:iam::{project}:user/{}", user.username));
        }
        let open = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"}}"#;
        let get = ["--identity", "anonymous", "--action", "s3:GetObject", "--bucket", "data", "--key", "k"];
        for (public_blocked, allowed) in [(false, true), (true, false)] {
            let said = asked(&get, &OfBucket { policy: Some(open.to_owned()), public_blocked }).await;
            assert_eq!((&said["allowed"], &said["principal"]), (&allowed.into(), &Value::Null), "{said}");
        }
        assert!(caller(&office, "nobody").await.is_err());

        // The bucket's policy is in the store, which the service has for itself.
        let bucket = "data".parse().expect("a bucket");
        store.create_bucket(&project, &bucket, objects::NewBucket::default()).await.expect("made");
        let busy = of_store(&office, &project, &bucket).await.expect_err("in use").to_string();
        assert!(busy.contains("the service runs") && busy.contains("--policy none"), "{busy}");
        store.close().await;
        drop(store);
        let found = of_store(&office, &project, &bucket).await.expect("read");
        assert_eq!((found.policy, found.public_blocked), (None, true));
        let other = "other".parse().expect("a bucket");
        assert!(of_store(&office, &project, &other).await.is_err());
    }

    #[test]
    fn what_no_policy_can_name_is_refused() {
        assert_eq!(parse_action("s3:getobject").as_deref(), Ok("s3:GetObject"));
        for wrong in ["s3:HeadObject", "GetObject", "s3:*", ""] {
            assert!(parse_action(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_condition("s3:prefix=a=b"), Ok(("s3:prefix".to_owned(), "a=b".to_owned())));
        for wrong in ["s3:prefix", "s3:nothing=1", "=1"] {
            assert!(parse_condition(wrong).is_err(), "{wrong}");
        }
    }
}
