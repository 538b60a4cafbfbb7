//! Which resource a request is about.

use super::{Request, selector::Selector, status::Refusal};

/// The kinds of objects that Spark asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pods,
    ConfigMaps,
    Services,
    VolumeClaims,
}

impl Kind {
    pub(super) fn plural(self) -> &'static str {
        match self {
            Kind::Pods => "pods",
            Kind::ConfigMaps => "configmaps",
            Kind::Services => "services",
            Kind::VolumeClaims => "persistentvolumeclaims",
        }
    }

    pub(super) fn list(self) -> &'static str {
        match self {
            Kind::Pods => "PodList",
            Kind::ConfigMaps => "ConfigMapList",
            Kind::Services => "ServiceList",
            Kind::VolumeClaims => "PersistentVolumeClaimList",
        }
    }
}

/// `/api/v1/namespaces/NAMESPACE/KIND[/NAME]` and its query.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) kind: Kind,
    pub(super) name: Option<String>,
    pub(super) selector: Selector,
    pub(super) watch: bool,
    pub(super) revision: Option<u64>,
}

impl Route {
    pub(super) fn read(request: &Request) -> Result<Route, Refusal> {
        let unknown = || Refusal::new(404, "NotFound", "the server could not find the requested resource");
        if request.query.len() > MAX_QUERY {
            return Err(Refusal::new(414, "RequestURITooLong", format!("a query has at most {MAX_QUERY} bytes")));
        }
        let rest = request.path.strip_prefix("/api/v1/namespaces/").ok_or_else(unknown)?;
        let mut parts = rest.trim_end_matches('/').split('/');
        parts.next().filter(|namespace| !namespace.is_empty()).ok_or_else(unknown)?;
        let kind = match parts.next() {
            Some("pods") => Kind::Pods,
            Some("configmaps") => Kind::ConfigMaps,
            Some("services") => Kind::Services,
            Some("persistentvolumeclaims") => Kind::VolumeClaims,
            _ => return Err(unknown()),
        };
        let name = parts.next().map(decode);
        if parts.next().is_some() {
            // Sub-resources such as `exec` and `log`: a job has no use for them.
            return Err(unknown());
        }
        let mut route = Route { kind, name, selector: Selector::default(), watch: false, revision: None };
        for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match key {
                "labelSelector" => route.selector.add_labels(&value)?,
                "fieldSelector" => route.selector.add_fields(&value)?,
                "watch" => route.watch = value == "true" || value == "1",
                "resourceVersion" => route.revision = value.parse().ok(),
                // Bounds of time and size, hints: what is answered is right without them.
                _ => {}
            }
        }
        Ok(route)
    }
}

/// Percent decoding; `+` is a space, as OkHttp and Vert.x write queries.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = bytes.get(index + 1..index + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| bytes[index] == b'%');
        match (bytes[index], byte) {
            (_, Some(byte)) => {
                decoded.push(byte);
                index += 2;
            }
            (b'+', None) => decoded.push(b' '),
            (other, None) => decoded.push(other),
        }
        index += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A selector that names every executor of a job is far shorter; each watch keeps its own.
const MAX_QUERY: usize = 8 * 1024;
