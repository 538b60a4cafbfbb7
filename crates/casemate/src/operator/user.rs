//! `casemate user`: users of accounts. Passwords are nothing for the operator: a user sets its own, by a link.

use clap::Subcommand;
use identity::{GroupRole, NewPerson, Person, PersonStatus};
use jiff::Timestamp;
use model::AccountId;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{DataArgs, Office, accounts::DAY};
use crate::{
    cli::{Global, output},
    failure::{Doing, Failure},
};

/// Verbs of users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user, and print the link by which it sets its password
    Create {
        /// Its login: 1 to 64 letters, digits and '.', '_', '-', '@', '+'
        #[arg(value_name = "LOGIN")]
        login: String,
        /// Whose user; need not be named where there is one account
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        /// Its group: ADMIN may do all that the account may
        #[arg(long, value_name = "GROUP", default_value = GroupRole::Admin.as_str())]
        group: String,
        /// E-mail address
        #[arg(long, value_name = "ADDRESS", default_value = "")]
        email: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the users
    #[command(visible_alias = "ls")]
    List {
        /// Of this account only
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Print a link by which a user sets another password: for one that has none, or lost it
    SetupLink {
        /// Its login
        #[arg(value_name = "LOGIN")]
        login: String,
        /// Whose user; need not be named where there is one account
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Take one-time codes, backup codes and security keys from a user that lost them, and end its sessions
    ResetSecondFactor {
        /// Its login
        #[arg(value_name = "LOGIN")]
        login: String,
        /// Whose user; need not be named where there is one account
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Runs one.
pub async fn user(command: UserCommand, global: &Global) -> Result<(), Failure> {
    match command {
        UserCommand::Create { login, account, group, email, data } => {
            let office = Office::open(global, &data).await?;
            let account = office.account(account).await?;
            let new = NewPerson { login, email, group, ..NewPerson::default() };
            let what = format!("cannot create user {}", new.login);
            let made = office.identity.create_person(&account, new, &office.by).await.doing(what)?;
            office.print_link(&account, &made.login, global).await?;
            office.close().await
        }
        UserCommand::SetupLink { login, account, data } => {
            let office = Office::open(global, &data).await?;
            let account = office.account(account).await?;
            office.print_link(&account, &login, global).await?;
            office.close().await
        }
        UserCommand::ResetSecondFactor { login, account, data } => {
            let office = Office::open(global, &data).await?;
            let account = office.account(account).await?;
            let made = office.identity.reset_second_factors(&account, &login, &office.by).await;
            made.doing(format!("cannot change user {login}"))?;
            output::print(global.output, &json!({ "account": account, "login": login }), || {
                format!("{account}/{login} has no second factor")
            })?;
            office.close().await
        }
        UserCommand::List { account, data } => {
            let office = Office::open(global, &data).await?;
            let account = office.named_account(account).await?;
            let people = office.identity.people(account.as_ref()).await.doing("cannot list the users")?;
            output::print(global.output, &Value::Array(people.iter().map(describe).collect()), || {
                let row = |person: &Person| {
                    let status = PersonStatus::of(person).as_str().to_owned();
                    let created = person.created.strftime(DAY).to_string();
                    let account = person.account.to_string();
                    vec![account, person.login.clone(), person.group.clone(), status, person.email.clone(), created]
                };
                let rows: Vec<Vec<String>> = people.iter().map(row).collect();
                output::table(&["account", "login", "group", "status", "email", "created"], &rows)
            })?;
            office.close().await
        }
    }
}

impl Office {
    /// A new set-up link of a user, and until when it is good.
    pub(super) async fn setup_link(
        &self,
        account: &AccountId,
        login: &str,
    ) -> Result<(Zeroizing<String>, Timestamp), Failure> {
        let made = self.identity.create_setup(account, login, &self.by).await;
        let made = made.doing(format!("cannot make a link for user {login}"))?;
        Ok((Zeroizing::new(format!("{}/auth/setup/{}", self.endpoint(), *made.token)), made.expires))
    }

    async fn print_link(&self, account: &AccountId, login: &str, global: &Global) -> Result<(), Failure> {
        let (link, expires) = self.setup_link(account, login).await?;
        let shown = json!({ "account": account, "login": login, "link": *link, "expires": expires });
        output::print(global.output, &shown, || {
            format!("{account}/{login} sets a password at this address, once, until {expires:.0}:\n{}", *link)
        })
    }
}

fn describe(person: &Person) -> Value {
    json!({
        "account": person.account,
        "login": person.login,
        "group": person.group,
        "status": PersonStatus::of(person).as_str(),
        "email": person.email,
        "description": person.description,
        "created": person.created,
    })
}
