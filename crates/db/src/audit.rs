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
    Ok(done.last_insert_rowid())
}

/// Reads entries, newest first.
pub async fn list(db: &Db, query: &Query) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(
        "SELECT id, at, account, identity, source_ip, action, resource, decision, result, request_id, detail
         FROM audit
         WHERE (?1 IS NULL OR account = ?1) AND (?2 IS NULL OR request_id = ?2) AND (?3 IS NULL OR id < ?3)
         ORDER BY id DESC LIMIT ?4",
    )
    .bind(&query.account)
    .bind(&query.request_id)
    .bind(query.before)
    .bind(query.limit)
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
