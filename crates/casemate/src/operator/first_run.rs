//! The first start over a data directory: an account with its administrator, a project and keys, so that the first job can
//! be submitted.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use identity::{AccessRule, CredentialRequest, GroupRole, NewPerson};
use model::{AccountId, ProjectId};
use zeroize::Zeroizing;

use super::Office;
use crate::{
    cli::ClientFile,
    config::Config,
    failure::{Doing, Failure},
    privileges, up,
};

/// Arguments of `casemate first-run`.
#[derive(Debug, Args)]
pub struct FirstRunArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// End when the process with this id ends, which must be the parent
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
}

/// Makes them once. Later starts only bring the addresses in the client configuration up to date; where the operator
/// has removed that file, no new keys are made.
pub async fn first_run(args: FirstRunArgs) -> Result<(), Failure> {
    let config = Config::read(args.config.as_deref())?;
    privileges::become_owner_of(&config.data)?;
    if let Some(parent) = args.parent {
        privileges::end_with_parent(parent)?;
    }
    let file = config.data.join(up::FIRST_RUN_FILE);
    let office = Office::over(config).await?;
    let begun = file.with_extension("part");
    if file.exists() {
        office.renew(&file)?;
    } else if begun.exists() || office.identity.accounts().await.doing("cannot list the accounts")?.is_empty() {
        // Its place is taken before anything is made, so that a start that was cut short is made good by the next.
        write_private(&begun, "")?;
        let made = office.make_all().await?;
        let link = office.first_administrator().await?;
        write_whole(&file, &made)?;
        println!("administrator: open {} once, within 24 hours, and choose a password", link.as_str());
    }
    office.close().await
}

impl Office {
    async fn make_all(&self) -> Result<ClientFile, Failure> {
        let account = self.first_account().await?;
        let project = self.first_project(&account).await?;
        let request = CredentialRequest { rules: AccessRule::everything(), ..CredentialRequest::default() };
        let (_, profile) = self.make_key(&account, &project, NAME, &request, None).await?;
        let s3 = self.make_s3_key(&project, NAME).await?;
        Ok(ClientFile { profile: BTreeMap::from([("default".to_owned(), profile)]), s3: Some(s3) })
    }

    async fn first_account(&self) -> Result<AccountId, Failure> {
        let what = "cannot make the first account";
        if let Some(account) = self.identity.accounts().await.doing(what)?.into_iter().next() {
            return Ok(account.id);
        }
        let id: AccountId = ACCOUNT.parse().doing(what)?;
        self.identity.create_account(&id, "", "First account", &self.by).await.doing(what)?;
        Ok(id)
    }

    async fn first_project(&self, account: &AccountId) -> Result<ProjectId, Failure> {
        let what = "cannot make the first project";
        if let Some(project) = self.identity.projects(Some(account)).await.doing(what)?.into_iter().next() {
            return Ok(project.id);
        }
        let region = self.region(None)?;
        Ok(self.identity.create_project_in(account, "First project", Some(&region), &self.by).await.doing(what)?.id)
    }

    /// The first user, who may do all in the first account, with the link by which it sets its password.
    async fn first_administrator(&self) -> Result<Zeroizing<String>, Failure> {
        let what = "cannot make the first administrator";
        let account = self.first_account().await?;
        if self.identity.person(&account, ADMINISTRATOR).await.doing(what)?.is_none() {
            let new = NewPerson {
                login: ADMINISTRATOR.to_owned(),
                description: "First administrator".to_owned(),
                group: GroupRole::Admin.as_str().to_owned(),
                ..NewPerson::default()
            };
            self.identity.create_person(&account, new, &self.by).await.doing(what)?;
        }
        Ok(self.setup_link(&account, ADMINISTRATOR).await?.0)
    }

    /// The ports may be others than at the last start.
    fn renew(&self, file: &Path) -> Result<(), Failure> {
        let text = fs::read_to_string(file).doing(format!("cannot read {}", file.display()))?;
        let Ok(mut client) = toml::from_str::<ClientFile>(&text) else { return Ok(()) };
        let mut changed = false;
        let mut set = |place: &mut String, value: String| {
            changed |= *place != value;
            *place = value;
        };
        if let Some(profile) = client.profile.get_mut("default") {
            set(&mut profile.endpoint, self.endpoint());
        }
        if let Some(s3) = &mut client.s3 {
            set(&mut s3.endpoint, self.s3_endpoint());
        }
        if changed { write_whole(file, &client) } else { Ok(()) }
    }
}

/// The file appears whole or not at all.
fn write_whole(file: &Path, client: &ClientFile) -> Result<(), Failure> {
    let text = toml::to_string(client).doing("cannot write the client configuration")?;
    let part = file.with_extension("part");
    write_private(&part, &format!("{HEAD}{text}"))?;
    fs::rename(&part, file).doing(format!("cannot write {}", file.display()))
}

fn write_private(file: &Path, text: &str) -> Result<(), Failure> {
    let what = format!("cannot write {}", file.display());
    match fs::remove_file(file) {
        Ok(()) => {}
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        Err(cause) => return Err(Failure::new(what).cause(cause)),
    }
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).doing(&what)?;
    opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all()).doing(&what)
}

const ACCOUNT: &str = "first-casemate";
const ADMINISTRATOR: &str = "admin";
const NAME: &str = "first keys";
const HEAD: &str = "\
# Client configuration of Casemate, made at the first start. Keep it secret.
# CASEMATE_CONFIG names it to `casemate job`, `schedule`, `bucket` and `object`; `casemate key` makes and revokes keys.
";
