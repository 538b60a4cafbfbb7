//! The parent of one container (in progress).
use std::{ffi::OsString, process::ExitCode};

/// Runs `casemate monitor`; `args` are those after the subcommand.
pub fn monitor_main(_args: impl IntoIterator<Item = OsString>) -> ExitCode {
    todo!()
}
