//! Addresses that others name, and what is fetched from them.

use std::time::Duration;

use url::{Host, Url};

/// An address that this service may call or send a browser to: one of https, or of http on a loopback address if
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

/// Something that makes such calls: no other address is followed, and after `time` it gives up.
pub(crate) fn caller(time: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(time).build()
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
        }
    }
}
