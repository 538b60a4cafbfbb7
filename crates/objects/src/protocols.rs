//! Which protocol a request on the public listener speaks. Each beside S3 has paths that S3 has not.

use http::{Method, Request, header};
use model::ProjectId;
use s3s::host::S3Host as _;

use crate::{Via, host::Domains, keystone, sts, swift};

/// What a request is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    S3,
    /// Temporary keys of S3.
    Sts,
    /// Tokens of Swift.
    Keystone,
    Swift,
    /// What Swift tells everybody of itself.
    SwiftInfo,
}

impl Protocol {
    /// By its path, below a host name that is no bucket's. Jobs have S3 alone: that is what their keys are for.
    pub fn of<B>(request: &Request<B>, via: Via, domains: &Domains) -> Protocol {
        if via != Via::Public {
            return if sts::is_call(request) { Protocol::Sts } else { Protocol::S3 };
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
        let in_bucket =
            host.is_some_and(|host| domains.parse_host_header(host).is_ok_and(|host| host.bucket().is_some()));
        if in_bucket {
            return Protocol::S3;
        }
        let path = request.uri().path();
        let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below(swift::ROOT) {
            Protocol::Swift
        } else if below(keystone::ROOT) {
            Protocol::Keystone
        } else if is_info(request) {
            Protocol::SwiftInfo
        } else if sts::is_call(request) {
            Protocol::Sts
        } else {
            Protocol::S3
        }
    }
}

/// Where Keystone is, below a public URL of the store.
pub fn keystone_url(base: &str) -> String {
    format!("{}{}", base.trim_end_matches('/'), keystone::ROOT)
}

/// Where Swift has the containers of a project, below a public URL of the store.
pub fn swift_url(base: &str, project: &ProjectId) -> String {
    format!("{}{}/{}{project}", base.trim_end_matches('/'), swift::ROOT, swift::ACCOUNT)
}

/// S3 would need a signature for the bucket `info`, which is not a public one by this name alone.
fn is_info<B>(request: &Request<B>) -> bool {
    let plain = request.uri().query().is_none() && !request.headers().contains_key(header::AUTHORIZATION);
    request.uri().path() == "/info" && request.method() == Method::GET && plain
}

#[cfg(test)]
mod tests {
    use model::{AttemptNo, JobId, SandboxId};

    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn each_protocol_has_paths_of_its_own() {
        let domains = Domains::new(&["s3.example.org".to_owned()]);
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let signed = ("authorization", "AWS4-HMAC-SHA256 Credential=…");
        for (method, path, headers, expected) in [
            ("GET", "/", &[][..], Protocol::S3),
            ("GET", "/v1", &[][..], Protocol::Swift),
            ("PUT", "/v1/AUTH_a/data/key", &[signed][..], Protocol::Swift),
            ("GET", "/v1.0/key", &[][..], Protocol::S3),
            ("GET", "/v3", &[][..], Protocol::Keystone),
            ("POST", "/v3/auth/tokens", &[][..], Protocol::Keystone),
            ("GET", "/v30", &[][..], Protocol::S3),
            ("GET", "/info", &[][..], Protocol::SwiftInfo),
            ("GET", "/info", &[signed][..], Protocol::S3),
            ("GET", "/info?list-type=2", &[][..], Protocol::S3),
            ("PUT", "/info", &[][..], Protocol::S3),
            ("GET", "/info/key", &[][..], Protocol::S3),
            ("POST", "/", &[form][..], Protocol::Sts),
            ("GET", "/?Action=GetCallerIdentity", &[][..], Protocol::Sts),
            ("POST", "/data", &[form][..], Protocol::S3),
            ("GET", "/v1/key", &[("host", "data.s3.example.org")][..], Protocol::S3),
            ("POST", "/", &[form, ("host", "data.s3.example.org")][..], Protocol::S3),
            ("GET", "/v1/AUTH_a", &[("host", "s3.example.org:8490")][..], Protocol::Swift),
        ] {
            let found = Protocol::of(&request(method, path, headers), Via::Public, &domains);
            assert_eq!(found, expected, "{method} {path} {headers:?}");
        }
    }

    #[test]
    fn a_job_reaches_neither_passwords_nor_containers() {
        let domains = Domains::new(&[]);
        let via = Via::Sandbox(SandboxId { job: JobId(uuid::Uuid::from_u128(1)), attempt: AttemptNo(1) });
        for (method, path) in [("POST", "/v3/auth/tokens"), ("GET", "/v1/AUTH_a"), ("GET", "/info")] {
            assert_eq!(Protocol::of(&request(method, path, &[]), via, &domains), Protocol::S3, "{path}");
        }
    }
}
