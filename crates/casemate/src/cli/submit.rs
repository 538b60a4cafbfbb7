//! `casemate job submit`: asks for nothing that has a good default, and brings a local file along by itself.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Outcome, Output,
    address::{Address, Place},
    client::Client,
    follow, output, storage, transfer,
};
use crate::failure::{Doing, Failure};

/// Arguments of `job submit`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct SubmitArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Key that names this submit: sent again within 24 hours, it gives the same job; a new one when not given
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Start only once this job of the project has ended
    #[arg(long, value_name = "JOB")]
    after: Option<String>,
    /// How that job has to end: completed, failed (or cancelled), ended (in any way) [default: completed]
    #[arg(long, value_name = "CONDITION", requires = "after")]
    after_condition: Option<String>,
    /// Show the log, wait for the end, and exit with the job's return code
    #[arg(long)]
    wait: bool,
}

/// What a job is to be.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Main file: a JAR or a Python program, local or s3://BUCKET/KEY (swift:// means the same)
    #[arg(value_name = "FILE")]
    file: Place,
    /// Arguments of the program
    #[arg(value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Class whose main method is run; needed for a JAR
    #[arg(long, visible_alias = "class", value_name = "CLASS")]
    main_class: Option<String>,
    /// Engine version; the newest when not given
    #[arg(long, visible_alias = "spark-version", value_name = "VERSION")]
    engine_version: Option<String>,
    /// Cores of the driver, 1 to 16 [default: 1]
    #[arg(long, value_name = "NUMBER")]
    driver_cores: Option<String>,
    /// Memory of the driver, such as 1024 (MiB) or 2g [default: 1g]
    #[arg(long, value_name = "SIZE")]
    driver_memory: Option<String>,
    /// Memory of the driver beside its heap [default: a tenth, at least 384 MiB]
    #[arg(long, value_name = "SIZE")]
    driver_memory_overhead: Option<String>,
    /// Cores of each executor, 1 to 16 [default: 1]
    #[arg(long, value_name = "NUMBER")]
    executor_cores: Option<String>,
    /// Memory of each executor, such as 1024 (MiB) or 2g [default: 1g]
    #[arg(long, value_name = "SIZE")]
    executor_memory: Option<String>,
    /// Memory of each executor beside its heap [default: a tenth, at least 384 MiB]
    #[arg(long, value_name = "SIZE")]
    executor_memory_overhead: Option<String>,
    /// Number of executors, 1 to 10 [default: 1]
    #[arg(long, visible_alias = "num-executors", value_name = "NUMBER")]
    executors: Option<String>,
    /// cluster, single (one container with the cores and memory of all) or auto [default: cluster]
    #[arg(long, value_name = "PLACEMENT")]
    placement: Option<String>,
    /// How long the job may run, such as PT30M or P1D; no bound when not given
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Name of the job; the file's when not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Region to run in; the profile's when not given
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Bucket for local files; one of the job's own when not given
    #[arg(long, value_name = "BUCKET")]
    bucket: Option<String>,
    /// Local file to bring along beside the main file; may be given several times
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Maven packages group:artifact:version, separated by commas
    #[arg(long, value_name = "LIST")]
    packages: Option<String>,
    /// Maven repositories beside the service's first one, of those that it allows, separated by commas
    #[arg(long, value_name = "LIST")]
    repositories: Option<String>,
    /// Spark properties file: local beside a local main file, else its key in the main file's bucket
    #[arg(long, value_name = "FILE")]
    properties_file: Option<String>,
    /// What the Python environment is made from: `environment.yml`, `requirements.txt` or a packed one (`.tar.gz`): local
    /// beside a local main file, else its key in the main file's bucket
    #[arg(long, value_name = "FILE")]
    environment: Option<String>,
    /// What of the storage the job may use beside its code: `ro:BUCKET/PREFIX` or `rw:BUCKET/PREFIX`; may be given
    /// several times; all of it when not given
    #[arg(long, value_name = "ACCESS")]
    storage_access: Vec<String>,
    /// How many more attempts there may be after one that ended by a cause of --retry-on [default: 0]
    #[arg(long, value_name = "NUMBER")]
    retries: Option<String>,
    /// Causes to try again after: platform, failed, out_of_memory, out_of_disk; separated by commas [default: platform]
    #[arg(long, value_name = "LIST")]
    retry_on: Option<String>,
    /// Seconds to wait before the second attempt, doubled before each further one [default: 30]
    #[arg(long, value_name = "SECONDS")]
    retry_backoff: Option<String>,
    /// Seconds that an attempt has to run to give back the retries that were used before it [default: they stay used]
    #[arg(long, value_name = "SECONDS")]
    retry_reset: Option<String>,
}

/// Submits, and waits where that is asked for.
pub async fn submit(args: SubmitArgs, client: &Client, output: Output) -> Outcome {
    let code = place_code(&args.job, client).await?;
    let mut body = request(&args.job, &code, client);
    let after = [("run_after", &args.after), ("run_after_condition", &args.after_condition)];
    if let Some(parameters) = body["engineParameters"].as_array_mut() {
        let given =
            after.into_iter().filter_map(|(name, value)| Some(json!({ "name": name, "value": value.as_ref()? })));
        parameters.extend(given);
    }
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => random_name("submit")?,
    };
    let job = match client.post_once(&client.jobs()?, &body, &key, "cannot submit the job").await {
        Ok(answer) => answer.body,
        Err(failed) if failed.refused => {
            code.remove(client).await;
            return Err(failed.failure);
        }
        // The job may have been accepted all the same, and needs its code then.
        Err(failed) => return Err(failed.failure.help("`casemate job list` shows whether the job was accepted")),
    };
    let id = output::field(&job, "id").to_owned();
    if !args.wait {
        output::print(output, &job, || id.clone())?;
        if output == Output::Text {
            eprintln!("job {id} submitted; `casemate job logs -f {id}` follows it");
        }
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("job {id} submitted");
    Ok(follow::wait(client, &id, true, output).await?.code())
}

/// Where the job's code is.
pub(super) struct Code {
    bucket: String,
    main: String,
    properties: Option<String>,
    environment: Option<String>,
    /// What this command made, in order, to be removed again when the job is not accepted.
    own_bucket: bool,
    uploaded: Vec<String>,
}

impl Code {
    pub(super) async fn remove(&self, client: &Client) {
        if !self.own_bucket {
            return;
        }
        for key in &self.uploaded {
            let _ = storage::delete_object(client, &Address { bucket: self.bucket.clone(), key: key.clone() }).await;
        }
        if storage::delete_bucket(client, &self.bucket).await.is_err() {
            eprintln!("bucket {} was made for this job and could not be removed", self.bucket);
        }
    }
}

/// Where the job's code is, after what is local was brought there.
pub(super) async fn place_code(args: &JobArgs, client: &Client) -> Result<Code, Failure> {
    match &args.file {
        Place::Remote(address) => {
            let Address { bucket, key } = address.clone();
            if args.bucket.as_ref().is_some_and(|named| *named != bucket) {
                return Err(Failure::new(format!("the main file is in bucket {bucket}, and --bucket names another"))
                    .help("a job's files are all in the bucket of its main file"));
            }
            if !args.files.is_empty() {
                return Err(Failure::new("--file brings local files along with a local main file")
                    .help(format!("put them there first: `casemate object put PATH s3://{bucket}/`")));
            }
            let properties = args.properties_file.as_deref().map(|text| key_in(text, &bucket)).transpose()?;
            let environment = args.environment.as_deref().map(|text| key_in(text, &bucket)).transpose()?;
            Ok(Code { bucket, main: key, properties, environment, own_bucket: false, uploaded: Vec::new() })
        }
        Place::Local(main) => bring(args, main, client).await,
    }
}

/// Brings local files into a bucket, since a job gets the whole bucket of its main file: by default one of its own.
async fn bring(args: &JobArgs, main: &Path, client: &Client) -> Result<Code, Failure> {
    let properties = args.properties_file.as_deref().map(Path::new);
    let environment = args.environment.as_deref().map(Path::new);
    let mut files = vec![main];
    files.extend(properties);
    files.extend(environment);
    files.extend(args.files.iter().map(PathBuf::as_path));
    let mut named: Vec<(String, &Path)> = Vec::new();
    for file in files {
        let name = file_name(file)?;
        if named.iter().any(|(known, other)| *known == name && *other != file) {
            return Err(Failure::new(format!("two of the files have the name {name}"))
                .help("the job has them side by side in one directory"));
        }
        named.push((name, file));
    }
    let (bucket, own_bucket) = match &args.bucket {
        Some(bucket) => (bucket.clone(), !storage::has_bucket(client, bucket).await?),
        None => (random_name("job-code")?, true),
    };
    if own_bucket {
        storage::create_bucket(client, &bucket).await?;
    }
    let mut code = Code {
        bucket,
        main: named[0].0.clone(),
        properties: properties.map(file_name).transpose()?,
        environment: environment.map(file_name).transpose()?,
        own_bucket,
        uploaded: Vec::new(),
    };
    for (key, file) in named {
        let target = Address { bucket: code.bucket.clone(), key: key.clone() };
        code.uploaded.push(key);
        if let Err(failure) = transfer::upload(client, file, &target).await {
            code.remove(client).await;
            return Err(failure);
        }
    }
    Ok(code)
}

/// The name of a file that can be read; checked before anything is made.
fn file_name(file: &Path) -> Result<String, Failure> {
    let meta = std::fs::metadata(file).doing(format!("cannot use the file {}", file.display()))?;
    if !meta.is_file() {
        return Err(Failure::new(format!("{} is not a file", file.display())));
    }
    let name = file.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name.ok_or_else(|| Failure::new(format!("the name of {} is not UTF-8", file.display())))
}

/// The key that `text` names in `bucket`, as an address or by itself.
fn key_in(text: &str, bucket: &str) -> Result<String, Failure> {
    match Address::parse(text) {
        None => Ok(text.to_owned()),
        Some(address) if address.bucket == bucket => Ok(address.key),
        Some(address) => Err(Failure::new(format!("{address} is not in the bucket of the main file, {bucket}"))),
    }
}

pub(super) fn random_name(of: &str) -> Result<String, Failure> {
    let mut bytes = [0; 16];
    crypto::random(&mut bytes).doing("the system's random generator failed")?;
    Ok(format!("{of}-{}", hex::encode(bytes)))
}

/// The job that is asked for, as the API takes it.
pub(super) fn request(args: &JobArgs, code: &Code, client: &Client) -> Value {
    let java = Path::new(&code.main).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jar"));
    let arguments = (!args.arguments.is_empty()).then(|| json!(args.arguments).to_string());
    let size = |text: &Option<String>| text.as_deref().map(mebibytes);
    let parameters: Vec<Value> = [
        ("job_type", Some(if java { "java" } else { "python" }.to_owned())),
        ("main_application_code", Some(code.main.clone())),
        ("main_class_name", args.main_class.clone()),
        ("arguments_json", arguments),
        ("driver_cores", args.driver_cores.clone()),
        ("driver_memory", size(&args.driver_memory)),
        ("driver_memory_overhead", size(&args.driver_memory_overhead)),
        ("executor_cores", args.executor_cores.clone()),
        ("executor_memory", size(&args.executor_memory)),
        ("executor_memory_overhead", size(&args.executor_memory_overhead)),
        ("executor_num", args.executors.clone()),
        ("placement", args.placement.clone()),
        ("packages", args.packages.clone()),
        ("repositories", args.repositories.clone()),
        ("properties_file", code.properties.clone()),
        ("environment", code.environment.clone()),
        ("storage_access", (!args.storage_access.is_empty()).then(|| args.storage_access.join(","))),
        ("retry_attempts", args.retries.clone()),
        ("retry_on", args.retry_on.clone()),
        ("retry_backoff", args.retry_backoff.clone()),
        ("retry_reset", args.retry_reset.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(json!({ "name": name, "value": value? })))
    .collect();
    let name = args.name.clone().unwrap_or_else(|| code.main.rsplit('/').next().unwrap_or(&code.main).to_owned());
    json!({
        "engine": "spark",
        "name": name,
        "containerName": code.bucket,
        "region": args.region.clone().or_else(|| client.named_region()),
        "engineVersion": args.engine_version,
        "ttl": args.ttl,
        "engineParameters": parameters,
    })
}

/// A size as Spark's users write it, in MiB; what is not one goes to the service, which says what is wrong with it.
fn mebibytes(text: &str) -> String {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "m" | "mb" | "mib" => 1,
        "g" | "gb" | "gib" => 1024,
        _ => return text.to_owned(),
    };
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(number) => number.to_string(),
        None => text.to_owned(),
    }
}

const AFTER_HELP: &str = "\
Options may stand before or after the file. What is not an option of this command goes to the program; behind `--` \
everything does.

Examples:
  casemate job submit my.py arg1
  casemate job submit --wait app.jar --main-class com.example.Main --executors 2
  casemate job submit s3://code/main.py -- --name of-the-program";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_told_in_mebibytes() {
        for (text, expected) in [
            ("1024", "1024"),
            ("2g", "2048"),
            ("2GiB", "2048"),
            ("512m", "512"),
            ("2t", "2t"),
            ("many", "many"),
            ("", ""),
        ] {
            assert_eq!(mebibytes(text), expected, "{text}");
        }
        assert_eq!(mebibytes("99999999999999999999g"), "99999999999999999999g");
    }

    #[test]
    fn a_key_is_in_the_bucket_of_the_main_file() {
        assert_eq!(key_in("conf/spark.conf", "code").expect("a key"), "conf/spark.conf");
        assert_eq!(key_in("s3://code/spark.conf", "code").expect("a key"), "spark.conf");
        assert!(key_in("s3://other/spark.conf", "code").is_err());
    }
}
