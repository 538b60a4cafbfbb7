//! What a provider answers: whom it vouches for. A pure function of the message, of what is expected and of the time, by the
//! rules of the Web Browser SSO Profile (SAML 2.0 profiles, 4.1.4.2 and 4.1.4.3), each check named by what it refuses.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use uppsala::{Document, NodeId};

use super::{
    Refused,
    certificate::Certificate,
    signature::{self, canonical_element, verified},
    xml::{self, ASSERTION, DSIG, PROTOCOL},
};

/// What an answer must agree with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    /// The provider (its entity id).
    pub issuer: &'a str,
    /// Its signing certificates.
    pub certificates: &'a [Certificate],
    /// Us (our entity id).
    pub audience: &'a str,
    /// Where answers come to.
    pub recipient: &'a str,
    /// The id of the request that it answers.
    pub request: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// What was vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vouched {
    /// The id of the assertion, which is good once.
    pub id: String,
    /// Until when it could be used.
    pub until: Timestamp,
    /// Until when the provider wants the person to be logged in, if it says so.
    pub session_until: Option<Timestamp>,
    /// The subject's name.
    pub name: String,
    /// Its attributes by name.
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// Reads the form field `SAMLResponse`.
pub(super) fn read(encoded: &str, expected: &Expected<'_>) -> Result<Vouched, Refused> {
    if encoded.len() > LONGEST {
        return Err(Refused::Malformed(format!("longer than {LONGEST} bytes")));
    }
    let bytes = signature::decode(encoded).ok_or_else(|| Refused::Malformed("not Base64".to_owned()))?;
    let text = String::from_utf8(bytes).map_err(|_| Refused::Malformed("not UTF-8".to_owned()))?;
    let Signed { response, assertion } = signed(&text, expected.certificates)?;
    check_response(&response, expected)?;
    read_assertion(&assertion, expected)
}

/// The parts of an answer, as far as they were signed.
struct Signed {
    /// The response: its canonical form if it was signed, else as it came. Nothing but its envelope is read from it.
    response: String,
    /// The canonical form of the assertion, of which each byte was signed.
    assertion: String,
}

/// Takes an answer apart. Elements are found by where they must stand, never by name alone or by an id; an element in
/// another place than its own refuses the whole, so that there is nothing which one part of this program could take for
/// another.
fn signed(text: &str, trusted: &[Certificate]) -> Result<Signed, Refused> {
    let document = xml::parse(text).map_err(Refused::Malformed)?;
    let response = xml::root(&document, PROTOCOL, "Response").ok_or(Refused::Shape("its root is not a Response"))?;
    let (assertion, of_response, of_assertion) = places(&document, response)?;
    let whole = of_response.map(|signature| verified(&document, response, signature, trusted)).transpose()?;
    let part = of_assertion.map(|signature| verified(&document, assertion, signature, trusted)).transpose()?;
    let assertion = match (&whole, part) {
        (_, Some(part)) => part,
        (Some(whole), None) => {
            let document = xml::parse(whole).map_err(Refused::Malformed)?;
            let root = document.document_element().ok_or(Refused::Unsigned)?;
            let assertion = xml::only(&document, root, ASSERTION, "Assertion").ok_or(Refused::Unsigned)?;
            canonical_element(&document, assertion)?
        }
        (None, None) => return Err(Refused::Unsigned),
    };
    Ok(Signed { response: whole.unwrap_or_else(|| text.to_owned()), assertion })
}

/// The one assertion, the signature of the response and that of the assertion.
fn places(document: &Document<'_>, response: NodeId) -> Result<(NodeId, Option<NodeId>, Option<NodeId>), Refused> {
    let mut ids = HashSet::new();
    let (mut assertions, mut signatures) = (Vec::new(), Vec::new());
    for node in document.descendants(document.root()) {
        let Some(element) = document.element(node) else { continue };
        for attribute in &element.attributes {
            // Whatever the reader of some schema would take for an id, in any namespace.
            if attribute.name.local_name.eq_ignore_ascii_case("id") && !ids.insert(attribute.value.as_ref()) {
                return Err(Refused::Shape("two of its elements have one id"));
            }
        }
        if element.matches_name_ns(ASSERTION, "EncryptedAssertion")
            || element.matches_name_ns(ASSERTION, "EncryptedID")
            || element.matches_name_ns(ASSERTION, "EncryptedAttribute")
        {
            return Err(Refused::Encrypted);
        }
        if element.matches_name_ns(ASSERTION, "Assertion") {
            assertions.push(node);
        } else if element.matches_name_ns(DSIG, "Signature") {
            signatures.push(node);
        } else if element.matches_name_ns(PROTOCOL, "Response") && node != response {
            return Err(Refused::Shape("a Response is inside of another element"));
        }
    }
    let assertion = match assertions[..] {
        [assertion] if document.parent(assertion) == Some(response) => assertion,
        [_] => return Err(Refused::Shape("its assertion does not stand directly in the response")),
        [] => {
            check_status(document, response)?;
            return Err(Refused::Shape("it has no assertion"));
        }
        _ => return Err(Refused::Shape("it has several assertions")),
    };
    let (mut of_response, mut of_assertion) = (None, None);
    for signature in signatures {
        let place = match document.parent(signature) {
            Some(parent) if parent == response => &mut of_response,
            Some(parent) if parent == assertion => &mut of_assertion,
            _ => return Err(Refused::Shape("a signature stands where none belongs")),
        };
        if place.replace(signature).is_some() {
            return Err(Refused::Shape("one element has several signatures"));
        }
    }
    Ok((assertion, of_response, of_assertion))
}

fn check_response(text: &str, expected: &Expected<'_>) -> Result<(), Refused> {
    let document = xml::parse(text).map_err(Refused::Malformed)?;
    let response = xml::root(&document, PROTOCOL, "Response").ok_or(Refused::Shape("its root is not a Response"))?;
    let says = |name| xml::attribute(&document, response, name);
    if says("Version") != Some("2.0") {
        return Err(Refused::Version);
    }
    same("Destination", says("Destination"), expected.recipient)?;
    same("InResponseTo", says("InResponseTo"), expected.request)?;
    match xml::children(&document, response, ASSERTION, "Issuer")[..] {
        [] => {}
        [issuer] => same("Issuer", xml::text(&document, issuer).as_deref(), expected.issuer)?,
        _ => return Err(Refused::Shape("it has several issuers")),
    }
    issued(says("IssueInstant"), expected.now)?;
    check_status(&document, response)
}

fn check_status(document: &Document<'_>, response: NodeId) -> Result<(), Refused> {
    let status = xml::only(document, response, PROTOCOL, "Status").ok_or(Refused::Shape("it has no status"))?;
    let code = xml::only(document, status, PROTOCOL, "StatusCode").ok_or(Refused::Shape("it has no status"))?;
    let word = |node| xml::attribute(document, node, "Value").unwrap_or_default();
    if word(code) == SUCCESS {
        return Ok(());
    }
    let mut said = word(code).to_owned();
    if let Some(second) = xml::only(document, code, PROTOCOL, "StatusCode") {
        said.push_str(", ");
        said.push_str(word(second));
    }
    Err(Refused::Status(said.chars().filter(|letter| !letter.is_control()).take(200).collect()))
}

fn read_assertion(text: &str, expected: &Expected<'_>) -> Result<Vouched, Refused> {
    let document = xml::parse(text).map_err(Refused::Malformed)?;
    let assertion = xml::root(&document, ASSERTION, "Assertion").ok_or(Refused::Shape("it has no assertion"))?;
    let says = |name| xml::attribute(&document, assertion, name);
    if says("Version") != Some("2.0") {
        return Err(Refused::Version);
    }
    let id = says("ID").filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
    let id = id.ok_or(Refused::Shape("its assertion has no id, or one of more than 256 bytes"))?.to_owned();
    issued(says("IssueInstant"), expected.now)?;
    let part = |name, missing| xml::only(&document, assertion, ASSERTION, name).ok_or(Refused::Shape(missing));
    let issuer = part("Issuer", "its assertion has not exactly one issuer")?;
    same("Issuer", xml::text(&document, issuer).as_deref(), expected.issuer)?;
    let subject = part("Subject", "its assertion has not exactly one subject")?;
    let name = xml::only(&document, subject, ASSERTION, "NameID").and_then(|name| xml::text(&document, name));
    let name = name.filter(|name| !name.is_empty()).ok_or(Refused::Shape("its subject has no NameID"))?;
    let until = confirmed(&document, subject, expected)?;
    let conditions = part("Conditions", "its assertion has not exactly one set of conditions")?;
    check_conditions(&document, conditions, expected)?;
    let session_until = authenticated(&document, assertion, expected.now)?;
    Ok(Vouched { id, until, session_until, name, attributes: attributes(&document, assertion)? })
}

/// That one confirmation at least is for us, now, and answers our request; until when it is good.
fn confirmed(document: &Document<'_>, subject: NodeId, expected: &Expected<'_>) -> Result<Timestamp, Refused> {
    let mut why = Refused::Shape("its subject is not confirmed by the method bearer");
    for confirmation in xml::children(document, subject, ASSERTION, "SubjectConfirmation") {
        if xml::attribute(document, confirmation, "Method") != Some(BEARER) {
            continue;
        }
        match check_confirmation(document, confirmation, expected) {
            Ok(until) => return Ok(until),
            Err(refused) => why = refused,
        }
    }
    Err(why)
}

fn check_confirmation(
    document: &Document<'_>,
    confirmation: NodeId,
    expected: &Expected<'_>,
) -> Result<Timestamp, Refused> {
    let data = xml::only(document, confirmation, ASSERTION, "SubjectConfirmationData");
    let data = data.ok_or(Refused::Shape("the confirmation of its subject says nothing"))?;
    let says = |name| xml::attribute(document, data, name);
    same("Recipient", says("Recipient"), expected.recipient)?;
    same("InResponseTo", says("InResponseTo"), expected.request)?;
    within(says("NotBefore"), says("NotOnOrAfter"), expected.now)?;
    let until = says("NotOnOrAfter").ok_or(Refused::Shape("the confirmation of its subject has no end"))?;
    time(until)
}

fn check_conditions(document: &Document<'_>, conditions: NodeId, expected: &Expected<'_>) -> Result<(), Refused> {
    let says = |name| xml::attribute(document, conditions, name);
    within(says("NotBefore"), says("NotOnOrAfter"), expected.now)?;
    let mut restricted = false;
    for condition in xml::elements(document, conditions) {
        if xml::is(document, condition, ASSERTION, "AudienceRestriction") {
            let audiences = xml::children(document, condition, ASSERTION, "Audience");
            let ours = |audience: &NodeId| xml::text(document, *audience).is_some_and(|text| text == expected.audience);
            if !audiences.iter().any(ours) {
                let first = audiences.first().and_then(|first| xml::text(document, *first));
                return Err(different("Audience", first.as_deref(), expected.audience));
            }
            restricted = true;
        } else if !xml::is(document, condition, ASSERTION, "OneTimeUse")
            && !xml::is(document, condition, ASSERTION, "ProxyRestriction")
        {
            // SAML 2.0 core, 2.5.1.1: what is not understood makes the assertion's validity indeterminate.
            return Err(Refused::Shape("its assertion has a condition of an unknown kind"));
        }
    }
    match restricted {
        true => Ok(()),
        false => Err(different("Audience", None, expected.audience)),
    }
}

/// That the provider says how it knows, and that what it knows it by is not over; the first time at which it ends
/// (`SessionNotOnOrAfter`: SAML 2.0 core, 2.7.2; profiles, 4.1.4.3).
fn authenticated(document: &Document<'_>, assertion: NodeId, now: Timestamp) -> Result<Option<Timestamp>, Refused> {
    let statements = xml::children(document, assertion, ASSERTION, "AuthnStatement");
    if statements.is_empty() {
        return Err(Refused::Shape("its assertion has no statement of authentication"));
    }
    let mut first: Option<Timestamp> = None;
    for statement in statements {
        let end = xml::attribute(document, statement, "SessionNotOnOrAfter");
        within(None, end, now)?;
        if let Some(end) = end.map(time).transpose()? {
            first = Some(first.map_or(end, |first| first.min(end)));
        }
    }
    Ok(first)
}

/// The attributes; those of one name in several elements are one. A value that is not a text is left out.
fn attributes(document: &Document<'_>, assertion: NodeId) -> Result<BTreeMap<String, Vec<String>>, Refused> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for statement in xml::children(document, assertion, ASSERTION, "AttributeStatement") {
        for attribute in xml::children(document, statement, ASSERTION, "Attribute") {
            let Some(name) = xml::attribute(document, attribute, "Name") else {
                return Err(Refused::Shape("one of its attributes has no name"));
            };
            let values = all.entry(name.to_owned()).or_default();
            for value in xml::children(document, attribute, ASSERTION, "AttributeValue") {
                count += 1;
                if count > MOST_VALUES {
                    return Err(Refused::Shape("it has more than 1,000 values of attributes"));
                }
                values.extend(xml::text(document, value).filter(|text| !text.is_empty()));
            }
        }
    }
    Ok(all)
}

fn same(what: &'static str, said: Option<&str>, expected: &str) -> Result<(), Refused> {
    match said == Some(expected) {
        true => Ok(()),
        false => Err(different(what, said, expected)),
    }
}

fn different(what: &'static str, said: Option<&str>, expected: &str) -> Refused {
    let said = said
        .map_or("nothing".to_owned(), |said| said.chars().filter(|letter| !letter.is_control()).take(200).collect());
    Refused::Different { what, said, expected: expected.to_owned() }
}

fn issued(at: Option<&str>, now: Timestamp) -> Result<(), Refused> {
    let at = time(at.ok_or(Refused::Shape("it does not say when it was issued"))?)?;
    match at.duration_since(now) > SKEW {
        true => Err(Refused::NotYet(at)),
        false => Ok(()),
    }
}

fn within(from: Option<&str>, until: Option<&str>, now: Timestamp) -> Result<(), Refused> {
    if let Some(from) = from.map(time).transpose()?
        && from.duration_since(now) > SKEW
    {
        return Err(Refused::NotYet(from));
    }
    if let Some(until) = until.map(time).transpose()?
        && now.duration_since(until) >= SKEW
    {
        return Err(Refused::Over(until));
    }
    Ok(())
}

fn time(text: &str) -> Result<Timestamp, Refused> {
    text.parse().map_err(|_| Refused::Shape("one of its times is not one in UTC"))
}

/// How far the clocks of provider and service may be apart.
pub(super) const SKEW: SignedDuration = SignedDuration::from_secs(60);

const LONGEST: usize = 256 * 1024;
const LONGEST_ID: usize = 256;
const MOST_VALUES: usize = 1000;
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
