//! A sealed log in which something is changed, removed, moved or put in, in thousands of ways: each is found and named.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use crypto::{Key, SigningKey};
use db::{
    Db,
    audit::{Raw, Sealed},
};

use crate::{
    Limits, Options, Sealer,
    files::{CHECKPOINTS, SEGMENTS, TREE},
    note::{self, VerifierKey},
    record::{self, Frame},
    segments::{self, HEADER},
    verify::{Check, Place, Report, Subject, Wrong},
};

/// Numbers that are the same in each run.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 to below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

pub fn key() -> SigningKey {
    SigningKey::from_seed(&Key::from_bytes(&[5; 32]).unwrap()).unwrap()
}

pub fn options(bytes: u64) -> Options {
    Options { limits: Limits { bytes, ..Limits::default() }, ..Options::default() }
}

/// Writes entries into the table, with texts that nobody should write and everybody does.
pub async fn write(db: &Db, numbers: std::ops::Range<u64>) {
    let mut tx = db.begin().await.unwrap();
    for number in numbers {
        let mut entry = crate::Entry::new(crate::Actor::operator(), "test.done", format!("thing/{number}"));
        let text = match number % 5 {
            0 => "\u{0}\u{1}\n\r\t\"'\\,;{}[]",
            1 => "",
            2 => "ünïcødé 😀 \u{202e}\u{feff}",
            3 => "casemate/audit/\n1\n\n\u{2014} ",
            _ => "plain",
        };
        entry.actor.identity = format!("{text}{}", "x".repeat((number % 97) as usize));
        entry.request_id = (number % 2 == 0).then(|| text.to_owned());
        entry.detail = serde_json::json!({ text: text });
        db::audit::append(&mut tx, &entry.row()).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Where a record stands in its file, and its number.
type Standing = (std::ops::Range<usize>, u64);

/// All that a check looks at.
pub struct World {
    pub dir: tempfile::TempDir,
    pub db: Db,
    pub rows: Vec<Raw>,
    pub sealed: Option<Sealed>,
    pub newest: (i64, i64),
    pub against: Vec<(String, Vec<u8>)>,
}

impl World {
    pub async fn open(dir: tempfile::TempDir) -> World {
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.unwrap();
        World { dir, db, rows: Vec::new(), sealed: None, newest: (0, 0), against: Vec::new() }
    }

    /// A log of so many entries, sealed in `rounds` steps.
    pub async fn sealed(entries: u64, rounds: u64, bytes: u64) -> World {
        let mut world = World::open(tempfile::tempdir().unwrap()).await;
        let mut sealer = Sealer::new(world.db.clone(), &world.log(), key(), options(bytes));
        for round in 0..rounds {
            write(&world.db, entries * round / rounds..entries * (round + 1) / rounds).await;
            sealer.round().await.unwrap();
        }
        drop(sealer);
        world.load().await;
        world
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    pub async fn load(&mut self) {
        self.rows = db::audit::raw(&self.db, None, 1_000_000).await.unwrap();
        self.sealed = db::audit::sealed(&self.db).await.unwrap();
        self.newest = db::audit::newest(&self.db).await.unwrap();
    }

    pub fn check(&self) -> Report {
        let (directory, key) = (self.log(), VerifierKey::of(&key()));
        let (sealed, against) = (self.sealed.as_ref(), self.against.as_slice());
        let subject = Subject { directory: &directory, key: &key, sealed, against };
        let mut check = Check::begin(&subject).unwrap();
        loop {
            let after = check.wants_rows_after();
            let wanted = self.rows.iter().filter(|row| after.is_none_or(|after| row.number > after));
            let rows: Vec<Raw> = wanted.take(100).cloned().collect();
            if rows.is_empty() {
                break;
            }
            check.rows(&rows).unwrap();
        }
        check.finish(self.newest).unwrap()
    }

    /// The segment files, each with where its records begin and end and their numbers.
    fn segments(&self) -> Vec<(PathBuf, Vec<Standing>)> {
        let directory = self.log().join(SEGMENTS);
        let file = |number| {
            let path = segments::path(&directory, number);
            let (bytes, mut at, mut frames) = (fs::read(&path).unwrap(), HEADER, Vec::new());
            while at < bytes.len() {
                let Frame::Whole(record) = record::frame(&bytes, at) else { panic!("a frame") };
                let end = at + record::FRAME + record.len();
                frames.push((at..end, record::number(record)));
                at = end;
            }
            (path, frames)
        };
        segments::list(&directory).unwrap().into_iter().map(file).collect()
    }
}

/// Does something to a file, has the log checked, and undoes it.
fn changed(world: &World, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Report {
    let before = fs::read(path).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    assert_ne!(bytes, before, "the test changes nothing");
    fs::write(path, bytes).unwrap();
    let report = world.check();
    fs::write(path, before).unwrap();
    report
}

fn names(report: &Report, place: Place, number: u64) -> bool {
    let holds =
        |from: Option<u64>, through: Option<u64>| from.zip(through).is_some_and(|(a, b)| a <= number && number <= b);
    !report.whole
        && report.findings.iter().any(|finding| finding.place == place && holds(finding.from, finding.through))
}

fn kinds(report: &Report) -> Vec<(Place, Wrong)> {
    let mut kinds: Vec<_> = report.findings.iter().map(|finding| (finding.place, finding.wrong)).collect();
    kinds.dedup();
    kinds
}

#[tokio::test]
async fn a_whole_log_is_whole_and_each_of_thousands_of_changes_is_found_and_named() {
    let world = World::sealed(300, 9, 6000).await;
    let report = world.check();
    assert_eq!((&report.findings, report.whole), (&Vec::new(), true));
    assert_eq!((report.size, report.first, report.through, report.unsigned), (300, Some(1), Some(300), 0));
    assert!(report.segments >= 8 && report.checkpoints == 9, "{report:?}");
    let segments = world.segments();
    let mut random = Random(11);

    for case in 0..4000 {
        let (path, frames) = &segments[random.below(segments.len())];
        let at = random.below(frames.last().unwrap().0.end);
        let bit = 1 << random.below(8);
        let report = changed(&world, path, |bytes| bytes[at] ^= bit);
        let number = frames.iter().find(|(frame, _)| frame.contains(&at)).map_or(frames[0].1, |(_, number)| *number);
        assert!(names(&report, Place::Log, number), "case {case}: byte {at} of {path:?}, entry {number}: {report:?}");
        assert!(report.findings.len() <= 3, "case {case}: {report:?}");
    }
    for case in 0..1000 {
        let (path, frames) = &segments[random.below(segments.len())];
        let (frame, number) = &frames[random.below(frames.len())];
        let report = changed(&world, path, |bytes| drop(bytes.drain(frame.clone())));
        assert!(names(&report, Place::Log, *number), "case {case}: entry {number} is gone: {report:?}");
        assert_eq!(report.findings.len(), 1, "case {case}: {report:?}");
    }
    for case in 0..1000 {
        let (path, frames) = &segments[random.below(segments.len())];
        let (first, second) = (random.below(frames.len()), random.below(frames.len()));
        let (first, second) = (first.min(second), first.max(second));
        if first == second {
            continue;
        }
        let ((a, one), (b, other)) = (frames[first].clone(), frames[second].clone());
        let report = changed(&world, path, |bytes| {
            let swapped =
                [&bytes[..a.start], &bytes[b.clone()], &bytes[a.end..b.start], &bytes[a.clone()], &bytes[b.end..]];
            *bytes = swapped.concat();
        });
        let named = names(&report, Place::Log, one) || names(&report, Place::Log, other);
        assert!(
            named && report.findings.iter().all(|finding| finding.wrong == Wrong::Reordered),
            "case {case}: {report:?}"
        );
    }
    for case in 0..1000 {
        let (path, frames) = &segments[random.below(segments.len())];
        let end = random.below(frames.last().unwrap().0.end);
        let report = changed(&world, path, |bytes| bytes.truncate(end));
        let first_gone = frames.iter().find(|(frame, _)| frame.end > end).unwrap().1;
        for number in first_gone..=frames.last().unwrap().1 {
            assert!(
                names(&report, Place::Log, number),
                "case {case}: {path:?} cut at {end}, entry {number}: {report:?}"
            );
        }
    }
    for case in 0..500 {
        let (path, frames) = &segments[random.below(segments.len())];
        let (frame, number) = frames[random.below(frames.len())].clone();
        let (to, _) = frames[random.below(frames.len())].clone();
        let report = changed(&world, path, |bytes| {
            let copy = bytes[frame].to_vec();
            bytes.splice(to.start..to.start, copy);
        });
        assert!(names(&report, Place::Log, number), "case {case}: {number} stands twice: {report:?}");
    }
}

#[tokio::test]
async fn what_was_done_to_checkpoints_tree_and_table_is_found_and_named() {
    let mut world = World::sealed(300, 9, 6000).await;
    let mut random = Random(13);
    let checkpoints = world.log().join(CHECKPOINTS);
    let bytes = fs::read(&checkpoints).unwrap();
    let notes: Vec<Vec<u8>> =
        note::split(&bytes, VerifierKey::of(&key()).origin()).into_iter().map(|(_, note)| note.to_vec()).collect();
    assert_eq!(notes.len(), 9);

    for case in 0..1000 {
        let (at, bit) = (random.below(bytes.len()), 1 << random.below(8));
        let report = changed(&world, &checkpoints, |bytes| bytes[at] ^= bit);
        assert!(kinds(&report).iter().all(|(place, _)| *place == Place::Checkpoints), "case {case}: {report:?}");
        let near = report.findings.iter().any(|finding| finding.offset.is_some_and(|offset| offset <= at as u64));
        assert!(!report.whole && near, "case {case}: byte {at}: {report:?}");
    }
    for end in 0..bytes.len() {
        let report = changed(&world, &checkpoints, |bytes| bytes.truncate(end));
        assert!(kinds(&report).contains(&(Place::Checkpoints, Wrong::CutOff)), "cut at {end}: {report:?}");
    }
    for gone in 0..9 {
        let report = changed(&world, &checkpoints, |bytes| {
            let kept = notes.iter().enumerate().filter(|(at, _)| *at != gone);
            *bytes = kept.flat_map(|(_, note)| note.clone()).collect();
        });
        let wrong = if gone == 8 { Wrong::CutOff } else { Wrong::Missing };
        assert_eq!(kinds(&report), [(Place::Checkpoints, wrong)], "{report:?}");
        for other in 0..gone {
            let report = changed(&world, &checkpoints, |bytes| {
                let mut swapped = notes.clone();
                swapped.swap(gone, other);
                *bytes = swapped.concat();
            });
            assert!(!report.whole, "{report:?}");
        }
    }
    let level = world.log().join(TREE).join("0");
    for case in 0..500 {
        let (at, bit) = (random.below(300 * 32), 1 << random.below(8));
        let report = changed(&world, &level, |bytes| bytes[at] ^= bit);
        assert!(names(&report, Place::Tree, at as u64 / 32 + 1), "case {case}: byte {at}: {report:?}");
        assert_eq!(report.findings.len(), 1, "case {case}: {report:?}");
    }

    let rows = world.rows.clone();
    for case in 0..1500 {
        world.rows = rows.clone();
        let at = random.below(rows.len());
        let number = at as u64 + 1;
        let mut named = vec![number];
        match case % 7 {
            0 => world.rows[at].at ^= 1 << random.below(62),
            1 => {
                let text = random.below(db::audit::TEXTS);
                match &mut world.rows[at].texts[text] {
                    Some(text) if !text.is_empty() => {
                        let byte = random.below(text.len());
                        text[byte] ^= 1 << random.below(8);
                    }
                    Some(text) => text.push(b'x'),
                    absent => *absent = Some(Vec::new()),
                }
            }
            2 => drop(world.rows.remove(at)),
            3 => {
                let other = (at + 1 + random.below(299)) % 300;
                let (one, two) = (world.rows[at].number, world.rows[other].number);
                world.rows.swap(at, other);
                (world.rows[at].number, world.rows[other].number) = (one, two);
                named.push(other as u64 + 1);
            }
            4 => {
                world.rows.truncate(at);
                named = (number..=300).collect();
            }
            5 => {
                let text = random.below(db::audit::TEXTS);
                world.rows[at].texts[text] = match world.rows[at].texts[text] {
                    Some(_) => None,
                    None => Some(b"put in".to_vec()),
                };
            }
            _ => {
                // A row moves to the end: its own place is empty, and there is one that was never sealed.
                let mut row = world.rows.remove(at);
                row.number = 1000;
                world.rows.push(row);
                named.push(301);
            }
        }
        let report = world.check();
        for number in &named {
            assert!(names(&report, Place::Table, *number), "case {case}: entry {number}: {report:?}");
        }
        assert!(report.findings.len() <= 2, "case {case}: {report:?}");
    }

    // A row below all that are given, as it is read by the views, and many.
    for number in [i64::MIN, -1, 0] {
        world.rows = rows.clone();
        world.rows.insert(0, Raw { number, ..rows[7].clone() });
        let report = world.check();
        let [finding] = report.findings.as_slice() else { panic!("{number}: {report:?}") };
        assert_eq!((finding.place, finding.wrong, finding.from), (Place::Table, Wrong::Forged, None));
        assert!(finding.what.contains(&format!("the number {number},")), "{report:?}");
    }
    world.rows = (-250..=0).map(|number| Raw { number, ..rows[7].clone() }).chain(rows.clone()).collect();
    let report = world.check();
    assert_eq!(kinds(&report), [(Place::Table, Wrong::Forged)], "{report:?}");
    assert!(report.findings[0].what.contains("251 rows with numbers from -250 to 0"), "{report:?}");
    world.rows = rows;
    assert!(world.check().whole);
}
