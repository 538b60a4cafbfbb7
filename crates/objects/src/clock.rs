//! What time it is: the system's clock, or a test's.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;

/// A source of time. It may go back; [`crate::index::Writing::now`] does not.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// One that stands at `microseconds` of Unix time, wherever that is moved.
    #[cfg(test)]
    pub fn at(microseconds: Arc<AtomicU64>) -> Clock {
        Clock(Some(microseconds))
    }

    /// Microseconds of Unix time.
    pub fn microseconds(&self) -> u64 {
        match &self.0 {
            None => u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0),
            Some(time) => time.load(Ordering::SeqCst),
        }
    }
}

/// A time of the store's clock as rows have it, in milliseconds of Unix time.
pub fn milliseconds(microseconds: u64) -> i64 {
    i64::try_from(microseconds / 1000).unwrap_or(i64::MAX)
}
