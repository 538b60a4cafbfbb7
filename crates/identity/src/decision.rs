//! Who calls, and whether they may. Default deny.

use std::net::IpAddr;

use audit::Actor;
use jiff::Timestamp;
use model::{AccountId, ProjectId};

use crate::{AccessRule, Error, Identity, Method};

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account that they act for.
    pub account: AccountId,
    /// The consumer credential that they used.
    pub credential: i64,
    /// The application that it was granted to.
    pub application: i64,
    /// What it may call.
    pub rules: Vec<AccessRule>,
    /// When it ends.
    pub expiration: Option<Timestamp>,
    /// From where they call.
    pub source_ip: Option<IpAddr>,
}

impl Caller {
    /// Whether the credential's rules grant this call; `path` is the one after the version, as it came on the wire.
    pub fn may_call(&self, method: Method, path: &str) -> bool {
        self.rules.iter().any(|rule| rule.grants(method, path))
    }

    /// The caller as the audit log names it.
    pub fn actor(&self) -> Actor {
        Actor {
            account: Some(self.account.clone()),
            identity: format!("credential/{}", self.credential),
            source_ip: self.source_ip,
            request_id: None,
        }
    }
}

/// What an action is done on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// An account.
    Account(AccountId),
    /// A project and all that is in it.
    Project(ProjectId),
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Resource::Account(id) => write!(f, "urn:v1:eu:resource:account:{id}"),
            Resource::Project(id) => write!(f, "urn:v1:eu:resource:publicCloudProject:{id}"),
        }
    }
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the caller may.
    pub allowed: bool,
    /// The action that was asked for.
    pub action: String,
    /// What it was to be done on.
    pub resource: Resource,
    /// Which rule decided, for the audit log.
    pub reason: &'static str,
}

impl Decision {
    /// The decision as an audit entry has it.
    pub fn recorded(&self) -> audit::Decision {
        if self.allowed { audit::Decision::Allowed } else { audit::Decision::Refused }
    }
}

impl Identity {
    /// Decides whether `caller` may do `action` on `resource`. What no rule allows is denied; the caller records
    /// the decision with the call that it is about.
    pub async fn authorize(&self, caller: &Caller, action: &str, resource: Resource) -> Result<Decision, Error> {
        let (allowed, reason) = match &resource {
            Resource::Account(id) if *id == caller.account => (true, "the caller's own account"),
            Resource::Account(_) => (false, "another account"),
            Resource::Project(id) => match self.project(id).await? {
                Some(project) if project.account == caller.account => (true, "a project of the caller's account"),
                Some(_) => (false, "a project of another account"),
                None => (false, "no such project"),
            },
        };
        Ok(Decision { allowed, action: action.to_owned(), resource, reason })
    }
}
