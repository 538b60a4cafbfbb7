//! Proxies in front of a listener, and what they say of a request: whose word counts, and how much of it.

use std::net::IpAddr;

use ipnet::IpNet;

/// From where a request comes: `peer`, or who one of the `trusted` proxies says that it is, which is the last address that
/// is not itself one of theirs. `forwarded` is what the request has as `X-Forwarded-For`, in its order; what stands before
/// something that is no address counts for nothing.
pub fn source_ip<'v>(peer: IpAddr, trusted: &[IpNet], forwarded: impl DoubleEndedIterator<Item = &'v [u8]>) -> IpAddr {
    let mut ip = peer.to_canonical();
    for hop in forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        if !is_of(ip, trusted) {
            break;
        }
        let next = std::str::from_utf8(hop.trim_ascii()).ok().and_then(|text| text.parse::<IpAddr>().ok());
        let Some(next) = next else { break };
        ip = next.to_canonical();
    }
    ip
}

/// Whether the client spoke TLS, if a request comes from one of the `trusted` proxies and that says so. `forwarded` is what
/// the request has as `X-Forwarded-Proto`, in its order: the last word is the proxy's own.
pub fn spoke_tls<'v>(
    peer: IpAddr,
    trusted: &[IpNet],
    mut forwarded: impl DoubleEndedIterator<Item = &'v [u8]>,
) -> Option<bool> {
    if !is_of(peer.to_canonical(), trusted) {
        return None;
    }
    let last = forwarded.next_back()?.rsplit(|byte| *byte == b',').next()?;
    Some(last.trim_ascii().eq_ignore_ascii_case(b"https"))
}

fn is_of(ip: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|block| block.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "203.0.113.9";

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "2001:db8::/32"].map(|block| block.parse().expect("a block")).to_vec()
    }

    #[test]
    fn an_address_counts_as_far_as_believed_proxies_vouch_for_it() {
        for (peer, forwarded, expected) in [
            ("192.0.2.1", &[CLIENT][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[CLIENT], CLIENT),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9"], CLIENT),
            ("10.0.0.1", &["127.0.0.1, 203.0.113.9, 10.0.0.2"], CLIENT),
            ("10.0.0.1", &["127.0.0.1", "203.0.113.9,10.0.0.2"], CLIENT),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.9"], CLIENT),
            ("2001:db8::1", &["2001:db9::7"], "2001:db9::7"),
            ("10.0.0.1", &["nonsense"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[CLIENT, "\u{e9}"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9:4711"], "10.0.0.1"),
        ] {
            let values = forwarded.iter().map(|value| value.as_bytes());
            let found = source_ip(peer.parse().expect("an address"), &trusted(), values);
            assert_eq!(found.to_string(), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn of_the_scheme_the_last_word_of_a_believed_proxy_counts() {
        for (peer, forwarded, expected) in [
            ("10.0.0.1", &["https"][..], Some(true)),
            ("::ffff:10.0.0.1", &["HTTPS"], Some(true)),
            ("10.0.0.1", &["http"], Some(false)),
            ("10.0.0.1", &["nonsense"], Some(false)),
            ("10.0.0.1", &[""], Some(false)),
            ("10.0.0.1", &["https, http"], Some(false)),
            ("10.0.0.1", &["https", "http"], Some(false)),
            ("10.0.0.1", &["http", "http , https"], Some(true)),
            ("10.0.0.1", &[], None),
            ("192.0.2.1", &["https"], None),
            ("192.0.2.1", &["http"], None),
        ] {
            let values = forwarded.iter().map(|value| value.as_bytes());
            let found = spoke_tls(peer.parse().expect("an address"), &trusted(), values);
            assert_eq!(found, expected, "{peer} {forwarded:?}");
        }
    }
}
