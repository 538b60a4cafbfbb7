//! Resolves Maven coordinates to JARs, by the Ivy that the engine has, as `spark-submit --packages` does: transitively, the
//! newest of conflicting versions, without what is the engine's own. No code of a package is run.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Command,
};

use aws_lc_rs::digest::{self, SHA256};

use super::resolve::{Failure, Made, Making, Package, cut, run, size_of, too_large};
use crate::{Installed, spark::xml};

/// What to resolve, and from where.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Coordinates `group:artifact:version`, as `model` has checked them.
    pub packages: Vec<String>,
    /// Addresses of repositories, in the order in which they are asked.
    pub repositories: Vec<String>,
    /// The engine that the JARs are for.
    pub engine: Installed,
    /// Where it is installed.
    pub home: PathBuf,
}

/// Resolves what is asked for. What Ivy says goes to the file `log` in `making.place`, whatever comes of it.
pub fn resolve(wish: &Wish, making: &Making) -> Result<Made, Failure> {
    let place = making.place;
    let unable = |cause: io::Error| Failure::Unable(format!("{}: {cause}", place.display()));
    let ivy = wish.engine.jars.iter().find(|jar| jar.starts_with("ivy-"));
    let ivy = ivy.ok_or_else(|| Failure::Unable("the engine has no Ivy".into()))?;
    for directory in ["tmp", "jars"] {
        fs::create_dir(place.join(directory)).map_err(unable)?;
    }
    let (settings, module) = (place.join("ivysettings.xml"), place.join("ivy.xml"));
    fs::write(&settings, settings_file(&wish.repositories, place)).map_err(unable)?;
    fs::write(&module, module_file(&wish.packages, &wish.engine)).map_err(unable)?;
    let mut java = Command::new(wish.engine.java_home.join("bin/java"));
    java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]);
    // A POM is a stranger's: it must not make the parser read files of this machine or other addresses.
    java.args(["-Djavax.xml.accessExternalDTD=", "-Djavax.xml.accessExternalSchema="]);
    java.arg(format!("-Djava.io.tmpdir={}", place.join("tmp").display()));
    java.arg(format!("-Duser.home={}", place.display()));
    java.args(proxy(|name| std::env::var(name).ok())?);
    java.arg("-cp").arg(wish.home.join("jars").join(ivy)).arg("org.apache.ivy.Main");
    java.arg("-settings").arg(&settings).arg("-ivy").arg(&module).args(["-confs", "default", "-retrieve"]);
    java.arg(place.join("found/[organisation]/[module]/[revision]/[artifact](-[classifier]).[ext]"));
    java.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("HOME", place);
    let ended = run(&mut java, "Ivy", making)?;
    let said = fs::read(place.join("log")).map_err(unable)?;
    if !ended {
        return Err(failure(&String::from_utf8_lossy(&said), &wish.repositories));
    }
    if size_of(place) > making.most_bytes {
        return Err(too_large(making));
    }
    let tree = place.join("jars");
    let packages = gather(&place.join("found"), &tree)?;
    if packages.is_empty() {
        return Err(Failure::Asked("there is no JAR in them: the engine has what they name".into()));
    }
    Ok(Made { packages, tree })
}

/// Where Ivy looks, and where it keeps what it got.
fn settings_file(repositories: &[String], place: &Path) -> String {
    let resolvers: String = repositories
        .iter()
        .enumerate()
        .map(|(number, root)| {
            // Ivy knows no stronger sum by the name that Maven repositories give it.
            format!("<ibiblio name='{number}' root='{}' m2compatible='true' checksums='sha1,md5'/>\n", xml(root))
        })
        .collect();
    format!(
        "<ivysettings>\n<settings defaultResolver='all'/>\n<caches defaultCacheDir='{}'/>\n\
         <resolvers><chain name='all' returnFirst='true'>\n{resolvers}</chain></resolvers>\n</ivysettings>\n",
        xml(&place.join("cache").display().to_string())
    )
}

/// What a job needs. As `spark-submit` has it, nothing of Spark and of Scala that the engine brings.
fn module_file(packages: &[String], engine: &Installed) -> String {
    let mut text = String::from(
        "<ivy-module version='2.0'>\n<info organisation='casemate' module='job' revision='1'/>\n\
         <configurations><conf name='default'/></configurations>\n<dependencies>\n",
    );
    for package in packages {
        let mut parts = package.splitn(3, ':').map(xml);
        let mut part = || parts.next().unwrap_or_default();
        text.push_str(&format!(
            "<dependency org='{}' name='{}' rev='{}' conf='default->default(runtime)'/>\n",
            part(),
            part(),
            part()
        ));
    }
    let own = engine.jars.iter().filter_map(|jar| jar.strip_prefix("spark-")?.split_once('_'));
    for (name, _) in own {
        text.push_str(&format!("<exclude org='org[.]apache[.]spark' module='spark-{name}_.*' matcher='regexp'/>\n"));
    }
    text.push_str("<exclude org='*' module='scala-library'/>\n</dependencies>\n</ivy-module>\n");
    text
}

/// The operator's own way out, as a JVM knows it; `variable` is the service's environment.
fn proxy(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, Failure> {
    let first = |names: [&str; 2]| names.into_iter().find_map(&variable).filter(|text| !text.is_empty());
    let mut options = Vec::new();
    for (scheme, names) in [("https", ["HTTPS_PROXY", "https_proxy"]), ("http", ["HTTP_PROXY", "http_proxy"])] {
        let Some(text) = first(names) else { continue };
        let address = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest).trim_end_matches('/');
        // A name and password would be seen among the arguments of a process.
        let named = (!address.contains('@')).then(|| address.rsplit_once(':')).flatten();
        let Some((host, port)) = named.filter(|(_, port)| port.parse::<u16>().is_ok()) else {
            return Err(Failure::Unable(format!(
                "{} has to be http://HOST:PORT, without a name and password",
                names[0]
            )));
        };
        options.push(format!("-D{scheme}.proxyHost={host}"));
        options.push(format!("-D{scheme}.proxyPort={port}"));
    }
    if !options.is_empty() {
        let direct = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let direct = direct.split(',').map(str::trim).filter(|host| !host.is_empty());
        let direct = direct.map(|host| if host.starts_with('.') { format!("*{host}") } else { host.to_owned() });
        let all: Vec<String> = ["localhost", "127.*", "[::1]"].map(str::to_owned).into_iter().chain(direct).collect();
        options.push(format!("-Dhttp.nonProxyHosts={}", all.join("|")));
    }
    Ok(options)
}

/// Whose fault it is, by what Ivy said.
fn failure(said: &str, repositories: &[String]) -> Failure {
    let lines = || said.lines().map(str::trim);
    let away = ["Server access error", "SERVER ERROR", "invalid sha1", "invalid md5", "HTTP response status"];
    if let Some(line) = lines().find(|line| away.iter().any(|sign| line.contains(sign))) {
        return Failure::Unable(format!("a Maven repository cannot be used: {}", cut(line)));
    }
    // Each is said once more in a list of all.
    let listed = |end: &str| {
        let names = lines().filter_map(|line| line.strip_prefix(":: ")?.strip_suffix(end));
        names.map(|name| name.replace(['#', ';'], ":")).collect::<Vec<_>>().join(", ")
    };
    let absent = listed(": not found");
    if !absent.is_empty() {
        return Failure::Asked(format!("there is no {} in {}", cut(&absent), repositories.join(", ")));
    }
    let without = listed(".jar");
    if !without.is_empty() {
        return Failure::Asked(format!("there is no JAR of {} in {}", cut(&without), repositories.join(", ")));
    }
    let problem = lines().skip_while(|line| !line.starts_with(":: problems summary")).nth(2);
    match problem {
        Some(problem) => Failure::Asked(format!("they cannot be resolved: {}", cut(problem))),
        None => Failure::Unable(format!("Ivy failed: {}", cut(lines().next_back().unwrap_or("it said nothing")))),
    }
}

/// Brings the JARs that Ivy found into one directory, named as `spark-submit` names them. What is no JAR stays behind.
fn gather(found: &Path, jars: &Path) -> Result<Vec<Package>, Failure> {
    let unable = |cause: io::Error| Failure::Unable(format!("{}: {cause}", found.display()));
    let mut packages = Vec::new();
    for file in files_below(found, 4).map_err(unable)? {
        let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
        let [group, module, version, name] = parts[..] else { continue };
        let Some(artifact) = name.strip_suffix(".jar") else { continue };
        // Spark takes a list of them, with commas between and patterns in it.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if !parts.iter().all(|part| part.chars().all(plain)) {
            let named = file.display().to_string();
            return Err(Failure::Asked(format!("there is a JAR with the name '{}'", cut(&named).escape_debug())));
        }
        let from = found.join(&file);
        let sha256 = sum_of(&from).map_err(unable)?;
        fs::rename(&from, jars.join(format!("{group}_{artifact}-{version}.jar"))).map_err(unable)?;
        packages.push(Package {
            name: format!("{group}:{artifact}"),
            version: version.to_owned(),
            url: format!("pkg:maven/{group}/{module}@{version}"),
            sha256,
        });
    }
    Ok(packages)
}

/// SHA-256 of a file, hex.
fn sum_of(path: &Path) -> io::Result<String> {
    let (mut file, mut sum) = (fs::File::open(path)?, digest::Context::new(&SHA256));
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(sum.finish())),
            length => sum.update(&piece[..length]),
        }
    }
}

/// Files that many levels below a directory, in order; none where it does not exist.
fn files_below(place: &Path, levels: usize) -> io::Result<Vec<PathBuf>> {
    let mut names = vec![PathBuf::new()];
    for _ in 0..levels {
        let mut next = Vec::new();
        for name in names {
            let entries = match fs::read_dir(place.join(&name)) {
                Ok(entries) => entries,
                Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(cause) => return Err(cause),
            };
            for entry in entries {
                next.push(name.join(entry?.file_name()));
            }
        }
        names = next;
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repositories() -> Vec<String> {
        vec!["https://one.example/m2".to_owned(), "https://two.example/m2?a&b".to_owned()]
    }

    #[test]
    fn whose_fault_it_is() {
        let absent = "\t\tmodule not found: demo#base;2.0\n\t\t::          UNRESOLVED DEPENDENCIES         ::\n\n\
            \t\t:: demo#base;2.0: not found\n\t\t:: demo#more;1.0: not found\n";
        let Failure::Asked(why) = failure(absent, &repositories()[..1]) else { panic!("the job's") };
        assert_eq!(why, "there is no demo:base:2.0, demo:more:1.0 in https://one.example/m2");
        for away in [
            "Server access error at url https://one.example/m2/a.pom (java.net.ConnectException: Connection refused)",
            "[FAILED     ] demo#base;2.0!base.jar: invalid sha1: expected=20 computed=ff (4ms)",
        ] {
            let Failure::Unable(why) = failure(&format!("{absent}\n\t{away}\n"), &repositories()) else {
                panic!("the platform's")
            };
            assert!(why.ends_with(away), "{why}");
        }
        let no_file = "\t\t::              FAILED DOWNLOADS            ::\n\t\t:: demo#base;2.0!base.jar\n";
        assert!(
            matches!(failure(no_file, &repositories()), Failure::Asked(why) if why.contains("no JAR of demo:base"))
        );
        assert!(matches!(failure("Error: no class\n", &repositories()), Failure::Unable(_)));
    }

    #[test]
    fn the_operators_proxy() {
        let with = |pairs: &'static [(&str, &str)]| {
            proxy(move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[]).expect("none"), Vec::<String>::new());
        let options = with(&[("https_proxy", "http://proxy.example:3128/"), ("NO_PROXY", "one.example, .two.example")]);
        let expected = [
            "-Dhttps.proxyHost=proxy.example",
            "-Dhttps.proxyPort=3128",
            "-Dhttp.nonProxyHosts=localhost|127.*|[::1]|one.example|*.two.example",
        ];
        assert_eq!(options.expect("valid"), expected);
        for refused in [&[("HTTPS_PROXY", "http://u:secret@proxy:1")], &[("HTTPS_PROXY", "proxy")]] {
            let why = with(refused).expect_err("refused").to_string();
            assert!(!why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn what_is_found_is_gathered() {
        let dir = tempfile::tempdir().expect("directory");
        let (found, jars) = (dir.path().join("found"), dir.path().join("jars"));
        fs::create_dir(&jars).expect("made");
        assert!(gather(&found, &jars).expect("nothing").is_empty());
        let put = |name: &str| {
            let path = found.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, name).expect("written");
        };
        for name in ["org.b/core/2.0/core-tests.jar", "org.a/core/1.0/core.jar", "org.a/data/1.0/data.zip"] {
            put(name);
        }
        let packages = gather(&found, &jars).expect("gathered");
        let shown: Vec<&str> = packages.iter().map(|package| package.url.as_str()).collect();
        assert_eq!(shown, ["pkg:maven/org.a/core@1.0", "pkg:maven/org.b/core@2.0"]);
        assert_eq!(fs::read(jars.join("org.b_core-tests-2.0.jar")).expect("there"), b"org.b/core/2.0/core-tests.jar");
        put("org.a/core/1.0/a,b.jar");
        assert!(matches!(gather(&found, &jars), Err(Failure::Asked(_))));
    }

    #[test]
    fn what_ivy_is_told() {
        let settings = settings_file(&repositories(), Path::new("/place"));
        assert!(settings.contains("root='https://two.example/m2?a&amp;b'"), "{settings}");
        assert!(settings.find("one.example") < settings.find("two.example"), "{settings}");
    }
}
