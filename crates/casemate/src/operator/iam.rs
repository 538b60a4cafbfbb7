//! `casemate iam`: says why a call is allowed or not.

use clap::{Args, Subcommand};
use identity::{Asked, BucketRules, Explanation, Facts, Ruling, Unexplained, Urn};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{DataArgs, Office, explain::OfBucket};
use crate::{
    cli::{Global, output},
    failure::{Doing, Failure},
};

/// Verbs of IAM.
#[derive(Debug, Subcommand)]
pub enum IamCommand {
    /// Say which policies speak for or against a call, which decide, and what would have to change
    Explain(ExplainArgs),
}

/// What is to be explained: a call that could be made, or one that was.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Who calls: the URN of an account, a user or a service account
    #[arg(long, value_name = "URN", required_unless_present = "request", conflicts_with = "request")]
    identity: Option<String>,
    /// A group that it is in, by its URN; may be given more than once. That of a user is known
    #[arg(long, value_name = "URN", conflicts_with = "request")]
    group: Vec<String>,
    /// The action, such as publicCloudProject:apiovh:dataProcessing/jobs/create or storageS3:s3:GetObject
    #[arg(long, value_name = "ACTION", required_unless_present = "request", conflicts_with = "request")]
    action: Option<String>,
    /// The URN of the resource
    #[arg(long, value_name = "URN", required_unless_present = "request", conflicts_with = "request")]
    resource: Option<String>,
    /// From where the call comes
    #[arg(long, value_name = "ADDRESS", conflicts_with = "request")]
    source_ip: Option<std::net::IpAddr>,
    /// When it is made, with the policies of that time; now when not given
    #[arg(long, value_name = "TIME", conflicts_with = "request")]
    at: Option<Timestamp>,
    /// A call that was made, by the X-Ovh-QueryID of its answer
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Of a resource in the object store, the policy of its bucket in the AWS language, or `none`; when not given it is read
    /// from the store, for which the service must be stopped
    #[arg(long, value_name = "FILE", conflicts_with = "request")]
    policy: Option<String>,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs one.
pub async fn iam(command: IamCommand, global: &Global) -> Result<(), Failure> {
    match command {
        IamCommand::Explain(args) => explain(args, global).await,
    }
}

async fn explain(args: ExplainArgs, global: &Global) -> Result<(), Failure> {
    let office = Office::open(global, &args.data).await?;
    let asked = ask(&office, &args).await.map_err(failure)?;
    let bucket = match Urn::parse(&asked.resource).ok().and_then(|urn| urn.as_storage()) {
        Some(place) => {
            let bucket = place.bucket.as_ref();
            let found = OfBucket::read(&office, &place.project, bucket, args.policy.as_deref()).await?;
            found.rules(&place.project, bucket)?
        }
        None => BucketRules::default(),
    };
    let told = office.identity.explain(&asked, None, &bucket).await.map_err(failure)?;
    let mut value = serde_json::to_value(&told).doing("cannot print the result")?;
    value["identities"] = json!(asked.identities);
    value["action"] = asked.action.as_str().into();
    value["resource"] = asked.resource.as_str().into();
    value["at"] = asked.facts.at.to_string().into();
    value["sourceIp"] = json!(asked.facts.source_ip);
    value["recorded"] = asked
        .recorded
        .as_ref()
        .map_or(Value::Null, |recorded| json!({ "decision": recorded.decision, "reason": recorded.reason }));
    output::print(global.output, &value, || text(&asked, &told))?;
    office.close().await
}

async fn ask(office: &Office, args: &ExplainArgs) -> Result<Asked, Unexplained> {
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    match &args.request {
        Some(id) => office.identity.asked_by_request(id, None).await,
        None => {
            let facts = Facts { at: args.at.unwrap_or_else(Timestamp::now), source_ip: args.source_ip };
            let (who, action, resource) = (given(&args.identity), given(&args.action), given(&args.resource));
            office.identity.asked(&who, &args.group, &action, &resource, facts, None).await
        }
    }
}

fn failure(fault: Unexplained) -> Failure {
    match fault {
        Unexplained::NoRequest { .. } => {
            Failure::new(fault.to_string()).help("each answer of the API names its request in X-Ovh-QueryID")
        }
        Unexplained::NoResource { .. } => Failure::new(fault.to_string())
            .help("resources are urn:v1:eu:resource:account:ACCOUNT, urn:v1:eu:resource:publicCloudProject:PROJECT and urn:v1:eu:resource:storageS3:PROJECT/BUCKET/KEY"),
        Unexplained::NotKnownByUrn { .. } => Failure::new(fault.to_string())
            .help("`casemate store explain --identity ACCESS_KEY` explains what a key may do, that of a job too"),
        Unexplained::Failed(cause) => Failure::new("cannot explain the call").cause(cause),
        fault => Failure::new(fault.to_string()),
    }
}

fn text(asked: &Asked, told: &Explanation) -> String {
    let verdict = if told.allowed { "allowed" } else { "denied" };
    let mut text = format!("{verdict}: {} on {}\n", asked.action, asked.resource);
    text.push_str(&format!("  for {}, at {}\n", asked.identities.join(", "), asked.facts.at));
    if let Some(recorded) = &asked.recorded {
        let reason = recorded.reason.as_deref().unwrap_or("no reason recorded");
        text.push_str(&format!("  recorded then: {}, {reason}\n", recorded.decision));
    }
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {}\n", output::printable(line))));
        }
    };
    section("what decided", told.reason.iter().cloned().collect());
    section("decided by", told.deciding.iter().map(named).collect());
    let overruled = told.spoke.iter().filter(|ruling| !told.deciding.contains(ruling));
    section("overruled", overruled.map(named).collect());
    let missed = told.missed.iter().map(|miss| format!("{}: {}", named(&miss.ruling), miss.because));
    section("did not speak", missed.collect());
    section("in the AWS language", told.steps.iter().map(|step| step.to_string()).collect());
    section("what would have to change", told.change.clone());
    text
}

fn named(ruling: &Ruling) -> String {
    let effect = match ruling.effect {
        identity::Effect::Allow => "allows",
        identity::Effect::Deny => "denies",
    };
    match &ruling.permissions_group {
        None => format!("policy '{}' ({}), which {effect}", ruling.name, ruling.policy),
        Some(group) => format!("policy '{}' ({}), which {effect} by {group}", ruling.name, ruling.policy),
    }
}
