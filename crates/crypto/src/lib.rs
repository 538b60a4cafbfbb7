//! Cryptography as pure functions on bytes: envelopes of small secrets, segments of large data, digests, signatures.
//! No I/O but the system's random generator; knows nothing of whose data it is. All primitives are AWS-LC's.
//! Start at [`Key`], [`envelope`] and [`segment`].

pub mod digest;
pub mod envelope;
mod key;
mod md5;
mod public;
pub mod segment;
pub mod sign;

pub use key::Key;
pub use md5::Md5;
pub use public::PublicKey;
pub use sign::SigningKey;

/// Why bytes could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Wrong key, wrong context, or changed bytes: which of them cannot be told.
    #[error("the data is damaged, or was sealed with another key or for another place")]
    Unauthentic,
    /// The bytes do not have the form of what they should be.
    #[error("the data does not have the form of sealed data")]
    Malformed,
    /// More segments than a counter can number.
    #[error("the data is too long for one key")]
    TooLong,
    /// The system gave no random bytes.
    #[error("the system's random generator failed")]
    NoRandom,
}

/// Fills `bytes` from the system's random generator.
pub fn random(bytes: &mut [u8]) -> Result<(), Error> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::NoRandom)
}

/// Whether two byte strings are equal, in a time that depends on their lengths alone.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
