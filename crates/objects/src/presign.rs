//! Presigned URLs.

use std::time::Duration;

use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle, actions};
use url::Url;

/// A URL by which one may `GET` (or, if `method` says so, `PUT` or `DELETE`) an object until `expires` has passed; path
/// style. Empty if `base_url` is not a URL with a host.
#[allow(clippy::too_many_arguments)]
pub fn presign(
    access: &str,
    secret: &str,
    region: &str,
    base_url: &str,
    method: &str,
    bucket: &str,
    key: &str,
    expires: Duration,
) -> String {
    let Ok(base) = base_url.parse::<Url>() else { return String::new() };
    let Ok(bucket) = Bucket::new(base, UrlStyle::Path, bucket.to_owned(), region.to_owned()) else {
        return String::new();
    };
    let credentials = Credentials::new(access, secret);
    let expires = expires.clamp(Duration::from_secs(1), LONGEST);
    let url = match method.to_ascii_uppercase().as_str() {
        "PUT" => actions::PutObject::new(&bucket, Some(&credentials), key).sign(expires),
        "DELETE" => actions::DeleteObject::new(&bucket, Some(&credentials), key).sign(expires),
        _ => actions::GetObject::new(&bucket, Some(&credentials), key).sign(expires),
    };
    url.into()
}

/// What version 4 of the signature allows: seven days.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
