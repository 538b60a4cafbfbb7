//! Time of a decision in an account with 1,000 policies: the first time that something is asked, as calls come (users ask
//! the same again, with another time), and where all 1,000 policies, or 10,000, name identity, action and resource, with
//! the same conditions or each with its own.
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "../../casemate/benches/report.rs"]
mod report;

use std::{collections::HashMap, hint::black_box, time::Instant};

use identity::{Actions, Draft, Facts, Iam, IamKind, Question};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const POLICIES: usize = 1000;
const USERS: usize = 200;
const GROUPS: usize = 20;
const PROJECTS: usize = 50;
const DECISIONS: usize = 200_000;
/// Of questions that are asked again and again: users at work, the actions of a client that polls.
const ASKED: usize = 2000;

fn main() {
    let names = actions();
    let known = Actions::new(names.iter().map(String::as_str));
    let iam = build((0..POLICIES).map(|number| policy(number, &names)), &known);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let asked: Vec<Asked> = (0..ASKED).map(|_| Asked::random(&mut random, &names)).collect();

    let mut first: Vec<f64> = asked.iter().map(|asked| time(&iam, asked, 0)).collect();
    println!("first time of a question: p50 {:.2} us", report::percentile(&mut first, 0.5));
    report::at_most("policy-first-decision-p99", report::percentile(&mut first, 0.99), 20.0, " us");

    let mut allowed = 0_usize;
    let mut times: Vec<f64> = Vec::with_capacity(DECISIONS);
    for number in 0..DECISIONS {
        let asked = &asked[random.below(ASKED)];
        times.push(time(&iam, asked, number));
        allowed += usize::from(decide(&iam, asked, number));
    }
    println!("of {DECISIONS} decisions {allowed} allow");
    assert!(allowed > DECISIONS / 20 && allowed < DECISIONS, "a mix of both is measured");
    println!("decision: p50 {:.2} us", report::percentile(&mut times, 0.5));
    report::at_most("policy-decision-p99", report::percentile(&mut times, 0.99), 20.0, " us");

    for (policies, own) in [(POLICIES, false), (10 * POLICIES, false), (POLICIES, true), (10 * POLICIES, true)] {
        let worst = build((0..policies).map(|number| all_at_once(number, own, &names)), &known);
        let asked = Asked { identities: vec![user(0), group(0)], action: names[0].clone(), resource: project(0) };
        let conditions = if own { "-with-own-conditions" } else { "" };
        println!("{policies} policies that all speak{conditions}: first {:.2} us", time(&worst, &asked, 0));
        let mut times: Vec<f64> = (1..DECISIONS / 10).map(|number| time(&worst, &asked, number)).collect();
        let name = format!("policy-decision-of-{policies}{conditions}-p99");
        report::at_most(&name, report::percentile(&mut times, 0.99), 20.0, " us");
    }
}

struct Asked {
    identities: Vec<String>,
    action: String,
    resource: String,
}

impl Asked {
    fn random(random: &mut Random, actions: &[String]) -> Asked {
        let user_number = random.below(USERS);
        Asked {
            identities: vec![user(user_number), group(user_number % GROUPS)],
            action: actions[random.below(actions.len())].clone(),
            resource: project(random.below(PROJECTS)),
        }
    }
}

fn decide(iam: &Iam, asked: &Asked, number: usize) -> bool {
    let identities: Vec<&str> = asked.identities.iter().map(String::as_str).collect();
    let seconds = i64::try_from(number).unwrap_or(0);
    let facts = Facts {
        at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds),
        source_ip: Some([192, 0, 2, 7].into()),
    };
    let question = Question { identities: &identities, action: &asked.action, resource: &asked.resource, facts };
    iam.decide(black_box(&question)).expect("decided").allowed
}

/// Of one decision, in microseconds.
fn time(iam: &Iam, asked: &Asked, number: usize) -> f64 {
    let started = Instant::now();
    black_box(decide(iam, asked, number));
    started.elapsed().as_secs_f64() * 1e6
}

fn build(policies: impl Iterator<Item = Value>, known: &Actions) -> Iam {
    let drafts = policies
        .enumerate()
        .map(|(number, policy)| (number.to_string(), Draft::parse(IamKind::Policy, &policy, known).expect("a policy")));
    let tags = (0..PROJECTS).map(|number| (project(number), [("env".to_owned(), "prod".to_owned())].into()));
    let account = "ab1234-casemate".parse().expect("an account");
    Iam::new(drafts, &account, tags.collect::<HashMap<_, _>>()).expect("policies")
}

/// Policies as accounts have them: most for a group or a user, on a project or all, some that deny, with conditions, over.
fn policy(number: usize, actions: &[String]) -> Value {
    let at = |index: usize| json!({ "action": actions[(number * 7 + index) % actions.len()] });
    let identity = if number.is_multiple_of(3) { group(number % GROUPS) } else { user(number % USERS) };
    let resource = match number % 4 {
        0 => "urn:v1:eu:resource:publicCloudProject:*".to_owned(),
        _ => project(number % PROJECTS),
    };
    let mut policy = json!({
        "name": format!("policy {number}"), "identities": [identity], "resources": [{ "urn": resource }],
        "permissions": { "allow": [at(0), at(1), at(2), at(3), { "action": format!("service{}:*", number % 5) }], "except": [at(9)] },
    });
    if number.is_multiple_of(10) {
        policy["permissions"]["deny"] = json!([at(5), at(6)]);
    }
    if number.is_multiple_of(5) {
        policy["conditions"] = conditions();
    }
    if number.is_multiple_of(17) {
        policy["expiredAt"] = "2020-01-01T00:00:00Z".into();
    }
    policy
}

fn all_at_once(number: usize, own: bool, actions: &[String]) -> Value {
    let mut policy = json!({
        "name": format!("policy {number}"), "identities": [user(0)], "resources": [{ "urn": project(0) }],
        "permissions": { "allow": [{ "action": actions[0] }] }, "conditions": conditions(),
    });
    if own {
        // No two are alike, and each holds.
        let block = format!("10.{}.{}.0/24", number / 256, number % 256);
        policy["conditions"]["conditions"][0] = json!({ "operator": "OR", "conditions": [
            { "operator": "MATCH", "values": { "request.IP": block } },
            { "operator": "MATCH", "values": { "resource.Tag(env)": "prod" } },
        ] });
    }
    policy
}

fn conditions() -> Value {
    json!({ "operator": "AND", "conditions": [
        { "operator": "MATCH", "values": { "resource.Tag(env)": "prod", "request.IP": "192.0.2.0/24" } },
        { "operator": "MATCH", "values": { "date(Europe/Paris).WeekDay.In": "monday,tuesday,wednesday,thursday,friday" } },
    ] })
}

fn actions() -> Vec<String> {
    let verbs = ["get", "create", "edit", "delete"];
    (0..80).map(|number| format!("service{}:apiovh:thing{}/{}", number % 5, number / 4, verbs[number % 4])).collect()
}

fn user(number: usize) -> String {
    format!("urn:v1:eu:identity:user:ab1234-casemate/user{number}")
}

fn group(number: usize) -> String {
    format!("urn:v1:eu:identity:group:ab1234-casemate/group{number}")
}

fn project(number: usize) -> String {
    format!("urn:v1:eu:resource:publicCloudProject:{number:032x}")
}

/// Numbers that are the same in each run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or(0)
    }
}
