//! In whose name something is done later, when nobody calls. Who that is, is remembered; what they may, is asked each time.

use jiff::Timestamp;
use model::{AccountId, Principal, ProjectId};

use crate::{Caller, Decision, Error, Identity, Resource, Subject, Urn, Who, user_urn};

impl Caller {
    /// Whom to ask about later. `None` for somebody whom a provider vouches for: the provider says who they are while their
    /// session lasts, and nothing after.
    pub fn principal(&self) -> Option<Principal> {
        let person = match &self.who {
            Who::Account | Who::Client { .. } => None,
            Who::User { id, .. } => Some(*id),
            Who::Federated { .. } => return None,
        };
        let urn = self.identities().into_iter().next()?;
        Some(Principal { account: self.account.clone(), urn, person })
    }
}

impl Identity {
    /// A principal as it is now, with its groups of now, calling from nowhere: no condition on an address holds. `None` where
    /// it is not there any more, is disabled, or another one has its name.
    pub async fn subject_of(&self, principal: &Principal) -> Result<Option<Subject>, Error> {
        let account = &principal.account;
        if self.account(account).await?.is_none() {
            return Ok(None);
        }
        if let Some(number) = principal.person
            && !self.is_still(account, number, &principal.urn).await?
        {
            return Ok(None);
        }
        match Urn::parse(&principal.urn) {
            Ok(urn) => self.subject(account, &urn, None).await,
            Err(_) => Err(Error::Damaged { what: "owner" }),
        }
    }

    /// Decides whether a principal may do `action` on a project at a time; `None` where it is not there.
    pub async fn may(
        &self,
        principal: &Principal,
        action: &str,
        project: &ProjectId,
        at: Timestamp,
    ) -> Result<Option<Decision>, Error> {
        let Some(subject) = self.subject_of(principal).await? else { return Ok(None) };
        self.decide_for(&subject, action, Resource::Project(project.clone()), at).await.map(Some)
    }

    /// Whether a user of that number has that URN and may log in.
    async fn is_still(&self, account: &AccountId, number: i64, urn: &str) -> Result<bool, Error> {
        let people = self.people(Some(account)).await?;
        let found = people.iter().find(|person| person.id == number);
        Ok(found.is_some_and(|person| person.enabled && user_urn(account, &person.login) == urn))
    }
}
