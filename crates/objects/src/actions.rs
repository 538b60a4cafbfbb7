//! Which rights an operation needs, as policies name them
//! (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>), and which parts of a
//! query belong to it.

use http::{HeaderMap, Uri};

/// The actions that a call needs before anything of it is done, all of them; `None` if the operation is not known here.
/// Those that depend on what the body says, or on the source of a copy, are asked for by the operation itself.
pub fn actions(operation: &str, uri: &Uri, headers: &HeaderMap) -> Option<Vec<&'static str>> {
    let version = parameter(uri, "versionId").is_some();
    let of_version = |plain, versioned| vec![if version { versioned } else { plain }];
    Some(match operation {
        "GetObject" | "HeadObject" => of_version("s3:GetObject", "s3:GetObjectVersion"),
        "GetObjectAttributes" if version => vec!["s3:GetObjectVersion", "s3:GetObjectVersionAttributes"],
        "GetObjectAttributes" => vec!["s3:GetObject", "s3:GetObjectAttributes"],
        "PutObject" | "PostObject" | "CopyObject" | "CreateMultipartUpload" => {
            let mut actions = vec!["s3:PutObject"];
            for (header, action) in [
                ("x-amz-tagging", "s3:PutObjectTagging"),
                ("x-amz-object-lock-mode", "s3:PutObjectRetention"),
                ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold"),
            ] {
                if headers.contains_key(header) {
                    actions.push(action);
                }
            }
            actions
        }
        "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" => vec!["s3:PutObject"],
        "AbortMultipartUpload" => vec!["s3:AbortMultipartUpload"],
        "ListParts" => vec!["s3:ListMultipartUploadParts"],
        "DeleteObject" => of_version("s3:DeleteObject", "s3:DeleteObjectVersion"),
        // Each key is decided on its own, or by what the body says.
        "DeleteObjects" | "PutObjectTagging" | "PutObjectRetention" | "PutObjectLegalHold" => Vec::new(),
        "GetObjectTagging" => of_version("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
        "DeleteObjectTagging" => of_version("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
        "GetObjectAcl" => of_version("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
        "PutObjectAcl" => of_version("s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
        "GetObjectRetention" => vec!["s3:GetObjectRetention"],
        "GetObjectLegalHold" => vec!["s3:GetObjectLegalHold"],
        "RestoreObject" => vec!["s3:RestoreObject"],
        "GetObjectTorrent" => vec!["s3:GetObjectTorrent"],
        "SelectObjectContent" => vec!["s3:GetObject"],

        "ListBuckets" => vec!["s3:ListAllMyBuckets"],
        "CreateBucket" => {
            let mut actions = vec!["s3:CreateBucket"];
            if headers.contains_key("x-amz-bucket-object-lock-enabled") {
                actions.extend(["s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"]);
            }
            if headers.contains_key("x-amz-object-ownership") {
                actions.push("s3:PutBucketOwnershipControls");
            }
            actions
        }
        "DeleteBucket" => vec!["s3:DeleteBucket"],
        "HeadBucket" | "ListObjects" | "ListObjectsV2" => vec!["s3:ListBucket"],
        "ListObjectVersions" => vec!["s3:ListBucketVersions"],
        "ListMultipartUploads" => vec!["s3:ListBucketMultipartUploads"],
        "GetBucketLocation" => vec!["s3:GetBucketLocation"],
        "GetBucketVersioning" => vec!["s3:GetBucketVersioning"],
        "PutBucketVersioning" => vec!["s3:PutBucketVersioning"],
        "GetObjectLockConfiguration" => vec!["s3:GetBucketObjectLockConfiguration"],
        "PutObjectLockConfiguration" => vec!["s3:PutBucketObjectLockConfiguration"],
        "GetBucketTagging" => vec!["s3:GetBucketTagging"],
        "PutBucketTagging" | "DeleteBucketTagging" => vec!["s3:PutBucketTagging"],
        "GetBucketCors" => vec!["s3:GetBucketCORS"],
        "PutBucketCors" | "DeleteBucketCors" => vec!["s3:PutBucketCORS"],
        "GetBucketLifecycleConfiguration" => vec!["s3:GetLifecycleConfiguration"],
        "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => vec!["s3:PutLifecycleConfiguration"],
        "GetBucketPolicy" => vec!["s3:GetBucketPolicy"],
        "GetBucketPolicyStatus" => vec!["s3:GetBucketPolicyStatus"],
        "PutBucketPolicy" => vec!["s3:PutBucketPolicy"],
        "DeleteBucketPolicy" => vec!["s3:DeleteBucketPolicy"],
        "GetPublicAccessBlock" => vec!["s3:GetBucketPublicAccessBlock"],
        "PutPublicAccessBlock" | "DeletePublicAccessBlock" => vec!["s3:PutBucketPublicAccessBlock"],
        "GetBucketOwnershipControls" => vec!["s3:GetBucketOwnershipControls"],
        "PutBucketOwnershipControls" | "DeleteBucketOwnershipControls" => vec!["s3:PutBucketOwnershipControls"],
        "GetBucketAcl" => vec!["s3:GetBucketAcl"],
        "PutBucketAcl" => vec!["s3:PutBucketAcl"],
        "GetBucketEncryption" => vec!["s3:GetEncryptionConfiguration"],
        "PutBucketEncryption" | "DeleteBucketEncryption" => vec!["s3:PutEncryptionConfiguration"],
        "GetBucketNotificationConfiguration" => vec!["s3:GetBucketNotification"],
        "PutBucketNotificationConfiguration" => vec!["s3:PutBucketNotification"],
        "GetBucketAccelerateConfiguration" => vec!["s3:GetAccelerateConfiguration"],
        "PutBucketAccelerateConfiguration" => vec!["s3:PutAccelerateConfiguration"],
        "GetBucketLogging" => vec!["s3:GetBucketLogging"],
        "PutBucketLogging" => vec!["s3:PutBucketLogging"],
        "GetBucketRequestPayment" => vec!["s3:GetBucketRequestPayment"],
        "PutBucketRequestPayment" => vec!["s3:PutBucketRequestPayment"],
        "GetBucketReplication" => vec!["s3:GetReplicationConfiguration"],
        "PutBucketReplication" | "DeleteBucketReplication" => vec!["s3:PutReplicationConfiguration"],
        "GetBucketWebsite" => vec!["s3:GetBucketWebsite"],
        "PutBucketWebsite" => vec!["s3:PutBucketWebsite"],
        "DeleteBucketWebsite" => vec!["s3:DeleteBucketWebsite"],
        "GetBucketAnalyticsConfiguration" | "ListBucketAnalyticsConfigurations" => vec!["s3:GetAnalyticsConfiguration"],
        "PutBucketAnalyticsConfiguration" | "DeleteBucketAnalyticsConfiguration" => {
            vec!["s3:PutAnalyticsConfiguration"]
        }
        "GetBucketInventoryConfiguration" | "ListBucketInventoryConfigurations" => vec!["s3:GetInventoryConfiguration"],
        "PutBucketInventoryConfiguration" | "DeleteBucketInventoryConfiguration" => {
            vec!["s3:PutInventoryConfiguration"]
        }
        "GetBucketMetricsConfiguration" | "ListBucketMetricsConfigurations" => vec!["s3:GetMetricsConfiguration"],
        "PutBucketMetricsConfiguration" | "DeleteBucketMetricsConfiguration" => vec!["s3:PutMetricsConfiguration"],
        "GetBucketIntelligentTieringConfiguration" | "ListBucketIntelligentTieringConfigurations" => {
            vec!["s3:GetIntelligentTieringConfiguration"]
        }
        "PutBucketIntelligentTieringConfiguration" | "DeleteBucketIntelligentTieringConfiguration" => {
            vec!["s3:PutIntelligentTieringConfiguration"]
        }
        _ => return None,
    })
}

/// The first value of a parameter of the query.
pub fn parameter(uri: &Uri, name: &str) -> Option<String> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
}

/// A part of the query that names another operation than the one that the request was taken for: to do the one in the
/// place of the other could destroy data.
pub fn foreign_parameter(operation: &str, uri: &Uri) -> Option<String> {
    let own = |name: &str| match name {
        "uploads" => matches!(operation, "CreateMultipartUpload" | "ListMultipartUploads"),
        "uploadId" => matches!(
            operation,
            "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" | "AbortMultipartUpload" | "ListParts"
        ),
        "partNumber" => matches!(operation, "UploadPart" | "UploadPartCopy" | "GetObject" | "HeadObject"),
        "versions" => operation == "ListObjectVersions",
        "delete" => operation == "DeleteObjects",
        "policyStatus" => operation == "GetBucketPolicyStatus",
        "attributes" => operation == "GetObjectAttributes",
        "restore" => operation == "RestoreObject",
        "select" => operation == "SelectObjectContent",
        "torrent" => operation == "GetObjectTorrent",
        "legal-hold" => operation.ends_with("LegalHold"),
        "object-lock" => operation.ends_with("ObjectLockConfiguration"),
        "requestPayment" => operation.ends_with("RequestPayment"),
        "ownershipControls" => operation.ends_with("OwnershipControls"),
        "publicAccessBlock" => operation.ends_with("PublicAccessBlock"),
        "intelligent-tiering" => operation.contains("IntelligentTiering"),
        "acl" | "retention" | "tagging" | "accelerate" | "cors" | "encryption" | "lifecycle" | "location"
        | "logging" | "metadataTable" | "notification" | "policy" | "replication" | "versioning" | "website"
        | "analytics" | "inventory" | "metrics" | "session" => {
            operation.to_ascii_lowercase().contains(&name.to_ascii_lowercase())
        }
        _ => false,
    };
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .map(|(name, _)| name)
        .find(|name| SUBRESOURCES.contains(&name.as_ref()) && !own(name))
        .map(|name| name.into_owned())
}

/// Whether a request's body, if it has one, is a document and not an object's data.
pub fn names_settings(uri: &Uri) -> bool {
    let mut names = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    names.any(|(name, _)| SUBRESOURCES.contains(&name.as_ref()) && !["partNumber", "uploadId"].contains(&name.as_ref()))
}

/// Whether an operation is on a version that the query can name.
pub fn takes_version(operation: &str) -> bool {
    let of_object = ["Tagging", "Acl", "Retention", "LegalHold", "Attributes", "Torrent"];
    ["GetObject", "HeadObject", "DeleteObject", "RestoreObject"].contains(&operation)
        || operation.split_once("Object").is_some_and(|(_, rest)| of_object.contains(&rest))
}

/// The names by which S3 tells operations apart, those of operations that are not known here included.
const SUBRESOURCES: [&str; 45] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "replicationMetrics",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "updateObjectEncryption",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
    "x-amz-rename-source",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(operation: &str, path: &str) -> Vec<&'static str> {
        actions(operation, &path.parse().expect("a path"), &HeaderMap::new()).unwrap_or_default()
    }

    #[test]
    fn an_operation_on_a_version_needs_the_right_for_versions() {
        assert_eq!(of("GetObject", "/b/k"), ["s3:GetObject"]);
        assert_eq!(of("HeadObject", "/b/k?versionId=1"), ["s3:GetObjectVersion"]);
        assert_eq!(of("DeleteObject", "/b/k?x-id=DeleteObject&versionId=1"), ["s3:DeleteObjectVersion"]);
        assert_eq!(of("GetObjectTagging", "/b/k?tagging&versionId=null"), ["s3:GetObjectVersionTagging"]);
        assert!(actions("RenameObject", &"/b/k".parse().expect("a path"), &HeaderMap::new()).is_none());
    }

    #[test]
    fn headers_that_set_more_need_more() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-tagging", http::HeaderValue::from_static("a=b"));
        headers.insert("x-amz-object-lock-mode", http::HeaderValue::from_static("GOVERNANCE"));
        let uri = "/b/k".parse().expect("a path");
        let wanted = ["s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectRetention"];
        assert_eq!(actions("PutObject", &uri, &headers).expect("known"), wanted);
        assert_eq!(actions("GetObject", &uri, &headers).expect("known"), ["s3:GetObject"]);
    }

    #[test]
    fn reads_deletes_and_marks_are_of_versions_and_writes_are_not() {
        for operation in ["GetObject", "HeadObject", "DeleteObject", "PutObjectTagging", "GetObjectAttributes"] {
            assert!(takes_version(operation), "{operation}");
        }
        for operation in ["PutObject", "CopyObject", "ListObjects", "DeleteObjects", "GetObjectLockConfiguration"] {
            assert!(!takes_version(operation), "{operation}");
        }
    }

    #[test]
    fn a_request_is_not_taken_for_another_operation() {
        let foreign = |operation: &str, path: &str| foreign_parameter(operation, &path.parse().expect("a path"));
        // As they arrive when their names are not known: a write of the whole object, a bucket made or removed.
        assert_eq!(foreign("PutObject", "/b/k?renameObject"), Some("renameObject".to_owned()));
        assert_eq!(foreign("CreateBucket", "/b?metadataConfiguration"), Some("metadataConfiguration".to_owned()));
        assert_eq!(foreign("DeleteBucket", "/b?policyStatus"), Some("policyStatus".to_owned()));
        assert_eq!(foreign("DeleteObject", "/b/k?acl"), Some("acl".to_owned()));
        assert_eq!(foreign("PutObject", "/b/k?partNumber=1"), Some("partNumber".to_owned()));
        for (operation, path) in [
            ("PutObject", "/b/k?x-id=PutObject"),
            ("UploadPart", "/b/k?partNumber=1&uploadId=2&x-id=UploadPart"),
            ("GetObject", "/b/k?partNumber=1&versionId=null&response-content-type=a%2Fb"),
            ("ListObjectsV2", "/b?list-type=2&prefix=acl&delimiter=/"),
            ("PutBucketCors", "/b?cors"),
            ("GetObjectAcl", "/b/k?acl&versionId=1"),
            ("PutObjectLegalHold", "/b/k?legal-hold"),
            ("PutObjectLockConfiguration", "/b?object-lock"),
            ("GetBucketLifecycleConfiguration", "/b?lifecycle"),
            ("PutBucketNotificationConfiguration", "/b?notification"),
            ("GetBucketAccelerateConfiguration", "/b?accelerate"),
            ("DeletePublicAccessBlock", "/b?publicAccessBlock"),
            ("ListBucketIntelligentTieringConfigurations", "/b?intelligent-tiering"),
            ("CreateMultipartUpload", "/b/k?uploads"),
            ("DeleteObjects", "/b?delete"),
            ("GetObjectRetention", "/b/k?retention&versionId=1"),
        ] {
            assert_eq!(foreign(operation, path), None, "{operation} {path}");
        }
    }
}
