//! Seals a stream on its way out and opens it on its way back, a segment at a time.

use std::ops::{Range, RangeInclusive};

use bytes::{Bytes, BytesMut};
use crypto::{
    Key,
    segment::{self, Cipher, SEGMENT, TAG},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tokio::sync::mpsc::Sender;

use crate::Error;

/// Why a stream was not sealed to its end.
pub enum Fault {
    /// The bytes cannot be had, or are not as many as was said.
    Refused(Error),
    /// Nobody takes them any more.
    NoTaker,
}

impl From<Error> for Fault {
    fn from(cause: Error) -> Fault {
        Fault::Refused(cause)
    }
}

/// What goes to the network.
pub type Sealed = Result<Bytes, std::io::Error>;

/// Seals `length` bytes and sends them. The last segment goes only if the bytes were as many as was said: without it
/// there is no object.
pub async fn feed(
    key: &Key,
    mut bytes: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    length: u64,
    to: Sender<Sealed>,
) -> Result<(), Fault> {
    let fed = async {
        let cipher = Cipher::new(key).map_err(Error::from)?;
        let (mut number, mut came) = (0, 0_u64);
        let mut pending: Vec<u8> = Vec::with_capacity(SEGMENT + TAG);
        while let Some(chunk) = bytes.try_next().await? {
            came += chunk.len() as u64;
            if came > length {
                break;
            }
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                // A full segment waits until it is known not to be the last.
                if pending.len() == SEGMENT {
                    let mut full = std::mem::replace(&mut pending, Vec::with_capacity(SEGMENT + TAG));
                    cipher.seal(number, false, &mut full).map_err(Error::from)?;
                    number += 1;
                    to.send(Ok(full.into())).await.map_err(|_| Fault::NoTaker)?;
                }
                let (taken, left) = rest.split_at(rest.len().min(SEGMENT - pending.len()));
                pending.extend_from_slice(taken);
                rest = left;
            }
        }
        if came != length {
            return Err(Error::Body("it has another length than was said".into()).into());
        }
        cipher.seal(number, true, &mut pending).map_err(Error::from)?;
        to.send(Ok(pending.into())).await.map_err(|_| Fault::NoTaker)?;
        Ok(())
    }
    .await;
    if fed.is_err() {
        // Breaks the request off, so that the other side keeps nothing of it.
        let _ = to.send(Err(std::io::Error::other("the object was given up"))).await;
    }
    fed
}

/// The bytes of the sealed stream that hold a range of the data, as far as that has so many.
pub fn segments(range: &RangeInclusive<u64>) -> RangeInclusive<u64> {
    let (first, last) = (range.start() / SEGMENT as u64, range.end() / SEGMENT as u64);
    segment::sealed_offset(first)..=segment::sealed_offset(last.saturating_add(1)).saturating_sub(1)
}

/// The length of data whose sealed stream is `sealed` bytes long; `None` if no data has such a one.
pub fn plain_length(sealed: u64) -> Option<u64> {
    let segments = sealed.div_ceil((SEGMENT + TAG) as u64).max(1);
    let length = sealed.checked_sub(segments * TAG as u64)?;
    (segment::sealed_length(length) == sealed).then_some(length)
}

/// Opens a sealed stream that begins with the segment of `range.start`, of data of `size` bytes.
pub fn open(
    key: &Key,
    sealed: BoxStream<'static, Result<Bytes, Error>>,
    size: u64,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
    let opening = Opening {
        cipher: Cipher::new(key)?,
        sealed,
        pending: BytesMut::new(),
        number: range.start / SEGMENT as u64,
        count: segment::count(size),
        size,
        left: range,
    };
    Ok(futures::stream::try_unfold(opening, |mut opening| async move {
        Ok(opening.next().await?.map(|bytes| (bytes, opening)))
    })
    .boxed())
}

struct Opening {
    cipher: Cipher,
    sealed: BoxStream<'static, Result<Bytes, Error>>,
    pending: BytesMut,
    number: u64,
    count: u64,
    size: u64,
    left: Range<u64>,
}

impl Opening {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        // Data of no bytes has a segment all the same, which says that it is so.
        let unopened = self.size == 0 && self.number == 0;
        if self.left.is_empty() && !unopened {
            return Ok(None);
        }
        let damaged = || Error::Damaged { what: "an object of the external store".to_owned() };
        let start = self.number * SEGMENT as u64;
        let plain = (self.size - start.min(self.size)).min(SEGMENT as u64);
        let wanted = usize::try_from(plain).map_err(|_| damaged())? + TAG;
        while self.pending.len() < wanted {
            let more = self.sealed.try_next().await?.ok_or_else(damaged)?;
            self.pending.extend_from_slice(&more);
        }
        let mut segment = self.pending.split_to(wanted);
        let last = self.number + 1 == self.count;
        self.cipher.open(self.number, last, &mut segment).map_err(|_| damaged())?;
        segment.truncate(wanted - TAG);
        self.number += 1;
        if unopened {
            return Ok(None);
        }
        let from = usize::try_from(self.left.start - start).map_err(|_| damaged())?;
        let to = usize::try_from((self.left.end - start).min(plain)).map_err(|_| damaged())?;
        self.left.start = start + to as u64;
        Ok(Some(segment.freeze().slice(from..to)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn sealed(key: &Key, data: &[u8], claimed: u64) -> Result<Vec<u8>, Error> {
        let (to, mut from) = tokio::sync::mpsc::channel(64);
        let chunks: Vec<Result<Bytes, Error>> =
            data.chunks(50_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let fed = feed(key, futures::stream::iter(chunks), claimed, to).await;
        match fed {
            Ok(()) => {}
            Err(Fault::Refused(cause)) => return Err(cause),
            Err(Fault::NoTaker) => return Err(Error::Closed),
        }
        let mut all = Vec::new();
        while let Some(bytes) = from.recv().await {
            all.extend_from_slice(&bytes.expect("sealed"));
        }
        Ok(all)
    }

    async fn opened(key: &Key, bytes: Vec<u8>, size: u64, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let stream = futures::stream::iter(
            bytes.chunks(9_999).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>(),
        );
        let chunks: Vec<Bytes> = open(key, stream.boxed(), size, range)?.try_collect().await?;
        Ok(chunks.concat())
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_range_comes_back_from_the_segments_that_hold_it(size in 0_usize..300_000, a in 0_u64..300_000, b in 0_u64..400_000) {
            let data: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
            let key = Key::random().expect("random");
            let whole = block(sealed(&key, &data, size as u64)).expect("sealed");
            prop_assert_eq!(plain_length(whole.len() as u64), Some(size as u64));
            prop_assert_eq!(&block(opened(&key, whole.clone(), size as u64, 0..size as u64)).expect("opens"), &data);
            let (first, last) = (a.min(b), a.max(b));
            if first < size as u64 {
                let places = segments(&(first..=last));
                let from = usize::try_from(*places.start()).expect("small");
                let to = usize::try_from(*places.end() + 1).expect("small").min(whole.len());
                let end = (last + 1).min(size as u64);
                let got = block(opened(&key, whole[from..to].to_vec(), size as u64, first..end)).expect("opens");
                prop_assert_eq!(&got, &data[first as usize..end as usize]);
            }
        }
    }

    #[test]
    fn what_was_changed_or_cut_is_an_error() {
        let key = Key::random().expect("random");
        let data = vec![7; 200_000];
        let whole = block(sealed(&key, &data, 200_000)).expect("sealed");
        for at in [0, 65_551, 70_000, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(block(opened(&key, changed, 200_000, 0..200_000)).is_err(), "byte {at}");
        }
        assert!(block(opened(&key, whole[..whole.len() - 1].to_vec(), 200_000, 0..200_000)).is_err(), "cut");
        // Cut at a segment's end, with a size to match: the last segment is not marked so.
        let cut = segment::sealed_offset(2) as usize;
        assert!(block(opened(&key, whole[..cut].to_vec(), 131_072, 0..131_072)).is_err(), "cut at a segment");
        let empty = block(sealed(&key, &[], 0)).expect("sealed");
        assert_eq!(block(opened(&key, empty.clone(), 0, 0..0)).expect("opens"), Vec::<u8>::new());
        let other = Key::random().expect("random");
        assert!(block(opened(&other, empty, 0, 0..0)).is_err(), "an empty object of another key");
    }

    #[test]
    fn a_body_of_another_length_has_no_last_segment() {
        let key = Key::random().expect("random");
        for claimed in [99, 101] {
            assert!(matches!(block(sealed(&key, &[1; 100], claimed)), Err(Error::Body(_))), "{claimed}");
        }
    }
}
