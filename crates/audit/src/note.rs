//! Checkpoints: the size and the root of the tree at a moment, signed. Texts of C2SP tlog-checkpoint in a signed note
//! (C2SP signed-note) with one Ed25519 signature, so that other people's tools read them:
//!
//! ```text
//! ORIGIN
//! SIZE
//! ROOT in base64
//! time RFC-3339-TIME
//! previous SHA-256 of the whole note before this one, in base64
//!
//! — ORIGIN base64 of the key's id and the signature
//! ```
//!
//! The last two lines before the empty one are extensions. By `previous` no note can go from between others unseen.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto::{
    SigningKey,
    digest::sha256,
    sign::{self, PUBLIC_LENGTH},
};
use jiff::Timestamp;

use crate::merkle::Hash;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Entries in the tree.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// When it was signed.
    pub time: Timestamp,
    /// The hash of the note before this one; zero for the first.
    pub previous: Hash,
}

/// A public key, with the name of the log that it signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    origin: String,
    public: [u8; PUBLIC_LENGTH],
}

impl VerifierKey {
    /// The key of a log that is named after it.
    pub fn of(key: &SigningKey) -> VerifierKey {
        let public = key.public();
        let origin = format!("casemate/audit/{}", hex::encode(&sha256(&[&public])[..8]));
        VerifierKey { origin, public }
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn id(&self) -> [u8; 4] {
        let hash = sha256(&[self.origin.as_bytes(), b"\n", &[ED25519], &self.public]);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// What the note says, if its one signature is of this key over exactly these bytes.
    pub fn open(&self, note: &[u8]) -> Option<Checkpoint> {
        let note = std::str::from_utf8(note).ok()?;
        let (body, signature) = note.split_once("\n\n")?;
        let signature = signature.strip_prefix(DASH)?.strip_suffix('\n')?;
        let signature = signature.strip_prefix(self.origin.as_str())?.strip_prefix(' ')?;
        let signature = STANDARD.decode(signature).ok()?;
        let signature = signature.strip_prefix(&self.id())?;
        let text = &note[..body.len() + 1];
        sign::verify(&self.public, text.as_bytes(), signature).then_some(())?;
        self.parse(body)
    }

    fn parse(&self, body: &str) -> Option<Checkpoint> {
        let mut lines = body.split('\n');
        (lines.next()? == self.origin).then_some(())?;
        let size = lines.next()?.parse().ok()?;
        let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        let time = lines.next()?.strip_prefix(TIME)?.parse().ok()?;
        let previous = STANDARD.decode(lines.next()?.strip_prefix(PREVIOUS)?).ok()?.try_into().ok()?;
        lines.next().is_none().then_some(Checkpoint { size, root, time, previous })
    }
}

impl std::fmt::Display for VerifierKey {
    /// As C2SP signed-note writes public keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = STANDARD.encode([&[ED25519], &self.public[..]].concat());
        write!(f, "{}+{}+{key}", self.origin, hex::encode(self.id()))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<VerifierKey, NotAKey> {
        let parse = || {
            let (origin, rest) = text.trim().split_once('+')?;
            let (id, key) = rest.split_once('+')?;
            let public = STANDARD.decode(key).ok()?.strip_prefix(&[ED25519])?.try_into().ok()?;
            let is_name = !origin.is_empty() && !origin.chars().any(|c| c.is_whitespace() || c.is_control());
            let key = VerifierKey { origin: origin.to_owned(), public };
            (is_name && hex::decode(id).ok()? == key.id()).then_some(key)
        };
        parse().ok_or(NotAKey)
    }
}

/// A text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a public key in the form NAME+ID+KEY of C2SP signed-note, of Ed25519")]
pub struct NotAKey;

/// Signs a checkpoint.
pub fn sign(key: &SigningKey, checkpoint: &Checkpoint) -> String {
    let verifier = VerifierKey::of(key);
    let Checkpoint { size, root, time, previous } = checkpoint;
    let origin = verifier.origin();
    let (root, previous) = (STANDARD.encode(root), STANDARD.encode(previous));
    let text = format!("{origin}\n{size}\n{root}\n{TIME}{time}\n{PREVIOUS}{previous}\n");
    let signature = [&verifier.id()[..], &key.sign(text.as_bytes())].concat();
    format!("{text}\n{DASH}{origin} {}\n", STANDARD.encode(signature))
}

/// The hash of a whole note, as the next one names it.
pub fn hash(note: &[u8]) -> Hash {
    sha256(&[note])
}

/// The notes of one log that stand one behind the other in a file, with where each begins. What is no note any more is
/// in the one before it, or is the first.
pub fn split<'a>(bytes: &'a [u8], origin: &str) -> Vec<(usize, &'a [u8])> {
    let begin = format!("{origin}\n");
    let begin = begin.as_bytes();
    let mut places = vec![0];
    let mut line = 0;
    while let Some(end) = bytes[line..].iter().position(|byte| *byte == b'\n') {
        line += end + 1;
        if bytes[line..].starts_with(begin) {
            places.push(line);
        }
    }
    places.push(bytes.len());
    let notes = places.windows(2).map(|ends| (ends[0], &bytes[ends[0]..ends[1]]));
    notes.filter(|(_, note)| !note.is_empty()).collect()
}

/// Ed25519 in C2SP signed-note.
const ED25519: u8 = 1;
const DASH: &str = "\u{2014} ";
const TIME: &str = "time ";
const PREVIOUS: &str = "previous ";

#[cfg(test)]
mod tests {
    use crypto::Key;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Key::from_bytes(&[seed; 32]).expect("a key")).expect("a signing key")
    }

    fn checkpoint(size: u64) -> Checkpoint {
        let time = "2026-11-25T19:53:14.5Z".parse().expect("a time");
        Checkpoint { size, root: [9; 32], time, previous: [8; 32] }
    }

    #[test]
    fn a_note_opens_with_its_key_alone_and_not_after_any_change_of_a_byte() {
        let (note, verifier) = (sign(&key(1), &checkpoint(7)), VerifierKey::of(&key(1)));
        assert_eq!(verifier.open(note.as_bytes()), Some(checkpoint(7)));
        assert_eq!(VerifierKey::of(&key(2)).open(note.as_bytes()), None);
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut changed = note.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert_eq!(verifier.open(&changed), None, "byte {at}");
            }
            assert_eq!(verifier.open(&note.as_bytes()[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_public_key_is_written_as_the_standard_does() {
        // The example of C2SP signed-note.
        let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let key: VerifierKey = text.parse().expect("a key");
        assert_eq!((key.origin(), key.to_string().as_str()), ("example.com/foo", text));
        assert_eq!(
            "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse::<VerifierKey>(),
            Err(NotAKey)
        );
        let own = VerifierKey::of(&super::tests::key(1));
        assert_eq!(own.to_string().parse(), Ok(own));
    }

    #[test]
    fn notes_come_apart_where_they_were_joined_and_what_is_none_stays_with_the_one_before() {
        let origin = VerifierKey::of(&key(1)).origin().to_owned();
        let notes = [sign(&key(1), &checkpoint(1)), sign(&key(1), &checkpoint(20)), sign(&key(1), &checkpoint(300))];
        let joined = notes.concat();
        let found = split(joined.as_bytes(), &origin);
        assert_eq!(
            found.iter().map(|(_, note)| *note).collect::<Vec<_>>(),
            notes.each_ref().map(|note| note.as_bytes())
        );
        assert_eq!(found[2].0, notes[0].len() + notes[1].len());
        let broken = joined.replacen(&format!("{origin}\n20\n"), &format!("x{origin}\n20\n"), 1);
        assert_eq!(split(broken.as_bytes(), &origin).len(), 2);
        assert!(split(b"", &origin).is_empty());
        assert_eq!(split(b"x\n", &origin), [(0, &b"x\n"[..])]);
    }
}
