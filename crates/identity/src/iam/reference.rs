//! The law in ten lines, over the documents as they were sent. It shares no code with what is tested, and the fuzz target
//! of policies is compiled with it too.

use std::net::IpAddr;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

/// The one resource group, whose members are given apart.
pub const GROUPED: &str = "urn:v1:eu:resourceGroup:rg";

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// URNs of who asks.
    pub identities: &'a [&'a str],
    /// The action.
    pub action: &'a str,
    /// The URN of the resource.
    pub resource: &'a str,
    /// When.
    pub at: Timestamp,
    /// From where, if it is known.
    pub ip: Option<IpAddr>,
}

impl Asked<'_> {
    /// Whether the policies allow it. Permissions groups are named by the ends of their URNs; the tags are those of the resource.
    pub fn is_allowed(&self, policies: &[Value], groups: &[Value], members: &Value, tags: &[(String, String)]) -> bool {
        let applies = |policy: &&Value| {
            self.identities.iter().any(|identity| says(&policy["identities"], "", identity))
                && (says(&policy["resources"], "urn", self.resource)
                    || says_exactly(&policy["resources"], "urn", GROUPED) && says(members, "urn", self.resource))
                && policy["expiredAt"].as_str().is_none_or(|end| self.at < end.parse().expect("a time"))
                && self.holds(&policy["conditions"], tags)
        };
        let group = |named: &Value| {
            let urn = named["urn"].as_str().expect("a URN").to_owned();
            groups.iter().find(move |group| urn.ends_with(group["name"].as_str().expect("a name")))
        };
        let permissions = policies.iter().filter(applies).flat_map(|policy| {
            let named = policy["permissionsGroups"].as_array().into_iter().flatten().filter_map(group);
            std::iter::once(&policy["permissions"]).chain(named.map(|group| &group["permissions"]))
        });
        let permissions: Vec<&Value> = permissions.collect();
        let listed = |own: &Value, list: &str| says(&own[list], "action", self.action);
        permissions.iter().any(|own| listed(own, "allow") && !listed(own, "except"))
            && !permissions.iter().any(|own| listed(own, "deny"))
    }

    fn holds(&self, condition: &Value, tags: &[(String, String)]) -> bool {
        let mut parts = condition["conditions"].as_array().into_iter().flatten();
        let part = |part: &Value| self.holds(part, tags);
        let leaf = |(key, value): (&String, &Value)| self.leaf_holds(key, value.as_str().unwrap_or(""), tags);
        match condition["operator"].as_str() {
            Some("AND") => parts.all(part),
            Some("OR") => parts.any(part),
            Some("NOT") => !parts.all(part),
            Some("MATCH") => condition["values"].as_object().expect("values").iter().all(leaf),
            _ => true,
        }
    }

    fn leaf_holds(&self, key: &str, value: &str, tags: &[(String, String)]) -> bool {
        if key == "request.IP" {
            return self.ip.is_some_and(|ip| is_within(ip, value));
        }
        if let Some((zone, _)) = key.strip_prefix("date(").and_then(|rest| rest.split_once(").WeekDay")) {
            let zone = TimeZone::get(zone).expect("a zone");
            let today = zone.to_datetime(self.at).strftime("%A").to_string().to_lowercase();
            return value.split(',').any(|day| day == today);
        }
        tags.iter().any(|(name, has)| key == format!("resource.Tag({name})") && has == value)
    }
}

fn says(list: &Value, field: &str, value: &str) -> bool {
    texts(list, field).any(|pattern| wild(pattern, value))
}

fn says_exactly(list: &Value, field: &str, value: &str) -> bool {
    texts(list, field).any(|text| text == value)
}

fn texts<'a>(list: &'a Value, field: &'a str) -> impl Iterator<Item = &'a str> {
    list.as_array().into_iter().flatten().map(move |item| item[field].as_str().or(item.as_str()).unwrap_or(""))
}

fn wild(pattern: &str, value: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    match parts[..] {
        [whole] => whole == value,
        [before, after] => value.len() >= pattern.len() - 1 && value.starts_with(before) && value.ends_with(after),
        [_, middle, _] => value.contains(middle),
        _ => false,
    }
}

/// Bit by bit.
fn is_within(ip: IpAddr, block: &str) -> bool {
    let (net, length) = block.split_once('/').map_or((block, None), |(net, length)| (net, Some(length)));
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => format!("4{:032b}", u32::from(ip)),
        IpAddr::V6(ip) => format!("6{:0128b}", u128::from(ip)),
    };
    let (ip, net) = (bits(ip.to_canonical()), bits(net.parse().expect("an address")));
    let length = length.map_or(net.len(), |length| 1 + length.parse::<usize>().expect("a length"));
    ip.starts_with(&net[..length])
}
