//! Makes what the writer wrote durable, at most once in a tenth of a second, on a thread of its own, so that the
//! writer goes on meanwhile.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::Error;

/// The thread and what it has to do. Dropping it makes all durable first.
pub struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    /// Files with bytes that are not durable, oldest first.
    dirty: Vec<Arc<File>>,
    /// How many bytes that are.
    bytes: usize,
    /// Whether a sync is under way; its files are no longer in `dirty`.
    busy: bool,
    /// Somebody waits for all of it: do not wait for the next tenth of a second.
    urgent: bool,
    /// The last sync that failed, until somebody is told.
    failed: Option<io::Error>,
    ending: bool,
}

impl Syncer {
    /// Starts the thread; new files of `dir` become durable with their first bytes.
    pub fn start(dir: &Path) -> Result<Syncer, Error> {
        let fault = |doing| move |cause| Error::File { doing, file: "the directory".into(), cause };
        let dir = File::open(dir).map_err(fault("open"))?;
        let shared = Arc::new(Shared { work: Mutex::default(), changed: Condvar::new() });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("log-sync".into())
            .stack_size(128 * 1024)
            .spawn(move || of_thread.run(&dir))
            .map_err(fault("start the sync of"))?;
        Ok(Syncer { shared, thread: Some(thread) })
    }

    /// Notes that `bytes` were written to `file`; waits while there is much that is not durable.
    pub fn written(&self, file: &Arc<File>, bytes: usize) {
        let mut work = self.shared.lock();
        while work.bytes > MOST_PENDING {
            work.urgent = true;
            self.shared.changed.notify_all();
            work = self.shared.wait(work);
        }
        if work.dirty.is_empty() {
            self.shared.changed.notify_all();
        }
        if !work.dirty.last().is_some_and(|last| Arc::ptr_eq(last, file)) {
            work.dirty.push(file.clone());
        }
        work.bytes += bytes;
    }

    /// Waits until all is durable.
    pub fn flush(&self) -> Result<(), Error> {
        let mut work = self.shared.lock();
        while work.busy || !work.dirty.is_empty() {
            work.urgent = true;
            self.shared.changed.notify_all();
            work = self.shared.wait(work);
        }
        match work.failed.take() {
            Some(cause) => Err(Error::File { doing: "sync", file: "the log".into(), cause }),
            None => Ok(()),
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, dir: &File) {
        // Its name is durable.
        let mut newest: Option<Arc<File>> = None;
        loop {
            let mut work = self.lock();
            while work.dirty.is_empty() {
                if work.ending {
                    return;
                }
                work = self.wait(work);
            }
            let files = std::mem::take(&mut work.dirty);
            work.bytes = 0;
            work.busy = true;
            work.urgent = false;
            drop(work);
            let begun = Instant::now();
            let mut outcome = Ok(());
            for file in &files {
                outcome = outcome.and(file.sync_data());
            }
            if !files.iter().all(|file| newest.as_ref().is_some_and(|known| Arc::ptr_eq(file, known))) {
                outcome = outcome.and(dir.sync_all());
            }
            newest = files.into_iter().next_back();
            let mut work = self.lock();
            work.busy = false;
            if let Err(cause) = outcome {
                work.failed = Some(cause);
            }
            self.changed.notify_all();
            while !work.urgent && !work.ending {
                let Some(left) = INTERVAL.checked_sub(begun.elapsed()) else { break };
                work = self.changed.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        self.changed.wait(work).unwrap_or_else(PoisonError::into_inner)
    }
}

const INTERVAL: Duration = Duration::from_millis(100);
/// A bound of what a crash of the machine can take, and of the page cache that one job's log holds.
const MOST_PENDING: usize = 32 * 1024 * 1024;
