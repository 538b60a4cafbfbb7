//! Containers of the attempt, through the warden: which may be killed and come back at any moment.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use engine::spark::Launch;
use model::{Cores, MiB, NodeName, SandboxId};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe2,
};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver};
use warden::{Client, ContainerExit, ContainerIo, ContainerSpec, StopSignal};

use super::output::Output;

/// Starts and stops the containers of one sandbox.
#[derive(Debug, Clone)]
pub struct Containers {
    id: SandboxId,
    socket: PathBuf,
}

/// What a container may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Cores.
    pub cores: Cores,
    /// Memory.
    pub memory: MiB,
    /// Local storage.
    pub storage: MiB,
}

/// A container that was started.
#[derive(Debug)]
pub struct Container {
    /// Its node.
    pub node: NodeName,
    exit: Receiver,
    told: Vec<u8>,
}

/// What a container writes to: our ends.
#[derive(Debug)]
pub struct Pipes {
    /// Of its standard output.
    pub stdout: OwnedFd,
    /// Of its standard error.
    pub stderr: OwnedFd,
}

/// A container was not started; nothing of it ran.
#[derive(Debug, thiserror::Error)]
#[error("the container of {node} could not be started: {why}")]
pub struct NotStarted {
    node: NodeName,
    why: String,
}

/// What watched over a container was lost; whether the container ended is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl Containers {
    /// For the sandbox `id`, by the warden at `socket`.
    pub fn new(id: SandboxId, socket: &Path) -> Containers {
        Containers { id, socket: socket.to_owned() }
    }

    /// Starts a container whose words go to `output`.
    pub async fn start(
        &self,
        node: &NodeName,
        launch: Launch,
        limits: Limits,
        output: &Output,
    ) -> Result<Container, NotStarted> {
        let (container, pipes) = self.start_unheard(node, launch, limits).await?;
        let attached = output.attach(node, pipes.stdout, pipes.stderr);
        attached.map_err(|cause| NotStarted { node: node.clone(), why: format!("its output: {cause}") })?;
        Ok(container)
    }

    /// Starts a container, once: where the warden goes away meanwhile, either the container lives and is this one, or
    /// nothing of it ever ran and it is tried again.
    pub async fn start_unheard(
        &self,
        node: &NodeName,
        launch: Launch,
        limits: Limits,
    ) -> Result<(Container, Pipes), NotStarted> {
        let failed = |why: String| NotStarted { node: node.clone(), why };
        let Launch { argv, env, cwd, .. } = launch;
        let Limits { cores, memory, storage } = limits;
        let spec = ContainerSpec { id: self.id, node: node.clone(), argv, env, cwd, cores, memory, storage };
        for _ in 0..TRIES {
            let client = self.warden().await.map_err(|cause| failed(cause.to_string()))?;
            let pipes = || pipe2(OFlag::O_CLOEXEC).map_err(|cause| failed(format!("no pipe: {cause}")));
            let ((stdout, out), (stderr, err), (exit, told)) = (pipes()?, pipes()?, pipes()?);
            let exit = Receiver::from_owned_fd(exit).map_err(|cause| failed(format!("no pipe: {cause}")))?;
            let mut container = Container { node: node.clone(), exit, told: Vec::new() };
            let io = ContainerIo { stdout: out, stderr: err, exit: told };
            match client.start_container(&spec, io).await {
                Ok(()) => {}
                Err(cause @ warden::Error::Connection(_)) => {
                    tracing::warn!(%node, %cause, "the warden went away while it started a container");
                    if container.is_nothing(&stdout, &stderr).await {
                        // Whatever was made of it without running goes before the next try.
                        self.remove(node).await;
                        continue;
                    }
                }
                Err(cause) => return Err(failed(cause.to_string())),
            }
            return Ok((container, Pipes { stdout, stderr }));
        }
        Err(failed("the warden goes away each time".into()))
    }

    /// Sends a signal; tries for a while if the warden is away. What has ended already needs none.
    pub async fn signal(&self, node: &NodeName, signal: StopSignal) {
        let begun = Instant::now();
        while begun.elapsed() < SIGNAL_PATIENCE {
            match Client::new(&self.socket).signal_container(self.id, node, signal).await {
                Err(warden::Error::Connection(_)) => tokio::time::sleep(PAUSE).await,
                Err(cause) => return tracing::debug!(%node, %cause, "a signal was not sent"),
                Ok(()) => return,
            }
        }
    }

    /// Removes a container with its volume, whether or not it runs; tries for a while if the warden is away.
    pub async fn remove(&self, node: &NodeName) {
        let begun = Instant::now();
        while begun.elapsed() < WARDEN_PATIENCE {
            match Client::new(&self.socket).remove_container(self.id, node).await {
                Ok(()) | Err(warden::Error::NotFound(_) | warden::Error::Ended(_)) => return,
                Err(warden::Error::Connection(_)) => tokio::time::sleep(PAUSE).await,
                Err(cause) => {
                    tracing::warn!(%node, %cause, "a container cannot be removed");
                    return;
                }
            }
        }
    }

    /// A client of a warden that listens now.
    async fn warden(&self) -> Result<Client, warden::Error> {
        let begun = Instant::now();
        loop {
            match Client::connect(&self.socket).await {
                Err(_) if begun.elapsed() < WARDEN_PATIENCE => tokio::time::sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }
}

impl Container {
    /// Whether its end is still to come, and the one who will tell it is there.
    pub fn runs(&self) -> bool {
        let mut asked = [PollFd::new(self.exit.as_fd(), PollFlags::POLLIN)];
        self.told.is_empty() && poll(&mut asked, PollTimeout::ZERO) == Ok(0)
    }

    /// Waits for the container's end. Can be dropped and called again.
    pub async fn ended(&mut self) -> Result<ContainerExit, Lost> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.told) {
                return serde_json::from_slice(&self.told[..end]).map_err(|_| Lost);
            }
            let mut piece = [0; 512];
            match self.exit.read(&mut piece).await {
                // The line feed may be left out at the end.
                Ok(0) => return serde_json::from_slice(&self.told).map_err(|_| Lost),
                Ok(length) if self.told.len() + length <= LONGEST_EXIT => self.told.extend_from_slice(&piece[..length]),
                Ok(_) => return Err(Lost),
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost),
            }
        }
    }

    /// Whether nobody holds the other ends of the container's pipes, and nobody ever wrote to them: then there is
    /// no monitor and no process of it, and never was one that ran user code.
    async fn is_nothing(&mut self, stdout: &OwnedFd, stderr: &OwnedFd) -> bool {
        let ended = tokio::time::timeout(SETTLE, self.ended()).await;
        matches!(ended, Ok(Err(Lost))) && self.told.is_empty() && is_deserted(stdout) && is_deserted(stderr)
    }
}

/// Whether a pipe is empty and has no writer.
fn is_deserted(pipe: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut asked, PollTimeout::ZERO);
    let events = asked[0].revents().unwrap_or(PollFlags::empty());
    ready == Ok(1) && events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN)
}

const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// How long the processes that hold an end of a pipe may take to be gone once the warden is.
const SETTLE: Duration = Duration::from_secs(10);
const SIGNAL_PATIENCE: Duration = Duration::from_secs(20);
/// How long a warden may take to come back.
const WARDEN_PATIENCE: Duration = Duration::from_secs(300);
const LONGEST_EXIT: usize = 4096;

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    fn container() -> (Container, File) {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("pipe");
        let exit = Receiver::from_owned_fd(read).expect("a pipe");
        (Container { node: NodeName::driver(), exit, told: Vec::new() }, File::from(write))
    }

    #[tokio::test]
    async fn an_end_is_told_once_and_a_lost_monitor_is_seen() {
        let (mut told, mut write) = container();
        let exit = ContainerExit { code: Some(7), signal: None, oom: false, storage_full: true };
        assert!(told.runs());
        let waiting = tokio::time::timeout(Duration::from_millis(20), told.ended()).await;
        assert!(waiting.is_err(), "it runs");
        let line = serde_json::to_string(&exit).expect("text");
        write.write_all(line.as_bytes()).expect("written");
        drop(write);
        assert!(!told.runs());
        assert_eq!(told.ended().await, Ok(exit));
        let (mut lost, write) = container();
        drop(write);
        assert!(!lost.runs());
        assert_eq!(lost.ended().await, Err(Lost));
    }

    #[tokio::test]
    async fn only_pipes_that_nobody_holds_and_nobody_used_mean_that_nothing_ran() {
        let pipe = || pipe2(OFlag::O_CLOEXEC).expect("pipe");
        let ((stdout, out), (stderr, err)) = (pipe(), pipe());
        let (mut nothing, exit) = container();
        drop((out, exit));
        File::from(err).write_all(b"x").expect("written");
        assert!(is_deserted(&stdout));
        assert!(!nothing.is_nothing(&stdout, &stderr).await, "somebody wrote");
        let (stderr, err) = pipe();
        assert!(!nothing.is_nothing(&stdout, &stderr).await, "somebody may write");
        drop(err);
        assert!(nothing.is_nothing(&stdout, &stderr).await);
    }
}
