//! `/v2/iam/explain`: why a call on what is the account's own, or by its people on a project of which it is a contact, is
//! allowed or not.

use std::net::IpAddr;

use identity::{BucketRules, Facts, Recorded, Unexplained, Urn};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError, iam,
    request::{Call, Reply},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    identity: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    action: Option<String>,
    resource: Option<String>,
    source_ip: Option<IpAddr>,
    at: Option<Timestamp>,
    request_id: Option<String>,
}

/// Explains a call that could be made (`identity`, `action`, `resource`; `groups`, `sourceIp`, `at`), or one that was
/// (`requestId`, the `X-Ovh-QueryID` of its answer).
pub(crate) async fn explain(call: Call) -> Result<Reply, ApiError> {
    let body: Body = call.json()?;
    let identity = &call.api.identity;
    let account = &call.caller()?.account;
    let asked = match (body.request_id, body.identity, body.action, body.resource) {
        (Some(id), None, None, None) => identity.asked_by_request(&id, Some(account)).await?,
        (None, Some(who), Some(action), Some(resource)) => {
            if body.groups.len() > MOST_GROUPS {
                return Err(ApiError::bad_field("groups", "at most 100 URNs"));
            }
            iam::check_actions("action", std::slice::from_ref(&action))?;
            let facts = Facts { at: body.at.unwrap_or(call.now), source_ip: body.source_ip };
            identity.asked(&who, &body.groups, &action, &resource, facts, Some(account)).await?
        }
        _ => {
            return Err(ApiError::bad_request("The body names identity, action and resource, or a requestId alone"));
        }
    };
    // What is another account's is not there.
    if !identity.may_hear(account, &asked).await? {
        return Err(match asked.recorded {
            Some(_) => ApiError::not_found("requestId", "of this account"),
            None => Unexplained::NoResource { urn: asked.resource }.into(),
        });
    }
    let bucket = match Urn::parse(&asked.resource) {
        Ok(urn) => iam::bucket_rules(&call, &urn)?,
        Err(_) => BucketRules::default(),
    };
    let told = identity.explain(&asked, Some(account), &bucket).await?;
    let mut answer = serde_json::to_value(&told).map_err(|fault| ApiError::internal(&fault))?;
    answer["identities"] = json!(asked.identities);
    answer["action"] = asked.action.as_str().into();
    answer["resource"] = asked.resource.as_str().into();
    answer["at"] = asked.facts.at.to_string().into();
    answer["sourceIp"] = json!(asked.facts.source_ip);
    // The reason names policies, which may be another account's.
    let is_own = identity.owner_of(&asked.resource).await? == *account;
    answer["recorded"] = asked.recorded.map_or(
        Value::Null,
        |Recorded { decision, reason }| json!({ "decision": decision, "reason": reason.filter(|_| is_own) }),
    );
    Reply::json(&answer)
}

impl From<Unexplained> for ApiError {
    fn from(fault: Unexplained) -> ApiError {
        match fault {
            Unexplained::NoRequest { .. } => ApiError::not_found("requestId", "of this account"),
            Unexplained::NotKnown { .. } | Unexplained::NotAsked { .. } | Unexplained::OfStore { .. } => {
                ApiError::bad_field("requestId", fault.to_string())
            }
            Unexplained::NotKnownByUrn { .. } => ApiError::bad_field("identity", fault.to_string()),
            Unexplained::NoResource { urn } => ApiError::not_found("resource", &urn),
            Unexplained::NotUrn { kind: "a resource", .. } => ApiError::bad_field("resource", fault.to_string()),
            Unexplained::NotUrn { .. } => ApiError::bad_field("identity", fault.to_string()),
            Unexplained::Failed(cause) => cause.into(),
        }
    }
}

const MOST_GROUPS: usize = 100;
