//! What a job used over time.

use jiff::Timestamp;
use jobs::{
    Used,
    history::{Kind, MEASURES, NodeHistory, Source, WHOLE_JOB},
};
use model::NodeName;
use serde_json::{Value, json};

use crate::{
    ApiError,
    jobs_routes::job_id,
    logs::parse_from,
    request::{Call, Reply},
};

/// What each node of the job's newest attempt used, while it runs and after: the points from `from` to `to`, of all nodes or of
/// one. Empty for a job that was not started, or of which nothing is kept any more.
pub(crate) async fn read(call: Call) -> Result<Reply, ApiError> {
    let id = job_id(&call)?;
    let time = |name: &str| -> Result<Option<i64>, ApiError> {
        let given = call.query(name).filter(|text| !text.is_empty());
        let parsed = given.map(|text| parse_from(name, text, call.now)).transpose()?;
        Ok(parsed.map(|id| i64::try_from(id.0 / NANOSECONDS).unwrap_or(i64::MAX)))
    };
    let (from, to) = (time("from")?.unwrap_or(i64::MIN), time("to")?.unwrap_or(i64::MAX));
    if from > to {
        return Err(ApiError::bad_field("to", "a time that is not before from"));
    }
    let node = match call.query("node").filter(|text| !text.is_empty()) {
        None | Some("all") => None,
        Some(text) if text == WHOLE_JOB || text.parse::<NodeName>().is_ok() => Some(text),
        Some(_) => return Err(ApiError::bad_field("node", "'driver', 'executor-N', 'job' or 'all'")),
    };
    let used = call.api.jobs.used_by(&call.project()?.id, id).await?;
    Reply::json(&match used {
        None => json!({ "jobId": id, "attempt": null, "periodSeconds": null, "truncated": false, "nodes": [] }),
        Some(Used { attempt, history }) => json!({
            "jobId": id,
            "attempt": attempt,
            "periodSeconds": history.period as f64 / 1000.0,
            "truncated": history.truncated,
            "nodes": history
                .nodes
                .iter()
                .filter(|(name, _)| node.is_none_or(|node| node == name.as_str()))
                .map(|(name, of_node)| describe(name, of_node, from..=to))
                .collect::<Vec<_>>(),
        }),
    })
}

fn describe(name: &str, node: &NodeHistory, span: std::ops::RangeInclusive<i64>) -> Value {
    let wanted: Vec<usize> = (0..node.times.len()).filter(|at| span.contains(&node.times[*at])).collect();
    let times: Vec<Timestamp> =
        wanted.iter().map(|at| Timestamp::from_millisecond(node.times[*at]).unwrap_or(Timestamp::MAX)).collect();
    let mut series = Vec::new();
    if let Some(cores) = cores(node) {
        let values: Vec<Option<f64>> = wanted.iter().map(|at| cores[*at]).collect();
        series.push(json!({
            "name": "cores", "unit": "cores", "kind": "gauge", "source": "platform", "values": values,
        }));
    }
    for measure in MEASURES {
        let Some(column) = node.values.get(measure.name) else { continue };
        let values: Vec<Option<u64>> = wanted.iter().map(|at| column[*at]).collect();
        series.push(json!({
            "name": measure.name,
            "unit": measure.unit,
            "kind": match measure.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            },
            "source": match measure.source {
                Source::Platform => "platform",
                Source::Job => "job",
            },
            "values": values,
        }));
    }
    json!({ "node": name, "times": times, "series": series })
}

/// Cores that were used from the point before to each, on average; of the first, none.
fn cores(node: &NodeHistory) -> Option<Vec<Option<f64>>> {
    let column = node.values.get("cpuTime")?;
    let mut cores = vec![None; column.len()];
    for at in 1..column.len() {
        let milliseconds = node.times[at].saturating_sub(node.times[at - 1]).max(1);
        if let (Some(before), Some(after)) = (column[at - 1], column[at]) {
            let used = after.saturating_sub(before) as f64 / 1000.0 / milliseconds as f64;
            cores[at] = Some((used * 1000.0).round() / 1000.0);
        }
    }
    Some(cores)
}

const NANOSECONDS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use jobs::history::History;

    use super::*;

    #[test]
    fn cores_are_processor_time_over_time_and_units_are_told() {
        let mut history = History::new();
        history.add("driver", 1_000, [("cpuTime", 0), ("memory", 7)]);
        history.add("driver", 2_000, [("cpuTime", 1_500_000)]);
        history.add("driver", 4_000, [("cpuTime", 1_500_000), ("tasks", 3)]);
        let shown = describe("driver", &history.nodes["driver"], 2_000..=i64::MAX);
        let series = |name: &str, unit: &str, kind: &str, source: &str, values: Value| json!({ "name": name, "unit": unit, "kind": kind, "source": source, "values": values });
        let expected = json!({
            "node": "driver",
            "times": ["1970-01-01T00:00:02Z", "1970-01-01T00:00:04Z"],
            "series": [
                series("cores", "cores", "gauge", "platform", json!([1.5, 0.0])),
                series("cpuTime", "microseconds", "counter", "platform", json!([1_500_000, 1_500_000])),
                series("memory", "bytes", "gauge", "platform", json!([null, null])),
                series("tasks", "tasks", "counter", "job", json!([null, 3])),
            ],
        });
        assert_eq!(shown, expected);
        let nothing = describe("driver", &history.nodes["driver"], 5_000..=6_000);
        assert_eq!((&nothing["times"], &nothing["series"][0]["values"]), (&json!([]), &json!([])));
    }
}
