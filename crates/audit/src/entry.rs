//! What an entry says.

use std::net::IpAddr;

use jiff::Timestamp;
use model::AccountId;
use serde::{Deserialize, Serialize};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The account, where known.
    pub account: Option<AccountId>,
    /// Which identity: `credential/12`, `user/NAME`, `operator`, `system`, `sandbox/JOB.ATTEMPT`, `anonymous`.
    pub identity: String,
    /// From where; `None` for what comes from inside.
    pub source_ip: Option<IpAddr>,
    /// The request that it acts by, where there is one.
    pub request_id: Option<String>,
}

impl Actor {
    /// The service itself.
    pub fn system() -> Actor {
        Actor { account: None, identity: "system".to_owned(), source_ip: None, request_id: None }
    }

    /// The operator, by a command on the machine.
    pub fn operator() -> Actor {
        Actor { identity: "operator".to_owned(), ..Actor::system() }
    }

    /// Somebody who did not say, or did not prove, who they are.
    pub fn anonymous(source_ip: Option<IpAddr>) -> Actor {
        Actor { identity: "anonymous".to_owned(), source_ip, ..Actor::system() }
    }
}

/// What was decided about the right to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
    /// Nothing was asked: the service's own doing, or a route open to all.
    None,
}

impl Decision {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allowed => "allowed",
            Decision::Refused => "refused",
            Decision::None => "none",
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What: an IAM action (`publicCloudProject:apiovh:dataProcessing/jobs/create`) or a transition (`job.running`).
    pub action: String,
    /// On what: a URN or a path such as `project/ID/job/ID`.
    pub resource: String,
    /// Whether it may.
    pub decision: Decision,
    /// What came of it: a status code, a state.
    pub result: String,
    /// The request that it belongs to; the actor's if `None`.
    pub request_id: Option<String>,
    /// More: a JSON object without secrets.
    pub detail: serde_json::Value,
}

impl Entry {
    /// An entry of now, of a thing done, with no detail.
    pub fn new(actor: Actor, action: impl Into<String>, resource: impl Into<String>) -> Entry {
        Entry {
            at: Timestamp::now(),
            actor,
            action: action.into(),
            resource: resource.into(),
            decision: Decision::None,
            result: "done".to_owned(),
            request_id: None,
            detail: serde_json::Value::Object(serde_json::Map::new()),
        }
    }

    pub(crate) fn row(&self) -> db::audit::Row {
        db::audit::Row {
            id: 0,
            at: self.at,
            account: self.actor.account.as_ref().map(ToString::to_string),
            identity: self.actor.identity.clone(),
            source_ip: self.actor.source_ip.map(|ip| ip.to_string()),
            action: self.action.clone(),
            resource: self.resource.clone(),
            decision: self.decision.as_str().to_owned(),
            result: self.result.clone(),
            request_id: self.request_id.clone().or_else(|| self.actor.request_id.clone()),
            detail: self.detail.to_string(),
        }
    }
}
