//! XML signatures as SAML makes them (SAML 2.0 core, 5.4; <https://www.w3.org/TR/xmldsig-core1/>): enveloped, over the
//! element that they stand in, exclusively canonicalized. Everything else that XML signatures could be is refused.
//!
//! What a caller may read is what [`verified`] returns: the canonical bytes whose digest was signed. They have no comments,
//! no signature, and none of what stood around the element.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bergshamra_c14n::{C14nMode, canonicalize_doc};
use bergshamra_xml::NodeSet;
use uppsala::{Document, NodeId};

use super::{
    Refused,
    certificate::{Certificate, Digest, Method},
    xml::{self, DSIG},
};

/// The canonical form of `element` without its signature, if that was made by one of the trusted keys. `signature` stands
/// directly in `element`.
pub(super) fn verified(
    document: &Document<'_>,
    element: NodeId,
    signature: NodeId,
    trusted: &[Certificate],
) -> Result<String, Refused> {
    let parts: Vec<_> = xml::elements(document, signature).collect();
    let (info, value) = match parts[..] {
        // What the signature says of its key is not looked at: which keys are trusted, the metadata says.
        [info, value, _] | [info, value]
            if xml::is(document, info, DSIG, "SignedInfo")
                && xml::is(document, value, DSIG, "SignatureValue")
                && parts.get(2).is_none_or(|key| xml::is(document, *key, DSIG, "KeyInfo")) =>
        {
            (info, value)
        }
        _ => return Err(Refused::Signature("other parts than SignedInfo, SignatureValue and KeyInfo")),
    };
    let prefixes = match xml::only(document, info, DSIG, "CanonicalizationMethod") {
        Some(method) => inclusive_prefixes(document, method)?,
        None => return Err(Refused::Signature("no CanonicalizationMethod")),
    };
    let info = canonical(document, &NodeSet::tree_without_comments(info, document), &prefixes)?;
    let signed = SignedInfo::read(&info)?;
    if xml::attribute(document, element, "ID").is_none_or(|id| signed.id != id) {
        return Err(Refused::Signature("a reference to another element than the one that it stands in"));
    }
    let within =
        NodeSet::tree_without_comments(element, document).subtract(&NodeSet::tree_with_comments(signature, document));
    let bytes = canonical(document, &within, &signed.prefixes)?;
    if digest(signed.digest, bytes.as_bytes()) != signed.value {
        return Err(Refused::Signature("a digest that is not that of the element: it was changed after it was signed"));
    }
    let value = decode(&xml::text(document, value).unwrap_or_default())
        .ok_or(Refused::Signature("a value that is not Base64"))?;
    match trusted.iter().any(|certificate| certificate.verifies(signed.method, info.as_bytes(), &value)) {
        true => Ok(bytes),
        false => Err(Refused::Signature("a value that none of the keys in the provider's metadata made")),
    }
}

/// The canonical form of an element as a document of its own.
pub(super) fn canonical_element(document: &Document<'_>, element: NodeId) -> Result<String, Refused> {
    canonical(document, &NodeSet::tree_without_comments(element, document), &[])
}

/// What was signed: read from the canonical bytes, so that nothing is read that the signature is not about.
struct SignedInfo {
    method: Method,
    id: String,
    prefixes: Vec<String>,
    digest: Digest,
    value: Vec<u8>,
}

impl SignedInfo {
    fn read(canonical: &str) -> Result<SignedInfo, Refused> {
        let document = xml::parse(canonical).map_err(Refused::Malformed)?;
        let root = xml::root(&document, DSIG, "SignedInfo").ok_or(Refused::Signature("no SignedInfo"))?;
        let parts: Vec<_> = xml::elements(&document, root).collect();
        let [canonicalization, method, reference] = parts[..] else {
            return Err(Refused::Signature("not exactly one reference"));
        };
        let named = |node, name| match xml::is(&document, node, DSIG, name) {
            true => Ok(xml::attribute(&document, node, "Algorithm").unwrap_or_default()),
            false => Err(Refused::Signature("parts that are missing or in another order")),
        };
        if named(canonicalization, "CanonicalizationMethod")? != EXCLUSIVE {
            return Err(Refused::Signature("a canonicalization other than the exclusive one without comments"));
        }
        let algorithm = named(method, "SignatureMethod")?;
        let method = SIGNATURES.iter().find(|(uri, _)| *uri == algorithm).map(|(_, method)| *method);
        named(reference, "Reference")?;
        let parts: Vec<_> = xml::elements(&document, reference).collect();
        let [transforms, digest, value] = parts[..] else {
            return Err(Refused::Signature("a reference without transforms"));
        };
        named(transforms, "Transforms")?;
        let list: Vec<_> = xml::elements(&document, transforms).collect();
        let [enveloped, exclusive] = list[..] else {
            return Err(Refused::Signature("other transforms than enveloped-signature and exclusive canonicalization"));
        };
        if named(enveloped, "Transform")? != ENVELOPED || named(exclusive, "Transform")? != EXCLUSIVE {
            return Err(Refused::Signature("other transforms than enveloped-signature and exclusive canonicalization"));
        }
        let hash = named(digest, "DigestMethod")?;
        let digest = DIGESTS.iter().find(|(uri, _)| *uri == hash).map(|(_, digest)| *digest);
        named(value, "DigestValue")?;
        let id = xml::attribute(&document, reference, "URI").and_then(|uri| uri.strip_prefix('#'));
        Ok(SignedInfo {
            method: method.ok_or_else(|| Refused::Algorithm(shortened(algorithm)))?,
            id: id.filter(|id| !id.is_empty()).ok_or(Refused::Signature("a reference that names no id"))?.to_owned(),
            prefixes: inclusive_prefixes(&document, exclusive)?,
            digest: digest.ok_or_else(|| Refused::Algorithm(shortened(hash)))?,
            value: decode(&xml::text(&document, value).unwrap_or_default())
                .ok_or(Refused::Signature("a digest that is not Base64"))?,
        })
    }
}

/// The prefixes that are canonicalized as if inclusively, by
/// <https://www.w3.org/TR/xml-exc-c14n/#def-InclusiveNamespaces-PrefixList>.
fn inclusive_prefixes(document: &Document<'_>, method: NodeId) -> Result<Vec<String>, Refused> {
    let parts: Vec<_> = xml::elements(document, method).collect();
    match parts[..] {
        [] => Ok(Vec::new()),
        [list] if xml::is(document, list, EXCLUSIVE, "InclusiveNamespaces") => {
            let list = xml::attribute(document, list, "PrefixList").unwrap_or_default();
            let list: Vec<_> = list.split_ascii_whitespace().map(str::to_owned).collect();
            // Each element is held against each of them.
            match list.len() <= MOST_PREFIXES {
                true => Ok(list),
                false => Err(Refused::Signature("a canonicalization with more than 16 inclusive prefixes")),
            }
        }
        _ => Err(Refused::Signature("a canonicalization with unknown parameters")),
    }
}

fn canonical(document: &Document<'_>, nodes: &NodeSet, prefixes: &[String]) -> Result<String, Refused> {
    let bytes = canonicalize_doc(document, C14nMode::Exclusive, Some(nodes), prefixes)
        .map_err(|fault| Refused::Malformed(fault.to_string()))?;
    String::from_utf8(bytes).map_err(|_| Refused::Malformed("the canonical form is not UTF-8".to_owned()))
}

fn digest(digest: Digest, bytes: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest;
    let algorithm = match digest {
        Digest::Sha256 => &digest::SHA256,
        Digest::Sha384 => &digest::SHA384,
        Digest::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

/// Base64 with white space anywhere, as XML Schema has it.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let dense: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    STANDARD.decode(dense).ok()
}

fn shortened(uri: &str) -> String {
    uri.chars().take(120).collect()
}

const MOST_PREFIXES: usize = 16;

/// Exclusive canonicalization without comments.
pub(super) const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// The transform that leaves the signature itself out.
pub(super) const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

/// Every way in which a signature may be made (RFC 6931). SHA-1 and what is made with a shared key are not among them.
const SIGNATURES: [(&str, Method); 6] = [
    ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", Method::Rsa(Digest::Sha256)),
    ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha384", Method::Rsa(Digest::Sha384)),
    ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", Method::Rsa(Digest::Sha512)),
    ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", Method::Ecdsa(Digest::Sha256)),
    ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", Method::Ecdsa(Digest::Sha384)),
    ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512", Method::Ecdsa(Digest::Sha512)),
];

const DIGESTS: [(&str, Digest); 3] = [
    ("http://www.w3.org/2001/04/xmlenc#sha256", Digest::Sha256),
    ("http://www.w3.org/2001/04/xmldsig-more#sha384", Digest::Sha384),
    ("http://www.w3.org/2001/04/xmlenc#sha512", Digest::Sha512),
];
