//! What a job brings along: a Python environment, packages of Python and of Maven, on every engine (JOB-1).

mod support;

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::{Stack, engines, file, free_port, program, python, text, versions, wait_for};

/// A virtual environment of the system's Python with the module `greeting`, as `venv-pack` packs one.
fn packed(dir: &Path) -> PathBuf {
    let place = dir.join("venv");
    run(Command::new("/usr/bin/python3").args(["-m", "venv", "--without-pip", "--symlinks"]).arg(&place));
    let library = fs::read_dir(place.join("lib")).expect("lib").flatten().next().expect("a version").path();
    let module = "def greet(name):\n    return f'hello {name}'\n";
    fs::write(library.join("site-packages/greeting.py"), module).expect("written");
    let archive = dir.join("environment.tar.gz");
    run(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&place).arg("."));
    archive
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn a_packed_environment_is_the_python_of_driver_and_executors() {
    let stack = Stack::start();
    let (main, archive) = (program("environment.py"), packed(&stack.dir));
    for version in versions() {
        let id = stack.submit(&[path(&main), "--environment", path(&archive), "--engine-version", &version]);
        let job = stack.wait(&id);
        let log = stack.logs(&id);
        assert_eq!(job["status"], "COMPLETED", "{job} {log}");
        for node in ["driver", "executor"] {
            let line = format!("{node}: hello {node} by /conf/environment/bin/python");
            assert!(log.contains(&line), "{line}: {log}");
        }
    }
    // Nothing is installed where the operator allows no index.
    let list = file(&stack.dir, "requirements.txt", b"greeting\n");
    let refused = stack.run(&["job", "submit", path(&main), "--environment", path(&list)]);
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("this service has no index of Python packages"), "{said}");
    // The same program without it, and with what is no environment: the job's fault, and said which file.
    let id = stack.submit(&[path(&main)]);
    assert_eq!(stack.wait(&id)["status"], "FAILED");
    let broken = file(&stack.dir, "broken.tar.gz", b"no archive");
    let id = stack.submit(&[path(&main), "--environment", path(&broken)]);
    let job = stack.wait(&id);
    assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"job".into()), "{job}");
    let reason = job["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the environment 'broken.tar.gz' is not a whole .tar.gz archive"), "{job}");
}

/// An index or repository of packages on loopback, until it is dropped.
struct Index(Child);

impl Index {
    fn start(dir: &Path, port: u16) -> Index {
        let server = Command::new("/usr/bin/python3")
            .args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory", path(dir)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 runs");
        let index = Index(server);
        wait_for("the index", Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        index
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn packages_are_installed_once_and_checked_at_each_use() {
    let (port, dir) = (free_port(), tempfile::tempdir().expect("directory"));
    // `wrapt` has native code.
    let (simple, url) = (dir.path().join("simple"), format!("http://127.0.0.1:{port}/simple"));
    run(Command::new(python()).arg(program("index.py")).args([path(&simple), &url, "wrapt"]));
    for open in [dir.path(), &simple] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).expect("mode");
    }
    let stack = Stack::configured(&format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[environments]\npypi = 'http://127.0.0.1:{port}/simple'\n"
    ));
    let main = program("environment.py");
    let submit = |name: &str, content: &str, version: &str| {
        let environment = file(&stack.dir, name, content.as_bytes());
        // Found by its name beside the main file.
        let id = stack.submit(&[path(&main), "--file", path(&environment), "--engine-version", version]);
        let job = stack.wait(&id);
        let log = stack.logs(&id);
        (id, job, log)
    };
    let (old, new) = (&versions()[0], &versions()[1]);
    let asks = "greeting>=1 # and what it needs\npyspark==3.5.0\n";

    let index = Index::start(dir.path(), port);
    let (id, job, log) = submit("requirements.txt", asks, old);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
    for line in
        ["driver: hello driver", "executor: hello executor", "(made): greeting 1.0, wrapt", "left out: pyspark==3.5.0"]
    {
        assert!(log.contains(line), "{line}: {log}");
    }
    let made = text(&stack.get("odp-logs", &format!("{id}/driver/environment.log")));
    assert!(made.contains("Successfully installed greeting-1.0 wrapt-"), "{made}");

    // What the job asks for and there is not is the job's to mend, and is named.
    let (_, job, _) = submit("requirements.txt", "greeting\nsourceonly==1.0\n", old);
    assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"job".into()), "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("no wheel of sourceonly==1.0")), "{job}");
    // No code of a package is run, and none comes from elsewhere, however it is asked for.
    for (name, why) in [("builds", "would have to be built"), ("leads", "harmless is asked for by its address")] {
        let (id, job, _) = submit("requirements.txt", name, old);
        let said = || text(&stack.get("odp-logs", &format!("{id}/driver/environment.log")));
        assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"job".into()), "{job} {}", said());
        assert!(job["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{job} {}", said());
        assert!(!simple.join("ran").exists(), "{}", said());
    }
    let (_, job, _) = submit("environment.yml", "dependencies:\n  - python=2.7\n", old);
    assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"job".into()), "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("and jobs have Python 3.")), "{job}");
    let (_, job, _) = submit("requirements.txt", "--index-url https://elsewhere.example\n", old);
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("line 1: '--index-url")), "{job}");

    // Without the index: the other engine has the same Python, so the same environment.
    drop(index);
    let conda = "dependencies:\n  - pip\n  - pip:\n    - greeting>=1\n";
    let (_, job, log) = submit("environment.yml", conda, new);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
    assert!(log.contains("executor: hello executor") && log.contains("(kept): greeting 1.0, wrapt"), "{log}");

    // An archive that was changed in the bucket is not used, whoever changed it.
    let keys = stack.keys("odp-environments", "");
    let archive = keys.iter().find(|key| key.ends_with("/packages.tar.gz")).expect("an archive");
    assert_eq!(keys.len(), 3, "archive, lock and seal: {keys:?}");
    stack.put(&file(&stack.dir, "changed", b"changed"), "odp-environments", archive);
    let (_, job, _) = submit("requirements.txt", asks, old);
    assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"platform".into()), "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("the package index cannot be used")), "{job}");
    let _index = Index::start(dir.path(), port);
    let (_, job, log) = submit("requirements.txt", asks, old);
    assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
    assert!(log.contains("(made): greeting 1.0, wrapt"), "{log}");
}

#[test]
fn maven_packages_are_resolved_once() {
    let (port, dir) = (free_port(), tempfile::tempdir().expect("directory"));
    let (old, new) = (&versions()[0], &versions()[1]);
    let jars = engines().join(format!("spark-{old}/jars"));
    let repository = dir.path().join("maven");
    run(Command::new("/usr/bin/python3").arg(program("maven.py")).arg(&repository).arg(jars));
    let stack = Stack::configured(&format!(
        "[api]\nlisten = '127.0.0.1:0'\n[s3]\nlisten = '127.0.0.1:0'\n[environments]\nmaven = ['http://127.0.0.1:{port}/maven']\n"
    ));
    let main = program("packages.py");
    let submit = |arguments: &[&str]| {
        let id = stack.submit(arguments);
        let job = stack.wait(&id);
        let log = stack.logs(&id);
        (id, job, log)
    };
    let python =
        |packages: &str, version: &str| submit(&[path(&main), "--packages", packages, "--engine-version", version]);
    let used = ["driver: hello driver of 2.0", "hello executor 0 of 2.0", "hello executor 3 of 2.0"];
    let resolved = "demo:app 1.0, demo:base 2.0, demo:left 1.0, demo:more 1.0, demo:right 1.0";
    let ran = |job: &serde_json::Value, log: &str, how: &str| {
        assert_eq!(job["status"], "COMPLETED", "{job} {log}\n{}", stack.log());
        for line in used {
            assert!(log.contains(line), "{line}: {log}");
        }
        let line = format!("the packages ({how}): {resolved}\n");
        assert!(log.contains(&line), "{line}: {log}");
    };

    let server = Index::start(dir.path(), port);
    let (id, job, log) = python("demo:app:1.0", old);
    ran(&job, &log, "made");
    let said = text(&stack.get("odp-logs", &format!("{id}/driver/packages.log")));
    assert!(said.contains("demo#base;1.0 by [demo#base;2.0]"), "{said}");
    let (_, job, log) = python("demo:app:1.0", new);
    ran(&job, &log, "made");

    // What there is not is the job's to mend, and is named; what is not as its sum says is the repository's.
    let (_, job, _) = python("demo:nosuch:1.0", old);
    assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"job".into()), "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("there is no demo:nosuch:1.0 in http")), "{job}");
    fs::write(repository.join("demo/base/1.0/base-1.0.jar"), "changed").expect("written");
    let (_, job, _) = python("demo:left:1.0", old);
    assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"platform".into()), "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("invalid sha1")), "{job}");
    // No address but those that the operator allows.
    let elsewhere = ["--packages", "demo:app:1.0", "--repositories", "https://elsewhere.example/m2"];
    let refused = stack.run(&[&["job", "submit", path(&main)][..], &elsewhere].concat());
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("not one of those that this service allows: http://127.0.0.1:"), "{said}");

    // Without the repository: a program of Java has the same packages as one of Python.
    drop(server);
    let own = repository.join("demo/main/1.0/main-1.0.jar");
    let (_, job, log) =
        submit(&[path(&own), "--class", "demo.Main", "--packages", "demo:app:1.0", "--engine-version", old]);
    ran(&job, &log, "kept");
    let (_, job, log) = python("demo:app:1.0", new);
    ran(&job, &log, "kept");
    let (_, job, _) = python("demo:right:1.0", old);
    assert_eq!((&job["status"], &job["fault"]), (&"FAILED".into(), &"platform".into()), "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("a Maven repository cannot be used")), "{job}");
}
