//! Changes of a pod: labels and annotations, in each of the forms that Spark's clients send.

use serde_json::{Map, Value, json};

use super::status::Refusal;

/// Applies a merge patch, a strategic merge patch, or a JSON patch (RFC 6902). Only labels and annotations change.
pub(super) fn apply(object: &mut Value, change: &Value) -> Result<(), Refusal> {
    let mut metadata = object["metadata"].clone();
    match change {
        Value::Array(operations) => {
            for operation in operations.iter().take(MAX_OPERATIONS) {
                apply_operation(&mut metadata, operation)?;
            }
        }
        merge => {
            for part in PARTS {
                if let Some(entries) = merge["metadata"][part].as_object() {
                    let target = entries_of(&mut metadata, part);
                    for (key, value) in entries {
                        set(target, key, Some(value))?;
                    }
                }
            }
        }
    }
    if metadata.to_string().len() > MAX_METADATA {
        return Err(Refusal::invalid(format!("metadata: at most {MAX_METADATA} bytes")));
    }
    object["metadata"] = metadata;
    Ok(())
}

fn apply_operation(metadata: &mut Value, operation: &Value) -> Result<(), Refusal> {
    let path = operation["path"].as_str().unwrap_or_default();
    let kind = operation["op"].as_str().unwrap_or_default();
    let refused =
        || Refusal::forbidden(format!("only labels and annotations of a pod can be changed, not {path:.200}"));
    let rest = path.strip_prefix("/metadata/").ok_or_else(refused)?;
    let (part, key) = rest.split_once('/').map_or((rest, None), |(part, key)| (part, Some(key)));
    let part = PARTS.into_iter().find(|known| *known == part).ok_or_else(refused)?;
    match (kind, key) {
        ("test", _) => Ok(()),
        ("add" | "replace", Some(key)) => set(entries_of(metadata, part), &unescape(key), Some(&operation["value"])),
        ("remove", Some(key)) => set(entries_of(metadata, part), &unescape(key), None),
        ("add" | "replace", None) => {
            let entries = operation["value"].as_object().cloned().unwrap_or_default();
            entries.iter().try_for_each(|(key, value)| set(entries_of(metadata, part), key, Some(value)))
        }
        _ => Err(refused()),
    }
}

fn entries_of<'a>(metadata: &'a mut Value, part: &str) -> &'a mut Value {
    let entries = &mut metadata[part];
    if !entries.is_object() {
        *entries = Value::Object(Map::new());
    }
    entries
}

fn set(entries: &mut Value, key: &str, value: Option<&Value>) -> Result<(), Refusal> {
    match value {
        None | Some(Value::Null) => {
            entries.as_object_mut().map(|entries| entries.remove(key));
            Ok(())
        }
        // What a pod is known by stays: Spark never changes it, and executors are told apart by it.
        Some(_) if key == super::wish::EXECUTOR_ID || key == "spark-app-selector" => Ok(()),
        Some(Value::String(text)) => {
            entries[key] = json!(text);
            Ok(())
        }
        Some(_) => Err(Refusal::invalid(format!("{key:.80}: a text is expected"))),
    }
}

fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

const PARTS: [&str; 2] = ["labels", "annotations"];
const MAX_OPERATIONS: usize = 64;
const MAX_METADATA: usize = 64 * 1024;
