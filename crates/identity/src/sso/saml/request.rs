//! What we send and show: requests by the binding HTTP-Redirect (SAML 2.0 bindings, 3.4.4) and our own metadata.

use std::io::Write as _;

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::DeflateEncoder};
use jiff::Timestamp;
use url::{Url, form_urlencoded::byte_serialize};
use zeroize::Zeroizing;

use super::{
    RequestedAttribute,
    xml::{ASSERTION, DSIG, METADATA, PROTOCOL, escape},
};
use crate::{Error, random};

/// A key by which requests are signed, and its certificate.
pub(super) struct RequestKey {
    /// The private key, PKCS #8 in DER.
    pub private: Zeroizing<Vec<u8>>,
    /// The certificate in DER, signed by the key itself: it carries the key and nothing else.
    pub certificate: Vec<u8>,
}

impl RequestKey {
    /// A new key of RSA with 2048 bits.
    pub fn generate() -> Result<RequestKey, Error> {
        let failed = |_| Error::NoRandom;
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).map_err(failed)?;
        let mut wanted = rcgen::CertificateParams::default();
        wanted.distinguished_name = rcgen::DistinguishedName::new();
        wanted.distinguished_name.push(rcgen::DnType::CommonName, "Casemate single sign-on");
        let certificate = wanted.self_signed(&pair).map_err(failed)?;
        Ok(RequestKey { private: Zeroizing::new(pair.serialize_der()), certificate: certificate.der().to_vec() })
    }
}

/// A new id of a message: an XML name with 160 random bits.
pub(super) fn new_id() -> Result<String, Error> {
    Ok(format!("_{}", random::hex::<20>()?.as_str()))
}

/// The address to which a browser is sent, with a request to say who uses it. `key`: the private key, PKCS #8, if the request is signed.
pub(super) fn redirect(
    service: &Url,
    id: &str,
    us: &OurPlaces,
    relay_state: &str,
    key: Option<&[u8]>,
    now: Timestamp,
) -> Result<String, Error> {
    let request = format!(
        "<samlp:AuthnRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{id}\" Version=\"2.0\" \
         IssueInstant=\"{now:.0}\" Destination=\"{}\" AssertionConsumerServiceURL=\"{}\" \
         ProtocolBinding=\"{POST}\"><saml:Issuer>{}</saml:Issuer><samlp:NameIDPolicy AllowCreate=\"true\"/>\
         </samlp:AuthnRequest>",
        escape(service.as_str()),
        escape(&us.consumer),
        escape(&us.entity),
    );
    let damaged = |_| Error::Damaged { what: "request for a log-in" };
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(request.as_bytes()).map_err(damaged)?;
    let request = STANDARD.encode(deflate.finish().map_err(damaged)?);
    let mut query = String::new();
    push(&mut query, "SAMLRequest", &request);
    push(&mut query, "RelayState", relay_state);
    if let Some(key) = key {
        push(&mut query, "SigAlg", RSA_SHA256);
        let broken = || Error::Damaged { what: "key of requests for a log-in" };
        let key = KeyPair::from_pkcs8(key).map_err(|_| broken())?;
        let mut signature = vec![0; key.public_modulus_len()];
        // Exactly these bytes are signed (bindings, 3.4.4.1).
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), query.as_bytes(), &mut signature).map_err(|_| broken())?;
        push(&mut query, "Signature", &STANDARD.encode(signature));
    }
    let join = if service.query().is_some() { '&' } else { '?' };
    let service = service.as_str().split('#').next().unwrap_or_default();
    Ok(format!("{service}{join}{query}"))
}

fn push(query: &mut String, name: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    query.extend(byte_serialize(value.as_bytes()));
}

/// What we are to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OurPlaces {
    /// Our entity id, which is the address of our metadata.
    pub entity: String,
    /// Where answers come to.
    pub consumer: String,
}

/// Our metadata. `certificate`: of the key by which requests are signed, in DER.
pub(super) fn our_metadata(us: &OurPlaces, certificate: Option<&[u8]>, wanted: &[RequestedAttribute]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<md:EntityDescriptor xmlns:md=\"{METADATA}\" entityID=\"{}\">\n\
         <md:SPSSODescriptor AuthnRequestsSigned=\"{}\" WantAssertionsSigned=\"true\" \
         protocolSupportEnumeration=\"{PROTOCOL}\">\n",
        escape(&us.entity),
        certificate.is_some(),
    );
    if let Some(certificate) = certificate {
        text.push_str(&format!(
            "<md:KeyDescriptor use=\"signing\"><ds:KeyInfo xmlns:ds=\"{DSIG}\"><ds:X509Data><ds:X509Certificate>{}\
             </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\n",
            STANDARD.encode(certificate)
        ));
    }
    text.push_str(&format!(
        "<md:AssertionConsumerService Binding=\"{POST}\" Location=\"{}\" index=\"0\" isDefault=\"true\"/>\n",
        escape(&us.consumer)
    ));
    if !wanted.is_empty() {
        text.push_str(
            "<md:AttributeConsumingService index=\"0\"><md:ServiceName xml:lang=\"en\">Casemate</md:ServiceName>\n",
        );
        for attribute in wanted {
            let format = attribute.name_format.as_ref();
            let format = format.map(|format| format!(" NameFormat=\"{}\"", escape(format))).unwrap_or_default();
            let (name, is_required) = (escape(&attribute.name), attribute.is_required);
            text.push_str(&format!("<md:RequestedAttribute Name=\"{name}\"{format} isRequired=\"{is_required}\">"));
            for value in attribute.values.iter().flatten() {
                let value = escape(value);
                text.push_str(&format!(
                    "<saml:AttributeValue xmlns:saml=\"{ASSERTION}\">{value}</saml:AttributeValue>"
                ));
            }
            text.push_str("</md:RequestedAttribute>\n");
        }
        text.push_str("</md:AttributeConsumingService>\n");
    }
    text.push_str("</md:SPSSODescriptor>\n</md:EntityDescriptor>\n");
    text
}

const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::DeflateDecoder;

    use super::*;
    use crate::sso::saml::{
        certificate::{Certificate, Digest, Method},
        xml,
    };

    fn us() -> OurPlaces {
        OurPlaces { entity: "https://us.example/m/a&b".to_owned(), consumer: "https://us.example/acs".to_owned() }
    }

    #[test]
    fn a_request_says_who_asks_and_its_signature_is_over_the_query() {
        let key = RequestKey::generate().expect("a key");
        let service = Url::parse("https://idp.example/sso?realm=x").expect("a URL");
        let now = "2026-01-01T00:00:00.5Z".parse().expect("a time");
        let url = redirect(&service, "_1", &us(), "0123", Some(&key.private), now).expect("an address");
        let query = url.strip_prefix("https://idp.example/sso?realm=x&").expect("the provider's own query stays");
        let (signed, signature) = query.split_once("&Signature=").expect("a signature");
        let signature =
            url::form_urlencoded::parse(format!("s={signature}").as_bytes()).next().expect("one").1.into_owned();
        let certificate = Certificate::parse(&key.certificate).expect("a certificate");
        let signature = STANDARD.decode(signature).expect("Base64");
        assert!(certificate.verifies(Method::Rsa(Digest::Sha256), signed.as_bytes(), &signature));
        let fields: Vec<_> = url::form_urlencoded::parse(signed.as_bytes()).into_owned().collect();
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["SAMLRequest", "RelayState", "SigAlg"]);
        assert_eq!(fields[1].1, "0123");
        let mut text = String::new();
        let deflated = STANDARD.decode(&fields[0].1).expect("Base64");
        DeflateDecoder::new(&deflated[..]).read_to_string(&mut text).expect("DEFLATE");
        let document = xml::parse(&text).expect("XML");
        let root = xml::root(&document, PROTOCOL, "AuthnRequest").expect("a request");
        for (name, value) in [
            ("ID", "_1"),
            ("IssueInstant", "2026-01-01T00:00:00Z"),
            ("Destination", "https://idp.example/sso?realm=x"),
            ("AssertionConsumerServiceURL", "https://us.example/acs"),
        ] {
            assert_eq!(xml::attribute(&document, root, name), Some(value));
        }
        let issuer = xml::only(&document, root, ASSERTION, "Issuer").expect("an issuer");
        assert_eq!(xml::text(&document, issuer).as_deref(), Some("https://us.example/m/a&b"));
        let unsigned = redirect(&service, "_1", &us(), "0123", None, now).expect("an address");
        assert!(!unsigned.contains("Signature") && !unsigned.contains("SigAlg"), "{unsigned}");
    }

    #[test]
    fn our_metadata_is_what_its_readers_expect_whatever_names_attributes_have() {
        let wanted = RequestedAttribute {
            name: "a\"><evil".to_owned(),
            name_format: Some("urn:f".to_owned()),
            is_required: true,
            values: Some(vec!["<x>".to_owned()]),
        };
        let text = our_metadata(&us(), Some(&[1, 2, 3]), &[wanted]);
        let document = xml::parse(&text).expect("XML");
        let root = xml::root(&document, METADATA, "EntityDescriptor").expect("a descriptor");
        assert_eq!(xml::attribute(&document, root, "entityID"), Some("https://us.example/m/a&b"));
        let service = xml::only(&document, root, METADATA, "SPSSODescriptor").expect("a service");
        assert_eq!(xml::attribute(&document, service, "WantAssertionsSigned"), Some("true"));
        let consuming = xml::only(&document, service, METADATA, "AttributeConsumingService").expect("a list");
        let attribute = xml::only(&document, consuming, METADATA, "RequestedAttribute").expect("an attribute");
        assert_eq!(xml::attribute(&document, attribute, "Name"), Some("a\"><evil"));
    }
}
