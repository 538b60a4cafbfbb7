//! What `serve` and a shim say to each other: one JSON text a line over the shim's Unix socket, lines bounded.
//!
//! A connection carries one call and its answer, or one watch. Whoever is not the service's user is not heard.
//! Every call can be made again: a second [`Start`] of the attempt that was started changes nothing, a second stop
//! neither. Start at [`Client::connect`]; the shim's end is [`serve`].
//!
//! A shim lives as long as its attempt, so it may be older than the `serve` that calls it: a call begins with the
//! [`VERSION`] of what follows, a decimal number and a space. A shim that does not know it says which it knows. The rule
//! for a change: docs/upgrade.md.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use model::{EndReason, JobSpec, Placement, ProjectId, Region, SandboxId, Sizing};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::{Semaphore, mpsc, oneshot, watch},
};
use zeroize::Zeroizing;

use crate::Environment;

/// All that a shim needs to run its attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The attempt; the shim must have been started for it, or for `sandbox`.
    pub id: SandboxId,
    /// The sandbox that it takes, where that was made before the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxId>,
    /// Whose job it is.
    pub project: ProjectId,
    /// What to run.
    pub spec: JobSpec,
    /// What to run it on.
    pub engine: engine::Installed,
    /// Keys of the attempt for the object gate.
    pub keys: JobKeys,
    /// The key that its log is sealed with.
    #[serde(with = "hex_key")]
    pub log_key: crypto::Key,
    /// The region that requests to the object gate are signed for.
    pub region: Region,
    /// What the service made for it beside the engine.
    #[serde(default, skip_serializing_if = "Environment::is_empty")]
    pub environment: Environment,
}

/// What a shim needs to start containers before there is a job for them: nothing of any project.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// What they run on.
    pub engine: engine::Installed,
    /// Where the parts of the job will run.
    pub placement: Placement,
    /// How large they are.
    pub sizing: Sizing,
    /// The region that requests to the object gate will be signed for.
    pub region: Region,
}

/// Keys of one attempt for the object gate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobKeys {
    /// For the job itself: the buckets of its project.
    pub job: S3Pair,
    /// For the platform: to write the job's logs.
    pub platform: S3Pair,
}

/// An access key with its secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct S3Pair {
    /// The access key.
    pub access: String,
    /// The secret key.
    #[serde(with = "plain_secret")]
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for S3Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Pair").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Where an attempt stands, as its shim sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No start was asked for yet.
    Waiting,
    /// The code is being fetched; user code was not started.
    Starting,
    /// The driver runs.
    Running {
        /// Since when.
        started: Timestamp,
    },
    /// All has ended: the driver, the executors, the upload of the logs.
    Ended(End),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// The return code to show; 0 only where the reason is that the driver exited with 0.
    pub return_code: i32,
    /// When user code was started, if it was.
    pub started: Option<Timestamp>,
    /// When the driver ended, or the attempt where there was none.
    pub ended: Timestamp,
}

/// Why `serve` stops an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A caller cancelled the job.
    Cancelled,
    /// The platform needs it to end: nobody's wish and not the job's fault.
    Platform,
}

/// Why a call to a shim failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim understood and does not do it.
    #[error("the shim refuses: {0}")]
    Refused(String),
    /// Nothing listens, or the connection broke: the shim has ended, or is about to.
    #[error("the shim is not there: {0}")]
    Gone(#[from] std::io::Error),
    /// It did not answer in time.
    #[error("the shim did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// The shim was started by another Casemate, and does not know this version of the protocol.
    #[error("the shim speaks version {theirs} of the control protocol, this service version {VERSION}")]
    Version {
        /// The one that it knows.
        theirs: u32,
    },
    /// A line that is too long or not a message.
    #[error("not a message of a shim: {0}")]
    Protocol(String),
}

/// The end of `serve`. Holds no connection: one a call.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the shim that listens on `socket`; asks it for its phase to see that it answers.
    pub async fn connect(socket: &Path) -> Result<Client, Error> {
        let client = Client { socket: socket.to_owned() };
        client.phase().await?;
        Ok(client)
    }

    /// Where the attempt stands now.
    pub async fn phase(&self) -> Result<Phase, Error> {
        match self.call(&Request::Phase).await? {
            Reply::Phase(phase) => Ok(phase),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts the containers of an attempt that is yet to come; returns once they wait for it. Refused where one was started,
    /// or asked for before.
    pub async fn wait(&self, wait: &Wait) -> Result<(), Error> {
        let reply = within(UNTIL_READY, async {
            let stream = self.open(&Request::Wait(Box::new(wait.clone()))).await?;
            read_message(&mut BufReader::new(stream)).await?.ok_or_else(closed)
        });
        match reply.await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts the attempt; returns once that is durable in the spool's state. A second start of the same attempt
    /// changes nothing, whatever has become of the first; another attempt's is refused.
    pub async fn start(&self, start: &Start) -> Result<(), Error> {
        self.done(&Request::Start(Box::new(start.clone()))).await
    }

    /// Asks the attempt to end. Returns at once; the end comes by [`Client::watch`]. Does nothing once it has ended.
    pub async fn stop(&self, reason: StopReason) -> Result<(), Error> {
        self.done(&Request::Stop(reason)).await
    }

    /// Lets the shim of an attempt that has ended go; refused before.
    pub async fn exit(&self) -> Result<(), Error> {
        self.done(&Request::Exit).await
    }

    /// The present phase, then each new one.
    pub async fn watch(&self) -> Result<Watch, Error> {
        let stream = within(PATIENCE, self.open(&Request::Watch)).await?;
        let (reader, writer) = stream.into_split();
        Ok(Watch { lines: BufReader::new(reader), _writer: writer })
    }

    async fn done(&self, request: &Request) -> Result<(), Error> {
        match self.call(request).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(&self, request: &Request) -> Result<Reply, Error> {
        within(PATIENCE, async {
            let stream = self.open(request).await?;
            read_message(&mut BufReader::new(stream)).await?.ok_or_else(closed)
        })
        .await
    }

    async fn open(&self, request: &Request) -> Result<UnixStream, Error> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        write_line(&mut stream, &format!("{} ", request.version()), request).await?;
        Ok(stream)
    }
}

/// New phases of an attempt, as they come. Phases that pass quickly may be left out; the newest never is.
#[derive(Debug)]
pub struct Watch {
    lines: BufReader<OwnedReadHalf>,
    // Closing our half would end the watch at the shim.
    _writer: tokio::net::unix::OwnedWriteHalf,
}

impl Watch {
    /// The next phase; waits for it as long as it takes. [`Error::Gone`] where the shim has died. Safe to drop and
    /// call again only between two phases: keep the future where other events are awaited beside it.
    pub async fn next(&mut self) -> Result<Phase, Error> {
        match read_message(&mut self.lines).await?.ok_or_else(closed)? {
            Reply::Phase(phase) => Ok(phase),
            other => Err(unexpected(&other)),
        }
    }
}

/// What the control socket asks of the shim's life.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start, or answer that it was; the answer is given once it is durable.
    Start(Box<Start>, oneshot::Sender<Result<(), String>>),
    /// Start containers that wait; the answer is given once they do.
    Wait(Box<Wait>, oneshot::Sender<Result<(), String>>),
    /// End the attempt.
    Stop(StopReason),
    /// End the shim.
    Exit,
}

/// The shim's end: hears the service's user on `listener` and hands on what it asks for, until all receivers of
/// orders are gone.
pub(crate) async fn serve(
    listener: UnixListener,
    service_uid: u32,
    phases: watch::Receiver<Phase>,
    orders: mpsc::Sender<Order>,
) {
    let room = std::sync::Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Such as no descriptor left: it passes, and must not make this loop spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = orders.closed() => return,
        };
        if stream.peer_cred().map(|peer| peer.uid()).ok() != Some(service_uid) {
            continue;
        }
        let (phases, orders) = (phases.clone(), orders.clone());
        tokio::spawn(async move {
            // A connection that breaks concerns only its caller.
            let _ = answer(stream, phases, orders).await;
            drop(place);
        });
    }
}

async fn answer(
    stream: UnixStream,
    mut phases: watch::Receiver<Phase>,
    orders: mpsc::Sender<Order>,
) -> Result<(), Error> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let request = match within(PATIENCE, read_request(&mut reader)).await {
        Ok(Some(request)) => request,
        Ok(None) => return Ok(()),
        Err(Error::Version { .. }) => return write_message(&mut writer, &Reply::Version(VERSION)).await,
        Err(cause) => return write_message(&mut writer, &Reply::Refused(cause.to_string())).await,
    };
    let reply = match request {
        Request::Phase => Reply::Phase(phases.borrow().clone()),
        Request::Start(start) => {
            let (answer, answered) = oneshot::channel();
            let asked = orders.send(Order::Start(start, answer)).await.is_ok();
            match answered.await {
                Ok(Ok(())) if asked => Reply::Done,
                Ok(Err(why)) => Reply::Refused(why),
                _ => Reply::Refused("the shim is ending".into()),
            }
        }
        Request::Wait(wait) => {
            let (answer, answered) = oneshot::channel();
            let asked = orders.send(Order::Wait(wait, answer)).await.is_ok();
            match answered.await {
                Ok(Ok(())) if asked => Reply::Done,
                Ok(Err(why)) => Reply::Refused(why),
                _ => Reply::Refused("the shim is ending".into()),
            }
        }
        Request::Stop(reason) => match orders.send(Order::Stop(reason)).await {
            Ok(()) => Reply::Done,
            Err(_) => Reply::Refused("the shim is ending".into()),
        },
        Request::Exit => {
            let ended = matches!(*phases.borrow(), Phase::Ended(_));
            if ended {
                // The answer first: the order ends this process.
                write_message(&mut writer, &Reply::Done).await?;
                let _ = orders.send(Order::Exit).await;
                return Ok(());
            }
            Reply::Refused("the attempt has not ended".into())
        }
        Request::Watch => return follow(&mut reader, &mut writer, &mut phases).await,
    };
    write_message(&mut writer, &reply).await
}

/// Sends phases until the caller closes its end.
async fn follow(
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut (impl AsyncWrite + Unpin),
    phases: &mut watch::Receiver<Phase>,
) -> Result<(), Error> {
    loop {
        let phase = phases.borrow_and_update().clone();
        within(PATIENCE, write_message(writer, &Reply::Phase(phase))).await?;
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return Ok(()) },
            // A watcher has nothing more to say: the end, or a breach of the protocol.
            _ = reader.fill_buf() => return Ok(()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Phase,
    Start(Box<Start>),
    Wait(Box<Wait>),
    Stop(StopReason),
    Watch,
    Exit,
}

impl Request {
    /// The oldest version that has it, so that a shim of before is asked in words that it knows.
    fn version(&self) -> u32 {
        match self {
            Request::Wait(_) => 2,
            Request::Start(start) if start.sandbox.is_some() => 2,
            Request::Start(_) | Request::Phase | Request::Stop(_) | Request::Watch | Request::Exit => 1,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Done,
    Refused(String),
    Phase(Phase),
    /// Which version the shim knows. This answer is of every version.
    Version(u32),
}

async fn read_message<T: DeserializeOwned, R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Option<T>, Error> {
    Ok(match read_line(reader).await? {
        Some(line) => Some(parsed(&line)?),
        None => None,
    })
}

/// A call: its version, then what is asked.
async fn read_request<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Option<Request>, Error> {
    let Some(line) = read_line(reader).await? else { return Ok(None) };
    let none = || Error::Protocol("a call that does not begin with its version".into());
    let end = line.iter().take(LONGEST_VERSION).position(|byte| *byte == b' ').ok_or_else(none)?;
    let version = std::str::from_utf8(&line[..end]).ok().and_then(|text| text.parse::<u32>().ok()).ok_or_else(none)?;
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(Error::Version { theirs: version });
    }
    parsed(&line[end + 1..]).map(Some)
}

fn parsed<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|cause| Error::Protocol(cause.to_string()))
}

async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    // The line may hold keys.
    let mut line = Zeroizing::new(Vec::new());
    loop {
        let part = reader.fill_buf().await?;
        if part.is_empty() {
            return match line.is_empty() {
                true => Ok(None),
                false => Err(closed()),
            };
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(part.len());
        if line.len() + taken > MOST_LINE {
            return Err(Error::Protocol(format!("a line of more than {MOST_LINE} bytes")));
        }
        line.extend_from_slice(&part[..taken]);
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

async fn write_message<T: Serialize>(writer: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), Error> {
    write_line(writer, "", message).await
}

async fn write_line<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    before: &str,
    message: &T,
) -> Result<(), Error> {
    let mut line = Zeroizing::new(before.as_bytes().to_vec());
    serde_json::to_writer(&mut *line, message).map_err(|cause| Error::Protocol(cause.to_string()))?;
    if line.len() > MOST_LINE {
        return Err(Error::Protocol(format!("a line of more than {MOST_LINE} bytes")));
    }
    line.push(b'\n');
    writer.write_all(&line).await?;
    Ok(writer.flush().await?)
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(patience, work).await.unwrap_or(Err(Error::Silent))
}

fn closed() -> Error {
    Error::Gone(std::io::ErrorKind::UnexpectedEof.into())
}

fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Refused(why) => Error::Refused(why.clone()),
        Reply::Version(theirs) => Error::Version { theirs: *theirs },
        _ => Error::Protocol("an answer to another question".into()),
    }
}

mod hex_key {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use zeroize::Zeroizing;

    pub fn serialize<S: Serializer>(key: &crypto::Key, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex::encode(key.as_bytes())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<crypto::Key, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = Zeroizing::new(hex::decode(text.as_bytes()).map_err(|_| D::Error::custom("not hexadecimal"))?);
        crypto::Key::from_bytes(&bytes).map_err(|_| D::Error::custom("a key has 32 bytes"))
    }
}

mod plain_secret {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub fn serialize<S: Serializer>(secret: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

/// The version of this protocol. It grows with each change that a shim of before would not understand: 2 has calls about
/// containers that wait.
pub const VERSION: u32 = 2;
/// The oldest that is understood: what it has is in the newer ones as it was.
const OLDEST: u32 = 1;
/// A `u32` and the space after it.
const LONGEST_VERSION: usize = 11;
/// Longest line: a submit body has at most 1 MiB, and a start holds its parameters as given and as parsed.
const MOST_LINE: usize = 4 * 1024 * 1024;
/// `serve` needs one for its watch and one for a call; an old and a new `serve` may overlap.
const MOST_CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a shim waits for its containers.
const UNTIL_READY: Duration = Duration::from_secs(150);

#[cfg(test)]
mod tests {
    use model::{AttemptNo, JobId};
    use uuid::Uuid;

    use super::*;

    struct Shim {
        _dir: tempfile::TempDir,
        socket: PathBuf,
        phases: watch::Sender<Phase>,
        orders: mpsc::Receiver<Order>,
    }

    fn shim(service_uid: u32) -> Shim {
        let dir = tempfile::tempdir().expect("directory");
        let socket = dir.path().join("control");
        let listener = UnixListener::bind(&socket).expect("listener");
        let (phases, seen) = watch::channel(Phase::Waiting);
        let (sender, orders) = mpsc::channel(8);
        tokio::spawn(serve(listener, service_uid, seen, sender));
        Shim { _dir: dir, socket, phases, orders }
    }

    fn own_uid() -> u32 {
        nix::unistd::Uid::effective().as_raw()
    }

    fn start() -> Start {
        let value = serde_json::json!({
            "id": { "job": Uuid::from_u128(7), "attempt": 1 },
            "project": "0123456789abcdef0123456789abcdef",
            "spec": {
                "name": "n", "region": "GRA", "version": "3.5.9", "bucket": "code",
                "program": { "type": "python", "file": "main.py" }, "arguments": [],
                "sizing": {
                    "driver": { "cores": 1, "memory": 1024, "overhead": 384 },
                    "executor": { "cores": 1, "memory": 1024, "overhead": 384 }, "executors": 1
                },
                "packages": [], "repositories": [], "properties_file": null, "ttl": null, "parameters": []
            },
            "engine": {
                "version": "3.5.9", "scala": "2.12", "hadoop": "3.3.4", "description": "Spark",
                "available": "2026-01-01", "end_of_support": "2026-10-01", "end_of_life": "2027-01-01",
                "java_home": "/usr/lib/jvm/java-17", "jars": [], "archives": false
            },
            "keys": { "job": { "access": "a", "secret": "hidden" }, "platform": { "access": "b", "secret": "hidden" } },
            "log_key": "00".repeat(32),
            "region": "GRA"
        });
        serde_json::from_value(value).expect("a start")
    }

    #[tokio::test]
    async fn a_start_arrives_whole_and_its_answer_comes_back() {
        let mut shim = shim(own_uid());
        let client = Client::connect(&shim.socket).await.expect("connected");
        let asking = tokio::spawn(async move { (client.start(&start()).await, client.start(&start()).await) });
        let mut answers = vec![Err("another attempt".to_owned()), Ok(())];
        while let Some(answer) = answers.pop() {
            let Some(Order::Start(got, reply)) = shim.orders.recv().await else { panic!("a start") };
            assert_eq!(got.id, SandboxId { job: JobId(Uuid::from_u128(7)), attempt: AttemptNo(1) });
            assert_eq!(got.keys.job.secret.as_str(), "hidden");
            assert!(!format!("{got:?}").contains("hidden"), "secrets are not shown");
            reply.send(answer).expect("heard");
        }
        let (first, second) = asking.await.expect("asked");
        first.expect("started");
        assert!(matches!(second, Err(Error::Refused(why)) if why == "another attempt"));
    }

    #[tokio::test]
    async fn a_watch_gets_the_present_phase_and_each_new_one_until_the_shim_is_gone() {
        let shim = shim(own_uid());
        let mut watch = Client::connect(&shim.socket).await.expect("connected").watch().await.expect("watch");
        assert_eq!(watch.next().await.expect("phase"), Phase::Waiting);
        let running = Phase::Running { started: Timestamp::UNIX_EPOCH };
        shim.phases.send_replace(running.clone());
        assert_eq!(watch.next().await.expect("phase"), running);
        drop(shim);
        assert!(matches!(watch.next().await, Err(Error::Gone(_))));
    }

    #[tokio::test]
    async fn only_the_service_is_heard() {
        let shim = shim(own_uid() + 1);
        assert!(matches!(Client::connect(&shim.socket).await, Err(Error::Gone(_))));
    }

    #[tokio::test]
    async fn a_shim_that_has_not_ended_does_not_exit() {
        let mut shim = shim(own_uid());
        let client = Client::connect(&shim.socket).await.expect("connected");
        assert!(matches!(client.exit().await, Err(Error::Refused(_))));
        let reason = EndReason::Cancelled;
        let end = End { reason, return_code: 143, started: None, ended: Timestamp::UNIX_EPOCH };
        shim.phases.send_replace(Phase::Ended(end));
        client.exit().await.expect("it exits");
        assert!(matches!(shim.orders.recv().await, Some(Order::Exit)));
    }

    #[tokio::test]
    async fn a_call_of_another_version_is_refused_with_the_version_that_is_known() {
        let shim = shim(own_uid());
        let mut stream = UnixStream::connect(&shim.socket).await.expect("connected");
        stream.write_all(b"3 {\"something\":\"new\"}\n").await.expect("sent");
        let reply: Option<Reply> = read_message(&mut BufReader::new(stream)).await.expect("answered");
        let refused = unexpected(&reply.expect("an answer"));
        assert!(matches!(refused, Error::Version { theirs: VERSION }), "{refused}");
    }

    #[tokio::test]
    async fn what_a_shim_of_before_knows_is_said_as_it_was_and_a_service_of_before_is_heard() {
        let plain = start();
        let taken =
            Start { sandbox: Some(SandboxId { job: JobId(Uuid::from_u128(8)), attempt: AttemptNo(1) }), ..start() };
        assert!(!serde_json::to_string(&plain).expect("JSON").contains("sandbox"));
        assert_eq!(Request::Start(Box::new(plain)).version(), 1);
        assert_eq!(Request::Start(Box::new(taken)).version(), 2);
        for word in ["1 \"phase\"\n", "2 \"phase\"\n"] {
            let shim = shim(own_uid());
            let mut stream = UnixStream::connect(&shim.socket).await.expect("connected");
            stream.write_all(word.as_bytes()).await.expect("sent");
            let reply: Option<Reply> = read_message(&mut BufReader::new(stream)).await.expect("answered");
            assert!(matches!(reply, Some(Reply::Phase(Phase::Waiting))), "{reply:?}");
        }
    }

    #[tokio::test]
    async fn lines_are_bounded_and_nonsense_is_refused() {
        for line in [
            &b"1 {}\n"[..],
            b"\n",
            b"1\n",
            b"\"phase\"\n",
            b"1 \"stop\"\n",
            b"1 {\"start\":{}}\n",
            b"-1 \"phase\"\n",
            b"\xff\xff\n",
        ] {
            let shim = shim(own_uid());
            let mut stream = UnixStream::connect(&shim.socket).await.expect("connected");
            stream.write_all(line).await.expect("sent");
            let reply: Option<Reply> = read_message(&mut BufReader::new(stream)).await.expect("answered");
            assert!(matches!(reply, Some(Reply::Refused(_))), "{line:?}: {reply:?}");
        }
        let mut long = BufReader::new(std::io::Cursor::new(vec![b' '; MOST_LINE + 1]));
        assert!(matches!(read_message::<Request, _>(&mut long).await, Err(Error::Protocol(_))));
        let mut cut = BufReader::new(&b"\"phase\""[..]);
        assert!(matches!(read_message::<Request, _>(&mut cut).await, Err(Error::Gone(_))), "a line without its end");
        let mut none = BufReader::new(&b""[..]);
        assert!(matches!(read_message::<Request, _>(&mut none).await, Ok(None)));
    }
}
