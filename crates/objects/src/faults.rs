//! Faults that the tests make happen, each at a file operation of the store. Not compiled in without the feature
//! `failpoints` of the crate `fail`.

use std::io;

/// The file operations that can be made to fail, in the tests alone.
#[cfg(test)]
pub const FILE_OPERATIONS: &[&str] = &[
    CREATE_SEGMENT,
    WRITE_LOG,
    SHORT_WRITE,
    SYNC_LOG,
    SYNC_DIRECTORY,
    CREATE_LARGE,
    WRITE_LARGE,
    SYNC_LARGE,
    CHECKPOINT,
];

pub const CREATE_SEGMENT: &str = "objects.io.segment.create";
pub const WRITE_LOG: &str = "objects.io.log.write";
pub const SHORT_WRITE: &str = "objects.io.log.short";
pub const SYNC_LOG: &str = "objects.io.log.sync";
pub const SYNC_DIRECTORY: &str = "objects.io.directory.sync";
pub const CREATE_LARGE: &str = "objects.io.large.create";
pub const WRITE_LARGE: &str = "objects.io.large.write";
pub const SYNC_LARGE: &str = "objects.io.large.sync";
pub const CHECKPOINT: &str = "objects.io.checkpoint";

/// The error that a test wants of an operation: `full` for no room, else that of a bad disk.
pub fn fault(operation: &str) -> io::Result<()> {
    fail::fail_point!(operation, |kind: Option<String>| Err(match kind.as_deref() {
        Some("full") => io::Error::from_raw_os_error(nix::libc::ENOSPC),
        _ => io::Error::from_raw_os_error(nix::libc::EIO),
    }));
    let _ = operation;
    Ok(())
}
