//! Public keys of others, in the three kinds that authenticators make.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

/// A public key, and how signatures are made with its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// ECDSA over P-256 with SHA-256, signatures in DER (RFC 9053, section 2.1).
    Es256 {
        /// Its coordinate x.
        x: [u8; 32],
        /// Its coordinate y.
        y: [u8; 32],
    },
    /// Ed25519 (RFC 8032).
    Ed25519([u8; 32]),
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 to 8192 bits (RFC 8812, section 2).
    Rs256 {
        /// The modulus, big-endian.
        n: Vec<u8>,
        /// The exponent, big-endian.
        e: Vec<u8>,
    },
}

impl PublicKey {
    /// Whether `signature` of `message` was made with the private half. A key that is none, such as a point that is not on
    /// the curve, has made none.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match self {
            PublicKey::Es256 { x, y } => {
                // An uncompressed point: SEC 1, section 2.3.3.
                let point = [&[4][..], x, y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            PublicKey::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            PublicKey::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        };
        outcome.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6979, A.2.5 ("sample", SHA-256), and RFC 8032, 7.1, test 2.
    #[test]
    fn a_signature_holds_for_its_key_and_message_alone() {
        let number = |text: &str| -> [u8; 32] { hex::decode(text).expect("hexadecimal").try_into().expect("32 bytes") };
        let x = number("60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6");
        let y = number("7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
        let es256 = hex::decode(
            "3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
             022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
        )
        .expect("hexadecimal");
        let ed25519 = hex::decode(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        )
        .expect("hexadecimal");
        let public = number("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        for (key, message, signature) in
            [(PublicKey::Es256 { x, y }, &b"sample"[..], es256), (PublicKey::Ed25519(public), &[0x72], ed25519)]
        {
            assert!(key.verify(message, &signature), "{key:?}");
            assert!(!key.verify(b"another", &signature), "{key:?}");
            assert!(!key.verify(message, &[]), "{key:?}");
            let mut changed = signature.clone();
            changed[9] ^= 1;
            assert!(!key.verify(message, &changed), "{key:?}");
        }
        let off_the_curve = PublicKey::Es256 { x, y: x };
        assert!(!off_the_curve.verify(b"sample", &[]));
        assert!(!PublicKey::Rs256 { n: Vec::new(), e: vec![1] }.verify(b"sample", &[0; 256]));
    }
}
