//! The decision: the index first, then Cedar.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use cedar_policy::{Authorizer, Decision, Entities, EntityUid, Policy as CedarPolicy, PolicySet, Request};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Body, Condition, Draft, Pattern, Permissions, Urn, cedar, pattern::PatternSet};

/// The policies of one account as they were at one moment; changes make a new one.
pub struct Iam {
    pub(super) policies: Vec<Named>,
    pub(super) statements: Vec<Statement>,
    by_identity: HashMap<String, Vec<usize>>,
    by_wildcard: Vec<(Pattern, Vec<usize>)>,
    groups: Vec<(String, PatternSet)>,
    tags: HashMap<String, BTreeMap<String, String>>,
    types: cedar::Types,
    authorizer: Authorizer,
    prepared: Mutex<Kept>,
}

/// What was prepared for questions, until it is too much.
#[derive(Default)]
struct Kept {
    by_question: HashMap<Box<str>, Arc<Prepared>>,
    statements: usize,
}

/// A policy by id and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: String,
    pub(super) name: String,
}

/// One rule: a policy's own permissions or those of one of its permissions groups, what they allow or what they deny.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) policy: usize,
    pub(super) permissions_group: Option<String>,
    pub(super) effect: Effect,
    pub(super) identities: Arc<PatternSet>,
    pub(super) resources: Arc<PatternSet>,
    /// `allow`, `except`, `deny`.
    pub(super) permissions: Arc<[PatternSet; 3]>,
    pub(super) conditions: Option<Arc<Condition>>,
    pub(super) expired_at: Option<Timestamp>,
    compiled: OnceLock<CedarPolicy>,
}

/// What a statement does where it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies.
    Deny,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// URNs of who asks: first the one who acts, then the groups that it is in.
    pub identities: &'a [&'a str],
    /// The action.
    pub action: &'a str,
    /// The URN of the resource.
    pub resource: &'a str,
    /// What is known of the request.
    pub facts: Facts,
}

/// What is known of a request.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// When.
    pub at: Timestamp,
    /// From where; `None`: unknown, so that a condition on the address does not hold.
    pub source_ip: Option<IpAddr>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is allowed.
    pub allowed: bool,
    /// What decided: where it is denied, all that deny it, else all that allow it. Empty: nothing allows.
    pub deciding: Vec<Ruling>,
}

/// A policy that spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ruling {
    /// The id of the policy.
    pub policy: String,
    /// Its name.
    pub name: String,
    /// The permissions group through which it spoke; `None`: by its own permissions.
    pub permissions_group: Option<String>,
    /// What it said.
    pub effect: Effect,
}

/// A policy could not be evaluated: nothing is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a policy cannot be evaluated: {0}")]
pub struct Failed(pub(super) String);

/// What the index found for a question, compiled. The time and the address are not in it.
struct Prepared {
    statements: Vec<usize>,
    policies: PolicySet,
    entities: Entities,
    principal: EntityUid,
    resource: EntityUid,
    zones: HashMap<String, TimeZone>,
}

impl Verdict {
    /// Whether a policy denies it, and not only none allows it.
    pub fn is_denied(&self) -> bool {
        !self.allowed && !self.deciding.is_empty()
    }
}

impl Iam {
    /// Over documents by id, and tags of resources by URN. A policy that names a group which is not there has nothing
    /// from it.
    pub fn new(
        documents: impl IntoIterator<Item = (String, Draft)>,
        account: &model::AccountId,
        tags: HashMap<String, BTreeMap<String, String>>,
    ) -> Result<Iam, Failed> {
        let mut policies = Vec::new();
        let mut groups = Vec::new();
        let mut permissions_groups: HashMap<String, Permissions> = HashMap::new();
        for (id, draft) in documents {
            match draft.body {
                Body::Policy(policy) => policies.push((Named { id, name: draft.name }, policy)),
                Body::ResourceGroup(group) => {
                    groups.push((Urn::resource_group(&id).to_string(), PatternSet::new(&group.resources)));
                }
                Body::PermissionsGroup(permissions) => {
                    permissions_groups.insert(Urn::permissions_group(account, &id).to_string(), permissions);
                }
            }
        }
        let mut iam = Iam {
            policies: Vec::with_capacity(policies.len()),
            statements: Vec::new(),
            by_identity: HashMap::new(),
            by_wildcard: Vec::new(),
            groups,
            tags,
            types: cedar::Types::new()?,
            authorizer: Authorizer::new(),
            prepared: Mutex::default(),
        };
        for (named, policy) in policies {
            let number = iam.policies.len();
            iam.policies.push(named);
            let own = (None, &policy.permissions);
            let of_groups = policy
                .permissions_groups
                .iter()
                .filter_map(|urn| Some((Some(urn.clone()), permissions_groups.get(urn)?)));
            let identities = Arc::new(PatternSet::new(&policy.identities));
            let resources = Arc::new(PatternSet::new(&policy.resources));
            let conditions = policy.conditions.clone().map(Arc::new);
            for (group, permissions) in std::iter::once(own).chain(of_groups) {
                let permissions = Arc::new(permissions.sets());
                for (effect, actions) in [(Effect::Allow, &permissions[0]), (Effect::Deny, &permissions[2])] {
                    if actions.is_empty() {
                        continue;
                    }
                    iam.add(Statement {
                        policy: number,
                        permissions_group: group.clone(),
                        effect,
                        identities: Arc::clone(&identities),
                        resources: Arc::clone(&resources),
                        permissions: Arc::clone(&permissions),
                        conditions: conditions.clone(),
                        expired_at: policy.expired_at,
                        compiled: OnceLock::new(),
                    });
                }
            }
        }
        Ok(iam)
    }

    fn add(&mut self, statement: Statement) {
        let number = self.statements.len();
        for urn in &statement.identities.exact {
            self.by_identity.entry(urn.clone()).or_default().push(number);
        }
        for pattern in &statement.identities.open {
            match self.by_wildcard.iter_mut().find(|(known, _)| known == pattern) {
                Some((_, statements)) => statements.push(number),
                None => self.by_wildcard.push((pattern.clone(), vec![number])),
            }
        }
        self.statements.push(statement);
    }

    /// Decides.
    pub fn decide(&self, question: &Question) -> Result<Verdict, Failed> {
        let prepared = self.prepare(question)?;
        if prepared.statements.is_empty() {
            return Ok(Verdict { allowed: false, deciding: Vec::new() });
        }
        let (allowed, deciding) = self.ask(&prepared, &prepared.policies, question)?;
        Ok(Verdict { allowed, deciding: deciding.into_iter().map(|number| self.ruling(number)).collect() })
    }

    /// All that spoke, whether it decided or not.
    pub(super) fn spoke(&self, question: &Question) -> Result<Vec<usize>, Failed> {
        let prepared = self.prepare(question)?;
        let mut spoke = Vec::new();
        for number in &prepared.statements {
            let mut alone = PolicySet::new();
            alone.add(self.compiled(*number)?).map_err(|fault| Failed(fault.to_string()))?;
            spoke.extend(self.ask(&prepared, &alone, question)?.1);
        }
        Ok(spoke)
    }

    /// The statements of policies that name one of the identities, in their order.
    pub(super) fn naming(&self, identities: &[&str]) -> Vec<usize> {
        let exact = identities.iter().filter_map(|identity| self.by_identity.get(*identity)).flatten();
        let open = self.wildcards(identities).flat_map(|(_, statements)| statements);
        let mut found: Vec<usize> = exact.chain(open).copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether a statement's permissions speak of the action.
    pub(super) fn covers_action(&self, statement: &Statement, action: &str) -> bool {
        let [allow, except, deny] = &*statement.permissions;
        match statement.effect {
            Effect::Allow => allow.matches(action) && !except.matches(action),
            Effect::Deny => deny.matches(action),
        }
    }

    /// Whether a statement speaks of the resource, by its URN or by these groups that it is in.
    pub(super) fn covers_resource(&self, statement: &Statement, resource: &str, groups: &[&str]) -> bool {
        statement.resources.matches(resource) || groups.iter().any(|group| statement.resources.exact.contains(*group))
    }

    /// The resource groups that a resource is in.
    pub(super) fn groups_of(&self, resource: &str) -> Vec<&str> {
        let groups = self.groups.iter().filter(|(_, members)| members.matches(resource));
        groups.map(|(urn, _)| urn.as_str()).collect()
    }

    /// The tags of a resource.
    pub fn tags_of(&self, resource: &str) -> Option<&BTreeMap<String, String>> {
        self.tags.get(resource)
    }

    pub(super) fn ruling(&self, number: usize) -> Ruling {
        let statement = &self.statements[number];
        let policy = &self.policies[statement.policy];
        Ruling {
            policy: policy.id.clone(),
            name: policy.name.clone(),
            permissions_group: statement.permissions_group.clone(),
            effect: statement.effect,
        }
    }

    fn wildcards<'a>(&'a self, identities: &'a [&str]) -> impl Iterator<Item = &'a (Pattern, Vec<usize>)> {
        self.by_wildcard.iter().filter(|(pattern, _)| identities.iter().any(|identity| pattern.matches(identity)))
    }

    fn prepare(&self, question: &Question) -> Result<Arc<Prepared>, Failed> {
        let key = key(question);
        if let Some(known) = self.lock().by_question.get(key.as_str()) {
            return Ok(Arc::clone(known));
        }
        let groups = self.groups_of(question.resource);
        let mut statements = self.naming(question.identities);
        statements.retain(|number| {
            let statement = &self.statements[*number];
            self.covers_action(statement, question.action)
                && self.covers_resource(statement, question.resource, &groups)
        });
        let prepared = Arc::new(self.compile(question, statements, &groups)?);
        let mut kept = self.lock();
        if kept.by_question.len() >= MOST_QUESTIONS || kept.statements >= MOST_STATEMENTS {
            *kept = Kept::default();
        }
        kept.statements += prepared.statements.len();
        kept.by_question.insert(key.into_boxed_str(), Arc::clone(&prepared));
        Ok(prepared)
    }

    fn compile(&self, question: &Question, statements: Vec<usize>, groups: &[&str]) -> Result<Prepared, Failed> {
        let mut policies = PolicySet::new();
        for number in &statements {
            policies.add(self.compiled(*number)?).map_err(|fault| Failed(fault.to_string()))?;
        }
        let wildcards: Vec<&Pattern> = self.wildcards(question.identities).map(|(pattern, _)| pattern).collect();
        let tags = self.tags_of(question.resource);
        Ok(Prepared {
            policies,
            entities: self.types.entities(question.identities, &wildcards, question.resource, groups, tags)?,
            principal: self.types.principal(question.identities),
            resource: self.types.resource(question.resource),
            zones: cedar::zones(statements.iter().map(|number| &self.statements[*number]))?,
            statements,
        })
    }

    fn compiled(&self, number: usize) -> Result<CedarPolicy, Failed> {
        let statement = &self.statements[number];
        if let Some(known) = statement.compiled.get() {
            return Ok(known.clone());
        }
        let compiled = cedar::policy(&number.to_string(), statement)?;
        Ok(statement.compiled.get_or_init(|| compiled).clone())
    }

    /// Cedar's decision, and the numbers of the statements that are its reasons, in their order.
    fn ask(
        &self,
        prepared: &Prepared,
        policies: &PolicySet,
        question: &Question,
    ) -> Result<(bool, Vec<usize>), Failed> {
        let context = cedar::request_context(question.action, question.resource, &question.facts, &prepared.zones)?;
        let (principal, resource) = (prepared.principal.clone(), prepared.resource.clone());
        let request = Request::new(principal, self.types.action.clone(), resource, context, None)
            .map_err(|fault| Failed(fault.to_string()))?;
        let response = self.authorizer.is_authorized(&request, policies, &prepared.entities);
        if let Some(fault) = response.diagnostics().errors().next() {
            return Err(Failed(fault.to_string()));
        }
        let numbers = response.diagnostics().reason().map(|id| id.to_string().parse::<usize>());
        let mut numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|fault| Failed(fault.to_string()))?;
        numbers.sort_unstable();
        Ok((response.decision() == Decision::Allow, numbers))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decision of Cedar over all statements, without the index.
    #[cfg(test)]
    pub(super) fn decide_by_cedar_alone(&self, question: &Question) -> Result<bool, Failed> {
        let groups = self.groups_of(question.resource);
        let all = self.compile(question, (0..self.statements.len()).collect(), &groups)?;
        Ok(self.ask(&all, &all.policies, question)?.0)
    }
}

/// One text for one question: each part with its length before it.
fn key(question: &Question) -> String {
    let length = |length: usize| char::from_u32(u32::try_from(length).unwrap_or(u32::MAX)).unwrap_or(char::MAX);
    let mut key = String::with_capacity(256);
    key.push(length(question.identities.len()));
    for part in question.identities.iter().chain([&question.action, &question.resource]) {
        key.push(length(part.len()));
        key.push_str(part);
    }
    key
}

impl fmt::Debug for Iam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iam").field("policies", &self.policies.len()).finish_non_exhaustive()
    }
}

impl Verdict {
    /// One sentence on why, for the audit log.
    pub fn reason(&self) -> String {
        let named: Vec<String> =
            self.deciding.iter().take(MOST_NAMED).map(|ruling| format!("'{}'", ruling.name)).collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect::<HashSet<_>>().into_iter().collect();
        match (self.allowed, named.is_empty()) {
            (true, _) => format!("allowed by policy {}", sorted(named)),
            (false, false) => format!("denied by policy {}", sorted(named)),
            (false, true) => "no policy allows it".to_owned(),
        }
    }
}

fn sorted(mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.join(", ")
}

const MOST_QUESTIONS: usize = 4096;
const MOST_STATEMENTS: usize = 50_000;
const MOST_NAMED: usize = 5;
