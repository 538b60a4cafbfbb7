//! Buckets and their settings.

use jiff::Timestamp;
use model::{BucketName, ProjectId};
use redb::ReadableTable as _;
use uuid::Uuid;

use crate::{
    Error,
    clock::milliseconds,
    index::{self, BUCKETS, DOCUMENTS, Writing},
    lock,
    rows::{self, BucketRow, Kind, LockSettings, Sealing, Tags, Versioning},
    seal::Body,
    store::{Store, time},
};

/// A bucket of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// When it was made.
    pub created: Timestamp,
    /// Whose it is, as the one who made it was named.
    pub owner: Option<String>,
    /// Whether it keeps versions: `None` if it never did, else whether it does now.
    pub versioning: Option<bool>,
    /// Whether versions can be locked.
    pub lock: bool,
    /// The name of the key by which the key service seals its objects; `None` is the project's.
    pub kms_key: Option<String>,
}

/// What a new bucket is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewBucket {
    /// Whose it is.
    pub owner: Option<String>,
    /// Whether it keeps versions.
    pub versioning: bool,
    /// Whether versions can be locked, for which it keeps them.
    pub lock: bool,
}

impl Writing<'_> {
    /// Writes a bucket's row, with a document in the place of the one of that kind; `None` takes it away.
    pub fn set_document(
        &mut self,
        (project, bucket): (&ProjectId, &BucketName),
        kind: Kind,
        mut row: BucketRow,
        document: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let at = (project.as_str(), bucket.as_str(), kind.name());
        match document {
            Some(document) if document.len() > MOST_DOCUMENT => {
                return Err(Error::DocumentTooLarge { most: MOST_DOCUMENT });
            }
            Some(document) => {
                self.documents.insert(at, document.as_slice())?;
                row.documents.insert(kind);
            }
            None => {
                self.documents.remove(at)?;
                row.documents.remove(&kind);
            }
        }
        let row = rows::encode(&row);
        self.buckets.insert((project.as_str(), bucket.as_str()), row.as_slice())?;
        Ok(())
    }
}

impl Store {
    /// Makes a bucket.
    pub async fn create_bucket(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        wanted: NewBucket,
    ) -> Result<(), Error> {
        let external = self.takes(project).await?;
        if let Some(external) = &external {
            if wanted.versioning || wanted.lock {
                return Err(Error::NotThere("versions"));
            }
            if self.bucket(project, bucket).await?.is_some() {
                return Err(Error::BucketExists { bucket: bucket.clone() });
            }
            external.create_bucket(project, bucket).await?;
        }
        let external = external.map(|external| external.name().to_owned());
        let is_external = external.is_some();
        let (project, bucket) = (project.clone(), bucket.clone());
        let create = move |writing: &mut Writing<'_>, _| {
            let key = (project.as_str(), bucket.as_str());
            if writing.buckets.get(key)?.is_some() {
                return Err(Error::BucketExists { bucket: bucket.clone() });
            }
            let mut buckets = 0;
            for entry in writing.buckets.range((project.as_str(), "")..)? {
                if entry?.0.value().0 != project.as_str() {
                    break;
                }
                buckets += 1;
            }
            if buckets >= MOST_BUCKETS {
                return Err(Error::TooManyBuckets { most: MOST_BUCKETS });
            }
            let row = BucketRow {
                created: milliseconds(writing.now()),
                owner: wanted.owner,
                versioning: if wanted.versioning || wanted.lock { Versioning::Enabled } else { Versioning::Off },
                lock: wanted.lock.then(LockSettings::default),
                external,
                ..BucketRow::default()
            };
            let row = rows::encode(&row);
            writing.buckets.insert(key, row.as_slice())?;
            Ok(())
        };
        if is_external {
            // Before it can be seen, and whether the caller waits for it or not: what is written to it meanwhile would
            // else go to a bucket of that name here, where nobody finds it again.
            self.0.index.note_external();
        }
        self.commit(Body::Empty, create).await
    }

    /// Removes a bucket that has no objects, no versions and no delete markers; uploads that were begun in it are
    /// aborted, so many a step: others have their turn between. What a crash leaves is the bucket with fewer of them.
    pub async fn delete_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
        if let Some(external) = self.external(project, bucket)? {
            external.delete_bucket(project, bucket).await?;
        }
        // The entry for the audit log goes with the last step.
        loop {
            let (project, bucket) = (project.clone(), bucket.clone());
            let some = move |writing: &mut Writing<'_>, _| {
                check_empty(writing, &project, &bucket)?;
                abort_uploads(writing, &project, &bucket, MOST_ABORTED)
            };
            if !self.0.committer.commit_in_reserve(Body::Empty, some).await? {
                break;
            }
        }
        let (project, bucket) = (project.clone(), bucket.clone());
        let delete = move |writing: &mut Writing<'_>, _| {
            check_empty(writing, &project, &bucket)?;
            // Those that were begun since.
            abort_uploads(writing, &project, &bucket, usize::MAX)?;
            let (of, within) = (project.as_str(), bucket.as_str());
            for kind in Kind::ALL {
                writing.documents.remove((of, within, kind.name()))?;
            }
            writing.buckets.remove((of, within))?;
            writing.forget_counts(of, within)?;
            Ok(())
        };
        self.commit(Body::Empty, delete).await
    }

    /// The buckets of a project, by name.
    pub async fn buckets(&self, project: &ProjectId) -> Result<Vec<Bucket>, Error> {
        let project = project.clone();
        self.read(move |index| {
            let mut buckets = Vec::new();
            for entry in index.open_table(BUCKETS)?.range((project.as_str(), "")..)? {
                let (key, row) = entry?;
                let (of, name) = key.value();
                if of != project.as_str() {
                    break;
                }
                buckets.push(known(name, rows::decode("a bucket", row.value())?)?);
            }
            Ok(buckets)
        })
        .await
    }

    /// A bucket of a project.
    pub async fn bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<Option<Bucket>, Error> {
        match self.bucket_row(project, bucket).await {
            Ok(row) => Ok(Some(known(bucket.as_str(), row)?)),
            Err(Error::NoSuchBucket { .. }) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// A bucket with its settings, or that there is none.
    pub(crate) async fn bucket_row(&self, project: &ProjectId, bucket: &BucketName) -> Result<BucketRow, Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        self.read(move |index| index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)).await
    }

    /// Changes settings of a bucket, if `change` agrees and the settings can follow those before. Returns the new ones.
    pub(crate) async fn change_bucket(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        change: impl FnOnce(&mut BucketRow) -> Result<(), Error> + Send + 'static,
    ) -> Result<BucketRow, Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        let apply = move |writing: &mut Writing<'_>, _| {
            let before = index::bucket(&writing.buckets, &project, &bucket)?;
            let mut after = before.clone();
            change(&mut after)?;
            check_change(&before, &after)?;
            let kept = after.versioning == Versioning::Off && after.lock.is_none() && after.encryption.is_project();
            if after.external.is_some() && !kept {
                return Err(Error::NotThere("versions, locks and other keys than the project's"));
            }
            let row = rows::encode(&after);
            writing.buckets.insert((project.as_str(), bucket.as_str()), row.as_slice())?;
            Ok(after)
        };
        self.commit(Body::Empty, apply).await
    }

    /// A document of a bucket; `None` if it has none of that kind.
    pub(crate) async fn document(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        kind: Kind,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        self.read(move |index| {
            index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)?;
            let found = index.open_table(DOCUMENTS)?.get((project.as_str(), bucket.as_str(), kind.name()))?;
            Ok(found.map(|document| document.value().to_vec()))
        })
        .await
    }

    /// Gives a bucket a document, in the place of the one of that kind; `None` takes it away.
    pub(crate) async fn set_document(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        kind: Kind,
        document: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        if document.as_ref().is_some_and(|document| document.len() > MOST_DOCUMENT) {
            return Err(Error::DocumentTooLarge { most: MOST_DOCUMENT });
        }
        let (project, bucket) = (project.clone(), bucket.clone());
        let apply = move |writing: &mut Writing<'_>, _| {
            let row = index::bucket(&writing.buckets, &project, &bucket)?;
            if row.external.is_some() && document.is_some() {
                match kind {
                    Kind::Lifecycle => return Err(Error::NotThere("lifecycle rules")),
                    // What others change there is not known here.
                    Kind::Notification => return Err(Error::NotThere("notifications")),
                    Kind::Policy | Kind::Cors | Kind::Tagging | Kind::Container => {}
                }
            }
            writing.set_document((&project, &bucket), kind, row, document)?;
            Ok(())
        };
        self.commit(Body::Empty, apply).await
    }
}

/// Says why a bucket cannot be removed.
fn check_empty(writing: &Writing<'_>, project: &ProjectId, bucket: &BucketName) -> Result<(), Error> {
    index::bucket(&writing.buckets, project, bucket)?;
    let (of, within, empty) = (project.as_str(), bucket.as_str(), [].as_slice());
    let object = writing.objects.range((of, within, empty)..)?.next().transpose()?;
    let has_object = object.is_some_and(|(key, _)| (key.value().0, key.value().1) == (of, within));
    let version = writing.versions.range((of, within, empty, 0)..)?.next().transpose()?;
    let has_version = version.is_some_and(|(key, _)| (key.value().0, key.value().1) == (of, within));
    match has_object || has_version {
        true => Err(Error::NotEmpty { bucket: bucket.clone() }),
        false => Ok(()),
    }
}

/// Aborts uploads of a bucket until so many of them and of their parts are gone; whether there are more.
fn abort_uploads(
    writing: &mut Writing<'_>,
    project: &ProjectId,
    bucket: &BucketName,
    most: usize,
) -> Result<bool, Error> {
    let mut aborted = 0;
    while aborted < most {
        let first =
            writing.uploads.range((project.as_str(), bucket.as_str(), [].as_slice(), 0)..)?.next().transpose()?;
        let first = first.and_then(|(entry, _)| {
            let (of, within, key, id) = entry.value();
            ((of, within) == (project.as_str(), bucket.as_str())).then(|| (key.to_vec(), Uuid::from_u128(id)))
        });
        let Some((key, id)) = first else { return Ok(false) };
        let parts = writing.take_upload(project, bucket, &key, id)?;
        aborted += 1 + parts.len();
        for (_, part) in parts {
            part.piece.map_or(Ok(()), |piece| writing.free(&piece))?;
        }
    }
    Ok(true)
}

fn known(name: &str, row: BucketRow) -> Result<Bucket, Error> {
    let name = name.parse().map_err(|_| Error::Damaged { what: "a bucket's name".to_owned() })?;
    Ok(Bucket {
        name,
        created: time(row.created),
        owner: row.owner,
        versioning: match row.versioning {
            Versioning::Off => None,
            Versioning::Enabled => Some(true),
            Versioning::Suspended => Some(false),
        },
        lock: row.lock.is_some(),
        kms_key: match row.encryption {
            Sealing::Kms { key } => Some(key),
            Sealing::Project | Sealing::Customer { .. } => None,
        },
    })
}

/// Says why settings cannot follow others. What was promised to keep cannot be given up by a setting.
fn check_change(before: &BucketRow, after: &BucketRow) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::BucketState(why.to_owned()));
    if before.versioning != Versioning::Off && after.versioning == Versioning::Off {
        return refuse("versioning can be suspended, and not be undone");
    }
    if before.lock.is_some() && after.lock.is_none() {
        return refuse("object lock cannot be undone");
    }
    if after.lock.is_some() && after.versioning != Versioning::Enabled {
        return refuse("a bucket with object lock keeps versions");
    }
    if let Some(default) = after.lock.as_ref().and_then(|lock| lock.default) {
        lock::check_default(default)?;
    }
    if matches!(after.encryption, Sealing::Customer { .. }) {
        return Err(Error::Invalid("a bucket cannot have a customer's key".to_owned()));
    }
    if (before.created, &before.owner, &before.documents) != (after.created, &after.owner, &after.documents) {
        return Err(Error::Invalid("a bucket stays its owner's, and as old as it is".to_owned()));
    }
    Ok(())
}

/// Says why tags cannot be: `most` of them, names of 1 to 128 characters and values of up to 256
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>).
pub fn check_tags(tags: &Tags, most: usize) -> Result<(), Error> {
    if tags.len() > most {
        return Err(Error::InvalidTag(format!("there can be at most {most} tags")));
    }
    for (name, value) in tags {
        let (long, longest) = (name.chars().count(), value.chars().count());
        if long == 0 || long > 128 || longest > 256 {
            return Err(Error::InvalidTag(
                "the name of a tag has 1 to 128 characters, and its value at most 256".to_owned(),
            ));
        }
        if name.starts_with("aws:") {
            return Err(Error::InvalidTag("names of tags do not begin with `aws:`".to_owned()));
        }
    }
    Ok(())
}

/// Of AWS.
pub const MOST_OBJECT_TAGS: usize = 10;
/// Of AWS.
pub const MOST_BUCKET_TAGS: usize = 50;
/// The buckets that a project can have; as many as an account has at AWS
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/BucketRestrictions.html>).
pub const MOST_BUCKETS: usize = 10_000;
/// Uploads and parts of them that one step of a removal takes away.
const MOST_ABORTED: usize = 1000;
/// The most bytes of a document of a bucket.
pub const MOST_DOCUMENT: usize = 64 << 10;
