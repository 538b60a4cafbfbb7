//! One visit as a page sees it, and how a page asks the API.

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{HeaderMap, Request, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use identity::{Caller, Who};
use jiff::Timestamp;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{Console, Seen, view::Stop};

/// One visit, after the gate has let it in.
pub(crate) struct Visit {
    /// What the pages work on.
    pub console: Console,
    /// Who visits; `None` on pages that are open to all.
    pub session: Option<Session>,
    /// The parameters of the path, decoded.
    pub params: Vec<(String, String)>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// What was filled into a form.
    pub form: Vec<(String, String)>,
    /// The request without its body.
    pub parts: Parts,
    /// Where it comes from.
    pub seen: Seen,
    /// When it came.
    pub now: Timestamp,
}

/// A session that is good.
pub(crate) struct Session {
    /// Who.
    pub caller: Caller,
    /// What each of its forms carries: made of the session's secret, which it does not tell.
    pub token: String,
}

impl Session {
    /// Who it is, for people.
    pub fn who(&self) -> String {
        let Caller { account, who, .. } = &self.caller;
        match who {
            Who::User { login, .. } => format!("{account}/{login}"),
            Who::Federated { name, .. } => format!("{account}: {name}"),
            Who::Account => account.to_string(),
            Who::Client { id } => format!("{account}: {id}"),
        }
    }
}

impl Visit {
    /// A parameter of the path.
    pub fn param(&self, name: &str) -> &str {
        value(&self.params, name)
    }

    /// A parameter of the query; empty where there is none.
    pub fn query(&self, name: &str) -> &str {
        value(&self.query, name)
    }

    /// What was filled into a field; empty where there is none.
    pub fn form(&self, name: &str) -> &str {
        value(&self.form, name)
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Calls the API as the one whose session it is.
    pub async fn api(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Stop> {
        let Some(session) = &self.session else {
            return Err(Stop::new(StatusCode::UNAUTHORIZED, "Nobody is logged in."));
        };
        let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // What the audit entry of the call says of the client is what it would say of the visit.
        for name in [header::HOST, header::USER_AGENT, header::HeaderName::from_static("x-forwarded-for")] {
            for value in self.parts.headers.get_all(&name) {
                request = request.header(&name, value);
            }
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request =
            request.body(body).map_err(|_| Stop::new(StatusCode::BAD_REQUEST, "The address cannot be read."))?;
        request.extensions_mut().insert(session.caller.clone());
        if let Some(peer) = self.parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>() {
            request.extensions_mut().insert(*peer);
        }
        call(self.console.api.clone(), request).await
    }

    /// Reads by the API what must be there.
    pub async fn read(&self, path: &str) -> Result<Value, Stop> {
        self.api("GET", path, &[], None).await?.done()
    }
}

async fn call(api: Router, request: Request<Body>) -> Result<Answer, Stop> {
    let unreadable = || Stop::new(StatusCode::BAD_GATEWAY, "The answer of the API cannot be read.");
    let response = match api.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (parts, body) = response.into_parts();
    let bytes = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|_| unreadable())?.to_bytes();
    let body = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// The body of a success; otherwise the page that says what the API says.
    pub fn done(self) -> Result<Value, Stop> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let mut sentences = vec![format!("{}.", text(&self.body["message"]).trim_end_matches('.'))];
        for (name, detail) in self.body["details"].as_object().into_iter().flatten() {
            sentences.push(format!("{name}: {}", text(detail)));
        }
        if let Some(id) = self.headers.get("x-ovh-queryid").and_then(|value| value.to_str().ok()) {
            sentences.push(format!("Request {id}"));
        }
        Err(Stop { status: self.status, sentences })
    }

    /// A header that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.parse().ok()
    }
}

/// A value of JSON for people: texts as they are, lists with commas, `-` for nothing.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Labels with the fields of an object.
pub(crate) fn facts(object: &Value, names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(label, name)| ((*label).to_owned(), text(&object[*name]))).collect()
}

/// A text as one part of a path, or as a value of a query (RFC 3986, section 2.3).
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

fn value<'p>(pairs: &'p [(String, String)], name: &str) -> &'p str {
    pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
