//! Tables whose changes are noted as they are made, so that the log can make them again after a crash.
//!
//! A note is physical: the number of a table, the bytes of a key, and the bytes of its value, or that it is gone. So
//! a new table or kind of row needs no code of its own here, and to apply a note twice does no harm.

use std::{
    borrow::Borrow,
    cell::{Cell, OnceCell, RefCell},
    ops::RangeBounds,
};

use redb::{
    AccessGuard, Key, Range, ReadableTable, ReadableTableMetadata, StorageError, Table, TableDefinition, TableError,
    TableStats, Value, WriteTransaction,
};

use crate::Error;

/// The notes of a batch, in the order of its changes; and those that take back the last of them.
#[derive(Debug, Default)]
pub struct Redo {
    notes: RefCell<Vec<u8>>,
    /// Bytes of notes of changes that stay.
    kept: Cell<usize>,
    /// What the rows were before the change that is being made.
    undo: RefCell<Vec<u8>>,
}

impl Redo {
    /// Their bytes; none are left.
    pub fn take(&self) -> Vec<u8> {
        self.keep();
        self.kept.set(0);
        self.notes.take()
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.notes.borrow().is_empty()
    }

    /// What was noted stays, whatever becomes of the next change.
    pub fn keep(&self) {
        self.kept.set(self.notes.borrow().len());
        self.undo.borrow_mut().clear();
    }

    /// What the rows were that were changed since [`Redo::keep`], the first changed first.
    pub fn take_undo(&self) -> Vec<u8> {
        self.undo.take()
    }

    /// Forgets what was noted since [`Redo::keep`].
    pub fn forget(&self) {
        self.notes.borrow_mut().truncate(self.kept.get());
        self.undo.borrow_mut().clear();
    }
}

fn note(notes: &RefCell<Vec<u8>>, table: u8, key: &[u8], value: Option<&[u8]>) {
    let mut notes = notes.borrow_mut();
    notes.push(table);
    notes.extend_from_slice(&length(key));
    notes.extend_from_slice(&value.map_or(GONE, length));
    notes.extend_from_slice(key);
    notes.extend_from_slice(value.unwrap_or_default());
}

// redb takes no key or value of 4 GiB.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A change of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note<'n> {
    pub table: u8,
    pub key: &'n [u8],
    /// `None` if the row is gone.
    pub value: Option<&'n [u8]>,
}

/// Reads notes; bytes that are none end it with an error.
pub fn notes(mut bytes: &[u8]) -> impl Iterator<Item = Result<Note<'_>, Error>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let note = parse(&mut bytes);
        if note.is_none() {
            bytes = &[];
        }
        Some(note.ok_or_else(|| Error::Damaged { what: "a batch of the log".to_owned() }))
    })
}

fn parse<'n>(bytes: &mut &'n [u8]) -> Option<Note<'n>> {
    let mut take = |count: usize| -> Option<&'n [u8]> {
        let (taken, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(taken)
    };
    let table = take(1)?[0];
    let key: [u8; 4] = take(4)?.try_into().ok()?;
    let value: [u8; 4] = take(4)?.try_into().ok()?;
    let key = take(u32::from_le_bytes(key) as usize)?;
    let value = match value {
        GONE => None,
        length => Some(take(u32::from_le_bytes(length) as usize)?),
    };
    Some(Note { table, key, value })
}

/// A table of a batch, opened when it is first used.
pub struct Logged<'t, K: Key + 'static, V: Value + 'static> {
    transaction: &'t WriteTransaction,
    definition: TableDefinition<'static, K, V>,
    number: u8,
    /// `None` while the log itself is applied.
    redo: Option<&'t Redo>,
    open: OnceCell<Table<'t, K, V>>,
}

impl<'t, K: Key + 'static, V: Value + 'static> Logged<'t, K, V> {
    /// The table of `definition`, which has `number` in notes.
    pub fn new(
        transaction: &'t WriteTransaction,
        definition: TableDefinition<'static, K, V>,
        number: u8,
        redo: Option<&'t Redo>,
    ) -> Logged<'t, K, V> {
        Logged { transaction, definition, number, redo, open: OnceCell::new() }
    }

    /// Writes a row; returns what was there.
    pub fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        let (number, redo) = (self.number, self.redo);
        let (key, value): (&K::SelfType<'k>, &V::SelfType<'v>) = (key.borrow(), value.borrow());
        if let Some(redo) = redo {
            note(&redo.notes, number, K::as_bytes(key).as_ref(), Some(V::as_bytes(value).as_ref()));
        }
        let before = self.table_mut()?.insert(key, value)?;
        if let Some(redo) = redo {
            note_before::<K, V>(redo, number, key, before.as_ref());
        }
        Ok(before)
    }

    /// Removes a row; returns what was there.
    pub fn remove<'k>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        let (number, redo) = (self.number, self.redo);
        let key: &K::SelfType<'k> = key.borrow();
        if let Some(redo) = redo {
            note(&redo.notes, number, K::as_bytes(key).as_ref(), None);
        }
        let before = self.table_mut()?.remove(key)?;
        if let Some(redo) = redo {
            note_before::<K, V>(redo, number, key, before.as_ref());
        }
        Ok(before)
    }

    /// Makes a noted change again.
    pub fn restore(&mut self, note: Note<'_>) -> Result<(), StorageError> {
        let key = K::from_bytes(note.key);
        match note.value {
            Some(value) => drop(self.insert(key, V::from_bytes(value))?),
            None => drop(self.remove(key)?),
        }
        Ok(())
    }

    fn table(&self) -> Result<&Table<'t, K, V>, StorageError> {
        if self.open.get().is_none() {
            let table = self.transaction.open_table(self.definition).map_err(|cause| match cause {
                TableError::Storage(cause) => cause,
                other => StorageError::Corrupted(other.to_string()),
            })?;
            // It was empty just now, and this type is not shared between threads.
            let _ = self.open.set(table);
        }
        self.open.get().ok_or_else(|| StorageError::Corrupted("a table is not open".to_owned()))
    }

    fn table_mut(&mut self) -> Result<&mut Table<'t, K, V>, StorageError> {
        self.table()?;
        self.open.get_mut().ok_or_else(|| StorageError::Corrupted("a table is not open".to_owned()))
    }
}

fn note_before<K: Key + 'static, V: Value + 'static>(
    redo: &Redo,
    number: u8,
    key: &K::SelfType<'_>,
    before: Option<&AccessGuard<'_, V>>,
) {
    let value = before.map(AccessGuard::value);
    let bytes = value.as_ref().map(|value| V::as_bytes(value));
    note(&redo.undo, number, K::as_bytes(key).as_ref(), bytes.as_ref().map(AsRef::as_ref));
}

impl<K: Key + 'static, V: Value + 'static> ReadableTableMetadata for Logged<'_, K, V> {
    fn stats(&self) -> Result<TableStats, StorageError> {
        self.table()?.stats()
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.table()?.len()
    }
}

impl<K: Key + 'static, V: Value + 'static> ReadableTable<K, V> for Logged<'_, K, V> {
    fn get<'a>(&self, key: impl Borrow<K::SelfType<'a>>) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        self.table()?.get(key)
    }

    fn range<'a, KR>(&self, range: impl RangeBounds<KR> + 'a) -> Result<Range<'_, K, V>, StorageError>
    where
        KR: Borrow<K::SelfType<'a>> + 'a,
    {
        self.table()?.range(range)
    }

    fn first(&self) -> Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, V>)>, StorageError> {
        self.table()?.first()
    }

    fn last(&self) -> Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, V>)>, StorageError> {
        self.table()?.last()
    }
}

const GONE: [u8; 4] = u32::MAX.to_le_bytes();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_as_they_were_written_and_cut_ones_are_an_error() {
        let redo = Redo::default();
        super::note(&redo.notes, 3, b"key", Some(b"value"));
        super::note(&redo.notes, 4, b"", Some(b""));
        super::note(&redo.notes, 5, b"gone", None);
        let bytes = redo.take();
        assert!(redo.take().is_empty());
        let found: Vec<Note<'_>> = notes(&bytes).collect::<Result<_, _>>().expect("notes");
        let note = |table, key: &'static [u8], value| Note { table, key, value };
        assert_eq!(
            found,
            [note(3, b"key", Some(b"value".as_slice())), note(4, b"", Some(b"")), note(5, b"gone", None)]
        );
        for cut in 1..bytes.len() {
            let whole = notes(&bytes[..cut]).take_while(Result::is_ok).count();
            let border = notes(&bytes[..cut]).all(|note| note.is_ok());
            assert!(whole < 3 && (!border || cut == 17 || cut == 26), "cut at {cut}");
        }
    }
}
