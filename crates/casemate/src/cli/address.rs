//! Addresses of objects as people write them.

use std::path::PathBuf;

/// A bucket and a key in it, which may be empty or a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

impl Address {
    /// Parses `s3://bucket/key`; `s3a://` and the old client's `swift://` mean the same.
    pub fn parse(text: &str) -> Option<Address> {
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        (!bucket.is_empty()).then(|| Address { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

impl std::str::FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Address::parse(text).ok_or_else(|| "an address such as s3://bucket/path/of/object".to_owned())
    }
}

/// Where a file is: here, or in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Local(PathBuf),
    /// In a bucket.
    Remote(Address),
}

impl std::str::FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (Address::parse(text), text.contains("://")) {
            (Some(address), _) if address.key.is_empty() => {
                Err("the address names a bucket but no object in it".to_owned())
            }
            (Some(address), _) => Ok(Place::Remote(address)),
            (None, true) => Err("a local path, or an address such as s3://bucket/main.py".to_owned()),
            (None, false) => Ok(Place::Local(PathBuf::from(text))),
        }
    }
}

const SCHEMES: [&str; 3] = ["s3://", "s3a://", "swift://"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_a_key() {
        for (text, bucket, key) in [
            ("s3://code/main.py", "code", "main.py"),
            ("swift://code/a/b.jar", "code", "a/b.jar"),
            ("s3a://code", "code", ""),
            ("s3://code/", "code", ""),
        ] {
            assert_eq!(Address::parse(text), Some(Address { bucket: bucket.into(), key: key.into() }), "{text}");
        }
        for text in ["code/main.py", "http://code/main.py", "s3://", "s3:///key"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
        assert_eq!("a/b.py".parse(), Ok(Place::Local("a/b.py".into())));
        assert!("http://x/y".parse::<Place>().is_err() && "s3://code".parse::<Place>().is_err());
    }
}
