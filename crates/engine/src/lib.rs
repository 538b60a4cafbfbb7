//! Engines: what there is and for how long, how one is installed, how a job is configured for it, and the pods API that
//! Spark's Kubernetes backend speaks, as a protocol without sockets; what a job's own Python environment is made from.
//! Starts nothing but what an install or an environment needs.
//! Start at [`Engines::open`], [`install::install`], [`spark::driver`], [`pods::Pods`] and [`environment::Request`].

mod engines;
pub mod environment;
pub mod install;
mod java;
pub mod pods;
pub mod spark;

pub use engines::{Engines, Installed, Offer};
pub use java::find_home as find_java_home;

use std::path::{Path, PathBuf};

/// What can go wrong with engines.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be used.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// A manifest is not one of ours.
    #[error("{} is not an engine's manifest: {why}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The version is not installed.
    #[error("Spark {0} is not installed")]
    NotInstalled(String),
    /// No release of the catalogue is meant by this.
    #[error("there is no engine '{given}': {offered}")]
    Unknown {
        /// What was asked for.
        given: String,
        /// What there is.
        offered: String,
    },
    /// A program that the install drives is not there or failed.
    #[error("{doing} failed: {why}")]
    Tool {
        /// What was being done, with the program's name.
        doing: String,
        /// The last words of the program.
        why: String,
    },
    /// Installed files differ from their manifest.
    #[error("{} of the engine's files differ from its manifest, first: {}", .0.len(), .0.first().map_or("", String::as_str))]
    Damaged(Vec<String>),
    /// A Spark properties file cannot be read.
    #[error("the properties file is not valid: {0}")]
    Properties(String),
    /// The job asks for something that this engine cannot do yet.
    #[error("{0}")]
    Unsupported(String),
}

pub(crate) fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::File { doing, path, cause }
}
