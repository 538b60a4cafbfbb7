//! Calls of the jobs API, signed by the OVH scheme.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::profile::Profile;
use crate::failure::{Doing, Failure};

/// A caller of the jobs API.
pub struct Client {
    http: reqwest::Client,
    profile: Profile,
    base: String,
    /// How far the service's clock is ahead of ours, in seconds; 0 until a call was refused for it.
    shift: AtomicI64,
}

/// What the service answered.
pub struct Answer {
    /// The body.
    pub body: Value,
    /// How many there are in all, where a page was asked for.
    pub elements: Option<u64>,
}

/// How a call went wrong.
enum Fault {
    /// The service did not answer; whether it did what was asked is not known.
    Unreachable(reqwest::Error),
    /// It said no.
    Refused(StatusCode, Value),
}

/// A call that failed.
pub struct Failed {
    /// Why, for the person at the terminal.
    pub failure: Failure,
    /// Whether the service said no, so that nothing was done. Else it may have been done.
    pub refused: bool,
}

impl Client {
    /// A caller by this profile.
    pub fn new(profile: Profile) -> Result<Client, Failure> {
        let base = profile.endpoint.trim_end_matches('/').to_owned();
        let http = http(&base).timeout(TIMEOUT).build().doing("cannot prepare the HTTP client")?;
        Ok(Client { http, profile, base, shift: AtomicI64::new(0) })
    }

    /// The project that commands are about.
    pub fn project(&self) -> Result<&str, Failure> {
        self.profile.project.as_deref().ok_or_else(|| {
            Failure::new("the profile names no project")
                .help("add project = \"...\" to the profile; `casemate project list` shows them")
        })
    }

    /// The region that commands are about: the profile's, else the service's first.
    pub async fn region(&self) -> Result<String, Failure> {
        if let Some(region) = &self.profile.region {
            return Ok(region.clone());
        }
        let regions = self
            .get(&format!("/cloud/project/{}/region", encode(self.project()?)), "cannot ask for the regions")
            .await?;
        let first = regions.body[0].as_str().map(str::to_owned);
        first.ok_or_else(|| Failure::new("the service has no region"))
    }

    /// The region that the profile names.
    pub fn named_region(&self) -> Option<String> {
        self.profile.region.clone()
    }

    /// Path of the project's jobs.
    pub fn jobs(&self) -> Result<String, Failure> {
        Ok(format!("/cloud/project/{}/dataProcessing/jobs", encode(self.project()?)))
    }

    /// Path of the project's schedules.
    pub fn schedules(&self) -> Result<String, Failure> {
        Ok(format!("/cloud/project/{}/dataProcessing/schedules", encode(self.project()?)))
    }

    /// Reads; tried again for a while when the service is away.
    pub async fn get(&self, path: &str, what: &str) -> Result<Answer, Failure> {
        self.get_with(path, &[], PATIENCE, what).await
    }

    /// Reads with more headers, trying for as long as `patience` when the service is away.
    pub async fn get_with(
        &self,
        path: &str,
        headers: &[(&str, String)],
        patience: Duration,
        what: &str,
    ) -> Result<Answer, Failure> {
        let started = std::time::Instant::now();
        loop {
            match self.signed(Method::GET, path, "", headers).await {
                Ok(answer) => return Ok(answer),
                Err(fault) if fault.may_pass() && started.elapsed() < patience => tokio::time::sleep(PAUSE).await,
                Err(fault) => return Err(self.explain(fault, what)),
            }
        }
    }

    /// Makes or acts; sent once, for a second time could do it twice.
    pub async fn post(&self, path: &str, body: &Value, what: &str) -> Result<Answer, Failure> {
        self.signed(Method::POST, path, &body.to_string(), &[]).await.map_err(|fault| self.explain(fault, what))
    }

    /// The same for what the service does once for each `key`, told in a way that shows whether it was certainly not done.
    /// Tried again for a while when the service is away.
    pub async fn post_once(&self, path: &str, body: &Value, key: &str, what: &str) -> Result<Answer, Failed> {
        let (started, headers) = (std::time::Instant::now(), [("Idempotency-Key", format!("\"{key}\""))]);
        loop {
            match self.signed(Method::POST, path, &body.to_string(), &headers).await {
                Ok(answer) => return Ok(answer),
                Err(fault) if fault.may_pass() && started.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                Err(fault) => {
                    let refused = matches!(&fault, Fault::Refused(status, _) if status.is_client_error());
                    return Err(Failed { failure: self.explain(fault, what), refused });
                }
            }
        }
    }

    /// Changes; the same once and twice.
    pub async fn put(&self, path: &str, body: &Value, what: &str) -> Result<Answer, Failure> {
        self.signed(Method::PUT, path, &body.to_string(), &[]).await.map_err(|fault| self.explain(fault, what))
    }

    /// Removes.
    pub async fn delete(&self, path: &str, what: &str) -> Result<Answer, Failure> {
        self.signed(Method::DELETE, path, "", &[]).await.map_err(|fault| self.explain(fault, what))
    }

    /// Sends a signed call. A call whose signature is refused was not done, so it is sent again by the service's clock.
    async fn signed(
        &self,
        method: Method,
        path: &str,
        body: &str,
        headers: &[(&str, String)],
    ) -> Result<Answer, Fault> {
        match self.send(&method, path, body, headers).await {
            Err(Fault::Refused(StatusCode::FORBIDDEN, said)) if said["errorCode"] == "INVALID_CREDENTIAL" => {
                if self.learn_shift().await {
                    return self.send(&method, path, body, headers).await;
                }
                Err(Fault::Refused(StatusCode::FORBIDDEN, said))
            }
            other => other,
        }
    }

    async fn send(&self, method: &Method, path: &str, body: &str, headers: &[(&str, String)]) -> Result<Answer, Fault> {
        let address = format!("{}{path}", self.base);
        // What is signed is what goes over the wire, so the address as the URL's parser writes it.
        let address = Url::parse(&address).map_or(address, String::from);
        let time = (now() + self.shift.load(Ordering::Relaxed)).to_string();
        let mut request = self
            .http
            .request(method.clone(), &address)
            .header("Accept", "application/json")
            .header("X-Ovh-Application", &self.profile.application_key)
            .header("X-Ovh-Consumer", &self.profile.consumer_key)
            .header("X-Ovh-Timestamp", &time)
            .header("X-Ovh-Signature", self.signature(method.as_str(), &address, body, &time));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json").body(body.to_owned());
        }
        let response = request.send().await.map_err(Fault::Unreachable)?;
        let status = response.status();
        let elements =
            response.headers().get("x-pagination-elements").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await.map_err(Fault::Unreachable)?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() { Ok(Answer { body, elements }) } else { Err(Fault::Refused(status, body)) }
    }

    fn signature(&self, method: &str, address: &str, body: &str, time: &str) -> String {
        let Profile { application_secret, consumer_key, .. } = &self.profile;
        let text = format!("{application_secret}+{consumer_key}+{method}+{address}+{body}+{time}");
        format!("$1${}", crypto::digest::sha1_hex(&[text.as_bytes()]))
    }

    /// Asks for the service's time; whether ours is so far off that a call must be signed anew.
    async fn learn_shift(&self) -> bool {
        let time = async {
            let answer = self.http.get(format!("{}/auth/time", self.base)).send().await.ok()?;
            answer.text().await.ok()?.trim().parse::<i64>().ok()
        };
        let Some(theirs) = time.await else { return false };
        let shift = theirs - now();
        let old = self.shift.swap(shift, Ordering::Relaxed);
        (shift - old).abs() > CLOSE
    }

    fn explain(&self, fault: Fault, what: &str) -> Failure {
        match fault {
            Fault::Unreachable(cause) => {
                let failure = Failure::new(what).cause(format!("{} does not answer", self.base)).because(&cause);
                failure.help("is `casemate up` or `casemate serve` running, and is the profile's endpoint its address?")
            }
            Fault::Refused(status, body) => refusal(status, &body, what),
        }
    }
}

impl Fault {
    /// Whether a read may work when it is tried again.
    fn may_pass(&self) -> bool {
        match self {
            Fault::Unreachable(cause) => !cause.is_builder(),
            Fault::Refused(status, _) => {
                matches!(
                    *status,
                    StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
                )
            }
        }
    }
}

/// What the service said no for, each fault on a line of its own, and the class that other clients look at.
fn refusal(status: StatusCode, body: &Value, what: &str) -> Failure {
    let details = body["details"].as_object().filter(|details| !details.is_empty());
    let mut failure = Failure::new(format!("{what} ({status})"));
    match details {
        Some(details) => {
            // By name, whatever order they came in.
            for (field, text) in details.iter().collect::<std::collections::BTreeMap<_, _>>() {
                failure =
                    failure.cause(super::output::printable(&format!("{field}: {}", text.as_str().unwrap_or_default())));
            }
        }
        None => {
            let message = body["message"].as_str().unwrap_or("the service gave no reason");
            failure = failure.cause(super::output::printable(message));
        }
    }
    if let Some(class) = body["class"].as_str() {
        failure = failure.cause(super::output::printable(class));
    }
    match body["errorCode"].as_str() {
        Some("INVALID_KEY" | "INVALID_CREDENTIAL" | "NOT_CREDENTIAL") => {
            failure.help("check the keys of the profile; `casemate key create` makes new ones")
        }
        Some("NOT_GRANTED_CALL") => {
            failure.help("the access rules of this consumer key do not grant the call; make one whose rules do")
        }
        _ => failure,
    }
}

/// An HTTP client for addresses like `base`. The system's certificates are read only where TLS needs them.
pub fn http(base: &str) -> reqwest::ClientBuilder {
    let builder =
        reqwest::Client::builder().connect_timeout(CONNECT).user_agent(concat!("casemate/", env!("CARGO_PKG_VERSION")));
    if base.starts_with("https:") { builder } else { builder.tls_certs_only(None) }
}

/// A text as one part of a path or query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// How long a read is tried while the service is away.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The service bounds a call by 60 s.
const TIMEOUT: Duration = Duration::from_secs(70);
const CONNECT: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(200);
/// Clocks that are so close, in seconds, were not why a signature was refused.
const CLOSE: i64 = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_tells_every_fault_and_its_class() {
        let body = json!({
            "class": "Client::UnprocessableEntity::odp.job.ttl.invalid", "message": "The job is not valid", "errorCode": "X",
            "details": {"ttl": "'30H': an ISO 8601 duration", "driver_cores": "'17': a whole number from 1 to 16"},
        });
        let said = refusal(StatusCode::UNPROCESSABLE_ENTITY, &body, "cannot submit the job").to_string();
        assert_eq!(
            said,
            "error: cannot submit the job (422 Unprocessable Entity)\ncause: driver_cores: '17': a whole number from 1 to 16\n\
             cause: ttl: '30H': an ISO 8601 duration\ncause: Client::UnprocessableEntity::odp.job.ttl.invalid"
        );
    }

    #[test]
    fn a_part_of_a_path_stays_one_part() {
        assert_eq!(encode("a/b c+é.py"), "a%2Fb%20c%2B%C3%A9.py");
    }
}
