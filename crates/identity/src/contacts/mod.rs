//! Contacts of projects: three accounts, each of which may do only its part. A new project has its owner in all three.

mod change;

pub use change::{ChangeState, ContactChange, NewContacts};

use model::{AccountId, ProjectId};

use crate::{Error, Identity, Project};

/// What kind of contact an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContactKind {
    /// Does everything.
    Admin,
    /// Sees and pays bills.
    Billing,
    /// Operates.
    Tech,
}

impl ContactKind {
    /// All of them.
    pub const ALL: [ContactKind; 3] = [ContactKind::Admin, ContactKind::Billing, ContactKind::Tech];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ContactKind::Admin => "contactAdmin",
            ContactKind::Billing => "contactBilling",
            ContactKind::Tech => "contactTech",
        }
    }

    /// Whether this contact may do that part.
    pub fn may(self, part: Part) -> bool {
        match part {
            Part::Presence => true,
            Part::Operation => matches!(self, ContactKind::Admin | ContactKind::Tech),
            Part::Billing => matches!(self, ContactKind::Admin | ContactKind::Billing),
            Part::Administration => self == ContactKind::Admin,
        }
    }
}

/// Which part of a project an action belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// That it is there: its name, its regions, its contacts.
    Presence,
    /// What runs and is stored in it.
    Operation,
    /// What it costs.
    Billing,
    /// Its contacts, its end, and all that is none of the others.
    Administration,
}

impl Part {
    /// The part that an action on a project belongs to. One of a family that is not listed here is for the administrative
    /// contact alone, so that a new one is given to nobody by mistake.
    pub fn of_action(action: &str) -> Part {
        let Some(name) = action.strip_prefix("publicCloudProject:apiovh:") else { return Part::Administration };
        let mut words = name.split('/');
        match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
            ("get", "") | ("region" | "serviceInfos", "get") => Part::Presence,
            ("usage" | "bill", _) | ("dataProcessing", "statements" | "credits" | "prices") => Part::Billing,
            ("dataProcessing" | "region" | "storage" | "user" | "role", _) => Part::Operation,
            _ => Part::Administration,
        }
    }
}

/// The contacts of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contacts {
    /// Who does everything.
    pub admin: AccountId,
    /// Who operates it.
    pub tech: AccountId,
    /// Who sees and pays its bills.
    pub billing: AccountId,
}

impl Contacts {
    /// The contact of that kind.
    pub fn of(&self, kind: ContactKind) -> &AccountId {
        match kind {
            ContactKind::Admin => &self.admin,
            ContactKind::Billing => &self.billing,
            ContactKind::Tech => &self.tech,
        }
    }

    /// As what an account may do that part, as the administrative contact first; `None`: as nothing.
    pub fn kind_for(&self, account: &AccountId, part: Part) -> Option<ContactKind> {
        ContactKind::ALL.into_iter().find(|kind| self.of(*kind) == account && kind.may(part))
    }

    /// Whether an account is any of them.
    pub fn has(&self, account: &AccountId) -> bool {
        ContactKind::ALL.into_iter().any(|kind| self.of(kind) == account)
    }
}

impl From<db::contacts::Contacts> for Contacts {
    fn from(row: db::contacts::Contacts) -> Contacts {
        Contacts { admin: row.admin, tech: row.tech, billing: row.billing }
    }
}

impl Identity {
    /// The contacts of a project.
    pub async fn contacts(&self, project: &ProjectId) -> Result<Option<Contacts>, Error> {
        Ok(db::contacts::find(&self.db, project).await?.map(Contacts::from))
    }

    /// The projects of which an account is a contact of one of these kinds, oldest first.
    pub async fn projects_of_contact(&self, account: &AccountId, kinds: &[ContactKind]) -> Result<Vec<Project>, Error> {
        let mut projects = Vec::new();
        for (id, contacts) in db::contacts::projects_of(&self.db, account).await? {
            let contacts = Contacts::from(contacts);
            if kinds.iter().any(|kind| contacts.of(*kind) == account) {
                projects.extend(self.project(&id).await?);
            }
        }
        Ok(projects)
    }
}
