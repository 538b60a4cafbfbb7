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

/// Why a provider cannot be used, or its answer is not taken. Said in full in the audit log; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// What is at an address of the provider cannot be had. The cause is in the service's log alone: it would tell who asks
    /// what stands in the network of the service.
    #[error(
        "{0} of the provider cannot be fetched: it has to answer within 10 s, without a redirect, in at most 1 MiB"
    )]
    Away(&'static str),
    /// What is there is not what it should be.
    #[error("{0} of the provider is not what OpenID Connect says: {1}")]
    Shape(&'static str, &'static str),
    /// The metadata is of somebody else.
    #[error("the metadata that stands below the issuer is of another one: '{0}'")]
    OtherIssuer(String),
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
