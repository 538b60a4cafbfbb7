//! Whether checks of passwords and signatures let other calls wait: latency of `GET /auth/time` and of a signed `GET /me`
//! with nothing else going on, while 32 clients send wrong passwords, and while 32 send wrong signatures, each the next
//! one as soon as it has heard of the one before. Each try comes from another address, as those of a network of robots do.
#![allow(missing_docs, reason = "a program, not a library")]

mod caller;
#[path = "report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use caller::Caller;
use reqwest::{Method, RequestBuilder, StatusCode};
use support::Stack;

const CLIENTS: usize = 32;
const MEASURED: usize = 3_000;

#[derive(Clone, Copy)]
enum Attack {
    None,
    Passwords,
    Signatures,
}

fn main() {
    let port = support::free_port();
    let stack = Stack::configured(&format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n[api]\nlisten = \"127.0.0.1:{port}\"\n[s3]\nlisten = \"127.0.0.1:0\"\n"
    ));
    let client = Arc::new(Client::new(&stack));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let mut quiet = [0.0; 2];
    for attack in [Attack::None, Attack::Passwords, Attack::Signatures] {
        let p99 = runtime.block_on(measure(&client, attack));
        let name = match attack {
            Attack::None => {
                quiet = p99;
                continue;
            }
            Attack::Passwords => "passwords",
            Attack::Signatures => "signatures",
        };
        for (call, (p99, quiet)) in ["time", "me"].into_iter().zip(p99.into_iter().zip(quiet)) {
            println!("{call} while {name} are wrong: p99 {p99:.2} ms, {quiet:.2} ms without them: {:.1}x", p99 / quiet);
            report::at_most(&format!("{call}-p99-while-{name}-are-wrong"), p99, MOST, " ms");
        }
    }
}

/// The 99th percentile of both calls in milliseconds, one after another, while the attack goes on.
async fn measure(client: &Arc<Client>, attack: Attack) -> [f64; 2] {
    let heard = Arc::new(AtomicU32::new(0));
    let page = client.page().await;
    let attackers: Vec<_> = match attack {
        Attack::None => Vec::new(),
        Attack::Passwords | Attack::Signatures => (0..CLIENTS)
            .map(|_| {
                let (client, heard, page) = (Arc::clone(client), Arc::clone(&heard), page.clone());
                tokio::spawn(async move {
                    loop {
                        let number = heard.fetch_add(1, Ordering::Relaxed);
                        let wrong = match attack {
                            Attack::None | Attack::Passwords => client.wrong_password(&page),
                            Attack::Signatures => client.me("wrong"),
                        };
                        let [_, a, b, c] = (number + 1).to_be_bytes();
                        let sent = wrong.header("X-Forwarded-For", format!("10.{a}.{b}.{c}")).send().await;
                        let status = sent.expect("an answer").status();
                        assert!(
                            matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
                                || (matches!(attack, Attack::Signatures) && status.is_client_error()),
                            "{status}"
                        );
                    }
                })
            })
            .collect(),
    };
    let mut p99 = [0.0; 2];
    let started = (Instant::now(), heard.load(Ordering::Relaxed));
    for (index, name) in ["time", "me"].into_iter().enumerate() {
        let mut times = Vec::with_capacity(MEASURED);
        for number in 0..MEASURED + MEASURED / 10 {
            let call = if index == 0 { client.time() } else { client.me(&client.caller.secret) };
            let begun = Instant::now();
            let answer = call.send().await.expect("an answer");
            assert!(answer.status().is_success(), "{}", answer.status());
            answer.bytes().await.expect("a body");
            // The first ones warm what is kept.
            if number >= MEASURED / 10 {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        println!("{name}: p50 {:.2} ms", report::percentile(&mut times, 0.5));
        p99[index] = report::percentile(&mut times, 0.99);
    }
    let wrong = f64::from(heard.load(Ordering::Relaxed) - started.1) / started.0.elapsed().as_secs_f64();
    println!("meanwhile {wrong:.0} wrong tries a second were heard");
    attackers.iter().for_each(tokio::task::JoinHandle::abort);
    p99
}

struct Client {
    caller: Caller,
}

impl Client {
    fn new(stack: &Stack) -> Client {
        Client { caller: Caller::new(stack) }
    }

    fn time(&self) -> RequestBuilder {
        self.caller.http.get(format!("{}/auth/time", self.caller.api))
    }

    fn me(&self, secret: &str) -> RequestBuilder {
        self.caller.call(secret, Method::GET, &format!("{}/me", self.caller.api), "")
    }

    /// The page on which a user grants what an application asks for.
    async fn page(&self) -> String {
        let asked = self
            .caller
            .http
            .post(format!("{}/auth/credential", self.caller.api))
            .header("X-Ovh-Application", &self.caller.application)
            .header("Content-Type", "application/json")
            .body(r#"{"accessRules":[{"method":"GET","path":"/*"}]}"#);
        let answer = asked.send().await.expect("an answer").text().await.expect("a body");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["validationUrl"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn wrong_password(&self, page: &str) -> RequestBuilder {
        self.caller
            .http
            .post(format!("{page}/login"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("login=ab1234-casemate%2Fnobody&password=wrong&days=30&decision=grant")
    }
}

/// In milliseconds.
const MOST: f64 = 10.0;
