//! Every page of the console: one row each. The router is built from this table, and tests walk it.

use futures::future::BoxFuture;

use crate::{
    pages::{audit, credentials, grant, home, iam, log_in, projects, security},
    view::{Outcome, Stop},
    visit::Visit,
};

/// Who may come to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Who has a session; everybody else is sent to the log-in.
    Session,
}

pub(crate) type Handler = fn(Visit) -> BoxFuture<'static, Result<Outcome, Stop>>;

/// One page, or the form of one.
pub struct Page {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path. Parts in braces are parameters.
    pub path: &'static str,
    /// Who may come to it.
    pub access: Access,
    pub(crate) handler: Handler,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

macro_rules! page {
    ($access:ident $method:literal $path:literal, $handler:path) => {
        Page { method: $method, path: $path, access: Access::$access, handler: |visit| Box::pin($handler(visit)) }
    };
}

/// The table.
pub static PAGES: &[Page] = &[
    page!(Open "GET" "/console/console.css", home::style),
    page!(Open "GET" "/console/login", log_in::page),
    page!(Open "POST" "/console/login", log_in::submit),
    page!(Session "POST" "/console/logout", log_in::log_out),
    page!(Session "GET" "/console", home::page),
    page!(Session "GET" "/console/security", security::page),
    page!(Session "POST" "/console/security", security::submit),
    page!(Session "GET" "/console/credentials", credentials::page),
    page!(Session "POST" "/console/credentials", credentials::revoke),
    page!(Session "GET" "/console/projects/{project}", projects::page),
    page!(Session "GET" "/console/projects/{project}/jobs", projects::jobs),
    page!(Session "GET" "/console/projects/{project}/jobs/{job}", projects::job),
    page!(Session "GET" "/console/projects/{project}/schedules", projects::schedules),
    page!(Session "GET" "/console/projects/{project}/schedules/{schedule}", projects::schedule),
    page!(Session "GET" "/console/iam", iam::policies),
    page!(Session "GET" "/console/iam/policies/{policy}", iam::policy),
    page!(Session "GET" "/console/iam/explain", iam::explain),
    page!(Session "GET" "/console/audit", audit::page),
    page!(Session "GET" "/console/grant/{token}", grant::page),
    page!(Session "POST" "/console/grant/{token}", grant::submit),
];
