//! Writes the log of an attempt.

/// The one writer of an attempt's log.
#[derive(Debug)]
pub struct Writer {}
