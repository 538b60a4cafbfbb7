//! Tells a bucket in the host name from the service's own name.

use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
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
