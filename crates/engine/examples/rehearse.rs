//! Runs a JAR on an installed engine as plain processes and prints how long the driver took:
//! `rehearse DIR VERSION JAR CLASS [TIMES] [without]`; `without` leaves the class-data archives out.

use std::{path::Path, time::Duration};

use engine::{
    Engines,
    install::rehearsal::{Rehearsal, run},
};
use model::{Cores, JobSpec, MiB, NodeSize, Program, Sizing};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, version, jar, class, rest @ ..] = &arguments[..] else {
        return Err("usage: rehearse DIR VERSION JAR CLASS [TIMES] [without]".into());
    };
    let mut engine = Engines::open(Path::new(dir))?.find(&version.parse()?).ok_or("not installed")?;
    engine.archives &= !rest.iter().any(|word| word == "without");
    let times = rest.iter().find_map(|word| word.parse::<u32>().ok()).unwrap_or(1);
    let node = |cores| NodeSize { cores: Cores(cores), memory: MiB(1024), overhead: MiB(384) };
    let spec = JobSpec {
        name: "rehearse".into(),
        region: "GRA".parse()?,
        version: engine.version.clone(),
        bucket: "code".parse()?,
        program: Program::Java { jar: "program.jar".into(), main_class: class.clone() },
        arguments: Vec::new(),
        sizing: Sizing { driver: node(1), executor: node(2), executors: 1 },
        packages: Vec::new(),
        repositories: Vec::new(),
        properties_file: None,
        environment: None,
        placement: model::Placement::Cluster,
        storage_access: None,
        retry: None,
        after: None,
        ttl: None,
        parameters: Vec::new(),
    };
    let content = std::fs::read(jar)?;
    let options: Vec<String> =
        std::env::var("JAVA_ARGS").iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
    for number in 0..times {
        let place = std::env::temp_dir().join(format!("rehearse-{}-{number}", std::process::id()));
        let outcome = run(&Rehearsal {
            home: &Path::new(dir).join(format!("spark-{version}")),
            engine: &engine,
            spec: &spec,
            properties: None,
            files: &[("program.jar", &content)],
            driver_options: &options,
            executor_options: &options,
            place: &place,
            limit: Duration::from_secs(120),
        })?;
        println!("{:.2?}, code {}: {}", outcome.took, outcome.code, outcome.output.lines().next().unwrap_or_default());
        if number == 0 && (outcome.code != 0 || std::env::var_os("SHOW").is_some()) {
            println!("{}\n{}\n{:#?}", outcome.errors, outcome.executor_errors, outcome.requests);
        }
        std::fs::remove_dir_all(&place)?;
    }
    Ok(())
}
