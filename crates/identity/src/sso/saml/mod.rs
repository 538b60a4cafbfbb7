//! Single sign-on by SAML 2.0: the Web Browser SSO Profile, with requests by HTTP-Redirect and answers by HTTP-POST, begun
//! by us alone. Start at
//! [`Identity::create_saml_provider`](crate::Identity::create_saml_provider) and
//! [`Identity::begin_sso`](crate::Identity::begin_sso); what is believed, `response` decides.

mod certificate;
mod fetch;
#[cfg(any(fuzzing, test))]
mod fuzzing;
mod login;
mod metadata;
mod provider;
mod request;
mod response;
mod signature;
#[cfg(test)]
mod tests;
mod xml;

#[cfg(fuzzing)]
pub use fuzzing::saml_response;
pub use provider::{NAME_ID, SamlExtensions, SamlProvider, SamlSettings, SigningCertificate};

use jiff::Timestamp;

/// Why an answer of a provider is not taken. Said in full in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refused {
    /// It is not a message.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// Something is missing, or is where it does not belong.
    #[error("the answer has another form than that of SAML 2.0: {0}")]
    Shape(&'static str),
    /// Nothing in it is signed.
    #[error("neither the response nor its assertion is signed")]
    Unsigned,
    /// A signature that is none, or of another form than SAML's.
    #[error("the signature is not good: {0}")]
    Signature(&'static str),
    /// A way of signing that is not safe, or unknown.
    #[error("the signature uses the algorithm '{0}'; RSA and ECDSA with SHA-256, SHA-384 or SHA-512 are accepted")]
    Algorithm(String),
    /// It is encrypted.
    #[error("the assertion is encrypted, which is not supported: switch encryption off at the provider")]
    Encrypted,
    /// Another version of SAML.
    #[error("the answer is not of SAML 2.0")]
    Version,
    /// The provider did not let the person in.
    #[error("the provider answered: {0}")]
    Status(String),
    /// Something is not what it must be.
    #[error("{what} is '{said}', expected is '{expected}'")]
    Different {
        /// What.
        what: &'static str,
        /// What the answer says.
        said: String,
        /// What it should say.
        expected: String,
    },
    /// It is good later.
    #[error("the answer is good from {0} on, or the clocks of provider and service differ")]
    NotYet(Timestamp),
    /// It was good.
    #[error("the answer was good until {0}, or the clocks of provider and service differ")]
    Over(Timestamp),
    /// The metadata of the provider is too old.
    #[error("the metadata of the provider was valid until {0}: an administrator has to give a newer one")]
    Metadata(Timestamp),
    /// The person has no name.
    #[error("the answer has not exactly one value of the attribute '{0}', which names the person")]
    NoName(String),
}

/// An attribute that a provider is asked for in our metadata.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedAttribute {
    /// Whether nobody can come in without it.
    pub is_required: bool,
    /// Its name.
    pub name: String,
    /// How its name is to be understood, a URI.
    #[serde(default)]
    pub name_format: Option<String>,
    /// The values that are of use; `None`: all are.
    #[serde(default)]
    pub values: Option<Vec<String>>,
}
