//! What Spark sends, as it was recorded, and what a hostile driver might send.

use model::{Cores, MiB, NodeSize, Sizing};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn pods(executors: u32) -> Pods {
    let node = NodeSize { cores: Cores(2), memory: MiB(1024), overhead: MiB(384) };
    Pods::with_clock(Sizing { driver: node, executor: node, executors }, || jiff::Timestamp::UNIX_EPOCH)
}

/// A pod as Spark 3.5 posts it.
fn pod(number: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("job-exec-{number}"),
            "labels": { "spark-exec-id": number.to_string(), "spark-role": "executor", "spark-app-selector": "spark-1",
                "spark-exec-resourceprofile-id": "0", "spark-app-name": "flights", "spark-version": "3.5.9" },
        },
        "spec": {
            "containers": [{
                "args": ["executor"], "image": "casemate", "imagePullPolicy": "IfNotPresent", "name": "spark-kubernetes-executor",
                "env": [
                    { "name": "SPARK_EXECUTOR_ID", "value": number.to_string() },
                    { "name": "SPARK_EXECUTOR_POD_IP", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "status.podIP" } } },
                    { "name": "SPARK_EXECUTOR_POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                    { "name": "SPARK_EXECUTOR_MEMORY", "value": "1024m" },
                ],
                "ports": [{ "containerPort": 7079, "name": "blockmanager", "protocol": "TCP" }],
                "resources": { "limits": { "memory": "1408Mi" }, "requests": { "cpu": "2", "memory": "1408Mi" } },
                "volumeMounts": [{ "mountPath": "/var/data/spark-1", "name": "spark-local-dir-1" }],
            }],
            "hostname": format!("job-exec-{number}"), "restartPolicy": "Never", "terminationGracePeriodSeconds": 30,
            "volumes": [{ "emptyDir": {}, "name": "spark-local-dir-1" }, { "configMap": { "name": "x" }, "name": "conf" }],
        },
    })
}

fn ask(pods: &mut Pods, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    match pods.handle(&Request { method, path, query, upgrade: false, body: &body }) {
        Answer::Reply(response) => (response.status, serde_json::from_slice(&response.body).expect("JSON")),
        Answer::Watch(_) => panic!("a watch"),
    }
}

fn watch(pods: &mut Pods, query: &str) -> Watch {
    match pods.handle(&Request { method: "GET", path: PODS, query, upgrade: false, body: b"" }) {
        Answer::Watch(watch) => watch,
        Answer::Reply(response) => panic!("{response:?}"),
    }
}

fn events(pods: &Pods, watch: &Watch, cursor: &mut u64) -> Vec<Value> {
    let (lines, next) = pods.events_since(watch, *cursor);
    *cursor = next;
    lines.iter().map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const MINE: &str =
    "watch=true&labelSelector=spark-app-selector%3Dspark-1%2Cspark-role%3Dexecutor&allowWatchBookmarks=true";

#[test]
fn the_life_of_an_executor_is_seen_by_a_watch() {
    let mut pods = pods(2);
    let watch = watch(&mut pods, MINE);
    let mut cursor = watch.cursor;
    assert!(events(&pods, &watch, &mut cursor).is_empty());
    let (status, made) = ask(&mut pods, "POST", PODS, &pod(1));
    assert_eq!(status, 201);
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"] == "1970-01-01T00:00:00Z");
    let effects = pods.take_effects();
    let [Effect::Start(wish)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((wish.executor, wish.cores, wish.memory), (1, Cores(2), MiB(1408)));
    assert_eq!(wish.variable("SPARK_EXECUTOR_POD_NAME"), Some("job-exec-1"));
    assert_eq!(wish.variable("SPARK_EXECUTOR_POD_IP"), Some("127.0.0.1"));
    pods.started("job-exec-1");
    pods.ended("job-exec-1", 137, Some("OOMKilled"));
    let seen = events(&pods, &watch, &mut cursor);
    let kinds: Vec<&str> = seen.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["ADDED", "MODIFIED", "MODIFIED"]);
    assert_eq!(seen[1]["object"]["status"]["phase"], "Running");
    let terminated = &seen[2]["object"]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&json!(137), &json!("OOMKilled")));
    // Whether a map keeps the order of its making is for other crates to choose.
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!(seen[2]["object"]["status"]) });
    assert_eq!(ask(&mut pods, "DELETE", &format!("{PODS}/job-exec-1"), &Value::Null).0, 200);
    assert_eq!(events(&pods, &watch, &mut cursor)[0]["type"], "DELETED");
    assert!(pods.take_effects().is_empty(), "what has ended need not be stopped");
}

#[test]
fn a_watch_that_asks_for_a_web_socket_is_sent_away_whole() {
    let answer = pods(1).handle(&Request { method: "GET", path: PODS, query: MINE, upgrade: true, body: b"" });
    let Answer::Reply(response) = answer else { panic!("{answer:?}") };
    assert_eq!(response.status, 503);
    assert!(!response.body.is_empty());
}

#[test]
fn a_list_honours_its_selector() {
    let mut pods = pods(3);
    for number in 1..=3 {
        assert_eq!(ask(&mut pods, "POST", PODS, &pod(number)).0, 201);
    }
    let patch = json!([{ "op": "add", "path": "/metadata/labels/spark-exec-inactive", "value": "true" }]);
    assert_eq!(ask(&mut pods, "PATCH", &format!("{PODS}/job-exec-2"), &patch).0, 200);
    for (selector, expected) in [
        ("spark-role%3Dexecutor", 3),
        ("spark-role=executor,spark-exec-inactive!=true", 2),
        ("spark-exec-inactive", 1),
        ("!spark-exec-inactive", 2),
        ("spark-exec-id+in+%281%2C3%29", 2),
        ("spark-exec-id notin (1,3)", 1),
        ("spark-app-selector=other", 0),
    ] {
        let (_, list) = ask(&mut pods, "GET", &format!("{PODS}?labelSelector={selector}"), &Value::Null);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(expected), "{selector}");
    }
    assert_eq!(ask(&mut pods, "GET", &format!("{PODS}?labelSelector=%3D"), &Value::Null).0, 400);
    let merge = json!({ "metadata": { "labels": { "spark-exec-inactive": null, "spark-exec-id": "9" } } });
    let (_, patched) = ask(&mut pods, "PATCH", &format!("{PODS}/job-exec-2"), &merge);
    assert_eq!(patched["metadata"]["labels"]["spark-exec-id"], "2", "what a pod is known by stays");
    assert!(patched["metadata"]["labels"].get("spark-exec-inactive").is_none());
    let other = json!([{ "op": "replace", "path": "/spec/nodeName", "value": "x" }]);
    assert_eq!(ask(&mut pods, "PATCH", &format!("{PODS}/job-exec-2"), &other).0, 403);
}

#[test]
fn no_more_executors_run_than_the_sizing_has() {
    let mut pods = pods(1);
    assert_eq!(ask(&mut pods, "POST", PODS, &pod(1)).0, 201);
    let (status, refusal) = ask(&mut pods, "POST", PODS, &pod(2));
    assert_eq!((status, &refusal["reason"]), (403, &json!("Forbidden")));
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!(refusal) });
    assert_eq!(ask(&mut pods, "DELETE", &format!("{PODS}?labelSelector=spark-exec-id=1"), &Value::Null).0, 200);
    assert_eq!(ask(&mut pods, "POST", PODS, &pod(2)).0, 403, "what is being stopped still runs");
    pods.ended("job-exec-1", 143, None);
    assert_eq!(ask(&mut pods, "POST", PODS, &pod(1)).0, 403, "a number is not used twice");
    assert_eq!(ask(&mut pods, "POST", PODS, &pod(2)).0, 201);
    let stops = pods.take_effects().into_iter().filter(|effect| matches!(effect, Effect::Stop { number: 1, .. }));
    assert_eq!(stops.count(), 1);
}

#[test]
fn what_reaches_beyond_an_executor_is_refused() {
    let mut pods = pods(9);
    for (pointer, value) in [
        ("/spec/hostNetwork", json!(true)),
        ("/spec/hostPID", json!(true)),
        ("/spec/nodeName", json!("other")),
        ("/spec/nodeSelector", json!({ "a": "b" })),
        ("/spec/serviceAccountName", json!("admin")),
        ("/spec/securityContext", json!({ "runAsUser": 0 })),
        ("/spec/initContainers", json!([{ "name": "x" }])),
        ("/spec/volumes", json!([{ "name": "x", "hostPath": { "path": "/" } }])),
        ("/spec/volumes", json!([{ "name": "x", "secret": { "secretName": "x" } }])),
        ("/spec/containers", json!([])),
        ("/spec/containers/0/command", json!(["/bin/sh"])),
        ("/spec/containers/0/args", json!(["driver"])),
        ("/spec/containers/0/securityContext", json!({ "privileged": true })),
        ("/spec/containers/0/envFrom", json!([{ "secretRef": { "name": "x" } }])),
        (
            "/spec/containers/0/env",
            json!([{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "x", "key": "y" } } }]),
        ),
        ("/spec/containers/0/resources/requests/memory", json!("1409Mi")),
        ("/spec/containers/0/resources/limits/memory", json!("100Gi")),
        ("/spec/containers/0/resources/requests/cpu", json!("3")),
        ("/spec/containers/0/resources/requests/cpu", json!("2001m")),
        ("/metadata/labels/spark-exec-id", json!("0")),
        ("/metadata/labels/spark-exec-id", json!("-1")),
        ("/metadata/labels/spark-exec-id", json!("1/../2")),
    ] {
        let mut wish = pod(1);
        set(&mut wish, pointer, value.clone());
        let (status, refusal) = ask(&mut pods, "POST", PODS, &wish);
        assert_eq!((status, &refusal["kind"]), (403, &json!("Status")), "{pointer} {value}: {refusal}");
    }
    for (pointer, value) in [
        ("/metadata/name", json!("../../etc")),
        ("/spec/containers/0/resources/requests/memory", json!("much")),
        ("/spec/containers/0/env", json!([{ "name": "A=B", "value": "x" }])),
    ] {
        let mut wish = pod(1);
        set(&mut wish, pointer, value);
        assert_eq!(ask(&mut pods, "POST", PODS, &wish).0, 422, "{pointer}");
    }
    assert!(pods.take_effects().is_empty());
}

#[test]
fn what_spark_asks_for_beside_pods_is_answered() {
    let mut pods = pods(1);
    let map = json!({ "kind": "ConfigMap", "metadata": { "name": "spark-exec-conf-map", "labels": { "a": "b" } }, "data": {} });
    let base = "/api/v1/namespaces/default";
    assert_eq!(ask(&mut pods, "POST", &format!("{base}/configmaps"), &map).0, 201);
    assert_eq!(ask(&mut pods, "POST", &format!("{base}/configmaps"), &map).0, 409);
    for kind in ["services", "persistentvolumeclaims", "configmaps"] {
        assert_eq!(ask(&mut pods, "DELETE", &format!("{base}/{kind}?labelSelector=a%3Db"), &Value::Null).0, 200);
        assert_eq!(ask(&mut pods, "GET", &format!("{base}/{kind}"), &Value::Null).0, 200);
    }
    for (method, target, status) in [
        ("GET", "/apis/apps/v1/namespaces/default/deployments", 404),
        ("GET", "/api/v1/nodes", 404),
        ("GET", "/api/v1/namespaces/default/secrets", 404),
        ("POST", "/api/v1/namespaces/default/pods/x/exec", 404),
        ("GET", "/api/v1/namespaces/default/pods/x", 404),
        ("PUT", "/api/v1/namespaces/default/pods/x", 405),
        ("POST", "/api/v1/namespaces/default/persistentvolumeclaims", 403),
    ] {
        let (found, body) = ask(&mut pods, method, target, &json!({}));
        assert_eq!(
            (found, &body["kind"], &body["code"]),
            (status, &json!("Status"), &json!(status)),
            "{method} {target}"
        );
    }
}

#[test]
fn a_watch_that_has_slept_too_long_is_told_so() {
    let mut pods = pods(1);
    assert_eq!(ask(&mut pods, "POST", PODS, &pod(1)).0, 201);
    let watch = watch(&mut pods, "watch=true&resourceVersion=2");
    for number in 0..300 {
        let patch = json!({ "metadata": { "annotations": { "n": number.to_string() } } });
        assert_eq!(ask(&mut pods, "PATCH", &format!("{PODS}/job-exec-1"), &patch).0, 200);
    }
    let mut cursor = watch.cursor;
    let seen = events(&pods, &watch, &mut cursor);
    assert_eq!((&seen[0]["type"], &seen[0]["object"]["code"]), (&json!("ERROR"), &json!(410)));
    let fresh = self::watch(&mut pods, "watch=1");
    assert_eq!(
        pods.events_since(&fresh, fresh.cursor).0.len(),
        1,
        "without a revision a watch begins with what is there"
    );
}

#[test]
fn what_a_driver_can_make_the_server_remember_is_bounded() {
    let mut pods = pods(1);
    let mut wish = pod(1);
    // Little text, much memory.
    wish["spec"]["x"] = json!(vec![1; 20_000]);
    assert_eq!(ask(&mut pods, "POST", PODS, &wish).0, 422);
    wish["spec"]["x"] = json!("y".repeat(150 * 1024));
    assert_eq!(ask(&mut pods, "POST", PODS, &wish).0, 201);
    for number in 0..100 {
        let patch = json!({ "metadata": { "annotations": { "n": number.to_string() } } });
        assert_eq!(ask(&mut pods, "PATCH", &format!("{PODS}/job-exec-1"), &patch).0, 200);
    }
    assert!(pods.events_weight <= MAX_EVENTS_WEIGHT && pods.events.len() < 100);
    assert_eq!(pods.events_weight, pods.events.iter().map(|event| event.weight).sum::<usize>());
    let long = format!("{PODS}?labelSelector={}", "a,".repeat(5_000));
    assert_eq!(ask(&mut pods, "GET", &long, &Value::Null).0, 414);
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[key] = value;
}

proptest! {
    #[test]
    fn no_request_breaks_the_server(
        method in "GET|POST|PATCH|DELETE|PUT",
        path in "/api/v1/namespaces/[a-z%]{0,4}/(pods|configmaps|services|x)(/[a-z%0-9.]{0,8})?",
        query in "(labelSelector|watch|fieldSelector|resourceVersion)=[a-z!=,()% +0-9]{0,30}",
        body in "\\PC{0,80}|\\[\\{\"op\":\"add\",\"path\":\"/metadata/[a-z/~]{0,20}\",\"value\":1\\}\\]",
        upgrade in any::<bool>(),
    ) {
        let mut pods = pods(1);
        pods.handle(&Request { method: "POST", path: PODS, query: "", upgrade: false, body: pod(1).to_string().as_bytes() });
        let answer = pods.handle(&Request { method: &method, path: &path, query: &query, upgrade, body: body.as_bytes() });
        if let Answer::Reply(response) = answer {
            prop_assert!(response.status < 500 || response.status == 503);
            prop_assert!(serde_json::from_slice::<Value>(&response.body).is_ok());
        }
    }
}
