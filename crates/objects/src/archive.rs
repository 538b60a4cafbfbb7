//! Small objects of the service itself that nobody may remove before their time: checkpoints of the audit log. They
//! are written without an entry in that log, since each entry makes another checkpoint.

use bytes::Bytes;
use futures::stream;
use jiff::Timestamp;
use model::{BucketName, ProjectId};

use crate::{
    Error,
    put::{Condition, Target, Writes},
    rows::{About, Mode, Retention},
    settings::NewBucket,
    store::Store,
};

/// Where such objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Archive {
    /// A bucket of a project in this store, which is made with object lock where there is none.
    Here {
        /// The project.
        project: ProjectId,
        /// The bucket.
        bucket: BucketName,
    },
    /// A bucket of an S3 service elsewhere, under its own name there; it has object lock already. What is written is
    /// not sealed.
    There {
        /// The name of the service in the configuration.
        external: String,
        /// The bucket.
        bucket: String,
    },
}

impl std::fmt::Display for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Archive::Here { project, bucket } => write!(f, "s3 project {project} bucket {bucket}"),
            Archive::There { external, bucket } => write!(f, "s3 {external} bucket {bucket}"),
        }
    }
}

impl Store {
    /// Writes an object that the mode COMPLIANCE keeps until `until`. One of that key becomes an older version, which
    /// is kept as long as it was to be. A bucket without object lock is an error: [`Error::NoLock`], or what the service
    /// elsewhere says.
    pub async fn archive(&self, to: &Archive, key: &str, bytes: &[u8], until: Timestamp) -> Result<(), Error> {
        match to {
            Archive::Here { project, bucket } => self.archive_here(project, bucket, key, bytes, until).await,
            Archive::There { external, bucket } => {
                self.external_named(external)?.put_locked(bucket, key, bytes, until).await
            }
        }
    }

    async fn archive_here(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        bytes: &[u8],
        until: Timestamp,
    ) -> Result<(), Error> {
        if self.bucket(project, bucket).await?.is_none() {
            let wanted = NewBucket { lock: true, ..NewBucket::default() };
            match self.create_bucket(project, bucket, wanted).await {
                Ok(()) | Err(Error::BucketExists { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        let target = Target { project: project.clone(), bucket: bucket.clone(), key: key.to_owned() };
        let body = stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
        let sealed = self.seal(project, body, None, bytes.len() as u64).await?;
        let about = About { content_type: Some("text/plain; charset=utf-8".to_owned()), ..About::default() };
        let retention = Some(Retention { mode: Mode::Compliance, until: until.as_millisecond() });
        self.put(target, Writes { about, retention, ..Writes::default() }, sealed, Condition::default()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crash::{keys, project},
        list::{VersionEntry, VersionQuery},
        put::Removal,
    };

    #[tokio::test]
    async fn what_is_archived_is_not_removed_before_its_time_by_anyone() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("objects"), keys(dir.path())).await.expect("a store");
        let bucket: BucketName = "kept".parse().expect("a name");
        let to = Archive::Here { project: project(), bucket: bucket.clone() };
        let later = Timestamp::now() + jiff::SignedDuration::from_hours(24);
        store.archive(&to, "checkpoints/1", b"one", later).await.expect("written");
        store.archive(&to, "checkpoints/1", b"two", later).await.expect("written again");

        let query = VersionQuery { limit: 10, ..VersionQuery::default() };
        let (versions, _) = store.list_versions(&project(), &bucket, query).await.expect("versions");
        assert_eq!(versions.len(), 2, "{versions:?}");
        for version in versions {
            let VersionEntry::Version { key, row, .. } = version else { panic!("a prefix") };
            let removal = Removal { key, version: Some(row.id()), bypass_governance: true, ..Removal::default() };
            let removed = store.remove(&project(), &bucket, vec![removal]).await.expect("asked").remove(0);
            assert!(matches!(removed, Err(Error::Locked(_))), "{removed:?}");
        }
        assert!(matches!(store.delete_bucket(&project(), &bucket).await, Err(Error::NotEmpty { .. })));

        let plain: BucketName = "plain".parse().expect("a name");
        store.create_bucket(&project(), &plain, NewBucket::default()).await.expect("a bucket");
        let to = Archive::Here { project: project(), bucket: plain };
        let refused = store.archive(&to, "checkpoints/1", b"one", later).await;
        assert!(matches!(refused, Err(Error::NoLock)), "{refused:?}");
        let nowhere = Archive::There { external: "none".to_owned(), bucket: "kept".to_owned() };
        assert!(matches!(store.archive(&nowhere, "1", b"one", later).await, Err(Error::External(_))));
    }
}
