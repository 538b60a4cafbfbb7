//! Percent-decoding that refuses what it cannot decode, where the ecosystem's replaces it.

/// Why a text cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("'%' is followed by two hexadecimal digits, the bytes are UTF-8, none of them 0")]
pub(crate) struct Undecodable;

/// Decodes `%XX`; with `plus`, `+` is a space, as in forms and queries.
pub(crate) fn decode(text: &str, plus: bool) -> Result<String, Undecodable> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(Undecodable);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).map_err(|_| Undecodable)?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| Undecodable)?;
    if text.contains('\0') { Err(Undecodable) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        assert_eq!(decode("a%20b+c%C3%A9", true).as_deref(), Ok("a b cé"));
        assert_eq!(decode("a+b", false).as_deref(), Ok("a+b"));
        for wrong in ["%", "%4", "%zz", "%ff", "%00", "a%C3", "%+1"] {
            assert!(decode(wrong, true).is_err(), "{wrong}");
        }
    }
}
