//! `casemate iam`: says why a call is allowed or not.

use audit::{Audit, Query, Row};
use clap::{Args, Subcommand};
use identity::{Explanation, Facts, Group, GroupRole, Question, Resource, Ruling, Urn, UrnKind};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{DataArgs, Office};
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
    /// The action, such as publicCloudProject:apiovh:dataProcessing/jobs/create
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
    let asked = match &args.request {
        Some(id) => recorded(&office, id).await?,
        None => {
            let mut identities = vec![identity_urn(&args.identity.unwrap_or_default())?];
            for group in &args.group {
                identities.push(identity_urn(group)?);
            }
            if args.group.is_empty()
                && let Some(group) = group_of(&office, &identities[0]).await?
            {
                identities.push(identity::group_urn(&group.account, &group.name));
            }
            Asked {
                identities,
                action: args.action.unwrap_or_default(),
                resource: args.resource.unwrap_or_default(),
                facts: Facts { at: args.at.unwrap_or_else(Timestamp::now), source_ip: args.source_ip },
                recorded: None,
            }
        }
    };
    let told = tell(&office, &asked).await?;
    let mut value = serde_json::to_value(&told).doing("cannot print the result")?;
    value["identities"] = json!(asked.identities);
    value["action"] = asked.action.as_str().into();
    value["resource"] = asked.resource.as_str().into();
    value["at"] = asked.facts.at.to_string().into();
    value["sourceIp"] = json!(asked.facts.source_ip);
    value["recorded"] = asked.recorded.as_ref().map_or(Value::Null, Recorded::to_json);
    output::print(global.output, &value, || text(&asked, &told))?;
    office.close().await
}

/// A call to explain.
struct Asked {
    identities: Vec<String>,
    action: String,
    resource: String,
    facts: Facts,
    recorded: Option<Recorded>,
}

/// What the audit log says of a call that was made.
struct Recorded {
    decision: String,
    reason: Option<String>,
}

impl Recorded {
    fn to_json(&self) -> Value {
        json!({ "decision": self.decision, "reason": self.reason })
    }
}

/// The call of the audit log.
async fn recorded(office: &Office, id: &str) -> Result<Asked, Failure> {
    let audit = Audit::new(office.db.clone());
    let query = Query { request_id: Some(id.to_owned()), limit: 1000, ..Query::default() };
    let rows = audit.list(&query).await.doing("cannot read the audit log")?;
    let Some(row) = rows.iter().find(|row| row.decision != "none") else {
        let failure = Failure::new(format!("the audit log has no decision of a request {id}"));
        return Err(failure.help("each answer of the API names its request in X-Ovh-QueryID"));
    };
    let detail: Value = serde_json::from_str(&row.detail).unwrap_or_default();
    let identities = detail["identities"].as_array().into_iter().flatten();
    let identities: Vec<String> = identities.filter_map(Value::as_str).map(str::to_owned).collect();
    if identities.is_empty() {
        return Err(Failure::new(format!("request {id} was refused before it was known who called"))
            .cause(detail["class"].as_str().unwrap_or("its credential was not valid").to_owned()));
    }
    if Urn::parse(&row.resource).is_err() {
        return Err(Failure::new(format!("request {id} was refused before policies were asked"))
            .cause(detail["reason"].as_str().unwrap_or("no decision on a resource was asked for").to_owned()));
    }
    Ok(Asked {
        identities,
        action: row.action.clone(),
        resource: row.resource.clone(),
        facts: Facts { at: row.at, source_ip: address(row) },
        recorded: Some(Recorded {
            decision: row.decision.clone(),
            reason: detail["reason"].as_str().map(str::to_owned),
        }),
    })
}

fn address(row: &Row) -> Option<std::net::IpAddr> {
    row.source_ip.as_deref()?.parse().ok()
}

/// Explains by the policies of whom the resource belongs to, as they were at that time.
async fn tell(office: &Office, asked: &Asked) -> Result<Explanation, Failure> {
    let urn = Urn::parse(&asked.resource).doing(format!("{} is not the URN of a resource", asked.resource))?;
    let owner = match Resource::from_urn(&urn) {
        Some(Resource::Account(id)) => office.identity.account(&id).await.doing("cannot read the account")?.map(|_| id),
        Some(Resource::Project(id)) => {
            let project = office.identity.project(&id).await.doing("cannot read the project")?;
            project.map(|project| project.account)
        }
        None => None,
    };
    let Some(owner) = owner else {
        return Err(Failure::new(format!("there is no resource {urn}")).help(
            "resources are urn:v1:eu:resource:account:ACCOUNT and urn:v1:eu:resource:publicCloudProject:PROJECT",
        ));
    };
    if asked.identities.first().is_some_and(|identity| *identity == Urn::account_identity(&owner).to_string()) {
        return Ok(Explanation::unbounded("an account may do everything on what is its own"));
    }
    if let Some(first) = asked.identities.first()
        && let Some(group) = group_of(office, first).await?
        && group.account == owner
        && group.role == GroupRole::Admin.as_str()
    {
        return Ok(Explanation::unbounded("a user in a group of the role ADMIN may do all that its account may"));
    }
    let iam = office.identity.iam_at(&owner, asked.facts.at).await.doing("cannot read the policies")?;
    let identities: Vec<&str> = asked.identities.iter().map(String::as_str).collect();
    let question =
        Question { identities: &identities, action: &asked.action, resource: &asked.resource, facts: asked.facts };
    iam.explain(&question).doing("cannot evaluate the policies")
}

/// The group that a user is in now.
async fn group_of(office: &Office, urn: &str) -> Result<Option<Group>, Failure> {
    let Some(urn) = Urn::parse(urn).ok().filter(|urn| urn.subtype() == "user") else { return Ok(None) };
    let Some((account, login)) = urn.id().split_once('/') else { return Ok(None) };
    let Ok(account) = account.parse() else { return Ok(None) };
    let doing = "cannot read the user";
    let Some(person) = office.identity.person(&account, login).await.doing(doing)? else { return Ok(None) };
    office.identity.group(&account, &person.group).await.doing(doing)
}

fn identity_urn(text: &str) -> Result<String, Failure> {
    let wrong = format!("{text} is not the URN of an identity");
    let urn = Urn::parse(text).doing(wrong.clone())?;
    match urn.kind() {
        UrnKind::Identity => Ok(urn.to_string()),
        _ => Err(Failure::new(wrong)),
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
    section("decided by", told.deciding.iter().map(named).collect());
    let overruled = told.spoke.iter().filter(|ruling| !told.deciding.contains(ruling));
    section("overruled", overruled.map(named).collect());
    let missed = told.missed.iter().map(|miss| format!("{}: {}", named(&miss.ruling), miss.because));
    section("did not speak", missed.collect());
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
