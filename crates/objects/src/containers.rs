//! What the API asks of buckets beside S3: settings as plain values, changed in one step each, and the emptying of a
//! bucket. Who may ask was decided there.

use model::{BucketName, ProjectId};
use redb::ReadableTable as _;
use s3s::{
    dto::{CORSConfiguration, CORSRule},
    xml,
};

use crate::{
    Error, Store,
    browser::parsed,
    cors,
    index::{self, BUCKETS, DOCUMENTS, Writing},
    list::{Entry, Query, VersionEntry, VersionQuery},
    put::Removal,
    rows::{BucketRow, Kind, PublicBlock, Versioning},
    seal::Body,
    store::MOST_LISTED,
};

impl Store {
    /// Has a bucket keep versions from now on, or make no new ones; those that are there stay.
    /// [`Error::BucketState`] where it has object lock, which needs them.
    pub async fn set_versioning(&self, project: &ProjectId, bucket: &BucketName, on: bool) -> Result<(), Error> {
        let versioning = if on { Versioning::Enabled } else { Versioning::Suspended };
        let change = move |row: &mut BucketRow| {
            row.versioning = versioning;
            Ok(())
        };
        self.change_bucket(project, bucket, change).await.map(drop)
    }

    /// The origins that the CORS rules of a bucket name, each once, in the order of the rules.
    pub async fn cors_origins(&self, project: &ProjectId, bucket: &BucketName) -> Result<Vec<String>, Error> {
        let mut origins: Vec<String> = Vec::new();
        for rule in self.cors(project, bucket).await?.map(|config| config.cors_rules).unwrap_or_default() {
            for origin in rule.allowed_origins {
                if !origins.contains(&origin) {
                    origins.push(origin);
                }
            }
        }
        Ok(origins)
    }

    /// Lets pages of an origin at a bucket: a rule for it alone, with every method and header. Nothing happens where it
    /// has that rule. [`Error::Invalid`] where there are too many rules, or the text is no pattern of origins.
    pub async fn allow_origin(&self, project: &ProjectId, bucket: &BucketName, origin: &str) -> Result<(), Error> {
        let rule = CORSRule {
            allowed_headers: Some(vec!["*".to_owned()]),
            allowed_methods: METHODS.map(str::to_owned).to_vec(),
            allowed_origins: vec![origin.to_owned()],
            expose_headers: Some(vec!["ETag".to_owned()]),
            id: None,
            max_age_seconds: None,
        };
        let change = move |_: &mut BucketRow, before: Option<&[u8]>| {
            let mut config = before.map_or_else(|| Ok(CORSConfiguration { cors_rules: Vec::new() }), parsed)?;
            if !config.cors_rules.contains(&rule) {
                config.cors_rules.push(rule);
            }
            cors::check(&config.cors_rules)
                .map_err(|refusal| Error::Invalid(refusal.message().unwrap_or_default().to_owned()))?;
            written(&config).map(|document| (Some(document), ()))
        };
        self.change_document(project, bucket, Kind::Cors, change).await
    }

    /// Takes an origin out of the CORS rules of a bucket, and away what rules are left without one; whether it was there.
    pub async fn disallow_origin(&self, project: &ProjectId, bucket: &BucketName, origin: &str) -> Result<bool, Error> {
        let origin = origin.to_owned();
        let change = move |_: &mut BucketRow, before: Option<&[u8]>| {
            let Some(document) = before else { return Ok((None, false)) };
            let mut config = parsed(document)?;
            let named =
                |config: &CORSConfiguration| config.cors_rules.iter().map(|rule| rule.allowed_origins.len()).sum();
            let names: usize = named(&config);
            for rule in &mut config.cors_rules {
                rule.allowed_origins.retain(|known| *known != origin);
            }
            config.cors_rules.retain(|rule| !rule.allowed_origins.is_empty());
            let was_there = named(&config) < names;
            let document = (!config.cors_rules.is_empty()).then(|| written(&config)).transpose()?;
            Ok((document, was_there))
        };
        self.change_document(project, bucket, Kind::Cors, change).await
    }

    /// The policy of a bucket as it was set, where its public access block lets a policy open it to everybody; else
    /// `None`, as where it has none.
    pub async fn policy_for_everybody(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
    ) -> Result<Option<String>, Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        let document = self
            .read(move |index| {
                let row = index::bucket(&index.open_table(BUCKETS)?, &project, &bucket)?;
                if row.public_block.restrict || !row.documents.contains(&Kind::Policy) {
                    return Ok(None);
                }
                let found =
                    index.open_table(DOCUMENTS)?.get((project.as_str(), bucket.as_str(), Kind::Policy.name()))?;
                Ok(found.map(|document| document.value().to_vec()))
            })
            .await?;
        document.map(policy_text).transpose()
    }

    /// Changes the policy of a bucket, and whether its public access block lets a policy open it to everybody. `change`
    /// gets the policy that it has, and gives the one that it is to have or says why there is none
    /// ([`Error::Invalid`]); the new one was checked there.
    pub async fn change_policy(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        open: bool,
        change: impl FnOnce(Option<&str>) -> Result<Option<String>, String> + Send + 'static,
    ) -> Result<(), Error> {
        let change = move |row: &mut BucketRow, before: Option<&[u8]>| {
            let before = before.map(|document| policy_text(document.to_vec())).transpose()?;
            let policy = change(before.as_deref()).map_err(Error::Invalid)?;
            row.public_block = PublicBlock { block_policy: !open, restrict: !open, ..PublicBlock::default() };
            Ok((policy.map(String::into_bytes), ()))
        };
        self.change_document(project, bucket, Kind::Policy, change).await
    }

    /// Removes objects, versions and delete markers of a bucket for good, 1,000 at most; how many there were, 0 if it is
    /// empty. [`Error::Locked`] where a lock keeps one of them; the others of the step are removed.
    pub async fn empty_bucket(&self, project: &ProjectId, bucket: &BucketName) -> Result<usize, Error> {
        // Elsewhere there are no versions.
        let removals: Vec<Removal> = if self.external(project, bucket)?.is_some() {
            let query = Query { limit: MOST_LISTED, ..Query::default() };
            let (entries, _) = self.entries(project, bucket, query).await?;
            let removal = |entry: &Entry| Removal { key: entry.name().to_owned(), ..Removal::default() };
            entries.iter().map(removal).collect()
        } else {
            let query = VersionQuery { limit: MOST_LISTED, ..VersionQuery::default() };
            let (entries, _) = self.list_versions(project, bucket, query).await?;
            let removal = |entry| match entry {
                VersionEntry::Version { key, row, .. } => {
                    Some(Removal { key, version: Some(row.id()), ..Removal::default() })
                }
                VersionEntry::Prefix(_) => None,
            };
            entries.into_iter().filter_map(removal).collect()
        };
        if removals.is_empty() {
            return Ok(0);
        }
        let removed = self.remove(project, bucket, removals).await?;
        let count = removed.len();
        removed.into_iter().try_for_each(|result| result.map(drop))?;
        Ok(count)
    }

    /// Changes a document of a bucket by what it is, with the settings that go with it, in one transaction.
    async fn change_document<T: Send + 'static>(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        kind: Kind,
        change: impl FnOnce(&mut BucketRow, Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (project, bucket) = (project.clone(), bucket.clone());
        let apply = move |writing: &mut Writing<'_>, _| {
            let mut row = index::bucket(&writing.buckets, &project, &bucket)?;
            let at = (project.as_str(), bucket.as_str(), kind.name());
            let before = writing.documents.get(at)?.map(|document| document.value().to_vec());
            let (after, answer) = change(&mut row, before.as_deref())?;
            writing.set_document((&project, &bucket), kind, row, after)?;
            Ok(answer)
        };
        self.commit(Body::Empty, apply).await
    }
}

fn written(config: &CORSConfiguration) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let done = xml::Serialize::serialize(config, &mut xml::Serializer::new(&mut text));
    done.map_err(|_| Error::Invalid("the CORS rules cannot be written as XML".to_owned()))?;
    Ok(text)
}

fn policy_text(document: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(document).map_err(|_| Error::Damaged { what: "a bucket's policy".to_owned() })
}

const METHODS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];
