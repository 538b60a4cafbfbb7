//! Rows of the audit log. Only the crate `audit` writes them.

use jiff::Timestamp;
use sqlx::Row as _;

use crate::{Db, Error, Tx};

/// One entry, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its number, rising.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// The account that acted, where known.
    pub account: Option<String>,
    /// Which identity of it.
    pub identity: String,
    /// From where.
    pub source_ip: Option<String>,
    /// What was asked.
    pub action: String,
    /// On what.
    pub resource: String,
    /// `allowed`, `refused` or `none`.
    pub decision: String,
    /// What came of it.
    pub result: String,
    /// The request that it belongs to.
    pub request_id: Option<String>,
    /// More, as a JSON object.
    pub detail: String,
}

/// Which entries to read; newest first.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Of this account only.
    pub account: Option<String>,
    /// Of this request only.
    pub request_id: Option<String>,
    /// Of this action only.
    pub action: Option<String>,
    /// Not before this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// With a number below this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Appends an entry; its `id` is ignored, the new one is the answer.
pub async fn append(tx: &mut Tx, row: &Row) -> Result<i64, Error> {
    let at = i64::try_from(row.at.as_nanosecond()).map_err(|_| Error::Damaged { column: "audit.at" })?;
    let done = sqlx::query(
        "INSERT INTO audit (at, account, identity, source_ip, action, resource, decision, result, request_id, detail)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(at)
    .bind(&row.account)
    .bind(&row.identity)
    .bind(&row.source_ip)
    .bind(&row.action)
    .bind(&row.resource)
    .bind(&row.decision)
    .bind(&row.result)
    .bind(&row.request_id)
    .bind(&row.detail)
    .execute(tx.connection())
    .await?;
    tx.holds_entries();
    Ok(done.last_insert_rowid())
}

/// Appends entries in their order, in one statement however many they are; their `id`s are ignored.
pub async fn append_all(tx: &mut Tx, rows: &[&Row]) -> Result<(), Error> {
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        let at = i64::try_from(row.at.as_nanosecond()).map_err(|_| Error::Damaged { column: "audit.at" })?;
        values.push((
            at,
            &row.account,
            &row.identity,
            &row.source_ip,
            &row.action,
            &row.resource,
            &row.decision,
            &row.result,
            &row.request_id,
            &row.detail,
        ));
    }
    // Tuples of texts and numbers have no way to fail here.
    let values = serde_json::to_string(&values).unwrap_or_default();
    sqlx::query(
        "INSERT INTO audit (at, account, identity, source_ip, action, resource, decision, result, request_id, detail)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
                value ->> 8, value ->> 9
         FROM json_each(?1) ORDER BY key",
    )
    .bind(values)
    .execute(tx.connection())
    .await?;
    tx.holds_entries();
    Ok(())
}

/// Up to which number the entries of a source are in the log; 0 if none is.
pub async fn through(tx: &mut Tx, source: &str) -> Result<i64, Error> {
    let found: Option<i64> = sqlx::query_scalar("SELECT through FROM audit_sources WHERE source = ?1")
        .bind(source)
        .fetch_optional(tx.connection())
        .await?;
    Ok(found.unwrap_or(0))
}

/// Keeps up to which number the entries of a source are in the log.
pub async fn set_through(tx: &mut Tx, source: &str, through: i64) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO audit_sources (source, through) VALUES (?1, ?2)
         ON CONFLICT (source) DO UPDATE SET through = excluded.through",
    )
    .bind(source)
    .bind(through)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Reads entries, newest first.
pub async fn list(db: &Db, query: &Query) -> Result<Vec<Row>, Error> {
    let nanos = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
    let rows = sqlx::query(
        "SELECT id, at, account, identity, source_ip, action, resource, decision, result, request_id, detail
         FROM audit
         WHERE (?1 IS NULL OR account = ?1) AND (?2 IS NULL OR request_id = ?2) AND (?3 IS NULL OR id < ?3)
           AND (?5 IS NULL OR action = ?5) AND (?6 IS NULL OR at >= ?6) AND (?7 IS NULL OR at < ?7)
         ORDER BY id DESC LIMIT ?4",
    )
    .bind(&query.account)
    .bind(&query.request_id)
    .bind(query.before)
    .bind(query.limit)
    .bind(&query.action)
    .bind(query.from.map(nanos))
    .bind(query.to.map(nanos))
    .fetch_all(db.readers())
    .await?;
    rows.iter()
        .map(|row| {
            let at: i64 = row.try_get("at")?;
            Ok(Row {
                id: row.try_get("id")?,
                at: Timestamp::from_nanosecond(i128::from(at)).map_err(|_| Error::Damaged { column: "audit.at" })?,
                account: row.try_get("account")?,
                identity: row.try_get("identity")?,
                source_ip: row.try_get("source_ip")?,
                action: row.try_get("action")?,
                resource: row.try_get("resource")?,
                decision: row.try_get("decision")?,
                result: row.try_get("result")?,
                request_id: row.try_get("request_id")?,
                detail: row.try_get("detail")?,
            })
        })
        .collect()
}

/// An entry as its bytes are stored, whatever they are: what is sealed, and what a check compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Its number.
    pub number: i64,
    /// When: Unix nanoseconds.
    pub at: i64,
    /// account, identity, source_ip, action, resource, decision, result, request_id, detail.
    pub texts: [Option<Vec<u8>>; TEXTS],
}

/// How many texts an entry has.
pub const TEXTS: usize = 9;

/// Reads entries with numbers above `after`, rising, at most `limit`.
pub async fn raw(db: &Db, after: i64, limit: u32) -> Result<Vec<Raw>, Error> {
    // As blobs, so that neither a zero byte nor one that is no UTF-8 hides what is there.
    let rows = sqlx::query(
        "SELECT id, at, CAST(account AS BLOB), CAST(identity AS BLOB), CAST(source_ip AS BLOB), CAST(action AS BLOB),
                CAST(resource AS BLOB), CAST(decision AS BLOB), CAST(result AS BLOB), CAST(request_id AS BLOB),
                CAST(detail AS BLOB)
         FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db.readers())
    .await?;
    rows.iter()
        .map(|row| {
            let mut texts = [const { None }; TEXTS];
            for (at, text) in texts.iter_mut().enumerate() {
                *text = row.try_get(at + 2)?;
            }
            Ok(Raw { number: row.try_get(0)?, at: row.try_get(1)?, texts })
        })
        .collect()
}

/// The number of the newest entry that there is, and the highest that was ever given; 0 for none.
pub async fn newest(db: &Db) -> Result<(i64, i64), Error> {
    let row = sqlx::query(
        "SELECT (SELECT COALESCE(MAX(id), 0) FROM audit),
                COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'audit'), 0)",
    )
    .fetch_one(db.readers())
    .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Up to where the log is sealed into files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Entries that are sealed.
    pub size: i64,
    /// The number of the last of them; 0 for none.
    pub through: i64,
    /// Its hash; empty for none.
    pub leaf: Vec<u8>,
    /// The number of the first entry in the segment file that is appended to; 0 for none.
    pub segment: i64,
    /// Bytes of that file.
    pub length: i64,
    /// Bytes of the file of checkpoints.
    pub checkpoints: i64,
    /// The newest checkpoint; empty for none.
    pub checkpoint: String,
}

/// Up to where the log is sealed; `None` if nothing of it ever was.
pub async fn sealed(db: &Db) -> Result<Option<Sealed>, Error> {
    let row = sqlx::query("SELECT size, through, leaf, segment, length, checkpoints, checkpoint FROM audit_sealed")
        .fetch_optional(db.readers())
        .await?;
    row.map(|row| {
        Ok(Sealed {
            size: row.try_get(0)?,
            through: row.try_get(1)?,
            leaf: row.try_get(2)?,
            segment: row.try_get(3)?,
            length: row.try_get(4)?,
            checkpoints: row.try_get(5)?,
            checkpoint: row.try_get(6)?,
        })
    })
    .transpose()
}

/// Keeps up to where the log is sealed.
pub async fn set_sealed(tx: &mut Tx, sealed: &Sealed) -> Result<(), Error> {
    sqlx::query(
        "INSERT OR REPLACE INTO audit_sealed (only, size, through, leaf, segment, length, checkpoints, checkpoint)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(sealed.size)
    .bind(sealed.through)
    .bind(&sealed.leaf)
    .bind(sealed.segment)
    .bind(sealed.length)
    .bind(sealed.checkpoints)
    .bind(&sealed.checkpoint)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Which entries retention lets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Those up to this number.
    pub through: i64,
    /// The number of the entry that says so.
    pub entry: i64,
}

/// Which entries retention lets go; `None` if none.
pub async fn cut(db: &Db) -> Result<Option<Cut>, Error> {
    let row = sqlx::query("SELECT through, entry FROM audit_cut").fetch_optional(db.readers()).await?;
    row.map(|row| Ok(Cut { through: row.try_get(0)?, entry: row.try_get(1)? })).transpose()
}

/// Lets entries go. The entry that says so is to be in the same transaction.
pub async fn set_cut(tx: &mut Tx, cut: Cut) -> Result<(), Error> {
    sqlx::query("INSERT OR REPLACE INTO audit_cut (only, through, entry) VALUES (1, ?1, ?2)")
        .bind(cut.through)
        .bind(cut.entry)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Removes entries that may go, at most `limit`, and says how many. An entry that may not go makes it fail.
pub async fn remove(tx: &mut Tx, through: i64, limit: u32) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id <= ?1 ORDER BY id LIMIT ?2)")
        .bind(through)
        .bind(limit)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(resource: &str) -> Row {
        Row {
            id: 0,
            at: Timestamp::UNIX_EPOCH,
            account: None,
            identity: "operator".to_owned(),
            source_ip: None,
            action: "test.done".to_owned(),
            resource: resource.to_owned(),
            decision: "none".to_owned(),
            result: "done".to_owned(),
            request_id: None,
            detail: "{}".to_owned(),
        }
    }

    async fn log(rows: usize) -> (tempfile::TempDir, Db) {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let mut tx = db.begin().await.expect("a transaction");
        for number in 0..rows {
            append(&mut tx, &row(&format!("thing/{number}"))).await.expect("appended");
        }
        tx.commit().await.expect("committed");
        (dir, db)
    }

    #[tokio::test]
    async fn entries_go_by_retention_alone_and_no_number_is_given_twice() {
        let (_dir, db) = log(5).await;
        let mut tx = db.begin().await.expect("a transaction");
        assert!(remove(&mut tx, 1, 9).await.is_err());
        set_cut(&mut tx, Cut { through: 3, entry: 5 }).await.expect("cut");
        assert!(remove(&mut tx, 4, 9).await.is_err());
        assert_eq!(remove(&mut tx, 3, 2).await.expect("removed"), 2);
        assert_eq!(remove(&mut tx, 3, 2).await.expect("removed"), 1);
        assert!(set_cut(&mut tx, Cut { through: 5, entry: 5 }).await.is_err());
        tx.commit().await.expect("committed");
        let left: Vec<i64> = raw(&db, 0, 9).await.expect("rows").iter().map(|row| row.number).collect();
        assert_eq!((left, newest(&db).await.expect("numbers")), (vec![4, 5], (5, 5)));
        assert_eq!(cut(&db).await.expect("a row"), Some(Cut { through: 3, entry: 5 }));
    }

    #[tokio::test]
    async fn whoever_waits_for_entries_is_told_of_those_that_were_committed_alone() {
        let (_dir, db) = log(1).await;
        let told = || async { tokio::time::timeout(std::time::Duration::from_millis(50), db.audit_written()).await };
        assert!(told().await.is_ok());
        let mut tx = db.begin().await.expect("a transaction");
        append(&mut tx, &row("never")).await.expect("appended");
        drop(tx);
        let mut tx = db.begin().await.expect("a transaction");
        set_sealed(&mut tx, &Sealed::default()).await.expect("kept");
        tx.commit().await.expect("committed");
        assert!(told().await.is_err());
        assert_eq!(sealed(&db).await.expect("a row"), Some(Sealed::default()));
    }
}
