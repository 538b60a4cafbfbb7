//! What a job used, as a table: a line a node.

use serde_json::Value;

use super::output;

/// A line for each node, with the sums and the highest of its points.
pub fn table(used: &Value) -> String {
    let nodes = used["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if nodes.is_empty() {
        return "nothing is known of what the job used".to_owned();
    }
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let head = [
        "node",
        "cores",
        "at most",
        "processor",
        "memory",
        "disk read",
        "written",
        "network",
        "tasks",
        "shuffle read",
        "written",
        "gc",
    ];
    output::table(&head, &rows)
}

fn row(node: &Value) -> Vec<String> {
    let values = |name: &str| -> Vec<f64> {
        let all = node["series"].as_array().into_iter().flatten();
        let found = all.filter(|series| series["name"] == name).flat_map(|series| series["values"].as_array());
        found.flatten().filter_map(Value::as_f64).collect()
    };
    let newest = |name: &str| values(name).last().copied();
    let highest = |name: &str| values(name).into_iter().reduce(f64::max);
    let cores = values("cores");
    let mean = (!cores.is_empty()).then(|| cores.iter().sum::<f64>() / cores.len() as f64);
    let show = |value: Option<f64>, how: fn(f64) -> String| value.map_or_else(|| "-".to_owned(), how);
    vec![
        output::field(node, "node").to_owned(),
        show(mean, |cores| format!("{cores:.2}")),
        show(highest("cores"), |cores| format!("{cores:.2}")),
        show(newest("cpuTime"), |micros| format!("{:.1} s", micros / 1e6)),
        show(highest("memoryPeak"), bytes),
        show(newest("diskRead"), bytes),
        show(newest("diskWritten"), bytes),
        show(newest("network"), bytes),
        show(newest("tasks"), |tasks| format!("{tasks:.0}")),
        show(newest("shuffleRead"), bytes),
        show(newest("shuffleWritten"), bytes),
        show(newest("gcTime"), |millis| format!("{:.1} s", millis / 1e3)),
    ]
}

fn bytes(count: f64) -> String {
    match count {
        few if few < 1024.0 => format!("{few:.0} B"),
        few if few < 1024.0 * 1024.0 => format!("{:.1} KiB", few / 1024.0),
        many if many < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", many / 1024.0 / 1024.0),
        many => format!("{:.1} GiB", many / 1024.0 / 1024.0 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_a_line_and_what_is_not_known_is_a_dash() {
        let series = |name: &str, values: Value| json!({ "name": name, "values": values });
        let used = json!({ "nodes": [
            { "node": "driver", "series": [
                series("cores", json!([null, 1.5, 0.5])), series("cpuTime", json!([0, 1_500_000, 2_000_000])),
                series("memoryPeak", json!([1024, 3_145_728, null])), series("tasks", json!([null, 3, null])),
            ] },
            { "node": "job", "series": [series("network", json!([5_368_709_120_u64]))] },
        ] });
        let rows: Vec<Vec<String>> = used["nodes"].as_array().expect("nodes").iter().map(row).collect();
        assert_eq!(rows[0], ["driver", "1.00", "1.50", "2.0 s", "3.0 MiB", "-", "-", "-", "3", "-", "-", "-"]);
        assert_eq!(rows[1], ["job", "-", "-", "-", "-", "-", "-", "5.0 GiB", "-", "-", "-", "-"]);
        let shown = table(&used);
        assert!(shown.lines().count() == 3 && shown.contains("5.0 GiB"), "{shown}");
        assert_eq!(table(&json!({ "nodes": [] })), "nothing is known of what the job used");
    }
}
