//! The one gate of the API: bounds, then who calls, then whether they may, then the handler, then the audit entry.
//! A call that a client walks away from is ended and recorded all the same.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use audit::{Actor, Entry};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, FromRequestParts as _, RawPathParams, Request},
    response::Response,
    routing::any,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use identity::{Caller, Project, Proof, Refusal, Resource, SignedRequest};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Access, ApiError, ApiState, Config, ROUTES, Route, recorded,
    request::{Call, Reply, ReplyBody, parse_query},
};

/// The routes of [`ROUTES`] over `state`: under `/1.0` and `/v1`, those of v2 under `/v2`, pages of single sign-on under
/// `/console`. The peer's address comes from
/// [`ConnectInfo<SocketAddr>`], which the listener puts into each request.
pub fn router(state: ApiState) -> Router {
    let mut paths: BTreeMap<&'static str, Vec<&'static Route>> = BTreeMap::new();
    for route in ROUTES {
        paths.entry(route.path).or_default().push(route);
    }
    let mut router = Router::new();
    for (path, routes) in paths {
        let routes: Arc<[&'static Route]> = routes.into();
        // Of v2 with it, and pages for people, whose addresses others keep: as they stand.
        let is_whole = path.starts_with("/v2/") || path.starts_with("/console/");
        let versions: &[&str] = if is_whole { &[""] } else { &VERSIONS };
        // Clients of OAuth2 ask where the old service answers, which is beside its API.
        let beside: &[&str] = if path == TOKEN_PATH { &[""] } else { &[] };
        for version in versions.iter().chain(beside) {
            let (state, routes) = (state.clone(), Arc::clone(&routes));
            let handler = any(move |request: Request| serve(state, routes, request));
            router = router.route(&format!("{version}{path}"), handler);
        }
    }
    let alive = any(|| async { ([(header::CONTENT_TYPE, "application/json")], "{\"status\":\"ok\"}\n") });
    router.route("/status", alive).fallback(move |request: Request| serve(state, Arc::from([]), request))
}

/// Runs a call in a task of its own, so that it ends even when the client does not wait.
async fn serve(state: ApiState, routes: Arc<[&'static Route]>, request: Request) -> Response {
    let query_id = format!("casemate.{}", Uuid::now_v7().simple());
    let id = query_id.clone();
    let task = tokio::spawn(async move { answer(state, &routes, request, &id).await });
    let response = task.await.unwrap_or_else(|fault| {
        tracing::error!(%fault, query_id, "a call panicked");
        render(Err(ApiError::failed()))
    });
    identified(response, &query_id)
}

/// What the audit entry of a call will say, as far as it is known.
#[derive(Default)]
struct Record {
    route: Option<&'static Route>,
    caller: Option<Caller>,
    resource: Option<Resource>,
    decision: Option<audit::Decision>,
    reason: Option<String>,
    /// The key of the application that a call named which was not proved to be its.
    application: Option<String>,
}

async fn answer(state: ApiState, routes: &[&'static Route], request: Request, query_id: &str) -> Response {
    let now = Timestamp::now();
    let (mut parts, body) = request.into_parts();
    let source_ip = source_ip(&state.config, &parts);
    let mut record = Record::default();
    let handled = pass(&state, routes, &mut parts, body, &mut record, now, source_ip, query_id);
    let result = match tokio::time::timeout(DEADLINE, handled).await {
        Ok(result) => result,
        Err(_) => {
            tracing::error!(query_id, route = record.route.map(|route| route.path), "a call did not end in time");
            Err(ApiError::unavailable())
        }
    };
    record.application = named_application(&state, &record, &parts).await;
    let entry = entry(&record, &parts, &result, now, source_ip, query_id);
    let response = render(result);
    let recorded = match parts.method {
        http::Method::GET => state.audit.record_read(entry).await,
        _ => state.audit.record(entry).await,
    };
    match recorded {
        Ok(()) => response,
        // What cannot be recorded is not answered.
        Err(cause) => {
            tracing::error!(%cause, query_id, "a call was not recorded");
            render(Err(ApiError::unavailable()))
        }
    }
}

#[allow(clippy::too_many_arguments)]
async fn pass(
    state: &ApiState,
    routes: &[&'static Route],
    parts: &mut Parts,
    body: Body,
    record: &mut Record,
    now: Timestamp,
    source_ip: Option<IpAddr>,
    query_id: &str,
) -> Result<Reply, ApiError> {
    let route = find_route(routes, parts)?;
    record.route = Some(route);
    if parts.uri.path_and_query().is_some_and(|text| text.as_str().len() > LONGEST_URL) {
        return Err(ApiError::uri_too_long());
    }
    let body = read_body(parts, body, state.config.body_timeout).await?;
    let caller = authenticate(state, route, parts, &body, now, source_ip, record).await?;
    let params = path_params(parts).await?;
    let query = parse_query(parts.uri.query().unwrap_or_default())?;
    let project = match &caller {
        Some(caller) => decide(state, route, caller, &params, now, record).await?,
        None => None,
    };
    let call = Call {
        api: state.clone(),
        caller,
        project,
        params,
        query,
        headers: parts.headers.clone(),
        body,
        query_id: query_id.to_owned(),
        source_ip,
        base_url: base_url(&state.config, parts),
        now,
    };
    (route.handler)(call).await
}

/// The application that a call names whose caller is unknown, if there is one: what stands there may be anything else.
async fn named_application(state: &ApiState, record: &Record, parts: &Parts) -> Option<String> {
    let named = parts.headers.get("x-ovh-application").filter(|_| record.caller.is_none())?.to_str().ok()?;
    let found = state.identity.application_by_key(named).await.ok().flatten()?;
    Some(found.key)
}

fn find_route(routes: &[&'static Route], parts: &Parts) -> Result<&'static Route, ApiError> {
    if routes.is_empty() {
        return Err(ApiError::no_route());
    }
    routes.iter().find(|route| route.method.as_str() == parts.method.as_str()).copied().ok_or_else(|| {
        let methods: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
        ApiError::method_not_allowed(&methods.join(", "))
    })
}

async fn read_body(parts: &Parts, body: Body, timeout: Duration) -> Result<Bytes, ApiError> {
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY as u64) {
        return Err(ApiError::too_large());
    }
    match tokio::time::timeout(timeout, Limited::new(body, LARGEST_BODY).collect()).await {
        Err(_) => Err(ApiError::too_slow()),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => Err(ApiError::too_large()),
        Ok(Err(_)) => Err(ApiError::bad_request("The body of the request could not be read")),
    }
}

/// Who calls, and whether the credential's rules grant this call. A [`Caller`] among the extensions of the request was put
/// there by this process, which has authenticated it (the console, by its session): what comes over the network has headers and
/// a body, and no extension.
async fn authenticate(
    state: &ApiState,
    route: &'static Route,
    parts: &Parts,
    body: &[u8],
    now: Timestamp,
    source_ip: Option<IpAddr>,
    record: &mut Record,
) -> Result<Option<Caller>, ApiError> {
    if route.access == Access::Open {
        return Ok(None);
    }
    record.decision = Some(audit::Decision::Refused);
    let proved = match parts.extensions.get::<Caller>() {
        Some(caller) => Ok(caller.clone()),
        None => proved(state, parts, body, now, source_ip).await,
    };
    // The audit log names whose credential was tried from elsewhere: it may be in the wrong hands.
    if let Err(Refusal::SourceIp { caller }) = &proved {
        record.caller = Some((**caller).clone());
        record.reason = Some("the credential or its account does not let that address in".to_owned());
    }
    let caller = proved?;
    record.caller = Some(caller.clone());
    if route.access != Access::Own && !caller.may_call(route.method, without_version(parts.uri.path())) {
        record.reason = Some("no access rule of the credential grants the call".to_owned());
        return Err(ApiError::not_granted());
    }
    Ok(Some(caller))
}

/// Who proves by the request itself who they are.
async fn proved(
    state: &ApiState,
    parts: &Parts,
    body: &[u8],
    now: Timestamp,
    source_ip: Option<IpAddr>,
) -> Result<Caller, Refusal> {
    let urls = seen_urls(&state.config, parts);
    let signed = signed(parts, &urls, body, source_ip);
    match bearer(parts).filter(|_| signed.application.is_none()) {
        Some(token) => state.identity.authenticate_token(token, source_ip, now).await,
        None => state.identity.authenticate(&signed, now).await,
    }
}

/// What of a call its signature is about.
pub(crate) fn signed<'a>(
    parts: &'a Parts,
    urls: &'a [String],
    body: &'a [u8],
    source_ip: Option<IpAddr>,
) -> SignedRequest<'a> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    SignedRequest {
        application: text("x-ovh-application"),
        consumer: text("x-ovh-consumer"),
        timestamp: text("x-ovh-timestamp"),
        signature: text("x-ovh-signature"),
        method: parts.method.as_str(),
        urls,
        body,
        source_ip,
    }
}

/// The access token of a call (RFC 6750, section 2.1).
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let (scheme, token) = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Asks for the decision. A project of which the caller's account is no contact is one that does not exist, unless policies
/// allow the call.
async fn decide(
    state: &ApiState,
    route: &'static Route,
    caller: &Caller,
    params: &[(String, String)],
    now: Timestamp,
    record: &mut Record,
) -> Result<Option<Project>, ApiError> {
    let without = match route.access {
        Access::Own | Access::Personal => Some("it is about the caller alone"),
        Access::Filtered => Some("it shows what is allowed alone"),
        Access::Open | Access::Granted => None,
    };
    if let Some(reason) = without {
        record.resource = Some(Resource::Account(caller.account.clone()));
        record.decision = Some(audit::Decision::Allowed);
        record.reason = Some(reason.to_owned());
        return Ok(None);
    }
    let given = params.iter().find(|(name, _)| name == "serviceName").map(|(_, value)| value.as_str());
    let resource = match given {
        None => Resource::Account(caller.account.clone()),
        Some(id) => match id.parse() {
            Ok(project) => Resource::Project(project),
            Err(_) => return Err(ApiError::not_found("serviceName", id)),
        },
    };
    record.resource = Some(resource.clone());
    let decision = state.identity.authorize(caller, route.action, resource, now).await?;
    record.decision = Some(decision.recorded());
    record.reason = Some(decision.reason.clone());
    let project = decision.project;
    if given.is_some() && project.is_none() {
        // What stands there is no project, and may be anything.
        record.resource = None;
    }
    let own = match &decision.resource {
        Resource::Project(id) if !decision.allowed => {
            state.identity.contacts(id).await?.is_some_and(|contacts| contacts.has(&caller.account))
        }
        Resource::Project(_) | Resource::Account(_) => false,
    };
    match (decision.allowed, given) {
        (true, Some(id)) if project.is_none() => Err(ApiError::not_found("serviceName", id)),
        (true, _) => Ok(project),
        (false, Some(id)) if !own => Err(ApiError::not_found("serviceName", id)),
        (false, _) => Err(ApiError::forbidden(route.action)),
    }
}

async fn path_params(parts: &mut Parts) -> Result<Vec<(String, String)>, ApiError> {
    let undecodable = || ApiError::bad_request("The path is not percent-encoded UTF-8");
    let raw = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| undecodable())?;
    let params: Vec<(String, String)> = raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if params.iter().any(|(_, value)| value.contains('\0')) {
        return Err(undecodable());
    }
    Ok(params)
}

/// Every URL that the client may have seen: under each public address, and under the `Host` that it named if that is
/// a loopback address. What `Host` says is not believed otherwise.
pub(crate) fn seen_urls(config: &Config, parts: &Parts) -> Vec<String> {
    let path = parts.uri.path_and_query().map_or("/", |text| text.as_str());
    let mut urls: Vec<String> =
        config.public_urls.iter().map(|base| format!("{}{path}", base.trim_end_matches('/'))).collect();
    if let Some(host) = host(parts).filter(|host| is_loopback(host)) {
        urls.push(format!("http://{host}{path}"));
        urls.push(format!("https://{host}{path}"));
    }
    urls
}

/// The address under which the client of a request reaches the service, without path, to build links for it. Its scheme is
/// the one that the client used, by which cookies go too.
pub fn base_url(config: &Config, parts: &Parts) -> String {
    let host = host(parts).unwrap_or_default();
    let named = config.public_urls.iter().find(|base| {
        let authority = base.split_once("://").map_or(base.as_str(), |(_, rest)| rest);
        authority.split('/').next().is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    match named {
        Some(base) => base.trim_end_matches('/').to_owned(),
        None if is_loopback(host) => format!("{}://{host}", if config.tls { "https" } else { "http" }),
        None => config.public_urls.first().map(|base| base.trim_end_matches('/').to_owned()).unwrap_or_default(),
    }
}

fn host(parts: &Parts) -> Option<&str> {
    let named = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    named.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str))
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// From where a request comes, by the rule of [`model::source_ip`].
pub fn source_ip(config: &Config, parts: &Parts) -> Option<IpAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let forwarded = parts.headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
    Some(model::source_ip(peer.ip(), &config.trusted_proxies, forwarded))
}

pub(crate) fn without_version(path: &str) -> &str {
    VERSIONS.iter().find_map(|version| path.strip_prefix(version)).unwrap_or(path)
}

fn entry(
    record: &Record,
    parts: &Parts,
    result: &Result<Reply, ApiError>,
    at: Timestamp,
    source_ip: Option<IpAddr>,
    query_id: &str,
) -> Entry {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let actor = record.caller.as_ref().map_or_else(|| Actor::anonymous(source_ip), Caller::actor);
    let action = record.route.map_or("none", |route| route.action);
    let (status, code, class) = match result {
        Ok(reply) => (reply.status, None, None),
        Err(error) => (error.status, Some(error.code), Some(error.class.as_str())),
    };
    let plain = recorded::is_plain(record.caller.is_some(), status.as_u16());
    let path = recorded::path(record.route, parts.uri.path(), plain);
    let mut detail = json!({
        "method": match record.route {
            Some(route) => route.method.as_str(),
            None => known_method(&parts.method),
        },
        "path": path,
        "route": record.route.map(|route| route.path),
        "query": parts.uri.query().map(|query| recorded::query(query, plain)),
        "errorCode": code,
        "class": class,
        "reason": record.reason,
        "identities": record.caller.as_ref().map(Caller::identities),
        "proof": record.caller.as_ref().map(|caller| caller.proof.to_string()),
        "source": record.caller.as_ref().map(|caller| match caller.proof {
            Proof::Session { .. } => "manager",
            Proof::ConsumerKey { .. } | Proof::Token { .. } => "api",
        }),
        "userAgent": parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(|text| cut(text, 256)),
    });
    if let (Some(key), Value::Object(detail)) = (&record.application, &mut detail) {
        detail.insert("application".to_owned(), Value::String(key.clone()));
    }
    Entry {
        at,
        actor,
        action: action.to_owned(),
        resource: record.resource.as_ref().map_or_else(|| path.clone(), ToString::to_string),
        decision: record.decision.unwrap_or(audit::Decision::None),
        result: status.as_u16().to_string(),
        request_id: Some(query_id.to_owned()),
        detail,
    }
}

/// A method of HTTP; whatever else a client puts there may be anything.
fn known_method(method: &http::Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("*")
}

fn render(result: Result<Reply, ApiError>) -> Response {
    let mut policy = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let (status, content_type, bytes, headers) = match result {
        Ok(reply) => match reply.body {
            ReplyBody::Json(bytes) => (reply.status, JSON, bytes, reply.headers),
            ReplyBody::Page(html) => (reply.status, HTML, html.into_bytes(), reply.headers),
            ReplyBody::SamlMetadata(xml) => (reply.status, SAML_METADATA, xml.into_bytes(), reply.headers),
            ReplyBody::ScriptedPage(html) => {
                policy = "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
                (reply.status, HTML, html.into_bytes(), reply.headers)
            }
            ReplyBody::Script(text) => (reply.status, SCRIPT, text.as_bytes().to_vec(), reply.headers),
        },
        Err(error) => {
            let bytes = error.body().to_string().into_bytes();
            let allow = error.allow.and_then(|methods| HeaderValue::from_str(&methods).ok());
            let allow = allow.map(|value| (header::ALLOW, value));
            let scheme = error.authenticate;
            let scheme = scheme.map(|scheme| (header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme.as_str())));
            (error.status, JSON, bytes, allow.into_iter().chain(scheme).collect())
        }
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let answer: &mut HeaderMap = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer.extend(headers);
    response
}

fn identified(mut response: Response, query_id: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(query_id) {
        response.headers_mut().insert("x-ovh-queryid", value);
    }
    response
}

const VERSIONS: [&str; 2] = ["/1.0", "/v1"];
const TOKEN_PATH: &str = "/auth/oauth2/token";
const JSON: &str = "application/json; charset=utf-8";
// SAML 2.0 metadata, appendix A.
const SAML_METADATA: &str = "application/samlmetadata+xml";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const LARGEST_BODY: usize = 1024 * 1024;
const LONGEST_URL: usize = 8 * 1024;
const DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(host: &str, path: &str) -> Parts {
        let request = http::Request::builder().uri(path).header("host", host).body(()).expect("a request");
        request.into_parts().0
    }

    #[test]
    fn a_host_that_is_neither_public_nor_loopback_is_not_believed() {
        let config = Config { public_urls: vec!["https://api.example.org/".into()], ..Config::default() };
        for host in
            ["evil.example.org", "localhost.evil.org", "127.0.0.1@evil.org", "127.0.0.1.evil.org:80", "10.0.0.1"]
        {
            assert_eq!(
                seen_urls(&config, &parts(host, "/1.0/me?a=b")),
                ["https://api.example.org/1.0/me?a=b"],
                "{host}"
            );
        }
        for host in ["127.0.0.1:8080", "localhost:1", "[::1]:8080"] {
            let urls = seen_urls(&config, &parts(host, "/1.0/me"));
            assert!(urls.contains(&format!("http://{host}/1.0/me")), "{urls:?}");
        }
    }

    #[test]
    fn a_loopback_address_is_reached_by_what_the_listener_speaks_and_another_as_it_is_configured() {
        let public_urls = vec!["https://api.example.org/".into(), "http://127.0.0.1:8080".into()];
        for (tls, host, url) in [
            (false, "localhost:8080", "http://localhost:8080"),
            (true, "localhost:8080", "https://localhost:8080"),
            (true, "[::1]:8080", "https://[::1]:8080"),
            (true, "127.0.0.1:8080", "http://127.0.0.1:8080"),
            (false, "api.example.org", "https://api.example.org"),
            (true, "evil.example.org", "https://api.example.org"),
        ] {
            let config = Config { public_urls: public_urls.clone(), tls, ..Config::default() };
            assert_eq!(base_url(&config, &parts(host, "/console")), url, "{tls}, {host}");
        }
    }

    #[test]
    fn an_address_said_by_a_stranger_is_not_believed() {
        let config = Config { trusted_proxies: vec!["10.0.0.0/8".parse().expect("a block")], ..Config::default() };
        let from = |peer: &str, forwarded: &str| {
            let mut parts = parts("localhost", "/");
            let peer: SocketAddr = peer.parse().expect("an address");
            parts.extensions.insert(ConnectInfo(peer));
            parts.headers.insert("x-forwarded-for", forwarded.parse().expect("a header"));
            source_ip(&config, &parts).expect("an address").to_string()
        };
        assert_eq!(from("192.0.2.1:1", "203.0.113.9"), "192.0.2.1");
        assert_eq!(from("10.0.0.1:1", "203.0.113.9"), "203.0.113.9");
        assert_eq!(from("10.0.0.1:1", "127.0.0.1, 203.0.113.9, 10.0.0.2"), "203.0.113.9");
        assert_eq!(from("10.0.0.1:1", "nonsense"), "10.0.0.1");
    }
}
