//! `casemate key`: credentials of the API, and access keys of the object store.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use identity::{AccessRule, Credential, CredentialRequest, S3KeyInfo};
use ipnet::IpNet;
use jiff::Timestamp;
use model::{AccountId, ProjectId, Ttl};
use serde_json::{Value, json};

use super::{DataArgs, Office, accounts::DAY};
use crate::{
    cli::{ClientFile, Global, Output, Profile, S3Access, output},
    failure::{Doing, Failure},
};

/// Verbs of keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key of the API that is valid at once, and print a client configuration with it
    Create(Box<CreateArgs>),
    /// List the keys, without their secrets
    #[command(visible_alias = "ls")]
    List {
        /// Of this account only
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// End a key at once
    Revoke {
        /// Number of a key of the API, or access key id of the object store
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Grant a key that an application asked for
    Validate {
        /// Token of its validation page
        #[arg(value_name = "TOKEN")]
        token: String,
        /// The account that grants it; the application's own when not given
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        /// The user of the account that grants it; the account itself when not given
        #[arg(long, value_name = "LOGIN")]
        user: Option<String>,
        /// When it ends: a time by RFC 3339 or a duration such as P30D; never when not given
        #[arg(long, value_name = "WHEN", value_parser = parse_end)]
        expires: Option<Timestamp>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Refuse a key that an application asked for
    Refuse {
        /// Token of its validation page
        #[arg(value_name = "TOKEN")]
        token: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Arguments of `key create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Whose key; need not be named where there is one account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<AccountId>,
    /// Project of the printed profile; need not be named where the account has one
    #[arg(long, value_name = "PROJECT")]
    project: Option<ProjectId>,
    /// What the key is for
    #[arg(long, value_name = "NAME", default_value = "command line")]
    name: String,
    /// What it may call, such as 'GET /cloud/project/*'; may be given several times; everything when not given
    #[arg(long = "rule", value_name = "RULE", value_parser = parse_rule)]
    rules: Vec<AccessRule>,
    /// From where it may be used, such as 192.0.2.0/24; may be given several times; from everywhere when not given
    #[arg(long = "ip", value_name = "BLOCK", value_parser = parse_block)]
    blocks: Vec<IpNet>,
    /// When it ends: a time by RFC 3339 or a duration such as P30D; never when not given
    #[arg(long, value_name = "WHEN", value_parser = parse_end)]
    expires: Option<Timestamp>,
    /// Make an access key of the project's object store too
    #[arg(long)]
    s3: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs one.
pub async fn key(command: KeyCommand, global: &Global) -> Result<(), Failure> {
    match command {
        KeyCommand::Create(args) => create(*args, global).await,
        KeyCommand::List { account, data } => list(account, &data, global).await,
        KeyCommand::Revoke { key, data } => revoke(&key, &data, global).await,
        KeyCommand::Validate { token, account, user, expires, data } => {
            let office = Office::open(global, &data).await?;
            let (account, user) = (account.as_ref(), user.as_deref());
            let id = office.identity.validate(&token, account, user, expires, &office.by).await;
            let id = id
                .doing("cannot grant the key")
                .map_err(|failure| failure.help("a token is good once, for 24 hours"))?;
            output::print(global.output, &json!({ "credentialId": id }), || format!("key {id} is valid"))?;
            office.close().await
        }
        KeyCommand::Refuse { token, data } => {
            let office = Office::open(global, &data).await?;
            let id = office.identity.refuse(&token, &office.by).await.doing("cannot refuse the key")?;
            output::print(global.output, &json!({ "credentialId": id }), || format!("key {id} is refused"))?;
            office.close().await
        }
    }
}

async fn create(args: CreateArgs, global: &Global) -> Result<(), Failure> {
    let office = Office::open(global, &args.data).await?;
    let account = office.account(args.account).await?;
    let project = office.project(&account, args.project).await?;
    let rules = if args.rules.is_empty() { AccessRule::everything() } else { args.rules };
    let request = CredentialRequest { rules, allowed_ips: args.blocks, redirection: None };
    let (id, profile) = office.make_key(&account, &project, &args.name, &request, args.expires).await?;
    let s3 = if args.s3 { Some(office.make_s3_key(&project, &args.name).await?) } else { None };
    let file = ClientFile { profile: BTreeMap::from([(global.profile.clone(), profile)]), s3 };
    match global.output {
        Output::Text => {
            let text = toml::to_string(&file).doing("cannot write the client configuration")?;
            output::line(&format!(
                "# Client configuration of Casemate; key {id}. Keep it secret: this is the only time it is shown.\n{}",
                text.trim_end()
            ))?;
        }
        Output::Json => {
            let mut shown = serde_json::to_value(&file).doing("cannot print the key")?;
            shown["credentialId"] = json!(id);
            output::print(global.output, &shown, String::new)?;
        }
    }
    office.close().await
}

impl Office {
    /// An application with one valid credential, as a profile.
    pub(super) async fn make_key(
        &self,
        account: &AccountId,
        project: &ProjectId,
        name: &str,
        request: &CredentialRequest,
        expires: Option<Timestamp>,
    ) -> Result<(i64, Profile), Failure> {
        let what = "cannot make the key";
        let application =
            self.identity.create_application(account, name, "made by the operator", &self.by).await.doing(what)?;
        let made =
            self.identity.create_credential(&application.application, request, expires, &self.by).await.doing(what)?;
        let profile = Profile {
            endpoint: self.endpoint(),
            application_key: application.application.key,
            application_secret: application.secret.to_string(),
            consumer_key: made.consumer_key.to_string(),
            project: Some(project.to_string()),
            region: self.region_of(project).await?,
        };
        Ok((made.id, profile))
    }

    /// The project of an access key, disabled or not; those of jobs and temporary ones have none.
    async fn project_of_s3_key(&self, access: &str) -> Result<Option<ProjectId>, identity::Error> {
        for project in self.identity.projects(None).await? {
            if self.identity.s3_keys(&project.id, None).await?.iter().any(|key| key.access == access) {
                return Ok(Some(project.id));
            }
        }
        Ok(None)
    }

    /// An access key of a new user of the project.
    pub(super) async fn make_s3_key(&self, project: &ProjectId, name: &str) -> Result<S3Access, Failure> {
        let what = "cannot make the access key";
        let user = self.identity.create_user(project, name, &self.by).await.doing(what)?;
        let key = self.identity.create_s3_key(project, Some(user.id), &self.by).await.doing(what)?;
        Ok(S3Access {
            endpoint: self.s3_endpoint(),
            region: self.region_of(project).await?,
            access_key: key.access,
            secret_key: key.secret.to_string(),
        })
    }
}

async fn list(account: Option<AccountId>, data: &DataArgs, global: &Global) -> Result<(), Failure> {
    let office = Office::open(global, data).await?;
    let what = "cannot list the keys";
    let account = office.named_account(account).await?;
    let credentials = office.identity.credentials(account.as_ref()).await.doing(what)?;
    let applications = office.identity.applications(None).await.doing(what)?;
    let name = |credential: &Credential| {
        let found = applications.iter().find(|application| application.id == credential.application);
        found.map(|application| application.name.clone()).unwrap_or_default()
    };
    let projects = office.identity.projects(account.as_ref()).await.doing(what)?;
    let mut access = Vec::new();
    for project in &projects {
        access.extend(office.identity.s3_keys(&project.id, None).await.doing(what)?);
    }
    let now = Timestamp::now();
    let shown = json!({
        "api": credentials.iter().map(|credential| describe(credential, &name(credential), now)).collect::<Vec<_>>(),
        "s3": access.iter().map(describe_s3).collect::<Vec<_>>(),
    });
    output::print(global.output, &shown, || {
        let day = |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| time.strftime(DAY).to_string());
        let mut rows: Vec<Vec<String>> = credentials
            .iter()
            .map(|credential| {
                let owner = credential.account.as_ref().map_or("-".to_owned(), ToString::to_string);
                let status = credential.status_at(now).as_str().to_owned();
                let times = [Some(credential.created), credential.expiration, credential.last_use].map(day);
                [vec![credential.id.to_string(), "api".to_owned(), name(credential), owner, status], times.to_vec()]
                    .concat()
            })
            .collect();
        rows.extend(access.iter().map(|key| {
            let status = if key.enabled { "validated" } else { "disabled" };
            let kind = [key.access.as_str(), "s3", "-", key.project.as_str(), status].map(str::to_owned);
            [kind.to_vec(), vec![day(Some(key.created)), "-".to_owned(), day(key.last_used)]].concat()
        }));
        output::table(&["key", "kind", "name", "of", "status", "created", "ends", "last use"], &rows)
    })?;
    office.close().await
}

async fn revoke(key: &str, data: &DataArgs, global: &Global) -> Result<(), Failure> {
    let office = Office::open(global, data).await?;
    let what = format!("cannot revoke key {key}");
    let absent = || Failure::new(format!("there is no key {key}")).help("`casemate key list` shows them");
    let number = key.parse::<i64>().ok();
    let credential = match number {
        Some(id) => office.identity.credential(id).await.doing(&what)?,
        None => None,
    };
    match credential {
        Some(credential) => office.identity.expire_credential(credential.id, &office.by).await.doing(&what)?,
        None => match office.project_of_s3_key(key).await.doing(&what)? {
            Some(project) => office.identity.delete_s3_key(&project, key, &office.by).await.doing(&what)?,
            None if office.identity.find_s3_key(key).await.doing(&what)?.is_some() => {
                return Err(Failure::new(what).cause("it belongs to a job or a session, and ends with it"));
            }
            None => return Err(absent()),
        },
    }
    output::print(global.output, &json!({ "key": key }), || format!("key {key} is no longer valid"))?;
    office.close().await
}

fn describe(credential: &Credential, name: &str, now: Timestamp) -> Value {
    let blocks = credential.allowed_ips.as_ref();
    json!({
        "credentialId": credential.id,
        "name": name,
        "account": credential.account,
        "status": credential.status_at(now).as_str(),
        "rules": credential.rules,
        "allowedIPs": blocks.map(|blocks| blocks.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "created": credential.created,
        "expiration": credential.expiration,
        "lastUse": credential.last_use,
    })
}

fn describe_s3(key: &S3KeyInfo) -> Value {
    json!({
        "access": key.access,
        "project": key.project,
        "enabled": key.enabled,
        "created": key.created,
        "lastUse": key.last_used,
    })
}

fn parse_rule(text: &str) -> Result<AccessRule, String> {
    let (method, path) = text.trim().split_once(' ').ok_or("a method and a path, such as 'GET /cloud/project/*'")?;
    AccessRule::parse(method, path.trim()).map_err(|fault| fault.to_string())
}

fn parse_block(text: &str) -> Result<IpNet, String> {
    model::parse_block(text).ok_or_else(|| "an address or a block such as 192.0.2.0/24".to_owned())
}

fn parse_end(text: &str) -> Result<Timestamp, String> {
    let end = match text.parse::<Ttl>() {
        Ok(duration) => Timestamp::now() + duration.duration(),
        Err(_) => text.parse().map_err(|_| "a time such as 2030-01-01T00:00:00Z, or a duration such as P30D")?,
    };
    if end <= Timestamp::now() { Err("that is in the past".to_owned()) } else { Ok(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_key_is_a_time_to_come() {
        let day = parse_end("P1D").expect("a time").as_second() - Timestamp::now().as_second();
        assert!((86_398..=86_400).contains(&day), "{day}");
        assert!(parse_end("2999-01-01T00:00:00Z").is_ok());
        for wrong in ["", "1999-01-01T00:00:00Z", "soon", "P0D"] {
            assert!(parse_end(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_is_a_method_and_a_path() {
        assert_eq!(parse_rule("GET /me").expect("a rule").path, "/me");
        for wrong in ["/me", "GET", "FETCH /me", "GET me"] {
            assert!(parse_rule(wrong).is_err(), "{wrong}");
        }
        assert!(parse_block("192.0.2.1").is_ok() && parse_block("192.0.2.0/24").is_ok() && parse_block("x").is_err());
    }
}
