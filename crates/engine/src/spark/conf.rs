//! The files of a job's `/conf`.

use std::collections::BTreeMap;

use model::{MiB, NodeSize, Placement};

use super::{DriverContext, JARS, properties};
use crate::Error;

/// One file of `/conf`. Some hold the job's secrets: readable by the job's user, writable by nobody in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfFile {
    /// Its name, without directories.
    pub name: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl ConfFile {
    /// Its permissions: one of them is a program.
    pub fn mode(&self) -> u32 {
        if self.name == DRIVER_PYTHON { 0o755 } else { 0o644 }
    }
}

/// All files of `/conf`, with the user's properties where they do not touch the platform.
pub fn conf_files(context: &DriverContext, properties: Option<&str>) -> Result<Vec<ConfFile>, Error> {
    let user = user_properties(properties)?;
    let file = |name: &'static str, text: String| ConfFile { name, bytes: text.into_bytes() };
    Ok(vec![
        file("spark-defaults.conf", spark_defaults(context, &user)),
        file(DRIVER_ARGUMENTS, driver_arguments(context.spec.sizing.driver, &user)),
        file("core-site.xml", core_site(context)),
        log4j2(),
        file(
            "credentials",
            format!(
                "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
                context.access_key, context.secret_key
            ),
        ),
        file("rpc-secret", context.rpc_secret.to_owned()),
        file(DRIVER_PYTHON, PYTHON_SCRIPT.to_owned()),
    ])
}

/// The files that a driver's JVM reads as it starts: those of a job that has no properties of its own.
pub(super) fn files_at_start(driver: NodeSize) -> Vec<ConfFile> {
    let arguments = driver_arguments(driver, &BTreeMap::new());
    vec![ConfFile { name: DRIVER_ARGUMENTS, bytes: arguments.into_bytes() }, log4j2()]
}

fn log4j2() -> ConfFile {
    ConfFile { name: "log4j2.properties", bytes: LOG4J2.as_bytes().to_vec() }
}

/// Names of the user's properties that the platform says instead, for a line in the log.
pub fn overridden(properties: &str) -> Result<Vec<String>, Error> {
    Ok(user_properties(Some(properties))?.into_keys().filter(|name| is_ours(name)).collect())
}

/// What the properties ask for and this platform cannot do, as one line for the user.
pub fn unsupported(properties: &str) -> Result<Option<String>, Error> {
    let properties = user_properties(Some(properties))?;
    let packages = properties.get("spark.jars.packages").filter(|text| !text.is_empty());
    Ok(packages.map(|packages| {
        format!(
            "spark.jars.packages of the properties file is not fetched, a job has no network: {packages}; name them by the \
             job's parameter `packages`, which the service reads before the job starts"
        )
    }))
}

fn user_properties(text: Option<&str>) -> Result<BTreeMap<String, String>, Error> {
    Ok(properties::parse(text.unwrap_or_default())?.into_iter().collect())
}

/// Whether a property is the platform's to say: it would break the isolation, or what the platform relies on.
fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn spark_defaults(context: &DriverContext, user: &BTreeMap<String, String>) -> String {
    let mut all: BTreeMap<&str, String> = DEFAULTS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    all.insert("spark.app.name", context.spec.name.clone());
    all.extend(user.iter().filter(|(name, _)| !is_ours(name)).map(|(name, value)| (name.as_str(), value.clone())));
    let driver = context.spec.sizing.driver;
    for (name, value) in [
        ("spark.submit.deployMode", "client".to_owned()),
        ("spark.driver.host", "127.0.0.1".to_owned()),
        ("spark.driver.bindAddress", "127.0.0.1".to_owned()),
        ("spark.driver.cores", driver.cores.to_string()),
        ("spark.driver.memory", format!("{}m", driver.memory.0)),
        ("spark.driver.memoryOverhead", format!("{}m", driver.overhead.0)),
    ] {
        all.insert(name, value);
    }
    for (name, value) in REPORTING {
        all.insert(name, (*value).to_owned());
    }
    all.insert("spark.metrics.conf.*.sink.casemate.port", REPORTS.to_string());
    if !context.jars.is_empty() {
        // All containers have them, so that executors read them there. The user's own come first.
        let own = all.get("spark.jars").filter(|text| !text.is_empty()).cloned();
        let packages = context.jars.iter().map(|jar| format!("local:/conf/{JARS}/{jar}"));
        all.insert("spark.jars", own.into_iter().chain(packages).collect::<Vec<_>>().join(","));
    }
    match context.spec.placement {
        Placement::Cluster => cluster(context, user, &mut all),
        // Nothing outside the JVM speaks to it, so there is nobody to authenticate.
        Placement::Single => {
            all.insert("spark.master", format!("local[{}]", driver.cores));
            all.insert("spark.dynamicAllocation.enabled", "false".to_owned());
        }
    }
    all.iter().map(|(name, value)| properties::line(name, value)).collect()
}

/// What a driver needs to have executors by the pods API.
fn cluster(context: &DriverContext, user: &BTreeMap<String, String>, all: &mut BTreeMap<&str, String>) {
    let executor = context.spec.sizing.executor;
    for (name, value) in [
        ("spark.master", format!("k8s://{}", context.pods_url)),
        ("spark.executor.cores", executor.cores.to_string()),
        ("spark.executor.memory", format!("{}m", executor.memory.0)),
        ("spark.executor.memoryOverhead", format!("{}m", executor.overhead.0)),
        ("spark.kubernetes.namespace", "default".to_owned()),
        // Spark wants some name; what runs is the engine of the job.
        ("spark.kubernetes.container.image", "casemate".to_owned()),
        ("spark.kubernetes.executor.podNamePrefix", format!("job-{}", context.job_id)),
        // Executors read /conf.
        ("spark.kubernetes.executor.disableConfigMap", "true".to_owned()),
        ("spark.kubernetes.allocation.batch.delay", "200ms".to_owned()),
        // Spark 3.5 can wait for ever when it closes a watch (OkHttp reads on to the end of the answer, in a race with its
        // own reader), and a driver that has done its work would not end. Asking is cheap over loopback.
        ("spark.kubernetes.executor.enableApiWatcher", "false".to_owned()),
        ("spark.kubernetes.executor.apiPollingInterval", "1s".to_owned()),
        ("spark.authenticate", "true".to_owned()),
        ("spark.authenticate.secret.file", "/conf/rpc-secret".to_owned()),
        ("spark.network.crypto.enabled", "true".to_owned()),
        ("spark.network.crypto.saslFallback", "false".to_owned()),
        ("spark.network.crypto.authEngineVersion", "2".to_owned()),
        ("spark.network.crypto.cipher", "AES/GCM/NoPadding".to_owned()),
    ] {
        all.insert(name, value);
    }
    executors(context.spec.sizing.executors, user, all);
}

/// A fixed number of executors, or as many as there is work for where the user asks for it; never more than the sizing.
fn executors(most: u32, user: &BTreeMap<String, String>, all: &mut BTreeMap<&str, String>) {
    if user.get("spark.dynamicAllocation.enabled").is_none_or(|value| value != "true") {
        all.insert("spark.dynamicAllocation.enabled", "false".to_owned());
        all.insert("spark.executor.instances", most.to_string());
        return;
    }
    let capped = |name: &str, default: u32| {
        let asked = user.get(name).and_then(|text| text.parse::<u32>().ok());
        asked.unwrap_or(default).min(most)
    };
    let highest = capped("spark.dynamicAllocation.maxExecutors", most).max(1);
    let lowest = capped("spark.dynamicAllocation.minExecutors", 0).min(highest);
    let first = capped("spark.dynamicAllocation.initialExecutors", lowest).clamp(lowest, highest);
    all.insert("spark.dynamicAllocation.maxExecutors", highest.to_string());
    all.insert("spark.dynamicAllocation.minExecutors", lowest.to_string());
    all.insert("spark.dynamicAllocation.initialExecutors", first.to_string());
    // There is no shuffle service: executors that hold shuffle files stay.
    all.entry("spark.dynamicAllocation.shuffleTracking.enabled").or_insert_with(|| "true".to_owned());
}

/// Options of the driver's JVM that are the user's to say, in an argument file of `java`.
fn driver_arguments(driver: NodeSize, user: &BTreeMap<String, String>) -> String {
    let asked: Vec<&str> = ["spark.driver.defaultJavaOptions", "spark.driver.extraJavaOptions"]
        .iter()
        .filter_map(|name| user.get(*name))
        .map(String::as_str)
        .collect();
    let asked = asked.join(" ");
    let serial = prefers_serial(driver, asked.split_whitespace());
    let collector = if serial { "-XX:+UseSerialGC\n" } else { "" };
    format!("{collector}{}\n", asked.replace(['\n', '\r'], " "))
}

/// Whether the serial collector fits: it starts faster and uses less than G1, and in a small heap its pauses are short.
/// The JVM ends at once if it is given two collectors, so one that the user asks for is the only one.
pub(super) fn prefers_serial<'a>(node: NodeSize, mut options: impl Iterator<Item = &'a str>) -> bool {
    let asked = options.any(|option| option.starts_with("-XX:+Use") && option.ends_with("GC"));
    !asked && (node.cores.0 == 1 || node.memory < MiB::gib(2))
}

fn core_site(context: &DriverContext) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<configuration>\n");
    for (name, value) in [
        ("fs.s3a.endpoint", context.objects_url),
        ("fs.s3a.endpoint.region", context.region),
        ("fs.s3a.path.style.access", "true"),
        ("fs.s3a.connection.ssl.enabled", "false"),
        ("fs.s3a.aws.credentials.provider", "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"),
        ("fs.s3a.access.key", context.access_key),
        ("fs.s3a.secret.key", context.secret_key),
        ("fs.s3a.buffer.dir", "/scratch/s3a"),
        ("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem"),
        ("hadoop.tmp.dir", "/scratch/hadoop"),
    ] {
        text.push_str(&format!("  <property><name>{name}</name><value>{}</value></property>\n", xml(value)));
    }
    text.push_str("</configuration>\n");
    text
}

/// Text as it stands in an element or a quoted attribute.
pub(crate) fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&apos;")
}

const DRIVER_ARGUMENTS: &str = "driver.args";

/// The Python of a driver, in `/conf`.
pub(super) const DRIVER_PYTHON: &str = "driver-python";

/// Spark's `PythonRunner` copies what the program writes, and the JVM ends without waiting for the rest of it: the last
/// lines would be lost. So the program writes to where the JVM writes, its errors too, as Spark has it.
const PYTHON_SCRIPT: &str = r#"#!/bin/sh
exec "$PYSPARK_PYTHON" "$@" >>"/proc/$PPID/fd/1" 2>&1
"#;

/// The port of the job's loopback at which the shim hears by UDP what Spark counts.
pub const REPORTS: u16 = 9002;

/// Executors tell what they count of tasks; the JVM's own metrics would be hundreds of lines.
const REPORTING: [(&str, &str); 6] = [
    ("spark.metrics.conf.*.sink.casemate.class", "org.apache.spark.metrics.sink.GraphiteSink"),
    ("spark.metrics.conf.*.sink.casemate.host", "127.0.0.1"),
    ("spark.metrics.conf.*.sink.casemate.protocol", "udp"),
    ("spark.metrics.conf.*.sink.casemate.period", "2"),
    ("spark.metrics.conf.*.sink.casemate.unit", "seconds"),
    (
        "spark.metrics.conf.*.sink.casemate.regex",
        "[.]executor[.](threadpool[.]activeTasks|succeededTasks|runTime|jvmGCTime|shuffleTotalBytesRead|shuffleBytesWritten\
         |bytesRead|recordsRead|bytesWritten|recordsWritten|memoryBytesSpilled|diskBytesSpilled)$",
    ),
];

/// What a user may say otherwise.
const DEFAULTS: [(&str, &str); 3] = [
    // No listener that nobody can reach; it also starts faster.
    ("spark.ui.enabled", "false"),
    ("spark.ui.showConsoleProgress", "false"),
    // Executors' results come over loopback.
    ("spark.locality.wait", "0"),
];

const OURS: [&str; 20] = [
    "spark.master",
    "spark.submit.deployMode",
    "spark.driver.host",
    "spark.driver.bindAddress",
    "spark.driver.cores",
    "spark.driver.memory",
    "spark.driver.memoryOverhead",
    "spark.driver.memoryOverheadFactor",
    "spark.executor.cores",
    "spark.executor.memory",
    "spark.executor.memoryOverhead",
    "spark.executor.memoryOverheadFactor",
    "spark.executor.instances",
    // Each would make the pod larger than the job's sizing.
    "spark.executor.pyspark.memory",
    "spark.memory.offHeap.enabled",
    "spark.memory.offHeap.size",
    // Fetched from where the job cannot reach.
    "spark.jars.packages",
    "spark.jars.repositories",
    "spark.jars.excludes",
    "spark.local.dir",
];
const OUR_PREFIXES: [&str; 7] = [
    "spark.metrics.conf.*.sink.casemate.",
    "spark.kubernetes.",
    "spark.authenticate",
    "spark.network.crypto.",
    "spark.ssl.",
    "spark.executor.resource.",
    "spark.driver.resource.",
];

/// Access to the JDK's insides that Spark needs on Java 17 (`JavaModuleOptions`). Its launcher gives them to a driver; we
/// start without it. Left out: `--add-modules=jdk.incubator.vector` of Spark 4, which makes a driver start slower, for
/// linear algebra that runs on executors.
pub(super) const MODULE_OPTIONS: [&str; 19] = [
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.invoke=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.cs=ALL-UNNAMED",
    "--add-opens=java.base/sun.security.action=ALL-UNNAMED",
    "--add-opens=java.base/sun.util.calendar=ALL-UNNAMED",
    "--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dlog4j2.configurationFile=file:/conf/log4j2.properties",
];

/// Warnings and worse, on standard error: every line of INFO costs start time and hides what the job prints.
const LOG4J2: &str = "\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex
# Said at each start, of no use to the reader: the platform's own choices.
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.config.name = org.apache.hadoop.metrics2.impl.MetricsConfig
logger.config.level = error
logger.client.name = org.apache.spark.deploy.k8s.SparkKubernetesClientFactory
logger.client.level = error
";
