//! A provider's own hand: keys, certificates, signatures over answers of any shape.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bergshamra_c14n::{C14nMode, canonicalize_doc};
use bergshamra_xml::NodeSet;
use uppsala::Document;

use crate::sso::saml::{certificate::Certificate, xml};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rsa,
    P256,
    P384,
    P521,
}

pub(crate) struct Signer {
    algorithm: Algorithm,
    private: Vec<u8>,
    der: Vec<u8>,
}

/// What of a signature is to be other than usual.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub method: String,
    pub digest: String,
    pub reference: Option<String>,
    pub transforms: String,
    pub canonicalization: String,
    pub key_info: String,
    pub more: String,
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm) -> Signer {
        let pair = match algorithm {
            Algorithm::Rsa => rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
            Algorithm::P256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Algorithm::P384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Algorithm::P521 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        }
        .expect("a key");
        let wanted = rcgen::CertificateParams::new(vec!["idp.example".to_owned()]).expect("a name");
        let der = wanted.self_signed(&pair).expect("a certificate").der().to_vec();
        Signer { algorithm, private: pair.serialize_der(), der }
    }

    pub(crate) fn certificate(&self) -> Certificate {
        Certificate::parse(&self.der).expect("a certificate")
    }

    pub(crate) fn certificate_text(&self) -> String {
        STANDARD.encode(&self.der)
    }

    pub(crate) fn way(&self) -> Way {
        let method = match self.algorithm {
            Algorithm::Rsa => "rsa-sha256",
            Algorithm::P256 => "ecdsa-sha256",
            Algorithm::P384 => "ecdsa-sha384",
            Algorithm::P521 => "ecdsa-sha512",
        };
        Way {
            method: format!("http://www.w3.org/2001/04/xmldsig-more#{method}"),
            digest: "http://www.w3.org/2001/04/xmlenc#sha256".to_owned(),
            reference: None,
            transforms: format!(
                "<ds:Transform Algorithm=\"{}\"></ds:Transform><ds:Transform Algorithm=\"{}\"></ds:Transform>",
                super::signature::ENVELOPED,
                super::signature::EXCLUSIVE
            ),
            canonicalization: super::signature::EXCLUSIVE.to_owned(),
            key_info: String::new(),
            more: String::new(),
        }
    }

    /// The text with the element of that id signed: the signature takes the place of the comment `<!--sign ID-->`.
    pub(crate) fn sign(&self, text: &str, id: &str) -> String {
        self.sign_as(text, id, &self.way())
    }

    pub(crate) fn sign_as(&self, text: &str, id: &str, way: &Way) -> String {
        text.replace(&format!("<!--sign {id}-->"), &self.signature(text, id, way))
    }

    pub(crate) fn signature(&self, text: &str, id: &str, way: &Way) -> String {
        let document = xml::parse(text).expect("XML");
        let element = by_id(&document, id);
        let within = NodeSet::tree_without_comments(element, &document);
        let within = canonicalize_doc::<&str>(&document, C14nMode::Exclusive, Some(&within), &[]).expect("canonical");
        let hash = match way.digest.rsplit('#').next() {
            Some("sha1") => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Some("sha384") => &digest::SHA384,
            Some("sha512") => &digest::SHA512,
            _ => &digest::SHA256,
        };
        let value = STANDARD.encode(digest::digest(hash, &within));
        let reference = way.reference.clone().unwrap_or_else(|| format!("#{id}"));
        let info = |space: &str| {
            format!(
                "<ds:SignedInfo{space}><ds:CanonicalizationMethod Algorithm=\"{}\"></ds:CanonicalizationMethod>\
                 <ds:SignatureMethod Algorithm=\"{}\"></ds:SignatureMethod><ds:Reference URI=\"{reference}\">\
                 <ds:Transforms>{}</ds:Transforms><ds:DigestMethod Algorithm=\"{}\"></ds:DigestMethod>\
                 <ds:DigestValue>{value}</ds:DigestValue></ds:Reference></ds:SignedInfo>",
                way.canonicalization, way.method, way.transforms, way.digest
            )
        };
        let signed = self.sign_bytes(info(&format!(" xmlns:ds=\"{}\"", xml::DSIG)).as_bytes(), &way.method);
        format!(
            "<ds:Signature xmlns:ds=\"{}\">{}<ds:SignatureValue>{}</ds:SignatureValue>{}{}</ds:Signature>",
            xml::DSIG,
            info(""),
            STANDARD.encode(signed),
            way.key_info,
            way.more,
        )
    }

    fn sign_bytes(&self, bytes: &[u8], method: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        if method.contains("hmac") {
            // The oldest trick: the public key as the secret that both have.
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.der);
            return aws_lc_rs::hmac::sign(&key, bytes).as_ref().to_vec();
        }
        let curve = match self.algorithm {
            Algorithm::Rsa => {
                let key = rsa::KeyPair::from_pkcs8(&self.private).expect("a key");
                let padding = match method.rsplit('#').next() {
                    Some("rsa-sha384") => &signature::RSA_PKCS1_SHA384,
                    Some("rsa-sha512") => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, bytes, &mut out).expect("a signature");
                return out;
            }
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Algorithm::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            Algorithm::P521 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        };
        let key = EcdsaKeyPair::from_pkcs8(curve, &self.private).expect("a key");
        key.sign(&random, bytes).expect("a signature").as_ref().to_vec()
    }
}

fn by_id(document: &Document<'_>, id: &str) -> uppsala::NodeId {
    let mut all = document.descendants(document.root()).into_iter();
    all.find(|node| xml::attribute(document, *node, "ID") == Some(id)).expect("an element of that id")
}
