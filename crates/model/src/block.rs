//! Blocks of addresses, as people and policies write them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// An address, or a block of them in CIDR form (RFC 4632, RFC 4291): `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
/// `None` for anything else. What is written as IPv4-mapped (`::ffff:192.0.2.0/120`) is the IPv4 block, for addresses are
/// compared in that form; a wider one (`::/0`) is one of IPv6 alone. A number with a leading zero is refused, in the address and in the length: some read
/// `010` as eight, and a bound that two readers see differently is none.
pub fn parse_block(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    plain.then(|| IpNet::new(address.parse().ok()?, length.parse().ok()?).ok().map(canonical)).flatten()
}

fn canonical(block: IpNet) -> IpNet {
    let IpNet::V6(written) = block else { return block };
    let mapped = written.addr().to_ipv4_mapped().zip(written.prefix_len().checked_sub(96));
    let mapped = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    mapped.map_or(block, IpNet::V4)
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
            ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
            ("::ffff:192.0.2.0/120", Some("192.0.2.0/24")),
            ("::ffff:c000:207/128", Some("192.0.2.7/32")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("::ffff:0:0/95", Some("::ffff:0.0.0.0/95")),
            ("::192.0.2.0/120", Some("::c000:200/120")),
            ("::/0", Some("::/0")),
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
