//! Single sign-on by OpenID Connect Core 1.0: the authorization code flow with PKCE (RFC 7636), begun by us alone. Start at
//! [`Identity::create_oidc_provider`](crate::Identity::create_oidc_provider) and
//! [`Identity::begin_sso`](crate::Identity::begin_sso); what is believed, `token` decides.

mod client;
mod login;
mod provider;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use client::Client;
pub use login::{OIDC_CALLBACK, OidcAnswer};
pub use provider::{ClientSecret, OidcProvider, OidcSettings};

/// Why a provider cannot be used, or its answer is not taken. It holds no secret. What people hear of it, and the audit log:
/// [`Fault::told`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The issuer is no address that this service calls.
    #[error("the issuer has to be an address of https without a query, of a host that this service may call")]
    Issuer,
    /// What is at an address of the provider cannot be had.
    #[error("{0} of the provider cannot be fetched")]
    Away(&'static str),
    /// What is there is not what it should be.
    #[error("{0} of the provider is not what OpenID Connect says: {1}")]
    Shape(&'static str, &'static str),
    /// The metadata is of somebody else.
    #[error("the metadata that stands below the issuer is of another one: {0:?}")]
    OtherIssuer(String),
    /// The answer that the browser brought has no code.
    #[error("the answer of the provider has to have a code of at most 4096 bytes, or an error")]
    NoCode,
    /// The provider did not let the person in.
    #[error("the provider answered: {0}")]
    Answered(String),
    /// The answer is of another provider (RFC 9207).
    #[error("the answer names another issuer than the provider of the account")]
    MixedUp,
    /// The provider gave nothing for the code.
    #[error("the provider refused the code: {0}")]
    Code(String),
    /// The ID token is not good.
    #[error("the ID token of the provider is not good: {0}")]
    Token(&'static str),
    /// A claim of the ID token is missing, or of another form.
    #[error("the ID token of the provider has no claim '{claim}' that is {form}")]
    Claim {
        /// Which.
        claim: String,
        /// What it should be.
        form: &'static str,
    },
}

impl Fault {
    /// What is told to people, administrators and the audit log. What the addresses of a provider answer is said in the
    /// service's log alone: who names them would learn what stands in the network of the service.
    pub fn told(&self) -> String {
        match self {
            Fault::Away(_) | Fault::Shape(..) | Fault::OtherIssuer(_) | Fault::Code(_) => {
                tracing::warn!(cause = %self, "an identity provider cannot be used");
                UNUSABLE.to_owned()
            }
            _ => self.to_string(),
        }
    }
}

const UNUSABLE: &str = "the provider cannot be used: its metadata, its keys and its answer to the code have to be what \
    OpenID Connect says and to come within 10 s, each in at most 1 MiB and without a redirect. The operator of this service \
    finds in its log what failed";
