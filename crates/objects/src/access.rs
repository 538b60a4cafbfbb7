//! Who may call what. The gate asks [`Access`] for the secret of an access key and for what policies say; the rules of
//! scopes are one pure function.

use std::{any::Any, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use model::{BucketName, ProjectId, SandboxId};
use zeroize::Zeroizing;

/// The cause of a failure beside this room.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Which way a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The listener for everybody.
    Public,
    /// The listener inside a sandbox.
    Sandbox(SandboxId),
}

/// Who may do what: what access keys and tokens are good for, and what policies say. Asked at each call, because keys of
/// jobs end with them.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// The grant of an access key; `None` if there is no such key, or it is no longer good. Asked before anybody knows
    /// whether the caller has its secret.
    async fn grant(&self, access_key: &str) -> Result<Option<Grant>, BoxError>;

    /// The caller was found to be the holder of this grant: the signature is right. Once a call.
    fn used(&self, grant: &Grant);

    /// The grant of a token that [`Access::log_in`] gave; `None` if there is none such, or it is no longer good.
    async fn token(&self, token: &str) -> Result<Option<Grant>, BoxError>;

    /// Gives a user a token for a password (Keystone v3).
    async fn log_in(&self, user: &str, password: &str, from: Option<IpAddr>) -> Result<LoggedIn, NotLoggedIn>;

    /// The same of a token, and whose it is; for those who want to know, not for each call.
    async fn describe(&self, token: &str) -> Result<Option<LoggedIn>, BoxError>;

    /// Ends a token.
    async fn log_out(&self, token: &str, from: Option<IpAddr>) -> Result<(), BoxError>;

    /// Decides a call by the policies of its caller, of its bucket and of the project's account; `None` is a caller without
    /// a signature.
    async fn decide(&self, caller: Option<&Grant>, question: &Question<'_>) -> Verdict;

    /// Whether a text is a policy that a bucket can have, and whether it makes the bucket public.
    fn check_policy(&self, project: &ProjectId, bucket: &BucketName, text: &str) -> Result<PolicyKind, String>;

    /// A temporary key for the caller, narrowed by a session policy (STS `AssumeRole`).
    async fn assume_role(&self, caller: &Grant, wish: RoleWish<'_>) -> Result<TemporaryKey, Refusal>;

    /// A temporary key with the rights of the caller (STS `GetSessionToken`).
    async fn session_token(&self, caller: &Grant, seconds: Option<u32>) -> Result<TemporaryKey, Refusal>;
}

/// What an access key or a token may do.
#[derive(Clone)]
pub struct Grant {
    /// Its secret; empty for a token.
    pub secret: Zeroizing<String>,
    /// The project whose buckets it is for.
    pub project: ProjectId,
    /// Whom the audit log is to name.
    pub identity: String,
    /// The holder as policies name it, an ARN.
    pub principal: String,
    /// What in the project it is for.
    pub scope: Scope,
    /// What a temporary key must be sent with.
    pub session_token: Option<Zeroizing<String>>,
    /// Nothing but its scope bounds it, so that [`Access::decide`] need not be asked where the bucket has no policy.
    pub plain: bool,
    /// A policy that goes with it may ask for the tags that an object has.
    pub asks_tags: bool,
    /// What [`Access`] knows of its holder, for its own use.
    pub holder: Arc<dyn Any + Send + Sync>,
}

/// A token and whose it is.
pub struct LoggedIn {
    /// The token.
    pub token: Zeroizing<String>,
    /// Until when it is good.
    pub expires: Timestamp,
    /// What it is good for.
    pub grant: Grant,
    /// The user's number.
    pub user: i64,
    /// The user's name.
    pub username: String,
    /// The names of the user's roles.
    pub roles: Vec<String>,
}

/// Why there is no token for a password.
#[derive(Debug)]
pub enum NotLoggedIn {
    /// User and password do not belong together, whichever is wrong.
    Wrong,
    /// Too many tries; the next one is heard in so many seconds.
    TryLater {
        /// How many.
        seconds: u64,
    },
    /// Something else failed.
    Failed(BoxError),
}

/// A call that policies are asked about.
#[derive(Debug)]
pub struct Question<'a> {
    /// The project of the bucket.
    pub project: &'a ProjectId,
    /// The action as policies name it, such as `s3:GetObject`.
    pub action: &'a str,
    /// On which bucket.
    pub bucket: Option<&'a str>,
    /// On which key.
    pub key: Option<&'a str>,
    /// The bucket's policy.
    pub bucket_policy: Option<&'a str>,
    /// The bucket's public access block forbids what a policy opens to everybody.
    pub public_blocked: bool,
    /// Condition keys and their values, such as `aws:SourceIp`.
    pub context: &'a [(&'a str, &'a str)],
}

/// What policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be done.
    pub allowed: bool,
    /// Which statement decided, or that none did; for the audit log.
    pub reason: String,
}

/// What a bucket's policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyKind {
    /// It opens the bucket to everybody.
    pub public: bool,
}

/// What is asked of `AssumeRole`.
#[derive(Debug, Clone, Copy)]
pub struct RoleWish<'a> {
    /// The role's ARN.
    pub role: &'a str,
    /// A name for the audit log.
    pub session: &'a str,
    /// A policy that narrows.
    pub policy: Option<&'a str>,
    /// How long it is to be good.
    pub seconds: Option<u32>,
}

/// An access key that ends by itself.
pub struct TemporaryKey {
    /// The access key id.
    pub access: String,
    /// The secret key.
    pub secret: Zeroizing<String>,
    /// What it must be sent with.
    pub session_token: Zeroizing<String>,
    /// Until when it is good.
    pub expires: Timestamp,
    /// Its holder as policies name it, an ARN.
    pub principal: String,
}

/// Why a temporary key was not given.
#[derive(Debug)]
pub enum Refusal {
    /// The caller may not.
    Denied(String),
    /// What was asked is not possible; names the field.
    Invalid(String),
    /// The policy cannot be used; says where and why.
    MalformedPolicy(String),
    /// Something else failed.
    Failed(BoxError),
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("project", &self.project)
            .field("identity", &self.identity)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// What in a project an access key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    Project,
    /// A job's own: all, but logs and environments are read only; good inside its sandbox only.
    Job(SandboxId),
    /// For the platform's part of a job: writes its logs, reads its environment, and nothing else; good inside its sandbox only.
    Platform(SandboxId),
}

impl Scope {
    /// Whether a key of this scope is good where it came in. A job's is not good outside, where it may have been
    /// carried to; a project's is not good inside, where only the job has a right to be.
    pub fn is_good(self, via: Via) -> bool {
        match (self, via) {
            (Scope::Project, Via::Public) => true,
            (Scope::Job(of) | Scope::Platform(of), Via::Sandbox(within)) => of == within,
            (Scope::Project, Via::Sandbox(_)) | (Scope::Job(_) | Scope::Platform(_), Via::Public) => false,
        }
    }

    /// Whether it may do an operation, by its S3 name, on a bucket.
    pub fn permits(self, operation: &str, bucket: Option<&str>) -> bool {
        let logs = bucket == Some(model::BucketName::logs().as_str());
        let environments = bucket == Some(model::BucketName::environments().as_str());
        match self {
            Scope::Project => true,
            Scope::Job(_) => !(logs || environments) || is_read(operation),
            Scope::Platform(_) => {
                (logs && LOG_WRITES.contains(&operation)) || (environments && operation == "GetObject")
            }
        }
    }
}

/// Whether an operation changes nothing. One that is not known changes something.
pub fn is_read(operation: &str) -> bool {
    ["Get", "Head", "List", "Options"].iter().any(|verb| operation.starts_with(verb))
}

/// What it takes to write an object, in one piece or in parts.
const LOG_WRITES: [&str; 6] = [
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "ListParts",
];

#[cfg(test)]
mod tests {
    use model::{AttemptNo, JobId};

    use super::*;

    fn sandbox(number: u128) -> SandboxId {
        SandboxId { job: JobId(uuid::Uuid::from_u128(number)), attempt: AttemptNo(1) }
    }

    #[test]
    fn a_key_is_good_where_it_belongs_and_nowhere_else() {
        let (ours, theirs) = (sandbox(1), sandbox(2));
        let next = SandboxId { attempt: AttemptNo(2), ..ours };
        for scope in [Scope::Job(ours), Scope::Platform(ours)] {
            assert!(scope.is_good(Via::Sandbox(ours)));
            for elsewhere in [Via::Public, Via::Sandbox(theirs), Via::Sandbox(next)] {
                assert!(!scope.is_good(elsewhere), "{scope:?} {elsewhere:?}");
            }
        }
        assert!(Scope::Project.is_good(Via::Public));
        assert!(!Scope::Project.is_good(Via::Sandbox(ours)));
    }

    #[test]
    fn a_job_reads_logs_and_never_writes_them() {
        let job = Scope::Job(sandbox(1));
        for read in ["GetObject", "HeadObject", "ListObjectsV2", "HeadBucket", "GetBucketLocation"] {
            assert!(job.permits(read, Some("odp-logs")), "{read}");
        }
        for write in [
            "PutObject",
            "DeleteObject",
            "DeleteObjects",
            "DeleteBucket",
            "CreateBucket",
            "CopyObject",
            "UploadPart",
            "UploadPartCopy",
            "CreateMultipartUpload",
            "CompleteMultipartUpload",
            "AbortMultipartUpload",
            "PostObject",
            "RenameObject",
            "PutBucketPolicy",
            "RestoreObject",
            "SelectObjectContent",
            "WriteGetObjectResponse",
        ] {
            assert!(!job.permits(write, Some("odp-logs")), "{write}");
            assert!(!job.permits(write, Some("odp-environments")), "{write}");
            assert!(job.permits(write, Some("data")), "{write}");
        }
        assert!(job.permits("ListBuckets", None));
    }

    #[test]
    fn the_platform_of_a_job_writes_logs_and_nothing_else() {
        let platform = Scope::Platform(sandbox(1));
        assert!(platform.permits("PutObject", Some("odp-logs")));
        assert!(platform.permits("GetObject", Some("odp-environments")));
        assert!(platform.permits("UploadPart", Some("odp-logs")));
        for (operation, bucket) in [
            ("PutObject", Some("data")),
            ("GetObject", Some("odp-logs")),
            ("PutObject", Some("odp-environments")),
            ("ListObjectsV2", Some("odp-environments")),
            ("DeleteObject", Some("odp-logs")),
            ("CopyObject", Some("odp-logs")),
            ("UploadPartCopy", Some("odp-logs")),
            ("ListBuckets", None),
            ("ListObjectsV2", Some("odp-logs")),
            ("DeleteBucket", Some("odp-logs")),
        ] {
            assert!(!platform.permits(operation, bucket), "{operation} {bucket:?}");
        }
    }
}
