//! The callers' side: one short connection a call, so that a warden that was started again is found by itself.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use model::{NodeName, SandboxId};

use crate::{
    Error,
    protocol::{
        ContainerIo, ContainerSpec, Reply, Request, SandboxHandle, SandboxSpec, SandboxState, StopSignal, connection,
        receive, send,
    },
};

/// A caller of the warden.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A caller of the warden that listens on `socket`, now or later: nothing is checked.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// Checks that the warden listens on `socket`.
    pub async fn connect(socket: &Path) -> Result<Client, Error> {
        let client = Client::new(socket);
        let path = client.socket.clone();
        tokio::task::spawn_blocking(move || UnixStream::connect(path).map(drop))
            .await
            .map_err(connection)?
            .map_err(connection)?;
        Ok(client)
    }

    /// Builds a sandbox and starts its shim; where it stands already, finds it again.
    pub async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxHandle, Error> {
        match self.call(Request::CreateSandbox(spec.clone()), Vec::new()).await? {
            (Reply::Created { control }, mut fds) if fds.len() == 1 => {
                Ok(SandboxHandle { control, objects: fds.remove(0).into() })
            }
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Kills all of a sandbox and removes everything of it but the spool. Does nothing where there is none.
    pub async fn destroy_sandbox(&self, id: SandboxId) -> Result<(), Error> {
        self.done(Request::DestroySandbox(id), Vec::new()).await
    }

    /// All sandboxes that were not destroyed.
    pub async fn list_sandboxes(&self) -> Result<Vec<SandboxState>, Error> {
        match self.call(Request::ListSandboxes, Vec::new()).await? {
            (Reply::Sandboxes(list), _) => Ok(list),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Removes the spool of a sandbox that was destroyed.
    pub async fn remove_spool(&self, id: SandboxId) -> Result<(), Error> {
        self.done(Request::RemoveSpool(id), Vec::new()).await
    }

    /// Starts a node's container; returns once its program runs.
    pub async fn start_container(&self, spec: &ContainerSpec, io: ContainerIo) -> Result<(), Error> {
        self.done(Request::StartContainer(spec.clone()), vec![io.stdout, io.stderr, io.exit]).await
    }

    /// Signals the first process of a container. Does nothing where it has ended.
    pub async fn signal_container(&self, id: SandboxId, node: &NodeName, signal: StopSignal) -> Result<(), Error> {
        self.done(Request::SignalContainer(id, node.clone(), signal), Vec::new()).await
    }

    /// Removes a container (killing it if it still runs), and its volume unless it is the driver's.
    pub async fn remove_container(&self, id: SandboxId, node: &NodeName) -> Result<(), Error> {
        self.done(Request::RemoveContainer(id, node.clone()), Vec::new()).await
    }

    async fn done(&self, request: Request, fds: Vec<OwnedFd>) -> Result<(), Error> {
        match self.call(request, fds).await? {
            (Reply::Done, _) => Ok(()),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// One call. Every verb ends the same however often it is called, so a call that a warden's death cut off is made
    /// again once the next one listens.
    async fn call(&self, request: Request, fds: Vec<OwnedFd>) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let socket = self.socket.clone();
        tokio::task::spawn_blocking(move || {
            let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let started = Instant::now();
            loop {
                match exchange(&socket, &request, &raw) {
                    Err(Error::Connection(_)) if started.elapsed() < RESTART_PATIENCE => std::thread::sleep(RETRY),
                    outcome => return outcome,
                }
            }
        })
        .await
        .map_err(connection)?
    }
}

fn exchange(socket: &Path, request: &Request, fds: &[RawFd]) -> Result<(Reply, Vec<OwnedFd>), Error> {
    let mut stream = UnixStream::connect(socket).map_err(connection)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(connection)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(connection)?;
    // A refusal may come before the request was read: then it is the answer.
    let sent = send(&mut stream, request, fds);
    match receive(&mut stream) {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(sent.err().unwrap_or_else(|| Error::Connection("it closed the connection".into()))),
        Err(cause) => Err(sent.err().unwrap_or(cause)),
    }
}

fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Refused(why) => Error::Refused(why),
        Reply::NotFound(what) => Error::NotFound(what),
        Reply::Ended(what) => Error::Ended(what),
        Reply::Failed { doing, cause } => Error::Failed { doing, cause },
        other => Error::Connection(format!("unexpected reply {other:?}")),
    }
}

/// The slowest verb kills and unmounts ten containers.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a warden may be away: a service manager starts it again within that.
const RESTART_PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(50);
