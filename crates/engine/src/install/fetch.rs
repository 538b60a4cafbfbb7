//! Fetches Spark and the S3A connector, or takes them from a directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Options, Progress, Wanted, manifest, tool};
use crate::{Error, file_error};

/// The package of a Spark version: `pyspark-VERSION.tar.gz` or a wheel.
pub(super) fn spark(
    downloads: &Path,
    what: &Wanted,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    let version = what.version();
    for place in options.from.iter().map(PathBuf::as_path).chain([downloads]) {
        if let Some(package) = package_in(place, version.as_str()) {
            // A download that was cut short has another sum, and is fetched again.
            match check_sum(&package, what) {
                Err(fault) if place != downloads => return Err(fault),
                Err(_) => fs::remove_file(&package).map_err(file_error("remove", &package))?,
                Ok(()) => return Ok(package),
            }
        }
    }
    let mut pip = Command::new("python3");
    // pip checks what it fetched against the sums of its index.
    pip.args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--dest"])
        .arg(downloads)
        .arg(format!("pyspark=={version}"));
    tool::run("fetching Spark", &mut pip, progress)?;
    let package = package_in(downloads, version.as_str()).ok_or_else(|| Error::Tool {
        doing: "fetching Spark".into(),
        why: format!("pip left no pyspark-{version} in {}", downloads.display()),
    })?;
    check_sum(&package, what)?;
    Ok(package)
}

fn package_in(place: &Path, version: &str) -> Option<PathBuf> {
    let names = [
        format!("pyspark-{version}.tar.gz"),
        format!("pyspark-{version}-py2.py3-none-any.whl"),
        format!("pyspark-{version}-py3-none-any.whl"),
    ];
    names.into_iter().map(|name| place.join(name)).find(|path| path.is_file())
}

fn check_sum(package: &Path, what: &Wanted) -> Result<(), Error> {
    let Some(release) = what.release().filter(|_| package.extension().is_some_and(|kind| kind == "gz")) else {
        return Ok(());
    };
    let sum = manifest::sum(package)?;
    if sum == release.sum {
        return Ok(());
    }
    Err(Error::Tool {
        doing: format!("checking {}", package.display()),
        why: format!("its SHA-256 is {sum}, expected {}", release.sum),
    })
}

/// Puts `hadoop-aws` of the engine's Hadoop, and what it uses of the AWS SDK, beside the engine's JARs.
pub(super) fn s3a(
    downloads: &Path,
    home: &Path,
    hadoop: &str,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let jars = home.join("jars");
    let by_hand = options.from.as_deref().filter(|from| from.join(format!("hadoop-aws-{hadoop}.jar")).is_file());
    if let Some(from) = by_hand {
        return copy_jars(from, &jars);
    }
    let place = downloads.join(format!("s3a-{hadoop}"));
    super::remove_tree(&place)?;
    let out = place.join("jars");
    fs::create_dir_all(&out).map_err(file_error("create", &out))?;
    let sdk = sdk_version(&place, hadoop, progress)?;
    write_pom(&place, "", &dependencies(hadoop, &sdk))?;
    let mut mvn = maven(&place);
    mvn.arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", out.display()))
        .args(["-DincludeScope=runtime", "-Dmdep.prependGroupId=true"]);
    tool::run("fetching the S3A connector", &mut mvn, progress)?;
    copy_jars(&out, &jars)
}

/// Puts Spark's own module for object stores beside the engine's JARs: the commit protocol that S3A's committers need, and
/// the checkpoint manager that writes without a rename. What else it names, Spark and [`s3a`] have brought.
pub(super) fn cloud(
    downloads: &Path,
    home: &Path,
    scala: &str,
    what: &Wanted,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let jars = home.join("jars");
    let module = format!("spark-hadoop-cloud_{scala}");
    let name = format!("{module}-{}.jar", what.cloud());
    if let Some(from) = options.from.as_deref().filter(|from| from.join(&name).is_file()) {
        let target = jars.join(&name);
        return fs::copy(from.join(&name), &target).map(drop).map_err(file_error("write", &target));
    }
    let place = downloads.join(&module);
    super::remove_tree(&place)?;
    fs::create_dir_all(&place).map_err(file_error("create", &place))?;
    let mut mvn = maven(&place);
    mvn.arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy")
        .arg(format!("-Dartifact=org.apache.spark:{module}:{}", what.cloud()))
        .arg(format!("-DoutputDirectory={}", jars.display()));
    tool::run("fetching Spark's module for object stores", &mut mvn, progress)?;
    match jars.join(&name).is_file() {
        true => Ok(()),
        false => Err(Error::Tool {
            doing: "fetching Spark's module for object stores".into(),
            why: format!("mvn left no {name}"),
        }),
    }
}

/// The version of the AWS SDK that this Hadoop was built with, as its own project file says.
fn sdk_version(place: &Path, hadoop: &str, progress: &mut dyn FnMut(Progress)) -> Result<String, Error> {
    let parent = format!(
        "<parent><groupId>org.apache.hadoop</groupId><artifactId>hadoop-project</artifactId><version>{hadoop}</version><relativePath/></parent>"
    );
    write_pom(place, &parent, "")?;
    let property = if has_sdk_2(hadoop) { "aws-java-sdk-v2.version" } else { "aws-java-sdk.version" };
    let mut mvn = maven(place);
    mvn.args(["-q", "org.apache.maven.plugins:maven-help-plugin:3.4.0:evaluate", "-DforceStdout"])
        .arg(format!("-Dexpression={property}"));
    let said = tool::run("asking for the version of the AWS SDK", &mut mvn, progress)?;
    let version = said.iter().rev().find(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    version.cloned().ok_or_else(|| Error::Tool {
        doing: "asking for the version of the AWS SDK".into(),
        why: format!("the project of Hadoop {hadoop} does not say {property}"),
    })
}

fn has_sdk_2(hadoop: &str) -> bool {
    let mut parts = hadoop.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(3), Some(4))
}

/// The few modules that S3A uses, in place of a bundle of all of AWS.
fn dependencies(hadoop: &str, sdk: &str) -> String {
    let (group, modules): (&str, &[&str]) = if has_sdk_2(hadoop) {
        (
            "software.amazon.awssdk",
            &["s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client", "url-connection-client"],
        )
    } else {
        ("com.amazonaws", &["aws-java-sdk-s3", "aws-java-sdk-dynamodb", "aws-java-sdk-sts"])
    };
    let bundles =
        [("software.amazon.awssdk", "bundle"), ("com.amazonaws", "aws-java-sdk-bundle"), ("org.wildfly.openssl", "*")]
            .map(|(group, artifact)| {
                format!("<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>")
            });
    let mut text = format!(
        "<dependency><groupId>org.apache.hadoop</groupId><artifactId>hadoop-aws</artifactId><version>{hadoop}</version>\
         <exclusions>{}</exclusions></dependency>\n",
        bundles.concat()
    );
    for module in modules {
        text.push_str(&format!(
            "<dependency><groupId>{group}</groupId><artifactId>{module}</artifactId><version>{sdk}</version></dependency>\n"
        ));
    }
    text
}

fn write_pom(place: &Path, parent: &str, dependencies: &str) -> Result<(), Error> {
    let text = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>{parent}\
         <groupId>casemate</groupId><artifactId>s3a</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{dependencies}</dependencies></project>\n"
    );
    let path = place.join("pom.xml");
    fs::write(&path, text).map_err(file_error("write", &path))
}

fn maven(place: &Path) -> Command {
    let mut command = Command::new("mvn");
    command.current_dir(place).args(["--batch-mode", "--no-transfer-progress"]);
    command
}

/// Copies what Spark does not have: of a library that it ships already, its own version stays.
fn copy_jars(from: &Path, jars: &Path) -> Result<(), Error> {
    let shipped: Vec<String> = names(jars)?.iter().map(|name| artifact(name).to_owned()).collect();
    for name in names(from)?.iter().filter(|name| name.ends_with(".jar")) {
        let own = ["org.apache.hadoop.", "hadoop-aws", "software.amazon.", "com.amazonaws.", "aws-java-sdk"];
        let artifact = artifact(name);
        let twice = shipped.iter().any(|known| artifact == known || artifact.ends_with(&format!(".{known}")));
        if twice && !own.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let target = jars.join(name);
        fs::copy(from.join(name), &target).map_err(file_error("write", &target))?;
    }
    Ok(())
}

pub(super) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(dir).map_err(file_error("read", dir))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// `netty-codec` of `netty-codec-4.1.96.Final.jar`.
pub(super) fn artifact(name: &str) -> &str {
    let digit = |index: &usize| name[index + 1..].starts_with(|c: char| c.is_ascii_digit());
    let end = name.match_indices('-').map(|(index, _)| index).find(digit);
    end.map_or(name.strip_suffix(".jar").unwrap_or(name), |index| &name[..index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_spark_ships_is_not_doubled() {
        let dir = tempfile::tempdir().expect("directory");
        let (from, jars) = (dir.path().join("from"), dir.path().join("jars"));
        for place in [&from, &jars] {
            fs::create_dir(place).expect("directory");
        }
        for name in ["netty-codec-4.2.13.Final.jar", "annotations-17.0.0.jar"] {
            fs::write(jars.join(name), name).expect("file");
        }
        for name in [
            "io.netty.netty-codec-4.1.9.Final.jar",
            "software.amazon.awssdk.annotations-2.35.4.jar",
            "org.reactivestreams.reactive-streams-1.0.4.jar",
            "netty-codec-4.1.9.Final.jar",
            "README",
        ] {
            fs::write(from.join(name), name).expect("file");
        }
        copy_jars(&from, &jars).expect("copied");
        assert_eq!(
            names(&jars).expect("names"),
            [
                "annotations-17.0.0.jar",
                "netty-codec-4.2.13.Final.jar",
                "org.reactivestreams.reactive-streams-1.0.4.jar",
                "software.amazon.awssdk.annotations-2.35.4.jar",
            ]
        );
    }

    #[test]
    fn a_package_of_a_wrong_sum_is_not_installed() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("pyspark-3.5.9.tar.gz"), "not Spark").expect("file");
        let options = Options { from: Some(dir.path().to_owned()), ..Options::new(jiff::civil::date(2026, 11, 24)) };
        let wanted = Wanted::parse("3.5").expect("known");
        let refused = spark(&dir.path().join("downloads"), &wanted, &options, &mut |_| {});
        assert!(refused.is_err_and(|fault| fault.to_string().contains("SHA-256")));
    }

    #[test]
    fn the_sdk_follows_the_hadoop() {
        assert!(!has_sdk_2("3.3.4"));
        assert!(has_sdk_2("3.4.1") && has_sdk_2("3.5.0") && has_sdk_2("4.0.0"));
    }
}
