//! The one gate of the console: bounds, session, where a form comes from, handler. What a page reads or changes then passes
//! the gate of the API.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use askama::Template as _;
use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts as _, RawPathParams, Request},
    response::Response,
    routing::any,
};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use identity::{Refusal, cookie, session_cookie, session_cookie_name};
use url::form_urlencoded;

use crate::{
    Access, Console, PAGES, Page, Seen,
    pages::log_in,
    view::{Layout, MENU, Outcome, Stop, View},
    visit::{Session, Visit, encoded},
};

/// The pages of [`PAGES`]. It has no fallback, so that it can be merged into the API's router.
pub fn router(console: Console) -> Router {
    let mut paths: BTreeMap<&'static str, Vec<&'static Page>> = BTreeMap::new();
    for page in PAGES {
        paths.entry(page.path).or_default().push(page);
    }
    let mut router = Router::new();
    for (path, pages) in paths {
        let (console, pages): (_, Arc<[&'static Page]>) = (console.clone(), pages.into());
        router = router.route(path, any(move |request: Request| serve(console, pages, request)));
    }
    let absent = move |request: Request| serve(console, Arc::from([]), request);
    router.route("/console/{*rest}", any(absent.clone())).route("/console/", any(absent))
}

/// Runs a visit in a task of its own, so that what it changes is changed whole even when the browser does not wait.
async fn serve(console: Console, pages: Arc<[&'static Page]>, request: Request) -> Response {
    let task = tokio::spawn(async move { tokio::time::timeout(DEADLINE, answer(console, &pages, request)).await });
    match task.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => failed(StatusCode::SERVICE_UNAVAILABLE),
        Err(fault) => {
            tracing::error!(%fault, "a page panicked");
            failed(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn answer(console: Console, pages: &[&'static Page], request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let here = parts.uri.path().to_owned();
    let mut session = None;
    let outcome = pass(console, pages, parts, body, &mut session).await;
    let outcome = outcome.unwrap_or_else(|stop| stop.view().into());
    render(outcome, session.as_ref().map(|(who, token)| (who.as_str(), token.as_str())), &here)
}

/// Name and token of a session, for what is around a page.
type Around = Option<(String, String)>;

async fn pass(
    console: Console,
    pages: &[&'static Page],
    mut parts: Parts,
    body: Body,
    around: &mut Around,
) -> Result<Outcome, Stop> {
    if pages.is_empty() {
        return Err(Stop::new(StatusCode::NOT_FOUND, "There is no such page."));
    }
    // What answers GET answers HEAD, without the body (RFC 9110, section 9.3.2).
    let method = if parts.method == http::Method::HEAD { "GET" } else { parts.method.as_str() };
    let Some(page) = pages.iter().find(|page| page.method == method) else {
        return Err(Stop::new(StatusCode::METHOD_NOT_ALLOWED, "This page is not asked for in that way."));
    };
    let unreadable = || Stop::new(StatusCode::BAD_REQUEST, "The address or the form cannot be read.");
    if parts.uri.path_and_query().is_some_and(|text| text.as_str().len() > LONGEST_URL) {
        return Err(Stop::new(StatusCode::URI_TOO_LONG, "The address is too long."));
    }
    let seen = (console.seen)(&parts);
    let now = (console.clock)();
    let form = if page.method == "POST" { read_form(&parts, &seen, body).await? } else { Vec::new() };
    let session = match page.access {
        Access::Open => None,
        Access::Session => match find_session(&console, &parts, &seen, now).await? {
            Some(session) => Some(session),
            None => return Ok(to_log_in(page, &parts)),
        },
    };
    if let Some(session) = &session {
        *around = Some((session.who(), session.token.clone()));
        let token = form.iter().find(|(name, _)| name == "token").map_or("", |(_, value)| value);
        if page.method == "POST" && !crypto::equal(token.as_bytes(), session.token.as_bytes()) {
            let sentence = "The form is not one of this session: go back, load the page again and send it once more.";
            return Err(Stop::new(StatusCode::FORBIDDEN, sentence));
        }
    }
    let raw = RawPathParams::from_request_parts(&mut parts, &()).await.map_err(|_| unreadable())?;
    let params: Vec<(String, String)> = raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let query = pairs(parts.uri.query().unwrap_or_default().as_bytes()).ok_or_else(unreadable)?;
    if params.iter().chain(&query).chain(&form).any(|(_, value)| value.contains('\0')) {
        return Err(unreadable());
    }
    (page.handler)(Visit { console, session, params, query, form, parts, seen, now }).await
}

/// The session of the cookie, if it is good.
async fn find_session(
    console: &Console,
    parts: &Parts,
    seen: &Seen,
    now: jiff::Timestamp,
) -> Result<Option<Session>, Stop> {
    let Some(secret) = session_secret(parts, seen) else { return Ok(None) };
    match console.identity.authenticate_session(secret, seen.source_ip, now).await {
        Ok(caller) => Ok(Some(Session { caller, token: form_token(secret) })),
        Err(Refusal::SourceIp { .. }) => {
            let sentence = "The account does not let your address in.";
            Err(Stop::new(StatusCode::FORBIDDEN, sentence))
        }
        Err(Refusal::Internal(cause)) => {
            tracing::error!(%cause, "a session could not be looked up");
            Err(Stop::new(StatusCode::SERVICE_UNAVAILABLE, "The service cannot answer now; try again in a moment."))
        }
        Err(_) => Ok(None),
    }
}

/// Where one without a session goes: to the log-in, and from there to the page.
fn to_log_in(page: &Page, parts: &Parts) -> Outcome {
    let next = match (page.method, parts.uri.path_and_query()) {
        ("GET", Some(text)) => format!("?next={}", encoded(text.as_str())),
        _ => String::new(),
    };
    Outcome::Redirect { to: format!("{}{next}", log_in::PATH), cookie: None }
}

/// The form of a page of ours. A page of another site cannot send it in a person's name: browsers say where it comes from
/// (<https://www.w3.org/TR/fetch-metadata/>; those of before it send `Origin` with each POST).
async fn read_form(parts: &Parts, seen: &Seen, body: Body) -> Result<Vec<(String, String)>, Stop> {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let site = text("sec-fetch-site");
    let elsewhere = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    // The scheme is that of the proxy in front, so that hosts are compared.
    let host = |url: &str| url.split_once("://").map(|(_, host)| host.to_owned());
    let foreign = text("origin").is_some_and(|origin| host(origin).is_none() || host(origin) != host(&seen.base_url));
    if elsewhere || (foreign && site != Some("same-origin")) {
        return Err(Stop::new(StatusCode::FORBIDDEN, "The form was sent by a page of another site."));
    }
    let kind = text("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Stop::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "A form is application/x-www-form-urlencoded."));
    }
    let body = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, LARGEST_FORM).collect());
    let Ok(body) = body.await else {
        return Err(Stop::new(StatusCode::REQUEST_TIMEOUT, "The form did not come in time."));
    };
    let body = body.map_err(|_| Stop::new(StatusCode::PAYLOAD_TOO_LARGE, "The form is too large."))?.to_bytes();
    pairs(&body).ok_or_else(|| Stop::new(StatusCode::BAD_REQUEST, "The form cannot be read."))
}

/// Names and values; `None` if a name comes twice, for no reader could know which was meant, or there are too many.
fn pairs(encoded: &[u8]) -> Option<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(encoded) {
        if pairs.len() >= MOST_FIELDS || pairs.iter().any(|(known, _)| *known == name) {
            return None;
        }
        pairs.push((name.into_owned(), value.into_owned()));
    }
    Some(pairs)
}

/// The secret of the session that the browser has, by its cookie.
pub(crate) fn session_secret<'p>(parts: &'p Parts, seen: &Seen) -> Option<&'p str> {
    let lines = parts.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    cookie(lines, session_cookie_name(&seen.base_url))
}

/// What sets the cookie of a session; an empty secret takes it away.
pub(crate) fn set_cookie(seen: &Seen, secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&session_cookie(&seen.base_url, secret)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The token of a session's forms: who knows it does not know the secret.
fn form_token(secret: &str) -> String {
    hex::encode(crypto::digest::sha256(&[b"casemate console form\0", secret.as_bytes()]))
}

fn render(outcome: Outcome, around: Option<(&str, &str)>, here: &str) -> Response {
    let (who, token) = around.unwrap_or_default();
    let mut response = match outcome {
        Outcome::Page(View { status, title, parts }) => {
            let layout = Layout { title: &title, who, token, here, parts: &parts, menu: MENU };
            let html = match layout.render() {
                Ok(html) => html,
                Err(cause) => {
                    tracing::error!(%cause, "a page could not be drawn");
                    return failed(StatusCode::INTERNAL_SERVER_ERROR);
                }
            };
            let mut response = Response::new(Body::from(html));
            *response.status_mut() = status;
            put(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
            response
        }
        Outcome::Redirect { to, cookie } => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SEE_OTHER;
            let Ok(to) = HeaderValue::from_str(&to) else { return failed(StatusCode::BAD_REQUEST) };
            response.headers_mut().insert(header::LOCATION, to);
            if let Some(cookie) = cookie {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
        Outcome::File { kind, bytes } => {
            let mut response = Response::new(Body::from(bytes));
            put(&mut response, header::CONTENT_TYPE, kind);
            response
        }
    };
    secured(&mut response);
    response
}

/// A bare answer where no page can be drawn.
fn failed(status: StatusCode) -> Response {
    let mut response = Response::new(Body::from("The service cannot show this page now.\n"));
    *response.status_mut() = status;
    put(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    secured(&mut response);
    response
}

/// With this policy of referrers, `Origin` says where a form of ours comes from, and no other site learns an address.
fn secured(response: &mut Response) {
    put(response, header::CACHE_CONTROL, "no-store");
    put(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(response, header::CONTENT_SECURITY_POLICY, POLICY);
    put(response, header::REFERRER_POLICY, "same-origin");
    put(response, header::X_FRAME_OPTIONS, "DENY");
    put(response, HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
}

fn put(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const DEADLINE: Duration = Duration::from_secs(60);
const BODY_DEADLINE: Duration = Duration::from_secs(10);
const LARGEST_FORM: usize = 64 * 1024;
const LONGEST_URL: usize = 8 * 1024;
const MOST_FIELDS: usize = 32;
