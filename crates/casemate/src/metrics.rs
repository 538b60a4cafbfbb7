//! The endpoint for operators (docs/metrics.md): one registry of what the rooms count, on a listener of its own, in the
//! text format of Prometheus or that of OpenMetrics. No metric names a project, a job or a user.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use audit::Audit;
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use db::Db;
use http::{HeaderMap, StatusCode, header};
use jobs::Jobs;
use objects::Store;
use prometheus_client::{
    encoding,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use zeroize::Zeroizing;

/// One label.
type Label<V> = [(&'static str, V); 1];
/// The route, the method and the status.
type OfAnswer = ((Label<String>, Label<&'static str>), Label<u16>);

/// Calls of the API, which the router's layer counts.
#[derive(Debug, Clone)]
pub struct Calls {
    count: Family<OfAnswer, Counter>,
    seconds: Family<Label<String>, Histogram, fn() -> Histogram>,
}

/// What the endpoint reads.
pub struct Sources {
    /// The rooms.
    pub jobs: Jobs,
    /// The object store.
    pub store: Store,
    /// The audit log.
    pub audit: Audit,
    /// The database.
    pub db: Db,
    /// The data directory.
    pub data: PathBuf,
    /// What callers of the endpoint must have, if anything.
    pub token: Option<Zeroizing<String>>,
}

/// What is measured when it is asked for.
#[derive(Debug, Default)]
struct Gauges {
    database: Family<Label<&'static str>, Gauge>,
    disk: Family<Label<&'static str>, Gauge>,
    memory: Gauge,
    descriptors: Gauge,
}

struct Endpoint {
    sources: Sources,
    registry: Registry,
    gauges: Gauges,
}

impl Calls {
    /// Nothing was called yet.
    pub fn new() -> Calls {
        Calls { count: Family::default(), seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)) }
    }

    /// The router, with its calls counted.
    pub fn count(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), counted))
    }
}

/// Counts a call, by the route that it found: never by the path, which a caller chooses.
async fn counted(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    let (begun, method) = (Instant::now(), method_of(request.method()));
    let path = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let route = VERSIONS.iter().find_map(|version| path.strip_prefix(version)).unwrap_or(path).to_owned();
    let response = next.run(request).await;
    let labels = (([("route", route.clone())], [("method", method)]), [("status", response.status().as_u16())]);
    calls.count.get_or_create(&labels).inc();
    calls.seconds.get_or_create(&[("route", route)]).observe(begun.elapsed().as_secs_f64());
    response
}

/// The router of the endpoint: `GET /metrics`.
pub fn router(sources: Sources, calls: &Calls) -> Router {
    let mut registry = Registry::with_prefix("casemate");
    let gauges = Gauges::default();
    sources.jobs.metrics().register(&mut registry);
    sources.store.metrics().register(&mut registry);
    sources.audit.metrics().register(&mut registry);
    registry.register(
        "api_calls",
        "Calls of the API and the console, by route, method and status",
        calls.count.clone(),
    );
    registry.register_with_unit("api_call", "How long calls took", Unit::Seconds, calls.seconds.clone());
    registry.register_with_unit("database", "Size of the database's files", Unit::Bytes, gauges.database.clone());
    registry.register_with_unit(
        "disk",
        "The file system of the data directory, and what of it is free",
        Unit::Bytes,
        gauges.disk.clone(),
    );
    registry.register_with_unit("process_memory", "Resident memory of the service", Unit::Bytes, gauges.memory.clone());
    registry.register("process_descriptors", "Open descriptors of the service", gauges.descriptors.clone());
    let version = prometheus_client::metrics::info::Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version that runs", version);
    let endpoint = Arc::new(Endpoint { sources, registry, gauges });
    Router::new().route("/metrics", get(scrape)).with_state(endpoint)
}

async fn scrape(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap) -> Response {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(token) = &endpoint.sources.token {
        let given = text(header::AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default();
        if !crypto::equal(given.as_bytes(), token.as_bytes()) {
            let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (StatusCode::UNAUTHORIZED, scheme, "a bearer token is required\n").into_response();
        }
    }
    if let Err(cause) = endpoint.measure().await {
        tracing::error!(%cause, "the metrics could not be measured");
        return (StatusCode::SERVICE_UNAVAILABLE, "the metrics could not be measured\n").into_response();
    }
    let mut body = String::new();
    let open = text(header::ACCEPT).contains("application/openmetrics-text");
    let (written, kind) = match open {
        true => (encoding::text::encode(&mut body, &endpoint.registry), OPEN_METRICS),
        false => {
            (encoding::prometheus_text::encode(&mut body, &endpoint.registry), encoding::prometheus_text::CONTENT_TYPE)
        }
    };
    match written {
        Ok(()) => ([(header::CONTENT_TYPE, kind)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Endpoint {
    async fn measure(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Sources { jobs, store, audit, db, data, .. } = &self.sources;
        jobs.measure().await?;
        store.measure().await?;
        audit.metrics().measure(db).await?;
        let size = |file: &str| data.join("db").join(file).metadata().map_or(0, |about| about.len());
        for (part, file) in [("data", "casemate.sqlite"), ("wal", "casemate.sqlite-wal")] {
            self.gauges.database.get_or_create(&[("part", part)]).set(gauge(size(file)));
        }
        if let Ok(about) = nix::sys::statvfs::statvfs(data.as_path()) {
            let block = about.fragment_size();
            for (part, blocks) in [("total", about.blocks()), ("free", about.blocks_available())] {
                self.gauges.disk.get_or_create(&[("part", part)]).set(gauge(blocks.saturating_mul(block)));
            }
        }
        self.gauges.memory.set(gauge(resident()));
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.gauges.descriptors.set(i64::try_from(descriptors).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// Resident memory of this process; 0 where it cannot be told.
fn resident() -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn method_of(method: &http::Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const VERSIONS: [&str; 2] = ["/1.0", "/v1"];
const SECONDS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0];
