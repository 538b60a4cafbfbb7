//! What policies say, by example; and against a second evaluator that is written as the words are.

use std::sync::Arc;

use model::{AttemptNo, BucketName, JobId, ProjectId, SandboxId};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{S3Policy, S3Question, decide_s3, explain_s3};
use crate::{Effect, GrantUser, Ruling, S3Grant, Scope, Verdict};

fn project() -> ProjectId {
    "a".repeat(32).parse().expect("a project")
}

fn bucket() -> BucketName {
    "data".parse().expect("a bucket")
}

fn root() -> S3Grant {
    let project = project();
    S3Grant {
        access: Some("key".to_owned()),
        secret: zeroize::Zeroizing::default(),
        identity: "s3Key/key".to_owned(),
        scope: Scope::Project,
        session_token: None,
        expires: None,
        principal: format!("arn:aws:iam::{project}:root"),
        project,
        user: None,
        user_policy: None,
        session_policies: Vec::new(),
        account_policies: None,
    }
}

fn user(policy: Option<&Value>) -> S3Grant {
    let project = project();
    S3Grant {
        principal: format!("arn:aws:iam::{project}:user/ann"),
        user: Some(GrantUser { id: 7, name: "ann".to_owned(), storage: true }),
        user_policy: policy.map(|policy| Arc::new(S3Policy::parse_user(&policy.to_string()).expect("a policy"))),
        ..root()
    }
}

fn session(of: S3Grant, policies: &[Value]) -> S3Grant {
    let role = of.user.as_ref().map_or("project", |user| user.name.as_str());
    let read = |policy: &Value| Arc::new(S3Policy::parse_session(&policy.to_string()).expect("a policy"));
    S3Grant {
        principal: format!("arn:aws:sts::{}:assumed-role/{role}/nightly", of.project),
        session_policies: policies.iter().map(read).collect(),
        ..of
    }
}

fn job() -> S3Grant {
    let sandbox = SandboxId { job: JobId(uuid::Uuid::from_u128(7)), attempt: AttemptNo(1) };
    S3Grant {
        scope: Scope::Job(sandbox),
        principal: format!("arn:aws:sts::{}:assumed-role/job/{sandbox}", project()),
        ..root()
    }
}

fn of_bucket(statements: Value) -> S3Policy {
    let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    S3Policy::parse_bucket(&text, &project(), &bucket()).expect("a policy")
}

fn of_user(statements: Value) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

struct Asked<'a> {
    caller: Option<&'a S3Grant>,
    policy: Option<&'a S3Policy>,
    context: &'a [(&'a str, &'a str)],
    blocked: bool,
    account: Option<&'a Verdict>,
}

impl Asked<'_> {
    /// Whether an action on a key (`None`: on the bucket) is allowed, and why.
    fn verdict(&self, action: &str, key: Option<&str>) -> (bool, String) {
        let project = project();
        let question = S3Question {
            project: &project,
            action,
            bucket: Some("data"),
            key,
            bucket_policy: self.policy,
            context: self.context,
            public_blocked: self.blocked,
        };
        let verdict = decide_s3(self.caller, &question, self.account);
        let explained = explain_s3(self.caller, &question, self.account);
        assert_eq!((verdict.allowed, &verdict.reason), (explained.allowed, &explained.reason), "{explained}");
        (verdict.allowed, verdict.reason)
    }

    fn allows(&self, action: &str, key: Option<&str>) -> bool {
        self.verdict(action, key).0
    }
}

fn ask<'a>(caller: Option<&'a S3Grant>, policy: Option<&'a S3Policy>) -> Asked<'a> {
    Asked { caller, policy, context: &[], blocked: false, account: None }
}

fn get(asked: &Asked<'_>) -> bool {
    asked.allows("s3:GetObject", Some("k"))
}

#[test]
fn without_policies_the_project_and_its_storage_users_may_all_and_nobody_else_anything() {
    let (root, ann, job) = (root(), user(None), job());
    for caller in [&root, &ann, &job] {
        assert!(caller.is_plain() && get(&ask(Some(caller), None)));
    }
    assert!(!get(&ask(None, None)));
    let mut clerk = user(None);
    clerk.user = clerk.user.map(|user| GrantUser { storage: false, ..user });
    assert!(!clerk.is_plain());
    let open = of_bucket(json!({"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::data/*"}));
    assert!(!get(&ask(Some(&clerk), Some(&open))), "not even what a bucket opens to everybody");
    let mut stranger = user(None);
    stranger.project = "b".repeat(32).parse().expect("a project");
    assert!(!get(&ask(Some(&stranger), Some(&open))));
    let (allowed, reason) = ask(Some(&root), None).verdict("s3:HeadObject", Some("k"));
    assert!(!allowed && reason.contains("not an action"), "what is no action is allowed to nobody: {reason}");
}

#[test]
fn everybody_gets_what_a_bucket_opens_unless_it_is_blocked() {
    let open = of_bucket(json!({"Effect":"Allow","Principal":{"AWS":"*"},"Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::data/open/*"}));
    assert!(open.is_public());
    let anonymous = ask(None, Some(&open));
    assert!(anonymous.allows("s3:GetObject", Some("open/x")));
    assert!(!anonymous.allows("s3:GetObject", Some("closed/x")));
    assert!(!anonymous.allows("s3:PutObject", Some("open/x")));
    assert!(!Asked { blocked: true, ..anonymous }.allows("s3:GetObject", Some("open/x")));
    let ours = of_bucket(json!({"Effect":"Allow","Principal":{"AWS":[project()]},"Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::data/*"}));
    assert!(!ours.is_public() && !get(&ask(None, Some(&ours))));
    // A block closes it to the public; the project's own users are not that.
    let narrow = of_user(json!({"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}));
    let ann = user(Some(&narrow));
    assert!(Asked { blocked: true, ..ask(Some(&ann), Some(&open)) }.allows("s3:GetObject", Some("open/x")));
}

#[test]
fn a_user_with_a_policy_has_what_that_or_the_bucket_allows() {
    let policy = of_user(json!([
        {"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::data/${aws:username}/*"},
        {"Sid":"NoDrafts","Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::data/*/drafts/*"},
    ]));
    let ann = user(Some(&policy));
    let asked = ask(Some(&ann), None);
    assert!(asked.allows("s3:GetObject", Some("ann/x")));
    assert!(!asked.allows("s3:GetObject", Some("bob/x")));
    assert!(!asked.allows("s3:DeleteObject", Some("ann/x")));
    let (allowed, reason) = asked.verdict("s3:GetObject", Some("ann/drafts/x"));
    assert_eq!((allowed, reason.as_str()), (false, "denied by statement 2 (NoDrafts) of the policy of ann"));
    let (_, reason) = asked.verdict("s3:ListBucket", None);
    assert_eq!(reason, "no policy of ann or of the bucket allows it");

    let arn = format!("arn:aws:iam::{}:user/ann", project());
    let bucket = of_bucket(json!([
        {"Sid":"Ann","Effect":"Allow","Principal":{"AWS":arn},"Action":"s3:ListBucket","Resource":"arn:aws:s3:::data"},
        {"Effect":"Allow","Principal":{"AWS":project()},"Action":"s3:DeleteObject","Resource":"arn:aws:s3:::data/*"},
    ]));
    let asked = ask(Some(&ann), Some(&bucket));
    let (allowed, reason) = asked.verdict("s3:ListBucket", None);
    assert_eq!((allowed, reason.as_str()), (true, "allowed by statement 1 (Ann) of the bucket's policy"));
    assert!(
        !asked.allows("s3:DeleteObject", Some("ann/x")),
        "what the project may, it passes on by its users' policies"
    );
}

#[test]
fn a_deny_of_a_bucket_holds_for_all_that_it_names_and_no_role_sheds_it() {
    let arn = format!("arn:aws:iam::{}:user/ann", project());
    let deny = |principal: Value| {
        of_bucket(
            json!({"Effect":"Deny","Principal":principal,"Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"}),
        )
    };
    let (root, ann, job) = (root(), user(None), job());
    let in_role = session(user(None), &[]);
    let (all, one, ours) = (deny(json!("*")), deny(json!({ "AWS": arn })), deny(json!({ "AWS": project() })));
    for caller in [&root, &ann, &job, &in_role] {
        assert!(!get(&ask(Some(caller), Some(&all))) && !get(&ask(Some(caller), Some(&ours))));
    }
    assert!(!get(&ask(Some(&ann), Some(&one))) && !get(&ask(Some(&in_role), Some(&one))));
    assert!(get(&ask(Some(&root), Some(&one))) && get(&ask(Some(&job), Some(&one))));
    let role = |role: &str| deny(json!({ "AWS": format!("arn:aws:iam::{}:role/{role}", project()) }));
    assert!(!get(&ask(Some(&in_role), Some(&role("ann")))) && get(&ask(Some(&ann), Some(&role("ann")))));
    assert!(!get(&ask(Some(&job), Some(&role("job")))) && get(&ask(Some(&root), Some(&role("job")))));
    let nightly = |name: &str| deny(json!({ "AWS": format!("arn:aws:sts::{}:assumed-role/ann/{name}", project()) }));
    assert!(
        !get(&ask(Some(&in_role), Some(&nightly("nightly")))) && get(&ask(Some(&in_role), Some(&nightly("daily"))))
    );

    let but_ann = of_bucket(json!({"Effect":"Deny","NotPrincipal":{"AWS":arn},"Action":"s3:*",
        "Resource":["arn:aws:s3:::data","arn:aws:s3:::data/*"]}));
    assert!(get(&ask(Some(&ann), Some(&but_ann))) && get(&ask(Some(&in_role), Some(&but_ann))));
    assert!(!get(&ask(Some(&root), Some(&but_ann))) && !get(&ask(None, Some(&but_ann))));
}

#[test]
fn the_arn_of_a_session_is_that_of_its_role_and_of_its_holder() {
    let deny = |operator: &str, arn: &str| {
        of_bucket(json!({"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::data/*",
            "Condition":{operator:{"aws:PrincipalArn":format!("arn:aws:iam::{}:{arn}", project())}}}))
    };
    let (ann, root) = (session(user(None), &[]), session(root(), &[]));
    for (caller, arn, named) in [
        (&ann, "user/ann", true),
        (&ann, "role/ann", true),
        (&ann, "user/bob", false),
        (&root, "root", true),
        (&root, "role/project", true),
        (&root, "user/ann", false),
        (&job(), "role/job", true),
        (&job(), "root", false),
    ] {
        assert_eq!(get(&ask(Some(caller), Some(&deny("ArnLike", arn)))), !named, "{arn}");
        assert_eq!(get(&ask(Some(caller), Some(&deny("ArnNotLike", arn)))), named, "{arn}");
    }
}

#[test]
fn a_root_is_never_locked_out_of_the_policy_of_a_bucket_and_nobody_else_has_that_way() {
    let closed = of_bucket(json!({"Effect":"Deny","Principal":"*","Action":"s3:*",
        "Resource":["arn:aws:s3:::data","arn:aws:s3:::data/*"]}));
    let (root, ann, job) = (root(), user(None), job());
    let narrowed = session(self::root(), &[of_user(json!({"Effect":"Allow","Action":"*","Resource":"*"}))]);
    for action in ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"] {
        assert!(ask(Some(&root), Some(&closed)).allows(action, None));
        for other in [Some(&ann), Some(&job), Some(&narrowed), None] {
            assert!(!ask(other, Some(&closed)).allows(action, None), "{action} {other:?}");
        }
    }
    assert!(!ask(Some(&root), Some(&closed)).allows("s3:GetBucketAcl", None));
}

#[test]
fn each_session_policy_narrows() {
    let reads = of_user(json!({"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"}));
    let of_a = of_user(json!({"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::data/a/*"}));
    let not_b = of_user(json!([{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Effect":"Deny","Action":"*","Resource":"arn:aws:s3:::data/a/b"}]));
    let caller = session(user(None), &[reads, of_a, not_b]);
    assert!(!caller.is_plain());
    let asked = ask(Some(&caller), None);
    assert!(asked.allows("s3:GetObject", Some("a/x")));
    for (action, key, reason) in [
        ("s3:PutObject", Some("a/x"), "the session's policy does not allow it"),
        ("s3:GetObject", Some("c"), "the session's policy 2 does not allow it"),
        ("s3:GetObject", Some("a/b"), "denied by statement 2 of the session's policy 3"),
    ] {
        assert_eq!(asked.verdict(action, key), (false, reason.to_owned()));
    }
    // It narrows what a bucket gives, too.
    let open = of_bucket(json!({"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::data/*"}));
    assert!(!ask(Some(&caller), Some(&open)).allows("s3:PutObject", Some("a/x")));
}

#[test]
fn a_list_of_buckets_is_of_all_of_them() {
    for (resource, allowed) in [("*", true), ("arn:aws:s3:::*", true), ("arn:aws:s3:::data", false)] {
        let ann = user(Some(&of_user(json!({"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":resource}))));
        let project = project();
        let question = S3Question {
            project: &project,
            action: "s3:ListAllMyBuckets",
            bucket: None,
            key: None,
            bucket_policy: None,
            context: &[],
            public_blocked: false,
        };
        assert_eq!(decide_s3(Some(&ann), &question, None).allowed, allowed, "{resource}");
    }
}

/// Whether a condition holds of these values, as a statement that allows has it.
fn holds(condition: Value, context: &[(&str, &str)]) -> bool {
    let ann = user(Some(&of_user(json!({"Effect":"Allow","Action":"*","Resource":"*","Condition":condition}))));
    get(&Asked { context, ..ask(Some(&ann), None) })
}

#[test]
fn each_operator_does_as_it_is_called() {
    let prefix = "s3:prefix";
    for (operator, key, value, good, bad) in [
        ("StringEquals", prefix, json!(["a", "b"]), &["a", "b"][..], &["A", "c", "", "*"][..]),
        ("StringNotEquals", prefix, json!(["a", "b"]), &["A", "c", ""], &["a", "b"]),
        ("StringEqualsIgnoreCase", prefix, json!("Übung"), &["übung", "ÜBUNG"], &["Ubung"]),
        ("StringNotEqualsIgnoreCase", prefix, json!("Aa"), &["b"], &["aA"]),
        ("StringLike", prefix, json!(["home/*/x?", "${*}"]), &["home/a/b/xy", "*"], &["home/a/x", "home/xy"]),
        ("StringNotLike", prefix, json!("a*"), &["b", ""], &["a", "abc"]),
        ("StringEquals", prefix, json!("a*"), &["a*"], &["ab"]),
        ("NumericEquals", "s3:max-keys", json!(10), &["10", "10.0"], &["11", "x", ""]),
        ("NumericNotEquals", "s3:max-keys", json!("10"), &["11", "x"], &["10"]),
        ("NumericLessThan", "s3:max-keys", json!("10"), &["9", "-1", "9.5"], &["10", "11", "1e0"]),
        ("NumericLessThanEquals", "s3:max-keys", json!("10"), &["10"], &["10.1"]),
        ("NumericGreaterThan", "s3:max-keys", json!("10"), &["10.1"], &["10"]),
        ("NumericGreaterThanEquals", "s3:max-keys", json!("10"), &["10", "100"], &["9"]),
        (
            "DateEquals",
            "aws:CurrentTime",
            json!("2026-01-31"),
            &["2026-01-31T00:00:00Z"],
            &["2026-01-31T00:00:01Z", "x"],
        ),
        ("DateNotEquals", "aws:CurrentTime", json!("2026-01-31"), &["2026-01-31T00:00:01Z"], &["1769817600"]),
        (
            "DateLessThan",
            "aws:CurrentTime",
            json!("2026-01-31T00:00:00+01:00"),
            &["2026-01-30T22:59:59Z"],
            &["2026-01-30T23:00:00Z"],
        ),
        (
            "DateLessThanEquals",
            "aws:CurrentTime",
            json!("1769817600"),
            &["2026-01-31T00:00:00Z"],
            &["2026-01-31T00:00:01Z"],
        ),
        (
            "DateGreaterThan",
            "aws:CurrentTime",
            json!("2026-01-31"),
            &["2026-02-01T00:00:00Z"],
            &["2026-01-31T00:00:00Z"],
        ),
        ("DateGreaterThanEquals", "aws:EpochTime", json!("1769817600"), &["1769817600"], &["1769817599"]),
        ("Bool", "aws:SecureTransport", json!(true), &["true", "TRUE"], &["false", "yes", ""]),
        ("Bool", "aws:SecureTransport", json!("false"), &["false"], &["true"]),
        (
            "IpAddress",
            "aws:SourceIp",
            json!(["192.0.2.0/24", "2001:db8::/32"]),
            &["192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1"],
            &["192.0.3.1", "x", ""],
        ),
        ("NotIpAddress", "aws:SourceIp", json!("192.0.2.7"), &["192.0.2.8"], &["192.0.2.7"]),
        ("IpAddress", "aws:SourceIp", json!("::ffff:192.0.2.0/120"), &["192.0.2.9"], &["192.0.3.1"]),
        (
            "ArnLike",
            prefix,
            json!("arn:aws:iam::*:user/*"),
            &["arn:aws:iam::1:user/a"],
            &["arn:aws:iam::1:role/a", "arn:aws:iam::1:2:user/a"],
        ),
        ("ArnEquals", prefix, json!("arn:aws:s3:::b/*"), &["arn:aws:s3:::b/c:d"], &["arn:aws:s3:::b", "x"]),
        ("ArnNotLike", prefix, json!("arn:aws:s3:::b*"), &["arn:aws:s3:::a"], &["arn:aws:s3:::bc"]),
        ("ArnNotEquals", prefix, json!("arn:aws:s3:::b"), &["arn:aws:s3:::a"], &["arn:aws:s3:::b"]),
        ("Null", prefix, json!("false"), &["", "x"], &[]),
        ("Null", prefix, json!("true"), &[], &["", "x"]),
    ] {
        let condition = json!({ operator: { key: value } });
        for (given, expected) in good.iter().map(|good| (good, true)).chain(bad.iter().map(|bad| (bad, false))) {
            // Names of keys are the same whatever their case.
            let name = key.to_ascii_uppercase();
            assert_eq!(holds(condition.clone(), &[(&name, given)]), expected, "{condition} of '{given}'");
        }
    }
}

#[test]
fn of_a_key_that_is_not_there_only_negations_hold() {
    for (operator, value, expected) in [
        ("StringEquals", json!("a"), false),
        ("StringNotEquals", json!("a"), true),
        ("StringLike", json!("*"), false),
        ("StringNotLike", json!("*"), true),
        ("NumericLessThan", json!("1"), false),
        ("NumericNotEquals", json!("1"), true),
        ("DateLessThan", json!("2026-01-01"), false),
        ("Bool", json!("true"), false),
        ("IpAddress", json!("0.0.0.0/0"), false),
        ("NotIpAddress", json!("0.0.0.0/0"), true),
        ("ArnLike", json!("*"), false),
        ("ArnNotLike", json!("*"), true),
        ("StringEqualsIfExists", json!("a"), true),
        ("StringNotEqualsIfExists", json!("a"), true),
        ("NumericLessThanIfExists", json!("1"), true),
        ("Null", json!("true"), true),
        ("Null", json!("false"), false),
        ("ForAllValues:StringEquals", json!("a"), true),
        ("ForAnyValue:StringEquals", json!("a"), false),
        ("ForAnyValue:StringNotEquals", json!("a"), false),
        ("ForAnyValue:StringEqualsIfExists", json!("a"), true),
    ] {
        assert_eq!(holds(json!({ operator: { "s3:prefix": value } }), &[]), expected, "{operator}");
    }
}

#[test]
fn sets_are_read_as_their_operators_say() {
    let tags = |operator: &str, given: &[&str]| {
        let context: Vec<(&str, &str)> = given.iter().map(|tag| ("s3:RequestObjectTagKeys", *tag)).collect();
        holds(json!({ operator: { "s3:RequestObjectTagKeys": ["a", "b"] } }), &context)
    };
    for (operator, given, expected) in [
        ("ForAllValues:StringEquals", &["a", "b"][..], true),
        ("ForAllValues:StringEquals", &["a", "c"], false),
        ("ForAnyValue:StringEquals", &["a", "c"], true),
        ("ForAnyValue:StringEquals", &["c"], false),
        ("ForAllValues:StringNotEquals", &["c", "d"], true),
        ("ForAllValues:StringNotEquals", &["a", "d"], false),
        ("ForAnyValue:StringNotEquals", &["a", "d"], true),
        ("ForAnyValue:StringNotEquals", &["a", "b"], false),
        ("StringEquals", &["a", "c"], true),
        ("StringNotEquals", &["a", "c"], false),
    ] {
        assert_eq!(tags(operator, given), expected, "{operator} {given:?}");
    }
}

#[test]
fn all_conditions_must_hold_and_tags_are_keys_of_their_own() {
    let both = json!({"StringEquals":{"s3:prefix":"a","s3:delimiter":"/"},"Bool":{"aws:SecureTransport":"true"}});
    let all = [("s3:prefix", "a"), ("s3:delimiter", "/"), ("aws:SecureTransport", "true")];
    assert!(holds(both.clone(), &all));
    for left_out in 0..all.len() {
        let some: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, pair)| *pair).collect();
        assert!(!holds(both.clone(), &some), "{left_out}");
    }
    let tagged = json!({"StringEquals":{"s3:ExistingObjectTag/kind":"open"}});
    assert!(holds(tagged.clone(), &[("s3:ExistingObjectTag/kind", "open")]));
    assert!(!holds(tagged, &[("s3:ExistingObjectTag/other", "open")]));
}

#[test]
fn what_the_caller_is_does_not_come_from_the_call() {
    let ann = json!({"StringEquals":{"aws:username":"ann","aws:userid":"7","aws:PrincipalType":"User"}});
    assert!(holds(ann.clone(), &[]));
    let root =
        of_bucket(json!({"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*",
        "Condition":{"StringNotEquals":{"aws:username":"ann"}}}));
    let caller = self::root();
    assert!(!get(&Asked { context: &[("aws:username", "ann")], ..ask(Some(&caller), Some(&root)) }));
    assert!(holds(json!({"DateGreaterThan":{"aws:EpochTime":"1"}}), &[("aws:CurrentTime", "2026-01-31T00:00:00Z")]));
    let in_role = session(user(None), &[]);
    assert_eq!(in_role.caller_identity().user_id, "7:nightly");
}

#[test]
fn a_variable_without_a_value_never_helps() {
    let of = |statement: Value| {
        let bucket = of_bucket(statement);
        (get(&ask(None, Some(&bucket))), get(&ask(Some(&user(None)), Some(&bucket))))
    };
    let home = "arn:aws:s3:::data/${aws:username}";
    let allow = |field: &str| json!({"Effect":"Allow","Principal":"*","Action":"s3:*",field:home});
    assert!(!of(allow("Resource")).0 && !of(allow("NotResource")).0, "without a name");
    let deny = |field: &str| json!({"Effect":"Deny","Principal":"*","Action":"s3:*",field:home});
    assert!(of(deny("Resource")).1 && !of(deny("NotResource")).1, "with one: ann is not k");
    let unlike = |effect: &str| {
        json!({"Effect":effect,"Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*",
            "Condition":{"StringNotEquals":{"aws:PrincipalType":"${aws:username}"}}})
    };
    assert!(!of(unlike("Allow")).0, "a negation does not hold of what is not known");
    let open = json!({"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"});
    let both = of_bucket(json!([open, unlike("Deny")]));
    assert!(!get(&ask(None, Some(&both))), "and denies where it denies");
}

#[test]
fn a_policy_is_public_by_what_it_opens_to_everybody() {
    let public = |effect: &str, principal: Value, condition: Value| {
        of_bucket(json!({"Effect":effect,"Principal":principal,"Action":"s3:GetObject",
            "Resource":"arn:aws:s3:::data/*","Condition":condition}))
        .is_public()
    };
    let (everybody, us) = (json!("*"), json!({ "AWS": project() }));
    assert!(public("Allow", everybody.clone(), json!({})));
    assert!(!public("Deny", everybody.clone(), json!({})));
    assert!(!public("Allow", us, json!({})));
    for (condition, fixed) in [
        (json!({"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}), true),
        (json!({"IpAddress":{"aws:SourceIp":["10.0.0.0/8","fd00::/8"]}}), true),
        (json!({"IpAddress":{"aws:SourceIp":["192.0.2.0/24","0.0.0.0/1"]}}), false),
        (json!({"IpAddress":{"aws:SourceIp":"2000::/3"}}), false),
        (json!({"IpAddress":{"aws:SourceIp":"::ffff:0:0/96"}}), false),
        (json!({"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}), false),
        (json!({"IpAddressIfExists":{"aws:SourceIp":"192.0.2.0/24"}}), false),
        (json!({"StringEquals":{"aws:username":"ann"}}), true),
        (json!({"StringEquals":{"aws:userid":"7"}}), true),
        (json!({"StringEquals":{"aws:userid":["7","anonymous"]}}), false),
        (json!({"StringEqualsIgnoreCase":{"aws:userid":"Anonymous"}}), false),
        (json!({"StringLike":{"aws:username":"*"}}), false),
        (json!({"StringNotEquals":{"aws:username":"ann"}}), false),
        (json!({"ForAllValues:StringEquals":{"aws:username":"ann"}}), false),
        (json!({"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/ann"}}), false),
        (json!({"StringEquals":{"aws:Referer":"https://example.org"}}), false),
        (json!({"Bool":{"aws:SecureTransport":"true"}}), false),
    ] {
        assert_eq!(public("Allow", everybody.clone(), condition.clone()), !fixed, "{condition}");
    }
}

#[test]
fn what_is_wrong_with_a_policy_is_said_with_its_place() {
    let good =
        json!({"Sid":"One","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"});
    let with = |field: &str, value: Value| {
        let mut statement = good.clone();
        if value.is_null() {
            statement.as_object_mut().expect("an object").remove(field);
        } else {
            statement[field] = value;
        }
        json!({ "Version": "2012-10-17", "Statement": [good, statement] })
    };
    let foreign = format!("arn:aws:iam::{}:user/x", "b".repeat(32));
    for (policy, place, words) in [
        (json!([]), "policy", "a list"),
        (json!({"Version":"2012-10-17"}), "Statement", "missing"),
        (json!({"Version":"2012-10-18","Statement":good}), "Version", "'2012-10-18'"),
        (json!({"Statement":[],"Version":"2012-10-17"}), "Statement", "0 statements"),
        (json!({"Statement":vec![json!({}); 201]}), "Statement", "201 statements"),
        (json!({"Statement":["x"]}), "statement 1, Statement", "a text"),
        (json!({"Statement":good,"Statements":1}), "policy", "'Statements'"),
        (with("Sid", json!("One")), "statement 2 (One), Sid", "earlier"),
        (with("Sid", json!(7)), "statement 2, Sid", "a number"),
        (with("Sid", json!("Two")).clone(), "", ""),
        (with("Effect", json!("allow")), "statement 2 (One), Effect", "'allow'"),
        (with("Effect", Value::Null), "Effect", "missing"),
        (with("Principal", Value::Null), "Principal", "missing"),
        (with("Principal", json!("ann")), "Principal", "a text"),
        (with("Principal", json!({"CanonicalUser":"x"})), "Principal", "'CanonicalUser'"),
        (with("Principal", json!({"AWS":foreign})), "Principal", "another project"),
        (with("Principal", json!({"AWS":format!("arn:aws:iam::{}:user/*", project())})), "Principal", "wildcards"),
        (with("Principal", json!({"AWS":[]})), "Principal", "empty"),
        (with("Principal", json!({})), "Principal", "nobody"),
        (with("NotPrincipal", json!("*")), "NotPrincipal", "beside"),
        (with("Action", json!("s3:GetObjcet")), "Action", "perhaps s3:GetObject"),
        (with("Action", json!("iam:GetUser")), "Action", "not an action"),
        (with("Action", json!("s3:Nothing*")), "Action", "not an action"),
        (with("Action", json!(["s3:GetObject", 1])), "Action", "a number"),
        (with("Action", json!("s3:ListAllMyBuckets")), "Action", "not done on a bucket"),
        (with("Action", json!("s3:ListBucket")), "Resource", "add \"arn:aws:s3:::data\""),
        (with("Action", json!([])), "Action", "empty"),
        (with("NotAction", json!("s3:*")), "NotAction", "beside"),
        (with("Resource", json!("arn:aws:s3:::data")), "Resource", "add \"arn:aws:s3:::data/*\""),
        (with("Resource", json!("arn:aws:s3:::other/*")), "Resource", "not of this bucket"),
        (with("Resource", json!("arn:aws:s3:::database/*")), "Resource", "not of this bucket"),
        (with("Resource", json!("*")), "Resource", "not of this bucket"),
        (with("Resource", json!("arn:aws:s3:::data/${aws:nobody}")), "Resource", "'aws:nobody'"),
        (with("Resource", Value::Null), "Resource", "missing"),
        (with("Ressource", json!("x")), "Statement", "'Ressource'"),
        (with("Condition", json!([])), "Condition", "a list"),
        (with("Condition", json!({"StringSame":{"s3:prefix":"a"}})), "Condition", "'StringSame'"),
        (with("Condition", json!({"NullIfExists":{"s3:prefix":"true"}})), "Condition", "'NullIfExists'"),
        (with("Condition", json!({"ForSome:StringEquals":{"s3:prefix":"a"}})), "Condition", "'ForSome:StringEquals'"),
        (with("Condition", json!({"StringEquals":{"aws:Nothing":"a"}})), "Condition", "'aws:Nothing'"),
        (
            with("Condition", json!({"StringEquals":{"s3:ExistingObjectTag/":"a"}})),
            "Condition",
            "'s3:ExistingObjectTag/'",
        ),
        (with("Condition", json!({"StringEquals":{"s3:prefix":[]}})), "Condition", "no value"),
        (with("Condition", json!({"StringEquals":{"s3:prefix":{}}})), "Condition", "an object"),
        (with("Condition", json!({"StringEquals":{}})), "Condition", "no key"),
        (with("Condition", json!({"NumericEquals":{"s3:max-keys":"ten"}})), "Condition", "'ten'"),
        (with("Condition", json!({"DateEquals":{"aws:CurrentTime":"2026-01-31T00:00:00"}})), "Condition", "not a time"),
        (with("Condition", json!({"Bool":{"aws:SecureTransport":"yes"}})), "Condition", "'yes'"),
        (with("Condition", json!({"IpAddress":{"aws:SourceIp":"192.0.2"}})), "Condition", "'192.0.2'"),
        (with("Condition", json!({"ArnLike":{"aws:PrincipalArn":"user/ann"}})), "Condition", "not an ARN"),
    ] {
        match S3Policy::parse_bucket(&policy.to_string(), &project(), &bucket()) {
            Ok(_) => assert!(place.is_empty(), "{policy} was taken"),
            Err(wrong) => {
                let wrong = wrong.to_string();
                assert!(!place.is_empty() && wrong.contains(place) && wrong.contains(words), "{policy}: {wrong}");
            }
        }
    }
    let twice = r#"{"Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}"#;
    assert!(S3Policy::parse_user(twice).expect_err("refused").problem.contains("'Effect' stands twice"));
    assert!(S3Policy::parse_user("{").expect_err("refused").problem.contains("not JSON"));
    assert!(S3Policy::parse_user(&"[".repeat(10_000)).is_err());
    let long = format!("{:21000}", "{}");
    assert!(S3Policy::parse_user(&long).expect_err("refused").remedy.contains("20480"));
    let principal = of_user(json!({"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"})).to_string();
    assert_eq!(S3Policy::parse_user(&principal).expect_err("refused").field, "Principal");
    let allowed = of_user(json!({"Effect":"Allow","Action":"*","Resource":"*","Sid":"é"})).to_string();
    assert_eq!(S3Policy::parse_user(&allowed).expect_err("refused").field, "Sid");
    let session =
        of_user(json!({"Effect":"Allow","Action":"*","Resource":format!("arn:aws:s3:::{}", "a".repeat(2048))}));
    assert!(S3Policy::parse_session(&session.to_string()).is_err());
    assert!(S3Policy::parse_user(&session.to_string()).is_ok());
}

#[test]
fn a_users_policy_without_statements_allows_nothing_and_a_bucket_has_none_such() {
    let empty = json!({ "Statement": [] });
    let ann = user(Some(&empty));
    assert!(!ann.is_plain());
    let asked = ask(Some(&ann), None);
    assert!(!asked.allows("s3:GetObject", Some("k")) && !asked.allows("s3:ListBucket", None));
    assert!(S3Policy::parse_bucket(&empty.to_string(), &project(), &bucket()).is_err());
}

#[test]
fn the_old_version_has_no_variables() {
    let policy = json!({"Version":"2008-10-17","Statement":
        {"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::data/${aws:username}"}});
    let ann = user(Some(&policy));
    let asked = ask(Some(&ann), None);
    assert!(asked.allows("s3:GetObject", Some("${aws:username}")) && !asked.allows("s3:GetObject", Some("ann")));
}

#[test]
fn an_explanation_says_of_each_statement_why_it_applies_or_does_not() {
    let bucket = of_bucket(json!([
        {"Sid":"Other","Effect":"Allow","Principal":{"AWS":format!("arn:aws:iam::{}:user/bob", project())},
         "Action":"s3:*","Resource":"arn:aws:s3:::data/*"},
        {"Effect":"Deny","Principal":"*","NotAction":"s3:GetObject","Resource":"arn:aws:s3:::data/*"},
        {"Effect":"Deny","Principal":"*","Action":"s3:*","NotResource":"arn:aws:s3:::data/*"},
        {"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::data/*",
         "Condition":{"Bool":{"aws:SecureTransport":"false"}}},
        {"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::data/*"},
    ]));
    let ann = user(Some(&of_user(
        json!({"Sid":"Mine","Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::data/*"}),
    )));
    let project = project();
    let question = S3Question {
        project: &project,
        action: "s3:GetObject",
        bucket: Some("data"),
        key: Some("k"),
        bucket_policy: Some(&bucket),
        context: &[("aws:SecureTransport", "true")],
        public_blocked: false,
    };
    let lines = explain_s3(Some(&ann), &question, None).to_string();
    assert_eq!(
        lines,
        "Allow: statement 1 (Other) of the bucket's policy does not apply: Principal does not name the caller\n\
         Deny: statement 2 of the bucket's policy does not apply: NotAction names the action\n\
         Deny: statement 3 of the bucket's policy does not apply: NotResource names the resource\n\
         Deny: statement 4 of the bucket's policy does not apply: the condition Bool of aws:SecureTransport does not hold\n\
         Allow: statement 5 of the bucket's policy does not apply: Action does not name the action\n\
         Allow: statement 1 (Mine) of the policy of ann applies: all of it is about this call\n\
         allowed: allowed by statement 1 (Mine) of the policy of ann"
    );
    assert!(decide_s3(Some(&ann), &question, None).trace.is_empty());
}

/// A second evaluator, over the policy's JSON and with nothing clever in it.
mod simple {
    use super::*;

    pub(super) struct World<'a> {
        pub caller: Option<&'a S3Grant>,
        pub action: &'a str,
        pub resource: String,
        pub context: &'a [(&'a str, &'a str)],
        pub blocked: bool,
    }

    fn list(value: &Value) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        value.as_array().map_or_else(|| vec![text(value)], |list| list.iter().map(text).collect())
    }

    pub(super) fn like(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => like(&pattern[1..], text) || (!text.is_empty() && like(pattern, &text[1..])),
            (Some(b'?'), Some(_)) => like(&pattern[1..], &text[1..]),
            (Some(a), Some(b)) if a == b => like(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    fn any_like(patterns: &Value, text: &str) -> bool {
        list(patterns).iter().any(|pattern| like(pattern.as_bytes(), text.as_bytes()))
    }

    impl World<'_> {
        fn applies(&self, statement: &Value, of_bucket: bool) -> bool {
            let allow = statement["Effect"] == "Allow";
            let action = match statement.get("Action") {
                Some(actions) => any_like(actions, self.action),
                None => !any_like(&statement["NotAction"], self.action),
            };
            let resource = match statement.get("Resource") {
                Some(resources) => any_like(resources, &self.resource),
                None => !any_like(&statement["NotResource"], &self.resource),
            };
            let principal = !of_bucket
                || match statement.get("Principal") {
                    Some(names) => self.is_one(names, !allow),
                    None => !self.is_one(&statement["NotPrincipal"], false),
                };
            let conditions = statement["Condition"].as_object().is_none_or(|operators| {
                operators.iter().all(|(operator, keys)| {
                    keys.as_object().expect("keys").iter().all(|(key, values)| self.holds(operator, key, &list(values)))
                })
            });
            action && resource && principal && conditions
        }

        fn is_one(&self, names: &Value, all_of_project: bool) -> bool {
            let names = names.get("AWS").map_or_else(|| list(names), list);
            let project = project();
            names.iter().any(|name| match self.caller {
                None => name == "*",
                Some(caller) => {
                    let name = name.as_str();
                    let of_project = name == project.as_str() || name == format!("arn:aws:iam::{project}:root");
                    let in_role = caller.principal.contains("assumed-role/ann/");
                    name == "*"
                        || name == caller.principal
                        || (of_project && (all_of_project || caller.user.is_none()))
                        || (name == format!("arn:aws:iam::{project}:user/ann") && caller.user.is_some())
                        || (name == format!("arn:aws:iam::{project}:role/ann") && in_role)
                }
            })
        }

        fn holds(&self, operator: &str, key: &str, wanted: &[String]) -> bool {
            let given: Vec<&str> =
                self.context.iter().filter(|(name, _)| *name == key).map(|(_, value)| *value).collect();
            if operator == "Null" {
                return wanted.contains(&given.is_empty().to_string());
            }
            let (set, plain) = operator.split_once(':').unwrap_or(("", operator));
            let (plain, if_exists) = plain.strip_suffix("IfExists").map_or((plain, false), |plain| (plain, true));
            let negated = plain.contains("Not");
            if given.is_empty() {
                return if_exists || set == "ForAllValues" || (set.is_empty() && negated);
            }
            let good = |given: &&str| {
                let one = |wanted: &String| match plain {
                    "StringEquals" | "StringNotEquals" => given == wanted,
                    "StringLike" | "StringNotLike" => like(wanted.as_bytes(), given.as_bytes()),
                    "NumericLessThan" => {
                        matches!((given.parse::<f64>(), wanted.parse::<f64>()), (Ok(given), Ok(wanted)) if given < wanted)
                    }
                    "Bool" => given == wanted,
                    "IpAddress" | "NotIpAddress" => given.starts_with(wanted.trim_end_matches(".0.0/16")),
                    other => panic!("{other}"),
                };
                wanted.iter().any(one) != negated
            };
            if set == "ForAnyValue" || (set.is_empty() && !negated) {
                given.iter().any(good)
            } else {
                given.iter().all(good)
            }
        }

        /// Whether a policy denies, and whether it allows.
        fn says(&self, policy: Option<&Value>, of_bucket: bool) -> (bool, bool) {
            let statements =
                policy.map_or_else(Vec::new, |policy| policy["Statement"].as_array().expect("a list").clone());
            let any = |effect: &str| {
                statements.iter().any(|statement| statement["Effect"] == effect && self.applies(statement, of_bucket))
            };
            (any("Deny"), any("Allow"))
        }

        pub(super) fn decide(
            &self,
            bucket: Option<&Value>,
            user: Option<&Value>,
            sessions: &[Value],
            (account_denies, account_allows): (bool, bool),
        ) -> bool {
            let (bucket_denies, bucket_allows) = self.says(bucket, true);
            let (user_denies, user_allows) = self.says(user, false);
            let sessions: Vec<(bool, bool)> = sessions.iter().map(|policy| self.says(Some(policy), false)).collect();
            let root = self.caller.is_some_and(|caller| caller.principal.ends_with(":root"))
                && sessions.is_empty()
                && self.action == "s3:PutBucketPolicy";
            if (bucket_denies && !root) || user_denies || account_denies || sessions.iter().any(|(denies, _)| *denies) {
                return false;
            }
            if sessions.iter().any(|(_, allows)| !allows) {
                return false;
            }
            match self.caller {
                None => bucket_allows && !self.blocked,
                Some(caller) => match &caller.user {
                    None => true,
                    Some(holder) if !holder.storage => account_allows,
                    Some(_) => user.is_none() || user_allows || bucket_allows || account_allows,
                },
            }
        }
    }
}

fn one_or_some(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(words).prop_map(|word| json!(word)),
        prop::sample::subsequence(words, 1..=words.len().min(3)).prop_map(|some| json!(some)),
    ]
}

fn conditions() -> impl Strategy<Value = Value> {
    let text = (
        prop::sample::select(vec!["", "ForAnyValue:", "ForAllValues:"]),
        prop::sample::select(vec!["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"]),
        any::<bool>(),
        prop::sample::select(vec!["s3:prefix", "s3:delimiter"]),
        one_or_some(&["a", "a*", "?", "b"]),
    )
        .prop_map(|(set, operator, if_exists, key, values)| {
            json!({ format!("{set}{operator}{}", if if_exists { "IfExists" } else { "" }): { key: values } })
        });
    let other = prop::sample::select(vec![
        json!({"Null":{"s3:prefix":"true"}}),
        json!({"Null":{"s3:prefix":"false"}}),
        json!({"NumericLessThan":{"s3:max-keys":"10"}}),
        json!({"Bool":{"aws:SecureTransport":"true"}}),
        json!({"IpAddress":{"aws:SourceIp":"10.1.0.0/16"}}),
        json!({"NotIpAddressIfExists":{"aws:SourceIp":["10.1.0.0/16","10.2.0.0/16"]}}),
    ]);
    prop_oneof![2 => Just(json!({})), 2 => text, 1 => other]
}

fn statement(of_bucket: bool) -> impl Strategy<Value = Value> {
    let resources: &'static [&'static str] = if of_bucket {
        &["arn:aws:s3:::data/*", "arn:aws:s3:::data/a*", "arn:aws:s3:::data", "arn:aws:s3:::data/?b"]
    } else {
        &["*", "arn:aws:s3:::*", "arn:aws:s3:::data/a*", "arn:aws:s3:::data", "arn:aws:s3:::data/?b"]
    };
    let project = project();
    let names = vec![
        json!("*"),
        json!({ "AWS": project }),
        json!({ "AWS": [format!("arn:aws:iam::{project}:user/ann"), format!("arn:aws:iam::{project}:user/bob")] }),
        json!({ "AWS": format!("arn:aws:iam::{project}:root") }),
        json!({ "AWS": format!("arn:aws:iam::{project}:role/ann") }),
        json!({ "AWS": format!("arn:aws:sts::{project}:assumed-role/ann/nightly") }),
    ];
    (
        any::<bool>(),
        any::<(bool, bool, bool)>(),
        prop::sample::select(names),
        one_or_some(&["s3:*", "*", "s3:Get*", "s3:*Object", "s3:*BucketPolicy"]),
        one_or_some(resources),
        conditions(),
    )
        .prop_map(
            move |(allow, (not_principal, not_action, not_resource), principal, actions, resources, condition)| {
                let mut statement = json!({ "Effect": if allow { "Allow" } else { "Deny" }, "Condition": condition });
                statement[if not_action { "NotAction" } else { "Action" }] = actions;
                statement[if not_resource { "NotResource" } else { "Resource" }] = resources;
                if of_bucket {
                    statement[if not_principal && !allow { "NotPrincipal" } else { "Principal" }] = principal;
                }
                statement
            },
        )
}

fn policy(of_bucket: bool) -> impl Strategy<Value = Value> {
    prop::collection::vec(statement(of_bucket), 1..5)
        .prop_map(|statements| json!({ "Version": "2012-10-17", "Statement": statements }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn decisions_are_those_of_a_simple_evaluator(
        who in 0..6,
        bucket_policy in prop::option::of(policy(true)),
        user_policy in prop::option::of(policy(false)),
        sessions in prop::collection::vec(policy(false).prop_filter("short", |policy| policy.to_string().len() <= 2048), 0..2),
        action in prop::sample::select(&["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:PutBucketPolicy"][..]),
        key in prop::sample::select(&[None, Some("a"), Some("ab"), Some("b/a"), Some("xb")][..]),
        context in prop::sample::subsequence(
            vec![
                ("s3:prefix", "a"), ("s3:prefix", "ab"), ("s3:prefix", "b"), ("s3:delimiter", "a"), ("s3:delimiter", ""),
                ("s3:max-keys", "9"), ("s3:max-keys", "10"), ("aws:SecureTransport", "true"), ("aws:SourceIp", "10.1.2.3"),
            ],
            0..6,
        ),
        blocked: bool,
        account in prop::sample::select(&[None, Some((false, false)), Some((true, false)), Some((false, true))][..]),
    ) {
        let user_policy = if who >= 3 { user_policy } else { None };
        let sessions = if who == 0 { Vec::new() } else { sessions };
        let mut grant = match who {
            0 | 1 => root(),
            2 => job(),
            3 | 4 => user(user_policy.as_ref()),
            _ => session(user(user_policy.as_ref()), &[]),
        };
        if who == 4 {
            grant.user = grant.user.map(|user| GrantUser { storage: false, ..user });
        }
        for policy in &sessions {
            grant.session_policies.push(Arc::new(S3Policy::parse_session(&policy.to_string()).expect("a policy")));
        }
        let caller = (who > 0).then_some(&grant);
        let account = account.filter(|_| caller.is_some());
        let (denies, allows) = account.unwrap_or_default();
        let account = account.map(|_| {
            let effect = if allows { Effect::Allow } else { Effect::Deny };
            let ruling = Ruling { policy: "1".to_owned(), name: "one".to_owned(), permissions_group: None, effect };
            Verdict { allowed: allows, deciding: if denies || allows { vec![Arc::new(ruling)] } else { Vec::new() } }
        });
        let parsed = bucket_policy.as_ref().map(|policy| {
            S3Policy::parse_bucket(&policy.to_string(), &project(), &bucket()).expect("a policy")
        });
        let resource = key.map_or_else(|| "arn:aws:s3:::data".to_owned(), |key| format!("arn:aws:s3:::data/{key}"));
        let simple = simple::World { caller, action, resource, context: &context, blocked };
        let expected = simple.decide(bucket_policy.as_ref(), user_policy.as_ref(), &sessions, (denies, allows));
        let asked = Asked { caller, policy: parsed.as_ref(), context: &context, blocked, account: account.as_ref() };
        let (allowed, reason) = asked.verdict(action, key);
        prop_assert_eq!(allowed, expected, "{}", reason);
    }

    #[test]
    fn reading_a_policy_never_panics(
        text in "\\PC{0,80}",
        field in prop::sample::select(&["Version", "Id", "Statement", "Sid", "Effect", "Principal", "Action", "Resource", "Condition"][..]),
        value in prop::sample::select(vec![
            json!(null), json!(1.5), json!([]), json!({}), json!([[]]), json!({"AWS":{}}), json!("${"), json!("é*"),
            json!({"ForAnyValue:":{"":""}}), json!({"Bool":{"s3:prefix":[null]}}), json!({"ArnLike":{"s3:prefix":"arn:${:::::"}}),
        ]),
    ) {
        let mut policy = json!({"Version":"2012-10-17","Statement":
            {"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:s3:::data/*"}});
        let whole = matches!(field, "Version" | "Id" | "Statement");
        if whole { policy[field] = value } else { policy["Statement"][field] = value }
        for text in [text.clone(), policy.to_string(), policy.to_string().replace('*', &text)] {
            let _ = S3Policy::parse_bucket(&text, &project(), &bucket());
            let _ = S3Policy::parse_user(&text);
            let _ = S3Policy::parse_session(&text);
        }
    }
}
