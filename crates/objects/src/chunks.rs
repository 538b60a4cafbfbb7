//! Bodies in chunks of the AWS form (`aws-chunked`). `s3s` holds a chunk in memory, however long it says it is, so that
//! long chunks are cut into short ones here; and where a request was signed again, or a signed chunk was cut, so is each
//! chunk that follows (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use s3s::{
    Body,
    crypto::{Checksum as _, Sha256},
    dto::StreamingBlob,
};

use crate::{
    access::BoxError,
    region::{Signer, digest},
};

/// How the chunks of a body are signed.
pub struct Chunks {
    /// For chunks that are signed.
    pub signers: Option<Signers>,
    /// Whether headers come behind the last chunk.
    pub with_trailer: bool,
}

/// Signers for the signatures that came and those that go on, and the last of each.
pub struct Signers {
    pub old: Signer,
    pub new: Signer,
    pub old_previous: String,
    pub new_previous: String,
    /// Whether what goes on is signed by `new`. Until then all goes on as it came, and `s3s` verifies it.
    pub again: bool,
}

/// Why chunks are not passed on. The words are those of `s3s`, which the answer is chosen by.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("SignatureMismatch")]
    Signature,
    #[error("FormatError")]
    Format,
    #[error("Incomplete")]
    Incomplete,
}

impl Chunks {
    /// The same body, of short chunks.
    pub fn filter(self, body: Body) -> Body {
        let state =
            State { chunks: self, body, read: BytesMut::new(), ready: VecDeque::new(), long: None, done: false };
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
    long: Option<Long>,
    done: bool,
}

/// A chunk that is passed on in pieces.
struct Long {
    left: u64,
    /// What its signature is to be, and what was hashed of it so far.
    signed: Option<(String, Sha256)>,
}

impl State {
    /// Reads one chunk, or a piece of one, and makes it ready.
    async fn next(&mut self) -> Result<(), BoxError> {
        if let Some(long) = self.long.take() {
            return self.piece(long).await;
        }
        let line = self.line().await?;
        let line = std::str::from_utf8(&line).map_err(|_| Error::Format)?;
        let (size, signature) = match line.split_once(';') {
            Some((size, extension)) => (size, extension.strip_prefix("chunk-signature=")),
            None => (line, None),
        };
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::Format.into());
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| Error::Format)?;
        if size == 0 {
            return self.end(line, signature).await;
        }
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= SHORT) else {
            let signed = match &mut self.chunks.signers {
                None => None,
                Some(signers) => {
                    if !signers.again {
                        signers.again = true;
                        signers.new_previous.clone_from(&signers.old_previous);
                    }
                    Some((signature.ok_or(Error::Format)?.to_owned(), Sha256::new()))
                }
            };
            return self.piece(Long { left: size, signed }).await;
        };
        self.fill(size + 2).await?;
        let mut data = self.read.split_to(size + 2).freeze();
        if data.split_off(size) != "\r\n".as_bytes() {
            return Err(Error::Format.into());
        }
        let head = match &mut self.chunks.signers {
            Some(signers) if signers.again => {
                let signature = signers.chunk(signature.ok_or(Error::Format)?, &data)?;
                format!("{size:x};chunk-signature={signature}\r\n")
            }
            signers => {
                if let (Some(signers), Some(signature)) = (signers, signature) {
                    signature.clone_into(&mut signers.old_previous);
                }
                format!("{line}\r\n")
            }
        };
        self.ready.extend([Bytes::from(head), data, Bytes::from_static(b"\r\n")]);
        Ok(())
    }

    /// The next piece of a long chunk. That the chunk is the one that was signed shows at its end; so its last piece is
    /// passed on only then, and nothing is stored of a body that did not end well.
    async fn piece(&mut self, mut long: Long) -> Result<(), BoxError> {
        let left = usize::try_from(long.left).unwrap_or(usize::MAX);
        self.fill(left.min(PIECE)).await?;
        let data = self.read.split_to(left.min(self.read.len()).min(SHORT)).freeze();
        long.left -= data.len() as u64;
        let size = data.len();
        if let Some((_, hash)) = &mut long.signed {
            hash.update(&data);
        }
        let head = match (&mut self.chunks.signers, &long.signed) {
            (Some(signers), Some(_)) => format!("{size:x};chunk-signature={}\r\n", signers.sign(&sha256(&data))),
            _ => format!("{size:x}\r\n"),
        };
        if long.left > 0 {
            self.long = Some(long);
        } else {
            self.fill(2).await?;
            if self.read.split_to(2) != "\r\n".as_bytes() {
                return Err(Error::Format.into());
            }
            if let (Some(signers), Some((signature, hash))) = (&mut self.chunks.signers, long.signed) {
                signers.verify(&signature, &hex::encode(hash.finalize()))?;
            }
        }
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
        let Some(signers) = self.chunks.signers.as_mut().filter(|signers| signers.again) else {
            self.ready.extend([Bytes::from(format!("{line}\r\n")), rest]);
            return Ok(());
        };
        let signature = signers.chunk(signature.ok_or(Error::Format)?, &[])?;
        let mut text = format!("0;chunk-signature={signature}\r\n");
        if self.chunks.with_trailer {
            text.push_str(&signers.trailer(std::str::from_utf8(&rest).map_err(|_| Error::Format)?)?);
        }
        text.push_str("\r\n");
        self.ready.push_back(Bytes::from(text));
        Ok(())
    }

    /// A line, without its end.
    async fn line(&mut self) -> Result<Bytes, BoxError> {
        loop {
            if let Some(at) = self.read.windows(2).take(MOST_LINE).position(|two| two == b"\r\n") {
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

impl Signers {
    /// Verifies a chunk that came, and signs it as one that goes on.
    fn chunk(&mut self, signature: &str, data: &[u8]) -> Result<String, Error> {
        let data = sha256(data);
        self.verify(signature, &data)?;
        Ok(self.sign(&data))
    }

    /// Verifies a chunk that came, of this digest.
    fn verify(&mut self, signature: &str, data: &str) -> Result<(), Error> {
        let expected = self.old.sign(CHUNK, &[&self.old_previous, &digest(""), data]);
        if !crypto::equal(expected.as_bytes(), signature.as_bytes()) {
            return Err(Error::Signature);
        }
        self.old_previous = expected;
        Ok(())
    }

    /// The signature of a chunk that goes on, of this digest.
    fn sign(&mut self, data: &str) -> String {
        self.new_previous = self.new.sign(CHUNK, &[&self.new_previous, &digest(""), data]);
        self.new_previous.clone()
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

fn sha256(data: &[u8]) -> String {
    hex::encode(crypto::digest::sha256(&[data]))
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
/// Chunks that are passed on as they came. Most clients send 64 KiB to 128 KiB.
const SHORT: usize = 256 << 10;
/// Pieces of longer ones have at least so many bytes, but for the last.
const PIECE: usize = 64 << 10;
const MOST_LINE: usize = 1024;
const MOST_TRAILER: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Credential;

    fn signer() -> Signer {
        let credential = Credential::parse("key/20250101/gra/s3/aws4_request").expect("a credential");
        Signer::new("secret", &credential, "20250101T000000Z")
    }

    fn signers(again: bool) -> Signers {
        let (old, new) = (signer(), signer());
        Signers { old, new, old_previous: "seed".to_owned(), new_previous: "seed".to_owned(), again }
    }

    /// Chunks of these sizes, signed one after another.
    fn body(sizes: &[usize]) -> Vec<u8> {
        let mut signers = signers(true);
        let mut body = Vec::new();
        for size in sizes.iter().chain([&0]) {
            let data = vec![b'x'; *size];
            body.extend_from_slice(format!("{size:x};chunk-signature={}\r\n", signers.sign(&sha256(&data))).as_bytes());
            body.extend_from_slice(&data);
            body.extend_from_slice(b"\r\n");
        }
        body
    }

    async fn filtered(body: Vec<u8>, signers: Option<Signers>) -> Result<Vec<u8>, BoxError> {
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            body.chunks(9_999).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let body = Body::from(StreamingBlob::wrap(futures::stream::iter(pieces)));
        let mut out = Vec::new();
        let mut filtered = Chunks { signers, with_trailer: false }.filter(body);
        while let Some(bytes) = filtered.next().await {
            out.extend_from_slice(&bytes?);
        }
        Ok(out)
    }

    /// The data of chunks, none longer than one may be, each signed as it must be.
    fn data(mut body: &[u8], mut signers: Option<Signers>) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            let end = body.windows(2).position(|two| two == b"\r\n").expect("a line");
            let line = std::str::from_utf8(&body[..end]).expect("text");
            let (size, signature) = line.split_once(";chunk-signature=").unwrap_or((line, ""));
            let size = usize::from_str_radix(size, 16).expect("a size");
            assert!(size <= SHORT, "{size}");
            let chunk = &body[end + 2..end + 2 + size];
            if let Some(signers) = &mut signers {
                signers.verify(signature, &sha256(chunk)).expect("the signature of a chunk");
            }
            data.extend_from_slice(chunk);
            if size == 0 {
                return data;
            }
            body = &body[end + 2 + size + 2..];
        }
    }

    #[tokio::test]
    async fn long_chunks_are_cut_and_stay_what_was_signed() {
        for sizes in [&[1000][..], &[SHORT], &[SHORT + 1], &[70_000, 3 << 20, 5, SHORT], &[1 << 20, 1 << 20]] {
            for again in [false, true] {
                let out = filtered(body(sizes), Some(signers(again))).await.expect("it is as it was signed");
                assert_eq!(data(&out, Some(signers(true))).len(), sizes.iter().sum::<usize>(), "{sizes:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_long_chunk_of_another_signature_is_not_passed_on_whole() {
        for at in [200, 500_000, (1 << 20) + 80] {
            let mut body = body(&[1 << 20, 10]);
            body[at] ^= 1;
            let refused = filtered(body, Some(signers(false))).await.expect_err("it is not as it was signed");
            assert_eq!(refused.to_string(), Error::Signature.to_string(), "{at}");
        }
    }

    #[tokio::test]
    async fn a_whole_body_may_be_one_chunk() {
        let long = [format!("{:x}\r\n", 5 << 20).into_bytes(), vec![b'x'; 5 << 20], b"\r\n0\r\n\r\n".to_vec()].concat();
        let out = filtered(long.clone(), None).await.expect("it is whole");
        assert_eq!(data(&out, None).len(), 5 << 20);
        for end in [10, 1 << 20, long.len() - 6] {
            let cut = filtered(long[..end].to_vec(), None).await.expect_err("it is cut");
            assert_eq!(cut.to_string(), Error::Incomplete.to_string(), "{end}");
        }
    }
}
