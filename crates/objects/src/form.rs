//! Reads a browser's form (`multipart/form-data`, RFC 7578) as it comes: the fields before the file are held, within
//! bounds, and the file is a stream.

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use memchr::memmem;
use s3s::{Body, S3Error, S3Result, s3_error};

use crate::Error;

/// A form that is being read.
pub struct Form {
    body: Body,
    read: BytesMut,
    /// Line end, two dashes, boundary.
    delimiter: Vec<u8>,
    ended: bool,
    /// Whether a delimiter was just read.
    between: bool,
    /// How many bytes of fields and their heads were read.
    held: usize,
}

/// The head of a field.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name, in lower case: S3 takes names in any case.
    pub name: String,
    /// Of a file: the name that it has where it comes from.
    pub filename: Option<String>,
    /// Of a file: its type.
    pub content_type: Option<String>,
}

impl Form {
    /// Of a body and its `Content-Type`.
    pub fn new(content_type: &str, body: Body) -> S3Result<Form> {
        let boundary = parameter(content_type, "boundary").filter(|it| !it.is_empty() && it.len() <= LONGEST_BOUNDARY);
        let boundary = boundary.ok_or_else(|| malformed("the Content-Type names no boundary of 1 to 70 characters"))?;
        // The first delimiter has no line before it; so one is put there.
        let read = BytesMut::from("\r\n");
        Ok(Form {
            body,
            read,
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            ended: false,
            between: false,
            held: 0,
        })
    }

    /// The head of the next field; `None` behind the last. What is left of the field before is skipped, within the
    /// bound of fields.
    pub async fn next(&mut self) -> S3Result<Option<Head>> {
        if !self.between {
            self.until_delimiter().await?;
        }
        self.between = false;
        let line = self.line().await?;
        if line.starts_with(b"--") {
            self.ended = true;
            return Ok(None);
        }
        if !line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(malformed("a boundary is followed by text"));
        }
        let mut head = Head { name: String::new(), filename: None, content_type: None };
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let line = std::str::from_utf8(&line).map_err(|_| malformed("the head of a field is not UTF-8"))?;
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("the head of a field has no colon"))?;
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                head.name = parameter(value, "name").unwrap_or_default().to_ascii_lowercase();
                head.filename = parameter(value, "filename");
            } else if name.trim().eq_ignore_ascii_case("content-type") {
                head.content_type = Some(value.trim().to_owned());
            }
        }
        match head.name.is_empty() {
            true => Err(malformed("a field has no name")),
            false => Ok(Some(head)),
        }
    }

    /// The text of the field whose head was read last.
    pub async fn text(&mut self) -> S3Result<String> {
        let text = self.until_delimiter().await?;
        self.between = true;
        String::from_utf8(text.to_vec()).map_err(|_| malformed("the text of a field is not UTF-8"))
    }

    /// The bytes of the field whose head was read last; what comes behind it is not read. Ends with an error unless
    /// the field ends with a boundary.
    pub fn data(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        futures::stream::try_unfold(self, |mut form| async move {
            loop {
                if form.ended {
                    return Ok(None);
                }
                if let Some(at) = memmem::find(&form.read, &form.delimiter) {
                    form.ended = true;
                    let bytes = form.read.split_to(at).freeze();
                    return Ok(Some((bytes, form)));
                }
                // What could be the beginning of a delimiter stays.
                let sure = form.read.len().saturating_sub(form.delimiter.len() - 1);
                if sure > 0 {
                    let bytes = form.read.split_to(sure).freeze();
                    return Ok(Some((bytes, form)));
                }
                match form.body.next().await {
                    Some(bytes) => form.read.extend_from_slice(&bytes.map_err(Error::Body)?),
                    None => return Err(Error::Body("the form ends within a field".into())),
                }
            }
        })
    }

    /// Reads to the next delimiter and over it.
    async fn until_delimiter(&mut self) -> S3Result<Bytes> {
        let mut from = 0;
        loop {
            if let Some(at) = memmem::find(&self.read[from..], &self.delimiter) {
                let bytes = self.read.split_to(from + at).freeze();
                self.read.advance(self.delimiter.len());
                return self.hold(bytes);
            }
            from = self.read.len().saturating_sub(self.delimiter.len());
            self.more().await?;
        }
    }

    /// Reads a line and its end.
    async fn line(&mut self) -> S3Result<Bytes> {
        loop {
            if let Some(at) = memmem::find(&self.read, b"\r\n") {
                let line = self.read.split_to(at).freeze();
                // The last line may have no end.
                self.read.advance(2);
                return self.hold(line);
            }
            if self.read.starts_with(b"--") {
                return self.hold(self.read.clone().freeze());
            }
            self.more().await?;
        }
    }

    fn hold(&mut self, bytes: Bytes) -> S3Result<Bytes> {
        self.held += bytes.len();
        if self.held > MOST_HELD { Err(too_much()) } else { Ok(bytes) }
    }

    async fn more(&mut self) -> S3Result<()> {
        if self.held + self.read.len() > MOST_HELD + MOST_AHEAD {
            return Err(too_much());
        }
        match self.body.next().await {
            Some(bytes) => self.read.extend_from_slice(&bytes.map_err(Error::Body)?),
            None => return Err(malformed("the form ends before its last boundary")),
        }
        Ok(())
    }
}

/// A parameter of a header such as `form-data; name="file"; filename="x.txt"`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (text, next) = match after.strip_prefix('"') {
            None => after
                .split_once(';')
                .map_or((after.trim().to_owned(), ""), |(text, next)| (text.trim().to_owned(), next)),
            Some(quoted) => {
                // Browsers write a quote as `%22`; others escape it. A lone backslash is one of a path.
                let mut text = String::new();
                let mut characters = quoted.char_indices().peekable();
                let end = loop {
                    match characters.next()? {
                        (at, '"') => break at,
                        (_, '\\') if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                            characters.next();
                            text.push('"');
                        }
                        (_, character) => text.push(character),
                    }
                };
                (text, quoted[end + 1..].split_once(';').map_or("", |(_, next)| next))
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(text.replace("%22", "\""));
        }
        rest = next;
    }
}

fn malformed(why: &'static str) -> S3Error {
    s3_error!(MalformedPOSTRequest, "The body of your POST request is not well-formed multipart/form-data: {why}")
}

fn too_much() -> S3Error {
    s3_error!(MaxPostPreDataLengthExceededError, "the fields before the file have more than {MOST_HELD} bytes")
}

/// What S3 allows before the file
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>).
const MOST_HELD: usize = 20 << 10;
/// What the connection may give at once.
const MOST_AHEAD: usize = 1 << 20;
/// RFC 2046, section 5.1.1.
const LONGEST_BOUNDARY: usize = 70;

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    fn form(pieces: &[&str]) -> Form {
        let pieces: Vec<Result<Bytes, Error>> =
            pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece.as_bytes()))).collect();
        let stream = futures::stream::iter(pieces);
        let body = Body::from(s3s::dto::StreamingBlob::wrap(stream));
        Form::new("multipart/form-data; charset=x; boundary=\"B B\"", body).expect("a form")
    }

    const WHOLE: &str = "--B B\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na/${filename}\r\n--B B  \r\n\
        content-disposition: form-data; filename=\"C:\\x\\a \\\"%22.txt\"; name=file\r\nContent-Type: text/plain\r\n\r\n\
        one\r\n--B\r\n two\r\n--B B--\r\n";

    #[tokio::test]
    async fn fields_and_file_come_out_however_the_bytes_arrive() {
        for size in [1, 2, 7, 64, WHOLE.len()] {
            let pieces: Vec<&str> =
                WHOLE.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).expect("ASCII")).collect();
            let mut form = form(&pieces);
            let head = form.next().await.expect("well-formed").expect("a field");
            assert_eq!(head, Head { name: "key".to_owned(), filename: None, content_type: None });
            assert_eq!(form.text().await.expect("text"), "a/${filename}");
            let head = form.next().await.expect("well-formed").expect("a field");
            assert_eq!((head.name.as_str(), head.content_type.as_deref()), ("file", Some("text/plain")));
            assert_eq!(head.filename.as_deref(), Some("C:\\x\\a \"\".txt"));
            let data: Vec<Bytes> = form.data().try_collect().await.expect("whole");
            assert_eq!(data.concat(), b"one\r\n--B\r\n two");
        }
    }

    #[tokio::test]
    async fn a_file_ends_at_its_boundary_or_with_an_error() {
        for (text, whole) in [("one\r\n--B\r\n two\r\n--B B--", true), ("one\r\n--B", false), ("one", false)] {
            let text = format!("--B B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{text}");
            let mut form = form(&[&text]);
            assert_eq!(form.next().await.expect("well-formed").expect("a field").name, "file");
            let data: Vec<Result<Bytes, Error>> = form.data().collect().await;
            assert_eq!(data.iter().all(Result::is_ok), whole);
        }
    }

    #[tokio::test]
    async fn what_is_before_the_file_is_bounded() {
        let field = format!("--B B\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n{}\r\n", "x".repeat(5000));
        let mut form = form(&[&field.repeat(9)]);
        let mut read = 0;
        let refusal = loop {
            let text = match form.next().await {
                Ok(head) => {
                    assert!(head.is_some(), "all of it was read");
                    form.text().await
                }
                Err(refusal) => Err(refusal),
            };
            match text {
                Ok(text) => read += text.len(),
                Err(refusal) => break refusal,
            }
        };
        assert!(read <= MOST_HELD);
        assert_eq!(refusal.code(), &s3s::S3ErrorCode::MaxPostPreDataLengthExceededError);
    }
}
