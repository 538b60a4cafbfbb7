//! Calls of the API, signed as its old clients sign them.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Method, RequestBuilder};

use crate::support::Stack;

/// The first consumer key of a service.
pub struct Caller {
    pub http: reqwest::Client,
    /// The address with the version.
    pub api: String,
    pub application: String,
    pub secret: String,
    consumer: String,
}

impl Caller {
    pub fn new(stack: &Stack) -> Caller {
        Caller {
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("client"),
            api: format!("{}/1.0", stack.text("api")),
            application: stack.profile("application_key"),
            secret: stack.profile("application_secret"),
            consumer: stack.profile("consumer_key"),
        }
    }

    /// A call that is signed with `secret`.
    pub fn call(&self, secret: &str, method: Method, url: &str, body: &str) -> RequestBuilder {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let signed = format!("{secret}+{}+{method}+{url}+{body}+{now}", self.consumer);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes());
        self.http
            .request(method, url)
            .header("Content-Type", "application/json")
            .header("X-Ovh-Application", &self.application)
            .header("X-Ovh-Consumer", &self.consumer)
            .header("X-Ovh-Timestamp", now.to_string())
            .header("X-Ovh-Signature", format!("$1${}", hex::encode(digest)))
            .body(body.to_owned())
    }

    /// A call that must succeed, and what it answers.
    pub async fn done(&self, method: Method, url: &str, body: &str) -> serde_json::Value {
        let answer = self.call(&self.secret, method, url, body).send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}
