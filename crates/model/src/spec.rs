//! What a job is asked to be: the submit request as it came, and the specification that it parses to (JOB-1, JOB-3).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{
    After, AfterEnd, BucketName, Cores, EngineVersion, Faults, MiB, NodeSize, Placement, Region, Retired, Retry,
    RetryCause, Sizing, StorageAccess, Ttl,
};

/// A submit request as the client sent it: texts, nothing checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// `name`; a name is made when it is empty.
    pub name: Option<String>,
    /// `region`.
    pub region: Option<String>,
    /// `engine`.
    pub engine: Option<String>,
    /// `engineVersion`.
    pub engine_version: Option<String>,
    /// `containerName`: the bucket of the job's code.
    pub container_name: Option<String>,
    /// `ttl`.
    pub ttl: Option<String>,
    /// `engineParameters`, in order.
    pub parameters: Vec<EngineParameter>,
}

/// One of `engineParameters`: both are text on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineParameter {
    /// Its name, one of [`PARAMETERS`].
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What the service offers, which a request is checked against.
#[derive(Debug, Clone, Default)]
pub struct SpecRules {
    /// The regions of this service.
    pub regions: Vec<Region>,
    /// Engine versions that may be chosen now, oldest first.
    pub versions: Vec<EngineVersion>,
    /// Installed ones that may not.
    pub retired: Vec<Retired>,
}

/// A specification that is whole and within bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name, for people.
    pub name: String,
    /// Where it runs.
    pub region: Region,
    /// The Spark version it runs on.
    pub version: EngineVersion,
    /// The bucket of its code.
    pub bucket: BucketName,
    /// What it runs.
    pub program: Program,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// How large it is, as it is placed: a job in one container has no executors.
    pub sizing: Sizing,
    /// How its work is spread.
    #[serde(default)]
    pub placement: Placement,
    /// Maven coordinates of packages.
    pub packages: Vec<String>,
    /// Maven repositories beside the service's first one, of those that it allows.
    pub repositories: Vec<String>,
    /// Key in the bucket of a Spark properties file.
    pub properties_file: Option<String>,
    /// Key in the bucket of what the Python environment is made from; of a Python job alone.
    #[serde(default)]
    pub environment: Option<String>,
    /// What of the project's storage it may use beside its code; `None` is all of it.
    #[serde(default)]
    pub storage_access: Option<Vec<StorageAccess>>,
    /// How long it may run.
    pub ttl: Option<Ttl>,
    /// When it is tried again after an attempt that ended badly; never, unless asked for.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// The job that it runs after, if any.
    #[serde(default)]
    pub after: Option<After>,
    /// The parameters as given, to be shown again.
    pub parameters: Vec<EngineParameter>,
}

/// What a job runs; keys are in the job's bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Program {
    /// A JAR of Java or Scala code.
    Java {
        /// Key of the JAR.
        jar: String,
        /// Class whose `main` is run.
        main_class: String,
    },
    /// A Python program.
    Python {
        /// Key of the main file.
        file: String,
    },
}

impl Program {
    /// Key of the main file in the job's bucket.
    pub fn main_file(&self) -> &str {
        match self {
            Program::Java { jar, .. } => jar,
            Program::Python { file } => file,
        }
    }
}

/// A parameter of the engine, as `capabilities` describes it.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name on the wire.
    pub name: &'static str,
    /// `string`, `long` or `enum`.
    pub kind: &'static str,
    /// Whether a job must have it.
    pub mandatory: bool,
    /// What counts when it is not given.
    pub default: Option<&'static str>,
    /// What it means.
    pub description: &'static str,
    /// Lowest value of a number.
    pub min: Option<u64>,
    /// Highest value of a number.
    pub max: Option<u64>,
    /// Regular expression that a text must match, for clients to show.
    pub regex: Option<&'static str>,
}

const fn text(name: &'static str, mandatory: bool, description: &'static str) -> Parameter {
    Parameter { name, kind: "string", mandatory, default: None, description, min: None, max: None, regex: None }
}

const fn number(
    name: &'static str,
    default: Option<&'static str>,
    min: u64,
    max: u64,
    description: &'static str,
) -> Parameter {
    Parameter {
        name,
        kind: "long",
        mandatory: false,
        default,
        description,
        min: Some(min),
        max: Some(max),
        regex: None,
    }
}

/// Every parameter of the Spark engine. What is not here is refused by name.
pub const PARAMETERS: [Parameter; 24] = [
    Parameter {
        kind: "enum",
        regex: Some("^(java|python)$"),
        ..text("job_type", true, "What the main file is: java (Java and Scala) or python")
    },
    text("main_class_name", false, "Class whose main method is run; needed for java"),
    text("main_application_code", true, "Path of the main file in the container"),
    text("arguments", false, "Arguments of the program, separated by commas"),
    text("arguments_json", false, "Arguments of the program as a JSON list of strings, for arguments that hold commas"),
    number("driver_cores", Some("1"), 1, MAX_CORES, "Cores of the driver"),
    number("executor_cores", Some("1"), 1, MAX_CORES, "Cores of each executor"),
    number("driver_memory", Some("1024"), MIN_HEAP, MAX_NODE, "Memory of the driver, MiB"),
    number("executor_memory", Some("1024"), MIN_HEAP, MAX_NODE, "Memory of each executor, MiB"),
    number(
        "driver_memory_overhead",
        None,
        MIN_OVERHEAD,
        MAX_NODE,
        "Memory of the driver beside its heap, MiB; default max(384, memory/10)",
    ),
    number(
        "executor_memory_overhead",
        None,
        MIN_OVERHEAD,
        MAX_NODE,
        "Memory of each executor beside its heap, MiB; default max(384, memory/10)",
    ),
    number("executor_num", Some("1"), 1, 10, "Number of executors"),
    Parameter {
        kind: "enum",
        default: Some("cluster"),
        regex: Some("^(cluster|single|auto)$"),
        ..text(
            "placement",
            false,
            "cluster: driver and executors apart; single: one container with the cores and memory of all, which starts sooner; auto: single where all fit into one node",
        )
    },
    text("packages", false, "Maven coordinates group:artifact:version, separated by commas"),
    text(
        "repositories",
        false,
        "Maven repositories beside the service's first one, of those that it allows, separated by commas",
    ),
    text("properties_file", false, "Path in the container of a Spark properties file"),
    text(
        "environment",
        false,
        "Path in the container of what the Python environment is made from: environment.yml, requirements.txt, or a packed one (.tar.gz); one of the first two beside the main file if not given",
    ),
    text(
        "storage_access",
        false,
        "What of the project's storage the job may use beside reading its container: ro:BUCKET/PREFIX or rw:BUCKET/PREFIX, separated by commas; all of it if not given",
    ),
    number(
        "retry_attempts",
        None,
        0,
        10,
        "How many more attempts there may be after one that ended by a cause of retry_on",
    ),
    text(
        "retry_on",
        false,
        "Causes to try again after, separated by commas: platform, failed, out_of_memory, out_of_disk; platform if not given",
    ),
    number(
        "retry_backoff",
        None,
        1,
        3600,
        "Seconds to wait before the second attempt, doubled before each further one; 30 if not given",
    ),
    number(
        "retry_reset",
        None,
        60,
        2_592_000,
        "An attempt that ran so many seconds gives the retries back that were used before it; they stay used if not given",
    ),
    text("run_after", false, "Id of a job of the project that has to end before this one starts"),
    Parameter {
        kind: "enum",
        default: Some("completed"),
        regex: Some("^(completed|failed|ended)$"),
        ..text(
            "run_after_condition",
            false,
            "How that job has to end: completed, failed (or was cancelled), ended (in any way)",
        )
    },
];

impl JobSpec {
    /// Parses a request against what the service offers. All faults are found, not only the first.
    pub fn parse(request: &JobRequest, rules: &SpecRules) -> Result<JobSpec, Faults> {
        let mut faults = Faults::default();
        let name = parse_name(request.name.as_deref(), &mut faults);
        let region = parse_region(request.region.as_deref(), rules, &mut faults);
        match request.engine.as_deref() {
            None | Some("spark") => {}
            other => faults.add("engine", other, "odp.job.engine.unsupportedValue", "the engine offered is spark"),
        }
        let version = parse_version(request.engine_version.as_deref(), rules, &mut faults);
        let bucket = match request.container_name.as_deref().filter(|text| !text.is_empty()) {
            None => {
                faults.add(
                    "containerName",
                    None,
                    "odp.job.containerName.fieldMissing",
                    "the bucket of the job's code is missing",
                );
                None
            }
            Some(text) => text
                .parse::<BucketName>()
                .map_err(|fault| faults.add("containerName", Some(text), "odp.job.containerName.invalid", fault.rule))
                .ok(),
        };
        let ttl = request.ttl.as_deref().filter(|text| !text.is_empty()).and_then(|text| {
            text.parse::<Ttl>().map_err(|fault| faults.add("ttl", Some(text), "odp.job.ttl.invalid", fault.rule)).ok()
        });
        let given = Given::read(&request.parameters, &mut faults);
        let (placement, sizing) = given.placement(given.sizing(&mut faults), &mut faults);
        let program = given.program(&mut faults);
        let arguments = given.arguments(&mut faults);
        let properties_file = given.key("properties_file", &mut faults);
        let environment = given.environment(&mut faults);
        let packages =
            given.list("packages", &mut faults, is_coordinate, "group:artifact:version, of letters, digits and ._+-");
        let repositories = given.list(
            "repositories",
            &mut faults,
            |item| item.starts_with("https://"),
            "addresses that begin with https://",
        );
        let storage_access = given.storage_access(&mut faults);
        let retry = given.retry(&mut faults);
        let after = given.after(&mut faults);
        let parts = (region, version, bucket, program);
        let (Some(region), Some(version), Some(bucket), Some(program)) = parts else {
            return Err(faults);
        };
        faults.or(JobSpec {
            name,
            region,
            version,
            bucket,
            program,
            arguments,
            sizing,
            placement,
            packages,
            repositories,
            properties_file,
            environment,
            storage_access,
            ttl,
            retry,
            after,
            parameters: request.parameters.clone(),
        })
    }
}

fn parse_name(given: Option<&str>, faults: &mut Faults) -> String {
    let name = given.unwrap_or_default().trim();
    if name.chars().count() > 128 || name.chars().any(char::is_control) {
        faults.add(
            "name",
            Some(name),
            "odp.job.name.invalid",
            "at most 128 characters, none of them a control character",
        );
    }
    if name.is_empty() { "job".to_owned() } else { name.to_owned() }
}

fn parse_region(given: Option<&str>, rules: &SpecRules, faults: &mut Faults) -> Option<Region> {
    let found = match given.filter(|text| !text.is_empty()) {
        None => rules.regions.first().cloned(),
        Some(text) => rules.regions.iter().find(|region| region.as_str().eq_ignore_ascii_case(text)).cloned(),
    };
    if found.is_none() {
        let message = match rules.regions.as_slice() {
            [home] => format!("the project is in {home}: its jobs run there and nowhere else"),
            regions => format!("the regions offered are {}", join(regions)),
        };
        faults.add("region", given, "odp.job.region.unsupportedRegion", message);
    }
    found
}

fn parse_version(given: Option<&str>, rules: &SpecRules, faults: &mut Faults) -> Option<EngineVersion> {
    let found = match given.filter(|text| !text.is_empty()) {
        None => rules.versions.last().cloned(),
        Some(text) => rules.versions.iter().find(|version| version.as_str() == text).cloned(),
    };
    if found.is_none() {
        let retired = rules.retired.iter().find(|retired| given == Some(retired.version.as_str()));
        let (class, message) = match retired {
            Some(retired) => (retired.cause.class(), retired.why.clone()),
            None if !rules.versions.is_empty() => {
                (UNKNOWN_VERSION, format!("the versions offered are {}", join(&rules.versions)))
            }
            None if !rules.retired.is_empty() => (UNKNOWN_VERSION, "no version is offered now".to_owned()),
            None => (UNKNOWN_VERSION, "no engine is installed: `casemate engine install` installs one".to_owned()),
        };
        faults.add("engineVersion", given, class, message);
    }
    found
}

fn join<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The parameters by name, each known and given once.
struct Given<'a>(HashMap<&'static str, &'a str>);

impl<'a> Given<'a> {
    fn read(parameters: &'a [EngineParameter], faults: &mut Faults) -> Self {
        let mut known = HashMap::new();
        if parameters.len() > MOST_PARAMETERS {
            let message = format!("at most {MOST_PARAMETERS} parameters");
            faults.add("engineParameters", None, "odp.job.engineParameters.tooMany", message);
            return Self(known);
        }
        if parameters.iter().map(|parameter| parameter.value.len()).sum::<usize>() > MAX_VALUES {
            let message = format!("at most {MAX_VALUES} bytes of values together");
            faults.add("engineParameters", None, "odp.job.engineParameters.tooLong", message);
        }
        for EngineParameter { name, value } in parameters {
            match PARAMETERS.iter().find(|parameter| parameter.name == name) {
                None => {
                    let names = PARAMETERS.map(|parameter| parameter.name).join(", ");
                    faults.add(
                        name,
                        Some(value),
                        "odp.job.engineParameters.unknown",
                        format!("no such parameter; known: {names}"),
                    );
                }
                Some(parameter) if known.insert(parameter.name, value.as_str()).is_some() => {
                    faults.add(name, Some(value), "odp.job.engineParameters.duplicate", "given more than once");
                }
                Some(_) if value.len() > MAX_VALUE => {
                    faults.add(
                        name,
                        Some(value),
                        "odp.job.engineParameters.tooLong",
                        format!("at most {MAX_VALUE} bytes"),
                    );
                }
                Some(_) if value.contains('\0') => {
                    faults.add(
                        name,
                        Some(value),
                        "odp.job.engineParameters.invalid",
                        "a NUL character is not possible here",
                    );
                }
                Some(_) => {}
            }
        }
        Self(known)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied().map(str::trim).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &'static str, faults: &mut Faults) -> Option<u64> {
        let parameter = PARAMETERS.iter().find(|parameter| parameter.name == name)?;
        let (min, max) = (parameter.min.unwrap_or(0), parameter.max.unwrap_or(u64::MAX));
        let text = self.get(name).or(parameter.default)?;
        let number = text.parse::<u64>().ok();
        if let Some(number) = number.filter(|number| (min..=max).contains(number)) {
            return Some(number);
        }
        // A number too large for the type is still a number, and too big.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let kind = match number {
            Some(number) if number < min => "tooSmall",
            None if !digits => "invalid",
            _ => "tooBig",
        };
        let class = format!("odp.job.{}.{kind}", camel_case(name));
        faults.add(name, Some(text), &class, format!("a whole number from {min} to {max}"));
        None
    }

    fn sizing(&self, faults: &mut Faults) -> Sizing {
        let driver = self.node("driver", faults);
        let executor = self.node("executor", faults);
        let executors = self.number("executor_num", faults).unwrap_or(1);
        Sizing { driver, executor, executors: u32::try_from(executors).unwrap_or(1) }
    }

    /// How the work is spread, and the sizing as it is placed.
    fn placement(&self, spread: Sizing, faults: &mut Faults) -> (Placement, Sizing) {
        let one = spread.gathered();
        let fits = u64::from(one.driver.cores.0) <= MAX_CORES && one.driver.total_memory().0 <= MAX_NODE;
        match self.get("placement") {
            None | Some("cluster") => (Placement::Cluster, spread),
            Some("auto") if !fits => (Placement::Cluster, spread),
            Some("auto" | "single") if fits => (Placement::Single, one),
            Some("single") => {
                let message = format!(
                    "driver and executors together have {} cores and {}; one container has at most {MAX_CORES} cores and {MAX_NODE} MiB",
                    one.driver.cores,
                    one.driver.total_memory()
                );
                faults.add("placement", Some("single"), "odp.job.placement.tooBig", message);
                (Placement::Cluster, spread)
            }
            other => {
                faults.add("placement", other, "odp.job.placement.unsupportedValue", "cluster, single or auto");
                (Placement::Cluster, spread)
            }
        }
    }

    fn node(&self, role: &'static str, faults: &mut Faults) -> NodeSize {
        let names = match role {
            "driver" => ["driver_cores", "driver_memory", "driver_memory_overhead"],
            _ => ["executor_cores", "executor_memory", "executor_memory_overhead"],
        };
        let cores = self.number(names[0], faults);
        let memory = self.number(names[1], faults);
        let overhead_given = self.get(names[2]).is_some();
        let overhead = self.number(names[2], faults);
        let heap = MiB(memory.unwrap_or(MIN_HEAP));
        let size = NodeSize {
            cores: Cores(cores.and_then(|n| u32::try_from(n).ok()).unwrap_or(1)),
            memory: heap,
            overhead: overhead.map_or_else(|| NodeSize::default_overhead(heap), MiB),
        };
        let checked = memory.is_some() && (overhead.is_some() || !overhead_given);
        let total = size.total_memory().0;
        if checked && !(MIN_NODE..=MAX_NODE).contains(&total) {
            let kind = if total > MAX_NODE { "tooBig" } else { "tooSmall" };
            let class = match role {
                "driver" => format!("odp.job.totalDriverMemory.{kind}"),
                _ => format!("odp.job.totalExecutorMemory.{kind}"),
            };
            let message = format!(
                "with its overhead of {} MiB that is {total} MiB; {MIN_NODE} to {MAX_NODE} MiB are possible",
                size.overhead.0
            );
            faults.add(names[1], Some(&heap.0.to_string()), &class, message);
        }
        size
    }

    /// `None` where no retry was asked for.
    fn retry(&self, faults: &mut Faults) -> Option<Retry> {
        let attempts = self.number("retry_attempts", faults);
        let backoff = self.number("retry_backoff", faults).unwrap_or(DEFAULT_BACKOFF);
        let reset = self.number("retry_reset", faults).map(std::time::Duration::from_secs);
        let mut causes = Vec::new();
        for word in self.get("retry_on").unwrap_or("platform").split(',').map(str::trim) {
            match word.parse::<RetryCause>() {
                Ok(cause) if !causes.contains(&cause) => causes.push(cause),
                Ok(_) => {}
                Err(()) => {
                    let known = RetryCause::ALL.map(RetryCause::as_str).join(", ");
                    faults.add("retry_on", Some(word), "odp.job.retryOn.invalid", format!("the causes are {known}"));
                }
            }
        }
        let attempts = u32::try_from(attempts?).ok().filter(|attempts| *attempts > 0)?;
        Some(Retry { attempts, causes, backoff: std::time::Duration::from_secs(backoff), reset })
    }

    fn after(&self, faults: &mut Faults) -> Option<After> {
        let word = self.get("run_after_condition");
        let ended = word.unwrap_or("completed").parse::<AfterEnd>();
        if ended.is_err() {
            let message = "completed, failed or ended";
            faults.add("run_after_condition", word, "odp.job.runAfterCondition.unsupportedValue", message);
        }
        let Some(text) = self.get("run_after") else {
            if word.is_some() {
                let message = "there is no run_after that it is a condition of";
                faults.add("run_after_condition", word, "odp.job.runAfterCondition.invalid", message);
            }
            return None;
        };
        let job = text.parse::<crate::JobId>().map_err(|fault| {
            faults.add("run_after", Some(text), "odp.job.runAfter.invalid", fault.rule);
        });
        Some(After { job: job.ok()?, ended: ended.ok()? })
    }

    fn program(&self, faults: &mut Faults) -> Option<Program> {
        let file = self.key("main_application_code", faults);
        if file.is_none() && self.get("main_application_code").is_none() {
            faults.add(
                "main_application_code",
                None,
                "odp.job.main_application_code.fieldMissing",
                "the path of the main file is missing",
            );
        }
        let main_class = self.get("main_class_name");
        match self.get("job_type") {
            Some("java") => {
                let valid = main_class.filter(|class| is_class_name(class));
                match (main_class, valid) {
                    (None, _) => faults.add(
                        "main_class_name",
                        None,
                        "odp.job.main_class_name.fieldMissing",
                        "a java job needs its main class",
                    ),
                    (Some(class), None) => faults.add(
                        "main_class_name",
                        Some(class),
                        "odp.job.main_class_name.invalid",
                        "a Java class name such as com.example.Main",
                    ),
                    _ => {}
                }
                Some(Program::Java { jar: file?, main_class: valid?.to_owned() })
            }
            Some("python") => Some(Program::Python { file: file? }),
            other => {
                let class =
                    if other.is_some() { "odp.job.job_type.unsupportedValue" } else { "odp.job.job_type.fieldMissing" };
                faults.add("job_type", other, class, "java or python");
                None
            }
        }
    }

    fn arguments(&self, faults: &mut Faults) -> Vec<String> {
        let list = match (self.get("arguments"), self.get("arguments_json")) {
            (Some(text), None) => text.split(',').map(|argument| argument.trim().to_owned()).collect(),
            (None, Some(text)) => match serde_json::from_str::<Vec<String>>(text) {
                Ok(list) => list,
                Err(_) => {
                    faults.add(
                        "arguments_json",
                        Some(text),
                        "odp.job.arguments_json.invalid",
                        "a JSON list of strings",
                    );
                    Vec::new()
                }
            },
            (Some(_), Some(text)) => {
                faults.add(
                    "arguments_json",
                    Some(text),
                    "odp.job.engineParameters.duplicate",
                    "give either arguments or arguments_json",
                );
                Vec::new()
            }
            (None, None) => Vec::new(),
        };
        if list.iter().any(|argument| argument.contains('\0')) {
            faults.add(
                "arguments_json",
                None,
                "odp.job.arguments_json.invalid",
                "a NUL character is not possible in an argument",
            );
        }
        list
    }

    /// A key of the job's bucket: relative, no part of it `.` or `..`. The old client's address form
    /// `swift://container/path` is taken apart by that client; only the path comes here.
    fn key(&self, name: &'static str, faults: &mut Faults) -> Option<String> {
        let given = self.get(name)?;
        let key = given.trim_start_matches('/');
        let good = !key.is_empty()
            && key.len() <= 1024
            && !key.ends_with('/')
            && !key.chars().any(char::is_control)
            && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !good {
            let class = format!("odp.job.{name}.invalid");
            faults.add(name, Some(given), &class, "a path in the container such as code/main.py");
        }
        good.then(|| key.to_owned())
    }

    /// What of a Python job's own environment is in the bucket.
    fn environment(&self, faults: &mut Faults) -> Option<String> {
        let key = self.key("environment", faults)?;
        let mut refuse = |class: &str, why: &str| faults.add("environment", Some(&key), class, why);
        if self.get("job_type") == Some("java") {
            refuse("odp.job.environment.notPython", "an environment is of a python job; a java job has its JARs");
        }
        if ![".tar.gz", ".tgz", ".txt", ".yml", ".yaml"].iter().any(|ending| key.ends_with(ending)) {
            let why = "a file that ends in .txt (requirements), .yml, .yaml (conda), .tar.gz or .tgz (packed)";
            refuse("odp.job.environment.invalid", why);
        }
        Some(key)
    }

    fn storage_access(&self, faults: &mut Faults) -> Option<Vec<StorageAccess>> {
        let good = |item: &str| item.parse::<StorageAccess>().is_ok();
        let items = self.list("storage_access", faults, good, "ro:BUCKET/PREFIX or rw:BUCKET/PREFIX");
        if items.len() > MOST_ACCESSES {
            let message = format!("at most {MOST_ACCESSES} places");
            faults.add("storage_access", None, "odp.job.storage_access.tooMany", message);
        }
        if items.iter().map(String::len).sum::<usize>() > MOST_OF_ACCESSES {
            let message = format!("at most {MOST_OF_ACCESSES} bytes together");
            faults.add("storage_access", None, "odp.job.storage_access.tooLong", message);
        }
        let accesses: Vec<StorageAccess> = items.iter().filter_map(|item| item.parse().ok()).collect();
        self.get("storage_access").map(|_| accesses)
    }

    fn list(&self, name: &'static str, faults: &mut Faults, good: fn(&str) -> bool, rule: &str) -> Vec<String> {
        let items: Vec<String> = self
            .get(name)
            .unwrap_or_default()
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect();
        if let Some(bad) = items.iter().find(|item| !good(item)) {
            let class = format!("odp.job.{name}.invalid");
            faults.add(name, Some(bad), &class, format!("a comma separated list of {rule}"));
        }
        items
    }
}

/// Whether it is a Maven coordinate with a version, which no path and no pattern can be made of.
fn is_coordinate(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let good =
        |part: &&str| !part.is_empty() && !part.starts_with('.') && !part.contains("..") && part.chars().all(plain);
    text.len() <= 512 && parts.len() == 3 && parts.iter().all(good)
}

fn is_class_name(text: &str) -> bool {
    text.len() <= 512
        && text.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with(|c: char| c.is_ascii_digit())
                && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$')
        })
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

const UNKNOWN_VERSION: &str = "odp.job.engineVersion.unsupportedValue";
const MAX_CORES: u64 = 16;
/// Spark refuses a driver or executor heap under 1.5 x 300 MiB of reserved memory (`UnifiedMemoryManager`).
const MIN_HEAP: u64 = 512;
const MIN_OVERHEAD: u64 = 128;
const MIN_NODE: u64 = 1024;
const MAX_NODE: u64 = 59 * 1024;
const DEFAULT_BACKOFF: u64 = 30;
const MOST_PARAMETERS: usize = 64;
/// As many and as long as a policy holds (`identity::job_policy`).
const MOST_ACCESSES: usize = 16;
const MOST_OF_ACCESSES: usize = 1024;
const MAX_VALUE: usize = 64 * 1024;
/// A page of jobs holds a thousand of them.
const MAX_VALUES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_placed_in_one_container_where_it_fits_and_only_when_it_is_asked_for() {
        let placed = |placement: &[(&str, &str)], executors: &str| {
            let code = [("job_type", "python"), ("main_application_code", "a.py"), ("executor_num", executors)];
            let size = [("executor_cores", "4"), ("executor_memory", "4096")];
            let parameters = [&code[..], &size[..], placement].concat();
            JobSpec::parse(&request(&parameters), &rules()).map(|spec| (spec.placement, spec.sizing.executors))
        };
        assert_eq!(placed(&[], "2"), Ok((Placement::Cluster, 2)));
        assert_eq!(placed(&[("placement", "single")], "3"), Ok((Placement::Single, 0)));
        assert_eq!(placed(&[("placement", "auto")], "3"), Ok((Placement::Single, 0)));
        assert_eq!(placed(&[("placement", "auto")], "4"), Ok((Placement::Cluster, 4)), "17 cores");
        for (word, executors, kind) in [("single", "4", "tooBig"), ("local", "1", "unsupportedValue")] {
            let faults = placed(&[("placement", word)], executors).expect_err("a fault");
            assert!(format!("{faults:?}").contains(&format!("odp.job.placement.{kind}")), "{faults:?}");
        }
    }

    fn rules() -> SpecRules {
        SpecRules {
            regions: vec!["GRA".parse().expect("a region")],
            versions: vec!["3.5.9".parse().expect("a version"), "4.3.0".parse().expect("a version")],
            retired: vec![Retired {
                version: "3.4.4".parse().expect("a version"),
                cause: crate::RetiredBy::EndOfLife,
                why: "its life ended on 2026-01-01: use 3.5.9".to_owned(),
            }],
        }
    }

    #[test]
    fn a_version_that_is_not_offered_any_more_is_refused_with_the_one_to_use() {
        let ask = |version: &str| {
            let request = JobRequest { engine_version: Some(version.to_owned()), ..request(&PYTHON) };
            let faults = JobSpec::parse(&request, &rules()).expect_err("a fault");
            (faults.0[0].class.clone(), faults.0[0].message.clone())
        };
        let ended = "odp.job.engineVersion.endOfLife".to_owned();
        assert_eq!(ask("3.4.4"), (ended, "its life ended on 2026-01-01: use 3.5.9".to_owned()));
        let unknown = "odp.job.engineVersion.unsupportedValue".to_owned();
        assert_eq!(ask("2.4.3"), (unknown, "the versions offered are 3.5.9, 4.3.0".to_owned()));
    }

    fn request(parameters: &[(&str, &str)]) -> JobRequest {
        JobRequest {
            container_name: Some("code".into()),
            parameters: parameters
                .iter()
                .map(|(name, value)| EngineParameter { name: (*name).into(), value: (*value).into() })
                .collect(),
            ..JobRequest::default()
        }
    }

    const PYTHON: [(&str, &str); 2] = [("job_type", "python"), ("main_application_code", "main.py")];

    fn parse(extra: &[(&str, &str)]) -> Result<JobSpec, Faults> {
        JobSpec::parse(&request(&[&PYTHON[..], extra].concat()), &rules())
    }

    #[test]
    fn what_has_a_good_default_need_not_be_given() {
        let spec = parse(&[]).expect("valid");
        assert_eq!(spec.version.as_str(), "4.3.0");
        assert_eq!(spec.sizing.executors, 1);
        assert_eq!(spec.sizing.driver.total_memory(), MiB(1024 + 384));
        assert_eq!(spec.sizing.driver.storage(), MiB::gib(8));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let mut wrong = request(&[
            ("job_type", "java"),
            ("main_application_code", "../x.jar"),
            ("driver_cores", "17"),
            ("executor_cores", "0"),
            ("executor_memory", "99999999999999999999999"),
            ("executor_num", "many"),
            ("colour", "red"),
            ("driver_cores", "1"),
        ]);
        wrong.ttl = Some("30H".into());
        wrong.engine = Some("flink".into());
        wrong.engine_version = Some("2.4.3".into());
        wrong.region = Some("MARS".into());
        wrong.container_name = Some("Not_A_Bucket".into());
        let faults = JobSpec::parse(&wrong, &rules()).expect_err("faults");
        let fields: Vec<&str> = faults.0.iter().map(|fault| fault.field.as_str()).collect();
        for field in [
            "ttl",
            "engine",
            "engineVersion",
            "region",
            "containerName",
            "main_application_code",
            "main_class_name",
            "executor_cores",
            "executor_memory",
            "executor_num",
            "colour",
            "driver_cores",
        ] {
            assert!(fields.contains(&field), "{field} in {fields:?}");
        }
        let class = |field: &str| faults.0.iter().find(|fault| fault.field == field).map(|fault| fault.class.clone());
        assert_eq!(class("executor_memory").as_deref(), Some("odp.job.executorMemory.tooBig"));
        assert_eq!(class("engineVersion").as_deref(), Some("odp.job.engineVersion.unsupportedValue"));
        assert_eq!(class("main_class_name").as_deref(), Some("odp.job.main_class_name.fieldMissing"));
    }

    #[test]
    fn memory_counts_with_its_overhead() {
        let faults = parse(&[("driver_memory", "60416")]).expect_err("59 GiB of heap leave no room");
        assert_eq!(faults.0[0].class, "odp.job.totalDriverMemory.tooBig");
        assert!(parse(&[("executor_memory", "54000")]).is_ok());
        let faults = parse(&[("executor_memory", "512"), ("executor_memory_overhead", "128")]).expect_err("too small");
        assert_eq!(faults.0[0].class, "odp.job.totalExecutorMemory.tooSmall");
    }

    #[test]
    fn a_job_may_be_held_to_parts_of_the_storage() {
        assert_eq!(parse(&[]).expect("valid").storage_access, None, "all of it");
        let spec = parse(&[("storage_access", "ro:data/in/, rw:data/out/")]).expect("valid");
        let shown: Vec<String> = spec.storage_access.iter().flatten().map(ToString::to_string).collect();
        assert_eq!(shown, ["ro:data/in/", "rw:data/out/"]);
        let faults = parse(&[("storage_access", "ro:data,everything")]).expect_err("no right and no bucket");
        assert_eq!(faults.0[0].class, "odp.job.storage_access.invalid");
        let many = vec!["ro:data"; 17].join(",");
        assert_eq!(
            parse(&[("storage_access", &many)]).expect_err("too many").0[0].class,
            "odp.job.storage_access.tooMany"
        );
    }

    #[test]
    fn an_argument_with_a_comma_has_a_form_that_keeps_it() {
        assert_eq!(parse(&[("arguments", "a, b,c")]).expect("valid").arguments, ["a", "b", "c"]);
        assert_eq!(parse(&[("arguments_json", r#"["a, b", ""]"#)]).expect("valid").arguments, ["a, b", ""]);
        assert!(parse(&[("arguments_json", "[1]")]).is_err());
        assert!(parse(&[("arguments_json", "[]"), ("arguments", "a")]).is_err());
    }
}
