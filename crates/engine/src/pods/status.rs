//! The parts of objects that the server writes: error bodies, identity, and the status of pods.

use serde_json::{Value, json};

use super::Response;

/// A request that is refused, with the error body of Kubernetes.
#[derive(Debug)]
pub(super) struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason, message: message.into() }
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Refusal {
        Refusal::new(403, "Forbidden", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(422, "Invalid", message)
    }

    pub(super) fn not_found(plural: &str, name: &str) -> Refusal {
        Refusal::new(404, "NotFound", format!("{plural} \"{name:.253}\" not found"))
    }

    pub(super) fn method(method: &str) -> Refusal {
        Refusal::new(
            405,
            "MethodNotAllowed",
            format!("the server does not allow {method:.16} on the requested resource"),
        )
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }

    pub(super) fn response(&self) -> Response {
        Response { status: self.code, body: self.object().to_string().into_bytes() }
    }
}

pub(super) fn success() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" })
}

/// What a server adds to a new object.
pub(super) fn admit(object: &mut Value, now: &str) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
    object["metadata"]["creationTimestamp"] = json!(now);
    object["metadata"]["resourceVersion"] = json!("1");
    if object["kind"] == "Pod" {
        object["status"] = json!({ "phase": "Pending" });
    }
}

pub(super) fn running(pod: &Value, now: &str) -> Value {
    let container = json!({
        "name": container_name(pod), "ready": true, "started": true, "restartCount": 0, "image": "engine", "imageID": "engine",
        "state": { "running": { "startedAt": now } },
    });
    json!({ "phase": "Running", "podIP": LOOPBACK, "podIPs": [{ "ip": LOOPBACK }], "hostIP": LOOPBACK, "startTime": now,
        "conditions": [{ "type": "Ready", "status": "True" }], "containerStatuses": [container] })
}

pub(super) fn ended(pod: &Value, exit_code: i32, reason: Option<&str>, now: &str) -> Value {
    let started = &pod["status"]["startTime"];
    let (phase, usual) = if exit_code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
    let reason = reason.unwrap_or(usual);
    let container = json!({
        "name": container_name(pod), "ready": false, "started": false, "restartCount": 0, "image": "engine", "imageID": "engine",
        "state": { "terminated": { "exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": now } },
    });
    json!({ "phase": phase, "podIP": LOOPBACK, "startTime": started, "containerStatuses": [container] })
}

fn container_name(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["name"].as_str().unwrap_or("spark-kubernetes-executor")
}

/// All containers of a job share its network, which is loopback.
const LOOPBACK: &str = "127.0.0.1";
