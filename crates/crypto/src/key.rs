//! A 256-bit key that does not outlive its use.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Error;

/// A 256-bit symmetric key. Wiped when dropped; never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; Key::LENGTH]);

impl Key {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    /// A new random key.
    pub fn random() -> Result<Key, Error> {
        let mut bytes = [0; Key::LENGTH];
        crate::random(&mut bytes)?;
        Ok(Key(bytes))
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Key, Error> {
        bytes.try_into().map(Key).map_err(|_| Error::Malformed)
    }

    /// Its bytes, for what must hand them on.
    pub fn as_bytes(&self) -> &[u8; Key::LENGTH] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}
