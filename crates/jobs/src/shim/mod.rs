//! The shim: the one process that keeps an attempt alive whatever happens to `serve` and to the warden. It fetches the
//! code, starts the containers through the warden, serves the pods API to Spark, writes the log, uploads it, and says
//! how it all ended. It decides nothing about other jobs and has no right beyond its own sandbox.
//!
//! | file | is about |
//! |---|---|
//! | `attempt` | the life, step by step |
//! | `fetch`, `gate`, `upload` | the job's bucket, the object gate, the bucket of logs |
//! | `unpack` | a packed environment |
//! | `containers`, `executors`, `pods` | what runs, through the warden and for Spark |
//! | `output`, `keeper`, `sampler` | the log, the state, and what is used, in the spool |
//! | `waiting` | containers that are started before their job is there |
//! | `ending` | what an end means |
//!
//! Start at [`run`].

mod attempt;
mod containers;
mod ending;
mod executors;
mod fetch;
mod gate;
mod keeper;
mod output;
mod pods;
mod sampler;
mod unpack;
mod upload;
mod waiting;

use std::{
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use model::{EndReason, SandboxId};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        socket::{getsockopt, sockopt},
        stat::{Mode, umask},
    },
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    control::{self, End, Order, Phase, Start, Wait},
    spool::{Reader, State, Writer},
};
use attempt::Attempt;
use ending::{NOT_RUN, STOPPED, Why};
use gate::Gate;
use keeper::Keeper;
use output::Output;
use upload::Uploads;
pub(crate) use upload::{key_of_attempt, log_key, platform_log_key, send_part};
use waiting::Waiting;

/// What the warden tells a shim on its command line; the descriptors 3, 4 and 5 are the listeners of the control
/// socket, the object gate and the pods API, and the current directory is the spool.
#[derive(Debug, Clone)]
pub struct Args {
    /// Job and attempt.
    pub id: SandboxId,
    /// The driver's `/work` on the host.
    pub work: PathBuf,
    /// The `/conf` of all containers on the host.
    pub conf: PathBuf,
    /// The warden's socket.
    pub warden: PathBuf,
    /// The user of `serve`, the only one that the control socket hears.
    pub service_uid: u32,
}

/// Why a shim could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process was not started as a shim is.
    #[error("not started as a shim is: {0}")]
    Inherited(String),
    /// The runtime could not be built.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Names of the fault points of a shim, in the order of a life.
pub const FAULT_POINTS: &[&str] = &[
    "shim.start.durable",
    "shim.user_code.durable",
    "shim.driver.started",
    "shim.ended",
    "shim.log.durable",
    "shim.log.uploaded",
    "shim.end.durable",
];

/// Runs the shim until its sandbox is to end. Takes the descriptors 3, 4 and 5: call it once, in a process that was
/// started with them.
pub fn run(args: Args) -> Result<(), Error> {
    let control = std::os::unix::net::UnixListener::from(inherited(3)?);
    // Kept so that the connections in its backlog outlive `serve`; the warden hands it to the next one.
    let _objects = inherited(4)?;
    let pods = std::net::TcpListener::from(inherited(5)?);
    control.set_nonblocking(true)?;
    pods.set_nonblocking(true)?;
    // `serve` reads the spool by its group, whatever umask the warden was started with.
    umask(Mode::from_bits_truncate(0o027));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Calls of the warden wait there, one for each executor at most, and readers of the log.
        .max_blocking_threads(32)
        .thread_stack_size(256 * 1024)
        .thread_keep_alive(Duration::from_secs(1))
        .build()?;
    let outcome = runtime.block_on(async {
        let (control, pods) = (UnixListener::from_std(control)?, TcpListener::from_std(pods)?);
        live(args, control, pods).await;
        Ok(())
    });
    runtime.shutdown_background();
    outcome
}

/// Obeys the control socket until it lets the shim go.
async fn live(args: Args, control: UnixListener, pods: TcpListener) {
    let (phases, seen) = watch::channel(Phase::Waiting);
    let phases = Arc::new(phases);
    let (sender, mut orders) = mpsc::channel(8);
    let server = tokio::spawn(control::serve(control, args.service_uid, seen, sender));
    let (stop, stopped) = watch::channel(None::<Why>);
    let keeper = Arc::new(Keeper::new(
        PathBuf::from("."),
        State { id: args.id, phase: Phase::Waiting, user_code: false, outcome: None },
    ));
    let mut shim = Shim { args, keeper, phases, stopped, pods: Some(pods), waiting: None, began: false };
    while let Some(order) = orders.recv().await {
        match order {
            Order::Start(start, answer) => {
                let _ = answer.send(shim.start(*start).await);
            }
            Order::Wait(wait, answer) => shim.wait(*wait, answer),
            Order::Stop(reason) => {
                stop.send_if_modified(|why| {
                    let first = why.is_none();
                    why.get_or_insert(reason.into());
                    first
                });
                if !shim.began {
                    shim.began = true;
                    shim.close(Why::from(reason).reason(), STOPPED).await;
                }
            }
            Order::Exit => break,
        }
    }
    server.abort();
}

struct Shim {
    args: Args,
    keeper: Arc<Keeper>,
    phases: Arc<watch::Sender<Phase>>,
    stopped: watch::Receiver<Option<Why>>,
    pods: Option<TcpListener>,
    /// Containers that are made to wait, or wait.
    waiting: Option<JoinHandle<Result<Waiting, String>>>,
    /// Whether the attempt was begun, or ended before it was.
    began: bool,
}

impl Shim {
    /// Starts the containers of an attempt that is yet to come, once; the answer says that they wait.
    fn wait(&mut self, wait: Wait, answer: oneshot::Sender<Result<(), String>>) {
        if self.began || self.waiting.is_some() {
            let _ = answer.send(Err("it has been told what to do".to_owned()));
            return;
        }
        let args = self.args.clone();
        self.waiting = Some(tokio::spawn(async move {
            let waiting = Waiting::start(&args, &wait).await;
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(waiting.as_ref().map(drop).map_err(Clone::clone));
            waiting
        }));
    }

    /// Begins the attempt, once; the answer says that this is durable.
    async fn start(&mut self, start: Start) -> Result<(), String> {
        if start.sandbox.unwrap_or(start.id) != self.args.id {
            return Err(format!("this is the shim of {}, not of {}", self.args.id, start.id));
        }
        if self.began {
            return Ok(());
        }
        let waiting = match self.waiting.take() {
            // One that could not be made to wait has left nothing in the way.
            Some(task) => task.await.ok().and_then(Result::ok).unwrap_or_default(),
            None => Waiting::default(),
        };
        let key = start.log_key.clone();
        let writer = tokio::task::spawn_blocking(move || Writer::create(".".as_ref(), &key, nanoseconds)).await;
        let writer = writer.map_err(|cause| cause.to_string())?.map_err(|cause| cause.to_string())?;
        let (parts, cut) = mpsc::unbounded_channel();
        let output = Output::start(writer, parts).map_err(|cause| format!("the log cannot be written: {cause}"))?;
        let begin = |state: &mut State| {
            state.id = start.id;
            state.phase = Phase::Starting;
        };
        self.keeper.save(begin).await.map_err(|cause| cause.to_string())?;
        fail::fail_point!("shim.start.durable");
        self.began = true;
        self.phases.send_replace(Phase::Starting);
        let phases = self.phases.clone();
        let uploads = Uploads {
            gate: Gate::new(&start.keys.platform, &start.region),
            reader: Reader::open(".".as_ref(), &start.log_key),
            id: start.id,
            log_key: start.log_key.clone(),
            // The control socket's own receiver, and one for each connection.
            is_served: Box::new(move || phases.receiver_count() > 1),
        };
        let all_cut = CancellationToken::new();
        let uploads = tokio::spawn(uploads.run(cut, all_cut.clone()));
        let attempt = Attempt {
            args: self.args.clone(),
            start,
            output,
            keeper: self.keeper.clone(),
            phases: self.phases.clone(),
            stop: self.stopped.clone(),
            waiting,
            pods: self.pods.take(),
            uploads,
            all_cut,
        };
        let life = tokio::spawn(attempt.run());
        let shim = Shim {
            args: self.args.clone(),
            keeper: self.keeper.clone(),
            phases: self.phases.clone(),
            stopped: self.stopped.clone(),
            pods: None,
            waiting: None,
            began: true,
        };
        tokio::spawn(async move {
            if let Err(cause) = life.await {
                let detail = format!("the process that watched over it failed: {cause}");
                shim.close(EndReason::Platform { detail }, NOT_RUN).await;
            }
        });
        Ok(())
    }

    /// Ends an attempt that has no life, or no longer one.
    async fn close(&self, reason: EndReason, return_code: i32) {
        let started = match *self.phases.borrow() {
            Phase::Running { started } => Some(started),
            _ => None,
        };
        let end = End { reason, return_code, started, ended: Timestamp::now() };
        let phase = Phase::Ended(end);
        self.keeper.insist(|state| state.phase = phase.clone()).await;
        self.phases.send_replace(phase);
    }
}

fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Takes a listening socket that the warden left at `fd`.
fn inherited(fd: RawFd) -> Result<OwnedFd, Error> {
    // SAFETY: only borrowed for two calls that report EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let wrong = |why: String| Error::Inherited(format!("descriptor {fd}: {why}"));
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|cause| wrong(cause.to_string()))?;
    match getsockopt(&borrowed, sockopt::AcceptConn) {
        Ok(true) => {}
        Ok(false) => return Err(wrong("it does not listen".into())),
        Err(cause) => return Err(wrong(cause.to_string())),
    }
    // SAFETY: it is open and a listening socket, so the warden's; nothing else in this process has opened or owns
    // descriptors yet (see `run`).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
