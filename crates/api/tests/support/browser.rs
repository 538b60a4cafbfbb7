//! Chromium with a virtual authenticator, driven by WebDriver (<https://www.w3.org/TR/webdriver2/>, and WebAuthn Level 3,
//! section 11). `scripts/setup.sh test` installs both.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::Instant,
};

pub struct Browser {
    driver: Child,
    session: String,
    http: reqwest::Client,
}

impl Browser {
    pub async fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver; `scripts/setup.sh test` installs it");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port: u16 = loop {
            let line = lines.next_line().await.expect("read").expect("a port");
            let said = line.split("on port ").nth(1).and_then(|rest| rest.trim_end_matches('.').parse().ok());
            if let Some(port) = said.filter(|port| *port != 0) {
                break port;
            }
        };
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let options = json!({ "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
        let wish = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options, "timeouts": { "script": 60_000 } } } });
        let base = format!("http://127.0.0.1:{port}/session");
        let made = answer(http.post(&base).json(&wish)).await;
        let session = format!("{base}/{}", made["sessionId"].as_str().expect("a session"));
        Browser { driver, session, http }
    }

    /// A key with a PIN that is always right, and a finger that always touches it.
    pub async fn add_authenticator(&self) {
        let wish = json!({ "protocol": "ctap2", "transport": "usb", "hasResidentKey": true, "hasUserVerification": true,
            "isUserVerified": true });
        self.post("/webauthn/authenticator", &wish).await;
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    /// Runs a script in the page, until it calls the function that it has after `argument`; what it called that with.
    pub async fn run(&self, script: &str, argument: &Value) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": [argument] })).await
    }

    pub async fn fill(&self, selector: &str, text: &str) {
        let field = self.find(selector).await;
        self.post(&format!("/element/{field}/value"), &json!({ "text": text })).await;
    }

    pub async fn click(&self, selector: &str) {
        let button = self.find(selector).await;
        self.post(&format!("/element/{button}/click"), &json!({})).await;
    }

    /// Waits until the page says this.
    pub async fn wait_for(&self, text: &str) {
        self.wait(text, |said| said.contains(text)).await;
    }

    /// Waits until there is a page that does not say this.
    pub async fn wait_for_other_than(&self, text: &str) {
        self.wait(text, |said| !said.is_empty() && !said.contains(text)).await;
    }

    async fn wait(&self, text: &str, done: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let script = json!({ "script": "return document.body ? document.body.innerText : ''", "args": [] });
            let said = self.post("/execute/sync", &script).await;
            let said = said.as_str().unwrap_or_default();
            if done(said) {
                return;
            }
            assert!(Instant::now() < end, "waited for \"{text}\" to come or go: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn stop(mut self) {
        answer(self.http.delete(&self.session)).await;
        self.driver.kill().await.expect("ended");
    }

    async fn find(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector })).await;
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.expect("an element").to_owned()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        answer(self.http.post(format!("{}{path}", self.session)).json(body)).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("an answer of the driver");
    let status = response.status();
    let mut body: Value = response.json().await.expect("JSON");
    assert!(status.is_success(), "{body}");
    body["value"].take()
}
