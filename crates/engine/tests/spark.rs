//! Real Spark against the pods API, both versions: executors are plain processes here, all else is as in a job.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::{
    Engines, Installed,
    install::rehearsal::{Outcome, Rehearsal, run},
};
use model::{Cores, JobSpec, MiB, NodeSize, Program, Sizing};

/// One job at a time: a job is two or three JVMs.
static TURN: Mutex<()> = Mutex::new(());

struct Bench {
    dir: PathBuf,
    engines: Vec<Installed>,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Bench {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/engines");
        let dir = std::env::var_os("CASEMATE_ENGINES").map_or(usual, PathBuf::from);
        let engines = Engines::open(&dir).expect("a directory of engines").list();
        assert!(engines.len() >= 2, "Spark 3.5 and Spark 4 in {}: `make test` installs them", dir.display());
        Bench { dir, engines, _turn: turn }
    }

    fn run(
        &self,
        engine: &Installed,
        program: &str,
        arguments: &[&str],
        properties: Option<&str>,
        executors: u32,
    ) -> Outcome {
        let place = tempfile::tempdir().expect("directory");
        let node = NodeSize { cores: Cores(1), memory: MiB(1024), overhead: MiB(384) };
        let spec = JobSpec {
            name: "test".into(),
            region: "GRA".parse().expect("a region"),
            version: engine.version.clone(),
            bucket: "code".parse().expect("a bucket"),
            program: Program::Python { file: "main.py".into() },
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            placement: model::Placement::Cluster,
            sizing: Sizing { driver: node, executor: node, executors },
            packages: Vec::new(),
            repositories: Vec::new(),
            properties_file: None,
            environment: None,
            storage_access: None,
            retry: None,
            after: None,
            ttl: None,
            parameters: Vec::new(),
        };
        let home = self.dir.join(format!("spark-{}", engine.version));
        run(&Rehearsal {
            home: &home,
            engine,
            spec: &spec,
            properties,
            files: &[("main.py", program.as_bytes())],
            driver_options: &[],
            executor_options: &[],
            place: place.path(),
            limit: Duration::from_secs(180),
        })
        .expect("it ends")
    }
}

#[test]
fn a_sum_is_computed_on_an_executor_and_the_exit_code_is_the_programs() {
    let program = "import os, sys\nfrom pyspark.sql import SparkSession\n\
        spark = SparkSession.builder.getOrCreate()\n\
        print('SUM', spark.sparkContext.parallelize(range(101), 4).map(lambda n: n).sum())\n\
        print('VERSION', spark.version, sys.argv[1:], os.getcwd())\n\
        ours = ['AUTH_SECRET', 'ACCESS_KEY']\n\
        print('SECRET', [name for name in os.environ if any(part in name for part in ours)])\n\
        there = spark.sparkContext.parallelize([0], 1).map(lambda _: [n for n in os.environ if any(p in n for p in ours)]).collect()\n\
        print('THERE', there)\n\
        sys.exit(7)\n";
    let bench = Bench::new();
    for engine in &bench.engines {
        let outcome = bench.run(engine, program, &["--flag", "a, b"], None, 1);
        println!("{}: {:?}, code {}\n{:#?}", engine.version, outcome.took, outcome.code, outcome.requests);
        println!("{}{}{}", outcome.output, outcome.errors, outcome.executor_errors);
        assert_eq!(outcome.code, 7, "{}{}", outcome.output, outcome.errors);
        assert!(outcome.output.contains("SUM 5050"), "{}", outcome.output);
        let told = format!("VERSION {} ['--flag', 'a, b'] /work", engine.version);
        assert!(outcome.output.contains(&told), "{}", outcome.output);
        assert!(outcome.output.contains("SECRET []") && outcome.output.contains("THERE [[]]"), "{}", outcome.output);
        assert_eq!(outcome.executors, 1, "{}", outcome.executor_errors);
        assert!(outcome.requests.iter().any(|line| line.starts_with("POST /api/v1/namespaces/default/pods 201")));
    }
}

#[test]
fn executors_come_and_go_with_the_work_within_the_sizing() {
    let program = "import time\nfrom pyspark.sql import SparkSession\n\
        spark = SparkSession.builder.getOrCreate()\ncontext = spark.sparkContext\n\
        status = context._jsc.sc().statusTracker()\n\
        live = lambda: len(status.getExecutorInfos()) - 1\n\
        assert context.parallelize(range(8), 8).map(lambda n: time.sleep(1.5) or n).sum() == 28\n\
        print('MANY', live())\n\
        for _ in range(60):\n    if live() == 0: break\n    time.sleep(0.5)\n\
        print('IDLE', live())\n\
        print('AGAIN', context.parallelize(range(8), 2).sum())\n";
    let properties = "spark.dynamicAllocation.enabled=true\nspark.dynamicAllocation.maxExecutors=9\n\
        spark.dynamicAllocation.executorIdleTimeout=3s\nspark.dynamicAllocation.schedulerBacklogTimeout=1s\n";
    let bench = Bench::new();
    for engine in &bench.engines {
        let outcome = bench.run(engine, program, &[], Some(properties), 2);
        println!("{}: {:?}, code {}\n{:#?}", engine.version, outcome.took, outcome.code, outcome.requests);
        assert_eq!(outcome.code, 0, "{}{}", outcome.output, outcome.errors);
        for line in ["MANY 2", "IDLE 0", "AGAIN 28"] {
            assert!(outcome.output.contains(line), "{line} in {}{}", outcome.output, outcome.errors);
        }
        assert!(outcome.executors >= 3, "{} executors were started", outcome.executors);
    }
}
