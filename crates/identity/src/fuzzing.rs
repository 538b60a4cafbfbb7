//! What the fuzz targets call: parsers of this room that meet texts which nobody has vouched for.

use jiff::Timestamp;

use crate::{AccessRule, Method, SignedRequest, signature};

/// A request as it is checked before it is believed: no signature but the right one is taken, and that one is.
pub fn signed(request: &SignedRequest<'_>, now: Timestamp) {
    let (consumer, timestamp) = (request.consumer.unwrap_or_default(), request.timestamp.unwrap_or_default());
    let near = signature::within_window(timestamp, now);
    assert!(!near || timestamp.len() <= 12, "{timestamp}");
    let given = request.signature.unwrap_or_default();
    let taken = signature::verify(request, SECRET, consumer, timestamp, given);
    let right = |url: &String| signature::sign(SECRET, consumer, request.method, url, request.body, timestamp);
    let right: Vec<String> = request.urls.iter().map(right).collect();
    assert_eq!(taken, right.iter().any(|right| right == given));
    for signature in &right {
        assert!(signature::verify(request, SECRET, consumer, timestamp, signature));
    }
}

/// An access rule, and a path that is called: a rule without a wildcard grants its own path alone, and what a rule covers
/// is granted by it.
pub fn rule(pattern: &str, path: &str) {
    let Ok(rule) = AccessRule::parse("GET", pattern) else { return };
    assert!(!rule.grants(Method::Put, path));
    if !rule.path.contains('*') {
        assert_eq!(rule.grants(Method::Get, path), rule.path == path);
    }
    assert!(rule.covers(&rule));
    assert!(AccessRule::everything().iter().any(|all| all.covers(&rule)));
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
