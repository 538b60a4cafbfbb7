//! The program of a JVM that waits for its job ([`crate::spark::waiting_driver`]), compiled against the engine's own JARs by the
//! compiler that is among them: no JDK is needed, and no compiled code comes with the source of this project.

use std::{fs, path::Path, process::Command};

use super::{Progress, tool};
use crate::{Error, Installed, engines::WAITING_JAR, file_error};

/// Compiles it into a JAR among those of `home`.
pub(super) fn compile(home: &Path, engine: &Installed, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let place = home.join(".waiting");
    super::remove_tree(&place)?;
    let classes = place.join("classes");
    fs::create_dir_all(&classes).map_err(file_error("create", &classes))?;
    let source = place.join("Waiting.scala");
    fs::write(&source, PROGRAM).map_err(file_error("write", &source))?;
    let mut scala = Command::new(engine.java_home.join("bin/java"));
    scala.arg("-Xss4m").arg("-cp").arg(home.join("jars/*")).args(["scala.tools.nsc.Main", "-usejavacp", "-d"]);
    scala.arg(&classes).arg(&source);
    tool::run("compiling the program of waiting JVMs", &mut scala, progress)?;
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-m", "zipfile", "-c"]).arg(home.join("jars").join(WAITING_JAR)).arg(classes.join("org"));
    tool::run("packing the program of waiting JVMs", &mut python, progress)?;
    super::remove_tree(&place)
}

const PROGRAM: &str = include_str!("Waiting.scala");
