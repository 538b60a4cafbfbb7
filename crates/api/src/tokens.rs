//! Tokens for Swift, as Keystone here would give them: for the password of a user, or for the caller of the API.

use identity::UserToken;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError, platform_users,
    request::{Call, Reply},
    users,
};

/// `POST .../user/{u}/token`: a token of a user for its password, good for 12 hours.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        password: String,
    }
    let user = users::find(&call).await?;
    let body: Body = call.json()?;
    let made = call.api.identity.login_user(&user.username, &body.password, call.source_ip).await?;
    let made = made.ok_or_else(|| {
        let message = "The password is not that of the user";
        ApiError::refused(message).detail("password", message)
    })?;
    Reply::json(&json!({ "X-Auth-Token": *made.token, "token": describe(&call, &made)? }))
}

/// `POST .../storage/access`: a token for all of the project's containers, good for 12 hours, and where they are. It is
/// of a user of the project that the service makes for this.
pub(crate) async fn storage_access(call: Call) -> Result<Reply, ApiError> {
    let project = &call.project()?.id;
    let user = platform_users::user(&call, platform_users::HOLDER).await?;
    let made = call.api.identity.make_user_token(project, user, &call.actor()).await?;
    let url = objects::swift_url(&call.api.config.objects_url, project);
    let endpoint = json!({ "region": call.region()?, "url": url });
    Reply::json(&json!({ "token": *made.token, "endpoints": [endpoint] }))
}

/// `cloud.authentication.OpenstackToken`: what Keystone says of the same token.
fn describe(call: &Call, made: &UserToken) -> Result<Value, ApiError> {
    let (project, region) = (&call.project()?.id, call.region()?);
    let base = &call.api.config.objects_url;
    let service = |name: &str, kind: &str, url: &str| {
        let endpoint = json!({
            "id": format!("{name}-{region}-public"),
            "interface": "public",
            "legacy_endpoint_id": "",
            "region_id": region,
            "service_id": name,
            "url": url,
        });
        json!({ "id": name, "type": kind, "endpoints": [endpoint] })
    };
    let domain = json!({ "name": objects::DOMAIN_NAME });
    let roles: Vec<Value> = made.user.roles.iter().map(|role| json!({ "id": role, "name": role })).collect();
    Ok(json!({
        "catalog": [
            service("swift", "object-store", &objects::swift_url(base, project)),
            service("keystone", "identity", &objects::keystone_url(base)),
        ],
        "expires_at": made.expires,
        "issued_at": made.issued,
        "methods": ["password"],
        "project": { "id": project, "name": project, "domain": domain },
        "roles": roles,
        "user": { "id": made.user.username, "name": made.user.username, "domain": domain },
    }))
}
