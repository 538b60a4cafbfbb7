//! Gives space back: what is still of use in a segment file that mostly is not goes to the end of the log, sealed as it
//! is, and then the file goes.
//!
//! The notes in a segment file name the rows whose pieces stood in it when it was written. Pieces whose rows moved
//! since, and those of files that have no notes, are found by a walk of the index, if any are left.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::unix::fs::FileExt as _,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use redb::{ReadableTable as _, Value};

use crate::{
    Error,
    behalf::Behalf,
    index::{OBJECTS, ObjectKey, PARTS, PIECES, SEGMENTS, VERSIONS, VersionKey, Writing, tables},
    log,
    logged::notes,
    rows::{self, Data, ObjectRow, PartRow, Piece, PieceRow, Place, VersionRow},
    seal::{self, Body, Packed},
    segments,
    store::{Inner, Store},
};

/// How space is given back.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often it is looked whether there is any.
    pub every: Duration,
    /// Bytes a second that are moved.
    pub rate: u64,
}

/// Gives space back until the store is closed.
pub async fn run(store: Weak<Inner>, pace: Pace) {
    // Bytes of data in files that do not grow any more.
    let mut sizes = HashMap::new();
    loop {
        tokio::time::sleep(pace.every).await;
        let Some(inner) = store.upgrade() else { return };
        let store = Store(inner, Behalf::default());
        match step(&store, &mut sizes, pace.rate).await {
            Ok(()) => {}
            Err(Error::Closed) => return,
            Err(Error::Full) => tracing::warn!("the disk is too full to give space back"),
            Err(cause) => tracing::warn!(cause = ?cause, "space of the object store was not given back"),
        }
    }
}

/// A row that has a piece: its table's number in the log, its key's bytes, and the piece.
type Row = (u8, Vec<u8>, Piece);

async fn step(store: &Store, sizes: &mut HashMap<u64, u64>, rate: u64) -> Result<(), Error> {
    let known = std::mem::take(sizes);
    let (victims, found, known) = store.block(move |inner| survey(inner, known)).await?;
    *sizes = known;
    if victims.is_empty() {
        return Ok(());
    }
    let mut damaged = BTreeSet::new();
    let moved = move_rows(store, found, rate, &mut damaged).await?;
    let left = victims.clone();
    // What the notes did not find.
    let found = store.block(move |inner| walk(inner, &left)).await?;
    let moved = moved + move_rows(store, found, rate, &mut damaged).await?;
    store.0.metrics.compacted(moved);
    // They cannot be emptied, and would take the place of those that can.
    sizes.extend(damaged.into_iter().map(|id| (id, 0)));
    tracing::debug!(files = victims.len(), bytes = moved, "segment files were emptied");
    Ok(())
}

/// Which files are mostly of no use, and which rows have pieces there by their notes.
#[expect(clippy::type_complexity, reason = "three things that one look finds")]
fn survey(inner: &Inner, mut sizes: HashMap<u64, u64>) -> Result<(BTreeSet<u64>, Vec<Row>, HashMap<u64, u64>), Error> {
    let mut used = BTreeMap::new();
    for entry in inner.index.read()?.open_table(SEGMENTS)?.iter()? {
        let (id, live) = entry?;
        used.insert(id.value(), live.value().0);
    }
    let newest = segments::ids(&inner.packed)?.into_iter().max();
    used.retain(|id, _| Some(*id) != newest);
    sizes.retain(|id, _| used.contains_key(id));
    let mut victims = BTreeSet::new();
    let mut found = Vec::new();
    for (id, live) in used {
        if victims.len() >= MOST_FILES {
            break;
        }
        let size = match sizes.get(&id) {
            Some(size) => *size,
            None => {
                let size = log::survey(&inner.packed, id, |_| Ok(())).unwrap_or_else(|cause| {
                    tracing::warn!(segment = id, cause = ?cause, "a segment file cannot be read, and is left as it is");
                    0
                });
                sizes.insert(id, size);
                size
            }
        };
        if live < size / 2 {
            victims.insert(id);
            let surveyed = log::survey(&inner.packed, id, |bytes| {
                for note in notes(bytes) {
                    let note = note?;
                    let piece = note.value.and_then(|value| piece_of(note.table, value));
                    if let Some(piece) = piece.filter(|piece| segment(piece) == Some(id)) {
                        found.push((note.table, note.key.to_vec(), piece));
                    }
                }
                Ok(())
            });
            if let Err(cause) = surveyed {
                // The walk finds its rows.
                tracing::warn!(segment = id, cause = ?cause, "the notes of a segment file cannot be read");
            }
        }
    }
    Ok((victims, found, sizes))
}

/// All rows that have a piece in `victims`.
fn walk(inner: &Inner, victims: &BTreeSet<u64>) -> Result<Vec<Row>, Error> {
    let index = inner.index.read()?;
    let used = index.open_table(SEGMENTS)?;
    let mut left = BTreeSet::new();
    for id in victims {
        if used.get(id)?.is_some() {
            left.insert(*id);
        }
    }
    let mut found = Vec::new();
    if left.is_empty() {
        return Ok(found);
    }
    macro_rules! table {
        ($table:ident, $number:path, $key:ty) => {
            for entry in index.open_table($table)?.iter()? {
                let (key, row) = entry?;
                let piece = piece_of($number, row.value());
                if let Some(piece) = piece.filter(|piece| segment(piece).is_some_and(|id| left.contains(&id))) {
                    let key = key.value();
                    let bytes = <$key as Value>::as_bytes(&key);
                    found.push(($number, AsRef::<[u8]>::as_ref(&bytes).to_vec(), piece));
                }
                if found.len() >= MOST_ROWS {
                    return Ok(found);
                }
            }
        };
    }
    table!(OBJECTS, tables::OBJECTS, ObjectKey);
    table!(VERSIONS, tables::VERSIONS, VersionKey);
    table!(PIECES, tables::PIECES, (u128, u64));
    table!(PARTS, tables::PARTS, (u128, u32));
    Ok(found)
}

fn segment(piece: &Piece) -> Option<u64> {
    match piece.place {
        Place::Packed { segment, .. } => Some(segment),
        Place::Large(_) => None,
    }
}

/// The piece of a row, if it has one.
fn piece_of(table: u8, row: &[u8]) -> Option<Piece> {
    let one = |row: ObjectRow| match row.data {
        Data::One(piece) => Some(piece),
        Data::Empty | Data::Many(_) => None,
    };
    match table {
        tables::OBJECTS => one(rows::decode("an object", row).ok()?),
        tables::VERSIONS => match rows::decode("a version", row).ok()? {
            VersionRow::Object(row) => one(*row),
            VersionRow::Marker(_) => None,
        },
        tables::PIECES => Some(rows::decode::<PieceRow>("a piece", row).ok()?.piece),
        tables::PARTS => rows::decode::<PartRow>("a part", row).ok()?.piece,
        _ => None,
    }
}

/// Moves pieces, a few at once and no faster than `rate`; returns how many bytes, and adds to `damaged` the files of those
/// that cannot be read.
async fn move_rows(store: &Store, rows: Vec<Row>, rate: u64, damaged: &mut BTreeSet<u64>) -> Result<u64, Error> {
    let mut moved = 0;
    for group in rows.chunks(AT_ONCE) {
        let begun = Instant::now();
        let moves = group.iter().cloned().map(|row| move_row(store, row));
        let moves = stream::iter(moves).buffered(AT_ONCE);
        let results: Vec<Result<Option<u64>, Error>> = moves.collect().await;
        let mut bytes = 0;
        for (result, (.., piece)) in results.into_iter().zip(group) {
            match result? {
                Some(length) => bytes += length,
                None => damaged.extend(segment(piece)),
            }
        }
        fail::fail_point!("objects.compaction.moved");
        moved += bytes;
        let due = Duration::from_secs_f64(bytes as f64 / rate as f64);
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
    }
    Ok(moved)
}

/// Moves a row's piece to the end of the log, if the row still has it there; returns its bytes, `None` if they cannot be
/// read.
async fn move_row(store: &Store, (table, key, piece): Row) -> Result<Option<u64>, Error> {
    let Place::Packed { segment, offset } = piece.place else { return Ok(Some(0)) };
    let length = seal::sealed_length(piece.length);
    // The pin keeps the file until it is read, wherever the row went meanwhile.
    let read = store.block(move |inner| {
        let _pin = inner.garbage.pin();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match inner.open_files.get(segment).and_then(|file| file.read_exact_at(&mut bytes, offset)) {
            Ok(()) => Ok(Some(bytes)),
            // The row went elsewhere meanwhile; else it is damaged, and stays where it is for a check to find.
            Err(cause) => {
                tracing::debug!(segment, offset, %cause, "a piece cannot be read, and is not moved");
                Ok(None)
            }
        }
    });
    let Some(bytes) = read.await? else { return Ok(None) };
    let change = move |writing: &mut Writing<'_>, place: Option<Place>| {
        let to = place.ok_or(Error::NotPlaced)?;
        match writing.relocate(table, &key, piece.place, to)? {
            true => {
                writing.hold(&Piece { place: to, ..piece.clone() })?;
                writing.free(&piece)
            }
            // Then its bytes are not of use, and this is refused.
            false => Err(Error::NoSuchKey),
        }
    };
    match store.0.committer.commit_in_reserve(Body::Small(Packed::few(bytes)), change).await {
        Ok(()) => Ok(Some(length)),
        Err(Error::NoSuchKey) => Ok(Some(0)),
        Err(cause) => Err(cause),
    }
}

impl Writing<'_> {
    /// Says in a row that its piece is at another place, if it is where it is thought to be.
    fn relocate(&mut self, table: u8, key: &[u8], from: Place, to: Place) -> Result<bool, Error> {
        let put = |piece: &mut Piece| {
            let is_there = piece.place == from;
            if is_there {
                piece.place = to;
            }
            is_there
        };
        let one = |row: &mut ObjectRow| match &mut row.data {
            Data::One(piece) => put(piece),
            Data::Empty | Data::Many(_) => false,
        };
        macro_rules! change {
            ($table:ident, $key:ty, $row:ty, $change:expr) => {{
                let key = <$key as Value>::from_bytes(key);
                let row = self.$table.get(key)?.map(|row| rows::decode::<$row>("a row", row.value())).transpose()?;
                let Some(mut row) = row else { return Ok(false) };
                let change: fn(&mut $row, &dyn Fn(&mut Piece) -> bool, &dyn Fn(&mut ObjectRow) -> bool) -> bool =
                    $change;
                if !change(&mut row, &put, &one) {
                    return Ok(false);
                }
                let bytes = rows::encode(&row);
                self.$table.insert(key, bytes.as_slice())?;
                Ok(true)
            }};
        }
        match table {
            tables::OBJECTS => change!(objects, ObjectKey, ObjectRow, |row, _, one| one(row)),
            tables::VERSIONS => change!(versions, VersionKey, VersionRow, |row, _, one| match row {
                VersionRow::Object(row) => one(row),
                VersionRow::Marker(_) => false,
            }),
            tables::PIECES => change!(pieces, (u128, u64), PieceRow, |row, put, _| put(&mut row.piece)),
            tables::PARTS => change!(parts, (u128, u32), PartRow, |row, put, _| row.piece.as_mut().is_some_and(put)),
            _ => Ok(false),
        }
    }
}

/// Starts giving space back, if there is a runtime to do it on.
pub fn start(inner: &Arc<Inner>, pace: Pace) {
    tokio::spawn(run(Arc::downgrade(inner), pace));
}

/// Pieces that are moved at once.
const AT_ONCE: usize = 32;
/// Files that are emptied in one go,
const MOST_FILES: usize = 16;
/// and rows that one walk finds.
const MOST_ROWS: usize = 100_000;
