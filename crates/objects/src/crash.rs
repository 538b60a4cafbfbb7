//! The store against kills, bad disks and lost power: concurrent writers in a process that is killed, or whose file
//! operations fail, and a model of what was acknowledged. After each, the store is what the model says, and a check of
//! all of it finds nothing wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use keys::Keys;
use model::ProjectId;

use crate::{
    CheckOptions, Error, FAULT_POINTS, Store,
    compact::Pace,
    faults,
    log::DURABLE,
    put::{Condition, Removal, Tag, Target, Writes},
    rows::UploadRow,
    seal, segments,
    settings::NewBucket,
    store::Limits,
    uploads::{Check, Wanted},
};

const DIRECTORY: &str = "CASEMATE_TEST_CRASHED";
const KILL_AT: &str = "CASEMATE_TEST_KILL_AT";
const FAIL_AT: &str = "CASEMATE_TEST_FAIL_AT";
const REFUSE_AT: &str = "CASEMATE_TEST_REFUSE_AT";
const SEED: &str = "CASEMATE_TEST_SEED";
const STEPS: &str = "CASEMATE_TEST_STEPS";
const WRITERS: u64 = 6;
const KEYS: u64 = 5;

/// Not a test of its own: the process that the others kill. Does nothing if it is not that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_crashes() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Ok(at) = std::env::var(KILL_AT) {
        let (point, nth) = at.split_once(' ').unwrap();
        let left = AtomicU64::new(nth.parse().unwrap());
        let name = point.to_owned();
        let act = move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                say(&format!("killed {name}"));
                nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        };
        fail::cfg_callback(point, act).unwrap();
    }
    if let Ok(point) = std::env::var(REFUSE_AT) {
        fail::cfg(&point, "return").unwrap();
        let opened =
            Store::open_within(&Path::new(&dir).join("objects"), keys(Path::new(&dir)), Limits::default()).await;
        say(&format!("{} {point}", if opened.is_err() { "refused-at" } else { "opened-at" }));
        std::process::exit(0);
    }
    let durable = OpenOptions::new().write(true).create(true).truncate(false).open(Path::new(&dir).join("durable"));
    DURABLE.set(durable.unwrap()).unwrap();
    let store = open(Path::new(&dir)).await;
    if let Ok(at) = std::env::var(FAIL_AT) {
        let (point, actions) = at.split_once(' ').unwrap();
        fail::cfg(point, actions).unwrap();
    }
    say("ready");
    let (seed, steps) = (number(SEED).unwrap(), number(STEPS).unwrap_or(u64::MAX));
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, seed, steps))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    say("done");
    // Neither closed nor dropped: it ends as if it were killed.
    std::process::exit(0);
}

/// Writes, replaces and deletes keys of its own, in every way that there is, and says what it asks and what it is told.
async fn write(store: Store, writer: u64, seed: u64, steps: u64) {
    let mut random = Random(seed.wrapping_mul(1_000_003) + writer + 1);
    for step in 0..steps {
        let key = format!("{writer}/{}", random.below(KEYS));
        let body = seed * 1_000_000 + step * WRITERS + writer;
        let wish = match random.below(20) {
            0..4 => None,
            _ => Some(body),
        };
        say(&format!("ask {key} {}", wish.map_or("gone".to_owned(), |body| body.to_string())));
        let result = match (wish, random.below(10)) {
            (None, _) => {
                let removal = Removal { key: key.clone(), ..Removal::default() };
                let removed = store.remove(&project(), &target("").bucket, vec![removal]).await;
                removed.and_then(|mut results| results.remove(0)).map(drop)
            }
            (Some(body), 0..2) => upload(&store, &key, body).await,
            (Some(body), 2..4) => put(&store, &key, body, Some(Tag::Any)).await,
            (Some(body), _) => put(&store, &key, body, None).await,
        };
        match result {
            Ok(()) => say(&format!("done {key}")),
            Err(Error::Precondition | Error::NoSuchKey) => say(&format!("refused {key}")),
            Err(Error::NotWritten | Error::NotPlaced | Error::Full | Error::Io { .. }) => {
                say(&format!("failed {key}"));
            }
            Err(cause) => panic!("{cause:?}"),
        }
    }
}

async fn put(store: &Store, key: &str, body: u64, none_matches: Option<Tag>) -> Result<(), Error> {
    let chunks = futures::stream::iter(
        data(body).chunks(50_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>(),
    );
    let sealed = store.seal(&project(), chunks, None, u64::MAX).await?;
    let condition = Condition { none_matches, ..Condition::default() };
    store.put(target(key), Writes::default(), sealed, condition).await.map(drop)
}

async fn upload(store: &Store, key: &str, body: u64) -> Result<(), Error> {
    let id = store.begin_upload(target(key), UploadRow::default()).await?;
    let stream = futures::stream::iter([Ok(Bytes::from(data(body)))]);
    let sealed = store.seal(&project(), stream, None, u64::MAX).await?;
    let row = store.put_part(target(key), id, 7, sealed).await?;
    let wanted = vec![Wanted { number: 7, etag: Some(row.etag), sum: None }];
    store.complete_upload(target(key), id, wanted, Check::default(), Condition::default()).await.map(drop)
}

/// One line, whole, past the harness that captures what tests print.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n#{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What may be at each key: one thing once it is settled, more while an answer is out.
type Model = HashMap<String, Vec<Option<u64>>>;

/// A process at work on a store, and what is known of the store.
struct World {
    dir: tempfile::TempDir,
    model: Model,
    seed: u64,
    acknowledged: u64,
    failed: u64,
    killed_at: Vec<String>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        World { dir, model: Model::new(), seed: 0, acknowledged: 0, failed: 0, killed_at: Vec::new() }
    }

    /// Runs the process; `run` ends it, or waits for its end.
    fn round(&mut self, variables: &[(&str, String)], run: impl FnOnce(&mut Child, &AtomicU64)) {
        self.seed += 1;
        let durable = self.dir.path().join("durable");
        let _ = fs::remove_file(&durable);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_process_that_crashes", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, self.dir.path())
            .env(SEED, self.seed.to_string())
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let out = child.stdout.take().unwrap();
        let answers = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answers);
        let lines = std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if line == "#ready" {
                    let _ = ready.send(());
                }
                count.fetch_add(u64::from(line.starts_with("#done")), Ordering::SeqCst);
                lines.push(line);
            }
            lines
        });
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut errors, &mut text);
            text
        });
        // It may be killed before it is ready.
        let _ = is_ready.recv();
        run(&mut child, &answers);
        child.wait().unwrap();
        let errors = errors.join().unwrap();
        assert!(!errors.contains("panicked"), "{errors}");
        for line in lines.join().unwrap() {
            let Some(line) = line.strip_prefix('#') else { continue };
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["ask", key, wish] => {
                    self.model.entry(key.to_owned()).or_insert_with(|| vec![None]).push(wish.parse().ok());
                }
                ["done", key] => {
                    let known = self.model.get_mut(key).unwrap();
                    known.drain(..known.len() - 1);
                    self.acknowledged += 1;
                }
                ["refused", key] => {
                    self.model.get_mut(key).unwrap().pop();
                }
                ["failed", ..] => self.failed += 1,
                ["killed" | "refused-at", point] => self.killed_at.push(point.to_owned()),
                _ => {}
            }
        }
    }

    /// Kills the process when it reaches a point the nth time, or after a second.
    fn kill_at(&mut self, point: &str, nth: u64) {
        self.round(&[(KILL_AT, format!("{point} {nth}"))], |child, _| {
            for _ in 0..200 {
                if child.try_wait().unwrap().is_some() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().unwrap();
        });
    }

    /// Kills the process at a random moment after a random number of answers.
    fn kill_at_random(&mut self, random: &mut Random) {
        let (wanted, wait) = (random.below(25), Duration::from_micros(random.below(4000)));
        self.round(&[], |child, answers| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while answers.load(Ordering::SeqCst) < wanted && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(wait);
            child.kill().unwrap();
        });
    }

    /// Reads all that is known, settles what had no answer, and has everything checked.
    async fn check(&mut self, what: &str) {
        let store = open(self.dir.path()).await;
        for (key, known) in &mut self.model {
            let found = match store.open_object(&target(key), None).await {
                Err(Error::NoSuchKey) => None,
                Err(cause) => panic!("{what}: {key}: {cause:?}"),
                Ok(opened) => {
                    let size = opened.row.size;
                    let reading = store.source(opened, 0..size).await.unwrap().stream().await.unwrap();
                    let parts: Vec<Bytes> = reading.try_collect().await.unwrap();
                    Some(parts.concat())
                }
            };
            let is = known.iter().rev().find(|body| body.map(data) == found);
            let is = *is.unwrap_or_else(|| panic!("{what}: {key} is none of {known:?}"));
            *known = vec![is];
        }
        let report = store.check(CheckOptions { index: true, ..CheckOptions::default() }, |_| {}).await.unwrap();
        assert!(report.is_well() && report.unnamed_files == 0, "{what}: {report:?}");
        assert_eq!(report.index, Some(true), "{what}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_at_every_fault_point() {
    let mut world = World::new();
    for point in FAULT_POINTS {
        for nth in [1, 2, 7] {
            world.kill_at(point, nth);
            if *point == "objects.log.replayed" {
                // Only what was killed before has something to replay.
                world.kill_at("objects.index.committed", 30);
                world.kill_at(point, nth);
            }
            world.check(&format!("killed at {point}, {nth}")).await;
        }
        assert!(world.killed_at.iter().any(|at| at == point), "{point} is not reached");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code = fs::read_dir(source).unwrap().filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
    // Those with an argument make something fail, and stand between no two steps.
    let is_point = |line: &str| line.contains(concat!("fail_point", "!(\"objects.")) && line.ends_with("\");");
    let points: usize = code.map(|code| code.lines().filter(|line| is_point(line)).count()).sum();
    assert_eq!(points, FAULT_POINTS.len(), "every point is in the list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let mut world = World::new();
    let mut random = Random(7);
    for round in 0..200 {
        world.kill_at_random(&mut random);
        // Most rounds begin where the one before was killed, so that replays follow on replays.
        if round % 4 == 3 {
            world.check(&format!("killed in round {round}")).await;
        }
    }
    assert!(world.acknowledged > 1000, "{} were acknowledged: the test shows little", world.acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_again_from_the_log_is_durable_before_anything_is_built_on_it() {
    let mut world = World::new();
    // It was written, and can be read; nobody asked the disk for it.
    world.kill_at("objects.log.appended", 40);
    world.round(&[(REFUSE_AT, faults::SYNC_LOG.to_owned())], |child, _| {
        child.wait().unwrap();
    });
    assert!(world.killed_at.iter().any(|at| at == faults::SYNC_LOG), "it was opened without a sync");
    world.check("opened without a sync").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_operation_that_fails_is_an_error_and_harms_nothing_else() {
    let mut world = World::new();
    for operation in faults::FILE_OPERATIONS {
        for (kind, actions) in [
            ("once", "1*off->1*return->off"),
            ("full", "2*off->3*return(full)->off"),
            ("often", "20%return"),
            ("for good", "4*off->return"),
        ] {
            let failed = world.failed;
            world.round(&[(FAIL_AT, format!("{operation} {actions}")), (STEPS, "60".to_owned())], |child, _| {
                child.wait().unwrap();
            });
            // A checkpoint that fails is no answer's fault.
            let answers = *operation != faults::CHECKPOINT && *operation != faults::SYNC_DIRECTORY;
            assert!(kind == "once" || !answers || world.failed > failed, "{operation} does not fail, {kind}");
            world.check(&format!("{operation} failed {kind}")).await;
        }
    }
    assert!(world.acknowledged > 1000, "{} were acknowledged: the test shows little", world.acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_loss_of_what_was_not_synced() {
    let mut world = World::new();
    let mut random = Random(11);
    let mut torn = 0;
    for round in 0..60 {
        world.kill_at_random(&mut random);
        let packed = world.dir.path().join("objects/packed");
        // Nothing at all may have been written in this round.
        let Ok(durable) = fs::read(world.dir.path().join("durable")) else { continue };
        let Ok(durable) = <[u8; 16]>::try_from(durable) else { continue };
        let [segment, offset] = [0, 8].map(|at| u64::from_le_bytes(durable[at..at + 8].try_into().unwrap()));
        for id in segments::ids(&packed).unwrap().into_iter().filter(|id| *id >= segment) {
            let file = OpenOptions::new().read(true).write(true).open(segments::path(&packed, id)).unwrap();
            let durable = if id == segment { offset } else { 0 };
            let length = file.metadata().unwrap().len();
            if length > durable {
                tear(&file, durable, length, &mut random);
                torn += 1;
            }
        }
        world.check(&format!("lost power in round {round}")).await;
    }
    assert!(torn > 0, "no round had anything to lose");
}

/// Cuts a file behind what is durable, changes bytes there, or loses a page of it.
fn tear(file: &fs::File, durable: u64, length: u64, random: &mut Random) {
    let at = durable + random.below(length - durable);
    match random.below(4) {
        0 => file.set_len(at).unwrap(),
        1 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
        }
        2 => file.write_all_at(&vec![0; usize::try_from(length - at).unwrap()], at).unwrap(),
        // It grew, and what it grew by was not written.
        _ => file.set_len(length + random.below(10_000)).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_of_small_objects_comes_back_while_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        segment_file: 4 << 20,
        pace: Pace { every: Duration::from_millis(100), rate: 1 << 30 },
        ..Limits::default()
    };
    let store = Store::open_within(&dir.path().join("objects"), keys(dir.path()), limits).await.unwrap();
    store.create_bucket(&project(), &target("").bucket, NewBucket::default()).await.unwrap();
    // 200 MiB, of 64 KiB each.
    let body = |number: u64| {
        let mut random = Random(number + 1);
        (0..8192).flat_map(|_| random.next().to_le_bytes()).collect::<Vec<u8>>()
    };
    let writers = (0..16).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in (writer..3200).step_by(16) {
                let stream = futures::stream::iter([Ok(Bytes::from(body(number)))]);
                let sealed = store.seal(&project(), stream, None, u64::MAX).await.unwrap();
                let key = target(&number.to_string());
                store.put(key, Writes::default(), sealed, Condition::default()).await.unwrap();
            }
        })
    });
    futures::future::join_all(writers).await.into_iter().for_each(|ended| ended.unwrap());
    let used = || -> u64 {
        let files = fs::read_dir(dir.path().join("objects/packed")).unwrap();
        files.map(|file| file.unwrap().metadata().map_or(0, |found| found.len())).sum()
    };
    assert!(used() > 200 << 20, "{}", used());
    let reads = Arc::new(AtomicU64::new(0));
    let reader = tokio::spawn({
        let (store, reads) = (store.clone(), Arc::clone(&reads));
        async move {
            let mut random = Random(3);
            loop {
                // The odd ones stay.
                let number = random.below(1600) * 2 + 1;
                let opened = store.open_object(&target(&number.to_string()), None).await.unwrap();
                let reading = store.source(opened, 0..65_536).await.unwrap().stream().await.unwrap();
                let parts: Vec<Bytes> = reading.try_collect().await.unwrap();
                assert_eq!(parts.concat(), body(number), "{number}");
                reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    // Whole files would go by themselves: of each a good half goes.
    for number in (0..3200_u64).step_by(2) {
        store.delete_object(&project(), &target("").bucket, &number.to_string()).await.unwrap();
    }
    for number in (1..3200_u64).step_by(8) {
        let stream = futures::stream::iter([Ok(Bytes::from(body(number)))]);
        let sealed = store.seal(&project(), stream, None, u64::MAX).await.unwrap();
        store.put(target(&number.to_string()), Writes::default(), sealed, Condition::default()).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while used() > 125 << 20 {
        assert!(Instant::now() < deadline, "{} are still used", used());
        assert!(!reader.is_finished(), "a reader failed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(reads.load(Ordering::Relaxed) > 100);
    reader.abort();
    let _ = reader.await;
    let report = store.check(CheckOptions::default(), |_| {}).await.unwrap();
    assert!(report.is_well() && report.looked_at.rows == 1600, "{report:?}");
    let now = tokio::time::Instant::now();
    let usage = store.usage(&project(), &target("").bucket, now).await.unwrap().unwrap();
    assert_eq!((usage.objects, usage.bytes), (1600, 1600 * 65_536));
    assert_eq!(store.project_usage(&project(), now).await.unwrap(), Some(usage));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_what_is_damaged_and_repairs_it_from_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let bodies = [(1, "small"), (7, "large"), (14, "lost")];
    for (body, key) in bodies {
        put(&store, key, body, None).await.unwrap();
    }
    store.close().await;
    let copy = dir.path().join("copy");
    for kind in ["packed", "large"] {
        fs::create_dir_all(copy.join(kind)).unwrap();
        for file in fs::read_dir(dir.path().join("objects").join(kind)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copy.join(kind).join(file.file_name())).unwrap();
        }
    }
    // A byte of each packed file, one of a large file, and the whole of another.
    let hurt = |path: &Path, at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    let files = |kind: &str| -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir.path().join("objects").join(kind)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    hurt(&files("large")[0], 70_000);
    fs::remove_file(&files("large")[1]).unwrap();
    let store = open(dir.path()).await;
    let opened = store.open_object(&target("small"), None).await.unwrap();
    let crate::rows::Data::One(piece) = &opened.row.data else { panic!("one piece") };
    let crate::rows::Place::Packed { segment, offset } = piece.place else { panic!("packed") };
    drop(opened);
    hurt(&segments::path(&dir.path().join("objects/packed"), segment), offset + 5);

    let report = store.check(CheckOptions::default(), |_| {}).await.unwrap();
    assert!(!report.is_well());
    let mut damaged: Vec<(&str, (u64, u64))> =
        report.damaged.iter().map(|damage| (damage.key.as_str(), damage.bytes)).collect();
    damaged.sort_unstable();
    let length = |body| data(body).len() as u64;
    assert_eq!(damaged, [("large", (65_536, 131_072)), ("lost", (0, length(14))), ("small", (0, length(1)))]);
    assert!(
        matches!(store.open_object(&target("small"), None).await.map(|opened| opened.row.size), Ok(size) if size == length(1))
    );

    // A copy that is damaged too repairs nothing.
    let bad = CheckOptions { repair_from: Some(dir.path().join("objects")), ..CheckOptions::default() };
    assert!(store.check(bad, |_| {}).await.unwrap().damaged.iter().all(|damage| !damage.repaired));
    let options = CheckOptions { repair_from: Some(copy), ..CheckOptions::default() };
    let report = store.check(options, |_| {}).await.unwrap();
    assert!(report.is_well() && report.damaged.len() == 3, "{report:?}");
    let report = store.check(CheckOptions { index: true, ..CheckOptions::default() }, |_| {}).await.unwrap();
    assert!(report.is_well() && report.damaged.is_empty(), "{report:?}");
}

async fn open(dir: &Path) -> Store {
    // Small, so that files end, are emptied, and are checkpointed often.
    let limits = Limits {
        segment_file: 128 << 10,
        checkpoint: 512 << 10,
        kept_free: 1 << 20,
        pace: Pace { every: Duration::from_millis(20), rate: 1 << 30 },
        ..Limits::default()
    };
    let store = Store::open_within(&dir.join("objects"), keys(dir), limits).await.unwrap();
    match store.create_bucket(&project(), &target("").bucket, NewBucket::default()).await {
        Ok(()) | Err(Error::BucketExists { .. }) => store,
        Err(cause) => panic!("{cause:?}"),
    }
}

/// Keys below `dir`, with those of the project.
pub fn keys(dir: &Path) -> Arc<Keys> {
    let keys = Keys::open(&dir.join("keys")).unwrap();
    let account = "account".parse().unwrap();
    if keys.create_account(&account).is_ok() {
        keys.create_project(&project(), &account).unwrap();
    }
    Arc::new(keys)
}

/// Whose store it is.
pub fn project() -> ProjectId {
    "a".repeat(32).parse().unwrap()
}

/// An object of the bucket `data`.
pub fn target(key: &str) -> Target {
    Target { project: project(), bucket: "data".parse().unwrap(), key: key.to_owned() }
}

/// Most are small, as they are in life; some need a file of their own.
fn data(body: u64) -> Vec<u8> {
    let medium = usize::try_from(seal::MEDIUM).unwrap();
    let body = usize::try_from(body).unwrap();
    let size = match body % 7 {
        0 => medium + 1 + (body * 7919) % 300_000,
        _ => (body * 104_729) % 20_000,
    };
    let mut random = Random(body as u64 + 1);
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(size);
    bytes
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bits = self.0;
        bits ^= bits >> 33;
        bits = bits.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        bits ^ (bits >> 33)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}
