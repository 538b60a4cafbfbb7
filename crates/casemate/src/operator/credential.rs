//! `casemate credential`: all that is good now, and the end of any of it.

use clap::Subcommand;
use identity::Live;
use jiff::Timestamp;
use model::AccountId;
use serde_json::{Value, json};

use super::{DataArgs, Office, accounts::DAY};
use crate::{
    cli::{Global, output},
    failure::{Doing, Failure},
};

/// Verbs of credentials.
#[derive(Debug, Subcommand)]
pub enum CredentialCommand {
    /// List all that is good now: consumer keys, service accounts, access keys, tokens, set-up links, sessions
    #[command(visible_alias = "ls")]
    List {
        /// Of this account only
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountId>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// End one at once, with all that was made by it
    Revoke {
        /// As it is listed, such as key:12 or client:0123456789abcdef
        #[arg(value_name = "CREDENTIAL")]
        credential: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Runs one.
pub async fn credential(command: CredentialCommand, global: &Global) -> Result<(), Failure> {
    match command {
        CredentialCommand::List { account, data } => {
            let office = Office::open(global, &data).await?;
            let live = office.identity.live_credentials(account.as_ref()).await.doing("cannot list the credentials")?;
            output::print(global.output, &Value::Array(live.iter().map(describe).collect()), || {
                let rows: Vec<Vec<String>> = live.iter().map(row).collect();
                output::table(&["credential", "account", "of", "name", "created", "ends", "last use"], &rows)
            })?;
            office.close().await
        }
        CredentialCommand::Revoke { credential, data } => {
            let (kind, id) = credential.split_once(':').ok_or_else(|| {
                Failure::new(format!("'{credential}' is not a credential"))
                    .help("`casemate credential list` shows them")
            })?;
            let office = Office::open(global, &data).await?;
            office
                .identity
                .revoke(kind, id, &office.by)
                .await
                .doing(format!("cannot end {credential}"))
                .map_err(|failure| failure.help("`casemate credential list` shows what is good now"))?;
            output::print(global.output, &json!({ "credential": credential }), || {
                format!("{credential} is no longer valid")
            })?;
            office.close().await
        }
    }
}

fn row(live: &Live) -> Vec<String> {
    let day = |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| time.strftime(DAY).to_string());
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut row = vec![name(live), live.account.to_string(), text(&live.holder), text(&live.name)];
    row.extend([Some(live.created), live.expires, live.last_use].map(day));
    row
}

fn describe(live: &Live) -> Value {
    json!({
        "credential": name(live),
        "account": live.account,
        "of": live.holder,
        "name": live.name,
        "created": live.created,
        "expires": live.expires,
        "lastUse": live.last_use,
    })
}

fn name(live: &Live) -> String {
    format!("{}:{}", live.kind, live.id)
}
