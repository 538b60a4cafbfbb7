//! The Spark configuration and command lines of a job: pure generation, no files, no processes.
//!
//! The driver is Spark's own `SparkSubmit` in client mode, started as a JVM of its own: no launcher JVM, no shell. Its
//! executors come from the pods API. What would break the isolation or the platform is the platform's to say, and a
//! user's properties file cannot change it. Start at [`driver`].

mod conf;
mod properties;
#[cfg(test)]
pub(crate) mod tests;
mod waiting;

use model::{JobSpec, Placement, Program, Sizing};

pub(crate) use conf::xml;
pub use conf::{ConfFile, REPORTS, conf_files, overridden, unsupported};
pub(crate) use waiting::asked_options;
pub use waiting::{handover, waiting_driver, waiting_executor, waiting_files};

use crate::{Installed, pods::PodWish};

/// What the generation needs to know of a job.
#[derive(Clone, Copy)]
pub struct DriverContext<'a> {
    /// Its specification.
    pub spec: &'a JobSpec,
    /// Its engine.
    pub engine: &'a Installed,
    /// Its id, which names its executors.
    pub job_id: model::JobId,
    /// Its access key for object storage.
    pub access_key: &'a str,
    /// The secret of that key.
    pub secret_key: &'a str,
    /// The region of the object store.
    pub region: &'a str,
    /// The object gate, as the job reaches it: `http://127.0.0.1:9000`.
    pub objects_url: &'a str,
    /// The pods API, as the job reaches it: `http://127.0.0.1:9001`.
    pub pods_url: &'a str,
    /// What driver and executors know each other by. Random, of this attempt only.
    pub rpc_secret: &'a str,
    /// Whether the job brings a packed environment, unpacked as [`PACKED`] of `/conf`, whose Python it is run by.
    pub packed: bool,
    /// JARs of the packages that it asks for, in the directory [`JARS`] of `/conf`.
    pub jars: &'a [String],
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where in it the main class stands: before it the JVM and its options, behind it the arguments.
    pub main: usize,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
}

/// The driver's process.
pub fn driver(context: &DriverContext) -> Launch {
    let spec = context.spec;
    let mut argv = driver_jvm(context.engine, spec.placement, &spec.sizing);
    let main = argv.len();
    argv.extend([SPARK_SUBMIT, "--properties-file", "/conf/spark-defaults.conf"].map(str::to_owned));
    match &spec.program {
        Program::Java { jar, main_class } => {
            argv.extend(["--class".to_owned(), main_class.clone(), format!("{WORK}/{jar}")]);
        }
        Program::Python { file } if file.ends_with(".py") => argv.push(format!("{WORK}/{file}")),
        // SparkSubmit knows a Python program by its extension; the old client takes whatever is no JAR for one.
        Program::Python { file } => {
            argv.extend(["--class", PYTHON_RUNNER, "spark-internal"].map(str::to_owned));
            argv.extend([format!("{WORK}/{file}"), String::new()]);
        }
    }
    argv.extend(spec.arguments.iter().cloned());
    let mut env = environment(context.engine, context.region, context.objects_url);
    if context.packed {
        // Executors start the Python that the driver names; the driver's own program runs it too.
        for (_, value) in env.iter_mut().filter(|(name, _)| name == "PYSPARK_PYTHON") {
            *value = format!("/conf/{PACKED}/bin/python");
        }
    }
    Launch { argv, main, env, cwd: WORK.to_owned() }
}

/// The JVM of a driver with its options, up to the main class.
fn driver_jvm(engine: &Installed, placement: Placement, sizing: &Sizing) -> Vec<String> {
    let mut argv = java(engine, driver_archive(placement));
    argv.push(format!("-Xmx{}m", sizing.driver.memory.0));
    argv.extend(conf::MODULE_OPTIONS.iter().map(|option| (*option).to_owned()));
    argv.extend(["@/conf/driver.args", CLASS_PATH].map(str::to_owned));
    argv
}

/// An executor's process, as `wish` asks for it. Needs nothing that the job can say beside the wish.
pub fn executor(wish: &PodWish, engine: &Installed, sizing: &Sizing, region: &str, objects_url: &str) -> Launch {
    let variable = |name: &str| wish.variable(name).unwrap_or_default().to_owned();
    let mut argv = executor_jvm(engine, sizing, &waiting::options(wish), &variable("SPARK_EXECUTOR_MEMORY"));
    let main = argv.len();
    argv.push(EXECUTOR_BACKEND.to_owned());
    for (flag, name) in [
        ("--driver-url", "SPARK_DRIVER_URL"),
        ("--executor-id", "SPARK_EXECUTOR_ID"),
        ("--cores", "SPARK_EXECUTOR_CORES"),
        ("--app-id", "SPARK_APPLICATION_ID"),
        ("--hostname", "SPARK_EXECUTOR_POD_IP"),
        ("--resourceProfileId", "SPARK_RESOURCE_PROFILE_ID"),
        ("--podName", "SPARK_EXECUTOR_POD_NAME"),
    ] {
        argv.extend([flag.to_owned(), variable(name)]);
    }
    let ours = environment(engine, region, objects_url);
    // What the arguments say stands nowhere else: a JVM that waits for its job had its environment before its arguments.
    let said = |name: &str| ARGUMENTS.contains(&name) || ARGUMENT_PREFIXES.iter().any(|known| name.starts_with(known));
    let taken = |name: &str| ours.iter().any(|(known, _)| known == name) || said(name);
    let mut env: Vec<(String, String)> = wish.env.iter().filter(|(name, _)| !taken(name)).cloned().collect();
    env.extend(ours);
    Launch { argv, main, env, cwd: WORK.to_owned() }
}

/// The JVM of an executor with its options, `asked` those that Spark asks for, up to the main class.
fn executor_jvm(engine: &Installed, sizing: &Sizing, asked: &[&str], memory: &str) -> Vec<String> {
    let mut argv = java(engine, "executor");
    if conf::prefers_serial(sizing.executor, asked.iter().copied()) {
        argv.push("-XX:+UseSerialGC".to_owned());
    }
    argv.extend(conf::MODULE_OPTIONS.iter().filter(|known| !asked.contains(*known)).map(|known| (*known).to_owned()));
    argv.extend(asked.iter().map(|option| (*option).to_owned()));
    // An executor reads the secret from its file only where it sees that its master is a Kubernetes one.
    argv.push("-Dspark.master=k8s://casemate".to_owned());
    argv.push(format!("-Xmx{memory}"));
    argv.push(CLASS_PATH.to_owned());
    argv
}

/// The name of the class-data archive of a driver's JVM: one that does all of the work loads what an executor loads too.
pub(crate) fn driver_archive(placement: Placement) -> &'static str {
    match placement {
        Placement::Cluster => "driver",
        Placement::Single => "single",
    }
}

/// The JVM and the options that the platform gives it.
fn java(engine: &Installed, node: &str) -> Vec<String> {
    let mut argv = vec![format!("{}/bin/java", engine.java_home.display())];
    if engine.archives {
        argv.push(format!("-XX:SharedArchiveFile={SPARK_HOME}/cds/{node}.jsa"));
        // An archive that does not fit (another Java, another order of JARs) is passed over, silently.
        argv.extend(["-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr"].map(str::to_owned));
    }
    // No shared file in /tmp, and none of a crash where nobody reads it.
    argv.extend(["-XX:-UsePerfData", "-XX:ErrorFile=/dev/stderr", "-XX:+ExitOnOutOfMemoryError"].map(str::to_owned));
    argv
}

/// What is in the file [`CLASS_PATH`]. The configuration comes last: an archive holds no directory, and a class
/// path may go on after what the archive was made with.
pub(crate) fn class_path_file(jars: &[String], directories: bool) -> String {
    let mut entries: Vec<String> = jars.iter().map(|jar| format!("{SPARK_HOME}/jars/{jar}")).collect();
    if directories {
        entries.push("/conf".to_owned());
    }
    format!("-cp\n{}\n", entries.join(":"))
}

fn environment(engine: &Installed, region: &str, objects_url: &str) -> Vec<(String, String)> {
    let java_home = engine.java_home.display().to_string();
    [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("JAVA_HOME", java_home.as_str()),
        ("SPARK_HOME", SPARK_HOME),
        ("SPARK_CONF_DIR", "/conf"),
        ("SPARK_LOCAL_DIRS", "/scratch"),
        ("SPARK_LOCAL_IP", "127.0.0.1"),
        ("SPARK_USER", "spark"),
        ("HADOOP_USER_NAME", "spark"),
        ("PYSPARK_PYTHON", "/usr/bin/python3"),
        ("PYSPARK_DRIVER_PYTHON", "/conf/driver-python"),
        ("PYTHONPATH", "/work:/conf/packages:/opt/spark/python"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        // For SDKs beside Spark, such as boto3. The key itself stands in a file, never in an environment.
        ("AWS_SHARED_CREDENTIALS_FILE", "/conf/credentials"),
        ("AWS_ENDPOINT_URL", objects_url),
        ("AWS_REGION", region),
        ("AWS_DEFAULT_REGION", region),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Where below `/conf` a packed environment is.
pub const PACKED: &str = "environment";
/// Where below `/conf` the modules of an environment that the service made are.
pub const PACKAGES: &str = "packages";
/// Where below `/conf` the JARs of the packages that a job asks for are.
pub const JARS: &str = "jars";

/// Where containers see their engine.
pub(crate) const SPARK_HOME: &str = "/opt/spark";
/// The class path as `java` reads it from a file: its order is the order of the class-data archives, and 250 JARs are no
/// command line that people can read.
const CLASS_PATH: &str = "@/opt/spark/cds/classpath";
const WORK: &str = "/work";
const SPARK_SUBMIT: &str = "org.apache.spark.deploy.SparkSubmit";
const PYTHON_RUNNER: &str = "org.apache.spark.deploy.PythonRunner";
/// Variables of a wish that are arguments of an executor, or its options.
const ARGUMENTS: [&str; 8] = [
    "SPARK_DRIVER_URL",
    "SPARK_EXECUTOR_ID",
    "SPARK_EXECUTOR_CORES",
    "SPARK_EXECUTOR_MEMORY",
    "SPARK_APPLICATION_ID",
    "SPARK_RESOURCE_PROFILE_ID",
    "SPARK_EXECUTOR_POD_IP",
    "SPARK_EXECUTOR_POD_NAME",
];
const ARGUMENT_PREFIXES: [&str; 2] = ["SPARK_JAVA_OPT_", "SPARK_EXECUTOR_ATTRIBUTE_"];
const EXECUTOR_BACKEND: &str = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend";
