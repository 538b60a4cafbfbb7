//! Answers as an attacker makes them: bytes at will, or good answers of providers with pieces cut out, put in and copied.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    certificate::Certificate,
    metadata::Metadata,
    response::{self, Expected, Vouched},
    signature::{canonical_element, decode},
    xml,
};

/// Reads an answer. The first byte says whether the rest is one, or how a good one is changed.
pub fn saml_response(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let good = GOOD.get(usize::from(*kind));
    let text = match good {
        Some(good) => changed(good, rest),
        None => String::from_utf8_lossy(rest).into_owned(),
    };
    let _ = Metadata::parse(&text);
    if let Ok(document) = xml::parse(&text)
        && let Some(root) = document.document_element()
        && let Ok(canonical) = canonical_element(&document, root)
    {
        let again = xml::parse(&canonical).expect("a canonical form is XML");
        let root = again.document_element().expect("a canonical form has a root");
        assert_eq!(canonical_element(&again, root).ok(), Some(canonical.clone()), "canonical twice");
    }
    if let Some(vouched) = read(&text) {
        let known = GOOD.iter().any(|good| read(good) == Some(vouched.clone()));
        assert!(known, "what no provider signed is believed: {text}");
    }
}

/// Four bytes an edit: a place (two), a length, and what is done: a piece is removed, copied to another place, or letters of
/// XML come in.
fn changed(good: &str, edits: &[u8]) -> String {
    let mut text = good.as_bytes().to_vec();
    for edit in edits.chunks_exact(4).take(64) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % text.len().max(1);
        let end = (at + usize::from(edit[2]) * 8).min(text.len());
        match edit[3] {
            0..64 => drop(text.drain(at..end)),
            64..128 => {
                let piece = text[at..end].to_vec();
                let to = usize::from(edit[3] - 64) * text.len() / 64;
                drop(text.splice(to..to, piece));
            }
            word => {
                let word = WORDS[usize::from(word) % WORDS.len()];
                drop(text.splice(at..at, word.bytes()));
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn read(text: &str) -> Option<Vouched> {
    let certificate = decode(include_str!("tests/fixtures/certificate.txt"))?;
    let expected = Expected {
        issuer: "https://idp.example/",
        certificates: &[Certificate::parse(&certificate).ok()?],
        audience: "https://us.example/console/sso/saml/metadata/ab1-casemate",
        recipient: "https://us.example/console/sso/saml/acs",
        request: "_request",
        now: "2026-01-01T12:00:00Z".parse().ok()?,
    };
    response::read(&STANDARD.encode(text), &expected).ok()
}

const GOOD: [&str; 4] = [
    include_str!("tests/fixtures/adfs.xml"),
    include_str!("tests/fixtures/entra.xml"),
    include_str!("tests/fixtures/keycloak.xml"),
    include_str!("tests/fixtures/shibboleth.xml"),
];

const WORDS: [&str; 12] = [
    "<",
    ">",
    "<!-- -->",
    "<![CDATA[",
    "]]>",
    "&#65;",
    "<a/>",
    " xmlns:saml=\"urn:x\"",
    " ID=\"_assertion\"",
    "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">",
    "</saml:Assertion>",
    "<?p?>",
];
