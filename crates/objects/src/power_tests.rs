//! The index on a disk that fails to sync and loses power. After a sync that failed, the system takes what was written
//! for clean: it is read, until the page is dropped, and never written by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::{Database, ReadableDatabase as _, StorageBackend};

use crate::{
    Error,
    index::{self, EVENTS},
    log::Position,
};

/// A file on such a disk, and the system's view of it.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Pages>>);

#[derive(Debug, Clone, Default)]
struct Pages {
    seen: Vec<u8>,
    kept: Vec<u8>,
    dirty: BTreeSet<usize>,
    syncs: u32,
    /// Which sync fails.
    fails_at: Option<u32>,
    /// Whether what that sync did not write is read no more.
    drops: bool,
}

impl Disk {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    /// What is found once the power is back, where some of the pages were written that nobody asked for.
    fn after_power_failure(&self, written: fn(usize) -> bool) -> Disk {
        let mut pages = self.pages().clone();
        let dirty = std::mem::take(&mut pages.dirty);
        dirty.into_iter().filter(|page| written(*page)).for_each(|page| pages.keep(page));
        Disk(Arc::new(Mutex::new(Pages { seen: pages.kept.clone(), kept: pages.kept, ..Pages::default() })))
    }

    fn open(&self) -> Result<Database, Error> {
        Ok(Database::builder().set_cache_size(1 << 20).create_with_backend(self.clone())?)
    }
}

impl Pages {
    fn keep(&mut self, page: usize) {
        copy(&self.seen, &mut self.kept, page);
    }
}

fn copy(from: &[u8], to: &mut [u8], page: usize) {
    let end = ((page + 1) * PAGE).min(from.len()).min(to.len());
    if let Some(length) = end.checked_sub(page * PAGE) {
        to[page * PAGE..][..length].copy_from_slice(&from[page * PAGE..][..length]);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.pages().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let pages = self.pages();
        let bytes = pages.seen.get(offset as usize..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut pages = self.pages();
        pages.seen.resize(length as usize, 0);
        pages.kept.resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut pages = self.pages();
        let dirty = std::mem::take(&mut pages.dirty);
        pages.syncs += 1;
        if pages.fails_at == Some(pages.syncs) {
            if pages.drops {
                let Pages { seen, kept, .. } = &mut *pages;
                dirty.into_iter().for_each(|page| copy(kept, seen, page));
            }
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        dirty.into_iter().for_each(|page| pages.keep(page));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut pages = self.pages();
        let from = offset as usize;
        pages.seen.get_mut(from..from + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        pages.dirty.extend(from / PAGE..=(from + data.len() - 1) / PAGE);
        Ok(())
    }
}

/// The log: what each batch changed, and up to where the index said that it is durable there.
struct Rounds {
    disk: Disk,
    durable: u64,
}

impl Rounds {
    /// Makes a batch's changes: rows that come, and some of the one before that go.
    fn apply(database: &Database, round: u64) -> Result<(), Error> {
        let transaction = index::begin(database)?;
        {
            let mut rows = transaction.open_table(EVENTS)?;
            for number in 0..ROWS {
                rows.insert(("round", round * ROWS + number), [round as u8; 700].as_slice())?;
                if number % 2 == 0 && round > 1 {
                    rows.remove(("round", (round - 1) * ROWS + number))?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn checkpoint(&mut self, database: &Database, next: u64) -> Result<(), Error> {
        index::checkpoint(database, Position { segment: 0, offset: 0, sequence: next }, 1)?;
        self.durable = next;
        Ok(())
    }

    /// Brings the index to the end of the log, as a start does and one who found it failed; it is tried again.
    fn bring(&mut self, next: u64) -> Database {
        for _ in 0..3 {
            let opened = self.disk.open().and_then(|database| {
                index::prepare(&database)?;
                for round in index::mark(&database)?.position.sequence..next {
                    Rounds::apply(&database, round)?;
                }
                Ok(database)
            });
            self.check(next);
            if let Ok(database) = opened {
                return database;
            }
        }
        panic!("it cannot be opened");
    }

    /// Whatever the power does now, the index is whole, needs nothing of the log that may have been given up, and with the
    /// rest of it all is there.
    fn check(&self, next: u64) {
        let written: [fn(usize) -> bool; 4] = [|_| false, |_| true, |page| page % 2 == 0, |page| page % 2 == 1];
        for written in written {
            let disk = self.disk.after_power_failure(written);
            let database = disk.open().expect("it opens");
            index::prepare(&database).expect("it is an index");
            let sequence = index::mark(&database).unwrap().position.sequence;
            assert!((self.durable..=next).contains(&sequence), "{sequence} of {} to {next}", self.durable);
            // What is in it of later batches is made again.
            for round in sequence..next {
                Rounds::apply(&database, round).unwrap();
            }
            let transaction = database.begin_read().unwrap();
            let rows = transaction.open_table(EVENTS).unwrap();
            for round in 1..next {
                for number in 0..ROWS {
                    let row = rows.get(("round", round * ROWS + number)).unwrap();
                    let is_there = number % 2 == 1 || round + 1 == next;
                    let is_right = row.map(|row| row.value() == [round as u8; 700]);
                    assert_eq!(is_right, is_there.then_some(true), "{number} of {round} of {sequence} to {next}");
                }
            }
        }
    }
}

#[test]
fn an_index_whose_sync_failed_loses_nothing_when_the_power_fails_then() {
    for drops in [false, true] {
        let mut fails_at = 0;
        loop {
            fails_at += 1;
            let mut rounds = Rounds { disk: Disk::default(), durable: 1 };
            let mut database = rounds.bring(1);
            rounds.disk.pages().syncs = 0;
            rounds.disk.pages().fails_at = Some(fails_at);
            rounds.disk.pages().drops = drops;
            for round in 1..=8 {
                if Rounds::apply(&database, round).is_err() || rounds.checkpoint(&database, round + 1).is_err() {
                    rounds.check(round + 1);
                    // The old one is closed first.
                    drop(database);
                    database = rounds.bring(round + 1);
                }
                rounds.check(round + 1);
            }
            drop(database);
            rounds.check(9);
            if rounds.disk.pages().syncs < fails_at {
                break;
            }
        }
        assert!(fails_at > 8, "{fails_at}");
    }
}

const PAGE: usize = 4096;
const ROWS: u64 = 40;
