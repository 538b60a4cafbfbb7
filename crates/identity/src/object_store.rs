//! The one decision about the object store, of policies in the AWS language and of those of the project's account (IAM)
//! together. Who asks there is a user of the project, whoever holds its key; a job; or the project itself.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use model::AccountId;

use crate::{
    Asked, Error, Explanation, Facts, Iam, Identity, Missed, Question, S3Grant, S3Policy, S3Question, S3Step,
    S3Verdict, Scope, StoragePlace, Subject, Unexplained, Urn, UrnKind, Verdict, policy, s3_action, storage_action,
};

/// What a bucket adds to a decision.
#[derive(Debug, Clone, Default)]
pub struct BucketRules {
    /// Its policy.
    pub policy: Option<Arc<S3Policy>>,
    /// Its public access block forbids what a policy opens to everybody.
    pub public_blocked: bool,
}

impl S3Grant {
    /// The URN by which policies of accounts name the holder: of a session or a token, who opened it. `None`: the platform's
    /// own key, which writes logs for the service and is named by none.
    pub fn urn(&self) -> Option<Urn> {
        match (&self.user, self.scope) {
            (Some(user), _) => Some(Urn::project_user(&self.project, &user.name)),
            (None, Scope::Project) => Some(Urn::project_identity(&self.project)),
            (None, Scope::Job(sandbox)) => Some(Urn::job(&self.project, &sandbox.job)),
            (None, Scope::Platform(_)) => None,
        }
    }
}

/// A call in the words of the policies of accounts.
struct InWords {
    iam: Arc<Iam>,
    identity: String,
    action: String,
    resource: String,
    facts: Facts,
}

impl InWords {
    /// `None`: no policy of the account may speak of the caller.
    fn of(caller: Option<&S3Grant>, question: &S3Question<'_>, at: Timestamp) -> Option<InWords> {
        let caller = caller.filter(|caller| caller.project == *question.project)?;
        let iam = caller.account_policies.clone()?;
        let address = question.context.iter().find(|(key, _)| key.eq_ignore_ascii_case("aws:SourceIp"));
        Some(InWords {
            iam,
            identity: caller.urn()?.to_string(),
            action: storage_action(question.action),
            resource: Urn::storage(question.project, question.bucket, question.key).to_string(),
            facts: Facts { at, source_ip: address.and_then(|(_, address)| address.parse::<IpAddr>().ok()) },
        })
    }

    fn question<'a>(&'a self, identities: &'a [&'a str]) -> Question<'a> {
        Question { identities, action: &self.action, resource: &self.resource, facts: self.facts }
    }
}

impl Identity {
    /// Decides a call to the object store at the time `at`; see [`crate::decide_s3`] for what wins over what. The address
    /// that conditions of the account's policies ask for is `aws:SourceIp` of the question.
    pub async fn decide_s3(
        &self,
        caller: Option<&S3Grant>,
        question: &S3Question<'_>,
        at: Timestamp,
    ) -> Result<S3Verdict, Error> {
        let says = self.account_says(caller, question, at).await?;
        Ok(policy::decide_s3(caller, question, says.as_deref()))
    }

    /// Decides as [`Identity::decide_s3`], and says of each statement and policy that it looked at whether it applies.
    pub async fn explain_s3(
        &self,
        caller: Option<&S3Grant>,
        question: &S3Question<'_>,
        at: Timestamp,
    ) -> Result<S3Verdict, Error> {
        let says = self.account_says(caller, question, at).await?;
        let mut verdict = policy::explain_s3(caller, question, says.as_deref());
        if let Some(words) = InWords::of(caller, question, at) {
            let told = words.iam.explain(&words.question(&[&words.identity]))?;
            verdict.trace.extend(steps(&told));
        }
        Ok(verdict)
    }

    /// What the policies of the project's account say; `None`: none may speak of the caller.
    async fn account_says(
        &self,
        caller: Option<&S3Grant>,
        question: &S3Question<'_>,
        at: Timestamp,
    ) -> Result<Option<Arc<Verdict>>, Error> {
        let Some(words) = InWords::of(caller, question, at) else { return Ok(None) };
        let verdict = self.verdict(Arc::clone(&words.iam), &words.question(&[&words.identity])).await?;
        Ok(Some(verdict))
    }

    /// The grant with the policies of the project's account, as they are in the database now, if one may speak of it.
    pub(crate) async fn with_account_policies(&self, grant: S3Grant) -> Result<S3Grant, Error> {
        let Some(urn) = grant.urn() else { return Ok(grant) };
        let Some(contacts) = self.contacts(&grant.project).await? else { return Ok(grant) };
        let iam = self.iam_now(&contacts.admin).await?;
        let account_policies = iam.speaks_of_storage(urn.as_str()).then_some(iam);
        Ok(S3Grant { account_policies, ..grant })
    }

    /// Explains a call to the object store by the policies of the project's account `owner` as they were at that time; what is
    /// in the AWS language is taken as it is now.
    pub(crate) async fn explain_storage(
        &self,
        asked: &Asked,
        owner: &AccountId,
        place: &StoragePlace,
        bucket: &BucketRules,
    ) -> Result<Explanation, Unexplained> {
        let Some(action) = s3_action(&asked.action) else {
            return Ok(Explanation::unreachable(format!("{} is not an action of the object store", asked.action)));
        };
        let who = asked.identities.first().map(String::as_str).unwrap_or_default();
        let urn = Urn::parse(who).map_err(|_| Unexplained::NotUrn { given: who.to_owned(), kind: "an identity" })?;
        if !urn.subtype().starts_with("publicCloud") {
            let why = "the object store knows users of projects (urn:v1:eu:identity:publicCloudUser:PROJECT/NAME), jobs and \
                       the project itself";
            return Ok(Explanation::unreachable(why.to_owned()));
        }
        let of_another = || Ok(Explanation::unreachable("the identity is of another project".to_owned()));
        // Before it is looked up: who there is in another project is not told.
        if urn.id().split('/').next() != Some(place.project.as_str()) {
            return of_another();
        }
        let Some(mut caller) = self.grant_of_urn(&urn).await? else {
            return Err(Unexplained::NotKnownByUrn { urn: who.to_owned() });
        };
        let iam = Arc::new(self.iam_at(owner, asked.facts.at).await?);
        caller.account_policies = Some(Arc::clone(&iam));
        let now = asked.facts.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let address = asked.facts.source_ip.map(|address| address.to_string());
        let mut context = vec![("aws:CurrentTime", now.as_str())];
        context.extend(address.as_deref().map(|address| ("aws:SourceIp", address)));
        let question = place.question(action, bucket, &context);
        let Some(words) = InWords::of(Some(&caller), &question, asked.facts.at) else {
            return of_another();
        };
        let identities = [words.identity.as_str()];
        let says = iam.decide(&words.question(&identities)).map_err(Error::from)?;
        let told = iam.explain(&words.question(&identities)).map_err(Error::from)?;
        let verdict = policy::explain_s3(Some(&caller), &question, Some(&says));
        let by_account = verdict.reason == policy::of_account(&says);
        let allowing = Verdict { allowed: true, deciding: Vec::new() };
        let otherwise = policy::decide_s3(Some(&caller), &question, Some(&allowing));
        let change = match (by_account, verdict.allowed, otherwise.allowed) {
            (true, ..) | (false, false, true) => told.change,
            (false, true, _) => vec![format!("to refuse it, a policy of the account must deny {}", asked.action)],
            (false, false, false) => vec![format!("to allow it, this must change: {}", otherwise.reason)],
        };
        Ok(Explanation {
            allowed: verdict.allowed,
            deciding: if by_account { told.deciding } else { Vec::new() },
            spoke: told.spoke,
            missed: told.missed,
            change,
            reason: Some(verdict.reason),
            steps: verdict.trace,
        })
    }

    /// Whether a subject may do an action on what a URN names in the object store; no other subjects than users of projects
    /// and projects themselves may anything there. `bucket`: what the bucket adds.
    pub async fn may_s3(
        &self,
        subject: &Subject,
        action: &str,
        urn: &Urn,
        bucket: &BucketRules,
        at: Timestamp,
    ) -> Result<bool, Error> {
        let (Some(action), Some(place)) = (s3_action(action), urn.as_storage()) else { return Ok(false) };
        let who = subject.identities.first().and_then(|who| Urn::parse(who).ok());
        let Some(who) = who else { return Ok(false) };
        let Some(caller) = self.grant_of_urn(&who).await? else { return Ok(false) };
        let now = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let address = subject.source_ip.map(|address| address.to_string());
        let mut context = vec![("aws:CurrentTime", now.as_str())];
        context.extend(address.as_deref().map(|address| ("aws:SourceIp", address)));
        Ok(self.decide_s3(Some(&caller), &place.question(action, bucket, &context), at).await?.allowed)
    }

    /// What the user of a project, or the project itself, of that URN may do in the object store; `None`: it is nobody who
    /// can be known there by a URN. What a job may is bound by the keys of its attempt, and so is not known by one.
    pub async fn grant_of_urn(&self, urn: &Urn) -> Result<Option<S3Grant>, Error> {
        match (urn.kind(), urn.subtype()) {
            (UrnKind::Identity, "publicCloudUser") => {
                let name = urn.id().split_once('/').map_or("", |(_, name)| name);
                Ok(self.grant_of_user(name).await?.filter(|grant| grant.urn().as_ref() == Some(urn)))
            }
            (UrnKind::Identity, "publicCloudProject") => match urn.id().parse() {
                Ok(project) => self.grant_of_project(&project).await,
                Err(_) => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

impl StoragePlace {
    /// A call on it.
    pub(crate) fn question<'a>(
        &'a self,
        action: &'a str,
        bucket: &'a BucketRules,
        context: &'a [(&'a str, &'a str)],
    ) -> S3Question<'a> {
        S3Question {
            project: &self.project,
            action,
            bucket: self.bucket.as_ref().map(|bucket| bucket.as_str()),
            key: self.key.as_deref(),
            bucket_policy: bucket.policy.as_deref(),
            context,
            public_blocked: bucket.public_blocked,
        }
    }
}

/// What an explanation of the account's policies says of each of them.
fn steps(told: &Explanation) -> impl Iterator<Item = S3Step> {
    let step = |ruling: &crate::Ruling, matched: bool, because: &str| S3Step {
        policy: "the account's policies (IAM)".to_owned(),
        statement: match &ruling.permissions_group {
            None => format!("'{}' ({})", ruling.name, ruling.policy),
            Some(group) => format!("'{}' ({}) by {group}", ruling.name, ruling.policy),
        },
        allow: ruling.effect == crate::Effect::Allow,
        matched,
        because: because.to_owned(),
    };
    let spoke = told.spoke.iter().map(move |ruling| step(ruling, true, "all of it is about this call"));
    let missed = told.missed.iter().map(move |Missed { ruling, because }| step(ruling, false, because));
    spoke.chain(missed)
}
