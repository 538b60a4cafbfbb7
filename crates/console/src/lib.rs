//! Pages for people, made on the server, good without a script. Knows HTTP, forms and sessions; has no right that the API
//! lacks: what a page shows or changes goes through the API's router in this process, as the caller whose session it is, so
//! that gate, policies and audit log are the same. Start at [`router`].
//!
//! A page exists only as a row of [`PAGES`]. Every visit goes through one gate ([`gate`]): bounds, session, origin and
//! token of a form, handler.

mod gate;
mod pages;
mod routes;
mod view;
mod visit;

pub use gate::router;
pub use routes::{Access, PAGES, Page};

use std::{net::IpAddr, sync::Arc};

use axum::Router;
use http::request::Parts;
use identity::Identity;
use jiff::Timestamp;

/// What the pages work on; a cheap handle.
#[derive(Clone)]
pub struct Console {
    /// Log-ins and sessions.
    pub identity: Identity,
    /// The API, which is called in this process. It must believe an `identity::Caller` among the extensions of a request.
    pub api: Router,
    /// What is to be believed of where a request comes from.
    pub seen: Arc<dyn Fn(&Parts) -> Seen + Send + Sync>,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Where a request comes from, and by which address it reached the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The client.
    pub source_ip: Option<IpAddr>,
    /// Scheme, host and port that the browser used, such as `https://console.example.org`.
    pub base_url: String,
}
