//! Why a call is allowed or not: one that could be made, or one that was.

use audit::{Query, Row};
use model::AccountId;
use serde_json::Value;

use crate::{
    BucketRules, ContactKind, Contacts, Error, Explanation, Facts, Group, GroupRole, Identity, Part, Question,
    Resource, Urn, UrnKind,
    decision::{ONLY_OF_STORE, is_of_store},
    group_urn,
};

/// A call to explain.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The URNs of who calls: its own, then those of its groups.
    pub identities: Vec<String>,
    /// The action.
    pub action: String,
    /// The URN of the resource.
    pub resource: String,
    /// When, and from where.
    pub facts: Facts,
    /// What the audit log says of it, of a call that was made.
    pub recorded: Option<Recorded>,
}

/// What the audit log says of a call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// `allowed` or `refused`.
    pub decision: String,
    /// What decided.
    pub reason: Option<String>,
}

/// Why a call cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum Unexplained {
    /// There is no such call.
    #[error("the audit log has no decision of a request {id}")]
    NoRequest {
        /// As it was given.
        id: String,
    },
    /// It was refused because of its credential.
    #[error("request {id} was refused before it was known who called: {why}")]
    NotKnown {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// It was refused, or let through, without a decision on a resource.
    #[error("request {id} was answered before policies were asked: {why}")]
    NotAsked {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// It was one to the object store, which is recorded in other words.
    #[error("request {id} was one to the object store; what decided: {why}")]
    OfStore {
        /// Which.
        id: String,
        /// What decided.
        why: String,
    },
    /// There is nobody of whom the URN alone says what policies it has in the object store.
    #[error("{urn} is not the URN of a user of a project or of a project; a job is explained by its access key")]
    NotKnownByUrn {
        /// As it was given.
        urn: String,
    },
    /// There is no such resource.
    #[error("there is no resource {urn}")]
    NoResource {
        /// As it was given.
        urn: String,
    },
    /// A URN that is not one of that kind.
    #[error("{given} is not the URN of {kind}")]
    NotUrn {
        /// As it was given.
        given: String,
        /// `an identity` or `a resource`.
        kind: &'static str,
    },
    /// The service failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Identity {
    /// A call that could be made, for the account `to`; `None` is the operator. The group of a user is added where no groups
    /// are given and the user is one of `to`: a URN of another account is taken as it is.
    pub async fn asked(
        &self,
        identity: &str,
        groups: &[String],
        action: &str,
        resource: &str,
        facts: Facts,
        to: Option<&AccountId>,
    ) -> Result<Asked, Unexplained> {
        let mut identities = vec![identity_urn(identity)?];
        for group in groups {
            identities.push(identity_urn(group)?);
        }
        if groups.is_empty()
            && let Some(group) = self.group_of_urn(&identities[0], to).await?
        {
            identities.push(group_urn(&group.account, &group.name));
        }
        let (action, resource) = (action.to_owned(), resource.to_owned());
        Ok(Asked { identities, action, resource, facts, recorded: None })
    }

    /// The call of that request id, as the audit log has it, for the account `to`; `None` is the operator. Of a call that
    /// cannot be explained only the account is told that made it, and of one on the object store the project's
    /// administrative contact: to all others there is none.
    pub async fn asked_by_request(&self, id: &str, to: Option<&AccountId>) -> Result<Asked, Unexplained> {
        let cut: String = id.chars().take(80).collect();
        let query = Query { request_id: Some(id.to_owned()), limit: 1000, ..Query::default() };
        let rows = self.audit.list(&query).await.map_err(Error::from)?;
        let Some(row) = rows.iter().find(|row| row.decision != "none") else {
            return Err(Unexplained::NoRequest { id: cut });
        };
        let detail: Value = serde_json::from_str(&row.detail).unwrap_or_default();
        let why = |name: &str, otherwise: &str| detail[name].as_str().unwrap_or(otherwise).to_owned();
        if ["s3:", "swift:", "sts:"].iter().any(|service| row.action.starts_with(service)) {
            let project = row.resource.strip_prefix("project/").and_then(|rest| rest.split('/').next()?.parse().ok());
            let contacts = match project {
                Some(project) => self.contacts(&project).await?,
                None => None,
            };
            let hears = |to: &AccountId| contacts.is_some_and(|contacts| contacts.admin == *to);
            return Err(match to.is_none_or(hears) {
                true => Unexplained::OfStore { id: cut, why: why("reason", "no policy was asked") },
                false => Unexplained::NoRequest { id: cut },
            });
        }
        let is_theirs = to.is_none_or(|to| row.account.as_deref() == Some(to.as_str()));
        let identities = detail["identities"].as_array().into_iter().flatten();
        let identities: Vec<String> = identities.filter_map(Value::as_str).map(str::to_owned).collect();
        if (identities.is_empty() || Urn::parse(&row.resource).is_err()) && !is_theirs {
            return Err(Unexplained::NoRequest { id: cut });
        }
        if identities.is_empty() {
            return Err(Unexplained::NotKnown { id: cut, why: why("class", "its credential was not valid") });
        }
        if Urn::parse(&row.resource).is_err() {
            let why = why("reason", "no decision on a resource was asked for");
            return Err(Unexplained::NotAsked { id: cut, why });
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

    /// The account whose policies decide about a resource.
    pub async fn owner_of(&self, resource: &str) -> Result<AccountId, Unexplained> {
        let cut = || resource.chars().take(512).collect::<String>();
        let urn = Urn::parse(resource).map_err(|_| Unexplained::NotUrn { given: cut(), kind: "a resource" })?;
        let owner = match Resource::from_urn(&urn) {
            Some(Resource::Account(id)) => self.account(&id).await?.map(|_| id),
            Some(Resource::Project(id)) => self.contacts(&id).await?.map(|contacts| contacts.admin),
            None => match urn.as_storage() {
                Some(place) => self.contacts(&place.project).await?.map(|contacts| contacts.admin),
                None => None,
            },
        };
        owner.ok_or_else(|| Unexplained::NoResource { urn: cut() })
    }

    /// Whether an account may hear why a call is allowed or not: the one that the resource belongs to, and, about its own
    /// people, each contact of a project.
    pub async fn may_hear(&self, account: &AccountId, asked: &Asked) -> Result<bool, Unexplained> {
        if self.owner_of(&asked.resource).await? == *account {
            return Ok(true);
        }
        let contacts = self.contacts_asked_for(asked).await?;
        Ok(contacts.is_some_and(|contacts| contacts.has(account)) && account_of(asked).as_ref() == Some(account))
    }

    /// Explains by contacts and groups as they are now, and by policies as they were at that time, in the way of
    /// [`Identity::decide_for`]. Of the policies that decide, those of another account than `to` are not told, nor which of
    /// its users are in a group of the role `ADMIN`; `None` is the operator, who hears of all. `bucket`: what the bucket
    /// adds, where the resource is in the object store.
    pub async fn explain(
        &self,
        asked: &Asked,
        to: Option<&AccountId>,
        bucket: &BucketRules,
    ) -> Result<Explanation, Unexplained> {
        let owner = self.owner_of(&asked.resource).await?;
        if let Some(place) = Urn::parse(&asked.resource).ok().and_then(|urn| urn.as_storage()) {
            let told = self.explain_storage(asked, &owner, &place, bucket).await?;
            return Ok(told_to(to, &owner, told));
        }
        if is_of_store(&asked.identities) {
            return Ok(Explanation::unreachable(ONLY_OF_STORE.to_owned()));
        }
        let (account, contacts) = (account_of(asked), self.contacts_asked_for(asked).await?);
        let kind = account.as_ref().and_then(|account| match &contacts {
            Some(contacts) => contacts.kind_for(account, Part::of_action(&asked.action)),
            None => (*account == owner).then_some(ContactKind::Admin),
        });
        if let (Some(account), Some(kind)) = (&account, kind) {
            let what = match &contacts {
                Some(_) => format!("the account is {}, whose part the action is", kind.as_str()),
                None => "an account may do everything on what is its own".to_owned(),
            };
            if asked.identities.first().is_some_and(|first| *first == Urn::account_identity(account).to_string()) {
                return Ok(Explanation::unbounded(&what));
            }
            for identity in &asked.identities {
                if let Some(group) = self.group_of_urn(identity, to).await?
                    && group.account == *account
                    && group.role == GroupRole::Admin.as_str()
                {
                    return Ok(Explanation::unbounded(&format!(
                        "a user in a group of the role ADMIN may do all that its account may, and {what}"
                    )));
                }
            }
        }
        let untold = account.clone().filter(|account| kind.is_some() && to.is_some_and(|to| to != account));
        let of_project = self.explained_by(&owner, asked).await?;
        let contact = account.filter(|account| kind.is_some() && *account != owner);
        let (by, told) = match contact {
            None => (owner, of_project),
            Some(contact) => {
                let own = self.explained_by(&contact, asked).await?;
                let own_decides = is_denied(&own) || own.allowed && !is_denied(&of_project);
                if own_decides {
                    (contact, own)
                } else if of_project.allowed || is_denied(&of_project) {
                    (owner, of_project)
                } else {
                    // Neither speaks: what each nearly says is told to each.
                    let theirs = format!("or a policy of {contact}, a contact of the project, must allow it");
                    let ours = format!("or a policy of {owner}, its administrative contact, must allow it");
                    let (by, mut told, other) = match to.is_some_and(|to| *to == contact) {
                        true => (contact, own, ours),
                        false => (owner, of_project, theirs),
                    };
                    told.change.push(other);
                    (by, told)
                }
            }
        };
        let mut told = told_to(to, &by, told);
        if let Some(account) = untold {
            told.change.push(format!(
                "users in a group of the role ADMIN of {account} may do all that it may, whatever policies say: who they \
                 are is told to that account alone"
            ));
        }
        Ok(told)
    }

    /// The contacts of the project that a call is about; `None`: it is about an account.
    async fn contacts_asked_for(&self, asked: &Asked) -> Result<Option<Contacts>, Error> {
        match Urn::parse(&asked.resource).ok().and_then(|urn| Resource::from_urn(&urn)) {
            Some(Resource::Project(id)) => self.contacts(&id).await,
            Some(Resource::Account(_)) | None => Ok(None),
        }
    }

    /// What the policies of an account say of a call.
    async fn explained_by(&self, account: &AccountId, asked: &Asked) -> Result<Explanation, Error> {
        let iam = self.iam_at(account, asked.facts.at).await?;
        let identities: Vec<&str> = asked.identities.iter().map(String::as_str).collect();
        let question =
            Question { identities: &identities, action: &asked.action, resource: &asked.resource, facts: asked.facts };
        Ok(iam.explain(&question)?)
    }

    /// The group that a URN names, or that the user is in now whom it names. `to` hears of its own users and groups alone, or
    /// it could find out who there is in another account; `None` is the operator.
    async fn group_of_urn(&self, urn: &str, to: Option<&AccountId>) -> Result<Option<Group>, Error> {
        let Ok(urn) = Urn::parse(urn) else { return Ok(None) };
        let Some((account, name)) = urn.id().split_once('/') else { return Ok(None) };
        let Ok(account) = account.parse::<AccountId>() else { return Ok(None) };
        if to.is_some_and(|to| *to != account) {
            return Ok(None);
        }
        match (urn.kind(), urn.subtype()) {
            (UrnKind::Identity, "user") => match self.person(&account, name).await? {
                Some(person) => self.group(&account, &person.group).await,
                None => Ok(None),
            },
            (UrnKind::Identity, "group") => self.group(&account, name).await,
            _ => Ok(None),
        }
    }
}

/// The account that who calls belongs to.
fn account_of(asked: &Asked) -> Option<AccountId> {
    let urn = Urn::parse(asked.identities.first()?).ok()?;
    urn.id().split('/').next()?.parse().ok()
}

/// Without policies of another account than the one that is told; `by`: whose policies decided. `to`: `None` is the operator.
fn told_to(to: Option<&AccountId>, by: &AccountId, told: Explanation) -> Explanation {
    match to {
        Some(to) if to != by => {
            let change = vec![format!("policies of {by} decide, which are told to that account alone")];
            Explanation { deciding: Vec::new(), spoke: Vec::new(), missed: Vec::new(), change, ..told }
        }
        _ => told,
    }
}

/// Whether policies refuse, and not only allow nothing.
fn is_denied(told: &Explanation) -> bool {
    !told.allowed && !told.deciding.is_empty()
}

fn address(row: &Row) -> Option<std::net::IpAddr> {
    row.source_ip.as_deref()?.parse().ok()
}

fn identity_urn(text: &str) -> Result<String, Unexplained> {
    let urn = Urn::parse(text).ok().filter(|urn| urn.kind() == UrnKind::Identity);
    let wrong = || Unexplained::NotUrn { given: text.chars().take(512).collect(), kind: "an identity" };
    urn.map(|urn| urn.to_string()).ok_or_else(wrong)
}
