//! The spool of an attempt: its log in sealed segments and its state, in one directory that the shim writes and
//! `serve` reads, while the shim lives and after.
//!
//! Everything here is blocking file work: call it from a blocking task. Start at [`Writer::create`],
//! [`Reader::open`], [`write_state`], [`read_state`], [`write_used`] and [`read_used`].

mod frame;
mod parts;
mod reader;
mod state;
mod sync;
mod used;
mod writer;

pub use parts::{Part, Parts};
pub use reader::{Query, Raw, Reader};
pub use state::{State, read_state, write_state};
pub use used::{LONGEST as LONGEST_USED, read_used, write_used};
pub use writer::{Writer, Written};

/// When the shim last wrote what it has come to or what its nodes use: so long its attempt lived at least. `None` where it
/// never did.
pub fn last_sign(dir: &std::path::Path) -> Option<jiff::Timestamp> {
    let written = |name: &str| dir.join(name).symlink_metadata().ok()?.modified().ok();
    [state::NAME, used::NAME].into_iter().filter_map(written).max().and_then(|at| at.try_into().ok())
}

/// Why the spool could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error("cannot {doing} {file} of the spool: {cause}")]
    File {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// The file's name.
        file: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// A file is not what it should be: wrong key, or damaged.
    #[error("{file} of the spool is damaged, or the key is not its own: {why}")]
    Damaged {
        /// The file's name.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Bytes could not be sealed.
    #[error("cannot seal the log: {0}")]
    Seal(#[from] crypto::Error),
}
