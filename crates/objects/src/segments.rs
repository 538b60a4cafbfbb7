//! Files of segments, and those of them that are open for reading.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Error,
    error::at,
    faults::{self, fault},
};

/// The file of a segment.
pub fn path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:016x}"))
}

/// The ids of the segment files that there are.
pub fn ids(directory: &Path) -> Result<Vec<u64>, Error> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(directory).map_err(at(directory))? {
        let name = entry.map_err(at(directory))?.file_name();
        if let Some(id) = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Makes the names of the files in a directory durable.
pub fn sync_directory(directory: &Path) -> Result<(), Error> {
    fault(faults::SYNC_DIRECTORY)
        .and_then(|()| File::open(directory))
        .and_then(|directory| directory.sync_all())
        .map_err(at(directory))?;
    fail::fail_point!("objects.directory.synced");
    Ok(())
}

/// Segment files that are kept open, because most reads are of few of them.
#[derive(Debug)]
pub struct OpenFiles {
    directory: PathBuf,
    files: Mutex<HashMap<u64, (Arc<File>, u64)>>,
    time: AtomicU64,
}

impl OpenFiles {
    /// Of the files of a directory.
    pub fn new(directory: &Path) -> OpenFiles {
        OpenFiles { directory: directory.to_owned(), files: Mutex::default(), time: AtomicU64::new(0) }
    }

    /// The file of a segment, open for reading.
    pub fn get(&self, id: u64) -> std::io::Result<Arc<File>> {
        let now = self.time.fetch_add(1, Ordering::Relaxed);
        if let Some((file, used)) = self.files.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            *used = now;
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path(&self.directory, id))?);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= MOST_OPEN
            && let Some(oldest) = files.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id)
        {
            files.remove(&oldest);
        }
        files.insert(id, (Arc::clone(&file), now));
        Ok(file)
    }

    /// Closes the file of a segment that nothing refers to, so that its space comes back.
    pub fn forget(&self, id: u64) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

const MOST_OPEN: usize = 64;
