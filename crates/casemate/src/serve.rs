//! The service: opens the rooms over the data directory, and gives each listener its protocol.

use std::{fs::DirBuilder, net::SocketAddr, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};

use audit::{Actor, Audit, Sealer};
use axum::{Router, extract::ConnectInfo};
use db::Db;
use engine::Engines;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use identity::Identity;
use jobs::Jobs;
use keys::Keys;
use model::{Cores, MiB};
use objects::{Gate, GateConfig, Store, Via};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    access::KeyAccess,
    config::{AuditTarget, Config, WebhookSettings},
    failure::{Doing, Failure},
    listener::{self, Connection},
    metrics,
    wiring::{self, Wiring},
};

/// Runs the service until `stop` resolves; jobs that run then go on without it. `inherited` are the API's and the
/// object store's listeners, where a service manager passes them.
pub async fn run(
    config: Config,
    inherited: Vec<std::net::TcpListener>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut inherited = inherited.into_iter();
    let api_listener = listener::bind(&config.api, inherited.next())?;
    let s3_listener = listener::bind(&config.s3, inherited.next())?;
    let api_address = api_listener.local_addr().doing("cannot tell the API's address")?;
    let s3_address = s3_listener.local_addr().doing("cannot tell the object store's address")?;
    let (api_tls, s3_tls) = (listener::acceptor(config.api.tls.as_ref())?, listener::acceptor(config.s3.tls.as_ref())?);

    let mut rooms = Rooms::open(&config).await?;
    rooms.identity = rooms.identity.with_public_urls(&config.api.public_urls(api_address));
    if config.sso.private_providers {
        rooms.identity = rooms.identity.with_private_providers();
    }
    let halt = CancellationToken::new();
    let gate = Gate::new(
        rooms.store.clone(),
        Arc::new(KeyAccess(rooms.identity.clone())),
        rooms.audit.clone(),
        GateConfig {
            region: config.regions[0].clone(),
            domains: domains(&config.s3.public_urls(s3_address)),
            regions: config.regions.clone(),
            public_urls: config.s3.public_urls(s3_address),
            secure: config.s3.tls.is_some(),
            trusted_proxies: config.s3.trusted_proxies.clone(),
        },
    );
    let surroundings =
        Arc::new(Wiring::new(rooms.identity.clone(), rooms.store.clone(), gate.clone(), halt.child_token()));
    let engines = Arc::new(Engines::open(&config.engines()).doing("cannot read the engines")?);
    let objects_url = config.s3.public_urls(s3_address).swap_remove(0);
    let metrics_listener =
        config.metrics.as_ref().map(|settings| listener::bind(&settings.listener(), None)).transpose()?;
    let jobs = Jobs::new(jobs::Parts {
        db: rooms.db.clone(),
        audit: rooms.audit.clone(),
        keys: Arc::clone(&rooms.keys),
        warden: warden::Client::new(&config.warden_socket()),
        engines: Arc::clone(&engines),
        surroundings: surroundings.clone(),
        config: job_config(&config, &objects_url)?,
    });
    let api_config = Arc::new(api::Config {
        public_urls: config.api.public_urls(api_address),
        tls: config.api.tls.is_some(),
        objects_url,
        trusted_proxies: [config.trusted_proxies.as_slice(), config.api.trusted_proxies.as_slice()].concat(),
        regions: config.regions.clone(),
        ..api::Config::default()
    });
    let router = with_console(
        api::router(api::ApiState {
            identity: rooms.identity.clone(),
            jobs: jobs.clone(),
            objects: rooms.store.clone(),
            audit: rooms.audit.clone(),
            engines,
            config: Arc::clone(&api_config),
        }),
        rooms.identity.clone(),
        api_config,
    );

    let calls = metrics::Calls::new();
    let router = match &config.metrics {
        Some(_) => calls.count(router),
        None => router,
    };

    let key = rooms.keys.signing_key(audit::KEY).doing("cannot open the key of the audit log")?;
    let sealer = Sealer::new(rooms.db.clone(), &config.data.join("audit"), key, config.audit.options());
    // Their end is after that of all who write entries.
    let (end_sealing, end_sending) = (CancellationToken::new(), CancellationToken::new());
    let mut sending = Vec::new();
    for target in &config.audit.send_to {
        let target = match (target.plain()?, target) {
            (Some(target), _) => target,
            (None, AuditTarget::S3(bucket)) => wiring::checkpoints_to(rooms.store.clone(), bucket)?,
            (None, _) => continue,
        };
        sending.push(tokio::spawn(audit::send::run(target, sealer.newest(), end_sending.clone())));
    }
    let sealing = tokio::spawn(sealer.run(end_sealing.clone()));

    let handing_over = tokio::spawn({
        let (store, audit, stop) = (rooms.store.clone(), rooms.audit.clone(), halt.child_token());
        async move { store.hand_over(&audit, stop).await }
    });
    let keeping = tokio::spawn({
        let (store, audit, stop) = (rooms.store.clone(), rooms.audit.clone(), halt.child_token());
        async move { store.run_background(audit, stop).await }
    });
    let telling = tokio::spawn({
        let (store, audit, stop) = (rooms.store.clone(), rooms.audit.clone(), halt.child_token());
        let region = config.regions[0].clone();
        async move { store.run_webhooks(&region, &audit, stop).await }
    });
    let scrubbing = tokio::spawn({
        let (store, audit, stop) = (rooms.store.clone(), rooms.audit.clone(), halt.child_token());
        async move { store.run_scrub(&audit, stop).await }
    });
    let checkpoints = tokio::spawn({
        let (db, stop) = (rooms.db.clone(), halt.child_token());
        async move { db.run_checkpoints(stop.cancelled()).await }
    });
    let expiring = tokio::spawn(remove_expired(rooms.identity.clone(), halt.child_token()));
    let telling_operators = match (&config.metrics, metrics_listener) {
        (Some(settings), Some(listener)) => {
            let sources = metrics::Sources {
                jobs: jobs.clone(),
                store: rooms.store.clone(),
                audit: rooms.audit.clone(),
                db: rooms.db.clone(),
                data: config.data.clone(),
                token: settings.token()?,
            };
            let endpoint = metrics::router(sources, &calls);
            let serve = move |stream, peer, stop| serve_http(endpoint.clone(), stream, peer, stop);
            let address = listener.local_addr().doing("cannot tell the address of the metrics")?;
            tracing::info!(metrics = %address, "operators are told");
            let tls = listener::acceptor(settings.tls.as_ref())?;
            Some(tokio::spawn(listener::accept(listener, tls, halt.child_token(), serve)))
        }
        _ => None,
    };
    let runner = tokio::spawn({
        let (jobs, stop) = (jobs, halt.child_token());
        async move { jobs.run(stop).await }
    });
    let serve_api = move |stream, peer, stop| serve_http(router.clone(), stream, peer, stop);
    let serve_s3 = move |stream, peer, stop| {
        let gate = gate.clone();
        async move { gate.serve_connection(stream, peer, Via::Public, stop).await }
    };
    let api = tokio::spawn(listener::accept(api_listener, api_tls, halt.child_token(), serve_api));
    let s3 = tokio::spawn(listener::accept(s3_listener, s3_tls, halt.child_token(), serve_s3));
    tracing::info!(api = %api_address, s3 = %s3_address, "the service is ready");

    stop.await;
    tracing::info!("the service ends; running jobs go on without it");
    halt.cancel();
    for (name, task) in [("the API", api), ("the object store", s3)] {
        task.await.doing(format!("{name} ended badly"))??;
    }
    if let Some(task) = telling_operators {
        task.await.doing("the metrics ended badly")??;
    }
    runner.await.doing("the scheduler ended badly")?;
    keeping.await.doing("the lifecycle rules ended badly")?;
    telling.await.doing("the webhooks ended badly")?.doing("the webhooks could not be called")?;
    scrubbing.await.doing("the check of what is stored ended badly")?;
    expiring.await.doing("the removal of expired keys ended badly")?;
    checkpoints.await.doing("the keeping short of the database's log ended badly")?;
    surroundings.closed().await;
    handing_over.await.doing("the audit entries of the object store ended badly")?;
    end_sealing.cancel();
    sealing.await.doing("the sealing of the audit log ended badly")?;
    end_sending.cancel();
    for sending in sending {
        sending.await.doing("the sending of checkpoints ended badly")?;
    }
    rooms.close().await
}

/// The rooms that keep something in the data directory.
pub struct Rooms {
    /// The database.
    pub db: Db,
    /// The audit log.
    pub audit: Audit,
    /// The keys.
    pub keys: Arc<Keys>,
    /// Accounts and credentials.
    pub identity: Identity,
    /// The embedded object store.
    pub store: Store,
}

impl Rooms {
    /// Opens all of them; makes what is not there.
    pub async fn open(config: &Config) -> Result<Rooms, Failure> {
        let (db, audit, keys, identity) = open_identity(config).await?;
        make_private(&config.data.join("jobs"))?;
        let store =
            Store::open(&config.data.join("objects"), Arc::clone(&keys)).await.doing("cannot open the object store")?;
        let externals = config
            .external_s3
            .iter()
            .map(|external| external.open(&config.regions))
            .collect::<Result<Vec<_>, Failure>>()?;
        check_homes(config, &identity).await?;
        store.know_homes(wiring::homes(&identity)).doing("cannot prepare the object store")?;
        store.attach(externals).doing("cannot prepare the external object stores")?;
        let webhooks = config.webhook.iter().map(WebhookSettings::open).collect::<Result<Vec<_>, Failure>>()?;
        store.attach_webhooks(webhooks).doing("cannot prepare the webhooks")?;
        Ok(Rooms { db, audit, keys, identity, store })
    }

    /// Writes what is still in memory, and closes all of them.
    pub async fn close(self) -> Result<(), Failure> {
        self.identity.flush().await.doing("cannot write the last uses of credentials")?;
        self.store.close().await;
        self.db.close().await;
        Ok(())
    }
}

/// Gives projects of before regions the first one, and refuses an S3 service elsewhere for a project of another region.
async fn check_homes(config: &Config, identity: &Identity) -> Result<(), Failure> {
    let first = config.regions.first().ok_or_else(|| Failure::new("regions is empty"))?;
    identity.settle_regions(first, &Actor::system()).await.doing("cannot give the projects a region")?;
    for external in &config.external_s3 {
        let located = external.located(&config.regions)?;
        for project in external.projects.iter().flatten() {
            let home = identity.region_of(project).await.doing("cannot look up the region of a project")?;
            if let Some(home) = home.filter(|home| *home != located) {
                return Err(Failure::new(format!(
                    "external_s3 '{}' is in {located}, and project {project} is in {home}",
                    external.name
                ))
                .help("the data of a project stay in its region: take the project out of `projects`"));
            }
        }
    }
    Ok(())
}

/// The rooms that an operator's command needs, which may run beside the service.
pub async fn open_identity(config: &Config) -> Result<(Db, Audit, Arc<Keys>, Identity), Failure> {
    make_private(&config.data.join("db"))?;
    let db = Db::open(&config.data.join("db/casemate.sqlite")).await.doing("cannot open the database")?;
    let keys = open_keys(config)?;
    let audit = Audit::new(db.clone());
    let identity = Identity::new(db.clone(), audit.clone(), Arc::clone(&keys));
    Ok((db, audit, keys, identity))
}

/// The keys of the data directory.
pub fn open_keys(config: &Config) -> Result<Arc<Keys>, Failure> {
    Ok(Arc::new(Keys::open(&config.data.join("keys")).doing("cannot open the keys")?))
}

fn make_private(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).doing(format!("cannot make {}", dir.display()))
}

/// Hosts of the public URLs, with their ports, below which buckets are found by virtual-host style addresses.
fn domains(urls: &[String]) -> Vec<String> {
    urls.iter()
        .filter_map(|url| url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest).to_owned()))
        .collect()
}

fn job_config(config: &Config, objects_url: &str) -> Result<jobs::Config, Failure> {
    let machine = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    Ok(jobs::Config {
        regions: config.regions.clone(),
        max_running: config.jobs.max_running,
        warm: config.jobs.warm.iter().map(|warm| warm.kept(&config.regions)).collect::<Result<_, _>>()?,
        cores: config.jobs.cores.unwrap_or(Cores(machine * SHARES_OF_A_CORE)),
        memory: config.jobs.memory.unwrap_or_else(machine_memory),
        storage: config.jobs.storage.unwrap_or_else(|| disk_size(&config.data)),
        log_retention: Duration::from_secs(config.jobs.log_retention_seconds),
        spool: config.data.join("jobs"),
        log_address_base: objects_url.to_owned(),
        environments: jobs::EnvironmentConfig {
            pypi: config.environments.pypi.as_ref().map(ToString::to_string),
            maven: config.environments.maven.iter().map(ToString::to_string).collect(),
            place: config.data.join("environments"),
        },
    })
}

/// The machine's memory less what the service itself needs; a small machine's where it cannot be told.
fn machine_memory() -> MiB {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(4 * 1024 * 1024);
    MiB((kib / 1024).saturating_sub(OWN_MEMORY.0).max(OWN_MEMORY.0))
}

/// The size of the file system that holds the data directory; no bound where it cannot be told.
fn disk_size(data: &Path) -> MiB {
    let size = nix::sys::statvfs::statvfs(data).ok().map(|found| found.blocks().saturating_mul(found.fragment_size()));
    MiB(size.map_or(u64::MAX / (1024 * 1024), |bytes| bytes / (1024 * 1024)))
}

/// Removes temporary keys and tokens whose time is over, now and then, until `stop`.
async fn remove_expired(identity: Identity, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EXPIRY_PAUSE)).await.is_some() {
        if let Err(cause) = identity.remove_expired_s3_keys(jiff::Timestamp::now()).await {
            tracing::error!(%cause, "temporary keys whose time is over were not removed");
        }
    }
}

/// The API with the console beside it, which calls it in this process.
fn with_console(api: Router, identity: Identity, config: Arc<api::Config>) -> Router {
    let seen = move |parts: &http::request::Parts| console::Seen {
        source_ip: api::source_ip(&config, parts),
        base_url: api::base_url(&config, parts),
    };
    let pages = console::router(console::Console {
        identity,
        api: api.clone(),
        seen: Arc::new(seen),
        clock: Arc::new(jiff::Timestamp::now),
    });
    api.merge(pages)
}

/// One connection of the API: HTTP/1.1 or HTTP/2, ended after its open calls at `stop`.
async fn serve_http(router: Router, stream: Box<dyn Connection>, peer: SocketAddr, stop: CancellationToken) {
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(32 * 1024)
        .max_concurrent_streams(64)
        .keep_alive_interval(Some(HEADER_TIMEOUT));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = outcome {
        tracing::debug!(%cause, %peer, "a connection of the API ended");
    }
}

/// A job's core is a share of time, and most jobs wait for their data.
const SHARES_OF_A_CORE: u32 = 4;
const OWN_MEMORY: MiB = MiB::gib(1);
const EXPIRY_PAUSE: Duration = Duration::from_secs(600);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEADERS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn data_of_a_project_do_not_go_to_a_service_in_another_region() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config: Config = toml::from_str(
            "regions = ['GRA', 'SBG']\n[[external_s3]]\nname = 'far'\nendpoint = 'https://s3.example.org'\n\
             access_key = 'a'\nsecret_key_file = '/x'\n",
        )
        .expect("a configuration");
        config.data = dir.path().to_owned();
        let (db, _, _, identity) = open_identity(&config).await.expect("rooms");
        let (account, by) = ("ab1234-casemate".parse().expect("an account"), Actor::operator());
        identity.create_account(&account, "", "", &by).await.expect("an account");
        let there =
            identity.create_project_in(&account, "there", Some(&config.regions[1]), &by).await.expect("made").id;
        let old = identity.create_project(&account, "old", &by).await.expect("made").id;
        for (projects, located, right) in [
            (None, None, true),
            (Some(vec![old.clone()]), None, true),
            (Some(vec![there.clone()]), None, false),
            (Some(vec![old.clone(), there.clone()]), Some(1), false),
            (Some(vec![there.clone()]), Some(1), true),
        ] {
            config.external_s3[0].located = located.map(|at: usize| config.regions[at].clone());
            config.external_s3[0].projects = projects;
            config.check().expect("each is a region of the service");
            let outcome = check_homes(&config, &identity).await;
            assert_eq!(outcome.is_ok(), right, "{:?}", config.external_s3);
            if let Err(fault) = outcome {
                assert!(fault.to_string().contains("external_s3 'far' is in"), "{fault}");
            }
        }
        assert_eq!(identity.region_of(&old).await.expect("read").as_ref(), config.regions.first(), "it got the first");
        config.external_s3[0].located = Some("MARS".parse().expect("a region"));
        assert!(config.check().expect_err("refused").to_string().contains("located is MARS"));
        config.regions[1] = "gra".parse().expect("a region");
        assert!(config.check().expect_err("refused").to_string().contains("twice"));
        db.close().await;
    }
}
