//! Laws of the generated configuration, and what it looks like.

use jiff::civil::{Date, date};
use model::{Cores, EngineParameter, JobId, JobRequest, JobSpec, MiB, NodeSize, Sizing, SpecRules};

use super::*;

pub(crate) fn engine(version: &str, available: Date) -> Installed {
    Installed {
        version: version.parse().expect("a version"),
        scala: "2.12".into(),
        hadoop: "3.3.4".into(),
        description: format!("Apache Spark {version}"),
        available,
        end_of_support: available.saturating_add(jiff::Span::new().months(9)),
        end_of_life: available.saturating_add(jiff::Span::new().months(12)),
        java_home: "/usr/lib/jvm/java-17-openjdk-amd64".into(),
        jars: vec!["a.jar".into(), "b.jar".into()],
        archives: true,
        executor_options: vec!["-Djava.net.preferIPv6Addresses=false".into()],
    }
}

fn spec(parameters: &[(&str, &str)]) -> JobSpec {
    let parameters =
        parameters.iter().map(|(name, value)| EngineParameter { name: (*name).into(), value: (*value).into() });
    let request = JobRequest {
        name: Some("flights".into()),
        container_name: Some("code".into()),
        parameters: parameters.collect(),
        ..JobRequest::default()
    };
    let rules = SpecRules {
        regions: vec!["GRA".parse().expect("a region")],
        versions: vec!["3.5.9".parse().expect("a version")],
        ..SpecRules::default()
    };
    JobSpec::parse(&request, &rules).expect("valid")
}

const PYTHON: [(&str, &str); 3] =
    [("job_type", "python"), ("main_application_code", "jobs/main.py"), ("arguments_json", r#"["--name","a, b"]"#)];
const JAVA: [(&str, &str); 4] = [
    ("job_type", "java"),
    ("main_application_code", "app.jar"),
    ("main_class_name", "com.example.App"),
    ("executor_num", "3"),
];

fn with<T>(spec: &JobSpec, act: impl FnOnce(&DriverContext) -> T) -> T {
    let engine = engine("3.5.9", date(2026, 1, 1));
    act(&DriverContext {
        spec,
        engine: &engine,
        job_id: JobId(uuid::Uuid::from_u128(7)),
        access_key: "ACCESS",
        secret_key: "se<cr&et",
        region: "GRA",
        objects_url: "http://127.0.0.1:9000",
        pods_url: "http://127.0.0.1:9001",
        rpc_secret: "between-us",
        packed: false,
        jars: &[],
    })
}

fn file(files: &[ConfFile], name: &str) -> String {
    let file = files.iter().find(|file| file.name == name).expect("the file");
    String::from_utf8(file.bytes.clone()).expect("text")
}

fn shown(launch: &Launch) -> String {
    let env: Vec<String> = launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}\n\n{}\n\ncwd {}\n", launch.argv.join("\n"), env.join("\n"), launch.cwd)
}

#[test]
fn a_python_driver() {
    insta::assert_snapshot!(with(&spec(&PYTHON), |context| shown(&driver(context))));
}

#[test]
fn a_java_driver() {
    insta::assert_snapshot!(with(&spec(&JAVA), |context| shown(&driver(context))));
}

#[test]
fn the_files_of_a_job() {
    let files = with(&spec(&JAVA), |context| conf_files(context, None)).expect("files");
    let all: Vec<String> =
        files.iter().map(|file| format!("--- {}\n{}", file.name, String::from_utf8_lossy(&file.bytes))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_job_in_one_container_has_the_cores_and_the_memory_of_all() {
    let one = spec(&[&JAVA[..], &[("placement", "single"), ("executor_cores", "2")]].concat());
    let hostile = "spark.master k8s://elsewhere\nspark.dynamicAllocation.enabled=true\nspark.executor.instances=9\n";
    let (argv, files) = with(&one, |context| (driver(context).argv, conf_files(context, Some(hostile))));
    let defaults = file(&files.expect("files"), "spark-defaults.conf");
    assert!(argv.contains(&"-Xmx4096m".to_owned()), "{argv:?}");
    for line in ["spark.master=local[7]", "spark.driver.memory=4096m", "spark.dynamicAllocation.enabled=false"] {
        assert!(defaults.lines().any(|known| known == line), "{line}: {defaults}");
    }
    assert!(
        !defaults.contains("k8s") && !defaults.contains("kubernetes") && !defaults.contains("instances"),
        "{defaults}"
    );
}

#[test]
fn a_program_without_an_extension_is_run_as_python() {
    let odd = spec(&[("job_type", "python"), ("main_application_code", "main"), ("arguments", "x")]);
    let argv = with(&odd, driver).argv;
    assert_eq!(argv[argv.len() - 6..], ["--class", PYTHON_RUNNER, "spark-internal", "/work/main", "", "x"]);
}

#[test]
fn a_packed_environment_runs_the_job() {
    let launch = with(&spec(&PYTHON), |context| driver(&DriverContext { packed: true, ..*context }));
    let of = |name: &str| launch.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(of("PYSPARK_PYTHON"), Some("/conf/environment/bin/python"), "the executors'");
    assert_eq!(of("PYSPARK_DRIVER_PYTHON"), Some("/conf/driver-python"), "which runs the former");
}

#[test]
fn jars_of_packages_come_after_the_users_own() {
    let jars = ["one.jar".to_owned(), "two.jar".to_owned()];
    let defaults = |properties: &str| {
        let files = with(&spec(&JAVA), |context| {
            conf_files(&DriverContext { jars: &jars, ..*context }, Some(properties)).expect("files")
        });
        file(&files, "spark-defaults.conf")
    };
    let packages = "local:/conf/jars/one.jar,local:/conf/jars/two.jar";
    for (properties, expected) in [
        ("", format!("spark.jars={packages}")),
        ("spark.jars=/work/own.jar", format!("spark.jars=/work/own.jar,{packages}")),
    ] {
        let defaults = defaults(properties);
        assert!(defaults.lines().any(|line| line == expected), "{expected}: {defaults}");
    }
}

#[test]
fn secrets_stand_in_files_only() {
    for program in [&PYTHON[..], &JAVA[..]] {
        let launch = with(&spec(program), driver);
        let seen = shown(&launch);
        assert!(!seen.contains("se<cr&et") && !seen.contains("between-us") && !seen.contains("SECRET_ACCESS_KEY"));
    }
    let files = with(&spec(&PYTHON), |context| conf_files(context, None)).expect("files");
    assert!(!file(&files, "spark-defaults.conf").contains("between-us"));
    assert!(file(&files, "core-site.xml").contains("se&lt;cr&amp;et"));
}

#[test]
fn a_properties_file_cannot_change_what_is_the_platforms() {
    let hostile = "spark.master local[*]\nspark.kubernetes.executor.podTemplateFile=/x\nspark.kubernetes.namespace:other\n\
        spark.driver.host=0.0.0.0\nspark.authenticate=false\nspark.authenticate.secret=x\nspark.network.crypto.enabled=false\n\
        spark.executor.memory=50g\nspark.executor.instances=99\nspark.jars.packages=a:b:c\nspark.sql.shuffle.partitions=7\n";
    let files = with(&spec(&PYTHON), |context| conf_files(context, Some(hostile))).expect("files");
    let defaults = file(&files, "spark-defaults.conf");
    for line in [
        "spark.master=k8s://http://127.0.0.1:9001",
        "spark.driver.host=127.0.0.1",
        "spark.authenticate=true",
        "spark.network.crypto.enabled=true",
        "spark.executor.memory=1024m",
        "spark.executor.instances=1",
        "spark.sql.shuffle.partitions=7",
        "spark.kubernetes.namespace=default",
    ] {
        assert_eq!(defaults.lines().filter(|shown| *shown == line).count(), 1, "{line} in {defaults}");
    }
    for absent in ["podTemplateFile", "local[*]", "spark.jars.packages", "spark.authenticate.secret="] {
        assert!(!defaults.contains(absent), "{absent} in {defaults}");
    }
    assert_eq!(overridden(hostile).expect("valid").len(), 10);
    assert!(unsupported(hostile).expect("valid").is_some_and(|line| line.contains("a:b:c")));
    assert_eq!(unsupported("spark.jars.packages=\n").expect("valid"), None);
}

#[test]
fn dynamic_allocation_stays_within_the_sizing() {
    let asked = "spark.dynamicAllocation.enabled=true\nspark.dynamicAllocation.maxExecutors=50\nspark.dynamicAllocation.minExecutors=20\n";
    let files = with(&spec(&JAVA), |context| conf_files(context, Some(asked))).expect("files");
    let defaults = file(&files, "spark-defaults.conf");
    for line in [
        "spark.dynamicAllocation.maxExecutors=3",
        "spark.dynamicAllocation.minExecutors=3",
        "spark.dynamicAllocation.shuffleTracking.enabled=true",
    ] {
        assert!(defaults.lines().any(|shown| shown == line), "{line} in {defaults}");
    }
    assert!(!defaults.contains("spark.executor.instances"));
}

#[test]
fn the_users_collector_is_the_only_one() {
    let asked = "spark.driver.extraJavaOptions=-XX:+UseG1GC -Da=b\n";
    let files = with(&spec(&PYTHON), |context| conf_files(context, Some(asked))).expect("files");
    assert_eq!(file(&files, "driver.args"), "-XX:+UseG1GC -Da=b\n");
    let files = with(&spec(&PYTHON), |context| conf_files(context, None)).expect("files");
    assert_eq!(file(&files, "driver.args"), "-XX:+UseSerialGC\n\n");
}

#[test]
fn an_executor() {
    let mut env: Vec<(String, String)> = [
        ("SPARK_DRIVER_URL", "spark://CoarseGrainedScheduler@127.0.0.1:40001"),
        ("SPARK_EXECUTOR_ID", "1"),
        ("SPARK_EXECUTOR_CORES", "2"),
        ("SPARK_EXECUTOR_MEMORY", "1024m"),
        ("SPARK_APPLICATION_ID", "spark-1"),
        ("SPARK_RESOURCE_PROFILE_ID", "0"),
        ("SPARK_EXECUTOR_POD_IP", "127.0.0.1"),
        ("SPARK_EXECUTOR_POD_NAME", "job-exec-1"),
        ("SPARK_LOCAL_DIRS", "/var/data"),
        ("PATH", "/tmp"),
        ("MINE", "kept"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    for number in [10, 9, 0] {
        env.push((format!("SPARK_JAVA_OPT_{number}"), format!("-Doption={number}")));
    }
    let wish = PodWish { name: "job-exec-1".into(), executor: 1, cores: Cores(2), memory: MiB(1408), env };
    let node = NodeSize { cores: Cores(2), memory: MiB(1024), overhead: MiB(384) };
    let sizing = Sizing { driver: node, executor: node, executors: 1 };
    let launch = executor(&wish, &engine("3.5.9", date(2026, 1, 1)), &sizing, "GRA", "http://127.0.0.1:9000");
    insta::assert_snapshot!(shown(&launch));
}

#[test]
fn a_jvm_that_waits_becomes_what_it_was_started_for_and_nothing_else() {
    let mut engine = engine("3.5.9", date(2026, 1, 1));
    assert!(!engine.can_wait(), "an earlier install made it");
    engine.jars.push("casemate-waiting.jar".to_owned());
    assert!(engine.can_wait());
    let spec = spec(&JAVA);
    let url = "http://127.0.0.1:9000";
    let waits = waiting_driver(&engine, spec.placement, &spec.sizing, "GRA", url, "/conf/driver.line");
    let wanted = with(&spec, driver);
    let line = handover(&waits, &wanted).expect("it fits");
    let words: Vec<String> = String::from_utf8(line).expect("text").split('\0').map(str::to_owned).collect();
    assert_eq!(words[0], (words.len() - 1).to_string());
    assert_eq!(words[1], "0", "a driver has its properties in a file");
    assert_eq!(words[2..], wanted.argv[wanted.main..]);
    let seen = shown(&waits);
    assert!(
        !seen.contains("App") && !seen.contains("flights") && !seen.contains("ACCESS"),
        "nothing of the job: {seen}"
    );
    assert_eq!(wanted.argv[..wanted.main], waits.argv[..waits.main], "the same JVM");

    let other = |change: &dyn Fn(&mut Launch)| {
        let mut wanted = wanted.clone();
        change(&mut wanted);
        handover(&waits, &wanted)
    };
    assert_eq!(other(&|wanted| wanted.argv[1] = "-Xmx2g".to_owned()), None);
    assert_eq!(other(&|wanted| wanted.env[0].1.push('x')), None);
    assert_eq!(other(&|wanted| wanted.cwd.push('x')), None);
    assert_eq!(other(&|wanted| wanted.argv.push("a\0b".to_owned())), None, "a word that would be two");
    // Options of the user's own are in a file that the JVM has read by then.
    let files = with(&spec, |context| conf_files(context, Some("spark.driver.extraJavaOptions -Da=b"))).expect("files");
    assert!(!waiting_files(&spec.sizing).iter().all(|read| files.contains(read)));
    let files = with(&spec, |context| conf_files(context, Some("spark.sql.shuffle.partitions 7"))).expect("files");
    assert!(waiting_files(&spec.sizing).iter().all(|read| files.contains(read)));
}

#[test]
fn an_executor_that_waits_takes_the_properties_that_spark_asks_for_and_no_other_option() {
    let engine = engine("3.5.9", date(2026, 1, 1));
    let sizing = spec(&JAVA).sizing;
    let url = "http://127.0.0.1:9000";
    let waits = waiting_executor(&engine, &sizing, "GRA", url, "/conf/executor-1.line").expect("its options are known");
    let wish = |options: &[&str], more: &[(&str, &str)]| {
        let options = options.iter().enumerate().map(|(at, text)| (format!("SPARK_JAVA_OPT_{at}"), (*text).to_owned()));
        let known = [("SPARK_EXECUTOR_MEMORY", "1024m"), ("SPARK_EXECUTOR_ID", "1"), ("SPARK_DRIVER_URL", "spark://x")];
        let known = known.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let memory = sizing.executor.total_memory();
        PodWish { name: "p".into(), executor: 1, cores: Cores(1), memory, env: options.chain(known).collect() }
    };
    let told = |wish: &PodWish| handover(&waits, &executor(wish, &engine, &sizing, "GRA", url));
    let usual = ["-Dspark.driver.port=4040", "-Djava.net.preferIPv6Addresses=false"];
    let line = String::from_utf8(told(&wish(&usual, &[])).expect("it fits")).expect("text");
    let words: Vec<&str> = line.split('\0').collect();
    assert_eq!(words[1..5], ["2", "spark.driver.port=4040", "spark.master=k8s://casemate", EXECUTOR_BACKEND]);
    assert!(words.windows(2).any(|pair| pair == ["--driver-url", "spark://x"]));
    assert_eq!(asked_options(&wish(&usual, &[])), engine.executor_options);

    assert_eq!(told(&wish(&[usual[0]], &[])), None, "an option less");
    assert_eq!(told(&wish(&[usual[0], usual[1], "-Dmine=1"], &[])), None, "an option more");
    assert_eq!(told(&wish(&usual, &[("MINE", "1")])), None, "a variable of the user's");
    assert_eq!(told(&wish(&usual, &[("SPARK_EXECUTOR_MEMORY", "2048m")])), None, "another heap");
    let unknown = Installed { executor_options: Vec::new(), ..engine.clone() };
    assert_eq!(waiting_executor(&unknown, &sizing, "GRA", url, "/conf/executor-1.line"), None);
}
