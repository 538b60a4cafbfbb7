//! Reads stored data: only the sealed segments that a range touches, a few at a time.

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use crypto::segment::{self, Cipher, SEGMENT, TAG};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use keys::Keys;
use model::ProjectId;

use crate::{
    Error,
    error::at,
    garbage::Pin,
    rows::{Piece, Place},
    segments,
    store::PURPOSE,
};

/// Bytes to read of one piece.
#[derive(Debug)]
pub struct Span {
    pub piece: Piece,
    pub bytes: Range<u64>,
}

/// Bytes of an object, read in order.
pub struct Source {
    spans: VecDeque<Span>,
    open: Option<(File, Cipher)>,
    place: Ground,
}

/// What a source needs to know of the store; the pin keeps the files where they are.
pub struct Ground {
    pub project: ProjectId,
    pub keys: Arc<Keys>,
    pub packed: PathBuf,
    pub large: PathBuf,
    pub _pin: Pin,
}

impl Source {
    /// The bytes of `spans`, one after another.
    pub fn new(spans: Vec<Span>, place: Ground) -> Source {
        Source { spans: spans.into_iter().filter(|span| !span.bytes.is_empty()).collect(), open: None, place }
    }

    /// The next bytes, `None` at the end. Blocks.
    pub fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(span) = self.spans.front_mut() else { return Ok(None) };
        let (path, base) = match span.piece.place {
            Place::Large(id) => (self.place.large.join(id.as_simple().to_string()), 0),
            Place::Packed { segment, offset } => (segments::path(&self.place.packed, segment), offset),
        };
        let damaged = || Error::Damaged { what: format!("{} at {base}", path.display()) };
        let (file, cipher) = match &mut self.open {
            Some(open) => open,
            None => {
                let file = File::open(&path).map_err(|cause| match cause.kind() {
                    std::io::ErrorKind::NotFound => damaged(),
                    _ => at(&path)(cause),
                })?;
                let key = self.place.keys.unwrap(&self.place.project, PURPOSE, &span.piece.key)?;
                self.open.insert((file, Cipher::new(&key)?))
            }
        };
        let (length, count) = (span.piece.length, segment::count(span.piece.length));
        let first = span.bytes.start / SEGMENT as u64;
        let after = (span.bytes.end.div_ceil(SEGMENT as u64)).min(first + AT_ONCE);
        let sealed_end = if after == count { segment::sealed_length(length) } else { segment::sealed_offset(after) };
        let sealed_start = segment::sealed_offset(first);
        let size = usize::try_from(sealed_end.saturating_sub(sealed_start)).map_err(|_| damaged())?;
        let mut sealed = vec![0; size];
        file.read_exact_at(&mut sealed, base + sealed_start).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(),
            _ => at(&path)(cause),
        })?;
        let mut plain = Vec::with_capacity(size);
        for (number, segment) in (first..after).zip(sealed.chunks_mut(SEGMENT + TAG)) {
            plain.extend_from_slice(cipher.open(number, number + 1 == count, segment).map_err(|_| damaged())?);
        }
        let skipped = usize::try_from(span.bytes.start - first * SEGMENT as u64).map_err(|_| damaged())?;
        let end = span.bytes.end.min(after * SEGMENT as u64);
        let wanted = usize::try_from(end - span.bytes.start).map_err(|_| damaged())?;
        let bytes = Bytes::from(plain);
        let bytes = bytes.get(skipped..skipped + wanted).map(|slice| bytes.slice_ref(slice)).ok_or_else(damaged)?;
        span.bytes.start = end;
        if span.bytes.is_empty() {
            self.open = None;
            self.spans.pop_front();
        }
        Ok(Some(bytes))
    }

    /// As a stream whose first bytes are read already, so that what cannot be read at all is an error before any
    /// answer is given.
    pub async fn stream(mut self) -> Result<Reading, Error> {
        let (source, first) = tokio::task::spawn_blocking(move || {
            let first = self.next();
            (self, first)
        })
        .await
        .map_err(|_| Error::Closed)?;
        let first = first?;
        let rest = futures::stream::try_unfold(source, |mut source| async move {
            if source.spans.is_empty() {
                return Ok(None);
            }
            let (source, next) = tokio::task::spawn_blocking(move || {
                let next = source.next();
                (source, next)
            })
            .await
            .map_err(|_| Error::Closed)?;
            Ok(next?.map(|bytes| (bytes, source)))
        });
        Ok(Reading(Mutex::new(futures::stream::iter(first.map(Ok)).chain(rest).boxed())))
    }
}

/// Bytes of an object as a stream; what is damaged ends it with an error.
pub struct Reading(Mutex<BoxStream<'static, Result<Bytes, Error>>>);

impl Stream for Reading {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The mutex is never locked: it makes the stream `Sync`, which `s3s` asks for.
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}

/// Segments that are read at once.
const AT_ONCE: u64 = 4;
