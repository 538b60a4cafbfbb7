//! What this machine lacks (in progress).
use crate::Config;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is as it has to be.
    pub good: bool,
    /// Whether jobs cannot run without it.
    pub needed: bool,
    /// What was found.
    pub found: String,
    /// What to do about it, where it is not good.
    pub help: Option<String>,
}

/// Looks at everything that jobs need of the machine.
pub fn doctor(_config: &Config) -> Vec<Finding> {
    todo!()
}
