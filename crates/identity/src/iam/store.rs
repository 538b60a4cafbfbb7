//! Documents and tags of accounts: made, changed and read, each change in one transaction with its audit entry; and the
//! policies in memory, read again after a change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use audit::{Actor, Entry};
use db::iam::{Document, Tag};
use jiff::Timestamp;
use model::AccountId;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Actions, Body, Draft, Iam, Kind, Urn, urn::RESOURCE_GROUP_PREFIX};
use crate::{Account, ContactKind, Error, Identity, Project, accounts::exists};

/// A policy, resource group or permissions group of an account.
#[derive(Debug, Clone, PartialEq)]
pub struct IamDocument {
    /// Its id, a UUID.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What it says, as the client wrote it.
    pub given: Map<String, Value>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed; `None`: never.
    pub updated: Option<Timestamp>,
}

/// A resource of an account that policies can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IamResource {
    /// Its URN.
    pub urn: Urn,
    /// A UUID, always the same for one URN.
    pub id: Uuid,
    /// Its name for people.
    pub name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Identity {
    /// Makes a document. Its actions have to be some of `actions`; groups that it names have to be there.
    pub async fn create_iam(
        &self,
        account: &AccountId,
        kind: Kind,
        body: &Value,
        actions: &Actions,
        by: &Actor,
    ) -> Result<IamDocument, Error> {
        let draft = Draft::parse(kind, body, actions)?;
        let now = crate::now();
        let document = Document {
            id: Uuid::now_v7().to_string(),
            kind,
            name: draft.name.clone(),
            text: Value::Object(draft.given.clone()).to_string(),
            created: now,
            since: now,
        };
        let mut tx = self.db.begin().await?;
        if db::iam::count(&mut tx, account, kind).await? >= MOST_DOCUMENTS {
            return Err(Error::TooMany { what: plural(kind), limit: MOST_DOCUMENTS as usize });
        }
        let all = db::iam::in_force_now(&mut tx, account).await?;
        check_groups(&draft, account, &all)?;
        check_bounds(&draft, &document, all.iter())?;
        let inserted = db::iam::insert(&mut tx, account, &document).await;
        inserted.map_err(|fault| exists(fault, kind.as_str(), &document.name))?;
        self.record_iam(&mut tx, account, "created", &document, None, by).await?;
        tx.commit().await?;
        self.iam_changed(account);
        read(document)
    }

    /// Changes a document to what is given, whole.
    pub async fn replace_iam(
        &self,
        account: &AccountId,
        kind: Kind,
        id: &str,
        body: &Value,
        actions: &Actions,
        by: &Actor,
    ) -> Result<IamDocument, Error> {
        let draft = Draft::parse(kind, body, actions)?;
        let mut tx = self.db.begin().await?;
        let all = db::iam::in_force_now(&mut tx, account).await?;
        let before = all.iter().find(|known| known.kind == kind && known.id == id).ok_or_else(|| absent(kind, id))?;
        check_groups(&draft, account, &all)?;
        let document = Document {
            id: before.id.clone(),
            kind,
            name: draft.name.clone(),
            text: Value::Object(draft.given.clone()).to_string(),
            created: before.created,
            // Two changes of one microsecond would leave one that was never in force.
            since: crate::now().max(before.since + jiff::SignedDuration::from_micros(1)),
        };
        check_bounds(&draft, &document, all.iter().filter(|known| !(known.kind == kind && known.id == id)))?;
        db::iam::end(&mut tx, account, kind, id, document.since).await?;
        let inserted = db::iam::insert(&mut tx, account, &document).await;
        inserted.map_err(|fault| exists(fault, kind.as_str(), &document.name))?;
        self.record_iam(&mut tx, account, "changed", &document, Some(before), by).await?;
        tx.commit().await?;
        self.iam_changed(account);
        read(document)
    }

    /// Removes a document; a group that a policy names stays.
    pub async fn delete_iam(&self, account: &AccountId, kind: Kind, id: &str, by: &Actor) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let all = db::iam::in_force_now(&mut tx, account).await?;
        let before = all.iter().find(|known| known.kind == kind && known.id == id).ok_or_else(|| absent(kind, id))?;
        let urn = document_urn(account, kind, id);
        for policy in all.iter().filter(|known| known.kind == Kind::Policy && kind != Kind::Policy) {
            let draft = Draft::stored(Kind::Policy, &policy.text).ok_or(DAMAGED)?;
            if let Body::Policy(read) = &draft.body {
                let in_resources = read.resources.iter().any(|pattern| pattern.as_str() == urn);
                if in_resources || read.permissions_groups.contains(&urn) {
                    return Err(Error::StillUsed {
                        what: urn,
                        by: format!("policy '{}' ({})", policy.name, policy.id),
                    });
                }
            }
        }
        db::iam::end(&mut tx, account, kind, id, crate::now()).await?;
        self.record_iam(&mut tx, account, "deleted", before, None, by).await?;
        tx.commit().await?;
        self.iam_changed(account);
        Ok(())
    }

    /// A document of an account.
    pub async fn iam_document(&self, account: &AccountId, kind: Kind, id: &str) -> Result<IamDocument, Error> {
        let found = db::iam::find(&self.db, account, kind, id).await?;
        read(found.ok_or_else(|| absent(kind, id))?)
    }

    /// Documents of an account, oldest first, at most so many, after the one of id `after`.
    pub async fn iam_documents(
        &self,
        account: &AccountId,
        kind: Kind,
        after: Option<&str>,
        most: u32,
    ) -> Result<Vec<IamDocument>, Error> {
        db::iam::page(&self.db, account, kind, after, most).await?.into_iter().map(read).collect()
    }

    /// Those resource groups of an account that have one of these URNs.
    pub async fn resource_groups_named(&self, account: &AccountId, urns: &[&str]) -> Result<Vec<IamDocument>, Error> {
        let ids: Vec<&str> = urns.iter().filter_map(|urn| urn.strip_prefix(RESOURCE_GROUP_PREFIX)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        db::iam::named(&self.db, account, Kind::ResourceGroup, &ids).await?.into_iter().map(read).collect()
    }

    /// The resources that the policies and tags of an account decide about: itself, and the projects of which it is the
    /// administrative contact.
    pub async fn iam_resources(&self, account: &AccountId) -> Result<Vec<IamResource>, Error> {
        let Some(own) = self.account(account).await? else { return Ok(Vec::new()) };
        let projects = self.projects_of_contact(account, &[ContactKind::Admin]).await?;
        let tags = db::iam::tags(&self.db, account, None).await?;
        Ok(resources(Some(own), projects, tags))
    }

    /// Those of them that have one of these URNs.
    pub async fn iam_resources_named(&self, account: &AccountId, urns: &[&str]) -> Result<Vec<IamResource>, Error> {
        let own = match urns.contains(&Urn::account(account).as_str()) {
            true => self.account(account).await?,
            false => None,
        };
        let prefix = format!("{}resource:publicCloudProject:", super::URN_PREFIX);
        let ids: Vec<&str> = urns.iter().filter_map(|urn| urn.strip_prefix(&prefix)).collect();
        let projects = db::accounts::projects_named(&self.db, account, &ids).await?;
        let tags = db::iam::tags_of_named(&self.db, account, urns).await?;
        Ok(resources(own, projects, tags))
    }

    /// One of them.
    pub async fn iam_resource(&self, account: &AccountId, urn: &str) -> Result<IamResource, Error> {
        let found = self.iam_resources_named(account, &[urn]).await?;
        found.into_iter().next().ok_or_else(|| no_resource(urn))
    }

    /// Gives a resource these tags and no others. Names and values: letters, digits and `_.:/=+@-`.
    pub async fn set_iam_tags(
        &self,
        account: &AccountId,
        urn: &str,
        tags: &BTreeMap<String, String>,
        by: &Actor,
    ) -> Result<(), Error> {
        self.iam_resource(account, urn).await?;
        self.change_tags(account, urn, by, |_| Ok(tags.clone())).await
    }

    /// Gives a resource a tag, or another value to one that it has.
    pub async fn set_iam_tag(
        &self,
        account: &AccountId,
        urn: &str,
        key: &str,
        value: &str,
        by: &Actor,
    ) -> Result<(), Error> {
        self.iam_resource(account, urn).await?;
        let add = |mut tags: BTreeMap<String, String>| {
            tags.insert(key.to_owned(), value.to_owned());
            Ok(tags)
        };
        self.change_tags(account, urn, by, add).await
    }

    /// Takes a tag from a resource.
    pub async fn delete_iam_tag(&self, account: &AccountId, urn: &str, key: &str, by: &Actor) -> Result<(), Error> {
        let remove = |mut tags: BTreeMap<String, String>| match tags.remove(key) {
            Some(_) => Ok(tags),
            None => Err(Error::NotFound { kind: "tag", id: key.chars().take(80).collect() }),
        };
        self.change_tags(account, urn, by, remove).await
    }

    async fn change_tags(
        &self,
        account: &AccountId,
        urn: &str,
        by: &Actor,
        change: impl FnOnce(BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> + Send,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let before = db::iam::tags_of(&mut tx, account, urn).await?;
        let before: BTreeMap<String, String> = before.into_iter().map(|tag| (tag.key, tag.value)).collect();
        let after = change(before.clone())?;
        check_tags(&after)?;
        let now = crate::now();
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            db::iam::end_tag(&mut tx, account, urn, key, now).await?;
        }
        for (key, value) in &after {
            let tag = Tag { urn: urn.to_owned(), key: key.clone(), value: value.clone() };
            db::iam::set_tag(&mut tx, account, &tag, now).await?;
        }
        let mut entry = Entry::new(by.clone(), "iam.resource.tagged", urn);
        entry.detail = serde_json::json!({ "before": before, "tags": after });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        self.iam_changed(account);
        Ok(())
    }

    /// The policies of an account as they are now.
    pub async fn iam(&self, account: &AccountId) -> Result<Arc<Iam>, Error> {
        match self.iam.fresh(account) {
            Some(known) => Ok(known),
            None => self.iam_now(account).await,
        }
    }

    /// The same, asked of the database whether they are still so: for one who keeps them.
    pub(crate) async fn iam_now(&self, account: &AccountId) -> Result<Arc<Iam>, Error> {
        let begun = Instant::now();
        // Before the documents: a change that comes between is seen the next time.
        let change = db::iam::change(&self.db, account).await?;
        if let Some(known) = self.iam.unchanged(account, change, begun) {
            return Ok(known);
        }
        let iam = Arc::new(self.load_iam(account, None).await?);
        self.iam.keep(account, &iam, change, begun);
        Ok(iam)
    }

    /// Forgets what was known of the policies of an account, also where they go with a grant of the object store.
    fn iam_changed(&self, account: &AccountId) {
        self.iam.changed(account);
        self.cache.changed();
    }

    /// The policies of an account as they were at a time.
    pub async fn iam_at(&self, account: &AccountId, at: Timestamp) -> Result<Iam, Error> {
        self.load_iam(account, Some(at)).await
    }

    async fn load_iam(&self, account: &AccountId, at: Option<Timestamp>) -> Result<Iam, Error> {
        let documents = db::iam::in_force(&self.db, account, at).await?;
        let tags = by_urn(db::iam::tags(&self.db, account, at).await?);
        let account = account.clone();
        // A thousand policies take some milliseconds to read.
        let built = tokio::task::spawn_blocking(move || {
            let drafts = documents.into_iter().map(|document| {
                let draft = Draft::stored(document.kind, &document.text).ok_or(DAMAGED)?;
                Ok((document.id, draft))
            });
            let drafts = drafts.collect::<Result<Vec<_>, Error>>()?;
            Ok(Iam::new(drafts, &account, tags)?)
        });
        built.await.unwrap_or(Err(DAMAGED))
    }

    async fn record_iam(
        &self,
        tx: &mut db::Tx,
        account: &AccountId,
        verb: &str,
        document: &Document,
        before: Option<&Document>,
        by: &Actor,
    ) -> Result<(), Error> {
        let kind = document.kind.as_str();
        let urn = document_urn(account, document.kind, &document.id);
        let mut entry = Entry::new(by.clone(), format!("iam.{kind}.{verb}"), urn);
        let value = |document: &Document| serde_json::from_str::<Value>(&document.text).unwrap_or_default();
        entry.detail = serde_json::json!({ "document": value(document) });
        if let Some(before) = before {
            entry.detail["before"] = value(before);
        }
        Ok(self.audit.record_in(tx, &entry).await?)
    }
}

impl IamDocument {
    /// Its URN; a policy has none of its own in the old service, ours is for the audit log.
    pub fn urn(&self, account: &AccountId) -> String {
        document_urn(account, self.kind, &self.id)
    }
}

/// Policies in memory, by account. What this process changes is seen at once, what another one changes after [`OLDEST`].
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<AccountId, Snapshot>,
    /// When this process last changed something: what was read before is not used after.
    changed: HashMap<AccountId, Instant>,
}

#[derive(Debug)]
struct Snapshot {
    iam: Arc<Iam>,
    change: i64,
    read: Instant,
}

impl Snapshots {
    fn fresh(&self, account: &AccountId) -> Option<Arc<Iam>> {
        let inner = self.lock();
        let known = inner.known.get(account)?;
        let changed = inner.changed.get(account).is_some_and(|changed| known.read <= *changed);
        (known.read.elapsed() < OLDEST && !changed).then(|| Arc::clone(&known.iam))
    }

    fn unchanged(&self, account: &AccountId, change: i64, read: Instant) -> Option<Arc<Iam>> {
        let mut inner = self.lock();
        let known = inner.known.get_mut(account).filter(|known| known.change == change)?;
        known.read = known.read.max(read);
        Some(Arc::clone(&known.iam))
    }

    fn keep(&self, account: &AccountId, iam: &Arc<Iam>, change: i64, read: Instant) {
        let mut inner = self.lock();
        if inner.known.get(account).is_some_and(|known| known.change > change) {
            return;
        }
        if inner.known.len() >= MOST_ACCOUNTS && !inner.known.contains_key(account) {
            inner.known.clear();
        }
        inner.known.insert(account.clone(), Snapshot { iam: Arc::clone(iam), change, read });
    }

    fn changed(&self, account: &AccountId) {
        self.lock().changed.insert(account.clone(), Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resources(own: Option<Account>, projects: Vec<Project>, tags: Vec<Tag>) -> Vec<IamResource> {
    let mut tags = by_urn(tags);
    let projects = projects.into_iter().map(|project| (Urn::project(&project.id), project.name));
    let all = own.into_iter().map(|own| (Urn::account(&own.id), own.name)).chain(projects);
    let resource = |(urn, name): (Urn, String)| IamResource {
        id: resource_id(&urn),
        name,
        tags: tags.remove(urn.as_str()).unwrap_or_default(),
        urn,
    };
    all.map(resource).collect()
}

fn read(document: Document) -> Result<IamDocument, Error> {
    let given: Map<String, Value> = serde_json::from_str(&document.text).map_err(|_| DAMAGED)?;
    Ok(IamDocument {
        id: document.id,
        kind: document.kind,
        name: document.name,
        given,
        updated: (document.since != document.created).then_some(document.since),
        created: document.created,
    })
}

/// Groups that a policy names have to be there.
fn check_groups(draft: &Draft, account: &AccountId, all: &[Document]) -> Result<(), Error> {
    let Body::Policy(policy) = &draft.body else { return Ok(()) };
    let is_there = |kind: Kind, urn: &str| {
        all.iter().any(|known| known.kind == kind && document_urn(account, kind, &known.id) == urn)
    };
    for (index, pattern) in policy.resources.iter().enumerate() {
        let urn = pattern.as_str();
        if urn.starts_with(RESOURCE_GROUP_PREFIX) && !is_there(Kind::ResourceGroup, urn) {
            return Err(no_group(format!("resources[{index}].urn"), urn));
        }
    }
    for (index, urn) in policy.permissions_groups.iter().enumerate() {
        if !is_there(Kind::PermissionsGroup, urn) {
            return Err(no_group(format!("permissionsGroups[{index}].urn"), urn));
        }
    }
    Ok(())
}

/// What the documents of an account come to together: so that none of its decisions takes long.
fn check_bounds<'a>(
    draft: &Draft,
    document: &Document,
    others: impl Iterator<Item = &'a Document>,
) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Groups {
        #[serde(default)]
        permissions_groups: Vec<serde::de::IgnoredAny>,
    }
    let (mut bytes, mut rules) = (document.text.len(), 0);
    if let Body::Policy(policy) = &draft.body {
        rules += 1 + policy.permissions_groups.len();
    }
    for other in others {
        bytes += other.text.len();
        if other.kind == Kind::Policy {
            let read: Groups = serde_json::from_str(&other.text).map_err(|_| DAMAGED)?;
            rules += 1 + read.permissions_groups.len();
        }
    }
    if rules > MOST_RULES {
        let what = "policies of an account, each counted once, and once more for each permissions group that it names";
        return Err(Error::TooMany { what, limit: MOST_RULES });
    }
    if bytes > MOST_BYTES {
        return Err(Error::TooMany { what: "bytes of the policies and groups of an account", limit: MOST_BYTES });
    }
    Ok(())
}

fn no_group(place: String, urn: &str) -> Error {
    super::InvalidDocument { place, problem: format!("there is no group {urn} in this account") }.into()
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    let good = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:/=+@-".contains(&byte));
    if tags.len() > MOST_TAGS {
        return Err(Error::TooMany { what: "tags of a resource", limit: MOST_TAGS });
    }
    for (key, value) in tags {
        let cut: String = key.chars().take(80).collect();
        let wrong = |place: String, problem: &str| super::InvalidDocument { place, problem: problem.to_owned() };
        if key.is_empty() || key.len() > 128 || !good(key) {
            let problem = "a name of a tag has 1 to 128 letters, digits and _.:/=+@-";
            return Err(wrong(format!("tags[{cut}]"), problem).into());
        }
        if key.starts_with("ovh:") {
            return Err(wrong(format!("tags[{cut}]"), "names of tags that begin with `ovh:` are reserved").into());
        }
        if value.len() > 256 || !good(value) {
            let problem = "a value of a tag has at most 256 letters, digits and _.:/=+@-";
            return Err(wrong(format!("tags[{cut}]"), problem).into());
        }
    }
    Ok(())
}

fn by_urn(tags: Vec<Tag>) -> HashMap<String, BTreeMap<String, String>> {
    let mut all: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for tag in tags {
        all.entry(tag.urn).or_default().insert(tag.key, tag.value);
    }
    all
}

fn document_urn(account: &AccountId, kind: Kind, id: &str) -> String {
    match kind {
        Kind::Policy => format!("{}resource:iamPolicy:{id}", super::URN_PREFIX),
        Kind::ResourceGroup => Urn::resource_group(id).to_string(),
        Kind::PermissionsGroup => Urn::permissions_group(account, id).to_string(),
    }
}

/// The old service gives a resource a UUID beside its URN; ours is made of the URN, and so needs no row.
fn resource_id(urn: &Urn) -> Uuid {
    let digest = crypto::digest::sha256(&[urn.as_str().as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Policy => "policies of an account",
        Kind::ResourceGroup => "resource groups of an account",
        Kind::PermissionsGroup => "permissions groups of an account",
    }
}

fn absent(kind: Kind, id: &str) -> Error {
    Error::NotFound { kind: kind.as_str(), id: id.chars().take(120).collect() }
}

fn no_resource(urn: &str) -> Error {
    Error::NotFound { kind: "resource", id: urn.chars().take(120).collect() }
}

const DAMAGED: Error = Error::Damaged { what: "policies of an account" };
const MOST_DOCUMENTS: i64 = 1000;
const MOST_RULES: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;
const MOST_TAGS: usize = 64;
const MOST_ACCOUNTS: usize = 1024;
const OLDEST: Duration = Duration::from_secs(1);
