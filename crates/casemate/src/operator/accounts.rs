//! `casemate account` and `casemate project`.

use clap::Subcommand;
use identity::{Account, Project};
use model::{AccountId, ProjectId, Region};
use serde_json::{Value, json};

use super::{DataArgs, Office, quota};
use crate::{
    cli::{Global, output},
    failure::{Doing, Failure},
};

/// Verbs of accounts.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Make an account
    Create {
        /// Its id: 3 to 64 of a-z, 0-9 and '-', beginning with a letter
        #[arg(value_name = "ACCOUNT")]
        id: AccountId,
        /// E-mail address of who answers for it
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// Name of who answers for it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the accounts
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Say whether each user of an account needs a second factor to log in
    SecondFactor {
        /// Whose users
        #[arg(value_name = "ACCOUNT")]
        id: AccountId,
        /// They need one; who has none gets one at the next log-in
        #[arg(long, conflicts_with = "optional", required_unless_present = "optional")]
        required: bool,
        /// They may have one
        #[arg(long)]
        optional: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Remove all rules on from where an account is reached: for who locked itself out
    LiftIpRestrictions {
        /// Whose rules
        #[arg(value_name = "ACCOUNT")]
        id: AccountId,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Let users of an account log in by themselves again, where its provider of single sign-on alone let people in
    EnableUsers {
        /// Whose users
        #[arg(value_name = "ACCOUNT")]
        id: AccountId,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Verbs of projects.
#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Make a project
    Create {
        /// Its name, for people
        #[arg(value_name = "NAME")]
        name: String,
        /// Whose it is; need not be named where there is one account
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        /// Where its data stay and its jobs run, for good; the first of the configuration's regions when not given
        #[arg(long, value_name = "REGION")]
        region: Option<Region>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the projects
    #[command(visible_alias = "ls")]
    List {
        /// Of this account only
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// What a project may take at once
    #[command(subcommand)]
    Quota(quota::QuotaCommand),
}

/// Runs a verb of accounts.
pub async fn account(command: AccountCommand, global: &Global) -> Result<(), Failure> {
    match command {
        AccountCommand::Create { id, email, name, data } => {
            let office = Office::open(global, &data).await?;
            let (email, name) = (email.unwrap_or_default(), name.unwrap_or_default());
            let made = office.identity.create_account(&id, &email, &name, &office.by).await;
            let made = made.doing(format!("cannot create account {id}"))?;
            output::print(global.output, &describe_account(&made), || format!("account {id} created"))?;
            office.close().await
        }
        AccountCommand::List { data } => {
            let office = Office::open(global, &data).await?;
            let accounts = office.identity.accounts().await.doing("cannot list the accounts")?;
            let shown = accounts.iter().map(describe_account).collect();
            output::print(global.output, &Value::Array(shown), || {
                let row = |account: &Account| {
                    vec![
                        account.id.to_string(),
                        account.name.clone(),
                        account.email.clone(),
                        account.created.strftime(DAY).to_string(),
                    ]
                };
                output::table(&["account", "name", "email", "created"], &accounts.iter().map(row).collect::<Vec<_>>())
            })?;
            office.close().await
        }
        AccountCommand::SecondFactor { id, required, optional: _, data } => {
            let office = Office::open(global, &data).await?;
            let made = office.identity.require_second_factor(&id, required, &office.by).await;
            made.doing(format!("cannot change account {id}"))?;
            output::print(global.output, &json!({ "account": id, "secondFactorRequired": required }), || {
                let need = if required { "need" } else { "may have" };
                format!("users of account {id} {need} a second factor")
            })?;
            office.close().await
        }
        AccountCommand::LiftIpRestrictions { id, data } => {
            let office = Office::open(global, &data).await?;
            let id = office.account(Some(id)).await?;
            let gone = office.identity.lift_ip_restrictions(&id, &office.by).await;
            let gone = gone.doing(format!("cannot remove the address rules of {id}"))?;
            output::print(global.output, &json!({ "account": id, "rulesRemoved": gone }), || {
                format!("account {id} is reached from everywhere; {gone} rules removed")
            })?;
            office.close().await
        }
        AccountCommand::EnableUsers { id, data } => {
            let office = Office::open(global, &data).await?;
            let id = office.account(Some(id)).await?;
            let changed = office.identity.enable_users(&id, &office.by).await;
            let changed = changed.doing(format!("cannot change account {id}"))?;
            output::print(global.output, &json!({ "account": id, "changed": changed }), || match changed {
                true => format!("users of account {id} log in by themselves again"),
                false => format!("users of account {id} could log in by themselves already"),
            })?;
            office.close().await
        }
    }
}

/// Runs a verb of projects.
pub async fn project(command: ProjectCommand, global: &Global) -> Result<(), Failure> {
    match command {
        ProjectCommand::Quota(command) => quota::quota(command, global).await,
        ProjectCommand::Create { name, account, region, data } => {
            let office = Office::open(global, &data).await?;
            let account = office.account(account).await?;
            let region = office.region(region)?;
            let made = office.identity.create_project_in(&account, &name, Some(&region), &office.by).await;
            let made = made.doing(format!("cannot create project {name}"))?;
            output::print(global.output, &describe_project(&made), || made.id.to_string())?;
            office.close().await
        }
        ProjectCommand::List { account, data } => {
            let office = Office::open(global, &data).await?;
            let account = office.named_account(account).await?;
            let projects = office.identity.projects(account.as_ref()).await.doing("cannot list the projects")?;
            let shown = projects.iter().map(describe_project).collect();
            output::print(global.output, &Value::Array(shown), || {
                let row = |project: &Project| {
                    let created = project.created.strftime(DAY).to_string();
                    let region = project.region.as_ref().map(ToString::to_string).unwrap_or_default();
                    vec![project.id.to_string(), project.name.clone(), project.account.to_string(), region, created]
                };
                output::table(
                    &["project", "name", "account", "region", "created"],
                    &projects.iter().map(row).collect::<Vec<_>>(),
                )
            })?;
            office.close().await
        }
    }
}

impl Office {
    /// The region that is named, if it is one of the configuration's; its first where none is.
    pub(super) fn region(&self, named: Option<Region>) -> Result<Region, Failure> {
        let known = &self.config.regions;
        match named.or_else(|| known.first().cloned()) {
            Some(region) if known.contains(&region) => Ok(region),
            Some(region) => {
                let names: Vec<&str> = known.iter().map(Region::as_str).collect();
                Err(Failure::new(format!("there is no region {region}")).help(format!("one of {}", names.join(", "))))
            }
            None => Err(Failure::new("the configuration names no region")),
        }
    }

    /// The region of a project, as clients name it.
    pub(super) async fn region_of(&self, project: &ProjectId) -> Result<Option<String>, Failure> {
        let found = self.identity.region_of(project).await.doing("cannot look up the project")?;
        Ok(found.or_else(|| self.config.regions.first().cloned()).map(|region| region.to_string()))
    }

    /// The account that is named, or the only one.
    pub(super) async fn account(&self, named: Option<AccountId>) -> Result<AccountId, Failure> {
        let accounts = self.identity.accounts().await.doing("cannot list the accounts")?;
        match (named, accounts.as_slice()) {
            (Some(id), known) if known.iter().any(|account| account.id == id) => Ok(id),
            (Some(id), _) => {
                Err(Failure::new(format!("there is no account {id}")).help("`casemate account list` shows them"))
            }
            (None, [only]) => Ok(only.id.clone()),
            (None, []) => Err(Failure::new("there is no account").help("`casemate account create ACCOUNT` makes one")),
            (None, _) => Err(Failure::new("there are several accounts").help("name one by --account")),
        }
    }

    /// The account that is named, where one is.
    pub(super) async fn named_account(&self, named: Option<AccountId>) -> Result<Option<AccountId>, Failure> {
        match named {
            Some(id) => self.account(Some(id)).await.map(Some),
            None => Ok(None),
        }
    }

    /// The project that is named, or the account's only one.
    pub(super) async fn project(&self, account: &AccountId, named: Option<ProjectId>) -> Result<ProjectId, Failure> {
        let projects = self.identity.projects(Some(account)).await.doing("cannot list the projects")?;
        match (named, projects.as_slice()) {
            (Some(id), known) if known.iter().any(|project| project.id == id) => Ok(id),
            (Some(id), _) => Err(Failure::new(format!("account {account} has no project {id}"))
                .help("`casemate project list` shows them")),
            (None, [only]) => Ok(only.id.clone()),
            (None, []) => Err(Failure::new(format!("account {account} has no project"))
                .help("`casemate project create NAME` makes one")),
            (None, _) => {
                Err(Failure::new(format!("account {account} has several projects")).help("name one by --project"))
            }
        }
    }
}

fn describe_account(account: &Account) -> Value {
    json!({ "id": account.id, "name": account.name, "email": account.email, "created": account.created })
}

fn describe_project(project: &Project) -> Value {
    json!({
        "id": project.id, "name": project.name, "account": project.account, "region": project.region,
        "created": project.created,
    })
}

/// The form of days in tables.
pub(super) const DAY: &str = "%Y-%m-%d";
