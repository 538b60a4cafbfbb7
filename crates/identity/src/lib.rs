//! Decides who may do what. Knows accounts, projects and their credentials; knows nothing of HTTP, SQL or jobs.
//! Start at [`Identity::authenticate`] (who is it?) and [`Identity::authorize`] (may it?).
//!
//! No secret is stored in clear: consumer keys and validation tokens as SHA-256 (they are random, so that no
//! slower hash is needed), application and S3 secrets sealed by `keys`. A copy of the database alone signs nothing.

mod accounts;
mod credentials;
mod decision;
mod last_use;
mod random;
mod rules;
mod s3;
mod sealing;
mod signature;

pub use accounts::{Account, Project};
pub use credentials::{
    Application, Credential, CredentialRequest, CredentialStatus, NewApplication, NewCredential, PendingCredential,
};
pub use decision::{Caller, Decision, Resource};
pub use rules::{AccessRule, InvalidRule, Method};
pub use s3::{NewS3Key, S3Grant, S3KeyInfo, SandboxKeys, Scope, User};
pub use signature::{Refusal, SignedRequest, WINDOW};

use std::sync::Arc;

use audit::Audit;
use db::Db;
use keys::Keys;

use last_use::LastUse;

/// Accounts, credentials and decisions; a cheap handle.
#[derive(Clone)]
pub struct Identity {
    db: Db,
    audit: Audit,
    keys: Arc<Keys>,
    uses: LastUse,
}

impl Identity {
    /// Over `db`, with the secrets sealed by `keys`. Needs a Tokio runtime: uses of credentials are written in batches.
    pub fn new(db: Db, audit: Audit, keys: Arc<Keys>) -> Identity {
        Identity { uses: LastUse::start(db.clone()), db, audit, keys }
    }

    /// Writes what is still in memory (times of last use). Call it before the process ends.
    pub async fn flush(&self) -> Result<(), Error> {
        self.uses.flush().await
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the database of identities failed")]
    Db(#[from] db::Error),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] audit::Error),
    /// A secret could not be sealed or opened.
    #[error("a stored secret could not be sealed or opened")]
    Keys(#[from] keys::Error),
    /// There is no such thing.
    #[error("{kind} '{id}' does not exist")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// Its id as given.
        id: String,
    },
    /// It is there already.
    #[error("{kind} '{id}' exists already")]
    Exists {
        /// What kind of thing.
        kind: &'static str,
        /// Its id as given.
        id: String,
    },
    /// More than there may be.
    #[error("{what}: at most {limit}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A credential was to be granted more than the one that grants it has.
    #[error("the granting credential does not itself have {what}")]
    Exceeds {
        /// What it lacks.
        what: String,
    },
    /// A stored value is not what it should be.
    #[error("the stored {what} is damaged")]
    Damaged {
        /// What.
        what: &'static str,
    },
    /// The system gave no random bytes.
    #[error("the system's random generator failed")]
    NoRandom,
}
