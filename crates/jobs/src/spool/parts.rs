//! How the log of a node is cut into the objects that it is uploaded as. Only what was written decides, so that whoever
//! reads the spool later comes to the same parts as its writer did.

use std::collections::HashMap;

use model::{LogId, NodeName};

/// A stretch of one node's log that is uploaded as one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whose.
    pub node: NodeName,
    /// Its first line.
    pub first: LogId,
    /// Its last line.
    pub last: LogId,
    /// Its length when put together.
    pub bytes: u64,
}

/// The parts that are not whole yet, one a node.
#[derive(Debug, Default)]
pub struct Parts {
    open: HashMap<NodeName, Part>,
}

impl Parts {
    /// Adds what was written to its node's part; gives the one before where that would get too long.
    pub fn add(&mut self, new: Part) -> Option<Part> {
        match self.open.get_mut(&new.node) {
            Some(part) if part.bytes + new.bytes <= LONGEST => {
                part.last = new.last;
                part.bytes += new.bytes;
                None
            }
            _ => self.open.insert(new.node.clone(), new),
        }
    }

    /// What is left, when no more comes.
    pub fn rest(&mut self) -> Vec<Part> {
        self.open.drain().map(|(_, part)| part).collect()
    }
}

/// Logs are uploaded in objects of this length (the old service's).
const LONGEST: u64 = 100 * 1024 * 1024;
