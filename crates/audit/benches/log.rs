//! The audit log: entries a second that 64 callers get durable while the log is sealed, and that a check goes through.
//! `CASEMATE_BENCH_ENTRIES` sets how many entries the check has; a million when it is not set.
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "../../casemate/benches/report.rs"]
mod report;

use std::{path::Path, time::Instant};

use audit::{
    Actor, Audit, Entry, Options, Sealer,
    note::VerifierKey,
    verify::{self, Check, Subject},
};
use crypto::{Key, SigningKey};
use db::Db;
use tokio_util::sync::CancellationToken;

const CALLERS: u64 = 64;
const RECORDED: u64 = 200_000;
const CHECKED: u64 = 1_000_000;
const AT_ONCE: u64 = 5_000;

fn main() {
    let checked = std::env::var("CASEMATE_BENCH_ENTRIES").ok().map(|text| text.parse().expect("a number"));
    let checked: u64 = checked.unwrap_or(CHECKED);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        // Beside the build, which is on a disk where /tmp may not be.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let log = dir.path().join("audit");
        let seed = Key::random().expect("a key");
        let key = || SigningKey::from_seed(&seed).expect("a key");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");

        let stop = CancellationToken::new();
        let sealing = tokio::spawn(Sealer::new(db.clone(), &log, key(), Options::default()).run(stop.clone()));
        let begun = Instant::now();
        append(&Audit::new(db.clone())).await;
        report::at_least("audit-append", rate(RECORDED, begun), 20_000.0, " entries/s");
        stop.cancel();
        sealing.await.expect("sealed");

        fill(&db, checked.saturating_sub(RECORDED)).await;
        let begun = Instant::now();
        Sealer::new(db.clone(), &log, key(), Options::default()).round().await.expect("sealed");
        println!("sealed {:.0} entries/s", rate(checked.saturating_sub(RECORDED), begun));
        check(&db, &log, &VerifierKey::of(&key())).await;
    });
}

/// Each caller waits until its entry is durable before it writes the next.
async fn append(audit: &Audit) {
    let callers = (0..CALLERS).map(|caller| {
        let audit = audit.clone();
        tokio::spawn(async move {
            for number in 0..RECORDED / CALLERS {
                audit.record(entry(caller * RECORDED + number)).await.expect("recorded");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("a caller");
    }
}

/// Fills the table in large transactions, by the way of rooms that hand entries over.
async fn fill(db: &Db, entries: u64) {
    let audit = Audit::new(db.clone());
    for from in (0..entries).step_by(AT_ONCE as usize) {
        let some: Vec<(u64, Entry)> = (from..entries.min(from + AT_ONCE)).map(|at| (at + 1, entry(at))).collect();
        audit.take_over("bench", &some).await.expect("written");
    }
}

async fn check(db: &Db, log: &Path, key: &VerifierKey) {
    let sealed = db::audit::sealed(db).await.expect("a database");
    let size = sealed.as_ref().map_or(0, |sealed| u64::try_from(sealed.size).unwrap_or(0));
    let begun = Instant::now();
    let check = Check::begin(&Subject { directory: log, key, sealed: sealed.as_ref(), against: &[] }).expect("a check");
    report::at_least("audit-verify", rate(size, begun), 1_000_000.0, " entries/s");
    drop(check);
    let begun = Instant::now();
    let found = verify::run(db, log, key, &[]).await.expect("a check");
    assert!(found.whole && found.size == size, "{found:?}");
    println!("checked with the database's copy and its indexes: {:.0} entries/s", rate(size, begun));
    let begun = Instant::now();
    assert!(db::audit::faults(db).await.expect("a check").is_empty());
    println!("of that, the indexes alone: {:.0} entries/s", rate(size, begun));
    println!("{} bytes an entry in {} files", found.bytes / size.max(1), found.segments);
}

/// As a call of the API leaves it: on one of a thousand projects, each in the views of one of a hundred accounts.
fn entry(number: u64) -> Entry {
    let mut actor = Actor::anonymous(Some("192.0.2.17".parse().expect("an address")));
    actor.account = Some(format!("ab{:04}-casemate", number % 100).parse().expect("an account"));
    actor.identity = format!("credential/{}", number % 100);
    actor.request_id = Some(format!("req-{number:016x}"));
    let resource = format!("urn:v1:eu:resource:publicCloudProject:{:032x}", number % 1000);
    let mut entry = Entry::new(actor, "publicCloudProject:apiovh:dataProcessing/jobs/get", resource);
    entry.decision = audit::Decision::Allowed;
    entry.result = "200".to_owned();
    entry
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(entries: u64, begun: Instant) -> f64 {
    entries as f64 / begun.elapsed().as_secs_f64()
}
