//! Tells a bucket in the host name from the service's own name.

use model::ProjectId;
use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
    path::check_bucket_name,
    validation::NameValidation,
};

/// The service's own names. A host that is none of them, nor a bucket under one, is taken as one more name of the
/// service, so that an address or an alias works with buckets in the path.
#[derive(Debug, Clone)]
pub struct Domains(Vec<String>);

impl Domains {
    /// Of names with or without a port.
    pub fn new(names: &[String]) -> Domains {
        Domains(
            names.iter().map(|name| without_port(name).to_ascii_lowercase()).filter(|name| !name.is_empty()).collect(),
        )
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = without_port(host).to_ascii_lowercase();
        let bucket = self.0.iter().find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'));
        let virtual_host = VirtualHost::new(host);
        Ok(match bucket.filter(|bucket| !bucket.is_empty()) {
            Some(bucket) => virtual_host.with_bucket(bucket.to_owned()),
            None => virtual_host,
        })
    }
}

/// What names a bucket in an address: a name, or a project and a name, as in `PROJECT:BUCKET`.
#[derive(Debug, Clone, Copy)]
pub struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        check_bucket_name(name_of(name))
            && name.split_once(':').is_none_or(|(project, _)| project.parse::<ProjectId>().is_ok())
    }
}

/// The bucket's own name, without a project before it.
pub fn name_of(bucket: &str) -> &str {
    bucket.split_once(':').map_or(bucket, |(_, name)| name)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_alone_or_with_its_project() {
        let project = "a".repeat(32);
        for (name, valid) in [
            ("data".to_owned(), true),
            (format!("{project}:data"), true),
            (format!("{project}:data:more"), false),
            (format!("{project}:"), false),
            ("somebody:data".to_owned(), false),
            (":data".to_owned(), false),
            ("UPPER".to_owned(), false),
        ] {
            assert_eq!(Names.validate_bucket_name(&name), valid, "{name}");
        }
    }

    #[test]
    fn a_bucket_is_what_stands_before_a_name_of_the_service() {
        let domains = Domains::new(&["s3.example.org:8490".to_owned(), "localhost".to_owned()]);
        let bucket = |host: &str| domains.parse_host_header(host).expect("a host").bucket().map(str::to_owned);
        assert_eq!(bucket("data.s3.example.org"), Some("data".to_owned()));
        assert_eq!(bucket("a.b.S3.example.org:8490"), Some("a.b".to_owned()));
        assert_eq!(bucket("data.localhost:1"), Some("data".to_owned()));
        for own in
            ["s3.example.org", "localhost:8490", "other.example.org", "xs3.example.org", ".localhost", "[::1]:80"]
        {
            assert_eq!(bucket(own), None, "{own}");
        }
    }
}
