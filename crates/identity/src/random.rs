//! Random names and secrets, and their hashes.

use zeroize::Zeroizing;

use crate::Error;

/// `2 * N` random hexadecimal digits.
pub(crate) fn hex<const N: usize>() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    crypto::random(&mut *bytes).map_err(|_| Error::NoRandom)?;
    Ok(Zeroizing::new(hex::encode(*bytes)))
}

/// SHA-256 of a random text.
pub(crate) fn sha256(text: &str) -> Vec<u8> {
    crypto::digest::sha256(&[text.as_bytes()]).to_vec()
}
