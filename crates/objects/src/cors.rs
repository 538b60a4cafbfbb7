//! Which pages of other origins a browser may let at a bucket
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html>). A rule opens nothing by itself: what a call may
//! do is decided as without it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use s3s::{
    S3Error, S3Result,
    dto::{CORSConfiguration, CORSRule},
    s3_error,
};

/// Says what is wrong with rules that a bucket is to get.
pub fn check(rules: &[CORSRule]) -> S3Result<()> {
    if rules.is_empty() {
        return Err(s3_error!(MalformedXML, "a CORS configuration has at least one rule"));
    }
    if rules.len() > MOST_RULES {
        return Err(s3_error!(InvalidRequest, "a bucket has at most {MOST_RULES} CORS rules"));
    }
    for rule in rules {
        if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
            return Err(s3_error!(MalformedXML, "a CORS rule has at least one allowed method and one allowed origin"));
        }
        if let Some(method) = rule.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
            return Err(s3_error!(
                InvalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ));
        }
        let headers = rule.allowed_headers.iter().flatten();
        if let Some(pattern) =
            rule.allowed_origins.iter().chain(headers).find(|pattern| pattern.matches('*').count() > 1)
        {
            return Err(s3_error!(InvalidRequest, "`{pattern}` has more than one wildcard"));
        }
        let mut exposed = rule.expose_headers.iter().flatten();
        if let Some(name) = exposed.find(|name| name.contains('*') || HeaderName::try_from(name.as_str()).is_err()) {
            return Err(s3_error!(InvalidRequest, "ExposeHeader `{name}` is not the name of a header"));
        }
        if rule.id.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
            return Err(s3_error!(InvalidRequest, "the ID of a CORS rule has at most {LONGEST_ID} characters"));
        }
        if rule.max_age_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(s3_error!(InvalidRequest, "MaxAgeSeconds is not negative"));
        }
    }
    Ok(())
}

/// What a browser asks before it sends a call.
#[derive(Debug)]
pub struct Preflight {
    origin: String,
    method: String,
    headers: Vec<String>,
}

impl Preflight {
    /// Reads it from a request's headers, or says what is missing.
    pub fn of(headers: &HeaderMap) -> S3Result<Preflight> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let origin =
            text(header::ORIGIN).ok_or_else(|| bad("Insufficient information. Origin request header needed."))?;
        let method = text(header::ACCESS_CONTROL_REQUEST_METHOD)
            .filter(|method| METHODS.contains(method))
            .ok_or_else(|| bad("Invalid Access-Control-Request-Method"))?;
        let wanted = text(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
        let headers: Vec<String> =
            wanted.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect();
        if headers.iter().any(|name| HeaderName::try_from(name.as_str()).is_err()) {
            return Err(bad("Access-Control-Request-Headers names what is not a header"));
        }
        Ok(Preflight { origin: origin.to_owned(), method: method.to_owned(), headers })
    }

    /// The headers that let the browser send the call, if a rule does.
    pub fn answer(&self, config: &CORSConfiguration) -> Option<HeaderMap> {
        let rule = config.cors_rules.iter().find(|rule| {
            let names = || rule.allowed_headers.iter().flatten();
            allows(rule, &self.origin, &self.method)
                && self.headers.iter().all(|wanted| names().any(|name| like(&name.to_ascii_lowercase(), wanted)))
        })?;
        let mut answer = answer(rule, &self.origin);
        put(&mut answer, header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers.join(", "));
        if let Some(seconds) = rule.max_age_seconds {
            put(&mut answer, header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
        Some(answer)
    }

    /// Why a browser is not let.
    pub fn refusal(configured: bool) -> S3Error {
        let why = match configured {
            true => "This CORS request is not allowed: no rule of the bucket matches its origin, method and headers.",
            false => "CORS is not enabled for this bucket.",
        };
        let code = s3s::S3ErrorCode::Custom("AccessForbidden".into());
        let mut refusal = S3Error::with_message(code, format!("CORSResponse: {why}"));
        refusal.set_status_code(http::StatusCode::FORBIDDEN);
        refusal
    }
}

/// The headers that let a page of `origin` read the answer of a call.
pub fn of_answer(config: &CORSConfiguration, origin: &str, method: &Method) -> Option<HeaderMap> {
    let method = if *method == Method::OPTIONS { return None } else { method.as_str() };
    config.cors_rules.iter().find(|rule| allows(rule, origin, method)).map(|rule| answer(rule, origin))
}

fn allows(rule: &CORSRule, origin: &str, method: &str) -> bool {
    rule.allowed_methods.iter().any(|allowed| allowed == method)
        && rule.allowed_origins.iter().any(|allowed| like(allowed, origin))
}

fn answer(rule: &CORSRule, origin: &str) -> HeaderMap {
    let mut answer = HeaderMap::new();
    if rule.allowed_origins.iter().any(|allowed| allowed == "*") {
        put(&mut answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    } else {
        put(&mut answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        put(&mut answer, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    put(&mut answer, header::ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
    let exposed: Vec<&str> = rule.expose_headers.iter().flatten().map(String::as_str).collect();
    put(&mut answer, header::ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
    put(&mut answer, header::VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
    answer
}

fn put(answer: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Some(value) = HeaderValue::try_from(value).ok().filter(|value| !value.is_empty()) {
        answer.insert(name, value);
    }
}

/// Whether a text is as a pattern with at most one `*`.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        }
    }
}

fn bad(why: &'static str) -> S3Error {
    let mut refusal = S3Error::with_message(s3s::S3ErrorCode::Custom("BadRequest".into()), why);
    refusal.set_status_code(http::StatusCode::BAD_REQUEST);
    refusal
}

const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
const MOST_RULES: usize = 100;
const LONGEST_ID: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(origins: &[&str], methods: &[&str], headers: &[&str]) -> CORSRule {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        CORSRule {
            allowed_headers: Some(list(headers)),
            allowed_methods: list(methods),
            allowed_origins: list(origins),
            expose_headers: Some(list(&["ETag"])),
            id: None,
            max_age_seconds: Some(60),
        }
    }

    fn preflight(origin: &'static str, method: &'static str, names: &'static str) -> Preflight {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static(method));
        headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static(names));
        Preflight::of(&headers).expect("a preflight")
    }

    #[test]
    fn the_first_rule_that_allows_origin_method_and_headers_answers() {
        let config = CORSConfiguration {
            cors_rules: vec![
                rule(&["https://*.example.org"], &["GET"], &[]),
                rule(&["https://app.example.org"], &["PUT"], &["X-Amz-*", "content-type"]),
                rule(&["*"], &["HEAD"], &["*"]),
            ],
        };
        let allowed = |origin, method, names| preflight(origin, method, names).answer(&config);
        let answer = allowed("https://app.example.org", "PUT", "content-type, x-amz-date").expect("allowed");
        assert_eq!(answer["access-control-allow-origin"], "https://app.example.org");
        assert_eq!(answer["access-control-allow-headers"], "content-type, x-amz-date");
        assert_eq!(answer["access-control-max-age"], "60");
        assert_eq!(allowed("https://other.org", "HEAD", "any").expect("allowed")["access-control-allow-origin"], "*");
        assert!(allowed("https://app.example.org", "GET", "").is_some());
        for (origin, method, names) in [
            ("https://app.example.org", "PUT", "authorization"),
            ("https://app.example.org", "GET", "x-amz-date"),
            ("https://app.example.org", "DELETE", ""),
            ("http://app.example.org", "GET", ""),
            ("https://app.example.org.evil.org", "GET", ""),
        ] {
            assert!(allowed(origin, method, names).is_none(), "{origin} {method} {names}");
        }
        assert!(of_answer(&config, "https://a.example.org", &Method::GET).is_some());
        assert!(of_answer(&config, "https://a.example.org", &Method::PUT).is_none());
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        assert!(check(&[rule(&["*"], &["GET"], &["*"])]).is_ok());
        for wrong in [
            rule(&["*"], &["PATCH"], &[]),
            rule(&["*"], &[], &[]),
            rule(&[], &["GET"], &[]),
            rule(&["https://*.*.org"], &["GET"], &[]),
            rule(&["*"], &["GET"], &["x-*-*"]),
            CORSRule { expose_headers: Some(vec!["x-*".to_owned()]), ..rule(&["*"], &["GET"], &[]) },
        ] {
            assert!(check(&[wrong]).is_err());
        }
        assert!(check(&[]).is_err());
        assert!(check(&vec![rule(&["*"], &["GET"], &[]); 101]).is_err());
    }
}
