//! Containers that are started before their job is there: of the sandbox's one job-to-be, with its limits, and nothing in
//! them that belongs to any project. Each waits for a line and becomes what that says, once.

use std::{
    collections::HashMap,
    fs::{File, Permissions},
    io::{ErrorKind, Read, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::spark::{self, Launch};
use model::{NodeName, NodeSize};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::Mode,
    unistd::mkfifo,
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    time::{Instant, sleep},
};

use super::{
    Args,
    attempt::write_conf,
    containers::{Container, Containers, Limits, Pipes},
    gate::GATE,
    output::Output,
};
use crate::control::Wait;

/// Containers that wait, by their nodes. Those that are never taken end when this is dropped: nobody reads their reports
/// any more.
#[derive(Debug, Default, Clone)]
pub struct Waiting {
    nodes: Arc<Mutex<HashMap<NodeName, Node>>>,
}

#[derive(Debug)]
struct Node {
    launch: Launch,
    limits: Limits,
    container: Container,
    pipes: Pipes,
    line: PathBuf,
}

impl Waiting {
    /// Starts all containers that a job of this shape begins with; returns once each of them waits.
    pub async fn start(args: &Args, wait: &Wait) -> Result<Waiting, String> {
        let containers = Containers::new(args.id, &args.warden);
        for file in spark::waiting_files(&wait.sizing) {
            write_conf(&args.conf, &file).map_err(|cause| format!("{}: {cause}", file.name))?;
        }
        let names: Vec<NodeName> =
            std::iter::once(NodeName::driver()).chain((1..=wait.sizing.executors).map(NodeName::executor)).collect();
        let starts = names.iter().filter_map(|name| {
            let (launch, size) = launch_of(wait, name)?;
            let limits = Limits { cores: size.cores, memory: size.total_memory(), storage: size.storage() };
            Some(Node::start(&containers, name.clone(), args.conf.join(pipe_of(name)), launch, limits))
        });
        // All of them, so that none is still being started when the others are removed.
        let nodes = futures::future::join_all(starts).await.into_iter().collect::<Result<Vec<_>, String>>();
        let nodes = match nodes {
            Ok(nodes) => nodes,
            Err(why) => {
                for name in &names {
                    containers.remove(name).await;
                }
                return Err(why);
            }
        };
        fail::fail_point!("shim.waits");
        let nodes = nodes.into_iter().map(|node| (node.container.node.clone(), node)).collect();
        Ok(Waiting { nodes: Arc::new(Mutex::new(nodes)) })
    }

    /// The container of a node as `launch` wants it, with `limits`, its output in the log from here on; `None` where none
    /// waits that fits, and then nothing stands in the way of one that is started as usual.
    pub async fn take(
        &self,
        containers: &Containers,
        node: &NodeName,
        launch: &Launch,
        limits: Limits,
        output: &Output,
    ) -> Option<Container> {
        let waiting = self.lock().remove(node)?;
        let pipe = waiting.line.clone();
        let told = match spark::handover(&waiting.launch, launch).filter(|_| waiting.limits == limits) {
            Some(line) => waiting.tell(line, output).await,
            None => Err("it was started for another shape".to_owned()),
        };
        match told {
            Ok(container) => Some(container),
            Err(why) => {
                tracing::info!(%node, why, "a container that waited is not used");
                // Nothing of the job ran in it: it acts on a whole line only, and did not get one.
                discard(containers, node, &pipe).await;
                None
            }
        }
    }

    /// Ends the container of a node that waits, if one does.
    pub async fn give_up(&self, containers: &Containers, node: &NodeName) {
        let waiting = self.lock().remove(node);
        if let Some(waiting) = waiting {
            discard(containers, node, &waiting.line).await;
        }
    }

    /// Lets go of those that nobody took; they end by themselves.
    pub fn let_go(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeName, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    async fn start(
        containers: &Containers,
        name: NodeName,
        line: PathBuf,
        launch: Launch,
        limits: Limits,
    ) -> Result<Node, String> {
        make_pipe(&line).map_err(|cause| format!("the pipe of {name}: {cause}"))?;
        let started = containers.start_unheard(&name, launch.clone(), limits).await;
        let (container, pipes) = started.map_err(|why| why.to_string())?;
        let ready = tokio::time::timeout(PATIENCE, until_ready(pipes)).await;
        let pipes = ready.map_err(|_| format!("{name} is not ready within {} s", PATIENCE.as_secs()))?;
        let pipes = pipes.map_err(|why| format!("{name} ended before it was ready: {why}"))?;
        Ok(Node { launch, limits, container, pipes, line })
    }

    async fn tell(self, line: Vec<u8>, output: &Output) -> Result<Container, String> {
        let Node { container, pipes, line: pipe, .. } = self;
        if !container.runs() {
            return Err("it has ended".to_owned());
        }
        let mut writer = open(&pipe).await.map_err(|cause| format!("its pipe: {cause}"))?;
        // Its reader has it open: the name is of no use to anybody any more.
        std::fs::remove_file(&pipe).map_err(|cause| format!("its pipe: {cause}"))?;
        output.attach(&container.node, pipes.stdout, pipes.stderr).map_err(|cause| format!("its output: {cause}"))?;
        fail::fail_point!("shim.line.ready");
        // The last that can fail: once all of the line is written, it runs.
        let written = tokio::task::spawn_blocking(move || writer.write_all(&line)).await;
        written.map_err(|cause| cause.to_string())?.map_err(|cause| format!("its pipe: {cause}"))?;
        fail::fail_point!("shim.line.sent");
        Ok(container)
    }
}

/// How the container of a node waits, and how large the node is; `None` where it is not known how this engine's executors
/// are started: they are started when they are asked for.
fn launch_of(wait: &Wait, name: &NodeName) -> Option<(Launch, NodeSize)> {
    let Wait { engine, placement, sizing, region } = wait;
    let pipe = format!("/conf/{}", pipe_of(name));
    match name.is_driver() {
        true => Some((spark::waiting_driver(engine, *placement, sizing, region.as_str(), GATE, &pipe), sizing.driver)),
        false => Some((spark::waiting_executor(engine, sizing, region.as_str(), GATE, &pipe)?, sizing.executor)),
    }
}

/// Name of the pipe of a node in `/conf`.
fn pipe_of(node: &NodeName) -> String {
    format!("{node}.line")
}

/// Removes a container that waited, and its pipe.
async fn discard(containers: &Containers, node: &NodeName, pipe: &Path) {
    // Where that is gone already, so much the better.
    let _ = std::fs::remove_file(pipe);
    containers.remove(node).await;
}

/// A pipe that the job's user reads and only the shim writes, whatever the shim's umask.
fn make_pipe(path: &Path) -> std::io::Result<()> {
    mkfifo(path, Mode::from_bits_truncate(0o600))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Reads what a container writes until it says that it waits; what it said before is nobody's log.
async fn until_ready(pipes: Pipes) -> Result<Pipes, String> {
    let receiver = |pipe: OwnedFd| Receiver::from_owned_fd(pipe).map_err(|cause| cause.to_string());
    let (mut stdout, mut stderr) = (receiver(pipes.stdout)?, receiver(pipes.stderr)?);
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let (mut one, mut other) = ([0; 1024], [0; 4096]);
    loop {
        tokio::select! {
            read = stdout.read(&mut one) => match read {
                Ok(0) => break,
                Ok(length) => said.extend_from_slice(&one[..length]),
                Err(cause) => return Err(cause.to_string()),
            },
            read = stderr.read(&mut other), if complained.len() < MOST_SAID => match read {
                Ok(0) => break,
                Ok(length) => complained.extend_from_slice(&other[..length]),
                Err(cause) => return Err(cause.to_string()),
            },
        }
        if said.ends_with(READY) {
            let back = |pipe: Receiver| pipe.into_nonblocking_fd().map_err(|cause| cause.to_string());
            let (stdout, stderr) = (back(stdout)?, back(stderr)?);
            let stderr = emptied(stderr).map_err(|cause| cause.to_string())?;
            return Ok(Pipes { stdout, stderr });
        }
        if said.len() > MOST_SAID {
            return Err("it says too much".to_owned());
        }
    }
    Err(String::from_utf8_lossy(&complained).chars().take(1000).collect())
}

/// Takes what is in a pipe that does not block.
fn emptied(pipe: OwnedFd) -> std::io::Result<OwnedFd> {
    let mut file = File::from(pipe);
    let mut piece = [0; 4096];
    for _ in 0..MOST_SAID {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(_) => {}
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => break,
            Err(cause) => return Err(cause),
        }
    }
    Ok(file.into())
}

/// Opens a pipe whose reader is about to open it, or has.
async fn open(pipe: &Path) -> std::io::Result<File> {
    let until = Instant::now() + READER;
    loop {
        match File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(pipe) {
            Ok(file) => {
                fcntl(&file, FcntlArg::F_SETFL(OFlag::O_WRONLY))?;
                return Ok(file);
            }
            // Between its word and this call it may not have come to open the pipe.
            Err(cause) if cause.raw_os_error() == Some(nix::libc::ENXIO) && Instant::now() < until => {
                sleep(Duration::from_millis(1)).await;
            }
            Err(cause) => return Err(cause),
        }
    }
}

const READY: &[u8] = b"ready\n";
/// How long a JVM may take to get ready: some seconds, on a machine that does much else more.
const PATIENCE: Duration = Duration::from_secs(120);
const READER: Duration = Duration::from_secs(5);
const MOST_SAID: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use nix::unistd::pipe2;

    use super::*;

    fn pipes() -> (Pipes, File, File) {
        let pipe = || pipe2(OFlag::O_CLOEXEC).expect("pipe");
        let ((stdout, out), (stderr, err)) = (pipe(), pipe());
        (Pipes { stdout, stderr }, out.into(), err.into())
    }

    #[tokio::test]
    async fn what_is_said_before_a_container_is_ready_is_nobodys_log() {
        let (ours, mut out, mut err) = pipes();
        err.write_all(b"a warning\n").expect("written");
        out.write_all(b"a word\nready\n").expect("written");
        let ours = until_ready(ours).await.expect("ready");
        out.write_all(b"the job's\n").expect("written");
        err.write_all(b"the job's too\n").expect("written");
        drop((out, err));
        for (pipe, said) in [(ours.stdout, "the job's\n"), (ours.stderr, "the job's too\n")] {
            let mut text = String::new();
            File::from(pipe).read_to_string(&mut text).expect("read");
            assert_eq!(text, said);
        }
    }

    #[tokio::test]
    async fn one_that_ends_before_it_is_ready_says_why() {
        let (ours, out, mut err) = pipes();
        err.write_all(b"no memory\n").expect("written");
        drop((out, err));
        // Its last words may be read after the end of its output is seen.
        let why = until_ready(ours).await.expect_err("it ended");
        assert!(why.is_empty() || why == "no memory\n", "{why}");
        let (ours, mut out, _err) = pipes();
        let talk = std::thread::spawn(move || while out.write_all(&[b'x'; 4096]).is_ok() {});
        assert!(until_ready(ours).await.expect_err("endless").contains("too much"));
        talk.join().expect("its reader is gone");
    }

    #[tokio::test]
    async fn a_pipe_without_a_reader_is_waited_for_and_then_gets_the_whole_line() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("line");
        make_pipe(&path).expect("pipe");
        assert_eq!(path.metadata().expect("made").permissions().mode() & 0o777, 0o644);
        let reader = std::thread::spawn({
            let path = path.clone();
            move || std::fs::read(path).expect("read")
        });
        let mut writer = open(&path).await.expect("a reader comes");
        let line = vec![b'x'; 1024 * 1024];
        let written = tokio::task::spawn_blocking({
            let line = line.clone();
            move || writer.write_all(&line)
        });
        written.await.expect("task").expect("more than a pipe holds");
        assert_eq!(reader.join().expect("reader"), line);
    }
}
