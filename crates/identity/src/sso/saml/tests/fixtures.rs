//! Answers in the shapes of real providers, canonicalized and signed by another program (xmlsec1; `fixtures/make.py`).

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Refused,
    answer::{ACS, IDP, NOW, REQUEST, US},
    certificate::Certificate,
    response::{self, Expected, Vouched},
    signature,
};

const CERTIFICATE: &str = include_str!("fixtures/certificate.txt");
const GROUP: &str = "http://schemas.xmlsoap.org/claims/Group";
const SHAPES: [(&str, &str, &[&str]); 4] = [
    (include_str!("fixtures/adfs.xml"), GROUP, &["analysts", "Domain Users"]),
    (
        include_str!("fixtures/entra.xml"),
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups",
        &["analysts"],
    ),
    (include_str!("fixtures/keycloak.xml"), GROUP, &["analysts"]),
    (include_str!("fixtures/shibboleth.xml"), "urn:oid:1.3.6.1.4.1.5923.1.5.1.1", &["analysts"]),
];

fn read(text: &str) -> Result<Vouched, Refused> {
    let certificate = Certificate::parse(&signature::decode(CERTIFICATE).expect("Base64")).expect("a certificate");
    assert_eq!(certificate.subject, "CN=idp.example");
    let now = NOW.parse().expect("a time");
    let expected =
        Expected { issuer: IDP, certificates: &[certificate], audience: US, recipient: ACS, request: REQUEST, now };
    response::read(&STANDARD.encode(text), &expected)
}

#[test]
fn answers_of_adfs_entra_keycloak_and_shibboleth_are_read() {
    for (text, name, groups) in SHAPES {
        let vouched = read(text).expect("a good answer");
        assert_eq!(vouched.name, "ada@example.org");
        assert_eq!(vouched.attributes[name], groups);
    }
}

#[test]
fn none_of_them_is_good_with_another_group() {
    for (text, _, _) in SHAPES {
        let changed = text.replace(">analysts<", ">administrators<");
        assert_ne!(changed, text);
        assert!(matches!(read(&changed), Err(Refused::Signature(_))));
    }
}
