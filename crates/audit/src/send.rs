//! Checkpoints to places elsewhere: whoever changes the log and its checkpoints here does not reach those.

use std::{
    io::{self, Write as _},
    os::unix::{fs::OpenOptionsExt as _, net::UnixDatagram},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};
use tokio_util::sync::CancellationToken;

/// A place that checkpoints are sent to.
#[derive(Debug, Clone)]
pub enum Target {
    /// A file, such as on a medium that can be written once: notes are appended.
    File(PathBuf),
    /// The system's log by a Unix datagram socket such as `/dev/log`, RFC 5424.
    SyslogUnix(PathBuf),
    /// A log server by TCP, `HOST:PORT`: RFC 5424 with the octet counting of RFC 6587.
    SyslogTcp(String),
    /// A program elsewhere: the note is the body of a POST. It needs no secret, since the note is signed.
    Webhook(url::Url),
    /// A place that another room reaches.
    Elsewhere(Elsewhere),
}

/// A place that another room reaches; the binary joins them.
#[derive(Clone)]
pub struct Elsewhere {
    /// What the log calls it; without secrets.
    pub name: String,
    /// At most one checkpoint in this time: the newest then.
    pub every: Duration,
    /// Sends one; returns when it is kept there.
    pub send: Arc<dyn Fn(Sent) -> BoxFuture<'static, io::Result<()>> + Send + Sync>,
}

/// A checkpoint as a place gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// How many entries it is of.
    pub size: u64,
    /// The whole note.
    pub note: String,
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elsewhere").field("name", &self.name).field("every", &self.every).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::File(path) => write!(f, "file {}", path.display()),
            Target::SyslogUnix(path) => write!(f, "syslog {}", path.display()),
            Target::SyslogTcp(address) => write!(f, "syslog tcp://{address}"),
            // What stands behind the host may be a secret of the caller.
            Target::Webhook(url) => write!(f, "webhook {}", url.origin().ascii_serialization()),
            Target::Elsewhere(place) => f.write_str(&place.name),
        }
    }
}

/// Sends each newest checkpoint until its sender is gone. While a place cannot be reached it is tried again with what is
/// the newest then, since a later checkpoint vouches for all that an earlier one did; after `stop` no more.
pub async fn run(target: Target, mut newest: watch::Receiver<String>, stop: CancellationToken) {
    while newest.changed().await.is_ok() {
        let note = newest.borrow_and_update().clone();
        if !deliver(&target, note, &mut newest, &stop).await {
            return;
        }
        if let Target::Elsewhere(place) = &target {
            // At the end the last one is sent without waiting.
            stop.run_until_cancelled(tokio::time::sleep(place.every)).await;
        }
    }
}

/// Sends one, or the newest after it; says whether the place was reached before `stop`.
async fn deliver(
    target: &Target,
    mut note: String,
    newest: &mut watch::Receiver<String>,
    stop: &CancellationToken,
) -> bool {
    let mut pause = FIRST_PAUSE;
    loop {
        match tokio::time::timeout(DEADLINE, send(target, &note)).await {
            Ok(Ok(())) => return true,
            Ok(Err(cause)) => tracing::error!(%target, %cause, "a checkpoint of the audit log was not sent"),
            Err(_) => tracing::error!(%target, "a checkpoint of the audit log was not sent in time"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return false;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        note.clone_from(&newest.borrow_and_update());
    }
}

/// Sends one checkpoint.
pub async fn send(target: &Target, note: &str) -> io::Result<()> {
    match target {
        Target::File(path) => {
            let (path, note) = (path.clone(), note.to_owned());
            let append = move || {
                let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                file.write_all(note.as_bytes())?;
                file.sync_data()
            };
            tokio::task::spawn_blocking(append).await.map_err(io::Error::other)?
        }
        Target::SyslogUnix(path) => {
            let (path, message) = (path.clone(), message(note));
            let send = move || {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(DEADLINE))?;
                socket.send_to(message.as_bytes(), path).map(drop)
            };
            tokio::task::spawn_blocking(send).await.map_err(io::Error::other)?
        }
        Target::SyslogTcp(address) => {
            let message = message(note);
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(format!("{} {message}", message.len()).as_bytes()).await?;
            stream.shutdown().await
        }
        Target::Elsewhere(place) => {
            let size = note.lines().nth(1).and_then(|size| size.parse().ok());
            let size = size.ok_or_else(|| io::Error::other("the checkpoint has no size"))?;
            (place.send)(Sent { size, note: note.to_owned() }).await
        }
        Target::Webhook(url) => {
            let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE);
            let client = client.build().map_err(io::Error::other)?;
            let call = client.post(url.clone()).header("content-type", "text/plain; charset=utf-8");
            let answer = call.body(note.to_owned()).send().await.map_err(reqwest::Error::without_url);
            let status = answer.map_err(io::Error::other)?.status();
            match status.is_success() {
                true => Ok(()),
                false => Err(io::Error::other(format!("it answered {status}"))),
            }
        }
    }
}

/// A message of RFC 5424: facility 13 (log audit), severity 5 (notice). Servers change line ends, so that the note is in
/// base64.
fn message(note: &str) -> String {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    format!("<109>1 {now} - casemate {} {MESSAGE} - {MESSAGE} {}", std::process::id(), STANDARD.encode(note))
}

/// The notes in what a server of the system's log keeps; what stands there as it is stays.
pub fn received(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let after = text.lines().filter_map(|line| line.rsplit_once(&format!("{MESSAGE} ")));
    let notes: Vec<Vec<u8>> = after.filter_map(|(_, note)| STANDARD.decode(note.trim()).ok()).collect();
    if notes.is_empty() { bytes.to_vec() } else { notes.concat() }
}

const MESSAGE: &str = "audit-checkpoint";
const DEADLINE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_note_comes_out_of_each_place_as_it_went_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = Target::File(dir.path().join("checkpoints"));
        send(&file, "one\n\nsigned\n").await.expect("sent");
        send(&file, "two\n\nsigned\n").await.expect("sent");
        let kept = std::fs::read(dir.path().join("checkpoints")).expect("a file");
        assert_eq!(received(&kept), b"one\n\nsigned\ntwo\n\nsigned\n");

        let path = dir.path().join("log");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        send(&Target::SyslogUnix(path), "one\n\nsigned\n").await.expect("sent");
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).expect("a message");
        assert!(bytes.starts_with(b"<109>1 20"));
        assert_eq!(received(&bytes[..length]), b"one\n\nsigned\n");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address").to_string();
        let sent = tokio::spawn(async move { send(&Target::SyslogTcp(address), "one\n\nsigned\n").await });
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("a message");
        sent.await.expect("a task").expect("sent");
        let (length, message) = text.split_once(' ').expect("a length");
        assert_eq!(length.parse(), Ok(message.len()));
        assert_eq!(received(message.as_bytes()), b"one\n\nsigned\n");
    }

    #[tokio::test]
    async fn a_webhook_gets_the_note_and_must_say_that_it_has_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let url = format!("http://{}/hook?token=secret", listener.local_addr().expect("an address"));
        let target = Target::Webhook(url.parse().expect("a URL"));
        assert!(!target.to_string().contains("secret"));
        for (answer, is_sent) in [("204 No Content", true), ("302 Found", false), ("500 Oh", false)] {
            let sending = target.clone();
            let sent = tokio::spawn(async move { send(&sending, "one\n\nsigned\n").await });
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\none\n\nsigned\n") {
                assert!(
                    stream.read_buf(&mut bytes).await.expect("a request") > 0,
                    "{}",
                    String::from_utf8_lossy(&bytes)
                );
            }
            assert!(bytes.starts_with(b"POST /hook?token=secret HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nlocation: /\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            let outcome = sent.await.expect("a task");
            assert_eq!(outcome.is_ok(), is_sent, "{outcome:?}");
            assert!(!format!("{outcome:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn a_place_that_was_away_gets_the_newest_when_it_is_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("away");
        let (newest, watched) = watch::channel(String::new());
        newest.send_replace("one\n".to_owned());
        let running = tokio::spawn(run(Target::File(place.join("checkpoints")), watched, CancellationToken::new()));
        // Whether it was tried before or not, the end is the same.
        tokio::time::sleep(Duration::from_millis(200)).await;
        newest.send_replace("two\n".to_owned());
        std::fs::create_dir(&place).expect("a directory");
        drop(newest);
        running.await.expect("ended");
        assert_eq!(std::fs::read(place.join("checkpoints")).expect("a file"), b"two\n");
    }

    #[tokio::test]
    async fn another_room_gets_the_newest_by_its_size_until_it_is_kept_and_the_last_at_the_end() {
        let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
        let fails = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let send = move |checkpoint: Sent| -> BoxFuture<'static, io::Result<()>> {
            let (sent, fails) = (sent.clone(), Arc::clone(&fails));
            Box::pin(async move {
                let failed = fails.swap(false, std::sync::atomic::Ordering::SeqCst);
                let _ = sent.send((failed, checkpoint));
                if failed { Err(io::Error::other("the bucket is away")) } else { Ok(()) }
            })
        };
        let every = Duration::from_secs(3600);
        let place = Target::Elsewhere(Elsewhere { name: "s3 kept".to_owned(), every, send: Arc::new(send) });
        assert_eq!(place.to_string(), "s3 kept");
        let (newest, watched) = watch::channel(String::new());
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(place, watched, stop.clone()));
        newest.send_replace("origin\n7\nroot\n".to_owned());
        for failed in [true, false] {
            let (was, checkpoint) = received.recv().await.expect("a try");
            assert_eq!((was, checkpoint.size, checkpoint.note.as_str()), (failed, 7, "origin\n7\nroot\n"));
        }
        // Within its time nothing is sent but at the end, and then the newest.
        newest.send_replace("origin\n8\nroot\n".to_owned());
        newest.send_replace("origin\n9\nroot\n".to_owned());
        drop(newest);
        stop.cancel();
        running.await.expect("ended");
        assert_eq!(received.recv().await.map(|(_, checkpoint)| checkpoint.size), Some(9));
        assert_eq!(received.recv().await, None);
    }

    #[tokio::test]
    async fn a_place_that_stays_away_does_not_hold_up_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let (newest, watched) = watch::channel(String::new());
        newest.send_replace("one\n".to_owned());
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(Target::File(dir.path().join("away/checkpoints")), watched, stop.clone()));
        stop.cancel();
        running.await.expect("ended, though the sender is still there");
        assert_eq!(newest.receiver_count(), 0);
    }
}
