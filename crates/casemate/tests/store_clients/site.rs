//! A service whose object store has a name of its own, and how a client's program is told of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Stack, certificate, free_port, text};

/// A running service and its object store's addresses.
pub struct Site {
    pub stack: Stack,
    /// Another name of the object store, below which buckets stand as subdomains.
    named: String,
    /// The authority that signed the object store's certificate.
    authority: Option<PathBuf>,
    _certificates: Option<tempfile::TempDir>,
}

impl Site {
    /// Without TLS.
    pub fn plain() -> Site {
        let port = free_port();
        let named = format!("http://s3.localhost:{port}");
        let stack = Stack::configured(&format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n\
             [s3]\nlisten = \"127.0.0.1:{port}\"\npublic_urls = [\"http://127.0.0.1:{port}\", \"{named}\"]\n"
        ));
        Site { stack, named, authority: None, _certificates: None }
    }

    /// With TLS, as on a network.
    pub fn tls() -> Site {
        let dir = tempfile::Builder::new().prefix("casemate-tls-").tempdir_in("/var/tmp").expect("a directory");
        let (certificate, key) = certificate(dir.path(), "IP:127.0.0.1,DNS:s3.localhost,DNS:*.s3.localhost");
        let port = free_port();
        let named = format!("https://s3.localhost:{port}");
        let stack = Stack::configured(&format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n\
             [s3]\nlisten = \"127.0.0.1:{port}\"\npublic_urls = [\"https://127.0.0.1:{port}\", \"{named}\"]\n\
             [s3.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.display(),
            key.display(),
        ));
        Site { stack, named, authority: Some(certificate), _certificates: Some(dir) }
    }

    /// Runs a client's program, which must end well and say `word`.
    pub fn runs(&self, mut command: Command, word: &str) {
        self.tell(&mut command);
        let output = command.output().unwrap_or_else(|cause| panic!("{command:?}: {cause}: run `make setup-test`"));
        let said = text(&output.stdout);
        assert!(
            output.status.success() && said.contains(word),
            "{}\n{said}{}\n{}",
            output.status,
            text(&output.stderr),
            self.stack.log()
        );
    }

    /// What each program finds in its environment: where the store is, keys, and whom to trust.
    fn tell(&self, command: &mut Command) {
        command
            .env("S3", self.stack.text("s3"))
            .env("S3_NAMED", &self.named)
            .env("REGION", self.stack.profile("region"))
            .env("ACCESS_KEY", self.stack.s3("access_key"))
            .env("SECRET_KEY", self.stack.s3("secret_key"))
            .env("KEYS", here("keys.json"))
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_CA_BUNDLE");
        if let Some(authority) = &self.authority {
            for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
                command.env(name, authority);
            }
        }
    }
}

/// A file beside this one.
pub fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_clients").join(name)
}

/// Bytes that do not repeat, the same at each run.
pub fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let words = std::iter::repeat_with(|| {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).take(length).collect()
}
