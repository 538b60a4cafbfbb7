//! What a writer gives an object beside its data: what `PutObject`, `CopyObject`, `CreateMultipartUpload` and forms have
//! in common.

use s3s::{
    S3Result,
    dto::{Metadata, Timestamp},
    s3_error,
};

use super::convert::{Said, hold, milliseconds, mode};
use crate::{
    call::Call,
    notify::How,
    put::Writes,
    rows::{Retention, Tags},
    sse::{CustomerKey, Wanted},
};

/// As it came.
#[derive(Default)]
pub struct Given {
    pub said: Said,
    pub acl: Option<String>,
    /// Whether access was given by headers.
    pub grants: bool,
    /// Tags as a query has them.
    pub tagging: Option<String>,
    pub lock_mode: Option<String>,
    pub lock_until: Option<Timestamp>,
    pub hold: Option<String>,
    pub algorithm: Option<String>,
    pub kms_key: Option<String>,
    pub kms_context: bool,
    pub customer: Option<CustomerKey>,
    pub storage_class: Option<String>,
    pub redirect: bool,
}

/// Takes it from a request.
macro_rules! given {
    ($call:expr, $input:expr) => {
        $crate::s3::given::Given {
            said: $crate::s3::convert::Said {
                content_type: $input.content_type.take(),
                cache_control: $input.cache_control.take(),
                content_disposition: $input.content_disposition.take(),
                content_encoding: $input.content_encoding.take(),
                content_language: $input.content_language.take(),
                expires: $input.expires.take(),
                metadata: $input.metadata.take(),
            },
            acl: $input.acl.take().map(|acl| acl.as_str().to_owned()),
            grants: [&$input.grant_full_control, &$input.grant_read, &$input.grant_read_acp, &$input.grant_write_acp]
                .into_iter()
                .any(Option::is_some),
            tagging: $input.tagging.take(),
            lock_mode: $input.object_lock_mode.take().map(|mode| mode.as_str().to_owned()),
            lock_until: $input.object_lock_retain_until_date.take(),
            hold: $input.object_lock_legal_hold_status.take().map(|status| status.as_str().to_owned()),
            algorithm: $input.server_side_encryption.take().map(|algorithm| algorithm.as_str().to_owned()),
            kms_key: $input.ssekms_key_id.take(),
            kms_context: $input.ssekms_encryption_context.is_some(),
            customer: $crate::s3::convert::customer_key!($call, $input)?,
            storage_class: $input.storage_class.take().map(|class| class.as_str().to_owned()),
            redirect: $input.website_redirect_location.is_some(),
        }
    };
}
pub(super) use given;

impl Given {
    /// As the store takes it, and how the data is to be sealed. What would change who may read an object, or where it is,
    /// and cannot be done, is refused: silence would be taken for consent.
    pub fn writes(self, call: &Call) -> S3Result<(Writes, Wanted)> {
        check_acl(self.acl.as_deref(), self.grants)?;
        match self.storage_class.as_deref() {
            None | Some("" | "STANDARD" | "REDUCED_REDUNDANCY") => {}
            Some(class) if CLASSES.contains(&class) => {
                return Err(s3_error!(NotImplemented, "the storage class is STANDARD"));
            }
            Some(_) => return Err(s3_error!(InvalidStorageClass, "there is no such storage class")),
        }
        if self.redirect {
            return Err(s3_error!(NotImplemented, "redirects are not supported"));
        }
        if self.kms_context {
            return Err(s3_error!(NotImplemented, "encryption contexts are not supported"));
        }
        let bucket = call.settings().map(|bucket| bucket.encryption.clone()).unwrap_or_default();
        let wanted =
            Wanted::new(call.project()?, self.algorithm.as_deref(), self.kms_key.as_deref(), self.customer, &bucket)?;
        let retention = match (self.lock_mode, self.lock_until) {
            (None, None) => None,
            (Some(name), Some(until)) => {
                let until = milliseconds(&until);
                let until = until.ok_or_else(|| s3_error!(InvalidArgument, "the retain until date is not a time"))?;
                Some(Retention { mode: mode(&name)?, until })
            }
            _ => {
                return Err(s3_error!(
                    InvalidArgument,
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
                ));
            }
        };
        let writes = Writes {
            about: self.said.about()?,
            tags: self.tagging.as_deref().map_or(Ok(Tags::new()), header_tags)?,
            retention,
            hold: self.hold.as_deref().map(hold).transpose()?,
            sealing: wanted.sealing.clone(),
            how: How::Put,
        };
        Ok((writes, wanted))
    }
}

/// Metadata of a form.
pub fn metadata(fields: impl Iterator<Item = (String, String)>) -> Option<Metadata> {
    let metadata: Metadata = fields.collect();
    (!metadata.is_empty()).then_some(metadata)
}

/// Says why access cannot be given so: buckets and objects are their project's, and policies open them.
pub fn check_acl(acl: Option<&str>, grants: bool) -> S3Result<()> {
    match acl {
        None | Some("" | "private" | "bucket-owner-full-control" | "bucket-owner-read") if !grants => Ok(()),
        Some(acl) if !ACLS.contains(&acl) => Err(s3_error!(InvalidArgument, "there is no such canned ACL")),
        _ => Err(s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs: what is in it is private, and a bucket policy can open it"
        )),
    }
}

/// Tags as a header has them: a query.
fn header_tags(text: &str) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        if tags.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(s3_error!(
                InvalidArgument,
                "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag \
                 name duplicates."
            ));
        }
    }
    Ok(tags)
}

const CLASSES: [&str; 10] = [
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "SNOW",
    "EXPRESS_ONEZONE",
    "FSX_OPENZFS",
];

const ACLS: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];
