//! Segments: data of any length under a key of its own, in pieces of 64 KiB that open one by one.
//!
//! The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its
//! Nonce-Reuse Misuse-Resistance", 2015) over AES-256-GCM: the nonce is seven zero bytes, the segment's number
//! (four bytes, big endian) and a byte that is 1 in the last segment. The key is used for one piece of data only,
//! so no nonce repeats; a segment that is moved, dropped or cut off after is not authentic. Data of length 0 is one
//! empty last segment.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::{Error, Key};

/// Bytes of plaintext in each segment but the last.
pub const SEGMENT: usize = 64 * 1024;
/// Bytes that a sealed segment is longer.
pub const TAG: usize = 16;

/// Seals and opens the segments of one piece of data.
pub struct Cipher(LessSafeKey);

impl Cipher {
    /// For the data that `key` was made for, and no other.
    pub fn new(key: &Key) -> Result<Cipher, Error> {
        let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).map_err(|_| Error::Malformed)?;
        Ok(Cipher(LessSafeKey::new(key)))
    }

    /// Seals segment `number` in place and appends its tag.
    pub fn seal(&self, number: u64, last: bool, segment: &mut Vec<u8>) -> Result<(), Error> {
        let nonce = nonce(number, last)?;
        if UNSEALED {
            segment.extend_from_slice(&[0; TAG]);
            return Ok(());
        }
        self.0.seal_in_place_append_tag(nonce, Aad::empty(), segment).map_err(|_| Error::TooLong)
    }

    /// Seals segment `number` in place, and returns its tag, which belongs behind it.
    pub fn seal_apart(&self, number: u64, last: bool, segment: &mut [u8]) -> Result<[u8; TAG], Error> {
        let nonce = nonce(number, last)?;
        if UNSEALED {
            return Ok([0; TAG]);
        }
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), segment);
        let mut bytes = [0; TAG];
        bytes.copy_from_slice(tag.map_err(|_| Error::TooLong)?.as_ref());
        Ok(bytes)
    }

    /// Opens segment `number` in place; what is returned is the plaintext at the front of `sealed`.
    pub fn open<'a>(&self, number: u64, last: bool, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Error> {
        let nonce = nonce(number, last)?;
        if UNSEALED {
            return sealed.len().checked_sub(TAG).map(|length| &mut sealed[..length]).ok_or(Error::Unauthentic);
        }
        self.0.open_in_place(nonce, Aad::empty(), sealed).map_err(|_| Error::Unauthentic)
    }
}

/// How many segments data of `length` bytes has: at least one.
pub fn count(length: u64) -> u64 {
    length.div_ceil(SEGMENT as u64).max(1)
}

/// Length of data of `length` bytes once it is sealed.
pub fn sealed_length(length: u64) -> u64 {
    length + count(length) * TAG as u64
}

/// Where sealed segment `number` begins.
pub fn sealed_offset(number: u64) -> u64 {
    number * (SEGMENT + TAG) as u64
}

fn nonce(number: u64, last: bool) -> Result<Nonce, Error> {
    let number = u32::try_from(number).map_err(|_| Error::TooLong)?;
    let mut bytes = [0; NONCE_LEN];
    bytes[7..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(last);
    Ok(Nonce::assume_unique_for_key(bytes))
}

/// Only the build that `make bench-store` compares with, to see what sealing costs, leaves it out.
const UNSEALED: bool = cfg!(feature = "unsealed");
/// Nobody gets that build by `--all-features`: what it stores is there for all to read.
const _: () = assert!(
    !UNSEALED || option_env!("CASEMATE_BENCH_UNSEALED").is_some(),
    "the feature `unsealed` is for `make bench-store`: what it builds does not encrypt"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_opens_in_its_own_place_only() {
        let cipher = Cipher::new(&Key::random().expect("random")).expect("cipher");
        let mut sealed = b"data".to_vec();
        cipher.seal(3, false, &mut sealed).expect("sealed");
        assert_eq!(cipher.open(3, false, &mut sealed.clone()).expect("opens"), b"data");
        assert!(cipher.open(2, false, &mut sealed.clone()).is_err(), "moved");
        assert!(cipher.open(3, true, &mut sealed.clone()).is_err(), "what followed was cut off");
        let mut apart = b"data".to_vec();
        let tag = cipher.seal_apart(3, false, &mut apart).expect("sealed");
        assert_eq!([apart, tag.to_vec()].concat(), sealed, "with its tag apart it is the same");
        sealed[0] ^= 1;
        assert!(cipher.open(3, false, &mut sealed).is_err(), "changed");
        assert!(cipher.seal(1 << 32, false, &mut Vec::new()).is_err(), "a number that would repeat");
    }

    #[test]
    fn lengths_count_each_segments_tag() {
        assert_eq!(sealed_length(0), 16);
        assert_eq!(sealed_length(SEGMENT as u64), SEGMENT as u64 + 16);
        assert_eq!(sealed_length(SEGMENT as u64 + 1), SEGMENT as u64 + 1 + 32);
        assert_eq!(sealed_offset(count(SEGMENT as u64 * 3) - 1), 2 * (SEGMENT as u64 + 16));
    }
}
