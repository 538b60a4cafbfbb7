//! The server's configuration: one TOML file, every value with a default that works on one machine.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jobs::{Kept, Shape};
use model::{Cores, EngineParameter, EngineVersion, JobRequest, JobSpec, MiB, ProjectId, Region, SpecRules};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Configuration of `serve` and of the warden. Unknown keys are refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Data directory: everything that is kept (ARCHITECTURE.md, The data directory).
    pub data: PathBuf,
    /// Run directory: sockets and sandboxes; empty after a stop.
    pub run: PathBuf,
    /// Directory of the engines; `DATA/engines` when it is not given.
    pub engines: Option<PathBuf>,
    /// The user that `serve` runs as: a name or a number. Owns the data directory.
    pub user: Option<String>,
    /// Regions of this service; the first is the default.
    pub regions: Vec<Region>,
    /// The jobs API.
    pub api: Listener,
    /// The object store.
    pub s3: Listener,
    /// S3 services elsewhere in which buckets live; none by default: all live in the embedded store.
    pub external_s3: Vec<ExternalS3>,
    /// Where events of buckets can be sent; none by default.
    pub webhook: Vec<WebhookSettings>,
    /// Proxies in front of the API that are believed, beside those of `api.trusted_proxies`.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// What jobs may use together.
    pub jobs: JobLimits,
    /// Packages of jobs.
    pub environments: EnvironmentSettings,
    /// The audit log.
    pub audit: AuditSettings,
    /// Single sign-on.
    pub sso: SsoSettings,
    /// The endpoint for operators; there is none when not given.
    pub metrics: Option<MetricsSettings>,
    /// What the warden needs to know.
    pub warden: WardenSettings,
}

/// One listener for people and programs outside of jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address to listen on; a port of 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Base URLs that clients use, without the `/1.0`: signatures are made over them, so a reverse proxy's
    /// outer address belongs here.
    #[serde(default)]
    pub public_urls: Vec<String>,
    /// Proxies in front of it whose `X-Forwarded-For` is believed, and by the object store their `X-Forwarded-Proto`: blocks
    /// of addresses such as `10.0.0.0/8` or `127.0.0.1/32`.
    #[serde(default)]
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Certificate and key. Without them the listener must be on loopback.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// PEM files of a listener's certificate chain and private key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The endpoint for operators, `GET /metrics`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Certificate and key. Without them the listener must be on loopback.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// File of the bearer token that callers must have; may be left out on loopback.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

impl MetricsSettings {
    /// As a listener.
    pub fn listener(&self) -> Listener {
        let (public_urls, trusted_proxies) = (Vec::new(), Vec::new());
        Listener { listen: self.listen, public_urls, trusted_proxies, tls: self.tls.clone() }
    }

    fn check(&self) -> Result<(), Failure> {
        self.listener().check("metrics")?;
        if self.token_file.is_none() && !self.listen.ip().is_loopback() {
            return Err(Failure::new(format!("metrics.listen is {}, and everybody could read it", self.listen))
                .help("set metrics.token_file, or listen on 127.0.0.1"));
        }
        Ok(())
    }

    /// The token that callers must have; reads its file.
    pub fn token(&self) -> Result<Option<zeroize::Zeroizing<String>>, Failure> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let place = format!("metrics.token_file {}", file.display());
        let text = std::fs::read_to_string(file).map(zeroize::Zeroizing::new);
        let text = text.map_err(|cause| Failure::new(format!("cannot read {place}")).cause(cause))?;
        let token = zeroize::Zeroizing::new(text.trim().to_owned());
        match token.len() < SHORTEST_TOKEN {
            true => Err(Failure::new(format!("{place} holds less than {SHORTEST_TOKEN} characters"))
                .help("such as the output of `openssl rand -hex 32`")),
            false => Ok(Some(token)),
        }
    }
}

/// An S3 service elsewhere that keeps the buckets of some projects, sealed by this service (OBJ-1).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalS3 {
    /// Its name: buckets remember in which service they live, so it must not change.
    pub name: String,
    /// Its URL, with `https` unless it is on loopback.
    pub endpoint: url::Url,
    /// The region that it expects.
    #[serde(default = "first_region")]
    pub region: String,
    /// The region of `regions` in which what it keeps counts as being; the first when not given. Projects of other regions
    /// do not use it.
    #[serde(default)]
    pub located: Option<Region>,
    /// The access key of this service there.
    pub access_key: String,
    /// File of its secret key, which only the service may read.
    pub secret_key_file: PathBuf,
    /// Stands before the names of the buckets there.
    #[serde(default)]
    pub bucket_prefix: String,
    /// The projects whose new buckets live there; all when not given.
    #[serde(default)]
    pub projects: Option<Vec<ProjectId>>,
    /// ARN of a role there: each job then acts with credentials of its own, by STS.
    #[serde(default)]
    pub role: Option<String>,
    /// PEM file of certificate authorities that are trusted beside the system's.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
}

fn first_region() -> String {
    "us-east-1".to_owned()
}

/// Whether nobody on the way can read what goes there.
fn is_private(url: &url::Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        // RFC 6761, section 6.3.
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

impl ExternalS3 {
    fn check(&self) -> Result<(), Failure> {
        let place = format!("external_s3 '{}'", self.name);
        if !is_private(&self.endpoint) {
            return Err(Failure::new(format!("{place}: the endpoint is {}", self.endpoint))
                .help("an https:// URL, or http:// with an address of loopback"));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !self.bucket_prefix.bytes().all(plain) || self.bucket_prefix.len() > LONGEST_PREFIX {
            return Err(Failure::new(format!("{place}: bucket_prefix is '{}'", self.bucket_prefix))
                .help(format!("at most {LONGEST_PREFIX} lower-case letters, digits and hyphens")));
        }
        Ok(())
    }

    /// The region of this service in which it is.
    pub fn located(&self, regions: &[Region]) -> Result<Region, Failure> {
        match self.located.as_ref().or_else(|| regions.first()) {
            Some(region) if regions.contains(region) => Ok(region.clone()),
            Some(region) => Err(Failure::new(format!("external_s3 '{}': located is {region}", self.name))
                .help("one of `regions`: what it keeps is of projects of that region")),
            None => Err(Failure::new("regions is empty")),
        }
    }

    /// As the object store takes it, in a service of these regions; reads the files that it names.
    pub fn open(&self, regions: &[Region]) -> Result<objects::ExternalConfig, Failure> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|cause| {
                Failure::new(format!("external_s3 '{}': cannot read {}", self.name, path.display())).cause(cause)
            })
        };
        let secret = zeroize::Zeroizing::new(read(&self.secret_key_file)?);
        let secret = std::str::from_utf8(&secret).map(|text| zeroize::Zeroizing::new(text.trim().to_owned()));
        let secret = secret.map_err(|_| {
            Failure::new(format!("external_s3 '{}': {} is not text", self.name, self.secret_key_file.display()))
        })?;
        Ok(objects::ExternalConfig {
            name: self.name.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            located: self.located(regions)?,
            access_key: self.access_key.clone(),
            secret_key: secret,
            bucket_prefix: self.bucket_prefix.clone(),
            projects: self.projects.clone(),
            role: self.role.clone(),
            authorities: self.authorities.as_deref().map(read).transpose()?,
        })
    }
}

/// A place to which buckets send events, when their notification configuration names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// How buckets name it: `arn:casemate:sqs:::NAME` or `arn:casemate:sns:::NAME`.
    pub name: String,
    /// Where events are posted: `https`, or `http` with an address of loopback.
    pub url: url::Url,
    /// File of the secret that signatures are made with, which only the service may read.
    pub secret_file: PathBuf,
}

impl WebhookSettings {
    fn check(&self) -> Result<(), Failure> {
        objects::Webhook::check(&self.name, &self.url)
            .map_err(|cause| Failure::new(format!("webhook '{}' cannot be used", self.name)).cause(cause))
    }

    /// As the object store takes it; reads the secret.
    pub fn open(&self) -> Result<objects::Webhook, Failure> {
        let place = || format!("webhook '{}': cannot read {}", self.name, self.secret_file.display());
        let text = std::fs::read_to_string(&self.secret_file).map(zeroize::Zeroizing::new);
        let text = text.map_err(|cause| Failure::new(place()).cause(cause))?;
        let secret = zeroize::Zeroizing::new(text.trim().to_owned());
        Ok(objects::Webhook { name: self.name.clone(), url: self.url.clone(), secret })
    }
}

/// Bounds of all running jobs together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobLimits {
    /// Jobs that may run at once.
    pub max_running: u32,
    /// Cores that running jobs may have asked for together; four times the machine's when not given, since a
    /// job's core is a share of time and most jobs wait for their data.
    pub cores: Option<Cores>,
    /// Memory that running jobs may have asked for together, MiB; the machine's less 1 GiB when not given.
    pub memory: Option<MiB>,
    /// Local storage that running jobs may have asked for together, MiB; the size of the file system of the data
    /// directory when not given. A job's volumes take room as it writes to them.
    pub storage: Option<MiB>,
    /// Runtimes that are started before their job is there, by shape; none by default. Each holds the room of its shape
    /// until a job takes it, or needs the room.
    pub warm: Vec<WarmSettings>,
    /// How long the logs of an ended job stay readable by the API, in seconds. They stay in object storage.
    pub log_retention_seconds: u64,
}

/// Where packages of jobs come from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvironmentSettings {
    /// Address of an index of Python packages (PEP 503), such as `https://pypi.org/simple`: `https`, or `http` with an
    /// address of loopback. The service then installs what `environment.yml` or `requirements.txt` of a job names. None
    /// by default: no connection is made.
    pub pypi: Option<url::Url>,
    /// Addresses of the Maven repositories that jobs may use, such as `https://repo1.maven.org/maven2`, with the same
    /// rules. The first one is asked for every job that names packages; the others where a job names them as its
    /// `repositories`. None by default: no connection is made.
    pub maven: Vec<url::Url>,
}

impl EnvironmentSettings {
    fn check(&self) -> Result<(), Failure> {
        let all = self.pypi.iter().map(|url| ("pypi", url)).chain(self.maven.iter().map(|url| ("maven", url)));
        for (name, url) in all {
            // It is written down beside each environment.
            if !url.username().is_empty() || url.password().is_some() {
                return Err(Failure::new(format!("environments.{name} has a name or password in it"))
                    .help("an address without; a proxy on loopback can add them"));
            }
            if !is_private(url) {
                return Err(Failure::new(format!("environments.{name} is {url}"))
                    .help("an https:// URL, or http:// with an address of loopback"));
            }
        }
        Ok(())
    }
}

/// What this service does for single sign-on of accounts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SsoSettings {
    /// Whether providers of accounts may be in private networks, or on this machine (there by plain HTTP too). Each
    /// administrator of an account names its provider, so by default this service calls public addresses alone.
    pub private_providers: bool,
}

/// Runtimes of one shape that wait for jobs. A job of another shape starts as if there were none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmSettings {
    /// Version of the engine, such as `3.5.9`.
    pub engine_version: EngineVersion,
    /// Parameters of a job that say how large it is and where it runs, such as `placement` or `driver_memory`; what is not
    /// named is as in a job that does not name it.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The region of `regions` whose projects' jobs may take it; the first when not given.
    pub region: Option<Region>,
    /// How many, 1 to 64; 1 when not given.
    #[serde(default = "one")]
    pub count: u32,
}

fn one() -> u32 {
    1
}

impl WarmSettings {
    /// What is to be kept in a service of these regions; or what is wrong with it.
    pub fn kept(&self, regions: &[Region]) -> Result<Kept, Failure> {
        let wrong = |cause: String| Failure::new(format!("jobs.warm for Spark {}: {cause}", self.engine_version));
        if !(1..=MOST_WARM).contains(&self.count) {
            return Err(wrong(format!("count is {}; 1 to {MOST_WARM} are possible", self.count)));
        }
        if let Some(name) = self.parameters.keys().find(|name| !SHAPE_PARAMETERS.contains(&name.as_str())) {
            return Err(wrong(format!("'{name}' does not say how large a job is or where it runs"))
                .help(format!("possible are {}", SHAPE_PARAMETERS.join(", "))));
        }
        let region = match self.region.as_ref().or_else(|| regions.first()) {
            Some(region) if regions.contains(region) => region.clone(),
            Some(region) => return Err(wrong(format!("{region} is not one of `regions`"))),
            None => return Err(wrong("regions is empty".to_owned())),
        };
        let given = [("job_type", "python"), ("main_application_code", "main.py")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let parameters = given.into_iter().chain(self.parameters.clone());
        // The rules of a job's size stand with the job.
        let request = JobRequest {
            region: Some(region.to_string()),
            engine_version: Some(self.engine_version.to_string()),
            container_name: Some("warm".to_owned()),
            parameters: parameters.map(|(name, value)| EngineParameter { name, value }).collect(),
            ..JobRequest::default()
        };
        let rules =
            SpecRules { regions: vec![region], versions: vec![self.engine_version.clone()], retired: Vec::new() };
        let spec = JobSpec::parse(&request, &rules).map_err(|faults| wrong(faults.to_string()))?;
        Ok(Kept { shape: Shape::of(&spec), count: self.count })
    }
}

const MOST_WARM: u32 = 64;
const SHAPE_PARAMETERS: [&str; 8] = [
    "placement",
    "driver_cores",
    "driver_memory",
    "driver_memory_overhead",
    "executor_num",
    "executor_cores",
    "executor_memory",
    "executor_memory_overhead",
];

/// How long the audit log is kept, and where its checkpoints go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// Days that entries are kept, at least 1; for ever when not given. Whole files of a day go at once.
    pub retention_days: Option<u32>,
    /// Where signed checkpoints are sent, so that nobody on this machine can change the log unseen; none by default.
    pub send_to: Vec<AuditTarget>,
}

/// One place that checkpoints are sent to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum AuditTarget {
    /// Appended to a file.
    File {
        /// The file, such as on a medium that can be written once.
        path: PathBuf,
    },
    /// Sent as a message of RFC 5424.
    Syslog {
        /// The absolute path of a Unix datagram socket such as `/dev/log`, or `tcp://HOST:PORT`.
        address: String,
    },
    /// Posted as it is to a program elsewhere.
    Webhook {
        /// Where: `https`, or `http` with an address of loopback.
        url: url::Url,
    },
    /// Kept as an object of its own, named by the number of entries, in a bucket with object lock.
    S3(S3Target),
}

/// A bucket that keeps checkpoints, in this service's store or in one of `external_s3`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Target {
    /// The project whose bucket it is; for a bucket in this service's store, which is made if it is not there.
    #[serde(default)]
    pub project: Option<ProjectId>,
    /// The name of the service in `external_s3`; for a bucket there.
    #[serde(default)]
    pub external: Option<String>,
    /// The bucket. Elsewhere by its own name, without a prefix; it must be there and have object lock.
    pub bucket: String,
    /// Days that each checkpoint is kept by the mode COMPLIANCE: 1 to 36500.
    pub lock_days: u32,
    /// At most one checkpoint in so many seconds.
    #[serde(default = "one_minute")]
    pub every_seconds: u32,
}

fn one_minute() -> u32 {
    60
}

impl S3Target {
    /// As the object store takes it.
    pub fn archive(&self) -> Result<objects::Archive, Failure> {
        let place = |what: String| Failure::new(format!("audit.send_to: {what}"));
        if !(1..=MOST_LOCK_DAYS).contains(&self.lock_days) {
            return Err(place(format!("lock_days is {}", self.lock_days)).help(format!("1 to {MOST_LOCK_DAYS}")));
        }
        match (&self.project, &self.external) {
            (Some(project), None) => {
                let bucket = self
                    .bucket
                    .parse()
                    .map_err(|cause| place(format!("the bucket is '{}'", self.bucket)).cause(cause))?;
                Ok(objects::Archive::Here { project: project.clone(), bucket })
            }
            (None, Some(external)) => {
                Ok(objects::Archive::There { external: external.clone(), bucket: self.bucket.clone() })
            }
            _ => Err(place(format!("the bucket '{}' is nowhere, or in two places", self.bucket))
                .help("either `project`, for this service's store, or `external`, for one of external_s3")),
        }
    }
}

impl AuditSettings {
    fn check(&self, external: &[ExternalS3]) -> Result<(), Failure> {
        if self.retention_days == Some(0) {
            return Err(Failure::new("audit.retention_days is 0").help("at least 1; leave it out to keep all entries"));
        }
        for target in &self.send_to {
            let AuditTarget::S3(bucket) = target else {
                target.plain()?;
                continue;
            };
            bucket.archive()?;
            let known = |name: &String| external.iter().any(|external| external.name == *name);
            if let Some(name) = bucket.external.as_ref().filter(|name| !known(name)) {
                return Err(Failure::new(format!("audit.send_to: there is no external_s3 '{name}'")));
            }
        }
        Ok(())
    }

    /// As the sealer takes it.
    pub fn options(&self) -> audit::Options {
        let retention = self.retention_days.map(|days| Duration::from_secs(u64::from(days) * 24 * 3600));
        audit::Options { retention, ..audit::Options::default() }
    }
}

impl AuditTarget {
    /// As the room of the log takes it; `None` for a bucket, which another room reaches.
    pub fn plain(&self) -> Result<Option<audit::send::Target>, Failure> {
        let target = match self {
            AuditTarget::S3(_) => return Ok(None),
            AuditTarget::File { path } if path.is_absolute() => audit::send::Target::File(path.clone()),
            AuditTarget::File { path } => {
                return Err(
                    Failure::new(format!("audit.send_to: the file is {}", path.display())).help("an absolute path")
                );
            }
            AuditTarget::Webhook { url } if is_private(url) => audit::send::Target::Webhook(url.clone()),
            // What stands behind the host may be a secret of the receiver.
            AuditTarget::Webhook { url } => {
                let origin = url.origin().ascii_serialization();
                return Err(Failure::new(format!("audit.send_to: the webhook is at {origin}"))
                    .help("an https:// URL, or http:// with an address of loopback"));
            }
            AuditTarget::Syslog { address } if address.starts_with('/') => {
                audit::send::Target::SyslogUnix(address.into())
            }
            AuditTarget::Syslog { address } => {
                let server = address.strip_prefix("tcp://");
                let has_port = |server: &&str| {
                    server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                };
                let server = server.filter(has_port).ok_or_else(|| {
                    Failure::new(format!("audit.send_to: the address of syslog is '{address}'"))
                        .help("the absolute path of a socket such as /dev/log, or tcp://HOST:PORT")
                })?;
                audit::send::Target::SyslogTcp(server.to_owned())
            }
        };
        Ok(Some(target))
    }
}

/// What the warden needs to know beside the directories.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WardenSettings {
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// The Java 17 runtime of jobs, mounted at the same place.
    pub java_home: Option<PathBuf>,
    /// First host user id of the ranges that sandboxes get.
    pub uid_base: u32,
    /// `fscrypt`, or `none` where the operator knows that the disk below is encrypted.
    pub scratch_encryption: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "/var/lib/casemate".into(),
            run: "/run/casemate".into(),
            engines: None,
            user: None,
            regions: vec!["GRA".parse().expect("GRA is a region name")],
            api: Listener::loopback(8480),
            s3: Listener::loopback(8490),
            external_s3: Vec::new(),
            webhook: Vec::new(),
            trusted_proxies: Vec::new(),
            jobs: JobLimits::default(),
            environments: EnvironmentSettings::default(),
            audit: AuditSettings::default(),
            sso: SsoSettings::default(),
            metrics: None,
            warden: WardenSettings::default(),
        }
    }
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            max_running: 16,
            cores: None,
            memory: None,
            storage: None,
            warm: Vec::new(),
            log_retention_seconds: 3600,
        }
    }
}

impl Default for WardenSettings {
    fn default() -> Self {
        Self {
            runtime: "/usr/sbin/runc".into(),
            java_home: None,
            uid_base: 700_000_000,
            scratch_encryption: "fscrypt".into(),
        }
    }
}

impl Listener {
    fn loopback(port: u16) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        Self { listen, public_urls: Vec::new(), trusted_proxies: Vec::new(), tls: None }
    }

    /// The URL of `address` behind this listener, for clients on this machine.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// The configured public URLs, or the listener's own address where none is configured.
    pub fn public_urls(&self, address: SocketAddr) -> Vec<String> {
        match self.public_urls.is_empty() {
            true => vec![self.url(address)],
            false => self.public_urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        }
    }

    fn check(&self, name: &str) -> Result<(), Failure> {
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return Err(Failure::new(format!("{name}.listen is {}, and there is no certificate for it", self.listen))
                .help(format!("set {name}.tls.certificate and {name}.tls.key, or listen on 127.0.0.1")));
        }
        for url in &self.public_urls {
            let place = format!("{name}.public_urls has {url}");
            let parsed = url::Url::parse(url).map_err(|cause| Failure::new(place.clone()).cause(cause))?;
            if !is_private(&parsed) {
                return Err(Failure::new(place).help(
                    "an https:// URL, or http:// with an address of loopback: over another, passwords could be read",
                ));
            }
            if self.tls.is_some() && parsed.scheme() != "https" {
                return Err(Failure::new(format!("{place}, and the listener speaks TLS")).help("an https:// URL"));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Reads the file at `path`; the defaults where there is no path.
    pub fn read(path: Option<&Path>) -> Result<Config, Failure> {
        let Some(path) = path else { return Ok(Config::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Failure::new(format!("cannot read the configuration {}", path.display())).cause(cause))?;
        toml::from_str(&text)
            .map_err(|cause| Failure::new(format!("the configuration {} is not valid", path.display())).cause(cause))
    }

    /// Checks what one field alone cannot show.
    pub fn check(&self) -> Result<(), Failure> {
        self.api.check("api")?;
        self.s3.check("s3")?;
        for (at, external) in self.external_s3.iter().enumerate() {
            external.check()?;
            if self.external_s3[..at].iter().any(|other| other.name == external.name) {
                return Err(Failure::new(format!("two entries of external_s3 are named '{}'", external.name)));
            }
        }
        for (at, webhook) in self.webhook.iter().enumerate() {
            webhook.check()?;
            if self.webhook[..at].iter().any(|other| other.name == webhook.name) {
                return Err(Failure::new(format!("two entries of webhook are named '{}'", webhook.name)));
            }
        }
        self.environments.check()?;
        self.audit.check(&self.external_s3)?;
        for warm in &self.jobs.warm {
            warm.kept(&self.regions)?;
        }
        self.metrics.as_ref().map_or(Ok(()), MetricsSettings::check)?;
        if !UID_BASES.contains(&self.warden.uid_base) {
            return Err(Failure::new(format!("warden.uid_base is {}", self.warden.uid_base)).help(format!(
                "a number from {} to {}: sandboxes get user ids from there on, which nobody else may have",
                UID_BASES.start(),
                UID_BASES.end()
            )));
        }
        if self.regions.is_empty() {
            return Err(Failure::new("regions is empty").help("name at least one region, such as regions = [\"GRA\"]"));
        }
        for (at, region) in self.regions.iter().enumerate() {
            // Clients sign for a region in lower case, and mean the same.
            if self.regions[..at].iter().any(|other| other.as_str().eq_ignore_ascii_case(region.as_str())) {
                return Err(Failure::new(format!("regions names {region} twice")).help("capitals make no difference"));
            }
        }
        self.external_s3.iter().try_for_each(|external| external.located(&self.regions).map(drop))
    }

    /// Directory of the engines.
    pub fn engines(&self) -> PathBuf {
        self.engines.clone().unwrap_or_else(|| self.data.join("engines"))
    }

    /// The warden's socket.
    pub fn warden_socket(&self) -> PathBuf {
        self.run.join("warden.sock")
    }

    /// The warden's own configuration.
    pub fn warden(&self, service: Service) -> Result<warden::Config, Failure> {
        let scratch_encryption = match self.warden.scratch_encryption.as_str() {
            "fscrypt" => warden::ScratchEncryption::Fscrypt,
            "none" => warden::ScratchEncryption::None,
            other => {
                return Err(Failure::new(format!("warden.scratch_encryption is '{other}'")).help("'fscrypt' or 'none'"));
            }
        };
        let java_home = match &self.warden.java_home {
            Some(home) => home.clone(),
            None => engine::find_java_home().ok_or_else(|| {
                Failure::new("no Java 17 runtime was found")
                    .help("install the package openjdk-17-jre-headless, or set warden.java_home")
            })?,
        };
        Ok(warden::Config {
            data: self.data.clone(),
            run: self.run.clone(),
            engines: self.engines(),
            service_uid: service.uid,
            service_gid: service.gid,
            runtime: self.warden.runtime.clone(),
            java_home,
            uid_base: self.warden.uid_base,
            scratch_encryption,
            // This program, also where its directory cannot be read or the file was replaced by a newer one.
            executable: "/proc/self/exe".into(),
        })
    }
}

/// The user and group that `serve` runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Service {
    /// The configured user; else the user `casemate` of the system; else a fixed id that needs no entry.
    pub fn of(config: &Config) -> Result<Service, Failure> {
        if let Some(number) = config.user.as_deref().and_then(|text| text.parse::<u32>().ok()) {
            return Ok(Service { uid: number, gid: number });
        }
        let name = config.user.as_deref().unwrap_or("casemate");
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => Ok(Service { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            _ if config.user.is_none() => Ok(Service { uid: UNNAMED_SERVICE_ID, gid: UNNAMED_SERVICE_ID }),
            _ => Err(Failure::new(format!("there is no user '{name}'"))
                .help("create it, or set `user` to a name or number that exists")),
        }
    }
}

const SHORTEST_TOKEN: usize = 16;

/// Of object lock.
const MOST_LOCK_DAYS: u32 = 36_500;

/// Leaves room for the digits of the project and the bucket's own name.
const LONGEST_PREFIX: usize = 24;

/// In none of the ranges that distributions give to people, packages or service managers.
const UNNAMED_SERVICE_ID: u32 = 61_100;

/// Leaves out the ids of people and of the system, and leaves room for 4096 sandboxes of 65,536 ids each.
const UID_BASES: std::ops::RangeInclusive<u32> = 1_000_000..=u32::MAX - 4096 * 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_back_as_written_and_an_unknown_key_is_refused() {
        let text = toml::to_string(&Config::default()).expect("TOML");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("casemate.toml");
        std::fs::write(&file, &text).expect("written");
        let read = Config::read(Some(&file)).expect("a configuration");
        assert_eq!(toml::to_string(&read).expect("TOML"), text);
        std::fs::write(&file, format!("colour = \"red\"\n{text}")).expect("written");
        assert!(Config::read(Some(&file)).expect_err("refused").to_string().contains("colour"));
    }

    /// The keys that a table of the configuration may have, as serde names them where one is unknown.
    fn keys<T: serde::de::DeserializeOwned>() -> Vec<String> {
        let told = toml::from_str::<T>("colour = 1").err().expect("an unknown key").message().to_owned();
        let expected = told.split_once("expected").expect("a list").1.to_owned();
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_document_of_the_configuration_is_one_and_has_every_key() {
        let document = include_str!("../../../docs/configuration.md");
        let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let config: Config = toml::from_str(example).expect("a configuration");
        config.check().expect("good");
        let all = [
            keys::<Config>(),
            keys::<Listener>(),
            keys::<Tls>(),
            keys::<MetricsSettings>(),
            keys::<ExternalS3>(),
            keys::<WebhookSettings>(),
            keys::<JobLimits>(),
            keys::<EnvironmentSettings>(),
            keys::<WarmSettings>(),
            keys::<AuditSettings>(),
            keys::<S3Target>(),
            keys::<SsoSettings>(),
            keys::<WardenSettings>(),
        ];
        for key in all.concat() {
            let is_there = [format!("{key} ="), format!("[{key}]"), format!("[{key}."), format!(".{key}]")];
            assert!(is_there.iter().any(|form| example.contains(form)), "docs/configuration.md does not have {key}");
        }
    }

    #[test]
    fn a_webhook_has_a_name_of_its_own_a_safe_url_and_a_secret_in_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, secret) = (dir.path().join("casemate.toml"), dir.path().join("secret"));
        let entry = |name: &str, url: &str| {
            format!("[[webhook]]\nname = '{name}'\nurl = '{url}'\nsecret_file = '{}'\n", secret.display())
        };
        let read = |text: String| {
            std::fs::write(&file, text).expect("written");
            Config::read(Some(&file)).expect("a configuration")
        };
        let config = read(entry("hook", "https://example.org/") + &entry("other", "http://127.0.0.1:9000/x"));
        config.check().expect("good");
        assert!(config.webhook[0].open().expect_err("no secret").to_string().contains("webhook 'hook'"));
        std::fs::write(&secret, "a secret of many letters\n").expect("written");
        let opened = config.webhook[0].open().expect("a webhook");
        assert_eq!(opened.secret.as_str(), "a secret of many letters");
        assert!(!format!("{opened:?}").contains("letters"));
        let twice = read(entry("hook", "https://example.org/") + &entry("hook", "https://example.com/"));
        assert!(twice.check().expect_err("refused").to_string().contains("'hook'"));
        let unsafe_one = read(entry("hook", "http://example.org/"));
        assert!(unsafe_one.check().expect_err("refused").to_string().contains("webhook 'hook'"));
    }

    #[test]
    fn what_waits_for_jobs_has_the_shape_of_a_job() {
        let kept =
            |text: &str| toml::from_str::<WarmSettings>(text).expect("TOML").kept(&["GRA".parse().expect("a region")]);
        let one = kept("engine_version = \"3.5.9\"").expect("the shape of a job that names nothing");
        assert_eq!((one.count, one.shape.placement, one.shape.sizing.executors), (1, model::Placement::Cluster, 1));
        let text =
            "engine_version = \"3.5.9\"\ncount = 3\nparameters = { placement = \"single\", driver_cores = \"2\" }";
        let single = kept(text).expect("a single JVM");
        assert_eq!((single.count, single.shape.sizing.executors), (3, 0));
        assert_eq!(single.shape.sizing.driver.cores, one.shape.sizing.executor.cores + Cores(2));
        for (wrong, why) in [
            ("count = 0", "count is 0"),
            ("count = 65", "count is 65"),
            ("region = \"SBG\"", "SBG is not one of `regions`"),
            ("parameters = { arguments = \"x\" }", "'arguments'"),
            ("parameters = { driver_cores = \"99\" }", "driver_cores"),
        ] {
            let failure = kept(&format!("engine_version = \"3.5.9\"\n{wrong}")).expect_err(wrong).to_string();
            assert!(failure.contains("jobs.warm for Spark 3.5.9") && failure.contains(why), "{failure}");
        }
    }

    #[test]
    fn providers_in_private_networks_are_called_only_where_the_operator_says_so() {
        let read = |text: &str| toml::from_str::<Config>(text);
        assert!(!read("").expect("the defaults").sso.private_providers);
        assert!(!read("[sso]\n").expect("the defaults").sso.private_providers);
        assert!(read("[sso]\nprivate_providers = true\n").expect("a configuration").sso.private_providers);
        assert!(read("[sso]\nprivate = true\n").is_err());
    }

    #[test]
    fn public_urls_say_what_is_spoken_there() {
        let tls = "tls = { certificate = '/c.pem', key = '/k.pem' }\n";
        for (url, tls, good) in [
            ("https://jobs.example.org", "", true),
            ("http://127.0.0.1:8443", "", true),
            ("http://localhost:8443", "", true),
            ("http://s3.localhost:8443", "", true),
            ("https://jobs.example.org", tls, true),
            ("http://jobs.example.org", "", false),
            ("jobs.example.org", "", false),
            ("http://127.0.0.1:8443", tls, false),
        ] {
            let text = format!("[api]\nlisten = '127.0.0.1:0'\npublic_urls = ['{url}']\n{tls}");
            let config: Config = toml::from_str(&text).expect("a configuration");
            assert_eq!(config.check().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn each_listener_has_the_proxies_that_it_believes() {
        let read = |text: &str| toml::from_str::<Config>(text);
        let one = "['10.0.0.0/8', '127.0.0.1/32', '2001:db8::/32']";
        let config =
            read(&format!("[s3]\nlisten = '127.0.0.1:0'\ntrusted_proxies = {one}\n")).expect("a configuration");
        config.check().expect("good");
        assert_eq!(config.s3.trusted_proxies.len(), 3);
        assert!(config.api.trusted_proxies.is_empty() && config.trusted_proxies.is_empty(), "the API's are its own");
        for wrong in ["['proxy.example.org']", "['127.0.0.1']", "['10.0.0.0/33']", "'10.0.0.0/8'"] {
            assert!(read(&format!("[s3]\nlisten = '127.0.0.1:0'\ntrusted_proxies = {wrong}\n")).is_err(), "{wrong}");
        }
        assert!(read("[metrics]\nlisten = '127.0.0.1:0'\ntrusted_proxies = []\n").is_err(), "it asks for no address");
    }

    #[test]
    fn checkpoints_go_to_files_and_logs_that_are_named_in_full() {
        let read = |text: &str| toml::from_str::<Config>(text);
        let config = read(
            "[audit]\nretention_days = 90\n[[audit.send_to]]\nkind = 'file'\npath = '/mnt/worm/checkpoints'\n\
             [[audit.send_to]]\nkind = 'syslog'\naddress = '/dev/log'\n\
             [[audit.send_to]]\nkind = 'syslog'\naddress = 'tcp://logs.example.org:601'\n\
             [[audit.send_to]]\nkind = 'webhook'\nurl = 'https://example.org/hook?token=x'\n",
        );
        let config = config.expect("a configuration");
        config.check().expect("good");
        assert_eq!(config.audit.options().retention, Some(Duration::from_secs(90 * 86_400)));
        let plain = |target: &AuditTarget| target.plain().expect("good").expect("no bucket").to_string();
        let places: Vec<String> = config.audit.send_to.iter().map(plain).collect();
        assert_eq!(
            places,
            [
                "file /mnt/worm/checkpoints",
                "syslog /dev/log",
                "syslog tcp://logs.example.org:601",
                "webhook https://example.org"
            ]
        );
        for wrong in [
            "retention_days = 0",
            "send_to = [{ kind = 'file', path = 'checkpoints' }]",
            "send_to = [{ kind = 'syslog', address = 'udp://logs.example.org:514' }]",
            "send_to = [{ kind = 'syslog', address = 'tcp://logs.example.org' }]",
            "send_to = [{ kind = 'webhook', url = 'http://example.org/' }]",
        ] {
            let config = read(&format!("[audit]\n{wrong}\n")).expect("TOML");
            assert!(config.check().expect_err(wrong).to_string().contains("audit."), "{wrong}");
        }
        let project = "0123456789abcdef0123456789abcdef";
        let service = "[[external_s3]]\nname = 'far'\nendpoint = 'https://s3.example.org'\naccess_key = 'a'\n\
                       secret_key_file = '/x'\n";
        for (bucket, place) in [
            (format!("project = '{project}', lock_days = 1"), Some(format!("s3 project {project} bucket kept"))),
            ("external = 'far', lock_days = 36500".to_owned(), Some("s3 far bucket kept".to_owned())),
            ("external = 'farther', lock_days = 1".to_owned(), None),
            (format!("project = '{project}', external = 'far', lock_days = 1"), None),
            ("lock_days = 1".to_owned(), None),
            ("external = 'far', lock_days = 0".to_owned(), None),
            ("external = 'far', lock_days = 36501".to_owned(), None),
        ] {
            let config = read(&format!("[audit]\nsend_to = [{{ kind = 's3', bucket = 'kept', {bucket} }}]\n{service}"));
            let config = config.expect("TOML");
            let AuditTarget::S3(target) = &config.audit.send_to[0] else { panic!("{bucket}") };
            match place {
                Some(place) => {
                    config.check().expect("good");
                    assert_eq!((target.archive().expect("good").to_string(), target.every_seconds), (place, 60));
                }
                None => assert!(config.check().expect_err("refused").to_string().contains("audit."), "{bucket}"),
            }
        }
        for unknown in ["send_to = [{ kind = 'pigeon' }]", "send_to = [{ kind = 'file', path = '/a', mode = 1 }]"] {
            assert!(read(&format!("[audit]\n{unknown}\n")).is_err(), "{unknown}");
        }
    }

    #[test]
    fn who_is_not_on_this_machine_needs_a_token_for_the_metrics() {
        let dir = tempfile::tempdir().expect("a directory");
        let token = dir.path().join("token");
        let read = |text: String| toml::from_str::<Config>(&text).expect("a configuration");
        read("[metrics]\nlisten = '127.0.0.1:9464'\n".to_owned()).check().expect("good");
        let tls = "[metrics.tls]\ncertificate = '/c'\nkey = '/k'\n";
        for (listen, more, what) in [("0.0.0.0:9464", "", "metrics.tls"), ("0.0.0.0:9464", tls, "metrics.token_file")] {
            let config = read(format!("[metrics]\nlisten = '{listen}'\n{more}"));
            let fault = config.check().expect_err("refused").to_string();
            assert!(fault.contains(what), "{fault}");
        }
        let config = read(format!("[metrics]\nlisten = '[::]:1'\ntoken_file = '{}'\n{tls}", token.display()));
        config.check().expect("good");
        let settings = config.metrics.expect("settings");
        assert!(settings.token().is_err(), "there is no file");
        std::fs::write(&token, "short\n").expect("written");
        assert!(settings.token().expect_err("too short").to_string().contains("16"));
        std::fs::write(&token, "0123456789abcdef\n").expect("written");
        assert_eq!(settings.token().expect("a token").expect("one").as_str(), "0123456789abcdef");
    }

    #[test]
    fn a_listener_without_a_certificate_is_on_loopback_only() {
        let mut config = Config::default();
        config.check().expect("the defaults are good");
        config.api.listen = SocketAddr::from(([0, 0, 0, 0], 8480));
        assert!(config.check().expect_err("refused").to_string().contains("api.tls"));
    }
}
