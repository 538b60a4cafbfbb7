//! Files that nothing refers to any more, kept until nobody can still be reading them.
//!
//! A reader pins the present generation before it looks into the index. What a change frees goes into the generation
//! that was present when the change was committed, and a new one begins. A generation holds the one after it, so it
//! ends when neither a reader of it nor of an older one is left; its files are removed then. What a crash leaves is
//! found when the store is opened.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::segments::OpenFiles;

/// The present generation.
#[derive(Debug, Default)]
pub struct Garbage {
    present: Mutex<Arc<Generation>>,
}

/// Keeps what could be found in the index when it was taken.
pub type Pin = Arc<Generation>;

/// Files that were freed while it was present.
#[derive(Debug, Default)]
pub struct Generation {
    later: Mutex<Later>,
}

#[derive(Debug, Default)]
struct Later {
    files: Vec<Dead>,
    next: Option<Arc<Generation>>,
}

/// A file that the index does not name any more.
#[derive(Debug)]
pub struct Dead {
    path: PathBuf,
    /// Where it may be open for reading.
    open: Option<(Arc<OpenFiles>, u64)>,
}

impl Dead {
    /// One that nobody keeps open.
    pub fn file(path: PathBuf) -> Dead {
        Dead { path, open: None }
    }

    /// One of a segment.
    pub fn segment(path: PathBuf, id: u64, open: Arc<OpenFiles>) -> Dead {
        Dead { path, open: Some((open, id)) }
    }

    fn remove(self) {
        if let Err(cause) = fs::remove_file(&self.path)
            && cause.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.path.display(), %cause, "a file that nothing refers to was not removed");
        }
        if let Some((open, id)) = self.open {
            open.forget(id);
            fail::fail_point!("objects.segment.removed");
        }
    }
}

impl Garbage {
    /// Pins the present: files that the index names now stay until the pin is dropped.
    pub fn pin(&self) -> Pin {
        Arc::clone(&self.present.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes files that the index named until now and does no more, once no reader can want them.
    pub fn discard(&self, files: Vec<Dead>) {
        if files.is_empty() {
            return;
        }
        let next = Arc::new(Generation::default());
        let past = {
            let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *present, Arc::clone(&next))
        };
        *past.later.lock().unwrap_or_else(PoisonError::into_inner) = Later { files, next: Some(next) };
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // A loop, not recursion: one slow reader may have kept thousands of generations.
        let mut later = std::mem::take(self.later.get_mut().unwrap_or_else(PoisonError::into_inner));
        loop {
            later.files.into_iter().for_each(Dead::remove);
            let Some(mut next) = later.next.and_then(Arc::into_inner) else { return };
            later = std::mem::take(next.later.get_mut().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_while_a_reader_of_its_time_is_left_and_goes_after() {
        let dir = tempfile::tempdir().expect("directory");
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, name).expect("written");
            path
        };
        let garbage = Garbage::default();
        let (first, second) = (file("first"), file("second"));
        let reader = garbage.pin();
        garbage.discard(vec![Dead::file(first.clone())]);
        let later = garbage.pin();
        garbage.discard(vec![Dead::file(second.clone())]);
        drop(later);
        assert!(first.exists() && second.exists(), "the first reader may want both");
        drop(reader);
        assert!(!first.exists() && !second.exists());
        let third = file("third");
        garbage.discard(vec![Dead::file(third.clone())]);
        assert!(!third.exists(), "nobody reads");
    }

    #[test]
    fn one_slow_reader_of_very_many_changes_does_no_harm() {
        let garbage = Garbage::default();
        let reader = garbage.pin();
        for _ in 0..200_000 {
            garbage.discard(vec![Dead::file(PathBuf::from("/nonexistent/file"))]);
        }
        drop(reader);
    }
}
