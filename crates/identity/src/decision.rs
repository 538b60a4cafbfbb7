//! Who calls, and whether they may. Default deny.

use std::{net::IpAddr, sync::Arc};

use audit::Actor;
use jiff::Timestamp;
use model::{AccountId, ProjectId};

use crate::{
    AccessRule, Contacts, Error, Facts, GroupRole, Iam, Identity, Method, Part, Project, Question, Urn, UrnKind,
    Verdict, client_urn, group_urn,
    people::person_identity,
    service_accounts::{client_identity, token_id},
    sessions::federated_identity,
    user_urn,
};

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account that they act for.
    pub account: AccountId,
    /// As whom.
    pub who: Who,
    /// By what they proved it.
    pub proof: Proof,
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

    /// Whether they may do all that the account may.
    pub fn is_admin(&self) -> bool {
        match &self.who {
            Who::Account => true,
            Who::User { role, .. } | Who::Federated { role, .. } => *role == GroupRole::Admin,
            Who::Client { .. } => false,
        }
    }

    /// The URNs that policies name them by: their own first, then those of their groups. For one that a provider vouches
    /// for, those of its groups alone: what a provider calls a person may be the login of a user here, and is not that user.
    pub fn identities(&self) -> Vec<String> {
        let account = &self.account;
        match &self.who {
            Who::Account => vec![Urn::account_identity(account).to_string()],
            Who::User { login, group, .. } => vec![user_urn(account, login), group_urn(account, group)],
            Who::Client { id } => vec![client_urn(account, id)],
            Who::Federated { groups, .. } => groups.iter().map(|group| group_urn(account, group)).collect(),
        }
    }

    /// The caller as the audit log names it: the account itself by its credential.
    pub fn actor(&self) -> Actor {
        Actor {
            account: Some(self.account.clone()),
            identity: match &self.who {
                Who::User { login, .. } => person_identity(login),
                Who::Client { id } => client_identity(id),
                Who::Federated { name, .. } => federated_identity(name),
                Who::Account => self.proof.to_string(),
            },
            source_ip: self.source_ip,
            request_id: None,
        }
    }
}

/// As whom somebody calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The account itself.
    Account,
    /// A user of the account.
    User {
        /// Its number.
        id: i64,
        /// Its name.
        login: String,
        /// Its group.
        group: String,
        /// What the group says that it may do.
        role: GroupRole,
    },
    /// A service account.
    Client {
        /// Its id.
        id: String,
    },
    /// A person that the account's provider of single sign-on vouches for.
    Federated {
        /// What the provider calls it.
        name: String,
        /// Its groups, which are groups of the account; never empty.
        groups: Vec<String>,
        /// The strongest role of its groups.
        role: GroupRole,
    },
}

/// By what somebody proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The signature of an application with a consumer key.
    ConsumerKey {
        /// The number of the consumer credential.
        credential: i64,
        /// The number of the application that it was granted to.
        application: i64,
    },
    /// An access token.
    Token {
        /// SHA-256 of it.
        hash: Vec<u8>,
    },
    /// A session of the console.
    Session {
        /// Its number.
        id: i64,
    },
}

/// What an action is done on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// An account.
    Account(AccountId),
    /// A project and all that is in it.
    Project(ProjectId),
}

impl Resource {
    /// The resource of a URN; `None` for a type that this service has not.
    pub fn from_urn(urn: &Urn) -> Option<Resource> {
        match (urn.kind(), urn.subtype()) {
            (UrnKind::Resource, "account") => urn.id().parse().ok().map(Resource::Account),
            (UrnKind::Resource, "publicCloudProject") => urn.id().parse().ok().map(Resource::Project),
            _ => None,
        }
    }
}

impl std::fmt::Display for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Proof::ConsumerKey { credential, .. } => write!(f, "credential/{credential}"),
            Proof::Token { hash } => write!(f, "token/{}", token_id(hash)),
            Proof::Session { id } => write!(f, "session/{id}"),
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Resource::Account(id) => write!(f, "{}", Urn::account(id)),
            Resource::Project(id) => write!(f, "{}", Urn::project(id)),
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
    /// The project, where it was one and it is there.
    pub project: Option<Project>,
    /// What decided, for the audit log.
    pub reason: String,
}

impl Decision {
    /// The decision as an audit entry has it.
    pub fn recorded(&self) -> audit::Decision {
        if self.allowed { audit::Decision::Allowed } else { audit::Decision::Refused }
    }
}

/// For whom a decision is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The account that they belong to.
    pub account: AccountId,
    /// The URNs that policies name them by.
    pub identities: Vec<String>,
    /// Whether they may do all that their account may.
    pub is_admin: bool,
    /// From where they call.
    pub source_ip: Option<IpAddr>,
}

/// Whether somebody of these identities can be known to the object store alone.
pub(crate) fn is_of_store(identities: &[String]) -> bool {
    identities.first().and_then(|first| Urn::parse(first).ok()).is_some_and(|urn| is_of_store_urn(&urn))
}

fn is_of_store_urn(urn: &Urn) -> bool {
    urn.kind() == UrnKind::Identity && urn.subtype().starts_with("publicCloud")
}

/// Why such a one may nothing by the API, whatever a policy for all says.
pub(crate) const ONLY_OF_STORE: &str = "users of projects, jobs and projects themselves are known to the object store; the \
                                        API knows accounts, their users, groups and service accounts";

impl Identity {
    /// Decides whether `caller` may do `action` on `resource`, at the time `at`; the caller records the decision with the
    /// call that it is about. As [`Identity::decide_for`].
    pub async fn authorize(
        &self,
        caller: &Caller,
        action: &str,
        resource: Resource,
        at: Timestamp,
    ) -> Result<Decision, Error> {
        let subject = Subject {
            account: caller.account.clone(),
            identities: caller.identities(),
            is_admin: caller.is_admin(),
            source_ip: caller.source_ip,
        };
        self.decide_for(&subject, action, resource, at).await
    }

    /// Decides whether somebody may do `action` on `resource`, at the time `at`. What no rule allows is denied.
    ///
    /// - An account may do everything on itself, and on a project what is the part of the contacts that it is.
    /// - Its users and service accounts may of that what its policies allow.
    /// - Everybody, other accounts too, may what the policies of the resource's account allow: of a project, those of its
    ///   administrative contact. What one of the two denies, the other does not allow.
    pub async fn decide_for(
        &self,
        subject: &Subject,
        action: &str,
        resource: Resource,
        at: Timestamp,
    ) -> Result<Decision, Error> {
        let found = match &resource {
            Resource::Account(_) => None,
            Resource::Project(id) => db::contacts::project(&self.db, id).await?,
        };
        let (project, contacts) = found.map_or((None, None), |(project, contacts)| (Some(project), contacts));
        let (allowed, reason) = match &resource {
            _ if is_of_store(&subject.identities) => (false, ONLY_OF_STORE.to_owned()),
            Resource::Account(id) if *id == subject.account && subject.is_admin => {
                (true, "the account's own account".to_owned())
            }
            Resource::Account(id) => told(&self.told_by(id, subject, action, &resource, at).await?),
            Resource::Project(_) => match contacts.map(Contacts::from) {
                None => (false, "no such project".to_owned()),
                Some(contacts) => {
                    let kind = contacts.kind_for(&subject.account, Part::of_action(action));
                    match kind {
                        Some(kind) if subject.is_admin => (true, format!("the account is {}", kind.as_str())),
                        Some(_) if subject.account != contacts.admin => {
                            let of_project = self.told_by(&contacts.admin, subject, action, &resource, at).await?;
                            let own = self.told_by(&subject.account, subject, action, &resource, at).await?;
                            let own_decides = own.is_denied() || own.allowed && !of_project.is_denied();
                            told(if own_decides { &own } else { &of_project })
                        }
                        _ => told(&self.told_by(&contacts.admin, subject, action, &resource, at).await?),
                    }
                }
            },
        };
        Ok(Decision { allowed, action: action.to_owned(), resource, project, reason })
    }

    /// What the policies of an account say. A question that needs much of Cedar is judged apart, few at once, so that
    /// no other call waits for it.
    pub(crate) async fn verdict(&self, iam: Arc<Iam>, question: &Question<'_>) -> Result<Arc<Verdict>, Error> {
        let prepared = iam.prepare(question);
        if !prepared.is_large() {
            return Ok(iam.judge(&prepared, question)?);
        }
        if let Some(known) = prepared.verdict(&question.facts) {
            return Ok(known);
        }
        let identities: Vec<String> = question.identities.iter().map(|identity| (*identity).to_owned()).collect();
        let (action, resource, facts) = (question.action.to_owned(), question.resource.to_owned(), question.facts);
        let permit = Arc::clone(&self.large_decisions).acquire_owned().await;
        let judged = tokio::task::spawn_blocking(move || {
            // Held to the end, even if nobody waits for it any more.
            let _permit = permit;
            let identities: Vec<&str> = identities.iter().map(String::as_str).collect();
            iam.judge(&prepared, &Question { identities: &identities, action: &action, resource: &resource, facts })
        });
        let judged = judged.await.map_err(|_| Error::Damaged { what: "policies of an account" })?;
        Ok(judged?)
    }

    /// What the policies of an account say of a subject.
    async fn told_by(
        &self,
        owner: &AccountId,
        subject: &Subject,
        action: &str,
        resource: &Resource,
        at: Timestamp,
    ) -> Result<Arc<Verdict>, Error> {
        let identities: Vec<&str> = subject.identities.iter().map(String::as_str).collect();
        let urn = resource.to_string();
        let facts = Facts { at, source_ip: subject.source_ip };
        let iam = self.iam(owner).await?;
        self.verdict(iam, &Question { identities: &identities, action, resource: &urn, facts }).await
    }

    /// Somebody named by a URN, calling from `source_ip`; `None` for a URN that names nobody. Only of `asking`, whose users are
    /// known to it, are users looked up; of another account a URN is taken as it is.
    pub async fn subject(
        &self,
        asking: &AccountId,
        urn: &Urn,
        source_ip: Option<IpAddr>,
    ) -> Result<Option<Subject>, Error> {
        if urn.kind() != UrnKind::Identity {
            return Ok(None);
        }
        if is_of_store_urn(urn) {
            let Some(grant) = self.grant_of_urn(urn).await? else { return Ok(None) };
            let admin = self.contacts(&grant.project).await?.map(|contacts| contacts.admin);
            let account = admin.filter(|admin| admin == asking);
            let identities = vec![urn.to_string()];
            return Ok(account.map(|account| Subject { account, identities, is_admin: false, source_ip }));
        }
        let (account, name) = urn.id().split_once('/').unwrap_or((urn.id(), ""));
        let Ok(account) = account.parse::<AccountId>() else { return Ok(None) };
        let mut subject =
            Subject { account, identities: vec![urn.to_string()], is_admin: urn.subtype() == "account", source_ip };
        if subject.account != *asking {
            return Ok(Some(subject));
        }
        let known = match urn.subtype() {
            "account" => name.is_empty(),
            "user" => {
                let people = self.people(Some(asking)).await?;
                let person = people.into_iter().find(|person| user_urn(asking, &person.login) == urn.as_str());
                match person {
                    None => false,
                    Some(person) => {
                        let group = self.group(asking, &person.group).await?;
                        let group = group.ok_or(Error::Damaged { what: "group of a user" })?;
                        subject.is_admin = group.role == GroupRole::Admin.as_str();
                        subject.identities.push(group_urn(asking, &group.name));
                        true
                    }
                }
            }
            "group" => {
                let groups = self.groups(asking).await?;
                let group = groups.iter().find(|group| group_urn(asking, &group.name) == urn.as_str());
                subject.is_admin = group.is_some_and(|group| group.role == GroupRole::Admin.as_str());
                group.is_some()
            }
            "credential" => {
                let clients = self.clients(Some(asking)).await?;
                clients.iter().any(|client| client_urn(asking, &client.id) == urn.as_str())
            }
            _ => false,
        };
        Ok(known.then_some(subject))
    }
}

fn told(verdict: &Arc<Verdict>) -> (bool, String) {
    (verdict.allowed, verdict.reason())
}
