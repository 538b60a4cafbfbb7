//! The console over the real API, with a clock that a test owns, and browsers as far as they matter.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{body::Body, extract::ConnectInfo};
use console::{Console, Page, Seen};
use http::{Request, StatusCode, header};
use identity::{AccessRule, CredentialRequest, NewPerson, NewSession, Opener, SESSION_LONGEST};
use jiff::{SignedDuration, Timestamp};
use model::{
    AccountId, CatchUp, EngineParameter, Job, JobId, JobRequest, JobSpec, Overlap, Principal, RunOutcome, Schedule,
    ScheduleId, ScheduleRun, SpecRules,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::support::{Answer, BASE, World, encoded};

/// The API with the console, and a clock that a test owns.
pub struct Site {
    pub world: World,
    pub later: Arc<Mutex<SignedDuration>>,
}

impl Site {
    pub async fn new() -> Site {
        Site::at(BASE).await
    }

    /// The same, reached by this address.
    pub async fn at(url: &str) -> Site {
        let mut world = World::at(url).await;
        let base_url = url.to_owned();
        let later: Arc<Mutex<SignedDuration>> = Arc::default();
        let ahead = Arc::clone(&later);
        let seen = move |parts: &http::request::Parts| Seen {
            source_ip: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip()),
            base_url: base_url.clone(),
        };
        let pages = console::router(Console {
            identity: world.identity.clone(),
            api: world.router.clone(),
            seen: Arc::new(seen),
            clock: Arc::new(move || Timestamp::now() + *ahead.lock().expect("a clock")),
        });
        world.router = world.router.clone().merge(pages);
        let site = Site { world, later };
        site.user("root", "ADMIN").await;
        site
    }

    /// Makes a user with the password of all.
    pub async fn user(&self, login: &str, group: &str) {
        let (identity, account, by) = (&self.world.identity, &self.world.account, audit::Actor::operator());
        let new = NewPerson { login: login.to_owned(), group: group.to_owned(), ..NewPerson::default() };
        identity.create_person(account, new, &by).await.expect("a user");
        self.set_password(login, PASSWORD).await;
    }

    pub async fn set_password(&self, login: &str, password: &str) {
        let (identity, by) = (&self.world.identity, audit::Actor::operator());
        let link = identity.create_setup(&self.world.account, login, &by).await.expect("a link");
        identity.use_setup(&link.token, Zeroizing::new(password.to_owned()), &by).await.expect("a password");
    }

    pub fn browser(&self) -> Browser<'_> {
        Browser { site: self, cookie: None, agent: "test".to_owned() }
    }

    pub async fn logged_in(&self, login: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let answer = browser.log_in(login, "").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        browser
    }

    /// One that a provider vouched for, in the group of administrators.
    pub async fn federated(&self) -> Browser<'_> {
        let account = &self.world.account;
        let (kind, at) = ("OIDC".to_owned(), Timestamp::now());
        let provider =
            db::sso::Provider { account: account.clone(), kind, disable_users: false, created: at, updated: at };
        if db::sso::find(&self.world.db, account.as_str()).await.expect("read").is_none() {
            let mut tx = self.world.db.begin().await.expect("a transaction");
            db::sso::insert(&mut tx, &provider).await.expect("a provider");
            tx.commit().await.expect("committed");
        }
        let groups = vec!["ADMIN".to_owned()];
        let who = Opener::Federated { name: "eve".to_owned(), groups, since: Timestamp::now(), until: None };
        self.session(account, &who).await
    }

    /// A session of a user of an account, without the log-in.
    pub async fn session_of(&self, account: &AccountId, login: &str) -> Browser<'_> {
        let person = self.world.identity.person(account, login).await.expect("read").expect("there");
        self.session(
            account,
            &Opener::User { id: person.id, login: person.login, password_set: person.password_updated },
        )
        .await
    }

    async fn session(&self, account: &AccountId, who: &Opener) -> Browser<'_> {
        let new = NewSession { account, who, factor: None, from: None, user_agent: "test" };
        let session = self.world.identity.open_session(&new).await.expect("opened");
        Browser { cookie: Some(format!("{COOKIE}={}", *session.secret)), ..self.browser() }
    }

    /// A session of root that was used all the time, so that only its longest time ends it.
    pub async fn busy_session(&self) -> Browser<'_> {
        let (account, now) = (&self.world.account, Timestamp::now());
        let person = self.world.identity.person(account, "root").await.expect("read").expect("there");
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let row = db::sessions::Session {
            id: 0,
            account: account.clone(),
            person: Some(person.id),
            federated: None,
            groups: None,
            factor: "NONE".to_owned(),
            source_ip: None,
            user_agent: "test".to_owned(),
            created: now,
            last_use: now + SESSION_LONGEST,
            expires: now + SESSION_LONGEST,
        };
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
        let mut tx = self.world.db.begin().await.expect("a transaction");
        db::sessions::insert(&mut tx, &row, hash.as_ref()).await.expect("a session");
        tx.commit().await.expect("committed");
        Browser { cookie: Some(format!("{COOKIE}={secret}")), ..self.browser() }
    }

    pub fn wait(&self, time: SignedDuration) {
        *self.later.lock().expect("a clock") += time;
    }

    /// A consumer key that an application of this name asked for: the token of its page, and the key.
    pub async fn asked(&self, name: &str) -> (String, String) {
        let (identity, by) = (&self.world.identity, audit::Actor::operator());
        let made = identity.create_application(&self.world.account, name, "", &by).await.expect("an application");
        let request = CredentialRequest { rules: AccessRule::everything(), ..CredentialRequest::default() };
        let pending = identity.request_credential(&made.application, &request, &by).await.expect("asked");
        (pending.token.to_string(), pending.consumer_key.to_string())
    }

    /// A job of the project, and a schedule of the same id, with a run that became that job.
    pub async fn job(&self, name: &str) -> String {
        let rules = SpecRules {
            regions: vec!["GRA".parse().expect("a region")],
            versions: vec!["3.5.9".parse().expect("a version")],
            ..SpecRules::default()
        };
        let parameters = [("job_type", "python"), ("main_application_code", "a.py"), ("arguments", HOSTILE)];
        let parameter = |(name, value): (&str, &str)| EngineParameter { name: name.into(), value: value.into() };
        let request = JobRequest {
            name: Some(name.to_owned()),
            region: Some("GRA".to_owned()),
            engine: Some("spark".to_owned()),
            engine_version: Some("3.5.9".to_owned()),
            container_name: Some("code".to_owned()),
            parameters: parameters.map(parameter).into(),
            ..JobRequest::default()
        };
        let spec = JobSpec::parse(&request, &rules).expect("a specification");
        let job = Job::new(JobId(Uuid::now_v7()), self.world.project.clone(), spec, Timestamp::now());
        let mut tx = self.world.db.begin().await.expect("a transaction");
        db::jobs::insert(&mut tx, &job).await.expect("a job");
        let schedule = Schedule {
            id: ScheduleId(job.id.0),
            project: self.world.project.clone(),
            name: name.to_owned(),
            cron: "@daily".to_owned(),
            zone: "UTC".to_owned(),
            request,
            catch_up: CatchUp::SKIP,
            overlap: Overlap::Skip,
            starts: None,
            ends: None,
            enabled: true,
            stopped: None,
            owner: Principal { account: self.world.account.clone(), urn: HOSTILE.to_owned(), person: None },
            refusals: 0,
            created: job.created,
            changed: job.created,
            next_run: Some(job.created),
        };
        db::schedules::insert(&mut tx, &schedule, None).await.expect("a schedule");
        let outcome = RunOutcome::Submitted(job.id);
        let run = ScheduleRun { nominal: job.created, until: None, at: job.created, outcome, reason: None };
        db::schedules::insert_run(&mut tx, schedule.id, &run).await.expect("a run");
        tx.commit().await.expect("committed");
        job.id.to_string()
    }

    /// The path of a page with something in each parameter.
    pub fn filled(&self, page: &Page, job: &str, policy: &str, token: &str) -> String {
        let filled = page.path.replace("{project}", self.world.project.as_str()).replace("{job}", job);
        let filled = filled.replace("{schedule}", job);
        let filled = filled.replace("{policy}", policy).replace("{token}", token);
        assert!(!filled.contains('{'), "a parameter that this test does not know: {filled}");
        filled
    }
}

/// A browser as far as it matters: it keeps the cookie.
pub struct Browser<'s> {
    pub site: &'s Site,
    pub cookie: Option<String>,
    pub agent: String,
}

impl Browser<'_> {
    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path).header("host", "api.example.org");
        let request = request.header("user-agent", &self.agent);
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.site.world.send(self.request("GET", path).body(Body::empty()).expect("a request")).await
    }

    /// Sends a form as a page of the console does.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, fields, &[("sec-fetch-site", "same-origin"), ("origin", BASE)]).await
    }

    pub async fn post_with(&mut self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mut request = self.request("POST", path).header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.site.world.send(request.body(Body::from(text.join("&"))).expect("a request")).await;
        if let Some(set) = answer.headers.get(header::SET_COOKIE) {
            let pair = set.to_str().expect("text").split(';').next().expect("a pair").to_owned();
            self.cookie = (!pair.ends_with('=')).then_some(pair);
        }
        answer
    }

    pub async fn log_in(&mut self, login: &str, next: &str) -> Answer {
        let name = format!("{}/{login}", self.site.world.account);
        self.post("/console/login", &[("login", &name), ("password", PASSWORD), ("code", ""), ("next", next)]).await
    }

    /// The token of the forms of this session.
    pub async fn token(&self) -> String {
        let answer = self.get("/console").await;
        let (_, rest) = answer.text.split_once("name=\"token\" value=\"").expect("a form");
        rest.split('"').next().expect("a value").to_owned()
    }

    pub async fn is_logged_in(&self) -> bool {
        self.get("/console").await.status == StatusCode::OK
    }
}

/// Where an answer sends the browser.
pub fn location(answer: &Answer) -> &str {
    answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub const PASSWORD: &str = "correct horse battery staple";
pub const COOKIE: &str = "__Host-casemate";
pub const HOSTILE: &str = "<script>alert(1)</script>\"onload='x'&amp;";
