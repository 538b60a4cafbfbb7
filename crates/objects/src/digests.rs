//! Digests of data as it passes: MD5 for the entity tag, and the checksum that its sender chose.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use crypto::Md5;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

use crate::rows::{Algorithm, Sum};

/// Digests in the making.
pub struct Digests {
    md5: Md5,
    sum: Option<Hasher>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Digested {
    /// MD5 of all.
    pub md5: [u8; 16],
    /// The checksum of all.
    pub sum: Option<Sum>,
}

enum Hasher {
    Crc32(Crc32),
    Crc32c(Crc32c),
    Crc64Nvme(Crc64Nvme),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Digests {
    /// With a checksum of `algorithm`, if any.
    pub fn new(algorithm: Option<Algorithm>) -> Digests {
        Digests {
            md5: Md5::new(),
            sum: algorithm.map(|algorithm| match algorithm {
                Algorithm::Crc32 => Hasher::Crc32(Crc32::new()),
                Algorithm::Crc32c => Hasher::Crc32c(Crc32c::new()),
                Algorithm::Crc64Nvme => Hasher::Crc64Nvme(Crc64Nvme::new()),
                Algorithm::Sha1 => Hasher::Sha1(Sha1::new()),
                Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            }),
        }
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        match &mut self.sum {
            None => {}
            Some(Hasher::Crc32(hasher)) => hasher.update(bytes),
            Some(Hasher::Crc32c(hasher)) => hasher.update(bytes),
            Some(Hasher::Crc64Nvme(hasher)) => hasher.update(bytes),
            Some(Hasher::Sha1(hasher)) => hasher.update(bytes),
            Some(Hasher::Sha256(hasher)) => hasher.update(bytes),
        }
    }

    /// Of all that was taken.
    pub fn finish(self) -> Digested {
        let md5 = self.md5.finish();
        let sum = self.sum.map(|hasher| {
            let (algorithm, value) = match hasher {
                Hasher::Crc32(hasher) => (Algorithm::Crc32, BASE64.encode(hasher.finalize())),
                Hasher::Crc32c(hasher) => (Algorithm::Crc32c, BASE64.encode(hasher.finalize())),
                Hasher::Crc64Nvme(hasher) => (Algorithm::Crc64Nvme, BASE64.encode(hasher.finalize())),
                Hasher::Sha1(hasher) => (Algorithm::Sha1, BASE64.encode(hasher.finalize())),
                Hasher::Sha256(hasher) => (Algorithm::Sha256, BASE64.encode(hasher.finalize())),
            };
            Sum { algorithm, value }
        });
        Digested { md5, sum }
    }
}

impl Algorithm {
    /// The name that S3 gives it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    /// The algorithm of a name.
    pub fn parse(name: &str) -> Option<Algorithm> {
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Width and reflected polynomial, for those that are CRCs.
    fn crc(self) -> Option<(u32, u64)> {
        match self {
            Algorithm::Crc32 => Some((32, 0xEDB8_8320)),
            Algorithm::Crc32c => Some((32, 0x82F6_3B78)),
            Algorithm::Crc64Nvme => Some((64, 0x9A6C_9329_AC4B_C9B5)),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }
}

/// The checksum of parts' checksums, which S3 calls composite.
pub fn composite(algorithm: Algorithm, parts: &[&Sum]) -> Option<Sum> {
    let mut digests = Digests::new(Some(algorithm));
    for part in parts {
        digests.update(&BASE64.decode(&part.value).ok()?);
    }
    let whole = digests.finish().sum?;
    Some(Sum { algorithm, value: format!("{}-{}", whole.value, parts.len()) })
}

/// The checksum of all data from the checksums and lengths of its parts; only CRCs can be joined so.
pub fn joined(algorithm: Algorithm, parts: &[(&Sum, u64)]) -> Option<Sum> {
    let (width, polynomial) = algorithm.crc()?;
    let mut whole = 0;
    for (sum, length) in parts {
        let bytes = BASE64.decode(&sum.value).ok()?;
        let crc = bytes.iter().fold(0, |crc, byte| crc << 8 | u64::from(*byte));
        whole = shifted(whole, *length, width, polynomial) ^ crc;
    }
    let bytes = whole.to_be_bytes();
    Some(Sum { algorithm, value: BASE64.encode(&bytes[8 - width as usize / 8..]) })
}

/// A CRC as it is after `length` zero bytes more (the method of zlib's `crc32_combine`): the operator of one zero bit
/// as a matrix over GF(2), squared for each power of two.
fn shifted(mut crc: u64, length: u64, width: u32, polynomial: u64) -> u64 {
    let mut operator: Vec<u64> = (0..width).map(|bit| if bit == 0 { polynomial } else { 1 << (bit - 1) }).collect();
    let apply = |operator: &[u64], vector: u64| {
        operator.iter().enumerate().filter(|(bit, _)| vector >> bit & 1 == 1).fold(0, |sum, (_, column)| sum ^ column)
    };
    let square = |operator: &[u64]| operator.iter().map(|column| apply(operator, *column)).collect::<Vec<_>>();
    for _ in 0..3 {
        operator = square(&operator);
    }
    let mut left = length;
    while left > 0 {
        if left & 1 == 1 {
            crc = apply(&operator, crc);
        }
        left >>= 1;
        if left > 0 {
            operator = square(&operator);
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: Algorithm, bytes: &[u8]) -> Sum {
        let mut digests = Digests::new(Some(algorithm));
        digests.update(bytes);
        digests.finish().sum.expect("a checksum")
    }

    #[test]
    fn checksums_of_parts_join_to_that_of_the_whole() {
        let whole: Vec<u8> = (0..100_000_u32).map(|number| (number * 7 % 251) as u8).collect();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let parts: Vec<(Sum, u64)> = [&whole[..1], &whole[1..70_000], &whole[70_000..70_000], &whole[70_000..]]
                .into_iter()
                .map(|part| (sum(algorithm, part), part.len() as u64))
                .collect();
            let parts: Vec<(&Sum, u64)> = parts.iter().map(|(sum, length)| (sum, *length)).collect();
            assert_eq!(joined(algorithm, &parts), Some(sum(algorithm, &whole)), "{algorithm:?}");
        }
        assert_eq!(joined(Algorithm::Sha256, &[]), None);
    }

    #[test]
    fn checksums_are_those_of_the_published_check_values() {
        // <https://reveng.sourceforge.io/crc-catalogue/>: the check value is that of "123456789".
        for (algorithm, hex) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
        ] {
            let value = BASE64.decode(sum(algorithm, b"123456789").value).expect("base64");
            assert_eq!(hex::encode(value), hex);
        }
    }
}
