//! The object store as policies of accounts name it. Its actions are those of S3, for Swift too; a bucket is
//! `urn:v1:eu:resource:storageS3:PROJECT/BUCKET`, an object `.../BUCKET/KEY`, and the list of buckets is asked of
//! `urn:v1:eu:resource:storageS3:PROJECT`.

/// The type of its resources, with which its actions begin.
pub const STORAGE_TYPE: &str = "storageS3";

/// The beginning of its actions.
pub(super) const STORAGE_ACTIONS: &str = "storageS3:s3:";

/// An action of the object store, such as `s3:GetObject`, as policies of accounts name it.
pub fn storage_action(action: &str) -> String {
    format!("{STORAGE_TYPE}:{action}")
}

/// The action of S3 that is meant by `storageS3:s3:GetObject`; `None`: it is another or none that is asked for.
pub fn s3_action(action: &str) -> Option<&str> {
    let name = action.strip_prefix(STORAGE_ACTIONS)?;
    S3_ACTIONS.contains(&name).then(|| &action[STORAGE_TYPE.len() + 1..])
}

/// What an action of S3 does, in the words of the reference list.
pub fn s3_category(name: &str) -> &'static str {
    let begins = |verbs: &[&str]| verbs.iter().any(|verb| name.starts_with(verb));
    match () {
        () if begins(&["Get", "List"]) => "READ",
        () if begins(&["Create"]) => "CREATE",
        () if begins(&["Put"]) => "EDIT",
        () if begins(&["Delete", "Abort"]) => "DELETE",
        () => "OPERATE",
    }
}

/// The actions that the object store asks about, without `s3:` before them.
pub const S3_ACTIONS: [&str; 76] = [
    "AbortMultipartUpload",
    "BypassGovernanceRetention",
    "CreateBucket",
    "DeleteBucket",
    "DeleteBucketPolicy",
    "DeleteBucketWebsite",
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjectVersion",
    "DeleteObjectVersionTagging",
    "GetAccelerateConfiguration",
    "GetAnalyticsConfiguration",
    "GetBucketAcl",
    "GetBucketCORS",
    "GetBucketLocation",
    "GetBucketLogging",
    "GetBucketNotification",
    "GetBucketObjectLockConfiguration",
    "GetBucketOwnershipControls",
    "GetBucketPolicy",
    "GetBucketPolicyStatus",
    "GetBucketPublicAccessBlock",
    "GetBucketRequestPayment",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetBucketWebsite",
    "GetEncryptionConfiguration",
    "GetIntelligentTieringConfiguration",
    "GetInventoryConfiguration",
    "GetLifecycleConfiguration",
    "GetMetricsConfiguration",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "GetObjectTorrent",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionAttributes",
    "GetObjectVersionTagging",
    "GetReplicationConfiguration",
    "ListAllMyBuckets",
    "ListBucket",
    "ListBucketMultipartUploads",
    "ListBucketVersions",
    "ListMultipartUploadParts",
    "PutAccelerateConfiguration",
    "PutAnalyticsConfiguration",
    "PutBucketAcl",
    "PutBucketCORS",
    "PutBucketLogging",
    "PutBucketNotification",
    "PutBucketObjectLockConfiguration",
    "PutBucketOwnershipControls",
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
    "PutBucketRequestPayment",
    "PutBucketTagging",
    "PutBucketVersioning",
    "PutBucketWebsite",
    "PutEncryptionConfiguration",
    "PutIntelligentTieringConfiguration",
    "PutInventoryConfiguration",
    "PutLifecycleConfiguration",
    "PutMetricsConfiguration",
    "PutObject",
    "PutObjectAcl",
    "PutObjectLegalHold",
    "PutObjectRetention",
    "PutObjectTagging",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
    "PutReplicationConfiguration",
    "RestoreObject",
];
