//! Brings the index to the end of the log, after a crash or after the index failed.

use std::path::Path;

use redb::Database;

use crate::{
    Error,
    clock::Clock,
    index::{self, Mark, Writing},
    log::{Position, Reader},
    logged::notes,
};

/// Where the log ends.
#[derive(Debug, Clone, Copy)]
pub struct Replayed {
    /// Which log.
    pub log: u128,
    /// Its end.
    pub end: Position,
}

/// Makes the changes of the log again that are not durable in the index: all, or those before `until`. The first batch
/// that is not whole was never answered, if it is the last: that others are behind it is [`Error::Damaged`].
pub fn replay(
    database: &Database,
    clock: &Clock,
    packed: &Path,
    mark: Mark,
    until: Option<Position>,
) -> Result<Replayed, Error> {
    let mut log = Reader::new(packed, mark.log, mark.position)?;
    let mut batches = 0_u64;
    loop {
        let transaction = index::begin(database)?;
        let mut bytes = 0;
        {
            let mut writing = Writing::new(&transaction, clock, None)?;
            while bytes < AT_ONCE && until.is_none_or(|until| log.position().sequence < until.sequence) {
                let Some(batch) = log.next()? else { break };
                for note in notes(batch.notes()) {
                    writing.restore(note?)?;
                }
                bytes += batch.notes().len().max(1);
                batches += 1;
            }
        }
        if bytes == 0 {
            transaction.abort()?;
            break;
        }
        transaction.commit()?;
        fail::fail_point!("objects.log.replayed");
    }
    if let Some(until) = until
        && log.position().sequence != until.sequence
    {
        // It was durable and answered, so that its loss is damage.
        return Err(Error::Damaged { what: format!("the log at batch {}", log.position().sequence) });
    }
    if until.is_none() {
        if log.goes_on()? {
            let Position { segment, offset, sequence } = log.position();
            let what = format!("the log at batch {sequence} (packed/{segment:016x} from byte {offset} on)");
            return Err(Error::Damaged { what });
        }
        log.sync()?;
    }
    if batches > 0 {
        tracing::info!(batches, "the index of objects was brought to the end of the log");
    }
    Ok(Replayed { log: mark.log, end: until.unwrap_or_else(|| log.position()) })
}

/// Bytes of notes in a transaction.
const AT_ONCE: usize = 8 << 20;
