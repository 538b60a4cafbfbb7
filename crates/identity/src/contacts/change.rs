//! Changes of contacts: asked for by the administrative contact, agreed to by who is the contact and who is to be it, each
//! with a token that only its own mailbox has.

use audit::{Actor, Entry};
use db::{Tx, contacts::Change};
use jiff::{SignedDuration, Timestamp};
use model::{AccountId, ProjectId};
use zeroize::Zeroizing;

use super::ContactKind;
use crate::{Error, Identity, random};

/// Who is to be a contact; `None` leaves who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewContacts {
    /// The administrative one.
    pub admin: Option<AccountId>,
    /// The one for bills.
    pub billing: Option<AccountId>,
    /// The technical one.
    pub tech: Option<AccountId>,
}

impl NewContacts {
    fn of(&self, kind: ContactKind) -> Option<&AccountId> {
        match kind {
            ContactKind::Admin => self.admin.as_ref(),
            ContactKind::Billing => self.billing.as_ref(),
            ContactKind::Tech => self.tech.as_ref(),
        }
    }
}

/// Where a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeState {
    /// One side or both have to agree.
    ValidatingByCustomers,
    /// Both agreed; the contacts are changed.
    Done,
    /// One side refused.
    Refused,
    /// Not both agreed within seven days.
    Expired,
    /// A later change took its place, or the contact of that kind or the administrative one is another by now.
    Aborted,
}

impl ChangeState {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeState::ValidatingByCustomers => "validatingByCustomers",
            ChangeState::Done => "done",
            ChangeState::Refused => "refused",
            ChangeState::Expired => "expired",
            ChangeState::Aborted => "aborted",
        }
    }

    fn parse(word: &str) -> Result<ChangeState, Error> {
        use ChangeState as S;
        [S::ValidatingByCustomers, S::Done, S::Refused, S::Expired, S::Aborted]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(Error::Damaged { what: "state of a change of contacts" })
    }
}

/// A change of contacts of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactChange {
    /// Its number.
    pub id: i64,
    /// The project.
    pub project: ProjectId,
    /// Who asked for it.
    pub asking: AccountId,
    /// Who is the contact.
    pub from: AccountId,
    /// Who is to be it.
    pub to: AccountId,
    /// Of which kinds.
    pub kinds: Vec<ContactKind>,
    /// Where it stands.
    pub state: ChangeState,
    /// When it was asked for.
    pub requested: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// What a side answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accept,
    Refuse,
}

impl Identity {
    /// Asks for other contacts of projects, all of them or none: one change for each project and each pair of who is the
    /// contact and who is to be it. Changes that wait for the same contacts are aborted. The numbers of the new ones.
    pub async fn change_contacts(
        &self,
        projects: &[ProjectId],
        new: &NewContacts,
        asking: &AccountId,
        by: &Actor,
    ) -> Result<Vec<i64>, Error> {
        let mut tx = self.db.begin().await?;
        for (kind, account) in ContactKind::ALL.into_iter().filter_map(|kind| Some((kind, new.of(kind)?))) {
            if self.account(account).await?.is_none() {
                return Err(Error::Invalid { field: kind.as_str(), rule: "the id of an account of this service" });
            }
        }
        let mut made = Vec::new();
        for project in projects {
            made.extend(self.change_contacts_of(&mut tx, project, new, asking, by).await?);
        }
        let today = db::contacts::count_changes(&mut tx, asking, crate::now() - SignedDuration::from_hours(24)).await?;
        if today > MOST_IN_A_DAY {
            // Each writes to the mailbox of somebody else.
            return Err(Error::TooMany {
                what: "changes of contacts that an account asks for in a day",
                limit: MOST_IN_A_DAY as usize,
            });
        }
        tx.commit().await?;
        Ok(made)
    }

    async fn change_contacts_of(
        &self,
        tx: &mut Tx,
        project: &ProjectId,
        new: &NewContacts,
        asking: &AccountId,
        by: &Actor,
    ) -> Result<Vec<i64>, Error> {
        let contacts = db::contacts::find_in(tx, project).await?.map(super::Contacts::from);
        let contacts = contacts.ok_or_else(|| Error::NotFound { kind: "project", id: project.to_string() })?;
        let mut pairs: Vec<(&AccountId, &AccountId, Vec<ContactKind>)> = Vec::new();
        for kind in ContactKind::ALL {
            let (from, Some(to)) = (contacts.of(kind), new.of(kind)) else { continue };
            match pairs.iter_mut().find(|pair| (pair.0, pair.1) == (from, to)) {
                _ if from == to => {}
                Some(pair) => pair.2.push(kind),
                None => pairs.push((from, to, vec![kind])),
            }
        }
        let asked: Vec<ContactKind> = pairs.iter().flat_map(|pair| pair.2.iter().copied()).collect();
        for mut old in db::contacts::waiting_changes(tx, project).await? {
            if kinds(&old.kinds)?.iter().any(|kind| asked.contains(kind)) {
                self.end(tx, &mut old, ChangeState::Aborted, by).await?;
            }
        }
        let mut made = Vec::new();
        for (from, to, kinds) in pairs {
            let now = crate::now();
            let mut change = Change {
                id: 0,
                project: project.clone(),
                asking: asking.clone(),
                from: from.clone(),
                to: to.clone(),
                kinds: kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" "),
                state: ChangeState::ValidatingByCustomers.as_str().to_owned(),
                from_token: None,
                to_token: None,
                requested: now,
                expires: now + GOOD_FOR,
                ended: None,
            };
            change.id = db::contacts::insert_change(tx, &change).await?;
            change.from_token = Some(self.send_token(tx, &change, &change.from).await?);
            change.to_token = Some(self.send_token(tx, &change, &change.to).await?);
            db::contacts::update_change(tx, &change).await?;
            self.audit.record_in(tx, &entry(by, "project.contacts.changeRequested", &change)).await?;
            made.push(change.id);
        }
        Ok(made)
    }

    /// The changes that an account asked for or is a side of, oldest first.
    pub async fn contact_changes(&self, account: &AccountId) -> Result<Vec<ContactChange>, Error> {
        let now = Timestamp::now();
        db::contacts::list_changes(&self.db, account).await?.into_iter().map(|row| read(row, now)).collect()
    }

    /// Agrees to a change, for the side of this account, by its token. When both have, the contacts are changed.
    pub async fn accept_contact_change(
        &self,
        account: &AccountId,
        id: i64,
        token: &str,
        by: &Actor,
    ) -> Result<(), Error> {
        self.answer(account, id, token, Answer::Accept, by).await
    }

    /// Refuses a change, for the side of this account, by its token.
    pub async fn refuse_contact_change(
        &self,
        account: &AccountId,
        id: i64,
        token: &str,
        by: &Actor,
    ) -> Result<(), Error> {
        self.answer(account, id, token, Answer::Refuse, by).await
    }

    async fn answer(&self, account: &AccountId, id: i64, token: &str, answer: Answer, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let mut change = waiting(&mut tx, account, id).await?;
        let side = side(&mut change, account);
        // One that was used is gone, and so no token is right any more.
        let right = side.as_ref().is_some_and(|right| crypto::equal(right, &random::sha256(token)));
        if !right {
            drop(tx);
            let mut refused = entry(by, "project.contacts.changeAnswered", &change);
            refused.decision = audit::Decision::Refused;
            "the token is another, or was used".clone_into(&mut refused.result);
            self.audit.record(refused).await?;
            return Err(Error::AccessDenied { what: "the token is another, or was used".to_owned() });
        }
        *side = None;
        match answer {
            Answer::Refuse => self.end(&mut tx, &mut change, ChangeState::Refused, by).await?,
            Answer::Accept if change.from_token.is_none() && change.to_token.is_none() => {
                self.apply(&mut tx, &mut change, by).await?;
            }
            Answer::Accept => {
                db::contacts::update_change(&mut tx, &change).await?;
                self.audit.record_in(&mut tx, &entry(by, "project.contacts.changeAccepted", &change)).await?;
            }
        }
        // The policies of another account may decide from now on.
        self.commit_grants(tx).await
    }

    /// Sends the side of this account another token; the one of before is good no more.
    pub async fn resend_contact_change(&self, account: &AccountId, id: i64, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let mut change = waiting(&mut tx, account, id).await?;
        if side(&mut change, account).is_none() {
            return Err(Error::InUse { what: "this side has agreed already" });
        }
        let hash = self.send_token(&mut tx, &change, account).await?;
        *side(&mut change, account) = Some(hash);
        db::contacts::update_change(&mut tx, &change).await?;
        self.audit.record_in(&mut tx, &entry(by, "project.contacts.changeSentAgain", &change)).await?;
        Ok(tx.commit().await?)
    }

    /// Changes the contacts, if they are still those of whom it was asked.
    async fn apply(&self, tx: &mut Tx, change: &mut Change, by: &Actor) -> Result<(), Error> {
        let contacts = db::contacts::find_in(tx, &change.project).await?;
        let mut contacts = contacts.ok_or(Error::Damaged { what: "contacts of a project" })?;
        for kind in kinds(&change.kinds)? {
            let contact = match kind {
                ContactKind::Admin => &mut contacts.admin,
                ContactKind::Billing => &mut contacts.billing,
                ContactKind::Tech => &mut contacts.tech,
            };
            if *contact != change.from {
                return self.end(tx, change, ChangeState::Aborted, by).await;
            }
            contact.clone_from(&change.to);
        }
        db::contacts::set(tx, &change.project, &contacts).await?;
        self.end(tx, change, ChangeState::Done, by).await?;
        if kinds(&change.kinds)?.contains(&ContactKind::Admin) {
            // What the one before asked for is not what the new one wants.
            for mut other in db::contacts::waiting_changes(tx, &change.project).await? {
                self.end(tx, &mut other, ChangeState::Aborted, by).await?;
            }
        }
        Ok(())
    }

    async fn end(&self, tx: &mut Tx, change: &mut Change, state: ChangeState, by: &Actor) -> Result<(), Error> {
        state.as_str().clone_into(&mut change.state);
        (change.from_token, change.to_token) = (None, None);
        change.ended = Some(crate::now());
        db::contacts::update_change(tx, change).await?;
        Ok(self.audit.record_in(tx, &entry(by, "project.contacts.changeEnded", change)).await?)
    }

    /// Puts a new token into the mailbox of one side; its hash.
    async fn send_token(&self, tx: &mut Tx, change: &Change, side: &AccountId) -> Result<Vec<u8>, Error> {
        let token = random::hex::<32>()?;
        let Change { id, project, asking, from, to, kinds, expires, .. } = change;
        let subject = format!("Change of contacts of project {project}");
        let body = Zeroizing::new(format!(
            "{asking} asks that {to} takes the place of {from} as {kinds} of the project {project}.\n\n\
             To agree:  POST /me/task/contactChange/{id}/accept\n\
             To refuse: POST /me/task/contactChange/{id}/refuse\n\n\
             Token: {}\n\nIt is good once, until {expires}, for {side} alone.\n",
            *token
        ));
        self.notify_in(tx, side, &subject, &body).await?;
        Ok(random::sha256(&token))
    }
}

/// The token of the side of this account.
fn side<'a>(change: &'a mut Change, account: &AccountId) -> &'a mut Option<Vec<u8>> {
    if change.from == *account { &mut change.from_token } else { &mut change.to_token }
}

/// A change that waits for this account.
async fn waiting(tx: &mut Tx, account: &AccountId, id: i64) -> Result<Change, Error> {
    let change = db::contacts::find_change(tx, id).await?;
    let change = change.filter(|change| change.from == *account || change.to == *account);
    let change = change.ok_or_else(|| Error::NotFound { kind: "id", id: id.to_string() })?;
    match state_at(&change, Timestamp::now())? {
        ChangeState::ValidatingByCustomers => Ok(change),
        ChangeState::Done | ChangeState::Refused | ChangeState::Expired | ChangeState::Aborted => {
            Err(Error::InUse { what: "the change has ended" })
        }
    }
}

fn state_at(change: &Change, now: Timestamp) -> Result<ChangeState, Error> {
    match ChangeState::parse(&change.state)? {
        ChangeState::ValidatingByCustomers if change.expires <= now => Ok(ChangeState::Expired),
        state => Ok(state),
    }
}

fn read(row: Change, now: Timestamp) -> Result<ContactChange, Error> {
    let state = state_at(&row, now)?;
    let ended = if state == ChangeState::Expired { Some(row.expires) } else { row.ended };
    Ok(ContactChange {
        kinds: kinds(&row.kinds)?,
        id: row.id,
        project: row.project,
        asking: row.asking,
        from: row.from,
        to: row.to,
        state,
        requested: row.requested,
        ended,
    })
}

fn kinds(words: &str) -> Result<Vec<ContactKind>, Error> {
    let kind = |word: &str| ContactKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    words.split(' ').map(|word| kind(word).ok_or(Error::Damaged { what: "kind of a contact" })).collect()
}

fn entry(by: &Actor, action: &str, change: &Change) -> Entry {
    let mut entry = Entry::new(by.clone(), action, format!("project/{}", change.project));
    change.state.clone_into(&mut entry.result);
    entry.detail = serde_json::json!({
        "change": change.id,
        "asking": change.asking,
        "from": change.from,
        "to": change.to,
        "contacts": change.kinds,
    });
    entry
}

const MOST_IN_A_DAY: i64 = 200;
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
