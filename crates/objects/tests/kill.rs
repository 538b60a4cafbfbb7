//! `kill -9` of a process that serves concurrent writers: what was acknowledged is there, byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod support;

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use objects::NewBucket;
use support::{Stack, bucket, project};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const DIRECTORY: &str = "CASEMATE_TEST_KILLED";
const WRITERS: u64 = 8;
const ROUNDS: u64 = 6;

/// Not a test of its own: the process that the other one kills. Does nothing if it is not that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let stack = Stack::start_in(Path::new(&dir)).await;
    match stack.store.create_bucket(&project('a'), &bucket("data"), NewBucket::default()).await {
        Ok(()) | Err(objects::Error::BucketExists { .. }) => {}
        Err(cause) => panic!("{cause}"),
    }
    println!("\nlistens on {}", stack.public);
    std::future::pending::<()>().await;
}

/// What is known of a key: what it holds by the last answer, and what a write without an answer may have made of it.
#[derive(Clone, Default)]
struct Known {
    answered: Option<u64>,
    asked: Option<Option<u64>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let known: Arc<Mutex<HashMap<String, Known>>> = Arc::default();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let (mut child, address) = spawn(dir.path());
        check(address, &known).await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(address, round * WRITERS + writer, Arc::clone(&known))))
            .collect();
        tokio::time::sleep(Duration::from_millis(700 + 131 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for writer in writers {
            acknowledged += writer.await.unwrap();
        }
    }
    assert!(acknowledged > 100, "only {acknowledged} writes were acknowledged: the test shows little");
    let (mut child, address) = spawn(dir.path());
    check(address, &known).await;
    child.kill().unwrap();
    child.wait().unwrap();

    // Nothing is left of what was not acknowledged, or replaced.
    let stack = Stack::start_in(dir.path()).await;
    let files = std::fs::read_dir(dir.path().join("objects/large")).unwrap().count();
    let known = known.lock().unwrap();
    // Up to a megabyte it depends on how much waits in memory whether an object has a file of its own.
    let above =
        |least: usize| known.values().filter_map(|known| known.answered).filter(|seed| size(*seed) > least).count();
    assert!((above(1 << 20)..=above(256 << 10)).contains(&files), "{files} large files");
    drop(stack);
}

/// Writes, replaces and deletes keys of its own until the connection fails; how many writes were answered.
async fn write(address: SocketAddr, writer: u64, known: Arc<Mutex<HashMap<String, Known>>>) -> u64 {
    for step in 0.. {
        let key = format!("{}/{}", writer % WRITERS, step % 20);
        let seed = (step % 5 != 4).then_some(writer * 1_000_000 + step);
        known.lock().unwrap().entry(key.clone()).or_default().asked = Some(seed);
        let (method, body) = match seed {
            Some(seed) => ("PUT", data(seed)),
            None => ("DELETE", Vec::new()),
        };
        match request(address, method, &key, &body).await {
            Some((200 | 204, _)) => {
                known.lock().unwrap().insert(key, Known { answered: seed, asked: None });
            }
            Some((status, answer)) => panic!("{status}: {}", String::from_utf8_lossy(&answer)),
            None => return step,
        }
    }
    unreachable!("the process is killed")
}

/// Reads all that is known, and settles what had no answer.
async fn check(address: SocketAddr, known: &Mutex<HashMap<String, Known>>) {
    let all: Vec<(String, Known)> = known.lock().unwrap().clone().into_iter().collect();
    for (key, was) in all {
        let (status, body) = request(address, "GET", &key, b"").await.expect("an answer");
        let holds = |seed: Option<u64>| match seed {
            Some(seed) => status == 200 && body == data(seed),
            None => status == 404,
        };
        let found = [Some(was.answered), was.asked].into_iter().flatten().find(|seed| holds(*seed));
        let found =
            found.unwrap_or_else(|| panic!("{key}: {status} with {} bytes is not what was written", body.len()));
        known.lock().unwrap().insert(key, Known { answered: found, asked: None });
    }
}

fn size(seed: u64) -> usize {
    // Most are small, as they are in life; some need a file of their own.
    match seed % 7 {
        0 => 300_000 + (seed as usize * 7919) % 900_000,
        _ => (seed as usize * 104_729) % 40_000,
    }
}

fn data(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size(seed)).map(step).collect()
}

fn spawn(dir: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("listens on ")?.parse().unwrap()));
    (child, address.expect("the process says where it listens"))
}

/// One call by a presigned URL; `None` if the connection failed.
async fn request(address: SocketAddr, method: &str, key: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let url = support::signed(address, method, key);
    let work = async {
        let mut stream = TcpStream::connect(address).await?;
        let path = &url[format!("http://{address}").len()..];
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(Duration::from_secs(60), work).await.expect("an answer in time").ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer[end + 4..].to_vec();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    (length.unwrap_or(0) == body.len()).then_some((status, body))
}
