//! Metadata by its address: fetched once, when an administrator names it.

use std::time::Duration;

use super::metadata::LONGEST;
use crate::{
    Error,
    sso::place::{FetchFault, caller, place, whole},
};

/// What stands at an address that begins with https (or http, on a loopback address). Within ten seconds, 1 MiB at most,
/// and no other address is followed.
pub(super) async fn fetch(address: &str) -> Result<String, Error> {
    let invalid = |rule| Error::Invalid { field: "metadata", rule };
    let url = place(address, true)
        .ok_or_else(|| invalid("XML, or an address that begins with https (or http, on a loopback address)"))?;
    let away = |fault: reqwest::Error| {
        // Said in the log alone: an answer would tell who asks what stands in the network of the service.
        tracing::warn!(cause = %fault.without_url(), "the metadata of an identity provider could not be fetched");
        invalid(NOT_THERE)
    };
    let client = caller(Duration::from_secs(10)).map_err(away)?;
    let (status, bytes) = whole(client.get(url), LONGEST).await.map_err(|fault| match fault {
        FetchFault::Away(fault) => away(fault),
        FetchFault::TooLong(_) => invalid("at most 1 MiB"),
    })?;
    if status != 200 {
        return Err(invalid(NOT_THERE));
    }
    String::from_utf8(bytes).map_err(|_| invalid("XML in UTF-8"))
}

const NOT_THERE: &str = "an address at which this service finds the metadata within 10 s, without a redirect";

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
        assert_eq!(fetch(&good).await.expect("fetched"), "<a/>");
        for (address, said) in [
            (serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", vec![b' '; 1 << 16], 1000).await, "1 MiB"),
            (serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", vec![0xff], 1).await, "UTF-8"),
            (serve("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", Vec::new(), 0).await, "finds"),
            (
                serve(
                    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                    Vec::new(),
                    0,
                )
                .await,
                "redirect",
            ),
            ("http://127.0.0.1:1/".to_owned(), "finds"),
            ("http://192.0.2.1/metadata".to_owned(), "https"),
            ("file:///etc/passwd".to_owned(), "https"),
        ] {
            let fault = fetch(&address).await.expect_err(said).to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
