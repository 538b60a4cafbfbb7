//! Keystone's identity API, version 3 (<https://docs.openstack.org/api-ref/identity/v3/>), as much as clients of Swift
//! use: a token for a user's password, and the catalogue that says where the object store is. Every user belongs to one
//! project, which is the scope of its tokens; there is one domain. Start at [`answer`].

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use s3s::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    access::{LoggedIn, NotLoggedIn},
    call::Call,
    gate::Ground,
    swift,
};

/// The path below which it is: too short for the name of a bucket, so that nothing of S3 is there.
pub const ROOT: &str = "/v3";

/// Answers a call whose path begins with [`ROOT`].
pub async fn answer(call: &Arc<Call>, request: Request<Body>) -> Response<Body> {
    let url = public_url(&call.ground, &request);
    let mut response = match respond(call, request, &url).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(&url),
    };
    let id = format!("req-{}", call.request_id());
    swift::set(response.headers_mut(), "x-openstack-request-id", &id);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("X-Auth-Token"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn respond(call: &Arc<Call>, request: Request<Body>, url: &str) -> Result<Response<Body>, Fault> {
    let path = request.uri().path().trim_start_matches(ROOT).trim_matches('/').to_owned();
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let query = request.uri().query().unwrap_or_default();
    let with_catalogue = !url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "nocatalog");
    match (path.as_str(), method) {
        ("", Method::GET | Method::HEAD) => {
            call.asks("keystone", "GetVersion", (None, None), true);
            Ok(json_answer(StatusCode::OK, &json!({ "version": version(url) })))
        }
        ("auth/tokens", Method::POST) => {
            call.asks("keystone", "IssueToken", (None, None), true);
            let (found, methods) = authenticate(call, request.into_body()).await?;
            call.hold(found.grant.clone()).map_err(|_| Fault::unauthorized())?;
            let mut token = token(&call.ground, url, &found, &methods, with_catalogue).await?;
            token["issued_at"] = time(Timestamp::now()).into();
            let body = json!({ "token": token });
            let mut response = json_answer(StatusCode::CREATED, &body);
            swift::set(response.headers_mut(), "x-subject-token", &found.token);
            Ok(response)
        }
        ("auth/tokens", Method::GET | Method::HEAD) => {
            call.asks("keystone", "GetToken", (None, None), true);
            let subject = subject(call, &headers).await?;
            let token = token(&call.ground, url, &subject, &["password"], with_catalogue).await?;
            let body = json!({ "token": token });
            let mut response = json_answer(StatusCode::OK, &body);
            swift::set(response.headers_mut(), "x-subject-token", &subject.token);
            Ok(response)
        }
        ("auth/tokens", Method::DELETE) => {
            call.asks("keystone", "RevokeToken", (None, None), true);
            let subject = subject(call, &headers).await?;
            let from = Some(call.source_ip());
            call.ground.access.log_out(&subject.token, from).await.map_err(|cause| Fault::unavailable(&*cause))?;
            Ok(swift::empty(StatusCode::NO_CONTENT))
        }
        ("auth/catalog", Method::GET | Method::HEAD) => {
            call.asks("keystone", "GetCatalog", (None, None), true);
            let found = caller(call, &headers).await?;
            let body = json!({
                "catalog": catalogue(&call.ground, url, &found).await?,
                "links": { "self": format!("{url}{ROOT}/auth/catalog"), "previous": null, "next": null },
            });
            Ok(json_answer(StatusCode::OK, &body))
        }
        ("auth/projects", Method::GET | Method::HEAD) => {
            call.asks("keystone", "ListProjects", (None, None), true);
            let found = caller(call, &headers).await?;
            let id = found.grant.project.as_str();
            let body = json!({
                "projects": [{
                    "id": id,
                    "name": id,
                    "domain_id": DOMAIN_ID,
                    "enabled": true,
                    "is_domain": false,
                    "parent_id": DOMAIN_ID,
                    "description": "",
                    "tags": [],
                    "options": {},
                    "links": { "self": format!("{url}{ROOT}/projects/{id}") },
                }],
                "links": { "self": format!("{url}{ROOT}/auth/projects"), "previous": null, "next": null },
            });
            Ok(json_answer(StatusCode::OK, &body))
        }
        ("auth/domains", Method::GET | Method::HEAD) => {
            call.asks("keystone", "ListDomains", (None, None), true);
            caller(call, &headers).await?;
            let body = json!({ "domains": [], "links": { "self": format!("{url}{ROOT}/auth/domains") } });
            Ok(json_answer(StatusCode::OK, &body))
        }
        (known, _) if ["", "auth/tokens", "auth/catalog", "auth/projects", "auth/domains"].contains(&known) => {
            call.asks("keystone", "Unknown", (None, None), true);
            Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL."))
        }
        _ => {
            call.asks("keystone", "Unknown", (None, None), true);
            Err(Fault::new(StatusCode::NOT_FOUND, "The resource could not be found."))
        }
    }
}

/// What is sent to get a token.
#[derive(Deserialize)]
struct Wish {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    identity: Identity,
    #[serde(default)]
    scope: Option<Value>,
}

#[derive(Deserialize)]
struct Identity {
    methods: Vec<String>,
    #[serde(default)]
    password: Option<ByPassword>,
    #[serde(default)]
    token: Option<ByToken>,
}

#[derive(Deserialize)]
struct ByPassword {
    user: User,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<Named>,
    #[serde(deserialize_with = "secret")]
    password: Zeroizing<String>,
}

#[derive(Deserialize)]
struct ByToken {
    #[serde(deserialize_with = "secret")]
    id: Zeroizing<String>,
}

/// Text that is wiped from memory with what holds it.
fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// Something that is named by its id, or by its name and, where it is in one, its domain.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<Box<Named>>,
}

impl Named {
    /// Whether it names the one domain that there is.
    fn is_domain(&self) -> bool {
        match (&self.id, &self.name) {
            (Some(id), _) => id.eq_ignore_ascii_case(DOMAIN_ID),
            (None, Some(name)) => name.eq_ignore_ascii_case(DOMAIN_NAME),
            (None, None) => false,
        }
    }
}

/// The token that is asked for, and by which methods.
async fn authenticate(call: &Call, body: Body) -> Result<(LoggedIn, Vec<&'static str>), Fault> {
    let bytes = swift::whole(body, MOST_BODY).await.map_err(|fault| Fault::new(fault.status, fault.words))?;
    let wish: Wish = serde_json::from_slice(&bytes).map_err(|cause| {
        let place = format!("line {}, column {}", cause.line(), cause.column());
        // Its words could hold a part of what was sent.
        Fault::bad(format!("The request is not one for a token: {:?} error at {place}.", cause.classify()))
    })?;
    let identity = wish.auth.identity;
    let (found, method) = match identity.methods.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["password"] => {
            let user = identity.password.ok_or_else(|| Fault::bad("auth.identity.password is missing."))?.user;
            (by_password(call, user).await?, "password")
        }
        ["token"] => {
            let token = identity.token.ok_or_else(|| Fault::bad("auth.identity.token is missing."))?;
            (described(call, &token.id).await?.ok_or_else(Fault::unauthorized)?, "token")
        }
        _ => return Err(Fault::unauthorized()),
    };
    if !is_in_scope(wish.auth.scope.as_ref(), found.grant.project.as_str())? {
        return Err(Fault::unauthorized());
    }
    Ok((found, vec![method]))
}

async fn by_password(call: &Call, user: User) -> Result<LoggedIn, Fault> {
    // The id of a user is its name, which no other has.
    let name = match (user.id, user.name, user.domain) {
        (Some(id), _, _) => id,
        (None, Some(name), Some(domain)) => {
            if !domain.is_domain() {
                return Err(Fault::unauthorized());
            }
            name
        }
        (None, Some(_), None) => return Err(Fault::bad("Expecting to find domain in user.")),
        (None, None, _) => return Err(Fault::bad("Expecting to find id or name in user.")),
    };
    let from = Some(call.source_ip());
    call.ground.access.log_in(&name, &user.password, from).await.map_err(|refusal| match refusal {
        NotLoggedIn::Wrong => Fault::unauthorized(),
        NotLoggedIn::TryLater { seconds } => Fault::too_many(seconds),
        NotLoggedIn::Failed(cause) => Fault::unavailable(&*cause),
    })
}

/// Whether the wished scope is that which a user of `project` has. No wish is for that.
fn is_in_scope(scope: Option<&Value>, project: &str) -> Result<bool, Fault> {
    let Some(scope) = scope else { return Ok(true) };
    let Some(named) = scope.get("project") else { return Ok(false) };
    let named =
        Named::deserialize(named).map_err(|_| Fault::bad("auth.scope.project is not the name of a project."))?;
    let is_ours = |text: &Option<String>| text.as_deref() == Some(project);
    match (&named.id, &named.name, &named.domain) {
        (Some(_), _, _) => Ok(is_ours(&named.id)),
        (None, Some(_), Some(domain)) => Ok(is_ours(&named.name) && domain.is_domain()),
        (None, Some(_), None) => Err(Fault::bad("Expecting to find domain in project.")),
        (None, None, _) => Err(Fault::bad("Expecting to find id or name in project.")),
    }
}

/// Whose call it is, by the token that it was sent with.
async fn caller(call: &Call, headers: &HeaderMap) -> Result<LoggedIn, Fault> {
    let token = header(headers, "x-auth-token").ok_or_else(Fault::unauthorized)?;
    let found = described(call, token).await?.ok_or_else(Fault::unauthorized)?;
    call.hold(found.grant.clone()).map_err(|_| Fault::unauthorized())?;
    Ok(found)
}

/// The token that the call is about: one of the caller's own.
async fn subject(call: &Call, headers: &HeaderMap) -> Result<LoggedIn, Fault> {
    let caller = caller(call, headers).await?;
    let missing = || Fault::new(StatusCode::NOT_FOUND, "Could not find token.");
    let token = header(headers, "x-subject-token").ok_or_else(|| Fault::bad("X-Subject-Token is missing."))?;
    let found = described(call, token).await?;
    found.filter(|found| found.user == caller.user).ok_or_else(missing)
}

async fn described(call: &Call, token: &str) -> Result<Option<LoggedIn>, Fault> {
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        return Ok(None);
    }
    call.ground.access.describe(token).await.map_err(|cause| Fault::unavailable(&*cause))
}

/// A token as it is described.
async fn token(
    ground: &Ground,
    url: &str,
    found: &LoggedIn,
    methods: &[&str],
    with_catalogue: bool,
) -> Result<Value, Fault> {
    let project = found.grant.project.as_str();
    let domain = json!({ "id": DOMAIN_ID, "name": DOMAIN_NAME });
    let roles: Vec<Value> = found.roles.iter().map(|role| json!({ "id": role, "name": role })).collect();
    let mut token = json!({
        "methods": methods,
        "user": {
            "id": found.username,
            "name": found.username,
            "domain": domain,
            "password_expires_at": null,
        },
        "audit_ids": [],
        "expires_at": time(found.expires),
        "project": { "id": project, "name": project, "domain": domain },
        "is_domain": false,
        "roles": roles,
    });
    if with_catalogue {
        token["catalog"] = catalogue(ground, url, found).await?;
    }
    Ok(token)
}

/// Where what is: the object store in the project's region, and this.
async fn catalogue(ground: &Ground, url: &str, found: &LoggedIn) -> Result<Value, Fault> {
    let region = ground.home(&found.grant.project).await.map_err(|cause| Fault::unavailable(&cause))?;
    let endpoints = |path: &str, kind: &str| -> Vec<Value> {
        let endpoint = |interface: &str| {
            json!({
                "id": format!("{kind}-{region}-{interface}"),
                "interface": interface,
                "region": region.as_str(),
                "region_id": region.as_str(),
                "url": format!("{url}{path}"),
            })
        };
        ["public", "internal", "admin"].map(endpoint).to_vec()
    };
    let account = format!("{}/{}{}", swift::ROOT, swift::ACCOUNT, found.grant.project);
    Ok(json!([
        { "id": "swift", "name": "swift", "type": "object-store", "endpoints": endpoints(&account, "swift") },
        { "id": "keystone", "name": "keystone", "type": "identity", "endpoints": endpoints(ROOT, "keystone") },
    ]))
}

fn version(url: &str) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{ "rel": "self", "href": format!("{url}{ROOT}/") }],
        "media-types": [{ "base": "application/json", "type": "application/vnd.openstack.identity-v3+json" }],
    })
}

/// The URL of the service as this client reaches it: that of the configuration whose host the request has, else the
/// first, else what the request says.
fn public_url(ground: &Ground, request: &Request<Body>) -> String {
    let host = header(request.headers(), "host").map(str::to_owned);
    let host = host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default();
    let of = |url: &&String| url.split_once("://").is_some_and(|(_, rest)| rest.trim_end_matches('/') == host);
    let known = ground.public_urls.iter().find(of).or(ground.public_urls.first());
    known.map_or_else(|| format!("http://{host}"), |url| url.trim_end_matches('/').to_owned())
}

/// Why there is no answer of the kind that was asked for.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    words: String,
    /// Seconds after which it is worth while to try again.
    retry_after: Option<u64>,
}

impl Fault {
    fn new(status: StatusCode, words: impl Into<String>) -> Fault {
        Fault { status, words: words.into(), retry_after: None }
    }

    fn bad(words: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, words)
    }

    /// The same whatever is wrong, so that nobody learns which names there are.
    fn unauthorized() -> Fault {
        Fault::new(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.")
    }

    fn too_many(seconds: u64) -> Fault {
        let words = format!("Too many tries. The next one is heard in {seconds} s.");
        Fault { retry_after: Some(seconds), ..Fault::new(StatusCode::TOO_MANY_REQUESTS, words) }
    }

    fn unavailable(cause: &(dyn std::error::Error + Send + Sync)) -> Fault {
        tracing::error!(%cause, "users or tokens could not be looked up");
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, "Users and tokens cannot be looked up now. Try again later.")
    }

    fn into_response(self, url: &str) -> Response<Body> {
        let body = json!({
            "error": {
                "code": self.status.as_u16(),
                "title": self.status.canonical_reason().unwrap_or("Error"),
                "message": self.words,
            },
        });
        let mut response = json_answer(self.status, &body);
        if let Some(seconds) = self.retry_after {
            swift::set(response.headers_mut(), "retry-after", &seconds.to_string());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            swift::set(response.headers_mut(), "www-authenticate", &format!("Keystone uri=\"{url}{ROOT}\""));
        }
        response
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    swift::text(status, "application/json", body.to_string())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

const DOMAIN_ID: &str = "default";
/// The name of the one domain that there is.
pub const DOMAIN_NAME: &str = "Default";
const LONGEST_TOKEN: usize = 512;
/// The most bytes of a request.
const MOST_BODY: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_the_project_of_its_user_and_no_other() {
        for (scope, expected) in [
            (None, Some(true)),
            (Some(json!({ "project": { "id": "p" } })), Some(true)),
            (Some(json!({ "project": { "id": "q" } })), Some(false)),
            (Some(json!({ "project": { "name": "p", "domain": { "id": "default" } } })), Some(true)),
            (Some(json!({ "project": { "name": "p", "domain": { "name": "Default" } } })), Some(true)),
            (Some(json!({ "project": { "name": "p", "domain": { "name": "Other" } } })), Some(false)),
            (Some(json!({ "project": { "name": "q", "domain": { "id": "default" } } })), Some(false)),
            (Some(json!({ "project": { "name": "p" } })), None),
            (Some(json!({ "project": {} })), None),
            (Some(json!({ "project": 7 })), None),
            (Some(json!({ "domain": { "id": "default" } })), Some(false)),
            (Some(json!({ "system": { "all": true } })), Some(false)),
            (Some(json!("unscoped")), Some(false)),
        ] {
            assert_eq!(is_in_scope(scope.as_ref(), "p").ok(), expected, "{scope:?}");
        }
    }

    #[test]
    fn times_are_written_as_keystone_has_them() {
        let at = Timestamp::from_microsecond(784_111_777_000_001).expect("a time");
        assert_eq!(time(at), "1994-11-06T08:49:37.000001Z");
    }
}
