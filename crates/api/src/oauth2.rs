//! `/me/api/oauth2/client`: service accounts; `/auth/oauth2/token`: their tokens (RFC 6749).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use identity::{Client, ClientText, client_urn};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    ApiError,
    error::OAuth2Fault,
    pages, percent,
    request::{Call, Reply},
};

/// Ids of the service accounts, oldest first.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let clients = call.api.identity.clients(Some(&call.caller()?.account)).await?;
    Reply::json(&clients.iter().map(|client| &client.id).collect::<Vec<_>>())
}

/// Makes a service account. Its secret is in this answer and in no other.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        name: String,
        description: Option<String>,
        flow: String,
        callback_urls: Option<Vec<String>>,
    }
    let body: Body = call.json()?;
    check_flow(&body.flow)?;
    let text = ClientText {
        name: body.name,
        description: body.description.unwrap_or_default(),
        callback_urls: body.callback_urls.unwrap_or_default(),
    };
    let made = call.api.identity.create_client(&call.caller()?.account, text, &call.actor()).await?;
    Reply::json(&json!({ "clientId": made.client.id, "clientSecret": *made.secret }))
}

/// One service account.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe(&find(&call).await?))
}

/// Changes a service account: name, description, callback URLs. What the schema has as read-only is ignored.
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    let client = find(&call).await?;
    let body: Map<String, Value> = call.json()?;
    let text = |field: &'static str, old: String| match body.get(field) {
        None => Ok(old),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(ApiError::bad_field(field, "a text")),
    };
    let callback_urls = match body.get("callbackUrls") {
        None => client.callback_urls,
        Some(given) => serde_json::from_value::<Option<Vec<String>>>(given.clone())
            .map_err(|_| ApiError::bad_field("callbackUrls", "a list of URLs"))?
            .unwrap_or_default(),
    };
    let text = ClientText {
        name: text("name", client.name)?,
        description: text("description", client.description)?,
        callback_urls,
    };
    call.api.identity.change_client(&client.account, &client.id, text, &call.actor()).await?;
    Reply::void()
}

/// Removes a service account, and ends its tokens.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let client = find(&call).await?;
    call.api.identity.delete_client(&client.account, &client.id, &call.actor()).await?;
    Reply::void()
}

/// Gives a token to a service account, which names itself by HTTP Basic or in the form.
pub(crate) async fn token(call: Call) -> Result<Reply, ApiError> {
    let kind = call.header("content-type").unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
    let malformed = |text: &str| ApiError::oauth2(OAuth2Fault::InvalidRequest, text);
    if !is_form {
        return Err(malformed("The body is application/x-www-form-urlencoded"));
    }
    let fields = pages::parse_form(&call.body).map_err(|fault| malformed(&fault.message))?;
    let named = match (basic(&call), pages::value(&fields, "client_id"), pages::value(&fields, "client_secret")) {
        (Some(named), id, "") if id.is_empty() || id == named.0 => Some(named),
        (None, id, secret) if !id.is_empty() => Some((id.to_owned(), Zeroizing::new(secret.to_owned()))),
        (Some(_), _, _) => return Err(malformed("The client names itself in one way")),
        (None, _, _) => None,
    };
    match pages::value(&fields, "grant_type") {
        "client_credentials" => {}
        "" => return Err(malformed("grant_type is missing")),
        _ => return Err(ApiError::oauth2(OAuth2Fault::UnsupportedGrantType, "grant_type is client_credentials")),
    }
    if !matches!(pages::value(&fields, "scope"), "" | "all") {
        return Err(ApiError::oauth2(OAuth2Fault::InvalidScope, "scope is all"));
    }
    let made = match named {
        Some((id, secret)) => call.api.identity.issue_token(&id, &secret, call.source_ip).await?,
        None => None,
    };
    let Some(made) = made else {
        let message = "The client is not known by this id and secret";
        return Err(ApiError::oauth2(OAuth2Fault::InvalidClient, message));
    };
    Reply::json(&json!({
        "access_token": *made.token,
        "token_type": "Bearer",
        "expires_in": made.seconds,
        "scope": "all",
    }))
}

/// Id and secret by HTTP Basic, each encoded as in a form (RFC 6749, section 2.3.1).
fn basic(call: &Call) -> Option<(String, Zeroizing<String>)> {
    let (scheme, given) = call.header("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = Zeroizing::new(String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?);
    let (id, secret) = text.split_once(':')?;
    Some((percent::decode(id, true).ok()?, Zeroizing::new(percent::decode(secret, true).ok()?)))
}

async fn find(call: &Call) -> Result<Client, ApiError> {
    let id = call.param("clientId")?;
    let found = call.api.identity.client(&call.caller()?.account, id).await?;
    found.ok_or_else(|| ApiError::not_found("clientId", id))
}

fn check_flow(flow: &str) -> Result<(), ApiError> {
    match flow {
        "CLIENT_CREDENTIALS" => Ok(()),
        "AUTHORIZATION_CODE" => Err(ApiError::bad_field("flow", "CLIENT_CREDENTIALS: no other flow is served here")),
        _ => Err(ApiError::bad_field("flow", "CLIENT_CREDENTIALS")),
    }
}

fn describe(client: &Client) -> Value {
    json!({
        "clientId": client.id,
        "name": client.name,
        "description": client.description,
        "flow": "CLIENT_CREDENTIALS",
        "callbackUrls": client.callback_urls,
        "createdAt": client.created,
        "identity": client_urn(&client.account, &client.id),
    })
}
