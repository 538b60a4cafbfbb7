//! Policies of IAM: reading one ends; what was read is read again as it is kept; and every decision by it is that of the
//! reference evaluator, with what was kept of an answer before and without.
#![no_main]

#[path = "../../crates/identity/src/iam/reference.rs"]
mod reference;

use std::collections::{BTreeMap, HashMap};

use identity::{Actions, Draft, Facts, Iam, IamKind, Question};
use reference::{Asked, GROUPED};
use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let actions = Actions::new(ACTIONS);
    let _ = Draft::parse(IamKind::ResourceGroup, &value, &actions);
    let _ = Draft::parse(IamKind::PermissionsGroup, &value, &actions);
    let Ok(draft) = Draft::parse(IamKind::Policy, &value, &actions) else { return };
    let kept = Value::Object(draft.given.clone());
    assert_eq!(Draft::parse(IamKind::Policy, &kept, &actions).as_ref(), Ok(&draft), "it is kept as it was read");
    let members = json!([{ "urn": RESOURCES[0] }]);
    let group = Draft::parse(IamKind::ResourceGroup, &json!({ "name": "rg", "resources": members }), &actions);
    let account = "ab1234-casemate".parse().expect("an account");
    let tags = HashMap::from([(RESOURCES[0].to_owned(), BTreeMap::from([("env".to_owned(), "prod".to_owned())]))]);
    let id = GROUPED.rsplit(':').next().unwrap_or_default().to_owned();
    let documents = [("1".to_owned(), draft), (id, group.expect("a group"))];
    let iam = Iam::new(documents, &account, tags).expect("policies");
    for (identities, ip) in [(&IDENTITIES[..1], Some([192, 0, 2, 7].into())), (&IDENTITIES[..], None)] {
        for (number, resource) in RESOURCES.into_iter().enumerate() {
            let tags = if number == 0 { vec![("env".to_owned(), "prod".to_owned())] } else { Vec::new() };
            for action in ACTIONS {
                for second in [1_800_000_000, 1_800_086_400, 1_800_000_000] {
                    let at = jiff::Timestamp::from_second(second).expect("a time");
                    let asked = Asked { identities, action, resource, at, ip };
                    let right = asked.is_allowed(std::slice::from_ref(&kept), &[], &members, &tags);
                    let question = Question { identities, action, resource, facts: Facts { at, source_ip: ip } };
                    assert_eq!(iam.decide(&question).expect("decided").allowed, right, "{question:?}");
                }
            }
        }
    }
});

const ACTIONS: [&str; 3] = ["p:apiovh:get", "p:apiovh:jobs/create", "account:apiovh:me/get"];
const IDENTITIES: [&str; 2] =
    ["urn:v1:eu:identity:user:ab1234-casemate/alice", "urn:v1:eu:identity:group:ab1234-casemate/team"];
const RESOURCES: [&str; 2] =
    ["urn:v1:eu:resource:publicCloudProject:one", "urn:v1:eu:resource:account:ab1234-casemate"];
