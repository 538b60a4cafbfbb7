//! The pages, one file a subject.

pub(crate) mod audit;
pub(crate) mod credentials;
pub(crate) mod grant;
pub(crate) mod home;
pub(crate) mod iam;
pub(crate) mod log_in;
pub(crate) mod projects;
pub(crate) mod security;
