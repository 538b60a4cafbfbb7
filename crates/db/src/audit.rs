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
