//! The log of a job, live and after its end, in pages.

use jiff::{SignedDuration, Timestamp};
use jobs::{LogQuery, Logs};
use model::{LogId, LogLine, NodeName};
use serde_json::{Value, json};

use crate::{
    ApiError,
    jobs_routes::job_id,
    request::{Call, Reply},
};

/// Lines of the log, oldest first. `from` is a time (RFC 3339, or `now-2h`); `after` and `node` are ours: only lines
/// with a greater id than `after`, and only those of one node or of `all` (the driver's where none is named).
///
/// An answer is bounded; a reader that goes on `after` the last id loses no line. `last` asks for the newest lines
/// instead, at most 1000, which are found without reading those before.
pub(crate) async fn read(call: Call) -> Result<Reply, ApiError> {
    let id = job_id(&call)?;
    let project = &call.project()?.id;
    let given = call.query("from").filter(|text| !text.is_empty());
    let from = given.map(|text| parse_from("from", text, call.now)).transpose()?;
    let after = call.query("after").filter(|text| !text.is_empty()).map(parse_after).transpose()?;
    let node = match call.query("node").filter(|text| !text.is_empty()) {
        None => Some(NodeName::driver()),
        Some("all") => None,
        Some(text) => Some(text.parse().map_err(|_| ApiError::bad_field("node", "'driver', 'executor-N' or 'all'"))?),
    };
    let last = call.query("last").filter(|text| !text.is_empty()).map(parse_last).transpose()?;
    if last.is_some() && (from.is_some() || after.is_some()) {
        return Err(ApiError::bad_field("last", "given alone, without from and after"));
    }
    let (max_lines, newest) = (last.unwrap_or(MOST_LINES), last.is_some());
    let mut query = LogQuery { from, after, node, max_lines, max_bytes: MOST_BYTES, newest };
    let mut logs = call.api.jobs.logs(project, id, &query).await?;
    if let (Some(from), None) = (from, after) {
        // The old client asks again from the whole second of the last line that it saw. An answer that ended within
        // that second would be the same for ever, so such an answer goes on past it.
        let next_second = LogId((from.0 / SECOND + 1).saturating_mul(SECOND));
        let mut size = bytes(&logs.lines);
        while let Some(last) =
            logs.lines.last().map(|line| line.id).filter(|id| *id < next_second && size < MOST_OF_A_SECOND)
        {
            query.after = Some(last);
            let more = call.api.jobs.logs(project, id, &query).await?;
            if more.lines.is_empty() {
                break;
            }
            size += bytes(&more.lines);
            (logs.address, logs.ended) = (more.address, more.ended);
            logs.lines.extend(more.lines);
        }
        if given.is_some_and(|text| without_zone(text).is_some()) && is_unprinted(&logs, next_second, call.now) {
            logs.address = None;
        }
    }
    let of_all = query.node.is_none();
    Reply::json(&json!({
        "logs": logs.lines.iter().map(|line| describe(line, of_all)).collect::<Vec<_>>(),
        "logsAddress": logs.address,
        "startDate": logs.started,
    }))
}

/// Whether `ovh-spark-submit` may not have printed all of these lines. It prints nothing of an answer that has the
/// address, and asks again where there is none: from the second of the last line, so that the end of it is seen. Lines
/// of that very second are new to it where they came after its last look at the running job.
fn is_unprinted(logs: &Logs, next_second: LogId, now: Timestamp) -> bool {
    let Some(last) = logs.lines.last() else { return false };
    last.id >= next_second || logs.ended.is_some_and(|ended| now.duration_since(ended) < LAST_LOOK)
}

fn describe(line: &LogLine, with_node: bool) -> Value {
    let timestamp = Timestamp::from_nanosecond(i128::from(line.id.0)).unwrap_or(Timestamp::MAX);
    match with_node {
        false => json!({ "id": line.id, "timestamp": timestamp, "content": line.content }),
        true => json!({ "id": line.id, "timestamp": timestamp, "content": line.content, "node": line.node }),
    }
}

fn bytes(lines: &[LogLine]) -> usize {
    lines.iter().map(|line| line.content.len() + 64).sum()
}

fn parse_after(text: &str) -> Result<LogId, ApiError> {
    text.parse().map(LogId).map_err(|_| ApiError::bad_field("after", "the id of a line, a whole number"))
}

fn parse_last(text: &str) -> Result<usize, ApiError> {
    let number = text.parse().ok().filter(|number| (1..=MOST_NEWEST).contains(number));
    number.ok_or_else(|| ApiError::bad_field("last", format!("a whole number of lines from 1 to {MOST_NEWEST}")))
}

/// A time by RFC 3339, or `now`, or `now-` and a number with `s`, `m`, `h`, `d` or `w`.
pub(crate) fn parse_from(field: &str, text: &str, now: Timestamp) -> Result<LogId, ApiError> {
    let wrong = || ApiError::bad_field(field, "a time by RFC 3339 such as 2024-05-01T12:00:00Z, or one such as now-2h");
    let nanoseconds = match text.strip_prefix("now") {
        Some("") => now.as_nanosecond(),
        Some(rest) => {
            let rest = rest.strip_prefix('-').ok_or_else(wrong)?;
            let unit = rest.chars().last().ok_or_else(wrong)?;
            let seconds: i128 = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3_600,
                'd' => 86_400,
                'w' => 604_800,
                _ => return Err(wrong()),
            };
            let digits = &rest[..rest.len() - 1];
            let number: u32 =
                digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(wrong)?;
            now.as_nanosecond() - i128::from(number) * seconds * i128::from(SECOND)
        }
        None => {
            // An offset's '+' that was not encoded arrives as a space.
            let time = text.parse::<Timestamp>().or_else(|_| text.replace(' ', "+").parse::<Timestamp>());
            time.or_else(|_| without_zone(text).ok_or_else(wrong))?.as_nanosecond()
        }
    };
    Ok(LogId(u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX)))
}

/// `ovh-spark-submit` names no zone, and means UTC.
fn without_zone(text: &str) -> Option<Timestamp> {
    text.contains('T').then(|| format!("{text}Z").parse().ok()).flatten()
}

const SECOND: u64 = 1_000_000_000;
const MOST_LINES: usize = 5_000;
const MOST_NEWEST: usize = 1_000;
const MOST_BYTES: usize = 1024 * 1024;
/// More than the writer of the log gives the ids of one second, three bytes for each that is not UTF-8 included.
const MOST_OF_A_SECOND: usize = 32 * 1024 * 1024;
/// The old client looks at a running job every two seconds.
const LAST_LOOK: SignedDuration = SignedDuration::from_secs(5);

#[cfg(test)]
mod tests {
    use model::LogStream;

    use super::*;

    #[test]
    fn the_old_client_is_told_the_address_once_it_has_printed_all() {
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        let logs = |second: u64, ended: i64| {
            let line = LogLine {
                id: LogId(second * SECOND + 7),
                node: NodeName::driver(),
                stream: LogStream::Stdout,
                content: "line".into(),
            };
            let ended = Timestamp::from_second(ended).ok();
            Logs { lines: vec![line], address: None, started: now, ended }
        };
        let next_second = LogId(1_699_999_991 * SECOND);
        assert!(is_unprinted(&logs(1_699_999_991, 1_699_999_991), next_second, now), "more seconds than it asked from");
        assert!(is_unprinted(&logs(1_699_999_990, 1_699_999_999), next_second, now), "it ended a moment ago");
        let mut printed = logs(1_699_999_990, 1_699_999_991);
        assert!(!is_unprinted(&printed, next_second, now));
        printed.lines.clear();
        assert!(!is_unprinted(&printed, next_second, now), "an answer without lines ends the client");
        for (text, old) in [
            ("2023-11-14T22:13:20.000", true),
            ("2023-11-14T22:13:20Z", false),
            ("2023-11-14T23:13:20+01:00", false),
            ("2023-11-14T23:13:20 01:00", false),
            ("now-2h", false),
        ] {
            assert_eq!(without_zone(text).is_some(), old, "{text}");
        }
    }

    #[test]
    fn a_start_is_a_time_or_so_long_ago() {
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        for (text, seconds) in [
            ("now", 1_700_000_000),
            ("now-2h", 1_699_992_800),
            ("now-30s", 1_699_999_970),
            ("now-1w", 1_699_395_200),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000),
            ("2023-11-14T23:13:20 01:00", 1_700_000_000),
            ("2023-11-14T22:13:20.000", 1_700_000_000),
            ("1960-01-01T00:00:00Z", 0),
            ("now-4000000000s", 0),
        ] {
            assert_eq!(parse_from("from", text, now).map(|id| id.0), Ok(seconds * SECOND), "{text}");
        }
        for text in ["", "yesterday", "now-", "now-h", "now+2h", "now-2y", "now--2h", "now-+2h", "2023-11-14", "now-2é"]
        {
            assert!(parse_from("from", text, now).is_err(), "{text}");
        }
    }
}
