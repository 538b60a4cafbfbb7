//! Metadata by its address: fetched once, when an administrator names it.

use std::{fmt::Display, time::Duration};

use super::metadata::LONGEST;
use crate::{
    Error,
    sso::place::{Reach, whole},
};

/// What stands at an address that begins with https (or http, on a loopback address) within reach. Within ten seconds, 1 MiB
/// at most, and no other address is followed.
pub(super) async fn fetch(address: &str, reach: Reach) -> Result<String, Error> {
    let url = reach.place(address, true).ok_or(Error::Invalid {
        field: "metadata",
        rule: "XML, or an address that begins with https, of a host that this service may call",
    })?;
    let client = reach.caller(Duration::from_secs(10)).map_err(|fault| not_there(&model::chain(&fault)))?;
    let (status, bytes) = whole(client.get(url), LONGEST).await.map_err(|fault| not_there(&model::chain(&fault)))?;
    match String::from_utf8(bytes) {
        Ok(text) if status == 200 => Ok(text),
        _ => Err(not_there(&format_args!("status {status}, or it is not UTF-8"))),
    }
}

/// One answer for whatever is wrong at an address. Which it is stands in the log alone: an answer would tell who asks what
/// stands in the network of the service.
pub(super) fn not_there(cause: &impl Display) -> Error {
    tracing::warn!(%cause, "no metadata of an identity provider could be fetched");
    Error::Invalid { field: "metadata", rule: NOT_THERE }
}

const NOT_THERE: &str = "an address at which this service finds the metadata of an identity provider by SAML within 10 s, \
    in at most 1 MiB of UTF-8 and without a redirect; given as XML, what is wrong with it is said";

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with these bytes, again and again the last part.
    async fn serve(head: &'static str, part: Vec<u8>, times: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
            for _ in 0..times {
                if stream.write_all(&part).await.is_err() {
                    return;
                }
            }
        });
        format!("http://{address}/metadata")
    }

    #[tokio::test]
    async fn metadata_is_fetched_whole_or_not_at_all() {
        let good = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"<a/>".to_vec(), 1).await;
        assert_eq!(fetch(&good, Reach::Everywhere).await.expect("fetched"), "<a/>");
        let good = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"<a/>".to_vec(), 1).await;
        let fault = fetch(&good, Reach::Public).await.expect_err("of this machine").to_string();
        assert!(fault.contains("a host that this service may call"), "{fault}");
        let fault = fetch(&good.replace("http:", "https:"), Reach::Public).await.expect_err("by https").to_string();
        assert!(fault.contains("a host that this service may call"), "{fault}");
        for (address, said) in [
            (serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", vec![b' '; 1 << 16], 1000).await, NOT_THERE),
            (serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", vec![0xff], 1).await, NOT_THERE),
            (serve("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", Vec::new(), 0).await, NOT_THERE),
            (
                serve(
                    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                    Vec::new(),
                    0,
                )
                .await,
                NOT_THERE,
            ),
            ("http://127.0.0.1:1/".to_owned(), NOT_THERE),
            ("http://192.0.2.1/metadata".to_owned(), "https"),
            ("file:///etc/passwd".to_owned(), "https"),
        ] {
            let fault = fetch(&address, Reach::Everywhere).await.expect_err(said).to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
