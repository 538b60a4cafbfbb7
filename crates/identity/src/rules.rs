//! Access rules of a consumer credential: a method and a pattern of paths.

use serde::{Deserialize, Serialize};

/// The methods of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Makes or acts.
    Post,
    /// Changes.
    Put,
    /// Removes.
    Delete,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 4] = [Method::Get, Method::Post, Method::Put, Method::Delete];

    /// The word of HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }

    /// The method of that word.
    pub fn parse(word: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.as_str() == word)
    }
}

/// One thing that a credential may call. `*` in the path stands for any text, `/` included, so `/me/*` is all
/// below `/me` but not `/me` itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// The method.
    pub method: Method,
    /// The pattern of paths, after the version (`/1.0` or `/v1`).
    pub path: String,
}

/// Why a rule is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// The method is unknown.
    #[error("'{0}' is not one of GET, POST, PUT, DELETE")]
    Method(String),
    /// The path is not a pattern of paths.
    #[error("'{0}' is not a path pattern: it begins with '/', has at most 512 characters and 16 '*', no space")]
    Path(String),
}

impl AccessRule {
    /// Parses a rule as a client writes it.
    pub fn parse(method: &str, path: &str) -> Result<AccessRule, InvalidRule> {
        let cut = |text: &str| text.chars().take(80).collect::<String>();
        let parsed = Method::parse(method).ok_or_else(|| InvalidRule::Method(cut(method)))?;
        let stripped = strip_version(path);
        let good = stripped.starts_with('/')
            && stripped.len() <= LONGEST
            && stripped.bytes().filter(|byte| *byte == b'*').count() <= MOST_STARS
            && !stripped.chars().any(|c| c.is_control() || c.is_whitespace());
        if !good {
            return Err(InvalidRule::Path(cut(path)));
        }
        Ok(AccessRule { method: parsed, path: stripped.to_owned() })
    }

    /// Rules that grant everything.
    pub fn everything() -> Vec<AccessRule> {
        Method::ALL.into_iter().map(|method| AccessRule { method, path: "/*".to_owned() }).collect()
    }

    /// Whether it grants this call; `path` is the one after the version, as it came on the wire.
    pub fn grants(&self, method: Method, path: &str) -> bool {
        self.method == method && matches(self.path.as_bytes(), path.as_bytes())
    }

    /// Whether it grants all that `other` grants. A `*` of `other` can only be met by a `*` of this one, which then
    /// meets whatever stands for it.
    pub fn covers(&self, other: &AccessRule) -> bool {
        self.method == other.method && matches(self.path.as_bytes(), other.path.as_bytes())
    }
}

/// Takes `/1.0` or `/v1` off a path.
pub(crate) fn strip_version(path: &str) -> &str {
    ["/1.0", "/v1"]
        .iter()
        .find_map(|version| path.strip_prefix(version).filter(|rest| rest.starts_with('/')))
        .unwrap_or(path)
}

/// Greedy with one point of return: time is at most the product of both lengths, whatever the pattern.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), back) {
            (Some(b'*'), _) => {
                back = Some((p + 1, t));
                p += 1;
            }
            (Some(byte), _) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            (_, Some((star, met))) => {
                back = Some((star, met + 1));
                p = star;
                t = met + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

const LONGEST: usize = 512;
const MOST_STARS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(path: &str) -> AccessRule {
        AccessRule::parse("GET", path).expect("a rule")
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, path, granted) in [
            ("/*", "/me", true),
            ("/*", "/", true),
            ("/me", "/me", true),
            ("/me", "/me/x", false),
            ("/me/*", "/me", false),
            ("/me/*", "/me/x/y", true),
            ("/me*", "/me", true),
            ("/cloud/project/*/dataProcessing/*", "/cloud/project/a/dataProcessing/jobs", true),
            ("/cloud/project/*/dataProcessing/*", "/cloud/project/a/storage", false),
            ("/cloud/project/a/*", "/cloud/project/ab/x", false),
            ("/a*b*c", "/aXbYbZc", true),
            ("/a*b*c", "/aXbYbZ", false),
            ("/1.0/me", "/me", true),
            ("/v1/me", "/me", true),
        ] {
            assert_eq!(rule(pattern).grants(Method::Get, path), granted, "{pattern} {path}");
        }
        assert!(!rule("/*").grants(Method::Post, "/me"));
    }

    #[test]
    fn what_is_not_a_rule_is_refused() {
        let long = format!("/{}", "a".repeat(600));
        for (method, path) in
            [("get", "/me"), ("PATCH", "/me"), ("GET", "me"), ("GET", ""), ("GET", "/a b"), ("GET", &long)]
        {
            assert!(AccessRule::parse(method, path).is_err(), "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_rule_that_covers_another_grants_all_that_the_other_grants(
            wide in "/[ab*]{0,6}", narrow in "/[ab*]{0,6}", path in "/[ab]{0,8}",
        ) {
            let (wide, narrow) = (rule(&wide), rule(&narrow));
            if wide.covers(&narrow) && narrow.grants(Method::Get, &path) {
                prop_assert!(wide.grants(Method::Get, &path));
            }
        }

        #[test]
        fn no_pattern_takes_long(pattern in "/[a*]{0,16}", path in "/a{0,300}b") {
            rule(&pattern).grants(Method::Get, &path);
        }
    }
}
