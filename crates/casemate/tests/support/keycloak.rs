//! A real Keycloak for a test, which forgets all at its end, and a browser that logs in there as a person does.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Client, Method, StatusCode, Url, header};
use serde_json::Value;

use crate::support::{checkout, free_port, kill_group};

/// A running Keycloak. Dropping it stops it.
pub struct Keycloak {
    child: Child,
    /// Its address, without a path.
    pub url: String,
    log: tempfile::NamedTempFile,
}

impl Keycloak {
    /// Starts one, and waits until it answers.
    pub async fn start() -> Keycloak {
        let home = checkout().join(".cache/keycloak/home");
        assert!(home.is_dir(), "no Keycloak in {}: run `make test`, which installs it", home.display());
        let port = free_port();
        let log = tempfile::NamedTempFile::new().expect("a file");
        let child = Command::new(home.join("bin/kc.sh"))
            .args(["start-dev", "--db=dev-mem", "--http-host=127.0.0.1", &format!("--http-port={port}")])
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", "admin")
            .env("JAVA_OPTS_KC_HEAP", "-Xms64m -Xmx512m")
            .stdin(Stdio::null())
            .stdout(log.reopen().expect("the file"))
            .stderr(log.reopen().expect("the file"))
            // A shell starts the virtual machine: both are ended by their group.
            .process_group(0)
            .spawn()
            .expect("Keycloak starts");
        let mut keycloak = Keycloak { child, url: format!("http://127.0.0.1:{port}"), log };
        let http = Client::new();
        let metadata = format!("{}/realms/master/.well-known/openid-configuration", keycloak.url);
        for _ in 0..1800 {
            if http.get(&metadata).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return keycloak;
            }
            if let Ok(Some(status)) = keycloak.child.try_wait() {
                panic!("Keycloak ended ({status}): {}", keycloak.said());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("Keycloak does not answer: {}", keycloak.said());
    }

    /// Makes a realm: its representation as Keycloak exports and imports it.
    pub async fn create_realm(&self, realm: &Value) {
        self.administer("", realm).await;
    }

    /// Makes a client of a realm, likewise.
    pub async fn create_client(&self, realm: &str, client: &Value) {
        self.administer(&format!("/{realm}/clients"), client).await;
    }

    async fn administer(&self, path: &str, body: &Value) {
        let http = Client::new();
        let form =
            [("grant_type", "password"), ("client_id", "admin-cli"), ("username", "admin"), ("password", "admin")];
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.url);
        let answer = http.post(url).header(header::CONTENT_TYPE, FORM).body(encoded(&form)).send().await.expect("sent");
        let token: Value = answer.json().await.expect("JSON");
        let token = token["access_token"].as_str().expect("a token");
        let made = http.post(format!("{}/admin/realms{path}", self.url)).bearer_auth(token).json(body).send().await;
        let made = made.expect("sent");
        assert_eq!(made.status(), StatusCode::CREATED, "{}", made.text().await.unwrap_or_default());
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        kill_group(self.child.id());
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- Keycloak ---\n{}", self.said());
        }
    }
}

/// Something that keeps cookies, follows where it is sent, and fills in forms.
#[derive(Default)]
pub struct Browser {
    http: Option<Client>,
    /// By host and port, then name.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// A page that a browser shows.
#[derive(Debug)]
pub struct Page {
    /// Where it is.
    pub url: Url,
    /// Its status.
    pub status: u16,
    /// What it is.
    pub html: String,
}

/// The first form of a page.
#[derive(Debug)]
pub struct Form {
    /// Where it is sent to.
    pub action: Url,
    /// What is filled in already.
    pub fields: Vec<(String, String)>,
}

impl Browser {
    /// Goes to an address, and on to where it is sent.
    pub async fn get(&mut self, url: &str) -> Page {
        self.go(Method::GET, url.parse().expect("a URL"), None).await
    }

    /// Sends a form.
    pub async fn post(&mut self, url: &Url, fields: &[(&str, &str)]) -> Page {
        self.go(Method::POST, url.clone(), Some(encoded(fields))).await
    }

    /// Sends the first form of a page with these fields beside what is filled in already.
    pub async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let form = page.form();
        let mut all: Vec<(&str, &str)> = form.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        all.retain(|(name, _)| !fields.iter().any(|(other, _)| name == other));
        all.extend(fields);
        self.post(&form.action, &all).await
    }

    /// The value of a cookie of an address.
    pub fn cookie(&self, url: &str, name: &str) -> Option<&str> {
        let url: Url = url.parse().expect("a URL");
        self.cookies.get(url.authority())?.get(name).map(String::as_str)
    }

    async fn go(&mut self, mut method: Method, mut url: Url, mut body: Option<String>) -> Page {
        let http = self.http.get_or_insert_with(|| {
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().expect("a client")
        });
        for _ in 0..20 {
            let kept = self.cookies.entry(url.authority().to_owned()).or_default();
            let cookies: Vec<String> = kept.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut request = http.request(method.clone(), url.clone()).header(header::COOKIE, cookies.join("; "));
            if let Some(body) = body.take() {
                request = request.header(header::CONTENT_TYPE, FORM).body(body);
            }
            let answer = request.send().await.unwrap_or_else(|cause| panic!("{url}: {cause}"));
            for cookie in answer.headers().get_all(header::SET_COOKIE) {
                let text = cookie.to_str().expect("text");
                let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
                let (name, value) = pair.split_once('=').expect("a pair");
                match attributes.to_lowercase().contains("max-age=0") {
                    true => kept.remove(name),
                    false => kept.insert(name.to_owned(), value.to_owned()),
                };
            }
            let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let refreshed = text(header::REFRESH).and_then(|text| text.strip_prefix("0;url=").map(str::to_owned));
            let Some(onward) = text(header::LOCATION).or(refreshed) else {
                let status = answer.status().as_u16();
                return Page { url, status, html: answer.text().await.expect("text") };
            };
            (method, url) = (Method::GET, url.join(&onward).expect("a URL"));
        }
        panic!("sent on without end, last to {url}");
    }
}

impl Page {
    /// Its first form.
    pub fn form(&self) -> Form {
        let start = self.html.find("<form").unwrap_or_else(|| panic!("no form: {self:?}"));
        let end = start + self.html[start..].find("</form>").unwrap_or_else(|| panic!("no end of it: {self:?}"));
        let html = &self.html[start..end];
        let head = &html[..html.find('>').expect("its head ends")];
        let action = attribute(head, "action").unwrap_or_default();
        let fields = html.split("<input").skip(1).filter_map(|input| {
            let input = &input[..input.find('>')?];
            Some((attribute(input, "name")?, attribute(input, "value").unwrap_or_default()))
        });
        Form { action: self.url.join(&action).expect("a URL"), fields: fields.collect() }
    }
}

/// An attribute of an element, decoded.
fn attribute(element: &str, name: &str) -> Option<String> {
    let value = element.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0;
    Some(
        value
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&"),
    )
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        for (part, end) in [(name, "="), (value, "")] {
            for byte in part.bytes() {
                match byte.is_ascii_alphanumeric() {
                    true => text.push(char::from(byte)),
                    false => text.push_str(&format!("%{byte:02X}")),
                }
            }
            text.push_str(end);
        }
    }
    text
}

const FORM: &str = "application/x-www-form-urlencoded";
