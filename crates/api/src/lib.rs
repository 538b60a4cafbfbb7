//! The HTTP surface: the routes, bodies and errors of the old service's API. Knows HTTP and JSON; touches no SQL, no
//! files and no sandboxes, and decides nothing: `identity` does. Start at [`router`].
//!
//! Every call goes through one gate ([`gate`]): bounds, signature, access rules, decision, handler, audit entry.
//! A route exists only as a row of [`ROUTES`], and a row names the IAM action that it needs.

mod audit_views;
mod auth;
mod billing;
mod capabilities;
mod client_files;
mod contacts;
mod containers;
mod error;
mod explain;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gate;
mod iam;
mod identity_provider;
mod ip_restrictions;
mod jobs_routes;
mod live;
mod logs;
mod me;
mod oauth2;
mod oidc_provider;
mod pages;
mod pagination;
mod people;
mod percent;
mod platform_users;
mod project;
mod public;
mod quota;
mod recorded;
mod request;
mod roles;
mod routes;
mod s3_keys;
mod schedules;
mod second_factors;
mod security_keys;
mod setup;
mod sso;
mod storage;
mod tokens;
mod used;
mod users;
mod validation;

pub use error::ApiError;
pub use gate::{base_url, router, source_ip};
pub use routes::{Access, CANCEL, ROUTES, Route, SUBMIT};

use std::{sync::Arc, time::Duration};

use audit::Audit;
use engine::Engines;
use identity::Identity;
use ipnet::IpNet;
use jobs::Jobs;
use model::Region;
use objects::Store;

/// What the routes work on; a cheap handle.
#[derive(Clone)]
pub struct ApiState {
    /// Who may do what.
    pub identity: Identity,
    /// Jobs.
    pub jobs: Jobs,
    /// Buckets.
    pub objects: Store,
    /// The audit log.
    pub audit: Audit,
    /// Installed engines.
    pub engines: Arc<Engines>,
    /// What this service is like.
    pub config: Arc<Config>,
}

/// What the API has to know of its surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The addresses that clients use, such as `https://api.example.org`: signatures are about them. The loopback
    /// addresses need not be in it. The first is shown to people.
    pub public_urls: Vec<String>,
    /// Whether the service itself speaks TLS: then a loopback address is reached by HTTPS.
    pub tls: bool,
    /// The address of the object gate that clients use, for presigned URLs.
    pub objects_url: String,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The regions of this service; never empty.
    pub regions: Vec<Region>,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            public_urls: Vec::new(),
            tls: false,
            objects_url: "http://127.0.0.1:9000".to_owned(),
            trusted_proxies: Vec::new(),
            regions: "LOCAL".parse().into_iter().collect(),
            body_timeout: Duration::from_secs(10),
        }
    }
}
