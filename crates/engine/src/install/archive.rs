//! Class-data archives: the classes of a job's start, loaded and checked once at install and mapped into memory by each
//! JVM from then on. They take more of a job's start away than its isolation adds.

use std::{fs, path::Path, time::Duration};

use model::{Cores, JobSpec, MiB, NodeSize, Placement, Program, Sizing};

use super::{
    Progress,
    rehearsal::{Rehearsal, run},
};
use crate::{
    Error, Installed, file_error,
    spark::{class_path_file, driver_archive},
};

/// Makes the archives of an engine in `home/cds`, by rehearsing a job that does what most jobs begin with, and tells which
/// options Spark asks for its executors. `None` where this machine lets nobody make a mount namespace: jobs then start
/// slower, and right.
pub(super) fn make(
    home: &Path,
    engine: &Installed,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Vec<String>>, Error> {
    let cds = home.join(PLACE);
    fs::create_dir_all(&cds).map_err(file_error("create", &cds))?;
    let class_path = cds.join("classpath");
    let write = |directories| {
        fs::write(&class_path, class_path_file(&engine.jars, directories)).map_err(file_error("write", &class_path))
    };
    // An archive cannot be made with a directory in the class path, only used with one.
    write(false)?;
    let place = home.with_extension("rehearsal");
    super::remove_tree(&place)?;
    let outcome = rehearse(home, engine, &place, progress);
    write(true)?;
    outcome
}

/// A job with an executor, then one in a single JVM, and what each of the three JVMs had loaded.
fn rehearse(
    home: &Path,
    engine: &Installed,
    place: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Vec<String>>, Error> {
    let mut asked = Vec::new();
    for (placement, nodes) in [(Placement::Cluster, &["driver", "executor"][..]), (Placement::Single, &["single"])] {
        let option = |node: &str| {
            vec![
                format!("-XX:ArchiveClassesAtExit=/scratch/{node}.jsa"),
                "-Xlog:cds=off".to_owned(),
                "-Xlog:cds+dynamic=off".to_owned(),
            ]
        };
        let outcome = run(&Rehearsal {
            home,
            engine,
            spec: &spec(engine, placement)?,
            properties: Some(
                "spark.hadoop.fs.s3a.attempts.maximum=1\nspark.hadoop.fs.s3a.retry.limit=1\nspark.sql.shuffle.partitions=2\n",
            ),
            files: &[("rehearsal.py", PROGRAM.as_bytes())],
            driver_options: &option(driver_archive(placement)),
            executor_options: &option("executor"),
            place,
            limit: Duration::from_secs(240),
        })?;
        outcome.output.lines().for_each(|line| progress(Progress::Detail(line.to_owned())));
        if outcome.code != 0 {
            let said = outcome
                .errors
                .lines()
                .rev()
                .take(5)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join("; ");
            return match said.contains("unshare") {
                true => Ok(None),
                false => Err(Error::Tool {
                    doing: "rehearsing a job".into(),
                    why: format!("it ended with {}: {said}", outcome.code),
                }),
            };
        }
        asked.extend(outcome.executor_options);
        for node in nodes {
            let name = format!("{node}.jsa");
            let (made, kept) = (place.join("scratch").join(&name), home.join(PLACE).join(&name));
            fs::copy(&made, &kept).map_err(file_error("copy", &made))?;
            let size = fs::metadata(&kept).map_err(file_error("read", &kept))?.len();
            progress(Progress::Detail(format!("{name}: {} MiB", size / (1024 * 1024))));
        }
        super::remove_tree(place)?;
    }
    Ok(Some(asked))
}

fn spec(engine: &Installed, placement: Placement) -> Result<JobSpec, Error> {
    let wrong = |cause: model::InvalidId| Error::Unsupported(cause.to_string());
    let node = NodeSize { cores: Cores(1), memory: MiB(1024), overhead: MiB(384) };
    let spread = Sizing { driver: node, executor: node, executors: 1 };
    Ok(JobSpec {
        name: "rehearsal".into(),
        region: "GRA".parse().map_err(wrong)?,
        version: engine.version.clone(),
        bucket: "rehearsal".parse().map_err(wrong)?,
        program: Program::Python { file: "rehearsal.py".into() },
        arguments: Vec::new(),
        sizing: if placement == Placement::Single { spread.gathered() } else { spread },
        placement,
        packages: Vec::new(),
        repositories: Vec::new(),
        properties_file: None,
        environment: None,
        storage_access: None,
        retry: None,
        after: None,
        ttl: None,
        parameters: Vec::new(),
    })
}

/// The directory of the archives in that of an engine.
pub(super) const PLACE: &str = "cds";
const PROGRAM: &str = include_str!("rehearsal.py");
