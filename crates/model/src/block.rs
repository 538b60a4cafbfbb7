//! Blocks of addresses, as people and policies write them.

use std::net::IpAddr;

use ipnet::IpNet;

/// An address, or a block of them in CIDR form (RFC 4632, RFC 4291): `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
/// `None` for anything else. A number with a leading zero is refused, in the address and in the length: some read
/// `010` as eight, and a bound that two readers see differently is none.
pub fn parse_block(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    plain.then(|| IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks_have_one_reading() {
        for (given, read) in [
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("::1", Some("::1/128")),
            ("096.0.2.0/24", None),
            ("192.0.2.010", None),
            ("192.0.2.0/024", None),
            ("192.0.2.0/00", None),
            ("192.0.2.0/+8", None),
            ("192.0.2.0/", None),
            ("192.0.2.0/33", None),
            ("192.0.2/24", None),
            ("2001:db8::/129", None),
            ("", None),
        ] {
            assert_eq!(parse_block(given).map(|block| block.to_string()).as_deref(), read, "{given:?}");
        }
    }
}
