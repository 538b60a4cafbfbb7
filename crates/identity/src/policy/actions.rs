//! The actions of S3, and sets of them.
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>

use super::pattern::Pattern;

/// What an action is done on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Object,
    Bucket,
    /// Neither: a list of buckets, or things that are not here.
    Account,
}

/// Whether this is an action of S3, such as `s3:GetObject`. Of any other, [`crate::decide_s3`] says no.
pub fn is_s3_action(action: &str) -> bool {
    number(action).is_some()
}

/// An action of S3 in the letters that the store asks about it by, whatever the case of those that are given.
pub fn s3_action_named(given: &str) -> Option<String> {
    all().nth(number(given)?).map(|(_, name)| format!("s3:{name}"))
}

/// The number of an action, whatever the case of its letters.
pub(super) fn number(action: &str) -> Option<usize> {
    let name = action.get(..3).filter(|prefix| prefix.eq_ignore_ascii_case("s3:")).map(|_| &action[3..])?;
    all().position(|(_, known)| known.eq_ignore_ascii_case(name))
}

pub(super) fn level(number: usize) -> Option<Level> {
    all().nth(number).map(|(level, _)| level)
}

/// The name that is nearest to a wrong one, if one is near.
pub(super) fn nearest(wrong: &str) -> Option<String> {
    let wrong = wrong.to_ascii_lowercase();
    let name = wrong.strip_prefix("s3:").unwrap_or(&wrong);
    if name.len() > 64 {
        return None;
    }
    let (far, known) = all().map(|(_, known)| (distance(name, &known.to_ascii_lowercase()), known)).min()?;
    (far <= 3.min(name.len() / 3)).then(|| format!("s3:{known}"))
}

/// How many letters to add, leave out or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// A set of actions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Actions([u64; 4]);

impl Actions {
    /// Adds those that a pattern such as `s3:Get*` names, in lower case; how many it names.
    pub(super) fn add(&mut self, pattern: &Pattern) -> usize {
        let mut named = 0;
        for (number, (_, name)) in all().enumerate() {
            if pattern.matches_plain(&format!("s3:{}", name.to_ascii_lowercase())) {
                self.0[number / 64] |= 1 << (number % 64);
                named += 1;
            }
        }
        named
    }

    pub(super) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

fn all() -> impl Iterator<Item = (Level, &'static str)> {
    let of = |level, names: &'static [&'static str]| names.iter().map(move |name| (level, *name));
    of(Level::Object, &OBJECT).chain(of(Level::Bucket, &BUCKET)).chain(of(Level::Account, &ACCOUNT))
}

const OBJECT: [&str; 39] = [
    "GetObject",
    "PutObject",
    "DeleteObject",
    "AbortMultipartUpload",
    "ListMultipartUploadParts",
    "BypassGovernanceRetention",
    "DeleteObjectTagging",
    "DeleteObjectVersion",
    "DeleteObjectVersionTagging",
    "GetObjectAcl",
    "GetObjectAnnotation",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "GetObjectTorrent",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionAnnotation",
    "GetObjectVersionAnnotationForReplication",
    "GetObjectVersionAttributes",
    "GetObjectVersionForReplication",
    "GetObjectVersionTagging",
    "GetObjectVersionTorrent",
    "InitiateReplication",
    "ListObjectAnnotations",
    "ListObjectVersionAnnotations",
    "ObjectOwnerOverrideToBucketOwner",
    "PutObjectAcl",
    "PutObjectLegalHold",
    "PutObjectRetention",
    "PutObjectTagging",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
    "ReplicateDelete",
    "ReplicateObject",
    "ReplicateTags",
    "RestoreObject",
    "UpdateObjectEncryption",
];

const BUCKET: [&str; 60] = [
    "ListBucket",
    "CreateBucket",
    "CreateBucketMetadataTableConfiguration",
    "DeleteBucket",
    "DeleteBucketMetadataTableConfiguration",
    "DeleteBucketPolicy",
    "DeleteBucketWebsite",
    "GetAccelerateConfiguration",
    "GetAnalyticsConfiguration",
    "GetBucketAbac",
    "GetBucketAcl",
    "GetBucketCORS",
    "GetBucketLocation",
    "GetBucketLogging",
    "GetBucketMetadataTableConfiguration",
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
    "GetReplicationConfiguration",
    "ListBucketMultipartUploads",
    "ListBucketVersions",
    "ListTagsForResource",
    "PauseReplication",
    "PutAccelerateConfiguration",
    "PutAnalyticsConfiguration",
    "PutBucketAbac",
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
    "PutReplicationConfiguration",
    "TagResource",
    "UntagResource",
    "UpdateBucketMetadataInventoryTableConfiguration",
    "UpdateBucketMetadataJournalTableConfiguration",
];

const ACCOUNT: [&str; 80] = [
    "ListAllMyBuckets",
    "AssociateAccessGrantsIdentityCenter",
    "CreateAccessGrant",
    "CreateAccessGrantsInstance",
    "CreateAccessGrantsLocation",
    "CreateAccessPoint",
    "CreateAccessPointForObjectLambda",
    "CreateJob",
    "CreateMultiRegionAccessPoint",
    "CreateStorageLensGroup",
    "DeleteAccessGrant",
    "DeleteAccessGrantsInstance",
    "DeleteAccessGrantsInstanceResourcePolicy",
    "DeleteAccessGrantsLocation",
    "DeleteAccessPoint",
    "DeleteAccessPointForObjectLambda",
    "DeleteAccessPointPolicy",
    "DeleteAccessPointPolicyForObjectLambda",
    "DeleteAccessPointScope",
    "DeleteJobTagging",
    "DeleteMultiRegionAccessPoint",
    "DeleteStorageLensConfiguration",
    "DeleteStorageLensConfigurationTagging",
    "DeleteStorageLensGroup",
    "DescribeJob",
    "DescribeMultiRegionAccessPointOperation",
    "DissociateAccessGrantsIdentityCenter",
    "GetAccessGrant",
    "GetAccessGrantsInstance",
    "GetAccessGrantsInstanceForPrefix",
    "GetAccessGrantsInstanceResourcePolicy",
    "GetAccessGrantsLocation",
    "GetAccessPoint",
    "GetAccessPointConfigurationForObjectLambda",
    "GetAccessPointForObjectLambda",
    "GetAccessPointPolicy",
    "GetAccessPointPolicyForObjectLambda",
    "GetAccessPointPolicyStatus",
    "GetAccessPointPolicyStatusForObjectLambda",
    "GetAccessPointScope",
    "GetAccountPublicAccessBlock",
    "GetDataAccess",
    "GetJobTagging",
    "GetMultiRegionAccessPoint",
    "GetMultiRegionAccessPointPolicy",
    "GetMultiRegionAccessPointPolicyStatus",
    "GetMultiRegionAccessPointRoutes",
    "GetStorageLensConfiguration",
    "GetStorageLensConfigurationTagging",
    "GetStorageLensDashboard",
    "GetStorageLensGroup",
    "ListAccessGrants",
    "ListAccessGrantsInstances",
    "ListAccessGrantsLocations",
    "ListAccessPoints",
    "ListAccessPointsForObjectLambda",
    "ListCallerAccessGrants",
    "ListJobs",
    "ListMultiRegionAccessPoints",
    "ListStorageLensConfigurations",
    "ListStorageLensGroups",
    "PutAccessGrantsInstanceResourcePolicy",
    "PutAccessPointConfigurationForObjectLambda",
    "PutAccessPointPolicy",
    "PutAccessPointPolicyForObjectLambda",
    "PutAccessPointPublicAccessBlock",
    "PutAccessPointScope",
    "PutAccountPublicAccessBlock",
    "PutJobTagging",
    "PutMultiRegionAccessPointPolicy",
    "PutStorageLensConfiguration",
    "PutStorageLensConfigurationTagging",
    "SubmitMultiRegionAccessPointRoutes",
    "UpdateAccessGrantsLocation",
    "UpdateJobPriority",
    "UpdateJobStatus",
    "UpdateStorageLensGroup",
    "DeleteAccessPointTagging",
    "GetAccessPointTagging",
    "PutAccessPointTagging",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_action_stands_once_and_has_a_place_in_a_set() {
        let names: HashSet<String> = all().map(|(_, name)| name.to_ascii_lowercase()).collect();
        assert_eq!(names.len(), all().count());
        assert!(names.len() <= 256);
    }

    #[test]
    fn actions_are_found_whatever_their_case_and_others_are_not() {
        assert_eq!(number("s3:getobject"), number("S3:GetObject"));
        assert_eq!(s3_action_named("S3:getobject").as_deref(), Some("s3:GetObject"));
        assert_eq!(number("s3:PutObject").and_then(level), Some(Level::Object));
        assert_eq!(number("s3:ListBucket").and_then(level), Some(Level::Bucket));
        for wrong in ["", "s3:", "GetObject", "s3:HeadObject", "iam:GetUser", "s3:*", "s3é"] {
            assert!(!is_s3_action(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_the_right_name() {
        assert_eq!(nearest("s3:GetObjects").as_deref(), Some("s3:GetObject"));
        assert_eq!(nearest("s3:listbuckets").as_deref(), Some("s3:ListBucket"));
        assert_eq!(nearest("s3:FlyToTheMoon"), None);
        assert_eq!(nearest(""), None);
    }
}
