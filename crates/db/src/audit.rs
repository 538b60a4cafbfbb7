//! Rows of the audit log. Only the crate `audit` writes them.

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

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
    sqlx::query(APPEND_ALL).bind(values(rows)?).execute(tx.connection()).await?;
    tx.holds_entries();
    Ok(())
}

/// The same, in a transaction that is this one statement: they are durable then.
pub async fn append_now(db: &Db, rows: &[&Row]) -> Result<(), Error> {
    sqlx::query(APPEND_ALL).bind(values(rows)?).execute(db.writer()).await?;
    db.has_entries();
    Ok(())
}

/// Entries as one value.
fn values(rows: &[&Row]) -> Result<String, Error> {
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
    Ok(serde_json::to_string(&values).unwrap_or_default())
}

const APPEND_ALL: &str =
    "INSERT INTO audit (at, account, identity, source_ip, action, resource, decision, result, request_id, detail)
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
            value ->> 8, value ->> 9
     FROM json_each(?1) ORDER BY key";

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

/// Reads entries, newest first: by number, and those of one account by time.
pub async fn list(db: &Db, query: &Query) -> Result<Vec<Row>, Error> {
    let nanos = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
    if let (Some(account), None) = (&query.account, &query.request_id) {
        let calls = list_of_account(db, CALLS_OF_ACCOUNT, account, query).await?;
        let mut rows = list_of_account(db, REST_OF_ACCOUNT, account, query).await?;
        rows.extend(calls);
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.at, row.id)));
        rows.truncate(query.limit as usize);
        return Ok(rows);
    }
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
    rows.iter().map(row_of).collect()
}

/// The entries of one account that a statement has. A page goes on before the entry of the number `before`; where there
/// is none, with numbers below it.
async fn list_of_account(db: &Db, statement: &'static str, account: &str, query: &Query) -> Result<Vec<Row>, Error> {
    let nanos = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
    let before: Option<(i64, i64)> = sqlx::query_as("SELECT at, id FROM audit WHERE id = ?1")
        .bind(query.before)
        .fetch_optional(db.readers())
        .await?;
    let rows = sqlx::query(statement)
        .bind(account)
        .bind(query.from.map_or(i64::MIN, nanos))
        .bind(query.to.map_or(i64::MAX, |to| nanos(to).saturating_sub(1)))
        .bind(before.map_or(i64::MAX, |(at, _)| at))
        .bind(before.map_or(i64::MAX, |(_, id)| id))
        .bind(query.before.filter(|_| before.is_none()).unwrap_or(i64::MAX))
        .bind(&query.action)
        .bind(query.limit)
        .fetch_all(db.readers())
        .await?;
    rows.iter().map(row_of).collect()
}

const CALLS_OF_ACCOUNT: &str =
    "SELECT id, at, account, identity, source_ip, action, resource, decision, result, request_id, detail
     FROM audit
     WHERE account = ?1 AND instr(action, ':apiovh:') > 0 AND at >= ?2 AND at <= min(?3, ?4)
       AND NOT (at = ?4 AND id >= ?5) AND id < ?6 AND (?7 IS NULL OR action = ?7)
     ORDER BY at DESC, id DESC LIMIT ?8";
const REST_OF_ACCOUNT: &str =
    "SELECT id, at, account, identity, source_ip, action, resource, decision, result, request_id, detail
     FROM audit
     WHERE account = ?1 AND instr(action, ':apiovh:') = 0 AND at >= ?2 AND at <= min(?3, ?4)
       AND NOT (at = ?4 AND id >= ?5) AND id < ?6 AND (?7 IS NULL OR action = ?7)
     ORDER BY at DESC, id DESC LIMIT ?8";

fn row_of(row: &SqliteRow) -> Result<Row, Error> {
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
}

/// Entries that are seen together; each kind has an index of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Calls of the API that an account made.
    CallsOf(String),
    /// Calls of the API on a resource.
    CallsOn {
        /// Its URN.
        resource: String,
        /// The account that called.
        by: String,
    },
    /// What policies were asked about a resource.
    AskedOf {
        /// Its URN.
        resource: String,
        /// The account that asked.
        by: String,
    },
    /// What became of a project beside calls: changes and transitions.
    OfProject(String),
    /// Log-ins and new passwords of an account.
    SecurityOf(String),
}

impl View {
    /// Times and numbers, newest first. The condition has that of the index in it, word for word.
    fn statement(&self) -> &'static str {
        match self {
            View::CallsOf(_) => {
                "SELECT at, id FROM audit
                 WHERE account = ?1 AND instr(action, ':apiovh:') > 0
                   AND at >= ?2 AND at <= ?3 AND NOT (at = ?3 AND id >= ?4) ORDER BY at DESC, id DESC LIMIT ?5"
            }
            View::CallsOn { .. } => {
                "SELECT at, id FROM audit
                 WHERE substr(resource, -32) = substr(?1, -32) AND resource = ?1 AND account = ?6
                   AND (instr(action, ':apiovh:') > 0 OR action = 'iam.authorization.checked')
                   AND action <> 'iam.authorization.checked'
                   AND at >= ?2 AND at <= ?3 AND NOT (at = ?3 AND id >= ?4) ORDER BY at DESC, id DESC LIMIT ?5"
            }
            View::AskedOf { .. } => {
                "SELECT at, id FROM audit
                 WHERE substr(resource, -32) = substr(?1, -32) AND resource = ?1 AND account = ?6
                   AND (instr(action, ':apiovh:') > 0 OR action = 'iam.authorization.checked')
                   AND at >= ?2 AND at <= ?3 AND NOT (at = ?3 AND id >= ?4) ORDER BY at DESC, id DESC LIMIT ?5"
            }
            View::OfProject(_) => {
                "SELECT at, id FROM audit
                 WHERE substr(resource, 9, 32) = ?1 AND substr(resource, 1, 8) = 'project/' AND instr(action, ':') = 0
                   AND at >= ?2 AND at <= ?3 AND NOT (at = ?3 AND id >= ?4) ORDER BY at DESC, id DESC LIMIT ?5"
            }
            View::SecurityOf(_) => {
                "SELECT at, id FROM audit
                 WHERE account = ?1 AND action IN ('account.user.loggedIn', 'account.user.password.changed')
                   AND at >= ?2 AND at <= ?3 AND NOT (at = ?3 AND id >= ?4) ORDER BY at DESC, id DESC LIMIT ?5"
            }
        }
    }

    /// What it is about, and whose entries they are where that is asked too.
    fn subject(&self) -> (&str, Option<&str>) {
        match self {
            View::CallsOf(subject) | View::OfProject(subject) | View::SecurityOf(subject) => (subject, None),
            View::CallsOn { resource, by } | View::AskedOf { resource, by } => (resource, Some(by)),
        }
    }
}

/// Which part of a view to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Not before this time, in Unix nanoseconds.
    pub from: i64,
    /// Not after this time, in Unix nanoseconds.
    pub to: i64,
    /// Of those at the time `to`, only numbers below this one.
    pub before: i64,
}

impl Span {
    /// All of it.
    pub const WHOLE: Span = Span { from: i64::MIN, to: i64::MAX, before: i64::MAX };
}

/// Times, in Unix nanoseconds, and numbers of the entries of a view, newest first, at most `limit`.
pub async fn seen(db: &Db, view: &View, span: Span, limit: u32) -> Result<Vec<(i64, i64)>, Error> {
    let (subject, by) = view.subject();
    let query = sqlx::query_as(view.statement());
    let query = query.bind(subject).bind(span.from).bind(span.to).bind(span.before).bind(limit);
    let query = if let Some(by) = by { query.bind(by) } else { query };
    Ok(query.fetch_all(db.readers()).await?)
}

/// The accounts that called on a resource, or asked what they may do on it; by their ids.
pub async fn askers(db: &Db, resource: &str) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(ASKERS).bind(resource).fetch_all(db.readers()).await?)
}

/// From one account to the next in the index, however many entries each has.
const ASKERS: &str = "WITH RECURSIVE asker (account) AS (
         SELECT min(account) FROM audit
         WHERE substr(resource, -32) = substr(?1, -32) AND resource = ?1 AND account IS NOT NULL
           AND (instr(action, ':apiovh:') > 0 OR action = 'iam.authorization.checked')
         UNION ALL
         SELECT (SELECT min(account) FROM audit
                 WHERE substr(resource, -32) = substr(?1, -32) AND resource = ?1 AND account > asker.account
                   AND (instr(action, ':apiovh:') > 0 OR action = 'iam.authorization.checked'))
         FROM asker WHERE account IS NOT NULL
     )
     SELECT account FROM asker WHERE account IS NOT NULL";

/// The entries with these numbers, in no order; those that are not there are left out.
pub async fn rows(db: &Db, numbers: &[i64]) -> Result<Vec<Row>, Error> {
    let numbers = serde_json::to_string(numbers).unwrap_or_default();
    let rows = sqlx::query(
        "SELECT id, at, account, identity, source_ip, action, resource, decision, result, request_id, detail
         FROM audit WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(numbers)
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(row_of).collect()
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

/// Reads entries with numbers above `after`, or from the lowest that the table can hold, rising, at most `limit`.
pub async fn raw(db: &Db, after: Option<i64>, limit: u32) -> Result<Vec<Raw>, Error> {
    // As blobs, so that neither a zero byte nor one that is no UTF-8 hides what is there. No integer is below all numbers.
    let rows = sqlx::query(
        "SELECT id, at, CAST(account AS BLOB), CAST(identity AS BLOB), CAST(source_ip AS BLOB), CAST(action AS BLOB),
                CAST(resource AS BLOB), CAST(decision AS BLOB), CAST(result AS BLOB), CAST(request_id AS BLOB),
                CAST(detail AS BLOB)
         FROM audit WHERE id > ifnull(?1, -1e19) ORDER BY id LIMIT ?2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db.readers())
    .await?;
    rows.iter().map(raw_row).collect()
}

fn raw_row(row: &SqliteRow) -> Result<Raw, Error> {
    let mut texts = [const { None }; TEXTS];
    for (at, text) in texts.iter_mut().enumerate() {
        *text = row.try_get(at + 2)?;
    }
    Ok(Raw { number: row.try_get(0)?, at: row.try_get(1)?, texts })
}

/// The entry of this number, as it stands within a transaction.
pub async fn raw_of(tx: &mut Tx, number: i64) -> Result<Option<Raw>, Error> {
    let row = sqlx::query(
        "SELECT id, at, CAST(account AS BLOB), CAST(identity AS BLOB), CAST(source_ip AS BLOB), CAST(action AS BLOB),
                CAST(resource AS BLOB), CAST(decision AS BLOB), CAST(result AS BLOB), CAST(request_id AS BLOB),
                CAST(detail AS BLOB)
         FROM audit WHERE id = ?1",
    )
    .bind(number)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(raw_row).transpose()
}

/// Puts an entry back that is in the sealed log and not here any more, under its own number.
pub async fn put_back(tx: &mut Tx, raw: &Raw) -> Result<(), Error> {
    let mut query = sqlx::query(
        "INSERT INTO audit (id, at, account, identity, source_ip, action, resource, decision, result, request_id, detail)
         VALUES (?1, ?2, CAST(?3 AS TEXT), CAST(?4 AS TEXT), CAST(?5 AS TEXT), CAST(?6 AS TEXT), CAST(?7 AS TEXT),
                 CAST(?8 AS TEXT), CAST(?9 AS TEXT), CAST(?10 AS TEXT), CAST(?11 AS TEXT))",
    )
    .bind(raw.number)
    .bind(raw.at);
    for text in &raw.texts {
        query = query.bind(text.as_deref());
    }
    query.execute(tx.connection()).await?;
    tx.holds_entries();
    Ok(())
}

/// Makes an entry again what it was when it was sealed. The one statement that changes a row: the trigger against that
/// is away for it, within the transaction.
pub async fn replace(tx: &mut Tx, raw: &Raw) -> Result<(), Error> {
    let trigger: String =
        sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'audit_is_never_changed'")
            .fetch_one(tx.connection())
            .await?;
    sqlx::query("DROP TRIGGER audit_is_never_changed").execute(tx.connection()).await?;
    let mut query = sqlx::query(
        "UPDATE audit SET at = ?2, account = CAST(?3 AS TEXT), identity = CAST(?4 AS TEXT),
                source_ip = CAST(?5 AS TEXT), action = CAST(?6 AS TEXT), resource = CAST(?7 AS TEXT),
                decision = CAST(?8 AS TEXT), result = CAST(?9 AS TEXT), request_id = CAST(?10 AS TEXT),
                detail = CAST(?11 AS TEXT)
         WHERE id = ?1",
    )
    .bind(raw.number)
    .bind(raw.at);
    for text in &raw.texts {
        query = query.bind(text.as_deref());
    }
    query.execute(tx.connection()).await?;
    // It is the text of our own migration.
    sqlx::query(sqlx::AssertSqlSafe(trigger)).execute(tx.connection()).await?;
    Ok(())
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

/// Removes entries that may go, at most `limit`, and says how many. An entry that may not go makes it fail. What has a number
/// that no entry has stays, for a check to find.
pub async fn remove(tx: &mut Tx, through: i64, limit: u32) -> Result<u64, Error> {
    let done = sqlx::query(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id BETWEEN 1 AND ?1 ORDER BY id LIMIT ?2)",
    )
    .bind(through)
    .bind(limit)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// What is wrong with the pages of the table of entries, or with an index of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The number of the entry, where it is about one.
    pub entry: Option<i64>,
    /// What.
    pub what: String,
}

/// Has SQLite check the table and its indexes, which reads all of them: an entry that is in the table and not in an index is
/// in no view that is read by it. At most some hundred faults; no entry may be removed meanwhile.
pub async fn faults(db: &Db) -> Result<Vec<Fault>, Error> {
    let said: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check('audit')").fetch_all(db.readers()).await?;
    let lines = said.iter().flat_map(|text| text.lines());
    let lines: Vec<(Option<i64>, &str)> =
        lines.filter(|line| *line != "ok" && !line.starts_with("***")).map(placed).collect();
    let places: Vec<i64> = lines.iter().filter_map(|(place, _)| *place).collect();
    let numbers = if places.is_empty() { Vec::new() } else { at_places(db, &places).await? };
    let number = |place: i64| numbers.iter().find(|(at, _)| *at == place).map(|(_, number)| *number);
    let mut faults: Vec<Fault> =
        lines.into_iter().map(|(place, what)| Fault { entry: place.and_then(number), what: what.to_owned() }).collect();
    // Of an index with a condition SQLite does not look whether it has more than belongs there.
    let counted: Vec<(String, i64, Option<i64>)> = sqlx::query_as(INDEXED).fetch_all(db.readers()).await?;
    for (index, belong, there) in counted {
        let what = match there {
            Some(there) if there <= belong => continue,
            Some(there) => format!("index {index} has {there} places for {belong} entries"),
            None => format!("index {index} is not there"),
        };
        faults.push(Fault { entry: None, what });
    }
    Ok(faults)
}

/// SQLite names a row by its place in the table, from 1 on, not by its number: `row 7 missing from index NAME`.
fn placed(line: &str) -> (Option<i64>, &str) {
    let parts = line.strip_prefix("row ").and_then(|rest| rest.split_once(' '));
    match parts.and_then(|(place, what)| Some((place.parse::<i64>().ok()?, what))) {
        Some((place, what)) => (Some(place), what),
        None => (None, line),
    }
}

/// Which numbers the entries at these places of the table have.
async fn at_places(db: &Db, places: &[i64]) -> Result<Vec<(i64, i64)>, Error> {
    let places = serde_json::to_string(places).unwrap_or_default();
    let numbers = sqlx::query_as(
        "SELECT place, id FROM (SELECT row_number() OVER (ORDER BY id) AS place, id FROM audit NOT INDEXED)
         WHERE place IN (SELECT value FROM json_each(?1))",
    );
    Ok(numbers.bind(places).fetch_all(db.readers()).await?)
}

/// Each index, how many entries belong there by its condition, and how many it has.
const INDEXED: &str = "WITH counted AS MATERIALIZED (
         SELECT count(request_id) AS of_request,
                count(*) FILTER (WHERE account IS NOT NULL AND instr(action, ':apiovh:') > 0) AS calls,
                count(*) FILTER (WHERE account IS NOT NULL AND instr(action, ':apiovh:') = 0) AS rest,
                count(*) FILTER (WHERE account IS NOT NULL
                    AND (instr(action, ':apiovh:') > 0 OR action = 'iam.authorization.checked')) AS asked,
                count(*) FILTER (WHERE substr(resource, 1, 8) = 'project/' AND instr(action, ':') = 0) AS of_project,
                count(*) FILTER (WHERE action IN ('account.user.loggedIn', 'account.user.password.changed')) AS security
         FROM audit NOT INDEXED
     ),
     wanted (name, belong) AS (
         SELECT 'audit_of_request', of_request FROM counted
         UNION ALL SELECT 'audit_calls_of_account', calls FROM counted
         UNION ALL SELECT 'audit_rest_of_account', rest FROM counted
         UNION ALL SELECT 'audit_asked_of_resource', asked FROM counted
         UNION ALL SELECT 'audit_of_project', of_project FROM counted
         UNION ALL SELECT 'audit_security_of_account', security FROM counted
     )
     SELECT wanted.name, wanted.belong,
            (SELECT dbstat.ncell FROM dbstat WHERE dbstat.name = wanted.name AND dbstat.aggregate = TRUE)
     FROM wanted";

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
        let left: Vec<i64> = raw(&db, None, 9).await.expect("rows").iter().map(|row| row.number).collect();
        assert_eq!((left, newest(&db).await.expect("numbers")), (vec![4, 5], (5, 5)));
        assert_eq!(cut(&db).await.expect("a row"), Some(Cut { through: 3, entry: 5 }));
    }

    #[tokio::test]
    async fn a_row_is_put_back_under_its_number_and_can_be_changed_by_nothing_else() {
        let (_dir, db) = log(3).await;
        let before = raw(&db, None, 9).await.expect("rows");
        let mut other = before[1].clone();
        other.texts[6] = Some(b"\xff\x00".to_vec());
        let mut tx = db.begin().await.expect("a transaction");
        replace(&mut tx, &other).await.expect("replaced");
        put_back(&mut tx, &Raw { number: 9, ..before[0].clone() }).await.expect("put back");
        assert!(put_back(&mut tx, &before[0]).await.is_err(), "it is there");
        assert_eq!(raw_of(&mut tx, 2).await.expect("a row"), Some(other.clone()));
        assert_eq!(raw_of(&mut tx, 8).await.expect("no row"), None);
        assert!(sqlx::query("UPDATE audit SET result = 'x'").execute(tx.connection()).await.is_err());
        assert!(sqlx::query("DELETE FROM audit").execute(tx.connection()).await.is_err());
        tx.commit().await.expect("committed");
        let after = raw(&db, None, 99).await.expect("rows");
        assert_eq!(after[..3], [before[0].clone(), other, before[2].clone()]);
        assert_eq!((after[3].number, newest(&db).await.expect("numbers")), (9, (9, 9)));
    }

    #[tokio::test]
    async fn no_row_has_a_number_below_one_and_one_that_was_forced_in_is_read_and_stays() {
        let (_dir, db) = log(3).await;
        let before = raw(&db, None, 9).await.expect("rows");
        let mut tx = db.begin().await.expect("a transaction");
        let forged = |number| Raw { number, ..before[0].clone() };
        for number in [i64::MIN, -1, 0] {
            assert!(put_back(&mut tx, &forged(number)).await.is_err(), "{number}");
        }
        append(&mut tx, &row("thing/3")).await.expect("a number is given");
        sqlx::query("DROP TRIGGER audit_is_numbered_from_one").execute(tx.connection()).await.expect("dropped");
        for number in [i64::MIN, -1, 0] {
            put_back(&mut tx, &forged(number)).await.expect("forced in");
        }
        set_cut(&mut tx, Cut { through: 2, entry: 4 }).await.expect("cut");
        assert_eq!(remove(&mut tx, 2, 9).await.expect("removed"), 2);
        tx.commit().await.expect("committed");
        let numbers = async |after: Option<i64>| {
            let rows = raw(&db, after, 9).await.expect("rows");
            rows.iter().map(|row| row.number).collect::<Vec<i64>>()
        };
        assert_eq!(numbers(None).await, [i64::MIN, -1, 0, 3, 4]);
        assert_eq!(numbers(Some(i64::MIN)).await, [-1, 0, 3, 4]);
        assert_eq!(numbers(Some(0)).await, [3, 4]);
        assert!(numbers(Some(i64::MAX)).await.is_empty());
    }

    /// Makes an index with another condition, under the definition that it had.
    async fn index_otherwise(db: &Db, index: &str, condition: &str) {
        let mut tx = db.begin().await.expect("a transaction");
        let own: String = sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE name = ?1")
            .bind(index)
            .fetch_one(tx.connection())
            .await
            .expect("an index");
        let other = format!("{own} {condition}");
        for statement in [format!("DROP INDEX {index}"), other, "PRAGMA writable_schema = ON".to_owned()] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(tx.connection()).await.expect("done");
        }
        sqlx::query("UPDATE sqlite_master SET sql = ?1 WHERE name = ?2")
            .bind(own)
            .bind(index)
            .execute(tx.connection())
            .await
            .expect("written");
        tx.commit().await.expect("committed");
    }

    #[tokio::test]
    async fn an_entry_that_an_index_does_not_have_or_should_not_have_is_found() {
        let (dir, db) = many(3_000).await;
        let mut tx = db.begin().await.expect("a transaction");
        set_cut(&mut tx, Cut { through: 2, entry: 3_000 }).await.expect("cut");
        remove(&mut tx, 2, 9).await.expect("removed");
        tx.commit().await.expect("committed");
        let found = faults(&db).await.expect("checked");
        assert!(found.is_empty(), "{found:?}");

        // Entry 2004 is a log-in of `other2`: 2004 % 7 is 2, 2004 % 5 is 4.
        let view = View::SecurityOf("other2".to_owned());
        let shown = async |db: &Db| {
            let page = seen(db, &view, Span::WHOLE, 9_999).await.expect("a page");
            page.iter().any(|(_, number)| *number == 2_004)
        };
        assert!(shown(&db).await);
        index_otherwise(&db, "audit_security_of_account", "AND id <> 2004").await;
        db.close().await;
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        assert!(!shown(&db).await, "the test hides nothing");
        let what = "missing from index audit_security_of_account".to_owned();
        assert_eq!(faults(&db).await.expect("checked"), [Fault { entry: Some(2_004), what }]);
        let mut tx = db.begin().await.expect("a transaction");
        sqlx::query("REINDEX audit").execute(tx.connection()).await.expect("made anew");
        tx.commit().await.expect("committed");
        let found = faults(&db).await.expect("checked");
        assert!(found.is_empty(), "{found:?}");

        // 2001 is no log-in.
        index_otherwise(&db, "audit_security_of_account", "OR id = 2001").await;
        db.close().await;
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("a database");
        let what = "index audit_security_of_account has 601 places for 600 entries".to_owned();
        assert_eq!(faults(&db).await.expect("checked"), [Fault { entry: None, what }]);
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

    /// Entries of each view among ten times as many others, so that a query without its index is seen.
    async fn many(entries: i64) -> (tempfile::TempDir, Db) {
        let (dir, db) = log(0).await;
        let mut tx = db.begin().await.expect("a transaction");
        sqlx::query(
            "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
             INSERT INTO audit (at, account, identity, action, resource, decision, result, detail)
             SELECT n / 2, CASE n % 50 WHEN 1 THEN 'mine' ELSE 'other' || (n % 7) END, 'operator',
                    CASE n % 5 WHEN 0 THEN 's3:PutObject' WHEN 1 THEN 'publicCloudProject:apiovh:get'
                        WHEN 2 THEN 'job.running' WHEN 3 THEN 'iam.authorization.checked' ELSE 'account.user.loggedIn' END,
                    CASE n % 5 WHEN 1 THEN 'urn:' || (n % 11) WHEN 3 THEN 'urn:' || (n % 11)
                        ELSE 'project/' || printf('%032d', n % 13) || '/job/' || n END,
                    'allowed', '200', '{}' FROM number",
        )
        .bind(entries)
        .execute(tx.connection())
        .await
        .expect("filled");
        tx.commit().await.expect("committed");
        (dir, db)
    }

    #[tokio::test]
    async fn entries_of_an_account_are_listed_page_by_page() {
        let (_dir, db) = many(3_000).await;
        let of_mine = |n: i64| n % 50 == 1;
        let mut query = Query { account: Some("mine".to_owned()), limit: 7, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let page = list(&db, &query).await.expect("a page");
            let Some(last) = page.last() else { break };
            query.before = Some(last.id);
            found.extend(page.iter().map(|row| row.id));
        }
        assert_eq!(found, (1..=3_000).rev().filter(|n| of_mine(*n)).collect::<Vec<_>>());
        let time = |at| Some(Timestamp::from_nanosecond(at).expect("a time"));
        let within = Query { before: None, limit: 1_000, from: time(500), to: time(1_000), ..query.clone() };
        let found: Vec<i64> = list(&db, &within).await.expect("rows").iter().map(|row| row.id).collect();
        assert_eq!(found, (1_000..2_000).rev().filter(|n| of_mine(*n)).collect::<Vec<_>>());
        let none = Query { action: Some("job.running".to_owned()), ..within.clone() };
        assert!(list(&db, &none).await.expect("rows").is_empty());
        let never = Query { before: Some(9_999), limit: 1, ..within };
        assert_eq!(list(&db, &never).await.expect("rows").len(), 1, "a number that no entry has");
    }

    async fn plan(db: &Db, statement: &str) -> Vec<String> {
        let statement = format!("EXPLAIN QUERY PLAN {statement}");
        let steps = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(db.readers()).await.expect("a plan");
        steps.iter().map(|row| row.get("detail")).collect()
    }

    #[tokio::test]
    async fn each_view_is_read_by_its_index_alone() {
        let (_dir, db) = log(1).await;
        let text = String::new;
        for (view, index) in [
            (View::CallsOf(text()), "audit_calls_of_account (account=? AND at>? AND at<?)"),
            (
                View::CallsOn { resource: text(), by: text() },
                "audit_asked_of_resource (<expr>=? AND account=? AND at>? AND at<?)",
            ),
            (
                View::AskedOf { resource: text(), by: text() },
                "audit_asked_of_resource (<expr>=? AND account=? AND at>? AND at<?)",
            ),
            (View::OfProject(text()), "audit_of_project (<expr>=? AND at>? AND at<?)"),
            (View::SecurityOf(text()), "audit_security_of_account (account=? AND at>? AND at<?)"),
        ] {
            let steps = plan(&db, view.statement()).await;
            let [step] = &steps[..] else { panic!("{view:?}: {steps:?}") };
            assert!(step.starts_with("SEARCH audit USING") && step.ends_with(index), "{view:?}: {step}");
        }
        for (statement, index) in [
            (CALLS_OF_ACCOUNT, "audit_calls_of_account (account=? AND at>? AND at<?)"),
            (REST_OF_ACCOUNT, "audit_rest_of_account (account=? AND at>? AND at<?)"),
        ] {
            let steps = plan(&db, statement).await;
            assert!(steps.len() == 1 && steps[0].ends_with(index), "{steps:?}");
        }
        let steps = plan(&db, ASKERS).await;
        let of_log: Vec<&String> = steps.iter().filter(|step| step.contains(" audit ")).collect();
        assert_eq!(of_log.len(), 2, "{steps:?}");
        assert!(of_log.iter().all(|step| step.contains("audit_asked_of_resource (<expr>=?")), "{steps:?}");
    }

    #[tokio::test]
    async fn a_page_of_a_million_entries_has_its_own_entries_in_order() {
        let (_dir, db) = many(1_000_000).await;
        let all = async |view: &View| {
            let (mut span, mut found) = (Span::WHOLE, Vec::new());
            loop {
                let page = seen(&db, view, span, 700).await.expect("a page");
                let Some((at, id)) = page.last().copied() else { return found };
                (span.to, span.before) = (at, id);
                found.extend(page);
            }
        };
        let text = str::to_owned;
        type Holds = fn(i64) -> bool;
        let cases: [(View, Holds); 5] = [
            (View::CallsOf(text("mine")), |n| n % 50 == 1 && n % 5 == 1),
            (View::CallsOn { resource: text("urn:3"), by: text("mine") }, |n| n % 50 == 1 && n % 11 == 3),
            (View::AskedOf { resource: text("urn:3"), by: text("other2") }, |n| {
                n % 50 != 1 && n % 7 == 2 && (n % 5 == 1 || n % 5 == 3) && n % 11 == 3
            }),
            (View::OfProject(format!("{:032}", 7)), |n| (n % 5 == 2 || n % 5 == 4) && n % 13 == 7),
            (View::SecurityOf(text("other4")), |n| n % 5 == 4 && n % 7 == 4),
        ];
        for (view, holds) in cases {
            let expected: Vec<(i64, i64)> = (1..=1_000_000).rev().filter(|n| holds(*n)).map(|n| (n / 2, n)).collect();
            assert!(!expected.is_empty() && all(&view).await == expected, "{view:?}");
            let span = Span { from: 1000, to: 2000, ..Span::WHOLE };
            let within: Vec<(i64, i64)> = expected.into_iter().filter(|(at, _)| (1000..=2000).contains(at)).collect();
            assert_eq!(seen(&db, &view, span, 100_000).await.expect("a page"), within, "{view:?}");
        }
        let asked = askers(&db, "urn:3").await.expect("accounts");
        assert_eq!(asked, ["mine", "other0", "other1", "other2", "other3", "other4", "other5", "other6"]);
        let found = rows(&db, &[7, 9_999_999, 3]).await.expect("rows");
        let mut numbers: Vec<i64> = found.iter().map(|row| row.id).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [3, 7]);
    }
}
