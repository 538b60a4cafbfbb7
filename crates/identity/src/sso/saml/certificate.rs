//! Signing certificates of a provider. They carry a key and nothing else: what is trusted is that the key stands in the
//! metadata (SAML V2.0 Metadata Interoperability Profile, 2.6.1), so neither issuer nor chain is looked at.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use jiff::Timestamp;
use x509_cert::der::{Decode as _, asn1::ObjectIdentifier};

/// A certificate of RFC 5280 with a key that signatures may be made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Whose it says that it is (RFC 4514).
    pub subject: String,
    /// Until when it is good.
    pub expires: Timestamp,
    key: Key,
    public: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Rsa,
    P256,
    P384,
    P521,
}

/// How a signature was made: with what kind of key and which digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// RSA, PKCS #1 v1.5.
    Rsa(Digest),
    /// ECDSA; the curve is the one of the digest's size.
    Ecdsa(Digest),
}

/// A digest of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    /// 256 bits.
    Sha256,
    /// 384 bits.
    Sha384,
    /// 512 bits.
    Sha512,
}

impl Certificate {
    /// Reads the DER form. The error says what is wrong with it.
    pub fn parse(der: &[u8]) -> Result<Certificate, &'static str> {
        let read = x509_cert::Certificate::from_der(der).map_err(|_| "a certificate is not one of X.509")?;
        let read = read.tbs_certificate();
        let info = read.subject_public_key_info();
        let curve = || info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let key = match info.algorithm.oid {
            RSA => Key::Rsa,
            EC => match curve() {
                Some(P256) => Key::P256,
                Some(P384) => Key::P384,
                Some(P521) => Key::P521,
                _ => return Err("a certificate's key is on a curve other than P-256, P-384 and P-521"),
            },
            _ => return Err("a certificate's key is neither of RSA nor of an elliptic curve"),
        };
        let expires = read.validity().not_after.to_unix_duration().as_secs();
        let expires = i64::try_from(expires).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        Ok(Certificate {
            subject: read.subject().to_string(),
            expires: expires.ok_or("a certificate's end is not a time")?,
            key,
            public: info.subject_public_key.as_bytes().ok_or("a certificate's key is malformed")?.to_vec(),
        })
    }

    /// Whether `signed` was signed by the key of this certificate, in that way. RSA keys below 2048 bits never were.
    pub fn verifies(&self, method: Method, signed: &[u8], by: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.key, method) {
            (Key::Rsa, Method::Rsa(Digest::Sha256)) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Key::Rsa, Method::Rsa(Digest::Sha384)) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Key::Rsa, Method::Rsa(Digest::Sha512)) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Key::P256, Method::Ecdsa(Digest::Sha256)) => &signature::ECDSA_P256_SHA256_FIXED,
            (Key::P384, Method::Ecdsa(Digest::Sha384)) => &signature::ECDSA_P384_SHA384_FIXED,
            (Key::P521, Method::Ecdsa(Digest::Sha512)) => &signature::ECDSA_P521_SHA512_FIXED,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.public).verify(signed, by).is_ok()
    }
}

// RFC 3279, 2.3.1; RFC 5480, 2.1.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
