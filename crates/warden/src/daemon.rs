//! The daemon (in progress).
use crate::{Config, Error};

/// Answers callers until `stop` resolves. Sandboxes live on.
pub async fn run(_config: Config, _stop: impl Future<Output = ()>) -> Result<(), Error> {
    todo!()
}

/// Destroys all sandboxes of this run directory; needs no daemon.
pub fn destroy_all(_config: &Config) -> Result<(), Error> {
    todo!()
}
