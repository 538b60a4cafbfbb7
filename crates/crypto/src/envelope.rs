//! Envelopes: small secrets and wrapped keys, sealed by AES-256-GCM (NIST SP 800-38D) with a random nonce.
//!
//! Layout: version 1 (one byte), nonce (12 bytes), ciphertext, tag (16 bytes). The context is authenticated, not
//! stored: an envelope opens only in the place that it was sealed for. Random nonces are safe for 2^32 envelopes a
//! key (section 8.3); what seals more, such as the data of objects, has a key each.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{Error, Key};

/// Seals `plaintext` for the place that `context` names.
pub fn seal(key: &Key, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    let mut nonce = [0; NONCE_LEN];
    crate::random(&mut nonce)?;
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
    sealed.push(VERSION);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let tag = cipher(key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed[HEADER..])
        .map_err(|_| Error::TooLong)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens what [`seal`] made with the same key and context.
pub fn open(key: &Key, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if sealed.len() < OVERHEAD || sealed[0] != VERSION {
        return Err(Error::Malformed);
    }
    let nonce = Nonce::try_assume_unique_for_key(&sealed[1..HEADER]).map_err(|_| Error::Malformed)?;
    let mut plaintext = Zeroizing::new(sealed[HEADER..].to_vec());
    let length =
        cipher(key)?.open_in_place(nonce, Aad::from(context), &mut plaintext).map_err(|_| Error::Unauthentic)?.len();
    plaintext.truncate(length);
    Ok(plaintext)
}

/// Wraps a key with another.
pub fn wrap(by: &Key, context: &[u8], key: &Key) -> Result<Vec<u8>, Error> {
    seal(by, context, key.as_bytes())
}

/// Unwraps what [`wrap`] made.
pub fn unwrap(by: &Key, context: &[u8], wrapped: &[u8]) -> Result<Key, Error> {
    Key::from_bytes(&open(by, context, wrapped)?)
}

fn cipher(key: &Key) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, key.as_bytes()).map(LessSafeKey::new).map_err(|_| Error::Malformed)
}

const VERSION: u8 = 1;
const HEADER: usize = 1 + NONCE_LEN;
/// Bytes that an envelope is longer than what it holds.
pub const OVERHEAD: usize = HEADER + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_opens_only_with_its_key_in_its_place_and_unchanged() {
        let key = Key::random().expect("random");
        let sealed = seal(&key, b"project/1", b"secret").expect("sealed");
        assert_eq!(open(&key, b"project/1", &sealed).expect("opens").as_slice(), b"secret");
        assert_eq!(open(&key, b"project/2", &sealed), Err(Error::Unauthentic));
        assert_eq!(open(&Key::random().expect("random"), b"project/1", &sealed), Err(Error::Unauthentic));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(open(&key, b"project/1", &changed).is_err(), "byte {index}");
            assert!(open(&key, b"project/1", &sealed[..index]).is_err(), "cut at {index}");
        }
    }
}
