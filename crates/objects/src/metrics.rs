//! What operators see of the store: requests, bytes, the size of the log and what compaction moves. No names of projects,
//! buckets or keys.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{Error, Store, access::is_read, segments};

type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Two words, then the status.
type OfAnswer = (Labels<2>, [(&'static str, u16); 1]);

/// Counts of this process, and what the last [`Store::measure`] found.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<OfAnswer, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    bytes: Family<Labels<1>, Counter>,
    moved: Counter,
    log_bytes: Gauge,
    log_files: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            bytes: Family::default(),
            moved: Counter::default(),
            log_bytes: Gauge::default(),
            log_files: Gauge::default(),
        }
    }

    /// Adds them to a registry, which names the service.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_requests",
            "Requests to the object store, by protocol, kind and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "store_request",
            "How long requests took until their answer began",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit("store_transfer", "Bytes of bodies", Unit::Bytes, self.bytes.clone());
        registry.register_with_unit(
            "store_compaction_moved",
            "Bytes that were moved to give space back",
            Unit::Bytes,
            self.moved.clone(),
        );
        registry.register_with_unit(
            "store_log",
            "Size of the log of small objects on disk",
            Unit::Bytes,
            self.log_bytes.clone(),
        );
        registry.register("store_log_files", "Segment files of that log", self.log_files.clone());
    }

    /// A request was answered. `operation` is none where it was not found out.
    pub(crate) fn answered(
        &self,
        (protocol, operation): (&'static str, Option<&str>),
        status: StatusCode,
        took: Duration,
        received: u64,
    ) {
        let kind = match operation {
            Some(operation) if is_read(operation) => "read",
            Some(_) => "write",
            None => "unknown",
        };
        let labels = ([("protocol", protocol), ("kind", kind)], [("status", status.as_u16())]);
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[("protocol", protocol)]).observe(took.as_secs_f64());
        self.bytes.get_or_create(&[("direction", "received")]).inc_by(received);
    }

    /// Where bytes that are sent are counted.
    pub(crate) fn sent(&self) -> Counter {
        self.bytes.get_or_create_owned(&[("direction", "sent")])
    }

    pub(crate) fn compacted(&self, bytes: u64) {
        self.moved.inc_by(bytes);
    }
}

impl Store {
    /// What operators see of the store; call [`Store::measure`] before reading.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Looks how much the log takes on disk.
    pub async fn measure(&self) -> Result<(), Error> {
        let (files, bytes) = self
            .block(|inner| {
                let ids = segments::ids(&inner.packed)?;
                // One that goes meanwhile takes nothing.
                let size = |id: &u64| segments::path(&inner.packed, *id).metadata().map_or(0, |about| about.len());
                Ok((ids.len(), ids.iter().map(size).sum::<u64>()))
            })
            .await?;
        self.0.metrics.log_files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.0.metrics.log_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }
}

const SECONDS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0];
