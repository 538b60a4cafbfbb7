//! Decides who may do what. Knows accounts, projects and their credentials; knows nothing of HTTP, SQL or jobs.
//! Start at [`Identity::authenticate`] (who is it?) and [`Identity::authorize`] (may it?).
//!
//! No secret is stored in clear: consumer keys and validation tokens as SHA-256 (they are random, so that no
//! slower hash is needed), application and S3 secrets sealed by `keys`, passwords as Argon2id. A copy of the database
//! alone signs nothing.
//!
//! Who is not the account itself may what its policies say: [`Iam::decide`].
//! For the object store: [`Identity::find_s3_key`] (whose key is it?) and [`Identity::decide_s3`] (may it?).

mod accounts;
mod asked;
mod bucket_roles;
mod cache;
mod contacts;
mod credentials;
mod decision;
#[cfg(fuzzing)]
pub mod fuzzing;
mod iam;
mod ip_restrictions;
mod job_policy;
mod last_use;
mod live;
mod mailbox;
mod object_store;
mod passwords;
mod people;
mod policy;
mod principal;
mod random;
mod roles;
mod rules;
mod s3;
mod sealing;
mod service_accounts;
mod sessions;
mod signature;
mod sso;
mod sts;
mod tokens;
mod users;

pub use accounts::{Account, Project};
pub use asked::{Asked, Recorded, Unexplained};
pub use bucket_roles::{BucketRole, NoBucketRole, merge_statement, role_statement};
pub use contacts::{ChangeState, ContactChange, ContactKind, Contacts, NewContacts, Part};
pub use credentials::{
    Application, Credential, CredentialRequest, CredentialStatus, NewApplication, NewCredential, PendingCredential,
};
pub use decision::{Caller, Decision, Proof, Resource, Subject, Who};
pub use iam::{
    Actions, Body, Condition, Draft, Effect, Explanation, Facts, Failed, Iam, IamDocument, IamResource,
    InvalidDocument, InvalidUrn, Kind as IamKind, Leaf, Missed, Pattern, Permissions, Policy, Question, ResourceGroup,
    Ruling, S3_ACTIONS, STORAGE_TYPE, StoragePlace, URN_PREFIX, Urn, UrnKind, Verdict, s3_action, s3_category,
    storage_action,
};
pub use ip_restrictions::{IpRestriction, IpRestrictions, IpRule};
pub use job_policy::job_policy;
pub use live::Live;
pub use mailbox::Notification;
pub use object_store::BucketRules;
pub use people::{
    Assertion, Attestation, BackupCodes, Enrolment, Factor, FactorChange, Group, GroupChange, GroupRole, KeyFault,
    KeyRequest, LogIn, LoggedIn, NewPerson, NewSecurityKey, NewTotp, Person, PersonChange, PersonStatus, RelyingParty,
    SecurityKeyInfo, Setup, SetupLink, TotpInfo, group_urn, user_urn,
};
pub use policy::{
    CONDITION_KEYS, PolicyError, S3Policy, S3Question, S3Step, S3Verdict, decide_s3, is_condition_key, is_s3_action,
    s3_action_named,
};
pub use roles::{USER_ROLES, UserRole};
pub use rules::{AccessRule, InvalidRule, Method};
pub use s3::{GrantUser, NewS3Key, S3Grant, S3KeyInfo, SandboxKeys, Scope};
pub use service_accounts::{AccessToken, Client, ClientText, NewClient, client_urn};
pub use sessions::{
    NewSession, OpenSession, Opener, SESSION_IDLE, SESSION_LONGEST, SessionInfo, cookie, session_cookie,
    session_cookie_name,
};
pub use signature::{Refusal, SignedRequest, WINDOW};
#[cfg(fuzzing)]
pub use sso::saml_response as fuzz_saml_response;
pub use sso::{
    CONSOLE, ClientSecret, FederatedPerson, OIDC_CALLBACK, OidcAnswer, OidcProvider, OidcSettings, ProviderKind,
    SSO_TIME, SsoBegun, SsoOutcome, SsoStart, SsoVisitor,
};
pub use sso::{NAME_ID, RequestedAttribute, SamlExtensions, SamlProvider, SamlSettings, SigningCertificate};
pub use sts::{CallerIdentity, TemporaryKey};
pub use tokens::UserToken;
pub use users::{NewUser, User};

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use audit::Audit;
use db::Db;
use jiff::Timestamp;
use keys::Keys;
use model::{ProjectId, Region};
use tokio::sync::Semaphore;

use cache::Cache;
use iam::Snapshots;
use last_use::LastUse;
use passwords::Passwords;
use people::{Challenges, CommonPasswords};
use policy::BucketPolicies;

/// Accounts, credentials and decisions; a cheap handle.
#[derive(Clone)]
pub struct Identity {
    db: Db,
    audit: Audit,
    keys: Arc<Keys>,
    uses: LastUse,
    cache: Arc<Cache<S3Grant>>,
    restrictions: Arc<Cache<IpRestrictions>>,
    passwords: Arc<Passwords>,
    common_passwords: Arc<CommonPasswords>,
    bucket_policies: Arc<BucketPolicies>,
    iam: Arc<Snapshots>,
    large_decisions: Arc<Semaphore>,
    oidc: Arc<sso::OidcClient>,
    reach: sso::Reach,
    challenges: Arc<Challenges>,
    relying_party: Option<Arc<RelyingParty>>,
    regions: Arc<RwLock<HashMap<ProjectId, Region>>>,
}

impl Identity {
    /// Over `db`, with the secrets sealed by `keys`. Needs a Tokio runtime: uses of credentials are written in batches.
    pub fn new(db: Db, audit: Audit, keys: Arc<Keys>) -> Identity {
        Identity {
            uses: LastUse::start(db.clone()),
            db,
            audit,
            keys,
            cache: Arc::default(),
            restrictions: Arc::default(),
            passwords: Arc::new(Passwords::new()),
            common_passwords: Arc::new(CommonPasswords::new()),
            bucket_policies: Arc::default(),
            iam: Arc::default(),
            large_decisions: Arc::new(Semaphore::new(LARGE_DECISIONS)),
            oidc: Arc::default(),
            reach: sso::Reach::default(),
            challenges: Arc::default(),
            relying_party: None,
            regions: Arc::default(),
        }
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

/// Large decisions at once, the service over: each takes a core for milliseconds.
const LARGE_DECISIONS: usize = 1;

/// The time, in the microseconds that the database keeps: so that what is answered is what is read later.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
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
    /// Something else still names it.
    #[error("{what} is still used by {by}")]
    StillUsed {
        /// What.
        what: String,
        /// By what.
        by: String,
    },
    /// It is in use, or may not be removed or changed as it stands.
    #[error("{what}")]
    InUse {
        /// Why.
        what: &'static str,
    },
    /// A code that is not right, or was used already.
    #[error("the code is not right, or was used already")]
    WrongCode,
    /// What a security key says does not hold.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// A rule for addresses that would refuse the one from which it is made.
    #[error("your own address ({address}) would be refused by it; nothing was changed")]
    LocksOut {
        /// From where it is made.
        address: String,
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
    /// Who asks may not have it.
    #[error("access denied: {what}")]
    AccessDenied {
        /// Why, for the caller.
        what: String,
    },
    /// A value that was asked for is not possible.
    #[error("{field} is not valid: {rule}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What would be right.
        rule: &'static str,
    },
    /// An identity provider cannot be used as it is.
    #[error("{what}")]
    Provider {
        /// The field that names it.
        field: &'static str,
        /// Why, for an administrator.
        what: String,
    },
    /// A policy that cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A document of IAM that cannot be used.
    #[error(transparent)]
    Document(#[from] InvalidDocument),
    /// The policies of an account cannot be evaluated.
    #[error("the policies of an account cannot be evaluated")]
    Evaluation(#[from] Failed),
    /// Too many tries from that address, or too many at once.
    #[error("too many tries; the next one is heard in {seconds} s")]
    TryLater {
        /// When.
        seconds: u64,
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
