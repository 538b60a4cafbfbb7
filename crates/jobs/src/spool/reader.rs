//! Reads the log of an attempt, whether its writer lives or not.

use std::path::{Path, PathBuf};

use crypto::Key;
use model::{LogId, LogLine, NodeName};

use super::Error;

/// Which lines to read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Lines with this id or a later one.
    pub from: Option<LogId>,
    /// Lines with a later id than this one.
    pub after: Option<LogId>,
    /// Lines of this node only; lines of the platform count as the driver's.
    pub node: Option<NodeName>,
    /// At most so many lines.
    pub max_lines: usize,
    /// At most so many bytes of content; one line is given even if it is longer.
    pub max_bytes: usize,
}

/// The log of one attempt.
#[derive(Debug, Clone)]
pub struct Reader {
    dir: PathBuf,
    key: Key,
}

impl Reader {
    /// The log in `dir`, sealed with `key`. A directory that does not exist has an empty log.
    pub fn open(dir: &Path, key: &Key) -> Reader {
        Reader { dir: dir.to_owned(), key: key.clone() }
    }

    /// The lines that `query` asks for, by id. What is being written at this moment may not be there yet; a reader
    /// goes on with `after` set to the last id that it got.
    pub fn read(&self, query: &Query) -> Result<Vec<LogLine>, Error> {
        let _ = (&self.dir, &self.key, query);
        todo!()
    }
}
