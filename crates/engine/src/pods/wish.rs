//! A pod that the driver posts is a wish. Number, cores, memory, environment and labels are taken from it, within the
//! job's sizing; all else is the platform's, and what asks for it is refused.

use model::{Cores, MiB, Sizing};
use serde_json::Value;

use super::status::Refusal;

/// An executor that the driver wishes for, within the job's sizing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodWish {
    /// Name of the pod.
    pub name: String,
    /// Number of the executor, from 1; never used twice.
    pub executor: u32,
    /// Cores asked for.
    pub cores: Cores,
    /// Memory asked for, overhead included.
    pub memory: MiB,
    /// Environment asked for, field references filled in.
    pub env: Vec<(String, String)>,
}

impl PodWish {
    pub(super) fn read(pod: &Value, sizing: &Sizing) -> Result<PodWish, Refusal> {
        if pod["kind"] != "Pod" {
            return Err(Refusal::new(400, "BadRequest", "the body is not a Pod"));
        }
        let name = object_name(pod)?;
        let spec = &pod["spec"];
        refuse_present(spec, &FORBIDDEN_OF_POD, "spec")?;
        refuse_volumes(spec)?;
        let container = match spec["containers"].as_array().map(Vec::as_slice) {
            Some([container]) => container,
            _ => return Err(Refusal::forbidden("spec.containers: one container is expected")),
        };
        refuse_present(container, &FORBIDDEN_OF_CONTAINER, "spec.containers[0]")?;
        if container["args"] != serde_json::json!(["executor"]) {
            return Err(Refusal::forbidden("spec.containers[0].args: only [\"executor\"] is run"));
        }
        let executor = pod["metadata"]["labels"][EXECUTOR_ID].as_str().and_then(|text| text.parse::<u32>().ok());
        let executor = executor.filter(|number| (1..=MAX_EXECUTOR_NUMBER).contains(number)).ok_or_else(|| {
            Refusal::forbidden(format!(
                "metadata.labels.{EXECUTOR_ID}: a number from 1 to {MAX_EXECUTOR_NUMBER} is expected"
            ))
        })?;
        let resources = &container["resources"];
        let cores = cores(resources)?;
        let memory = memory(resources)?;
        if cores > sizing.executor.cores {
            return Err(Refusal::forbidden(format!(
                "exceeded quota: {cores} cores asked for, the job's sizing has {} an executor",
                sizing.executor.cores
            )));
        }
        if memory > sizing.executor.total_memory() {
            return Err(Refusal::forbidden(format!(
                "exceeded quota: {} MiB of memory asked for, the job's sizing has {} MiB an executor, overhead included",
                memory.0,
                sizing.executor.total_memory().0
            )));
        }
        let env = environment(container, &name)?;
        Ok(PodWish { name, executor, cores, memory, env })
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The name of an object: a DNS subdomain, as Kubernetes asks.
pub(super) fn object_name(object: &Value) -> Result<String, Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    let ends = |c: char| c.is_ascii_alphanumeric();
    if name.len() <= 253 && letters && name.starts_with(ends) && name.ends_with(ends) && !name.contains("..") {
        return Ok(name.to_owned());
    }
    Err(Refusal::invalid("metadata.name: a lower case DNS subdomain of at most 253 characters is expected"))
}

fn refuse_present(object: &Value, fields: &[&str], place: &str) -> Result<(), Refusal> {
    match fields.iter().find(|field| is_asked_for(&object[**field])) {
        None => Ok(()),
        Some(field) => Err(Refusal::forbidden(format!("{place}.{field} is the platform's to say"))),
    }
}

/// Clients write fields that they do not set as null, false or empty.
fn is_asked_for(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(is_asked_for),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Scratch space and Spark's own configuration map; never a path, claim or secret.
fn refuse_volumes(spec: &Value) -> Result<(), Refusal> {
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let harmless = volume.as_object().is_some_and(|fields| {
            fields
                .iter()
                .all(|(key, value)| ["name", "emptyDir", "configMap"].contains(&key.as_str()) || !is_asked_for(value))
        });
        if !harmless {
            return Err(Refusal::forbidden("spec.volumes: only emptyDir and configMap volumes are offered to jobs"));
        }
    }
    Ok(())
}

fn environment(container: &Value, pod: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut env = Vec::new();
    let mut bytes = 0;
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'-';
        if name.is_empty() || name.len() > 256 || !name.bytes().all(valid) {
            return Err(Refusal::invalid(format!("spec.containers[0].env: '{name:.80}' is not a name")));
        }
        let source = &variable["valueFrom"];
        let value = match source["fieldRef"]["fieldPath"].as_str() {
            Some("status.podIP" | "status.hostIP") => "127.0.0.1".to_owned(),
            Some("metadata.name") => pod.to_owned(),
            Some("metadata.namespace") => "default".to_owned(),
            Some(other) => return Err(Refusal::forbidden(format!("env {name}: the field {other:.80} is not offered"))),
            None if is_asked_for(source) => {
                return Err(Refusal::forbidden(format!("env {name}: only values and field references are offered")));
            }
            None => variable["value"].as_str().unwrap_or_default().to_owned(),
        };
        bytes += name.len() + value.len();
        if bytes > MAX_ENVIRONMENT || value.contains('\0') {
            return Err(Refusal::invalid(format!(
                "spec.containers[0].env: at most {MAX_ENVIRONMENT} bytes without NUL"
            )));
        }
        env.push((name.to_owned(), value));
    }
    Ok(env)
}

/// Cores: the limit if there is one, else the request; a part of a core counts as a whole one.
fn cores(resources: &Value) -> Result<Cores, Refusal> {
    let milli = quantity(resources, "cpu")?.map(|thousandths| thousandths.div_ceil(1000).max(1)).unwrap_or(1);
    u32::try_from(milli).map(Cores).map_err(|_| Refusal::invalid("resources.cpu: too large"))
}

fn memory(resources: &Value) -> Result<MiB, Refusal> {
    let thousandths = quantity(resources, "memory")?.ok_or_else(|| Refusal::invalid("resources.memory: missing"))?;
    let bytes = thousandths.div_ceil(1000);
    u64::try_from(bytes.div_ceil(1024 * 1024)).map(MiB).map_err(|_| Refusal::invalid("resources.memory: too large"))
}

/// The larger of request and limit, in thousandths.
fn quantity(resources: &Value, kind: &str) -> Result<Option<u128>, Refusal> {
    let mut most = None;
    for place in ["requests", "limits"] {
        let text = match &resources[place][kind] {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(Refusal::invalid(format!("resources.{place}.{kind}: a quantity is expected"))),
        };
        let value = parse_quantity(&text)
            .ok_or_else(|| Refusal::invalid(format!("resources.{place}.{kind}: '{text:.40}' is not a quantity")))?;
        most = most.max(Some(value));
    }
    Ok(most)
}

/// A Kubernetes quantity such as `1408Mi`, `1`, `500m`, `1.5`, in thousandths.
fn parse_quantity(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() || number.len() > 18 {
        return None;
    }
    let factor: u128 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 1000_u128.pow(2),
        "G" => 1000 * 1000_u128.pow(3),
        "T" => 1000 * 1000_u128.pow(4),
        "Ki" => 1000 * 1024,
        "Mi" => 1000 * 1024_u128.pow(2),
        "Gi" => 1000 * 1024_u128.pow(3),
        "Ti" => 1000 * 1024_u128.pow(4),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || fraction.len() > 9 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole * factor + (part * factor).div_ceil(scale))
}

/// The label that numbers an executor.
pub(super) const EXECUTOR_ID: &str = "spark-exec-id";

/// Taken by no job: each would reach beyond its own container, or start something else than an executor.
const FORBIDDEN_OF_POD: [&str; 24] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostAliases",
    "nodeName",
    "nodeSelector",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "priority",
    "priorityClassName",
    "preemptionPolicy",
    "runtimeClassName",
    "securityContext",
    "initContainers",
    "ephemeralContainers",
    "serviceAccount",
    "serviceAccountName",
    "automountServiceAccountToken",
    "shareProcessNamespace",
    "imagePullSecrets",
    "resourceClaims",
    "dnsConfig",
    "overhead",
];
const FORBIDDEN_OF_CONTAINER: [&str; 9] = [
    "command",
    "securityContext",
    "envFrom",
    "volumeDevices",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "stdin",
    "tty",
];
/// Spark numbers on for each executor that it replaces; far more than a job can use up.
const MAX_EXECUTOR_NUMBER: u32 = 100_000;
const MAX_ENVIRONMENT: usize = 256 * 1024;
