//! Writes, copies and removes objects.

use model::{BucketName, ProjectId};

use crate::{
    Error,
    clock::milliseconds,
    digests::Digested,
    index::{self, BUCKETS, Writing},
    lock,
    notify::How,
    rows::{About, BucketRow, Data, ObjectRow, Piece, Place, Retention, Sealing, Tags},
    seal::Sealed,
    settings,
    store::Store,
    versions::{self, Found, Name, Removed, VersionId},
};

/// Which object.
#[derive(Debug, Clone)]
pub struct Target {
    pub project: ProjectId,
    pub bucket: BucketName,
    pub key: String,
}

impl Target {
    /// As the index names it.
    pub fn name(&self) -> Name<'_> {
        (self.project.as_str(), self.bucket.as_str(), self.key.as_bytes())
    }
}

/// What a writer says of a new object.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    pub about: About,
    pub tags: Tags,
    /// `None` is what the bucket does by itself.
    pub retention: Option<Retention>,
    /// `None` is none.
    pub hold: Option<bool>,
    /// How the data was sealed.
    pub sealing: Sealing,
    /// By what it is written, as those are told who are told of it.
    pub how: How,
}

/// An object, or a version of one, that is to be removed.
#[derive(Debug, Clone, Default)]
pub struct Removal {
    pub key: String,
    /// `None` is the current one, which becomes an older one where the bucket has versions.
    pub version: Option<VersionId>,
    /// What must hold of the version that is named, or else of the current one.
    pub condition: Condition,
    /// Whether governance does not keep it; that the caller may ask for this was decided before.
    pub bypass_governance: bool,
}

/// What must hold of the object that is there, for a write to happen.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    pub matches: Option<Tag>,
    pub none_matches: Option<Tag>,
}

/// An entity tag of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    Any,
    Is(String),
}

impl Condition {
    /// Whether a write may happen over `present`.
    pub fn check(&self, present: Option<&ObjectRow>) -> Result<(), Error> {
        let is = |tag: &Tag, row: &ObjectRow| match tag {
            Tag::Any => true,
            Tag::Is(etag) => *etag == row.etag,
        };
        match (&self.matches, present) {
            (Some(_), None) => return Err(Error::NoSuchKey),
            (Some(tag), Some(row)) if !is(tag, row) => return Err(Error::Precondition),
            _ => {}
        }
        match (&self.none_matches, present) {
            (Some(tag), Some(row)) if is(tag, row) => Err(Error::Precondition),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Makes sealed data the newest version of an object, durably, if `condition` allows it. What was there stays as an
    /// older version or is freed, as the bucket's versioning says.
    pub(crate) async fn put(
        &self,
        target: Target,
        writes: Writes,
        (sealed, digested): (Sealed, Digested),
        condition: Condition,
    ) -> Result<ObjectRow, Error> {
        settings::check_tags(&writes.tags, settings::MOST_OBJECT_TAGS)?;
        if let Some(external) = self.external(&target.project, &target.bucket)? {
            return self.put_there(&external, target, writes, (sealed, digested), condition).await;
        }
        let (length, key) = (sealed.length, sealed.key);
        let teller = self.teller();
        let told = teller.watch();
        let put = move |writing: &mut Writing<'_>, place: Option<Place>| {
            let bucket = index::bucket(&writing.buckets, &target.project, &target.bucket)?;
            let present = writing.present(target.name(), bucket.versioning)?;
            condition.check(present.current.as_ref())?;
            let now = milliseconds(writing.now());
            let (retention, hold) = lock::of_new(&bucket, writes.retention, writes.hold == Some(true), now)?;
            present.check(now)?;

            // All is well: from here on it changes.
            let piece = place.map(|place| Piece { length, key, place });
            piece.as_ref().map_or(Ok(()), |piece| writing.hold(piece))?;
            let row = ObjectRow {
                size: length,
                etag: hex::encode(digested.md5),
                about: writes.about,
                sum: digested.sum,
                data: piece.map_or(Data::Empty, Data::One),
                tags: writes.tags,
                retention,
                hold,
                sealing: writes.sealing,
                ..ObjectRow::default()
            };
            let row = writing.put(target.name(), row, present)?;
            teller.created(writing, &bucket, target.name(), &row, writes.how)?;
            Ok(row)
        };
        let row = self.commit(sealed.body, put).await?;
        self.told(&told);
        Ok(row)
    }

    /// Removes objects and versions, each if its condition holds and no lock forbids it. In one transaction.
    pub(crate) async fn remove(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        removals: Vec<Removal>,
    ) -> Result<Vec<Result<Removed, Error>>, Error> {
        if let Some(external) = self.external(project, bucket)? {
            return self.remove_there(&external, project, bucket, removals).await;
        }
        let (project, bucket) = (project.clone(), bucket.clone());
        let teller = self.teller();
        let told = teller.watch();
        let remove = move |writing: &mut Writing<'_>, _| {
            let row = index::bucket(&writing.buckets, &project, &bucket)?;
            let mut results = Vec::with_capacity(removals.len());
            for removal in removals {
                let name = (project.as_str(), bucket.as_str(), removal.key.as_bytes());
                let found = writing.find(name, removal.version)?.object();
                let result = match (removal.condition.check(found.as_ref()), removal.version) {
                    (Err(refused), _) => Err(refused),
                    (Ok(()), None) => writing.remove_current(name, row.versioning),
                    (Ok(()), Some(version)) => writing.remove_version(name, version, removal.bypass_governance),
                };
                match result {
                    // What it changed so far must not stay.
                    Err(cause) if cause.is_internal() => return Err(cause),
                    result => {
                        if let Ok(removed) = &result {
                            teller.removed(writing, &row, name, removed, false)?;
                        }
                        results.push(result);
                    }
                }
            }
            Ok(results)
        };
        let results = self.commit(crate::seal::Body::Empty, remove).await?;
        self.told(&told);
        Ok(results)
    }

    /// What is at a key: its current version, or one that is named.
    pub(crate) async fn find(&self, target: &Target, version: Option<VersionId>) -> Result<Found, Error> {
        if let Some(external) = self.external(&target.project, &target.bucket)? {
            return self.find_there(&external, target, version).await;
        }
        let target = target.clone();
        self.glance(move |inner| {
            let index = inner.index.read()?;
            index::bucket(&index.open_table(BUCKETS)?, &target.project, &target.bucket)?;
            versions::find(&index, target.name(), version)
        })
        .await
    }

    /// Replaces the tags of a version; none removes them. Returns the version.
    pub(crate) async fn set_tags(
        &self,
        target: Target,
        version: Option<VersionId>,
        tags: Tags,
    ) -> Result<ObjectRow, Error> {
        settings::check_tags(&tags, settings::MOST_OBJECT_TAGS)?;
        self.change(target, version, |row, _, _| {
            row.tags = tags;
            Ok(())
        })
        .await
    }

    /// Keeps a version until another time, or no longer. Returns the version.
    pub(crate) async fn set_retention(
        &self,
        target: Target,
        version: Option<VersionId>,
        retention: Option<Retention>,
        bypass_governance: bool,
    ) -> Result<ObjectRow, Error> {
        self.change(target, version, move |row, bucket, now| {
            bucket.lock.as_ref().ok_or(Error::NoLock)?;
            lock::check_change(row.retention, retention, now, bypass_governance)?;
            row.retention = retention;
            Ok(())
        })
        .await
    }

    /// Puts a legal hold on a version, or lifts it. Returns the version.
    pub(crate) async fn set_hold(
        &self,
        target: Target,
        version: Option<VersionId>,
        hold: bool,
    ) -> Result<ObjectRow, Error> {
        self.change(target, version, move |row, bucket, _| {
            bucket.lock.as_ref().ok_or(Error::NoLock)?;
            row.hold = hold;
            Ok(())
        })
        .await
    }

    /// Changes what is known of a version, at a time in milliseconds.
    async fn change(
        &self,
        target: Target,
        version: Option<VersionId>,
        change: impl FnOnce(&mut ObjectRow, &BucketRow, i64) -> Result<(), Error> + Send + 'static,
    ) -> Result<ObjectRow, Error> {
        let apply = move |writing: &mut Writing<'_>, _| {
            let bucket = index::bucket(&writing.buckets, &target.project, &target.bucket)?;
            if bucket.external.is_some() {
                return Err(Error::NotThere("tags and locks of objects"));
            }
            let mut row = writing.find(target.name(), version)?.expect_object(version.is_some())?;
            let now = milliseconds(writing.now());
            change(&mut row, &bucket, now)?;
            writing.update(target.name(), &row)?;
            Ok(row)
        };
        self.commit(crate::seal::Body::Empty, apply).await
    }
}
