use std::collections::{BTreeMap, HashMap};

use model::AccountId;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    reference::{Asked, GROUPED},
    *,
};

const ALICE: &str = "urn:v1:eu:identity:user:ab1234-casemate/alice";
const TEAM: &str = "urn:v1:eu:identity:group:ab1234-casemate/team";
const ONE: &str = "urn:v1:eu:resource:publicCloudProject:one";
const TWO: &str = "urn:v1:eu:resource:publicCloudProject:two";
/// Objects and a bucket of the project `one`.
const STORED: [&str; 4] = [
    "urn:v1:eu:resource:storageS3:one/data/in/a",
    "urn:v1:eu:resource:storageS3:one/data/in/b%20c",
    "urn:v1:eu:resource:storageS3:one/data",
    "urn:v1:eu:resource:storageS3:two/data/in/a",
];
const ACTIONS: [&str; 5] =
    ["p:apiovh:get", "p:apiovh:jobs/get", "p:apiovh:jobs/create", "account:apiovh:me/get", "storageS3:s3:GetObject"];

fn account() -> AccountId {
    "ab1234-casemate".parse().expect("an account")
}

fn actions() -> Actions {
    Actions::new(ACTIONS)
}

fn list(field: &str, items: &[&str]) -> Value {
    items.iter().map(|item| json!({ field: item })).collect()
}

fn policy(name: &str, fields: Value) -> Value {
    let mut policy = json!({ "name": name, "identities": [ALICE], "resources": [{ "urn": ONE }] });
    for (field, value) in fields.as_object().expect("an object") {
        policy[field] = value.clone();
    }
    policy
}

fn iam(documents: &[(Kind, &str, Value)], tags: &[(&str, &str, &str)]) -> Iam {
    let drafts = documents.iter().map(|(kind, id, value)| {
        ((*id).to_owned(), Draft::parse(*kind, value, &actions()).unwrap_or_else(|fault| panic!("{value}: {fault}")))
    });
    let mut by_urn: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for (urn, key, value) in tags {
        by_urn.entry((*urn).to_owned()).or_default().insert((*key).to_owned(), (*value).to_owned());
    }
    Iam::new(drafts, &account(), by_urn).expect("policies")
}

fn at(text: &str, ip: Option<&str>) -> Facts {
    Facts { at: text.parse().expect("a time"), source_ip: ip.map(|ip| ip.parse().expect("an address")) }
}

/// A Thursday.
fn today() -> Facts {
    at("2026-11-26T12:00:00Z", Some("192.0.2.7"))
}

fn ask(iam: &Iam, action: &str, resource: &str, facts: Facts) -> Verdict {
    Verdict::clone(&iam.decide(&Question { identities: &[ALICE, TEAM], action, resource, facts }).expect("decided"))
}

fn allows(iam: &Iam, action: &str) -> bool {
    ask(iam, action, ONE, today()).allowed
}

#[test]
fn what_no_policy_allows_is_denied_and_what_one_denies_is_denied_whatever_allows_it() {
    let empty = iam(&[], &[]);
    assert_eq!(ask(&empty, ACTIONS[0], ONE, today()), Verdict { allowed: false, deciding: Vec::new() });
    let all = policy(
        "all",
        json!({ "permissions": { "allow": list("action", &["*"]), "except": list("action", &["*jobs/create"]) } }),
    );
    let no = policy("no", json!({ "permissions": { "deny": list("action", &["p:apiovh:jobs*"]) } }));
    let open = iam(&[(Kind::Policy, "1", all.clone())], &[]);
    assert!(allows(&open, ACTIONS[0]) && allows(&open, ACTIONS[1]) && allows(&open, ACTIONS[3]));
    assert!(!allows(&open, ACTIONS[2]), "what is excepted is cut from its own allow");
    assert!(!ask(&open, ACTIONS[0], TWO, today()).allowed, "on what it names only");
    let other = Question { identities: &[TEAM], action: ACTIONS[0], resource: ONE, facts: today() };
    assert!(!open.decide(&other).expect("decided").allowed, "to whom it names only");
    let second = policy("second", json!({ "permissions": { "allow": list("action", &[ACTIONS[2]]) } }));
    let both = iam(&[(Kind::Policy, "1", all.clone()), (Kind::Policy, "2", second)], &[]);
    assert!(allows(&both, ACTIONS[2]), "an except cuts from no other policy");
    let denied = iam(&[(Kind::Policy, "1", all), (Kind::Policy, "2", no)], &[]);
    let verdict = ask(&denied, ACTIONS[1], ONE, today());
    assert!(!verdict.allowed && allows(&denied, ACTIONS[0]));
    assert_eq!((verdict.deciding[0].name.as_str(), verdict.deciding[0].effect), ("no", Effect::Deny));
    assert_eq!(verdict.reason(), "denied by policy 'no'");
}

#[test]
fn groups_of_resources_and_permissions_and_wildcards_reach_what_they_stand_for() {
    let group = (Kind::ResourceGroup, "g", json!({ "name": "g", "resources": list("urn", &["*:two"]) }));
    let permissions = json!({ "name": "p", "permissions": { "allow": list("action", &["p:*"]), "except": list("action", &[ACTIONS[2]]) } });
    let permissions = (Kind::PermissionsGroup, "q", permissions);
    let named = policy(
        "named",
        json!({
            "identities": ["urn:v1:eu:identity:group:ab1234-casemate/*"],
            "resources": list("urn", &["urn:v1:eu:resourceGroup:g"]),
            "permissions": { "except": list("action", &["*"]) },
            "permissionsGroups": list("urn", &["urn:v1:eu:permissionsGroup:ab1234-casemate:q"]),
        }),
    );
    let iam = iam(&[group, permissions, (Kind::Policy, "1", named)], &[]);
    let verdict = ask(&iam, ACTIONS[1], TWO, today());
    assert!(verdict.allowed, "by the group TEAM, and the policy's except cuts from its own allow alone");
    assert_eq!(verdict.deciding[0].permissions_group.as_deref(), Some("urn:v1:eu:permissionsGroup:ab1234-casemate:q"));
    assert!(!ask(&iam, ACTIONS[2], TWO, today()).allowed && !ask(&iam, ACTIONS[1], ONE, today()).allowed);
    let alone = Question { identities: &[ALICE], action: ACTIONS[1], resource: TWO, facts: today() };
    assert!(!iam.decide(&alone).expect("decided").allowed);
}

#[test]
fn conditions_hold_by_tag_day_of_the_zone_and_address_and_a_policy_ends() {
    let allow = json!({ "allow": list("action", &["*"]) });
    let with = |conditions: Value| {
        let policy = policy("c", json!({ "permissions": allow, "conditions": conditions }));
        iam(&[(Kind::Policy, "1", policy)], &[(ONE, "env", "prod")])
    };
    let matched = |key: &str, value: &str| json!({ "operator": "MATCH", "values": { key: value } });
    assert!(allows(&with(matched("resource.Tag(env)", "prod")), ACTIONS[0]));
    assert!(!allows(&with(matched("resource.Tag(env)", "test")), ACTIONS[0]));
    assert!(!allows(&with(matched("resource.Tag(team)", "prod")), ACTIONS[0]));
    let not = json!({ "operator": "NOT", "conditions": [matched("resource.Tag(team)", "prod")] });
    assert!(allows(&with(not), ACTIONS[0]));
    let midnight = at("2026-11-26T23:30:00Z", None);
    let friday = with(matched("date(Europe/Paris).WeekDay", "friday"));
    assert!(ask(&friday, ACTIONS[0], ONE, midnight).allowed, "it is Friday in Paris, and Thursday in London");
    assert!(
        !ask(&with(matched("date(Europe/London).WeekDay.In", "friday,saturday")), ACTIONS[0], ONE, midnight).allowed
    );
    let block = with(matched("request.IP", "192.0.2.0/24"));
    assert!(allows(&block, ACTIONS[0]));
    assert!(!ask(&block, ACTIONS[0], ONE, at("2026-11-26T12:00:00Z", Some("2001:db8::1"))).allowed);
    assert!(!ask(&block, ACTIONS[0], ONE, midnight).allowed, "an unknown address is in no block");
    let mapped = with(matched("request.IP", "::ffff:192.0.2.0/120"));
    assert!(allows(&mapped, ACTIONS[0]), "an IPv4 block that is written as IPv6");
    let one = with(matched("request.IP", "192.0.2.7"));
    assert!(ask(&one, ACTIONS[0], ONE, at("2026-11-26T12:00:00Z", Some("::ffff:192.0.2.7"))).allowed);
    let ends = policy("e", json!({ "permissions": allow, "expiredAt": "2026-11-26T13:00:00+01:00" }));
    let ends = iam(&[(Kind::Policy, "1", ends)], &[]);
    assert!(!allows(&ends, ACTIONS[0]), "at its end it applies no more");
    assert!(ask(&ends, ACTIONS[0], ONE, at("2026-11-26T11:59:59.999999Z", None)).allowed);
}

#[test]
fn what_is_wrong_is_refused_whole_with_its_place() {
    let deep = |inner: Value| json!({ "operator": "AND", "conditions": [{ "operator": "OR", "conditions": [inner] }] });
    let matched = json!({ "operator": "MATCH", "values": { "request.IP": "192.0.2.1" } });
    for (fields, place) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "ovh-x" }), "name"),
        (json!({ "colour": 1 }), "colour"),
        (json!({ "identities": "x" }), "identities"),
        (json!({ "identities": [ALICE, "urn:v1:eu:identity:user:alice"] }), "identities[1]"),
        (json!({ "identities": [ONE] }), "identities[0]"),
        (json!({ "resources": [{ "urn": ALICE }] }), "resources[0].urn"),
        (json!({ "resources": [{ "url": ONE }] }), "resources[0].url"),
        (json!({ "resources": [{ "urn": "urn:v1:eu:resourceGroup:*" }] }), "resources[0].urn"),
        (
            json!({ "permissions": { "allow": list("action", &["*", ACTIONS[0], "vps:apiovh:reboot"]) } }),
            "permissions.allow[2].action",
        ),
        (json!({ "permissions": { "deny": list("action", &["vps:*"]) } }), "permissions.deny[0].action"),
        (json!({ "permissions": { "deny": list("action", &["p:*:get"]) } }), "permissions.deny[0].action"),
        (json!({ "permissions": { "except": "*" } }), "permissions.except"),
        (json!({ "permissions": { "permit": [] } }), "permissions.permit"),
        (json!({ "permissionsGroups": [{}] }), "permissionsGroups[0].urn"),
        (json!({ "expiredAt": "tomorrow" }), "expiredAt"),
        (json!({ "expiredAt": 5 }), "expiredAt"),
        (json!({ "conditions": {} }), "conditions.operator"),
        (json!({ "conditions": { "operator": "XOR" } }), "conditions.operator"),
        (json!({ "conditions": { "operator": "AND", "conditions": [] } }), "conditions.conditions"),
        (json!({ "conditions": { "operator": "NOT", "conditions": [matched, matched] } }), "conditions.conditions"),
        (json!({ "conditions": { "operator": "MATCH", "values": {} } }), "conditions.values"),
        (
            json!({ "conditions": { "operator": "MATCH", "values": { "request.Agent": "x" } } }),
            "conditions.values[request.Agent]",
        ),
        (
            json!({ "conditions": { "operator": "MATCH", "values": { "date(Mars).WeekDay": "monday" } } }),
            "conditions.values[date(Mars).WeekDay]",
        ),
        (
            json!({ "conditions": { "operator": "MATCH", "values": { "date(UTC).WeekDay": "Monday" } } }),
            "conditions.values[date(UTC).WeekDay]",
        ),
        (
            json!({ "conditions": { "operator": "MATCH", "values": { "date(UTC).Hour": "5" } } }),
            "conditions.values[date(UTC).Hour]",
        ),
        (
            json!({ "conditions": deep(json!({ "operator": "NOT", "conditions": [matched] })) }),
            "conditions.conditions[0].conditions[0].operator",
        ),
    ] {
        let fault =
            Draft::parse(Kind::Policy, &policy("x", fields.clone()), &actions()).expect_err(&fields.to_string());
        assert_eq!(fault.place, place, "{fields}: {fault}");
    }
    assert!(Draft::parse(Kind::Policy, &policy("x", json!({ "conditions": deep(matched) })), &actions()).is_ok());
    let many: Vec<Value> = (0..10_001).map(|number| json!({ "urn": format!("{ONE}{number}") })).collect();
    let fault =
        Draft::parse(Kind::Policy, &policy("x", json!({ "resources": many })), &actions()).expect_err("too many");
    assert_eq!(fault.place, "resources");
    let nested = json!({ "name": "g", "resources": list("urn", &["urn:v1:eu:resourceGroup:g"]) });
    let fault =
        Draft::parse(Kind::ResourceGroup, &nested, &actions()).expect_err("no group holds a group, so none a cycle");
    assert_eq!(fault.place, "resources[0].urn");
    for wrong in [json!(null), json!([]), json!("x")] {
        assert_eq!(Draft::parse(Kind::Policy, &wrong, &actions()).expect_err("no object").place, "body");
    }
}

#[test]
fn what_a_client_wrote_is_kept_as_it_wrote_it() {
    let given = json!({
        "id": "x", "name": "n", "owner": "ab1234-casemate", "readOnly": false, "createdAt": "t", "updatedAt": null,
        "identities": [TEAM, ALICE],
        "resources": [{ "urn": TWO, "resource": { "id": "x" } }, { "urn": ONE }],
        "permissions": { "allow": [{ "action": "p:*" }, { "action": "*get" }], "deny": [], "except": null },
        "permissionsGroups": null, "expiredAt": "2027-01-01T00:00:00+01:00",
    });
    let draft = Draft::parse(Kind::Policy, &given, &actions()).expect("a policy");
    let kept = json!({
        "name": "n", "identities": [TEAM, ALICE], "resources": [{ "urn": TWO }, { "urn": ONE }],
        "permissions": { "allow": [{ "action": "p:*" }, { "action": "*get" }], "deny": [] },
        "expiredAt": "2027-01-01T00:00:00+01:00",
    });
    assert_eq!(Value::Object(draft.given.clone()), kept);
    assert_eq!(Draft::stored(Kind::Policy, &kept.to_string()), Some(draft));
}

#[test]
fn a_policy_that_was_kept_in_another_spelling_is_read_in_the_one_that_is_asked() {
    let of = |who: &str, what: &str| {
        policy(
            "x",
            json!({ "identities": [who], "resources": [{ "urn": what }, { "urn": "urn:v1:eu:resource:vps:a%2Fb" }] }),
        )
    };
    let old = of("urn:v1:eu:identity:user:ab1234-casemate/a%40b", "*/data/a%2Bb%20c");
    let fault = Draft::parse(Kind::Policy, &old, &actions()).expect_err("another spelling");
    assert!(fault.place.contains("identities"), "{fault}");
    let read = Draft::stored(Kind::Policy, &old.to_string()).expect("read");
    let new =
        Draft::parse(Kind::Policy, &of("urn:v1:eu:identity:user:ab1234-casemate/a@b", "*/data/a+b%20c"), &actions());
    assert_eq!(Some(read.body), new.ok().map(|draft| draft.body));
}

#[test]
fn questions_about_objects_are_kept_by_what_was_found_and_not_by_their_names() {
    let one = policy(
        "in",
        json!({ "resources": list("urn", &["urn:v1:eu:resource:storageS3:one/data/in/*"]), "permissions": { "allow": list("action", &[ACTIONS[4]]) } }),
    );
    let no = policy(
        "no",
        json!({ "resources": list("urn", &["*/secret"]), "permissions": { "deny": list("action", &["storageS3:*"]) } }),
    );
    let iam = iam(&[(Kind::Policy, "1", one), (Kind::Policy, "2", no)], &[]);
    let may = |key: &str| {
        let resource = format!("urn:v1:eu:resource:storageS3:one/data/{key}");
        ask(&iam, ACTIONS[4], &resource, today()).allowed
    };
    for number in 0..100 {
        assert!(may(&format!("in/{number}")) && !may(&format!("in/{number}/secret")) && !may(&format!("out/{number}")));
    }
    assert_eq!(iam.kept(), 3);
}

#[test]
fn it_is_known_whose_calls_to_the_object_store_no_policy_may_speak_of() {
    let user = "urn:v1:eu:identity:publicCloudUser:one/user-1";
    let speaks = |identities: &str, permissions: Value| {
        let fields =
            json!({ "identities": [identities], "resources": list("urn", &["*"]), "permissions": permissions });
        iam(&[(Kind::Policy, "1", policy("p", fields))], &[]).speaks_of_storage(user)
    };
    let allow = |action: &str| json!({ "allow": list("action", &[action]) });
    for identities in [user, "*", "urn:v1:eu:identity:publicCloudUser:one/*", "*/user-1"] {
        assert!(speaks(identities, allow("storageS3:s3:GetObject")), "{identities}");
    }
    for (identities, permissions) in [
        (ALICE, allow("storageS3:*")),
        ("urn:v1:eu:identity:publicCloudUser:two/*", allow("*")),
        (user, allow("p:*")),
        (user, json!({ "allow": list("action", &["p:*"]), "except": list("action", &["storageS3:*"]) })),
    ] {
        assert!(!speaks(identities, permissions.clone()), "{identities} {permissions}");
    }
    assert!(speaks("*", allow("*")) && speaks(user, json!({ "deny": list("action", &["storageS3:s3:Get*"]) })));
}

#[test]
fn a_policy_of_ten_thousand_entries_is_decided_by_its_last_one() {
    let mut urns: Vec<String> = (0..9_990).map(|number| format!("*:number-{number}")).collect();
    urns.push(ONE.to_owned());
    let resources: Vec<Value> = urns.iter().map(|urn| json!({ "urn": urn })).collect();
    let body = json!({ "resources": resources, "permissions": { "allow": list("action", &["*"]) } });
    let iam = iam(&[(Kind::Policy, "1", policy("long", body))], &[]);
    assert!(allows(&iam, ACTIONS[0]) && !ask(&iam, ACTIONS[0], TWO, today()).allowed);
    assert!(ask(&iam, ACTIONS[0], "urn:v1:eu:resource:vps:number-9989", today()).allowed);
}

#[test]
fn ten_thousand_statements_that_all_speak_are_all_heard() {
    let group = |number: usize, list_name: &str| {
        let permissions = json!({ "name": format!("g{number}"), "permissions": { list_name: list("action", &["*"]) } });
        (Kind::PermissionsGroup, number.to_string(), permissions)
    };
    let mut documents: Vec<(Kind, String, Value)> = (0..100).map(|number| group(number, "allow")).collect();
    let groups: Vec<Value> = (0..101)
        .map(|number| json!({ "urn": format!("urn:v1:eu:permissionsGroup:ab1234-casemate:{number}") }))
        .collect();
    documents.extend((0..100).map(|number| {
        let conditions = json!({ "operator": "MATCH", "values": { "request.IP": format!("192.0.2.{number}/24") } });
        let fields = json!({ "permissions": {}, "permissionsGroups": groups, "conditions": conditions });
        (Kind::Policy, format!("p{number}"), policy(&format!("p{number}"), fields))
    }));
    let all = |documents: &[(Kind, String, Value)]| {
        let documents: Vec<_> = documents.iter().map(|(kind, id, value)| (*kind, id.as_str(), value.clone())).collect();
        iam(&documents, &[])
    };
    let open = all(&documents);
    let verdict = ask(&open, ACTIONS[0], ONE, today());
    assert_eq!((verdict.allowed, verdict.deciding.len()), (true, 10_000));
    assert!(!ask(&open, ACTIONS[0], ONE, at("2026-11-26T12:00:00Z", Some("198.51.100.7"))).allowed);
    documents.push(group(100, "deny"));
    let verdict = ask(&all(&documents), ACTIONS[0], ONE, today());
    assert_eq!((verdict.allowed, verdict.deciding.len()), (false, 100), "one that denies is enough, and each is told");
}

#[test]
fn deep_documents_are_refused_before_they_are_followed() {
    let mut conditions = json!({ "operator": "MATCH", "values": { "request.IP": "192.0.2.1" } });
    for _ in 0..60 {
        conditions = json!({ "operator": "NOT", "conditions": [conditions] });
    }
    let fault = Draft::parse(Kind::Policy, &policy("x", json!({ "conditions": conditions })), &actions());
    assert_eq!(fault.expect_err("too deep").place, "conditions.conditions[0].conditions[0].operator");
    // What is deeper yet is no JSON for this service.
    assert!(serde_json::from_str::<Value>(&format!("{}1{}", "[".repeat(200), "]".repeat(200))).is_err());
    let wide: Vec<Value> =
        (0..257).map(|_| json!({ "operator": "MATCH", "values": { "request.IP": "192.0.2.1" } })).collect();
    let wide = json!({ "operator": "OR", "conditions": wide });
    let fault = Draft::parse(Kind::Policy, &policy("x", json!({ "conditions": wide })), &actions());
    assert_eq!(fault.expect_err("too wide").place, "conditions.conditions");
}

#[test]
fn what_is_kept_of_questions_is_bounded() {
    let all = policy("all", json!({ "permissions": { "allow": list("action", &["*"]) } }));
    let iam = iam(&[(Kind::Policy, "1", all)], &[]);
    for number in 0..10_000 {
        let resource = format!("{ONE}{number}");
        iam.decide(&Question { identities: &[ALICE], action: ACTIONS[0], resource: &resource, facts: today() })
            .expect("decided");
    }
    assert!(iam.kept() <= 4096, "{}", iam.kept());
}

#[test]
fn an_explanation_names_what_spoke_what_nearly_did_and_what_would_have_to_change() {
    let allow = |actions: &[&str]| json!({ "allow": list("action", actions) });
    let documents = [
        (Kind::Policy, "1", policy("broad", json!({ "permissions": allow(&["*"]) }))),
        (Kind::Policy, "2", policy("no", json!({ "permissions": { "deny": list("action", &[ACTIONS[2]]) } }))),
        (
            Kind::Policy,
            "3",
            policy("old", json!({ "permissions": allow(&["*"]), "expiredAt": "2020-01-01T00:00:00Z" })),
        ),
        (
            Kind::Policy,
            "4",
            policy("elsewhere", json!({ "resources": list("urn", &[TWO]), "permissions": allow(&["*"]) })),
        ),
        (
            Kind::Policy,
            "5",
            policy(
                "office",
                json!({
                    "permissions": allow(&["*"]),
                    "conditions": { "operator": "MATCH", "values": { "request.IP": "198.51.100.0/24", "resource.Tag(env)": "prod" } },
                }),
            ),
        ),
    ];
    let all = iam(&documents, &[]);
    let question = |action| Question { identities: &[ALICE, TEAM], action, resource: ONE, facts: today() };
    let told = all.explain(&question(ACTIONS[2])).expect("explained");
    assert!(!told.allowed);
    let names = |rulings: &[Ruling]| rulings.iter().map(|ruling| ruling.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&told.deciding), ["no"]);
    assert_eq!(names(&told.spoke), ["broad", "no"], "what was overruled is told too");
    let missed: Vec<(&str, &str)> =
        told.missed.iter().map(|miss| (miss.ruling.name.as_str(), miss.because.as_str())).collect();
    assert_eq!(
        missed,
        [
            ("old", "it expired at 2020-01-01T00:00:00Z"),
            ("elsewhere", "its `resources` do not name urn:v1:eu:resource:publicCloudProject:one"),
            (
                "office",
                "its conditions do not hold: request.IP is 192.0.2.7, asked for is 198.51.100.0/24; \
                 resource.Tag(env) is absent, asked for is 'prod'"
            ),
        ]
    );
    assert_eq!(told.change[0], "to allow it, none of these may deny p:apiovh:jobs/create: policy 'no' (2)");
    let told = all.explain(&question(ACTIONS[0])).expect("explained");
    assert!(told.allowed && names(&told.deciding) == ["broad"]);
    assert_eq!(told.change[0], "to refuse it, policy 'broad' (1) must not allow p:apiovh:get");
    let few = iam(&documents[2..], &[]);
    let told = few.explain(&question(ACTIONS[0])).expect("explained");
    assert!(!told.allowed && told.deciding.is_empty());
    assert_eq!(told.change[0], "policy 'old' (3) would allow it, but it expired at 2020-01-01T00:00:00Z");
}

fn some_of(items: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(items), 0..=most)
}

const PATTERNS: [&str; 11] = [
    "*",
    "p:*",
    "*get",
    "*jobs*",
    "p:apiovh:get",
    "p:apiovh:jobs/get",
    "p:apiovh:jobs/create",
    "account:apiovh:me/get",
    "account:*",
    "storageS3:*",
    "storageS3:s3:GetObject",
];
const WHO: [&str; 6] = [
    ALICE,
    TEAM,
    "urn:v1:eu:identity:user:ab1234-casemate/bob",
    "urn:v1:eu:identity:*",
    "*team",
    "urn:v1:eu:identity:user:ab1234-casemate/*",
];
const WHAT: [&str; 11] = [
    ONE,
    TWO,
    "*",
    "*:two",
    "urn:v1:eu:resource:publicCloudProject:*",
    "urn:v1:eu:resource:account:ab1234-casemate",
    STORED[0],
    "urn:v1:eu:resource:storageS3:one/data/in/*",
    "urn:v1:eu:resource:storageS3:*",
    "*/b%20c",
    GROUPED,
];
/// From where is asked; the last is unknown.
const FROM: [Option<&str>; 4] = [Some("192.0.2.7"), Some("192.0.2.8"), Some("198.51.100.7"), None];

fn permissions() -> impl Strategy<Value = Value> {
    (some_of(&PATTERNS, 3), some_of(&PATTERNS, 2), proptest::option::weighted(0.3, some_of(&PATTERNS, 1))).prop_map(|(allow, except, deny)| {
        json!({ "allow": list("action", &allow), "except": list("action", &except), "deny": list("action", &deny.unwrap_or_default()) })
    })
}

fn conditions() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({ "operator": "MATCH", "values": { "resource.Tag(env)": "prod" } })),
        Just(json!({ "operator": "MATCH", "values": { "resource.Tag(env)": "test", "request.IP": "192.0.2.7" } })),
        Just(json!({ "operator": "MATCH", "values": { "request.IP": "192.0.2.8" } })),
        Just(json!({ "operator": "MATCH", "values": { "request.IP": "198.51.100.0/24" } })),
        Just(json!({ "operator": "MATCH", "values": { "date(UTC).WeekDay.In": "monday,thursday" } })),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..3)
                .prop_map(|parts| json!({ "operator": "AND", "conditions": parts })),
            proptest::collection::vec(inner.clone(), 1..3)
                .prop_map(|parts| json!({ "operator": "OR", "conditions": parts })),
            inner.prop_map(|part| json!({ "operator": "NOT", "conditions": [part] })),
        ]
    })
}

fn any_policy() -> impl Strategy<Value = Value> {
    let ends = proptest::option::of(proptest::sample::select(&["2026-11-26T12:00:00Z", "2026-11-27T00:00:00Z"][..]));
    (
        some_of(&WHO, 2),
        some_of(&WHAT, 2),
        permissions(),
        some_of(&["g1", "g2"], 2),
        proptest::option::of(conditions()),
        ends,
    )
        .prop_map(|(who, what, permissions, groups, conditions, ends)| {
            let groups: Vec<Value> = groups
                .iter()
                .map(|name| json!({ "urn": format!("urn:v1:eu:permissionsGroup:ab1234-casemate:{name}") }))
                .collect();
            json!({
                "name": "n", "identities": who, "resources": list("urn", &what), "permissions": permissions,
                "permissionsGroups": groups, "conditions": conditions, "expiredAt": ends,
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Many questions are asked of the same policies again, at other times, from elsewhere and on what has other tags, so
    /// that answers which are kept are in it, those of other questions too; and of the same policies in another order.
    #[test]
    fn a_decision_is_that_of_ten_lines(
        policies in proptest::collection::vec(any_policy(), 0..6),
        groups in proptest::collection::vec(permissions(), 2),
        members in some_of(&WHAT[..10], 2),
        tag in proptest::option::of(proptest::sample::select(&["prod", "test"][..])),
        from in proptest::sample::subsequence(&FROM[..], 2),
        days in proptest::sample::subsequence((26..31).collect::<Vec<_>>(), 2),
        turned in 0..3_usize,
    ) {
        let groups: Vec<Value> = groups.into_iter().zip(["g1", "g2"]).map(|(permissions, name)| json!({ "name": name, "permissions": permissions })).collect();
        let members = list("urn", &members);
        let ids: Vec<String> = (0..policies.len()).map(|number| number.to_string()).collect();
        let documents = |turned: usize| {
            let ids = ids.iter().cycle().skip(turned);
            let mut documents: Vec<(Kind, &str, Value)> = policies.iter().zip(ids).map(|(policy, id)| (Kind::Policy, id.as_str(), policy.clone())).collect();
            documents.extend(groups.iter().zip(["g1", "g2"]).map(|(group, id)| (Kind::PermissionsGroup, id, group.clone())));
            documents.push((Kind::ResourceGroup, "rg", json!({ "name": "rg", "resources": members })));
            documents
        };
        let tags: Vec<(String, String)> = tag.iter().map(|tag| ("env".to_owned(), (*tag).to_owned())).collect();
        let of_two = [("env".to_owned(), "test".to_owned())];
        let mut tagged: Vec<(&str, &str, &str)> = tag.iter().map(|tag| (ONE, "env", *tag)).collect();
        tagged.push((TWO, "env", "test"));
        let first = iam(&documents(turned), &tagged);
        let iam = iam(&documents(0), &tagged);
        let circumstances: Vec<Facts> = days.iter().flat_map(|day| from.iter().map(move |from| at(&format!("2026-11-{day}T12:00:00Z"), *from))).collect();
        for identities in [&[ALICE, TEAM][..], &[ALICE], &["urn:v1:eu:identity:user:ab1234-casemate/bob"]] {
            for resource in [ONE, TWO, "urn:v1:eu:resource:account:ab1234-casemate"].into_iter().chain(STORED) {
                for action in ACTIONS {
                    for facts in circumstances.iter().chain(&circumstances) {
                        let question = Question { identities, action, resource, facts: *facts };
                        let tags = match resource {
                            TWO => &of_two[..],
                            _ if resource.starts_with("urn:v1:eu:resource:storageS3:two/") => &of_two,
                            _ if resource == ONE || resource.starts_with("urn:v1:eu:resource:storageS3:one/") => &tags,
                            _ => &[],
                        };
                        let asked = Asked { identities, action, resource, at: facts.at, ip: facts.source_ip };
                        let right = asked.is_allowed(&policies, &groups, &members, tags);
                        prop_assert_eq!(iam.decide(&question).expect("decided").allowed, right, "{:?}", question);
                        prop_assert_eq!(first.decide(&question).expect("decided").allowed, right, "{:?}", question);
                    }
                    let question = Question { identities, action, resource, facts: circumstances[0] };
                    let told = iam.explain(&question).expect("explained");
                    prop_assert_eq!(iam.decide_by_cedar_alone(&question).expect("decided"), told.allowed, "without the index: {:?}", question);
                    prop_assert!(told.deciding.iter().all(|ruling| told.spoke.contains(ruling)));
                }
            }
        }
    }

    #[test]
    fn no_document_and_no_urn_makes_a_panic(text in "\\PC{0,60}", value in any_policy(), field in proptest::sample::select(&["identities", "resources", "permissions", "conditions", "expiredAt", "name"][..])) {
        let _ = Urn::parse(&text);
        let mut broken = value;
        broken[field] = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let _ = Draft::parse(Kind::Policy, &broken, &actions());
    }
}
