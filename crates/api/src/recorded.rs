//! What the audit log keeps of the path and the query of a call. People and programs put secrets where they do not
//! belong: a password in the place of a name, a token in an address that has no route. So of a call that named what
//! there is the words are kept, and of any other only what cannot be a secret: words of the routes, numbers, UUIDs.

use crate::{ROUTES, Route, percent};

/// Whether the words of a call can be kept: a caller who is known named something that there is.
pub(crate) fn is_plain(caller_is_known: bool, status: u16) -> bool {
    caller_is_known && !matches!(status, 400..=402 | 404..=408 | 410..=428 | 430..=499)
}

/// The path as it is kept.
pub(crate) fn path(route: Option<&Route>, path: &str, plain: bool) -> String {
    let Some(route) = route else {
        let known = |segment: &str| {
            let word = |route: &Route| route.path.split('/').any(|part| part == segment && !part.starts_with('{'));
            segment.is_empty() || VERSIONS.contains(&segment) || ROUTES.iter().any(word)
        };
        let kept: Vec<&str> =
            path.split('/').take(MOST_SEGMENTS).map(|segment| if known(segment) { segment } else { "*" }).collect();
        return kept.join("/");
    };
    if plain && !route.path.contains("{token}") {
        return path.chars().take(LONGEST).collect();
    }
    let (given, pattern): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), route.path.split('/').collect());
    // A version, and what the service is reached under, stand before what the pattern is about.
    let before = given.len().saturating_sub(pattern.len() - 1);
    let version = given.get(1).filter(|version| before > 1 && VERSIONS.contains(version));
    let parts = pattern[1..].iter().enumerate().map(|(at, part)| {
        let given = given.get(before + at).copied().unwrap_or_default();
        let keeps = part.starts_with('{') && *part != "{token}" && is_id(given);
        if keeps { given } else { *part }
    });
    let parts: Vec<&str> = version.copied().into_iter().chain(parts).collect();
    format!("/{}", parts.join("/"))
}

/// The query as it is kept: names that a route knows, with their values where those are plain.
pub(crate) fn query(query: &str, plain: bool) -> String {
    let kept: Vec<String> = query
        .split('&')
        .filter(|part| !part.is_empty())
        .take(MOST_SEGMENTS)
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (QUERY_NAMES.contains(&name), plain) {
                (true, true) if is_short(value) || is_id(value) || is_time(value) => format!("{name}={value}"),
                (true, _) => format!("{name}=*"),
                (false, _) => "*".to_owned(),
            }
        })
        .collect();
    kept.join("&").chars().take(LONGEST).collect()
}

/// A word that is shorter than each password and token of this service. A route passes over parameters that it does not ask
/// for, so that a call which named what there is says nothing about them.
fn is_short(value: &str) -> bool {
    value.len() < SHORTEST_SECRET && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A time by RFC 3339.
fn is_time(value: &str) -> bool {
    percent::decode(value, false).is_ok_and(|text| text.parse::<jiff::Timestamp>().is_ok())
}

/// A number or a UUID: what the service gives as an id. Secrets are longer, or are of other characters.
fn is_id(segment: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (segment.len() <= MOST_DIGITS && !segment.is_empty() && digits(segment))
        || (segment.len() == 36 && segment.parse::<uuid::Uuid>().is_ok())
}

/// What routes ask a query for. A test holds it against the sources.
const QUERY_NAMES: [&str; 20] = [
    "after",
    "applicationId",
    "askingAccount",
    "details",
    "from",
    "last",
    "limit",
    "marker",
    "node",
    "origin",
    "prefix",
    "recursive",
    "region",
    "resourceType",
    "service",
    "state",
    "status",
    "to",
    "toAccount",
    "version",
];
/// A password has 12 characters at least.
const SHORTEST_SECRET: usize = 12;
const VERSIONS: [&str; 3] = ["1.0", "v1", "v2"];
const MOST_SEGMENTS: usize = 64;
const LONGEST: usize = 1024;
const MOST_DIGITS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> &'static Route {
        ROUTES.iter().find(|route| route.path == path).expect("a route")
    }

    #[test]
    fn what_may_be_a_secret_is_not_kept_where_nothing_was_found_by_it() {
        let user = route("/me/identity/user/{user}");
        let credential = route("/me/api/credential/{credentialId}");
        let setup = route("/auth/setup/{token}");
        let job = route("/cloud/project/{serviceName}/dataProcessing/jobs/{jobId}");
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        for (of, given, plain, kept) in [
            (Some(user), "/1.0/me/identity/user/hunter2", false, "/1.0/me/identity/user/{user}"),
            (Some(user), "/v1/me/identity/user/alice", true, "/v1/me/identity/user/alice"),
            (Some(credential), "/1.0/me/api/credential/12", false, "/1.0/me/api/credential/12"),
            (Some(credential), "/1.0/me/api/credential/hunter2", false, "/1.0/me/api/credential/{credentialId}"),
            (Some(setup), "/1.0/auth/setup/hunter2", true, "/1.0/auth/setup/{token}"),
            (None, "/1.0/auth/setup/hunter2/more", false, "/1.0/auth/setup/*/*"),
            (None, "/hunter2", false, "/*"),
            (None, "/1.0/me/", false, "/1.0/me/"),
            (None, "/1.0/me/{user}", true, "/1.0/me/*"),
        ] {
            assert_eq!(path(of, given, plain), kept, "{given}");
        }
        let given = format!("/1.0/cloud/project/hunter2/dataProcessing/jobs/{id}");
        let kept = format!("/1.0/cloud/project/{{serviceName}}/dataProcessing/jobs/{id}");
        assert_eq!(path(Some(job), &given, false), kept);
        assert_eq!(path(Some(route("/v2/iam/policy/{policyId}")), "/v2/iam/policy/7", false), "/v2/iam/policy/7");
        assert_eq!(query("from=now-2h&hunter2&password=hunter2&status=x", true), "from=now-2h&*&*&status=x");
        assert_eq!(query("from=hunter2&%66rom=hunter2", false), "from=*&*");
        assert_eq!(query("from=correct-horse&status=RUNNING&last=1000", true), "from=*&status=RUNNING&last=1000");
        assert_eq!(query("from=2026-11-25T08%3A00%3A00Z", true), "from=2026-11-25T08%3A00%3A00Z");
        assert!(
            path(None, &"/x".repeat(5_000), false).len() < 200 && query(&"from=1&".repeat(5_000), true).len() <= 1024
        );
    }

    #[test]
    fn a_call_that_found_nothing_is_not_plain() {
        for (status, plain) in
            [(200, true), (403, true), (409, true), (429, true), (500, true), (400, false), (404, false)]
        {
            assert_eq!((is_plain(true, status), is_plain(false, status)), (plain, false), "{status}");
        }
    }

    #[test]
    fn every_name_that_a_route_asks_a_query_for_is_known() {
        let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("sources");
        let mut found = 0;
        for file in sources {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
            for way in [".query(\"", "given(&call, \"", "flag(call, \"", "key_of_query(&call, \"", "time(call, \""] {
                for (name, _) in text.split(way).skip(1).filter_map(|rest| rest.split_once('"')) {
                    assert!(QUERY_NAMES.contains(&name), "{name} is not in QUERY_NAMES");
                    found += 1;
                }
            }
        }
        assert!(found > 15);
    }
}
