//! One call as a handler sees it, and what a handler answers.

use std::net::IpAddr;

use audit::Actor;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use identity::{Caller, Project};
use jiff::Timestamp;
use model::Region;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{ApiError, ApiState, percent};

/// One call, after the gate has let it in.
pub(crate) struct Call {
    /// What the routes work on.
    pub api: ApiState,
    /// Who calls; `None` on routes that are open to all.
    pub caller: Option<Caller>,
    /// The project of the path, which is the caller's.
    pub project: Option<Project>,
    /// The parameters of the path, decoded.
    pub params: Vec<(String, String)>,
    /// The query, decoded; each name once.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The id of the call.
    pub query_id: String,
    /// From where it came.
    pub source_ip: Option<IpAddr>,
    /// The address that the client used, without the version and path.
    pub base_url: String,
    /// When it came.
    pub now: Timestamp,
}

impl Call {
    /// A parameter of the path.
    pub fn param(&self, name: &str) -> Result<&str, ApiError> {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(ApiError::no_route)
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A time of the query; `None` where there is none.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.query(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        // An offset's '+' that was not encoded arrives as a space.
        let time = text.parse::<Timestamp>().or_else(|_| text.replace(' ', "+").parse());
        let wrong = |_| ApiError::bad_field(name, "a time by RFC 3339 such as 2026-11-25T08:00:00Z");
        time.map(Some).map_err(wrong)
    }

    /// The region of the project; says so where it is none of this service's.
    pub fn region(&self) -> Result<&Region, ApiError> {
        let served = &self.api.config.regions;
        let home = self.project()?.region_among(served).ok_or_else(ApiError::failed)?;
        match served.contains(home) {
            true => Ok(home),
            false => Err(ApiError::elsewhere("region", format!("the project is in {home}, which is not served here"))),
        }
    }

    /// The region of the project, which a field of the call names; `None` for a name that no region here has.
    pub fn region_named(&self, field: &str, given: &str) -> Result<Option<&Region>, ApiError> {
        let home = self.region()?;
        if home.as_str().eq_ignore_ascii_case(given) {
            return Ok(Some(home));
        }
        match self.api.config.regions.iter().find(|region| region.as_str().eq_ignore_ascii_case(given)) {
            Some(other) => {
                let message = format!("{other} is not the project's region: its data and jobs stay in {home}");
                Err(ApiError::elsewhere(field, message))
            }
            None => Ok(None),
        }
    }

    /// The caller; the gate lets nobody else come to a route that asks for one.
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or_else(ApiError::failed)
    }

    /// The project of the path; the gate has checked it.
    pub fn project(&self) -> Result<&Project, ApiError> {
        self.project.as_ref().ok_or_else(ApiError::failed)
    }

    /// Who acts, for the audit log.
    pub fn actor(&self) -> Actor {
        let mut actor = match &self.caller {
            Some(caller) => caller.actor(),
            None => Actor::anonymous(self.source_ip),
        };
        actor.request_id = Some(self.query_id.clone());
        actor
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        if let Some(kind) = self.header("content-type")
            && !self.body.is_empty()
            && !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        {
            return Err(ApiError::not_json());
        }
        serde_json::from_slice(&self.body).map_err(|fault| {
            ApiError::bad_request(format!("The body is not the JSON that is expected here: {}", without_value(&fault)))
        })
    }
}

/// What is wrong with a text of JSON, without the value that it is about, which may be a password.
fn without_value(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    match text.rsplit_once(", expected ") {
        Some((found, expected)) => {
            let kind = found.split([':', '`']).next().unwrap_or_default().trim_end();
            format!("{kind}, expected {expected}")
        }
        None => text,
    }
}

/// Reads a query; a name that comes twice is refused, for no reader could know which was meant.
pub(crate) fn parse_query(raw: &str) -> Result<Vec<(String, String)>, ApiError> {
    let mut query: Vec<(String, String)> = Vec::new();
    for part in raw.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decode = |text: &str| {
            percent::decode(text, true)
                .map_err(|fault| ApiError::bad_request(format!("The query cannot be read: {fault}")))
        };
        let (name, value) = (decode(name)?, decode(value)?);
        if query.iter().any(|(known, _)| *known == name) {
            let name: String = name.chars().take(80).collect();
            return Err(ApiError::bad_field(&name, "given more than once in the query"));
        }
        if query.len() >= MOST_QUERY_PARTS {
            return Err(ApiError::bad_request("The query has more than 64 parts"));
        }
        query.push((name, value));
    }
    Ok(query)
}

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status: 200, but for pages that refuse.
    pub status: StatusCode,
    /// The body.
    pub body: ReplyBody,
    /// Headers beside those of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// JSON, as all of the API.
    Json(Vec<u8>),
    /// A page for a person.
    Page(String),
    /// Metadata of SAML, for another program.
    SamlMetadata(String),
    /// A page that may run a script of this service.
    ScriptedPage(String),
    /// A script of this service.
    Script(&'static str),
}

impl Reply {
    /// An answer with a body.
    pub fn json<T: Serialize>(value: &T) -> Result<Reply, ApiError> {
        let body = serde_json::to_vec(value).map_err(|fault| ApiError::internal(&fault))?;
        Ok(Reply { status: StatusCode::OK, body: ReplyBody::Json(body), headers: Vec::new() })
    }

    /// The answer of a route that has nothing to say: `null`, for SDKs read every body as JSON.
    pub fn void() -> Result<Reply, ApiError> {
        Reply::json(&Value::Null)
    }

    /// A page for a person.
    pub fn page(html: String) -> Reply {
        Reply { status: StatusCode::OK, body: ReplyBody::Page(html), headers: Vec::new() }
    }

    /// A script.
    pub fn script(text: &'static str) -> Reply {
        Reply { status: StatusCode::OK, body: ReplyBody::Script(text), headers: Vec::new() }
    }

    /// The same page, which may run a script of this service.
    pub fn scripted(mut self) -> Reply {
        if let ReplyBody::Page(html) = self.body {
            self.body = ReplyBody::ScriptedPage(html);
        }
        self
    }

    /// The same with another status.
    pub fn with_status(mut self, status: StatusCode) -> Reply {
        self.status = status;
        self
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

const MOST_QUERY_PARTS: usize = 64;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[allow(dead_code, reason = "only read")]
    struct Body {
        login: String,
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    enum Kind {
        One,
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_without_what_stands_in_it() {
        for (body, said) in [
            ("{\"login\": 4711}", "invalid type, expected a string at line 1 column 14"),
            ("{\"login\": \"a\", \"kind\": \"hunter2\"}", "unknown variant, expected `ONE` at line 1 column 32"),
            ("{\"hunter2\": 1}", "unknown field, expected `login` or `kind` at line 1 column 10"),
            ("\"a, expected hunter2\"", "invalid type, expected struct Body at line 1 column 21"),
            ("{\"login\": \"a\"}", "missing field `kind` at line 1 column 14"),
        ] {
            let fault = serde_json::from_str::<Body>(body).expect_err("refused");
            assert_eq!(without_value(&fault), said, "{body}");
        }
    }
}
