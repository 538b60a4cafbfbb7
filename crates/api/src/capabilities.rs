//! What data processing offers: engines, their versions, parameters and sizes.

use engine::Installed;
use model::{MiB, PARAMETERS, Parameter, Region, Retired};
use serde_json::{Value, json};

use crate::{
    ApiError,
    request::{Call, Reply},
};

/// The engines.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let (offer, region) = (call.api.jobs.offer(call.now).await?, call.region()?);
    let versions: Vec<Value> = offer.engines.iter().map(|engine| describe_version(engine, region)).collect();
    Reply::json(&json!([{
        "name": "spark",
        "availableVersions": versions,
        "retiredVersions": offer.retired.iter().map(describe_retired).collect::<Vec<_>>(),
        "parameters": PARAMETERS.iter().map(describe_parameter).collect::<Vec<_>>(),
        "templates": TEMPLATES.iter().zip(1..).map(describe_template).collect::<Vec<_>>(),
    }]))
}

/// Notebooks, of which there are none.
pub(crate) async fn no_notebooks(_call: Call) -> Result<Reply, ApiError> {
    Reply::json(&json!([]))
}

fn describe_version(engine: &Installed, region: &Region) -> Value {
    json!({
        "name": engine.version,
        "description": engine.description,
        "availableRegions": [region],
        "availableFrom": engine.available.to_string(),
        "endOfSupport": engine.end_of_support.to_string(),
        "endOfLife": engine.end_of_life.to_string(),
    })
}

/// A version that is installed and cannot be chosen: in no list of the old service, so under a name of its own.
fn describe_retired(retired: &Retired) -> Value {
    json!({ "name": retired.version, "reason": retired.why })
}

fn describe_parameter(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.name,
        "type": parameter.kind,
        "mandatory": parameter.mandatory,
        "default": parameter.default,
        "description": parameter.description,
        "validator": { "min": parameter.min, "max": parameter.max, "regex": parameter.regex },
    })
}

fn describe_template(((cores, memory), id): (&(u32, MiB), u32)) -> Value {
    json!({ "id": id, "cores": cores, "memory": memory })
}

/// Sizes of a node to choose from: cores, and heap memory that leaves room for the default overhead.
const TEMPLATES: [(u32, MiB); 5] =
    [(1, MiB(3_584)), (2, MiB(7_168)), (4, MiB(14_336)), (8, MiB(27_648)), (16, MiB(53_248))];

#[cfg(test)]
mod tests {
    use model::NodeSize;

    use super::*;

    #[test]
    fn every_template_fits_a_node() {
        for (cores, memory) in TEMPLATES {
            let size = NodeSize { cores: model::Cores(cores), memory, overhead: NodeSize::default_overhead(memory) };
            assert!(cores <= 16 && size.total_memory() <= MiB::gib(59), "{size:?}");
        }
    }
}
