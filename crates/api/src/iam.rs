//! `/v2/iam`: policies, resource groups, permissions groups, resources with their tags, checks of rights, and the
//! reference lists of actions and resource types, which are made of the routes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use audit::Entry;
use http::{HeaderName, HeaderValue};
use identity::{
    Actions, BucketRules, IamDocument, IamKind, IamResource, Method, Resource, S3_ACTIONS, STORAGE_TYPE, Subject, Urn,
    UrnKind, s3_action, s3_category, storage_action,
};
use model::AccountId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Access, ApiError, ROUTES, Route,
    pagination::page_size,
    request::{Call, Reply},
};

/// Policies of the account.
pub(crate) async fn policies(call: Call) -> Result<Reply, ApiError> {
    list(&call, IamKind::Policy).await
}

/// Makes a policy.
pub(crate) async fn create_policy(call: Call) -> Result<Reply, ApiError> {
    let made = create(&call, IamKind::Policy).await?;
    Reply::json(&one(&call, &made).await?)
}

/// One policy.
pub(crate) async fn policy(call: Call) -> Result<Reply, ApiError> {
    show(&call, IamKind::Policy, call.param("policyId")?).await
}

/// Changes a policy, whole.
pub(crate) async fn edit_policy(call: Call) -> Result<Reply, ApiError> {
    let made = replace(&call, IamKind::Policy, call.param("policyId")?).await?;
    Reply::json(&one(&call, &made).await?)
}

/// Removes a policy.
pub(crate) async fn delete_policy(call: Call) -> Result<Reply, ApiError> {
    delete(&call, IamKind::Policy, call.param("policyId")?).await
}

/// Resource groups of the account.
pub(crate) async fn resource_groups(call: Call) -> Result<Reply, ApiError> {
    list(&call, IamKind::ResourceGroup).await
}

/// Makes a resource group.
pub(crate) async fn create_resource_group(call: Call) -> Result<Reply, ApiError> {
    let made = create(&call, IamKind::ResourceGroup).await?;
    Reply::json(&one(&call, &made).await?)
}

/// One resource group.
pub(crate) async fn resource_group(call: Call) -> Result<Reply, ApiError> {
    show(&call, IamKind::ResourceGroup, call.param("groupId")?).await
}

/// Changes a resource group, whole. The old service answers nothing here.
pub(crate) async fn edit_resource_group(call: Call) -> Result<Reply, ApiError> {
    replace(&call, IamKind::ResourceGroup, call.param("groupId")?).await?;
    Reply::void()
}

/// Removes a resource group that no policy names.
pub(crate) async fn delete_resource_group(call: Call) -> Result<Reply, ApiError> {
    delete(&call, IamKind::ResourceGroup, call.param("groupId")?).await
}

/// Permissions groups of the account.
pub(crate) async fn permissions_groups(call: Call) -> Result<Reply, ApiError> {
    list(&call, IamKind::PermissionsGroup).await
}

/// Makes a permissions group.
pub(crate) async fn create_permissions_group(call: Call) -> Result<Reply, ApiError> {
    let made = create(&call, IamKind::PermissionsGroup).await?;
    Reply::json(&one(&call, &made).await?)
}

/// One permissions group, by its URN.
pub(crate) async fn permissions_group(call: Call) -> Result<Reply, ApiError> {
    show(&call, IamKind::PermissionsGroup, &permissions_group_id(&call)?).await
}

/// Changes a permissions group, whole.
pub(crate) async fn edit_permissions_group(call: Call) -> Result<Reply, ApiError> {
    let made = replace(&call, IamKind::PermissionsGroup, &permissions_group_id(&call)?).await?;
    Reply::json(&one(&call, &made).await?)
}

/// Removes a permissions group that no policy names.
pub(crate) async fn delete_permissions_group(call: Call) -> Result<Reply, ApiError> {
    delete(&call, IamKind::PermissionsGroup, &permissions_group_id(&call)?).await
}

/// What policies can name: the account and its projects; `?resourceType=` narrows it.
pub(crate) async fn resources(call: Call) -> Result<Reply, ApiError> {
    let account = &call.caller()?.account;
    let kind = call.query("resourceType");
    let all = call.api.identity.iam_resources(account).await?;
    let rows = all
        .iter()
        .filter(|resource| kind.is_none_or(|kind| resource.urn.subtype() == kind))
        .map(|resource| (resource.urn.to_string(), describe_resource(resource, account)));
    Page::read(&call)?.reply(rows.collect())
}

/// One resource with its tags.
pub(crate) async fn resource(call: Call) -> Result<Reply, ApiError> {
    let account = &call.caller()?.account;
    let found = call.api.identity.iam_resource(account, call.param("resourceURN")?).await?;
    Reply::json(&describe_resource(&found, account))
}

/// Gives a resource the tags that are sent, and no others.
pub(crate) async fn edit_resource(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        tags: BTreeMap<String, String>,
    }
    let body: Body = call.json()?;
    let (account, urn) = (&call.caller()?.account, call.param("resourceURN")?);
    call.api.identity.set_iam_tags(account, urn, &body.tags, &call.actor()).await?;
    Reply::json(&describe_resource(&call.api.identity.iam_resource(account, urn).await?, account))
}

/// Gives a resource a tag.
pub(crate) async fn add_tag(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        key: String,
        value: String,
    }
    let body: Body = call.json()?;
    let (account, urn) = (&call.caller()?.account, call.param("resourceURN")?);
    call.api.identity.set_iam_tag(account, urn, &body.key, &body.value, &call.actor()).await?;
    Reply::void()
}

/// Takes a tag from a resource.
pub(crate) async fn delete_tag(call: Call) -> Result<Reply, ApiError> {
    let (account, urn) = (&call.caller()?.account, call.param("resourceURN")?);
    call.api.identity.delete_iam_tag(account, urn, call.param("key")?, &call.actor()).await?;
    Reply::void()
}

/// What the caller may do on several resources, or another identity that each entry may name.
pub(crate) async fn check(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Wanted {
        #[serde(rename = "resourceURNs")]
        resources: Vec<String>,
        actions: Vec<String>,
        identity: Option<String>,
    }
    let wanted: Vec<Wanted> = call.json()?;
    let pairs: usize =
        wanted.iter().map(|wanted| wanted.resources.len().max(1).saturating_mul(wanted.actions.len().max(1))).sum();
    if pairs > MOST_CHECKS {
        return Err(ApiError::bad_request(format!("At most {MOST_CHECKS} pairs of resource and action are checked")));
    }
    let mut answers = Vec::new();
    for (number, wanted) in wanted.iter().enumerate() {
        check_actions(&format!("[{number}].actions"), &wanted.actions)?;
        let asked = Asked::read(&call, &format!("[{number}].identity"), wanted.identity.as_deref()).await?;
        for (index, given) in wanted.resources.iter().enumerate() {
            let urn = resource_urn(&format!("[{number}].resourceURNs[{index}]"), given)?;
            let mut answer = rights(&call, &asked, &urn, &wanted.actions).await?;
            answer["resourceURN"] = given.as_str().into();
            answers.push(answer);
        }
    }
    Reply::json(&answers)
}

/// What the caller may do on one resource, or another identity that is named.
pub(crate) async fn check_resource(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        actions: Vec<String>,
        identity: Option<String>,
    }
    let body: Body = call.json()?;
    if body.actions.len() > MOST_CHECKS {
        return Err(ApiError::bad_field("actions", format!("at most {MOST_CHECKS} of them")));
    }
    check_actions("actions", &body.actions)?;
    let urn = resource_urn("resourceURN", call.param("resourceURN")?)?;
    let asked = Asked::read(&call, "identity", body.identity.as_deref()).await?;
    Reply::json(&rights(&call, &asked, &urn, &body.actions).await?)
}

/// The actions that policies can name; `?resourceType=` narrows it.
pub(crate) async fn reference_actions(call: Call) -> Result<Reply, ApiError> {
    let kind = call.query("resourceType");
    let routes = reference().into_iter().map(|(action, routes)| (action.to_owned(), describe_action(action, &routes)));
    // In the order of their names, which pages go by.
    let mut rows: BTreeMap<String, Value> = routes.collect();
    rows.extend(S3_ACTIONS.map(|name| (storage_action(&format!("s3:{name}")), describe_storage_action(name))));
    rows.retain(|action, _| kind.is_none_or(|kind| resource_type(action) == kind));
    Page::read(&call)?.reply(rows.into_iter().collect())
}

/// The types of resources that actions are about.
pub(crate) async fn reference_types(call: Call) -> Result<Reply, ApiError> {
    let mut types: BTreeSet<&str> = reference().into_keys().map(resource_type).collect();
    types.insert(STORAGE_TYPE);
    Page::read(&call)?.reply(types.into_iter().map(|name| (name.to_owned(), name.into())).collect())
}

/// The routes that ask for a decision, by their action: so a new route is in the lists at once.
fn reference() -> BTreeMap<&'static str, Vec<&'static Route>> {
    let mut actions: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
    for route in ROUTES.iter().filter(|route| route.access == Access::Granted) {
        actions.entry(route.action).or_default().push(route);
    }
    actions
}

fn actions() -> Actions {
    let of_storage: Vec<String> = S3_ACTIONS.iter().map(|name| storage_action(&format!("s3:{name}"))).collect();
    Actions::new(reference().into_keys().chain(of_storage.iter().map(String::as_str)))
}

fn resource_type(action: &str) -> &str {
    action.split(':').next().unwrap_or_default()
}

fn describe_action(action: &str, routes: &[&Route]) -> Value {
    let category = |route: &&Route| match route.method {
        Method::Get => "READ",
        Method::Put => "EDIT",
        Method::Delete => "DELETE",
        Method::Post if action.ends_with("/create") => "CREATE",
        Method::Post => "OPERATE",
    };
    let categories: BTreeSet<&str> = routes.iter().map(category).collect();
    let calls: Vec<String> = routes.iter().map(|route| format!("{} {}", route.method.as_str(), route.path)).collect();
    json!({
        "action": action,
        "categories": categories,
        "description": calls.join(", "),
        "resourceType": resource_type(action),
    })
}

/// An action of the object store, by its name in S3.
fn describe_storage_action(name: &str) -> Value {
    json!({
        "action": storage_action(&format!("s3:{name}")),
        "categories": [s3_category(name)],
        "description": format!("s3:{name}, by S3 and Swift"),
        "resourceType": STORAGE_TYPE,
    })
}

async fn list(call: &Call, kind: IamKind) -> Result<Reply, ApiError> {
    let page = Page::read(call)?;
    let account = &call.caller()?.account;
    // One more than is shown tells whether there is a next page.
    let found = call.api.identity.iam_documents(account, kind, page.after.as_deref(), page.size + 1).await?;
    let around = Around::read(call, &found).await?;
    let rows = found.iter().map(|document| (document.id.clone(), around.describe(document, account)));
    Page { after: None, size: page.size }.reply(rows.collect())
}

async fn show(call: &Call, kind: IamKind, id: &str) -> Result<Reply, ApiError> {
    let found = call.api.identity.iam_document(&call.caller()?.account, kind, id).await?;
    Reply::json(&one(call, &found).await?)
}

async fn one(call: &Call, document: &IamDocument) -> Result<Value, ApiError> {
    let around = Around::read(call, std::slice::from_ref(document)).await?;
    Ok(around.describe(document, &call.caller()?.account))
}

async fn create(call: &Call, kind: IamKind) -> Result<IamDocument, ApiError> {
    let body: Value = call.json()?;
    Ok(call.api.identity.create_iam(&call.caller()?.account, kind, &body, &actions(), &call.actor()).await?)
}

async fn replace(call: &Call, kind: IamKind, id: &str) -> Result<IamDocument, ApiError> {
    let body: Value = call.json()?;
    Ok(call.api.identity.replace_iam(&call.caller()?.account, kind, id, &body, &actions(), &call.actor()).await?)
}

async fn delete(call: &Call, kind: IamKind, id: &str) -> Result<Reply, ApiError> {
    call.api.identity.delete_iam(&call.caller()?.account, kind, id, &call.actor()).await?;
    Reply::void()
}

/// The id in the URN of a permissions group of the caller's account.
fn permissions_group_id(call: &Call) -> Result<String, ApiError> {
    let given = call.param("permissionsGroupURN")?;
    let urn = Urn::parse(given).ok().filter(|urn| urn.kind() == UrnKind::PermissionsGroup);
    let own = urn.filter(|urn| urn.subtype() == call.caller.as_ref().map_or("", |caller| caller.account.as_str()));
    own.map(|urn| urn.id().to_owned()).ok_or_else(|| ApiError::not_found("permissionsGroup", given))
}

/// What documents are shown with: the resources and groups that they name.
struct Around {
    resources: HashMap<String, IamResource>,
    groups: HashMap<String, IamDocument>,
}

impl Around {
    async fn read(call: &Call, documents: &[IamDocument]) -> Result<Around, ApiError> {
        let account = &call.caller()?.account;
        let identity = &call.api.identity;
        let lists = documents.iter().filter_map(|document| document.given.get("resources")?.as_array());
        let named: BTreeSet<&str> = lists.flatten().filter_map(|entry| entry["urn"].as_str()).collect();
        let named: Vec<&str> = named.into_iter().collect();
        let (resources, groups) = match named.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => (
                identity.iam_resources_named(account, &named).await?,
                identity.resource_groups_named(account, &named).await?,
            ),
        };
        Ok(Around {
            resources: resources.into_iter().map(|resource| (resource.urn.to_string(), resource)).collect(),
            groups: groups.into_iter().map(|group| (group.urn(account), group)).collect(),
        })
    }

    /// A document as it was written, with what the service knows beside.
    fn describe(&self, document: &IamDocument, account: &AccountId) -> Value {
        let mut shown = document.given.clone();
        add_facts(&mut shown, document, account);
        if let Some(Value::Array(resources)) = shown.get_mut("resources") {
            for entry in resources {
                let urn = entry["urn"].as_str().unwrap_or_default().to_owned();
                if let Some(resource) = self.resources.get(&urn) {
                    let described = describe_resource(resource, account);
                    match document.kind {
                        IamKind::Policy => entry["resource"] = described,
                        IamKind::ResourceGroup | IamKind::PermissionsGroup => *entry = described,
                    }
                } else if let Some(group) = self.groups.get(&urn) {
                    let mut described = Map::new();
                    described.insert("name".to_owned(), group.name.as_str().into());
                    add_facts(&mut described, group, account);
                    entry["group"] = Value::Object(described);
                }
            }
        }
        Value::Object(shown)
    }
}

fn add_facts(shown: &mut Map<String, Value>, document: &IamDocument, account: &AccountId) {
    shown.insert("id".to_owned(), document.id.as_str().into());
    if document.kind != IamKind::Policy {
        shown.insert("urn".to_owned(), document.urn(account).into());
    }
    shown.insert("owner".to_owned(), account.as_str().into());
    shown.insert("readOnly".to_owned(), false.into());
    shown.insert("createdAt".to_owned(), document.created.to_string().into());
    shown.insert("updatedAt".to_owned(), document.updated.map(|at| at.to_string()).into());
}

fn describe_resource(resource: &IamResource, account: &AccountId) -> Value {
    json!({
        "id": resource.id,
        "urn": resource.urn.as_str(),
        "name": resource.urn.id(),
        "displayName": resource.name,
        "owner": account,
        "type": resource.urn.subtype(),
        "tags": resource.tags,
    })
}

/// Whose rights are asked for.
enum Asked {
    /// Those of who calls.
    Caller,
    /// Those of another, on what the caller's account administers.
    Other(Subject, HashSet<String>),
}

impl Asked {
    /// Who is named; only for who may change policies, and so knows or may learn what they say.
    async fn read(call: &Call, place: &str, given: Option<&str>) -> Result<Asked, ApiError> {
        let Some(given) = given else { return Ok(Asked::Caller) };
        let (caller, identity) = (call.caller()?, &call.api.identity);
        let account = Resource::Account(caller.account.clone());
        if !identity.authorize(caller, MANAGE, account, call.now).await?.allowed {
            return Err(ApiError::forbidden(MANAGE));
        }
        let urn = Urn::parse(given).map_err(|fault| ApiError::bad_field(place, fault.to_string()))?;
        let subject = identity.subject(&caller.account, &urn, call.source_ip).await?;
        let subject = subject.ok_or_else(|| ApiError::bad_field(place, "the URN of an identity that exists"))?;
        let own = identity.iam_resources(&caller.account).await?;
        Ok(Asked::Other(subject, own.into_iter().map(|resource| resource.urn.to_string()).collect()))
    }
}

/// Which of these actions somebody may do on a resource; written down as every evaluation is.
async fn rights(call: &Call, asked: &Asked, urn: &Urn, wanted: &[String]) -> Result<Value, ApiError> {
    let (caller, identity) = (call.caller()?, &call.api.identity);
    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    let in_storage = urn.as_storage().is_some();
    let bucket = match asked {
        Asked::Other(_, own)
            if urn.as_storage().is_some_and(|place| own.contains(Urn::project(&place.project).as_str())) =>
        {
            Some(bucket_rules(call, urn)?)
        }
        _ => None,
    };
    for action in wanted {
        let allowed = match (Resource::from_urn(urn), asked) {
            // Nobody is known to the object store by what the API knows them by.
            (None, Asked::Other(subject, _)) if in_storage => match &bucket {
                Some(bucket) => identity.may_s3(subject, action, urn, bucket, call.now).await?,
                None => false,
            },
            (None, _) => false,
            (Some(resource), Asked::Caller) => identity.authorize(caller, action, resource, call.now).await?.allowed,
            (Some(resource), Asked::Other(subject, own)) => {
                own.contains(urn.as_str()) && identity.decide_for(subject, action, resource, call.now).await?.allowed
            }
        };
        if allowed { may.push(action) } else { may_not.push(action) }
    }
    let answer = json!({ "authorizedActions": may, "unauthorizedActions": may_not });
    let mut entry = Entry::new(call.actor(), "iam.authorization.checked", urn.as_str());
    entry.request_id = Some(call.query_id.clone());
    entry.detail = json!({
        "identities": match asked {
            Asked::Caller => caller.identities(),
            Asked::Other(subject, _) => subject.identities.clone(),
        },
        "askedBy": caller.identities(),
        "requestedActions": wanted,
        "authorizedActions": may,
        "unauthorizedActions": may_not,
    });
    call.api.audit.record(entry).await.map_err(|cause| ApiError::internal(&cause))?;
    Ok(answer)
}

pub(crate) fn check_actions(place: &str, wanted: &[String]) -> Result<(), ApiError> {
    let known = reference();
    let is_known = |action: &str| known.contains_key(action) || s3_action(action).is_some();
    match wanted.iter().position(|action| !is_known(action)) {
        Some(index) => {
            let cut: String = wanted[index].chars().take(120).collect();
            let problem =
                format!("'{cut}' is not an action of this service; `GET /v2/iam/reference/action` lists them");
            Err(ApiError::bad_field(&format!("{place}[{index}]"), problem))
        }
        None => Ok(()),
    }
}

/// What a bucket adds to decisions about what a URN names; nothing where that is in no bucket.
pub(crate) fn bucket_rules(call: &Call, urn: &Urn) -> Result<BucketRules, ApiError> {
    let Some((project, bucket)) = urn.as_storage().and_then(|place| Some((place.project, place.bucket?))) else {
        return Ok(BucketRules::default());
    };
    match call.api.objects.bucket_policy(&project, &bucket) {
        Ok((text, public_blocked)) => {
            let policy = text.map(|text| call.api.identity.bucket_policy(&project, &bucket, &text)).transpose();
            Ok(BucketRules { policy: policy.map_err(|fault| ApiError::internal(&fault))?, public_blocked })
        }
        Err(objects::Error::NoSuchBucket { .. }) => Ok(BucketRules { policy: None, public_blocked: true }),
        Err(fault) => Err(ApiError::internal(&fault)),
    }
}

fn resource_urn(place: &str, given: &str) -> Result<Urn, ApiError> {
    let urn = Urn::parse(given).map_err(|fault| ApiError::bad_field(place, fault.to_string()))?;
    if urn.kind() != UrnKind::Resource {
        return Err(ApiError::bad_field(place, "the URN of a resource"));
    }
    Ok(urn)
}

/// Which part of a list a client of v2 asks for.
struct Page {
    /// The key of the last row of the page before.
    after: Option<String>,
    size: u32,
}

impl Page {
    fn read(call: &Call) -> Result<Page, ApiError> {
        let size = page_size(call, LARGEST_PAGE)?;
        let after = match call.header("x-pagination-cursor").map(str::trim) {
            None | Some("") => None,
            Some(text) => match hex::decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(key) => Some(key),
                None => {
                    return Err(ApiError::bad_field("X-Pagination-Cursor", "the X-Pagination-Cursor-Next of a page"));
                }
            },
        };
        Ok(Page { after, size })
    }

    /// The page of rows by their rising keys, with the cursor of the next one where there is one.
    fn reply(&self, rows: Vec<(String, Value)>) -> Result<Reply, ApiError> {
        let mut rest = rows.into_iter().filter(|(key, _)| self.after.as_ref().is_none_or(|after| key > after));
        let (keys, page): (Vec<String>, Vec<Value>) = rest.by_ref().take(self.size as usize).unzip();
        let mut reply = Reply::json(&page)?;
        if let (Some(_), Some(last)) = (rest.next(), keys.last()) {
            let cursor = HeaderValue::from_str(&hex::encode(last)).map_err(|fault| ApiError::internal(&fault))?;
            reply = reply.with_header(HeaderName::from_static("x-pagination-cursor-next"), cursor);
        }
        Ok(reply)
    }
}

const LARGEST_PAGE: u32 = 1000;
const MOST_CHECKS: usize = 1000;
/// What one has to be allowed to ask for the rights of others.
const MANAGE: &str = "account:apiovh:iam/policy/edit";
