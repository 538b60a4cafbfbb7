//! What the fuzz targets call: what of a call is parsed before anybody has vouched for it.

use axum::extract::ConnectInfo;
use http::Request;
use jiff::Timestamp;

use crate::{Config, gate, request::parse_query};

/// A call, from its first line to its signature; the rest of the bytes is its body.
pub fn call(config: &Config, bytes: &[u8]) {
    let head_ends = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(head_ends);
    let body = body.get(4..).unwrap_or_default();
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (method, uri) = first.trim().split_once(' ').unwrap_or(("GET", "/"));
    let mut builder = Request::builder().method(method).uri(uri);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        builder = builder.header(name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii());
    }
    let Ok(request) = builder.body(()) else { return };
    let (mut parts, ()) = request.into_parts();
    parts.extensions.insert(ConnectInfo(std::net::SocketAddr::from(([127, 0, 0, 1], 1))));
    let source_ip = gate::source_ip(config, &parts);
    let urls = gate::seen_urls(config, &parts);
    let base = gate::base_url(config, &parts);
    assert!(base.starts_with("http"), "a link is never what `Host` alone says: {base}");
    let path = gate::without_version(parts.uri.path()).to_owned();
    let _ = gate::bearer(&parts);
    let _ = parse_query(parts.uri.query().unwrap_or_default());
    let signed = gate::signed(&parts, &urls, body, source_ip);
    // The time that the call says, so that what lies behind the window is reached too.
    let said =
        signed.timestamp.and_then(|text| text.parse().ok()).and_then(|second| Timestamp::from_second(second).ok());
    identity::fuzzing::signed(&signed, said.unwrap_or(Timestamp::UNIX_EPOCH));
    identity::fuzzing::rule(signed.application.unwrap_or("/*"), &path);
}
