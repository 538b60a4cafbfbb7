//! Bodies in chunks of the AWS form (`aws-chunked`). `s3s` holds a chunk in memory, however long it says it is, so the
//! length is bounded here; and where a request was signed again, so is each chunk
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use s3s::{Body, dto::StreamingBlob};

use crate::{
    access::BoxError,
    region::{Signer, digest},
};

/// How the chunks of a body are signed.
pub struct Chunks {
    /// For those that are signed again.
    pub resigned: Option<Resigned>,
    /// Whether headers come behind the last chunk.
    pub with_trailer: bool,
}

/// Signers for the signatures that came and those that go on, and the last of each.
pub struct Resigned {
    pub old: Signer,
    pub new: Signer,
    pub old_previous: String,
    pub new_previous: String,
}

/// Why chunks are not passed on. The words are those of `s3s`, which the answer is chosen by.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("SignatureMismatch")]
    Signature,
    #[error("FormatError")]
    Format,
    #[error("ChunkTooLarge: more than {MOST_CHUNK} bytes")]
    TooLarge,
    #[error("Incomplete")]
    Incomplete,
}

impl Chunks {
    /// The same body, of bounded chunks.
    pub fn filter(self, body: Body) -> Body {
        let state = State { chunks: self, body, read: BytesMut::new(), ready: VecDeque::new(), done: false };
        let stream = futures::stream::try_unfold(state, |mut state| async move {
            loop {
                if let Some(bytes) = state.ready.pop_front() {
                    return Ok::<_, BoxError>(Some((bytes, state)));
                }
                if state.done {
                    return Ok(None);
                }
                state.next().await?;
            }
        });
        Body::from(StreamingBlob::wrap(Filtered(Mutex::new(stream.boxed()))))
    }
}

struct State {
    chunks: Chunks,
    body: Body,
    read: BytesMut,
    ready: VecDeque<Bytes>,
    done: bool,
}

impl State {
    /// Reads one chunk and makes it ready.
    async fn next(&mut self) -> Result<(), BoxError> {
        let line = self.line().await?;
        let line = std::str::from_utf8(&line).map_err(|_| Error::Format)?;
        let (size, signature) = match line.split_once(';') {
            Some((size, extension)) => (size, extension.strip_prefix("chunk-signature=")),
            None => (line, None),
        };
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| Error::Format)?;
        if size > MOST_CHUNK {
            return Err(Error::TooLarge.into());
        }
        if size == 0 {
            return self.end(line, signature).await;
        }
        self.fill(size + 2).await?;
        let mut data = self.read.split_to(size + 2).freeze();
        if data.split_off(size) != "\r\n".as_bytes() {
            return Err(Error::Format.into());
        }
        let head = match &mut self.chunks.resigned {
            None => format!("{line}\r\n"),
            Some(resigned) => {
                let signature = resigned.chunk(signature.ok_or(Error::Format)?, &data)?;
                format!("{size:x};chunk-signature={signature}\r\n")
            }
        };
        self.ready.extend([Bytes::from(head), data, Bytes::from_static(b"\r\n")]);
        Ok(())
    }

    /// The last chunk, which is empty, and what comes behind it.
    async fn end(&mut self, line: &str, signature: Option<&str>) -> Result<(), BoxError> {
        while let Some(bytes) = self.body.next().await.transpose()? {
            self.read.extend_from_slice(&bytes);
            if self.read.len() > MOST_TRAILER {
                return Err(Error::Format.into());
            }
        }
        self.done = true;
        let rest = self.read.split().freeze();
        let Some(resigned) = &mut self.chunks.resigned else {
            self.ready.extend([Bytes::from(format!("{line}\r\n")), rest]);
            return Ok(());
        };
        let signature = resigned.chunk(signature.ok_or(Error::Format)?, &[])?;
        let mut text = format!("0;chunk-signature={signature}\r\n");
        if self.chunks.with_trailer {
            text.push_str(&resigned.trailer(std::str::from_utf8(&rest).map_err(|_| Error::Format)?)?);
        }
        text.push_str("\r\n");
        self.ready.push_back(Bytes::from(text));
        Ok(())
    }

    /// A line, without its end.
    async fn line(&mut self) -> Result<Bytes, BoxError> {
        loop {
            if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line = self.read.split_to(at).freeze();
                self.read.advance(2);
                return Ok(line);
            }
            if self.read.len() > MOST_LINE {
                return Err(Error::Format.into());
            }
            self.more().await?;
        }
    }

    async fn fill(&mut self, length: usize) -> Result<(), BoxError> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<(), BoxError> {
        let bytes = self.body.next().await.ok_or(Error::Incomplete)??;
        self.read.extend_from_slice(&bytes);
        Ok(())
    }
}

impl Resigned {
    fn chunk(&mut self, signature: &str, data: &[u8]) -> Result<String, Error> {
        let (empty, data) = (digest(""), hex::encode(crypto::digest::sha256(&[data])));
        let expected = self.old.sign(CHUNK, &[&self.old_previous, &empty, &data]);
        if !crypto::equal(expected.as_bytes(), signature.as_bytes()) {
            return Err(Error::Signature);
        }
        self.new_previous = self.new.sign(CHUNK, &[&self.new_previous, &empty, &data]);
        self.old_previous = expected;
        Ok(self.new_previous.clone())
    }

    /// Headers behind the last chunk, with their signature.
    fn trailer(&self, text: &str) -> Result<String, Error> {
        let mut fields: Vec<(String, &str)> = Vec::new();
        let mut signature = None;
        for line in text.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Error::Format)?;
            match name.to_ascii_lowercase() {
                name if name == "x-amz-trailer-signature" => signature = Some(value.trim()),
                name => fields.push((name, value.trim())),
            }
        }
        fields.sort();
        let canonical: String = fields.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let expected = self.old.sign(TRAILER, &[&self.old_previous, &digest(&canonical)]);
        if !signature.is_some_and(|signature| crypto::equal(expected.as_bytes(), signature.as_bytes())) {
            return Err(Error::Signature);
        }
        let signature = self.new.sign(TRAILER, &[&self.new_previous, &digest(&canonical)]);
        let lines: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        Ok(format!("{lines}x-amz-trailer-signature:{signature}\r\n"))
    }
}

/// A mutex that is never locked makes a stream `Sync`, which `s3s` asks for.
struct Filtered(Mutex<BoxStream<'static, Result<Bytes, BoxError>>>);

/// An error of any kind as one of a known type.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Opaque(BoxError);

impl Stream for Filtered {
    type Item = Result<Bytes, Opaque>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        stream.poll_next_unpin(context).map(|next| next.map(|result| result.map_err(Opaque)))
    }
}

const CHUNK: &str = "AWS4-HMAC-SHA256-PAYLOAD";
const TRAILER: &str = "AWS4-HMAC-SHA256-TRAILER";
/// Clients send chunks of 64 KiB to 1 MiB.
const MOST_CHUNK: usize = 2 << 20;
const MOST_LINE: usize = 1024;
const MOST_TRAILER: usize = 16 << 10;
