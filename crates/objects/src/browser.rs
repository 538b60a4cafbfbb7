//! What browsers need beyond S3: the answers that let a page of another origin at a bucket.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, header};
use model::{BucketName, ProjectId};
use s3s::{Body, S3Result, dto::CORSConfiguration, host::S3Host as _, s3_error, xml};

use crate::{
    Error, Store,
    actions::parameter,
    call::Call,
    cors::{self, Preflight},
    host::{Domains, name_of},
    index::{BUCKETS, DOCUMENTS},
    rows::Kind,
};

/// The bucket and the key that a request's address names, in the host or in the path.
pub fn address<B>(request: &Request<B>, domains: &Domains) -> S3Result<(String, String)> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    let path = request.uri().path().trim_start_matches('/');
    let path = percent_decoded(path).ok_or_else(|| s3_error!(InvalidURI, "the path is not UTF-8"))?;
    let of_host = domains.parse_host_header(host)?.bucket().map(str::to_owned);
    Ok(match of_host {
        Some(bucket) => (bucket, path),
        None => path
            .split_once('/')
            .map_or((path.clone(), String::new()), |(bucket, key)| (bucket.to_owned(), key.to_owned())),
    })
}

/// The answer to what a browser asks before it sends a call. It has no signature, so that nothing is told by it but
/// what rules say of that origin.
pub async fn preflight<B>(call: &Call, request: &Request<B>, domains: &Domains) -> S3Result<Response<Body>> {
    let wanted = Preflight::of(request.headers())?;
    let (bucket, key) = address(request, domains)?;
    let name: BucketName = match name_of(&bucket).parse() {
        Ok(name) => name,
        Err(_) => return Err(Preflight::refusal(false)),
    };
    call.asks("s3", "OptionsObject", (Some(name.as_str()), Some(key.as_str()).filter(|key| !key.is_empty())), true);
    let store = &call.store();
    let configs = match project_of(call, &bucket, request).await? {
        Some(project) => store.cors(&project, &name).await?.into_iter().collect(),
        // Which project's it is will be seen by the signature of the call. Only the rules of that one are in its answer.
        None => store.cors_of_any(name).await?,
    };
    let answer = configs.iter().find_map(|config| wanted.answer(config));
    let headers = answer.ok_or_else(|| Preflight::refusal(!configs.is_empty()))?;
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers;
    Ok(response)
}

/// The project that is named with the bucket, or that a presigned URL's key is of.
async fn project_of<B>(call: &Call, bucket: &str, request: &Request<B>) -> S3Result<Option<ProjectId>> {
    if let Some((project, _)) = bucket.split_once(':') {
        return project.parse().map(Some).map_err(|_| Preflight::refusal(false));
    }
    let Some(credential) = parameter(request.uri(), "X-Amz-Credential") else { return Ok(None) };
    let access_key = credential.rsplitn(5, '/').nth(4).unwrap_or_default();
    let found = call.ground.access.grant(access_key).await.map_err(|cause| {
        tracing::error!(%cause, "an access key could not be looked up");
        s3_error!(ServiceUnavailable, "access keys cannot be looked up")
    })?;
    found.map(|grant| Some(grant.project)).ok_or_else(|| Preflight::refusal(false))
}

/// The headers that let a page of `origin` read the answer of a call.
pub async fn of_answer(call: &Arc<Call>, origin: &str, method: &Method) -> Option<HeaderMap> {
    let bucket: BucketName = call.bucket()?.parse().ok()?;
    let config = call.store().cors(call.project().ok()?, &bucket).await.ok()??;
    cors::of_answer(&config, origin, method)
}

impl Store {
    /// The rules of a bucket for pages of other origins; `None` if it has none, or there is no such bucket.
    pub(crate) async fn cors(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
    ) -> Result<Option<CORSConfiguration>, Error> {
        match self.document(project, bucket, Kind::Cors).await {
            Ok(document) => document.as_deref().map(parsed).transpose(),
            Err(Error::NoSuchBucket { .. }) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// The rules of all buckets of a name: a look-up a project.
    async fn cors_of_any(&self, bucket: BucketName) -> Result<Vec<CORSConfiguration>, Error> {
        self.read(move |index| {
            let (buckets, documents) = (index.open_table(BUCKETS)?, index.open_table(DOCUMENTS)?);
            let mut found = Vec::new();
            let mut after = String::new();
            while let Some(next) = buckets.range((after.as_str(), "")..)?.next().transpose()? {
                let project = next.0.value().0.to_owned();
                if let Some(document) = documents.get((project.as_str(), bucket.as_str(), Kind::Cors.name()))? {
                    found.push(parsed(document.value())?);
                }
                // Above all names of that project's buckets, and below every other project.
                after = project + "\0";
            }
            Ok(found)
        })
        .await
    }
}

/// CORS rules as they are kept.
pub fn parsed(document: &[u8]) -> Result<CORSConfiguration, Error> {
    let config = xml::Deserialize::deserialize(&mut xml::Deserializer::new(document));
    config.map_err(|_| Error::Damaged { what: "the CORS rules of a bucket".to_owned() })
}

fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match pair.and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => {
                decoded.extend(byte);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}
