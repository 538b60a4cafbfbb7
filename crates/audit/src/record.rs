//! An entry as the bytes that are sealed, and how they stand in a segment file.
//!
//! A record is the hash of the record before it in the log (32 bytes, zero for the first), the entry's number, its time
//! in Unix nanoseconds, and nine texts in the order of [`db::audit::Raw`]: the length of each in 4 bytes and its bytes,
//! or a length of 2^32 - 1 alone where there is none. The hash of a record is that of a leaf of RFC 9162: SHA-256 over a
//! zero byte and the record. In a segment a mark of 4 bytes, which is in no text, and the length of the record stand
//! before it. All integers are little endian.

use db::audit::{Raw, TEXTS};

use crate::merkle::Hash;

/// Stands before each record.
pub const MARK: [u8; 4] = [0xF5, b'C', b'M', b'R'];
/// Bytes before a record: the mark and the length.
pub const FRAME: usize = 8;
/// Bytes of the shortest record.
pub const SHORTEST: usize = HEAD + TEXTS * 4;
/// The hash before the first record.
pub const NOTHING: Hash = [0; 32];

/// Appends the frame of an entry, and says where its record begins.
pub fn append(out: &mut Vec<u8>, previous: &Hash, raw: &Raw) -> usize {
    let length = HEAD + raw.texts.iter().map(|text| 4 + text.as_ref().map_or(0, Vec::len)).sum::<usize>();
    out.reserve(FRAME + length);
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&word(length));
    let begin = out.len();
    out.extend_from_slice(previous);
    out.extend_from_slice(&raw.number.to_le_bytes());
    out.extend_from_slice(&raw.at.to_le_bytes());
    for text in &raw.texts {
        match text {
            Some(text) => {
                out.extend_from_slice(&word(text.len()));
                out.extend_from_slice(text);
            }
            None => out.extend_from_slice(&ABSENT.to_le_bytes()),
        }
    }
    begin
}

/// SQLite holds no row of 2^32 bytes.
fn word(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(ABSENT - 1).to_le_bytes()
}

/// What stands at a place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A record, whose own bytes may still be anything.
    Whole(&'a [u8]),
    /// The beginning of a frame; the file ends before its end.
    Torn,
    /// Something else.
    Other,
}

/// Looks at the place `at` of `bytes`, which it is inside of.
pub fn frame(bytes: &[u8], at: usize) -> Frame<'_> {
    let left = &bytes[at..];
    let Some((mark, rest)) = left.split_first_chunk::<4>() else {
        return if MARK.starts_with(left) { Frame::Torn } else { Frame::Other };
    };
    if *mark != MARK {
        return Frame::Other;
    }
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Frame::Torn };
    match usize::try_from(u32::from_le_bytes(*length)) {
        Ok(length) if length < SHORTEST => Frame::Other,
        Ok(length) if length <= rest.len() => Frame::Whole(&rest[..length]),
        _ => Frame::Torn,
    }
}

/// The hash of the record before this one; the record is one of [`Frame::Whole`].
pub fn previous(record: &[u8]) -> Hash {
    record.first_chunk().copied().unwrap_or_default()
}

/// The number of the entry.
pub fn number(record: &[u8]) -> u64 {
    integer(record, 32)
}

/// The time of the entry: Unix nanoseconds.
pub fn at(record: &[u8]) -> i64 {
    i64::from_le_bytes(integer(record, 40).to_le_bytes())
}

fn integer(record: &[u8], at: usize) -> u64 {
    record.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The texts of a record; `None` if its bytes do not have the form.
pub fn texts(record: &[u8]) -> Option<[Option<&[u8]>; TEXTS]> {
    let mut texts = [None; TEXTS];
    let mut rest = record.get(HEAD..)?;
    for text in &mut texts {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        let length = u32::from_le_bytes(*length);
        if length != ABSENT {
            let (found, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *text = Some(found);
            rest = after;
        }
    }
    rest.is_empty().then_some(texts)
}

/// The entry of a record; `None` if its bytes do not have the form.
pub fn raw(record: &[u8]) -> Option<Raw> {
    let texts = texts(record)?.map(|text| text.map(<[u8]>::to_vec));
    Some(Raw { number: i64::try_from(number(record)).ok()?, at: at(record), texts })
}

/// Bytes before the texts of a record.
const HEAD: usize = 48;
/// The length of a text that is not there.
const ABSENT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_entry_comes_back_from_its_bytes_and_no_two_entries_have_the_same(
            number in 1..i64::MAX,
            at: i64,
            texts: [Option<Vec<u8>>; TEXTS],
            cut in any::<prop::sample::Index>(),
        ) {
            let entry = Raw { number, at, texts };
            let mut bytes = b"before".to_vec();
            let begin = append(&mut bytes, &[7; 32], &entry);
            let Frame::Whole(record) = frame(&bytes, 6) else { panic!("a frame") };
            prop_assert_eq!((record, previous(record)), (&bytes[begin..], [7; 32]));
            // What comes back is all of it, so that other entries have other bytes.
            prop_assert_eq!(raw(record), Some(entry));
            let end = 6 + cut.index(bytes.len() - 6);
            if end > 6 {
                prop_assert_eq!(frame(&bytes[..end], 6), Frame::Torn);
            }
        }
    }
}
