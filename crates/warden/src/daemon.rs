//! The daemon: a socket, who calls, and a thread for each call. Threads and no runtime: it is idle nearly always, and its
//! memory is the machine's.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt::PeerCredentials},
};

pub use crate::sandbox::destroy_all;
use crate::{
    Config, Doing, Error,
    config::Ids,
    files::{own_dir, remove_file},
    protocol::{ContainerIo, Reply, Request, receive, refuse, send},
    sandbox::Sandboxes,
};

/// Answers callers until `stop` resolves. Sandboxes live on, and the next warden finds them.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), Error> {
    own_dir(&config.run, 0o711, (0, 0)).doing(format!("making {}", config.run.display()))?;
    let socket = config.socket();
    let _only = only_one(&config.run)?;
    let daemon = Arc::new(Daemon { sandboxes: Sandboxes::open(config)?, calls: Mutex::default() });
    let listener = listen(&socket).doing(format!("listening on {}", socket.display()))?;
    let (stopper, stopped) = UnixStream::pair().doing("starting the warden")?;
    let (ended, end) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("accept".into())
        .stack_size(ACCEPT_STACK)
        .spawn(move || {
            // Nobody listens any more where the receiver is gone.
            let _ = ended.send(daemon.accept(&listener, &stopped));
        })
        .doing("starting the warden")?;
    tracing::info!(socket = %socket.display(), "the warden listens");
    let mut end = end;
    tokio::select! {
        () = stop => {
            drop(stopper);
            let outcome = end.await;
            let _ = thread.join();
            outcome.unwrap_or(Ok(()))
        }
        outcome = &mut end => outcome.unwrap_or_else(|_| Err(Error::Failed { doing: "accepting calls".into(), cause: "the thread ended".into() })),
    }
}

/// One warden a run directory. The one before may have been killed an instant ago.
fn only_one(run: &std::path::Path) -> Result<Flock<fs::File>, Error> {
    let what = format!("locking {}", run.display());
    let started = Instant::now();
    let mut file = fs::File::open(run).doing(&what)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, _)) if started.elapsed() > LOCK_PATIENCE => return Err("another warden works there").doing(what),
            Err((back, _)) => file = back,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn listen(socket: &std::path::Path) -> io::Result<UnixListener> {
    remove_file(socket)?;
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    // Shims of any range call; who a caller is, the kernel says.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

struct Daemon {
    sandboxes: Sandboxes,
    /// Calls that are under way, by the user who calls.
    calls: Mutex<BTreeMap<u32, usize>>,
}

/// Who calls, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Caller {
    uid: u32,
    /// The service, or root, who could do all of it without us.
    service: bool,
}

impl Daemon {
    fn accept(self: &Arc<Daemon>, listener: &UnixListener, stopped: &UnixStream) -> Result<(), Error> {
        loop {
            let mut watched =
                [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, PollTimeout::from(REAP_MILLISECONDS)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(cause) => return Err(cause).doing("waiting for calls"),
            }
            self.sandboxes.reap();
            if watched[1].any().unwrap_or(false) {
                return self.finish();
            }
            while let Ok((stream, _)) = listener.accept() {
                self.take(stream);
            }
        }
    }

    /// Lets calls that are under way end; what one leaves half done, the next warden does.
    fn finish(&self) -> Result<(), Error> {
        let started = Instant::now();
        while !self.calls().is_empty() && started.elapsed() < FINISH_PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn take(self: &Arc<Daemon>, mut stream: UnixStream) {
        let Ok(caller) = self.caller(&stream) else { return };
        // A stranger gets his answer at once and no thread.
        let Some(caller) = caller else {
            let _ = stream.set_nonblocking(true);
            let _ = send(&mut stream, &Reply::Refused("you are not the service nor a shim".into()), &[]);
            return;
        };
        if !self.begin(caller) {
            return;
        }
        let daemon = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("call".into()).stack_size(CALL_STACK).spawn(move || {
            if let Err(cause) = daemon.answer(&mut stream, caller) {
                tracing::warn!(uid = caller.uid, %cause, "a call was cut off");
            }
            daemon.end(caller);
        });
        if spawned.is_err() {
            self.end(caller);
        }
    }

    /// Counts a call, unless the caller has too many already: nobody keeps the others from theirs.
    fn begin(&self, caller: Caller) -> bool {
        let mut calls = self.calls();
        let count = calls.entry(caller.uid).or_default();
        let free = *count < if caller.service { MOST_CALLS_OF_SERVICE } else { MOST_CALLS_OF_SHIM };
        *count += usize::from(free);
        free
    }

    fn end(&self, caller: Caller) {
        let mut calls = self.calls();
        if let Entry::Occupied(mut count) = calls.entry(caller.uid) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caller(&self, stream: &UnixStream) -> io::Result<Option<Caller>> {
        let uid = getsockopt(stream, PeerCredentials)?.uid();
        let service = uid == self.sandboxes.config.service_uid || uid == 0;
        let known = service || Ids::is_shim(&self.sandboxes.config, uid);
        Ok(known.then_some(Caller { uid, service }))
    }

    fn answer(&self, stream: &mut UnixStream, caller: Caller) -> Result<(), Error> {
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(REQUEST_PATIENCE)))
            .and_then(|()| stream.set_write_timeout(Some(REQUEST_PATIENCE)))
            .doing("preparing a call")?;
        let (request, descriptors) = match receive::<Request>(stream) {
            Ok(Some(call)) => call,
            // What was a call to look whether somebody listens.
            Ok(None) => return Ok(()),
            Err(Error::Refused(why)) => return refuse(stream, why, REQUEST_PATIENCE),
            Err(cause) => return Err(cause),
        };
        let name = name_of(&request);
        let (reply, objects) = match self.act(caller, request, descriptors) {
            Ok(done) => done,
            Err(cause) => {
                tracing::warn!(uid = caller.uid, call = name, %cause, "a call failed");
                (Reply::from(cause), None)
            }
        };
        let raw: Vec<i32> = objects.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        send(stream, &reply, &raw)
    }

    fn act(
        &self,
        caller: Caller,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Option<OwnedFd>), Error> {
        let all = &self.sandboxes;
        let done = |()| (Reply::Done, None);
        match request {
            Request::CreateSandbox(_)
            | Request::DestroySandbox(_)
            | Request::ListSandboxes
            | Request::RemoveSpool(_)
                if !caller.service =>
            {
                Err(Error::Refused(format!("user {} is not the service", caller.uid)))
            }
            Request::CreateSandbox(spec) => {
                let (control, objects) = all.create(&spec)?;
                Ok((Reply::Created { control }, Some(objects.into())))
            }
            Request::DestroySandbox(id) => all.destroy(id).map(done),
            Request::ListSandboxes => Ok((Reply::Sandboxes(all.list()?), None)),
            Request::RemoveSpool(id) => all.remove_spool(id).map(done),
            Request::StartContainer(spec) => {
                let Ok([stdout, stderr, exit]) = <[OwnedFd; 3]>::try_from(descriptors) else {
                    return Err(Error::Refused("starting a container takes three descriptors".into()));
                };
                all.start_container(caller.uid, &spec, ContainerIo { stdout, stderr, exit }).map(done)
            }
            Request::SignalContainer(id, node, signal) => all.signal_container(caller.uid, id, &node, signal).map(done),
            Request::RemoveContainer(id, node) => all.remove_container(caller.uid, id, &node).map(done),
        }
    }
}

fn name_of(request: &Request) -> &'static str {
    match request {
        Request::CreateSandbox(_) => "create sandbox",
        Request::DestroySandbox(_) => "destroy sandbox",
        Request::ListSandboxes => "list sandboxes",
        Request::RemoveSpool(_) => "remove spool",
        Request::StartContainer(_) => "start container",
        Request::SignalContainer(..) => "signal container",
        Request::RemoveContainer(..) => "remove container",
    }
}

const ACCEPT_STACK: usize = 128 * 1024;
const CALL_STACK: usize = 512 * 1024;
const MOST_CALLS_OF_SERVICE: usize = 64;
const MOST_CALLS_OF_SHIM: usize = 16;
/// A process of ours that has ended is waited for at the latest then.
const REAP_MILLISECONDS: u16 = 5_000;
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const FINISH_PATIENCE: Duration = Duration::from_secs(5);
