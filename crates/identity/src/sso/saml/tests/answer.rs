//! Answers as a provider makes them, each part of which a test may have otherwise.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Refused,
    response::{self, Expected, Vouched},
    signer::Signer,
    xml::{ASSERTION, PROTOCOL},
};

pub(super) const NOW: &str = "2026-01-01T12:00:00Z";
pub(super) const IDP: &str = "https://idp.example/";
pub(super) const US: &str = "https://us.example/console/sso/saml/metadata/ab1-casemate";
pub(super) const ACS: &str = "https://us.example/console/sso/saml/acs";
pub(super) const REQUEST: &str = "_request";

/// The parts of an answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub name: String,
    pub group: String,
    pub response_id: String,
    pub assertion_id: String,
    pub status: String,
    pub extensions: String,
    pub before_assertion: String,
    pub after_assertion: String,
    pub in_assertion: String,
    pub changes: Vec<(String, String)>,
}

impl Default for Answer {
    fn default() -> Answer {
        Answer {
            name: "ada@example.org".to_owned(),
            group: "analysts".to_owned(),
            response_id: "_response".to_owned(),
            assertion_id: "_assertion".to_owned(),
            status: "<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/>".to_owned(),
            extensions: String::new(),
            before_assertion: String::new(),
            after_assertion: String::new(),
            in_assertion: String::new(),
            changes: Vec::new(),
        }
    }
}

impl Answer {
    /// The same with another text in place of one that is in it.
    pub(super) fn with(mut self, from: &str, to: &str) -> Answer {
        self.changes.push((from.to_owned(), to.to_owned()));
        self
    }

    pub(super) fn assertion(&self) -> String {
        let Answer { name, group, assertion_id, in_assertion, .. } = self;
        let text = format!(
            "<saml:Assertion xmlns:saml=\"{ASSERTION}\" ID=\"{assertion_id}\" Version=\"2.0\" IssueInstant=\"{NOW}\">\
             <saml:Issuer>{IDP}</saml:Issuer><!--sign {assertion_id}-->\
             <saml:Subject><saml:NameID>{name}</saml:NameID>\
             <saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\">\
             <saml:SubjectConfirmationData Recipient=\"{ACS}\" InResponseTo=\"{REQUEST}\" \
             NotOnOrAfter=\"2026-01-01T12:05:00Z\"/></saml:SubjectConfirmation></saml:Subject>\
             <saml:Conditions NotBefore=\"2026-01-01T11:59:00Z\" NotOnOrAfter=\"2026-01-01T13:00:00Z\">\
             <saml:AudienceRestriction><saml:Audience>{US}</saml:Audience></saml:AudienceRestriction></saml:Conditions>\
             <saml:AuthnStatement AuthnInstant=\"{NOW}\"><saml:AuthnContext><saml:AuthnContextClassRef>\
             urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext>\
             </saml:AuthnStatement><saml:AttributeStatement>\
             <saml:Attribute Name=\"http://schemas.xmlsoap.org/claims/Group\">\
             <saml:AttributeValue>{group}</saml:AttributeValue></saml:Attribute></saml:AttributeStatement>\
             {in_assertion}</saml:Assertion>"
        );
        self.changes.iter().fold(text, |text, (from, to)| text.replace(from, to))
    }

    pub(super) fn response(&self) -> String {
        let Answer { response_id, status, extensions, before_assertion, after_assertion, .. } = self;
        let text = format!(
            "<samlp:Response xmlns:samlp=\"{PROTOCOL}\" ID=\"{response_id}\" Version=\"2.0\" IssueInstant=\"{NOW}\" \
             Destination=\"{ACS}\" InResponseTo=\"{REQUEST}\"><saml:Issuer xmlns:saml=\"{ASSERTION}\">{IDP}</saml:Issuer>\
             <!--sign {response_id}-->{extensions}<samlp:Status>{status}</samlp:Status>{before_assertion}"
        );
        let text = self.changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
        format!("{text}{}{after_assertion}</samlp:Response>", self.assertion())
    }
}

/// What comes of such a message for one that trusts that signer.
pub(super) fn read(signer: &Signer, text: &str) -> Result<Vouched, Refused> {
    read_at(signer, text, NOW)
}

pub(super) fn read_at(signer: &Signer, text: &str, now: &str) -> Result<Vouched, Refused> {
    let expected = Expected {
        issuer: IDP,
        certificates: &[signer.certificate()],
        audience: US,
        recipient: ACS,
        request: REQUEST,
        now: now.parse().expect("a time"),
    };
    response::read(&STANDARD.encode(text), &expected)
}
