//! Addresses that others name, and what is fetched from them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// How far the calls of this service to providers go. Each administrator of an account names a provider: without a bound it
/// could have this service call whatever stands in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    /// To addresses that everybody reaches, by https.
    #[default]
    Public,
    /// To those of private networks and of this machine too, where the operator allows it; on this machine by http as well.
    Everywhere,
}

impl Reach {
    /// An address that this service may call: one of [`place`] within reach. A name is held against what it resolves to, by
    /// [`Reach::caller`].
    pub fn place(self, text: &str, is_loopback_good: bool) -> Option<Url> {
        let url = place(text, is_loopback_good && self == Reach::Everywhere)?;
        let is_within = match url.host()? {
            Host::Ipv4(address) => is_public(address.into()),
            Host::Ipv6(address) => is_public(address.into()),
            Host::Domain(_) => true,
        };
        (is_within || self == Reach::Everywhere).then_some(url)
    }

    /// Something that makes such calls: no other address is followed, and after `time` it gives up.
    pub fn caller(self, time: Duration) -> Result<reqwest::Client, reqwest::Error> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(time);
        match self {
            // A proxy would resolve names by itself.
            Reach::Public => builder.no_proxy().dns_resolver(PublicNames).build(),
            Reach::Everywhere => builder.build(),
        }
    }
}

/// Resolves names to addresses that everybody reaches, for the connection itself: so a name cannot be another one then.
struct PublicNames;

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0_u16)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err("the name has no address that everybody reaches".into());
            }
            let public: Addrs = Box::new(public.into_iter());
            Ok::<Addrs, Box<dyn std::error::Error + Send + Sync>>(public)
        })
    }
}

/// Whether an address is none of a private network, of this machine or of another special use
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>, <https://www.iana.org/assignments/iana-ipv6-special-registry>).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let is_special =
                matches!((a, b, c), (0 | 240.., ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _));
            let is_within = ip.is_private() || ip.is_loopback() || ip.is_link_local();
            !(is_special || is_within || ip.is_multicast() || ip.is_documentation())
        }
        IpAddr::V6(ip) => match ip.segments() {
            // An address of IPv4 behind NAT64 (RFC 6052).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                is_public(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into())
            }
            // Teredo and other protocols, documentation, 6to4.
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] => false,
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}

/// An address that a browser may be sent to: one of https, or of http on a loopback address if
/// `is_loopback_good`. Without a name and password in it, at most 2048 bytes.
pub(crate) fn place(text: &str, is_loopback_good: bool) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_good = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback_good && is_loopback(&url),
        _ => false,
    };
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (is_good && is_bare && text.len() <= LONGEST_URL).then_some(url)
}

/// Whether an address is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Why an answer is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchFault {
    /// It did not come, or not in time.
    #[error(transparent)]
    Away(reqwest::Error),
    /// It has more bytes than it may.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Status and body of an answer of at most `most` bytes.
pub(crate) async fn whole(request: reqwest::RequestBuilder, most: usize) -> Result<(u16, Vec<u8>), FetchFault> {
    // What an address holds is nobody's business that reads the log.
    let away = |fault: reqwest::Error| FetchFault::Away(fault.without_url());
    let mut answer = request.send().await.map_err(away)?;
    let status = answer.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(away)? {
        if bytes.len() + chunk.len() > most {
            return Err(FetchFault::TooLong(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((status, bytes))
}

const LONGEST_URL: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_of_https_or_on_this_machine() {
        for (text, without, with) in [
            ("https://idp.example.org/realms/a", true, true),
            ("https://10.0.0.1:8443", true, true),
            ("http://127.0.0.1:8080/realms/a", false, true),
            ("http://[::1]:8080", false, true),
            ("http://localhost", false, true),
            ("http://idp.example.org", false, false),
            ("http://169.254.169.254/latest/meta-data", false, false),
            ("http://localhost.example.org", false, false),
            ("https://user:secret@idp.example.org", false, false),
            ("https://idp.example.org/#a", false, false),
            ("file:///etc/passwd", false, false),
            ("idp.example.org", false, false),
            ("", false, false),
        ] {
            assert_eq!((place(text, false).is_some(), place(text, true).is_some()), (without, with), "{text}");
            assert_eq!(Reach::Everywhere.place(text, true).is_some(), with, "{text}");
        }
    }

    #[test]
    fn what_stands_in_private_networks_and_on_this_machine_is_within_reach_only_where_the_operator_says_so() {
        for (host, is_good) in [
            ("idp.example.org", true),
            ("1.1.1.1", true),
            ("[2606:4700:4700::1111]", true),
            ("[64:ff9b::1.1.1.1]", true),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1:8443", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("0x7f.1", false),
            ("2130706433", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("192.0.2.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("[::]", false),
            ("[::1]", false),
            ("[::ffff:10.0.0.1]", false),
            ("[64:ff9b::10.0.0.1]", false),
            ("[fd00::1]", false),
            ("[fe80::1]", false),
            ("[2001:db8::1]", false),
            ("[2002:a00:1::1]", false),
        ] {
            let url = format!("https://{host}/realms/a");
            assert_eq!(Reach::Public.place(&url, true).is_some(), is_good, "{url}");
            assert!(Reach::Everywhere.place(&url, true).is_some(), "{url}");
            assert!(Reach::Public.place(&format!("http://{host}/"), true).is_none(), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_is_called_at_public_addresses_alone() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let url = format!("http://localhost:{}/", listener.local_addr().expect("an address").port());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi").await;
            }
        });
        let call = async |reach: Reach| {
            let caller = reach.caller(Duration::from_secs(10)).expect("a caller");
            whole(caller.get(&url), 1024).await
        };
        assert!(matches!(call(Reach::Public).await, Err(FetchFault::Away(_))));
        assert_eq!(call(Reach::Everywhere).await.expect("an answer"), (200, b"hi".to_vec()));
    }
}
