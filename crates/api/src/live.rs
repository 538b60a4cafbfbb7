//! `/me/api/live`: all that is good for the account, and the end of any of it. `/me/api/session`: the sessions of the console
//! of the user who calls.

use identity::{Live, SessionInfo, Who};
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
};

/// All that is good for the account: whole, for there is no other way to one of them.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let live = call.api.identity.live_credentials(Some(&call.caller()?.account)).await?;
    Reply::json(&live.iter().map(describe).collect::<Vec<_>>())
}

/// Ends one, with all that was made by it.
pub(crate) async fn revoke(call: Call) -> Result<Reply, ApiError> {
    let (kind, id) = (call.param("kind")?, call.param("id")?);
    let live = call.api.identity.live_credentials(Some(&call.caller()?.account)).await?;
    if !live.iter().any(|one| one.kind == kind && one.id == id) {
        return Err(ApiError::not_found("id", id));
    }
    call.api.identity.revoke(kind, id, &call.actor()).await?;
    Reply::void()
}

/// The sessions of the user who calls.
pub(crate) async fn sessions(call: Call) -> Result<Reply, ApiError> {
    let own = own_sessions(&call).await?;
    Reply::json(&own.iter().map(describe_session).collect::<Vec<_>>())
}

/// Ends one of them.
pub(crate) async fn end_session(call: Call) -> Result<Reply, ApiError> {
    let given = call.param("sessionId")?;
    let own = own_sessions(&call).await?;
    let one = own.iter().find(|session| session.id.to_string() == given);
    let one = one.ok_or_else(|| ApiError::not_found("sessionId", given))?;
    call.api.identity.end_session(one.id, &call.actor()).await?;
    Reply::void()
}

async fn own_sessions(call: &Call) -> Result<Vec<SessionInfo>, ApiError> {
    let caller = call.caller()?;
    let all = call.api.identity.sessions(&caller.account, call.now).await?;
    let own = all.into_iter().filter(|session| match &caller.who {
        Who::User { id, .. } => session.person == Some(*id),
        Who::Federated { name, .. } => session.federated.as_ref() == Some(name),
        Who::Account | Who::Client { .. } => false,
    });
    Ok(own.collect())
}

fn describe(live: &Live) -> Value {
    json!({
        "kind": live.kind,
        "id": live.id,
        "holder": live.holder,
        "name": live.name,
        "creation": live.created,
        "expiration": live.expires,
        "lastUse": live.last_use,
    })
}

fn describe_session(session: &SessionInfo) -> Value {
    json!({
        "sessionId": session.id,
        "mfaType": session.factor,
        "ip": session.source_ip,
        "userAgent": session.user_agent,
        "creation": session.created,
        "lastUse": session.last_use,
        "expiration": session.ends,
    })
}
