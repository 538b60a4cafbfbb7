//! What buckets hold: counts that each change keeps right in its own transaction.

use std::{collections::BTreeMap, ops::AddAssign};

use model::{BucketName, ProjectId};
use redb::{ReadableTable, WriteTransaction};
use tokio::time::Instant;

use crate::{
    Error,
    external::External,
    index::{self, BUCKETS, OBJECTS, ObjectKey, PARTS, UPLOADS, USAGE, UploadKey, UsageRow, VERSIONS, VersionKey},
    list::{Entry, Query},
    rows::{self, BucketRow, ObjectRow},
    store::{MOST_LISTED, Store},
    versions,
};

/// What a bucket or a project holds. Bytes are those that callers wrote, before they were sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage<T = u64> {
    /// Objects that a list shows.
    pub objects: T,
    /// Their bytes.
    pub bytes: T,
    /// Versions that are not current objects, delete markers among them.
    pub older: T,
    /// Their bytes.
    pub older_bytes: T,
    /// Parts of uploads that are not complete.
    pub parts: T,
    /// Their bytes.
    pub part_bytes: T,
}

impl Usage {
    /// As the index holds it.
    pub(crate) fn row(self) -> UsageRow {
        (self.objects, self.bytes, self.older, self.older_bytes, self.parts, self.part_bytes)
    }

    /// Of a row of the index.
    pub(crate) fn of((objects, bytes, older, older_bytes, parts, part_bytes): UsageRow) -> Usage {
        Usage { objects, bytes, older, older_bytes, parts, part_bytes }
    }

    pub(crate) fn plus(self, more: Usage<i64>) -> Usage {
        Usage {
            objects: self.objects.saturating_add_signed(more.objects),
            bytes: self.bytes.saturating_add_signed(more.bytes),
            older: self.older.saturating_add_signed(more.older),
            older_bytes: self.older_bytes.saturating_add_signed(more.older_bytes),
            parts: self.parts.saturating_add_signed(more.parts),
            part_bytes: self.part_bytes.saturating_add_signed(more.part_bytes),
        }
    }
}

impl<T: AddAssign> AddAssign for Usage<T> {
    fn add_assign(&mut self, more: Usage<T>) {
        self.objects += more.objects;
        self.bytes += more.bytes;
        self.older += more.older;
        self.older_bytes += more.older_bytes;
        self.parts += more.parts;
        self.part_bytes += more.part_bytes;
    }
}

impl Store {
    /// What a bucket holds. One that lives elsewhere is counted by a list of all that is there: `None` if that is not done
    /// by `until`, or fails.
    pub async fn usage(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        until: Instant,
    ) -> Result<Option<Usage>, Error> {
        let (of, name) = (project.clone(), bucket.clone());
        let here = self.glance(move |inner| {
            let index = inner.index.read()?;
            index::bucket(&index.open_table(BUCKETS)?, &of, &name)?;
            let row = index.open_table(USAGE)?.get((of.as_str(), name.as_str()))?;
            Ok(row.map_or_else(Usage::default, |row| Usage::of(row.value())))
        });
        let mut usage = here.await?;
        let external = match self.external(project, bucket) {
            Ok(None) => return Ok(Some(usage)),
            Ok(Some(external)) if Instant::now() < until => external,
            Ok(Some(_)) | Err(Error::External(_)) => return Ok(None),
            Err(cause) => return Err(cause),
        };
        match tokio::time::timeout_at(until, self.count_there(&external, project, bucket)).await {
            Ok(Ok(there)) => {
                usage += there;
                Ok(Some(usage))
            }
            Ok(Err(Error::External(cause))) => {
                tracing::warn!(%bucket, cause, "what a bucket holds elsewhere cannot be counted");
                Ok(None)
            }
            Ok(Err(cause)) => Err(cause),
            Err(_) => Ok(None),
        }
    }

    /// What all buckets of a project hold; `None` if one lives elsewhere that cannot be counted by `until`.
    pub async fn project_usage(&self, project: &ProjectId, until: Instant) -> Result<Option<Usage>, Error> {
        let of = project.clone();
        let here = self.read(move |index| {
            let mut usage = Usage::default();
            for entry in index.open_table(USAGE)?.range((of.as_str(), "")..)? {
                let (key, row) = entry?;
                if key.value().0 != of.as_str() {
                    break;
                }
                usage += Usage::of(row.value());
            }
            let mut elsewhere: Vec<BucketName> = Vec::new();
            for entry in index.open_table(BUCKETS)?.range((of.as_str(), "")..)? {
                let (key, row) = entry?;
                if key.value().0 != of.as_str() {
                    break;
                }
                let row: BucketRow = rows::decode("a bucket", row.value())?;
                if row.external.is_some() {
                    let damaged = |_| Error::Damaged { what: "the name of a bucket".to_owned() };
                    elsewhere.push(key.value().1.parse().map_err(damaged)?);
                }
            }
            Ok((usage, elsewhere))
        });
        let (mut usage, elsewhere) = here.await?;
        for bucket in elsewhere {
            let found = match self.usage(project, &bucket, until).await {
                // Removed since.
                Err(Error::NoSuchBucket { .. }) => continue,
                found => found?,
            };
            let Some(found) = found else { return Ok(None) };
            // What is here of it, its parts, is in the sum.
            usage.objects += found.objects;
            usage.bytes += found.bytes;
        }
        Ok(Some(usage))
    }

    async fn count_there(&self, external: &External, project: &ProjectId, bucket: &BucketName) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        let mut query = Query { limit: MOST_LISTED, ..Query::default() };
        loop {
            let (entries, more) = self.entries_there(external, project, bucket, &query).await?;
            for entry in &entries {
                if let Entry::Object(_, row) = entry {
                    usage += Usage { objects: 1, bytes: row.size, ..Usage::default() };
                }
            }
            match entries.last() {
                Some(last) if more => query.after = Some(last.name().to_owned()),
                None if more => return Err(Error::External("its list does not go on".to_owned())),
                _ => return Ok(usage),
            }
        }
    }
}

/// What buckets hold, by project and name.
pub type Counts = BTreeMap<(String, String), Usage>;

/// Counts everything, for an index that has no counts yet.
pub fn count_all(transaction: &WriteTransaction) -> Result<(), Error> {
    let counts = count(
        &transaction.open_table(OBJECTS)?,
        &transaction.open_table(VERSIONS)?,
        &transaction.open_table(UPLOADS)?,
        &transaction.open_table(PARTS)?,
    )?;
    let mut table = transaction.open_table(USAGE)?;
    for ((project, bucket), usage) in counts {
        table.insert((project.as_str(), bucket.as_str()), usage.row())?;
    }
    Ok(())
}

fn count(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    versions: &impl ReadableTable<VersionKey, &'static [u8]>,
    uploads: &impl ReadableTable<UploadKey, &'static [u8]>,
    parts: &impl ReadableTable<(u128, u32), &'static [u8]>,
) -> Result<Counts, Error> {
    let mut counts = Counts::new();
    let mut add = |project: &str, bucket: &str, more: Usage| {
        *counts.entry((project.to_owned(), bucket.to_owned())).or_default() += more;
    };
    for entry in objects.iter()? {
        let (key, row) = entry?;
        let (project, bucket, _) = key.value();
        let row: ObjectRow = rows::decode("an object", row.value())?;
        add(project, bucket, Usage { objects: 1, bytes: row.size, ..Usage::default() });
    }
    for entry in versions.iter()? {
        let (key, row) = entry?;
        let (project, bucket, ..) = key.value();
        let older_bytes = versions::decode(row.value())?.size();
        add(project, bucket, Usage { older: 1, older_bytes, ..Usage::default() });
    }
    for entry in uploads.iter()? {
        let (key, _) = entry?;
        let (project, bucket, _, id) = key.value();
        for (_, part) in index::parts(parts, uuid::Uuid::from_u128(id), 0, usize::MAX)? {
            add(project, bucket, Usage { parts: 1, part_bytes: part.size, ..Usage::default() });
        }
    }
    Ok(counts)
}
