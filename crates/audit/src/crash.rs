//! The sealer against kills: a process that writes and seals is killed at each fault point and at random moments. After
//! each, sealing goes on, the log is whole, and has all that was acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use db::Db;
use jiff::{SignedDuration, Timestamp};

use crate::{
    Actor, Audit, Entry, FAULT_POINTS, Limits, Options, SealError, Sealer,
    files::{self, CHECKPOINTS, SEGMENTS},
    segments,
    tamper::{Random, World, key, options, write},
};

const DIRECTORY: &str = "CASEMATE_TEST_SEALED";
const KILL_AT: &str = "CASEMATE_TEST_KILL_AT";

/// Small segments, and entries that are kept for no time: each closed segment is removed at once.
fn hasty() -> Options {
    let later = || Timestamp::now() + SignedDuration::from_hours(1);
    Options { retention: Some(Duration::ZERO), limits: Limits { bytes: 3000, ..Limits::default() }, now: later }
}

/// Not a test of its own: the process that the others kill. Does nothing if it is not that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_crashes() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    if let Ok(at) = std::env::var(KILL_AT) {
        let (point, nth) = at.split_once(' ').unwrap();
        let (left, name) = (AtomicU64::new(nth.parse().unwrap()), point.to_owned());
        let act = move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                say(&format!("killed {name}"));
                nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        };
        fail::cfg_callback(point, act).unwrap();
    }
    let dir = Path::new(&dir);
    let db = Db::open(&dir.join("casemate.sqlite")).await.unwrap();
    let audit = Audit::new(db.clone());
    let mut sealer = Sealer::new(db, &dir.join("audit"), key(), hasty());
    say("ready");
    for round in 0..40 {
        for number in 0..7 {
            let entry = Entry::new(Actor::operator(), "test.done", format!("thing/{round}/{number}"));
            audit.record(entry).await.unwrap();
            say("written");
        }
        sealer.round_with_retention().await.unwrap();
    }
    say("done");
}

/// One line, whole, past the harness that captures what tests print.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n#{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Runs the process; `stop` may end it. Says how many entries were acknowledged, and where it was killed.
fn run(dir: &Path, kill_at: Option<String>, stop: impl FnOnce(&mut Child)) -> (u64, Option<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_crashes", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .envs(kill_at.map(|at| (KILL_AT, at)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let lines = std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<String>>());
    let mut errors = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut errors, &mut text);
        text
    });
    stop(&mut child);
    child.wait().unwrap();
    let errors = errors.join().unwrap();
    assert!(!errors.contains("panicked"), "{errors}");
    let lines = lines.join().unwrap();
    let written = lines.iter().filter(|line| *line == "#written").count() as u64;
    (written, lines.iter().find_map(|line| line.strip_prefix("#killed ").map(str::to_owned)))
}

/// Goes on sealing where the process ended, and checks all of it.
async fn go_on(dir: tempfile::TempDir, acknowledged: u64, what: &str) -> tempfile::TempDir {
    let mut world = World::open(dir).await;
    let mut sealer = Sealer::new(world.db.clone(), &world.log(), key(), options(3000));
    sealer.round().await.unwrap_or_else(|cause| panic!("{what}: {cause:?}"));
    drop(sealer);
    world.load().await;
    let report = world.check();
    assert!(report.whole && report.unsigned == 0, "{what}: {report:?}");
    // Killed before anything was written, nothing is there.
    assert!(report.through.unwrap_or(0) >= acknowledged, "{what}: {acknowledged} were acknowledged: {report:?}");
    world.db.close().await;
    world.dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_goes_on_after_a_kill_at_every_fault_point() {
    let (mut dir, mut acknowledged) = (tempfile::tempdir().unwrap(), 0);
    for point in FAULT_POINTS {
        let mut reached = false;
        for nth in [1, 3] {
            let (written, killed_at) = run(dir.path(), Some(format!("{point} {nth}")), |_| {});
            acknowledged += written;
            reached |= killed_at.as_deref() == Some(*point);
            dir = go_on(dir, acknowledged, &format!("killed at {point}, {nth}")).await;
        }
        assert!(reached, "{point} is not reached");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code = fs::read_dir(source).unwrap().filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
    let points: usize = code.map(|code| code.matches(concat!("fail_point", "!(\"audit.")).count()).sum();
    assert_eq!(points, FAULT_POINTS.len(), "every point is in the list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_goes_on_after_a_kill_at_any_moment() {
    let (mut dir, mut acknowledged, mut random) = (tempfile::tempdir().unwrap(), 0, Random(3));
    for round in 0..40 {
        let wait = Duration::from_millis(random.below(250) as u64);
        let (written, _) = run(dir.path(), None, |child| {
            std::thread::sleep(wait);
            child.kill().unwrap();
        });
        acknowledged += written;
        dir = go_on(dir, acknowledged, &format!("killed in round {round}")).await;
    }
    assert!(acknowledged > 100, "{acknowledged} were acknowledged: the test shows little");
}

#[tokio::test]
async fn what_stands_beyond_the_last_durable_batch_is_cut_only_if_the_table_has_it() {
    let mut world = World::sealed(50, 5, 3000).await;
    let last = *segments::list(&world.log().join(SEGMENTS)).unwrap().last().unwrap();
    let segment = segments::path(&world.log().join(SEGMENTS), last);
    let checkpoints = world.log().join(CHECKPOINTS);
    let append = |path: &Path, bytes: &[u8]| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, file.metadata().unwrap().len()).unwrap();
    };
    let whole = fs::read(&segment).unwrap();
    let first = whole[segments::HEADER..].to_vec();
    for torn in [&b"\xf5CMR"[..], b"\0\0\0\0\0\0", &first[..20], &first] {
        append(&segment, torn);
        append(&checkpoints, b"casemate/audit/half a check");
        fs::write(segments::path(&world.log().join(SEGMENTS), 10_000), b"CMAUD").unwrap();
        let mut sealer = Sealer::new(world.db.clone(), &world.log(), key(), options(3000));
        sealer.round().await.unwrap();
        assert_eq!(fs::read(&segment).unwrap(), whole);
        world.load().await;
        let report = world.check();
        assert!(report.whole, "{report:?}");
    }

    // What is cut off of the durable part is not made good by sealing again: it is told.
    let seal = async || {
        let mut sealer = Sealer::new(world.db.clone(), &world.log(), key(), options(3000));
        sealer.round().await
    };
    for (path, what) in [(&segment, "is shorter"), (&checkpoints, "newest checkpoint is not where")] {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        let Err(SealError::Files(files::Error::NotWhole(text))) = seal().await else { panic!("it is not seen") };
        assert!(text.contains(what), "{text}");
        fs::write(path, bytes).unwrap();
        seal().await.unwrap();
    }

    // The files have entries that the database has not: of a time after a backup that was restored.
    let older = world.sealed.clone().unwrap();
    write(&world.db, 50..53).await;
    seal().await.unwrap();
    let other = World::open(tempfile::tempdir().unwrap()).await;
    write(&other.db, 0..50).await;
    let mut tx = other.db.begin().await.unwrap();
    db::audit::set_sealed(&mut tx, &older).await.unwrap();
    tx.commit().await.unwrap();
    let mut sealer = Sealer::new(other.db.clone(), &world.log(), key(), options(3000));
    assert!(matches!(sealer.round().await, Err(SealError::Differs(_))));
    let mut second = Sealer::new(world.db.clone(), &world.log(), key(), options(3000));
    second.round().await.unwrap();
    let mut third = Sealer::new(world.db.clone(), &world.log(), key(), options(3000));
    assert!(matches!(third.round().await, Err(SealError::Files(files::Error::InUse))));
}
