//! Lists keys in order, by prefix and delimiter, with a bounded number of index look-ups an entry.

use model::{BucketName, ProjectId};
use redb::ReadableTable;

use crate::{
    Error,
    index::ObjectKey,
    rows::{self, ObjectRow},
};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub prefix: String,
    /// Keys that go on beyond it are rolled up into one entry.
    pub delimiter: Option<String>,
    /// Only keys after this one; if it is a rolled-up prefix itself, only what is not in it.
    pub after: Option<String>,
    pub limit: usize,
}

/// An entry of a list.
#[derive(Debug, Clone)]
pub enum Entry {
    Object(String, Box<ObjectRow>),
    /// Keys rolled up.
    Prefix(String),
}

impl Entry {
    /// Its key, or its prefix.
    pub fn name(&self) -> &str {
        match self {
            Entry::Object(key, _) => key,
            Entry::Prefix(prefix) => prefix,
        }
    }
}

/// Lists; whether there is more.
pub fn list(
    table: &impl ReadableTable<ObjectKey, &'static [u8]>,
    project: &ProjectId,
    bucket: &BucketName,
    query: &Query,
) -> Result<(Vec<Entry>, bool), Error> {
    let mut entries = Vec::new();
    let mut from = start(query);
    loop {
        let Some(begin) = from.take() else { return Ok((entries, false)) };
        for found in table.range((project.as_str(), bucket.as_str(), begin.as_slice())..)? {
            let (key, row) = found?;
            let (of, within, key) = key.value();
            if of != project.as_str() || within != bucket.as_str() || !key.starts_with(query.prefix.as_bytes()) {
                return Ok((entries, false));
            }
            let key = std::str::from_utf8(key).map_err(|_| Error::Damaged { what: "a key".to_owned() })?;
            if entries.len() >= query.limit {
                return Ok((entries, true));
            }
            match rolled_up(key, query) {
                Some(prefix) => {
                    from = successor(prefix);
                    entries.push(Entry::Prefix(prefix.to_owned()));
                    break;
                }
                None => {
                    let row = rows::decode("an object", row.value())?;
                    entries.push(Entry::Object(key.to_owned(), Box::new(row)));
                }
            }
        }
        if from.is_none() {
            return Ok((entries, false));
        }
    }
}

/// The prefix that a key is rolled up into, if it is.
fn rolled_up<'k>(key: &'k str, query: &Query) -> Option<&'k str> {
    let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.get(query.prefix.len()..)?;
    rest.find(delimiter).map(|at| &key[..query.prefix.len() + at + delimiter.len()])
}

/// The first key that can be in the list; `None` if none can.
fn start(query: &Query) -> Option<Vec<u8>> {
    let prefix = query.prefix.as_bytes();
    let Some(after) = query.after.as_deref().filter(|after| after.as_bytes() >= prefix) else {
        return Some(prefix.to_vec());
    };
    if after.starts_with(&query.prefix) && rolled_up(after, query) == Some(after) {
        return successor(after);
    }
    // Nothing lies between a key and the same with a zero byte behind it.
    let mut next = after.as_bytes().to_vec();
    next.push(0);
    Some(next)
}

/// The least bytes above all that begin with `prefix`. UTF-8 has no byte 0xFF, so the last byte can be counted up.
fn successor(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    let last = bytes.last_mut()?;
    *last += 1;
    Some(bytes)
}
