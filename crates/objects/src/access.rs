//! Who may call what. The gate asks [`Access`] for the secret of an access key; the rules are one pure function.

use async_trait::async_trait;
use model::{ProjectId, SandboxId};
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

/// What access keys are good for. Asked at each request, because keys of jobs end with them.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// The grant of an access key; `None` if there is no such key, or it is no longer good.
    async fn grant(&self, access_key: &str) -> Result<Option<Grant>, BoxError>;
}

/// What an access key may do.
pub struct Grant {
    /// Its secret.
    pub secret: Zeroizing<String>,
    /// The project whose buckets it is for.
    pub project: ProjectId,
    /// Whom the audit log is to name.
    pub identity: String,
    /// What in the project it is for.
    pub scope: Scope,
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
    /// A job's own: all, but logs are read only; good inside its sandbox only.
    Job(SandboxId),
    /// For the logs of a job: writes them and nothing else; good inside its sandbox only.
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
        match self {
            Scope::Project => true,
            Scope::Job(_) => !logs || is_read(operation),
            Scope::Platform(_) => logs && LOG_WRITES.contains(&operation),
        }
    }
}

/// Whether an operation changes nothing. One that is not known changes something.
pub fn is_read(operation: &str) -> bool {
    ["Get", "Head", "List"].iter().any(|verb| operation.starts_with(verb))
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
            assert!(job.permits(write, Some("data")), "{write}");
        }
        assert!(job.permits("ListBuckets", None));
    }

    #[test]
    fn the_platform_of_a_job_writes_logs_and_nothing_else() {
        let platform = Scope::Platform(sandbox(1));
        assert!(platform.permits("PutObject", Some("odp-logs")));
        assert!(platform.permits("UploadPart", Some("odp-logs")));
        for (operation, bucket) in [
            ("PutObject", Some("data")),
            ("GetObject", Some("odp-logs")),
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
