//! Lines of a job's log.

use serde::{Deserialize, Serialize};

use crate::NodeName;

/// The id of a log line: Unix nanoseconds, strictly increasing within a job; ahead of the time where a second has very
/// many lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub u64);

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// The process's standard output.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// Casemate itself, about the job.
    Platform,
}

/// One line, without its line feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its id, which is also its time.
    pub id: LogId,
    /// The node that wrote it.
    pub node: NodeName,
    /// Which of its streams.
    pub stream: LogStream,
    /// The text. Bytes that are not UTF-8 are replaced by U+FFFD in the live view only.
    pub content: String,
}
