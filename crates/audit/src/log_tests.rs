//! The sealed log as a whole: what it proves to others, what retention leaves of it, what only a checkpoint elsewhere shows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use std::{fs, path::Path, time::Duration};

use db::audit::Raw;
use jiff::{SignedDuration, Timestamp};

use crate::{
    Actor, Entry, Limits, Options, Sealer,
    files::{CHECKPOINTS, SEGMENTS, TREE},
    note::{self, VerifierKey},
    prove::{self, Consistency, Inclusion},
    segments,
    tamper::{World, key, options, write},
    verify::{self, Place, Wrong},
};

fn notes(world: &World) -> Vec<String> {
    let bytes = fs::read(world.log().join(CHECKPOINTS)).unwrap();
    let notes = note::split(&bytes, VerifierKey::of(&key()).origin());
    notes.into_iter().map(|(_, note)| String::from_utf8(note.to_vec()).unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn each_entry_and_each_older_checkpoint_has_a_proof_that_holds_by_the_key_alone() {
    let world = World::sealed(300, 9, 6000).await;
    let (verifier, notes) = (VerifierKey::of(&key()), notes(&world));
    let newest = notes.last().unwrap();
    for number in 1..=300 {
        let proof = Inclusion::of(&world.log(), &verifier, newest, number).unwrap();
        let read: Inclusion = proof.to_string().parse().unwrap();
        assert_eq!(read, proof);
        let (entry, checkpoint) = read.verify(&verifier).unwrap();
        assert_eq!((&entry, checkpoint.size), (&world.rows[number as usize - 1], 300));
        let mut other = proof.clone();
        other.record[60] ^= 1;
        assert!(matches!(other.verify(&verifier), Err(prove::Error::DoesNotHold)));
        other = Inclusion { index: number % 300, ..proof };
        assert!(matches!(other.verify(&verifier), Err(prove::Error::DoesNotHold)));
    }
    let unknown = Inclusion::of(&world.log(), &verifier, newest, 301);
    assert!(matches!(unknown, Err(prove::Error::NoEntry(301))));
    for old in &notes {
        let proof = Consistency::of(&world.log(), &verifier, old, newest).unwrap();
        let read: Consistency = proof.to_string().parse().unwrap();
        assert_eq!(read, proof);
        assert_eq!(read.verify(&verifier, old).unwrap().1.size, 300);
        let mut other = proof.clone();
        if let Some(hash) = other.path.first_mut() {
            hash[0] ^= 1;
            assert!(matches!(other.verify(&verifier, old), Err(prove::Error::DoesNotHold)));
        }
    }
    // What is there no more proves nothing.
    fs::write(world.log().join(TREE).join("0"), vec![0; 300 * 32]).unwrap();
    let none = Inclusion::of(&world.log(), &verifier, newest, 7);
    assert!(matches!(none, Err(prove::Error::NotWhole)));
}

#[tokio::test]
async fn retention_removes_whole_files_and_what_is_left_is_proved_as_before() {
    let mut world = World::open(tempfile::tempdir().unwrap()).await;
    let begin = Timestamp::now() - SignedDuration::from_hours(10 * 24);
    let mut sealer = Sealer::new(
        world.db.clone(),
        &world.log(),
        key(),
        Options { retention: Some(Duration::from_secs(5 * 24 * 3600)), limits: Limits::default(), now: Timestamp::now },
    );
    // Forty entries a day; a day is a file.
    for hour in 0..10 {
        let mut tx = world.db.begin().await.unwrap();
        for number in 0..40 {
            let mut entry = Entry::new(Actor::operator(), "test.done", format!("thing/{hour}/{number}"));
            entry.at = begin + SignedDuration::from_mins(hour * 24 * 60 + number * 30);
            db::audit::append(&mut tx, &entry.row()).await.unwrap();
        }
        tx.commit().await.unwrap();
        if hour < 9 {
            sealer.seal_now().await.unwrap();
        }
    }
    world.load().await;
    let (rows_before, files_before) = (world.rows.clone(), world.dir.path().join("before"));
    copy(&world.log(), &files_before);
    sealer.round_with_retention().await.unwrap();
    drop(sealer);
    world.load().await;
    let report = world.check();
    assert!(report.whole, "{report:?}");
    assert!(report.removed >= 160 && report.removed <= 200 && report.unproved >= 4, "{report:?}");
    assert_eq!((report.size, report.first), (401, Some(report.removed + 1)));
    assert_eq!(world.rows.len() as u64, 401 - report.removed);
    let cut = world.rows.last().unwrap();
    assert_eq!(cut.texts[3].as_deref(), Some(crate::CUT.as_bytes()));

    let (verifier, notes) = (VerifierKey::of(&key()), notes(&world));
    let newest = notes.last().unwrap();
    for number in report.removed + 1..=401 {
        Inclusion::of(&world.log(), &verifier, newest, number).unwrap().verify(&verifier).unwrap();
    }
    assert!(Inclusion::of(&world.log(), &verifier, newest, report.removed).is_err());
    let kept: Vec<&String> =
        notes.iter().filter(|note| verifier.open(note.as_bytes()).unwrap().size >= report.removed).collect();
    assert!(kept.len() > 4);
    for old in kept {
        Consistency::of(&world.log(), &verifier, old, newest).unwrap().verify(&verifier, old).unwrap();
    }

    // More than retention said: found.
    let directory = world.log().join(SEGMENTS);
    let first = segments::path(&directory, report.first.unwrap());
    let bytes = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    let found = world.check();
    assert!(
        found.findings.iter().any(|finding| (finding.place, finding.wrong) == (Place::Log, Wrong::Missing)),
        "{found:?}"
    );
    fs::write(&first, bytes).unwrap();
    let row = world.rows.remove(0);
    let found = world.check();
    assert_eq!(found.findings.len(), 1, "{found:?}");
    assert_eq!((found.findings[0].wrong, found.findings[0].from), (Wrong::Missing, Some(row.number as u64)));
    world.rows.insert(0, row);
    assert!(world.check().whole);

    // A row that retention removed with its file, there again, and one below all.
    let removed = report.removed as usize;
    let kept = world.rows.clone();
    for there in [0..1, 40..43, removed - 1..removed] {
        world.rows = [&rows_before[there.clone()], &kept[..]].concat();
        let found = world.check();
        let [finding] = found.findings.as_slice() else { panic!("{there:?}: {found:?}") };
        assert_eq!((finding.place, finding.wrong), (Place::Table, Wrong::Forged), "{found:?}");
        assert_eq!((finding.from, finding.through), (Some(there.start as u64 + 1), Some(there.end as u64)));
    }
    world.rows.clone_from(&kept);
    world.rows.insert(0, Raw { number: -1, ..rows_before[0].clone() });
    let found = world.check();
    assert!(found.findings.len() == 1 && found.findings[0].wrong == Wrong::Forged, "{found:?}");

    // On the way, its files still there: what is to go may be there, in part, or not.
    let before = files_before.join(SEGMENTS);
    for number in segments::list(&before).unwrap() {
        let target = segments::path(&directory, number);
        if !target.exists() {
            fs::copy(segments::path(&before, number), target).unwrap();
        }
    }
    for gone in [0, 1, 100, removed] {
        world.rows = [&rows_before[gone..removed], &kept[..]].concat();
        let found = world.check();
        assert!(found.whole && found.removed == 0, "{gone}: {found:?}");
    }
    world.rows = [&rows_before[..removed], &kept[..]].concat();
    world.rows[10].texts[4] = Some(b"thing/forged".to_vec());
    let found = world.check();
    assert_eq!(found.findings.len(), 1, "{found:?}");
    assert_eq!((found.findings[0].wrong, found.findings[0].from), (Wrong::Changed, Some(11)));
}

#[tokio::test]
async fn retention_removes_all_of_a_log_that_nothing_is_written_to() {
    let mut world = World::open(tempfile::tempdir().unwrap()).await;
    let begin = Timestamp::now() - SignedDuration::from_hours(10 * 24);
    let retention = Some(Duration::from_secs(5 * 24 * 3600));
    let options = Options { retention, ..Options::default() };
    let mut sealer = Sealer::new(world.db.clone(), &world.log(), key(), options);
    let mut tx = world.db.begin().await.unwrap();
    for number in 0..40 {
        let mut entry = Entry::new(Actor::operator(), "test.done", format!("thing/{number}"));
        entry.at = begin + SignedDuration::from_mins(number);
        db::audit::append(&mut tx, &entry.row()).await.unwrap();
    }
    tx.commit().await.unwrap();
    for _ in 0..3 {
        sealer.round_with_retention().await.unwrap();
    }
    drop(sealer);
    world.load().await;
    let report = world.check();
    assert!(report.whole, "{report:?}");
    assert_eq!((report.size, report.removed, report.first), (41, 40, Some(41)), "only that it was cut is left");
    assert_eq!(world.rows.len(), 1);

    // It goes on as any other.
    write(&world.db, 0..20).await;
    Sealer::new(world.db.clone(), &world.log(), key(), options).round_with_retention().await.unwrap();
    world.load().await;
    let report = world.check();
    assert!(report.whole && report.size == 61, "{report:?}");
}

#[tokio::test]
async fn a_log_that_was_put_back_to_an_older_state_is_told_by_a_checkpoint_elsewhere() {
    let mut world = World::sealed(100, 4, 3000).await;
    let before = world.dir.path().join("before");
    copy(&world.log(), &before);
    let (rows, sealed, newest) = (world.rows.clone(), world.sealed.clone(), world.newest);
    write(&world.db, 100..130).await;
    Sealer::new(world.db.clone(), &world.log(), key(), options(3000)).round().await.unwrap();
    let elsewhere = notes(&world).concat().into_bytes();
    world.against = vec![("elsewhere".to_owned(), elsewhere.clone())];
    world.load().await;
    assert!(world.check().whole);

    fs::remove_dir_all(world.log()).unwrap();
    copy(&before, &world.log());
    (world.rows, world.sealed, world.newest) = (rows, sealed, newest);
    let report = world.check();
    for number in [101, 130] {
        let named = report.findings.iter().any(|finding| {
            finding.wrong == Wrong::CutOff
                && finding.place == Place::Log
                && finding.from.zip(finding.through).is_some_and(|(from, through)| from <= number && number <= through)
        });
        assert!(named, "{number}: {report:?}");
    }
    world.against.clear();
    assert!(world.check().whole, "nothing here can tell");
    world.against = vec![("elsewhere".to_owned(), elsewhere[1..].to_vec())];
    assert!(world.check().findings.iter().any(|finding| finding.place == Place::Against));
    world.against = vec![("elsewhere".to_owned(), Vec::new())];
    assert!(world.check().findings.iter().any(|finding| finding.place == Place::Against));
}

#[tokio::test]
async fn a_log_that_was_computed_anew_around_a_changed_entry_does_not_have_the_signed_root() {
    let mut world = World::sealed(300, 9, 6000).await;
    let (sealed, checkpoints) = (world.sealed.clone(), fs::read(world.log().join(CHECKPOINTS)).unwrap());
    // The same log with one entry that says something else, by someone who has all but the key.
    let mut rows = world.rows.clone();
    rows[149].texts[4] = Some(b"thing/forged".to_vec());
    let forged = tempfile::tempdir().unwrap();
    let mut other = World::open(forged).await;
    let mut tx = other.db.begin().await.unwrap();
    for raw in &rows {
        db::audit::append(&mut tx, &crate::row_of(raw).unwrap()).await.unwrap();
    }
    tx.commit().await.unwrap();
    Sealer::new(other.db.clone(), &other.log(), key(), options(6000)).round().await.unwrap();
    other.load().await;
    assert!(other.check().whole);
    other.sealed = sealed;
    fs::write(other.log().join(CHECKPOINTS), checkpoints).unwrap();
    let report = other.check();
    let [finding] = report.findings.as_slice() else { panic!("{report:?}") };
    // Between the last checkpoint that is right and the first that is not.
    assert_eq!((finding.place, finding.wrong), (Place::Checkpoints, Wrong::Forged));
    assert_eq!((finding.from, finding.through), (Some(134), Some(166)));
    world.load().await;
    assert!(world.check().whole);
}

#[tokio::test]
async fn a_check_reads_the_database_itself_and_sees_what_is_not_sealed_yet() {
    let mut world = World::sealed(100, 4, 3000).await;
    let verifier = VerifierKey::of(&key());
    write(&world.db, 100..107).await;
    let report = verify::run(&world.db, &world.log(), &verifier, &[]).await.unwrap();
    assert!(report.whole, "{report:?}");
    assert_eq!((report.size, report.through, report.unsigned), (100, Some(100), 7));

    // Rows that went before they were sealed: in between, and at the end.
    world.load().await;
    world.rows.remove(102);
    let report = world.check();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert_eq!((report.findings[0].from, report.findings[0].wrong), (Some(103), Wrong::Missing));
    world.load().await;
    world.rows.truncate(105);
    world.newest.0 = 105;
    let report = world.check();
    assert_eq!((report.findings[0].from, report.findings[0].through), (Some(106), Some(107)));
    assert_eq!(report.findings[0].wrong, Wrong::CutOff);

    // Another key's log is none of ours.
    let other = crypto::Key::from_bytes(&[6; 32]).unwrap();
    let other = VerifierKey::of(&crypto::SigningKey::from_seed(&other).unwrap());
    let report = verify::run(&world.db, &world.log(), &other, &[]).await.unwrap();
    assert!(!report.whole && report.size == 0, "{report:?}");
}

#[tokio::test]
async fn entries_that_were_gone_before_the_first_sealing_are_told() {
    let mut world = World::open(tempfile::tempdir().unwrap()).await;
    write(&world.db, 0..20).await;
    let mut tx = world.db.begin().await.unwrap();
    db::audit::set_cut(&mut tx, db::audit::Cut { through: 3, entry: 20 }).await.unwrap();
    db::audit::remove(&mut tx, 3, 10).await.unwrap();
    tx.commit().await.unwrap();
    Sealer::new(world.db.clone(), &world.log(), key(), options(3000)).seal_now().await.unwrap();
    world.load().await;
    let report = world.check();
    let [finding] = report.findings.as_slice() else { panic!("{report:?}") };
    assert_eq!((finding.wrong, finding.from, finding.through), (Wrong::Missing, Some(1), Some(3)));
}
