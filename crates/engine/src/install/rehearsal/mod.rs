//! Runs one small job of an engine as plain processes of this machine, in directories of its own that look as they do
//! in a job: for the class-data archives of an install, and for tests. No isolation: the program is ours.
//! Start at [`run`].

mod http;
mod objects;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use model::JobSpec;

use crate::{
    Error, Installed, file_error,
    pods::{Effect, Pods},
    spark::{self, DriverContext, Launch},
};

/// A job to rehearse.
pub struct Rehearsal<'a> {
    /// The engine's directory.
    pub home: &'a Path,
    /// What it is.
    pub engine: &'a Installed,
    /// The job.
    pub spec: &'a JobSpec,
    /// Its properties file.
    pub properties: Option<&'a str>,
    /// Files of its working directory.
    pub files: &'a [(&'a str, &'a [u8])],
    /// Options of the driver's JVM beside the platform's.
    pub driver_options: &'a [String],
    /// Options of the executors' JVMs beside the platform's.
    pub executor_options: &'a [String],
    /// An empty directory for what the job writes.
    pub place: &'a Path,
    /// How long it may take.
    pub limit: Duration,
}

/// How a rehearsal went.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code of the driver; 128 and the number of a signal that ended it.
    pub code: i32,
    /// Standard output of the driver.
    pub output: String,
    /// Standard error of the driver.
    pub errors: String,
    /// Standard error of the executors, one after the other.
    pub executor_errors: String,
    /// How many executors were started.
    pub executors: usize,
    /// Options that Spark asked for the first executor's JVM, but for its own properties.
    pub executor_options: Vec<String>,
    /// From the start of the driver to its end.
    pub took: Duration,
    /// What was asked of the pods API and of the object store: method, path, and of the former the status.
    pub requests: Vec<String>,
}

/// Runs the job to its end.
pub fn run(rehearsal: &Rehearsal) -> Result<Outcome, Error> {
    let place = rehearsal.place;
    for name in ["work", "conf", "scratch", "tmp", "root", "root-executor"] {
        let path = place.join(name);
        fs::create_dir_all(&path).map_err(file_error("create", &path))?;
    }
    for (name, content) in rehearsal.files {
        let path = place.join("work").join(name);
        fs::write(&path, content).map_err(file_error("write", &path))?;
    }
    let host = Arc::new(Host {
        pods: Mutex::new(Pods::new(rehearsal.spec.sizing)),
        requests: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    let pods = listen(place)?;
    let objects = listen(place)?;
    let (pods_url, objects_url) = (address(&pods), address(&objects));
    let region = rehearsal.spec.region.as_str();
    let context = DriverContext {
        spec: rehearsal.spec,
        engine: rehearsal.engine,
        job_id: model::JobId(uuid::Uuid::now_v7()),
        access_key: "REHEARSAL",
        secret_key: "rehearsal",
        region,
        objects_url: &objects_url,
        pods_url: &pods_url,
        rpc_secret: &uuid::Uuid::new_v4().simple().to_string(),
        packed: false,
        jars: &[],
    };
    for file in spark::conf_files(&context, rehearsal.properties)? {
        let path = place.join("conf").join(file.name);
        let mode = fs::Permissions::from_mode(file.mode());
        fs::write(&path, file.bytes)
            .and_then(|()| fs::set_permissions(&path, mode))
            .map_err(file_error("write", &path))?;
    }
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| http::serve(&pods, &host.stop, |request, stream| host.answer(&request, stream)));
        scope.spawn(|| {
            http::serve(&objects, &host.stop, |request, stream| {
                lock(&host.requests).push(format!("{} {}", request.method, request.target));
                objects::answer(&request, stream)
            })
        });
        let outcome = supervise(rehearsal, &context, &host);
        host.stop.store(true, Ordering::Relaxed);
        outcome
    });
    outcome.map(|outcome| Outcome { requests: std::mem::take(&mut *lock(&host.requests)), ..outcome })
}

struct Host {
    pods: Mutex<Pods>,
    requests: Mutex<Vec<String>>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(place: &Path) -> Result<TcpListener, Error> {
    TcpListener::bind("127.0.0.1:0").map_err(file_error("listen on loopback for", place))
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().map(|address| format!("http://{address}")).unwrap_or_default()
}

/// Starts the driver, then whatever the pods API is asked for, until the driver has ended and its executors too.
fn supervise(rehearsal: &Rehearsal, context: &DriverContext, host: &Host) -> Result<Outcome, Error> {
    let place = rehearsal.place;
    let began = Instant::now();
    let launch = with_options(spark::driver(context), rehearsal.driver_options);
    let mut driver = Running(start(rehearsal, &launch, "driver")?);
    let mut executors: BTreeMap<String, (Running, Option<Instant>)> = BTreeMap::new();
    let mut started = 0;
    let mut executor_options = Vec::new();
    let mut ended: Option<(i32, Duration)> = None;
    loop {
        let effects = lock(&host.pods).take_effects();
        for effect in effects {
            match effect {
                Effect::Start(wish) => {
                    if started == 0 {
                        executor_options = spark::asked_options(&wish);
                    }
                    let (sizing, region) = (&rehearsal.spec.sizing, context.region);
                    let launch = spark::executor(&wish, rehearsal.engine, sizing, region, context.objects_url);
                    let launch = with_options(launch, rehearsal.executor_options);
                    let child = start(rehearsal, &launch, &format!("executor-{}", wish.executor))?;
                    executors.insert(wish.name.clone(), (Running(child), None));
                    lock(&host.pods).started(&wish.name);
                    started += 1;
                }
                Effect::Stop { name, .. } => {
                    if let Some((_, stop)) = executors.get_mut(&name) {
                        *stop = Some(Instant::now() + STOP_AFTER);
                    }
                }
            }
        }
        let mut gone = Vec::new();
        for (name, (child, stop)) in &mut executors {
            let late = stop.is_some_and(|when| Instant::now() > when)
                || ended.is_some_and(|(_, at)| began.elapsed() > at + LINGER);
            if late {
                let _ = child.0.kill();
            }
            if let Ok(Some(status)) = child.0.try_wait() {
                lock(&host.pods).ended(name, code(status), None);
                gone.push(name.clone());
            }
        }
        gone.iter().for_each(|name| drop(executors.remove(name)));
        if ended.is_none() {
            ended = driver.0.try_wait().ok().flatten().map(|status| (code(status), began.elapsed()));
        }
        match ended {
            Some((code, took)) if executors.is_empty() => {
                let read = |name: &str| {
                    fs::read(place.join(name))
                        .map(|text| String::from_utf8_lossy(&text).into_owned())
                        .unwrap_or_default()
                };
                let executor_errors = (1..=started).map(|number| read(&format!("executor-{number}.err"))).collect();
                return Ok(Outcome {
                    code,
                    output: read("driver.out"),
                    errors: read("driver.err"),
                    executor_errors,
                    executors: started,
                    executor_options,
                    took,
                    requests: Vec::new(),
                });
            }
            _ if began.elapsed() > rehearsal.limit => {
                return Err(Error::Tool {
                    doing: "rehearsing a job".into(),
                    why: format!(
                        "it did not end in {:?}; its output is in {}; last requests: {:?}",
                        rehearsal.limit,
                        place.display(),
                        lock(&host.requests).iter().rev().take(8).collect::<Vec<_>>(),
                    ),
                });
            }
            _ => std::thread::sleep(TICK),
        }
    }
}

/// A child that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

fn with_options(mut launch: Launch, options: &[String]) -> Launch {
    launch.argv.splice(1..1, options.iter().cloned());
    launch
}

/// Starts a process that sees its files where a job sees them: in a mount namespace of its own, with a root of its own.
fn start(rehearsal: &Rehearsal, launch: &Launch, node: &str) -> Result<Child, Error> {
    let place = rehearsal.place;
    let output = |kind: &str| {
        let path = place.join(format!("{node}.{kind}"));
        // Not only the JVM writes there.
        File::options().create(true).append(true).open(&path).map_err(file_error("create", &path))
    };
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let path = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let homes: [PathBuf; 2] = [path(rehearsal.home), path(place)];
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", ENTER, "enter"]).args(homes);
    command.arg(&rehearsal.engine.java_home).arg(&launch.cwd);
    command.args(launch.env.iter().map(|(name, value)| format!("{name}={value}")));
    command.args(&launch.argv);
    command
        .stdin(Stdio::null())
        .stdout(output("out")?)
        .stderr(output("err")?)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.spawn().map_err(|cause| Error::Tool { doing: "rehearsing a job".into(), why: format!("unshare: {cause}") })
}

/// Builds the root, then becomes the process. Arguments: engine, place, Java home, directory, variables, program.
const ENTER: &str = r#"
set -e
engine=$1; place=$2; java=$3; cwd=$4; shift 4
root=$place/root
mount -t tmpfs -o mode=0755 casemate "$root"
for name in usr bin sbin lib lib32 lib64 libx32 etc dev proc; do
    if [ -L "/$name" ]; then cp -P "/$name" "$root/$name"
    elif [ -d "/$name" ]; then mkdir "$root/$name"; mount --rbind "/$name" "$root/$name"; fi
done
bind() { mkdir -p "$root$2"; mount --bind "$1" "$root$2"; }
case $java in /usr/*|/lib/*) ;; *) bind "$java" "$java" ;; esac
bind "$engine" /opt/spark
for name in work conf scratch tmp; do bind "$place/$name" "/$name"; done
exec chroot "$root" /usr/bin/env -i -C "$cwd" "$@"
"#;

const TICK: Duration = Duration::from_millis(5);
/// Executors end by themselves when their driver tells them to; the class-data archive is written in that moment.
const STOP_AFTER: Duration = Duration::from_secs(60);
const LINGER: Duration = Duration::from_secs(90);
