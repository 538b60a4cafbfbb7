//! The decision: the index first, then Cedar.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    net::IpAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use cedar_policy::{Authorizer, Decision, Entities, Policy as CedarPolicy, PolicySet, Request};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Body, Condition, Draft, Leaf, Pattern, Permissions, Urn, cedar,
    circumstances::{Circumstances, Watched},
    pattern::PatternSet,
    storage::STORAGE_ACTIONS,
    table::{Marks, Table},
    urn,
};

/// The policies of one account as they were at one moment; changes make a new one.
pub struct Iam {
    pub(super) statements: Vec<Statement>,
    /// Which statements each policy has: from one number to another.
    policies: Vec<Range<usize>>,
    /// Numbers of policies.
    by_identity: Table,
    by_resource: Table,
    /// The policies that may speak of the object store.
    of_storage: Marks,
    /// Numbers of permissions: each policy's own, and each permissions group's once, however many policies name it.
    allowed: Table,
    excepted: Table,
    denied: Table,
    /// How many permissions there are.
    permissions: usize,
    /// What statements are for Cedar, where they name identity, action and resource.
    classes: Vec<Class>,
    groups: Vec<String>,
    by_member: Table,
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

/// One rule: a policy's own permissions or those of one of its permissions groups, what they allow or what they deny.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) effect: Effect,
    pub(super) identities: Arc<PatternSet>,
    pub(super) resources: Arc<PatternSet>,
    /// `allow`, `except`, `deny`.
    pub(super) permissions: Arc<[PatternSet; 3]>,
    /// Their number in the index.
    listed: usize,
    /// The number of its class.
    class: usize,
    pub(super) conditions: Option<Arc<Condition>>,
    pub(super) expired_at: Option<Timestamp>,
    ruling: Arc<Ruling>,
    compiled: OnceLock<CedarPolicy>,
}

impl Statement {
    /// How many texts and values Cedar may have to compare.
    fn size(&self) -> usize {
        let sets = [&*self.identities, &*self.resources].into_iter().chain(&*self.permissions);
        let conditions = self.conditions.as_deref().map_or(0, |condition| condition.leaves().len());
        1 + conditions + sets.map(|set| set.exact.len() + set.open.len()).sum::<usize>()
    }
}

/// What is left of a statement that names identity, action and resource: its effect, and when it applies. Of those with
/// the same, one stands for all.
#[derive(Debug)]
struct Class {
    watched: Watched,
    /// Names of the tags that its conditions look at.
    tags: BTreeSet<String>,
    /// Whether it applies, as Cedar said, by all that its answer depends on.
    answers: Mutex<Vec<(Depends, bool)>>,
}

/// What an answer of Cedar about a class depends on: the values of its tags, the time and the address.
type Depends = (Vec<Option<String>>, Circumstances);

/// What a statement does where it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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
    pub deciding: Vec<Arc<Ruling>>,
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

/// What the index found for a question. The time and the address are not in it.
pub(crate) struct Prepared {
    statements: Vec<usize>,
    /// The first of them of each class: what Cedar is asked about.
    first: Vec<usize>,
    /// The sizes of these together.
    size: usize,
    /// The resource of the question, or of the first of many of which the same was found.
    resource: String,
    /// The groups that this is in.
    groups: Vec<usize>,
    watched: Watched,
    /// What was decided, by all that it depends on.
    answers: Mutex<Vec<(Circumstances, Arc<Verdict>)>>,
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
        let (mut groups, mut by_member) = (Vec::new(), Table::default());
        let mut permissions_groups = Vec::new();
        for (id, draft) in documents {
            match draft.body {
                Body::Policy(policy) => policies.push((id, draft.name, policy)),
                Body::ResourceGroup(group) => {
                    group.resources.iter().for_each(|pattern| by_member.add(pattern, groups.len()));
                    groups.push(Urn::resource_group(&id).to_string());
                }
                Body::PermissionsGroup(permissions) => {
                    permissions_groups.push((Urn::permissions_group(account, &id).to_string(), permissions));
                }
            }
        }
        let mut iam = Iam {
            statements: Vec::new(),
            policies: Vec::with_capacity(policies.len()),
            by_identity: Table::default(),
            by_resource: Table::default(),
            of_storage: Marks::none(policies.len()),
            allowed: Table::default(),
            excepted: Table::default(),
            denied: Table::default(),
            permissions: policies.len() + permissions_groups.len(),
            classes: Vec::new(),
            groups,
            by_member,
            tags,
            types: cedar::Types::new()?,
            authorizer: Authorizer::new(),
            prepared: Mutex::default(),
        };
        let lists = policies.iter().map(|(_, _, policy)| &policy.permissions);
        let lists = lists.chain(permissions_groups.iter().map(|(_, permissions)| permissions));
        let in_storage: Vec<bool> = lists.clone().map(may_be_in_storage).collect();
        let lists: Vec<Arc<[PatternSet; 3]>> = lists
            .enumerate()
            .map(|(number, permissions)| {
                permissions.allow.iter().for_each(|pattern| iam.allowed.add(pattern, number));
                permissions.except.iter().for_each(|pattern| iam.excepted.add(pattern, number));
                permissions.deny.iter().for_each(|pattern| iam.denied.add(pattern, number));
                Arc::new(permissions.sets())
            })
            .collect();
        let numbers = permissions_groups.iter().enumerate();
        let numbers: HashMap<&str, usize> =
            numbers.map(|(number, (urn, _))| (urn.as_str(), policies.len() + number)).collect();
        let mut classes: HashMap<(Effect, Option<&Condition>, Option<Timestamp>), usize> = HashMap::new();
        for (number, (id, name, policy)) in policies.iter().enumerate() {
            policy.identities.iter().for_each(|pattern| iam.by_identity.add(pattern, number));
            policy.resources.iter().for_each(|pattern| iam.by_resource.add(pattern, number));
            let identities = Arc::new(PatternSet::new(&policy.identities));
            let resources = Arc::new(PatternSet::new(&policy.resources));
            let conditions = policy.conditions.clone().map(Arc::new);
            let first = iam.statements.len();
            let named: BTreeSet<&String> = policy.permissions_groups.iter().collect();
            let of_groups = named.into_iter().filter_map(|urn| Some((Some(urn.clone()), *numbers.get(urn.as_str())?)));
            for (group, listed) in std::iter::once((None, number)).chain(of_groups) {
                let permissions = &lists[listed];
                if in_storage[listed] {
                    iam.of_storage.set(number);
                }
                for (effect, actions) in [(Effect::Allow, &permissions[0]), (Effect::Deny, &permissions[2])] {
                    if actions.is_empty() {
                        continue;
                    }
                    let (next, when) = (classes.len(), policy.conditions.as_ref());
                    let class = *classes.entry((effect, when, policy.expired_at)).or_insert(next);
                    let statement = Statement {
                        ruling: Arc::new(Ruling {
                            policy: id.clone(),
                            name: name.clone(),
                            permissions_group: group.clone(),
                            effect,
                        }),
                        effect,
                        identities: Arc::clone(&identities),
                        resources: Arc::clone(&resources),
                        permissions: Arc::clone(permissions),
                        listed,
                        class,
                        conditions: conditions.clone(),
                        expired_at: policy.expired_at,
                        compiled: OnceLock::new(),
                    };
                    if class == next {
                        iam.classes.push(Class::of(&statement));
                    }
                    iam.statements.push(statement);
                }
            }
            iam.policies.push(first..iam.statements.len());
        }
        Ok(iam)
    }

    /// Decides.
    pub fn decide(&self, question: &Question) -> Result<Arc<Verdict>, Failed> {
        self.judge(&self.prepare(question), question)
    }

    /// Decides, by what the index found.
    pub(crate) fn judge(&self, prepared: &Prepared, question: &Question) -> Result<Arc<Verdict>, Failed> {
        let circumstances = prepared.watched.circumstances(&question.facts)?;
        if let Some(known) = prepared.known(&circumstances) {
            return Ok(known);
        }
        let spoke = self.speaking(prepared, question)?.into_iter().map(|number| &self.statements[number].ruling);
        let (denials, allowances): (Vec<_>, Vec<_>) =
            spoke.map(Arc::clone).partition(|ruling| ruling.effect == Effect::Deny);
        let allowed = denials.is_empty() && !allowances.is_empty();
        let deciding = if denials.is_empty() { allowances } else { denials };
        let verdict = Arc::new(Verdict { allowed, deciding });
        prepared.keep(circumstances, &verdict);
        Ok(verdict)
    }

    /// All that speak, whether they decide or not: of those that the index found, the ones whose conditions hold and that
    /// are not over.
    pub(super) fn spoke(&self, question: &Question) -> Result<Vec<usize>, Failed> {
        self.speaking(&self.prepare(question), question)
    }

    fn speaking(&self, prepared: &Prepared, question: &Question) -> Result<Vec<usize>, Failed> {
        let tags = self.tags_of(&prepared.resource);
        let mut speak = Marks::none(self.classes.len());
        let mut unknown = Vec::new();
        for number in &prepared.first {
            let class = self.statements[*number].class;
            let depends = self.classes[class].depends(tags, &question.facts)?;
            match self.classes[class].known(&depends) {
                Some(true) => speak.set(class),
                Some(false) => {}
                None => unknown.push((*number, class, depends)),
            }
        }
        if !unknown.is_empty() {
            let asked: Vec<usize> = unknown.iter().map(|(number, ..)| *number).collect();
            let told = self.ask(prepared, &asked, question)?;
            for (number, class, depends) in unknown {
                let speaks = told.contains(&number);
                if speaks {
                    speak.set(class);
                }
                self.classes[class].keep(depends, speaks);
            }
        }
        let speaks = |number: &&usize| speak.has(self.statements[**number].class);
        Ok(prepared.statements.iter().filter(speaks).copied().collect())
    }

    /// The statements of policies that name one of the identities, in their order.
    pub(super) fn naming(&self, identities: &[&str]) -> Vec<usize> {
        let policies = self.policies_naming(identities).numbers();
        policies.into_iter().flat_map(|policy| self.policies[policy].clone()).collect()
    }

    fn policies_naming(&self, identities: &[&str]) -> Marks {
        let mut marks = Marks::none(self.policies.len());
        identities.iter().for_each(|identity| self.by_identity.mark(identity, &mut marks));
        marks
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
        self.group_numbers(resource).into_iter().map(|number| self.groups[number].as_str()).collect()
    }

    fn group_numbers(&self, resource: &str) -> Vec<usize> {
        let mut marks = Marks::none(self.groups.len());
        self.by_member.mark(resource, &mut marks);
        marks.numbers()
    }

    /// The tags of a resource; of what is in the object store those of its project.
    pub fn tags_of(&self, resource: &str) -> Option<&BTreeMap<String, String>> {
        match urn::storage_project(resource) {
            Some(project) => self.tags.get(&urn::project(project)),
            None => self.tags.get(resource),
        }
    }

    /// Whether a policy may speak of somebody in the object store; if not, none need be asked there.
    pub(crate) fn speaks_of_storage(&self, identity: &str) -> bool {
        let mut policies = self.policies_naming(&[identity]);
        policies.keep(&self.of_storage);
        !policies.is_empty()
    }

    pub(super) fn ruling(&self, number: usize) -> Ruling {
        Ruling::clone(&self.statements[number].ruling)
    }

    /// What the index finds for a question.
    pub(crate) fn prepare(&self, question: &Question) -> Arc<Prepared> {
        if let Some(project) = urn::storage_project(question.resource) {
            let (found, groups) = self.find(question);
            // No URN has such a character.
            let resource = format!("{project}#{found:?}");
            let key = key(&Question { resource: &resource, ..*question });
            return self.known(&key).unwrap_or_else(|| self.keep(key, question.resource, found, groups));
        }
        let key = key(question);
        self.known(&key).unwrap_or_else(|| {
            let (found, groups) = self.find(question);
            self.keep(key, question.resource, found, groups)
        })
    }

    /// The statements that name identity, action and resource, and the numbers of the groups that the resource is in.
    fn find(&self, question: &Question) -> (Vec<usize>, Vec<usize>) {
        let groups = self.group_numbers(question.resource);
        let mut policies = self.policies_naming(question.identities);
        let mut marks = Marks::none(self.policies.len());
        self.by_resource.mark(question.resource, &mut marks);
        groups.iter().for_each(|group| self.by_resource.mark_exact(&self.groups[*group], &mut marks));
        policies.keep(&marks);
        let [allowed, excepted, denied] = [&self.allowed, &self.excepted, &self.denied].map(|table| {
            let mut marks = Marks::none(self.permissions);
            table.mark(question.action, &mut marks);
            marks
        });
        let of_action = |number: &usize| {
            let Statement { effect, listed, .. } = &self.statements[*number];
            match effect {
                Effect::Allow => allowed.has(*listed) && !excepted.has(*listed),
                Effect::Deny => denied.has(*listed),
            }
        };
        let found = policies.numbers().into_iter().flat_map(|policy| self.policies[policy].clone());
        (found.filter(of_action).collect(), groups)
    }

    fn known(&self, key: &str) -> Option<Arc<Prepared>> {
        lock(&self.prepared).by_question.get(key).map(Arc::clone)
    }

    fn keep(&self, key: String, resource: &str, found: Vec<usize>, groups: Vec<usize>) -> Arc<Prepared> {
        let prepared = Arc::new(self.prepared(resource, found, groups));
        let mut kept = lock(&self.prepared);
        if kept.by_question.len() >= MOST_QUESTIONS || kept.statements >= MOST_STATEMENTS {
            *kept = Kept::default();
        }
        kept.statements += prepared.statements.len();
        kept.by_question.insert(key.into_boxed_str(), Arc::clone(&prepared));
        prepared
    }

    fn prepared(&self, resource: &str, statements: Vec<usize>, groups: Vec<usize>) -> Prepared {
        let mut seen = Marks::none(self.classes.len());
        let mut first = Vec::new();
        for number in &statements {
            let class = self.statements[*number].class;
            if !seen.has(class) {
                seen.set(class);
                first.push(*number);
            }
        }
        let size = first.iter().map(|number| self.statements[*number].size()).sum();
        let watched = Watched::by(first.iter().map(|number| &self.statements[*number]));
        let resource = resource.to_owned();
        Prepared { statements, first, size, resource, groups, watched, answers: Mutex::default() }
    }

    fn compiled(&self, number: usize) -> Result<CedarPolicy, Failed> {
        let statement = &self.statements[number];
        if let Some(known) = statement.compiled.get() {
            return Ok(known.clone());
        }
        let compiled = cedar::policy(number, statement, &self.types)?;
        Ok(statement.compiled.get_or_init(|| compiled).clone())
    }

    /// Which of these statements apply, as Cedar says. Those that allow are asked apart from those that deny: of both
    /// together it names those that decide.
    fn ask(&self, prepared: &Prepared, asked: &[usize], question: &Question) -> Result<HashSet<usize>, Failed> {
        let (request, entities) = self.request(prepared, asked, question)?;
        let mut told = HashSet::new();
        for effect in [Effect::Allow, Effect::Deny] {
            let of_effect = asked.iter().filter(|number| self.statements[**number].effect == effect);
            let policies = self.policy_set(of_effect)?;
            if !policies.is_empty() {
                told.extend(self.authorize(&request, &policies, &entities)?.1);
            }
        }
        Ok(told)
    }

    fn policy_set<'a>(&self, statements: impl Iterator<Item = &'a usize>) -> Result<PolicySet, Failed> {
        let mut policies = PolicySet::new();
        for number in statements {
            policies.add(self.compiled(*number)?).map_err(|fault| Failed(fault.to_string()))?;
        }
        Ok(policies)
    }

    /// A question in the words of Cedar, as far as these statements look at it.
    fn request(
        &self,
        prepared: &Prepared,
        statements: &[usize],
        question: &Question,
    ) -> Result<(Request, Entities), Failed> {
        let of_them = |pattern: &&Pattern| question.identities.iter().any(|identity| pattern.matches(identity));
        let open = statements.iter().flat_map(|number| &self.statements[*number].identities.open);
        let wildcards: HashSet<&Pattern> = open.filter(of_them).collect();
        let groups: Vec<&str> = prepared.groups.iter().map(|number| self.groups[*number].as_str()).collect();
        let resource = prepared.resource.as_str();
        let tags = self.tags_of(resource);
        let entities = self.types.entities(question.identities, &wildcards, resource, &groups, tags)?;
        let context = cedar::request_context(question.action, resource, &question.facts, prepared.watched.zones()?)?;
        let principal = self.types.principal(question.identities);
        let request = Request::new(principal, self.types.action.clone(), self.types.resource(resource), context, None);
        Ok((request.map_err(|fault| Failed(fault.to_string()))?, entities))
    }

    /// Cedar's decision, and the numbers of the statements that are its reasons.
    fn authorize(
        &self,
        request: &Request,
        policies: &PolicySet,
        entities: &Entities,
    ) -> Result<(bool, Vec<usize>), Failed> {
        let response = self.authorizer.is_authorized(request, policies, entities);
        if let Some(fault) = response.diagnostics().errors().next() {
            return Err(Failed(fault.to_string()));
        }
        let numbers = response.diagnostics().reason().map(|id| id.to_string().parse::<usize>());
        let numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|fault| Failed(fault.to_string()))?;
        Ok((response.decision() == Decision::Allow, numbers))
    }

    /// How many questions are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        lock(&self.prepared).by_question.len()
    }

    /// By all statements at once, without index and classes before it.
    #[cfg(test)]
    pub(super) fn decide_by_cedar_alone(&self, question: &Question) -> Result<bool, Failed> {
        let all: Vec<usize> = (0..self.statements.len()).collect();
        let prepared = self.prepared(question.resource, all.clone(), self.group_numbers(question.resource));
        let (request, entities) = self.request(&prepared, &all, question)?;
        Ok(self.authorize(&request, &self.policy_set(all.iter())?, &entities)?.0)
    }
}

impl Class {
    fn of(statement: &Statement) -> Class {
        let leaves = statement.conditions.as_deref().map(Condition::leaves).unwrap_or_default();
        let tags = leaves.into_iter().filter_map(|leaf| match leaf {
            Leaf::Tag { name, .. } => Some(name.clone()),
            Leaf::WeekDay { .. } | Leaf::Ip(_) => None,
        });
        Class { watched: Watched::by([statement]), tags: tags.collect(), answers: Mutex::default() }
    }

    fn depends(&self, tags: Option<&BTreeMap<String, String>>, facts: &Facts) -> Result<Depends, Failed> {
        let values = self.tags.iter().map(|name| tags?.get(name).cloned());
        Ok((values.collect(), self.watched.circumstances(facts)?))
    }

    fn known(&self, depends: &Depends) -> Option<bool> {
        lock(&self.answers).iter().find(|(known, _)| known == depends).map(|(_, applies)| *applies)
    }

    fn keep(&self, depends: Depends, applies: bool) {
        keep_newest(&self.answers, (depends, applies), MOST_ANSWERS_OF_CLASS);
    }
}

impl Prepared {
    /// Whether Cedar has much to compare: such a question is not one for a thread that others wait for.
    pub(crate) fn is_large(&self) -> bool {
        self.size > LARGE
    }

    /// The verdict, if Cedar was asked in such circumstances before.
    pub(crate) fn verdict(&self, facts: &Facts) -> Option<Arc<Verdict>> {
        self.known(&self.watched.circumstances(facts).ok()?)
    }

    fn known(&self, circumstances: &Circumstances) -> Option<Arc<Verdict>> {
        let answers = lock(&self.answers);
        let known = answers.iter().find(|(known, _)| known == circumstances);
        known.map(|(_, verdict)| Arc::clone(verdict))
    }

    fn keep(&self, circumstances: Circumstances, verdict: &Arc<Verdict>) {
        keep_newest(&self.answers, (circumstances, Arc::clone(verdict)), MOST_ANSWERS);
    }
}

/// Adds to what is kept; where that is too much, the oldest goes.
fn keep_newest<T>(kept: &Mutex<Vec<T>>, new: T, most: usize) {
    let mut kept = lock(kept);
    if kept.len() >= most {
        kept.remove(0);
    }
    kept.push(new);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether permissions may be about the object store.
fn may_be_in_storage(permissions: &Permissions) -> bool {
    permissions.allow.iter().chain(&permissions.deny).any(|action| action.may_begin(STORAGE_ACTIONS))
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

/// More than this is some milliseconds of Cedar.
const LARGE: usize = 500;
/// Answers that are kept for one question.
const MOST_ANSWERS: usize = 8;
/// For one class: each value of a tag is another.
const MOST_ANSWERS_OF_CLASS: usize = 64;
const MOST_QUESTIONS: usize = 4096;
const MOST_STATEMENTS: usize = 50_000;
const MOST_NAMED: usize = 5;
