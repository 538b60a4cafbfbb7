//! Profiles of the client: which service, with which keys, on which project.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Failure};

/// The client's configuration file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ClientFile {
    /// Profiles by name.
    #[serde(default)]
    pub profile: BTreeMap<String, Profile>,
    /// Access to the object store, for S3 clients; none of our commands reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Access>,
}

/// One service as one caller sees it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The API with its version, such as `https://api.example.org/1.0`.
    pub endpoint: String,
    /// The application's public key.
    pub application_key: String,
    /// The application's secret.
    pub application_secret: String,
    /// The consumer key.
    pub consumer_key: String,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The region; the service's first where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("endpoint", &self.endpoint)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

/// Access to the object store.
#[derive(Clone, Serialize, Deserialize)]
pub struct S3Access {
    /// Its address.
    pub endpoint: String,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The access key id.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl std::fmt::Debug for S3Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Access").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Reads the profile `name` of the file that `--config`, else `CASEMATE_CONFIG`, else the user's own place names.
pub fn read(given: Option<&Path>, name: &str) -> Result<Profile, Failure> {
    let path = place(given)?;
    let text = std::fs::read_to_string(&path)
        .doing(format!("cannot read the client configuration {}", path.display()))
        .map_err(|failure| failure.help("`casemate key create` prints one; name it by --config or CASEMATE_CONFIG"))?;
    // The parser's message would show the line, which may hold a secret.
    let mut file: ClientFile = toml::from_str(&text).map_err(|cause: toml::de::Error| {
        Failure::new(format!("the client configuration {} is not valid", path.display())).cause(cause.message())
    })?;
    let known = file.profile.keys().cloned().collect::<Vec<_>>().join(", ");
    let profile = file.profile.remove(name).ok_or_else(|| {
        Failure::new(format!("there is no profile '{name}' in {}", path.display()))
            .help(format!("profiles there: {known}"))
    })?;
    if !profile.endpoint.starts_with("https://") && !profile.endpoint.starts_with("http://") {
        return Err(Failure::new(format!("the endpoint of profile '{name}' is not a URL"))
            .help("such as endpoint = \"https://api.example.org/1.0\""));
    }
    Ok(profile)
}

fn place(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = || {
        let base = named("XDG_CONFIG_HOME").or_else(|| named("HOME").map(|home| home.join(".config")))?;
        Some(base.join("casemate/config.toml"))
    };
    named("CASEMATE_CONFIG")
        .or_else(own)
        .ok_or_else(|| Failure::new("there is no client configuration").help("name it by --config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_configuration_is_told_without_its_secrets() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("client.toml");
        std::fs::write(
            &file,
            "[profile.default]\nendpoint = \"http://127.0.0.1:1/1.0\"\napplication_secret = s3cr3t\n",
        )
        .expect("written");
        let said = read(Some(&file), "default").expect_err("not valid").to_string();
        assert!(!said.contains("s3cr3t"), "{said}");
        std::fs::write(
            &file,
            "[profile.other]\nendpoint=\"x\"\napplication_key=\"\"\napplication_secret=\"\"\nconsumer_key=\"\"\n",
        )
        .expect("written");
        assert!(read(Some(&file), "default").expect_err("no such profile").to_string().contains("other"));
        assert!(read(Some(&file), "other").expect_err("no URL").to_string().contains("endpoint"));
    }
}
