//! XML, read narrowly: no document type (so no entity but the five built in), depth and size bounded, names by namespace.

use uppsala::{Document, NodeId, NodeKind, Parser};

/// Namespace of messages (SAML 2.0 core).
pub(super) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
/// Namespace of assertions (SAML 2.0 core).
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// Namespace of metadata (SAML 2.0 metadata).
pub(super) const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
/// Namespace of XML signatures.
pub(super) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// Reads a document, if it is one without a document type, not nested deeper than [`DEEPEST`], without an element of more
/// than [`MOST_ATTRIBUTES`], and without a name of a namespace that is longer than [`LONGEST_NAMESPACE`].
pub(super) fn parse(text: &str) -> Result<Document<'_>, String> {
    // Before the parser: it holds each attribute of an element against each other.
    let is_value = |after: &&str| after.trim_start().starts_with(['"', '\'']);
    if text.split('<').any(|tag| tag.split('=').skip(1).filter(is_value).count() > MOST_ATTRIBUTES) {
        return Err(format!("an element has more than {MOST_ATTRIBUTES} attributes"));
    }
    let parser = Parser::new().with_forbid_dtd(true).with_max_depth(DEEPEST);
    let document = parser.parse(text).map_err(|fault| fault.to_string())?;
    let declared = |node: &NodeId| document.element(*node).map(|element| &element.namespace_declarations);
    let nodes = document.descendants(document.root());
    let is_long = nodes.iter().filter_map(declared).flatten().any(|(_, name)| name.len() > LONGEST_NAMESPACE);
    match is_long {
        true => Err(format!("a name of a namespace is longer than {LONGEST_NAMESPACE} bytes")),
        false => Ok(document),
    }
}

/// The outermost element, if it is of that name.
pub(super) fn root(document: &Document<'_>, namespace: &str, name: &str) -> Option<NodeId> {
    document.document_element().filter(|root| is(document, *root, namespace, name))
}

/// Whether a node is an element of that name.
pub(super) fn is(document: &Document<'_>, node: NodeId, namespace: &str, name: &str) -> bool {
    document.element(node).is_some_and(|element| element.matches_name_ns(namespace, name))
}

/// The elements directly in one.
pub(super) fn elements<'d>(document: &'d Document<'_>, node: NodeId) -> impl Iterator<Item = NodeId> + 'd {
    document.children_iter(node).filter(|child| document.element(*child).is_some())
}

/// The elements of that name directly in one.
pub(super) fn children(document: &Document<'_>, node: NodeId, namespace: &str, name: &str) -> Vec<NodeId> {
    document.child_elements_by_name_ns(node, namespace, name)
}

/// The element of that name directly in one, if there is exactly one.
pub(super) fn only(document: &Document<'_>, node: NodeId, namespace: &str, name: &str) -> Option<NodeId> {
    match children(document, node, namespace, name)[..] {
        [child] => Some(child),
        _ => None,
    }
}

/// An attribute without a namespace.
pub(super) fn attribute<'d>(document: &'d Document<'_>, node: NodeId, name: &str) -> Option<&'d str> {
    let element = document.element(node)?;
    let found = element.attributes.iter().find(|attribute| attribute.name.matches(None, name))?;
    Some(&found.value)
}

/// The whole text of an element, without space around it; `None` if there is anything in it but text. A comment splits
/// text into nodes: all of them are read.
pub(super) fn text(document: &Document<'_>, node: NodeId) -> Option<String> {
    let mut whole = String::new();
    for child in document.children_iter(node) {
        match document.node_kind(child)? {
            NodeKind::Text(part) | NodeKind::CData(part) => whole.push_str(part),
            NodeKind::Comment(_) => {}
            _ => return None,
        }
    }
    Some(whole.trim().to_owned())
}

/// A text as it stands in an element or an attribute in double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(' '),
            // XML 1.0 has no way to write them.
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }
    out
}

/// How deep elements may be nested. Responses and metadata of real providers stay below 15.
const DEEPEST: u32 = 40;

const MOST_ATTRIBUTES: usize = 256;

/// Bytes of a namespace's name. The canonical form repeats it at each element that uses it, so that a long one would make a
/// large document of a small one.
const LONGEST_NAMESPACE: usize = 256;
