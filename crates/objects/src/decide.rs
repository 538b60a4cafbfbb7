//! Decides whether a call may do what it asks for: by the scope of its key, and by the policies of its caller and of its
//! bucket where there are any.

use std::sync::PoisonError;

use http::{HeaderMap, Uri};
use jiff::Timestamp;
use model::{BucketName, ProjectId};
use s3s::{S3Error, S3Result, dto::CopySource, s3_error};

use crate::{
    Error, Store, Verdict, Via,
    access::Question,
    actions::{actions, foreign_parameter, parameter, takes_version},
    call::Call,
    index::{self, BUCKETS, DOCUMENTS},
    put::Target,
    region::signing_time,
    rows::{BucketRow, Kind, Tags},
    versions::VersionId,
};

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'w> {
    /// As policies name it, such as `s3:GetObject`.
    pub action: &'w str,
    /// On which bucket of the call's project.
    pub bucket: Option<&'w BucketName>,
    /// On which key.
    pub key: Option<&'w str>,
    /// On which version of it.
    pub version: Option<VersionId>,
    /// Condition keys beside those that all of the call has.
    pub more: &'w [(String, String)],
}

/// What a bucket adds to a decision.
#[derive(Debug, Default)]
pub struct Rules {
    /// Its settings, if there is such a bucket.
    pub row: Option<BucketRow>,
    /// Its policy.
    pub policy: Option<String>,
}

impl Call {
    /// Whether the caller may begin an operation that `s3s` has found out; says why not.
    pub async fn admit(
        &self,
        operation: &str,
        (bucket, key): (Option<&str>, Option<&str>),
        signed: bool,
        (uri, headers): (&Uri, &HeaderMap),
    ) -> S3Result<()> {
        if let Some(name) = foreign_parameter(operation, uri) {
            return Err(s3_error!(NotImplemented, "{operation} with `{name}` is not supported"));
        }
        if parameter(uri, "versionId").is_some() && !takes_version(operation) {
            return Err(s3_error!(InvalidArgument, "This operation does not accept a version-id."));
        }
        let Some(actions) = actions(operation, uri, headers) else {
            return Err(s3_error!(NotImplemented, "{operation} is not supported"));
        };
        self.is_at_home(bucket, signed)?;
        self.is_for_its_region().await?;
        if signed {
            self.check_token(uri, headers)?;
        } else if operation == "GetObject" && overrides_answer(uri) {
            // What is open to everybody is shown as its writer meant it, not as whoever made the link.
            let why = "Request specific response headers cannot be used for anonymous GET requests.";
            return Err(s3_error!(InvalidRequest, "{why}"));
        }
        if let Some(owner) = headers.get("x-amz-expected-bucket-owner")
            && owner.as_bytes() != self.project()?.as_str().as_bytes()
        {
            return Err(s3_error!(AccessDenied, "the bucket is not of the owner that is expected"));
        }
        self.set_scene(scene(operation, uri, headers));
        let bucket = bucket.map(crate::s3::bucket_name).transpose()?;
        self.is_in_scope(operation, bucket.as_ref())?;
        let version = parameter(uri, "versionId").and_then(|id| id.parse().ok());
        for action in actions {
            self.demand(&Wish { action, bucket: bucket.as_ref(), key, version, more: &[] }).await?;
        }
        Ok(())
    }

    /// Whether the scope of the caller's key has an operation in it.
    pub fn is_in_scope(&self, operation: &str, bucket: Option<&BucketName>) -> S3Result<()> {
        match self.grant() {
            Some(grant) if !grant.scope.permits(operation, bucket.map(BucketName::as_str)) => {
                Err(s3_error!(AccessDenied, "this access key may not do that"))
            }
            _ => Ok(()),
        }
    }

    /// Finds out whose bucket is meant. A caller with a key means its own project's; one without says whose, as in
    /// `PROJECT:BUCKET`, because names of buckets are each project's own.
    pub fn is_at_home(&self, bucket: Option<&str>, signed: bool) -> S3Result<()> {
        let named = bucket.and_then(|bucket| bucket.split_once(':')).map(|(project, _)| project.parse::<ProjectId>());
        match named.transpose().map_err(|_| s3_error!(InvalidBucketName, "a project's id stands before the colon"))? {
            Some(project) if !signed => self.visit(project),
            Some(project) if self.project()? != &project => {
                Err(s3_error!(AccessDenied, "the bucket is of another project"))
            }
            None if !signed => Err(s3_error!(AccessDenied, "a signature is required")),
            _ => Ok(()),
        }
    }

    /// A temporary key is sent with its token, and no other key with any.
    pub fn check_token(&self, uri: &Uri, headers: &HeaderMap) -> S3Result<()> {
        let sent = match headers.get("x-amz-security-token") {
            Some(token) => Some(token.as_bytes().to_vec()),
            None => parameter(uri, "X-Amz-Security-Token").map(String::into_bytes),
        };
        self.is_token(sent.as_deref())
    }

    /// Whether this is the token of the caller's key; `None` if none was sent.
    pub fn is_token(&self, sent: Option<&[u8]>) -> S3Result<()> {
        match (sent, self.grant().and_then(|grant| grant.session_token.as_ref())) {
            (None, None) => Ok(()),
            (Some(sent), Some(token)) if crypto::equal(sent, token.as_bytes()) => Ok(()),
            (Some(_), _) => Err(s3_error!(InvalidToken, "the session token is not that of the access key")),
            (None, Some(_)) => Err(s3_error!(InvalidToken, "a temporary access key is sent with its session token")),
        }
    }

    /// Whether the caller may do what it wants to; says why not. Its scope has been asked before.
    pub async fn demand(&self, wish: &Wish<'_>) -> S3Result<()> {
        let Some(verdict) = self.decided(wish).await? else { return Ok(()) };
        let allowed = verdict.allowed;
        self.note(wish.action, verdict);
        match (allowed, self.grant()) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err(s3_error!(AccessDenied, "no policy allows the caller {}", wish.action)),
            // Whether there is such a bucket is not theirs to know.
            (false, None) => Err(s3_error!(AccessDenied, "a signature is required")),
        }
    }

    /// Whether the caller may see something beside what it asked for.
    pub async fn may(&self, wish: &Wish<'_>) -> S3Result<bool> {
        Ok(self.decided(wish).await?.is_none_or(|verdict| verdict.allowed))
    }

    /// What policies say; `None` if there are none to ask, and the caller may.
    async fn decided(&self, wish: &Wish<'_>) -> S3Result<Option<Verdict>> {
        let project = self.project()?;
        let grant = self.grant();
        // The store as such: the handle on the caller's behalf is made once it is known what is asked for and that it may be.
        let rules = match wish.bucket {
            Some(bucket) => self.ground.store.rules(project, bucket)?,
            None => Rules::default(),
        };
        let public_blocked = rules.row.as_ref().is_none_or(|row| row.public_block.restrict);
        let asks_tags = self.asks_tags(&rules);
        if let Some(row) = rules.row {
            self.set_settings(row);
        }
        if rules.policy.is_none() && grant.is_some_and(|grant| grant.plain) {
            return Ok(None);
        }
        let tags = match wish.bucket.zip(wish.key) {
            Some((bucket, key)) if asks_tags && ON_TAGGED.contains(&wish.action) => {
                let target = Target { project: project.clone(), bucket: bucket.clone(), key: key.to_owned() };
                self.existing_tags(&target, wish.version).await?
            }
            _ => Tags::new(),
        };
        let tags: Vec<(String, String)> =
            tags.into_iter().map(|(name, value)| (format!("s3:ExistingObjectTag/{name}"), value)).collect();
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let version = wish.version.map(|version| version.to_string());
        let scene = self.scene().iter().chain(wish.more).chain(&tags);
        let mut context: Vec<(&str, &str)> = scene.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let (address, secure) = (self.source_ip().to_string(), self.is_secure().to_string());
        context.extend([
            ("aws:SourceIp", address.as_str()),
            ("aws:SecureTransport", secure.as_str()),
            ("aws:CurrentTime", now.as_str()),
        ]);
        context.extend(version.as_deref().map(|version| ("s3:VersionId", version)));
        let question = Question {
            project,
            action: wish.action,
            bucket: wish.bucket.map(BucketName::as_str),
            key: wish.key,
            bucket_policy: rules.policy.as_deref(),
            public_blocked,
            context: &context,
        };
        Ok(Some(self.ground.access.decide(grant, &question).await))
    }

    /// What is said of a thing that is not there: one who may not list the bucket is not to learn what is in it.
    pub async fn hide(&self, error: Error, bucket: &BucketName) -> S3Error {
        if matches!(error, Error::NoSuchKey | Error::NoSuchVersion | Error::IsMarker { .. }) {
            let wish = Wish { action: "s3:ListBucket", bucket: Some(bucket), ..Wish::default() };
            if let Err(refusal) = self.demand(&wish).await {
                return refusal;
            }
        }
        error.into()
    }

    /// Whether a policy may ask for the tags that an object has.
    fn asks_tags(&self, rules: &Rules) -> bool {
        let in_policy = rules.policy.as_ref().is_some_and(|policy| policy.contains("ExistingObjectTag"));
        in_policy || self.grant().is_some_and(|grant| grant.asks_tags)
    }

    async fn existing_tags(&self, target: &Target, version: Option<VersionId>) -> S3Result<Tags> {
        match self.ground.store.find(target, version).await {
            Ok(found) => Ok(found.object().map(|row| row.tags).unwrap_or_default()),
            // Whoever may know of it will be told.
            Err(Error::NoSuchBucket { .. }) => Ok(Tags::new()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Whether what is sent cannot be read on its way: by TLS, or because it does not leave the machine.
    pub fn is_private(&self) -> bool {
        let stays = self.source_ip().is_loopback() && !self.is_said_plain();
        self.is_secure() || stays || matches!(self.via(), Via::Sandbox(_))
    }

    /// Keeps a verdict for the audit log: the first that denied, else the last.
    fn note(&self, action: &str, verdict: Verdict) {
        let mut noted = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.as_ref().is_none_or(|(_, before)| before.allowed) {
            *noted = Some((action.to_owned(), verdict));
        }
    }
}

impl Store {
    /// The policy of a bucket, if it has one, and whether the bucket is closed to the public whatever that says.
    pub fn bucket_policy(&self, project: &ProjectId, bucket: &BucketName) -> Result<(Option<String>, bool), Error> {
        let rules = self.rules(project, bucket)?;
        let row = rules.row.ok_or_else(|| Error::NoSuchBucket { bucket: bucket.clone() })?;
        Ok((rules.policy, row.public_block.restrict))
    }

    /// What a bucket adds to a decision; nothing, if there is none. Each call asks, and the rows are small and in memory,
    /// so that they are read where the caller stands: a hop to another thread would cost more.
    pub(crate) fn rules(&self, project: &ProjectId, bucket: &BucketName) -> Result<Rules, Error> {
        let index = self.0.index.read()?;
        let row = match index::bucket(&index.open_table(BUCKETS)?, project, bucket) {
            Ok(row) => row,
            Err(Error::NoSuchBucket { .. }) => return Ok(Rules::default()),
            Err(cause) => return Err(cause),
        };
        if !row.documents.contains(&Kind::Policy) {
            return Ok(Rules { row: Some(row), policy: None });
        }
        let damaged = || Error::Damaged { what: "a bucket's policy".to_owned() };
        let found = index.open_table(DOCUMENTS)?.get((project.as_str(), bucket.as_str(), Kind::Policy.name()))?;
        let policy = found.ok_or_else(damaged)?;
        let policy = std::str::from_utf8(policy.value()).map_err(|_| damaged())?.to_owned();
        Ok(Rules { row: Some(row), policy: Some(policy) })
    }
}

/// Whether a query asks for other headers of the answer than the object has.
fn overrides_answer(uri: &Uri) -> bool {
    let mut names = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    names.any(|(name, _)| name.starts_with("response-"))
}

/// The condition keys that a request itself gives. Each only where the operation takes what it says: else a caller could
/// add a header or a parameter to any request, and by that meet a condition or keep out of its way.
fn scene(operation: &str, uri: &Uri, headers: &HeaderMap) -> Vec<(String, String)> {
    let mut scene = Vec::new();
    let mut put = |key: &str, value: &str| scene.push((key.to_owned(), value.to_owned()));
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    for (header, key, operations) in HEADERS {
        if let Some(value) = text(header).filter(|_| operations.is_empty() || operations.contains(&operation)) {
            put(key, value);
        }
    }
    if let Some(source) = text("x-amz-copy-source").filter(|_| COPIES.contains(&operation)) {
        put("s3:x-amz-copy-source", &copy_source(source));
    }
    // A copy has the tags of its source unless it replaces them.
    let sets_tags = match operation {
        "CopyObject" => text("x-amz-tagging-directive") == Some("REPLACE"),
        _ => CREATES.contains(&operation),
    };
    if let Some(tags) = headers.get("x-amz-tagging").filter(|_| sets_tags) {
        for (name, value) in url::form_urlencoded::parse(tags.as_bytes()) {
            put(&format!("s3:RequestObjectTag/{name}"), &value);
            put("s3:RequestObjectTagKeys", &name);
        }
    }
    if let Some(until) = text("x-amz-object-lock-retain-until-date").filter(|_| CREATES.contains(&operation)) {
        put("s3:object-lock-retain-until-date", until);
        if let Some(days) = remaining_days(until) {
            put("s3:object-lock-remaining-retention-days", &days);
        }
    }
    let listed: &[&str] = match operation {
        "ListObjects" | "ListObjectsV2" | "ListObjectVersions" => &["prefix", "delimiter", "max-keys"],
        // AWS has no such key for uploads; here those who may list below a prefix only may do that with uploads too.
        "ListMultipartUploads" => &["prefix", "delimiter"],
        _ => &[],
    };
    for name in listed {
        if let Some(value) = parameter(uri, name) {
            put(&format!("s3:{name}"), &value);
        }
    }
    let presigned = parameter(uri, "X-Amz-Date").filter(|_| parameter(uri, "X-Amz-Signature").is_some());
    if let Some(date) = presigned {
        put("s3:authType", "REST-QUERY-STRING");
        put("s3:signatureversion", "AWS4-HMAC-SHA256");
        if let Some(signed) = signing_time(&date) {
            let age = Timestamp::now().as_millisecond().saturating_sub(signed.as_millisecond()).max(0);
            put("s3:signatureAge", &age.to_string());
        }
    } else if operation == "PostObject" && headers.contains_key("x-amz-signature") {
        put("s3:authType", "POST");
        put("s3:signatureversion", "AWS4-HMAC-SHA256");
    } else if headers.contains_key(http::header::AUTHORIZATION) {
        put("s3:authType", "REST-HEADER");
        put("s3:signatureversion", "AWS4-HMAC-SHA256");
    }
    match operation {
        "PutObject" | "CopyObject" | "PostObject" | "CompleteMultipartUpload" => {
            put("s3:ObjectCreationOperation", "true")
        }
        "CreateMultipartUpload" | "UploadPart" | "UploadPartCopy" => put("s3:ObjectCreationOperation", "false"),
        _ => {}
    }
    scene
}

/// The source of a copy as policies name it, `BUCKET/KEY`: however the header writes it, it is the same object.
fn copy_source(header: &str) -> String {
    match CopySource::parse(header) {
        Ok(CopySource::Bucket { bucket, key, version_id: Some(version) }) => {
            format!("{bucket}/{key}?versionId={version}")
        }
        Ok(CopySource::Bucket { bucket, key, version_id: None }) => format!("{bucket}/{key}"),
        // It is refused by the operation.
        _ => header.to_owned(),
    }
}

/// Tags that a request is to set, as condition keys.
pub fn request_tags(tags: &Tags) -> Vec<(String, String)> {
    let each = |(name, value): (&String, &String)| {
        [(format!("s3:RequestObjectTag/{name}"), value.clone()), ("s3:RequestObjectTagKeys".to_owned(), name.clone())]
    };
    tags.iter().flat_map(each).collect()
}

/// Days, as policies count them, until a time of ISO 8601.
pub fn remaining_days(until: &str) -> Option<String> {
    let until: Timestamp = until.parse().ok()?;
    let left = until.as_second().saturating_sub(Timestamp::now().as_second());
    Some(left.div_euclid(24 * 3600).to_string())
}

/// Headers that are condition keys, and the operations that take each; none named: all do.
const HEADERS: [(&str, &str, &[&str]); 19] = [
    ("user-agent", "aws:UserAgent", &[]),
    ("referer", "aws:Referer", &[]),
    ("x-amz-content-sha256", "s3:x-amz-content-sha256", &[]),
    ("if-match", "s3:if-match", &["PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject"]),
    ("if-none-match", "s3:if-none-match", &["PutObject", "CopyObject", "CompleteMultipartUpload"]),
    ("x-amz-acl", "s3:x-amz-acl", &GRANTS),
    ("x-amz-grant-full-control", "s3:x-amz-grant-full-control", &GRANTS),
    ("x-amz-grant-read", "s3:x-amz-grant-read", &GRANTS),
    ("x-amz-grant-read-acp", "s3:x-amz-grant-read-acp", &GRANTS),
    ("x-amz-grant-write", "s3:x-amz-grant-write", &GRANTS),
    ("x-amz-grant-write-acp", "s3:x-amz-grant-write-acp", &GRANTS),
    ("x-amz-metadata-directive", "s3:x-amz-metadata-directive", &["CopyObject"]),
    ("x-amz-object-ownership", "s3:x-amz-object-ownership", &["CreateBucket"]),
    ("x-amz-object-lock-mode", "s3:object-lock-mode", &CREATES),
    ("x-amz-object-lock-legal-hold", "s3:object-lock-legal-hold", &CREATES),
    ("x-amz-server-side-encryption", "s3:x-amz-server-side-encryption", &CREATES),
    ("x-amz-server-side-encryption-aws-kms-key-id", "s3:x-amz-server-side-encryption-aws-kms-key-id", &CREATES),
    (
        "x-amz-server-side-encryption-customer-algorithm",
        "s3:x-amz-server-side-encryption-customer-algorithm",
        &[
            "PutObject",
            "PostObject",
            "CopyObject",
            "CreateMultipartUpload",
            "UploadPart",
            "UploadPartCopy",
            "CompleteMultipartUpload",
            "GetObject",
            "HeadObject",
            "GetObjectAttributes",
        ],
    ),
    ("x-amz-storage-class", "s3:x-amz-storage-class", &CREATES),
];

/// Operations that say what an object is to be.
const CREATES: [&str; 4] = ["PutObject", "PostObject", "CopyObject", "CreateMultipartUpload"];
/// Operations that say who may what.
const GRANTS: [&str; 7] =
    ["PutObject", "PostObject", "CopyObject", "CreateMultipartUpload", "CreateBucket", "PutBucketAcl", "PutObjectAcl"];
/// Operations that read another object.
const COPIES: [&str; 2] = ["CopyObject", "UploadPartCopy"];

/// Actions on an object that is there, whose tags a policy may ask for.
const ON_TAGGED: [&str; 19] = [
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectAttributes",
    "s3:GetObjectVersionAttributes",
    "s3:GetObjectAcl",
    "s3:GetObjectVersionAcl",
    "s3:PutObjectAcl",
    "s3:PutObjectVersionAcl",
    "s3:GetObjectTagging",
    "s3:GetObjectVersionTagging",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersionTagging",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:GetObjectRetention",
    "s3:GetObjectLegalHold",
    "s3:BypassGovernanceRetention",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that a request gives a condition key.
    fn given(operation: &str, uri: &str, headers: &[(&'static str, &'static str)], key: &str) -> Vec<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        let scene = scene(operation, &uri.parse().expect("a path"), &headers.collect());
        scene.into_iter().filter(|(name, _)| name == key).map(|(_, value)| value).collect()
    }

    #[test]
    fn parameters_of_a_list_are_those_of_a_list_only() {
        let uri = "/b/k?prefix=a%2F&delimiter=/&max-keys=7";
        for (operation, keys) in [
            ("ListObjects", 3),
            ("ListObjectsV2", 3),
            ("ListObjectVersions", 3),
            ("ListMultipartUploads", 2),
            ("HeadBucket", 0),
            ("GetObject", 0),
            ("PutObject", 0),
            ("DeleteObjects", 0),
            ("ListParts", 0),
            ("ListBuckets", 0),
        ] {
            let found =
                ["s3:prefix", "s3:delimiter", "s3:max-keys"].map(|key| given(operation, uri, &[], key)).concat();
            assert_eq!(found, ["a/", "/", "7"][..keys], "{operation}");
        }
        assert_eq!(given("ListObjectsV2", "/b?prefix=", &[], "s3:prefix"), [""]);
    }

    #[test]
    fn a_header_counts_where_the_operation_takes_it_and_nowhere_else() {
        for (header, key, takers, others) in [
            (
                "x-amz-acl",
                "s3:x-amz-acl",
                &["PutObject", "PutObjectAcl", "CreateBucket"][..],
                &["UploadPart", "GetObject"][..],
            ),
            ("x-amz-grant-read", "s3:x-amz-grant-read", &["PutBucketAcl"], &["DeleteObject", "PutObjectTagging"]),
            (
                "x-amz-copy-source",
                "s3:x-amz-copy-source",
                &["CopyObject", "UploadPartCopy"],
                &["PostObject", "PutObject"],
            ),
            ("x-amz-metadata-directive", "s3:x-amz-metadata-directive", &["CopyObject"], &["PutObject"]),
            ("x-amz-object-lock-mode", "s3:object-lock-mode", &["CreateMultipartUpload"], &["PutObjectRetention"]),
            ("x-amz-object-lock-legal-hold", "s3:object-lock-legal-hold", &["PutObject"], &["PutObjectLegalHold"]),
            ("x-amz-server-side-encryption", "s3:x-amz-server-side-encryption", &["PostObject"], &["UploadPart"]),
            (
                "x-amz-storage-class",
                "s3:x-amz-storage-class",
                &["CopyObject"],
                &["GetObject", "CompleteMultipartUpload"],
            ),
            ("if-match", "s3:if-match", &["PutObject", "DeleteObject"], &["UploadPart", "CreateMultipartUpload"]),
            (
                "if-none-match",
                "s3:if-none-match",
                &["CompleteMultipartUpload"],
                &["CreateMultipartUpload", "PostObject"],
            ),
            ("user-agent", "aws:UserAgent", &["GetObject", "PutObject", "ListBuckets"], &[]),
        ] {
            for operation in takers {
                assert_eq!(given(operation, "/b/k", &[(header, "x")], key), ["x"], "{operation} {header}");
            }
            for operation in others {
                assert!(given(operation, "/b/k", &[(header, "x")], key).is_empty(), "{operation} {header}");
            }
        }
    }

    #[test]
    fn tags_of_the_header_count_where_they_are_set() {
        let tags = ("x-amz-tagging", "class=open");
        let of = |operation: &str, more: &[_]| {
            given(operation, "/b/k", &[&[tags], more].concat(), "s3:RequestObjectTag/class")
        };
        assert_eq!(of("PutObject", &[]), ["open"]);
        assert_eq!(of("CopyObject", &[("x-amz-tagging-directive", "REPLACE")]), ["open"]);
        assert!(of("CopyObject", &[]).is_empty(), "the tags are those of the source");
        for operation in ["PutObjectTagging", "UploadPart", "GetObject"] {
            assert!(of(operation, &[]).is_empty(), "{operation}");
        }
    }

    #[test]
    fn the_source_of_a_copy_has_one_name() {
        for (header, expected) in [
            ("data/secret/x", "data/secret/x"),
            ("/data/secret/x", "data/secret/x"),
            ("data/%73ecret%2Fx", "data/secret/x"),
            ("%2Fdata/a+b", "data/a+b"),
            ("/data/%78?versionId=1", "data/x?versionId=1"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(copy_source(header), expected, "{header}");
        }
    }
}
