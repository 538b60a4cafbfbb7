//! Conditions and ranges of a read, by RFC 9110.

use std::ops::Range;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;

use super::{
    answer::{Fault, set},
    header_text,
};
use crate::rows::ObjectRow;

/// Says why an object is not to be sent, if the conditions of the request are so. In the order of section 13.2.2: a tag
/// that is compared makes the time of its kind not be.
pub fn check(headers: &HeaderMap, row: &ObjectRow) -> Result<(), Fault> {
    let failed = || Fault::new(StatusCode::PRECONDITION_FAILED, "A precondition for this request was not met.");
    let modified = row.modified.div_euclid(1000);
    let date = |name| header_text(headers, name).and_then(time);
    match (header_text(headers, "if-match"), date("if-unmodified-since")) {
        (Some(tags), _) if !names(tags, &row.etag) => return Err(failed()),
        (None, Some(since)) if modified > since => return Err(failed()),
        _ => {}
    }
    let same = match (header_text(headers, "if-none-match"), date("if-modified-since")) {
        (Some(tags), _) => names(tags, &row.etag),
        (None, Some(since)) => modified <= since,
        (None, None) => false,
    };
    if !same {
        return Ok(());
    }
    let mut fault = Fault::new(StatusCode::NOT_MODIFIED, "");
    set(&mut fault.headers, "etag", &row.etag);
    set(&mut fault.headers, "last-modified", &http_date(row.modified));
    Err(fault)
}

/// Whether one of the entity tags is this one; `*` is any.
fn names(tags: &str, etag: &str) -> bool {
    tags.split(',')
        .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'))
        .any(|tag| tag == "*" || tag == etag)
}

/// The bytes that are asked for, `None` if all. More than one range is answered with all, which RFC 9110 allows.
pub fn range(headers: &HeaderMap, row: &ObjectRow) -> Result<Option<Range<u64>>, Fault> {
    let Some(ranges) = header_text(headers, "range").and_then(|value| value.trim().strip_prefix("bytes=")) else {
        return Ok(None);
    };
    if header_text(headers, "if-range")
        .is_some_and(|tag| tag.trim_matches('"') != row.etag && tag != http_date(row.modified))
    {
        return Ok(None);
    }
    let Some((first, last)) = ranges.split_once('-').filter(|_| !ranges.contains(',')) else { return Ok(None) };
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(digits.parse::<u64>().unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    let range = match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if first <= last => first..last.saturating_add(1).min(row.size),
        (Some(Some(first)), Some(None)) => first..row.size,
        (Some(None), Some(Some(count))) => row.size.saturating_sub(count)..row.size,
        _ => return Ok(None),
    };
    if range.is_empty() {
        let words = "The Range requested is not available.";
        let all = format!("bytes */{}", row.size);
        return Err(Fault::new(StatusCode::RANGE_NOT_SATISFIABLE, words).with(header::CONTENT_RANGE, &all));
    }
    Ok(Some(range))
}

/// A time as HTTP writes it.
pub fn http_date(milliseconds: i64) -> String {
    let at = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Seconds of Unix time of a date of HTTP; `None` if it is none, which is then as if it were not there.
fn time(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok().map(Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> ObjectRow {
        // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110, and a bit.
        ObjectRow { size: 10, etag: "abc".to_owned(), modified: 784_111_777_400, ..ObjectRow::default() }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn conditions_are_those_of_http() {
        let (same, later, earlier) =
            ("Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:37 GMT", "Sat, 05 Nov 1994 08:49:37 GMT");
        for (pairs, status) in [
            (&[][..], None),
            (&[("if-match", "abc")][..], None),
            (&[("if-match", "\"x\", \"abc\"")][..], None),
            (&[("if-match", "*")][..], None),
            (&[("if-match", "\"x\"")][..], Some(412)),
            (&[("if-none-match", "\"abc\"")][..], Some(304)),
            (&[("if-none-match", "x")][..], None),
            (&[("if-modified-since", same)][..], Some(304)),
            (&[("if-modified-since", earlier)][..], None),
            (&[("if-unmodified-since", earlier)][..], Some(412)),
            (&[("if-unmodified-since", same)][..], None),
            (&[("if-match", "abc"), ("if-unmodified-since", earlier)][..], None),
            (&[("if-none-match", "x"), ("if-modified-since", later)][..], None),
            (&[("if-modified-since", "yesterday")][..], None),
        ] {
            let fault = check(&headers(pairs), &row()).err().map(|fault| fault.status.as_u16());
            assert_eq!(fault, status, "{pairs:?}");
        }
    }

    #[test]
    fn a_range_is_in_the_object_or_refused_or_not_one() {
        for (value, expected) in [
            ("bytes=0-0", Some(0..1)),
            ("bytes=2-99", Some(2..10)),
            ("bytes=9-", Some(9..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-99", Some(0..10)),
            ("bytes=2-18446744073709551616", Some(2..10)),
            ("bytes=3-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-b", None),
            ("bytes=-", None),
            ("lines=0-1", None),
        ] {
            let found = range(&headers(&[("range", value)]), &row()).map_err(|fault| fault.status);
            assert_eq!(found, Ok(expected), "{value}");
        }
        for value in ["bytes=10-", "bytes=10-11", "bytes=-0"] {
            let found = range(&headers(&[("range", value)]), &row()).map_err(|fault| fault.status);
            assert_eq!(found, Err(StatusCode::RANGE_NOT_SATISFIABLE), "{value}");
        }
        assert_eq!(range(&headers(&[("range", "bytes=0-0"), ("if-range", "\"x\"")]), &row()).ok(), Some(None));
    }

    #[test]
    fn a_time_is_written_as_http_has_it() {
        assert_eq!(http_date(784_111_777_400), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(time("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    }
}
