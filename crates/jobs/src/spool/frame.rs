//! The form of a log segment: a header, then frames, each a batch of lines of one stream of one node.
//!
//! Segment: `CMLOG`, version, two zero bytes, 16 bytes of salt; its name is the id of its first line. Its key is derived
//! from the attempt's log key, the salt and the name, so that no key seals two segments, whoever writes them; a
//! frame's number in the segment is its nonce, so that a frame opens in its own place only.
//! Frame: length of what is sealed (u32), id of its last line (u64), number of its node (u32), all little endian, so
//! that a reader can pass over it unopened; then what is sealed: id of its first line (u64), number of the node (u32),
//! stream (u8), flags (u8), the lines' bytes as they came. The ids of a frame's lines are consecutive.

use crypto::{Key, digest, segment::Cipher};
use model::{LogId, LogStream, NodeName};

/// Bytes that a segment begins with.
pub const HEADER: usize = 8 + SALT;
/// Bytes before what is sealed of a frame.
pub const FRAME_HEADER: usize = 4 + 8 + 4;
/// Bytes before the lines within what is sealed.
pub const INNER_HEADER: usize = 8 + 4 + 1 + 1;
/// The longest line in bytes; a longer one is kept in pieces.
pub const MAX_LINE: usize = 64 * 1024;
/// The most that one frame holds of lines.
pub const MAX_PAYLOAD: usize = MAX_LINE + 1;
const SALT: usize = 16;
const MAGIC: [u8; 8] = *b"CMLOG\x01\0\0";
/// The most that one frame has sealed.
const MAX_SEALED: usize = INNER_HEADER + MAX_PAYLOAD + crypto::segment::TAG;

/// The first bytes of a new segment.
pub fn new_header() -> Result<[u8; HEADER], crypto::Error> {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    crypto::random(&mut header[8..])?;
    Ok(header)
}

/// The cipher of the segment with this header and first line; `None` where the header is not one.
pub fn cipher(key: &Key, header: &[u8; HEADER], first: LogId) -> Option<Result<Cipher, crypto::Error>> {
    let salt = header.strip_prefix(&MAGIC)?;
    let derived = digest::hmac_sha256(key.as_bytes(), &[b"casemate log segment", salt, &first.0.to_be_bytes()]);
    Some(Key::from_bytes(&zeroize::Zeroizing::new(derived)[..]).and_then(|key| Cipher::new(&key)))
}

/// The name of the segment whose first line has this id.
pub fn name(first: LogId) -> String {
    format!("{:020}{SUFFIX}", first.0)
}

/// The id of the first line of a segment of this name; `None` where it is no segment.
pub fn first_of(name: &str) -> Option<LogId> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok().map(LogId))?
}

const SUFFIX: &str = ".log";

/// What can be read of a frame without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Bytes of what is sealed.
    pub sealed: usize,
    /// Id of its last line.
    pub last: LogId,
    /// Number of its node.
    pub node: u32,
}

impl Outer {
    /// Reads it; `None` where the length is none that a frame can have.
    pub fn read(bytes: &[u8; FRAME_HEADER]) -> Option<Outer> {
        let sealed = u32::from_le_bytes(bytes[..4].try_into().ok()?) as usize;
        let last = LogId(u64::from_le_bytes(bytes[4..12].try_into().ok()?));
        let node = u32::from_le_bytes(bytes[12..].try_into().ok()?);
        (INNER_HEADER + crypto::segment::TAG..=MAX_SEALED).contains(&sealed).then_some(Outer { sealed, last, node })
    }

    /// Its bytes.
    pub fn write(self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..4].copy_from_slice(&(self.sealed as u32).to_le_bytes());
        bytes[4..12].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[12..].copy_from_slice(&self.node.to_le_bytes());
        bytes
    }
}

/// What is sealed with the lines of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Id of its first line.
    pub first: LogId,
    /// Number of its node.
    pub node: u32,
    /// Where its lines came from.
    pub stream: LogStream,
    /// Whether the node's frame before it was left without a line feed by the other stream, so that one belongs
    /// between them where they are put together.
    pub breaks: bool,
}

impl Inner {
    /// Reads it from the front of an opened frame.
    pub fn read(opened: &[u8]) -> Option<Inner> {
        let bytes: &[u8; INNER_HEADER] = opened.first_chunk()?;
        Some(Inner {
            first: LogId(u64::from_le_bytes(bytes[..8].try_into().ok()?)),
            node: u32::from_le_bytes(bytes[8..12].try_into().ok()?),
            stream: match bytes[12] {
                0 => LogStream::Stdout,
                1 => LogStream::Stderr,
                2 => LogStream::Platform,
                _ => return None,
            },
            breaks: bytes[13] & BREAKS != 0,
        })
    }

    /// Its bytes.
    pub fn write(self) -> [u8; INNER_HEADER] {
        let mut bytes = [0; INNER_HEADER];
        bytes[..8].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.node.to_le_bytes());
        bytes[12] = match self.stream {
            LogStream::Stdout => 0,
            LogStream::Stderr => 1,
            LogStream::Platform => 2,
        };
        bytes[13] = if self.breaks { BREAKS } else { 0 };
        bytes
    }
}

const BREAKS: u8 = 1;

/// The number that lines of the platform have for their node; they count as the driver's.
pub const PLATFORM: u32 = u32::MAX;

/// The number of a node: 0 is the driver, N is `executor-N`.
pub fn number_of(node: &NodeName) -> u32 {
    node.as_str().strip_prefix("executor-").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The node of a number.
pub fn node_of(number: u32) -> NodeName {
    if number == 0 || number == PLATFORM { NodeName::driver() } else { NodeName::executor(number) }
}

/// How many lines the bytes of a frame hold: a line feed ends one, and the rest after the last is one too.
pub fn count(payload: &[u8]) -> u64 {
    let ended = memchr::memchr_iter(b'\n', payload).count() as u64;
    ended + u64::from(payload.last().is_some_and(|byte| *byte != b'\n'))
}

/// The lines of a frame's bytes, without their line feeds.
pub fn lines(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_as_many_lines_as_are_counted() {
        for (payload, expected) in [
            (&b""[..], &[][..]),
            (b"\n", &[&b""[..]]),
            (b"a", &[&b"a"[..]]),
            (b"a\n", &[&b"a"[..]]),
            (b"a\n\nb", &[&b"a"[..], b"", b"b"]),
        ] {
            assert_eq!(lines(payload).collect::<Vec<_>>(), expected);
            assert_eq!(count(payload), expected.len() as u64);
        }
    }

    #[test]
    fn headers_read_back_as_written() {
        let outer = Outer { sealed: 4711, last: LogId(u64::MAX - 1), node: 7 };
        assert_eq!(Outer::read(&outer.write()), Some(outer));
        assert_eq!(Outer::read(&[0; FRAME_HEADER]), None, "zeros that a power cut left are no frame");
        assert_eq!(Outer::read(&[0xff; FRAME_HEADER]), None, "no frame is that long");
        for stream in [LogStream::Stdout, LogStream::Stderr, LogStream::Platform] {
            let inner = Inner { first: LogId(12), node: 3, stream, breaks: true };
            assert_eq!(Inner::read(&inner.write()), Some(inner));
        }
    }

    #[test]
    fn segments_have_names_that_sort_by_id() {
        assert_eq!(first_of(&name(LogId(99))), Some(LogId(99)));
        assert!(name(LogId(99)) < name(LogId(1_700_000_000_000_000_000)));
        for other in ["state.json", "1.log", "00000000000000000099.log.part", "+0000000000000000099.log"] {
            assert_eq!(first_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_node_has_one_number() {
        for node in [NodeName::driver(), NodeName::executor(1), NodeName::executor(999_999_999)] {
            assert_eq!(node_of(number_of(&node)), node);
        }
    }
}
