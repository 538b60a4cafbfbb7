//! Regions: a project's data stay in the region that was chosen for it, and a call that names another is refused as S3
//! does, with the right one in its words and in `x-amz-bucket-region`.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use model::{ProjectId, Region};
use s3s::{Body, S3Error, S3ErrorCode, S3Result};

use crate::{Error, Store, access::BoxError, call::Call, gate::Ground};

/// Tells the region of a project; `None` where it has none, or there is no such project.
#[derive(Clone)]
pub struct Homes(pub Arc<Ask>);

type Ask = dyn Fn(ProjectId) -> BoxFuture<'static, Result<Option<Region>, BoxError>> + Send + Sync;

impl std::fmt::Debug for Homes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Homes")
    }
}

impl Store {
    /// Lets the store ask for the regions of projects. Once, before the first call; without it, no project has one.
    pub fn know_homes(&self, homes: Homes) -> Result<(), Error> {
        self.0.homes.set(homes).map_err(|_| Error::Invalid("the regions of projects are told once".to_owned()))
    }

    /// The region of a project, if it has one.
    pub(crate) async fn home(&self, project: &ProjectId) -> Result<Option<Region>, Error> {
        match self.0.homes.get() {
            Some(homes) => homes.0(project.clone()).await.map_err(Error::Home),
            None => Ok(None),
        }
    }
}

impl Ground {
    /// The region of a project; that of the gate where it has none.
    pub async fn home(&self, project: &ProjectId) -> Result<Region, Error> {
        Ok(self.store.home(project).await?.unwrap_or_else(|| self.region.clone()))
    }
}

impl Call {
    /// Keeps the region that the request is signed for. Once a call.
    pub fn set_signed_region(&self, region: &str) {
        // Set once: a request has one signature.
        let _ = self.signed_region.set(region.to_owned());
    }

    /// The region of the project whose buckets the call is on; says so where it is none of this service's.
    pub async fn home(&self) -> S3Result<Region> {
        let home = self.ground.home(self.project()?).await?;
        match self.ground.regions.contains(&home) {
            true => Ok(home),
            false => Err(moved(&home)),
        }
    }

    /// Refuses a call that was signed for another region than that of its project. How a region is spelled, in capitals or
    /// not, is no difference.
    pub async fn is_for_its_region(&self) -> S3Result<()> {
        let home = self.home().await?;
        match self.signed_region.get() {
            Some(named) if !named.eq_ignore_ascii_case(home.as_str()) => {
                let words = format!(
                    "The authorization header is malformed; the region '{}' is wrong; expecting '{home}'",
                    named.escape_default()
                );
                Err(of_region(S3ErrorCode::AuthorizationHeaderMalformed, words, StatusCode::BAD_REQUEST, &home))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a bucket that is to be made in another region than that of its project.
    pub async fn is_for_this_place(&self, constraint: &str) -> S3Result<()> {
        let home = self.home().await?;
        if constraint.is_empty() || constraint.eq_ignore_ascii_case(home.as_str()) {
            return Ok(());
        }
        let words = format!(
            "The {} location constraint is incompatible for the region specific endpoint this request was sent to: \
             the buckets of this project are in {home}.",
            constraint.escape_default()
        );
        Err(of_region(S3ErrorCode::IllegalLocationConstraintException, words, StatusCode::BAD_REQUEST, &home))
    }
}

/// The project is in a region that another installation serves.
fn moved(home: &Region) -> S3Error {
    let words = format!(
        "The bucket you are attempting to access must be addressed using the specified endpoint: it is in {home}, \
         which is not served here."
    );
    of_region(S3ErrorCode::PermanentRedirect, words, StatusCode::MOVED_PERMANENTLY, home)
}

fn of_region(code: S3ErrorCode, words: String, status: StatusCode, home: &Region) -> S3Error {
    let mut refusal = S3Error::with_message(code, words);
    refusal.set_status_code(status);
    if let Ok(value) = HeaderValue::from_str(home.as_str()) {
        refusal.set_headers(HeaderMap::from_iter([(REGION, value)]));
    }
    refusal
}

/// A refusal of [`of_region`] with the region in its document too, as S3 has it: clients that follow read it there.
pub fn told(response: Response<Body>) -> Response<Body> {
    let home = response.headers().get(REGION).filter(|_| !response.status().is_success()).cloned();
    let (Some(home), Some(bytes)) = (home, response.body().bytes()) else { return response };
    let document = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix("</Error>").map(str::to_owned));
    let (Some(document), Ok(home)) = (document, home.to_str()) else { return response };
    let text = format!("{document}<Region>{home}</Region></Error>");
    let (mut parts, _) = response.into_parts();
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        parts.headers.insert(header::CONTENT_LENGTH, text.len().into());
    }
    Response::from_parts(parts, Body::from(text.into_bytes()))
}

const REGION: http::HeaderName = http::HeaderName::from_static("x-amz-bucket-region");
