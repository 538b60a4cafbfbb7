//! Ed25519 signatures (RFC 8032).

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::{Error, Key};

/// Bytes of a public key.
pub const PUBLIC_LENGTH: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_LENGTH: usize = 64;

/// A private key. Never shown.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: [u8; PUBLIC_LENGTH],
}

impl SigningKey {
    /// The key of a seed of 32 secret random bytes.
    pub fn from_seed(seed: &Key) -> Result<SigningKey, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).map_err(|_| Error::Malformed)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| Error::Malformed)?;
        Ok(SigningKey { pair, public })
    }

    /// Its public half.
    pub fn public(&self) -> [u8; PUBLIC_LENGTH] {
        self.public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        let mut bytes = [0; SIGNATURE_LENGTH];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Whether `signature` of `message` was made with the private half of `public`.
pub fn verify(public: &[u8; PUBLIC_LENGTH], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_standard_and_holds_for_its_message_alone() {
        // RFC 8032, 7.1, test 2.
        let seed =
            hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").expect("hexadecimal");
        let key = SigningKey::from_seed(&Key::from_bytes(&seed).expect("a key")).expect("a signing key");
        assert_eq!(hex::encode(key.public()), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = key.sign(&[0x72]);
        assert_eq!(
            hex::encode(signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert!(verify(&key.public(), &[0x72], &signature));
        assert!(!verify(&key.public(), &[0x73], &signature));
        assert!(!verify(&key.public(), &[0x72], &signature[..63]));
        for at in 0..SIGNATURE_LENGTH {
            let mut changed = signature;
            changed[at] ^= 1;
            assert!(!verify(&key.public(), &[0x72], &changed), "byte {at}");
        }
    }
}
