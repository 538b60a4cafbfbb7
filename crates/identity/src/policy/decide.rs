//! The decision on one call: a pure function of caller, policies and call.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>, with a project for the
//! account.

use std::{borrow::Cow, fmt};

use model::ProjectId;
use serde::Serialize;

use super::{
    S3Policy, actions,
    condition::{ANONYMOUS, Keys, date},
    pattern::Variables,
    statement::{ARN, Name, Principal, Statement, name_of},
};
use crate::{
    S3Grant, Scope, Verdict,
    s3::{role_arn, root_arn, user_arn},
};

/// A call that is asked about.
#[derive(Debug, Clone, Copy)]
pub struct S3Question<'a> {
    /// The project of the bucket.
    pub project: &'a ProjectId,
    /// The action as policies name it, such as `s3:GetObject`.
    pub action: &'a str,
    /// On which bucket.
    pub bucket: Option<&'a str>,
    /// On which key.
    pub key: Option<&'a str>,
    /// The policy of the bucket.
    pub bucket_policy: Option<&'a S3Policy>,
    /// Condition keys with their values: see [`crate::CONDITION_KEYS`]. A key with several values stands several times.
    pub context: &'a [(&'a str, &'a str)],
    /// The bucket's public access block forbids what a policy opens to everybody.
    pub public_blocked: bool,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Verdict {
    /// Whether it may be done.
    pub allowed: bool,
    /// What decided, for the audit log.
    pub reason: String,
    /// Each statement that was looked at: of [`explain_s3`], else empty.
    pub trace: Vec<S3Step>,
}

/// One statement in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Step {
    /// Whose policy.
    pub policy: String,
    /// Number, from 1, and `Sid`.
    pub statement: String,
    /// Whether it allows; else it denies.
    pub allow: bool,
    /// Whether it is about this call.
    pub matched: bool,
    /// Which of its elements is not, or what follows from it.
    pub because: String,
}

impl fmt::Display for S3Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = if self.allow { "Allow" } else { "Deny" };
        let matched = if self.matched { "applies" } else { "does not apply" };
        write!(f, "{effect}: statement {} of {} {matched}: {}", self.statement, self.policy, self.because)
    }
}

impl fmt::Display for S3Verdict {
    /// The steps, a line each, and the outcome.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.trace {
            writeln!(f, "{step}")?;
        }
        write!(f, "{}: {}", if self.allowed { "allowed" } else { "denied" }, self.reason)
    }
}

/// Decides a call. `caller`: `None` without a signature. What nothing allows is denied.
///
/// `account`: what the policies of the project's account (IAM) say of the caller; `None`: they say nothing.
///
/// An explicit Deny of any policy wins, in whichever language it is; a root of the project may always read, replace and
/// remove the policy of a bucket whatever that says, so that nobody locks a project out of it. Each session policy must
/// allow. Then: without a signature, the bucket's policy must allow everybody, and must not be blocked; a key of nobody,
/// or of a sandbox, may all; a user may what a policy of the account allows. Beside that, one whose roles do not include
/// the object store may nothing; one without a policy may all; one with a policy what that or the bucket's allows.
pub fn decide_s3(caller: Option<&S3Grant>, question: &S3Question<'_>, account: Option<&Verdict>) -> S3Verdict {
    Decision::new(caller, question, account, false).run()
}

/// Decides as [`decide_s3`], and says of each statement in the AWS language whether it applies and why.
pub fn explain_s3(caller: Option<&S3Grant>, question: &S3Question<'_>, account: Option<&Verdict>) -> S3Verdict {
    Decision::new(caller, question, account, true).run()
}

struct Decision<'a> {
    call: Call<'a>,
    account: Option<&'a Verdict>,
    explain: bool,
    trace: Vec<S3Step>,
}

/// A call with what follows from it.
struct Call<'a> {
    caller: Option<&'a S3Grant>,
    question: &'a S3Question<'a>,
    /// The ARN of the resource.
    resource: String,
    /// The number of the action.
    action: Option<usize>,
}

/// Whose policy it is.
#[derive(Clone, Copy)]
enum Of<'a> {
    Bucket,
    User(&'a str),
    /// Number, from 1.
    Session(usize),
}

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Of::Bucket => f.write_str("the bucket's policy"),
            Of::User(name) => write!(f, "the policy of {name}"),
            Of::Session(1) => f.write_str("the session's policy"),
            Of::Session(number) => write!(f, "the session's policy {number}"),
        }
    }
}

/// What the statements of one policy say: the number, from 0, of the first that applies.
#[derive(Default, Clone, Copy)]
struct Says {
    deny: Option<usize>,
    allow: Option<usize>,
}

impl<'a> Decision<'a> {
    fn new(
        caller: Option<&'a S3Grant>,
        question: &'a S3Question<'a>,
        account: Option<&'a Verdict>,
        explain: bool,
    ) -> Decision<'a> {
        let resource = match (question.bucket, question.key) {
            (Some(bucket), Some(key)) => format!("{ARN}{bucket}/{key}"),
            (bucket, _) => format!("{ARN}{}", bucket.unwrap_or_default()),
        };
        let action = actions::number(question.action);
        Decision { call: Call { caller, question, resource, action }, account, explain, trace: Vec::new() }
    }

    fn run(mut self) -> S3Verdict {
        let outcome = self.outcome();
        let (allowed, reason) = match outcome {
            Ok(reason) => (true, reason),
            Err(reason) => (false, reason),
        };
        S3Verdict { allowed, reason, trace: self.trace }
    }

    /// Why it may, or why it may not.
    fn outcome(&mut self) -> Result<String, String> {
        let (caller, question) = (self.call.caller, self.call.question);
        if self.call.action.is_none() {
            return Err(format!("'{}' is not an action of S3", question.action));
        }
        if caller.is_some_and(|caller| caller.project != *question.project) {
            return Err("the caller is of another project".to_owned());
        }
        let user = caller.and_then(|caller| caller.user.as_ref());
        let bucket = question.bucket_policy.map(|policy| (Of::Bucket, policy));
        let bucket_says = self.ask(bucket);
        let users = caller.and_then(|caller| caller.user_policy.as_deref());
        let users = users.map(|policy| (Of::User(user.map_or("the user", |user| user.name.as_str())), policy));
        let user_says = self.ask(users);
        let mut sessions = Vec::new();
        for (number, policy) in (1..).zip(caller.map_or(&[][..], |caller| &caller.session_policies)) {
            let session = (Of::Session(number), &**policy);
            sessions.push((session, self.ask(Some(session))));
        }

        // A Deny of any of them.
        let guarded = caller.is_some_and(is_root) && POLICY_ACTIONS.contains(&question.action);
        if let (Some((of, policy)), Some(number), false) = (bucket, bucket_says.deny, guarded) {
            return Err(because("denied by", of, policy, number));
        }
        if let (Some((of, policy)), Some(number)) = (users, user_says.deny) {
            return Err(because("denied by", of, policy, number));
        }
        for ((of, policy), says) in &sessions {
            if let Some(number) = says.deny {
                return Err(because("denied by", *of, policy, number));
            }
        }
        if let Some(account) = self.account.filter(|account| account.is_denied()) {
            return Err(of_account(account));
        }
        // An Allow of each that narrows.
        if let Some(((of, _), _)) = sessions.iter().find(|(_, says)| says.allow.is_none()) {
            return Err(format!("{of} does not allow it"));
        }
        // An Allow of one that gives.
        let by_bucket =
            bucket.zip(bucket_says.allow).map(|((of, policy), number)| because("allowed by", of, policy, number));
        let Some(caller) = caller else {
            if question.public_blocked {
                return Err("not signed, and the bucket is closed to the public".to_owned());
            }
            return by_bucket
                .ok_or_else(|| "not signed, and no policy of the bucket allows it to everybody".to_owned());
        };
        let Some(user) = user else {
            return Ok(match caller.scope {
                Scope::Project => "a key of the project itself".to_owned(),
                Scope::Job(_) | Scope::Platform(_) => "a key of a sandbox of the project".to_owned(),
            });
        };
        let by_account = self.account.filter(|account| account.allowed).map(of_account);
        if !user.storage {
            return by_account.ok_or_else(|| format!("no role of {} includes the object store", user.name));
        }
        let Some((of, policy)) = users else {
            return Ok(format!("a role of {} includes the object store, and it has no policy", user.name));
        };
        if let Some(number) = user_says.allow {
            return Ok(because("allowed by", of, policy, number));
        }
        by_bucket.or(by_account).ok_or_else(|| format!("no policy of {} or of the bucket allows it", user.name))
    }

    fn ask(&mut self, policy: Option<(Of<'_>, &S3Policy)>) -> Says {
        let mut says = Says::default();
        let Some((of, policy)) = policy else { return says };
        for (index, statement) in policy.statements.iter().enumerate() {
            let missed = self.call.misses(statement);
            if missed.is_none() {
                let first = if statement.allow { &mut says.allow } else { &mut says.deny };
                first.get_or_insert(index);
            }
            if self.explain {
                self.trace.push(S3Step {
                    policy: of.to_string(),
                    statement: name_of(index + 1, statement.sid.as_deref()),
                    allow: statement.allow,
                    matched: missed.is_none(),
                    because: missed
                        .map_or_else(|| "all of it is about this call".to_owned(), |missed| missed.to_string()),
                });
            } else if says.deny.is_some() {
                break;
            }
        }
        says
    }
}

/// What the policies of the account say, beside those in the AWS language.
pub(crate) fn of_account(account: &Verdict) -> String {
    format!("IAM: {}", account.reason())
}

fn because(what: &str, of: Of<'_>, policy: &S3Policy, index: usize) -> String {
    let sid = policy.statements.get(index).and_then(|statement| statement.sid.as_deref());
    format!("{what} statement {} of {of}", name_of(index + 1, sid))
}

/// A key of nobody, used as it is: not from a sandbox, not narrowed, not in a role.
fn is_root(caller: &S3Grant) -> bool {
    caller.user.is_none()
        && caller.scope == Scope::Project
        && caller.session_policies.is_empty()
        && caller.role_session().is_none()
}

/// `aws:PrincipalArn`: of a session that of its role, and also that of its holder, for which a role of its own is no way
/// around what names it.
fn arns(caller: &S3Grant) -> Vec<Cow<'_, str>> {
    let Some((role, _)) = caller.role_session() else { return vec![Cow::Borrowed(caller.principal.as_str())] };
    let mut arns = vec![Cow::Owned(role_arn(&caller.project, role))];
    match (&caller.user, caller.scope) {
        (Some(user), _) => arns.push(Cow::Owned(user_arn(&caller.project, &user.name))),
        (None, Scope::Project) => arns.push(Cow::Owned(root_arn(&caller.project))),
        (None, Scope::Job(_) | Scope::Platform(_)) => {}
    }
    arns
}

/// The first element of a statement that is not about a call.
enum Missed<'a> {
    Principal,
    Action(bool),
    Resource(bool),
    Condition(&'a str, &'a str),
}

impl fmt::Display for Missed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Principal => f.write_str("Principal does not name the caller"),
            Missed::Action(false) => f.write_str("Action does not name the action"),
            Missed::Action(true) => f.write_str("NotAction names the action"),
            Missed::Resource(false) => f.write_str("Resource does not name the resource"),
            Missed::Resource(true) => f.write_str("NotResource names the resource"),
            Missed::Condition(operator, key) => write!(f, "the condition {operator} of {key} does not hold"),
        }
    }
}

impl Call<'_> {
    fn misses<'s>(&self, statement: &'s Statement) -> Option<Missed<'s>> {
        if !self.action.is_some_and(|action| statement.names_action(action)) {
            return Some(Missed::Action(statement.has_not_actions()));
        }
        if !self.is_named(&statement.principal, statement.allow) {
            return Some(Missed::Principal);
        }
        if !statement.names_resource(&self.resource, self) {
            return Some(Missed::Resource(statement.has_not_resources()));
        }
        statement
            .conditions
            .iter()
            .find(|condition| !condition.holds(self, statement.allow))
            .map(|condition| Missed::Condition(&condition.operator, &condition.key))
    }

    fn is_named(&self, principal: &Principal, allow: bool) -> bool {
        match principal {
            Principal::Holder => true,
            Principal::These(names) => names.iter().any(|name| self.has_name(name, !allow)),
            Principal::AllBut(names) => !names.iter().any(|name| self.has_name(name, false)),
        }
    }

    /// Whether a name is one of the caller's. `all_of_project`: the name of the project means all its callers; else it
    /// means those who act for the project itself, because to allow a project something leaves it to the policies of
    /// its users.
    fn has_name(&self, name: &Name, all_of_project: bool) -> bool {
        let Some(caller) = self.caller else { return *name == Name::Everybody };
        match name {
            Name::Everybody => true,
            Name::Project => all_of_project || caller.user.is_none(),
            // Of a session of its role too: or a user could shed a Deny by assuming the role.
            Name::User(name) => caller.user.as_ref().is_some_and(|user| user.name == *name),
            Name::Role(role) => caller.role_session().is_some_and(|(of, _)| of == role),
            Name::Session(role, session) => caller.role_session() == Some((role.as_str(), session.as_str())),
        }
    }

    fn given(&self, key: &str) -> Vec<Cow<'_, str>> {
        let given = self.question.context.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
        given.map(|(_, value)| Cow::Borrowed(*value)).collect()
    }
}

impl Keys for Call<'_> {
    /// Keys of the caller are what the caller is, whatever the context says.
    fn values(&self, key: &str) -> Vec<Cow<'_, str>> {
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if is("aws:username") {
            let user = self.caller.and_then(|caller| caller.user.as_ref());
            return user.map(|user| Cow::Borrowed(user.name.as_str())).into_iter().collect();
        }
        if is("aws:userid") {
            let id = self.caller.map_or_else(|| ANONYMOUS.to_owned(), S3Grant::user_id);
            return vec![Cow::Owned(id)];
        }
        if is("aws:PrincipalArn") {
            return self.caller.map(arns).unwrap_or_default();
        }
        if is("aws:PrincipalAccount") {
            return self.caller.map(|caller| Cow::Borrowed(caller.project.as_str())).into_iter().collect();
        }
        if is("aws:PrincipalType") {
            return vec![Cow::Borrowed(match self.caller {
                None => "Anonymous",
                Some(caller) if caller.role_session().is_some() => "AssumedRole",
                Some(caller) if caller.user.is_some() => "User",
                Some(_) => "Account",
            })];
        }
        if is("aws:ResourceAccount") || is("s3:ResourceAccount") {
            return vec![Cow::Borrowed(self.question.project.as_str())];
        }
        let given = self.given(key);
        if given.is_empty() && is("aws:EpochTime") {
            let now = self.given("aws:CurrentTime");
            let now = now.first().and_then(|now| date(now));
            return now.map(|now| Cow::Owned(now.as_second().to_string())).into_iter().collect();
        }
        given
    }
}

impl Variables for Call<'_> {
    fn value(&self, key: &str) -> Option<Cow<'_, str>> {
        let mut values = self.values(key);
        if values.len() == 1 { values.pop() } else { None }
    }
}

/// What a root may always do.
const POLICY_ACTIONS: [&str; 3] = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];
