//! The operator's commands: accounts, projects, keys, rights, engines, the store, the audit log. They work on the data directory
//! itself, on the machine of the service and as its user, beside a service that runs or not.

mod accounts;
mod audit;
mod billing;
mod credential;
mod doctor;
mod engines;
mod explain;
mod first_run;
mod iam;
mod key;
mod store;
mod user;

use std::{path::PathBuf, process::ExitCode};

use ::audit::{Actor, Audit, Entry};
use clap::{Args, Subcommand};
use db::Db;
use identity::Identity;

pub use doctor::{DoctorArgs, doctor};
pub use first_run::{FirstRunArgs, first_run};

use crate::{
    cli::Global,
    config::Config,
    failure::{Doing, Failure},
    privileges, serve, up,
};

/// Commands on the data directory.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Accounts of the service
    #[command(subcommand)]
    Account(accounts::AccountCommand),
    /// Projects of accounts
    #[command(subcommand)]
    Project(accounts::ProjectCommand),
    /// Users of accounts: people who log in
    #[command(subcommand)]
    User(user::UserCommand),
    /// All credentials that are good now
    #[command(subcommand)]
    Credential(credential::CredentialCommand),
    /// Keys of the API and of the object store
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Who may do what, and why
    #[command(subcommand)]
    Iam(iam::IamCommand),
    /// What jobs cost: prices, statements, corrections
    #[command(subcommand)]
    Billing(billing::BillingCommand),
    /// Engines that jobs run on
    #[command(subcommand)]
    Engine(engines::EngineCommand),
    /// What the object store keeps
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// The audit log: read it, check that it is whole, prove an entry
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// Which data directory a command works on.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Data directory; the configuration's when not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs one.
pub async fn run(command: OperatorCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        OperatorCommand::Account(command) => accounts::account(command, global).await?,
        OperatorCommand::Project(command) => accounts::project(command, global).await?,
        OperatorCommand::User(command) => user::user(command, global).await?,
        OperatorCommand::Credential(command) => credential::credential(command, global).await?,
        OperatorCommand::Key(command) => key::key(command, global).await?,
        OperatorCommand::Iam(command) => iam::iam(command, global).await?,
        OperatorCommand::Billing(command) => billing::billing(command, global).await?,
        OperatorCommand::Engine(command) => engines::engine(command, global).await?,
        OperatorCommand::Store(command) => store::store(command, global).await?,
        OperatorCommand::Audit(command) => return audit::audit(command, global).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's configuration: the file that is named, else that of the instance that runs over the data directory,
/// else the defaults.
fn config(global: &Global, args: &DataArgs) -> Result<Config, Failure> {
    let data = args.data.as_deref().map(up::absolute).transpose()?;
    let running = match &data {
        Some(data) => up::run_directory(data),
        None => Config::default().run,
    };
    let running = running.join(up::CONFIG_FILE);
    let file = global.config.clone().or_else(|| running.is_file().then_some(running));
    let mut config = Config::read(file.as_deref())?;
    if let Some(data) = data {
        config.data = data;
    }
    Ok(config)
}

/// Records that a command was given; its changes have entries of their own.
async fn record(db: &Db, global: &Global) -> Result<(), Failure> {
    let entry = Entry::new(Actor::operator(), "operator.command", format!("casemate {}", global.command));
    Audit::new(db.clone()).record(entry).await.doing("cannot record the command in the audit log")
}

/// What the commands on accounts work with.
struct Office {
    identity: Identity,
    db: Db,
    by: Actor,
    config: Config,
}

impl Office {
    /// Opens the data directory as its owner, for good, and records that the command was given.
    async fn open(global: &Global, args: &DataArgs) -> Result<Office, Failure> {
        let config = config(global, args)?;
        privileges::become_owner_of(&config.data)?;
        let office = Office::over(config).await?;
        record(&office.db, global).await?;
        Ok(office)
    }

    async fn over(config: Config) -> Result<Office, Failure> {
        let (db, _, _, identity) = serve::open_identity(&config).await?;
        Ok(Office { identity, db, by: Actor::operator(), config })
    }

    async fn close(self) -> Result<(), Failure> {
        self.identity.flush().await.doing("cannot write the last uses of credentials")?;
        self.db.close().await;
        Ok(())
    }

    /// The API as clients of this service reach it.
    fn endpoint(&self) -> String {
        format!("{}/1.0", self.config.api.public_urls(self.config.api.listen).swap_remove(0))
    }

    /// The object store as clients of this service reach it.
    fn s3_endpoint(&self) -> String {
        self.config.s3.public_urls(self.config.s3.listen).swap_remove(0)
    }
}
