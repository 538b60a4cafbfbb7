//! An object store that has nothing: enough for S3A to load what it uses. What is written to it is gone.

use std::net::TcpStream;

use super::http::{Request, reply};

/// Answers a request of S3A.
pub(super) fn answer(request: &Request, stream: &mut TcpStream) -> std::io::Result<()> {
    let xml = "Content-Type: application/xml\r\n";
    match request.method.as_str() {
        // Of length nothing, plain or in signed chunks.
        "PUT" if request.body.is_empty() || request.body.starts_with(b"0;") => reply(stream, 200, EMPTY_ETAG, b""),
        "PUT" | "POST" => reply(stream, 403, xml, error("AccessDenied").as_bytes()),
        "DELETE" => reply(stream, 204, "", b""),
        "GET" if request.target.contains("list-type=2") || request.target.contains("prefix=") => {
            let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <Name>rehearsal</Name><Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>\
                        <IsTruncated>false</IsTruncated></ListBucketResult>";
            reply(stream, 200, xml, body.as_bytes())
        }
        // The length of an answer to HEAD counts no body, and an empty one is right for both.
        "HEAD" => reply(stream, 404, "", b""),
        _ => reply(stream, 404, xml, error("NoSuchKey").as_bytes()),
    }
}

fn error(code: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>rehearsal</Message></Error>")
}

/// S3A compares this with the MD5 of what it sent: of nothing.
const EMPTY_ETAG: &str = "ETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\n";
