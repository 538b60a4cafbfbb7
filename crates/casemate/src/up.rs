//! `casemate up`: warden and `serve` in one terminal, for a first try and for tests. Starts them again when they
//! die, and at the end leaves no process, mount, namespace, rule or file outside of the data directory.

use std::{
    fs,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use clap::Args;
use command_fds::{CommandFdExt, FdMapping};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::{
    config::{Config, Service},
    failure::{Doing, Failure},
    inherited, listener, privileges,
};

/// Arguments of `casemate up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Configuration file; every value has a default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; made when it does not exist
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Run directory for sockets and sandboxes
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Directory of the engines
    #[arg(long, value_name = "DIR")]
    engines: Option<PathBuf>,
    /// Address of the jobs API
    #[arg(long, value_name = "ADDRESS:PORT")]
    api: Option<SocketAddr>,
    /// Address of the object store
    #[arg(long, value_name = "ADDRESS:PORT")]
    s3: Option<SocketAddr>,
    /// Jobs that may run at once
    #[arg(long, value_name = "NUMBER")]
    max_running: Option<u32>,
    /// File to write `{api, s3, config, client_config, warden_pid, serve_pid}` to as JSON, once everything answers
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs until SIGINT or SIGTERM.
pub async fn up(args: UpArgs) -> Result<(), Failure> {
    if !privileges::is_root() {
        return Err(Failure::new("`casemate up` builds sandboxes, and needs root for that")
            .help("run it as root; `serve` drops to its own user by itself"));
    }
    let mut interrupt = signal(SignalKind::interrupt()).doing("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).doing("cannot watch for SIGTERM")?;
    let mut stack = Stack::prepare(&args)?;
    let outcome = tokio::select! {
        outcome = stack.run(args.ready_file.as_deref()) => outcome,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    eprintln!("stopping");
    let stopped = stack.stop().await;
    if let Some(file) = &args.ready_file {
        let _ = fs::remove_file(file);
    }
    outcome.and(stopped)
}

/// The processes and what they share.
struct Stack {
    config: Config,
    service: Service,
    config_file: PathBuf,
    api: std::net::TcpListener,
    s3: std::net::TcpListener,
    warden: Option<Child>,
    serve: Option<Child>,
    /// Held while this instance runs; the kernel lets go of it when the process ends, however it ends.
    _lock: Flock<fs::File>,
}

impl Stack {
    fn prepare(args: &UpArgs) -> Result<Stack, Failure> {
        let mut config = Config::read(args.config.as_deref())?;
        if let Some(data) = &args.data {
            config.data = absolute(data)?;
        }
        config.run = match &args.run {
            Some(run) => absolute(run)?,
            None if args.data.is_some() => run_directory(&config.data),
            None => config.run,
        };
        if let Some(engines) = &args.engines {
            config.engines = Some(absolute(engines)?);
        }
        config.api.listen = args.api.unwrap_or(config.api.listen);
        config.s3.listen = args.s3.unwrap_or(config.s3.listen);
        config.jobs.max_running = args.max_running.unwrap_or(config.jobs.max_running);
        config.check()?;
        let service = Service::of(&config)?;
        make_data_directory(&config.data, service)?;
        let lock = lock(&config.data)?;
        make_run_directory(&config.run)?;
        let api = listener::bind(&config.api, None)?;
        let s3 = listener::bind(&config.s3, None)?;
        config.api.listen = api.local_addr().doing("cannot tell the API's address")?;
        config.s3.listen = s3.local_addr().doing("cannot tell the object store's address")?;
        let config_file = config.run.join(CONFIG_FILE);
        let text = toml::to_string(&config).doing("cannot write the configuration down")?;
        fs::write(&config_file, text).doing(format!("cannot write {}", config_file.display()))?;
        Ok(Stack { config, service, config_file, api, s3, warden: None, serve: None, _lock: lock })
    }

    async fn run(&mut self, ready_file: Option<&Path>) -> Result<(), Failure> {
        self.first_run().await?;
        self.warden = Some(self.start_warden()?);
        if let Some(status) = self.wait_for_warden().await? {
            return Err(Failure::new(format!("the warden ended at once ({status})"))
                .help("`casemate doctor` says what this machine lacks"));
        }
        self.serve = Some(self.start_serve()?);
        self.wait_for_serve().await?;
        self.announce();
        self.write_ready(ready_file)?;
        let mut patience = Patience::default();
        loop {
            let (Some(warden), Some(serve)) = (self.warden.as_mut(), self.serve.as_mut()) else { return Ok(()) };
            tokio::select! {
                status = warden.wait() => {
                    patience.death("the warden", status.doing("cannot wait for the warden")?)?;
                    self.warden = Some(self.start_warden()?);
                    // One that ends before it is seen to answer has died once more: the next turn counts it. What keeps it
                    // from starting may pass.
                    if self.wait_for_warden().await?.is_some() {
                        tokio::time::sleep(BEFORE_NEXT_START).await;
                    }
                }
                status = serve.wait() => {
                    patience.death("serve", status.doing("cannot wait for serve")?)?;
                    self.serve = Some(self.start_serve()?);
                }
            }
            self.write_ready(ready_file)?;
        }
    }

    /// Makes the first account, project and keys, once, as the service user.
    async fn first_run(&self) -> Result<(), Failure> {
        let status = self
            .command("first-run")
            .uid(self.service.uid)
            .gid(self.service.gid)
            .status()
            .await
            .doing("cannot make the first account")?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::new("the first account could not be made")),
        }
    }

    fn start_warden(&self) -> Result<Child, Failure> {
        self.command("warden").spawn().doing("cannot start the warden")
    }

    fn start_serve(&self) -> Result<Child, Failure> {
        let mut command = std::process::Command::new(own_executable());
        command
            .args(["serve", "--config"])
            .arg(&self.config_file)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .env("LISTEN_FDS", "2")
            .stdin(Stdio::null());
        let duplicate = |listener: &std::net::TcpListener| -> Result<OwnedFd, Failure> {
            listener.as_fd().try_clone_to_owned().doing("cannot pass the listeners on")
        };
        command
            .fd_mappings(vec![
                FdMapping { parent_fd: duplicate(&self.api)?, child_fd: inherited::FIRST },
                FdMapping { parent_fd: duplicate(&self.s3)?, child_fd: inherited::FIRST + 1 },
            ])
            .doing("cannot pass the listeners on")?;
        let mut command = Command::from(command);
        command.uid(self.service.uid).gid(self.service.gid);
        own_process_group(&mut command).spawn().doing("cannot start serve")
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(own_executable());
        command
            .args([subcommand, "--config"])
            .arg(&self.config_file)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null());
        own_process_group(&mut command);
        command
    }

    /// Waits until the warden answers; how it ended where it did that first.
    async fn wait_for_warden(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let socket = self.config.warden_socket();
        let started = Instant::now();
        while warden::Client::connect(&socket).await.is_err() {
            if let Some(status) = self.warden.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                return Ok(Some(status));
            }
            if started.elapsed() > START_LIMIT {
                return Err(Failure::new("the warden does not answer"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }

    async fn wait_for_serve(&mut self) -> Result<(), Failure> {
        // The listener exists already, so a connection alone proves nothing: an answer does.
        let started = Instant::now();
        loop {
            if let Some(status) = self.serve.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                return Err(Failure::new(format!("serve ended at once ({status})")));
            }
            if answers(self.config.api.tls.is_some(), self.config.api.listen).await {
                return Ok(());
            }
            if started.elapsed() > START_LIMIT {
                return Err(Failure::new("serve does not answer"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn announce(&self) {
        println!("jobs API:     {}/1.0", self.config.api.public_urls(self.config.api.listen)[0]);
        println!("object store: {}", self.config.s3.public_urls(self.config.s3.listen)[0]);
        println!("keys:         {}", self.client_config().display());
        println!("try:          CASEMATE_CONFIG={} casemate job list", self.client_config().display());
        println!("Ctrl-C stops everything.");
    }

    fn client_config(&self) -> PathBuf {
        self.config.data.join(FIRST_RUN_FILE)
    }

    fn write_ready(&self, ready_file: Option<&Path>) -> Result<(), Failure> {
        let Some(file) = ready_file else { return Ok(()) };
        let ready = serde_json::json!({
            "api": self.config.api.public_urls(self.config.api.listen)[0],
            "s3": self.config.s3.public_urls(self.config.s3.listen)[0],
            "client_config": self.client_config(),
            "config": self.config_file,
            "warden_pid": self.warden.as_ref().and_then(Child::id),
            "serve_pid": self.serve.as_ref().and_then(Child::id),
        });
        let part = file.with_extension("part");
        fs::write(&part, ready.to_string())
            .and_then(|()| fs::rename(&part, file))
            .doing(format!("cannot write {}", file.display()))
    }

    /// Stops `serve` first, so that nothing new begins; then every sandbox; then the warden.
    async fn stop(&mut self) -> Result<(), Failure> {
        if let Some(child) = self.serve.take() {
            end(child).await;
        }
        if let Some(child) = self.warden.take() {
            end(child).await;
        }
        let config = self.config.warden(self.service)?;
        let cleared = tokio::task::spawn_blocking(move || warden::destroy_all(&config))
            .await
            .doing("cannot clear the sandboxes")?
            .doing("cannot clear the sandboxes");
        fs::remove_dir_all(&self.config.run).doing(format!("cannot remove {}", self.config.run.display()))?;
        // The parent is shared by instances; it goes with the last of them.
        if let Some(parent) = self.config.run.parent().filter(|parent| parent.ends_with("casemate")) {
            let _ = fs::remove_dir(parent);
        }
        cleared
    }
}

/// Restarts after a death, but not for ever: twenty deaths within a minute end the stack.
#[derive(Default)]
struct Patience(Vec<Instant>);

impl Patience {
    fn death(&mut self, who: &str, status: ExitStatus) -> Result<(), Failure> {
        eprintln!("{who} ended ({status}); starting it again");
        self.0.retain(|time| time.elapsed() < Duration::from_secs(60));
        self.0.push(Instant::now());
        match self.0.len() > MAX_DEATHS_A_MINUTE {
            true => Err(Failure::new(format!("{who} keeps ending; the last time with {status}"))),
            false => Ok(()),
        }
    }
}

/// SIGTERM, then SIGKILL after ten seconds.
async fn end(mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Whether the API answers: one HTTP request by hand, for no more than its first line is of interest. Behind TLS, a
/// connection has to do.
async fn answers(tls: bool, address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        if tls {
            return Ok(true);
        }
        let request = format!("GET /1.0/auth/time HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(1024).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(true)))
}

/// A group of its own, so that Ctrl-C reaches `up` alone, which then stops the others in order.
fn own_process_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

fn own_executable() -> &'static Path {
    // Resolved by the kernel to this program's file, also when its directory is not readable for the service user.
    Path::new("/proc/self/exe")
}

/// A path that does not depend on the current directory.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).doing(format!("cannot use the path {}", path.display()))
}

/// The run directory of the instance over a data directory that is not the default one; short, for sockets are in it.
pub fn run_directory(data: &Path) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    PathBuf::from(format!("/run/casemate/{:012x}", hasher.finish() & 0xffff_ffff_ffff))
}

/// Makes the data directory for the user of the service, or checks that it is that user's.
pub fn make_data_directory(data: &Path, service: Service) -> Result<(), Failure> {
    let what = format!("cannot make the data directory {}", data.display());
    if !data.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(data).doing(&what)?;
        fs::set_permissions(data, fs::Permissions::from_mode(0o700)).doing(&what)?;
        chown(data, Some(service.uid), Some(service.gid)).doing(&what)?;
    }
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(data).doing(&what)?);
    if owner != service.uid {
        return Err(Failure::new(format!(
            "the data directory {} belongs to user {owner}, not to user {}",
            data.display(),
            service.uid
        ))
        .help("set `user` in the configuration to its owner, or choose another directory"));
    }
    Ok(())
}

fn make_run_directory(run: &Path) -> Result<(), Failure> {
    let what = format!("cannot make the run directory {}", run.display());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(run).doing(&what)?;
    fs::set_permissions(run, fs::Permissions::from_mode(0o711)).doing(&what)
}

fn lock(data: &Path) -> Result<Flock<fs::File>, Failure> {
    let file = fs::File::open(data).doing(format!("cannot open {}", data.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, _)| Failure::new(format!("another `casemate up` uses the data directory {}", data.display())))
}

/// Name of the client configuration that the first run writes into the data directory.
pub const FIRST_RUN_FILE: &str = "first-run.toml";
/// Name of the configuration that `up` writes into the run directory for its parts.
pub const CONFIG_FILE: &str = "casemate.toml";
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
const MAX_DEATHS_A_MINUTE: usize = 20;
/// So long that such deaths alone are never too many.
const BEFORE_NEXT_START: Duration = Duration::from_secs(3);
