//! What Spark's Kubernetes backend asks of an API server, as a protocol: requests in, answers and effects out. No
//! sockets, no containers. The driver is hostile: a pod that it posts is a wish, checked in `wish`.
//! Start at [`Pods::handle`].

mod patch;
mod route;
mod selector;
mod status;
#[cfg(test)]
mod tests;
mod wish;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use model::Sizing;
use serde_json::{Value, json};

use route::{Kind, Route};
use selector::Selector;
use status::Refusal;
pub use wish::PodWish;

/// One HTTP request to the API server.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, percent-encoded as it came.
    pub path: &'a str,
    /// Its query without the `?`, percent-encoded; may be empty.
    pub query: &'a str,
    /// Whether it has the header `Upgrade`.
    pub upgrade: bool,
    /// Its whole body, at most [`MAX_BODY`] bytes.
    pub body: &'a [u8],
}

/// What to answer.
#[derive(Debug)]
pub enum Answer {
    /// A complete response of JSON.
    Reply(Response),
    /// Status 200, chunked, one JSON event a line, open until the client leaves.
    Watch(Watch),
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its body: JSON.
    pub body: Vec<u8>,
}

/// A watch on pods.
#[derive(Debug, Clone)]
pub struct Watch {
    selector: Selector,
    /// Where to begin: the first cursor for [`Pods::events_since`].
    pub cursor: u64,
}

/// What the host has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start an executor.
    Start(PodWish),
    /// Stop an executor: politely, and by force after [`GRACE_SECONDS`].
    Stop {
        /// Name of its pod.
        name: String,
        /// Its number.
        number: u32,
    },
}

/// The pods of one job.
#[derive(Debug)]
pub struct Pods {
    sizing: Sizing,
    clock: fn() -> Timestamp,
    pods: BTreeMap<String, Pod>,
    config_maps: BTreeMap<String, Value>,
    /// Highest executor number so far: Spark counts up, and a number names one container for good.
    newest: u32,
    revision: u64,
    events: VecDeque<Event>,
    /// What they take together.
    events_weight: usize,
    /// Events up to this revision are forgotten.
    forgotten: u64,
    effects: Vec<Effect>,
}

#[derive(Debug)]
struct Pod {
    object: Value,
    number: u32,
    ended: bool,
    deleted: bool,
}

#[derive(Debug)]
struct Event {
    revision: u64,
    kind: &'static str,
    object: Value,
    weight: usize,
}

impl Pods {
    /// No pods yet; executors within `sizing` may come.
    pub fn new(sizing: Sizing) -> Pods {
        Pods::with_clock(sizing, Timestamp::now)
    }

    /// The same with a clock of the caller's: Spark reads how long ago a pod was made.
    pub fn with_clock(sizing: Sizing, clock: fn() -> Timestamp) -> Pods {
        Pods {
            sizing,
            clock,
            pods: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            newest: 0,
            revision: 1,
            events: VecDeque::new(),
            events_weight: 0,
            forgotten: 0,
            effects: Vec::new(),
        }
    }

    /// Answers one request.
    pub fn handle(&mut self, request: &Request) -> Answer {
        let answered = Route::read(request).and_then(|route| self.answer(request, &route));
        answered.unwrap_or_else(|refusal| Answer::Reply(refusal.response()))
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Lines of JSON, line feed included, for a watch that has seen everything up to `cursor`; and the next cursor.
    pub fn events_since(&self, watch: &Watch, cursor: u64) -> (Vec<Vec<u8>>, u64) {
        if cursor == 0 {
            let present = self.pods.values().filter(|pod| watch.selector.matches(&pod.object));
            return (present.map(|pod| line("ADDED", &pod.object)).collect(), self.revision);
        }
        if cursor < self.forgotten {
            // What a real API server says of a revision that it has compacted; the client lists and watches again.
            let gone = Refusal::new(410, "Expired", format!("too old resource version: {cursor}"));
            return (vec![line("ERROR", &gone.object())], self.revision);
        }
        let new = self.events.iter().rev().take_while(|event| event.revision > cursor);
        let mut lines: Vec<Vec<u8>> = new
            .filter(|event| watch.selector.matches(&event.object))
            .map(|event| line(event.kind, &event.object))
            .collect();
        lines.reverse();
        (lines, self.revision)
    }

    /// The container of a pod runs.
    pub fn started(&mut self, name: &str) {
        let now = self.now();
        let Some(pod) = self.pods.get_mut(name).filter(|pod| !pod.ended) else { return };
        pod.object["status"] = status::running(&pod.object, &now);
        self.publish("MODIFIED", name);
    }

    /// The container of a pod has ended, or could not be started; `reason` such as `OOMKilled` or `StartError`.
    pub fn ended(&mut self, name: &str, exit_code: i32, reason: Option<&str>) {
        let now = self.now();
        let Some(pod) = self.pods.get_mut(name).filter(|pod| !pod.ended) else { return };
        pod.ended = true;
        pod.object["status"] = status::ended(&pod.object, exit_code, reason, &now);
        let deleted = pod.deleted;
        self.publish("MODIFIED", name);
        if deleted {
            self.remove(name);
        }
        self.forget_oldest_ended();
    }

    fn answer(&mut self, request: &Request, route: &Route) -> Result<Answer, Refusal> {
        match (request.method, route.kind, route.name.as_deref()) {
            ("GET", Kind::Pods, None) if route.watch => self.watch(request, route),
            ("GET", Kind::Pods, None) => Ok(reply(200, &self.list(&route.selector))),
            ("GET", Kind::Pods, Some(name)) => Ok(reply(200, &self.pod(name)?.object)),
            ("POST", Kind::Pods, None) => self.create(request),
            ("PATCH", Kind::Pods, Some(name)) => self.patch(name, request),
            ("DELETE", Kind::Pods, Some(name)) => {
                self.pod(name)?;
                self.delete(name);
                Ok(reply(200, &status::success()))
            }
            ("DELETE", Kind::Pods, None) => {
                let matching = self.pods.iter().filter(|(_, pod)| route.selector.matches(&pod.object));
                let names: Vec<String> = matching.map(|(name, _)| name.clone()).collect();
                names.iter().for_each(|name| self.delete(name));
                Ok(reply(200, &status::success()))
            }
            ("GET", _, _) if route.watch => Err(Refusal::method(request.method)),
            ("POST", Kind::ConfigMaps, None) => self.create_config_map(request),
            ("GET", Kind::ConfigMaps, Some(name)) => {
                let found = self.config_maps.get(name).ok_or_else(|| Refusal::not_found("configmaps", name))?;
                Ok(reply(200, found))
            }
            ("DELETE", Kind::ConfigMaps, Some(name)) => {
                self.config_maps.remove(name);
                Ok(reply(200, &status::success()))
            }
            ("DELETE", Kind::ConfigMaps, None) => {
                self.config_maps.retain(|_, object| !route.selector.matches(object));
                Ok(reply(200, &status::success()))
            }
            // There are none of these, and Spark asks to delete its own by selector at its end.
            ("DELETE", Kind::Services | Kind::VolumeClaims, None) => Ok(reply(200, &status::success())),
            ("GET", kind, None) => Ok(reply(200, &self.empty_list(kind))),
            ("GET" | "DELETE", kind, Some(name)) => Err(Refusal::not_found(kind.plural(), name)),
            ("POST", Kind::Services | Kind::VolumeClaims, _) => {
                Err(Refusal::forbidden(format!("{} are not offered to jobs", route.kind.plural())))
            }
            (method, _, _) => Err(Refusal::method(method)),
        }
    }

    fn watch(&self, request: &Request, route: &Route) -> Result<Answer, Refusal> {
        if request.upgrade {
            // The client then asks again without the upgrade: 400 would stop Spark, 200 hangs its 4.x (pods-api.md).
            return Err(Refusal::new(503, "ServiceUnavailable", "watches are served without a WebSocket"));
        }
        Ok(Answer::Watch(Watch { selector: route.selector.clone(), cursor: route.revision.unwrap_or(0) }))
    }

    fn create(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let mut object = body(request)?;
        bounded(&object, MAX_POD)?;
        let wish = PodWish::read(&object, &self.sizing)?;
        if self.pods.contains_key(&wish.name) {
            return Err(Refusal::new(409, "AlreadyExists", format!("pods \"{}\" already exists", wish.name)));
        }
        if wish.executor <= self.newest {
            return Err(Refusal::forbidden(format!(
                "executor {} is not a new one: the newest is {}",
                wish.executor, self.newest
            )));
        }
        let running = self.pods.values().filter(|pod| !pod.ended).count();
        if running >= self.sizing.executors as usize {
            return Err(Refusal::forbidden(format!(
                "exceeded quota: the job's sizing has {} executors, and {running} are there",
                self.sizing.executors
            )));
        }
        self.newest = wish.executor;
        status::admit(&mut object, &self.now());
        let name = wish.name.clone();
        self.pods.insert(name.clone(), Pod { object, number: wish.executor, ended: false, deleted: false });
        self.publish("ADDED", &name);
        self.effects.push(Effect::Start(wish));
        Ok(reply(201, &self.pod(&name)?.object))
    }

    fn patch(&mut self, name: &str, request: &Request) -> Result<Answer, Refusal> {
        self.pod(name)?;
        let change = body(request)?;
        if let Some(pod) = self.pods.get_mut(name) {
            let mut object = pod.object.clone();
            patch::apply(&mut object, &change)?;
            bounded(&object, MAX_POD)?;
            pod.object = object;
        }
        self.publish("MODIFIED", name);
        Ok(reply(200, &self.pod(name)?.object))
    }

    fn create_config_map(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let mut object = body(request)?;
        bounded(&object, MAX_CONFIG_MAP)?;
        let name = wish::object_name(&object)?;
        if self.config_maps.contains_key(&name) {
            return Err(Refusal::new(409, "AlreadyExists", format!("configmaps \"{name}\" already exists")));
        }
        if self.config_maps.len() >= MAX_CONFIG_MAPS {
            return Err(Refusal::forbidden(format!("exceeded quota: at most {MAX_CONFIG_MAPS} config maps")));
        }
        status::admit(&mut object, &self.now());
        self.config_maps.insert(name, object.clone());
        Ok(reply(201, &object))
    }

    fn delete(&mut self, name: &str) {
        let now = self.now();
        let Some(pod) = self.pods.get_mut(name) else { return };
        if pod.ended {
            self.remove(name);
        } else if !pod.deleted {
            pod.deleted = true;
            pod.object["metadata"]["deletionTimestamp"] = json!(now);
            pod.object["metadata"]["deletionGracePeriodSeconds"] = json!(GRACE_SECONDS);
            self.effects.push(Effect::Stop { name: name.to_owned(), number: pod.number });
            self.publish("MODIFIED", name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.publish("DELETED", name);
        self.pods.remove(name);
    }

    /// Ended pods stay for Spark to read; of many that it never deletes the oldest go.
    fn forget_oldest_ended(&mut self) {
        let mut ended: Vec<(u32, String)> =
            self.pods.iter().filter(|(_, pod)| pod.ended).map(|(name, pod)| (pod.number, name.clone())).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(MAX_ENDED);
        ended.iter().take(surplus).for_each(|(_, name)| self.remove(name));
    }

    fn publish(&mut self, kind: &'static str, name: &str) {
        let Some(pod) = self.pods.get_mut(name) else { return };
        self.revision += 1;
        pod.object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let weight = weight(&pod.object);
        self.events_weight += weight;
        self.events.push_back(Event { revision: self.revision, kind, object: pod.object.clone(), weight });
        while self.events.len() > MAX_EVENTS || self.events_weight > MAX_EVENTS_WEIGHT {
            let Some(event) = self.events.pop_front() else { break };
            self.events_weight -= event.weight;
            self.forgotten = event.revision;
        }
    }

    fn now(&self) -> String {
        (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn pod(&self, name: &str) -> Result<&Pod, Refusal> {
        self.pods.get(name).ok_or_else(|| Refusal::not_found("pods", name))
    }

    fn list(&self, selector: &Selector) -> Value {
        let items: Vec<&Value> =
            self.pods.values().map(|pod| &pod.object).filter(|object| selector.matches(object)).collect();
        json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": self.revision.to_string() }, "items": items })
    }

    fn empty_list(&self, kind: Kind) -> Value {
        json!({ "kind": kind.list(), "apiVersion": "v1", "metadata": { "resourceVersion": self.revision.to_string() }, "items": [] })
    }
}

fn body(request: &Request) -> Result<Value, Refusal> {
    if request.body.len() > MAX_BODY {
        return Err(Refusal::new(413, "RequestEntityTooLarge", format!("at most {MAX_BODY} bytes")));
    }
    let object: Value = serde_json::from_slice(request.body)
        .map_err(|cause| Refusal::new(400, "BadRequest", format!("the body is not JSON: {cause}")))?;
    match object {
        Value::Object(_) => Ok(object),
        // A JSON patch is a list of operations.
        Value::Array(_) if request.method == "PATCH" => Ok(object),
        _ => Err(Refusal::new(400, "BadRequest", "the body is not an object")),
    }
}

/// Refuses an object that would take more than `most` bytes of memory: each one is kept, and again in each event.
fn bounded(object: &Value, most: usize) -> Result<(), Refusal> {
    match weight(object) > most {
        true => Err(Refusal::invalid(format!("the object is too large: about {most} bytes of memory at most"))),
        false => Ok(()),
    }
}

/// About what a value takes in memory, where a small one takes far more than its text; never less than its text.
fn weight(value: &Value) -> usize {
    // Control characters are written as six.
    let text = |text: &str| text.len() + 5 * text.bytes().filter(u8::is_ascii_control).count();
    VALUE
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(content) => text(content),
            Value::Array(items) => items.iter().map(weight).sum::<usize>(),
            Value::Object(fields) if fields.is_empty() => 0,
            Value::Object(fields) => {
                MAP + fields.iter().map(|(key, value)| VALUE + text(key) + weight(value)).sum::<usize>()
            }
        }
}

fn reply(status: u16, object: &Value) -> Answer {
    Answer::Reply(Response { status, body: object.to_string().into_bytes() })
}

fn line(kind: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({ "type": kind, "object": object }).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Bytes of a body at the most: a config map's bound in Kubernetes, and some.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// What a host writes into a quiet watch every second or so: blank before the next line of JSON, it means nothing to a
/// client, and its reader wakes up to see that it was closed. Without it a driver of Spark 3 can wait for ever: OkHttp
/// closes a watch by reading what is left of it for 100 ms at most, and where an event comes within that time, the thread
/// that reads it takes the time limit of the closing one away.
pub const HEARTBEAT: &[u8] = b" ";
/// Seconds that an executor has to end by itself once its pod is deleted.
pub const GRACE_SECONDS: u64 = 30;
const MAX_EVENTS: usize = 256;
/// Bytes of memory that all events take at most, and one pod, and one config map; Spark's pods take far less.
const MAX_EVENTS_WEIGHT: usize = 8 * 1024 * 1024;
const MAX_POD: usize = 256 * 1024;
const MAX_CONFIG_MAP: usize = 1024 * 1024;
/// What a value and what the smallest map take, beside what is in them.
const VALUE: usize = 32;
const MAP: usize = 640;
const MAX_ENDED: usize = 32;
const MAX_CONFIG_MAPS: usize = 8;
