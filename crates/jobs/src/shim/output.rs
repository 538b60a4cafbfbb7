//! Takes what the containers write into the log: one thread that reads their pipes, so that a slow disk slows the job
//! that writes and nothing else, with a buffer per pipe that holds one unfinished line.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use model::{LogStream, NodeName};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::{mpsc, oneshot};

use crate::spool::{Error, Part, Parts, Writer};

/// The log as the rest of the shim sees it. Cheap to clone; the thread ends when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Output {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: std_mpsc::Sender<Command>,
    waker: UnixStream,
}

enum Command {
    /// Read a pipe to its end.
    Attach { node: NodeName, stream: LogStream, pipe: File },
    /// Answer once all pipes of the node have ended, or `until` has come: then they are let go.
    Drain { node: NodeName, until: Instant, done: oneshot::Sender<()> },
    /// Write a line of the platform.
    Say { text: String, done: oneshot::Sender<()> },
    /// Cut what is left into parts, and answer once all is durable.
    Finish { done: oneshot::Sender<Result<(), Error>> },
}

impl Output {
    /// Starts the thread over `writer`. Parts that have become long enough go to `parts`, and all others at the end.
    pub fn start(writer: Writer, parts: mpsc::UnboundedSender<Part>) -> std::io::Result<Output> {
        let (waker, wakes) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakes.set_nonblocking(true)?;
        let (commands, orders) = std_mpsc::channel();
        let pump = Pump {
            writer,
            parts,
            orders,
            wakes,
            pipes: Vec::new(),
            drains: Vec::new(),
            said: Vec::new(),
            lines_said: 0,
            open: Parts::default(),
            stalled: None,
            unchecked: 0,
            scratch: vec![0; READ],
        };
        std::thread::Builder::new().name("log".into()).stack_size(256 * 1024).spawn(move || pump.run())?;
        Ok(Output { shared: Arc::new(Shared { commands, waker }) })
    }

    /// Reads the two pipes of a node from now on.
    pub fn attach(&self, node: &NodeName, stdout: OwnedFd, stderr: OwnedFd) -> std::io::Result<()> {
        for (stream, pipe) in [(LogStream::Stdout, stdout), (LogStream::Stderr, stderr)] {
            let flags = OFlag::from_bits_truncate(fcntl(pipe.as_fd(), FcntlArg::F_GETFL)?);
            fcntl(pipe.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
            // A job that writes much waits less. Beyond the user's allowance the pipe stays as it is.
            let _ = fcntl(pipe.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE));
            self.send(Command::Attach { node: node.clone(), stream, pipe: File::from(pipe) });
        }
        Ok(())
    }

    /// Waits until all that a node wrote is in the log; at most `patience`, in case something holds its pipes open.
    pub async fn drain(&self, node: &NodeName, patience: Duration) {
        let (done, finished) = oneshot::channel();
        self.send(Command::Drain { node: node.clone(), until: Instant::now() + patience, done });
        let _ = finished.await;
    }

    /// Writes a line of the platform. Returns once it is in the log, not yet durable.
    pub async fn say(&self, text: impl Into<String>) {
        let (done, finished) = oneshot::channel();
        let mut text = text.into();
        if text.len() > LONGEST_SAID {
            text.truncate(text.floor_char_boundary(LONGEST_SAID));
        }
        self.send(Command::Say { text: text.replace(['\n', '\r'], " "), done });
        let _ = finished.await;
    }

    /// Cuts what is left into parts and makes the log durable. All nodes must have been drained.
    pub async fn finish(&self) -> Result<(), Error> {
        let (done, finished) = oneshot::channel();
        self.send(Command::Finish { done });
        finished.await.unwrap_or_else(|_| {
            let cause = std::io::Error::other("its thread has ended");
            Err(Error::File { doing: "write", file: "the log".into(), cause })
        })
    }

    fn send(&self, command: Command) {
        // Where the thread is gone, whoever waits for an answer sees its sender dropped.
        let _ = self.shared.commands.send(command);
        // A full buffer wakes as well.
        let _ = (&self.shared.waker).write(&[1]);
    }
}

struct Pump {
    writer: Writer,
    parts: mpsc::UnboundedSender<Part>,
    orders: std_mpsc::Receiver<Command>,
    wakes: UnixStream,
    pipes: Vec<Pipe>,
    drains: Vec<(NodeName, Instant, oneshot::Sender<()>)>,
    /// Lines of the platform that are not written yet, because the disk is full.
    said: Vec<(Vec<u8>, Option<oneshot::Sender<()>>)>,
    lines_said: u32,
    open: Parts,
    /// Nothing is read until then: the log could not be written.
    stalled: Option<Instant>,
    /// Bytes that were written since the disk was looked at.
    unchecked: usize,
    scratch: Vec<u8>,
}

struct Pipe {
    node: NodeName,
    stream: LogStream,
    pipe: File,
    /// What is not written yet: an unfinished line, more only where the log could not be written.
    held: Vec<u8>,
    ended: bool,
}

impl Pump {
    fn run(mut self) {
        loop {
            let ready = self.wait();
            if ready.first() == Some(&true) && !self.obey() {
                return;
            }
            let now = Instant::now();
            if self.stalled.is_some_and(|until| until <= now) {
                self.stalled = None;
                self.retry();
            }
            // Pipes that were attached a moment ago stand behind those that were asked about.
            for index in 0..ready.len().saturating_sub(1) {
                if ready[index + 1] && self.stalled.is_none() {
                    self.take(index);
                }
            }
            self.let_go(now);
        }
    }

    /// Waits for a command, output, or the time of something; says for commands and each pipe whether it is ready.
    fn wait(&self) -> Vec<bool> {
        let mut asked = vec![PollFd::new(self.wakes.as_fd(), PollFlags::POLLIN)];
        let listening = self.stalled.is_none();
        let flags = if listening { PollFlags::POLLIN } else { PollFlags::empty() };
        asked.extend(self.pipes.iter().map(|pipe| PollFd::new(pipe.pipe.as_fd(), flags)));
        if !listening {
            // A pipe whose writers are gone is ready whatever is asked: it would make this loop spin.
            asked.truncate(1);
        }
        let soonest = self.drains.iter().map(|(_, until, _)| *until).chain(self.stalled).min();
        let timeout = soonest.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
            PollTimeout::try_from(left.min(60_000)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut asked, timeout) {
            Ok(_) => asked.iter().map(|one| one.revents().is_some_and(|events| !events.is_empty())).collect(),
            Err(nix::errno::Errno::EINTR) => Vec::new(),
            Err(_) => {
                // Such as no memory in the kernel: it passes.
                std::thread::sleep(Duration::from_millis(50));
                Vec::new()
            }
        }
    }

    /// Does what was asked for; `false` once nobody can ask any more.
    fn obey(&mut self) -> bool {
        let mut byte = [0; 64];
        let gone = match self.wakes.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(cause) => !matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        while let Ok(command) = self.orders.try_recv() {
            match command {
                Command::Attach { node, stream, pipe } => {
                    self.pipes.push(Pipe { node, stream, pipe, held: Vec::new(), ended: false });
                }
                Command::Drain { node, until, done } => self.drains.push((node, until, done)),
                Command::Say { text, done } => self.say(text, done),
                Command::Finish { done } => {
                    for part in self.open.rest() {
                        let _ = self.parts.send(part);
                    }
                    let _ = done.send(self.writer.flush());
                }
            }
        }
        !gone
    }

    /// Reads one pipe once and writes the whole lines that are there.
    fn take(&mut self, index: usize) {
        let Some(pipe) = self.pipes.get_mut(index) else { return };
        match (&pipe.pipe).read(&mut self.scratch) {
            Ok(0) => pipe.ended = true,
            Ok(length) => pipe.held.extend_from_slice(&self.scratch[..length]),
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(cause) => {
                tracing::warn!(node = %pipe.node, %cause, "a pipe of a container cannot be read");
                pipe.ended = true;
            }
        }
        self.write(index);
    }

    /// Writes what one pipe holds, but for an unfinished line.
    fn write(&mut self, index: usize) {
        let Some(pipe) = self.pipes.get_mut(index) else { return };
        let mut begin = 0;
        while let Some(length) = next_batch(&pipe.held[begin..], pipe.ended) {
            if self.unchecked >= CHECK_ROOM {
                if !has_room() {
                    tracing::error!("the disk of the log is nearly full; the job waits");
                    self.stalled = Some(Instant::now() + STALL);
                    break;
                }
                self.unchecked = 0;
            }
            match append(&mut self.writer, &pipe.node, pipe.stream, &pipe.held[begin..begin + length]) {
                Ok(part) => {
                    self.unchecked += length;
                    begin += length;
                    if let Some(full) = self.open.add(part) {
                        let _ = self.parts.send(full);
                    }
                }
                Err(cause) => {
                    tracing::error!(%cause, "the log cannot be written; the job waits");
                    self.stalled = Some(Instant::now() + STALL);
                    break;
                }
            }
        }
        pipe.held.drain(..begin);
        if pipe.held.is_empty() && pipe.held.capacity() > READ {
            pipe.held = Vec::new();
        }
    }

    fn say(&mut self, text: String, done: oneshot::Sender<()>) {
        self.lines_said += 1;
        let line = match self.lines_said {
            ..MOST_SAID => text,
            MOST_SAID => "further lines of the platform are left out".into(),
            _ => return drop(done),
        };
        self.said.push(([line.as_bytes(), b"\n"].concat(), Some(done)));
        self.write_said();
    }

    fn write_said(&mut self) {
        while let Some((line, done)) = self.said.first_mut() {
            if let Err(cause) = self.writer.append(&NodeName::driver(), LogStream::Platform, line) {
                tracing::error!(%cause, "the log cannot be written");
                self.stalled = Some(Instant::now() + STALL);
                // It is written later; whoever said it does not wait for that.
                for (_, done) in &mut self.said {
                    drop(done.take());
                }
                return;
            }
            if let Some(done) = done.take() {
                let _ = done.send(());
            }
            self.said.remove(0);
        }
    }

    /// After a stall: what was held first.
    fn retry(&mut self) {
        self.write_said();
        for index in 0..self.pipes.len() {
            if self.stalled.is_none() {
                self.write(index);
            }
        }
    }

    /// Drops pipes that have ended or whose time is up, and answers who waits for them.
    fn let_go(&mut self, now: Instant) {
        let overdue = self.drains.iter().filter(|(_, until, _)| *until <= now).map(|(node, _, _)| node.clone());
        for node in overdue.collect::<Vec<_>>() {
            for index in 0..self.pipes.len() {
                if self.pipes[index].node == node {
                    self.pipes[index].ended = true;
                    // The last words, if there is room for them at all.
                    self.write(index);
                    tracing::warn!(%node, "a container's output did not end with it, or could not be written");
                    self.pipes[index].held.clear();
                }
            }
        }
        self.pipes.retain(|pipe| !(pipe.ended && pipe.held.is_empty()));
        let pipes = &self.pipes;
        let (waiting, done): (Vec<_>, Vec<_>) = std::mem::take(&mut self.drains)
            .into_iter()
            .partition(|(node, _, _)| pipes.iter().any(|pipe| pipe.node == *node));
        self.drains = waiting;
        for (_, _, done) in done {
            let _ = done.send(());
        }
    }
}

/// How many of the first bytes of `held` are written next: whole lines, a piece of a line that is too long, or at the
/// end whatever there is.
fn next_batch(held: &[u8], ended: bool) -> Option<usize> {
    let window = &held[..held.len().min(Writer::MOST)];
    if let Some(end) = memchr::memrchr(b'\n', window) {
        return Some(end + 1);
    }
    if held.len() >= Writer::MOST {
        let most = Writer::MOST - 1;
        // Not within a character, if these are characters.
        return Some((most - 3..=most).rev().find(|at| held[*at] & 0xC0 != 0x80).unwrap_or(most));
    }
    (ended && !held.is_empty()).then_some(held.len())
}

fn append(writer: &mut Writer, node: &NodeName, stream: LogStream, lines: &[u8]) -> Result<Part, Error> {
    let written = writer.append(node, stream, lines)?;
    Ok(Part { node: node.clone(), first: written.first, last: written.last, bytes: written.bytes })
}

/// Whether the disk of the spool, which is the current directory, has more room than is kept for the platform: a job that
/// writes without end waits before the database and the other jobs do.
fn has_room() -> bool {
    let Ok(about) = nix::sys::statvfs::statvfs(".") else { return true };
    let reserve = (about.blocks() * about.fragment_size() / 20).min(RESERVE);
    about.blocks_available() * about.fragment_size() >= reserve
}

const READ: usize = 64 * 1024;
const PIPE: i32 = 256 * 1024;
const STALL: Duration = Duration::from_secs(1);
const CHECK_ROOM: usize = 16 * 1024 * 1024;
/// Bytes of the disk that no log takes, or a twentieth of a small one.
const RESERVE: u64 = 1 << 30;
/// Lines of the platform at most: a hostile driver can provoke some.
const MOST_SAID: u32 = 2_000;
const LONGEST_SAID: usize = 2048;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use crypto::Key;
    use model::LogLine;

    use super::*;
    use crate::spool::{Query, Reader};

    fn pipe() -> (OwnedFd, File) {
        let (read, write) = nix::unistd::pipe().expect("pipe");
        (read, File::from(write))
    }

    fn lines(dir: &std::path::Path, key: &Key) -> Vec<LogLine> {
        let all = Query::everything();
        Reader::open(dir, key).read(&all).expect("read")
    }

    #[test]
    fn a_batch_ends_with_a_line_unless_the_line_is_too_long() {
        assert_eq!(next_batch(b"", true), None);
        assert_eq!(next_batch(b"ab", false), None);
        assert_eq!(next_batch(b"ab", true), Some(2));
        assert_eq!(next_batch(b"a\nb", false), Some(2));
        assert_eq!(next_batch(b"a\nb\nc", true), Some(4));
        let long = vec![b'x'; Writer::MOST * 2];
        assert_eq!(next_batch(&long[..Writer::MOST - 1], false), None, "the longest line is waited for");
        assert_eq!(next_batch(&long, false), Some(Writer::MOST - 1));
        let mut whole = vec![b'x'; Writer::MOST - 1];
        whole.push(b'\n');
        assert_eq!(next_batch(&whole, false), Some(Writer::MOST), "the longest line is kept whole");
        let accents = "é".repeat(Writer::MOST);
        let cut = next_batch(accents.as_bytes(), false).expect("cut");
        assert!(accents.is_char_boundary(cut));
    }

    #[tokio::test]
    async fn what_the_pipes_of_a_node_carry_is_in_the_log_once_it_is_drained() {
        let dir = tempfile::tempdir().expect("directory");
        let key = Key::random().expect("key");
        let (parts, mut cut) = mpsc::unbounded_channel();
        let output = Output::start(Writer::create(dir.path(), &key, || 0).expect("writer"), parts).expect("started");
        let (stdout, mut out) = pipe();
        let (stderr, mut err) = pipe();
        output.attach(&NodeName::driver(), stdout, stderr).expect("attached");
        let writer = std::thread::spawn(move || {
            for number in 0..20_000 {
                writeln!(out, "line {number}").expect("written");
            }
            err.write_all(b"no line feed \xff at the end").expect("written");
        });
        tokio::task::spawn_blocking(move || writer.join()).await.expect("joined").expect("written");
        output.drain(&NodeName::driver(), Duration::from_secs(20)).await;
        output.say("done\nwith it").await;
        output.finish().await.expect("durable");
        let lines = lines(dir.path(), &key);
        let stdout: Vec<&str> =
            lines.iter().filter(|line| line.stream == LogStream::Stdout).map(|line| line.content.as_str()).collect();
        assert_eq!(stdout.len(), 20_000);
        assert!(stdout.iter().enumerate().all(|(number, line)| *line == format!("line {number}")));
        assert!(lines.iter().any(|line| line.content == "no line feed \u{fffd} at the end"));
        assert_eq!(lines.last().map(|line| line.content.as_str()), Some("done with it"));
        let part = cut.try_recv().expect("the rest is a part");
        let expected: usize =
            stdout.iter().map(|line| line.len() + 1).sum::<usize>() + b"no line feed \xff at the end".len();
        assert!((expected as u64..=expected as u64 + 1).contains(&part.bytes), "{part:?}");
    }

    #[tokio::test]
    async fn a_pipe_that_is_held_open_is_let_go_in_time() {
        let dir = tempfile::tempdir().expect("directory");
        let key = Key::random().expect("key");
        let (parts, _cut) = mpsc::unbounded_channel();
        let output = Output::start(Writer::create(dir.path(), &key, || 0).expect("writer"), parts).expect("started");
        let (stdout, mut out) = pipe();
        let (stderr, _err) = pipe();
        output.attach(&NodeName::driver(), stdout, stderr).expect("attached");
        out.write_all(b"first\nlast words").expect("written");
        output.drain(&NodeName::driver(), Duration::from_millis(300)).await;
        let contents: Vec<String> = lines(dir.path(), &key).into_iter().map(|line| line.content).collect();
        assert_eq!(contents, ["first", "last words"]);
    }
}
