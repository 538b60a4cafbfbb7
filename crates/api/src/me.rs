//! `/me`: the account, its applications and credentials.

use identity::{Application, Proof, Who};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    ApiError, auth,
    request::{Call, Reply},
};

/// The account, in the old service's form.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let id = &call.caller()?.account;
    let account = call.api.identity.account(id).await?.ok_or_else(|| ApiError::not_found("account", id.as_str()))?;
    let mut me = json!({
        "nichandle": account.id,
        "email": account.email,
        "name": account.name,
        "country": "FR",
        "currency": { "code": "EUR", "symbol": "€" },
        "language": "en_GB",
        "legalform": "other",
        "ovhCompany": "ovh",
        "ovhSubsidiary": "FR",
        "state": "complete",
        "kycValidated": true,
    });
    if let Value::Object(fields) = &mut me {
        for absent in ABSENT {
            fields.insert(absent.to_owned(), Value::Null);
        }
    }
    Reply::json(&me)
}

/// Numbers of the account's applications.
pub(crate) async fn applications(call: Call) -> Result<Reply, ApiError> {
    let applications = call.api.identity.applications(Some(&call.caller()?.account)).await?;
    Reply::json(&applications.iter().map(|application| application.id).collect::<Vec<_>>())
}

/// One application.
pub(crate) async fn application(call: Call) -> Result<Reply, ApiError> {
    Reply::json(&describe_application(&own_application(&call).await?))
}

/// Removes an application, with every credential that was granted to it.
pub(crate) async fn delete_application(call: Call) -> Result<Reply, ApiError> {
    let application = own_application(&call).await?;
    call.api.identity.delete_application(&application.account, application.id, &call.actor()).await?;
    Reply::void()
}

async fn own_application(call: &Call) -> Result<Application, ApiError> {
    let id = call.param("applicationId")?;
    let applications = call.api.identity.applications(Some(&call.caller()?.account)).await?;
    let found = applications.into_iter().find(|application| application.id.to_string() == id);
    found.ok_or_else(|| ApiError::not_found("applicationId", id))
}

fn describe_application(application: &Application) -> Value {
    json!({
        "applicationId": application.id,
        "applicationKey": application.key,
        "name": application.name,
        "description": application.description,
        "status": "active",
    })
}

/// Numbers of the credentials that the account granted.
pub(crate) async fn credentials(call: Call) -> Result<Reply, ApiError> {
    let credentials = call.api.identity.credentials(Some(&call.caller()?.account)).await?;
    let (status, application) = (call.query("status"), call.query("applicationId"));
    let ids: Vec<i64> = credentials
        .iter()
        .filter(|credential| status.is_none_or(|status| credential.status_at(call.now).as_str() == status))
        .filter(|credential| application.is_none_or(|id| credential.application.to_string() == id))
        .map(|credential| credential.id)
        .collect();
    Reply::json(&ids)
}

/// One credential.
pub(crate) async fn credential(call: Call) -> Result<Reply, ApiError> {
    let credential = own_credential(&call).await?;
    Reply::json(&auth::describe(&credential, call.now))
}

/// Ends a credential.
pub(crate) async fn expire_credential(call: Call) -> Result<Reply, ApiError> {
    let credential = own_credential(&call).await?;
    call.api.identity.expire_credential(credential.id, &call.actor()).await?;
    Reply::void()
}

/// Binds a credential to other addresses; what the schema has as read-only is ignored.
pub(crate) async fn edit_credential(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "allowedIPs")]
        allowed_ips: Option<Vec<String>>,
    }
    let credential = own_credential(&call).await?;
    let body: Body = call.json()?;
    let blocks = auth::parse_blocks(&body.allowed_ips.unwrap_or_default())?;
    let is_own = matches!(call.caller()?.proof, Proof::ConsumerKey { credential: own, .. } if own == credential.id);
    let here = call.source_ip.filter(|_| is_own);
    call.api.identity.set_allowed_ips(credential.id, &blocks, here, &call.actor()).await?;
    Reply::void()
}

/// The application that a credential was granted to, which may be another account's.
pub(crate) async fn credential_application(call: Call) -> Result<Reply, ApiError> {
    let id = own_credential(&call).await?.application;
    let all = call.api.identity.applications(None).await?;
    let found = all.iter().find(|application| application.id == id);
    Reply::json(&describe_application(found.ok_or_else(|| ApiError::not_found("applicationId", &id.to_string()))?))
}

/// Changes the password of the user who calls, and ends what else it granted.
pub(crate) async fn change_password(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        current_password: String,
        new_password: String,
    }
    let caller = call.caller()?;
    let Who::User { login, .. } = &caller.who else {
        return Err(ApiError::refused("Only a user of an account has a password"));
    };
    let body: Body = call.json()?;
    let (current, new) = (Zeroizing::new(body.current_password), Zeroizing::new(body.new_password));
    let keep = match caller.proof {
        Proof::ConsumerKey { credential, .. } => Some(credential),
        Proof::Token { .. } | Proof::Session { .. } => None,
    };
    let identity = &call.api.identity;
    identity.change_password(&caller.account, login, current, new, keep, call.source_ip, &call.actor()).await?;
    Reply::void()
}

async fn own_credential(call: &Call) -> Result<identity::Credential, ApiError> {
    let given = call.param("credentialId")?;
    let absent = || ApiError::not_found("credentialId", given);
    let id: i64 = given.parse().map_err(|_| absent())?;
    let credential = call.api.identity.credential(id).await?.ok_or_else(absent)?;
    if credential.account.as_ref() == Some(&call.caller()?.account) { Ok(credential) } else { Err(absent()) }
}

/// Fields of the old service that say nothing here.
const ABSENT: [&str; 22] = [
    "address",
    "area",
    "birthCity",
    "birthDay",
    "city",
    "companyNationalIdentificationNumber",
    "complementaryAddress",
    "corporationType",
    "customerCode",
    "fax",
    "firstname",
    "italianSDI",
    "nationalIdentificationNumber",
    "organisation",
    "phone",
    "phoneCountry",
    "phoneType",
    "purposeOfPurchase",
    "sex",
    "spareEmail",
    "vat",
    "zip",
];
