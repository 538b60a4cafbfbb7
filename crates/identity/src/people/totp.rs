//! One-time codes by time (RFC 6238): HMAC-SHA-1, six digits, steps of thirty seconds, which is what every authenticator app
//! has. A code of the step before or after is good too, for clocks differ.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::Error;

/// A new secret: 160 bits in Base32, 32 letters and digits.
pub(crate) fn new_secret() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; 20]);
    crypto::random(&mut *bytes).map_err(|_| Error::NoRandom)?;
    Ok(base32(&*bytes))
}

/// What an authenticator app reads, as a QR code or typed in.
/// <https://github.com/google/google-authenticator/wiki/Key-Uri-Format>
pub(crate) fn uri(account: &str, login: &str, secret: &str) -> Zeroizing<String> {
    let label: String = format!("{account}/{login}").bytes().map(escaped).collect();
    Zeroizing::new(format!(
        "otpauth://totp/Casemate:{label}?secret={secret}&issuer=Casemate&algorithm=SHA1&digits=6&period=30"
    ))
}

/// The step whose code this is, among those that are good at `now`; the time taken does not tell which.
pub(crate) fn step_of(secret: &str, code: &str, now: Timestamp) -> Result<Option<i64>, Error> {
    let key = unbase32(secret).ok_or(Error::Damaged { what: "secret of one-time codes" })?;
    let current = now.as_second().div_euclid(STEP);
    let mut found = None;
    for step in current - 1..=current + 1 {
        let right = digits(&key, step);
        if crypto::equal(right.as_bytes(), code.as_bytes()) {
            found = Some(step);
        }
    }
    Ok(found)
}

/// RFC 4226, section 5.3.
fn digits(key: &[u8], step: i64) -> Zeroizing<String> {
    let mac = crypto::digest::hmac_sha1(key, &[&step.to_be_bytes()]);
    let at = usize::from(mac[19] & 0x0f);
    let word = u32::from_be_bytes([mac[at] & 0x7f, mac[at + 1], mac[at + 2], mac[at + 3]]);
    Zeroizing::new(format!("{:06}", word % 1_000_000))
}

/// RFC 4648, section 6, of whole groups of five bytes.
pub(crate) fn base32(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() / 5 * 8));
    for group in bytes.chunks_exact(5) {
        let word = group.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            text.push(char::from(ALPHABET[usize::try_from(word >> (place * 5) & 31).unwrap_or(0)]));
        }
    }
    text
}

fn unbase32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 8 * 5));
    for group in text.as_bytes().chunks(8) {
        let mut word = 0_u64;
        for letter in group {
            word = word << 5 | u64::try_from(ALPHABET.iter().position(|known| known == letter)?).ok()?;
        }
        if group.len() != 8 {
            return None;
        }
        bytes.extend_from_slice(&word.to_be_bytes()[3..]);
    }
    Some(bytes)
}

fn escaped(byte: u8) -> String {
    match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    }
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const STEP: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_rfc_6238() {
        // Appendix B, the last six of its eight digits; the secret is "12345678901234567890".
        let secret = base32(b"12345678901234567890");
        assert_eq!(*secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for (second, code) in [
            (59_i64, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let at = |second: i64| Timestamp::from_second(second).expect("a time");
            let step = second.div_euclid(STEP);
            for now in [second, second - STEP, second + STEP] {
                assert_eq!(step_of(&secret, code, at(now)).expect("read"), Some(step), "{second}");
            }
            for now in [second - 2 * STEP, second + 2 * STEP] {
                assert_eq!(step_of(&secret, code, at(now)).expect("read"), None, "{second}");
            }
        }
        let now = Timestamp::from_second(59).expect("a time");
        for wrong in ["", "28708", "2870820", "94287082", "287083", "２８７０８２"] {
            assert_eq!(step_of(&secret, wrong, now).expect("read"), None, "{wrong}");
        }
    }

    #[test]
    fn base32_is_read_back_and_nothing_else_is_read() {
        let secret = new_secret().expect("random");
        assert_eq!(secret.len(), 32);
        assert_eq!(base32(&unbase32(&secret).expect("read")), secret);
        for wrong in ["A", "AAAAAAA1", "aaaaaaaa"] {
            assert!(unbase32(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_name_in_the_address_of_an_app_is_one_part_of_it() {
        let text = uri("ab1234-casemate", "a?b@c", "SECRET");
        assert!(text.starts_with("otpauth://totp/Casemate:ab1234-casemate%2Fa%3Fb%40c?secret=SECRET&"), "{}", *text);
    }
}
