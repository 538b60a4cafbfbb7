//! JVMs that are started before their job is there: with the options that it will most likely need, a main class that waits
//! (`install/Waiting.scala`), and nothing of any job. [`handover`] says what one is told, or that it does not fit.

use model::{Placement, Sizing};

use super::{ConfFile, Launch, WORK, conf, driver_jvm, environment, executor_jvm};
use crate::{Installed, pods::PodWish};

/// The JVM of a driver that waits for a line on the pipe at `pipe`, a path in its container. It reads [`waiting_files`] as it
/// starts.
pub fn waiting_driver(
    engine: &Installed,
    placement: Placement,
    sizing: &Sizing,
    region: &str,
    objects_url: &str,
    pipe: &str,
) -> Launch {
    waiting(driver_jvm(engine, placement, sizing), engine, region, objects_url, pipe)
}

/// The JVM of an executor that does so; `None` where it is not known what options the engine's executors have.
pub fn waiting_executor(
    engine: &Installed,
    sizing: &Sizing,
    region: &str,
    objects_url: &str,
    pipe: &str,
) -> Option<Launch> {
    if engine.executor_options.is_empty() {
        return None;
    }
    let asked: Vec<&str> = engine.executor_options.iter().map(String::as_str).collect();
    let jvm = executor_jvm(engine, sizing, &asked, &format!("{}m", sizing.executor.memory.0));
    Some(waiting(jvm, engine, region, objects_url, pipe))
}

/// Files of `/conf` that such JVMs read as they start. A job whose files of these names differ cannot have one.
pub fn waiting_files(sizing: &Sizing) -> Vec<ConfFile> {
    conf::files_at_start(sizing.driver)
}

/// What a process that waits is told to become `wanted`; `None` where it was started otherwise than that needs. Options that
/// are properties of Spark may differ, since Spark reads them after the line; all else must be the same.
pub fn handover(waiting: &Launch, wanted: &Launch) -> Option<Vec<u8>> {
    let split = |launch: &Launch| {
        let options = launch.argv.get(..launch.main).unwrap_or_default().iter().cloned();
        let (properties, mut others): (Vec<String>, Vec<String>) =
            options.partition(|option| option.starts_with(PROPERTY));
        others.sort_unstable();
        (properties, others)
    };
    let sorted = |launch: &Launch| {
        let mut env = launch.env.clone();
        env.sort_unstable();
        env
    };
    let (properties, others) = split(wanted);
    if others != split(waiting).1 || sorted(waiting) != sorted(wanted) || waiting.cwd != wanted.cwd {
        return None;
    }
    let main = wanted.argv.get(wanted.main..)?;
    let mut words = vec![properties.len().to_string()];
    words.extend(properties.iter().map(|property| property.trim_start_matches("-D").to_owned()));
    words.extend(main.iter().cloned());
    // A property without a value, or a word that would be two, is nothing that this way can say.
    if properties.iter().any(|property| !property.contains('=')) || words.iter().any(|word| word.contains('\0')) {
        return None;
    }
    words.insert(0, words.len().to_string());
    Some(words.join("\0").into_bytes())
}

/// Options that a wish asks for beside properties of Spark: what [`Installed::executor_options`] keeps.
pub(crate) fn asked_options(wish: &PodWish) -> Vec<String> {
    options(wish).into_iter().filter(|option| !option.starts_with(PROPERTY)).map(str::to_owned).collect()
}

/// Options that a wish asks for, in their order.
pub(super) fn options(wish: &PodWish) -> Vec<&str> {
    let mut options: Vec<(u32, &str)> = wish
        .env
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("SPARK_JAVA_OPT_")?.parse().ok()?, value.as_str())))
        .collect();
    options.sort_unstable();
    options.into_iter().map(|(_, option)| option).collect()
}

fn waiting(mut argv: Vec<String>, engine: &Installed, region: &str, objects_url: &str, pipe: &str) -> Launch {
    let main = argv.len();
    argv.extend([WAITING.to_owned(), pipe.to_owned()]);
    Launch { argv, main, env: environment(engine, region, objects_url), cwd: WORK.to_owned() }
}

const PROPERTY: &str = "-Dspark.";
const WAITING: &str = "org.apache.spark.casemate.Waiting";
