//! Puts the database's copy of the log back as it was sealed: after a backup of the database that is older than that of
//! the files, or after somebody changed rows. Only what is signed is put back, and only if the files are whole.

use std::{fs, io, path::Path};

use db::{
    Db, Tx,
    audit::{Cut, Raw},
};

use crate::{
    Actor, Entry,
    files::{self, Files, SEGMENTS, unsigned},
    note::VerifierKey,
    record::{self, Frame},
    segments::{self, HEADER},
    verify::{self, Finding, Place},
};

/// What was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Entries that the database did not have.
    pub inserted: u64,
    /// Entries that it had otherwise. What stood there is kept in entries `audit.displaced`.
    pub replaced: u64,
}

/// Why nothing was put back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files are not as they were sealed, so that they vouch for nothing.
    #[error("the files of the audit log are not whole: {}", .0.what)]
    NotWhole(Box<Finding>),
    /// The files could not be used; the service runs, it may be.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The log could not be checked.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// The database failed.
    #[error("the audit log's database failed")]
    Db(#[from] db::Error),
    /// A file could not be read.
    #[error("the files of the audit log cannot be read")]
    Io(#[from] io::Error),
}

/// Puts back all that is signed, in one transaction with the entry that says so. The service must not run.
pub async fn run(db: &Db, directory: &Path, key: &VerifierKey) -> Result<Restored, Error> {
    let _lock = Files::lock(directory)?;
    let report = verify::run(db, directory, key, &[]).await?;
    // A database that is older than the files does not know their newest checkpoint: that is no fault of the files.
    let of_files = |finding: &&Finding| match finding.place {
        Place::Table | Place::Indexes => false,
        Place::Checkpoints => finding.file.is_some(),
        Place::Log | Place::Tree | Place::Against => true,
    };
    if let Some(finding) = report.findings.iter().find(of_files) {
        return Err(Error::NotWhole(Box::new(finding.clone())));
    }
    let (Some(first), Some(through)) = (report.first, report.through) else { return Ok(Restored::default()) };
    let cut = db::audit::cut(db).await?.map_or(0, |cut| unsigned(cut.through));
    let wanted = first.max(cut + 1)..=through;

    let mut tx = db.begin().await?;
    let mut restored = Restored::default();
    let mut displaced = Vec::new();
    let mut let_go: Option<Cut> = None;
    let directory = directory.join(SEGMENTS);
    for number in segments::list(&directory)? {
        let bytes = fs::read(segments::path(&directory, number))?;
        let mut at = HEADER;
        while at < bytes.len() {
            let Frame::Whole(bytes_of) = record::frame(&bytes, at) else { break };
            at += record::FRAME + bytes_of.len();
            if let Some(sealed) = record::raw(bytes_of).filter(|raw| wanted.contains(&unsigned(raw.number))) {
                put_back(&mut tx, &sealed, &mut restored, &mut displaced).await?;
                let said = verify::cut_of(bytes_of).and_then(|said| i64::try_from(said.through).ok());
                let_go = said.map(|through| Cut { through, entry: sealed.number }).or(let_go);
            }
        }
    }
    // What retention removed from the files since the database was copied goes from the table too: nothing vouches for it.
    let mut removed = 0;
    if let Some(let_go) = let_go.filter(|let_go| unsigned(let_go.through) >= cut) {
        db::audit::set_cut(&mut tx, let_go).await?;
        removed = db::audit::remove(&mut tx, let_go.through, u32::MAX).await?;
    }
    if restored == Restored::default() && removed == 0 {
        return Ok(restored);
    }
    for row in &displaced {
        let mut entry = Entry::new(Actor::operator(), "audit.displaced", format!("audit/{}", row.number));
        let texts = row.texts.iter().map(|text| text.as_ref().map(|text| String::from_utf8_lossy(text)));
        entry.detail = serde_json::json!({ "at": row.at, "texts": texts.collect::<Vec<_>>() });
        db::audit::append(&mut tx, &entry.row()).await?;
    }
    let mut entry = Entry::new(Actor::operator(), "audit.restored", "audit");
    entry.detail = serde_json::json!({
        "from": wanted.start(), "through": through, "inserted": restored.inserted, "replaced": restored.replaced,
        "removed": removed,
    });
    db::audit::append(&mut tx, &entry.row()).await?;
    tx.commit().await?;
    Ok(restored)
}

async fn put_back(
    tx: &mut Tx,
    sealed: &Raw,
    restored: &mut Restored,
    displaced: &mut Vec<Raw>,
) -> Result<(), db::Error> {
    match db::audit::raw_of(tx, sealed.number).await? {
        Some(there) if there == *sealed => {}
        Some(there) => {
            db::audit::replace(tx, sealed).await?;
            restored.replaced += 1;
            displaced.push(there);
        }
        None => {
            db::audit::put_back(tx, sealed).await?;
            restored.inserted += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use db::audit::Sealed;
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::{
        Options, Sealer,
        tamper::{World, key, options, write},
        verify::Wrong,
    };

    /// A database that has these rows, and says that the log is sealed up to there.
    async fn database(world: &World, name: &str, rows: &[Raw], sealed: &Sealed) -> Db {
        let db = Db::open(&world.dir.path().join(name)).await.expect("a database");
        let mut tx = db.begin().await.expect("a transaction");
        for row in rows {
            db::audit::put_back(&mut tx, row).await.expect("put");
        }
        db::audit::set_sealed(&mut tx, sealed).await.expect("kept");
        tx.commit().await.expect("committed");
        db
    }

    async fn rows(db: &Db) -> Vec<Raw> {
        db::audit::raw(db, None, 1000).await.expect("rows")
    }

    async fn seal(db: &Db, world: &World) {
        Sealer::new(db.clone(), &world.log(), key(), options(4000)).round().await.expect("sealed");
    }

    #[tokio::test]
    async fn rows_that_are_gone_or_changed_come_back_and_nothing_is_lost() {
        let mut world = World::sealed(90, 4, 4000).await;
        write(&world.db, 90..95).await;
        world.load().await;
        let (verifier, sealed) = (VerifierKey::of(&key()), world.sealed.clone().expect("sealed"));
        assert_eq!(run(&world.db, &world.log(), &verifier).await.expect("whole"), Restored::default());
        let mut left: Vec<Raw> = world.rows.clone();
        left[6].texts[6] = Some(b"forged".to_vec());
        left.retain(|row| ![1, 40, 41, 90].contains(&row.number));
        let tampered = database(&world, "tampered.sqlite", &left, &sealed).await;
        assert!(!verify::run(&tampered, &world.log(), &verifier, &[]).await.expect("checked").whole);

        let restored = run(&tampered, &world.log(), &verifier).await.expect("put back");
        assert_eq!(restored, Restored { inserted: 4, replaced: 1 });
        let found = rows(&tampered).await;
        assert_eq!(found[..95], world.rows[..], "those that are not signed yet too");
        let action = |row: &Raw| String::from_utf8(row.texts[3].clone().expect("an action")).expect("text");
        assert_eq!(found[95..].iter().map(action).collect::<Vec<_>>(), ["audit.displaced", "audit.restored"]);
        let kept = String::from_utf8(found[95].texts[8].clone().expect("a detail")).expect("text");
        assert!(kept.contains("forged"), "{kept}");
        seal(&tampered, &world).await;
        let report = verify::run(&tampered, &world.log(), &verifier, &[]).await.expect("checked");
        assert!(report.whole && report.size == 97, "{report:?}");
    }

    #[tokio::test]
    async fn a_database_that_is_older_than_the_files_goes_on_with_them() {
        let mut world = World::sealed(40, 2, 4000).await;
        let old = database(&world, "old.sqlite", &world.rows, world.sealed.as_ref().expect("sealed")).await;
        write(&world.db, 40..80).await;
        seal(&world.db, &world).await;
        world.load().await;
        let against = vec![("elsewhere".to_owned(), fs::read(world.log().join(files::CHECKPOINTS)).expect("notes"))];

        let verifier = VerifierKey::of(&key());
        let restored = run(&old, &world.log(), &verifier).await.expect("put back");
        assert_eq!(restored, Restored { inserted: 40, replaced: 0 });
        assert_eq!(rows(&old).await[..80], world.rows[..]);
        let mut sealer = Sealer::new(old.clone(), &world.log(), key(), options(4000));
        sealer.round().await.expect("sealed on");
        let again = run(&old, &world.log(), &verifier).await;
        assert!(matches!(again, Err(Error::Files(files::Error::InUse))), "{again:?}");
        drop(sealer);
        let report = verify::run(&old, &world.log(), &verifier, &against).await.expect("checked");
        assert!(report.whole && report.size == 81, "{report:?}");
    }

    #[tokio::test]
    async fn a_database_that_is_older_than_what_retention_removed_does_not_keep_it() {
        let mut world = World::open(tempfile::tempdir().expect("a directory")).await;
        let begin = Timestamp::now() - SignedDuration::from_hours(10 * 24);
        let options = Options { retention: Some(Duration::from_secs(5 * 24 * 3600)), ..Options::default() };
        let mut sealer = Sealer::new(world.db.clone(), &world.log(), key(), options);
        // A day is a file.
        for day in 0..10 {
            let mut tx = world.db.begin().await.expect("a transaction");
            for number in 0..4 {
                let mut entry = Entry::new(Actor::operator(), "test.done", format!("thing/{day}/{number}"));
                entry.at = begin + SignedDuration::from_hours(day * 24 + number);
                db::audit::append(&mut tx, &entry.row()).await.expect("appended");
            }
            tx.commit().await.expect("committed");
            sealer.seal_now().await.expect("sealed");
        }
        world.load().await;
        let old = database(&world, "old.sqlite", &world.rows, world.sealed.as_ref().expect("sealed")).await;
        sealer.round_with_retention().await.expect("sealed");
        drop(sealer);
        world.load().await;
        let report = world.check();
        assert!(report.whole && report.removed > 0, "{report:?}");

        let verifier = VerifierKey::of(&key());
        let restored = run(&old, &world.log(), &verifier).await.expect("put back");
        assert_eq!(restored, Restored { inserted: 1, replaced: 0 });
        assert_eq!(rows(&old).await[..world.rows.len()], world.rows[..]);
        Sealer::new(old.clone(), &world.log(), key(), options).round().await.expect("sealed on");
        let report = verify::run(&old, &world.log(), &verifier, &[]).await.expect("checked");
        assert!(report.whole && report.size == 42, "{report:?}");
    }

    #[tokio::test]
    async fn files_that_are_not_whole_vouch_for_nothing() {
        let world = World::sealed(90, 4, 4000).await;
        let left: Vec<Raw> = world.rows.iter().filter(|row| row.number != 3).cloned().collect();
        let tampered = database(&world, "tampered.sqlite", &left, world.sealed.as_ref().expect("sealed")).await;
        let segments_of = world.log().join(SEGMENTS);
        let first = segments::path(&segments_of, segments::list(&segments_of).expect("segments")[0]);
        let mut bytes = fs::read(&first).expect("a segment");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&first, bytes).expect("written");
        let refused = run(&tampered, &world.log(), &VerifierKey::of(&key())).await;
        assert!(matches!(&refused, Err(Error::NotWhole(finding)) if finding.wrong == Wrong::Changed), "{refused:?}");
        assert_eq!(rows(&tampered).await, left);
    }
}
