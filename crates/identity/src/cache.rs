//! Grants and address rules in memory, so that a call costs no query. What this process changes is seen at once, what another one changes
//! after [`OLDEST`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Values by name.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    entries: HashMap<String, Entry<T>>,
    /// Counts changes: what was read before one is not kept after it.
    changes: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: Arc<T>,
    read: Instant,
    /// Somebody is reading it again.
    renewing: bool,
}

/// What the cache knows of a name.
pub(crate) enum Known<T> {
    /// This.
    Fresh(Arc<T>),
    /// Nothing that may be used: read it, then say [`Cache::keep`] with this number.
    Unknown(u64),
}

impl<T> Default for Cache<T> {
    fn default() -> Cache<T> {
        Cache { inner: Mutex::new(Inner { entries: HashMap::new(), changes: 0 }) }
    }
}

impl<T> Cache<T> {
    /// What is known of `name`. Of many that ask for the same, one is sent to read it again before it is too old, so
    /// that the others need not wait.
    pub(crate) fn find(&self, name: &str, now: Instant) -> Known<T> {
        let mut inner = self.lock();
        let changes = inner.changes;
        let Some(entry) = inner.entries.get_mut(name) else { return Known::Unknown(changes) };
        let age = now.saturating_duration_since(entry.read);
        if age >= OLDEST || (age >= RENEWED && !entry.renewing) {
            entry.renewing = true;
            return Known::Unknown(changes);
        }
        Known::Fresh(Arc::clone(&entry.value))
    }

    /// Keeps what was read (begun at `read`, with the number that [`Cache::find`] gave), or forgets a name that is
    /// gone.
    pub(crate) fn keep(&self, name: &str, value: Option<&Arc<T>>, read: Instant, changes: u64) {
        let mut inner = self.lock();
        if inner.changes != changes {
            return;
        }
        let Some(value) = value else {
            inner.entries.remove(name);
            return;
        };
        if inner.entries.len() >= MOST && !inner.entries.contains_key(name) {
            inner.entries.retain(|_, entry| read.saturating_duration_since(entry.read) < OLDEST);
            if inner.entries.len() >= MOST {
                inner.entries.clear();
            }
        }
        inner.entries.insert(name.to_owned(), Entry { value: Arc::clone(value), read, renewing: false });
    }

    /// Forgets all, because something changed.
    pub(crate) fn changed(&self) {
        let mut inner = self.lock();
        inner.changes = inner.changes.wrapping_add(1);
        inner.entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How old a value may be: so late is seen what another process changed.
pub(crate) const OLDEST: Duration = Duration::from_secs(1);
const RENEWED: Duration = Duration::from_millis(500);
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Arc<u8> {
        Arc::new(1)
    }

    /// The number to keep by, if nothing is known.
    fn unknown(cache: &Cache<u8>, name: &str, now: Instant) -> Option<u64> {
        match cache.find(name, now) {
            Known::Fresh(_) => None,
            Known::Unknown(changes) => Some(changes),
        }
    }

    #[test]
    fn a_grant_is_known_for_a_second_and_one_caller_renews_it_before() {
        let (cache, begun) = (Cache::default(), Instant::now());
        let changes = unknown(&cache, "a", begun).expect("not yet known");
        cache.keep("a", Some(&grant()), begun, changes);
        assert!(unknown(&cache, "a", begun + RENEWED - Duration::from_millis(1)).is_none());
        assert!(unknown(&cache, "a", begun + RENEWED).is_some(), "the first is sent to read it again");
        assert!(unknown(&cache, "a", begun + RENEWED).is_none(), "the next need not wait");
        assert!(unknown(&cache, "a", begun + OLDEST).is_some(), "nobody uses an old one");
        cache.keep("a", None, begun, changes);
        assert!(unknown(&cache, "a", begun).is_some(), "what is gone is forgotten");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (cache, now) = (Cache::default(), Instant::now());
        let changes = unknown(&cache, "a", now).expect("not yet known");
        cache.changed();
        cache.keep("a", Some(&grant()), now, changes);
        let changes = unknown(&cache, "a", now).expect("not kept");
        cache.keep("a", Some(&grant()), now, changes);
        assert!(unknown(&cache, "a", now).is_none());
        cache.changed();
        assert!(unknown(&cache, "a", now).is_some());
    }

    #[test]
    fn its_memory_is_bounded() {
        let (cache, now) = (Cache::default(), Instant::now());
        for number in 0..2 * MOST + 1 {
            let name = number.to_string();
            let changes = unknown(&cache, &name, now).expect("not yet known");
            cache.keep(&name, Some(&grant()), now, changes);
            assert!(cache.lock().entries.len() <= MOST);
        }
    }
}
