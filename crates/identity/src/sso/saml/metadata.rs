//! What a provider says of itself (SAML 2.0 metadata, 2.4.3): read from the text that an administrator gave. Its own
//! signature is not looked at: who gives the text vouches for it.

use jiff::Timestamp;
use url::Url;

use super::{
    certificate::Certificate,
    signature::decode,
    xml::{self, DSIG, METADATA, PROTOCOL},
};
use crate::sso::place::place;

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Its entity id.
    pub entity: String,
    /// Where a browser is sent with a request.
    pub service: Url,
    /// The certificates with which it may sign; one at least.
    pub certificates: Vec<Certificate>,
    /// Whether it takes signed requests only.
    pub wants_signed_requests: bool,
    /// Until when this may be used, if it says so.
    pub valid_until: Option<Timestamp>,
}

impl Metadata {
    /// Reads a document, of 1 MiB at most, that describes exactly one identity provider. The error says what would be right.
    pub fn parse(text: &str) -> Result<Metadata, &'static str> {
        if text.len() > LONGEST {
            return Err("at most 1 MiB");
        }
        let text = text.trim_start_matches('\u{feff}').trim();
        let document = xml::parse(text).map_err(|_| "XML that is well-formed, without a document type")?;
        let root = document.document_element().ok_or(NOT_ONE)?;
        let candidates = match xml::is(&document, root, METADATA, "EntitiesDescriptor") {
            true => xml::children(&document, root, METADATA, "EntityDescriptor"),
            false => vec![root],
        };
        let mut providers = candidates.into_iter().filter_map(|entity| {
            let is_entity = xml::is(&document, entity, METADATA, "EntityDescriptor");
            let provider = xml::only(&document, entity, METADATA, "IDPSSODescriptor").filter(|_| is_entity)?;
            Some((entity, provider))
        });
        let (Some((entity, provider)), None) = (providers.next(), providers.next()) else { return Err(NOT_ONE) };
        let name = xml::attribute(&document, entity, "entityID").filter(|id| !id.is_empty() && id.len() <= 1024);
        let protocols = xml::attribute(&document, provider, "protocolSupportEnumeration").unwrap_or_default();
        if !protocols.split_ascii_whitespace().any(|protocol| protocol == PROTOCOL) {
            return Err("the metadata of a provider that speaks SAML 2.0");
        }
        let mut valid_until: Option<Timestamp> = None;
        for node in [root, entity, provider] {
            if let Some(text) = xml::attribute(&document, node, "validUntil") {
                let this: Timestamp = text.parse().map_err(|_| "a validUntil that is a time in UTC")?;
                valid_until = Some(valid_until.map_or(this, |until| until.min(this)));
            }
        }
        let mut certificates = Vec::new();
        for key in xml::children(&document, provider, METADATA, "KeyDescriptor") {
            if xml::attribute(&document, key, "use").is_some_and(|purpose| purpose != "signing") {
                continue;
            }
            for info in xml::children(&document, key, DSIG, "KeyInfo") {
                for data in xml::children(&document, info, DSIG, "X509Data") {
                    for certificate in xml::children(&document, data, DSIG, "X509Certificate") {
                        let der = xml::text(&document, certificate).and_then(|text| decode(&text));
                        let read = Certificate::parse(&der.ok_or("certificates in Base64")?)?;
                        if !certificates.contains(&read) {
                            certificates.push(read);
                        }
                    }
                }
            }
        }
        if certificates.is_empty() || certificates.len() > MOST_CERTIFICATES {
            return Err("1 to 16 certificates for signing (KeyDescriptor)");
        }
        let mut service = None;
        for endpoint in xml::children(&document, provider, METADATA, "SingleSignOnService") {
            if xml::attribute(&document, endpoint, "Binding") == Some(REDIRECT) && service.is_none() {
                service = Some(place(xml::attribute(&document, endpoint, "Location").unwrap_or_default().trim(), true));
            }
        }
        let wants = xml::attribute(&document, provider, "WantAuthnRequestsSigned").unwrap_or("false").trim();
        Ok(Metadata {
            entity: name.ok_or("an entityID of 1 to 1,024 bytes")?.to_owned(),
            service: service.ok_or("a SingleSignOnService with the binding HTTP-Redirect")?.ok_or(NO_PLACE)?,
            certificates,
            wants_signed_requests: matches!(wants, "true" | "1"),
            valid_until,
        })
    }
}

/// Bytes of the longest metadata.
pub(super) const LONGEST: usize = 1 << 20;
const MOST_CERTIFICATES: usize = 16;
const NO_PLACE: &str = "a SingleSignOnService at an address that begins with https (or http, on a loopback address)";
const NOT_ONE: &str = "SAML 2.0 metadata (EntityDescriptor) of exactly one identity provider (IDPSSODescriptor)";
const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sso::saml::tests::signer::{Algorithm, Signer};

    fn metadata(certificate: &str, extra: &str, location: &str) -> String {
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<md:EntityDescriptor xmlns:md="{METADATA}" entityID="https://idp.example/" {extra}>
 <md:IDPSSODescriptor WantAuthnRequestsSigned="true" protocolSupportEnumeration="{PROTOCOL}">
  <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{DSIG}"><ds:X509Data><ds:X509Certificate>
{certificate}
</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
  <md:KeyDescriptor use="encryption"><ds:KeyInfo xmlns:ds="{DSIG}"><ds:X509Data><ds:X509Certificate>AAAA</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
  <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.example/post"/>
  <md:SingleSignOnService Binding="{REDIRECT}" Location="{location}"/>
 </md:IDPSSODescriptor>
</md:EntityDescriptor>"#
        )
    }

    #[test]
    fn what_a_provider_says_of_itself_is_read() {
        let signer = Signer::new(Algorithm::P256);
        let text =
            metadata(&signer.certificate_text(), "validUntil=\"2030-01-01T00:00:00Z\"", "https://idp.example/sso");
        let read = Metadata::parse(&text).expect("metadata");
        assert_eq!(read.entity, "https://idp.example/");
        assert_eq!(read.service.as_str(), "https://idp.example/sso");
        assert_eq!(read.certificates, [signer.certificate()]);
        assert!(read.wants_signed_requests);
        assert_eq!(read.valid_until, Some("2030-01-01T00:00:00Z".parse().expect("a time")));
        let several = format!(
            "<EntitiesDescriptor xmlns=\"{METADATA}\">{}</EntitiesDescriptor>",
            text.split_once("?>").expect("a declaration").1
        );
        assert_eq!(Metadata::parse(&several).expect("metadata").entity, "https://idp.example/");
    }

    #[test]
    fn what_is_not_the_metadata_of_one_provider_is_refused_by_name() {
        let certificate = Signer::new(Algorithm::P256).certificate_text();
        let good = metadata(&certificate, "", "https://idp.example/sso");
        let one = good.split_once("?>").expect("a declaration").1;
        for (text, said) in [
            (String::new(), "well-formed"),
            ("<a/>".to_owned(), "exactly one"),
            (format!("<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]>{one}"), "document type"),
            (format!("<EntitiesDescriptor xmlns=\"{METADATA}\">{one}{one}</EntitiesDescriptor>"), "exactly one"),
            (good.replace(PROTOCOL, "urn:oasis:names:tc:SAML:1.1:protocol"), "speaks SAML 2.0"),
            (good.replace("use=\"signing\"", "use=\"encryption\""), "certificate"),
            (good.replace(&certificate, "AAAA"), "certificate"),
            (good.replace(REDIRECT, "urn:other"), "HTTP-Redirect"),
            (metadata(&certificate, "", "http://idp.example/sso"), "https"),
            (metadata(&certificate, "", "javascript:alert(1)"), "https"),
            (metadata(&certificate, "", "https://a:b@idp.example/sso"), "https"),
            (metadata(&certificate, "validUntil=\"soon\"", "https://idp.example/sso"), "validUntil"),
            (" ".repeat(LONGEST + 1), "1 MiB"),
        ] {
            let fault = Metadata::parse(&text).expect_err(said);
            assert!(fault.contains(said), "{fault}; {said}");
        }
        assert!(Metadata::parse(&metadata(&certificate, "", "http://127.0.0.1:8080/sso")).is_ok());
    }
}
